// The row-parallel sweep behind the product and all gradients: a block owns 64 rows, goes over the
// other points tile by tile, and adds up sums that no other block touches: no atomics, and the same
// bits every run. blockIdx.y is a slab of the other points; sums over slabs are added by sum.cu.
// Macros of the compilation: REAL, COLUMNS. May include tile.cuh only.
#pragma once
#include "tile.cuh"

const int ROWS = 4 * SIDE; // rows a block owns, and other points it takes at a time

// COLUMNS results a row: up to 3 are summed in registers, each thread over its own pairs; more go
// through shared memory, 16 or 32 at a time.
const bool IN_REGISTERS = COLUMNS <= 3;
const int HELD = IN_REGISTERS ? COLUMNS : COLUMNS / SIDE; // results a thread holds for each row

const int WEIGHTS_PITCH = ROWS + 16 / (int)sizeof(real); // rows stay 16-byte aligned

// At least so many blocks share a multiprocessor: bounds the registers, as far as none are spilled.
const int BLOCKS_PER_SM = sizeof(real) == 4 ? 2 : 1;

// What a sweep does with the pairs.
enum Sum {
    PRODUCT,         // result[r] = sum_c K[r, c] payload[c]
    KERNEL_GRADIENT, // result[r] = sum_c 2 gamma G[r, c] K[r, c] (payload[c] - owner[r]), G stored
    PRODUCT_GRADIENT // the same, with G[r, c] = row_factor[r] . column_factor[c]
};

struct Sweep {
    const real *owner, *other; // (owners, d), (others, d)
    int64 owners, others, d;
    const real *gamma, *amplitude; // one for each of y's rows, which are the owners or the others
    int64 gamma_step, amplitude_step;
    const real *payload; // (others, columns)
    int64 columns;
    const real *grad;                       // G (n, m)
    const real *row_factor, *column_factor; // (owners, inner), (others, inner)
    int64 inner;
    int64 slab;                // other points a slab holds, a multiple of ROWS
    real *result;              // (slabs, owners, columns)
    real *dgamma, *damplitude; // (slabs, owners); null unless y's rows are the owners
};

// The sum over the 16 threads that share rows: lanes 0-15 or 16-31 of a warp, in a fixed order.
__device__ __forceinline__ real sum_over_side(real value) {
#pragma unroll
    for (int step = SIDE / 2; step; step /= 2)
        value += __shfl_xor_sync(0xffffffffu, value, step);
    return value;
}

