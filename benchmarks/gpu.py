"""Times the CUDA kernels on a GPU against the GPU's limits, PyTorch, CuPy and KeOps.

    python benchmarks/gpu.py                          # the full table
    python benchmarks/gpu.py --points 4096 --dims 3   # one corner of it

Each result, of the other libraries too, is checked against float64 before it is timed; times are
medians of CUDA events. A library that is not installed is left out; why one failed is said below
the table. Needs PyCUDA, nvcc, click and rich, but not Theano. Imports the kernels' launches; torch,
cupy and pykeops if they are there.
"""

import functools
import gc
import importlib
import itertools
import json
import os
import statistics
import sys
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
extern "C" __global__ void multiply_add(REAL *out, REAL a, int rounds) {
    REAL v[8];
    for (int i = 0; i < 8; ++i) v[i] = a + i + threadIdx.x;
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
    for (int r = 0; r < rounds; ++r)
#pragma unroll
        for (int i = 0; i < 8; ++i) v[i] = -exp2(v[i]);
    REAL s = 0;
    for (int i = 0; i < 8; ++i) s += v[i];
    out[blockIdx.x * blockDim.x + threadIdx.x] = s;
}
"""


class Clock:
    """Median time of a call in seconds, by CUDA events; of fewer calls where they take long.

    The call has been made before: what it compiles and allocates is there.
    """

    def __init__(self, repeats):
        import pycuda.driver

        self.driver, self.repeats = pycuda.driver, repeats

    def __call__(self, call):
        times = []
        while len(times) < self.repeats and sum(times) < LONG_ENOUGH:
            start, stop = self.driver.Event(), self.driver.Event()
            start.record()
            call()
            stop.record()
            stop.synchronize()
            times.append(stop.time_since(start) * 1e-3)
        return statistics.median(times)


def limits(device, clock, dtype, rounds, size):
    """Multiply-adds and exponentials a second, bytes a second on the device and to the host."""
    import pycuda.driver as driver
    from pycuda.compiler import SourceModule

    from rbf_op.device.runtime import find_nvcc  # here: load_launches lets it be imported

    real = {"float32": "float", "float64": "double"}[dtype]
    source = LIMITS_SOURCE.replace("REAL", real)
    module = SourceModule(source, nvcc=find_nvcc(), no_extern_c=True)
    blocks = 8 * driver.Context.get_device().multiprocessor_count
    out = device.empty((blocks * 256,), dtype)

    def rate(work, call):
        call()
        return work / clock(call)

    found = {}
    for name in ("multiply_add", "exponential"):
        function = module.get_function(name)
        found[name] = rate(
            blocks * 256 * 8 * rounds,
            lambda f=function: f(
                out, np.dtype(dtype).type(1e-3), np.int32(rounds), block=(256, 1, 1),
                grid=(blocks, 1),
            ),
        )  # fmt: skip
    a, b = device.zeros((size,), "float32"), device.zeros((size,), "float32")
    found["memory"] = rate(2 * a.nbytes, lambda: driver.memcpy_dtod(a.gpudata, b.gpudata, a.nbytes))
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
        random = np.random.RandomState(0)

        def uniform(*shape):
            return random.uniform(-1, 1, shape).astype(self.dtype)

        n, d, p = self.n, self.d, self.p
        return dict(
            x=uniform(n, d), y=uniform(n, d), w=uniform(n, p), q=uniform(n, p),
            gamma=np.asarray(1.5 / d, self.dtype),
        )  # fmt: skip

    @functools.cached_property
    def on_device(self):
        return {name: self.device.to_device(v) for name, v in self.host.items()}

    def rows_of_k(self):
        """The first rows of K in float64, and their distances' differences."""
        x, y = (self.host[name].astype(np.float64) for name in "xy")
        difference = x[: self.checked, None, :] - y[None]
        return np.exp(-float(self.host["gamma"]) * (difference**2).sum(-1)), difference

    def error(self, rows, expected):
        """The largest error of the checked rows, as a share of the largest entry."""
        rows = np.asarray(rows, np.float64).reshape(expected.shape)
        return np.abs(rows - expected).max() / np.abs(expected).max()

    @functools.cached_property
    def expected(self):
        """The first rows of K, of dx of sum(K * K) / 2 in the form that is timed, of the product
        and of dx of the product, in float64.
        """
        K, difference = self.rows_of_k()
        w, q = self.host["w"].astype(np.float64), self.host["q"].astype(np.float64)
        scale = -2 * float(self.host["gamma"])
        weight = K * q[: self.checked].dot(w.T)
        return {
            "K kept": K,
            "K brought back": K,
            "gradient of K": scale * np.einsum("ij,ijk->ik", K * K, difference),
            "product": K.dot(w),
            "gradient of product": scale * np.einsum("ij,ijk->ik", weight, difference),
        }


