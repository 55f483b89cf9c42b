"""rbf_softmax_dot: values against SciPy, far points, special values, derivatives, threads, shapes,
and what the node hands to its gradient beside P.
"""

import graphs
import numpy as np
import pytest
import theano
import theano.tensor as T
from graphs import ALL_MODES, DTYPES, LARGE_GRAPH_MODES, needs_compiler
from scipy.special import softmax
from theano.compile.debugmode import DebugMode
from theano.gradient import verify_grad

from rbf_op import RBFSoftmaxDot, RBFSoftmaxDotGrad, rbf_logsumexp, rbf_softmax_dot

pytestmark = pytest.mark.usefixtures("only_our_c_code")

N, M, D, P = 9, 6, 4, 3
NAMES = RBFSoftmaxDot.input_names


def reference(x, y, gamma, log_amplitude, weights):
    x, y = x.astype("longdouble"), y.astype("longdouble")
    with np.errstate(all="ignore"):
        exponents = log_amplitude - gamma * ((x[:, None] - y[None]) ** 2).sum(axis=2)
        return softmax(exponents, axis=1).dot(weights)


def expression(x, y, gamma, log_amplitude, weights):
    return rbf_softmax_dot(x, y, weights, gamma, log_amplitude=log_amplitude)


def draw(seed, n=N, m=M, d=D, p=P, dtype="float64", scalar=False):
    rng = np.random.RandomState(seed)
    shape = () if scalar else (m,)
    values = rng.randn(n, d), rng.randn(m, d), 0.2 + rng.rand(*shape), rng.randn(*shape)
    return [np.asarray(v, dtype=dtype) for v in values + (rng.randn(m, p),)]


def variables(values):
    return [T.TensorType(v.dtype.name, (False,) * v.ndim)(n) for n, v in zip(NAMES, values)]


@pytest.fixture(scope="module", params=["cvm", "py"])
def mode(request):
    return theano.Mode(linker=request.param, optimizer="fast_run")


