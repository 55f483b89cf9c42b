/* Weights w[i, j] = 2 gamma[j] amplitude[j] G[i, j] E[i, j] of some row panels and a column block,
 * and what is summed beside them: dgamma, damplitude, dweights.
 *
 * G comes from the caller's matrix, by transposed squares where its columns are whole; from G + G^T
 * where y is x; from H W^T for a product, or both; or is one number a row for a log-sum-exp; or,
 * for a softmax, H W^T less such a number, its mean over the row. The weights of a mixture are the
 * sums of those of its terms. Each of the five is a function of its own, and whoever needs one does
 * not compile the others. Included once a precision by instantiate.h.
 */
/* So many rows and one panel of G, zero outside of the matrix; symmetric: of G + G^T. Entry by
 * entry. Like what else is rare here, a call: inlined, its addresses would be kept up to date from
 * tile to tile. */
RBF_FUNCTION __attribute__((noinline)) void RBF_NAME(gather_entries)(const rbf_matrix *g,
                                                                     int64_t row, int64_t column,
                                                                     int64_t count, REAL *to,
                                                                     int symmetric) {
    const int64_t rows = rbf_minimum(count, g->rows - row);
    const int64_t columns = rbf_minimum(COLUMNS, g->columns - column);
    int64_t i, j;
    memset(to, 0, (size_t)(count * COLUMNS) * sizeof(REAL));
    for (i = 0; i < rows; ++i)
        for (j = 0; j < columns; ++j) {
            REAL *entry = to + i * COLUMNS + j;
            *entry = RBF_NAME(matrix_entry)(g, row + i, column + j);
            if (symmetric)
                *entry += RBF_NAME(matrix_entry)(g, column + j, row + i);
        }
}

/* The same of WHOLE_ROWS rows, by transposed squares where they fit: of G itself, whose columns are
 * whole, or (`symmetric`, a constant) of G^T, to be added to G. */
RBF_INLINE void RBF_NAME(gather_squares)(const rbf_matrix *g, int64_t row, int64_t column,
                                         REAL *RBF_RESTRICT to, const int symmetric) {
    const int64_t item = (int64_t)sizeof(REAL);
    const int64_t stride = symmetric ? g->row_stride : g->column_stride;
    int i, r, v;
    if (row + RBF_NAME(WHOLE_ROWS) > g->rows || column + COLUMNS > g->columns ||
        (symmetric ? g->column_stride : g->row_stride) != item) {
        RBF_NAME(gather_entries)(g, row, column, RBF_NAME(WHOLE_ROWS), to, symmetric);
        return;
    }
    for (i = 0; i < RBF_NAME(WHOLE_ROWS); i += LANES) {
        RBF_UNROLL
        for (v = 0; v < RBF_TILE_VECTORS; ++v) {
            const int64_t first = column + v * LANES;
            const char *across = g->data + first * stride + (row + i) * item;
            const char *along = g->data + (row + i) * stride + first * item;
            VECTOR square[RBF_NAME(LANES)];
            RBF_UNROLL
            for (r = 0; r < LANES; ++r)
                square[r] = RBF_NAME(load_unaligned)((const REAL *)(across + r * stride));
            RBF_NAME(transpose)(square);
            RBF_UNROLL
            for (r = 0; r < LANES; ++r) {
                if (symmetric)
                    square[r] += RBF_NAME(load_unaligned)((const REAL *)(along + r * stride));
                RBF_NAME(store)(to + (i + r) * COLUMNS + v * LANES, square[r]);
            }
        }
    }
}

/* Of a G whose columns are whole. What the next panel will read is prefetched, as further down. */
RBF_FUNCTION __attribute__((noinline)) void
RBF_NAME(gather_transposed)(const rbf_matrix *g, int64_t row, int64_t column, REAL *to) {
    const char *next = g->data + (column + COLUMNS) * g->column_stride +
                       (row + RBF_NAME(WHOLE_ROWS)) * (int64_t)sizeof(REAL) - 1;
    int c;
    for (c = 0; c < COLUMNS; ++c)
        __builtin_prefetch(next + c * g->column_stride, 0, RBF_FETCH_LATER);
    RBF_NAME(gather_squares)(g, row, column, to, 0);
}

