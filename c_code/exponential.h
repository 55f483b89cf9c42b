/* amplitude * exp(-gamma * D) for a vector of squared distances: full range, exp to one ulp.
 *
 * 2^t with t = rate * D, rate = -gamma log2(e) as an unevaluated sum of two numbers, so that the
 * only error in t is that of D. n = round(t) by adding a large number, p(t - n) by a minimax
 * polynomial (Remez exchange in 60 digits, refitted after each coefficient is rounded, p(0) = 1),
 * times 2^n made from the low bits of that same large sum. So that results may underflow gradually,
 * or overflow, in one rounding, 2^(n + offset) is made, which is always a normal number, and
 * 2^-offset is folded into the amplitude. NaN passes through all of it. Included once a precision
 * by instantiate.h.
 *
 * Columns whose gamma or amplitude do not fit this scheme (inf, NaN, absurdly large or small) are
 * marked `special` and left to the C library's exp.
 *
 * With AVX-512, which looks lanes up in a register, n counts 16ths (8ths in float64): 2^(n/16) =
 * 2^whole T, T of 16 entries and a remainder, and p is shorter (P. T. P. Tang, Table-driven
 * implementation of the exponential function in IEEE floating-point arithmetic, ACM TOMS 15, 1989).
 *
 * Without fused multiply-add rate * D cannot be had to full precision: rate is then -gamma, and t
 * is found from -gamma D (rounded, as NumPy has it) by the reduction of Cody and Waite (Software
 * Manual for the Elementary Functions, 1980), with ln 2 in two parts; at most two ulp.
 */
typedef struct __attribute__((aligned(RBF_ALIGNMENT))) {
    REAL rate[COLUMNS];     /* -gamma log2(e) 2^RBF_TABLE_BITS, high part (unfused: -gamma) */
    REAL rate_low[COLUMNS]; /* low part */
    REAL limit[COLUMNS];    /* D is cut to it: exp is 0 there, or inf if gamma is negative */
    REAL shift[COLUMNS];    /* large number with exponent bias and offset in its low bits */
    REAL unit[COLUMNS];     /* 2^-offset */
    REAL factor[COLUMNS];   /* amplitude * 2^-offset */
    REAL gamma[COLUMNS];
    REAL amplitude[COLUMNS];
    int special;
} RBF_NAME(coefficients);

/* Fills entry c for one column. */
RBF_INLINE void RBF_NAME(set_coefficients)(RBF_NAME(coefficients) * to, int c, REAL gamma,
                                           REAL amplitude) {
#if !RBF_FUSED
    const REAL rate = -gamma, rate_low = 0;
#elif RBF_DOUBLE
    const double log2e = 0x1.71547652b82fep+0, log2e_low = 0x1.777d0ffda0d24p-56;
    const double rate = -gamma * log2e;
    const double rate_low = fma(-gamma, log2e, -rate) - gamma * log2e_low;
#else
    const double exact = -(double)gamma * 0x1.71547652b82fep+0;
    const float rate = (float)exact;
    const float rate_low = (float)(exact - (double)rate);
#endif
    const REAL per_unit = RBF_FUSED ? 1 : (REAL)0.69; /* of rate, of a power of two: ln 2 or less */
    const REAL size = rate < 0 ? -rate : rate;
    const REAL height = amplitude < 0 ? -amplitude : amplitude;
    const int growing = rate > 0;
    /* The amplitude must leave the last product in range, and may not undo the limit below. */
    const REAL smallest = 1 / (growing ? RBF_AMPLITUDE_NEAR : RBF_AMPLITUDE_FAR);
    const REAL largest = growing ? RBF_AMPLITUDE_FAR : RBF_AMPLITUDE_NEAR;
    const int usual = (size == 0 || (size > RBF_RATE_SMALLEST && size < RBF_RATE_LARGEST)) &&
                      ((height > smallest && height < largest) || (height == 0 && !growing));
    const REAL offset = growing ? -RBF_EXPONENT_OFFSET : RBF_EXPONENT_OFFSET;
    to->gamma[c] = gamma;
    to->amplitude[c] = amplitude;
    if (!usual)
        to->special = 1;
    to->rate[c] = rate * (1 << RBF_TABLE_BITS);
    to->rate_low[c] = size == 0 ? 0 : rate_low * (1 << RBF_TABLE_BITS);
    to->limit[c] = size == 0 ? RBF_REAL_INFINITY : RBF_EXPONENT_LIMIT * per_unit / size;
    to->shift[c] = RBF_ROUND_SHIFT + (RBF_EXPONENT_BIAS + offset) * (1 << RBF_TABLE_BITS);
    to->unit[c] = growing ? RBF_EXPONENT_SCALE : 1 / RBF_EXPONENT_SCALE;
    to->factor[c] = amplitude * to->unit[c];
}

