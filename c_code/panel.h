/* Packing, and the register tile: rows of x and y, whatever their strides, in the order the tile
 * reads; sums of squared differences, or of products, over the columns k of x and y, in chunks and
 * runs; what is done to a tile afterwards.
 *
 * A panel holds COLUMNS rows of y (columns of K) as [depth][COLUMNS], a row panel RBF_TILE_ROWS
 * rows of x as [depth][RBF_TILE_ROWS]. The last one is filled up with copies of the last row, so
 * that the tile needs no edge cases and no padding can make a NaN of its own. Included once a
 * precision by instantiate.h.
 */

/* Columns k of rows [first, first + width) of the matrix to packed[depth][width], LANES columns k
 * and LANES rows at a time, from k = 0 on; of narrow panels twice as many columns k. Returns the
 * first k that is left. */
RBF_INLINE int64_t RBF_NAME(pack_squares)(REAL *RBF_RESTRICT packed, rbf_matrix from, int64_t first,
                                          const int width) {
    const int halves = width < LANES, step = halves ? 2 * LANES : LANES;
    int64_t k;
    int r, i;
    for (k = 0; k + step <= from.columns; k += step)
        for (r = 0; r < width; r += LANES) {
            VECTOR square[RBF_NAME(LANES)];
            RBF_UNROLL
            for (i = 0; i < LANES; ++i) {
                const int64_t row = rbf_minimum(first + r + i % width, from.rows - 1);
                square[i] = RBF_NAME(load_unaligned)(
                    (const REAL *)(from.data + row * from.row_stride) + k + i / width * LANES);
            }
            RBF_NAME(transpose)(square);
            RBF_UNROLL
            for (i = 0; i < LANES; ++i) {
                REAL *to = packed + (k + i) * width + r;
                if (halves) {
                    memcpy(to, &square[i], sizeof(VECTOR) / 2);
                    memcpy(to + LANES * width, (const char *)&square[i] + sizeof(VECTOR) / 2,
                           sizeof(VECTOR) / 2);
                } else {
                    RBF_NAME(store)(to, square[i]);
                }
            }
        }
    return k;
}

/* Rows [first, first + width) of the matrix to packed[depth][width]. What does not go by squares, a
 * few columns at a time, so that what is written stays in the first-level cache until its lines are
 * full. */
RBF_INLINE void RBF_NAME(pack_rows)(REAL *RBF_RESTRICT packed, rbf_matrix from, int64_t first,
                                    const int width) {
    const int64_t depth = from.columns, strip = 16;
    int64_t k0, k;
    int r;
    k0 = from.column_stride == (int64_t)sizeof(REAL)
             ? RBF_NAME(pack_squares)(packed, from, first, width)
             : 0;
    for (; k0 < depth; k0 += strip) {
        const int64_t end = rbf_minimum(depth, k0 + strip);
        for (r = 0; r < width; ++r) {
            const int64_t row = rbf_minimum(first + r, from.rows - 1);
            const char *source = from.data + row * from.row_stride;
            for (k = k0; k < end; ++k)
                packed[k * width + r] = *(const REAL *)(source + k * from.column_stride);
        }
    }
}

/* The coefficients of columns [first, first + COLUMNS). Those past `columns` make exp give 1, or
 * NaN where D is, so that times a weight of 0 they add nothing. No amplitude (data NULL) means 1.
 */
RBF_FUNCTION void RBF_NAME(pack_coefficients)(RBF_NAME(coefficients) * to, rbf_vector gamma,
                                              rbf_vector amplitude, int64_t first,
                                              int64_t columns) {
    int c = 0;
    to->special = 0;
    if (gamma.scalar && (amplitude.scalar || !amplitude.data)) {
        RBF_NAME(set_coefficients)(to, 0, RBF_NAME(entry)(gamma, 0),
                                   amplitude.data ? RBF_NAME(entry)(amplitude, 0) : 1);
        RBF_NAME(repeat_coefficients)(to);
        c = (int)rbf_minimum(COLUMNS, columns - first);
    }
    for (; c < COLUMNS; ++c) {
        if (first + c < columns) {
            RBF_NAME(set_coefficients)(to, c, RBF_NAME(entry)(gamma, first + c),
                                       amplitude.data ? RBF_NAME(entry)(amplitude, first + c) : 1);
        } else {
            RBF_NAME(set_coefficients)(to, c, 0, 1);
            to->limit[c] = 0;
        }
    }
}

