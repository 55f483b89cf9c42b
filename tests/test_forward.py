"""Values of K: every parametrisation, layout, size and special number, to the last digits.

Expected values come from long double (oracle.py) or, where NaN and infinity are concerned, from
NumPy. Shapes have n, m and d all different, so that no mix-up of them passes.
"""

import graphs
import layouts
import numpy as np
import oracle
import pytest
import theano
import theano.tensor as T
from graphs import DTYPES, MODES, needs_compiler

from rbf_op import rbf_dot, rbf_kernel, reference

pytestmark = pytest.mark.usefixtures("only_our_c_code")

# Edges of the register tile: 4 or 8 rows, 2 vectors of 2 to 16 numbers.
ROWS = [1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 23, 33]
CENTRES = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 63, 64, 65, 130]
COLUMNS = [1, 2, 3, 5, 16, 33]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", COLUMNS)
def test_sizes_round_the_tile(dtype, mode, columns):
    f = graphs.forward(dtype, mode)
    for rows in ROWS:
        for centres in CENTRES:
            inputs = oracle.problem(rows, centres, columns, dtype)[:4]
            oracle.assert_accurate(f(*inputs), *inputs)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("vector", [(False, False), (False, True), (True, False)])
def test_scalar_parameters(dtype, mode, vector):
    f = graphs.forward(dtype, mode, vector)
    for sizes in [(5, 3, 2), (1, 1, 1), (40, 37, 21), (9, 130, 3)]:
        inputs = oracle.problem(*sizes, dtype=dtype, vector=vector)[:4]
        oracle.assert_accurate(f(*inputs), *inputs)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "n, m, d", [(0, 5, 3), (4, 0, 3), (0, 0, 3), (0, 5, 0), (4, 0, 0), (0, 0, 0)]
)
def test_empty(dtype, mode, n, m, d):
    f = graphs.forward(dtype, mode)
    result = f(*oracle.problem(n, m, d, dtype)[:4])
    assert result.shape == (n, m) and result.dtype == dtype


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_no_columns_means_no_distance(dtype, mode):
    inputs = oracle.problem(37, 21, 0, dtype)[:4]
    expected = np.broadcast_to(inputs[3], (37, 21))
    np.testing.assert_array_equal(graphs.forward(dtype, mode)(*inputs), expected)


# -- layouts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("argument", [0, 1, 2, 3], ids=oracle.INPUT_NAMES)
@pytest.mark.parametrize("layout", layouts.LAYOUTS)
def test_layouts(layout, argument, dtype, mode):
    """The same bits as from C-contiguous arrays, whatever the strides."""
    f = graphs.forward(dtype, mode)
    for sizes in [(11, 37, 6), (40, 3, 18)]:
        inputs = oracle.problem(*sizes, dtype=dtype)[:4]
        inputs[argument] = layouts.LAYOUTS[layout](inputs[argument])
        before = [a.copy() for a in inputs]
        result = f(*inputs)
        assert result.flags.c_contiguous and result.flags.writeable
        oracle.assert_accurate(result, *inputs)
        np.testing.assert_array_equal(result, f(*[np.array(a, order="C") for a in inputs]))
        for a, b in zip(inputs, before):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", layouts.KEEPING)
def test_layouts_of_one_row_or_column(layout, dtype, mode):
    """Strides of dimensions of length one mean nothing and may be anything."""
    f = graphs.forward(dtype, mode)
    inputs = oracle.problem(12, 9, 4, dtype)[:4]
    x, y, gamma, amplitude = [layouts.KEEPING[layout](a) for a in inputs]
    for rows, centres, columns in [
        (slice(1, 2), slice(None), slice(None)),
        (slice(None), slice(4, 5), slice(None)),
        (slice(None), slice(None), slice(2, 3)),
        (slice(3, 4), slice(6, 7), slice(0, 1)),
    ]:
        part = [x[rows, columns], y[centres, columns], gamma[centres], amplitude[centres]]
        oracle.assert_accurate(f(*part), *part)


