/* Gradients of sum(G * K) with respect to x, y, gamma and amplitude: docs/gradients.md.
 *
 * G is given (n, m), or, for the product P = K W, as the factors of G = H W^T, with H = dL/dP (n,
 * p) and weights W (m, p); then there is the gradient of W too, K^T H. Of the log-sum-exp L of
 * logsum.h it is the same with exp(offset[j] - gamma[j] D[i, j] - L[i]) for K and one G a row.
 *
 * Nothing of size n * m is kept. For some row panels and one column block, D and E = exp(-gamma D)
 * are computed again, tile by tile, and the weights w[i, j] = 2 gamma[j] amplitude[j] G[i, j]
 * E[i, j] stored. Then, for two columns k of x and y at a time, one sweep over the column block
 * adds w * (y[j, k] - x[i, k]) to sums of dx that stay in registers and takes it from those of dy;
 * or, where nothing cancels, the sums are matrix products (gradient_products.h).
 *
 * Columns go in waves of blocks; in a wave the tasks are (row group) x (column block). A task has
 * its own partial sums of dy, dgamma and damplitude, which are added in the order of the groups
 * behind a barrier; sums of dx are kept for each block of a wave, and added in that order at the
 * end. Groups, blocks and waves depend on the shapes alone: the bits are the same for any number of
 * threads. Symmetric: only entries above the diagonal are computed, with G + G^T. Included once a
 * precision by instantiate.h.
 */
enum {
    RBF_NAME(GRADIENT_COLUMN_BYTES) = 4096,             /* a row of the weights of a column block */
    RBF_NAME(GRADIENT_BLOCK_BYTES) = 1 << 21,           /* the panels of a column block */
    RBF_NAME(GRADIENT_GROUPS) = 32,                     /* row groups at most */
    RBF_NAME(GRADIENT_FEW_ROWS) = 32,                   /* of a group at least */
    RBF_NAME(GRADIENT_ENOUGH_ROWS) = 512,               /* if tasks are many enough */
    RBF_NAME(GRADIENT_TASKS) = 32,                      /* tasks aimed at in a wave */
    RBF_NAME(SYMMETRIC_ROWS) = 256 / (int)sizeof(REAL), /* at once, at least */
    /* Of product_sums: row panels at once, bytes of a row of their weights; of so many entries one
     * may be close. */
    RBF_NAME(EXPANDED_ROW_PANELS) = 32,
    RBF_NAME(EXPANDED_BYTES) = 2048,
    RBF_NAME(CLOSE_SHARE) = 128,
/* Where x and y have many columns k, GRADIENT_DEEP and more: row panels at once, bytes of a row of
 * their weights, columns k taken at a time. High row panels: the weights of one fill half the
 * first-level cache, and many columns k pass by. Low ones: those of several and two columns k of
 * a short block share it, and each row panel passes by before the next two columns. */
#if RBF_TILE_ROWS == 8
    RBF_NAME(GRADIENT_DEEP) = 64,
    RBF_NAME(GRADIENT_ROW_PANELS) = 8,
    RBF_NAME(GRADIENT_DEEP_BYTES) = RBF_NAME(GRADIENT_COLUMN_BYTES),
    RBF_NAME(GRADIENT_DEPTH) = 64
#else
    RBF_NAME(GRADIENT_DEEP) = 32,
    RBF_NAME(GRADIENT_ROW_PANELS) = 4,
    RBF_NAME(GRADIENT_DEEP_BYTES) = 1024,
    RBF_NAME(GRADIENT_DEPTH) = 2
#endif
};

/* Sums over the rows of a task, tasks [blocks_per_wave][groups] apart by `stride`: for each of
 * `parts` parts of a panel, all panels of the block beside each other, [part][panel][size]. No
 * data: not wanted. */
typedef struct {
    REAL *data;
    int64_t parts, size, stride;
} RBF_NAME(partial_sums);

typedef struct {
    RBF_NAME(points) points;
    rbf_matrix g;
    rbf_matrix weights; /* data NULL: g is (n, m), else (n, p) */
    rbf_vector gamma, amplitude;
    rbf_vector log_sums, offset;         /* (n,), (m,): of a log-sum-exp, if log_sums has data */
    REAL *dx, *dy, *dgamma, *damplitude; /* (n,d), (m,d), (m,), (m,) in C order; NULL: not wanted */
    REAL *dweights;                      /* (m, p) */
    int symmetric;
    int by_products; /* product_sums instead of difference_range, where it can be */
    int64_t panels_per_block, blocks_per_wave;
    int64_t row_panels_per_group, groups, row_panels_at_once;
    REAL *packed_x; /* [row_panels][depth][RBF_TILE_ROWS]: as points has it, but not expanded */
    REAL *paired_y; /* [blocks][pairs of columns k][panels_per_block][2][COLUMNS] */
    REAL *product_x, *product_y;           /* see gradient_products.h; if by_products */
    RBF_NAME(close_entry) * close_entries; /* [threads][close_most] */
    int64_t close_most;
    RBF_NAME(coefficients) * coefficients; /* [panels], and those of gamma 1 */
    REAL *thread_space;                    /* [threads][thread_stride]: see gradient_scratch */
    int64_t thread_stride;
    REAL *packed_weights; /* [panels][p][COLUMNS] */
    REAL *offsets;        /* [panels][COLUMNS] */
    REAL *dx_sums;        /* [blocks_per_wave][row_panels][depth][RBF_TILE_ROWS]; by_products:
                             [blocks_per_wave][row_panels][RBF_TILE_ROWS][depth] */
    RBF_NAME(partial_sums) dy_partial;       /* parts: pairs of columns k, [2][COLUMNS] */
    RBF_NAME(partial_sums) dweights_partial; /* one part, [p][COLUMNS] */
    RBF_NAME(partial_sums) column_partial;   /* one part, [2][COLUMNS] */
} RBF_NAME(gradient_job);

/* The pieces of a thread's own memory. */
typedef struct {
    REAL *weights; /* [row_panels_at_once][panels_per_block][RBF_TILE_ROWS][COLUMNS] */
    REAL *g_rows;  /* [row_panels_at_once][p][RBF_TILE_ROWS], of H; [WHOLE_ROWS][COLUMNS] */
    /* Of product_sums: */
    REAL *dx_tiles;    /* [row_panels_at_once][RBF_TILE_ROWS][COLUMNS] */
    REAL *row_sums;    /* [row_panels_at_once][WHOLE_ROWS] */
    REAL *column_sums; /* [panels_per_block][COLUMNS] */
    RBF_NAME(close_entries) * close;
} RBF_NAME(gradient_scratch);

/* What one task adds to, for its column block; NULL: not wanted. */
typedef struct {
    REAL *dx; /* as dx_sums, of one block */
    REAL *dy, *dweights, *column_sums;
} RBF_NAME(gradient_sums);

/* G of one tile into tile[][COLUMNS], zero outside of the matrix. */
RBF_INLINE void RBF_NAME(gather_gradient)(rbf_matrix g, int64_t row, int64_t column, int64_t rows,
                                          int64_t columns, REAL tile[RBF_TILE_ROWS][COLUMNS]) {
    int64_t i, j;
    memset(tile, 0, sizeof(REAL) * RBF_TILE_ROWS * COLUMNS);
    for (i = 0; i < rows; ++i) {
        const char *source = g.data + (row + i) * g.row_stride + column * g.column_stride;
        for (j = 0; j < columns; ++j)
            tile[i][j] = *(const REAL *)(source + j * g.column_stride);
    }
}

/* Symmetric: G + G^T above the diagonal of the matrix, zero elsewhere, of WHOLE_ROWS rows and
 * one panel. */