/* The coefficients of the terms of a mixture, each for all columns. */
RBF_FUNCTION void RBF_NAME(pack_terms)(RBF_NAME(coefficients) * to, int64_t terms, rbf_vector gamma,
                                       rbf_vector amplitude) {
    for (int64_t t = 0; t < terms; ++t) {
        to[t].special = 0;
        RBF_NAME(set_coefficients)(to + t, 0, RBF_NAME(entry)(gamma, t),
                                   RBF_NAME(entry)(amplitude, t));
        RBF_NAME(repeat_coefficients)(to + t);
    }
}

/* Asks for what comes some terms later, if the target has it so; rows are `step` apart. */
RBF_INLINE void RBF_NAME(fetch_terms)(const REAL *rows, const int step, const REAL *columns) {
    int v;
    if (!RBF_FETCH_COLUMNS)
        return;
    RBF_UNROLL
    for (v = 0; v < COLUMNS; v += RBF_ALIGNMENT / (int)sizeof(REAL))
        __builtin_prefetch(columns + RBF_FETCH_COLUMNS * COLUMNS + v);
    __builtin_prefetch(rows + RBF_FETCH_ROWS * step);
}

/* tile[r] += sum_t rows[t * step + r * stride] columns[t], step and stride constants. If `fetch`, a
 * constant, what comes some terms later is prefetched. */
RBF_INLINE void RBF_NAME(add_products)(int64_t terms, const REAL *RBF_RESTRICT rows, const int step,
                                       const int stride, const REAL *RBF_RESTRICT columns,
                                       VECTOR tile[RBF_TILE_ROWS][RBF_TILE_VECTORS],
                                       const int fetch) {
    int64_t t;
    int r, v;
    RBF_UNROLL_TERMS
    for (t = 0; t < terms; ++t) {
        VECTOR column[RBF_TILE_VECTORS];
        RBF_UNROLL
        for (v = 0; v < RBF_TILE_VECTORS; ++v)
            column[v] = RBF_NAME(load_once)(columns + t * COLUMNS + v * LANES);
        if (fetch)
            RBF_NAME(fetch_terms)(rows + t * step, step, columns + t * COLUMNS);
        RBF_UNROLL
        for (r = 0; r < RBF_TILE_ROWS; ++r) {
            RBF_UNROLL
            for (v = 0; v < RBF_TILE_VECTORS; ++v)
                tile[r][v] += column[v] * rows[t * step + r * stride];
        }
    }
}

RBF_INLINE void RBF_NAME(clear_tile)(VECTOR tile[RBF_TILE_ROWS][RBF_TILE_VECTORS]) {
    int r, v;
    RBF_UNROLL
    for (r = 0; r < RBF_TILE_ROWS; ++r) {
        RBF_UNROLL
        for (v = 0; v < RBF_TILE_VECTORS; ++v)
            tile[r][v] = (VECTOR){0};
    }
}

/* Squared distances of a row panel and the first `vectors` vectors of a column panel over a range
 * of columns of x and y, zeros for its other vectors; or (`products`, a constant as that is) inner
 * products, of all. `fetch` as add_products has it. */
RBF_INLINE void RBF_NAME(term_sum)(int64_t depth, const REAL *RBF_RESTRICT rows,
                                   const REAL *RBF_RESTRICT columns,
                                   VECTOR tile[RBF_TILE_ROWS][RBF_TILE_VECTORS], const int vectors,
                                   const int products, const int fetch) {
    const REAL *row[RBF_TILE_VECTORS];
    int64_t k;
    int r, v;
    RBF_NAME(clear_tile)(tile);
    if (products) {
        RBF_NAME(add_products)(depth, rows, RBF_TILE_ROWS, 1, columns, tile, fetch);
        return;
    }
    RBF_UNROLL
    for (v = 0; v < vectors; ++v) {
        row[v] = rows;
        RBF_OWN_BROADCAST(row[v]);
    }
    for (k = 0; k < depth; ++k) {
        VECTOR column[RBF_TILE_VECTORS];
        RBF_UNROLL
        for (v = 0; v < vectors; ++v)
            column[v] = RBF_NAME(load)(columns + k * COLUMNS + v * LANES);
        if (fetch)
            RBF_NAME(fetch_terms)(rows + k * RBF_TILE_ROWS, RBF_TILE_ROWS, columns + k * COLUMNS);
        RBF_UNROLL
        for (r = 0; r < RBF_TILE_ROWS; ++r) {
            RBF_UNROLL
            for (v = 0; v < vectors; ++v) {
                const VECTOR difference = column[v] - row[v][k * RBF_TILE_ROWS + r];
                tile[r][v] += difference * difference;
            }
        }
    }
}

