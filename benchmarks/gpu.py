"""Times the CUDA kernels on a GPU against the GPU's limits, PyTorch and CuPy.

    python benchmarks/gpu.py                          # the full table
    python benchmarks/gpu.py --points 4096 --dims 3   # one corner of it

Each result is checked against float64 before it is timed; times are medians of CUDA events. Needs
PyCUDA and nvcc, neither Theano nor a driver for display. Imports the kernels' launches only.
"""

import importlib
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
CHECKED_BYTES = 1 << 31  # of float64 on the host, when rows of a result are checked
TOLERANCE = {"float32": 3e-5, "float64": 1e-12}  # of the largest entry
PULL = 0.35  # of the device's memory that one array may take


def load_launches():
    """(cuda_runtime, cuda_launch), also where Theano cannot be imported: they do without it."""
    sys.path.insert(0, ROOT)
    try:
        import rbf_op  # noqa: F401
    except ImportError:
        package = types.ModuleType("rbf_op")
        package.__path__ = [os.path.join(ROOT, "rbf_op")]
        sys.modules["rbf_op"] = package
    return (importlib.import_module("rbf_op." + m) for m in ("cuda_runtime", "cuda_launch"))


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
    """Median time of a call in seconds, by CUDA events."""

    def __init__(self, repeats):
        import pycuda.driver

        self.driver, self.repeats = pycuda.driver, repeats

    def __call__(self, call):
        call()
        times = []
        for _ in range(self.repeats):
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

    real = {"float32": "float", "float64": "double"}[dtype]
    module = SourceModule(LIMITS_SOURCE.replace("REAL", real), no_extern_c=True)
    blocks = 8 * driver.Context.get_device().multiprocessor_count
    out = device.empty((blocks * 256,), dtype)
    found = {}
    for name in ("multiply_add", "exponential"):
        function = module.get_function(name)
        seconds = clock(
            lambda f=function: f(
                out, np.dtype(dtype).type(1e-3), np.int32(rounds), block=(256, 1, 1),
                grid=(blocks, 1),
            )
        )  # fmt: skip
        found[name] = blocks * 256 * 8 * rounds / seconds
    a, b = device.zeros((size,), "float32"), device.zeros((size,), "float32")
    seconds = clock(lambda: driver.memcpy_dtod(a.gpudata, b.gpudata, a.nbytes))
    found["memory"] = 2 * a.nbytes / seconds
    pageable, pinned = np.empty(size, np.float32), driver.pagelocked_empty(size, np.float32)
    for name, host in (("to_host", pageable), ("to_host_pinned", pinned)):
        found[name] = a.nbytes / clock(lambda h=host: driver.memcpy_dtoh(h, a.gpudata))
    return found


def floor(limit, pairs, operations, exponentials, nbytes, host_bytes=0):
    """No kernel of this form can be faster: the slowest of its parts, in seconds."""
    parts = [
        pairs * operations / limit["multiply_add"],
        pairs * exponentials / limit["exponential"],
        nbytes / limit["memory"],
    ]
    return max(parts) + host_bytes / limit["to_host"]


# -- What is timed ---------------------------------------------------------------------------------


