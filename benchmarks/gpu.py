"""Times the CUDA kernels on a GPU against the GPU's limits, PyTorch, CuPy and KeOps.

    python benchmarks/gpu.py                          # the full table
    python benchmarks/gpu.py --points 4096 --dims 3   # one corner of it

Each result, of the other libraries too, is checked against float64 before it is timed; times are
medians of CUDA events, of work that was queued while the device was busy: the host's part is given
by itself. A library that is not installed is left out; why one failed is said below the table.
Needs PyCUDA, nvcc, click and rich, but not Theano. Imports the kernels' launches; torch, cupy and
pykeops if they are there. Exit status 2 where there is no device, 1 where our result was wrong.
"""

import collections
import functools
import gc
import importlib
import importlib.util
import itertools
import json
import os
import statistics
import sys
import time
import types

import click
import numpy as np
from rich.console import Console
from rich.table import Table

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CHECKED_BYTES = 1 << 28  # of float64 on the host, when rows of a result are checked
TOLERANCE = {"float32": 3e-5, "float64": 1e-12}  # of the largest entry
PULL = 0.35  # of the device's memory that one array may take
LONG_ENOUGH = 0.5  # seconds, after which a call is not repeated again
LIMIT_SECONDS = 0.02  # that a measurement of a limit runs for
LONGEST_SPIN = 0.02  # seconds that the device is kept busy for while a call's work is queued
SUMMED_PAIRS = 1 << 24  # no more are added up on the host, for the gradient by gamma
FIRST_COMPILATION = 40  # seconds that KeOps is taken to need for a formula, until it has made one


def load_launches():
    """(runtime, launch), also where Theano cannot be imported: they do without it."""
    sys.path.insert(0, ROOT)
    try:
        import rbf_op  # noqa: F401
    except ImportError:
        package = types.ModuleType("rbf_op")
        package.__path__ = [os.path.join(ROOT, "rbf_op")]
        sys.modules["rbf_op"] = package
    return (importlib.import_module("rbf_op.device." + m) for m in ("runtime", "launch"))


# -- What the device can do at most ----------------------------------------------------------------

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

    Medians; of fewer calls where they take long. The device is busy until the call's work is
    queued, so its time has nothing of the host's in it, unless the call itself waits or queues more
    than fits. The call has been made before: what it compiles and allocates is there.
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
        times, hosts = [], [LONGEST_SPIN / 3]
        while len(times) < self.repeats and sum(times) < LONG_ENOUGH:
            start, stop = self.driver.Event(), self.driver.Event()
            self._spin(min(LONGEST_SPIN, 3 * statistics.median(hosts) + 1e-4))
            start.record()
            began = time.perf_counter()
            call()
            took = time.perf_counter() - began
            stop.record()
            stop.synchronize()
            hosts = [took] if not times else hosts + [took]
            times.append(stop.time_since(start) * 1e-3)
        return Time(statistics.median(times), statistics.median(hosts))

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


# -- What is timed ---------------------------------------------------------------------------------


