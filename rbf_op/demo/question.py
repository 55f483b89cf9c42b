"""The layer that somebody asked to make fast, with its own numbers, in all its spellings.

"Efficient kernel implementation in theano" (Stack Overflow): a Gaussian layer written with Python
loops ran on one core. Here are its data, what it printed, the exact values, and five ways to write
it. Touches the public API, Theano and NumPy; prints nothing.
"""

import decimal
import fractions

import numpy as np
import theano
import theano.tensor as T

from rbf_op import rbf_kernel

BATCH, DIMS, HIDDEN = 5, 10, 3

#: What the question's code printed (computed in float32).
PRINTED = np.array(
    [
        [1.83701953e-25, 1.78982216e-26, 9.22911484e-27],
        [1.60078639e-17, 9.21553384e-17, 7.62476155e-14],
        [8.13404350e-17, 1.88481821e-17, 2.44677516e-15],
        [3.16093011e-29, 1.49698827e-27, 2.42876079e-27],
        [9.57103818e-09, 3.46683533e-12, 6.66103154e-12],
    ]
)


def draw(dtype="float64"):
    """The question's x (5, 10), W (10, 3) and S (3,), in the order in which its code draws them."""
    random = np.random.RandomState(1234)
    x = random.uniform(low=-2.1, high=5.0, size=(BATCH, DIMS))
    W = random.uniform(low=0.001, high=1.0, size=(DIMS, HIDDEN))
    S = random.uniform(low=10.0, high=100.0, size=(HIDDEN,))
    return [value.astype(dtype) for value in (x, W, S)]


def exact(x, W, S):
    """exp(-||W.T[j] - x[i]||^2) / 2 * S[j]^2, (n, m), rounded once.

    Distances in rational arithmetic on the numbers as they are stored, the rest in 50 decimal
    digits: shares nothing with any floating-point code.
    """
    with decimal.localcontext() as context:
        context.prec = 50

        def entry(row, column, scale):
            pairs = zip(row.tolist(), column.tolist())
            distance = sum((fractions.Fraction(a) - fractions.Fraction(b)) ** 2 for a, b in pairs)
            exponent = -decimal.Decimal(distance.numerator) / distance.denominator
            return float(exponent.exp() / 2 * decimal.Decimal(float(scale)) ** 2)

        return np.array([[entry(row, W[:, j], S[j]) for j in range(len(S))] for row in x])


def nested_loops(x, W, S, batch, hidden):
    """As the question wrote it: two nodes and more for every entry of the output."""
    out = theano.shared(np.zeros((batch, hidden), dtype=x.dtype))
    for i in range(batch):
        for j in range(hidden):
            out = T.set_subtensor(out[i, j], T.exp(-((W.T[j] - x[i]).norm(2) ** 2)) / 2 * S[j] ** 2)
    return out


def theano_map(x, W, S, batch, hidden):
    """As its answer wrote it: a loop over rows inside of Theano."""
    return theano.map(
        lambda row, W, S: T.exp(-((W.T - row).norm(2, axis=1) ** 2)) / 2 * S**2,
        sequences=[x],
        non_sequences=[W, S],
    )[0]


def broadcast(x, W, S, batch, hidden):
    """All differences at once, in an array of shape (n, m, d)."""
    difference = x.dimshuffle(0, "x", 1) - W.T.dimshuffle("x", 0, 1)
    return T.exp(-T.sqr(difference).sum(axis=2)) / 2 * S**2


def norm_expansion(x, W, S, batch, hidden):
    """|x|^2 + |w|^2 - 2 x.w: a matrix product, and what cancellation leaves of the digits."""
    distance = (
        T.sqr(x).sum(axis=1).dimshuffle(0, "x")
        + T.sqr(W).sum(axis=0).dimshuffle("x", 0)
        - 2 * T.dot(x, W)
    )
    return T.exp(-T.maximum(distance, 0)) / 2 * S**2


def fused_node(x, W, S, batch, hidden):
    """One node."""
    return rbf_kernel(x, W.T, gamma=1, amplitude=S**2 / 2)


#: name -> function of symbolic x, W, S and of the numbers batch and hidden; slowest first.
WAYS = {
    "nested loops": nested_loops,
    "theano.map": theano_map,
    "3-d broadcast": broadcast,
    "norm expansion": norm_expansion,
    "rbf_kernel": fused_node,
}


def as_written():
    """The usual mode, less the rewrite that would put rbf_kernel into the plain ways."""
    return theano.compile.mode.get_default_mode().excluding("rbf_fusion")


def evaluate(way, dtype):
    """The (5, 3) output of one way, compiled and called on the question's numbers."""
    x, W, S = T.matrix("x", dtype=dtype), T.matrix("W", dtype=dtype), T.vector("S", dtype=dtype)
    layer = theano.function([x, W, S], WAYS[way](x, W, S, BATCH, HIDDEN), mode=as_written())
    return layer(*draw(dtype))


def relative_error(values, reference):
    """Largest |values - reference| / |reference| over all entries; NaN if any entry is NaN."""
    return float(np.max(np.abs(values / reference - 1)))
