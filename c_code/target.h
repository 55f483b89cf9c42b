/* What the compiler's target offers: vector width, tile shape, attributes, aligned memory.
 *
 * Plain C and C++ (GCC or Clang vector extensions), no Python, independent of the precision. The
 * width is taken from the target macros, since the code is compiled on the machine it runs on.
 */
#ifndef RBF_TARGET_H
#define RBF_TARGET_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Bytes of a vector, rows and vectors of a register tile. The tile needs ROWS * VECTORS
 * accumulators and a few more registers: 32 exist with AVX-512 and on AArch64, 16 elsewhere. */
#if defined(__AVX512F__)
#define RBF_VECTOR_BYTES 64
#define RBF_TILE_ROWS 8
#elif defined(__AVX__)
#define RBF_VECTOR_BYTES 32
#define RBF_TILE_ROWS 4
#elif defined(__aarch64__)
#define RBF_VECTOR_BYTES 16
#define RBF_TILE_ROWS 8
#else
#define RBF_VECTOR_BYTES 16
#define RBF_TILE_ROWS 4
#endif
#define RBF_TILE_VECTORS 2

/* Whether a * b + c is rounded once: compilers fuse it by default (-ffp-contract) where they can.
 */
#if defined(__FMA__) || defined(__AVX512F__) || defined(__aarch64__) || defined(__FP_FAST_FMA)
#define RBF_FUSED 1
#else
#define RBF_FUSED 0
#endif

/* Terms of a squared distance added up before they join the sum of a run; terms of a run. */
#define RBF_SUM_CHUNK 16
#define RBF_SUM_RUN 128

#define RBF_INLINE static inline __attribute__((always_inline, unused))
#define RBF_FUNCTION static __attribute__((unused))
#define RBF_RESTRICT __restrict__

#define RBF_PRAGMA_(text) _Pragma(#text)
#define RBF_UNROLL RBF_PRAGMA_(GCC unroll 16)
#ifdef _OPENMP
#include <omp.h>
#define RBF_OMP(text) RBF_PRAGMA_(omp text)
#else
#define RBF_OMP(text)
#endif

/* Cache lines and the widest vectors are 64 bytes: all workspace is aligned to that. */
#define RBF_ALIGNMENT 64

/* A read-only matrix or vector of the caller: any byte strides, negative and 0 included. */
typedef struct {
    const char *data;
    int64_t rows, columns;
    int64_t row_stride, column_stride;
} rbf_matrix;

/* One value a column of K, or a scalar (stride 0) for all of them. */
typedef struct {
    const char *data;
    int64_t stride;
    int scalar;
} rbf_vector;

enum { RBF_OK = 0, RBF_NO_MEMORY = -1 };

RBF_INLINE int64_t rbf_minimum(int64_t a, int64_t b) { return a < b ? a : b; }

RBF_INLINE int64_t rbf_maximum(int64_t a, int64_t b) { return a > b ? a : b; }

RBF_INLINE int64_t rbf_ceiling_division(int64_t a, int64_t b) { return a / b + (a % b != 0); }

/* One allocation that is cut into aligned pieces: first pass measures, second pass hands out. */
typedef struct {
    char *base; /* NULL while measuring */
    size_t used;
    int overflow;
} rbf_workspace;

RBF_INLINE void *rbf_take(rbf_workspace *space, int64_t count, size_t size) {
    const size_t offset = space->used;
    size_t bytes;
    if (count < 0 || (uint64_t)count > (SIZE_MAX / 2) / size) {
        space->overflow = 1;
        return NULL;
    }
    bytes = ((size_t)count * size + RBF_ALIGNMENT - 1) / RBF_ALIGNMENT * RBF_ALIGNMENT;
    if (bytes > SIZE_MAX / 2 - offset) {
        space->overflow = 1;
        return NULL;
    }
    space->used += bytes;
    return space->base ? space->base + offset : NULL;
}

/* Memory for small problems lives on the stack: a heap allocation would cost more than they do. */
#define RBF_STACK_BYTES 16384

typedef struct {
    void *heap;
    __attribute__((aligned(RBF_ALIGNMENT))) char stack[RBF_STACK_BYTES];
} rbf_storage;

/* Gives the measured workspace its memory; RBF_NO_MEMORY if there is not so much. */
RBF_FUNCTION int rbf_acquire(rbf_workspace *space, rbf_storage *storage) {
    const size_t bytes = space->used;
    storage->heap = NULL;
    if (space->overflow)
        return RBF_NO_MEMORY;
    if (bytes <= RBF_STACK_BYTES) {
        space->base = storage->stack;
    } else {
        if (posix_memalign(&storage->heap, RBF_ALIGNMENT, bytes) != 0) {
            storage->heap = NULL;
            return RBF_NO_MEMORY;
        }
        space->base = (char *)storage->heap;
    }
    space->used = 0;
    return RBF_OK;
}

RBF_INLINE void rbf_release(rbf_storage *storage) { free(storage->heap); }

#endif
