/* The floating-point mode of the thread: IEEE's, whatever the program has set. Plain C, no Python.
 */
#ifndef RBF_IEEE_H
#define RBF_IEEE_H

#include "matrix.h"

/* RBF_AS_IEEE: to the end of the block the thread rounds to nearest and keeps denormal numbers,
 * whatever mode it was in. Loading a library linked with -ffast-math changes that of one thread,
 * and results would depend on which. */
#if defined(__SSE2__)
typedef unsigned rbf_mode;
RBF_INLINE rbf_mode rbf_current_mode(void) { return __builtin_ia32_stmxcsr(); }
RBF_INLINE void rbf_set_mode(const rbf_mode *mode) { __builtin_ia32_ldmxcsr(*mode); }
enum { RBF_IEEE_MODE = 0x1f80 };
#elif defined(__aarch64__)
typedef uint64_t rbf_mode;
RBF_INLINE rbf_mode rbf_current_mode(void) {
    rbf_mode mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    return mode;
}
RBF_INLINE void rbf_set_mode(const rbf_mode *mode) {
    __asm__ volatile("msr fpcr, %0" : : "r"(*mode) : "memory");
}
enum { RBF_IEEE_MODE = 0 };
#else
typedef int rbf_mode;
RBF_INLINE rbf_mode rbf_current_mode(void) { return 0; }
RBF_INLINE void rbf_set_mode(const rbf_mode *mode) { (void)mode; }
enum { RBF_IEEE_MODE = 0 };
#endif
RBF_INLINE rbf_mode rbf_leave_mode(void) {
    const rbf_mode before = rbf_current_mode(), ieee = RBF_IEEE_MODE;
    rbf_set_mode(&ieee);
    return before;
}
#define RBF_AS_IEEE                                                                                \
    const rbf_mode rbf_mode_before __attribute__((cleanup(rbf_set_mode), unused)) = rbf_leave_mode()

#endif
