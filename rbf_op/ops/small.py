"""Ops without a kernel: a check of a length, the median of each column, a matrix of what repeats.

Above base (for the version of the C text) and sources; may import Theano and reference.
"""

import re

import numpy as np
import theano.tensor as T

from rbf_op import reference, sources
from rbf_op.ops.base import C_TEXT_VERSION
from rbf_op.theano_api import Apply, DisconnectedType, Op


class SmallOp(Op):
    """An Op without a kernel, whose C code is a function of small_nodes.h.

    That is for graphs that are one C module: a module of its own would take a second to compile,
    which two or three NumPy calls are not worth.

    Subclasses name that function, `c_function`.
    """

    # Not empty: Theano takes an Op with no props for unversioned, and all that it is linked with.
    __props__ = ("c_function",)

    def __str__(self):
        return type(self).__name__

    def make_c_thunk(self, *args, **kwargs):
        raise NotImplementedError("in NumPy")

    def c_header_dirs(self, *args, **kwargs):
        return [sources.source_directory("c_code")]

    def c_support_code(self, *args, **kwargs):
        return '#include "small_nodes.h"\n'

    def c_code_cache_version(self):
        return (C_TEXT_VERSION, sources.sources_hash("c_code"))


class CheckedEntries(SmallOp):
    """A vector (or a matrix) as it is, once it is seen to have an entry (or a row) for each row or
    column of another matrix.

    Inputs: the two. For what is not an argument of a node here but divides or multiplies one, so
    that Theano would refuse a wrong length in words that name neither. Raises ValueError, in the
    words of reference.check_entries.
    """

    __props__ = ("function", "argument", "matrix_name", "axis")
    c_function = "rbf_checked_entries"
    view_map = {0: [0]}

    def __init__(self, function, argument, matrix_name, axis):
        self.function, self.argument = function, argument
        self.matrix_name, self.axis = matrix_name, axis

    def make_node(self, values, matrix):
        return Apply(self, [values, matrix], [values.type()])

    def infer_shape(self, *args):
        return [args[-1][0]]

    def perform(self, node, inputs, output_storage):
        values, matrix = inputs
        reference.check_entries(
            self.function, self.argument, values, self.matrix_name, matrix, self.axis
        )
        output_storage[0][0] = values

    def c_code(self, node, name, inputs, outputs, sub):
        function, argument, matrix_name = map(
            _c_string, (self.function, self.argument, self.matrix_name)
        )
        arguments = function, argument, inputs[0], matrix_name, inputs[1], "%d" % self.axis
        return "{ if (%s(%s, &%s) != 0) { %s } }" % (
            self.c_function,
            ", ".join(arguments),
            outputs[0],
            sub["fail"],
        )

    def connection_pattern(self, node):
        return [[True], [False]]

    def L_op(self, inputs, outputs, output_gradients):
        return [output_gradients[0], DisconnectedType()()]

    def R_op(self, inputs, eval_points):
        return [eval_points[0]]


class Median(SmallOp):
    """The upper median of each column of a matrix, 0 where it is not finite or there are no rows:
    the origin for its rows.

    Rows that are not finite, or lie far from all others, leave it where the others are. No
    derivative: only differences matter.
    """

    c_function = "rbf_column_medians"

    def make_node(self, matrix):
        return Apply(self, [matrix], [T.TensorType(matrix.dtype, (matrix.broadcastable[1],))()])

    def infer_shape(self, *args):
        return [(args[-1][0][1],)]

    def perform(self, node, inputs, output_storage):
        (matrix,) = inputs
        median = np.zeros(matrix.shape[1], dtype=matrix.dtype)
        if len(matrix):
            half = len(matrix) // 2
            median = np.partition(matrix, half, axis=0)[half]
        output_storage[0][0] = np.where(np.isfinite(median), median, 0).astype(matrix.dtype)

    def c_code(self, node, name, inputs, outputs, sub):
        arguments = (self.c_function, inputs[0], outputs[0], sub["fail"])
        return "{ if (%s(%s, &%s) != 0) { %s } }" % arguments

    def connection_pattern(self, node):
        return [[False]]

    def L_op(self, inputs, outputs, output_gradients):
        return [DisconnectedType()()]

    def R_op(self, inputs, eval_points):
        return [None]


class Repeated(SmallOp):
    """A matrix (n, m) whose rows or columns, or both, are all the same, without a copy of them.

    Inputs: a matrix with an axis or two of length one, then n and m, as T.alloc. It has strides of
    zero, so no Op may write into it; put where the graph is compiled, it has no derivative.
    """

    c_function = "rbf_repeated"
    view_map = {0: [0]}

    def make_node(self, values, *lengths):
        lengths = [T.cast(length, "int64") for length in lengths]
        return Apply(self, [values, *lengths], [T.alloc(values, *lengths).type()])

    def infer_shape(self, *args):
        return [tuple(args[-2].inputs[1:])]

    def perform(self, node, inputs, output_storage):
        values, rows, columns = inputs
        shape = n, m = rows.item(), columns.item()
        if values.shape == (1, m) and values.flags.c_contiguous:  # broadcast_to takes longer
            matrix = np.ndarray(shape, values.dtype, values, 0, (0, values.strides[1]))
        else:
            matrix = np.broadcast_to(values, shape)
        output_storage[0][0] = matrix

    def c_code(self, node, name, inputs, outputs, sub):
        arguments = (self.c_function, *inputs, outputs[0], sub["fail"])
        return "{ if (%s(%s, %s, %s, &%s) != 0) { %s } }" % arguments


def _c_string(text):
    """A C string literal of any text: whatever could mean something else is given by its number."""
    numbered = re.sub(rb"\W", lambda found: b"\\%03o" % ord(found.group()), text.encode("utf-8"))
    return '"%s"' % numbered.decode("ascii")
