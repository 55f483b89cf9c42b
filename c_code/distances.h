/* Squared distances of many columns k as |x|^2 + |y|^2 - 2 x.y, where that loses nothing.
 *
 * A difference and its square are two instructions a term, a product is one. But the expansion
 * cancels: what is rounded in its sums, of the size of |x|^2 + |y|^2, stays when those are gone. So
 * points are moved to about their mean, and an entry is taken from the expansion only if D is at
 * least half of |x|^2 + |y|^2: then |2 x.y| <= D, and its sum is rounded no worse than a sum of
 * squared differences. The squared norms are known in twice the precision, and those parts of them
 * that are large lie on one grid, on which their sum is exact; they are rounded up to it, so that D
 * is not compared with less than it should be. All other entries, those of points
 * close to each other, are computed again by differences, one by one: coincident rows have D = 0.
 *
 * Within a call, which way an entry is computed depends on its two points alone, so K of x and x is
 * symmetric. The expansion is not used where a sample says that many entries would be computed
 * twice. Included once a precision by instantiate.h.
 */
RBF_FUNCTION void RBF_NAME(set_points)(RBF_NAME(points) * points, rbf_matrix x, rbf_matrix y) {
    const double n = (double)x.rows, m = (double)y.rows;
    points->x = x;
    points->y = y;
    points->row_panels = rbf_ceiling_division(x.rows, RBF_TILE_ROWS);
    points->panels = rbf_ceiling_division(y.rows, COLUMNS);
    points->expanded = 0;
    points->close = NULL;
    /* Many terms, and many entries: norms and the sample are work for each row, worth it if they
     * serve 64 entries. */
    if (RBF_EXPANSION && x.columns >= RBF_EXPANSION_DEPTH && n * m > 64 * (n + m) &&
        n * m >= RBF_EXPANSION_ENTRIES)
        RBF_NAME(decide_expansion)(points);
    points->by_unit = RBF_WITH_UNIT && points->expanded && x.columns >= RBF_UNIT_DEPTH &&
                      x.columns <= RBF_UNIT_DEPTH_LARGEST && rbf_matrix_unit();
    points->keep_packed = 0;
}

RBF_INLINE void RBF_NAME(take_points)(RBF_NAME(points) * points, rbf_workspace *space,
                                      int threads) {
    const int64_t depth = points->x.columns, expanded = points->expanded;
    const int64_t packed = RBF_NAME(unpacked)(points) ? 0 : depth;
    const size_t row_panel_row = RBF_TILE_ROWS * sizeof(REAL), panel_row = COLUMNS * sizeof(REAL);
    points->packed_x = (REAL *)rbf_take(space, points->row_panels * packed, row_panel_row);
    points->packed_y = (REAL *)rbf_take(space, points->panels * packed, panel_row);
    points->centre =
        (REAL *)rbf_take(space, expanded * rbf_ceiling_division(depth, LANES), sizeof(VECTOR));
    points->x_norms = (REAL *)rbf_take(space, expanded * points->row_panels * RBF_NAME(NORM_PARTS),
                                       row_panel_row);
    points->y_norms =
        (REAL *)rbf_take(space, expanded * points->panels * RBF_NAME(NORM_PARTS), panel_row);
    if (RBF_BY_UNIT(points))
        RBF_NAME(take_digits)(points, space, threads);
}

/* Fills `centre`, empties the strips: once there is memory, before rows are packed. */
RBF_FUNCTION void RBF_NAME(begin_points)(RBF_NAME(points) * points, int threads) {
    int64_t k;
    int thread;
    for (thread = 0; points->by_unit && thread < threads; ++thread) {
        points->strips[thread].tiles = points->strip_tiles + thread * points->strip_stride;
        points->strips[thread].row_panels = points->strips[thread].panels = 0;
    }
    for (k = 0; points->expanded && k < points->y.columns; k += LANES)
        RBF_NAME(store)(points->centre + k, RBF_NAME(centre_entries)(points, k));
}

