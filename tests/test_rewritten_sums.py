"""Sums of K * G, or P * H, beside their gradients: the same numbers without forming K or P.

Graphs run in NumPy here, where they compile at once; test_gradient.py has the node's C code.
"""

import graphs
import numpy as np
import pytest
import theano
import theano.tensor as T
from graphs import DTYPES

from rbf_op import rbf_dot, rbf_kernel, rbf_mixture
from rbf_op.ops import (
    RBFDot,
    RBFDotGrad,
    RBFKernel,
    RBFKernelGrad,
    RBFMixture,
    RBFMixtureGrad,
)

N, M, D = 6, 5, 3


def values(dtype):
    random = np.random.RandomState(5)
    shapes = [(N, D), (M, D), (), (M,), (N, M)]
    return [random.uniform(0.3, 1.5, shape).astype(dtype) for shape in shapes]


def variables(dtype):
    ndims = [2, 2, 0, 1, 2]
    names = ["x", "y", "gamma", "amplitude", "g"]
    return [T.TensorType(dtype, (False,) * n)(name) for n, name in zip(ndims, names)]


def compiled(inputs, outputs, excluded=()):
    mode = graphs.theano_mode("py").excluding(*excluded)
    return theano.function(inputs, outputs, mode=mode, on_unused_input="ignore")


def kernels(function):
    """How many nodes form K, and what the gradient nodes give."""
    nodes = function.maker.fgraph.toposort()
    wrt = [n.op.wrt for n in nodes if isinstance(n.op, (RBFKernelGrad, RBFMixtureGrad))]
    return sum(isinstance(n.op, (RBFKernel, RBFMixture)) for n in nodes), wrt


def check(dtype, build, replaced=True):
    """Compare build(variables) -> outputs with the rewrite and without; K is gone, or is not."""
    inputs = variables(dtype)
    outputs = build(*inputs)
    # Without rbf_dot, which makes products of some of these sums.
    new, old = (compiled(inputs, outputs, ["rbf_dot"] + more) for more in ([], ["rbf_sum"]))
    assert kernels(old)[0] == 1
    assert kernels(new)[0] == (0 if replaced else 1)
    for a, b in zip(new.maker.outputs, old.maker.outputs):
        assert a.variable.type == b.variable.type
    given = values(dtype)
    for a, b in zip(new(*given), old(*given)):
        assert a.dtype == b.dtype and a.shape == b.shape and np.any(b)
        assert np.max(np.abs(a - b)) <= 50 * np.finfo(dtype).eps * np.max(np.abs(b))
    return new


def with_gradients(value, wrt):
    return [value] + T.grad(value, wrt)


@pytest.mark.parametrize("dtype", DTYPES)
def test_weighted_sum(dtype):
    def build(x, y, gamma, amplitude, g):
        return with_gradients((rbf_kernel(x, y, gamma) * g).sum(), [x, y, gamma])

    assert kernels(check(dtype, build))[1] == [("x", "y", "gamma", "amplitude")]


@pytest.mark.parametrize("dtype", DTYPES)
def test_amplitude_of_each_centre(dtype):
    def build(x, y, gamma, amplitude, g):
        value = (g * rbf_kernel(x, y, gamma, amplitude=amplitude)).sum()
        return with_gradients(value, [x, amplitude])

    assert kernels(check(dtype, build))[1] == [("x", "amplitude")]


def test_plain_sum_of_a_symmetric_kernel():
    def build(x, y, gamma, amplitude, g):
        return with_gradients(rbf_kernel(x, gamma=gamma, amplitude=2).sum(), [x])

    check("float64", build)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "of_kernel",
    [
        lambda k, s: k.mean(),
        lambda k, s: 3 * k.sum(),
        lambda k, s: -k.sum() / s,
    ],
)
def test_sum_of_which_the_gradient_is_one_number(of_kernel, dtype):
    def build(x, y, gamma, amplitude, g):
        return with_gradients(of_kernel(rbf_kernel(x, y, gamma, amplitude=amplitude), gamma), [x])

    assert kernels(check(dtype, build))[1] == [("x", "amplitude")]


@pytest.mark.parametrize("of_kernel", [lambda k, g: k.mean(), lambda k, g: (k * g).sum()])
def test_sums_of_a_mixture(of_kernel):
    def build(x, y, gamma, amplitude, g):
        k = rbf_mixture(x, y, [gamma, 2 * gamma], amplitude=[1, -0.5])
        return with_gradients(of_kernel(k, g), [x, y])

    assert kernels(check("float64", build))[1] == [("x", "y", "amplitude")]