/* Entry 0 for all columns. */
RBF_INLINE void RBF_NAME(repeat_coefficients)(RBF_NAME(coefficients) * to) {
    REAL *lists[] = {to->rate, to->rate_low, to->limit, to->shift,
                     to->unit, to->factor,   to->gamma, to->amplitude};
    int list, c;
    for (list = 0; list < (int)(sizeof lists / sizeof *lists); ++list)
        for (c = 1; c < COLUMNS; ++c)
            lists[list][c] = lists[list][0];
}

/* Those of exp(-D), with `unit` that of scale * exp(-D); the scale a power of two. */
RBF_INLINE void RBF_NAME(set_unit)(RBF_NAME(coefficients) * to, REAL scale) {
    to->special = 0;
    RBF_NAME(set_coefficients)(to, 0, 1, 1);
    to->unit[0] *= scale;
    RBF_NAME(repeat_coefficients)(to);
}

#if RBF_TABLE_BITS
/* For entry i of T: the bits of 2^(i / 2^RBF_TABLE_BITS) after the point less i at the place where
 * the low bits of n come to lie (so that they cancel in the sum), and what is missing to the true
 * power, relative to it. */
static const INTEGER RBF_NAME(power_bits)[] __attribute__((aligned(RBF_ALIGNMENT))) = {
#if RBF_DOUBLE
    0x0,
    -0x8d47c382ae85,
    -0xf901f5ce48eb,
    -0x140252ac9d5d9,
    -0x15f619980c433,
    -0x1531abdd55f25,
    -0x1176066a52c53,
    -0xa7e723045b79
#else
    0x0,      -0x2553d, -0x46a3e, -0x63c2d, -0x7c810, -0x90ace, -0xa0129, -0xaa7c1, -0xafb0d,
    -0xaf75c, -0xa98d6, -0x9db74, -0x8bb03, -0x73321, -0x53f39, -0x2da83
#endif
};
static const REAL RBF_NAME(power_remainder)[] __attribute__((aligned(RBF_ALIGNMENT))) = {
#if RBF_DOUBLE
    0,
    -0x1.01b15eaa59348p-55,
    0x1.34d754db0abb6p-55,
    0x1.690cebb7aafbp-56,
    -0x1.3b3efbf5e2228p-54,
    0x1.db72fc1f0eab4p-55,
    0x1.c1a7792cb3387p-55,
    0x1.4a385a63d07a7p-56
#else
    0,
    0x1.8d96d4p-25f,
    -0x1.9c0c22p-27f,
    0x1.964904p-25f,
    0x1.125002p-25f,
    0x1.370be4p-25f,
    -0x1.0a355p-25f,
    -0x1.00d8acp-27f,
    0x1.26055cp-26f,
    -0x1.05cb44p-25f,
    0x1.67a1cap-28f,
    0x1.a3b5e4p-28f,
    -0x1.f9c304p-27f,
    -0x1.6961b4p-28f,
    -0x1.a5217cp-28f,
    0x1.61428ep-28f
#endif
};

/* Lane i of the result is lane n[i] of the table, of which only the low bits count. */
RBF_INLINE VECTOR RBF_NAME(look_up)(const void *table, INTEGER_VECTOR n) {
    const VECTOR from = RBF_NAME(load)((const REAL *)table);
#if !defined(__clang__)
    return __builtin_shuffle(from, n);
#elif RBF_DOUBLE
    return (VECTOR)__builtin_ia32_permvardf512(from, n);
#else
    return (VECTOR)__builtin_ia32_permvarsf512(from, n);
#endif
}
#endif

/* Of p, highest power first, without what is added last. */
static const REAL RBF_NAME(power_terms)[] = {
#if RBF_TABLE_BITS && RBF_DOUBLE
    0x1.ffcf649886366p-38, 0x1.430e57e0f2f65p-31, 0x1.5d87fe6d44d60p-25, 0x1.3b2ab6efa1cefp-19,
    0x1.c6b08d704a97ep-14, 0x1.ebfbdff82c779p-9,  0x1.62e42fefa39efp-4
#elif RBF_TABLE_BITS
    0x1.c6acdep-17f, 0x1.ebfff4p-11f, 0x1.62e430p-5f
#elif RBF_DOUBLE
    0x1.e05ab480ac2a8p-32, 0x1.e60447b06348cp-28, 0x1.b52b262948e24p-24, 0x1.62bfd5bb30c57p-20,
    0x1.ffcbf994f0fb4p-17, 0x1.43091308e713ep-13, 0x1.5d87fe792a35dp-10, 0x1.3b2ab6fba2055p-7,
    0x1.c6b08d7049ee2p-5,  0x1.ebfbdff82c598p-3,  0x1.62e42fefa39efp-1
#else
    0x1.406a3ap-13f, 0x1.5edc3cp-10f, 0x1.3b2dbap-7f, 0x1.c6afdcp-5f,
    0x1.ebfbe2p-3f,  0x1.62e430p-1f
#endif
};

/* For each i below `count`, a constant where this is inlined: result[i] = value. Compilers would
 * put each chain of steps in one piece again, could they see through it. */