/* Two columns k, or the one that is left, of LANES rows of a panel, or of all its rows where those
 * are half a vector: centred and scaled. Their squares join the sums of even and of odd columns k,
 * in twice the precision: sum[0] and rest[0] are of even, sum[1] and rest[1] of odd ones; of half
 * vectors the halves of sum[0] and rest[0] are. */
RBF_INLINE void RBF_NAME(expand_pair)(REAL *RBF_RESTRICT packed, const REAL *centre, const int left,
                                      const int width, REAL scale, VECTOR sum[2], VECTOR rest[2]) {
    const int halves = width < LANES;
    int c, l;
    RBF_UNROLL
    for (c = 0; c < 2 - halves; ++c) {
        REAL *to = packed + c * width;
        VECTOR entry = {0}, middle = {0}, square, lost;
        const size_t bytes = sizeof(VECTOR) / (halves && left == 1 ? 2 : 1);
        if (c >= left)
            break;
        middle += centre[c];
        if (halves) {
            VECTOR second = {0};
            INTEGER_VECTOR from = {0};
            if (left > 1)
                second += centre[1];
            RBF_UNROLL
            for (l = 0; l < LANES; ++l)
                from[l] = l < width ? l : LANES + l;
            middle = RBF_NAME(pick_lanes)(middle, second, from);
        }
        memcpy(&entry, to, bytes);
        entry -= middle;
        square = entry * entry;
        RBF_ROUND(square); /* x and y must get the same bits */
        RBF_EXACT_SUM(VECTOR, sum[c], lost, sum[c], square);
        rest[c] += lost;
        entry *= scale;
        memcpy(to, &entry, bytes);
    }
}

/* Makes packed rows of x or y what the expansion takes, if it is used, and their norms, unless they
 * are known. */
RBF_INLINE void RBF_NAME(expand_rows)(const RBF_NAME(points) * points, REAL *packed,
                                      const int width, REAL scale, REAL *norms) {
    const int64_t depth = points->x.columns;
    int64_t k;
    int first, r;
    if (!points->expanded)
        return;
    for (first = 0; first < width; first += LANES) {
        VECTOR sum[2] = {{0}}, rest[2] = {{0}};
        REAL sums[2 * RBF_NAME(LANES)], rests[2 * RBF_NAME(LANES)];
        const int rows = (int)rbf_minimum(width, LANES);
        for (k = 0; k + 1 < depth; k += 2)
            RBF_NAME(expand_pair)(packed + k * width + first, points->centre + k, 2, width, scale,
                                  sum, rest);
        if (k < depth)
            RBF_NAME(expand_pair)(packed + k * width + first, points->centre + k, 1, width, scale,
                                  sum, rest);
        memcpy(sums, sum, sizeof sums);
        memcpy(rests, rest, sizeof rests);
        for (r = 0; r < rows; ++r) {
            REAL *on_grid = norms + first + r, norm, lost;
            RBF_EXACT_SUM(REAL, norm, lost, sums[r], sums[rows + r]);
            if (!RBF_BY_UNIT(points))
                RBF_NAME(cut_norm)(points, norm, lost + (rests[r] + rests[rows + r]), on_grid,
                                   on_grid + width);
            for (k = 0; *on_grid < 0 && k < depth; ++k)
                packed[k * width + first + r] = 0;
        }
    }
}

RBF_FUNCTION __attribute__((noinline)) void RBF_NAME(expand_x)(const RBF_NAME(points) * points,
                                                               int64_t row_panel) {
    const int64_t row = row_panel * RBF_TILE_ROWS;
    if (RBF_BY_UNIT(points))
        RBF_NAME(split_x)(points, row_panel);
    if (!RBF_NAME(unpacked)(points))
        RBF_NAME(expand_rows)(points, RBF_NAME(packed_row_panel)(points, row_panel), RBF_TILE_ROWS,
                              1, points->x_norms + row * RBF_NAME(NORM_PARTS));
}

