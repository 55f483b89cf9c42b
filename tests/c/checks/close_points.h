/* Gradients where some points are close to one another, others not. Included by checks.h, once a
 * precision.
 */

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
