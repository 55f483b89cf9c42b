/* Peak of vector multiply-adds on registers: what arithmetic can reach at best.
 *
 * Prints "fma" and lanes per second, of all threads together. Compiled once a precision, with
 * RBF_DOUBLE 0 or 1 and the kernels' headers on the include path.
 */
#include "target.h"

#include "precision.h"

#include "timing.h"
#include <omp.h>

/* Independent sums: as many as hide the latency, and fit 16 registers with two operands. */
enum { SUMS = 12, STEPS = 1 << 20 };

static volatile REAL sink;

static void multiply_add(void *argument) {
    const REAL start = *(const REAL *)argument;
    VECTOR sum[SUMS], factor = (VECTOR){0} + start, term = factor;
    long step;
    int i;
    for (i = 0; i < SUMS; ++i)
        sum[i] = (VECTOR){0} + (REAL)i;
    for (step = 0; step < STEPS; ++step) {
        RBF_UNROLL
        for (i = 0; i < SUMS; ++i)
            sum[i] = sum[i] * factor + term;
    }
    for (i = 1; i < SUMS; ++i)
        sum[0] += sum[i];
    sink = sum[0][0];
}

int main(void) {
    REAL start = (REAL)0.5;
    const double seconds = best_seconds(multiply_add, &start, 7, 0.2);
    printf("fma %.6g\n", (double)SUMS * STEPS * LANES * omp_get_max_threads() / seconds);
    return 0;
}
