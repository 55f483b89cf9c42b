"""Models whose kernels lie in loops, made fast by fuse.

A network of radial basis functions and a kernel regression (Nadaraya and Watson) by theano.map, a
step reducing one row of the kernel to a number; mean shift, of which each step has a matrix of its
own; a power iteration, whose steps share one. Touches rbf_op and Theano only, so that it needs no
environment of its own.
"""

import functools

import common  # isort: skip  (before Theano)

import numpy as np
import theano
import theano.tensor as T

from rbf_op import fuse

# (rows, centres, features)
SMALL = 20, 7, 3
SIZE = 2000, 1000, 10
STEPS = 10


def row_of(point, centres):
    return T.exp(-0.1 * T.sum((point - centres) ** 2, axis=1))


def matrix(a, b):
    norms = [T.sum(points**2, axis=1) for points in (a, b)]
    return T.exp(-0.1 * (norms[0][:, None] + norms[1] - 2 * T.dot(a, b.T)))


def network(x, centres, weights, mode):
    return theano.map(lambda point: T.dot(row_of(point, centres), weights), x, mode=mode)[0]


def regression(x, centres, weights, mode):
    def step(point):
        row = row_of(point, centres)
        return T.dot(row, weights) / T.sum(row)

    return theano.map(step, x, mode=mode)[0]


def mean_shift(x, centres, weights, mode):
    def step(points):
        kernel = matrix(points, centres)
        return T.dot(kernel, centres) / T.sum(kernel, axis=1, keepdims=True)

    modes = theano.scan(step, outputs_info=x, n_steps=STEPS, mode=mode)[0][-1]
    return T.dot(matrix(modes, centres), weights)


def power_iteration(x, centres, weights, mode):
    def step(vector):
        vector = T.dot(matrix(centres, centres), vector)
        return vector / T.sqrt(T.sum(vector**2))

    return theano.scan(step, outputs_info=weights, n_steps=STEPS, mode=mode)[0][-1]


MODELS = {
    "network of radial basis functions": network,
    "kernel regression": regression,
    "mean shift": mean_shift,
    "power iteration": power_iteration,
}


def compiled(model, fused, gradient=True):
    """The model's results, or its loss and gradients, a function of x, centres, weights and y."""
    x, centres = T.dmatrices("x", "centres")
    weights, y = T.dvectors("weights", "y")
    mode = common.plain_mode()  # of what fuse did only
    results = MODELS[model](x, centres, weights, mode)
    results = fuse(results) if fused else results
    outputs = [results]
    if gradient:
        loss = T.sqr(results - y[: results.shape[0]]).mean()
        outputs = [loss] + T.grad(loss, [centres, weights])
    return theano.function([x, centres, weights, y], outputs, mode=mode, on_unused_input="ignore")


def draw(rows, centres, features):
    random = np.random.RandomState(0)
    shapes = (rows, features), (centres, features), (centres,), (rows,)
    return [random.randn(*shape) for shape in shapes]


def main():
    options = common.arguments()
    results = {
        "client": "Loops",
        "graph": "models whose kernels lie in the steps of a loop: loss and gradients",
        "nodes before": [0, 0],
        "nodes": [0, 0],
        "difference": 0.0,
        "tolerance": 1e-9,
    }
    data = draw(*SMALL)
    for model in MODELS:
        plain, fused = (compiled(model, fused) for fused in (False, True))
        for name, function in (("nodes before", plain), ("nodes", fused)):
            counts = zip(results[name], common.node_counts(function))
            results[name] = [a + b for a, b in counts]
        difference = common.largest_difference(plain(*data), fused(*data))
        results["difference"] = max(results["difference"], difference)
    if options.time:
        data = draw(*SIZE)
        results["seconds"] = {
            "%s, %d rows, %d centres, %d features: %s" % (model, *SIZE, task): (
                common.interleaved_seconds(
                    *(
                        functools.partial(compiled(model, fused, "gradients" in task), *data)
                        for fused in (False, True)
                    ),
                    options.repeats,
                )
            )
            for model in MODELS
            for task in ("forward", "loss and gradients")
        }
    common.show(results)


if __name__ == "__main__":
    main()
