"""Theano functions that many tests share, compiled once a process, and the modes they run in.

A cold compile of the node's C code takes seconds, so tests vary the inputs of few graphs instead of
compiling many. Touches rbf_op and Theano; the numbers to expect are in oracle.py.
"""

import functools

import pytest

from rbf_op.ops import RBFKernel, RBFKernelGrad  # isort: skip  (mends Theano before its import)

import theano
import theano.tensor as T
from theano.compile.debugmode import DebugMode

needs_compiler = pytest.mark.skipif(not theano.config.cxx, reason="Theano found no C++ compiler")


# "py" runs the NumPy path, "cvm" is Theano's default with a compiler: values are tested in both.
def _modes(*names):
    return [name if name == "py" else pytest.param(name, marks=needs_compiler) for name in names]


MODES = _modes("py", "cvm")
# Those in which graphs of more than a node or two are tested, and those others there are.
LARGE_GRAPH_MODES = _modes("py", "c", "cvm", "vm", "FAST_COMPILE")
ALL_MODES = LARGE_GRAPH_MODES + _modes("c|py", "DebugMode")
DTYPES = ["float32", "float64"]


def theano_mode(name):
    """A Theano mode from a linker's name, "FAST_COMPILE" or "DebugMode" (every preallocation)."""
    if name == "FAST_COMPILE":
        return theano.compile.get_mode("FAST_COMPILE")
    if name == "DebugMode":
        return DebugMode(check_preallocated_output=["ALL"], check_isfinite=False)
    return theano.Mode(linker=name, optimizer="fast_run")


def variables(dtype, vector=(True, True)):
    """Symbolic x, y, gamma, amplitude and grad_output, as oracle.problem makes their values."""
    matrix = T.TensorType(dtype, (False, False))
    vector_type, scalar = T.TensorType(dtype, (False,)), T.TensorType(dtype, ())
    return [
        matrix("x"),
        matrix("y"),
        (vector_type if vector[0] else scalar)("gamma"),
        (vector_type if vector[1] else scalar)("amplitude"),
        matrix("grad_output"),
    ]


@functools.lru_cache(maxsize=None)
def forward(dtype, mode, vector=(True, True)):
    """f(x, y, gamma, amplitude) -> K."""
    inputs = variables(dtype, vector)[:4]
    return theano.function(inputs, RBFKernel()(*inputs), mode=theano_mode(mode))


@functools.lru_cache(maxsize=None)
def gradient(dtype, mode, vector=(True, True)):
    """f(x, y, gamma, amplitude, grad_output) -> [dx, dy, dgamma, damplitude]."""
    inputs = variables(dtype, vector)
    return theano.function(inputs, RBFKernelGrad()(*inputs), mode=theano_mode(mode))


@functools.lru_cache(maxsize=None)
def symmetric_forward(dtype, mode):
    """f(x, gamma, amplitude) -> K, gamma and amplitude scalars."""
    x, _, gamma, amplitude, _ = variables(dtype, (False, False))
    inputs = [x, gamma, amplitude]
    output = RBFKernel(symmetric=True)(*inputs)
    return theano.function(inputs, output, mode=theano_mode(mode))


@functools.lru_cache(maxsize=None)
def symmetric_gradient(dtype, mode):
    """f(x, gamma, amplitude, grad_output) -> [dx, dgamma, damplitude]."""
    x, _, gamma, amplitude, grad_output = variables(dtype, (False, False))
    inputs = [x, gamma, amplitude, grad_output]
    outputs = RBFKernelGrad(symmetric=True)(*inputs)
    return theano.function(inputs, outputs, mode=theano_mode(mode))


def recycling(dtype):
    """f(x, y, gamma, amplitude, grad_output) -> [K] + gradients, as borrowed arrays.

    What a call returns is handed to the nodes again in the next call.
    """
    inputs = variables(dtype)
    outputs = [RBFKernel()(*inputs[:4])] + RBFKernelGrad()(*inputs)
    function = theano.function(
        inputs, [theano.Out(o, borrow=True) for o in outputs], mode=theano_mode("vm")
    )
    function.fn.allow_gc = False
    return function


def kernel_nodes(function):
    """The matrices and their gradients in a compiled function, in the order they run."""
    return [
        node
        for node in function.maker.fgraph.toposort()
        if isinstance(node.op, (RBFKernel, RBFKernelGrad))
    ]
