"""What is known of variables without running anything: which are equal, their sizes, their signs.

Values numbers variables so that two that are computed alike get one number; Sizes does the same for
dimensions; Signs tells which are never negative. May import Theano.
"""

import numpy as np
import theano.scalar as scalar_ops
import theano.tensor as T
from theano.tensor.opt import MakeVector, Shape, Shape_i
from theano.tensor.subtensor import IncSubtensor, Subtensor, get_idx_list

from rbf_op.theano_api import Constant, Maximum, Minimum


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
    """Whether a node applies one of some scalar Ops, given one by one or as tuples, to entries."""
    return isinstance(node.op, T.Elemwise) and isinstance(node.op.scalar_op, classes)


def subtensor_indices(node):
    """The index list of a Subtensor node, its symbolic parts filled in."""
    return get_idx_list(node.inputs, node.op.idx_list)


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
            return self.dimension(inputs[0], 0)
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
        if self._is_inside(variable):
            return None
        return variable if size.axis is None else variable.shape[size.axis]

    def _is_inside(self, variable):
        """Whether a variable is computed in a loop's body."""
        stack, seen = [variable], set()
        while stack and self.inside:
            current = stack.pop()
            if current in self.inside:
                return True
            if current not in seen and current.owner is not None:
                stack.extend(current.owner.inputs)
            seen.add(current)
        return False


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


def index_constant(value):
    if isinstance(value, (int, np.integer)):
        return int(value)
    constant = scalar_constant(value) if hasattr(value, "owner") else None
    return int(constant) if constant is not None and constant == int(constant) else None


def all_entries(node):
    """The index list of a Subtensor node with the axes that it leaves whole spelled out."""
    entries = list(subtensor_indices(node))
    return entries + [slice(None)] * (node.inputs[0].ndim - len(entries))


class Signs:
    """Which variables are known never to be negative, or always to be positive."""

    def __init__(self):
        self._known = {}

    def nonnegative(self, variable):
        return self._sign(variable, 0)[0]

    def positive(self, variable):
        return self._sign(variable, 0)[1]

    def _sign(self, variable, depth):
        """(never negative, always positive)."""
        known = self._known.get(variable)
        if known is None:
            known = self._known[variable] = (
                (False, False) if depth > 100 else self._judge(variable, depth + 1)
            )
        return known

    def _judge(self, variable, depth):
        dtype = getattr(variable, "dtype", "")
        if dtype.startswith(("uint", "bool")):
            return True, False
        if isinstance(variable, Constant):
            data = np.asarray(variable.data)
            if data.dtype.kind not in "fiub":
                return False, False
            return bool((data >= 0).all()), bool((data > 0).all())
        node = variable.owner
        if node is None:
            return False, False
        op, inputs = node.op, node.inputs
        through = (T.DimShuffle, T.Reshape, T.Alloc, Subtensor, T.ExtractDiag, T.Rebroadcast)
        if isinstance(op, through):
            return self._sign(inputs[0], depth)
        if isinstance(op, Shape_i) or isinstance(op, Shape):
            return True, False
        if isinstance(op, T.elemwise.CAReduce):
            name = getattr(op.scalar_op, "name", "")
            nonnegative, positive = self._sign(inputs[0], depth)
            return nonnegative, positive and name in ("maximum", "minimum")
        if isinstance(op, T.nnet.Softmax):
            return True, False
        if not isinstance(op, T.Elemwise):
            return False, False
        return self._judge_elemwise(op.scalar_op, inputs, depth)

    def _judge_elemwise(self, op, inputs, depth):
        if isinstance(op, (scalar_ops.Exp, scalar_ops.Exp2)) or type(op).__name__ in (
            "Softplus",
            "ScalarSoftplus",
            "ScalarSigmoid",
        ):
            return True, False  # they underflow
        if isinstance(op, (scalar_ops.Sqr, scalar_ops.Abs)):
            return True, self._sign(inputs[0], depth)[1]
        signs = [self._sign(v, depth) for v in inputs]
        everywhere = tuple(all(column) for column in zip(*signs))
        if isinstance(op, (scalar_ops.Mul, scalar_ops.TrueDiv, scalar_ops.Inv, scalar_ops.Sqrt)):
            if isinstance(op, scalar_ops.Sqrt):
                return True, everywhere[1]
            return everywhere
        if isinstance(op, scalar_ops.Add):
            if _is_rectified(inputs):
                return True, False
            return everywhere[0], everywhere[0] and any(positive for _, positive in signs)
        if isinstance(op, (scalar_ops.Cast, scalar_ops.Identity)):
            return everywhere
        if isinstance(op, scalar_ops.Second):
            return signs[1]
        if isinstance(op, Maximum):
            return any(s[0] for s in signs), any(s[1] for s in signs)
        if isinstance(op, scalar_ops.Clip):
            return signs[1]
        if isinstance(op, scalar_ops.Pow):
            exponent = scalar_constant(inputs[1])
            even = exponent is not None and exponent == int(exponent) and int(exponent) % 2 == 0
            return even or signs[0][0], signs[0][1]
        return False, False


def _is_rectified(terms):
    """Whether a sum is u + |u|, half of which is relu(u)."""
    return len(terms) == 2 and any(
        b.owner is not None and is_elemwise(b.owner, scalar_ops.Abs) and b.owner.inputs[0] is a
        for a, b in (terms, terms[::-1])
    )


class Integers:
    """Which integer arrays are sums of products of such as a float64 holds exactly.

    Such as coordinates on a grid. Narrow and unsigned integers wrap around too easily, and large
    ones of 64 bits, such as times in nanoseconds, would lose digits.
    """

    _OPS = (
        scalar_ops.Add,
        scalar_ops.Sub,
        scalar_ops.Mul,
        scalar_ops.Neg,
        scalar_ops.Abs,
        scalar_ops.Sqr,
        scalar_ops.Pow,
        scalar_ops.Cast,
        scalar_ops.Identity,
        scalar_ops.Second,
    )
    _MOVING = (T.DimShuffle, T.Reshape, T.Alloc, T.Rebroadcast, Subtensor)

    def __init__(self):
        self._known = {}

    def exact(self, variable):
        """Whether a variable may be taken apart."""
        if variable not in self._known:
            self._known[variable] = self._judge(variable)
        return self._known[variable]

    def _judge(self, variable):
        node = variable.owner
        if node is None or variable.dtype not in ("int32", "int64") or all(variable.broadcastable):
            return False
        if isinstance(node.op, T.Elemwise):
            if not isinstance(node.op.scalar_op, self._OPS):
                return False
            if isinstance(node.op.scalar_op, scalar_ops.Pow):
                if scalar_constant(node.inputs[1]) not in (2, 3, 4):
                    return False
            return all(self._held(v) for v in node.inputs)
        if isinstance(node.op, (T.elemwise.Sum,) + self._MOVING):
            return self._held(node.inputs[0])
        return False

    def _held(self, variable):
        """Whether a float64 holds every value of a variable, or of what it is computed from."""
        if variable.dtype in ("int8", "int16", "int32", "uint8", "uint16"):
            return True
        if variable.dtype != "int64":
            return False
        if isinstance(variable, Constant):
            return bool(np.abs(variable.data).max(initial=0) <= 2**31)
        node = variable.owner
        if node is not None and isinstance(node.op, self._MOVING):
            return self._held(node.inputs[0])
        return node is not None and isinstance(node.op, T.ARange) or self.exact(variable)
