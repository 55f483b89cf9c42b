"""rbf_mixture: values and derivatives against sums of kernels in long double, shapes, errors.

The C kernels themselves, and that threads do not show, are checked in tests/c.
"""

import functools

import layouts
import numpy as np
import oracle
import pytest
import theano
import theano.tensor as T
from graphs import DTYPES, MODES, theano_mode
from theano.gradient import verify_grad

from rbf_op import RBFMixture, RBFMixtureGrad, rbf_kernel, rbf_mixture, reference

pytestmark = pytest.mark.usefixtures("only_our_c_code")

NAMES = ("x", "y", "gamma", "amplitude", "grad_output")


def problem(n, m, d, q, dtype="float64"):
    """x, y, gamma, amplitude (both signs) and grad_output, widths from broad to narrow."""
    x, y, _, _, grad_output = oracle.problem(n, m, d, dtype)
    random = np.random.RandomState(n + 7 * m + 49 * d + 343 * q)
    gamma = 2.0 ** np.arange(q) / 2
    amplitude = random.uniform(0.5, 2, size=q) * random.choice([-1, 1], size=q)
    return [x, y, gamma.astype(dtype), amplitude.astype(dtype), grad_output]


def terms(x, y, gamma, amplitude):
    return [oracle.kernel(x, y, g, a) for g, a in zip(gamma, amplitude)]


def exact_mixture(x, y, gamma, amplitude):
    return sum(terms(x, y, gamma, amplitude), np.zeros((len(x), len(y)), oracle.LONG))


def exact_gradients(x, y, gamma, amplitude, grad_output, of=oracle.gradients):
    """dx, dy, dgamma, damplitude; with `of`, what oracle has beside the gradients."""
    each = [of(x, y, g, a, grad_output) for g, a in zip(gamma, amplitude)]
    points = [sum((e[k] for e in each), np.zeros(v.shape)) for k, v in ((0, x), (1, y))]
    return points + [np.array([e[k] for e in each], oracle.LONG) for k in (2, 3)]


def check(results, values, symmetric=False):
    """K and all gradients, each to some eps of the absolute values of what is added up."""
    x, y, gamma, amplitude, _ = values
    eps = np.finfo(x.dtype).eps
    exact, sizes = [], []
    for of, found in ((oracle.gradients, exact), (oracle.gradient_terms, sizes)):
        found.extend(exact_gradients(*values, of=of))
        if symmetric:
            found[:2] = [found[0] + found[1]]
    sizes = [np.abs(s) for s in sizes]
    exponents = [(4 + 3 * g * oracle.squared_distance(x, y)) for g in gamma]
    size = sum((abs(k) * e for k, e in zip(terms(x, y, gamma, amplitude), exponents)), 0 * eps)
    exact, sizes = [exact_mixture(x, y, gamma, amplitude)] + exact, [size / 20] + sizes
    assert len(results) == len(exact)
    for result, wanted, its_size in zip(results, exact, sizes):
        assert result.shape == wanted.shape and result.dtype == x.dtype
        assert np.all(np.abs(result - wanted) <= 20 * eps * its_size + np.finfo(x.dtype).tiny)


@functools.lru_cache(maxsize=None)
def function(dtype, mode, symmetric=False):
    """K and all its gradients."""
    x, y, grad_output = (T.TensorType(dtype, (False, False))() for _ in range(3))
    gamma, amplitude = (T.TensorType(dtype, (False,))() for _ in range(2))
    k = rbf_mixture(x, None if symmetric else y, gamma, amplitude=amplitude)
    wrt = [x, gamma, amplitude] if symmetric else [x, y, gamma, amplitude]
    outputs = [k] + T.grad(None, wrt, known_grads={k: grad_output})
    inputs = [x, y, gamma, amplitude, grad_output]
    return theano.function(inputs, outputs, mode=theano_mode(mode), on_unused_input="ignore")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("q", [0, 1, 2, 5])
def test_sizes(q, dtype, mode):
    f = function(dtype, mode)
    sizes = [(1, 1, 1), (5, 3, 2), (9, 17, 4), (33, 70, 3), (0, 4, 2), (4, 0, 2), (3, 5, 0)]
    for n, m, d in sizes + [(70, 140, 97)]:
        values = problem(n, m, d, q, dtype)
        check(f(*values), values)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n, d", [(1, 3), (5, 2), (33, 4), (70, 20), (0, 3), (270, 7)])
