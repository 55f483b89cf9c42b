"""Variables and nodes of a graph: which are equal, which are constants, what is replaced by what.

Values numbers variables so that two that are computed alike get one number. May import Theano.
"""

import numpy as np
import theano.scalar as scalar_ops
import theano.tensor as T
from theano.tensor.subtensor import get_idx_list

from rbf_op.theano_api import Constant


def nodes_of(outputs):
    """The nodes that outputs are computed by, inputs before what is computed from them."""
    order, done, stack = [], set(), [v.owner for v in outputs if v.owner is not None]
    while stack:
        node = stack[-1]
        if node in done:
            stack.pop()
            continue
        waiting = [v.owner for v in node.inputs if v.owner is not None and v.owner not in done]
        if waiting:
            stack.extend(waiting)
        else:
            stack.pop()
            done.add(node)
            order.append(node)
    return order


def users_of(nodes):
    """{variable: the nodes that it is an input of}."""
    users = {}
    for node in nodes:
        for v in node.inputs:
            users.setdefault(v, []).append(node)
    return users


def long_axes(variable):
    """How many axes a variable has that may be longer than one."""
    return getattr(variable, "broadcastable", ()).count(False)


def rebuild(outputs, replacements):
    """{original: new} for all that changes when variables are replaced, replacements included."""
    new, changed = {}, {}
    stack = list(outputs)
    while stack:
        variable = stack[-1]
        if variable in new:
            stack.pop()
            continue
        if variable in replacements:
            target = replacements[variable]
            if target not in new:
                stack.append(target)
                continue
            stack.pop()
            new[variable] = new[target]
            changed[variable] = new[variable]
            continue
        node = variable.owner
        if node is None:
            stack.pop()
            new[variable] = variable
            continue
        waiting = [v for v in node.inputs if v not in new]
        if waiting:
            stack.extend(waiting)
            continue
        stack.pop()
        inputs = [new[v] for v in node.inputs]
        if all(a is b for a, b in zip(inputs, node.inputs)):
            for v in node.outputs:
                if v not in replacements:
                    new[v] = v
            continue
        clone = node.clone_with_new_inputs(inputs)
        for old, copy in zip(node.outputs, clone.outputs):
            if old not in replacements:
                new[old] = changed[old] = copy
    return changed


def with_replaced(variables, replacements):
    """Variables, in a list, with others replaced in what they are computed from."""
    new = rebuild(variables, replacements) if replacements else {}
    return [new.get(v, v) for v in variables]


class Values:
    """Numbers variables: the same number for the same Op applied to the same inputs.

    `kept` variables are equal to themselves only, so that they stay apart.
    """

    def __init__(self, kept=()):
        self._kept = kept
        self._number_of = {}
        self._number_of_content = {}
        self.variables = {}

    def key(self, variable):
        found = self._number_of.get(variable)
        if found is not None:
            return found
        stack = [variable]
        while stack:
            current = stack[-1]
            if current in self._number_of:
                stack.pop()
                continue
            waiting = (
                [v for v in current.owner.inputs if v not in self._number_of]
                if current.owner is not None
                else []
            )
            if waiting:
                stack.extend(waiting)
                continue
            stack.pop()
            self._number_of[current] = self._content_number(current)
        return self._number_of[variable]

    def _content_number(self, variable):
        owner = variable.owner
        if owner is not None and variable not in self._kept:
            content = (
                "computed",
                owner.op,
                tuple(self._number_of[v] for v in owner.inputs),
                owner.outputs.index(variable),
                variable.type,
            )
        elif isinstance(variable, Constant):
            content = ("constant", variable.signature())
        else:
            content = ("input", variable)
        try:
            number = self._number_of_content.setdefault(content, len(self.variables))
        except TypeError:  # an Op or a constant without a hash: equal to itself only
            number = len(self.variables)
        self.variables.setdefault(number, variable)
        return number


def scalar_constant(variable, depth=0):
    """The Python number that a (broadcast) constant is, or None.

    What is computed of constants is rounded as Theano would: sqrt(2.) is a float32.
    """
    while not isinstance(variable, Constant):
        owner = variable.owner
        if owner is None:
            return None
        if isinstance(owner.op, (T.DimShuffle, T.ScalarFromTensor, T.TensorFromScalar)):
            variable = owner.inputs[0]
        elif is_elemwise(owner, scalar_ops.Cast):
            value = scalar_constant(owner.inputs[0], depth)
            return None if value is None else np.dtype(variable.dtype).type(value).item()
        elif is_elemwise(owner, scalar_ops.Second):
            variable = owner.inputs[1]
        elif is_elemwise(owner, scalar_ops.Neg):
            value = scalar_constant(owner.inputs[0], depth)
            return None if value is None or variable.dtype.startswith("uint") else -value
        elif isinstance(owner.op, T.Alloc):
            variable = owner.inputs[0]
        elif is_elemwise(owner, _COMPUTED) and depth < 4:
            return _computed_constant(owner, depth + 1)
        else:
            return None
    data = variable.data
    if isinstance(data, (int, float, np.generic)):
        data = np.asarray(data)
    if not isinstance(data, np.ndarray) or data.size != 1 or data.dtype.kind not in "fiub":
        return None
    return data.reshape(()).item()


_COMPUTED = (
    scalar_ops.Add,
    scalar_ops.Sub,
    scalar_ops.Mul,
    scalar_ops.TrueDiv,
    scalar_ops.Inv,
    scalar_ops.Pow,
    scalar_ops.Sqr,
    scalar_ops.Sqrt,
    scalar_ops.Exp,
    scalar_ops.Log,
)


def _computed_constant(node, depth):
    values = []
    for v in node.inputs:
        value = scalar_constant(v, depth)
        if value is None:
            return None
        values.append(np.asarray(value, v.dtype)[()])
    with np.errstate(all="ignore"):
        try:
            value = node.op.scalar_op.impl(*values)
        except (ArithmeticError, ValueError):
            return None
    return np.asarray(value, node.outputs[0].dtype).item()


def is_elemwise(node, *classes):
    """Whether a node (or None) applies one of some scalar Ops, given one by one or as tuples, to
    entries."""
    op = getattr(node, "op", None)
    return isinstance(op, T.Elemwise) and isinstance(op.scalar_op, classes)


def subtensor_indices(node):
    """The index list of a Subtensor node, its symbolic parts filled in."""
    return get_idx_list(node.inputs, node.op.idx_list)


def index_constant(value):
    if isinstance(value, (int, np.integer)):
        return int(value)
    constant = scalar_constant(value) if hasattr(value, "owner") else None
    return int(constant) if constant is not None and float(constant).is_integer() else None


def all_entries(node):
    """The index list of a Subtensor node with the axes that it leaves whole spelled out."""
    entries = list(subtensor_indices(node))
    return entries + [slice(None)] * (node.inputs[0].ndim - len(entries))
