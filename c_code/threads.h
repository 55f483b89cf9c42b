/* How many threads a call uses, running them where OpenMP alone would hang, and tasks that stay
 * with a thread from call to call.
 *
 * libgomp's worker threads do not survive fork(): a child that enters a parallel region of a
 * thread that had workers in the parent waits for them forever. Workers belong to the thread that
 * started them, so in a forked child every region is run from a thread of its own, which gets new
 * ones. Plain C, no Python.
 */
#ifndef RBF_THREADS_H
#define RBF_THREADS_H

#include "target.h"

#ifdef _OPENMP
#include <pthread.h>
#include <sys/resource.h>
#include <time.h>
#endif

/* Below this many vector instructions (some tens of microseconds) waking a thread does not pay. */
#define RBF_VECTOR_OPERATIONS_PER_THREAD 1e5

/* Where other programs fill the cores, a thread that is waited for may be kept from its core for
 * some milliseconds, a turn of the system's scheduler, and a call that takes less is done sooner by
 * one thread. So when one such call waits for longer than threads have gained in others since the
 * last time, they are made by one thread, until they have lost as much by it; and twice as much
 * each time that threads are tried again in vain, up to RBF_PATIENCE times. Calls are watched for
 * it, which takes some system calls, where one of the RBF_WATCHED before took as long as RBF_LATE.
 * What is computed does not depend on the threads. */
#define RBF_LATE 500000 /* nanoseconds */
#define RBF_WATCHED 1000
#define RBF_PATIENCE 16
#define RBF_NANOSECONDS_PER_VECTOR_OPERATION 0.1 /* about */

#ifdef _OPENMP
static int rbf_forked_child = 0;

RBF_FUNCTION void rbf_after_fork(void) { rbf_forked_child = 1; }

__attribute__((constructor, unused)) static void rbf_watch_forks(void) {
    pthread_atfork(NULL, NULL, rbf_after_fork);
}
#endif

/* Called once when the module is loaded: a module loaded in a forked child saw no fork itself. */
RBF_FUNCTION void rbf_threads_loaded(int in_forked_child) {
#ifdef _OPENMP
    if (in_forked_child)
        rbf_forked_child = 1;
#else
    (void)in_forked_child;
#endif
}

#ifdef _OPENMP
/* Of all calls, some of which may run at once; times in nanoseconds. */
static struct {
    int64_t watched;    /* calls that are still watched */
    int64_t last_delay; /* for how long a thread was kept the last time */
    int64_t to_lose;    /* what calls may still lose by doing without threads */
    int64_t patience;   /* how many times as much as by waiting, the next time */
    int64_t gained;     /* since then, by threads, in calls that would not have taken as long */
} rbf_crowding = {0, 0, 0, 1, 0};

#define RBF_LOAD(place) __atomic_load_n(&(place), __ATOMIC_RELAXED)
#define RBF_STORE(place, value) __atomic_store_n(&(place), value, __ATOMIC_RELAXED)
#define RBF_ADD(place, value) __atomic_fetch_add(&(place), value, __ATOMIC_RELAXED)

