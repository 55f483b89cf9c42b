/* P = K W with K[i, j] = exp(-gamma[j] |x[i] - y[j]|^2), never stored: the product kernel.
 *
 * Tiles of K are made as in forward.h and used at once. Few columns of W: lanes run over the
 * columns of K, W is packed [panel][p][COLUMNS], the lanes are summed after each column block.
 * Many: the tiles of a column block are kept and multiplied by W [p / (2 LANES)][m][2 LANES] with a
 * register tile, lanes over the columns of W. Block sums are added in double, always in the same
 * order. Tasks are (row block) x (column split); there are several splits, added in order, only
 * where there are few rows. Included once a precision by instantiate.h.
 */
enum {
    RBF_NAME(PRODUCT_COLUMNS) =
        512,                       /* columns of K in a block at most: bounds the rounding error */
    RBF_NAME(PRODUCT_ROWS) = 64,   /* rows of a task */
    RBF_NAME(PRODUCT_TASKS) = 32,  /* tasks aimed at */
    RBF_NAME(PRODUCT_MANY) = LANES /* columns of W from which lanes run over them */
};

typedef struct {
    rbf_matrix x, y, weights;
    rbf_vector gamma;
    REAL *output; /* (n, p), C order */
    int many;
    int64_t panels, panels_per_block, weight_width, splits, panels_per_split;
    REAL *packed_y; /* [panels][depth][COLUMNS] */
    REAL *packed_weights;
    RBF_NAME(coefficients) * coefficients; /* [panels] */
    REAL *thread_rows;                     /* [threads][depth][RBF_TILE_ROWS] */
    REAL *thread_lanes;    /* [threads]: lanes [p][RBF_TILE_ROWS][LANES], or tiles of a block */
    double *thread_totals; /* [threads][PRODUCT_ROWS][p] */
    int64_t thread_rows_size, thread_lanes_size;
    double *partial; /* [splits][n][p] if there are several splits */
} RBF_NAME(product_job);

/* exp(-gamma D) of one tile. */
RBF_INLINE void RBF_NAME(kernel_tile)(int64_t depth, const REAL *rows_packed,
                                      const REAL *columns_packed, const RBF_NAME(coefficients) * c,
                                      int64_t columns,
                                      VECTOR tile[RBF_TILE_ROWS][RBF_TILE_VECTORS]) {
    int r, v;
    RBF_NAME(distance_tile)(depth, rows_packed, columns_packed, tile);
    if (__builtin_expect(c->special, 0)) {
        REAL e[RBF_TILE_ROWS][RBF_NAME(COLUMNS)] __attribute__((aligned(RBF_ALIGNMENT)));
        int64_t i, j;
        memcpy(e, tile, sizeof e);
        for (i = 0; i < RBF_TILE_ROWS; ++i)
            for (j = 0; j < COLUMNS; ++j)
                e[i][j] = j < columns ? RBF_NAME(library_exponential)(-c->gamma[j] * e[i][j]) : 0;
        memcpy(tile, e, sizeof e);
        return;
    }
    RBF_UNROLL
    for (v = 0; v < RBF_TILE_VECTORS; ++v) {
        const VECTOR rate = RBF_NAME(load)(c->rate + v * LANES);
        const VECTOR rate_low = RBF_NAME(load)(c->rate_low + v * LANES);
        const VECTOR limit = RBF_NAME(load)(c->limit + v * LANES);
        const VECTOR shift = RBF_NAME(load)(c->shift + v * LANES);
        const VECTOR unit = RBF_NAME(load)(c->unit + v * LANES);
        RBF_UNROLL
        for (r = 0; r < RBF_TILE_ROWS; ++r)
            tile[r][v] = RBF_NAME(exponential)(tile[r][v], rate, rate_low, limit, shift) * unit;
    }
}

