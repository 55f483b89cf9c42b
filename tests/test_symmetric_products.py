"""Gradients of products with K of y = x, of which half is computed: RBFOuterGrad, and where other
gradient nodes become it.
"""

import graphs
import numpy as np
import pytest
from graphs import DTYPES, LARGE_GRAPH_MODES

from rbf_op import rbf_dot, rbf_kernel  # isort: skip  (before Theano's import)

import theano
import theano.tensor as T

from rbf_op.ops import RBFDot, RBFDotGrad, RBFKernelGrad, RBFOuterGrad

INPUTS = ("x", "gamma", "amplitude", "left", "right")
SIZES = [
    (1, 1, 1),
    (5, 3, 2),
    (70, 4, 1),
    (150, 67, 3),
    (33, 2, 40),
    (0, 3, 2),
    (4, 0, 2),
    (6, 2, 0),
]


def variables(dtype):
    ndims = (2, 0, 0, 2, 2)
    return [T.TensorType(dtype, (False,) * n)(name) for name, n in zip(INPUTS, ndims)]


def values(dtype, n, d, p):
    random = np.random.RandomState(4)
    arrays = random.randn(n, d), 0.5 / max(d, 1), 1.5, random.rand(n, p), random.rand(n, p)
    return [np.asarray(a, dtype) for a in arrays]


def pair(dtype, mode):
    """The node, and that which is given left right.T."""
    inputs = x, gamma, amplitude, left, right = variables(dtype)
    outputs = RBFOuterGrad(INPUTS[:3])(*inputs)
    others = RBFKernelGrad(symmetric=True)(x, gamma, amplitude, T.dot(left, right.T))
    mode = graphs.theano_mode(mode).excluding("rbf_dot")
    return [theano.function(inputs, o, mode=mode) for o in (outputs, others)]


def compare(got, expected, dtype, size):
    """Up to the rounding of sums of `size` terms about one, or as large as they are."""
    for a, b in zip(got, expected):
        assert a.dtype == b.dtype and a.shape == b.shape
        atol = 20 * np.finfo(dtype).eps * max(size, np.max(np.abs(b), initial=0))
        np.testing.assert_allclose(a, b, rtol=0, atol=atol)


