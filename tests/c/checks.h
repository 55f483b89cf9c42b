/* The checks of one precision against long double loops. Included twice by harness.c with
 * CHECK_REAL, CHECK(name), CHECK_FORWARD, CHECK_GRADIENT and so on defined. */

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

/* Rows of gradients that are sums of matrix products have an error that is small for the row; sums
 * of differences one that is small for each entry. Gradient `part` of those of d columns: the width
 * that `compare` takes. */
static int64_t CHECK(width)(int part, int64_t d) {
    const int deep = d >= CHECK_GRADIENT_DEEP && d >= RBF_EXPANSION_DEPTH;
    return part < 2 && RBF_EXPANSION && deep ? d : 1;
}

static void CHECK(check_problem)(int64_t n, int64_t m, int64_t d, int layout, int scalar,
                                 int symmetric) {
    CHECK(array) xa = CHECK(make_matrix)(n, d, layout, 1);
    CHECK(array) ya = CHECK(make_matrix)(m, d, (layout + 1) % LAYOUTS, 1);
    CHECK(array) ga = CHECK(make_matrix)(n, m, (layout + 2) % LAYOUTS, 1);
    const rbf_matrix x = xa.matrix, y = symmetric ? xa.matrix : ya.matrix, g = ga.matrix;
    const int64_t count = n * m;
    /* One element more than is needed: malloc(0) may be NULL, and the guard value must survive. */
    CHECK_REAL *gammas = (CHECK_REAL *)checked_malloc((size_t)(m + 1) * sizeof(CHECK_REAL));
    CHECK_REAL *amplitudes = (CHECK_REAL *)checked_malloc((size_t)(m + 1) * sizeof(CHECK_REAL));
    CHECK_REAL *k = (CHECK_REAL *)checked_malloc((size_t)(count + 1) * sizeof(CHECK_REAL));
    CHECK_REAL *again = (CHECK_REAL *)checked_malloc((size_t)(count + 1) * sizeof(CHECK_REAL));
    CHECK(part) parts[4];
    int64_t part, i, j, l;
    rbf_vector gamma, amplitude;
    double worst_k = 0;
    parts[0] = CHECK(make_part)(n * d);
    parts[1] = CHECK(make_part)(m * d);
    parts[2] = CHECK(make_part)(scalar ? 1 : m);
    parts[3] = CHECK(make_part)(scalar ? 1 : m);
    for (j = 0; j <= m; ++j) {
        gammas[j] = (CHECK_REAL)((0.5 + random_uniform()) / (double)(d > 0 ? d : 1));
        amplitudes[j] = (CHECK_REAL)random_normal();
    }
    gamma = CHECK(make_vector)(gammas, scalar);
    amplitude = CHECK(make_vector)(amplitudes, scalar);

    k[count] = again[count] = 42;
    EXPECT(CHECK_FORWARD(x, y, gamma, amplitude, k, symmetric) == RBF_OK);
    EXPECT(k[count] == 42);
    for (i = 0; i < n; ++i) {
        for (j = 0; j < m; ++j) {
            const long double distance = CHECK(distance)(x, y, i, j);
            const long double gd = CHECK(value)(gamma, j) * distance;
            const long double e = expl(-gd), a = CHECK(value)(amplitude, j);
            const long double exact = a * e, w = CHECK(at)(g, i, j);
            /* What is rounded in the exponent counts gd times in exp: 12 + 2 gd roundings. */
            const long double allowed = 1 + gd / 6;
            const double error =
                (double)(fabsl(k[i * m + j] - exact) / (fabsl(exact) * (4 + 2 * gd)));
            if (!(error <= worst_k))
                worst_k = error;
            for (l = 0; l < d; ++l) {
                const long double term = 2 * CHECK(value)(gamma, j) * w * exact *
                                         (CHECK(at)(y, j, l) - CHECK(at)(x, i, l));
                parts[0].want[i * d + l] += term;
                parts[0].terms[i * d + l] += fabsl(term) * allowed;
                parts[symmetric ? 0 : 1].want[j * d + l] -= term;
                parts[symmetric ? 0 : 1].terms[j * d + l] += fabsl(term) * allowed;
            }
            parts[2].want[scalar ? 0 : j] -= w * exact * distance;
            parts[2].terms[scalar ? 0 : j] += fabsl(w * exact * distance) * allowed;
            parts[3].want[scalar ? 0 : j] += w * e;
            parts[3].terms[scalar ? 0 : j] += fabsl(w * e) * allowed;
        }
    }
    EXPECT_BELOW(worst_k, CHECK_EPSILON);
    if (symmetric)
        for (i = 0; i < n; ++i) {
            EXPECT(k[i * m + i] == amplitudes[0]);
            for (j = 0; j < i; ++j)
                EXPECT(k[i * m + j] == k[j * m + i]);
        }

    EXPECT(CHECK_GRADIENT(x, y, gamma, amplitude, g, parts[0].got, symmetric ? NULL : parts[1].got,
                          parts[2].got, parts[3].got, symmetric) == RBF_OK);
    for (part = 0; part < 4; ++part) {
        EXPECT(isnan(parts[part].got[parts[part].size]));
        if (!(symmetric && part == 1))
            EXPECT_BELOW(CHECK(error)(parts[part], CHECK(width)(part, d)), 12 * CHECK_EPSILON);
    }
    /* Each gradient on its own has the same bits as all of them together. */
    for (part = 0; part < 4; ++part) {
        if (symmetric && part == 1)
            continue;
        EXPECT(CHECK_GRADIENT(x, y, gamma, amplitude, g, part == 0 ? parts[0].again : NULL,
                              part == 1 ? parts[1].again : NULL, part == 2 ? parts[2].again : NULL,
                              part == 3 ? parts[3].again : NULL, symmetric) == RBF_OK);
        EXPECT(CHECK(repeats)(parts[part]));
    }
#ifdef _OPENMP
    {
        const int threads = omp_get_max_threads();
        omp_set_num_threads(1);
        EXPECT(CHECK_FORWARD(x, y, gamma, amplitude, again, symmetric) == RBF_OK);
        EXPECT(memcmp(again, k, (size_t)count * sizeof(CHECK_REAL)) == 0);
        EXPECT(CHECK_GRADIENT(x, y, gamma, amplitude, g, parts[0].again,
                              symmetric ? NULL : parts[1].again, parts[2].again, parts[3].again,
                              symmetric) == RBF_OK);
        for (part = 0; part < 4; ++part)
            EXPECT(CHECK(repeats)(parts[part]));
        omp_set_num_threads(threads);
    }
#endif
    for (part = 0; part < 4; ++part)
        CHECK(free_part)(parts[part]);
    free(gammas);
    free(amplitudes);
    free(k);
    free(again);
    free(xa.memory);
    free(ya.memory);
    free(ga.memory);
}

/* A mixture of widths and its gradients, each relative to the sum of the sizes of what is added; of
 * y = x if `symmetric`. The last of five widths and more has coefficients beyond the usual. */
