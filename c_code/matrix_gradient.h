/* What product_sums adds by the matrix unit: sums of weights times rows of x and y, for gradients.
 *
 * dx takes W (y - c) and dy W^T (x - c), 32 x 32 entries at a time. Weights may be of any size:
 * rows of them, or columns, are scaled so that their largest is about 1, and what the unit takes
 * for zero is nothing beside it. Included once a precision by instantiate.h; nothing but float32
 * has the unit.
 */
#if RBF_WITH_UNIT
/* Of x and y: what is smaller, but not zero, is not for the unit. */
#define RBF_UNIT_SMALLEST 0x1p-90f

/* 32 columns k. */
RBF_INLINE int64_t RBF_NAME(unit_chunks)(const RBF_NAME(points) * points) {
    return rbf_ceiling_division(points->x.columns, RBF_UNIT_SIDE);
}

/* The memory of x_terms, y_terms, product_x and tiny. */
RBF_FUNCTION void RBF_NAME(take_terms)(RBF_NAME(gradient_job) * job, rbf_workspace *space) {
    const int64_t row_panels = job->points.row_panels, chunks = RBF_NAME(unit_chunks)(&job->points);
    const size_t terms = (size_t)chunks * RBF_UNIT_STEP_BYTES;
    job->product_x =
        (REAL *)rbf_take(space, row_panels * chunks, RBF_TILE_ROWS * COLUMNS * sizeof(REAL));
    job->x_terms =
        (char *)rbf_take(space, rbf_ceiling_division(row_panels, RBF_NAME(GROUP)), terms);
    job->y_terms = (char *)rbf_take(space, job->blocks * job->panels_per_block, terms);
    job->tiny = (int *)rbf_take(space, 1, sizeof(int));
}

/* Lanes that are not zero, but as small as that. */
RBF_INLINE INTEGER_VECTOR RBF_NAME(tiny)(VECTOR entries) {
    return (INTEGER_VECTOR)(entries != 0) & (INTEGER_VECTOR)(entries < RBF_UNIT_SMALLEST) &
           (INTEGER_VECTOR)(entries > -RBF_UNIT_SMALLEST);
}

RBF_INLINE void RBF_NAME(note_tiny)(const RBF_NAME(gradient_job) * job, INTEGER_VECTOR tiny) {
    INTEGER lanes[RBF_NAME(LANES)], any = 0;
    int l;
    memcpy(lanes, &tiny, sizeof lanes);
    for (l = 0; l < LANES; ++l)
        any |= lanes[l];
    if (any)
        __atomic_store_n(job->tiny, 1, __ATOMIC_RELAXED);
}

/* x - c of a row panel: as it is, [chunk][row_panels][RBF_TILE_ROWS][32 columns k]; its columns of
 * [chunk][group][3 parts][32 columns k][32 rows]. */
