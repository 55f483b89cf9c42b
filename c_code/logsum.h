/* L[i] = log sum_j exp(offset[j] - gamma[j] |x[i] - y[j]|^2), stable: the log-sum-exp kernel.
 *
 * The exponents of a row panel and a column block are kept; then their largest of each row is
 * known, and the block is summed as exp(exponent - largest), at most 1 each. Block sums are added
 * in double, scaled when a later block holds a larger exponent. L = largest + log(sum) is given as
 * two numbers, the second what the first leaves out: however large L is, its error is that of the
 * exponents and of log(sum). Tasks and splits as in product.h. Included once a precision by
 * instantiate.h.
 */
typedef struct {
    double largest, sum; /* sum of exp(exponent - largest) */
} RBF_NAME(log_sum);

typedef struct {
    RBF_NAME(points) points;
    rbf_vector gamma, offset;
    REAL *output, *rests; /* (n,) */
    int64_t rows_per_task, panels_per_block, splits, panels_per_split;
    REAL *gammas, *offsets; /* [panels][COLUMNS]; offsets -inf past the last column */
    REAL *thread_tiles;     /* [threads][panels_per_block][RBF_TILE_ROWS][COLUMNS] */
    int64_t thread_tiles_stride;
    RBF_NAME(log_sum) * partial;   /* [splits][n] */
    RBF_NAME(coefficients) * unit; /* of gamma 1 and so scaled */
    double scale;                  /* of all sums: a power of two */
} RBF_NAME(log_sum_job);

RBF_INLINE void RBF_NAME(join_log_sums)(RBF_NAME(log_sum) * to, double largest, double sum) {
    /* Equal also when both are infinite, where the difference would be NaN. */
    if (largest <= to->largest) {
        to->sum += largest == to->largest ? sum : sum * exp(largest - to->largest);
    } else {
        to->sum = sum + (to->sum > 0 ? to->sum * exp(to->largest - largest) : to->sum);
        to->largest = largest;
    }
}

/* One row panel against one column block, joined to sums; those up to last_row follow. With `keep`,
 * a constant, the tiles are left with exp(exponent - largest of the block's row), unless that is
 * inf. */
