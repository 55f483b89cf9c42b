"""The functions users call (rbf_kernel, rbf_mixture, rbf_dot, rbf_logsumexp, rbf_softmax_dot) and
what their parameters mean.

Turns the parametrisations people know (gamma, sigma, lengthscale) into the node's own, checks what
can be checked before there are values, and leaves the rest to the Ops. Touches ops, reference
and Theano; device/placement.py, and device/nodes.py where a device is asked for.
"""

import numbers

import numpy as np
import theano.tensor as T

from rbf_op import reference
from rbf_op.device import placement
from rbf_op.ops import (
    CheckedEntries,
    RBFDot,
    RBFKernel,
    RBFLogSumExp,
    RBFMixture,
    RBFSoftmaxDot,
)
from rbf_op.ops.dtypes import common_float, refuse_dtype, widened

_WIDTHS = ("gamma", "sigma", "lengthscale")


def rbf_kernel(x, y=None, gamma=None, *, sigma=None, lengthscale=None, amplitude=None, device=None):
    """Gaussian (RBF, squared exponential) kernel matrix as one fused, multi-threaded node.

        K[i, j] = amplitude[j] * exp(-gamma[j] * sum_k (x[i, k] - y[j, k])**2)

    Parameters (Theano variables, shared variables, NumPy arrays or Python numbers)
    ----------
    x : (n, d)
        One point a row.
    y : (m, d), optional
        One centre a row; any strides, so `W.T` of weights W (d, m) costs nothing. None, or x
        itself: y = x. Unless gamma, sigma or amplitude is a vector, K is then exactly symmetric,
        its diagonal exactly `amplitude`, and from 4 columns on half of it is computed.
    gamma : () or (m,), optional
        Inverse squared width, as in scikit-learn; per centre if a vector. 1/d when no width is
        given.
    sigma : () or (m,), optional
        Standard deviation: gamma = 1 / (2 sigma**2).
    lengthscale : () or (d,), optional
        exp(-1/2 sum_k ((x[i, k] - y[j, k]) / lengthscale[k])**2): one width per column (ARD).
        x and y are divided by it, then subtracted: what all points have in common, if it is large
        against their differences, should be subtracted before.
    amplitude : () or (m,), optional
        Factor of each column of K; 1 by default. (Of this and the widths a vector that Theano knows
        to have one entry, such as a constant, counts as a scalar.)
    device : "cpu", "cuda" or "auto", optional
        Where it is computed; by default what the environment variable RBF_OP_DEVICE says, which is
        "cpu" if it is not set. docs/cuda.md has the rule of "auto".

    Returns
    -------
    K : matrix (n, m), float32 or float64: the common dtype of the arrays. Python and NumPy
        scalars take that dtype; lists and 0-d arrays are arrays; integer arrays are upcast as
        Theano does.

    All arguments are differentiable, to any order; the gradient where a row of x meets a centre
    is exactly zero.

    Raises
    ------
    TypeError
        More than one width; an argument of a wrong number of dimensions or of dtype float16 or
        complex.
    ValueError
        A constant width that is negative, zero (sigma, lengthscale) or NaN; constant arrays whose
        shapes do not fit; a device of another name. Shapes only known at run time raise it when the
        function is called. Values of widths are not looked at then: a negative gamma gives
        K > amplitude, sigma = 0 gives NaN where points meet.
    rbf_op.device.runtime.CUDAUnavailable
        device is "cuda" and PyCUDA, the driver, a GPU or nvcc is missing; the message says which.

    Examples
    --------
    scikit-learn: ``rbf_kernel(X, Y, gamma=0.1)``. PyMC3: ``rbf_kernel(X, lengthscale=ls,
    amplitude=eta**2)``. The layer ``exp(-||W.T[j] - x[i]||^2) / 2 * S[j]^2``:
    ``rbf_kernel(x, W.T, gamma=1, amplitude=S**2 / 2)``.
    """
    x, y, gamma, amplitude = kernel_parameters(
        "rbf_kernel", x, y, gamma, sigma=sigma, lengthscale=lengthscale, amplitude=amplitude
    )
    if y is None:
        if gamma.ndim == 0 and amplitude.ndim == 0:
            return _placed(RBFKernel(symmetric=True), device, (x, gamma, amplitude))
        y = x
    return _placed(RBFKernel(), device, (x, y, gamma, amplitude))


