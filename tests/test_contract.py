"""What Theano and its users may do with the Ops: linkers, copies, shape graphs, recycled outputs.

The graphs here are compiled whole, Theano's own nodes included.
"""

import copy
import pickle

import graphs
import numpy as np
import oracle
import pytest
import theano
import theano.tensor as T
from graphs import ALL_MODES, DTYPES, LARGE_GRAPH_MODES, needs_compiler

from rbf_op import ops, rbf_kernel, rbf_logsumexp
from rbf_op.ops import (
    CheckedEntries,
    RBFDistance,
    RBFDot,
    RBFDotGrad,
    RBFKernel,
    RBFKernelGrad,
    RBFLogSumExp,
    RBFLogSumExpGrad,
    RBFMixture,
    RBFMixtureGrad,
    RBFOuterGrad,
    RBFSoftmaxDot,
    RBFSoftmaxDotGrad,
    Repeated,
)
from rbf_op.ops.small import Median
from rbf_op.theano_api import CLinker

EVERY_OP = [
    RBFKernel(),
    RBFKernel(openmp=False),
    RBFKernel(symmetric=True),
    RBFKernelGrad(),
    RBFKernelGrad(wrt=("y", "amplitude")),
    RBFKernelGrad(symmetric=True),
    RBFKernelGrad(symmetric=True, wrt=("x",)),
    RBFMixture(),
    RBFMixture(symmetric=True),
    RBFMixtureGrad(),
    RBFMixtureGrad(symmetric=True, wrt=("gamma",)),
    RBFDot(),
    RBFDot(openmp=False),
    RBFDotGrad(),
    RBFDotGrad(wrt=("x", "weights")),
    RBFLogSumExp(),
    RBFLogSumExpGrad(),
    RBFSoftmaxDot(),
    RBFSoftmaxDotGrad(),
    RBFSoftmaxDotGrad(wrt=("y", "log_amplitude", "weights")),
    RBFDistance(),
    RBFOuterGrad(),
    CheckedEntries("rbf_dot", "amplitude", "y", 0),
    Repeated(),
    Median(),
]


# -- linkers -----------------------------------------------------------------------------------


def _both_dtypes():
    """Inputs and outputs of a graph with all four kinds of node in both dtypes."""
    inputs, outputs = [], []
    for dtype in DTYPES:
        x, y, gamma, amplitude, grad_output = graphs.variables(dtype, (True, False))
        width = T.TensorType(dtype, ())("width")
        symmetric = T.TensorType(dtype, (False, False))("symmetric_grad_output")
        inputs += [x, y, gamma, amplitude, grad_output, width, symmetric]
        k, s = rbf_kernel(x, y, gamma, amplitude=amplitude), rbf_kernel(x, gamma=width)
        outputs += [k, s]
        outputs += T.grad(None, [x, y, gamma, amplitude], known_grads={k: grad_output})
        outputs += T.grad(None, [x, width], known_grads={s: symmetric})
    return inputs, outputs


@pytest.mark.parametrize("mode", LARGE_GRAPH_MODES + ALL_MODES[-1:])
def test_both_dtypes_in_one_graph(mode):
    """Under linker="c" all of it is one C module: no name may occur twice."""
    f = theano.function(*_both_dtypes(), mode=graphs.theano_mode(mode))
    n, m, d = 9, 7, 3
    arguments = []
    for dtype in DTYPES:
        arguments += oracle.problem(n, m, d, dtype, (True, False))
        arguments += [np.asarray(0.6, dtype), oracle.problem(n, n, d, dtype)[4]]
    for _ in range(2):  # the second call gets the outputs of the first to recycle
        results = iter(f(*arguments))
        for start, dtype in zip((0, 7), DTYPES):
            x, y, gamma, amplitude, grad_output, width, symmetric = arguments[start : start + 7]
            one, tolerance = np.asarray(1, dtype), 20 * np.finfo(dtype).eps
            k, s = next(results), next(results)
            assert k.dtype == s.dtype == dtype
            oracle.assert_accurate(k, x, y, gamma, amplitude)
            oracle.assert_accurate(s, x, x, width, one)
            values = [x, y, gamma, amplitude, grad_output]
            oracle.assert_gradients([next(results) for _ in range(4)], values, tolerance)
            dx, dwidth = next(results), next(results)
            exact = oracle.gradients(x, x, width, one, symmetric)
            terms = oracle.gradient_terms(x, x, width, one, symmetric)
            assert np.all(np.abs(dx - exact[0] - exact[1]) <= tolerance * (terms[0] + terms[1]))
            assert np.all(np.abs(dwidth - exact[2]) <= tolerance * terms[2])


