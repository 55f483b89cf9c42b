/* Tiles of K, kept in the first-level cache, and their products with rows of W: what P = K W is
 * made of, in product.h and, where y is x, in symmetric_product.h.
 *
 * A row panel's tiles of one column block are made as in forward.h and multiplied by the block's
 * rows of W: by a register tile whose lanes run over columns of W where there are enough of them
 * (`wide`), and over columns of K for what is left (`narrow`).
 *
 * Terms are added in chains of at most PRODUCT_CHAIN, the chains of a block (wide) or of some
 * blocks (narrow) into one another, and those sums in double unless one block is all, always in the
 * same order: a float sum of a million terms keeps a relative error below 1e-6, even where all
 * terms are equal and each addition rounds the same way. Included once a precision by
 * instantiate.h.
 */
enum {
    RBF_NAME(PRODUCT_CHAIN) = 32,
    RBF_NAME(PRODUCT_BLOCKS) = 8, /* narrow: blocks added up before they join the sum in double */
    RBF_NAME(PRODUCT_ROWS) = 64,  /* rows of a task, or up to four times as many: rows_of_a_task */
    RBF_NAME(PRODUCT_TASKS) = 32, /* tasks aimed at */
    /* Panels of a block at most: one chain for each lane over the columns of K. */
    RBF_NAME(PRODUCT_PANELS) = RBF_NAME(PRODUCT_CHAIN) / RBF_TILE_VECTORS
};

typedef struct {
    RBF_NAME(points) points;
    rbf_matrix weights;
    rbf_vector gamma;
    REAL *output;         /* (n, p), C order */
    int64_t wide, narrow; /* columns of W each way; wide is a multiple of LANES and may exceed p */
    int64_t rows_per_task, panels_per_block, splits, panels_per_split;
    REAL *packed_wide;                     /* [wide / width][panels][COLUMNS][width]: wide_width */
    REAL *packed_narrow;                   /* [panels][narrow][COLUMNS] */
    RBF_NAME(coefficients) * coefficients; /* [panels] */
    REAL *thread_tiles;                    /* [threads][panels_per_block][RBF_TILE_ROWS][COLUMNS] */
    REAL *thread_lanes;                    /* [threads][rows_per_task][narrow][LANES] */
    double *thread_totals;                 /* [threads][rows_per_task][p] */
    int64_t thread_tiles_stride, thread_lanes_stride, thread_totals_stride;
    double *partial; /* [splits][n][p] if there are several splits */
    int direct;      /* all columns of K are one block, whose sums are the output */
} RBF_NAME(product_job);

/* Squared distances of the first LANES columns of a panel, zeros for the others. */
RBF_FUNCTION __attribute__((noinline)) void
RBF_NAME(distance_half)(int64_t depth, const REAL *RBF_RESTRICT rows,
                        const REAL *RBF_RESTRICT columns, REAL *RBF_RESTRICT distances) {
    VECTOR tile[RBF_TILE_ROWS][RBF_TILE_VECTORS];
    RBF_NAME(term_runs)(depth, rows, columns, tile, 1, 0);
    RBF_NAME(keep_tile)(tile, distances);
}

/* exp(-gamma D) of one tile to kernel[RBF_TILE_ROWS][COLUMNS]; those past the last column of K are
 * multiplied by zeros. */
