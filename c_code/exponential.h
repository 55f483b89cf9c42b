/* amplitude * exp(-gamma * D) for a vector of squared distances: full range, at most one ulp.
 *
 * 2^t with t = rate * D, rate = -gamma log2(e) as an unevaluated sum of two numbers, so that the
 * only error in t is that of D. n = round(t) by adding a large number, p(t - n) by a minimax
 * polynomial (Remez exchange in 60 digits, p(0) = 1 exactly), times 2^n made from the low bits of
 * that same large sum. So that results may underflow gradually, or overflow, in one rounding,
 * 2^(n + offset) is made, which is always a normal number, and 2^-offset is folded into the
 * amplitude. NaN passes through all of it. Included once a precision by instantiate.h.
 *
 * Columns whose gamma or amplitude do not fit this scheme (inf, NaN, absurdly large or small) are
 * marked `special` and left to the C library's exp.
 */
typedef struct {
    REAL rate[COLUMNS];     /* -gamma log2(e), high part */
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
#if RBF_DOUBLE
    const double log2e = 1.4426950408889634, log2e_low = 2.0355273740931033e-17;
    const double rate = -gamma * log2e;
    const double rate_low = fma(-gamma, log2e, -rate) - gamma * log2e_low;
#else
    const double exact = -(double)gamma * 1.4426950408889634;
    const float rate = (float)exact;
    const float rate_low = (float)(exact - (double)rate);
#endif
    const REAL size = rate < 0 ? -rate : rate;
    const REAL height = amplitude < 0 ? -amplitude : amplitude;
    const int growing = rate > 0;
    /* The amplitude must leave the last product in range, and may not undo the limit below. */
    const REAL smallest = 1 / (growing ? RBF_AMPLITUDE_NEAR : RBF_AMPLITUDE_FAR);
    const REAL largest = growing ? RBF_AMPLITUDE_FAR : RBF_AMPLITUDE_NEAR;
    const int usual =
        (size == 0 || (size > RBF_RATE_SMALLEST && size < RBF_RATE_LARGEST)) &&
        ((height > smallest && height < largest) || (height == 0 && !growing));
    const REAL offset = growing ? -RBF_EXPONENT_OFFSET : RBF_EXPONENT_OFFSET;
    to->gamma[c] = gamma;
    to->amplitude[c] = amplitude;
    if (!usual)
        to->special = 1;
    to->rate[c] = rate;
    to->rate_low[c] = size == 0 ? 0 : rate_low;
    to->limit[c] = size == 0 ? RBF_REAL_INFINITY : (REAL)RBF_EXPONENT_LIMIT / size;
    to->shift[c] = RBF_ROUND_SHIFT + RBF_EXPONENT_BIAS + offset;
    to->unit[c] = (REAL)ldexp(1.0, growing ? RBF_EXPONENT_OFFSET : -RBF_EXPONENT_OFFSET);
    to->factor[c] = amplitude * to->unit[c];
}

/* exp(-gamma D) * 2^offset of one vector of columns; times unit or factor it is E or K. */
RBF_INLINE VECTOR RBF_NAME(exponential)(VECTOR distance, VECTOR rate, VECTOR rate_low,
                                        VECTOR limit, VECTOR shift) {
    const VECTOR bounded = RBF_NAME(minimum)(limit, distance);
    const VECTOR shifted = rate * bounded + shift;
    const VECTOR whole = shifted - shift;
    VECTOR t = rate * bounded - whole;
    VECTOR p;
    t = rate_low * bounded + t;
#if RBF_DOUBLE
    p = t * 4.078071929588336665004e-10 + 7.072570412814423509578e-9;
    p = p * t + 1.018064765923413888846e-7;
    p = p * t + 0.000001321544267532982214324;
    p = p * t + 0.00001525272738519386819689;
    p = p * t + 0.000154035304415721303297;
    p = p * t + 0.001333355815343996474705;
    p = p * t + 0.009618129107607002379584;
    p = p * t + 0.05550410866479039455165;
    p = p * t + 0.2402265069591009800657;
    p = p * t + 0.6931471805599456967506;
    p = p * t + 1.0;
#else
    p = t * 0.0001559467816132661932419f + 0.001340664390235175924629f;
    p = p * t + 0.009617692972993062318149f;
    p = p * t + 0.05550310551013797173426f;
    p = p * t + 0.2402265278288773742981f;
    p = p * t + 0.6931472149680278994959f;
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
