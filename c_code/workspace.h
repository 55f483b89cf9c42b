/* Memory of one call: a single allocation, measured before it is made and cut into aligned pieces.
 * Large ones come from the pool. Plain C, no Python.
 */
#ifndef RBF_WORKSPACE_H
#define RBF_WORKSPACE_H

#include "matrix.h"
#include "pool.h"

/* Under the address sanitizer, as in tests/c, nobody may touch what lies between two pieces, and
 * what nobody has written is NaN. */
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define RBF_GAP_BYTES 1024
#define RBF_FORBID(from, bytes) __asan_poison_memory_region(from, bytes)
#define RBF_ALLOW(from, bytes) __asan_unpoison_memory_region(from, bytes)
#define RBF_SPOIL(from, bytes) memset(from, 0xff, bytes)
#else
#define RBF_GAP_BYTES 0
#define RBF_FORBID(from, bytes) ((void)0)
#define RBF_ALLOW(from, bytes) ((void)0)
#define RBF_SPOIL(from, bytes) ((void)0)
#endif

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
    if (bytes > SIZE_MAX / 2 - offset - RBF_GAP_BYTES) {
        space->overflow = 1;
        return NULL;
    }
    space->used += bytes + RBF_GAP_BYTES;
    if (space->base == NULL)
        return NULL;
    RBF_FORBID(space->base + offset + bytes, RBF_GAP_BYTES);
    return space->base + offset;
}

/* Entries from one thread's or task's piece of memory to the next. With several threads some
 * pages of nothing lie between: processors read ahead, and a line that one core reads ahead while
 * another writes it travels to and fro. */
#define RBF_APART_BYTES 8192
RBF_INLINE int64_t rbf_apart(int64_t count, size_t size, int threads) {
    const int64_t line = RBF_ALIGNMENT / (int64_t)size;
    return rbf_ceiling_division(count, line) * line +
           (threads > 1 ? RBF_APART_BYTES / (int64_t)size : 0);
}

/* Memory for small problems lives on the stack: a heap allocation would cost more than they do. */
#define RBF_STACK_BYTES 16384

typedef struct {
    void *heap;
    size_t heap_bytes;
    __attribute__((aligned(RBF_ALIGNMENT))) char stack[RBF_STACK_BYTES];
} rbf_storage;

/* Gives the measured workspace its memory; RBF_NO_MEMORY if there is not so much. */
RBF_FUNCTION int rbf_acquire(rbf_workspace *space, rbf_storage *storage) {
    const size_t bytes = space->used;
    storage->heap = NULL;
    storage->heap_bytes = bytes;
    if (space->overflow)
        return RBF_NO_MEMORY;
    if (bytes <= RBF_STACK_BYTES) {
        space->base = storage->stack;
    } else {
        if (bytes >= RBF_POOL_FROM)
            storage->heap = rbf_pool_take(bytes);
        else if (posix_memalign(&storage->heap, RBF_ALIGNMENT, bytes) != 0)
            storage->heap = NULL;
        if (storage->heap == NULL)
            return RBF_NO_MEMORY;
        space->base = (char *)storage->heap;
    }
    RBF_SPOIL(space->base, bytes);
    space->used = 0;
    return RBF_OK;
}

RBF_INLINE void rbf_release(rbf_storage *storage) {
    RBF_ALLOW(storage->heap ? (char *)storage->heap : storage->stack, storage->heap_bytes);
    if (storage->heap != NULL && storage->heap_bytes >= RBF_POOL_FROM)
        rbf_pool_give(storage->heap, storage->heap_bytes);
    else
        free(storage->heap);
}

#endif
