"""The Reader: goes from a result to its inputs with an index for each axis.

What it makes of an Op is said in the modules beside it; what none of them understands becomes a
leaf. May import Theano.
"""

import numpy as np
import theano.scalar as scalar_ops
import theano.tensor as T
from theano.tensor.subtensor import Subtensor

from rbf_op.fusion import matching
from rbf_op.fusion.algebra import (
    Extent,
    Fixed,
    Leaf,
    Symbol,
    TooManyTerms,
    is_even,
    leaves_of,
    number,
    of_factor,
    positions_of,
    scale,
)
from rbf_op.fusion.reading.frames import outside
from rbf_op.fusion.signs import Integers
from rbf_op.fusion.values import is_elemwise, scalar_constant, subtensor_indices

# How an addition is treated. In an exponent it is taken apart (LINEAR). Next to other factors it
# is one factor, and a sum or product of matrices is taken apart only if one term comes out
# (SCALE). Inside a square or a matrix product (WHOLE) whatever belongs to rows alone, or to
# columns alone, is one thing, such as the output of a network's layer.
# Other modes are objects with a method read(reader, variable, index, frame): powers.Raised,
# exponentials.LOGARITHM.
LINEAR, SCALE, WHOLE = "linear", "scale", "whole"

# Pairs of classes of Ops and reader(Reader, variable, index, mode, frame), which gives None for
# what it does not understand: for Ops that compute something, for Ops that move entries about.
# The modules beside this one have them, __init__.py puts them in.
COMPUTING, MOVING = [], []

_DEEPEST = 100
_LONGEST = 100000  # steps of reading one expression: seconds


class Unreadable(Exception):
    """The expression cannot be written over the indices asked for."""


class TooLong(Exception):
    """Reading the expression takes too many steps."""


