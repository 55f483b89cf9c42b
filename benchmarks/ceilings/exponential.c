/* Rate of the kernels' own exponential on data in the first-level cache.
 *
 * Prints "exponential" and values per second, of all threads together. Compiled once a precision,
 * with RBF_DOUBLE 0 or 1 and the kernels' headers on the include path.
 */
#include "target.h"

#include "precision.h"

#include "exponential.h"

#include "timing.h"
#include <omp.h>

enum { VALUES = 8192 / sizeof(REAL), PASSES = 1024, UNROLL = 8 };

static volatile REAL sink;

/* As many as the kernels take. */
RBF_INLINE void side_by_side(const REAL *from, REAL *to, const RBF_NAME(coefficients) * c) {
    const VECTOR factor = RBF_NAME(load)(c->factor);
    VECTOR side[RBF_FORWARD_EXPONENTIALS];
    int i;
    RBF_UNROLL
    for (i = 0; i < RBF_FORWARD_EXPONENTIALS; ++i)
        side[i] = RBF_NAME(load)(from + i * LANES);
    RBF_NAME(exponentials)(side, RBF_FORWARD_EXPONENTIALS, RBF_NAME(load)(c->rate),
                           RBF_NAME(load)(c->rate_low), RBF_NAME(load)(c->limit),
                           RBF_NAME(load)(c->shift));
    RBF_UNROLL
    for (i = 0; i < RBF_FORWARD_EXPONENTIALS; ++i)
        RBF_NAME(store)(to + i * LANES, side[i] * factor);
}

static void exponentials(void *argument) {
    const RBF_NAME(coefficients) *c = (const RBF_NAME(coefficients) *)argument;
    REAL distance[VALUES] __attribute__((aligned(RBF_ALIGNMENT)));
    REAL kernel[VALUES] __attribute__((aligned(RBF_ALIGNMENT)));
    int i, u, pass;
    for (i = 0; i < VALUES; ++i)
        distance[i] = (REAL)i * 20 / VALUES;
    for (pass = 0; pass < PASSES; ++pass) {
        for (i = 0; i < VALUES; i += UNROLL * LANES) {
            RBF_UNROLL
            for (u = 0; u < UNROLL; u += RBF_FORWARD_EXPONENTIALS)
                side_by_side(distance + i + u * LANES, kernel + i + u * LANES, c);
        }
        /* Each pass must see, and be seen by, something. */
        __asm__ volatile("" : : "r"(distance), "r"(kernel) : "memory");
    }
    sink = kernel[VALUES / 2];
}

int main(void) {
    RBF_NAME(coefficients) coefficients;
    double seconds;
    int c;
    coefficients.special = 0;
    for (c = 0; c < COLUMNS; ++c)
        RBF_NAME(set_coefficients)(&coefficients, c, (REAL)0.5, 1);
    seconds = best_seconds(exponentials, &coefficients, 7, 0.2);
    printf("exponential %.6g\n", (double)VALUES * PASSES * omp_get_max_threads() / seconds);
    return 0;
}
