"""rbf_op's node in a Theano function.

As anybody would call it; "reused": the function keeps its output buffers between calls (borrow, no
garbage collection). Imports rbf_op and Theano.
"""

import functools

import rbf_op  # first: it lets Theano run on this Python and NumPy

# isort: split
import theano

from benchmarks.contenders.theano_graphs import results, variables, without_sizes


def version():
    return "rbf_op %s, Theano %s" % (rbf_op.__version__, theano.__version__)


@functools.lru_cache(maxsize=1)  # one: a function that reuses its buffers keeps them
def compiled(variant, cell):
    inputs = variables(cell)
    y = inputs.get("y")
    kernel = rbf_op.rbf_kernel(inputs["x"], y, gamma=inputs["gamma"])
    outputs = results(cell, inputs, kernel)
    if variant == "reused":
        outputs = [theano.Out(output, borrow=True) for output in outputs]
    function = theano.function(list(inputs.values()), outputs)
    if variant == "reused":
        function.fn.allow_gc = False
    return function


def prepare(variant, cell, data, threads):
    function = compiled(variant, without_sizes(cell))
    values = [data[name] for name in variables(cell)]
    return lambda: function(*values)