/* A tile to and from memory, [RBF_TILE_ROWS][COLUMNS]. */
RBF_INLINE void RBF_NAME(keep_tile)(VECTOR tile[RBF_TILE_ROWS][RBF_TILE_VECTORS], REAL *to) {
    int r, v;
    RBF_UNROLL
    for (r = 0; r < RBF_TILE_ROWS; ++r) {
        RBF_UNROLL
        for (v = 0; v < RBF_TILE_VECTORS; ++v)
            RBF_NAME(store)(to + r * COLUMNS + v * LANES, tile[r][v]);
    }
}

RBF_INLINE void RBF_NAME(load_kept)(VECTOR tile[RBF_TILE_ROWS][RBF_TILE_VECTORS],
                                    const REAL *kept) {
    int r, v;
    RBF_UNROLL
    for (r = 0; r < RBF_TILE_ROWS; ++r) {
        RBF_UNROLL
        for (v = 0; v < RBF_TILE_VECTORS; ++v)
            tile[r][v] = RBF_NAME(load)(kept + r * COLUMNS + v * LANES);
    }
}

RBF_INLINE void RBF_NAME(add_kept)(VECTOR tile[RBF_TILE_ROWS][RBF_TILE_VECTORS], const REAL *kept) {
    int r, v;
    RBF_UNROLL
    for (r = 0; r < RBF_TILE_ROWS; ++r) {
        RBF_UNROLL
        for (v = 0; v < RBF_TILE_VECTORS; ++v)
            tile[r][v] += RBF_NAME(load)(kept + r * COLUMNS + v * LANES);
    }
}

/* term_sum in chunks; with `fetch`, a constant, whole ones prefetch what comes later, and of
 * products the last part does. Where registers are few, the sum waits in memory: a chunk needs
 * them. */
RBF_INLINE void RBF_NAME(term_run)(int64_t depth, const REAL *RBF_RESTRICT rows,
                                   const REAL *RBF_RESTRICT columns,
                                   VECTOR tile[RBF_TILE_ROWS][RBF_TILE_VECTORS], const int vectors,
                                   const int products, const int fetch) {
    VECTOR sum[RBF_TILE_ROWS][RBF_TILE_VECTORS];
    int r, v, joined = 0;
    if (RBF_MANY_REGISTERS)
        RBF_NAME(clear_tile)(sum);
    do {
        if (fetch && depth >= RBF_SUM_CHUNK) /* known to the compiler, which unrolls it */
            RBF_NAME(term_sum)(RBF_SUM_CHUNK, rows, columns, tile, vectors, products, 1);
        else
            RBF_NAME(term_sum)(rbf_minimum(RBF_SUM_CHUNK, depth), rows, columns, tile, vectors,
                               products, products);
        RBF_UNROLL
        for (r = 0; r < RBF_TILE_ROWS; ++r) {
            RBF_UNROLL
            for (v = 0; v < RBF_TILE_VECTORS; ++v) {
                if (RBF_MANY_REGISTERS || joined)
                    tile[r][v] += sum[r][v];
                sum[r][v] = tile[r][v];
            }
        }
        RBF_KEEP_IN_MEMORY(sum);
        joined = 1;
        rows += RBF_SUM_CHUNK * RBF_TILE_ROWS;
        columns += RBF_SUM_CHUNK * COLUMNS;
        depth -= RBF_SUM_CHUNK;
    } while (depth > 0);
}

/* term_run by term_run, of RBF_SUM_RUN terms each. */
RBF_INLINE void RBF_NAME(term_runs)(int64_t depth, const REAL *RBF_RESTRICT rows,
                                    const REAL *RBF_RESTRICT columns,
                                    VECTOR tile[RBF_TILE_ROWS][RBF_TILE_VECTORS], const int vectors,
                                    const int products) {
    REAL sum[RBF_TILE_ROWS * RBF_NAME(COLUMNS)] __attribute__((aligned(RBF_ALIGNMENT)));
    int joined = 0;
    for (;;) {
        RBF_NAME(term_run)(rbf_minimum(RBF_SUM_RUN, depth), rows, columns, tile, vectors, products,
                           products || RBF_FETCH_COLUMNS);
        if (joined)
            RBF_NAME(add_kept)(tile, sum);
        depth -= RBF_SUM_RUN;
        if (depth <= 0)
            return;
        RBF_NAME(keep_tile)(tile, sum);
        joined = 1;
        rows += RBF_SUM_RUN * RBF_TILE_ROWS;
        columns += RBF_SUM_RUN * COLUMNS;
    }
}