class Problem:
    """Arrays of one size on the device, and the host's copies to check with.

    They are made where they are first used, by a contender whose cell says if there is no memory.
    """

    def __init__(self, device, dtype, n, d, p):
        self.device, self.dtype, self.n, self.d, self.p = device, dtype, n, d, p
        self.checked = max(1, min(16, CHECKED_BYTES // (8 * n * d)))

    @functools.cached_property
    def host(self):
        random = np.random.default_rng(0)

        def uniform(*shape):
            return 2 * random.random(shape, self.dtype) - 1

        n, d, p = self.n, self.d, self.p
        return dict(
            x=uniform(n, d), y=uniform(n, d), w=uniform(n, p), q=uniform(n, p),
            gamma=np.asarray(1.5 / d, self.dtype),
        )  # fmt: skip

    @functools.cached_property
    def on_device(self):
        return {name: self.device.to_device(v) for name, v in self.host.items()}

    def error(self, found, what):
        """The largest error of the checked rows, each as a share of what is largest of its kind.

        found: rows of results by name; at least one of them must be expected.
        """
        errors = []
        for name in set(found) & set(self.expected[what]):
            expected, scale = self.expected[what][name]
            rows = np.asarray(found[name], np.float64).reshape(expected.shape)
            errors.append(np.abs(rows - expected).max() / scale)
        return np.max(errors)  # NaN, if there is one

    @functools.cached_property
    def expected(self):
        """{what: {name: (the first rows in float64, the size that errors are a share of)}}

        Of K, the product, the gradients of sum(K * K) / 2 in the form that is timed and of the
        product. "gammas" is the gradient by a gamma for each centre; "gamma" and "amplitude" are
        those by one for all.
        """
        x, y, w, q = (self.host[name].astype(np.float64) for name in "xywq")
        some, gamma = slice(self.checked), float(self.host["gamma"])

        def pairs(a, b):
            difference = a[:, None, :] - b[None]
            distance = (difference**2).sum(-1)
            return np.exp(-gamma * distance), difference, distance

        def points(weight, difference):
            return -2 * gamma * np.einsum("ij,ijk->ik", weight, difference)

        K, difference, _ = pairs(x[some], y)
        Kt, difference_t, distance_t = pairs(y[some], x)
        G, Gt = q[some].dot(w.T), w[some].dot(q.T)  # dK of the product
        found = {
            "K kept": {"K": K},
            "K brought back": {"K": K},
            "gradient of K": {
                "x": points(K * K, difference),
                "y": points(Kt * Kt, difference_t),
                "gammas": -(Kt * Kt * distance_t).sum(1),
            },
            "product": {"P": K.dot(w)},
            "gradient of product": {
                "x": points(K * G, difference),
                "y": points(Kt * Gt, difference_t),
                "weights": Kt.dot(q),
                "gammas": -(Kt * Gt * distance_t).sum(1),
            },
        }
        found = {
            what: {name: (rows, np.abs(rows).max()) for name, rows in results.items()}
            for what, results in found.items()
        }
        if self.n**2 <= SUMMED_PAIRS:
            distance = (x * x).sum(1)[:, None] + (y * y).sum(1) - 2 * x.dot(y.T)
            K = np.exp(-gamma * distance)
            for what, dK in (("gradient of K", K), ("gradient of product", q.dot(w.T))):
                for name, factor in (("gamma", -distance), ("amplitude", 1)):
                    terms = (K * dK * factor).sum(0)
                    total = terms.sum()  # of either sign: it may be small by chance
                    found[what][name] = total, max(abs(total), np.sqrt((terms**2).sum()))
        return found

    @property
    def seconds_to_make(self):
        """About what its arrays and what is expected take on the host, if they are not there."""
        return 0 if "host" in self.__dict__ else 1e-7 * self.n * (self.d + self.p + 20)


# -- Contenders ------------------------------------------------------------------------------------


OURS, KEOPS = "rbf_op", "keops"

# Each yields (what, contender, call, what takes the checked rows of its results to the host). Calls
# return their results by name. Nothing is yielded where the library is missing, nothing on the
# device is made before a call.


def our_calls(launch, problem, with_k):
    device = problem.device
    wanted, all_of_k = ("x", "y", "gamma", "weights"), ("x", "y", "gamma", "amplitude")

    def product():
        a = problem.on_device
        return {"P": launch.product(device, a["x"], a["y"], a["gamma"], a["w"])}

    def product_gradient(gamma=None, wanted=wanted):
        product()  # others' gradients work out the value as well
        a = problem.on_device
        gamma = a["gamma"] if gamma is None else gamma
        return launch.product_gradient(device, a["x"], a["y"], gamma, a["w"], a["q"], wanted)

    def on_host(results):
        return {
            k: device.to_host(v[: problem.checked] if v.ndim else v) for k, v in results.items()
        }

    def with_gammas(gradient):
        """on_host, of the gradient by a gamma for each centre as well: what one for all adds up."""

        def on_host_with_gammas(results):
            gammas = device.to_device(np.full(problem.n, problem.host["gamma"]))
            found = on_host(gradient(gammas, ("gamma",)))
            return dict(on_host(results), gammas=found["gamma"])

        return on_host_with_gammas

    yield "product", OURS, product, on_host
    yield "gradient of product", OURS, product_gradient, with_gammas(product_gradient)
    if not with_k:
        return

    @functools.lru_cache(maxsize=None)
    def out():
        return device.empty((problem.n, problem.n), problem.dtype)

    def arguments():
        a = problem.on_device
        return device, a["x"], a["y"], a["gamma"], device.one(problem.dtype)

    def forward():
        return {"K": launch.forward(*arguments(), out=out())}

    def gradient(gamma=None, wanted=all_of_k):  # K stands for its own gradient
        K = forward()["K"]
        device, x, y, one_gamma, amplitude = arguments()
        gamma = one_gamma if gamma is None else gamma
        return launch.gradient(device, x, y, gamma, amplitude, K, wanted)

    def brought_back():
        return {"K": device.to_host(forward()["K"])}

    yield "K kept", OURS, forward, on_host
    yield "gradient of K", OURS, gradient, with_gammas(gradient)
    yield "K brought back", OURS, brought_back, lambda r: {"K": r["K"][: problem.checked]}


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


def is_installed(library):
    """Whether it is there: then what its import lacks is a failure to be told."""
    return importlib.util.find_spec(library) is not None


def torch_arrays(problem):
    """A function of x, y, w and q as torch has them on the device, and one of their rows there."""
    import torch

    @functools.lru_cache(maxsize=None)
    def arrays():
        return [torch.as_tensor(problem.host[k]).cuda() for k in "xywq"]

    def on_host(results):
        return {k: v[: problem.checked].detach().cpu().numpy() for k, v in results.items()}

    return arrays, on_host


def torch_calls(problem, with_k):
    if not is_installed("torch"):
        return
    import torch

    if not torch.cuda.is_available():
        return
    arrays, on_host = torch_arrays(problem)
    gamma = 1.5 / problem.d
    # Precision as ours: TF32 has three digits.
    torch.backends.cuda.matmul.allow_tf32 = False

    def expansion(a, b):
        distance = (a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * a @ b.T
        return torch.exp(-gamma * distance.clamp(min=0))

    def addmm(a, b):  # the same with one matrix of the size of K
        exponent = torch.addmm(-gamma * (b * b).sum(1), a, b.T, alpha=2 * gamma)
        return exponent.sub_(gamma * (a * a).sum(1)[:, None]).clamp_(max=0).exp_()

    def cdist(a, b):
        return torch.exp(-gamma * torch.cdist(a, b).square())

    rows = max(1, min(problem.n, (1 << 28) // problem.n))  # blocks where memory would end
    blocks = range(0, problem.n, rows)

    def product(kernel):
        x, y, w, _ = arrays()
        return {"P": torch.cat([kernel(x[i : i + rows], y) @ w for i in blocks])}

    def forward(kernel):
        return {"K": kernel(*arrays()[:2])}

    def gradient(kernel):
        a, b = (v.clone().requires_grad_() for v in arrays()[:2])
        K = kernel(a, b)
        return dict(zip("xy", torch.autograd.grad(K, [a, b], K.detach())))

    def product_gradient(kernel):
        a, b, c = (v.clone().requires_grad_() for v in arrays()[:3])
        q = arrays()[3]
        for i in blocks:
            (kernel(a[i : i + rows], b) @ c).backward(q[i : i + rows])
        return {"x": a.grad, "y": b.grad, "weights": c.grad}

    for name, kernel in (("expansion", expansion), ("addmm", addmm), ("cdist", cdist)):
        calls = [("product", product), ("gradient of product", product_gradient)]
        if with_k:
            calls += [("K kept", forward), ("gradient of K", gradient)]
        for what, function in calls:
            yield what, "torch " + name, functools.partial(function, kernel), on_host


def cupy_calls(problem, with_k):
    if not with_k or not is_installed("cupy"):
        return
    import cupy

    gamma = 1.5 / problem.d

    @functools.lru_cache(maxsize=None)
    def arrays():
        return [cupy.asarray(problem.host[k]) for k in "xyw"]

    def expansion():
        x, y, _ = arrays()
        distance = (x * x).sum(1)[:, None] + (y * y).sum(1) - 2 * x @ y.T
        return {"K": cupy.exp(-gamma * cupy.maximum(distance, 0))}

    def product():
        return {"P": expansion()["K"] @ arrays()[2]}

    def on_host(results):
        return {k: cupy.asnumpy(v[: problem.checked]) for k, v in results.items()}

    yield "K kept", "cupy expansion", expansion, on_host
    yield "product", "cupy expansion", product, on_host


def keops_calls(problem):
    if not is_installed("pykeops"):
        return
    import torch
    from pykeops.torch import LazyTensor

    if not torch.cuda.is_available():
        return
    arrays, on_host = torch_arrays(problem)
    gamma = 1.5 / problem.d

    def of(a, b, c):
        distance = ((LazyTensor(a[:, None, :]) - LazyTensor(b[None, :, :])) ** 2).sum(-1)
        return (-gamma * distance).exp() @ c

    def product():
        return {"P": of(*arrays()[:3])}

    def gradient():
        arguments = [v.clone().requires_grad_() for v in arrays()[:3]]
        gradients = torch.autograd.grad(of(*arguments), arguments, arrays()[3])
        return dict(zip(("x", "y", "weights"), gradients))

    yield "product", KEOPS, product, on_host
    yield "gradient of product", KEOPS, gradient, on_host


# What gives the driver back the memory that a library keeps for later arrays.
EMPTY_CACHE = {
    "torch": lambda torch: torch.cuda.empty_cache(),
    "cupy": lambda cupy: cupy.get_default_memory_pool().free_all_blocks(),
}


def out_of_memory(trouble):
    return isinstance(trouble, MemoryError) or "out of memory" in str(trouble).lower()


class Stopwatch:
    """Times calls whose results are right, and that are not expected to take too long.

    limit: seconds that a call may take; budget: seconds for everything, from now on.
    notes: {contender and what it was to compute: why it failed}; wrong: sentences about our own
    """

    def __init__(self, clock, limit, budget):
        self.clock, self.limit, self.seen, self.notes = clock, limit, {}, {}
        self.end, self.wrong = time.monotonic() + budget, []
        self.formulas, self.compilation = set(), 0  # of KeOps; seconds that one took

    def left(self):
        """Seconds left of the budget."""
        return self.end - time.monotonic()

    def rows(self, problem, floor, calls):
        """(what, contender, Time or a word that says why there is none).

        floor: seconds by what is computed; calls: {library: its calls}
        """
        for library, made in calls.items():
            # In a function of its own, whose end drops the calls and with them their results.
            yield from self._rows_of(library, made, problem, floor)
            self._release_memory(problem.device)

    def _rows_of(self, library, calls, problem, floor):
        try:
            for what, name, call, on_host in calls:
                yield what, name, self._time(problem, floor, what, name, call, on_host)
        except Exception as trouble:  # in its import; it would have had a product
            yield "product", library, self._word("product", library, trouble)

    def _expected(self, key, problem, least):
        """Seconds: by the time for fewer points, which grows as their square; or `least`."""
        points, before = self.seen.get(key, (problem.n, least))
        return before * (problem.n / points) ** 2

    def _time(self, problem, floor, what, name, call, on_host):
        formula = (problem.dtype, problem.d, problem.p, what)
        key = formula + (name,)
        # Tensor cores and expanded squares may be four times as fast as our floor.
        least = floor.get(what, 0) / (1 if name == OURS else 4)
        expected = self._expected(key, problem, least)
        if expected > self.limit:
            return "over the limit"
        compiles = name == KEOPS and formula not in self.formulas
        needed = 3 * expected + problem.seconds_to_make
        if compiles:
            needed += self.compilation or FIRST_COMPILATION
        if self.left() < needed:
            return "no time"
        began = time.monotonic()
        try:
            error = problem.error(on_host(call()), what)
            if compiles:
                self.formulas.add(formula)
                self.compilation = max(self.compilation, time.monotonic() - began)
            if error <= TOLERANCE[problem.dtype]:
                # Libraries use the default stream, in which the clock's events wait for them.
                found = self.clock(call)
                self.seen[key] = problem.n, found.seconds
                return found
        except Exception as trouble:
            return self._word(what, name, trouble)
        if name == OURS:
            self.wrong.append(
                "%s is wrong (n=%d, d=%d, p=%d, %s): %.1e of its largest entry. It was not timed."
                % (what, problem.n, problem.d, problem.p, problem.dtype, error)
            )
        return "wrong"

    def _word(self, what, name, trouble):
        """What stands in the table for a time; raises what went wrong with our own."""
        if out_of_memory(trouble):
            return "no memory"
        if name == OURS:
            raise trouble
        line = (str(trouble).strip().splitlines() or [""])[0]
        note = "%s: %s" % (type(trouble).__name__, line)
        self.notes.setdefault("%s, %s" % (name, what), note)
        return "failed"

    def _release_memory(self, device):
        """Have the next library find all memory free that the problem's arrays leave."""
        gc.collect()  # what a failed call's traceback and others' cycles still hold
        device.release_held_memory()
        for name, empty in EMPTY_CACHE.items():
            try:
                if name in sys.modules:
                    empty(sys.modules[name])
            except Exception as trouble:
                self._word("release of memory", name, trouble)


# -- The table -------------------------------------------------------------------------------------


def seconds(value):
    if isinstance(value, str):
        return value
    for unit, factor in (("s", 1), ("ms", 1e3), ("us", 1e6)):
        if value * factor >= 1 or unit == "us":
            return "%.3g %s" % (value * factor, unit)


def limits_or_word(clock, dtype, quick):
    """What the clock's limits() finds, or the word that stands in the table in its place."""
    try:
        return clock.limits(dtype, quick)
    except Exception as trouble:
        if not out_of_memory(trouble):
            raise
    return "no memory"


def measure(stopwatch, problem, calls, rates, results):
    """Append what is timed of a problem to `results`, as the times come; others beside ours.

    rates: of limits_or_word.
    """
    floor = {} if isinstance(rates, str) else floors(rates, problem)
    sizes = dict(dtype=problem.dtype, n=problem.n, d=problem.d, p=problem.p)
    found = {r["what"]: r for r in results if sizes.items() <= r.items()}
    for what, name, timed in stopwatch.rows(problem, floor, calls):
        taken, host = timed if isinstance(timed, Time) else (timed, None)
        if name == OURS:
            found[what] = dict(
                sizes, what=what, seconds=taken, host=host, floor=floor.get(what, rates),
                others={}, others_host={},
            )  # fmt: skip
            results.append(found[what])
        else:
            found[what]["others"][name] = taken
            found[what]["others_host"][name] = host


def show(title, results, notes):
    """Print the table, and below it why other libraries failed."""
    table = Table(title=title)
    for heading in ("problem", "what", "ours", "host", "% of floor", "others"):
        table.add_column(heading)
    for row in results:
        if "what" not in row:
            continue
        ours, floor = row["seconds"], row["floor"]
        share = floor if isinstance(floor, str) else ""
        if not (share or isinstance(ours, str)):
            share = "%.0f" % (100 * floor / ours)
        table.add_row(
            "{dtype} n={n} d={d} p={p}".format(**row), row["what"], seconds(ours),
            "" if row["host"] is None else seconds(row["host"]), share,
            ", ".join("%s %s" % (k, seconds(t)) for k, t in row["others"].items()),
        )  # fmt: skip
    console = Console()
    if table.row_count:
        console.print(table)
    for failed, why in notes.items():
        console.print("%s: %s" % (failed, why), markup=False, highlight=False)


def device_or_exit(runtime):
    """The device; exit status 2 with a line that says why there is none."""
    try:
        return runtime.device()
    except runtime.CUDAUnavailable as trouble:
        click.echo(str(trouble), err=True)
        sys.exit(2)


@click.command()
@click.option("--points", multiple=True, type=int, help="n = m; 4096, 16384, 65536, 1048576.")
@click.option("--dims", multiple=True, type=int, help="d; 3, 32 and 256 by default.")
@click.option("--columns", multiple=True, type=int, help="p of the product; 1 and 16 by default.")
@click.option("--dtypes", multiple=True, type=click.Choice(sorted(TOLERANCE)))
@click.option("--repeats", default=7, show_default=True)
@click.option("--limit", default=3.0, show_default=True, help="Seconds that a call may take.")
@click.option("--budget", default=540.0, show_default=True, help="Seconds for everything.")
@click.option("--quick", is_flag=True, help="Small measurements of the limits: to try the script.")
@click.option("--json", "json_file", type=click.Path(), help="Write all numbers here as well.")
def main(points, dims, columns, dtypes, repeats, limit, budget, quick, json_file):
    """Times the kernels on this machine's GPU; checks every result first.

    What would not end within the budget is left out: few points come first, KeOps, which compiles
    each formula, last.
    """
    number = os.environ.get("CUDA_DEVICE", "0")
    if number != "0":
        raise click.ClickException(
            "CUDA_DEVICE is %r, but the other libraries would be timed on device 0. Unset it, and "
            "choose the GPU with CUDA_VISIBLE_DEVICES, which all libraries heed." % number
        )
    runtime, launch = load_launches()
    dtypes, columns = dtypes or sorted(TOLERANCE), columns or (1, 16)
    sizes = list(
        itertools.product(
            points or (4096, 16384, 65536, 1048576), dtypes, dims or (3, 32, 256), columns
        )
    )
    results = []
    with device_or_exit(runtime) as device:
        import pycuda.driver as driver

        clock = Clock(device, repeats)
        stopwatch = Stopwatch(clock, limit, budget)
        memory = driver.mem_get_info()[1]

        def measure_all(sizes, calls):
            for n, dtype, d, p in sizes:
                fits = n * n * np.dtype(dtype).itemsize < PULL * memory
                problem = Problem(device, dtype, n, d, p)
                made = calls(problem, fits and p == columns[0])
                measure(stopwatch, problem, made, rates[dtype], results)
                if json_file:  # what there is, should the rest not come
                    with open(json_file, "w") as file:
                        json.dump(results, file, indent=1)

        try:
            rates = {}
            for dtype in dtypes:
                rates[dtype] = limits_or_word(clock, dtype, quick)
                results.append(dict(device=device.name, dtype=dtype, limits=rates[dtype]))
            measure_all(
                sizes,
                lambda problem, with_k: {
                    OURS: our_calls(launch, problem, with_k),
                    "torch": torch_calls(problem, with_k),
                    "cupy": cupy_calls(problem, with_k),
                },
            )
            # One formula after the other.
            formulas = sorted(sizes, key=lambda size: (dtypes.index(size[1]), size[2:], size[0]))
            measure_all(formulas, lambda problem, with_k: {KEOPS: keops_calls(problem)})
        finally:  # what was measured, should it have been interrupted
            show(device.name, results, stopwatch.notes)
    if stopwatch.wrong:
        raise SystemExit("\n".join(stopwatch.wrong))


if __name__ == "__main__":
    main()
