// K[i, j] = amplitude[j] exp(-gamma[j] |x_i - y_j|^2): each block computes one tile of K and stores
// it once. float: 128 x 128 entries a block, 8 x 8 a thread; double: 64 x 64, 4 x 4 a thread.
// Macro of the compilation: REAL. May include tile.cuh only.
#include "tile.cuh"

const int PER_THREAD = sizeof(real) == 4 ? 8 : 4;
const int TILE = SIDE * PER_THREAD;

// x (n, d), y (m, d), K (n, m) in C order, K 16-byte aligned; gamma and amplitude: entry j is at
// j * step, so that step 0 takes a scalar. Grid: ceil(n / TILE) * ceil(m / TILE) blocks.
extern "C" __global__ void __launch_bounds__(SIDE *SIDE, 2)
    rbf_forward(const real *__restrict__ x, const real *__restrict__ y,
                const real *__restrict__ gamma, int64 gamma_step,
                const real *__restrict__ amplitude, int64 amplitude_step, real *__restrict__ K,
                int64 n, int64 m, int64 d) {
    __shared__ Slices<PER_THREAD> slices;
    // Neighbouring blocks share rows of x. One grid dimension: the others end at 65535.
    const int64 column_tiles = (m + TILE - 1) / TILE;
    const int64 row_first = blockIdx.x / column_tiles * TILE;
    const int64 column_first = blockIdx.x % column_tiles * TILE;

    real tile[PER_THREAD][PER_THREAD];
    pairwise<PER_THREAD, false>(tile, slices, x, row_first, n, y, column_first, m, d);

#pragma unroll
    for (int g = 0; g < PER_THREAD; g += 4) {
        const int64 j = column_first + place(threadIdx.x, g);
        const int columns_here = existing(j, m, 4);
        real factor[4], scale[4];
#pragma unroll
        for (int q = 0; q < 4; ++q) {
            const bool there = q < columns_here;
            factor[q] = there ? exponent_factor(gamma[(j + q) * gamma_step]) : real(0);
            scale[q] = there ? amplitude[(j + q) * amplitude_step] : real(0);
        }
#pragma unroll
        for (int r = 0; r < PER_THREAD; ++r) {
            const int64 i = row_first + place(threadIdx.y, r);
            Four values;
#pragma unroll
            for (int q = 0; q < 4; ++q)
                values.v[q] = scale[q] * exp2(factor[q] * tile[r][g + q]);
            if (i >= n)
                continue;
            if (m % 4 == 0) { // then rows of K start on 16 bytes, and groups end with them
                if (columns_here > 0)
                    *(Four *)&K[i * m + j] = values;
            } else {
#pragma unroll
                for (int q = 0; q < 4; ++q)
                    if (q < columns_here)
                        K[i * m + j + q] = values.v[q];
            }
        }
    }
}
