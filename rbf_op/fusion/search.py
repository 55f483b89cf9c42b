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
    add,
    power_of,
    product_of,
    product_symbols,
    rename,
    symbols_of,
)
from rbf_op.fusion.loops import Scan, filled_positions, loop_outputs
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
    """What is known of the graph of some outputs; equal computations count as one."""

    def __init__(self, outputs, kept=(), cautious=False):
        self.values = Values()
        self.sizes = Sizes(self.values)
        self.signs = Signs()
        self.outputs = outputs
        self.kept = set(kept)
        self.cautious = cautious

    def needed(self, variables, kernels):
        """Keys of all that variables are computed from, kernels' results computed as fused."""
        key = self.values.key
        fused = {key(kernel.root): kernel.result for kernel in kernels}
        found, stack = set(), list(variables)
        while stack:
            variable = stack.pop()
            if key(variable) in found:
                continue
            found.add(key(variable))
            node = fused.get(key(variable), variable).owner
            if node is not None and not isinstance(node.op, (Shape, Shape_i)):
                stack.extend(node.inputs)
        return found

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
    filled = {node.inputs[0] for node in nodes if isinstance(node.op, IncSubtensor)}
    candidates = [
        v
        for node in reversed(nodes)
        for v in node.outputs
        if v in carrying and v not in filled and _is_root(v)
    ]
    if not candidates:
        return [], Report()
    graph = Graph(outputs, kept, cautious)
    kernels, reasons = {}, {}
    while True:
        chosen, superfluous = [], set()
        for root in candidates:
            if root in superfluous or root in reasons:
                continue
            if root not in kernels:
                try:
                    kernels[root] = read_kernel(graph, root)
                except (NoMatch, Unreadable) as error:
                    reasons[root] = str(error)
                    continue
                except (TooManyTerms, RecursionError):
                    reasons[root] = "its exponent is too large to read"
                    continue
            chosen.append(kernels[root])
            superfluous.update(kernels[root].opened)
        unfit = graph.unfit(chosen)
        if not unfit:
            break
        reasons.update(unfit)
    replacements = [(kernel.root, kernel.result) for kernel in chosen]
    fused = {kernel.root: kernel.candidate for kernel in chosen}
    report = Report(
        fused.get(root) or Candidate(root, False, reasons[root], *[None] * 4, False, False)
        for root in candidates
        if root in fused or root in reasons and root not in superfluous
    )
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


Kernel = namedtuple("Kernel", "root result opened passed candidate")


def read_kernel(graph, root):
    """The Kernel that a variable is. Raises NoMatch or Unreadable, saying why it is none."""
    first_error = None
    base, lengths = _block(graph, root)
    for separate in (False, True):
        roots, index = [], []
        for axis, broadcastable in enumerate(root.broadcastable):
            if broadcastable:
                index.append(())
                continue
            size = lengths.get(axis) or graph.sizes.dimension(root, axis)
            roots.append(Symbol("ij"[len(roots)], size))
            index.append((roots[-1],))
        tolerance = 8 * Fraction(float(np.finfo(root.dtype).eps))
        reader = Reader(graph.values, graph.sizes, graph.signs, tuple(roots), tolerance, separate)
        reader.block = bool(lengths)
        try:
            read = reader.read(root, tuple(index), LOGARITHM)
            return build(graph, root, reader, read, tuple(index), base, lengths)
        except (NoMatch, Unreadable) as error:
            first_error = first_error or error
    raise first_error


def _block(graph, root):
    """(base, {axis: length}) if set_subtensor fills the first positions of a base, not all."""
    filled = isinstance(root.owner.op, IncSubtensor) and filled_positions(root)
    if not filled:
        return None, {}
    base, axis, parts = filled
    lengths = {axis: len(parts)}
    if parts[0].cells:
        lengths[axis + 1] = len(parts[0].cells)
    if all(graph.sizes.dimension(root, a) == length for a, length in lengths.items()):
        return None, {}
    return base, lengths


