"""Theano without rbf_op: norm expansion, broadcast difference, map over rows. Imports Theano.

And an empty function, whose time is that of calling into Theano at all. The package is imported
first only for what lets Theano run on this Python and NumPy.
"""

import rbf_op  # noqa: F401

# isort: split
import theano
import theano.tensor as T


def version():
    return "Theano %s" % theano.__version__


def expansion(x, y, gamma):
    distance = T.sqr(x).sum(1)[:, None] + T.sqr(y).sum(1)[None, :] - 2 * T.dot(x, y.T)
    return T.exp(-gamma * T.maximum(distance, 0))


def broadcast(x, y, gamma):
    return T.exp(-gamma * T.sqr(x.dimshuffle(0, "x", 1) - y.dimshuffle("x", 0, 1)).sum(2))


def by_map(x, y, gamma):
    def row(point, centres, rate):
        return T.exp(-rate * T.sqr(centres - point.dimshuffle("x", 0)).sum(1))

    return theano.map(row, x, [y, gamma])[0]


KERNELS = {"expansion": expansion, "broadcast": broadcast, "map": by_map}


def variables(cell, data):
    """Theano's inputs of the cell and their values: x[, y], gamma[, G]."""
    names = [n for n in ("x", "y", "gamma", "G") if data.get(n) is not None]
    types = {0: T.scalar, 2: T.matrix}
    inputs = {n: types[data[n].ndim](n, dtype=cell.dtype) for n in names}
    return inputs, [data[n] for n in names]


def results(cell, inputs, kernel):
    """K, or the sum and its gradients."""
    if cell.task == "kernel":
        return [kernel]
    value = (kernel * inputs["G"]).sum()
    wrt = [inputs[n] for n in ("x", "y", "gamma") if n in inputs]
    return [value] + T.grad(value, wrt)


def prepare(variant, cell, data, threads):
    inputs, values = variables(cell, data)
    if variant == "empty":
        function = theano.function(list(inputs.values()), [], on_unused_input="ignore")
        return lambda: function(*values)
    y = inputs.get("y", inputs["x"])
    kernel = KERNELS[variant](inputs["x"], y, inputs["gamma"])
    function = theano.function(list(inputs.values()), results(cell, inputs, kernel))
    return lambda: function(*values)
