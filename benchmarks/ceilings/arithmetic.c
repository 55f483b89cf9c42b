/* Rates of the vector arithmetic on registers: what the kernels can reach at best.
 *
 * Prints, in lanes per second of all threads together: "multiply_adds", "pairs" and "triples" as
 * registers.h has them. Their own rates, since how many go together depends on the processor:
 * differences and multiply-adds share execution units on some and have their own on others.
 * Compiled once a precision, with RBF_DOUBLE 0 or 1 and the kernels' headers on the include path.
 */
#include "matrix.h"

#include "precision.h"

#include "registers.h"

#include "timing.h"
#include <omp.h>

enum { STEPS = 1 << 16 }; /* half a millisecond: short enough to be undisturbed now and then */

static volatile REAL sink;

static void keep(const VECTOR *sum, int count) {
    VECTOR total = sum[0];
    int i;
    for (i = 1; i < count; ++i)
        total += sum[i];
    sink = total[0];
}

static void multiply_adds(void *argument) {
    VECTOR sum[ENTRIES];
    begin_sums(sum, ENTRIES, 0);
    add_products(STEPS, sum, (VECTOR){0} + *(const REAL *)argument);
    keep(sum, ENTRIES);
}

static void pairs(void *argument) {
    const VECTOR row = (VECTOR){0} + *(const REAL *)argument;
    VECTOR sum[ENTRIES];
    begin_sums(sum, ENTRIES, 0);
    add_pairs(STEPS, sum, row, row * 2);
    keep(sum, ENTRIES);
}

static void triples(void *argument) {
    const VECTOR row = (VECTOR){0} + *(const REAL *)argument;
    VECTOR rows[TRIPLES], columns[TRIPLES];
    begin_sums(rows, TRIPLES, 0);
    begin_sums(columns, TRIPLES, TRIPLES);
    add_triples(STEPS, rows, columns, row, row * 2);
    keep(rows, TRIPLES);
    keep(columns, TRIPLES);
}

static void report(const char *name, void (*work)(void *), int sums) {
    REAL start = (REAL)0.5;
    const double seconds = best_seconds(work, &start, 7, 0.2);
    printf("%s %.6g\n", name, (double)sums * STEPS * LANES * omp_get_max_threads() / seconds);
}

int main(void) {
    report("multiply_adds", multiply_adds, ENTRIES);
    report("pairs", pairs, ENTRIES);
    report("triples", triples, TRIPLES);
    return 0;
}
