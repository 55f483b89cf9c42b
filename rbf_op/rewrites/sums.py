"""Sums of a kernel matrix, or of a product with one, that come with the gradients of such a sum.

Rewrites of the compiled graph, in Theano's optimizer database under the names rbf_sum and
rbf_dot_sum, after canonicalisation; `import rbf_op` registers them. optimizer_excluding=rbf_sum
(or rbf_dot_sum) turn them off; FAST_COMPILE leaves them out. Above ops/; may import Theano.
"""

import theano.tensor as T

from rbf_op.ops import RBFDotGrad, RBFKernelGrad, RBFMixtureGrad
from rbf_op.rewrites.gradients import forward_nodes
from rbf_op.rewrites.outer_products import number_filling
from rbf_op.theano_api import (
    GlobalOptimizer,
    ancestors,
    clients,
    register_rewrite,
    replace,
)


class RBFSums(GlobalOptimizer):
    """Replace sum(F * G) where the gradient node of F is given that G, and nothing else needs F.

    F is linear in one of its inputs, and the gradient with respect to that is at hand in the
    gradient node, which has E = exp(-gamma D):

        K = E diag(amplitude)    damplitude[j] = sum_i G[i, j] E[i, j]     (name rbf_sum)
        P = E W                  dW = E.T G                                (name rbf_dot_sum)

    So sum(K * G) -> sum(amplitude * damplitude) and sum(P * G) -> sum(W * dW), and F need not be
    computed, multiplied and summed. A mixture is the same, with one amplitude a term. sum(F) is the
    same with G of ones; where G is another number, as it is for a mean, the gradients are those for
    ones times that, if it is not computed from the sum: 1 / sum(F), as of log(sum(F)), may be so
    large that the gradients for ones are less than any float. Nothing is replaced by another type.
    """

    def __init__(self, name, gradient_types, linear_input):
        super().__init__()
        self._name, self._gradient_types, self._linear_input = name, gradient_types, linear_input

    def apply(self, fgraph):
        for node in fgraph.toposort():
            if isinstance(node.op, self._gradient_types):
                number = _scalar_filling(node.inputs[-1])
                sums = _sums_with(fgraph, node, number)
                if sums:
                    self._replace(fgraph, node, sums, number)

    def _replace(self, fgraph, gradient, sums, number):
        names, linear_input = gradient.op.forward_op().input_names, self._linear_input
        wrt = tuple(name for name in names if name in gradient.op.wrt + (linear_input,))
        *inputs, grad_output = gradient.inputs
        if number is not None:
            one = T.constant(1, dtype=grad_output.dtype)
            shape = grad_output.owner.inputs[1:]
            # Of a mean of nothing it is infinite, and its gradients are sums of nothing.
            number = T.switch(T.eq(T.mul(*shape), 0), one, number)
            grad_output = T.alloc(one, *shape)
        outputs = gradient.op.narrowed(wrt)(*inputs, grad_output, return_list=True)
        found = dict(zip(wrt, outputs))
        total = (inputs[names.index(linear_input)] * found[linear_input]).sum()
        if number is not None:
            found = {name: number * output for name, output in found.items()}
        pairs = [(old, found[name]) for name, old in zip(gradient.op.wrt, gradient.outputs)]
        pairs += [(old, total) for old in sums]
        replace(fgraph, pairs, self._name)


def _sums_with(fgraph, gradient, number):
    """The variables sum(F * G) of a gradient node's F and G, filled with a number or None; [] if F
    has another use, or if that number is computed from one of them."""
    grad_output = gradient.inputs[-1]
    sums = []
    for forward in forward_nodes(fgraph, gradient):
        for user, _ in clients(fgraph, forward.outputs[0]):
            total = _total_of(fgraph, user, forward.outputs[0], grad_output, number)
            if total is None or total.dtype != grad_output.dtype:
                return []
            sums.append(total)
    if sums and number is not None and any(v in sums for v in ancestors([number])):
        return []
    return sums


def _total_of(fgraph, user, output, grad_output, number):
    """sum(output * grad_output) if this user of output is on the way to it and to nothing else."""
    if user == "output":
        return None
    if isinstance(user.op, T.Sum):
        uniform = number is not None or number_filling(grad_output) == 1
        return user.outputs[0] if user.outputs[0].ndim == 0 and uniform else None
    if not (isinstance(user.op, T.Elemwise) and user.op.scalar_op == T.mul.scalar_op):
        return None
    if number is not None:
        return None
    if len(user.inputs) != 2 or not any(v is grad_output for v in user.inputs):
        return None
    if output is grad_output:
        return None
    ((after, _), *more) = clients(fgraph, user.outputs[0])
    if more or after == "output" or not isinstance(after.op, T.Sum) or after.outputs[0].ndim:
        return None
    return after.outputs[0]


def _scalar_filling(variable):
    """The number that a matrix is filled with, unless it is known to be 1; None if it is not so."""
    node = variable.owner
    if node is None or not isinstance(node.op, T.Alloc) or not all(node.inputs[0].broadcastable):
        return None
    return None if number_filling(variable) == 1 else node.inputs[0].dimshuffle()


# After Theano's stabilisation (1.5), before rbf_dot (1.6); after that, before BLAS (1.7).
for _name, _gradient_types, _linear_input, _position in (
    ("rbf_sum", (RBFKernelGrad, RBFMixtureGrad), "amplitude", 1.55),
    ("rbf_dot_sum", (RBFDotGrad,), "weights", 1.65),
):
    register_rewrite(_name, RBFSums(_name, _gradient_types, _linear_input), _position, "fast_run")