RBF_INLINE void RBF_NAME(add_transposed)(rbf_matrix g, int64_t row, int64_t column,
                                         REAL *RBF_RESTRICT to) {
    const int64_t n = g.rows, item = (int64_t)sizeof(REAL);
    const int64_t rows = RBF_NAME(WHOLE_ROWS);
    int64_t i, j;
    if (row + rows <= n && column + COLUMNS <= n && g.column_stride == item) {
        int r, v;
        for (i = 0; i < rows; i += LANES) {
            RBF_UNROLL
            for (v = 0; v < RBF_TILE_VECTORS; ++v) {
                const char *across =
                    g.data + (column + v * LANES) * g.row_stride + (row + i) * item;
                const char *along = g.data + (row + i) * g.row_stride + (column + v * LANES) * item;
                VECTOR square[RBF_NAME(LANES)];
                RBF_UNROLL
                for (r = 0; r < LANES; ++r)
                    square[r] = RBF_NAME(load_unaligned)((const REAL *)(across + r * g.row_stride));
                RBF_NAME(transpose)(square);
                RBF_UNROLL
                for (r = 0; r < LANES; ++r)
                    RBF_NAME(store)
                (to + (i + r) * COLUMNS + v * LANES,
                 square[r] + RBF_NAME(load_unaligned)((const REAL *)(along + r * g.row_stride)));
            }
        }
    } else {
        for (i = 0; i < rows; ++i)
            for (j = 0; j < COLUMNS; ++j)
                to[i * COLUMNS + j] =
                    row + i < n && column + j < n
                        ? *(const REAL *)(g.data + (row + i) * g.row_stride +
                                          (column + j) * g.column_stride) +
                              *(const REAL *)(g.data + (column + j) * g.row_stride +
                                              (row + i) * g.column_stride)
                        : 0;
    }
    if (column <= row + rows - 1)
        for (i = 0; i < rows; ++i)
            for (j = 0; j < COLUMNS && column + j <= row + i; ++j)
                to[i * COLUMNS + j] = 0;
}

/* Asks for the piece of G that the next panel will read, or the next row panel, whichever comes
 * sooner: pieces of many rows, which no processor foresees. To the second-level cache, since much
 * else passes the first until then. Symmetric: the row panels of SYMMETRIC_ROWS share the rows of G
 * below the diagonal, each of which lies in a page of its own. */
RBF_INLINE void RBF_NAME(fetch_gradient)(const RBF_NAME(gradient_job) * job, int64_t row,
                                         int64_t column, const int symmetric) {
    const int64_t item = (int64_t)sizeof(REAL), width = COLUMNS * item;
    const int64_t stride = job->g.row_stride;
    /* The last byte of a line's worth: where rows begin within lines, the piece before this one
     * has asked for the line that this one begins in. */
    const char *g = job->g.data + row * stride + column * item + RBF_ALIGNMENT - 1;
    int64_t i, j;
    if (symmetric) {
        const int64_t rows = RBF_NAME(SYMMETRIC_ROWS), within = row % rows / RBF_TILE_ROWS;
        const int64_t share = rbf_maximum(1, COLUMNS * RBF_TILE_ROWS / rows);
        const char *below = job->g.data + (column + COLUMNS + within * share) * stride +
                            (row - row % rows) * item + RBF_ALIGNMENT - 1;
        for (i = 0; i < share; ++i)
            for (j = 0; j < rows * item; j += RBF_ALIGNMENT)
                __builtin_prefetch(below + i * stride + j, 0, 2);
    }
    g += job->row_panels_at_once > 1 ? width : RBF_TILE_ROWS * stride;
    for (i = 0; i < RBF_TILE_ROWS; ++i)
        for (j = 0; j < width; j += RBF_ALIGNMENT)
            __builtin_prefetch(g + i * stride + j, 0, 2);
}

/* G = H W^T of one tile. */
RBF_INLINE void RBF_NAME(multiply_gradient)(int64_t p, const REAL *RBF_RESTRICT h,
                                            const REAL *RBF_RESTRICT weights,
                                            REAL g[RBF_TILE_ROWS][COLUMNS]) {
    VECTOR tile[RBF_TILE_ROWS][RBF_TILE_VECTORS];
    int64_t q;
    int r, v;
    RBF_UNROLL
    for (r = 0; r < RBF_TILE_ROWS; ++r) {
        RBF_UNROLL
        for (v = 0; v < RBF_TILE_VECTORS; ++v)
            tile[r][v] = (VECTOR){0};
    }
    for (q = 0; q < p; ++q, h += RBF_TILE_ROWS, weights += COLUMNS) {
        RBF_UNROLL
        for (v = 0; v < RBF_TILE_VECTORS; ++v) {
            const VECTOR weight = RBF_NAME(load)(weights + v * LANES);
            RBF_OWN_BROADCAST(h);
            RBF_UNROLL
            for (r = 0; r < RBF_TILE_ROWS; ++r)
                tile[r][v] += weight * h[r];
        }
    }
    RBF_NAME(keep_tile)(tile, &g[0][0]);
}

/* Weights of one tile from G (or from rows of H; or, if symmetric, from G + G^T, in g_rows), its
 * share of -dgamma and of damplitude added to column_sums[2][COLUMNS], of dweights to
 * dweights[p][COLUMNS]; close entries to their list. */
