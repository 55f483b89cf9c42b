"""What the client programs share: the modes with and without fusing, node counts, times, results.

Each client of another library runs in an environment of its own, with rbf_op on its path. Imported
before the client: it also puts back what these old releases miss on a new Python. Touches rbf_op
and Theano.
"""

import argparse
import collections
import collections.abc
import inspect
import json
import os
import time

import rbf_op  # isort: skip  # noqa: F401  (mends Theano before its import)

import numpy as np
import theano

from rbf_op.ops import RBFDot, RBFDotGrad, RBFKernel, RBFKernelGrad, RBFMixture, RBFMixtureGrad
from rbf_op.theano_api import Op, Scan

# Gone since Python 3.10, 3.11 and NumPy 1.23.
for name in ("Callable", "Iterable", "Mapping", "MutableMapping", "Sequence"):
    if not hasattr(collections, name):
        setattr(collections, name, getattr(collections.abc, name))
if not hasattr(inspect, "getargspec"):
    inspect.getargspec = lambda f: inspect.getfullargspec(f)[:4]
if not hasattr(np, "asscalar"):
    np.asscalar = lambda array: array.item()


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--time", action="store_true", help="also time, at a realistic size")
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    if not options.time:
        compile_only_our_c_code()
    return options


def compile_only_our_c_code():
    # Theano's own Ops run in NumPy then: compiling each of them would take minutes.
    make_c_thunk = Op.make_c_thunk

    def ours_only(self, *args, **kwargs):
        if not type(self).__module__.startswith("rbf_op."):
            raise NotImplementedError
        return make_c_thunk(self, *args, **kwargs)

    Op.make_c_thunk = ours_only


def plain_mode():
    """The default mode without the rewrite: the graph as the client's users have it today."""
    return theano.compile.mode.get_default_mode().excluding("rbf_fusion")


def fused_mode():
    return theano.compile.mode.get_default_mode()


def node_counts(function):
    """[forward, gradient] fused nodes of a compiled function, and of its loops' steps."""
    nodes = list(function.maker.fgraph.apply_nodes)
    for node in nodes:  # longer as it goes
        if isinstance(node.op, Scan):
            nodes += node.op.fn.maker.fgraph.apply_nodes
    kinds = (RBFKernel, RBFMixture, RBFDot), (RBFKernelGrad, RBFMixtureGrad, RBFDotGrad)
    return [sum(isinstance(n.op, kind) for n in nodes) for kind in kinds]


def resident_bytes():
    """Memory that this process holds now (Linux)."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def largest_difference(expected, got):
    """The largest difference of any two arrays, relative to the largest entry of the expected."""
    worst = 0.0
    for a, b in zip(expected, got):
        a, b = np.asarray(a, dtype="float64"), np.asarray(b, dtype="float64")
        assert a.shape == b.shape, (a.shape, b.shape)
        worst = max(worst, float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-300)))
    return worst


def interleaved_seconds(first, second, repeats):
    """Seconds of the fastest call of each of two functions, called in turn.

    At least three times each, and no more once half a minute has passed.
    """
    seconds = [], []
    for number in range(repeats + 1):
        if number > 3 and sum(map(sum, seconds)) > 30:
            break
        for function, taken in zip((first, second), seconds):
            start = time.perf_counter()
            function()
            if number:  # the first call warms up
                taken.append(time.perf_counter() - start)
    return [min(taken) for taken in seconds]


def show(results):
    """Print the results as the last line, for run.py: one JSON object."""
    print(json.dumps(results))
