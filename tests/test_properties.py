"""Properties that hold for all inputs, searched by hypothesis: shapes, layouts, dtypes, values."""

import graphs
import layouts
import numpy as np
import oracle
import pytest
from graphs import DTYPES, MODES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.parametrize("mode", MODES)

# The compiled functions are kept between examples; what an example takes says nothing.
search = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)

sizes = st.integers(0, 40)
dtypes = st.sampled_from(DTYPES)
layout_names = st.sampled_from(sorted(layouts.LAYOUTS))


@st.composite
def problems(draw):
    """[x, y, gamma, amplitude, grad_output], each in a layout of its own, and their kinds."""
    dtype = draw(dtypes)
    vector = (draw(st.booleans()), draw(st.booleans()))
    n, m, d = draw(sizes), draw(sizes), draw(sizes)
    spread = draw(st.sampled_from([1e-3, 0.1, 1, 10]))
    values = oracle.problem(n, m, d, dtype, vector, seed=draw(st.integers(0, 999)), spread=spread)
    # Keeps gamma D away from overflow: that is test_forward's.
    values[2] = values[2] * np.asarray(draw(st.sampled_from([0, 1e-3, 0.02, 1])), dtype)
    offset = draw(st.sampled_from([0, -3, 1e4]))
    values[0], values[1] = values[0] + values[0].dtype.type(offset), values[1] + offset
    values[1] = values[1].astype(dtype)
    for index, value in enumerate(values):
        if value.ndim and min(value.shape) > 1:
            values[index] = layouts.LAYOUTS[draw(layout_names)](value)
    return dtype, vector, values


@search
@given(problem=problems())
def test_kernel_and_gradients(mode, problem):
    dtype, vector, values = problem
    result = graphs.forward(dtype, mode, vector)(*values[:4])
    oracle.assert_accurate(result, *values[:4])
    gradients = graphs.gradient(dtype, mode, vector)(*values)
    # A term exp(-gamma D) is right to (4 + 3 gamma D) eps.
    exponent = np.max(values[2] * oracle.squared_distance(*values[:2]), initial=0)
    tolerance = (20 + 3 * float(exponent)) * np.finfo(dtype).eps
    oracle.assert_gradients(gradients, values, tolerance)


@search
@given(problem=problems(), rows=st.data())
def test_rows_and_centres_are_independent(mode, problem, rows):
    """Any choice of rows and centres gives those rows and columns of K, bit for bit."""
    dtype, vector, values = problem
    x, y, gamma, amplitude, _ = values
    f = graphs.forward(dtype, mode, vector)
    whole = f(x, y, gamma, amplitude)
    if not whole.size:
        return
    i = np.array(rows.draw(st.lists(st.integers(0, len(x) - 1), max_size=20)), int)
    j = np.array(rows.draw(st.lists(st.integers(0, len(y) - 1), max_size=20)), int)
    part = f(
        x[i], y[j], gamma[j] if gamma.ndim else gamma, amplitude[j] if amplitude.ndim else amplitude
    )
    np.testing.assert_array_equal(part, whole[np.ix_(i, j)])


@search
@given(problem=problems())
def test_exchange_of_x_and_y(mode, problem):
    """K(x, y) is the transpose of K(y, x) for scalar parameters; so are their gradients."""
    dtype, _, (x, y, gamma, amplitude, grad_output) = problem
    gamma = gamma.mean(dtype=dtype) if gamma.size else gamma.sum(dtype=dtype)
    amplitude = np.asarray(-1.5, dtype)
    scalar = (False, False)
    f, g = graphs.forward(dtype, mode, scalar), graphs.gradient(dtype, mode, scalar)
    np.testing.assert_array_equal(f(x, y, gamma, amplitude), f(y, x, gamma, amplitude).T)
    one = g(x, y, gamma, amplitude, grad_output)
    other = g(y, x, gamma, amplitude, grad_output.T)
    scale = oracle.gradient_terms(x, y, gamma, amplitude, grad_output)
    exponent = float(np.max(gamma * oracle.squared_distance(x, y), initial=0))
    tolerance = 2 * (20 + 3 * exponent) * np.finfo(dtype).eps
    for a, b, s in zip(one, (other[1], other[0], other[2], other[3]), scale):
        assert np.all(np.abs(a - b) <= tolerance * s + np.finfo(dtype).tiny * (1 + len(x) + len(y)))


@search
@given(n=sizes, d=sizes, dtype=dtypes, seed=st.integers(0, 999), layout=layout_names)
def test_symmetric_is_the_case_of_y_being_x(mode, n, d, dtype, seed, layout):
    x, _, gamma, amplitude, weights = oracle.problem(n, n, d, dtype, (False, False), seed)
    if x.ndim and min(x.shape) > 1:
        x = layouts.LAYOUTS[layout](x)
    result = graphs.symmetric_forward(dtype, mode)(x, gamma, amplitude)
    np.testing.assert_array_equal(result, result.T)
    scalar = (False, False)
    general = graphs.forward(dtype, mode, scalar)(x, x, gamma, amplitude)
    np.testing.assert_array_equal(result, general)
    oracle.assert_gradients(
        graphs.symmetric_gradient(dtype, mode)(x, gamma, amplitude, weights),
        [x, x, gamma, amplitude, weights],
        60 * np.finfo(dtype).eps,
        names=("x", "gamma", "amplitude"),
    )
