"""The fused node in the place of an expression: what was read of it, taken apart and written anew.

Between roots.py, which reads the expressions, and finding, matching and writing. May import Theano
and kernels.py.
"""

from collections import namedtuple
from fractions import Fraction

import numpy as np
import theano.tensor as T

from rbf_op.fusion.algebra import UNIT, add, product_symbols, symbols_of
from rbf_op.fusion.finding import find_kernel
from rbf_op.fusion.matching import NoMatch, product_flat_at_zero, product_nonnegative
from rbf_op.fusion.reading.sums import summed_axes
from rbf_op.fusion.report import Candidate
from rbf_op.fusion.values import nodes_of
from rbf_op.fusion.writing import Writer, at_least_tiny
from rbf_op.kernels import rbf_kernel, rbf_logsumexp, rbf_mixture, rbf_softmax_dot
from rbf_op.theano_api import Assert, Constant, Scan, ancestors

# What is to be put in the place of root; opened: what that makes superfluous, passed: what else
# was looked through; stays: what the result has of root as it was.
Kernel = namedtuple("Kernel", "root result opened passed candidate stays")

# What read_sum found: root = log(sum over the columns of the kernel / divisor) + terms of the row.
RowSum = namedtuple("RowSum", "terms divisor")


def build(graph, root, reader, read, index, base=None, lengths=(), row_sum=None):
    """The Kernel for an exponent and a factor that were read from root.

    With a RowSum, root is the logarithm of the sums of the kernel's rows.
    """
    found = find_kernel(graph, reader, read, row_sum and row_sum.divisor)
    writer = Writer(reader, root.dtype)
    if row_sum is None:
        result, arguments = _kernel(writer, found, graph.cautious)
    else:
        result, arguments = _log_sum(writer, found, row_sum)
    candidate = Candidate(root, True, None, *arguments, found.transposed, found.symmetric)
    result = _in_place_of(root, result, graph.sizes, reader, found, index)
    if lengths:
        block = tuple(slice(lengths.get(axis)) for axis in range(root.ndim))
        result = T.set_subtensor(base[block], result)
    _check_nothing_lost(root, result, reader)
    return Kernel(root, like(root, result), reader.opened, reader.passed, candidate, ())


def build_widths(graph, root, reader, read, term, places):
    """The Kernel for an exponent and a factor that were read from what root sums.

    It sums over an axis of widths, whose symbol is `term`, and perhaps over some of the axes of
    rows and columns, `places`.
    """
    (source,) = root.owner.inputs
    found = find_kernel(graph, reader, read)
    rest = add(found.inner_rest, found.rest)
    points = [product for side in found.sides for _, product in side]
    if (
        term not in product_symbols(found.gamma[1])
        or any(term in product_symbols(p) for p in points)
        or any(
            product_symbols(p) & {found.row, found.column}
            for p in [found.gamma[1], found.amplitude[1], *rest]
        )
        or found.limits is not None
        or found.signed is not None
    ):
        raise NoMatch("more than widths and factors differ along the axis that is summed")
    writer = Writer(reader, root.dtype)
    x, y = _coordinates(writer, found)
    gamma = writer.product(*found.gamma, (term,))
    amplitude = _amplitude(writer, found.amplitude, rest, (term,))
    result = _node(rbf_mixture, x, y, gamma, amplitude=amplitude)
    kept = [a for a in range(source.ndim) if a not in summed_axes(root.owner)]
    if not set(places) <= set(kept):
        result = result.sum(axis=[k for k, a in enumerate(places) if a not in kept])
        places = [a for a in places if a in kept]
    result = _over_axes(result, [places.index(a) if a in places else "x" for a in kept])
    candidate = Candidate(root, True, None, x, y, gamma, amplitude, False, found.symmetric)
    return Kernel(root, like(root, result), reader.opened, reader.passed, candidate, ())


def _kernel(writer, found, cautious):
    """(the kernel, [x, y, gamma, amplitude] of the node in it)."""
    row, column = found.row, found.column
    coefficient, amplitude = found.amplitude
    x, y = _coordinates(writer, found)
    gamma = _width(writer, found)
    if found.limits is None:
        inner_rest, rest = add(found.inner_rest, found.rest), {}
        amplitude, factors = _split(amplitude, row)
        before = coefficient, amplitude
        after = [_factor(writer, 1, factors, (row, column))]
    else:
        inner_rest, rest = found.inner_rest, found.rest
        before = 1, UNIT
        after = [_factor(writer, coefficient, amplitude, (row, column))]
    of_columns, of_rows = _exponents(inner_rest, row)
    inside = _amplitude(writer, before, of_columns, (column,))
    if found.signed is None:
        result = _node(rbf_kernel, x, y, gamma=gamma, amplitude=inside)
    else:
        weights = writer.product(1, found.signed, found.distances[0].bounds)
        result = _node(_with_signed_weights, x, y, weights, gamma, inside)
    result = _times(result, _exponential(writer, of_rows, (row, column)))
    if found.limits is not None:
        result = _limit(writer, result, found.limits, (row, column), cautious)
        after.append(_exponential(writer, rest, (row, column)))
    return _times(result, *after), [x, y, gamma, inside]


