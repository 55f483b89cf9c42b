"""Peak memory of a forward and a gradient, measured by the process's own high-water mark."""

import sys

import pytest
from graphs import needs_compiler
from processes import run_python

pytestmark = [
    needs_compiler,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc/self"),
]

N = M = 4000
D = 50
ARRAY = N * M * 4  # bytes of an n * m array of float32
# Packed panels, gradients, partial sums of tasks: some ten times (n + m) * d, eleven where
# distances are expanded (x and y are packed twice then). An n * m * d array would be 3.2e9 bytes.
SLACK = ARRAY * 3 // 8

MEASURE = """
import numpy as np
import graphs, theano, theano.tensor as T
from rbf_op import rbf_kernel, rbf_mixture
from rbf_op.usage import PeakMemory

n, m, d = (int(a) for a in sys.argv[1:4])
x, y, gamma, amplitude, weights = graphs.variables("float32", (False, True))
variables = [x, y, gamma, amplitude]
k = rbf_kernel(*variables[:3], amplitude=amplitude)
if sys.argv[4] == "given":
    outputs, inputs = [k] + T.grad(None, variables, known_grads={k: weights}), variables + [weights]
elif sys.argv[4] == "normalised":
    means = T.dot(k, y[:, 0]) / k.sum(axis=1)
    outputs, inputs = [means] + T.grad(T.sqr(means).sum(), variables[:3]), variables
elif sys.argv[4] == "widths":
    mean = rbf_mixture(x, y, [gamma, 2 * gamma]).mean()
    outputs, inputs = [mean] + T.grad(mean, variables[:3]), variables
elif sys.argv[4] == "y = x":
    weights = theano.gradient.disconnected_grad(x[:, 0])
    product = T.dot(rbf_kernel(x, gamma=gamma), weights)
    outputs, inputs = [product] + T.grad(T.sqr(product).sum(), [x, gamma]), variables
elif sys.argv[4] == "gradient only":
    outputs, inputs = T.grad(None, variables, known_grads={k: weights}), variables + [weights]
else:
    outputs, inputs = [k] + T.grad(T.sqr(k).sum(), variables), variables
f = theano.function(inputs, outputs, on_unused_input="ignore")

random = np.random.RandomState(0)
def arguments(n, m):
    arrays = [
        random.rand(n, d).astype("float32"), random.rand(m, d).astype("float32"),
        np.float32(0.1), np.ones(m, "float32"),
    ]
    return arrays + ([np.ones((n, m), "float32")] if len(inputs) == 5 else [])

f(*arguments(600, 500))  # starts the threads, loads what is loaded late
values = arguments(n, m)
with PeakMemory() as peak:
    results = f(*values)
assert all(np.isfinite(r).all() and r.any() for r in results)
report(peak.bytes)
"""


@pytest.mark.parametrize(
    "what, arrays",
    [
        # K, and nothing beside it: the gradient recomputes what it needs.
        ("given", 1),
        ("gradient only", 0),
        # K, and the gradient 2 K of the sum of its squares.
        ("cost", 2),
        # Products and sums of K need no K, and their gradients nothing that fills a matrix.
        ("normalised", 0),
        ("widths", 0),
        ("y = x", 0),
    ],
)
def test_peak_memory(what, arrays):
    grown = run_python(MEASURE, N, M, D, what)
    assert grown <= arrays * ARRAY + SLACK, "%.2f n * m arrays" % (grown / ARRAY)
    # The measurement sees what there is to see.
    assert grown >= 0.95 * arrays * ARRAY


LEAK = """
import resource
import numpy as np
import graphs, oracle

f = graphs.recycling("float64")

def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()

def call_often():
    for i in range(40):
        # Another shape each time: no output can be used again.
        values = oracle.problem(300 + i % 2, 400, 250, seed=i)
        f(*values)
        values[1] = values[1][:, 1:]
        try:
            f(*values)
        except ValueError:
            continue
        raise AssertionError("no error")

sizes = []
for _ in range(6):
    call_often()
    sizes.append(resident())
# The first rounds fill the allocator's pools.
report(sizes[5] - sizes[2])
"""


def test_nothing_leaks():
    """Neither outputs of other shapes nor the inputs of calls that fail stay in memory."""
    # Any one of x, y, grad_output, K, dx and dy kept is 120 times 0.6 to 1 MB. What the
    # allocator still grows by after its first rounds was 30 MB at most.
    assert run_python(LEAK) < 55e6
