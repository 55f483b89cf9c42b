"""From a Theano graph to algebra.py's polynomials: the expression at one position of its indices.

Reading goes from the result to the inputs with an index for each axis, so that whatever only moves
entries about (dimshuffle, reshape, repeat, tile, diagonal, loops) merely changes the index. What is
not understood becomes a leaf. May import Theano.
"""

import math
from collections import namedtuple
from fractions import Fraction

import numpy as np
import theano.scalar as scalar_ops
import theano.tensor as T
from theano.tensor.blas import BatchedDot
from theano.tensor.subtensor import Subtensor

from rbf_op.fusion import matching
from rbf_op.fusion.algebra import (
    Absolute,
    Bounded,
    Extent,
    Fixed,
    Gathered,
    Leaf,
    Sum,
    Symbol,
    TooManyTerms,
    add,
    is_even,
    limits_within,
    multiply,
    number,
    of_factor,
    positions_of,
    power_of,
    product_of,
    product_symbols,
    scale,
    single,
    sum_over,
)
from rbf_op.fusion.values import (
    Integers,
    all_entries,
    index_constant,
    is_elemwise,
    scalar_constant,
    subtensor_indices,
)
from rbf_op.fusion.writing import Writer
from rbf_op.theano_api import Constant, Maximum, Minimum, clone

# How an addition is treated. In an exponent it is taken apart (LINEAR). Next to other factors it
# is one factor, and a sum or product of matrices is taken apart only if one term comes out
# (SCALE). Inside a square or a matrix product (WHOLE) whatever belongs to rows alone, or to
# columns alone, is one thing, such as the output of a network's layer.
# LOGARITHM reads a product of exponentials and of factors before them as a Logarithm.
LINEAR, SCALE, WHOLE, LOGARITHM = "linear", "scale", "whole", "logarithm"

# exp(exponent) * amplitude; both polynomials, the amplitude of one term.
Logarithm = namedtuple("Logarithm", "exponent amplitude")


_DEEPEST = 100
_DEEPEST_LIMITS = 3  # within one another: each is written out wherever it occurs
_LONGEST = 100000  # steps of reading one expression: seconds


class Unreadable(Exception):
    """The expression cannot be written over the indices asked for."""


class TooLong(Exception):
    """Reading the expression takes too many steps."""


# variable ** power, the power to be applied further inside: below Ops that only move entries.
Raised = namedtuple("Raised", "power mode")


class Frame:
    """One step of a loop: what its inner variables are outside, at the step numbered `step`.

    results are the inner variables of what a loop stacks up, by the variable outside; states are
    those (before the step, after it) of what it changes from step to step.
    """

    def __init__(self, sequences, others, results, states, step, parent):
        self.sequences = sequences
        self.others = others
        self.results = results
        self.states = states
        self.step = step
        self.parent = parent
        self._dependence = {}

    def dependence(self, variable):
        """The steps (symbols) of this loop and those around it that a variable depends on."""
        known = self._dependence.get(variable)
        if known is None:
            if variable in self.sequences:
                known = {self.step} | self._outside(self.sequences[variable])
            elif variable in self.others:
                known = self._outside(self.others[variable])
            elif variable.owner is None:
                known = set()
            else:
                known = set().union(*(self.dependence(v) for v in variable.owner.inputs))
            self._dependence[variable] = known
        return known

    def _outside(self, variable):
        return set() if self.parent is None else self.parent.dependence(variable)


