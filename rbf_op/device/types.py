"""Theano variables whose values live on the CUDA device, and the two nodes that copy.

DeviceType is to a GPUArray what TensorType is to a NumPy array. Copying a kernel matrix to the host
takes longer than computing it, so copies that undo each other are taken out of a graph. Imports
Theano, theano_api and runtime.py; nothing here touches the device before it has values.
"""

import weakref

import numpy as np
import theano.tensor as T
from theano.compile import DeepCopyOp, SharedVariable
from theano.gof import Type  # Theano 1.0: Theano-PyMC is not supported on the device
from theano.tensor.var import _tensor_py_operators

from rbf_op.device import runtime
from rbf_op.theano_api import Apply, Constant, Op, Variable, local_optimizer, register_canonicalize


class DeviceType(Type):
    """Arrays of one dtype (float32 or float64) and number of dimensions on the CUDA device.

    Values are PyCUDA GPUArrays. Taken for one without a copy: whatever has
    `__cuda_array_interface__` (CuPy, PyTorch and Numba arrays), of any strides; memory of another
    device or context is refused with a TypeError. Where it names a stream that computes it (CuPy
    does, PyTorch does not), that is waited for; otherwise it must be in the default stream or
    finished. NumPy arrays are copied to the device.
    """

    def __init__(self, dtype, broadcastable):
        if str(dtype) not in runtime.DTYPES:
            raise TypeError("DeviceType: dtype must be float32 or float64, but is %s." % dtype)
        self.dtype = str(dtype)
        self.broadcastable = tuple(bool(b) for b in broadcastable)
        self.ndim = len(self.broadcastable)

    def __eq__(self, other):
        return (
            type(self) is type(other)
            and self.dtype == other.dtype
            and self.broadcastable == other.broadcastable
        )

    def __ne__(self, other):
        return not self == other

    def __hash__(self):
        return hash((type(self), self.dtype, self.broadcastable))

    def __repr__(self):
        return "DeviceType(%s, %s)" % (self.dtype, self.broadcastable)

    def clone(self, dtype=None, broadcastable=None):
        return DeviceType(
            dtype or self.dtype, self.broadcastable if broadcastable is None else broadcastable
        )

    @property
    def host_type(self):
        """The TensorType with the same dtype and dimensions."""
        return T.TensorType(self.dtype, self.broadcastable)

    def filter(self, value, strict=False, allow_downcast=None):
        import pycuda.gpuarray

        interface = getattr(value, "__cuda_array_interface__", None)
        if isinstance(value, pycuda.gpuarray.GPUArray):
            array = runtime.own(value)
        elif interface is not None:
            if interface.get("stream") not in (None, runtime.DEFAULT_STREAM):
                runtime.device().synchronize()
            array = runtime.array_of_memory(
                interface["shape"],
                np.dtype(interface["typestr"]),
                interface["data"][0],
                interface.get("strides"),
                value,
            )
        elif strict:
            raise TypeError("%s: expected a device array, but got %s." % (self, type(value)))
        else:
            host = self.host_type.filter(value, strict=False, allow_downcast=allow_downcast)
            with runtime.device() as device:
                return device.to_device(host)
        if str(array.dtype) != self.dtype or array.ndim != self.ndim:
            raise TypeError(
                "%s: got a device array of dtype %s and shape %s."
                % (self, array.dtype, array.shape)
            )
        if any(b and size != 1 for b, size in zip(self.broadcastable, array.shape)):
            raise TypeError("%s: got a device array of shape %s." % (self, array.shape))
        if array is not value and array.size:
            foreign = runtime.device().why_not_ours(int(array.gpudata))
            if foreign:
                raise TypeError("%s: got a device array, but %s" % (self, foreign))
        return array

    def filter_variable(self, other, allow_convert=True):
        if not isinstance(other, Variable):
            other = T.as_tensor_variable(other)
        if isinstance(other.type, T.TensorType):
            other = as_device(other)
        return super(DeviceType, self).filter_variable(other, allow_convert)

    @staticmethod
    def values_eq(a, b):
        return np.array_equal(*_on_host(a, b))

    @staticmethod
    def values_eq_approx(a, b, **kwargs):
        return T.TensorType.values_eq_approx(*_on_host(a, b), **kwargs)

    @staticmethod
    def may_share_memory(a, b):
        on_device = all(hasattr(array, "gpudata") for array in (a, b))
        if a is b or not (on_device and a.size and b.size):
            return a is b
        (a_first, a_behind), (b_first, b_behind) = map(_addresses, (a, b))
        return a_first < b_behind and b_first < a_behind

    def get_shape_info(self, value):
        return value.shape

    def get_size(self, shape):
        return int(np.prod(shape)) * np.dtype(self.dtype).itemsize


def _addresses(array):
    """The first byte of a device array, and the one behind its last."""
    steps = [(size - 1) * stride for size, stride in zip(array.shape, array.strides)]
    first = int(array.gpudata) + sum(step for step in steps if step < 0)
    return first, first + sum(map(abs, steps)) + array.dtype.itemsize


def _on_host(*arrays):
    with runtime.device() as device:
        return [device.to_host(a) for a in arrays]


class _DeviceOperators(_tensor_py_operators):
    """In any expression of tensors, a device variable stands for its copy on the host."""

    dtype = property(lambda self: self.type.dtype)
    ndim = property(lambda self: self.type.ndim)
    broadcastable = property(lambda self: self.type.broadcastable)

    def _as_TensorVariable(self):
        return host_from_device(self)