def test_symmetric(n, d, dtype, mode):
    values = problem(n, n, d, 3, dtype)
    values[1] = values[0]
    results = function(dtype, mode, symmetric=True)(*values)
    check(results, values, symmetric=True)
    np.testing.assert_array_equal(results[0], results[0].T)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("argument", range(5), ids=NAMES)
@pytest.mark.parametrize("layout", layouts.LAYOUTS)
def test_layouts(layout, argument, mode):
    values = problem(6, 9, 3, 4)
    values[argument] = layouts.LAYOUTS[layout](values[argument])
    check(function("float64", mode)(*values), values)


@pytest.mark.parametrize("dtype", DTYPES)
def test_grad_output_in_whole_columns(dtype):
    """As LAPACK leaves it, of more tiles than one: the same bits."""
    values = problem(75, 133, 3, 2, dtype)
    columns = layouts.LAYOUTS["Fortran"](values[4])
    results = function(dtype, "cvm")(*(values[:4] + [columns]))
    for result, same in zip(results, function(dtype, "cvm")(*values)):
        np.testing.assert_array_equal(result, same)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_one_term_is_the_kernel(dtype, mode):
    x, y, gamma, amplitude, grad_output = problem(40, 37, 5, 1, dtype)
    k = function(dtype, mode)(x, y, gamma, amplitude, grad_output)[0]
    variables = [T.TensorType(dtype, (False,) * v.ndim)() for v in (x, y, gamma[0], amplitude[0])]
    kernel = rbf_kernel(*variables[:3], amplitude=variables[3])
    one = theano.function(variables, kernel, mode=theano_mode(mode))
    np.testing.assert_array_equal(k, one(x, y, gamma[0], amplitude[0]))


@pytest.mark.parametrize("mode", MODES)
def test_special_numbers(mode):
    """As NumPy gives them, term by term: NaN and inf anywhere, widths beyond the usual."""
    f = function("float64", mode)
    for argument, index in ((0, (2, 1)), (1, (3, 0)), (2, 1), (3, 1)):
        for value in (np.nan, np.inf, -np.inf, 0.0, 1e-320, 1e300, -0.01):
            values = problem(5, 6, 2, 3)
            values[argument][index] = value
            with np.errstate(all="ignore"):
                expected = reference.rbf_mixture(*values[:4])
            np.testing.assert_allclose(f(*values)[0], expected, rtol=1e-12)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("symmetric", [False, True])
def test_no_terms_of_special_numbers(symmetric, mode):
    values = problem(5, 5, 2, 0)
    values[0][2, 1] = np.inf
    if symmetric:
        values[1] = values[0]
    for result in function("float64", mode, symmetric)(*values):
        assert (result == 0).all()


# -- derivatives -------------------------------------------------------------------------------


def by_gamma(x, y, gamma, amplitude):
    return rbf_mixture(x, y, gamma, amplitude=amplitude)