RBF_FUNCTION __attribute__((noinline)) void RBF_NAME(expand_y)(const RBF_NAME(points) * points,
                                                               int64_t panel) {
    const int64_t row = panel * COLUMNS;
    if (RBF_BY_UNIT(points))
        RBF_NAME(split_y)(points, panel);
    if (!RBF_NAME(unpacked)(points))
        RBF_NAME(expand_rows)(points, RBF_NAME(packed_panel)(points, panel), COLUMNS,
                              RBF_EXPANDED_Y, points->y_norms + row * RBF_NAME(NORM_PARTS));
}

RBF_INLINE void RBF_NAME(pack_x)(const RBF_NAME(points) * points, int64_t row_panel) {
    if (!RBF_NAME(unpacked)(points))
        RBF_NAME(pack_rows)(RBF_NAME(packed_row_panel)(points, row_panel), points->x,
                            row_panel * RBF_TILE_ROWS, RBF_TILE_ROWS);
    RBF_NAME(expand_x)(points, row_panel);
}

RBF_INLINE void RBF_NAME(pack_y)(const RBF_NAME(points) * points, int64_t panel) {
    if (!RBF_NAME(unpacked)(points))
        RBF_NAME(pack_rows)(RBF_NAME(packed_panel)(points, panel), points->y, panel * COLUMNS,
                            COLUMNS);
    RBF_NAME(expand_y)(points, panel);
}

/* Less than 0 where D is less than half of the squared norms, or those are not finite. */
#define RBF_EXCESS(distance, norms) ((distance) - (norms) / 2)

/* Entries of a tile in which some have no excess: those, by differences; listed, if there is a
 * list. */
RBF_FUNCTION __attribute__((noinline)) void
RBF_NAME(mend_distances)(const RBF_NAME(points) * points, int64_t row, const REAL *x_on_grid,
                         int64_t column, const REAL *y_on_grid, REAL *distances) {
    RBF_NAME(close_entries) *list = points->close;
    const int64_t n = points->x.rows, m = points->y.rows;
    INTEGER lanes[RBF_NAME(LANES)] __attribute__((aligned(RBF_ALIGNMENT)));
    INTEGER_VECTOR close = {0}; /* of each lane, a bit for each vector of the tile */
    int t, v, l;
    RBF_UNROLL
    for (t = 0; t < RBF_TILE_ROWS; ++t) {
        RBF_UNROLL
        for (v = 0; v < RBF_TILE_VECTORS; ++v) {
            const VECTOR distance = RBF_NAME(load)(distances + t * COLUMNS + v * LANES);
            const VECTOR norms = RBF_NAME(load)(y_on_grid + v * LANES) + x_on_grid[t];
            close |= (INTEGER_VECTOR)(RBF_EXCESS(distance, norms) < 0) &
                     ((INTEGER)1 << (t * RBF_TILE_VECTORS + v));
        }
    }
    memcpy(lanes, &close, sizeof lanes);
    for (l = 0; l < LANES; ++l) {
        unsigned bits;
        for (bits = (unsigned)lanes[l]; bits; bits &= bits - 1) {
            const int place = __builtin_ctz(bits);
            const int64_t r = place / RBF_TILE_VECTORS, i = row + r;
            const int64_t c = place % RBF_TILE_VECTORS * LANES + l, j = column + c;
            distances[r * COLUMNS + c] = RBF_NAME(pair_distance)(&points->x, rbf_minimum(i, n - 1),
                                                                 &points->y, rbf_minimum(j, m - 1));
            if (list && i < n && j < m && list->count++ < list->most) {
                RBF_NAME(close_entry) *entry = list->entries + list->count - 1;
                entry->row = i;
                entry->column = j;
            }
        }
    }
}

