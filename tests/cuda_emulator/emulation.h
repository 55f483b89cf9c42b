// CUDA device code on the CPU, for tests: the stand-in nvcc puts this in front of a .cu source.
// Each CUDA thread is a fiber; the fibers of a block take turns, blocks run one after another.
// Checked: barriers that not all threads reach, or reach in different places; warp operations whose
// lanes do not all arrive; memory that is not there. Shared memory holds NaN when a block starts.
// Not there: inline PTX, tensor cores, cp.async, textures, streams, float details of the hardware.
#pragma once
#include <math.h>

#include <cmath>
#include <csetjmp>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <tuple>
#include <utility>
#include <vector>

#include <sys/mman.h>
#include <ucontext.h>

#include "launch.h"

#define __CUDA_EMULATOR__ 1
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __align__(n) __attribute__((aligned(n)))
#define __launch_bounds__(...)
#define __shared__ static __attribute__((section("cuda_shared")))

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
};

extern "C" { // the linker's names for the first and last byte of all __shared__ variables
extern char __start_cuda_shared[] __attribute__((weak, visibility("hidden")));
extern char __stop_cuda_shared[] __attribute__((weak, visibility("hidden")));
}

namespace emulator {

constexpr size_t STACK_BYTES = 256 << 10;
constexpr int WARP = 32;

enum State { RUNNABLE, AT_BARRIER, AT_WARP_OPERATION, FINISHED };

struct Fiber {
    jmp_buf resume_point;
    ucontext_t start;
    char *stack = nullptr;
    bool started = false;
    State state = RUNNABLE;
    int line = 0;          // of the barrier or warp operation it waits at
    unsigned mask = 0;     // lanes that the warp operation names
    int predicate = 0;     // of __syncthreads_or and its kin
    uint64_t exchange = 0; // what the lane offers in a shuffle or ballot
    uint3 thread;
};

struct Block { // the block being run; launches are serialised by the driver
    std::vector<Fiber> fibers;
    int threads = 0, current = 0;
    jmp_buf scheduler;
    uint3 index;
    dim3 block_size, grid_size;
    std::vector<char> dynamic_shared;
    int any = 0, all = 0, count = 0; // what the last barrier found
    void (*body)(void *) = nullptr;
    void *body_argument = nullptr;
};
inline Block block;
inline sigjmp_buf fault_return;
inline const void *fault_address;

static inline Fiber &self() { return block.fibers[block.current]; }
static inline void give_way() {
    if (!_setjmp(self().resume_point))
        _longjmp(block.scheduler, 1);
}
static void fiber_main() {
    for (;;) {
        block.body(block.body_argument);
        self().state = FINISHED;
        give_way();
    }
}
static inline void resume(int thread) {
    block.current = thread;
    if (_setjmp(block.scheduler))
        return;
    Fiber &fiber = block.fibers[thread];
    if (fiber.started)
        _longjmp(fiber.resume_point, 1);
    fiber.started = true;
    getcontext(&fiber.start);
    fiber.start.uc_stack.ss_sp = fiber.stack;
    fiber.start.uc_stack.ss_size = STACK_BYTES;
    fiber.start.uc_link = nullptr;
    makecontext(&fiber.start, fiber_main, 0);
    setcontext(&fiber.start);
}

static inline void barrier(int line, int predicate = 0) {
    Fiber &fiber = self();
    fiber.state = AT_BARRIER, fiber.line = line, fiber.predicate = predicate;
    give_way();
}
static inline void warp_operation(unsigned mask, int line) {
    Fiber &fiber = self();
    fiber.state = AT_WARP_OPERATION, fiber.line = line, fiber.mask = mask;
    give_way();
}
static inline int lane() { return block.current % WARP; }
static inline void *dynamic_shared() {
    uintptr_t start = (uintptr_t)block.dynamic_shared.data();
    return (void *)((start + 63) / 64 * 64);
}
static inline size_t static_shared_bytes() {
    return __start_cuda_shared ? __stop_cuda_shared - __start_cuda_shared : 0;
}

// -- Scheduling
// ------------------------------------------------------------------------------------

// CUDA_EMULATOR_ORDER = forward | reverse | random: the order in which the threads of a block, and
// the blocks of a grid, take their turns. Right kernels give the same bits in each.
struct Order {
    enum Kind { FORWARD, REVERSE, RANDOM } kind = FORWARD;
    uint64_t state = 88172645463325252ull;
    Order() {
        const char *wanted = getenv("CUDA_EMULATOR_ORDER");
        if (wanted && !strcmp(wanted, "reverse"))
            kind = REVERSE;
        if (wanted && !strcmp(wanted, "random"))
            kind = RANDOM;
    }
    size_t below(size_t n) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        return state % n;
    }
    std::vector<size_t> permutation(size_t n) {
        std::vector<size_t> order(n);
        for (size_t i = 0; i < n; ++i)
            order[i] = kind == REVERSE ? n - 1 - i : i;
        if (kind == RANDOM)
            shuffle(order);
        return order;
    }
    void shuffle(std::vector<size_t> &order) {
        for (size_t i = 1; i < order.size(); ++i)
            std::swap(order[i], order[below(i + 1)]);
    }
};

