"""fuse puts the node where a kernel is, and the values and gradients stay what they were.

Every spelling of spellings.py, in both dtypes: one fused node, equal values and gradients, the same
type, idempotent; every near miss is left alone. Touches rbf_op, Theano and spellings.py.
"""

import numpy as np
import pytest

from rbf_op import fuse, fuse_report  # isort: skip  (mends Theano before its import)

import spellings
import theano
import theano.tensor as T
from processes import run_python
from theano.tensor.subtensor import Subtensor

from rbf_op.device.runtime import CUDAUnavailable
from rbf_op.fusion.optimizer import RBFFusion
from rbf_op.fusion.values import nodes_of
from rbf_op.ops import RBFKernel, RBFKernelGrad, RBFLogSumExp, RBFMixture, RBFSoftmaxDot
from rbf_op.theano_api import Scan

N, M, D = 5, 4, 3
TOLERANCE = {"float32": 5e-4, "float64": 1e-9}
MODE = theano.Mode(linker="py", optimizer=None)
# What loops compute in a step is compiled with the default mode.
pytestmark = pytest.mark.usefixtures("only_our_c_code")


def variables(dtype):
    x, c = T.matrix("x", dtype), T.matrix("c", dtype)
    s = T.scalar("s", dtype)
    return [x, c, s] + [T.vector(name, dtype) for name in "vwr"]


def values(dtype, seed=3, rows=N):
    rng = np.random.RandomState(seed)
    shapes = [(rows, D), (M, D), (), (D,), (M,), (rows,)]
    positive = [False, False, True, True, True, True]
    return [
        np.asarray(rng.rand(*shape) + 0.5 if above else rng.randn(*shape), dtype)
        for shape, above in zip(shapes, positive)
    ]


def fused_nodes(output, op=RBFKernel):
    return [node for node in nodes_of([output]) if isinstance(node.op, op)]


def value_and_gradients(inputs, output):
    # Every entry counts differently, and the derivative depends on the value.
    weights = T.cast(T.arange(output.size).reshape(output.shape) % 7 + 1, output.dtype) / 7
    cost = (weights * (output + T.sqr(output))).sum()
    return [output] + theano.grad(cost, inputs, disconnected_inputs="ignore")


def assert_equal(inputs, output, fused, given, dtype, mode=MODE):
    assert fused.type == output.type
    expected, got = (
        theano.function(inputs, value_and_gradients(inputs, o), mode=m, on_unused_input="ignore")(
            *given
        )
        for o, m in ((output, MODE), (fused, mode))
    )
    assert got[0].dtype == expected[0].dtype
    for name, a, b in zip(["value"] + inputs, expected, got):
        assert a.shape == b.shape, name
        atol = TOLERANCE[dtype] * max(1, np.abs(a).max())
        np.testing.assert_allclose(b, a, rtol=0, atol=atol, err_msg=str(name))
    # Theano may give a gradient a wider dtype than its variable's where dtypes are mixed.
    for variable, a, b in zip(inputs, expected[1:], got[1:]):
        assert b.dtype in (variable.dtype, a.dtype)


