/* Gradients of sum(G * K) with respect to x, y, gamma and amplitude: docs/gradients.md.
 *
 * G is given (n, m), or, for the product P = K W, as the factors of G = H W^T, with H = dL/dP (n,
 * p) and weights W (m, p); then there is the gradient of W too, K^T H. Of the log-sum-exp L of
 * logsum.h it is the same with A[i, j] = exp(offset[j] - gamma[j] D[i, j] - L[i]) for K and one G a
 * row; of the softmax P = A W of softmax.h, with G[i, j] = sum_q H[i, q] (W[j, q] - P[i, q]), both
 * less what rows of W have in common. Of a mixture there are several gamma and amplitude, for all
 * columns, and a dgamma and damplitude each.
 *
 * Nothing of size n * m is kept. For some row panels and one column block, D and E = exp(-gamma D)
 * are computed again, tile by tile, and the weights w[i, j] = 2 gamma[j] amplitude[j] G[i, j]
 * E[i, j] stored. Then, for two columns k of x and y at a time, one sweep over the column block
 * adds w * (y[j, k] - x[i, k]) to sums of dx that stay in registers and subtracts it from those of
 * dy; or, where nothing cancels, the sums are matrix products (gradient_products.h).
 *
 * Columns go in waves of blocks; in a wave the tasks are (row group) x (column block). A task has
 * its own partial sums of dy, dgamma and damplitude, which are added in the order of the groups
 * after a barrier; sums of dx are kept for each block of a wave, and added in that order at the
 * end. Groups, blocks and waves depend on the shapes, and on whether distances are expanded, but
 * not on the threads: the bits are the same for any number of them. Symmetric: only entries above
 * the diagonal are computed, with G + G^T. Included once a precision by instantiate.h.
 */

/* The pieces of a thread's own memory. */
RBF_FUNCTION RBF_NAME(gradient_scratch)
    RBF_NAME(take_scratch)(const RBF_NAME(gradient_job) * job, rbf_workspace *space) {
    const int64_t at_once = job->row_panels_at_once;
    const int64_t g_rows =
        job->by_squares ? RBF_NAME(WHOLE_ROWS) * COLUMNS : at_once * job->factors * RBF_TILE_ROWS;
    const size_t panel_row = COLUMNS * sizeof(REAL);
    const size_t whole_rows = RBF_NAME(WHOLE_ROWS) * sizeof(REAL);
    const int64_t by_unit = RBF_BY_UNIT(&job->points) ? 1 : 0;
    const int64_t left = job->by_products && (job->dx || job->dy); /* to difference_range, maybe */
    const int64_t depth = job->points.x.columns;
    RBF_NAME(gradient_scratch) scratch;
    scratch.weights = (REAL *)rbf_take(space, at_once * job->row_weights, sizeof(REAL));
    scratch.dx_tiles = (REAL *)rbf_take(space, at_once * RBF_TILE_ROWS, panel_row);
    scratch.column_sums = (REAL *)rbf_take(space, job->panels_per_block, panel_row);
    scratch.row_scales = (REAL *)rbf_take(space, by_unit * at_once * RBF_TILE_ROWS, sizeof(REAL));
    scratch.column_scales = (REAL *)rbf_take(space, by_unit * job->panels_per_block, panel_row);
    scratch.split_weights = (char *)rbf_take(space, job->split_weights_bytes, 1);
    scratch.row_sums = (REAL *)rbf_take(space, at_once, whole_rows);
    scratch.g_rows = (REAL *)rbf_take(space, g_rows, sizeof(REAL));
    scratch.packed_x = (REAL *)rbf_take(
        space, left * rbf_minimum(at_once, job->points.row_panels) * RBF_TILE_ROWS * depth,
        sizeof(REAL));
    scratch.paired_y =
        (REAL *)rbf_take(space, left * job->panels_per_block * ((depth + 1) / 2), 2 * panel_row);
    scratch.panel = (REAL *)rbf_take(space, left * depth, panel_row);
    return scratch;
}