def rbf_mixture(x, y=None, gamma=None, *, sigma=None, amplitude=None):
    """Sum of Gaussian kernel matrices of several widths, as one node that has the distances once.

        K[i, j] = sum_t amplitude[t] * exp(-gamma[t] * sum_k (x[i, k] - y[j, k])**2)

    The kernel of a maximum mean discrepancy with many bandwidths (Li, Swersky and Zemel, Generative
    moment matching networks, ICML 2015), of multi-scale interpolation and multiple kernel learning.

    Parameters
    ----------
    gamma : (q,)
        Inverse squared widths, one a term; or
    sigma : (q,)
        standard deviations: gamma = 1 / (2 sigma**2).
    amplitude : () or (q,), optional
        Factor of each term; 1 by default. Lists of numbers, here and above, do not change the
        result's dtype.
    x, y
        As in rbf_kernel; with y=None, or x itself, K is exactly symmetric.

    Returns
    -------
    K : matrix (n, m), of a dtype as rbf_kernel's; zeros where there are no terms. Computed on the
        CPU.

    All arguments are differentiable, to any order. Raises as rbf_kernel does, and TypeError if
    neither or both of gamma and sigma are given.
    """
    name = "rbf_mixture"
    if (gamma is None) == (sigma is None):
        raise TypeError("rbf_mixture: give either gamma or sigma, a vector of one entry per term.")
    given = {"gamma": gamma, "sigma": sigma, "amplitude": amplitude}
    x, y, typed, dtype = _tensors(name, x, y, given, lists=True)
    for argument, value in typed.items():
        if value.ndim != 1 and (argument != "amplitude" or value.ndim):
            raise TypeError(
                "%s: %s must be a vector with one entry per term%s, but has %d dimension(s)."
                % (name, argument, " or a scalar" * (argument == "amplitude"), value.ndim)
            )
        _check_constant(name, argument, value, dtype)
    _check_constant_shapes(name, x, y, {})
    known = [_constant_value(typed.get(argument)) for argument in _WIDTHS + ("amplitude",)]
    known = [value for value in known if value is not None and value.ndim]
    if len(known) == 2:
        reference.check_terms(*known)
    typed = {argument: widened(value, dtype) for argument, value in typed.items()}
    widths = typed["gamma"] if sigma is None else T.cast(0.5, dtype) / T.sqr(typed["sigma"])
    factors = typed.get("amplitude", T.constant(np.asarray(1, dtype=dtype)))
    if factors.ndim == 0:
        factors = T.alloc(factors, widths.shape[0])
    points = (widened(x, dtype),) if y is None else (widened(x, dtype), widened(y, dtype))
    return RBFMixture(symmetric=y is None)(*points, widths, factors)


def rbf_dot(
    x, y, weights, gamma=None, *, sigma=None, lengthscale=None, amplitude=None, device=None
):
    """Gaussian kernel matrix times weights, in O((n + m)(d + p)) memory: K is never stored.

        P[i] = sum_j amplitude[j] * exp(-gamma[j] * sum_k (x[i, k] - y[j, k])**2) * weights[j]

    The output layer of an RBF network, a Nadaraya-Watson or kernel density estimate, the mean of a
    Gaussian process, the product in conjugate gradients on K.

    Parameters
    ----------
    weights : (m, p) or (m,)
        One row per row of y.
    x, y, gamma, sigma, lengthscale, amplitude, device
        As in rbf_kernel; y=None, or x itself, means y = x, of which half is computed where that
        pays: a scalar gamma, and at most about (d + 12) / 2 columns of weights, (d + 24) / 2 in
        float64; of gradients with respect to x and gamma always, unless a matrix of weights needs
        one too.

    Returns
    -------
    P : matrix (n, p), or vector (n,) if weights is a vector.

    Differentiable with respect to all arguments, to any order, without forming K either. Sums over
    j go in short chains that are added in double: a float32 sum of a million positive terms keeps a
    relative error below 1e-6. Raises as rbf_kernel does. In a compiled function T.dot(rbf_kernel(x,
    y, ...), weights) becomes this node by itself where nothing else needs the matrix and that is
    faster.
    """
    weights = _as_weights("rbf_dot", weights)
    x, y, gamma, amplitude = kernel_parameters(
        "rbf_dot", x, y, gamma, sigma=sigma, lengthscale=lengthscale, amplitude=amplitude,
        beside=[weights],
    )  # fmt: skip
    per_row = "x" if y is None else "y"
    y = x if y is None else y
    columns = _columns_of("rbf_dot", weights, per_row, y)
    if amplitude.ndim:  # their product would stretch one of them, or fail in Theano's words
        amplitude = CheckedEntries("rbf_dot", "amplitude", per_row, 0)(amplitude, y)
        amplitude = amplitude.dimshuffle(0, "x")
        columns = CheckedEntries("rbf_dot", "weights", per_row, 0)(columns, y)
    if not _is_one(amplitude):
        columns = columns * amplitude
    product = _placed(RBFDot(), device, (x, y, gamma, columns))
    return product if weights.ndim == 2 else product.dimshuffle(0)


