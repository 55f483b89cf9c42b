"""Reading of products, quotients and powers.

May import Theano.
"""

import math
from collections import namedtuple
from fractions import Fraction

import theano.scalar as scalar_ops
import theano.tensor as T

from rbf_op.fusion import matching
from rbf_op.fusion.algebra import (
    Absolute,
    Leaf,
    add,
    is_even,
    multiply,
    number,
    of_factor,
    power_of,
    product_of,
    product_symbols,
    scale,
    single,
)
from rbf_op.fusion.reading.frames import outside
from rbf_op.fusion.reading.limits import read_limit
from rbf_op.fusion.reading.reader import (
    LINEAR,
    MOVING,
    SCALE,
    WHOLE,
    Unreadable,
    index_of,
    keeps_values,
    moves_entries,
    widens,
)
from rbf_op.fusion.values import is_elemwise, scalar_constant
from rbf_op.fusion.writing import Writer


class Raised(namedtuple("Raised", "power mode")):
    """The mode of what is raised to a power, which is applied further inside: below Ops that only
    move entries."""

    def read(self, reader, variable, index, frame):
        if reader.may_open(variable) and moves_entries(variable):
            result = reader.read_by(MOVING, variable, index, self, frame)
            if result is None:
                return _power_of_read(reader, variable, index, self.power, self.mode, frame)
            return result
        return read_power(reader, variable, index, self.power, self.mode, frame)


def read_product(reader, op, operands, mode, frame):
    """The polynomial of a Mul or TrueDiv."""
    gated = (
        None if isinstance(op, scalar_ops.TrueDiv) else _read_gate(reader, operands, mode, frame)
    )
    if gated is not None:
        return gated
    if not isinstance(op, scalar_ops.TrueDiv) and len(operands) > 1:
        # r * r, where r is a root, is what is under the root.
        factors = _factors_of(reader, operands, frame)
        counts = {}
        for v, i in factors:
            counts.setdefault(reader.values.key(v), [v, i, 0])[2] += 1
        if any(n > 1 and scalar_constant(v) is None for v, _, n in counts.values()):
            return _read_powers(reader, list(counts.values()), mode, frame)
    dependences = [reader.dependence(v, i, frame) for v, i in operands]
    if mode is WHOLE:
        modes = [WHOLE] * len(operands)
    else:
        mixed = [len(d) > 1 for d in dependences]
        dependent = mixed if any(mixed) else [bool(d) for d in dependences]
        other = WHOLE if any(mixed) else SCALE
        alone = LINEAR if sum(dependent) == 1 and mode is LINEAR else other
        modes = [alone if chosen else SCALE for chosen in dependent]
        # Under a sum over features a factor is one thing, as it is in a matrix product.
        modes = [
            WHOLE if m is SCALE and reader.under_sum(i) else m for m, (_, i) in zip(modes, operands)
        ]
    result = number(1)
    for position, ((v, i), its_mode) in enumerate(zip(operands, modes)):
        if isinstance(op, scalar_ops.TrueDiv) and position == 1:
            factor = read_power(
                reader, v, i, Fraction(-1), SCALE if mode is not WHOLE else WHOLE, frame
            )
        else:
            factor = reader.read(v, i, its_mode, frame)
        result = multiply(result, factor)
    return result


def _factors_of(reader, operands, frame):
    """The operands of a product, those of products and of -u = -1 u in their place."""
    factors = []
    for v, i in operands:
        node = v.owner
        is_product = is_elemwise(node, scalar_ops.Mul, scalar_ops.Neg)
        if not is_product or not reader.readable(v) or len(factors) > 20:
            factors.append((v, i))
            continue
        reader.note_opened(v, i, frame)
        if is_elemwise(node, scalar_ops.Neg):
            factors.append((T.constant(-1, dtype=v.dtype), ()))
        inner = [(u, index_of(u, i)) for u in node.inputs]
        factors.extend(_factors_of(reader, inner, frame))
    return factors


