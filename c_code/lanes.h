/* Entries moved between the lanes of vectors: transpositions and sums over lanes, by one network of
 * shuffles. Included once a precision by instantiate.h.
 */
/* Lanes of a and b, those of b counted on from LANES. `from` is constant where this is inlined. */
RBF_INLINE VECTOR RBF_NAME(pick_lanes)(VECTOR a, VECTOR b, INTEGER_VECTOR from) {
#if defined(__GNUC__) && !defined(__clang__)
    return __builtin_shuffle(a, b, from);
#else
    VECTOR picked = {0};
    int k;
    RBF_UNROLL
    for (k = 0; k < LANES; ++k)
        picked[k] = from[k] < LANES ? a[from[k]] : b[from[k] - LANES];
    return picked;
#endif
}

/* What one instruction can do with two vectors on any target. Within every 16 bytes: the lanes of
 * the first halves of a and b by turns, or of the second ones. */
RBF_INLINE VECTOR RBF_NAME(interleave)(VECTOR a, VECTOR b, const int second) {
    const int width = 16 / (int)sizeof(REAL);
    INTEGER_VECTOR from = {0};
    int k;
    RBF_UNROLL
    for (k = 0; k < LANES; ++k)
        from[k] = k - k % width + (second ? width / 2 : 0) + k % width / 2 + (k & 1 ? LANES : 0);
    return RBF_NAME(pick_lanes)(a, b, from);
}

/* Blocks of 16 bytes: the even ones of a, then of b, or the odd ones. */
RBF_INLINE VECTOR RBF_NAME(deal)(VECTOR a, VECTOR b, const int second) {
    const int width = 16 / (int)sizeof(REAL);
    INTEGER_VECTOR from = {0};
    int k;
    RBF_UNROLL
    for (k = 0; k < LANES; ++k)
        from[k] = (2 * (k / width) + (second ? 1 : 0)) * width + k % width;
    return RBF_NAME(pick_lanes)(a, b, from);
}

/* Stages of a transposition, in their order: vectors so far apart are taken together, within 16
 * bytes first. 0 past the last one. */
RBF_INLINE int RBF_NAME(stage_distance)(const int stage) {
    const int width = 16 / (int)sizeof(REAL), within = width / 4 + 1;
    const int distance = stage < within ? width >> (stage + 1) : width << (stage - within);
    return distance < LANES ? distance : 0;
}

RBF_INLINE VECTOR RBF_NAME(stage_lanes)(VECTOR a, VECTOR b, const int distance, const int second) {
    return distance * (int)sizeof(REAL) < 16 ? RBF_NAME(interleave)(a, b, second)
                                             : RBF_NAME(deal)(a, b, second);
}

/* Transposes a square of LANES vectors in registers. */
RBF_INLINE void RBF_NAME(transpose)(VECTOR square[LANES]) {
    int stage, i;
    RBF_UNROLL
    for (stage = 0; stage < 4; ++stage) {
        const int distance = RBF_NAME(stage_distance)(stage);
        RBF_UNROLL
        for (i = 0; i < LANES; ++i) {
            if (distance && !(i & distance)) {
                const VECTOR a = square[i], b = square[i + distance];
                square[i] = RBF_NAME(stage_lanes)(a, b, distance, 0);
                square[i + distance] = RBF_NAME(stage_lanes)(a, b, distance, 1);
            }
        }
    }
}

/* Lane i of the result is the sum of the lanes of square[i], always in the same order: as in
 * transpose, where what would become two vectors is added to one. */
RBF_INLINE VECTOR RBF_NAME(sum_lanes)(const VECTOR *square) {
    VECTOR sums[RBF_NAME(LANES)];
    int stage, i, done = 0;
    RBF_UNROLL
    for (i = 0; i < LANES; ++i)
        sums[i] = square[i];
    RBF_UNROLL
    for (stage = 0; stage < 4; ++stage) {
        const int distance = RBF_NAME(stage_distance)(stage);
        RBF_UNROLL
        for (i = 0; i < LANES; ++i) {
            if (distance && !(i & (distance | done))) {
                const VECTOR a = sums[i], b = sums[i + distance];
                sums[i] = RBF_NAME(stage_lanes)(a, b, distance, 0) +
                          RBF_NAME(stage_lanes)(a, b, distance, 1);
            }
        }
        done |= distance;
    }
    return sums[0];
}
