/* Sums of weights times rows of x and y as matrix products, for gradients of many columns k.
 *
 * sum_j w (y - x) is sum_j w (y - c) - (x - c) sum_j w. Where all D come from the expansion
 * (distances.h), |x - c|^2 + |y - c|^2 <= 2 D, so that what is rounded in the terms is at most
 * twice as large as in those of the differences; and two products are two instructions where a
 * difference and its two products are three. Here are the packed forms and the micro-kernels;
 * gradient_sums.h says which entries they are for. Included once a precision by instantiate.h.
 */
enum {
    /* Panels whose terms are added up before they join a sum: one running sum would lose more. */
    RBF_NAME(ROW_PRODUCT_PANELS) = 64 / (int)RBF_NAME(COLUMNS),
    RBF_NAME(SUM_PANELS) = 4
};

/* x - c of a row panel to pieces [RBF_TILE_ROWS of x][RBF_TILE_ROWS] of as many columns k, `stride`
 * apart, of which the last is filled with zeros. */
RBF_FUNCTION void RBF_NAME(pack_product_rows)(const RBF_NAME(points) * points, int64_t row_panel,
                                              REAL *RBF_RESTRICT to, int64_t stride) {
    const int64_t first = row_panel * RBF_TILE_ROWS;
    const int64_t padded = rbf_ceiling_division(points->x.columns, RBF_TILE_ROWS) * RBF_TILE_ROWS;
    const REAL *norms = points->x_norms + first * RBF_NAME(NORM_PARTS);
    const int piece = (int)RBF_TILE_ROWS < (int)LANES ? (int)RBF_TILE_ROWS : (int)LANES;
    int64_t start, k;
    int r;
    for (r = 0; r < RBF_TILE_ROWS; ++r)
        for (start = 0; start < padded; start += LANES) {
            REAL entries[RBF_NAME(LANES)] __attribute__((aligned(RBF_ALIGNMENT)));
            RBF_NAME(store)(
                entries, RBF_NAME(centred_entries)(points, &points->x, first + r, start, norms[r]));
            for (k = start; k < rbf_minimum(start + LANES, padded); k += piece)
                memcpy(to + k / RBF_TILE_ROWS * stride + r * RBF_TILE_ROWS + k % RBF_TILE_ROWS,
                       entries + (k - start), (size_t)piece * sizeof(REAL));
        }
}

/* y - c of a panel to pieces [COLUMNS of y][COLUMNS] of as many columns k, `stride` apart, of which
 * the last is filled with zeros. */
RBF_FUNCTION void RBF_NAME(pack_product_columns)(const RBF_NAME(points) * points, int64_t panel,
                                                 REAL *RBF_RESTRICT to, int64_t stride) {
    const int64_t first = panel * COLUMNS;
    const int64_t padded = rbf_ceiling_division(points->y.columns, COLUMNS) * COLUMNS;
    const REAL *norms = points->y_norms + first * RBF_NAME(NORM_PARTS);
    int64_t k;
    int c;
    for (c = 0; c < COLUMNS; ++c)
        for (k = 0; k < padded; k += LANES)
            RBF_NAME(store)(to + k / COLUMNS * stride + c * COLUMNS + k % COLUMNS,
                            RBF_NAME(centred_entries)(points, &points->y, first + c, k, norms[c]));
}

/* sums[RBF_TILE_ROWS][COLUMNS] of a row panel, lanes over k: += sum_j w (y - c), over the columns j
 * of some panels, weights[panels][RBF_TILE_ROWS][COLUMNS] and columns[panels][COLUMNS][COLUMNS]. */
RBF_FUNCTION __attribute__((noinline)) void
RBF_NAME(add_row_products)(int64_t panels, const REAL *RBF_RESTRICT weights,
                           const REAL *RBF_RESTRICT columns, REAL *RBF_RESTRICT sums) {
    VECTOR tile[RBF_TILE_ROWS][RBF_TILE_VECTORS] = {{{0}}};
    int64_t panel;
    for (panel = 0; panel < panels; ++panel) {
        RBF_NAME(add_products)(COLUMNS, weights, 1, COLUMNS, columns, tile, 0);
        weights += RBF_TILE_ROWS * COLUMNS;
        columns += COLUMNS * COLUMNS;
    }
    RBF_NAME(add_kept)(tile, sums);
    RBF_NAME(keep_tile)(tile, sums);
}

/* Of a panel, lanes over j, and of `width` columns k, at most RBF_TILE_ROWS: dy, nothing if it is
 * `fresh`, += sum_i w (x - c) - (y - c) column_sums, over the rows i of some row panels. `rows` is
 * the piece of x - c of these row panels; the next piece, x_stride from it, is prefetched. Weights
 * of row panels are weights_stride apart, `columns` is [width][COLUMNS] of the panel as packed for
 * the expansion, pairs of columns k of dy are pair_stride apart. */
