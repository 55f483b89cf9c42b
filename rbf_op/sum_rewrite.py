"""The sum of a kernel matrix that is only summed and differentiated, without the matrix.

A rewrite of the compiled graph, in Theano's optimizer database under the name rbf_sum, after
canonicalisation; `import rbf_op` registers it. optimizer_excluding=rbf_sum turns it off;
FAST_COMPILE leaves it out. Above ops.py; may import Theano by way of theano_api.
"""

import theano.tensor as T

from rbf_op.ops import RBFKernel, RBFKernelGrad
from rbf_op.theano_api import Constant, GlobalOptimizer, clients, register_rewrite

NAME = "rbf_sum"

# After Theano's stabilisation (1.5), before rbf_dot (1.6).
POSITION = 1.55


class RBFSums(GlobalOptimizer):
    """Replace sum(K * G) where the gradient node of K is given that G, and nothing else needs K.

    The gradient with respect to the amplitude is sum_i G[i, j] E[i, j], K = E diag(amplitude), and
    costs the gradient node, which has E at hand, two instructions an entry. So

        sum(K * G)  ->  sum(amplitude * gradient)

    and K need not be formed, multiplied and summed. sum(K) is the same with G of ones. Nothing is
    replaced by another type.
    """

    def apply(self, fgraph):
        for node in fgraph.toposort():
            if isinstance(node.op, RBFKernelGrad):
                sums = _sums_with(fgraph, node)
                if sums:
                    _replace(fgraph, node, sums)


def _sums_with(fgraph, gradient):
    """The variables sum(K * G) of a gradient node's K and G; [] if K has another use."""
    inputs, grad_output = gradient.inputs[:-1], gradient.inputs[-1]
    sums = []
    for kernel in {user for user, _ in clients(fgraph, inputs[0])}:
        if not isinstance(getattr(kernel, "op", None), RBFKernel):
            continue
        if kernel.op != gradient.op.forward_op() or any(
            a is not b for a, b in zip(kernel.inputs, inputs)
        ):
            continue
        for user, _ in clients(fgraph, kernel.outputs[0]):
            total = _total_of(fgraph, user, kernel.outputs[0], grad_output)
            if total is None or total.dtype != grad_output.dtype:
                return []
            sums.append(total)
    return sums


def _total_of(fgraph, user, kernel, grad_output):
    """sum(kernel * grad_output) if this user of kernel is on the way to it and to nothing else."""
    if user == "output":
        return None
    if isinstance(user.op, T.Sum):
        return user.outputs[0] if user.outputs[0].ndim == 0 and _is_ones(grad_output) else None
    if not (isinstance(user.op, T.Elemwise) and user.op.scalar_op == T.mul.scalar_op):
        return None
    if len(user.inputs) != 2 or not any(v is grad_output for v in user.inputs):
        return None
    if kernel is grad_output:
        return None
    ((after, _), *more) = clients(fgraph, user.outputs[0])
    if more or after == "output" or not isinstance(after.op, T.Sum) or after.outputs[0].ndim:
        return None
    return after.outputs[0]


def _is_ones(variable):
    node = variable.owner
    while node is not None and isinstance(node.op, (T.Alloc, T.DimShuffle)):
        variable = node.inputs[0]
        node = variable.owner
    return isinstance(variable, Constant) and (variable.data == 1).all()


def _replace(fgraph, gradient, sums):
    names = gradient.op.forward_op().input_names
    wrt = tuple(name for name in names if name in gradient.op.wrt + ("amplitude",))
    outputs = gradient.op.narrowed(wrt)(*gradient.inputs, return_list=True)
    found = dict(zip(wrt, outputs))
    total = gradient.inputs[names.index("amplitude")] * found["amplitude"]
    if total.ndim:
        total = total.sum()
    pairs = [(old, found[name]) for name, old in zip(gradient.op.wrt, gradient.outputs)]
    pairs += [(old, total) for old in sums]
    if all(old.type == new.type for old, new in pairs):
        fgraph.replace_all_validate(pairs, reason=NAME)


def register():
    """Register the rewrite, once."""
    register_rewrite(NAME, RBFSums(), POSITION, "fast_run")


register()
