"""Spellings of the Gaussian kernel, and near misses: material of the tests of fuse.

Each function takes the variables x (n, d), c (m, d), scalar s, vectors v (d,), w (m,), r (n,) and
returns an expression. May import Theano only.
"""

import numpy as np
import theano
import theano.tensor as T

INF = np.inf


def difference(x, c):
    return x.dimshuffle(0, "x", 1) - c.dimshuffle("x", 0, 1)


def expanded(x, c):
    return (
        T.sum(x**2, axis=1).dimshuffle(0, "x")
        + T.sum(c**2, axis=1).dimshuffle("x", 0)
        - 2 * T.dot(x, c.T)
    )


def squared(x, c):
    return T.sqr(difference(x, c)).sum(axis=2)


def norms_by_diagonal(x, c):
    xx, cc = T.diag(T.dot(x, x.T)), T.diag(T.dot(c, c.T))
    return xx[:, None] + cc[None, :] - 2 * T.dot(x, c.T)


def norms_by_ones(x, c):
    return T.dot(x**2, T.ones_like(c.T)) + T.dot(T.ones_like(x), (c**2).T) - 2 * T.dot(x, c.T)


def repeated(x, c):
    n, m = x.shape[0], c.shape[0]
    pairs = T.repeat(x, m, axis=0) - T.tile(c, (n, 1))
    return T.sum(pairs**2, axis=1).reshape((n, m))


def repeated_norms(x, c):
    n, m = x.shape[0], c.shape[0]
    xx = T.repeat((x**2).sum(axis=1, keepdims=True), m, axis=1)
    cc = T.tile((c**2).sum(axis=1), (n, 1))
    return xx + cc - 2 * T.dot(x, c.T)


def tiled_broadcast(x, c):
    x3 = T.repeat(x.dimshuffle(0, "x", 1), c.shape[0], axis=1)
    c3 = T.tile(c.dimshuffle("x", 0, 1), (x.shape[0], 1, 1))
    return ((x3 - c3) ** 2).sum(axis=2)


def reshaped(x, c):
    n, m, d = x.shape[0], c.shape[0], x.shape[1]
    return T.sum((x.reshape((n, 1, d)) - c.reshape((1, m, d))) ** 2, axis=2)


def transposed_difference(x, c):
    return T.sum((x.T.dimshuffle(0, 1, "x") - c.T.dimshuffle(0, "x", 1)) ** 2, axis=0)


def batched(x, c):
    difference_ = x.dimshuffle(0, "x", 1) - c.dimshuffle("x", 0, 1)
    return T.sum(difference_ * difference_, axis=-1)


def by_norm(x, c):
    return difference(x, c).norm(2, axis=2) ** 2


def by_sqrt(x, c):
    return T.sqrt(T.maximum(expanded(x, c), 0.0)) ** 2


def outer_norms(x, c):
    ones_n, ones_m = T.ones((x.shape[0], 1)), T.ones((1, c.shape[0]))
    xx = T.sum(x * x, axis=1, keepdims=True)
    cc = T.sum(c * c, axis=1, keepdims=True).T
    return T.dot(xx, ones_m) + T.dot(ones_n, cc) - 2.0 * T.dot(x, c.T)


def with_minus_inside(x, c):
    return -(2 * x.dot(c.T) - (x * x).sum(1)[:, None] - (c * c).sum(1)[None, :])


def two_x(x, c):
    return (
        T.dot(-2.0 * x, c.T)
        + T.sum(T.square(x), 1).reshape((-1, 1))
        + T.sum(T.square(c), 1).reshape((1, -1))
    )


def mean_times_d(x, c):
    return T.mean(T.sqr(difference(x, c)), axis=2) * T.cast(x.shape[1], x.dtype)


def relu_clamped(x, c):
    return T.nnet.relu(expanded(x, c))


def switched(x, c):
    d2 = expanded(x, c)
    return T.switch(d2 < 0, 0.0, d2)


