/* The rows of x and y as a kernel reads them: by differences, or as the expansion of distances.h
 * takes them, if a sample says that it pays. Included once a precision by instantiate.h.
 */
enum {
    RBF_NAME(EXPANSION_SAMPLE) = 64, /* rows of x and of y */
    RBF_NAME(EXPANSION_PAIRS) = 4,   /* of each of those rows */
    RBF_NAME(NORM_PARTS) = 2,        /* of a squared norm: what lies on the grid, the rest */
    RBF_NAME(STRIP_TILES) = 64,      /* of the matrix unit's distances that are kept at a time */
    RBF_NAME(STRIP_PANELS) = 16,     /* and panels, at most */
    RBF_NAME(GROUP) = RBF_UNIT_SIDE / RBF_TILE_ROWS /* row panels that it takes at once */
};

#undef RBF_EXPANDED_Y
#define RBF_EXPANDED_Y (-2) /* the factor of the inner products */

/* Entries of K that the expansion is not for, with a place for what they are multiplied by. */
typedef struct {
    int64_t row, column;
    REAL weight;
} RBF_NAME(close_entry);

typedef struct {
    RBF_NAME(close_entry) * entries; /* [most] */
    int64_t most, count;             /* more than `most`: the rest is left out */
} RBF_NAME(close_entries);

/* Squared distances of some row panels and panels that the matrix unit has made, a thread's own, on
 * lines of its own. */
typedef struct {
    REAL *tiles; /* [panels][row_panels][RBF_TILE_ROWS][COLUMNS] */
    int64_t first_row_panel, row_panels, first_panel, panels;
    char apart[2 * RBF_ALIGNMENT - 4 * sizeof(int64_t) - sizeof(REAL *)];
} RBF_NAME(strip);

/* Sums of products of digits of 16 rows and a panel. */
typedef int32_t RBF_NAME(digit_sums)[RBF_DIGIT_SUMS][RBF_UNIT_ROWS][RBF_NAME(COLUMNS)];

/* The rows of x and y as the register tile reads them, by differences or by the expansion. */
typedef struct {
    rbf_matrix x, y;
    int64_t row_panels, panels;
    REAL *packed_x; /* [row_panels][depth][RBF_TILE_ROWS]; expanded: x - centre */
    REAL *packed_y; /* [panels][depth][COLUMNS]; expanded: (y - centre) RBF_EXPANDED_Y */
    int expanded;
    REAL largest;  /* squared norm of rows that the expansion is for: a power of two */
    REAL *centre;  /* [depth], and zeros to a whole vector */
    REAL *x_norms; /* [row_panels][NORM_PARTS][RBF_TILE_ROWS] */
    REAL *y_norms; /* [panels][NORM_PARTS][COLUMNS] */
    RBF_NAME(close_entries) * close; /* where what it is not for is listed, or NULL */
    int by_unit;                     /* its products are the matrix unit's: matrix_distances.h */
    int keep_packed; /* packed_x and packed_y, if it is so, else they are not there */
    char *x_digits, *y_digits;
    REAL *x_scales;           /* [row_panels][RBF_TILE_ROWS] */
    REAL *y_scales;           /* [panels][COLUMNS] */
    RBF_NAME(strip) * strips; /* [threads] */
    int64_t strip_stride;
    REAL *strip_tiles; /* [threads][strip_stride] */
} RBF_NAME(points);

/* What is packed of a row panel and of a panel, by their numbers. */
RBF_INLINE REAL *RBF_NAME(packed_row_panel)(const RBF_NAME(points) * points, int64_t row_panel) {
    return points->packed_x + row_panel * points->x.columns * RBF_TILE_ROWS;
}

RBF_INLINE REAL *RBF_NAME(packed_panel)(const RBF_NAME(points) * points, int64_t panel) {
    return points->packed_y + panel * points->y.columns * COLUMNS;
}

/* Whether nobody but the unit reads the rows, so that they are not packed. */
RBF_INLINE int RBF_NAME(unpacked)(const RBF_NAME(points) * points) {
    return RBF_BY_UNIT(points) && !points->keep_packed;
}

