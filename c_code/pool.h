/* Large memory that is used again: workspace, and through glue.h the outputs.
 *
 * The operating system hands out large memory page by page, each cleared first, which takes longer
 * than writing a kernel matrix into it. So large blocks are asked for in huge pages and, when given
 * back, kept for the next call: at most RBF_POOL_BLOCKS, and of bytes RBF_POOL_BYTES or a part of
 * the machine's memory, whichever is more (the environment variable RBF_OP_POOL_BYTES; 0 keeps
 * none). A block by which more than RBF_POOL_BYTES are kept the system may have back as soon as it
 * needs memory. Plain C, no Python.
 */
#ifndef RBF_POOL_H
#define RBF_POOL_H

#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

#define RBF_POOL_BYTES ((size_t)256 << 20)
enum { RBF_POOL_BLOCKS = 8, RBF_POOL_PART = 16 /* of the machine's memory one in so many */ };

/* Blocks from this size on come from the pool: aligned to RBF_POOL_PAGE, a huge page, of which they
 * have two at least, and rounded up to multiples of RBF_POOL_UNIT, so that sizes that differ little
 * find one another's. */
#define RBF_POOL_FROM ((size_t)4 << 20)
#define RBF_POOL_PAGE ((size_t)2 << 20)
#define RBF_POOL_UNIT ((size_t)64 << 10)

typedef struct {
    void *data;
    size_t bytes;
} rbf_pool_block;

static struct {
    /* Who does not get the lock at once goes on without the pool: nobody waits, and a child that
     * was forked while it was held loses no more than the pool. */
    char locked, ready;
    int count;
    size_t limit, kept;
    rbf_pool_block blocks[RBF_POOL_BLOCKS]; /* last given back first */
} rbf_pool;

static inline size_t rbf_pool_size(size_t bytes) {
    return (bytes + RBF_POOL_UNIT - 1) / RBF_POOL_UNIT * RBF_POOL_UNIT;
}

static inline size_t rbf_pool_limit(void) {
    const char *limit = getenv("RBF_OP_POOL_BYTES");
    size_t bytes = RBF_POOL_BYTES;
    if (limit && isdigit((unsigned char)*limit)) { /* anything else the doctor reports */
        char *end;
        const unsigned long long given = strtoull(limit, &end, 10);
        if (*end == 0)
            return given < SIZE_MAX ? (size_t)given : SIZE_MAX;
    }
#if defined(MADV_FREE)
    {
        const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
        if (pages > 0 && page > 0 && (size_t)pages / RBF_POOL_PART > bytes / (size_t)page)
            bytes = (size_t)pages / RBF_POOL_PART * (size_t)page;
    }
#endif
    return bytes;
}

static inline int rbf_pool_lock(void) {
    if (__atomic_test_and_set(&rbf_pool.locked, __ATOMIC_ACQUIRE))
        return 0;
    if (!rbf_pool.ready) {
        rbf_pool.limit = rbf_pool_limit();
        rbf_pool.ready = 1;
    }
    return 1;
}

static inline void rbf_pool_unlock(void) { __atomic_clear(&rbf_pool.locked, __ATOMIC_RELEASE); }

/* New memory, aligned to RBF_POOL_PAGE; NULL if there is not so much. */
static inline void *rbf_pool_new(size_t bytes) {
#if defined(MADV_HUGEPAGE)
    const size_t mapped = bytes + RBF_POOL_PAGE;
    char *base = (char *)mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                              (off_t)0);
    size_t before;
    if (base == (char *)MAP_FAILED)
        return NULL;
    before = (RBF_POOL_PAGE - (uintptr_t)base % RBF_POOL_PAGE) % RBF_POOL_PAGE;
    if (before)
        munmap(base, before);
    munmap(base + before + bytes, RBF_POOL_PAGE - before);
    madvise(base + before, bytes, MADV_HUGEPAGE); /* advice: it works without */
    return base + before;
#else
    void *data = NULL;
    return posix_memalign(&data, RBF_POOL_PAGE, bytes) == 0 ? data : NULL;
#endif
}

static inline void rbf_pool_delete(rbf_pool_block block) {
#if defined(MADV_HUGEPAGE)
    munmap(block.data, block.bytes);
#else
    free(block.data);
#endif
}

static inline void rbf_pool_remove(int index) {
    rbf_pool.kept -= rbf_pool.blocks[index].bytes;
    rbf_pool.count -= 1;
    memmove(rbf_pool.blocks + index, rbf_pool.blocks + index + 1,
            (size_t)(rbf_pool.count - index) * sizeof(rbf_pool_block));
}

/* Returns the number of blocks that were kept, and are no longer. */
static inline int rbf_pool_empty(void) {
    rbf_pool_block blocks[RBF_POOL_BLOCKS];
    int i, count = 0;
    if (rbf_pool_lock()) {
        count = rbf_pool.count;
        memcpy(blocks, rbf_pool.blocks, sizeof blocks);
        rbf_pool.count = 0;
        rbf_pool.kept = 0;
        rbf_pool_unlock();
    }
    for (i = 0; i < count; ++i)
        rbf_pool_delete(blocks[i]);
    return count;
}

/* So many bytes (RBF_POOL_FROM or more), aligned to RBF_POOL_PAGE; NULL if that much cannot be had.
 */
static inline void *rbf_pool_take(size_t bytes) {
    void *data = NULL;
    int i;
    if (bytes > SIZE_MAX / 2)
        return NULL;
    bytes = rbf_pool_size(bytes);
    if (rbf_pool_lock()) {
        for (i = 0; i < rbf_pool.count && data == NULL; ++i)
            if (rbf_pool.blocks[i].bytes == bytes) {
                data = rbf_pool.blocks[i].data;
                rbf_pool_remove(i);
            }
        rbf_pool_unlock();
    }
    if (data == NULL)
        data = rbf_pool_new(bytes);
    if (data == NULL && rbf_pool_empty()) /* what is kept may be what is missing */
        data = rbf_pool_new(bytes);
    return data;
}

/* Gives back what rbf_pool_take(bytes) gave. */
static inline void rbf_pool_give(void *data, size_t bytes) {
    const rbf_pool_block block = {data, rbf_pool_size(bytes)};
    rbf_pool_block unwanted[RBF_POOL_BLOCKS + 1];
    int i, count = 0;
    if (rbf_pool_lock()) {
        if (block.bytes <= rbf_pool.limit) {
            while (rbf_pool.count == RBF_POOL_BLOCKS ||
                   rbf_pool.kept + block.bytes > rbf_pool.limit) {
                unwanted[count++] = rbf_pool.blocks[rbf_pool.count - 1];
                rbf_pool_remove(rbf_pool.count - 1);
            }
            memmove(rbf_pool.blocks + 1, rbf_pool.blocks,
                    (size_t)rbf_pool.count * sizeof(rbf_pool_block));
            rbf_pool.blocks[0] = block;
            rbf_pool.count += 1;
            rbf_pool.kept += block.bytes;
#if defined(MADV_FREE)
            if (rbf_pool.kept > RBF_POOL_BYTES)
                madvise(block.data, block.bytes, MADV_FREE);
#endif
        } else {
            unwanted[count++] = block;
        }
        rbf_pool_unlock();
    } else {
        unwanted[count++] = block;
    }
    for (i = 0; i < count; ++i)
        rbf_pool_delete(unwanted[i]);
}

#endif
