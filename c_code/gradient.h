/* Gradients of sum(G * K) with respect to x, y, gamma and amplitude: docs/gradients.md.
 *
 * Nothing of size n * m is kept: D and E = exp(-gamma D) are computed again tile by tile, then with
 * the weights w[i, j] = 2 gamma[j] amplitude[j] G[i, j] E[i, j] (of RBF_TILE_ROWS rows and one
 * column block) the differences y[j] - x[i] are summed into both gradients in one pass.
 *
 * Columns go in waves of blocks; in a wave the tasks are (row group) x (column block). A task owns
 * its rows of dx, and has its own partial sums of dy, dgamma and damplitude, which are added in the
 * order of the groups behind a barrier. Groups, blocks and waves depend on the shapes alone: the
 * bits are the same for any number of threads. Symmetric: only entries above the diagonal are
 * computed, with G + G^T. Included once a precision by instantiate.h.
 */
enum {
    RBF_NAME(GRADIENT_DEPTH_BLOCK) = 32,          /* lanes of dx of so many columns stay in L1 */
    RBF_NAME(GRADIENT_COLUMN_BYTES) = 2048,       /* a row of the weights of a column block */
    RBF_NAME(GRADIENT_GROUPS) = 32,               /* row groups at most */
    RBF_NAME(GRADIENT_TASKS) = 32                 /* tasks aimed at in a wave */
};

typedef struct {
    rbf_matrix x, y, g;
    rbf_vector gamma, amplitude;
    REAL *dx, *dy, *dgamma, *damplitude; /* (n,d), (m,d), (m,), (m,) in C order; NULL: not wanted */
    int symmetric;
    int64_t panels, panels_per_block, blocks_per_wave;
    int64_t groups, rows_per_group;
    REAL *packed_y;                        /* [panels][depth][COLUMNS] */
    RBF_NAME(coefficients) * coefficients; /* [panels] */
    REAL *thread_space;                    /* [threads]: see gradient_scratch */
    int64_t thread_space_size;
    REAL *dy_partial;     /* [blocks_per_wave][groups][panels_per_block][depth][COLUMNS] */
    REAL *column_partial; /* [blocks_per_wave][groups][panels_per_block][2][COLUMNS] */
    REAL *dx_partial;     /* [blocks_per_wave][n][depth] when a wave has several blocks */
} RBF_NAME(gradient_job);

/* The pieces of a thread's own memory. */
typedef struct {
    REAL *rows;    /* [depth][RBF_TILE_ROWS] */
    REAL *weights; /* [panels_per_block][RBF_TILE_ROWS][COLUMNS] */
    REAL *lanes;   /* [GRADIENT_DEPTH_BLOCK][RBF_TILE_ROWS][LANES] */
} RBF_NAME(gradient_scratch);

/* G of one tile into tile[][COLUMNS], zero where it does not count: outside of the matrix and,
 * if symmetric, on and below the diagonal (above it, G + G^T). */
RBF_INLINE void RBF_NAME(gather_gradient)(const RBF_NAME(gradient_job) * job, int64_t row,
                                          int64_t column, int64_t rows, int64_t columns,
                                          REAL tile[RBF_TILE_ROWS][COLUMNS]) {
    const rbf_matrix g = job->g;
    int64_t i, j;
    if (rows < RBF_TILE_ROWS || columns < COLUMNS)
        memset(tile, 0, sizeof(REAL) * RBF_TILE_ROWS * COLUMNS);
    for (i = 0; i < rows; ++i) {
        const char *source = g.data + (row + i) * g.row_stride + column * g.column_stride;
        if (g.column_stride == (int64_t)sizeof(REAL))
            memcpy(tile[i], source, (size_t)columns * sizeof(REAL));
        else
            for (j = 0; j < columns; ++j)
                tile[i][j] = *(const REAL *)(source + j * g.column_stride);
    }
    if (job->symmetric) {
        for (j = 0; j < columns; ++j) {
            const char *source = g.data + (column + j) * g.row_stride + row * g.column_stride;
            for (i = 0; i < rows; ++i)
                tile[i][j] = row + i < column + j
                                 ? tile[i][j] + *(const REAL *)(source + i * g.column_stride)
                                 : 0;
        }
    }
}

