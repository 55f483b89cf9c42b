"""The NumPy oracle of the package against plain loops in long double, and the tests' own oracle.

rbf_op.reference is what runs without a compiler; tests/oracle.py is what everything else here is
compared with. Both are checked against the definition, written out as loops. No Theano.
"""

import itertools

import numpy as np
import oracle
import pytest

from rbf_op import reference

DTYPES = ["float32", "float64"]
VECTORS = list(itertools.product([False, True], repeat=2))


def looped(x, y, gamma, amplitude, grad_output):
    """K and its four gradients from the definition, one number at a time, in long double."""
    n, m, d = len(x), len(y), x.shape[1]
    x, y, grad_output = (np.asarray(a, oracle.LONG) for a in (x, y, grad_output))
    g = np.broadcast_to(np.asarray(gamma, oracle.LONG), m)
    a = np.broadcast_to(np.asarray(amplitude, oracle.LONG), m)
    k = np.zeros((n, m), oracle.LONG)
    dx, dy = np.zeros((n, d), oracle.LONG), np.zeros((m, d), oracle.LONG)
    dg, da = np.zeros(m, oracle.LONG), np.zeros(m, oracle.LONG)
    for i in range(n):
        for j in range(m):
            distance = sum(((x[i, c] - y[j, c]) ** 2 for c in range(d)), oracle.LONG(0))
            unit = np.exp(-g[j] * distance)
            k[i, j] = a[j] * unit
            da[j] += grad_output[i, j] * unit
            dg[j] += grad_output[i, j] * a[j] * -distance * unit
            for c in range(d):
                change = grad_output[i, j] * a[j] * unit * -g[j] * 2 * (x[i, c] - y[j, c])
                dx[i, c] += change
                dy[j, c] -= change
    dg = dg if np.ndim(gamma) else dg.sum()
    da = da if np.ndim(amplitude) else da.sum()
    return k, [dx, dy, dg, da]


@pytest.mark.parametrize("vector", VECTORS)
@pytest.mark.parametrize("n, m, d", [(7, 5, 3), (1, 4, 2), (4, 1, 1), (3, 2, 0), (0, 3, 2)])
def test_oracle_is_the_definition(n, m, d, vector):
    values = oracle.problem(n, m, d, vector=vector)
    k, gradients = looped(*values)
    tolerance = 100 * np.finfo(oracle.LONG).eps
    np.testing.assert_allclose(oracle.kernel(*values[:4]), k, rtol=tolerance, atol=0)
    for result, expected, terms in zip(
        oracle.gradients(*values), gradients, oracle.gradient_terms(*values)
    ):
        assert result.shape == np.shape(expected)
        assert np.all(np.abs(result - expected) <= tolerance * terms)


def test_oracle_gradients_are_those_of_the_oracle_kernel():
    """Finite differences know nothing of the formulas."""
    *inputs, grad_output = oracle.problem(4, 3, 2)
    gradients = oracle.gradients(*(inputs + [grad_output]))
    random = np.random.RandomState(0)
    for index in range(4):
        directions = [random.randn(*a.shape) * (i == index) for i, a in enumerate(inputs)]
        change = oracle.directional(oracle.kernel, inputs, directions)
        expected = (gradients[index] * directions[index]).sum()
        assert abs((grad_output * change).sum() - expected) <= 1e-10 * abs(expected)


@oracle.needs_long_double
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("vector", VECTORS)
@pytest.mark.parametrize("n, m, d", [(7, 5, 3), (40, 33, 50), (1, 1, 1), (5, 4, 0), (3, 0, 2)])
def test_reference(n, m, d, vector, dtype):
    values = oracle.problem(n, m, d, dtype, vector)
    k = reference.rbf_kernel(*values[:4])
    assert k.dtype == dtype
    oracle.assert_accurate(k, *values[:4])
    results = reference.rbf_kernel_grad(*values)
    assert [r.dtype for r in results] == [np.dtype(dtype)] * 4
    oracle.assert_gradients(results, values, 20 * np.finfo(dtype).eps)


@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_reference_in_blocks_of_any_size(monkeypatch, rows):
    """The blocks bound the memory; they must not show in the values."""
    values = oracle.problem(10, 6, 4)
    expected = reference.rbf_kernel(*values[:4]), reference.rbf_kernel_grad(*values)
    monkeypatch.setattr(reference, "_BLOCK_BYTES", rows * 6 * 4 * 8)
    blocks = list(reference._row_blocks(*values[:2]))
    assert len(blocks) == -(-10 // rows)
    np.testing.assert_array_equal(reference.rbf_kernel(*values[:4]), expected[0])
    for result, whole in zip(reference.rbf_kernel_grad(*values), expected[1]):
        np.testing.assert_allclose(result, whole, rtol=1e-13)


@pytest.mark.parametrize("dtype", DTYPES)
def test_reference_far_from_the_origin(dtype):
    """Differences, not norms: an offset costs only what rounding the inputs cost."""
    x, y, gamma, amplitude, grad_output = oracle.problem(9, 7, 5, dtype, spread=3)
    x, y = x + np.asarray(1e6, dtype), y + np.asarray(1e6, dtype)
    gamma = gamma / np.asarray(50, dtype)
    oracle.assert_accurate(reference.rbf_kernel(x, y, gamma, amplitude), x, y, gamma, amplitude)
    values = x, y, gamma, amplitude, grad_output
    results = reference.rbf_kernel_grad(*values)
    oracle.assert_gradients(results, values, 20 * np.finfo(dtype).eps)


@pytest.mark.parametrize(
    "argument, shapes",
    [
        ("x and y", dict(x=(4, 3), y=(5, 2))),
        ("gamma", dict(x=(4, 3), y=(5, 3), gamma=(4,))),
        ("amplitude", dict(x=(4, 3), y=(5, 3), amplitude=(6,))),
        ("gradient of the output", dict(x=(4, 3), y=(5, 3), grad_output=(5, 4))),
    ],
)
def test_check_shapes(argument, shapes):
    shapes = dict(dict(gamma=(), amplitude=(), grad_output=(4, 5)), **shapes)
    arrays = {name: np.zeros(shape) for name, shape in shapes.items()}
    with pytest.raises(ValueError, match=argument):
        reference.check_shapes(**arrays)
