"""K formed by rbf_op's node, then multiplied by NumPy: what the matrix-free product replaces.

Two Theano functions with NumPy between them, so that no rewrite can make one node of it. Imports
rbf_op, Theano and NumPy.
"""

import rbf_op  # first: it lets Theano run on this Python and NumPy

# isort: split
import numpy as np
import theano
import theano.tensor as T

from benchmarks.contenders.rbf_op_node import version

__all__ = ["prepare", "version"]


def prepare(variant, cell, data, threads):
    x, y, upstream = (T.matrix(n, dtype=cell.dtype) for n in ("x", "y", "G"))
    gamma = T.scalar("gamma", dtype=cell.dtype)
    points = [x] if cell.symmetric else [x, y]
    kernel = rbf_op.rbf_kernel(*points, gamma=gamma)
    arguments = [data["x"]] + ([] if cell.symmetric else [data["y"]]) + [data["gamma"]]
    weights, product_upstream = data["W"], data["H"]
    form = theano.function(points + [gamma], kernel)
    if cell.task == "product":
        return lambda: (form(*arguments) @ weights,)
    gradients = T.grad((kernel * upstream).sum(), points + [gamma])
    pull_back = theano.function(points + [gamma, upstream], gradients)

    def call():
        formed = form(*arguments)
        value = np.vdot(formed @ weights, product_upstream)
        dweights = formed.T @ product_upstream
        del formed
        return (value, *pull_back(*arguments, product_upstream @ weights.T), dweights)

    return call
