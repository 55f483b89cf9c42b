/* The names that depend on the precision: REAL, VECTOR, constants of the number format.
 *
 * Included by instantiate.h once a precision (RBF_DOUBLE 0 or 1); on purpose without a guard. Every
 * function name carries the suffix _f32 or _f64, so that both can live in one translation unit.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

#undef REAL
#undef INTEGER
#undef RBF_NAME
#undef VECTOR
#undef VECTOR_UNALIGNED
#undef INTEGER_VECTOR
#undef PIECE
#undef SIXTEEN_BYTES
#undef RBF_MANTISSA_BITS
#undef RBF_TABLE_BITS
#undef RBF_EXPONENT_BIAS
#undef RBF_EXPONENT_OFFSET
#undef RBF_EXPONENT_SCALE
#undef RBF_EXPONENT_LIMIT
#undef RBF_ROUND_SHIFT
#undef RBF_RATE_SMALLEST
#undef RBF_RATE_LARGEST
#undef RBF_AMPLITUDE_NEAR
#undef RBF_AMPLITUDE_FAR
#undef RBF_REAL_INFINITY
#undef RBF_NORM_SMALLEST
#undef RBF_NORM_LARGEST
#undef RBF_WITH_UNIT
#undef RBF_BY_UNIT

/* Whether this precision may have the matrix unit; whether points are for it. */
#define RBF_WITH_UNIT (RBF_MATRIX_UNIT && !RBF_DOUBLE)
#define RBF_BY_UNIT(points) (RBF_WITH_UNIT && __builtin_expect((points)->by_unit, 0))

#if RBF_DOUBLE
#define REAL double
#define INTEGER int64_t
#define RBF_NAME(base) base##_f64
#define RBF_MANTISSA_BITS 52
#define RBF_TABLE_BITS (RBF_TABLE ? 3 : 0) /* as many powers of two as a vector has lanes */
#define RBF_EXPONENT_BIAS 1023
#define RBF_EXPONENT_OFFSET 512 /* exponents are carried this much off zero: exponential.h */
#define RBF_EXPONENT_SCALE 0x1p512
#define RBF_EXPONENT_LIMIT 1500.0  /* 2^-1500 and 2^1500 are 0 and inf for any usual amplitude */
#define RBF_ROUND_SHIFT 0x1.8p52   /* adding it rounds to an integer */
#define RBF_RATE_SMALLEST 0x1p-960 /* rates outside are left to the C library's exp */
#define RBF_RATE_LARGEST 0x1p960
#define RBF_AMPLITUDE_NEAR 0x1p400 /* see set_coefficients */
#define RBF_AMPLITUDE_FAR 0x1p480
#define RBF_REAL_INFINITY ((double)INFINITY)
#define RBF_NORM_SMALLEST 0x1p-900 /* of squared norms: see distances.h */
#define RBF_NORM_LARGEST 0x1p1000
#else
#define REAL float
#define INTEGER int32_t
#define RBF_NAME(base) base##_f32
#define RBF_MANTISSA_BITS 23
#define RBF_TABLE_BITS (RBF_TABLE ? 4 : 0)
#define RBF_EXPONENT_BIAS 127
#define RBF_EXPONENT_OFFSET 64
#define RBF_EXPONENT_SCALE 0x1p64f
#define RBF_EXPONENT_LIMIT 185.0f
#define RBF_ROUND_SHIFT 0x1.8p23f
#define RBF_RATE_SMALLEST 0x1p-100f
#define RBF_RATE_LARGEST 0x1p100f
#define RBF_AMPLITUDE_NEAR 0x1p30f
#define RBF_AMPLITUDE_FAR 0x1p60f
#define RBF_REAL_INFINITY ((float)INFINITY)
#define RBF_NORM_SMALLEST 0x1p-90f
#define RBF_NORM_LARGEST 0x1p120f
#endif

/* Lanes of a vector and columns of a panel; compile-time constants of type int. */
enum {
    RBF_NAME(LANES) = (int)(RBF_VECTOR_BYTES / sizeof(REAL)),
    RBF_NAME(COLUMNS) = (int)(RBF_TILE_VECTORS * RBF_VECTOR_BYTES / sizeof(REAL)),
    /* Rows of as many row panels as fill whole vectors. */
    RBF_NAME(WHOLE_ROWS) = (int)RBF_TILE_ROWS > (int)RBF_NAME(LANES) ? (int)RBF_TILE_ROWS
                                                                     : (int)RBF_NAME(LANES)
};
#undef LANES
#undef COLUMNS
#define LANES RBF_NAME(LANES)
#define COLUMNS RBF_NAME(COLUMNS)

/* A row panel is whole vectors or half of one; the networks of shuffles are for so many lanes. */
typedef char RBF_NAME(
    panel_fits)[(RBF_TILE_ROWS % LANES == 0 || 2 * RBF_TILE_ROWS == LANES) && LANES <= 16 ? 1 : -1];
