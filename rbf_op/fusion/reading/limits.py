"""Reading of limits: maximum, minimum, clip, switch between a value and a bound, abs.

May import Theano.
"""

import math

import theano.scalar as scalar_ops

from rbf_op.fusion.algebra import Absolute, Bounded, limits_within, of_factor, scale, single
from rbf_op.fusion.reading.reader import LINEAR, WHOLE
from rbf_op.fusion.values import is_elemwise, scalar_constant
from rbf_op.theano_api import Maximum

_DEEPEST_LIMITS = 3  # within one another: each is written out wherever it occurs


def read_limited(reader, op, operands, mode, frame):
    if isinstance(op, scalar_ops.Clip):
        (value, index), (low, _), (high, _) = operands
        low, high = scalar_constant(low), scalar_constant(high)
        if low is None or high is None or not low <= high:
            return None
    else:
        constants = [scalar_constant(v) for v, _ in operands]
        if (constants[0] is None) == (constants[1] is None):
            return None
        value, index = operands[0 if constants[0] is None else 1]
        bound = constants[1] if constants[0] is None else constants[0]
        low, high = (bound, None) if isinstance(op, Maximum) else (None, bound)
    for bound, its_index in operands:
        if bound is not value:
            reader.note_opened(bound, its_index, frame)  # perhaps zeros_like(value)
    low = None if low == -math.inf else low
    high = None if high == math.inf else high
    if any(bound is not None and not math.isfinite(bound) for bound in (low, high)):
        return None
    return read_limit(reader, value, index, low, high, mode, frame)


def read_switched(reader, operands, mode, frame):
    """switch(u > b, u, b) and switch(u < b, b, u), which are max(u, b)."""
    (condition, _), (yes, yes_index), (no, no_index) = operands
    node = condition.owner
    above = is_elemwise(node, scalar_ops.GT, scalar_ops.GE)
    if not above and not is_elemwise(node, scalar_ops.LT, scalar_ops.LE):
        return None
    value, bound = node.inputs
    if scalar_constant(value) is not None:  # 0 < u
        value, bound, above = bound, value, not above
    (kept, index), other = ((yes, yes_index), no) if above else ((no, no_index), yes)
    low = scalar_constant(bound)
    if low is None or scalar_constant(other) != low or not reader.same(value, kept):
        return None
    if not math.isfinite(low):
        return None
    result = read_limit(reader, kept, index, low, None, mode, frame)
    if result is not None:
        reader.note_opened(condition, index, frame)
        reader.note_opened(other, index, frame)
    return result


def read_limit(reader, value, index, low, high, mode, frame):
    """clip(value, low, high); the limits that it is known to keep are dropped."""
    inner = reader.read(value, index, LINEAR, frame)
    known = reader.sign(inner)
    if known == 1 and low is not None and low <= 0:
        low = None
    if known == -1 and high is not None and high >= 0:
        high = None
    if low is None and high is None:
        if mode is LINEAR or len(inner) == 1:
            return inner
    if not reader.mixes(value, index, frame):
        return None
    if low is None and high is None:
        return inner
    if limits_within(inner) >= _DEEPEST_LIMITS:
        return None
    return of_factor(Bounded(frozenset(inner.items()), low, high))


def read_absolute(reader, variable, index, operand, mode, frame):
    inner = reader.read(operand[0], operand[1], LINEAR, frame)
    known = reader.sign(inner)
    if known is not None:
        if mode is LINEAR or len(inner) == 1 or reader.mixes(variable, index, frame):
            return scale(inner, known)
        return None
    term = single(reader.read(operand[0], operand[1], WHOLE, frame))
    if term is None:
        return None
    coefficient, product = term
    return scale(of_factor(Absolute(product)), abs(coefficient))
