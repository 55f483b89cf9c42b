"""Spellings of the Gaussian kernel, and near misses: material of the tests of fuse.

Each function takes the variables x (n, d), c (m, d), scalar s, vectors v (d,), w (m,), r (n,) and
returns an expression. May import Theano and NumPy.
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
    tensordotted,
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
    "clipped exponent": lambda d2, s, v, w, r: T.exp(-T.nnet.softplus(s) * T.clip(d2, 1e-3, 1.5)),
    "epsilon": lambda d2, s, v, w, r: T.exp(-T.maximum(d2, 1e-7) / (2 * s**2)),
    "non-positive": lambda d2, s, v, w, r: T.exp(T.minimum(-d2 / s**2, 0)),
    "distance plus epsilon": lambda d2, s, v, w, r: T.exp(-s * T.sqrt(d2 + 1e-8) ** 2),
    "transposed": lambda d2, s, v, w, r: T.exp(-s * d2).T,
}

# name -> whole kernels, with features scaled
KERNELS = {
    "a batch of images, a codebook": lambda x, c, s, v, w, r: T.exp(
        -s * T.sqr(batch_of(x).dimshuffle(0, "x", 2, 1) - c.dimshuffle("x", 0, 1, "x")).sum(axis=2)
    ),
    "columns joined, that were scaled": lambda x, c, s, v, w, r: T.exp(
        -squared(T.stack([x[:, 0] / v[0], x[:, 1] / s], axis=1), c[:, :2])
    ),
    "angles as points on a circle": lambda x, c, s, v, w, r: T.exp(
        -squared(*(T.stack([T.cos(p[:, 0] * v[1]), T.sin(p[:, 0] * v[1])], axis=1) for p in (x, c)))
    ),
    "ARD, scaled before": lambda x, c, s, v, w, r: T.exp(-0.5 * expanded(x / v, c / v)),
    "ARD, scaled difference": lambda x, c, s, v, w, r: T.exp(
        -T.sum((difference(x, c) / v) ** 2, axis=2)
    ),
    "ARD, exp weights": lambda x, c, s, v, w, r: T.exp(
        -T.sum(T.exp(v) * difference(x, c) ** 2, axis=2)
    ),
    "ARD, expanded, over exp": lambda x, c, s, v, w, r: T.exp(
        -T.sum(x**2 / T.exp(v), axis=1)[:, None]
        - T.sum(c**2 / T.exp(v), axis=1)
        + 2 * T.dot(x / T.exp(v), c.T)
    ),
    "two distances, each over an exp": lambda x, c, s, v, w, r: T.exp(
        -squared(x, c) / (2 * T.exp(s)) - squared(x[:, :2], c[:, :2]) / T.nnet.softplus(v[0])
    ),
    "two distances, each times an abs": lambda x, c, s, v, w, r: T.exp(
        -squared(x, c) * abs(s) - squared(x[:, :2], c[:, :2]) * abs(v[0])
    ),
    "centres and width of one vector": lambda x, c, s, v, w, r: T.exp(
        -parts_of(w, v, r)[1] * squared(x, parts_of(w, v, r)[0])
    ),
    "a mean in the exponent": lambda x, c, s, v, w, r: T.exp(-squared(x, c) - w.mean()),
    "ones in the shape of the distance": lambda x, c, s, v, w, r: (
        T.exp(-s * squared(x, c)) * (T.ones_like(squared(x, c)) - T.eye(x.shape[0], c.shape[0]))
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


def parts_of(*vectors):
    """As of all parameters of a model: (centres, width)."""
    parameters = T.concatenate(vectors)
    return T.tanh(parameters[:9]).reshape((3, 3)), parameters[9:10].reshape(())


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


# -- as met in the field ---------------------------------------------------------------------------


def pymc3_distance(x, c):
    """pymc3.gp.cov.Stationary.square_dist, and with it the kernels of many Gaussian processes."""
    x2, c2 = T.sum(T.square(x), 1), T.sum(T.square(c), 1)
    product = -2.0 * T.dot(x, T.transpose(c))
    return T.clip(product + (T.reshape(x2, (-1, 1)) + T.reshape(c2, (1, -1))), 0.0, INF)


def pymc3_slice(x, c, s, v, w, r):
    x, c = (T.mul(T.as_tensor_variable(p[:, [0, 2]]), 1.0 / v[:2]) for p in (x, c))
    return s**2 * T.exp(-0.5 * pymc3_distance(x, c))


def pymc3_product(x, c, s, v, w, r):
    first = T.exp(-0.5 * pymc3_distance(T.mul(x[:, :2], 1 / s), T.mul(c[:, :2], 1 / s)))
    return first * T.exp(
        -0.5 * pymc3_distance(T.mul(x[:, 2:], 1 / v[0]), T.mul(c[:, 2:], 1 / v[0]))
    )


def ard_by_reshapes(x, c, s, v, w, r):
    x, c = T.sqrt(v) * x, T.sqrt(v) * c
    pairs = x.reshape((x.shape[0], 1, -1)) - c.reshape((1, c.shape[0], -1))
    return s * T.exp(-0.5 * (pairs**2).sum(2))


def ard_by_diagonal(x, c, s, v, w, r):
    """Mahalanobis distance by a scan, its matrix diagonal (PILCO in Theano)."""
    scale = T.diag(T.exp(-v))
    distance, _ = theano.scan(
        lambda row, all_, m: T.sum(((row - all_).dot(m)) ** 2, 1),
        sequences=[x],
        non_sequences=[c, scale],
    )
    return T.exp(2 * s - 0.5 * distance)


def quadratic_form(x, c, s, v, w, r):
    pairs = difference(x, c)
    return T.exp(-0.5 * T.sum(T.dot(pairs, T.diag(T.exp(-2 * v))) * pairs, axis=2))


def quadratic_form_expanded(x, c, s, v, w, r):
    metric = T.diag(1 / v**2)
    norms = T.sum(T.dot(x, metric) * x, 1)[:, None] + T.sum(T.dot(c, metric) * c, 1)[None, :]
    return T.exp(-0.5 * (norms - 2 * x.dot(metric).dot(c.T)))


def lower_triangle_before(x, c, s, v, w, r):
    factor = T.tril(T.outer(v, v))
    return T.exp(-0.5 * expanded(T.dot(x, factor), T.dot(c, factor)))


def weights_in_expansion(x, c, s, v, w, r):
    weights = T.exp(v)
    norms = T.dot(x**2, weights)[:, None] + T.dot(c**2, weights)[None, :]
    return T.exp(-0.5 * (norms - 2 * T.dot(x * weights, c.T)))


def svgd(x, c, s, v, w, r):
    """Stein variational gradient descent, bandwidth given."""
    products = T.dot(x, x.transpose())
    norms = T.repeat(T.reshape(T.sum(T.square(x), axis=1), (x.shape[0], 1)), x.shape[0], axis=1)
    return T.exp(-T.sub(T.add(norms, norms.transpose()), 2 * products) / s**2 / 2.0)


def svgd_tiled(x, c, s, v, w, r):
    norms = T.sum(x**2, axis=1).dimshuffle(0, "x")
    norms = T.tile(norms, (1, norms.shape[0]))
    distance = -2.0 * T.dot(x, x.T)
    distance += norms
    distance += norms.T
    return T.exp(-distance / s**2 / 2.0)


def moment_matching(x, c, s, v, w, r):
    """Generative moment matching: one kernel of both samples."""
    both = T.concatenate([x, c], axis=0)
    norms = T.sum(both * both, 1, keepdims=True)
    return T.exp(1.0 / s**2 * (T.dot(both, both.T) - 0.5 * norms - 0.5 * norms.T))


def parzen(x, c, s, v, w, r):
    scaled = (x.dimshuffle(0, "x", 1) - c.dimshuffle("x", 0, 1)) / s
    return T.exp(-0.5 * (scaled**2).sum(2)) / T.sqrt((2 * np.pi * s**2) ** 3)


def mixture(x, c, s, v, w, r):
    density = T.exp(-0.5 * T.sum(T.sqr(difference(x, c)), 2) / w**2) / (T.sqrt(2 * np.pi) * w) ** 3
    return w / w.sum() * density


def keras_repeat_elements(x, c, s, v, w, r):
    points = T.repeat(x.dimshuffle(0, 1, "x"), c.shape[0], axis=2)
    centres = T.repeat(c.T.dimshuffle("x", 0, 1), x.shape[0], axis=0)
    return T.exp(-T.sum(T.sqr((points - centres) / (2 * s)), axis=-2))


def keras_permute(x, c, s, v, w, r):
    pairs = (x.dimshuffle(0, "x", 1) - c).dimshuffle(1, 0, 2)
    return T.exp(-s * T.sum(T.sqr(pairs), axis=-1)).T


def keras_columns(x, c, s, v, w, r):
    columns = []
    for j in range(4):
        centre = T.tile(c[j].dimshuffle(0, "x"), (1, x.shape[0]))
        column = T.exp((-1 / s**2) * T.sum(T.sqr(centre - x.T), axis=0))
        columns.append(column.dimshuffle(0, "x"))
    return T.concatenate(columns, axis=1)


def draw_filters(x, c, s, v, w, r):
    """The attention window of DRAW: positions on a grid, a width for each row."""
    positions = T.arange(6, dtype=x.dtype)
    return T.exp(-((positions - r.dimshuffle([0, "x"])) ** 2) / 2.0 / (r**2).dimshuffle([0, "x"]))


def receptive_fields(x, c, s, v, w, r):
    across = x[:, 0].dimshuffle(0, "x") - c[:, 0]
    along = x[:, 1].dimshuffle(0, "x") - c[:, 1]
    return s * T.exp(-(across**2 / (2 * v[0] ** 2) + along**2 / (2 * v[1] ** 2)))


def rotated_receptive_fields(x, c, s, v, w, r):
    across = x[:, 0].dimshuffle(0, "x") - c[:, 0]
    along = x[:, 1].dimshuffle(0, "x") - c[:, 1]
    first, second = T.cos(s) * across + T.sin(s) * along, T.cos(s) * along - T.sin(s) * across
    return T.exp(-(first**2 / v[0] ** 2 + second**2 / v[1] ** 2) / 2)


def distance_in_the_plane(x, c, s, v, w, r):
    across = x[:, 0].dimshuffle(0, "x") - c[:, 0]
    along = x[:, 1].dimshuffle(0, "x") - c[:, 1]
    root = T.sqrt(across**2 + along**2)
    return T.exp(-0.5 * (root / s) * (root / s))


def loop_over_features(x, c, s, v, w, r):
    kernel = 1
    for k in range(3):
        kernel = kernel * T.exp(-0.5 * ((x[:, k][:, None] - c[:, k][None, :]) / v[k]) ** 2)
    return kernel


def normalised(x, c, s, v, w, r):
    rows = x / x.norm(2, axis=1)[:, None]
    return T.exp(-s * expanded(rows, c / c.norm(2, axis=1).dimshuffle(0, "x")))


def flattened_images(x, c, s, v, w, r):
    images = T.tile(x.dimshuffle(0, 1, "x", "x"), (1, 1, 2, 2))
    pixels = T.reshape(images, (x.shape[0], -1))
    return T.exp(-s * expanded(pixels, pixels))


def scan_over_both(x, c, s, v, w, r):
    def row(i, points, centres):
        return theano.scan(
            lambda j, i_, p, q: T.exp(-T.sum((p[i_] - q[j]) ** 2)),
            sequences=T.arange(centres.shape[0]),
            non_sequences=[i, points, centres],
        )[0]

    return theano.scan(row, sequences=T.arange(x.shape[0]), non_sequences=[x, c])[0]


def closures_over_both(x, c, s, v, w, r):
    return theano.map(
        lambda i: theano.map(
            lambda j: T.exp(-s * T.sum((x[i, :] - c[j, :]) ** 2)), T.arange(c.shape[0])
        )[0],
        T.arange(x.shape[0]),
    )[0]


def scan_of_tiles(x, c, s, v, w, r):
    return theano.map(
        lambda row, all_: T.exp(
            -s * T.sum((T.tile(row.dimshuffle("x", 0), (all_.shape[0], 1)) - all_) ** 2, axis=1)
        ),
        x,
        [c],
    )[0]


def added_up(vector):
    return theano.reduce(lambda u, total: total + u, vector, T.constant(0.0, dtype=vector.dtype))[0]


def scan_with_both_widths(x, c, s, v, w, r):
    return theano.map(
        lambda row, sigma, all_, factor: (
            factor * T.exp(-T.sum(T.sqr(row.dimshuffle("x", 0) - all_), axis=1) / (2 * sigma**2))
        ),
        sequences=[x, r],
        non_sequences=[c, w],
    )[0]


def _states(x, c, body, sequences, rows=0, all_=False, **kwargs):
    count = x.shape[0] + rows if rows else x.shape[0]
    start = T.zeros((count, c.shape[0]), dtype=x.dtype)
    states, _ = theano.scan(
        body, sequences=sequences, outputs_info=start, non_sequences=[x, c], **kwargs
    )
    return states[-1] + states.sum() if all_ else states[-1]


def _set_row(i, state, x, c):
    return T.set_subtensor(state[i, :], T.exp(-T.sum((x[i] - c) ** 2, axis=1)))


def _scan_rows(body, x, **kwargs):
    return theano.scan(body, **dict(dict(sequences=x), **kwargs))[0]


# name -> whole kernels, each from somebody's program, reduced to what it computes.
FIELD = {
    "widths an array of NumPy's": lambda x, c, s, v, w, r: T.exp(
        -np.array([0.3, 0.1, 0.5, 0.0], x.dtype) * squared(x, c)
    ),
    "divided by an array of NumPy's": lambda x, c, s, v, w, r: T.exp(
        T.maximum(expanded(x, c), 0) / (-2 * np.array([0.3, 0.1, 0.5, 2], x.dtype) ** 2)
    ),
    "weights of features an array of NumPy's": lambda x, c, s, v, w, r: T.exp(
        (-np.array([0.3, 0.1, 0.5], x.dtype) * difference(x, c) ** 2).sum(axis=2)
    ),
    "centres an array of NumPy's": lambda x, c, s, v, w, r: T.exp(
        -squared(x, T.constant(-np.arange(12.0).reshape(4, 3) / 9, dtype=x.dtype))
    ),
    "PyMC3, active dimensions": pymc3_slice,
    "PyMC3, product of two": pymc3_product,
    "PyMC3, alone": lambda x, c, s, v, w, r: (
        s**2 * T.exp(-0.5 * pymc3_distance(T.mul(x, 1.0 / v), T.mul(x, 1.0 / v)))
    ),
    "ARD by reshapes and roots": ard_by_reshapes,
    "ARD by a diagonal matrix": ard_by_diagonal,
    "quadratic form": quadratic_form,
    "quadratic form, expanded": quadratic_form_expanded,
    "lower triangle before": lower_triangle_before,
    "weights in the expansion": weights_in_expansion,
    "SVGD": svgd,
    "SVGD, tiled norms": svgd_tiled,
    "moment matching": moment_matching,
    "Parzen window": parzen,
    "mixture density": mixture,
    "Keras, repeat_elements": keras_repeat_elements,
    "Keras, permute_dimensions": keras_permute,
    "Keras, concatenated columns": keras_columns,
    "Keras, expand_dims": lambda x, c, s, v, w, r: T.exp(
        -1 * s * T.sum(T.pow(x.dimshuffle(0, 1, "x") - c.T, 2), axis=1)
    ),
    "Keras, RepeatVector": lambda x, c, s, v, w, r: T.exp(
        -T.sum(T.sqr(T.repeat(x.dimshuffle((0, "x", 1)), c.shape[0], axis=1) - c), axis=-1)
        / (2 * T.sqr(w))
    ),
    "Keras, root of a limited distance": lambda x, c, s, v, w, r: T.exp(
        -T.sqr(T.sqrt(T.maximum(T.sum(T.sqr(x.dimshuffle(0, 1, "x") - c.T), axis=1), 1e-7)))
        / (2 * s**2)
    ),
    "attention window of DRAW": draw_filters,
    "receptive fields": receptive_fields,
    "receptive fields, rotated": rotated_receptive_fields,
    "distance in the plane": distance_in_the_plane,
    "differences less a shift": lambda x, c, s, v, w, r: T.exp(
        -s * T.sum((x[:, None, :] - c[None, :, :] - v) ** 2, axis=2)
    ),
    "points and centres moved": lambda x, c, s, v, w, r: T.exp(
        -s * ((difference(x, c) - r[:, None, None] + w[None, :, None]) ** 2).sum(2)
    ),
    "mean times a length": lambda x, c, s, v, w, r: T.exp(
        -x.shape[1] * T.mean(difference(x, c) ** 2, axis=2) / (2 * s**2)
    ),
    "a product over features in Python": loop_over_features,
    "points on the sphere": normalised,
    "images flattened": flattened_images,
    "centred data": lambda x, c, s, v, w, r: T.exp(
        -s * expanded(x - x.mean(axis=0, keepdims=True), c - x.mean(axis=0, keepdims=True))
    ),
    "norms by batched_dot": lambda x, c, s, v, w, r: T.exp(
        -s * (T.batched_dot(x, x)[:, None] + T.batched_dot(c, c)[None, :] - 2 * T.dot(x, c.T))
    ),
    "products by tensordot": lambda x, c, s, v, w, r: T.exp(
        -s
        * (
            T.sum(x**2, 1)[:, None]
            + T.sum(c**2, 1)[None, :]
            - 2 * T.tensordot(x, c, axes=[[1], [1]])
        )
    ),
    "norms by fill": lambda x, c, s, v, w, r: T.exp(
        -s
        * (
            T.fill(T.dot(x, c.T), T.sum(x * x, 1).dimshuffle(0, "x"))
            + T.sum(c * c, 1).dimshuffle("x", 0)
            - 2 * T.dot(x, c.T)
        )
    ),
    "products in three dimensions": lambda x, c, s, v, w, r: T.exp(
        -s * ((x * x).sum(1)[:, None] + (c * c).sum(1) - 2 * (x[:, None, :] * c[None, :, :]).sum(2))
    ),
    "halves, and products first": lambda x, c, s, v, w, r: T.exp(
        (T.dot(x, c.T) - 0.5 * T.sum(x**2, 1, keepdims=True) - 0.5 * T.sum(c**2, 1)) / s**2
    ),
    "axes of length one around": lambda x, c, s, v, w, r: T.exp(
        -s * ((x[None, :, None, :] - c[None, None, :, :]) ** 2).sum(-1)
    )[0],
    "axes padded": lambda x, c, s, v, w, r: T.exp(
        -s * T.sum((T.shape_padaxis(x, 1) - T.shape_padaxis(c, 0)) ** 2, axis=-1)
    ),
    "axes swapped": lambda x, c, s, v, w, r: T.exp(
        -s * T.transpose(difference(x, c) ** 2, (2, 0, 1)).sum(0)
    ),
    "pairs in a long list": lambda x, c, s, v, w, r: T.exp(
        -s * T.sum(difference(x, c).reshape((-1, 3)) ** 2, 1)
    ).reshape((x.shape[0], c.shape[0])),
    "maximum with zeros": lambda x, c, s, v, w, r: T.exp(
        -s * T.maximum(expanded(x, c), T.zeros_like(expanded(x, c)))
    ),
    "gate": lambda x, c, s, v, w, r: T.exp(-s * ((expanded(x, c) > 0) * expanded(x, c))),
    "half of u and its absolute value": lambda x, c, s, v, w, r: T.exp(
        -s * (expanded(x, c) + abs(expanded(x, c))) / 2
    ),
    "columns of one feature": lambda x, c, s, v, w, r: T.exp(
        -((T.addbroadcast(x[:, 0:1], 1) - T.addbroadcast(c[:, 0:1], 1).T) ** 2) / s
    ),
    "points on a line, tiled": lambda x, c, s, v, w, r: T.exp(
        -s * (T.tile(r.dimshuffle(0, "x"), (1, w.shape[0])) - T.tile(w, (r.shape[0], 1))) ** 2
    ),
    "points on a line, outer products": lambda x, c, s, v, w, r: T.exp(
        -s * (T.outer(r, T.ones_like(w)) - T.outer(T.ones_like(r), w)) ** 2
    ),
    "density on a grid": lambda x, c, s, v, w, r: (
        1.0
        / T.sqrt(2.0 * np.pi * s**2)
        * T.exp(-0.5 * T.pow((r[:, None] - T.as_tensor_variable(np.linspace(0, 1, 6))) / s, 2))
    ),
    "numbers as centres": lambda x, c, s, v, w, r: T.exp(
        -s * ((x[:, None, :] - np.arange(12.0).reshape(1, 4, 3) / 7) ** 2).sum(2)
    ),
    "centres in a shared variable": lambda x, c, s, v, w, r: T.exp(
        -T.exp(w) * squared(x, theano.shared(np.arange(12.0).reshape(4, 3) / 7))
    ),
    "integers": lambda x, c, s, v, w, r: T.exp(
        -s * expanded(T.cast(T.cast(T.round(x), "int32"), x.dtype), c)
    ),
    "centres without a gradient": lambda x, c, s, v, w, r: T.exp(
        -s * expanded(x, theano.gradient.disconnected_grad(c))
    ),
    "rows chosen by indices": lambda x, c, s, v, w, r: T.exp(
        -s * expanded(x[T.constant([0, 2, 1])], c)
    ),
    "rows scaled": lambda x, c, s, v, w, r: T.exp(-expanded(x * r[:, None], c)),
    "differences scaled by columns": lambda x, c, s, v, w, r: T.exp(
        -0.5 * ((difference(x, c) / w[None, :, None]) ** 2).sum(2)
    ),
    "differences scaled by rows": lambda x, c, s, v, w, r: T.exp(
        -0.5 * ((difference(x, c) / r[:, None, None]) ** 2).sum(2)
    ),
    "width of rows, factor of columns": lambda x, c, s, v, w, r: (
        w * T.exp(-squared(x, c) / (2 * r[:, None] ** 2))
    ),
    "factors of rows and columns": lambda x, c, s, v, w, r: (
        T.outer(r, r) * T.exp(-s * expanded(x, x))
    ),
    "exp of sums of the rest": lambda x, c, s, v, w, r: T.exp(
        T.log(w) - r[:, None] - 0.5 * squared(x, c)
    ),
    "softmax of weights": lambda x, c, s, v, w, r: T.exp(
        -T.sum(T.nnet.softmax(v)[0] * difference(x, c) ** 2, axis=2)
    ),
    "relu of weights": lambda x, c, s, v, w, r: T.exp(
        -T.sum((T.nnet.relu(v) + 1e-3) * difference(x, c) ** 2, axis=2)
    ),
    "logarithm taken and undone": lambda x, c, s, v, w, r: T.exp(
        T.log(s) + T.log(T.exp(-s * expanded(x, c)))
    ),
    "named operations only": lambda x, c, s, v, w, r: T.exp(
        T.true_div(T.neg(squared(x, c)), T.mul(2.0, T.pow(s, 2.0)))
    ),
    "inv of exp": lambda x, c, s, v, w, r: T.inv(T.exp(s * expanded(x, c)) * w),
    "two to the power": lambda x, c, s, v, w, r: T.exp2(-s * expanded(x, c)),
    "the question's map": lambda x, c, s, v, w, r: theano.map(
        lambda row, weights, scale: T.exp(-((weights.T - row).norm(2, axis=1) ** 2)) / 2 * scale**2,
        sequences=[x],
        non_sequences=[c.T, w],
    )[0],
    "scan over two indices": scan_over_both,
    "scan over two indices, closures": closures_over_both,
    "scan of tiles": scan_of_tiles,
    "scan with widths and factors": scan_with_both_widths,
    "width that a loop adds up": lambda x, c, s, v, w, r: T.exp(-squared(x, c) * added_up(v)),
    "divided by what a loop adds up": lambda x, c, s, v, w, r: (
        T.exp(-squared(x, c) / added_up(v)) * added_up(w)
    ),
    "scan of roots": lambda x, c, s, v, w, r: T.exp(
        -(theano.map(lambda p, q: T.sqrt(T.sum(T.sqr(q - p), axis=1)), x, [c])[0] ** 2) / (2 * s**2)
    ),
    "scan of products with itself": lambda x, c, s, v, w, r: theano.map(
        lambda p, all_: theano.map(lambda q, a: T.exp(-s * T.dot(a - q, a - q)), all_, [p])[0],
        x,
        [c],
    )[0],
    "scan, expanded": lambda x, c, s, v, w, r: theano.map(
        lambda p, q: T.exp(-s * (T.dot(p, p) + (q**2).sum(1) - 2 * T.dot(q, p))), x, [c]
    )[0],
    "scan over features": lambda x, c, s, v, w, r: T.exp(
        -s
        * theano.map(lambda a, b: T.sqr(a.dimshuffle(0, "x") - b.dimshuffle("x", 0)), [x.T, c.T])[
            0
        ].sum(axis=0)
    ),
    "scan, strict, of indices": lambda x, c, s, v, w, r: _scan_rows(
        lambda i, q, p, g: T.exp(-g * T.sum(T.sqr(q - p[i]), axis=1)),
        T.arange(x.shape[0]),
        non_sequences=[c, x, s],
        strict=True,
    ),
    "scan, dictionaries and taps": lambda x, c, s, v, w, r: _scan_rows(
        lambda p, q: T.exp(-s * ((p - q) ** 2).sum(1)),
        [dict(input=x, taps=[0])],
        non_sequences=c,
        outputs_info=[None],
    ),
    "scan, number of steps": lambda x, c, s, v, w, r: _scan_rows(
        lambda p, q: T.exp(-s * ((p - q) ** 2).sum(1)), x, non_sequences=c, n_steps=x.shape[0]
    ),
    "scan of all rows but the last": lambda x, c, s, v, w, r: _scan_rows(
        lambda p, q: T.exp(-s * ((p - q) ** 2).sum(1)), x[:-1], non_sequences=c
    ),
    "scan that sets the rows": lambda x, c, s, v, w, r: _states(
        x, c, _set_row, T.arange(x.shape[0])
    ),
    "scan that sets the rows it is given": lambda x, c, s, v, w, r: _states(
        x,
        c,
        lambda i, row, state, x_, c_: T.set_subtensor(
            state[i], T.exp(-s * T.sum((row - c_) ** 2, axis=1))
        ),
        [T.arange(x.shape[0]), x],
    ),
    "own distances set": lambda x, c, s, v, w, r: T.exp(
        -s * T.set_subtensor(squared(x, x)[T.arange(x.shape[0]), T.arange(x.shape[0])], 50.0)
    ),
    "own distances filled": lambda x, c, s, v, w, r: (
        s * T.exp(T.fill_diagonal(-expanded(x, x) / 2, -INF))
    ),
    "own distances filled, widths of rows": lambda x, c, s, v, w, r: T.exp(
        -r[:, None] * T.fill_diagonal(squared(x, x), 9.0)
    ),
    "own distances set, widths of rows": lambda x, c, s, v, w, r: (
        lambda i, d: r * T.exp(-T.set_subtensor(d[i, i], s) / T.sqr(r)[:, None])
    )(T.arange(x.shape[0]), expanded(x, x)),
    "first columns set, widths of columns": lambda x, c, s, v, w, r: T.exp(
        -T.set_subtensor(squared(x, c)[:, :2], 1.0) * w
    ),
    "first row set": lambda x, c, s, v, w, r: T.exp(-s * T.set_subtensor(squared(x, c)[0], w)),
    "some rows set": lambda x, c, s, v, w, r: T.exp(
        -s * T.sqr(T.set_subtensor(T.sqrt(squared(x, c))[[0, 2]], s))
    ),
    "masked pairs": lambda x, c, s, v, w, r: T.exp(
        T.switch(T.outer(r, w) > 0.3, -expanded(x, c) / w, -1e9)
    ),
    "masked pairs, widths and factors after": lambda x, c, s, v, w, r: (
        w * T.exp(-T.switch(T.eq(T.outer(r, w) > 0.3, 0), INF, squared(x, c)) / r[:, None])
    ),
    "masked columns": lambda x, c, s, v, w, r: T.exp(
        T.switch((w > 0.6)[None, :], -s * squared(x, c), -100)
    ),
    "a mask in a mask": lambda x, c, s, v, w, r: T.exp(
        -s
        * T.switch(
            (x[:, 0] > 0)[:, None],
            T.switch(T.outer(r, w) > 0.3, squared(x, c), 3),
            r[:, None],
        )
    ),
    "scan that computes a factor, too": lambda x, c, s, v, w, r: (lambda o: o[0] * o[1][:, None])(
        theano.scan(
            lambda p, q: [T.exp(-s * ((p - q) ** 2).sum(1)), p.sum()],
            sequences=x,
            non_sequences=c,
        )[0]
    ),
}


# Keras's backend functions, as they are in keras/backend/theano_backend.py.
def keras_expand_dims(x, dim):
    pattern = list(range(x.ndim))
    pattern.insert(dim, "x")
    return x.dimshuffle(pattern)


def keras_repeat(x, n):
    return T.extra_ops.repeat(x.dimshuffle((0, "x", 1)), n, axis=1)


def keras_sqrt(x):
    return T.sqrt(T.clip(x, 0.0, INF))


def keras_l2_normalize(x):
    return x / T.sqrt(T.maximum(T.sum(T.square(x), axis=-1, keepdims=True), 1e-7))


def tsne_neighbours(x, c, s, v, w, r):
    """t-SNE's conditional probabilities: a width for each row, nothing on the diagonal."""
    count = x.shape[0]
    norms = (x**2).sum(axis=1)
    distance = norms.reshape((count, 1)) + norms.reshape((1, count)) - 2 * x.dot(x.T)
    kernel = T.exp(-distance / ((2 * (r**2)).reshape((count, 1))))
    without_self = T.fill_diagonal(kernel, 0)
    return without_self / T.sum(without_self, axis=1).reshape((count, 1))


