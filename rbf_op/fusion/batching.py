"""Loops that make something of a kernel's rows, written for all steps at once.

Such as theano.map of the product of each row and weights: what depends on the step gets an axis
more, the first. What no rule here is for stays a loop, of the rows alone, which reading/ reads.
Between reduced_loops.py, which chooses among such loops, and reading/. May import Theano.
"""

from collections import namedtuple

import theano
import theano.tensor as T
from theano.tensor.opt import Shape, Shape_i
from theano.tensor.subtensor import Subtensor, get_idx_list

from rbf_op.fusion.building import like
from rbf_op.fusion.candidates import carriers
from rbf_op.fusion.lengths import Sizes
from rbf_op.fusion.matching import NoMatch
from rbf_op.fusion.reading.frames import count_of
from rbf_op.fusion.reading.loops import (
    added_to,
    begun_with,
    loop_outputs,
    loop_states,
    runs_all_steps,
)
from rbf_op.fusion.values import Values, index_constant, long_axes, nodes_of
from rbf_op.theano_api import Constant, ancestors, clone

# What an inner variable of a loop is outside: of all steps along the first axis, or of any.
Value = namedtuple("Value", "variable by_step")

# outputs: {output of a loop: the same, written without it}; rows: the kernels' rows in that,
# arrays: what has three axes or more, and matrices: others, of another size than what the loop
# takes or gives for each step.
Batched = namedtuple("Batched", "outputs rows arrays matrices")


def batch(node, used, totals):
    """The Batched of a loop, a Scan node, of whose outputs those in a set are used.

    totals: {last state: all states}, of those of which nothing else is used. None where nothing is
    made of a kernel's rows, or nothing but a matrix. Raises NoMatch where something is, and cannot
    be written at once.
    """
    op, steps = node.op, loop_outputs(node)
    states = loop_states(node, op.inputs, op.outputs)
    added = {last: added_to(*states[of_all]) or [] for last, of_all in totals.items()}
    results = {v: step for v, step in steps.items() if v in used}
    terms = [term for terms in added.values() for _, term in terms]
    inner = nodes_of([*results.values(), *terms])
    rows, made = _rows_and_made(inner, op.inner_seqs(op.inputs))
    if not (made.intersection(results.values()) or (made | rows).intersection(terms)):
        return None
    others = used.intersection(node.outputs).difference(results, totals.values())
    if others or not all(added.values()):
        raise NoMatch("the loop that computes it is also needed for something else")
    loop = _Loop(node, inner, rows)
    if not all(runs_all_steps(loop, node, v) for v in (None, *results)):
        raise NoMatch("the loop may not run over the whole of its sequences")
    outputs = {v: loop.output(v, step) for v, step in results.items()}
    for last, terms in added.items():
        outputs[last] = loop.total(last, totals[last], terms)
    of_rows = {loop.outside[v].variable for v in rows if v in loop.outside}
    arrays = {v for v, _ in loop.outside.values() if long_axes(v) > 2}
    matrices = loop.matrices_but_for([outputs[v] for v in results]).difference(of_rows)
    return Batched(outputs, of_rows, arrays, matrices)


def _rows_and_made(nodes, sequences):
    """(what may be a kernel's row, what is made of such) of the nodes of a step, inputs first."""
    carrying = set().union(*carriers(nodes))
    by_step, rows, made = set(sequences), set(), set()
    for node in nodes:
        if not by_step.intersection(node.inputs):
            continue
        by_step.update(node.outputs)
        found = {v for v in carrying.intersection(node.outputs) if long_axes(v) == 1}
        if made.intersection(node.inputs) or not found and rows.intersection(node.inputs):
            made.update(node.outputs)
        else:
            rows.update(found)
    return rows, made


