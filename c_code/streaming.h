/* Stores that go past the caches, and from which sizes on outputs are written so. Plain C, no
 * Python.
 */
#ifndef RBF_STREAMING_H
#define RBF_STREAMING_H

#include "matrix.h"

#include <string.h>

/* An output of so many bytes is written past the caches, which it would not fit; a symmetric one
 * sooner, since no processor foresees the short pieces of rows of its other half; one that goes by
 * way of a stage, which is a copy more, later where that was measured to be better. */
#define RBF_STREAM_BYTES 24e6
#if RBF_ZEN5
#define RBF_STAGED_STREAM_BYTES 96e6
#define RBF_SYMMETRIC_STREAM_BYTES 20e6
#else
#define RBF_STAGED_STREAM_BYTES RBF_STREAM_BYTES
#define RBF_SYMMETRIC_STREAM_BYTES 6e6
#endif

/* A vector of no precision. */
typedef float rbf_bytes __attribute__((vector_size(RBF_VECTOR_BYTES), aligned(4), may_alias));

/* Past the caches, if the target has that, to an address that is a multiple of its size. */
RBF_INLINE void rbf_stream_vector(void *to, rbf_bytes value) {
#if defined(__clang__)
    __builtin_nontemporal_store(value, (rbf_bytes *)to);
#elif defined(__AVX512F__)
    __builtin_ia32_movntps512((float *)to, value);
#elif defined(__AVX__)
    __builtin_ia32_movntps256((float *)to, value);
#elif defined(__SSE2__)
    __builtin_ia32_movntps((float *)to, value);
#else
    *(rbf_bytes *)to = value;
#endif
}

/* Copies bytes, whole cache lines of the target past the caches. */
RBF_FUNCTION void rbf_stream(char *to, const char *from, int64_t bytes) {
    int64_t i = rbf_minimum(bytes, -(int64_t)(uintptr_t)to & (RBF_ALIGNMENT - 1)), v;
    memcpy(to, from, (size_t)i);
    for (; i + RBF_ALIGNMENT <= bytes; i += RBF_ALIGNMENT) {
        RBF_UNROLL
        for (v = 0; v < RBF_ALIGNMENT; v += RBF_VECTOR_BYTES)
            rbf_stream_vector(to + i + v, *(const rbf_bytes *)(from + i + v));
    }
    memcpy(to + i, from + i, (size_t)(bytes - i));
}

/* Whether lines that are not those of tiles are picked in registers: streamed_rows.h. */
#define RBF_PICKED_LINES (RBF_VECTOR_BYTES == RBF_ALIGNMENT)

/* After the last one: other threads see what was streamed. */
RBF_INLINE void rbf_stream_end(void) {
#if defined(__SSE2__)
    __builtin_ia32_sfence();
#endif
}

#endif