@pytest.mark.parametrize("mode", graphs.MODES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_equals_the_gradient_of_the_matrix(dtype, mode):
    functions = pair(dtype, mode)
    for size in SIZES:
        given = values(dtype, *size)
        compare(*(f(*given) for f in functions), dtype, size[0] * size[2])
        given = [v[::-1] if v.ndim else v for v in given]
        given[3] = np.asfortranarray(given[3])
        compare(*(f(*given) for f in functions), dtype, size[0] * size[2])


@pytest.mark.parametrize("mode", graphs.MODES)
def test_points_that_are_not_finite(mode):
    """NaN where the matrix's gradient has it, and nowhere else."""
    functions = pair("float64", mode)
    for place, value in ((0, np.nan), (0, np.inf), (3, np.nan), (3, np.inf), (4, np.nan)):
        given = values("float64", 40, 3, 2)
        given[place][7, 1] = value
        with np.errstate(invalid="ignore"):
            got, expected = (f(*given) for f in functions)
        for a, b in zip(got, expected):
            np.testing.assert_array_equal(np.isnan(a), np.isnan(b))


@pytest.mark.parametrize("mode", graphs.MODES)
def test_wrong_shapes(mode):
    function, _ = pair("float64", mode)
    x, gamma, amplitude, left, right = values("float64", 5, 3, 2)
    with pytest.raises(ValueError, match=r"weights has shape \(4, 2\) and x has shape \(5, 3\)"):
        function(x, gamma, amplitude, left, right[1:])
    message = r"gradient of the output must have shape \(5, 2\), but has shape "
    for wrong in (left[1:], left[:, :1]):
        with pytest.raises(ValueError, match=message + r"\(%d, %d\)" % wrong.shape):
            function(x, gamma, amplitude, wrong, right)


def gradients(dtype, of_product, wanted):
    """Inputs x, gamma, w and v of a product, its mean square and the gradients of that."""
    x, gamma, _, _, w = variables(dtype)
    v = T.TensorType(dtype, (False,))("v")
    cost = T.sqr(of_product(x, gamma, w, v) - 1).mean()
    by = {"x": x, "gamma": gamma, "w": w, "v": v}
    return [x, gamma, w, v], [cost] + T.grad(cost, [by[name] for name in wanted])


def arguments(dtype, *size):
    x, gamma, _, left, right = values(dtype, *size)
    return x, gamma, left, right[:, 0]


def compiled(inputs, outputs, mode, *excluded):
    mode = graphs.theano_mode(mode).excluding(*excluded)
    return theano.function(inputs, outputs, mode=mode, on_unused_input="ignore")


def ops(function):
    nodes = function.maker.fgraph.toposort()
    found = [n.op for n in nodes if type(n.op) in (RBFDot, RBFDotGrad, RBFOuterGrad)]
    return sorted(found, key=lambda op: type(op).__name__)


# name -> (product, the gradients that are wanted, the nodes that come of them)
PRODUCTS = {
    "all of a vector": (
        lambda x, gamma, w, v: rbf_dot(x, None, v, gamma),
        ("x", "gamma", "v"),
        [RBFDot(), RBFDot(), RBFOuterGrad(("x", "gamma"))],
    ),
    "points": (
        lambda x, gamma, w, v: rbf_dot(x, None, w, gamma),
        ("x", "gamma"),
        [RBFDot(), RBFOuterGrad(("x", "gamma"))],
    ),
    "points used elsewhere": (
        lambda x, gamma, w, v: rbf_dot(x, None, w, gamma) + x.sum(),
        ("x",),
        [RBFDot(), RBFOuterGrad(("x",))],
    ),
    "width": (
        lambda x, gamma, w, v: rbf_dot(x, None, w, gamma),
        ("gamma",),
        [RBFDot(), RBFOuterGrad(("gamma",))],
    ),
    "matrix and a vector": (
        lambda x, gamma, w, v: T.dot(rbf_kernel(x, gamma=gamma, amplitude=1.5), v),
        ("x", "gamma"),
        [RBFDot(), RBFOuterGrad(("x", "gamma"))],
    ),
    "matrix": (
        lambda x, gamma, w, v: T.dot(rbf_kernel(x, gamma=gamma), w),
        ("x", "gamma", "w"),
        [RBFOuterGrad(("x", "gamma"))],
    ),
    "weights alone": (
        lambda x, gamma, w, v: rbf_dot(x, None, v, gamma),
        ("v",),
        [RBFDot(), RBFDotGrad(("weights",))],
    ),
    "all of a matrix of weights": (
        lambda x, gamma, w, v: rbf_dot(x, None, w, gamma),
        ("x", "gamma", "w"),
        [RBFDot(), RBFDotGrad()],
    ),
    "one side alone": (
        lambda x, gamma, w, v: rbf_dot(theano.gradient.disconnected_grad(x), x, w, gamma),
        ("x", "gamma"),
        [RBFDot(), RBFDotGrad(("y", "gamma"))],
    ),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", PRODUCTS)
def test_where_it_comes_in(name, dtype):
    of_product, wanted, expected = PRODUCTS[name]
    inputs, outputs = gradients(dtype, of_product, wanted)
    new = compiled(inputs, outputs, "py")
    old = compiled(inputs, outputs, "py", "rbf_symmetric", "rbf_dot")
    assert ops(new) == expected
    assert not any(isinstance(op, RBFOuterGrad) for op in ops(old))
    for a, b in zip(new.maker.outputs, old.maker.outputs):
        assert a.variable.type == b.variable.type
    for size in [(9, 3, 2), (1, 2, 1)]:
        given = arguments(dtype, *size)
        compare(new(*given), old(*given), dtype, 1)


@pytest.mark.parametrize("mode", LARGE_GRAPH_MODES)
def test_in_every_mode(mode):
    of_product, wanted, _ = PRODUCTS["all of a vector"]
    inputs, outputs = gradients("float32", of_product, wanted)
    function = compiled(inputs, outputs, mode)
    assert (mode == "FAST_COMPILE") != any(isinstance(op, RBFOuterGrad) for op in ops(function))
    other = compiled(inputs, outputs, "py", "rbf_symmetric", "rbf_dot")
    given = arguments("float32", 40, 3, 2)
    compare(function(*given), other(*given), "float32", 1)


@graphs.needs_compiler
def test_any_number_of_threads_gives_the_same_bits():
    inputs = variables("float32")
    given = values("float32", 700, 10, 3)
    results = []
    for openmp in (True, False):
        outputs = RBFOuterGrad(INPUTS[:3], openmp=openmp)(*inputs)
        results.append(theano.function(inputs, outputs, mode=graphs.theano_mode("cvm"))(*given))
    for a, b in zip(*results):
        assert np.array_equal(a, b)
