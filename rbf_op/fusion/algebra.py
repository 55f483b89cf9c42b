"""Sums of products over named indices: the normal form in which exponents are compared.

A tensor expression at one position, such as sum_k (x[i, k] - y[j, k])**2, becomes a polynomial: a
sum of products of entries, whatever the spelling was. Equal polynomials are equal functions.
Pure Python; knows nothing of Theano: entries are identified by opaque keys.
"""

from dataclasses import dataclass
from fractions import Fraction

# A polynomial of more terms than this is no spelling of a kernel; reading stops there.
MOST_TERMS = 400


class TooManyTerms(Exception):
    """The expression, multiplied out, is too large to be worth reading."""


class Symbol:
    """An index that runs over one dimension; `size` identifies how far."""

    __slots__ = ("name", "size")

    def __init__(self, name, size=None):
        self.name = name
        self.size = size

    def __repr__(self):
        return self.name


@dataclass(frozen=True)
class Fixed:
    """A constant position on an axis."""

    position: int


@dataclass(frozen=True)
class Gathered:
    """Position positions[symbol] on an axis, `positions` being the key of an integer vector."""

    positions: object
    symbol: object


@dataclass(frozen=True)
class Bound:
    """The summation index of a Sum, named by its nesting so that equal sums compare equal."""

    height: int


@dataclass(frozen=True)
class Leaf:
    """An entry of a variable. `index` has a tuple for each axis: empty where it has length one,
    several symbols where the axis is a flattened pair of indices."""

    key: object
    index: tuple


@dataclass(frozen=True)
class Sum:
    """The sum of a product over Bound(height)."""

    height: int
    product: frozenset


@dataclass(frozen=True)
class Extent:
    """The length of a dimension, as a number."""

    size: object


@dataclass(frozen=True)
class Absolute:
    """The absolute value of a product."""

    product: frozenset


@dataclass(frozen=True)
class Bounded:
    """A polynomial limited to [low, high]; None where there is no limit."""

    terms: frozenset
    low: object
    high: object


UNIT = frozenset()


def number(value):
    """The polynomial of a number, kept exactly."""
    value = Fraction(value)
    return {UNIT: value} if value else {}


def of_factor(factor, power=1):
    return {frozenset([(factor, Fraction(power))]): Fraction(1)}


def product_of(first, second):
    """Product of two products (sets of (factor, power))."""
    if not first:
        return second
    if not second:
        return first
    powers = dict(first)
    for factor, power in second:
        powers[factor] = powers.get(factor, 0) + power
    return _tidy(powers)


def is_even(power):
    """Whether a power is an even whole number."""
    return power.denominator == 1 and power.numerator % 2 == 0


def power_of(product, power):
    return _tidy({factor: p * power for factor, p in product})


def _tidy(powers):
    squares = UNIT
    kept = []
    for factor, power in powers.items():
        if not power:
            continue
        if isinstance(factor, Absolute) and is_even(power):
            squares = product_of(squares, power_of(factor.product, power))
        else:
            kept.append((factor, power))
    kept = frozenset(kept)
    return product_of(kept, squares) if squares else kept


def add(*polynomials):
    total = {}
    for polynomial in polynomials:
        for product, coefficient in polynomial.items():
            value = total.get(product, 0) + coefficient
            if value:
                total[product] = value
            else:
                total.pop(product, None)
    return total


def scale(polynomial, factor):
    factor = Fraction(factor)
    return {product: c * factor for product, c in polynomial.items()} if factor else {}


def multiply(first, second):
    if len(first) * len(second) > MOST_TERMS:
        raise TooManyTerms()
    total = {}
    for p, a in first.items():
        for q, b in second.items():
            product = product_of(p, q)
            value = total.get(product, 0) + a * b
            if value:
                total[product] = value
            else:
                total.pop(product, None)
    return total


def single(polynomial):
    """(coefficient, product) of a polynomial of one term, else None."""
    if len(polynomial) != 1:
        return None
    ((product, coefficient),) = polynomial.items()
    return coefficient, product


def positions_of(entry):
    """The symbols in one element of an index."""
    return (entry.symbol,) if isinstance(entry, Gathered) else (entry,)


