"""The candidates in a graph: what may be a kernel, or be made of kernels, and how to read it.

Between search.py, which chooses among them, and roots.py, replaced.py and mixtures.py. May import
Theano.
"""

import functools
from collections import namedtuple

import theano.scalar as scalar_ops
import theano.tensor as T
from theano.tensor.opt import MakeVector
from theano.tensor.subtensor import IncSubtensor, Subtensor

from rbf_op.fusion.mixtures import read_mixture, sums_of_kernels
from rbf_op.fusion.reading.loops import last_state, loop_outputs, set_in_state
from rbf_op.fusion.reading.reader import widens
from rbf_op.fusion.replaced import read_replaced
from rbf_op.fusion.roots import (
    read_softmax,
    read_sum,
    read_total,
    read_widths,
    softmax_product,
)
from rbf_op.fusion.values import is_elemwise, long_axes, nodes_of, scalar_constant, users_of
from rbf_op.theano_api import Scan

FACTOR_OPS = (
    scalar_ops.Mul,
    scalar_ops.TrueDiv,
    scalar_ops.Neg,
    scalar_ops.Inv,
    scalar_ops.Sqr,
    scalar_ops.Sqrt,
    scalar_ops.Pow,
    scalar_ops.Cast,
    scalar_ops.Identity,
    scalar_ops.Second,
)

# A batch of batches of matrices.
_MOST_AXES = 4

# variables: all candidates, results first; readers: {variable: read(graph, variable, closed)};
# roots: those that are kernels by themselves; matrices: these, and softmaxes of distances; sums:
# those that are sums of kernels, of which a report has the terms; reasons: {variable: why it is
# left alone} where that is known.
Candidates = namedtuple("Candidates", "variables readers roots matrices sums reasons")


def find_candidates(nodes, outputs):
    """The Candidates among the variables that some nodes compute."""
    carrying, _ = carriers(nodes)
    softmaxes = {node.outputs[0] for node in nodes if _multiplies_softmax(node)}
    if not carrying and not softmaxes:
        return Candidates([], {}, set(), set(), set(), {})
    users = users_of(nodes)
    filled = {  # those that are filled step by step
        node.inputs[0]
        for node in nodes
        if isinstance(node.op, IncSubtensor)
        and isinstance(getattr(node.inputs[0].owner, "op", None), IncSubtensor)
    }
    stable = _stable_in_logarithms(nodes, users, outputs)
    matrices = {v for v in carrying if v not in filled and _is_root(v)}
    roots = matrices - stable
    mixtures = sums_of_kernels(nodes, roots)
    widths = _sums_over_an_axis(nodes, carrying) - stable
    readers = dict.fromkeys(roots, read_replaced)
    readers.update(dict.fromkeys(widths, read_widths))
    for read, logarithms in (
        (read_total, _logarithms_of_totals(nodes, users, carrying)),
        (read_sum, _sums_of_rows(nodes, users, carrying)),
    ):
        for root, logarithm in logarithms.items():
            readers[root] = functools.partial(read, logarithm=logarithm)
    readers.update(dict.fromkeys(mixtures, read_mixture))
    readers.update(dict.fromkeys(softmaxes, read_softmax))
    reasons = {}
    for root in matrices & stable:
        reasons[root] = "the logarithm of its sum is taken, and would be infinite if it underflowed"
    variables = [
        v for node in reversed(nodes) for v in node.outputs if v in readers or v in reasons
    ]
    shares = {root.owner.inputs[0] for root in softmaxes if isinstance(root.owner.op, T.Dot)}
    return Candidates(variables, readers, roots, roots | shares, mixtures | widths, reasons)


def carriers(nodes):
    """(matrices, scalars): what is an exponential times factors, or such things moved about.

    Scalars count where matrices are put together of them, and as what a loop computes.
    """
    found, scalars = set(), set()
    for node in nodes:
        op = node.op
        output = node.outputs[0]
        if isinstance(op, T.Elemwise):
            scalar_op = op.scalar_op
            if isinstance(scalar_op, (scalar_ops.Exp, scalar_ops.Exp2)):
                # Not the part of a fused kernel that is left for weights below zero.
                carries = not hasattr(output.tag, "rbf_op_remainder")
            elif isinstance(scalar_op, scalar_ops.Pow):
                carries = _carries(node.inputs[:1], found, scalars, output) or (
                    scalar_constant(node.inputs[1]) is None
                    and scalar_constant(node.inputs[0]) is not None
                )
            else:
                carries = isinstance(scalar_op, FACTOR_OPS) and _carries(
                    node.inputs, found, scalars, output
                )
            if carries:
                (found if output.ndim else scalars).add(output)
        elif isinstance(op, T.DimShuffle):
            for carrying in (found, scalars):
                if node.inputs[0] in carrying:
                    carrying.add(output)
        elif isinstance(op, (T.Reshape, T.Alloc, T.elemwise.Prod)):
            if node.inputs[0] in found:
                found.add(output)
        elif isinstance(op, (IncSubtensor, T.Join, MakeVector)):
            if any(v in found or v in scalars for v in node.inputs):
                found.add(output)
        elif isinstance(op, Subtensor) and last_state(output) is not None:
            value = set_in_state(last_state(output))
            if value is not None and value in set().union(*carriers(nodes_of([value]))):
                found.add(output)
        elif isinstance(op, Scan):
            inner = loop_outputs(node)
            if inner:
                carrying = set().union(*carriers(nodes_of(inner.values())))
                found.update(outer for outer, step in inner.items() if step in carrying)
    return found, scalars