def gpml(x, c, s, v, w, r):
    """sq_dist of GPML: points in columns, less the mean of all of them."""
    a, b = x.T / v[:, None], c.T / v[:, None]
    n, m = T.cast(a.shape[1], x.dtype), T.cast(b.shape[1], x.dtype)
    mean = (m / (n + m)) * T.mean(b, 1, keepdims=True) + (n / (n + m)) * T.mean(a, 1, keepdims=True)
    a, b = a - mean, b - mean
    distance = T.sum(a * a, 0)[:, None] + T.sum(b * b, 0)[None, :] - 2 * T.dot(a.T, b)
    return T.exp(2 * s) * T.exp(-T.maximum(distance, 0) / 2)


def gpml_ard(x, c, s, v, w, r):
    scale = T.diag(1 / T.exp(v))
    a, b = T.dot(scale, x.T), T.dot(scale, c.T)
    distance = T.sum(a**2, 0)[:, None] + T.sum(b**2, 0)[None, :] - 2 * T.dot(a.T, b)
    return T.exp(2 * s) * T.exp(-distance / 2)


def gram_diagonals(x, c, diagonal):
    rows, columns = diagonal(T.dot(x, x.T)), diagonal(T.dot(c, c.T))
    return rows.dimshuffle(0, "x") + columns.dimshuffle("x", 0) - 2.0 * T.dot(x, c.T)