def _read_gate(reader, operands, mode, frame):
    """u * (u > 0), which is max(u, 0), perhaps among other factors."""
    for gate, gate_index in operands:
        gates, node = [gate], gate.owner
        while is_elemwise(node, scalar_ops.Cast):
            gates.append(node.inputs[0])
            node = node.inputs[0].owner
        if not is_elemwise(node, scalar_ops.GT, scalar_ops.GE):
            continue
        if scalar_constant(node.inputs[1]) != 0:
            continue
        others = [o for o in operands if o[0] is not gate]
        if not any(reader.same(node.inputs[0], value) for value, _ in others):
            others = _factors_of(reader, others, frame)
        for place, (value, index) in enumerate(others):
            if not reader.same(node.inputs[0], value):
                continue
            rest = others[:place] + others[place + 1 :]
            result = read_limit(reader, value, index, 0, None, WHOLE if rest else mode, frame)
            if result is None:
                continue
            for v in gates:
                reader.note_opened(v, gate_index, frame)
            for v, i in rest:
                if reader.mixes(v, i, frame):
                    return None
                result = multiply(result, reader.read(v, i, SCALE, frame))
            return result
    return None


def _read_powers(reader, bases, mode, frame):
    """The product of variable[index]**power for each (variable, index, power) of bases."""
    mixing = [reader.mixes(v, i, frame) for v, i, _ in bases]
    result = number(1)
    for (v, i, power), mixes in zip(bases, mixing):
        alone = mixes and sum(mixing) == 1
        if reader.under_sum(i) or mixes and not alone:
            its_mode = WHOLE
        else:
            its_mode = mode if alone else SCALE
        result = multiply(result, read_power(reader, v, i, Fraction(power), its_mode, frame))
    return result


def read_power(reader, variable, index, power, mode, frame):
    """The polynomial of variable[index]**power; a leaf to that power if it is not understood.

    Powers of powers are added up first, so that the square of a norm is the sum again.
    """
    return reader.remembered(_read_power, variable, index, power, mode, frame)


def _read_power(reader, variable, index, power, mode, frame):
    exponent = exponent_of(variable)
    if power == 1 and (exponent is None or not reader.readable(variable)):
        return reader.read(variable, index, mode, frame)
    value = scalar_constant(variable)
    if value is not None and math.isfinite(value):
        return _constant_power(reader, variable, index, value, power)
    node = variable.owner
    whole = power.denominator == 1
    even = is_even(power)
    if node is not None and reader.readable(variable):
        if moves_entries(variable):
            return reader.read(variable, index, Raised(power, mode), frame)
        if isinstance(node.op, T.Elemwise):
            op = node.op.scalar_op
            operands = [(v, index_of(v, index)) for v in node.inputs]
            if exponent is not None:
                total = exponent * power
                # (b^e)^p = b^(e p): for whole e and p always; else where b >= 0.
                if (
                    whole
                    and exponent.denominator == 1
                    or _never_negative(reader, *operands[0], frame=frame)
                ):
                    reader.note_opened(variable, index, frame)
                    return read_power(reader, *operands[0], total, mode, frame)
            elif isinstance(op, scalar_ops.Abs) and even and keeps_values(node):
                reader.note_opened(variable, index, frame)
                return read_power(reader, *operands[0], power, mode, frame)
            elif isinstance(op, scalar_ops.Identity) or (
                isinstance(op, scalar_ops.Cast) and widens(node.inputs[0].dtype, variable.dtype)
            ):
                return read_power(reader, *operands[0], power, mode, frame)
            elif (
                isinstance(op, (scalar_ops.Mul, scalar_ops.TrueDiv))
                and keeps_values(node)
                and (whole or all(_never_negative(reader, v, i, frame=frame) for v, i in operands))
            ):
                if _read_gate(reader, operands, WHOLE, frame) is None:
                    reader.note_opened(variable, index, frame)
                    divides = isinstance(op, scalar_ops.TrueDiv)
                    bases = [
                        (v, i, -power if divides and position == 1 else power)
                        for position, (v, i) in enumerate(operands)
                    ]
                    return _read_powers(reader, bases, mode, frame)
            elif isinstance(op, scalar_ops.Neg) and whole:
                reader.note_opened(variable, index, frame)
                base = read_power(reader, *operands[0], power, mode, frame)
                return base if even else scale(base, -1)
    return _power_of_read(reader, variable, index, power, mode, frame)


