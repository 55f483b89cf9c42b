"""Models that go over the rows by theano.map and keep no kernel matrix, made fast by fuse.

A network of radial basis functions and a kernel regression (Nadaraya and Watson), each a step that
reduces one row of the kernel to a number. Touches rbf_op and Theano only, so that it needs no
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


def row_of(point, centres):
    return T.exp(-0.1 * T.sum((point - centres) ** 2, axis=1))


def network(x, centres, weights):
    return theano.map(lambda point: T.dot(row_of(point, centres), weights), x)[0]


def regression(x, centres, weights):
    def step(point):
        row = row_of(point, centres)
        return T.dot(row, weights) / T.sum(row)

    return theano.map(step, x)[0]


MODELS = {"network of radial basis functions": network, "kernel regression": regression}


def compiled(model, fused, gradient=True):
    """The model's results, or its loss and gradients, a function of x, centres, weights and y."""
    x, centres = T.fmatrices("x", "centres")
    weights, y = T.fvectors("weights", "y")
    results = MODELS[model](x, centres, weights)
    results = fuse(results) if fused else results
    outputs = [results]
    if gradient:
        loss = T.sqr(results - y).mean()
        outputs = [loss] + T.grad(loss, [centres, weights])
    mode = common.plain_mode()  # of what fuse did only
    return theano.function([x, centres, weights, y], outputs, mode=mode, on_unused_input="ignore")


def draw(rows, centres, features):
    random = np.random.RandomState(0)
    shapes = (rows, features), (centres, features), (centres,), (rows,)
    return [random.randn(*shape).astype("float32") for shape in shapes]


def main():
    options = common.arguments()
    results = {
        "client": "Rows one by one",
        "graph": "models by theano.map that keep no matrix: loss and gradients",
        "nodes before": [0, 0],
        "nodes": [0, 0],
        "difference": 0.0,
        "tolerance": 1e-4,
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
