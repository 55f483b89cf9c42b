"""Finding the Gaussian kernel in a polynomial: exponent = -gamma * sum_k (A_ik - B_jk)^2 + rest.

Multiplied out, a squared distance has three terms, -G A^2, -G B^2 and 2 G A B. From the third
(the only one that ties a row i to a column j) the other two are known up to what they must
multiply to; then A, B and G follow by division. Nothing is assumed about the spelling.
Pure algebra; whether a leaf may be negative is asked of a function given by the caller.
"""

import random
from collections import defaultdict, namedtuple
from fractions import Fraction

from rbf_op.fusion.algebra import (
    Absolute,
    Bound,
    Bounded,
    Extent,
    Leaf,
    Sum,
    is_even,
    limits_within,
    multiply,
    power_of,
    product_of,
    product_symbols,
    rename,
    symbols_of,
)

# coefficient * weight * sum over `bounds` of (rows - columns)^2: one squared distance.
# rows and columns are (coefficient, product); weight is a product free of the bounds.
# signed: a product over the bounds that each (rows - columns)^2 is to be multiplied by, if nothing
# is known of its sign, else None: weights that are not negative are in rows and columns, as roots.
Distance = namedtuple("Distance", "coefficient weight rows columns bounds signed")

_HALF = Fraction(1, 2)


class NoMatch(Exception):
    """The polynomial is not the exponent of a Gaussian kernel; the message says why."""


def find_distances(polynomial, row, column, signs, tolerance):
    """([Distance], rest) with polynomial = sum of the distances + rest.

    `row` and `column` are the symbols i and j; signs.is_positive(key) and is_nonnegative(key)
    tell what is known of a leaf. Coefficients of floating-point constants may differ by the
    relative `tolerance`. Raises NoMatch if the polynomial ties rows to columns in some other way.
    """
    terms = [_flatten(c, p, row, column) for p, c in polynomial.items()]
    crosses = [place for place, term in enumerate(terms) if _is_cross(term, row, column)]
    if not crosses:
        if any({row, column} <= product_symbols(p) for p in polynomial):
            raise NoMatch("the exponent has a term that is no part of a squared distance")
        raise NoMatch("the exponent has no term that ties rows to columns")
    left = dict(polynomial)
    numbers = random.Random(0)
    marks, by_mark = defaultdict(lambda: numbers.getrandbits(64)), {}
    terms = [term._replace(mark=_mark(term.flat, marks)) for term in terms]
    for term in terms:
        by_mark.setdefault(term.mark, []).append(term)
    distances, reasons = [], []
    for cross in [terms[place] for place in crosses]:
        if cross.product not in left:
            continue
        try:
            distance, used = _complete(cross, terms, by_mark, left, row, column, signs, tolerance)
        except NoMatch as error:
            # Perhaps gamma[j] * x[i]**2, which a later product x[i] * y[j] accounts for.
            reasons.append(str(error))
            continue
        distances.append(distance)
        for term in used:
            del left[term.product]
    for product in left:
        if {row, column} <= product_symbols(product):
            reasons.append("the exponent has a term that is no part of a squared distance")
            raise NoMatch(reasons[0])
    return distances, left


# mark: see _mark; of most products that are no products of two others it tells that they are not.
_Term = namedtuple("_Term", "coefficient flat bounds product mark")


def _flatten(coefficient, product, row, column):
    """A term with the sums around its row and column entries opened."""
    flat, bounds = product, []
    while True:
        sums = [
            factor
            for factor, power in flat
            if isinstance(factor, Sum) and power == 1 and symbols_of(factor) & {row, column}
        ]
        if len(sums) != 1:
            break
        (factor,) = sums
        if bounds and not _only_sum(flat, factor, bounds):
            break
        bound = Bound(-1 - len(bounds))
        flat = product_of(
            flat - {(factor, Fraction(1))}, rename(factor.product, Bound(factor.height), bound)
        )
        bounds.append(bound)
    return _Term(coefficient, flat, tuple(bounds), product, None)


def _only_sum(flat, factor, bounds):
    """Whether nothing else is summed: sum_k (sum_l ...), not sum_k a_k (sum_l b_kl)."""
    others = product_symbols(flat - {(factor, Fraction(1))})
    return not (others & set(bounds))


def _is_cross(term, row, column):
    """Whether entries of a row and of a column meet in the same sum (or both outside any)."""
    inner = [f for f, _ in term.flat if not term.bounds or symbols_of(f) & set(term.bounds)]
    symbols = [symbols_of(factor) for factor in inner]
    return any(row in s and column not in s for s in symbols) and any(
        column in s and row not in s for s in symbols
    )


def _part(product, symbol):
    return frozenset(item for item in product if symbol in symbols_of(item[0]))


def _mark(product, marks):
    """A number for a product but for absolute values: of products multiplied, numbers are added."""
    total = 0
    for factor, power in product:
        if isinstance(factor, Absolute):
            mark = _mark(factor.product, marks)
        else:
            mark = marks[factor]
        total += mark * (power.numerator if power.denominator == 1 else power)
    return total


def _complete(cross, terms, by_mark, left, row, column, signs, tolerance):
    """The squared distance that `cross` is the mixed term of, and the terms it consists of."""
    target = power_of(cross.flat, 2)
    reason = "no squares of the rows and columns complete its product of the two"
    for columns_term in terms:
        if columns_term.product not in left or columns_term.bounds != cross.bounds:
            continue
        for rows_term in by_mark.get(2 * cross.mark - columns_term.mark, ()):
            if rows_term.product not in left or rows_term is columns_term:
                continue
            if rows_term.bounds != cross.bounds or cross in (rows_term, columns_term):
                continue
            if product_of(rows_term.flat, columns_term.flat) != target:
                continue
            squares = rows_term.coefficient * columns_term.coefficient * 4
            if not _close(squares, cross.coefficient**2, tolerance):
                reason = "the coefficients of its squares and of its product do not fit"
                continue
            try:
                distance = _divide(cross, rows_term, columns_term, row, column, signs)
            except NoMatch as error:
                reason = str(error)
                continue
            return distance, (cross, rows_term, columns_term)
    raise NoMatch(reason)


