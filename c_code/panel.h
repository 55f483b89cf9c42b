/* Packing: rows of x and y, whatever their strides, into the order the register tile reads.
 *
 * A panel holds COLUMNS rows of y (columns of K) as [depth][COLUMNS], a row panel RBF_TILE_ROWS
 * rows of x as [depth][RBF_TILE_ROWS]. The last one is filled up with copies of the last row, so
 * that the tile needs no edge cases and no padding can make a NaN of its own. Included once a
 * precision by instantiate.h.
 */

/* Rows [first, first + width) of the matrix to packed[depth][width], a few columns at a time, so
 * that what is written stays in the first-level cache until its lines are full. */
RBF_INLINE void RBF_NAME(pack_rows)(REAL *RBF_RESTRICT packed, rbf_matrix from, int64_t first,
                                    int width) {
    const int64_t depth = from.columns, strip = 16;
    int64_t k0, k;
    int r;
    for (k0 = 0; k0 < depth; k0 += strip) {
        const int64_t end = rbf_minimum(depth, k0 + strip);
        for (r = 0; r < width; ++r) {
            const int64_t row = rbf_minimum(first + r, from.rows - 1);
            const char *source = from.data + row * from.row_stride;
            REAL *target = packed + r;
            if (from.column_stride == (int64_t)sizeof(REAL)) {
                const REAL *values = (const REAL *)source;
                for (k = k0; k < end; ++k)
                    target[k * width] = values[k];
            } else {
                for (k = k0; k < end; ++k)
                    target[k * width] = *(const REAL *)(source + k * from.column_stride);
            }
        }
    }
}

/* The coefficients of columns [first, first + COLUMNS). Those behind `columns` make exp give 1, or
 * NaN where D is, so that times a weight of 0 they add nothing. No amplitude (data NULL) means 1.
 */
RBF_FUNCTION void RBF_NAME(pack_coefficients)(RBF_NAME(coefficients) * to, rbf_vector gamma,
                                              rbf_vector amplitude, int64_t first,
                                              int64_t columns) {
    int c;
    to->special = 0;
    for (c = 0; c < COLUMNS; ++c) {
        if (first + c < columns) {
            RBF_NAME(set_coefficients)
            (to, c, RBF_NAME(entry)(gamma, first + c),
             amplitude.data ? RBF_NAME(entry)(amplitude, first + c) : 1);
        } else {
            RBF_NAME(set_coefficients)(to, c, 0, 1);
            to->limit[c] = 0;
        }
    }
}

/* Squared distances of a row panel and a column panel over a range of columns of x and y. */
RBF_INLINE void RBF_NAME(distance_sum)(int64_t depth, const REAL *RBF_RESTRICT rows,
                                       const REAL *RBF_RESTRICT columns,
                                       VECTOR tile[RBF_TILE_ROWS][RBF_TILE_VECTORS]) {
    const REAL *row[RBF_TILE_VECTORS];
    int64_t k;
    int r, v;
    RBF_UNROLL
    for (v = 0; v < RBF_TILE_VECTORS; ++v) {
        row[v] = rows;
        RBF_OWN_BROADCAST(row[v]);
    }
    RBF_UNROLL
    for (r = 0; r < RBF_TILE_ROWS; ++r) {
        RBF_UNROLL
        for (v = 0; v < RBF_TILE_VECTORS; ++v)
            tile[r][v] = (VECTOR){0};
    }
    for (k = 0; k < depth; ++k) {
        VECTOR column[RBF_TILE_VECTORS];
        RBF_UNROLL
        for (v = 0; v < RBF_TILE_VECTORS; ++v)
            column[v] = RBF_NAME(load)(columns + k * COLUMNS + v * LANES);
        RBF_UNROLL
        for (r = 0; r < RBF_TILE_ROWS; ++r) {
            RBF_UNROLL
            for (v = 0; v < RBF_TILE_VECTORS; ++v) {
                const VECTOR difference = column[v] - row[v][k * RBF_TILE_ROWS + r];
                tile[r][v] += difference * difference;
            }
        }
    }
}

RBF_INLINE void RBF_NAME(add_tile)(VECTOR to[RBF_TILE_ROWS][RBF_TILE_VECTORS],
                                   VECTOR more[RBF_TILE_ROWS][RBF_TILE_VECTORS]) {
    int r, v;
    RBF_UNROLL
    for (r = 0; r < RBF_TILE_ROWS; ++r) {
        RBF_UNROLL
        for (v = 0; v < RBF_TILE_VECTORS; ++v)
            to[r][v] += more[r][v];
    }
}

/* Squared distances of a row panel and a column panel, direct differences: no cancellation. Summed
 * in chunks, and those in runs, since the rounding error of one running sum grows with its terms.
 */
RBF_INLINE void RBF_NAME(distance_tile)(int64_t depth, const REAL *RBF_RESTRICT rows,
                                        const REAL *RBF_RESTRICT columns,
                                        VECTOR tile[RBF_TILE_ROWS][RBF_TILE_VECTORS]) {
    int64_t first, k;
    RBF_NAME(distance_sum)(rbf_minimum(RBF_SUM_CHUNK, depth), rows, columns, tile);
    for (first = RBF_SUM_CHUNK; first < depth; first += RBF_SUM_RUN) {
        const int64_t last = rbf_minimum(depth, first + RBF_SUM_RUN);
        VECTOR run[RBF_TILE_ROWS][RBF_TILE_VECTORS];
        memset(run, 0, sizeof run);
        for (k = first; k < last; k += RBF_SUM_CHUNK) {
            VECTOR part[RBF_TILE_ROWS][RBF_TILE_VECTORS];
            RBF_NAME(distance_sum)
            (rbf_minimum(RBF_SUM_CHUNK, last - k), rows + k * RBF_TILE_ROWS, columns + k * COLUMNS,
             part);
            RBF_NAME(add_tile)(run, part);
        }
        RBF_NAME(add_tile)(tile, run);
    }
}

/* Transposes a square of LANES vectors in registers: pairs of blocks of 1, 2, 4, ... lanes change
 * places. */
RBF_INLINE void RBF_NAME(transpose)(VECTOR square[LANES]) {
#if defined(__GNUC__) && !defined(__clang__)
    int size, i, k;
    RBF_UNROLL
    for (size = 1; size < LANES; size *= 2) {
        INTEGER_VECTOR upper = {0}, lower = {0};
        RBF_UNROLL
        for (k = 0; k < LANES; ++k) {
            upper[k] = k & size ? LANES + k - size : k;
            lower[k] = k & size ? LANES + k : k + size;
        }
        RBF_UNROLL
        for (i = 0; i < LANES; ++i) {
            if (!(i & size)) {
                const VECTOR a = square[i], b = square[i + size];
                square[i] = __builtin_shuffle(a, b, upper);
                square[i + size] = __builtin_shuffle(a, b, lower);
            }
        }
    }
#else
    int i, k;
    for (i = 0; i < LANES; ++i)
        for (k = 0; k < i; ++k) {
            const REAL value = square[i][k];
            square[i][k] = square[k][i];
            square[k][i] = value;
        }
#endif
}