def _is_whole(leaf):
    """Whether a leaf stands for all entries of its variable, not for some positions."""
    return not any(isinstance(entry, (Fixed, Gathered)) for axis in leaf.index for entry in axis)


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
        self.in_parts = False  # reading a part of what loops.py puts together
        self.block = False  # rows and columns are the first ones of a larger matrix
        self.frames = {}
        self.rooted = set()  # keys of variables of which the graph takes the square root
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

    # -- reading ---------------------------------------------------------------------------------

    def read(self, variable, index, mode=LINEAR, frame=None):
        """The polynomial of variable[index]."""
        self._depth += 1
        try:
            return self._remembered(self._read, variable, index, mode, frame)
        finally:
            self._depth -= 1

    def _remembered(self, method, *arguments):
        """method(*arguments), called once for the same arguments."""
        key = (method.__name__, self.in_parts) + arguments
        known = self._memory.get(key)
        if known is None:
            self._steps += 1
            if self._steps > _LONGEST:
                raise TooLong()
            known = self._memory[key] = method(*arguments)
        return known

    def _read(self, variable, index, mode, frame):
        if mode is LOGARITHM:
            return self._read_logarithm(variable, index, frame)
        if isinstance(mode, Raised):
            return self._read_raised(variable, index, mode, frame)
        value = scalar_constant(variable)
        if value is not None:
            if np.isfinite(value):
                self.note_opened(variable, index, frame)
                return number(value)
            return self.leaf(variable, index, mode, frame)
        node = variable.owner
        if (
            node is None
            or self._depth > _DEEPEST
            or variable.dtype == "float16"
            or not self.readable(variable)
        ):
            return self.leaf(variable, index, mode, frame)
        result = self._read_by(_READERS, variable, index, mode, frame)
        return self.leaf(variable, index, mode, frame) if result is None else result

    def _read_by(self, readers, variable, index, mode, frame):
        """What the first reader for the variable's Op makes of it; None if there is none."""
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

    def _read_raised(self, variable, index, mode, frame):
        result = None
        opens = variable not in self.closed and self._depth <= _DEEPEST
        if opens and moves_entries(variable):
            result = self._read_by(_MOVING, variable, index, mode, frame)
            if result is None:
                return self._power_of_read(variable, index, mode.power, mode.mode, frame)
            return result
        return self.power(variable, index, mode.power, mode.mode, frame)

    def note_opened(self, variable, index, frame):
        """Remember that a variable was looked through."""
        if frame is None:
            self.passed.add(variable)
            if self.mixes(variable, index, frame):
                self.opened.add(variable)

    # -- products of exponentials ----------------------------------------------------------------

    def _read_logarithm(self, variable, index, frame):
        node = variable.owner
        # A part may be a kernel of one point with itself, which depends on that one only.
        simple = not (self.separate or self.in_parts or self.mixes(variable, index, frame))
        simple = simple or variable in self.closed
        if node is not None and not simple and variable.dtype.startswith("float"):
            for classes, reader in _LOGARITHM_READERS:
                if isinstance(node.op, classes):
                    result = reader(self, variable, index, LOGARITHM, frame)
                    if result is not None:
                        self.note_opened(variable, index, frame)
                        return result
            if frame is not None and (variable in frame.sequences or variable in frame.others):
                return self.leaf(variable, index, LOGARITHM, frame)
        if self.mixes(variable, index, frame):
            raise Unreadable("a factor depends on both row and column")
        amplitude = self.read(variable, index, SCALE, frame)
        if len(amplitude) != 1:
            raise Unreadable("a factor is zero or a sum")
        return Logarithm({}, amplitude)

    def _logarithm_elemwise(self, variable, index, mode, frame):
        node = variable.owner
        op = node.op.scalar_op
        operands = [(v, index_of(v, index)) for v in node.inputs]
        if isinstance(op, scalar_ops.Exp):
            return Logarithm(self.read(*operands[0], mode=LINEAR, frame=frame), number(1))
        if isinstance(op, scalar_ops.Exp2):
            exponent = self.read(*operands[0], mode=LINEAR, frame=frame)
            return Logarithm(scale(exponent, Fraction(math.log(2))), number(1))
        power = _exponent(op, node)
        if power is not None:
            base = self.read(*operands[0], mode=mode, frame=frame)
            coefficient, product = single(base.amplitude)
            if power.denominator != 1 and (coefficient, product) != (1, frozenset()):
                return None
            amplitude = {power_of(product, power): coefficient ** int(power)}
            if power.denominator != 1:
                amplitude = number(1)
            return Logarithm(scale(base.exponent, power), amplitude)
        if isinstance(op, scalar_ops.Pow):
            base, exponent = operands
            value = scalar_constant(base[0])
            if value is not None and value > 0 and math.isfinite(value):
                factor = Fraction(math.log(value))
                return Logarithm(
                    scale(self.read(*exponent, mode=LINEAR, frame=frame), factor), number(1)
                )
            base = self.read(*base, mode=mode, frame=frame)
            if base.amplitude != number(1):
                return None
            exponent = self.read(*exponent, mode=SCALE, frame=frame)
            return Logarithm(multiply(base.exponent, exponent), number(1))
        if isinstance(op, (scalar_ops.Identity, scalar_ops.Neg)) or (
            isinstance(op, scalar_ops.Cast) and widens(node.inputs[0].dtype, variable.dtype)
        ):
            inner = self.read(*operands[0], mode=mode, frame=frame)
            if isinstance(op, scalar_ops.Neg):
                inner = Logarithm(inner.exponent, scale(inner.amplitude, -1))
            return inner
        if isinstance(op, scalar_ops.Second):
            return self.read(*operands[1], mode=mode, frame=frame)
        if isinstance(op, (scalar_ops.Mul, scalar_ops.TrueDiv)):
            exponent, amplitude = {}, number(1)
            for position, (v, i) in enumerate(operands):
                part = self.read(v, i, mode, frame)
                if isinstance(op, scalar_ops.TrueDiv) and position == 1:
                    coefficient, product = single(part.amplitude)
                    part = Logarithm(
                        scale(part.exponent, -1), {power_of(product, Fraction(-1)): 1 / coefficient}
                    )
                exponent = add(exponent, part.exponent)
                amplitude = multiply(amplitude, part.amplitude)
            return Logarithm(exponent, amplitude)
        return None

    def _logarithm_product(self, variable, index, mode, frame):
        """A product over features of exponentials, which is the exponential of the sum."""
        source = variable.owner.inputs[0]
        if not widens(source.dtype, variable.dtype):
            return None
        inner, bounds = self._with_bounds(variable.owner, index)
        terms = self.read(source, inner, mode, frame)
        if terms.amplitude != number(1):
            return None
        exponent = terms.exponent
        for bound in bounds:
            exponent = sum_over(bound, exponent)
        return Logarithm(exponent, number(1))

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
        found = frozenset()
        for factor, _ in product:
            if isinstance(factor, Leaf):
                found |= self.natural.get(factor.key, frozenset())
            elif isinstance(factor, (Sum, Absolute)):
                found |= self.members_of(factor.product)
            elif isinstance(factor, Bounded):
                found = found.union(*(self.members_of(p) for p, _ in factor.terms))
        return found

    def sign(self, polynomial):
        """1, -1 or None: the sign that the polynomial is known to have."""
        row, column = (tuple(self.roots) + (None, None))[:2]
        return matching.sign(
            polynomial,
            row,
            column,
            self,
            self.tolerance,
        )

    def key_of(self, variable):
        """The key of a leaf, which from then on stands for this variable of all that are equal."""
        key = self.values.key(variable)
        self.leaves.setdefault(key, variable)
        return key

    def variable(self, key):
        """The variable that a key is of: of several equal ones that which was read."""
        return self.leaves.get(key, self.values.variables[key])

    def under_root(self, key):
        """Whether the graph takes the root of it, and it may be negative."""
        return key in self.rooted and not self.signs.nonnegative(self.values.variables[key])

    def is_positive(self, key):
        return key in self.rooted or self.signs.positive(self.values.variables[key])

    def is_nonnegative(self, key):
        return key in self.rooted or self.signs.nonnegative(self.values.variables[key])

    def same(self, first, second):
        return self.values.key(first) == self.values.key(second)

    # -- Elemwise --------------------------------------------------------------------------------

    def _elemwise(self, variable, index, mode, frame):
        node = variable.owner
        op = node.op.scalar_op
        operands = [(v, index_of(v, index)) for v in node.inputs]

        def operand(position, mode=mode):
            v, i = operands[position]
            return self.read(v, i, mode, frame)

        if isinstance(op, (scalar_ops.Add, scalar_ops.Sub)):
            if isinstance(op, scalar_ops.Sub) and self.same(*node.inputs):
                return {}  # x[i] - x[i], in a loop that does not leave out the diagonal
            if mode is not LINEAR and not self.mixes(variable, index, frame):
                return None
            parts = [operand(k) for k in range(len(operands))]
            if isinstance(op, scalar_ops.Sub):
                parts[1] = scale(parts[1], -1)
            return add(*parts)
        if isinstance(op, scalar_ops.Neg):
            return scale(operand(0), -1)
        if isinstance(op, (scalar_ops.Mul, scalar_ops.TrueDiv)):
            return self._product(op, operands, mode, frame)
        if isinstance(op, scalar_ops.Identity):
            return operand(0)
        if isinstance(op, scalar_ops.Cast):
            return operand(0) if widens(node.inputs[0].dtype, variable.dtype) else None
        if isinstance(op, scalar_ops.Second):
            return operand(1)
        if isinstance(op, scalar_ops.Abs):
            return self._absolute(variable, index, operands[0], mode, frame)
        if isinstance(op, (Maximum, Minimum, scalar_ops.Clip)):
            return self._limited(op, operands, mode, frame)
        if isinstance(op, scalar_ops.Switch):
            return self._switched(operands, mode, frame)
        if _exponent(op, node) is not None:
            return self.power(variable, index, Fraction(1), mode, frame)
        return None

    def _product(self, op, operands, mode, frame):
        gated = None if isinstance(op, scalar_ops.TrueDiv) else self._gate(operands, mode, frame)
        if gated is not None:
            return gated
        if not isinstance(op, scalar_ops.TrueDiv) and len(operands) > 1:
            # r * r, where r is a root, is what is under the root.
            factors = self._factors(operands, frame)
            counts = {}
            for v, i in factors:
                counts.setdefault(self.values.key(v), [v, i, 0])[2] += 1
            if any(n > 1 and scalar_constant(v) is None for v, _, n in counts.values()):
                return self._product_of_powers(list(counts.values()), mode, frame)
        dependences = [self.dependence(v, i, frame) for v, i in operands]
        if mode is WHOLE:
            modes = [WHOLE] * len(operands)
        else:
            mixed = [len(d) > 1 for d in dependences]
            dependent = mixed if any(mixed) else [bool(d) for d in dependences]
            other = WHOLE if any(mixed) else SCALE
            alone = LINEAR if sum(dependent) == 1 and mode is LINEAR else other
            modes = [alone if chosen else SCALE for chosen in dependent]
            # Under a sum over features a factor is one thing, as it is in a matrix product.
            modes = [
                WHOLE if m is SCALE and self._under_sum(i) else m
                for m, (_, i) in zip(modes, operands)
            ]
        result = number(1)
        for position, ((v, i), its_mode) in enumerate(zip(operands, modes)):
            if isinstance(op, scalar_ops.TrueDiv) and position == 1:
                factor = self.power(
                    v, i, Fraction(-1), SCALE if mode is not WHOLE else WHOLE, frame
                )
            else:
                factor = self.read(v, i, its_mode, frame)
            result = multiply(result, factor)
        return result

    def _factors(self, operands, frame):
        """The operands of a product, those of products and of -u = -1 u in their place."""
        factors = []
        for v, i in operands:
            node = v.owner
            is_product = node is not None and is_elemwise(node, (scalar_ops.Mul, scalar_ops.Neg))
            if not is_product or not self.readable(v) or len(factors) > 20:
                factors.append((v, i))
                continue
            self.note_opened(v, i, frame)
            if is_elemwise(node, scalar_ops.Neg):
                factors.append((T.constant(-1, dtype=v.dtype), ()))
            inner = [
                (u, tuple(() if b else a for b, a in zip(u.broadcastable, i))) for u in node.inputs
            ]
            factors.extend(self._factors(inner, frame))
        return factors

    def _product_of_powers(self, bases, mode, frame):
        """The product of variable[index]**power for each (variable, index, power) of bases."""
        mixing = [self.mixes(v, i, frame) for v, i, _ in bases]
        result = number(1)
        for (v, i, power), mixes in zip(bases, mixing):
            alone = mixes and sum(mixing) == 1
            if self._under_sum(i) or mixes and not alone:
                its_mode = WHOLE
            else:
                its_mode = mode if alone else SCALE
            result = multiply(result, self.power(v, i, Fraction(power), its_mode, frame))
        return result

    def _under_sum(self, index):
        symbols = {s for axis in index for entry in axis for s in positions_of(entry)}
        return any(isinstance(s, Symbol) and s not in self.roots + self.members for s in symbols)

    def _gate(self, operands, mode, frame):
        """u * (u > 0), which is max(u, 0), perhaps among other factors."""
        for gate, gate_index in operands:
            gates, node = [gate], gate.owner
            while node is not None and is_elemwise(node, scalar_ops.Cast):
                gates.append(node.inputs[0])
                node = node.inputs[0].owner
            if node is None or not is_elemwise(node, (scalar_ops.GT, scalar_ops.GE)):
                continue
            if scalar_constant(node.inputs[1]) != 0:
                continue
            others = [o for o in operands if o[0] is not gate]
            if not any(self.same(node.inputs[0], value) for value, _ in others):
                others = self._factors(others, frame)
            for place, (value, index) in enumerate(others):
                if not self.same(node.inputs[0], value):
                    continue
                rest = others[:place] + others[place + 1 :]
                result = self._limit(value, index, 0, None, WHOLE if rest else mode, frame)
                if result is None:
                    continue
                for v in gates:
                    self.note_opened(v, gate_index, frame)
                for v, i in rest:
                    if self.mixes(v, i, frame):
                        return None
                    result = multiply(result, self.read(v, i, SCALE, frame))
                return result
        return None

    def _switched(self, operands, mode, frame):
        """switch(u > b, u, b) and switch(u < b, b, u), which are max(u, b)."""
        (condition, _), (yes, yes_index), (no, no_index) = operands
        node = condition.owner
        if node is None:
            return None
        above = is_elemwise(node, (scalar_ops.GT, scalar_ops.GE))
        if not above and not is_elemwise(node, (scalar_ops.LT, scalar_ops.LE)):
            return None
        value, bound = node.inputs
        if scalar_constant(value) is not None:  # 0 < u
            value, bound, above = bound, value, not above
        (kept, index), other = ((yes, yes_index), no) if above else ((no, no_index), yes)
        low = scalar_constant(bound)
        if low is None or scalar_constant(other) != low or not self.same(value, kept):
            return None
        if not math.isfinite(low):
            return None
        result = self._limit(kept, index, low, None, mode, frame)
        if result is not None:
            self.note_opened(condition, index, frame)
            self.note_opened(other, index, frame)
        return result

    def _limited(self, op, operands, mode, frame):
        if isinstance(op, scalar_ops.Clip):
            (value, index), (low, _), (high, _) = operands
            low, high = scalar_constant(low), scalar_constant(high)
            if low is None or high is None or not low <= high:
                return None
        else:
            constants = [scalar_constant(v) for v, _ in operands]
            if (constants[0] is None) == (constants[1] is None):
                return None
            value, index = operands[0 if constants[0] is None else 1]
            bound = constants[1] if constants[0] is None else constants[0]
            low, high = (bound, None) if isinstance(op, Maximum) else (None, bound)
        for bound, its_index in operands:
            if bound is not value:
                self.note_opened(bound, its_index, frame)  # perhaps zeros_like(value)
        low = None if low == -math.inf else low
        high = None if high == math.inf else high
        if any(bound is not None and not math.isfinite(bound) for bound in (low, high)):
            return None
        return self._limit(value, index, low, high, mode, frame)

    def _limit(self, value, index, low, high, mode, frame):
        """clip(value, low, high); the limits that it is known to keep are dropped."""
        inner = self.read(value, index, LINEAR, frame)
        known = self.sign(inner)
        if known == 1 and low is not None and low <= 0:
            low = None
        if known == -1 and high is not None and high >= 0:
            high = None
        if low is None and high is None:
            if mode is LINEAR or len(inner) == 1:
                return inner
        if not self.mixes(value, index, frame):
            return None
        if low is None and high is None:
            return inner
        if limits_within(inner) >= _DEEPEST_LIMITS:
            return None
        return of_factor(Bounded(frozenset(inner.items()), low, high))

    def _absolute(self, variable, index, operand, mode, frame):
        inner = self.read(operand[0], operand[1], LINEAR, frame)
        known = self.sign(inner)
        if known is not None:
            if mode is LINEAR or len(inner) == 1 or self.mixes(variable, index, frame):
                return scale(inner, known)
            return None
        term = single(self.read(operand[0], operand[1], WHOLE, frame))
        if term is None:
            return None
        coefficient, product = term
        return scale(of_factor(Absolute(product)), abs(coefficient))

    def power(self, variable, index, power, mode, frame):
        """The polynomial of variable[index]**power; a leaf to that power if it is not understood.

        Powers of powers are added up first, so that the square of a norm is the sum again.
        """
        return self._remembered(self._power, variable, index, power, mode, frame)

    def _power(self, variable, index, power, mode, frame):
        if power == 1:
            exponent = None
            if variable.owner is not None:
                exponent = _exponent(getattr(variable.owner.op, "scalar_op", None), variable.owner)
            if exponent is None or not self.readable(variable):
                return self.read(variable, index, mode, frame)
        value = scalar_constant(variable)
        if value is not None:
            return self._constant_power(variable, index, value, power)
        node = variable.owner
        whole = power.denominator == 1
        even = is_even(power)
        if node is not None and self.readable(variable):
            if moves_entries(variable):
                return self.read(variable, index, Raised(power, mode), frame)
            if isinstance(node.op, T.Elemwise):
                op = node.op.scalar_op
                operands = [(v, index_of(v, index)) for v in node.inputs]
                exponent = _exponent(op, node)
                if exponent is not None:
                    total = exponent * power
                    # (b^e)^p = b^(e p): for whole e and p always; else where b >= 0.
                    if (
                        whole
                        and exponent.denominator == 1
                        or self._never_negative(*operands[0], frame=frame)
                    ):
                        self.note_opened(variable, index, frame)
                        return self.power(*operands[0], total, mode, frame)
                elif isinstance(op, scalar_ops.Abs) and even:
                    self.note_opened(variable, index, frame)
                    return self.power(*operands[0], power, mode, frame)
                elif isinstance(op, scalar_ops.Identity) or (
                    isinstance(op, scalar_ops.Cast) and widens(node.inputs[0].dtype, variable.dtype)
                ):
                    return self.power(*operands[0], power, mode, frame)
                elif isinstance(op, (scalar_ops.Mul, scalar_ops.TrueDiv)) and (
                    whole or all(self._never_negative(v, i, frame=frame) for v, i in operands)
                ):
                    if self._gate(operands, WHOLE, frame) is None:
                        self.note_opened(variable, index, frame)
                        divides = isinstance(op, scalar_ops.TrueDiv)
                        bases = [
                            (v, i, -power if divides and position == 1 else power)
                            for position, (v, i) in enumerate(operands)
                        ]
                        return self._product_of_powers(bases, mode, frame)
                elif isinstance(op, scalar_ops.Neg) and whole:
                    self.note_opened(variable, index, frame)
                    base = self.power(*operands[0], power, mode, frame)
                    return base if even else scale(base, -1)
        return self._power_of_read(variable, index, power, mode, frame)

    def _power_of_read(self, variable, index, power, mode, frame):
        if power == 1:
            return self.read(variable, index, mode, frame)
        base = self.read(variable, index, WHOLE, frame)
        term = single(base)
        whole = power.denominator == 1
        if not base and power > 0:
            return base
        if term is not None:
            coefficient, product = term
            if whole and coefficient:
                return {power_of(product, power): coefficient**power.numerator}
            if power.denominator == 2 and len(product) == 1:
                ((factor, its_power),) = product
                whole_leaf = isinstance(factor, Leaf) and _is_whole(factor)
                if whole_leaf and its_power == 1 and coefficient > 0:
                    self.rooted.add(factor.key)
            if coefficient > 0 and matching.product_nonnegative(product, self.is_nonnegative):
                if all((p * power).denominator <= 2 for _, p in product):
                    root = Fraction(float(coefficient) ** float(power))
                    return {self._positive_power(product, power): root}
        elif whole and 2 <= power <= 4 and base:
            result = base = self._sides(base, variable.dtype)
            for _ in range(int(power) - 1):
                result = multiply(result, base)
            return result
        if frame is not None:
            variable = outside(variable, frame)
            if variable is None:
                raise Unreadable("the loop computes a power of each row that cannot be undone")
        return self.leaf_of(variable, index, power)

    def _positive_power(self, product, power):
        """A fraction of a power of a product that is not negative: (u^2)^(1/2) is |u|."""
        result = frozenset()
        for factor, its_power in product:
            part = frozenset([(factor, Fraction(1))])
            loses_sign = is_even(its_power) and not is_even(its_power * power)
            if loses_sign and not matching.product_nonnegative(part, self.is_nonnegative):
                part = frozenset([(Absolute(part), Fraction(1))])
            result = product_of(result, power_of(part, its_power * power))
        return result

    def _sides(self, polynomial, dtype):
        """R_i - C_j for a sum of more terms of which each is of rows or of columns alone."""
        sides = {symbol: {} for symbol in self.roots}
        for product, coefficient in polynomial.items():
            its_roots = product_symbols(product).intersection(self.roots)
            if len(its_roots) > 1 or len(sides) != 2:
                return polynomial
            (symbol,) = its_roots or self.roots[:1]
            sides[symbol][product] = coefficient
        if len(polynomial) <= len(sides) or not all(sides.values()):
            return polynomial
        # One of them is subtracted, whichever was.
        rows, columns = sides.values()
        lone = next((side for side in (rows, columns) if len(side) == 1), None)
        sign = 1
        if lone is not None:
            sign = (1 if next(iter(lone.values())) > 0 else -1) * (1 if lone is rows else -1)
        try:
            return add(self._as_one(rows, sign, dtype), self._as_one(columns, -sign, dtype))
        except matching.NoMatch:
            return polynomial

    def _as_one(self, polynomial, sign, dtype):
        """sign * (sign * polynomial), what is in brackets being written as one variable."""
        if len(polynomial) == 1:
            return polynomial
        polynomial = scale(polynomial, sign)
        symbols = frozenset().union(*(product_symbols(product) for product in polynomial))
        layout = tuple(sorted(symbols, key=lambda symbol: (symbol.name, repr(symbol.size))))
        writer = Writer(self, dtype)
        terms = sorted(polynomial.items(), key=lambda item: repr(item[1]))
        total = sum(writer.product(coefficient, product, layout) for product, coefficient in terms)
        if self.members:
            members = frozenset().union(*(self.members_of(product) for product in polynomial))
            self.natural[self.values.key(total)] = members
        leaf = Leaf(self.values.key(total), tuple((symbol,) for symbol in layout))
        return scale(of_factor(leaf), sign)

    def _constant_power(self, variable, index, value, power):
        if power.denominator == 1 and (value or power > 0):
            return number(Fraction(value) ** power.numerator)
        if value > 0:
            return number(Fraction(float(value) ** float(power)))
        return self.leaf_of(variable, index, power)

    def _never_negative(self, variable, index, frame):
        return self._remembered(self._is_never_negative, variable, index, frame)

    def _is_never_negative(self, variable, index, frame):
        if self.signs.nonnegative(variable):
            return True
        if not self.readable(variable):
            return False
        return self.sign(self.read(variable, index, LINEAR, frame)) == 1

    # -- Ops that move entries about -------------------------------------------------------------

    def _dimshuffle(self, variable, index, mode, frame):
        node = variable.owner
        return self.read(node.inputs[0], tuple_without_new(node, index), mode, frame)

    def _rebroadcast(self, variable, index, mode, frame):
        source = variable.owner.inputs[0]
        if any(b and not a for a, b in zip(source.broadcastable, variable.broadcastable)):
            return None  # it checks a length, too
        index = index_of(source, index)
        return self.read(source, index, mode, frame)

    def _alloc(self, variable, index, mode, frame):
        source, *lengths = variable.owner.inputs
        index = index[len(index) - source.ndim :]
        lengths = lengths[len(lengths) - source.ndim :]
        for axis, length in enumerate(lengths):
            # One row that only its value says is one is repeated.
            if not source.broadcastable[axis] and not self.sizes.equal(
                self.sizes.dimension(source, axis), self.sizes.of_scalar(length)
            ):
                return None
        index = index_of(source, index)
        return self.read(source, index, mode, frame)

    def require(self, first, second):
        """Note that two lengths must be equal, or else the graph fails, as it does now."""
        if not self.sizes.equal(first, second):
            lengths = [self.sizes.expression(size) for size in (first, second)]
            if None not in lengths:  # as lengths in a loop are
                self.required.append(lengths)
            self.sizes.unite(first, second)

    def _reshape(self, variable, index, mode, frame):
        source, lengths = variable.owner.inputs
        symbols = [entry for axis in index for entry in axis]
        axes = [a for a in range(source.ndim) if not source.broadcastable[a]]
        parts = self._partition(symbols, source, axes)
        if parts is None:
            return None
        lengths = self.sizes.of_vector(lengths) or ()
        fitted = [index[a] for a, length in enumerate(lengths) if length == -1]
        for axis, part in zip(axes, parts):
            if all(isinstance(s, Symbol) for s in part) and tuple(part) not in fitted:
                wanted = self.sizes.dimension(source, axis)
                self.require(wanted, self.sizes.product([s.size for s in part]))
        inner = [()] * source.ndim
        for axis, part in zip(axes, parts):
            inner[axis] = tuple(part)
        return self.read(source, tuple(inner), mode, frame)

    def _partition(self, symbols, source, axes):
        """The flat list of symbols dealt out to the axes of source, by their lengths."""
        if any(not isinstance(s, Symbol) for s in symbols):
            return [symbols] if len(axes) == 1 and len(symbols) == 1 else None
        if not axes:
            return None if symbols else []
        if len(axes) == 1:
            return [symbols]
        parts, unproved, rest = [], 0, list(symbols)
        for position, axis in enumerate(axes):
            if position == len(axes) - 1:
                parts.append(rest)
                break
            wanted = self.sizes.dimension(source, axis)
            for count in range(1, len(rest) + 1):
                if self.sizes.equal(wanted, self.sizes.product([s.size for s in rest[:count]])):
                    break
            else:
                # The lengths multiply to the same total: one that is not known is known then.
                unproved += 1
                count = 1
            parts.append(rest[:count])
            rest = rest[count:]
        if unproved:
            last = self.sizes.product([s.size for s in parts[-1]])
            proved = self.sizes.equal(self.sizes.dimension(source, axes[-1]), last)
            if unproved > 1 or not proved or len(symbols) != len(axes):
                return None
        return parts if all(parts) else None

    def _subtensor(self, variable, index, mode, frame):
        node = variable.owner
        source = node.inputs[0]
        inner, left = [], list(index)
        for axis, entry in enumerate(all_entries(node)):
            if isinstance(entry, slice):
                its_index = left.pop(0)
                if not self.sizes.is_whole(entry, source, axis):
                    return None
                inner.append(() if source.broadcastable[axis] else its_index)
                continue
            position = index_constant(entry)
            if position is not None:
                if source.broadcastable[axis]:
                    if position not in (0, -1):
                        return None
                    inner.append(())
                else:
                    inner.append((Fixed(position),))
                continue
            gathered = self._step_position(entry, source, axis, frame)
            if gathered is None:
                return None
            inner.append((gathered,))
        return self.read(source, tuple(inner), mode, frame)

    def _step_position(self, entry, source, axis, frame):
        """An index that a loop around takes from a sequence of integers."""
        around = frame
        while around is not None:
            while entry.owner is not None and isinstance(
                entry.owner.op, (T.ScalarFromTensor, T.TensorFromScalar)
            ):
                entry = entry.owner.inputs[0]
            if entry in around.sequences:
                break
            if entry not in around.others:
                return None
            entry, around = around.others[entry], around.parent
        if around is None:
            return None
        positions = outside(around.sequences[entry], around.parent)
        if positions is None or not positions.dtype.startswith(("int", "uint")):
            return None
        counted = count_of(positions)
        length = self.sizes.dimension(source, axis)
        if (  # all of the axis, in turn: a slice of a range, or a shorter sequence, ends before
            counted is not None
            and self.sizes.equal(self.sizes.of_scalar(counted), length)
            and self.sizes.equal(self.sizes.dimension(positions, 0), length)
        ):
            return around.step
        return Gathered(self.values.key(positions), around.step)

    def _diagonal(self, variable, index, mode, frame):
        op, source = variable.owner.op, variable.owner.inputs[0]
        if source.ndim != 2 or op.offset != 0 or True in source.broadcastable:
            return None
        return self.read(source, (index[0], index[0]), mode, frame)

    # -- sums and products over an axis ----------------------------------------------------------

    def summed(self, variable, index, mode, frame, read_terms):
        """A sum over bound symbols, taken apart as the mode allows."""
        mixing = self.mixes(variable, index, frame)
        if mode is WHOLE and not mixing:
            return None
        terms, bounds = read_terms(index)
        for bound in bounds:
            terms = sum_over(bound, terms)
        if mode is not LINEAR and not mixing and len(terms) != 1:
            return None
        return terms

    def _sum(self, variable, index, mode, frame):
        source = variable.owner.inputs[0]
        readable = source in self.closed or self.readable(source)
        if not readable or not widens(source.dtype, variable.dtype):
            return None

        def read_terms(index):
            inner, bounds = self._with_bounds(variable.owner, index)
            return self.read(source, inner, LINEAR, frame), bounds

        return self.summed(variable, index, mode, frame, read_terms)

    def _with_bounds(self, node, index):
        """The index of what is summed or multiplied up, and the new symbols in it."""
        source = node.inputs[0]
        axes = range(source.ndim) if node.op.axis is None else node.op.axis
        left, inner, bounds = list(index), [], []
        for axis in range(source.ndim):
            if axis not in axes:
                inner.append(left.pop(0))
            elif source.broadcastable[axis]:
                inner.append(())
            else:
                bounds.append(self._bound(source, axis))
                inner.append((bounds[-1],))
        return tuple(inner), bounds

    def _bound(self, source, axis):
        return Symbol("k", self.sizes.dimension(source, axis))

    def _dot(self, variable, index, mode, frame):
        first, second = variable.owner.inputs
        if first.ndim == 0 or second.ndim == 0:
            return None
        diagonal = self._diagonal_of(second)
        if diagonal is not None:  # dot(A, diag(w))[i, k] = A[i, k] w[k]
            parts = (first, index), (diagonal, index[-1:])
            return multiply(*[self.read(v, i, WHOLE, frame) for v, i in parts])
        diagonal = self._diagonal_of(first)
        if diagonal is not None:
            parts = (diagonal, index[:1]), (second, index)
            return multiply(*[self.read(v, i, WHOLE, frame) for v, i in parts])

        def read_terms(index):
            bounds = []
            if first.broadcastable[-1] or second.broadcastable[0]:
                shared = ()
            else:
                bounds.append(self._bound(first, first.ndim - 1))
                self.sizes.unite(bounds[0].size, self.sizes.dimension(second, 0))
                shared = (bounds[0],)
            rows = index[: first.ndim - 1] + (shared,)
            columns = (shared,) + index[first.ndim - 1 :]
            # An outer product is a product of numbers, not a sum over features.
            outer = not bounds and not self._under_sum(rows) and not self._under_sum(columns)
            its_mode = SCALE if outer else WHOLE
            terms = multiply(
                self.read(first, rows, its_mode, frame), self.read(second, columns, its_mode, frame)
            )
            return terms, bounds

        return self.summed(variable, index, mode, frame, read_terms)

    def _diagonal_of(self, variable):
        """w if a variable is diag(w), else None."""
        node = variable.owner
        while node is not None and isinstance(node.op, (T.DimShuffle, T.Reshape)):
            source = node.inputs[0]  # T.tensordot does this to what need not be moved at all
            if isinstance(node.op, T.DimShuffle):
                same = tuple(node.op.new_order) == (0, 1)
            else:
                same = source.ndim == 2 and all(
                    self.sizes.equal(
                        self.sizes.dimension(source, a), self.sizes.dimension(variable, a)
                    )
                    for a in range(2)
                )
            if not same:
                return None
            variable, node = source, source.owner
        if node is None or not isinstance(node.op, T.AllocDiag):
            return None
        (diagonal,) = node.inputs
        whole = node.op.offset == 0 and diagonal.ndim == 1 and not diagonal.broadcastable[0]
        return diagonal if whole else None

    def _batched_dot(self, variable, index, mode, frame):
        first, second = variable.owner.inputs

        def read_terms(index):
            bound = self._bound(first, first.ndim - 1)
            batch, rest = index[:1], list(index[1:])
            rows = tuple(rest.pop(0) for _ in range(first.ndim - 2))
            inner = [
                batch + rows + ((bound,),),
                batch + ((bound,),) + tuple(rest),
            ]
            parts = [
                self.read(v, index_of(v, i), WHOLE, frame) for v, i in zip((first, second), inner)
            ]
            return multiply(*parts), [bound]

        return self.summed(variable, index, mode, frame, read_terms)