class _Loop:
    """What the inner variables of a loop are outside of it, as far as that can be said."""

    def __init__(self, node, inner, rows):
        op = node.op
        self.steps = node.inputs[0]
        self.values = Values()
        self.sizes = Sizes(self.values)
        sequences = zip(op.inner_seqs(op.inputs), op.outer_seqs(node.inputs))
        others = zip(op.inner_non_seqs(op.inputs), op.outer_non_seqs(node.inputs))
        self.outside = {v: Value(outer, True) for v, outer in sequences}
        self.outside.update((v, Value(outer, False)) for v, outer in others)
        self._given = dict(self.outside)
        for inner_node in inner:
            found = self._at_once(inner_node)
            if found is None and inner_node.outputs[0] in rows:
                found = self._loop_of(inner_node.outputs[0])
            for v, value in zip(inner_node.outputs, found or ()):
                self.outside[v] = value

    def output(self, root, step):
        """An output of the loop without it, given the inner variable for a step."""
        return like(root, self._of_all_steps(step))

    def total(self, root, states, terms):
        """The last of a loop's states, given what each step adds to them, [(1 or -1, variable)]."""
        begun = begun_with(states)
        if begun is None:
            raise NoMatch("the loop that computes it is also needed for something else")
        total = begun[0]
        for sign, term in terms:
            added, by_step = self._found(term)
            if by_step:
                added = T.sum(added, axis=0, dtype=root.dtype)
            else:
                added = T.cast(self.steps, root.dtype) * added
            total = total + added if sign == 1 else total - added
        return like(root, total)

    def matrices_but_for(self, outputs):
        """The matrices of all steps, but for those as large as a sequence or one of outputs."""
        usual = [v for v, by_step in self._given.values() if by_step] + outputs
        usual = [self._entries_of_step(v) for v in usual]
        return {
            v
            for v, by_step in self.outside.values()
            if by_step and long_axes(v) > 1
            if not any(self.sizes.equal(self._entries_of_step(v), size) for size in usual)
        }

    def _entries_of_step(self, variable):
        return self.sizes.product(
            [self.sizes.dimension(variable, axis) for axis in range(1, variable.ndim)]
        )

    def _of_all_steps(self, step):
        variable, by_step = self._found(step)
        return variable if by_step else self.repeated(variable)

    def _found(self, step):
        value = self._value(step)
        if value is None:
            raise NoMatch("what the loop makes of each row cannot be written for all at once")
        return value

    def _value(self, variable):
        if isinstance(variable, Constant) and variable not in self.outside:
            # Another: a FunctionGraph takes none of those that Theano keeps for several graphs.
            self.outside[variable] = Value(variable.clone(), False)
        return self.outside.get(variable)

    def repeated(self, variable):
        """What is the same in each step, along an axis of steps."""
        return T.alloc(variable, self.steps, *[variable.shape[a] for a in range(variable.ndim)])

    def _at_once(self, node):
        """The Values of a node's outputs; None where an input has none, or no rule fits."""
        operands = [self._value(v) for v in node.inputs]
        if None in operands:
            return None
        if not any(operand.by_step for operand in operands):
            same = node.clone_with_new_inputs([operand.variable for operand in operands])
            return [Value(v, False) for v in same.outputs]
        for classes, rule in _RULES:
            if isinstance(node.op, classes):
                found = rule(self, node, operands)
                return found and [_typed(v, value) for v, value in zip(node.outputs, found)]
        return None

    def _loop_of(self, row):
        """[Value] of a row by a loop over it alone, None if a step takes it from those before."""
        needed = [v for v in ancestors([row]) if v.owner is None and not isinstance(v, Constant)]
        if not all(v in self._given for v in needed):
            return None
        by_step = [v for v in needed if self._given[v].by_step]
        others = [v for v in needed if not self._given[v].by_step]
        rows, _ = theano.scan(
            lambda *given: clone(row, replace=dict(zip(by_step + others, given))),
            sequences=[self._given[v].variable for v in by_step],
            non_sequences=[self._given[v].variable for v in others],
            n_steps=self.steps,
            strict=True,
        )
        return [Value(rows, True)]


def _typed(inner, value):
    """A Value with the axes of length one that an inner variable has."""
    if not (value.by_step and isinstance(inner.type, T.TensorType)):
        return value
    variable, _ = value
    wanted = variable.broadcastable[:1] + inner.broadcastable
    if variable.broadcastable != wanted:
        variable = T.patternbroadcast(variable, wanted)
    return Value(variable, True)


