"""Products with a kernel matrix that nothing else needs, done without the matrix: dot(K, W) -> P.

A rewrite of the compiled graph, in Theano's optimizer database under the name rbf_dot, after
canonicalisation and before BLAS. optimizer_excluding=rbf_dot (or mode.excluding("rbf_dot")) turns
it off; FAST_COMPILE leaves it out. Above ops.py; may import Theano by way of theano_api.
"""

import theano.tensor as T

from rbf_op.ops import RBFDot, RBFDotGrad, RBFKernel, RBFKernelGrad
from rbf_op.theano_api import Constant, GlobalOptimizer, clients, register_rewrite

NAME = "rbf_dot"

# After Theano's stabilisation (1.5), before dot becomes a BLAS call (1.7).
POSITION = 1.6


class RBFProducts(GlobalOptimizer):
    """Replace products with a Gaussian kernel matrix K, and their gradients, by matrix-free nodes.

    With E = exp(-gamma D), K = E diag(amplitude):

        dot(K, W)                              RBFDot(x, y, gamma, amplitude * W)
        dot(K.T, H)                            amplitude * RBFDot(y, x, gamma, H), gamma a scalar
                                               amplitude * E.T H from RBFDotGrad, gamma a vector
        RBFKernelGrad(..., dot(H, W.T))        RBFDotGrad(x, y, gamma, amplitude * W, H), and
                                               damplitude = sum of W * (E.T H) over its columns

    and RBFDotGrad nodes that differ in `wrt` alone become one, so that a layer dot(K, W) in
    training computes the exponentials once forward and once backward.

    K stays where it is a result, where anything but a product uses it, and where several products
    with K, or several with K.T, do: computing it once is faster then. Nothing is replaced by
    another type.
    """

    def apply(self, fgraph):
        made = _Made()
        for node in fgraph.toposort():
            if isinstance(node.op, RBFKernelGrad):
                _replace(fgraph, _gradient_of_product(fgraph, node, made))
        for node in fgraph.toposort():
            if isinstance(node.op, RBFKernel):
                _replace(fgraph, _products(fgraph, node, made))
        _merge_gradients(fgraph)


class _Made:
    """Variables made of others, each only once, so that equal ones are the same variable."""

    def __init__(self):
        self._made = {}

    def _once(self, key, build):
        if key not in self._made:
            self._made[key] = build()
        return self._made[key]

    def transposed(self, variable):
        """variable.T; what was transposed (or made a row of a vector) before, if it was."""
        order, original = _dimshuffled(variable)
        if order == (1, 0):
            return original
        if order == ("x", 0):
            return self.columns(original)
        return self._once((variable, "T"), lambda: variable.dimshuffle(1, 0))

    def columns(self, variable):
        """A vector as a matrix of one column; a matrix as it is."""
        order, original = _dimshuffled(variable)
        if order == (0, "x"):
            variable = original
        if variable.ndim == 2:
            return variable
        return self._once((variable, "column"), lambda: variable.dimshuffle(0, "x"))

    def scaled(self, amplitude, variable):
        """The rows of a matrix times amplitude, a scalar or one number per row."""
        if isinstance(amplitude, Constant) and amplitude.ndim == 0 and amplitude.data == 1:
            return variable
        factor = self.columns(amplitude) if amplitude.ndim else amplitude
        return self._once((variable, amplitude), lambda: variable * factor)


def _dimshuffled(variable):
    """(new order, input) if the variable is a DimShuffle of another, else (None, None)."""
    node = variable.owner
    if node is not None and isinstance(node.op, T.DimShuffle):
        return tuple(node.op.new_order), node.inputs[0]
    return None, None


def _replace(fgraph, pairs):
    """Replace all of the (old, new) pairs, or none if a type would change."""
    if all(old.type == new.type for old, new in pairs):
        fgraph.replace_all_validate(pairs, reason=NAME)


def _used_only_by(fgraph, variable):
    """The nodes that use a variable, once per input they use it for; None if it is a result."""
    users = [node for node, _ in clients(fgraph, variable)]
    return None if "output" in users else users


def _gradient_of_product(fgraph, node, made):
    """[(old, new)] for a gradient of K whose grad_output is a product that nothing else needs."""
    grad_output = node.inputs[-1]
    product = grad_output.owner
    if (
        product is None
        or not isinstance(product.op, T.Dot)
        or [v.ndim for v in product.inputs] != [2, 2]
        or any(v.dtype != grad_output.dtype for v in product.inputs)
        or _used_only_by(fgraph, grad_output) != [node]
    ):
        return []
    kernel = node.op.forward_op()
    x, y, gamma, amplitude = kernel.with_y(node.inputs[:-1])
    h, weights = made.columns(product.inputs[0]), made.transposed(product.inputs[1])
    wanted = {"weights" if name == "amplitude" else name for name in node.op.wrt}
    if kernel.symmetric and "x" in wanted:
        wanted.add("y")
    wrt = tuple(name for name in RBFDot.input_names if name in wanted)
    outputs = RBFDotGrad(wrt, openmp=node.op.openmp)(
        x, y, gamma, made.scaled(amplitude, weights), h, return_list=True
    )
    gradients = dict(zip(wrt, outputs))
    if kernel.symmetric and "x" in wanted:
        gradients["x"] = gradients["x"] + gradients["y"]
    if "weights" in wanted:
        terms = weights * gradients["weights"]
        gradients["amplitude"] = terms.sum(axis=1) if amplitude.ndim else terms.sum()
    return [(output, gradients[name]) for name, output in zip(node.op.wrt, node.outputs)]


