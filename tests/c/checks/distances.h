/* Squared distances, by differences and expanded, on the vector units and on the matrix unit.
 * Included by checks.h, once a precision.
 */

/* Squared distances of many columns k, relative to themselves, of points that lie so that some, or
 * none, can be expanded into norms and inner products. */
static void CHECK(check_distances)(int64_t d, int place, int layout) {
    enum { N = 150, M = 131 };
    const double scale = place == CLUSTERED ? 1e-3 : 1;
    CHECK(array) xa = CHECK(make_matrix)(N, d, layout, scale);
    CHECK(array) ya = CHECK(make_matrix)(M, d, (layout + 1) % BROADCAST, scale);
    const rbf_matrix x = xa.matrix, y = ya.matrix;
    const int ways =
        sizeof(CHECK_REAL) == 4 && d >= RBF_UNIT_DEPTH && rbf_matrix_unit() ? WAYS : BY_MATRIX_UNIT;
    CHECK_REAL *got[WAYS];
    double worst[WAYS] = {0}, squares[WAYS] = {0};
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
    for (i = 0; i < N && place >= PLACES; ++i)
        for (k = 0; k < d; ++k) { /* an entry of a row outweighs the others, which are equal */
            const int sign = i % 3 ? 1 : -1;
            const double least = place == UNEQUAL ? 0.249 : 0.5;
            const double largest = place == UNEQUAL ? 0x1p21 : 0x1p15;
            *CHECK(entry)(x, i, k) = (CHECK_REAL)(sign * (k == i * 37 % d ? largest : least));
            if (i < M && place == ALIKE)
                *CHECK(entry)(y, i, k) =
                    (CHECK_REAL)(sign * (k == (i * 37 + 5) % d ? largest : least));
            else if (i < M) /* or all are */
                *CHECK(entry)(y, i, k) = (CHECK_REAL)(sign * largest / sqrt((double)d));
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
    for (way = 0; way < ways; ++way) {
        got[way] = (CHECK_REAL *)checked_malloc(N * M * sizeof(CHECK_REAL));
        EXPECT(CHECK_DISTANCES(x, y, way, got[way]) ==
               (RBF_EXPANSION && place != CLUSTERED ? way : BY_DIFFERENCES));
    }
    for (i = 0; i < N; ++i)
        for (j = 0; j < M; ++j) {
            const long double exact = CHECK(distance)(x, y, i, j);
            for (way = 0; way < ways; ++way) {
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
    /* The expansion is the more accurate way, above all where it gives all of the entries, on the
     * matrix unit less so of few columns. Where most entries are equal what is rounded does not
     * cancel: not so on the unit. */
    for (way = 0; way < ways; ++way) {
        if (place < PLACES || way == BY_MATRIX_UNIT)
            EXPECT_BELOW(worst[way], place < PLACES ? 3 : 4);
        if (place < PLACES && way != BY_DIFFERENCES)
            EXPECT_BELOW(sqrt(squares[way] / squares[BY_DIFFERENCES]),
                         !RBF_EXPANSION || place != SPREAD ? 1
                         : way == BY_MATRIX_UNIT           ? 0.95
                                                           : 0.9);
        free(got[way]);
    }
    free(xa.memory);
    free(ya.memory);
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
