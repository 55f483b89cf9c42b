/* amplitude * exp(-gamma * D) for a vector of squared distances: full range, to one ulp.
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
 * Without fused multiply-add rate * D cannot be had to full precision: rate is then -gamma, and t
 * is found from -gamma D (rounded, as NumPy has it) by the reduction of Cody and Waite (Software
 * Manual for the Elementary Functions, 1980), with ln 2 in two parts; at most two ulp.
 */
typedef struct __attribute__((aligned(RBF_ALIGNMENT))) {
    REAL rate[COLUMNS];     /* -gamma log2(e), high part (-gamma without fused multiply-add) */
    REAL rate_low[COLUMNS]; /* low part */
    REAL limit[COLUMNS];    /* D above which exp is 0 (inf for a negative gamma) */
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
    const REAL per_unit = RBF_FUSED ? 1 : (REAL)0.69; /* of rate, in powers of two */
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
    to->rate[c] = rate;
    to->rate_low[c] = size == 0 ? 0 : rate_low;
    to->limit[c] = size == 0 ? RBF_REAL_INFINITY : RBF_EXPONENT_LIMIT * per_unit / size;
    to->shift[c] = RBF_ROUND_SHIFT + RBF_EXPONENT_BIAS + offset;
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

/* exp(-gamma D) * 2^offset of one vector of columns; times unit or factor it is E or K. */
RBF_INLINE VECTOR RBF_NAME(exponential)(VECTOR distance, VECTOR rate, VECTOR rate_low, VECTOR limit,
                                        VECTOR shift) {
    const VECTOR bounded = RBF_NAME(minimum)(limit, distance);
#if RBF_FUSED
    const VECTOR shifted = rate * bounded + shift;
    const VECTOR whole = shifted - shift;
    VECTOR t = rate * bounded - whole;
    VECTOR p;
    t = rate_low * bounded + t;
#else
    const REAL log2e = (REAL)0x1.71547652b82fep+0;
#if RBF_DOUBLE
    const REAL ln2 = 0x1.62e42feep-1, ln2_low = 0x1.a39ef35793c76p-33;
#else
    const REAL ln2 = 0x1.63p-1f, ln2_low = -0x1.bd0106p-13f;
#endif
    const VECTOR exponent = rate * bounded;
    const VECTOR shifted = exponent * log2e + shift;
    const VECTOR whole = shifted - shift;
    VECTOR t = ((exponent - whole * ln2) - whole * ln2_low) * log2e;
    VECTOR p;
    (void)rate_low;
#endif
#if RBF_DOUBLE
    p = t * 0x1.e05ab480ac2a8p-32 + 0x1.e60447b06348cp-28;
    p = p * t + 0x1.b52b262948e24p-24;
    p = p * t + 0x1.62bfd5bb30c57p-20;
    p = p * t + 0x1.ffcbf994f0fb4p-17;
    p = p * t + 0x1.43091308e713ep-13;
    p = p * t + 0x1.5d87fe792a35dp-10;
    p = p * t + 0x1.3b2ab6fba2055p-7;
    p = p * t + 0x1.c6b08d7049ee2p-5;
    p = p * t + 0x1.ebfbdff82c598p-3;
    p = p * t + 0x1.62e42fefa39efp-1;
    p = p * t + 1.0;
#else
    p = t * 0x1.406a3ap-13f + 0x1.5edc3cp-10f;
    p = p * t + 0x1.3b2dbap-7f;
    p = p * t + 0x1.c6afdcp-5f;
    p = p * t + 0x1.ebfbe2p-3f;
    p = p * t + 0x1.62e430p-1f;
    p = p * t + 1.0f;
#endif
    return p * (VECTOR)((INTEGER_VECTOR)shifted << RBF_MANTISSA_BITS);
}

RBF_INLINE REAL RBF_NAME(library_exponential)(REAL argument) {
#if RBF_DOUBLE
    return exp(argument);
#else
    return expf(argument);
#endif
}