RBF_INLINE void RBF_NAME(weight_tile)(const RBF_NAME(gradient_job) * job, int64_t row_panel,
                                      int64_t panel, const REAL *g_rows, REAL *weights,
                                      REAL *column_sums, REAL *dweights,
                                      RBF_NAME(close_entries) * close, const int log_sum) {
    const int64_t row = row_panel * RBF_TILE_ROWS, column = panel * COLUMNS;
    const int64_t rows = rbf_minimum(RBF_TILE_ROWS, job->points.x.rows - row);
    const int64_t columns = rbf_minimum(COLUMNS, job->points.y.rows - column);
    const RBF_NAME(coefficients) *c = job->coefficients + panel;
    /* Of a log-sum-exp gamma is applied before: behind the panels lie the coefficients of gamma 1.
     */
    const RBF_NAME(coefficients) *exponent = log_sum ? job->coefficients + job->points.panels : c;
    REAL gathered[RBF_TILE_ROWS][RBF_NAME(COLUMNS)] __attribute__((aligned(RBF_ALIGNMENT)));
    REAL e[RBF_TILE_ROWS][RBF_NAME(COLUMNS)] __attribute__((aligned(RBF_ALIGNMENT)));
    REAL log_sums[RBF_TILE_ROWS];
    const char *g = (const char *)gathered;
    int64_t g_stride = COLUMNS * (int64_t)sizeof(REAL);
    VECTOR tile[RBF_TILE_ROWS][RBF_TILE_VECTORS];
    const int special = !log_sum && __builtin_expect(c->special, 0);
    int r, v, i, j;
    if (log_sum) {
        for (i = 0; i < RBF_TILE_ROWS; ++i) {
            const int64_t from = rbf_minimum(row + i, job->points.x.rows - 1);
            const REAL value = *(const REAL *)(job->g.data + from * job->g.row_stride);
            log_sums[i] = RBF_NAME(entry)(job->log_sums, from);
            for (j = 0; j < COLUMNS; ++j)
                gathered[i][j] = value;
        }
    } else if (job->weights.data) {
        RBF_NAME(multiply_gradient)
        (job->weights.columns, g_rows, job->packed_weights + panel * job->weights.columns * COLUMNS,
         gathered);
    } else if (job->symmetric) {
        g = (const char *)g_rows;
        RBF_NAME(fetch_gradient)(job, row, column, 1);
    } else if (rows == RBF_TILE_ROWS && columns == COLUMNS &&
               job->g.column_stride == (int64_t)sizeof(REAL)) {
        g = job->g.data + row * job->g.row_stride + column * (int64_t)sizeof(REAL);
        g_stride = job->g.row_stride;
        RBF_NAME(fetch_gradient)(job, row, column, 0);
    } else {
        RBF_NAME(gather_gradient)(job->g, row, column, rows, columns, gathered);
    }
    RBF_NAME(distances)(&job->points, row_panel, panel, tile, RBF_SUM_CHUNK, close);
    if (special) {
        memcpy(e, tile, sizeof e);
        for (i = 0; i < RBF_TILE_ROWS; ++i)
            for (j = 0; j < COLUMNS; ++j)
                e[i][j] = RBF_NAME(library_exponential)(-c->gamma[j] * e[i][j]);
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
        VECTOR gamma_sum = {0}, amplitude_sum = {0}, side[RBF_EXPONENTIALS];
        RBF_UNROLL
        for (r = 0; r < RBF_TILE_ROWS; ++r) {
            const VECTOR distance = tile[r][v];
            VECTOR weight;
            if (r % RBF_EXPONENTIALS == 0) {
                RBF_UNROLL
                for (i = 0; i < RBF_EXPONENTIALS; ++i) {
                    side[i] = tile[r + i][v];
                    if (log_sum) {
                        const VECTOR offset = RBF_NAME(load)(job->offsets + column + v * LANES);
                        side[i] = log_sums[r + i] - offset + gamma * side[i];
                    }
                }
                RBF_NAME(exponentials)(side, RBF_EXPONENTIALS, rate, rate_low, limit, shift);
            }
            weight = side[r % RBF_EXPONENTIALS] * unit;
            if (special)
                weight = RBF_NAME(load)(&e[r][v * LANES]);
            if (dweights)
                RBF_NAME(store)(&e[r][v * LANES], r < rows ? weight : (VECTOR){0});
            weight *= RBF_NAME(load_unaligned)((const REAL *)(g + r * g_stride) + v * LANES);
            if (r < rows) {
                amplitude_sum += weight;
                weight *= amplitude;
                gamma_sum += weight * distance;
                weight *= twice_gamma;
            } else {
                weight = (VECTOR){0};
            }
            RBF_NAME(store)(weights + r * COLUMNS + v * LANES, weight);
        }
        gamma_sum += RBF_NAME(load)(column_sums + v * LANES);
        amplitude_sum += RBF_NAME(load)(column_sums + COLUMNS + v * LANES);
        RBF_NAME(store)(column_sums + v * LANES, gamma_sum);
        RBF_NAME(store)(column_sums + COLUMNS + v * LANES, amplitude_sum);
    }
    if (dweights)
        RBF_NAME(multiply_columns)(&e[0][0], g_rows, job->weights.columns, dweights);
    /* Lanes that do not count hold 0 * E, which is NaN where E is not finite. */
    if (columns < COLUMNS)
        for (i = 0; i < RBF_TILE_ROWS; ++i)
            for (j = (int)columns; j < COLUMNS; ++j)
                weights[i * COLUMNS + j] = 0;
    if (job->symmetric && row + RBF_TILE_ROWS > column)
        for (i = 0; i < RBF_TILE_ROWS; ++i)
            for (j = 0; j < COLUMNS && column + j <= row + i; ++j)
                weights[i * COLUMNS + j] = 0;
}

/* For some panels and `width` (1 or 2) columns k of x and y: sum_j w (y - x) added to
 * dx[width][RBF_TILE_ROWS], or to dx[RBF_TILE_ROWS][dx_stride] where that is not 1, sum_i w (y - x)
 * taken from dy[panels][2][COLUMNS]. width and the flags are constants where this is inlined. */
RBF_INLINE void RBF_NAME(difference_sums)(int64_t panels, const REAL *RBF_RESTRICT weights,
                                          const REAL *RBF_RESTRICT rows,
                                          const REAL *RBF_RESTRICT columns, REAL *RBF_RESTRICT dx,
                                          int64_t dx_stride, REAL *RBF_RESTRICT dy, const int width,
                                          const int want_dx, const int want_dy) {
    /* As many sums as fill vectors: those behind the last one stay zero. */
    VECTOR sums[2 * RBF_NAME(WHOLE_ROWS)];
    int64_t panel, i;
    int q, r, v;
    RBF_UNROLL
    for (i = 0; i < 2 * RBF_NAME(WHOLE_ROWS); ++i)
        sums[i] = (VECTOR){0};
    for (panel = 0; panel < panels; ++panel) {
        RBF_UNROLL
        for (v = 0; v < RBF_TILE_VECTORS; ++v) {
            VECTOR weight[RBF_TILE_ROWS];
            RBF_UNROLL
            for (r = 0; r < RBF_TILE_ROWS; ++r) {
                weight[r] = RBF_NAME(load)(weights + r * COLUMNS + v * LANES);
                RBF_KEEP(weight[r]);
            }
            RBF_OWN_BROADCAST(rows);
            RBF_UNROLL
            for (q = 0; q < width; ++q) {
                const VECTOR column = RBF_NAME(load)(columns + q * COLUMNS + v * LANES);
                VECTOR column_sum = {0};
                if (want_dy)
                    column_sum = RBF_NAME(load)(dy + q * COLUMNS + v * LANES);
                RBF_UNROLL
                for (r = 0; r < RBF_TILE_ROWS; ++r) {
                    const VECTOR difference = column - rows[q * RBF_TILE_ROWS + r];
                    if (want_dx)
                        sums[q * RBF_TILE_ROWS + r] += weight[r] * difference;
                    if (want_dy)
                        column_sum -= weight[r] * difference;
                }
                if (want_dy)
                    RBF_NAME(store)(dy + q * COLUMNS + v * LANES, column_sum);
            }
        }
        weights += RBF_TILE_ROWS * COLUMNS;
        columns += 2 * COLUMNS;
        if (want_dy)
            dy += 2 * COLUMNS;
    }
    if (want_dx) {
        REAL total[2 * RBF_NAME(WHOLE_ROWS)] __attribute__((aligned(RBF_ALIGNMENT)));
        RBF_UNROLL
        for (i = 0; i < width * RBF_TILE_ROWS; i += LANES)
            RBF_NAME(store)(total + i, RBF_NAME(sum_lanes)(sums + i));
        if (dx_stride == 1)
            for (i = 0; i < width * RBF_TILE_ROWS; ++i)
                dx[i] += total[i];
        else
            for (r = 0; r < RBF_TILE_ROWS; ++r)
                for (q = 0; q < width; ++q)
                    dx[r * dx_stride + q] += total[q * RBF_TILE_ROWS + r];
    }
}

/* All columns k in a range, of one row panel and a column block; pairs of columns of y and dy are
 * `pair_stride` apart. */
RBF_INLINE void RBF_NAME(difference_range)(int64_t first, int64_t last, int64_t panels,
                                           int64_t pair_stride, const REAL *weights,
                                           const REAL *rows, const REAL *columns, REAL *dx,
                                           int64_t dx_stride, REAL *dy, const int want_dx,
                                           const int want_dy) {
    int64_t k;
    for (k = first; k < last; k += 2) {
        const REAL *x = rows + k * RBF_TILE_ROWS, *y = columns + k / 2 * pair_stride;
        REAL *to_x = want_dx ? dx + (dx_stride == 1 ? k * RBF_TILE_ROWS : k) : NULL;
        REAL *to_y = want_dy ? dy + k / 2 * pair_stride : NULL;
        if (k + 1 < last)
            RBF_NAME(difference_sums)(panels, weights, x, y, to_x, dx_stride, to_y, 2, want_dx,
                                      want_dy);
        else
            RBF_NAME(difference_sums)(panels, weights, x, y, to_x, dx_stride, to_y, 1, want_dx,
                                      want_dy);
    }
}

