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

static void exponentials(void *argument) {
    const RBF_NAME(coefficients) *c = (const RBF_NAME(coefficients) *)argument;
    const VECTOR rate = RBF_NAME(load)(c->rate), rate_low = RBF_NAME(load)(c->rate_low);
    const VECTOR limit = RBF_NAME(load)(c->limit), shift = RBF_NAME(load)(c->shift);
    const VECTOR factor = RBF_NAME(load)(c->factor);
    REAL distance[VALUES] __attribute__((aligned(RBF_ALIGNMENT)));
    REAL kernel[VALUES] __attribute__((aligned(RBF_ALIGNMENT)));
    int i, u, pass;
    for (i = 0; i < VALUES; ++i)
        distance[i] = (REAL)i * 20 / VALUES;
    for (pass = 0; pass < PASSES; ++pass) {
        for (i = 0; i < VALUES; i += UNROLL * LANES) {
            RBF_UNROLL
            for (u = 0; u < UNROLL; ++u)
                RBF_NAME(store)
            (kernel + i + u * LANES, RBF_NAME(exponential)(RBF_NAME(load)(distance + i + u * LANES),
                                                           rate, rate_low, limit, shift) *
                                         factor);
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
