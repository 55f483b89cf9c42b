/* Rates of the vector arithmetic on registers: what the kernels can reach at best.
 *
 * Prints, in lanes per second of all threads together: "multiply_adds" (s += a * b), "pairs" (a
 * difference and the multiply-add of its square: one term of a distance) and "triples" (a
 * difference and two multiply-adds: one term of both points' gradients). Their own rates, since how
 * many go together depends on the processor: differences and multiply-adds share execution units on
 * some and have their own on others. Compiled once a precision, with RBF_DOUBLE 0 or 1 and the
 * kernels' headers on the include path.
 */
#include "target.h"

#include "precision.h"

#include "timing.h"
#include <omp.h>

/* Independent sums: as many as hide the latency, and fit the registers with what they need. */
#if defined(__AVX512F__) || defined(__aarch64__)
enum { SUMS = 12, PAIRS = 24, TRIPLES = 12 };
#else
enum { SUMS = 12, PAIRS = 12, TRIPLES = 6 };
#endif
enum { STEPS = 1 << 16 }; /* half a millisecond: short enough to be undisturbed now and then */
#define UNROLL RBF_PRAGMA_(GCC unroll 32)

static volatile REAL sink;

static void keep(const VECTOR *sum, int count) {
    VECTOR total = sum[0];
    int i;
    for (i = 1; i < count; ++i)
        total += sum[i];
    sink = total[0];
}

static void multiply_adds(void *argument) {
    const VECTOR factor = (VECTOR){0} + *(const REAL *)argument, term = factor;
    VECTOR sum[SUMS];
    long step;
    int i;
    for (i = 0; i < SUMS; ++i)
        sum[i] = (VECTOR){0} + (REAL)i;
    for (step = 0; step < STEPS; ++step) {
        UNROLL
        for (i = 0; i < SUMS; ++i)
            sum[i] = sum[i] * factor + term;
    }
    keep(sum, SUMS);
}

/* Each difference is one with the sum itself: the compiler cannot take it out of the loop. */
static void pairs(void *argument) {
    const VECTOR start = (VECTOR){0} + *(const REAL *)argument;
    VECTOR sum[PAIRS];
    long step;
    int i;
    for (i = 0; i < PAIRS; ++i)
        sum[i] = (VECTOR){0} + (REAL)(0.01 * i);
    for (step = 0; step < STEPS; ++step) {
        UNROLL
        for (i = 0; i < PAIRS; ++i) {
            const VECTOR difference = start - sum[i];
            sum[i] += difference * difference;
        }
    }
    keep(sum, PAIRS);
}

static void triples(void *argument) {
    const VECTOR start = (VECTOR){0} + *(const REAL *)argument, weight = start;
    VECTOR row[TRIPLES], column[TRIPLES];
    long step;
    int i;
    for (i = 0; i < TRIPLES; ++i)
        row[i] = column[i] = (VECTOR){0} + (REAL)i;
    for (step = 0; step < STEPS; ++step) {
        UNROLL
        for (i = 0; i < TRIPLES; ++i) {
            const VECTOR difference = start - row[i];
            row[i] += weight * difference;
            column[i] += weight * difference;
        }
    }
    keep(row, TRIPLES);
    keep(column, TRIPLES);
}

static void report(const char *name, void (*work)(void *), int sums) {
    REAL start = (REAL)0.5;
    const double seconds = best_seconds(work, &start, 7, 0.2);
    printf("%s %.6g\n", name, (double)sums * STEPS * LANES * omp_get_max_threads() / seconds);
}

int main(void) {
    report("multiply_adds", multiply_adds, SUMS);
    report("pairs", pairs, PAIRS);
    report("triples", triples, TRIPLES);
    return 0;
}
