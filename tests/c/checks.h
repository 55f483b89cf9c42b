/* The checks of one precision against long double loops: all of them, in their order. Included
 * twice by harness.c with CHECK_REAL, CHECK(name), CHECK_FORWARD, CHECK_GRADIENT and so on defined.
 */

#include "checks/arrays.h"

#include "checks/matrices.h"

#include "checks/products.h"

#include "checks/log_sums.h"

#include "checks/softmaxes.h"

#include "checks/distances.h"

#include "checks/long_sums.h"

#include "checks/special_values.h"

#include "checks/close_points.h"

#include "checks/threads.h"

static void CHECK(check_all)(void) {
    static const int64_t depths[] = {64, 97, 300};
    static const int64_t sizes[] = {0, 1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 65};
    enum { SIZES = 15 };
    int round, layout;
    CHECK(check_exponential)();
    CHECK(check_special_values)();
    CHECK(check_special_gradient)();
    CHECK(check_within_a_region)();
    CHECK(check_modes)();
    if (share == 1)
        CHECK(check_rows_of_a_task)();
    CHECK(check_plain_distances)(33, 70, 5, 0);
    CHECK(check_plain_distances)(9, 130, 97, 2);
    for (round = 0; round < 120 / share; ++round) {
        const int64_t n = sizes[random_below(SIZES)], m = sizes[random_below(SIZES)];
        const int64_t d = random_below(20);
        CHECK(check_problem)(n, m, d, round % LAYOUTS, round % 2, 0);
        CHECK(check_problem)(n, n, d, round % LAYOUTS, 1, 1);
    }
    for (round = 0; round < 120 / share; ++round) {
        const int64_t n = sizes[random_below(SIZES)], m = sizes[random_below(SIZES)];
        CHECK(check_product)(n, m, random_below(20), sizes[random_below(SIZES)], round % LAYOUTS,
                             round % 2, 0);
        CHECK(check_product)(n, n, random_below(20), random_below(7), round % LAYOUTS, 1, 1);
    }
    for (round = 0; round < 40 / share; ++round) {
        const int64_t n = sizes[random_below(SIZES)], m = sizes[random_below(SIZES)];
        CHECK(check_mixture)(n, m, random_below(20), random_below(7), round % LAYOUTS, 0);
        CHECK(check_mixture)(n, n, random_below(20), random_below(7), round % LAYOUTS, 1);
    }
    for (round = 0; round < 40 / share; ++round)
        CHECK(check_log_sum)(sizes[random_below(SIZES)], sizes[random_below(SIZES)],
                             random_below(20), round % LAYOUTS, round % 2, round % 3 ? 1 : 40);
    CHECK(check_large_log_sum)();
    for (round = 0; round < 3 * PLACES; round += share)
        CHECK(check_distances)(depths[round / PLACES], round % PLACES, round % BROADCAST);
    CHECK(check_close_gradient)(PAIRED);
    CHECK(check_close_gradient)(CLUSTERED);
    CHECK(check_close_gradient)(WILD);
    for (round = 0; round < 4; ++round)
        CHECK(check_long_sum)(round / 2 ? 16 : 1, round % 2);
    CHECK(check_long_gradient)(0);
    CHECK(check_long_gradient)(1);
    for (layout = 0; layout < LAYOUTS; layout += share) { /* several blocks, waves and threads */
        CHECK(check_problem)(301, 213, 37, layout, layout % 2, 0);
        CHECK(check_problem)(9, 1501, 5, layout, layout % 2, 0);
        CHECK(check_problem)(1203, 5, 3, layout, layout % 2, 0);
        CHECK(check_problem)(277, 277, 33, layout, 1, 1);
        CHECK(check_problem)(277, 277, 97, layout, 1, 1);          /* mirrored */
        CHECK(check_problem)(150, 131, 97, layout, layout % 2, 0); /* expanded */
        CHECK(check_mixture)(301, 213, 37, 3, layout, 0);
        CHECK(check_mixture)(1203, 5, 3, 5, layout, 0);
        CHECK(check_mixture)(277, 277, 17, 2, layout, 1);
        CHECK(check_mixture)(150, 131, 97, 2, layout, 0); /* expanded */
        CHECK(check_product)(150, 131, 67, 3, layout, layout % 2, 0);
        CHECK(check_product)(143, 143, 67, 1, layout, 1, 1);
        CHECK(check_log_sum)(150, 131, 67, layout, layout % 2, 1);
        CHECK(check_product)(301, 213, 17, 3, layout, layout % 2, 0);
        CHECK(check_product)(9, 1501, 5, 40, layout, layout % 2, 0);
        CHECK(check_product)(403, 203, 3, 1, layout, layout % 2, 0);
        CHECK(check_product)(203, 103, 2, 21, layout, layout % 2, 0);
        CHECK(check_log_sum)(9, 1501, 5, layout, layout % 2, 1);
        CHECK(check_log_sum)(203, 73, 3, layout, layout % 2, 10);
        CHECK(check_product)(531, 531, 3, 1 + layout % 3, layout, 1, 1);
        CHECK(check_product)(277, 277, 33, 20, layout, 1, 1);
        CHECK(check_product)(277, 277, 97, 5, layout, 1, 1); /* expanded */
    }
    for (round = 0; round < 80 / share; ++round)
        CHECK(check_softmax)(sizes[random_below(SIZES)], sizes[random_below(SIZES)],
                             random_below(20), sizes[random_below(SIZES)], round % LAYOUTS,
                             round % 2, round % 3 ? 1 : 40);
    for (layout = 0; layout < LAYOUTS; layout += share) {
        CHECK(check_softmax)(150, 131, 67, 3, layout, layout % 2, 1);
        CHECK(check_softmax)(9, 1501, 5, 40, layout, layout % 2, 10);
        CHECK(check_softmax)(203, 1073, 3, 2, layout, layout % 2, 10);
    }
    CHECK(check_softmax)(9, 17001, 3, 2, 0, 0, 10); /* several blocks in a split */
    CHECK(check_softmax)(9, 17001, 3, 17, 1, 1, 10);
    for (round = 0; round < 3; ++round)
        CHECK(check_gradient_of_sizes)(round);
    for (round = 0; round < 4; ++round) /* mirrored and expanded: whole squares, and edges */
        CHECK(check_problem)(256 + round * 32 + round % 2 * 5, 256 + round * 32 + round % 2 * 5, 97,
                             C_ORDER, 1, 1);
    CHECK(check_problem)(16401, 17, 3, C_ORDER, 1, 0); /* sums of chunks of the rows of a task */
    if (share == 1)
        CHECK(check_problem)(16401, 17, 67, C_ORDER, 1, 0);
    CHECK(check_distances)(784, UNEQUAL, 0);
    CHECK(check_distances)(4160, ALIKE, 0);
    if (share == 1) { /* streamed: lines of tiles and others, squares and their edges, stages */
        CHECK(check_large_matrix)(2499, 2496, 3, 0, 0);
        CHECK(check_large_matrix)(2501, 2503, 3, 5, 0);
        CHECK(check_large_matrix)(1264, 1264, 2, 0, 1);
        CHECK(check_large_matrix)(1296, 1296, 20, 0, 1);
        CHECK(check_large_matrix)(1297, 1297, 20, 0, 1);
        CHECK(check_large_matrix)(1299, 1299, 5, 3, 1);
    }
}
