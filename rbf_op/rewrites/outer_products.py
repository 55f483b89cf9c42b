"""Matrices that are sums of outer products, as kernel matrices meet them in sums and in gradients.

sum(K, axis=1) is dot(K, 1), and the gradient of a function of it with respect to K is an outer
product with ones. Below products.py; may import Theano.
"""

import functools
from collections import namedtuple

import theano.scalar as scalar_ops
import theano.tensor as T

from rbf_op.theano_api import Constant, clients

# Steps of computing a column that are looked at to find another which is the same.
_DEEPEST = 8


class Outer(namedtuple("Outer", "left right number")):
    """The matrix number * dot(left, right.T): of left (n, p), right (m, p), a scalar or None."""

    __slots__ = ()

    def is_thin(self):
        """Whether it is known that p is 1."""
        return is_column(self.left) and is_column(self.right)

    def transposed(self):
        return Outer(self.right, self.left, self.number)


class Made:
    """Variables made of others, each only once, so that equal ones are the same variable."""

    def __init__(self):
        self._made = {}
        self._ones = set()
        self._inverted = {}
        self._places = {}

    def _once(self, key, build):
        if key not in self._made:
            self._made[key] = build()
        return self._made[key]

    def transposed(self, variable):
        """variable.T; what was transposed (or made a row of a vector) before, if it was."""
        order, original = dimshuffled(variable)
        if order == (1, 0):
            return original
        if order == ("x", 0):
            return self.columns(original)
        if variable.broadcastable[0]:
            return self._column(variable, (1, 0))
        return self._once((variable, "T"), lambda: variable.dimshuffle(1, 0))

    def columns(self, variable):
        """A vector as a matrix of one column; a matrix as it is, if transposed by `transposed`."""
        order, original = dimshuffled(variable)
        if order == (1, 0):
            return self.transposed(original)
        if order == (0, "x"):
            variable = original
        if variable.ndim == 2:
            return self._column(variable) if is_column(variable) else variable
        return self._column(variable, (0, "x"))

    def _column(self, variable, order=None):
        """Of columns that are computed alike, as vectors, rows or columns, the first."""
        return self._once(
            (_entries(variable), "column"),
            lambda: variable.dimshuffle(*order) if order else variable,
        )

    def cast(self, variable, dtype):
        """A variable in a dtype that has all of its values."""
        if variable.dtype == dtype:
            return variable
        return self._once((variable, dtype), lambda: T.cast(variable, dtype))

    def ones(self, points):
        """A column with a one for each row of points."""
        length = 1 if points.broadcastable[0] else points.shape[0]
        one = T.constant(1, dtype=points.dtype)
        column = self._once((points, "ones"), lambda: T.alloc(one, length, 1))
        self._ones.add(column)
        return column

    def scaled(self, amplitude, matrix):
        """The rows of a matrix times amplitude, a scalar or one number per row."""
        if isinstance(amplitude, Constant) and amplitude.ndim == 0 and amplitude.data == 1:
            return matrix
        return self.times(matrix, self.columns(amplitude) if amplitude.ndim else amplitude)

    def times(self, matrix, factor):
        """A matrix times a scalar, or times a matrix as long, of as many columns or one."""
        if factor in self._ones:
            return matrix
        if matrix in self._ones and factor.ndim == 2:
            return factor
        if matrix in self._inverted and factor.ndim == 2:
            matrix, factor = factor, matrix
        if factor in self._inverted:  # which may overflow where the quotient does not
            divisor = self._inverted[factor]
            return self._once((matrix, factor), lambda: matrix / divisor)
        return self._once((matrix, factor), lambda: matrix * factor)

    def inverse(self, variable):
        inverse = self._once((variable, "inverse"), lambda: T.inv(variable))
        self._inverted[inverse] = variable
        return inverse

    def joined(self, matrices):
        """Matrices with as many rows side by side."""
        if len(matrices) == 1:
            return matrices[0]
        joined = self._once(tuple(matrices), lambda: T.join(1, *matrices))
        start = 0
        for matrix in matrices:
            self._places.setdefault(matrix, {})[joined] = start
            start = start + (1 if is_column(matrix) else matrix.shape[1])
        return joined

    def wholes(self, matrix):
        """A matrix and all that it was joined into."""
        return [matrix, *self._places.get(matrix, ())]

    def part(self, result, whole, matrix):
        """Of a result with a column for each of a whole those that belong to a matrix in it."""
        if whole is matrix:
            return result
        start = self._places[matrix][whole]
        if is_column(matrix):
            return result[:, start].dimshuffle(0, "x")
        return result[:, start : start + matrix.shape[1]]


def is_column(matrix):
    """Whether a matrix is known to have one column."""
    return matrix.broadcastable[1]


def dimshuffled(variable):
    """(new order, input) if the variable is all of another, else (None, None)."""
    node = variable.owner
    if node is not None and isinstance(node.op, T.DimShuffle) and not node.op.drop:
        return tuple(node.op.new_order), node.inputs[0]
    return None, None


def filling(node):
    """What an Alloc node fills a matrix with, as a matrix: of one row, column or both, or whole."""
    value = node.inputs[0]
    if value.ndim == 2:
        return value
    return value.dimshuffle(*["x"] * (2 - value.ndim), *range(value.ndim))


