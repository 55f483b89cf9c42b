/* The product of the softmax of each row with weights, and its gradients. Included by checks.h,
 * once a precision.
 */

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
