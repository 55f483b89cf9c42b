"""Gradient nodes reduced to the outputs that are used; and which nodes they are the gradients of.

The first is a canonicalisation, registered for FAST_COMPILE too. Above ops/; may import Theano.
"""

from rbf_op.ops import (
    RBFDotGrad,
    RBFKernelGrad,
    RBFLogSumExpGrad,
    RBFMixtureGrad,
    RBFSoftmaxDotGrad,
)
from rbf_op.theano_api import clients, local_optimizer, register_canonicalize, trace_to


@register_canonicalize("fast_compile")
@local_optimizer([RBFKernelGrad, RBFMixtureGrad, RBFDotGrad, RBFLogSumExpGrad, RBFSoftmaxDotGrad])
def local_rbf_gradient_only_what_is_used(node, fgraph):
    """Replace a gradient Op some of whose outputs have no clients by one without them.

    Theano removes whole nodes that nobody needs, not single outputs; T.grad always asks an Op for
    the gradients of all its inputs.
    """
    return only_what_is_used(node, fgraph, node.op.wrt, node.op.narrowed)


def only_what_is_used(node, fgraph, wrt, narrowed):
    """{output: what to replace it by}, of a node whose outputs have the names `wrt`; False where
    all of them are used, or none. narrowed(names) is the Op without the others."""
    old = {n: output for n, output in zip(wrt, node.outputs) if clients(fgraph, output)}
    if not old or len(old) == len(node.outputs):
        return False
    replacements = narrowed(tuple(old))(*node.inputs, return_list=True)
    trace_to(node.outputs[0], replacements[0], fgraph.apply_nodes)
    return dict(zip(old.values(), replacements))


def forward_nodes(fgraph, gradient):
    """The nodes in a graph of which this is the gradient node: of the same inputs."""
    return [
        node
        for node in {user for user, _ in clients(fgraph, gradient.inputs[0])}
        if getattr(node, "op", None) == gradient.op.forward_op()
        and all(a is b for a, b in zip(node.inputs, gradient.inputs))
    ]