def rbf_logsumexp(
    x, y=None, gamma=None, *, sigma=None, lengthscale=None, amplitude=None, log_amplitude=None
):
    """Logarithm of the row sums of the Gaussian kernel matrix, stable and without the matrix.

        L[i] = log sum_j amplitude[j] * exp(-gamma[j] * sum_k (x[i, k] - y[j, k])**2)

    The log density of a Parzen window or a mixture of Gaussians (up to its constants). The
    exponents of a row are shifted by their largest, so that points far from all centres give a
    finite L where T.log(rbf_dot(...)) gives -inf.

    Parameters
    ----------
    x, y, gamma, sigma, lengthscale
        As in rbf_kernel; y=None, or x itself, means y = x.
    amplitude : () or (m,), optional
        Factor of each term; 1 by default. It must not be negative, which gives NaN. 0 leaves a term
        out, with a derivative of NaN, since 0 has no logarithm.
    log_amplitude : () or (m,), optional
        Its logarithm instead, such as the log weights of a mixture. -inf leaves a term out, with a
        derivative of 0.

    Returns
    -------
    L : vector (n,), of the dtype that rbf_kernel would give. Computed on the CPU.

    Differentiable with respect to all arguments, to any order. Value and gradient take O((n + m) d)
    memory; second derivatives form (n, m) matrices.

    Raises
    ------
    TypeError
        Both amplitude and log_amplitude; and as rbf_kernel does.
    ValueError
        As rbf_kernel does.
    """
    x, y, gamma, logarithm = _logarithmic_parameters(
        "rbf_logsumexp", x, y, gamma, sigma=sigma, lengthscale=lengthscale, amplitude=amplitude,
        log_amplitude=log_amplitude,
    )  # fmt: skip
    return RBFLogSumExp()(x, x if y is None else y, gamma, logarithm)


def rbf_softmax_dot(
    x, y, weights, gamma=None, *, sigma=None, lengthscale=None, amplitude=None, log_amplitude=None
):
    """Weighted means of weights, with Gaussian kernels whose rows add up to one: a softmax of
    negative squared distances times weights, stable, in O((n + m)(d + p)) memory.

        A[i, j] = amplitude[j] * exp(-gamma[j] * sum_k (x[i, k] - y[j, k])**2)
        P[i] = sum_j A[i, j] * weights[j] / sum_j A[i, j]

    The estimate of Nadaraya (1964) and Watson (1964), the normalised RBF network of Moody and
    Darken (Fast learning in networks of locally-tuned processing units, 1989), a step of mean shift
    (weights = y), attention by distances. The exponents of a row are shifted by their largest, so
    that a point far from all centres gets the weights of those nearest to it, where rbf_dot and its
    sum would both be zero.

    Parameters
    ----------
    weights : (m, p) or (m,)
        One row per row of y.
    x, y, gamma, sigma, lengthscale
        As in rbf_kernel; y=None, or x itself, means y = x.
    amplitude, log_amplitude
        As in rbf_logsumexp; of a scalar nothing depends on it.

    Returns
    -------
    P : matrix (n, p), or vector (n,) if weights is a vector; 0 where there are no centres.
        Computed on the CPU.

    Differentiable with respect to all arguments, to any order; second derivatives form (n, m)
    matrices. Raises as rbf_dot and rbf_logsumexp do.
    """
    name = "rbf_softmax_dot"
    weights = _as_weights(name, weights)
    x, y, gamma, logarithm = _logarithmic_parameters(
        name, x, y, gamma, sigma=sigma, lengthscale=lengthscale, amplitude=amplitude,
        log_amplitude=log_amplitude, beside=[weights],
    )  # fmt: skip
    per_row = "x" if y is None else "y"
    y = x if y is None else y
    product = RBFSoftmaxDot()(x, y, gamma, logarithm, _columns_of(name, weights, per_row, y))
    return product if weights.ndim == 2 else product.dimshuffle(0)


def _as_weights(name, weights):
    weights = _as_tensor(name, "weights", weights)
    if weights.ndim not in (1, 2):
        raise TypeError(
            "%s: weights must be a matrix (m, p) or a vector (m,), but has %d dimensions."
            % (name, weights.ndim)
        )
    return weights