/* Where the weight of an entry is, among those of some row panels and a column block. */
RBF_INLINE REAL *RBF_NAME(weight_of)(const RBF_NAME(gradient_job) * job, int64_t first_row_panel,
                                     int64_t first_panel, RBF_NAME(gradient_scratch) scratch,
                                     const RBF_NAME(close_entry) * entry) {
    const int64_t row = entry->row - first_row_panel * RBF_TILE_ROWS;
    const int64_t column = entry->column - first_panel * COLUMNS;
    const int64_t tile = row / RBF_TILE_ROWS * job->panels_per_block + column / COLUMNS;
    return scratch.weights + (tile * RBF_TILE_ROWS + row % RBF_TILE_ROWS) * COLUMNS +
           column % COLUMNS;
}

/* Where column k of dy is, of a column of a block. */
RBF_INLINE int64_t RBF_NAME(place_of_dy)(const RBF_NAME(gradient_job) * job, int64_t k,
                                         int64_t column) {
    return ((k / 2 * job->panels_per_block + column / COLUMNS) * 2 + k % 2) * COLUMNS +
           column % COLUMNS;
}

/* Where column k of the first row of a row panel is in product_x. */
RBF_INLINE REAL *RBF_NAME(product_piece)(const RBF_NAME(gradient_job) * job, int64_t row_panel,
                                         int64_t k) {
    const int64_t pieces = rbf_ceiling_division(job->points.x.columns, RBF_TILE_ROWS);
    return job->product_x +
           (row_panel * pieces + k / RBF_TILE_ROWS) * RBF_TILE_ROWS * RBF_TILE_ROWS +
           k % RBF_TILE_ROWS;
}

/* w (y - x) of a close entry added to the sums of dx and taken from those of dy. */
RBF_FUNCTION void RBF_NAME(add_close_entry)(const RBF_NAME(gradient_job) * job, int64_t first_panel,
                                            const RBF_NAME(close_entry) * entry,
                                            RBF_NAME(gradient_sums) sums) {
    const rbf_matrix x = job->points.x, y = job->points.y;
    const int64_t column = entry->column - first_panel * COLUMNS;
    int64_t k;
    for (k = 0; k < x.columns; ++k) {
        const REAL from = *(const REAL *)(x.data + entry->row * x.row_stride + k * x.column_stride);
        const REAL to =
            *(const REAL *)(y.data + entry->column * y.row_stride + k * y.column_stride);
        const REAL share = entry->weight * (to - from);
        if (sums.dx)
            sums.dx[entry->row * x.columns + k] += share;
        if (sums.dy)
            sums.dy[RBF_NAME(place_of_dy)(job, k, column)] -= share;
    }
}

/* What difference_range adds for all columns k of some row panels and a column block, by matrix
 * products, close entries one by one. Returns 0, and leaves the weights as they are, where the
 * close ones are too many or a weight is not finite. */
RBF_FUNCTION __attribute__((noinline)) int
RBF_NAME(product_sums)(const RBF_NAME(gradient_job) * job, int64_t first_row_panel,
                       int64_t last_row_panel, int64_t first_panel, int64_t last_panel,
                       RBF_NAME(gradient_scratch) scratch, RBF_NAME(gradient_sums) sums) {
    const int64_t depth = job->points.x.columns, row_panels = last_row_panel - first_row_panel;
    const int64_t tile = RBF_TILE_ROWS * COLUMNS, row_weights = job->panels_per_block * tile;
    const int64_t skipped =
        job->symmetric
            ? rbf_maximum(0, (first_row_panel * RBF_TILE_ROWS + 1) / COLUMNS - first_panel)
            : 0;
    const int64_t panels = last_panel - first_panel - skipped;
    const REAL *weights = scratch.weights + skipped * tile;
    const RBF_NAME(close_entries) close = *scratch.close;
    const int64_t product_x_stride =
        RBF_NAME(product_piece)(job, 1, 0) - RBF_NAME(product_piece)(job, 0, 0);
    REAL total = 0;
    int64_t at_once, panel, k, first, i;
    int r, v;
    if (close.count > close.most)
        return 0;
    for (i = 0; i < close.count; ++i) {
        REAL *weight =
            RBF_NAME(weight_of)(job, first_row_panel, first_panel, scratch, close.entries + i);
        close.entries[i].weight = *weight;
        *weight = 0;
    }
    memset(scratch.column_sums, 0, (size_t)(panels * COLUMNS) * sizeof(REAL));
    for (at_once = 0; at_once < row_panels; ++at_once)
        RBF_NAME(weight_sums)
    (panels, weights + at_once * row_weights, scratch.row_sums + at_once * RBF_NAME(WHOLE_ROWS),
     scratch.column_sums);
    for (i = 0; i < row_panels * RBF_NAME(WHOLE_ROWS); ++i)
        total += scratch.row_sums[i] - scratch.row_sums[i];
    if (total != 0) {
        for (i = 0; i < close.count; ++i)
            *RBF_NAME(weight_of)(job, first_row_panel, first_panel, scratch, close.entries + i) =
                close.entries[i].weight;
        return 0;
    }
    for (first = 0; sums.dx && first < depth; first += COLUMNS) {
        const int64_t chunks = rbf_ceiling_division(depth, COLUMNS);
        const int64_t end = rbf_minimum(first + COLUMNS, depth);
        const REAL *columns = job->product_y + (first_panel * chunks +
                                                first / COLUMNS * job->panels_per_block + skipped) *
                                                   COLUMNS * COLUMNS;
        memset(scratch.dx_tiles, 0, (size_t)(row_panels * tile) * sizeof(REAL));
        for (panel = 0; panel < panels; panel += RBF_NAME(ROW_PRODUCT_PANELS))
            for (at_once = 0; at_once < row_panels; ++at_once)
                RBF_NAME(add_row_products)
        (rbf_minimum(RBF_NAME(ROW_PRODUCT_PANELS), panels - panel),
         weights + at_once * row_weights + panel * tile, columns + panel * COLUMNS * COLUMNS,
         scratch.dx_tiles + at_once * tile);
        for (at_once = 0; at_once < row_panels; ++at_once) {
            const int64_t row_panel = first_row_panel + at_once;
            const REAL *added = scratch.dx_tiles + at_once * tile;
            const REAL *row_sums = scratch.row_sums + at_once * RBF_NAME(WHOLE_ROWS);
            REAL *dx = sums.dx + row_panel * RBF_TILE_ROWS * depth + first;
            for (k = first; k < end; k += RBF_TILE_ROWS)
                RBF_NAME(add_row_sums)
            (dx + k - first, depth, rbf_minimum(RBF_TILE_ROWS, end - k), added + k - first,
             RBF_NAME(product_piece)(job, row_panel, k), row_sums);
        }
    }
    for (panel = 0; sums.dy && panel < panels; ++panel) {
        const REAL *y = RBF_NAME(packed_panel)(&job->points, first_panel + skipped + panel);
        const REAL *column_sums = scratch.column_sums + panel * COLUMNS;
        for (first = 0; first < depth; first += RBF_TILE_ROWS) {
            REAL added[RBF_TILE_ROWS * RBF_NAME(COLUMNS)] __attribute__((aligned(RBF_ALIGNMENT)));
            RBF_NAME(column_products)
            (row_panels, RBF_NAME(product_piece)(job, first_row_panel, first), product_x_stride,
             weights + panel * tile, row_weights, added);
            for (r = 0; r < rbf_minimum(RBF_TILE_ROWS, depth - first); ++r) {
                REAL *dy =
                    sums.dy + RBF_NAME(place_of_dy)(job, first + r, (skipped + panel) * COLUMNS);
                for (v = 0; v < COLUMNS; v += LANES) {
                    const VECTOR column = RBF_NAME(load)(y + (first + r) * COLUMNS + v);
                    const VECTOR share = RBF_NAME(load)(added + r * COLUMNS + v) -
                                         column / RBF_EXPANDED_Y * RBF_NAME(load)(column_sums + v);
                    RBF_NAME(store)(dy + v, RBF_NAME(load)(dy + v) + share);
                }
            }
        }
    }
    for (i = 0; i < close.count; ++i)
        RBF_NAME(add_close_entry)(job, first_panel, close.entries + i, sums);
    return 1;
}

