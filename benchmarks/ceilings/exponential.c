/* Rate of the kernels' own exponential on data in the first-level cache.
 *
 * Prints "exponential" and values per second, of all threads together. Compiled once a precision,
 * with RBF_DOUBLE 0 or 1 and the kernels' headers on the include path.
 */
#include "matrix.h"

#include "precision.h"

#include "exponential.h"

#include "timing.h"
#include <omp.h>

enum { VALUES = 8192 / sizeof(REAL), PASSES = 1024, UNROLL = 8 };

static volatile REAL sink;

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
            for (u = i; u < i + UNROLL * LANES; u += RBF_STORED_EXPONENTIALS * LANES) {
                VECTOR side[RBF_STORED_EXPONENTIALS];
                int k;
                RBF_UNROLL
                for (k = 0; k < RBF_STORED_EXPONENTIALS; ++k)
                    side[k] = RBF_NAME(load)(distance + u + k * LANES);
                RBF_NAME(scaled_exponentials)(side, RBF_STORED_EXPONENTIALS, c, 0, c->factor);
                RBF_UNROLL
                for (k = 0; k < RBF_STORED_EXPONENTIALS; ++k)
                    RBF_NAME(store)(kernel + u + k * LANES, side[k]);
            }
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