def _carries(inputs, found, scalars, output):
    """Whether a factor is an exponential; one of rows or columns alone is a number to a matrix."""
    axes = min(2, long_axes(output))
    return any(
        v in found and long_axes(v) >= axes or v in scalars and not output.ndim for v in inputs
    )


def _stable_in_logarithms(nodes, users, outputs):
    """Exponentials, and sums of them, of which Theano takes the logarithm without them.

    It does so for sums over axes and of two: local_log_sum_exp, local_log_add.
    """
    found = set()
    for node in nodes:
        if not is_elemwise(node, scalar_ops.Log):
            continue
        (sum_,) = node.inputs
        if sum_.owner is not None and isinstance(sum_.owner.op, T.DimShuffle):
            (sum_,) = sum_.owner.inputs
        owner = sum_.owner
        if owner is None or not (
            isinstance(owner.op, T.elemwise.Sum) or is_elemwise(owner, scalar_ops.Add)
        ):
            continue
        if len(owner.inputs) <= 2 and all(
            is_elemwise(v.owner, scalar_ops.Exp) and len(users[v]) == 1 and v not in outputs
            for v in owner.inputs
        ):
            found.update([sum_], owner.inputs)
    return found


def _sums(node, carrying, axes):
    """Whether a node sums a carrier of so many axes, with all its digits."""
    return (
        isinstance(node.op, T.elemwise.Sum)
        and node.inputs[0] in carrying
        and long_axes(node.inputs[0]) == axes
        and node.outputs[0].dtype in ("float32", "float64")
        and widens(node.inputs[0].dtype, node.outputs[0].dtype)
    )


def _logarithms_of_totals(nodes, users, carrying):
    """{root: logarithm} for logarithms of the sum of all entries of a carrier; root as in
    _sums_of_rows."""
    found = {}
    for node in nodes:
        if _sums(node, carrying, 2) and (node.inputs[0].ndim, node.outputs[0].ndim) == (2, 0):
            for user in users.get(node.outputs[0], ()):
                if is_elemwise(user, scalar_ops.Log):
                    (logarithm,) = user.outputs
                    for root in [logarithm, *_sum_above(logarithm, users)]:
                        found[root] = logarithm
    return found


def _sum_above(variable, users):
    """The sum or difference, in a list, if that alone uses a variable."""
    above = users.get(variable, ())
    alone = len(above) == 1 and is_elemwise(above[0], scalar_ops.Add, scalar_ops.Sub)
    return above[0].outputs if alone else []


def _multiplies_softmax(node):
    """Whether a node is the product of the softmax of a matrix with weights."""
    found = softmax_product(node)
    return (
        found is not None
        and found[1].dtype.startswith("float")
        and node.outputs[0].dtype in ("float32", "float64")
    )


def _sums_over_an_axis(nodes, carrying):
    """Sums of a carrier that has an axis more than a matrix, which may be one of widths."""
    return {node.outputs[0] for node in nodes if _sums(node, carrying, 3)}


def _sums_of_rows(nodes, users, carrying):
    """{root: logarithm} for logarithms of sums of a carrier's rows; root adds something, or not.

    That something may be what the exponents were shifted by.
    """
    found = {}
    for node in nodes:
        if not is_elemwise(node, scalar_ops.Log) or not _sums_rows(node.inputs[0], carrying):
            continue
        root = logarithm = node.outputs[0]
        found[root] = logarithm
        while len(users.get(root, ())) == 1 and isinstance(users[root][0].op, T.DimShuffle):
            root = users[root][0].outputs[0]
        for above in _sum_above(root, users):
            if long_axes(above) == 1:
                found[above] = logarithm
    return found


def _sums_rows(variable, carrying):
    """Whether a variable is the sum of a carrier over one axis, perhaps divided by a number."""
    node = variable.owner
    while node is not None and (
        isinstance(node.op, T.DimShuffle)
        or is_elemwise(node, scalar_ops.TrueDiv)
        and all(node.inputs[1].broadcastable)
    ):
        node = node.inputs[0].owner
    return (
        node is not None
        and _sums(node, carrying, 2)
        and node.op.axis is not None
        and len(node.op.axis) == 1
        and not node.inputs[0].broadcastable[node.op.axis[0]]
        and variable.dtype in ("float32", "float64")
    )


def _is_root(variable):
    node = variable.owner
    return (
        isinstance(variable.type, T.TensorType)
        and _has_pairs(node, long_axes(variable))
        and variable.dtype in ("float32", "float64")
        and not isinstance(node.op, (T.DimShuffle, T.Alloc))
        and not (isinstance(node.op, T.Reshape) and long_axes(node.inputs[0]) == 2)
    )


def _has_pairs(node, axes):
    """Whether a node's result has an axis of columns, and one or more of rows."""
    return axes == 2 or 2 < axes <= _MOST_AXES and isinstance(node.op, T.Elemwise)
