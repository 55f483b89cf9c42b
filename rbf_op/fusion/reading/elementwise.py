"""Reading of Elemwise: sums, products, powers, limits, casts.

May import Theano.
"""

from fractions import Fraction

import theano.scalar as scalar_ops
import theano.tensor as T

from rbf_op.fusion.algebra import add, scale
from rbf_op.fusion.reading.limits import read_absolute, read_limited, read_switched
from rbf_op.fusion.reading.powers import exponent_of, read_power, read_product
from rbf_op.fusion.reading.reader import LINEAR, index_of, keeps_values, widens
from rbf_op.theano_api import Maximum, Minimum


def _read_elemwise(reader, variable, index, mode, frame):
    node = variable.owner
    op = node.op.scalar_op
    operands = [(v, index_of(v, index)) for v in node.inputs]

    def operand(position, mode=mode):
        v, i = operands[position]
        return reader.read(v, i, mode, frame)

    if isinstance(op, (scalar_ops.Add, scalar_ops.Sub)):
        if isinstance(op, scalar_ops.Sub) and reader.same(*node.inputs):
            return {}  # x[i] - x[i], in a loop that does not leave out the diagonal
        if mode is not LINEAR and not reader.mixes(variable, index, frame):
            return None
        parts = [operand(k) for k in range(len(operands))]
        if isinstance(op, scalar_ops.Sub):
            parts[1] = scale(parts[1], -1)
        return add(*parts)
    if isinstance(op, scalar_ops.Neg):
        return scale(operand(0), -1)
    if isinstance(op, (scalar_ops.Mul, scalar_ops.TrueDiv)) and keeps_values(node):
        return read_product(reader, op, operands, mode, frame)
    if isinstance(op, scalar_ops.Identity):
        return operand(0)
    if isinstance(op, scalar_ops.Cast):
        return operand(0) if widens(node.inputs[0].dtype, variable.dtype) else None
    if isinstance(op, scalar_ops.Second):
        return operand(1)
    if isinstance(op, scalar_ops.Abs) and keeps_values(node):  # not of complex numbers
        return read_absolute(reader, variable, index, operands[0], mode, frame)
    if isinstance(op, (Maximum, Minimum, scalar_ops.Clip)):
        return read_limited(reader, op, operands, mode, frame)
    if isinstance(op, scalar_ops.Switch):
        return read_switched(reader, operands, mode, frame)
    if exponent_of(variable) is not None:
        return read_power(reader, variable, index, Fraction(1), mode, frame)
    return None


READERS = [(T.Elemwise, _read_elemwise)]
