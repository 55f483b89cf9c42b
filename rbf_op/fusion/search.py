"""Finding the candidates in a graph, and building the fused node for those that are kernels.

Between fuse.py and optimizer.py, which both call find_kernels, and reading, matching and writing.
May import Theano by way of theano_api, and kernels.py.
"""

import math
from collections import namedtuple
from fractions import Fraction

import numpy as np
import theano.scalar as scalar_ops
import theano.tensor as T
from theano.tensor.opt import MakeVector
from theano.tensor.subtensor import IncSubtensor

from rbf_op.fusion.algebra import (
    Extent,
    Leaf,
    Sum,
    Symbol,
    TooManyTerms,
    power_of,
    product_of,
    product_symbols,
    rename,
    symbols_of,
)
from rbf_op.fusion.loops import Scan, loop_outputs
from rbf_op.fusion.matching import NoMatch, find_distances, product_nonnegative, split_bounded
from rbf_op.fusion.reading import LOGARITHM, Reader, Unreadable
from rbf_op.fusion.report import Candidate, Report
from rbf_op.fusion.values import Shape, Shape_i, Signs, Sizes, Values, scalar_constant
from rbf_op.fusion.writing import Writer, root_of
from rbf_op.kernels import rbf_kernel

# exp(60) is far from overflow in float32, so a constant in the exponent may become a factor.
_LARGEST_CONSTANT = 60

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
                carries = True
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
    """Who uses what in the graph of some outputs, equal computations counting as one."""

    def __init__(self, nodes, outputs, kept):
        self.values = Values()
        self.sizes = Sizes(self.values)
        self.signs = Signs()
        self.users = {}
        self.results = {self.values.key(v) for v in outputs}
        self.kept = set(kept)
        for node in nodes:
            if isinstance(node.op, (Shape, Shape_i)):
                continue
            for v in node.inputs:
                self.users.setdefault(self.values.key(v), []).append(node)

    def used_elsewhere(self, root, kernel):
        """Something that is opened for root's kernel, but also needed for something else."""
        opened = set(kernel.opened)
        # Norms taken from a Gram matrix: as superfluous as the matrix, but if they are needed
        # elsewhere so is the matrix.
        size = None
        while size != len(opened):
            size = len(opened)
            opened.update(
                v
                for v in kernel.passed
                if v.owner is not None and any(u in opened for u in v.owner.inputs)
            )
        inside = {self.values.key(v) for v in opened} | {self.values.key(root)}
        for variable in opened:
            key = self.values.key(variable)
            if key == self.values.key(root):
                continue
            if key in self.results:
                return variable
            for node in self.users.get(key, ()):
                if not any(self.values.key(v) in inside for v in node.outputs):
                    return variable
            if variable.owner is not None and len(variable.owner.outputs) > 1:
                for other in variable.owner.outputs:
                    key = self.values.key(other)
                    if key not in inside and (key in self.users or key in self.results):
                        return variable
        return None

    def depends_on(self, variables, opened):
        """Whether variables are computed from any that should have become superfluous."""
        keys = {self.values.key(v) for v in opened}
        stack, seen = [v for v in variables if v is not None], set()
        while stack:
            variable = stack.pop()
            if variable in seen:
                continue
            seen.add(variable)
            if self.values.key(variable) in keys:
                return True
            node = variable.owner
            if node is not None and not isinstance(node.op, (Shape, Shape_i)):
                stack.extend(node.inputs)
        return False


def find_kernels(outputs, kept=()):
    """([(variable, fused)], Report): what to replace by what, results first.

    `kept` are variables that must go on being what the outputs are computed from, such as those
    that a gradient is wanted with respect to.
    """
    nodes = nodes_of(outputs)
    carrying, _ = carriers(nodes)
    if not carrying:
        return [], Report()
    filled = {node.inputs[0] for node in nodes if isinstance(node.op, IncSubtensor)}
    candidates = [
        v
        for node in reversed(nodes)
        for v in node.outputs
        if v in carrying and v not in filled and _is_root(v)
    ]
    report = Report()
    if not candidates:
        return [], report
    graph = Graph(nodes, outputs, kept)
    replacements, superfluous = [], set()
    for root in candidates:
        if root in superfluous:
            continue
        try:
            kernel = read_kernel(graph, root)
            _check_users(graph, root, kernel)
        except (NoMatch, Unreadable, TooManyTerms, RecursionError) as error:
            expected = isinstance(error, (NoMatch, Unreadable))
            reason = str(error) if expected else "its exponent is too large to read"
            report.append(Candidate(root, False, reason, *[None] * 4, False, False))
            continue
        superfluous.update(kernel.opened)
        replacements.append((root, kernel.result))
        report.append(kernel.candidate)
    return replacements, _without_products(report)