/* G + G^T, zero but above the diagonal. */
RBF_FUNCTION __attribute__((noinline)) void
RBF_NAME(gather_symmetric)(const rbf_matrix *g, int64_t row, int64_t column, REAL *to) {
    int64_t i, j;
    RBF_NAME(gather_squares)(g, row, column, to, 1);
    if (column < row + RBF_NAME(WHOLE_ROWS))
        for (i = 0; i < RBF_NAME(WHOLE_ROWS); ++i)
            for (j = 0; j < COLUMNS && column + j <= row + i; ++j)
                to[i * COLUMNS + j] = 0;
}

/* Where what is read of G next begins: for each row of a tile a piece, as long as a row of it. */
typedef struct {
    const char *along, *below; /* NULL: none */
    int64_t stride;
} RBF_NAME(next_gradient);

/* What the next panel will read, past the block's last one the first for the row panels that
 * follow; or, of row panels one at a time, what the next will read here: pieces of many rows, which
 * no processor foresees. Symmetric: the row panels of SQUARE_ROWS share the rows of G below the
 * diagonal, each of which lies in a page of its own. */
RBF_INLINE RBF_NAME(next_gradient)
    RBF_NAME(gradient_to_fetch)(const RBF_NAME(gradient_job) * job, int64_t row, int64_t panel) {
    const int64_t item = (int64_t)sizeof(REAL), stride = job->g.row_stride;
    const int64_t in_block = panel % job->panels_per_block;
    const int stay = in_block < job->panels_per_block - 1 && job->row_panels_at_once > 1;
    const int64_t next_row = row + (stay ? 0 : job->row_panels_at_once * RBF_TILE_ROWS);
    const int64_t next_column = (stay                          ? panel + 1
                                 : job->row_panels_at_once > 1 ? panel - in_block
                                                               : panel) *
                                COLUMNS;
    /* The last byte of a line's worth: where rows begin within lines, the piece before this one
     * has prefetched the line that this one begins in. */
    const char *g = job->g.data + RBF_ALIGNMENT - 1;
    RBF_NAME(next_gradient) next = {NULL, NULL, stride};
    if (job->g.column_stride != item)
        return next;
    next.along = g + next_row * stride + next_column * item;
    if (job->symmetric) {
        const int64_t within = row % RBF_NAME(SQUARE_ROWS) / RBF_TILE_ROWS;
        next.below = g + (next_column + within * RBF_NAME(SYMMETRIC_SHARE)) * stride +
                     (next_row - within * RBF_TILE_ROWS) * item;
    }
    return next;
}

/* Asks for some of their lines when row r of vector v of the tile before is made. All at once, the
 * processor would have to wait until some have come. */
RBF_INLINE void RBF_NAME(fetch_gradient)(RBF_NAME(next_gradient) next, int r, int v) {
    const int row_lines = RBF_NAME(SQUARE_ROWS) * (int)sizeof(REAL) / RBF_ALIGNMENT;
    const int line = v * RBF_TILE_ROWS + r;
    if (next.along && v * RBF_VECTOR_BYTES % RBF_ALIGNMENT == 0)
        __builtin_prefetch(next.along + r * next.stride + v * RBF_VECTOR_BYTES, 0, RBF_FETCH_LATER);
    if (next.below && line < RBF_NAME(SYMMETRIC_SHARE) * row_lines)
        __builtin_prefetch(next.below + line / row_lines * next.stride +
                               line % row_lines * RBF_ALIGNMENT,
                           0, RBF_FETCH_LATER);
}

/* Some rows of the factors of G, past the last zeros; where y is x those of a second factor behind
 * them, since G + G^T = (H W) (W H)^T; and of a softmax a column more, ones, or -means[row]. */
RBF_FUNCTION void RBF_NAME(pack_factors)(const RBF_NAME(gradient_job) * job, rbf_matrix first,
                                         rbf_matrix second, const REAL *means, int64_t row,
                                         int64_t rows, REAL *to) {
    int64_t r, q;
    RBF_NAME(pack_rows)(to, first, row, rows);
    if (job->symmetric)
        RBF_NAME(pack_rows)(to + first.columns * rows, second, row, rows);
    for (r = 0; job->means && r < rows; ++r)
        to[first.columns * rows + r] = means ? -means[row + r] : 1;
    for (r = first.rows - row; r < rows; ++r)
        for (q = 0; q < job->factors; ++q)
            to[q * rows + r] = 0;
}

