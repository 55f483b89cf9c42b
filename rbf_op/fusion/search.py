"""Finding the candidates in a graph, and choosing those that are kernels and worth fusing.

Between fuse.py and optimizer.py, which both call find_kernels, and building.py. May import Theano.
"""

import functools

import theano.scalar as scalar_ops
import theano.tensor as T
from theano.tensor.opt import MakeVector, Shape, Shape_i
from theano.tensor.subtensor import IncSubtensor, Subtensor

from rbf_op.device.runtime import CUDAUnavailable
from rbf_op.fusion.algebra import TooManyTerms
from rbf_op.fusion.building import read_kernel, read_sum, read_total, read_widths
from rbf_op.fusion.matching import NoMatch
from rbf_op.fusion.mixtures import read_mixture, sums_of_kernels
from rbf_op.fusion.reading import TooLong, Unreadable
from rbf_op.fusion.reading.loops import last_state, loop_outputs, set_in_state
from rbf_op.fusion.report import Candidate, Report
from rbf_op.fusion.values import (
    Signs,
    Sizes,
    Values,
    is_elemwise,
    nodes_of,
    scalar_constant,
)
from rbf_op.theano_api import Scan, trace_to

_FACTOR_OPS = (
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

# Variables tried per kernel: each try reads it once more.
_MOST_SHARED = 20


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
                carries = isinstance(scalar_op, _FACTOR_OPS) and _carries(
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
    """Whether a factor is an exponential; one of fewer dimensions is a number to a matrix."""
    return any(v in found or v in scalars and not output.ndim for v in inputs)


class Graph:
    """What is known of the graph of some outputs; equal computations count as one."""

    def __init__(self, outputs, roots, readers, kept=(), cautious=False):
        self.roots = roots
        self.readers = readers
        self.kept = set(kept)
        self.values = Values(self.kept)
        self.sizes = Sizes(self.values)
        self.signs = Signs()
        self.outputs = outputs
        self.cautious = cautious
        self.shares = {}  # for mixtures.py
        self._read = {}
        self._any = {}

    def any_of(self, type_):
        """A variable of a type, the same each time, to compare functions by."""
        return self._any.setdefault(type_, type_())

    def needed(self, variables, kernels):
        """Keys of all that variables are computed from, kernels' results computed as fused."""
        return self._reached(variables, kernels, lambda kernel: _inputs_of(kernel.result))

    def needed_elsewhere(self, variables, kernels):
        """Keys of all that variables are computed from but by way of kernels, or of a kernel by
        what stays of it as it was."""
        return self._reached(variables, kernels, lambda kernel: kernel.stays)

    def _reached(self, variables, kernels, below):
        """Keys of the variables and of all below them; below(kernel) of kernels' results."""
        key = self.values.key
        fused = {key(kernel.root): kernel for kernel in kernels}
        found, stack = set(), list(variables)
        while stack:
            variable = stack.pop()
            if key(variable) not in found:
                found.add(key(variable))
                kernel = fused.get(key(variable))
                stack.extend(_inputs_of(variable) if kernel is None else below(kernel))
        return found

    def forget_lengths(self):
        """Lengths that one reading requires to be equal may differ where another is used."""
        self.sizes = Sizes(self.values)

    def read(self, root, closed=()):
        """The Kernel of a root; see building.py."""
        reader = self.readers[root]
        if reader is read_mixture:
            return reader(self, root, closed)
        # A kernel may be read as a term of a mixture, and then by itself.
        key = root, frozenset(closed)
        if key not in self._read:
            self.forget_lengths()
            self._read[key] = reader(self, root, closed)
        return self._read[key]

    def read_at_first(self, root):
        """The Kernel of a root, of what is kept if that can be."""
        if self.kept:
            try:
                return self.read(root, self.kept)
            except Exception:  # the reading below fails in the same way, or succeeds
                pass
        return self.read(root)

    def sharing(self, kernel, elsewhere, order):
        """The kernel, computed from those variables by which the outputs depend on something else.

        So that derivatives with respect to those, and what replaces them, reach both. `elsewhere`
        are their keys; `order` numbers variables, inputs before what is computed from them.
        """
        closed = set(self.kept)
        shared = [
            v
            for v in kernel.passed - kernel.opened
            if v in order and v.dtype.startswith("float") and self.values.key(v) in elsewhere
        ]
        for variable in sorted(shared, key=order.get, reverse=True)[:_MOST_SHARED]:
            if variable in kernel.passed and scalar_constant(variable) is None:
                try:
                    again = self.read(kernel.root, closed | {variable})
                except Exception:  # as in find_kernels; and it has been read, looking through this
                    continue
                if again.opened >= kernel.opened & self.roots:  # as many kernels
                    kernel = again
                    closed.add(variable)
        return kernel

    def unfit(self, kernels):
        """{root: why it must be left alone} for those that would not save anything.

        What is opened for a kernel must be superfluous once all are fused. Computing a distance
        once more for another user would cost more than the fused node saves.
        """
        key = self.values.key
        needed = self.needed(self.outputs, kernels)
        opened_by = {}
        for kernel in kernels:
            for k in {key(v) for v in kernel.opened}:
                opened_by.setdefault(k, set()).add(key(kernel.root))
        found = {}
        for kernel in kernels:
            root = kernel.root
            parts = [v for v in kernel.opened if key(v) != key(root)]
            if any(v in self.kept for v in kernel.passed if v is not root):
                found[root] = "a gradient with respect to a part of it is wanted"
            elif any(len(opened_by[key(v)]) > 1 for v in parts):
                found[root] = "its squared distance is also used elsewhere, for another kernel"
            elif any(key(v) in needed or self._with_others(v, needed) for v in parts):
                own = self.needed([root], kernels)
                found[root] = (
                    "one of its parameters is computed from its squared distance"
                    if any(key(v) in own for v in parts)
                    else "a part of it, such as its squared distance, is also used elsewhere"
                )
            elif self._with_others(root, needed):
                found[root] = "the loop that computes it is also needed for something else"
        return found

    def _with_others(self, variable, needed):
        """Whether another output of a variable's node is needed, so that the node stays."""
        outputs = variable.owner.outputs if variable.owner is not None else ()
        return any(v is not variable and self.values.key(v) in needed for v in outputs)


def _inputs_of(variable):
    """What a variable is computed from; of a shape nothing, which fusing does not change."""
    node = variable.owner
    return () if node is None or isinstance(node.op, (Shape, Shape_i)) else node.inputs


def find_kernels(outputs, kept=(), cautious=False):
    """([(variable, fused)], Report): what to replace by what, results first.

    `kept` are variables that must go on being what the outputs are computed from, such as those
    that a gradient is wanted with respect to. `cautious` leaves alone what could overflow as a
    factor of the node but not in the exponent.
    """
    nodes = nodes_of(outputs)
    carrying, _ = carriers(nodes)
    if not carrying:
        return [], Report()
    users = _users(nodes)
    filled = {node.inputs[0] for node in nodes if isinstance(node.op, IncSubtensor)}
    stable = stable_in_logarithms(nodes, users, outputs)
    matrices = {v for v in carrying if v not in filled and _is_root(v)}
    roots = matrices - stable
    mixtures = sums_of_kernels(nodes, roots)
    widths = sums_over_an_axis(nodes, carrying) - stable
    readers = dict.fromkeys(roots, read_kernel)
    readers.update(dict.fromkeys(widths, read_widths))
    readers.update(dict.fromkeys(logarithms_of_totals(nodes, carrying), read_total))
    for root, logarithm in sums_of_rows(nodes, users, carrying).items():
        readers[root] = functools.partial(read_sum, logarithm=logarithm)
    readers.update(dict.fromkeys(mixtures, read_mixture))
    candidates = [
        v for node in reversed(nodes) for v in node.outputs if v in readers or v in matrices
    ]
    if not candidates:
        return [], Report()
    graph = Graph(outputs, roots, readers, kept, cautious)
    kernels, reasons = {}, {}
    for root in matrices & stable:
        reasons[root] = "the logarithm of its sum is taken, and would be infinite if it underflowed"
    while True:
        chosen, superfluous = [], set()
        for root in candidates:
            if root in superfluous or root in reasons:
                continue
            if root not in kernels:
                try:
                    kernels[root] = graph.read_at_first(root)
                except (NoMatch, Unreadable) as error:
                    reasons[root] = str(error)
                    continue
                except (TooManyTerms, TooLong, RecursionError):
                    reasons[root] = "its exponent is too large to read"
                    continue
                except CUDAUnavailable as error:
                    if not cautious:
                        raise
                    reasons[root] = str(error)
                    continue
                except Exception as error:  # a model must go on working, whatever is met in it
                    reasons[root] = "reading it failed: %s: %s" % (type(error).__name__, error)
                    continue
            chosen.append(kernels[root])
            superfluous.update(kernels[root].opened)
        unfit = graph.unfit(chosen)
        if not unfit:
            break
        reasons.update(unfit)
    if not cautious:
        elsewhere = graph.needed_elsewhere(outputs, chosen)
        order = {v: place for place, node in enumerate(nodes) for v in node.outputs}
        chosen = [graph.sharing(k, elsewhere, order) for k in chosen]
    replacements = [(kernel.root, kernel.result) for kernel in chosen]
    known = set(nodes)
    for root, result in replacements:
        trace_to(root, result, known)
    fused = {kernel.root: kernel.candidate for kernel in chosen}
    report = Report(
        fused.get(root) or Candidate(root, False, reasons[root], *[None] * 4, False, False)
        for root in candidates
        if root in fused or root in reasons and root not in superfluous | mixtures | widths
    )
    return replacements, _without_products(report)


def _users(nodes):
    """{variable: the nodes that it is an input of}."""
    users = {}
    for node in nodes:
        for v in node.inputs:
            users.setdefault(v, []).append(node)
    return users


def stable_in_logarithms(nodes, users, outputs):
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
            v.owner is not None
            and is_elemwise(v.owner, scalar_ops.Exp)
            and len(users[v]) == 1
            and v not in outputs
            for v in owner.inputs
        ):
            found.update([sum_], owner.inputs)
    return found


def logarithms_of_totals(nodes, carrying):
    """Logarithms of the sum of all entries of a carrier."""
    return {
        node.outputs[0]
        for node in nodes
        if is_elemwise(node, scalar_ops.Log)
        and node.inputs[0].owner is not None
        and isinstance(node.inputs[0].owner.op, T.elemwise.Sum)
        and node.inputs[0].owner.inputs[0] in carrying
        and node.inputs[0].owner.inputs[0].broadcastable == (False, False)
        and node.inputs[0].ndim == 0
    }


def sums_of_rows(nodes, users, carrying):
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
        above = users.get(root, ())
        if len(above) == 1 and is_elemwise(above[0], (scalar_ops.Add, scalar_ops.Sub)):
            (root,) = above[0].outputs
            if sum(not b for b in root.broadcastable) == 1:
                found[root] = logarithm
    return found


def sums_over_an_axis(nodes, carrying):
    """Sums of a carrier that has an axis more than a matrix, which may be one of widths."""
    return {
        node.outputs[0]
        for node in nodes
        if isinstance(node.op, T.elemwise.Sum)
        and node.inputs[0] in carrying
        and sum(not b for b in node.inputs[0].broadcastable) == 3
        and node.outputs[0].dtype in ("float32", "float64")
    }


def _sums_rows(variable, carrying):
    """Whether a variable is the sum of a carrier over one axis, perhaps divided by a number."""
    node = variable.owner
    while node is not None and (
        isinstance(node.op, T.DimShuffle)
        or is_elemwise(node, scalar_ops.TrueDiv)
        and all(node.inputs[1].broadcastable)
    ):
        node = node.inputs[0].owner
    if node is None or not isinstance(node.op, T.elemwise.Sum):
        return False
    (source,) = node.inputs
    return (
        source in carrying
        and node.op.axis is not None
        and len(node.op.axis) == 1
        and not source.broadcastable[node.op.axis[0]]
        and sum(not b for b in source.broadcastable) == 2
        and variable.dtype in ("float32", "float64")
    )


def _is_root(variable):
    node = variable.owner
    return (
        isinstance(variable.type, T.TensorType)
        and _has_pairs(node, sum(not b for b in variable.broadcastable))
        and variable.dtype in ("float32", "float64")
        and not isinstance(node.op, (T.DimShuffle, T.Alloc))
        and not (
            isinstance(node.op, T.Reshape) and sum(not b for b in node.inputs[0].broadcastable) == 2
        )
    )


def _has_pairs(node, axes):
    """Whether a node's result has an axis of columns, and one or more of rows."""
    return axes == 2 or 2 < axes <= _MOST_AXES and isinstance(node.op, T.Elemwise)


def _without_products(report):
    """The report without products left alone of which a factor is a candidate: that says it all."""
    candidates = {candidate.variable for candidate in report}
    return Report(
        candidate
        for candidate in report
        if candidate.fused or not _contains_factor(candidate.variable, candidates)
    )


def _contains_factor(variable, candidates):
    """Whether one of the factors of a product (of products) is in a set."""
    stack = [variable]
    while stack:
        node = stack.pop().owner
        if node is None or not (
            isinstance(node.op, (T.DimShuffle, T.Reshape))
            or isinstance(node.op, T.Elemwise)
            and isinstance(node.op.scalar_op, _FACTOR_OPS)
        ):
            continue
        for v in node.inputs:
            if v in candidates:
                return True
            stack.append(v)
    return False
