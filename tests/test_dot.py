"""The matrix-free product rbf_dot: values, gradients of every order, layouts, errors, memory.

As the tests of rbf_kernel, with the same layouts and the same oracle: the product of the long
double kernel with the weights. Peak memory and threads are measured in processes of their own.
"""

import functools
import sys

import graphs
import layouts
import numpy as np
import oracle
import pytest
import theano
import theano.tensor as T
from graphs import (
    ALL_MODES,
    DTYPES,
    LARGE_GRAPH_MODES,
    MODES,
    needs_compiler,
)
from processes import run_python
from theano.gradient import verify_grad

from rbf_op import ops, rbf_dot, rbf_kernel, reference
from rbf_op.ops import RBFDot, RBFDotGrad

pytestmark = pytest.mark.usefixtures("only_our_c_code")

INPUT_NAMES = ("x", "y", "gamma", "weights")

# Relative to the absolute values of the terms of a sum.
TOLERANCE = {dtype: 20 * np.finfo(dtype).eps for dtype in DTYPES}

# Lanes run over the centres for p below a vector's length (4 to 16), over the weights from there.
WIDTHS = [0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 33, 40, 300]


# -- what is compared --------------------------------------------------------------------------


def variables(dtype, vector=True):
    """Symbolic x, y, gamma, weights and grad_output."""
    matrix = T.TensorType(dtype, (False, False))
    gamma = T.TensorType(dtype, (False,) * vector)
    return [matrix("x"), matrix("y"), gamma("gamma"), matrix("weights"), matrix("grad_output")]


@functools.lru_cache(maxsize=None)
def forward(dtype, mode, vector=True):
    """f(x, y, gamma, weights) -> P."""
    inputs = variables(dtype, vector)[:4]
    return theano.function(inputs, RBFDot()(*inputs), mode=graphs.theano_mode(mode))


@functools.lru_cache(maxsize=None)
def gradient(dtype, mode, vector=True):
    """f(x, y, gamma, weights, grad_output) -> [dx, dy, dgamma, dweights]."""
    inputs = variables(dtype, vector)
    return theano.function(inputs, RBFDotGrad()(*inputs), mode=graphs.theano_mode(mode))


def problem(n, m, d, p, dtype="float64", vector=True, seed=0):
    """x (n, d), y (m, d), gamma, weights (m, p), grad_output (n, p), gamma * D near 1."""
    x, y, gamma, _, _ = oracle.problem(n, m, d, dtype, (vector, False), seed)
    random = np.random.RandomState(seed + n + 100 * m + 10000 * p)
    weights, grad_output = (
        random.uniform(0.5, 2, (rows, p)) * random.choice([-1, 1], (rows, p)) for rows in (m, n)
    )
    return [x, y, gamma, weights.astype(dtype), grad_output.astype(dtype)]


def exact_product(x, y, gamma, weights):
    return oracle.kernel(x, y, gamma, 1) @ np.asarray(weights, oracle.LONG)


def exact_gradients(x, y, gamma, weights, grad_output, of_kernel=oracle.gradients):
    """The four gradients: those of the kernel for G = H W^T, and E^T H."""
    weights, grad_output = np.asarray(weights, oracle.LONG), np.asarray(grad_output, oracle.LONG)
    dx, dy, dgamma, _ = of_kernel(x, y, gamma, np.float64(1), grad_output @ weights.T)
    return [dx, dy, dgamma, oracle.kernel(x, y, gamma, 1).T @ grad_output]


def check_product(result, values, factor=1):
    x, y, gamma, weights = values
    exact = exact_product(*values)
    assert result.dtype == x.dtype and result.shape == exact.shape and result.flags.c_contiguous
    scale = exact_product(x, y, gamma, np.abs(weights))
    allowed = factor * TOLERANCE[str(x.dtype)] * scale + np.finfo(x.dtype).tiny * len(y)
    error = np.abs(np.asarray(result, oracle.LONG) - exact)
    assert np.all(error <= allowed), "%.2f times" % np.nanmax(error / allowed)


def check_gradients(results, values, factor=1):
    x, y, gamma, weights, grad_output = values
    exact = exact_gradients(*values)
    scales = exact_gradients(
        x, y, gamma, np.abs(weights), np.abs(grad_output), oracle.gradient_terms
    )
    lost = len(x) * len(y) * (1 + weights.shape[1]) * np.finfo(x.dtype).tiny
    assert len(results) == len(exact)
    for name, result, value, expected, scale in zip(INPUT_NAMES, results, values, exact, scales):
        assert result.dtype == x.dtype and result.shape == value.shape, name
        allowed = factor * TOLERANCE[str(x.dtype)] * scale + lost
        error = np.abs(np.asarray(result, oracle.LONG) - expected)
        assert np.all(error <= allowed), "d%s: %.2f times" % (name, np.nanmax(error / allowed))


