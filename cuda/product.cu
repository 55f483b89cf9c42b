// The matrix-free product P = K W and its transpose, K^T Q: K is computed tile by tile in registers
// and never stored. Grid: (ceil(owners / 64), slabs). Macros of the compilation: REAL, COLUMNS.
// May include tile.cuh and sweep.cuh only.
#include "tile.cuh"

const int C = SINGLE ? 8 : 4; // other points that a thread computes pairs of at a time
#include "sweep.cuh"

#define PRODUCT_PARAMETERS                                                                         \
    const real *owner, const real *other, int64 owners, int64 others, int64 d, const real *gamma,  \
        int64 gamma_step, const real *amplitude, int64 amplitude_step, const real *payload,        \
        int64 columns, int64 slab, real *result
#define PRODUCT_SWEEP                                                                              \
    Sweep {                                                                                        \
        owner, other, owners, others, d, gamma, amplitude, gamma_step, amplitude_step, payload,    \
            columns, nullptr, nullptr, nullptr, 0, slab, result, nullptr, nullptr                  \
    }

// P[i] = sum_j K[i, j] W[j]: owner = x, other = y, payload = W (m, columns).
extern "C" __global__ void __launch_bounds__(SIDE *SIDE, BLOCKS_PER_SM)
    rbf_product(PRODUCT_PARAMETERS) {
    sweep<PRODUCT, false>(PRODUCT_SWEEP);
}

// sum_i K[i, j] Q[i]: owner = y, other = x, payload = Q (n, columns).
extern "C" __global__ void __launch_bounds__(SIDE *SIDE, BLOCKS_PER_SM)
    rbf_product_transposed(PRODUCT_PARAMETERS) {
    sweep<PRODUCT, true>(PRODUCT_SWEEP);
}