/* lanes[q][r] += tile[r] * weights[q], lanes over the columns of K. */
RBF_INLINE void RBF_NAME(multiply_lanes)(VECTOR tile[RBF_TILE_ROWS][RBF_TILE_VECTORS],
                                         const REAL *RBF_RESTRICT weights, int64_t p,
                                         REAL *RBF_RESTRICT lanes) {
    int64_t q;
    int r, v;
    for (q = 0; q < p; ++q) {
        VECTOR weight[RBF_TILE_VECTORS];
        RBF_UNROLL
        for (v = 0; v < RBF_TILE_VECTORS; ++v)
            weight[v] = RBF_NAME(load)(weights + q * COLUMNS + v * LANES);
        RBF_UNROLL
        for (r = 0; r < RBF_TILE_ROWS; ++r) {
            REAL *lane = lanes + (q * RBF_TILE_ROWS + r) * LANES;
            VECTOR sum = RBF_NAME(load)(lane);
            RBF_UNROLL
            for (v = 0; v < RBF_TILE_VECTORS; ++v)
                sum += tile[r][v] * weight[v];
            RBF_NAME(store)(lane, sum);
        }
    }
}

/* product[r][2 LANES] of the tiles of some panels, kept as [panel][RBF_TILE_ROWS][COLUMNS]. */
RBF_INLINE void RBF_NAME(multiply_tiles)(const REAL *RBF_RESTRICT tiles, int64_t panels,
                                         const REAL *RBF_RESTRICT weights,
                                         VECTOR product[RBF_TILE_ROWS][RBF_TILE_VECTORS]) {
    int64_t panel;
    int r, v, c;
    RBF_UNROLL
    for (r = 0; r < RBF_TILE_ROWS; ++r) {
        RBF_UNROLL
        for (v = 0; v < RBF_TILE_VECTORS; ++v)
            product[r][v] = (VECTOR){0};
    }
    for (panel = 0; panel < panels; ++panel) {
        for (c = 0; c < COLUMNS; ++c) {
            VECTOR weight[RBF_TILE_VECTORS];
            RBF_UNROLL
            for (v = 0; v < RBF_TILE_VECTORS; ++v)
                weight[v] = RBF_NAME(load)(weights + v * LANES);
            RBF_UNROLL
            for (r = 0; r < RBF_TILE_ROWS; ++r) {
                RBF_UNROLL
                for (v = 0; v < RBF_TILE_VECTORS; ++v)
                    product[r][v] += weight[v] * tiles[r * COLUMNS + c];
            }
            weights += COLUMNS;
        }
        tiles += RBF_TILE_ROWS * COLUMNS;
    }
}

/* One row panel against one column block, added to totals[rows][p]. */
RBF_FUNCTION void RBF_NAME(product_rows)(const RBF_NAME(product_job) * job, int64_t row,
                                         int64_t rows, int64_t first_panel, int64_t last_panel,
                                         REAL *rows_packed, REAL *lanes, double *totals) {
    const int64_t depth = job->x.columns, p = job->weights.columns, m = job->y.rows;
    VECTOR tile[RBF_TILE_ROWS][RBF_TILE_VECTORS];
    int64_t panel, q, r, column;
    RBF_NAME(pack_rows)(rows_packed, job->x, row, RBF_TILE_ROWS);
    if (!job->many)
        memset(lanes, 0, (size_t)(p * RBF_TILE_ROWS * LANES) * sizeof(REAL));
    for (panel = first_panel; panel < last_panel; ++panel) {
        RBF_NAME(kernel_tile)
        (depth, rows_packed, job->packed_y + panel * depth * COLUMNS, job->coefficients + panel,
         m - panel * COLUMNS, tile);
        if (job->many)
            memcpy(lanes + (panel - first_panel) * RBF_TILE_ROWS * COLUMNS, tile, sizeof tile);
        else
            RBF_NAME(multiply_lanes)
        (tile, job->packed_weights + panel * p * COLUMNS, p, lanes);
    }
    if (!job->many) {
        for (r = 0; r < rows; ++r)
            for (q = 0; q < p; ++q)
                totals[r * p + q] += RBF_NAME(lane_sum)(lanes + (q * RBF_TILE_ROWS + r) * LANES);
        return;
    }
    for (q = 0; q < p; q += COLUMNS) {
        REAL sums[RBF_TILE_ROWS][RBF_NAME(COLUMNS)] __attribute__((aligned(RBF_ALIGNMENT)));
        const int64_t width = rbf_minimum(COLUMNS, p - q);
        RBF_NAME(multiply_tiles)
        (lanes, last_panel - first_panel,
         job->packed_weights + (q / COLUMNS * job->panels + first_panel) * COLUMNS * COLUMNS, tile);
        memcpy(sums, tile, sizeof sums);
        for (r = 0; r < rows; ++r)
            for (column = 0; column < width; ++column)
                totals[r * p + q + column] += sums[r][column];
    }
}

