/* What the compiler's target offers: vector width, tile shape, settings of processors, attributes.
 *
 * Plain C and C++ (GCC or Clang vector extensions), no Python, independent of the precision. The
 * width is taken from the target macros, since the code is compiled on the machine it runs on.
 */
#ifndef RBF_TARGET_H
#define RBF_TARGET_H

/* Bytes of a vector, rows and vectors of a register tile. The tile needs ROWS * VECTORS
 * accumulators and a few more registers: 32 exist with AVX-512 and on AArch64, 16 elsewhere. */
#if defined(__AVX512F__)
#define RBF_VECTOR_BYTES 64
#define RBF_TILE_ROWS 8
#elif defined(__AVX__)
#define RBF_VECTOR_BYTES 32
#define RBF_TILE_ROWS 4
#elif defined(__aarch64__) || defined(RBF_LIKE_AARCH64) /* to test its shapes elsewhere */
#define RBF_VECTOR_BYTES 16
#define RBF_TILE_ROWS 8
#else
#define RBF_VECTOR_BYTES 16
#define RBF_TILE_ROWS 4
#endif
#define RBF_TILE_VECTORS 2

/* AMD's processors with AVX-512, whose additions have units of their own; and of those the ones
 * whose units take a whole vector, twice as much a cycle, from Zen 5 on. Compilers call a processor
 * by the last one they know, and tell its instructions. */
#if defined(__AVX512F__) &&                                                                        \
    (defined(__znver2__) || defined(__znver3__) || defined(__znver4__) || defined(__znver5__))
#define RBF_ZEN4 1
#else
#define RBF_ZEN4 0
#endif
#if RBF_ZEN4 && (defined(__znver5__) || defined(__AVX512VP2INTERSECT__))
#define RBF_ZEN5 1
#else
#define RBF_ZEN5 0
#endif

/* Whether there is a unit for products of matrices: matrix_unit.h. */
#ifndef RBF_MATRIX_UNIT
#if defined(__AMX_BF16__) && defined(__AMX_INT8__) && defined(__AVX512F__) && defined(__linux__)
#define RBF_MATRIX_UNIT 1
#else
#define RBF_MATRIX_UNIT 0
#endif
#endif

/* Vector registers: 32, or half as many. */
#if defined(__AVX512F__) || defined(__aarch64__) || defined(RBF_LIKE_AARCH64)
#define RBF_MANY_REGISTERS 1
#else
#define RBF_MANY_REGISTERS 0
#endif

/* Bytes of the second-level cache that panels may fill: half of the 1 MB of servers and Zen 4, half
 * of the 512 KB of Zen; smaller ones they fill. */
#if defined(__AVX512F__)
#define RBF_PANEL_CACHE_BYTES (1 << 19)
#else
#define RBF_PANEL_CACHE_BYTES (1 << 18)
#endif

/* Makes the compiler believe that the pointer's value is its own, so that numbers read through it
 * become broadcast operands of the instructions that use them, instead of one register for several
 * instructions: with AVX-512 a broadcast operand is free, on Zen 4 an instruction that only loads
 * costs as much as a subtraction. From Zen 5 on two loads a cycle are what there are too few of.
 * Without AVX-512 there are no such operands. */
#if defined(__AVX512F__) && !RBF_ZEN5
#define RBF_OWN_BROADCAST(pointer) __asm__("" : "+r"(pointer))
#else
#define RBF_OWN_BROADCAST(pointer) ((void)0)
#endif

/* RBF_KEEP: a vector that several instructions use stays in a register, so that it is loaded once
 * and not by each. RBF_ROUND: what a product is added to does not fuse with it, so that the product
 * is rounded by itself, whoever uses it. */
#if defined(__AVX512F__)
#define RBF_KEEP(vector) __asm__("" : "+v"(vector))
#define RBF_ROUND(value) __asm__("" : "+v"(value))
#elif defined(__SSE2__)
#define RBF_KEEP(vector) __asm__("" : "+x"(vector))
#define RBF_ROUND(value) __asm__("" : "+x"(value))
#elif defined(__aarch64__)
#define RBF_KEEP(vector) __asm__("" : "+w"(vector))
#define RBF_ROUND(value) __asm__("" : "+w"(value))
#else
#define RBF_KEEP(vector) ((void)0)
#define RBF_ROUND(value) __asm__("" : "+m"(value))
#endif

/* Rows of a tile whose products join both of the sums that they belong to by an addition each, not
 * by a multiply-add each: a quarter, so that units for additions take some of the work of the
 * others, where they are as many. */