RBF_FUNCTION void RBF_NAME(split_product_rows)(const RBF_NAME(gradient_job) * job,
                                               int64_t row_panel) {
    const RBF_NAME(points) *points = &job->points;
    const int64_t depth = points->x.columns, first = row_panel * RBF_TILE_ROWS;
    const int64_t groups = rbf_ceiling_division(points->row_panels, RBF_NAME(GROUP));
    const int64_t columns = RBF_NAME(unit_chunks)(points) * RBF_UNIT_SIDE;
    const REAL *norms = points->x_norms + first * RBF_NAME(NORM_PARTS);
    const REAL *packed = RBF_NAME(packed_row_panel)(points, row_panel);
    const size_t bytes = RBF_TILE_ROWS * sizeof(uint16_t);
    /* Of the last group the row panels that are not there. */
    const size_t lacking =
        row_panel + 1 < points->row_panels
            ? 0
            : (size_t)(RBF_NAME(GROUP) - 1 - row_panel % RBF_NAME(GROUP)) * bytes;
    int64_t k;
    INTEGER_VECTOR tiny = {0};
    int r, part;
    for (r = 0; r < RBF_TILE_ROWS; ++r)
        for (k = 0; k < columns; k += LANES) {
            const VECTOR entries =
                RBF_NAME(centred_entries)(points, &points->x, first + r, k, norms[r]);
            tiny |= RBF_NAME(tiny)(entries);
            RBF_NAME(store)(job->product_x + RBF_NAME(place_of_dx)(job, row_panel, k) + r * COLUMNS,
                            entries);
        }
    for (k = 0; k < columns; k += 2, packed += 2 * RBF_TILE_ROWS) {
        char *to =
            job->x_terms +
            (k / RBF_UNIT_SIDE * groups + row_panel / RBF_NAME(GROUP)) * RBF_UNIT_STEP_BYTES +
            k % RBF_UNIT_SIDE * RBF_UNIT_ROW_BYTES + row_panel % RBF_NAME(GROUP) * (int64_t)bytes;
        rbf_pairs parts[3];
        VECTOR entries = {0};
        if (k + 1 < depth) /* of known size: one instruction */
            memcpy(&entries, packed, 2 * RBF_TILE_ROWS * sizeof(REAL));
        else if (k < depth)
            memcpy(&entries, packed, RBF_TILE_ROWS * sizeof(REAL));
        rbf_split((rbf_floats)entries, parts);
        for (part = 0; part < 3; ++part, to += RBF_UNIT_PART_BYTES) {
            const rbf_pairs both = rbf_join(parts[part], parts[part]);
            memcpy(to, &both, bytes);
            memset(to + bytes, 0, lacking);
            memcpy(to + RBF_UNIT_ROW_BYTES, (const char *)&both + bytes, bytes);
            memset(to + RBF_UNIT_ROW_BYTES + bytes, 0, lacking);
        }
    }
    RBF_NAME(note_tiny)(job, tiny);
}

/* y - c of a panel, in pairs of rows: [blocks][chunk][panels_per_block][3 parts][2][16 pairs][16
 * columns k]. */
RBF_FUNCTION void RBF_NAME(split_product_columns)(const RBF_NAME(gradient_job) * job,
                                                  int64_t panel) {
    const RBF_NAME(points) *points = &job->points;
    const int64_t first = panel * COLUMNS, in_block = panel % job->panels_per_block;
    const int64_t chunks = RBF_NAME(unit_chunks)(points);
    const REAL *norms = points->y_norms + first * RBF_NAME(NORM_PARTS);
    char *to = job->y_terms + ((panel - in_block) * chunks + in_block) * RBF_UNIT_STEP_BYTES;
    int64_t k;
    INTEGER_VECTOR tiny = {0};
    int c, i, part;
    for (k = 0; k < chunks * RBF_UNIT_SIDE; k += LANES) {
        char *chunk = to + k / RBF_UNIT_SIDE * job->panels_per_block * RBF_UNIT_STEP_BYTES +
                      k % RBF_UNIT_SIDE / LANES * RBF_UNIT_TILE_BYTES;
        for (c = 0; c < COLUMNS; c += 2) {
            rbf_pairs parts[2][3];
            for (i = 0; i < 2; ++i) {
                const VECTOR entries =
                    RBF_NAME(centred_entries)(points, &points->y, first + c + i, k, norms[c + i]);
                tiny |= RBF_NAME(tiny)(entries);
                rbf_split((rbf_floats)entries, parts[i]);
            }
            for (part = 0; part < 3; ++part)
                *(rbf_pairs *)(chunk + part * RBF_UNIT_PART_BYTES + c / 2 * RBF_UNIT_ROW_BYTES) =
                    rbf_pair(parts[0][part], parts[1][part]);
        }
    }
    RBF_NAME(note_tiny)(job, tiny);
}

/* The power of two that makes a number about 1, as far as it and its inverse are numbers; 1 for 0.
 */
RBF_INLINE REAL RBF_NAME(unit_scale)(REAL largest) {
    int exponent;
    if (largest == 0)
        return 1;
    frexp(largest, &exponent);
    return (REAL)ldexp(1, -(int)rbf_maximum(-120, rbf_minimum(120, exponent)));
}

