/* Logarithms of the sums of rows and their gradients. Included by checks.h, once a
 * precision.
 */

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