#define RBF_ROUNDED_SHARE(row) (RBF_ZEN5 && (row) % 3 == 2)

/* Keeps an array in memory where registers are few: in them it would push out what a loop needs. */
#if RBF_MANY_REGISTERS
#define RBF_KEEP_IN_MEMORY(array) ((void)0)
#else
#define RBF_KEEP_IN_MEMORY(array) __asm__("" : "+m"(array))
#endif

/* Whether a * b + c is rounded once: compilers fuse it by default (-ffp-contract) where they can,
 * if they optimise at all. */
#ifndef RBF_FUSED
#if defined(__OPTIMIZE__) &&                                                                       \
    (defined(__FMA__) || defined(__AVX512F__) || defined(__aarch64__) || defined(__FP_FAST_FMA))
#define RBF_FUSED 1
#else
#define RBF_FUSED 0
#endif
#endif

/* Whether lanes can be looked up in a register, by an instruction: exponential.h. */
#if defined(__AVX512F__)
#define RBF_TABLE 1
#else
#define RBF_TABLE 0
#endif

/* Exponentials taken side by side, step by step, of the rows of a tile: of K and of weights that
 * are written, and of K that is summed at once (on Zen 5 two in float64). Short vectors, and those
 * of fast units, must be many at a time to keep the processor busy; one after the other they fill
 * what it looks ahead with steps that wait for the one before. */
#if RBF_ZEN5
#define RBF_STORED_EXPONENTIALS 4
#define RBF_SUMMED_EXPONENTIALS (1 + RBF_DOUBLE)
#elif RBF_MANY_REGISTERS
#define RBF_STORED_EXPONENTIALS 1
#define RBF_SUMMED_EXPONENTIALS 1
#else
#define RBF_STORED_EXPONENTIALS 4
#define RBF_SUMMED_EXPONENTIALS 2
#endif

/* Terms of a squared distance added up before they join the sum of a run; terms of a run. */
#define RBF_SUM_CHUNK 16
#define RBF_SUM_RUN 128

/* Whether squared distances of many columns k may come from norms and inner products (distances.h),
 * and of how many. Not where additions have units of their own, so that a difference and its square
 * take no longer than a product. */
#ifndef RBF_EXPANSION
#define RBF_EXPANSION (!RBF_ZEN4)
#endif
#define RBF_EXPANSION_DEPTH (RBF_MANY_REGISTERS ? 32 : 40)
/* From so many entries of K on a sample decides whether it is used. */
#ifndef RBF_EXPANSION_ENTRIES
#define RBF_EXPANSION_ENTRIES (1 << 18)
#endif

/* Where what is read a whole panel later is prefetched to, as __builtin_prefetch numbers it: the
 * second-level cache (2), since much else passes the first until then. On Zen 5 the first (3), from
 * where it moves on to the second: asked for the second alone, lines are often not there in time.
 */
#if RBF_ZEN5
#define RBF_FETCH_LATER 3
#else
#define RBF_FETCH_LATER 2
#endif

/* Prefetch distances in terms: of panels of y, which lie in the second-level cache, and of row
 * panels of x, in the third; 0: no prefetch. Measured on Zen 5 and, with AVX-512, on Intel's. */
#if RBF_ZEN5
#define RBF_FETCH_COLUMNS 32
#define RBF_FETCH_ROWS 128
#elif defined(__AVX512F__)
#define RBF_FETCH_COLUMNS 8
#define RBF_FETCH_ROWS 16
#else
#define RBF_FETCH_COLUMNS 0
#define RBF_FETCH_ROWS 0
#endif

#define RBF_INLINE static inline __attribute__((always_inline, unused))
#define RBF_FUNCTION static __attribute__((unused))
#define RBF_RESTRICT __restrict__

#define RBF_PRAGMA_(text) _Pragma(#text)
#define RBF_UNROLL RBF_PRAGMA_(GCC unroll 16)
/* A term of a product is so few instructions that its loop's own matter, most where registers are
 * few. */
#if RBF_MANY_REGISTERS
#define RBF_UNROLL_TERMS RBF_PRAGMA_(GCC unroll 4)
#else
#define RBF_UNROLL_TERMS RBF_UNROLL
#endif
#ifdef _OPENMP
#include <omp.h>
#define RBF_OMP(text) RBF_PRAGMA_(omp text)
#else
#define RBF_OMP(text)
#endif

/* Cache lines and the widest vectors are 64 bytes: all workspace is aligned to that. */
#define RBF_ALIGNMENT 64

#endif
