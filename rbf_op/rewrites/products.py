"""Products with a kernel matrix that nothing else needs, done without the matrix: dot(K, W) -> P.

A rewrite of the compiled graph, in Theano's optimizer database under the name rbf_dot, after
canonicalisation and before BLAS; `import rbf_op` registers it. optimizer_excluding=rbf_dot (or
mode.excluding("rbf_dot")) turns it off; FAST_COMPILE leaves it out. `python -m
benchmarks.rewriting` measures graphs with it and without. Above ops/; may import Theano.
"""

import numpy as np
import theano.tensor as T
from theano.compile import SharedVariable

from rbf_op.ops import RBFDot, RBFDotGrad, RBFKernel, RBFKernelGrad
from rbf_op.theano_api import Constant, GlobalOptimizer, clients, register_rewrite, replace

NAME = "rbf_dot"

# After Theano's stabilisation (1.5), before dot becomes a BLAS call (1.7).
POSITION = 1.6

# Columns of weights, where they are known, from which products and gradients stay as they are: the
# weights no longer fit into the caches, for which BLAS is arranged, and distances are a small part.
MANY_COLUMNS = 1000


class RBFProducts(GlobalOptimizer):
    """Replace products with a Gaussian kernel matrix K, and their gradients, by matrix-free nodes.

    With E = exp(-gamma D), K = E diag(amplitude):

        dot(K, W)                              RBFDot(x, y, gamma, amplitude * W)
        dot(K.T, H)                            amplitude * RBFDot(y, x, gamma, H), gamma a scalar
                                               amplitude * E.T H from RBFDotGrad, gamma a vector
        RBFKernelGrad(..., dot(H, W.T))        RBFDotGrad(x, y, gamma, amplitude * W, H), and
                                               damplitude = sum of W * (E.T H) over its columns

    and RBFDotGrad nodes that differ in `wrt` alone become one, so that a layer dot(K, W) in
    training computes the exponentials once forward and once backward, as with K.

    The distances of a pair of rows cost more than all else where there are many columns, so no
    rewrite may compute them more often: K stays where it is a result, where anything but a product
    uses it, and where more than one product would compute it again (but dot(K.T, H) comes with the
    gradient of dot(K, W), if x, y or gamma need one). Likewise no rewrite may need another product
    with a matrix as large: the gradient of an amplitude stays unless dot(K.T, H) is wanted anyhow.
    With y = x half of K is computed, without K only for a few columns: such products are rewritten
    where there is but one, their gradients not at all. Products with MANY_COLUMNS
    of weights or more stay, too. Nothing is replaced by another type.
    """

    def apply(self, fgraph):
        fgraph.rbf_products = True  # not excluded: CudaProducts asks
        made = _Made()
        for node in fgraph.toposort():
            if isinstance(node.op, RBFKernelGrad):
                replace(fgraph, _gradient_of_product(fgraph, node, made), NAME)
        for node in fgraph.toposort():
            if isinstance(node.op, RBFKernel):
                replace(fgraph, _products(fgraph, node, made), NAME)
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
        """A vector as a matrix of one column; a matrix as it is, if transposed by `transposed`."""
        order, original = _dimshuffled(variable)
        if order == (1, 0):
            return self.transposed(original)
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
    """(new order, input) if the variable is all of another, else (None, None)."""
    node = variable.owner
    if node is not None and isinstance(node.op, T.DimShuffle) and not node.op.drop:
        return tuple(node.op.new_order), node.inputs[0]
    return None, None


def _used_only_by(fgraph, variable):
    """The nodes that use a variable, once per input they use it for; None if it is a result."""
    users = [node for node, _ in clients(fgraph, variable)]
    return None if "output" in users else users


def _gradient_of_product(fgraph, node, made):
    """[(old, new)] for a gradient of K whose grad_output is a product that nothing else needs."""
    grad_output = node.inputs[-1]
    product = grad_output.owner
    if (
        node.op.symmetric
        or product is None
        or not isinstance(product.op, T.Dot)
        or [v.ndim for v in product.inputs] != [2, 2]
        or any(v.dtype != grad_output.dtype for v in product.inputs)
        or _used_only_by(fgraph, grad_output) != [node]
    ):
        return []
    x, y, gamma, amplitude = node.inputs[:-1]
    h, weights = made.columns(product.inputs[0]), made.transposed(product.inputs[1])
    if _known_columns(h, weights) >= MANY_COLUMNS:
        return []
    if amplitude.ndim and weights.broadcastable[0]:
        return []
    wanted = ["weights" if name == "amplitude" else name for name in node.op.wrt]
    transposed_products = _transposed_products(fgraph, node, h, made)
    scaled = made.scaled(amplitude, weights)
    if gamma.ndim == 0 and any(_depends(weights, p) for p in transposed_products):
        # Of dot(K.T, h), which is a product with x and y exchanged.
        exchanged = {"x": "y", "y": "x"}
        wrt = _in_order(exchanged.get(name, name) for name in wanted if name != "weights")
        outputs = []
        if wrt:
            gradient_op = RBFDotGrad(wrt, openmp=node.op.openmp)
            outputs = gradient_op(y, x, gamma, h, scaled, return_list=True)
        gradients = {exchanged.get(name, name): o for name, o in zip(wrt, outputs)}
        gradients["weights"] = RBFDot(openmp=node.op.openmp)(y, x, gamma, h)
    elif "weights" in wanted and not transposed_products:
        return []
    else:
        wrt = _in_order(wanted)
        gradient_op = RBFDotGrad(wrt, openmp=node.op.openmp)
        outputs = gradient_op(x, y, gamma, scaled, h, return_list=True)
        gradients = dict(zip(wrt, outputs))
    if "weights" in wanted:
        terms = weights * gradients["weights"]
        gradients["amplitude"] = terms.sum(axis=1) if amplitude.ndim else terms.sum()
    return [(output, gradients[name]) for name, output in zip(node.op.wrt, node.outputs)]