def number_filling(variable):
    """The number that all entries of a variable are known to be; None if that is not known."""
    node = variable.owner
    while node is not None and (node.op == T.fill or isinstance(node.op, (T.Alloc, T.DimShuffle))):
        variable = node.inputs[1 if node.op == T.fill else 0]
        node = variable.owner
    if not isinstance(variable, Constant) or not variable.data.size:
        return None
    first = variable.data.flat[0]
    return first if (variable.data == first).all() else None


def _entries(variable, depth=0):
    """Equal for vectors, or matrices of one row or column, that have the same entries in a row."""
    while variable.owner is not None and isinstance(variable.owner.op, T.DimShuffle):
        (variable,) = variable.owner.inputs
    if isinstance(variable, Constant) and variable.data.size == 1:
        return variable.dtype, variable.data.tobytes()
    node = variable.owner
    if node is None or not isinstance(node.op, T.Elemwise) or depth == _DEEPEST:
        return variable
    return (node.op.scalar_op, *(_entries(v, depth + 1) for v in node.inputs))


class OuterProducts:
    """Reads matrices of a graph, with a row for each of x and a column for each of y, as Outers."""

    def __init__(self, fgraph, made, x, y):
        self._fgraph, self._made, self._dtype = fgraph, made, x.dtype
        self.of_ones = Outer(made.ones(x), made.ones(y), None)
        self.of_minus_ones = self.of_ones._replace(number=T.constant(-1, dtype=x.dtype))

    def read(self, matrix, users):
        """The Outer that a matrix is; None if it is none, or if other nodes than these need it.

        Or if it is the sum of several that may be large: matrix products do those as well.
        """
        terms = self._terms(matrix, tuple(users))
        if terms is None or sum(not term.is_thin() for term in terms) > 1:
            return None
        rights = [r if n is None else self._made.times(r, n) for _, r, n in terms]
        lefts = [left for left, _, _ in terms]
        return Outer(self._made.joined(lefts), self._made.joined(rights), None)

    def factor(self, node, matrix, users=()):
        """The Outer by which a node multiplies a matrix, entry by entry; None if it does not.

        Of the other factors one may be an Outer of several columns, which none but users need.
        """
        scalar_op = node.op.scalar_op
        others = [v for v in node.inputs if v is not matrix]
        if len(others) != len(node.inputs) - 1 or node.outputs[0].dtype != self._dtype:
            return None
        if isinstance(scalar_op, scalar_ops.Neg):
            return self.of_minus_ones
        if isinstance(scalar_op, scalar_ops.TrueDiv):
            divides = node.inputs[0] is matrix and any(others[0].broadcastable)
            return self._vector(others[0], divide=True) if divides else None
        if not isinstance(scalar_op, scalar_ops.Mul):
            return None
        factors = [self._vector(v) if any(v.broadcastable) else self.read(v, users) for v in others]
        if None in factors or sum(not factor.is_thin() for factor in factors) > 1:
            return None
        return functools.reduce(self.times, factors)

    def times(self, outer, other):
        """The product, entry by entry, of two Outers of which one is thin."""
        if outer.is_thin():
            outer, other = other, outer
        sides = [self._made.times(a, b) for a, b in zip(outer[:2], other[:2])]
        numbers = [n for n in (outer.number, other.number) if n is not None]
        return Outer(*sides, T.mul(*numbers) if numbers else None)

    def _vector(self, vector, divide=False):
        """A matrix of one row, one column or both, or the inverse, as an Outer."""
        left, right, _ = self.of_ones
        vector = self._made.cast(vector, self._dtype)
        invert = self._made.inverse if divide else lambda v: v
        if all(vector.broadcastable):
            if isinstance(vector, Constant) and (vector.data == 1).all():
                return self.of_ones
            return Outer(left, right, invert(vector.dimshuffle()))
        if vector.broadcastable[1]:
            return Outer(invert(self._made.columns(vector)), right, None)
        return Outer(left, invert(self._made.transposed(vector)), None)

    def _terms(self, matrix, users):
        """[Outer] of which a matrix is the sum, or None."""
        if any(matrix.broadcastable):
            return [self._vector(matrix)]
        node = matrix.owner
        if node is None or matrix.dtype != self._dtype:
            return None
        if isinstance(node.op, T.Alloc):
            return self._terms(filling(node), (node,))
        if not all(user in users for user, _ in clients(self._fgraph, matrix)):
            return None
        if isinstance(node.op, T.Dot):
            first, second = (self._made.cast(v, self._dtype) for v in node.inputs)
            if first.ndim == second.ndim == 2:
                return [Outer(self._made.columns(first), self._made.transposed(second), None)]
        if not isinstance(node.op, T.Elemwise):
            return None
        users += (node,)
        if isinstance(node.op.scalar_op, (scalar_ops.Add, scalar_ops.Sub)):
            terms = [self._terms(v, users) for v in node.inputs]
            if None in terms:
                return None
            if isinstance(node.op.scalar_op, scalar_ops.Sub):
                terms[1] = [self.times(term, self.of_minus_ones) for term in terms[1]]
            return sum(terms, [])
        first = next((v for v in node.inputs if not any(v.broadcastable)), node.inputs[0])
        factor = self.factor(node, first)
        terms = None if factor is None else self._terms(first, users)
        return None if terms is None else [self.times(term, factor) for term in terms]
