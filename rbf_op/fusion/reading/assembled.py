"""Reading of matrices put together of parts: set_subtensor on each row, column or cell, stack.

May import Theano.
"""

import numpy as np
import theano.tensor as T
from theano.tensor.opt import MakeVector
from theano.tensor.subtensor import IncSubtensor, get_idx_list

from rbf_op.fusion.algebra import Fixed, Gathered, Symbol, add, replace_positions
from rbf_op.fusion.reading.exponentials import Logarithm
from rbf_op.fusion.reading.reader import index_of, widens
from rbf_op.fusion.values import index_constant, scalar_constant


class Part:
    """An expression for one position: a variable, or cells to be put together further."""

    def __init__(self, variable, dropped=(), cells=None):
        self.variable = variable
        self.dropped = dropped
        self.cells = cells


def assembled(variable):
    """(axis, parts) if a variable is put together of parts along an axis, one for each position.

    Each part is the expression for one position, without that axis: of set_subtensor on all rows,
    columns or cells (which are then parts that are put together in turn), or of stack.
    """
    node = variable.owner
    if isinstance(node.op, MakeVector):
        return 0, [Part(v) for v in node.inputs]
    if isinstance(node.op, T.Join):
        axis = index_constant(node.inputs[0])
        pieces = node.inputs[1:]
        if axis is None or not all(v.broadcastable[axis] for v in pieces):
            return None
        return axis, [Part(v, (axis,)) for v in pieces]
    filled = filled_positions(variable)
    return None if filled is None else filled[1:]


def filled_positions(variable):
    """(base, axis, parts) if a chain of set_subtensor sets all of the first positions of a base.

    inc_subtensor does too, where it adds once to a base of zeros.
    """
    cells, axes, added, base = {}, None, set(), variable
    while base.owner is not None and isinstance(base.owner.op, IncSubtensor):
        node = base.owner
        place = _place(node)
        if place is None or axes not in (None, tuple(place)):
            return None
        if not widens(node.inputs[1].dtype, variable.dtype):
            return None
        axes, position = tuple(place), tuple(place.values())
        if position in added:
            return None
        if not node.op.set_instead_of_inc:
            added.add(position)
        cells.setdefault(position, node.inputs[1])  # the first one met was set last
        base = node.inputs[0]
    if not cells or added and scalar_constant(base) != 0:
        return None
    rows = {}
    for position, value in cells.items():
        rows.setdefault(position[0], {})[position[1:]] = value
    if set(rows) != set(range(len(rows))):
        return None
    if len(axes) == 1:
        return base, axes[0], [Part(rows[row][()]) for row in range(len(rows))]
    columns = set((column,) for column in range(len(rows[0])))
    if any(set(row) != columns for row in rows.values()):
        return None
    return base, axes[0], [Part(None, (), rows[row]) for row in range(len(rows))]


def lengths_of(axis, parts):
    """{axis: length} of what parts are set in, as far as their number says."""
    lengths = {axis: len(parts)}
    if parts[0].cells:
        lengths[axis + 1] = len(parts[0].cells)
    return lengths


def fills(sizes, variable, axis, parts):
    """Whether parts are known to be all of what they are set in, and as long as that."""
    lengths = lengths_of(axis, parts)
    if any(sizes.dimension(variable, a) != length for a, length in lengths.items()):
        return False
    others = [a for a in range(variable.ndim) if a not in lengths]
    return all(
        part.cells
        or part.variable.ndim == len(others)
        and all(
            sizes.equal(sizes.dimension(part.variable, a), sizes.dimension(variable, b))
            for a, b in enumerate(others)
        )
        for part in parts
    )


def _place(node):
    """{axis: constant position} that a set_subtensor node sets; None if it sets something else."""
    entries = get_idx_list(node.inputs[:1] + node.inputs[2:], node.op.idx_list)
    place = {}
    for axis, entry in enumerate(entries):
        if isinstance(entry, slice):
            if (entry.start, entry.stop, entry.step) != (None, None, None):
                return None
            continue
        position = index_constant(entry)
        if position is None or position < 0:
            return None
        place[axis] = position
    return place if 0 < len(place) <= 2 else None


