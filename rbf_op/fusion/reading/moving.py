"""Reading of Ops that only move entries about: they change the index.

May import Theano.
"""

import theano.tensor as T
from theano.tensor.subtensor import Subtensor

from rbf_op.fusion.algebra import Fixed, Gathered, Symbol, leaves_of
from rbf_op.fusion.reading.frames import count_of, outside
from rbf_op.fusion.reading.reader import Unreadable, index_of
from rbf_op.fusion.values import all_entries, index_constant


def _read_dimshuffle(reader, variable, index, mode, frame):
    node = variable.owner
    return reader.read(node.inputs[0], without_new_axes(node, index), mode, frame)


def without_new_axes(node, index):
    """The index of a DimShuffle's input."""
    source = node.inputs[0]
    inner = [()] * source.ndim
    for place, axis in zip(node.op.new_order, index):
        if place != "x" and not source.broadcastable[place]:
            inner[place] = axis
    return tuple(inner)


def _read_rebroadcast(reader, variable, index, mode, frame):
    source = variable.owner.inputs[0]
    if any(b and not a for a, b in zip(source.broadcastable, variable.broadcastable)):
        return None  # it checks a length, too
    index = index_of(source, index)
    return reader.read(source, index, mode, frame)


def _read_alloc(reader, variable, index, mode, frame):
    source, *lengths = variable.owner.inputs
    index = index[len(index) - source.ndim :]
    lengths = lengths[len(lengths) - source.ndim :]
    for axis, length in enumerate(lengths):
        # One row that only its value says is one is repeated.
        if not source.broadcastable[axis] and not reader.sizes.equal(
            reader.sizes.dimension(source, axis), reader.sizes.of_scalar(length)
        ):
            return None
    index = index_of(source, index)
    return reader.read(source, index, mode, frame)


def _read_reshape(reader, variable, index, mode, frame):
    source, lengths = variable.owner.inputs
    symbols = [entry for axis in index for entry in axis]
    axes = [a for a in range(source.ndim) if not source.broadcastable[a]]
    parts = _partition(reader, symbols, source, axes)
    if parts is None:
        return None
    lengths = reader.sizes.of_vector(lengths) or ()
    fitted = [index[a] for a, length in enumerate(lengths) if length == -1]
    for axis, part in zip(axes, parts):
        if all(isinstance(s, Symbol) for s in part) and tuple(part) not in fitted:
            wanted = reader.sizes.dimension(source, axis)
            reader.require(wanted, reader.sizes.product([s.size for s in part]))
    inner = [()] * source.ndim
    for axis, part in zip(axes, parts):
        inner[axis] = tuple(part)
    if all(len(part) == 1 for part in parts):
        return reader.read(source, tuple(inner), mode, frame)
    return _read_flat(reader, source, tuple(inner), mode, frame)


def _read_flat(reader, source, index, mode, frame):
    """What a matrix is that was a vector before; None where that is made of vectors, such as one
    of all of a model's parameters: then it is something by itself."""
    opened, passed = set(reader.opened), set(reader.passed)
    try:
        result = reader.read(source, index, mode, frame)
    except Unreadable:
        result = None
    polynomials = result if isinstance(result, tuple) else (result or {},)  # a Logarithm has two
    leaves = (leaf for p in polynomials for product in p for leaf in leaves_of(product))
    if result is None or any(len(axis) > 1 for leaf in leaves for axis in leaf.index):
        reader.opened, reader.passed = opened, passed
        return None
    return result


def _partition(reader, symbols, source, axes):
    """The flat list of symbols dealt out to the axes of source, by their lengths."""
    if any(not isinstance(s, Symbol) for s in symbols):
        return [symbols] if len(axes) == 1 and len(symbols) == 1 else None
    if not axes:
        return None if symbols else []
    if len(axes) == 1:
        return [symbols] if symbols else None
    parts, unproved, rest = [], 0, list(symbols)
    for position, axis in enumerate(axes):
        if position == len(axes) - 1:
            parts.append(rest)
            break
        wanted = reader.sizes.dimension(source, axis)
        for count in range(1, len(rest) + 1):
            if reader.sizes.equal(wanted, reader.sizes.product([s.size for s in rest[:count]])):
                break
        else:
            # The lengths multiply to the same total: one that is not known is known then.
            unproved += 1
            count = 1
        parts.append(rest[:count])
        rest = rest[count:]
    if unproved:
        last = reader.sizes.product([s.size for s in parts[-1]])
        proved = reader.sizes.equal(reader.sizes.dimension(source, axes[-1]), last)
        if unproved > 1 or not proved or len(symbols) != len(axes):
            return None
    return parts if all(parts) else None


def _read_subtensor(reader, variable, index, mode, frame):
    node = variable.owner
    source = node.inputs[0]
    inner, left = [], list(index)
    for axis, entry in enumerate(all_entries(node)):
        if isinstance(entry, slice):
            its_index = left.pop(0)
            if not reader.sizes.is_whole(entry, source, axis):
                return None
            inner.append(() if source.broadcastable[axis] else its_index)
            continue
        position = index_constant(entry)
        if position is not None:
            if source.broadcastable[axis]:
                if position not in (0, -1):
                    return None
                inner.append(())
            else:
                inner.append((Fixed(position),))
            continue
        gathered = _step_position(reader, entry, source, axis, frame)
        if gathered is None:
            return None
        inner.append((gathered,))
    return reader.read(source, tuple(inner), mode, frame)


def _step_position(reader, entry, source, axis, frame):
    """An index that a loop around takes from a sequence of integers."""
    around = frame
    while around is not None:
        while entry.owner is not None and isinstance(
            entry.owner.op, (T.ScalarFromTensor, T.TensorFromScalar)
        ):
            entry = entry.owner.inputs[0]
        if entry in around.sequences:
            break
        if entry not in around.others:
            return None
        entry, around = around.others[entry], around.parent
    if around is None:
        return None
    positions = outside(around.sequences[entry], around.parent)
    if positions is None or not positions.dtype.startswith(("int", "uint")):
        return None
    counted = count_of(positions)
    length = reader.sizes.dimension(source, axis)
    if (  # all of the axis, in turn: a slice of a range, or a shorter sequence, ends before
        counted is not None
        and reader.sizes.equal(reader.sizes.of_scalar(counted), length)
        and reader.sizes.equal(reader.sizes.dimension(positions, 0), length)
    ):
        return around.step
    return Gathered(reader.values.key(positions), around.step)


def _read_diagonal(reader, variable, index, mode, frame):
    op, source = variable.owner.op, variable.owner.inputs[0]
    rows, columns = (reader.sizes.dimension(source, axis) for axis in (0, -1))
    if (
        source.ndim != 2
        or op.offset != 0
        or True in source.broadcastable
        or not reader.sizes.equal(rows, columns)  # else it may be shorter
    ):
        return None
    return reader.read(source, (index[0], index[0]), mode, frame)


READERS = [
    (T.DimShuffle, _read_dimshuffle),
    (T.Rebroadcast, _read_rebroadcast),
    (T.Alloc, _read_alloc),
    (T.Reshape, _read_reshape),
    (Subtensor, _read_subtensor),
    (T.ExtractDiag, _read_diagonal),
]