# -- values ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("p", WIDTHS)
def test_sizes_round_the_tile(p, dtype, mode):
    f, g = forward(dtype, mode), gradient(dtype, mode)
    for n in [1, 4, 5, 9, 17, 65]:
        for m in [1, 7, 16, 33, 130]:
            for d in [1, 3, 17]:
                values = problem(n, m, d, p, dtype)
                check_product(f(*values[:4]), values[:4])
                check_gradients(g(*values), values)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("p", [1, 3, 40])
def test_several_blocks(p, dtype, mode):
    """More rows and columns than one task takes; few rows, where the columns are divided."""
    for n, m, d in [(300, 1100, 4), (3, 5000, 10), (1500, 9, 33), (70, 700, 200)]:
        values = problem(n, m, d, p, dtype)
        check_product(forward(dtype, mode)(*values[:4]), values[:4])
        check_gradients(gradient(dtype, mode)(*values), values, factor=2)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_scalar_gamma(dtype, mode):
    for sizes in [(5, 3, 2, 1), (1, 1, 1, 1), (40, 37, 21, 17), (9, 130, 3, 2), (7, 6, 0, 3)]:
        values = problem(*sizes, dtype=dtype, vector=False)
        check_product(forward(dtype, mode, False)(*values[:4]), values[:4])
        check_gradients(gradient(dtype, mode, False)(*values), values, factor=4)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n, m, d", [(0, 5, 3), (4, 0, 3), (0, 0, 2), (4, 5, 0), (0, 0, 0)])
@pytest.mark.parametrize("p", [0, 1, 17])
def test_empty(p, n, m, d, dtype, mode):
    """Sums over nothing are zero, not what was in the memory before."""
    values = problem(n, m, d, p, dtype)
    check_product(forward(dtype, mode)(*values[:4]), values[:4])
    check_gradients(gradient(dtype, mode)(*values), values)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("argument", range(5), ids=INPUT_NAMES + ("grad_output",))
@pytest.mark.parametrize("layout", layouts.LAYOUTS)
def test_layouts(layout, argument, dtype, mode):
    """The same bits as from C-contiguous arrays, whatever the strides."""
    f, g = forward(dtype, mode), gradient(dtype, mode)
    for p in (3, 18):
        values = problem(11, 37, 6, p, dtype)
        values[argument] = layouts.LAYOUTS[layout](values[argument])
        before = [a.copy() for a in values]
        contiguous = [np.array(a, order="C") for a in values]
        product, gradients = f(*values[:4]), g(*values)
        check_product(product, values[:4])
        check_gradients(gradients, values)
        for result, same in zip([product] + gradients, [f(*contiguous[:4])] + g(*contiguous)):
            assert result.flags.c_contiguous and result.flags.writeable
            np.testing.assert_array_equal(result, same)
        for a, b in zip(values, before):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_far_from_the_origin(dtype, mode):
    values = problem(43, 71, 12, 5, dtype)
    values[0], values[1] = values[0] * 7 + 10**6, values[1] * 7 + 10**6
    values[:3] = [a.astype(dtype) for a in (values[0], values[1], values[2] / 50)]
    check_product(forward(dtype, mode)(*values[:4]), values[:4], factor=3)
    check_gradients(gradient(dtype, mode)(*values), values, factor=3)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("p", [2, 19])