def _read_assembled(reader, variable, index, mode, frame):
    if frame is not None or reader.members:
        return None
    found = assembled(variable)
    if found is None:
        return None
    axis, parts = found
    if isinstance(variable.owner.op, IncSubtensor) and not reader.block:
        if not fills(reader.sizes, variable, axis, parts):
            return None
    before = reader.opened, reader.passed, reader.in_parts
    opened, passed = set(), set()
    reader.opened, reader.passed, reader.in_parts = opened, passed, True
    try:
        result = _general(reader, parts, index[axis], index[:axis] + index[axis + 1 :], mode)
    finally:
        reader.opened, reader.passed, reader.in_parts = before
    if result is not None:  # what was looked through in vain stays
        reader.opened |= opened
        reader.passed |= passed
        _note_chain(reader, variable, index)
    return result


def _general(reader, parts, position, index, mode):
    """What all parts are, as a function of the position that they are at; None if they differ."""
    if not all(isinstance(symbol, Symbol) for symbol in position):
        return None
    if len(position) == 2 and not index and not parts[0].dropped:  # a flat list of the cells
        (_, width), count = [symbol.size for symbol in position], len(parts)
        if not isinstance(width, int) or not width or count % width:
            return None
        rows = [parts[first : first + width] for first in range(0, count, width)]
        parts = [
            Part(None, (), {(k,): cell.variable for k, cell in enumerate(row)}) for row in rows
        ]
        index, position = position[1:], position[:1]
        index = (index,)
    if len(parts) < 2 or len(position) != 1:
        return None
    (symbol,) = position
    read = []
    for part in parts:
        if part.cells:
            inner = [Part(part.cells[k,]) for k in range(len(part.cells))]
            one = _general(reader, inner, index[0], index[1:], mode)
            if one is None:
                return None
        else:
            value = part.variable
            its_index = list(index)
            for axis in part.dropped:
                its_index.insert(axis, ())
            its_index = its_index[len(its_index) - value.ndim :]
            one = reader.read(value, index_of(value, its_index), mode)
        read.append(one)
    positions = reader.values.key(T.constant(np.arange(len(parts)), dtype="int64"))
    for number, one in enumerate(read):
        template = _replaced(one, _generalise(reader, number, len(parts), symbol, positions))
        if all(
            _replaced(template, _specialise(other, symbol)) == expected
            for other, expected in enumerate(read)
        ):
            return template
    return None


def _replaced(read, replacement):
    if isinstance(read, Logarithm):
        return Logarithm(*(_replaced(polynomial, replacement) for polynomial in read))
    # Terms may become equal: of x_i**2 + x_j**2 - 2 x_i x_j nothing is left where i is j.
    return add(*[{replace_positions(product, replacement): c} for product, c in read.items()])


def _generalise(reader, number, count, symbol, positions):
    """Position `number` becomes the symbol, where an axis may be longer by way of a gather."""

    def replacement(leaf, axis, entry):
        if entry != Fixed(number):
            return entry
        length = reader.sizes.dimension(reader.values.variables[leaf.key], axis)
        return symbol if reader.sizes.equal(length, count) else Gathered(positions, symbol)

    return replacement


def _specialise(number, symbol):
    def replacement(leaf, axis, entry):
        inner = entry.symbol if isinstance(entry, Gathered) else entry
        return Fixed(number) if inner is symbol else entry

    return replacement


def _note_chain(reader, variable, index):
    """The partial results of set_subtensor are superfluous with the last of them."""
    while variable.owner is not None and isinstance(variable.owner.op, IncSubtensor):
        reader.note_opened(variable, index, None)
        variable = variable.owner.inputs[0]


READERS = [((IncSubtensor, T.Join, MakeVector), _read_assembled)]
