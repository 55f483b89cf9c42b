/* The kernel matrix, mixtures of widths, and their gradients. Included by checks.h, once a
 * precision.
 */

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
    for (i = 0; symmetric && i < n; ++i)
        for (j = 0; j < i; ++j)
            EXPECT(k[i * n + j] == k[j * n + i]);
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

/* A K that is streamed, `offset` entries behind the beginning of a line: it has the bits of its
 * rows computed some at a time, which are not, and nothing is written beside it. */
static void CHECK(check_large_matrix)(int64_t n, int64_t m, int64_t d, int64_t offset,
                                      int symmetric) {
    CHECK(array) xa = CHECK(make_matrix)(n, d, C_ORDER, 1);
    CHECK(array) ya = CHECK(make_matrix)(m, d, C_ORDER, 1);
    const rbf_matrix x = xa.matrix, y = symmetric ? xa.matrix : ya.matrix;
    const int64_t at_once = 100, large = offset + n * m;
    CHECK_REAL widths[2] = {(CHECK_REAL)(1 / (double)d), 2};
    void *lines = NULL;
    CHECK_REAL *memory;
    CHECK_REAL *some = (CHECK_REAL *)checked_malloc((size_t)(at_once * m) * sizeof(CHECK_REAL));
    const rbf_vector gamma = CHECK(make_vector)(widths, 1);
    const rbf_vector amplitude = CHECK(make_vector)(widths + 1, 1);
    int64_t first;
    EXPECT(posix_memalign(&lines, 64, (size_t)(large + 1) * sizeof(CHECK_REAL)) == 0);
    memory = (CHECK_REAL *)lines;
    memory[0] = memory[large] = 42;
    EXPECT(CHECK_FORWARD(x, y, gamma, amplitude, memory + offset, symmetric) == RBF_OK);
    EXPECT(memory[large] == 42 && (offset == 0 || memory[0] == 42));
    for (first = 0; first < n; first += at_once) {
        rbf_matrix rows = x;
        rows.data += first * x.row_stride;
        rows.rows = first + at_once < n ? at_once : n - first;
        EXPECT(CHECK_FORWARD(rows, y, gamma, amplitude, some, 0) == RBF_OK);
        EXPECT(memcmp(memory + offset + first * m, some,
                      (size_t)(rows.rows * m) * sizeof(CHECK_REAL)) == 0);
    }
    free(memory);
    free(some);
    free(xa.memory);
    free(ya.memory);
}