static bool release_barrier(Launch &launch) {
    block.any = 0, block.all = 1, block.count = 0;
    for (int t = 0; t < block.threads; ++t) {
        Fiber &fiber = block.fibers[t];
        if (fiber.line != block.fibers[0].line) {
            snprintf(
                launch.error, sizeof launch.error,
                "threads of block (%u,%u,%u) wait at different __syncthreads (lines %d and %d)",
                block.index.x, block.index.y, block.index.z, block.fibers[0].line, fiber.line);
            return false;
        }
        block.any |= fiber.predicate != 0;
        block.all &= fiber.predicate != 0;
        block.count += fiber.predicate != 0;
        fiber.state = RUNNABLE;
    }
    return true;
}

// Lets go the lanes of one warp operation that every lane of its mask has reached, in the warp
// whose turn it is. Only of one, so that warps run as far ahead of each other as barriers allow.
static bool release_warp(const std::vector<size_t> &turns) {
    for (size_t turn : turns) {
        const int t = (int)turn;
        const Fiber &fiber = block.fibers[t];
        if (fiber.state != AT_WARP_OPERATION)
            continue;
        const int warp = t / WARP * WARP, mask_line = fiber.line;
        const unsigned mask = fiber.mask;
        bool complete = (mask >> (t - warp)) & 1;
        for (int l = 0; l < WARP; ++l)
            if ((mask >> l) & 1)
                complete = complete && warp + l < block.threads &&
                           block.fibers[warp + l].state == AT_WARP_OPERATION &&
                           block.fibers[warp + l].mask == mask &&
                           block.fibers[warp + l].line == mask_line;
        if (!complete)
            continue;
        for (int l = 0; l < WARP; ++l)
            if ((mask >> l) & 1)
                block.fibers[warp + l].state = RUNNABLE;
        return true;
    }
    return false;
}

static bool run_block(Launch &launch, Order &order) {
    if (static_shared_bytes())
        memset(__start_cuda_shared, 0xFF, static_shared_bytes());
    memset(block.dynamic_shared.data(), 0xFF, block.dynamic_shared.size());
    for (int t = 0; t < block.threads; ++t) {
        Fiber &fiber = block.fibers[t];
        fiber.state = RUNNABLE;
        fiber.thread = {t % launch.block[0], t / launch.block[0] % launch.block[1],
                        t / launch.block[0] / launch.block[1]};
    }
    std::vector<size_t> turns = order.permutation(block.threads);
    for (;;) {
        if (order.kind == Order::RANDOM)
            order.shuffle(turns);
        for (size_t t : turns)
            if (block.fibers[t].state == RUNNABLE)
                resume((int)t);
        int waiting = 0, finished = 0;
        for (int t = 0; t < block.threads; ++t) {
            waiting += block.fibers[t].state == AT_BARRIER;
            finished += block.fibers[t].state == FINISHED;
        }
        if (finished == block.threads)
            return true;
        if (waiting == block.threads) {
            if (!release_barrier(launch))
                return false;
        } else if (!release_warp(turns)) {
            int t = 0;
            while (block.fibers[t].state == FINISHED)
                ++t;
            snprintf(
                launch.error, sizeof launch.error,
                "deadlock in block (%u,%u,%u): %d of %d threads wait at __syncthreads, %d have "
                "ended; thread %d waits at line %d (%s)",
                block.index.x, block.index.y, block.index.z, waiting, block.threads, finished, t,
                block.fibers[t].line,
                block.fibers[t].state == AT_BARRIER ? "__syncthreads" : "warp operation");
            return false;
        }
    }
}