def build_softmax(graph, root, reader, read, weights):
    """The Kernel for the product of the softmax of exponents that were read with weights."""
    found = find_kernel(graph, reader, read, {})
    writer = Writer(reader, root.dtype)
    x, y = _coordinates(writer, found)
    gamma = _width(writer, found)
    of_columns, _ = _exponents(add(found.inner_rest, found.rest), found.row)
    logarithm = _exponent(writer, of_columns, (found.column,))
    result = _node(rbf_softmax_dot, x, y, weights, gamma=gamma, log_amplitude=logarithm)
    _check_nothing_lost(root, result, reader)
    amplitude = None if logarithm is None else T.exp(logarithm)  # as the report has it
    candidate = Candidate(root, True, None, x, y, gamma, amplitude, False, found.symmetric)
    return Kernel(root, like(root, result), reader.opened, reader.passed, candidate, ())


def _check_nothing_lost(root, result, reader):
    """Whoever wants the gradient of what cancels, which is zero, or gives it a value, must find it.

    What a loop takes in need not be for this output of it.
    """
    loops = {v for v in ancestors([root]) if v.owner and isinstance(v.owner.op, Scan)}
    if _given(root, reader.closed, loops) - _given(result, reader.closed):
        raise NoMatch("it depends on something that cancels in it, and would not any more")


def _given(variable, closed, blockers=()):
    """What a variable is computed from, not looking behind `blockers`: inputs of the graph, and
    `closed` variables."""
    found = ancestors([variable], blockers)
    return {v for v in found if v.owner is None and not isinstance(v, Constant) or v in closed}


def _log_sum(writer, found, row_sum):
    """(the logarithm of the sums of rows, [x, y, gamma, amplitude] of the node in it)."""
    row, column = found.row, found.column
    x, y = _coordinates(writer, found)
    gamma = _width(writer, found)
    amplitude = _factor(writer, *found.amplitude, (column,))
    # What no column changes is added to the logarithm, of which it may be what was taken.
    of_rows, of_columns = _exponents(add(found.inner_rest, found.rest), column)
    logarithm = _exponent(writer, of_columns, (column,))
    if logarithm is None:
        result = _node(rbf_logsumexp, x, y, gamma=gamma, amplitude=amplitude)
    else:  # the logarithm itself, which neither under- nor overflows
        if amplitude is not None:
            logarithm = logarithm + T.log(amplitude)
        result = _node(rbf_logsumexp, x, y, gamma=gamma, log_amplitude=logarithm)
        amplitude = T.exp(logarithm)  # as the report has it
    for product, c in add(row_sum.terms, of_rows).items():
        result = result + writer.product(c, product, (row,))
    for product, c in row_sum.divisor.items():
        result = result - T.log(writer.product(c, product, ()))
    return result, [x, y, gamma, amplitude]


def log_sum_of(vector):
    """log(sum(exp(vector))), stable in its derivatives too: of a row, as of points of no features
    that have the entries as log_amplitude."""
    points = (T.zeros((count, 0), dtype=vector.dtype) for count in (1, vector.shape[0]))
    return rbf_logsumexp(*points, gamma=1, log_amplitude=vector)[0]


def _node(function, *arguments, **parameters):
    """What a function returns, or NoMatch in the words in which kernels.py refuses arguments."""
    try:
        return function(*arguments, **parameters)
    except (TypeError, ValueError) as error:
        raise NoMatch(str(error)) from error


def _coordinates(writer, found):
    """x and y (None if it is x) of the node."""
    row, column = found.row, found.column
    rows, columns = zip(*found.sides)
    x = _checked(_points(writer, rows, row, found.distances), writer.reader)
    y = None if found.symmetric else _points(writer, columns, column, found.distances)
    return x, y


def _width(writer, found):
    """gamma of the node."""
    coefficient, gamma = found.gamma
    layout = (found.column,) if found.column in product_symbols(gamma) else ()
    return writer.product(coefficient, gamma, layout)


def _amplitude(writer, factor, exponent, layout):
    """factor * exp(exponent), a (coefficient, product) and a polynomial; None for 1."""
    factors = _exponential(writer, exponent, layout), _factor(writer, *factor, layout)
    factors = [f for f in factors if f is not None]
    return _times(*factors) if factors else None