#define RBF_SIDE_BY_SIDE(result, value)                                                            \
    RBF_UNROLL                                                                                     \
    for (i = 0; i < count; ++i) {                                                                  \
        result[i] = (value);                                                                       \
        if (count > 1)                                                                             \
            RBF_KEEP(result[i]);                                                                   \
    }

/* exp(-gamma D) * 2^offset of `count` vectors of the same columns, in place of D; times unit or
 * factor it is E or K. Each step is taken for all of them before the next one. */
RBF_INLINE void RBF_NAME(exponentials)(VECTOR *vectors, const int count, VECTOR rate,
                                       VECTOR rate_low, VECTOR limit, VECTOR shift) {
    VECTOR shifted[RBF_STORED_EXPONENTIALS], t[RBF_STORED_EXPONENTIALS], p[RBF_STORED_EXPONENTIALS];
    VECTOR power[RBF_STORED_EXPONENTIALS];
#if RBF_TABLE_BITS
    VECTOR remainder[RBF_STORED_EXPONENTIALS];
#endif
    const int terms = (int)(sizeof(RBF_NAME(power_terms)) / sizeof(REAL));
    int i, k;
    RBF_SIDE_BY_SIDE(vectors, RBF_NAME(minimum)(limit, vectors[i]))
#if RBF_FUSED
    RBF_SIDE_BY_SIDE(shifted, rate * vectors[i] + shift)
    RBF_SIDE_BY_SIDE(t, shifted[i] - shift)
    RBF_SIDE_BY_SIDE(t, rate * vectors[i] - t[i])
    RBF_SIDE_BY_SIDE(t, rate_low * vectors[i] + t[i])
#else
    const REAL log2e = (REAL)0x1.71547652b82fep+0;
#if RBF_DOUBLE
    const REAL ln2 = 0x1.62e42feep-1, ln2_low = 0x1.a39ef35793c76p-33;
#else
    const REAL ln2 = 0x1.63p-1f, ln2_low = -0x1.bd0106p-13f;
#endif
    RBF_SIDE_BY_SIDE(vectors, rate * vectors[i])
    RBF_SIDE_BY_SIDE(shifted, vectors[i] * log2e + shift)
    RBF_SIDE_BY_SIDE(p, shifted[i] - shift)
    RBF_SIDE_BY_SIDE(t, vectors[i] - p[i] * ln2)
    RBF_SIDE_BY_SIDE(t, (t[i] - p[i] * ln2_low) * log2e)
    (void)rate_low;
#endif
#if RBF_TABLE_BITS
    RBF_SIDE_BY_SIDE(remainder,
                     RBF_NAME(look_up)(RBF_NAME(power_remainder), (INTEGER_VECTOR)shifted[i]))
    RBF_SIDE_BY_SIDE(power,
                     (VECTOR)(((INTEGER_VECTOR)shifted[i] << (RBF_MANTISSA_BITS - RBF_TABLE_BITS)) +
                              (INTEGER_VECTOR)RBF_NAME(look_up)(RBF_NAME(power_bits),
                                                                (INTEGER_VECTOR)shifted[i])))
#else
    RBF_SIDE_BY_SIDE(power, (VECTOR)((INTEGER_VECTOR)shifted[i] << RBF_MANTISSA_BITS))
#endif
    RBF_SIDE_BY_SIDE(p, t[i] * RBF_NAME(power_terms)[0] + RBF_NAME(power_terms)[1])
    RBF_UNROLL
    for (k = 2; k < terms; ++k)
        RBF_SIDE_BY_SIDE(p, p[i] * t[i] + RBF_NAME(power_terms)[k])
#if RBF_TABLE_BITS
    RBF_SIDE_BY_SIDE(p, p[i] * t[i] + remainder[i])
    RBF_SIDE_BY_SIDE(vectors, power[i] * p[i] + power[i])
#else
    RBF_SIDE_BY_SIDE(p, p[i] * t[i] + 1)
    RBF_SIDE_BY_SIDE(vectors, p[i] * power[i])
#endif
}

/* The same times scale[COLUMNS], for the columns from `first` on. */
RBF_INLINE void RBF_NAME(scaled_exponentials)(VECTOR *vectors, const int count,
                                              const RBF_NAME(coefficients) * c, int first,
                                              const REAL *scale) {
    const VECTOR factor = RBF_NAME(load)(scale + first);
    int i;
    RBF_NAME(exponentials)(vectors, count, RBF_NAME(load)(c->rate + first),
                           RBF_NAME(load)(c->rate_low + first), RBF_NAME(load)(c->limit + first),
                           RBF_NAME(load)(c->shift + first));
    RBF_UNROLL
    for (i = 0; i < count; ++i)
        vectors[i] *= factor;
}

RBF_INLINE REAL RBF_NAME(library_exponential)(REAL argument) {
#if RBF_DOUBLE
    return exp(argument);
#else
    return expf(argument);
#endif
}