def reduced_over_features(x, c, s, v, w, r):
    distance, _ = theano.reduce(
        lambda a, b, total: total + T.sqr(a.dimshuffle(0, "x") - b.dimshuffle("x", 0)),
        sequences=[x.T, c.T],
        outputs_info=T.zeros((x.shape[0], c.shape[0]), x.dtype),
    )
    return T.exp(-s * distance)


def folded_over_features(x, c, s, v, w, r):
    distance, _ = theano.foldl(
        lambda k, total, x_, c_: total + (x_[:, k][:, None] - c_[:, k][None, :]) ** 2,
        T.arange(x.shape[1]),
        T.zeros_like(T.dot(x, c.T)),
        [x, c],
    )
    return T.exp(-distance / (2 * s**2))


def scanned_features(x, c, s, v, w, r):
    totals, _ = theano.scan(
        lambda k, total: (
            total + ((x[:, k].dimshuffle(0, "x") - c[:, k].dimshuffle("x", 0)) / v[k]) ** 2
        ),
        sequences=T.arange(3),
        outputs_info=T.zeros((x.shape[0], c.shape[0]), x.dtype),
    )
    return T.exp(-0.5 * totals[-1])


def rows_and_their_features(x, c, s, v, w, r):
    def row(p, q):
        return theano.reduce(
            lambda k, total, p_, q_: total + (p_[k] - q_[:, k]) ** 2,
            T.arange(3),
            T.zeros_like(q[:, 0]),
            [p, q],
        )[0]

    return T.exp(-s * theano.map(row, x, [c])[0])


