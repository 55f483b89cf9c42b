"""Reading of products of exponentials, and of factors before them: the logarithm of the whole.

May import Theano.
"""

import math
from collections import namedtuple
from fractions import Fraction

import theano.scalar as scalar_ops
import theano.tensor as T

from rbf_op.fusion.algebra import add, multiply, number, power_of, scale, single, sum_over
from rbf_op.fusion.reading.powers import exponent_of
from rbf_op.fusion.reading.reader import LINEAR, MOVING, SCALE, Unreadable, index_of, widens
from rbf_op.fusion.reading.sums import with_bounds
from rbf_op.fusion.values import scalar_constant

# exp(exponent) * amplitude; both polynomials, the amplitude of one term.
Logarithm = namedtuple("Logarithm", "exponent amplitude")


def _logarithm_of_elemwise(reader, variable, index, mode, frame):
    node = variable.owner
    op = node.op.scalar_op
    operands = [(v, index_of(v, index)) for v in node.inputs]
    if isinstance(op, scalar_ops.Exp):
        return Logarithm(reader.read(*operands[0], mode=LINEAR, frame=frame), number(1))
    if isinstance(op, scalar_ops.Exp2):
        exponent = reader.read(*operands[0], mode=LINEAR, frame=frame)
        return Logarithm(scale(exponent, Fraction(math.log(2))), number(1))
    power = exponent_of(variable)
    if power is not None:
        base = reader.read(*operands[0], mode=mode, frame=frame)
        coefficient, product = single(base.amplitude)
        if power.denominator != 1 and (coefficient, product) != (1, frozenset()):
            return None
        amplitude = {power_of(product, power): coefficient ** int(power)}
        if power.denominator != 1:
            amplitude = number(1)
        return Logarithm(scale(base.exponent, power), amplitude)
    if isinstance(op, scalar_ops.Pow):
        base, exponent = operands
        value = scalar_constant(base[0])
        if value is not None and value > 0 and math.isfinite(value):
            factor = Fraction(math.log(value))
            return Logarithm(
                scale(reader.read(*exponent, mode=LINEAR, frame=frame), factor), number(1)
            )
        base = reader.read(*base, mode=mode, frame=frame)
        if base.amplitude != number(1):
            return None
        exponent = reader.read(*exponent, mode=SCALE, frame=frame)
        return Logarithm(multiply(base.exponent, exponent), number(1))
    if isinstance(op, (scalar_ops.Identity, scalar_ops.Neg)) or (
        isinstance(op, scalar_ops.Cast) and widens(node.inputs[0].dtype, variable.dtype)
    ):
        inner = reader.read(*operands[0], mode=mode, frame=frame)
        if isinstance(op, scalar_ops.Neg):
            inner = Logarithm(inner.exponent, scale(inner.amplitude, -1))
        return inner
    if isinstance(op, scalar_ops.Second):
        return reader.read(*operands[1], mode=mode, frame=frame)
    if isinstance(op, (scalar_ops.Mul, scalar_ops.TrueDiv)):
        exponent, amplitude = {}, number(1)
        for position, (v, i) in enumerate(operands):
            part = reader.read(v, i, mode, frame)
            if isinstance(op, scalar_ops.TrueDiv) and position == 1:
                coefficient, product = single(part.amplitude)
                part = Logarithm(
                    scale(part.exponent, -1), {power_of(product, Fraction(-1)): 1 / coefficient}
                )
            exponent = add(exponent, part.exponent)
            amplitude = multiply(amplitude, part.amplitude)
        return Logarithm(exponent, amplitude)
    return None


def _logarithm_of_product(reader, variable, index, mode, frame):
    """A product over features of exponentials, which is the exponential of the sum."""
    source = variable.owner.inputs[0]
    if not widens(source.dtype, variable.dtype):
        return None
    inner, bounds = with_bounds(reader, variable.owner, index)
    terms = reader.read(source, inner, mode, frame)
    if terms.amplitude != number(1):
        return None
    exponent = terms.exponent
    for bound in bounds:
        exponent = sum_over(bound, exponent)
    return Logarithm(exponent, number(1))


_READERS = [(T.Elemwise, _logarithm_of_elemwise), (T.elemwise.Prod, _logarithm_of_product)]


class _OfLogarithm:
    """The mode in which a product of exponentials is read as a Logarithm."""

    def read(self, reader, variable, index, frame):
        node = variable.owner
        # A part may be a kernel of one point with itself, which depends on that one only.
        simple = not (reader.separate or reader.in_parts or reader.mixes(variable, index, frame))
        simple = simple or variable in reader.closed
        if node is not None and not simple and variable.dtype.startswith("float"):
            for classes, read in _READERS + MOVING:
                if isinstance(node.op, classes):
                    result = read(reader, variable, index, self, frame)
                    if result is not None:
                        reader.note_opened(variable, index, frame)
                        return result
            if frame is not None and (variable in frame.sequences or variable in frame.others):
                return reader.leaf(variable, index, self, frame)
        if reader.mixes(variable, index, frame):
            raise Unreadable("a factor depends on both row and column")
        amplitude = reader.read(variable, index, SCALE, frame)
        if len(amplitude) != 1:
            raise Unreadable("a factor is zero or a sum")
        return Logarithm({}, amplitude)


LOGARITHM = _OfLogarithm()
