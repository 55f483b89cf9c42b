"""rbf_op's node in a Theano function.

As anybody would call it; "reused": the function keeps its output buffers between calls (borrow,
no garbage collection), which then are no fresh pages; "amplitude": sum(K * G) comes out of the
gradient node, as the gradient with respect to an amplitude of 1. Imports rbf_op and Theano.
"""

import rbf_op  # first: it lets Theano run on this Python and NumPy

# isort: split
import numpy as np
import theano
import theano.tensor as T

from benchmarks.contenders.theano_graphs import results, variables


def version():
    return "rbf_op %s, Theano %s" % (rbf_op.__version__, theano.__version__)


def prepare(variant, cell, data, threads):
    inputs, values = variables(cell, data)
    y = inputs.get("y")
    if variant == "amplitude":
        one = theano.shared(np.ones((), dtype=cell.dtype))
        kernel = rbf_op.rbf_kernel(inputs["x"], y, gamma=inputs["gamma"], amplitude=one)
        wrt = [one] + [inputs[n] for n in ("x", "y", "gamma") if n in inputs]
        outputs = T.grad((kernel * inputs["G"]).sum(), wrt)
    else:
        kernel = rbf_op.rbf_kernel(inputs["x"], y, gamma=inputs["gamma"])
        outputs = results(cell, inputs, kernel)
    if variant == "reused":
        outputs = [theano.Out(output, borrow=True) for output in outputs]
    function = theano.function(list(inputs.values()), outputs)
    if variant == "reused":
        function.fn.allow_gc = False
    return lambda: function(*values)