# -- Contenders ------------------------------------------------------------------------------------


OURS = "rbf_op"

# Each yields (what, contender, call, rows of its result on the host); nothing where it is missing.


def our_calls(launch, problem, with_k):
    device = problem.device
    wanted, all_of_k = ("x", "y", "gamma", "weights"), ("x", "y", "gamma", "amplitude")

    def product():
        a = problem.on_device
        return launch.product(device, a["x"], a["y"], a["gamma"], a["w"])

    def product_gradient():
        product()  # others' gradients work out the value as well
        a = problem.on_device
        return launch.product_gradient(
            device, a["x"], a["y"], a["gamma"], a["w"], a["q"], wanted
        )["x"]  # fmt: skip

    def on_host(result):
        return device.to_host(result[: problem.checked])

    yield "product", OURS, product, on_host
    yield "gradient of product", OURS, product_gradient, on_host
    if not with_k:
        return

    def arguments():
        a = problem.on_device
        return device, a["x"], a["y"], a["gamma"], device.one(problem.dtype)

    @functools.lru_cache(maxsize=None)
    def out():
        return device.empty((problem.n, problem.n), problem.dtype)

    def forward():
        return launch.forward(*arguments(), out=out())

    def gradient():  # K stands for its own gradient: any matrix of its size would do
        return launch.gradient(*arguments(), grad_output=forward(), wanted=all_of_k)["x"]

    yield "K kept", OURS, forward, on_host
    yield "gradient of K", OURS, gradient, on_host
    yield "K brought back", OURS, lambda: device.to_host(forward()), lambda K: K[: problem.checked]


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


