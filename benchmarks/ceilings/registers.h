/* The arithmetic of the kernels on registers alone: terms added to sums, step after step.
 *
 * As many sums as hide the latency and fit the registers with what they need. Differences are of
 * numbers that may be others each time, as far as the compiler knows (RBF_KEEP): it leaves them
 * where they are, and no sum waits for one. Used behind the kernels' precision.h.
 */
#if RBF_MANY_REGISTERS
enum { ENTRIES = 24, TRIPLES = 12 };
#else
enum { ENTRIES = 12, TRIPLES = 6 };
#endif
#define UNROLL RBF_PRAGMA_(GCC unroll 32)

/* Sums first, first + 1 and so on, since what is equal would be computed once. */
RBF_INLINE void begin_sums(VECTOR *sum, int count, REAL first) {
    int i;
    UNROLL
    for (i = 0; i < count; ++i)
        sum[i] = (VECTOR){0} + (first + (REAL)i);
}

RBF_INLINE void add_products(int64_t steps, VECTOR sum[ENTRIES], VECTOR factor) {
    int64_t step;
    int i;
    for (step = 0; step < steps; ++step) {
        UNROLL
        for (i = 0; i < ENTRIES; ++i)
            sum[i] = sum[i] * factor + factor;
    }
}

/* A difference and the multiply-add of its square: one term of a distance. */
RBF_INLINE void add_pairs(int64_t steps, VECTOR sum[ENTRIES], VECTOR row, VECTOR column) {
    int64_t step;
    int i;
    for (step = 0; step < steps; ++step) {
        UNROLL
        for (i = 0; i < ENTRIES; ++i) {
            VECTOR difference;
            RBF_KEEP(row);
            difference = column - row;
            sum[i] += difference * difference;
        }
    }
}

/* A difference and two multiply-adds: one term of both points' gradients. */
RBF_INLINE void add_triples(int64_t steps, VECTOR rows[TRIPLES], VECTOR columns[TRIPLES],
                            VECTOR row, VECTOR column) {
    const VECTOR weight = column;
    int64_t step;
    int i;
    for (step = 0; step < steps; ++step) {
        UNROLL
        for (i = 0; i < TRIPLES; ++i) {
            VECTOR difference;
            RBF_KEEP(row);
            difference = column - row;
            rows[i] += weight * difference;
            columns[i] += weight * difference;
        }
    }
}
