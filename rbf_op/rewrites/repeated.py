"""Gradients with respect to a matrix that are one number, row or column over and over, not stored.

A rewrite of the compiled graph, in Theano's optimizer database under the name rbf_repeated, after
those of products and sums; `import rbf_op` registers it. optimizer_excluding=rbf_repeated turns it
off; FAST_COMPILE leaves it out. Above ops/; may import Theano.
"""

import theano.tensor as T

from rbf_op.ops import RBFKernelGrad, RBFMixtureGrad, Repeated
from rbf_op.rewrites.outer_products import filling
from rbf_op.theano_api import GlobalOptimizer, register_rewrite, replace

NAME = "rbf_repeated"

# After rbf_dot_sum (1.65), before what is for single nodes of any kind (2).
POSITION = 1.67


class RepeatedGradients(GlobalOptimizer):
    """Replace grad_output of a gradient node by a view where it is filled with what repeats.

    The gradient of a sum or a mean of a matrix is one number, that of the sums of its rows a
    column: filling a matrix with it takes as long as the node itself does where there are few
    columns of x. The node reads it by its strides, which are zero.
    """

    def apply(self, fgraph):
        for node in fgraph.toposort():
            if isinstance(node.op, (RBFKernelGrad, RBFMixtureGrad)):
                *inputs, grad_output = node.inputs
                view = _view(grad_output)
                if view is not None:
                    outputs = node.op(*inputs, view, return_list=True)
                    replace(fgraph, list(zip(node.outputs, outputs)), NAME)


def _view(matrix):
    """A matrix that is filled with what repeats, without a copy of that; else None."""
    node = matrix.owner
    if node is None or not isinstance(node.op, T.Alloc):
        return None
    values, (rows, columns) = filling(node), node.inputs[1:]
    if all(values.broadcastable):  # the node reads rows whose entries lie side by side
        values = T.alloc(values, 1, columns)
    return Repeated()(values, rows, columns) if any(values.broadcastable) else None


register_rewrite(NAME, RepeatedGradients(), POSITION, "fast_run")
