"""Reading through loops: scan and map over rows, and matrices put together entry by entry.

Adds its readers to reading.py's. May import Theano.
"""

import numpy as np
import theano.scalar as scalar_ops
import theano.tensor as T
from theano.tensor.opt import MakeVector
from theano.tensor.subtensor import IncSubtensor, Subtensor, get_idx_list

from rbf_op.fusion import reading
from rbf_op.fusion.algebra import Fixed, Gathered, Symbol, add, replace_positions, scale
from rbf_op.fusion.reading import LINEAR, LOGARITHM, Frame, Logarithm, Raised, count_of, widens
from rbf_op.fusion.values import (
    index_constant,
    is_elemwise,
    nodes_of,
    scalar_constant,
    subtensor_indices,
)
from rbf_op.theano_api import Minimum, Scan, clone_graph


def loop_outputs(node):
    """{output of a scan that stacks up what each step computes: the inner variable for a step}."""
    op = node.op
    if op.as_while or op.truncate_gradient != -1:
        return {}
    outer = op.outer_nitsot_outs(node.outputs)
    return dict(zip(outer, op.inner_nitsot_outs(op.outputs)))


def _read_scan(reader, variable, index, mode, frame):
    node = variable.owner
    if variable not in loop_outputs(node) or variable.broadcastable[0] or len(index[0]) != 1:
        return None
    step = index[0][0]
    if not isinstance(step, Symbol):
        return None
    if not _runs_all_steps(reader, node, variable):
        return None
    inner_frame = frame_of(reader, node, step, frame)
    inner = inner_frame.results[variable]
    inner_index = reading.index_of(inner, index[1:])
    return reader.read(inner, inner_index, mode, inner_frame)


def _runs_all_steps(reader, node, variable):
    """Whether every sequence is as long as the loop, and the result kept for every step."""
    op = node.op
    steps = node.inputs[0]
    key = reader.values.key
    position = op.outer_nitsot_outs(node.outputs).index(variable)
    if key(op.outer_nitsot(node.inputs)[position]) != key(steps):
        return False
    return all(_cut_to(reader, sequence, steps) for sequence in op.outer_seqs(node.inputs))


def _cut_to(reader, sequence, steps):
    """Whether a sequence is s[:steps], steps being no more than it has, or so long for another
    reason."""
    sizes = reader.sizes
    wanted = sizes.of_scalar(steps)
    if sizes.equal(sizes.dimension(sequence, 0), wanted):
        return True
    node = sequence.owner
    if node is None or not isinstance(node.op, Subtensor):
        return False
    entry = get_idx_list(node.inputs, node.op.idx_list)[0]
    return (
        isinstance(entry, slice)
        and entry.stop is not None
        and entry.start in (None, 0)
        and entry.step in (None, 1)
        and sizes.equal(sizes.of_scalar(entry.stop), wanted)
        and _at_most(sizes, entry.stop, sizes.dimension(node.inputs[0], 0))
    )


def _at_most(sizes, count, length):
    """Whether a number of steps is a length, or the least of it and others."""
    while isinstance(getattr(count.owner, "op", None), (T.ScalarFromTensor, T.TensorFromScalar)):
        (count,) = count.owner.inputs
    if sizes.equal(sizes.of_scalar(count), length):
        return True
    return (
        count.owner is not None
        and is_elemwise(count.owner, Minimum)
        and any(_at_most(sizes, other, length) for other in count.owner.inputs)
    )


