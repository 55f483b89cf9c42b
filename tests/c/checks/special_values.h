/* The exponential over its whole range; infinite, huge, tiny and undefined numbers that meet.
 * Included by checks.h, once a precision.
 */

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
