"""Products with a kernel matrix, and sums of it, without the matrix: dot(K, W) -> P.

A rewrite of the compiled graph, in Theano's optimizer database under the name rbf_dot, after
canonicalisation and before BLAS; `import rbf_op` registers it. optimizer_excluding=rbf_dot (or
mode.excluding("rbf_dot")) turns it off; FAST_COMPILE leaves it out. `python -m
benchmarks.rewriting` measures graphs with it and without. Above ops/; may import Theano.
"""

from collections import namedtuple

import numpy as np
import theano.tensor as T
from theano.compile import SharedVariable

from rbf_op.ops import RBFDot, RBFDotGrad, RBFKernel, RBFKernelGrad, RBFOuterGrad
from rbf_op.rewrites.gradients import forward_nodes
from rbf_op.rewrites.outer_products import Made, OuterProducts, dimshuffled, is_column
from rbf_op.theano_api import GlobalOptimizer, ancestors, clients, register_rewrite, replace

NAME = "rbf_dot"

# After Theano's stabilisation (1.5), before dot becomes a BLAS call (1.7).
POSITION = 1.6

# Columns of weights, where they are known, from which products and gradients stay as they are: the
# weights no longer fit into the caches, for which BLAS is arranged, and distances are a small part.
MANY_COLUMNS = 1000

# Of weights, up to which a product with K of y = x computes half without K, as K itself.
FEW_COLUMNS = 4


class RBFProducts(GlobalOptimizer):
    """Replace products with a Gaussian kernel matrix K, and their gradients, by matrix-free nodes.

    With E = exp(-gamma D), K = E diag(amplitude):

        dot(K, W)                              RBFDot(x, y, gamma, amplitude * W)
        dot(K.T, H)                            amplitude * RBFDot(y, x, gamma, H), gamma a scalar
                                               amplitude * E.T H from RBFDotGrad, gamma a vector
        RBFKernelGrad(..., dot(H, W.T))        RBFDotGrad(x, y, gamma, amplitude * W, H), and
                                               damplitude = sum of W * (E.T H) over its columns;
                                               of y = x RBFOuterGrad(x, gamma, amplitude, H, W)

    and RBFDotGrad nodes that differ in `wrt` alone become one, so that a layer dot(K, W) in
    training computes the exponentials once forward and once backward, as with K. Sums of K are
    products with ones, the rows and columns of K may have factors, and products from one side
    become one, their weights side by side:

        sum(h[:, None] * K * w, axis=1)        h * dot(K, w)
        dot(K, W) / sum(K, axis=1)             columns of dot(K, [1, W])
        RBFKernelGrad(..., H W.T + h 1.T)      RBFDotGrad(x, y, gamma, amplitude * [W, 1], [H, h])

    The distances of a pair of rows cost more than all else where there are many columns, so no
    rewrite may compute them more often: K stays where it is a result, where anything but products
    uses it, and where more than one node would compute it again, as products from both sides or one
    with what another is made of (but dot(K.T, H) comes with the gradient of dot(K, W), if x, y or
    gamma need one). Likewise no rewrite may need another product with a matrix as large: the
    gradient of an amplitude stays unless dot(K.T, H) is wanted anyhow, or is a vector. With y = x
    half of K is computed, without K only for FEW_COLUMNS: only products of these are rewritten
    (their gradients always, which compute half as well). Products with MANY_COLUMNS of weights or
    more stay, too. Nothing is replaced by another type.
    """

    def apply(self, fgraph):
        fgraph.rbf_products = True  # not excluded: CudaProducts asks
        made = Made()
        for node in fgraph.toposort():
            if isinstance(node.op, RBFKernelGrad):
                replace(fgraph, _gradient_of_product(fgraph, node, made), NAME)
        for node in fgraph.toposort():
            if isinstance(node.op, RBFKernel):
                pairs = _products(fgraph, node, made)
                if not _is_cyclic(pairs):
                    replace(fgraph, pairs, NAME)
        _merge_gradients(fgraph)


