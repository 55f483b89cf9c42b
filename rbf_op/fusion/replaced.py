"""Exponents of which some entries were replaced, as where no row counts itself: the kernel is that
of what was there before, and its entries are replaced.

exp(f(switch(mask, e, other))) is switch(mask, exp(f(e)), exp(f(other))), f entry by entry. Between
candidates.py and roots.py. May import Theano.
"""

import itertools

import numpy as np
import theano.scalar as scalar_ops
import theano.tensor as T
from theano.tensor.extra_ops import FillDiagonal
from theano.tensor.subtensor import AdvancedIncSubtensor, AdvancedIncSubtensor1, IncSubtensor

from rbf_op.fusion.building import like
from rbf_op.fusion.matching import NoMatch
from rbf_op.fusion.reading import Unreadable
from rbf_op.fusion.roots import read_kernel
from rbf_op.fusion.values import is_elemwise, long_axes, scalar_constant

# What is not finite if an operand is not.
_INFINITE = (
    scalar_ops.Mul,
    scalar_ops.Neg,
    scalar_ops.Add,
    scalar_ops.Sub,
    scalar_ops.Sqr,
    scalar_ops.Identity,
    scalar_ops.Cast,
)

# Ways down to what was there before, where several lead on; variables on one, and on all.
_MOST_WAYS = 4
_LONGEST_WAY = 100
_MOST_STEPS = 1000


def read_replaced(graph, root, closed=()):
    """The Kernel that a variable is, as read_kernel, or that it is but for some entries."""
    try:
        return read_kernel(graph, root, closed)
    except (NoMatch, Unreadable) as as_it_is:
        error = as_it_is
    for way in itertools.islice(_ways(root, closed), _MOST_WAYS):
        graph.forget_lengths()
        *through, (base, _) = way
        try:
            kernel = read_kernel(graph, _again(_by_entries(through), base), closed)
            return _with_replaced(root, kernel, way)
        except (NoMatch, Unreadable) as its_error:
            error = its_error
    raise error


def _ways(root, closed):
    """Ways from a root down: [(variable, the place among its inputs that was there before, or None
    where it is computed entry by entry)], the last one neither. They end at inputs and at a second
    exponential, below which no squared distance lies."""
    stack = [[(root, None)]]
    for _ in range(_MOST_STEPS):
        if not stack:
            return
        way = stack.pop()
        variable = way[-1][0]
        node = None if variable in closed else variable.owner
        places = _places(node) if node is not None and len(way) > 1 else ()
        if len(way) > _LONGEST_WAY:
            continue
        for place in reversed(places):
            value = node.inputs[place]
            if long_axes(value) == long_axes(variable) and value.dtype == variable.dtype:
                stack.append(way[:-1] + [(variable, place), (value, None)])
        if node is None or places:
            continue
        following = _single(node, 1)
        if following is None:
            if any(place is not None for _, place in way):
                yield way
        elif not (
            is_elemwise(node, scalar_ops.Exp)
            and any(is_elemwise(v.owner, scalar_ops.Exp) for v, _ in way[:-1])
        ):
            stack.append(way + [(following, None)])


def _by_entries(way):
    """The variables on a way that are computed entry by entry."""
    return [variable for variable, place in way if place is None]


def _with_replaced(root, kernel, way):
    """The Kernel of a root, given that of what was there before at the end of a way down."""
    result, looked_through, stays = kernel.result, {v for v, _ in way[:-1]}, set()
    for number, (variable, place) in reversed(list(enumerate(way[:-1]))):
        stays.update(variable.owner.inputs)
        if place is not None:
            result = _replaced(variable, place, _by_entries(way[:number]), result)
    return kernel._replace(
        root=root,
        result=like(root, result),
        opened=kernel.opened | looked_through,
        passed=kernel.passed | looked_through,
        candidate=kernel.candidate._replace(variable=root),
        stays=tuple(stays - looked_through - {way[-1][0]}),
    )


def _replaced(variable, place, above, result):
    """The result for what was in a place, with the entries that are others in a variable."""
    node = variable.owner
    inputs = list(node.inputs)
    other = sum(_places(node)) - place
    value = T.cast(inputs[other], variable.dtype)
    inputs[place], inputs[other] = result, _again(above, value)
    if isinstance(node.op, T.Elemwise) or all(_single(v.owner, 0) is not None for v in above):
        return node.op(*inputs)
    # What follows has its own numbers for each row.
    if long_axes(value):
        raise NoMatch("entries of its exponent are replaced before a width or factor is applied")
    zeros = T.zeros_like(result, dtype="int8")
    mask = node.op(zeros, T.constant(1, dtype="int8"), *inputs[2:])
    return T.switch(mask, inputs[other], result)


def _places(node):
    """The inputs of which a node's result is put together; none if it is not."""
    if is_elemwise(node, scalar_ops.Switch):
        return 1, 2
    if isinstance(node.op, FillDiagonal):
        return 0, 1
    if isinstance(node.op, IncSubtensor):
        return (0, 1) if node.op.set_instead_of_inc else ()
    # Where an index occurs twice, one value is not seen; and Theano's gradient is another.
    several = isinstance(node.op, (AdvancedIncSubtensor, AdvancedIncSubtensor1))
    whole = several and node.op.set_instead_of_inc and not long_axes(node.inputs[1])
    return (0, 1) if whole else ()


def _single(node, others):
    """The input that has all axes of an Elemwise's result, more than one, if the others have at
    most `others` that are longer than one; else None."""
    if not isinstance(node.op, T.Elemwise):
        return None
    found = [v for v in node.inputs if long_axes(v) > others]
    alone = len(found) == 1 and long_axes(found[0]) == long_axes(node.outputs[0]) > 1
    return found[0] if alone else None


def _again(above, value):
    """What above[0] would be if what above[-1] is computed from were another value."""
    constant = scalar_constant(value)
    infinite = constant is not None and np.isinf(constant)
    for variable in reversed(above):
        node = variable.owner
        matrix = _single(node, 1)
        if infinite and is_elemwise(node, scalar_ops.Exp):
            value = _exp_of_infinite(value)
            continue
        divided = is_elemwise(node, scalar_ops.TrueDiv) and node.inputs[0] is matrix
        infinite = infinite and (divided or is_elemwise(node, *_INFINITE))
        # Numbers as such: what takes the place of entries has fewer axes.
        inputs = (v if long_axes(v) else v.dimshuffle() for v in node.inputs)
        value = node.op(*(value if v is matrix else v for v in inputs))
    return value


def _exp_of_infinite(value):
    """exp of what is never finite, looked up: its derivative would be 0 times inf."""
    exponentials = T.constant(np.array([0, np.inf, np.nan], value.dtype))
    found = exponentials[T.switch(value < 0, 0, T.switch(value > 0, 1, 2))]
    return T.patternbroadcast(found, value.broadcastable)
