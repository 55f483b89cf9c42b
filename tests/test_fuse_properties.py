"""Random spellings from a grammar: equal forms are fused, and whatever is fused stays equal.

Two grammars. One writes exp(-gamma D) in random equivalent ways, which must become one node. The
other writes exponents at random, near kernels and far from them, where all that is asked is that
fuse changes no value. Touches rbf_op, Theano and spellings.py.
"""

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rbf_op.fusion import fuse  # isort: skip  (mends Theano before its import)

import spellings
import theano
import theano.tensor as T

from rbf_op.fusion.values import nodes_of
from rbf_op.ops import RBFKernel

MODE = theano.Mode(linker="py", optimizer=None)
FEW = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

# Loops and the like compile slowly; they have tests of their own.
DISTANCES = [
    f
    for f in spellings.DISTANCES
    if f.__name__ not in ("mapped", "scanned_indices", "nested_scans", "scanned_columns")
]


def variables(dtype):
    x, c = T.matrix("x", dtype), T.matrix("c", dtype)
    return [x, c, T.scalar("s", dtype)] + [T.vector(name, dtype) for name in "vwr"]


def values(dtype, n, m, d, seed):
    rng = np.random.RandomState(seed)
    shapes = [(n, d), (m, d), (), (d,), (m,), (n,)]
    return [
        np.asarray(rng.rand(*shape) + 0.5 if k > 1 else rng.randn(*shape), dtype)
        for k, shape in enumerate(shapes)
    ]


def count(output):
    return sum(isinstance(node.op, RBFKernel) for node in nodes_of([output]))


# -- equivalent forms ------------------------------------------------------------------------------

# What keeps a squared distance what it is.
NEUTRAL = [
    lambda d2: d2,
    lambda d2: T.maximum(d2, 0),
    lambda d2: T.clip(d2, 0, np.inf),
    lambda d2: T.nnet.relu(d2),
    lambda d2: T.switch(d2 > 0, d2, 0),
    lambda d2: d2 * (d2 > 0),
    lambda d2: -(-d2 * (d2 > 0)),
    lambda d2: T.sqrt(T.maximum(d2, 0)) ** 2,
    lambda d2: T.sqr(T.sqrt(abs(d2))),
    lambda d2: abs(d2),
    lambda d2: d2.T.T,
    lambda d2: d2.dimshuffle(0, "x", 1)[:, 0],
    lambda d2: d2.reshape((d2.shape[0], d2.shape[1])),
    lambda d2: (d2 + 1) - 1,
    lambda d2: 3 * d2 - 2 * d2,
    lambda d2: -1 * (-1 * d2),
    lambda d2: d2.dimshuffle(0, 1, "x").sum(axis=2),
]

# Inverse squared widths: (expression, whether a value a column).
GAMMAS = [
    lambda s, w: s,
    lambda s, w: 0.5 / s**2,
    lambda s, w: 1 / (2 * T.sqr(s)),
    lambda s, w: T.exp(-s),
    lambda s, w: T.nnet.softplus(s),
    lambda s, w: s * s + 0.1,
    lambda s, w: 0.7,
    lambda s, w: w,
    lambda s, w: (0.5 * w**-2).dimshuffle("x", 0),
    lambda s, w: s / w,
]

AMPLITUDES = [
    lambda k, s, w: k,
    lambda k, s, w: s**2 * k,
    lambda k, s, w: k / 2 * w**2,
    lambda k, s, w: k / (w + s),
    lambda k, s, w: -3 * k,
    lambda k, s, w: (w.dimshuffle("x", 0) * k) * 0.5,
]


def exponentials(d2, gamma):
    return [
        lambda: T.exp(-gamma * d2),
        lambda: T.exp(-(d2 * gamma)),
        lambda: T.exp(d2 * (-gamma)),
        lambda: T.exp((0 - d2) * gamma),
        lambda: 1 / T.exp(gamma * d2),
        lambda: T.exp(-d2 * gamma / 2) ** 2,
        lambda: T.sqrt(T.exp(-2 * gamma * d2)),
        lambda: T.exp(-0.3 * gamma * d2) * T.exp(-0.7 * gamma * d2),
    ]