FORMS = {
    "gamma": by_gamma,
    "sigma": lambda x, y, sigma, a: rbf_mixture(x, y, sigma=sigma, amplitude=a),
    "one amplitude": lambda x, y, gamma, a: rbf_mixture(x, y, gamma, amplitude=a[0]),
    "y = x": lambda x, y, gamma, a: rbf_mixture(x, gamma=gamma, amplitude=a),
    "list": lambda x, y, gamma, a: rbf_mixture(x, y, [gamma[0], gamma[2]], amplitude=[1, 2.5]),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("form", FORMS)
def test_verify_grad(form, mode):
    values = problem(5, 4, 3, 3)[:4]
    verify_grad(FORMS[form], values, rng=np.random.RandomState(1), mode=theano_mode(mode))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("which", [(0,), (1,), (2,), (3,), (0, 1, 2, 3)])
def test_forward_rule(which, mode):
    values = problem(6, 5, 3, 3)[:4]
    inputs = [T.TensorType("float64", (False,) * v.ndim)() for v in values]
    ways = [v.type() for v in inputs]
    change = T.Rop(by_gamma(*inputs), [inputs[k] for k in which], [ways[k] for k in which])
    f = theano.function(inputs + ways, change, mode=theano_mode(mode), on_unused_input="ignore")
    random = np.random.RandomState(2)
    moves = [random.randn(*v.shape) for v in values]
    zeroed = [v if k in which else 0 * v for k, v in enumerate(moves)]
    np.testing.assert_allclose(
        f(*(values + moves)), oracle.directional(exact_mixture, values, zeroed), rtol=1e-7
    )


@pytest.mark.parametrize("mode", MODES)
def test_second_order(mode):
    """The gradient of a directional derivative of the gradient, by differences of the gradient."""
    values = problem(6, 5, 3, 3)
    inputs = [T.TensorType("float64", (False,) * v.ndim)() for v in values]
    ways = [v.type() for v in inputs[:4]]
    gradients = T.grad((by_gamma(*inputs[:4]) * inputs[4]).sum(), inputs[:4])
    second = T.grad(sum((g * w).sum() for g, w in zip(gradients, ways)), inputs[:4])
    f = theano.function(inputs + ways, second, mode=theano_mode(mode))
    random = np.random.RandomState(3)
    moves = [random.randn(*v.shape) for v in values[:4]]
    expected = oracle.directional(
        lambda *v: exact_gradients(*v, grad_output=values[4]), values[:4], moves
    )
    for result, wanted in zip(f(*(values + moves)), expected):
        np.testing.assert_allclose(result, wanted.astype(float), rtol=1e-7, atol=1e-8)


def test_only_wanted_gradients_are_computed():
    x, gamma = T.dmatrix(), T.dvector()
    f = theano.function([x, gamma], T.grad(rbf_mixture(x, gamma=gamma).sum(), gamma))
    (op,) = [n.op for n in f.maker.fgraph.toposort() if isinstance(n.op, RBFMixtureGrad)]
    assert op.wrt == ("gamma",)


# -- arguments ---------------------------------------------------------------------------------

X, Y, G = T.dmatrix(), T.dmatrix(), T.dvector()


@pytest.mark.parametrize("widths", [[0.5, 1], (2, 3), np.array([1, 2], "float32"), T.fvector()])
def test_dtype(widths):
    assert rbf_mixture(T.fmatrix(), gamma=widths, amplitude=[1, 2.5]).dtype == "float32"
    assert rbf_mixture(T.dmatrix(), gamma=widths).dtype == "float64"


def test_sigma():
    values = problem(4, 5, 2, 3)
    results = [
        rbf_mixture(*values[:2], **{name: value}).eval()
        for name, value in (("gamma", values[2]), ("sigma", np.sqrt(0.5 / values[2])))
    ]
    np.testing.assert_allclose(*results, rtol=1e-14)


WRONG = {
    "no width": (TypeError, ["either gamma or sigma"], lambda: rbf_mixture(X)),
    "two widths": (TypeError, ["either gamma or sigma"], lambda: rbf_mixture(X, Y, G, sigma=G)),
    "scalar width": (
        TypeError, ["gamma must be a vector", "0 dimension"], lambda: rbf_mixture(X, Y, 0.1),
    ),
    "matrix amplitude": (
        TypeError, ["amplitude", "2 dimension"], lambda: rbf_mixture(X, Y, G, amplitude=X),
    ),
    "vector x": (TypeError, ["x must be a matrix"], lambda: rbf_mixture(G, Y, G)),
    "complex": (TypeError, ["gamma", "complex"], lambda: rbf_mixture(X, Y, T.zvector())),
    "negative": (ValueError, ["gamma must be >= 0"], lambda: rbf_mixture(X, Y, [1, -1])),
    "sigma zero": (ValueError, ["sigma must be > 0"], lambda: rbf_mixture(X, sigma=[0, 1])),
    "constants": (
        ValueError, ["amplitude has shape (3,)", "widths have shape (2,)"],
        lambda: rbf_mixture(X, Y, [1, 2], amplitude=[1, 2, 3]),
    ),
    "Op": (TypeError, ["RBFMixture: gamma must have 1"], lambda: RBFMixture()(X, Y, 1.0, G)),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_when_the_graph_is_built(name):
    exception, words, build = WRONG[name]
    with pytest.raises(exception) as caught:
        build()
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize("argument, shape", [(1, (5, 2)), (3, (4,)), (2, (0,)), (4, (4, 6))])
def test_when_it_is_run(argument, shape):
    """C and NumPy say the same of shapes that do not fit, and name both."""
    values = problem(4, 5, 3, 3)
    right = values[0 if argument == 1 else argument].shape
    values[argument] = np.ones(shape)
    said = []
    for mode in ("py", "cvm") if theano.config.cxx else ("py",):
        with pytest.raises(ValueError) as caught:
            function("float64", mode)(*values)
        said.append(str(caught.value).split("\n")[0])
        assert said[-1].startswith("rbf_mixture: ")
    assert len(set(said)) == 1
    assert all(", ".join(map(str, s)) in said[0] for s in (shape, right)), said[0]
