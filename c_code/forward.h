/* K[i, j] = amplitude[j] exp(-gamma[j] |x[i] - y[j]|^2): the forward kernel. Or a mixture of
 * widths, K[i, j] = sum_t amplitude[t] exp(-gamma[t] |x[i] - y[j]|^2).
 *
 * x and y are packed once; then tasks of (row block) x (column block) are shared out to threads,
 * and who is done helps the others. A column block of panels stays in the second-level cache while
 * the rows of the block pass over it. Every entry is computed by one tile in one order, so the bits
 * do not depend on the number of threads.
 *
 * A K larger than the caches is streamed past them; where its rows are not aligned lines are picked
 * in registers, if the target has an instruction for it, or gathered in a stage of some rows in the
 * first-level cache. Symmetric: squares on and above the diagonal are computed, each written as it
 * is and, transposed, below the diagonal: (x[i] - x[j])^2 has the bits of (x[j] - x[i])^2, so K is
 * what the full computation gives. Where rows are not aligned, and at the edges, a whole block of
 * squares is computed into a stage in the second-level cache and written from there. Included once
 * a precision by instantiate.h.
 */
enum {
    RBF_NAME(STAGE_PANELS) = 16, /* panels gathered before they are streamed */
    /* Of a square: its rows are two cache lines, so that two stages fill little of the first-level
     * cache, where what is computed meanwhile must not wait for what is streamed. */
    RBF_NAME(SQUARE_PANELS) = 2 * RBF_ALIGNMENT / (RBF_TILE_VECTORS * RBF_VECTOR_BYTES),
    RBF_NAME(SQUARE) = RBF_NAME(SQUARE_PANELS) * (int)COLUMNS,
    RBF_NAME(SQUARE_TILES) = RBF_NAME(SQUARE_PANELS) * (int)RBF_NAME(SQUARE) / RBF_TILE_ROWS,
    RBF_NAME(SQUARE_PIECES) = RBF_NAME(SQUARE) / (int)LANES,
    RBF_NAME(SQUARE_STAGES) = 2 * RBF_NAME(SQUARE) * RBF_NAME(SQUARE),
    RBF_NAME(BLOCK) = 8 * (int)COLUMNS /* rows and columns of a task of the symmetric form */
};

typedef struct {
    RBF_NAME(points) points;
    int of; /* RBF_OF_KERNEL, RBF_OF_MIXTURE or RBF_OF_DISTANCES */
    rbf_vector gamma, amplitude;
    int64_t terms; /* of a mixture, else 1 */
    REAL *output;  /* (n, m), C order */
    int symmetric;
    int streaming, direct; /* past the caches; from registers, without a stage */
    int picked;            /* past the caches, by streamed_rows.h */
    int64_t panels_per_block, row_panels_per_block;
    int64_t row_blocks;
    rbf_shares shares; /* not if symmetric: in order, those tasks end with short ones */
    /* [panels]; all special unless of a kernel: one test a tile finds what is rare. */
    RBF_NAME(coefficients) * coefficients;
    RBF_NAME(coefficients) * mixture; /* [terms] */
    REAL *stage;                      /* [threads][stage_stride] */
    int64_t stage_stride;
} RBF_NAME(forward_job);

/* To any address, or past the caches to one that is aligned. */
RBF_INLINE void RBF_NAME(store_output)(REAL *to, VECTOR value, int streaming) {
    if (streaming)
        rbf_stream_vector(to, (rbf_bytes)value);
    else
        RBF_NAME(store_unaligned)(to, value);
}

RBF_INLINE void RBF_NAME(store_whole)(REAL *output, int64_t stride,
                                      VECTOR tile[RBF_TILE_ROWS][RBF_TILE_VECTORS], int streaming) {
    int r, v;
    RBF_UNROLL
    for (r = 0; r < RBF_TILE_ROWS; ++r) {
        RBF_UNROLL
        for (v = 0; v < RBF_TILE_VECTORS; ++v)
            RBF_NAME(store_output)(output + r * stride + v * LANES, tile[r][v], streaming);
    }
}

