// K[i, j] = amplitude[j] exp(-gamma[j] |x_i - y_j|^2): each block computes one tile of K and stores
// it once. float: 64 x 128 entries a block, 4 x 8 a thread; double: 64 x 64, 4 x 4 a thread.
// Macro of the compilation: REAL. May include tile.cuh only.
#include "tile.cuh"

const int R = 4, C = SINGLE ? 8 : 4; // rows and columns of a thread
const int ROWS = SIDE * R, COLUMNS = SIDE * C;

// x (n, d), y (m, d), K (n, m) in C order; gamma and amplitude: entry j is at
// j * step, so that step 0 takes a scalar. Grid: ceil(n / ROWS) * ceil(m / COLUMNS).
extern "C" __global__ void __launch_bounds__(SIDE *SIDE, 2)
    rbf_forward(const real *__restrict__ x, const real *__restrict__ y,
                const real *__restrict__ gamma, int64 gamma_step,
                const real *__restrict__ amplitude, int64 amplitude_step, real *__restrict__ K,
                int64 n, int64 m, int64 d) {
    __shared__ Slices<R, C> slices;
    __shared__ __align__(16) real factors[COLUMNS], amplitudes[COLUMNS];
    // Neighbouring blocks share rows of x. One grid dimension: the others end at 65535.
    const int64 column_tiles = (m + COLUMNS - 1) / COLUMNS;
    const int64 row_first = blockIdx.x / column_tiles * ROWS;
    const int64 column_first = blockIdx.x % column_tiles * COLUMNS;

    const bool aligned = m % 4 == 0 && (unsigned long long)K % sizeof(Four) == 0;
    Four *const fours = (Four *)K; // of an element of K, nvcc would make four stores
    // Where they do not fit, neighbouring lanes store neighbours: of its eight rows a warp turns
    // two at a time, in what the slices leave when they have been used.
    const int me = thread_in_block(), lane = me % 32;
    typedef Four Pair[2][SIDE + 1];
    static_assert(SIDE * SIDE / 32 * sizeof(Pair) <= sizeof(slices),
                  "a pair of rows for each warp");
    Pair &turned = ((Pair *)&slices)[me / 32];
    const int64 warp_first = row_first + me / 32 * (2 * R);
    const int rows_here = existing(warp_first, n, 2 * R);
    const int entries_here = existing(column_first + lane, m, COLUMNS);
    real *const corner = K + warp_first * m + column_first + lane;

    if (me < COLUMNS) { // once a block, and not only when the distances are there
        const int64 j = column_first + me;
        factors[me] = j < m ? exponent_factor(gamma[j * gamma_step]) : real(0);
        amplitudes[me] = j < m ? amplitude[j * amplitude_step] : real(0);
    }

    real tile[R][C];
    pairwise<R, C, false>(tile, slices, x, row_first, n, y, column_first, m, d);

#pragma unroll
    for (int g = 0; g < C; g += 4) {
        const int64 j = column_first + place(tile_x(), g);
        const int columns_here = existing(j, m, 4);
        const Four factor = *(const Four *)&factors[place(tile_x(), g)];
        const Four scale = *(const Four *)&amplitudes[place(tile_x(), g)];
#pragma unroll
        for (int r = 0; r < R; ++r) {
            const int64 i = row_first + place(tile_y(), r);
            Four values;
#pragma unroll
            for (int q = 0; q < 4; ++q)
                values.v[q] = factor.v[q] * tile[r][g + q];
            exp2_all(values.v);
#pragma unroll
            for (int q = 0; q < 4; ++q)
                values.v[q] *= scale.v[q];
            if (aligned) { // then rows of K start on 16 bytes, and groups end with them
                if (i < n && columns_here > 0)
                    fours[(i * m + j) / 4] = values;
            } else {
                turned[lane % 2][tile_x()] = values;
                __syncwarp();
#pragma unroll
                for (int q = 0; q < 4; ++q) { // 32 entries of 64, of the one row and of the other
                    const int row = r + q / 2 * R, entry = q % 2 * 32;
                    if (row < rows_here && g * SIDE + entry < entries_here)
                        corner[row * m + g * SIDE + entry] =
                            turned[q / 2][(entry + lane) / 4].v[lane % 4];
                }
                __syncwarp();
            }
        }
    }
}