def moves_entries(variable):
    """Whether a variable is another one's entries in other places."""
    node = variable.owner
    return node is not None and any(isinstance(node.op, classes) for classes, _ in _MOVING)


def tuple_without_new(node, index):
    """The index of a DimShuffle's input."""
    source = node.inputs[0]
    inner = [()] * source.ndim
    for place, axis in zip(node.op.new_order, index):
        if place != "x" and not source.broadcastable[place]:
            inner[place] = axis
    return tuple(inner)


def _exponent(op, node):
    """The constant that an Elemwise raises its first input to, or None."""
    if isinstance(op, scalar_ops.Sqr):
        return Fraction(2)
    if isinstance(op, scalar_ops.Sqrt):
        return Fraction(1, 2)
    if isinstance(op, scalar_ops.Inv):
        return Fraction(-1)
    if isinstance(op, scalar_ops.Pow):
        value = scalar_constant(node.inputs[1])
        if value is not None and math.isfinite(value) and Fraction(value).denominator <= 2:
            return Fraction(value)
    return None


def widens(source, target):
    """Whether a cast keeps every value."""
    return np.can_cast(source, target, "safe") and target != "float16" and source != "float16"


def index_of(variable, index):
    """An index into what a variable is broadcast to, as one into itself: its axes of length one
    have no entries."""
    return tuple(() if b else axis for b, axis in zip(variable.broadcastable, index))