def test_coincident_rows(p, dtype, mode):
    """Where a row of x meets a centre, K is 1 and the gradients of x, y and gamma are 0."""
    values = problem(9, 33, 7, p, dtype)
    values[0][:], values[1][:] = values[0][0], values[0][0]
    dx, dy, dgamma, dweights = gradient(dtype, mode)(*values)
    for result in (dx, dy, dgamma):
        np.testing.assert_array_equal(result, np.zeros_like(result))
    check_product(forward(dtype, mode)(*values[:4]), values[:4])
    for row in dweights:
        np.testing.assert_allclose(row, values[4].sum(axis=0), rtol=1e-4)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
    "argument, index",
    [(0, (3, 1)), (1, (21, 1)), (2, 21), (3, (21, 1)), (4, (3, 1))],
    ids=INPUT_NAMES + ("grad_output",),
)
def test_special_numbers(argument, index, value, dtype, mode):
    """NaN and infinity reach the same entries as in NumPy, and no others."""
    for p in (3, 18):
        values = problem(17, 39, 5, p, dtype)
        values[argument][index] = value
        results = [forward(dtype, mode)(*values[:4])] + gradient(dtype, mode)(*values)
        expected = [reference.rbf_dot(*values[:4])] + list(reference.rbf_dot_grad(*values))
        for result, same in zip(results, expected):
            np.testing.assert_array_equal(np.isnan(result), np.isnan(same))
            infinite = np.isinf(result) | np.isinf(same)
            np.testing.assert_array_equal(result[infinite], same[infinite])
            finite = np.isfinite(same)
            scale = np.max(np.abs(same[finite]), initial=0)
            error = np.max(np.abs(result - same)[finite], initial=0)
            assert error <= 4 * TOLERANCE[dtype] * scale


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_infinite_weight_does_not_meet_the_padding(dtype, mode):
    """Numbers of rows that fill their last tile, and that do not."""
    for n in range(1, 18):
        values = problem(n, 39, 5, 3, dtype)
        values[3], values[4] = np.abs(values[3]), np.abs(values[4])
        values[3][21, 1] = np.inf
        dgamma = gradient(dtype, mode)(*values)[2]
        assert dgamma[21] == -np.inf and np.isfinite(np.delete(dgamma, 21)).all(), n


