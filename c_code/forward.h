/* K[i, j] = amplitude[j] exp(-gamma[j] |x[i] - y[j]|^2): the forward kernel.
 *
 * All panels of y are packed once; then tasks of (row block) x (column block) are handed out to
 * threads as they come free. A column block of panels stays in the second-level cache while the
 * rows of the block pass over it. Every entry is computed by one tile in one order, so the bits do
 * not depend on the number of threads. Included once a precision by instantiate.h.
 */
enum {
    RBF_NAME(PANEL_CACHE_BYTES) = 1 << 18,
    RBF_NAME(MIRROR_BLOCK) = 256,
    RBF_NAME(MIRROR_DEPTH_BYTES) = 384
};

typedef struct {
    rbf_matrix x, y;
    rbf_vector gamma, amplitude;
    REAL *output; /* (n, m), C order */
    int symmetric;
    int64_t panels, panels_per_block, rows_per_block;
    REAL *packed_y;                        /* [panels][depth][COLUMNS] */
    RBF_NAME(coefficients) * coefficients; /* [panels] */
    REAL *packed_rows;                     /* [threads][depth][RBF_TILE_ROWS] */
    int64_t packed_rows_size;
} RBF_NAME(forward_job);

/* One tile of K into `output`, of which rows x columns are wanted. */
RBF_INLINE void RBF_NAME(forward_tile)(int64_t depth, const REAL *rows_packed,
                                       const REAL *columns_packed, const RBF_NAME(coefficients) * c,
                                       REAL *output, int64_t output_stride, int64_t rows,
                                       int64_t columns) {
    VECTOR tile[RBF_TILE_ROWS][RBF_TILE_VECTORS];
    int r, v;
    RBF_NAME(distance_tile)(depth, rows_packed, columns_packed, tile);
    if (__builtin_expect(c->special, 0)) {
        REAL distance[RBF_TILE_ROWS][RBF_NAME(COLUMNS)] __attribute__((aligned(RBF_ALIGNMENT)));
        int64_t i, j;
        memcpy(distance, tile, sizeof distance);
        for (i = 0; i < rows; ++i)
            for (j = 0; j < columns; ++j)
                output[i * output_stride + j] =
                    c->amplitude[j] * RBF_NAME(library_exponential)(-c->gamma[j] * distance[i][j]);
        return;
    }
    RBF_UNROLL
    for (v = 0; v < RBF_TILE_VECTORS; ++v) {
        const VECTOR rate = RBF_NAME(load)(c->rate + v * LANES);
        const VECTOR rate_low = RBF_NAME(load)(c->rate_low + v * LANES);
        const VECTOR limit = RBF_NAME(load)(c->limit + v * LANES);
        const VECTOR shift = RBF_NAME(load)(c->shift + v * LANES);
        const VECTOR factor = RBF_NAME(load)(c->factor + v * LANES);
        RBF_UNROLL
        for (r = 0; r < RBF_TILE_ROWS; ++r)
            tile[r][v] = RBF_NAME(exponential)(tile[r][v], rate, rate_low, limit, shift) * factor;
    }
    if (rows == RBF_TILE_ROWS && columns == COLUMNS) {
        RBF_UNROLL
        for (r = 0; r < RBF_TILE_ROWS; ++r) {
            RBF_UNROLL
            for (v = 0; v < RBF_TILE_VECTORS; ++v)
                RBF_NAME(store_unaligned)(output + r * output_stride + v * LANES, tile[r][v]);
        }
    } else {
        REAL edge[RBF_TILE_ROWS][RBF_NAME(COLUMNS)] __attribute__((aligned(RBF_ALIGNMENT)));
        int64_t i;
        RBF_UNROLL
        for (r = 0; r < RBF_TILE_ROWS; ++r) {
            RBF_UNROLL
            for (v = 0; v < RBF_TILE_VECTORS; ++v)
                RBF_NAME(store)(&edge[r][v * LANES], tile[r][v]);
        }
        for (i = 0; i < rows; ++i)
            memcpy(output + i * output_stride, edge[i], (size_t)columns * sizeof(REAL));
    }
}

/* Rows [first_row, last_row) against panels [first_panel, last_panel). */
RBF_FUNCTION void RBF_NAME(forward_block)(const RBF_NAME(forward_job) * job, int64_t first_row,
                                          int64_t last_row, int64_t first_panel, int64_t last_panel,
                                          REAL *rows_packed) {
    const int64_t depth = job->x.columns, m = job->y.rows;
    int64_t row, panel;
    for (row = first_row; row < last_row; row += RBF_TILE_ROWS) {
        const int64_t rows = rbf_minimum(RBF_TILE_ROWS, last_row - row);
        RBF_NAME(pack_rows)(rows_packed, job->x, row, RBF_TILE_ROWS);
        for (panel = first_panel; panel < last_panel; ++panel)
            RBF_NAME(forward_tile)
        (depth, rows_packed, job->packed_y + panel * depth * COLUMNS, job->coefficients + panel,
         job->output + row * m + panel * COLUMNS, m, rows,
         rbf_minimum(COLUMNS, m - panel * COLUMNS));
    }
}