RBF_INLINE void RBF_NAME(kernel_tile)(const RBF_NAME(points) * points,
                                      const RBF_NAME(strip) * strip, int64_t row_panel,
                                      int64_t panel, const RBF_NAME(coefficients) * c,
                                      REAL *RBF_RESTRICT kernel) {
    const int64_t depth = points->x.columns, columns = points->y.rows - panel * COLUMNS;
    VECTOR tile[RBF_TILE_ROWS][RBF_TILE_VECTORS];
    int r, v;
    if (columns > LANES || depth <= RBF_SUM_CHUNK || points->expanded) {
        RBF_NAME(distances)(points, strip, row_panel, panel, tile, RBF_SUM_CHUNK);
    } else { /* of a last panel half of which is padding */
        RBF_NAME(distance_half)(depth, RBF_NAME(packed_row_panel)(points, row_panel),
                                RBF_NAME(packed_panel)(points, panel), kernel);
        RBF_NAME(load_kept)(tile, kernel);
    }
    if (__builtin_expect(c->special, 0)) {
        int64_t i, j;
        RBF_NAME(keep_tile)(tile, kernel);
        for (i = 0; i < RBF_TILE_ROWS; ++i)
            for (j = 0; j < COLUMNS; ++j)
                kernel[i * COLUMNS + j] =
                    j < columns
                        ? RBF_NAME(library_exponential)(-c->gamma[j] * kernel[i * COLUMNS + j])
                        : 0;
        return;
    }
    RBF_UNROLL
    for (r = 0; r < RBF_TILE_ROWS; r += RBF_SUMMED_EXPONENTIALS) {
        RBF_UNROLL
        for (v = 0; v < RBF_TILE_VECTORS; ++v)
            RBF_NAME(exponentials_at)(tile, r, v, RBF_SUMMED_EXPONENTIALS, c, c->unit);
    }
    RBF_NAME(keep_tile)(tile, kernel);
}

/* lanes[r][q] += sum over the columns of tile r times weights q, for `count` columns of W (constant
 * where this is inlined); one chain for each lane. */
RBF_INLINE void RBF_NAME(multiply_narrow)(const REAL *RBF_RESTRICT tiles, int64_t panels,
                                          const REAL *RBF_RESTRICT weights, int64_t narrow,
                                          REAL *RBF_RESTRICT lanes, const int count) {
    VECTOR sum[RBF_TILE_ROWS][2];
    int64_t panel;
    int r, v, q;
    RBF_UNROLL
    for (r = 0; r < RBF_TILE_ROWS; ++r)
        sum[r][0] = sum[r][1] = (VECTOR){0};
    for (panel = 0; panel < panels; ++panel) {
        RBF_UNROLL
        for (v = 0; v < RBF_TILE_VECTORS; ++v) {
            VECTOR weight[2];
            RBF_UNROLL
            for (q = 0; q < count; ++q)
                weight[q] = RBF_NAME(load_once)(weights + q * COLUMNS + v * LANES);
            RBF_UNROLL
            for (r = 0; r < RBF_TILE_ROWS; ++r) {
                const VECTOR kernel = RBF_NAME(load_once)(tiles + r * COLUMNS + v * LANES);
                RBF_UNROLL
                for (q = 0; q < count; ++q)
                    sum[r][q] += kernel * weight[q];
            }
        }
        tiles += RBF_TILE_ROWS * COLUMNS;
        weights += narrow * COLUMNS;
    }
    RBF_UNROLL
    for (r = 0; r < RBF_TILE_ROWS; ++r) {
        RBF_UNROLL
        for (q = 0; q < count; ++q) {
            REAL *lane = lanes + (r * narrow + q) * LANES;
            RBF_NAME(store)(lane, RBF_NAME(load)(lane) + sum[r][q]);
        }
    }
}

/* sums[r][width] of so many columns of the tiles of some panels times weights [columns][width], of
 * `vectors` vectors (constant where this is inlined). */
RBF_INLINE void RBF_NAME(multiply_wide)(const REAL *RBF_RESTRICT tiles, int64_t columns,
                                        const REAL *RBF_RESTRICT weights, REAL *RBF_RESTRICT sums,
                                        const int vectors) {
    const int64_t chain = rbf_maximum(COLUMNS, RBF_NAME(PRODUCT_CHAIN));
    VECTOR sum[RBF_TILE_ROWS][RBF_TILE_VECTORS];
    int64_t first, column, c;
    int r, v;
    memset(sums, 0, (size_t)(RBF_TILE_ROWS * vectors * LANES) * sizeof(REAL));
    for (first = 0; first < columns; first += chain) {
        const int64_t end = rbf_minimum(columns, first + chain);
        RBF_UNROLL
        for (r = 0; r < RBF_TILE_ROWS; ++r) {
            RBF_UNROLL
            for (v = 0; v < vectors; ++v)
                sum[r][v] = (VECTOR){0};
        }
        for (column = first; column < end; column += COLUMNS) {
            const int64_t count = rbf_minimum(COLUMNS, end - column);
            for (c = 0; c < count; ++c) {
                VECTOR weight[RBF_TILE_VECTORS];
                RBF_UNROLL
                for (v = 0; v < vectors; ++v)
                    weight[v] = RBF_NAME(load_once)(weights + v * LANES);
                RBF_UNROLL
                for (r = 0; r < RBF_TILE_ROWS; ++r) {
                    RBF_UNROLL
                    for (v = 0; v < vectors; ++v)
                        sum[r][v] += weight[v] * tiles[r * COLUMNS + c];
                }
                weights += vectors * LANES;
            }
            tiles += RBF_TILE_ROWS * COLUMNS;
        }
        RBF_UNROLL
        for (r = 0; r < RBF_TILE_ROWS; ++r) {
            RBF_UNROLL
            for (v = 0; v < vectors; ++v) {
                REAL *to = sums + (r * vectors + v) * LANES;
                RBF_NAME(store)(to, RBF_NAME(load)(to) + sum[r][v]);
            }
        }
    }
}