@st.composite
def equivalent(draw):
    dtype = draw(st.sampled_from(["float32", "float64"]))
    inputs = x, c, s, v, w, r = variables(dtype)
    scale = draw(st.sampled_from([lambda p: p, lambda p: p / v, lambda p: p * T.exp(v) + 1]))
    d2 = draw(st.sampled_from(DISTANCES))(scale(x), scale(c))
    for wrap in draw(st.lists(st.sampled_from(NEUTRAL), max_size=2)):
        d2 = wrap(d2)
    gamma = draw(st.sampled_from(GAMMAS))(s, w)
    kernel = exponentials(d2, gamma)[draw(st.integers(0, 7))]()
    output = draw(st.sampled_from(AMPLITUDES))(kernel, s, w)
    if draw(st.booleans()):
        output = output.T
    sizes = [draw(st.integers(1, 6)), draw(st.integers(1, 6)), 3]
    return inputs, output, values(dtype, *(sizes + [draw(st.integers(0, 99))])), dtype


@given(equivalent())
@FEW
def test_equivalent_forms_become_one_node(case):
    inputs, output, given_values, dtype = case
    fused, report = fuse(output, report=True)
    assert count(fused) == 1, str(report)
    assert fused.type == output.type
    assert fuse(fused) is fused
    results = theano.function(inputs, [output, fused], mode=MODE, on_unused_input="ignore")(
        *given_values
    )
    expected, got = results
    assert expected.shape == got.shape
    tolerance = 2e-4 if "32" in (dtype + output.dtype) else 1e-10
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * max(1, abs(expected).max()))


# -- any exponent ----------------------------------------------------------------------------------


@st.composite
def terms(draw, inputs):
    """A matrix (n, m), or what broadcasts with one, of the kind that exponents are made of."""
    x, c, s, v, w, r = inputs
    shifted = [x, x, -x, x + 1, x / v, 2 * x, T.sqr(x)], [c, c, c - 1, c / v, -c, 0.5 * c]
    a, b = (draw(st.sampled_from(side)) for side in shifted)
    pairs = a.dimshuffle(0, "x", 1) - b.dimshuffle("x", 0, 1)
    return draw(
        st.sampled_from(
            [
                (a**2).sum(axis=1).dimshuffle(0, "x"),
                (b**2).sum(axis=1).dimshuffle("x", 0),
                T.dot(a, b.T),
                (pairs**2).sum(axis=2),
                (pairs**2).mean(axis=2),
                (pairs * pairs * v).sum(axis=2),
                abs(pairs).sum(axis=2),
                (pairs.dimshuffle(0, 1, 2) + 2 * b.dimshuffle("x", 0, 1)).sum(axis=2) ** 2,
                r.dimshuffle(0, "x") ** 2,
                w.dimshuffle("x", 0) ** 2,
                T.outer(r, w),
                T.log(w).dimshuffle("x", 0),
                (r.dimshuffle(0, "x") - w) ** 2,
            ]
        )
    )


@st.composite
def almost_distances(draw, inputs):
    """|a|^2 + |b|^2 - 2 a.b, or something like it."""
    x, c, s, v, w, r = inputs
    rows = st.sampled_from([x] * 4 + [2 * x, x / v])
    columns = st.sampled_from([c] * 4 + [c + 1, c / v])
    coefficients = draw(st.sampled_from([(-1, -1, 2)] * 4 + [(-1, -1, 1), (1, -1, 2), (-4, -1, 4)]))
    width = draw(st.sampled_from([1, s, w, r.dimshuffle(0, "x"), 1 / (2 * s**2)]))
    return width * (
        coefficients[0] * (draw(rows) ** 2).sum(axis=1).dimshuffle(0, "x")
        + coefficients[1] * (draw(columns) ** 2).sum(axis=1).dimshuffle("x", 0)
        + coefficients[2] * T.dot(draw(rows), draw(columns).T)
    )


@st.composite
def exponents(draw):
    inputs = x, c, s, v, w, r = variables("float64")
    coefficients = st.sampled_from([-2, -1, -1, -0.5, 1, 1, 2, s, -s, 1 / s])
    if draw(st.integers(0, 2)):
        total = -draw(almost_distances(inputs))
        extra = [0, 0, T.log(w), -(r.dimshuffle(0, "x") ** 2), T.log(s)]
        total = total + draw(st.sampled_from(extra))
    else:
        total = 0
        for _ in range(draw(st.integers(1, 4))):
            total = total + draw(coefficients) * draw(terms(inputs))
    if not draw(st.integers(0, 2)):
        limits = NEUTRAL[:5] + [T.tanh, T.sqr, lambda t: T.clip(t, 0.1, 2)]
        total = draw(st.sampled_from(limits))(total)
    total = draw(st.sampled_from([-1, -1, -0.5, -s, 1])) * total
    kernel = T.exp(total if draw(st.integers(0, 2)) else T.clip(total, -2, 0.5))
    factor = draw(st.sampled_from([1, w, r.dimshuffle(0, "x"), s, T.outer(r, w)]))
    return inputs, kernel * factor


