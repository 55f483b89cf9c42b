// The matrix-free product P = K W and its transpose, K^T Q: K is computed tile by tile in registers
// and never stored. Grid: (ceil(owners / 64), slabs). Macros of the compilation: REAL, COLUMNS.
// May include parameters.cuh, tile.cuh and sweep.cuh only.
#include "parameters.cuh"
#include "tile.cuh"

const int C = SINGLE ? 8 : 4; // other points that a thread computes pairs of at a time
#include "sweep.cuh"

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