@pytest.mark.parametrize("mode", LARGE_GRAPH_MODES)
def test_a_layer_with_its_gradient(mode):
    """A graph as users write it: cost and updates of weights held in shared variables."""
    x_value, y_value, _, scales_value, _ = oracle.problem(6, 4, 3)
    weights, scales = theano.shared(y_value.T.copy()), theano.shared(scales_value)
    x = T.dmatrix("x")
    k = rbf_kernel(x, weights.T, gamma=1, amplitude=T.sqr(scales) / 2)
    cost = T.sqr(k - 0.25).sum()
    parameters = [weights, scales]
    updates = [(p, p - 0.1 * g) for p, g in zip(parameters, T.grad(cost, parameters))]
    step = theano.function([x], cost, updates=updates, mode=graphs.theano_mode(mode))

    w, s = y_value.T.copy(), scales_value.copy()
    for _ in range(3):
        amplitude = s**2 / 2
        k = oracle.kernel(x_value, w.T, 1, amplitude).astype(float)
        np.testing.assert_allclose(step(x_value), ((k - 0.25) ** 2).sum(), rtol=1e-12)
        one = np.ones(4)
        gradients = oracle.gradients(x_value, w.T, one, amplitude, 2 * (k - 0.25))
        w -= 0.1 * gradients[1].T.astype(float)
        s -= 0.1 * (gradients[3] * s).astype(float)
        np.testing.assert_allclose(weights.get_value(), w, rtol=1e-11)
        np.testing.assert_allclose(scales.get_value(), s, rtol=1e-11)


@needs_compiler
@pytest.mark.parametrize("mode", ["c", "cvm", "vm", "c|py"])
def test_the_c_code_is_what_runs(monkeypatch, mode):
    """Were the NumPy path taken, the other tests would compare it with itself."""

    def perform(*args):
        raise AssertionError("the NumPy path ran")

    monkeypatch.setattr(RBFKernel, "perform", perform)
    monkeypatch.setattr(RBFKernelGrad, "perform", perform)
    inputs = graphs.variables("float64")
    outputs = [RBFKernel()(*inputs[:4])] + RBFKernelGrad()(*inputs)
    f = theano.function(inputs, outputs, mode=graphs.theano_mode(mode))
    values = oracle.problem(4, 3, 2)
    oracle.assert_accurate(f(*values)[0], *values[:4])


@needs_compiler
def test_recycled_outputs():
    """A node gets back its outputs of the call before: to be used if they fit, freed if not."""
    f = graphs.recycling("float64")
    k = np.empty(0)
    for sizes in [(5, 7, 3), (5, 7, 3), (7, 5, 3), (2, 3, 1), (40, 33, 9), (0, 4, 3), (5, 7, 3)]:
        values, last = oracle.problem(*sizes), k
        k, *gradients = f(*values)
        assert np.shares_memory(k, last) == (k.shape == last.shape)
        oracle.assert_accurate(k, *values[:4])
        oracle.assert_gradients(gradients, values, 5e-15)


