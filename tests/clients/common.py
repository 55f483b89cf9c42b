"""What the client programs share: modes with and without fusing, counting nodes, timing, the report.

Each client runs in an environment of its own, with rbf_op on its path. Touches rbf_op and Theano.
"""

import argparse
import json
import statistics
import time

import rbf_op  # noqa: F401  (mends Theano before its import)

import numpy as np
import theano

from rbf_op.ops import RBFKernel, RBFKernelGrad


def plain_mode():
    """The default mode without the rewrite: the graph as the client's users have it today."""
    return theano.compile.get_default_mode().excluding("rbf_fusion")


def fused_mode():
    return theano.compile.get_default_mode()


def node_counts(function):
    """(forward, gradient) fused nodes of a compiled function."""
    nodes = list(function.maker.fgraph.apply_nodes)
    return [sum(isinstance(n.op, op) for n in nodes) for op in (RBFKernel, RBFKernelGrad)]


def largest_difference(expected, got):
    """The largest difference of any two arrays, relative to the largest entry of the expected."""
    worst = 0.0
    for a, b in zip(expected, got):
        a, b = np.asarray(a, dtype="float64"), np.asarray(b, dtype="float64")
        assert a.shape == b.shape, (a.shape, b.shape)
        worst = max(worst, float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-300)))
    return worst


def interleaved_seconds(first, second, repeats):
    """Median seconds of two functions, called in turn."""
    seconds = [], []
    for number in range(repeats + 1):
        for function, taken in zip((first, second), seconds):
            start = time.perf_counter()
            function()
            if number:  # the first call warms up
                taken.append(time.perf_counter() - start)
    return [statistics.median(taken) for taken in seconds]


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--time", action="store_true", help="also time, at a realistic size")
    parser.add_argument("--repeats", type=int, default=9)
    return parser.parse_args()


def show(results):
    """Print the results as the last line, for run.py: one JSON object."""
    print(json.dumps(results))
