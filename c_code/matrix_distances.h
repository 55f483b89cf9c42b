/* Inner products for the expansion of distances.h by the matrix unit.
 *
 * The unit makes 16 x 16 at a time, and its results come by memory: so whoever goes through tiles
 * of distances has a strip of them made beforehand. Rows are integers times a power of two, their
 * products exact but for what is left out, and x.y has the bits of y.x. What is rounded is small
 * beside the largest entry of a row, not beside each: where one outweighs the others by far, and
 * those are alike, what is rounded is too, and would add up. Entries of such rows are shifted
 * first, each column k by another part of an integer. Included once a precision by instantiate.h;
 * nothing but float32 has the unit.
 */
#if RBF_WITH_UNIT
/* Steps of the unit through the columns k. */
RBF_INLINE int64_t RBF_NAME(unit_steps)(const RBF_NAME(points) * points) {
    return rbf_ceiling_division(points->x.columns, RBF_DIGIT_TERMS);
}

/* What there is beside the rest of points. */
RBF_INLINE void RBF_NAME(take_digits)(RBF_NAME(points) * points, rbf_workspace *space,
                                      int threads) {
    const size_t of_side = (size_t)(2 * RBF_NAME(unit_steps)(points)) * RBF_DIGIT_STEP_BYTES;
    const int64_t groups = rbf_ceiling_division(points->row_panels, RBF_NAME(GROUP));
    points->x_digits = (char *)rbf_take(space, groups, of_side);
    points->y_digits = (char *)rbf_take(space, points->panels, of_side);
    points->x_scales = (REAL *)rbf_take(space, points->row_panels * RBF_TILE_ROWS, sizeof(REAL));
    points->y_scales = (REAL *)rbf_take(space, points->panels * COLUMNS, sizeof(REAL));
    points->strips = (RBF_NAME(strip) *)rbf_take(space, threads, sizeof(RBF_NAME(strip)));
    points->strip_stride =
        rbf_apart(RBF_NAME(STRIP_TILES) * RBF_TILE_ROWS * COLUMNS, sizeof(REAL), threads);
    points->strip_tiles = (REAL *)rbf_take(space, threads, points->strip_stride * sizeof(REAL));
}

/* Where the digits of rows from one on are, a multiple of 16. */
RBF_INLINE char *RBF_NAME(place_of_digits)(const RBF_NAME(points) * points, char *digits,
                                           int64_t row) {
    return digits + row / RBF_UNIT_ROWS * RBF_NAME(unit_steps)(points) * RBF_DIGIT_STEP_BYTES;
}

/* Some rows, 16 at most, less the centre: their norms, and digits in [steps][3 digits][16 rows][64
 * columns k], with what the first digits stand for. Norms are of `width` rows. */
RBF_INLINE void RBF_NAME(split_rows)(const RBF_NAME(points) * points, const rbf_matrix *from,
                                     int64_t first, int rows, REAL *norms, int width, REAL *scales,
                                     char *to) {
    const int64_t columns = RBF_NAME(unit_steps)(points) * RBF_DIGIT_TERMS;
    VECTOR sums[RBF_NAME(LANES)] = {{0}}, rests[RBF_NAME(LANES)] = {{0}}, lost;
    REAL to_integers[RBF_NAME(LANES)], largest[RBF_NAME(LANES)];
    int64_t k;
    int r, l;
    for (r = 0; r < rows; ++r) {
        VECTOR sum = {0}, rest = {0}, least = {0};
        for (k = 0; k < from->columns; k += LANES) {
            const VECTOR entries = RBF_NAME(centred_entries)(points, from, first + r, k, 0);
            VECTOR square = entries * entries;
            RBF_ROUND(square);
            RBF_EXACT_SUM(VECTOR, sum, lost, sum, square);
            rest += lost;
            least = RBF_NAME(minimum)(least, -(VECTOR)((INTEGER_VECTOR)entries & INT32_MAX));
        }
        sums[r] = sum;
        rests[r] = rest;
        largest[r] = 0;
        for (l = 0; l < LANES; ++l)
            largest[r] = -least[l] > largest[r] ? -least[l] : largest[r];
        scales[r] = rbf_digit_scale(largest[r], to_integers + r);
    }
    RBF_NAME(transpose)(sums);
    RBF_NAME(transpose)(rests);
    for (l = 1; l < LANES; ++l) {
        RBF_EXACT_SUM(VECTOR, sums[0], lost, sums[0], sums[l]);
        rests[0] += lost + rests[l];
    }
    for (r = 0; r < rows; ++r, to += RBF_UNIT_ROW_BYTES) {
        const double square = (double)largest[r] * largest[r];
        const int unequal = square * (double)from->columns > RBF_UNIT_UNEQUAL * (double)sums[0][r];
        RBF_NAME(cut_norm)(points, sums[0][r], rests[0][r], norms + r, norms + width + r);
        for (k = 0; k < columns; k += LANES)
            rbf_split_digits(
                (rbf_floats)(RBF_NAME(centred_entries)(points, from, first + r, k, norms[r]) *
                             to_integers[r]),
                unequal ? rbf_even_shifts(k) : (rbf_floats){0},
                to + k / RBF_DIGIT_TERMS * RBF_DIGIT_STEP_BYTES + k % RBF_DIGIT_TERMS);
    }
}