RBF_FUNCTION void RBF_NAME(product_body)(void *argument) {
    const RBF_NAME(product_job) *job = (const RBF_NAME(product_job) *)argument;
    const int64_t n = job->x.rows, m = job->y.rows, depth = job->x.columns;
    const int64_t p = job->weights.columns, thread = rbf_thread_number();
    const int64_t row_blocks = rbf_ceiling_division(n, RBF_NAME(PRODUCT_ROWS));
    const rbf_vector no_amplitude = {NULL, 0, 1};
    REAL *rows_packed = job->thread_rows + thread * job->thread_rows_size;
    REAL *lanes = job->thread_lanes + thread * job->thread_lanes_size;
    double *totals = job->thread_totals + thread * RBF_NAME(PRODUCT_ROWS) * p;
    int64_t panel, task, i;
    RBF_OMP(for schedule(static))
    for (panel = 0; panel < job->panels; ++panel) {
        const int64_t first = panel * COLUMNS;
        int64_t c, q;
        RBF_NAME(pack_rows)(job->packed_y + first * depth, job->y, first, COLUMNS);
        RBF_NAME(pack_coefficients)(job->coefficients + panel, job->gamma, no_amplitude, first, m);
        for (c = 0; c < COLUMNS; ++c) {
            const char *source = job->weights.data + (first + c) * job->weights.row_stride;
            for (q = 0; q < job->weight_width; ++q) {
                REAL *to = job->many ? job->packed_weights +
                                           (q / COLUMNS * job->panels + panel) * COLUMNS * COLUMNS +
                                           c * COLUMNS + q % COLUMNS
                                     : job->packed_weights + first * p + q * COLUMNS + c;
                *to = first + c < m && q < p
                          ? *(const REAL *)(source + q * job->weights.column_stride)
                          : 0;
            }
        }
    }
    RBF_OMP(for schedule(dynamic, 1))
    for (task = 0; task < row_blocks * job->splits; ++task) {
        const int64_t split = task / row_blocks;
        const int64_t first_row = task % row_blocks * RBF_NAME(PRODUCT_ROWS);
        const int64_t last_row = rbf_minimum(n, first_row + RBF_NAME(PRODUCT_ROWS));
        const int64_t end = rbf_minimum(job->panels, (split + 1) * job->panels_per_split);
        int64_t row;
        memset(totals, 0, (size_t)((last_row - first_row) * p) * sizeof(double));
        for (panel = split * job->panels_per_split; panel < end; panel += job->panels_per_block)
            for (row = first_row; row < last_row; row += RBF_TILE_ROWS)
                RBF_NAME(product_rows)
        (job, row, rbf_minimum(RBF_TILE_ROWS, last_row - row), panel,
         rbf_minimum(end, panel + job->panels_per_block), rows_packed, lanes,
         totals + (row - first_row) * p);
        if (job->partial)
            memcpy(job->partial + (split * n + first_row) * p, totals,
                   (size_t)((last_row - first_row) * p) * sizeof(double));
        else
            for (i = 0; i < (last_row - first_row) * p; ++i)
                job->output[first_row * p + i] = (REAL)totals[i];
    }
    if (job->partial) {
        RBF_OMP(for schedule(static))
        for (i = 0; i < n * p; ++i) {
            double sum = 0;
            int64_t split;
            for (split = 0; split < job->splits; ++split)
                sum += job->partial[split * n * p + i];
            job->output[i] = (REAL)sum;
        }
    }
}