@given(exponents(), st.integers(0, 99))
@settings(FEW, max_examples=150)
def test_what_is_fused_stays_equal(case, seed):
    inputs, output = case
    fused = fuse(output)
    if fused is output:
        return
    assert fused.type == output.type
    expected, got = theano.function(inputs, [output, fused], mode=MODE, on_unused_input="ignore")(
        *values("float64", 4, 3, 2, seed)
    )
    finite = np.isfinite(expected)
    np.testing.assert_allclose(got[finite], expected[finite], rtol=1e-8, atol=1e-10)


# -- sums of kernels -------------------------------------------------------------------------------

# Of a matrix k, linear or not, to a scalar or a vector of columns.
OF_KERNELS = [
    lambda k, s, w, r: k.mean(),
    lambda k, s, w, r: s * (T.outer(r, w) * k).sum(),
    lambda k, s, w, r: T.sum(k, axis=0).mean() / s,
    lambda k, s, w, r: -(k * w).sum() / k.shape[0],
    lambda k, s, w, r: (k * k.mean()).sum(),
    lambda k, s, w, r: T.sqr(k).sum(),
]


@st.composite
def sums_of_kernels(draw):
    inputs = x, c, s, v, w, r = variables("float64")
    points = draw(st.lists(st.sampled_from([(x, c), (x, x), (c, c)]), min_size=1, max_size=2))
    shared = [draw(st.sampled_from(DISTANCES[:4]))(a, b) for a, b in points]
    function = draw(st.sampled_from(OF_KERNELS + [lambda k, s, w, r: k] * 2))
    others = draw(st.sampled_from([[function], [function], OF_KERNELS]))
    if draw(st.booleans()):
        others = [lambda k, s, w, r: T.sum(function(k, s, w, r))]
    total = 0
    for _ in range(draw(st.integers(2, 4))):
        d2 = draw(st.sampled_from(shared))
        gamma = draw(st.sampled_from([s, 2 * s, 0.7, 1 / s, s]))
        kernel = draw(st.sampled_from([1, 1, -0.5, s, s * s])) * T.exp(-gamma * d2)
        kernel = draw(st.sampled_from(others))(kernel, s, w, r)
        total = total + kernel if draw(st.booleans()) else total - kernel
    return inputs, total + draw(st.sampled_from([0, 1, s]))


@given(sums_of_kernels(), st.integers(0, 99))
@FEW
def test_sums_of_kernels_stay_equal(case, seed):
    inputs, output = case
    fused = fuse(output)
    if fused is output:
        return
    assert fused.type == output.type
    outputs = []
    for f in (output, fused):
        outputs += [f] + T.grad(f.sum(), inputs[:3], disconnected_inputs="ignore")
    results = theano.function(inputs, outputs, mode=MODE, on_unused_input="ignore")(
        *values("float64", 3, 3, 2, seed)
    )  # n = m, so that matrices of different points can be added up
    for expected, got in zip(results[:4], results[4:]):
        np.testing.assert_allclose(got, expected, rtol=1e-8, atol=1e-10)


@given(st.lists(st.sampled_from([-2, -1, 1, 2, 3, -0.5]), min_size=3, max_size=3))
@FEW
def test_only_the_right_coefficients_make_a_distance(coefficients):
    x, c, s, v, w, r = variables("float64")
    rows, columns, products = coefficients
    output = T.exp(
        rows * (x**2).sum(axis=1).dimshuffle(0, "x")
        + columns * (c**2).sum(axis=1).dimshuffle("x", 0)
        + products * T.dot(x, c.T)
    )
    # a|x|^2 + b|c|^2 + p x.c = -|sqrt(-a) x - sqrt(-b) c|^2 if p is positive and p^2 = 4ab.
    is_kernel = rows < 0 and columns < 0 and products > 0 and products**2 == 4 * rows * columns
    assert (fuse(output) is not output) == is_kernel