static void on_fault(int, siginfo_t *info, void *) {
    fault_address = info->si_addr;
    siglongjmp(fault_return, 1);
}

static int run_grid(Launch &launch, void (*body)(void *), void *argument) {
    block.threads = launch.block[0] * launch.block[1] * launch.block[2];
    while ((int)block.fibers.size() < block.threads) {
        Fiber fiber;
        fiber.stack = (char *)mmap(nullptr, STACK_BYTES, PROT_READ | PROT_WRITE,
                                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);
        block.fibers.push_back(fiber);
    }
    block.block_size = {launch.block[0], launch.block[1], launch.block[2]};
    block.grid_size = {launch.grid[0], launch.grid[1], launch.grid[2]};
    block.body = body, block.body_argument = argument;
    block.dynamic_shared.resize(launch.dynamic_shared + 64);

    static char signal_stack[64 << 10];
    stack_t ours = {}, before_stack = {};
    ours.ss_sp = signal_stack, ours.ss_size = sizeof signal_stack;
    sigaltstack(&ours, &before_stack);
    struct sigaction handler = {}, before_segv = {}, before_bus = {};
    handler.sa_sigaction = on_fault, handler.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &handler, &before_segv);
    sigaction(SIGBUS, &handler, &before_bus);

    volatile int outcome = OK;
    if (sigsetjmp(fault_return, 1)) {
        launch.fault_address = fault_address;
        snprintf(launch.error, sizeof launch.error,
                 "thread %d of block (%u,%u,%u) touched memory that is not there", block.current,
                 block.index.x, block.index.y, block.index.z);
        outcome = ILLEGAL_ADDRESS;
    } else {
        Order order;
        const size_t x = launch.grid[0], y = launch.grid[1];
        for (size_t b : order.permutation(x * y * launch.grid[2])) {
            block.index = {(unsigned)(b % x), (unsigned)(b / x % y), (unsigned)(b / x / y)};
            if (!run_block(launch, order)) {
                outcome = LAUNCH_FAILED;
                break;
            }
        }
    }
    if (outcome != OK)
        for (Fiber &fiber : block.fibers)
            fiber.started = false; // abandon them half way
    sigaction(SIGSEGV, &before_segv, nullptr);
    sigaction(SIGBUS, &before_bus, nullptr);
    sigaltstack(&before_stack, nullptr);
    return outcome;
}

// Unpacks the argument buffer as the parameters of `kernel` say, and runs the grid.
template <class... A, size_t... I>
static int launch_unpacked(void (*kernel)(A...), Launch &launch, std::index_sequence<I...>) {
    std::tuple<std::remove_cv_t<A>...> values;
    size_t offset = 0;
    auto take = [&](void *value, size_t bytes, size_t alignment) {
        offset = (offset + alignment - 1) / alignment * alignment;
        if (offset + bytes <= launch.arguments_size)
            memcpy(value, launch.arguments + offset, bytes);
        offset += bytes;
    };
    (take(&std::get<I>(values), sizeof(A), alignof(A)), ...);
    if (offset != launch.arguments_size) {
        snprintf(launch.error, sizeof launch.error,
                 "the kernel takes %zu bytes of arguments, the launch passed %zu", offset,
                 launch.arguments_size);
        return BAD_ARGUMENTS;
    }
    struct Call {
        void (*kernel)(A...);
        decltype(values) *arguments;
    } call{kernel, &values};
    return run_grid(
        launch,
        [](void *c) {
            auto *call = (Call *)c;
            call->kernel(std::get<I>(*call->arguments)...);
        },
        &call);
}
template <class... A> static int launch(void (*kernel)(A...), Launch *launch) {
    return launch_unpacked(kernel, *launch, std::index_sequence_for<A...>{});
}