def check_fused(build, dtype, given=None, mode=MODE):
    inputs = variables(dtype)
    output = build(*inputs)
    fused, report = fuse(output, report=True)
    assert len(report.fused) == 1, str(report)
    assert len(fused_nodes(fused)) == 1
    assert fuse(fused) is fused
    assert_equal(inputs, output, fused, given or values(dtype), dtype, mode)
    return report.fused[0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("distance", spellings.DISTANCES, ids=lambda f: f.__name__)
def test_every_spelling_of_the_distance(distance, dtype):
    check_fused(lambda x, c, s, v, w, r: T.exp(-s * distance(x, c)), dtype)


@pytest.mark.parametrize(
    "dtype, distance", [("float32", spellings.squared), ("float64", spellings.expanded)]
)
@pytest.mark.parametrize("width", sorted(spellings.WIDTHS))
def test_every_place_of_width_and_amplitude(width, dtype, distance):
    def build(x, c, *parameters):
        return spellings.WIDTHS[width](distance(x, c), *parameters)

    check_fused(build, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kernel", sorted(spellings.KERNELS))
def test_every_scale_of_the_features(kernel, dtype):
    check_fused(spellings.KERNELS[kernel], dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kernel", sorted(spellings.FIELD))
def test_kernels_from_the_field(kernel, dtype):
    check_fused(spellings.FIELD[kernel], dtype)


@pytest.mark.parametrize("kernel", sorted(spellings.FIELD))
def test_kernels_from_the_field_optimised_and_of_other_sizes(kernel):
    # Those that name their sizes as numbers stay at these.
    rows = N if kernel == "sizes as numbers" else N + 2
    mode = theano.Mode(linker="py", optimizer="fast_run").excluding("rbf_fusion")
    given = values("float64", seed=4, rows=rows)
    check_fused(spellings.FIELD[kernel], "float64", given, mode)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", sorted(spellings.LOGARITHMS))
def test_logarithms_of_sums(name, dtype):
    inputs = variables(dtype)
    output = spellings.LOGARITHMS[name](*inputs)
    fused, report = fuse(output, report=True)
    nodes = 1 + name.startswith("all entries")  # the sums of rows are summed in turn
    assert len(report.fused) == 1 and len(fused_nodes(fused, RBFLogSumExp)) == nodes, str(report)
    assert not fused_nodes(fused) and fuse(fused) is fused
    assert_equal(inputs, output, fused, values(dtype), dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", sorted(spellings.SOFTMAXES))
def test_products_with_a_softmax(name, dtype):
    inputs = variables(dtype)
    output = spellings.SOFTMAXES[name](*inputs)
    fused, report = fuse(output, report=True)
    assert len(report.fused) == len(fused_nodes(fused, RBFSoftmaxDot)) == 1, str(report)
    assert fused.owner.op == RBFSoftmaxDot() or fused.ndim == 1
    assert not fused_nodes(fused) and fuse(fused) is fused
    assert_equal(inputs, output, fused, values(dtype), dtype)


@pytest.mark.parametrize("name", sorted(spellings.OF_ANY_SIGN))
def test_parameters_of_any_sign(name):
    inputs = variables("float64")
    output = spellings.OF_ANY_SIGN[name](*inputs)
    x, c, s, v, w, r = values("float64")
    s, w, r = -s, np.array([2.0, 1.0, 0.0, -0.01]), np.array([1.0, 0.0, -1.0, 2.0, 1e-200])
    v = np.array([1.0, -0.5, 0.3])
    with np.errstate(all="ignore"):
        assert_equal(inputs, output, fuse(output), [x, c, s, v, w, r], "float64")


# An intermediate result, and a kernel that is computed from it.
INTERMEDIATES = {
    "width": lambda x, c, s, w: (s**2, lambda u: T.exp(-spellings.squared(x, c) / (2 * u))),
    "twice": lambda x, c, s, w: (2 * s, lambda u: T.exp(-spellings.squared(x, c) * u)),
    "widths": lambda x, c, s, w: (1 / w, lambda u: T.exp(-spellings.squared(x, c) * u)),
    "amplitude": lambda x, c, s, w: (w**2, lambda u: u * T.exp(-spellings.squared(x, c))),
    "term": lambda x, c, s, w: (T.exp(s), lambda u: T.exp(u - spellings.squared(x, c))),
    "root": lambda x, c, s, w: (T.exp(s), lambda u: T.exp(-spellings.squared(T.sqrt(u) * x, c))),
    "points": lambda x, c, s, w: (2 * x, lambda u: T.exp(-s * spellings.squared(u, c))),
    "expanded": lambda x, c, s, w: (abs(x), lambda u: T.exp(-s * spellings.expanded(u, c))),
    "transposed": lambda x, c, s, w: (x.T, lambda u: T.exp(-s * spellings.expanded(u.T, c))),
    "logarithm": lambda x, c, s, w: (
        s**2,
        lambda u: T.log(T.exp(-u * spellings.squared(x, c)).sum(axis=1)),
    ),
}


@pytest.mark.parametrize("name", sorted(INTERMEDIATES))
def test_what_the_cost_depends_on_elsewhere_stays_what_the_kernel_does(name):
    inputs = x, c, s, v, w, r = variables("float64")
    u, kernel = INTERMEDIATES[name](x, c, s, w)
    cost = T.sqr(kernel(u)).sum() + T.log(T.sqr(u) + 1).sum()
    fused = fuse(cost)
    assert fused_nodes(fused, (RBFKernel, RBFLogSumExp))
    gradients = [T.grad(o, u) for o in (cost, fused)]
    expected, got = theano.function(inputs, gradients, mode=MODE, on_unused_input="ignore")(
        *values("float64")
    )
    np.testing.assert_allclose(got, expected, rtol=1e-10)
    expected, got = theano.function(
        inputs, [cost, fused], mode=MODE, on_unused_input="ignore", givens={u: u + 1}
    )(*values("float64"))
    np.testing.assert_allclose(got, expected, rtol=1e-10)


def each_feature(weights, x, c):
    return T.exp(-(weights * spellings.difference(x, c) ** 2).sum(axis=2))


# What is never negative, and zero where it underflows; weights of features, and of distances.
UNDERFLOWING = {
    "softmax": lambda x, c, v: each_feature(T.nnet.softmax(v)[0], x, c),
    "softplus": lambda x, c, v: each_feature(T.nnet.softplus(v), x, c),
    "sigmoid": lambda x, c, v: each_feature(T.nnet.sigmoid(v), x, c),
    "exp": lambda x, c, v: each_feature(T.exp(v), x, c),
    "two distances": lambda x, c, v: T.exp(
        -T.exp(v[1]) * spellings.squared(x, c) - T.exp(v[0]) * spellings.squared(2 * x, c)
    ),
}


@pytest.mark.parametrize("name", sorted(UNDERFLOWING))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_that_underflow(name, dtype):
    inputs = x, c, s, v, w, r = variables(dtype)
    output = UNDERFLOWING[name](x, c, v)
    given = values(dtype)
    given[3] = np.array([1, -2000, 2], dtype)[[0, 1, 2] if name != "two distances" else [1, 0, 2]]
    fused = fuse(output)
    assert fused_nodes(fused)
    assert_equal(inputs, output, fused, given, dtype)


@pytest.mark.parametrize("weights", [T.nnet.relu, abs], ids=["relu", "abs"])
def test_a_weight_of_zero_leaves_out_a_feature_of_large_numbers(weights):
    inputs = x, c, s, v, w, r = variables("float64")
    output = each_feature(weights(v), x, c)
    given = values("float64")
    given[0][:, 1] = 1.7e18 + 6e14 * np.arange(N)  # times in nanoseconds, weeks apart
    given[1][:, 1] = 1.7e18
    given[3] = np.array([0.7, 0.0, 0.3])
    assert_equal(inputs, output, fuse(output), given, "float64")


def test_a_limit_with_a_width_below_zero():
    """Whose exponential overflows: it is no limit, and has no derivative."""
    inputs = x, c, s, v, w, r = variables("float64")
    output = T.exp(-T.clip(spellings.squared(x, c), 0.1, 1e4) / s)
    fused = fuse(output)
    assert fused_nodes(fused)
    for width in (-0.5, 0.5):
        given = values("float64")
        given[2] = np.asarray(width)
        assert_equal(inputs, output, fused, given, "float64")


# What fails where a length is not what it should be: (graph, shapes of x and c that fit, and not).
LENGTHS = {
    "features": (
        lambda x, c, s: spellings.squared(x.reshape((x.shape[0], 3)), c),
        [(5, 3), (4, 3)],
        [(5, 2), (4, 2)],
    ),
    "columns": (
        lambda x, c, s: spellings.squared(x, c).reshape((x.shape[0], 4)),
        [(5, 2), (4, 2)],
        [(5, 2), (3, 2)],
    ),
    "rows": (
        lambda x, c, s: spellings.squared(x, c).reshape((5, c.shape[0])),
        [(5, 2), (4, 2)],
        [(6, 2), (4, 2)],
    ),
    "sum": (
        lambda x, c, s: theano.foldl(
            lambda k, total, x, c: total + T.sqr(x[:, k].dimshuffle(0, "x") - c[:, k]),
            T.arange(x.shape[1]),
            T.zeros((5, 4)),
            [x, c],
        )[0],
        [(5, 2), (4, 2)],
        [(6, 2), (4, 2)],
    ),
    "scan": (
        lambda x, c, s: theano.scan(
            lambda i, rows, x, c: T.set_subtensor(rows[i], T.sum(T.sqr(x[i] - c), axis=1)),
            T.arange(x.shape[0]),
            T.zeros((x.shape[0], 4)),
            [x, c],
        )[0][-1],
        [(5, 2), (4, 2)],
        [(5, 2), (3, 2)],
    ),
}


@pytest.mark.parametrize("name", sorted(LENGTHS))
def test_lengths_that_do_not_fit_fail_as_before(name):
    distance, fitting, failing = LENGTHS[name]
    x, c, s = T.dmatrix("x"), T.dmatrix("c"), T.dscalar("s")
    output = T.exp(-s * distance(x, c, s))
    fused = fuse(output)
    assert (fused is output) == (name == "scan")  # which is left alone
    functions = [theano.function([x, c, s], o, mode=MODE) for o in (output, fused)]
    expected, got = (f(*[np.ones(shape) for shape in fitting], 0.5) for f in functions)
    np.testing.assert_allclose(got, expected)
    for f in functions:
        with pytest.raises((ValueError, AssertionError)):
            f(*[np.ones(shape) for shape in failing], 0.5)


# x has another name where it is reshaped to rows of three. Some are found at a second try only.
RESHAPED = {
    "exponentials apart": lambda x, rows, c: (
        T.exp(-T.sqr(rows).sum(axis=1))[:, None]
        * T.exp(-T.sqr(c).sum(axis=1))
        * T.exp(2 * T.dot(rows, c.T))
    ),
    "beside a logarithm of sums": lambda x, rows, c: (
        T.log(T.exp(-spellings.squared(x, c)).sum(axis=1)) + T.sqr(rows).sum(axis=1)
    ),
    "widths along an axis": lambda x, rows, c: T.exp(
        -spellings.squared(rows, c)[:, None, :] * T.constant([0.5, 1])[:, None]
    ).sum(axis=(0, 1)),
}


@pytest.mark.parametrize("name", sorted(RESHAPED))
def test_rows_that_do_not_fit_fail_as_before(name):
    x, c = T.dmatrices("x", "c")
    output = RESHAPED[name](x, x.reshape((x.shape[0], 3)), c)
    fused = fuse(output)
    assert fused is not output
    functions = [theano.function([x, c], o, mode=MODE) for o in (output, fused)]
    expected, got = (f(np.ones((5, 3)), np.ones((4, 3))) for f in functions)
    np.testing.assert_allclose(got, expected)
    for f in functions:
        with pytest.raises((ValueError, AssertionError)):
            f(np.ones((5, 2)), np.ones((4, 2)))


@pytest.mark.parametrize("shifted", [False, True])
def test_logarithms_of_all_entries_far_apart(shifted):
    """Their sum would be zero; so would the sum of the rows' sums."""
    x, c = T.dmatrices("x", "c")
    exponents = -spellings.squared(x, c)
    largest = exponents.max() if shifted else 0
    output = T.log(T.exp(exponents - largest).sum()) + largest
    fused = fuse(output)
    assert fused is not output
    given = [v * 40 for v in values("float64")[:2]]
    for optimizer in (None, "fast_run"):
        mode = theano.Mode("py", optimizer).excluding("rbf_fusion")
        got = theano.function([x, c], [fused] + T.grad(fused, [x, c]), mode=mode)(*given)
        distances = ((given[0][:, None] - given[1]) ** 2).sum(axis=2)
        row, column = np.unravel_index(distances.argmin(), distances.shape)
        assert distances.min() > 800
        np.testing.assert_allclose(got[0], -distances.min(), rtol=1e-12)
        slope = np.zeros_like(given[0])
        slope[row] = -2 * (given[0][row] - given[1][column])
        np.testing.assert_allclose(got[1], slope, rtol=1e-9, atol=1e-9)


# Of which Theano computes the logarithm without them, so that it stays finite.
IN_LOGARITHMS = {
    "all entries": lambda x, c: T.exp(-spellings.squared(x, c)).sum(),
    "two": lambda x, c: T.exp(-spellings.squared(x, c)) + T.exp(-2 * spellings.expanded(x, c)),
    "widths along an axis": lambda x, c: T.exp(
        -spellings.squared(x, c)[:, :, None] * T.constant([0.5, 1])
    ).sum(axis=2),
    "a width for each row": lambda x, c: T.exp(
        -((x[:, 0] ** 2)[:, None]) * spellings.squared(x, c)
    ).sum(axis=1),
}


@pytest.mark.parametrize("name", sorted(IN_LOGARITHMS))
def test_logarithms_of_sums_stay_finite(name):
    x, c = T.dmatrices("x", "c")
    output = T.log(IN_LOGARITHMS[name](x, c))
    given = values("float64")
    given = given[0] + 30, given[1] - 30
    expected, *got = (
        theano.function([x, c], o, mode=theano.Mode("py", optimizer).excluding(*without))(*given)
        for o, optimizer, without in (
            (output, "fast_run", ["rbf_fusion"]),
            (output, "fast_run", []),
            (fuse(output), "fast_run", []),
        )
    )
    assert np.all(np.isfinite(expected))
    for result in got:
        np.testing.assert_allclose(result, expected, rtol=1e-9)


def test_a_device_that_is_asked_for_and_missing(monkeypatch):
    monkeypatch.setenv("RBF_OP_DEVICE", "cuda")
    monkeypatch.setattr("rbf_op.device.runtime.why_unavailable", lambda: "rbf_op: no device")
    x, c = T.dmatrices("x", "c")
    output = T.exp(-spellings.squared(x, c))
    with pytest.raises(CUDAUnavailable, match="no device"):
        fuse(output)
    with pytest.raises(CUDAUnavailable, match="no device"):
        fuse_report([output])
    assert fuse(T.exp(x)) is not None  # no kernel, nothing missing
    monkeypatch.setenv("RBF_OP_DEVICE", "gpu")
    with pytest.raises(ValueError, match="RBF_OP_DEVICE must be one of"):
        fuse(output)
    monkeypatch.setenv("RBF_OP_DEVICE", "cuda")
    # What nobody asked for goes on without.
    f = theano.function([x, c], output, mode="FAST_RUN")
    assert not fused_nodes(f.maker.fgraph.outputs[0])
    np.testing.assert_array_equal(f(np.ones((2, 3)), np.ones((4, 3))), np.ones((2, 4)))


def test_lengths_that_one_kernel_needs_equal_may_differ_for_another():
    x, c, z = T.dmatrices("x", "c", "z")
    outputs = [
        T.exp(-spellings.squared(x + c, z)),
        T.exp(-2 * spellings.squared(x[: c.shape[0]], z)),
    ]
    fused = fuse(outputs)
    got = theano.function([x, c, z], fused[1], mode=MODE)(
        np.ones((5, 2)), np.ones((4, 2)), np.ones((3, 2))
    )
    assert got.shape == (4, 3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "probabilities", [lambda w: T.nnet.softmax(w)[0], T.nnet.sigmoid], ids=["softmax", "sigmoid"]
)
def test_mixtures_whose_weights_underflow(probabilities, dtype):
    inputs = x, c, s, v, w, r = variables(dtype)
    output = T.log((probabilities(w) * T.exp(-spellings.squared(x, c))).sum(axis=1))
    fused = fuse(output)
    assert fused_nodes(fused, RBFLogSumExp) and not fused_nodes(fused)
    given = values(dtype)
    given[4] = np.array([1, 0.5, -2000, 2], dtype)
    assert_equal(inputs, output, fused, given, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [-1000.0, 1000.0])
def test_a_shifted_logarithm_stays_stable(size, dtype):
    """Of log weights whose exponentials under- or overflow."""
    inputs = variables(dtype)
    output = spellings.shifted(inputs[4] - inputs[2] * spellings.squared(*inputs[:2]))
    fused = fuse(output)
    assert len(fused_nodes(fused, RBFLogSumExp)) == 1
    x, c, s, v, w, r = values(dtype)
    results = theano.function(inputs, [output, fused], mode=MODE, on_unused_input="ignore")(
        x, c, s, v, (w + size).astype(dtype), r
    )
    assert np.isfinite(results[1]).all()
    np.testing.assert_allclose(results[1], results[0], rtol=1e-6)


def test_a_truncated_gradient_stays_truncated():
    x, c = T.dmatrices("x", "c")
    output, _ = theano.scan(
        lambda row, all_: T.exp(-T.sqr(all_ - row).sum(1)),
        sequences=[x],
        non_sequences=[c],
        truncate_gradient=2,
    )
    assert fuse(output) is output


def test_reading_ends():
    """Chains whose parts are read once for each way to them."""
    x, c = variables("float64")[:2]
    for grow in (
        lambda u: abs(u) * T.sqrt(u * u),
        lambda u: T.maximum(u * T.tanh(u), 0) + u,
    ):
        difference = spellings.difference(x, c)
        for _ in range(30):
            difference = grow(difference)
        assert not fuse_report(T.exp(-difference.sum(2))).fused


@pytest.mark.parametrize("name", sorted(spellings.SEVERAL))
def test_several_kernels_at_once(name):
    count, build = spellings.SEVERAL[name]
    inputs = variables("float64")
    output = build(*inputs)
    fused, report = fuse(output, report=True)
    assert len(report.fused) == len(fused_nodes(fused)) == count, str(report)
    assert fuse(fused) is fused
    assert_equal(inputs, output, fused, values("float64"), "float64")


@pytest.mark.parametrize("limit", [lambda d: T.maximum(d, 0.8), lambda d: T.clip(d, 0.5, 2)])
@pytest.mark.parametrize(
    "width, fused",
    [
        (T.sqr, True),
        (abs, True),
        (T.exp, True),
        (lambda s: T.nnet.softplus(s - 800) + s**4, True),
        (lambda s: T.maximum(s, 0), False),
        (lambda s: T.clip(s, 0, 9), False),
        (T.nnet.relu, False),
        (lambda s: T.clip(s**2, 0, 5), True),
        (lambda s: (s**2) ** 1.25, True),
        (lambda s: T.sqrt(s) ** 2, False),
        (lambda s: s**2 * T.maximum(s, 0) + T.maximum(s, 0), False),
    ],
)
def test_derivatives_by_a_width_that_is_zero(width, fused, limit):
    """Where it is, all limited distances have the same exponential: 1."""
    x, c, s = T.dmatrix("x"), T.dmatrix("c"), T.dscalar("s")
    cost = T.sum(T.exp(-width(s) * limit(spellings.squared(x, c))) * T.dot(x, c.T))
    replaced, report = fuse(cost, report=True)
    assert bool(report.fused) == fused
    given = np.arange(12.0).reshape(4, 3) / 9, np.arange(9.0).reshape(3, 3)[::-1] / 7, 0.0
    got, known = (
        theano.function([x, c, s], T.grad(o, [x, s]), mode=MODE)(*given) for o in (replaced, cost)
    )
    for a, b in zip(got, known):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    "vector", [lambda w: w.reshape((w.shape[0],)), lambda w: T.repeat(w[:, 0], 1)]
)
def test_a_vector_that_was_a_matrix(vector):
    x, c, w = T.dmatrices("x", "c", "w")
    ends = (T.dot(points, vector(w)) for points in (x, c))
    rows, columns = (end.dimshuffle(*order) for end, order in zip(ends, ((0, "x"), ("x", 0))))
    assert len(fuse_report(T.exp(-T.sqr(rows - columns))).fused) == 1


def test_reasons_of_limits():
    x, c = T.dmatrices("x", "c")
    distance = spellings.squared(x, c)
    (twice,) = fuse_report(T.exp(-T.maximum(T.minimum(distance, 5), 0.1)))
    (raised,) = fuse_report(T.exp(-T.sqr(T.maximum(distance, 0.1))))
    assert "more than once" in twice.reason and "more than once" not in raised.reason


def test_many_replaced_entries():
    """Several ways lead down from each of the nested switches, and most are not gone."""
    x, c, s = T.dmatrix("x"), T.dmatrix("c"), T.dscalar("s")
    layer = T.dot(x, c.T)
    for _ in range(150):
        layer = T.switch(layer > 0, layer, T.exp(layer) - 1)
    assert not fuse_report(T.exp(layer)).fused
    distance = spellings.squared(x, c)
    for row in range(45):
        distance = T.set_subtensor(distance[row], row)
    assert fuse_report(T.exp(-s * distance)).fused
    for mask in range(150):
        distance = T.switch(x[:, :1] > mask, distance, 2 * distance)
    assert not fuse_report(T.exp(-s * distance)).fused
    width = T.sqr(s)
    for _ in range(40):
        width = width * width + width
    assert fuse_report(T.exp(-width * T.maximum(spellings.squared(x, c), 0.5))).fused


def test_infinite_below_a_fraction():
    x, c, mask = T.dmatrix("x"), T.dmatrix("c"), T.dmatrix("mask")
    output = T.exp(-1 / T.switch(mask, 1 / spellings.squared(x, c), np.inf))
    fused = fuse(output)
    assert len(fused_nodes(fused)) == 1
    given = np.arange(6.0).reshape(3, 2) / 4, np.eye(2), np.array([[0, 1], [1, 1], [1, 0]])
    for mask_of_all in (given[2], np.zeros((3, 2))):
        results = [
            theano.function([x, c, mask], o, mode=MODE)(*given[:2], mask_of_all)
            for o in (fused, output)
        ]
        np.testing.assert_allclose(*results, rtol=1e-12)


@pytest.mark.parametrize("of_rows", [False, True])
def test_infinite_distances_have_no_derivative(of_rows):
    """Where a distance is set to infinity, width and factor get no inf times 0."""
    inputs = x, s, w = T.dmatrix("x"), T.dscalar("s"), T.dvector("w")
    squared, width = spellings.squared(x, x), s * T.exp(w)[:, None] if of_rows else s
    output = T.exp(w) * T.exp(-width * T.fill_diagonal(squared, np.inf))
    finite = T.fill_diagonal(T.exp(w) * T.exp(-width * squared), 0)
    results = [
        theano.function(inputs, [o] + T.grad(o.sum(), list(inputs)), mode=MODE)(
            np.arange(12.0).reshape(4, 3) / 9, 0.7, np.arange(4.0)
        )
        for o in (fuse(output), finite)
    ]
    for got, known in zip(*results):
        np.testing.assert_allclose(got, known, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loop", spellings.UNROLLED, ids=lambda f: f.__name__)
def test_loops_unrolled_in_the_graph(loop, dtype):
    check_fused(lambda x, c, s, v, w, r: T.cast(loop(x, c, N, M, w), dtype), dtype)


@pytest.mark.parametrize("near_miss", sorted(spellings.NEAR_MISSES))
def test_near_misses_are_left_alone(near_miss):
    output = spellings.NEAR_MISSES[near_miss](*variables("float64"))
    fused, report = fuse(output, report=True)
    assert fused is output, str(report)
    assert not report.fused
    assert all(candidate.reason for candidate in report)
    assert not any("failed" in candidate.reason for candidate in report)


@pytest.mark.parametrize("near_miss", spellings.UNROLLED_NEAR_MISSES, ids=lambda f: f.__name__)
def test_loops_that_are_almost_a_kernel(near_miss):
    x, c, _, _, w, _ = variables("float64")
    output = near_miss(x, c, N, M, w)
    fused, report = fuse(output, report=True)
    given = values("float64")
    arguments = given[0], given[1], given[4]
    expected = theano.function([x, c, w], output, mode=MODE, on_unused_input="ignore")(*arguments)
    got = theano.function([x, c, w], fused, mode=MODE, on_unused_input="ignore")(*arguments)
    np.testing.assert_allclose(got, expected, atol=1e-12)
    # Rows out of order are the kernel of the rows in that order only if they are taken so.
    assert fused is output, str(report)


@pytest.mark.parametrize("transposed", [False, True])
def test_parameters_are_read(transposed):
    x, c, s, v, w, r = variables("float64")
    width = r[:, None] if transposed else w
    output = 3 * T.exp(-width * spellings.expanded(x, c))
    (candidate,) = fuse_report(output)
    assert candidate.fused and candidate.transposed is transposed
    assert (candidate.x, candidate.y) == ((c, x) if transposed else (x, c))
    assert candidate.gamma is (r if transposed else w)
    assert theano.function([], candidate.amplitude, mode=MODE)() == 3
    assert "gamma" in str(candidate)


def test_same_points_make_a_symmetric_node():
    x, _, s, _, _, _ = variables("float64")
    (candidate,) = fuse_report(spellings.KERNELS["same points"](x, None, s, None, None, None))
    assert candidate.symmetric and candidate.y is None
    output = fuse(T.exp(-s * spellings.expanded(x, x)))
    assert fused_nodes(output)[0].op.symmetric
    points = values("float64")[0] + 1e6
    kernel = theano.function([x, s], output, mode=MODE)(points, 0.5)
    assert (kernel == kernel.T).all() and (np.diag(kernel) == 1).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("weights", [(0.5, 1, 2), (-0.5, 1, 0.2), (0, 1, 2), (0, 0, 0)], ids=str)
@pytest.mark.parametrize(
    "name",
    [
        "a weight for each feature",
        "weights, some below zero",
        "weights that may be zero",
        "absolute values as weights",
        "features chosen by a mask",
    ],
)
def test_weights_of_features_of_any_sign(name, weights, dtype):
    inputs = variables(dtype)
    output = spellings.FIELD[name](*inputs)
    fused = fuse(output)
    assert len(fused_nodes(fused)) == 1
    given = values(dtype)
    given[3] = np.asarray(weights, dtype)
    assert_equal(inputs, output, fused, given, dtype)


def test_a_batch_whose_distances_would_be_computed_again_for_each_matrix():
    x, c, s, v, w, r = variables("float64")
    kernel = T.exp(-spellings.squared(x, c).dimshuffle("x", 0, 1) * v.dimshuffle(0, "x", "x"))
    fused, report = fuse(kernel, report=True)
    assert fused is kernel
    assert "more than once" in report[0].reason


def test_second_derivatives():
    inputs = variables("float64")
    x, c, s, v, w, r = inputs
    output = w * T.exp(-s * spellings.expanded(x / v, c / v))
    results = []
    for expression in (output, fuse(output)):
        gradients = theano.grad(T.sqr(expression).sum(), [x, c, s, v, w])
        weighted = sum((T.sin(1 + g) * g).sum() for g in gradients)
        second = theano.grad(weighted, [x, c, s, v, w])
        results.append(
            theano.function(inputs, second, mode=MODE, on_unused_input="ignore")(*values("float64"))
        )
    for a, b in zip(*results):
        np.testing.assert_allclose(b, a, rtol=1e-8, atol=1e-9)


def test_coincident_points_where_the_original_is_nan():
    x, c, s, _, _, _ = variables("float64")
    output = T.exp(-s * spellings.difference(x, x).norm(2, axis=2) ** 2)
    gradients = [
        theano.function([x, s], theano.grad(o.sum(), x), mode=MODE)(np.ones((3, 2)), 0.5)
        for o in (output, fuse(output))
    ]
    assert np.isnan(gradients[0]).all()
    assert (gradients[1] == 0).all()


def test_far_from_the_origin_where_the_original_cancels():
    x, c, s, _, _, _ = variables("float32")
    output = T.exp(-s * spellings.expanded(x, c))
    points = [v.astype("float64") for v in values("float32")[:2]]
    points = [(p * 64).round() / 64 + 4096 for p in points]
    expected = np.exp(-0.5 * ((points[0][:, None] - points[1][None]) ** 2).sum(2))
    errors = [
        np.abs(
            theano.function([x, c, s], o, mode=MODE)(
                *[p.astype("float32") for p in points], np.float32(0.5)
            )
            - expected
        ).max()
        for o in (output, fuse(output))
    ]
    assert errors[1] < 1e-6 < 0.1 < errors[0]


def test_mixed_dtypes_keep_theirs():
    x, c = T.fmatrix("x"), T.dmatrix("c")
    i = T.lmatrix("i")
    for a, b in [(x, c), (c, x), (x, i), (i, c)]:
        output = T.exp(-0.5 * spellings.squared(a, b))
        fused = fuse(output)
        assert fused.type == output.type and len(fused_nodes(fused)) == 1
        given = [(4 * p).round().astype(u.dtype) for p, u in zip(values("float64"), (a, b))]
        results = [theano.function([a, b], o, mode=MODE)(*given) for o in (output, fused)]
        np.testing.assert_allclose(*results, rtol=1e-6)


def test_shared_variables_and_names():
    x = T.matrix("x")
    centres = theano.shared(values("float64")[1], "centres")
    output = T.exp(-spellings.squared(x, centres))
    output.name = "layer"
    fused = fuse(output)
    assert fused.name == "layer"
    assert theano.function([x], fused, mode=MODE)(values("float64")[0]).shape == (N, M)


# -- graphs ----------------------------------------------------------------------------------------


def test_what_has_no_kernel_is_the_same_object():
    x = T.matrix("x")
    outputs = [T.nnet.softmax(x), T.exp(x), x, T.dot(x, x.T)]
    fused = fuse(outputs)
    assert isinstance(fused, list) and all(a is b for a, b in zip(outputs, fused))
    assert fuse(x) is x
    assert fuse(tuple(outputs)) == tuple(outputs)


def test_only_what_depends_on_a_kernel_is_rebuilt():
    x, c, s, _, _, _ = variables("float64")
    kernel = T.exp(-s * spellings.squared(x, c))
    outputs = [T.dot(kernel, c), T.tanh(x)]
    fused = fuse(outputs)
    assert fused[0] is not outputs[0] and fused[1] is outputs[1]


def test_kernels_of_kernels():
    x, c, s, v, w, r = inputs = variables("float64")
    first = T.exp(-s * spellings.expanded(x, c))
    output = T.exp(-0.5 * spellings.squared(first, T.sqr(first[:3])))
    fused, report = fuse(output, report=True)
    assert len(report.fused) == 2 and len(fused_nodes(fused)) == 2
    assert_equal(inputs, output, fused, values("float64"), "float64")


def test_a_kernel_that_is_written_twice():
    """As by a function that is called for a kernel and for its sum."""
    inputs = x, c, s, v, w, r = variables("float64")

    def of_matrix():
        return T.exp(-s * spellings.squared(x, c))

    def step(p):
        def of_row():
            return T.exp(-s * T.sqr(c - p).sum(axis=1))

        return T.dot(of_row() / of_row().sum(), w)

    written = T.dot(of_matrix() / of_matrix().sum(axis=1, keepdims=True), w)
    for output in (written, theano.map(step, x)[0]):
        fused, report = fuse(output, report=True)
        assert len(report.fused) == 2 and not report.left_alone, str(report)
        assert not fused_nodes(fused, Scan)
        assert_equal(inputs, output, fused, values("float64"), "float64")


def test_a_kernel_that_is_left_alone_takes_no_other_with_it():
    x, y = T.dmatrix("x"), T.dmatrix("y")
    gram = T.dot(y, y.T)
    norms = T.diag(gram)
    of_x = T.exp(T.dot(x, y.T) - T.sqr(x).sum(axis=1)[:, None] / 2 - norms / 2)
    of_y = T.exp(gram - norms[:, None] / 2 - norms / 2)
    for also in (T.sqr(of_x), T.sqrt(of_x), of_x / of_x.sum(axis=1, keepdims=True)):
        fused, report = fuse([of_y, of_x, also], report=True)
        assert len(report.fused) == 2, str(report)
        assert not [v for v in nodes_of(fused) if isinstance(v.op, T.ExtractDiag)]


def test_reading_does_not_depend_on_how_deep_the_caller_is():
    x, c, s, _, _, _ = variables("float64")

    def report_from(depth):
        if depth:
            return report_from(depth - 1)
        return fuse_report(T.exp(-T.sqrt(s) * spellings.squared(x, c)))

    assert len(report_from(500).fused) == 1


def test_factors_that_are_used_twice_and_twice_again():
    """2^40 ways lead to the first of them."""
    x, c, s, _, _, _ = variables("float64")
    product = spellings.squared(x, c)
    logarithm = T.log(T.exp(-s * spellings.squared(x, c)).sum(axis=1))
    for _ in range(40):
        product = product * T.sqrt(product)
    assert len(fuse_report(T.exp(s) * T.exp(x.sum(axis=1))[:, None] * product)) <= 1
    total = logarithm
    for _ in range(40):
        total = total + total
    assert len(fuse_report(logarithm + total).fused) == 1


def test_a_report_of_a_deep_graph_is_short():
    """What is written twice in a layer is written 2^40 times in 40."""
    x, c, s, v, w, r = variables("float64")
    for _ in range(40):
        x = (x - x.mean(axis=0)) / T.sqrt(x.var(axis=0) + 1e-5)
    text = str(fuse_report(T.exp(-s * spellings.squared(x, c))))
    assert "1 of 1" in text and "..." in text and len(text) < 500


def left_alone(outputs):
    """The reasons why nothing of some outputs is fused."""
    fused, report = fuse(outputs, report=True)
    assert fused == outputs and not report.fused, str(report)
    return [candidate.reason for candidate in report.left_alone]


def test_many_kernels_of_one_distance_are_left_alone():
    x, c, s, _, _, _ = variables("float64")
    distance = spellings.expanded(x, c)
    kernels = [T.exp(-width * distance) for width in (1, 2, 3, 4, s)]
    assert len(fuse_report(kernels[1:]).fused) == 4
    reasons = left_alone(kernels)
    assert len(reasons) == 5 and all("several other kernels" in reason for reason in reasons)


@pytest.mark.parametrize("columns, fused", [(100, 2), (784, 0)])
def test_columns_that_are_known_count_where_a_distance_is_computed_again(columns, fused):
    x = T.dmatrix("x")
    centres = theano.shared(np.zeros((5, columns)), "centres")
    distance = spellings.expanded(x, centres * 2)
    kernels = [T.exp(-width * distance) for width in (1, 2)]
    assert len(fuse_report(kernels).fused) == fused
    assert len(fuse_report(kernels[0]).fused) == 1


def test_of_one_distance_none_is_computed_from_another():
    """exp(e - log(sum(exp(e)))) as exp(e) / exp(log(...)) would be 0 / 0 far from all centres."""
    x, c, s, _, _, _ = variables("float64")
    distance = spellings.squared(x, c)
    kernel = T.exp(-distance)
    reasons = left_alone([kernel, T.exp(-s * distance / kernel.mean())])
    assert any("parameters" in reason for reason in reasons)
    largest = T.max(-distance, axis=1)
    logarithm = T.log(T.exp(-distance - largest[:, None]).sum(axis=1)) + largest
    shares = T.exp(-distance - logarithm[:, None])
    assert left_alone([logarithm, shares])
    written_twice = T.exp(-spellings.squared(x, c) - logarithm[:, None])
    assert left_alone([logarithm, written_twice])


def test_kernels_that_are_powers_of_one_are_computed_from_it():
    x, c, s, _, w, _ = variables("float64")
    kernel = T.exp(-s * spellings.expanded(x, c))
    outputs = [T.dot(kernel**2, w), (kernel**3).sum()]
    fused, report = fuse(outputs, report=True)
    assert len(report.fused) == len({n for v in fused for n in fused_nodes(v)}) == 1, str(report)


def test_a_largest_entry_in_a_width_is_no_shift():
    x, c, _, _, w, _ = variables("float64")
    powers = T.exp(-spellings.squared(x, c) / T.sqr(x).max())
    output = T.dot(powers, w) / powers.sum(axis=1)
    assert len(fused_nodes(fuse(output))) == 1


def test_a_softmax_that_is_used_for_two_products_is_left_alone():
    x, c, s, _, w, _ = variables("float64")
    shares = T.nnet.softmax(-s * spellings.expanded(x, c))
    reasons = left_alone([T.dot(shares, w), T.dot(shares, c)])
    assert reasons and all("softmax" in reason for reason in reasons)


def test_equal_distances_written_twice_count_as_one():
    x, c, s, _, _, _ = variables("float64")
    kernels = [T.exp(-width * spellings.expanded(x, c)) for width in (1, 2, 3, 4, s)]
    assert fuse(kernels) == kernels
    same_twice = T.exp(-spellings.expanded(x, c)) + T.exp(-spellings.expanded(x, c))
    assert len(fuse_report(same_twice).fused) == 2


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", sorted(spellings.MIXTURES))
def test_kernels_of_one_distance_that_are_added_up(name, dtype):
    mixtures, kernels, build = spellings.MIXTURES[name]
    inputs = variables(dtype)
    output = build(*inputs)
    fused, report = fuse(output, report=True)
    assert len(report.fused) == len(report) == mixtures + kernels, str(report)
    nodes = fused_nodes(fused, RBFMixture)
    assert len(nodes) == mixtures + (name == "of two pairs of points")
    assert len(fused_nodes(fused)) == kernels
    assert fuse(fused) is fused
    if name == "equal widths":
        assert len(nodes[0].inputs[2].owner.inputs) == 2
    assert_equal(inputs, output, fused, values(dtype), dtype)


def two_kernels(x, c, u=1):
    distance = spellings.squared(x, c)
    return T.exp(-u * distance), T.exp(-2 * u * distance)


# A sum of kernels that depends on an intermediate result otherwise, too.
SUMS_OF_INTERMEDIATES = {
    "another term": lambda x, c, s: (s**2, lambda u: sum(two_kernels(x, c, u)) + T.sin(u)),
    "a factor": lambda x, c, s: (
        s**2,
        lambda u: (lambda a, b: u * a.mean() + b.mean())(*two_kernels(x, c, u)),
    ),
    "what all are divided by": lambda x, c, s: (
        s**2,
        lambda u: sum(k.mean() / u for k in two_kernels(x, c, u)),
    ),
    "factors of rows": lambda x, c, s: (
        s**2,
        lambda u: sum((u * x[:, 0])[:, None] * k for k in two_kernels(x, c, u)),
    ),
    "points": lambda x, c, s: (2 * x, lambda u: sum(two_kernels(u, c)).mean() + T.sqr(u).sum()),
    "points of means": lambda x, c, s: (
        2 * x,
        lambda u: sum(k.mean() for k in two_kernels(u, c)) + T.sqr(u).sum(),
    ),
}


@pytest.mark.parametrize("name", sorted(SUMS_OF_INTERMEDIATES))
def test_what_a_sum_of_kernels_depends_on_otherwise_stays_what_they_do(name):
    inputs = x, c, s, _, _, _ = variables("float64")
    u, build = SUMS_OF_INTERMEDIATES[name](x, c, s)
    cost = T.sqr(build(u)).sum()
    fused = fuse(cost)
    assert len(fused_nodes(fused, RBFMixture)) == 1
    for outputs, replaced in (
        ([T.grad(cost, u), T.grad(fused, u)], {}),
        ([cost, fused], {u: u + 1}),
    ):
        function = theano.function(
            inputs, outputs, mode=MODE, on_unused_input="ignore", givens=replaced
        )
        expected, got = function(*values("float64"))
        np.testing.assert_allclose(got, expected, rtol=1e-10)


def test_a_sum_of_kernels_of_which_one_shares_the_norms_of_its_points():
    x, c, _, _, _, _ = inputs = variables("float64")
    norms = T.sqr(x).sum(axis=1)
    distance = norms[:, None] + T.sqr(c).sum(axis=1) - 2 * T.dot(x, c.T)
    outputs = [sum(two_kernels(x, c)) + T.exp(-3 * distance), norms]
    fused = fuse(outputs)
    (mixture,) = fused_nodes(fused[0], RBFMixture)
    assert len(mixture.inputs[2].owner.inputs) == 3
    assert_equal(inputs, outputs[0], fused[0], values("float64"), "float64")


@pytest.mark.parametrize(
    "dtype, values_of_others, build",
    [
        ("uint8", (200, 100), lambda kernels, a, b: sum(kernels) + (a + b)),
        ("uint8", (200, 100), lambda kernels, a, b: (kernels[0] + a) + (kernels[1] + b)),
        ("uint8", (200, 100), lambda kernels, a, b: (kernels[0] - a) - (b - kernels[1])),
        ("bool", (1, 1), lambda kernels, a, b: sum(kernels) + (a + b)),
        ("float64", (1e17, 1e17), lambda kernels, a, b: sum(kernels) + (a - b)),
        ("float64", (1e17, 1e17), lambda kernels, a, b: (a - b) + kernels[0] - kernels[1]),
    ],
)
def test_what_is_added_to_kernels_is_added_up_as_it_was(dtype, values_of_others, build):
    x, c, _, _, _, _ = variables("float64")
    a, b = (T.TensorType(dtype, (False, False))() for _ in "ab")
    output = build(two_kernels(x, c), a, b)
    fused = fuse(output)
    assert len(fused_nodes(fused, RBFMixture)) == 1
    given = values("float64")[:2] + [np.full((N, M), v, dtype) for v in values_of_others]
    assert_equal([x, c, a, b], output, fused, given, "float64")


def test_a_sum_that_is_added_to_itself():
    x, c, _, _, _, _ = inputs = variables("float64")
    total = sum(two_kernels(x, c))
    doubled = total + total
    fused = fuse(doubled)
    assert len(fused_nodes(fused, RBFMixture)) == 1
    assert_equal(inputs, doubled, fused, values("float64"), "float64")
    for _ in range(30):
        doubled = doubled + doubled
    assert fused_nodes(fuse(doubled), RBFMixture)


def test_zeros_that_kernels_are_added_to_have_their_shape():
    x, c, _, _, _, _ = variables("float64")
    rows = T.lscalar()
    given = values("float64")[:2]
    fused = fuse(sum(two_kernels(x, c), T.zeros((rows, c.shape[0]))))
    function = theano.function([x, c, rows], fused, mode=MODE)
    assert function(*given, N).shape == (N, M)
    with pytest.raises(ValueError):
        function(*given, N + 1)
    fused = fuse(sum(two_kernels(x, c), T.zeros((x.shape[0], c.shape[0]))))
    assert isinstance(fused.owner.op, RBFMixture)  # these change nothing


@pytest.mark.parametrize(
    "build",
    [
        lambda kernels, a, k: sum(k * (a * kernel) for kernel in kernels),
        lambda kernels, a, k: sum(k * (a * kernel).sum() for kernel in kernels),
    ],
)
def test_a_wider_factor_leaves_other_factors_their_gradients(build):
    x, c, _, _, _, _ = variables("float32")
    a, k = theano.shared(np.ones((N, M), "float32")), T.lscalar()
    fused = fuse(build(two_kernels(x, c), a, k).sum())
    assert len(fused_nodes(fused, RBFMixture)) == 1
    assert T.grad(fused, a).dtype == "float32"


@pytest.mark.parametrize("place", range(3))
def test_kernels_times_a_number_and_a_matrix_in_one_product(place):
    x, c, s, _, _, _ = variables("float64")
    a = T.matrix("a")

    def product(kernel):
        factors = [s, a]
        factors.insert(place, kernel)
        return T.mul(*factors).sum()

    output = sum(product(kernel) for kernel in two_kernels(x, c))
    fused = fuse(output)
    assert len(fused_nodes(fused, RBFMixture)) == 1
    given = values("float64")[:3] + [np.arange(1.0, N * M + 1).reshape(N, M)]
    assert_equal([x, c, s, a], output, fused, given, "float64")


def test_sums_of_kernels_under_test_values(monkeypatch):
    x, c, _, _, _, _ = variables("float64")
    x.tag.test_value, c.tag.test_value = values("float64")[:2]
    monkeypatch.setattr(theano.config, "compute_test_value", "raise")
    fused = fuse(sum(kernel.mean() for kernel in two_kernels(x, c)))
    assert len(fused_nodes(fused, RBFMixture)) == 1
    assert fused.tag.test_value.shape == ()


def test_the_median_heuristic_keeps_its_distance():
    x = T.matrix("x")
    distance = spellings.squared(x, x)
    width = T.sort(distance.flatten())[distance.size // 2]
    output = T.exp(-distance / width)
    assert fuse(output) is output


def test_a_distance_that_is_another_result_is_left_alone():
    x, c, s, _, _, _ = variables("float64")
    distance = spellings.squared(x, c)
    outputs = [T.exp(-s * distance), distance]
    assert fuse(outputs) == outputs
    assert fuse(outputs[0]) is not outputs[0]
    # Its shape is no reason: that costs nothing.
    outputs = [T.exp(-s * distance), distance.shape]
    assert fuse(outputs)[0] is not outputs[0]


def test_a_product_whose_kernel_is_used_alone_too():
    x, c, s, _, w, _ = inputs = variables("float64")
    kernel = T.exp(-s * spellings.squared(x, c))
    output = kernel * w + kernel
    fused, report = fuse(output, report=True)
    assert len(fused_nodes(fused)) == 1 and len(report) == 1
    assert_equal(inputs, output, fused, values("float64"), "float64")


def test_kernels_among_factors_of_pairs():
    x, c, s, v, w, r = inputs = variables("float64")
    kernel = w * T.exp(-s * spellings.squared(x, c))
    output = kernel * T.dot(x, c.T) / (1 + kernel.sum(axis=1, keepdims=True))
    fused = fuse(output)
    assert len(fused_nodes(fused)) == 1
    assert_equal(inputs, output, fused, values("float64"), "float64")


def test_what_is_kept():
    """By which a gradient is taken, which is constant in it, or which something else replaces."""
    x = T.dmatrix("x")
    points = values("float64")[0]
    width = 1.06 * x.std() * T.cast(x.shape[0], "float64") ** -0.2  # Silverman's
    cost = T.exp(-spellings.squared(x, x) / (2 * width**2)).sum()
    kept = fuse(cost, keep=width)
    assert len(fused_nodes(kept)) == 1
    results = [
        theano.function(
            [x],
            [
                theano.grad(o, x, consider_constant=[width]),
                theano.grad(o, width),
                theano.clone(o, {width: T.constant(1, dtype="float64")}),
            ],
            mode=MODE,
        )(points)
        for o in (cost, kept)
    ]
    for expected, got in zip(*results):
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)
    distance = spellings.squared(x, x)
    assert fuse(T.exp(-distance), keep=[distance]).owner.inputs[0].owner.inputs[0] is distance


def test_gradients_are_fused_too():
    x, c, s, _, _, _ = variables("float64")
    cost = T.sqr(fuse(T.exp(-s * spellings.expanded(x, c)))).sum()
    (gradient,) = theano.grad(cost, [x])
    assert len(fused_nodes(gradient, RBFKernelGrad)) == 1


def test_rows_out_of_order_by_indices():
    x, c, _, _, _, _ = variables("float64")
    order = T.lvector("order")
    output = theano.map(lambda i, x_, c_: T.exp(-T.sum((x_[i] - c_) ** 2, axis=1)), order, [x, c])[
        0
    ]
    fused = fuse(output)
    assert len(fused_nodes(fused)) == 1
    given = values("float64")[:2] + [np.array([3, 0, 0, 4, -1])]
    results = [theano.function([x, c, order], o, mode=MODE)(*given) for o in (output, fused)]
    np.testing.assert_allclose(*results, atol=1e-12)


def test_loops_over_more_rows_than_there_are_still_fail():
    x, c, _, _, w, _ = variables("float64")
    fused = fuse(spellings.stacked_rows(x, c, N + 1, M, w))
    assert len(fused_nodes(fused)) == 1
    with pytest.raises(IndexError):
        theano.function([x, c], fused, mode=MODE)(*values("float64")[:2])


def test_loops_over_the_first_rows_only():
    x, c, _, _, w, _ = variables("float64")
    output = spellings.filled_cells(x, c, N - 2, M - 1, w)
    fused = fuse(output)
    assert len(fused_nodes(fused)) == 1
    given = [values("float64")[k] for k in (0, 1, 4)]
    results = [theano.function([x, c, w], o, mode=MODE)(*given) for o in (output, fused)]
    np.testing.assert_allclose(*results, atol=1e-12)


# Indices of loops that end before the axis they are of does, and what is no length of its source.
ENDS_EARLY = {
    "all rows but the last": lambda x, c, s: theano.map(
        lambda i, x_, c_, s_: T.exp(-s_ * T.sum((x_[i] - c_) ** 2, axis=1)),
        [T.arange(x.shape[0])[:-1]], [x, c, s],
    )[0],
    "the first three of them": lambda x, c, s: theano.map(
        lambda i, x_, c_, s_: T.exp(-s_ * T.sum((x_[i] - c_) ** 2, axis=1)),
        [T.arange(x.shape[0])[0:4][:3]], [x, c, s],
    )[0],
    "the shorter of two sequences": lambda x, c, s: theano.map(
        lambda i, j, x_, c_, s_: T.exp(-s_ * T.sum((x_[i] - c_) ** 2, axis=1)),
        [T.arange(x.shape[0]), T.arange(c.shape[0])], [x, c, s],
    )[0],
    "some centres for each row": lambda x, c, s: theano.map(
        lambda a, c_, s_: theano.map(
            lambda j, a_, c__, s__: T.exp(-s__ * T.sum((a_ - c__[j]) ** 2)),
            [T.arange(c_.shape[0])[:2]], [a, c_, s_],
        )[0],
        x, [c, s],
    )[0],
    "the first two features": lambda x, c, s: T.exp(-s * theano.reduce(
        lambda q, total, x_, c_: total + (x_[:, q][:, None] - c_[:, q][None, :]) ** 2,
        [T.arange(x.shape[1])[:2]], T.zeros((x.shape[0], c.shape[0])), [x, c],
    )[0]),
    "the first two features of x alone": lambda x, c, s: T.exp(-s * theano.reduce(
        lambda q, total, x_: total + (x_[:, q][:, None] - x_[:, q][None, :]) ** 2,
        [T.arange(x.shape[1])[:2]], T.zeros((x.shape[0], x.shape[0])), [x],
    )[0]),
    "a length that is cut to an integer": lambda x, c, s: T.exp(-T.tile(
        T.sum((x[:, None, :] - c[None, :, :]) ** 2, axis=2).dimshuffle(0, 1, "x"),
        (1, 1, T.cast(s + 1.5, "int64")),
    ).sum(2)),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(ENDS_EARLY))
def test_lengths_that_are_less_than_they_seem(name):
    """Fused or not, the value, its shape and its gradients are those of the graph."""
    x, c, s = variables("float64")[:3]
    output = ENDS_EARLY[name](x, c, s)
    given = values("float64")[:3]
    assert_equal([x, c, s], output, fuse(output), given, "float64")


def test_a_row_that_alloc_repeats():
    """Its length is one by its value alone. (Theano has no gradient of that.)"""
    x, c = variables("float64")[:2]
    rows = T.alloc(x[0:1], c.shape[0], x.shape[1])
    output = T.exp(-T.sum((rows[:, None, :] - c[None, :, :]) ** 2, axis=2))
    results = [
        theano.function([x, c], o, mode=theano.Mode("py", None))(*values("float64")[:2])
        for o in (output, fuse(output))
    ]
    np.testing.assert_allclose(*results)


def test_rows_of_another_length_than_the_matrix_they_are_set_in():
    x, c, _, _, _, _ = variables("float64")
    count = T.lscalar("count")
    output = T.zeros((2, count))
    for i in range(2):
        output = T.set_subtensor(output[i], T.exp(-T.sqr(x[i] - c).sum(axis=1)))
    fused = fuse(output)
    assert len(fused_nodes(fused)) == 1
    plain, fused = [theano.function([x, c, count], o, mode=MODE) for o in (output, fused)]
    points, centres = values("float64")[:2]
    for given in ((points, centres, M), (points, centres[:1], 3)):  # one row is repeated
        np.testing.assert_allclose(fused(*given), plain(*given), atol=1e-12)
    for function in (plain, fused):
        with pytest.raises(ValueError):
            function(points, centres, M + 1)


def test_rows_of_another_length_than_the_distances_they_are_set_in():
    x, c, _, _, _, _ = variables("float64")
    for width, count in ((c.shape[0], 1), (M + 1, 0)):
        distances = T.zeros((2, width))
        for i in range(2):
            distances = T.set_subtensor(distances[i], T.sqr(x[i] - c).sum(axis=1))
        fused = fuse(T.exp(-distances))
        assert len(fused_nodes(fused)) == count
    with pytest.raises(ValueError):
        theano.function([x, c], fused, mode=MODE)(*values("float64")[:2])


def test_a_loop_of_more_steps_than_a_sequence_has_still_fails():
    x, c, _, _, _, _ = variables("float64")
    steps = T.lscalar("steps")
    for count, given in ((N + 1, ()), (steps, (N + 1,))):
        output, _ = theano.scan(
            lambda row, c: T.exp(-T.sqr(row - c).sum(axis=1)), [x], non_sequences=[c], n_steps=count
        )
        inputs = [x, c] + [steps] * len(given)
        function = theano.function(inputs, fuse(output), mode=MODE)
        with pytest.raises(ValueError, match="(?i)sequence"):
            function(*values("float64")[:2] + list(given))


def set_in_single_precision(d):
    base = T.zeros((N, M), dtype="float32")
    for i in range(N):
        base = T.set_subtensor(base[i], T.exp(-T.sqr(d[i]).sum(axis=1)))
    return base


NARROWED = {
    "sum": lambda d: T.exp(-T.sum(T.sqr(d), axis=2, dtype="float32")),
    "mean": lambda d: T.exp(-T.mean(T.sqr(d), axis=2, dtype="float32")),
    "product": lambda d: T.prod(T.exp(-T.sqr(d)), axis=2, dtype="float32"),
    "rows": set_in_single_precision,
    "logarithm of sums": lambda d: T.log(
        T.exp(-T.sum(T.sqr(d), axis=2)).sum(axis=1, dtype="float32")
    ),
    "widths": lambda d: T.exp(-T.sum(T.sqr(d), axis=2)[:, :, None] * T.constant([0.5, 1.0])).sum(
        axis=2, dtype="float32"
    ),
}


@pytest.mark.parametrize("name", sorted(NARROWED))
def test_what_is_narrowed_after_the_difference_is_not_narrowed_before(name):
    x, c, _, _, _, _ = variables("float64")
    output = NARROWED[name](x.dimshuffle(0, "x", 1) - c.dimshuffle("x", 0, 1))
    given = [v + 1e7 for v in values("float64")[:2]]
    results = [theano.function([x, c], o, mode=MODE)(*given) for o in (output, fuse(output))]
    assert results[1].dtype == "float32"
    np.testing.assert_allclose(*results, rtol=1e-5)


def test_a_width_of_zero_beside_another():
    x, c, s, v, _, _ = variables("float64")
    output = T.exp(-T.sqr(s) * spellings.squared(x, c) - T.sqr(v[0]) * spellings.squared(2 * x, c))
    fused = fuse(output)
    assert len(fused_nodes(fused)) == 1
    given = values("float64")[:4]
    for nothing in ([s], [v], [s, v]):
        numbers = [0 * n if k in nothing else n for k, n in zip((x, c, s, v), given)]
        assert_equal([x, c, s, v], output, fused, numbers, "float64")


@pytest.mark.parametrize("of_points", [False, True])
def test_the_root_of_a_negative_width_is_nan(of_points):
    x, c, s, _, _, _ = variables("float64")
    root = T.sqrt(s)
    output = T.exp(
        -spellings.squared(root * x, root * c)
        if of_points
        else -T.sqr(root) * spellings.squared(x, c)
    )
    fused = fuse(output)
    assert len(fused_nodes(fused)) == 1
    points, centres, width = values("float64")[:3]
    function = theano.function([x, c, s], fused, mode=MODE)
    assert np.isnan(function(points, centres, -width)).all()
    assert_equal([x, c, s], output, fused, [points, centres, width], "float64")


ROOTS_OF_ZERO = {
    "of a relu": lambda u: T.sqrt(T.maximum(u, 0)),
    "of a clip": lambda u: T.sqrt(T.clip(u, 0, 5)),
}


@pytest.mark.parametrize("name", sorted(ROOTS_OF_ZERO))
def test_roots_of_what_may_be_zero(name):
    """They scale points of which others are not scaled, or the distance beside another."""
    x, c, s, _, w, _ = variables("float64")
    points, centres, width, _, weights, _ = values("float64")
    weights[0] = -1
    scaled = T.exp(
        -T.sqr(
            ROOTS_OF_ZERO[name](w).dimshuffle("x", 0, "x") * x.dimshuffle(0, "x", 1)
            - c.dimshuffle("x", 0, 1)
        ).sum(axis=2)
    )
    first = ROOTS_OF_ZERO[name](s) * spellings.squared(x, c)
    beside = T.exp(-first - spellings.squared(x[:, :2], c[:, :2]))
    for output, number in ((scaled, width), (beside, -1.0), (beside, 0.01)):
        given = [points, centres, number, weights]
        assert_equal([x, c, s, w], output, fuse(output), given, "float64")


@pytest.mark.parametrize("scale", [1e-20, 1e-22, 1e20, 1e22])
def test_a_scale_whose_square_no_float_holds(scale):
    """Points in joules, or masses in kilograms."""
    x, c, _, _, _, _ = variables("float32")
    output = T.exp(-spellings.squared(x / np.float32(scale), c / np.float32(scale)))
    assert left_alone([output]) == ["a number in it is too large or too small for its dtype"]


QUOTIENTS = {
    "of the square": lambda i, j: T.exp(-T.sqr(i[:, None] - j[None, :]) / T.constant(2, "int32")),
    "of the difference": lambda i, j: T.exp(-T.sqr((i[:, None] - j[None, :]) / 2)),
    "of a power": lambda i, j: T.exp(-(T.sqrt(T.sqr((i[:, None] - j[None, :]) / 2)) ** 2)),
}


@pytest.mark.parametrize("name", sorted(QUOTIENTS))
def test_quotients_of_integers_that_no_float_holds(name):
    i, j = T.ivector("i"), T.ivector("j")
    with theano.configparser.change_flags(floatX="float32"):
        output = QUOTIENTS[name](i, j)
    assert output.dtype == "float32"
    given = np.int32([20000001, 20000003]), np.int32([20000000, 20000002, 20000009])
    expected, got = (theano.function([i, j], o, mode=MODE)(*given) for o in (output, fuse(output)))
    assert expected[0, 0] < 0.9
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_a_logarithm_of_sums_plus_a_vector():
    x, c, s, _, _, r = variables("float64")
    logarithm = T.log(T.exp(-s * spellings.squared(x, c)).sum(axis=1))
    given = [v for k, v in enumerate(values("float64")) if k in (0, 1, 2, 5)]
    for output in (logarithm + r, r + logarithm, logarithm - r, logarithm - np.ones(N)):
        fused, report = fuse(output, report=True)
        assert len(report.fused) == 1 and not report.left_alone, str(report)
        assert_equal([x, c, s, r], output, fused, given, "float64")


def test_numbers_that_are_none():
    """Infinite divisors, factors out of range, complex numbers: read as far as they make sense."""
    x, c = T.dmatrix("x"), T.dmatrix("c")
    z = T.zmatrix("z")
    distance = spellings.squared(x, c)
    moduli = abs(z).dimshuffle(0, "x", 1) - abs(z).dimshuffle("x", 0, 1)
    outputs = [
        T.exp(-distance / np.inf),
        T.exp(-distance / T.sqr(T.constant(np.inf))),
        T.exp(-distance * 1e200 * 1e200),
        T.exp(-T.sqr(moduli).sum(axis=2)),
        T.exp(-T.sqr(abs(z - 1)).sum(axis=1, keepdims=True) * distance),
    ]
    points, centres = values("float64")[:2]
    given = points, centres, points + 1j * points[::-1]
    function = theano.function([x, c, z], outputs + fuse(outputs), mode=MODE)
    results = function(*given)
    for expected, got in zip(results[: len(outputs)], results[len(outputs) :]):
        np.testing.assert_allclose(got, expected, rtol=1e-12)
    assert "failed" not in str(fuse_report(outputs))


def test_directional_derivatives():
    """Of all that fused expressions are made of, whether or not it depends on the variable."""
    x, c, s, v, _, _ = variables("float64")
    images, directions = T.dtensor3("images"), T.dtensor3("directions")
    n = T.iscalar("n")
    pairs = images.dimshuffle(0, "x", 1, 2) - images.dimshuffle("x", 0, 1, 2)
    outputs = [
        T.exp(-T.sqr(pairs).sum(axis=[2, 3])),
        T.exp(-(v * T.sqr(images[0][:, None, :] - images[1][None, :, :])).sum(axis=2)),
        T.exp(-s * spellings.squared(images[0], c).reshape((n, c.shape[0]))),
    ]
    rng = np.random.RandomState(2)
    points, centres, width, weights = values("float64")[:4]
    given = [rng.randn(3, N, D), rng.randn(3, N, D), centres, width, weights, N]
    for output in outputs:
        fused = fuse(output)
        assert len(fused_nodes(fused)) == 1
        changes = [T.Rop(o, images, directions) for o in (output, fused)]
        inputs = [images, directions, c, s, v, n]
        function = theano.function(inputs, changes, mode=MODE, on_unused_input="ignore")
        np.testing.assert_allclose(*function(*given), rtol=1e-9, atol=1e-12)


def test_a_logarithm_of_what_is_negative_over_what_is():
    x, c, s, _, _, _ = variables("float64")
    output = T.log((s * T.exp(-spellings.squared(x, c))).sum(axis=1) / s)
    points, centres, width = values("float64")[:3]
    results = [
        theano.function([x, c, s], o, mode=MODE)(points, centres, -width)
        for o in (output, fuse(output))
    ]
    assert np.isfinite(results[0]).all()
    np.testing.assert_allclose(*results, atol=1e-12)


def test_equal_intermediates_keep_their_own_gradients():
    x, c, s, _, _, _ = variables("float64")
    first, second = T.tanh(x), T.tanh(x)
    output = T.exp(-s * spellings.squared(first, c)).sum() + first.sum()
    output += 2 * T.exp(-s * spellings.squared(second, 2 * c)).sum() + second.sum()
    gradients = [theano.grad(o, [first, second]) for o in (output, fuse(output))]
    results = [theano.function([x, c, s], g, mode=MODE)(*values("float64")[:3]) for g in gradients]
    np.testing.assert_allclose(results[1], results[0], atol=1e-12)


def line_of_a_user(x, c):
    return T.exp(-spellings.squared(x, c))


@pytest.mark.parametrize("optimizer", [None, "fast_run"])
def test_errors_name_the_users_line(optimizer):
    x, c, _, _, _, _ = variables("float64")
    output = line_of_a_user(x, c)
    mode = theano.Mode(linker="py", optimizer=optimizer)
    function = theano.function([x, c], output if optimizer else fuse(output), mode=mode)
    with pytest.raises(ValueError, match="rbf_kernel: x and y.*(?s:.*)in line_of_a_user"):
        function(np.ones((2, 3)), np.ones((2, 4)))


def test_empty_inputs():
    x, c, s, _, _, _ = variables("float64")
    fused = theano.function([x, c, s], fuse(T.exp(-s * spellings.squared(x, c))), mode=MODE)
    assert fused(np.zeros((0, 3)), np.zeros((4, 3)), 1).shape == (0, 4)
    assert (fused(np.zeros((2, 0)), np.zeros((4, 0)), 1) == 1).all()


def test_a_chain_too_deep_to_read():
    x, c, s, _, _, _ = variables("float64")
    deep = x
    for _ in range(3000):
        deep = T.tanh(deep) + x
    reasons = left_alone([T.exp(-s * spellings.squared(deep, c))])
    assert reasons == ["its exponent is too large to read"]


@pytest.mark.parametrize("highway", [False, True])
def test_layers_that_divide_by_exponentials(highway):
    """Multiplied out, their exponents have twice as many terms from layer to layer."""
    x, c, _, _, _, _ = variables("float64")
    layer = T.dot(x, c.T)
    for _ in range(30):
        swish = layer / (1 + T.exp(-layer))
        if highway:
            gate = T.nnet.sigmoid(T.dot(layer, c[:, :1]))
            layer = gate * T.tanh(layer) + (1 - gate) * swish
        else:
            layer = layer + swish
    assert left_alone([layer])


@pytest.mark.parametrize("exponent", [np.inf, np.nan])
def test_powers_that_are_no_numbers(exponent):
    x, c, s, v, _, _ = variables("float64")
    power = T.maximum(s**exponent, 0)
    weighted = T.sum(v**exponent * T.sqr(spellings.difference(x, c)), axis=2)
    for output in (T.exp(-power * spellings.squared(x, c)), T.exp(-weighted)):
        assert fuse_report(output).fused


def test_a_failure_of_ours_leaves_the_graph_alone(monkeypatch):
    def fail(*args):
        raise KeyError("nobody thought of this")

    monkeypatch.setattr("rbf_op.fusion.replaced.read_kernel", fail)
    x, c, s, _, _, _ = variables("float64")
    output = T.exp(-s * spellings.squared(x, c))
    fused, report = fuse(output, report=True)
    assert fused is output
    assert "reading it failed: KeyError: 'nobody thought of this'" in report[0].reason


def test_errors_name_the_argument():
    with pytest.raises(TypeError, match="outputs must be a Theano variable"):
        fuse(np.ones((2, 2)))
    with pytest.raises(TypeError, match="outputs must be"):
        fuse([T.matrix(), 3])
    with pytest.raises(TypeError, match="keep must be a Theano variable"):
        fuse(T.matrix(), keep=3)
    with pytest.raises(TypeError, match="^fuse_report: outputs must be a Theano variable"):
        fuse_report(np.ones((2, 2)))


def test_report_fits_the_terminal():
    x, c, s, v, w, r = variables("float64")
    report = fuse_report(
        [
            w * T.exp(-s * spellings.expanded(x / v, c / v)),
            spellings.NEAR_MISSES["Matern"](x, c, s, v, w, r),
        ]
    )
    text = str(report)
    assert text.startswith("1 of 2 candidates")
    assert max(map(len, text.splitlines())) <= 79


# -- the registered rewrite ------------------------------------------------------------------------


def compiled(inputs, outputs, *excluded):
    mode = theano.Mode(linker="py", optimizer="fast_run").excluding(*excluded)
    return theano.function(inputs, outputs, mode=mode)


def node_count(function):
    return sum(isinstance(n.op, RBFKernel) for n in function.maker.fgraph.apply_nodes)


needs_compiler = pytest.mark.skipif(not theano.config.cxx, reason="the rewrite needs a compiler")


@needs_compiler
def test_forward_graphs_are_rewritten_when_compiled():
    x, c, s, _, _, _ = variables("float64")
    output = T.exp(-s * spellings.expanded(x, c))
    given = values("float64")[:3]
    plain, rewritten = compiled([x, c, s], output, "rbf_fusion"), compiled([x, c, s], output)
    assert (node_count(plain), node_count(rewritten)) == (0, 1)
    np.testing.assert_allclose(rewritten(*given), plain(*given), atol=1e-12)


@needs_compiler
def test_a_distance_that_the_gradient_needs_is_not_computed_twice():
    x, c, s, _, _, _ = variables("float64")
    output = T.exp(-s * T.clip(spellings.expanded(x, c), 0, np.inf))
    gradient = theano.grad(output.sum(), x)
    assert node_count(compiled([x, c, s], [output, gradient])) == 0


@needs_compiler
def test_nested_kernels_are_rewritten_when_compiled():
    x, c, s, _, _, _ = variables("float64")
    first = T.exp(-s * spellings.expanded(x, c))
    output = T.exp(-0.5 * spellings.squared(first, first))
    function = compiled([x, c, s], output)
    assert node_count(function) == 2
    given = values("float64")[:3]
    plain = compiled([x, c, s], output, "rbf_fusion")
    np.testing.assert_allclose(function(*given), plain(*given), atol=1e-12)


EVERYTHING = dict(
    spellings.NEAR_MISSES,
    **spellings.KERNELS,
    **spellings.FIELD,
    **{name: build for name, (_, build) in spellings.SEVERAL.items()},
)


def large_nodes(fgraph):
    """How many nodes compute something for each pair, or an array that large; views are free.

    A loop counts as the many that its steps are.
    """
    count = 0
    for node in fgraph.apply_nodes:
        if isinstance(node.op, (T.DimShuffle, Subtensor)):
            continue
        if isinstance(node.op, Scan):
            count += 100
        large = [
            sum(not b for b in v.broadcastable) >= 2
            for v in node.outputs
            if isinstance(v.type, T.TensorType)
        ]
        count += any(large)
    return count


@needs_compiler
@pytest.mark.parametrize("name", sorted(EVERYTHING))
def test_the_rewrite_changes_no_type_and_adds_no_work(name):
    inputs = variables("float64")
    output = EVERYTHING[name](*inputs)
    given = theano.gof.graph.inputs([output] + inputs)
    given = [v for v in given if not isinstance(v, theano.Constant)]
    before, after = (theano.gof.FunctionGraph(given, [output]) for _ in range(2))
    for fgraph in (before, after):
        theano.gof.opt.MergeOptimizer().optimize(fgraph)
    RBFFusion().optimize(after)
    theano.gof.opt.MergeOptimizer().optimize(after)
    assert after.outputs[0].type == before.outputs[0].type
    fused = sum(isinstance(node.op, RBFKernel) for node in after.apply_nodes)
    if not fused:
        assert len(after.apply_nodes) == len(before.apply_nodes)
        return
    # The node itself is large; what it replaces is more than that. Points may be scaled, though.
    assert large_nodes(after) <= large_nodes(before)
    assert not any(
        isinstance(node.op, T.Elemwise)
        and isinstance(node.op.scalar_op, theano.scalar.Exp)
        and node.outputs[0].ndim == 3
        for node in after.apply_nodes
    )


@needs_compiler
def test_the_rewrite_leaves_what_might_overflow_as_a_factor():
    x, c, s, _, w, _ = variables("float64")
    output = T.exp(w - s * spellings.squared(x, c))
    assert len(fuse_report(output).fused) == 1
    given = [np.zeros((2, 3)), np.ones((4, 3)) * 20, 1.0, np.full(4, 800.0)]
    function = compiled([x, c, s, w], output)
    assert node_count(function) == 0
    np.testing.assert_allclose(function(*given), np.exp(800.0 - 1200.0))


@needs_compiler
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_rewrite_is_no_less_accurate(dtype):
    x, c, s, _, _, _ = variables(dtype)
    rng = np.random.RandomState(0)
    points = [(rng.randn(n, 20) + 30).astype(dtype) for n in (30, 20)]
    exact = [p.astype("longdouble") for p in points]
    expected = np.exp(-0.05 * ((exact[0][:, None] - exact[1][None]) ** 2).sum(2))
    for distance in (spellings.squared, spellings.expanded, spellings.by_norm):
        output = T.exp(-s * distance(x, c))
        errors = [
            np.abs(f(*(points + [np.asarray(0.05, dtype)])) - expected).max()
            for f in (compiled([x, c, s], output, "rbf_fusion"), compiled([x, c, s], output))
        ]
        assert errors[1] <= errors[0] + 4 * np.finfo(dtype).eps
        assert errors[1] < 20 * np.finfo(dtype).eps


@needs_compiler
def test_the_flag_turns_the_rewrite_off():
    x, c, s, _, _, _ = variables("float64")
    output = T.exp(-s * spellings.expanded(x, c))
    assert node_count(compiled([x, c, s], output, "rbf_fusion")) == 0
    # By import alone, in another process and by the flag.
    code = """
import rbf_op, theano, theano.tensor as T
x, c = T.dmatrices("xc")
kernel = T.exp(-T.sqr(x.dimshuffle(0, "x", 1) - c).sum(axis=2))
mode = theano.compile.mode.get_default_mode()
report(str(theano.function([x, c], kernel, mode=mode.clone(linker="py")).maker.fgraph))
"""
    assert "RBFKernel" in run_python(code)
    assert "RBFKernel" not in run_python(code, flags={"optimizer_excluding": "rbf_fusion"})


def test_the_same_constant_twice_around_a_gate():
    x, c = T.fmatrices("xc")
    distance = T.sum(T.sqr(x.dimshuffle(0, "x", 1) - c.dimshuffle("x", 0, 1)), axis=2)
    exponent = -2 * (-1 * (-1 * (distance * (distance > 0))))
    _, report = fuse(T.exp(exponent), report=True)
    assert len(report.fused) == 1, str(report)


# Each was wrong once: where values decide, those at which it was.
EDGES = {
    "a fast sigmoid as weights": (
        lambda x, c, w: T.log((T.nnet.ultra_fast_sigmoid(w) * distances_exp(x, c)).sum(axis=1)),
        [(6, 3), (4, 3)],
        [1.0, -3.0, -20.0, 2.0],
    ),
    "the diagonal of a product that is not square": (
        lambda x, c, w: distances_exp(x, c) * T.diag(T.dot(x, c.T))[:, None],
        [(3, 3), (5, 3)],
        [0.0] * 5,
    ),
    "weights limited from above by what is negative": (
        lambda x, c, w: T.exp(
            -T.sum(T.clip(w, 0, w[0] - 2) * T.sqr(x[:, None, :] - c[None, :, :]), axis=2)
        ),
        [(4, 3), (5, 3)],
        [1.0, 1.0, 1.0],
    ),
    "weights that are zero as integers": (
        lambda x, c, w: T.exp(
            -T.sum(
                T.sqr(x[:, None, :] - c[None, :, :]) / T.cast(T.exp(w), "int8"),
                axis=2,
            )
        ),
        [(4, 3), (5, 3)],
        [0.0, 1.0, 5.2],
    ),
    "a block that is added to": (
        lambda x, c, w: T.inc_subtensor(distances_exp(x, c)[:2, :2], 0.1),
        [(6, 3), (4, 3)],
        [0.0] * 4,
    ),
    "a row that is replaced": (
        lambda x, c, w: T.set_subtensor(distances_exp(x, c)[0], 0.0),
        [(6, 3), (4, 3)],
        [0.0] * 4,
    ),
}


def distances_exp(x, c):
    return T.exp(-spellings.squared(x, c))


@pytest.mark.parametrize("name", sorted(EDGES))
def test_edges(name):
    build, shapes, weights = EDGES[name]
    x, c, w = T.matrix("x", "float64"), T.matrix("c", "float64"), T.vector("w", "float64")
    output, rng = build(x, c, w), np.random.RandomState(5)
    given = [rng.randn(*shape) for shape in shapes] + [np.asarray(weights)]
    function = theano.function(
        [x, c, w], [output, fuse(output)], mode=MODE, on_unused_input="ignore"
    )
    np.testing.assert_allclose(*function(*given)[::-1], rtol=1e-9, atol=1e-12)
    if name in ("a block that is added to", "a row that is replaced"):
        assert fused_nodes(fuse(output))


def test_points_of_several_axes_and_no_rows():
    x, c = T.tensor3("x", "float64"), T.tensor3("c", "float64")
    pairs = x.dimshuffle(0, "x", 1, 2) - c.dimshuffle("x", 0, 1, 2)
    fused = fuse(T.exp(-T.sqr(pairs).sum(axis=(2, 3))))
    function = theano.function([x, c], fused, mode=MODE)
    assert fused_nodes(fused)
    for n, m in ((0, 3), (3, 0), (2, 3)):
        assert function(np.zeros((n, 4, 4)), np.zeros((m, 4, 4))).shape == (n, m)


def test_a_length_that_is_what_is_left():
    x, c, length = T.matrix("x", "float64"), T.matrix("c", "float64"), T.iscalar("length")
    output = T.exp(-T.reshape(spellings.squared(x, c), (length, c.shape[0])))
    function = theano.function([x, c, length], [output, fuse(output)], mode=MODE)
    given = np.random.RandomState(5).randn(6, 3), np.random.RandomState(6).randn(4, 3)
    for length in (-1, 6):
        np.testing.assert_allclose(*function(*given, length), rtol=1e-12)


def test_what_cancels_keeps_its_gradient():
    x, c, _, v, w, r = variables("float64")
    for output, cancelling in (
        (T.exp(-spellings.squared(x, c) + 0.0 * w[None, :]), w),
        (r + T.log(T.exp(-spellings.squared(x, c) - r[:, None]).sum(axis=1)), r),
    ):
        gradient = theano.grad(fuse(output).sum(), cancelling)  # which is not disconnected
        given = dict(zip((x, c, v, w, r), np.split(np.arange(5.0) / 9, 5)))
        given.update({x: np.ones((N, D)), c: np.zeros((M, D)), w: np.ones(M), r: np.ones(N)})
        function = theano.function(list(given), gradient, mode=MODE, on_unused_input="ignore")
        np.testing.assert_allclose(function(*given.values()), 0, atol=1e-12)


def test_names_of_the_users_variables_stay():
    x, c, _, _, w, _ = variables("float64")
    rows, products = theano.map(
        lambda i: [x[i], T.dot(T.exp(-T.sqr(x[i] - c).sum(axis=1)), w)], T.arange(x.shape[0])
    )[0]
    fuse_report([rows, products])
    assert x.name == "x"
