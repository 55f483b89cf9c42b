// The product and its gradient for points of few dimensions and few columns, where the exponential
// counts and not the distance: a thread has its rows and their results in registers, and goes over
// the other points of a slab, each of which all threads read at once. Otherwise as product.cu and
// gradient.cu: the same arguments, the same bits every run.
// Grid: ceil(owners / (THREADS * rows of a thread)) x slabs. Macros of the compilation: REAL,
// DIMS = d (1 to 4), COLUMNS (1 or 4, at least p). May include parameters.cuh, tile.cuh only.
#include "parameters.cuh"
#include "tile.cuh"

const int THREADS = 128; // one other point each is loaded at a time
const int RUN = 64;      // other points whose sum is added to the total
// Rows of a thread, THREADS apart: as many as the registers hold.
const int PRODUCT_ROWS = (SINGLE ? 4 : 2) * (COLUMNS == 1 ? 2 : 1);
const int GRADIENT_ROWS = SINGLE ? 4 : 2;
const int BLOCKS_PER_SM = SINGLE ? 4 : 2;

struct Narrow {
    const real *owner, *other; // (owners, DIMS), (others, DIMS)
    int64 owners, others;
    const real *gamma; // one for each of y's rows, which are the owners or the others
    int64 gamma_step;
    const real *row_values, *other_values; // (owners, columns), (others, columns)
    int64 columns, slab;
};

// Reads `count` numbers of row i of a matrix, zeros from column `width` or if the row is not there.
template <int COUNT>
__device__ __forceinline__ void read_row(real (&values)[COUNT], const real *matrix, int64 i,
                                         int64 width, bool there) {
#pragma unroll
    for (int k = 0; k < COUNT; ++k)
        values[k] = there && k < width ? matrix[i * width + k] : real(0);
}

// What `here` other points add to the sums of a thread's rows, of which the first HERE, or fewer,
// are there in the whole warp. All rows of a thread take the time of one as long as that waits for
// what it loads, but rows that are not there would take theirs as well.
template <bool GRADIENT, bool Y_OWNS, bool RATES, int HERE, int ROWS, int SUMS, int ENTRIES>
__device__ __forceinline__ void
add_points(const Four (*points)[ENTRIES], int here, int rows_here, const real (&x)[ROWS][DIMS],
           const real (&value)[ROWS][COLUMNS], const real (&factor)[ROWS], real (&sums)[ROWS][SUMS],
           real (&lost)[ROWS][SUMS]) {
    if constexpr (HERE > 1) {
        if (rows_here <= HERE / 2) {
            add_points<GRADIENT, Y_OWNS, RATES, HERE / 2>(points, here, rows_here, x, value, factor,
                                                          sums, lost);
            return;
        }
    } else if (rows_here <= 0) {
        return;
    }
    for (int run = 0; run < here; run += RUN) {
        const int run_end = here - run < RUN ? here : run + RUN;
        real part[HERE][SUMS];
#pragma unroll
        for (int r = 0; r < HERE; ++r)
#pragma unroll
            for (int h = 0; h < SUMS; ++h)
                part[r][h] = real(0);
#pragma unroll 2
        for (int j = run; j < run_end; ++j) {
            real y[4 * ENTRIES];
#pragma unroll
            for (int e = 0; e < ENTRIES; ++e) {
                const Four four = points[j][e];
#pragma unroll
                for (int q = 0; q < 4; ++q)
                    y[4 * e + q] = four.v[q];
            }
            real distance[HERE], weight[HERE];
#pragma unroll
            for (int r = 0; r < HERE; ++r) {
                distance[r] = real(0);
#pragma unroll
                for (int k = 0; k < DIMS; ++k)
                    distance[r] += (y[k] - x[r][k]) * (y[k] - x[r][k]);
                weight[r] = (Y_OWNS ? factor[r] : y[DIMS]) * distance[r];
            }
            exp2_all(weight);
#pragma unroll
            for (int r = 0; r < HERE; ++r) {
                if (GRADIENT) {
                    real grad = real(0);
#pragma unroll
                    for (int h = 0; h < COLUMNS; ++h)
                        grad += value[r][h] * y[DIMS + 1 + h];
                    weight[r] *= grad;
                    if (RATES)
                        weight[r] *= y[DIMS + 1 + COLUMNS];
#pragma unroll
                    for (int k = 0; k < DIMS; ++k)
                        part[r][k] += weight[r] * (y[k] - x[r][k]);
                    if (Y_OWNS)
                        part[r][SUMS - 1] -= weight[r] * distance[r];
                } else {
#pragma unroll
                    for (int h = 0; h < SUMS; ++h)
                        part[r][h] += weight[r] * y[DIMS + 1 + h];
                }
            }
        }
        // What is rounded off here is added up as well: terms may be many and of one sign.
#pragma unroll
        for (int r = 0; r < HERE; ++r)
#pragma unroll
            for (int h = 0; h < SUMS; ++h) {
                const real before = sums[r][h];
                sums[r][h] = before + part[r][h];
                if (!GRADIENT)
                    lost[r][h] += part[r][h] - (sums[r][h] - before);
            }
    }
}

