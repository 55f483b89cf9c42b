"""Keras on Theano: a network with an RBF layer, as people write it, trained for some steps.

Nothing of the model knows of rbf_op; autofuse is on when the second one is compiled.
"""

import os

os.environ["KERAS_BACKEND"] = "theano"

import common  # isort: skip  # noqa: E402  (before Theano)

import keras  # noqa: E402
import numpy as np  # noqa: E402
from keras import backend as K  # noqa: E402

import rbf_op.autofuse  # noqa: E402


class RBFLayer(keras.layers.Layer):
    """The layer of the keras-rbf packages: K.exp(-beta * sum of squared differences)."""

    def __init__(self, units, gamma, **kwargs):
        super(RBFLayer, self).__init__(**kwargs)
        self.units, self.gamma = units, gamma

    def build(self, input_shape):
        self.centers = self.add_weight(
            name="centers",
            shape=(self.units, input_shape[1]),
            initializer=keras.initializers.RandomNormal(seed=1),
        )
        self.betas = self.add_weight(
            name="betas",
            shape=(self.units,),
            initializer=keras.initializers.Constant(self.gamma),
        )
        super(RBFLayer, self).build(input_shape)

    def call(self, inputs):
        centers = K.expand_dims(self.centers)
        differences = K.transpose(centers - K.transpose(inputs))
        return K.exp(-self.betas * K.sum(differences**2, axis=1))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.units)


def model(features, units, targets, mode):
    network = keras.models.Sequential(
        [
            RBFLayer(units, 1.0 / features, input_shape=(features,)),
            keras.layers.Dense(targets, kernel_initializer=keras.initializers.RandomNormal(seed=2)),
        ]
    )
    network.compile(loss="mse", optimizer=keras.optimizers.SGD(lr=0.05), mode=mode)
    network._make_train_function()
    return network


def both_models(*sizes):
    plain = model(*sizes, mode=common.plain_mode())
    with rbf_op.autofuse.enabled():
        fused = model(*sizes, mode=common.fused_mode())
    fused.set_weights(plain.get_weights())
    return plain, fused


def main():
    options = common.arguments()
    rng = np.random.RandomState(0)
    plain, fused = both_models(7, 5, 2)
    x, y = rng.randn(64, 7).astype("float32"), rng.randn(64, 2).astype("float32")
    losses = [
        network.fit(x, y, batch_size=16, epochs=3, shuffle=False, verbose=0).history["loss"]
        for network in (plain, fused)
    ]
    results = {
        "client": "Keras " + keras.__version__,
        "graph": "Sequential with RBFLayer: training",
        "nodes before": common.node_counts(plain.train_function.function),
        "nodes": common.node_counts(fused.train_function.function),
        "difference": common.largest_difference(
            losses[:1] + plain.get_weights(), losses[1:] + fused.get_weights()
        ),
        "tolerance": 1e-4,
    }
    if options.time:
        plain, fused = both_models(784, 500, 10)
        x, y = rng.rand(256, 784).astype("float32"), rng.rand(256, 10).astype("float32")
        results["seconds"] = {
            "training step, batch 256, 500 centres, d=784": common.interleaved_seconds(
                lambda: plain.train_on_batch(x, y),
                lambda: fused.train_on_batch(x, y),
                options.repeats,
            )
        }
    common.show(results)


if __name__ == "__main__":
    main()