def _divide(cross, rows_term, columns_term, row, column, signs):
    bounds = set(cross.bounds)
    # What the square of the rows has of the column index belongs to the weight, not to B.
    columns = product_of(
        _part(cross.flat, column), power_of(_part(rows_term.flat, column), Fraction(-1))
    )
    weight = product_of(columns_term.flat, power_of(columns, Fraction(-2)))
    coefficient = columns_term.coefficient
    rows = product_of(cross.flat, power_of(product_of(weight, columns), Fraction(-1)))
    rows_coefficient = cross.coefficient / (-2 * coefficient)
    if rows_coefficient < 0:
        raise NoMatch("rows and columns are added in it, not subtracted")
    if {row, column} <= product_symbols(weight):
        raise NoMatch("its weights differ from one pair of row and column to the next")
    weights = frozenset(item for item in weight if symbols_of(item[0]) & bounds)
    signed = None
    if weights:
        if any(symbols_of(f) & {row, column} for f, _ in weights):
            raise NoMatch("its weights differ from one pair of row and column to the next")
        if all(_has_root(factor, power, signs) for factor, power in weights):
            root = power_of(weights, _HALF)
            rows, columns = product_of(rows, root), product_of(columns, root)
        else:
            signed = weights
        weight = weight - weights
    if column in product_symbols(rows) or row in product_symbols(columns):
        raise NoMatch("rows and columns are not apart in its product")
    if row not in product_symbols(rows) or column not in product_symbols(columns):
        raise NoMatch("its product does not depend on both row and column")
    for product in (rows, columns):
        if not bounds <= product_symbols(product):
            raise NoMatch("a sum runs over features that rows or columns do not have")
    for factor, power in [*rows, *columns]:
        least = min(0, dict(cross.flat).get(factor, 0))
        if power < least and not is_positive(factor, signs):
            raise NoMatch("rows or columns would be divided by what may be zero")
    return Distance(
        coefficient, weight, (rows_coefficient, rows), (Fraction(1), columns), cross.bounds, signed
    )


def _has_root(factor, power, signs):
    """Whether a weight of a feature is known not to be negative."""
    if is_even(power) or is_positive(factor, signs):
        return True
    return abs(power) <= 1 and product_nonnegative(((factor, power),), signs.is_nonnegative)


def is_positive(factor, signs):
    """Whether a factor is known to be above zero: it may divide, and its root has a derivative."""
    return isinstance(factor, Leaf) and signs.is_positive(factor.key)


def _close(a, b, tolerance):
    return abs(a - b) <= tolerance * abs(b)


def product_nonnegative(product, is_nonnegative):
    """Whether a product is known never to be negative."""
    for factor, power in product:
        if is_even(power):
            continue
        if power.denominator == 2:  # a square root is not negative
            continue
        if isinstance(factor, (Extent, Absolute)):
            continue
        if isinstance(factor, Leaf) and is_nonnegative(factor.key):
            continue
        if isinstance(factor, Sum) and product_nonnegative(factor.product, is_nonnegative):
            continue
        return False
    return True


def sign(polynomial, row, column, signs, tolerance):
    """1 if the polynomial is known to be >= 0 everywhere, -1 if <= 0, else None."""
    try:
        distances, rest = find_distances(polynomial, row, column, signs, tolerance)
    except NoMatch:
        distances, rest = [], polynomial
    terms = [(d.coefficient, d.weight) for d in distances] + [(c, p) for p, c in rest.items()]
    if any(d.signed is not None for d in distances):
        return None
    if not all(product_nonnegative(product, signs.is_nonnegative) for _, product in terms):
        return None
    if all(c >= 0 for c, _ in terms):
        return 1
    if all(c <= 0 for c, _ in terms):
        return -1
    return None


def product_flat_at_zero(product, is_flat_at_zero):
    """Whether a product is known never to be negative, and where zero to have no derivative."""
    for factor, power in product:
        if isinstance(factor, (Extent, Absolute)):
            continue
        if isinstance(factor, Leaf) and is_flat_at_zero(factor.key, power):
            continue
        if isinstance(factor, Sum) and product_flat_at_zero(factor.product, is_flat_at_zero):
            continue
        return False
    return True


def split_bounded(polynomial):
    """(inner, rest, limits) with polynomial = m * clip(u, low, high) + rest and inner = m * u.

    limits is (coefficient, product, low, high), the first two being m; None if nothing is limited,
    and then inner is the polynomial and rest is empty.
    """
    found = [
        (p, c, f, power) for p, c in polynomial.items() for f, power in p if isinstance(f, Bounded)
    ]
    if not found:
        return polynomial, {}, None
    product, coefficient, bounded, power = found[0]
    if len(found) > 1 or limits_within(p for p, _ in bounded.terms):
        raise NoMatch("it is limited (clip, maximum, minimum) more than once")
    if power != 1:
        raise NoMatch("the exponent has a term that is no part of a squared distance")
    factor = product - {(bounded, Fraction(1))}
    inner = multiply({factor: coefficient}, dict(bounded.terms))
    rest = {p: c for p, c in polynomial.items() if p != product}
    return inner, rest, (coefficient, factor, bounded.low, bounded.high)