/* sum_t amplitude[t] exp(-gamma[t] D) in place of D, of a tile in memory. */
RBF_FUNCTION __attribute__((noinline)) void RBF_NAME(mix)(const RBF_NAME(coefficients) * c,
                                                          int64_t terms, REAL *RBF_RESTRICT tile) {
    enum { SIDE = RBF_STORED_EXPONENTIALS };
    REAL sums[RBF_TILE_ROWS * RBF_NAME(COLUMNS)] __attribute__((aligned(RBF_ALIGNMENT))) = {0};
    int64_t t;
    int r, v, i;
    for (t = 0; t < terms; ++t, ++c) {
        if (__builtin_expect(c->special, 0)) {
            for (i = 0; i < RBF_TILE_ROWS * COLUMNS; ++i)
                sums[i] += c->amplitude[0] * RBF_NAME(library_exponential)(-c->gamma[0] * tile[i]);
            continue;
        }
        for (r = 0; r < RBF_TILE_ROWS; r += SIDE) {
            RBF_UNROLL
            for (v = 0; v < COLUMNS; v += LANES) {
                VECTOR side[SIDE];
                RBF_UNROLL
                for (i = 0; i < SIDE; ++i)
                    side[i] = RBF_NAME(load)(tile + (r + i) * COLUMNS + v);
                RBF_NAME(scaled_exponentials)(side, SIDE, c, v, c->factor);
                RBF_UNROLL
                for (i = 0; i < SIDE; ++i) {
                    REAL *to = sums + (r + i) * COLUMNS + v;
                    RBF_NAME(store)(to, RBF_NAME(load)(to) + side[i]);
                }
            }
        }
    }
    memcpy(tile, sums, sizeof sums);
}

/* One tile of K, by the numbers of its row panel and its panel. */
RBF_INLINE void RBF_NAME(forward_tile)(const RBF_NAME(forward_job) * job,
                                       const RBF_NAME(strip) * strip, int64_t row_panel,
                                       int64_t panel,
                                       VECTOR tile[RBF_TILE_ROWS][RBF_TILE_VECTORS]) {
    const RBF_NAME(coefficients) *c = job->coefficients + panel;
    int r, v;
    RBF_NAME(distances)(&job->points, strip, row_panel, panel, tile, RBF_SUM_RUN);
    if (__builtin_expect(c->special, 0)) {
        REAL entries[RBF_TILE_ROWS][RBF_NAME(COLUMNS)] __attribute__((aligned(RBF_ALIGNMENT)));
        int i, j;
        RBF_NAME(keep_tile)(tile, &entries[0][0]);
        if (job->of == RBF_OF_MIXTURE)
            RBF_NAME(mix)(job->mixture, job->terms, &entries[0][0]);
        else if (job->of == RBF_OF_KERNEL)
            for (i = 0; i < RBF_TILE_ROWS; ++i)
                for (j = 0; j < COLUMNS; ++j)
                    entries[i][j] = c->amplitude[j] *
                                    RBF_NAME(library_exponential)(-c->gamma[j] * entries[i][j]);
        RBF_NAME(load_kept)(tile, &entries[0][0]);
        return;
    }
    RBF_UNROLL
    for (v = 0; v < RBF_TILE_VECTORS; ++v) {
        RBF_UNROLL
        for (r = 0; r < RBF_TILE_ROWS; r += RBF_STORED_EXPONENTIALS)
            RBF_NAME(exponentials_at)(tile, r, v, RBF_STORED_EXPONENTIALS, c, c->factor);
    }
}

