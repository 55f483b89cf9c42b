/* P = A W, A[i, j] = exp(offset[j] - gamma[j] |x[i] - y[j]|^2 - L[i]), the softmax of the exponents
 * of each row, never stored: kernel regression, stable however far a row is from all others.
 *
 * The tiles of a row panel and a column block are made as in logsum.h, with exponentials from the
 * largest exponent of the block on, and multiplied as in product_tiles.h; sums of blocks, in
 * double, are scaled when a later one holds a larger exponent (M. Milakov and N. Gimelshein, Online
 * normalizer calculation for softmax, 2018). Exponentials are 1 / m at most, so that no sum is
 * larger than the largest weight. Tasks and splits as in product.h. Included once a precision by
 * instantiate.h.
 */
typedef struct {
    RBF_NAME(product_job) product; /* partial: of every split, even one */
    RBF_NAME(log_sum_job) logs;
} RBF_NAME(softmax_job);

/* What sums of exp(exponent - from) are multiplied by to be those of exp(exponent - to). */
RBF_INLINE double RBF_NAME(rescaled)(double from, double to) {
    return from == to ? 1 : exp(from - to); /* also if both are infinite */
}

/* One row panel against one column block, joined to sums[rows] and totals[rows][p]. */
RBF_FUNCTION void RBF_NAME(softmax_rows)(const RBF_NAME(softmax_job) * job, int64_t row,
                                         int64_t last_row, int64_t first_panel, int64_t last_panel,
                                         REAL *tiles, REAL *lanes, double *block_totals,
                                         RBF_NAME(log_sum) * sums, double *totals) {
    const int64_t p = job->product.weights.columns;
    const int64_t rows = rbf_minimum(RBF_TILE_ROWS, last_row - row);
    RBF_NAME(log_sum) of_block[RBF_TILE_ROWS];
    int64_t r, q;
    for (r = 0; r < rows; ++r) {
        of_block[r].largest = -(double)INFINITY;
        of_block[r].sum = 0;
    }
    memset(block_totals, 0, (size_t)(rows * p) * sizeof(double));
    RBF_NAME(log_sum_rows)(&job->logs, row, last_row, first_panel, last_panel, tiles, of_block, 1);
    RBF_NAME(multiply_tiles)(&job->product, row, rows, first_panel, last_panel, tiles, lanes,
                             block_totals);
    RBF_NAME(join_lanes)(&job->product, rows, lanes, block_totals, NULL);
    for (r = 0; r < rows; ++r) {
        const double before = sums[r].largest;
        double old_scale, new_scale;
        RBF_NAME(join_log_sums)(sums + r, of_block[r].largest, of_block[r].sum);
        old_scale = RBF_NAME(rescaled)(before, sums[r].largest);
        new_scale = RBF_NAME(rescaled)(of_block[r].largest, sums[r].largest);
        for (q = r * p; q < (r + 1) * p; ++q)
            totals[q] = totals[q] * old_scale + block_totals[q] * new_scale;
    }
}

/* L and P of row i from the sums of all splits. */
RBF_FUNCTION void RBF_NAME(store_softmax)(const RBF_NAME(softmax_job) * job, int64_t i) {
    const int64_t n = job->product.points.x.rows, p = job->product.weights.columns;
    const RBF_NAME(log_sum) total = RBF_NAME(store_log_sum)(&job->logs, i);
    double *totals = job->product.partial + i * p; /* of the first split, then of all */
    int64_t split, q;
    for (split = 0; split < job->product.splits; ++split) {
        const double *more = totals + split * n * p;
        const double scale =
            RBF_NAME(rescaled)(job->logs.partial[split * n + i].largest, total.largest);
        for (q = 0; q < p; ++q)
            totals[q] = (split ? totals[q] : 0) + more[q] * scale;
    }
    for (q = 0; q < p; ++q) {
        double sum = totals[q];
        if (job->product.points.y.rows == 0)
            sum = 0;
        else if (total.largest == (double)INFINITY) /* the tiles had no differences */
            sum = (double)NAN;
        else
            sum /= total.sum;
        job->product.output[i * p + q] = (REAL)sum;
    }
}