/* Some row panels against one column block. */
RBF_FUNCTION void RBF_NAME(gradient_block)(const RBF_NAME(gradient_job) * job,
                                           int64_t first_row_panel, int64_t last_row_panel,
                                           int64_t first_panel, int64_t last_panel,
                                           RBF_NAME(gradient_scratch) scratch,
                                           RBF_NAME(gradient_sums) sums) {
    const int64_t depth = job->points.x.columns, p = job->weights.columns;
    const int64_t dx_stride = job->by_products ? depth : 1;
    const int64_t pair = 2 * COLUMNS, stride = job->panels_per_block * pair;
    const REAL *paired_y = job->paired_y + first_panel * ((depth + 1) / 2) * pair;
    const int64_t tile = RBF_TILE_ROWS * COLUMNS, row_weights = job->panels_per_block * tile;
    /* Known to be NULL, and the code the shorter, where it always is. */
    RBF_NAME(close_entries) *close = RBF_MANY_REGISTERS && job->by_products ? scratch.close : NULL;
    int64_t row_panel, panel, k;
    scratch.close->count = 0;
    if (job->weights.data)
        for (row_panel = first_row_panel; row_panel < last_row_panel; ++row_panel)
            RBF_NAME(pack_rows)
    (scratch.g_rows + (row_panel - first_row_panel) * p * RBF_TILE_ROWS, job->g,
     row_panel * RBF_TILE_ROWS, RBF_TILE_ROWS);
    for (panel = first_panel; panel < last_panel; ++panel) {
        const int64_t in_block = panel - first_panel;
        REAL *column_sums = sums.column_sums + in_block * 2 * COLUMNS;
        REAL *dweights = sums.dweights ? sums.dweights + in_block * p * COLUMNS : NULL;
        for (row_panel = first_row_panel; row_panel < last_row_panel; ++row_panel) {
            const int64_t at_once = row_panel - first_row_panel;
            REAL *weights = scratch.weights + at_once * row_weights + in_block * tile;
            /* Symmetric: tiles wholly on or below the diagonal hold nothing that counts. */
            if (job->symmetric && (panel + 1) * COLUMNS <= row_panel * RBF_TILE_ROWS + 1) {
                if (!close)
                    break;
                memset(weights, 0, (size_t)tile * sizeof(REAL));
                continue;
            }
            if (job->symmetric) {
                const int64_t within = at_once % (RBF_NAME(WHOLE_ROWS) / RBF_TILE_ROWS);
                if (within == 0)
                    RBF_NAME(add_transposed)
                (job->g, row_panel * RBF_TILE_ROWS, panel * COLUMNS, scratch.g_rows);
                RBF_NAME(weight_tile)
                (job, row_panel, panel, scratch.g_rows + within * tile, weights, column_sums, NULL,
                 close, 0);
            } else if (job->log_sums.data) {
                RBF_NAME(weight_tile)(job, row_panel, panel, NULL, weights, column_sums, NULL,
                                      close, 1);
            } else {
                RBF_NAME(weight_tile)
                (job, row_panel, panel, scratch.g_rows + at_once * p * RBF_TILE_ROWS, weights,
                 column_sums, dweights, close, 0);
            }
        }
    }
    if (close && (sums.dx || sums.dy) &&
        RBF_NAME(product_sums)(job, first_row_panel, last_row_panel, first_panel, last_panel,
                               scratch, sums))
        return;
    for (k = 0; k < depth; k += RBF_NAME(GRADIENT_DEPTH)) {
        const int64_t end = rbf_minimum(depth, k + RBF_NAME(GRADIENT_DEPTH));
        for (row_panel = first_row_panel; row_panel < last_row_panel; ++row_panel) {
            const int64_t from =
                job->symmetric ? rbf_maximum(first_panel, (row_panel * RBF_TILE_ROWS + 1) / COLUMNS)
                               : first_panel;
            const int64_t panels = last_panel - from, skipped = from - first_panel;
            const REAL *weights =
                scratch.weights + skipped * tile + (row_panel - first_row_panel) * row_weights;
            const REAL *x = job->packed_x + row_panel * RBF_TILE_ROWS * depth;
            const REAL *y = paired_y + skipped * pair;
            REAL *dx = sums.dx ? sums.dx + row_panel * RBF_TILE_ROWS * depth : NULL;
            REAL *dy = sums.dy ? sums.dy + skipped * pair : NULL;
            if (dx && dy)
                RBF_NAME(difference_range)(k, end, panels, stride, weights, x, y, dx, dx_stride, dy,
                                           1, 1);
            else if (dx)
                RBF_NAME(difference_range)(k, end, panels, stride, weights, x, y, dx, dx_stride, dy,
                                           1, 0);
            else if (dy)
                RBF_NAME(difference_range)(k, end, panels, stride, weights, x, y, dx, dx_stride, dy,
                                           0, 1);
        }
    }
}

/* Where those of a part of a panel begin, of the block's first group. */
RBF_INLINE REAL *RBF_NAME(first_sums)(const RBF_NAME(gradient_job) * job,
                                      RBF_NAME(partial_sums) partial, int64_t block, int64_t part,
                                      int64_t panel) {
    return partial.data + block * job->groups * partial.stride +
           (part * job->panels_per_block + panel % job->panels_per_block) * partial.size;
}

/* Partial sums of one panel, of the given block of the wave, added over the groups in their order
 * (into the first), then to rows of target (m, width). */
RBF_FUNCTION void RBF_NAME(reduce_panel)(const RBF_NAME(gradient_job) * job, int64_t panel,
                                         int64_t block, RBF_NAME(partial_sums) partial,
                                         int64_t width, REAL *target) {
    const int64_t columns = rbf_minimum(COLUMNS, job->points.y.rows - panel * COLUMNS);
    const int64_t within = partial.size / COLUMNS;
    int64_t part, group, k, j;
    for (part = 0; part < partial.parts; ++part) {
        REAL *sum = RBF_NAME(first_sums)(job, partial, block, part, panel);
        REAL *to = target + panel * COLUMNS * width + part * within;
        for (group = 1; group < job->groups; ++group) {
            const REAL *more = sum + group * partial.stride;
            for (j = 0; j < partial.size; ++j)
                sum[j] += more[j];
        }
        for (k = 0; k < rbf_minimum(within, width - part * within); ++k)
            for (j = 0; j < columns; ++j)
                to[j * width + k] += sum[k * COLUMNS + j];
    }
}

