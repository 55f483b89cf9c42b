// Register tiles: squared distances (or inner products) of 16 R x 16 C pairs of rows, R x C a
// thread. The tile core of every kernel in this folder. Includes nothing, so that a run-time
// compilation starts no preprocessor over system headers; real (float or double) is a macro of the
// compilation. Direct differences: |x|^2 + |y|^2 - 2 x.y would lose all digits where points are
// close or far out.
#pragma once

typedef REAL real;
typedef long long int64; // sizes and offsets: arrays may hold more than 2^31 elements

const bool SINGLE = sizeof(real) == 4;
const int SIDE = 16; // a block has 16 x 16 threads
const int DEPTH = 8; // columns of the points that go through shared memory at a time
const int LOADED = SIDE * SIDE / DEPTH; // points that the block loads DEPTH columns of at once

struct __align__(16) Four {
    real v[4];
}; // moves as 16-byte loads and stores

__device__ __forceinline__ int thread_in_block() { return threadIdx.y * SIDE + threadIdx.x; }

// The thread's position in the tile, of SIDE x SIDE. Two neighbouring lanes of a warp read the same
// column points, so that 16-byte loads from shared memory take half as many passes; the even lanes
// have one row, the odd ones the next.
__device__ __forceinline__ int tile_x() { return thread_in_block() % 32 / 2; }
__device__ __forceinline__ int tile_y() {
    return thread_in_block() / 32 * 2 + thread_in_block() % 2;
}

// Which of the tile's rows (or columns) is number `q` of the thread at position `t`: groups of four
// neighbours, so that they move as Four, and neighbouring threads touch neighbouring groups.
__device__ __forceinline__ int place(int t, int q) { return q / 4 * (4 * SIDE) + t * 4 + q % 4; }

// How many of the `wanted` entries from `first` on exist, where there are `count`; may be negative.
// In 32 bits from here on: a thread has registers for few 64-bit numbers.
__device__ __forceinline__ int existing(int64 first, int64 count, int wanted) {
    return count - first < wanted ? (int)(count - first) : wanted;
}

// Slices of DEPTH columns of the tile's rows and of its columns, transposed; two, so that one fills
// while the other is used. The four extra entries keep rows 16-byte aligned and spread a transposed
// store over the banks.
template <int R, int C> struct __align__(16) Slices {
    real row_points[2][DEPTH][SIDE * R + 4];
    real column_points[2][DEPTH][SIDE * C + 4];
};

// The part of 16 P points that a thread carries from global to shared memory: column k of every
// LOADED-th point; zero beyond the last point and the last column. The loads are on their way while
// the slice before is used.
template <int P> struct Loader {
    const real *source; // of the first of its points, column k of the next slice
    int here;           // points there are from its first on
    real next[SIDE * P / LOADED];

    __device__ __forceinline__ Loader(const real *points, int64 first, int64 count, int64 width) {
        const int k = thread_in_block() % DEPTH, i = thread_in_block() / DEPTH;
        source = points + (first + i) * width + k;
        here = existing(first + i, count, SIDE * P);
    }
    // The next slice, which is `deep` columns deep.
    __device__ __forceinline__ void fetch(int64 width, int deep) {
        const bool there = thread_in_block() % DEPTH < deep;
#pragma unroll
        for (int e = 0; e < SIDE * P / LOADED; ++e)
            next[e] = there && e * LOADED < here ? source[e * (LOADED * width)] : real(0);
        source += DEPTH;
    }
    __device__ __forceinline__ void store(real (*slice)[SIDE * P + 4]) const {
#pragma unroll
        for (int e = 0; e < SIDE * P / LOADED; ++e)
            slice[thread_in_block() % DEPTH][thread_in_block() / DEPTH + e * LOADED] = next[e];
    }
};