RBF_FUNCTION void RBF_NAME(softmax_body)(void *argument) {
    const RBF_NAME(softmax_job) *job = (const RBF_NAME(softmax_job) *)argument;
    const RBF_NAME(product_job) *product = &job->product;
    const int64_t n = product->points.x.rows, p = product->weights.columns;
    const int64_t row_blocks = rbf_ceiling_division(n, product->rows_per_task);
    const int64_t thread = rbf_thread_number();
    REAL *tiles = product->thread_tiles + thread * product->thread_tiles_stride;
    REAL *lanes = product->thread_lanes + thread * product->thread_lanes_stride;
    double *block_totals = product->thread_totals + thread * product->thread_totals_stride;
    int64_t panel, task, i;
    memset(lanes, 0, (size_t)product->thread_lanes_stride * sizeof(REAL));
    RBF_OMP(for schedule(static) nowait)
    for (panel = 0; panel < product->points.panels; ++panel)
        RBF_NAME(pack_offsets)(&job->logs, panel);
    RBF_NAME(pack_product)(product);
    RBF_OMP(for schedule(dynamic, 1))
    for (task = 0; task < row_blocks * product->splits; ++task) {
        const int64_t split = task / row_blocks;
        const int64_t first_row = task % row_blocks * product->rows_per_task;
        const int64_t rows = rbf_minimum(n - first_row, product->rows_per_task);
        const int64_t end =
            rbf_minimum(product->points.panels, (split + 1) * product->panels_per_split);
        RBF_NAME(log_sum) *sums = job->logs.partial + split * n + first_row;
        double *totals = product->partial + (split * n + first_row) * p;
        int64_t row;
        for (row = 0; row < rows; ++row) {
            sums[row].largest = -(double)INFINITY;
            sums[row].sum = 0;
        }
        memset(totals, 0, (size_t)(rows * p) * sizeof(double));
        for (panel = split * product->panels_per_split; panel < end;
             panel += product->panels_per_block)
            for (row = 0; row < rows; row += RBF_TILE_ROWS)
                RBF_NAME(softmax_rows)(job, first_row + row, first_row + rows, panel,
                                       rbf_minimum(end, panel + product->panels_per_block), tiles,
                                       lanes, block_totals, sums + row, totals + row * p);
    }
    RBF_OMP(for schedule(static))
    for (i = 0; i < n; ++i)
        RBF_NAME(store_softmax)(job, i);
}

/* output (n, p) in C order from weights (m, p), log_sums and rests (n,) as of rbf_log_sum: the
 * gradient needs them. Rows of no columns are 0. Returns RBF_OK or RBF_NO_MEMORY. */
RBF_FUNCTION int RBF_NAME(rbf_softmax)(rbf_matrix x, rbf_matrix y, rbf_vector gamma,
                                       rbf_vector offset, rbf_matrix weights, void *output,
                                       void *log_sums, void *rests) {
    RBF_AS_IEEE;
    RBF_NAME(softmax_job) job;
    RBF_NAME(product_job) *product = &job.product;
    rbf_workspace space = {NULL, 0, 0};
    rbf_storage storage;
    const int64_t n = x.rows, depth = x.columns, p = weights.columns;
    const double operations =
        (double)n * (double)y.rows * (2.0 * (double)depth + (double)p + 20) / LANES;
    const int threads = rbf_thread_count(operations);
    int pass;
    if (n == 0)
        return RBF_OK;
    RBF_NAME(set_points)(&product->points, x, y);
    product->gamma = gamma;
    product->weights = weights;
    product->output = (REAL *)output;
    product->direct = 0;
    RBF_NAME(choose_widths)(product);
    RBF_NAME(cut_columns)(&product->points, &product->panels_per_block, &product->splits,
                          &product->panels_per_split);
    product->rows_per_task = RBF_NAME(rows_of_a_task)(&product->points, depth + p, threads);
    job.logs.gamma = gamma;
    job.logs.offset = offset;
    job.logs.output = (REAL *)log_sums;
    job.logs.rests = (REAL *)rests;
    job.logs.splits = product->splits;
    for (pass = 0; pass < 2; ++pass) {
        RBF_NAME(take_product)(product, &space, threads);
        job.logs.points = product->points;
        RBF_NAME(take_log_sums)(&job.logs, &space);
        product->partial = (double *)rbf_take(&space, product->splits * n,
                                              (size_t)rbf_maximum(1, p) * sizeof(double));
        if (pass == 0 && rbf_acquire(&space, &storage) != RBF_OK)
            return RBF_NO_MEMORY;
    }
    for (job.logs.scale = 1; job.logs.scale * (double)y.rows > 1;)
        job.logs.scale /= 2;
    RBF_NAME(set_unit)(job.logs.unit, (REAL)job.logs.scale);
    RBF_NAME(begin_points)(&product->points, threads);
    rbf_run(RBF_NAME(softmax_body), &job, threads);
    rbf_release(&storage);
    return RBF_OK;
}
