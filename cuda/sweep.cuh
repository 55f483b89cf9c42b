// The row-parallel sweep behind the product and all gradients: a block owns 64 rows, goes over the
// other points tile by tile, and adds up sums that no other block touches: no atomics, and the same
// bits every run. blockIdx.y is a slab of the other points; sums over slabs are added by arrays.cu.
// Few columns are summed over the pairs that a thread has, and then over threads. With many (more
// than 4) the weights of a tile go through shared memory, and the sums are a product of matrices.
// Macros of the compilation: REAL, COLUMNS (1, 4, 16 or 32): results a row that are summed at a
// time, all unless it is 32; and of the file that includes this, C. May include tile.cuh only.
#pragma once
#include "tile.cuh"

const int R = 4;             // rows that a thread computes pairs of, with C others
const int ROWS = SIDE * R;   // rows that a block owns
const int OTHERS = SIDE * C; // other points that it takes at a time
const bool MANY = COLUMNS > 4;
const int OWNED = MANY ? COLUMNS / SIDE : 1; // columns whose sums for R rows a thread has, if many
const int SHARED = 4 * SIDE;                 // other points whose weights all threads see, if many
// Those of them whose payload they see at a time: what fits beside the weights, twice.
const int PIECE = MANY ? (SINGLE ? 1024 : 512) / COLUMNS : 1;

// At least so many blocks share a multiprocessor: bounds the registers, as far as none are spilled.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ == 1000 // rbf_product_gradient_x would spill
const int BLOCKS_PER_SM = SINGLE ? 2 : 1;
#else
const int BLOCKS_PER_SM = SINGLE || !MANY ? 2 : 1;
#endif

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
    int64 slab;                // other points a slab holds, a multiple of OTHERS
    real *result;              // (slabs, owners, columns); of a product with more than COLUMNS
                               // columns as many slabs again, for what the first round off
    real *dgamma, *damplitude; // (slabs, owners); null unless y's rows are the owners
};

// Sums over the 16 threads that share rows (every other lane of a warp), in a fixed order: of COUNT
// sums (16, 8, 4) the thread at tile_x() = t gets number t * COUNT / 16, in values[0]. With each
// step a thread has half as many to work on.
template <int COUNT, int STEP = SIDE / 2>
__device__ __forceinline__ void scatter_sums(real *values) {
    if constexpr (COUNT > 1) {
        const bool upper = tile_x() & STEP;
#pragma unroll
        for (int i = 0; i < COUNT / 2; ++i) {
            const real sent = upper ? values[i] : values[i + COUNT / 2];
            const real kept = upper ? values[i + COUNT / 2] : values[i];
            values[i] = kept + __shfl_xor_sync(0xffffffffu, sent, 2 * STEP);
        }
    } else {
        values[0] += __shfl_xor_sync(0xffffffffu, values[0], 2 * STEP);
    }
    if constexpr (STEP > 1)
        scatter_sums<(COUNT > 1 ? COUNT / 2 : 1), STEP / 2>(values);
}

// transposed[k][i] = points[first + i, k], zero where there is none.
template <int P>
__device__ __forceinline__ void load_transposed(real (*transposed)[P + 4], const real *points,
                                                int64 first, int64 count, int64 columns) {
    const int points_here = existing(first, count, P);
    const real *const corner = points + first * columns;
    const int threads = SIDE * SIDE, rounds = (P * COLUMNS + threads - 1) / threads;
#pragma unroll 2 // more at once would need more registers than two blocks can have
    for (int e = 0; e < rounds; ++e) {
        const int element = thread_in_block() + e * threads;
        const int i = element / COLUMNS, k = element % COLUMNS;
        const bool there = i < points_here && k < columns;
        if (i < P)
            transposed[k][i] = there ? corner[i * columns + k] : real(0);
    }
}