/* The tile, of which rows x columns are wanted, to rows of `output`. */
RBF_INLINE void RBF_NAME(store_tile)(REAL *output, int64_t output_stride,
                                     VECTOR tile[RBF_TILE_ROWS][RBF_TILE_VECTORS], int64_t rows,
                                     int64_t columns, int streaming) {
    if (rows == RBF_TILE_ROWS && columns == COLUMNS) {
        RBF_NAME(store_whole)(output, output_stride, tile, streaming);
    } else {
        REAL edge[RBF_TILE_ROWS][RBF_NAME(COLUMNS)] __attribute__((aligned(RBF_ALIGNMENT)));
        int64_t i;
        RBF_NAME(keep_tile)(tile, &edge[0][0]);
        for (i = 0; i < rows; ++i)
            memcpy(output + i * output_stride, edge[i], (size_t)columns * sizeof(REAL));
    }
}

/* Rows of a stage to rows of the output. */
RBF_INLINE void RBF_NAME(write_rows)(const REAL *stage, int64_t stage_stride, REAL *output,
                                     int64_t output_stride, int64_t rows, int64_t columns,
                                     int streaming) {
    int64_t i;
    for (i = 0; i < rows; ++i) {
        REAL *to = output + i * output_stride;
        const REAL *from = stage + i * stage_stride;
        if (streaming)
            rbf_stream((char *)to, (const char *)from, columns * (int64_t)sizeof(REAL));
        else
            memcpy(to, from, (size_t)columns * sizeof(REAL));
    }
}

/* A whole row panel against a range of panels, whose lines are picked. */
RBF_FUNCTION __attribute__((noinline)) void
RBF_NAME(forward_picked)(const RBF_NAME(forward_job) * job, const RBF_NAME(strip) * strip,
                         int64_t row_panel, int64_t first_panel, int64_t last_panel) {
    const int64_t m = job->points.y.rows, row = row_panel * RBF_TILE_ROWS;
    const int64_t columns = rbf_minimum(last_panel * COLUMNS, m);
    REAL *output = job->output + row * m;
    VECTOR tile[RBF_TILE_ROWS][RBF_TILE_VECTORS];
    RBF_NAME(streamed_rows) rows;
    int64_t panel, column = first_panel * COLUMNS;
    RBF_NAME(begin_rows)(&rows, output + column, m);
    for (panel = first_panel; panel < last_panel; ++panel, column += COLUMNS) {
        RBF_NAME(forward_tile)(job, strip, row_panel, panel, tile);
        if (column + COLUMNS <= columns)
            RBF_NAME(stream_tile)(&rows, output + column, m, tile, panel == first_panel);
    }
    column = columns / COLUMNS * COLUMNS;
    if (column > first_panel * COLUMNS)
        RBF_NAME(end_rows)(&rows, output + column, m);
    if (column < columns)
        RBF_NAME(store_tile)(output + column, m, tile, RBF_TILE_ROWS, columns - column, 0);
}

/* A range of row panels against a range of panels. */
RBF_FUNCTION void RBF_NAME(forward_block)(const RBF_NAME(forward_job) * job,
                                          int64_t first_row_panel, int64_t last_row_panel,
                                          int64_t first_panel, int64_t last_panel, REAL *stage) {
    const int64_t n = job->points.x.rows, m = job->points.y.rows;
    int64_t row_panel, first, panel;
    for (row_panel = first_row_panel; row_panel < last_row_panel; ++row_panel) {
        const int64_t row = row_panel * RBF_TILE_ROWS;
        const int64_t rows = rbf_minimum(RBF_TILE_ROWS, n - row);
        const RBF_NAME(strip) *strip = RBF_NAME(prepare_distances)(
            &job->points, row_panel, last_row_panel, first_panel, last_panel);
        if (RBF_PICKED_LINES && job->picked && rows == RBF_TILE_ROWS) {
            RBF_NAME(forward_picked)(job, strip, row_panel, first_panel, last_panel);
            continue;
        }
        for (first = first_panel; first < last_panel; first += RBF_NAME(STAGE_PANELS)) {
            const int64_t last = rbf_minimum(last_panel, first + RBF_NAME(STAGE_PANELS));
            REAL *output = job->output + row * m + first * COLUMNS;
            REAL *to = job->direct ? output : stage;
            const int64_t stride = job->direct ? m : RBF_NAME(STAGE_PANELS) * COLUMNS;
            for (panel = first; panel < last; ++panel) {
                VECTOR tile[RBF_TILE_ROWS][RBF_TILE_VECTORS];
                RBF_NAME(forward_tile)(job, strip, row_panel, panel, tile);
                RBF_NAME(store_tile)(to + (panel - first) * COLUMNS, stride, tile, rows,
                                     rbf_minimum(COLUMNS, m - panel * COLUMNS),
                                     job->streaming && job->direct);
            }
            if (!job->direct)
                RBF_NAME(write_rows)(stage, stride, output, m, rows,
                                     rbf_minimum(last * COLUMNS, m) - first * COLUMNS, 1);
        }
    }
}