def count_of(positions):
    """n if a variable is arange(n), else None."""
    node = positions.owner
    while node is not None and isinstance(node.op, Subtensor):
        entries = subtensor_indices(node)
        if len(entries) != 1 or not isinstance(entries[0], slice):
            return None
        (entry,) = entries
        start = 0 if entry.start is None else index_constant(entry.start)
        step = 1 if entry.step is None else index_constant(entry.step)
        if start != 0 or step != 1:
            return None
        positions = node.inputs[0]
        node = positions.owner
    if node is None or not isinstance(node.op, T.ARange):
        return None
    start, stop, step = node.inputs
    return stop if (scalar_constant(start), scalar_constant(step)) == (0, 1) else None


def outside(variable, frame):
    """An inner variable of a loop that no step changes, computed outside; None if steps do."""
    if frame is None:
        return variable
    if isinstance(variable, Constant):
        return variable
    if frame.dependence(variable):
        return None
    replaced, stack, seen = {}, [variable], set()
    while stack:
        current = stack.pop()
        if current in seen:
            continue
        seen.add(current)
        if current in frame.others:
            replaced[current] = outside(frame.others[current], frame.parent)
            if replaced[current] is None:
                return None
        elif current in frame.sequences:
            return None
        elif current.owner is not None:
            stack.extend(current.owner.inputs)
        elif not isinstance(current, Constant):
            return None
    if variable in replaced:
        return replaced[variable]
    return clone(variable, replace=replaced, strict=False) if replaced else variable


_MOVING = [
    ((T.DimShuffle,), Reader._dimshuffle),
    ((T.Rebroadcast,), Reader._rebroadcast),
    ((T.Alloc,), Reader._alloc),
    ((T.Reshape,), Reader._reshape),
    ((Subtensor,), Reader._subtensor),
    ((T.ExtractDiag,), Reader._diagonal),
]
_READERS = [
    ((T.Elemwise,), Reader._elemwise),
    ((T.elemwise.Sum,), Reader._sum),
    ((T.Dot,), Reader._dot),
    ((BatchedDot,), Reader._batched_dot),
] + _MOVING
_LOGARITHM_READERS = [
    ((T.Elemwise,), Reader._logarithm_elemwise),
    ((T.elemwise.Prod,), Reader._logarithm_product),
] + _MOVING


def add_reader(classes, reader):
    """Read Ops that move entries about: reader(Reader, variable, index, mode, frame).

    It is asked before those here, and gives None for what is not its own.
    """
    for readers in (_MOVING, _READERS, _LOGARITHM_READERS):
        readers.insert(0, (classes, reader))