/* Columns of W of the register tile that begins with column q. */
RBF_INLINE int64_t RBF_NAME(wide_width)(int64_t wide, int64_t q) {
    return rbf_minimum(RBF_TILE_VECTORS * LANES, wide - q);
}

/* A row panel's tiles of one column block times its rows of W: added to lanes[rows][narrow] and
 * totals[rows][p]; direct: wide columns are written to the output. */
RBF_INLINE void RBF_NAME(multiply_tiles)(const RBF_NAME(product_job) * job, int64_t row,
                                         int64_t rows, int64_t first_panel, int64_t last_panel,
                                         const REAL *tiles, REAL *lanes, double *totals) {
    const int64_t p = job->weights.columns, m = job->points.y.rows;
    const int64_t narrow = job->narrow, panels = last_panel - first_panel;
    const int64_t columns = rbf_minimum(last_panel * COLUMNS, m) - first_panel * COLUMNS;
    const REAL *weights = job->packed_narrow + first_panel * narrow * COLUMNS;
    int64_t q, r, column;
    for (q = 0; q + 1 < narrow; q += 2)
        RBF_NAME(multiply_narrow)(tiles, panels, weights + q * COLUMNS, narrow, lanes + q * LANES,
                                  2);
    if (q < narrow)
        RBF_NAME(multiply_narrow)(tiles, panels, weights + q * COLUMNS, narrow, lanes + q * LANES,
                                  1);
    for (q = 0; q < job->wide; q += RBF_TILE_VECTORS * LANES) {
        REAL sums[RBF_TILE_ROWS * RBF_NAME(COLUMNS)] __attribute__((aligned(RBF_ALIGNMENT)));
        const int64_t width = RBF_NAME(wide_width)(job->wide, q);
        const int64_t used = rbf_minimum(width, p - q);
        const REAL *block =
            job->packed_wide + (q * job->points.panels + first_panel * width) * COLUMNS;
        if (width == LANES)
            RBF_NAME(multiply_wide)(tiles, columns, block, sums, 1);
        else
            RBF_NAME(multiply_wide)(tiles, columns, block, sums, RBF_TILE_VECTORS);
        if (job->direct) {
            for (r = 0; r < rows; ++r)
                memcpy(job->output + (row + r) * p + q, sums + r * width,
                       (size_t)used * sizeof(REAL));
            continue;
        }
        for (r = 0; r < rows; ++r)
            for (column = 0; column < used; ++column)
                totals[r * p + q + column] += sums[r * width + column];
    }
}

/* One row panel against one column block, as multiply_tiles; those up to last_row follow. */
RBF_FUNCTION void RBF_NAME(product_rows)(const RBF_NAME(product_job) * job, int64_t row,
                                         int64_t last_row, int64_t first_panel, int64_t last_panel,
                                         REAL *tiles, REAL *lanes, double *totals) {
    const int64_t rows = rbf_minimum(RBF_TILE_ROWS, last_row - row);
    const RBF_NAME(strip) *strip = RBF_NAME(prepare_distances)(
        &job->points, row / RBF_TILE_ROWS, rbf_ceiling_division(last_row, RBF_TILE_ROWS),
        first_panel, last_panel);
    int64_t panel;
    for (panel = first_panel; panel < last_panel; ++panel)
        RBF_NAME(kernel_tile)(&job->points, strip, row / RBF_TILE_ROWS, panel,
                              job->coefficients + panel,
                              tiles + (panel - first_panel) * RBF_TILE_ROWS * COLUMNS);
    RBF_NAME(multiply_tiles)(job, row, rows, first_panel, last_panel, tiles, lanes, totals);
}