/* All partial sums of one panel, of the given block of the wave, into the results. */
RBF_FUNCTION void RBF_NAME(reduce_columns)(const RBF_NAME(gradient_job) * job, int64_t panel,
                                           int64_t block) {
    const RBF_NAME(partial_sums) partial = job->column_partial;
    const int64_t columns = rbf_minimum(COLUMNS, job->points.y.rows - panel * COLUMNS);
    const REAL *sums = RBF_NAME(first_sums)(job, partial, block, 0, panel);
    int64_t group, j;
    for (group = 0; group < job->groups; ++group, sums += partial.stride)
        for (j = 0; j < columns; ++j) {
            if (job->dgamma)
                job->dgamma[panel * COLUMNS + j] -= sums[j];
            if (job->damplitude)
                job->damplitude[panel * COLUMNS + j] += sums[COLUMNS + j];
        }
    if (job->dy_partial.data)
        RBF_NAME(reduce_panel)
    (job, panel, block, job->dy_partial, job->points.y.columns, job->symmetric ? job->dx : job->dy);
    if (job->dweights_partial.data)
        RBF_NAME(reduce_panel)
    (job, panel, block, job->dweights_partial, job->weights.columns, job->dweights);
}

/* Those of a task, cleared; NULL if they are not wanted. */
RBF_INLINE REAL *RBF_NAME(clear_sums)(const RBF_NAME(gradient_job) * job,
                                      RBF_NAME(partial_sums) partial, int64_t task) {
    REAL *sums = partial.data;
    if (sums != NULL) {
        sums += task * partial.stride;
        memset(sums, 0,
               (size_t)(partial.parts * job->panels_per_block * partial.size) * sizeof(REAL));
    }
    return sums;
}

/* Columns k two by two beside those of the block's other panels, in the order of the sweeps. */
RBF_INLINE void RBF_NAME(pair_columns)(const RBF_NAME(gradient_job) * job, int64_t panel,
                                       const REAL *from) {
    const int64_t depth = job->points.y.columns, pairs = (depth + 1) / 2, pair = 2 * COLUMNS;
    const int64_t in_block = panel % job->panels_per_block;
    REAL *to = job->paired_y + ((panel - in_block) * pairs + in_block) * pair;
    int64_t k;
    for (k = 0; k < depth; k += 2, from += pair, to += job->panels_per_block * pair)
        memcpy(to, from, (size_t)(rbf_minimum(2, depth - k) * COLUMNS) * sizeof(REAL));
}

RBF_FUNCTION void RBF_NAME(gradient_body)(void *argument) {
    /* Each thread has its own: what it reads for every tile lies apart from what others write. */
    const RBF_NAME(gradient_job) own = *(const RBF_NAME(gradient_job) *)argument, *job = &own;
    const int64_t n = job->points.x.rows, m = job->points.y.rows, depth = job->points.x.columns;
    const int64_t blocks = rbf_ceiling_division(job->points.panels, job->panels_per_block);
    const int64_t p = job->weights.columns;
    const int64_t dx_rows = job->points.row_panels * RBF_TILE_ROWS;
    RBF_NAME(gradient_scratch) scratch;
    RBF_NAME(close_entries) close;
    int64_t panel, wave, task;
    scratch.weights = job->thread_space + rbf_thread_number() * job->thread_stride;
    scratch.dx_tiles =
        scratch.weights + job->row_panels_at_once * job->panels_per_block * RBF_TILE_ROWS * COLUMNS;
    scratch.column_sums = scratch.dx_tiles + job->row_panels_at_once * RBF_TILE_ROWS * COLUMNS;
    scratch.row_sums = scratch.column_sums + job->panels_per_block * COLUMNS;
    scratch.g_rows = scratch.row_sums + job->row_panels_at_once * RBF_NAME(WHOLE_ROWS);
    close.entries = job->close_entries + rbf_thread_number() * job->close_most;
    close.most = job->close_most;
    scratch.close = &close;
    RBF_OMP(for schedule(static) nowait)
    for (panel = 0; panel < job->points.row_panels; ++panel) {
        REAL *packed = RBF_NAME(packed_row_panel)(&job->points, panel);
        RBF_NAME(pack_rows)(packed, job->points.x, panel * RBF_TILE_ROWS, RBF_TILE_ROWS);
        if (job->points.expanded)
            memcpy(job->packed_x + panel * depth * RBF_TILE_ROWS, packed,
                   (size_t)(depth * RBF_TILE_ROWS) * sizeof(REAL));
        RBF_NAME(expand_x)(&job->points, panel);
        if (job->by_products)
            RBF_NAME(pack_product_rows)(&job->points, panel,
                                        RBF_NAME(product_piece)(job, panel, 0));
    }
    RBF_OMP(for schedule(static))
    for (panel = 0; panel < job->points.panels; ++panel) {
        REAL *packed_y = RBF_NAME(packed_panel)(&job->points, panel);
        RBF_NAME(pack_rows)(packed_y, job->points.y, panel * COLUMNS, COLUMNS);
        if (job->paired_y)
            RBF_NAME(pair_columns)(job, panel, packed_y);
        RBF_NAME(expand_y)(&job->points, panel);
        if (job->by_products && job->paired_y) {
            const int64_t in_block = panel % job->panels_per_block, piece = COLUMNS * COLUMNS;
            RBF_NAME(pack_product_columns)
            (&job->points, panel,
             job->product_y +
                 ((panel - in_block) * rbf_ceiling_division(depth, COLUMNS) + in_block) * piece,
             job->panels_per_block * piece);
        }
        RBF_NAME(pack_coefficients)
        (job->coefficients + panel, job->gamma, job->amplitude, panel * COLUMNS, m);
        if (job->log_sums.data) {
            int64_t c;
            for (c = panel * COLUMNS; c < (panel + 1) * COLUMNS; ++c)
                job->offsets[c] = RBF_NAME(entry)(job->offset, rbf_minimum(c, m - 1));
        }
        if (job->weights.data) {
            REAL *packed = job->packed_weights + panel * p * COLUMNS;
            int64_t q, c;
            RBF_NAME(pack_rows)(packed, job->weights, panel * COLUMNS, COLUMNS);
            for (c = m - panel * COLUMNS; c < COLUMNS; ++c)
                for (q = 0; q < p; ++q)
                    packed[q * COLUMNS + c] = 0;
        }
    }
    for (wave = 0; wave < blocks; wave += job->blocks_per_wave) {
        const int64_t wave_blocks = rbf_minimum(job->blocks_per_wave, blocks - wave);
        const int64_t wave_panels = wave * job->panels_per_block;
        const int64_t wave_end =
            rbf_minimum(job->points.panels, wave_panels + wave_blocks * job->panels_per_block);
        RBF_OMP(for schedule(dynamic, 1))
        for (task = 0; task < wave_blocks * job->groups; ++task) {
            const int64_t block = task / job->groups, group = task % job->groups;
            const int64_t first = (wave + block) * job->panels_per_block;
            const int64_t last = rbf_minimum(job->points.panels, first + job->panels_per_block);
            int64_t row_panel = group * job->row_panels_per_group;
            int64_t end =
                rbf_minimum(job->points.row_panels, row_panel + job->row_panels_per_group);
            RBF_NAME(gradient_sums) sums;
            if (job->symmetric) /* the rows that the block's last column lies behind */
                end = rbf_minimum(end, rbf_ceiling_division(last * COLUMNS - 1, RBF_TILE_ROWS));
            sums.dx = job->dx_sums ? job->dx_sums + block * dx_rows * depth : NULL;
            sums.dy = RBF_NAME(clear_sums)(job, job->dy_partial, task);
            sums.dweights = RBF_NAME(clear_sums)(job, job->dweights_partial, task);
            sums.column_sums = RBF_NAME(clear_sums)(job, job->column_partial, task);
            for (; row_panel < end; row_panel += job->row_panels_at_once)
                RBF_NAME(gradient_block)
            (job, row_panel, rbf_minimum(end, row_panel + job->row_panels_at_once), first, last,
             scratch, sums);
        }
        RBF_OMP(for schedule(static))
        for (panel = wave_panels; panel < wave_end; ++panel)
            RBF_NAME(reduce_columns)(job, panel, (panel - wave_panels) / job->panels_per_block);
    }
    if (!job->dx)
        return;
    RBF_OMP(for schedule(static))
    for (task = 0; task < n; ++task) {
        const int64_t within = task % RBF_TILE_ROWS;
        const int64_t first = job->by_products ? task * depth : (task - within) * depth + within;
        const int64_t stride = job->by_products ? 1 : RBF_TILE_ROWS;
        REAL *dx = job->dx + task * depth;
        int64_t block, k;
        for (block = 0; block < job->blocks_per_wave; ++block) {
            const REAL *sums = job->dx_sums + block * dx_rows * depth + first;
            for (k = 0; k < depth; ++k)
                dx[k] += sums[k * stride];
        }
    }
}