def tiled_then_reshaped(x, c, s, v, w, r):
    n, m, d = x.shape[0], c.shape[0], x.shape[1]
    rows, columns = T.tile(x, (1, m)).reshape((n, m, d)), T.tile(c, (n, 1)).reshape((n, m, d))
    return T.exp(-s * T.sum((rows - columns) ** 2, axis=2))


def map_neighbourhood(x, c, s, v, w, r):
    """A self-organising map: the neurons' places on the grid, and the winner's for each row."""
    grid = T.constant(np.array([[i, j] for i in range(2) for j in range(2)]), dtype=x.dtype)
    winner = T.argmin(T.sum(difference(x, c) ** 2, axis=2), axis=1)
    return T.exp(-T.sum((grid[None, :, :] - grid[winner][:, None, :]) ** 2, axis=2) / (2 * s**2))


def map_neighbourhood_of_integers(x, c, s, v, w, r):
    grid = T.constant(np.array([[i, j] for i in range(3) for j in range(2)], "int32"))
    pairs = grid.dimshuffle(0, "x", 1) - grid.dimshuffle("x", 0, 1)
    return T.exp(-T.sum(pairs**2, axis=2) / (2 * s**2))


def ordered_grid(x, c, s, v, w, r):
    rows, columns = T.ogrid[0:6, 0:4]
    return T.exp(-s * (rows - columns) ** 2)


def deep_kernel(x, c, s, v, w, r):
    def features(points):
        hidden = T.nnet.relu(T.dot(points, T.outer(v, v[:2])) + v[:2])
        return hidden * T.exp(-v[:2])

    return T.exp(2 * s) * T.exp(-0.5 * expanded(features(x), features(c)))


def one_vector_of_parameters(x, c, s, v, w, r):
    parameters = T.exp(T.concatenate([w[:1], v]))
    scale = parameters[1:4]
    return parameters[0] * T.exp(-0.5 * expanded(x * scale, c * scale))


def batch_of(x):
    """Two matrices of n rows, (2, n, d)."""
    return T.stack([x, T.tanh(x)])


def kernel_pooling(x, c, s, v, w, r):
    """K-NRM: soft counts of similarities, a kernel at each of some levels."""
    similarity = T.dot(batch_of(x), c.T).dimshuffle(0, 1, 2, "x")
    levels = T.constant(np.linspace(-1, 1, 4), dtype=x.dtype).dimshuffle("x", "x", "x", 0)
    return T.exp(-T.sqr(similarity - levels) / (2 * s**2))


def handwriting_window(x, c, s, v, w, r):
    """The attention of Graves' handwriting synthesis, before its sum over components."""
    factor, width, place = (u.dimshuffle(0, 1, "x") for u in (T.sqr(x), T.exp(x), x))
    return factor * T.exp(-width * T.sqr(place - T.arange(4)))


