"""The kernel matrix, mixtures of several widths, and the gradients of both.

Above base and distances; may import Theano and reference.
"""

import numpy as np
import theano.tensor as T

from rbf_op import reference
from rbf_op.ops.base import FirstGradientOp, ForwardOp, GradientOp
from rbf_op.ops.distances import RBFDistance, change_of_exponent
from rbf_op.theano_api import Apply

_MATRIX_INPUTS = ("x", "y", "gamma", "amplitude")


class _MatrixOp(ForwardOp):
    """An Op whose output is a matrix K (n, m) of x (n, d), y (m, d), gamma and amplitude.

    With symmetric=True the inputs are x, gamma, amplitude and y is x.
    """

    __props__ = ("symmetric",)

    def __init__(self, symmetric=False, openmp=True):
        ForwardOp.__init__(self, openmp)
        self.symmetric = bool(symmetric)

    @property
    def input_names(self):
        return ("x", "gamma", "amplitude") if self.symmetric else _MATRIX_INPUTS

    def with_y(self, values):
        """(x, y, gamma, amplitude, ...) from the node's inputs: y is x when symmetric."""
        return (values[0],) + tuple(values) if self.symmetric else tuple(values)

    def make_node(self, *inputs):
        inputs = self._as_inputs(inputs, self.input_names)
        x, y = self.with_y(inputs)[:2]
        output = T.TensorType(x.dtype, (x.broadcastable[0], y.broadcastable[0]))()
        return Apply(self, inputs, [output])

    def infer_shape(self, *args):
        # Theano passes (node, shapes), Theano-PyMC (fgraph, node, shapes).
        x_shape, y_shape = self.with_y(args[-1])[:2]
        return [(x_shape[0], y_shape[0])]

    def perform(self, node, inputs, output_storage):
        kernel = getattr(reference, self.in_numpy)(*self.with_y(inputs))
        output_storage[0][0] = np.ascontiguousarray(kernel, dtype=node.outputs[0].dtype)

    def c_code(self, node, name, inputs, outputs, sub):
        arguments = self.with_y(inputs) + ("&" + outputs[0], "%d" % self.symmetric)
        return self._c_call(arguments, node, sub)


class _MatrixGradientOp(GradientOp):
    """Gradients of sum(grad_output * K) with respect to the inputs of a _MatrixOp."""

    __props__ = ("symmetric", "wrt")

    def __init__(self, symmetric=False, wrt=None, openmp=True):
        self.symmetric = bool(symmetric)
        GradientOp.__init__(self, wrt, openmp)

    def narrowed(self, wrt):
        return type(self)(self.symmetric, wrt=wrt, openmp=self.openmp)

    def _gradients(self, inputs):
        values = self.forward_op().with_y(inputs)
        gradients = dict(zip(_MATRIX_INPUTS, getattr(reference, self.in_numpy)(*values)))
        if self.symmetric:
            gradients["x"] = gradients["x"] + gradients["y"]
        return gradients

    def c_code(self, node, name, inputs, outputs, sub):
        arguments = self.forward_op().with_y(inputs) + self._c_outputs(_MATRIX_INPUTS, outputs)
        return self._c_call(arguments + ("%d" % self.symmetric,), node, sub)


class RBFKernel(_MatrixOp):
    """K[i, j] = amplitude[j] * exp(-gamma[j] * sum_k (x[i, k] - y[j, k])**2).

    Inputs x (n, d), y (m, d), gamma and amplitude () or (m,); output K (n, m). With
    symmetric=True the inputs are x, gamma, amplitude (both scalars) and y is x: half the
    exponentials, K exactly symmetric, its diagonal exactly `amplitude`.

    float32 or float64, any strides. `openmp=False` keeps it on one thread. At run time raises
    ValueError, naming both shapes, when the inputs do not fit together.
    """

    in_numpy = "rbf_kernel"
    c_function, c_kernel = "rbf_forward_apply", "rbf_forward"

    def gradient_op(self):
        return RBFKernelGrad(self.symmetric, openmp=self.openmp)

    def directional_derivative(self, inputs, directions):
        """The change of K when its inputs move in the given directions: the forward rule.

        With dx (n, d), dy (m, d), dgamma, damplitude (each may be None, meaning zero) and
        E = exp(-gamma D):

            dK[i, j] = -K[i, j] * d(gamma[j] D[i, j]) + damplitude[j] * E[i, j]

        None when all directions are.
        """
        if all(d is None for d in directions):
            return None
        unit = self(*(list(inputs[:-1]) + [T.ones((), dtype=inputs[0].dtype)]))
        x, y, gamma, amplitude = self.with_y(inputs)
        dx, dy, dgamma, damplitude = self.with_y(directions)
        change = change_of_exponent(x, y, gamma, dx, dy, dgamma, self.openmp)
        if change is None:
            return damplitude * unit
        change = -amplitude * change
        return (change if damplitude is None else change + damplitude) * unit


