/* P = K W where y is x and gamma a scalar: K is symmetric, and half of it is computed.
 *
 * The points are cut into blocks. A tile of K of the blocks (i, j) is multiplied by the rows j of W
 * for the rows i of P, as in product_tiles.h, and transposed by the rows i of W for the rows j of
 * P. In a round each block meets one other, as players in a tournament, so that no two tasks of a
 * round write to the same rows of P, and every row of P gets its sums in the order of the rounds:
 * the bits do not depend on the threads. Blocks by themselves come first. Included once a precision
 * by instantiate.h.
 */
/* Blocks at least: tasks enough for the threads. */
enum { RBF_NAME(SYMMETRIC_BLOCKS) = 8 };

typedef struct {
    RBF_NAME(product_job) product; /* splits and partial are not used */
    int64_t blocks;
    REAL *thread_weights; /* [threads][p][RBF_TILE_ROWS] */
    REAL *thread_columns; /* [threads][panels_per_block][p][COLUMNS] */
    double *thread_sums;  /* [threads], alike */
    double *totals;       /* [n][p] */
    int64_t thread_weights_stride, thread_columns_stride;
} RBF_NAME(symmetric_job);

/* Rows of W to packed[p][RBF_TILE_ROWS], zeros past the last; there zeros in the tiles too. */
RBF_FUNCTION void RBF_NAME(pack_weight_rows)(const RBF_NAME(product_job) * job, int64_t row,
                                             int64_t rows, int64_t panels, REAL *packed,
                                             REAL *tiles) {
    const int64_t p = job->weights.columns;
    int64_t panel, q, r;
    RBF_NAME(pack_rows)(packed, job->weights, row, RBF_TILE_ROWS);
    for (r = rows; r < RBF_TILE_ROWS; ++r) {
        for (q = 0; q < p; ++q)
            packed[q * RBF_TILE_ROWS + r] = 0;
        for (panel = 0; panel < panels; ++panel)
            memset(tiles + (panel * RBF_TILE_ROWS + r) * COLUMNS, 0, COLUMNS * sizeof(REAL));
    }
}

/* Two blocks, or one by itself. */
RBF_FUNCTION void RBF_NAME(symmetric_task)(const RBF_NAME(symmetric_job) * symmetric,
                                           int64_t row_block, int64_t column_block) {
    const RBF_NAME(product_job) *job = &symmetric->product;
    const int64_t n = job->points.x.rows, p = job->weights.columns, thread = rbf_thread_number();
    const int64_t size = job->panels_per_block * COLUMNS;
    const int64_t last_row = rbf_minimum(n, (row_block + 1) * size);
    const int64_t first_panel = column_block * job->panels_per_block;
    const int64_t last_panel = rbf_minimum(job->points.panels, first_panel + job->panels_per_block);
    const int64_t panels = last_panel - first_panel, count = panels * p * COLUMNS;
    REAL *tiles = job->thread_tiles + thread * job->thread_tiles_stride;
    REAL *lanes = job->thread_lanes + thread * job->thread_lanes_stride;
    REAL *weights = symmetric->thread_weights + thread * symmetric->thread_weights_stride;
    REAL *columns = symmetric->thread_columns + thread * symmetric->thread_columns_stride;
    double *sums = symmetric->thread_sums + thread * symmetric->thread_columns_stride;
    double *totals = job->thread_totals + thread * job->thread_totals_stride;
    const int both = row_block != column_block;
    int64_t first, row, panel, i, q;
    if (both) {
        memset(columns, 0, (size_t)count * sizeof(REAL));
        memset(sums, 0, (size_t)count * sizeof(double));
    }
    for (first = row_block * size; first < last_row; first += RBF_NAME(PRODUCT_ROWS)) {
        const int64_t end = rbf_minimum(last_row, first + RBF_NAME(PRODUCT_ROWS));
        memset(totals, 0, (size_t)((end - first) * p) * sizeof(double));
        for (row = first; row < end; row += RBF_TILE_ROWS) {
            const int64_t rows = rbf_minimum(RBF_TILE_ROWS, end - row);
            RBF_NAME(product_rows)(job, row, end, first_panel, last_panel, tiles,
                                   lanes + (row - first) * job->narrow * LANES,
                                   totals + (row - first) * p);
            if (!both)
                continue;
            RBF_NAME(pack_weight_rows)(job, row, rows, panels, weights, tiles);
            for (panel = 0; panel < panels; ++panel)
                RBF_NAME(multiply_columns)(tiles + panel * RBF_TILE_ROWS * COLUMNS, weights, p,
                                           columns + panel * p * COLUMNS);
            if ((row + RBF_TILE_ROWS) % RBF_NAME(PRODUCT_CHAIN) == 0 ||
                row + RBF_TILE_ROWS >= last_row)
                for (i = 0; i < count; ++i) {
                    sums[i] += columns[i];
                    columns[i] = 0;
                }
        }
        RBF_NAME(join_lanes)(job, end - first, lanes, totals, NULL);
        for (i = 0; i < (end - first) * p; ++i)
            symmetric->totals[first * p + i] += totals[i];
    }
    if (both)
        for (i = first_panel * COLUMNS; i < rbf_minimum(n, last_panel * COLUMNS); ++i) {
            const double *from = sums + (i / COLUMNS - first_panel) * p * COLUMNS + i % COLUMNS;
            for (q = 0; q < p; ++q)
                symmetric->totals[i * p + q] += from[q * COLUMNS];
        }
}