/* G = H W^T of one tile. */
RBF_INLINE void RBF_NAME(multiply_gradient)(int64_t p, const REAL *RBF_RESTRICT h,
                                            const REAL *RBF_RESTRICT weights,
                                            REAL g[RBF_TILE_ROWS][COLUMNS]) {
    VECTOR tile[RBF_TILE_ROWS][RBF_TILE_VECTORS] = {{{0}}};
    int64_t q;
    int r, v;
    for (q = 0; q < p; ++q, h += RBF_TILE_ROWS, weights += COLUMNS) {
        RBF_UNROLL
        for (v = 0; v < RBF_TILE_VECTORS; ++v) {
            const VECTOR weight = RBF_NAME(load_once)(weights + v * LANES);
            RBF_OWN_BROADCAST(h);
            RBF_UNROLL
            for (r = 0; r < RBF_TILE_ROWS; ++r)
                tile[r][v] += weight * h[r];
        }
    }
    RBF_NAME(keep_tile)(tile, &g[0][0]);
}

/* Zeros for the entries of a tile outside of the matrix, and for those on and below the diagonal,
 * `diagonal` columns to the left of the tile. */
RBF_FUNCTION __attribute__((noinline)) void RBF_NAME(clear_outside)(int64_t rows, int64_t columns,
                                                                    int64_t diagonal, REAL *tile) {
    int64_t i, j;
    for (i = 0; i < RBF_TILE_ROWS; ++i)
        for (j = 0; j < COLUMNS; ++j)
            if (i >= rows || j >= columns || j <= i - diagonal)
                tile[i * COLUMNS + j] = 0;
}

/* Where G of one tile is, and how far apart its rows are: in the caller's matrix or in g_rows; what
 * has to be made first goes to `gathered`. Rows past the last of the matrix are zeros. */
RBF_INLINE const char *RBF_NAME(gradient_tile)(const RBF_NAME(gradient_job) * job, int64_t row,
                                               int64_t column, const REAL *g_rows,
                                               REAL gathered[RBF_TILE_ROWS][COLUMNS],
                                               int64_t *stride, const int of) {
    const int64_t rows = rbf_minimum(RBF_TILE_ROWS, job->points.x.rows - row);
    const int64_t columns = rbf_minimum(COLUMNS, job->points.y.rows - column);
    const int64_t diagonal = job->symmetric ? column - row : RBF_TILE_ROWS;
    int64_t i, j;
    *stride = COLUMNS * (int64_t)sizeof(REAL);
    if (of == RBF_OF_LOG_SUM) {
        for (i = 0; i < RBF_TILE_ROWS; ++i)
            for (j = 0; j < COLUMNS; ++j)
                gathered[i][j] =
                    i < rows ? *(const REAL *)(job->g.data + (row + i) * job->g.row_stride) : 0;
    } else if (of == RBF_OF_PRODUCT || of == RBF_OF_SOFTMAX) {
        RBF_NAME(multiply_gradient)(job->factors, g_rows,
                                    job->packed_weights + column * job->factors, gathered);
        if (rows < RBF_TILE_ROWS || diagonal < RBF_TILE_ROWS)
            /* Not 0 times a weight that is not finite. */
            RBF_NAME(clear_outside)(rows, COLUMNS, diagonal, &gathered[0][0]);
    } else if (job->by_squares) {
        return (const char *)g_rows;
    } else if (rows == RBF_TILE_ROWS && columns == COLUMNS &&
               job->g.column_stride == (int64_t)sizeof(REAL)) {
        *stride = job->g.row_stride;
        return job->g.data + row * *stride + column * (int64_t)sizeof(REAL);
    } else {
        RBF_NAME(gather_entries)(&job->g, row, column, RBF_TILE_ROWS, &gathered[0][0], 0);
    }
    return (const char *)gathered;
}

/* weight_tile entry by entry, with the C library's exponential: of columns of K, or a term of it,
 * whose coefficients are extreme. */
RBF_FUNCTION __attribute__((noinline)) void
RBF_NAME(special_weights)(const RBF_NAME(coefficients) * c, int64_t rows, int64_t diagonal,
                          const REAL *distances, const char *g, int64_t g_stride, REAL *weights,
                          REAL *column_sums, REAL *e) {
    int i, j;
    for (j = 0; j < COLUMNS; ++j) {
        REAL gamma_sum = 0, amplitude_sum = 0;
        for (i = 0; i < RBF_TILE_ROWS; ++i) {
            const int place = i * COLUMNS + j;
            REAL weight;
            e[place] = 0;
            if (i >= rows || j <= i - diagonal)
                continue;
            e[place] = RBF_NAME(library_exponential)(-c->gamma[j] * distances[place]);
            weight = e[place] * ((const REAL *)(g + i * g_stride))[j];
            amplitude_sum += weight;
            weight *= c->amplitude[j];
            gamma_sum += weight * distances[place];
            weights[place] += weight * c->gamma[j] * 2; /* twice gamma may be infinite */
        }
        column_sums[j] += gamma_sum;
        column_sums[COLUMNS + j] += amplitude_sum;
    }
}

