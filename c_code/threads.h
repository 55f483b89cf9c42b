/* How many threads a call uses, and running them where OpenMP alone would hang.
 *
 * libgomp's worker threads do not survive fork(): a child that enters a parallel region of a
 * thread that had workers in the parent waits for them forever. Workers belong to the thread that
 * started them, so in a forked child every region is run from a thread of its own, which gets new
 * ones. Plain C, no Python.
 */
#ifndef RBF_THREADS_H
#define RBF_THREADS_H

#include "ieee.h"
#include "matrix.h"

#ifdef _OPENMP
#include "crowding.h"
#include <pthread.h>
#endif

/* Below this many vector instructions (some tens of microseconds) waking a thread does not pay. */
#define RBF_VECTOR_OPERATIONS_PER_THREAD 1e5

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

typedef struct {
    void (*body)(void *);
    void *job;
    int threads;
    int watched;
    int64_t began, delay; /* see rbf_note_call */
} rbf_region;

RBF_FUNCTION void rbf_run_body(const rbf_region *region) {
    RBF_AS_IEEE;
    region->body(region->job);
}

#ifdef _OPENMP
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
