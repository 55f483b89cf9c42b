"""The product of the kernel matrix with weights, which never forms it, and its gradients.

Above base and distances; may import Theano and reference.
"""

import theano.tensor as T

from rbf_op import reference
from rbf_op.ops.base import ForwardOp, GradientOp
from rbf_op.ops.distances import as_column, centred, row_products
from rbf_op.theano_api import Apply


class RBFDot(ForwardOp):
    """P[i] = sum_j exp(-gamma[j] * sum_k (x[i, k] - y[j, k])**2) * weights[j], K never stored.

    Inputs x (n, d), y (m, d), gamma () or (m,), weights (m, p); output P (n, p). Memory
    O((n + m)(d + p)). An amplitude is a factor of the rows of weights. Sums over j go in blocks,
    which are added in double. Otherwise as RBFKernel.
    """

    input_names = ("x", "y", "gamma", "weights")
    c_function, c_kernel = "rbf_product_apply", "rbf_product"

    def gradient_op(self):
        return RBFDotGrad(openmp=self.openmp)

    def make_node(self, *inputs):
        inputs = self._as_inputs(inputs, self.input_names)
        x, _, _, weights = inputs
        output = T.TensorType(x.dtype, (x.broadcastable[0], weights.broadcastable[1]))()
        return Apply(self, inputs, [output])

    def infer_shape(self, *args):
        x_shape, _, _, weights_shape = args[-1]
        return [(x_shape[0], weights_shape[1])]

    def perform(self, node, inputs, output_storage):
        output_storage[0][0] = reference.rbf_dot(*inputs)

    def directional_derivative(self, inputs, directions):
        """The change of P in the given directions (None: zero), again without K.

        dK as in RBFKernel.directional_derivative; every inner product of a row of x with a row of
        y is taken apart, so that dK W is a sum of products of K with more columns:

            sum_j K[i, j] (a[i] . b[j]) W[j] = sum_k a[i, k] (K (b[:, k] * W))[i]

        All of them are columns of one product.
        """
        if all(d is None for d in directions):
            return None
        x, y, gamma, weights = inputs
        dx, dy, dgamma, dweights = directions
        columns = weights.shape[1]
        centred_x, centred_y = centred(x, y)
        scaled = as_column(gamma) * weights
        factors = []  # (a, weights), meaning a[i] * (K weights)[i]; a None meaning 1

        def add_inner_products(a, b, w):
            blocks = b.dimshuffle(0, 1, "x") * w.dimshuffle(0, "x", 1)
            factors.append((a, blocks.reshape((b.shape[0], b.shape[1] * columns))))

        if dweights is not None:
            factors.append((None, dweights))
        if dgamma is not None:
            w = -as_column(dgamma) * weights
            factors.append((row_products(centred_x, centred_x), w))
            factors.append((None, row_products(centred_y, centred_y) * w))
            add_inner_products(-2 * centred_x, centred_y, w)
        if dx is not None:
            factors.append((-2 * row_products(centred_x, dx), scaled))
            add_inner_products(2 * dx, centred_y, scaled)
        if dy is not None:
            factors.append((None, -2 * row_products(centred_y, dy) * scaled))
            add_inner_products(2 * centred_x, dy, scaled)
        product = self(x, y, gamma, T.concatenate([w for _, w in factors], axis=1))
        total = T.zeros_like(product[:, :columns])
        start = 0
        for a, w in factors:
            part = product[:, start : start + w.shape[1]]
            start = start + w.shape[1]
            if a is not None:
                part = part.reshape((x.shape[0], a.shape[1], columns))
                part = (a.dimshuffle(0, 1, "x") * part).sum(axis=1)
            total = total + part
        return total


class RBFDotGrad(GradientOp):
    """Gradients of sum(grad_output * P) with respect to the inputs of RBFDot, again without K.

    Those of RBFKernelGrad for G = grad_output weights.T, which is computed tile by tile, and
    dweights[j] = sum_i exp(-gamma[j] D[i, j]) grad_output[i]. Inputs: those of RBFDot, then
    grad_output (n, p). Outputs: one for each name in `wrt`, in the order x, y, gamma, weights, of
    the shape and dtype of that input. Errors as RBFDot's.
    """

    in_numpy = "rbf_dot_grad"
    c_function, c_kernel = "rbf_product_gradient_apply", "rbf_product_gradient"

    def forward_op(self):
        return RBFDot(openmp=self.openmp)
