"""What fusing costs where there is nothing to fuse: compiling a model without a kernel.

    python compile_cost.py pymc3|keras

Compiles a model's gradient with and without fusing in turn, in one process, and takes the time
spent in the fusing code itself. Theano's own Ops are left in NumPy: loading their C code would only
make the share of fusing smaller. Times are the processor's, since all is done by one thread; Python
collects its garbage between them, which takes longer than all that is compared here.
Touches rbf_op, Theano and the client named.
"""

import gc
import os
import statistics
import sys
import time

os.environ["KERAS_BACKEND"] = "theano"

import common  # isort: skip  # noqa: E402  (before Theano)

import rbf_op.autofuse  # noqa: E402

ROUNDS = 12


def pymc3_model():
    """A hierarchical logistic regression: the function that a sampler compiles."""
    import numpy as np
    import pymc3

    rng = np.random.RandomState(0)
    features, group = rng.randn(200, 5), rng.randint(8, size=200)
    outcome = rng.randint(2, size=200)

    def compile_with(mode):
        with pymc3.Model() as model:
            mean = pymc3.Normal("mean", 0, 2)
            spread = pymc3.HalfCauchy("spread", 2)
            level = pymc3.Normal("level", mean, spread, shape=8)
            slopes = pymc3.Laplace("slopes", 0, 1, shape=5)
            logits = level[group] + pymc3.math.dot(features, slopes)
            pymc3.Bernoulli("outcome", p=pymc3.math.sigmoid(logits), observed=outcome)
            return model.logp_dlogp_function(mode=mode)

    return compile_with


def keras_model():
    """A perceptron of three layers: the training step."""
    import keras

    def compile_with(mode):
        network = keras.models.Sequential(
            [
                keras.layers.Dense(64, activation="relu", input_shape=(30,)),
                keras.layers.Dropout(0.5),
                keras.layers.Dense(64, activation="tanh"),
                keras.layers.Dense(10, activation="softmax"),
            ]
        )
        network.compile(loss="categorical_crossentropy", optimizer="adam", mode=mode)
        network._make_train_function()

    return compile_with


class Stopwatch:
    """Adds up the time spent in a function of a module."""

    def __init__(self, module, name):
        self.seconds = 0.0
        function = getattr(module, name)

        def timed(*args, **kwargs):
            start = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds += time.process_time() - start

        setattr(module, name, timed)


def seconds_of(compile_with, fusing):
    """Seconds that compiling takes."""
    gc.collect()
    gc.disable()
    start = time.process_time()
    if fusing:
        with rbf_op.autofuse.enabled():
            compile_with(common.fused_mode())
    else:
        compile_with(common.plain_mode())
    taken = time.process_time() - start
    gc.enable()
    return taken


def main(which):
    common.compile_only_our_c_code()
    compile_with = {"pymc3": pymc3_model, "keras": keras_model}[which]()
    ours = [
        Stopwatch(sys.modules["rbf_op." + module], name)
        for module, name in (
            ("fusion.optimizer", "find_kernels"),
            ("fusion.fuse", "find_kernels"),
            ("autofuse", "_install"),
            ("autofuse", "_uninstall_if_unused"),
        )
    ]
    times = {False: [], True: []}
    for number in range(ROUNDS + 1):
        if number == 1:  # the first round warms up
            times = {False: [], True: []}
            for watch in ours:
                watch.seconds = 0.0
        for fusing in (False, True) if number % 2 else (True, False):
            times[fusing].append(seconds_of(compile_with, fusing))
    plain = statistics.median(times[False])
    common.show(
        {
            "client": which,
            "plain": plain,
            "fusing": statistics.median(times[True]),
            "spread": (max(times[False]) - min(times[False])) / plain,
            "spent": sum(watch.seconds for watch in ours) / ROUNDS,
        }
    )


if __name__ == "__main__":
    main(sys.argv[1])
