"""Loops that make something of a kernel's rows: which of them to write for all steps at once.

In front of search.py, which finds the kernels then; fuse.py and optimizer.py call both. batching.py
writes them. May import Theano.
"""

import theano.tensor as T
from theano.tensor.opt import Shape, Shape_i
from theano.tensor.subtensor import Subtensor

from rbf_op.fusion.batching import batch
from rbf_op.fusion.matching import NoMatch
from rbf_op.fusion.reading.loops import last_state
from rbf_op.fusion.search import failed, find_kernels, left_alone
from rbf_op.fusion.values import long_axes, nodes_of, rebuild, users_of
from rbf_op.ops import RBFKernel
from rbf_op.theano_api import Scan, ancestors, trace_to


def batch_loops(outputs, kept=(), cautious=False):
    """({output of a loop: the same without it}, [Candidate]): what to do before find_kernels.

    Results come first. Of the loops that make something of a kernel's rows it is those whose rows
    are all fused once they are written for all steps at once; the others are the candidates, left
    alone. So is a loop of which an output is `kept` and, if `cautious`, one that gets along with a
    row at a time where all rows would be kept.
    """
    nodes = nodes_of(outputs)
    totals = _totals(nodes, outputs)
    scans = [
        node
        for node in nodes
        if isinstance(node.op, Scan)
        and not any(v in kept for v in [*node.outputs, *_states(totals.get(node, ()))])
    ]
    if not scans:
        return {}, []
    used = {v for node in nodes for v in node.inputs}.union(outputs)
    loops, reasons = {}, {}
    for node in scans:
        try:
            loop = batch(node, used, totals.get(node, {}))
        except NoMatch as error:
            reasons[node] = str(error)
        except Exception as error:  # as in find_kernels
            reasons[node] = failed(error)
        else:
            if loop is not None:
                loops[node] = loop
    while loops:
        unfit = _unfit_loops(loops, outputs, kept, cautious)
        if not unfit:
            break
        reasons.update(unfit)
        loops = {node: loop for node, loop in loops.items() if node not in unfit}
    replacements, known = {}, set(nodes)
    for node in reversed(scans):
        if node in loops:
            for old, new in loops[node].outputs.items():
                trace_to(old, new, known)
                replacements[old] = new
    return replacements, [
        left_alone(next(v for v in node.outputs if v in used), reasons[node])
        for node in reversed(scans)
        if node in reasons
    ]


def _states(lasts):
    """Last states, and what each is the last of: all of them, without the one begun with."""
    return [v for last in lasts for v in (last, last.owner.inputs[0])]


def _totals(nodes, outputs):
    """{loop: {last state: all states}} of those states of which no other is used."""
    if not any(isinstance(node.op, Scan) for node in nodes):
        return {}
    users = users_of(nodes)
    lasts = {
        node.outputs[0]: last_state(node.outputs[0])
        for node in nodes
        if isinstance(node.op, Subtensor)
    }

    def only_last(variable, states):
        return variable not in outputs and all(
            lasts.get(user.outputs[0]) is states
            or isinstance(user.op, Subtensor)
            and only_last(user.outputs[0], states)
            for user in users.get(variable, ())
        )

    found = {}
    for last, states in lasts.items():
        if states is not None and only_last(states, states):
            found.setdefault(states.owner, {})[last] = states
    return found


def _unfit_loops(loops, outputs, kept, cautious):
    """{loop: why it must be left alone} for those that would not save anything."""
    changed = rebuild(outputs, {o: v for loop in loops.values() for o, v in loop.outputs.items()})
    given = [changed.get(v, v) for v in outputs]
    fused, report = find_kernels(given, [changed.get(v, v) for v in kept], cautious)
    new = rebuild(given, dict(fused))

    def final(variable):
        variable = changed.get(variable, variable)
        return new.get(variable, variable)

    remaining = {v for node in nodes_of(map(final, outputs)) for v in node.outputs}
    matrices = _matrices(given, fused) if cautious else ()
    left, reasons = report.left_alone, {}
    for node, loop in loops.items():
        rows = {changed.get(v, v) for v in loop.rows}
        if rows & remaining:
            told = [candidate.reason for candidate in left if candidate.variable in rows]
            reasons[node] = (
                told[0]
                if told
                else "what the loop makes of each row cannot be written for all at once"
            )
        elif remaining.intersection(final(v) for v in loop.arrays):
            reasons[node] = "without the loop there would be an array of three dimensions"
        elif cautious and (
            any(rows.intersection(ancestors([matrix])) for matrix in matrices)
            or remaining.intersection(final(v) for v in loop.matrices)
        ):
            reasons[node] = "the loop gets along with a row at a time"
    return reasons


def _matrices(outputs, fused):
    """What of the fused kernels is a matrix that is not only multiplied by another, or summed."""
    users = users_of(nodes_of(outputs))

    def only_multiplied(variable):
        return variable not in outputs and all(
            isinstance(user.op, (T.Dot, T.elemwise.Sum, Shape, Shape_i))
            or isinstance(user.op, T.DimShuffle)
            and only_multiplied(user.outputs[0])
            for user in users[variable]
        )

    found = []
    for root, result in fused:
        node = result.owner
        while isinstance(node.op, T.DimShuffle):
            node = node.inputs[0].owner
        if long_axes(root) > 1 and not (isinstance(node.op, RBFKernel) and only_multiplied(root)):
            found.append(root)
    return found