def _gradient_of_product(fgraph, node, made):
    """[(old, new)] for a gradient of K whose grad_output is an Outer that nothing else needs."""
    x, y, gamma, amplitude, grad_output = node.op.forward_op().with_y(node.inputs)
    kernels = forward_nodes(fgraph, node)
    users = [user for kernel in kernels for user, _ in clients(fgraph, kernel.outputs[0])]
    outer = OuterProducts(fgraph, made, x, y).read(grad_output, [node] + users)
    if outer is None:
        return []
    h, weights, _ = outer
    if _known_columns(h, weights) >= MANY_COLUMNS:
        return []
    if node.op.symmetric:
        gradient_op = RBFOuterGrad(node.op.wrt, openmp=node.op.openmp)
        outputs = gradient_op(x, gamma, amplitude, h, weights, return_list=True)
        return list(zip(node.outputs, outputs))
    if amplitude.ndim and weights.broadcastable[0]:
        return []
    wanted = ["weights" if name == "amplitude" else name for name in node.op.wrt]
    uses = [use for kernel in kernels for use in _uses_of(fgraph, kernel, made) or ()]
    transposed_products = [
        use.product for use in uses if use.transposed and h in made.wholes(use.factor)
    ]
    scaled = made.scaled(amplitude, weights)
    # With other products K stays, and dot(K.T, h) would be computed for the amplitude alone.
    without_others = all(
        use.transposed or scaled in made.wholes(made.scaled(amplitude, use.factor)) for use in uses
    )
    if (
        gamma.ndim == 0
        and without_others
        and any(_depends(weights, product) for product in transposed_products)
    ):
        # Of dot(K.T, h), which is a product with x and y exchanged.
        exchanged = {"x": "y", "y": "x"}
        wrt = _in_order(exchanged.get(name, name) for name in wanted if name != "weights")
        outputs = []
        if wrt:
            gradient_op = RBFDotGrad(wrt, openmp=node.op.openmp)
            outputs = gradient_op(y, x, gamma, h, scaled, return_list=True)
        gradients = {exchanged.get(name, name): o for name, o in zip(wrt, outputs)}
        gradients["weights"] = RBFDot(openmp=node.op.openmp)(y, x, gamma, h)
    elif "weights" in wanted and not transposed_products and not is_column(h):
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
        if matrix.owner is not None and isinstance(matrix.owner.op, T.Join):
            return sum(map(_known_columns, matrix.owner.inputs[1:]))
        order, original = dimshuffled(matrix)
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


# A result that is finish(dot(K or K.T, factor)).
Use = namedtuple("Use", "product transposed factor finish")


def _uses_of(fgraph, node, made):
    """[Use] of all that a matrix K is needed for, or None if it must stay."""
    x, y, _, _ = node.op.with_y(node.inputs)
    readers = OuterProducts(fgraph, made, x, y), OuterProducts(fgraph, made, y, x)
    (kernel,) = node.outputs
    found, stack = [], [(kernel, False, readers[False].of_ones)]
    while stack:
        # K or K.T times an Outer, entry by entry.
        matrix, transposed, outer = stack.pop()
        for user in dict.fromkeys(user for user, _ in clients(fgraph, matrix)):
            if user == "output":
                return None
            if isinstance(user.op, T.DimShuffle) and tuple(user.op.new_order) == (1, 0):
                stack.append((user.outputs[0], not transposed, outer.transposed()))
                continue
            if isinstance(user.op, T.Elemwise):
                factor = readers[transposed].factor(user, matrix, (user,))
                if factor is None or not (outer.is_thin() or factor.is_thin()):
                    return None
                factor = readers[transposed].times(outer, factor)
                stack.append((user.outputs[0], transposed, factor))
                continue
            use = _use(user, matrix, transposed, outer, made)
            if use is None:
                return None
            found.append(use)
    return found


def _use(user, matrix, transposed, outer, made):
    """The Use that a node makes of K or K.T times an Outer; None if K must stay for it."""
    product = user.outputs[0]
    left, right, number = outer
    if product.dtype != matrix.dtype:
        return None
    if isinstance(user.op, T.Dot):
        first, second = user.inputs
        on_the_right = second is matrix
        factor = first if on_the_right else second
        if first is second or factor.ndim not in (1, 2) or not outer.is_thin():
            return None
        if on_the_right:
            transposed, left, right = not transposed, right, left
            if factor.ndim == 2:
                factor = made.transposed(factor)
        factor = made.cast(made.columns(factor), matrix.dtype)
        if _known_columns(factor) >= MANY_COLUMNS:
            return None
        if factor.broadcastable[0] != right.broadcastable[0]:
            return None  # the dot may fail, where the product with the other stretches it
        factor = made.times(factor, right)
    elif isinstance(user.op, T.Sum):
        if user.op.axis == (0,):
            transposed, left, right = not transposed, right, left
        factor = right
    else:
        return None

    def finish(result):
        result = made.times(result, left)
        if number is not None:
            result = made.times(result, number)
        if isinstance(user.op, T.Sum):
            result = result.dimshuffle(0) if is_column(result) else result.sum(axis=1)
            if product.ndim == 0:
                result = result.sum()
        elif product.ndim == 1:
            result = result.dimshuffle(0)
        elif on_the_right:
            result = result.dimshuffle(1, 0)
        if result.broadcastable != product.broadcastable:
            result = T.patternbroadcast(result, product.broadcastable)
        return result

    return Use(product, transposed, factor, finish)


