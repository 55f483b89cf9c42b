// What the other kernels need done to arrays on the device: contiguous copies of strided ones, and
// sums in a fixed order, in double: these are the last of many additions. A sum may have a factor,
// a number on the device; null stands for 1. Macro of the compilation: REAL. May include tile.cuh
// only.
#include "tile.cuh"

const int THREADS = SIDE * SIDE;

// contiguous[i, j] = source at i * row_step + j * column_step bytes; steps may be 0 or negative.
extern "C" __global__ void __launch_bounds__(THREADS)
    copy_strided(const char *source, int64 row_step, int64 column_step, real *contiguous,
                 int64 rows, int64 columns) {
    const int64 stride = (int64)gridDim.x * THREADS;
    for (int64 e = (int64)blockIdx.x * THREADS + threadIdx.x; e < rows * columns; e += stride)
        contiguous[e] =
            *(const real *)(source + e / columns * row_step + e % columns * column_step);
}

// result[e] = factor * sum_s slabs[s, e], s in ascending order.
extern "C" __global__ void __launch_bounds__(THREADS)
    sum_slabs(const real *slabs, int64 count, int64 size, const real *factor, real *result) {
    const int64 stride = (int64)gridDim.x * THREADS;
    const double scale = factor ? *factor : 1;
    for (int64 e = (int64)blockIdx.x * THREADS + threadIdx.x; e < size; e += stride) {
        double sum = 0;
#pragma unroll 16 // loads on their way at once: results may be few, and slabs many
        for (int64 s = 0; s < count; ++s)
            sum += slabs[s * size + e];
        result[e] = (real)(scale * sum);
    }
}

// result[b] = scale * the sum of the values that block b of the grid comes to.
template <typename VALUE, typename SUM>
__device__ __forceinline__ void sum_block(const VALUE *values, int64 size, double scale,
                                          SUM *result) {
    __shared__ __align__(16) double sums[THREADS];
    const int64 stride = (int64)gridDim.x * THREADS;
    double sum = 0;
#pragma unroll 8
    for (int64 e = (int64)blockIdx.x * THREADS + threadIdx.x; e < size; e += stride)
        sum += values[e];
    sums[threadIdx.x] = sum;
    __syncthreads();
    for (int half = THREADS / 2; half; half /= 2) {
        if (threadIdx.x < half)
            sums[threadIdx.x] += sums[threadIdx.x + half];
        __syncthreads();
    }
    if (threadIdx.x == 0)
        result[blockIdx.x] = (SUM)(scale * sums[0]);
}

// The sum of all values: by blocks, then theirs by a single one.
extern "C" __global__ void __launch_bounds__(THREADS)
    sum_blocks(const real *values, int64 size, double *sums) {
    sum_block(values, size, 1, sums);
}
extern "C" __global__ void __launch_bounds__(THREADS)
    sum_all(const double *sums, int64 size, const real *factor, real *result) {
    sum_block(sums, size, factor ? *factor : 1, result);
}