def switched_other(x, c):
    d2 = expanded(x, c)
    return T.switch(T.gt(d2, 0), d2, T.zeros_like(d2))


def absolute(x, c):
    return abs(expanded(x, c))


def clipped(x, c):
    return T.clip(expanded(x, c), 0, INF)


def euclidean_theano_clamp(x, c):
    return T.sqr(T.sqrt(T.sqr(T.sqrt(expanded(x, c)))))


def columnwise_sum(x, c):
    return sum((x[:, k].dimshuffle(0, "x") - c[:, k].dimshuffle("x", 0)) ** 2 for k in range(3))


def dotted_ones(x, c):
    return T.dot(T.sqr(difference(x, c)), T.ones((x.shape[1],)))


def tensordotted(x, c):
    difference_ = difference(x, c)
    return T.batched_dot(
        difference_.reshape((-1, 1, x.shape[1])), difference_.reshape((-1, x.shape[1], 1))
    ).reshape((x.shape[0], c.shape[0]))


def mapped(x, c):
    return theano.map(lambda row, all_: T.sum((all_ - row) ** 2, axis=1), x, [c])[0]


def scanned_indices(x, c):
    return theano.scan(
        lambda i, x_, c_: T.sum((x_[i] - c_) ** 2, axis=1),
        sequences=T.arange(x.shape[0]),
        non_sequences=[x, c],
    )[0]


def nested_scans(x, c):
    def row(x_row, all_):
        return theano.map(lambda c_row, x_: T.sum(T.sqr(x_ - c_row)), all_, [x_row])[0]

    return theano.map(row, x, [c])[0]


def scanned_columns(x, c):
    return theano.map(lambda row, all_: T.sum((all_ - row) ** 2, axis=1), c, [x])[0].T


DISTANCES = [
    expanded,
    squared,
    norms_by_diagonal,
    norms_by_ones,
    repeated,
    repeated_norms,
    tiled_broadcast,
    reshaped,
    transposed_difference,
    batched,
    by_norm,
    by_sqrt,
    outer_norms,
    with_minus_inside,
    two_x,
    mean_times_d,
    relu_clamped,
    switched,
    switched_other,
    absolute,
    clipped,
    euclidean_theano_clamp,
    columnwise_sum,
    dotted_ones,
    mapped,
    scanned_indices,
    nested_scans,
    scanned_columns,
]