/* Weights of one tile from G (or from rows of H; or, if symmetric, from G + G^T, in g_rows), its
 * share of -dgamma and of damplitude added to column_sums[terms][2][COLUMNS], of dweights to
 * dweights[p][COLUMNS]. */
RBF_INLINE void RBF_NAME(weight_tile)(const RBF_NAME(gradient_job) * job,
                                      const RBF_NAME(strip) * strip, int64_t row_panel,
                                      int64_t panel, const REAL *g_rows, REAL *weights,
                                      REAL *column_sums, REAL *dweights, const int of) {
    enum { SIDE = RBF_STORED_EXPONENTIALS };
    const int log_sum = of == RBF_OF_LOG_SUM || of == RBF_OF_SOFTMAX;
    const int mixture = of == RBF_OF_MIXTURE;
    const int64_t row = row_panel * RBF_TILE_ROWS, column = panel * COLUMNS;
    const int64_t rows = rbf_minimum(RBF_TILE_ROWS, job->points.x.rows - row);
    const int64_t columns = rbf_minimum(COLUMNS, job->points.y.rows - column);
    const int64_t diagonal = job->symmetric ? column - row : RBF_TILE_ROWS;
    const int64_t terms = mixture ? job->terms : 1;
    REAL gathered[RBF_TILE_ROWS][RBF_NAME(COLUMNS)] __attribute__((aligned(RBF_ALIGNMENT)));
    REAL e[RBF_TILE_ROWS][RBF_NAME(COLUMNS)] __attribute__((aligned(RBF_ALIGNMENT)));
    VECTOR tile[RBF_TILE_ROWS][RBF_TILE_VECTORS];
    int64_t g_stride, t;
    const char *g = RBF_NAME(gradient_tile)(job, row, column, g_rows, gathered, &g_stride, of);
    REAL log_sums[2][RBF_TILE_ROWS]; /* and what of them the first leave out */
    RBF_NAME(next_gradient) next = {NULL, NULL, 0};
    int r, v, i;
    if (of == RBF_OF_KERNEL || mixture)
        next = RBF_NAME(gradient_to_fetch)(job, row, panel);
    for (r = 0; log_sum && r < RBF_TILE_ROWS; ++r) {
        log_sums[0][r] = RBF_NAME(entry)(job->log_sums, row + rbf_minimum(r, rows - 1));
        log_sums[1][r] = RBF_NAME(entry)(job->rests, row + rbf_minimum(r, rows - 1));
    }
    RBF_NAME(distances)(&job->points, strip, row_panel, panel, tile, RBF_SUM_CHUNK);
    /* Where G is 0 for want of an entry it must not meet an E that is infinite. (That of a
     * log-sum-exp or softmax is at most 1.) */
    if (!log_sum && __builtin_expect(rows < RBF_TILE_ROWS || diagonal < RBF_TILE_ROWS, 0)) {
        RBF_NAME(keep_tile)(tile, weights);
        RBF_NAME(clear_outside)(rows, COLUMNS, diagonal, weights);
        RBF_NAME(load_kept)(tile, weights);
    }
    if (mixture)
        memset(weights, 0, RBF_TILE_ROWS * COLUMNS * sizeof(REAL));
    for (t = 0; t < terms; ++t, column_sums += 2 * COLUMNS) {
        const RBF_NAME(coefficients) *c = job->coefficients + (mixture ? t : panel);
        /* Of a log-sum-exp or softmax gamma is applied before: behind the panels lie the
         * coefficients of gamma 1. */
        const RBF_NAME(coefficients) *exponent =
            log_sum ? job->coefficients + job->points.panels : c;
        if (!log_sum && __builtin_expect(c->special, 0)) {
            REAL distances[RBF_TILE_ROWS][RBF_NAME(COLUMNS)]
                __attribute__((aligned(RBF_ALIGNMENT)));
            RBF_NAME(keep_tile)(tile, &distances[0][0]);
            if (!mixture)
                memset(weights, 0, RBF_TILE_ROWS * COLUMNS * sizeof(REAL));
            RBF_NAME(special_weights)(c, rows, diagonal, &distances[0][0], g, g_stride, weights,
                                      column_sums, &e[0][0]);
            continue;
        }
        RBF_UNROLL
        for (v = 0; v < RBF_TILE_VECTORS; ++v) {
            const VECTOR rate = RBF_NAME(load)(exponent->rate + v * LANES);
            const VECTOR rate_low = RBF_NAME(load)(exponent->rate_low + v * LANES);
            const VECTOR limit = RBF_NAME(load)(exponent->limit + v * LANES);
            const VECTOR shift = RBF_NAME(load)(exponent->shift + v * LANES);
            const VECTOR unit = RBF_NAME(load)(exponent->unit + v * LANES);
            const VECTOR gamma = RBF_NAME(load)(c->gamma + v * LANES);
            const VECTOR amplitude = RBF_NAME(load)(c->amplitude + v * LANES);
            const VECTOR twice_gamma = gamma * 2;
            /* Of the tile first: a running sum over all rows would lose more. */
            VECTOR gamma_sum = {0}, amplitude_sum = {0}, side[SIDE];
            RBF_UNROLL
            for (r = 0; r < RBF_TILE_ROWS; ++r) {
                REAL *to = weights + r * COLUMNS + v * LANES;
                VECTOR weight;
                if (!mixture || t == 0)
                    RBF_NAME(fetch_gradient)(next, r, v);
                if (r % SIDE == 0) {
                    RBF_UNROLL
                    for (i = 0; i < SIDE; ++i) {
                        side[i] = tile[r + i][v];
                        if (log_sum) {
                            /* The exponent as logsum.h rounds it, so that the weights of a row
                             * add up to 1 however large it is. */
                            const VECTOR offset = RBF_NAME(load)(job->offsets + column + v * LANES);
                            const VECTOR exponent = offset - gamma * side[i];
                            side[i] = (log_sums[0][r + i] - exponent) + log_sums[1][r + i];
                        }
                    }
                    RBF_NAME(exponentials)(side, SIDE, rate, rate_low, limit, shift);
                }
                weight = side[r % SIDE] * unit;
                if (dweights)
                    RBF_NAME(store)(&e[r][v * LANES], weight);
                weight *= RBF_NAME(load_unaligned)((const REAL *)(g + r * g_stride) + v * LANES);
                amplitude_sum += weight;
                weight *= amplitude;
                gamma_sum += weight * tile[r][v];
                if (log_sum) { /* of any gamma: twice it may be infinite */
                    weight *= gamma;
                    weight += weight;
                } else {
                    weight *= twice_gamma;
                }
                if (mixture)
                    weight += RBF_NAME(load)(to);
                RBF_NAME(store)(to, weight);
            }
            gamma_sum += RBF_NAME(load)(column_sums + v * LANES);
            amplitude_sum += RBF_NAME(load)(column_sums + COLUMNS + v * LANES);
            RBF_NAME(store)(column_sums + v * LANES, gamma_sum);
            RBF_NAME(store)(column_sums + COLUMNS + v * LANES, amplitude_sum);
        }
    }
    if (dweights)
        RBF_NAME(multiply_columns)(&e[0][0], g_rows, job->weights.columns, dweights);
    if (rows < RBF_TILE_ROWS || columns < COLUMNS || diagonal < RBF_TILE_ROWS)
        RBF_NAME(clear_outside)(rows, columns, diagonal, weights);
}

