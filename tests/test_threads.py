"""Threads: as many as there should be, the same bits from any number, no hang after a fork.

How many threads OpenMP starts is settled when it is loaded, so most of this runs in processes of
its own.
"""

import os
import threading
import time

import graphs
import numpy as np
import oracle
import pytest
from graphs import needs_compiler
from processes import run_python

pytestmark = needs_compiler
needs_proc = pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="no /proc/self/task")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")

ONE_BLAS_THREAD = {"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

DIGESTS = """
import hashlib, graphs, numpy as np, oracle
digests = {}
for dtype in graphs.DTYPES:
    forward, gradient = (f(dtype, "cvm") for f in (graphs.forward, graphs.gradient))
    scalar = [f(dtype, "cvm", (False, False)) for f in (graphs.forward, graphs.gradient)]
    symmetric = [f(dtype, "cvm") for f in (graphs.symmetric_forward, graphs.symmetric_gradient)]
    for n, m, d in [(1, 1, 1), (30, 20, 10), (7, 3000, 5), (3000, 7, 5), (257, 129, 33),
                    (1025, 63, 20), (640, 641, 8), (100, 90, 700),
                    (600, 530, 70), (1, 20000, 3), (20000, 1, 3)]:
        values = oracle.problem(n, m, d, dtype)
        results = [forward(*values[:4])] + gradient(*values)
        values = oracle.problem(n, m, d, dtype, (False, False))
        results += [scalar[0](*values[:4])] + scalar[1](*values)
        if n < 4000:
            x, _, gamma, amplitude, weights = oracle.problem(n, n, d, dtype, (False, False))
            results += [symmetric[0](x, gamma, amplitude)]
            results += symmetric[1](x, gamma, amplitude, weights)
        digests["%s %d %d %d" % (dtype, n, m, d)] = [
            hashlib.sha256(np.ascontiguousarray(r).tobytes()).hexdigest() for r in results
        ]
report(digests)
"""


def test_same_bits_from_any_number_of_threads():
    """Value and all gradients, over sizes that are cut into blocks in every way."""
    one, *others = [
        run_python(DIGESTS, environment={"OMP_NUM_THREADS": str(threads)}) for threads in (1, 2, 5)
    ]
    assert len(one) == 22
    for other in others:
        assert other == one


COUNT = """
import os
before_import = len(os.listdir("/proc/self/task"))
import graphs, oracle, theano
from rbf_op.ops import RBFKernel, RBFKernelGrad

inputs = graphs.variables("float32")
openmp = sys.argv[1] == "openmp"
outputs = [RBFKernel(openmp=openmp)(*inputs[:4])] + RBFKernelGrad(openmp=openmp)(*inputs)
f = theano.function(inputs, outputs, mode=graphs.theano_mode("vm"))
small, large = oracle.problem(5, 3, 10, "float32"), oracle.problem(3000, 2500, 40, "float32")
def threads():
    return len(os.listdir("/proc/self/task"))
before = threads()
f(*small)
after_small = threads()
f(*large)
report([after_small - before, threads() - before])
"""


def count_threads(openmp="openmp", **environment):
    """(threads that a small call starts, threads that a small and a large call start)."""
    environment.update(ONE_BLAS_THREAD)
    return run_python(COUNT, openmp, environment=environment)


@needs_proc
@pytest.mark.parametrize("number", [1, 3])
def test_omp_num_threads_is_respected(number):
    """Workers beside the calling thread, which stay for the next call; none for a small one."""
    assert count_threads(OMP_NUM_THREADS=str(number)) == [0, number - 1]


@needs_proc
def test_all_cores_by_default():
    """Whatever theano.config.openmp says, which is False unless set."""
    environment = {name: v for name, v in os.environ.items() if not name.startswith("OMP_")}
    cores = len(os.sched_getaffinity(0))
    if "OMP_NUM_THREADS" in os.environ:
        pytest.skip("OMP_NUM_THREADS is set")
    assert count_threads(**environment) == [0, cores - 1]


@needs_proc
def test_openmp_false_stays_on_one_thread():
    assert count_threads("single", OMP_NUM_THREADS="4") == [0, 0]


def test_the_lock_is_released():
    """Another Python thread runs during a call, not only before and after it."""
    f = graphs.forward("float64", "cvm")
    stop, ticks = threading.Event(), []

    def tick():
        while not stop.wait(0.0005):
            ticks.append(time.perf_counter())

    ticker = threading.Thread(target=tick)
    ticker.start()
    try:
        # Larger until a call is long enough to be looked into, however fast the machine.
        for rows in (1000, 2000, 4000, 8000, 16000):
            values = oracle.problem(8, 1500, 100)[:4]
            values[0] = np.resize(values[0], (rows, 100))
            start = time.perf_counter()
            f(*values)
            length = time.perf_counter() - start
            inside = [t for t in ticks if 0.2 * length < t - start < 0.8 * length]
            if len(inside) >= 5:
                return
    finally:
        stop.set()
        ticker.join()
    pytest.fail("%d ticks inside a call of %.3f s" % (len(inside), length))


def test_concurrent_calls_from_python_threads():
    """Different functions at the same time, each with a module of its own."""
    functions = [graphs.forward("float32", "cvm"), graphs.forward("float64", "cvm")]
    problems = [oracle.problem(301, 203, 20, dtype)[:4] for dtype in graphs.DTYPES]
    expected = [f(*values) for f, values in zip(functions, problems)]
    wrong = []

    def work(index):
        for _ in range(20):
            if not np.array_equal(functions[index](*problems[index]), expected[index]):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


FORK = """
import os, signal, time
import graphs, numpy as np, oracle

def in_child(work):
    "The exit code of work() in a forked child; 'hung' if it takes two minutes."
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if work() else 3)
        finally:
            os._exit(4)
    for _ in range(1200):
        finished, status = os.waitpid(child, os.WNOHANG)
        if finished:
            return os.WEXITSTATUS(status) if os.WIFEXITED(status) else "signal %d" % status
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "hung"

problems = {dtype: oracle.problem(600, 500, 40, dtype) for dtype in graphs.DTYPES}
def right(dtype):
    "Value and gradients, twice, against NumPy."
    forward, gradient = graphs.forward(dtype, "vm"), graphs.gradient(dtype, "vm")
    values = problems[dtype]
    tolerance = 1e-4 if dtype == "float32" else 1e-10
    for _ in range(2):
        results = [forward(*values[:4])] + gradient(*values)
        for result, expected in zip(results, exact[dtype]):
            if not np.allclose(result, expected, rtol=tolerance, atol=tolerance):
                return False
    return True
from rbf_op import reference
exact = {
    dtype: [reference.rbf_kernel(*v[:4])] + list(reference.rbf_kernel_grad(*v))
    for dtype, v in problems.items()
}
"""

FORKS = {
    # The parent's workers do not exist in the child.
    "after a parallel call": """
assert right("float32")
child = in_child(lambda: right("float32"))
assert right("float32")
report(child)
""",
    # Nothing has run in parallel yet, in parent or child.
    "before any call": """
graphs.forward("float32", "vm"), graphs.gradient("float32", "vm")
report(in_child(lambda: right("float32")))
""",
    # The child loads a module that the parent, whose workers are gone, has never loaded.
    "module loaded by the child": """
assert right("float32")
report(in_child(lambda: right("float64")))
""",
    "child of a child": """
assert right("float32")
report(in_child(lambda: right("float32") and in_child(lambda: right("float32")) == 0))
""",
}


@needs_fork
@pytest.mark.parametrize("case", FORKS)
def test_forked_child(case):
    """No hang and right results, as PyMC's sampler and multiprocessing need."""
    assert run_python(FORK + FORKS[case], environment={"OMP_NUM_THREADS": "3"}) == 0


POOL = """
import multiprocessing
import graphs, oracle

values = oracle.problem(600, 500, 40, "float64")
def work(scale):
    return float(graphs.forward("float64", "vm")(values[0] * scale, *values[1:4]).sum())

if __name__ == "__main__":
    scales = [0.5, 1, 1.5, 2]
    expected = [work(scale) for scale in scales]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        results = pool.map_async(work, scales, chunksize=1).get(timeout=120)
    report(results == expected)
"""


@needs_fork
def test_multiprocessing_pool():
    assert run_python(POOL, environment={"OMP_NUM_THREADS": "2"}) is True