@pytest.mark.parametrize("mode", MODES)
def test_overlapping_arguments(mode):
    """y a view of x, and both the transposes of a larger array."""
    f = graphs.forward("float64", mode)
    data = oracle.problem(20, 1, 30)[0]
    x, y = data.T[:17], data.T[5:18][::-1]
    assert np.shares_memory(x, y)
    inputs = [x, y] + oracle.problem(1, 13, 1)[2:4]
    oracle.assert_accurate(f(*inputs), *inputs)


# -- accuracy ----------------------------------------------------------------------------------


@oracle.needs_long_double
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", [1, 3, 10, 50, 100, 784, 1500])
def test_accuracy(dtype, mode, columns):
    """(4 + gamma D) eps for gamma D up to 10 or so, three times the second term to the far end."""
    f = graphs.forward(dtype, mode)
    x, y, gamma, amplitude, _ = oracle.problem(120, 140, columns, dtype)
    for scale in [1e-3, 0.1, 1, 10, 60]:
        inputs = [x, y, gamma * np.asarray(scale, dtype), amplitude]
        # The C code keeps the whole product gamma * D, NumPy rounds it to the dtype.
        near = scale <= 1 and mode != "py"
        oracle.assert_accurate(f(*inputs), *inputs, distance_error=1 if near else 3)


@oracle.needs_long_double
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_accuracy_over_the_whole_range_of_exp(dtype, mode):
    """One column, so that D is almost exact: from the largest number down to the smallest."""
    info = np.finfo(dtype)
    lowest = np.log(float(np.nextafter(info.dtype.type(0), info.dtype.type(1))))
    exponents = np.linspace(lowest * 1.05, np.log(float(info.max)) - 1e-3, 20011)
    f = graphs.forward(dtype, mode, (False, False))
    one = np.asarray(1, dtype)
    for sign in (1, -1):
        x = np.sqrt(np.maximum(sign * -exponents, 0)).astype(dtype)[:, None]
        inputs = [x, np.zeros((1, 1), dtype), one * sign, one]
        oracle.assert_accurate(f(*inputs), *inputs)
        oracle.assert_accurate(f(inputs[1], x, one * sign, one), inputs[1], x, one * sign, one)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_far_from_the_origin(dtype, mode):
    """At 1e6 float32 has steps of 0.06: their differences are still exact, their norms are not."""
    f = graphs.forward(dtype, mode)
    x, y, gamma, amplitude, _ = oracle.problem(43, 71, 12, dtype, spread=2)
    offset = np.asarray(1e6, dtype)
    inputs = [x + offset, y + offset, gamma / np.asarray(50, dtype), amplitude]
    result = f(*inputs)
    assert np.median(np.abs(result)) > 1e-3
    oracle.assert_accurate(result, *inputs)


# -- special numbers ---------------------------------------------------------------------------

INF, NAN = np.inf, np.nan


def _tiny(dtype):
    return float(np.nextafter(np.dtype(dtype).type(0), np.dtype(dtype).type(1)))


# name: (value of x[i, k], value of y[j, k], gamma[j], amplitude[j]); None leaves it alone.
SPECIAL = {
    "NaN in x": (NAN, None, None, None),
    "NaN in y": (None, NAN, None, None),
    "NaN gamma": (None, None, NAN, None),
    "NaN amplitude": (None, None, None, NAN),
    "inf in x": (INF, None, None, None),
    "-inf in y": (None, -INF, None, None),
    "inf in both": (INF, INF, None, None),
    "opposite inf": (INF, -INF, None, None),
    "inf in x, gamma 0": (INF, None, 0, None),
    "inf in x, gamma negative": (INF, None, -1, None),
    "gamma 0": (None, None, 0, None),
    "gamma -0": (None, None, -0.0, None),
    "gamma inf": (None, None, INF, None),
    "gamma -inf": (None, None, -INF, None),
    "gamma negative": (None, None, -0.7, None),
    "gamma huge": (None, None, "max", None),
    "gamma denormal": (None, None, "tiny", None),
    "overflow of D": ("max", None, None, None),
    "overflow of D, gamma 0": ("max", None, 0, None),
    "overflow of exp": (30, None, -2, None),
    "overflow made up for by a small amplitude": (30, None, -2, "tiny"),
    "underflow": (30, None, 2, None),
    "underflow, amplitude huge": (30, None, 2, "max"),
    "underflow, amplitude inf": (30, None, 2, INF),
    "denormal in x": ("tiny", "-tiny", None, None),
    "amplitude 0": (None, None, None, 0),
    "amplitude -0": (None, None, None, -0.0),
    "amplitude 0, K overflows": (30, None, -2, 0),
    "amplitude inf": (None, None, None, INF),
    "amplitude negative": (None, None, None, -3),
    "amplitude huge": (None, None, None, "max"),
    "amplitude denormal": (None, None, None, "tiny"),
    "signed zeros": (-0.0, 0.0, None, None),
}