/* Rows [first, last) of tiles of one panel of a block, whose first row panel is block_row and whose
 * first panel is block_panel; of a strip up to panel `behind`. */
RBF_INLINE void RBF_NAME(panel_weights)(const RBF_NAME(gradient_job) * job, int64_t block_row,
                                        int64_t first, int64_t last, int64_t block_panel,
                                        int64_t panel, int64_t strip_panel, int64_t behind,
                                        RBF_NAME(gradient_scratch) scratch,
                                        RBF_NAME(gradient_sums) sums, const int of) {
    const int64_t p = job->weights.columns, h_rows = job->factors * RBF_TILE_ROWS;
    const int64_t tile = RBF_TILE_ROWS * COLUMNS, in_block = panel - block_panel;
    const int product = of == RBF_OF_PRODUCT || of == RBF_OF_SOFTMAX;
    REAL *column_sums = sums.column_sums + in_block * job->column_partial.size;
    REAL *dweights = sums.dweights ? sums.dweights + in_block * p * COLUMNS : NULL;
    int64_t row_panel;
    for (row_panel = first; row_panel < last; ++row_panel) {
        const int64_t at_once = row_panel - block_row;
        REAL *weights = scratch.weights + at_once * job->row_weights + in_block * tile;
        const REAL *g_rows = scratch.g_rows + at_once * h_rows;
        const RBF_NAME(strip) * strip;
        /* Symmetric: tiles wholly on or below the diagonal hold nothing that counts. */
        if (job->symmetric && (panel + 1) * COLUMNS <= row_panel * RBF_TILE_ROWS + 1) {
            if (!job->by_products)
                break;
            memset(weights, 0, (size_t)tile * sizeof(REAL));
            continue;
        }
        if (job->by_squares) {
            const int64_t within = at_once % (RBF_NAME(WHOLE_ROWS) / RBF_TILE_ROWS);
            if (within == 0 && job->symmetric)
                RBF_NAME(gather_symmetric)(&job->g, row_panel * RBF_TILE_ROWS, panel * COLUMNS,
                                           scratch.g_rows);
            else if (within == 0)
                RBF_NAME(gather_transposed)(&job->g, row_panel * RBF_TILE_ROWS, panel * COLUMNS,
                                            scratch.g_rows);
            g_rows = scratch.g_rows + within * tile;
        }
        strip = RBF_NAME(prepare_distances)(&job->points, row_panel, last, strip_panel, behind);
        if (product && dweights)
            RBF_NAME(weight_tile)(job, strip, row_panel, panel, g_rows, weights, column_sums,
                                  dweights, of);
        else
            RBF_NAME(weight_tile)(job, strip, row_panel, panel, g_rows, weights, column_sums, NULL,
                                  of);
    }
}

