/* Best time of a piece of work on all threads: for the programs in this folder.
 *
 * Plain C and OpenMP; vector types and the exponential come from the kernels' own headers.
 */
#ifndef TIMING_H
#define TIMING_H

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Least seconds of work(argument) by every thread at once: so many runs, and more until `duration`
 * seconds have gone by. */
static double best_seconds(void (*work)(void *), void *argument, int runs, double duration) {
    const double end = seconds_now() + duration;
    double best = 1e30;
    int i;
    for (i = 0; i < runs || seconds_now() < end; ++i) {
        double start = 0, elapsed;
#pragma omp parallel
        {
#pragma omp barrier
#pragma omp master
            start = seconds_now();
#pragma omp barrier
            work(argument);
        }
        elapsed = seconds_now() - start;
        if (elapsed < best)
            best = elapsed;
    }
    return best;
}

#endif