static void CHECK(check_mixture)(int64_t n, int64_t m, int64_t d, int64_t count, int layout,
                                 int symmetric) {
    CHECK(array) xa = CHECK(make_matrix)(n, d, layout, 1);
    CHECK(array) ya = CHECK(make_matrix)(m, d, (layout + 1) % LAYOUTS, 1);
    CHECK(array) ga = CHECK(make_matrix)(n, m, (layout + 2) % LAYOUTS, 1);
    const rbf_matrix x = xa.matrix, y = symmetric ? xa.matrix : ya.matrix, g = ga.matrix;
    CHECK_REAL *widths = (CHECK_REAL *)checked_malloc((size_t)(2 * count + 1) * sizeof *widths);
    CHECK_REAL *factors = widths + count;
    rbf_vector gamma, amplitude;
    CHECK(part) parts[5];
    int64_t part, i, j, l, t;
    parts[0] = CHECK(make_part)(n * d);
    parts[1] = CHECK(make_part)(m * d);
    parts[2] = CHECK(make_part)(count);
    parts[3] = CHECK(make_part)(count);
    parts[4] = CHECK(make_part)(n * m);
    for (t = 0; t < count; ++t) {
        widths[t] = (CHECK_REAL)((0.5 + random_uniform()) / (double)(d > 0 ? d : 1));
        factors[t] = (CHECK_REAL)random_normal();
    }
    if (count >= 5)
        widths[count - 1] = CHECK_TINY;
    gamma = CHECK(make_vector)(widths, 0);
    amplitude = CHECK(make_vector)(factors, 0);
    for (i = 0; i < n; ++i)
        for (j = 0; j < m; ++j)
            for (t = 0; t < count; ++t) {
                const long double distance = CHECK(distance)(x, y, i, j), rate = widths[t];
                const long double e = expl(-rate * distance), w = CHECK(at)(g, i, j);
                const long double entry = e * factors[t];
                parts[4].want[i * m + j] += entry;
                /* As of one kernel, and what is rounded when terms are added. */
                parts[4].terms[i * m + j] += fabsl(entry) * (4 + 2 * rate * distance + count / 2);
                parts[2].want[t] += w * entry * -distance;
                parts[2].terms[t] += fabsl(w * entry * distance);
                parts[3].want[t] += w * e;
                parts[3].terms[t] += fabsl(w * e);
                for (l = 0; l < d; ++l) {
                    const long double term =
                        2 * rate * w * entry * (CHECK(at)(y, j, l) - CHECK(at)(x, i, l));
                    parts[0].want[i * d + l] += term;
                    parts[0].terms[i * d + l] += fabsl(term);
                    parts[symmetric ? 0 : 1].want[j * d + l] -= term;
                    parts[symmetric ? 0 : 1].terms[j * d + l] += fabsl(term);
                }
            }
    EXPECT(CHECK_MIXTURE(x, y, gamma, amplitude, count, parts[4].got, symmetric) == RBF_OK);
    EXPECT(CHECK_MIXTURE_GRADIENT(x, y, gamma, amplitude, count, g, parts[0].got,
                                  symmetric ? NULL : parts[1].got, parts[2].got, parts[3].got,
                                  symmetric) == RBF_OK);
    for (i = 0; symmetric && i < n; ++i)
        for (j = 0; j < i; ++j)
            EXPECT(parts[4].got[i * m + j] == parts[4].got[j * m + i]);
    for (part = 0; part < 5; ++part) {
        EXPECT(isnan(parts[part].got[parts[part].size]));
        if (!(symmetric && part == 1))
            EXPECT_BELOW(CHECK(error)(parts[part], CHECK(width)(part, d)),
                         (part < 4 ? 12 : 1) * CHECK_EPSILON);
    }
#ifdef _OPENMP
    {
        const int threads = omp_get_max_threads();
        omp_set_num_threads(1);
        EXPECT(CHECK_MIXTURE(x, y, gamma, amplitude, count, parts[4].again, symmetric) == RBF_OK);
        EXPECT(CHECK_MIXTURE_GRADIENT(x, y, gamma, amplitude, count, g, parts[0].again,
                                      symmetric ? NULL : parts[1].again, parts[2].again,
                                      parts[3].again, symmetric) == RBF_OK);
        for (part = 0; part < 5; ++part)
            EXPECT(CHECK(repeats)(parts[part]));
        omp_set_num_threads(threads);
    }
#endif
    for (part = 0; part < 5; ++part)
        CHECK(free_part)(parts[part]);
    free(widths);
    free(xa.memory);
    free(ya.memory);
    free(ga.memory);
}

/* P = K W and its gradients, each relative to the sum of the sizes of its terms; of y = x if `same`
 * (n = m then), and then those of sum((H W^T) * K), K symmetric, too. */
static void CHECK(check_product)(int64_t n, int64_t m, int64_t d, int64_t p, int layout, int scalar,
                                 int same) {
    CHECK(array) xa = CHECK(make_matrix)(n, d, layout, 1);
    CHECK(array) ya = CHECK(make_matrix)(m, d, (layout + 1) % LAYOUTS, 1);
    CHECK(array) wa = CHECK(make_matrix)(m, p, (layout + 2) % LAYOUTS, 1);
    CHECK(array) ha = CHECK(make_matrix)(n, p, (layout + 3) % LAYOUTS, 1);
    const rbf_matrix x = xa.matrix, y = same ? xa.matrix : ya.matrix;
    const rbf_matrix w = wa.matrix, h = ha.matrix;
    CHECK_REAL *gammas = (CHECK_REAL *)checked_malloc((size_t)(m + 1) * sizeof(CHECK_REAL));
    const CHECK_REAL amplitude = (CHECK_REAL)1.5;
    const int64_t count = same ? 8 : 5;
    CHECK(part) parts[8];
    int64_t part, i, j, l;
    rbf_vector gamma;
    parts[0] = CHECK(make_part)(n * d);
    parts[1] = CHECK(make_part)(m * d);
    parts[2] = CHECK(make_part)(scalar ? 1 : m);
    parts[3] = CHECK(make_part)(m * p);
    parts[4] = CHECK(make_part)(n * p);
    parts[5] = CHECK(make_part)(n * d);
    parts[6] = CHECK(make_part)(1);
    parts[7] = CHECK(make_part)(1);
    for (j = 0; j <= m; ++j)
        gammas[j] = (CHECK_REAL)((0.5 + random_uniform()) / (double)(d > 0 ? d : 1));
    gamma = CHECK(make_vector)(gammas, scalar);
    for (i = 0; i < n; ++i)
        for (j = 0; j < m; ++j) {
            const long double distance = CHECK(distance)(x, y, i, j);
            const long double rate = CHECK(value)(gamma, j), e = expl(-rate * distance);
            long double g = 0, sizes_of_g = 0;
            for (l = 0; l < p; ++l) {
                const long double weight = CHECK(at)(w, j, l), down = CHECK(at)(h, i, l);
                g += down * weight;
                sizes_of_g += fabsl(down * weight);
                parts[4].want[i * p + l] += e * weight;
                parts[4].terms[i * p + l] += fabsl(e * weight);
                parts[3].want[j * p + l] += e * down;
                parts[3].terms[j * p + l] += fabsl(e * down);
            }
            for (l = 0; l < d; ++l) {
                const long double factor = 2 * rate * e * (CHECK(at)(y, j, l) - CHECK(at)(x, i, l));
                parts[0].want[i * d + l] += g * factor;
                parts[0].terms[i * d + l] += sizes_of_g * fabsl(factor);
                parts[1].want[j * d + l] -= g * factor;
                parts[1].terms[j * d + l] += sizes_of_g * fabsl(factor);
                if (same) {
                    parts[5].want[i * d + l] += amplitude * g * factor;
                    parts[5].want[j * d + l] -= amplitude * g * factor;
                    parts[5].terms[i * d + l] += amplitude * sizes_of_g * fabsl(factor);
                    parts[5].terms[j * d + l] += amplitude * sizes_of_g * fabsl(factor);
                }
            }
            parts[2].want[scalar ? 0 : j] -= g * e * distance;
            parts[2].terms[scalar ? 0 : j] += sizes_of_g * e * distance;
            parts[6].want[0] -= amplitude * g * e * distance;
            parts[6].terms[0] += amplitude * sizes_of_g * e * distance;
            parts[7].want[0] += g * e;
            parts[7].terms[0] += sizes_of_g * e;
        }
    EXPECT(CHECK_PRODUCT(x, y, gamma, w, parts[4].got) == RBF_OK);
    EXPECT(CHECK_PRODUCT_GRADIENT(x, y, gamma, w, h, parts[0].got, parts[1].got, parts[2].got,
                                  parts[3].got) == RBF_OK);
    if (same)
        EXPECT(CHECK_OUTER_GRADIENT(x, gamma, CHECK(make_vector)(&amplitude, 1), h, w, parts[5].got,
                                    parts[6].got, parts[7].got) == RBF_OK);
    for (part = 0; part < count; ++part) {
        const int64_t width = CHECK(width)(part == 5 ? 0 : (int)part, d);
        EXPECT(isnan(parts[part].got[parts[part].size]));
        EXPECT_BELOW(CHECK(error)(parts[part], width), 20 * CHECK_EPSILON);
    }
#ifdef _OPENMP
    {
        const int threads = omp_get_max_threads();
        omp_set_num_threads(1);
        EXPECT(CHECK_PRODUCT(x, y, gamma, w, parts[4].again) == RBF_OK);
        EXPECT(CHECK_PRODUCT_GRADIENT(x, y, gamma, w, h, parts[0].again, parts[1].again,
                                      parts[2].again, parts[3].again) == RBF_OK);
        if (same)
            EXPECT(CHECK_OUTER_GRADIENT(x, gamma, CHECK(make_vector)(&amplitude, 1), h, w,
                                        parts[5].again, parts[6].again, parts[7].again) == RBF_OK);
        for (part = 0; part < count; ++part)
            EXPECT(CHECK(repeats)(parts[part]));
        omp_set_num_threads(threads);
    }
#endif
    for (part = 0; part < 8; ++part)
        CHECK(free_part)(parts[part]);
    free(gammas);
    free(xa.memory);
    free(ya.memory);
    free(wa.memory);
    free(ha.memory);
}

