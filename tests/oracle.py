"""What the tests compare with: the kernel, its gradients and changes in long double, from formulas.

Deliberately not shared with rbf_op.reference: same mathematics, other code, wider type. Touches
NumPy only. docs/gradients.md derives the formulas.
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


def gradients(x, y, gamma, amplitude, grad_output):
    """Gradients of sum(grad_output * K) with respect to x, y, gamma and amplitude, long double."""
    x, y, gamma, amplitude, grad_output = (
        np.asarray(a, LONG) for a in (x, y, gamma, amplitude, grad_output)
    )
    distance = squared_distance(x, y)
    unit = np.exp(-gamma * distance)
    weight = grad_output * amplitude * unit
    dx, dy = np.zeros(x.shape, LONG), np.zeros(y.shape, LONG)
    for k in range(x.shape[1]):
        term = 2 * gamma * weight * (x[:, k, None] - y[None, :, k])
        dx[:, k] = -term.sum(axis=1)
        dy[:, k] = term.sum(axis=0)
    dgamma = -(weight * distance).sum(axis=0)
    damplitude = (grad_output * unit).sum(axis=0)
    return [
        dx,
        dy,
        dgamma if gamma.ndim else dgamma.sum(),
        damplitude if amplitude.ndim else damplitude.sum(),
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
    random = np.random.RandomState(seed + 1000003 * n + 1009 * m + d)
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


def assert_gradients(results, exact, tolerance):
    """Each gradient has the exact one's shape and differs by tolerance * its largest entry."""
    for name, result, expected in zip(INPUT_NAMES, results, exact):
        assert result.shape == expected.shape, name
        scale = np.max(np.abs(expected), initial=0)
        error = np.max(np.abs(np.asarray(result, LONG) - expected), initial=0)
        assert error <= tolerance * scale, "d%s: relative error %.2e, allowed %.2e" % (
            name, error / scale, tolerance,
        )  # fmt: skip