FIELD.update(
    {
        "t-SNE": tsne_neighbours,
        "GPML's sq_dist": gpml,
        "GPML's covSEard": gpml_ard,
        "diagonals of nlinalg": lambda x, c, s, v, w, r: T.exp(
            -0.5
            * expanded(
                T.dot(x, T.nlinalg.alloc_diag(T.inv(v))), T.dot(c, T.nlinalg.AllocDiag()(1 / v))
            )
        ),
        "norms by extract_diag": lambda x, c, s, v, w, r: T.exp(
            -s * gram_diagonals(x, c, T.nlinalg.extract_diag)
        ),
        "norms by nlinalg.diag": lambda x, c, s, v, w, r: T.exp(
            -s * gram_diagonals(x, c, T.nlinalg.diag)
        ),
        "reduce over features": reduced_over_features,
        "foldl over features": folded_over_features,
        "scan over features, the last sum": scanned_features,
        "map over rows, reduce over features": rows_and_their_features,
        "tiled, then reshaped": tiled_then_reshaped,
        "repeated, then reshaped": lambda x, c, s, v, w, r: T.exp(
            -s
            * T.sum(
                (T.repeat(x, c.shape[0], axis=0).reshape((x.shape[0], c.shape[0], x.shape[1])) - c)
                ** 2,
                axis=2,
            )
        ),
        "Keras, K.repeat": lambda x, c, s, v, w, r: T.exp(
            -T.sum(T.sqr(keras_repeat(x, 4) - c), axis=-1) / (2 * s**2)
        ),
        "Keras, l2_normalize": lambda x, c, s, v, w, r: T.exp(
            -s
            * T.sum(
                T.sqr(keras_expand_dims(keras_l2_normalize(x), 1) - keras_l2_normalize(c)), axis=-1
            )
        ),
        "Keras, K.sqrt and K.pow": lambda x, c, s, v, w, r: T.exp(
            -T.pow(keras_sqrt(T.sum(T.sqr(keras_expand_dims(x, 1) - c), axis=-1)), 2) * w
        ),
        "Keras, batch_dot": lambda x, c, s, v, w, r: T.exp(
            -s
            * (
                T.batched_tensordot(x, x, axes=[1, 1]).dimshuffle(0, "x")
                + T.batched_tensordot(c, c, axes=[1, 1]).dimshuffle("x", 0)
                - 2 * T.dot(x, c.dimshuffle(1, 0))
            )
        ),
        "Keras, K.mean": lambda x, c, s, v, w, r: T.exp(
            -s * T.mean(T.sqr(keras_expand_dims(x, 1) - keras_expand_dims(c, 0)), axis=-1)
        ),
        "Keras, sequences of points": lambda x, c, s, v, w, r: T.exp(
            -w * T.sum(T.sqr(keras_expand_dims(batch_of(x), 2) - c), axis=-1)
        ),
        "Lasagne, squared_error": lambda x, c, s, v, w, r: T.exp(
            -((x.dimshuffle(0, "x", 1) - c) ** 2).sum(axis=-1) * T.nnet.softplus(w)
        ),
        "inv of twice the square": lambda x, c, s, v, w, r: T.exp(
            -expanded(x, c) * T.inv(2 * T.sqr(s))
        ),
        "power minus two": lambda x, c, s, v, w, r: T.exp(-squared(x, c) * T.pow(w, -2) * 0.5),
        "logarithm of a density": lambda x, c, s, v, w, r: T.exp(
            -0.5 * np.log(2 * np.pi)
            - T.log(s)
            - 0.5 * T.sqr((r[:, None] - w.dimshuffle("x", 0)) / s)
        ),
        "third power": lambda x, c, s, v, w, r: T.exp(-squared(x, c) / s) ** (1.0 / 3),
        "root of two in the width": lambda x, c, s, v, w, r: T.exp(
            -T.sum(((x[:, None, :] - c) / (T.sqrt(2.0) * s)) ** 2, axis=2)
        ),
        "e to the minus one": lambda x, c, s, v, w, r: T.pow(np.exp(-1.0), s * squared(x, c)),
        "width limited from below": lambda x, c, s, v, w, r: T.exp(
            -squared(x, c) / (2 * T.maximum(s, 1e-3) ** 2)
        ),
        "widths clipped": lambda x, c, s, v, w, r: T.exp(-squared(x, c) / T.clip(w, 0.1, 10.0)),
        "axes padded left": lambda x, c, s, v, w, r: T.exp(
            -s * T.sum((x.dimshuffle(0, "x", 1) - T.shape_padleft(c)) ** 2, axis=2)
        ),
        "axes padded right": lambda x, c, s, v, w, r: T.exp(
            -s * T.sum((T.shape_padright(x) - c.T) ** 2, axis=1)
        ),
        "a width of shape (1, 1)": lambda x, c, s, v, w, r: T.exp(
            -T.shape_padleft(s, 2) * expanded(x, c)
        ),
        "a width of shape (1,)": lambda x, c, s, v, w, r: T.exp(
            -T.addbroadcast(v[:1], 0) * expanded(x, c)
        ),
        "sums in float64": lambda x, c, s, v, w, r: T.exp(
            -s * T.sum(T.sqr(difference(x, c)), axis=-1, acc_dtype="float64")
        ),
        "exponent clipped": lambda x, c, s, v, w, r: T.exp(T.clip(-expanded(x, c) / s, -50.0, 0.0)),
        "exponent limited from below": lambda x, c, s, v, w, r: T.exp(
            T.maximum(-squared(x, c) / (2 * s**2), -3.0)
        ),
        "clipped on both sides, root, square": lambda x, c, s, v, w, r: T.exp(
            -(T.sqrt(T.clip(expanded(x, c), 1e-12, 1e12)) ** 2) / s
        ),
        "largest": lambda x, c, s, v, w, r: T.exp(-s * T.largest(0, expanded(x, c))),
        "switch at an epsilon": lambda x, c, s, v, w, r: (
            lambda d2: T.exp(-(s**2) * T.switch(d2 > 1e-8, d2, 1e-8))
        )(expanded(x, c)),
        "gate among factors": lambda x, c, s, v, w, r: (lambda d2: T.exp(-s * d2 * T.gt(d2, 0)))(
            expanded(x, c)
        ),
        "jitter on the diagonal": lambda x, c, s, v, w, r: (
            s**2 * T.exp(-0.5 * expanded(x / v, x / v)) + 1e-6 * T.eye(x.shape[0])
        ),
        "diagonal taken out": lambda x, c, s, v, w, r: (
            T.exp(-s * expanded(x, x)) * (1 - T.eye(x.shape[0]))
        ),
        "self-organising map": map_neighbourhood,
        "self-organising map, integers": map_neighbourhood_of_integers,
        "grid by ogrid": ordered_grid,
        "grid by arange": lambda x, c, s, v, w, r: T.exp(
            -s * T.sqr(T.arange(6).dimshuffle(0, "x") - T.arange(4).dimshuffle("x", 0))
        ),
        "deep kernel": deep_kernel,
        "one vector of parameters": one_vector_of_parameters,
        "inverse factor on differences": lambda x, c, s, v, w, r: T.exp(
            -0.5
            * T.sqr(
                T.dot(difference(x, c), T.nlinalg.matrix_inverse(T.outer(v, v) + T.eye(3)))
            ).sum(-1)
        ),
        "a matrix by tensordot": lambda x, c, s, v, w, r: T.exp(
            -T.sum(T.sqr(T.tensordot(difference(x, c), T.outer(v, v), axes=[[2], [0]])), axis=2)
        ),
        "weights by tensordot": lambda x, c, s, v, w, r: T.exp(
            -T.tensordot(T.sqr(difference(x, c)), T.exp(v), axes=1)
        ),
        "weights that may be zero": lambda x, c, s, v, w, r: T.exp(
            -T.sum(T.nnet.relu(v - 0.7) * difference(x, c) ** 2, axis=2)
        ),
        "absolute values as weights": lambda x, c, s, v, w, r: T.exp(
            -T.dot(T.sqr(difference(x, c)), T.abs_(v))
        ),
        "features chosen by a mask": lambda x, c, s, v, w, r: T.exp(
            -s * T.sum(T.gt(v, 0.8) * difference(x, c) ** 2, axis=2)
        ),
        "a weight for each feature": lambda x, c, s, v, w, r: T.exp(
            -T.sum(v * difference(x, c) ** 2, axis=2)
        ),
        "a variance for each feature": lambda x, c, s, v, w, r: (
            s * T.exp(-0.5 * T.sum(difference(x, c) ** 2 / v, axis=2))
        ),
        "weights, some below zero": lambda x, c, s, v, w, r: T.exp(
            -r[:, None] * T.dot(difference(x, c) ** 2, v - 1)
        ),
        "weights, a power of any sign": lambda x, c, s, v, w, r: T.exp(
            -T.sum(T.pow(v - 1, 3) * difference(x, x) ** 2, axis=2)
        ),
        "features appended": lambda x, c, s, v, w, r: T.exp(
            -s
            * squared(
                T.concatenate([x, r.dimshuffle(0, "x")], axis=1),
                T.concatenate([c, w.dimshuffle(0, "x")], axis=1),
            )
        ),
        "flattened by T.flatten": lambda x, c, s, v, w, r: T.exp(
            -s * expanded(*(T.flatten(p.reshape((-1, 1, 3, 1)), 2) for p in (x, c)))
        ),
        "columns joined": lambda x, c, s, v, w, r: T.join(
            1, *[T.exp(-s * T.sum((x - c[j]) ** 2, axis=1, keepdims=True)) for j in range(4)]
        ),
        "columns in a list, a width each": lambda x, c, s, v, w, r: (
            T.as_tensor_variable([T.exp(-w[j] * T.sqr(x - c[j, :]).sum(1)) for j in range(4)]).T
        ),
        "scan, diagonal of products": lambda x, c, s, v, w, r: _scan_rows(
            lambda p, q: T.exp(-s * T.diag(T.dot(q - p, (q - p).T))), x, non_sequences=c
        ),
        "scan, trace of an outer product": lambda x, c, s, v, w, r: theano.map(
            lambda p, q: theano.map(
                lambda b, a: T.exp(-s * T.nlinalg.trace(T.outer(a - b, a - b))), q, [p]
            )[0],
            x,
            [c],
        )[0],
        "scan, product with ones": lambda x, c, s, v, w, r: theano.map(
            lambda p, q: T.exp(-s * T.dot(T.sqr(q - p), T.ones((q.shape[1],)))), x, [c]
        )[0],
        "axes swapped by swapaxes": lambda x, c, s, v, w, r: T.exp(
            -s
            * T.sum(
                T.square(T.swapaxes(x.dimshuffle("x", 0, 1) - c.dimshuffle(0, "x", 1), 0, 1)),
                axis=2,
            )
        ),
        "norms by norm": lambda x, c, s, v, w, r: T.exp(
            -s
            * (
                x.norm(2, axis=1)[:, None] ** 2
                + c.norm(2, axis=1)[None, :] ** 2
                - 2 * T.dot(x, c.T)
            )
        ),
        "normalised network": lambda x, c, s, v, w, r: (
            lambda k: k / (k.sum(axis=1, keepdims=True) + 1e-8)
        )(T.exp(-squared(x, c) / (2 * T.sqr(w)))),
        "a length as the width": lambda x, c, s, v, w, r: T.exp(-squared(x, c) / x.shape[1]),
        "ratio of exponentials": lambda x, c, s, v, w, r: (
            T.exp(2 * s * T.dot(x, c.T))
            / (T.exp(s * T.sum(x * x, 1))[:, None] * T.exp(s * T.sum(c * c, 1))[None, :])
        ),
        "half for each side": lambda x, c, s, v, w, r: T.exp(
            -s * (T.sum(x**2, 1)[:, None] - T.dot(x, c.T))
            - s * (T.sum(c**2, 1)[None, :] - T.dot(x, c.T))
        ),
        "means of squares": lambda x, c, s, v, w, r: T.exp(
            -(
                T.mean(T.sqr(x), 1)[:, None]
                + T.mean(T.sqr(c), 1)[None, :]
                - 2 * T.dot(x, c.T) / x.shape[1]
            )
            / s
        ),
        "sizes as numbers": lambda x, c, s, v, w, r: T.exp(
            -s * T.sum(T.sqr(T.reshape(x, (5, 1, 3)) - T.reshape(c, (1, 4, 3))), axis=2)
        ),
        "a batch of matrices": lambda x, c, s, v, w, r: T.exp(
            -s * ((batch_of(x)[:, :, None, :] - c[None, None, :, :]) ** 2).sum(3)
        ),
        "a batch, expanded": lambda x, c, s, v, w, r: (
            lambda b: T.exp(
                -s * (T.sqr(b).sum(-1, keepdims=True) + T.sqr(c).sum(-1) - 2 * T.dot(b, c.T))
            )
        )(batch_of(x)),
        "a batch, a width for each matrix": lambda x, c, s, v, w, r: T.exp(
            -T.stack([s, 2 * s]).dimshuffle(0, "x", "x")
            * T.sum(T.sqr(batch_of(x).dimshuffle(0, 1, "x", 2) - c), axis=3)
        ),
        "a batch, factors of rows": lambda x, c, s, v, w, r: (
            r[None, :, None]
            * T.exp(-w * T.sum(T.sqr(batch_of(x).dimshuffle(0, 1, "x", 2) - c), axis=3))
        ),
        "a batch, columns first": lambda x, c, s, v, w, r: T.exp(
            -s
            * T.sum(
                T.sqr(batch_of(x).dimshuffle("x", 0, 1, 2) - c.dimshuffle(0, "x", "x", 1)), axis=3
            )
        ),
        "kernel pooling": kernel_pooling,
        "distances smeared over levels": lambda x, c, s, v, w, r: T.exp(
            -s * T.sqr(T.dot(x, c.T).dimshuffle(0, 1, "x") - v)
        ),
        "attention windows of DRAW": lambda x, c, s, v, w, r: T.exp(
            -((T.arange(6, dtype=x.dtype) - x.dimshuffle(0, 1, "x")) ** 2)
            / 2.0
            / r.dimshuffle(0, "x", "x") ** 2
        ),
        "attention window of handwriting": handwriting_window,
    }
)

