"""Gradients of a product with K of y = x from half of K.

A rewrite of the compiled graph, in Theano's optimizer database under the name rbf_symmetric, after
those of products and sums; `import rbf_op` registers it. optimizer_excluding=rbf_symmetric turns it
off; FAST_COMPILE leaves it out. Above ops/; may import Theano.
"""

import theano.tensor as T

from rbf_op.ops import RBFDot, RBFDotGrad, RBFOuterGrad
from rbf_op.rewrites.outer_products import is_column
from rbf_op.theano_api import GlobalOptimizer, clients, register_rewrite, replace

NAME = "rbf_symmetric"

# After rbf_dot_sum (1.65), before what is for single nodes of any kind (2).
POSITION = 1.66


class SymmetricProducts(GlobalOptimizer):
    """Replace RBFDotGrad(x, x, gamma, W, H) where dx and dy are only added to each other.

    As T.grad adds them: G = H W.T is then needed as G + G.T alone, and K is symmetric, so that half
    of K is enough (RBFOuterGrad). dW = K H comes from RBFDot, which computes half of it too for a
    few columns: it stays where W has more.
    """

    def apply(self, fgraph):
        for node in fgraph.toposort():
            if isinstance(node.op, RBFDotGrad) and node.inputs[0] is node.inputs[1]:
                replace(fgraph, _halved(fgraph, node), NAME)


def _halved(fgraph, node):
    """[(old, new)] for the gradients by such a node; [] where it stays."""
    x, _, gamma, weights, grad_output = node.inputs
    outputs = dict(zip(node.op.wrt, node.outputs))
    if gamma.ndim or "weights" in outputs and not is_column(weights):
        return []
    of_points = [outputs[name] for name in ("x", "y") if name in outputs]
    total = _sum_of(fgraph, of_points)
    wrt = [name for name in ("x", "gamma") if name in outputs]
    if not wrt or of_points and total is None:
        return []
    one = T.constant(1, dtype=x.dtype)
    gradient_op = RBFOuterGrad(tuple(wrt), openmp=node.op.openmp)
    gradients = gradient_op(x, gamma, one, grad_output, weights, return_list=True)
    found = dict(zip(wrt, gradients))
    pairs = []
    if "weights" in outputs:
        product = RBFDot(openmp=node.op.openmp)(x, x, gamma, grad_output)
        pairs.append((outputs["weights"], product))
    if "gamma" in outputs:
        pairs.append((outputs["gamma"], found["gamma"]))
    if total is not None:
        rest = [v for v in total.inputs if v not in of_points]
        pairs.append((total.outputs[0], T.add(found["x"], *rest) if rest else found["x"]))
    return pairs


def _sum_of(fgraph, variables):
    """The node that adds two variables, once each, if nothing else needs either; else None."""
    users = [user for variable in variables for user, _ in clients(fgraph, variable)]
    if len(variables) != 2 or len(users) != 2 or users[0] is not users[1]:
        return None
    return users[0] if getattr(users[0], "op", None) == T.add else None


register_rewrite(NAME, SymmetricProducts(), POSITION, "fast_run")