def limits_within(products):
    """How deep limits lie within one another in some products."""
    return max((_limits_in(factor) for product in products for factor, _ in product), default=0)


def _limits_in(factor):
    if isinstance(factor, Bounded):
        return 1 + limits_within(product for product, _ in factor.terms)
    return limits_within([factor.product]) if isinstance(factor, (Sum, Absolute)) else 0


def symbols_of(factor):
    """The symbols (and bounds of enclosing sums) that a factor depends on."""
    if isinstance(factor, Leaf):
        return frozenset(
            symbol
            for axis in factor.index
            for entry in axis
            for symbol in positions_of(entry)
            if not isinstance(symbol, Fixed)
        )
    if isinstance(factor, Sum):
        return product_symbols(factor.product) - {Bound(factor.height)}
    if isinstance(factor, Absolute):
        return product_symbols(factor.product)
    if isinstance(factor, Bounded):
        return frozenset().union(*(product_symbols(p) for p, _ in factor.terms))
    return frozenset()


def product_symbols(product):
    return frozenset().union(*(symbols_of(factor) for factor, _ in product))


def leaves_of(product):
    """The leaves in a product, those of its sums and limits too."""
    for factor, _ in product:
        if isinstance(factor, Leaf):
            yield factor
        elif isinstance(factor, (Sum, Absolute)):
            yield from leaves_of(factor.product)
        elif isinstance(factor, Bounded):
            for inner, _ in factor.terms:
                yield from leaves_of(inner)


def rename(product, old, new):
    """The product with one symbol replaced by another."""
    return frozenset((_rename(factor, old, new), power) for factor, power in product)


def _rename(factor, old, new):
    if old not in symbols_of(factor):
        return factor
    if isinstance(factor, Leaf):
        return Leaf(
            factor.key,
            tuple(tuple(_rename_entry(e, old, new) for e in axis) for axis in factor.index),
        )
    if isinstance(factor, Sum):
        return Sum(factor.height, rename(factor.product, old, new))
    if isinstance(factor, Absolute):
        return Absolute(rename(factor.product, old, new))
    return Bounded(
        frozenset((rename(p, old, new), c) for p, c in factor.terms), factor.low, factor.high
    )


def _rename_entry(entry, old, new):
    if entry == old:
        return new
    if isinstance(entry, Gathered) and entry.symbol == old:
        return Gathered(entry.positions, new)
    return entry


def replace_positions(product, replacement):
    """The product with other index entries: replacement(leaf, axis, entry) for each of them."""
    powers = {}
    for factor, power in product:  # factors may become equal
        new = _replace(factor, replacement)
        powers[new] = powers.get(new, 0) + power
    return _tidy(powers)


def _replace(factor, replacement):
    if isinstance(factor, Leaf):
        return Leaf(
            factor.key,
            tuple(
                tuple(replacement(factor, number_, entry) for entry in axis)
                for number_, axis in enumerate(factor.index)
            ),
        )
    if isinstance(factor, Sum):
        return Sum(factor.height, replace_positions(factor.product, replacement))
    if isinstance(factor, Absolute):
        return Absolute(replace_positions(factor.product, replacement))
    if isinstance(factor, Bounded):
        terms = frozenset((replace_positions(p, replacement), c) for p, c in factor.terms)
        return Bounded(terms, factor.low, factor.high)
    return factor


def _height(factor):
    if isinstance(factor, Sum):
        return factor.height
    if isinstance(factor, Absolute):
        return max([_height(f) for f, _ in factor.product] or [0])
    if isinstance(factor, Bounded):
        return max([_height(f) for p, _ in factor.terms for f, _ in p] or [0])
    return 0


def sum_over(symbol, polynomial):
    """The polynomial summed over a symbol, which then no longer occurs in it."""
    total = {}
    for product, coefficient in polynomial.items():
        inside = frozenset(item for item in product if symbol in symbols_of(item[0]))
        outside = product - inside
        if inside:
            height = 1 + max(_height(factor) for factor, _ in inside)
            factor = Sum(height, rename(inside, symbol, Bound(height)))
        elif symbol.size == 1:
            factor = None
        else:
            factor = Extent(symbol.size)
        term = of_factor(factor) if factor is not None else number(1)
        total = add(total, multiply({outside: coefficient}, term))
    return total
