"""Squared distances as a node, and what the rules of second order make of them.

Above base and small; may import Theano and reference.
"""

import numpy as np
import theano.tensor as T

from rbf_op import reference
from rbf_op.ops.base import ForwardOp
from rbf_op.ops.small import Median
from rbf_op.theano_api import Apply


class RBFDistance(ForwardOp):
    """D[i, j] = sum_k (x[i, k] - y[j, k])**2, by differences: for the rules of second order.

    Inputs x (n, d), y (m, d); output D (n, m). Expanded norms would leave nothing of the distances
    between neighbours where others are far away.
    """

    input_names = ("x", "y")
    c_function, c_kernel = "rbf_distances_apply", "rbf_forward"

    def make_node(self, *inputs):
        x, y = self._as_inputs(inputs, self.input_names)
        output = T.TensorType(x.dtype, (x.broadcastable[0], y.broadcastable[0]))()
        return Apply(self, [x, y], [output])

    def infer_shape(self, *args):
        x_shape, y_shape = args[-1]
        return [(x_shape[0], y_shape[0])]

    def perform(self, node, inputs, output_storage):
        reference.check_columns("rbf_op", *inputs)
        distances = reference.squared_distance(*inputs)
        output_storage[0][0] = np.ascontiguousarray(distances, dtype=node.outputs[0].dtype)

    def L_op(self, inputs, outputs, output_gradients):
        x, y = centred(*inputs)
        g = output_gradients[0]
        dx = 2 * (x * g.sum(axis=1, keepdims=True) - T.dot(g, y))
        dy = 2 * (y * g.sum(axis=0, keepdims=True).T - T.dot(g.T, x))
        return [T.patternbroadcast(d, v.broadcastable) for d, v in zip((dx, dy), inputs)]

    def directional_derivative(self, inputs, directions):
        """The change of D in the given directions (None: zero): 2 (x - y) . (dx - dy)."""
        one = T.ones((), dtype=inputs[0].dtype)
        return change_of_exponent(*inputs, one, *directions, None, self.openmp)


def change_of_exponent(x, y, gamma, dx, dy, dgamma, openmp):
    """d(gamma[j] D[i, j]) in the given directions; None when all are.

    dgamma[j] * D[i, j] + 2 gamma[j] * (x[i] - y[j]) . (dx[i] - dy[j]), the inner products expanded
    into matrix products about the median of y, so that data far from the origin lose no digits.
    """
    terms = []
    if dgamma is not None:
        terms.append(dgamma * RBFDistance(openmp=openmp)(x, y))
    x, y = centred(x, y)
    if dx is not None:
        terms.append(2 * gamma * (row_products(x, dx) - T.dot(dx, y.T)))
    if dy is not None:
        terms.append(2 * gamma * (row_products(y, dy).T - T.dot(x, dy.T)))
    return sum(terms[1:], terms[0]) if terms else None


def centred(x, y):
    """x and y about the median of y: their differences stay, their products lose fewer digits."""
    centre = Median()(y)
    return x - centre, y - centre


def row_products(a, b):
    """Inner products of the rows of two matrices, as a column."""
    return (a * b).sum(axis=1, keepdims=True)


def as_column(value):
    """A per-centre vector as a column, a scalar as it is."""
    return value.dimshuffle(0, "x") if value.ndim else value