// -- Warp operations
// -------------------------------------------------------------------------------

template <class T> static inline T shuffle(unsigned mask, T value, int source, int line) {
    static_assert(sizeof(T) <= 8, "shuffles move at most 8 bytes");
    memcpy(&self().exchange, &value, sizeof value);
    const int warp = block.current / WARP * WARP;
    source %= WARP;
    warp_operation(mask, line);
    T result;
    if (warp + source < block.threads && ((mask >> source) & 1))
        memcpy(&result, &block.fibers[warp + source].exchange, sizeof result);
    else
        memset((void *)&result, 0xFF, sizeof result); // undefined on a GPU: NaN here
    warp_operation(mask, line | 1 << 24);             // nobody overwrites before all have read
    return result;
}
static inline unsigned ballot(unsigned mask, int predicate, int line) {
    self().exchange = predicate != 0;
    const int warp = block.current / WARP * WARP;
    warp_operation(mask, line);
    unsigned result = 0;
    for (int l = 0; l < WARP; ++l)
        if (((mask >> l) & 1) && block.fibers[warp + l].exchange)
            result |= 1u << l;
    warp_operation(mask, line | 1 << 24);
    return result;
}
static inline int lane_or_self(int source) {
    return source >= 0 && source < WARP ? source : lane();
}

// The instruction of the same name: denormal numbers count as zero, as argument and as result.
static inline float ex2_approx_ftz(float x) {
    const float power = exp2f(fabsf(x) < 1.17549435e-38f ? 0.0f : x);
    return power < 1.17549435e-38f ? 0.0f : power;
}

} // namespace emulator

#define threadIdx (emulator::self().thread)
#define blockIdx (emulator::block.index)
#define blockDim (emulator::block.block_size)
#define gridDim (emulator::block.grid_size)
#define warpSize 32
#define __syncthreads() emulator::barrier(__LINE__)
#define __syncthreads_or(p) (emulator::barrier(__LINE__, (p)), emulator::block.any)
#define __syncthreads_and(p) (emulator::barrier(__LINE__, (p)), emulator::block.all)
#define __syncthreads_count(p) (emulator::barrier(__LINE__, (p)), emulator::block.count)
#define __syncwarp() emulator::warp_operation(0xffffffffu, __LINE__)
// The optional width of the shuffles is not emulated: giving one does not compile.
#define __shfl_sync(m, v, s) emulator::shuffle(m, v, s, __LINE__)
#define __shfl_xor_sync(m, v, x) emulator::shuffle(m, v, emulator::lane() ^ (x), __LINE__)
#define __shfl_down_sync(m, v, d)                                                                  \
    emulator::shuffle(m, v, emulator::lane_or_self(emulator::lane() + (int)(d)), __LINE__)
#define __shfl_up_sync(m, v, d)                                                                    \
    emulator::shuffle(m, v, emulator::lane_or_self(emulator::lane() - (int)(d)), __LINE__)
#define __ballot_sync(m, p) emulator::ballot(m, (p), __LINE__)
#define __any_sync(m, p) (emulator::ballot(m, (p), __LINE__) != 0)
#define __all_sync(m, p) (emulator::ballot(m, (p), __LINE__) == (m))

static inline void sincos(float x, float *s, float *c) { sincosf(x, s, c); }
template <class T> static inline T atomicAdd(T *p, T v) {
    T old = *p;
    *p = old + v;
    return old;
}
template <class T> static inline T __ldg(const T *p) { return *p; }
static inline float __int_as_float(int bits) {
    float f;
    memcpy(&f, &bits, 4);
    return f;
}
static inline double __longlong_as_double(long long bits) {
    double f;
    memcpy(&f, &bits, 8);
    return f;
}
template <class T> static inline T min(T a, T b) { return a < b ? a : b; }
template <class T> static inline T max(T a, T b) { return a > b ? a : b; }
