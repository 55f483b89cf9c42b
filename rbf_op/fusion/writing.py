"""From algebra.py's products back to Theano: the arguments of the fused node.

May import Theano, algebra.py, matching.py and ops/dtypes.py.
"""

import math
from fractions import Fraction

import numpy as np
import theano.scalar as scalar_ops
import theano.tensor as T

from rbf_op.fusion.algebra import (
    Absolute,
    Bound,
    Extent,
    Fixed,
    Gathered,
    Leaf,
    Sum,
    product_symbols,
    symbols_of,
)
from rbf_op.fusion.matching import NoMatch, is_positive
from rbf_op.ops.dtypes import widened
from rbf_op.theano_api import Constant, disconnected_grad


class Writer:
    """Builds Theano expressions in one dtype, over a layout: the symbol of each of their axes.

    Of what a reader has read.
    """

    def __init__(self, reader, dtype):
        self.reader = reader
        self.sizes = reader.sizes
        self.dtype = dtype

    def number(self, value):
        """A constant; NoMatch where a Fraction is none in this dtype."""
        if isinstance(value, Fraction) and value:
            limits = np.finfo(self.dtype)
            if not limits.tiny <= abs(value) <= limits.max:
                raise NoMatch("a number in it is too large or too small for its dtype")
        return T.constant(float(value), dtype=self.dtype)

    def product(self, coefficient, product, layout):
        """coefficient * product with the axes of `layout`, each factor as small as can be."""
        layout = tuple(layout)
        if coefficient == 1 and len(product) == 1:
            ((factor, power),) = product
            return self._power(factor, power, layout)
        above, below = [], []
        for factor, power in product:
            (above if power > 0 else below).append((factor, abs(power)))
        rank = {id(item): len(symbols_of(item[0])) for item in above + below}
        order = lambda item: (rank[id(item)], repr(self._name(item[0])), item[1])  # noqa: E731
        result = None
        for item in sorted(above, key=order):
            factor = self._power(item[0], item[1], layout)
            result = factor if result is None else result * factor
        if result is None or coefficient not in (1, -1):
            number = self.number(coefficient)
            if layout:
                number = number.dimshuffle(*["x"] * len(layout))
            result = number if result is None else number * result
        elif coefficient == -1:
            result = -result
        for item in sorted(below, key=order):
            result = result / self._power(item[0], item[1], layout)
        return result

    def _name(self, factor):
        """Something to sort by that is the same in every process."""
        if isinstance(factor, Leaf):
            return (factor.key, len(factor.index))
        return (type(factor).__name__,)

    def _power(self, factor, power, layout):
        if power.denominator != 1 and isinstance(factor, Leaf):
            exponent = self._exponential(factor, power, layout)
            if exponent is not None:
                return exponent
        base = self._factor(factor, layout)
        if power == 1:
            return base
        if power == 2:
            return T.sqr(base)
        if power == Fraction(1, 2):
            return T.sqrt(base if is_positive(factor, self.reader) else at_least_tiny(base))
        if power == -1:
            return self.number(1) / base
        return T.pow(base, self.number(power))

    def _exponential(self, factor, power, layout):
        """exp(u)**p as exp(p * u), whose gradient is right even where exp(u) underflows."""
        variable = self.reader.variable(factor.key)
        node = None if variable in self.reader.closed else variable.owner
        if node is None or not isinstance(getattr(node.op, "scalar_op", None), scalar_ops.Exp):
            return None
        self.reader.passed.add(variable)
        inside = Leaf(self.reader.key_of(node.inputs[0]), factor.index)
        return T.exp(self.number(power) * self._factor(inside, layout))

    def _factor(self, factor, layout):
        if isinstance(factor, Leaf):
            return self._leaf(factor, layout)
        if isinstance(factor, Extent):
            length = self.sizes.expression(factor.size)
            if length is None:
                raise NoMatch("it depends on a length inside a loop")
            length = T.cast(length, self.dtype)
            return length.dimshuffle(*["x"] * len(layout)) if layout else length
        if isinstance(factor, Absolute):
            return abs(self.product(Fraction(1), factor.product, layout))
        if isinstance(factor, Sum):
            return self._sum(factor, layout)
        raise NoMatch("part of it has no expression")

    def _sum(self, factor, layout):
        bound = Bound(factor.height)
        needed = [s for s in layout if s in symbols_of(factor)]
        if len(needed) == 2:
            first = frozenset(i for i in factor.product if needed[0] in symbols_of(i[0]))
            second = factor.product - first
            if needed[1] not in product_symbols(first) and bound in product_symbols(second):
                result = T.dot(
                    self.product(Fraction(1), first, (needed[0], bound)),
                    self.product(Fraction(1), second, (bound, needed[1])),
                )
                return self._arranged(result, needed, layout)
        terms = self.product(Fraction(1), factor.product, tuple(needed) + (bound,))
        return self._arranged(terms.sum(axis=len(needed)), needed, layout)

    @staticmethod
    def _arranged(variable, symbols, layout):
        order = [symbols.index(s) if s in symbols else "x" for s in layout]
        return variable if order == list(range(variable.ndim)) else variable.dimshuffle(*order)

    def _leaf(self, factor, layout):
        variable = self.reader.variable(factor.key)
        symbols = []
        for axis, entries in reversed(list(enumerate(factor.index))):
            if not entries:
                if not variable.broadcastable[axis]:
                    raise NoMatch("part of it has a length that must be one, but may not be")
                continue
            if len(entries) > 1:
                raise NoMatch("part of it runs over a flattened pair of indices")
            (entry,) = entries
            if isinstance(entry, Fixed):
                variable = variable[(slice(None),) * axis + (entry.position,)]
            elif isinstance(entry, Gathered):
                positions = self.reader.variable(entry.positions)
                variable = T.take(variable, positions, axis=axis) if axis else variable[positions]
        for entries in factor.index:
            if not entries:
                symbols.append(None)
            elif not isinstance(entries[0], Fixed):
                entry = entries[0]
                symbols.append(entry.symbol if isinstance(entry, Gathered) else entry)
        named = [s for s in symbols if s is not None]
        if len(set(named)) != len(named):
            if variable.ndim != 2 or len(named) != 2:
                raise NoMatch("part of it is a diagonal of more than two dimensions")
            variable, symbols = T.diag(variable), named[:1]
        if not set(symbols) <= set(layout) | {None}:
            raise NoMatch("part of it depends on a further index")
        order = [symbols.index(s) if s in symbols else "x" for s in layout]
        if order != list(range(variable.ndim)):
            variable = variable.dimshuffle(*order)
        if variable.dtype != self.dtype:
            if isinstance(variable, Constant):
                return T.constant(variable.data, dtype=self.dtype)
            variable = widened(variable, self.dtype)
        return variable


def at_least_tiny(weights):
    """Weights that may be zero, but are not negative; their root's derivative is finite.

    So the derivative of what is computed from the square of that root again is right, too: small
    enough for that square to be nothing beside other features, and large enough for the root's
    derivatives, in double the second one as well, to be numbers.
    """
    tiny = T.constant({"float32": 1e-36, "float64": 1e-100}[weights.dtype], dtype=weights.dtype)
    return weights + disconnected_grad(T.maximum(tiny - weights, 0))


def root_of(fraction):
    """The square root of a Fraction, exact if there is one."""
    numerator, denominator = math.isqrt(fraction.numerator), math.isqrt(fraction.denominator)
    exact = Fraction(numerator, denominator)
    return exact if exact**2 == fraction else Fraction(math.sqrt(fraction))