def torch_calls(problem, with_k):
    try:
        import torch
    except ModuleNotFoundError:
        return
    if not torch.cuda.is_available():
        return
    x, y, w, q = (torch.as_tensor(problem.host[k]).cuda() for k in "xywq")
    gamma = float(problem.host["gamma"])
    # Precision as ours: TF32 has three digits.
    torch.backends.cuda.matmul.allow_tf32 = False

    def expansion(a, b):
        distance = (a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * a @ b.T
        return torch.exp(-gamma * distance.clamp(min=0))

    def cdist(a, b):
        return torch.exp(-gamma * torch.cdist(a, b).square())

    rows = max(1, min(problem.n, (1 << 28) // problem.n))  # blocks where memory would end
    blocks = range(0, problem.n, rows)

    def product(kernel):
        return torch.cat([kernel(x[i : i + rows], y) @ w for i in blocks])

    def gradient(kernel):
        a, b = x.clone().requires_grad_(), y.clone().requires_grad_()
        K = kernel(a, b)
        return torch.autograd.grad(K, [a, b], K.detach())[0]

    def product_gradient(kernel):
        a, b, c = (v.clone().requires_grad_() for v in (x, y, w))
        for i in blocks:
            (kernel(a[i : i + rows], b) @ c).backward(q[i : i + rows])
        return a.grad

    def on_host(result):
        return result[: problem.checked].cpu().numpy()

    for name, kernel in (("expansion", expansion), ("cdist", cdist)):
        calls = [("product", product), ("gradient of product", product_gradient)]
        if with_k:
            calls += [("K kept", lambda k: k(x, y)), ("gradient of K", gradient)]
        for what, function in calls:
            yield what, "torch " + name, lambda f=function, k=kernel: f(k), on_host


def cupy_calls(problem, with_k):
    if not with_k:
        return
    try:
        import cupy
    except ModuleNotFoundError:
        return
    x, y, w = (cupy.asarray(problem.host[k]) for k in "xyw")
    gamma = problem.host["gamma"].item()

    def expansion():
        distance = (x * x).sum(1)[:, None] + (y * y).sum(1) - 2 * x @ y.T
        return cupy.exp(-gamma * cupy.maximum(distance, 0))

    def on_host(result):
        return cupy.asnumpy(result[: problem.checked])

    yield "K kept", "cupy expansion", expansion, on_host
    yield "product", "cupy expansion", lambda: expansion() @ w, on_host


def keops_calls(problem):
    try:
        import torch
        from pykeops.torch import LazyTensor
    except ModuleNotFoundError:
        return
    if not torch.cuda.is_available():
        return
    x, y, w, q = (torch.as_tensor(problem.host[k]).cuda() for k in "xywq")
    gamma = float(problem.host["gamma"])

    def product(a=x, b=y, c=w):
        distance = ((LazyTensor(a[:, None, :]) - LazyTensor(b[None, :, :])) ** 2).sum(-1)
        return (-gamma * distance).exp() @ c

    def gradient():
        arguments = [v.clone().requires_grad_() for v in (x, y, w)]
        return torch.autograd.grad(product(*arguments), arguments, q)[0]

    def on_host(result):
        return result[: problem.checked].cpu().numpy()

    yield "product", "keops", product, on_host
    yield "gradient of product", "keops", gradient, on_host


# What gives the driver back the memory that a library keeps for later arrays.
EMPTY_CACHE = {
    "torch": lambda torch: torch.cuda.empty_cache(),
    "cupy": lambda cupy: cupy.get_default_memory_pool().free_all_blocks(),
}


def out_of_memory(trouble):
    return isinstance(trouble, MemoryError) or "out of memory" in str(trouble).lower()


class Stopwatch:
    """Times calls whose results are right, and that are not expected to take too long.

    notes: {contender and what it was to compute: why it failed}
    """

    def __init__(self, clock, limit):
        self.clock, self.limit, self.seen, self.notes = clock, limit, {}, {}

    def rows(self, problem, launch, with_k):
        """(what, contender, seconds or a word that says why there are none), ours first."""
        for library, calls in (
            (OURS, our_calls(launch, problem, with_k)),
            ("torch", torch_calls(problem, with_k)),
            ("cupy", cupy_calls(problem, with_k)),
            ("keops", keops_calls(problem)),
        ):
            # In a function of its own, whose end drops the calls and with them their results.
            yield from self._rows_of(library, calls, problem)
            self._release_memory(problem.device)

    def _rows_of(self, library, calls, problem):
        try:
            for what, name, call, on_host in calls:
                yield what, name, self._time(problem, what, name, call, on_host)
        except Exception as trouble:  # in its import or its arrays; it would have had a product
            yield "product", library, self._word("product", library, trouble)

    def _time(self, problem, what, name, call, on_host):
        """Seconds, or a word. "over the limit": by the time for fewer points, which grows as their
        square.
        """
        key = (problem.dtype, problem.d, problem.p, what, name)
        points, before = self.seen.get(key, (problem.n, 0))
        if before * (problem.n / points) ** 2 > self.limit:
            return "over the limit"
        try:
            error = problem.error(on_host(call()), problem.expected[what])
            if error <= TOLERANCE[problem.dtype]:
                # Libraries use the default stream, in which the clock's events wait for them.
                seconds = self.clock(call)
                self.seen[key] = problem.n, seconds
                return seconds
        except Exception as trouble:
            return self._word(what, name, trouble)
        if name == OURS:
            raise SystemExit(
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


def limits_or_word(*arguments):
    """What limits() finds, or the word that stands in the table for what it would have given."""
    try:
        return limits(*arguments)
    except Exception as trouble:
        if not out_of_memory(trouble):
            raise
    return "no memory"


def measure(stopwatch, problem, launch, with_k, rates, results):
    """Append what is timed of a problem to `results`, as the times come.

    rates: of limits_or_word.
    """
    floor = {} if isinstance(rates, str) else floors(rates, problem)
    found = {}
    for what, name, time in stopwatch.rows(problem, launch, with_k):
        if name == OURS:
            found[what] = dict(
                dtype=problem.dtype, n=problem.n, d=problem.d, p=problem.p, what=what,
                seconds=time, floor=floor.get(what, rates), others={},
            )  # fmt: skip
            results.append(found[what])
        else:
            found[what]["others"][name] = time


def show(title, results, notes):
    """Print the table, and below it why other libraries failed."""
    table = Table(title=title)
    for heading in ("problem", "what", "ours", "% of floor", "others"):
        table.add_column(heading)
    for row in results:
        if "what" not in row:
            continue
        ours, floor = row["seconds"], row["floor"]
        share = floor if isinstance(floor, str) else ""
        if not (share or isinstance(ours, str)):
            share = "%.0f" % (100 * floor / ours)
        table.add_row(
            "{dtype} n={n} d={d} p={p}".format(**row), row["what"], seconds(ours), share,
            ", ".join("%s %s" % (k, seconds(t)) for k, t in row["others"].items()),
        )  # fmt: skip
    console = Console()
    if table.row_count:
        console.print(table)
    for failed, why in notes.items():
        console.print("%s: %s" % (failed, why), markup=False, highlight=False)


@click.command()
@click.option("--points", multiple=True, type=int, help="n = m; 4096, 16384, 65536, 1048576.")
@click.option("--dims", multiple=True, type=int, help="d; 3, 32 and 256 by default.")
@click.option("--columns", multiple=True, type=int, help="p of the product; 1 and 16 by default.")
@click.option("--dtypes", multiple=True, type=click.Choice(sorted(TOLERANCE)))
@click.option("--repeats", default=7, show_default=True)
@click.option("--limit", default=3.0, show_default=True, help="Seconds that a call may take.")
@click.option("--quick", is_flag=True, help="Small measurements of the limits: to try the script.")
@click.option("--json", "json_file", type=click.Path(), help="Write all numbers here as well.")
def main(points, dims, columns, dtypes, repeats, limit, quick, json_file):
    """Times the kernels on this machine's GPU; checks every result first."""
    number = os.environ.get("CUDA_DEVICE", "0")
    if number != "0":
        raise click.ClickException(
            "CUDA_DEVICE is %r, but the other libraries would be timed on device 0. Unset it, and "
            "choose the GPU with CUDA_VISIBLE_DEVICES, which all libraries heed." % number
        )
    runtime, launch = load_launches()
    results = []
    with runtime.device() as device:
        import pycuda.driver as driver

        clock = Clock(repeats)
        stopwatch = Stopwatch(clock, limit)
        memory = driver.mem_get_info()[1]
        try:
            for dtype in dtypes or sorted(TOLERANCE):
                rates = limits_or_word(
                    device, clock, dtype, 4 if quick else 4096, 1 << (10 if quick else 28)
                )
                results.append(dict(device=device.name, dtype=dtype, limits=rates))
                sizes = itertools.product(
                    points or (4096, 16384, 65536, 1048576), dims or (3, 32, 256),
                    columns or (1, 16),
                )  # fmt: skip
                for n, d, p in sizes:
                    fits = n * n * np.dtype(dtype).itemsize < PULL * memory
                    with_k = fits and p == (columns or (1,))[0]
                    problem = Problem(device, dtype, n, d, p)
                    measure(stopwatch, problem, launch, with_k, rates, results)
                    if json_file:  # what there is, should the rest not come
                        with open(json_file, "w") as file:
                            json.dump(results, file, indent=1)
        finally:  # what was measured, should it have been interrupted
            show(device.name, results, stopwatch.notes)


if __name__ == "__main__":
    main()
