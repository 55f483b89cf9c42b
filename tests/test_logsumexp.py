"""rbf_logsumexp: values against SciPy, far points, special values, derivatives, threads, shapes,
and what the node hands to its gradient beside L.
"""

import graphs
import numpy as np
import pytest
import theano
import theano.tensor as T
from graphs import ALL_MODES, DTYPES, LARGE_GRAPH_MODES, needs_compiler
from scipy.special import logsumexp
from theano.compile.debugmode import DebugMode
from theano.gradient import verify_grad

from rbf_op import RBFLogSumExp, RBFLogSumExpGrad, rbf_logsumexp

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


def test_forward_rule_under_test_values(monkeypatch):
    monkeypatch.setattr(theano.config, "compute_test_value", "raise")
    x, y = T.dmatrices("x", "y")
    x.tag.test_value, y.tag.test_value = np.ones((3, 2)), np.zeros((4, 2))
    log_sums = rbf_logsumexp(x, y, 0.5)
    change = T.Rop(log_sums, x, x)
    np.testing.assert_allclose(change.tag.test_value, np.full(3, -2.0))
    first = T.grad(log_sums.sum(), x)
    assert T.grad(T.sqr(first).sum(), x).tag.test_value.shape == (3, 2)


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


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_term_left_out_has_gradients_of_zero(mode, dtype):
    x, y, gamma, offsets = draw(19, dtype=dtype)
    inputs = [T.TensorType(dtype, (False,) * v.ndim)() for v in (x, y, gamma, offsets)]
    L = rbf_logsumexp(*inputs[:3], log_amplitude=inputs[3])
    f = theano.function(inputs, [L] + T.grad(L.sum(), inputs), mode=mode)
    offsets[2] = -np.inf
    value, dx, *others = f(x, y, gamma, offsets)
    kept = np.arange(M) != 2
    expected, expected_dx, *expected_others = f(x, y[kept], gamma[kept], offsets[kept])
    tolerance = 20 * np.finfo(dtype).eps
    np.testing.assert_allclose(value, expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(dx, expected_dx, rtol=tolerance, atol=tolerance)
    for gradient, expected in zip(others, expected_others):
        assert (gradient[2] == 0).all()
        np.testing.assert_allclose(gradient[kept], expected, rtol=tolerance, atol=tolerance)


MILLION = 1000000  # squares of integers, so that all exponents are exact, in float32 too


def a_million_away(dtype):
    """x, y, gamma, log_amplitude, and exact L + a million and responsibilities."""
    rows, columns = np.arange(19), np.arange(37)
    offsets = np.random.RandomState(13).randint(48, size=37) / 16.0
    x = np.stack([0 * rows, rows], axis=1)
    y = np.stack([0 * columns + 1000, columns], axis=1)
    exponents = (offsets - (rows[:, None] - columns) ** 2).astype("longdouble")
    sums = logsumexp(exponents, axis=1)
    values = [np.asarray(v, dtype) for v in (x, y, 1, offsets)]
    return values, sums, np.exp(exponents - sums[:, None])


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradient_however_large_the_value(mode, dtype):
    """No digit of a responsibility is lost to those that L has to the left of the point."""
    values, _, responsibilities = a_million_away(dtype)
    inputs = [T.TensorType(dtype, (False,) * v.ndim)() for v in values]
    g = T.TensorType(dtype, (False,))()
    L = rbf_logsumexp(*inputs[:3], log_amplitude=inputs[3])
    f = theano.function(inputs + [g], T.grad((L * g).sum(), inputs[3]), mode=mode)
    eps = np.finfo(dtype).eps
    for row, expected in enumerate(responsibilities):
        got = f(*values, np.eye(len(responsibilities), dtype=dtype)[row])
        assert abs(got.astype("longdouble").sum() - 1) <= 4 * eps
        assert (abs(got - expected) <= 2 * eps).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_the_value_leaves_out(mode, dtype):
    """The second output: with it L has some eps of error, where its own spacing is eps |L|."""
    values, sums, _ = a_million_away(dtype)
    inputs = [T.TensorType(dtype, (False,) * v.ndim)() for v in values]
    outputs = RBFLogSumExp()(*inputs).owner.outputs
    f = theano.function(inputs, outputs, mode=mode)
    value, rest = f(*values)
    assert value.dtype == rest.dtype == dtype and rest.any()
    error = (value.astype("longdouble") + MILLION) + rest - sums
    assert (abs(error) <= 2 * np.finfo(dtype).eps).all()
    values[0][:3, 0] = np.inf, np.nan, np.finfo(dtype).max
    value, rest = f(*values)
    assert value[0] == value[2] == -np.inf and np.isnan(value[1])
    assert (rest[:3] == 0).all() and rest[3:].any()
    x, y, gamma, offsets = values
    value, rest = f(x, y, -gamma, np.full_like(offsets, np.inf))
    assert value[3] == np.inf and (rest == 0).all()
    value, rest = f(x, y[:0], gamma, offsets[:0])
    assert (value == -np.inf).all() and (rest == 0).all()
    assert [v.shape for v in f(x[:0], y, gamma, offsets)] == [(0,), (0,)]


def test_the_rest_counts_as_a_constant():
    inputs = [T.TensorType("float64", (False,) * v.ndim)() for v in draw(14)]
    value, rest = RBFLogSumExp()(*inputs).owner.outputs
    f = theano.function(
        inputs,
        T.grad(value.sum(), inputs) + T.grad((value + rest).sum(), inputs),
        mode=graphs.theano_mode("py"),
    )
    results = f(*draw(14))
    for of_value, of_both in zip(results[:4], results[4:]):
        np.testing.assert_array_equal(of_value, of_both)
    with pytest.raises(theano.gradient.DisconnectedInputError):
        T.grad(rest.sum(), inputs[0])
    assert T.Rop(value + rest, inputs[0], inputs[0]).dtype == "float64"
    shapes = theano.function(
        inputs, [value.shape, rest.shape], on_unused_input="ignore", mode=graphs.theano_mode("py")
    )
    assert not any(isinstance(n.op, RBFLogSumExp) for n in shapes.maker.fgraph.toposort())
    assert [s.tolist() for s in shapes(*draw(14))] == [[N], [N]]


@pytest.mark.parametrize("amplitude", ["amplitude", "log_amplitude"])
def test_float32_stays_float32(monkeypatch, amplitude):
    """Value, both first rules and both second ones, where Theano refuses any float64."""
    monkeypatch.setattr(theano.config, "warn_float64", "raise")
    values = draw(15, dtype="float32")
    inputs = [T.TensorType("float32", (False,) * v.ndim)() for v in values]
    moved = [v.type() for v in inputs]
    L = rbf_logsumexp(*inputs[:3], **{amplitude: inputs[3]})
    gradients = T.grad(L.sum(), inputs)
    outputs = [L, T.Rop(L, inputs, moved)] + gradients + T.Rop(gradients, inputs, moved)
    outputs += T.grad(sum(g.sum() for g in gradients), inputs)
    f = theano.function(inputs + moved, outputs, mode=graphs.theano_mode("py"))
    assert not any(
        v.dtype == "float64" for node in f.maker.fgraph.apply_nodes for v in node.outputs
    )
    assert all(r.dtype == "float32" and np.isfinite(r).all() for r in f(*values, *values))


@pytest.mark.parametrize("mode", LARGE_GRAPH_MODES + ALL_MODES[-1:])
def test_both_dtypes_in_one_graph(mode):
    """Every linker; under linker="c" all is one C module. DebugMode tries recycled outputs."""
    inputs, outputs = [], []
    for dtype in DTYPES:
        more = [T.TensorType(dtype, (False,) * v.ndim)() for v in draw(16)]
        L = rbf_logsumexp(*more[:3], log_amplitude=more[3])
        inputs += more
        outputs += [L] + T.grad(L.sum(), more)
    f = theano.function(inputs, outputs, mode=graphs.theano_mode(mode))
    for n, m, d in [(9, 7, 3), (7, 9, 2)]:
        double = draw(16, n, m, d)
        single = [v.astype("float32") for v in double]
        results = f(*(single + double))
        expected = reference(*double[:3], np.exp(double[3]))
        for part, tolerance in ((results[:5], 1e-5), (results[5:], 1e-13)):
            np.testing.assert_allclose(part[0], expected, rtol=tolerance, atol=tolerance)
            np.testing.assert_allclose(part[4].sum(), n, rtol=tolerance)
        for one, other in zip(results[:5], results[5:]):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@needs_compiler
def test_large_exponents_in_debug_mode():
    random = np.random.RandomState(1)
    x, y = T.fmatrices("x", "y")
    gradients = T.grad(rbf_logsumexp(x, y, T.constant(np.float32(1))).sum(), [x, y])
    mode = DebugMode(check_isfinite=False, check_preallocated_output=[])
    f = theano.function([x, y], gradients, mode=mode)
    for scale in (1, 10, 100):
        points = [(random.randn(rows, 3) * scale).astype("float32") for rows in (30, 40)]
        assert all(np.isfinite(gradient).all() for gradient in f(*points))


@needs_compiler
def test_recycled_outputs():
    """A node may be given any array of the right type to write into, of any shape and layout."""
    inputs = [T.TensorType("float32", (False,) * v.ndim)() for v in draw(17)]
    known = RBFLogSumExp()(*inputs).owner.outputs
    gradients = RBFLogSumExpGrad()(*(inputs + known + [T.ones_like(known[0])]))
    f = theano.function(
        inputs,
        [theano.Out(o, borrow=True) for o in known + gradients],
        mode=graphs.theano_mode("vm"),
    )
    f.fn.allow_gc = False
    for n, m, d in [(5, 7, 3), (5, 7, 3), (7, 5, 3), (40, 33, 9), (0, 4, 3), (5, 7, 3)]:
        values = draw(17, n, m, d, "float32")
        value, rest, *_, doffset = f(*values)
        expected = reference(*values[:3], np.exp(values[3].astype("float64")))
        assert value.shape == rest.shape == (n,)
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(doffset.sum(), n, rtol=1e-5)


def test_inside_scan(mode):
    """Its gradient uses both outputs, in a loop of its own."""
    x, y = T.dmatrices("x", "y")
    gammas = T.dvector("gammas")
    by_loop, _ = theano.scan(lambda gamma, x, y: rbf_logsumexp(x, y, gamma), gammas, None, [x, y])
    one_by_one = sum(rbf_logsumexp(x, y, gammas[i]).sum() for i in range(3))
    outputs = T.grad(by_loop.sum(), [x, gammas]) + T.grad(one_by_one, [x, gammas])
    f = theano.function([x, y, gammas], outputs, mode=mode)
    dx, dgammas, expected_dx, expected_dgammas = f(*draw(18)[:2], np.array([0.1, 0.5, 2.0]))
    np.testing.assert_allclose(dx, expected_dx, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(dgammas, expected_dgammas, rtol=1e-12)


def test_errors_name_both_shapes(function):
    x, y, gamma, amplitude = draw(9)
    with pytest.raises(ValueError, match=r"rbf_logsumexp.*\(9, 3\).*\(6, 4\)"):
        function(x[:, :3], y, gamma, amplitude)
    with pytest.raises(
        ValueError, match=r"rbf_logsumexp: amplitude \(or log_amplitude\).*\(5,\).*\(6, 4\)"
    ):
        function(x, y, gamma, amplitude[:5])
    with pytest.raises(ValueError, match=r"rbf_logsumexp: log_amplitude must.*\(5,\).*\(6, 4\)"):
        rbf_logsumexp(x, y, gamma, log_amplitude=amplitude[:5])


@needs_compiler
def test_c_and_numpy_word_errors_alike():
    def message(f, *values):
        with pytest.raises(ValueError) as caught:
            f(*values)
        return str(caught.value).split("\n")[0]

    x, y, gamma, offsets = draw(9)
    forward, backward = RBFLogSumExp(), RBFLogSumExpGrad()
    inputs = [T.TensorType("float64", (False,) * v.ndim)() for v in (x, y, gamma, offsets)]
    known = T.dvectors("log_sums", "rests", "g")
    wrong = (x[:, :3], y, gamma, offsets), (x, y, gamma[:5], offsets), (x, y, gamma, offsets[:5])
    by_linker = []
    for linker in ("py", "vm"):
        mode = theano.Mode(linker, None)
        f = theano.function(inputs, forward(*inputs), mode=mode)
        df = theano.function(inputs + known, backward(*(inputs + known)), mode=mode)
        messages = [message(f, *values) for values in wrong]
        assert messages == [message(df, *values, x[:, 0], x[:, 0], x[:, 0]) for values in wrong]
        for place in range(3):
            vectors = [x[:7, 0] if i == place else x[:, 0] for i in range(3)]
            messages.append(message(df, x, y, gamma, offsets, *vectors))
        by_linker.append(messages)
    assert by_linker[0] == by_linker[1] and all(m.startswith("rbf_log") for m in by_linker[0])
    assert "amplitude (or log_amplitude) has shape (5,)" in by_linker[0][2]


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