def _number(value, dtype):
    names = {"max": float(np.finfo(dtype).max), "tiny": _tiny(dtype), "-tiny": -_tiny(dtype)}
    return names.get(value, value)


def assert_as_numpy(result, inputs):
    """NaN, infinities and signs exactly as NumPy's; finite numbers within the accuracy bound.

    NumPy's own rounding may decide whether a number just overflows or vanishes, so where one side
    is within a few digits of the edge the other may be over it.
    """
    expected = reference.rbf_kernel(*inputs)
    np.testing.assert_array_equal(np.isnan(result), np.isnan(expected))
    infinite = np.isinf(result) | np.isinf(expected)
    np.testing.assert_array_equal(result[infinite], expected[infinite])
    np.testing.assert_array_equal(
        np.signbit(result[~np.isnan(result)]), np.signbit(expected[~np.isnan(expected)])
    )
    finite = np.isfinite(expected)
    info = np.finfo(result.dtype)
    with np.errstate(all="ignore"):
        exponent = np.abs(inputs[2]) * reference.squared_distance(*inputs[:2])
        steps = np.minimum(np.nan_to_num(exponent, nan=0), 1e6)
        allowed = 2 * (4 + steps) * info.eps * np.abs(expected)
        allowed = allowed + 2 * _tiny(info.dtype) * (1 + np.abs(inputs[3]))
    assert (np.abs(result - expected)[finite] <= allowed[finite]).all()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SPECIAL)
def test_special_numbers(name, dtype, mode):
    """One special number in a row or centre, in whole tiles and in the part tiles at the edges."""
    f = graphs.forward(dtype, mode)
    in_x, in_y, gamma_value, amplitude_value = (_number(v, dtype) for v in SPECIAL[name])
    for row, centre in [(0, 0), (3, 21), (16, 38), (8, 32)]:
        x, y, gamma, amplitude = oracle.problem(17, 39, 5, dtype)[:4]
        for array, index, value in [
            (x, (row, 2), in_x),
            (y, (centre, 2), in_y),
            (gamma, centre, gamma_value),
            (amplitude, centre, amplitude_value),
        ]:
            if value is not None:
                array[index] = value
        assert_as_numpy(f(x, y, gamma, amplitude), [x, y, gamma, amplitude])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [n for n in SPECIAL if SPECIAL[n][1] is None])
def test_special_numbers_symmetric(name, dtype, mode):
    """y = x: NaN and infinity spread as they do with y given, on the diagonal as well."""
    f = graphs.symmetric_forward(dtype, mode)
    in_x, _, gamma_value, amplitude_value = (_number(v, dtype) for v in SPECIAL[name])
    for row in (0, 16, 36):
        x, _, gamma, amplitude, _ = oracle.problem(37, 1, 5, dtype, (False, False))
        if in_x is not None:
            x[row, 2] = in_x
        gamma = gamma if gamma_value is None else np.asarray(gamma_value, dtype)
        amplitude = amplitude if amplitude_value is None else np.asarray(amplitude_value, dtype)
        assert_as_numpy(f(x, gamma, amplitude), [x, x, gamma, amplitude])


