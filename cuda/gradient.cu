// Gradients of sum(G * K) with respect to x, y, gamma and amplitude, two sweeps: over the rows of x
// for dx, over those of y for the rest. G is stored, or for the gradient of the product P = K W the
// product of its factors, G = Q W^T, computed with each tile. Grid: (ceil(owners / 64), slabs).
// columns = d, or 0 where only dgamma and damplitude are wanted. Macros of the compilation: REAL,
// COLUMNS. May include parameters.cuh, tile.cuh and sweep.cuh only.
#include "parameters.cuh"
#include "tile.cuh"

const int C = 4; // other points that a thread computes pairs of at a time: K and G take registers
#include "sweep.cuh"

#define GRADIENT_SWEEP                                                                             \
    Sweep {                                                                                        \
        owner, other, owners, others, d, gamma, amplitude, gamma_step, amplitude_step, other,      \
            columns, grad, row_factor, column_factor, inner, slab, result, dgamma, damplitude      \
    }

// dx[i] = sum_j 2 gamma[j] G[i, j] K[i, j] (y[j] - x[i]): owner = x, other = y.
extern "C" __global__ void __launch_bounds__(SIDE *SIDE, BLOCKS_PER_SM)
    rbf_gradient_x(GRADIENT_PARAMETERS) {
    sweep<KERNEL_GRADIENT, false>(GRADIENT_SWEEP);
}

// dy[j] = sum_i 2 gamma[j] G[i, j] K[i, j] (x[i] - y[j]), dgamma[j] = -sum_i G K D and
// damplitude[j] = sum_i G exp(-gamma D): owner = y, other = x.
extern "C" __global__ void __launch_bounds__(SIDE *SIDE, BLOCKS_PER_SM)
    rbf_gradient_y(GRADIENT_PARAMETERS) {
    sweep<KERNEL_GRADIENT, true>(GRADIENT_SWEEP);
}

// The same two with G[i, j] = Q[i] . W[j].
extern "C" __global__ void __launch_bounds__(SIDE *SIDE, BLOCKS_PER_SM)
    rbf_product_gradient_x(GRADIENT_PARAMETERS) {
    sweep<PRODUCT_GRADIENT, false>(GRADIENT_SWEEP);
}
extern "C" __global__ void __launch_bounds__(SIDE *SIDE, BLOCKS_PER_SM)
    rbf_product_gradient_y(GRADIENT_PARAMETERS) {
    sweep<PRODUCT_GRADIENT, true>(GRADIENT_SWEEP);
}
