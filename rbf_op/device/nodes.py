"""The package's nodes on the CUDA device, and the functions that put them into graphs.

CudaOp is the twin of an Op in ops/: same inputs, same derivatives, its arrays on the device.
AutoOp is one that chooses between the two at each call. Imports ops, rewrites and
all of this folder; the front ends import it when a device is asked for.
"""

from theano.ifelse import ifelse

from rbf_op.device import (
    elementwise,  # noqa: F401 (registers its rewrite)
    launch,
    placement,
    runtime,
)
from rbf_op.device.types import (
    DeviceFromHost,
    DeviceType,
    HostFromDevice,
    as_device,
    host_from_device,
    local_cut_copies,
)
from rbf_op.ops import RBFDot, RBFDotGrad, RBFKernel, RBFKernelGrad, RBFOuterGrad
from rbf_op.rewrites.gradients import only_what_is_used
from rbf_op.rewrites.products import POSITION, RBFProducts
from rbf_op.theano_api import (
    Apply,
    GlobalOptimizer,
    Op,
    clients,
    local_optimizer,
    register_canonicalize,
    register_rewrite,
    replace,
)


class _Twin(Op):
    """An Op of ops/, `host_op`, computed elsewhere: same inputs, derivatives and shapes."""

    __props__ = ("host_op",)
    place = ""

    def __init__(self, host_op):
        self.host_op = host_op

    def __str__(self):
        return "%s{%s}" % (self.place, self.host_op)

    def infer_shape(self, node, shapes):
        return self.host_op.infer_shape(node, shapes)

    def L_op(self, inputs, outputs, output_gradients):
        if hasattr(self.host_op, "gradient_op"):
            grad_op = type(self)(self.host_op.gradient_op())
            return grad_op(*(list(inputs) + [output_gradients[0]]), return_list=True)
        return self.second_order(inputs, output_gradients)


class CudaOp(_Twin):
    """An RBFKernel, RBFDot, gradient of either or RBFOuterGrad, computed on the device.

    Inputs and outputs are those of `host_op`, which also says what is differentiable and how, with
    DeviceType in the place of TensorType.
    """

    place = "Cuda"

    def make_node(self, *inputs):
        node = self.host_op.make_node(*_to_host(inputs))  # checks and casts
        outputs = [DeviceType(o.dtype, o.broadcastable)() for o in node.outputs]
        return Apply(self, [as_device(v) for v in node.inputs], outputs)

    def do_constant_folding(self, node):
        return False

    def perform(self, node, inputs, output_storage):
        with runtime.device() as device:
            results = _COMPUTE[type(self.host_op)](self.host_op, device, inputs, output_storage)
        for storage, result in zip(output_storage, results):
            storage[0] = result

    def second_order(self, inputs, output_gradients):
        # Expressions of several nodes; those of the package's that meet device arrays move to the
        # device when the graph is compiled.
        gradients = self.host_op.L_op(_to_host(inputs), None, _to_host(output_gradients))
        return [as_device(g) if hasattr(g.type, "ndim") else g for g in gradients]

    def R_op(self, inputs, eval_points):
        changes = self.host_op.R_op(_to_host(inputs), _to_host(eval_points))
        return [None if c is None else as_device(c) for c in changes]


def _to_host(variables):
    return [
        host_from_device(v) if isinstance(getattr(v, "type", None), DeviceType) else v
        for v in variables
    ]


def _is_on_device(variable):
    """Whether a variable is on the device, or a copy of one that is."""
    if isinstance(variable.type, DeviceType):
        return True
    return variable.owner is not None and isinstance(variable.owner.op, HostFromDevice)


def _kernel(op, device, inputs, output_storage):
    return [launch.forward(device, *op.with_y(inputs), out=output_storage[0][0])]


def _kernel_gradient(op, device, inputs, output_storage):
    # Where y is x, the gradient with respect to x is the sum of both.
    names = ["x+y" if n == "x" and op.symmetric else n for n in op.wrt]
    gradients = launch.gradient(device, *op.forward_op().with_y(inputs), wanted=names)
    return [gradients[n] for n in names]


def _product(op, device, inputs, output_storage):
    return [launch.product(device, *inputs)]