/* `parts` (a constant) times LANES rows and LANES columns of a stage, transposed, to LANES rows of
 * `output`, the vectors of a row one after the other: a line that is streamed alone, with lines of
 * other rows between it and the next, takes memory a third longer. */
RBF_INLINE void RBF_NAME(write_transposed)(const REAL *stage, int64_t stage_stride, REAL *output,
                                           int64_t output_stride, const int parts, int streaming) {
    VECTOR squares[RBF_NAME(SQUARE_PIECES)][RBF_NAME(LANES)];
    int part, r;
    RBF_UNROLL
    for (part = 0; part < parts; ++part) {
        RBF_UNROLL
        for (r = 0; r < LANES; ++r)
            squares[part][r] = RBF_NAME(load)(stage + (part * LANES + r) * stage_stride);
        RBF_NAME(transpose)(squares[part]);
    }
    RBF_UNROLL
    for (r = 0; r < LANES; ++r) {
        RBF_UNROLL
        for (part = 0; part < parts; ++part)
            RBF_NAME(store_output)(output + r * output_stride + part * LANES, squares[part][r],
                                   streaming);
    }
}

/* A square in a stage [SQUARE][SQUARE] whose image is yet to be written to `output`; NULL: none. */
typedef struct {
    const REAL *stage;
    REAL *output;
} RBF_NAME(mirror);

/* Pieces of the image, LANES rows each. */
RBF_INLINE void RBF_NAME(write_mirror)(const RBF_NAME(forward_job) * job, RBF_NAME(mirror) mirror,
                                       int first, int last) {
    const int64_t n = job->points.x.rows;
    int64_t j;
    for (j = first * LANES; j < last * LANES; j += LANES)
        RBF_NAME(write_transposed)(mirror.stage + j, RBF_NAME(SQUARE), mirror.output + j * n, n,
                                   RBF_NAME(SQUARE_PIECES), job->streaming);
}

/* The square at (row, column), on or above the diagonal, through a stage. Between its tiles the
 * pieces of `pending`, the square before in the other one of two stages, are written, since stores
 * that come all at once wait for memory; returns what is pending then. */
RBF_FUNCTION __attribute__((noinline)) RBF_NAME(mirror)
    RBF_NAME(forward_square)(const RBF_NAME(forward_job) * job, const RBF_NAME(strip) * strip,
                             int64_t row, int64_t column, REAL *stages, RBF_NAME(mirror) pending) {
    const int64_t n = job->points.x.rows, side = RBF_NAME(SQUARE);
    REAL *stage = stages + (pending.stage == stages ? side * side : 0);
    REAL *output = job->output + row * n + column;
    RBF_NAME(mirror) own = {stage, row == column ? NULL : job->output + column * n + row};
    int number;
    for (number = 0; number < RBF_NAME(SQUARE_TILES); ++number) {
        const int64_t i = number / RBF_NAME(SQUARE_PANELS) * RBF_TILE_ROWS;
        const int64_t panel = number % RBF_NAME(SQUARE_PANELS);
        const int pieces = RBF_NAME(SQUARE_PIECES), tiles = RBF_NAME(SQUARE_TILES);
        VECTOR tile[RBF_TILE_ROWS][RBF_TILE_VECTORS];
        RBF_NAME(forward_tile)(job, strip, (row + i) / RBF_TILE_ROWS, column / COLUMNS + panel,
                               tile);
        RBF_NAME(store_whole)(stage + i * side + panel * COLUMNS, side, tile, 0);
        RBF_NAME(store_whole)(output + i * n + panel * COLUMNS, n, tile, job->streaming);
        if (pending.output)
            RBF_NAME(write_mirror)(job, pending, number * pieces / tiles,
                                   (number + 1) * pieces / tiles);
    }
    return own;
}