/* Weights of one tile, and its share of -dgamma and damplitude added to column_sums[2][COLUMNS]. */
RBF_INLINE void RBF_NAME(weight_tile)(const RBF_NAME(gradient_job) * job, int64_t panel,
                                      int64_t row, int64_t rows, const REAL *rows_packed,
                                      REAL *weights, REAL *column_sums) {
    const int64_t depth = job->x.columns;
    const int64_t columns = rbf_minimum(COLUMNS, job->y.rows - panel * COLUMNS);
    const RBF_NAME(coefficients) *c = job->coefficients + panel;
    REAL g[RBF_TILE_ROWS][RBF_NAME(COLUMNS)] __attribute__((aligned(RBF_ALIGNMENT)));
    REAL e[RBF_TILE_ROWS][RBF_NAME(COLUMNS)] __attribute__((aligned(RBF_ALIGNMENT)));
    VECTOR tile[RBF_TILE_ROWS][RBF_TILE_VECTORS];
    int r, v, i, j;
    RBF_NAME(gather_gradient)(job, row, panel * COLUMNS, rows, columns, g);
    RBF_NAME(distance_tile)(depth, rows_packed, job->packed_y + panel * depth * COLUMNS, tile);
    if (__builtin_expect(c->special, 0)) {
        memcpy(e, tile, sizeof e);
        for (i = 0; i < RBF_TILE_ROWS; ++i)
            for (j = 0; j < COLUMNS; ++j)
                e[i][j] = RBF_NAME(library_exponential)(-c->gamma[j] * e[i][j]);
    }
    RBF_UNROLL
    for (v = 0; v < RBF_TILE_VECTORS; ++v) {
        const VECTOR rate = RBF_NAME(load)(c->rate + v * LANES);
        const VECTOR rate_low = RBF_NAME(load)(c->rate_low + v * LANES);
        const VECTOR limit = RBF_NAME(load)(c->limit + v * LANES);
        const VECTOR shift = RBF_NAME(load)(c->shift + v * LANES);
        const VECTOR unit = RBF_NAME(load)(c->unit + v * LANES);
        const VECTOR amplitude = RBF_NAME(load)(c->amplitude + v * LANES);
        const VECTOR twice_gamma = RBF_NAME(load)(c->gamma + v * LANES) * 2;
        VECTOR gamma_sum = RBF_NAME(load)(column_sums + v * LANES);
        VECTOR amplitude_sum = RBF_NAME(load)(column_sums + COLUMNS + v * LANES);
        RBF_UNROLL
        for (r = 0; r < RBF_TILE_ROWS; ++r) {
            const VECTOR distance = tile[r][v];
            VECTOR weight =
                RBF_NAME(exponential)(distance, rate, rate_low, limit, shift) * unit;
            if (__builtin_expect(c->special, 0))
                weight = RBF_NAME(load)(&e[r][v * LANES]);
            weight *= RBF_NAME(load)(&g[r][v * LANES]);
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
        RBF_NAME(store)(column_sums + v * LANES, gamma_sum);
        RBF_NAME(store)(column_sums + COLUMNS + v * LANES, amplitude_sum);
    }
    /* Lanes that do not count hold 0 * E, which is NaN where E is not finite. */
    if (columns < COLUMNS)
        for (i = 0; i < RBF_TILE_ROWS; ++i)
            for (j = (int)columns; j < COLUMNS; ++j)
                weights[i * COLUMNS + j] = 0;
    if (job->symmetric && row + RBF_TILE_ROWS > panel * COLUMNS)
        for (i = 0; i < RBF_TILE_ROWS; ++i)
            for (j = 0; j < COLUMNS && panel * COLUMNS + j <= row + i; ++j)
                weights[i * COLUMNS + j] = 0;
}

/* sum_j w (y - x) into lanes (still to be summed over), sum_i w (x - y) into dy, for a range of
 * columns of x and y. The two flags are constants where this is inlined. */
RBF_INLINE void RBF_NAME(difference_tile)(int64_t depth, const REAL *RBF_RESTRICT weights,
                                          const REAL *RBF_RESTRICT rows,
                                          const REAL *RBF_RESTRICT columns,
                                          REAL *RBF_RESTRICT lanes, REAL *RBF_RESTRICT dy,
                                          const int want_dx, const int want_dy) {
    VECTOR weight[RBF_TILE_ROWS][RBF_TILE_VECTORS];
    int64_t k;
    int r, v;
    RBF_UNROLL
    for (r = 0; r < RBF_TILE_ROWS; ++r) {
        RBF_UNROLL
        for (v = 0; v < RBF_TILE_VECTORS; ++v)
            weight[r][v] = RBF_NAME(load)(weights + r * COLUMNS + v * LANES);
    }
    for (k = 0; k < depth; ++k) {
        VECTOR column[RBF_TILE_VECTORS], column_sum[RBF_TILE_VECTORS];
        RBF_UNROLL
        for (v = 0; v < RBF_TILE_VECTORS; ++v) {
            column[v] = RBF_NAME(load)(columns + k * COLUMNS + v * LANES);
            if (want_dy)
                column_sum[v] = RBF_NAME(load)(dy + k * COLUMNS + v * LANES);
        }
        RBF_UNROLL
        for (r = 0; r < RBF_TILE_ROWS; ++r) {
            REAL *lane = lanes + (k * RBF_TILE_ROWS + r) * LANES;
            VECTOR sum = (VECTOR){0};
            if (want_dx)
                sum = RBF_NAME(load)(lane);
            RBF_UNROLL
            for (v = 0; v < RBF_TILE_VECTORS; ++v) {
                const VECTOR difference = column[v] - rows[k * RBF_TILE_ROWS + r];
                if (want_dx)
                    sum += weight[r][v] * difference;
                if (want_dy)
                    column_sum[v] -= weight[r][v] * difference;
            }
            if (want_dx)
                RBF_NAME(store)(lane, sum);
        }
        RBF_UNROLL
        for (v = 0; v < RBF_TILE_VECTORS; ++v)
            if (want_dy)
                RBF_NAME(store)(dy + k * COLUMNS + v * LANES, column_sum[v]);
    }
}

/* One row panel against one column block. */
RBF_FUNCTION void RBF_NAME(gradient_rows)(const RBF_NAME(gradient_job) * job, int64_t row,
                                          int64_t first_panel, int64_t last_panel,
                                          RBF_NAME(gradient_scratch) scratch, REAL *dx,
                                          REAL *dy_partial, REAL *column_partial) {
    const int64_t depth = job->x.columns, panel_size = depth * COLUMNS;
    const int64_t rows = rbf_minimum(RBF_TILE_ROWS, job->x.rows - row);
    const int want_dx = dx != NULL, want_dy = dy_partial != NULL;
    int64_t panel, k0, k;
    int r;
    /* Symmetric: panels wholly on or below the diagonal hold nothing that counts. */
    if (job->symmetric)
        first_panel = rbf_maximum(first_panel, (row + 1) / COLUMNS);
    RBF_NAME(pack_rows)(scratch.rows, job->x, row, RBF_TILE_ROWS);
    {
        REAL *weights = scratch.weights;
        for (panel = first_panel; panel < last_panel; ++panel) {
            RBF_NAME(weight_tile)
            (job, panel, row, rows, scratch.rows, weights,
             column_partial + panel % job->panels_per_block * 2 * COLUMNS);
            weights += RBF_TILE_ROWS * COLUMNS;
        }
    }
    if (!want_dx && !want_dy)
        return;
    for (k0 = 0; k0 < depth; k0 += RBF_NAME(GRADIENT_DEPTH_BLOCK)) {
        const int64_t width = rbf_minimum(RBF_NAME(GRADIENT_DEPTH_BLOCK), depth - k0);
        const REAL *weights = scratch.weights;
        const REAL *x = scratch.rows + k0 * RBF_TILE_ROWS;
        if (want_dx)
            memset(scratch.lanes, 0, (size_t)(width * RBF_TILE_ROWS * LANES) * sizeof(REAL));
        for (panel = first_panel; panel < last_panel; ++panel) {
            const REAL *y = job->packed_y + panel * panel_size + k0 * COLUMNS;
            REAL *dy = want_dy ? dy_partial + panel % job->panels_per_block * panel_size +
                                     k0 * COLUMNS
                               : NULL;
            if (want_dx && want_dy)
                RBF_NAME(difference_tile)(width, weights, x, y, scratch.lanes, dy, 1, 1);
            else if (want_dx)
                RBF_NAME(difference_tile)(width, weights, x, y, scratch.lanes, dy, 1, 0);
            else
                RBF_NAME(difference_tile)(width, weights, x, y, scratch.lanes, dy, 0, 1);
            weights += RBF_TILE_ROWS * COLUMNS;
        }
        if (want_dx)
            for (r = 0; r < rows; ++r)
                for (k = 0; k < width; ++k)
                    dx[(row + r) * depth + k0 + k] += RBF_NAME(lane_sum)(
                        scratch.lanes + (k * RBF_TILE_ROWS + r) * LANES);
    }
}

/* The partial sums of one panel, added over the groups in their order, into the results. */
RBF_FUNCTION void RBF_NAME(reduce_panel)(const RBF_NAME(gradient_job) * job, int64_t panel,
                                         int64_t block_in_wave) {
    const int64_t depth = job->y.columns, panel_size = depth * COLUMNS;
    const int64_t in_block = panel % job->panels_per_block;
    const int64_t columns = rbf_minimum(COLUMNS, job->y.rows - panel * COLUMNS);
    REAL *first = NULL;
    int64_t group, k, j;
    for (group = 0; group < job->groups; ++group) {
        const int64_t slot = (block_in_wave * job->groups + group) * job->panels_per_block + in_block;
        const REAL *sums = job->column_partial + slot * 2 * COLUMNS;
        for (j = 0; j < columns; ++j) {
            if (job->dgamma)
                job->dgamma[panel * COLUMNS + j] -= sums[j];
            if (job->damplitude)
                job->damplitude[panel * COLUMNS + j] += sums[COLUMNS + j];
        }
        if (job->dy_partial == NULL)
            continue;
        if (group == 0) {
            first = job->dy_partial + slot * panel_size;
        } else {
            const REAL *more = job->dy_partial + slot * panel_size;
            for (k = 0; k < panel_size; ++k)
                first[k] += more[k];
        }
    }
    if (first != NULL) {
        REAL *target = (job->symmetric ? job->dx : job->dy) + panel * COLUMNS * depth;
        for (j = 0; j < columns; ++j)
            for (k = 0; k < depth; ++k)
                target[j * depth + k] += first[k * COLUMNS + j];
    }
}

RBF_FUNCTION void RBF_NAME(gradient_body)(void *argument) {
    const RBF_NAME(gradient_job) *job = (const RBF_NAME(gradient_job) *)argument;
    const int64_t n = job->x.rows, m = job->y.rows, depth = job->x.columns;
    const int64_t blocks = rbf_ceiling_division(job->panels, job->panels_per_block);
    const int64_t block_size = job->panels_per_block * depth * COLUMNS;
    RBF_NAME(gradient_scratch) scratch;
    int64_t panel, wave, task;
    scratch.rows = job->thread_space + rbf_thread_number() * job->thread_space_size;
    scratch.weights = scratch.rows + rbf_ceiling_division(depth * RBF_TILE_ROWS, LANES) * LANES;
    scratch.lanes = scratch.weights + job->panels_per_block * RBF_TILE_ROWS * COLUMNS;
    RBF_OMP(for schedule(static))
    for (panel = 0; panel < job->panels; ++panel) {
        RBF_NAME(pack_rows)
        (job->packed_y + panel * depth * COLUMNS, job->y, panel * COLUMNS, COLUMNS);
        RBF_NAME(pack_coefficients)
        (job->coefficients + panel, job->gamma, job->amplitude, panel * COLUMNS, m);
    }
    for (wave = 0; wave < blocks; wave += job->blocks_per_wave) {
        const int64_t wave_blocks = rbf_minimum(job->blocks_per_wave, blocks - wave);
        const int64_t wave_panels = wave * job->panels_per_block;
        const int64_t wave_end =
            rbf_minimum(job->panels, wave_panels + wave_blocks * job->panels_per_block);
        RBF_OMP(for schedule(dynamic, 1))
        for (task = 0; task < wave_blocks * job->groups; ++task) {
            const int64_t block = task / job->groups, group = task % job->groups;
            const int64_t first = (wave + block) * job->panels_per_block;
            const int64_t last = rbf_minimum(job->panels, first + job->panels_per_block);
            const int64_t slot = block * job->groups + group;
            const int64_t end = rbf_minimum(n, (group + 1) * job->rows_per_group);
            REAL *dy = job->dy_partial ? job->dy_partial + slot * block_size : NULL;
            REAL *sums = job->column_partial + slot * job->panels_per_block * 2 * COLUMNS;
            REAL *dx = job->dx;
            int64_t row;
            if (job->dx_partial) {
                dx = job->dx_partial + block * n * depth;
                memset(dx + group * job->rows_per_group * depth, 0,
                       (size_t)((end - group * job->rows_per_group) * depth) * sizeof(REAL));
            }
            if (dy)
                memset(dy, 0, (size_t)block_size * sizeof(REAL));
            memset(sums, 0, (size_t)(job->panels_per_block * 2 * COLUMNS) * sizeof(REAL));
            for (row = group * job->rows_per_group; row < end; row += RBF_TILE_ROWS) {
                if (job->symmetric && row >= last * COLUMNS)
                    break;
                RBF_NAME(gradient_rows)(job, row, first, last, scratch, dx, dy, sums);
            }
        }
        if (job->dx_partial) {
            RBF_OMP(for schedule(static))
            for (task = 0; task < n; ++task) {
                int64_t block, k;
                for (block = 0; block < wave_blocks; ++block)
                    for (k = 0; k < depth; ++k)
                        job->dx[task * depth + k] +=
                            job->dx_partial[(block * n + task) * depth + k];
            }
        }
        RBF_OMP(for schedule(static))
        for (panel = wave_panels; panel < wave_end; ++panel)
            RBF_NAME(reduce_panel)(job, panel, (panel - wave_panels) / job->panels_per_block);
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

/* dx (n,d), dy (m,d) in C order; dgamma and damplitude one entry a column, or a single one where
 * gamma or amplitude is a scalar. NULL for what is not wanted; with `symmetric`, y is x, dy
 * is NULL and dx is the whole gradient. Returns RBF_OK or RBF_NO_MEMORY. */
RBF_FUNCTION int RBF_NAME(rbf_gradient)(rbf_matrix x, rbf_matrix y, rbf_vector gamma,
                                        rbf_vector amplitude, rbf_matrix g, void *dx, void *dy,
                                        void *dgamma, void *damplitude, int symmetric) {
    RBF_NAME(gradient_job) job;
    rbf_workspace space = {NULL, 0, 0};
    rbf_storage storage;
    const int64_t n = x.rows, m = y.rows, depth = x.columns;
    const double operations = (double)n * (double)m * (5.0 * (double)depth + 30) / LANES;
    const int threads = rbf_thread_count(symmetric ? operations / 2 : operations);
    const int want_dy = dy != NULL || (symmetric && dx != NULL);
    int64_t blocks;
    int pass;
    job.x = x;
    job.y = y;
    job.g = g;
    job.gamma = gamma;
    job.amplitude = amplitude;
    job.dx = (REAL *)dx;
    job.dy = (REAL *)dy;
    job.symmetric = symmetric;
    job.panels = rbf_ceiling_division(m, COLUMNS);
    job.panels_per_block = rbf_minimum(
        RBF_NAME(GRADIENT_COLUMN_BYTES) / (int64_t)(COLUMNS * sizeof(REAL)),
        RBF_NAME(PANEL_CACHE_BYTES) /
            (rbf_maximum(depth, 1) * COLUMNS * (int64_t)sizeof(REAL)));
    job.panels_per_block = rbf_maximum(1, rbf_minimum(job.panels_per_block, job.panels));
    blocks = rbf_ceiling_division(job.panels, job.panels_per_block);
    job.groups = rbf_minimum(RBF_NAME(GRADIENT_GROUPS),
                             rbf_ceiling_division(n, 4 * RBF_TILE_ROWS));
    job.groups = rbf_maximum(1, job.groups);
    job.rows_per_group =
        rbf_ceiling_division(rbf_ceiling_division(n, job.groups), RBF_TILE_ROWS) * RBF_TILE_ROWS;
    job.groups = rbf_maximum(1, n > 0 ? rbf_ceiling_division(n, job.rows_per_group) : 1);
    job.blocks_per_wave = rbf_maximum(
        1, rbf_minimum(blocks, RBF_NAME(GRADIENT_TASKS) / job.groups));
    job.thread_space_size = rbf_ceiling_division(depth * RBF_TILE_ROWS, LANES) * LANES +
                            job.panels_per_block * RBF_TILE_ROWS * COLUMNS +
                            RBF_NAME(GRADIENT_DEPTH_BLOCK) * RBF_TILE_ROWS * LANES;
    for (pass = 0; pass < 2; ++pass) {
        const int64_t slots = job.blocks_per_wave * job.groups * job.panels_per_block;
        job.packed_y = (REAL *)rbf_take(&space, job.panels * depth, COLUMNS * sizeof(REAL));
        job.coefficients = (RBF_NAME(coefficients) *)rbf_take(&space, job.panels,
                                                              sizeof(RBF_NAME(coefficients)));
        job.thread_space =
            (REAL *)rbf_take(&space, job.thread_space_size, (size_t)threads * sizeof(REAL));
        job.column_partial = (REAL *)rbf_take(&space, slots, 2 * COLUMNS * sizeof(REAL));
        job.dy_partial = (REAL *)rbf_take(&space, want_dy ? slots * depth : 0,
                                          COLUMNS * sizeof(REAL));
        job.dx_partial = (REAL *)rbf_take(
            &space, dx != NULL && job.blocks_per_wave > 1 ? job.blocks_per_wave * n : 0,
            (size_t)rbf_maximum(depth, 1) * sizeof(REAL));
        job.dgamma = (REAL *)rbf_take(&space, dgamma != NULL ? m : 0, sizeof(REAL));
        job.damplitude = (REAL *)rbf_take(&space, damplitude != NULL ? m : 0, sizeof(REAL));
        if (pass == 0 && rbf_acquire(&space, &storage) != RBF_OK)
            return RBF_NO_MEMORY;
    }
    /* A piece of no bytes is not NULL: what is not wanted must be. */
    if (!want_dy)
        job.dy_partial = NULL;
    if (dx == NULL || job.blocks_per_wave == 1)
        job.dx_partial = NULL;
    if (dgamma == NULL)
        job.dgamma = NULL;
    else
        memset(job.dgamma, 0, (size_t)m * sizeof(REAL));
    if (damplitude == NULL)
        job.damplitude = NULL;
    else
        memset(job.damplitude, 0, (size_t)m * sizeof(REAL));
    if (dx != NULL)
        memset(dx, 0, (size_t)(n * depth) * sizeof(REAL));
    if (dy != NULL)
        memset(dy, 0, (size_t)(m * depth) * sizeof(REAL));
    if (n > 0 && m > 0)
        rbf_run(RBF_NAME(gradient_body), &job, threads);
    if (symmetric && damplitude != NULL) {
        /* The diagonal of K is the amplitude itself, unless D is NaN there. */
        int64_t i;
        for (i = 0; i < n; ++i) {
            const REAL g_ii = *(const REAL *)(g.data + i * (g.row_stride + g.column_stride));
            REAL distance = 0;
            int64_t k;
            for (k = 0; k < depth; ++k) {
                const REAL value = *(const REAL *)(x.data + i * x.row_stride + k * x.column_stride);
                distance += (value - value) * (value - value);
            }
            job.damplitude[i] +=
                g_ii *
                RBF_NAME(library_exponential)(-RBF_NAME(entry)(gamma, 0) * distance);
        }
    }
    if (dgamma != NULL) {
        if (gamma.scalar)
            RBF_NAME(store_total)(job.dgamma, m, (REAL *)dgamma);
        else
            memcpy(dgamma, job.dgamma, (size_t)m * sizeof(REAL));
    }
    if (damplitude != NULL) {
        if (amplitude.scalar)
            RBF_NAME(store_total)(job.damplitude, m, (REAL *)damplitude);
        else
            memcpy(damplitude, job.damplitude, (size_t)m * sizeof(REAL));
    }
    rbf_release(&storage);
    return RBF_OK;
}