/* log sum exp and its gradients, relative to the sum of the sizes of their terms; points so far
 * apart that the terms alone would underflow. */
static void CHECK(check_log_sum)(int64_t n, int64_t m, int64_t d, int layout, int scalar,
                                 double scale) {
    CHECK(array) xa = CHECK(make_matrix)(n, d, layout, scale);
    CHECK(array) ya = CHECK(make_matrix)(m, d, (layout + 1) % LAYOUTS, scale);
    const rbf_matrix x = xa.matrix, y = ya.matrix;
    CHECK_REAL *gammas = (CHECK_REAL *)checked_malloc((size_t)(m + 1) * sizeof(CHECK_REAL));
    CHECK_REAL *offsets = (CHECK_REAL *)checked_malloc((size_t)(m + 1) * sizeof(CHECK_REAL));
    CHECK_REAL *upstream = (CHECK_REAL *)checked_malloc((size_t)(n + 1) * sizeof(CHECK_REAL));
    CHECK_REAL *values = (CHECK_REAL *)checked_malloc((size_t)(n + 1) * sizeof(CHECK_REAL));
    CHECK_REAL *rests = (CHECK_REAL *)checked_malloc((size_t)(n + 1) * sizeof(CHECK_REAL));
    long double *exact;
    CHECK(part) parts[4];
    int64_t part, i, j, l;
    rbf_vector gamma, offset, g;
    double worst = 0;
    exact = (long double *)checked_malloc((size_t)(n + 1) * sizeof(long double));
    parts[0] = CHECK(make_part)(n * d);
    parts[1] = CHECK(make_part)(m * d);
    parts[2] = CHECK(make_part)(scalar ? 1 : m);
    parts[3] = CHECK(make_part)(scalar ? 1 : m);
    for (part = 0; part < 4; ++part)
        for (i = 0; i < parts[part].size; ++i) /* what may get lost where numbers underflow */
            parts[part].terms[i] = (sizeof(CHECK_REAL) == 4 ? FLT_MIN : DBL_MIN) / CHECK_EPSILON;
    for (j = 0; j <= m; ++j) {
        gammas[j] = (CHECK_REAL)((0.5 + random_uniform()) / (double)(d > 0 ? d : 1));
        offsets[j] = (CHECK_REAL)random_normal();
    }
    for (i = 0; i <= n; ++i)
        upstream[i] = values[i] = rests[i] = (CHECK_REAL)random_normal();
    gamma = CHECK(make_vector)(gammas, scalar);
    offset = CHECK(make_vector)(offsets, scalar);
    g = CHECK(make_vector)(upstream, 0);
    values[n] = rests[n] = 42;
    EXPECT(CHECK_LOG_SUM(x, y, gamma, offset, values, rests) == RBF_OK);
    EXPECT(values[n] == 42 && rests[n] == 42);
    for (i = 0; i < n; ++i) {
        long double largest = -INFINITY, sum = 0;
        for (j = 0; j < m; ++j)
            largest = fmaxl(largest, CHECK(value)(offset, j) -
                                         CHECK(value)(gamma, j) * CHECK(distance)(x, y, i, j));
        for (j = 0; j < m; ++j)
            sum += expl(CHECK(value)(offset, j) -
                        CHECK(value)(gamma, j) * CHECK(distance)(x, y, i, j) - largest);
        exact[i] = m > 0 ? largest + logl(sum) : largest;
        if (m == 0) {
            EXPECT(values[i] == -INFINITY && rests[i] == 0);
        } else {
            const long double value = (long double)values[i] + rests[i];
            const double error = (double)(fabsl(value - exact[i]) / (4 + fabsl(exact[i])));
            if (!(error <= worst))
                worst = error;
            EXPECT(fabs(rests[i]) <= CHECK_EPSILON / 2 * fabs(values[i]));
        }
        /* What rounding the exponents does to the terms is not the gradient's doing. */
        exact[i] = (long double)values[i] + rests[i];
    }
    EXPECT_BELOW(worst, 3 * CHECK_EPSILON); /* 2.2 by Clang, 2.1 without multiply-add */
    for (i = 0; i < n; ++i)
        for (j = 0; j < m; ++j) {
            const long double distance = CHECK(distance)(x, y, i, j);
            const long double rate = CHECK(value)(gamma, j);
            const long double exponent = CHECK(value)(offset, j) - rate * distance - exact[i];
            const long double r = upstream[i] * expl(exponent);
            /* an exponent is off by its parts' rounding */
            const long double size = fabsl(r) * (1 + rate * distance + fabsl(exact[i]));
            for (l = 0; l < d; ++l) {
                const long double factor = 2 * rate * (CHECK(at)(y, j, l) - CHECK(at)(x, i, l));
                parts[0].want[i * d + l] += r * factor;
                parts[0].terms[i * d + l] += size * fabsl(factor);
                parts[1].want[j * d + l] -= r * factor;
                parts[1].terms[j * d + l] += size * fabsl(factor);
            }
            parts[2].want[scalar ? 0 : j] -= r * distance;
            parts[2].terms[scalar ? 0 : j] += size * distance;
            parts[3].want[scalar ? 0 : j] += r;
            parts[3].terms[scalar ? 0 : j] += size;
        }
    EXPECT(CHECK_LOG_SUM_GRADIENT(x, y, gamma, offset, CHECK(make_vector)(values, 0),
                                  CHECK(make_vector)(rests, 0), g, parts[0].got, parts[1].got,
                                  parts[2].got, parts[3].got) == RBF_OK);
    for (part = 0; part < 4; ++part) {
        EXPECT(isnan(parts[part].got[parts[part].size]));
        EXPECT_BELOW(CHECK(error)(parts[part], CHECK(width)(part, d)), 20 * CHECK_EPSILON);
        CHECK(free_part)(parts[part]);
    }
    free(exact);
    free(gammas);
    free(offsets);
    free(upstream);
    free(values);
    free(rests);
    free(xa.memory);
    free(ya.memory);
}

/* P = A W, A the softmax of the exponents of each row, and its gradients; points so far apart that
 * exponentials without a shift would underflow. */
