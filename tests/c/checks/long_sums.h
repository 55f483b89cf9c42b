/* Sums of very many terms, of which each rounds the same way. Included by checks.h, once a
 * precision.
 */

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
