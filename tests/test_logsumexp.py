"""rbf_logsumexp: values against SciPy, far points, special values, derivatives, threads, shapes."""

import numpy as np
import pytest
import theano
import theano.tensor as T
from graphs import only_our_c_code  # noqa: F401
from scipy.special import logsumexp
from theano.gradient import verify_grad

from rbf_op import RBFLogSumExp, rbf_logsumexp

pytestmark = pytest.mark.usefixtures("only_our_c_code")

N, M, D = 9, 6, 4


def reference(x, y, gamma, amplitude):
    x, y = x.astype("float64"), y.astype("float64")
    exponents = -gamma * ((x[:, None] - y[None]) ** 2).sum(axis=2)
    return logsumexp(exponents, b=np.broadcast_to(amplitude, exponents.shape), axis=1)


def expression(x, y, gamma, amplitude):
    return rbf_logsumexp(x, y, gamma, amplitude=amplitude)


def draw(seed, n=N, m=M, d=D, dtype="float64", scalar=False):
    rng = np.random.RandomState(seed)
    shape = () if scalar else (m,)
    values = rng.randn(n, d), rng.randn(m, d), 0.2 + rng.rand(*shape), 0.5 + rng.rand(*shape)
    return [np.asarray(v, dtype=dtype) for v in values]


@pytest.fixture(scope="module", params=["cvm", "py"])
def mode(request):
    return theano.Mode(linker=request.param, optimizer="fast_run")


@pytest.fixture(scope="module")
def function(mode):
    """Compiled once for each dtype and kind of parameter."""
    compiled = {}

    def call(*values):
        key = tuple((v.dtype.name, v.ndim) for v in values)
        if key not in compiled:
            inputs = [T.TensorType(v.dtype.name, (False,) * v.ndim)() for v in values]
            output = expression(*inputs)
            gradients = T.grad(output.sum(), inputs)
            compiled[key] = theano.function(inputs, [output] + gradients, mode=mode)
        return compiled[key](*values)

    return call


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n, m, d", [(9, 6, 4), (1, 1, 1), (8, 33, 3), (70, 1200, 5), (3, 2500, 0)])
def test_value(function, dtype, n, m, d):
    values = draw(1, n, m, d, dtype)
    result = function(*values)[0]
    assert result.dtype == dtype
    np.testing.assert_allclose(
        result, reference(*values), rtol=10 * np.finfo(dtype).eps, atol=10 * np.finfo(dtype).eps
    )


def test_far_from_all_centres_is_finite(function):
    x, y, gamma, amplitude = draw(2)
    x[0] += 1000
    result, dx = function(x, y, gamma, amplitude)[:2]
    assert result[0] < -1e5
    np.testing.assert_allclose(result, reference(x, y, gamma, amplitude), rtol=1e-14)
    assert np.isfinite(dx).all()


def test_special_values(function):
    x, y, gamma, amplitude = draw(3)
    x[0] = np.inf
    x[1, 2] = np.nan
    x[2] = 1e200
    result = function(x, y, gamma, amplitude)[0]
    assert result[0] == -np.inf and np.isnan(result[1]) and result[2] == -np.inf
    np.testing.assert_allclose(result[3:], reference(x, y, gamma, amplitude)[3:], rtol=1e-14)
    assert (function(x[3:], y[:0], gamma[:0], amplitude[:0])[0] == -np.inf).all()
    amplitude[:2] = 0
    np.testing.assert_allclose(
        function(x[3:], y, gamma, amplitude)[0], reference(x[3:], y, gamma, amplitude), rtol=1e-14
    )
    growing = function(x[3:] * 1e160, y, -gamma, np.ones_like(amplitude))[0]
    assert (growing == np.inf).all()


@pytest.mark.parametrize("scalar", [False, True])
def test_first_and_second_derivatives(mode, scalar):
    values = draw(4, scalar=scalar)
    rng = np.random.RandomState(5)
    verify_grad(expression, values, rng=rng, mode=mode)
    if not scalar:
        for index in range(4):

            def first(*inputs, index=index):
                return T.grad(T.sqr(expression(*inputs)).sum(), inputs)[index]

            verify_grad(first, values, rng=rng, mode=mode)