static void CHECK(check_softmax)(int64_t n, int64_t m, int64_t d, int64_t p, int layout, int scalar,
                                 double scale) {
    CHECK(array) xa = CHECK(make_matrix)(n, d, layout, scale);
    CHECK(array) ya = CHECK(make_matrix)(m, d, (layout + 1) % LAYOUTS, scale);
    CHECK(array) wa = CHECK(make_matrix)(m, p, (layout + 2) % LAYOUTS, 1);
    CHECK(array) ha = CHECK(make_matrix)(n, p, (layout + 3) % LAYOUTS, 1);
    const rbf_matrix x = xa.matrix, y = ya.matrix, w = wa.matrix, h = ha.matrix;
    const int64_t item = (int64_t)sizeof(CHECK_REAL);
    CHECK_REAL *gammas = (CHECK_REAL *)checked_malloc((size_t)(m + 1) * sizeof(CHECK_REAL));
    CHECK_REAL *offsets = (CHECK_REAL *)checked_malloc((size_t)(m + 1) * sizeof(CHECK_REAL));
    CHECK_REAL *values = (CHECK_REAL *)checked_malloc((size_t)(n + 1) * sizeof(CHECK_REAL));
    CHECK_REAL *rests = (CHECK_REAL *)checked_malloc((size_t)(n + 1) * sizeof(CHECK_REAL));
    CHECK_REAL *log_sums = (CHECK_REAL *)checked_malloc((size_t)(n + 1) * sizeof(CHECK_REAL));
    CHECK_REAL *more_rests = (CHECK_REAL *)checked_malloc((size_t)(n + 1) * sizeof(CHECK_REAL));
    const size_t row = (size_t)(m + 1) * sizeof(long double);
    long double *exponents = (long double *)checked_malloc(row);
    CHECK(part) parts[6];
    rbf_matrix product;
    rbf_vector gamma, offset;
    int64_t part, i, j, l;
    parts[0] = CHECK(make_part)(n * d);
    parts[1] = CHECK(make_part)(m * d);
    parts[2] = CHECK(make_part)(scalar ? 1 : m);
    parts[3] = CHECK(make_part)(scalar ? 1 : m);
    parts[4] = CHECK(make_part)(m * p);
    parts[5] = CHECK(make_part)(n * p);
    for (part = 0; part < 6; ++part)
        for (i = 0; i < parts[part].size; ++i) /* what may get lost where numbers underflow */
            parts[part].terms[i] = (sizeof(CHECK_REAL) == 4 ? FLT_MIN : DBL_MIN) / CHECK_EPSILON;
    for (j = 0; j <= m; ++j) {
        gammas[j] = (CHECK_REAL)((0.5 + random_uniform()) / (double)(d > 0 ? d : 1));
        offsets[j] = (CHECK_REAL)random_normal();
    }
    gamma = CHECK(make_vector)(gammas, scalar);
    offset = CHECK(make_vector)(offsets, scalar);
    values[n] = rests[n] = 42;
    EXPECT(CHECK_SOFTMAX(x, y, gamma, offset, w, parts[5].got, values, rests) == RBF_OK);
    EXPECT(values[n] == 42 && rests[n] == 42);
    EXPECT(CHECK_LOG_SUM(x, y, gamma, offset, log_sums, more_rests) == RBF_OK);
    product.data = (const char *)parts[5].got;
    product.rows = n;
    product.columns = p;
    product.row_stride = p * item;
    product.column_stride = item;
    for (i = 0; i < n; ++i) {
        const long double given = (long double)values[i] + rests[i];
        long double largest = -INFINITY, sum = 0, off = 0;
        EXPECT(values[i] == log_sums[i] && rests[i] == more_rests[i]);
        for (j = 0; j < m; ++j) {
            exponents[j] =
                CHECK(value)(offset, j) - CHECK(value)(gamma, j) * CHECK(distance)(x, y, i, j);
            largest = fmaxl(largest, exponents[j]);
        }
        for (j = 0; j < m; ++j)
            sum += expl(exponents[j] - largest);
        for (j = 0; j < m; ++j) /* an exponent is off by its parts' rounding */
            off += expl(exponents[j] - largest) / sum * (2 + 2 * fabsl(exponents[j]));
        for (j = 0; j < m; ++j) {
            const long double distance = CHECK(distance)(x, y, i, j);
            const long double rate = CHECK(value)(gamma, j);
            const long double share = expl(exponents[j] - largest) / sum;
            const long double share_off = share * (2 + 2 * fabsl(exponents[j]) + off);
            /* What rounding L and P does to the terms is not the gradient's doing. */
            const long double weight = expl(exponents[j] - given);
            const long double weight_off = weight * (2 + rate * distance + fabsl(given));
            long double g = 0, g_off = 0;
            for (l = 0; l < p; ++l) {
                const long double up = CHECK(at)(w, j, l), down = CHECK(at)(h, i, l);
                g += down * (up - CHECK(at)(product, i, l));
                g_off += fabsl(down) * (fabsl(up) + fabsl(CHECK(at)(product, i, l)));
                parts[5].want[i * p + l] += share * up;
                parts[5].terms[i * p + l] += share_off * fabsl(up);
                parts[4].want[j * p + l] += weight * down;
                parts[4].terms[j * p + l] += weight_off * fabsl(down);
            }
            for (l = 0; l < d; ++l) {
                const long double factor = 2 * rate * (CHECK(at)(y, j, l) - CHECK(at)(x, i, l));
                parts[0].want[i * d + l] += g * weight * factor;
                parts[0].terms[i * d + l] += g_off * weight_off * fabsl(factor);
                parts[1].want[j * d + l] -= g * weight * factor;
                parts[1].terms[j * d + l] += g_off * weight_off * fabsl(factor);
            }
            parts[2].want[scalar ? 0 : j] -= g * weight * distance;
            parts[2].terms[scalar ? 0 : j] += g_off * weight_off * distance;
            parts[3].want[scalar ? 0 : j] += g * weight;
            parts[3].terms[scalar ? 0 : j] += g_off * weight_off;
        }
    }
    EXPECT(CHECK_SOFTMAX_GRADIENT(x, y, gamma, offset, w, product, CHECK(make_vector)(values, 0),
                                  CHECK(make_vector)(rests, 0), h, parts[0].got, parts[1].got,
                                  parts[2].got, parts[3].got, parts[4].got) == RBF_OK);
    for (part = 0; part < 6; ++part) {
        EXPECT(isnan(parts[part].got[parts[part].size]));
        EXPECT_BELOW(CHECK(error)(parts[part], CHECK(width)(part < 3 ? (int)part : 3, d)),
                     20 * CHECK_EPSILON);
    }
#ifdef _OPENMP
    {
        const int threads = omp_get_max_threads();
        omp_set_num_threads(1);
        EXPECT(CHECK_SOFTMAX(x, y, gamma, offset, w, parts[5].again, log_sums, more_rests) ==
               RBF_OK);
        EXPECT(CHECK_SOFTMAX_GRADIENT(x, y, gamma, offset, w, product,
                                      CHECK(make_vector)(values, 0), CHECK(make_vector)(rests, 0),
                                      h, parts[0].again, parts[1].again, parts[2].again,
                                      parts[3].again, parts[4].again) == RBF_OK);
        for (part = 0; part < 6; ++part)
            EXPECT(CHECK(repeats)(parts[part]));
        omp_set_num_threads(threads);
    }
#endif
    for (part = 0; part < 6; ++part)
        CHECK(free_part)(parts[part]);
    free(exponents);
    free(gammas);
    free(offsets);
    free(values);
    free(rests);
    free(log_sums);
    free(more_rests);
    free(xa.memory);
    free(ya.memory);
    free(wa.memory);
    free(ha.memory);
}

/* Exponents of a million, all of them exact: the logarithm and the terms' shares of the sum are as
 * right as with exponents near 0, since all that counts is differences. */
static void CHECK(check_large_log_sum)(void) {
    enum { N = 19, M = 37 };
    const int64_t size = (int64_t)sizeof(CHECK_REAL);
    const CHECK_REAL one = 1;
    const rbf_vector scalar = CHECK(make_vector)(&one, 1);
    CHECK_REAL points[N][2], centres[M][2], offsets[M], values[N], rests[N], shares[M];
    const rbf_matrix y = {(const char *)centres, M, 2, 2 * size, size};
    rbf_matrix x = {(const char *)points, N, 2, 2 * size, size};
    const rbf_vector offset = CHECK(make_vector)(offsets, 0);
    int i, j;
    for (i = 0; i < N; ++i) {
        points[i][0] = 0;
        points[i][1] = (CHECK_REAL)i;
    }
    for (j = 0; j < M; ++j) {
        centres[j][0] = 1000;
        centres[j][1] = (CHECK_REAL)j;
        offsets[j] = (CHECK_REAL)(j * 29 % 48) / 16; /* of 20 and 4 bits is an exponent */
    }
    EXPECT(CHECK_LOG_SUM(x, y, scalar, offset, values, rests) == RBF_OK);
    x.rows = 1;
    for (i = 0; i < N; ++i) {
        long double sum = 0, total = 0, beyond; /* a long double of -1e6 would lose digits too */
        for (j = 0; j < M; ++j)
            sum += expl((long double)offsets[j] - (i - j) * (i - j));
        beyond = ((long double)values[i] + 1000000) + rests[i];
        EXPECT_BELOW((double)fabsl(beyond - logl(sum)), 2 * CHECK_EPSILON);
        x.data = (const char *)points[i];
        EXPECT(CHECK_LOG_SUM_GRADIENT(x, y, scalar, offset, CHECK(make_vector)(values + i, 0),
                                      CHECK(make_vector)(rests + i, 0), scalar, NULL, NULL, NULL,
                                      shares) == RBF_OK);
        for (j = 0; j < M; ++j) {
            const long double share = expl((long double)offsets[j] - (i - j) * (i - j)) / sum;
            EXPECT_BELOW((double)fabsl(shares[j] - share), 2 * CHECK_EPSILON);
            total += shares[j];
        }
        EXPECT_BELOW((double)fabsl(total - 1), 4 * CHECK_EPSILON);
    }
    /* Where it is not finite nothing is left out. */
    points[0][0] = (CHECK_REAL)INFINITY;
    points[1][0] = (CHECK_REAL)NAN;
    x.data = (const char *)points;
    x.rows = 2;
    EXPECT(CHECK_LOG_SUM(x, y, scalar, offset, values, rests) == RBF_OK);
    EXPECT(values[0] == -INFINITY && rests[0] == 0 && isnan(values[1]) && rests[1] == 0);
}

