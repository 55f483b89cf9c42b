/* Tasks that are shared out to threads, and stay with a thread from call to call. Plain C, no
 * Python.
 */
#ifndef RBF_SHARES_H
#define RBF_SHARES_H

#include "threads.h"

/* The tasks that a thread begins with, [next, end) of all; on lines of its own. */
typedef struct {
    int64_t next, end;
    char apart[2 * RBF_ALIGNMENT - 2 * sizeof(int64_t)];
} rbf_share;

/* [threads] */
typedef struct {
    rbf_share *of_thread;
    int threads;
} rbf_shares;

/* Tasks [0, count) in equal shares. */
RBF_FUNCTION void rbf_share_out(rbf_shares shares, int64_t count) {
    int thread;
    for (thread = 0; thread < shares.threads; ++thread) {
        shares.of_thread[thread].next = count * thread / shares.threads;
        shares.of_thread[thread].end = count * (thread + 1) / shares.threads;
    }
}

/* The next task of the calling thread's share; when that is done, of another's; -1: none is left.
 * Unlike with schedule(dynamic) a thread gets, but for the last ones, the same tasks in each call:
 * where cores do not share a cache, what they write stays with the core that wrote it before. */
RBF_FUNCTION int64_t rbf_next_task(rbf_shares shares) {
    const int own = rbf_thread_number();
    int i;
    for (i = 0; i < shares.threads; ++i) {
        rbf_share *share = shares.of_thread + (own + i) % shares.threads;
        if (__atomic_load_n(&share->next, __ATOMIC_RELAXED) < share->end) {
            const int64_t task = __atomic_fetch_add(&share->next, 1, __ATOMIC_RELAXED);
            if (task < share->end)
                return task;
        }
    }
    return -1;
}

#endif