RBF_FUNCTION __attribute__((noinline)) void
RBF_NAME(add_column_products)(int64_t row_panels, const REAL *RBF_RESTRICT rows, int64_t x_stride,
                              const REAL *RBF_RESTRICT weights, int64_t weights_stride,
                              int64_t width, const REAL *RBF_RESTRICT columns,
                              const REAL *RBF_RESTRICT column_sums, REAL *RBF_RESTRICT dy,
                              int64_t pair_stride, int fresh) {
    const int line = RBF_ALIGNMENT / (int)sizeof(REAL);
    VECTOR tile[RBF_TILE_ROWS][RBF_TILE_VECTORS] = {{{0}}};
    int64_t row_panel;
    int r, v;
    for (r = 0; r < RBF_TILE_ROWS; ++r)
        for (v = 0; v < COLUMNS; v += line)
            __builtin_prefetch(dy + r / 2 * pair_stride + r % 2 * COLUMNS + v, 1);
    for (row_panel = 0; row_panel < row_panels; ++row_panel) {
        for (v = 0; v < RBF_TILE_ROWS * RBF_TILE_ROWS; v += line)
            __builtin_prefetch(rows + x_stride + v);
        RBF_NAME(add_products)(RBF_TILE_ROWS, rows, RBF_TILE_ROWS, 1, weights, tile, 0);
        rows += RBF_TILE_ROWS * RBF_TILE_ROWS;
        weights += weights_stride;
    }
    RBF_UNROLL
    for (r = 0; r < RBF_TILE_ROWS; ++r) {
        if (r >= width)
            break;
        RBF_UNROLL
        for (v = 0; v < RBF_TILE_VECTORS; ++v) {
            REAL *to = dy + r / 2 * pair_stride + r % 2 * COLUMNS + v * LANES;
            const VECTOR column = RBF_NAME(load)(columns + r * COLUMNS + v * LANES);
            const VECTOR shift =
                column * (1 / (REAL)RBF_EXPANDED_Y) * RBF_NAME(load)(column_sums + v * LANES);
            const VECTOR before = fresh ? (VECTOR){0} : RBF_NAME(load)(to);
            RBF_NAME(store)(to, before + (tile[r][v] - shift));
        }
    }
}

/* row_sums[WHOLE_ROWS] = the sums of weights [panels][RBF_TILE_ROWS][COLUMNS] over their columns;
 * column_sums[panels][COLUMNS] += those over their rows. */
RBF_FUNCTION void RBF_NAME(weight_sums)(int64_t panels, const REAL *RBF_RESTRICT weights,
                                        REAL *RBF_RESTRICT row_sums,
                                        REAL *RBF_RESTRICT column_sums) {
    VECTOR sums[RBF_NAME(WHOLE_ROWS)];
    int64_t first, panel;
    int r, v;
    RBF_UNROLL
    for (r = 0; r < RBF_NAME(WHOLE_ROWS); ++r)
        sums[r] = (VECTOR){0};
    for (first = 0; first < panels; first += RBF_NAME(SUM_PANELS)) {
        VECTOR some[RBF_TILE_ROWS] = {{0}};
        for (panel = first; panel < rbf_minimum(panels, first + RBF_NAME(SUM_PANELS)); ++panel) {
            RBF_UNROLL
            for (v = 0; v < RBF_TILE_VECTORS; ++v) {
                REAL *to = column_sums + panel * COLUMNS + v * LANES;
                VECTOR column_sum = {0}; /* of the tile first */
                RBF_UNROLL
                for (r = 0; r < RBF_TILE_ROWS; ++r) {
                    const VECTOR weight =
                        RBF_NAME(load)(weights + (panel * RBF_TILE_ROWS + r) * COLUMNS + v * LANES);
                    some[r] += weight;
                    column_sum += weight;
                }
                RBF_NAME(store)(to, RBF_NAME(load)(to) + column_sum);
            }
        }
        RBF_UNROLL
        for (r = 0; r < RBF_TILE_ROWS; ++r)
            sums[r] += some[r];
    }
    RBF_UNROLL
    for (r = 0; r < RBF_NAME(WHOLE_ROWS); r += LANES)
        RBF_NAME(store)(row_sums + r, RBF_NAME(sum_lanes)(sums + r));
}

/* Of a row panel, lanes over a piece of columns k: dx, nothing if it is `fresh`, += added - (x - c)
 * row_sums. Rows of dx and of added are COLUMNS apart, those of x - c RBF_TILE_ROWS. */
RBF_INLINE void RBF_NAME(add_row_sums)(REAL *RBF_RESTRICT dx, const REAL *RBF_RESTRICT added,
                                       const REAL *RBF_RESTRICT x,
                                       const REAL *RBF_RESTRICT row_sums, int fresh) {
    int r;
    RBF_UNROLL
    for (r = 0; r < RBF_TILE_ROWS; ++r) {
        PIECE *to = (PIECE *)(dx + r * COLUMNS);
        const PIECE before = fresh ? (PIECE){0} : *to;
        *to = before + (*(const PIECE *)(added + r * COLUMNS) -
                        *(const PIECE *)(x + r * RBF_TILE_ROWS) * row_sums[r]);
    }
}
