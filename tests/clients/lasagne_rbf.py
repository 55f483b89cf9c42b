"""Lasagne: networks with an RBF layer, by a scan over rows and by a Gram matrix, trained.

Nothing of the networks knows of rbf_op; autofuse is on when the second ones are compiled.
"""

import sys
import types

import common  # isort: skip  (before Theano)

import numpy as np
import theano
import theano.tensor as T

import rbf_op.autofuse

# Lasagne 0.1 imports a module that Theano 1.0 has moved.
import theano.tensor.signal.pool  # isort: skip

_moved = types.ModuleType("theano.tensor.signal.downsample")
_moved.max_pool_2d = theano.tensor.signal.pool.pool_2d
sys.modules["theano.tensor.signal.downsample"] = _moved
theano.tensor.signal.downsample = _moved

import lasagne  # noqa: E402  isort: skip


class RBFLayer(lasagne.layers.Layer):
    def __init__(self, incoming, units, how, **kwargs):
        super(RBFLayer, self).__init__(incoming, **kwargs)
        self.units, self.how = units, how
        self.C = self.add_param(lasagne.init.Normal(1.0), (units, self.input_shape[1]), name="C")
        self.gamma = self.add_param(lasagne.init.Constant(0.3), (units,), name="gamma")

    def get_output_shape_for(self, input_shape):
        return (input_shape[0], self.units)

    def get_output_for(self, x, **kwargs):
        if self.how == "scan":
            rows, _ = theano.scan(
                lambda row, centres, gamma: T.exp(
                    -gamma * (row.dimshuffle("x", 0) - centres).norm(2, axis=1) ** 2
                ),
                sequences=x,
                non_sequences=[self.C, self.gamma],
            )
            return rows
        norms = T.sqr(x).sum(axis=1).dimshuffle(0, "x") + T.sqr(self.C).sum(axis=1)
        return T.exp(-self.gamma * T.maximum(norms - 2 * T.dot(x, self.C.T), 0))


def step(how, features, units, mode):
    lasagne.random.set_rng(np.random.RandomState(3))
    x, y = T.matrix("x"), T.matrix("y")
    network = lasagne.layers.InputLayer((None, features), x)
    network = RBFLayer(network, units, how)
    network = lasagne.layers.DenseLayer(network, 2, nonlinearity=None)
    loss = T.sqr(lasagne.layers.get_output(network) - y).mean()
    parameters = lasagne.layers.get_all_params(network, trainable=True)
    updates = lasagne.updates.sgd(loss, parameters, 0.05)
    return theano.function([x, y], loss, updates=updates, mode=mode), parameters


def both_steps(*arguments):
    plain = step(*arguments, mode=common.plain_mode())
    with rbf_op.autofuse.enabled():
        fused = step(*arguments, mode=common.fused_mode())
    return plain, fused


def trained(step_and_parameters, x, y):
    function, parameters = step_and_parameters
    return [[function(x, y) for _ in range(5)]] + [p.get_value() for p in parameters]


def main():
    options = common.arguments()
    rng = np.random.RandomState(0)
    floats = theano.config.floatX
    x, y = rng.randn(16, 4).astype(floats), rng.randn(16, 2).astype(floats)
    nodes, before, worst, seconds = [0, 0], [0, 0], 0.0, {}
    for how in ("scan", "Gram matrix"):
        plain, fused = both_steps(how, 4, 5)
        nodes = [a + b for a, b in zip(nodes, common.node_counts(fused[0]))]
        before = [a + b for a, b in zip(before, common.node_counts(plain[0]))]
        worst = max(worst, common.largest_difference(trained(plain, x, y), trained(fused, x, y)))
        if options.time:
            plain, fused = both_steps(how, 100, 500)
            large = rng.randn(500, 100).astype(floats), rng.randn(500, 2).astype(floats)
            seconds["training step by %s, batch 500, 500 centres, d=100" % how] = (
                common.interleaved_seconds(
                    lambda: plain[0](*large),  # noqa: B023  (called before the next turn)
                    lambda: fused[0](*large),  # noqa: B023
                    options.repeats,
                )
            )
    results = {
        "client": "Lasagne 0.1",
        "graph": "RBF layers by scan and by Gram matrix: training",
        "nodes before": before,
        "nodes": nodes,
        "difference": worst,
        "tolerance": 1e-9 if floats == "float64" else 1e-4,
    }
    if seconds:
        results["seconds"] = seconds
    common.show(results)


if __name__ == "__main__":
    main()
