"""The fused node for an expression: what is read from it, taken apart and written anew.

Between search.py, which chooses the expressions, and reading, matching and writing. May import
Theano and kernels.py.
"""

from collections import namedtuple
from fractions import Fraction

import numpy as np
import theano.scalar as scalar_ops
import theano.tensor as T
from theano.tensor.opt import Assert
from theano.tensor.subtensor import IncSubtensor, Subtensor

from rbf_op.fusion.algebra import (
    UNIT,
    Extent,
    Leaf,
    Sum,
    Symbol,
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
from rbf_op.fusion.loops import filled_positions, fills, lengths_of
from rbf_op.fusion.matching import NoMatch, find_distances, product_nonnegative, split_bounded
from rbf_op.fusion.reading import LOGARITHM, Reader, Unreadable, index_of, tuple_without_new
from rbf_op.fusion.report import Candidate
from rbf_op.fusion.values import nodes_of
from rbf_op.fusion.writing import Writer, at_least_tiny, root_of
from rbf_op.kernels import rbf_kernel, rbf_logsumexp

# exp(60) is far from overflow in float32, so a constant in the exponent may become a factor.
_LARGEST_CONSTANT = 60

# What is to be put in the place of root; opened: what that makes superfluous, passed: what else
# was looked through; stays: what the result has of root as it was.
Kernel = namedtuple("Kernel", "root result opened passed candidate stays")


def read_kernel(graph, root, closed=()):
    """The Kernel that a variable is, computed from the `closed` variables where it was.

    Raises NoMatch or Unreadable, saying why it is none.
    """
    first_error = None
    base, lengths = _block(graph, root)
    axes = [a for a, broadcastable in enumerate(root.broadcastable) if not broadcastable]
    # Of more than two axes one is the columns, and the others together the rows.
    for column in (axes[-1], axes[0]) if len(axes) > 2 else (None,):
        for separate in (False, True):
            symbols = {
                axis: Symbol(
                    "ij"[place] if column is None else "j" if axis == column else "i%d" % place,
                    lengths.get(axis) or graph.sizes.dimension(root, axis),
                )
                for place, axis in enumerate(axes)
            }
            index = tuple((symbols[a],) if a in symbols else () for a in range(root.ndim))
            if column is None:
                roots, members = tuple(symbols.values()), ()
            else:
                members = tuple(s for axis, s in symbols.items() if axis != column)
                size = graph.sizes.product([s.size for s in members])
                roots = Symbol("i", size), symbols[column]
            reader = _reader(graph, root, roots, closed, separate, members)
            reader.block = bool(lengths)
            try:
                read = reader.read(root, index, LOGARITHM)
                return build(graph, root, reader, read, index, base, lengths)
            except (NoMatch, Unreadable) as error:
                first_error = first_error or error
    raise first_error


def read_sum(graph, root, logarithm, closed=()):
    """The Kernel for log(sum(kernel, axis=1)), or for a sum of which that is a term.

    Such as max + log(mean(exp(e - max), axis=1)): the shift cancels, and so is not needed.
    """
    reader = _reader(graph, root, (), closed)
    (axis,) = [a for a, broadcastable in enumerate(root.broadcastable) if not broadcastable]
    row = Symbol("i", graph.sizes.dimension(root, axis))
    index = tuple((row,) if a == axis else () for a in range(root.ndim))
    terms, stack, found = {}, [(1, root, index)], None
    looked_through = set()
    while stack:
        sign, variable, its_index = stack.pop()
        looked_through.add(variable)
        node = variable.owner
        if variable is logarithm:
            found = sign, its_index
        elif isinstance(node.op, T.DimShuffle) and _within(logarithm, variable):
            stack.append((sign, node.inputs[0], tuple_without_new(node, its_index)))
        elif _within(logarithm, variable):
            signs = (sign, -sign if isinstance(node.op.scalar_op, scalar_ops.Sub) else sign)
            for operand, its_sign in zip(node.inputs, signs + (sign,) * len(node.inputs)):
                stack.append((its_sign, operand, index_of(operand, its_index)))
        else:
            looked_through.discard(variable)
            terms = add(terms, scale(reader.read(variable, its_index), sign))
    if found is None or found[0] != 1:
        raise NoMatch("the logarithm of the sum is subtracted")
    sums, its_index, divisor = logarithm.owner.inputs[0], found[1], {}
    while not isinstance(sums.owner.op, T.elemwise.Sum):
        looked_through.add(sums)
        if isinstance(sums.owner.op, T.DimShuffle):
            its_index = tuple_without_new(sums.owner, its_index)
        else:
            if divisor:
                raise NoMatch("the sum is divided more than once")
            divisor = reader.read(sums.owner.inputs[1], ((),) * sums.ndim)
            if len(divisor) != 1:
                raise NoMatch("the sum is divided by another")
        sums = sums.owner.inputs[0]
    looked_through.add(sums)
    (source,), (axis,) = sums.owner.inputs, sums.owner.op.axis
    column = Symbol("j", graph.sizes.dimension(source, axis))
    inner = its_index[:axis] + ((column,),) + its_index[axis:]
    reader = _reader(graph, root, (row, column), closed, True)
    read = reader.read(source, inner, LOGARITHM)
    kernel = build(graph, root, reader, read, index, row_sum=RowSum(terms, divisor))
    kernel.opened.update(looked_through)
    return kernel


def _reader(graph, root, roots, closed, separate=False, members=()):
    tolerance = 8 * Fraction(float(np.finfo(root.dtype).eps))
    return Reader(
        graph.values, graph.sizes, graph.signs, roots, tolerance, separate, members, closed
    )


def _within(inner, variable):
    """Whether a variable is a sum (of sums) that has another as a term."""
    if variable is inner:
        return True
    node = variable.owner
    if node is None:
        return False
    if isinstance(node.op, T.Elemwise) and isinstance(
        node.op.scalar_op, (scalar_ops.Add, scalar_ops.Sub)
    ):
        return any(_within(inner, v) for v in node.inputs)
    return isinstance(node.op, T.DimShuffle) and _within(inner, node.inputs[0])


def _block(graph, root):
    """(base, {axis: length}) if set_subtensor fills the first positions of a base, not all, or
    parts whose length may be another than the base's."""
    filled = isinstance(root.owner.op, IncSubtensor) and filled_positions(root)
    if not filled:
        return None, {}
    base, axis, parts = filled
    if fills(graph.sizes, root, axis, parts):
        return None, {}
    return base, lengths_of(axis, parts)


# What read_sum found: root = log(sum over the columns of the kernel / divisor) + terms of the row.
RowSum = namedtuple("RowSum", "terms divisor")


def build(graph, root, reader, read, index, base=None, lengths=(), row_sum=None):
    """The Kernel for an exponent and a factor that were read from root.

    With a RowSum, root is the logarithm of the sums of the kernel's rows.
    """
    row, column = reader.roots
    inner, rest, limits = split_bounded(read.exponent)
    distances, inner_rest = find_distances(inner, row, column, reader, reader.tolerance)
    ((amplitude, coefficient),) = read.amplitude.items()
    for polynomial in (rest, inner_rest):
        _check_rest(graph, polynomial, row, column)
    gamma_coefficient, gamma, sides = _common_width(distances, reader)
    if reader.members and not any(
        reader.members_of(rows) == set(reader.members) for (_, rows), _ in sides
    ):
        raise NoMatch("each of its distances would be computed more than once")
    if gamma_coefficient < 0:
        raise NoMatch("it grows with the distance, unless its width is negative")

    parameters = product_symbols(amplitude).union(*map(product_symbols, [*rest, *inner_rest]))
    width = product_symbols(gamma) & {row, column}
    if len(width) == 2:
        raise NoMatch("its width depends on the row and on the column")
    # The node takes a width and an amplitude for each column: so columns are what the width
    # depends on, or else the amplitude. Factors that depend on the rows then follow the node.
    transposed = row in (width or parameters) and column not in (width or parameters)
    if row_sum is not None:
        if limits is not None or row in width | product_symbols(amplitude):
            raise NoMatch("the width or factor of each row has no place in a logarithm of sums")
        # What is negative, and divided by what is, has a logarithm that its parts have not.
        divided = not all(
            c > 0 and product_nonnegative(p, reader.is_nonnegative)
            for p, c in row_sum.divisor.items()
        )
        amplitude, logarithms = _stable_logarithms(amplitude, reader)
        inner_rest = add(inner_rest, logarithms)
        for factor, _ in amplitude:
            positive = isinstance(factor, Leaf) and reader.is_positive(factor.key)
            if (divided or column in symbols_of(factor)) and not positive:
                raise NoMatch("terms of the sum have factors that may not be positive")
        transposed = False
    symmetric = not (parameters | width) & {row, column} and all(
        a == (c, rename(p, column, row)) for (a, (c, p)) in sides
    )
    signed = None
    if any(distance.signed is not None for distance in distances):
        signed, bounds = distances[0].signed, distances[0].bounds
        alone = len(distances) == 1 and len(bounds) == 1 and row_sum is None
        if not alone or graph.cautious or _is_expanded(reader):
            raise NoMatch(
                "the weights of its features may be negative; written as a square, an exp or a "
                "softplus they could be fused"
            )
        symmetric = False
    if transposed:
        row, column = column, row
        sides = [(b, a) for a, b in sides]

    writer = Writer(reader, root.dtype)
    x = _checked(_points(writer, [a for a, _ in sides], row, distances), reader)
    y = None if symmetric else _points(writer, [b for _, b in sides], column, distances)
    gamma = writer.product(gamma_coefficient, gamma, (column,) if width else ())
    if limits is None:
        inner_rest, rest = add(inner_rest, rest), {}
        amplitude, factors = _split(amplitude, row)
        inside = _factor(writer, coefficient, amplitude, (column,))
        after = [_factor(writer, 1, factors, (row, column))]
    else:
        inside, after = None, [_factor(writer, coefficient, amplitude, (row, column))]
    exponents = [
        {p: c for p, c in inner_rest.items() if (row in product_symbols(p)) is is_row}
        for is_row in (False, True)
    ]
    logarithm = _exponent(writer, exponents[0], (column,))
    if row_sum is not None and logarithm is not None and inside is not None:
        logarithm = logarithm + T.log(inside)
    elif logarithm is not None:
        inside = _times(T.exp(logarithm), inside)
    try:
        if row_sum is not None:  # the logarithm itself, which neither under- nor overflows
            by = {"amplitude": inside} if logarithm is None else {"log_amplitude": logarithm}
            result = rbf_logsumexp(x, y, gamma=gamma, **by)
        elif signed is None:
            result = rbf_kernel(x, y, gamma=gamma, amplitude=inside)
        else:
            weights = writer.product(1, signed, bounds)
            result = _with_signed_weights(x, y, weights, gamma, inside)
    except (TypeError, ValueError) as error:
        raise NoMatch(str(error)) from error
    if row_sum is not None:
        if logarithm is not None:
            inside = T.exp(logarithm)  # as the report has it
        for product, c in sorted(add(row_sum.terms, exponents[1]).items(), key=_order):
            result = result + writer.product(c, product, (row,))
        for product, c in row_sum.divisor.items():
            result = result - T.log(writer.product(c, product, ()))
    else:
        result = _times(result, _exponential(writer, exponents[1], (row, column)))
        if limits is not None:
            result = _limit(writer, result, limits, row, column, reader, graph.cautious)
            after.append(_exponential(writer, rest, (row, column)))
        result = _times(result, *after)
    candidate = Candidate(root, True, None, x, y, gamma, inside, transposed, symmetric)
    if reader.members:
        if transposed:
            result = result.T
        places = reader.members + reader.roots[1:]
        sizes = [graph.sizes.expression(symbol.size) for symbol in places]
        if any(length is None for length in sizes):
            raise NoMatch("it depends on a length inside a loop")
        result = T.reshape(result, sizes, ndim=len(places))
    else:
        places = row, column
    order = [places.index(axis[0]) if axis else "x" for axis in index]
    if order != list(range(result.ndim)):
        result = result.dimshuffle(*order)
    if lengths:
        block = tuple(slice(lengths.get(axis)) for axis in range(root.ndim))
        result = T.set_subtensor(base[block], result)
    if result.broadcastable != root.broadcastable:
        result = T.patternbroadcast(result, root.broadcastable)
    if result.type != root.type:
        raise NoMatch("the fused node has another type: %s" % result.type)
    result.name = root.name
    return Kernel(root, result, reader.opened, reader.passed, candidate, ())


def _with_signed_weights(x, y, weights, gamma, amplitude):
    """The kernel of distances sum_k weights[k] (x_ik - y_jk)^2, whatever the weights' signs.

    The node takes points times the root of the weights. So it computes all rows or, should a weight
    be negative, none, and the formula those that are left.
    """
    usable = T.all(T.ge(weights, 0) * T.lt(weights, np.inf))
    count = T.switch(usable, x.shape[0], 0)
    root = T.sqrt(at_least_tiny(T.switch(T.ge(weights, 0), weights, 0)))
    fused = rbf_kernel(x[:count] * root, y * root, gamma=gamma, amplitude=amplitude)
    pairs = x[count:].dimshuffle(0, "x", 1) - y.dimshuffle("x", 0, 1)
    formula = T.exp(-gamma * T.sum(weights * T.sqr(pairs), axis=2))
    formula.tag.rbf_op_remainder = True
    return T.join(0, fused, _times(formula, amplitude))


def _stable_logarithms(product, reader):
    """(the other factors, polynomial of the logarithms of those factors that are probabilities)."""
    left, logarithms = product, {}
    for factor, power in product:
        variable = reader.variable(factor.key) if isinstance(factor, Leaf) else None
        if variable is None or variable in reader.closed:
            continue
        logarithm = _logarithm_of_probabilities(variable)
        if logarithm is not None:
            reader.passed.add(variable)
            leaf = Leaf(reader.key_of(logarithm), factor.index)
            logarithms = add(logarithms, scale(of_factor(leaf), power))
            left = left - {(factor, power)}
    return left, logarithms


def _logarithm_of_probabilities(variable):
    """The logarithm of a softmax or sigmoid, of which one is left where they underflow; or None."""
    node = variable.owner
    if node is None:
        return None
    if isinstance(node.op, T.nnet.Softmax):
        return T.nnet.logsoftmax(*node.inputs)
    if isinstance(node.op, T.Elemwise) and "Sigmoid" in type(node.op.scalar_op).__name__:
        return -T.nnet.softplus(-node.inputs[0])
    if isinstance(node.op, (T.DimShuffle, Subtensor)):
        inner = _logarithm_of_probabilities(node.inputs[0])
        if inner is not None:
            return node.clone_with_new_inputs([inner] + node.inputs[1:]).outputs[0]
    return None


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


def _split(product, symbol):
    """(the factors without a symbol, those with it)."""
    having = frozenset(item for item in product if symbol in symbols_of(item[0]))
    return product - having, having


def _times(result, *factors):
    for factor in factors:
        result = result if factor is None else result * factor
    return result


def _factor(writer, coefficient, product, layout):
    """coefficient * product, or None for 1; a scalar if that will do for one axis."""
    if not product and coefficient == 1:
        return None
    if len(layout) == 1 and layout[0] not in product_symbols(product):
        layout = ()
    return writer.product(coefficient, product, layout)


def _check_rest(graph, rest, row, column):
    for product, coefficient in rest.items():
        if {row, column} <= product_symbols(product):
            raise NoMatch("the exponent has a term that is no part of a squared distance")
        if not product and abs(coefficient) > _LARGEST_CONSTANT:
            raise NoMatch("the constant in its exponent would overflow as a factor")
        for factor, _ in product:
            if graph.cautious and not _is_logarithm(graph, factor):
                raise NoMatch("a term of its exponent may overflow as a factor")
            if isinstance(factor, Extent):
                raise NoMatch("a term of its exponent grows with a length and may overflow")
            if isinstance(factor, Sum) and symbols_of(factor) & {row, column}:
                raise NoMatch("its squared distance is incomplete")


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
        is_even(power)
        and (power > 0 or factor in divisors)
        or isinstance(factor, Leaf)
        and (reader.is_positive if power < 0 else reader.is_nonnegative)(factor.key)
        for factor, power in product
    )
    if ratio <= 0 or not known or product_symbols(product):
        return None
    factor, root = root_of(ratio), power_of(product, Fraction(1, 2))
    return tuple((c * factor, product_of(p, root)) for c, p in (distance.rows, distance.columns))