# name -> (number of kernels, expression)
SEVERAL = {
    "sum of two": (
        2,
        lambda x, c, s, v, w, r: (
            T.exp(-0.5 * pymc3_distance(x / s, c / s)) + T.exp(-0.5 * pymc3_distance(x / v, c / v))
        ),
    ),
    "MMD from Gram matrices": (3, lambda x, c, s, v, w, r: mmd(x, c, s)[0]),
    "MMD without diagonals": (3, lambda x, c, s, v, w, r: mmd(x, c, s)[1]),
    "Nystroem": (
        2,
        lambda x, c, s, v, w, r: T.dot(
            T.exp(-s * expanded(x, c)),
            T.nlinalg.matrix_inverse(T.exp(-s * expanded(c, c)) + T.eye(c.shape[0])),
        ),
    ),
    "kernel times another": (
        2,
        lambda x, c, s, v, w, r: (
            T.exp(-s * expanded(x, c)) * T.exp(-0.5 * T.sqr(r[:, None] - w[None, :]))
        ),
    ),
    "product of what two widths give": (
        2,
        lambda x, c, s, v, w, r: (lambda d2: (1 + T.exp(-d2)) * (1 + T.exp(-s * d2)))(
            expanded(x, c)
        ),
    ),
    "one distance, amplitudes of columns": (
        2,
        lambda x, c, s, v, w, r: (lambda d2: T.exp(-d2) + w * T.exp(-s * d2))(expanded(x, c)),
    ),
    "one distance, four widths": (
        4,
        lambda x, c, s, v, w, r: (
            lambda d2: T.stack([T.exp(-g * d2).sum(axis=1) for g in (s, v[0], v[1], 2)])
        )(squared(x, c)),
    ),
    "a mixture, and another of its distance": (
        3,
        lambda x, c, s, v, w, r: (
            lambda d2: T.exp(-s * d2) * (T.exp(-2 * d2) + T.tanh(T.exp(-d2)))
        )(squared(x, c)),
    ),
    "of one distance, one used twice": (
        2,
        lambda x, c, s, v, w, r: (lambda first, second: first + second + T.tanh(first))(
            T.exp(-squared(x, c)), T.exp(-s * squared(x, c))
        ),
    ),
    "a loop over two kernels of one distance": (
        2,
        lambda x, c, s, v, w, r: T.stack(
            theano.map(lambda row: [T.exp(-g * T.sqr(c - row).sum(axis=1)) for g in (s, v[0])], x)[
                0
            ]
        ),
    ),
}


def mixed_mmd(x, c, s, v):
    """Kernels of two samples and of both, of three widths (Sutherland's opt-mmd, in Theano)."""
    xx, xc, cc = T.dot(x, x.T), T.dot(x, c.T), T.dot(c, c.T)
    x_norms, c_norms = T.diagonal(xx), T.diagonal(cc)
    row, column = (lambda u: u.dimshuffle(0, "x")), (lambda u: u.dimshuffle("x", 0))
    k_xx, k_xc, k_cc = 0, 0, 0
    for sigma, weight in zip([0.5, s, v[1]], [1, 0.25, v[0]]):
        gamma = 1 / (2 * sigma**2)
        k_xx += weight * T.exp(-gamma * (-2 * xx + column(x_norms) + row(x_norms)))
        k_xc += weight * T.exp(-gamma * (-2 * xc + column(c_norms) + row(x_norms)))
        k_cc += weight * T.exp(-gamma * (-2 * cc + column(c_norms) + row(c_norms)))
    return k_xx.mean() + k_cc.mean() - 2 * k_xc.mean()


# name -> (number of mixtures, number of other kernels, expression): kernels that share distances.
MIXTURES = {
    "sum of widths": (
        1,
        0,
        lambda x, c, s, v, w, r: sum(T.exp(-g * squared(x, c)) for g in (0.25, s, v[0], 2)),
    ),
    "five widths": (
        1,
        0,
        lambda x, c, s, v, w, r: (
            lambda d2: sum(T.exp(-d2 / width) for width in (1, 2, 5, 10, 20))
        )(expanded(x, c)),
    ),
    "one distance": (
        1,
        0,
        lambda x, c, s, v, w, r: (lambda d2: T.exp(-s * d2) - 0.5 * T.exp(-2 * s * d2))(
            expanded(x, c)
        ),
    ),
    "same points": (
        1,
        0,
        lambda x, c, s, v, w, r: (
            s * T.exp(-squared(x, x)) + T.exp(-expanded(x, x) / v[0]) + T.eye(x.shape[0])
        ),
    ),
    "equal widths": (
        1,
        0,
        lambda x, c, s, v, w, r: (
            lambda d2: 2 * T.exp(-s * d2) + T.exp(-d2) + v[0] * T.exp(-s * d2)
        )(squared(x, c)),
    ),
    "among other terms": (
        1,
        0,
        lambda x, c, s, v, w, r: (
            w * (T.exp(-s * squared(x, c)) + T.outer(r, w) + T.exp(-expanded(x, c))) + 1
        ),
    ),
    "and a kernel of other points": (
        1,
        1,
        lambda x, c, s, v, w, r: (
            T.exp(-s * squared(x, c)) + T.exp(-squared(2 * x, 3 * c)) - T.exp(-squared(x, c))
        ),
    ),
    "of two pairs of points": (
        1,  # candidate, of two nodes
        0,
        lambda x, c, s, v, w, r: (
            lambda d2, e2: T.exp(-d2) + T.exp(-s * d2) + T.exp(-e2) + T.exp(-s * e2)
        )(squared(x, c), squared(x * v, c * v)),
    ),
    "MMD of several widths": (3, 0, lambda x, c, s, v, w, r: mixed_mmd(x, c, s, v)),
    "moment matching network": (1, 0, lambda x, c, s, v, w, r: moment_matching(x, c, s, v)),
    "means of each width": (
        1,
        0,
        lambda x, c, s, v, w, r: (
            lambda d2: sum(T.exp(-0.5 * d2 / u).mean() for u in (0.5, s, v[1]))
        )(squared(x, c)),
    ),
    "widths along an axis": (
        1,
        0,
        lambda x, c, s, v, w, r: T.exp(-squared(x, c)[:, :, None] / v).sum(axis=2),
    ),
    "widths and factors along the first axis": (
        1,
        0,
        lambda x, c, s, v, w, r: (
            v[:, None, None]
            * T.exp(v[:, None, None] - T.sqr(v)[:, None, None] * s * expanded(x, c)[None, :, :])
        ).mean(axis=0),
    ),
    "numbers along the middle axis": (
        1,
        0,
        lambda x, c, s, v, w, r: T.exp(
            -expanded(x, c)[:, None, :] / T.constant([2.0, 8, 32], dtype=x.dtype)[:, None]
        ).sum(axis=1),
    ),
    "widths along an axis, all added up": (
        1,
        0,
        lambda x, c, s, v, w, r: T.exp(
            -squared(x, x).dimshuffle("x", 0, 1) * v[:, None, None]
        ).mean(),
    ),
    "widths along an axis, rows added up too": (
        1,
        0,
        lambda x, c, s, v, w, r: T.exp(-squared(x, c)[:, :, None] / v).sum(axis=(0, 2)) * w,
    ),
    "map over widths": (
        1,
        0,
        lambda x, c, s, v, w, r: theano.map(
            lambda u, d2: T.exp(-d2 * u), sequences=[v], non_sequences=[squared(x, c)]
        )[0].sum(axis=0),
    ),
    "weighted sums of rows": (
        1,
        0,
        lambda x, c, s, v, w, r: (
            lambda d2: (
                v[0] * (r[:, None] * T.exp(-d2)).sum(axis=0)
                - 3 * (r[:, None] * T.exp(-s * d2)).sum(axis=0)
                + w
            )
        )(expanded(x, c)),
    ),
}


def moment_matching(x, c, s, v):
    """The loss of generative moment matching networks, the root of a sum over widths."""
    both = T.concatenate([x, c])
    products = T.dot(both, both.T)
    norms = T.sum(both * both, axis=1, keepdims=True)
    exponent = products - 0.5 * norms - 0.5 * norms.T
    n, m = T.cast(x.shape[0], x.dtype), T.cast(c.shape[0], x.dtype)
    signs = T.concatenate([T.ones_like(x[:, 0]) / n, -T.ones_like(c[:, 0]) / m])
    pairs = T.outer(signs, signs)
    loss = 0
    for sigma in (2, s, v[2], 16):
        loss += T.sum(pairs * T.exp(1 / sigma * exponent))
    return T.sqrt(loss)


def mmd(x, c, s):
    """(biased, unbiased) squared maximum mean discrepancy; the norms are diagonals of the Grams."""
    xx, xc, cc = T.dot(x, x.T), T.dot(x, c.T), T.dot(c, c.T)
    x_norms, c_norms = T.diagonal(xx), T.diagonal(cc)

    def kernel(products, a, b):
        return T.exp(-1.0 / (2 * s**2) * (-2 * products + a[:, np.newaxis] + b[np.newaxis, :]))

    kxx, kxc, kcc = kernel(xx, x_norms, x_norms), kernel(xc, x_norms, c_norms), None
    kcc = kernel(cc, c_norms, c_norms)
    n, m = (T.cast(k.shape[0], x.dtype) for k in (kxx, kcc))
    unbiased = (kxx.sum() - n) / (n * (n - 1)) + (kcc.sum() - m) / (m * (m - 1))
    return kxx.mean() + kcc.mean() - 2 * kxc.mean(), unbiased - 2 * kxc.mean()


def shifted(exponent, keepdims=False, mean=False):
    """log(sum(exp(exponent))) over the columns as everybody writes it, or of the mean."""
    largest = T.max(exponent, axis=1, keepdims=True)
    powers = T.exp(exponent - largest)
    sums = powers.mean(axis=1, keepdims=keepdims) if mean else powers.sum(axis=1, keepdims=keepdims)
    return T.log(sums) + (largest if keepdims else largest.flatten())


def parzen_logarithm(x, c, s, v, w, r):
    """Parzen window estimate of log-likelihoods, as papers on generative networks report it."""
    a = (x.dimshuffle(0, "x", 1) - c.dimshuffle("x", 0, 1)) / s
    e = -0.5 * (a**2).sum(2)
    largest = e.max(1)
    logarithm = largest + T.log(T.exp(e - largest.dimshuffle(0, "x")).mean(1))
    return logarithm - c.shape[1] * T.log(s * np.sqrt(np.pi * 2))