// The tile's part of the stored G, zero where there is none. Y_OWNS: G is (others, owners), four
// rows of the tile are neighbours in memory; else it is (owners, others), and four columns are.
template <bool Y_OWNS>
__device__ __forceinline__ void load_grad(real (&grad)[R][C], const Sweep &s, int64 row,
                                          int rows_here, int64 column_first, int points_here) {
    const int64 m = Y_OWNS ? s.owners : s.others;
    const bool aligned = m % 4 == 0 && (unsigned long long)s.grad % sizeof(Four) == 0;
    const real *const corner = s.grad + (Y_OWNS ? column_first * m + row : row * m + column_first);
#pragma unroll
    for (int g = 0; g < C; g += 4)
#pragma unroll
        for (int a = 0; a < 4; ++a) {
            const int first = place(tile_x(), g);
            const bool line = Y_OWNS ? first + a < points_here : a < rows_here;
            const int there = Y_OWNS ? rows_here : points_here - first;
            const real *const stored = corner + (Y_OWNS ? (first + a) * m : a * m + first);
            Four four = {{0, 0, 0, 0}};
            if (line && aligned && there > 0) { // then groups of four end with the rows
                four = *(const Four *)stored;
            } else if (line) {
#pragma unroll
                for (int q = 0; q < 4; ++q)
                    if (q < there)
                        four.v[q] = stored[q];
            }
#pragma unroll
            for (int q = 0; q < 4; ++q)
                (Y_OWNS ? grad[q][g + a] : grad[a][g + q]) = four.v[q];
        }
}

// What all threads see of a tile with many columns.
struct __align__(16) Weighted {
    real weights[SHARED][ROWS + 4];  // that of row i and other point j at [j][i]
    real payload[2][PIECE][COLUMNS]; // one fills while the other is used
};
struct __align__(OWNED * sizeof(real) < 16 ? OWNED * sizeof(real) : 16) Owned {
    real v[OWNED];
}; // a thread's columns of the payload, tile_x() and every SIDE-th from there on

// sums[r][q] = sum_j weights[j][r] payload[j, column + q SIDE], or times (payload - own), over the
// `here` points from `first` on. All threads take part; the weights are read after a barrier, and
// everything has been used when it returns.
template <bool DIFFERENCES>
__device__ __forceinline__ void add_weighted(real (&sums)[R][OWNED], Weighted &shared,
                                             const real (&own)[R][OWNED], const real *payload,
                                             int64 first, int here, int64 chunk, int64 columns) {
    const int STEP = SIDE * SIDE / COLUMNS, LOADS = PIECE / STEP; // points apart, and of a thread
    const int i = thread_in_block() / COLUMNS, k = thread_in_block() % COLUMNS;
    const int stored = k % SIDE * OWNED + k / SIDE;
    const bool there = chunk + k < columns;
    const real *source = payload + (first + i) * columns + chunk + k;
    real next[LOADS];
    auto fetch = [&](int left) {
#pragma unroll
        for (int e = 0; e < LOADS; ++e)
            next[e] = there && i + e * STEP < left ? source[e * STEP * columns] : real(0);
        source += PIECE * columns;
    };
    auto store = [&](real(*piece)[COLUMNS]) {
#pragma unroll
        for (int e = 0; e < LOADS; ++e)
            piece[i + e * STEP][stored] = next[e];
    };
    fetch(here);
    store(shared.payload[0]);
#pragma unroll
    for (int r = 0; r < R; ++r)
#pragma unroll
        for (int q = 0; q < OWNED; ++q)
            sums[r][q] = real(0);
    __syncthreads();
    int now = 0; // the piece in use
#pragma unroll 1
    for (int begin = 0; begin < here; begin += PIECE) {
        const int left = here - begin - PIECE;
        if (left > 0)
            fetch(left);
        // With C = 8 half of the tile is still in registers, which more at once would need.
#pragma unroll(C == 4 ? 8 : 4)
        for (int j = 0; j < PIECE; ++j) {
            const Four weight = *(const Four *)&shared.weights[begin + j][tile_y() * R];
            const Owned to = *(const Owned *)&shared.payload[now][j][tile_x() * OWNED];
#pragma unroll
            for (int r = 0; r < R; ++r)
#pragma unroll
                for (int q = 0; q < OWNED; ++q)
                    sums[r][q] += weight.v[r] * (DIFFERENCES ? to.v[q] - own[r][q] : to.v[q]);
        }
        now ^= 1;
        if (left > 0)
            store(shared.payload[now]);
        __syncthreads();
    }
}

