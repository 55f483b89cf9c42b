"""rbf_op's matrix-free product K @ W in a Theano function. Imports rbf_op and Theano."""

import rbf_op  # first: it lets Theano run on this Python and NumPy

# isort: split
import theano
import theano.tensor as T

from benchmarks.contenders.rbf_op_node import version

__all__ = ["prepare", "version"]


def prepare(variant, cell, data, threads):
    names = [n for n in ("x", "y", "gamma", "W", "H") if data[n] is not None]
    inputs = {n: (T.matrix if data[n].ndim else T.scalar)(n, dtype=cell.dtype) for n in names}
    x = inputs["x"]
    product = rbf_op.rbf_dot(x, inputs.get("y", x), inputs["W"], gamma=inputs["gamma"])
    if cell.task == "product":
        outputs = [product]
    else:
        value = (product * inputs["H"]).sum()
        wrt = [n for n in ("x", "y", "gamma", "W") if n in inputs]
        outputs = [value] + T.grad(value, [inputs[n] for n in wrt])
    function = theano.function(list(inputs.values()), outputs, on_unused_input="ignore")
    values = [data[n] for n in names]
    return lambda: function(*values)