/* A block, as far as it lies in the matrix, by way of a stage: for outputs whose cache lines are
 * not those of tiles. Long rows are streamed, so that only the lines at their ends are not whole.
 */
RBF_FUNCTION void RBF_NAME(forward_staged_block)(const RBF_NAME(forward_job) * job, int64_t row,
                                                 int64_t column, REAL *stage) {
    const int64_t n = job->points.x.rows, side = RBF_NAME(BLOCK);
    const int64_t rows = rbf_minimum(side, n - row), columns = rbf_minimum(side, n - column);
    REAL *turned = stage + side * side;
    int64_t i, j;
    for (i = 0; i < rows; i += RBF_TILE_ROWS) {
        const int64_t row_panel = (row + i) / RBF_TILE_ROWS, first = column / COLUMNS;
        const RBF_NAME(strip) *strip = RBF_NAME(prepare_distances)(
            &job->points, row_panel, rbf_ceiling_division(row + rows, RBF_TILE_ROWS), first,
            rbf_ceiling_division(column + columns, COLUMNS));
        for (j = 0; j < columns; j += COLUMNS) {
            VECTOR tile[RBF_TILE_ROWS][RBF_TILE_VECTORS];
            RBF_NAME(forward_tile)(job, strip, row_panel, first + j / COLUMNS, tile);
            RBF_NAME(store_whole)(stage + i * side + j, side, tile, 0);
        }
    }
    RBF_NAME(write_rows)(stage, side, job->output + row * n + column, n, rows, columns,
                         job->streaming);
    for (j = 0; row != column && j < columns; j += LANES) {
        for (i = 0; i < rows; i += LANES)
            RBF_NAME(write_transposed)(stage + i * side + j, side, turned + i, side, 1, 0);
        RBF_NAME(write_rows)(turned, side, job->output + (column + j) * n + row, n,
                             rbf_minimum(LANES, columns - j), rows, job->streaming);
    }
}

