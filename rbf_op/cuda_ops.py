"""The package's nodes on the CUDA device, and the functions that put them into graphs.

CudaOp is the twin of an Op in ops.py: same inputs, same derivatives, its arrays on the device.
Imports ops, cuda_type, cuda_launch and cuda_runtime; the front ends import this when a device is
asked for.
"""

import os

import theano.tensor as T
from theano.ifelse import ifelse

from rbf_op import (
    cuda_elementwise,  # noqa: F401 (registers its rewrite)
    cuda_launch,
    cuda_runtime,
)
from rbf_op.cuda_type import DeviceType, HostFromDevice, as_device, host_from_device
from rbf_op.ops import RBFDot, RBFDotGrad, RBFKernel, RBFKernelGrad
from rbf_op.theano_api import Apply, Op, clients, local_optimizer, register_canonicalize

DEVICES = ("cpu", "cuda", "auto")

#: With device "auto" a product of fewer pairs n * m than this stays on the CPU: for these a launch
#: and the copies take as long as the CPU needs. Reckoned from 50 microseconds for a launch with its
#: copies and 4e9 pairs a second on a CPU with few cores; not yet measured on a device.
AUTO_PAIRS = 200000


class CudaOp(Op):
    """An RBFKernel, RBFKernelGrad, RBFDot or RBFDotGrad computed on the device.

    Inputs and outputs are those of `host_op`, which also says what is differentiable and how, with
    DeviceType in the place of TensorType.
    """

    __props__ = ("host_op",)

    def __init__(self, host_op):
        self.host_op = host_op

    def __str__(self):
        return "Cuda{%s}" % self.host_op

    def make_node(self, *inputs):
        on_host = [
            host_from_device(v) if isinstance(getattr(v, "type", None), DeviceType) else v
            for v in inputs
        ]
        node = self.host_op.make_node(*on_host)  # checks and casts
        outputs = [DeviceType(o.dtype, o.broadcastable)() for o in node.outputs]
        return Apply(self, [as_device(v) for v in node.inputs], outputs)

    def infer_shape(self, node, shapes):
        return self.host_op.infer_shape(node, shapes)

    def do_constant_folding(self, node):
        return False

    def perform(self, node, inputs, output_storage):
        with cuda_runtime.device() as device:
            results = _COMPUTE[type(self.host_op)](self.host_op, device, inputs, output_storage)
        for storage, result in zip(output_storage, results):
            storage[0] = result

    def L_op(self, inputs, outputs, output_gradients):
        if hasattr(self.host_op, "gradient_op"):
            grad_op = CudaOp(self.host_op.gradient_op())
            return grad_op(*(list(inputs) + [output_gradients[0]]), return_list=True)
        # Second derivatives are expressions of several nodes; those of the package's that meet
        # device arrays move to the device when the graph is compiled.
        gradients = self.host_op.L_op(_to_host(inputs), None, _to_host(output_gradients))
        return [as_device(g) if hasattr(g.type, "ndim") else g for g in gradients]

    def grad(self, inputs, output_gradients):
        return self.L_op(inputs, None, output_gradients)

    def R_op(self, inputs, eval_points):
        changes = self.host_op.R_op(_to_host(inputs), _to_host(eval_points))
        return [None if c is None else as_device(c) for c in changes]


def _to_host(variables):
    return [
        host_from_device(v) if isinstance(getattr(v, "type", None), DeviceType) else v
        for v in variables
    ]


def _kernel(op, device, inputs, output_storage):
    x, y, gamma, amplitude = _with_y(op, inputs)
    return [cuda_launch.forward(device, x, y, gamma, amplitude, out=output_storage[0][0])]


def _kernel_gradient(op, device, inputs, output_storage):
    # Where y is x, the gradient with respect to x is the sum of both.
    names = ["x+y" if n == "x" and op.symmetric else n for n in op.wrt]
    gradients = cuda_launch.gradient(device, *_with_y(op, inputs), wanted=names)
    return [gradients[n] for n in names]


