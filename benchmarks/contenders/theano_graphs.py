"""Theano without rbf_op: norm expansion, broadcast difference, map over rows. Imports Theano.

And an empty function, whose time is that of calling into Theano at all. The package is imported
first only for what lets Theano run on this Python and NumPy.
"""

import functools

import rbf_op  # noqa: F401

# isort: split
import theano
import theano.tensor as T

from benchmarks import problem


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


def variables(cell):
    """Theano's inputs of a task: x[, y], gamma[, G], by name."""
    inputs = {"x": T.matrix("x", dtype=cell.dtype)}
    if not cell.symmetric:
        inputs["y"] = T.matrix("y", dtype=cell.dtype)
    inputs["gamma"] = T.scalar("gamma", dtype=cell.dtype)
    if cell.task == "gradient":
        inputs["G"] = T.matrix("G", dtype=cell.dtype)
    return inputs


def results(cell, inputs, kernel):
    """K, or the sum and its gradients."""
    if cell.task == "kernel":
        return [kernel]
    value = (kernel * inputs["G"]).sum()
    wrt = [inputs[n] for n in ("x", "y", "gamma") if n in inputs]
    return [value] + T.grad(value, wrt)


def without_sizes(cell):
    """What of a cell a Theano function depends on."""
    return cell._replace(n=0, m=0, d=0)


@functools.lru_cache(maxsize=None)
def compiled(variant, cell):
    inputs = variables(cell)
    if variant == "empty":
        outputs = []
    else:
        y = inputs.get("y", inputs["x"])
        outputs = results(cell, inputs, KERNELS[variant](inputs["x"], y, inputs["gamma"]))
    # Without the rewrite that would put rbf_op's node into these graphs.
    mode = theano.compile.get_default_mode().excluding("rbf_fusion")
    return theano.function(list(inputs.values()), outputs, mode=mode, on_unused_input="ignore")


def prepare(variant, cell, data, threads):
    if variant == "broadcast":
        problem.refuse_broadcast(cell)
    function = compiled(variant, without_sizes(cell))
    values = [data[name] for name in variables(cell)]
    return lambda: function(*values)
