"""Kernels that a loop computes in its steps as a matrix: the node in the step, or in front of the
loop where it is the same in each.

After search.py, for the loops that are left; fuse.py and optimizer.py call it. May import Theano.
"""

from rbf_op.fusion.reduced_loops import batch_loops
from rbf_op.fusion.search import find_kernels
from rbf_op.fusion.values import nodes_of, with_replaced
from rbf_op.ops.base import ForwardOp
from rbf_op.theano_api import Constant, Scan, clone_graph, trace_to


def fuse_steps(outputs, left_alone=(), cautious=False):
    """({output of a loop: the same, with the kernels in its steps fused}, [Candidate]).

    A kernel that no step changes is computed in front of the loop, once, and so is its gradient. Of
    loops that are `left_alone`, candidates themselves, those count that are fused.
    """
    loops = {candidate.variable.owner for candidate in left_alone}
    replacements, candidates, known = {}, [], set()
    for node in nodes_of(outputs):
        known.add(node)
        if not isinstance(node.op, Scan):
            continue
        fused, found = _fused(node.op.outputs, cautious)
        candidates += [c for c in found if c.fused or node not in loops]
        if fused is None:
            continue
        constant = dict(
            zip(node.op.inner_non_seqs(node.op.inputs), node.op.outer_non_seqs(node.inputs))
        )
        # Of a truncated gradient's own derivative those in the steps count as often as they do.
        whole = node.op.truncate_gradient == -1
        alike = _alike_in_all_steps(fused, constant) if whole else []
        before = with_replaced(alike, constant)
        names = {v: _named(v) for v in alike}
        fused = with_replaced(fused, names)
        # Inner variables are those of one Op.
        inputs, steps = clone_graph(node.op.inputs + list(names.values()), fused)
        new = Scan(inputs, steps, node.op.info)(*node.inputs, *before, return_list=True)
        for old, its_new in zip(node.outputs, new):
            its_new.name = old.name
            trace_to(old, its_new, known)
            replacements[old] = its_new
    return replacements, candidates


def _fused(steps, cautious):
    """(the results of a step with the kernels in them fused, or None; [Candidate])."""
    without_loops, left_alone = batch_loops(steps, cautious=cautious)
    steps = with_replaced(steps, without_loops)
    kernels, report = find_kernels(steps, cautious=cautious)
    steps = with_replaced(steps, dict(kernels))
    within, candidates = fuse_steps(steps, left_alone, cautious)
    changed = without_loops or kernels or within
    return with_replaced(steps, within) if changed else None, [*report, *left_alone, *candidates]


def _named(variable):
    """An input for what a variable has in each step."""
    new = variable.type()
    if hasattr(variable.tag, "test_value"):
        new.tag.test_value = variable.tag.test_value
    return new


def _alike_in_all_steps(steps, constant):
    """The nodes' results in a step that are computed of `constant` inputs alone, not within one
    another."""
    alike, found = set(constant), []
    for node in nodes_of(steps):
        if all(v in alike or isinstance(v, Constant) for v in node.inputs):
            alike.update(node.outputs)
    stack, seen = list(steps), set()
    while stack:
        variable = stack.pop()
        if variable in seen or variable.owner is None:
            continue
        seen.add(variable)
        if variable in alike and isinstance(variable.owner.op, ForwardOp):
            found.append(variable)
        else:
            stack.extend(variable.owner.inputs)
    return found
