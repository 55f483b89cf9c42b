/* Matrices and vectors of every layout, long double sums to compare with, and how far results are
 * from them. Included by checks.h, once a precision.
 */

typedef struct {
    CHECK_REAL *memory; /* owns; freed by the caller */
    rbf_matrix matrix;
} CHECK(array);

/* A rows x columns matrix of one of the layouts a NumPy array can have. */
static CHECK(array) CHECK(make_matrix)(int64_t rows, int64_t columns, int layout, double scale) {
    CHECK(array) a;
    const int64_t size = (int64_t)sizeof(CHECK_REAL);
    const int64_t capacity = (2 * rows + 2) * (2 * columns + 2);
    int64_t i;
    CHECK_REAL *start;
    a.memory = (CHECK_REAL *)checked_malloc((size_t)(capacity * size));
    for (i = 0; i < capacity; ++i)
        a.memory[i] = (CHECK_REAL)(scale * random_normal());
    a.matrix.rows = rows;
    a.matrix.columns = columns;
    a.matrix.row_stride = columns * size;
    a.matrix.column_stride = size;
    start = a.memory;
    if (layout == FORTRAN) {
        a.matrix.row_stride = size;
        a.matrix.column_stride = rows * size;
    } else if (layout == SLICED) {
        a.matrix.row_stride = 2 * (2 * columns + 1) * size;
        a.matrix.column_stride = 2 * size;
    } else if (layout == REVERSED && rows > 0 && columns > 0) {
        start = a.memory + rows * columns - 1;
        a.matrix.row_stride = -columns * size;
        a.matrix.column_stride = -size;
    } else if (layout == BROADCAST) {
        a.matrix.row_stride = 0;
    }
    a.matrix.data = (const char *)start;
    return a;
}

static CHECK_REAL *CHECK(entry)(rbf_matrix a, int64_t i, int64_t j) {
    return (CHECK_REAL *)(uintptr_t)(a.data + i * a.row_stride + j * a.column_stride);
}

static long double CHECK(at)(rbf_matrix a, int64_t i, int64_t j) { return *CHECK(entry)(a, i, j); }

static long double CHECK(value)(rbf_vector v, int64_t j) {
    return *(const CHECK_REAL *)(v.data + j * v.stride);
}

static long double CHECK(distance)(rbf_matrix x, rbf_matrix y, int64_t i, int64_t j) {
    long double sum = 0;
    int64_t k;
    for (k = 0; k < x.columns; ++k) {
        const long double difference = CHECK(at)(x, i, k) - CHECK(at)(y, j, k);
        sum += difference * difference;
    }
    return sum;
}

static rbf_vector CHECK(make_vector)(const CHECK_REAL *values, int scalar) {
    rbf_vector v;
    v.data = (const char *)values;
    v.scalar = scalar;
    v.stride = scalar ? 0 : (int64_t)sizeof(CHECK_REAL);
    return v;
}

/* Largest |got - want| relative to the sum of the sizes of the terms that were added: of rows of
 * `width` entries, as vectors. */
static double CHECK(compare)(const CHECK_REAL *got, const long double *want,
                             const long double *terms, int64_t count, int64_t width) {
    long double worst = 0;
    int64_t i, k;
    for (i = 0; i < count; i += width) {
        long double squares = 0, size = 0, error;
        for (k = i; k < i + width; ++k) {
            squares += (got[k] - want[k]) * (got[k] - want[k]);
            size += terms[k] * terms[k];
        }
        error = sqrtl(squares) / (size > 0 ? sqrtl(size) : 1);
        if (!(error <= worst)) /* a NaN must not pass */
            worst = error;
    }
    return (double)worst;
}

/* What a kernel gives, twice, and what that is compared with: sums, and sums of the sizes of what
 * is summed. One entry more than are wanted: malloc(0) may be NULL, and its NaN must survive. */
typedef struct {
    int64_t size;
    CHECK_REAL *got, *again;
    long double *want, *terms;
} CHECK(part);

static CHECK(part) CHECK(make_part)(int64_t size) {
    const size_t entries = (size_t)(size + 1);
    CHECK(part) part;
    int64_t i;
    part.size = size;
    part.got = (CHECK_REAL *)checked_malloc(entries * sizeof(CHECK_REAL));
    part.again = (CHECK_REAL *)checked_malloc(entries * sizeof(CHECK_REAL));
    part.want = (long double *)checked_malloc(entries * sizeof(long double));
    part.terms = (long double *)checked_malloc(entries * sizeof(long double));
    for (i = 0; i <= size; ++i) {
        part.got[i] = part.again[i] = (CHECK_REAL)NAN;
        part.want[i] = part.terms[i] = 0;
    }
    return part;
}

/* compare, of a part; and whether it came out the same twice. */
static double CHECK(error)(CHECK(part) part, int64_t width) {
    return CHECK(compare)(part.got, part.want, part.terms, part.size, width);
}

static int CHECK(repeats)(CHECK(part) part) {
    return memcmp(part.again, part.got, (size_t)part.size * sizeof(CHECK_REAL)) == 0;
}

static void CHECK(free_part)(CHECK(part) part) {
    free(part.got);
    free(part.again);
    free(part.want);
    free(part.terms);
}