def _product_gradient(op, device, inputs, output_storage):
    gradients = launch.product_gradient(device, *inputs, wanted=op.wrt)
    return [gradients[n] for n in op.wrt]


def _outer_gradient(op, device, inputs, output_storage):
    gradients = launch.outer_gradient(device, *inputs, wanted=op.wrt)
    return [gradients[n] for n in op.wrt]


_COMPUTE = {
    RBFKernel: _kernel,
    RBFKernelGrad: _kernel_gradient,
    RBFDot: _product,
    RBFDotGrad: _product_gradient,
    RBFOuterGrad: _outer_gradient,
}


@register_canonicalize("fast_compile")
@local_optimizer([CudaOp])
def local_cuda_gradient_only_what_is_used(node, fgraph):
    """Replace a gradient some of whose outputs have no clients by one without them."""
    op = node.op.host_op
    return only_what_is_used(
        node, fgraph, getattr(op, "wrt", ()), lambda names: CudaOp(op.narrowed(names))
    )


@register_canonicalize("fast_compile")
@local_optimizer(list(_COMPUTE))
def local_move_to_device(node, fgraph):
    """Compute on the device what would take its arrays from there."""
    if not any(map(_is_on_device, node.inputs)):
        return False
    outputs = CudaOp(node.op)(*node.inputs, return_list=True)
    return [host_from_device(o) for o in outputs]


class CudaProducts(GlobalOptimizer):
    """Replace products with a kernel matrix of the device, as RBFProducts does on the host.

    K would be copied to the host to be multiplied there. So that both follow one set of rules, the
    kernel matrices and their gradients are put back into host nodes, RBFProducts is applied, and
    what they have become then returns to the device. Comes after RBFProducts, which leaves nothing
    more to do for the graph's own host nodes, and only where that was not excluded itself.
    optimizer_excluding=rbf_dot_cuda turns it off.
    """

    name = "rbf_dot_cuda"

    def apply(self, fgraph):
        ours = [n for n in fgraph.toposort() if isinstance(n.op, CudaOp)]
        ours = [n for n in ours if isinstance(n.op.host_op, (RBFKernel, RBFKernelGrad))]
        if not ours or not getattr(fgraph, "rbf_products", False):
            return
        before = set(_host_nodes(fgraph))
        on_host = {}
        for node in ours:
            inputs = [on_host.setdefault(v, host_from_device(v)) for v in node.inputs]
            outputs = node.op.host_op(*inputs, return_list=True)
            self._replace(fgraph, node, map(as_device, outputs))
        self._cut_copies(fgraph)
        RBFProducts().apply(fgraph)
        for node in _host_nodes(fgraph):
            if node not in before:
                outputs = CudaOp(node.op)(*node.inputs, return_list=True)
                self._replace(fgraph, node, map(host_from_device, outputs))
        self._cut_copies(fgraph)

    def _cut_copies(self, fgraph):
        for node in fgraph.toposort():
            if isinstance(node.op, (HostFromDevice, DeviceFromHost)):
                originals = local_cut_copies.transform(node)
                if originals:
                    self._replace(fgraph, node, originals)

    def _replace(self, fgraph, node, outputs):
        replace(fgraph, list(zip(node.outputs, outputs)), reason=self.name)


def _host_nodes(fgraph):
    return [node for node in fgraph.toposort() if type(node.op) in _COMPUTE]


register_rewrite(CudaProducts.name, CudaProducts(), POSITION + 0.01, "fast_run")


# -- For the front ends ----------------------------------------------------------------------------


class AutoOp(_Twin):
    """An RBFDot or RBFDotGrad of host arrays that is computed where it is done sooner.

    When a graph is compiled, it becomes a choice between `host_op` and the same on the device, made
    by placement.product_pays at each call.
    """

    place = "Auto"

    def make_node(self, *inputs):
        node = self.host_op.make_node(*inputs)
        return Apply(self, node.inputs, [o.type() for o in node.outputs])

    def perform(self, node, inputs, output_storage):
        self.host_op.perform(node, inputs, output_storage)  # where no rewrites run

    def second_order(self, inputs, output_gradients):
        return self.host_op.L_op(inputs, None, output_gradients)

    def R_op(self, inputs, eval_points):
        return self.host_op.R_op(inputs, eval_points)


