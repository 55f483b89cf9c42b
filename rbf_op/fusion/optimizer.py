"""The forward rewrite in Theano's optimizer database, under the tag rbf_fusion.

It sees a graph as its author wrote it: before scans are taken apart, before canonicalisation and
long before elementwise fusion. theano.Mode().excluding("rbf_fusion"), or the flag
optimizer_excluding=rbf_fusion, turns it off. May import Theano.
"""

from theano import config

from rbf_op.fusion.reduced_loops import batch_loops
from rbf_op.fusion.search import find_kernels
from rbf_op.fusion.steps import fuse_steps
from rbf_op.theano_api import GlobalOptimizer, register_rewrite

TAG = "rbf_fusion"

# Between Theano's first merge (0) and its first rewrites of scans (0.05).
POSITION = 0.02


class RBFFusion(GlobalOptimizer):
    """Puts the fused node where a graph computes a Gaussian kernel and nothing else needs parts.

    Where the gradient has been taken already, it uses the parts of many spellings; such a graph is
    left as it is, since nothing would be saved. fuse, called before theano.grad, does better.
    """

    def apply(self, fgraph):
        # Without a compiler the node runs in NumPy, and so does the graph as it is.
        if not config.cxx:
            return
        # Results first: what is replaced later may be an input of what was put in before.
        for variable, batched in batch_loops(fgraph.outputs, cautious=True)[0].items():
            fgraph.replace_validate(variable, batched, reason=TAG)
        for variable, fused in find_kernels(fgraph.outputs, cautious=True)[0]:
            fgraph.replace_validate(variable, fused, reason=TAG)
        in_steps = fuse_steps(fgraph.outputs, cautious=True)[0]
        fgraph.replace_all_validate(list(in_steps.items())[::-1], reason=TAG)


register_rewrite(TAG, RBFFusion(), POSITION, "fast_run")