def _is_root(variable):
    node = variable.owner
    return (
        isinstance(variable.type, T.TensorType)
        and sum(not b for b in variable.broadcastable) == 2
        and variable.dtype in ("float32", "float64")
        and not isinstance(node.op, (T.DimShuffle, T.Alloc))
        and not (
            isinstance(node.op, T.Reshape) and sum(not b for b in node.inputs[0].broadcastable) == 2
        )
    )


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


def _check_users(graph, root, kernel):
    # A variable may be opened where it is a part of the kernel alone, or not at all: computing
    # the distances once more for another user would cost more than the fused node saves.
    elsewhere = graph.used_elsewhere(root, kernel)
    if elsewhere is not None:
        raise NoMatch("a part of it, such as its squared distance, is also used elsewhere")
    if any(v in graph.kept for v in kernel.passed if v is not root):
        raise NoMatch("a gradient with respect to a part of it is wanted")
    if graph.depends_on(kernel.inputs, kernel.opened):
        raise NoMatch("one of its parameters is computed from its squared distance")


Kernel = namedtuple("Kernel", "result inputs opened passed candidate")


def read_kernel(graph, root):
    """The Kernel that a variable is. Raises NoMatch or Unreadable, saying why it is none."""
    first_error = None
    for separate in (False, True):
        roots, index = [], []
        for axis, broadcastable in enumerate(root.broadcastable):
            if broadcastable:
                index.append(())
                continue
            roots.append(Symbol("ij"[len(roots)], graph.sizes.dimension(root, axis)))
            index.append((roots[-1],))
        tolerance = 8 * Fraction(float(np.finfo(root.dtype).eps))
        reader = Reader(graph.values, graph.sizes, graph.signs, tuple(roots), tolerance, separate)
        try:
            read = reader.read(root, tuple(index), LOGARITHM)
            return build(graph, root, reader, read, tuple(index))
        except (NoMatch, Unreadable) as error:
            first_error = first_error or error
    raise first_error


def build(graph, root, reader, read, index):
    """The Kernel for an exponent and a factor that were read from root."""
    row, column = reader.roots
    inner, rest, limits = split_bounded(read.exponent)
    distances, inner_rest = find_distances(inner, row, column, reader.is_positive, reader.tolerance)
    ((amplitude, amplitude_coefficient),) = read.amplitude.items()
    _check_rest(rest, row, column)
    _check_rest(inner_rest, row, column)
    gamma_coefficient, gamma, sides = _common_width(distances, reader)
    if gamma_coefficient < 0:
        raise NoMatch("it grows with the distance, unless its width is negative")

    parameters = product_symbols(gamma) | product_symbols(amplitude)
    for polynomial in (rest, inner_rest):
        for product in polynomial:
            parameters |= product_symbols(product)
    if row in parameters and column in parameters:
        raise NoMatch("its width and amplitude depend on the row and on the column")
    transposed = row in parameters
    symmetric = not parameters & {row, column} and all(
        a == (c, rename(p, column, row)) for (a, (c, p)) in sides
    )
    if transposed:
        row, column = column, row
        sides = [(b, a) for a, b in sides]

    writer = Writer(graph.values, graph.sizes, root.dtype)
    x = _points(writer, [a for a, _ in sides], row, distances)
    y = None if symmetric else _points(writer, [b for _, b in sides], column, distances)
    layout = (column,) if column in parameters else ()
    gamma = writer.product(
        gamma_coefficient, gamma, (column,) if column in product_symbols(gamma) else ()
    )
    factor = None
    if amplitude or amplitude_coefficient != 1:
        factor = writer.product(
            amplitude_coefficient, amplitude, layout if column in product_symbols(amplitude) else ()
        )
    inside = factor if limits is None else None
    for polynomial in (inner_rest,) if limits else (inner_rest, rest):
        exponential = _exponential(writer, polynomial, column)
        if exponential is not None:
            inside = exponential if inside is None else inside * exponential
    try:
        result = rbf_kernel(x, y, gamma=gamma, amplitude=inside)
    except (TypeError, ValueError) as error:
        raise NoMatch(str(error)) from error
    if limits is not None:
        result = _limit(writer, result, limits, row, column, reader)
        outside = _exponential(writer, rest, column)
        for extra in (factor, outside):
            if extra is not None:
                result = result * extra
    candidate = Candidate(root, True, None, x, y, gamma, inside, transposed, symmetric)
    axes = {row: 0, column: 1}
    order = [axes[axis[0]] if axis else "x" for axis in index]
    if order != [0, 1]:
        result = result.dimshuffle(*order)
    if result.broadcastable != root.broadcastable:
        result = T.patternbroadcast(result, root.broadcastable)
    if result.type != root.type:
        raise NoMatch("the fused node has another type: %s" % result.type)
    result.name = root.name
    inputs = [x, y, gamma, inside, factor]
    return Kernel(result, inputs, reader.opened, reader.passed, candidate)


