"""What the tests compare with: the kernel, its gradients and changes in long double, from formulas.

Deliberately not shared with rbf_op.reference: same mathematics, other code, wider type. Touches
NumPy and pytest. docs/gradients.md derives the formulas.
"""

import numpy as np
import pytest

LONG = np.longdouble

# On platforms where long double is double there is nothing to measure the last digits with.
needs_long_double = pytest.mark.skipif(
    np.finfo(LONG).eps > 1e-18, reason="long double is not wider than double here"
)

INPUT_NAMES = ("x", "y", "gamma", "amplitude")


def squared_distance(x, y):
    """D[i, j] = sum_k (x[i, k] - y[j, k])**2 in long double; x (n, d), y (m, d)."""
    x, y = np.asarray(x, LONG), np.asarray(y, LONG)
    distance = np.zeros((x.shape[0], y.shape[0]), LONG)
    for k in range(x.shape[1]):
        distance += (x[:, k, None] - y[None, :, k]) ** 2
    return distance


def kernel(x, y, gamma, amplitude):
    """K[i, j] = amplitude[j] * exp(-gamma[j] * D[i, j]) in long double."""
    with np.errstate(all="ignore"):
        return np.asarray(amplitude, LONG) * np.exp(
            -np.asarray(gamma, LONG) * squared_distance(x, y)
        )


def _weights_and_distance(x, y, gamma, amplitude, grad_output):
    """grad_output * K, grad_output * K / amplitude and D: what all gradients are sums of."""
    distance = squared_distance(x, y)
    unit = np.asarray(grad_output, LONG) * np.exp(-np.asarray(gamma, LONG) * distance)
    return unit * amplitude, unit, distance


def gradients(x, y, gamma, amplitude, grad_output):
    """Gradients of sum(grad_output * K) with respect to x, y, gamma and amplitude, long double."""
    weight, unit, distance = _weights_and_distance(x, y, gamma, amplitude, grad_output)
    return _summed(x, y, gamma, amplitude, 2 * gamma * weight, -weight * distance, unit)


def gradient_terms(x, y, gamma, amplitude, grad_output):
    """The same sums over the absolute values of their terms: what rounding errors are shares of."""
    weight, unit, distance = _weights_and_distance(x, y, gamma, amplitude, grad_output)
    return _summed(
        x, y, gamma, amplitude, 2 * gamma * weight, weight * distance, unit, absolute=np.abs
    )


def _summed(x, y, gamma, amplitude, of_points, of_gamma, of_amplitude, absolute=np.positive):
    x, y = np.asarray(x, LONG), np.asarray(y, LONG)
    dx, dy = np.zeros(x.shape, LONG), np.zeros(y.shape, LONG)
    for k in range(x.shape[1]):
        term = of_points * (x[:, k, None] - y[None, :, k])
        dx[:, k] = absolute(-term).sum(axis=1)
        dy[:, k] = absolute(term).sum(axis=0)
    return [
        dx,
        dy,
        absolute(of_gamma).sum(axis=0 if np.ndim(gamma) else None),
        absolute(of_amplitude).sum(axis=0 if np.ndim(amplitude) else None),
    ]


def directional(function, inputs, directions, step=1e-6):
    """Change of function(*inputs) in the given directions, by central differences in long double.

    Good to about ten digits, whatever the function: this is what forward rules and second
    derivatives are compared with.
    """
    step = LONG(step)
    ahead = function(*[np.asarray(a, LONG) + step * v for a, v in zip(inputs, directions)])
    behind = function(*[np.asarray(a, LONG) - step * v for a, v in zip(inputs, directions)])
    if isinstance(ahead, list):
        return [(a - b) / (2 * step) for a, b in zip(ahead, behind)]
    return (ahead - behind) / (2 * step)