# -- symmetric ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", [0, 1, 4, 50])
def test_symmetric(dtype, mode, columns):
    f = graphs.symmetric_forward(dtype, mode)
    for n in [0, 1, 2, 5, 8, 9, 16, 17, 31, 32, 33, 64, 65, 100, 259]:
        x, _, gamma, amplitude, _ = oracle.problem(n, 1, columns, dtype, (False, False))
        result = f(x, gamma, amplitude)
        oracle.assert_accurate(result, x, x, gamma, amplitude)
        np.testing.assert_array_equal(result, result.T)
        np.testing.assert_array_equal(np.diag(result), np.full(n, amplitude))


def test_x_twice_is_symmetric():
    """As scikit-learn's users write it; a vector of widths makes K asymmetric."""
    x, widths = T.dmatrix(), T.dvector()
    points = np.random.RandomState(0).randn(20, 3)
    assert rbf_kernel(x, x, gamma=0.5).owner.op.symmetric
    assert rbf_kernel(points, points, lengthscale=2.0).owner.op.symmetric
    assert not rbf_kernel(x, x, gamma=widths).owner.op.symmetric
    assert not rbf_kernel(x, T.dmatrix(), gamma=0.5).owner.op.symmetric
    one, two = rbf_kernel(x, x, gamma=0.5), rbf_kernel(x, x + 0, gamma=0.5)
    np.testing.assert_array_equal(*theano.function([x], [one, two])(points))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", layouts.LAYOUTS)
def test_symmetric_layouts(layout, dtype, mode):
    f = graphs.symmetric_forward(dtype, mode)
    x, _, gamma, amplitude, _ = oracle.problem(45, 1, 7, dtype, (False, False))
    x = layouts.LAYOUTS[layout](x)
    result = f(x, gamma, amplitude)
    oracle.assert_accurate(result, x, x, gamma, amplitude)
    np.testing.assert_array_equal(result, f(np.array(x, order="C"), gamma, amplitude))


# -- outputs larger than the caches --------------------------------------------------------------

# c_code/streaming.h streams outputs from 24e6 bytes on where rows are aligned (the first), and from
# 96e6 bytes on, if not sooner, where they are not.
LARGE = {"float32": (2528, 4903), "float64": (1824, 3467)}


@needs_compiler
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_large_outputs_have_the_bits_of_small_ones(dtype, aligned):
    """Streamed past the caches or not, straight from registers or not."""
    f = graphs.forward(dtype, "cvm")
    m = LARGE[dtype][0 if aligned else 1]
    x, y, gamma, amplitude, _ = oracle.problem(m + 3, m, 5, dtype)
    large = f(x, y, gamma, amplitude)
    assert large.nbytes >= (24e6 if aligned else 96e6)
    for first in range(0, m + 3, 700):
        np.testing.assert_array_equal(
            large[first : first + 700], f(x[first : first + 700], y, gamma, amplitude)
        )


@needs_compiler
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n, columns", [(200, 6), (None, 2), (None, 6), (None, 20)])
def test_symmetric_has_the_bits_of_the_general_form(dtype, aligned, n, columns):
    n = n or LARGE[dtype][0 if aligned else 1]
    n += 0 if aligned else 1
    x, _, gamma, amplitude, _ = oracle.problem(n, 1, columns, dtype, (False, False))
    np.testing.assert_array_equal(
        graphs.symmetric_forward(dtype, "cvm")(x, gamma, amplitude),
        graphs.forward(dtype, "cvm", (False, False))(x, x.copy(), gamma, amplitude),
    )


# -- parametrisations --------------------------------------------------------------------------

N, M, D = 6, 5, 3