class RBFKernelGrad(_MatrixGradientOp):
    """Gradients of sum(grad_output * K) with respect to the inputs of RBFKernel.

    With G = grad_output, E[i, j] = exp(-gamma[j] D[i, j]) and M = 2 gamma[j] G[i, j] K[i, j]:

        dx[i] = sum_j M[i, j] (y[j] - x[i])       dgamma[j] = -sum_i G[i, j] K[i, j] D[i, j]
        dy[j] = sum_i M[i, j] (x[i] - y[j])       damplitude[j] = sum_i G[i, j] E[i, j]

    Inputs: those of RBFKernel, then grad_output (n, m). Outputs: one for each name in `wrt`, in the
    order x, y, gamma, amplitude (no y when symmetric: dx is then the sum of both), of the shape and
    dtype of that input; of a scalar gamma or amplitude the sum over j. K is recomputed tile by
    tile: nothing of size n * m is stored. Where a row of x equals a centre its contribution is
    exactly zero. Errors as RBFKernel's. docs/gradients.md has the derivation.
    """

    in_numpy = "rbf_kernel_grad"
    c_function, c_kernel = "rbf_gradient_apply", "rbf_gradient"

    def forward_op(self):
        return RBFKernel(self.symmetric, openmp=self.openmp)


class RBFOuterGrad(FirstGradientOp):
    """Gradients of sum((left right.T) * K) with respect to x, gamma and amplitude, K of y = x.

    Those of RBFKernelGrad(symmetric=True) for grad_output = left right.T, which is computed tile by
    tile: half the distances and exponentials of RBFDotGrad. Inputs x (n, d), gamma and amplitude
    (), left and right (n, p). Outputs: one for each name in `wrt`, in this order. Put where a graph
    is compiled, it has no derivative. Errors as RBFDot's.
    """

    symmetric = True
    given_names = ("left", "right")
    c_function, c_kernel = "rbf_outer_gradient_apply", "rbf_outer_gradient"

    def forward_op(self):
        return RBFKernel(symmetric=True, openmp=self.openmp)

    def _gradients(self, inputs):
        x, gamma, amplitude, left, right = inputs
        reference.check_shapes(x, x, gamma, weights=right, grad_output=left)
        whole = RBFKernelGrad(symmetric=True)
        return whole._gradients([x, gamma, amplitude, np.dot(left, right.T)])


class RBFMixture(_MatrixOp):
    """K[i, j] = sum_t amplitude[t] * exp(-gamma[t] * sum_k (x[i, k] - y[j, k])**2).

    Inputs x (n, d), y (m, d), gamma and amplitude (q,); output K (n, m). Distances are computed
    once for all widths. Otherwise as RBFKernel.
    """

    mixture = True
    in_numpy = "rbf_mixture"
    c_function, c_kernel = "rbf_mixture_apply", "rbf_mixture"

    def gradient_op(self):
        return RBFMixtureGrad(self.symmetric, openmp=self.openmp)

    def directional_derivative(self, inputs, directions):
        """The change of K in the given directions (None: zero), by mixtures of other amplitudes.

        dK[i, j] = sum_t exp(-gamma[t] D[i, j]) (damplitude[t]
                   - amplitude[t] (dgamma[t] D[i, j] + gamma[t] dD[i, j]))
        """
        x, y, gamma, amplitude = self.with_y(inputs)
        dx, dy, dgamma, damplitude = self.with_y(directions)
        distance, changes = RBFDistance(openmp=self.openmp), []

        def mixture(amplitudes):
            return self(*(list(inputs[:-1]) + [amplitudes]))

        if dx is not None or dy is not None:
            change = distance.directional_derivative((x, y), (dx, dy))
            changes.append(mixture(-amplitude * gamma) * change)
        if dgamma is not None:
            changes.append(mixture(-amplitude * dgamma) * distance(x, y))
        if damplitude is not None:
            changes.append(mixture(damplitude))
        return sum(changes[1:], changes[0]) if changes else None


class RBFMixtureGrad(_MatrixGradientOp):
    """Gradients of sum(grad_output * K) with respect to the inputs of RBFMixture.

    With E[t, i, j] = exp(-gamma[t] D[i, j]), dx and dy are sums over t of those of RBFKernelGrad,

        dgamma[t] = -amplitude[t] sum_ij G[i, j] D[i, j] E[t, i, j]
        damplitude[t] = sum_ij G[i, j] E[t, i, j]

    Inputs, outputs and errors as RBFKernelGrad's, but that gamma and amplitude have an entry a
    term.
    """

    mixture = True
    in_numpy = "rbf_mixture_grad"
    c_function, c_kernel = "rbf_mixture_gradient_apply", "rbf_mixture_gradient"

    def forward_op(self):
        return RBFMixture(self.symmetric, openmp=self.openmp)