@pytest.mark.parametrize("mode", ALL_MODES)
def test_results_stay_when_called_again(mode):
    """The array a call returned is the caller's: the next call must not write into it."""
    f = graphs.forward("float64", mode)
    first_values, second_values = oracle.problem(5, 4, 3)[:4], oracle.problem(5, 4, 3, seed=1)[:4]
    first = f(*first_values)
    oracle.assert_accurate(first, *first_values)
    kept = first.copy()
    second = f(*second_values)
    assert not np.shares_memory(first, second)
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize(
    "functions, mode",
    [
        ([rbf_kernel, rbf_logsumexp], "py"),
        pytest.param([rbf_kernel], "cvm", marks=needs_compiler),
    ],
)
def test_second_order_of_empty_matrices(functions, mode):
    """Where Theano's own matrix products meet them."""
    x, y, gamma = T.dmatrix("x"), T.dmatrix("y"), T.dscalar("gamma")
    inputs = [x, y, gamma]
    results = []
    for output in (function(x, y, gamma) for function in functions):
        results.append(T.Rop(output, inputs, inputs))
        first = T.grad(output.sum(), x)
        results += T.grad(T.sqr(first).sum(), inputs)
    f = theano.function(inputs, results, mode=graphs.theano_mode(mode))
    for n, m, d in ((0, 4, 2), (3, 0, 2), (3, 4, 0), (0, 0, 0)):
        values = f(np.ones((n, d)), np.ones((m, d)), 0.5)
        shapes = [value.shape for value in values]
        second = [(n, d), (m, d), ()]
        expected = [(n, m)] + second + [(n,)] + second
        assert shapes == expected[: len(results)]
        assert not any(np.any(v) for v in values if v.shape != (n,) or m)


# -- identity, copies, pickles -----------------------------------------------------------------


def test_every_op_is_here():
    assert {type(op).__name__ for op in EVERY_OP} == {*ops.__all__, "Median"}


def test_equality_and_hash():
    for op in EVERY_OP:
        for same in (copy.copy(op), copy.deepcopy(op), pickle.loads(pickle.dumps(op))):
            assert same == op and hash(same) == hash(op) and vars(same) == vars(op)
    distinct = {RBFKernel(), RBFKernel(symmetric=True), RBFKernelGrad(), RBFKernelGrad(True)}
    assert len(distinct | {RBFKernelGrad(wrt=("x",)), RBFKernelGrad(wrt=("y",))}) == 6
    assert RBFKernel() == RBFKernel() and RBFKernelGrad() == RBFKernelGrad(wrt=oracle.INPUT_NAMES)
    assert RBFKernelGrad(wrt=["x"]) == RBFKernelGrad(wrt=("x",))


def test_names_in_a_printed_graph():
    assert str(RBFKernel()) == "RBFKernel{symmetric=False}"
    assert str(Median()) == "Median" and str(Repeated()) == "Repeated"
    assert str(RBFDot()) == "RBFDot" and str(RBFLogSumExp()) == "RBFLogSumExp"
    assert str(RBFKernelGrad(wrt=("x",))) == "RBFKernelGrad{symmetric=False, wrt=('x',)}"


def test_equal_nodes_are_merged():
    """Theano's merge finds the same kernel written twice."""
    x, y = T.dmatrices("x", "y")
    f = theano.function([x, y], rbf_kernel(x, y, gamma=0.5) * rbf_kernel(x, y, gamma=0.5))
    assert len(graphs.kernel_nodes(f)) == 1


@pytest.mark.parametrize("mode", ALL_MODES)
def test_pickle_and_copy_of_a_function(mode):
    f = graphs.forward("float64", mode)
    values = oracle.problem(5, 4, 3)[:4]
    expected = f(*values)
    for protocol in (2, pickle.HIGHEST_PROTOCOL):
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(f, protocol))(*values), expected)
    np.testing.assert_array_equal(copy.deepcopy(f)(*values), expected)


@needs_compiler
def test_copy_with_shared_compiled_code():
    """Function.copy, which always returns a list."""
    f = graphs.forward("float64", "cvm")
    values = oracle.problem(5, 4, 3)[:4]
    (result,) = f.copy()(*values)
    np.testing.assert_array_equal(result, f(*values))


def test_pickled_op_holds_no_source_code():
    """An Op pickled by one version of the package and loaded by the next runs the next's code."""
    for op in EVERY_OP:
        op.c_code_cache_version()
        assert set(vars(op)) <= {"openmp", "_op_use_c_code", *op.__props__}
        assert len(pickle.dumps(op)) < 500