def _parametrisations(dtype):
    """name -> (keyword arguments of rbf_kernel, does it use y, gamma, amplitude, divisor of x)."""
    random = np.random.RandomState(5)

    def values(*shape):
        return np.asarray(random.uniform(0.6, 1.8, shape), dtype)

    scalar, per_centre, per_row, per_column = values(), values(M), values(N), values(D)
    one = np.asarray(1, dtype)
    return {
        "no width": ({}, True, 1 / oracle.LONG(D), one, one),
        "gamma": (dict(gamma=scalar), True, scalar, one, one),
        "gamma vector": (dict(gamma=per_centre), True, per_centre, one, one),
        "sigma": (dict(sigma=scalar), True, 0.5 / oracle.LONG(scalar) ** 2, one, one),
        "sigma vector": (
            dict(sigma=per_centre), True, 0.5 / per_centre.astype(oracle.LONG) ** 2, one, one,
        ),
        "lengthscale": (dict(lengthscale=scalar), True, one / 2, one, scalar),
        "lengthscale vector": (dict(lengthscale=per_column), True, one / 2, one, per_column),
        "amplitude": (dict(gamma=scalar, amplitude=scalar), True, scalar, scalar, one),
        "amplitude vector": (
            dict(gamma=scalar, amplitude=per_centre), True, scalar, per_centre, one,
        ),
        "all vectors": (
            dict(gamma=per_centre, amplitude=per_centre), True, per_centre, per_centre, one,
        ),
        "symmetric": (dict(gamma=scalar), False, scalar, one, one),
        "symmetric sigma": (dict(sigma=scalar), False, 0.5 / oracle.LONG(scalar) ** 2, one, one),
        "symmetric lengthscale": (
            dict(lengthscale=per_column, amplitude=scalar), False, one / 2, scalar, per_column,
        ),
        "symmetric gamma vector": (dict(gamma=per_row), False, per_row, one, one),
        "Python numbers": (dict(gamma=0.5, amplitude=2), True, one / 2, 2 * one, one),
    }  # fmt: skip


@pytest.fixture(scope="module", params=DTYPES)
def parametrised(request):
    """(dtype, {mode: {name: K}}): every parametrisation, all computed in one graph.

    Half of the arguments are symbolic, half constants: "symbolic" and "constant" are two entries.
    """
    dtype = request.param
    x_value, y_value = oracle.problem(N, M, D, dtype)[:2]
    x, y = graphs.variables(dtype)[:2]
    outputs, symbolic_inputs, symbolic_values = {}, [x, y], [x_value, y_value]
    for name, (keywords, uses_y, _, _, _) in _parametrisations(dtype).items():
        outputs[name, "constant"] = rbf_kernel(x, y if uses_y else None, **keywords)
        symbolic = {}
        for keyword, value in keywords.items():
            if isinstance(value, np.ndarray):
                symbolic[keyword] = T.TensorType(dtype, (False,) * value.ndim)(keyword)
                symbolic_inputs.append(symbolic[keyword])
                symbolic_values.append(value)
        outputs[name, "symbolic"] = rbf_kernel(
            x, y if uses_y else None, **dict(keywords, **symbolic)
        )
    results = {}

    def compute(mode):
        if mode not in results:
            f = theano.function(
                symbolic_inputs, list(outputs.values()), mode=graphs.theano_mode(mode)
            )
            results[mode] = dict(zip(outputs, f(*symbolic_values)))
        return results[mode]

    return dtype, x_value, y_value, compute


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["constant", "symbolic"])
@pytest.mark.parametrize("name", _parametrisations("float64"))
def test_parametrisations(parametrised, name, kind, mode):
    dtype, x, y, compute = parametrised
    _, uses_y, gamma, amplitude, divisor = _parametrisations(dtype)[name]
    result = compute(mode)[name, kind]
    assert result.dtype == dtype
    divisor = np.asarray(divisor, oracle.LONG)
    x, y = x / divisor, (y if uses_y else x) / divisor
    # Beyond the node's own rounding: that of 1 / (2 sigma**2) and of the division of x and y.
    expected = oracle.kernel(x, y, gamma, amplitude)
    np.testing.assert_allclose(
        result.astype(oracle.LONG), expected, rtol=40 * np.finfo(dtype).eps, atol=0
    )