/* What loops over rows and vectors of a tile take for granted. */
typedef char RBF_NAME(tile_fits)[RBF_TILE_ROWS % RBF_STORED_EXPONENTIALS == 0 &&
                                         RBF_STORED_EXPONENTIALS % RBF_SUMMED_EXPONENTIALS == 0 &&
                                         RBF_TILE_VECTORS % RBF_SUMMED_EXPONENTIALS == 0
                                     ? 1
                                     : -1];

typedef REAL RBF_NAME(vector)
    __attribute__((vector_size(RBF_VECTOR_BYTES), aligned(RBF_VECTOR_BYTES), may_alias));
typedef REAL RBF_NAME(vector_unaligned)
    __attribute__((vector_size(RBF_VECTOR_BYTES), aligned(sizeof(REAL)), may_alias));
typedef INTEGER RBF_NAME(integer_vector)
    __attribute__((vector_size(RBF_VECTOR_BYTES), aligned(RBF_VECTOR_BYTES), may_alias));
/* As many entries as a row panel has rows, or as a panel has columns, which is less on some. */
enum {
    RBF_NAME(PIECE_ENTRIES) = (int)RBF_TILE_ROWS < (int)COLUMNS ? (int)RBF_TILE_ROWS : (int)COLUMNS
};
typedef REAL RBF_NAME(piece) __attribute__((vector_size(RBF_NAME(PIECE_ENTRIES) * sizeof(REAL)),
                                            aligned(sizeof(REAL)), may_alias));
typedef REAL RBF_NAME(sixteen_bytes) __attribute__((vector_size(16), aligned(16), may_alias));
#define VECTOR RBF_NAME(vector)
#define VECTOR_UNALIGNED RBF_NAME(vector_unaligned)
#define INTEGER_VECTOR RBF_NAME(integer_vector)
#define PIECE RBF_NAME(piece)
#define SIXTEEN_BYTES RBF_NAME(sixteen_bytes)

RBF_INLINE VECTOR RBF_NAME(load)(const REAL *from) { return *(const VECTOR *)from; }

/* Of a vector that several instructions use: compilers would make it an operand of each. */
RBF_INLINE VECTOR RBF_NAME(load_once)(const REAL *from) {
    VECTOR loaded = RBF_NAME(load)(from);
    RBF_KEEP(loaded);
    return loaded;
}

RBF_INLINE VECTOR RBF_NAME(load_unaligned)(const REAL *from) {
    return *(const VECTOR_UNALIGNED *)from;
}

RBF_INLINE void RBF_NAME(store)(REAL *to, VECTOR value) { *(VECTOR *)to = value; }

RBF_INLINE void RBF_NAME(store_unaligned)(REAL *to, VECTOR value) {
    *(VECTOR_UNALIGNED *)to = value;
}

/* a < b ? a : b lane by lane: b where either is NaN, as the x86 minimum instructions do. */
RBF_INLINE VECTOR RBF_NAME(minimum)(VECTOR a, VECTOR b) {
#ifdef __cplusplus
    return a < b ? a : b;
#else
    const INTEGER_VECTOR less = (INTEGER_VECTOR)(a < b);
    return (VECTOR)(((INTEGER_VECTOR)a & less) | ((INTEGER_VECTOR)b & ~less));
#endif
}

/* a * b + c as vectors have it: rounded once if that is what the target does. */
RBF_INLINE REAL RBF_NAME(multiply_add)(REAL a, REAL b, REAL c) {
#if !RBF_FUSED
    return a * b + c;
#elif RBF_DOUBLE
    return __builtin_fma(a, b, c);
#else
    return __builtin_fmaf(a, b, c);
#endif
}

/* Sum of the lanes, always in the same order. */
RBF_INLINE REAL RBF_NAME(lane_sum)(const REAL *lanes) {
    const SIXTEEN_BYTES *part = (const SIXTEEN_BYTES *)lanes;
    SIXTEEN_BYTES sum = part[0];
    int q;
    RBF_UNROLL
    for (q = 1; q < RBF_VECTOR_BYTES / 16; ++q)
        sum += part[q];
#if RBF_DOUBLE
    return sum[0] + sum[1];
#else
    return (sum[0] + sum[2]) + (sum[1] + sum[3]);
#endif
}

RBF_INLINE REAL RBF_NAME(entry)(rbf_vector vector, int64_t index) {
    REAL value;
    memcpy(&value, vector.data + index * vector.stride, sizeof value);
    return value;
}

RBF_INLINE REAL RBF_NAME(matrix_entry)(const rbf_matrix *matrix, int64_t i, int64_t j) {
    return *(const REAL *)(matrix->data + i * matrix->row_stride + j * matrix->column_stride);
}