# name -> (expression of the squared distance and the variables)
WIDTHS = {
    "gamma": lambda d2, s, v, w, r: T.exp(-s * d2),
    "minus inside": lambda d2, s, v, w, r: T.exp(-(s * d2)),
    "times minus one": lambda d2, s, v, w, r: T.exp(d2 * s * -1),
    "2 sigma^2": lambda d2, s, v, w, r: T.exp(-d2 / (2 * s**2)),
    "half over sqr": lambda d2, s, v, w, r: T.exp(-0.5 * d2 / T.sqr(s)),
    "divided twice": lambda d2, s, v, w, r: T.exp(-d2 / s / s / 2),
    "distance over sigma, squared": lambda d2, s, v, w, r: T.exp(-0.5 * (T.sqrt(d2) / s) ** 2),
    "1 / exp": lambda d2, s, v, w, r: 1 / T.exp(s * d2),
    "e to the power": lambda d2, s, v, w, r: np.e ** (-s * d2),
    "2 to the power": lambda d2, s, v, w, r: T.pow(T.constant(2, dtype=d2.dtype), -s * d2),
    "power of exp": lambda d2, s, v, w, r: T.exp(-d2) ** s,
    "squared exp": lambda d2, s, v, w, r: T.sqr(T.exp(-s * d2)),
    "root of exp": lambda d2, s, v, w, r: T.sqrt(T.exp(-s * d2)),
    "exp log gamma": lambda d2, s, v, w, r: T.exp(-T.exp(s) * d2),
    "softplus": lambda d2, s, v, w, r: T.exp(-T.nnet.softplus(s) * d2),
    "sum in width": lambda d2, s, v, w, r: T.exp(-d2 / (s**2 + 1e-3)),
    "gamma a column": lambda d2, s, v, w, r: T.exp(-w * d2),
    "sigma a column": lambda d2, s, v, w, r: T.exp(-d2 / (2 * w.dimshuffle("x", 0) ** 2)),
    "gamma a row": lambda d2, s, v, w, r: T.exp(-r[:, None] * d2),
    "gamma a row, transposed": lambda d2, s, v, w, r: T.exp(-r * d2.T).T,
    "amplitude": lambda d2, s, v, w, r: s**2 * T.exp(-s * d2),
    "amplitude a column": lambda d2, s, v, w, r: T.exp(-d2) / 2 * w**2,
    "amplitude a row": lambda d2, s, v, w, r: r[:, None] * T.exp(-d2),
    "amplitude inside": lambda d2, s, v, w, r: T.exp(2 * T.log(s) - 0.5 * d2),
    "amplitude a column inside": lambda d2, s, v, w, r: T.exp(T.log(w) - s * d2),
    "density": lambda d2, s, v, w, r: T.exp(-d2 / (2 * s**2)) / T.sqrt(2 * np.pi * s**2),
    "constant inside": lambda d2, s, v, w, r: T.exp(-0.5 * (d2 + np.log(2 * np.pi))),
    "minus": lambda d2, s, v, w, r: -T.exp(-d2),
    "clipped exponent": lambda d2, s, v, w, r: T.exp(-s * T.clip(d2, 1e-3, 1.5)),
    "epsilon": lambda d2, s, v, w, r: T.exp(-T.maximum(d2, 1e-7) / (2 * s**2)),
    "non-positive": lambda d2, s, v, w, r: T.exp(T.minimum(-d2 / s**2, 0)),
    "distance plus epsilon": lambda d2, s, v, w, r: T.exp(-s * T.sqrt(d2 + 1e-8) ** 2),
    "transposed": lambda d2, s, v, w, r: T.exp(-s * d2).T,
}