/* Scales of rows [row_panels][RBF_TILE_ROWS] and of columns [panels][COLUMNS] of weights. */
RBF_FUNCTION void RBF_NAME(weight_scales)(int64_t row_panels, int64_t panels, const REAL *weights,
                                          int64_t row_weights, REAL *row_scales,
                                          REAL *column_scales) {
    int64_t at_once, panel, i;
    int r, v, l;
    memset(column_scales, 0, (size_t)(panels * COLUMNS) * sizeof(REAL));
    for (at_once = 0; at_once < row_panels; ++at_once, weights += row_weights) {
        VECTOR of_row[RBF_TILE_ROWS] = {{0}};
        for (panel = 0; panel < panels; ++panel) {
            RBF_UNROLL
            for (v = 0; v < RBF_TILE_VECTORS; ++v) {
                REAL *to = column_scales + panel * COLUMNS + v * LANES;
                VECTOR of_column = RBF_NAME(load)(to);
                RBF_UNROLL
                for (r = 0; r < RBF_TILE_ROWS; ++r) {
                    const VECTOR weight =
                        RBF_NAME(load)(weights + (panel * RBF_TILE_ROWS + r) * COLUMNS + v * LANES);
                    const VECTOR least = -(VECTOR)((INTEGER_VECTOR)weight & INT32_MAX);
                    of_row[r] = RBF_NAME(minimum)(of_row[r], least);
                    of_column = RBF_NAME(minimum)(of_column, least);
                }
                RBF_NAME(store)(to, of_column);
            }
        }
        for (r = 0; r < RBF_TILE_ROWS; ++r) {
            REAL least = 0;
            for (l = 0; l < LANES; ++l)
                least = of_row[r][l] < least ? of_row[r][l] : least;
            row_scales[at_once * RBF_TILE_ROWS + r] = RBF_NAME(unit_scale)(-least);
        }
    }
    for (i = 0; i < panels * COLUMNS; ++i)
        column_scales[i] = RBF_NAME(unit_scale)(-column_scales[i]);
}

/* Scaled weights as rows, [group][panels][3 parts][32 rows][32 columns]; or, by their columns'
 * scales, as columns, [panels][groups][3 parts][2][16 pairs of rows][16 columns]. Row panels that
 * the last group lacks are zeros. */
RBF_FUNCTION __attribute__((noinline)) void
RBF_NAME(split_weights)(int64_t row_panels, int64_t panels, const REAL *weights,
                        int64_t row_weights, const REAL *scales, const int as_rows, char *to) {
    const int64_t groups = rbf_ceiling_division(row_panels, RBF_NAME(GROUP));
    int64_t at_once, panel;
    int r, v, part;
    for (at_once = 0; at_once < groups * RBF_NAME(GROUP); ++at_once)
        for (panel = 0; panel < panels; ++panel) {
            const int64_t group = at_once / RBF_NAME(GROUP), row = at_once % RBF_NAME(GROUP);
            const REAL *tile = weights + at_once * row_weights + panel * RBF_TILE_ROWS * COLUMNS;
            char *step = to + (as_rows ? group * panels + panel : panel * groups + group) *
                                  RBF_UNIT_STEP_BYTES;
            for (r = 0; r < RBF_TILE_ROWS; r += 2) {
                rbf_pairs parts[2][2][3];
                RBF_UNROLL
                for (v = 0; v < 4; ++v) {
                    const int i = v / 2, l = v % 2 * LANES;
                    VECTOR weight = {0};
                    if (at_once < row_panels) {
                        weight = RBF_NAME(load)(tile + (r + i) * COLUMNS + l);
                        if (as_rows)
                            weight *= scales[at_once * RBF_TILE_ROWS + r + i];
                        else
                            weight *= RBF_NAME(load)(scales + panel * COLUMNS + l);
                    }
                    rbf_split((rbf_floats)weight, parts[i][v % 2]);
                }
                RBF_UNROLL
                for (part = 0; part < 3; ++part) {
                    char *place = step + part * RBF_UNIT_PART_BYTES;
                    if (as_rows) {
                        rbf_pairs *rows = (rbf_pairs *)place + row * RBF_TILE_ROWS + r;
                        rows[0] = rbf_join(parts[0][0][part], parts[0][1][part]);
                        rows[1] = rbf_join(parts[1][0][part], parts[1][1][part]);
                    } else {
                        rbf_pairs *pairs = (rbf_pairs *)place + (row * RBF_TILE_ROWS + r) / 2;
                        pairs[0] = rbf_pair(parts[0][0][part], parts[1][0][part]);
                        pairs[RBF_UNIT_ROWS] = rbf_pair(parts[0][1][part], parts[1][1][part]);
                    }
                }
            }
        }
}