@pytest.fixture(scope="module")
def function(mode):
    """P and the gradients of its sum, compiled once for each dtype and kind of parameter."""
    compiled = {}

    def call(*values):
        key = tuple((v.dtype.name, v.ndim) for v in values)
        if key not in compiled:
            inputs = variables(values)
            output = expression(*inputs)
            gradients = T.grad(output.sum(), inputs)
            compiled[key] = theano.function(inputs, [output] + gradients, mode=mode)
        return compiled[key](*values)

    return call


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scalar", [False, True])
@pytest.mark.parametrize(
    "n, m, d, p",
    [(9, 6, 4, 3), (1, 1, 1, 1), (8, 33, 3, 16), (70, 1200, 5, 2), (3, 2500, 0, 21), (5, 4, 3, 0)],
)
def test_value(function, dtype, scalar, n, m, d, p):
    values = draw(1, n, m, d, p, dtype, scalar)
    result = function(*values)[0]
    assert result.dtype == dtype and result.shape == (n, p)
    tolerance = 20 * np.finfo(dtype).eps
    np.testing.assert_allclose(result, reference(*values), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
def test_far_from_all_centres(function, dtype):
    """Every exponential is zero, but the nearest centre counts: by much if all are far apart."""
    x, y, gamma, log_amplitude, weights = draw(2, dtype=dtype)
    x[0], x[1] = 1000, y[2] + np.asarray([0, 3e4, 0, 0])
    gamma[:] = 1
    y[2, 1] += 1000
    result, *gradients = function(x, y, gamma, log_amplitude, weights)
    np.testing.assert_allclose(result[1], weights[2], rtol=1e-6)
    assert np.isfinite(result).all() and all(np.isfinite(g).all() for g in gradients)


def test_special_values(function):
    x, y, gamma, log_amplitude, weights = draw(3)
    x[0], x[1, 2], x[2] = np.inf, np.nan, 1e200
    result = function(x, y, gamma, log_amplitude, weights)[0]
    assert np.isnan(result[:3]).all()  # in float64 the distances of the third are infinite, too
    x = x[3:]
    expected = reference(x, y, gamma, log_amplitude, weights)
    np.testing.assert_allclose(result[3:], expected, rtol=1e-13)
    nothing = function(x, y[:0], gamma[:0], log_amplitude[:0], weights[:0])
    assert nothing[0].shape == (N - 3, P) and not nothing[0].any() and not nothing[1].any()
    assert [v.shape for v in function(x[:0], y, gamma, log_amplitude, weights)[:1]] == [(0, P)]
    log_amplitude[:2] = -np.inf
    values = x, y, gamma, log_amplitude, weights
    np.testing.assert_allclose(function(*values)[0], reference(*values), rtol=1e-13)
    weights[4, 1] = np.nan
    np.testing.assert_allclose(function(*values)[0], reference(*values), rtol=1e-13)
    log_amplitude[3] = np.inf
    assert np.isnan(function(*values)[0]).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_term_left_out_has_gradients_of_zero(mode, dtype):
    values = draw(19, dtype=dtype)
    values[3][2] = -np.inf
    inputs = variables(values)
    output = expression(*inputs)
    f = theano.function(inputs, [output] + T.grad(T.sqr(output).sum(), inputs), mode=mode)
    kept = np.arange(M) != 2
    result, dx, *others = f(*values)
    expected, expected_dx, *of_kept = f(values[0], *(v[kept] for v in values[1:]))
    tolerance = 20 * np.finfo(dtype).eps
    np.testing.assert_allclose(result, expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(dx, expected_dx, rtol=tolerance, atol=tolerance)
    for gradient, expected in zip(others, of_kept):
        assert (gradient[2] == 0).all()
        np.testing.assert_allclose(gradient[kept], expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("scalar", [False, True])
def test_first_and_second_derivatives(mode, scalar):
    values = draw(4, scalar=scalar)
    rng = np.random.RandomState(5)
    verify_grad(expression, values, rng=rng, mode=mode)
    if not scalar:
        for index in range(5):

            def first(*inputs, index=index):
                return T.grad(T.sqr(expression(*inputs)).sum(), inputs)[index]

            verify_grad(first, values, rng=rng, mode=mode)


def test_forward_rule(mode):
    values = draw(6)
    rng = np.random.RandomState(7)
    directions = [rng.randn(*v.shape) for v in values]
    inputs = variables(values)
    moved = [v.type() for v in inputs]
    rule = theano.function(inputs + moved, T.Rop(expression(*inputs), inputs, moved), mode=mode)
    step = 1e-6
    ahead, behind = (
        reference(*[v + sign * step * u for v, u in zip(values, directions)]) for sign in (1, -1)
    )
    expected = ((ahead - behind) / (2 * step)).astype("float64")
    np.testing.assert_allclose(rule(*(values + directions)), expected, rtol=1e-7, atol=1e-8)
    assert T.Rop(expression(*inputs), inputs[4], moved[4]).ndim == 2  # the weights alone


def test_same_bits_for_any_number_of_threads():
    values = draw(8, 300, 2000, 7, 5, "float32")
    inputs = variables(values)

    def compiled(openmp):
        output = RBFSoftmaxDot(openmp=openmp)(*inputs)
        return theano.function(inputs, [output] + T.grad(output.sum(), inputs))

    for one, many in zip(compiled(False)(*values), compiled(True)(*values)):
        assert one.tobytes() == many.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_shares_add_up_however_large_the_exponents(mode, dtype):
    """In float32 an exponent of 1e6 is known to a sixteenth: only differences may be used. Here all
    of them are exact."""
    offsets = np.random.RandomState(13).randint(48, size=37) / 16.0
    x = np.stack([np.zeros(19), np.arange(19)], axis=1)
    y = np.stack([np.full(37, 1000), np.arange(37)], axis=1)
    values = [np.asarray(v, dtype) for v in (x, y, 1, offsets, np.eye(37))]
    inputs = variables(values)
    P = expression(*inputs)
    f = theano.function(inputs, [P, T.grad(P[:, 0].sum(), inputs[4])], mode=mode)
    shares, dweights = f(*values)
    expected = reference(*values)
    eps = np.finfo(dtype).eps
    assert (abs(shares - expected) <= 2 * eps).all()
    np.testing.assert_allclose(dweights[:, 0], expected.sum(axis=0), rtol=8 * eps, atol=eps)
    assert not dweights[:, 1:].any()


def test_what_comes_with_the_value_counts_as_a_constant():
    values = draw(14)
    inputs = variables(values)
    product, log_sums, rests = RBFSoftmaxDot()(*inputs).owner.outputs
    for other in (log_sums, rests):
        with pytest.raises(theano.gradient.DisconnectedInputError):
            T.grad(other.sum(), inputs[0])
    assert T.Rop(product.sum() + rests.sum(), inputs[0], inputs[0]).dtype == "float64"
    shapes = theano.function(
        inputs,
        [v.shape for v in (product, log_sums, rests)],
        on_unused_input="ignore",
        mode=graphs.theano_mode("py"),
    )
    assert not any(isinstance(n.op, RBFSoftmaxDot) for n in shapes.maker.fgraph.toposort())
    assert [s.tolist() for s in shapes(*values)] == [[N, P], [N], [N]]


@pytest.mark.parametrize("amplitude", ["amplitude", "log_amplitude"])
def test_float32_stays_float32(monkeypatch, amplitude):
    """Value, both first rules and both second ones, where Theano refuses any float64."""
    monkeypatch.setattr(theano.config, "warn_float64", "raise")
    values = draw(15, dtype="float32")
    values[3] = abs(values[3])
    inputs = variables(values)
    moved = [v.type() for v in inputs]
    x, y, gamma, factor, weights = inputs
    P = rbf_softmax_dot(x, y, weights, gamma, **{amplitude: factor})
    gradients = T.grad(T.sqr(P).sum(), inputs)
    outputs = [P, T.Rop(P, inputs, moved)] + gradients + T.Rop(gradients, inputs, moved)
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
        more = variables(draw(16, dtype=dtype))
        product = expression(*more)
        inputs += more
        outputs += [product] + T.grad(T.sqr(product).sum(), more)
    f = theano.function(inputs, outputs, mode=graphs.theano_mode(mode))
    for n, m, d, p in [(9, 7, 3, 2), (7, 9, 2, 17)]:
        double = draw(16, n, m, d, p)
        single = [v.astype("float32") for v in double]
        results = f(*(single + double))
        for part, given, tolerance in ((results[:6], single, 1e-5), (results[6:], double, 1e-13)):
            expected = reference(*given)
            np.testing.assert_allclose(part[0], expected, rtol=tolerance, atol=tolerance)
        for one, other in zip(results[:6], results[6:]):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_are_zero_where_one_centre_counts(dtype):
    """As those of Theano's softmax are, whatever the weights."""
    values = x, y, gamma, log_amplitude, weights = draw(22, 20, 20, 3, 7, dtype)
    x[:] = y[:] = 100 * np.arange(20)[:, None]
    inputs = variables(values)
    gradients = T.grad(T.sqr(expression(*inputs) - 3).sum(), inputs[:4])
    for gradient in theano.function(inputs, gradients)(*values):
        assert not gradient.any()


@pytest.mark.parametrize("offset, far", [(0, 1e8), (0, -1e8), (1000, 1e8), (-1000, -1e8)])
def test_weights_without_a_share_spoil_no_gradient(mode, offset, far):
    """Nor does what all weights have in common, but for what P has lost."""
    rng = np.random.RandomState(14)
    values = rng.randn(50, 3), rng.randn(20, 3), rng.randn(20, 2) + offset, rng.randn(50, 2)
    values[1][7], values[2][7] = 1000, far

    def gradients(dtype, output, mode):
        x, y, weights, h = inputs = [T.matrix(dtype=dtype) for _ in values]
        wanted = T.grad(T.sum(output(x, y, weights) * h), [x, y])
        given = [v.astype("float32").astype(dtype) for v in values]
        return theano.function(inputs, wanted, mode=mode)(*given)

    def plain(x, y, weights):
        return T.dot(T.nnet.softmax(-((x[:, None, :] - y) ** 2).sum(2)), weights)

    exact = gradients("float64", plain, theano.Mode("py", None))
    rounded = gradients("float32", lambda *given: rbf_softmax_dot(*given, gamma=1), mode)
    for got, known in zip(rounded, exact):
        assert np.abs(got - known).max() < (1e-6 if offset == 0 else 1e-3) * np.abs(known).max()


@pytest.mark.parametrize("node", [rbf_logsumexp, rbf_softmax_dot], ids=lambda f: f.__name__)
def test_gamma_of_which_twice_is_infinite(mode, node):
    x, y, gamma = T.fmatrix("x"), T.fmatrix("y"), T.fscalar("gamma")
    weights = (np.eye(2, dtype="float32"),) if node is rbf_softmax_dot else ()
    dy = T.grad(T.sum(node(x, y, *weights, gamma=gamma)), y)
    points = np.array([[0, 0], [1, 0]], "float32"), np.array([[0, 0], [5, 5]], "float32")
    got = theano.function([x, y, gamma], dy, mode=mode)(*points, np.float32(2e38))
    assert (got[1] == 0).all()


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_of_large_weights_do_not_overflow(dtype):
    large = np.asarray(np.finfo(dtype).max / 4, dtype)
    x, y = np.zeros((3, 2), dtype), np.zeros((1000, 2), dtype)
    value = rbf_softmax_dot(x, y, np.full((1000, 2), large), 1).eval()
    np.testing.assert_allclose(value, np.full((3, 2), large), rtol=1e-6)


@needs_compiler
def test_large_exponents_in_debug_mode():
    random = np.random.RandomState(1)
    x, y, w = T.fmatrices("x", "y", "w")
    cost = T.sqr(rbf_softmax_dot(x, y, w, np.float32(1))).sum()
    mode = DebugMode(check_isfinite=False, check_preallocated_output=[])
    f = theano.function([x, y, w], T.grad(cost, [x, y, w]), mode=mode)
    weights = random.randn(40, 5).astype("float32")
    for scale in (1, 10):
        points = [(random.randn(rows, 3) * scale).astype("float32") for rows in (30, 40)]
        assert all(np.isfinite(gradient).all() for gradient in f(*points, weights))


@needs_compiler
def test_recycled_outputs():
    """A node may be given any array of the right type to write into, of any shape and layout."""
    inputs = variables(draw(17, dtype="float32"))
    known = RBFSoftmaxDot()(*inputs).owner.outputs
    gradients = RBFSoftmaxDotGrad()(*(inputs + known + [T.ones_like(known[0])]))
    f = theano.function(
        inputs,
        [theano.Out(o, borrow=True) for o in known + gradients],
        mode=graphs.theano_mode("vm"),
    )
    f.fn.allow_gc = False
    sizes = [(5, 7, 3, 2), (5, 7, 3, 2), (7, 5, 3, 4), (40, 33, 9, 1), (0, 4, 3, 2), (5, 7, 3, 2)]
    for n, m, d, p in sizes:
        values = draw(17, n, m, d, p, "float32")
        product, log_sums, rests, *_, dweights = f(*values)
        assert log_sums.shape == rests.shape == (n,)
        np.testing.assert_allclose(product, reference(*values), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(dweights.sum(axis=0), np.full(p, n), rtol=1e-5)


def test_any_layout(function):
    """Transposed, strided and reversed inputs are used as they lie."""
    values = draw(20)
    expected = function(*values)
    others = [np.repeat(v, 2, axis=0)[::2] if v.ndim == 1 else v.T.copy().T for v in values]
    others[0] = values[0][::-1].copy()[::-1]
    for got, want in zip(function(*others), expected):
        np.testing.assert_array_equal(got, want)


def test_inside_scan(mode):
    """Its gradient uses all outputs, in a loop of its own."""
    x, y, w = T.dmatrices("x", "y", "w")
    gammas = T.dvector("gammas")
    by_loop, _ = theano.scan(
        lambda gamma, x, y, w: rbf_softmax_dot(x, y, w, gamma), gammas, None, [x, y, w]
    )
    one_by_one = sum(T.sqr(rbf_softmax_dot(x, y, w, gammas[i])).sum() for i in range(3))
    wrt = [x, gammas, w]
    outputs = T.grad(T.sqr(by_loop).sum(), wrt) + T.grad(one_by_one, wrt)
    f = theano.function([x, y, w, gammas], outputs, mode=mode)
    values = draw(18)
    results = f(values[0], values[1], values[4], np.array([0.1, 0.5, 2.0]))
    for got, expected in zip(results[:3], results[3:]):
        np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-13)


def test_other_parameters():
    """A vector of weights, y = x, widths by other names, amplitudes by their logarithms."""
    x, y, _, log_amplitude, weights = draw(10)
    value = rbf_softmax_dot(x, None, x[:, 0], sigma=2.0).eval()
    np.testing.assert_allclose(value, reference(x, x, 1 / 8.0, 0, x[:, 0]), rtol=1e-13)
    amplitude = np.exp(log_amplitude)
    scales = np.array([0.5, 1, 2, 3])
    value = rbf_softmax_dot(x, y, weights, lengthscale=scales, amplitude=amplitude).eval()
    expected = reference(x / scales, y / scales, 0.5, log_amplitude, weights)
    np.testing.assert_allclose(value, expected, rtol=1e-13)
    value = rbf_softmax_dot(x, y, weights, amplitude=7).eval()
    np.testing.assert_allclose(value, reference(x, y, 1 / D, 0, weights), rtol=1e-13)
    single = T.fmatrix("single")
    assert rbf_softmax_dot(single, single, weights).dtype == "float64"
    assert rbf_softmax_dot(single, single, np.ones(3, "float32"), 0.1).type == T.fvector


def test_errors_name_the_argument_and_both_shapes(function):
    x, y, gamma, log_amplitude, weights = draw(9)
    with pytest.raises(TypeError, match="at most one of amplitude and log_amplitude"):
        rbf_softmax_dot(x, y, weights, amplitude=2, log_amplitude=1)
    with pytest.raises(TypeError, match="rbf_softmax_dot: weights must be a matrix"):
        rbf_softmax_dot(x, y, weights[None])
    with pytest.raises(ValueError, match=r"rbf_softmax_dot: weights must.*\(5, 3\).*\(6, 4\)"):
        rbf_softmax_dot(x, y, weights[:5])
    with pytest.raises(ValueError, match=r"rbf_softmax_dot.*\(9, 3\).*\(6, 4\)"):
        function(x[:, :3], y, gamma, log_amplitude, weights)
    with pytest.raises(ValueError, match=r"amplitude \(or log_amplitude\).*\(5,\).*\(6, 4\)"):
        function(x, y, gamma, log_amplitude[:5], weights)
    with pytest.raises(ValueError, match=r"rbf_softmax_dot: weights must.*\(5, 3\).*\(6, 4\)"):
        function(x, y, gamma, log_amplitude, weights[:5])


@needs_compiler
def test_c_and_numpy_word_errors_alike():
    def message(f, *values):
        with pytest.raises(ValueError) as caught:
            f(*values)
        return str(caught.value).split("\n")[0]

    values = x, y, gamma, log_amplitude, weights = draw(9)
    forward, backward = RBFSoftmaxDot(), RBFSoftmaxDotGrad()
    inputs = variables(values)
    known = [T.dmatrix("product"), *T.dvectors("log_sums", "rests"), T.dmatrix("g")]
    right = [x[:, :P], x[:, 0], x[:, 0], x[:, :P]]
    wrong = [
        (x[:, :3], y, gamma, log_amplitude, weights),
        (x, y, gamma[:5], log_amplitude, weights),
        (x, y, gamma, log_amplitude[:5], weights),
        (x, y, gamma, log_amplitude, weights[:5]),
    ]
    by_linker = []
    for linker in ("py", "vm"):
        mode = theano.Mode(linker, None)
        f = theano.function(inputs, forward(*inputs), mode=mode)
        df = theano.function(inputs + known, backward(*(inputs + known)), mode=mode)
        messages = [message(f, *given) for given in wrong]
        assert messages == [message(df, *given, *right) for given in wrong]
        for place in range(4):
            others = [v[:7] if i == place else v for i, v in enumerate(right)]
            messages.append(message(df, *values, *others))
        by_linker.append(messages)
    assert by_linker[0] == by_linker[1]
    assert all(m.startswith("rbf_softmax_dot: ") for m in by_linker[0])
