"""Loops as they are read: what the inner variables of one step are outside of it.

May import Theano.
"""

import theano.tensor as T
from theano.tensor.subtensor import Subtensor

from rbf_op.fusion.values import index_constant, scalar_constant, subtensor_indices
from rbf_op.theano_api import Constant, clone


class Frame:
    """One step of a loop: what its inner variables are outside, at the step numbered `step`.

    results are the inner variables of what a loop stacks up, by the variable outside; states are
    those (before the step, after it) of what it changes from step to step.
    """

    def __init__(self, sequences, others, results, states, step, parent):
        self.sequences = sequences
        self.others = others
        self.results = results
        self.states = states
        self.step = step
        self.parent = parent
        self._dependence = {}

    def dependence(self, variable):
        """The steps (symbols) of this loop and those around it that a variable depends on."""
        known = self._dependence.get(variable)
        if known is None:
            if variable in self.sequences:
                known = {self.step} | self._outside(self.sequences[variable])
            elif variable in self.others:
                known = self._outside(self.others[variable])
            elif variable.owner is None:
                known = set()
            else:
                known = set().union(*(self.dependence(v) for v in variable.owner.inputs))
            self._dependence[variable] = known
        return known

    def _outside(self, variable):
        return set() if self.parent is None else self.parent.dependence(variable)


def outside(variable, frame):
    """An inner variable of a loop that no step changes, computed outside; None if steps do."""
    if frame is None:
        return variable
    if isinstance(variable, Constant):
        return variable
    if frame.dependence(variable):
        return None
    replaced, stack, seen = {}, [variable], set()
    while stack:
        current = stack.pop()
        if current in seen:
            continue
        seen.add(current)
        if current in frame.others:
            replaced[current] = outside(frame.others[current], frame.parent)
            if replaced[current] is None:
                return None
        elif current in frame.sequences:
            return None
        elif current.owner is not None:
            stack.extend(current.owner.inputs)
        elif not isinstance(current, Constant):
            return None
    if variable in replaced:
        return replaced[variable]
    return clone(variable, replace=replaced, strict=False) if replaced else variable


def count_of(positions):
    """n if a variable is arange(n), else None."""
    node = positions.owner
    while node is not None and isinstance(node.op, Subtensor):
        entries = subtensor_indices(node)
        if len(entries) != 1 or not isinstance(entries[0], slice):
            return None
        (entry,) = entries
        start = 0 if entry.start is None else index_constant(entry.start)
        step = 1 if entry.step is None else index_constant(entry.step)
        if start != 0 or step != 1:
            return None
        positions = node.inputs[0]
        node = positions.owner
    if node is None or not isinstance(node.op, T.ARange):
        return None
    start, stop, step = node.inputs
    return stop if (scalar_constant(start), scalar_constant(step)) == (0, 1) else None