RBF_INLINE void RBF_NAME(log_sum_rows)(const RBF_NAME(log_sum_job) * job, int64_t row,
                                       int64_t last_row, int64_t first_panel, int64_t last_panel,
                                       REAL *tiles, RBF_NAME(log_sum) * sums, const int keep) {
    const int64_t rows = rbf_minimum(RBF_TILE_ROWS, last_row - row);
    const RBF_NAME(strip) *strip = RBF_NAME(prepare_distances)(
        &job->points, row / RBF_TILE_ROWS, rbf_ceiling_division(last_row, RBF_TILE_ROWS),
        first_panel, last_panel);
    const int64_t panels = last_panel - first_panel;
    const VECTOR rate = RBF_NAME(load)(job->unit->rate);
    const VECTOR rate_low = RBF_NAME(load)(job->unit->rate_low);
    const VECTOR limit = RBF_NAME(load)(job->unit->limit);
    const VECTOR shift = RBF_NAME(load)(job->unit->shift);
    const VECTOR unit = RBF_NAME(load)(job->unit->unit);
    VECTOR largest[RBF_TILE_ROWS];
    REAL lanes[RBF_NAME(LANES)] __attribute__((aligned(RBF_ALIGNMENT)));
    int64_t panel, t, c;
    int r, v, l, i;
    for (r = 0; r < RBF_TILE_ROWS; ++r)
        largest[r] = (VECTOR){0} - RBF_REAL_INFINITY;
    for (panel = first_panel; panel < last_panel; ++panel) {
        VECTOR tile[RBF_TILE_ROWS][RBF_TILE_VECTORS];
        REAL *to = tiles + (panel - first_panel) * RBF_TILE_ROWS * COLUMNS;
        RBF_NAME(distances)(&job->points, strip, row / RBF_TILE_ROWS, panel, tile, RBF_SUM_CHUNK);
        RBF_UNROLL
        for (v = 0; v < RBF_TILE_VECTORS; ++v) {
            const VECTOR gamma = RBF_NAME(load)(job->gammas + panel * COLUMNS + v * LANES);
            const VECTOR offset = RBF_NAME(load)(job->offsets + panel * COLUMNS + v * LANES);
            RBF_UNROLL
            for (r = 0; r < RBF_TILE_ROWS; ++r) {
                const VECTOR exponent = offset - gamma * tile[r][v];
                /* minimum of the opposites: keeps the old one where the exponent is NaN */
                largest[r] = -RBF_NAME(minimum)(-exponent, -largest[r]);
                RBF_NAME(store)(to + r * COLUMNS + v * LANES, exponent);
            }
        }
        /* What lies past the last column adds exp(-inf), even where D is not finite. */
        for (c = job->points.y.rows - panel * COLUMNS; c < COLUMNS; ++c)
            for (r = 0; r < RBF_TILE_ROWS; ++r)
                to[r * COLUMNS + c] = -RBF_REAL_INFINITY;
    }
    for (r = 0; r < rows; ++r) {
        VECTOR sum = (VECTOR){0};
        REAL top = -RBF_REAL_INFINITY, base;
        RBF_NAME(store)(lanes, largest[r]);
        for (l = 0; l < LANES; ++l)
            top = lanes[l] > top ? lanes[l] : top;
        if (top == RBF_REAL_INFINITY) { /* the sum is inf, or NaN if there is one: no differences */
            REAL any = 1;
            for (t = 0; t < panels * COLUMNS; ++t) {
                const REAL exponent =
                    tiles[(t / COLUMNS * RBF_TILE_ROWS + r) * COLUMNS + t % COLUMNS];
                any = exponent == exponent ? any : exponent;
            }
            RBF_NAME(join_log_sums)(sums + r, top, any);
            continue;
        }
        base = top == -RBF_REAL_INFINITY ? 0 : top; /* -inf: every term is 0 from anywhere */
        for (t = 0; t < panels; ++t) {
            RBF_UNROLL
            for (v = 0; v < RBF_TILE_VECTORS; v += RBF_SUMMED_EXPONENTIALS) {
                REAL *exponents = tiles + (t * RBF_TILE_ROWS + r) * COLUMNS + v * LANES;
                VECTOR terms[RBF_SUMMED_EXPONENTIALS];
                RBF_UNROLL
                for (i = 0; i < RBF_SUMMED_EXPONENTIALS; ++i)
                    terms[i] = base - RBF_NAME(load)(exponents + i * LANES);
                RBF_NAME(exponentials)(terms, RBF_SUMMED_EXPONENTIALS, rate, rate_low, limit,
                                       shift);
                RBF_UNROLL
                for (i = 0; i < RBF_SUMMED_EXPONENTIALS; ++i) {
                    terms[i] *= unit;
                    sum += terms[i];
                    if (keep)
                        RBF_NAME(store)(exponents + i * LANES, terms[i]);
                }
            }
        }
        RBF_NAME(store)(lanes, sum);
        RBF_NAME(join_log_sums)(sums + r, top, RBF_NAME(lane_sum)(lanes));
    }
}

/* What exponents of a panel need beside y. */
RBF_FUNCTION void RBF_NAME(pack_offsets)(const RBF_NAME(log_sum_job) * job, int64_t panel) {
    const int64_t m = job->points.y.rows;
    int64_t c;
    for (c = panel * COLUMNS; c < (panel + 1) * COLUMNS; ++c) {
        job->gammas[c] = c < m ? RBF_NAME(entry)(job->gamma, c) : 0;
        job->offsets[c] = c < m ? RBF_NAME(entry)(job->offset, c) : -RBF_REAL_INFINITY;
    }
}

/* L of row i from its sums of all splits, which is returned. */
RBF_FUNCTION RBF_NAME(log_sum)
    RBF_NAME(store_log_sum)(const RBF_NAME(log_sum_job) * job, int64_t i) {
    RBF_NAME(log_sum) total = job->partial[i];
    REAL *value = job->output + i, *rest = job->rests + i;
    int64_t split;
    for (split = 1; split < job->splits; ++split) {
        const RBF_NAME(log_sum) more = job->partial[split * job->points.x.rows + i];
        RBF_NAME(join_log_sums)(&total, more.largest, more.sum);
    }
    *rest = 0;
    if (total.sum != total.sum) /* a NaN among the exponents */
        *value = (REAL)total.sum;
    else if (total.largest - total.largest != 0) /* -inf: no terms at all; or inf */
        *value = (REAL)total.largest;
    else {
        double sum, lost;
        RBF_EXACT_SUM(double, sum, lost, total.largest, log(total.sum / job->scale));
        *value = (REAL)sum;
        if (*value - *value == 0)
            *rest = (REAL)((sum - *value) + lost);
    }
    return total;
}