def frame_of(reader, node, step, parent):
    """The Frame of one loop and step; the same object whenever asked.

    It has the body for itself, since nodes may share an Op, and so its variables.
    """
    key = (node, step, parent)
    if key not in reader.frames:
        op = node.op
        inputs, outputs = clone_graph(op.inputs, op.outputs)
        sequences = dict(zip(op.inner_seqs(inputs), op.outer_seqs(node.inputs)))
        others = dict(zip(op.inner_non_seqs(inputs), op.outer_non_seqs(node.inputs)))
        results = dict(zip(op.outer_nitsot_outs(node.outputs), op.inner_nitsot_outs(outputs)))
        states = zip(op.inner_sitsot(inputs), op.inner_sitsot_outs(outputs))
        states = dict(zip(op.outer_sitsot_outs(node.outputs), states))
        inside = reader.sizes.inside
        inside.update((v, (None, 0)) for v in inputs)
        inside.update((v, (outer, 1)) for v, outer in sequences.items())
        inside.update((v, (outer, 0)) for v, outer in others.items())
        reader.frames[key] = Frame(sequences, others, results, states, step, parent)
    return reader.frames[key]


def last_state(variable):
    """The output of a scan of which a variable is the last state, states[1:][-1]; else None."""
    node = variable.owner
    if not isinstance(node.op, Subtensor):
        return None
    entries = subtensor_indices(node)
    if len(entries) != 1 or isinstance(entries[0], slice) or index_constant(entries[0]) != -1:
        return None
    states = node.inputs[0]
    if states.owner is not None and isinstance(states.owner.op, Subtensor):
        (entry, *others) = subtensor_indices(states.owner)
        if others or not isinstance(entry, slice) or (entry.stop, entry.step) != (None, None):
            return None
        states = states.owner.inputs[0]
    node = states.owner
    if node is None or not isinstance(node.op, Scan) or node.op.as_while:
        return None
    if node.op.truncate_gradient != -1:
        return None
    return states if states in node.op.outer_sitsot_outs(node.outputs) else None


def set_in_state(states):
    """What a step of a scan sets a part of its state to, given the scan's output; else None."""
    op = states.owner.op
    place = op.outer_sitsot_outs(states.owner.outputs).index(states)
    step = set_by_a_step(op.inner_sitsot(op.inputs)[place], op.inner_sitsot_outs(op.outputs)[place])
    return None if step is None else step[0]


def set_by_a_step(state, new):
    """(value, entry) if a step sets state[entry] to value and changes nothing else, else None."""
    node = new.owner
    if node is None or not isinstance(node.op, IncSubtensor) or node.inputs[0] is not state:
        return None
    entry, *others = get_idx_list(node.inputs[:1] + node.inputs[2:], node.op.idx_list)
    whole = all(isinstance(e, slice) and e == slice(None) for e in others)
    if not node.op.set_instead_of_inc or isinstance(entry, slice) or not whole:
        return None
    if not widens(node.inputs[1].dtype, state.dtype):
        return None
    return node.inputs[1], entry


def _read_last_state(reader, variable, index, mode, frame):
    """A matrix that a scan begins with anything and sets row by row, row i at step i."""
    states = None if frame is not None else last_state(variable)
    if states is None or len(index[0]) != 1 or not isinstance(index[0][0], Symbol):
        return None
    node = states.owner
    op, sizes, steps = node.op, reader.sizes, node.inputs[0]
    inner = frame_of(reader, node, index[0][0], None)
    step = set_by_a_step(*inner.states[states])
    if step is None:
        return None
    value, entry = step
    while entry.owner is not None and isinstance(entry.owner.op, T.ScalarFromTensor):
        entry = entry.owner.inputs[0]
    counted = count_of(inner.sequences[entry]) if entry in inner.sequences else None
    outer = op.outer_sitsot(node.inputs)[op.outer_sitsot_outs(node.outputs).index(states)]
    if counted is None or not isinstance(getattr(outer.owner, "op", None), IncSubtensor):
        return None
    rows = sizes.dimension(outer.owner.inputs[1], 1)
    if not sizes.equal(sizes.of_scalar(counted), rows):
        return None
    if not all(_cut_to(reader, sequence, steps) for sequence in op.outer_seqs(node.inputs)):
        return None
    # As long as its sequence of indices, or else as its number of steps says.
    if not sizes.equal(sizes.of_scalar(steps), rows):
        return None
    # Rows as long as those of the matrix: another length would be an error, or be repeated.
    if value.ndim + 2 != outer.ndim or not all(
        sizes.equal(sizes.dimension(value, axis), sizes.dimension(outer.owner.inputs[1], axis + 2))
        for axis in range(value.ndim)
    ):
        return None
    reader.note_opened(states, index, None)
    reader.note_opened(variable.owner.inputs[0], index, None)
    inner_index = reading.index_of(value, index[1:])
    return reader.read(value, inner_index, mode, inner)


