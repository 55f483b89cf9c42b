"""Which dimensions have the same length whenever the graph runs, and what that length is.

May import Theano.
"""

import numpy as np
import theano.scalar as scalar_ops
import theano.tensor as T
from theano.tensor.opt import MakeVector, Shape, Shape_i
from theano.tensor.sharedvar import TensorSharedVariable
from theano.tensor.subtensor import IncSubtensor, Subtensor

from rbf_op.fusion.values import all_entries, index_constant, is_elemwise, subtensor_indices
from rbf_op.theano_api import Constant, Minimum, ancestors


class Sizes:
    """Numbers dimensions: two with the same key have the same length whenever the graph runs."""

    def __init__(self, values):
        self._values = values
        self._parent = {}
        self._known = {}
        # Input of a loop's body -> (the variable outside, axes dropped from it); (None, 0) for
        # what a step takes from the one before.
        self.inside = {}

    def dimension(self, variable, axis):
        """Key of variable.shape[axis]: an int, or a sorted tuple of the sizes to be multiplied."""
        known = self._known.get((variable, axis))
        if known is None:
            known = self._known[variable, axis] = self._dimension(variable, axis)
        return self._find(known)

    def _find(self, size):
        if isinstance(size, tuple):
            return self.product([self._find(s) for s in size])
        while size in self._parent:
            size = self._parent[size]
        return size

    @staticmethod
    def product(sizes):
        flat = []
        for size in sizes:
            flat.extend(size if isinstance(size, tuple) else (size,))
        constant = 1
        for size in flat:
            if isinstance(size, int):
                constant *= size
        flat = sorted((s for s in flat if not isinstance(s, int)), key=repr)
        if constant != 1:
            flat.append(constant)
        return flat[0] if len(flat) == 1 else tuple(flat) if flat else 1

    def number(self, variable, axis):
        """A length as constants and shared variables have it now; None if they do not tell."""
        size = self.dimension(variable, axis)
        if isinstance(size, _Dimension) and size.axis is not None:
            source = self._values.variables[size.key]
            if isinstance(source, TensorSharedVariable):
                return source.get_value(borrow=True).shape[size.axis]
        return size if isinstance(size, int) else None

    def equal(self, first, second):
        return self._find(first) == self._find(second)

    def unite(self, first, second):
        """Note that two sizes are equal, because an Op that takes both requires it."""
        first, second = self._find(first), self._find(second)
        if first == second or isinstance(first, tuple) or isinstance(second, tuple):
            return
        if isinstance(first, int):
            first, second = second, first
        if not isinstance(first, int):
            self._parent[first] = second

    def _leaf(self, variable, axis):
        return _Dimension(self._values.key(variable), axis)

    def _dimension(self, variable, axis):
        if variable.broadcastable[axis]:
            return 1
        if isinstance(variable, Constant):
            return int(variable.data.shape[axis])
        node = variable.owner
        if node is None:
            outer, dropped = self.inside.get(variable, (None, 0))
            if outer is not None:
                return self.dimension(outer, axis + dropped)
            return self._leaf(variable, axis)
        op, inputs = node.op, node.inputs
        if isinstance(op, T.Elemwise):
            sizes = [self.dimension(v, axis) for v in inputs if not v.broadcastable[axis]]
            for size in sizes[1:]:
                self.unite(sizes[0], size)
            return sizes[0]
        if isinstance(op, T.DimShuffle):
            return self.dimension(inputs[0], op.new_order[axis])
        if isinstance(op, T.Rebroadcast):
            return self.dimension(inputs[0], axis)
        if isinstance(op, T.elemwise.CAReduce):
            reduced = range(inputs[0].ndim) if op.axis is None else op.axis
            kept = [a for a in range(inputs[0].ndim) if a not in reduced]
            return self.dimension(inputs[0], kept[axis])
        if isinstance(op, T.Dot):
            first, second = inputs
            self.unite(self.dimension(first, first.ndim - 1), self.dimension(second, 0))
            return (
                self.dimension(first, 0)
                if axis == 0 and first.ndim == 2
                else self.dimension(second, 1)
            )
        if isinstance(op, T.Alloc):
            return self.of_scalar(inputs[1 + axis])
        if isinstance(op, T.Reshape):
            lengths = self.of_vector(inputs[1])
            if lengths is not None and lengths[axis] != -1:
                return lengths[axis]
        if isinstance(op, Subtensor):
            place = -1
            for source, entry in enumerate(all_entries(node)):
                place += isinstance(entry, slice)
                if place == axis and isinstance(entry, slice):
                    if self.is_whole(entry, inputs[0], source):
                        return self.dimension(inputs[0], source)
                    break
        if isinstance(op, T.AllocDiag) and inputs[0].ndim == 1 and op.offset == 0:
            return self.dimension(inputs[0], 0)
        if isinstance(op, T.ExtractDiag) and inputs[0].ndim == 2 and op.offset == 0:
            rows, columns = (self.dimension(inputs[0], a) for a in (0, 1))
            if self.equal(rows, columns):
                return rows
        if isinstance(op, IncSubtensor):
            while isinstance(inputs[0].owner.op if inputs[0].owner else None, IncSubtensor):
                inputs = inputs[0].owner.inputs
            return self.dimension(inputs[0], axis)
        if isinstance(op, MakeVector):
            return len(inputs)
        if isinstance(op, T.ARange) and (index_constant(inputs[0]), index_constant(inputs[2])) == (
            0,
            1,
        ):
            count = self.of_scalar(inputs[1])
            if isinstance(count, int) and count >= 0 or self.is_shape(count):
                return count
        if isinstance(op, T.Join):
            joined = index_constant(inputs[0])
            if joined is not None and joined != axis:
                return self.dimension(inputs[1], axis)
            if joined is not None and all(v.broadcastable[axis] for v in inputs[1:]):
                return len(inputs) - 1
        return self._leaf(variable, axis)

    def is_whole(self, entry, variable, axis):
        """Whether a slice takes a whole axis, in its order."""
        start, stop, step = entry.start, entry.stop, entry.step
        for bound, default in ((start, 0), (step, 1)):
            if bound is not None and index_constant(bound) != default:
                return False
        if stop is None:
            return True
        size = self.of_scalar(stop)
        return not isinstance(size, int) and size == self.dimension(variable, axis)

    def of_scalar(self, variable):
        """Key of an integer scalar that is used as a size."""
        value = index_constant(variable)
        if value is not None:
            return value
        while True:
            node = variable.owner
            if node is None:
                outer, dropped = self.inside.get(variable, (None, 0))
                if outer is None or dropped:
                    break
                variable = outer
                continue
            op, inputs = node.op, node.inputs
            if isinstance(op, (T.ScalarFromTensor, T.TensorFromScalar, T.DimShuffle)):
                variable = inputs[0]
            elif (
                is_elemwise(node, scalar_ops.Cast, scalar_ops.Identity)
                or isinstance(op, scalar_ops.Cast)
            ) and inputs[0].dtype.startswith(("int", "uint")):
                variable = inputs[0]
            elif isinstance(op, Shape_i):
                return self.dimension(inputs[0], op.i)
            elif isinstance(op, Subtensor) and inputs[0].ndim == 1:
                (entry,) = subtensor_indices(node)
                sizes = self.of_vector(inputs[0])
                position = None if isinstance(entry, slice) else index_constant(entry)
                if sizes is None or position is None or not -len(sizes) <= position < len(sizes):
                    break
                return sizes[position]
            elif is_elemwise(node, Minimum):  # how scan finds the number of its steps
                sizes = [self.of_scalar(v) for v in inputs]
                if not all(self.equal(size, sizes[0]) for size in sizes):
                    break
                return sizes[0]
            elif is_elemwise(node, scalar_ops.Mul) or isinstance(op, scalar_ops.Mul):
                return self.product([self.of_scalar(v) for v in inputs])
            else:
                break
        return _Dimension(self._values.key(variable), None)

    def of_vector(self, variable):
        """Keys of the entries of a vector of sizes, or None."""
        if isinstance(variable, Constant):
            return [int(v) for v in np.ravel(variable.data)]
        if variable.owner is None:
            outer, dropped = self.inside.get(variable, (None, 0))
            return None if outer is None or dropped else self.of_vector(outer)
        node = variable.owner
        op, inputs = node.op, node.inputs
        if isinstance(op, MakeVector):
            return [self.of_scalar(v) for v in inputs]
        if isinstance(op, Shape):
            return [self.dimension(inputs[0], a) for a in range(inputs[0].ndim)]
        if isinstance(op, T.Join) and index_constant(inputs[0]) == 0:
            parts = [self.of_vector(v) for v in inputs[1:]]
            return None if any(p is None for p in parts) else [s for p in parts for s in p]
        if isinstance(op, Subtensor):
            whole = self.of_vector(inputs[0])
            (entry,) = subtensor_indices(node)
            if whole is None or not isinstance(entry, slice):
                return None
            limits = []
            for bound in (entry.start, entry.stop, entry.step):
                value = None if bound is None else index_constant(bound)
                if bound is not None and value is None:
                    return None
                limits.append(value)
            return whole[slice(*limits)]
        if isinstance(op, T.DimShuffle) and list(op.new_order) == ["x"]:
            return [self.of_scalar(inputs[0])]
        if is_elemwise(node, scalar_ops.Cast):
            return self.of_vector(inputs[0])
        return None

    def is_shape(self, size):
        """Whether a key is made of lengths of dimensions (and not of some other integer)."""
        size = self._find(size)
        if isinstance(size, tuple):
            return all(isinstance(s, int) or self.is_shape(s) for s in size)
        return isinstance(size, _Dimension) and size.axis is not None

    def expression(self, size):
        """A Theano integer scalar for a key; None if it has none."""
        size = self._find(size)
        if isinstance(size, int):
            return T.constant(size, dtype="int64")
        if isinstance(size, tuple):
            factors = [self.expression(s) for s in size]
            return None if any(f is None for f in factors) else T.mul(*factors)
        variable = self._values.variables[size.key]
        if self.inside and any(v in self.inside for v in ancestors([variable])):
            return None
        return variable if size.axis is None else variable.shape[size.axis]


class _Dimension:
    """The length of one axis of a variable, or (axis None) an integer scalar itself."""

    __slots__ = ("key", "axis")

    def __init__(self, key, axis):
        self.key, self.axis = key, axis

    def __eq__(self, other):
        return isinstance(other, _Dimension) and (self.key, self.axis) == (other.key, other.axis)

    def __hash__(self):
        return hash((self.key, self.axis))

    def __repr__(self):
        return "%s.%s" % (self.key, self.axis)