/* Squared distances of many columns k, relative to themselves, of points that lie so that some, or
 * none, can be expanded into norms and inner products. */
static void CHECK(check_distances)(int64_t d, int place, int layout) {
    enum { N = 150, M = 131 };
    const double scale = place == CLUSTERED ? 1e-3 : 1;
    CHECK(array) xa = CHECK(make_matrix)(N, d, layout, scale);
    CHECK(array) ya = CHECK(make_matrix)(M, d, (layout + 1) % BROADCAST, scale);
    const rbf_matrix x = xa.matrix, y = ya.matrix;
    CHECK_REAL *got[2];
    double worst[2] = {0, 0}, squares[2] = {0, 0};
    int64_t i, j, k;
    int way;
    for (k = 0; k < d; ++k) {
        for (i = 0; i < N && place == FAR_OFF; ++i)
            *CHECK(entry)(x, i, k) += 1000;
        for (j = 0; j < M; ++j) {
            CHECK_REAL *to = CHECK(entry)(y, j, k);
            if (place == FAR_OFF)
                *to += 1000;
            else if (place == PAIRED) /* with a row of x: the same, nearer and nearer */
                *to = *CHECK(entry)(x, j, k) + (j % 8 ? *to * (CHECK_REAL)pow(0.6, j % 8) : 0);
            else if (place == CENTRED) /* the centre, but for one that is close to it */
                *to *= (CHECK_REAL)(j == 15 ? 1e-9 : 0);
            else if (place == HALFWAY) /* D of about half of the squared norms */
                *to = (CHECK_REAL)(0.5 * *CHECK(entry)(x, j, k) + 0.866 * *to);
        }
    }
    if (place == CLUSTERED) { /* and two of them far away from each other */
        *CHECK(entry)(x, 0, 0) = 1000;
        *CHECK(entry)(y, 0, 0) = -1000;
    } else if (place == WILD) {
        *CHECK(entry)(x, 5, 1) = (CHECK_REAL)NAN;
        *CHECK(entry)(y, 9, 2) = (CHECK_REAL)INFINITY;
        for (k = 0; k < d; ++k) { /* these rows, and those below, are in no sample (sample_row) */
            *CHECK(entry)(y, 15, k) = -*CHECK(entry)(x, 13, k);
            *CHECK(entry)(x, 13, k) *= 40;
            *CHECK(entry)(x, 14, k) *= 1e10f;
            *CHECK(entry)(x, 20, k) *= 1e-30f;
            *CHECK(entry)(y, 20, k) *= 1e-30f;
        }
    } else if (place == CENTRED) {
        for (k = 0; k < d; ++k) {
            const CHECK_REAL close = *CHECK(entry)(y, 15, k);
            *CHECK(entry)(x, 13, k) = close;
            *CHECK(entry)(x, 14, k) = (CHECK_REAL)1.001 * close;
            *CHECK(entry)(x, 20, k) = -close;
        }
    }
    for (way = 0; way < 2; ++way) {
        got[way] = (CHECK_REAL *)checked_malloc(N * M * sizeof(CHECK_REAL));
        EXPECT(CHECK_DISTANCES(x, y, way, got[way]) ==
               (way && RBF_EXPANSION && place != CLUSTERED));
    }
    for (i = 0; i < N; ++i)
        for (j = 0; j < M; ++j) {
            const long double exact = CHECK(distance)(x, y, i, j);
            for (way = 0; way < 2; ++way) {
                const CHECK_REAL entry = got[way][i * M + j];
                const double error = (double)(fabsl(entry - exact) / (exact * CHECK_EPSILON));
                if (isnan(exact) || exact > CHECK_LARGEST) {
                    EXPECT(isnan(exact) ? isnan(entry) : isinf(entry));
                } else if (exact == 0) {
                    EXPECT(entry == 0);
                } else if (exact > 1e-25L) { /* nothing underflows */
                    squares[way] += error * error;
                    if (!(error <= worst[way]))
                        worst[way] = error;
                }
            }
        }
    EXPECT_BELOW(worst[0], 3);
    EXPECT_BELOW(worst[1], 3);
    /* The expansion is the more accurate way, above all where it gives all of the entries. */
    EXPECT_BELOW(sqrt(squares[1] / squares[0]), RBF_EXPANSION && place == SPREAD ? 0.9 : 1);
    for (way = 0; way < 2; ++way)
        free(got[way]);
    free(xa.memory);
    free(ya.memory);
}

/* So many points on a line, between 0 and 1 or equal. */
static CHECK_REAL *CHECK(line)(int64_t count, int equal) {
    CHECK_REAL *points = (CHECK_REAL *)checked_malloc((size_t)count * sizeof(CHECK_REAL));
    int64_t i;
    for (i = 0; i < count; ++i)
        points[i] = (CHECK_REAL)(equal ? 0.3 : random_uniform());
    return points;
}

/* sum_i factor exp(-(points[i] - centre)^2 / 4) */
static long double CHECK(line_sum)(const CHECK_REAL *points, int64_t count, CHECK_REAL centre,
                                   CHECK_REAL factor) {
    long double sum = 0;
    int64_t i;
    for (i = 0; i < count; ++i) {
        const long double difference = (long double)points[i] - centre;
        sum += factor * expl(-0.25L * difference * difference);
    }
    return sum;
}

/* m terms near one, and as many that are equal, of which each rounds the same way when it is added:
 * the sum must not lose what a running sum would. One column of W, or so many that lanes run over
 * them. */
static void CHECK(check_long_sum)(int width, int equal) {
    enum { QUERIES = 2, WIDEST = 16 };
    const int64_t count = 1000000 / share;
    const CHECK_REAL one = (CHECK_REAL)(equal ? 0.7 : 1), gamma = (CHECK_REAL)0.25;
    CHECK_REAL *points = CHECK(line)(count, equal);
    CHECK_REAL queries[QUERIES], got[QUERIES * WIDEST];
    const int64_t size = (int64_t)sizeof(CHECK_REAL);
    const rbf_matrix x = {(const char *)queries, QUERIES, 1, size, size};
    const rbf_matrix y = {(const char *)points, count, 1, size, size};
    const rbf_matrix w = {(const char *)&one, count, width, 0, 0};
    double worst = 0;
    int q;
    for (q = 0; q < QUERIES; ++q)
        queries[q] = (CHECK_REAL)q;
    EXPECT(CHECK_PRODUCT(x, y, CHECK(make_vector)(&gamma, 1), w, got) == RBF_OK);
    for (q = 0; q < QUERIES; ++q) {
        const long double sum = CHECK(line_sum)(points, count, queries[q], one);
        const double error = (double)(fabsl(got[q * width + width - 1] - sum) / sum);
        if (!(error <= worst))
            worst = error;
    }
    printf("sum of %ld terms: relative error %.2g\n", (long)count, worst);
    EXPECT_BELOW(worst, (sizeof(CHECK_REAL) == 4 ? 8 : 64) * CHECK_EPSILON); /* 9.5e-7 in float */
    free(points);
}