RBF_FUNCTION void RBF_NAME(symmetric_body)(void *argument) {
    const RBF_NAME(symmetric_job) *symmetric = (const RBF_NAME(symmetric_job) *)argument;
    const RBF_NAME(product_job) *job = &symmetric->product;
    const int64_t n = job->points.x.rows, p = job->weights.columns;
    /* One more player where their number is odd, who is not there. */
    const int64_t players = (symmetric->blocks + 1) / 2 * 2, rounds = players - 1;
    int64_t round, task, i;
    memset(job->thread_lanes + rbf_thread_number() * job->thread_lanes_stride, 0,
           (size_t)job->thread_lanes_stride * sizeof(REAL));
    RBF_OMP(for schedule(static) nowait)
    for (i = 0; i < n * p; ++i)
        symmetric->totals[i] = 0;
    RBF_NAME(pack_product)(job);
    RBF_OMP(for schedule(dynamic, 1))
    for (task = 0; task < symmetric->blocks; ++task)
        RBF_NAME(symmetric_task)(symmetric, task, task);
    for (round = 0; round < rounds; ++round) {
        RBF_OMP(for schedule(dynamic, 1))
        for (task = 0; task < players / 2; ++task) {
            const int64_t one = task == 0 ? rounds : (round + task) % rounds;
            const int64_t other = (round + rounds - task) % rounds;
            if (one < symmetric->blocks && other < symmetric->blocks)
                RBF_NAME(symmetric_task)(symmetric, one, other);
        }
    }
    RBF_OMP(for schedule(static))
    for (i = 0; i < n * p; ++i)
        job->output[i] = (REAL)symmetric->totals[i];
}

/* Panels of a block, which must consist of whole row panels too. */
RBF_INLINE int64_t RBF_NAME(symmetric_panels)(const RBF_NAME(product_job) * job) {
    const int64_t most = job->points.panels / RBF_NAME(SYMMETRIC_BLOCKS);
    const int64_t whole = rbf_maximum(1, RBF_TILE_ROWS / COLUMNS);
    const int64_t panels = rbf_maximum(1, rbf_minimum(job->panels_per_block, most));
    return rbf_ceiling_division(panels, whole) * whole;
}

/* Whether y is x and half is worth its price, which is sums over columns, and of lanes for every
 * row and block; counted in instructions for a vector of K, fitted to measurements. */
RBF_FUNCTION int RBF_NAME(symmetric_pays)(const RBF_NAME(product_job) * job) {
    const rbf_matrix x = job->points.x, y = job->points.y;
    const double price =
        (double)job->weights.columns * (1 + 4 / (double)RBF_NAME(symmetric_panels)(job));
    const double exponential = RBF_DOUBLE ? 24 : 12;
    return x.data == y.data && x.rows == y.rows && x.row_stride == y.row_stride &&
           x.column_stride == y.column_stride && job->gamma.scalar &&
           job->points.panels >= (RBF_DOUBLE ? 8 : 4) &&
           price <= ((double)x.columns + exponential) / 2;
}

/* As rbf_product, of x and y that are the same. */
RBF_FUNCTION int RBF_NAME(symmetric_product)(RBF_NAME(product_job) * product) {
    RBF_NAME(symmetric_job) symmetric;
    RBF_NAME(product_job) *job = &symmetric.product;
    rbf_workspace space = {NULL, 0, 0};
    rbf_storage storage;
    const int64_t n = product->points.x.rows, depth = product->points.x.columns,
                  p = product->weights.columns;
    const int threads =
        rbf_thread_count((double)n * (double)n * ((double)depth + (double)p + 8) / LANES);
    int pass;
    symmetric.product = *product;
    job->rows_per_task = RBF_NAME(PRODUCT_ROWS); /* of a block, so many at a time */
    job->panels_per_block = RBF_NAME(symmetric_panels)(job);
    symmetric.blocks = rbf_ceiling_division(job->points.panels, job->panels_per_block);
    symmetric.thread_weights_stride = rbf_apart(p * RBF_TILE_ROWS, sizeof(REAL), threads);
    symmetric.thread_columns_stride =
        rbf_apart(job->panels_per_block * p * COLUMNS, sizeof(REAL), threads);
    for (pass = 0; pass < 2; ++pass) {
        RBF_NAME(take_product)(job, &space, threads);
        symmetric.thread_weights = (REAL *)rbf_take(&space, symmetric.thread_weights_stride,
                                                    (size_t)threads * sizeof(REAL));
        symmetric.thread_columns = (REAL *)rbf_take(&space, symmetric.thread_columns_stride,
                                                    (size_t)threads * sizeof(REAL));
        symmetric.thread_sums = (double *)rbf_take(&space, symmetric.thread_columns_stride,
                                                   (size_t)threads * sizeof(double));
        symmetric.totals = (double *)rbf_take(&space, n, (size_t)p * sizeof(double));
        if (pass == 0 && rbf_acquire(&space, &storage) != RBF_OK)
            return RBF_NO_MEMORY;
    }
    RBF_NAME(begin_points)(&job->points, threads);
    rbf_run(RBF_NAME(symmetric_body), &symmetric, threads);
    rbf_release(&storage);
    return RBF_OK;
}
