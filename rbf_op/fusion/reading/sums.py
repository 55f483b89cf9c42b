"""Reading of sums and matrix products: sums over a symbol of their own.

May import Theano.
"""

import theano.tensor as T
from theano.tensor.blas import BatchedDot

from rbf_op.fusion.algebra import Symbol, multiply, sum_over
from rbf_op.fusion.reading.reader import LINEAR, SCALE, WHOLE, index_of, widens


def read_summed(reader, variable, index, mode, frame, read_terms):
    """A sum over bound symbols, taken apart as the mode allows."""
    mixing = reader.mixes(variable, index, frame)
    if mode is WHOLE and not mixing:
        return None
    terms, bounds = read_terms(index)
    for bound in bounds:
        terms = sum_over(bound, terms)
    if mode is not LINEAR and not mixing and len(terms) != 1:
        return None
    return terms


def _read_sum(reader, variable, index, mode, frame):
    source = variable.owner.inputs[0]
    readable = source in reader.closed or reader.readable(source)
    if not readable or not widens(source.dtype, variable.dtype):
        return None

    def read_terms(index):
        inner, bounds = with_bounds(reader, variable.owner, index)
        return reader.read(source, inner, LINEAR, frame), bounds

    return read_summed(reader, variable, index, mode, frame, read_terms)


def summed_axes(node):
    """The axes that a Sum or Prod goes over."""
    return range(node.inputs[0].ndim) if node.op.axis is None else node.op.axis


def with_bounds(reader, node, index):
    """The index of what is summed or multiplied up, and the new symbols in it."""
    source, axes = node.inputs[0], summed_axes(node)
    left, inner, bounds = list(index), [], []
    for axis in range(source.ndim):
        if axis not in axes:
            inner.append(left.pop(0))
        elif source.broadcastable[axis]:
            inner.append(())
        else:
            bounds.append(_bound(reader, source, axis))
            inner.append((bounds[-1],))
    return tuple(inner), bounds


def _bound(reader, source, axis):
    return Symbol("k", reader.sizes.dimension(source, axis))


def _read_dot(reader, variable, index, mode, frame):
    first, second = variable.owner.inputs
    if first.ndim == 0 or second.ndim == 0:
        return None
    diagonal = _diagonal_of(reader, second)
    if diagonal is not None:  # dot(A, diag(w))[i, k] = A[i, k] w[k]
        parts = (first, index), (diagonal, index[-1:])
        return multiply(*[reader.read(v, i, WHOLE, frame) for v, i in parts])
    diagonal = _diagonal_of(reader, first)
    if diagonal is not None:
        parts = (diagonal, index[:1]), (second, index)
        return multiply(*[reader.read(v, i, WHOLE, frame) for v, i in parts])

    def read_terms(index):
        bounds = []
        if first.broadcastable[-1] or second.broadcastable[0]:
            shared = ()
        else:
            bounds.append(_bound(reader, first, first.ndim - 1))
            reader.sizes.unite(bounds[0].size, reader.sizes.dimension(second, 0))
            shared = (bounds[0],)
        rows = index[: first.ndim - 1] + (shared,)
        columns = (shared,) + index[first.ndim - 1 :]
        # An outer product is a product of numbers, not a sum over features.
        outer = not bounds and not reader.under_sum(rows) and not reader.under_sum(columns)
        its_mode = SCALE if outer else WHOLE
        terms = multiply(
            reader.read(first, rows, its_mode, frame), reader.read(second, columns, its_mode, frame)
        )
        return terms, bounds

    return read_summed(reader, variable, index, mode, frame, read_terms)


def _diagonal_of(reader, variable):
    """w if a variable is diag(w), else None."""
    node = variable.owner
    while node is not None and isinstance(node.op, (T.DimShuffle, T.Reshape)):
        source = node.inputs[0]  # T.tensordot does this to what need not be moved at all
        if isinstance(node.op, T.DimShuffle):
            same = tuple(node.op.new_order) == (0, 1)
        else:
            same = source.ndim == variable.ndim == 2 and all(
                reader.sizes.equal(
                    reader.sizes.dimension(source, a), reader.sizes.dimension(variable, a)
                )
                for a in range(2)
            )
        if not same:
            return None
        variable, node = source, source.owner
    if node is None or not isinstance(node.op, T.AllocDiag):
        return None
    (diagonal,) = node.inputs
    whole = node.op.offset == 0 and diagonal.ndim == 1 and not diagonal.broadcastable[0]
    return diagonal if whole else None


def _read_batched_dot(reader, variable, index, mode, frame):
    first, second = variable.owner.inputs

    def read_terms(index):
        bound = _bound(reader, first, first.ndim - 1)
        batch, rest = index[:1], list(index[1:])
        rows = tuple(rest.pop(0) for _ in range(first.ndim - 2))
        inner = [
            batch + rows + ((bound,),),
            batch + ((bound,),) + tuple(rest),
        ]
        parts = [
            reader.read(v, index_of(v, i), WHOLE, frame) for v, i in zip((first, second), inner)
        ]
        return multiply(*parts), [bound]

    return read_summed(reader, variable, index, mode, frame, read_terms)


READERS = [(T.elemwise.Sum, _read_sum), (T.Dot, _read_dot), (BatchedDot, _read_batched_dot)]