@needs_compiler
@oracle.needs_long_double
@pytest.mark.parametrize("p", [1, 20])
def test_sums_of_a_million_float32_terms(p):
    """Relative error below 1e-6 in C. dweights, a sum over the rows, has a little more."""
    x, y, gamma, weights, grad_output = problem(3, 10**6, 2, p, "float32", vector=False)
    values = [x, y, gamma, np.abs(weights), np.abs(grad_output)]
    exact = exact_product(*values[:4])
    result = forward("float32", "cvm", False)(*values[:4])
    assert np.max(np.abs(result / exact - 1)) < 1e-6
    # All terms of dgamma are negative, all of dweights positive; for a sum over a million rows x
    # and y, weights and grad_output change roles.
    f = gradient("float32", "cvm", False)
    inner = values[4].astype(oracle.LONG) @ values[3].astype(oracle.LONG).T
    terms = inner * oracle.squared_distance(x, y) * oracle.kernel(x, y, gamma, 1)
    assert abs(f(*values)[2] / -terms.sum() - 1) < 1e-6
    dweights = f(y, x, gamma, values[4], values[3])[3]
    assert np.max(np.abs(dweights / exact - 1)) < 4e-6


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
def test_half_is_computed_where_y_is_x(dtype):
    """As of a copy of x, which takes the way of any y; NaN and infinity reach the same entries."""
    f = forward(dtype, "cvm", False)
    for n, d, p in [(520, 2, 1), (1101, 5, 3), (2050, 40, 4), (777, 100, 17)]:
        x, _, gamma, _, weights = problem(n, 1, d, p, dtype, vector=False)
        halved, whole = (f(x, y, gamma, weights) for y in (x, x.copy()))
        scale = f(x, x.copy(), gamma, np.abs(weights))
        assert np.all(np.abs(halved - whole) <= TOLERANCE[dtype] * scale)
        assert not np.array_equal(halved, whole)  # else the other way was never taken
        for strided in (np.asfortranarray(x), np.repeat(x, 2, axis=1)[:, ::2]):
            np.testing.assert_array_equal(f(strided, strided, gamma, weights), halved)
        for value in (np.nan, np.inf):
            for broken in (x, weights):
                broken[n // 2], kept = value, broken[n // 2].copy()
                halved, whole = (f(x, y, gamma, weights) for y in (x, x.copy()))
                np.testing.assert_array_equal(np.isnan(halved), np.isnan(whole))
                infinite = np.isinf(whole)
                np.testing.assert_array_equal(halved[infinite], whole[infinite])
                broken[n // 2] = kept


@pytest.mark.parametrize("parameter", ["gamma", "sigma", "lengthscale", "amplitude", None])
def test_numbers_have_the_dtype_of_wider_weights(parameter):
    values = problem(5, 4, 3, 2)
    points, weights = [v.astype("float32") for v in values[:2]], values[3]
    given = {parameter: 0.7} if parameter else {}
    results = []
    for dtype in DTYPES:  # of the variables; the values of the points are the same
        x, y = (T.TensorType(dtype, (False, False))() for _ in range(2))
        w = T.dmatrix()
        f = theano.function([x, y, w], rbf_dot(x, y, w, **given), mode=graphs.theano_mode("py"))
        results.append(f(*points, weights))
    np.testing.assert_allclose(*results, rtol=1e-14)


# -- rbf_dot, the function users call ----------------------------------------------------------

N, M, D, P = 6, 5, 3, 4


def _parametrisations(dtype):
    """name -> (keyword arguments of rbf_dot and rbf_kernel, is y given)."""
    random = np.random.RandomState(5)

    def values(*shape):
        return np.asarray(random.uniform(0.6, 1.8, shape), dtype)

    return {
        "no width": ({}, True),
        "gamma": (dict(gamma=values()), True),
        "gamma vector": (dict(gamma=values(M)), True),
        "sigma": (dict(sigma=values()), True),
        "sigma vector": (dict(sigma=values(M)), True),
        "lengthscale": (dict(lengthscale=values()), True),
        "lengthscale vector": (dict(lengthscale=values(D)), True),
        "amplitude": (dict(gamma=values(), amplitude=values()), True),
        "amplitude vector": (dict(gamma=values(), amplitude=values(M)), True),
        "all vectors": (dict(gamma=values(M), amplitude=values(M)), True),
        "y None": (dict(gamma=values()), False),
        "y None, lengthscale": (dict(lengthscale=values(D), amplitude=values()), False),
        "y None, all vectors": (dict(gamma=values(N), amplitude=values(N)), False),
        "Python numbers": (dict(gamma=0.5, amplitude=2), True),
    }


@pytest.fixture(scope="module", params=DTYPES)
def parametrised(request):
    """{name: [K, P, p] + gradients of P + gradients of K for the same cost}, in NumPy.

    In C each combination of types and gradients would be a module of its own, half a minute in all.
    """
    dtype = request.param
    x_value, y_value, _, w_value, _ = problem(N, M, D, P, dtype)
    h_value = problem(N, N, D, P, dtype)[4]
    x, y, _, w, h = variables(dtype)
    inputs, values, outputs = [x, y, w, h], [x_value, y_value, w_value, h_value], {}
    for name, (keywords, uses_y) in _parametrisations(dtype).items():
        keywords = dict(keywords)
        for keyword, value in keywords.items():
            if isinstance(value, np.ndarray):
                keywords[keyword] = T.TensorType(dtype, (False,) * value.ndim)(keyword)
                inputs.append(keywords[keyword])
                values.append(value)
        second = y if uses_y else None
        # Without y, weights need a row per row of x: grad_output has that shape too.
        weights = w if uses_y else h
        k = rbf_kernel(x, second, **keywords)
        product = rbf_dot(x, second, weights, **keywords)
        wrt = [x] + [v for v in keywords.values() if isinstance(v, T.TensorVariable)]
        wrt += [y] if uses_y else []
        gradients = T.grad(None, wrt, known_grads={product: h})
        through_k = T.grad(None, wrt, known_grads={k: T.dot(h, weights.T)}, consider_constant=[h])
        outputs[name] = [k, product, rbf_dot(x, second, weights[:, 1], **keywords)]
        outputs[name] += gradients + through_k
    f = theano.function(
        inputs,
        [o for group in outputs.values() for o in group],
        mode=graphs.theano_mode("py").excluding("rbf_dot"),
    )
    results = iter(f(*values))
    return dtype, w_value, h_value, {n: [next(results) for _ in g] for n, g in outputs.items()}


@pytest.mark.parametrize("name", _parametrisations("float64"))
def test_parametrisations(parametrised, name):
    """rbf_dot(...) is rbf_kernel(...) times weights, a matrix or a vector; gradients as well."""
    dtype, w, h, results = parametrised
    k, product, vector, *gradients = results[name]
    weights = w if _parametrisations(dtype)[name][1] else h
    assert product.dtype == vector.dtype == dtype
    exact = k.astype(oracle.LONG) @ weights
    allowed = TOLERANCE[dtype] * (np.abs(k) @ np.abs(weights))
    assert np.all(np.abs(product - exact) <= allowed)
    assert vector.shape == (N,) and np.all(np.abs(vector - exact[:, 1]) <= allowed[:, 1])
    half = len(gradients) // 2
    for gradient, through_k in zip(gradients[:half], gradients[half:]):
        scale = np.max(np.abs(through_k))
        assert scale > 0.01
        assert np.max(np.abs(gradient - through_k)) <= 5 * TOLERANCE[dtype] * scale


@pytest.mark.parametrize("dtype", DTYPES)
def test_types(dtype):
    x, y, gamma, w, _ = variables(dtype)
    assert rbf_dot(x, y, w, gamma).type == T.TensorType(dtype, (False, False))
    assert rbf_dot(x, y, w[:, 0], 0.3).type == T.TensorType(dtype, (False,))
    assert rbf_dot(x, y, np.ones((3, 2), "int8"), 0.3, amplitude=2).dtype == dtype
    row = T.TensorType(dtype, (True, False))("row")
    column = T.TensorType(dtype, (False, True))("column")
    assert rbf_dot(row, y, column).broadcastable == (True, True)
    assert rbf_dot(row, y, w).broadcastable == (True, False)


# -- gradients through Theano ------------------------------------------------------------------

VERIFIED = {
    "gamma": (lambda x, y, w, a, v: rbf_dot(x, y, v, w, amplitude=a), (), ()),
    "gamma vector": (lambda x, y, w, a, v: rbf_dot(x, y, v, w, amplitude=a), (3,), (3,)),
    "sigma": (lambda x, y, w, a, v: rbf_dot(x, y, v, sigma=w, amplitude=a), (3,), ()),
    "lengthscale": (
        lambda x, y, w, a, v: rbf_dot(x, y, v, lengthscale=w, amplitude=a), (2,), (3,),
    ),
    "vector of weights": (lambda x, y, w, a, v: rbf_dot(x, y, v[:, 0], w, amplitude=a), (), (3,)),
    "y None": (lambda x, y, w, a, v: rbf_dot(y, None, v, w, amplitude=a) + x.sum(), (), ()),
}  # fmt: skip


# Each combination of types is a C module of its own, so one of them has to do.
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "name, mode",
    [(name, "py") for name in VERIFIED]
    + [pytest.param("gamma vector", "cvm", marks=needs_compiler)],
)
def test_verify_grad(name, mode, dtype):
    """All inputs at once, against finite differences."""
    function, width, amplitude = VERIFIED[name]
    x, y, _, v, _ = problem(4, 3, 2, 5, dtype)
    random = np.random.RandomState(3)
    points = [x, y] + [np.asarray(random.uniform(0.6, 1.5, s), dtype) for s in (width, amplitude)]
    tolerance = {"float32": 1e-2, "float64": 1e-6}[dtype]
    verify_grad(
        function,
        points + [v],
        n_tests=1,
        rng=np.random.RandomState(4),
        abs_tol=tolerance,
        rel_tol=tolerance,
        mode=graphs.theano_mode(mode),
        cast_to_output_type=True,
    )


SUBSETS = [
    tuple(name for bit, name in enumerate(INPUT_NAMES) if number >> bit & 1)
    for number in range(1, 16)
]


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_subset_of_gradients_in_c(dtype):
    """The same bits whichever gradients are asked for: leaving one out changes no other."""
    inputs = variables(dtype)
    outputs = [g for s in SUBSETS for g in RBFDotGrad(s)(*inputs, return_list=True)]
    # One C module for all of them.
    f = theano.function(inputs, outputs, mode=theano.Mode(linker="c", optimizer=None))
    for n, m, d, p in [(9, 37, 6, 2), (70, 33, 3, 20), (1, 1, 1, 1)]:
        values = problem(n, m, d, p, dtype)
        results = iter(f(*values))
        by_subset = {subset: [next(results) for _ in subset] for subset in SUBSETS}
        check_gradients(by_subset[INPUT_NAMES], values)
        for subset, gradients in by_subset.items():
            for name, gradient in zip(subset, gradients):
                whole = by_subset[INPUT_NAMES][INPUT_NAMES.index(name)]
                np.testing.assert_array_equal(gradient, whole)


@pytest.fixture(scope="module")
def higher_orders():
    """compute(mode, arguments) -> {what: value}: forward rules and second derivatives.

    (i,): change of P as input i moves; "all": as all move. (i, j): gradient by j of <gradient by i,
    direction i>, j = 4 being grad_output. ("R", j): change of the gradient by j as all move.
    """
    inputs = variables("float64")
    grad_output = inputs.pop()
    directions = [v.type("d" + v.name) for v in inputs]
    product = RBFDot()(*inputs)
    outputs = {(i,): T.Rop(product, inputs[i], directions[i]) for i in range(4)}
    outputs["all"] = T.Rop(product, inputs, directions)
    gradients = T.grad((product * grad_output).sum(), inputs)
    for i in range(4):
        second = T.grad((gradients[i] * directions[i]).sum(), inputs + [grad_output])
        outputs.update({(i, j): s for j, s in enumerate(second)})
    moved = RBFDotGrad()(*(inputs + [grad_output]))
    for j, change in enumerate(T.Rop(moved, inputs, directions)):
        outputs["R", j] = change
    functions, results = {}, {}

    def compute(mode, arguments, key):
        if mode not in functions:
            functions[mode] = theano.function(
                inputs + directions + [grad_output],
                list(outputs.values()),
                mode=graphs.theano_mode(mode),
            )
            ours = {type(n.op) for n in functions[mode].maker.fgraph.toposort()}
            assert ops.RBFKernel not in ours and ops.RBFKernelGrad not in ours
        if (mode, key) not in results:
            results[mode, key] = dict(zip(outputs, functions[mode](*arguments)))
        return results[mode, key]

    return compute


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("offset", [0, 1e5])
def test_forward_rule_and_second_order(higher_orders, offset, mode):
    """Against finite differences in long double; <H, Rop(v)> = <Lop(H), v>; no node forms K."""
    values = problem(5, 4, 3, 2)
    grad_output = values.pop()
    directions = [np.random.RandomState(8).uniform(-1, 1, a.shape) for a in values]
    moved = [values[0] + offset, values[1] + offset] + values[2:]
    results = higher_orders(mode, moved + directions + [grad_output], offset)

    def close(key, expected):
        scale = np.max(np.abs(expected))
        assert results[key].shape == expected.shape
        if key == (3, 3):  # P is linear in the weights
            assert scale < 1e-9 and np.all(results[key] == 0)
        else:
            assert scale > 0.05 and np.max(np.abs(results[key] - expected)) <= 1e-9 * scale, key

    def gradients(*inputs):
        return exact_gradients(*(inputs + (grad_output,)))

    reverse = sum((g * v).sum() for g, v in zip(gradients(*values), directions))
    assert abs((results["all"] * grad_output).sum() - reverse) <= 1e-10 * abs(reverse)
    close("all", oracle.directional(exact_product, values, directions))
    for j, expected in enumerate(oracle.directional(gradients, values, directions)):
        close(("R", j), expected)
    for i in range(4):
        used = [v if k == i else np.zeros_like(v) for k, v in enumerate(directions)]
        change = oracle.directional(exact_product, values, used)
        close((i,), change)
        for j, expected in enumerate(oracle.directional(gradients, values, used) + [change]):
            close((i, j), expected)


# -- the contract with Theano ------------------------------------------------------------------


@pytest.mark.parametrize("mode", LARGE_GRAPH_MODES + ALL_MODES[-1:])
def test_both_dtypes_in_one_graph(mode):
    """Every linker; under linker="c" all is one C module. DebugMode tries recycled outputs."""
    inputs, outputs = [], []
    for dtype in DTYPES:
        more = variables(dtype)
        product = RBFDot()(*more[:4])
        inputs += more
        outputs += [product] + T.grad(None, more[:4], known_grads={product: more[4]})
    f = theano.function(inputs, outputs, mode=graphs.theano_mode(mode))
    for _ in range(2):
        for n, m, d, p in [(9, 7, 3, 2), (7, 9, 2, 18)]:
            single, double = (problem(n, m, d, p, dtype) for dtype in DTYPES)
            results = f(*(single + double))
            for values, part in ((single, results[:5]), (double, results[5:])):
                check_product(part[0], values[:4])
                check_gradients(part[1:], values)


@needs_compiler
def test_recycled_outputs():
    """A node may be given any array of the right type to write into, of any shape and layout."""
    inputs = variables("float64")
    outputs = [RBFDot()(*inputs[:4])] + RBFDotGrad()(*inputs)
    f = theano.function(
        inputs,
        [theano.Out(o, borrow=True) for o in outputs],
        mode=graphs.theano_mode("vm"),
    )
    f.fn.allow_gc = False
    for sizes in [(5, 7, 3, 2), (5, 7, 3, 2), (7, 5, 3, 9), (40, 33, 9, 1), (0, 4, 3, 2)]:
        values = problem(*sizes)
        product, *gradients = f(*values)
        check_product(product, values[:4])
        check_gradients(gradients, values)


@needs_compiler
def test_the_c_code_is_what_runs(monkeypatch):
    def perform(*args):
        raise AssertionError("the NumPy path ran")

    monkeypatch.setattr(RBFDot, "perform", perform)
    monkeypatch.setattr(RBFDotGrad, "perform", perform)
    values = problem(4, 3, 2, 2)
    for mode in ("vm", "cvm", "c|py"):
        inputs = variables("float64")
        f = theano.function(
            inputs,
            [RBFDot()(*inputs[:4])] + RBFDotGrad()(*inputs),
            mode=graphs.theano_mode(mode),
        )
        check_product(f(*values)[0], values[:4])


def test_shape_graph_does_without_the_node():
    inputs = variables("float64")
    outputs = [RBFDot()(*inputs[:4])] + RBFDotGrad()(*inputs)
    f = theano.function(inputs, [o.shape for o in outputs], mode=graphs.theano_mode("py"))
    assert not any(
        type(n.op).__module__.startswith(ops.__name__) for n in f.maker.fgraph.toposort()
    )
    shapes = [tuple(s) for s in f(*problem(5, 4, 3, 2))]
    assert shapes == [(5, 2), (5, 3), (4, 3), (4,), (4, 2)]


@needs_compiler
def test_same_bits_from_any_number_of_threads():
    code = """
import hashlib, graphs, numpy as np, test_dot
digests = []
for dtype in graphs.DTYPES:
    f, g = test_dot.forward(dtype, "cvm"), test_dot.gradient(dtype, "cvm")
    for sizes in [(30, 20, 10, 1), (7, 9000, 5, 3), (9000, 7, 5, 17), (257, 1290, 33, 2),
                  (1025, 630, 20, 40), (100, 90, 700, 1), (1, 60000, 3, 1), (60000, 1, 3, 1)]:
        values = test_dot.problem(*sizes, dtype=dtype)
        results = [f(*values[:4])] + g(*values)
        if sizes[0] == 1025:  # half, where y is x
            x, _, _, _, weights = test_dot.problem(1025, 1, 20, 3, dtype=dtype)
            gamma = np.asarray(0.1, dtype)
            results.append(test_dot.forward(dtype, "cvm", False)(x, x, gamma, weights))
        for result in results:
            digests.append(hashlib.sha256(result.tobytes()).hexdigest())
report(digests)
"""
    one, *others = [
        run_python(code, environment={"OMP_NUM_THREADS": str(number)}) for number in (1, 2, 5)
    ]
    assert len(set(one)) == len(one) == 82
    for other in others:
        assert other == one


# -- memory ------------------------------------------------------------------------------------

MEMORY = """
import numpy as np
from rbf_op import rbf_dot
from rbf_op.usage import PeakMemory
import theano, theano.tensor as T

n, d = int(sys.argv[2]), 10
x, y = T.fmatrices("x", "y")
w, h = T.fvectors("w", "h")
product = rbf_dot(x, y, w, gamma=0.1)
inputs, outputs = [x, y, w, h], [product]
if sys.argv[1] == "gradient":
    outputs += T.grad(None, [x, y, w], known_grads={product: h})
f = theano.function(inputs, outputs, on_unused_input="ignore")
random = np.random.RandomState(0)
def values(n):
    shapes = [(n, d), (n, d), (n,), (n,)]
    return [random.uniform(-1, 1, shape).astype("float32") for shape in shapes]
f(*values(600))  # starts the threads, loads what is loaded late
arguments = values(n)
with PeakMemory() as memory:
    results = f(*arguments)
assert all(np.isfinite(r).all() and r.any() for r in results)
report([memory.bytes, sum(r.nbytes for r in results)])
"""


@needs_compiler
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc/self/status")
@pytest.mark.parametrize("what, n", [("product", 100000), ("gradient", 15000)])
def test_peak_memory(what, n):
    """Below 100 MB over the inputs at n = m = 100 000, d = 10, p = 1, where K would take 40 GB.

    All that is stored is proportional to n + m: fewer points will do for the slower gradient.
    """
    peak, results = run_python(MEMORY, what, n)
    assert peak < 1000 * n, "%.1f MB" % (peak / 1e6)
    assert peak > results / 2  # it sees what there is to see


# -- errors ------------------------------------------------------------------------------------

X, Y, W = T.dmatrices("x", "y", "w")
A, B = np.zeros((4, 3)), np.zeros((5, 3))

# What is wrong: (exception, words that the message must hold, how to get it).
WHEN_BUILT = {
    "weights of three dimensions": (
        TypeError, ["rbf_dot: weights must be a matrix (m, p) or a vector (m,)", "3 dim"],
        lambda: rbf_dot(X, Y, T.dtensor3()),
    ),
    "weights a number": (TypeError, ["weights must be", "0 dim"], lambda: rbf_dot(X, Y, 2.0)),
    "weights float16": (
        TypeError, ["rbf_dot: weights has dtype float16", "cast"],
        lambda: rbf_dot(X, Y, np.ones((3, 2), "float16")),
    ),
    "weights complex": (
        TypeError, ["weights has dtype complex128"], lambda: rbf_dot(X, Y, T.zmatrix()),
    ),
    "weights no array": (
        TypeError, ["weights cannot be made"], lambda: rbf_dot(X, Y, object()),
    ),
    "x a vector": (
        TypeError, ["rbf_dot: x must be a matrix", "dimshuffle"],
        lambda: rbf_dot(T.dvector(), Y, W),
    ),
    "two widths": (
        TypeError, ["rbf_dot", "gamma and sigma"], lambda: rbf_dot(X, Y, W, 1, sigma=2),
    ),
    "gamma negative": (ValueError, ["rbf_dot: gamma must be >= 0"], lambda: rbf_dot(X, Y, W, -1)),
    "constants of other d": (
        ValueError, ["rbf_dot: x and y", "(4, 3)", "(3, 4)"], lambda: rbf_dot(A, A.T, W),
    ),
    "constant gamma": (
        ValueError, ["rbf_dot: gamma must", "gamma has shape (4,)", "(5, 3)"],
        lambda: rbf_dot(A, B, W, np.ones(4)),
    ),
    "Op, number of inputs": (
        TypeError, ["RBFDot takes the inputs x, y, gamma, weights", "got 2"],
        lambda: RBFDot()(X, Y),
    ),
    "Op, vector weights": (
        TypeError, ["RBFDot: weights must have 2 dim"],
        lambda: RBFDot()(X, Y, 1.0, T.dvector()),
    ),
    "gradient Op, vector gradient": (
        TypeError, ["RBFDotGrad: grad_output must have 2"],
        lambda: RBFDotGrad()(X, Y, 1.0, W, T.dvector()),
    ),
    "gradient Op, unknown name": (
        ValueError, ["RBFDotGrad: wrt", "amplitude"], lambda: RBFDotGrad(wrt=("amplitude",)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WHEN_BUILT)
def test_errors_when_the_graph_is_built(name):
    exception, words, build = WHEN_BUILT[name]
    with pytest.raises(exception) as caught:
        build()
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


# Shapes that do not fit, and what the message must name.
WHEN_RUN = {
    "d": (["x and y", "(4, 3)", "(5, 2)", "W.T"], dict(y=(5, 2))),
    "d of 1 does not stretch": (["x and y", "(4, 1)", "(5, 3)"], dict(x=(4, 1))),
    "gamma": (["gamma", "(4,)", "(5, 3)"], dict(gamma=(4,))),
    "gamma of 1 does not stretch": (["gamma", "(1,)", "(5, 3)"], dict(gamma=(1,))),
    "weights": (["weights", "(4, 2)", "(5, 3)"], dict(weights=(4, 2))),
    "weights of one row": (["weights", "(1, 2)", "(5, 3)"], dict(weights=(1, 2))),
    "weights of no rows": (["weights", "(0, 2)", "(5, 3)"], dict(weights=(0, 2))),
}
GRADIENT_WHEN_RUN = {
    "transposed": (["gradient of the output", "(4, 2)", "(2, 4)"], dict(grad_output=(2, 4))),
    "one row": (["gradient of the output", "(4, 2)", "(1, 2)"], dict(grad_output=(1, 2))),
    "one column": (["gradient of the output", "(4, 2)", "(4, 1)"], dict(grad_output=(4, 1))),
}


@pytest.mark.parametrize("name", list(WHEN_RUN) + list(GRADIENT_WHEN_RUN))
def test_errors_when_the_function_is_called(name):
    """ValueError that names both shapes, in the same words from C and from NumPy."""
    words, shapes = dict(WHEN_RUN, **GRADIENT_WHEN_RUN)[name]
    default = dict(x=(4, 3), y=(5, 3), gamma=(5,), weights=(5, 2), grad_output=(4, 2))
    arrays = [np.ones(shape) for shape in dict(default, **shapes).values()]
    values, messages = problem(4, 3, 2, 2), set()
    for mode in ("py", "cvm") if theano.config.cxx else ("py",):
        functions = [(gradient("float64", mode), 5)]
        functions += [(forward("float64", mode), 4)] if name in WHEN_RUN else []
        for f, count in functions:
            with pytest.raises(ValueError) as caught:
                f(*arrays[:count])
            # Theano appends the node, its inputs and hints below.
            messages.add(str(caught.value).split("\n")[0])
            assert np.all(np.isfinite(f(*values[:count])[0]))  # the function is not spoilt
    (message,) = messages
    for word in words + ["rbf_dot"]:
        assert word in message
