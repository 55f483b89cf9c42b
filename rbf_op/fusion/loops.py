"""Reading through loops: scan and map over rows, and matrices put together entry by entry.

Adds its readers to reading.py's. May import Theano by way of theano_api.
"""

import theano.tensor as T
from theano.tensor.subtensor import IncSubtensor, Subtensor, get_idx_list

from rbf_op.fusion import reading
from rbf_op.fusion.algebra import Symbol
from rbf_op.fusion.reading import Frame
from rbf_op.fusion.values import index_constant
from rbf_op.theano_api import Scan


def loop_outputs(node):
    """{output of a scan that stacks up what each step computes: the inner variable for a step}."""
    op = node.op
    if op.as_while:
        return {}
    outer = op.outer_nitsot_outs(node.outputs)
    return dict(zip(outer, op.inner_nitsot_outs(op.outputs)))


def _read_scan(reader, variable, index, mode, frame):
    node = variable.owner
    op = node.op
    inner = loop_outputs(node).get(variable)
    if inner is None or variable.broadcastable[0] or len(index[0]) != 1:
        return None
    step = index[0][0]
    if not isinstance(step, Symbol):
        return None
    if not _runs_all_steps(reader, node, variable):
        return None
    inner_frame = frame_of(reader, node, step, frame)
    inner_index = tuple(() if b else axis for b, axis in zip(inner.broadcastable, index[1:]))
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
    """Whether a sequence is s[:steps], or so long for another reason."""
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
    )


def frame_of(reader, node, step, parent):
    """The Frame of one loop and step; the same object whenever asked."""
    key = (node, step, parent)
    if key not in reader.frames:
        op = node.op
        reader.frames[key] = Frame(
            dict(zip(op.inner_seqs(op.inputs), op.outer_seqs(node.inputs))),
            dict(zip(op.inner_non_seqs(op.inputs), op.outer_non_seqs(node.inputs))),
            step,
            parent,
        )
    return reader.frames[key]


reading.add_reader(Scan, _read_scan)