def test_compiled_modules_are_kept():
    """Theano keeps no module in which one Op has an empty version or empty props."""
    for op in EVERY_OP:
        assert op.c_code_cache_version() and op.__props__, op
    row, (n, m) = T.drow("row"), T.lscalars("n", "m")
    output = T.exp(Median()(Repeated()(row, n, m)))
    f = theano.function([row, n, m], output, mode=theano.Mode("py", None))
    version, _ = CLinker().accept(f.maker.fgraph).cmodule_key()
    assert version


# -- types, shapes, connections ----------------------------------------------------------------


@pytest.mark.parametrize("n_is_one", [False, True])
@pytest.mark.parametrize("m_is_one", [False, True])
def test_broadcast_flags(n_is_one, m_is_one):
    """K is broadcastable where its rows and columns are; gradients are typed as the inputs."""
    x = T.TensorType("float64", (n_is_one, False))("x")
    y = T.TensorType("float64", (m_is_one, True))("y")
    gamma = T.TensorType("float64", (m_is_one,))("gamma")
    k = RBFKernel()(x, y, gamma, 1.0)
    assert k.broadcastable == (n_is_one, m_is_one)
    inputs = [x, y, gamma]
    gradients = T.grad(k.sum(), inputs)
    for variable, gradient in zip(inputs, gradients):
        assert gradient.type == variable.type
    values = oracle.problem(1 if n_is_one else 3, 1 if m_is_one else 2, 1, vector=(True, False))
    values[3], values[4] = np.asarray(1.0), np.ones(values[4].shape)
    f = theano.function(inputs, [k] + gradients, mode="FAST_COMPILE")
    result, *gradients = f(*values[:3])
    oracle.assert_accurate(result, *values[:4])
    for gradient, exact in zip(gradients, oracle.gradients(*values)):
        np.testing.assert_allclose(gradient, exact.astype(float), rtol=1e-13)


@pytest.mark.parametrize("symmetric", [False, True])
def test_shape_graph_does_without_the_node(symmetric):
    """n, m and d differ, so that no mix-up of them passes."""
    x, y, gamma, amplitude, grad_output = graphs.variables("float64", (not symmetric,) * 2)
    inputs = [x, gamma, amplitude] if symmetric else [x, y, gamma, amplitude]
    outputs = [RBFKernel(symmetric)(*inputs)]
    outputs += RBFKernelGrad(symmetric)(*(inputs + [grad_output]))
    f = theano.function(
        inputs + [grad_output],
        [o.shape for o in outputs if o.ndim],
        on_unused_input="ignore",
        mode=graphs.theano_mode("py"),
    )
    assert graphs.kernel_nodes(f) == []
    x, y, gamma, amplitude, grad_output = oracle.problem(5, 4, 3, vector=(not symmetric,) * 2)
    values = [x, gamma, amplitude, np.ones((5, 5))]
    if not symmetric:
        values = [x, y, gamma, amplitude, grad_output]
    shapes = [tuple(s) for s in f(*values)]
    assert shapes == ([(5, 5), (5, 3)] if symmetric else [(5, 4), (5, 3), (4, 3), (4,), (4,)])


def test_every_input_is_connected():
    """No gradient is missing or of another type, in either Op."""
    for symmetric in (False, True):
        x, y, gamma, amplitude, grad_output = graphs.variables("float32", (not symmetric,) * 2)
        inputs = [x, gamma, amplitude] if symmetric else [x, y, gamma, amplitude]
        k = RBFKernel(symmetric)(*inputs)
        first = T.grad((k * grad_output).sum(), inputs + [grad_output])
        second = T.grad(sum(g.sum() for g in first), inputs + [grad_output])
        for variable, gradient in zip(2 * (inputs + [grad_output]), first + second):
            assert gradient.type == variable.type


def test_gradient_graph_has_no_forward_node():
    """The gradient recomputes K tile by tile; a kept K would cost n * m memory."""
    x, y = T.dmatrices("x", "y")
    g = T.dmatrix("g")
    k = rbf_kernel(x, y, gamma=0.5)
    f = theano.function(
        [x, y, g], T.grad(None, [x, y], known_grads={k: g}), mode=graphs.theano_mode("py")
    )
    (node,) = graphs.kernel_nodes(f)
    assert isinstance(node.op, ops.RBFKernelGrad)