// Y_OWNS: the owners are y's rows (and the others x's); else the other way round.
template <Sum SUM, bool Y_OWNS> __device__ __forceinline__ void sweep(const Sweep &s) {
    // Slices are used until the tile is complete, weights only from then on.
    __shared__ union {
        Slices<4> slices;
        real weights[IN_REGISTERS ? 1 : ROWS][WEIGHTS_PITCH];
    } shared;
    __shared__ real payload[ROWS][COLUMNS];

    const int tx = threadIdx.x, ty = threadIdx.y;
    const int64 row_first = (int64)blockIdx.x * ROWS;
    const int64 row = row_first + ty * 4; // the first of this thread's four
    const int rows_here = existing(row, s.owners, 4);
    const int64 begin = blockIdx.y * s.slab;
    const int64 end = begin + s.slab < s.others ? begin + s.slab : s.others;
    const int64 chunks = IN_REGISTERS ? 1 : (s.columns + COLUMNS - 1) / COLUMNS;
    real *const result = s.result + blockIdx.y * s.owners * s.columns;

    real total[4][HELD], lost[4][HELD], dgamma[4], damplitude[4];
    real factor[4]; // of this thread's rows, or of its columns
#pragma unroll
    for (int r = 0; r < 4; ++r) {
        dgamma[r] = damplitude[r] = real(0);
#pragma unroll
        for (int h = 0; h < HELD; ++h)
            total[r][h] = lost[r][h] = real(0);
    }
    // Sums of tiles are added to sums of all: fewer roundings than one long sum. In the product,
    // whose terms may be many and of one sign, what is rounded off is added up as well.
    auto add_to_total = [&](int r, int h, real sum) {
        const real before = total[r][h];
        total[r][h] = before + sum;
        if (SUM == PRODUCT)
            lost[r][h] += sum - (total[r][h] - before);
    };
    // What multiplies exp(-gamma[j] D), and G with it: the columns' goes into the weights, the
    // rows' into their results.
    auto scale = [&](int64 j) {
        const real amplitude = s.amplitude[j * s.amplitude_step];
        return SUM == PRODUCT ? amplitude : 2 * s.gamma[j * s.gamma_step] * amplitude;
    };
    if (Y_OWNS) {
#pragma unroll
        for (int r = 0; r < 4; ++r)
            factor[r] =
                r < rows_here ? exponent_factor(s.gamma[(row + r) * s.gamma_step]) : real(0);
    }

    for (int64 column_first = begin; column_first < end; column_first += ROWS) {
        real tile[4][4], grad[4][4];
        pairwise<4, false>(tile, shared.slices, s.owner, row_first, s.owners, s.other, column_first,
                           end, s.d);
        if (SUM == PRODUCT_GRADIENT)
            pairwise<4, true>(grad, shared.slices, s.row_factor, row_first, s.owners,
                              s.column_factor, column_first, end, s.inner);
        const int64 column = column_first + tx * 4; // the first of this thread's four
        const int columns_here = existing(column, end, 4);
        real column_scale[4];
        if (!Y_OWNS) {
#pragma unroll
            for (int c = 0; c < 4; ++c) {
                const bool there = c < columns_here;
                factor[c] = there ? exponent_factor(s.gamma[(column + c) * s.gamma_step]) : real(0);
                column_scale[c] = there ? scale(column + c) : real(0);
            }
        }

        const real *const stored =
            s.grad + (Y_OWNS ? column * s.owners + row : row * s.others + column);
        // The pairs' weights take the place of their distances.
#pragma unroll
        for (int r = 0; r < 4; ++r) {
            real tile_dgamma = real(0), tile_damplitude = real(0);
#pragma unroll
            for (int c = 0; c < 4; ++c) {
                const bool there = r < rows_here && c < columns_here;
                const real distance = tile[r][c];
                real weight = exp2(factor[Y_OWNS ? r : c] * distance);
                if (SUM == KERNEL_GRADIENT)
                    weight *=
                        there ? stored[Y_OWNS ? c * s.owners + r : r * s.others + c] : real(0);
                if (SUM == PRODUCT_GRADIENT)
                    weight *= grad[r][c];
                if (SUM != PRODUCT && Y_OWNS && there) {
                    tile_damplitude += weight;
                    tile_dgamma -= weight * distance;
                }
                if (!Y_OWNS)
                    weight *= column_scale[c];
                tile[r][c] = there ? weight : real(0);
            }
            dgamma[r] += tile_dgamma;
            damplitude[r] += tile_damplitude;
        }

        if (!IN_REGISTERS) {
#pragma unroll
            for (int r = 0; r < 4; ++r) {
                Four four;
#pragma unroll
                for (int c = 0; c < 4; ++c)
                    four.v[c] = tile[r][c];
                *(Four *)&shared.weights[ty * 4 + r][tx * 4] = four;
            }
        }
        for (int64 chunk = 0; chunk < chunks; ++chunk) {
            const int64 chunk_first = chunk * COLUMNS;
            const int points_here = existing(column_first, end, ROWS);
            const int chunk_here = existing(chunk_first, s.columns, COLUMNS);
            const real *const corner = s.payload + column_first * s.columns + chunk_first;
            for (int e = thread_in_block(); e < ROWS * COLUMNS; e += SIDE * SIDE) {
                const int i = e / COLUMNS, k = e % COLUMNS;
                payload[i][k] =
                    i < points_here && k < chunk_here ? corner[i * s.columns + k] : real(0);
            }
            __syncthreads();

            // Result h of row r, of those that the thread holds; those beyond the last are not
            // there.
            const int held = IN_REGISTERS ? 0 : tx * HELD;
            const int64 first_entry = row * s.columns + chunk_first + held;
            auto entry = [&](int r, int h) { return first_entry + r * s.columns + h; };
            auto there = [&](int r, int h) { return r < rows_here && held + h < chunk_here; };
            auto own = [&](int r, int h) {
                return SUM != PRODUCT && there(r, h) ? s.owner[entry(r, h)] : real(0);
            };
            if (IN_REGISTERS) {
#pragma unroll
                for (int h = 0; h < HELD; ++h)
#pragma unroll
                    for (int r = 0; r < 4; ++r) {
                        const real from = own(r, h);
                        real sum = real(0);
#pragma unroll
                        for (int c = 0; c < 4; ++c) {
                            const real to = payload[tx * 4 + c][h];
                            sum += tile[r][c] * (SUM == PRODUCT ? to : to - from);
                        }
                        add_to_total(r, h, sum);
                    }
            } else {
                real from[4][HELD], sum[4][HELD];
#pragma unroll
                for (int r = 0; r < 4; ++r)
#pragma unroll
                    for (int h = 0; h < HELD; ++h)
                        from[r][h] = own(r, h), sum[r][h] = real(0);
#pragma unroll 2
                for (int c = 0; c < ROWS; c += 4) {
                    Four weights[4];
#pragma unroll
                    for (int r = 0; r < 4; ++r)
                        weights[r] = *(const Four *)&shared.weights[ty * 4 + r][c];
#pragma unroll
                    for (int q = 0; q < 4; ++q)
#pragma unroll
                        for (int h = 0; h < HELD; ++h) {
                            const real to = payload[c + q][tx * HELD + h];
#pragma unroll
                            for (int r = 0; r < 4; ++r)
                                sum[r][h] +=
                                    weights[r].v[q] * (SUM == PRODUCT ? to : to - from[r][h]);
                        }
                }
#pragma unroll
                for (int r = 0; r < 4; ++r)
#pragma unroll
                    for (int h = 0; h < HELD; ++h) {
                        if (chunks == 1) {
                            add_to_total(r, h, sum[r][h]);
                        } else if (there(r, h)) {
                            const real scaled = Y_OWNS ? sum[r][h] * scale(row + r) : sum[r][h];
                            const real before =
                                column_first == begin ? real(0) : result[entry(r, h)];
                            result[entry(r, h)] = before + scaled;
                        }
                    }
            }
            __syncthreads(); // payload and weights have been used
        }
    }

#pragma unroll
    for (int r = 0; r < 4; ++r) {
        const bool there = r < rows_here;
        const real row_scale = Y_OWNS && there ? scale(row + r) : real(1);
#pragma unroll
        for (int h = 0; h < HELD; ++h) {
            // Beside an infinite total, what was lost is not a number.
            const real all = isfinite(lost[r][h]) ? total[r][h] + lost[r][h] : total[r][h];
            const real sum = IN_REGISTERS ? sum_over_side(all) : all;
            const int64 k = IN_REGISTERS ? h : tx * HELD + h;
            const bool mine = chunks == 1 && (!IN_REGISTERS || tx == h) && k < s.columns;
            if (mine && there)
                result[(row + r) * s.columns + k] = row_scale * sum;
        }
        if (SUM != PRODUCT && Y_OWNS) {
            const real sum_dgamma = sum_over_side(dgamma[r]);
            const real sum_damplitude = sum_over_side(damplitude[r]);
            if (tx == 0 && there) {
                const int64 entry = blockIdx.y * s.owners + row + r;
                s.dgamma[entry] = s.amplitude[(row + r) * s.amplitude_step] * sum_dgamma;
                s.damplitude[entry] = sum_damplitude;
            }
        }
    }
}
