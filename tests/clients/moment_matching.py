"""The loss of a generative moment matching network, spelled out as is usual, made fast by fuse.

A maximum mean discrepancy of five bandwidths (Li, Swersky and Zemel, Generative moment matching
networks, ICML 2015) between what a network makes of noise and data. Touches rbf_op and Theano only,
so that it needs no environment of its own.
"""

import functools

import common  # isort: skip  (before Theano)

import numpy as np
import theano
import theano.tensor as T

from rbf_op import fuse

SIGMAS = (2, 5, 10, 20, 40)
# (batch, features, noise)
SMALL = 20, 3, 8
SIZES = (1000, 10, 100), (1000, 100, 100), (1000, 784, 100)


def discrepancy(x, y):
    """Squared, of the kernel sum_s exp(-||a - b||^2 / (2 s^2)), by Gram matrices."""
    xx, xy, yy = T.dot(x, x.T), T.dot(x, y.T), T.dot(y, y.T)
    x_norms, y_norms = T.diagonal(xx), T.diagonal(yy)
    k_xx, k_xy, k_yy = 0, 0, 0
    for sigma in SIGMAS:
        gamma = np.float32(1 / (2 * sigma**2))
        k_xx += T.exp(-gamma * (-2 * xx + x_norms[:, None] + x_norms[None, :]))
        k_xy += T.exp(-gamma * (-2 * xy + x_norms[:, None] + y_norms[None, :]))
        k_yy += T.exp(-gamma * (-2 * yy + y_norms[:, None] + y_norms[None, :]))
    return k_xx.mean() + k_yy.mean() - 2 * k_xy.mean()


def compiled(fused):
    """Loss and gradient of a layer's weights, a function of noise, data and weights."""
    noise, data, weights = inputs = T.fmatrices("noise", "data", "weights")
    loss = discrepancy(T.nnet.sigmoid(T.dot(noise, weights)), data)
    loss = fuse(loss) if fused else loss
    mode = common.plain_mode()  # of what fuse did only
    return theano.function(inputs, [loss, T.grad(loss, weights)], mode=mode)


def draw(batch, features, noise):
    random = np.random.RandomState(0)
    shapes = (batch, noise), (batch, features), (noise, features)
    arrays = random.randn(*shapes[0]), random.rand(*shapes[1]), random.randn(*shapes[2])
    return [array.astype("float32") for array in arrays]


def main():
    options = common.arguments()
    plain, fused = compiled(False), compiled(True)
    data = draw(*SMALL)
    results = {
        "client": "Moment matching network",
        "graph": "maximum mean discrepancy of five bandwidths: loss and gradient",
        "nodes before": common.node_counts(plain),
        "nodes": common.node_counts(fused),
        "difference": common.largest_difference(plain(*data), fused(*data)),
        "tolerance": 1e-3,
    }
    if options.time:
        results["seconds"] = {
            "batch %d, %d features" % size[:2]: common.interleaved_seconds(
                functools.partial(plain, *draw(*size)),
                functools.partial(fused, *draw(*size)),
                options.repeats,
            )
            for size in SIZES
        }
    common.show(results)


if __name__ == "__main__":
    main()