/* Inner products of a row panel and a panel become squared distances, in memory. */
RBF_INLINE void RBF_NAME(join_norms)(const RBF_NAME(points) * points, int64_t row_panel,
                                     int64_t panel, VECTOR tile[RBF_TILE_ROWS][RBF_TILE_VECTORS],
                                     REAL *distances) {
    const int64_t row = row_panel * RBF_TILE_ROWS, column = panel * COLUMNS;
    const REAL *x_on_grid = points->x_norms + row * RBF_NAME(NORM_PARTS);
    const REAL *y_on_grid = points->y_norms + column * RBF_NAME(NORM_PARTS);
    const REAL *x_rest = x_on_grid + RBF_TILE_ROWS, *y_rest = y_on_grid + COLUMNS;
    INTEGER_VECTOR signs = {0};
    uint64_t words[RBF_VECTOR_BYTES / 8], close = 0;
    int r, v, w;
    RBF_UNROLL
    for (r = 0; r < RBF_TILE_ROWS; ++r) {
        RBF_UNROLL
        for (v = 0; v < RBF_TILE_VECTORS; ++v) {
            const VECTOR norms = RBF_NAME(load)(y_on_grid + v * LANES) + x_on_grid[r];
            const VECTOR rests = RBF_NAME(load)(y_rest + v * LANES) + x_rest[r];
            tile[r][v] = (norms + tile[r][v]) + rests;
            signs |= (INTEGER_VECTOR)RBF_EXCESS(tile[r][v], norms);
        }
    }
    RBF_NAME(keep_tile)(tile, distances);
    memcpy(words, &signs, sizeof words);
    for (w = 0; w < RBF_VECTOR_BYTES / 8; ++w)
        close |= words[w];
    if (close & (RBF_DOUBLE ? UINT64_C(1) << 63 : UINT64_C(0x8000000080000000)))
        RBF_NAME(mend_distances)(points, row, x_on_grid, column, y_on_grid, distances);
}

/* Squared distances of a row panel and a panel, packed for the expansion, into memory. */
RBF_FUNCTION __attribute__((noinline)) void
RBF_NAME(expanded_distances)(const RBF_NAME(points) * points, int64_t row_panel, int64_t panel,
                             REAL *RBF_RESTRICT distances) {
    VECTOR tile[RBF_TILE_ROWS][RBF_TILE_VECTORS];
    RBF_NAME(term_runs)(points->x.columns, RBF_NAME(packed_row_panel)(points, row_panel),
                        RBF_NAME(packed_panel)(points, panel), tile, RBF_TILE_VECTORS, 1);
    RBF_NAME(join_norms)(points, row_panel, panel, tile, distances);
}

/* Where a tile of a strip is. */
RBF_INLINE REAL *RBF_NAME(strip_tile)(const RBF_NAME(strip) * strip, int64_t row_panel,
                                      int64_t panel) {
    return strip->tiles +
           ((panel - strip->first_panel) * strip->row_panels + row_panel - strip->first_row_panel) *
               RBF_TILE_ROWS * COLUMNS;
}

/* Distances of a row panel and a panel of a strip, from sums of products of digits. */
RBF_INLINE void RBF_NAME(join_strip_tile)(const RBF_NAME(points) * points,
                                          const RBF_NAME(strip) * strip,
                                          const RBF_NAME(digit_sums) sums, int64_t row_panel,
                                          int64_t panel) {
    VECTOR tile[RBF_TILE_ROWS][RBF_TILE_VECTORS];
    if (row_panel < strip->first_row_panel ||
        row_panel >= strip->first_row_panel + strip->row_panels)
        return;
    RBF_NAME(join_digits)(points, sums, row_panel, panel, tile);
    RBF_NAME(join_norms)(points, row_panel, panel, tile,
                         RBF_NAME(strip_tile)(strip, row_panel, panel));
}

/* All distances of a strip. While the matrix unit makes sums for one half of a panel after the
 * other, the vector units join those of one row panel after the other of the panel before. */