/* Entries (i, j) of a block above the diagonal to (j, i) below it. */
RBF_FUNCTION void RBF_NAME(mirror_block)(REAL *output, int64_t n, int64_t first_row,
                                         int64_t last_row, int64_t first_column,
                                         int64_t last_column) {
    int64_t i, j, row, column;
    for (column = first_column; column < last_column; column += LANES) {
        const int64_t column_end = rbf_minimum(column + LANES, last_column);
        for (row = first_row; row < last_row; row += LANES) {
            const int64_t row_end = rbf_minimum(row + LANES, last_row);
            if (row + LANES == row_end && column + LANES == column_end) {
                VECTOR square[RBF_NAME(LANES)];
                RBF_UNROLL
                for (i = 0; i < LANES; ++i)
                    square[i] = RBF_NAME(load_unaligned)(output + (row + i) * n + column);
                RBF_NAME(transpose)(square);
                RBF_UNROLL
                for (i = 0; i < LANES; ++i)
                    RBF_NAME(store_unaligned)(output + (column + i) * n + row, square[i]);
                continue;
            }
            for (j = column; j < column_end; ++j)
                for (i = row; i < row_end; ++i)
                    output[j * n + i] = output[i * n + j];
        }
    }
}

RBF_FUNCTION void RBF_NAME(forward_body)(void *argument) {
    const RBF_NAME(forward_job) *job = (const RBF_NAME(forward_job) *)argument;
    const int64_t n = job->x.rows, m = job->y.rows, depth = job->x.columns;
    REAL *rows_packed = job->packed_rows + rbf_thread_number() * job->packed_rows_size;
    int64_t panel, task;
    RBF_OMP(for schedule(static))
    for (panel = 0; panel < job->panels; ++panel) {
        RBF_NAME(pack_rows)
        (job->packed_y + panel * depth * COLUMNS, job->y, panel * COLUMNS, COLUMNS);
        RBF_NAME(pack_coefficients)
        (job->coefficients + panel, job->gamma, job->amplitude, panel * COLUMNS, m);
    }
    if (!job->symmetric) {
        const int64_t row_blocks = rbf_ceiling_division(n, job->rows_per_block);
        const int64_t tasks = row_blocks * rbf_ceiling_division(job->panels, job->panels_per_block);
        RBF_OMP(for schedule(dynamic, 1) nowait)
        for (task = 0; task < tasks; ++task) {
            const int64_t row = task % row_blocks * job->rows_per_block;
            const int64_t first = task / row_blocks * job->panels_per_block;
            RBF_NAME(forward_block)
            (job, row, rbf_minimum(n, row + job->rows_per_block), first,
             rbf_minimum(job->panels, first + job->panels_per_block), rows_packed);
        }
    } else {
        /* Square blocks on and above the diagonal; those above are copied below it. */
        const int64_t size = RBF_NAME(MIRROR_BLOCK);
        const int64_t blocks = rbf_ceiling_division(n, size);
        RBF_OMP(for schedule(dynamic, 1) nowait)
        for (task = 0; task < blocks * blocks; ++task) {
            const int64_t row = task / blocks * size, column = task % blocks * size;
            const int64_t row_end = rbf_minimum(n, row + size);
            const int64_t column_end = rbf_minimum(n, column + size);
            if (column < row)
                continue;
            RBF_NAME(forward_block)
            (job, row, row_end, column / COLUMNS, rbf_ceiling_division(column_end, COLUMNS),
             rows_packed);
            if (column > row)
                RBF_NAME(mirror_block)(job->output, n, row, row_end, column, column_end);
        }
    }
}

/* output (n, m) in C order. With `symmetric`, y is x, and gamma and amplitude are scalars. Returns
 * RBF_OK or RBF_NO_MEMORY. */
RBF_FUNCTION int RBF_NAME(rbf_forward)(rbf_matrix x, rbf_matrix y, rbf_vector gamma,
                                       rbf_vector amplitude, void *output, int symmetric) {
    RBF_NAME(forward_job) job;
    rbf_workspace space = {NULL, 0, 0};
    rbf_storage storage;
    const int64_t depth = x.columns;
    const double operations = (double)x.rows * (double)y.rows * (2.0 * (double)depth + 16) / LANES;
    const int threads = rbf_thread_count(operations);
    int pass;
    if (x.rows == 0 || y.rows == 0)
        return RBF_OK;
    job.x = x;
    job.y = y;
    job.gamma = gamma;
    job.amplitude = amplitude;
    job.output = (REAL *)output;
    /* A mirrored copy costs more than computing where there is little to compute. The bits are the
     * same: (x[i] - x[j])^2 and (x[j] - x[i])^2 are, and are added in the same order. */
    job.symmetric = symmetric && depth * (int64_t)sizeof(REAL) >= RBF_NAME(MIRROR_DEPTH_BYTES);
    job.panels = rbf_ceiling_division(y.rows, COLUMNS);
    job.panels_per_block = rbf_maximum(
        1, RBF_NAME(PANEL_CACHE_BYTES) / (rbf_maximum(depth, 4) * COLUMNS * (int64_t)sizeof(REAL)));
    /* Enough tasks to share out evenly, each long enough to be worth handing out. */
    job.rows_per_block = RBF_TILE_ROWS * rbf_maximum(1, rbf_minimum(16, x.rows / 512));
    job.packed_rows_size = rbf_ceiling_division(depth * RBF_TILE_ROWS, LANES) * LANES;
    for (pass = 0; pass < 2; ++pass) {
        job.packed_y = (REAL *)rbf_take(&space, job.panels * depth, COLUMNS * sizeof(REAL));
        job.coefficients =
            (RBF_NAME(coefficients) *)rbf_take(&space, job.panels, sizeof(RBF_NAME(coefficients)));
        job.packed_rows =
            (REAL *)rbf_take(&space, job.packed_rows_size, (size_t)threads * sizeof(REAL));
        if (pass == 0 && rbf_acquire(&space, &storage) != RBF_OK)
            return RBF_NO_MEMORY;
    }
    rbf_run(RBF_NAME(forward_body), &job, threads);
    rbf_release(&storage);
    return RBF_OK;
}