/* Entries [k, k + LANES) of a row, zero past the last. */
RBF_INLINE VECTOR RBF_NAME(load_entries)(const rbf_matrix *from, int64_t row, int64_t k) {
    const char *source = from->data + row * from->row_stride + k * from->column_stride;
    if (from->column_stride != (int64_t)sizeof(REAL) || k + LANES > from->columns) {
        REAL entries[RBF_NAME(LANES)] __attribute__((aligned(RBF_ALIGNMENT))) = {0};
        int64_t i;
        for (i = 0; i < rbf_minimum(LANES, from->columns - k); ++i)
            entries[i] = *(const REAL *)(source + i * from->column_stride);
        return RBF_NAME(load)(entries);
    }
    return RBF_NAME(load_unaligned)((const REAL *)source);
}

/* Row s of the sample of so many rows: one of each part, not always at the same place of it, since
 * data may be periodic (37 is odd: all places occur). */
RBF_INLINE int64_t RBF_NAME(sample_row)(int64_t rows, int s) {
    enum { SAMPLE = RBF_NAME(EXPANSION_SAMPLE) };
    return s * rows / SAMPLE + (s * 37 + 11) % SAMPLE * (rows / SAMPLE) / SAMPLE;
}

/* Entries [k, k + LANES) of the centre: the mean of a sample of rows of y. */
RBF_INLINE VECTOR RBF_NAME(centre_entries)(const RBF_NAME(points) * points, int64_t k) {
    enum { SAMPLE = RBF_NAME(EXPANSION_SAMPLE) };
    const rbf_matrix *y = &points->y;
    VECTOR sum = {0};
    int s;
    for (s = 0; s < SAMPLE; ++s)
        sum += RBF_NAME(load_entries)(y, RBF_NAME(sample_row)(y->rows, s), k) / (REAL)SAMPLE;
    return sum;
}

/* |x[i] - y[j]|^2 by differences, of any two rows. */
RBF_FUNCTION __attribute__((noinline)) REAL RBF_NAME(pair_distance)(const rbf_matrix *x, int64_t i,
                                                                    const rbf_matrix *y,
                                                                    int64_t j) {
    enum { CHAINS = 4 };
    REAL lanes[RBF_NAME(LANES)] __attribute__((aligned(RBF_ALIGNMENT)));
    VECTOR total = {0};
    int64_t first, k;
    int c;
    for (first = 0; first < x->columns; first += CHAINS * RBF_SUM_CHUNK * LANES) {
        const int64_t end =
            rbf_minimum(x->columns, first + CHAINS * RBF_SUM_CHUNK * (int64_t)LANES);
        VECTOR sum[CHAINS] = {{0}};
        for (k = first; k < end; k += CHAINS * LANES) {
            RBF_UNROLL
            for (c = 0; c < CHAINS; ++c) {
                if (k + c * LANES < end) {
                    const VECTOR difference = RBF_NAME(load_entries)(x, i, k + c * LANES) -
                                              RBF_NAME(load_entries)(y, j, k + c * LANES);
                    sum[c] += difference * difference;
                }
            }
        }
        total += (sum[0] + sum[1]) + (sum[2] + sum[3]);
    }
    RBF_NAME(store)(lanes, total);
    return RBF_NAME(lane_sum)(lanes);
}

/* The row of the sample of y that makes pair number `pair` with row s of that of x: in any order,
 * and not the same, which is the same point where y is x. */
RBF_INLINE int RBF_NAME(partner)(int s, int pair) {
    const int t = (s * 37 + 11 + pair * 17) % RBF_NAME(EXPANSION_SAMPLE);
    return t ^ (t == s);
}

/* Whether the expansion pays, from a sample: of its pairs few may be close. Also what norms it is
 * for. */
