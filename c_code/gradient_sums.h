/* Sums of weights times differences of some row panels and a column block: what they add to dx and
 * dy.
 *
 * By differences, two columns k of x and y at a time, or by the matrix products of
 * gradient_products.h. Included once a precision by instantiate.h.
 */

/* For some panels and `width` (1 or 2) columns k of x and y: sum_j w (y - x) added to
 * dx[width][RBF_TILE_ROWS], or to dx[RBF_TILE_ROWS][dx_stride] where that is not 1, sum_i w (y - x)
 * taken from dy[panels][2][COLUMNS]. width and the flags are constants where this is inlined. */
RBF_INLINE void RBF_NAME(difference_sums)(int64_t panels, const REAL *RBF_RESTRICT weights,
                                          const REAL *RBF_RESTRICT rows,
                                          const REAL *RBF_RESTRICT columns, REAL *RBF_RESTRICT dx,
                                          int64_t dx_stride, REAL *RBF_RESTRICT dy, const int width,
                                          const int want_dx, const int want_dy) {
    /* As many sums as fill vectors: those past the last one stay zero. */
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
            for (r = 0; r < RBF_TILE_ROWS; ++r)
                weight[r] = RBF_NAME(load_once)(weights + r * COLUMNS + v * LANES);
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
                    VECTOR share = weight[r] * difference;
                    if (RBF_ROUNDED_SHARE(r))
                        RBF_ROUND(share);
                    if (want_dx)
                        sums[q * RBF_TILE_ROWS + r] += share;
                    if (want_dy)
                        column_sum -= share;
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
RBF_INLINE void RBF_NAME(difference_range)(const RBF_NAME(gradient_job) * job, int64_t row_panel,
                                           int64_t first, int64_t last, int64_t panels,
                                           int64_t pair_stride, const REAL *weights,
                                           const REAL *rows, const REAL *columns, REAL *dx,
                                           REAL *dy, const int want_dx, const int want_dy) {
    const int64_t dx_stride = job->by_products ? (int64_t)COLUMNS : 1;
    int64_t k;
    for (k = first; k < last; k += 2) {
        const REAL *x = rows + k * RBF_TILE_ROWS, *y = columns + k / 2 * pair_stride;
        REAL *to_x = want_dx ? dx + RBF_NAME(place_of_dx)(job, row_panel, k) : NULL;
        REAL *to_y = want_dy ? dy + k / 2 * pair_stride : NULL;
        if (k + 1 < last)
            RBF_NAME(difference_sums)(panels, weights, x, y, to_x, dx_stride, to_y, 2, want_dx,
                                      want_dy);
        else
            RBF_NAME(difference_sums)(panels, weights, x, y, to_x, dx_stride, to_y, 1, want_dx,
                                      want_dy);
    }
}

/* Columns k of a packed panel two by two, beside those of the block's other panels, in the order of
 * the sweeps. */
RBF_INLINE void RBF_NAME(pair_columns)(const RBF_NAME(gradient_job) * job, const REAL *from,
                                       REAL *to) {
    const int64_t depth = job->points.y.columns, pair = 2 * COLUMNS;
    int64_t k;
    for (k = 0; k + 1 < depth; k += 2, from += pair, to += job->panels_per_block * pair)
        memcpy(to, from, (size_t)pair * sizeof(REAL));
    if (k < depth)
        memcpy(to, from, (size_t)COLUMNS * sizeof(REAL));
}

/* Where the weight of an entry is, among those of some row panels and a column block. */
RBF_INLINE REAL *RBF_NAME(weight_of)(const RBF_NAME(gradient_job) * job, int64_t first_row_panel,
                                     int64_t first_panel, RBF_NAME(gradient_scratch) scratch,
                                     const RBF_NAME(close_entry) * entry) {
    const int64_t row = entry->row - first_row_panel * RBF_TILE_ROWS;
    const int64_t column = entry->column - first_panel * COLUMNS;
    return scratch.weights + row / RBF_TILE_ROWS * job->row_weights +
           (column / COLUMNS * RBF_TILE_ROWS + row % RBF_TILE_ROWS) * COLUMNS + column % COLUMNS;
}

/* From a piece of columns k of product_x to the next. */
RBF_INLINE int64_t RBF_NAME(product_x_stride)(const RBF_NAME(gradient_job) * job) {
    return job->points.row_panels * RBF_TILE_ROWS * RBF_TILE_ROWS;
}

/* Where column k of the first row of a row panel is in product_x. */
RBF_INLINE REAL *RBF_NAME(product_piece)(const RBF_NAME(gradient_job) * job, int64_t row_panel,
                                         int64_t k) {
    return job->product_x + k / RBF_TILE_ROWS * RBF_NAME(product_x_stride)(job) +
           row_panel * RBF_TILE_ROWS * RBF_TILE_ROWS + k % RBF_TILE_ROWS;
}

/* w (y - x) of a close entry added to the sums of dx and taken from those of dy. */
RBF_FUNCTION void RBF_NAME(add_close_entry)(const RBF_NAME(gradient_job) * job, int64_t first_panel,
                                            const RBF_NAME(close_entry) * entry,
                                            RBF_NAME(gradient_sums) sums) {
    const rbf_matrix x = job->points.x, y = job->points.y;
    const int64_t column = entry->column - first_panel * COLUMNS;
    int64_t k;
    for (k = 0; k < x.columns; ++k) {
        const REAL from = RBF_NAME(matrix_entry)(&x, entry->row, k);
        const REAL to = RBF_NAME(matrix_entry)(&y, entry->column, k);
        REAL share = entry->weight * (to - from);
        RBF_ROUND(share); /* dx has the same bits whether or not dy is wanted */
        if (sums.dx)
            sums.dx[RBF_NAME(place_of_dx)(job, entry->row / RBF_TILE_ROWS, k) +
                    entry->row % RBF_TILE_ROWS * COLUMNS] += share;
        if (sums.dy)
            sums.dy[RBF_NAME(place_of_dy)(job, k, column)] -= share;
    }
}

/* Of some row panels, and panels from one of a block on: adds W (y - c) - (x - c) row_sums to dx,
 * and W^T (x - c) - (y - c) column_sums to dy. */
RBF_FUNCTION void RBF_NAME(add_by_vectors)(const RBF_NAME(gradient_job) * job,
                                           int64_t first_row_panel, int64_t row_panels,
                                           int64_t first_panel, int64_t skipped, int64_t panels,
                                           RBF_NAME(gradient_scratch) scratch,
                                           RBF_NAME(gradient_sums) sums) {
    const int64_t depth = job->points.x.columns, tile = RBF_TILE_ROWS * COLUMNS;
    const int64_t row_weights = job->row_weights;
    const REAL *weights = scratch.weights + skipped * tile;
    int64_t at_once, panel, k, first;
    for (first = 0; sums.dx && first < depth; first += COLUMNS) {
        const int64_t chunks = rbf_ceiling_division(depth, COLUMNS);
        const int64_t end = rbf_minimum(first + COLUMNS, depth);
        const REAL *columns = job->product_y + (first_panel * chunks +
                                                first / COLUMNS * job->panels_per_block + skipped) *
                                                   COLUMNS * COLUMNS;
        memset(scratch.dx_tiles, 0, (size_t)(row_panels * tile) * sizeof(REAL));
        for (panel = 0; panel < panels; panel += RBF_NAME(ROW_PRODUCT_PANELS))
            for (at_once = 0; at_once < row_panels; ++at_once)
                RBF_NAME(add_row_products)(
                    rbf_minimum(RBF_NAME(ROW_PRODUCT_PANELS), panels - panel),
                    weights + at_once * row_weights + panel * tile,
                    columns + panel * COLUMNS * COLUMNS, scratch.dx_tiles + at_once * tile);
        for (at_once = 0; at_once < row_panels; ++at_once) {
            const int64_t row_panel = first_row_panel + at_once;
            const REAL *added = scratch.dx_tiles + at_once * tile;
            const REAL *row_sums = scratch.row_sums + at_once * RBF_NAME(WHOLE_ROWS);
            for (k = first; k < end; k += RBF_NAME(PIECE_ENTRIES))
                RBF_NAME(add_row_sums)(
                    sums.dx + RBF_NAME(place_of_dx)(job, row_panel, k), added + k - first,
                    RBF_NAME(product_piece)(job, row_panel, k), row_sums, sums.fresh_dx);
        }
    }
    for (panel = 0; sums.dy && panel < panels; ++panel) {
        const REAL *y = RBF_NAME(packed_panel)(&job->points, first_panel + skipped + panel);
        for (first = 0; first < depth; first += RBF_TILE_ROWS)
            RBF_NAME(add_column_products)(
                row_panels, RBF_NAME(product_piece)(job, first_row_panel, first),
                RBF_NAME(product_x_stride)(job), weights + panel * tile, row_weights,
                rbf_minimum(RBF_TILE_ROWS, depth - first), y + first * COLUMNS,
                scratch.column_sums + panel * COLUMNS,
                sums.dy + RBF_NAME(place_of_dy)(job, first, (skipped + panel) * COLUMNS),
                job->panels_per_block * 2 * COLUMNS, sums.fresh_dy);
    }
}

/* What difference_range adds for all columns k of some row panels and a column block, by matrix
 * products, close entries one by one. Returns 0, and leaves the weights as they are, where the
 * close ones are too many, a sum of weights is not finite, or x or y are not for the matrix unit
 * that there is. */
RBF_FUNCTION __attribute__((noinline)) int
RBF_NAME(product_sums)(const RBF_NAME(gradient_job) * job, int64_t first_row_panel,
                       int64_t last_row_panel, int64_t first_panel, int64_t last_panel,
                       RBF_NAME(gradient_scratch) scratch, RBF_NAME(gradient_sums) sums) {
    const int64_t row_panels = last_row_panel - first_row_panel, row_weights = job->row_weights;
    const int64_t skipped =
        job->symmetric
            ? rbf_maximum(0, (first_row_panel * RBF_TILE_ROWS + 1) / COLUMNS - first_panel)
            : 0;
    const int64_t panels = last_panel - first_panel - skipped;
    const REAL *weights = scratch.weights + skipped * RBF_TILE_ROWS * COLUMNS;
    const RBF_NAME(close_entries) close = *job->points.close;
    REAL total = 0;
    int64_t at_once, i;
    if (close.count > close.most || (job->tiny && __atomic_load_n(job->tiny, __ATOMIC_RELAXED)))
        return 0;
    for (i = 0; i < close.count; ++i) {
        REAL *weight =
            RBF_NAME(weight_of)(job, first_row_panel, first_panel, scratch, close.entries + i);
        close.entries[i].weight = *weight;
        *weight = 0;
    }
    memset(scratch.column_sums, 0, (size_t)(panels * COLUMNS) * sizeof(REAL));
    for (at_once = 0; at_once < row_panels; ++at_once)
        RBF_NAME(weight_sums)(panels, weights + at_once * row_weights,
                              scratch.row_sums + at_once * RBF_NAME(WHOLE_ROWS),
                              scratch.column_sums);
    for (i = 0; i < row_panels * RBF_NAME(WHOLE_ROWS); ++i)
        total += scratch.row_sums[i] - scratch.row_sums[i];
    for (i = 0; i < panels * COLUMNS; ++i)
        total += scratch.column_sums[i] - scratch.column_sums[i];
    if (total != 0) {
        for (i = 0; i < close.count; ++i)
            *RBF_NAME(weight_of)(job, first_row_panel, first_panel, scratch, close.entries + i) =
                close.entries[i].weight;
        return 0;
    }
    if (RBF_BY_UNIT(&job->points))
        RBF_NAME(add_by_unit)(job, first_row_panel, row_panels, first_panel, skipped, panels,
                              scratch, sums);
    else
        RBF_NAME(add_by_vectors)(job, first_row_panel, row_panels, first_panel, skipped, panels,
                                 scratch, sums);
    for (i = 0; i < close.count; ++i)
        RBF_NAME(add_close_entry)(job, first_panel, close.entries + i, sums);
    return 1;
}

/* What difference_range reads of some row panels and a column block, where products were to do
 * without. */
RBF_FUNCTION __attribute__((noinline)) void
RBF_NAME(pack_differences)(const RBF_NAME(gradient_job) * job, int64_t first_row_panel,
                           int64_t last_row_panel, int64_t first_panel, int64_t last_panel,
                           RBF_NAME(gradient_scratch) scratch) {
    const int64_t row_panel_entries = job->points.x.columns * RBF_TILE_ROWS;
    int64_t i;
    for (i = first_row_panel; i < last_row_panel; ++i)
        RBF_NAME(pack_rows)(scratch.packed_x + (i - first_row_panel) * row_panel_entries,
                            job->points.x, i * RBF_TILE_ROWS, RBF_TILE_ROWS);
    for (i = first_panel; i < last_panel; ++i) {
        RBF_NAME(pack_rows)(scratch.panel, job->points.y, i * COLUMNS, COLUMNS);
        RBF_NAME(pair_columns)(job, scratch.panel,
                               scratch.paired_y + (i - first_panel) * 2 * COLUMNS);
    }
}

/* What the weights of some row panels and a column block add to the sums. */
RBF_FUNCTION __attribute__((noinline)) void
RBF_NAME(block_sums)(const RBF_NAME(gradient_job) * job, int64_t first_row_panel,
                     int64_t last_row_panel, int64_t first_panel, int64_t last_panel,
                     RBF_NAME(gradient_scratch) scratch, RBF_NAME(gradient_sums) sums) {
    const int64_t depth = job->points.x.columns;
    const int64_t pair = 2 * COLUMNS, stride = job->panels_per_block * pair;
    const REAL *packed_x = scratch.packed_x, *paired_y = scratch.paired_y;
    const int64_t tile = RBF_TILE_ROWS * COLUMNS, row_weights = job->row_weights;
    int64_t row_panel, k;
    if (!sums.dx && !sums.dy)
        return;
    if (job->by_products && RBF_NAME(product_sums)(job, first_row_panel, last_row_panel,
                                                   first_panel, last_panel, scratch, sums))
        return;
    if (sums.fresh_dx)
        RBF_NAME(clear_rows)(job, sums.dx, first_row_panel, last_row_panel);
    if (sums.fresh_dy)
        RBF_NAME(clear_sums)(job, job->dy_partial, sums.dy);
    if (job->by_products) {
        RBF_NAME(pack_differences)(job, first_row_panel, last_row_panel, first_panel, last_panel,
                                   scratch);
    } else {
        packed_x = job->packed_x + first_row_panel * RBF_TILE_ROWS * depth;
        paired_y = job->paired_y + first_panel * ((depth + 1) / 2) * pair;
    }
    for (k = 0; k < depth; k += RBF_NAME(GRADIENT_DEPTH)) {
        const int64_t end = rbf_minimum(depth, k + RBF_NAME(GRADIENT_DEPTH));
        for (row_panel = first_row_panel; row_panel < last_row_panel; ++row_panel) {
            const int64_t from =
                job->symmetric ? rbf_maximum(first_panel, (row_panel * RBF_TILE_ROWS + 1) / COLUMNS)
                               : first_panel;
            const int64_t panels = last_panel - from, skipped = from - first_panel;
            const REAL *weights =
                scratch.weights + skipped * tile + (row_panel - first_row_panel) * row_weights;
            const REAL *x = packed_x + (row_panel - first_row_panel) * RBF_TILE_ROWS * depth;
            const REAL *y = paired_y + skipped * pair;
            REAL *dy = sums.dy ? sums.dy + skipped * pair : NULL;
            if (sums.dx && dy)
                RBF_NAME(difference_range)(job, row_panel, k, end, panels, stride, weights, x, y,
                                           sums.dx, dy, 1, 1);
            else if (sums.dx)
                RBF_NAME(difference_range)(job, row_panel, k, end, panels, stride, weights, x, y,
                                           sums.dx, dy, 1, 0);
            else if (dy)
                RBF_NAME(difference_range)(job, row_panel, k, end, panels, stride, weights, x, y,
                                           sums.dx, dy, 0, 1);
        }
    }
}