class Problem:
    """Arrays of one size on the device, and the host's copies to check with."""

    def __init__(self, device, dtype, n, d, p):
        random = np.random.RandomState(0)

        def uniform(*shape):
            return random.uniform(-1, 1, shape).astype(dtype)

        self.device, self.dtype, self.n, self.d, self.p = device, dtype, n, d, p
        self.host = dict(
            x=uniform(n, d), y=uniform(n, d), w=uniform(n, p), q=uniform(n, p),
            gamma=np.asarray(1.5 / d, dtype),
        )  # fmt: skip
        self.checked = max(1, min(16, CHECKED_BYTES // (8 * n * d)))
        self.on_device = {name: device.to_device(v) for name, v in self.host.items()}

    def rows_of_k(self):
        """The first rows of K in float64, and their distances' differences."""
        x, y = (self.host[name].astype(np.float64) for name in "xy")
        difference = x[: self.checked, None, :] - y[None]
        return np.exp(-float(self.host["gamma"]) * (difference**2).sum(-1)), difference

    def check(self, name, result, expected):
        """End the program unless the first rows of a device array are as expected."""
        rows = self.device.to_host(result[: self.checked])
        error = np.abs(rows.astype(np.float64) - expected).max() / np.abs(expected).max()
        if not error <= TOLERANCE[self.dtype]:
            raise SystemExit(
                "%s is wrong (n=%d, d=%d, p=%d, %s): %.1e of its largest entry. Nothing was timed."
                % (name, self.n, self.d, self.p, self.dtype, error)
            )


def kernel_rows(launch, problem, clock, limit):
    """(what, seconds, floor) of the kernel matrix and its gradient."""
    a, device, n, d = problem.on_device, problem.device, problem.n, problem.d
    one = device.one(problem.dtype)
    out = device.empty((n, n), problem.dtype)
    arguments = [device, a["x"], a["y"], a["gamma"], one]

    def forward():
        return launch.forward(*arguments, out=out)

    K, difference = problem.rows_of_k()
    problem.check("K", forward(), K)
    pairs = n * n
    yield "K kept", clock(forward), floor(limit, pairs, 2 * d, 1, out.nbytes)
    yield (
        "K brought back", clock(lambda: device.to_host(forward())),
        floor(limit, pairs, 2 * d, 1, out.nbytes, out.nbytes),
    )  # fmt: skip
    wanted = ("x", "y", "gamma", "amplitude")

    def gradient():  # K stands for its own gradient: any matrix of its size would do
        return launch.gradient(*arguments, grad_output=out, wanted=wanted)

    dx = -2 * float(problem.host["gamma"]) * np.einsum("ij,ijk->ik", K * K, difference)
    problem.check("dx", gradient()["x"], dx)
    yield "gradient of K", clock(gradient), floor(limit, pairs, 8 * d, 2, 2 * out.nbytes)


def product_rows(launch, problem, clock, limit):
    """(what, seconds, floor) of the matrix-free product and its gradient."""
    a, device, n, d, p = problem.on_device, problem.device, problem.n, problem.d, problem.p

    def product():
        return launch.product(device, a["x"], a["y"], a["gamma"], a["w"])

    wanted = ("x", "y", "gamma", "weights")

    def gradient():
        return launch.product_gradient(
            device, a["x"], a["y"], a["gamma"], a["w"], a["q"], wanted
        )  # fmt: skip

    K, difference = problem.rows_of_k()
    w, q = problem.host["w"].astype(np.float64), problem.host["q"].astype(np.float64)
    problem.check("product", product(), K.dot(w))
    weight = K * q[: problem.checked].dot(w.T)
    dx = -2 * float(problem.host["gamma"]) * np.einsum("ij,ijk->ik", weight, difference)
    problem.check("dx of product", gradient()["x"], dx)
    pairs = n * n
    yield "product", clock(product), floor(limit, pairs, 2 * d + p, 1, 0)
    yield "gradient of product", clock(gradient), floor(limit, pairs, 10 * d + 3 * p, 3, 0)


# -- Contenders ------------------------------------------------------------------------------------


def torch_rows(problem, clock, with_k):
    """(what, contender, seconds) of PyTorch on the same device; nothing where there is none."""
    try:
        import torch
    except ImportError:
        return
    if not torch.cuda.is_available():
        return
    x, y, w = (torch.as_tensor(problem.host[k]).cuda() for k in "xyw")
    gamma = float(problem.host["gamma"])
    # Precision as ours: TF32 has three digits.
    torch.backends.cuda.matmul.allow_tf32 = False

    def expansion(a, b):
        distance = (a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * a @ b.T
        return torch.exp(-gamma * distance.clamp_(min=0))

    def cdist(a, b):
        return torch.exp(-gamma * torch.cdist(a, b).square_())

    rows = max(1, min(problem.n, (1 << 28) // problem.n))  # blocks where memory would end

    def blockwise(kernel):
        blocks = range(0, problem.n, rows)
        return torch.cat([kernel(x[i : i + rows], y) @ w for i in blocks])

    def step(kernel):
        a, b = x.clone().requires_grad_(), y.clone().requires_grad_()
        K = kernel(a, b)
        return torch.autograd.grad(K, [a, b], K.detach())

    timed = Synchronised(clock, torch.cuda.synchronize)
    for name, kernel in (("expansion", expansion), ("cdist", cdist)):
        yield "product", "torch " + name, timed(lambda k=kernel: blockwise(k))
        if with_k:
            yield "K kept", "torch " + name, timed(lambda k=kernel: k(x, y))
            if name == "expansion":
                yield "gradient of K", "torch " + name, timed(lambda k=kernel: step(k))


def cupy_rows(problem, clock, with_k):
    """(what, contender, seconds) of CuPy on the same device; nothing where there is none."""
    try:
        import cupy
    except ImportError:
        return
    x, y = (cupy.asarray(problem.host[k]) for k in "xy")
    gamma = problem.host["gamma"].item()

    def expansion():
        distance = (x * x).sum(1)[:, None] + (y * y).sum(1) - 2 * x @ y.T
        return cupy.exp(-gamma * cupy.maximum(distance, 0))

    if with_k:
        timed = Synchronised(clock, cupy.cuda.Device().synchronize)
        yield "K kept", "cupy expansion", timed(expansion)


class Synchronised:
    """The clock for libraries with streams of their own: each call is waited for."""

    def __init__(self, clock, synchronise):
        self.clock, self.synchronise = clock, synchronise

    def __call__(self, call):
        def finished():
            call()
            self.synchronise()

        try:
            return self.clock(finished)
        except (MemoryError, RuntimeError) as error:
            if "memory" not in str(error).lower():
                raise
            return float("nan")


# -- The table -------------------------------------------------------------------------------------


def seconds(value):
    if value != value:
        return "no memory"
    for unit, factor in (("s", 1), ("ms", 1e3), ("us", 1e6)):
        if value * factor >= 1 or unit == "us":
            return "%.3g %s" % (value * factor, unit)


@click.command()
@click.option("--points", multiple=True, type=int, help="n = m; 4096, 16384, 65536, 1048576.")
@click.option("--dims", multiple=True, type=int, help="d; 3, 32 and 256 by default.")
@click.option("--columns", multiple=True, type=int, help="p of the product; 1 and 16 by default.")
@click.option("--dtypes", multiple=True, type=click.Choice(sorted(TOLERANCE)))
@click.option("--repeats", default=7, show_default=True)
@click.option("--quick", is_flag=True, help="Small measurements of the limits: to try the script.")
@click.option("--json", "json_file", type=click.File("w"), help="Write all numbers here as well.")
def main(points, dims, columns, dtypes, repeats, quick, json_file):
    """Times the kernels on this machine's GPU; checks every result first."""
    runtime, launch = load_launches()
    console = Console()
    results = []
    with runtime.device() as device:
        import pycuda.driver as driver

        clock = Clock(repeats)
        memory = driver.mem_get_info()[1]
        table = Table(title=device.name)
        for heading in ("problem", "what", "ours", "% of floor", "others"):
            table.add_column(heading)
        for dtype in dtypes or sorted(TOLERANCE):
            limit = limits(device, clock, dtype, 4 if quick else 4096, 1 << (10 if quick else 28))
            results.append(dict(device=device.name, dtype=dtype, limits=limit))
            for n in points or (4096, 16384, 65536, 1048576):
                fits = n * n * np.dtype(dtype).itemsize < PULL * memory
                for d in dims or (3, 32, 256):
                    for p in columns or (1, 16):
                        problem = Problem(device, dtype, n, d, p)
                        ours = list(product_rows(launch, problem, clock, limit))
                        with_k = fits and p == (columns or (1,))[0]
                        if with_k:
                            ours += kernel_rows(launch, problem, clock, limit)
                        others = list(torch_rows(problem, clock, with_k))
                        others += cupy_rows(problem, clock, with_k)
                        for what, time, least in ours:
                            theirs = {name: t for w, name, t in others if w == what}
                            results.append(
                                dict(dtype=dtype, n=n, d=d, p=p, what=what, seconds=time,
                                     floor=least, others=theirs)
                            )  # fmt: skip
                            table.add_row(
                                "%s n=%d d=%d p=%d" % (dtype, n, d, p), what, seconds(time),
                                "%.0f" % (100 * least / time),
                                ", ".join("%s %s" % (k, seconds(t)) for k, t in theirs.items()),
                            )  # fmt: skip
    console.print(table)
    if json_file:
        json.dump(results, json_file, indent=1)


if __name__ == "__main__":
    main()
