"""What a person reads who got something wrong, and what runs on machines that lack something.

Every message names the argument and, where shapes do not fit, both shapes; the C code and the NumPy
path word it alike. Missing compilers are simulated in processes of their own.
"""

import os
import re
import shutil
import stat

import graphs
import numpy as np
import oracle
import pytest
import theano
import theano.sparse
import theano.tensor as T
from graphs import MODES, needs_compiler
from processes import run_python

from rbf_op import rbf_dot, rbf_kernel, rbf_logsumexp, rbf_mixture
from rbf_op.ops import (
    CheckedEntries,
    RBFDot,
    RBFKernel,
    RBFKernelGrad,
    RBFLogSumExpGrad,
    RBFSoftmaxDotGrad,
)

pytestmark = pytest.mark.usefixtures("only_our_c_code")

X, Y = T.dmatrices("x", "y")
A, B = np.zeros((4, 3)), np.zeros((5, 3))

# What is wrong: (exception, words that the message must hold, how to get it).
WHEN_BUILT = {
    "two widths": (
        TypeError, ["gamma", "sigma", "at most one"], lambda: rbf_kernel(X, Y, 1, sigma=2),
    ),
    "three widths": (
        TypeError,
        ["gamma and sigma and lengthscale"],
        lambda: rbf_kernel(X, Y, 1, sigma=2, lengthscale=3),
    ),
    "x a vector": (
        TypeError, ["x must be a matrix", "1 dim", "dimshuffle"],
        lambda: rbf_kernel(T.dvector(), Y),
    ),
    "x a scalar": (TypeError, ["x must be a matrix", "0 dim"], lambda: rbf_kernel(3.0)),
    "y of three dimensions": (
        TypeError, ["y must be a matrix", "3 dim"], lambda: rbf_kernel(X, T.dtensor3()),
    ),
    "gamma a matrix": (
        TypeError, ["gamma must be a scalar or a vector", "row of y", "2 dim"],
        lambda: rbf_kernel(X, Y, X),
    ),
    "sigma a matrix": (
        TypeError, ["sigma must be a scalar or a vector"], lambda: rbf_kernel(X, sigma=X),
    ),
    "lengthscale a matrix": (
        TypeError, ["lengthscale must be a scalar or a vector", "column"],
        lambda: rbf_kernel(X, lengthscale=X),
    ),
    "amplitude a matrix": (
        TypeError, ["amplitude must be a scalar or a vector"],
        lambda: rbf_kernel(X, Y, amplitude=X),
    ),
    "x no array": (TypeError, ["x cannot be made"], lambda: rbf_kernel(object())),
    "x words": (TypeError, ["x "], lambda: rbf_kernel(np.array([["a"]]))),
    "gamma beyond float32": (
        ValueError, ["gamma is 1e+39", "float32", "float64"],
        lambda: rbf_kernel(T.fmatrix(), gamma=1e39),
    ),
    "gamma beyond all floats": (
        ValueError, ["gamma is 1000", "cannot hold"], lambda: rbf_kernel(X, gamma=10**400),
    ),
    "amplitude beyond float32": (
        ValueError, ["amplitude is -1e+39"], lambda: rbf_kernel(T.fmatrix(), amplitude=-1e39),
    ),
    "sigma that is zero in float32": (
        ValueError, ["sigma is 1e-50", "float32"], lambda: rbf_kernel(T.fmatrix(), sigma=1e-50),
    ),
    "sigma whose gamma is infinite": (
        ValueError, ["sigma is", "gamma = 1 / (2 sigma**2)", "infinite in float32"],
        lambda: rbf_kernel(T.fmatrix(), sigma=1e-20),
    ),
    "widths of which one is beyond float32": (
        ValueError, ["gamma is [1, 1e+39]"],
        lambda: rbf_mixture(T.fmatrix(), gamma=[1, 1e39]),
    ),
    "gamma words": (TypeError, ["gamma "], lambda: rbf_kernel(X, gamma="auto")),
    "float16 x": (
        TypeError, ["x has dtype float16", "cast"],
        lambda: rbf_kernel(T.TensorType("float16", (False, False))()),
    ),
    "float16 amplitude": (
        TypeError, ["amplitude has dtype float16"],
        lambda: rbf_kernel(X, amplitude=np.zeros(3, "float16")),
    ),
    "complex y": (TypeError, ["y has dtype complex128"], lambda: rbf_kernel(X, T.zmatrix())),
    "complex gamma": (TypeError, ["gamma", "complex"], lambda: rbf_kernel(X, Y, 1j)),
    "gamma negative": (ValueError, ["gamma must be >= 0", "-1"], lambda: rbf_kernel(X, Y, -1)),
    "gamma negative entry": (
        ValueError, ["gamma must be >= 0"], lambda: rbf_kernel(X, Y, np.array([1.0, -2.0])),
    ),
    "gamma NaN": (ValueError, ["gamma", "nan"], lambda: rbf_kernel(X, Y, np.nan)),
    "sigma zero": (ValueError, ["sigma must be > 0", "0"], lambda: rbf_kernel(X, sigma=0)),
    "sigma NaN": (ValueError, ["sigma", "nan"], lambda: rbf_kernel(X, sigma=np.float32("nan"))),
    "lengthscale negative": (
        ValueError, ["lengthscale must be > 0"], lambda: rbf_kernel(X, lengthscale=[1.0, -1.0]),
    ),
    "constants of other d": (
        ValueError, ["x and y", "(4, 3)", "(3, 4)", "W.T"], lambda: rbf_kernel(A, A.T),
    ),
    "constant gamma": (
        ValueError, ["gamma has shape (4,)", "y has shape (5, 3)"],
        lambda: rbf_kernel(A, B, np.ones(4)),
    ),
    "constant sigma": (
        ValueError, ["sigma has shape (2,)", "x has shape (4, 3)"],
        lambda: rbf_kernel(A, sigma=np.ones(2)),
    ),
    "constant lengthscale": (
        ValueError, ["lengthscale has shape (5,)", "x has shape (4, 3)", "column"],
        lambda: rbf_kernel(A, B, lengthscale=np.ones(5)),
    ),
    "constant amplitude": (
        ValueError, ["amplitude has shape (4,)", "y has shape (5, 3)"],
        lambda: rbf_kernel(A, B, 1, amplitude=np.ones(4)),
    ),
    "constant weights": (
        ValueError, ["one row per row of y", "weights has shape (3, 2)", "y has shape (5, 3)"],
        lambda: rbf_dot(A, B, np.ones((3, 2))),
    ),
    "constant vector of weights": (
        ValueError, ["one entry per row of y", "weights has shape (4,)", "y has shape (5, 3)"],
        lambda: rbf_dot(A, B, np.ones(4)),
    ),
    "Op, number of inputs": (
        TypeError, ["RBFKernel takes the inputs x, y, gamma, amplitude", "got 2"],
        lambda: RBFKernel()(X, Y),
    ),
    "Op, vector x": (
        TypeError, ["RBFKernel: x must have 2 dimension(s)", "1", "x.dimshuffle('x', 0)"],
        lambda: RBFKernel()(T.dvector(), Y, 1.0, 1.0),
    ),
    "Op, matrix gamma": (
        TypeError, ["gamma must have 0 or 1 dimension(s)"], lambda: RBFKernel()(X, Y, X, 1.0),
    ),
    "Op, complex": (
        TypeError, ["RBFKernel: y has dtype complex64"],
        lambda: RBFKernel()(X, T.cmatrix(), 1.0, 1.0),
    ),
    "Op, symmetric with a vector": (
        TypeError, ["RBFKernel: gamma must have 0", "symmetric"],
        lambda: RBFKernel(symmetric=True)(X, T.dvector(), 1.0),
    ),
    "gradient Op, vector gradient": (
        TypeError, ["RBFKernelGrad: grad_output must have 2"],
        lambda: RBFKernelGrad()(X, Y, 1.0, 1.0, T.dvector()),
    ),
    "gradient Op, matrix gradient of a vector": (
        TypeError, ["RBFLogSumExpGrad: grad_output must have 1", "one entry per row of x"],
        lambda: RBFLogSumExpGrad()(X, Y, 1.0, 0.0, T.dvector(), T.dvector(), X),
    ),
    "gradient Op, matrix of sums": (
        TypeError, ["RBFSoftmaxDotGrad: log_sums must have 1", "one entry per row of x"],
        lambda: RBFSoftmaxDotGrad()(X, Y, 1.0, 0.0, Y, X, X, T.dvector(), X),
    ),
    "gradient Op, symmetric with a vector": (
        TypeError, ["RBFKernelGrad: gamma must have 0"],
        lambda: RBFKernelGrad(symmetric=True)(X, T.dvector(), 1.0, X),
    ),
    "gradient Op, unknown name": (
        ValueError, ["wrt", "sigma"], lambda: RBFKernelGrad(wrt=("sigma",)),
    ),
    "gradient Op, wrong order": (
        ValueError, ["wrt", "order"], lambda: RBFKernelGrad(wrt=("y", "x")),
    ),
    "gradient Op, y of symmetric": (
        ValueError, ["wrt", "y"], lambda: RBFKernelGrad(symmetric=True, wrt=("y",)),
    ),
    "gradient Op, nothing": (ValueError, ["wrt"], lambda: RBFKernelGrad(wrt=())),
    "gradient Op, one unknown name": (
        ValueError, ["but is ('sigma',)"], lambda: RBFKernelGrad(wrt="sigma"),
    ),
    "Op, vector of weights": (
        TypeError, ["weights must have 2", "weights.dimshuffle(0, 'x')"],
        lambda: RBFDot()(X, Y, 1.0, T.dvector("weights")),
    ),
    "sparse x": (
        TypeError, ["x cannot be made", "dense_from_sparse"],
        lambda: rbf_kernel(theano.sparse.csr_matrix("s"), Y),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WHEN_BUILT)
def test_when_the_graph_is_built(name):
    exception, words, build = WHEN_BUILT[name]
    with pytest.raises(exception) as caught:
        build()
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


# Shapes of x, y, gamma, amplitude, grad_output that do not fit, and what the message must name.
WHEN_RUN = {
    "d": (["x and y", "(4, 3)", "(5, 2)", "W.T"], dict(y=(5, 2))),
    "d of 1 does not stretch": (["x and y", "(4, 1)", "(5, 3)"], dict(x=(4, 1))),
    "d of 0": (["x and y", "(4, 0)", "(5, 3)"], dict(x=(4, 0))),
    "gamma": (["gamma", "(4,)", "(5, 3)"], dict(gamma=(4,))),
    "gamma of 1 does not stretch": (["gamma", "(1,)", "(5, 3)"], dict(gamma=(1,))),
    "gamma empty": (["gamma", "(0,)", "(5, 3)"], dict(gamma=(0,))),
    "amplitude": (["amplitude", "(6,)", "(5, 3)"], dict(amplitude=(6,))),
    "amplitude of no rows": (["amplitude", "(5,)", "(0, 3)"], dict(y=(0, 3), gamma=(0,))),
}
GRADIENT_WHEN_RUN = {
    "transposed": (["(4, 5)", "(5, 4)"], dict(grad_output=(5, 4))),
    "one row": (["(4, 5)", "(1, 5)"], dict(grad_output=(1, 5))),
    "one column": (["(4, 5)", "(4, 1)"], dict(grad_output=(4, 1))),
}


def _arrays(shapes):
    default = dict(x=(4, 3), y=(5, 3), gamma=(5,), amplitude=(5,), grad_output=(4, 5))
    return [np.ones(shape) for shape in dict(default, **shapes).values()]


def _message(f, arrays):
    """The first line of the error: Theano appends the node, its inputs and hints below it."""
    with pytest.raises(ValueError) as caught:
        f(*arrays)
    return str(caught.value).split("\n")[0]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", WHEN_RUN)
def test_when_the_function_is_called(name, mode):
    words, shapes = WHEN_RUN[name]
    arrays = _arrays(shapes)
    for f, inputs in (
        (graphs.forward("float64", mode), arrays[:4]),
        (graphs.gradient("float64", mode), arrays),
    ):
        message = _message(f, inputs)
        for word in words:
            assert word in message
        # The function is not spoilt.
        values = oracle.problem(4, 3, 2)[: len(inputs)]
        assert np.all(np.isfinite(f(*values)[0]))


# Vectors that scale an argument of a node: (words of the message, expression of X, Y and a vector
# of four entries).
SCALING_WHEN_RUN = {
    "lengthscale, x": (
        ["rbf_kernel: lengthscale", "column of x", "(4,)", "(4, 3)"],
        lambda v: rbf_kernel(X, lengthscale=v),
    ),
    "lengthscale, y": (
        ["rbf_logsumexp: lengthscale", "column of y", "(4,)", "(5, 3)"],
        lambda v: rbf_logsumexp(X.T, Y, lengthscale=v),
    ),
    "sigma": (
        ["rbf_kernel: sigma", "row of y", "(4,)", "(5, 3)"],
        lambda v: rbf_kernel(X, Y, sigma=v),
    ),
    "amplitude of a product": (
        ["rbf_dot: amplitude", "row of y", "(4,)", "(5, 3)"],
        lambda v: rbf_dot(X, Y, T.ones((5, 2)), amplitude=v),
    ),
}


# The same where Theano would stretch the argument, whose length is one.
STRETCHED_WHEN_RUN = {
    "lengthscale of one column": (
        ["rbf_kernel: lengthscale", "column of x", "(4,)", "(4, 1)"],
        lambda v: rbf_kernel(T.addbroadcast(X[:, :1], 1), lengthscale=v[:4]),
    ),
    "weights of one row": (
        ["rbf_dot: weights", "one row per row of y", "(1, 2)", "(5, 3)"],
        lambda v: rbf_dot(X, Y, T.addbroadcast(T.ones((1, 2)), 0), amplitude=T.ones(5) * v[0]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STRETCHED_WHEN_RUN)
def test_an_argument_of_length_one_is_not_stretched(name):
    words, build = STRETCHED_WHEN_RUN[name]
    vector = T.dvector("vector")
    f = theano.function([X, Y, vector], build(vector), on_unused_input="ignore")
    message = _message(f, [A, B, np.ones(4)])
    for word in words:
        assert word in message


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", SCALING_WHEN_RUN)
def test_vectors_that_scale_an_argument(name, mode):
    words, build = SCALING_WHEN_RUN[name]
    vector = T.dvector("vector")
    value = build(vector)
    gradient = T.grad(value.sum(), vector)
    f = theano.function(
        [X, Y, vector], [value, gradient], mode=graphs.theano_mode(mode), on_unused_input="ignore"
    )
    message = _message(f, [A, B, np.ones(4)])
    for word in words:
        assert word in message
    square = np.random.RandomState(0).normal(size=(5, 5))
    assert all(np.isfinite(v).all() for v in f(square, square, np.full(5, 2.0)))


@needs_compiler
@pytest.mark.parametrize("width", ["sigma", "lengthscale"])
def test_vectors_of_widths_where_all_must_be_c(width):
    """linker="c" knows no other code: value, gradient and error."""
    values = dict(sigma=np.arange(1.0, 6.0), lengthscale=np.arange(1.0, 4.0))[width]
    vector = T.dvector(width)
    k = rbf_kernel(X, Y, **{width: vector})
    f = theano.function([X, Y, vector], [k, T.grad(k.sum(), vector)], mode=theano.Mode("c"))
    x, y = np.random.RandomState(1).normal(size=(2, 5, 3))
    k, gradient = f(x[:4], y, values)
    differences = x[:4, None] - y
    scaled = np.square(differences / (values if width == "lengthscale" else values[:, None]))
    expected = np.exp(-scaled.sum(axis=2) / 2)
    np.testing.assert_allclose(k, expected, rtol=1e-13)
    if width == "sigma":
        expected = (expected * scaled.sum(axis=2)).sum(axis=0) / values
    else:
        expected = (expected[:, :, None] * scaled).sum(axis=(0, 1)) / values
    np.testing.assert_allclose(gradient, expected, rtol=1e-12)
    message = _message(f, [x[:4], y, np.ones(2)])
    assert "rbf_kernel: %s must have one entry per" % width in message and "(2,)" in message


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "call",
    [
        lambda x, values: rbf_kernel(x, gamma=values),
        lambda x, values: rbf_kernel(x, x, amplitude=values),
        lambda x, values: rbf_dot(x, None, values),
        lambda x, values: rbf_dot(x, None, x, amplitude=values),
        lambda x, values: rbf_logsumexp(x, amplitude=values),
    ],
)
def test_who_gave_no_y_is_told_of_x(call, mode):
    x, values = T.dmatrix(), T.dvector()
    f = theano.function([x, values], call(x, values), mode=graphs.theano_mode(mode))
    message = _message(f, [np.ones((5, 3)), np.ones(4)])
    assert "row of x" in message and "x has shape (5, 3)" in message and "y" not in message.split()


@needs_compiler
@pytest.mark.parametrize("argument", ["sigma", 'any "text" \\n 100%s ?\u03bb'])
def test_checked_entries(monkeypatch, argument):
    """C and NumPy word it alike, and give the very array that they got."""
    matrix, vector = T.dmatrix(), T.dvector()
    checked = [CheckedEntries("f", argument, "y", axis) for axis in (0, 1)]
    outputs = [theano.Out(op(vector, matrix), borrow=True) for op in checked]
    outputs.append(theano.Out(checked[0](matrix, matrix), borrow=True))
    values, square = np.ones(3), np.ones((3, 3))
    messages = []
    for linker in ("py", "c"):
        if linker == "c":
            monkeypatch.setattr(CheckedEntries, "perform", None)
        f = theano.function(
            [theano.In(vector, borrow=True), matrix], outputs, mode=theano.Mode(linker, None)
        )
        assert all(np.shares_memory(got, values) for got in f(values, square)[:2])
        messages.append([_message(f, [values, np.ones(shape)]) for shape in ((4, 3), (3, 4))])
        np.testing.assert_array_equal(f(values, square)[2], square)
    assert messages[0] == messages[1]
    assert messages[0][0] == (
        "f: %s must have one entry per row of y (m), but %s has shape (3,) and y has shape (4, 3)."
        % (argument, argument)
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", GRADIENT_WHEN_RUN)
def test_wrong_gradient_of_the_output(name, mode):
    words, shapes = GRADIENT_WHEN_RUN[name]
    message = _message(graphs.gradient("float64", mode), _arrays(shapes))
    for word in words + ["gradient of the output"]:
        assert word in message


@needs_compiler
@pytest.mark.parametrize("name", list(WHEN_RUN) + list(GRADIENT_WHEN_RUN))
def test_c_and_numpy_word_it_alike(name):
    arrays = _arrays(dict(WHEN_RUN, **GRADIENT_WHEN_RUN)[name][1])
    messages = [_message(graphs.gradient("float64", mode), arrays) for mode in ("py", "cvm")]
    assert messages[0] == messages[1]


@needs_compiler
@pytest.mark.parametrize("shape", [(1 << 28, 1), (1, 1 << 57), (1 << 32, 1)])
def test_not_enough_memory(shape):
    """What no machine can hold is a MemoryError, not a crash: an output, packed inputs."""
    x = np.broadcast_to(np.zeros(1), shape)
    one = np.ones(())
    with pytest.raises(MemoryError):
        graphs.forward("float64", "cvm", (False, False))(x, x, one, one)


# -- machines that lack something --------------------------------------------------------------

WITHOUT = """
import warnings
with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    import graphs, oracle, theano, theano.tensor as T
    from rbf_op import rbf_kernel
    import numpy as np

    inputs = graphs.variables("float64")
    *variables, weights = inputs
    k = rbf_kernel(*variables[:3], amplitude=variables[3])
    g = T.grad(None, variables, known_grads={k: weights})
    f = theano.function(inputs, [k] + g)
    f2 = theano.function(inputs, g)
    values = oracle.problem(70, 50, 7)
    results = f(*values)
    f(*values), f2(*values)
oracle.assert_accurate(results[0], *values[:4])
oracle.assert_gradients(results[1:], values, 5e-15)
others = (DeprecationWarning, ResourceWarning)
warned = [str(w.message) for w in warned if not issubclass(w.category, others)]
import hashlib
digest = hashlib.sha256(b"".join(r.tobytes() for r in results)).hexdigest()
report([warned, digest])
"""


def test_without_a_compiler():
    """THEANO_FLAGS=cxx=: right results from NumPy, and one warning of what is being missed.

    Beside that of Theano, which says only that it will be an error some day.
    """
    warned, _ = run_python(WITHOUT, flags={"cxx": ""})
    (ours,) = [w for w in warned if "rbf_op" in w]
    assert "g++" in ours and "NumPy" in ours


@needs_compiler
@pytest.mark.skipif(os.name != "posix", reason="the compiler is wrapped in a shell script")
def test_without_openmp(tmp_path):
    """A compiler that knows no -fopenmp: one thread, the same bits, and Theano's own warning."""
    wrapper = tmp_path / "g++"
    wrapper.write_text(
        '#!/bin/sh\ncase " $* " in *" -fopenmp "*) exit 1;; esac\nexec %s "$@"\n'
        % shutil.which(theano.config.cxx)
    )
    wrapper.chmod(wrapper.stat().st_mode | stat.S_IXUSR)
    flags = {"base_compiledir": tmp_path / "compiledir", "linker": "vm"}
    warned, digest = run_python(WITHOUT, flags=dict(flags, cxx=wrapper))
    assert len(warned) == 1 and "OpenMP" in warned[0]
    warned, expected = run_python(WITHOUT, flags={"linker": "vm"})
    assert warned == [] and digest == expected


@needs_compiler
@pytest.mark.parametrize(
    "cxxflags",
    ["-ffast-math -Ofast -ffp-contract=off", "-ffast-math -O2 -ffast-math", "-O0", "-O1"],
)
def test_the_users_compiler_flags_change_no_value(tmp_path, cxxflags):
    """-ffast-math, often recommended for Theano, and what would round K twice."""
    code = """
import graphs, numpy as np, oracle
from rbf_op import reference
f = graphs.forward("float64", "vm")
values = oracle.problem(9, 7, 3)[:4]
values[0][1, 1], values[0][3, 2], values[2][4], values[3][5] = np.nan, np.inf, 0, -0.0
result, expected = f(*values), reference.rbf_kernel(*values)
same = np.array_equal(np.isnan(result), np.isnan(expected))
same = same and np.array_equal(np.signbit(result[0]), np.signbit(expected[0]))
same = same and np.allclose(result, expected, rtol=1e-13, atol=0, equal_nan=True)
roots = np.arange(1, 53)[:, np.newaxis] / 2  # with exact squares
result = f(np.zeros((1, 1)), roots, np.ones(52), np.ones(52))[0]
error = abs(result / np.exp(-(roots[:, 0].astype("longdouble") ** 2)) - 1) / 2.0**-52
report([bool(same), float(error.max())])
"""
    flags = {"base_compiledir": tmp_path / "compiledir", "gcc.cxxflags": cxxflags}
    same, error = run_python(code, flags=flags)
    assert same and error < 2


def test_source_files_missing(monkeypatch, tmp_path):
    """A broken installation says so, with the places that were searched."""
    from rbf_op import sources

    monkeypatch.setattr(sources, "_PACKAGE", str(tmp_path / "rbf_op"))
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path)) + ".*install") as caught:
        sources.source_directory("c_code")
    assert str(tmp_path / "c_code") in str(caught.value)


@pytest.mark.parametrize("mode", ["FAST_COMPILE", pytest.param("FAST_RUN", marks=needs_compiler)])
def test_a_vector_of_weights_is_told_its_own_shape(mode):
    w = T.dvector("w")
    function = theano.function([w], rbf_dot(A, B, w), mode=mode)
    with pytest.raises(ValueError, match=r"weights has shape \(4, 1\) \(or \(4,\)\) and y has"):
        function(np.ones(4))