def _power_of_read(reader, variable, index, power, mode, frame):
    """The same, of what the base is read as."""
    if power == 1:  # reading it asks for this power of it
        return reader.leaf(variable, index, mode, frame)
    base = reader.read(variable, index, WHOLE, frame)
    term = single(base)
    whole = power.denominator == 1
    if not base and power > 0:
        return base
    if term is not None:
        coefficient, product = term
        if whole and coefficient:
            return {power_of(product, power): coefficient**power.numerator}
        if coefficient > 0 and matching.product_nonnegative(product, reader.is_nonnegative):
            if all((p * power).denominator <= 2 for _, p in product):
                root = Fraction(float(coefficient) ** float(power))
                return {_positive_power(reader, product, power): root}
    elif whole and 2 <= power <= 4 and base:
        result = base = _sides(reader, base, variable.dtype)
        for _ in range(int(power) - 1):
            result = multiply(result, base)
        return result
    if frame is not None:
        variable = outside(variable, frame)
        if variable is None:
            raise Unreadable("the loop computes a power of each row that cannot be undone")
    return reader.leaf_of(variable, index, power)


def _constant_power(reader, variable, index, value, power):
    if power.denominator == 1 and (value or power > 0):
        return number(Fraction(value) ** power.numerator)
    if value > 0:
        return number(Fraction(float(value) ** float(power)))
    return reader.leaf_of(variable, index, power)


def _positive_power(reader, product, power):
    """A fraction of a power of a product that is not negative: (u^2)^(1/2) is |u|."""
    result = frozenset()
    for factor, its_power in product:
        part = frozenset([(factor, Fraction(1))])
        loses_sign = is_even(its_power) and not is_even(its_power * power)
        if loses_sign and not matching.product_nonnegative(part, reader.is_nonnegative):
            part = frozenset([(Absolute(part), Fraction(1))])
        result = product_of(result, power_of(part, its_power * power))
    return result


def _never_negative(reader, variable, index, frame):
    """Whether variable[index] is known to be 0 or more."""
    return reader.remembered(_is_never_negative, variable, index, frame)


def _is_never_negative(reader, variable, index, frame):
    if reader.signs.nonnegative(variable):
        return True
    if not reader.readable(variable):
        return False
    return reader.sign(reader.read(variable, index, LINEAR, frame)) == 1


def _sides(reader, polynomial, dtype):
    """R_i - C_j for a sum of more terms of which each is of rows or of columns alone."""
    sides = {symbol: {} for symbol in reader.roots}
    for product, coefficient in polynomial.items():
        its_roots = product_symbols(product).intersection(reader.roots)
        if len(its_roots) > 1 or len(sides) != 2:
            return polynomial
        (symbol,) = its_roots or reader.roots[:1]
        sides[symbol][product] = coefficient
    if len(polynomial) <= len(sides) or not all(sides.values()):
        return polynomial
    # One of them is subtracted, whichever was.
    rows, columns = sides.values()
    lone = next((side for side in (rows, columns) if len(side) == 1), None)
    sign = 1
    if lone is not None:
        sign = (1 if next(iter(lone.values())) > 0 else -1) * (1 if lone is rows else -1)
    try:
        return add(_as_one(reader, rows, sign, dtype), _as_one(reader, columns, -sign, dtype))
    except matching.NoMatch:
        return polynomial


def _as_one(reader, polynomial, sign, dtype):
    """sign * (sign * polynomial), what is in brackets being written as one variable."""
    if len(polynomial) == 1:
        return polynomial
    polynomial = scale(polynomial, sign)
    symbols = frozenset().union(*(product_symbols(product) for product in polynomial))
    layout = tuple(sorted(symbols, key=lambda symbol: (symbol.name, repr(symbol.size))))
    writer = Writer(reader, dtype)
    terms = sorted(polynomial.items(), key=lambda item: repr(item[1]))
    total = sum(writer.product(coefficient, product, layout) for product, coefficient in terms)
    if reader.members:
        members = frozenset().union(*(reader.members_of(product) for product in polynomial))
        reader.natural[reader.values.key(total)] = members
    leaf = Leaf(reader.values.key(total), tuple((symbol,) for symbol in layout))
    return scale(of_factor(leaf), sign)


def exponent_of(variable):
    """The constant that a variable is its first input raised to, or None."""
    node = variable.owner
    op = getattr(getattr(node, "op", None), "scalar_op", None)
    if isinstance(op, scalar_ops.Sqr):
        return Fraction(2)
    if isinstance(op, scalar_ops.Sqrt):
        return Fraction(1, 2)
    if isinstance(op, scalar_ops.Inv):
        return Fraction(-1)
    if isinstance(op, scalar_ops.Pow):
        value = scalar_constant(node.inputs[1])
        if value is not None and math.isfinite(value) and Fraction(value).denominator <= 2:
            return Fraction(value)
    return None
