/* The product with weights and its gradients. Included by checks.h, once a
 * precision.
 */

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
