/* Whether short calls do without threads for a while, since other programs keep threads from their
 * cores: the account that threads.h keeps of its calls. With OpenMP only. Plain C, no Python.
 */
#ifndef RBF_CROWDING_H
#define RBF_CROWDING_H

#include "matrix.h"

#include <sys/resource.h>
#include <time.h>

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

/* How often the calling thread went to sleep by itself; -1: the system does not tell. */
RBF_INLINE int64_t rbf_sleeps(void) {
#ifdef RUSAGE_THREAD
    struct rusage usage;
    if (getrusage(RUSAGE_THREAD, &usage) == 0)
        return usage.ru_nvcsw;
#endif
    return -1;
}

#endif
