/* Packing: rows of x and y, whatever their strides, into the order the register tile reads.
 *
 * A panel holds COLUMNS rows of y (columns of K) as [depth][COLUMNS], a row panel RBF_TILE_ROWS
 * rows of x as [depth][RBF_TILE_ROWS]. The last one is filled up with copies of the last row, so
 * that the tile needs no edge cases and no padding can make a NaN of its own. Included once a
 * precision by instantiate.h.
 */

/* rows [first, first + width) of the matrix to packed[depth][width]. */
RBF_INLINE void RBF_NAME(pack_rows)(REAL *RBF_RESTRICT packed, rbf_matrix from, int64_t first,
                                    int width) {
    const int64_t depth = from.columns;
    int64_t k;
    int r;
    for (r = 0; r < width; ++r) {
        const int64_t row = rbf_minimum(first + r, from.rows - 1);
        const char *source = from.data + row * from.row_stride;
        REAL *target = packed + r;
        if (from.column_stride == (int64_t)sizeof(REAL)) {
            const REAL *values = (const REAL *)source;
            for (k = 0; k < depth; ++k)
                target[k * width] = values[k];
        } else {
            for (k = 0; k < depth; ++k)
                target[k * width] = *(const REAL *)(source + k * from.column_stride);
        }
    }
}

/* The coefficients of columns [first, first + COLUMNS); those behind `columns` repeat the last. */
RBF_FUNCTION void RBF_NAME(pack_coefficients)(RBF_NAME(coefficients) * to, rbf_vector gamma,
                                              rbf_vector amplitude, int64_t first,
                                              int64_t columns) {
    int c;
    to->special = 0;
    for (c = 0; c < COLUMNS; ++c) {
        const int64_t column = rbf_minimum(first + c, columns - 1);
        RBF_NAME(set_coefficients)
        (to, c, RBF_NAME(entry)(gamma, column), RBF_NAME(entry)(amplitude, column));
    }
}

/* Squared distances of a row panel and a column panel over a range of columns of x and y. */
RBF_INLINE void RBF_NAME(distance_sum)(int64_t depth, const REAL *RBF_RESTRICT rows,
                                       const REAL *RBF_RESTRICT columns,
                                       VECTOR tile[RBF_TILE_ROWS][RBF_TILE_VECTORS]) {
    int64_t k;
    int r, v;
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
                const VECTOR difference = column[v] - rows[k * RBF_TILE_ROWS + r];
                tile[r][v] += difference * difference;
            }
        }
    }
}

/* Squared distances of a row panel and a column panel, direct differences: no cancellation. Summed
 * in chunks, since the rounding error of one running sum grows with the depth. */
RBF_INLINE void RBF_NAME(distance_tile)(int64_t depth, const REAL *RBF_RESTRICT rows,
                                        const REAL *RBF_RESTRICT columns,
                                        VECTOR tile[RBF_TILE_ROWS][RBF_TILE_VECTORS]) {
    int64_t k;
    int r, v;
    RBF_NAME(distance_sum)(rbf_minimum(RBF_SUM_CHUNK, depth), rows, columns, tile);
    for (k = RBF_SUM_CHUNK; k < depth; k += RBF_SUM_CHUNK) {
        VECTOR part[RBF_TILE_ROWS][RBF_TILE_VECTORS];
        RBF_NAME(distance_sum)
        (rbf_minimum(RBF_SUM_CHUNK, depth - k), rows + k * RBF_TILE_ROWS, columns + k * COLUMNS,
         part);
        RBF_UNROLL
        for (r = 0; r < RBF_TILE_ROWS; ++r) {
            RBF_UNROLL
            for (v = 0; v < RBF_TILE_VECTORS; ++v)
                tile[r][v] += part[r][v];
        }
    }
}