def test_forward_rule(mode):
    values = draw(6)
    rng = np.random.RandomState(7)
    directions = [rng.randn(*v.shape) for v in values]
    inputs = [T.TensorType("float64", (False,) * v.ndim)() for v in values]
    moved = [v.type() for v in inputs]
    rule = theano.function(inputs + moved, T.Rop(expression(*inputs), inputs, moved), mode=mode)
    step = 1e-6
    ahead, behind = (
        reference(*[v + sign * step * u for v, u in zip(values, directions)]) for sign in (1, -1)
    )
    np.testing.assert_allclose(
        rule(*(values + directions)), (ahead - behind) / (2 * step), rtol=1e-7, atol=1e-8
    )


def test_same_bits_for_any_number_of_threads():
    values = draw(8, 300, 2000, 7, "float32")
    inputs = [T.TensorType("float32", (False,) * v.ndim)() for v in values]

    def compiled(openmp):
        x, y, gamma, amplitude = inputs
        output = RBFLogSumExp(openmp=openmp)(x, y, gamma, T.log(amplitude))
        return theano.function(inputs, [output] + T.grad(output.sum(), inputs))

    for one, many in zip(compiled(False)(*values), compiled(True)(*values)):
        assert one.tobytes() == many.tobytes()


def test_log_amplitude(mode):
    """Log weights whose exponentials are 0 in float64."""
    x, y, gamma, amplitude = draw(12)
    inputs = [T.TensorType("float64", (False,) * v.ndim)() for v in (x, y, gamma, amplitude)]
    output = rbf_logsumexp(*inputs[:3], log_amplitude=inputs[3])
    f = theano.function(inputs, [output] + T.grad(output.sum(), inputs[3:]), mode=mode)
    logarithms = np.log(amplitude) - 5000
    value, gradient = f(x, y, gamma, logarithms)
    np.testing.assert_allclose(value + 5000, reference(x, y, gamma, amplitude), atol=1e-9)
    np.testing.assert_allclose(gradient.sum(), len(x), rtol=1e-9)
    with pytest.raises(TypeError, match="at most one of amplitude and log_amplitude"):
        rbf_logsumexp(*inputs[:3], amplitude=2, log_amplitude=1)


def test_responsibilities_of_a_row_add_up_however_large_its_sum(mode):
    """In float32 an exponent of 1e6 is known to a sixteenth: only differences may be used."""
    rng = np.random.RandomState(11)
    centres = (1e3 + rng.randint(-4, 5, size=(5, 3)) / 64.0).astype("float32")
    points = rng.randint(-4, 5, size=(9, 3)).astype("float32")
    x, y = T.fmatrices("x", "y")
    amplitude = T.fvector("amplitude")
    L = rbf_logsumexp(x, y, gamma=0.25, amplitude=amplitude)
    assert L.dtype == "float32"
    f = theano.function([x, y, amplitude], T.grad(L.sum(), [x, amplitude]), mode=mode)
    dx, damplitude = f(points, centres, np.ones(5, "float32"))
    np.testing.assert_allclose(damplitude.sum(), len(points), rtol=1e-6)
    exponents = np.float32(-0.25) * np.square(points[:, None] - centres).sum(-1)
    weights = np.exp(exponents - exponents.max(1, keepdims=True))
    weights /= weights.sum(1, keepdims=True)
    expected = -0.5 * (points[:, None] - centres) * weights[:, :, None]
    np.testing.assert_allclose(dx, expected.sum(1), rtol=1e-5)


def test_errors_name_both_shapes(function):
    x, y, gamma, amplitude = draw(9)
    with pytest.raises(ValueError, match=r"rbf_logsumexp.*\(9, 3\).*\(6, 4\)"):
        function(x[:, :3], y, gamma, amplitude)
    with pytest.raises(ValueError, match=r"amplitude.*\(5,\).*\(6, 4\)"):
        function(x, y, gamma, amplitude[:5])


def test_symmetric_default_and_shape():
    x = T.dmatrix("x")
    output = rbf_logsumexp(x, sigma=2.0)
    value = draw(10)[0]
    np.testing.assert_allclose(
        output.eval({x: value}), reference(value, value, 1 / 8.0, 1.0), rtol=1e-13
    )
    shape = theano.function([x], output.shape)
    assert not any(isinstance(n.op, RBFLogSumExp) for n in shape.maker.fgraph.toposort())
    assert shape(value).tolist() == [N]