/* Sums of the lanes of some rows joined to totals[rows][p], or stored to output[rows][p] if all is
 * direct; the lanes are zero again. */
RBF_FUNCTION void RBF_NAME(join_lanes)(const RBF_NAME(product_job) * job, int64_t rows, REAL *lanes,
                                       double *totals, REAL *output) {
    const int64_t narrow = job->narrow, p = job->weights.columns;
    const int64_t whole_rows = rbf_ceiling_division(rows, RBF_TILE_ROWS) * RBF_TILE_ROWS;
    int64_t row, q;
    if (narrow == 0)
        return;
    for (row = 0; row < rows; ++row)
        for (q = 0; q < narrow; ++q) {
            const REAL sum = RBF_NAME(lane_sum)(lanes + (row * narrow + q) * LANES);
            const int64_t to = row * p + p - narrow + q;
            if (job->direct)
                output[to] = sum;
            else
                totals[to] += sum;
        }
    memset(lanes, 0, (size_t)(whole_rows * narrow * LANES) * sizeof(REAL));
}

/* A panel of y, its coefficients, and its rows of W. */
RBF_FUNCTION void RBF_NAME(pack_product_panel)(const RBF_NAME(product_job) * job, int64_t panel) {
    const rbf_matrix w = job->weights;
    const int64_t first = panel * COLUMNS, narrow = job->narrow;
    const int64_t columns = rbf_minimum(COLUMNS, job->points.y.rows - first);
    const rbf_vector no_amplitude = {NULL, 0, 1};
    REAL *to = job->packed_narrow + first * narrow;
    int64_t c, q, tile;
    RBF_NAME(pack_y)(&job->points, panel);
    RBF_NAME(pack_coefficients)(job->coefficients + panel, job->gamma, no_amplitude, first,
                                job->points.y.rows);
    for (q = 0; q < narrow; ++q) {
        const char *from =
            w.data + first * w.row_stride + (w.columns - narrow + q) * w.column_stride;
        for (c = 0; c < columns; ++c)
            to[q * COLUMNS + c] = *(const REAL *)(from + c * w.row_stride);
        for (; c < COLUMNS; ++c)
            to[q * COLUMNS + c] = 0;
    }
    for (tile = 0; tile < job->wide; tile += RBF_TILE_VECTORS * LANES) {
        const int64_t width = RBF_NAME(wide_width)(job->wide, tile);
        const int64_t used = rbf_minimum(width, w.columns - tile);
        to = job->packed_wide + tile * job->points.panels * COLUMNS + first * width;
        for (c = 0; c < columns; ++c) {
            const char *from = w.data + (first + c) * w.row_stride + tile * w.column_stride;
            if (w.column_stride == (int64_t)sizeof(REAL))
                memcpy(to, from, (size_t)used * sizeof(REAL));
            else
                for (q = 0; q < used; ++q)
                    to[q] = *(const REAL *)(from + q * w.column_stride);
            for (q = used; q < width; ++q)
                to[q] = 0;
            to += width;
        }
    }
}

/* Packs x, y and W; the threads share the loops. */
RBF_FUNCTION void RBF_NAME(pack_product)(const RBF_NAME(product_job) * job) {
    int64_t panel;
    RBF_OMP(for schedule(static) nowait)
    for (panel = 0; panel < job->points.row_panels; ++panel)
        RBF_NAME(pack_x)(&job->points, panel);
    RBF_OMP(for schedule(static))
    for (panel = 0; panel < job->points.panels; ++panel)
        RBF_NAME(pack_product_panel)(job, panel);
}

/* Which columns of W go which way. Those that are left over are cheaper one by one than padded with
 * zeros, unless the sum of lanes at the end of each, some twelve instructions, is most of the work.
 * Of low row panels a register tile of one vector has too few sums to keep the processor busy, and
 * takes as long as one of two. */