/* Sums of the products of 32 rows and 32 columns over some steps, [32][32]. Terms are added up by
 * the unit 16 at a time, as RBF_SUM_CHUNK has it, and those to runs four times as long as
 * RBF_SUM_RUN: to end one takes time, and the sums are no less accurate than those of differences.
 */
RBF_FUNCTION __attribute__((noinline)) void
RBF_NAME(unit_products)(int64_t steps, const char *rows, const char *columns, REAL *products) {
    enum { SIDE = RBF_UNIT_SIDE, RUN = 4 * RBF_SUM_RUN / RBF_UNIT_TERMS };
    const int64_t step = RBF_UNIT_STEP_BYTES, row = SIDE * sizeof(REAL);
    int64_t first;
    int i;
    for (first = 0; first < steps; first += RUN) {
        REAL sums[SIDE * SIDE] __attribute__((aligned(RBF_ALIGNMENT)));
        rbf_clear_products();
        rbf_add_products(rbf_minimum(RUN, steps - first), rows + first * step,
                         columns + first * step);
        rbf_store_products(first ? sums : products, row);
        for (i = 0; first && i < SIDE * SIDE; i += LANES)
            RBF_NAME(store)(products + i, RBF_NAME(load)(products + i) + RBF_NAME(load)(sums + i));
    }
}

/* Of some row panels, the first of a group, and panels, from one of a block on: adds W (y - c) - (x
 * - c) row_sums to dx, and W^T (x - c) - (y - c) column_sums to dy. */