RBF_FUNCTION void RBF_NAME(forward_body)(void *argument) {
    const RBF_NAME(forward_job) *job = (const RBF_NAME(forward_job) *)argument;
    const RBF_NAME(points) *points = &job->points;
    const int64_t n = points->x.rows, m = points->y.rows;
    REAL *stage = job->stage + rbf_thread_number() * job->stage_stride;
    int64_t panel, task;
    RBF_OMP(for schedule(static) nowait)
    for (panel = 0; panel < points->row_panels; ++panel)
        RBF_NAME(pack_x)(points, panel);
    RBF_OMP(for schedule(static))
    for (panel = 0; panel < points->panels; ++panel) {
        RBF_NAME(pack_y)(points, panel);
        job->coefficients[panel].special = 1;
        if (job->of == RBF_OF_KERNEL)
            RBF_NAME(pack_coefficients)(job->coefficients + panel, job->gamma, job->amplitude,
                                        panel * COLUMNS, m);
    }
    if (!job->symmetric) {
        while ((task = rbf_next_task(job->shares)) >= 0) {
            const int64_t row = task % job->row_blocks * job->row_panels_per_block;
            const int64_t first = task / job->row_blocks * job->panels_per_block;
            RBF_NAME(forward_block)(
                job, row, rbf_minimum(points->row_panels, row + job->row_panels_per_block), first,
                rbf_minimum(points->panels, first + job->panels_per_block), stage);
        }
    } else {
        const int64_t side = RBF_NAME(SQUARE), size = RBF_NAME(BLOCK);
        const int64_t blocks = rbf_ceiling_division(n, size);
        RBF_NAME(mirror) pending = {NULL, NULL};
        RBF_OMP(for schedule(dynamic, 1) nowait)
        for (task = 0; task < blocks * blocks; ++task) {
            const int64_t first_row = task / blocks * size, first_column = task % blocks * size;
            int64_t row, column;
            if (first_column < first_row)
                continue;
            if (!job->direct || first_column + size > n) {
                RBF_NAME(forward_staged_block)(job, first_row, first_column,
                                               stage + RBF_NAME(SQUARE_STAGES));
                continue;
            }
            for (row = first_row; row < first_row + size; row += side) {
                const int64_t first = rbf_maximum(row, first_column), last = first_column + size;
                const RBF_NAME(strip) *strip = RBF_NAME(prepare_distances)(
                    points, row / RBF_TILE_ROWS, (row + side) / RBF_TILE_ROWS, first / COLUMNS,
                    last / COLUMNS);
                for (column = first; column < last; column += side)
                    pending = RBF_NAME(forward_square)(job, strip, row, column, stage, pending);
            }
        }
        if (pending.output)
            RBF_NAME(write_mirror)(job, pending, 0, RBF_NAME(SQUARE_PIECES));
    }
    if (job->streaming)
        rbf_stream_end();
}

/* From how many columns k on half of a K of so many bytes and its image take less time than the
 * whole does; each further term of a mixture counts as eight. By target where it was measured
 * (AMD's processors, and others): with images that are streamed, from registers or, where rows are
 * not aligned, by way of a stage; in the caches, where rows far apart take their time too; near by.
 */
RBF_INLINE int RBF_NAME(symmetric_depth)(double bytes, int direct) {
    if (bytes >= RBF_SYMMETRIC_STREAM_BYTES)
        return direct ? (RBF_ZEN4 ? 4 : 1) : RBF_PICKED_LINES ? 16 : 4;
    return bytes >= 1e6 && RBF_VECTOR_BYTES == 64 && !RBF_DOUBLE && !RBF_ZEN4 ? 16 : 4;
}

