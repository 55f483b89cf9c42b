"""Exponents of which some entries were replaced, as where no row counts itself: the kernel is that
of what was there before, and its entries are replaced.

exp(f(switch(mask, e, other))) is switch(mask, exp(f(e)), exp(f(other))), f entry by entry. Between
candidates.py and roots.py. May import Theano.
"""

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

# What is not finite if its operand is not.
_INFINITE = (
    scalar_ops.Mul,
    scalar_ops.TrueDiv,
    scalar_ops.Neg,
    scalar_ops.Add,
    scalar_ops.Sub,
    scalar_ops.Sqr,
    scalar_ops.Identity,
    scalar_ops.Cast,
)


def has_replaced(root):
    """Whether entries of an exponent are replaced below a root."""
    return _path_to_replaced(root, ()) is not None


def read_replaced(graph, root, closed=()):
    """The Kernel that a variable is, as read_kernel, or that it is but for some entries."""
    try:
        return read_kernel(graph, root, closed)
    except (NoMatch, Unreadable) as as_it_is:
        path, error = _path_to_replaced(root, closed), as_it_is
        if path is None:
            raise
    variable = path.pop()
    node = variable.owner
    # Where entries at an index are replaced, and what follows has its own numbers for each row.
    masked = not isinstance(node.op, T.Elemwise) and any(_single(v.owner, 0) is None for v in path)
    if masked and long_axes(node.inputs[1]):
        raise NoMatch("entries of its exponent are replaced before a width or factor is applied")
    inputs, kernels = list(node.inputs), []
    stays = {v for w in path for v in w.owner.inputs} - {variable, *path}
    stays.update(inputs)
    for place in _places(node):
        value = node.inputs[place]
        inputs[place] = _again(path, T.cast(value, variable.dtype))
        if long_axes(value) == long_axes(variable) and value.dtype == variable.dtype:
            graph.forget_lengths()
            try:
                kernels.append(read_replaced(graph, inputs[place], closed))
            except (NoMatch, Unreadable) as its_error:
                error = its_error
            else:
                inputs[place] = kernels[-1].result
                stays.discard(value)
    if not kernels:
        raise error
    if masked:
        zeros = T.zeros_like(inputs[0], dtype="int8")
        mask = node.op(zeros, T.constant(1, dtype="int8"), *inputs[2:])
        result = T.switch(mask, inputs[1], inputs[0])
    else:
        result = node.op(*inputs)
    looked_through = {variable, *path}
    return kernels[0]._replace(
        root=root,
        result=like(root, result),
        opened=looked_through.union(*(k.opened for k in kernels)),
        passed=looked_through.union(*(k.passed for k in kernels)),
        candidate=kernels[0].candidate._replace(variable=root),
        stays=tuple(stays),
    )


def _path_to_replaced(root, closed):
    """[root, ..., what has replaced entries], each made entry by entry from the next; or None."""
    path = [root]
    while path[-1].owner is not None and path[-1] not in closed:
        node = path[-1].owner
        if len(path) > 1 and _places(node):
            return path
        following = _single(node, 1)
        if following is None:
            return None
        path.append(following)
    return None


def _places(node):
    """The inputs of which a node's result is put together; none if it is not."""
    if is_elemwise(node, scalar_ops.Switch):
        return 1, 2
    if isinstance(node.op, FillDiagonal):
        return 0, 1
    replaces = isinstance(node.op, (IncSubtensor, AdvancedIncSubtensor, AdvancedIncSubtensor1))
    return (0, 1) if replaces and node.op.set_instead_of_inc else ()


def _single(node, others):
    """The input that has all axes of an Elemwise's result, more than one, if the others have at
    most `others` that are longer than one; else None."""
    if not isinstance(node.op, T.Elemwise):
        return None
    found = [v for v in node.inputs if long_axes(v) > others]
    alone = len(found) == 1 and long_axes(found[0]) == long_axes(node.outputs[0]) > 1
    return found[0] if alone else None


def _again(path, value):
    """What path[0] would be if what path[-1] is computed from were another value."""
    constant = scalar_constant(value)
    infinite = constant is not None and np.isinf(constant)
    for variable in reversed(path):
        node = variable.owner
        if infinite and is_elemwise(node, scalar_ops.Exp):
            value = _exp_of_infinite(value)
            continue
        infinite = infinite and is_elemwise(node, *_INFINITE)
        matrix = _single(node, 1)
        # Numbers as such: what takes the place of entries has fewer axes.
        inputs = (v if long_axes(v) else v.dimshuffle() for v in node.inputs)
        value = node.op(*(value if v is matrix else v for v in inputs))
    return value


def _exp_of_infinite(value):
    """exp of what is never finite, looked up: its derivative would be 0 times inf."""
    exponentials = T.constant(np.array([0, np.inf, np.nan], value.dtype))
    found = exponentials[T.switch(value < 0, 0, T.switch(value > 0, 1, 2))]
    return T.patternbroadcast(found, value.broadcastable)