def _exponents(polynomial, symbol):
    """(the terms without a symbol, those with it) of a polynomial."""
    return [
        {p: c for p, c in polynomial.items() if (symbol in product_symbols(p)) is having}
        for having in (False, True)
    ]


def _in_place_of(root, result, sizes, reader, found, index):
    """The result with the axes of root."""
    if reader.members:
        if found.transposed:
            result = result.T
        places = reader.members + reader.roots[1:]
        lengths = [sizes.expression(symbol.size) for symbol in places]
        if any(length is None for length in lengths):
            raise NoMatch("it depends on a length inside a loop")
        result = T.reshape(result, lengths, ndim=len(places))
    else:
        places = found.row, found.column
    return _over_axes(result, [places.index(axis[0]) if axis else "x" for axis in index])


def _over_axes(result, order):
    return result if order == list(range(result.ndim)) else result.dimshuffle(*order)


def like(root, result):
    """The result, which must be of root's type, with its name."""
    if result.broadcastable != root.broadcastable:
        result = T.patternbroadcast(result, root.broadcastable)
    if result.type != root.type:
        raise NoMatch("the fused node has another type: %s" % result.type)
    if result.owner is not None and result.name is None:  # it may be what the user has, and named
        result.name = root.name
    return result


def _with_signed_weights(x, y, weights, gamma, amplitude):
    """The kernel of distances sum_k weights[k] (x_ik - y_jk)^2, whatever the weights' signs.

    The node takes points times the root of the weights. So it computes all rows or, should a weight
    be negative, none, and the formula those that are left.
    """
    unusable = T.sum(T.invert(T.and_(T.ge(weights, 0), T.lt(weights, np.inf))))  # All has no R_op
    count = T.switch(unusable, 0, x.shape[0])
    root = T.sqrt(at_least_tiny(T.switch(T.ge(weights, 0), weights, 0)))
    fused = rbf_kernel(x[:count] * root, y * root, gamma=gamma, amplitude=amplitude)
    pairs = x[count:].dimshuffle(0, "x", 1) - y.dimshuffle("x", 0, 1)
    formula = T.exp(-gamma * T.sum(weights * T.sqr(pairs), axis=2))
    formula.tag.rbf_op_remainder = True
    return T.join(0, fused, _times(formula, amplitude))


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


def _points(writer, sides, symbol, distances):
    """The matrix of rows (or columns) as points: one a row, one feature a column."""
    parts = []
    for (coefficient, product), distance in zip(sides, distances):
        part = writer.product(coefficient, product, (symbol,) + distance.bounds)
        if part.ndim == 1:
            part = part.dimshuffle(0, "x")
        elif part.ndim > 2:
            # Not with -1: of no rows NumPy would not know.
            features = T.mul(*[part.shape[k] for k in range(1, part.ndim)])
            part = part.reshape((part.shape[0], features), ndim=2)
        parts.append(part)
    return parts[0] if len(parts) == 1 else T.concatenate(parts, axis=1)


def _checked(points, reader):
    """Points, if all lengths are equal that must be: what would compare them is not computed."""
    opened = {reader.values.key(v) for v in reader.opened}
    for lengths in reader.required:
        computed = {reader.values.key(v) for node in nodes_of(lengths) for v in node.outputs}
        if not computed & opened:
            message = "fused: two lengths differ that a reshape or a sum needs to be equal"
            # A length of -1, of a reshape, is what is left.
            points = Assert(message)(points, T.or_(T.eq(*lengths), T.lt(T.minimum(*lengths), 0)))
    return points


def _exponential(writer, polynomial, layout):
    """exp(polynomial) over a layout, or None for 1."""
    exponent = _exponent(writer, polynomial, layout)
    return None if exponent is None else T.exp(exponent)


def _exponent(writer, polynomial, layout):
    """A polynomial over a layout, or None for 0."""
    total, constant = None, polynomial.get(frozenset(), 0)
    for product, coefficient in polynomial.items():
        if product:
            term = _factor(writer, coefficient, product, layout)
            total = term if total is None else total + term
    if constant:
        number = writer.number(constant)
        total = number if total is None else total + number
    return total


def _limit(writer, result, limits, layout, cautious):
    """The kernel limited as its exponent was: exp(m u) grows with u where m > 0, else falls."""
    coefficient, product, low, high = limits
    for bound in (low, high):
        if bound is not None and abs(bound) > 1e30:
            raise NoMatch("its squared distance is limited (clip) at a very large number")
    known = product_nonnegative(product, writer.reader.is_nonnegative)
    above = [(factor, power) for factor, power in product if power > 0]
    if not (product_flat_at_zero(above, writer.reader.is_flat_at_zero) or cautious):
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