// One column k of a slice added to the tile: products of the entries, or squared differences.
template <int R, int C, bool PRODUCTS>
__device__ __forceinline__ void add_column(real (&tile)[R][C], const real *row_points,
                                           const real *column_points) {
    real a[R], b[C];
#pragma unroll
    for (int g = 0; g < R; g += 4) {
        const Four four = *(const Four *)&row_points[place(tile_y(), g)];
#pragma unroll
        for (int q = 0; q < 4; ++q)
            a[g + q] = four.v[q];
    }
#pragma unroll
    for (int g = 0; g < C; g += 4) {
        const Four four = *(const Four *)&column_points[place(tile_x(), g)];
#pragma unroll
        for (int q = 0; q < 4; ++q)
            b[g + q] = four.v[q];
    }
#pragma unroll
    for (int r = 0; r < R; ++r)
#pragma unroll
        for (int c = 0; c < C; ++c) {
            if (PRODUCTS) {
                tile[r][c] += a[r] * b[c];
            } else {
                const real difference = a[r] - b[c];
                tile[r][c] += difference * difference;
            }
        }
}

// tile[r][c] = sum_k (rows[i, k] - columns[j, k])^2, or sum_k rows[i, k] columns[j, k], with
// i = row_first + place(tile_y(), r) and j = column_first + place(tile_x(), c).
// All threads of the block take part; the slices may be used for something else afterwards, and
// what was written to shared memory before can be read.
template <int R, int C, bool PRODUCTS>
__device__ __forceinline__ void pairwise(real (&tile)[R][C], Slices<R, C> &slices, const real *rows,
                                         int64 row_first, int64 row_count, const real *columns,
                                         int64 column_first, int64 column_count, int64 width) {
    Loader<R> row_loader(rows, row_first, row_count, width);
    Loader<C> column_loader(columns, column_first, column_count, width);
#pragma unroll
    for (int r = 0; r < R; ++r)
#pragma unroll
        for (int c = 0; c < C; ++c)
            tile[r][c] = real(0);
    const int deep = existing(0, width, DEPTH);
    row_loader.fetch(width, deep), column_loader.fetch(width, deep);
    row_loader.store(slices.row_points[0]), column_loader.store(slices.column_points[0]);
    __syncthreads();
    int now = 0; // the slice in use
    for (int64 left = width; left > 0; left -= DEPTH) {
        const int next_deep = existing(DEPTH, left, DEPTH); // of the slice after this one
        if (next_deep > 0)
            row_loader.fetch(width, next_deep), column_loader.fetch(width, next_deep);
        if (next_deep >= 0) {
#pragma unroll
            for (int k = 0; k < DEPTH; ++k)
                add_column<R, C, PRODUCTS>(tile, slices.row_points[now][k],
                                           slices.column_points[now][k]);
        } else {
#pragma unroll 1
            for (int k = 0; k < DEPTH + next_deep; ++k)
                add_column<R, C, PRODUCTS>(tile, slices.row_points[now][k],
                                           slices.column_points[now][k]);
        }
        now ^= 1;
        if (next_deep > 0)
            row_loader.store(slices.row_points[now]),
                column_loader.store(slices.column_points[now]);
        __syncthreads();
    }
}

// exp(-gamma D) = exp2(exponent_factor(gamma) D). Stays finite where gamma is, so that D = 0 gives
// exactly 1 for every finite gamma.
__device__ __forceinline__ real exponent_factor(real gamma) {
    const real factor = -gamma * real(1.4426950408889634); // log2(e)
    const real largest = SINGLE ? real(3.4028234663852886e+38f) : real(1.7976931348623157e+308);
    return isinf(factor) && !isinf(gamma) ? copysign(largest, factor) : factor;
}

// 2^e where the result is a normal number: the hardware's instruction alone. exp2f is the same with
// two multiplications and a comparison, for results that are denormal.
__device__ __forceinline__ float exp2_normal(float e) {
#ifdef __CUDA_EMULATOR__
    return emulator::ex2_approx_ftz(e);
#else
    float result;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(e));
    return result;
#endif
}
__device__ __forceinline__ double exp2_normal(double e) { return exp2(e); }

// Each entry 2^entry. In single precision the short way, unless one of them needs the long one.
template <int N> __device__ __forceinline__ void exp2_all(real (&values)[N]) {
    const real least_normal = SINGLE ? real(-126) : real(-1e300);
    real least = values[0];
#pragma unroll
    for (int i = 1; i < N; ++i)
        least = SINGLE ? fmin(least, values[i]) : real(0);
    if (!SINGLE || least >= least_normal) {
#pragma unroll
        for (int i = 0; i < N; ++i)
            values[i] = exp2_normal(values[i]);
    } else {
#pragma unroll
        for (int i = 0; i < N; ++i)
            values[i] = exp2(values[i]);
    }
}
