"""Expressions read as kernels: which symbols the axes of a root stand for, which ways are tried.

Between search.py, which asks for a root that candidates.py found, and reading and building. May
import Theano.
"""

import functools
from fractions import Fraction

import numpy as np
import theano.scalar as scalar_ops
import theano.tensor as T
from theano.tensor.subtensor import IncSubtensor

from rbf_op.fusion.algebra import Symbol, add, multiply, number, scale
from rbf_op.fusion.building import RowSum, build, build_softmax, build_widths, like, log_sum_of
from rbf_op.fusion.matching import NoMatch
from rbf_op.fusion.reading import LOGARITHM, Reader, Unreadable
from rbf_op.fusion.reading.assembled import filled_positions, fills, lengths_of
from rbf_op.fusion.reading.exponentials import Logarithm
from rbf_op.fusion.reading.moving import without_new_axes
from rbf_op.fusion.reading.reader import index_of
from rbf_op.fusion.reading.sums import summed_axes
from rbf_op.fusion.values import is_elemwise


def read_kernel(graph, root, closed=()):
    """The Kernel that a variable is, computed from the `closed` variables where it was.

    Raises NoMatch or Unreadable, saying why it is none.
    """
    block = _block(graph, root)
    axes = [a for a, broadcastable in enumerate(root.broadcastable) if not broadcastable]
    # Of more than two axes one is the columns, and the others together the rows.
    columns = (axes[-1], axes[0], *axes[1:-1]) if len(axes) > 2 else (None,)
    return _first_kernel(
        graph,
        [
            functools.partial(_read_kernel, graph, root, closed, block, axes, column, separate)
            for column in columns
            for separate in (False, True)
        ],
    )


def _first_kernel(graph, readings):
    """The Kernel of the first of some readings that gives one, or else the error of the first."""
    first_error = None
    for reading in readings:
        try:
            return reading()
        except (NoMatch, Unreadable) as error:
            first_error = first_error or error
            graph.forget_lengths()  # what this one required
    raise first_error


def _read_kernel(graph, root, closed, block, axes, column, separate):
    base, lengths = block
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
    read = reader.read(root, index, LOGARITHM)
    return build(graph, root, reader, read, index, base, lengths)


def read_sum(graph, root, closed=(), *, logarithm):
    """The Kernel for log(sum(kernel, axis=1)), or for a sum of which that is a term.

    Such as max + log(mean(exp(e - max), axis=1)): the shift cancels, and so is not needed.
    """
    reader = _reader(graph, root, (), closed)
    (axis,) = [a for a, broadcastable in enumerate(root.broadcastable) if not broadcastable]
    row = Symbol("i", graph.sizes.dimension(root, axis))
    index = tuple((row,) if a == axis else () for a in range(root.ndim))
    terms, stack, found = {}, [(1, root, index)], None
    looked_through, with_it = set(), {logarithm: True}
    while stack:
        sign, variable, its_index = stack.pop()
        looked_through.add(variable)
        node = variable.owner
        if variable is logarithm:
            found = sign, its_index
        elif not _has_term(variable, with_it):
            looked_through.discard(variable)
            terms = add(terms, scale(reader.read(variable, its_index), sign))
        elif isinstance(node.op, T.DimShuffle):
            stack.append((sign, node.inputs[0], without_new_axes(node, its_index)))
        else:
            signs = (sign, -sign if isinstance(node.op.scalar_op, scalar_ops.Sub) else sign)
            for operand, its_sign in zip(node.inputs, signs + (sign,) * len(node.inputs)):
                stack.append((its_sign, operand, index_of(operand, its_index)))
    if found is None or found[0] != 1:
        raise NoMatch("the logarithm of the sum is subtracted")
    sums, its_index, divisor = logarithm.owner.inputs[0], found[1], {}
    while not isinstance(sums.owner.op, T.elemwise.Sum):
        looked_through.add(sums)
        if isinstance(sums.owner.op, T.DimShuffle):
            its_index = without_new_axes(sums.owner, its_index)
        else:
            by = reader.read(sums.owner.inputs[1], ((),) * sums.ndim)
            if len(by) != 1:
                raise NoMatch("the sum is divided by another")
            divisor = multiply(divisor, by) if divisor else by
        sums = sums.owner.inputs[0]
    looked_through.add(sums)
    (source,), (axis,) = sums.owner.inputs, sums.owner.op.axis
    column = Symbol("j", graph.sizes.dimension(source, axis))
    inner = its_index[:axis] + ((column,),) + its_index[axis:]
    required = reader.required
    reader = _reader(graph, root, (row, column), closed, True)
    reader.required = required
    read = reader.read(source, inner, LOGARITHM)
    kernel = build(graph, root, reader, read, index, row_sum=RowSum(terms, divisor))
    kernel.opened.update(looked_through)
    kernel.passed.update(looked_through)
    return kernel


def read_total(graph, root, closed=(), *, logarithm):
    """The Kernel for log(sum(kernel)) over rows and columns, or for a sum of which that is a term:
    by the logarithms of the rows' sums.
    """
    (total,) = logarithm.owner.inputs
    of_rows = row_sums = T.log(T.sum(total.owner.inputs[0], axis=1))
    if root is not logarithm:
        inputs = (row_sums if v is logarithm else v.dimshuffle("x") for v in root.owner.inputs)
        of_rows = root.owner.op(*inputs)
    kernel = read_sum(graph, of_rows, closed, logarithm=row_sums)
    return kernel._replace(
        root=root,
        result=like(root, log_sum_of(kernel.result)),
        opened=kernel.opened | {root, logarithm, total},
        passed=kernel.passed | {root, logarithm, total},
        candidate=kernel.candidate._replace(variable=root),
    )


