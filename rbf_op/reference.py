"""The Gaussian kernel in NumPy: what the Ops run without a C compiler, and what tests compare with.

Direct differences in the arrays' own dtype, in blocks of rows, so that no (n, m, d) array is ever
made. Also where shapes are checked and errors worded; c_code/glue.h repeats the words, for nodes
that run in C. Touches NumPy only: no Theano, no compiled code.
"""

import numpy as np

# Rows are taken in blocks so that the (rows, m, d) array of differences stays near this size.
_BLOCK_BYTES = 1 << 22
_BLOCK_COLUMNS = 64


def check_columns(name, x, y):
    """Raise ValueError unless x (n, d) and y (m, d) have the same number of columns."""
    if x.shape[1] != y.shape[1]:
        raise ValueError(
            "%s: x and y must have the same number of columns (d), but x has shape (%d, %d) and "
            "y has shape (%d, %d). Pass centres as rows: for weights of shape (d, m) pass W.T."
            % ((name,) + x.shape + y.shape)
        )


def check_shapes(x, y, gamma, amplitude=None, weights=None, grad_output=None, name=None):
    """Raise ValueError, naming the arguments and both shapes, unless the arrays fit together.

    Shapes: x (n, d), y (m, d), gamma () or (m,), amplitude () or (m,), weights (m, p), grad_output
    (n, p) with weights, (n, m) without.
    """
    name = name or ("rbf_kernel" if weights is None else "rbf_dot")
    check_columns(name, x, y)
    points = "x" if x is y else "y"  # the user may have given no y
    # These nodes get the logarithm of either.
    logarithmic = name in ("rbf_logsumexp", "rbf_softmax_dot")
    factor = "amplitude (or log_amplitude)" if logarithmic else "amplitude"
    for argument, value in (("gamma", gamma), (factor, amplitude)):
        if value is not None and value.ndim and value.shape[0] != y.shape[0]:
            raise ValueError(
                "%s: %s must be a scalar or have one entry per row of %s (m), but %s has shape "
                "(%d,) and %s has shape (%d, %d)."
                % ((name, argument, points, argument, value.shape[0], points) + y.shape)
            )
    if weights is not None and weights.shape[0] != y.shape[0]:
        # A vector is a column here.
        vector = " (or (%d,))" % weights.shape[0] if weights.shape[1] == 1 else ""
        raise ValueError(
            "%s: weights must have one row per row of %s (m), but weights has shape (%d, %d)%s and "
            "%s has shape (%d, %d)." % ((name, points) + weights.shape + (vector, points) + y.shape)
        )
    if grad_output is not None:
        expected = (x.shape[0], y.shape[0] if weights is None else weights.shape[1])
        if grad_output.shape != expected:
            raise ValueError(
                "%s: the gradient of the output must have shape (%d, %d), but has shape (%d, %d)."
                % ((name,) + expected + grad_output.shape)
            )


def check_terms(gamma, amplitude):
    """Raise ValueError unless the widths and the amplitudes of a mixture are of as many terms."""
    if gamma.shape != amplitude.shape:
        raise ValueError(
            "rbf_mixture: amplitude must be a scalar or have one entry per width, but amplitude "
            "has shape (%d,) and the widths have shape (%d,)." % (amplitude.shape + gamma.shape)
        )


def check_entries(name, argument, values, matrix_name, matrix, axis):
    """Raise ValueError unless `values` have as many entries, or rows, as a matrix rows (axis 0) or
    columns (axis 1).
    """
    if values.shape[0] != matrix.shape[axis]:
        raise ValueError(
            "%s: %s must have one %s per %s, but %s has shape %s and %s has shape %s."
            % (
                name,
                argument,
                "row" if values.ndim == 2 else "entry",
                ("row of %s (m)" if axis == 0 else "column of %s (d)") % matrix_name,
                argument,
                values.shape,
                matrix_name,
                matrix.shape,
            )
        )