RBF_INLINE int64_t rbf_nanoseconds(clockid_t clock) {
    struct timespec time;
    return clock_gettime(clock, &time) ? 0 : (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

/* A call with several threads took so long, and one of them was kept from it for so long of that;
 * 0 where it was not watched. */
RBF_FUNCTION void rbf_note_call(int64_t took, int threads, int64_t delay) {
    const int64_t patience = RBF_LOAD(rbf_crowding.patience);
    int64_t gained;
    if (took >= RBF_LATE)
        RBF_STORE(rbf_crowding.watched, RBF_WATCHED);
    else if (RBF_LOAD(rbf_crowding.watched) > 0)
        RBF_ADD(rbf_crowding.watched, -1);
    if (delay < RBF_LATE && took * threads < RBF_LOAD(rbf_crowding.last_delay))
        RBF_ADD(rbf_crowding.gained, took * (threads - 1));
    if (delay < RBF_LATE || delay < took / 4)
        return;
    gained = RBF_LOAD(rbf_crowding.gained);
    RBF_STORE(rbf_crowding.gained, 0);
    RBF_STORE(rbf_crowding.last_delay, delay);
    RBF_STORE(rbf_crowding.to_lose, gained < delay ? patience * delay : 0);
    RBF_STORE(rbf_crowding.patience, gained < delay ? rbf_minimum(RBF_PATIENCE, 2 * patience) : 1);
}
#endif

RBF_FUNCTION int rbf_thread_count(double vector_operations) {
#ifdef _OPENMP
    const double useful = vector_operations / RBF_VECTOR_OPERATIONS_PER_THREAD;
    int most;
    if (useful < 2)
        return 1;
    if (RBF_LOAD(rbf_crowding.to_lose) > 0 &&
        RBF_NANOSECONDS_PER_VECTOR_OPERATION * vector_operations <
            (double)RBF_LOAD(rbf_crowding.last_delay))
        return 1;
    most = omp_get_max_threads();
    return useful < most ? (int)useful : most;
#else
    (void)vector_operations;
    return 1;
#endif
}

RBF_INLINE int rbf_thread_number(void) {
#ifdef _OPENMP
    return omp_get_thread_num();
#else
    return 0;
#endif
}

/* The tasks that a thread begins with, [next, end) of all; on lines of its own. */
typedef struct {
    int64_t next, end;
    char apart[2 * RBF_ALIGNMENT - 2 * sizeof(int64_t)];
} rbf_share;

/* [threads] */
typedef struct {
    rbf_share *of_thread;
    int threads;
} rbf_shares;

/* Tasks [0, count) in equal shares. */
RBF_FUNCTION void rbf_share_out(rbf_shares shares, int64_t count) {
    int thread;
    for (thread = 0; thread < shares.threads; ++thread) {
        shares.of_thread[thread].next = count * thread / shares.threads;
        shares.of_thread[thread].end = count * (thread + 1) / shares.threads;
    }
}

/* The next task of the calling thread's share; when that is done, of another's; -1: none is left.
 * Unlike with schedule(dynamic) a thread gets, but for the last ones, the same tasks in each call:
 * where cores do not share a cache, what they write stays with the core that wrote it before. */
RBF_FUNCTION int64_t rbf_next_task(rbf_shares shares) {
    const int own = rbf_thread_number();
    int i;
    for (i = 0; i < shares.threads; ++i) {
        rbf_share *share = shares.of_thread + (own + i) % shares.threads;
        if (__atomic_load_n(&share->next, __ATOMIC_RELAXED) < share->end) {
            const int64_t task = __atomic_fetch_add(&share->next, 1, __ATOMIC_RELAXED);
            if (task < share->end)
                return task;
        }
    }
    return -1;
}

typedef struct {
    void (*body)(void *);
    void *job;
    int threads;
    int watched;
    int64_t began, delay; /* see rbf_note_call */
} rbf_region;

/* RBF_AS_IEEE: to the end of the block the thread rounds to nearest and keeps denormal numbers,
 * whatever mode it was in. Loading a library linked with -ffast-math changes that of one thread,
 * and results would depend on which. */
#if defined(__SSE2__)
typedef unsigned rbf_mode;
RBF_INLINE rbf_mode rbf_current_mode(void) { return __builtin_ia32_stmxcsr(); }
RBF_INLINE void rbf_set_mode(const rbf_mode *mode) { __builtin_ia32_ldmxcsr(*mode); }
enum { RBF_IEEE_MODE = 0x1f80 };
#elif defined(__aarch64__)
typedef uint64_t rbf_mode;
RBF_INLINE rbf_mode rbf_current_mode(void) {
    rbf_mode mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    return mode;
}
RBF_INLINE void rbf_set_mode(const rbf_mode *mode) {
    __asm__ volatile("msr fpcr, %0" : : "r"(*mode) : "memory");
}
enum { RBF_IEEE_MODE = 0 };
#else
typedef int rbf_mode;
RBF_INLINE rbf_mode rbf_current_mode(void) { return 0; }
RBF_INLINE void rbf_set_mode(const rbf_mode *mode) { (void)mode; }
enum { RBF_IEEE_MODE = 0 };
#endif
RBF_INLINE rbf_mode rbf_leave_mode(void) {
    const rbf_mode before = rbf_current_mode(), ieee = RBF_IEEE_MODE;
    rbf_set_mode(&ieee);
    return before;
}
#define RBF_AS_IEEE                                                                                \
    const rbf_mode rbf_mode_before __attribute__((cleanup(rbf_set_mode), unused)) = rbf_leave_mode()

RBF_FUNCTION void rbf_run_body(const rbf_region *region) {
    RBF_AS_IEEE;
    region->body(region->job);
}

#ifdef _OPENMP
/* How often the calling thread went to sleep by itself; -1: the system does not tell. */
RBF_INLINE int64_t rbf_sleeps(void) {
#ifdef RUSAGE_THREAD
    struct rusage usage;
    if (getrusage(RUSAGE_THREAD, &usage) == 0)
        return usage.ru_nvcsw;
#endif
    return -1;
}

/* rbf_run_body, and how long the thread was kept from it: until it began and, unless it slept to
 * wait for others, while it was not on a core. */
RBF_FUNCTION void rbf_run_watched(rbf_region *region) {
    const int64_t sleeps = rbf_sleeps(), on_core = rbf_nanoseconds(CLOCK_THREAD_CPUTIME_ID);
    int64_t delay = rbf_nanoseconds(CLOCK_MONOTONIC) - region->began, took, most;
    rbf_run_body(region);
    took = rbf_nanoseconds(CLOCK_MONOTONIC) - region->began;
    if (took < RBF_LATE)
        return;
    if (sleeps >= 0 && rbf_sleeps() == sleeps)
        delay = took - (rbf_nanoseconds(CLOCK_THREAD_CPUTIME_ID) - on_core);
    most = RBF_LOAD(region->delay);
    while (delay > most && !__atomic_compare_exchange_n(&region->delay, &most, delay, 1,
                                                        __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        ;
}
#endif

RBF_FUNCTION void *rbf_enter_region(void *argument) {
    rbf_region *region = (rbf_region *)argument;
#ifdef _OPENMP
    const int alone = region->threads == 1 && !omp_get_level();
#else
    const int alone = 1;
#endif
    /* Within a region of the caller's, the loops in body would be shared out among its threads. */
    if (alone) {
        rbf_run_body(region);
        return NULL;
    }
#ifdef _OPENMP
    region->watched = RBF_LOAD(rbf_crowding.watched) > 0;
    region->began = rbf_nanoseconds(CLOCK_MONOTONIC);
    region->delay = 0;
    RBF_OMP(parallel num_threads(region->threads)) {
        if (region->watched)
            rbf_run_watched(region);
        else
            rbf_run_body(region);
    }
    rbf_note_call(rbf_nanoseconds(CLOCK_MONOTONIC) - region->began, region->threads, region->delay);
#endif
    return NULL;
}

/* Runs body(job) on that many threads; `omp for` inside body shares its loops among them. */
RBF_FUNCTION void rbf_run(void (*body)(void *), void *job, int threads) {
    rbf_region region;
    region.body = body;
    region.job = job;
    region.threads = threads;
#ifdef _OPENMP
    if (threads == 1 && RBF_LOAD(rbf_crowding.to_lose) > 0) {
        const int64_t began = rbf_nanoseconds(CLOCK_MONOTONIC);
        rbf_enter_region(&region); /* many threads would have taken next to nothing */
        RBF_ADD(rbf_crowding.to_lose, began - rbf_nanoseconds(CLOCK_MONOTONIC));
        return;
    }
    if (rbf_forked_child && threads > 1) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, rbf_enter_region, &region) == 0) {
            pthread_join(thread, NULL);
            return;
        }
        region.threads = 1; /* no thread to be had: do the work on this one */
    }
#endif
    rbf_enter_region(&region);
}

#endif