/* The same of the gradient with respect to W, whose sums are over as many rows of x. */
static void CHECK(check_long_gradient)(int equal) {
    enum { CENTRES = 3 };
    const int64_t count = 1000000 / share;
    const CHECK_REAL gamma = (CHECK_REAL)0.25, one = 1;
    CHECK_REAL *points = CHECK(line)(count, equal);
    CHECK_REAL centres[CENTRES], dweights[CENTRES];
    rbf_matrix x = {(const char *)points, count, 1, sizeof(CHECK_REAL), sizeof(CHECK_REAL)};
    rbf_matrix y = {(const char *)centres, CENTRES, 1, sizeof(CHECK_REAL), sizeof(CHECK_REAL)};
    rbf_matrix w = {(const char *)&one, CENTRES, 1, 0, 0}, h = {(const char *)&one, count, 1, 0, 0};
    double worst = 0;
    int j;
    for (j = 0; j < CENTRES; ++j)
        centres[j] = (CHECK_REAL)j;
    EXPECT(CHECK_PRODUCT_GRADIENT(x, y, CHECK(make_vector)(&gamma, 1), w, h, NULL, NULL, NULL,
                                  dweights) == RBF_OK);
    for (j = 0; j < CENTRES; ++j) {
        const long double sum = CHECK(line_sum)(points, count, centres[j], 1);
        const double error = (double)(fabsl(dweights[j] - sum) / sum);
        if (!(error <= worst))
            worst = error;
    }
    printf("gradient by W over %ld rows: relative error %.2g\n", (long)count, worst);
    EXPECT_BELOW(worst, (equal ? 150 : 15) * CHECK_EPSILON);
    free(points);
}

/* The exponential alone: D over the whole range, both signs of gamma, in units of the last place.
 */
static void CHECK(check_exponential)(void) {
    const double signs[2] = {1, -1};
    double worst = 0;
    int s, step;
    for (s = 0; s < 2; ++s) {
        for (step = 0; step < 400000 / share; ++step) {
            const double span = sizeof(CHECK_REAL) == 4 ? 110 : 760;
            const CHECK_REAL x = (CHECK_REAL)sqrt(span * random_uniform()), zero = 0, one = 1;
            const CHECK_REAL gamma = (CHECK_REAL)signs[s];
            CHECK_REAL got = 0;
            CHECK_EXPONENTIAL(x, gamma, &got);
            {
                const CHECK_REAL square = x * x;
                const long double exact = expl(-(long double)gamma * (long double)square);
                const CHECK_REAL rounded = (CHECK_REAL)exact;
                if (isinf(rounded) || isinf(got)) {
                    EXPECT(isinf(got) && exact > CHECK_LARGEST * 0.999L);
                } else {
                    const CHECK_REAL next = CHECK_NEXT(rounded, one / zero);
                    const double error =
                        (double)(fabsl((long double)got - exact) / ((long double)next - rounded));
                    if (!(error <= worst))
                        worst = error;
                }
            }
        }
    }
    printf("exponential: worst error %.3f units in the last place\n", worst);
    EXPECT_BELOW(worst, RBF_FUSED ? 1.0 : 2.0);
}

/* The same but for some rounding. */
static int CHECK(near)(CHECK_REAL want, CHECK_REAL got) {
    return want == got || fabs(got - want) <= 1e3 * CHECK_EPSILON * fabs(want);
}

static int CHECK(same)(CHECK_REAL want, CHECK_REAL got) {
    return (isnan(want) && isnan(got)) || CHECK(near)(want, got);
}

/* Numbers that meet each other in the next two checks. */
static const CHECK_REAL CHECK(special_gammas)[] = {0,
                                                   1,
                                                   -1,
                                                   (CHECK_REAL)INFINITY,
                                                   -(CHECK_REAL)INFINITY,
                                                   (CHECK_REAL)NAN,
                                                   CHECK_TINY,
                                                   1e-3f,
                                                   1e30f,
                                                   1e-30f,
                                                   -1e-30f,
                                                   CHECK_LARGEST};
static const CHECK_REAL CHECK(special_amplitudes)[] = {
    1, 0, -2, (CHECK_REAL)INFINITY, (CHECK_REAL)NAN, CHECK_TINY, 1e20f, -1e-20f};
static const CHECK_REAL CHECK(special_points)[] = {
    0,         1, 5, 12, 1e5f, 1e19f, (CHECK_REAL)INFINITY, -(CHECK_REAL)INFINITY, (CHECK_REAL)NAN,
    CHECK_TINY};
enum {
    CHECK(GAMMAS) = sizeof CHECK(special_gammas) / sizeof(CHECK_REAL),
    CHECK(AMPLITUDES) = sizeof CHECK(special_amplitudes) / sizeof(CHECK_REAL),
    CHECK(POINTS) = sizeof CHECK(special_points) / sizeof(CHECK_REAL)
};

/* As amplitude * exp(-gamma * D) in the C library gives. */
static void CHECK(check_special_values)(void) {
    int a, g, p;
    for (a = 0; a < CHECK(AMPLITUDES); ++a)
        for (g = 0; g < CHECK(GAMMAS); ++g) {
            CHECK_REAL got[CHECK(POINTS)];
            const CHECK_REAL gamma = CHECK(special_gammas)[g], origin = 0;
            const CHECK_REAL amplitude = CHECK(special_amplitudes)[a];
            const rbf_matrix x = {(const char *)CHECK(special_points), CHECK(POINTS), 1,
                                  sizeof(CHECK_REAL), sizeof(CHECK_REAL)};
            const rbf_matrix y = {(const char *)&origin, 1, 1, sizeof(CHECK_REAL),
                                  sizeof(CHECK_REAL)};
            EXPECT(CHECK_FORWARD(x, y, CHECK(make_vector)(&gamma, 1),
                                 CHECK(make_vector)(&amplitude, 1), got, 0) == RBF_OK);
            for (p = 0; p < CHECK(POINTS); ++p) {
                const CHECK_REAL point = CHECK(special_points)[p], square = point * point;
                const CHECK_REAL exponent = -gamma * square;
                const CHECK_REAL want = amplitude * (CHECK_REAL)CHECK_LIBRARY_EXP(exponent);
                /* Where exp alone under- or overflows but the product does not, ours keeps digits
                 * that the two steps lose: either value will do. */
                const CHECK_REAL better =
                    (CHECK_REAL)(amplitude * expl(-(long double)gamma * square));
                const int same =
                    (isnan(want) && isnan(got[p])) || want == got[p] || CHECK(near)(better, got[p]);
                if (!same)
                    fprintf(stderr, "amplitude %g gamma %g x %g: got %g, want %g\n",
                            (double)amplitude, (double)gamma, (double)point, (double)got[p],
                            (double)want);
                EXPECT(same);
            }
        }
}

/* The gradients of such entries, of so many equal rows that they fill a tile and begin another, as
 * one step after the other in the working precision gives them. */
static void CHECK(check_special_gradient)(void) {
    enum { N = RBF_TILE_ROWS + 1 };
    int a, g, p, i;
    for (a = 0; a < CHECK(AMPLITUDES); ++a)
        for (g = 0; g < CHECK(GAMMAS); ++g)
            for (p = 0; p < CHECK(POINTS); ++p) {
                const CHECK_REAL gamma = CHECK(special_gammas)[g], origin = 0, one = 1;
                const CHECK_REAL amplitude = CHECK(special_amplitudes)[a];
                const CHECK_REAL point = CHECK(special_points)[p], square = point * point;
                const CHECK_REAL exponent = -gamma * square;
                const CHECK_REAL e = (CHECK_REAL)CHECK_LIBRARY_EXP(exponent);
                const CHECK_REAL k = e * amplitude, weight = k * gamma * 2;
                const rbf_matrix x = {(const char *)&point, N, 1, 0, 0};
                const rbf_matrix y = {(const char *)&origin, 1, 1, 0, 0};
                const rbf_matrix ones = {(const char *)&one, N, 1, 0, 0};
                const rbf_vector gammas = CHECK(make_vector)(&gamma, 1);
                const rbf_vector amplitudes = CHECK(make_vector)(&amplitude, 1);
                CHECK_REAL dx[N], dy, dgamma, damplitude;
                if (e != 0 && fabs(e) < (sizeof(CHECK_REAL) == 4 ? FLT_MIN : DBL_MIN))
                    continue; /* has few digits */
                EXPECT(CHECK_GRADIENT(x, y, gammas, amplitudes, ones, dx, &dy, &dgamma, &damplitude,
                                      0) == RBF_OK);
                /* (Beside an infinite point there are zero weights of infinite differences.) */
                for (i = 0; i < N && !isinf(point); ++i)
                    EXPECT(CHECK(same)(weight * (origin - point), dx[i]));
                EXPECT(isinf(point) || CHECK(same)(-N * (weight * (origin - point)), dy));
                EXPECT(CHECK(same)(-N * (k * square), dgamma));
                EXPECT(CHECK(same)(N * e, damplitude));
            }
}

