/* The C kernels alone, without Python: both precisions against long double loops.
 *
 * Compiled as C and as C++, with all warnings as errors, under ASan and UBSan, for several targets:
 * see the Makefile. Exit status 0 and a last line "all checks passed" when all is well. An argument
 * N makes it one in N of the trials, for slow machines.
 */
#define RBF_WITH_FLOAT
#define RBF_WITH_DOUBLE
#define RBF_EXPANSION_ENTRIES 0 /* of small problems too */
#include "kernels.h"

#include <float.h>
#include <stdio.h>

enum { C_ORDER, FORTRAN, SLICED, REVERSED, BROADCAST, LAYOUTS };

/* How points lie: see check_distances. */
enum { SPREAD, FAR_OFF, PAIRED, HALFWAY, WILD, CLUSTERED, CENTRED, PLACES, UNEQUAL, ALIKE };

static long failures = 0;
static int share = 1; /* one in so many trials is made */

#define EXPECT(condition)                                                                          \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            ++failures;                                                                            \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                \
            if (failures > 20)                                                                     \
                exit(1);                                                                           \
        }                                                                                          \
    } while (0)

#define EXPECT_BELOW(value, bound)                                                                 \
    do {                                                                                           \
        const double expect_value = (value), expect_bound = (bound);                               \
        if (!(expect_value <= expect_bound)) {                                                     \
            fprintf(stderr, "%g > %g\n", expect_value, expect_bound);                              \
            EXPECT(expect_value <= expect_bound);                                                  \
        }                                                                                          \
    } while (0)

static void *checked_malloc(size_t bytes) {
    void *memory = malloc(bytes);
    if (memory == NULL) {
        fprintf(stderr, "the harness is out of memory\n");
        exit(2);
    }
    return memory;
}

/* xorshift64*: Vigna, "An experimental exploration of Marsaglia's xorshift generators" (2016). */
static uint64_t random_state = 88172645463325252ull;

static double random_uniform(void) {
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return (double)((random_state * 2685821657736338717ull) >> 11) * 0x1p-53;
}

static int64_t random_below(int64_t bound) { return (int64_t)(random_uniform() * (double)bound); }

static double random_normal(void) {
    double sum = -6;
    int i;
    for (i = 0; i < 12; ++i)
        sum += random_uniform();
    return sum;
}

/* The vector exponential for one D = x * x exactly as the kernel forms it, in the last vector of
 * those that are taken side by side. */
#define DEFINE_EXPONENTIAL(name, real, suffix)                                                     \
    static void name(real x, real gamma, real *result) {                                           \
        enum { LAST = RBF_STORED_EXPONENTIALS - 1 };                                               \
        coefficients_##suffix c;                                                                   \
        vector_##suffix vectors[RBF_STORED_EXPONENTIALS];                                          \
        memset(&c, 0, sizeof c);                                                                   \
        memset(vectors, 0, sizeof vectors);                                                        \
        set_coefficients_##suffix(&c, 0, gamma, 1);                                                \
        vectors[LAST][0] = x * x;                                                                  \
        scaled_exponentials_##suffix(vectors, LAST + 1, &c, 0, c.factor);                          \
        *result = vectors[LAST][0];                                                                \
    }
DEFINE_EXPONENTIAL(exponential_of_f32, float, f32)
DEFINE_EXPONENTIAL(exponential_of_f64, double, f64)

/* Ways to squared distances, each of which needs the one before. */
enum { BY_DIFFERENCES, BY_EXPANSION, BY_MATRIX_UNIT, WAYS };

/* Squared distances (n, m) by the tiles all kernels take them from, as far as `most` of the ways;
 * returns the one that was used. */