# name -> logarithms of sums of a kernel's rows
LOGARITHMS = {
    "Parzen window": parzen_logarithm,
    "one axis kept": lambda x, c, s, v, w, r: shifted(-s * squared(x, c), keepdims=True),
    "flattened": lambda x, c, s, v, w, r: shifted(-expanded(x, c) / s),
    "mixture": lambda x, c, s, v, w, r: shifted(T.log(w) - w * squared(x, c)),
    "density, divided twice": lambda x, c, s, v, w, r: T.log(
        T.exp(-squared(x, c) / (2 * s**2)).mean(axis=1) / (2 * np.pi * s**2) ** 1.5
    ),
    "mean": lambda x, c, s, v, w, r: shifted(-0.5 * squared(x / v, c / v), mean=True),
    "not shifted": lambda x, c, s, v, w, r: T.log(
        T.sum(T.exp(w) * T.exp(-s * squared(x, c)), axis=1)
    ),
    "columns": lambda x, c, s, v, w, r: shifted((-s * squared(x, c)).T),
    "all entries": lambda x, c, s, v, w, r: T.log(T.exp(-s * squared(x, c)).sum()),
    "all entries, with factors": lambda x, c, s, v, w, r: T.log(
        (T.exp(w - expanded(x, c)) * s).sum(axis=(0, 1))
    ),
    "Gaussians of a mixture, normalised": lambda x, c, s, v, w, r: shifted(
        T.log(w) - x.shape[1] * T.log(s) - 0.5 * squared(x, c) / s**2
    ),
    "with a constant by the number of columns": lambda x, c, s, v, w, r: shifted(
        -0.5 * (expanded(x, c) + x.shape[1] * np.log(2 * np.pi).astype(x.dtype))
    ),
    "less a large constant": lambda x, c, s, v, w, r: shifted(-s * squared(x, c) - 900),
    "all entries, shifted": lambda x, c, s, v, w, r: (
        lambda e: T.log(T.exp(e - e.max()).sum()) + e.max()
    )(w - s * squared(x, c)),
    "all entries, less a number": lambda x, c, s, v, w, r: (
        T.log(T.exp(-s * squared(x, c)).sum()) - v[0]
    ),
}


def written_out(exponent):
    """The softmax of rows as everybody writes it."""
    return shares_of(nearest_one(exponent))


def nearest_one(exponent):
    """Its exponentials, of which the largest of each row is one."""
    return T.exp(exponent - T.max(exponent, axis=1, keepdims=True))


def shares_of(powers):
    return powers / powers.sum(axis=1, keepdims=True)


def divided_product(exponent, weights):
    """A kernel regression."""
    powers = nearest_one(exponent)
    product = T.dot(powers, weights)
    return product / powers.sum(axis=1, keepdims=product.ndim == 2)


# name -> products with the softmax of negative squared distances
SOFTMAXES = {
    "weights a matrix": lambda x, c, s, v, w, r: T.dot(T.nnet.softmax(-s * squared(x, c)), c),
    "weights a vector": lambda x, c, s, v, w, r: T.nnet.softmax(-expanded(x, c) / s).dot(w),
    "terms of columns": lambda x, c, s, v, w, r: T.dot(
        T.nnet.softmax(T.log(w) - w * squared(x, c) + 3), c[:, :2]
    ),
    "clipped": lambda x, c, s, v, w, r: T.dot(
        T.nnet.softmax(-T.maximum(expanded(x, c), 0) / (2 * s**2)), c
    ),
    "without the rows' norms": lambda x, c, s, v, w, r: T.dot(
        T.nnet.softmax(x.norm(2, axis=1, keepdims=True) - s * squared(x, c)), c
    ),
    "widths of features": lambda x, c, s, v, w, r: T.dot(
        T.nnet.softmax(-0.5 * squared(x / v, c / v)), c
    ),
    "mean shift": lambda x, c, s, v, w, r: T.dot(T.nnet.softmax(-s * squared(x, x)), x),
    "written out": lambda x, c, s, v, w, r: T.dot(written_out(-s * squared(x, c)), c),
    "written out, less the least distance": lambda x, c, s, v, w, r: T.dot(
        shares_of(
            T.exp(-(squared(x, c) - squared(x, c).min(axis=1, keepdims=True)) / (2 * T.sqr(s)))
        ),
        c,
    ),
    "a product that is divided": lambda x, c, s, v, w, r: divided_product(-s * squared(x, c), c),
    "a vector that is divided": lambda x, c, s, v, w, r: divided_product(-s * expanded(x, c), w),
    "written out, expanded": lambda x, c, s, v, w, r: T.dot(
        written_out(T.log(w) - s * expanded(x, c)), w
    ),
}

# What is a kernel, or a logarithm of sums, for parameters of any sign, though a rule of algebra for
# positive ones is near. May be fused or left alone.
OF_ANY_SIGN = {
    "normal density": lambda x, c, s, v, w, r: (
        T.exp(-0.5 * squared(x, c) / s**2) / T.sqrt(2 * np.pi * s**2)
    ),
    "width the root of a square": lambda x, c, s, v, w, r: T.exp(-squared(x, c) / T.sqrt(2 * s**2)),
    "power of a square": lambda x, c, s, v, w, r: T.exp(-squared(x, c)) * (2 * s**2) ** 1.5,
    "root of a sixth power": lambda x, c, s, v, w, r: T.exp(-squared(x, c)) * T.sqrt(s**6),
    "factor of columns": lambda x, c, s, v, w, r: T.exp(-squared(x, c)) * T.sqrt(T.sqr(w - 0.5)),
    "weights of features": lambda x, c, s, v, w, r: T.exp(
        -(T.sqrt(2 * v**2) * T.sqr(difference(x, c))).sum(2)
    ),
    "points without their sign": lambda x, c, s, v, w, r: T.exp(
        -squared(T.sqrt(T.sqr(x)), T.sqrt(T.sqr(c)))
    ),
    "scales of columns": lambda x, c, s, v, w, r: T.exp(
        -T.sqr(x[:, None, :] * w[None, :, None] - c[None, :, :]).sum(2)
    ),
    "scales of both": lambda x, c, s, v, w, r: T.exp(-T.sqr(r[:, None] * w[None, :] - 1)),
    "root of one weight": lambda x, c, s, v, w, r: (
        T.exp(-(v * T.sqr(difference(x, c))).sum(2)) * T.sqrt(v[0])
    ),
    "logarithm of weighted sums": lambda x, c, s, v, w, r: T.log(
        (w * T.exp(-squared(x, c))).sum(1)
    ),
}