def problem(n, m, d, dtype="float64", vector=(True, True), seed=0, spread=None):
    """Arrays x (n, d), y (m, d), gamma, amplitude, grad_output (n, m) with gamma * D near 1.

    gamma and amplitude are vectors (m,) where `vector` says so, scalars otherwise. amplitude and
    grad_output have both signs, so that a wrong sign shows.
    """
    random = np.random.RandomState((seed + 1000003 * n + 1009 * m + d) % 2**32)
    spread = 1 / np.sqrt(2.0 * max(d, 1)) if spread is None else spread
    x = random.randn(n, d) * spread
    y = random.randn(m, d) * spread
    gamma = random.uniform(0.5, 2, size=m if vector[0] else ())
    amplitude = random.uniform(0.5, 2, size=m if vector[1] else ())
    amplitude = amplitude * (random.choice([-1, 1], size=m) if vector[1] else -1)
    grad_output = random.uniform(0.5, 2, size=(n, m)) * random.choice([-1, 1], size=(n, m))
    return [np.asarray(a, dtype) for a in (x, y, gamma, amplitude, grad_output)]


def assert_accurate(result, x, y, gamma, amplitude, distance_error=3):
    """|K - exact| <= (4 + distance_error * gamma D) eps |exact|, or one smallest denormal number.

    4 is for the rounding of exp and of the products. A relative error of gamma * D becomes gamma *
    D times as large in exp(-gamma * D): distance_error is how large it may be, in eps. Rounding
    each difference alone can make it 1; the sum of squares, and in NumPy the product with gamma,
    round as well. test_accuracy says how near to 1 it is.
    """
    info = np.finfo(result.dtype)
    exponent = np.asarray(gamma, LONG) * squared_distance(x, y)
    exact = np.asarray(amplitude, LONG) * np.exp(-exponent)
    allowed = (4 + distance_error * np.abs(exponent)) * info.eps
    denormal = LONG(np.nextafter(result.dtype.type(0), result.dtype.type(1)))
    allowed = allowed * np.abs(exact) + denormal * (1 + np.abs(np.asarray(amplitude, LONG)))
    assert result.shape == exact.shape
    error = np.abs(np.asarray(result, LONG) - exact)
    # `not <=` rather than `>`: a NaN is an error too.
    wrong = ~(error <= allowed)
    if wrong.any():
        i, j = np.argwhere(wrong)[0]
        pytest.fail(
            "K[%d, %d] = %r, exact %r: error is %.2f times what is allowed; %d of %d entries, %.2f "
            "times at most"
            % (
                i, j, result[i, j], exact[i, j], error[i, j] / allowed[i, j],
                wrong.sum(), wrong.size, np.max(error / allowed),
            )
        )  # fmt: skip


def assert_gradients(results, values, tolerance, names=INPUT_NAMES):
    """Each entry is right to tolerance * the sum of the absolute values of its terms.

    Terms that underflow may be lost: a normal number each, were they as large as can be.
    `names` without y is the symmetric case: `values` then has x in the place of y as well.
    """
    exact, terms = gradients(*values), gradient_terms(*values)
    if "y" not in names:
        exact = [exact[0] + exact[1]] + exact[2:]
        terms = [terms[0] + terms[1]] + terms[2:]
    assert len(results) == len(names)
    lost = len(values[0]) * len(values[1]) * LONG(np.finfo(values[0].dtype).tiny)
    for name, result, expected, scale in zip(names, results, exact, terms):
        assert result.dtype == values[0].dtype and result.shape == expected.shape, name
        error = np.abs(np.asarray(result, LONG) - expected)
        wrong = ~(error <= tolerance * scale + lost)
        assert not wrong.any(), "d%s: %d of %d entries wrong, e.g. %r, exact %r: %.2f times" % (
            name, wrong.sum(), wrong.size, result[wrong][0], expected[wrong][0],
            np.nanmax(error[wrong] / scale[wrong] / tolerance),
        )  # fmt: skip


def assert_gradients_to_the_largest(results, values, tolerance):
    """Each gradient is right to tolerance * its largest entry."""
    for name, result, expected in zip(INPUT_NAMES, results, gradients(*values)):
        error = np.max(np.abs(np.asarray(result, LONG) - expected)) / np.max(np.abs(expected))
        assert error <= tolerance, "d%s: %.2e of the largest entry" % (name, error)