RBF_FUNCTION void RBF_NAME(add_by_unit)(const RBF_NAME(gradient_job) * job, int64_t first_row_panel,
                                        int64_t row_panels, int64_t first_panel, int64_t skipped,
                                        int64_t panels, RBF_NAME(gradient_scratch) scratch,
                                        RBF_NAME(gradient_sums) sums) {
    const RBF_NAME(points) *points = &job->points;
    const int64_t chunks = RBF_NAME(unit_chunks)(points), depth = points->x.columns;
    const int64_t all_groups = rbf_ceiling_division(points->row_panels, RBF_NAME(GROUP));
    const int64_t groups = rbf_ceiling_division(row_panels, RBF_NAME(GROUP));
    const REAL *weights = scratch.weights + skipped * RBF_TILE_ROWS * COLUMNS;
    REAL products[RBF_UNIT_SIDE][RBF_UNIT_SIDE] __attribute__((aligned(RBF_ALIGNMENT)));
    int64_t chunk, group, panel, k;
    int r, v;
    RBF_NAME(weight_scales)(row_panels, panels, weights, job->row_weights, scratch.row_scales,
                            scratch.column_scales);
    if (sums.dx)
        RBF_NAME(split_weights)(row_panels, panels, weights, job->row_weights, scratch.row_scales,
                                1, scratch.split_weights);
    rbf_begin_tiles();
    for (chunk = 0; sums.dx && chunk < chunks; ++chunk)
        for (group = 0; group < groups; ++group) {
            const int64_t row_panel = group * RBF_NAME(GROUP);
            const int64_t rows =
                rbf_minimum(RBF_UNIT_SIDE, (row_panels - row_panel) * RBF_TILE_ROWS);
            const int64_t place =
                RBF_NAME(place_of_dx)(job, first_row_panel + row_panel, chunk * RBF_UNIT_SIDE);
            RBF_NAME(unit_products)(
                panels, scratch.split_weights + group * panels * RBF_UNIT_STEP_BYTES,
                job->y_terms + (first_panel * chunks + chunk * job->panels_per_block + skipped) *
                                   RBF_UNIT_STEP_BYTES,
                &products[0][0]);
            for (r = 0; r < rows; ++r) {
                const int64_t of_panel = row_panel + r / RBF_TILE_ROWS;
                const REAL sum =
                    scratch.row_sums[of_panel * RBF_NAME(WHOLE_ROWS) + r % RBF_TILE_ROWS];
                const REAL scale = 1 / scratch.row_scales[row_panel * RBF_TILE_ROWS + r];
                RBF_UNROLL
                for (v = 0; v < RBF_UNIT_SIDE; v += LANES) {
                    REAL *to = sums.dx + place + r * RBF_UNIT_SIDE + v;
                    const VECTOR x = RBF_NAME(load)(job->product_x + place + r * RBF_UNIT_SIDE + v);
                    const VECTOR product = RBF_NAME(load)(&products[r][v]) * scale;
                    const VECTOR before = sums.fresh_dx ? (VECTOR){0} : RBF_NAME(load)(to);
                    RBF_NAME(store)(to, before + (product - x * sum));
                }
            }
        }
    if (sums.dy)
        RBF_NAME(split_weights)(row_panels, panels, weights, job->row_weights,
                                scratch.column_scales, 0, scratch.split_weights);
    for (chunk = 0; sums.dy && chunk < chunks; ++chunk)
        for (panel = 0; panel < panels; ++panel) {
            const REAL *y = RBF_NAME(packed_panel)(points, first_panel + skipped + panel);
            VECTOR scale[RBF_TILE_VECTORS];
            RBF_UNROLL
            for (v = 0; v < RBF_TILE_VECTORS; ++v)
                scale[v] = 1 / RBF_NAME(load)(scratch.column_scales + panel * COLUMNS + v * LANES);
            RBF_NAME(unit_products)(
                groups,
                job->x_terms +
                    (chunk * all_groups + first_row_panel / RBF_NAME(GROUP)) * RBF_UNIT_STEP_BYTES,
                scratch.split_weights + panel * groups * RBF_UNIT_STEP_BYTES, &products[0][0]);
            for (k = chunk * RBF_UNIT_SIDE; k < rbf_minimum(depth, (chunk + 1) * RBF_UNIT_SIDE);
                 ++k) {
                REAL *dy = sums.dy + RBF_NAME(place_of_dy)(job, k, (skipped + panel) * COLUMNS);
                RBF_UNROLL
                for (v = 0; v < COLUMNS; v += LANES) {
                    const int64_t column = panel * COLUMNS + v;
                    const VECTOR product =
                        RBF_NAME(load)(&products[k % RBF_UNIT_SIDE][v]) * scale[v / LANES];
                    const VECTOR shift = RBF_NAME(load)(y + k * COLUMNS + v) *
                                         (1 / (REAL)RBF_EXPANDED_Y) *
                                         RBF_NAME(load)(scratch.column_sums + column);
                    const VECTOR before = sums.fresh_dy ? (VECTOR){0} : RBF_NAME(load)(dy + v);
                    RBF_NAME(store)(dy + v, before + (product - shift));
                }
            }
        }
    rbf_end_tiles();
}
#else /* never called */
void RBF_NAME(take_terms)(RBF_NAME(gradient_job) * job, rbf_workspace *space);
void RBF_NAME(split_product_rows)(const RBF_NAME(gradient_job) * job, int64_t row_panel);
void RBF_NAME(split_product_columns)(const RBF_NAME(gradient_job) * job, int64_t panel);
void RBF_NAME(add_by_unit)(const RBF_NAME(gradient_job) * job, int64_t first_row_panel,
                           int64_t row_panels, int64_t first_panel, int64_t skipped, int64_t panels,
                           RBF_NAME(gradient_scratch) scratch, RBF_NAME(gradient_sums) sums);
#endif
