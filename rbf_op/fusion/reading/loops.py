"""Reading of loops: scan and map over rows, sums and matrices that a scan puts together by steps.

May import Theano.
"""

import theano.scalar as scalar_ops
import theano.tensor as T
from theano.tensor.subtensor import IncSubtensor, Subtensor, get_idx_list

from rbf_op.fusion.algebra import Fixed, Symbol, add, scale
from rbf_op.fusion.reading.exponentials import LOGARITHM
from rbf_op.fusion.reading.frames import Frame, count_of
from rbf_op.fusion.reading.powers import Raised
from rbf_op.fusion.reading.reader import LINEAR, Unreadable, index_of, widens
from rbf_op.fusion.reading.sums import read_summed
from rbf_op.fusion.values import index_constant, is_elemwise, nodes_of, subtensor_indices
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
    if not runs_all_steps(reader, node, variable):
        return None
    inner_frame = frame_of(reader, node, step, frame)
    inner = inner_frame.results[variable]
    inner_index = index_of(inner, index[1:])
    try:
        return reader.read(inner, inner_index, mode, inner_frame)
    except Unreadable:
        if frame is not None or reader.mixes(variable, index, frame):
            raise
        return None  # points like others


def runs_all_steps(known, node, variable=None):
    """Whether every sequence is as long as the loop, and a result kept for every step.

    `known` has the `values` and `sizes` of the graph, as a Reader does.
    """
    op = node.op
    steps = node.inputs[0]
    key = known.values.key
    if variable is not None:
        position = op.outer_nitsot_outs(node.outputs).index(variable)
        if key(op.outer_nitsot(node.inputs)[position]) != key(steps):
            return False
    return all(_cut_to(known, sequence, steps) for sequence in op.outer_seqs(node.inputs))


def _cut_to(known, sequence, steps):
    """Whether a sequence is s[:steps], steps being no more than it has, or so long for another
    reason."""
    sizes = known.sizes
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
        and (
            _at_most(sizes, entry.stop, sizes.dimension(node.inputs[0], 0))
            or _cut_to(known, node.inputs[0], steps)
        )
    )


def _at_most(sizes, count, length):
    """Whether a number of steps is a length, or the least of it and others."""
    while isinstance(getattr(count.owner, "op", None), (T.ScalarFromTensor, T.TensorFromScalar)):
        (count,) = count.owner.inputs
    if sizes.equal(sizes.of_scalar(count), length):
        return True
    return is_elemwise(count.owner, Minimum) and any(
        _at_most(sizes, other, length) for other in count.owner.inputs
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
        states = loop_states(node, inputs, outputs)
        inside = reader.sizes.inside
        inside.update((v, (None, 0)) for v in inputs)
        inside.update((v, (outer, 1)) for v, outer in sequences.items())
        inside.update((v, (outer, 0)) for v, outer in others.items())
        reader.frames[key] = Frame(sequences, others, results, states, step, parent)
    return reader.frames[key]


def loop_states(node, inputs, outputs):
    """{output of a scan that has a state at all steps: (before a step, after it)}, of a body with
    these inputs and outputs."""
    op = node.op
    states = zip(op.inner_sitsot(inputs), op.inner_sitsot_outs(outputs))
    return dict(zip(op.outer_sitsot_outs(node.outputs), states))


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
    step = set_by_a_step(*loop_states(states.owner, op.inputs, op.outputs)[states])
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
    if states is None or not index or len(index[0]) != 1 or not isinstance(index[0][0], Symbol):
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
    inner_index = index_of(value, index[1:])
    return reader.read(value, inner_index, mode, inner)


def _read_accumulated(reader, variable, index, mode, frame):
    """The last state of a scan of which each step adds something: a sum over the steps.

    As theano.reduce and foldl over features have it.
    """
    states = None if mode is LOGARITHM or isinstance(mode, Raised) else last_state(variable)
    if states is None:
        return None
    node, begun = states.owner, begun_with(states)
    if begun is None or not runs_all_steps(reader, node):
        return None
    step = Symbol("k", reader.sizes.of_scalar(node.inputs[0]))
    inner = frame_of(reader, node, step, frame)
    added = added_to(*inner.states[states])
    if added is None:
        return None
    start = ((Fixed(0),),) + index
    for _, term in added:
        for axis in range(term.ndim):
            if not term.broadcastable[axis]:
                begins = reader.sizes.dimension(begun, axis + 1)
                reader.require(reader.sizes.dimension(term, axis), begins)

    def read_terms(index):
        terms = {}
        for sign, term in added:
            its_index = index_of(term, index)
            terms = add(terms, scale(reader.read(term, its_index, LINEAR, inner), sign))
        return terms, [step]

    total = read_summed(reader, variable, index, mode, frame, read_terms)
    if total is None:
        return None
    total = add(reader.read(begun, start, mode, frame), total)
    for opened in (states, variable.owner.inputs[0]):
        reader.note_opened(opened, index, frame)
    return total


def begun_with(states):
    """What a scan's state is before the first step, behind an axis of length one; or None."""
    op, node = states.owner.op, states.owner
    outer = op.outer_sitsot(node.inputs)[op.outer_sitsot_outs(node.outputs).index(states)]
    begun = outer.owner
    if begun is None or not isinstance(begun.op, IncSubtensor):
        return None
    if begun.inputs[0].owner is None or not isinstance(begun.inputs[0].owner.op, T.AllocEmpty):
        return None
    return begun.inputs[1]


def added_to(before, after):
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


READERS = [(Scan, _read_scan), (Subtensor, _read_accumulated), (Subtensor, _read_last_state)]
