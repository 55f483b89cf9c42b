"""Which kernel it is that was read: its distances, width and factor, and on which side they stand.

Pure algebra on what the Reader of reading/ has read, but for the logarithms of probabilities. Above
matching.py; may import Theano.
"""

from collections import namedtuple
from fractions import Fraction

import numpy as np
import theano.scalar as scalar_ops
import theano.tensor as T
from theano.tensor.subtensor import Subtensor

from rbf_op.fusion.algebra import (
    UNIT,
    Extent,
    Leaf,
    Sum,
    add,
    is_even,
    of_factor,
    power_of,
    product_of,
    product_symbols,
    rename,
    scale,
    symbols_of,
)
from rbf_op.fusion.matching import (
    NoMatch,
    find_distances,
    is_positive,
    product_nonnegative,
    split_bounded,
)
from rbf_op.fusion.writing import root_of
from rbf_op.theano_api import Constant

# exp(60) is far from overflow in float32, so a constant in the exponent may become a factor.
_LARGEST_CONSTANT = 60

# What was read, where row and column are the symbols by which the node's rows and columns are
# numbered (the graph's columns and rows if `transposed`):
#
#     amplitude * exp(limit(-gamma * sum of |rows - columns|^2 + inner_rest) + rest)
#
# amplitude and gamma are (coefficient, product), and so are the rows and columns of each of the
# `sides`, one for each of the `distances`; the rests are polynomials. limits as in split_bounded.
# signed: the product that each squared difference is multiplied by, whatever its sign, or None.
Found = namedtuple(
    "Found",
    "row column distances sides signed gamma amplitude inner_rest rest limits transposed symmetric",
)


def find_kernel(graph, reader, read, divisor=None):
    """The Found in an exponent and a factor that were read, or else NoMatch.

    divisor: what the sum of the kernel's rows is divided by, of which the logarithm is taken; {}
    of a softmax.
    """
    row, column = reader.roots
    inner, rest, limits = split_bounded(_with_opposites(read.exponent, reader))
    if limits is not None:
        inner = _with_opposites(inner, reader)
    distances, inner_rest = find_distances(inner, row, column, reader, reader.tolerance)
    ((amplitude, coefficient),) = read.amplitude.items()
    for polynomial in (rest, inner_rest):
        _check_rest(polynomial, row, column)
        if divisor is None:
            _check_factors(graph, polynomial)
    gamma_coefficient, gamma, sides = _common_width(distances, reader)
    if reader.members and not any(
        reader.members_of(rows) == set(reader.members) for (_, rows), _ in sides
    ):
        raise NoMatch("each of its distances would be computed more than once")
    if gamma_coefficient < 0:
        raise NoMatch("it grows with the distance, unless its width is negative")

    width = product_symbols(gamma) & {row, column}
    if len(width) == 2:
        raise NoMatch("its width depends on the row and on the column")
    parameters = product_symbols(amplitude).union(*map(product_symbols, [*rest, *inner_rest]))
    if divisor is not None:
        if limits is not None or row in width | product_symbols(amplitude):
            raise NoMatch(
                "the width or factor of each row has no place in a logarithm of sums or a softmax"
            )
        amplitude, logarithms = _logarithms_of(amplitude, column, reader, divisor)
        inner_rest = add(inner_rest, logarithms)
    # The node takes a width and an amplitude for each column: so columns are what the width
    # depends on, or else the amplitude. Factors that depend on the rows then follow the node.
    transposed = row in (width or parameters) and column not in (width or parameters)
    transposed = transposed and divisor is None
    symmetric = not (parameters | width) & {row, column} and all(
        a == (c, rename(p, column, row)) for (a, (c, p)) in sides
    )
    signed = None
    if any(distance.signed is not None for distance in distances):
        signed = distances[0].signed
        alone = len(distances) == 1 and len(distances[0].bounds) == 1 and divisor is None
        if not alone or graph.cautious or _is_expanded(reader):
            raise NoMatch(
                "the weights of its features may be negative; written as a square, an exp or a "
                "softplus they could be fused"
            )
        symmetric = False
    if transposed:
        row, column = column, row
        sides = [(b, a) for a, b in sides]
    return Found(
        row=row,
        column=column,
        distances=distances,
        sides=sides,
        signed=signed,
        gamma=(gamma_coefficient, gamma),
        amplitude=(coefficient, amplitude),
        inner_rest=inner_rest,
        rest=rest,
        limits=limits,
        transposed=transposed,
        symmetric=symmetric,
    )


def _with_opposites(polynomial, reader):
    """The same polynomial, of constants with no entry above zero: with a minus sign and their
    opposites, where they are a factor, or a divisor, of products, not squared. NumPy has applied
    the minus sign of -array * d2 before it could be seen.
    """
    powers = {}
    for product in polynomial:
        _note_powers(product, powers)
    opposites = {}
    for leaf, its_powers in powers.items():
        variable = reader.variable(leaf.key)
        alike = its_powers in ({1}, {-1})
        if alike and isinstance(variable, Constant) and _is_below_zero(variable.data):
            opposite = T.constant(-variable.data)
            opposites[leaf] = Leaf(reader.key_of(opposite), leaf.index)
    if not opposites:
        return polynomial
    return add(*(_opposite(product, c, opposites) for product, c in polynomial.items()))


def _note_powers(product, powers):
    """Adds the powers that leaves have in a product, and in the sums in it, to {leaf: powers}."""
    for factor, power in product:
        if isinstance(factor, Leaf):
            powers.setdefault(factor, set()).add(power)
        elif isinstance(factor, Sum):
            _note_powers(factor.product, powers)


