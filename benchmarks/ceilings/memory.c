/* How fast an array of BYTES (the argument) is written, streamed, read, and touched when new.
 *
 * Prints, in bytes per second of all threads together: "stores" (ordinary), "streams" (past the
 * caches, where the target has them), "loads", "pages" (first touch of new memory, small pages)
 * and "huge_pages" (the same with MADV_HUGEPAGE). Every thread has an equal part.
 */
#define _GNU_SOURCE /* MADV_HUGEPAGE, MAP_ANONYMOUS */
#include "matrix.h"

#define RBF_DOUBLE 0
#include "precision.h"

#include "timing.h"
#include <omp.h>
#include <sys/mman.h>
#ifdef __SSE2__
#include <immintrin.h>
#endif

enum { PAGE = 4096, HUGE = 1 << 21 };

typedef struct {
    char *data;
    size_t bytes; /* a multiple of the page for each thread */
} array;

static volatile float sink;

static array part_of(const array *whole) {
    array part;
    part.bytes = whole->bytes / (size_t)omp_get_num_threads();
    part.data = whole->data + part.bytes * (size_t)omp_get_thread_num();
    return part;
}

static void write_ordinary(void *argument) {
    const array part = part_of((const array *)argument);
    const VECTOR value = (VECTOR){0} + 1.0f;
    size_t i;
    for (i = 0; i < part.bytes; i += RBF_VECTOR_BYTES)
        RBF_NAME(store)((REAL *)(part.data + i), value);
    __asm__ volatile("" : : : "memory");
}

static void write_streaming(void *argument) {
    const array part = part_of((const array *)argument);
    size_t i;
#if defined(__AVX512F__)
    for (i = 0; i < part.bytes; i += 64)
        _mm512_stream_si512((__m512i *)(part.data + i), _mm512_set1_epi32(1));
    _mm_sfence();
#elif defined(__SSE2__)
    for (i = 0; i < part.bytes; i += 16)
        _mm_stream_si128((__m128i *)(part.data + i), _mm_set1_epi32(1));
    _mm_sfence();
#else
    (void)i;
    write_ordinary(argument);
#endif
}

static void read_all(void *argument) {
    const array part = part_of((const array *)argument);
    VECTOR sum[4] = {{0}, {0}, {0}, {0}};
    size_t i;
    for (i = 0; i < part.bytes; i += 4 * RBF_VECTOR_BYTES) {
        int v;
        RBF_UNROLL
        for (v = 0; v < 4; ++v)
            sum[v] += RBF_NAME(load)((const REAL *)(part.data + i + v * RBF_VECTOR_BYTES));
    }
    sum[0] += sum[1] + sum[2] + sum[3];
    sink = sum[0][0];
}

static void touch(void *argument) {
    const array part = part_of((const array *)argument);
    size_t i;
    for (i = 0; i < part.bytes; i += PAGE)
        *(volatile char *)(part.data + i) = 1;
}

/* Best seconds of touching all pages of memory that has just been mapped. */
static double touch_new(size_t bytes, int huge) {
    double best = 1e30;
    int i;
    for (i = 0; i < 9; ++i) {
        const size_t mapped = bytes + HUGE;
        char *base =
            (char *)mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        array fresh;
        double seconds;
        if (base == MAP_FAILED)
            return best;
        fresh.data = base + (HUGE - (uintptr_t)base % HUGE);
        fresh.bytes = bytes;
#ifdef MADV_HUGEPAGE
        madvise(base, mapped, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
#else
        (void)huge;
#endif
        seconds = best_seconds(touch, &fresh, 1, 0);
        munmap(base, mapped);
        if (seconds < best)
            best = seconds;
    }
    return best;
}

/* One pass over memory of the caller's, for ctypes: 's'tores, 'p'ast the caches, or 'l'oads. */
void pass_over(char *data, size_t bytes, char how) {
    array whole;
    whole.data = data;
    whole.bytes = bytes;
#pragma omp parallel
    (how == 's' ? write_ordinary : how == 'p' ? write_streaming : read_all)(&whole);
}

int main(int count, char **arguments) {
    const size_t unit = (size_t)PAGE * (size_t)omp_get_max_threads();
    array whole;
    void *memory;
    if (count != 2 || (whole.bytes = strtoull(arguments[1], NULL, 10) / unit * unit) == 0) {
        fprintf(stderr, "usage: memory BYTES (at least a page a thread)\n");
        return 2;
    }
    if (posix_memalign(&memory, PAGE, whole.bytes) != 0) {
        fprintf(stderr, "memory: cannot have %zu bytes\n", whole.bytes);
        return 1;
    }
    whole.data = (char *)memory;
    touch(&whole); /* outside of a parallel region: the whole of it */
    printf("stores %.6g\n", (double)whole.bytes / best_seconds(write_ordinary, &whole, 9, 0.05));
    printf("streams %.6g\n", (double)whole.bytes / best_seconds(write_streaming, &whole, 9, 0.05));
    printf("loads %.6g\n", (double)whole.bytes / best_seconds(read_all, &whole, 9, 0.05));
    free(memory);
    printf("pages %.6g\n", (double)whole.bytes / touch_new(whole.bytes, 0));
    printf("huge_pages %.6g\n", (double)whole.bytes / touch_new(whole.bytes, 1));
    return 0;
}