RBF_FUNCTION __attribute__((noinline)) void RBF_NAME(fill_strip)(const RBF_NAME(points) * points,
                                                                 const RBF_NAME(strip) * strip) {
    enum {
        TOGETHER = RBF_UNIT_ROWS / RBF_TILE_ROWS
    }; /* row panels of 16 rows; halves of a panel */
    RBF_NAME(digit_sums) sums[2] __attribute__((aligned(RBF_ALIGNMENT)));
    const int64_t end = strip->first_row_panel + strip->row_panels;
    int64_t first = strip->first_row_panel / TOGETHER * TOGETHER, before = first, panel = 0;
    int64_t number, panel_before = 0;
    int half;
    rbf_begin_tiles();
    for (number = 0;; ++number) {
        const int more = first < end;
        for (half = 0; half < TOGETHER; ++half) {
            if (more)
                RBF_NAME(half_products)(points, first * RBF_TILE_ROWS, strip->first_panel + panel,
                                        half, sums[number % 2]);
            if (number > 0)
                RBF_NAME(join_strip_tile)(points, strip, sums[(number + 1) % 2], before + half,
                                          strip->first_panel + panel_before);
        }
        if (!more)
            break;
        before = first;
        panel_before = panel;
        if (++panel == strip->panels) {
            panel = 0;
            first += TOGETHER;
        }
    }
    rbf_end_tiles();
}

/* The calling thread's strip, with these panels of this row panel and of some behind it. */
RBF_INLINE const RBF_NAME(strip) * RBF_NAME(make_strip)(const RBF_NAME(points) * points,
                                                        int64_t row_panel, int64_t last_row_panel,
                                                        int64_t first_panel, int64_t last_panel) {
    RBF_NAME(strip) *strip = points->strips + rbf_thread_number();
    const int64_t panels = last_panel - first_panel, group = row_panel / RBF_NAME(GROUP);
    const int64_t groups = rbf_maximum(1, RBF_NAME(STRIP_TILES) / RBF_NAME(GROUP) / panels);
    if (row_panel >= strip->first_row_panel &&
        row_panel < strip->first_row_panel + strip->row_panels &&
        first_panel == strip->first_panel && panels == strip->panels)
        return strip;
    strip->first_row_panel = row_panel;
    strip->row_panels = rbf_minimum(last_row_panel, (group + groups) * RBF_NAME(GROUP)) - row_panel;
    strip->first_panel = first_panel;
    strip->panels = panels;
    RBF_NAME(fill_strip)(points, strip);
    return strip;
}

/* To be called before `distances` of a row panel and some panels, at most STRIP_PANELS: if they are
 * for the matrix unit, it makes them now, and with them those of row panels behind it, before
 * last_row_panel. Returns what `distances` wants to know. */
RBF_INLINE const RBF_NAME(strip) *
    RBF_NAME(prepare_distances)(const RBF_NAME(points) * points, int64_t row_panel,
                                int64_t last_row_panel, int64_t first_panel, int64_t last_panel) {
    if (!RBF_BY_UNIT(points))
        return NULL;
    return RBF_NAME(make_strip)(points, row_panel, last_row_panel, first_panel, last_panel);
}

/* Squared distances of a row panel and a panel, by their numbers: from a strip, if there is one. By
 * differences those of more columns k than `inlined`, a constant, are summed by a call. */
RBF_INLINE void RBF_NAME(distances)(const RBF_NAME(points) * points, const RBF_NAME(strip) * strip,
                                    int64_t row_panel, int64_t panel,
                                    VECTOR tile[RBF_TILE_ROWS][RBF_TILE_VECTORS],
                                    const int inlined) {
    if (RBF_BY_UNIT(points)) {
        RBF_NAME(load_kept)(tile, RBF_NAME(strip_tile)(strip, row_panel, panel));
    } else if (__builtin_expect(points->expanded, 0)) {
        REAL kept[RBF_TILE_ROWS * RBF_NAME(COLUMNS)] __attribute__((aligned(RBF_ALIGNMENT)));
        RBF_NAME(expanded_distances)(points, row_panel, panel, kept);
        RBF_NAME(load_kept)(tile, kept);
    } else {
        RBF_NAME(distance_tile)(points->x.columns, RBF_NAME(packed_row_panel)(points, row_panel),
                                RBF_NAME(packed_panel)(points, panel), tile, inlined);
    }
}
