/* Gradients of many columns k where some points are close to one another, others not, or where
 * sizes differ. Included by checks.h, once a precision.
 */

/* Gradients of x and y, both at once and each alone, in vectors of `width` of their entries. */
static void CHECK(compare_gradients)(rbf_matrix x, rbf_matrix y, rbf_matrix g, CHECK_REAL gamma,
                                     int64_t width) {
    const int64_t n = x.rows, m = y.rows, d = x.columns, count[2] = {n * d, m * d};
    const CHECK_REAL amplitude = 1;
    CHECK_REAL *got[2], *alone, distance_sum;
    long double *want[2], *terms[2];
    int64_t i, j, k;
    int part;
    for (part = 0; part < 2; ++part) {
        got[part] = (CHECK_REAL *)checked_malloc(count[part] * sizeof(CHECK_REAL));
        want[part] = (long double *)checked_malloc(count[part] * sizeof(long double));
        terms[part] = (long double *)checked_malloc(count[part] * sizeof(long double));
        for (i = 0; i < count[part]; ++i)
            want[part][i] = terms[part][i] = 0;
    }
    for (i = 0; i < n; ++i)
        for (j = 0; j < m; ++j) {
            const long double weight =
                2 * gamma * CHECK(at)(g, i, j) * expl(-gamma * CHECK(distance)(x, y, i, j));
            for (k = 0; k < d; ++k) {
                const long double term = weight * (CHECK(at)(y, j, k) - CHECK(at)(x, i, k));
                want[0][i * d + k] += term;
                want[1][j * d + k] -= term;
                terms[0][i * d + k] += fabsl(term);
                terms[1][j * d + k] += fabsl(term);
            }
        }
    EXPECT(CHECK_GRADIENT(x, y, CHECK(make_vector)(&gamma, 1), CHECK(make_vector)(&amplitude, 1), g,
                          got[0], got[1], &distance_sum, NULL, 0) == RBF_OK);
    for (part = 0; part < 2; ++part) {
        alone = (CHECK_REAL *)checked_malloc(count[part] * sizeof(CHECK_REAL));
        EXPECT(CHECK_GRADIENT(x, y, CHECK(make_vector)(&gamma, 1),
                              CHECK(make_vector)(&amplitude, 1), g, part == 0 ? alone : NULL,
                              part == 1 ? alone : NULL, NULL, NULL, 0) == RBF_OK);
        for (i = 0; i < count[part]; ++i) /* but for the sign of NaN */
            EXPECT(alone[i] == got[part][i] || (isnan(alone[i]) && isnan(got[part][i])));
        free(alone);
        for (i = 0; i < count[part]; ++i)
            if (isinf(want[part][i])) { /* its row was the infinite weight's */
                EXPECT(got[part][i] == (CHECK_REAL)want[part][i]);
                got[part][i] = 0;
                want[part][i] = terms[part][i] = 0;
            }
        EXPECT_BELOW(CHECK(compare)(got[part], want[part], terms[part], count[part],
                                    CHECK(width)(part, width)),
                     12 * CHECK_EPSILON);
        free(got[part]);
        free(want[part]);
        free(terms[part]);
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
    int64_t i, k;
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
    CHECK(compare_gradients)(matrices[0], matrices[1], ga.matrix, (CHECK_REAL)(4.0 / D), D);
    free(xa.memory);
    free(ya.memory);
    free(ga.memory);
}

/* Gradients where rows of G differ in size by sixty powers of ten (0), or its columns (1), or
 * columns k of x and y by thirty-six, entry by entry (2). */
static void CHECK(check_gradient_of_sizes)(int of) {
    enum { N = 150, M = 131, D = 97 };
    CHECK(array) xa = CHECK(make_matrix)(N, D, C_ORDER, 1);
    CHECK(array) ya = CHECK(make_matrix)(M, D, C_ORDER, 1);
    CHECK(array) ga = CHECK(make_matrix)(N, M, C_ORDER, 1);
    int64_t i, k;
    for (i = 0; i < N; ++i)
        for (k = 0; k < M; ++k)
            *CHECK(entry)(ga.matrix, i, k) *=
                of == 2 ? 1000 : (CHECK_REAL)pow(10, (double)((of ? k : i) * 7 % 61 - 35));
    for (k = 0; of == 2 && k < D; k += 5) {
        for (i = 0; i < N; ++i)
            *CHECK(entry)(xa.matrix, i, k) *= (CHECK_REAL)1e-36;
        for (i = 0; i < M; ++i)
            *CHECK(entry)(ya.matrix, i, k) *= (CHECK_REAL)1e-36;
    }
    CHECK(compare_gradients)(xa.matrix, ya.matrix, ga.matrix, (CHECK_REAL)(1.0 / D),
                             of == 2 ? 1 : D);
    free(xa.memory);
    free(ya.memory);
    free(ga.memory);
}