# name -> whole kernels, with features scaled
KERNELS = {
    "ARD, scaled before": lambda x, c, s, v, w, r: T.exp(-0.5 * expanded(x / v, c / v)),
    "ARD, scaled difference": lambda x, c, s, v, w, r: T.exp(
        -T.sum((difference(x, c) / v) ** 2, axis=2)
    ),
    "ARD, exp weights": lambda x, c, s, v, w, r: T.exp(
        -T.sum(T.exp(v) * difference(x, c) ** 2, axis=2)
    ),
    "ARD, dot with squares": lambda x, c, s, v, w, r: T.exp(-T.dot(difference(x, c) ** 2, v**-2)),
    "ARD, over l^2": lambda x, c, s, v, w, r: T.exp(
        -0.5 * T.sum(T.sqr(difference(x, c)) / T.sqr(v), axis=2)
    ),
    "root times root": lambda x, c, s, v, w, r: T.exp(
        -s * T.sqrt(expanded(x, c)) * T.sqrt(expanded(x, c))
    ),
    "scaled root times itself": lambda x, c, s, v, w, r: scaled_root(x, c, s),
    "sums over two axes": lambda x, c, s, v, w, r: T.exp(
        -s * T.sum((x[:, None, :, None] * v[:2] - c[None, :, :, None] * v[:2]) ** 2, axis=[2, 3])
    ),
    "batched dot": lambda x, c, s, v, w, r: T.exp(-s * batched_dot(x, c)),
    "layers shared by rows and columns": lambda x, c, s, v, w, r: T.exp(
        -s * squared(T.tanh(T.dot(x, T.outer(v, v))), T.tanh(T.dot(c, T.outer(v, v))))
    ),
    "implicit variables of a scan": lambda x, c, s, v, w, r: theano.map(
        lambda row: s * T.exp(-T.sum(((c - row) / v) ** 2, axis=1)), x
    )[0],
    "map over centres": lambda x, c, s, v, w, r: (
        theano.map(lambda centre, gamma: T.exp(-gamma * T.sum((x - centre) ** 2, axis=1)), [c, w])[
            0
        ].T
    ),
    "full matrix before": lambda x, c, s, v, w, r: T.exp(
        -expanded(T.dot(x, T.outer(v, v)), T.dot(c, T.outer(v, v)))
    ),
    "full matrix on the difference": lambda x, c, s, v, w, r: T.exp(
        -T.sum(T.dot(difference(x, c), T.outer(v, v)) ** 2, axis=2)
    ),
    "outputs of a layer": lambda x, c, s, v, w, r: T.exp(
        -s * expanded(T.tanh(x * v + 1), T.dot(c, T.outer(v, v)) + v)
    ),
    "sum of layers": lambda x, c, s, v, w, r: T.exp(-s * squared(x + v, T.sqr(c) - v)),
    "same points": lambda x, c, s, v, w, r: T.exp(-s * expanded(x, x)),
    "same points, difference": lambda x, c, s, v, w, r: T.exp(-s * squared(x, x)),
    "same points, Gram": lambda x, c, s, v, w, r: gram_kernel(x, s),
    "product over features": lambda x, c, s, v, w, r: T.prod(
        T.exp(-((difference(x, c) / v) ** 2)), axis=2
    ),
    "product of exponentials": lambda x, c, s, v, w, r: (
        T.exp(-s * (x**2).sum(1))[:, None]
        * T.exp(-s * (c**2).sum(1))[None, :]
        * T.exp(2 * s * T.dot(x, c.T))
    ),
    "points on a line": lambda x, c, s, v, w, r: T.exp(
        -0.5 * (r[:, None] - w[None, :]) ** 2 / s**2
    ),
    "points on a line, gamma a column": lambda x, c, s, v, w, r: T.exp(
        -(T.sqr(w)) * (r[:, None] - w[None, :]) ** 2
    ),
    "points on a line, expanded": lambda x, c, s, v, w, r: T.exp(
        -s * (r[:, None] ** 2 + w[None, :] ** 2 - 2 * T.outer(r, w))
    ),
    "projections": lambda x, c, s, v, w, r: T.exp(
        -s * (T.dot(x, v)[:, None] - T.dot(c, v)[None, :]) ** 2
    ),
    "two distances": lambda x, c, s, v, w, r: T.exp(
        -0.5 * squared(x[:, :1], c[:, :1]) / s**2 - squared(x[:, 1:], c[:, 1:]) / (2 * v[0] ** 2)
    ),
    "kept dimension": lambda x, c, s, v, w, r: T.exp(
        -s * T.sum(difference(x, c) ** 2, axis=2, keepdims=True)
    )[:, :, 0],
    "distributed gamma": lambda x, c, s, v, w, r: T.exp(
        2 * s * T.dot(x, c.T) - s * (x**2).sum(1)[:, None] - s * (c**2).sum(1)[None, :]
    ),
    "distributed gamma a column": lambda x, c, s, v, w, r: T.exp(
        2 * w * T.dot(x, c.T) - w * (x**2).sum(1)[:, None] - w * (c**2).sum(1)[None, :]
    ),
    "scan with a width a row": lambda x, c, s, v, w, r: theano.map(
        lambda row, gamma, all_: T.exp(-gamma * T.sum((all_ - row) ** 2, axis=1)), [x, r], [c]
    )[0],
    "scan with a width a column": lambda x, c, s, v, w, r: theano.map(
        lambda row, all_, gamma: T.exp(-gamma * T.sqr((all_ - row).norm(2, axis=1))) * gamma,
        x,
        [c, w],
    )[0],
    "scan backwards": lambda x, c, s, v, w, r: theano.map(
        lambda row, all_: T.exp(-T.sum((all_ - row) ** 2, axis=1)), x, [c], go_backwards=True
    )[0],
}


def batched_dot(x, c):
    pairs = difference(x, c)
    d = x.shape[1]
    products = T.batched_dot(pairs.reshape((-1, 1, d)), pairs.reshape((-1, d, 1)))
    return products.reshape((x.shape[0], c.shape[0]))