def _products(fgraph, node, made):
    """[(old, new)] for all products with K, if nothing else uses K."""
    found = _uses_of(fgraph, node.outputs[0], False, made)
    if found is None:
        return []
    uses = [transposed for _, transposed, _, _ in found]
    if not uses or uses.count(False) > 1 or uses.count(True) > 1:
        return []
    x, y, gamma, amplitude = node.op.with_y(node.inputs)
    product_op = RBFDot(openmp=node.op.openmp)
    pairs = []
    for product, transposed, factor, on_the_right in found:
        columns = made.columns(factor)
        if not transposed:
            new = product_op(x, y, gamma, made.scaled(amplitude, columns))
        else:
            weights = _weights_of_gradient(fgraph, x, y, gamma, columns, product)
            if weights is None and gamma.ndim == 0:
                new = product_op(y, x, gamma, columns)
            else:
                if weights is None:
                    weights = T.zeros((y.shape[0], columns.shape[1]), dtype=y.dtype)
                    weights = T.patternbroadcast(weights, (False, columns.broadcastable[1]))
                gradient_op = RBFDotGrad(("weights",), openmp=node.op.openmp)
                new = gradient_op(x, y, gamma, weights, columns)
            new = made.scaled(amplitude, new)
        if factor.ndim == 1:
            new = new.dimshuffle(0)
        elif on_the_right:
            new = new.dimshuffle(1, 0)
        pairs.append((product, new))
    return pairs


def _uses_of(fgraph, kernel, transposed, made):
    """[(product, is K transposed, the other factor, is K on the right)], or None if K must stay.

    The other factor is so turned that the product is dot(K or K.T, factor), or the transpose of it
    if K is on the right.
    """
    users = _used_only_by(fgraph, kernel)
    if users is None:
        return None
    found = []
    for user in users:
        if isinstance(user.op, T.DimShuffle) and tuple(user.op.new_order) == (1, 0):
            more = _uses_of(fgraph, user.outputs[0], not transposed, made)
            if more is None:
                return None
            found += more
        elif isinstance(user.op, T.Dot) and user.inputs[0] is not user.inputs[1]:
            on_the_right = user.inputs[1] is kernel
            factor = user.inputs[0 if on_the_right else 1]
            if factor.ndim not in (1, 2) or factor.dtype != kernel.dtype:
                return None
            if on_the_right and factor.ndim == 2:
                factor = made.transposed(factor)
            found.append((user.outputs[0], transposed != on_the_right, factor, on_the_right))
        else:
            return None
    return found


def _weights_of_gradient(fgraph, x, y, gamma, h, product):
    """The weights of a gradient node of the same inputs and grad_output h; None if there is none.

    E.T H does not depend on the weights: whichever they are, it costs that node little to give it,
    unless they are computed from that product in the first place.
    """
    for node, _ in clients(fgraph, h) if h in fgraph.variables else ():
        if isinstance(getattr(node, "op", None), RBFDotGrad):
            same = [a is b for a, b in zip(node.inputs, (x, y, gamma))]
            if all(same) and node.inputs[4] is h and not _depends(node.inputs[3], product):
                return node.inputs[3]
    return None


def _depends(variable, on):
    """Is a variable computed from another?"""
    stack, seen = [variable], set()
    while stack:
        current = stack.pop()
        if current is on:
            return True
        if current.owner is not None and current not in seen:
            seen.add(current)
            stack.extend(current.owner.inputs)
    return False


def _merge_gradients(fgraph):
    """One gradient node in the place of several with the same inputs."""
    groups = {}
    for node in fgraph.toposort():
        if isinstance(node.op, RBFDotGrad):
            groups.setdefault((node.op.openmp,) + tuple(node.inputs), []).append(node)
    for nodes in groups.values():
        if len(nodes) > 1:
            wanted = {name for node in nodes for name in node.op.wrt}
            wrt = tuple(name for name in RBFDot.input_names if name in wanted)
            outputs = nodes[0].op.narrowed(wrt)(*nodes[0].inputs, return_list=True)
            whole = dict(zip(wrt, outputs))
            _replace(fgraph, [(o, whole[n]) for a in nodes for n, o in zip(a.op.wrt, a.outputs)])


def register():
    """Register the rewrite, once."""
    register_rewrite(NAME, RBFProducts(), POSITION, "fast_run")


register()