RBF_FUNCTION __attribute__((noinline)) void RBF_NAME(split_x)(const RBF_NAME(points) * points,
                                                              int64_t row_panel) {
    const int64_t first = row_panel * RBF_TILE_ROWS;
    RBF_NAME(split_rows)(points, &points->x, first, RBF_TILE_ROWS,
                         points->x_norms + first * RBF_NAME(NORM_PARTS), RBF_TILE_ROWS,
                         points->x_scales + first,
                         RBF_NAME(place_of_digits)(points, points->x_digits, first) +
                             first % RBF_UNIT_ROWS * RBF_UNIT_ROW_BYTES);
}

/* Of y a tile is turned: [16 times four columns k][16 rows][four columns k]. */
RBF_FUNCTION __attribute__((noinline)) void RBF_NAME(split_y)(const RBF_NAME(points) * points,
                                                              int64_t panel) {
    const int64_t tiles = 3 * RBF_NAME(unit_steps)(points);
    REAL *norms = points->y_norms + panel * COLUMNS * RBF_NAME(NORM_PARTS);
    int c, r;
    for (c = 0; c < COLUMNS; c += RBF_UNIT_ROWS) {
        const int64_t first = panel * COLUMNS + c;
        char *to = RBF_NAME(place_of_digits)(points, points->y_digits, first);
        int64_t tile;
        RBF_NAME(split_rows)(points, &points->y, first, RBF_UNIT_ROWS, norms + c, COLUMNS,
                             points->y_scales + first, to);
        for (tile = 0; tile < tiles; ++tile, to += RBF_UNIT_TILE_BYTES) {
            VECTOR quads[RBF_NAME(LANES)];
            RBF_UNROLL
            for (r = 0; r < LANES; ++r)
                quads[r] = RBF_NAME(load)((const REAL *)to + r * LANES);
            RBF_NAME(transpose)(quads);
            RBF_UNROLL
            for (r = 0; r < LANES; ++r)
                RBF_NAME(store)((REAL *)to + r * LANES, quads[r]);
        }
        for (r = 0; r < RBF_UNIT_ROWS; ++r)
            points->y_scales[first + r] *= RBF_EXPANDED_Y;
    }
}

/* Sums of products of digits of 16 rows and half of the columns of a panel. */
RBF_INLINE void RBF_NAME(half_products)(const RBF_NAME(points) * points, int64_t row, int64_t panel,
                                        int half, RBF_NAME(digit_sums) sums) {
    const int64_t first = half * RBF_UNIT_ROWS;
    rbf_digit_products(RBF_NAME(unit_steps)(points),
                       RBF_NAME(place_of_digits)(points, points->x_digits, row),
                       RBF_NAME(place_of_digits)(points, points->y_digits, panel * COLUMNS + first),
                       &sums[0][0][first], RBF_UNIT_ROWS * COLUMNS, COLUMNS * sizeof(int32_t));
}

/* Of a row panel those sums become inner products times RBF_EXPANDED_Y. */
RBF_INLINE void RBF_NAME(join_digits)(const RBF_NAME(points) * points,
                                      const RBF_NAME(digit_sums) sums, int64_t row_panel,
                                      int64_t panel, VECTOR tile[RBF_TILE_ROWS][RBF_TILE_VECTORS]) {
    const int64_t row = row_panel * RBF_TILE_ROWS;
    const REAL *x_scales = points->x_scales + row, *y_scales = points->y_scales + panel * COLUMNS;
    int r, v, i;
    RBF_UNROLL
    for (r = 0; r < RBF_TILE_ROWS; ++r) {
        RBF_UNROLL
        for (v = 0; v < RBF_TILE_VECTORS; ++v) {
            VECTOR product = {0};
            RBF_UNROLL
            for (i = RBF_DIGIT_SUMS - 1; i >= 0; --i) {
                const int32_t *sum = &sums[i][row % RBF_UNIT_ROWS + r][v * LANES];
                const VECTOR whole = __builtin_convertvector(*(const INTEGER_VECTOR *)sum, VECTOR);
                if (i == RBF_DIGIT_SUMS - 1)
                    product = whole;
                else
                    product = product * (1 / (REAL)256) + whole;
            }
            tile[r][v] = product * RBF_NAME(load)(y_scales + v * LANES) * x_scales[r];
        }
    }
}
#else /* never called */
void RBF_NAME(take_digits)(RBF_NAME(points) * points, rbf_workspace *space, int threads);
void RBF_NAME(split_x)(const RBF_NAME(points) * points, int64_t row_panel);
void RBF_NAME(split_y)(const RBF_NAME(points) * points, int64_t panel);
void RBF_NAME(half_products)(const RBF_NAME(points) * points, int64_t row, int64_t panel, int half,
                             RBF_NAME(digit_sums) sums);
void RBF_NAME(join_digits)(const RBF_NAME(points) * points, const RBF_NAME(digit_sums) sums,
                           int64_t row_panel, int64_t panel,
                           VECTOR tile[RBF_TILE_ROWS][RBF_TILE_VECTORS]);
#endif