def _columns_of(name, weights, matrix_name, matrix):
    """Weights of one row per row of a matrix, of its dtype; a vector as a column."""
    _check_constant_entries(name, "weights", weights, matrix_name, matrix, 0)
    weights = widened(weights, matrix.dtype)
    return weights if weights.ndim == 2 else weights.dimshuffle(0, "x")


def _logarithmic_parameters(name, x, y, gamma, *, amplitude, log_amplitude, **others):
    """kernel_parameters, with the logarithm of the amplitude, however it was given."""
    if amplitude is not None and log_amplitude is not None:
        raise TypeError("%s: give at most one of amplitude and log_amplitude." % name)
    x, y, gamma, factor = kernel_parameters(
        name, x, y, gamma, amplitude=amplitude, log_amplitude=log_amplitude, **others
    )
    return x, y, gamma, T.log(factor) if log_amplitude is None else factor


def _placed(op, device, inputs):
    """The Op's output, computed on `device`; None: as RBF_OP_DEVICE says."""
    name = placement.resolve_device(device)
    if name == "cpu":
        return op(*inputs)
    from rbf_op.device import nodes  # not needed, nor its rewrites, by those who have no device

    return nodes.placed(op, name, inputs)


def _is_one(variable):
    value = _constant_value(variable)
    return value is not None and np.ndim(value) == 0 and value == 1


def kernel_parameters(name, x, y=None, gamma=None, beside=(), **given):
    """(x, y, gamma, amplitude) as the Ops want them, from any of the parametrisations.

    given: sigma, lengthscale, and amplitude or log_amplitude, which then is the last result. y is
    None if it was, or was x. The dtype is also that of the variables `beside`. Errors carry `name`,
    the function the user called.
    """
    given["gamma"] = gamma
    widths = [width for width in _WIDTHS if given.get(width) is not None]
    if len(widths) > 1:
        raise TypeError(
            "%s: give at most one of gamma, sigma and lengthscale, but got %s."
            % (name, " and ".join(widths))
        )
    x, y, typed, dtype = _tensors(name, x, y, given, beside)
    per_column = "y" if y is not None else "x"
    for argument, value in typed.items():
        typed[argument] = _scalar_or_vector(name, argument, value, per_column)
        _check_constant(name, argument, typed[argument], dtype)
    _check_constant_shapes(name, x, y, typed)

    x = widened(x, dtype)
    y = None if y is None else widened(y, dtype)
    # Before any arithmetic: the square of an int8 is an int8.
    typed = {argument: widened(value, dtype) for argument, value in typed.items()}
    if "lengthscale" in typed:
        x = _scaled(name, "x", x, typed["lengthscale"])
        y = None if y is None else _scaled(name, "y", y, typed["lengthscale"])
        gamma = T.constant(np.asarray(0.5, dtype=dtype))
    elif "sigma" in typed:
        sigma = typed["sigma"]
        if sigma.ndim:
            sigma = CheckedEntries(name, "sigma", per_column, 0)(sigma, x if y is None else y)
        gamma = T.cast(0.5, dtype) / T.sqr(sigma)
    elif "gamma" in typed:
        gamma = typed["gamma"]
    else:
        gamma = T.cast(1, dtype) / T.cast(T.maximum(x.shape[1], 1), dtype)
    amplitude = typed.get("amplitude", T.constant(np.asarray(1, dtype=dtype)))
    return x, y, gamma, typed.get("log_amplitude", amplitude)


def _tensors(name, x, y, given, beside=(), lists=False):
    """(x, y, the parameters that are not None, dtype), Theano variables, numbers of that dtype.

    The dtype is also that of the variables `beside`. y is None if it was, or was x. With `lists`,
    lists of numbers count as numbers.
    """
    y = None if y is None or y is x else _as_tensor(name, "y", y)
    x = _as_tensor(name, "x", x)
    for argument, value in (("x", x), ("y", y)):
        if value is not None and value.ndim != 2:
            raise TypeError(
                "%s: %s must be a matrix with one point a row, but has %d dimension(s). Use "
                "dimshuffle('x', 0) of a vector for a single point, dimshuffle(0, 'x') for points "
                "on a line, flatten(2) of what has more dimensions." % (name, argument, value.ndim)
            )
    given = {k: v for k, v in given.items() if v is not None}
    plain = {
        k: v
        for k, v in given.items()
        if _is_number(v) or lists and isinstance(v, (list, tuple)) and all(map(_is_number, v))
    }
    typed = {k: _as_tensor(name, k, v) for k, v in given.items() if k not in plain}
    arrays = [x] + ([] if y is None else [y])
    dtype = common_float([v.dtype for v in arrays + list(typed.values()) + list(beside)])
    for argument, value in plain.items():
        typed[argument] = T.constant(_numbers(name, argument, value, dtype))
    return x, y, typed, dtype