def _points(writer, sides, symbol, distances):
    """The matrix of rows (or columns) as points: one a row, one feature a column."""
    parts = []
    for (coefficient, product), distance in zip(sides, distances):
        part = writer.product(coefficient, product, (symbol,) + distance.bounds)
        if part.ndim == 1:
            part = part.dimshuffle(0, "x")
        elif part.ndim > 2:
            part = T.flatten(part, 2)
        parts.append(part)
    return parts[0] if len(parts) == 1 else T.concatenate(parts, axis=1)


def _checked(points, reader):
    """Points, if all lengths are equal that must be: what would compare them is not computed."""
    opened = {reader.values.key(v) for v in reader.opened}
    for lengths in reader.required:
        computed = {reader.values.key(v) for node in nodes_of(lengths) for v in node.outputs}
        if not computed & opened:
            message = "fused: two lengths differ that a reshape or a sum needs to be equal"
            points = Assert(message)(points, T.eq(*lengths))
    return points


def _order(term):
    """Something to sort the terms of a polynomial by."""
    return repr(term[1])


def _exponential(writer, polynomial, layout):
    """exp(polynomial) over a layout, or None for 1."""
    exponent = _exponent(writer, polynomial, layout)
    return None if exponent is None else T.exp(exponent)


def _exponent(writer, polynomial, layout):
    """A polynomial over a layout, or None for 0."""
    total, constant = None, polynomial.get(frozenset(), 0)
    for product, coefficient in sorted(polynomial.items(), key=_order):
        if product:
            term = _factor(writer, coefficient, product, layout)
            total = term if total is None else total + term
    if constant:
        number = writer.number(constant)
        total = number if total is None else total + number
    return total