def _row_blocks(x, y):
    rows = max(1, _BLOCK_BYTES // max(1, y.shape[0] * max(1, x.shape[1]) * x.itemsize))
    for start in range(0, x.shape[0], rows):
        yield slice(start, min(x.shape[0], start + rows))


def _sums_of_squares(difference):
    """Sums over the last axis, in blocks: sums of sums lose fewer digits."""
    blocks = (
        difference[..., start : start + _BLOCK_COLUMNS]
        for start in range(0, difference.shape[-1], _BLOCK_COLUMNS)
    )
    sums = (np.einsum("ijk,ijk->ij", block, block) for block in blocks)
    return sum(sums, np.zeros(difference.shape[:2], dtype=difference.dtype))


def squared_distance(x, y):
    """D[i, j] = sum_k (x[i, k] - y[j, k])**2 for x (n, d) and y (m, d); shape (n, m)."""
    # The memory order of the differences decides the order of their sums, hence the last bits.
    x, y = np.ascontiguousarray(x), np.ascontiguousarray(y)
    distance = np.empty((x.shape[0], y.shape[0]), dtype=np.result_type(x, y))
    for rows in _row_blocks(x, y):
        difference = x[rows, None, :] - y[None, :, :]
        distance[rows] = _sums_of_squares(difference)
    return distance


def rbf_kernel(x, y, gamma, amplitude):
    """K[i, j] = amplitude[j] * exp(-gamma[j] * D[i, j]), shape (n, m).

    x (n, d), y (m, d), gamma and amplitude () or (m,), all of one floating dtype.
    """
    check_shapes(x, y, gamma, amplitude)
    with np.errstate(all="ignore"):
        return amplitude * np.exp(-gamma * squared_distance(x, y))


def rbf_kernel_grad(x, y, gamma, amplitude, grad_output):
    """Gradients of sum(grad_output * K) with respect to x, y, gamma and amplitude.

    With G = grad_output, E = exp(-gamma D) and M = G * amplitude * E (all (n, m)):

        dx[i] = 2 sum_j gamma[j] M[i, j] (y[j] - x[i])            (n, d)
        dy[j] = 2 gamma[j] sum_i M[i, j] (x[i] - y[j])            (m, d)
        dgamma[j] = -sum_i M[i, j] D[i, j]                        (m,), or () summed over j
        damplitude[j] = sum_i G[i, j] E[i, j]                     (m,), or () summed over j

    Returns the four arrays in that order. docs/gradients.md derives them.
    """
    check_shapes(x, y, gamma, amplitude, grad_output=grad_output)

    def weights(rows, distance):
        return grad_output[rows] * np.exp(-gamma * distance)

    return _gradients(x, y, gamma, amplitude, amplitude, weights)


def _gradients(x, y, gamma, amplitude, factor, weights):
    """The gradients of rbf_kernel_grad for G * E = weights(rows, D[rows]) and M = factor * G * E;
    damplitude has the shape of amplitude.
    """
    x, y = np.ascontiguousarray(x), np.ascontiguousarray(y)
    dx = np.zeros(x.shape, dtype=x.dtype)
    dy, dgamma, damplitude = np.zeros(y.shape), np.zeros(y.shape[0]), np.zeros(y.shape[0])
    with np.errstate(all="ignore"):
        for rows in _row_blocks(x, y):
            difference = x[rows, None, :] - y[None, :, :]
            distance = _sums_of_squares(difference)
            weight = weights(rows, distance)
            damplitude += weight.sum(axis=0, dtype="float64")
            weight *= factor
            dgamma -= (weight * distance).sum(axis=0, dtype="float64")
            weight *= gamma
            weight *= 2  # twice gamma may be infinite
            dx[rows] = -np.einsum("ij,ijk->ik", weight, difference)
            dy += np.einsum("ij,ijk->jk", weight, difference)
    if gamma.ndim == 0:
        dgamma = dgamma.sum()
    if amplitude.ndim == 0:
        damplitude = damplitude.sum()
    return (dx, *(v.astype(x.dtype) for v in (dy, np.asarray(dgamma), np.asarray(damplitude))))


def rbf_mixture(x, y, gamma, amplitude):
    """K[i, j] = sum_t amplitude[t] * exp(-gamma[t] * D[i, j]), shape (n, m).

    x (n, d), y (m, d), gamma and amplitude (q,), all of one floating dtype.
    """
    check_terms(gamma, amplitude)
    check_shapes(x, y, None, name="rbf_mixture")
    with np.errstate(all="ignore"):
        distance = squared_distance(x, y)
        terms = (a * np.exp(-g * distance) for g, a in zip(gamma, amplitude))
        return sum(terms, np.zeros_like(distance))


def rbf_mixture_grad(x, y, gamma, amplitude, grad_output):
    """Gradients of sum(grad_output * rbf_mixture) with respect to x, y, gamma and amplitude: of x
    and y the sums of those of the terms. Returns the four arrays in that order."""
    check_terms(gamma, amplitude)
    check_shapes(x, y, None, grad_output=grad_output, name="rbf_mixture")
    dx, dy = np.zeros(x.shape, dtype=x.dtype), np.zeros(y.shape, dtype=y.dtype)
    dgamma, damplitude = np.zeros_like(gamma), np.zeros_like(amplitude)
    for t in range(len(gamma)):
        more_x, more_y, dgamma[t], damplitude[t] = rbf_kernel_grad(
            x, y, np.asarray(gamma[t]), np.asarray(amplitude[t]), grad_output
        )
        dx += more_x
        dy += more_y
    return dx, dy, dgamma, damplitude


def rbf_dot(x, y, gamma, weights):
    """P[i] = sum_j exp(-gamma[j] * D[i, j]) * weights[j], shape (n, p), in blocks of rows.

    x (n, d), y (m, d), gamma () or (m,), weights (m, p), all of one floating dtype.
    """
    check_shapes(x, y, gamma, weights=weights)
    # C order, or the layout would show in the bits of a BLAS; double, as in C, or sums lose digits.
    weights = np.ascontiguousarray(weights, dtype="float64")
    product = np.empty((x.shape[0], weights.shape[1]), dtype=x.dtype)
    for rows in _row_blocks(x, y):
        product[rows] = rbf_kernel(x[rows], y, gamma, x.dtype.type(1)).dot(weights)
    return product


def rbf_dot_grad(x, y, gamma, weights, grad_output):
    """Gradients of sum(grad_output * rbf_dot) with respect to x, y, gamma and weights.

    With H = grad_output (n, p) and E = exp(-gamma D): those of rbf_kernel_grad for G = H W^T and
    amplitude 1, and dweights = E^T H (m, p). Returns the four arrays in that order.
    """
    check_shapes(x, y, gamma, weights=weights, grad_output=grad_output)
    weights, grad_output = np.ascontiguousarray(weights), np.ascontiguousarray(grad_output)
    dx = np.zeros(x.shape, dtype=x.dtype)
    dy, dgamma, dweights = (np.zeros(v.shape) for v in (y, gamma, weights))
    one = x.dtype.type(1)
    for rows in _row_blocks(x, y):
        block = x[rows], y, gamma
        h = grad_output[rows]
        dx[rows], more_y, more_gamma, _ = rbf_kernel_grad(*block, one, h.dot(weights.T))
        dy += more_y
        dgamma += more_gamma
        dweights += rbf_kernel(*block, one).T.dot(h.astype("float64"))
    return (dx, *(v.astype(x.dtype) for v in (dy, dgamma, dweights)))


def rbf_logsumexp(x, y, gamma, log_amplitude):
    """L[i] = log sum_j exp(log_amplitude[j] - gamma[j] * D[i, j]), shape (n,), stable.

    x (n, d), y (m, d), gamma and log_amplitude () or (m,), all of one floating dtype. Returns L and
    the rest, what rounding L to this dtype left out, which the gradient needs; 0 where L is not
    finite.
    """
    check_shapes(x, y, gamma, log_amplitude, name="rbf_logsumexp")
    log_sums, rests = np.empty(x.shape[0], dtype=x.dtype), np.empty(x.shape[0], dtype=x.dtype)
    with np.errstate(all="ignore"):
        for rows in _row_blocks(x, y):
            exponents = log_amplitude - gamma * squared_distance(x[rows], y)
            largest = np.max(exponents, axis=1, initial=-np.inf)
            base = np.where(np.isinf(largest), 0, largest)
            sums = np.exp(exponents - base[:, None]).sum(axis=1, dtype="float64")
            value, lost = _exact_sum(base.astype("float64"), np.log(sums))
            log_sums[rows] = value
            rests[rows] = value - log_sums[rows] + lost
        rests[~np.isfinite(log_sums)] = 0
    return log_sums, rests


def _exact_sum(a, b):
    """a + b, and what of it the sum leaves out, as RBF_EXACT_SUM of distances.h."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def rbf_logsumexp_grad(x, y, gamma, log_amplitude, log_sums, rests, grad_output):
    """Gradients of sum(grad_output * L) with respect to x, y, gamma and log_amplitude.

    log_sums and rests are what rbf_logsumexp returns, grad_output (n,).
    With the responsibilities R[i, j] = exp(log_amplitude[j] - gamma[j] D[i, j] - L[i]) in the
    place of K and one grad_output a row: as in rbf_kernel_grad, and dlog_amplitude[j] =
    sum_i grad_output[i] R[i, j].
    """
    check_shapes(x, y, gamma, log_amplitude, name="rbf_logsumexp")
    lengths = log_sums.shape[0], rests.shape[0], grad_output.shape[0]
    if any(length != x.shape[0] for length in lengths):
        raise ValueError(
            "rbf_logsumexp: its value, the rest of it and the gradient of the output must have "
            "shape (%d,), but have shapes (%d,), (%d,) and (%d,)." % ((x.shape[0],) + lengths)
        )
    logarithm = x, y, gamma, log_amplitude, log_sums, rests
    return _gradients_of_shares(*logarithm, lambda rows, shares: grad_output[rows, None])


def _gradients_of_shares(x, y, gamma, log_amplitude, log_sums, rests, upstream):
    """The gradients of rbf_logsumexp_grad for G[rows] = upstream(rows, R[rows])."""

    def weights(rows, distance):
        shares = _shares(distance, gamma, log_amplitude, log_sums[rows], rests[rows])
        return shares * upstream(rows, shares)

    return _gradients(x, y, gamma, log_amplitude, 1, weights)


def _shares(distance, gamma, log_amplitude, log_sums, rests):
    """exp(log_amplitude[j] - gamma[j] D[i, j] - L[i]): of the sum over the row, the share of j."""
    exponents = log_amplitude - gamma * distance
    return np.exp((exponents - log_sums[:, None]) - rests[:, None])


def rbf_softmax_dot(x, y, gamma, log_amplitude, weights):
    """P[i] = sum_j A[i, j] weights[j], A[i, j] = exp(log_amplitude[j] - gamma[j] D[i, j] - L[i]),
    shape (n, p), stable; 0 where there are no columns (m = 0).

    x (n, d), y (m, d), gamma and log_amplitude () or (m,), weights (m, p), all of one floating
    dtype. Returns P, and L and its rest as rbf_logsumexp does.
    """
    check_shapes(x, y, gamma, log_amplitude, weights, name="rbf_softmax_dot")
    log_sums, rests = rbf_logsumexp(x, y, gamma, log_amplitude)
    weights = np.ascontiguousarray(weights)
    product = np.empty((x.shape[0], weights.shape[1]), dtype=x.dtype)
    with np.errstate(all="ignore"):
        for rows in _row_blocks(x, y):
            distance = squared_distance(x[rows], y)
            shares = _shares(distance, gamma, log_amplitude, log_sums[rows], rests[rows])
            product[rows] = shares.dot(weights)
    return product, log_sums, rests


def rbf_softmax_dot_grad(
    x, y, gamma, log_amplitude, weights, product, log_sums, rests, grad_output
):
    """Gradients of sum(grad_output * P) with respect to x, y, gamma, log_amplitude and weights.

    product, log_sums and rests are what rbf_softmax_dot returns, H = grad_output (n, p). With A for
    K and G[i, j] = sum_q H[i, q] (weights[j, q] - P[i, q]) as in rbf_kernel_grad,
    dlog_amplitude[j] = sum_i G[i, j] A[i, j], and dweights = A^T H. docs/gradients.md derives them.
    """
    check_shapes(x, y, gamma, log_amplitude, weights, grad_output, name="rbf_softmax_dot")
    shapes = product.shape, log_sums.shape, rests.shape
    if shapes != (grad_output.shape,) + 2 * (x.shape[:1],):
        raise ValueError(
            "rbf_softmax_dot: its value must have shape (%d, %d), its log_sums and rests (%d,), "
            "but they have shapes (%d, %d), (%d,) and (%d,)."
            % (grad_output.shape + x.shape[:1] + sum(shapes, ()))
        )
    weights, grad_output = np.ascontiguousarray(weights), np.ascontiguousarray(grad_output)
    dweights = np.zeros(weights.shape, dtype=x.dtype)
    with np.errstate(all="ignore"):
        centre = _common_part(weights)
        centred, means = weights - centre, (grad_output * (product - centre)).sum(axis=1)

    def upstream(rows, shares):
        nonlocal dweights
        dweights += shares.T.dot(grad_output[rows])
        return grad_output[rows].dot(centred.T) - means[rows, None]

    logarithm = x, y, gamma, log_amplitude, log_sums, rests
    return _gradients_of_shares(*logarithm, upstream) + (dweights,)


def _common_part(weights):
    """Of each column the entry nearest to 0, if all have its sign and it is finite, else 0.

    What rows have in common changes no difference, but loses digits; and less that, neither the
    weights nor a mean of them is larger than it was.
    """
    if not weights.size:
        return np.zeros(weights.shape[1], dtype=weights.dtype)
    nearest = np.where((weights > 0).all(axis=0), weights.min(axis=0), 0)
    nearest = np.where((weights < 0).all(axis=0), weights.max(axis=0), nearest)
    return np.where(np.isfinite(nearest), nearest, 0).astype(weights.dtype)
