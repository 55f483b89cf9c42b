"""Choosing among the candidates in a graph: those that are kernels and worth fusing.

Between fuse.py, optimizer.py and reduced_loops.py, which call find_kernels, and candidates.py. May
import Theano.
"""

import theano.scalar as scalar_ops
import theano.tensor as T
from theano.tensor.opt import Shape, Shape_i

from rbf_op.device.placement import check_setting
from rbf_op.device.runtime import CUDAUnavailable
from rbf_op.fusion.algebra import TooManyTerms
from rbf_op.fusion.candidates import FACTOR_OPS, find_candidates
from rbf_op.fusion.lengths import Sizes
from rbf_op.fusion.matching import NoMatch
from rbf_op.fusion.mixtures import read_mixture
from rbf_op.fusion.reading import TooLong, Unreadable
from rbf_op.fusion.report import Candidate, Report
from rbf_op.fusion.signs import Signs
from rbf_op.fusion.values import Values, is_elemwise, nodes_of, scalar_constant
from rbf_op.theano_api import trace_to

# Variables tried per kernel: each try reads it once more.
_MOST_SHARED = 20

# Kernels of one distance, not added up, that compute it once each; and these times the columns of
# their points, where those are known: with more the distance as a matrix is faster
# (python -m benchmarks.rewriting --graph "four widths, training").
_MOST_OF_ONE_DISTANCE = 4
_MOST_COLUMNS_OF_ALL = 400


class Graph:
    """What is known of the graph of some outputs; equal computations count as one."""

    def __init__(self, outputs, candidates, kept=(), cautious=False):
        self.roots = candidates.roots
        self.matrices = candidates.matrices
        self.readers = candidates.readers
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
        """The Kernel of a root; see roots.py."""
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

        What is opened for a kernel must be superfluous once all are fused. A distance may be
        computed once for each of some kernels, but not a kernel, nor a distance that is needed
        by itself: that would cost more than the fused node saves.
        """
        key = self.values.key
        needed = self.needed(self.outputs, kernels)
        as_it_was = needed - {key(kernel.root) for kernel in kernels}
        opened_by = {}
        for kernel in kernels:
            for k in {key(v) for v in kernel.opened}:
                opened_by.setdefault(k, set()).add(key(kernel.root))
        found = {}
        reason = "a part of it, such as its squared distance, is also used elsewhere"
        for kernel in kernels:
            root = kernel.root
            matrices = {v for v in self.matrices & kernel.opened if key(v) != key(root)}
            if any(v in self.kept for v in kernel.passed if v is not root):
                found[root] = "a gradient with respect to a part of it is wanted"
            elif any(len(opened_by[key(v)]) > 1 for v in matrices):
                found[root] = "a part of it is a kernel or a softmax that is also used for another"
            elif any(key(v) in needed for v in matrices):
                found[root] = reason
        if found:  # without those, others may save something: those matrices, for example
            return found
        for kernel in kernels:
            root = kernel.root
            parts = [v for v in kernel.opened if key(v) != key(root)]
            shared = [v for v in parts if len(opened_by[key(v)]) > 1]
            others = {k for v in shared for k in opened_by[key(v)]} - {key(root)}
            if any(key(v) in needed or self._with_others(v, as_it_was) for v in parts):
                own = self.needed([root], kernels)
                found[root] = (
                    "one of its parameters is computed from its squared distance"
                    if any(key(v) in own for v in parts)
                    else reason
                )
            elif others and others.intersection(self.needed([root], kernels)):
                found[root] = "one of its parameters is computed from its squared distance"
            elif others and self._is_dear(kernel.candidate, 1 + len(others)):
                found[root] = "its squared distance is also used for several other kernels"
            elif self._with_others(root, as_it_was):
                found[root] = "the loop that computes it is also needed for something else"
        return found

    def _is_dear(self, candidate, times):
        """Whether to compute a candidate's distance so many times is more than fusing saves."""
        sizes = Sizes(self.values)
        columns = [sizes.number(v, 1) or 0 for v in (candidate.x, candidate.y) if v is not None]
        return times > _MOST_OF_ONE_DISTANCE or times * max(columns) > _MOST_COLUMNS_OF_ALL

    def _with_others(self, variable, needed):
        """Whether another output of a variable's node is needed, so that the node stays."""
        outputs = variable.owner.outputs if variable.owner is not None else ()
        return any(v is not variable and self.values.key(v) in needed for v in outputs)


def _inputs_of(variable):
    """What a variable is computed from; not that of which only the shape counts, which fusing does
    not change."""
    node = variable.owner
    if node is None or isinstance(node.op, (Shape, Shape_i)):
        return ()
    return node.inputs[1:] if is_elemwise(node, scalar_ops.Second) else node.inputs


def find_kernels(outputs, kept=(), cautious=False):
    """([(variable, fused)], Report): what to replace by what, results first.

    `kept` are variables that must go on being what the outputs are computed from, such as those
    that a gradient is wanted with respect to. `cautious` leaves alone what could overflow as a
    factor of the node but not in the exponent.
    """
    nodes = nodes_of(outputs)
    candidates = find_candidates(nodes, outputs)
    if not candidates.variables:
        return [], Report()
    if not cautious:
        check_setting()
    graph = Graph(outputs, candidates, kept, cautious)
    kernels, reasons = {}, dict(candidates.reasons)
    while True:
        chosen, superfluous = [], set()
        for root in candidates.variables:
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
                    reasons[root] = failed(error)
                    continue
            chosen.append(kernels[root])
            superfluous.update(kernels[root].opened)
        unfit = graph.unfit(chosen)
        if not unfit:
            break
        reasons.update(unfit)
    elsewhere = graph.needed_elsewhere(outputs, chosen)
    order = {v: place for place, node in enumerate(nodes) for v in node.outputs}
    chosen = [graph.sharing(k, elsewhere, order) for k in chosen]
    replacements = [(kernel.root, kernel.result) for kernel in chosen]
    known = set(nodes)
    for root, result in replacements:
        trace_to(root, result, known)
    fused = {kernel.root: kernel.candidate for kernel in chosen}
    report = Report(
        fused.get(root) or left_alone(root, reasons[root])
        for root in candidates.variables
        if root in fused or root in reasons and root not in superfluous | candidates.sums
    )
    return replacements, _without_products(report)


def left_alone(variable, reason):
    """The Candidate for what is not replaced."""
    return Candidate(variable, False, reason, *[None] * 4, False, False)


def failed(error):
    """What a report says of an error that nobody foresaw."""
    return "reading it failed: %s: %s" % (type(error).__name__, error)


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
    stack, seen = [variable], set()
    while stack:
        node = stack.pop().owner
        if node is None or not (
            isinstance(node.op, (T.DimShuffle, T.Reshape))
            or isinstance(node.op, T.Elemwise)
            and isinstance(node.op.scalar_op, FACTOR_OPS)
        ):
            continue
        for v in node.inputs:
            if v in candidates:
                return True
            if v not in seen:
                seen.add(v)
                stack.append(v)
    return False