def scaled_root(x, c, s):
    root = T.sqrt(T.maximum(expanded(x, c), 0)) / s
    return T.exp(-0.5 * root * root)


def gram_kernel(x, s):
    gram = T.dot(x, x.T)
    norms = T.diag(gram)
    return T.exp(-s * (norms[:, None] + norms[None, :] - 2 * gram))


# What a rewrite must leave alone.
NEAR_MISSES = {
    "paired rows": lambda x, c, s, v, w, r: T.exp(-s * ((x - x[::-1]) ** 2).sum(axis=1)),
    "no square": lambda x, c, s, v, w, r: T.exp(-s * difference(x, c).norm(2, axis=2)),
    "L1": lambda x, c, s, v, w, r: T.exp(-s * abs(difference(x, c)).sum(axis=2)),
    "fourth powers": lambda x, c, s, v, w, r: T.exp(-s * (difference(x, c) ** 4).sum(axis=2)),
    "distance squared": lambda x, c, s, v, w, r: T.exp(-s * squared(x, c) ** 2),
    "exp inside the sum": lambda x, c, s, v, w, r: T.sum(
        T.exp(-0.5 * (difference(x, c) / v) ** 2) * x[:, None, :], axis=2
    ),
    "plus": lambda x, c, s, v, w, r: T.exp(
        -s * T.sum((x.dimshuffle(0, "x", 1) + c.dimshuffle("x", 0, 1)) ** 2, axis=2) * -1
    ),
    "no norms": lambda x, c, s, v, w, r: T.exp(2 * s * T.dot(x, c.T)),
    "one norm": lambda x, c, s, v, w, r: T.exp(s * (2 * T.dot(x, c.T) - (c**2).sum(1)[None, :])),
    "wrong coefficient": lambda x, c, s, v, w, r: T.exp(
        -((x**2).sum(1)[:, None] + (c**2).sum(1)[None, :] - T.dot(x, c.T))
    ),
    "norms swapped": lambda x, c, s, v, w, r: T.exp(
        -((x**2).sum(1)[None, :] + (x[::-1] ** 2).sum(1)[:, None] - 2 * T.dot(x, x[::-1].T))
    ),
    "norms of others": lambda x, c, s, v, w, r: T.exp(
        -((x**2).sum(1)[:, None] + (abs(c) ** 3).sum(1)[None, :] - 2 * T.dot(x, c.T))
    ),
    "norm of the wrong axis": lambda x, c, s, v, w, r: T.exp(
        -((T.dot(x, x.T) ** 2).sum(0)[:, None] + (x**2).sum(1)[None, :] - 2 * T.dot(x, x.T))
    ),
    "grows with a width": lambda x, c, s, v, w, r: T.exp(s * squared(x, c)),
    "grows": lambda x, c, s, v, w, r: T.exp(0.1 * squared(x, c)),
    "weights of any sign": lambda x, c, s, v, w, r: T.exp(
        -T.sum((v - 1) * difference(x, c) ** 2, axis=2)
    ),
    "widths a pair": lambda x, c, s, v, w, r: T.exp(-r[:, None] * w[None, :] * squared(x, c)),
    "width of row and feature": lambda x, c, s, v, w, r: T.exp(
        -T.sum((difference(x, c) * x[:, None, :]) ** 2, axis=2)
    ),
    "Cauchy": lambda x, c, s, v, w, r: 1 / (1 + s * squared(x, c)),
    "rational quadratic": lambda x, c, s, v, w, r: (1 + s * squared(x, c)) ** (-v[0]),
    "Matern": lambda x, c, s, v, w, r: (
        (1 + T.sqrt(3 * squared(x, c) + 1e-9)) * T.exp(-T.sqrt(3 * squared(x, c) + 1e-9))
    ),
    "periodic": lambda x, c, s, v, w, r: T.exp(-s * (T.sin(difference(x, c)) ** 2).sum(axis=2)),
    "max over features": lambda x, c, s, v, w, r: T.exp(-T.max(difference(x, c) ** 2, axis=2)),
    "rows of a scan in turn": lambda x, c, s, v, w, r: theano.map(
        lambda row, other: T.exp(-T.sum((row - other) ** 2)), [x, x[::-1]]
    )[0],
    "recurrent scan": lambda x, c, s, v, w, r: theano.scan(
        lambda row, before, all_: T.exp(-T.sum((all_ - row) ** 2, axis=1)) + 0.1 * before,
        sequences=x,
        outputs_info=T.zeros_like(c[:, 0]),
        non_sequences=c,
    )[0],
    "rounded to integers": lambda x, c, s, v, w, r: T.exp(
        -T.cast(T.cast(squared(x, c), "int32"), x.dtype)
    ),
    "residual of both": lambda x, c, s, v, w, r: T.exp(-squared(x, c) + T.outer(r, w)),
    "stopped gradient": lambda x, c, s, v, w, r: T.exp(
        -(
            (x**2).sum(1)[:, None]
            + (c**2).sum(1)[None, :]
            - 2 * T.dot(theano.gradient.disconnected_grad(x), c.T)
        )
    ),
    "variables mixed up": lambda x, c, s, v, w, r: T.exp(
        -((x**2).sum(1)[:, None] + ((c + 1) ** 2).sum(1)[None, :] - 2 * T.dot(x, c.T))
    ),
}