def _is_below_zero(data):
    data = np.asarray(data)
    return data.ndim > 0 and data.dtype.kind == "f" and (data <= 0).all() and (data < 0).any()


def _opposite(product, coefficient, opposites):
    """A polynomial of one product, in which leaves are replaced by their opposites."""
    result = frozenset()
    for factor, power in product:
        if isinstance(factor, Leaf) and factor in opposites:
            factor, coefficient = opposites[factor], -coefficient
        elif isinstance(factor, Sum):
            ((inner, sign),) = _opposite(factor.product, 1, opposites).items()
            factor, coefficient = Sum(factor.height, inner), coefficient * sign**power
        result = product_of(result, frozenset([(factor, power)]))
    return {result: coefficient}


def _logarithms_of(amplitude, column, reader, divisor):
    """_stable_logarithms of the factors before a kernel, if the sum of its rows has a logarithm."""
    # What is negative, and divided by what is, has a logarithm that its parts have not.
    divided = not all(
        c > 0 and product_nonnegative(p, reader.is_nonnegative) for p, c in divisor.items()
    )
    amplitude, logarithms = _stable_logarithms(amplitude, reader)
    for factor, _ in amplitude:
        if (divided or column in symbols_of(factor)) and not is_positive(factor, reader):
            raise NoMatch("terms of the sum have factors that may not be positive")
    return amplitude, logarithms


def _stable_logarithms(product, reader):
    """(the other factors, polynomial of the logarithms of those factors that are probabilities)."""
    left, logarithms = product, {}
    for factor, power in product:
        variable = reader.variable(factor.key) if isinstance(factor, Leaf) else None
        if variable is None or variable in reader.closed:
            continue
        logarithm, way = _logarithm_of_probabilities(variable)
        if logarithm is not None and not any(v in reader.closed for v in way):
            reader.passed.update(way)
            leaf = Leaf(reader.key_of(logarithm), factor.index)
            logarithms = add(logarithms, scale(of_factor(leaf), power))
            left = left - {(factor, power)}
    return left, logarithms


def _logarithm_of_probabilities(variable):
    """(the logarithm of a softmax or sigmoid, of which one is left where they underflow, or None;
    the variables from here to it)."""
    node, logarithm, way = variable.owner, None, [variable]
    op = None if node is None else node.op
    if isinstance(op, T.nnet.Softmax):
        logarithm = T.nnet.logsoftmax(*node.inputs)
    elif isinstance(op, T.Elemwise) and type(op.scalar_op).__name__ == "ScalarSigmoid":
        logarithm = -T.nnet.softplus(-node.inputs[0])
    elif isinstance(op, (T.DimShuffle, Subtensor)):
        inner, rest = _logarithm_of_probabilities(node.inputs[0])
        way += rest
        if inner is not None:
            logarithm = node.clone_with_new_inputs([inner] + node.inputs[1:]).outputs[0]
    return logarithm, way


def _is_expanded(reader):
    """Whether the distance was read from a product of rows and columns, without an array of pairs.

    Each row's difference from each column would take more memory then than the graph as it is.
    """
    for variable in reader.opened:
        node = variable.owner
        if node is not None and isinstance(node.op, (T.Dot, T.elemwise.Sum)):
            if not reader.opened.intersection(node.inputs):
                return True
    return False


def _check_rest(rest, row, column):
    for product in rest:
        if {row, column} <= product_symbols(product):
            raise NoMatch("the exponent has a term that is no part of a squared distance")
        if any(isinstance(f, Sum) and symbols_of(f) & {row, column} for f, _ in product):
            raise NoMatch("its squared distance is incomplete")


def _check_factors(graph, rest):
    """Whether terms of the exponent may be factors: in a logarithm of sums they stay terms."""
    for product, coefficient in rest.items():
        if not product and abs(coefficient) > _LARGEST_CONSTANT:
            raise NoMatch("the constant in its exponent would overflow as a factor")
        for factor, power in product:
            if graph.cautious and not _is_logarithm(graph, factor):
                raise NoMatch("a term of its exponent may overflow as a factor")
            if isinstance(factor, Extent) and power > 0:
                raise NoMatch("a term of its exponent grows with a length and may overflow")


def _is_logarithm(graph, factor):
    """Whether exp(factor) is a number that the graph has."""
    node = graph.values.variables[factor.key].owner if isinstance(factor, Leaf) else None
    return isinstance(getattr(getattr(node, "op", None), "scalar_op", None), scalar_ops.Log)


def _common_width(distances, reader):
    """(coefficient, weight, [(rows, columns)]): the distances as one, of joined features.

    The weight is the first one's, or else 1.
    """
    coefficient = distances[0].coefficient
    for weight in (distances[0].weight, UNIT):
        sides = [_weighted_sides(d, coefficient, weight, reader) for d in distances]
        if None not in sides:
            return -coefficient, weight, sides
    raise NoMatch("it adds distances whose widths may differ in sign")


def _weighted_sides(distance, coefficient, weight, reader):
    """The rows and columns of a distance times the root of its weight over another; None where that
    may be negative or divides by what the distance does not divide by."""
    ratio = distance.coefficient / coefficient
    product = product_of(distance.weight, power_of(weight, Fraction(-1)))
    divisors = {factor for factor, power in distance.weight if power < 0}
    known = all(
        (is_even(power) or product_nonnegative(((factor, power),), reader.is_nonnegative))
        and (power > 0 or factor in divisors or is_positive(factor, reader))
        for factor, power in product
    )
    if ratio <= 0 or not known or product_symbols(product):
        return None
    factor, root = root_of(ratio), power_of(product, Fraction(1, 2))
    return tuple((c * factor, product_of(p, root)) for c, p in (distance.rows, distance.columns))
