/* The matrix unit that some processors have beside their vector units (AMX), for products of
 * float32 matrices: it multiplies numbers of 8 bits, so each of ours is three of those.
 *
 * Of rows whose entries are of any size: the sum of three bfloat16 numbers, exactly. Of the nine
 * products of parts the three smallest are left out, each 2^-24 of the whole at most, so that sums
 * of products are as accurate as others of float32, at twice the vector units' rate (G. Henry,
 * P. T. P. Tang, A. Heinecke, Leveraging the bfloat16 artificial intelligence datatype for
 * higher-precision computations, 2019). The unit takes subnormal numbers for zeros, whoever uses it
 * sees to that.
 *
 * Of rows whose entries are rounded relative to the largest: three digits of an integer. The
 * products of digits are added up exactly, those of equal weight together, all but the smallest of
 * the nine; of many columns k, where those would add up, that too. A product takes half as long (H.
 * Ootomo, K. Ozaki, R. Yokota, DGEMM on integer matrix multiplication unit, 2024). Plain C, no
 * Python.
 */
#ifndef RBF_MATRIX_UNIT_H
#define RBF_MATRIX_UNIT_H

#include "target.h"

/* Rows of a tile and bytes of each: a tile of results is 16 x 16 numbers, its factors are 16 rows
 * of 32 parts of terms that follow each other, and 16 pairs of terms for as many columns. */
enum {
    RBF_UNIT_ROWS = 16,
    RBF_UNIT_ROW_BYTES = 64,
    RBF_UNIT_TILE_BYTES = RBF_UNIT_ROWS * RBF_UNIT_ROW_BYTES,
    RBF_UNIT_SIDE = 2 * RBF_UNIT_ROWS, /* rows and columns that are computed at a time; of parts: */
    RBF_UNIT_TERMS = 2 * RBF_UNIT_ROWS, /* of a step: two tiles of each part of both factors */
    RBF_UNIT_PART_BYTES = 2 * RBF_UNIT_TILE_BYTES,
    RBF_UNIT_STEP_BYTES = 3 * RBF_UNIT_PART_BYTES,
    /* Of digits: a tile is 16 rows of 64 terms, or 16 times four terms of as many columns. */
    RBF_DIGIT_TERMS = RBF_UNIT_ROW_BYTES,
    RBF_DIGIT_STEP_BYTES = 3 * RBF_UNIT_TILE_BYTES,
    RBF_DIGIT_SUMS = 4 /* of products of equal weight */
};

/* Of how many columns k, so that it pays; how many are few, of which the smallest products of
 * digits are left out; and at most, so that no sum of three products of digits is more than 2^31.
 */
#define RBF_UNIT_DEPTH 64
#define RBF_UNIT_DEPTH_FEW 2048
#define RBF_UNIT_DEPTH_LARGEST 32768

/* How many times the mean the largest square of a row may be for its numbers to be rounded as they
 * are: those of normal points are 7 to 15 times. */
#define RBF_UNIT_UNEQUAL 32

#if RBF_MATRIX_UNIT
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef uint32_t rbf_pairs __attribute__((vector_size(RBF_UNIT_ROW_BYTES), may_alias));
typedef float rbf_floats __attribute__((vector_size(RBF_UNIT_ROW_BYTES), may_alias));
typedef int32_t rbf_integers __attribute__((vector_size(RBF_UNIT_ROW_BYTES), may_alias));
typedef int8_t rbf_digits __attribute__((vector_size(RBF_UNIT_ROWS), may_alias));

/* The instructions, of tiles by their numbers (the compiler's header of them takes half a second to
 * read). */
#define RBF_TILE_LOAD(tile, from)                                                                  \
    __asm__ volatile("tileloadd (%0,%1), %%tmm" #tile::"r"(from), "r"((int64_t)RBF_UNIT_ROW_BYTES) \
                     : "memory")