class DeviceVariable(_DeviceOperators, Variable):
    """A variable on the device that a node computes, or an input of a function."""


class DeviceConstant(_DeviceOperators, Constant):
    """A constant on the device."""


class DeviceSharedVariable(_DeviceOperators, SharedVariable):
    """A shared variable whose value stays on the device between calls."""

    def get_value(self, borrow=False, return_internal_type=False):
        """The value as a NumPy array; with return_internal_type the GPUArray itself."""
        if return_internal_type:
            return self.container.value
        return _on_host(self.container.value)[0]

    def set_value(self, new_value, borrow=False):
        """Take a NumPy array, which is copied, or a device array, which is not."""
        self.container.value = new_value

    def zero(self, borrow=False):
        """Make all entries zero: of the same array with `borrow`, else of a new one."""
        value = self.container.value
        with runtime.device() as device:
            if borrow and value.flags.c_contiguous:
                device.clear(value)
            else:
                self.container.value = device.zeros(value.shape, value.dtype)


DeviceType.Variable = DeviceVariable
DeviceType.Constant = DeviceConstant
DeviceType.SharedVariable = DeviceSharedVariable


def device_shared(value, name=None):
    """A shared variable that lives on the device: copied there now, and back by get_value() and
    wherever an expression needs it on the host.

    value: a NumPy array, or a device array of PyCUDA, CuPy, PyTorch... which is not copied; float32
    or float64, or else a TypeError. Raises CUDAUnavailable where there is no device.
    """
    if not hasattr(value, "__cuda_array_interface__"):
        value = np.asarray(value)
    dtype = value.dtype if isinstance(value, np.ndarray) else np.dtype(
        value.__cuda_array_interface__["typestr"]
    )  # fmt: skip
    runtime.device()
    kind = DeviceType(dtype, (False,) * len(value.shape))
    return DeviceSharedVariable(name=name, type=kind, value=value, strict=False)


_deep_copy = DeepCopyOp.perform


def _deep_copy_within_context(self, node, inputs, output_storage):
    """DeepCopyOp.perform, which Theano puts behind outputs and updates that are inputs as well: of
    a device array within the device's context, so on any thread.
    """
    if not isinstance(node.outputs[0].type, DeviceType):
        return _deep_copy(self, node, inputs, output_storage)
    with runtime.device() as device:
        output_storage[0][0] = device.copy(inputs[0])


DeepCopyOp.perform = _deep_copy_within_context


class HostFromDevice(Op):
    """A tensor with the values of a device array: one copy to the host."""

    __props__ = ()

    def make_node(self, x):
        return Apply(self, [x], [x.type.host_type()])

    def perform(self, node, inputs, output_storage):
        with runtime.device() as device:
            output_storage[0][0] = np.asarray(device.to_host(inputs[0]))

    def infer_shape(self, node, shapes):
        return shapes

    def do_constant_folding(self, node):
        return False

    def L_op(self, inputs, outputs, output_gradients):
        return [as_device(output_gradients[0])]

    def R_op(self, inputs, eval_points):
        return [None if eval_points[0] is None else host_from_device(eval_points[0])]


class DeviceFromHost(Op):
    """A device array with the values of a tensor: one copy to the device.

    A constant is copied the first time only.
    """

    __props__ = ()

    def __init__(self):
        self._constants = weakref.WeakKeyDictionary()

    def make_node(self, x):
        x = T.as_tensor_variable(x)
        return Apply(self, [x], [DeviceType(x.dtype, x.broadcastable)()])

    def perform(self, node, inputs, output_storage):
        result = self._constants.get(node)
        if result is None:
            with runtime.device() as device:
                result = device.to_device(inputs[0])
            # Of a compiled function, and not what its caller gets, who may write to it.
            graph = getattr(node.outputs[0], "fgraph", None)
            kept = isinstance(node.inputs[0], Constant) and graph is not None
            if kept and node.outputs[0] not in graph.outputs:
                self._constants[node] = result
        output_storage[0][0] = result

    def infer_shape(self, node, shapes):
        return shapes

    def do_constant_folding(self, node):
        return False  # the value would be pickled with the function

    def L_op(self, inputs, outputs, output_gradients):
        return [host_from_device(as_device(output_gradients[0]))]

    def R_op(self, inputs, eval_points):
        return [None if eval_points[0] is None else as_device(eval_points[0])]

    def __getstate__(self):
        return {}

    def __setstate__(self, state):
        self.__init__()


host_from_device = HostFromDevice()
device_from_host = DeviceFromHost()


def as_device(variable):
    """The variable on the device: itself, what it was copied from, or a copy."""
    if not isinstance(variable, Variable):
        variable = T.as_tensor_variable(variable)
    if isinstance(variable.type, DeviceType):
        return variable
    if variable.owner is not None and isinstance(variable.owner.op, HostFromDevice):
        return variable.owner.inputs[0]
    return device_from_host(variable)


@register_canonicalize("fast_compile")
@local_optimizer([HostFromDevice, DeviceFromHost])
def local_cut_copies(node, fgraph):
    """Replace a copy of a copy by the original."""
    owner = node.inputs[0].owner
    copies = {HostFromDevice, DeviceFromHost}
    if owner is None or {type(node.op), type(owner.op)} != copies:
        return False
    return [owner.inputs[0]]
