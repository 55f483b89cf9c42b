/* The arithmetic of entries of K on registers, without the memory they come from and go to.
 *
 * A library for ctypes. For each entry `depth` pairs (a term of a distance each) and the kernels'
 * own exponential; for gradients as many triples, and for products multiply-adds, all on registers
 * (arithmetic.c says what those are). The exponentials are those of the entries before, so that
 * the processor can have them beside the pairs as far as its units allow. Compiled once a
 * precision, with RBF_DOUBLE 0 or 1 and the kernels' headers on the include path.
 */
#include "target.h"

#include "precision.h"

#include "exponential.h"

#include <omp.h>

/* Vectors of entries at a time; of those whose exponentials, or both sums of triples, have
 * registers. */
#if defined(__AVX512F__) || defined(__aarch64__)
enum { ENTRIES = 24, PART = 8, TRIPLES = 12 };
#else
enum { ENTRIES = 12, PART = 4, TRIPLES = 6 };
#endif
#define UNROLL RBF_PRAGMA_(GCC unroll 32)

static volatile REAL sink;

static void multiply_add(int64_t steps, VECTOR sum[ENTRIES], VECTOR factor) {
    int64_t step;
    int i;
    for (step = 0; step < steps; ++step) {
        UNROLL
        for (i = 0; i < ENTRIES; ++i)
            sum[i] = sum[i] * factor + factor;
    }
}

static void add_triples(int64_t steps, VECTOR row[TRIPLES], VECTOR column[TRIPLES], VECTOR start) {
    int64_t step;
    int i;
    for (step = 0; step < steps; ++step) {
        UNROLL
        for (i = 0; i < TRIPLES; ++i) {
            const VECTOR difference = start - row[i];
            row[i] += start * difference;
            column[i] += start * difference;
        }
    }
}

/* Entries of one thread: count / LANES vectors. */
static void thread_entries(int64_t count, int64_t depth, int64_t triples, int64_t multiply_adds,
                           const RBF_NAME(coefficients) * c) {
    const VECTOR rate = RBF_NAME(load)(c->rate), rate_low = RBF_NAME(load)(c->rate_low);
    const VECTOR limit = RBF_NAME(load)(c->limit), shift = RBF_NAME(load)(c->shift);
    const VECTOR factor = RBF_NAME(load)(c->factor);
    const VECTOR start = (VECTOR){0} + (REAL)0.5;
    VECTOR before[ENTRIES], after[ENTRIES], row[ENTRIES], column[ENTRIES], product[ENTRIES];
    int64_t entry;
    int i;
    for (i = 0; i < ENTRIES; ++i)
        before[i] = after[i] = row[i] = column[i] = product[i] = (VECTOR){0} + (REAL)(0.01 * i);
    for (entry = 0; entry < count; entry += ENTRIES * LANES) {
        VECTOR sum[ENTRIES];
        int64_t k;
        int part;
        for (i = 0; i < ENTRIES; i += PART) {
            UNROLL
            for (part = i; part < i + PART; ++part)
                after[part] =
                    RBF_NAME(exponential)(before[part], rate, rate_low, limit, shift) * factor;
        }
        /* They lie in memory, as far as the compiler knows; nothing is computed but once a round.
         */
        __asm__ volatile("" : "+m"(before), "+m"(after));
        UNROLL
        for (i = 0; i < ENTRIES; ++i)
            sum[i] = before[i];
        for (k = 0; k < depth; ++k) {
            UNROLL
            for (i = 0; i < ENTRIES; ++i) {
                const VECTOR difference = start - sum[i];
                sum[i] += difference * difference;
            }
        }
        UNROLL
        for (i = 0; i < ENTRIES; ++i)
            before[i] = sum[i];
        for (i = 0; i < ENTRIES; i += TRIPLES)
            add_triples(triples, row + i, column + i, start);
        multiply_add(multiply_adds, product, start);
    }
    for (i = 0; i < ENTRIES; ++i)
        sink = before[i][0] + after[i][0] + row[i][0] + column[i][0] + product[i][0];
}

/* The work of `count` entries, shared out to all threads. */
void entries(int64_t count, int64_t depth, int64_t triples, int64_t multiply_adds) {
    RBF_NAME(coefficients) coefficients;
    int c;
    coefficients.special = 0;
    for (c = 0; c < COLUMNS; ++c)
        RBF_NAME(set_coefficients)(&coefficients, c, (REAL)0.5, 1);
#pragma omp parallel
    thread_entries(count / omp_get_num_threads(), depth, triples, multiply_adds, &coefficients);
}
