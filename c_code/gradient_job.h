/* What a gradient is computed from and into: sizes of its blocks, the job, a thread's own memory.
 *
 * Types and constants of the other gradient_*.h and of gradient.h, which says how they
 * work together. Included once a precision by instantiate.h.
 */
enum {
    RBF_NAME(GRADIENT_COLUMN_BYTES) = 4096,         /* a row of the weights of a column block */
    RBF_NAME(GRADIENT_BLOCK_BYTES) = 1 << 22,       /* the panels of a column block */
    RBF_NAME(GRADIENT_GROUPS) = 32,                 /* row groups at most */
    RBF_NAME(GRADIENT_FEW_ROWS) = 32,               /* of a group at least */
    RBF_NAME(GRADIENT_ENOUGH_ROWS) = 512,           /* at most, if groups are not too many */
    RBF_NAME(GRADIENT_TASKS) = 32,                  /* tasks aimed at in a wave */
    RBF_NAME(GRADIENT_CHUNK) = 512 / RBF_TILE_ROWS, /* row panels added up before they join */
    /* Where G is read in transposed squares: rows at once, at least. Symmetric: rows of G below the
     * diagonal that a tile prefetches; the tiles of row panels that go together share those beside
     * a panel, as many as it has columns. */
    RBF_NAME(SQUARE_ROWS) = 256 / (int)sizeof(REAL),
    RBF_NAME(SYMMETRIC_SHARE) = ((int)COLUMNS * RBF_TILE_ROWS - 1) / RBF_NAME(SQUARE_ROWS) + 1,
    /* Of product_sums: row panels at once, bytes of a row of their weights, which are half of the
     * second-level cache or less; of so many entries one may be close. */
    RBF_NAME(EXPANDED_ROW_PANELS) = RBF_VECTOR_BYTES == 64 ? 128 / (int)sizeof(REAL) : 32,
    RBF_NAME(EXPANDED_BYTES) = RBF_VECTOR_BYTES == 64 ? 512 * (int)sizeof(REAL) : 2048,
    RBF_NAME(CLOSE_SHARE) = 128,
/* Where x and y have many columns k, GRADIENT_DEEP and more: row panels at once, bytes of a row
 * of their weights, columns k taken at a time. Either way at most 32 KB of weights stay in the
 * first-level cache while columns k pass by. High row panels: of one and a long block, many
 * columns k at a time. Low ones: of several and a short block, two columns k at a time, since
 * the next two come from further away. */
#if RBF_TILE_ROWS == 8
    RBF_NAME(GRADIENT_DEEP) = 64,
    RBF_NAME(GRADIENT_ROW_PANELS) = 64 / (int)sizeof(REAL),
    RBF_NAME(GRADIENT_DEEP_BYTES) = 512 * (int)sizeof(REAL),
    RBF_NAME(GRADIENT_DEPTH) = 64
#else
    RBF_NAME(GRADIENT_DEEP) = 32,
    RBF_NAME(GRADIENT_ROW_PANELS) = 8,
    RBF_NAME(GRADIENT_DEEP_BYTES) = 1024,
    RBF_NAME(GRADIENT_DEPTH) = 2
#endif
};

/* Sums over the rows of a task, tasks [blocks_per_wave][groups] apart by `stride`: for each of
 * `parts` parts of a panel, all panels of the block beside each other, [part][panel][size]. No
 * data: not wanted. */
typedef struct {
    REAL *data;
    int64_t parts, size, stride;
} RBF_NAME(partial_sums);

/* The pieces of a thread's own memory. */
typedef struct {
    REAL *weights; /* [row_panels_at_once][panels_per_block][RBF_TILE_ROWS][COLUMNS], row_weights
                      apart */
    REAL *g_rows;  /* [row_panels_at_once][factors][RBF_TILE_ROWS], of H, and behind them of W;
                      [WHOLE_ROWS][COLUMNS], of G in squares */
    /* Of product_sums: */
    REAL *dx_tiles;    /* [row_panels_at_once][RBF_TILE_ROWS][COLUMNS] */
    REAL *row_sums;    /* [row_panels_at_once][WHOLE_ROWS] */
    REAL *column_sums; /* [panels_per_block][COLUMNS] */
    /* By the matrix unit: see matrix_gradient.h. */
    REAL *row_scales;    /* [row_panels_at_once][RBF_TILE_ROWS] */
    REAL *column_scales; /* [panels_per_block][COLUMNS] */
    char *split_weights;
    /* Where product_sums has to leave its work to difference_range: what that reads, as the job has
     * it, but of the row panels and the block at hand; room for a panel. */
    REAL *packed_x, *paired_y, *panel;
} RBF_NAME(gradient_scratch);

/* What one task adds to, for its column block; NULL: not wanted. */
typedef struct {
    REAL *dx; /* as dx_sums, of one block */
    REAL *dy, *dweights, *column_sums;
    /* Whether dx, of the rows at hand, and dy hold nothing yet: they are written, not added to. */
    int fresh_dx, fresh_dy;
} RBF_NAME(gradient_sums);

typedef struct RBF_NAME(gradient_job) RBF_NAME(gradient_job);

/* Weights of the row panels and the panels [first, last) into a thread's memory, and what is summed
 * beside them: see gradient_weights.h. */