@register_canonicalize("fast_compile")
@local_optimizer([AutoOp])
def local_choose_device(node, fgraph):
    """Put the choice in the place of an AutoOp, for those of its outputs that are used.

    Theano's default linker and "vm" compute only the branch that is taken. (ifelse itself does not
    come before T.grad, which would compute the gradients of both branches.)
    """
    op, outputs = node.op.host_op, node.outputs
    if hasattr(op, "wrt"):
        outputs = [o for o in outputs if clients(fgraph, o)]
        if not outputs:
            return False
        op = op.narrowed(tuple(n for n, o in zip(op.wrt, node.outputs) if o in outputs))
    return dict(zip(outputs, _chosen(op, node.inputs)))


def _chosen(op, inputs):
    """The outputs of an RBFDot, RBFDotGrad or RBFOuterGrad of host arrays, computed where it is
    done sooner.
    """
    x, y, _ = _points(op, inputs)
    p = inputs[-1].shape[1]  # of weights, or what has as many columns
    sizes = x.shape[0], y.shape[0], x.shape[1], p
    how = dict(wrt=getattr(op, "wrt", None), symmetric=isinstance(op, RBFOuterGrad))
    pays = placement.product_pays(*sizes, dtype=x.dtype, **how)
    on_device = [host_from_device(o) for o in CudaOp(op)(*inputs, return_list=True)]
    return ifelse(pays, on_device, op(*inputs, return_list=True))


def _points(op, inputs):
    """(x, y, gamma) of an RBFDot or RBFDotGrad, or of an RBFOuterGrad, in which y is x."""
    return (inputs[0], *inputs[:2]) if isinstance(op, RBFOuterGrad) else tuple(inputs[:3])


# Of the outputs of RBFKernel nodes, in their tag: device "auto" was asked for.
_AUTO = "rbf_op_device_auto"


class AutoKernels(GlobalOptimizer):
    """Before RBFProducts: note on the graph what it will make of kernel matrices of device "auto".

    As fgraph.rbf_op_auto: their points and gamma, either way round, and the nodes there already.
    """

    name = "rbf_kernel_auto"

    def apply(self, fgraph):
        points = set()
        for node in fgraph.toposort():
            if isinstance(node.op, RBFKernel) and getattr(node.outputs[0].tag, _AUTO, False):
                x, y, gamma, _ = node.op.with_y(node.inputs)
                points.update([(x, y, gamma), (y, x, gamma)])
        fgraph.rbf_op_auto = points, set(_host_nodes(fgraph)) if points else set()


class AutoProducts(GlobalOptimizer):
    """Let what RBFProducts made of kernel matrices of device "auto" go where it is done sooner.

    Such a matrix is computed on the CPU, since it would have to come back; the products and
    gradients that take its place need not. optimizer_excluding=rbf_dot_auto turns it off.
    """

    name = "rbf_dot_auto"

    def apply(self, fgraph):
        points, before = getattr(fgraph, "rbf_op_auto", ((), ()))
        for node in _host_nodes(fgraph) if points else ():
            if node not in before and _points(node.op, node.inputs) in points:
                chosen = _chosen(node.op, node.inputs)
                replace(fgraph, list(zip(node.outputs, chosen)), reason=self.name)


register_rewrite(AutoKernels.name, AutoKernels(), POSITION - 0.01, "fast_run")
register_rewrite(AutoProducts.name, AutoProducts(), POSITION + 0.005, "fast_run")


def placed(op, device, inputs):
    """The output of an RBFKernel or RBFDot on device "cuda" or "auto", as a tensor variable.

    inputs: those of the Op, each a tensor or device variable. What consumes the result on the
    device takes it from there; anything else gets a copy.

    With "auto" it goes to the device if one of the inputs is there. Else a product goes there if it
    is large enough, which is decided at each call; a kernel matrix stays on the CPU, since copying
    it back takes longer than computing it, unless all that is wanted of it is a product.
    """
    if device == "auto" and not any(map(_is_on_device, inputs)):
        host = op(*inputs)
        if not placement.made_for(host.dtype):
            return host
        if isinstance(op, RBFDot):
            return AutoOp(op)(*inputs)
        setattr(host.tag, _AUTO, True)
        return host
    return host_from_device(CudaOp(op)(*inputs))