// Y_OWNS: the owners are y's rows (and the others x's); else the other way round.
template <Sum SUM, bool Y_OWNS> __device__ __forceinline__ void sweep(const Sweep &s) {
    const bool DIFFERENCES = SUM != PRODUCT;
    // With many columns, slices and weights take turns.
    const bool LARGER = MANY && sizeof(Weighted) > sizeof(Slices<R, C>);
    __shared__ __align__(16) char memory[LARGER ? sizeof(Weighted) : sizeof(Slices<R, C>)];
    Slices<R, C> &slices = *(Slices<R, C> *)memory;
    Weighted &shared = *(Weighted *)memory;
    __shared__ __align__(16) real payload[MANY ? 1 : COLUMNS][OTHERS + 4];
    __shared__ __align__(16) real own[DIFFERENCES && !MANY ? COLUMNS : 1][ROWS + 4];
    const int KNOWN = Y_OWNS ? ROWS : OTHERS;
    __shared__ __align__(16) real factors[KNOWN], amplitudes[KNOWN], rates[KNOWN]; // of y's rows

    const int tx = tile_x(), ty = tile_y(), me = thread_in_block();
    const int64 row_first = (int64)blockIdx.x * ROWS;
    const int64 row = row_first + ty * R; // the first of this thread's
    const int rows_here = existing(row, s.owners, R);
    const int64 begin = blockIdx.y * s.slab;
    const int64 end = begin + s.slab < s.others ? begin + s.slab : s.others;
    // Few columns: of the R * COLUMNS sums this thread holds one, of row `held_row`, column `held`.
    const int sum_held = tx * (R * COLUMNS) / SIDE;
    const int held_row = sum_held / COLUMNS, held = sum_held % COLUMNS;
    const bool holds = tx * (R * COLUMNS) % SIDE == 0 && held_row < rows_here;
    // Amplitudes and then rates, gamma, multiply G exp(-gamma D); the rates of rows, the results.
    // Not at once, since the product of the two may be out of range, and 2 comes last, since twice
    // gamma may be.
    auto scaled = [&](real sum, int r) {
        return SUM == PRODUCT ? sum : 2 * (Y_OWNS ? rates[ty * R + r] * sum : sum);
    };
    auto result_at = [&](int r, int64 k, int64 slab) {
        return s.result + (slab * s.owners + row + r) * s.columns + k;
    };

    const bool at_once = COLUMNS < 32 || s.columns <= COLUMNS; // else totals are in the result
    // Each thread has totals of its own, in what there is more of: in single precision that is
    // shared memory, in double registers.
    const int TOTALS = MANY ? R * OWNED : 1, LOST = SUM == PRODUCT ? TOTALS : 0;
    __shared__ __align__(16) real shared_totals[SINGLE ? TOTALS + LOST : 1][SIDE * SIDE];
    real own_totals[SINGLE ? 1 : TOTALS + LOST], parameter_total = real(0);
    auto total = [&](int e) -> real & { return SINGLE ? shared_totals[e][me] : own_totals[e]; };
#pragma unroll
    for (int e = 0; e < TOTALS + LOST; ++e)
        total(e) = real(0);
    // Sums of tiles are added to the sum of all: fewer roundings than one long sum. In the product,
    // whose terms may be many and of one sign, what is rounded off is added up as well.
    auto add_to_total = [&](real sum, int e) {
        const real before = total(e), after = before + sum;
        total(e) = after;
        if (SUM == PRODUCT)
            total(TOTALS + e) += sum - (after - before);
    };
    auto whole = [&](int e, int r) { // beside an infinite total, what was lost is not a number
        const real all = total(e), rest = SUM == PRODUCT ? total(TOTALS + e) : real(0);
        return scaled(isfinite(rest) ? all + rest : all, r);
    };

    for (int64 column_first = begin; column_first < end; column_first += OTHERS) {
        const int points_here = existing(column_first, end, OTHERS);
        // y's rows are the tile's columns, or always the same.
        if (me < KNOWN && (!Y_OWNS || column_first == begin)) {
            const int64 j = (Y_OWNS ? row_first : column_first) + me;
            const bool there = j < (Y_OWNS ? s.owners : end);
            const real gamma = there ? s.gamma[j * s.gamma_step] : real(0);
            factors[me] = exponent_factor(gamma);
            if (SUM == KERNEL_GRADIENT)
                amplitudes[me] = there ? s.amplitude[j * s.amplitude_step] : real(0);
            if (SUM != PRODUCT)
                rates[me] = gamma;
        }
        real tile[R][C], grad[R][C];
        // In single precision G has registers to be on its way in while distances are added up.
        if (SUM == KERNEL_GRADIENT && SINGLE)
            load_grad<Y_OWNS>(grad, s, row, rows_here, column_first, points_here);
        pairwise<R, C, false>(tile, slices, s.owner, row_first, s.owners, s.other, column_first,
                              end, s.d);
        if (SUM == PRODUCT_GRADIENT)
            pairwise<R, C, true>(grad, slices, s.row_factor, row_first, s.owners, s.column_factor,
                                 column_first, end, s.inner);

        if (SUM == KERNEL_GRADIENT && !SINGLE)
            load_grad<Y_OWNS>(grad, s, row, rows_here, column_first, points_here);
        if (points_here < OTHERS) { // padding shall count as points that coincide, without weight
#pragma unroll
            for (int c = 0; c < C; ++c)
                if (place(tx, c) >= points_here) {
#pragma unroll
                    for (int r = 0; r < R; ++r)
                        tile[r][c] = grad[r][c] = real(0);
                }
        }

        // The pairs' weights take the place of their distances.
        real parameters[2 * R]; // sums for damplitude, then for dgamma
#pragma unroll
        for (int r = 0; r < 2 * R; ++r)
            parameters[r] = real(0);
#pragma unroll
        for (int g = 0; g < C; g += 4) {
            const Four factor = *(const Four *)&factors[Y_OWNS ? ty * R : place(tx, g)];
            Four amplitude, rate;
            if (SUM == KERNEL_GRADIENT)
                amplitude = *(const Four *)&amplitudes[Y_OWNS ? ty * R : place(tx, g)];
            if (SUM != PRODUCT && !Y_OWNS)
                rate = *(const Four *)&rates[place(tx, g)];
#pragma unroll
            for (int r = 0; r < R; ++r) {
                real weight[4];
#pragma unroll
                for (int q = 0; q < 4; ++q)
                    weight[q] = factor.v[Y_OWNS ? r : q] * tile[r][g + q];
                exp2_all(weight);
#pragma unroll
                for (int q = 0; q < 4; ++q) {
                    // Of padding an infinite gamma or amplitude of the row makes NaN.
                    const bool there =
                        !Y_OWNS || points_here == OTHERS || place(tx, g + q) < points_here;
                    if (SUM != PRODUCT)
                        weight[q] *= grad[r][g + q];
                    weight[q] = there ? weight[q] : real(0);
                    if (SUM != PRODUCT && Y_OWNS)
                        parameters[r] += weight[q];
                    if (SUM == KERNEL_GRADIENT) // of a product it is 1
                        weight[q] *= there ? amplitude.v[Y_OWNS ? r : q] : real(0);
                    if (SUM != PRODUCT && Y_OWNS)
                        parameters[R + r] -= weight[q] * tile[r][g + q];
                    if (SUM != PRODUCT && !Y_OWNS)
                        weight[q] *= rate.v[q];
                    tile[r][g + q] = weight[q];
                }
            }
        }
        if (SUM != PRODUCT && Y_OWNS) {
            scatter_sums<2 * R>(parameters);
            parameter_total += parameters[0];
        }

        if constexpr (MANY) {
            auto share_weights = [&](int g) {
#pragma unroll
                for (int q = 0; q < 4; ++q) {
                    Four column;
#pragma unroll
                    for (int r = 0; r < R; ++r)
                        column.v[r] = tile[r][g + q];
                    *(Four *)&shared.weights[place(tx, q)][ty * R] = column;
                }
            };
            if (C == 4)
                share_weights(0);
#pragma unroll 1
            for (int64 chunk = 0; chunk < s.columns; chunk += COLUMNS) {
                // Of the first of this thread's results, and which of the others there are.
                // Worked out here each time: the compiler would keep the addresses all along.
                int x = tx, y = ty * R;
                asm volatile("" : "+r"(x), "+r"(y));
                const int64 corner = (row_first + y) * s.columns + chunk + x;
                const int columns_here = existing(chunk + x, s.columns, COLUMNS);
                real own_points[R][OWNED], sums[R][OWNED];
                if (DIFFERENCES) {
                    const real *from = s.owner + corner;
#pragma unroll
                    for (int r = 0; r < R; ++r, from += s.columns)
#pragma unroll
                        for (int q = 0; q < OWNED; ++q)
                            own_points[r][q] =
                                r < rows_here && q * SIDE < columns_here ? from[q * SIDE] : real(0);
                }
#pragma unroll
                for (int g = 0; g < C; g += 4) {
                    const int64 first = column_first + place(0, g);
                    const int here = existing(first, end, SHARED);
                    if (here <= 0)
                        break;
                    if (C > 4)
                        share_weights(g);
                    real part[R][OWNED];
                    add_weighted<DIFFERENCES>(part, shared, own_points, s.payload, first, here,
                                              chunk, s.columns);
#pragma unroll
                    for (int r = 0; r < R; ++r)
#pragma unroll
                        for (int q = 0; q < OWNED; ++q)
                            sums[r][q] = g ? sums[r][q] + part[r][q] : part[r][q];
                }
                const int64 size = s.owners * s.columns; // of a slab
                real *result = s.result + blockIdx.y * size + corner;
                const bool first = column_first == begin;
#pragma unroll
                for (int r = 0; r < R; ++r, result += s.columns)
#pragma unroll
                    for (int q = 0; q < OWNED; ++q)
                        if (at_once) {
                            add_to_total(sums[r][q], r * OWNED + q);
                        } else if (r < rows_here && q * SIDE < columns_here) {
                            real *const entry = result + q * SIDE;
                            const real before = first ? real(0) : *entry;
                            const real after = before + scaled(sums[r][q], r);
                            *entry = after;
                            if (SUM == PRODUCT) { // in slabs of their own, behind the others
                                real *const rest = entry + gridDim.y * size;
                                const real digits =
                                    (first ? real(0) : *rest) + (sums[r][q] - (after - before));
                                *rest = isfinite(digits) ? digits : real(0);
                            }
                        }
            }
        } else {
            load_transposed<OTHERS>(payload, s.payload, column_first, end, s.columns);
            if (DIFFERENCES && column_first == begin)
                load_transposed<ROWS>(own, s.owner, row_first, s.owners, s.columns);
            __syncthreads();
            real sums[R * COLUMNS];
#pragma unroll
            for (int k = 0; k < COLUMNS; ++k) {
                real from[R];
                if (DIFFERENCES) {
                    const Four four = *(const Four *)&own[k][ty * R];
#pragma unroll
                    for (int r = 0; r < R; ++r)
                        from[r] = four.v[r];
                }
#pragma unroll
                for (int r = 0; r < R; ++r)
                    sums[r * COLUMNS + k] = real(0);
#pragma unroll
                for (int g = 0; g < C; g += 4) {
                    const Four to = *(const Four *)&payload[k][place(tx, g)];
#pragma unroll
                    for (int q = 0; q < 4; ++q)
#pragma unroll
                        for (int r = 0; r < R; ++r)
                            sums[r * COLUMNS + k] +=
                                tile[r][g + q] * (DIFFERENCES ? to.v[q] - from[r] : to.v[q]);
                }
            }
            scatter_sums<R * COLUMNS>(sums);
            add_to_total(sums[0], 0);
        }
    }

    if constexpr (MANY) {
#pragma unroll
        for (int r = 0; r < R; ++r)
#pragma unroll
            for (int q = 0; q < OWNED; ++q)
                if (at_once && r < rows_here && tx + q * SIDE < s.columns)
                    *result_at(r, tx + q * SIDE, blockIdx.y) = whole(r * OWNED + q, r);
    } else if (holds && held < s.columns) {
        *result_at(held_row, held, blockIdx.y) = whole(0, held_row);
    }
    if (SUM != PRODUCT && Y_OWNS && tx % 2 == 0) { // holds number tx / 2 of the parameters' sums
        const int r = tx / 2 % R;
        const int64 entry = blockIdx.y * s.owners + row + r;
        if (r < rows_here && tx / 2 < R)
            s.damplitude[entry] = parameter_total;
        if (r < rows_here && tx / 2 >= R)
            s.dgamma[entry] = parameter_total;
    }
}