def build(graph, root, reader, read, index, base, lengths):
    """The Kernel for an exponent and a factor that were read from root."""
    row, column = reader.roots
    inner, rest, limits = split_bounded(read.exponent)
    distances, inner_rest = find_distances(inner, row, column, reader.is_positive, reader.tolerance)
    ((amplitude, coefficient),) = read.amplitude.items()
    for polynomial in (rest, inner_rest):
        _check_rest(graph, polynomial, row, column)
    gamma_coefficient, gamma, sides = _common_width(distances, reader)
    if gamma_coefficient < 0:
        raise NoMatch("it grows with the distance, unless its width is negative")

    parameters = product_symbols(amplitude).union(*map(product_symbols, [*rest, *inner_rest]))
    width = product_symbols(gamma) & {row, column}
    if len(width) == 2:
        raise NoMatch("its width depends on the row and on the column")
    # The node takes a width and an amplitude for each column: so columns are what the width
    # depends on, or else the amplitude. Factors that depend on the rows then follow the node.
    transposed = row in (width or parameters) and column not in (width or parameters)
    symmetric = not (parameters | width) & {row, column} and all(
        a == (c, rename(p, column, row)) for (a, (c, p)) in sides
    )
    if transposed:
        row, column = column, row
        sides = [(b, a) for a, b in sides]

    writer = Writer(graph.values, graph.sizes, root.dtype)
    x = _points(writer, [a for a, _ in sides], row, distances)
    y = None if symmetric else _points(writer, [b for _, b in sides], column, distances)
    gamma = writer.product(gamma_coefficient, gamma, (column,) if width else ())
    if limits is None:
        inner_rest, rest = add(inner_rest, rest), {}
        amplitude, factors = _split(amplitude, row)
        inside = _factor(writer, coefficient, amplitude, (column,))
        after = [_factor(writer, 1, factors, (row, column))]
    else:
        inside, after = None, [_factor(writer, coefficient, amplitude, (row, column))]
    exponents = [
        {p: c for p, c in inner_rest.items() if (row in product_symbols(p)) is is_row}
        for is_row in (False, True)
    ]
    exponential = _exponential(writer, exponents[0], (column,))
    if exponential is not None:
        inside = exponential if inside is None else inside * exponential
    try:
        result = rbf_kernel(x, y, gamma=gamma, amplitude=inside)
    except (TypeError, ValueError) as error:
        raise NoMatch(str(error)) from error
    result = _times(result, _exponential(writer, exponents[1], (row, column)))
    if limits is not None:
        result = _limit(writer, result, limits, row, column, reader)
        after.append(_exponential(writer, rest, (row, column)))
    result = _times(result, *after)
    candidate = Candidate(root, True, None, x, y, gamma, inside, transposed, symmetric)
    axes = {row: 0, column: 1}
    order = [axes[axis[0]] if axis else "x" for axis in index]
    if order != [0, 1]:
        result = result.dimshuffle(*order)
    if lengths:
        block = tuple(slice(lengths.get(axis)) for axis in range(root.ndim))
        result = T.set_subtensor(base[block], result)
    if result.broadcastable != root.broadcastable:
        result = T.patternbroadcast(result, root.broadcastable)
    if result.type != root.type:
        raise NoMatch("the fused node has another type: %s" % result.type)
    result.name = root.name
    return Kernel(root, result, reader.opened, reader.passed, candidate)


def _split(product, symbol):
    """(the factors without a symbol, those with it)."""
    having = frozenset(item for item in product if symbol in symbols_of(item[0]))
    return product - having, having


def _times(result, *factors):
    for factor in factors:
        result = result if factor is None else result * factor
    return result


def _factor(writer, coefficient, product, layout):
    """coefficient * product, or None for 1; a scalar if that will do for one axis."""
    if not product and coefficient == 1:
        return None
    if len(layout) == 1 and layout[0] not in product_symbols(product):
        layout = ()
    return writer.product(coefficient, product, layout)


def _check_rest(graph, rest, row, column):
    for product, coefficient in rest.items():
        if {row, column} <= product_symbols(product):
            raise NoMatch("the exponent has a term that is no part of a squared distance")
        if not product and abs(coefficient) > _LARGEST_CONSTANT:
            raise NoMatch("the constant in its exponent would overflow as a factor")
        for factor, _ in product:
            if graph.cautious and not _is_logarithm(graph, factor):
                raise NoMatch("a term of its exponent may overflow as a factor")
            if isinstance(factor, Extent):
                raise NoMatch("a term of its exponent grows with a length and may overflow")
            if isinstance(factor, Sum) and symbols_of(factor) & {row, column}:
                raise NoMatch("its squared distance is incomplete")


def _is_logarithm(graph, factor):
    """Whether exp(factor) is a number that the graph has."""
    node = graph.values.variables[factor.key].owner if isinstance(factor, Leaf) else None
    return isinstance(getattr(getattr(node, "op", None), "scalar_op", None), scalar_ops.Log)


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
            raise NoMatch("it adds distances whose widths may differ in sign")
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


def _exponential(writer, polynomial, layout):
    """exp(polynomial) over a layout, or None for 1."""
    total, constant = None, polynomial.get(frozenset(), 0)
    for product, coefficient in sorted(polynomial.items(), key=lambda item: repr(item[1])):
        if product:
            term = _factor(writer, coefficient, product, layout)
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