RBF_FUNCTION void RBF_NAME(gradient_body)(void *argument) {
    /* Each thread has its own: what it reads for every tile lies apart from what others write. */
    RBF_NAME(gradient_job) own = *(const RBF_NAME(gradient_job) *)argument, *job = &own;
    rbf_workspace space = {NULL, 0, 0};
    RBF_NAME(gradient_scratch) scratch;
    RBF_NAME(close_entries) close;
    RBF_NAME(gradient_sums) chunk = {NULL, NULL, NULL, NULL, 0, 0};
    int64_t panel, wave, task;
    if (job->chunk_stride) { /* zero between tasks */
        REAL *place = job->chunk_sums + rbf_thread_number() * job->chunk_stride;
        memset(place, 0, (size_t)job->chunk_stride * sizeof(REAL));
        chunk.dy = RBF_NAME(take_chunk)(job, job->dy_partial, &place);
        chunk.dweights = RBF_NAME(take_chunk)(job, job->dweights_partial, &place);
        chunk.column_sums = RBF_NAME(take_chunk)(job, job->column_partial, &place);
    }
    space.base = (char *)(job->thread_space + rbf_thread_number() * job->thread_stride);
    scratch = RBF_NAME(take_scratch)(job, &space);
    if (job->by_products) {
        close.entries = job->close_entries + rbf_thread_number() * job->close_most;
        close.most = job->close_most;
        own.points.close = &close;
    }
    RBF_NAME(pack_gradient)(job);
    for (wave = 0; wave < job->blocks; wave += job->blocks_per_wave) {
        const int64_t wave_blocks = rbf_minimum(job->blocks_per_wave, job->blocks - wave);
        const int64_t wave_panels = wave * job->panels_per_block;
        const int64_t wave_end =
            rbf_minimum(job->points.panels, wave_panels + wave_blocks * job->panels_per_block);
        RBF_OMP(for schedule(dynamic, 1))
        for (task = 0; task < wave_blocks * job->groups; ++task) {
            const int64_t block = task / job->groups, group = task % job->groups;
            const int64_t first = (wave + block) * job->panels_per_block;
            const int64_t last = rbf_minimum(job->points.panels, first + job->panels_per_block);
            int64_t row_panel = group * job->row_panels_per_group, added = 0;
            const int64_t end = rbf_minimum(RBF_NAME(rows_of_block)(job, wave + block),
                                            row_panel + job->row_panels_per_group);
            RBF_NAME(gradient_sums) sums, adding;
            if (row_panel >= end)
                continue;
            sums.dx = job->dx_sums ? job->dx_sums + block * job->dx_block_stride : NULL;
            sums.fresh_dx = sums.dx && wave == 0;
            sums.fresh_dy = job->dy_partial.data && !job->chunk_stride;
            if (sums.dx && wave > 0) { /* symmetric, the wave before did not come to all rows */
                const int64_t before =
                    RBF_NAME(rows_of_block)(job, wave + block - job->blocks_per_wave);
                RBF_NAME(clear_rows)(job, sums.dx, rbf_minimum(end, rbf_maximum(row_panel, before)),
                                     end);
            }
            sums.dy = RBF_NAME(take_sums)(job, job->dy_partial, task, sums.fresh_dy);
            sums.dweights = RBF_NAME(take_sums)(job, job->dweights_partial, task, 0);
            sums.column_sums = RBF_NAME(take_sums)(job, job->column_partial, task, 0);
            adding = job->chunk_stride ? chunk : sums;
            adding.dx = sums.dx;
            adding.fresh_dx = sums.fresh_dx;
            for (; row_panel < end; row_panel += job->row_panels_at_once) {
                const int64_t behind = rbf_minimum(end, row_panel + job->row_panels_at_once);
                job->weigh(job, row_panel, behind, first, last, scratch, adding);
                RBF_NAME(block_sums)(job, row_panel, behind, first, last, scratch, adding);
                adding.fresh_dy = 0;
                added += job->row_panels_at_once;
                if (job->chunk_stride && (added >= RBF_NAME(GRADIENT_CHUNK) || behind == end)) {
                    RBF_NAME(join_chunk)(job, job->dy_partial, chunk.dy, sums.dy);
                    RBF_NAME(join_chunk)(job, job->dweights_partial, chunk.dweights, sums.dweights);
                    RBF_NAME(join_chunk)(job, job->column_partial, chunk.column_sums,
                                         sums.column_sums);
                    added = 0;
                }
            }
        }
        RBF_OMP(for schedule(static))
        for (panel = wave_panels; panel < wave_end; ++panel)
            RBF_NAME(reduce_columns)(job, panel, (panel - wave_panels) / job->panels_per_block);
    }
    if (!job->dx)
        return;
    RBF_OMP(for schedule(static))
    for (task = 0; task < job->points.row_panels; ++task)
        RBF_NAME(reduce_rows)(job, task);
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

/* What the diagonal adds where y is x: G[i, i] to damplitude; 0 times it to the rest, NaN where it
 * is not finite. D is 0, or NaN where x is not finite. */
RBF_FUNCTION void RBF_NAME(add_diagonal)(const RBF_NAME(gradient_job) * job) {
    const rbf_matrix x = job->points.x, g = job->g;
    int64_t i, k, t;
    for (i = 0; i < x.rows; ++i) {
        REAL g_entry = job->weights.data ? 0 : RBF_NAME(matrix_entry)(&g, i, i), distance = 0;
        for (k = 0; k < job->weights.columns; ++k)
            g_entry +=
                RBF_NAME(matrix_entry)(&g, i, k) * RBF_NAME(matrix_entry)(&job->weights, i, k);
        for (k = 0; k < x.columns; ++k) {
            const REAL value = RBF_NAME(matrix_entry)(&x, i, k);
            distance += (value - value) * (value - value);
        }
        for (t = 0; t < job->terms; ++t) {
            const REAL gamma = RBF_NAME(entry)(job->gamma, t);
            REAL weight = g_entry * RBF_NAME(library_exponential)(-gamma * distance);
            if (job->damplitude)
                job->damplitude[t * x.rows + i] += weight;
            weight *= RBF_NAME(entry)(job->amplitude, t) * 0;
            if (weight == 0)
                continue;
            if (job->dgamma)
                job->dgamma[t * x.rows + i] += weight;
            for (k = 0; job->dx && k < x.columns; ++k)
                job->dx[i * x.columns + k] += weight;
        }
    }
}

/* Whether G is read in transposed squares. One whose columns, not rows, are whole comes from
 * LAPACK, or is the gradient of a transposed K. */
RBF_FUNCTION void RBF_NAME(choose_squares)(RBF_NAME(gradient_job) * job) {
    const int64_t item = (int64_t)sizeof(REAL);
    const rbf_matrix g = job->g;
    const int whole_columns = g.row_stride == item && g.column_stride != item;
    if (job->weights.data || job->log_sums.data)
        return;
    job->by_squares = job->symmetric || (whole_columns && g.columns >= COLUMNS);
    if (job->symmetric && whole_columns) { /* G + G^T is that of G^T too, which has whole rows */
        job->g.row_stride = g.column_stride;
        job->g.column_stride = g.row_stride;
    }
}

/* How the work is cut: column blocks, of the panels that fit the caches; row groups, enough for
 * tasks; row panels at once. Never by the number of threads. */
RBF_FUNCTION void RBF_NAME(cut_gradient)(RBF_NAME(gradient_job) * job) {
    const int64_t n = job->points.x.rows, depth = job->points.x.columns;
    const int64_t widest = rbf_maximum(rbf_maximum(depth, job->factors), 1);
    const int64_t panel_row = COLUMNS * sizeof(REAL);
    const int64_t square_panels = RBF_NAME(SQUARE_ROWS) / RBF_TILE_ROWS;
    const int deep = depth >= RBF_NAME(GRADIENT_DEEP);
    int64_t column_bytes;
    job->by_products = deep && job->points.expanded;
    column_bytes = job->by_products ? RBF_NAME(EXPANDED_BYTES)
                   : deep           ? RBF_NAME(GRADIENT_DEEP_BYTES)
                                    : RBF_NAME(GRADIENT_COLUMN_BYTES);
    job->panels_per_block =
        rbf_minimum(column_bytes / panel_row, RBF_NAME(GRADIENT_BLOCK_BYTES) / panel_row / widest);
    job->row_panels_at_once = job->by_products ? RBF_NAME(EXPANDED_ROW_PANELS)
                              : deep           ? RBF_NAME(GRADIENT_ROW_PANELS)
                                               : 1;
    /* Symmetric: where more row panels go together their weights take as much memory; of products a
     * short block is better too. (Otherwise blocks must not depend on how G lies in memory.) */
    if (job->by_squares && job->symmetric &&
        (job->by_products || job->row_panels_at_once < square_panels))
        job->panels_per_block /= RBF_NAME(WHOLE_ROWS) / RBF_TILE_ROWS;
    if (job->by_squares)
        job->row_panels_at_once = rbf_maximum(job->row_panels_at_once, square_panels);
    job->blocks = rbf_ceiling_division(job->points.panels, rbf_maximum(1, job->panels_per_block));
    /* Blocks as equal as can be: a short one costs as many sums over lanes as a long one. */
    job->panels_per_block =
        rbf_maximum(1, rbf_ceiling_division(job->points.panels, rbf_maximum(1, job->blocks)));
    /* By a tile more, so that those of a panel do not share their places in the first-level cache.
     */
    job->row_weights = (job->panels_per_block + job->by_products) * RBF_TILE_ROWS * COLUMNS;
    job->groups = rbf_minimum(
        n / RBF_NAME(GRADIENT_FEW_ROWS),
        rbf_ceiling_division(RBF_NAME(GRADIENT_TASKS) / 2, rbf_maximum(1, job->blocks)));
    job->groups = rbf_minimum(
        RBF_NAME(GRADIENT_GROUPS),
        rbf_maximum(rbf_ceiling_division(n, RBF_NAME(GRADIENT_ENOUGH_ROWS)), job->groups));
    job->groups = rbf_maximum(1, job->groups);
    job->row_panels_per_group =
        rbf_maximum(1, rbf_ceiling_division(job->points.row_panels, job->groups));
    if (job->symmetric && job->by_squares) /* in step with what fetch_gradient prefetches */
        job->row_panels_per_group =
            rbf_ceiling_division(job->row_panels_per_group, square_panels) * square_panels;
    if (RBF_BY_UNIT(&job->points)) {
        job->row_panels_per_group =
            rbf_ceiling_division(job->row_panels_per_group, RBF_NAME(GROUP)) * RBF_NAME(GROUP);
        job->split_weights_bytes = rbf_ceiling_division(job->row_panels_at_once, RBF_NAME(GROUP)) *
                                   job->panels_per_block * RBF_UNIT_STEP_BYTES;
    }
    job->groups =
        rbf_maximum(1, rbf_ceiling_division(job->points.row_panels, job->row_panels_per_group));
    job->blocks_per_wave =
        rbf_maximum(1, rbf_minimum(job->blocks, RBF_NAME(GRADIENT_TASKS) / job->groups));
}

/* The memory of a job: sizes while space measures, pieces when it hands out; NULL for pieces that
 * are not wanted. */
RBF_FUNCTION void RBF_NAME(take_gradient)(RBF_NAME(gradient_job) * job, rbf_workspace *space,
                                          int threads) {
    const int64_t m = job->points.y.rows, depth = job->points.x.columns, p = job->weights.columns;
    const int64_t row_panels = job->points.row_panels, panels = job->points.panels;
    const int64_t block_panels = job->blocks * job->panels_per_block;
    const size_t panel_row = COLUMNS * sizeof(REAL), row_panel_row = RBF_TILE_ROWS * sizeof(REAL);
    const int want_dy = job->dy != NULL || (job->symmetric && job->dx != NULL);
    rbf_workspace of_thread = {NULL, 0, 0};
    RBF_NAME(take_scratch)(job, &of_thread);
    space->overflow |= of_thread.overflow;
    job->thread_stride = rbf_apart((int64_t)(of_thread.used / sizeof(REAL)), sizeof(REAL), threads);
    job->dx_block_stride =
        row_panels * RBF_TILE_ROWS *
        (job->by_products ? rbf_ceiling_division(depth, COLUMNS) * COLUMNS : depth);
    job->close_most = job->by_products * job->row_panels_at_once * job->panels_per_block *
                      RBF_TILE_ROWS * COLUMNS / RBF_NAME(CLOSE_SHARE);
    RBF_NAME(take_points)(&job->points, space, threads);
    job->packed_x = job->points.packed_x;
    if (job->points.expanded && !job->by_products)
        job->packed_x = (REAL *)rbf_take(space, row_panels * depth, row_panel_row);
    if (!job->by_products && (job->dx || job->dy))
        job->paired_y = (REAL *)rbf_take(space, block_panels * ((depth + 1) / 2), 2 * panel_row);
    if (RBF_BY_UNIT(&job->points) && (job->dx || job->dy)) {
        RBF_NAME(take_terms)(job, space);
    } else if (job->by_products && (job->dx || job->dy)) {
        job->product_x =
            (REAL *)rbf_take(space, row_panels * rbf_ceiling_division(depth, RBF_TILE_ROWS),
                             RBF_TILE_ROWS * row_panel_row);
        job->product_y = (REAL *)rbf_take(
            space, block_panels * rbf_ceiling_division(depth, COLUMNS), COLUMNS * panel_row);
    }
    job->close_entries = (RBF_NAME(close_entry) *)rbf_take(space, job->close_most * threads,
                                                           sizeof(RBF_NAME(close_entry)));
    job->packed_weights = (REAL *)rbf_take(space, panels * job->factors, panel_row);
    job->offsets = (REAL *)rbf_take(space, panels, panel_row);
    if (job->product.data) {
        job->means = (REAL *)rbf_take(space, row_panels, row_panel_row);
        job->centre_of_weights = (REAL *)rbf_take(space, p, sizeof(REAL));
    }
    job->coefficients = (RBF_NAME(coefficients) *)rbf_take(
        space, job->mixture ? job->terms : panels + 1, sizeof(RBF_NAME(coefficients)));
    job->thread_space = (REAL *)rbf_take(space, job->thread_stride, (size_t)threads * sizeof(REAL));
    RBF_NAME(take_partial_sums)(job, space, &job->column_partial, 1, job->terms * 2 * COLUMNS,
                                threads);
    if (want_dy)
        RBF_NAME(take_partial_sums)(job, space, &job->dy_partial, (depth + 1) / 2, 2 * COLUMNS,
                                    threads);
    if (job->dweights)
        RBF_NAME(take_partial_sums)(job, space, &job->dweights_partial, 1, p * COLUMNS, threads);
    if (job->row_panels_per_group > RBF_NAME(GRADIENT_CHUNK)) {
        const RBF_NAME(partial_sums) *
            partial[] = {&job->dy_partial, &job->dweights_partial, &job->column_partial};
        int64_t entries = 0;
        int i;
        for (i = 0; i < 3; ++i)
            entries += RBF_NAME(count_sums)(job, *partial[i]);
        job->chunk_stride = rbf_apart(entries, sizeof(REAL), threads);
        job->chunk_sums =
            (REAL *)rbf_take(space, job->chunk_stride, (size_t)threads * sizeof(REAL));
    }
    if (job->dx)
        job->dx_sums =
            (REAL *)rbf_take(space, job->blocks_per_wave * job->dx_block_stride, sizeof(REAL));
    if (job->total_dgamma)
        job->dgamma = (REAL *)rbf_take(space, m, (size_t)rbf_maximum(1, job->terms) * sizeof(REAL));
    if (job->total_damplitude)
        job->damplitude =
            (REAL *)rbf_take(space, m, (size_t)rbf_maximum(1, job->terms) * sizeof(REAL));
}

/* Of each column of W the entry nearest to 0, if all have its sign and it is finite, else 0: less
 * that, neither W nor a mean of it is larger than it was. */
RBF_FUNCTION void RBF_NAME(centre_weights)(const RBF_NAME(gradient_job) * job) {
    const int64_t m = job->weights.rows, p = job->weights.columns;
    int64_t first, j, q;
    for (first = 0; first < p; first += COLUMNS) { /* lines are read once */
        const int64_t last = rbf_minimum(p, first + COLUMNS);
        REAL *nearest = job->centre_of_weights;
        int some = 1;
        for (q = first; q < last; ++q)
            nearest[q] = m > 0 ? RBF_NAME(matrix_entry)(&job->weights, 0, q) : 0;
        for (j = 1; some && j < m; ++j) {
            some = 0;
            for (q = first; q < last; ++q) {
                const REAL entry = RBF_NAME(matrix_entry)(&job->weights, j, q);
                if (!(nearest[q] > 0 ? entry > 0 : nearest[q] < 0 && entry < 0))
                    nearest[q] = 0;
                else if (nearest[q] > 0 ? entry < nearest[q] : entry > nearest[q])
                    nearest[q] = entry;
                some |= nearest[q] != 0;
            }
        }
        for (q = first; q < last; ++q)
            if (nearest[q] - nearest[q] != 0)
                nearest[q] = 0;
    }
}

RBF_INLINE void RBF_NAME(clear)(REAL *entries, int64_t count) {
    if (entries)
        memset(entries, 0, (size_t)count * sizeof(REAL));
}

/* Writes what columns have to `result`, if that is wanted: an entry per column, or for a scalar
 * their sum, in double, so that it is no worse than the sums of a column. A mixture has one for
 * each term. */
RBF_FUNCTION void RBF_NAME(store_columns)(const RBF_NAME(gradient_job) * job, const REAL *entries,
                                          int scalar, REAL *result) {
    const int64_t m = job->points.y.rows;
    int64_t t, j;
    for (t = 0; result && t < job->terms; ++t, entries += m) {
        double sum = 0;
        for (j = 0; j < m; ++j) {
            if (scalar)
                sum += entries[j];
            else
                result[j] = entries[j];
        }
        if (scalar)
            result[t] = (REAL)sum;
    }
}

/* The driver of the gradients below; the job holds the inputs and the wanted outputs. */
RBF_FUNCTION int RBF_NAME(run_gradient)(RBF_NAME(gradient_job) * job) {
    const int64_t n = job->points.x.rows, m = job->points.y.rows, depth = job->points.x.columns;
    const int64_t p = job->weights.columns;
    const int64_t factors = job->symmetric ? 2 * p : job->product.data ? p + 1 : p;
    const double products = (double)factors + (job->dweights ? (double)p : 0);
    const double per_entry = 5.0 * (double)depth + products + 30.0 * (double)job->terms;
    /* Symmetric: of half, and of what the tiles on the diagonal hold beside it. */
    const double columns = job->symmetric ? (double)rbf_minimum(m, (m + COLUMNS) / 2) : (double)m;
    const int threads = rbf_thread_count((double)n * columns * per_entry / LANES);
    rbf_workspace space = {NULL, 0, 0};
    rbf_storage storage;
    job->factors = factors;
    RBF_NAME(choose_squares)(job);
    RBF_NAME(cut_gradient)(job);
    RBF_NAME(take_gradient)(job, &space, threads);
    if (rbf_acquire(&space, &storage) != RBF_OK)
        return RBF_NO_MEMORY;
    RBF_NAME(take_gradient)(job, &space, threads);
    if (job->mixture)
        RBF_NAME(pack_terms)(job->coefficients, job->terms, job->gamma, job->amplitude);
    else
        RBF_NAME(set_unit)(job->coefficients + job->points.panels, 1);
    RBF_NAME(clear)(job->dgamma, job->terms * m);
    RBF_NAME(clear)(job->damplitude, job->terms * m);
    RBF_NAME(begin_points)(&job->points, threads);
    if (job->tiny)
        *job->tiny = 0;
    if (job->means)
        RBF_NAME(centre_weights)(job);
    if (n > 0 && m > 0 && job->terms > 0) {
        rbf_run(RBF_NAME(gradient_body), job, threads);
    } else { /* of no terms K is 0, whatever x and y are */
        RBF_NAME(clear)(job->dx, n * depth);
        RBF_NAME(clear)(job->dy, m * depth);
        RBF_NAME(clear)(job->dweights, m * p);
    }
    if (job->symmetric)
        RBF_NAME(add_diagonal)(job);
    RBF_NAME(store_columns)(job, job->dgamma, job->mixture || job->gamma.scalar, job->total_dgamma);
    RBF_NAME(store_columns)(job, job->damplitude, job->mixture || job->amplitude.scalar,
                            job->total_damplitude);
    rbf_release(&storage);
    return RBF_OK;
}

/* A job, zero but for the fields that all gradients set. */
RBF_FUNCTION RBF_NAME(gradient_job)
    RBF_NAME(new_gradient)(RBF_NAME(weigh) weigh, rbf_matrix x, rbf_matrix y, rbf_vector gamma,
                           rbf_matrix g, void *dx, void *dy, void *dgamma) {
    RBF_NAME(gradient_job) job;
    memset(&job, 0, sizeof job);
    RBF_NAME(set_points)(&job.points, x, y);
    job.points.keep_packed = 1;
    job.weigh = weigh;
    job.gamma = gamma;
    job.terms = 1;
    job.g = g;
    job.dx = (REAL *)dx;
    job.dy = (REAL *)dy;
    job.total_dgamma = (REAL *)dgamma;
    return job;
}

/* Of sum(G * K): dx (n,d), dy (m,d) in C order; dgamma and damplitude one entry a column, or a
 * single one where gamma or amplitude is a scalar. NULL for what is not wanted; with `symmetric`, y
 * is x, dy is NULL and dx is the whole gradient. Returns RBF_OK or RBF_NO_MEMORY. */
RBF_FUNCTION int RBF_NAME(rbf_gradient)(rbf_matrix x, rbf_matrix y, rbf_vector gamma,
                                        rbf_vector amplitude, rbf_matrix g, void *dx, void *dy,
                                        void *dgamma, void *damplitude, int symmetric) {
    RBF_AS_IEEE;
    RBF_NAME(gradient_job) job;
    job = RBF_NAME(new_gradient)(RBF_NAME(kernel_weights), x, y, gamma, g, dx, dy, dgamma);
    job.amplitude = amplitude;
    job.total_damplitude = (REAL *)damplitude;
    job.symmetric = symmetric;
    return RBF_NAME(run_gradient)(&job);
}

/* The same of a mixture: gamma and amplitude, and their gradients, have one entry a term. */
RBF_FUNCTION int RBF_NAME(rbf_mixture_gradient)(rbf_matrix x, rbf_matrix y, rbf_vector gamma,
                                                rbf_vector amplitude, int64_t terms, rbf_matrix g,
                                                void *dx, void *dy, void *dgamma, void *damplitude,
                                                int symmetric) {
    RBF_AS_IEEE;
    RBF_NAME(gradient_job) job;
    job = RBF_NAME(new_gradient)(RBF_NAME(mixture_weights), x, y, gamma, g, dx, dy, dgamma);
    job.amplitude = amplitude;
    job.mixture = 1;
    job.terms = terms;
    job.total_damplitude = (REAL *)damplitude;
    job.symmetric = symmetric;
    return RBF_NAME(run_gradient)(&job);
}

/* Of sum(H * (K W)), K without amplitude: as above, and dweights (m,p). */
RBF_FUNCTION int RBF_NAME(rbf_product_gradient)(rbf_matrix x, rbf_matrix y, rbf_vector gamma,
                                                rbf_matrix weights, rbf_matrix h, void *dx,
                                                void *dy, void *dgamma, void *dweights) {
    RBF_AS_IEEE;
    RBF_NAME(gradient_job) job;
    job = RBF_NAME(new_gradient)(RBF_NAME(product_weights), x, y, gamma, h, dx, dy, dgamma);
    job.weights = weights;
    job.amplitude.scalar = 1; /* no data: 1 */
    job.dweights = (REAL *)dweights;
    return RBF_NAME(run_gradient)(&job);
}

/* Of sum(G * K) where y is x, and G = left right^T, both (n, p): as rbf_gradient with `symmetric`,
 * G never stored. */
RBF_FUNCTION int RBF_NAME(rbf_outer_gradient)(rbf_matrix x, rbf_vector gamma, rbf_vector amplitude,
                                              rbf_matrix left, rbf_matrix right, void *dx,
                                              void *dgamma, void *damplitude) {
    RBF_AS_IEEE;
    RBF_NAME(gradient_job) job;
    job = RBF_NAME(new_gradient)(RBF_NAME(product_weights), x, x, gamma, left, dx, NULL, dgamma);
    job.weights = right;
    job.amplitude = amplitude;
    job.total_damplitude = (REAL *)damplitude;
    job.symmetric = 1;
    return RBF_NAME(run_gradient)(&job);
}

/* Of sum_i g[i] L[i], L and its rests the outputs of rbf_log_sum: doffset as damplitude above. */
RBF_FUNCTION int RBF_NAME(rbf_log_sum_gradient)(rbf_matrix x, rbf_matrix y, rbf_vector gamma,
                                                rbf_vector offset, rbf_vector log_sums,
                                                rbf_vector rests, rbf_vector g, void *dx, void *dy,
                                                void *dgamma, void *doffset) {
    RBF_AS_IEEE;
    const rbf_matrix column = {g.data, x.rows, 1, g.stride, 0};
    RBF_NAME(gradient_job) job;
    job = RBF_NAME(new_gradient)(RBF_NAME(log_sum_weights), x, y, gamma, column, dx, dy, dgamma);
    job.offset = offset;
    job.log_sums = log_sums;
    job.rests = rests;
    job.amplitude.scalar = offset.scalar; /* no data: 1, but the shape of doffset */
    job.total_damplitude = (REAL *)doffset;
    return RBF_NAME(run_gradient)(&job);
}

/* Of sum(H * P), P = A W and the others the outputs of rbf_softmax: dweights (m,p), and the rest as
 * rbf_log_sum_gradient. */
RBF_FUNCTION int RBF_NAME(rbf_softmax_gradient)(rbf_matrix x, rbf_matrix y, rbf_vector gamma,
                                                rbf_vector offset, rbf_matrix weights,
                                                rbf_matrix product, rbf_vector log_sums,
                                                rbf_vector rests, rbf_matrix h, void *dx, void *dy,
                                                void *dgamma, void *doffset, void *dweights) {
    RBF_AS_IEEE;
    RBF_NAME(gradient_job) job;
    job = RBF_NAME(new_gradient)(RBF_NAME(softmax_weights), x, y, gamma, h, dx, dy, dgamma);
    job.weights = weights;
    job.product = product;
    job.offset = offset;
    job.log_sums = log_sums;
    job.rests = rests;
    job.amplitude.scalar = offset.scalar; /* no data: 1, but the shape of doffset */
    job.total_damplitude = (REAL *)doffset;
    job.dweights = (REAL *)dweights;
    return RBF_NAME(run_gradient)(&job);
}