/* Sum in double, so that one sum over all columns is no worse than those of a column. */
RBF_INLINE void RBF_NAME(store_total)(const REAL *entries, int64_t count, REAL *total) {
    double sum = 0;
    int64_t j;
    for (j = 0; j < count; ++j)
        sum += entries[j];
    *total = (REAL)sum;
}

RBF_INLINE void RBF_NAME(take_partial_sums)(const RBF_NAME(gradient_job) * job,
                                            rbf_workspace *space, RBF_NAME(partial_sums) * partial,
                                            int64_t parts, int64_t size, int threads) {
    partial->parts = parts;
    partial->size = size;
    partial->stride = rbf_apart(parts * job->panels_per_block * size, sizeof(REAL), threads);
    partial->data =
        (REAL *)rbf_take(space, job->blocks_per_wave * job->groups * partial->stride, sizeof(REAL));
}

/* What is common to both entries: job holds the inputs and the wanted outputs; dgamma and
 * damplitude point to one entry a column, or a single one where gamma or amplitude is a scalar. */
RBF_FUNCTION int RBF_NAME(run_gradient)(RBF_NAME(gradient_job) * job) {
    const int64_t n = job->points.x.rows, m = job->points.y.rows, depth = job->points.x.columns;
    const int64_t p = job->weights.columns;
    const double products = job->weights.data ? (job->dweights ? 2.0 : 1.0) * (double)p : 0;
    const double operations = (double)n * (double)m * (5.0 * (double)depth + products + 30) / LANES;
    const int threads = rbf_thread_count(job->symmetric ? operations / 2 : operations);
    const int deep = depth >= RBF_NAME(GRADIENT_DEEP),
              by_products = RBF_MANY_REGISTERS && deep && job->points.expanded;
    const int64_t symmetric_panels = RBF_NAME(SYMMETRIC_ROWS) / RBF_TILE_ROWS;
    const int want_dy = job->dy != NULL || (job->symmetric && job->dx != NULL);
    REAL *dgamma = job->dgamma, *damplitude = job->damplitude;
    rbf_workspace space = {NULL, 0, 0};
    rbf_storage storage;
    int64_t blocks, widest, block_bytes, column_bytes;
    int pass, c;
    if (job->symmetric && job->g.row_stride == (int64_t)sizeof(REAL)) {
        /* G + G^T is that of G^T too, which has whole rows. */
        job->g.row_stride = job->g.column_stride;
        job->g.column_stride = (int64_t)sizeof(REAL);
    }
    widest = rbf_maximum(rbf_maximum(depth, p), 1);
    block_bytes = widest * COLUMNS * (int64_t)sizeof(REAL);
    job->by_products = by_products;
    column_bytes = by_products ? RBF_NAME(EXPANDED_BYTES)
                   : deep      ? RBF_NAME(GRADIENT_DEEP_BYTES)
                               : RBF_NAME(GRADIENT_COLUMN_BYTES);
    job->panels_per_block = rbf_minimum(column_bytes / (int64_t)(COLUMNS * sizeof(REAL)),
                                        RBF_NAME(GRADIENT_BLOCK_BYTES) / block_bytes);
    if (job->symmetric) /* whose row panels come by so many at least */
        job->panels_per_block /= RBF_NAME(WHOLE_ROWS) / RBF_TILE_ROWS;
    blocks = rbf_ceiling_division(job->points.panels, rbf_maximum(1, job->panels_per_block));
    /* Of equal sizes, as far as that goes: a short one costs as many sums over lanes as a long one.
     */
    job->panels_per_block =
        rbf_maximum(1, rbf_ceiling_division(job->points.panels, rbf_maximum(1, blocks)));
    job->row_panels_at_once = by_products ? RBF_NAME(EXPANDED_ROW_PANELS)
                              : deep      ? RBF_NAME(GRADIENT_ROW_PANELS)
                                          : 1;
    job->groups =
        rbf_minimum(n / RBF_NAME(GRADIENT_FEW_ROWS),
                    rbf_ceiling_division(RBF_NAME(GRADIENT_TASKS) / 2, rbf_maximum(1, blocks)));
    job->groups = rbf_minimum(RBF_NAME(GRADIENT_GROUPS),
                              rbf_maximum(n / RBF_NAME(GRADIENT_ENOUGH_ROWS), job->groups));
    job->groups = rbf_maximum(1, job->groups);
    job->row_panels_per_group =
        rbf_maximum(1, rbf_ceiling_division(job->points.row_panels, job->groups));
    if (job->symmetric) /* in step with what fetch_gradient asks for */
        job->row_panels_per_group =
            rbf_ceiling_division(job->row_panels_per_group, symmetric_panels) * symmetric_panels;
    job->groups =
        rbf_maximum(1, rbf_ceiling_division(job->points.row_panels, job->row_panels_per_group));
    job->blocks_per_wave =
        rbf_maximum(1, rbf_minimum(blocks, RBF_NAME(GRADIENT_TASKS) / job->groups));
    if (job->symmetric)
        job->row_panels_at_once = rbf_maximum(job->row_panels_at_once, symmetric_panels);
    job->thread_stride = rbf_apart(
        job->row_panels_at_once * (((job->panels_per_block + 1) * COLUMNS + p) * RBF_TILE_ROWS +
                                   RBF_NAME(WHOLE_ROWS)) +
            job->panels_per_block * COLUMNS + (job->symmetric ? RBF_NAME(WHOLE_ROWS) * COLUMNS : 0),
        sizeof(REAL), threads);
    job->close_most = by_products * job->row_panels_at_once * job->panels_per_block *
                      RBF_TILE_ROWS * COLUMNS / RBF_NAME(CLOSE_SHARE);
    for (pass = 0; pass < 2; ++pass) {
        const size_t panel_row = COLUMNS * sizeof(REAL),
                     row_panel_row = RBF_TILE_ROWS * sizeof(REAL);
        RBF_NAME(take_points)(&job->points, &space);
        job->packed_x = (REAL *)rbf_take(
            &space, job->points.expanded ? job->points.row_panels * depth : 0, row_panel_row);
        if (job->dx || want_dy)
            job->paired_y = (REAL *)rbf_take(
                &space, blocks * job->panels_per_block * ((depth + 1) / 2), 2 * panel_row);
        if (by_products) {
            job->product_x = (REAL *)rbf_take(
                &space, job->points.row_panels * rbf_ceiling_division(depth, RBF_TILE_ROWS),
                RBF_TILE_ROWS * row_panel_row);
            if (job->dx || want_dy)
                job->product_y = (REAL *)rbf_take(
                    &space, blocks * job->panels_per_block * rbf_ceiling_division(depth, COLUMNS),
                    COLUMNS * panel_row);
        }
        job->close_entries = (RBF_NAME(close_entry) *)rbf_take(&space, job->close_most * threads,
                                                               sizeof(RBF_NAME(close_entry)));
        job->packed_weights = (REAL *)rbf_take(&space, job->points.panels * p, panel_row);
        job->offsets = (REAL *)rbf_take(&space, job->points.panels, panel_row);
        job->coefficients = (RBF_NAME(coefficients) *)rbf_take(&space, job->points.panels + 1,
                                                               sizeof(RBF_NAME(coefficients)));
        job->thread_space =
            (REAL *)rbf_take(&space, job->thread_stride, (size_t)threads * sizeof(REAL));
        RBF_NAME(take_partial_sums)(job, &space, &job->column_partial, 1, 2 * COLUMNS, threads);
        if (want_dy)
            RBF_NAME(take_partial_sums)
        (job, &space, &job->dy_partial, (depth + 1) / 2, 2 * COLUMNS, threads);
        if (job->dweights)
            RBF_NAME(take_partial_sums)
        (job, &space, &job->dweights_partial, 1, p * COLUMNS, threads);
        job->dx_sums = (REAL *)rbf_take(
            &space, job->dx ? job->blocks_per_wave * job->points.row_panels * depth : 0,
            row_panel_row);
        job->dgamma = (REAL *)rbf_take(&space, dgamma ? m : 0, sizeof(REAL));
        job->damplitude = (REAL *)rbf_take(&space, damplitude ? m : 0, sizeof(REAL));
        if (pass == 0 && rbf_acquire(&space, &storage) != RBF_OK)
            return RBF_NO_MEMORY;
    }
    for (c = 0; c < COLUMNS; ++c)
        RBF_NAME(set_coefficients)(job->coefficients + job->points.panels, c, 1, 1);
    /* A piece of no bytes is not NULL: what is not wanted must be. */
    if (!job->dx)
        job->dx_sums = NULL;
    else
        memset(job->dx_sums, 0,
               (size_t)(job->blocks_per_wave * job->points.row_panels * depth) * RBF_TILE_ROWS *
                   sizeof(REAL));
    if (!dgamma)
        job->dgamma = NULL;
    else
        memset(job->dgamma, 0, (size_t)m * sizeof(REAL));
    if (!damplitude)
        job->damplitude = NULL;
    else
        memset(job->damplitude, 0, (size_t)m * sizeof(REAL));
    if (job->dx)
        memset(job->dx, 0, (size_t)(n * depth) * sizeof(REAL));
    if (job->dy)
        memset(job->dy, 0, (size_t)(m * depth) * sizeof(REAL));
    if (job->dweights)
        memset(job->dweights, 0, (size_t)(m * p) * sizeof(REAL));
    RBF_NAME(find_centre)(&job->points);
    if (!job->points.expanded)
        job->packed_x = job->points.packed_x;
    if (n > 0 && m > 0)
        rbf_run(RBF_NAME(gradient_body), job, threads);
    if (job->symmetric && damplitude) {
        /* The diagonal of E is exp(0), or NaN where D is. */
        int64_t i, k;
        for (i = 0; i < n; ++i) {
            const rbf_matrix x = job->points.x, g = job->g;
            REAL distance = 0;
            for (k = 0; k < depth; ++k) {
                const REAL value = *(const REAL *)(x.data + i * x.row_stride + k * x.column_stride);
                distance += (value - value) * (value - value);
            }
            job->damplitude[i] +=
                *(const REAL *)(g.data + i * (g.row_stride + g.column_stride)) *
                RBF_NAME(library_exponential)(-RBF_NAME(entry)(job->gamma, 0) * distance);
        }
    }
    if (dgamma) {
        if (job->gamma.scalar)
            RBF_NAME(store_total)(job->dgamma, m, dgamma);
        else
            memcpy(dgamma, job->dgamma, (size_t)m * sizeof(REAL));
    }
    if (damplitude) {
        if (job->amplitude.scalar)
            RBF_NAME(store_total)(job->damplitude, m, damplitude);
        else
            memcpy(damplitude, job->damplitude, (size_t)m * sizeof(REAL));
    }
    rbf_release(&storage);
    return RBF_OK;
}