#define RBF_TILE_STORE(tile, to, stride)                                                           \
    __asm__ volatile("tilestored %%tmm" #tile ", (%0,%1)" ::"r"(to), "r"(stride) : "memory")
#define RBF_TILE_CLEAR(tile) __asm__ volatile("tilezero %%tmm" #tile::)
#define RBF_TILE_MULTIPLY(rows, columns, sums)                                                     \
    __asm__ volatile("tdpbf16ps %%tmm" #columns ", %%tmm" #rows ", %%tmm" #sums::)
#define RBF_TILE_MULTIPLY_DIGITS(rows, columns, sums)                                              \
    __asm__ volatile("tdpbssd %%tmm" #columns ", %%tmm" #rows ", %%tmm" #sums::)

/* Whether the process may use the unit: the system gives leave, once for all its threads; the
 * environment variable RBF_OP_MATRIX_UNIT, if it is 0, does not. */
RBF_FUNCTION int rbf_matrix_unit(void) {
    const char *setting = getenv("RBF_OP_MATRIX_UNIT");
    const long request = 0x1023, tile_data = 18; /* ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA */
    return !(setting && strcmp(setting, "0") == 0) &&
           syscall(SYS_arch_prctl, request, tile_data) == 0;
}

/* Between these two a thread may use the unit: all eight tiles, whole ones. */
RBF_FUNCTION void rbf_begin_tiles(void) {
    struct {
        uint8_t palette, first_row, zeros[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } shapes;
    int i;
    memset(&shapes, 0, sizeof shapes);
    shapes.palette = 1;
    for (i = 0; i < 8; ++i) {
        shapes.row_bytes[i] = RBF_UNIT_ROW_BYTES;
        shapes.rows[i] = RBF_UNIT_ROWS;
    }
    __asm__ volatile("ldtilecfg %0" ::"m"(shapes));
}

RBF_INLINE void rbf_end_tiles(void) { __asm__ volatile("tilerelease" ::); }

/* 16 numbers as the sums of three of 8 bits each, which are the upper halves of the parts. Rounded
 * to nearest: numbers of 2^127 and more are not for this. */
RBF_INLINE void rbf_split(rbf_floats numbers, rbf_pairs parts[3]) {
    const rbf_pairs half = (rbf_pairs){0} + 0x8000, upper = (rbf_pairs){0} + 0xffff0000;
    parts[0] = ((rbf_pairs)numbers + half) & upper;
    numbers -= (rbf_floats)parts[0];
    parts[1] = ((rbf_pairs)numbers + half) & upper;
    numbers -= (rbf_floats)parts[1];
    parts[2] = ((rbf_pairs)numbers + half) & upper; /* but for subnormal ones no more is left */
}

/* Parts of two terms of 16 columns, in pairs. */
RBF_INLINE rbf_pairs rbf_pair(rbf_pairs first, rbf_pairs second) { return first >> 16 | second; }

/* Parts of 16 terms of a row, and of those that follow. */
RBF_INLINE rbf_pairs rbf_join(rbf_pairs first, rbf_pairs second) {
    typedef uint16_t halves __attribute__((vector_size(RBF_UNIT_ROW_BYTES), may_alias));
    const halves from = {1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31,
                         33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63};
#if defined(__GNUC__) && !defined(__clang__)
    return (rbf_pairs)__builtin_shuffle((halves)first, (halves)second, from);
#else
    halves joined = {0};
    int i;
    RBF_UNROLL
    for (i = 0; i < 32; ++i)
        joined[i] = i < 16 ? ((halves)first)[from[i]] : ((halves)second)[from[i] - 32];
    return (rbf_pairs)joined;
#endif
}

RBF_INLINE void rbf_clear_products(void) {
    RBF_TILE_CLEAR(0);
    RBF_TILE_CLEAR(1);
    RBF_TILE_CLEAR(2);
    RBF_TILE_CLEAR(3);
}

/* 32 x 32 sums of products, to rows so many bytes apart. */
RBF_INLINE void rbf_store_products(float *to, int64_t stride) {
    RBF_TILE_STORE(0, to, stride);
    RBF_TILE_STORE(1, to + RBF_UNIT_ROWS, stride);
    RBF_TILE_STORE(2, (char *)to + RBF_UNIT_ROWS * stride, stride);
    RBF_TILE_STORE(3, (char *)to + RBF_UNIT_ROWS * stride + RBF_UNIT_ROW_BYTES, stride);
}

#define RBF_LOAD_ROWS(part)                                                                        \
    RBF_TILE_LOAD(4, rows + (part) * RBF_UNIT_PART_BYTES);                                         \
    RBF_TILE_LOAD(5, rows + (part) * RBF_UNIT_PART_BYTES + RBF_UNIT_TILE_BYTES)
#define RBF_LOAD_COLUMNS(part)                                                                     \
    RBF_TILE_LOAD(6, columns + (part) * RBF_UNIT_PART_BYTES);                                      \
    RBF_TILE_LOAD(7, columns + (part) * RBF_UNIT_PART_BYTES + RBF_UNIT_TILE_BYTES)
#define RBF_MULTIPLY                                                                               \
    RBF_TILE_MULTIPLY(4, 6, 0);                                                                    \
    RBF_TILE_MULTIPLY(4, 7, 1);                                                                    \
    RBF_TILE_MULTIPLY(5, 6, 2);                                                                    \
    RBF_TILE_MULTIPLY(5, 7, 3)

/* Adds the products of 32 rows and 32 columns of some steps, the smallest of a step first. A tile
 * is stored each step, to where nobody reads it: without a store in between the results of more
 * than some 130 products are there 900 cycles late (measured on an Intel Xeon with 480 MB of L3
 * cache, which tells no more of its model; not a matter of memory, branches or the order of loads).
 */
RBF_INLINE void rbf_add_products(int64_t steps, const char *rows, const char *columns) {
    char unread[RBF_UNIT_ROW_BYTES] __attribute__((aligned(RBF_UNIT_ROW_BYTES)));
    int64_t step;
    for (step = 0; step < steps; ++step) {
        RBF_LOAD_ROWS(0);
        RBF_LOAD_COLUMNS(2);
        RBF_MULTIPLY;
        RBF_LOAD_COLUMNS(1);
        RBF_MULTIPLY;
        RBF_LOAD_ROWS(1);
        RBF_MULTIPLY;
        RBF_LOAD_COLUMNS(0);
        RBF_MULTIPLY;
        RBF_LOAD_ROWS(2);
        RBF_MULTIPLY;
        RBF_LOAD_ROWS(0);
        RBF_MULTIPLY;
        RBF_TILE_STORE(4, unread, (int64_t)0);
        rows += RBF_UNIT_STEP_BYTES;
        columns += RBF_UNIT_STEP_BYTES;
    }
}
#undef RBF_LOAD_ROWS
#undef RBF_LOAD_COLUMNS
#undef RBF_MULTIPLY

/* What a row's numbers are multiplied by to become integers of three digits, each of -128 to 127: a
 * power of two, from the largest of them. Returns what an integer's first digit stands for. */
RBF_INLINE float rbf_digit_scale(float largest, float *to_integer) {
    int exponent;
    frexp(largest + largest / 128, &exponent); /* three digits are somewhat less than 2^23 */
    exponent = exponent < -100 ? -100 : exponent;
    *to_integer = (float)ldexp(1, 23 - exponent);
    return (float)ldexp(1, exponent - 7);
}

/* Of 16 columns from k on numbers between -1/2 and 1/2, spread evenly over any of them. */
RBF_INLINE rbf_floats rbf_even_shifts(int64_t k) {
    const rbf_pairs lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const rbf_pairs turns = (lanes + (uint32_t)k) * 0x9e3779b9; /* by the golden ratio */
    return __builtin_convertvector((rbf_integers)turns, rbf_floats) * 0x1.ffep-33f;
}

/* 16 numbers, each less than 2^23 - 2^15 - 2^8, as digits: 16 bytes of each, the first one first.
 * Rounded to nearest after `shifts`, less than 1/2, are added: integers stay what they are. */
RBF_INLINE void rbf_split_digits(rbf_floats numbers, rbf_floats shifts, char *to) {
    const rbf_integers balanced = (rbf_integers){0} + 0x808080;
    const rbf_integers half = (rbf_integers)((rbf_floats){0} + 0.5f);
    rbf_integers integers = __builtin_convertvector(numbers, rbf_integers), sign;
    int digit;
    numbers = numbers - __builtin_convertvector(integers, rbf_floats) + shifts;
    sign = (rbf_integers)numbers & INT32_MIN;
    integers += __builtin_convertvector(numbers + (rbf_floats)(sign | half), rbf_integers);
    integers = (integers + balanced) ^ balanced; /* what a byte borrows, the next one lacks */
    RBF_UNROLL
    for (digit = 0; digit < 3; ++digit)
        *(rbf_digits *)(to + digit * RBF_UNIT_TILE_BYTES) =
            __builtin_convertvector(integers >> (16 - 8 * digit), rbf_digits);
}

#define RBF_LOAD_DIGIT(tile, from, digit)                                                          \
    RBF_TILE_LOAD(tile, (from) + (digit) * RBF_UNIT_TILE_BYTES)

/* Of 16 rows and 16 columns, products of two third digits, added to sums of 256 times their weight.
 */
RBF_FUNCTION __attribute__((noinline)) void rbf_add_third_digits(int64_t steps, const char *rows,
                                                                 const char *columns, int32_t *to,
                                                                 int64_t stride) {
    int32_t sums[RBF_UNIT_ROWS][RBF_UNIT_ROWS] __attribute__((aligned(RBF_UNIT_ROW_BYTES)));
    int64_t i;
    RBF_TILE_CLEAR(0);
    for (i = 0; i < steps; ++i, rows += RBF_DIGIT_STEP_BYTES, columns += RBF_DIGIT_STEP_BYTES) {
        RBF_LOAD_DIGIT(6, rows, 2);
        RBF_LOAD_DIGIT(7, columns, 2);
        RBF_TILE_MULTIPLY_DIGITS(6, 7, 0);
    }
    RBF_TILE_STORE(0, sums, (int64_t)RBF_UNIT_ROW_BYTES);
    for (i = 0; i < RBF_UNIT_ROWS; ++i) {
        rbf_integers *sum = (rbf_integers *)((char *)to + i * stride);
        *sum += (*(const rbf_integers *)sums[i] + 128) >> 8;
    }
}

/* Of 16 rows and 16 columns, sums of products of digits over some steps: of both first ones; of a
 * first and a second; of two seconds, or a first and a third; of a second and a third. To tables
 * so many entries apart, with rows of so many bytes. As to what nobody reads, see above. */
RBF_INLINE void rbf_digit_products(int64_t steps, const char *rows, const char *columns,
                                   int32_t *to, int64_t apart, int64_t stride) {
    char unread[RBF_UNIT_ROW_BYTES] __attribute__((aligned(RBF_UNIT_ROW_BYTES)));
    int64_t step;
    rbf_clear_products();
    for (step = 0; step < steps; ++step) {
        RBF_LOAD_DIGIT(4, rows, 0);
        RBF_LOAD_DIGIT(7, columns, 0);
        RBF_TILE_MULTIPLY_DIGITS(4, 7, 0);
        RBF_LOAD_DIGIT(5, rows, 1);
        RBF_TILE_MULTIPLY_DIGITS(5, 7, 1);
        RBF_LOAD_DIGIT(6, rows, 2);
        RBF_TILE_MULTIPLY_DIGITS(6, 7, 2);
        RBF_LOAD_DIGIT(7, columns, 1);
        RBF_TILE_MULTIPLY_DIGITS(4, 7, 1);
        RBF_TILE_MULTIPLY_DIGITS(5, 7, 2);
        RBF_TILE_MULTIPLY_DIGITS(6, 7, 3);
        RBF_LOAD_DIGIT(7, columns, 2);
        RBF_TILE_MULTIPLY_DIGITS(4, 7, 2);
        RBF_TILE_MULTIPLY_DIGITS(5, 7, 3);
        RBF_TILE_STORE(6, unread, (int64_t)0);
        rows += RBF_DIGIT_STEP_BYTES;
        columns += RBF_DIGIT_STEP_BYTES;
    }
    RBF_TILE_STORE(0, to, stride);
    RBF_TILE_STORE(1, to + apart, stride);
    RBF_TILE_STORE(2, to + 2 * apart, stride);
    RBF_TILE_STORE(3, to + 3 * apart, stride);
    if (__builtin_expect(steps * RBF_DIGIT_TERMS > RBF_UNIT_DEPTH_FEW, 0))
        rbf_add_third_digits(steps, rows - steps * RBF_DIGIT_STEP_BYTES,
                             columns - steps * RBF_DIGIT_STEP_BYTES, to + 3 * apart, stride);
}
#undef RBF_LOAD_DIGIT

#else
#define rbf_matrix_unit() 0
#define rbf_begin_tiles() ((void)0)
#define rbf_end_tiles() ((void)0)
#endif
#endif