# Rules: the Values that a node computes of others, of which one or more differ from step to step;
# None where it is not known how.


def _elemwise(loop, node, operands):
    axes = range(node.outputs[0].ndim)
    inputs = [v if by_step else v.dimshuffle("x", *axes) for v, by_step in operands]
    return [Value(v, True) for v in node.op(*inputs, return_list=True)]


def _dimshuffle(loop, node, operands):
    order = [axis if axis == "x" else axis + 1 for axis in node.op.new_order]
    return [Value(operands[0].variable.dimshuffle(0, *order), True)]


def _reduce(loop, node, operands):
    op, ((variable, _),) = node.op, operands
    axes = [a + 1 for a in (range(variable.ndim - 1) if op.axis is None else op.axis)]
    if not axes:
        return None
    if isinstance(op, T.MaxAndArgmax):
        return [Value(v, True) for v in T.max_and_argmax(variable, axes)]
    function = T.sum if isinstance(op, T.elemwise.Sum) else T.prod
    return [Value(function(variable, axes, dtype=op.dtype, acc_dtype=op.acc_dtype), True)]


def _dot(loop, node, operands):
    (first, first_by_step), (second, second_by_step) = operands
    order = list(range(node.outputs[0].ndim + 1))
    # A matrix of one row before a product, or of one column after, as a vector.
    if first_by_step and first.broadcastable[1:-1] == (True,):
        first, order[1] = first.dimshuffle(0, 2), "x"
    if second_by_step and second.broadcastable[2:] == (True,):
        second, order[-1] = second.dimshuffle(0, 1), "x"
    if first_by_step and first.ndim != 2 or second_by_step and second.ndim != 2:
        return None
    if first_by_step and second_by_step:
        found = T.sum(first * second, axis=1, dtype=node.outputs[0].dtype)
    elif first_by_step:
        found = T.dot(first, second)
    else:
        found = T.dot(second, first.T)
    places = iter(range(found.ndim))
    return [Value(found.dimshuffle(*[o if o == "x" else next(places) for o in order]), True)]


def _subtensor(loop, node, operands):
    (source, by_step), indices = operands[0], [operand.variable for operand in operands[1:]]
    if by_step and not any(operand.by_step for operand in operands[1:]):
        entries = get_idx_list([source] + indices, node.op.idx_list)
        return [Value(source[(slice(None),) + entries], True)]
    # Row i in step i.
    if by_step or len(indices) != 1 or isinstance(node.op.idx_list[0], slice):
        return None
    count, sizes = count_of(indices[0]), loop.sizes
    rows = sizes.dimension(source, 0)
    if count is None or not sizes.equal(sizes.of_scalar(count), rows):
        return None
    if not sizes.equal(sizes.of_scalar(loop.steps), rows):
        source = source[: loop.steps]  # the indices are cut, or another sequence is shorter
    return [Value(source, True)]


def _scalar_of_tensor(loop, node, operands):
    return list(operands)  # an index


def _shape(loop, node, operands):
    lengths = T.shape(operands[0].variable)
    return [Value(lengths[node.op.i + 1] if isinstance(node.op, Shape_i) else lengths[1:], False)]


def _reshape(loop, node, operands):
    (variable, _), (lengths, by_step) = operands
    if by_step:
        return None
    lengths = T.join(0, variable.shape[:1], lengths)
    return [Value(variable.reshape(lengths, ndim=node.outputs[0].ndim + 1), True)]


def _join(loop, node, operands):
    axis = index_constant(operands[0].variable)
    if axis is None:
        return None
    parts = [v if by_step else loop.repeated(v) for v, by_step in operands[1:]]
    return [Value(T.join(axis % node.outputs[0].ndim + 1, *parts), True)]


_RULES = [
    (T.Elemwise, _elemwise),
    (T.DimShuffle, _dimshuffle),
    ((T.elemwise.Sum, T.elemwise.Prod, T.MaxAndArgmax), _reduce),
    (T.Dot, _dot),
    (Subtensor, _subtensor),
    (T.ScalarFromTensor, _scalar_of_tensor),
    ((Shape, Shape_i), _shape),
    (T.Reshape, _reshape),
    (T.Join, _join),
]