@pytest.mark.parametrize("mode", MODES)
def test_arrays_lists_and_integers(mode):
    """Anything as_tensor_variable takes; integers become float64, mixed floats float64."""
    exact = oracle.kernel([[1, 2, 4]], [[1, 0, 2], [3, 2, 1]], 0.25, 1)
    x, y = np.array([[1, 2, 4]]), np.array([[1, 0, 2], [3, 2, 1]])
    cases = {
        "float64": [(x, y), (x.tolist(), y.tolist()), (x.astype("float32"), y.astype("float64"))],
        "float32": [
            (x.astype("float32"), y.astype("float32")),
            (x.astype("float32"), y.astype("int8")),
        ],
    }
    outputs = [rbf_kernel(*case, gamma=0.25) for cases_ in cases.values() for case in cases_]
    results = theano.function([], outputs, mode=graphs.theano_mode(mode))()
    dtypes = [dtype for dtype, cases_ in cases.items() for _ in cases_]
    for result, dtype in zip(results, dtypes):
        assert result.dtype == dtype
        np.testing.assert_allclose(result, exact.astype("float64"), rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("sigma", [np.int8(12), np.uint8(16), np.int32(50000)])
def test_integers_are_cast_before_they_are_squared(sigma):
    x = np.random.RandomState(0).randn(4, 3) * 10 * float(sigma)
    y = x[:2] + float(sigma)
    exact = oracle.kernel(x, y, 0.5 / float(sigma) ** 2, 1).astype("float64")
    for form in (T.constant(sigma), np.array([sigma] * 2)):
        value = rbf_kernel(x, y, sigma=form)
        np.testing.assert_allclose(value.eval(), exact, rtol=1e-12)
    weights, amplitude = np.full((2, 1), 100, "int8"), np.full(2, 100, "int8")
    product = rbf_dot(x, y, weights, sigma=float(sigma), amplitude=amplitude)
    np.testing.assert_allclose(product.eval()[:, 0], 1e4 * exact.sum(axis=1), rtol=1e-12)


def test_gradients_have_the_dtypes_of_their_variables():
    """As in Theano's own arithmetic: an update of a float32 variable stays one."""
    x, narrow, gamma = T.dmatrix("x"), T.fmatrix("narrow"), T.fscalar("gamma")
    for output in (rbf_kernel(x, narrow, gamma), rbf_dot(x, x, narrow, gamma)):
        gradients = T.grad(output.sum(), [x, narrow, gamma], disconnected_inputs="ignore")
        assert [g.dtype for g in gradients] == ["float64", "float32", "float32"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_scalars_take_the_dtype_of_the_arrays(dtype):
    x = T.TensorType(dtype, (False, False))("x")
    for value in (2, 0.5, np.float64(0.5), np.int64(2), np.float32(0.5)):
        assert rbf_kernel(x, gamma=value).dtype == dtype
        assert rbf_kernel(x, x, sigma=value, amplitude=value).dtype == dtype
        assert rbf_kernel(x, lengthscale=value).dtype == dtype


@pytest.mark.parametrize("mode", MODES)
def test_shared_variables_and_weights_of_a_layer(mode):
    """The layer exp(-||W.T[j] - x[i]||^2) / 2 * S[j]^2 with W (d, m) shared: W.T costs nothing."""
    x_value, y_value, _, s_value, _ = oracle.problem(7, 4, 3)
    weights, scales = theano.shared(y_value.T.copy()), theano.shared(s_value)
    x = T.dmatrix("x")
    f = theano.function(
        [x],
        rbf_kernel(x, weights.T, gamma=1, amplitude=T.sqr(scales) / 2),
        mode=graphs.theano_mode(mode),
    )
    assert len(graphs.kernel_nodes(f)) == 1
    exact = oracle.kernel(x_value, y_value, 1, s_value.astype(oracle.LONG) ** 2 / 2)
    np.testing.assert_allclose(f(x_value), exact.astype("float64"), rtol=1e-14)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_default_width_of_no_columns(dtype, mode):
    """gamma = 1 / d has no value at d = 0; K is 1 there whatever it were."""
    x, y = graphs.variables(dtype)[:2]
    f = theano.function([x, y], rbf_kernel(x, y), mode=graphs.theano_mode(mode))
    result = f(np.zeros((3, 0), dtype), np.zeros((2, 0), dtype))
    np.testing.assert_array_equal(result, np.ones((3, 2), dtype))