def _limit(writer, result, limits, row, column, reader, cautious):
    """The kernel limited as its exponent was: exp(m u) grows with u where m > 0, else falls."""
    coefficient, product, low, high = limits
    for bound in (low, high):
        if bound is not None and abs(bound) > 1e30:
            raise NoMatch("its squared distance is limited (clip) at a very large number")
    layout = (row, column)
    known = product_nonnegative(product, reader.is_nonnegative)
    above = [(factor, power) for factor, power in product if power > 0]
    if not (product_nonnegative(above, reader.is_nonnegative) or cautious):
        # Where it is 0, all distances have the same exponential, but not the same derivative.
        raise NoMatch(
            "its squared distance is limited, and its width may be zero or negative; written as a "
            "square, an exp or a softplus it could be fused"
        )
    falls = coefficient < 0 if known else writer.product(coefficient, product, layout) < 0

    for bound, if_falling, if_growing in (
        (low, T.minimum, T.maximum),
        (high, T.maximum, T.minimum),
    ):
        if bound is None:
            continue
        exponent = writer.product(coefficient * Fraction(bound), product, layout)
        if known:
            result = (if_falling if falls else if_growing)(result, T.exp(exponent))
        else:
            no_limit = {T.minimum: np.inf, T.maximum: 0}
            for function, applies in ((if_falling, falls), (if_growing, T.invert(falls))):
                # What overflows is no limit: its gradient would be NaN.
                if function is T.minimum:
                    largest = writer.number(np.log(np.finfo(writer.dtype).max))
                    applies = T.and_(applies, exponent <= largest)
                limit = T.exp(T.switch(applies, exponent, 0))
                limit = T.switch(applies, limit, writer.number(no_limit[function]))
                result = function(result, limit)
    return result
