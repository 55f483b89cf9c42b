"""Simple updates on the device: elementwise expressions of device arrays and scalars.

    updates=[(W, W - rate * T.grad(cost, W))]

would copy W and its gradient to the host and the new W back. Where an update is one elementwise
expression of arrays that lie on the device, and of scalars, a node computes it there instead.
Imports Theano, types.py and runtime.py.
"""

import weakref

import numpy as np
from theano import scalar
from theano.tensor.elemwise import Elemwise
from theano.tensor.opt import in2out

from rbf_op.device import runtime
from rbf_op.device.types import DeviceFromHost, DeviceType, HostFromDevice
from rbf_op.theano_api import Apply, Op, local_optimizer, optdb, upcast

_sources = weakref.WeakKeyDictionary()  # by nodes: to write one takes longer than to run it

_SOURCE = """
typedef float npy_float32;
typedef double npy_float64;
typedef signed char npy_int8;
typedef short npy_int16;
typedef int npy_int32;
typedef long long npy_int64;
typedef unsigned char npy_uint8, npy_bool;
typedef unsigned short npy_uint16;
typedef unsigned int npy_uint32;
typedef unsigned long long npy_uint64;
extern "C" __global__ void elementwise(long long size, %(real)s *results%(parameters)s) {
    const long long stride = (long long)gridDim.x * blockDim.x;
    for (long long e = (long long)blockIdx.x * blockDim.x + threadIdx.x; e < size; e += stride) {
        %(values)s
        %(real)s result;
        { %(code)s }
        results[e] = result;
    }
}
"""


class DeviceElementwise(Op):
    """scalar_op of the entries of device arrays of one shape, and of scalar tensors on the host."""

    __props__ = ("scalar_op",)

    def __init__(self, scalar_op):
        self.scalar_op = scalar_op

    def __str__(self):
        return "DeviceElementwise{%s}" % self.scalar_op

    def make_node(self, *inputs):
        arrays = [v for v in inputs if isinstance(v.type, DeviceType)]
        return Apply(self, list(inputs), [arrays[0].type()])

    def infer_shape(self, node, shapes):
        return [next(s for v, s in zip(node.inputs, shapes) if isinstance(v.type, DeviceType))]

    def do_constant_folding(self, node):
        return False

    def source(self, node):
        """CUDA source of the node; None where the scalar operation is not plain C."""
        if node not in _sources:
            _sources[node] = self._write_source(node)
        return _sources[node]

    def _write_source(self, node):
        dtype = node.outputs[0].dtype
        real = runtime.DTYPES[dtype]
        names = ["v%d" % i for i in range(len(node.inputs))]
        kinds = [isinstance(v.type, DeviceType) for v in node.inputs]
        try:
            if getattr(self.scalar_op, "c_support_code", str)().strip():
                return None
        except Exception:  # Theano's MethodNotDefined: it has none
            pass
        try:
            single = self.scalar_op.make_node(*[scalar.get_scalar_type(dtype)() for _ in names])
            if [o.dtype for o in single.outputs] != [dtype]:
                return None
            code = self.scalar_op.c_code(single, "node", names, ["result"], {"fail": "return;"})
        except Exception:  # no C code for it, or not for this type
            return None
        pairs = list(zip(names, kinds))
        return _SOURCE % dict(
            real=real,
            code=code,
            parameters="".join(
                ", %s %s%s_" % (real, "const *" if array else "", name) for name, array in pairs
            ),
            values=" ".join(
                "const %s %s = %s_%s;" % (real, name, name, "[e]" if array else "")
                for name, array in pairs
            ),
        )

    def perform(self, node, inputs, output_storage):
        with runtime.device() as device:
            arguments, shapes = [], []
            dtype = np.dtype(node.outputs[0].dtype)
            for variable, value in zip(node.inputs, inputs):
                if isinstance(variable.type, DeviceType):
                    value = device.contiguous(value)
                    shapes.append(value.shape)
                    arguments.append(value)
                else:
                    arguments.append(dtype.type(np.asarray(value).item()))
            if len(set(shapes)) > 1:
                raise ValueError(
                    "rbf_op: an elementwise expression on the device needs arrays of one shape, "
                    "but got %s." % " and ".join(map(str, shapes))
                )
            result = device.empty(shapes[0], dtype)
            if result.size:
                device.launch_text(
                    self.source(node), "elementwise", [result.size, result] + arguments
                )
        output_storage[0][0] = result


@local_optimizer([DeviceFromHost])
def local_elementwise_on_device(node, fgraph):
    """Compute on the device what is made of device arrays and copied there."""
    if node.inputs[0].owner is None or isinstance(node.inputs[0].owner.op, HostFromDevice):
        return False
    result = _made_on_device(node.inputs[0], node.outputs[0].type)
    return False if result is None else [result]


def _made_on_device(variable, kind):
    """A device variable of DeviceType `kind` with the values of a tensor variable, from what lies
    on the device already; None where that is not possible.
    """
    made = variable.owner
    if made is not None and isinstance(made.op, HostFromDevice):
        return made.inputs[0] if made.inputs[0].type == kind else None
    if made is None or not isinstance(made.op, Elemwise) or len(made.outputs) != 1:
        return None
    inputs = []
    for v in made.inputs:
        if all(v.broadcastable):
            inputs.append(v if upcast(v.dtype, kind.dtype) == kind.dtype else None)
        else:
            inputs.append(_made_on_device(v, kind))
        if inputs[-1] is None:
            return None
    if not any(isinstance(v.type, DeviceType) for v in inputs):
        return None
    op = DeviceElementwise(made.op.scalar_op)
    result = op(*inputs)
    return result if op.source(result.owner) is not None else None


# After Theano has fused elementwise nodes (49), before any of them works in place (75).
optdb.register(
    "rbf_elementwise_on_device", in2out(local_elementwise_on_device), 49.2, "fast_run", "rbf_cuda"
)
