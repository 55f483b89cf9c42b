/* Inner products for the expansion of distances.h by the matrix unit.
 *
 * The unit makes 32 x 32 at a time, and its results come by memory: so whoever goes through tiles
 * of distances has a strip of them made beforehand. Terms are added up by the unit 16 at a time, as
 * RBF_SUM_CHUNK has it, and those to runs four times as long as RBF_SUM_RUN: to end one takes
 * time, and the sums are no less accurate than those of differences. x.y and y.x may differ in the
 * last bit. Included once a precision by instantiate.h; nothing but float32 has the unit.
 */
#if RBF_WITH_UNIT
/* Steps of the unit through the columns k. */
RBF_INLINE int64_t RBF_NAME(unit_steps)(const RBF_NAME(points) * points) {
    return rbf_ceiling_division(points->x.columns, RBF_UNIT_TERMS);
}

/* What there is beside the rest of points. */
RBF_INLINE void RBF_NAME(take_parts)(RBF_NAME(points) * points, rbf_workspace *space, int threads) {
    const int64_t steps = RBF_NAME(unit_steps)(points);
    const int64_t groups = rbf_ceiling_division(points->row_panels, RBF_NAME(GROUP));
    points->x_parts = (char *)rbf_take(space, groups * steps, RBF_UNIT_STEP_BYTES);
    points->y_parts = (char *)rbf_take(space, points->panels * steps, RBF_UNIT_STEP_BYTES);
    points->strips = (RBF_NAME(strip) *)rbf_take(space, threads, sizeof(RBF_NAME(strip)));
    points->strip_stride =
        rbf_apart(RBF_NAME(STRIP_TILES) * RBF_TILE_ROWS * COLUMNS, sizeof(REAL), threads);
    points->strip_tiles = (REAL *)rbf_take(space, threads, points->strip_stride * sizeof(REAL));
}

/* x - centre of a row panel: its rows of [group][steps][3 parts][32 rows][32 columns k]. */
RBF_FUNCTION __attribute__((noinline)) void RBF_NAME(split_x)(const RBF_NAME(points) * points,
                                                              int64_t row_panel) {
    const int64_t steps = RBF_NAME(unit_steps)(points), first = row_panel * RBF_TILE_ROWS;
    const REAL *norms = points->x_norms + first * RBF_NAME(NORM_PARTS);
    char *to = points->x_parts + row_panel / RBF_NAME(GROUP) * steps * RBF_UNIT_STEP_BYTES +
               row_panel % RBF_NAME(GROUP) * RBF_TILE_ROWS * RBF_UNIT_ROW_BYTES;
    int64_t step;
    int r, part;
    for (step = 0; step < steps; ++step, to += RBF_UNIT_STEP_BYTES)
        for (r = 0; r < RBF_TILE_ROWS; ++r) {
            const int64_t k = step * RBF_UNIT_TERMS;
            rbf_pairs parts[2][3];
            rbf_split(
                (rbf_floats)RBF_NAME(centred_entries)(points, &points->x, first + r, k, norms[r]),
                parts[0]);
            rbf_split((rbf_floats)RBF_NAME(centred_entries)(points, &points->x, first + r,
                                                            k + LANES, norms[r]),
                      parts[1]);
            RBF_UNROLL
            for (part = 0; part < 3; ++part)
                *(rbf_pairs *)(to + part * RBF_UNIT_PART_BYTES + r * RBF_UNIT_ROW_BYTES) =
                    rbf_join(parts[0][part], parts[1][part]);
        }
}

/* (y - centre) RBF_EXPANDED_Y of a panel, which is packed: [panel][steps][3 parts][2][16 pairs of
 * columns k][16 columns]. */
RBF_FUNCTION __attribute__((noinline)) void RBF_NAME(split_y)(const RBF_NAME(points) * points,
                                                              int64_t panel) {
    const int64_t steps = RBF_NAME(unit_steps)(points), depth = points->y.columns;
    const REAL *from = RBF_NAME(place_of_panel)(points, panel);
    char *to = points->y_parts + panel * steps * RBF_UNIT_STEP_BYTES;
    int64_t k;
    int v, part;
    for (k = 0; k < steps * RBF_UNIT_TERMS; k += 2, from += 2 * COLUMNS) {
        char *pairs = to + k / RBF_UNIT_TERMS * RBF_UNIT_STEP_BYTES +
                      k % RBF_UNIT_TERMS / 2 * RBF_UNIT_ROW_BYTES;
        for (v = 0; v < 2; ++v) {
            rbf_pairs parts[2][3] = {{{0}}};
            if (k < depth)
                rbf_split((rbf_floats)RBF_NAME(load)(from + v * LANES), parts[0]);
            if (k + 1 < depth)
                rbf_split((rbf_floats)RBF_NAME(load)(from + COLUMNS + v * LANES), parts[1]);
            RBF_UNROLL
            for (part = 0; part < 3; ++part)
                *(rbf_pairs *)(pairs + part * RBF_UNIT_PART_BYTES + v * RBF_UNIT_TILE_BYTES) =
                    rbf_pair(parts[0][part], parts[1][part]);
        }
    }
}

/* Sums of the products of 32 rows and 32 columns over some steps, [32][32]. */
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

/* Inner products of the row panels and panels of a strip, to it. */
RBF_FUNCTION __attribute__((noinline)) void
RBF_NAME(strip_products)(const RBF_NAME(points) * points, const RBF_NAME(strip) * strip) {
    const int64_t steps = RBF_NAME(unit_steps)(points);
    const int64_t end = strip->first_row_panel + strip->row_panels;
    int64_t panel, group;
    rbf_begin_tiles();
    for (group = strip->first_row_panel / RBF_NAME(GROUP); group * RBF_NAME(GROUP) < end; ++group) {
        const char *rows = points->x_parts + group * steps * RBF_UNIT_STEP_BYTES;
        const int64_t from = rbf_maximum(strip->first_row_panel, group * RBF_NAME(GROUP));
        const int64_t count = rbf_minimum(end, (group + 1) * RBF_NAME(GROUP)) - from;
        for (panel = 0; panel < strip->panels; ++panel) {
            const char *columns =
                points->y_parts + (strip->first_panel + panel) * steps * RBF_UNIT_STEP_BYTES;
            REAL *to = strip->tiles + (panel * strip->row_panels + from - strip->first_row_panel) *
                                          RBF_TILE_ROWS * COLUMNS;
            if (count == RBF_NAME(GROUP)) {
                RBF_NAME(unit_products)(steps, rows, columns, to);
            } else {
                REAL all[RBF_UNIT_SIDE * RBF_NAME(COLUMNS)] __attribute__((aligned(RBF_ALIGNMENT)));
                RBF_NAME(unit_products)(steps, rows, columns, all);
                memcpy(to, all + from % RBF_NAME(GROUP) * RBF_TILE_ROWS * COLUMNS,
                       (size_t)(count * RBF_TILE_ROWS * COLUMNS) * sizeof(REAL));
            }
        }
    }
    rbf_end_tiles();
}
#else /* never called */
void RBF_NAME(take_parts)(RBF_NAME(points) * points, rbf_workspace *space, int threads);
void RBF_NAME(split_x)(const RBF_NAME(points) * points, int64_t row_panel);
void RBF_NAME(split_y)(const RBF_NAME(points) * points, int64_t panel);
void RBF_NAME(strip_products)(const RBF_NAME(points) * points, const RBF_NAME(strip) * strip);
#endif