/* Gradients of x and y where some pairs are close: few, that are added one by one; so many in one
 * place that there they are sums of differences; few, but a G that is not finite. */
static void CHECK(check_close_gradient)(int place) {
    enum { N = 400, D = 256, CLOSE = 50 };
    CHECK(array) xa = CHECK(make_matrix)(N, D, C_ORDER, 1);
    CHECK(array) ya = CHECK(make_matrix)(N, D, C_ORDER, 1);
    CHECK(array) ga = CHECK(make_matrix)(N, N, C_ORDER, 1);
    const rbf_matrix matrices[2] = {xa.matrix, ya.matrix};
    const CHECK_REAL gamma = (CHECK_REAL)(4.0 / D), amplitude = 1;
    CHECK_REAL *got[2], *alone, distance_sum;
    long double *want[2], *terms[2];
    int64_t i, j, k;
    int part;
    for (i = 0; i < CLOSE; ++i)
        for (k = 0; k < D; ++k) {
            const CHECK_REAL about = *CHECK(entry)(matrices[0], 0, k);
            CHECK_REAL *x = CHECK(entry)(matrices[0], i, k), *y = CHECK(entry)(matrices[1], i, k);
            if (place == CLUSTERED) {
                *x = about + *x / 64;
                *y = about + *y / 64;
            } else { /* every eighth the same */
                *y = *x + (i % 8 ? *y / 8 : 0);
            }
        }
    if (place == WILD)
        *CHECK(entry)(ga.matrix, 3, 5) = (CHECK_REAL)INFINITY;
    for (part = 0; part < 2; ++part) {
        got[part] = (CHECK_REAL *)checked_malloc(N * D * sizeof(CHECK_REAL));
        want[part] = (long double *)checked_malloc(N * D * sizeof(long double));
        terms[part] = (long double *)checked_malloc(N * D * sizeof(long double));
        for (i = 0; i < N * D; ++i)
            want[part][i] = terms[part][i] = 0;
    }
    for (i = 0; i < N; ++i)
        for (j = 0; j < N; ++j) {
            const long double weight =
                2 * gamma * CHECK(at)(ga.matrix, i, j) *
                expl(-gamma * CHECK(distance)(matrices[0], matrices[1], i, j));
            for (k = 0; k < D; ++k) {
                const long double term =
                    weight * (CHECK(at)(matrices[1], j, k) - CHECK(at)(matrices[0], i, k));
                want[0][i * D + k] += term;
                want[1][j * D + k] -= term;
                terms[0][i * D + k] += fabsl(term);
                terms[1][j * D + k] += fabsl(term);
            }
        }
    EXPECT(CHECK_GRADIENT(matrices[0], matrices[1], CHECK(make_vector)(&gamma, 1),
                          CHECK(make_vector)(&amplitude, 1), ga.matrix, got[0], got[1],
                          &distance_sum, NULL, 0) == RBF_OK);
    for (part = 0; part < 2; ++part) {
        alone = (CHECK_REAL *)checked_malloc(N * D * sizeof(CHECK_REAL));
        EXPECT(CHECK_GRADIENT(matrices[0], matrices[1], CHECK(make_vector)(&gamma, 1),
                              CHECK(make_vector)(&amplitude, 1), ga.matrix,
                              part == 0 ? alone : NULL, part == 1 ? alone : NULL, NULL, NULL,
                              0) == RBF_OK);
        for (i = 0; i < N * D; ++i) /* but for the sign of NaN */
            EXPECT(alone[i] == got[part][i] || (isnan(alone[i]) && isnan(got[part][i])));
        free(alone);
        for (i = 0; i < N * D; ++i)
            if (isinf(want[part][i])) { /* its row was the infinite weight's */
                EXPECT(got[part][i] == (CHECK_REAL)want[part][i]);
                got[part][i] = 0;
                want[part][i] = terms[part][i] = 0;
            }
        EXPECT_BELOW(
            CHECK(compare)(got[part], want[part], terms[part], N * D, CHECK(width)(part, D)),
            12 * CHECK_EPSILON);
        free(got[part]);
        free(want[part]);
        free(terms[part]);
    }
    free(xa.memory);
    free(ya.memory);
    free(ga.memory);
}

/* Small problems of threads that are in a parallel region already: each gets what it gets alone. */
static void CHECK(check_within_a_region)(void) {
    enum { N = 40, M = 50, D = 3, CALLS = 2 };
    CHECK_REAL one = 1, alone[CALLS][N * M], got[CALLS][N * M];
    const rbf_vector scalar = CHECK(make_vector)(&one, 1);
    CHECK(array) points[CALLS][2];
    int call;
    for (call = 0; call < CALLS; ++call) {
        points[call][0] = CHECK(make_matrix)(N, D, 0, 1);
        points[call][1] = CHECK(make_matrix)(M, D, 0, 1);
        EXPECT(CHECK_FORWARD(points[call][0].matrix, points[call][1].matrix, scalar, scalar,
                             alone[call], 0) == RBF_OK);
    }
    RBF_OMP(parallel for num_threads(CALLS))
    for (call = 0; call < CALLS; ++call)
        CHECK_FORWARD(points[call][0].matrix, points[call][1].matrix, scalar, scalar, got[call], 0);
    EXPECT(memcmp(alone, got, sizeof got) == 0);
    for (call = 0; call < CALLS; ++call) {
        free(points[call][0].memory);
        free(points[call][1].memory);
    }
}

/* Of many rows and much to read for each, tasks have more rows: the bits are those of half of them,
 * whose tasks do not. One thread, for which the most rows are the fewest here. */
static void CHECK(check_rows_of_a_task)(void) {
    enum { N = 8201, HALF = N / 2, D = 24, P = 3 };
    const int64_t m = (4 * RBF_PANEL_CACHE_BYTES) / (D * (int64_t)sizeof(CHECK_REAL)) + 1;
    CHECK(array) xa = CHECK(make_matrix)(N, D, 0, 1), ya = CHECK(make_matrix)(m, D, 0, 1);
    CHECK(array) wa = CHECK(make_matrix)(m, P, 0, 1);
    const CHECK_REAL values[2] = {(CHECK_REAL)(1. / D), 0};
    const rbf_vector gamma = CHECK(make_vector)(values, 1),
                     zero = CHECK(make_vector)(values + 1, 1);
    CHECK_REAL *got = (CHECK_REAL *)checked_malloc(N * 2 * (P + 2) * sizeof(CHECK_REAL));
    CHECK_REAL *again = got + N * (P + 2);
    rbf_matrix halves[2] = {xa.matrix, xa.matrix};
    const int64_t firsts[2] = {0, HALF};
    int half;
#ifdef _OPENMP
    const int threads = omp_get_max_threads();
    omp_set_num_threads(1);
#endif
    EXPECT(CHECK_PRODUCT(xa.matrix, ya.matrix, gamma, wa.matrix, got) == RBF_OK);
    EXPECT(CHECK_LOG_SUM(xa.matrix, ya.matrix, gamma, zero, got + N * P, got + N * (P + 1)) ==
           RBF_OK);
    for (half = 0; half < 2; ++half) {
        const int64_t first = firsts[half];
        halves[half].data += first * xa.matrix.row_stride;
        halves[half].rows = half ? N - HALF : HALF;
        EXPECT(CHECK_PRODUCT(halves[half], ya.matrix, gamma, wa.matrix, again + first * P) ==
               RBF_OK);
        EXPECT(CHECK_LOG_SUM(halves[half], ya.matrix, gamma, zero, again + N * P + first,
                             again + N * (P + 1) + first) == RBF_OK);
    }
#ifdef _OPENMP
    omp_set_num_threads(threads);
#endif
    EXPECT(memcmp(got, again, N * (P + 2) * sizeof(CHECK_REAL)) == 0);
    free(got);
    free(xa.memory);
    free(ya.memory);
    free(wa.memory);
}

