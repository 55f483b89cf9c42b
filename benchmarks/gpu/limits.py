"""What the device can do at most: measured rates, the clock, and floors of what is computed.

Kernels that do nothing but multiply-adds or exponentials, and copies, give the rates; a floor is
the slowest of the parts that every kernel of a form has. May import NumPy and, when called, PyCUDA
and device/runtime.py, which launches.py has let be imported by then.
"""

import collections
import functools
import statistics
import time

import numpy as np

LONG_ENOUGH = 0.5  # seconds, after which a call is not repeated again
LIMIT_SECONDS = 0.02  # that a measurement of a limit runs for
LONGEST_SPIN = 0.02  # seconds that the device is kept busy for while a call's work is queued

LIMITS_SOURCE = """
__device__ __forceinline__ float power(float v) {
#ifdef __CUDA_EMULATOR__
    return exp2(v);
#else // as cuda/tile.cuh has it: the instruction alone
    float result;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(v));
    return result;
#endif
}
__device__ __forceinline__ double power(double v) { return exp2(v); }

extern "C" __global__ void multiply_add(REAL *out, REAL a, int rounds) {
    REAL v[8];
    for (int i = 0; i < 8; ++i) v[i] = a + i + threadIdx.x;
#pragma unroll 16
    for (int r = 0; r < rounds; ++r)
#pragma unroll
        for (int i = 0; i < 8; ++i) v[i] = v[i] * a + a;
    REAL s = 0;
    for (int i = 0; i < 8; ++i) s += v[i];
    out[blockIdx.x * blockDim.x + threadIdx.x] = s;
}
extern "C" __global__ void exponential(REAL *out, REAL a, int rounds) {
    REAL v[8];
    for (int i = 0; i < 8; ++i) v[i] = -a * (i + 1);
#pragma unroll 4
    for (int r = 0; r < rounds; ++r)
#pragma unroll
        for (int i = 0; i < 8; ++i) v[i] = -power(v[i]);
    REAL s = 0;
    for (int i = 0; i < 8; ++i) s += v[i];
    out[blockIdx.x * blockDim.x + threadIdx.x] = s;
}
"""

# Keeps the multiprocessors busy, and their clocks up, for so many cycles.
SPIN_SOURCE = """
extern "C" __global__ void spin(long long cycles) {
#ifndef __CUDA_EMULATOR__
    const long long start = clock64();
    while (clock64() - start < cycles) {}
#endif
}
"""


@functools.lru_cache(maxsize=None)
def compiled(source):
    """The module of some CUDA source."""
    from pycuda.compiler import SourceModule

    from rbf_op.device.runtime import find_nvcc  # here: load_launches lets it be imported

    return SourceModule(source, nvcc=find_nvcc(), no_extern_c=True)


Time = collections.namedtuple("Time", "seconds host")


class Clock:
    """Times of a call in seconds: on the device, by CUDA events, and until it returns on the host.

    The host's of one call while the device is idle; the device's a median, of fewer calls where
    they take long. Then it is busy until the call's work is queued, so its time has nothing of the
    host's in it, unless the call itself waits or queues more than fits. The call has been made
    before: what it compiles and allocates is there.
    """

    def __init__(self, device, repeats):
        import pycuda.driver as driver

        self.driver, self.repeats = driver, repeats
        attribute = driver.device_attribute
        here = driver.Context.get_device()
        self.blocks = here.get_attribute(attribute.MULTIPROCESSOR_COUNT)
        self.hertz = 1e3 * here.get_attribute(attribute.CLOCK_RATE)
        self.device = device

    def __call__(self, call):
        self.driver.Context.synchronize()
        began = time.perf_counter()
        call()
        host, times = time.perf_counter() - began, []
        while len(times) < self.repeats and sum(times) < LONG_ENOUGH:
            start, stop = self.driver.Event(), self.driver.Event()
            self._spin(min(LONGEST_SPIN, 3 * host + 1e-4))
            start.record()
            call()
            stop.record()
            stop.synchronize()
            times.append(stop.time_since(start) * 1e-3)
        return Time(statistics.median(times), host)

    def _spin(self, seconds):
        function = compiled(SPIN_SOURCE).get_function("spin")
        cycles = np.int64(seconds * self.hertz)
        function(cycles, block=(32, 1, 1), grid=(self.blocks, 1))

    def limits(self, dtype, quick):
        """Multiply-adds and exponentials a second, bytes a second on the device and to the host.

        quick: of hardly any work, to try the script.
        """
        driver, device = self.driver, self.device
        real = {"float32": "float", "float64": "double"}[dtype]
        module = compiled(LIMITS_SOURCE.replace("REAL", real))
        blocks = 8 * self.blocks
        out = device.empty((blocks * 256,), dtype)

        def rate(work, call):
            call()
            return work / self(call).seconds

        def operations(function, rounds):
            work = blocks * 256 * 8 * rounds
            return rate(work, lambda: function(
                out, np.dtype(dtype).type(1e-3), np.int32(rounds), block=(256, 1, 1),
                grid=(blocks, 1),
            ))  # fmt: skip

        found = {}
        for name in ("multiply_add", "exponential"):
            function, rounds = module.get_function(name), 16
            found[name] = operations(function, rounds)
            if not quick:  # so many as take long enough, by what a few took
                rounds = int(LIMIT_SECONDS * operations(function, 1024) / (blocks * 256 * 8))
                found[name] = operations(function, max(1024, rounds // 16 * 16))
        size = 1 << (10 if quick else 28)
        a, b = device.zeros((size,), "float32"), device.zeros((size,), "float32")
        found["memory"] = rate(
            2 * a.nbytes, lambda: driver.memcpy_dtod(a.gpudata, b.gpudata, a.nbytes)
        )
        pageable, pinned = np.empty(size, np.float32), driver.pagelocked_empty(size, np.float32)
        for name, host in (("to_host", pageable), ("to_host_pinned", pinned)):
            found[name] = rate(a.nbytes, lambda h=host: driver.memcpy_dtoh(h, a.gpudata))
        return found


def slowest(limit, pairs, operations, exponentials, nbytes, host_bytes=0):
    """No kernel of this form can be faster: the slowest of its parts, in seconds."""
    parts = [
        pairs * operations / limit["multiply_add"],
        pairs * exponentials / limit["exponential"],
        nbytes / limit["memory"],
    ]
    return max(parts) + host_bytes / limit["to_host"]


def floors(limit, problem):
    """Seconds below which no kernel that takes differences can come, by what is computed."""
    d, p, pairs = problem.d, problem.p, problem.n**2
    k_bytes = pairs * np.dtype(problem.dtype).itemsize
    return {
        "K kept": slowest(limit, pairs, 2 * d, 1, k_bytes),
        "K brought back": slowest(limit, pairs, 2 * d, 1, k_bytes, k_bytes),
        "gradient of K": slowest(limit, pairs, 10 * d, 3, 3 * k_bytes),
        "product": slowest(limit, pairs, 2 * d + p, 1, 0),
        "gradient of product": slowest(limit, pairs, 12 * d + 4 * p, 4, 0),
    }


def out_of_memory(trouble):
    return isinstance(trouble, MemoryError) or "out of memory" in str(trouble).lower()


def limits_or_word(clock, dtype, quick):
    """What the clock's limits() finds, or the word that stands in the table in its place."""
    try:
        return clock.limits(dtype, quick)
    except Exception as trouble:
        if not out_of_memory(trouble):
            raise
    return "no memory"