/* term_runs, the tile stored to memory. Not inlined: it is long, and the store is cheap beside it.
 */
RBF_FUNCTION __attribute__((noinline)) void
RBF_NAME(distance_runs)(int64_t depth, const REAL *RBF_RESTRICT rows,
                        const REAL *RBF_RESTRICT columns, REAL *RBF_RESTRICT sum) {
    VECTOR tile[RBF_TILE_ROWS][RBF_TILE_VECTORS];
    RBF_NAME(term_runs)(depth, rows, columns, tile, RBF_TILE_VECTORS, 0);
    RBF_NAME(keep_tile)(tile, sum);
}

/* Squared distances of a row panel and a column panel, direct differences: no cancellation. Summed
 * in chunks, and those in runs, since the rounding error of one running sum grows with its terms.
 * What is longer than `inlined`, a constant, is summed by a call: callers whose own code fills the
 * registers gain by one.
 */
RBF_INLINE void RBF_NAME(distance_tile)(int64_t depth, const REAL *RBF_RESTRICT rows,
                                        const REAL *RBF_RESTRICT columns,
                                        VECTOR tile[RBF_TILE_ROWS][RBF_TILE_VECTORS],
                                        const int inlined) {
    REAL sum[RBF_TILE_ROWS * RBF_NAME(COLUMNS)] __attribute__((aligned(RBF_ALIGNMENT)));
    if (depth <= RBF_SUM_CHUNK) {
        RBF_NAME(term_sum)(depth, rows, columns, tile, RBF_TILE_VECTORS, 0, 0);
    } else if (depth <= inlined) {
        RBF_NAME(term_run)(depth, rows, columns, tile, RBF_TILE_VECTORS, 0, RBF_ZEN5);
    } else {
        RBF_NAME(distance_runs)(depth, rows, columns, sum);
        RBF_NAME(load_kept)(tile, sum);
    }
}

/* Squared distances of vector v of a tile become exponentials times scale[COLUMNS], `count` rows (a
 * constant) from row r on. */
RBF_INLINE void RBF_NAME(exponentials_at)(VECTOR tile[RBF_TILE_ROWS][RBF_TILE_VECTORS], int r,
                                          int v, const int count, const RBF_NAME(coefficients) * c,
                                          const REAL *scale) {
    VECTOR side[RBF_STORED_EXPONENTIALS];
    int i;
    RBF_UNROLL
    for (i = 0; i < count; ++i)
        side[i] = tile[r + i][v];
    RBF_NAME(scaled_exponentials)(side, count, c, v * LANES, scale);
    RBF_UNROLL
    for (i = 0; i < count; ++i)
        tile[r + i][v] = side[i];
}

/* sums[q] += sum_r tile[r] rows[q][r], lanes over the columns of a tile [RBF_TILE_ROWS][COLUMNS].
 */
RBF_INLINE void RBF_NAME(multiply_columns)(const REAL *RBF_RESTRICT tile,
                                           const REAL *RBF_RESTRICT rows, int64_t p,
                                           REAL *RBF_RESTRICT sums) {
    VECTOR kept[RBF_TILE_ROWS][RBF_TILE_VECTORS];
    int64_t q;
    int r, v;
    RBF_UNROLL
    for (r = 0; r < RBF_TILE_ROWS; ++r) {
        RBF_UNROLL
        for (v = 0; v < RBF_TILE_VECTORS; ++v)
            kept[r][v] = RBF_NAME(load_once)(tile + r * COLUMNS + v * LANES);
    }
    for (q = 0; q < p; ++q, rows += RBF_TILE_ROWS, sums += COLUMNS) {
        RBF_UNROLL
        for (v = 0; v < RBF_TILE_VECTORS; ++v) {
            VECTOR sum = RBF_NAME(load)(sums + v * LANES);
            RBF_OWN_BROADCAST(rows);
            RBF_UNROLL
            for (r = 0; r < RBF_TILE_ROWS; ++r)
                sum += kept[r][v] * rows[r];
            RBF_NAME(store)(sums + v * LANES, sum);
        }
    }
}