RBF_FUNCTION void RBF_NAME(log_sum_body)(void *argument) {
    const RBF_NAME(log_sum_job) *job = (const RBF_NAME(log_sum_job) *)argument;
    const RBF_NAME(points) *points = &job->points;
    const int64_t n = points->x.rows;
    const int64_t row_blocks = rbf_ceiling_division(n, job->rows_per_task);
    const int64_t thread = rbf_thread_number();
    REAL *tiles = job->thread_tiles + thread * job->thread_tiles_stride;
    int64_t panel, task, i;
    RBF_OMP(for schedule(static) nowait)
    for (panel = 0; panel < points->row_panels; ++panel)
        RBF_NAME(pack_x)(points, panel);
    RBF_OMP(for schedule(static))
    for (panel = 0; panel < points->panels; ++panel) {
        RBF_NAME(pack_y)(points, panel);
        RBF_NAME(pack_offsets)(job, panel);
    }
    RBF_OMP(for schedule(dynamic, 1))
    for (task = 0; task < row_blocks * job->splits; ++task) {
        const int64_t split = task / row_blocks;
        const int64_t first_row = task % row_blocks * job->rows_per_task;
        const int64_t last_row = rbf_minimum(n, first_row + job->rows_per_task);
        const int64_t end = rbf_minimum(points->panels, (split + 1) * job->panels_per_split);
        RBF_NAME(log_sum) *sums = job->partial + split * n;
        int64_t row;
        for (row = first_row; row < last_row; ++row) {
            sums[row].largest = -(double)INFINITY;
            sums[row].sum = 0;
        }
        for (panel = split * job->panels_per_split; panel < end; panel += job->panels_per_block)
            for (row = first_row; row < last_row; row += RBF_TILE_ROWS)
                RBF_NAME(log_sum_rows)(job, row, last_row, panel,
                                       rbf_minimum(end, panel + job->panels_per_block), tiles,
                                       sums + row, 0);
    }
    RBF_OMP(for schedule(static))
    for (i = 0; i < n; ++i)
        RBF_NAME(store_log_sum)(job, i);
}

/* What there is a column, a row of each split, and for all. */
RBF_FUNCTION void RBF_NAME(take_log_sums)(RBF_NAME(log_sum_job) * job, rbf_workspace *space) {
    job->gammas = (REAL *)rbf_take(space, job->points.panels, COLUMNS * sizeof(REAL));
    job->offsets = (REAL *)rbf_take(space, job->points.panels, COLUMNS * sizeof(REAL));
    job->partial = (RBF_NAME(log_sum) *)rbf_take(space, job->splits * job->points.x.rows,
                                                 sizeof(RBF_NAME(log_sum)));
    job->unit = (RBF_NAME(coefficients) *)rbf_take(space, 1, sizeof(RBF_NAME(coefficients)));
}

/* output (n,), and in rests (n,) what rounding it left out, 0 where it is not finite: the gradient
 * needs both. Returns RBF_OK or RBF_NO_MEMORY. */
RBF_FUNCTION int RBF_NAME(rbf_log_sum)(rbf_matrix x, rbf_matrix y, rbf_vector gamma,
                                       rbf_vector offset, void *output, void *rests) {
    RBF_AS_IEEE;
    RBF_NAME(log_sum_job) job;
    rbf_workspace space = {NULL, 0, 0};
    rbf_storage storage;
    const int64_t n = x.rows, depth = x.columns;
    const double operations = (double)n * (double)y.rows * (2.0 * (double)depth + 20) / LANES;
    const int threads = rbf_thread_count(operations);
    int pass;
    if (n == 0)
        return RBF_OK;
    RBF_NAME(set_points)(&job.points, x, y);
    job.gamma = gamma;
    job.offset = offset;
    job.output = (REAL *)output;
    job.rests = (REAL *)rests;
    job.rows_per_task = RBF_NAME(rows_of_a_task)(&job.points, depth, threads);
    RBF_NAME(cut_columns)(&job.points, &job.panels_per_block, &job.splits, &job.panels_per_split);
    job.thread_tiles_stride =
        rbf_apart(job.panels_per_block * RBF_TILE_ROWS * COLUMNS, sizeof(REAL), threads);
    for (pass = 0; pass < 2; ++pass) {
        RBF_NAME(take_points)(&job.points, &space, threads);
        RBF_NAME(take_log_sums)(&job, &space);
        job.thread_tiles =
            (REAL *)rbf_take(&space, job.thread_tiles_stride, (size_t)threads * sizeof(REAL));
        if (pass == 0 && rbf_acquire(&space, &storage) != RBF_OK)
            return RBF_NO_MEMORY;
    }
    RBF_NAME(set_unit)(job.unit, 1);
    job.scale = 1;
    RBF_NAME(begin_points)(&job.points, threads);
    rbf_run(RBF_NAME(log_sum_body), &job, threads);
    rbf_release(&storage);
    return RBF_OK;
}
