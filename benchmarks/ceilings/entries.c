/* The arithmetic of entries of K on registers, without the memory they come from and go to.
 *
 * A library for ctypes. For each entry pairs (a term of a distance each) and the kernels'
 * own exponential; for gradients triples, and for products, of x and y too, multiply-adds, all on
 * registers (registers.h says what those are). The exponentials are those of the entries before, so
 * that the processor can have them beside the pairs as far as its units allow. Compiled once a
 * precision, with RBF_DOUBLE 0 or 1 and the kernels' headers on the include path.
 */
#include "matrix.h"

#include "precision.h"

#include "exponential.h"

#include "registers.h"

#include <omp.h>

/* Vectors of entries whose exponentials have registers. */
enum { PART = RBF_MANY_REGISTERS ? 8 : 4 };

static volatile REAL sink;

/* Entries of one thread: count / LANES vectors. */
static void thread_entries(int64_t count, int64_t pairs, int64_t triples, int64_t multiply_adds,
                           const RBF_NAME(coefficients) * c) {
    const VECTOR start = (VECTOR){0} + (REAL)0.5;
    VECTOR before[ENTRIES], after[ENTRIES], row[ENTRIES], column[ENTRIES], product[ENTRIES];
    int64_t entry;
    int i;
    begin_sums(before, ENTRIES, 0);
    begin_sums(after, ENTRIES, 0);
    begin_sums(row, ENTRIES, 0);
    begin_sums(column, ENTRIES, ENTRIES);
    begin_sums(product, ENTRIES, 0);
    for (entry = 0; entry < count; entry += ENTRIES * LANES) {
        VECTOR sum[ENTRIES];
        int first, part;
        for (i = 0; i < ENTRIES; i += PART) {
            UNROLL
            for (first = i; first < i + PART; first += RBF_STORED_EXPONENTIALS) {
                UNROLL
                for (part = first; part < first + RBF_STORED_EXPONENTIALS; ++part)
                    after[part] = before[part];
                RBF_NAME(scaled_exponentials)
                (after + first, RBF_STORED_EXPONENTIALS, c, 0, c->factor);
            }
        }
        /* They lie in memory, as far as the compiler knows; nothing is computed but once a round.
         */
        __asm__ volatile("" : "+m"(before), "+m"(after));
        begin_sums(sum, ENTRIES, 0);
        add_pairs(pairs, sum, start, start * 2);
        UNROLL
        for (i = 0; i < ENTRIES; ++i)
            before[i] = sum[i];
        for (i = 0; i < ENTRIES; i += TRIPLES)
            add_triples(triples, row + i, column + i, start, start * 2);
        add_products(multiply_adds, product, start);
    }
    for (i = 0; i < ENTRIES; ++i)
        sink = before[i][0] + after[i][0] + row[i][0] + column[i][0] + product[i][0];
}

/* The work of `count` entries, shared out to all threads. */
void entries(int64_t count, int64_t pairs, int64_t triples, int64_t multiply_adds) {
    RBF_NAME(coefficients) coefficients;
    int c;
    coefficients.special = 0;
    for (c = 0; c < COLUMNS; ++c)
        RBF_NAME(set_coefficients)(&coefficients, c, (REAL)0.5, 1);
#pragma omp parallel
    thread_entries(count / omp_get_num_threads(), pairs, triples, multiply_adds, &coefficients);
}