def _numbers(name, argument, value, dtype):
    """A number, or a list of some, as an array; ValueError where the dtype makes inf of one, or
    zero of a width that divides."""
    try:
        exact = np.asarray(value, dtype="float64")
        with np.errstate(over="ignore"):
            array = np.asarray(value, dtype=dtype)
    except OverflowError:  # an integer beyond all floats
        exact, array = np.zeros(()), np.full((), np.inf)
    lost = np.isinf(array) & np.isfinite(exact)
    if argument in ("sigma", "lengthscale"):
        lost |= (array == 0) & (exact != 0)
    if lost.any():
        raise ValueError(
            "%s: %s is %.60s, which %s, the dtype of the arrays, cannot hold (from %.1e to %.1e). "
            "Give a number within it, or arrays of float64."
            % (name, argument, value, dtype, np.finfo(dtype).tiny, np.finfo(dtype).max)
        )
    return array


def _scaled(name, argument, points, lengthscale):
    if lengthscale.ndim:
        lengthscale = CheckedEntries(name, "lengthscale", argument, 1)(lengthscale, points)
    return points / lengthscale


def _is_number(value):
    return isinstance(value, numbers.Real)


def _as_tensor(name, argument, value):
    if isinstance(value, np.ndarray) and not value.dtype.isnative:
        value = value.astype(value.dtype.newbyteorder("="))
    try:
        variable = T.as_tensor_variable(value)
    except Exception as error:
        raise TypeError(
            "%s: %s cannot be made a Theano tensor: %s. Give a dense Theano variable "
            "(theano.sparse.dense_from_sparse), a NumPy array (toarray(), np.asarray) or a number."
            % (name, argument, str(error) or "it is a %s" % type(value).__name__)
        ) from error
    refuse_dtype(name, argument, variable)
    return variable


def _scalar_or_vector(name, argument, variable, per_column):
    entries = "column (d)" if argument == "lengthscale" else "row of %s (m)" % per_column
    if variable.ndim > 1:
        raise TypeError(
            "%s: %s must be a scalar or a vector with one entry per %s, but has %d dimensions."
            % (name, argument, entries, variable.ndim)
        )
    if variable.ndim == 1 and variable.broadcastable[0]:
        return variable.dimshuffle()
    return variable


def _constant_value(variable):
    return getattr(variable, "data", None) if hasattr(variable, "signature") else None


def _check_constant(name, argument, variable, dtype):
    value = _constant_value(variable)
    if value is None or argument not in _WIDTHS:
        return
    value = np.asarray(value, dtype=dtype)
    if np.isnan(value).any() or (value < 0).any() or (argument != "gamma" and (value == 0).any()):
        raise ValueError(
            "%s: %s must be %s, but is %s."
            % (name, argument, ">= 0" if argument == "gamma" else "> 0", value)
        )
    with np.errstate(all="ignore"):
        if argument == "sigma" and np.isinf(value.dtype.type(0.5) / np.square(value)).any():
            raise ValueError(
                "%s: sigma is %s, so small that gamma = 1 / (2 sigma**2) is infinite in %s. Give a "
                "larger one, or arrays of float64." % (name, value, dtype)
            )


def _check_constant_shapes(name, x, y, typed):
    """What the node itself would refuse at run time, told now if all shapes are known."""
    x_value = _constant_value(x)
    y_value = x_value if y is None else _constant_value(y)
    if x_value is not None and y_value is not None:
        reference.check_columns(name, x_value, y_value)
    for argument, variable in typed.items():
        if variable.ndim:
            matrix_name, matrix, axis = ("x", x, 1) if argument == "lengthscale" else ("y", y, 0)
            if matrix is None:
                matrix_name, matrix = "x", x
            _check_constant_entries(name, argument, variable, matrix_name, matrix, axis)


def _check_constant_entries(name, argument, variable, matrix_name, matrix, axis):
    values, matrix_value = _constant_value(variable), _constant_value(matrix)
    if values is not None and matrix_value is not None:
        reference.check_entries(name, argument, values, matrix_name, matrix_value, axis)