def _read_accumulated(reader, variable, index, mode, frame):
    """The last state of a scan of which each step adds something: a sum over the steps.

    As theano.reduce and foldl over features have it.
    """
    states = None if mode is LOGARITHM or isinstance(mode, Raised) else last_state(variable)
    if states is None:
        return None
    node = states.owner
    op, steps = node.op, node.inputs[0]
    outer = op.outer_sitsot(node.inputs)[op.outer_sitsot_outs(node.outputs).index(states)]
    begun = outer.owner
    if begun is None or not isinstance(begun.op, IncSubtensor):
        return None
    if begun.inputs[0].owner is None or not isinstance(begun.inputs[0].owner.op, T.AllocEmpty):
        return None
    if not all(_cut_to(reader, sequence, steps) for sequence in op.outer_seqs(node.inputs)):
        return None
    step = Symbol("k", reader.sizes.of_scalar(steps))
    inner = frame_of(reader, node, step, frame)
    added = _added_to(*inner.states[states])
    if added is None:
        return None
    start = ((Fixed(0),),) + index
    for _, term in added:
        for axis in range(term.ndim):
            if not term.broadcastable[axis]:
                begins = reader.sizes.dimension(begun.inputs[1], axis + 1)
                reader.require(reader.sizes.dimension(term, axis), begins)

    def read_terms(index):
        terms = {}
        for sign, term in added:
            its_index = reading.index_of(term, index)
            terms = add(terms, scale(reader.read(term, its_index, LINEAR, inner), sign))
        return terms, [step]

    total = reader.summed(variable, index, mode, frame, read_terms)
    if total is None:
        return None
    total = add(reader.read(begun.inputs[1], start, mode, frame), total)
    for opened in (states, variable.owner.inputs[0]):
        reader.note_opened(opened, index, frame)
    return total


def _added_to(before, after):
    """[(1 or -1, term)] of what a step adds to its state; None if it does anything else."""
    depending = {before}
    for node in nodes_of([after]):
        if depending.intersection(node.inputs):
            depending.update(node.outputs)
    terms, stack, count = [], [(1, after)], 0
    while stack:
        sign, variable = stack.pop()
        if variable is before:
            count += sign
        elif variable not in depending:
            terms.append((sign, variable))
        elif is_elemwise(variable.owner, (scalar_ops.Add, scalar_ops.Sub)):
            second = -sign if isinstance(variable.owner.op.scalar_op, scalar_ops.Sub) else sign
            first, *others = variable.owner.inputs
            stack += [(sign, first)] + [(second, v) for v in others]
        else:
            return None
    return terms if count == 1 and before.broadcastable == after.broadcastable else None


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
    outer, reader.in_parts = reader.in_parts, True
    try:
        result = _general(reader, parts, index[axis], index[:axis] + index[axis + 1 :], mode)
    finally:
        reader.in_parts = outer
    if result is not None:
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
            its_index = tuple(() if b else i for b, i in zip(value.broadcastable, its_index))
            one = reader.read(value, its_index, mode)
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


reading.add_reader(Scan, _read_scan)
reading.add_reader(Subtensor, _read_last_state)
reading.add_reader(Subtensor, _read_accumulated)
reading.add_reader((IncSubtensor, T.Join, MakeVector), _read_assembled)