RBF_FUNCTION __attribute__((noinline)) void RBF_NAME(decide_expansion)(RBF_NAME(points) * points) {
    enum { SAMPLE = RBF_NAME(EXPANSION_SAMPLE), PAIRS = RBF_NAME(EXPANSION_PAIRS) };
    const rbf_matrix *x = &points->x, *y = &points->y;
    VECTOR x_norms[SAMPLE] = {{0}}, y_norms[SAMPLE] = {{0}}, distances[SAMPLE][PAIRS] = {{{0}}};
    REAL largest = 0;
    int64_t close = 0, k;
    int s, pair, exponent;
    for (k = 0; k < x->columns; k += LANES) {
        VECTOR x_rows[SAMPLE], y_rows[SAMPLE];
        const VECTOR centre = RBF_NAME(centre_entries)(points, k);
        for (s = 0; s < SAMPLE; ++s) {
            x_rows[s] = RBF_NAME(load_entries)(x, RBF_NAME(sample_row)(x->rows, s), k);
            y_rows[s] = RBF_NAME(load_entries)(y, RBF_NAME(sample_row)(y->rows, s), k);
            x_norms[s] += (x_rows[s] - centre) * (x_rows[s] - centre);
            y_norms[s] += (y_rows[s] - centre) * (y_rows[s] - centre);
        }
        for (s = 0; s < SAMPLE; ++s)
            for (pair = 0; pair < PAIRS; ++pair) {
                const VECTOR difference = x_rows[s] - y_rows[RBF_NAME(partner)(s, pair)];
                distances[s][pair] += difference * difference;
            }
    }
    for (s = 0; s < SAMPLE; ++s)
        for (pair = 0; pair < PAIRS; ++pair) {
            const VECTOR both = x_norms[s] + y_norms[RBF_NAME(partner)(s, pair)];
            const REAL norms = RBF_NAME(lane_sum)((const REAL *)&both);
            largest = norms > largest ? norms : largest;
            close += !(RBF_NAME(lane_sum)((const REAL *)&distances[s][pair]) >= norms / 2);
        }
    /* An entry by differences takes some 100 times what the expansion saves in one of 64 terms. */
    points->expanded = close <= rbf_minimum(x->columns, 256) / 32 && largest > RBF_NORM_SMALLEST &&
                       largest < RBF_NORM_LARGEST;
    frexp(largest, &exponent);
    points->largest = (REAL)ldexp(1, exponent + 1); /* two to four times as large */
}

/* a + b, and what of it the sum leaves out (Knuth, The Art of Computer Programming, 2, 4.2.2). */
#define RBF_EXACT_SUM(type, sum, rest, a, b)                                                       \
    do {                                                                                           \
        const type exact_a = (a), exact_b = (b), exact_sum = exact_a + exact_b;                    \
        const type exact_part = exact_sum - exact_a;                                               \
        (rest) = (exact_a - (exact_sum - exact_part)) + (exact_b - exact_part);                    \
        (sum) = exact_sum;                                                                         \
    } while (0)

/* A squared norm, and what its sum leaves out, as the parts that are kept: less than 0 on the grid
 * if it is too large, or not finite, so that all entries of the row are mended. */
RBF_INLINE void RBF_NAME(cut_norm)(const RBF_NAME(points) * points, REAL norm, REAL lost,
                                   REAL *on_grid, REAL *left) {
    /* Adding and subtracting this rounds to the grid; half a step before, rounds up. A little more
     * than half a step, so that a norm that is next to nothing is rounded up as well. */
    const REAL grid = 3 * points->largest;
    const REAL half = points->largest / ((INTEGER)1 << RBF_MANTISSA_BITS);
    const REAL up = half + half / (1 << 20);
    if (norm <= points->largest) {
        *on_grid = ((norm + up) + grid) - grid;
        *left = (norm - *on_grid) + lost;
    } else {
        *on_grid = -8 * points->largest;
        *left = 0;
    }
}

/* Entries [k, k + LANES) of a row less those of the centre, as its packed form has them: zero
 * past the last, and of rows that the expansion is not for, whose norm on the grid is less than
 * 0. */
RBF_INLINE VECTOR RBF_NAME(centred_entries)(const RBF_NAME(points) * points, const rbf_matrix *from,
                                            int64_t row, int64_t k, REAL norm) {
    if (norm < 0 || k >= from->columns)
        return (VECTOR){0};
    return RBF_NAME(load_entries)(from, rbf_minimum(row, from->rows - 1), k) -
           RBF_NAME(load)(points->centre + k);
}
