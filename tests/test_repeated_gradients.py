"""Gradients that are one number, row or column over and over: the same results, and no matrix."""

import graphs
import numpy as np
import pytest
import theano
import theano.tensor as T
from graphs import DTYPES

from rbf_op import rbf_kernel, rbf_mixture
from rbf_op.ops import RBFKernelGrad, RBFMixture, RBFMixtureGrad, Repeated

N, M, D = 9, 7, 3

# name -> matrix of x, y and two numbers
MATRICES = {
    "kernel": lambda x, y, s, v: rbf_kernel(x, y, s),
    "symmetric kernel": lambda x, y, s, v: rbf_kernel(x, gamma=s),
    "mixture": lambda x, y, s, v: rbf_mixture(x, y, T.stack([s, v])),
    "symmetric mixture": lambda x, y, s, v: rbf_mixture(x, gamma=T.stack([s, v])),
}

# name -> what is computed from it; and the shape of what is repeated
COSTS = {
    "sum": (lambda k: k.sum(), (1, -1)),
    "mean": (lambda k: k.mean(), (1, -1)),
    "logarithm": (lambda k: T.log(k.sum()), (1, -1)),
    "row sums": (lambda k: T.sqr(k.sum(axis=1)).sum(), (-1, 1)),
    "column sums": (lambda k: T.sqr(k.sum(axis=0)).sum(), (1, -1)),
}


def variables(dtype):
    x, y = (T.TensorType(dtype, (False, False))(name) for name in "xy")
    return [x, y] + [T.TensorType(dtype, ())(name) for name in "sv"]


def values(dtype, n=N, m=M):
    random = np.random.RandomState(2)
    arrays = random.randn(n, D), random.randn(m, D), 0.3, 0.7
    return [np.asarray(a, dtype) for a in arrays]


def check(cost, matrix, dtype, linker):
    inputs = variables(dtype)
    of_matrix, shape = COSTS[cost]
    value = of_matrix(MATRICES[matrix](*inputs))
    outputs = [value] + T.grad(value, inputs, disconnected_inputs="ignore")
    # rbf_dot has other ways for matrices that are no mixture and not symmetric.
    mode = graphs.theano_mode(linker).excluding("rbf_dot")
    functions = [
        theano.function(inputs, outputs, mode=m, on_unused_input="ignore")
        for m in (mode, mode.excluding("rbf_repeated"))
    ]
    (node,) = [
        n
        for n in functions[0].maker.fgraph.toposort()
        if isinstance(n.op, (RBFKernelGrad, RBFMixtureGrad))
    ]
    view = node.inputs[-1].owner
    assert isinstance(view.op, Repeated)
    assert view.inputs[0].broadcastable == tuple(length == 1 for length in shape)
    for given in (values(dtype), values(dtype, 1, 1), values(dtype, 0, 4), values(dtype, 300, 70)):
        got, expected = (f(*given) for f in functions)
        for a, b in zip(got, expected):
            assert a.dtype == b.dtype and a.shape == b.shape
            atol = 100 * np.finfo(dtype).eps * max(1, np.max(np.abs(b), initial=0))
            np.testing.assert_allclose(a, b, rtol=0, atol=atol)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("cost", COSTS)
def test_gradients(cost, matrix, dtype):
    check(cost, matrix, dtype, "py")


@pytest.mark.parametrize(
    "cost, matrix, linker",
    [
        ("mean", "symmetric mixture", "cvm"),
        ("row sums", "symmetric mixture", "cvm"),
        ("sum", "symmetric kernel", "c"),  # of others Theano's own alloc fails, or ends the process
    ],
)
def test_compiled(cost, matrix, linker):
    check(cost, matrix, "float32", linker)


def test_points_that_are_computed():
    """The lengths of K are expressions then, as with givens of a minibatch."""
    x, y, s, _ = inputs = variables("float64")
    cost = rbf_mixture(T.concatenate([x, y])[1:], y[::2], T.stack([s, s])).mean()
    outputs = [cost, T.grad(cost, x)]
    mode = graphs.theano_mode("py")
    function = theano.function(inputs, outputs, mode=mode, on_unused_input="ignore")
    assert any(isinstance(n.op, Repeated) for n in function.maker.fgraph.toposort())
    assert not any(isinstance(n.op, RBFMixture) for n in function.maker.fgraph.toposort())
    other = theano.function(
        inputs, outputs, mode=mode.excluding("rbf_repeated"), on_unused_input="ignore"
    )
    for a, b in zip(function(*values("float64")), other(*values("float64"))):
        np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("linker", ["py", "cvm"])
def test_what_has_another_length(linker):
    """The gradient node says so, as of a matrix that is filled."""
    x, y, s, _ = inputs = variables("float32")
    k = rbf_mixture(x, y, T.stack([s, s]))
    for rows, columns in ((1, 0), (0, -1)):
        given = T.alloc(np.float32(1), x.shape[0] + rows, y.shape[0] + columns)
        function = theano.function(
            inputs,
            T.grad(None, x, known_grads={k: given}),
            mode=graphs.theano_mode(linker),
            on_unused_input="ignore",
        )
        assert any(isinstance(n.op, Repeated) for n in function.maker.fgraph.toposort())
        with pytest.raises(ValueError, match="must have shape"):
            function(*values("float32"))


def test_turned_off():
    inputs = variables("float64")
    gradient = T.grad(rbf_kernel(inputs[0], gamma=inputs[2]).sum(), inputs[0])
    without = graphs.theano_mode("py").excluding("rbf_repeated")
    for mode in (graphs.theano_mode("FAST_COMPILE"), without):
        function = theano.function(inputs, gradient, mode=mode, on_unused_input="ignore")
        assert not any(isinstance(n.op, Repeated) for n in function.maker.fgraph.toposort())


def test_debug_mode():
    """Which looks for views that are not declared, and for Ops that write into their inputs."""
    inputs = variables("float64")
    cost = rbf_mixture(inputs[0], gamma=T.stack(inputs[2:])).mean()
    outputs = [cost, T.grad(cost, inputs[0])]
    function = theano.function(inputs, outputs, mode="DebugMode", on_unused_input="ignore")
    assert any(isinstance(n.op, Repeated) for n in function.maker.fgraph.toposort())
    function(*values("float64"))