typedef void (*RBF_NAME(weigh))(const RBF_NAME(gradient_job) * job, int64_t first_row_panel,
                                int64_t last_row_panel, int64_t first_panel, int64_t last_panel,
                                RBF_NAME(gradient_scratch) scratch, RBF_NAME(gradient_sums) sums);

struct RBF_NAME(gradient_job) {
    RBF_NAME(weigh) weigh;
    RBF_NAME(points) points;
    rbf_matrix g;
    rbf_matrix weights; /* of a product, (m, p); g then is (n, p), else (n, m) */
    int64_t factors;    /* p, or where y is x 2 p: those of G + G^T; of a softmax p + 1; else 0 */
    rbf_vector gamma, amplitude;
    int mixture;                /* they have an entry a term */
    int64_t terms;              /* of the mixture; otherwise 1 */
    rbf_vector log_sums, rests; /* of a log-sum-exp or softmax: L and what it leaves out, (n,) */
    rbf_vector offset;          /* (m,) */
    rbf_matrix product;         /* of a softmax: P, (n, p) */
    /* What is wanted, in C order, else NULL: (n, d), (m, d), (m, p); one entry a column, or their
     * sum where gamma or amplitude is a scalar. */
    REAL *dx, *dy, *dweights, *total_dgamma, *total_damplitude;
    REAL *dgamma, *damplitude; /* [terms][m]: what those two are made from */
    int symmetric;
    int by_squares;  /* G is read in transposed squares: where y is x, or its columns are whole */
    int by_products; /* product_sums instead of difference_range, where it can be */
    int64_t panels_per_block, blocks, blocks_per_wave;
    int64_t row_panels_per_group, groups, row_panels_at_once;
    int64_t row_weights; /* from those of a row panel to the next */
    int64_t split_weights_bytes;
    /* What difference_range reads; if by_products each thread packs it where it is needed. */
    REAL *packed_x; /* [row_panels][depth][RBF_TILE_ROWS]: as points has it, but not expanded */
    REAL *paired_y; /* [blocks][pairs of columns k][panels_per_block][2][COLUMNS] */
    REAL *product_x, *product_y; /* see gradient_products.h; if by_products */
    char *x_terms, *y_terms;     /* see matrix_gradient.h */
    int *tiny;                   /* whether x or y are not for the matrix unit, if there is one */
    RBF_NAME(close_entry) * close_entries; /* [threads][close_most] */
    int64_t close_most;
    RBF_NAME(coefficients) *
        coefficients;   /* [panels], and those of gamma 1; or of a mixture [terms] */
    REAL *thread_space; /* [threads][thread_stride]: see gradient_scratch */
    int64_t thread_stride;
    REAL *packed_weights; /* [panels][factors][COLUMNS]: of W, and behind them of H */
    REAL *offsets;        /* [panels][COLUMNS] */
    REAL *means; /* of a softmax: sum_q H[i, q] (P[i, q] - c[q]), [row_panels][RBF_TILE_ROWS] */
    REAL *centre_of_weights; /* c, (p,) */
    /* [blocks_per_wave][row_panels][depth][RBF_TILE_ROWS]; by_products: [blocks_per_wave]
     * [depth / COLUMNS][row_panels][RBF_TILE_ROWS][COLUMNS] */
    REAL *dx_sums;
    int64_t dx_block_stride;                 /* from those of a block to the next */
    RBF_NAME(partial_sums) dy_partial;       /* parts: pairs of columns k, [2][COLUMNS] */
    RBF_NAME(partial_sums) dweights_partial; /* one part, [p][COLUMNS] */
    RBF_NAME(partial_sums) column_partial;   /* one part, [terms][2][COLUMNS] */
    REAL *chunk_sums;     /* [threads][chunk_stride]: all three, of a chunk of the rows of a task */
    int64_t chunk_stride; /* 0: tasks are no longer than a chunk */
};

/* How many row panels have entries in the panels before this one: symmetric, those that the last
 * column there lies behind. */
RBF_INLINE int64_t RBF_NAME(rows_before)(const RBF_NAME(gradient_job) * job, int64_t panel) {
    const int64_t row_panels = job->points.row_panels;
    if (!job->symmetric)
        return row_panels;
    return rbf_minimum(row_panels, rbf_ceiling_division(panel * COLUMNS - 1, RBF_TILE_ROWS));
}

/* How many have entries in a block. */
RBF_INLINE int64_t RBF_NAME(rows_of_block)(const RBF_NAME(gradient_job) * job, int64_t block) {
    return RBF_NAME(rows_before)(
        job, rbf_minimum(job->points.panels, (block + 1) * job->panels_per_block));
}

/* Where column k of dx is, of the first row of a row panel. */
RBF_INLINE int64_t RBF_NAME(place_of_dx)(const RBF_NAME(gradient_job) * job, int64_t row_panel,
                                         int64_t k) {
    if (!job->by_products)
        return (row_panel * job->points.x.columns + k) * RBF_TILE_ROWS;
    return (k / COLUMNS * job->points.row_panels + row_panel) * RBF_TILE_ROWS * COLUMNS +
           k % COLUMNS;
}

/* Where column k of dy is, of a column of a block. */
RBF_INLINE int64_t RBF_NAME(place_of_dy)(const RBF_NAME(gradient_job) * job, int64_t k,
                                         int64_t column) {
    return ((k / 2 * job->panels_per_block + column / COLUMNS) * 2 + k % 2) * COLUMNS +
           column % COLUMNS;
}
