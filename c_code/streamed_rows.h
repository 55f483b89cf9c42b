/* Rows of an output, tile after tile, streamed past the caches though their lines are not those of
 * tiles: a line is the end of one vector and the beginning of the next, picked in registers. Only
 * the lines at both ends are written in part, and not streamed.
 *
 * Where a vector is a line, and two vectors' lanes are picked by one instruction: AVX-512. Included
 * once a precision by instantiate.h.
 */
typedef struct {
    VECTOR last[RBF_TILE_ROWS];         /* whose end is yet to be written, of each row */
    INTEGER_VECTOR from[RBF_TILE_ROWS]; /* the lanes of it and the next vector that are a line */
} RBF_NAME(streamed_rows);

/* Entries before this one in its line. */
RBF_INLINE int64_t RBF_NAME(entries_before)(const REAL *output) {
    return (int64_t)((uintptr_t)output % RBF_ALIGNMENT / sizeof(REAL));
}

/* Rows `stride` apart, from their first entries on. */
RBF_INLINE void RBF_NAME(begin_rows)(RBF_NAME(streamed_rows) * rows, const REAL *output,
                                     int64_t stride) {
    int r, l;
    for (r = 0; r < RBF_TILE_ROWS; ++r) {
        const INTEGER first = (INTEGER)(LANES - RBF_NAME(entries_before)(output + r * stride));
        for (l = 0; l < LANES; ++l)
            rows->from[r][l] = first + l;
    }
}

/* The next tile of the rows, or the first one. */
RBF_INLINE void RBF_NAME(stream_tile)(RBF_NAME(streamed_rows) * rows, REAL *output, int64_t stride,
                                      VECTOR tile[RBF_TILE_ROWS][RBF_TILE_VECTORS], int first) {
    int r, v;
    RBF_UNROLL
    for (r = 0; r < RBF_TILE_ROWS; ++r) {
        REAL *to = output + r * stride, *line = to - RBF_NAME(entries_before)(to);
        VECTOR before = rows->last[r];
        if (__builtin_expect(first, 0))
            memcpy(to, &tile[r][0], (size_t)((char *)(line + LANES) - (char *)to));
        else
            rbf_stream_vector(line,
                              (rbf_bytes)RBF_NAME(pick_lanes)(before, tile[r][0], rows->from[r]));
        before = tile[r][0];
        RBF_UNROLL
        for (v = 1; v < RBF_TILE_VECTORS; ++v) {
            rbf_stream_vector(line + v * LANES,
                              (rbf_bytes)RBF_NAME(pick_lanes)(before, tile[r][v], rows->from[r]));
            before = tile[r][v];
        }
        rows->last[r] = before;
    }
}

/* What is left of them, before the entries at `output`. */
RBF_INLINE void RBF_NAME(end_rows)(const RBF_NAME(streamed_rows) * rows, REAL *output,
                                   int64_t stride) {
    int r;
    for (r = 0; r < RBF_TILE_ROWS; ++r) {
        REAL *end = output + r * stride;
        const int64_t left = RBF_NAME(entries_before)(end);
        memcpy(end - left, (const REAL *)&rows->last[r] + (LANES - left),
               (size_t)left * sizeof(REAL));
    }
}