def read_softmax(graph, root, closed=()):
    """The Kernel for the product of a softmax of squared distances with weights."""
    source, weights, looked_through = softmax_product(root.owner)
    row, column = (Symbol(n, graph.sizes.dimension(source, a)) for a, n in enumerate("ij"))
    reader = _reader(graph, source, (row, column), closed, True)
    read = Logarithm(reader.read(source, ((row,), (column,))), number(1))
    reader.opened.update(looked_through)
    reader.passed.update(looked_through)
    return build_softmax(graph, root, reader, read, weights)


def softmax_product(node):
    """(exponents, weights, variables on the way) if a node multiplies the softmax of a matrix's
    rows with weights; or None. The weights may be multiplied first, and then divided by the sums.
    """
    multiplies = isinstance(node.op, T.Dot)
    if not multiplies and not is_elemwise(node, scalar_ops.TrueDiv):
        return None
    (inner, other), below = node.inputs, node.inputs[0].owner
    if below is None:
        return None
    if multiplies and isinstance(below.op, T.nnet.Softmax):
        (source,) = below.inputs
        return None if any(source.broadcastable) else (source, other, {inner})
    if multiplies and is_elemwise(below, scalar_ops.TrueDiv):
        (matrix, sums), weights = below.inputs, other
    elif not multiplies and isinstance(below.op, T.Dot):
        (matrix, weights), sums = below.inputs, other
    else:
        return None
    found = _softmax(matrix, sums)
    return found and (found[0], weights, found[1] | {inner})


def _softmax(matrix, sums):
    """(exponents, variables on the way) if a matrix divided by `sums` is a softmax written out:
    e / sum(e, axis=1) with e = exp(exponents - one number a row). Or None; without that number it
    is a kernel divided by its sums.
    """
    if not is_elemwise(matrix.owner, scalar_ops.Exp):
        return None
    (shifted,) = matrix.owner.inputs
    way = {matrix, sums}
    if sums.owner is not None and isinstance(sums.owner.op, T.DimShuffle):
        if sums.owner.op.new_order != (0, "x"):
            return None
        (sums,) = sums.owner.inputs
        way.add(sums)
    of_rows = sums.owner is not None and isinstance(sums.owner.op, T.elemwise.Sum)
    if not of_rows or sums.owner.inputs[0] is not matrix or sums.owner.op.axis != (1,):
        return None
    if is_elemwise(shifted.owner, scalar_ops.Sub):
        source, shift = shifted.owner.inputs
        if shift.broadcastable[1] and not any(source.broadcastable):
            return source, way | {shifted}
    return (shifted, way) if _is_shifted(shifted) and not any(shifted.broadcastable) else None


def _is_shifted(variable, added=False, depth=8):
    """Whether the largest or smallest entry of each row is a term of exponents."""
    node = variable.owner
    if depth == 0 or node is None:
        return False
    if isinstance(node.op, T.MaxAndArgmax):
        return added
    added = added or is_elemwise(node, scalar_ops.Add, scalar_ops.Sub)
    inputs = node.inputs[:1] if is_elemwise(node, scalar_ops.TrueDiv) else node.inputs
    goes_on = isinstance(node.op, T.DimShuffle) or is_elemwise(
        node, scalar_ops.Add, scalar_ops.Sub, scalar_ops.Neg, scalar_ops.Mul, scalar_ops.TrueDiv
    )
    return goes_on and any(_is_shifted(v, added, depth - 1) for v in inputs)


def read_widths(graph, root, closed=()):
    """The Kernel for a sum of kernels of one distance along the axis of their widths.

    The sum may go over rows or columns as well.
    """
    (source,) = root.owner.inputs
    axes = [axis for axis in summed_axes(root.owner) if not source.broadcastable[axis]]
    if not axes:
        raise NoMatch("no axis of widths is summed")
    return _first_kernel(
        graph,
        [functools.partial(_read_widths_along, graph, root, axis, closed) for axis in axes],
    )


def _read_widths_along(graph, root, axis, closed):
    (source,) = root.owner.inputs
    places = [a for a in range(source.ndim) if not source.broadcastable[a] and a != axis]
    sizes = {a: graph.sizes.dimension(source, a) for a in [axis] + places}
    term, row, column = (Symbol(n, sizes[a]) for n, a in zip("tij", [axis] + places))
    symbols = dict(zip([axis] + places, (term, row, column)))
    index = tuple((symbols[a],) if a in symbols else () for a in range(source.ndim))
    reader = _reader(graph, source, (row, column), closed)
    read = reader.read(source, index, LOGARITHM)
    return build_widths(graph, root, reader, read, term, places)


def _reader(graph, root, roots, closed, separate=False, members=()):
    tolerance = 8 * Fraction(float(np.finfo(root.dtype).eps))
    return Reader(
        graph.values, graph.sizes, graph.signs, roots, tolerance, separate, members, closed
    )


def _has_term(variable, known):
    """Whether a variable is a term, or a sum (of sums) with a term, of which that is `known`."""
    if variable not in known:
        node = variable.owner
        adds = is_elemwise(node, scalar_ops.Add, scalar_ops.Sub)
        adds = adds or node is not None and isinstance(node.op, T.DimShuffle)
        known[variable] = adds and any([_has_term(v, known) for v in node.inputs])
    return known[variable]


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