def _check_rest(rest, row, column):
    for product, coefficient in rest.items():
        if {row, column} <= product_symbols(product):
            raise NoMatch("the exponent has a term that is no part of a squared distance")
        if not product and abs(coefficient) > _LARGEST_CONSTANT:
            raise NoMatch("the constant in its exponent would overflow as a factor")
        for factor, _ in product:
            if isinstance(factor, Extent):
                raise NoMatch("a term of its exponent grows with a length and may overflow")
            if isinstance(factor, Sum) and symbols_of(factor) & {row, column}:
                raise NoMatch("its squared distance is incomplete")


def _common_width(distances, reader):
    """(coefficient, weight, [(rows, columns)]): the distances as one, of joined features."""
    coefficient, weight = distances[0].coefficient, distances[0].weight
    sides = []
    for distance in distances:
        ratio = distance.coefficient / coefficient
        product = product_of(distance.weight, power_of(weight, Fraction(-1)))
        known = all(
            power.denominator == 1
            and (power.numerator % 2 == 0)
            or isinstance(factor, Leaf)
            and reader.is_positive(factor.key)
            for factor, power in product
        )
        if ratio <= 0 or not known or product_symbols(product):
            raise NoMatch("it adds distances whose widths cannot be joined")
        scale = root_of(ratio), power_of(product, Fraction(1, 2))
        sides.append(
            tuple(
                (c * scale[0], product_of(p, scale[1]))
                for c, p in (distance.rows, distance.columns)
            )
        )
    return -coefficient, weight, sides


def _points(writer, sides, symbol, distances):
    """The matrix of rows (or columns) as points: one a row, one feature a column."""
    parts = []
    for (coefficient, product), distance in zip(sides, distances):
        part = writer.product(coefficient, product, (symbol,) + distance.bounds)
        if part.ndim == 1:
            part = part.dimshuffle(0, "x")
        elif part.ndim > 2:
            part = T.flatten(part, 2)
        parts.append(part)
    return parts[0] if len(parts) == 1 else T.concatenate(parts, axis=1)


def _exponential(writer, polynomial, column):
    """exp(polynomial) over the columns, or None for 1."""
    total, constant = None, polynomial.get(frozenset(), 0)
    for product, coefficient in sorted(polynomial.items(), key=lambda item: repr(item[1])):
        if product:
            layout = (column,) if column in product_symbols(product) else ()
            term = writer.product(coefficient, product, layout)
            total = term if total is None else total + term
    if total is None:
        return writer.number(math.exp(constant)) if constant else None
    if constant:
        total = total + writer.number(constant)
    return T.exp(total)


def _limit(writer, result, limits, row, column, reader):
    """The kernel limited as its exponent was: exp(m u) grows with u where m > 0, else falls."""
    coefficient, product, low, high = limits
    for bound in (low, high):
        if bound is not None and abs(bound) > 1e30:
            raise NoMatch("its squared distance is limited (clip) at a very large number")
    layout = (row, column)
    known = product_nonnegative(product, reader.is_nonnegative)
    falls = coefficient < 0 if known else writer.product(coefficient, product, layout) < 0

    def exponential(bound):
        return T.exp(writer.product(coefficient * Fraction(bound), product, layout))

    for bound, if_falling, if_growing in (
        (low, T.minimum, T.maximum),
        (high, T.maximum, T.minimum),
    ):
        if bound is None:
            continue
        value = exponential(bound)
        if known:
            result = (if_falling if falls else if_growing)(result, value)
        else:
            no_limit = {T.minimum: np.inf, T.maximum: 0}
            for function, applies in ((if_falling, falls), (if_growing, T.invert(falls))):
                limit = T.switch(applies, value, writer.number(no_limit[function]))
                result = function(result, limit)
    return result