# What a rewrite must leave alone.
NEAR_MISSES = {
    "limited, times anything": lambda x, c, s, v, w, r: T.exp(-s * T.maximum(squared(x, c), 1e-7)),
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
    "weights of any sign, expanded": lambda x, c, s, v, w, r: T.exp(
        -w
        * (
            T.dot(x**2, v)[:, None]
            + T.dot(c**2, v)[None, :]
            - 2 * T.dot(x * v.dimshuffle("x", 0), c.T)
        )
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
    "widths of features and columns": lambda x, c, s, v, w, r: T.exp(
        -0.5 * T.sum((difference(x, c) / T.exp(c)[None, :, :]) ** 2, axis=2)
    ),
    "metric of any sign": lambda x, c, s, v, w, r: T.exp(
        -0.5 * T.sum(T.dot(difference(x, c), T.outer(v, v)) * difference(x, c), axis=2)
    ),
    "base of any size": lambda x, c, s, v, w, r: T.pow(s, squared(x, c)),
    "widths an array of both signs": lambda x, c, s, v, w, r: T.exp(
        np.array([-0.3, 0.1, -0.5, -1], x.dtype) * squared(x, c)
    ),
    "hyperbolic": lambda x, c, s, v, w, r: 1 / T.cosh(s * squared(x, c)),
    "sigmoid": lambda x, c, s, v, w, r: T.nnet.sigmoid(-s * squared(x, c)),
    "softmax": lambda x, c, s, v, w, r: T.nnet.softmax(-s * squared(x, c)),
    "softmax of widths of rows": lambda x, c, s, v, w, r: T.dot(
        T.nnet.softmax(-r[:, None] * squared(x, c)), c
    ),
    "softmax of columns": lambda x, c, s, v, w, r: T.dot(T.nnet.softmax(-s * squared(x, c)).T, r),
    "softmax of products": lambda x, c, s, v, w, r: T.dot(T.nnet.softmax(T.dot(x, c.T)), c),
    "softmax needed, too": lambda x, c, s, v, w, r: (lambda a: T.dot(a, c) * a.sum())(
        T.nnet.softmax(-s * squared(x, c))
    ),
    "softmax of what cancels": lambda x, c, s, v, w, r: T.dot(
        T.nnet.softmax(r[:, None] - s * squared(x, c)), c
    ),
    "root and square": lambda x, c, s, v, w, r: T.exp(
        -s * T.sqrt(squared(x, c) + 1e-9) - squared(x, c)
    ),
    "random features": lambda x, c, s, v, w, r: T.exp(
        T.dot(x, c.T) - 0.5 * T.sum(x**2, 1, keepdims=True)
    ),
    "Gibbs kernel": lambda x, c, s, v, w, r: T.exp(
        -squared(x, c) / (T.exp(x[:, 0])[:, None] + T.exp(c[:, 0])[None, :])
    ),
    "products needed, too": lambda x, c, s, v, w, r: (
        lambda g: T.exp(-s * ((x**2).sum(1)[:, None] + (c**2).sum(1) - 2 * g)) * g
    )(T.dot(x, c.T)),
    "differences needed, too": lambda x, c, s, v, w, r: (
        lambda p: T.sum(T.exp(-s * T.sum(p**2, 2))[:, :, None] * p, axis=1)
    )(difference(x, c)),
    "derivative of the kernel": lambda x, c, s, v, w, r: (lambda d: T.exp(-d / s) * (d / s - 1))(
        squared(x, c)
    ),
    "median of the distances": lambda x, c, s, v, w, r: (
        lambda d: T.exp(-d / T.sort(d.flatten())[d.size // 2])
    )(expanded(x, x)),
    "shifted by the largest": lambda x, c, s, v, w, r: (
        lambda e: T.exp(e - e.max(axis=1, keepdims=True))
    )(-0.5 * squared(x, c)),
    "scan that sets all rows but one": lambda x, c, s, v, w, r: _states(
        x, c, _set_row, T.arange(x.shape[0]), rows=1
    ),
    "scan that sets two rows": lambda x, c, s, v, w, r: _states(
        x, c, _set_row, T.arange(x.shape[0]), n_steps=2
    ),
    "scan that sets the rows, every state used": lambda x, c, s, v, w, r: _states(
        x, c, _set_row, T.arange(x.shape[0]), all_=True
    ),
    "scan that adds to rows": lambda x, c, s, v, w, r: _states(
        x,
        c,
        lambda i, state, x_, c_: T.inc_subtensor(
            state[i], T.exp(-T.sum((x_[0] - c_) ** 2, axis=1))
        ),
        T.arange(x.shape[0]),
    ),
    "scan that uses the rows set before": lambda x, c, s, v, w, r: _states(
        x,
        c,
        lambda i, state, x_, c_: T.set_subtensor(
            state[i], T.exp(-T.sum((x_[i] - c_) ** 2, axis=1)) * (1 + state[0])
        ),
        T.arange(x.shape[0]),
    ),
    "differences and a pair's term": lambda x, c, s, v, w, r: T.exp(
        -s * (r[:, None] - w[None, :] + T.outer(r, w)) ** 2
    ),
    "logarithm of a sum, shifted by another": lambda x, c, s, v, w, r: (
        shifted(-0.5 * squared(x, c)) + T.max(-0.5 * squared(x, c), axis=1)
    ),
    "logarithm of a sum, a width for each row": lambda x, c, s, v, w, r: shifted(
        -r[:, None] * squared(x, c)
    ),
    "a batch of matrices, each against its own": lambda x, c, s, v, w, r: T.exp(
        -s * ((T.stack([x, 2 * x])[:, :, None, :] - T.stack([c, -c])[:, None, :, :]) ** 2).sum(3)
    ),
    "a batch of factors": lambda x, c, s, v, w, r: T.exp(
        -r[None, None, :] * T.sum((x - x[::-1]) ** 2, axis=1)[:, None, None] - w[None, :, None] ** 2
    ),
    "one distance, many widths": lambda x, c, s, v, w, r: T.exp(
        -squared(x, c).dimshuffle(0, 1, "x") / v
    ),
    "features apart, added up": lambda x, c, s, v, w, r: T.exp(-s * difference(x, c) ** 2).sum(
        axis=2
    ),
    "logarithm of a sum over widths": lambda x, c, s, v, w, r: T.log(
        T.exp(-squared(x, c)[:, :, None] * v).sum(axis=2)
    ),
    "logarithm of two": lambda x, c, s, v, w, r: T.log(
        T.exp(-squared(x, c)) + T.exp(-s * expanded(x, c))
    ),
    "a width for each column, rows added up": lambda x, c, s, v, w, r: T.exp(
        -T.sqr(x)[:, None, :] * w[:, None]
    ).sum(axis=0),
    "widths along an axis, and rows": lambda x, c, s, v, w, r: T.exp(
        -squared(x, c)[:, :, None] * v * r[:, None, None]
    ).sum(axis=2),
    "features apart": lambda x, c, s, v, w, r: T.exp(-s * difference(x, c) ** 2),
    "paired rows, many levels of each": lambda x, c, s, v, w, r: T.exp(
        -s * (x[:, None, :] - T.stack([x, x[::-1]]).dimshuffle(1, 0, 2)) ** 2
    ),
    "foldl that scales its sum": lambda x, c, s, v, w, r: T.exp(
        -s
        * theano.foldl(
            lambda a, b, total: 0.5 * total + T.sqr(a[:, None] - b[None, :]),
            [x.T, c.T],
            T.zeros((x.shape[0], c.shape[0]), x.dtype),
        )[0]
    ),
    "foldl of the largest": lambda x, c, s, v, w, r: T.exp(
        -s
        * theano.foldl(
            lambda a, b, total: T.maximum(total, T.sqr(a[:, None] - b[None, :])),
            [x.T, c.T],
            T.zeros((x.shape[0], c.shape[0]), x.dtype),
        )[0]
    ),
    "the sum before the last feature": lambda x, c, s, v, w, r: T.exp(
        -s
        * theano.scan(
            lambda k, total: total + (x[:, k][:, None] - c[:, k][None, :]) ** 2,
            sequences=T.arange(3),
            outputs_info=T.zeros((x.shape[0], c.shape[0]), x.dtype),
        )[0][-2]
    ),
    "foldl from something of pairs": lambda x, c, s, v, w, r: T.exp(
        -s
        * theano.foldl(
            lambda a, b, total: total + T.sqr(a[:, None] - b[None, :]), [x.T, c.T], T.outer(r, w)
        )[0]
    ),
    "integers that wrap around": lambda x, c, s, v, w, r: T.exp(
        -s
        * T.sqr(
            T.cast(100 * r, "int8").dimshuffle(0, "x") - T.cast(100 * w, "int8").dimshuffle("x", 0)
        )
    ),
    "times in nanoseconds": lambda x, c, s, v, w, r: T.exp(
        -1e-18
        * T.sqr(
            T.cast(1e18 * r, "int64").dimshuffle(0, "x")
            - T.cast(1e18 * w, "int64").dimshuffle("x", 0)
        )
    ),
    "halves of integers": lambda x, c, s, v, w, r: T.exp(
        -s * T.sqr((T.arange(6).dimshuffle(0, "x") - T.arange(4).dimshuffle("x", 0)) // 2)
    ),
    "gate of another": lambda x, c, s, v, w, r: (lambda d2: T.exp(-s * d2 * T.gt(d2 - 1, 0)))(
        expanded(x, c)
    ),
    "switch at another bound": lambda x, c, s, v, w, r: (
        lambda d2: T.exp(-s * T.switch(d2 > 1, d2, 0.5))
    )(expanded(x, c)),
    "smallest": lambda x, c, s, v, w, r: (lambda d2: T.exp(-s * T.switch(d2 > 1, 0, d2)))(
        expanded(x, c)
    ),
    "cosines": lambda x, c, s, v, w, r: T.exp(
        -s * (1 - T.dot(keras_l2_normalize(x), keras_l2_normalize(c).T))
    ),
    "conditional means": lambda x, c, s, v, w, r: T.exp(
        -0.5
        * T.inv(s)
        * T.sum((x.dimshuffle(0, 1, "x") - T.stack([x, x + 1], axis=2)) ** 2, axis=1)
    ),
    "variances of features and rows (psi statistics)": lambda x, c, s, v, w, r: T.exp(
        -0.5 * T.sum(difference(x, c) ** 2 / (T.sqr(x)[:, None, :] + T.sqr(v)), axis=2)
    ),
    "one centre": lambda x, c, s, v, w, r: T.exp(-s * T.sum((x - v) ** 2, axis=1, keepdims=True)),
    "a row set before a width of each row": lambda x, c, s, v, w, r: T.exp(
        -r[:, None] * T.set_subtensor(squared(x, c)[0], w)
    ),
    "pairs further apart masked": lambda x, c, s, v, w, r: (
        lambda d: T.exp(T.switch(d > 2, -INF, -s * d))
    )(squared(x, c)),
    "a loop needed for something else": lambda x, c, s, v, w, r: (lambda o: T.dot(o[0].T, o[1]))(
        theano.scan(
            lambda p, q: [T.exp(-s * ((p - q) ** 2).sum(1)), T.sort(p)],
            sequences=x,
            non_sequences=c,
        )[0]
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


def filled_columns(x, c, n, m, amplitude):
    out = T.zeros((n, m))
    for j in range(m):
        out = T.set_subtensor(out[:, j], T.exp(-((x - c[j]) ** 2).sum(axis=1)) * amplitude[j])
    return out


def cells_added_to_zeros(x, c, n, m, amplitude):
    out = T.zeros((n, m))
    for i in range(n):
        for j in range(m):
            out = T.inc_subtensor(out[i, j], T.exp(-T.sum((x[i] - c[j]) ** 2)))
    return out


def filled_shared(x, c, n, m, amplitude):
    """As the question began, with a shared variable, whose size may be any."""
    out = theano.shared(np.zeros((n + 1, m)))
    for i in range(n):
        for j in range(m):
            out = T.set_subtensor(out[i, j], T.exp(-((c[j] - x[i]).norm(2) ** 2)))
    return out


def both_triangles(x, c, n, m, amplitude):
    out = T.zeros((n, n))
    for i in range(n):
        for j in range(i, n):
            value = T.exp(-T.sum((x[i] - x[j]) ** 2))
            out = T.set_subtensor(out[i, j], value)
            out = T.set_subtensor(out[j, i], value)
    return out


def stacked_list(x, c, n, m, amplitude):
    cells = [T.exp(-T.sum((x[i] - c[j]) ** 2)) for i in range(n) for j in range(m)]
    return T.stack(cells).reshape((n, m))


# Loops in Python, unrolled in the graph: functions of (x, c, n, m, amplitude).
UNROLLED = [
    filled_cells,
    filled_rows,
    filled_columns,
    filled_shared,
    cells_added_to_zeros,
    both_triangles,
    stacked_rows,
    stacked_cells,
    stacked_columns,
    stacked_list,
]


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


def one_cell_twice(x, c, n, m, amplitude):
    return T.inc_subtensor(
        cells_added_to_zeros(x, c, n, m, amplitude)[0, 0], T.exp(-(x[0, 0] ** 2))
    )


def added_to_ones(x, c, n, m, amplitude):
    out = T.ones((n, m))
    for i in range(n):
        out = T.inc_subtensor(out[i], T.exp(-((x[i] - c) ** 2).sum(axis=1)))
    return out


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
    one_cell_twice,
    added_to_ones,
    rows_out_of_order,
    always_the_first_column,
]