/* The driver of the two kernels below. */
RBF_FUNCTION int RBF_NAME(run_forward)(int of, rbf_matrix x, rbf_matrix y, rbf_vector gamma,
                                       rbf_vector amplitude, int64_t terms, void *output,
                                       int symmetric) {
    RBF_AS_IEEE;
    RBF_NAME(forward_job) job;
    rbf_workspace space = {NULL, 0, 0};
    rbf_storage storage;
    const int64_t depth = x.columns;
    const double per_entry = 2.0 * (double)depth + 16.0 * (double)terms;
    const double bytes = (double)x.rows * (double)y.rows * sizeof(REAL);
    const int threads = rbf_thread_count((double)x.rows * (double)y.rows * per_entry / LANES);
    const int64_t mixture_terms = of == RBF_OF_MIXTURE ? terms : 0;
    int64_t stage = 0;
    int pass;
    if (x.rows == 0 || y.rows == 0)
        return RBF_OK;
    RBF_NAME(set_points)(&job.points, x, y);
    job.of = of;
    job.gamma = gamma;
    job.amplitude = amplitude;
    job.terms = terms;
    job.output = (REAL *)output;
    /* A tile is whole cache lines, and they are aligned. */
    job.direct = COLUMNS * sizeof(REAL) % RBF_ALIGNMENT == 0 &&
                 (uintptr_t)output % RBF_ALIGNMENT == 0 &&
                 (uint64_t)y.rows * sizeof(REAL) % RBF_ALIGNMENT == 0;
    job.symmetric = symmetric && per_entry >= 2 * RBF_NAME(symmetric_depth)(bytes, job.direct) + 16;
    job.streaming = bytes >= (job.symmetric ? RBF_SYMMETRIC_STREAM_BYTES
                              : job.direct  ? RBF_STREAM_BYTES
                                            : RBF_STAGED_STREAM_BYTES);
    job.picked = RBF_PICKED_LINES && job.streaming && !job.direct && !job.symmetric;
    job.direct |= !job.streaming;
    job.panels_per_block = rbf_maximum(
        1, RBF_PANEL_CACHE_BYTES / (int64_t)(COLUMNS * sizeof(REAL)) / rbf_maximum(depth, 4));
    /* Enough tasks to share out evenly, each long enough to be worth handing out. */
    job.row_panels_per_block = rbf_maximum(1, rbf_minimum(16, x.rows / 512));
    if (RBF_BY_UNIT(&job.points)) {
        job.panels_per_block = rbf_minimum(2 * job.panels_per_block, RBF_NAME(STRIP_PANELS));
        job.row_panels_per_block =
            rbf_ceiling_division(job.row_panels_per_block, RBF_NAME(GROUP)) * RBF_NAME(GROUP);
    }
    job.row_blocks = rbf_ceiling_division(job.points.row_panels, job.row_panels_per_block);
    if (job.symmetric)
        stage = RBF_NAME(SQUARE_STAGES) + RBF_NAME(BLOCK) * (RBF_NAME(BLOCK) + LANES);
    else if (!job.direct)
        stage = RBF_TILE_ROWS * RBF_NAME(STAGE_PANELS) * COLUMNS;
    job.stage_stride = rbf_apart(stage, sizeof(REAL), threads);
    for (pass = 0; pass < 2; ++pass) {
        RBF_NAME(take_points)(&job.points, &space, threads);
        job.coefficients = (RBF_NAME(coefficients) *)rbf_take(&space, job.points.panels,
                                                              sizeof(RBF_NAME(coefficients)));
        job.mixture = (RBF_NAME(coefficients) *)rbf_take(&space, mixture_terms,
                                                         sizeof(RBF_NAME(coefficients)));
        job.shares.threads = threads;
        job.shares.of_thread = (rbf_share *)rbf_take(&space, threads, sizeof(rbf_share));
        job.stage = (REAL *)rbf_take(&space, job.stage_stride, (size_t)threads * sizeof(REAL));
        if (pass == 0 && rbf_acquire(&space, &storage) != RBF_OK)
            return RBF_NO_MEMORY;
    }
    RBF_NAME(pack_terms)(job.mixture, mixture_terms, gamma, amplitude);
    RBF_NAME(begin_points)(&job.points, threads);
    rbf_share_out(job.shares,
                  job.row_blocks * rbf_ceiling_division(job.points.panels, job.panels_per_block));
    rbf_run(RBF_NAME(forward_body), &job, threads);
    rbf_release(&storage);
    return RBF_OK;
}

/* output (n, m) in C order. With `symmetric`, y is x, and gamma and amplitude are scalars. No gamma
 * (data NULL): the squared distances. Returns RBF_OK or RBF_NO_MEMORY. */
RBF_FUNCTION int RBF_NAME(rbf_forward)(rbf_matrix x, rbf_matrix y, rbf_vector gamma,
                                       rbf_vector amplitude, void *output, int symmetric) {
    return RBF_NAME(run_forward)(gamma.data ? RBF_OF_KERNEL : RBF_OF_DISTANCES, x, y, gamma,
                                 amplitude, 1, output, symmetric);
}

/* The same of a mixture: gamma and amplitude have one entry a term. */
RBF_FUNCTION int RBF_NAME(rbf_mixture)(rbf_matrix x, rbf_matrix y, rbf_vector gamma,
                                       rbf_vector amplitude, int64_t terms, void *output,
                                       int symmetric) {
    return RBF_NAME(run_forward)(RBF_OF_MIXTURE, x, y, gamma, amplitude, terms, output, symmetric);
}