RBF_FUNCTION void RBF_NAME(choose_widths)(RBF_NAME(product_job) * job) {
    const int64_t p = job->weights.columns, low = RBF_TILE_ROWS < 8;
    job->narrow = p % (low ? COLUMNS : LANES);
    if (job->narrow * (RBF_TILE_VECTORS * job->points.panels + 12) >
        job->points.panels * COLUMNS * (low ? RBF_TILE_VECTORS : 0.75))
        job->narrow = 0;
    job->wide = rbf_ceiling_division(p - job->narrow, LANES) * LANES;
}

/* How columns of K are cut: into blocks whose panels stay in the cache, and those into splits where
 * blocks of rows alone would be too few tasks. */
RBF_FUNCTION void RBF_NAME(cut_columns)(const RBF_NAME(points) * points, int64_t *panels_per_block,
                                        int64_t *splits, int64_t *panels_per_split) {
    const int64_t panel_row = COLUMNS * sizeof(REAL), depth = rbf_maximum(points->x.columns, 1);
    const int64_t row_blocks = rbf_ceiling_division(points->x.rows, RBF_NAME(PRODUCT_ROWS));
    int64_t blocks;
    *panels_per_block = rbf_maximum(
        1, rbf_minimum(RBF_NAME(PRODUCT_PANELS), RBF_PANEL_CACHE_BYTES / panel_row / depth));
    blocks = rbf_ceiling_division(points->panels, *panels_per_block);
    *splits = rbf_maximum(1, rbf_minimum(blocks, RBF_NAME(PRODUCT_TASKS) / row_blocks));
    *panels_per_split = rbf_ceiling_division(blocks, *splits) * *panels_per_block;
}

/* Rows of a task, for which no sum matters: four times as many read panels, and what comes with
 * them, a quarter as often from beyond the second-level cache, if tasks stay many for the threads.
 * entries: of a column, of what is read with it. */
RBF_FUNCTION int64_t RBF_NAME(rows_of_a_task)(const RBF_NAME(points) * points, int64_t entries,
                                              int threads) {
    const double bytes = (double)points->y.rows * (double)entries * sizeof(REAL);
    int64_t rows = RBF_NAME(PRODUCT_ROWS);
    while (bytes > 4 * RBF_PANEL_CACHE_BYTES && rows < 4 * RBF_NAME(PRODUCT_ROWS) &&
           points->x.rows / (2 * rows) >= 32 * threads)
        rows *= 2;
    return rows;
}

/* The memory of a job: sizes while space measures, pieces when it hands out. */
RBF_FUNCTION void RBF_NAME(take_product)(RBF_NAME(product_job) * job, rbf_workspace *space,
                                         int threads) {
    const int64_t p = job->weights.columns;
    const size_t panel_row = COLUMNS * sizeof(REAL), for_threads = (size_t)threads * sizeof(REAL);
    job->thread_tiles_stride =
        rbf_apart(job->panels_per_block * RBF_TILE_ROWS * COLUMNS, sizeof(REAL), threads);
    job->thread_lanes_stride =
        rbf_apart(job->rows_per_task * job->narrow * LANES, sizeof(REAL), threads);
    job->thread_totals_stride = rbf_apart(job->rows_per_task * p, sizeof(double), threads);
    RBF_NAME(take_points)(&job->points, space, threads);
    job->packed_wide = (REAL *)rbf_take(space, job->points.panels * job->wide, panel_row);
    job->packed_narrow = (REAL *)rbf_take(space, job->points.panels * job->narrow, panel_row);
    job->coefficients = (RBF_NAME(coefficients) *)rbf_take(space, job->points.panels,
                                                           sizeof(RBF_NAME(coefficients)));
    job->thread_tiles = (REAL *)rbf_take(space, job->thread_tiles_stride, for_threads);
    job->thread_lanes = (REAL *)rbf_take(space, job->thread_lanes_stride, for_threads);
    job->thread_totals =
        (double *)rbf_take(space, job->thread_totals_stride, (size_t)threads * sizeof(double));
}