/* Of sum(G * K): dx (n,d), dy (m,d) in C order; dgamma and damplitude one entry a column, or a
 * single one where gamma or amplitude is a scalar. NULL for what is not wanted; with `symmetric`, y
 * is x, dy is NULL and dx is the whole gradient. Returns RBF_OK or RBF_NO_MEMORY. */
RBF_FUNCTION int RBF_NAME(rbf_gradient)(rbf_matrix x, rbf_matrix y, rbf_vector gamma,
                                        rbf_vector amplitude, rbf_matrix g, void *dx, void *dy,
                                        void *dgamma, void *damplitude, int symmetric) {
    RBF_NAME(gradient_job) job;
    memset(&job, 0, sizeof job);
    RBF_NAME(set_points)(&job.points, x, y);
    job.g = g;
    job.gamma = gamma;
    job.amplitude = amplitude;
    job.dx = (REAL *)dx;
    job.dy = (REAL *)dy;
    job.dgamma = (REAL *)dgamma;
    job.damplitude = (REAL *)damplitude;
    job.symmetric = symmetric;
    return RBF_NAME(run_gradient)(&job);
}

/* Of sum(H * (K W)), K without amplitude: as above, and dweights (m,p). */
RBF_FUNCTION int RBF_NAME(rbf_product_gradient)(rbf_matrix x, rbf_matrix y, rbf_vector gamma,
                                                rbf_matrix weights, rbf_matrix h, void *dx,
                                                void *dy, void *dgamma, void *dweights) {
    RBF_NAME(gradient_job) job;
    memset(&job, 0, sizeof job);
    RBF_NAME(set_points)(&job.points, x, y);
    job.g = h;
    job.gamma = gamma;
    job.weights = weights;
    job.amplitude.scalar = 1; /* no data: 1 */
    job.dx = (REAL *)dx;
    job.dy = (REAL *)dy;
    job.dgamma = (REAL *)dgamma;
    job.dweights = (REAL *)dweights;
    return RBF_NAME(run_gradient)(&job);
}

/* Of sum_i g[i] L[i], L the output of rbf_log_sum: doffset as damplitude above. */
RBF_FUNCTION int RBF_NAME(rbf_log_sum_gradient)(rbf_matrix x, rbf_matrix y, rbf_vector gamma,
                                                rbf_vector offset, rbf_vector log_sums,
                                                rbf_vector g, void *dx, void *dy, void *dgamma,
                                                void *doffset) {
    RBF_NAME(gradient_job) job;
    memset(&job, 0, sizeof job);
    RBF_NAME(set_points)(&job.points, x, y);
    job.g.data = g.data;
    job.g.row_stride = g.stride;
    job.gamma = gamma;
    job.offset = offset;
    job.log_sums = log_sums;
    job.amplitude.scalar = offset.scalar; /* no data: 1, but the shape of doffset */
    job.dx = (REAL *)dx;
    job.dy = (REAL *)dy;
    job.dgamma = (REAL *)dgamma;
    job.damplitude = (REAL *)doffset;
    return RBF_NAME(run_gradient)(&job);
}