def _known_columns(*matrices):
    """Their common number of columns as far as constants and shared variables tell, or 0."""
    for matrix in matrices:
        order, original = _dimshuffled(matrix)
        transposed = order == (1, 0)
        source = original if transposed else matrix
        if isinstance(source, SharedVariable):
            value = source.get_value(borrow=True)
        else:
            value = getattr(source, "data", None)
        if np.ndim(value) == 2:
            return np.shape(value)[0 if transposed else 1]
    return 0


def _in_order(names):
    names = set(names)
    return tuple(name for name in RBFDot.input_names if name in names)


def _transposed_products(fgraph, gradient, h, made):
    """The results dot(K.T, h) in the graph, K being what this is the gradient node of."""
    found = []
    for node, _ in clients(fgraph, gradient.inputs[0]):
        if (
            isinstance(getattr(node, "op", None), RBFKernel)
            and node.op == gradient.op.forward_op()
            and all(a is b for a, b in zip(node.inputs, gradient.inputs))
        ):
            for product, transposed, factor, _ in (
                _uses_of(fgraph, node.outputs[0], False, made) or []
            ):
                if transposed and made.columns(factor) is h:
                    found.append(product)
    return found


def _products(fgraph, node, made):
    """[(old, new)] for all products with K, if nothing else uses K and K is computed only once."""
    x, y, gamma, amplitude = node.op.with_y(node.inputs)
    found = []
    for product, transposed, factor, turned in _uses_of(fgraph, node.outputs[0], False, made) or []:
        factor = made.columns(factor)
        if _known_columns(factor) >= MANY_COLUMNS:
            return []
        if not transposed:
            if amplitude.ndim and factor.broadcastable[0]:
                return []  # times the amplitude it would have as many rows as that
            factor = made.scaled(amplitude, factor)
        points = (x, y) if transposed else (y, x)
        weights = None
        if transposed or gamma.ndim == 0:
            weights = _weights_of_gradient(fgraph, points + (gamma,), factor, product)
        if node.op.symmetric and not factor.broadcastable[1]:
            return []
        found.append((product, transposed, factor, turned, points, weights))
    if sum(weights is None for *_, weights in found) > 1:
        return []
    pairs = []
    for product, transposed, factor, turned, points, weights in found:
        if weights is None and (not transposed or gamma.ndim == 0):
            new = RBFDot(openmp=node.op.openmp)(points[1], points[0], gamma, factor)
        else:
            if weights is None:
                weights = T.zeros((y.shape[0], factor.shape[1]), dtype=y.dtype)
                weights = T.patternbroadcast(weights, (False, factor.broadcastable[1]))
            gradient_op = RBFDotGrad(("weights",), openmp=node.op.openmp)
            new = gradient_op(points[0], points[1], gamma, weights, factor)
        if transposed:
            new = made.scaled(amplitude, new)
        if product.ndim == 1:
            new = new.dimshuffle(0)
        elif turned:
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


def _weights_of_gradient(fgraph, kernel_inputs, h, product):
    """The weights of a gradient node of kernel_inputs and grad_output h; None if there is none.

    E.T h does not depend on the weights: whichever they are, it costs that node little to give it,
    unless they are computed from that product in the first place.
    """
    for node, _ in clients(fgraph, h) if h in fgraph.variables else ():
        if isinstance(getattr(node, "op", None), RBFDotGrad):
            same = [a is b for a, b in zip(node.inputs, kernel_inputs)]
            weights = node.inputs[3]
            one_type = weights.broadcastable[1] == h.broadcastable[1]
            if all(same) and node.inputs[4] is h and one_type and not _depends(weights, product):
                return weights
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
            wrt = _in_order(name for node in nodes for name in node.op.wrt)
            outputs = nodes[0].op.narrowed(wrt)(*nodes[0].inputs, return_list=True)
            whole = dict(zip(wrt, outputs))
            pairs = [(o, whole[n]) for a in nodes for n, o in zip(a.op.wrt, a.outputs)]
            replace(fgraph, pairs, NAME)


def register():
    """Register the rewrite, once."""
    register_rewrite(NAME, RBFProducts(), POSITION, "fast_run")


register()