@pytest.mark.parametrize(
    "build",
    [
        lambda k, x, g: [k] + with_gradients((k * g).sum(), [x]),  # K is a result
        lambda k, x, g: [k * g] + with_gradients((k * g).sum(), [x]),  # the product is one
        lambda k, x, g: with_gradients((k * g).sum(axis=0)[1], [x]),
        lambda k, x, g: with_gradients(T.sqr(k).sum(), [x]),  # G is not what K is multiplied by
        lambda k, x, g: [(k * g).sum(), T.grad((k * g * g).sum(), x)],
        lambda k, x, g: with_gradients((k * g).sum() + T.sqr(k).sum(), [x]),
        lambda k, x, g: with_gradients(T.log(k.mean()), [x]),  # G is computed from the sum
        lambda k, x, g: with_gradients(T.sqr(k.sum()), [x]),
    ],
)
def test_left_alone(build):
    check("float64", lambda x, y, gamma, amplitude, g: build(rbf_kernel(x, y, gamma), x, g), False)


@pytest.mark.parametrize("n, m", [(0, 3), (2, 0), (0, 0)])
def test_gradients_of_a_mean_of_nothing_are_zero(n, m):
    x, y, W = T.dmatrices("x", "y", "W")
    given = np.ones((n, 2)), np.ones((m, 2)), np.ones((m, 2))
    for of_points in (
        rbf_kernel(x, y, 0.5),
        rbf_mixture(x, y, [0.5, 1.0]),
        rbf_dot(x, y, W, gamma=0.5),
    ):
        gradients = T.grad(of_points.mean(), [x, y])
        function = compiled([x, y, W], [of_points.mean()] + gradients)
        for gradient, points in zip(function(*given)[1:], given):
            np.testing.assert_array_equal(gradient, np.zeros_like(points))


def test_no_gradient_no_change():
    def build(x, y, gamma, amplitude, g):
        return [(rbf_kernel(x, y, gamma) * g).sum()]

    check("float64", build, replaced=False)


# -- Products ------------------------------------------------------------------------------------


def products(function):
    """How many nodes form P, and what the gradient nodes give."""
    nodes = function.maker.fgraph.toposort()
    wrt = [n.op.wrt for n in nodes if isinstance(n.op, RBFDotGrad)]
    return sum(isinstance(n.op, (RBFDot, RBFKernel)) for n in nodes), wrt


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("spelling", ["rbf_dot", "dot", "amplitude"])
def test_weighted_sum_of_a_product(spelling, dtype):
    inputs = graphs.variables(dtype, (False, False))[:3]
    weights, h = T.matrix(dtype=dtype), T.matrix(dtype=dtype)
    amplitude = 2 if spelling == "amplitude" else None
    if spelling == "dot":
        product = T.dot(rbf_kernel(*inputs), weights)
    else:
        product = rbf_dot(inputs[0], inputs[1], weights, inputs[2], amplitude=amplitude)
    outputs = with_gradients((product * h).sum(), inputs[:2])
    random = np.random.RandomState(6)
    given = values(dtype)[:3] + [random.rand(*s).astype(dtype) for s in [(M, 4), (N, 4)]]
    everything = list(inputs) + [weights, h]
    new, old = compiled(everything, outputs), compiled(everything, outputs, ["rbf_dot_sum"])
    assert products(old) == (1, [("x", "y")])
    assert products(new) == (0, [("x", "y", "weights")])
    for a, b in zip(new(*given), old(*given)):
        np.testing.assert_allclose(a, b, rtol=100 * np.finfo(dtype).eps)


def test_mean_of_a_product():
    x, y, gamma = graphs.variables("float64", (False, False))[:3]
    weights = T.dmatrix()
    outputs = with_gradients(rbf_dot(x, y, weights, gamma).mean(), [x, weights])
    inputs = [x, y, gamma, weights]
    new, old = compiled(inputs, outputs), compiled(inputs, outputs, ["rbf_dot_sum"])
    assert (products(old)[0], products(new)[0]) == (1, 0)
    given = values("float64")[:3] + [np.random.RandomState(6).rand(M, 4)]
    for a, b in zip(new(*given), old(*given)):
        np.testing.assert_allclose(a, b, rtol=1e-13)


@pytest.mark.parametrize(
    "build",
    [
        lambda p, x, h: [p] + with_gradients((p * h).sum(), [x]),
        lambda p, x, h: with_gradients(T.sqr(p - h).sum(), [x]),
        lambda p, x, h: [(p * h).sum()],
    ],
)
def test_products_left_alone(build):
    x, y, gamma = graphs.variables("float64", (False, False))[:3]
    weights, h = T.dmatrix(), T.dmatrix()
    function = compiled([x, y, gamma, weights, h], build(rbf_dot(x, y, weights, gamma), x, h))
    assert products(function)[0] == 1