def _products(fgraph, node, made):
    """[(old, new)] for all products with K, if nothing else uses K and K is computed only once."""
    x, y, gamma, amplitude = node.op.with_y(node.inputs)
    uses = _uses_of(fgraph, node, made) or []
    products = {use.product for use in uses}
    found, computed = [], []
    for use in uses:
        if _depends(use.factor, node.outputs[0], products):
            return []  # as in dot(K, K.T)
        if node.op.symmetric:
            use = use._replace(transposed=False)
        if not use.transposed:
            if amplitude.ndim and use.factor.broadcastable[0]:
                return []  # times the amplitude it would have as many rows as that
            use = use._replace(factor=made.scaled(amplitude, use.factor))
        gradient = None
        if use.transposed or gamma.ndim == 0:
            points = (x, y) if use.transposed else (y, x)
            gradient = _gradient_beside(fgraph, (*points, gamma), use, made)
        if gradient is None:
            computed.append(use)
        else:
            narrowed = gradient.op.narrowed(("weights",))
            found.append((use, narrowed(*gradient.inputs), gradient.inputs[-1]))
    if computed:
        factors = list(dict.fromkeys(use.factor for use in computed))
        sides = {use.transposed for use in computed}
        if len(sides) > 1:
            return []
        if node.op.symmetric and not (len(factors) <= FEW_COLUMNS and all(map(is_column, factors))):
            return []
        whole = made.joined(factors)
        if sides == {False}:
            product = RBFDot(openmp=node.op.openmp)(x, y, gamma, whole)
        elif gamma.ndim == 0:
            product = RBFDot(openmp=node.op.openmp)(y, x, gamma, whole)
        else:
            weights = T.zeros((y.shape[0], whole.shape[1]), dtype=y.dtype)
            weights = T.patternbroadcast(weights, (False, whole.broadcastable[1]))
            product = RBFDotGrad(("weights",), openmp=node.op.openmp)(x, y, gamma, weights, whole)
        found += [(use, product, whole) for use in computed]
    if not found:
        return []
    # Results first: what a product is multiplied by may be computed from another.
    order = {v: place for place, node in enumerate(fgraph.toposort()) for v in node.outputs}
    pairs = []
    for use, product, whole in sorted(found, key=lambda f: order[f[0].product], reverse=True):
        product = made.part(product, whole, use.factor)
        if use.transposed:
            product = made.scaled(amplitude, product)
        pairs.append((use.product, use.finish(product)))
    return pairs


def _gradient_beside(fgraph, kernel_inputs, use, made):
    """A gradient node with these inputs, and grad_output the factor of a use, or what that was
    joined into; None if there is none.

    E.T h does not depend on the weights: whichever they are, it costs that node little to give it,
    unless they are computed from that product in the first place.
    """
    for whole in made.wholes(use.factor):
        for node, _ in clients(fgraph, whole) if whole in fgraph.variables else ():
            if isinstance(getattr(node, "op", None), RBFDotGrad) and node.inputs[4] is whole:
                same = [a is b for a, b in zip(node.inputs, kernel_inputs)]
                weights = node.inputs[3]
                one_type = weights.broadcastable[1] == whole.broadcastable[1]
                if all(same) and one_type and not _depends(node.outputs[0], use.product):
                    return node
    return None


def _is_cyclic(pairs):
    """Would something be computed from itself if the old of some (old, new) became the new?

    Products that become one node depend on what any of them does, and one that comes with a
    gradient on what that does.
    """
    new_of, done = dict(pairs), set()
    for start in new_of:
        path, stack = set(), [start]
        while stack:
            variable = stack[-1]
            if variable in done:
                stack.pop()
            elif variable in path:  # all that it is computed from is done
                path.discard(variable)
                done.add(variable)
                stack.pop()
            else:
                path.add(variable)
                new = new_of.get(variable)
                below = [new] if new is not None else getattr(variable.owner, "inputs", [])
                if path.intersection(below):
                    return True
                stack.extend(v for v in below if v not in done)
    return False


def _depends(variable, on, but_for=()):
    """Is a variable computed from another, other than by way of some?"""
    return on in ancestors([variable], but_for)


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


register_rewrite(NAME, RBFProducts(), POSITION, "fast_run")
