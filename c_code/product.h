/* P = K W with K[i, j] = exp(-gamma[j] |x[i] - y[j]|^2), never stored: the product kernel.
 *
 * Tasks are (row block) x (column split), each a sum of the products of product_tiles.h; there are
 * several splits, added in order, only where there are few rows. Included once a precision by
 * instantiate.h.
 */
RBF_FUNCTION void RBF_NAME(product_body)(void *argument) {
    const RBF_NAME(product_job) *job = (const RBF_NAME(product_job) *)argument;
    const int64_t n = job->points.x.rows, p = job->weights.columns, thread = rbf_thread_number();
    const int64_t row_blocks = rbf_ceiling_division(n, job->rows_per_task);
    REAL *tiles = job->thread_tiles + thread * job->thread_tiles_stride;
    REAL *lanes = job->thread_lanes + thread * job->thread_lanes_stride;
    double *totals = job->thread_totals + thread * job->thread_totals_stride;
    int64_t panel, task, i;
    memset(lanes, 0, (size_t)job->thread_lanes_stride * sizeof(REAL));
    RBF_NAME(pack_product)(job);
    RBF_OMP(for schedule(dynamic, 1))
    for (task = 0; task < row_blocks * job->splits; ++task) {
        const int64_t split = task / row_blocks;
        const int64_t first_row = task % row_blocks * job->rows_per_task;
        const int64_t rows = rbf_minimum(n - first_row, job->rows_per_task);
        const int64_t end = rbf_minimum(job->points.panels, (split + 1) * job->panels_per_split);
        REAL *output = job->output + first_row * p;
        int64_t row, blocks = 0;
        if (!job->direct)
            memset(totals, 0, (size_t)(rows * p) * sizeof(double));
        for (panel = split * job->panels_per_split; panel < end; panel += job->panels_per_block) {
            for (row = 0; row < rows; row += RBF_TILE_ROWS)
                RBF_NAME(product_rows)(job, first_row + row, first_row + rows, panel,
                                       rbf_minimum(end, panel + job->panels_per_block), tiles,
                                       lanes + row * job->narrow * LANES, totals + row * p);
            if (++blocks % RBF_NAME(PRODUCT_BLOCKS) == 0)
                RBF_NAME(join_lanes)(job, rows, lanes, totals, output);
        }
        RBF_NAME(join_lanes)(job, rows, lanes, totals, output);
        if (job->direct)
            continue;
        if (job->partial)
            memcpy(job->partial + (split * n + first_row) * p, totals,
                   (size_t)(rows * p) * sizeof(double));
        else
            for (i = 0; i < rows * p; ++i)
                output[i] = (REAL)totals[i];
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
    RBF_AS_IEEE;
    RBF_NAME(product_job) job;
    rbf_workspace space = {NULL, 0, 0};
    rbf_storage storage;
    const int64_t n = x.rows, depth = x.columns, p = weights.columns;
    const double operations =
        (double)n * (double)y.rows * (2.0 * (double)depth + (double)p + 16) / LANES;
    const int threads = rbf_thread_count(operations);
    int pass;
    if (n == 0 || p == 0)
        return RBF_OK;
    RBF_NAME(set_points)(&job.points, x, y);
    job.gamma = gamma;
    job.weights = weights;
    job.output = (REAL *)output;
    RBF_NAME(choose_widths)(&job);
    RBF_NAME(cut_columns)(&job.points, &job.panels_per_block, &job.splits, &job.panels_per_split);
    job.direct = 0;
    if (RBF_NAME(symmetric_pays)(&job))
        return RBF_NAME(symmetric_product)(&job);
    job.rows_per_task = RBF_NAME(rows_of_a_task)(&job.points, depth + p, threads);
    job.direct = rbf_ceiling_division(job.points.panels, job.panels_per_block) == 1;
    for (pass = 0; pass < 2; ++pass) {
        RBF_NAME(take_product)(&job, &space, threads);
        job.partial = (double *)rbf_take(&space, job.splits > 1 ? job.splits * n : 0,
                                         (size_t)p * sizeof(double));
        if (pass == 0 && rbf_acquire(&space, &storage) != RBF_OK)
            return RBF_NO_MEMORY;
    }
    if (job.splits == 1)
        job.partial = NULL;
    RBF_NAME(begin_points)(&job.points, threads);
    rbf_run(RBF_NAME(product_body), &job, threads);
    rbf_release(&storage);
    return RBF_OK;
}