// GRADIENT: sums[r][k] = sum_c weight (other[c][k] - owner[r][k]) with weight = K[r, c] times
// row_values[r] . other_values[c], with RATES times gamma[c] (last: the values times gamma may be
// out of range), and if Y_OWNS sums[r][DIMS] = -sum_c weight D.
// Else: sums[r][h] = sum_c K[r, c] other_values[c][h].
template <bool GRADIENT, bool Y_OWNS, bool RATES, int ROWS, int SUMS>
__device__ __forceinline__ void narrow(const Narrow &s, real (&sums)[ROWS][SUMS]) {
    const int ENTRIES = (DIMS + 1 + COLUMNS + RATES + 3) / 4; // Fours that hold a point
    __shared__ Four points[THREADS][ENTRIES];                 // coordinates, factor, values, rate

    const int64 row = (int64)blockIdx.x * (THREADS * ROWS) + threadIdx.x;
    const int64 begin = blockIdx.y * s.slab;
    const int64 end = begin + s.slab < s.others ? begin + s.slab : s.others;
    // Of the first thread of the warp, whose rows come first.
    const int rows_here =
        (existing(row - threadIdx.x % 32, s.owners, THREADS * ROWS) + THREADS - 1) / THREADS;
    real x[ROWS][DIMS], value[ROWS][COLUMNS], factor[ROWS], lost[ROWS][SUMS];
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
        const int64 i = row + r * THREADS;
        const bool there = i < s.owners;
        read_row(x[r], s.owner, i, DIMS, there);
        if (GRADIENT)
            read_row(value[r], s.row_values, i, s.columns, there);
        if (Y_OWNS)
            factor[r] = there ? exponent_factor(s.gamma[i * s.gamma_step]) : real(0);
#pragma unroll
        for (int h = 0; h < SUMS; ++h)
            sums[r][h] = lost[r][h] = real(0);
    }

    for (int64 first = begin; first < end; first += THREADS) {
        const int here = existing(first, end, THREADS);
        if (threadIdx.x < here) {
            const int64 j = first + threadIdx.x;
            real coordinates[DIMS], values[COLUMNS];
            read_row(coordinates, s.other, j, DIMS, true);
            read_row(values, s.other_values, j, s.columns, true);
            real *const point = points[threadIdx.x]->v;
            if (!Y_OWNS) {
                const real gamma = s.gamma[j * s.gamma_step];
                point[DIMS] = exponent_factor(gamma);
                if (RATES)
                    point[DIMS + 1 + COLUMNS] = gamma;
            }
#pragma unroll
            for (int k = 0; k < DIMS; ++k)
                point[k] = coordinates[k];
#pragma unroll
            for (int h = 0; h < COLUMNS; ++h)
                point[DIMS + 1 + h] = values[h];
        }
        __syncthreads();
        add_points<GRADIENT, Y_OWNS, RATES, ROWS>(points, here, rows_here, x, value, factor, sums,
                                                  lost);
        __syncthreads(); // the points have been used
    }
#pragma unroll
    for (int r = 0; r < ROWS; ++r)
#pragma unroll
        for (int h = 0; h < SUMS; ++h)
            if (isfinite(lost[r][h])) // beside an infinite sum, what was lost is not a number
                sums[r][h] += lost[r][h];
}

template <bool Y_OWNS> __device__ __forceinline__ void product(const Narrow &s, real *result) {
    const int ROWS = PRODUCT_ROWS;
    real sums[ROWS][COLUMNS];
    narrow<false, Y_OWNS, false>(s, sums);
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
        const int64 i = (int64)blockIdx.x * (THREADS * ROWS) + threadIdx.x + r * THREADS;
#pragma unroll
        for (int h = 0; h < COLUMNS; ++h)
            if (i < s.owners && h < s.columns)
                result[(blockIdx.y * s.owners + i) * s.columns + h] = sums[r][h];
    }
}

template <bool Y_OWNS>
__device__ __forceinline__ void gradient(const Narrow &s, int64 width, real *result, real *dgamma) {
    const int ROWS = GRADIENT_ROWS;
    real sums[ROWS][DIMS + Y_OWNS];
    const bool rates = !Y_OWNS && s.gamma_step; // else gamma multiplies the sums
    if (rates)
        narrow<true, false, true>(s, sums);
    else
        narrow<true, Y_OWNS, false>(s, sums);
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
        const int64 i = (int64)blockIdx.x * (THREADS * ROWS) + threadIdx.x + r * THREADS;
        if (i >= s.owners)
            continue;
        const real scale = rates ? real(1) : s.gamma[Y_OWNS ? i * s.gamma_step : 0];
        const int64 entry = blockIdx.y * s.owners + i;
#pragma unroll
        for (int k = 0; k < DIMS; ++k)
            if (k < width)
                result[entry * DIMS + k] = 2 * (scale * sums[r][k]); // twice gamma may be infinite
        if (Y_OWNS)
            dgamma[entry] = sums[r][DIMS];
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_PER_SM)
    rbf_product(PRODUCT_PARAMETERS) {
    product<false>(
        {owner, other, owners, others, gamma, gamma_step, nullptr, payload, columns, slab}, result);
}
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_PER_SM)
    rbf_product_transposed(PRODUCT_PARAMETERS) {
    product<true>(
        {owner, other, owners, others, gamma, gamma_step, nullptr, payload, columns, slab}, result);
}
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_PER_SM)
    rbf_product_gradient_x(GRADIENT_PARAMETERS) {
    gradient<false>(
        {owner, other, owners, others, gamma, gamma_step, row_factor, column_factor, inner, slab},
        columns, result, dgamma);
}
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_PER_SM)
    rbf_product_gradient_y(GRADIENT_PARAMETERS) {
    gradient<true>(
        {owner, other, owners, others, gamma, gamma_step, row_factor, column_factor, inner, slab},
        columns, result, dgamma);
}