#define DEFINE_DISTANCES(name, real, suffix)                                                       \
    static int name(rbf_matrix x, rbf_matrix y, int most, real *to) {                              \
        points_##suffix points;                                                                    \
        rbf_workspace space = {NULL, 0, 0};                                                        \
        rbf_storage storage;                                                                       \
        int64_t row_panel, panel, i, j;                                                            \
        set_points_##suffix(&points, x, y);                                                        \
        points.expanded = points.expanded && most >= BY_EXPANSION;                                 \
        points.by_unit = points.by_unit && most >= BY_MATRIX_UNIT;                                 \
        take_points_##suffix(&points, &space, 1);                                                  \
        EXPECT(rbf_acquire(&space, &storage) == RBF_OK);                                           \
        take_points_##suffix(&points, &space, 1);                                                  \
        begin_points_##suffix(&points, 1);                                                         \
        for (row_panel = 0; row_panel < points.row_panels; ++row_panel)                            \
            pack_x_##suffix(&points, row_panel);                                                   \
        for (panel = 0; panel < points.panels; ++panel) {                                          \
            pack_y_##suffix(&points, panel);                                                       \
            for (row_panel = 0; row_panel < points.row_panels; ++row_panel) {                      \
                vector_##suffix tile[RBF_TILE_ROWS][RBF_TILE_VECTORS];                             \
                const real *entries = (const real *)tile;                                          \
                const int64_t row = row_panel * RBF_TILE_ROWS, column = panel * COLUMNS_##suffix;  \
                const strip_##suffix *strip = prepare_distances_##suffix(                          \
                    &points, row_panel, points.row_panels, panel, panel + 1);                      \
                distances_##suffix(&points, strip, row_panel, panel, tile, RBF_SUM_CHUNK);         \
                for (i = row; i < rbf_minimum(x.rows, row + RBF_TILE_ROWS); ++i)                   \
                    for (j = column; j < rbf_minimum(y.rows, column + COLUMNS_##suffix); ++j)      \
                        to[i * y.rows + j] = entries[(i - row) * COLUMNS_##suffix + j - column];   \
            }                                                                                      \
        }                                                                                          \
        rbf_release(&storage);                                                                     \
        return points.by_unit ? BY_MATRIX_UNIT : points.expanded ? BY_EXPANSION : BY_DIFFERENCES;  \
    }
DEFINE_DISTANCES(distances_of_f32, float, f32)
DEFINE_DISTANCES(distances_of_f64, double, f64)

#define CHECK_REAL float
#define CHECK(name) name##_check_f32
#define CHECK_FORWARD rbf_forward_f32
#define CHECK_GRADIENT rbf_gradient_f32
#define CHECK_MIXTURE rbf_mixture_f32
#define CHECK_MIXTURE_GRADIENT rbf_mixture_gradient_f32
#define CHECK_PRODUCT rbf_product_f32
#define CHECK_PRODUCT_GRADIENT rbf_product_gradient_f32
#define CHECK_OUTER_GRADIENT rbf_outer_gradient_f32
#define CHECK_LOG_SUM rbf_log_sum_f32
#define CHECK_LOG_SUM_GRADIENT rbf_log_sum_gradient_f32
#define CHECK_SOFTMAX rbf_softmax_f32
#define CHECK_SOFTMAX_GRADIENT rbf_softmax_gradient_f32
#define CHECK_EXPONENTIAL exponential_of_f32
#define CHECK_DISTANCES distances_of_f32
#define CHECK_GRADIENT_DEEP GRADIENT_DEEP_f32
#define CHECK_LIBRARY_EXP expf
#define CHECK_NEXT nextafterf
#define CHECK_EPSILON FLT_EPSILON
#define CHECK_LARGEST FLT_MAX
#define CHECK_TINY 1e-44f
#include "checks.h"
#undef CHECK_REAL
#undef CHECK
#undef CHECK_FORWARD
#undef CHECK_GRADIENT
#undef CHECK_MIXTURE
#undef CHECK_MIXTURE_GRADIENT
#undef CHECK_PRODUCT
#undef CHECK_PRODUCT_GRADIENT
#undef CHECK_OUTER_GRADIENT
#undef CHECK_LOG_SUM
#undef CHECK_LOG_SUM_GRADIENT
#undef CHECK_SOFTMAX
#undef CHECK_SOFTMAX_GRADIENT
#undef CHECK_EXPONENTIAL
#undef CHECK_DISTANCES
#undef CHECK_GRADIENT_DEEP
#undef CHECK_LIBRARY_EXP
#undef CHECK_NEXT
#undef CHECK_EPSILON
#undef CHECK_LARGEST
#undef CHECK_TINY

#define CHECK_REAL double
#define CHECK(name) name##_check_f64
#define CHECK_FORWARD rbf_forward_f64
#define CHECK_GRADIENT rbf_gradient_f64
#define CHECK_MIXTURE rbf_mixture_f64
#define CHECK_MIXTURE_GRADIENT rbf_mixture_gradient_f64
#define CHECK_PRODUCT rbf_product_f64
#define CHECK_PRODUCT_GRADIENT rbf_product_gradient_f64
#define CHECK_OUTER_GRADIENT rbf_outer_gradient_f64
#define CHECK_LOG_SUM rbf_log_sum_f64
#define CHECK_LOG_SUM_GRADIENT rbf_log_sum_gradient_f64
#define CHECK_SOFTMAX rbf_softmax_f64
#define CHECK_SOFTMAX_GRADIENT rbf_softmax_gradient_f64
#define CHECK_EXPONENTIAL exponential_of_f64
#define CHECK_DISTANCES distances_of_f64
#define CHECK_GRADIENT_DEEP GRADIENT_DEEP_f64
#define CHECK_LIBRARY_EXP exp
#define CHECK_NEXT nextafter
#define CHECK_EPSILON DBL_EPSILON
#define CHECK_LARGEST DBL_MAX
#define CHECK_TINY 5e-324
#include "checks.h"

/* Shares of so many tasks, and threads that take them, fewer than shares or as many. */
enum { SHARED_TASKS = 1000, SHARES = 4 };

typedef struct {
    rbf_shares shares;
    int taken[SHARED_TASKS];
} shared_tasks;

static void take_tasks(void *argument) {
    shared_tasks *all = (shared_tasks *)argument;
    int64_t task;
    while ((task = rbf_next_task(all->shares)) >= 0)
        __atomic_fetch_add(all->taken + task, 1, __ATOMIC_RELAXED);
}

/* Each is taken once, and the first thread takes its own share first. */
static void check_shares(void) {
    static const int64_t counts[] = {0, 1, 3, 4, 997, SHARED_TASKS};
    rbf_share of_thread[SHARES];
    size_t c;
    for (c = 0; c < sizeof counts / sizeof *counts; ++c) {
        int threads;
        for (threads = 1; threads <= SHARES; ++threads) {
            shared_tasks all;
            int64_t task;
            memset(&all, 0, sizeof all);
            all.shares.of_thread = of_thread;
            all.shares.threads = SHARES;
            rbf_share_out(all.shares, counts[c]);
            EXPECT(of_thread[0].next == 0 && of_thread[SHARES - 1].end == counts[c]);
            EXPECT(rbf_next_task(all.shares) == (counts[c] ? 0 : -1));
            rbf_share_out(all.shares, counts[c]);
            rbf_run(take_tasks, &all, threads);
            for (task = 0; task < SHARED_TASKS; ++task)
                EXPECT(all.taken[task] == (task < counts[c]));
        }
    }
}

#ifdef _OPENMP
static void sleep_for(void *nanoseconds) {
    const struct timespec time = {0, *(const long *)nanoseconds};
    nanosleep(&time, NULL);
}
#endif

/* Calls that are shorter than a thread was kept for do without threads, for a while that grows
 * where threads gain less than they lose. */
static void check_crowding(void) {
#ifdef _OPENMP
    enum { MILLISECOND = 1000000 };
    const int threads = omp_get_max_threads();
    long nanoseconds = 25 * MILLISECOND;
    int64_t patience;
    omp_set_num_threads(3);
    memset(&rbf_crowding, 0, sizeof rbf_crowding); /* this machine may be crowded, too */
    rbf_crowding.patience = 1;
    rbf_crowding.last_delay = 4 * MILLISECOND;
    rbf_note_call(MILLISECOND, 3, RBF_LATE - 1); /* no wait to speak of */
    rbf_note_call(2 * MILLISECOND, 3, 0); /* by one thread it would take longer than a wait */
    rbf_note_call(9 * MILLISECOND, 3, 2 * MILLISECOND); /* a small part of the call */
    EXPECT(rbf_crowding.gained == 2 * MILLISECOND && rbf_crowding.watched == RBF_WATCHED);
    rbf_note_call(3 * MILLISECOND, 3, 2 * MILLISECOND); /* as long as was gained */
    EXPECT(rbf_crowding.gained == 0 && rbf_thread_count(1e6) == 3);
    for (patience = 1; patience <= 2 * RBF_PATIENCE; patience *= 2) {
        rbf_note_call(MILLISECOND, 3, 0);
        rbf_note_call(12 * MILLISECOND, 3, 10 * MILLISECOND);
        EXPECT(rbf_thread_count(1e6) == 1);
        EXPECT(rbf_thread_count(1e9) == 3); /* some 100 milliseconds by one thread */
        EXPECT(rbf_crowding.to_lose == rbf_minimum(patience, RBF_PATIENCE) * 10 * MILLISECOND);
    }
    for (patience = 0; patience < 5; ++patience)
        rbf_note_call(MILLISECOND, 3, 0); /* 10 milliseconds gained */
    rbf_note_call(12 * MILLISECOND, 3, 10 * MILLISECOND);
    EXPECT(rbf_crowding.patience == 1 && rbf_thread_count(1e6) == 3);
    rbf_note_call(12 * MILLISECOND, 3, 10 * MILLISECOND);
    EXPECT(rbf_thread_count(1e6) == 1);
    rbf_run(sleep_for, &nanoseconds, 1);
    EXPECT(rbf_crowding.to_lose <= 0 && rbf_thread_count(1e6) == 3);
    for (; rbf_crowding.watched > 0; patience = 0)
        rbf_note_call(RBF_LATE - 1, 3, 0);
    rbf_run(sleep_for, &nanoseconds, 2);
    EXPECT(rbf_crowding.watched == RBF_WATCHED);
    omp_set_num_threads(threads);
#endif
}

/* Who finds the pool locked, by another thread, goes on without it. */
static void check_pool(void) {
    const size_t bytes = RBF_POOL_FROM;
    void *kept = rbf_pool_take(bytes), *other;
    rbf_pool_give(kept, bytes);
    EXPECT(rbf_pool.count == 1 && rbf_pool.kept == bytes);
    EXPECT(rbf_pool_lock());
    EXPECT(!rbf_pool_lock());
    other = rbf_pool_take(bytes);
    EXPECT(other != NULL && other != kept && rbf_pool.count == 1);
    rbf_pool_give(other, bytes);
    EXPECT(rbf_pool.count == 1 && rbf_pool_empty() == 0);
    rbf_pool_unlock();
    EXPECT(rbf_pool_take(bytes) == kept && rbf_pool.count == 0);
    rbf_pool_give(kept, bytes);
    EXPECT(rbf_pool_empty() == 1 && rbf_pool.count == 0 && rbf_pool.kept == 0);
}

int main(int count, char **arguments) {
    if (count > 1)
        share = atoi(arguments[1]);
    if (count > 2 || share < 1) {
        fprintf(stderr, "usage: harness [N], which makes one in N of the trials\n");
        return 2;
    }
    printf("%d-byte vectors, tile of %d rows\n", RBF_VECTOR_BYTES, RBF_TILE_ROWS);
    check_shares();
    check_crowding();
    check_pool();
    check_all_check_f32();
    check_all_check_f64();
    if (failures) {
        fprintf(stderr, "%ld checks failed\n", failures);
        return 1;
    }
    printf("all checks passed\n");
    return 0;
}
