"""Which variables are never negative, and which integers a float holds exactly.

May import Theano.
"""

import numpy as np
import theano.scalar as scalar_ops
import theano.tensor as T
from theano.tensor.opt import Shape, Shape_i
from theano.tensor.subtensor import Subtensor

from rbf_op.fusion.values import is_elemwise, scalar_constant
from rbf_op.theano_api import Constant, Maximum, Minimum

# What moves entries about, or repeats them.
_THROUGH = (T.DimShuffle, T.Reshape, T.Alloc, Subtensor, T.ExtractDiag, T.Rebroadcast)

# Even functions, of which Theano has the derivative 0 at 0.
_EVEN = scalar_ops.Sqr, scalar_ops.Abs


class Signs:
    """Which variables are known never to be negative, or always to be positive."""

    def __init__(self):
        self._known = {}
        self._flat = {}

    def nonnegative(self, variable):
        return self._sign(variable, 0)[0]

    def positive(self, variable):
        return self._sign(variable, 0)[1]

    def flat_at_zero(self, variable, depth=0):
        """Whether what is never negative has no derivative either where it is zero."""
        known = self._flat.get(variable)
        if known is None:
            known = self._flat[variable] = depth <= 100 and self._is_flat(variable, depth + 1)
        return known

    def _is_flat(self, variable, depth):
        if self.positive(variable) or isinstance(variable, Constant):
            return True
        node = variable.owner
        if node is None or not self.nonnegative(variable):
            return False
        if isinstance(node.op, (T.elemwise.Sum, T.elemwise.Prod) + _THROUGH) or is_elemwise(
            node, scalar_ops.TrueDiv, scalar_ops.Cast, scalar_ops.Identity
        ):
            return self.flat_at_zero(node.inputs[0], depth)
        if is_elemwise(node, scalar_ops.Mul, scalar_ops.Add):
            return all(self.flat_at_zero(v, depth) for v in node.inputs)
        if is_elemwise(node, Maximum, Minimum, scalar_ops.Clip):
            varying = (v for v in node.inputs if scalar_constant(v) is None)
            return all(self.flat_at_zero(v, depth) for v in varying)
        if is_elemwise(node, scalar_ops.Pow):
            base, exponent = node.inputs[0], scalar_constant(node.inputs[1])
            least = 1 if self.flat_at_zero(base, depth) else 2
            return exponent is not None and exponent >= least
        return isinstance(node.op, T.nnet.Softmax) or (
            isinstance(node.op, T.Elemwise)
            and (isinstance(node.op.scalar_op, _EVEN) or _underflows(node.op.scalar_op))
        )

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
        if isinstance(op, _THROUGH):
            return self._sign(inputs[0], depth)
        if isinstance(op, (Shape_i, Shape)):
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
        if _underflows(op):
            return True, False
        if isinstance(op, _EVEN):
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
        if isinstance(op, scalar_ops.Identity):
            return everywhere
        if isinstance(op, scalar_ops.Cast):  # 0.5 may become 0, and 200 negative
            target = op.o_type.dtype
            kept = target.startswith("float") or np.can_cast(inputs[0].dtype, target, "safe")
            return everywhere if kept else (False, False)
        if isinstance(op, scalar_ops.Second):
            return signs[1]
        if isinstance(op, Maximum):
            return any(s[0] for s in signs), any(s[1] for s in signs)
        if isinstance(op, scalar_ops.Clip):
            return tuple(low and high for low, high in zip(*signs[1:]))
        if isinstance(op, scalar_ops.Pow):
            exponent = scalar_constant(inputs[1])
            even = exponent is not None and exponent % 2 == 0
            return even or signs[0][0], signs[0][1]
        return False, False


def _underflows(op):
    """Whether a scalar Op's results are positive but where they underflow."""
    return isinstance(op, (scalar_ops.Exp, scalar_ops.Exp2)) or type(op).__name__ in (
        "Softplus",
        "ScalarSoftplus",
        "ScalarSigmoid",
    )


def _is_rectified(terms):
    """Whether a sum is u + |u|, half of which is relu(u)."""
    return len(terms) == 2 and any(
        is_elemwise(b.owner, scalar_ops.Abs) and b.owner.inputs[0] is a
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
