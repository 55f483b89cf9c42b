"""The product of the softmax of each row's exponents with weights, and its gradients.

Above base and log_sum; may import Theano and reference.
"""

import theano.tensor as T
from theano.tensor.type import values_eq_approx_always_true

from rbf_op import reference
from rbf_op.ops.base import ForwardOp
from rbf_op.ops.log_sum import (
    SharesGradient,
    change_of_logarithm,
    equal_to_thousandths,
    responsibilities,
)
from rbf_op.theano_api import Apply


class RBFSoftmaxDot(ForwardOp):
    """P[i] = sum_j A[i, j] weights[j], A the softmax over j of log_amplitude[j] - gamma[j] D[i, j].

    D[i, j] = sum_k (x[i, k] - y[j, k])**2. Inputs x (n, d), y (m, d), gamma and log_amplitude () or
    (m,), weights (m, p); output P (n, p), 0 where m = 0, NaN where all terms of a row are zero or
    one is infinite. A is never stored, memory O((n + m)(d + p)). Otherwise as RBFDot.

    Two more outputs, which calling the Op does not return, are those of RBFLogSumExp, for the
    gradient alone. They count as constants.
    """

    input_names = ("x", "y", "gamma", "log_amplitude", "weights")
    default_output = 0
    c_function, c_kernel = "rbf_softmax_apply", "rbf_softmax"

    def make_node(self, *inputs):
        inputs = self._as_inputs(inputs, self.input_names)
        x, weights = inputs[0], inputs[-1]
        product = T.TensorType(x.dtype, (x.broadcastable[0], weights.broadcastable[1]))()
        of_rows = T.TensorType(x.dtype, x.broadcastable[:1])
        log_sums, rests = of_rows(), of_rows()
        product.tag.values_eq_approx = equal_to_thousandths
        rests.tag.values_eq_approx = values_eq_approx_always_true  # each has its own
        return Apply(self, inputs, [product, log_sums, rests])

    def infer_shape(self, *args):
        shapes = args[-1]
        rows = shapes[0][0]
        return [(rows, shapes[-1][1]), (rows,), (rows,)]

    def perform(self, node, inputs, output_storage):
        for storage, values in zip(output_storage, reference.rbf_softmax_dot(*inputs)):
            storage[0] = values

    def gradient_op(self):
        return RBFSoftmaxDotGrad(openmp=self.openmp)

    def directional_derivative(self, inputs, directions):
        """The change of P when its inputs move in the given directions (None: zero).

        With e[i, j] = dlog_amplitude[j] - d(gamma[j] D[i, j]):

            dP[i] = sum_j A[i, j] (e[i, j] weights[j] + dweights[j]) - P[i] sum_j A[i, j] e[i, j]

        Unlike the value and the gradient, this rule forms (n, m) matrices.
        """
        if all(d is None for d in directions):
            return None
        weights, dweights = inputs[-1], directions[-1]
        product = self(*inputs)
        shares = responsibilities(inputs[:-1], self.openmp)
        change = change_of_logarithm(inputs[:-1], directions[:-1], self.openmp)
        total = T.zeros_like(product) if dweights is None else T.dot(shares, dweights)
        if change is not None:
            changed = shares * change
            total += T.dot(changed, weights) - product * changed.sum(axis=1, keepdims=True)
        return total


class RBFSoftmaxDotGrad(SharesGradient):
    """Gradients of sum(grad_output * P) with respect to the inputs of RBFSoftmaxDot, A not stored.

    Those of RBFKernelGrad with A in the place of K and G[i, j] = sum_q grad_output[i, q]
    (weights[j, q] - P[i, q]), computed tile by tile; dlog_amplitude[j] = sum_i G[i, j] A[i, j] and
    dweights[j] = sum_i A[i, j] grad_output[i]. Inputs: those of RBFSoftmaxDot, its outputs product
    (n, p), log_sums and rests (n,), then grad_output (n, p). Outputs: one for each name in `wrt`,
    in the order x, y, gamma, log_amplitude, weights, of the shape and dtype of that input. Errors
    as RBFSoftmaxDot's.
    """

    known_names = ("product", "log_sums", "rests")
    in_numpy = "rbf_softmax_dot_grad"
    c_function, c_kernel = "rbf_softmax_gradient_apply", "rbf_softmax_gradient"

    def forward_op(self):
        return RBFSoftmaxDot(openmp=self.openmp)
