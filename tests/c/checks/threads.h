/* Callers' threads and modes, and tasks of more rows. Included by checks.h, once a
 * precision.
 */

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