def filled_cells(x, c, n, m, amplitude):
    """The loops of the question: every cell set in turn."""
    out = T.zeros((n, m))
    weights = c.T
    for i in range(n):
        for j in range(m):
            value = T.exp(-((weights.T[j] - x[i]).norm(2) ** 2)) / 2 * amplitude[j] ** 2
            out = T.set_subtensor(out[i, j], value)
    return out


def filled_rows(x, c, n, m, amplitude):
    out = T.zeros((n, m))
    for i in range(n):
        out = T.set_subtensor(out[i], T.exp(-((x[i] - c) ** 2).sum(axis=1)))
    return out


def stacked_rows(x, c, n, m, amplitude):
    return T.stack([T.exp(-T.sum((x[i] - c) ** 2, axis=1)) for i in range(n)])


def stacked_cells(x, c, n, m, amplitude):
    return T.stacklists([[T.exp(-T.sum((x[i] - c[j]) ** 2)) for j in range(m)] for i in range(n)])


def stacked_columns(x, c, n, m, amplitude):
    return T.stack([T.exp(-T.sum((x - c[j]) ** 2, axis=1)) for j in range(m)], axis=1)


# Loops in Python, unrolled in the graph: functions of (x, c, n, m, amplitude).
UNROLLED = [filled_cells, filled_rows, stacked_rows, stacked_cells, stacked_columns]


def one_cell_missing(x, c, n, m, amplitude):
    out = T.zeros((n, m))
    for i in range(n):
        for j in range(m):
            if (i, j) != (1, 2):
                out = T.set_subtensor(out[i, j], T.exp(-T.sum((x[i] - c[j]) ** 2)))
    return out


def one_cell_other(x, c, n, m, amplitude):
    out = filled_cells(x, c, n, m, amplitude)
    return T.set_subtensor(out[1, 2], T.exp(-T.sum((x[1] - c[1]) ** 2)))


def one_cell_added(x, c, n, m, amplitude):
    return T.inc_subtensor(filled_cells(x, c, n, m, amplitude)[0, 0], 1)


def rows_out_of_order(x, c, n, m, amplitude):
    return T.stack([T.exp(-T.sum((x[n - 1 - i] - c) ** 2, axis=1)) for i in range(n)])


def always_the_first_column(x, c, n, m, amplitude):
    return T.stacklists(
        [[T.exp(-((x[i, 0] - c[j, i % 2]) ** 2)) for j in range(m)] for i in range(n)]
    )


UNROLLED_NEAR_MISSES = [
    one_cell_missing,
    one_cell_other,
    one_cell_added,
    rows_out_of_order,
    always_the_first_column,
]