def _with_y(op, inputs):
    return [inputs[0]] + list(inputs) if op.symmetric else list(inputs)


def _product(op, device, inputs, output_storage):
    return [cuda_launch.product(device, *inputs)]


def _product_gradient(op, device, inputs, output_storage):
    gradients = cuda_launch.product_gradient(device, *inputs, wanted=op.wrt)
    return [gradients[n] for n in op.wrt]


_COMPUTE = {
    RBFKernel: _kernel,
    RBFKernelGrad: _kernel_gradient,
    RBFDot: _product,
    RBFDotGrad: _product_gradient,
}


@register_canonicalize("fast_compile")
@local_optimizer([CudaOp])
def local_cuda_gradient_only_what_is_used(node, fgraph):
    """Replace a gradient some of whose outputs have no clients by one without them."""
    wrt = getattr(node.op.host_op, "wrt", ())
    used = [n for n, output in zip(wrt, node.outputs) if clients(fgraph, output)]
    if not used or len(used) == len(node.outputs):
        return False
    replacements = CudaOp(node.op.host_op.narrowed(used))(*node.inputs, return_list=True)
    old = [output for n, output in zip(wrt, node.outputs) if n in used]
    return dict(zip(old, replacements))


@register_canonicalize("fast_compile")
@local_optimizer(list(_COMPUTE))
def local_move_to_device(node, fgraph):
    """Compute on the device what would take its arrays from there."""
    if not any(v.owner is not None and isinstance(v.owner.op, HostFromDevice) for v in node.inputs):
        return False
    outputs = CudaOp(node.op)(*node.inputs, return_list=True)
    return [host_from_device(o) for o in outputs]


# -- For the front ends ----------------------------------------------------------------------------


def resolve_device(requested=None):
    """The device to use, "cpu", "cuda" or "auto": `requested`, or RBF_OP_DEVICE where that is None.

    "auto" without a usable device is "cpu". Raises ValueError for another name, and for "cuda"
    where it cannot be used CUDAUnavailable, saying what is missing.
    """
    source = "device" if requested is not None else "RBF_OP_DEVICE"
    name = requested if requested is not None else os.environ.get("RBF_OP_DEVICE") or "cpu"
    if name not in DEVICES:
        raise ValueError(
            "rbf_op: %s must be one of %s, but is %r."
            % (source, ", ".join(map(repr, DEVICES)), name)
        )
    if name == "cpu":
        return name
    reason = cuda_runtime.why_unavailable()
    if reason is None:
        return name
    if name == "auto":
        return "cpu"
    raise cuda_runtime.CUDAUnavailable("%s (%s is 'cuda'.)" % (reason, source))


def rbf_kernel_cuda(x, y, gamma, amplitude, symmetric=False):
    """The kernel matrix computed on the device, as a tensor variable.

    Arguments as RBFKernel takes them (y is ignored if symmetric), each a tensor or device variable.
    What consumes the result on the device takes it from there; anything else gets a copy.
    """
    inputs = (x, gamma, amplitude) if symmetric else (x, y, gamma, amplitude)
    return host_from_device(CudaOp(RBFKernel(symmetric=symmetric))(*inputs))


def rbf_dot_cuda(x, y, gamma, weights):
    """The matrix-free product computed on the device, as a tensor variable.

    Arguments as RBFDot takes them, each a tensor or device variable.
    """
    return host_from_device(CudaOp(RBFDot())(x, y, gamma, weights))


def rbf_dot_auto(x, y, gamma, weights):
    """The product, on the device from AUTO_PAIRS pairs on, decided when the function is called.

    Only the branch that is taken is computed (by Theano's default linker and by "vm").
    """
    x, y, gamma, weights = (T.as_tensor_variable(v) for v in (x, y, gamma, weights))
    worth_it = T.ge(x.shape[0] * y.shape[0], AUTO_PAIRS)
    return ifelse(worth_it, rbf_dot_cuda(x, y, gamma, weights), RBFDot()(x, y, gamma, weights))