/* output (n, p) in C order from weights (m, p). Returns RBF_OK or RBF_NO_MEMORY. */
RBF_FUNCTION int RBF_NAME(rbf_product)(rbf_matrix x, rbf_matrix y, rbf_vector gamma,
                                       rbf_matrix weights, void *output) {
    RBF_NAME(product_job) job;
    rbf_workspace space = {NULL, 0, 0};
    rbf_storage storage;
    const int64_t n = x.rows, depth = x.columns, p = weights.columns;
    const double operations =
        (double)n * (double)y.rows * (2.0 * (double)depth + (double)p + 16) / LANES;
    const int threads = rbf_thread_count(operations);
    const int64_t row_blocks = rbf_ceiling_division(n, RBF_NAME(PRODUCT_ROWS));
    int64_t blocks;
    int pass;
    if (n == 0 || p == 0)
        return RBF_OK;
    job.x = x;
    job.y = y;
    job.gamma = gamma;
    job.weights = weights;
    job.output = (REAL *)output;
    job.many = p >= RBF_NAME(PRODUCT_MANY);
    job.weight_width = job.many ? rbf_ceiling_division(p, COLUMNS) * COLUMNS : p;
    job.panels = rbf_ceiling_division(y.rows, COLUMNS);
    job.panels_per_block = rbf_minimum(
        RBF_NAME(PRODUCT_COLUMNS) / COLUMNS,
        RBF_NAME(PANEL_CACHE_BYTES) / (rbf_maximum(depth, 1) * COLUMNS * (int64_t)sizeof(REAL)));
    job.panels_per_block = rbf_maximum(1, job.panels_per_block);
    blocks = rbf_ceiling_division(job.panels, job.panels_per_block);
    job.splits = rbf_minimum(blocks, RBF_NAME(PRODUCT_TASKS) / row_blocks);
    job.splits = rbf_maximum(1, job.splits);
    job.panels_per_split = rbf_ceiling_division(blocks, job.splits) * job.panels_per_block;
    job.thread_rows_size = rbf_ceiling_division(depth * RBF_TILE_ROWS, LANES) * LANES;
    job.thread_lanes_size = RBF_TILE_ROWS * (job.many ? job.panels_per_block * COLUMNS : p * LANES);
    for (pass = 0; pass < 2; ++pass) {
        job.packed_y = (REAL *)rbf_take(&space, job.panels * depth, COLUMNS * sizeof(REAL));
        job.packed_weights =
            (REAL *)rbf_take(&space, job.panels * job.weight_width, COLUMNS * sizeof(REAL));
        job.coefficients =
            (RBF_NAME(coefficients) *)rbf_take(&space, job.panels, sizeof(RBF_NAME(coefficients)));
        job.thread_rows =
            (REAL *)rbf_take(&space, job.thread_rows_size, (size_t)threads * sizeof(REAL));
        job.thread_lanes =
            (REAL *)rbf_take(&space, job.thread_lanes_size, (size_t)threads * sizeof(REAL));
        job.thread_totals = (double *)rbf_take(&space, RBF_NAME(PRODUCT_ROWS) * p,
                                               (size_t)threads * sizeof(double));
        job.partial = (double *)rbf_take(&space, job.splits > 1 ? job.splits * n : 0,
                                         (size_t)p * sizeof(double));
        if (pass == 0 && rbf_acquire(&space, &storage) != RBF_OK)
            return RBF_NO_MEMORY;
    }
    if (job.splits == 1)
        job.partial = NULL;
    rbf_run(RBF_NAME(product_body), &job, threads);
    rbf_release(&storage);
    return RBF_OK;
}
