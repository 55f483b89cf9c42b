"""Kernels of one distance that are added up: one node that computes it once for all widths.

Between search.py, which asks for them, and roots.py, which reads each kernel. May import Theano,
kernels.py and ops/.
"""

import functools
import operator
from collections import namedtuple

import theano.scalar as scalar_ops
import theano.tensor as T

from rbf_op.fusion.building import Kernel
from rbf_op.fusion.lengths import Sizes
from rbf_op.fusion.matching import NoMatch
from rbf_op.fusion.report import Candidate
from rbf_op.fusion.values import is_elemwise, scalar_constant, with_replaced
from rbf_op.kernels import rbf_mixture
from rbf_op.ops import RBFKernel
from rbf_op.ops.dtypes import widened
from rbf_op.theano_api import upcast

# What is linear in each of its inputs, or in the first.
_LINEAR_ELEMWISE = scalar_ops.Mul, scalar_ops.TrueDiv, scalar_ops.Neg
_LINEAR = T.DimShuffle, T.elemwise.Sum

# A sum that is added to itself has twice as many each time.
_MOST_TERMS = 4096


def sums_of_kernels(nodes, roots):
    """Sums and differences of which two terms, or more, are among the roots or linear in one."""
    counts = dict.fromkeys(roots, 1)
    for node in nodes:  # inputs first
        (sum_, *_) = node.outputs
        of_inputs = [counts.get(v, 0) for v in node.inputs]
        if is_elemwise(node, scalar_ops.Add, scalar_ops.Sub):
            counts[sum_] = sum(of_inputs)
        elif is_elemwise(node, *_LINEAR_ELEMWISE) or isinstance(node.op, _LINEAR):
            counts.setdefault(sum_, min(1, max(of_inputs)))
    found = {v for v, count in counts.items() if count > 1}
    return {v for v in found if v.dtype in ("float32", "float64")}


def read_mixture(graph, root, closed=()):
    """The Kernel for a sum of which two terms or more come from kernels of the same points.

    Those terms are the kernels themselves, or what is linear in them and otherwise the same, such
    as their means. What else is added stays as it is, and is added up before.
    """
    signed, sums = _terms_of(root, closed)
    known = graph.shares.setdefault(frozenset(closed), {})
    groups = {}
    for sign, term in signed:
        share = _share_of_kernel(graph, term, closed, known)
        if share is not None:
            x, y, *_ = _arguments(share.kernel)
            group = tuple(graph.values.key(v) for v in (x, y, share.of_any))
            groups.setdefault(group, []).append((sign, term, share))
    mixed, taken, opened, passed, stays = [], set(), set(), set(), []
    for group in groups.values():
        amplitudes = {}  # by their widths
        for sign, _, share in group:
            x, y, gamma, amplitude = _arguments(share.kernel)
            if share.factor is not None:
                amplitude = amplitude * share.factor
            amplitude = amplitude if sign == 1 else -amplitude
            width = graph.values.key(gamma)
            if width in amplitudes:
                amplitude = amplitudes[width][1] + amplitude
            amplitudes[width] = gamma, amplitude
        if len(amplitudes) < 2:
            continue
        gamma, amplitude = (T.stack(values) for values in zip(*amplitudes.values()))
        mixed.append(share.of(rbf_mixture(x, y, gamma, amplitude=amplitude)))
        candidate = Candidate(root, True, None, x, y, gamma, amplitude, False, y is x)
        for _, term, share in group:
            taken.add(term)
            opened.update(share.kernel.opened, share.path)
            passed |= share.kernel.passed
            stays += share.stays
    if not mixed:
        raise NoMatch("no two of its terms are kernels of the same points")
    result = functools.reduce(operator.add, mixed)
    rests = _rests(sums, taken, Sizes(graph.values))
    opened.update(v for v in sums if rests[v] != (1, v))
    if rests[root] is not None:
        sign, rest = rests[root]
        result = rest + result if sign == 1 else result - rest
        stays.append(rest)
    if result.type != root.type:
        raise NoMatch("the fused node has another type: %s" % result.type)
    result.name = root.name
    return Kernel(root, result, opened, passed | opened, candidate, tuple(stays))


def _terms_of(variable, closed):
    """[(1 or -1, term)] of a sum of sums and differences, and those sums, inputs first."""
    terms, sums, stack = [], [], [(1, variable)]
    while stack:
        sign, term = stack.pop()
        node = None if term in closed else term.owner
        if (
            node is None
            or not is_elemwise(node, scalar_ops.Add, scalar_ops.Sub)
            or not term.dtype.startswith("float")
            or term.broadcastable != variable.broadcastable
        ):
            terms.append((sign, term))
            if len(terms) > _MOST_TERMS:
                raise NoMatch("it has more than %d terms" % _MOST_TERMS)
            continue
        sums.append(term)
        first, *others = node.inputs
        minus = is_elemwise(node, scalar_ops.Sub)
        stack.extend((-sign if minus else sign, v) for v in reversed(others))
        stack.append((sign, first))
    return terms, sums[::-1]


