"""An RBF network trained on scikit-learn's digits: centres, widths and output weights are learned.

    h[i, j] = exp(-gamma[j] * ||x[i] - centres[j]||^2),   p = softmax(h . weights + bias)

The hidden layer is given as a function, so that the same network can be built on the fused node and
on plain Theano expressions. Touches the public API, question, Theano, NumPy and scikit-learn;
prints nothing.
"""

import collections
import time

import numpy as np
import theano
import theano.tensor as T

from rbf_op import rbf_kernel
from rbf_op.demo.question import as_written

CLASSES = 10
CENTRES = 500

#: One epoch of training: number from 1, loss of every step, their mean, accuracy on the test data
#: after it, seconds that the training took.
Epoch = collections.namedtuple("Epoch", "number losses loss accuracy seconds")


def fused_hidden(x, centres, gamma):
    """The hidden layer as one node."""
    return rbf_kernel(x, centres, gamma=gamma)


def plain_hidden(x, centres, gamma):
    """The hidden layer in Theano's own expressions: the norm expansion, the fastest of them."""
    distance = (
        T.sqr(x).sum(axis=1).dimshuffle(0, "x")
        + T.sqr(centres).sum(axis=1).dimshuffle("x", 0)
        - 2 * T.dot(x, centres.T)
    )
    return T.exp(-gamma * T.maximum(distance, 0))


def load(seed=0, dtype="float32"):
    """(x_train, t_train, x_test, t_test): 8x8 images scaled to [0, 1], a quarter held back."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    x_train, x_test, t_train, t_test = train_test_split(
        images / 16.0, labels, test_size=0.25, stratify=labels, random_state=seed
    )
    return (
        x_train.astype(dtype),
        t_train.astype("int32"),
        x_test.astype(dtype),
        t_test.astype("int32"),
    )


class Network:
    """The network with its compiled training and test functions.

    The initial state depends on `seed` and the data alone: training rows drawn as centres, one
    width for all from the mean squared distance, output weights zero. Widths are learned as
    log(gamma), so that they stay positive.
    """

    def __init__(self, hidden, data, centres=CENTRES, seed=0, batch=64):
        self.data = data
        x_train, t_train, x_test, t_test = data
        dtype = x_train.dtype
        self.random = np.random.RandomState(seed)
        self.batch = batch

        start = x_train[self.random.choice(len(x_train), centres, replace=False)]
        mean_distance = 2 * x_train.var(axis=0).sum()
        self.parameters = [
            theano.shared(start, name="centres"),
            theano.shared(
                np.full(centres, np.log(8 / mean_distance), dtype=dtype), name="log_gamma"
            ),
            theano.shared(np.zeros((centres, CLASSES), dtype=dtype), name="weights"),
            theano.shared(np.zeros(CLASSES, dtype=dtype), name="bias"),
        ]

        x, t = T.matrix("x", dtype=dtype), T.ivector("t")
        rows = T.lvector("rows")
        centre, log_gamma, weights, bias = self.parameters
        probabilities = T.nnet.softmax(T.dot(hidden(x, centre, T.exp(log_gamma)), weights) + bias)
        loss = T.nnet.categorical_crossentropy(probabilities, t).mean()
        accuracy = T.mean(T.eq(T.argmax(probabilities, axis=1), t))
        rate = T.scalar("rate", dtype=dtype)
        self._step = theano.function(
            [rows, rate],
            loss,
            mode=as_written(),
            allow_input_downcast=True,
            updates=adam(loss, self.parameters, rate),
            givens={x: theano.shared(x_train)[rows], t: theano.shared(t_train)[rows]},
        )
        self._accuracy = theano.function([], accuracy, givens={x: x_test, t: t_test})

    def epoch(self, rate):
        """One pass over the training rows in a new order; the loss of every step."""
        order = self.random.permutation(len(self.data[0]))
        return [
            float(self._step(order[first : first + self.batch], rate))
            for first in range(0, len(order), self.batch)
        ]

    def accuracy(self):
        """Share of the held-back images that are recognised."""
        return float(self._accuracy())


def adam(loss, parameters, learning_rate, beta1=0.9, beta2=0.999, epsilon=1e-8):
    """Updates that follow Adam (Kingma and Ba, 2015, algorithm 1)."""
    dtype = parameters[0].dtype
    steps = theano.shared(np.asarray(0, dtype=dtype))
    now = steps + 1
    updates = [(steps, now)]
    rate = learning_rate * T.sqrt(1 - beta2**now) / (1 - beta1**now)
    for parameter, gradient in zip(parameters, theano.grad(loss, parameters)):
        mean = theano.shared(parameter.get_value() * 0)
        square = theano.shared(parameter.get_value() * 0)
        new_mean = beta1 * mean + (1 - beta1) * gradient
        new_square = beta2 * square + (1 - beta2) * T.sqr(gradient)
        step = rate * new_mean / (T.sqrt(new_square) + epsilon)
        updates += [
            (mean, T.cast(new_mean, dtype)),
            (square, T.cast(new_square, dtype)),
            (parameter, T.cast(parameter - step, dtype)),
        ]
    return updates


def train(network, epochs, learning_rate=0.01):
    """Trains with a learning rate that falls linearly to zero, yielding every Epoch."""
    for number in range(1, epochs + 1):
        start = time.perf_counter()
        losses = network.epoch(learning_rate * (1 - (number - 1) / epochs))
        seconds = time.perf_counter() - start
        yield Epoch(number, losses, float(np.mean(losses)), network.accuracy(), seconds)
