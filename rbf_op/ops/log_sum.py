"""The logarithm of the sum over a row of the kernel matrix, and its gradients.

Above base and distances; may import Theano and reference.
"""

import numpy as np
import theano.tensor as T
from theano.tensor.type import values_eq_approx_always_true

from rbf_op import reference
from rbf_op.ops.base import ForwardOp, GradientOp
from rbf_op.ops.distances import RBFDistance, change_of_exponent
from rbf_op.theano_api import Apply


class RBFLogSumExp(ForwardOp):
    """L[i] = log sum_j exp(log_amplitude[j] - gamma[j] * sum_k (x[i, k] - y[j, k])**2), stable.

    Inputs x (n, d), y (m, d), gamma and log_amplitude () or (m,); output L (n,), -inf where there
    are no terms (m = 0) or all are zero. Memory O((n + m) d). Otherwise as RBFKernel.

    A second output, which calling the Op does not return, is for its gradient alone: the rest, what
    rounding L left out, 0 where L is not finite. Exponents can be large, and their differences from
    L then need more digits than L has. It counts as a constant.
    """

    input_names = ("x", "y", "gamma", "log_amplitude")
    default_output = 0
    c_function, c_kernel = "rbf_log_sum_apply", "rbf_log_sum"

    def make_node(self, *inputs):
        inputs = self._as_inputs(inputs, self.input_names)
        output = T.TensorType(inputs[0].dtype, inputs[0].broadcastable[:1])
        log_sums, rests = output(), output()
        rests.tag.values_eq_approx = values_eq_approx_always_true  # each has its own
        return Apply(self, inputs, [log_sums, rests])

    def infer_shape(self, *args):
        return [(args[-1][0][0],)] * 2

    def perform(self, node, inputs, output_storage):
        for storage, values in zip(output_storage, reference.rbf_logsumexp(*inputs)):
            storage[0] = values

    def gradient_op(self):
        return RBFLogSumExpGrad(openmp=self.openmp)

    def directional_derivative(self, inputs, directions):
        """The change of L when its inputs move in the given directions (None: zero).

        With the responsibilities R[i, j] = exp(log_amplitude[j] - gamma[j] D[i, j] - L[i]):

            dL[i] = sum_j R[i, j] (dlog_amplitude[j] - d(gamma[j] D[i, j]))

        Unlike the value and the gradient, this rule forms (n, m) matrices.
        """
        if all(d is None for d in directions):
            return None
        shares = responsibilities(inputs, self.openmp)
        return (shares * change_of_logarithm(inputs, directions, self.openmp)).sum(axis=1)


def responsibilities(inputs, openmp):
    """R[i, j] = exp(log_amplitude[j] - gamma[j] D[i, j] - L[i]) of the inputs of RBFLogSumExp."""
    x, y, gamma, log_amplitude = inputs
    distance = RBFDistance(openmp=openmp)(x, y)
    outputs = RBFLogSumExp(openmp=openmp)(*inputs).owner.outputs
    log_sums, rests = (v.dimshuffle(0, "x") for v in outputs)
    return T.exp((log_amplitude - gamma * distance - log_sums) - rests)


def change_of_logarithm(inputs, directions, openmp):
    """dlog_amplitude[j] - d(gamma[j] D[i, j]) in the given directions; None when all are."""
    change = change_of_exponent(*inputs[:3], *directions[:3], openmp)
    if directions[3] is None:
        return None if change is None else -change
    return directions[3] if change is None else directions[3] - change


def equal_to_thousandths(a, b):
    """What DebugMode, which gives the NumPy code the log-sum-exp of the C code, may take for equal:
    shares exp(e - L) are off by what e is rounded in either, and e can be thousands; and where
    their sums cancel, only what is rounded is left of terms, which are taken for 1."""
    largest = np.max(np.abs(a), where=np.isfinite(a), initial=0)
    atol = 1e-3 * largest + 1e3 * np.finfo(a.dtype).eps
    return T.TensorType.values_eq_approx(a, b, rtol=1e-3, atol=atol)


class SharesGradient(GradientOp):
    """A gradient Op that is given log_sums and rests, the outputs of RBFLogSumExp."""

    vectors = ("log_sums", "rests")

    def make_node(self, *inputs):
        node = GradientOp.make_node(self, *inputs)
        for output in node.outputs:
            output.tag.values_eq_approx = equal_to_thousandths
        return node

    def _allowed_ndim(self, name):
        return (1,) if name in self.vectors else GradientOp._allowed_ndim(self, name)


class RBFLogSumExpGrad(SharesGradient):
    """Gradients of sum(grad_output * L) with respect to the inputs of RBFLogSumExp.

    Those of RBFKernelGrad with the responsibilities exp(log_amplitude[j] - gamma[j] D[i, j] - L[i])
    in the place of K and grad_output[i] in that of G; dlog_amplitude[j] is the sum over i of the
    responsibilities times grad_output. Inputs: those of RBFLogSumExp, its outputs log_sums and
    rests (n,), then grad_output (n,). Outputs: one for each name in `wrt`, in the order x, y,
    gamma, log_amplitude, of the shape and dtype of that input. Errors as RBFLogSumExp's.
    """

    known_names = ("log_sums", "rests")
    vectors = known_names + ("grad_output",)
    in_numpy = "rbf_logsumexp_grad"
    c_function, c_kernel = "rbf_log_sum_gradient_apply", "rbf_log_sum_gradient"

    def forward_op(self):
        return RBFLogSumExp(openmp=self.openmp)