def _rests(sums, taken, sizes):
    """{sum: what is left of it without the terms that are taken}: None, or (1 or -1, a variable).

    Added up as it was, in the sum's own type, but for zeros; (1, sum) if nothing is taken from it.
    """
    rests, one = {}, next(iter(taken))
    for sum_ in sums:
        node, left, changed = sum_.owner, None, False
        for place, v in enumerate(node.inputs):
            rest = rests.get(v, None if v in taken else (1, v))
            changed |= rest != (1, v)
            if rest is None or rest[1] is v and _is_nothing(v, one, sizes):
                continue
            sign, v = rest
            if place and is_elemwise(node, scalar_ops.Sub):
                sign = -sign
            left = (sign, v) if left is None else _added(left, (sign, v), sum_.dtype)
        rests[sum_] = left if changed else (1, sum_)
    return rests


def _is_nothing(variable, term, sizes):
    """Whether a variable is zeros, as Python's sum() begins with, and no longer than a term."""
    return scalar_constant(variable) == 0 and all(
        short or sizes.equal(sizes.dimension(variable, a), sizes.dimension(term, a))
        for a, short in enumerate(variable.broadcastable)
    )


def _added(first, second, dtype):
    """The sum of two (1 or -1, variable), like them."""
    (sign, a), (other_sign, b) = first, second
    a, b = widened(a, dtype), widened(b, dtype)
    if sign == other_sign:
        return sign, a + b
    return (1, a - b) if sign == 1 else (1, b - a)


# Of a term: factor * of(kernel), with a linear function `of`, of_any its value of any matrix; path:
# what lies between them; stays: what the factor and the function are computed from.
Share = namedtuple("Share", "kernel factor of of_any path stays")


def _share_of_kernel(graph, term, closed, known):
    """The Share that a term is of a kernel with scalar parameters, or None."""
    if term not in known:
        known[term] = _find_share(graph, term, closed, known)
    return known[term]


def _find_share(graph, term, closed, known):
    node = None if term in closed else term.owner
    if node is None:
        return None
    if term in graph.roots:
        try:
            kernel = graph.read(term, closed)
        except Exception:  # as in find_kernels; it may be read, or reported, by itself
            kernel = None
        if kernel is not None and _arguments(kernel) is not None:
            return Share(kernel, None, lambda matrix: matrix, graph.any_of(term.type), (), ())
    if not is_elemwise(node, *_LINEAR_ELEMWISE) and not isinstance(node.op, _LINEAR):
        return None
    for place in range(len(node.inputs) if is_elemwise(node, scalar_ops.Mul) else 1):
        share = _share_of_kernel(graph, node.inputs[place], closed, known)
        if share is not None:
            return _share_through(graph, term, place, share)
    return None


def _share_through(graph, term, place, share):
    """The Share of a term of which the input in some place is one; None if others need the kernel.

    They may need its shape, which then is that of what comes in its place.
    """
    node, kernel = term.owner, share.kernel.root
    any_kernel = graph.any_of(kernel.type)
    factor, kept = share.factor, {}
    for k, v in enumerate(node.inputs):
        if k == place:
            continue
        of_any = _with(v, kernel, any_kernel)
        if graph.values.key(any_kernel) in graph.needed([of_any], ()):
            return None
        unchanged = graph.values.key(of_any) == graph.values.key(v)
        if (
            unchanged
            and all(v.broadcastable)
            and is_elemwise(node, scalar_ops.Mul)
            and upcast(v.dtype, node.inputs[place].dtype) == node.inputs[place].dtype
        ):
            v = v.dimshuffle()
            factor = v if factor is None else factor * v
        else:
            kept[k] = v

    def through(inner, matrix):
        if not kept and is_elemwise(node, scalar_ops.Mul):
            return inner
        inputs = [_with(v, kernel, matrix) for v in kept.values()]
        inputs.insert(sum(k < place for k in kept), inner)
        if matrix is any_kernel:  # which has no test value
            return node.op.make_node(*inputs).outputs[0]
        return node.op(*inputs)

    return Share(
        share.kernel,
        factor,
        lambda matrix: through(share.of(matrix), matrix),
        through(share.of_any, any_kernel),
        share.path + (term,),
        share.stays + tuple(v for k, v in enumerate(node.inputs) if k != place),
    )


def _with(variable, old, new):
    """A variable computed from `new` where it was from `old`."""
    return with_replaced([variable], {old: new})[0]


def _arguments(kernel):
    """(x, y, gamma, amplitude) if a kernel is a plain node with scalar parameters, else None."""
    node = kernel.result.owner
    if node is None or not isinstance(node.op, RBFKernel):
        return None
    x, y, gamma, amplitude = node.op.with_y(node.inputs)
    return None if gamma.ndim or amplitude.ndim else (x, y, gamma, amplitude)