class Reader:
    """Reads expressions for one candidate, whose rows and columns are numbered by `roots`.

    `passed` collects the variables that were looked through, `opened` those among them that depend
    on both rows and columns: what a fused node makes superfluous. With `separate`, exponentials of
    rows or columns alone count as parts of the exponent; otherwise as factors before it.

    Rows may be numbered by several indices, the `members`, as in a batch of matrices: leaves are
    flattened over them. `closed` variables are not looked through.
    """

    def __init__(
        self, values, sizes, signs, roots, tolerance, separate=False, members=(), closed=()
    ):
        self.values = values
        self.sizes = sizes
        self.signs = signs
        self.roots = roots
        self.tolerance = tolerance
        self.separate = separate
        self.members = members
        self.closed = closed
        self.natural = {}  # of a leaf whose rows were flattened: the members that it had
        self.opened = set()
        self.passed = set()
        self.in_parts = False  # reading a part of what assembled.py puts together
        self.block = False  # rows and columns are the first ones of a larger matrix
        self.frames = {}
        self.required = []  # [length, length]: what is looked through needs them to be equal
        self.leaves = {}  # key: the variable that was read, of those that are equal
        self.integers = Integers()
        self._places = {}
        self._memory = {}
        self._depth = self._steps = 0

    # -- what an expression depends on -----------------------------------------------------------

    def dependence(self, variable, index, frame):
        """Which of rows and columns an expression depends on."""
        found = {s for axis in index for entry in axis for s in positions_of(entry)}
        if frame is not None:
            found |= frame.dependence(variable)
        if self.members:
            found = {self.roots[0] if s in self.members else s for s in found}
        found.intersection_update(self.roots)
        return found | self.places(variable) if self.in_parts else found

    def places(self, variable):
        """The constant positions, as in x[3], that an expression is made of.

        Where a matrix is put together of parts these are what rows and columns will be.
        """
        known = self._places.get(variable)
        if known is None:
            node = variable.owner
            if node is None:
                known = frozenset()
            elif isinstance(node.op, Subtensor) and not all(
                isinstance(entry, slice) for entry in subtensor_indices(node)
            ):
                known = frozenset([self.values.key(variable)])
            else:
                known = frozenset().union(*(self.places(v) for v in node.inputs))
            self._places[variable] = known
        return known

    def mixes(self, variable, index, frame):
        return len(self.dependence(variable, index, frame)) > 1

    def readable(self, variable):
        """Whether a variable may be taken apart: a float, or integers that are exact as floats.

        Where integers overflow, the sum of products that they are read as does not.
        """
        if variable in self.closed:
            return False
        return variable.dtype.startswith("float") or self.integers.exact(variable)

    def under_sum(self, index):
        """Whether an index has symbols that a sum runs over."""
        symbols = {s for axis in index for entry in axis for s in positions_of(entry)}
        return any(isinstance(s, Symbol) and s not in self.roots + self.members for s in symbols)

    # -- reading ---------------------------------------------------------------------------------

    def read(self, variable, index, mode=LINEAR, frame=None):
        """The polynomial of variable[index]."""
        self._depth += 1
        try:
            return self.remembered(Reader._read, variable, index, mode, frame)
        finally:
            self._depth -= 1

    def remembered(self, function, *arguments):
        """function(self, *arguments), called once for the same arguments."""
        key = (function, self.in_parts) + arguments
        known = self._memory.get(key)
        if known is None:
            self._steps += 1
            if self._steps > _LONGEST:
                raise TooLong()
            known = self._memory[key] = function(self, *arguments)
        return known

    def _read(self, variable, index, mode, frame):
        if not isinstance(mode, str):
            return mode.read(self, variable, index, frame)
        value = scalar_constant(variable)
        if value is not None:
            if np.isfinite(value):
                self.note_opened(variable, index, frame)
                return number(value)
            return self.leaf(variable, index, mode, frame)
        result = None
        if self.may_open(variable) and self.readable(variable) and variable.dtype != "float16":
            result = self.read_by(COMPUTING, variable, index, mode, frame)
            if result is None:
                result = self.read_by(MOVING, variable, index, mode, frame)
        return self.leaf(variable, index, mode, frame) if result is None else result

    def may_open(self, variable):
        """Whether to look at what a variable is computed from, as far as is known without it."""
        return (
            variable.owner is not None and variable not in self.closed and self._depth <= _DEEPEST
        )

    def read_by(self, readers, variable, index, mode, frame):
        """What the first of `readers` that understands the variable's Op makes of it, or None."""
        for classes, reader in readers:
            if isinstance(variable.owner.op, classes):
                try:
                    result = reader(self, variable, index, mode, frame)
                except TooManyTerms:
                    result = None
                if result is not None:
                    self.note_opened(variable, index, frame)
                    return result
        return None

    def note_opened(self, variable, index, frame):
        """Remember that a variable was looked through."""
        if frame is None:
            self.passed.add(variable)
            if self.mixes(variable, index, frame):
                self.opened.add(variable)

    def require(self, first, second):
        """Note that two lengths must be equal, or else the graph fails, as it does now."""
        if not self.sizes.equal(first, second):
            lengths = [self.sizes.expression(size) for size in (first, second)]
            if None not in lengths:  # as lengths in a loop are
                self.required.append(lengths)
            self.sizes.unite(first, second)

    # -- leaves ----------------------------------------------------------------------------------

    def leaf(self, variable, index, mode, frame):
        if frame is None:
            if all(variable.broadcastable):
                if variable.dtype == "int64" and variable.owner is not None:
                    (inner, *_) = variable.owner.inputs
                    if isinstance(variable.owner.op, T.DimShuffle):
                        return self.leaf(inner, ((),) * inner.ndim, mode, frame)
                    if is_elemwise(variable.owner, scalar_ops.Neg):  # minus a length
                        return scale(self.leaf(inner, index, mode, frame), -1)
                size = self.sizes.of_scalar(variable)
                if self.sizes.is_shape(size):
                    return of_factor(Extent(size))
            elif len(index) == 1 and len(index[0]) == 1 and isinstance(index[0][0], Fixed):
                lengths = None if variable.owner is None else self.sizes.of_vector(variable)
                size = lengths[index[0][0].position] if lengths else None
                if size is not None and self.sizes.is_shape(size):
                    return of_factor(Extent(size))
            return self.leaf_of(variable, index)
        if variable in frame.sequences:
            outer = frame.sequences[variable]
            return self.read(outer, ((frame.step,),) + index, mode, frame.parent)
        if variable in frame.others:
            return self.read(frame.others[variable], index, mode, frame.parent)
        outer = outside(variable, frame)
        if outer is None:
            raise Unreadable("the loop computes something of each row that cannot be undone")
        return self.leaf_of(outer, index)

    def leaf_of(self, variable, index, power=1):
        """variable[index]**power as one factor."""
        if self.members:
            variable, index = self._with_rows_as_one(variable, index)
        return of_factor(Leaf(self.key_of(variable), index), power)

    def _with_rows_as_one(self, variable, index):
        """(variable, index) with the axes of rows flattened, repeated where it has not all."""
        entries = [entry for axis in index for entry in axis]
        present = [s for s in self.members if any(s in positions_of(e) for e in entries)]
        if not present:
            return variable, index
        if any(len(axis) > 1 for axis in index):
            variable, index = self._with_axes_apart(variable, index)
        places = {}
        for axis, its_entries in enumerate(index):
            for entry in its_entries:
                places.setdefault(entry, []).append(axis)
        if any(len(places.get(s, ())) != 1 for s in present):
            raise Unreadable("part of it takes the same row twice, or rows by their indices")
        axes = [places[s][0] for s in present]
        rest = [a for a in range(variable.ndim) if a not in axes and not variable.broadcastable[a]]
        order = [places[s][0] if s in places else "x" for s in self.members] + rest
        lengths = [
            variable.shape[places[s][0]] if s in places else self.sizes.expression(s.size)
            for s in self.members
        ]
        if any(length is None for length in lengths):
            raise Unreadable("its rows have a length inside a loop")
        others = [variable.shape[a] for a in rest]
        whole = variable.dimshuffle(*order)
        if len(present) < len(self.members):
            whole = T.alloc(whole, *(lengths + others))
        flat = T.reshape(whole, [T.mul(*lengths)] + others, ndim=1 + len(rest))
        self.natural[self.values.key(flat)] = frozenset(present)
        row = self.roots[0]
        return flat, ((row,),) + tuple(index[a] for a in rest)

    def _with_axes_apart(self, variable, index):
        """(variable, index) with each flattened pair of indices made an axis for each."""
        lengths = []
        for axis, entries in enumerate(index):
            if len(entries) < 2:
                lengths.append(variable.shape[axis])
                continue
            if not all(isinstance(entry, Symbol) for entry in entries):
                raise Unreadable("part of it runs over a flattened pair of indices")
            lengths += [self.sizes.expression(symbol.size) for symbol in entries]
        if any(length is None for length in lengths):
            raise Unreadable("its rows have a length inside a loop")
        flat = [axis if len(axis) < 2 else (e,) for axis in index for e in (axis or (None,))]
        return T.reshape(variable, lengths, ndim=len(lengths)), tuple(flat)

    def members_of(self, product):
        """Which of the axes of rows a product depends on by itself, not by being repeated."""
        members = (self.natural.get(leaf.key, ()) for leaf in leaves_of(product))
        return frozenset().union(*members)

    # -- what is known of them -------------------------------------------------------------------

    def key_of(self, variable):
        """The key of a leaf, which from then on stands for this variable of all that are equal."""
        key = self.values.key(variable)
        self.leaves.setdefault(key, variable)
        return key

    def variable(self, key):
        """The variable that a key is of: of several equal ones that which was read."""
        return self.leaves.get(key, self.values.variables[key])

    def sign(self, polynomial):
        """1, -1 or None: the sign that the polynomial is known to have."""
        row, column = (tuple(self.roots) + (None, None))[:2]
        return matching.sign(polynomial, row, column, self, self.tolerance)

    def is_positive(self, key):
        return self.signs.positive(self.values.variables[key])

    def is_nonnegative(self, key):
        return self.signs.nonnegative(self.values.variables[key])

    def is_flat_at_zero(self, key, power):
        """Whether a power of a leaf has no derivative where it is zero."""
        variable = self.values.variables[key]
        if is_even(power):
            return not is_elemwise(variable.owner, scalar_ops.Sqrt)
        judge = self.signs.positive if variable in self.closed else self.signs.flat_at_zero
        return judge(variable)

    def same(self, first, second):
        return self.values.key(first) == self.values.key(second)


def moves_entries(variable):
    """Whether a variable is another one's entries in other places."""
    node = variable.owner
    return node is not None and any(isinstance(node.op, classes) for classes, _ in MOVING)


def widens(source, target):
    """Whether NumPy calls a cast safe, and neither is float16. (Of integers of 64 bits a float64
    holds those up to 2^53.)"""
    return np.can_cast(source, target, "safe") and target != "float16" and source != "float16"


def keeps_values(node):
    """Whether a node computes in a type that holds its inputs: a quotient of integers is a float32
    if floatX is."""
    return all(widens(v.dtype, node.outputs[0].dtype) for v in node.inputs)


def index_of(variable, index):
    """An index into what a variable is broadcast to, as one into itself: its axes of length one
    have no entries."""
    return tuple(() if b else axis for b, axis in zip(variable.broadcastable, index))