/* Without a gamma: the squared distances. */
static void CHECK(check_plain_distances)(int64_t n, int64_t m, int64_t d, int layout) {
    CHECK(array) xa = CHECK(make_matrix)(n, d, layout, 1);
    CHECK(array) ya = CHECK(make_matrix)(m, d, (layout + 1) % LAYOUTS, 1);
    const rbf_vector none = {NULL, 0, 1};
    CHECK_REAL *got = (CHECK_REAL *)checked_malloc((size_t)(n * m) * sizeof(CHECK_REAL));
    int64_t i, j;
    EXPECT(CHECK_FORWARD(xa.matrix, ya.matrix, none, none, got, 0) == RBF_OK);
    for (i = 0; i < n; ++i)
        for (j = 0; j < m; ++j) {
            const long double want = CHECK(distance)(xa.matrix, ya.matrix, i, j);
            EXPECT_BELOW((double)fabsl(got[i * m + j] - want), 4 * CHECK_EPSILON * (double)want);
        }
    free(got);
    free(xa.memory);
    free(ya.memory);
}

/* A thread that flushes denormal numbers to zero, as libraries linked with -ffast-math make the one
 * that loads them, gets the same bits as another. */
static void CHECK(check_modes)(void) {
#if defined(__SSE2__)
    enum { N = 600, D = 3, ENTRIES = 2 * N * N + N * D + 2 };
    CHECK(array) xa = CHECK(make_matrix)(N, D, 0, 1);
    CHECK_REAL values[2] = {1, CHECK_TINY * 100};
    const rbf_vector gamma = CHECK(make_vector)(values, 1),
                     small = CHECK(make_vector)(values + 1, 1);
    const rbf_matrix g = {(const char *)(values + 1), N, N, 0, 0};
    CHECK_REAL *got[2];
    const unsigned mode = __builtin_ia32_stmxcsr();
    int call, i;
    for (call = 0; call < 2; ++call) {
        CHECK_REAL *k = (CHECK_REAL *)checked_malloc(ENTRIES * sizeof(CHECK_REAL));
        CHECK_REAL *mixture = k + N * N, *dx = mixture + N * N, *totals = dx + N * D;
        const unsigned own = call ? mode | 0x8040 : mode;
        __builtin_ia32_ldmxcsr(own);
        EXPECT(CHECK_FORWARD(xa.matrix, xa.matrix, gamma, small, k, 0) == RBF_OK);
        EXPECT(__builtin_ia32_stmxcsr() == own);
        EXPECT(CHECK_MIXTURE(xa.matrix, xa.matrix, gamma, small, 1, mixture, 0) == RBF_OK);
        EXPECT(__builtin_ia32_stmxcsr() == own);
        EXPECT(CHECK_GRADIENT(xa.matrix, xa.matrix, gamma, gamma, g, dx, NULL, totals, totals + 1,
                              1) == RBF_OK);
        EXPECT(__builtin_ia32_stmxcsr() == own);
        __builtin_ia32_ldmxcsr(mode);
        got[call] = k;
    }
    EXPECT(got[0][0] > 0 && got[0][N * N] > 0);
    for (i = 0; i < 2; ++i)
        EXPECT(got[0][ENTRIES - 1 - i] != 0);
    EXPECT(memcmp(got[0], got[1], ENTRIES * sizeof(CHECK_REAL)) == 0);
    free(got[0]);
    free(got[1]);
    free(xa.memory);
#endif
}

static void CHECK(check_all)(void) {
    static const int64_t depths[] = {64, 97, 300};
    static const int64_t sizes[] = {0, 1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 65};
    enum { SIZES = 15 };
    int round, layout;
    CHECK(check_exponential)();
    CHECK(check_special_values)();
    CHECK(check_special_gradient)();
    CHECK(check_within_a_region)();
    CHECK(check_modes)();
    if (share == 1)
        CHECK(check_rows_of_a_task)();
    CHECK(check_plain_distances)(33, 70, 5, 0);
    CHECK(check_plain_distances)(9, 130, 97, 2);
    for (round = 0; round < 120 / share; ++round) {
        const int64_t n = sizes[random_below(SIZES)], m = sizes[random_below(SIZES)];
        const int64_t d = random_below(20);
        CHECK(check_problem)(n, m, d, round % LAYOUTS, round % 2, 0);
        CHECK(check_problem)(n, n, d, round % LAYOUTS, 1, 1);
    }
    for (round = 0; round < 120 / share; ++round) {
        const int64_t n = sizes[random_below(SIZES)], m = sizes[random_below(SIZES)];
        CHECK(check_product)(n, m, random_below(20), sizes[random_below(SIZES)], round % LAYOUTS,
                             round % 2, 0);
        CHECK(check_product)(n, n, random_below(20), random_below(7), round % LAYOUTS, 1, 1);
    }
    for (round = 0; round < 40 / share; ++round) {
        const int64_t n = sizes[random_below(SIZES)], m = sizes[random_below(SIZES)];
        CHECK(check_mixture)(n, m, random_below(20), random_below(7), round % LAYOUTS, 0);
        CHECK(check_mixture)(n, n, random_below(20), random_below(7), round % LAYOUTS, 1);
    }
    for (round = 0; round < 40 / share; ++round)
        CHECK(check_log_sum)(sizes[random_below(SIZES)], sizes[random_below(SIZES)],
                             random_below(20), round % LAYOUTS, round % 2, round % 3 ? 1 : 40);
    CHECK(check_large_log_sum)();
    for (round = 0; round < 3 * PLACES; round += share)
        CHECK(check_distances)(depths[round / PLACES], round % PLACES, round % BROADCAST);
    CHECK(check_close_gradient)(PAIRED);
    CHECK(check_close_gradient)(CLUSTERED);
    CHECK(check_close_gradient)(WILD);
    for (round = 0; round < 4; ++round)
        CHECK(check_long_sum)(round / 2 ? 16 : 1, round % 2);
    CHECK(check_long_gradient)(0);
    CHECK(check_long_gradient)(1);
    for (layout = 0; layout < LAYOUTS; layout += share) { /* several blocks, waves and threads */
        CHECK(check_problem)(301, 213, 37, layout, layout % 2, 0);
        CHECK(check_problem)(9, 1501, 5, layout, layout % 2, 0);
        CHECK(check_problem)(1203, 5, 3, layout, layout % 2, 0);
        CHECK(check_problem)(277, 277, 33, layout, 1, 1);
        CHECK(check_problem)(277, 277, 97, layout, 1, 1);          /* mirrored */
        CHECK(check_problem)(150, 131, 97, layout, layout % 2, 0); /* expanded */
        CHECK(check_mixture)(301, 213, 37, 3, layout, 0);
        CHECK(check_mixture)(1203, 5, 3, 5, layout, 0);
        CHECK(check_mixture)(277, 277, 17, 2, layout, 1);
        CHECK(check_mixture)(150, 131, 97, 2, layout, 0); /* expanded */
        CHECK(check_product)(150, 131, 67, 3, layout, layout % 2, 0);
        CHECK(check_product)(143, 143, 67, 1, layout, 1, 1);
        CHECK(check_log_sum)(150, 131, 67, layout, layout % 2, 1);
        CHECK(check_product)(301, 213, 17, 3, layout, layout % 2, 0);
        CHECK(check_product)(9, 1501, 5, 40, layout, layout % 2, 0);
        CHECK(check_product)(403, 203, 3, 1, layout, layout % 2, 0);
        CHECK(check_product)(203, 103, 2, 21, layout, layout % 2, 0);
        CHECK(check_log_sum)(9, 1501, 5, layout, layout % 2, 1);
        CHECK(check_log_sum)(203, 73, 3, layout, layout % 2, 10);
        CHECK(check_product)(531, 531, 3, 1 + layout % 3, layout, 1, 1);
        CHECK(check_product)(277, 277, 33, 20, layout, 1, 1);
        CHECK(check_product)(277, 277, 97, 5, layout, 1, 1); /* expanded */
    }
    for (round = 0; round < 80 / share; ++round)
        CHECK(check_softmax)(sizes[random_below(SIZES)], sizes[random_below(SIZES)],
                             random_below(20), sizes[random_below(SIZES)], round % LAYOUTS,
                             round % 2, round % 3 ? 1 : 40);
    for (layout = 0; layout < LAYOUTS; layout += share) {
        CHECK(check_softmax)(150, 131, 67, 3, layout, layout % 2, 1);
        CHECK(check_softmax)(9, 1501, 5, 40, layout, layout % 2, 10);
        CHECK(check_softmax)(203, 1073, 3, 2, layout, layout % 2, 10);
    }
    CHECK(check_softmax)(9, 17001, 3, 2, 0, 0, 10); /* several blocks in a split */
    CHECK(check_softmax)(9, 17001, 3, 17, 1, 1, 10);
}
