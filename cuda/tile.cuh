// Register tiles: squared distances (or inner products) of 16 p x 16 p pairs of rows, p x p a
// thread. The tile core of every kernel in this folder. Includes nothing, so that a run-time
// compilation starts no preprocessor over system headers; real (float or double) is a macro of the
// compilation. Direct differences: |x|^2 + |y|^2 - 2 x.y would lose all digits where points are
// close or far out.
#pragma once

typedef REAL real;
typedef long long int64; // sizes and offsets: arrays may hold more than 2^31 elements

const int SIDE = 16; // a block has 16 x 16 threads
const int DEPTH = 8; // columns of the points that go through shared memory at a time

struct __align__(16) Four {
    real v[4];
}; // moves as 16-byte loads and stores

__device__ __forceinline__ int thread_in_block() { return threadIdx.y * SIDE + threadIdx.x; }

// Which of the tile's rows (or columns) is number `q` of the thread at position `t`: groups of four
// neighbours, so that they move as Four, and neighbouring threads touch neighbouring groups.
__device__ __forceinline__ int place(int t, int q) { return q / 4 * (4 * SIDE) + t * 4 + q % 4; }

// How many of the `wanted` entries from `first` on exist, where there are `count`; may be negative.
// In 32 bits from here on: a thread has registers for few 64-bit numbers.
__device__ __forceinline__ int existing(int64 first, int64 count, int wanted) {
    return count - first < wanted ? (int)(count - first) : wanted;
}

// One slice of DEPTH columns of the tile's rows and of its columns, transposed. The four extra
// entries keep rows 16-byte aligned and spread a transposed store over the banks.
template <int PER_THREAD> struct Slices {
    real row_points[DEPTH][SIDE * PER_THREAD + 4];
    real column_points[DEPTH][SIDE * PER_THREAD + 4];
};

// slice[k][i] = points[first + i, k_first + k]; zero beyond the last point and the last column.
template <int PER_THREAD>
__device__ __forceinline__ void load_slice(real (*slice)[SIDE * PER_THREAD + 4],
                                           const real *__restrict__ points, int64 first,
                                           int64 count, int64 width, int64 k_first) {
    const int here = existing(first, count, SIDE * PER_THREAD);
    const int deep = existing(k_first, width, DEPTH);
    const real *const corner = points + first * width + k_first;
#pragma unroll
    for (int e = 0; e < PER_THREAD * DEPTH / SIDE; ++e) {
        const int element = thread_in_block() + e * (SIDE * SIDE);
        const int k = element % DEPTH, i = element / DEPTH;
        slice[k][i] = i < here && k < deep ? corner[i * width + k] : real(0);
    }
}

// One column k of the slice added to the tile: products of the entries, or squared differences.
template <int PER_THREAD, bool PRODUCTS>
__device__ __forceinline__ void add_column(real (&tile)[PER_THREAD][PER_THREAD],
                                           const Slices<PER_THREAD> &slices, int k) {
    real a[PER_THREAD], b[PER_THREAD];
#pragma unroll
    for (int g = 0; g < PER_THREAD; g += 4) {
        const Four four_a = *(const Four *)&slices.row_points[k][place(threadIdx.y, g)];
        const Four four_b = *(const Four *)&slices.column_points[k][place(threadIdx.x, g)];
#pragma unroll
        for (int q = 0; q < 4; ++q)
            a[g + q] = four_a.v[q], b[g + q] = four_b.v[q];
    }
#pragma unroll
    for (int r = 0; r < PER_THREAD; ++r)
#pragma unroll
        for (int c = 0; c < PER_THREAD; ++c) {
            if (PRODUCTS) {
                tile[r][c] += a[r] * b[c];
            } else {
                const real difference = a[r] - b[c];
                tile[r][c] += difference * difference;
            }
        }
}

// tile[r][c] = sum_k (rows[i, k] - columns[j, k])^2, or sum_k rows[i, k] columns[j, k], with
// i = row_first + place(threadIdx.y, r) and j = column_first + place(threadIdx.x, c).
// All threads of the block take part; the slices may be used for something else afterwards.
template <int PER_THREAD, bool PRODUCTS>
__device__ __forceinline__ void
pairwise(real (&tile)[PER_THREAD][PER_THREAD], Slices<PER_THREAD> &slices,
         const real *__restrict__ rows, int64 row_first, int64 row_count,
         const real *__restrict__ columns, int64 column_first, int64 column_count, int64 width) {
#pragma unroll
    for (int r = 0; r < PER_THREAD; ++r)
#pragma unroll
        for (int c = 0; c < PER_THREAD; ++c)
            tile[r][c] = real(0);
    for (int64 k_first = 0; k_first < width; k_first += DEPTH) {
        load_slice<PER_THREAD>(slices.row_points, rows, row_first, row_count, width, k_first);
        load_slice<PER_THREAD>(slices.column_points, columns, column_first, column_count, width,
                               k_first);
        __syncthreads();
        if (width - k_first >= DEPTH) {
#pragma unroll 4 // all eight would need more registers than two blocks can have
            for (int k = 0; k < DEPTH; ++k)
                add_column<PER_THREAD, PRODUCTS>(tile, slices, k);
        } else {
            const int deep = existing(k_first, width, DEPTH);
            for (int k = 0; k < deep; ++k)
                add_column<PER_THREAD, PRODUCTS>(tile, slices, k);
        }
        __syncthreads();
    }
}

// exp(-gamma D) = exp2(exponent_factor(gamma) D). Stays finite where gamma is, so that D = 0 gives
// exactly 1 for every finite gamma.
__device__ __forceinline__ real exponent_factor(real gamma) {
    const real factor = -gamma * real(1.4426950408889634); // log2(e)
    const real largest =
        sizeof(real) == 4 ? real(3.4028234663852886e+38f) : real(1.7976931348623157e+308);
    return isinf(factor) && !isinf(gamma) ? copysign(largest, factor) : factor;
}