/* The weights of some row panels and a column block, tile by tile: panel by panel, or strip by
 * strip of what the matrix unit makes, of as many rows as columns. */
RBF_INLINE void RBF_NAME(block_weights)(const RBF_NAME(gradient_job) * job, int64_t first_row_panel,
                                        int64_t last_row_panel, int64_t first_panel,
                                        int64_t last_panel, RBF_NAME(gradient_scratch) scratch,
                                        RBF_NAME(gradient_sums) sums, const int of) {
    int64_t down = last_row_panel - first_row_panel, across = 1, row_panel, panel, strip;
    if (RBF_BY_UNIT(&job->points)) {
        down = RBF_NAME(STRIP_PANELS);
        across = RBF_NAME(STRIP_TILES) / down;
    }
    if (job->by_products)
        job->points.close->count = 0;
    if (of == RBF_OF_PRODUCT || of == RBF_OF_SOFTMAX)
        for (row_panel = first_row_panel; row_panel < last_row_panel; ++row_panel)
            RBF_NAME(pack_factors)(
                job, job->g, job->weights, job->means, row_panel * RBF_TILE_ROWS, RBF_TILE_ROWS,
                scratch.g_rows + (row_panel - first_row_panel) * job->factors * RBF_TILE_ROWS);
    for (strip = first_panel; strip < last_panel; strip += across)
        for (row_panel = first_row_panel; row_panel < last_row_panel; row_panel += down)
            for (panel = strip; panel < rbf_minimum(last_panel, strip + across); ++panel)
                RBF_NAME(panel_weights)(job, first_row_panel, row_panel,
                                        rbf_minimum(last_row_panel, row_panel + down), first_panel,
                                        panel, strip, rbf_minimum(last_panel, strip + across),
                                        scratch, sums, of);
}

#define RBF_BLOCK_WEIGHTS(name, of)                                                                \
    RBF_FUNCTION __attribute__((noinline)) void RBF_NAME(name)(                                    \
        const RBF_NAME(gradient_job) * job, int64_t first_row_panel, int64_t last_row_panel,       \
        int64_t first_panel, int64_t last_panel, RBF_NAME(gradient_scratch) scratch,               \
        RBF_NAME(gradient_sums) sums) {                                                            \
        RBF_NAME(block_weights)                                                                    \
        (job, first_row_panel, last_row_panel, first_panel, last_panel, scratch, sums, of);        \
    }

RBF_BLOCK_WEIGHTS(kernel_weights, RBF_OF_KERNEL)
RBF_BLOCK_WEIGHTS(mixture_weights, RBF_OF_MIXTURE)
RBF_BLOCK_WEIGHTS(product_weights, RBF_OF_PRODUCT)
RBF_BLOCK_WEIGHTS(log_sum_weights, RBF_OF_LOG_SUM)
RBF_BLOCK_WEIGHTS(softmax_weights, RBF_OF_SOFTMAX)
#undef RBF_BLOCK_WEIGHTS
