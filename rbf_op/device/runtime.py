"""The CUDA device: found, initialised and given memory and compiled kernels on first use.

Importing this touches no driver and makes no context. The device's primary context is retained, the
one that PyTorch, CuPy and the CUDA runtime use, so that arrays can be shared with them. Imports
NumPy and sources; PyCUDA inside functions only.
"""

import atexit
import contextlib
import ctypes
import functools
import os
import re
import shutil
import subprocess
import threading

import numpy as np

from rbf_op import sources

DTYPES = {"float32": "float", "float64": "double"}
NAMES = {np.dtype(name): name for name in DTYPES}  # NumPy takes microseconds to spell one

OPTIONS = ["-std=c++17", "-O3"]  # no --use_fast_math: denormals, NaN and full accuracy are wanted

# Of cuda.h's CUpointer_attribute, which PyCUDA does not ask for.
_CONTEXT, _MEMORY_TYPE, _IS_MANAGED, _DEVICE_ORDINAL = 1, 2, 8, 9
_DEVICE_MEMORY = 2  # of CUmemorytype

_BLOCKS = {"arrays.cu": (256, 1, 1), "narrow.cu": (128, 1, 1)}  # threads

DEFAULT_STREAM = 1  # the kernels' own, as __cuda_array_interface__ counts streams

_device = None
_lock = threading.RLock()
_forked_from_user_of_cuda = False


class CUDAUnavailable(RuntimeError):
    """CUDA cannot be used here; the message says what is missing and how to get it."""


def why_unavailable():
    """None if a CUDA device and nvcc can be used in this process, else a message saying why not.

    Looks without making a context; finding a device does initialise the driver.
    """
    if _forked_from_user_of_cuda:
        return (
            "rbf_op: CUDA cannot be used in a process forked from one that used it. Start the "
            "process with multiprocessing.get_context('spawn'), or let only the children use CUDA."
        )
    try:
        import pycuda.compiler  # noqa: F401 (its own imports can fail as well)
        import pycuda.driver as driver
        import pycuda.gpuarray  # noqa: F401
    except ImportError as error:
        if "libcuda" in str(error):
            return (
                "rbf_op: the NVIDIA driver is missing (%s). Install the driver of this machine's "
                "GPU; its library is libcuda.so.1." % error
            )
        return (
            "rbf_op: PyCUDA cannot be imported (%s). Put the CUDA toolkit's nvcc on PATH, then "
            'run: pip install "pycuda>=2025.1.2"' % error
        )
    try:
        driver.init()
        count = driver.Device.count()
        if count == 0:
            return "rbf_op: the NVIDIA driver finds no CUDA device. Is CUDA_VISIBLE_DEVICES set?"
        number = os.environ.get("CUDA_DEVICE", "0")
        if number not in map(str, range(count)):
            return "rbf_op: CUDA_DEVICE is %r; the driver has devices 0 to %d." % (
                number,
                count - 1,
            )
    except driver.Error as error:
        return (
            "rbf_op: the NVIDIA driver finds no usable CUDA device: %s. (In a forked process: the "
            "parent must not have used CUDA.)" % error
        )
    nvcc = find_nvcc()
    if nvcc is None:
        return (
            "rbf_op: nvcc is missing, which compiles the kernels once for each kind of device. "
            "Install the CUDA toolkit and put its bin folder on PATH, or name its folder in "
            "CUDA_ROOT."
        )
    found = driver.Device(int(number))
    architecture, known = "sm_%d%d" % found.compute_capability(), _architectures(nvcc)
    if known and architecture not in known:
        return (
            "rbf_op: %s cannot compile for the CUDA device, %s of architecture %s; it knows %s. "
            "Put first on PATH the bin folder of a CUDA toolkit that does: a newer one for a newer "
            "device, CUDA 12 for one older than sm_75."
            % (nvcc, found.name(), architecture, " ".join(known))
        )
    return None


@functools.lru_cache(maxsize=None)
def _architectures(nvcc):
    """Names of the architectures that nvcc compiles for; none where it is too old to say."""
    try:
        said = subprocess.run(
            [nvcc, "--list-gpu-code"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, universal_newlines=True,
        )  # fmt: skip
    except OSError:
        return []
    return said.stdout.split() if said.returncode == 0 else []


def find_nvcc():
    """Path of nvcc: on PATH, or in the toolkit that CUDA_ROOT, CUDA_HOME or CUDA_PATH names."""
    folders = [os.environ.get(name) for name in ("CUDA_ROOT", "CUDA_HOME", "CUDA_PATH")]
    folders = [os.path.join(f, "bin") for f in folders + ["/usr/local/cuda"] if f]
    return shutil.which("nvcc") or shutil.which("nvcc", path=os.pathsep.join(folders))


def device():
    """The Device of this process, made on the first call.

    CUDA_DEVICE numbers the device, 0 by default. Raises CUDAUnavailable, saying what is missing.
    """
    global _device
    with _lock:
        if _device is None:
            reason = why_unavailable()
            if reason is not None:
                raise CUDAUnavailable(reason)
            _device = Device(device_number())
    return _device


def device_number():
    """The number that CUDA_DEVICE names, 0 by default."""
    return int(os.environ.get("CUDA_DEVICE", "0"))


class Device:
    """A device's primary context, memory pool, compiled kernels and transfer counters.

    `with device:` makes the context current on the calling thread; every use of the device's arrays
    must be inside one. On a main thread that has no other it then stays current; where there is
    another (pycuda.autoinit makes one), that is current again afterwards, and so it is on other
    threads.
    """

    def __init__(self, number):
        import pycuda.driver as driver
        import pycuda.tools

        self.context = driver.Device(number).retain_primary_context()
        self._current_context = driver.Context.get_current
        self.number, self.name = number, driver.Device(number).name()
        self.counts = {"to_device": 0, "to_host": 0, "to_device_bytes": 0, "to_host_bytes": 0}
        self._on_main_thread = False
        self._entered = threading.local()
        self._functions, self._modules = {}, {}
        self._ones = {}
        self._pool = None
        with self:
            self._pool = pycuda.tools.DeviceMemoryPool()
            self._hold_a_byte()
        # Never freed: the end of the process frees it all, in whatever order; PyCUDA would complain
        # of what other threads, or a forked child's parent, had loaded and allocated.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))

    def __enter__(self):
        before = self._current_context()
        borrowed = before != self.context
        if before is None and threading.current_thread() is threading.main_thread():
            self._stay_on_main_thread()
            borrowed = False
        elif borrowed:
            self.context.push()
        self._entered.__dict__.setdefault("borrowed", []).append(borrowed)
        return self

    def __exit__(self, *exception):
        # PyCUDA ends the process when a thread ends with a context on its stack.
        if self._entered.borrowed.pop():
            self.context.pop()

    def _stay_on_main_thread(self):
        self.context.push()
        self._on_main_thread = True

    def _leave_main_thread(self):
        on_it = threading.current_thread() is threading.main_thread() and self._on_main_thread
        if on_it and self._current_context() == self.context:
            self.context.pop()
            self._on_main_thread = False
            return True
        return False

    def synchronize(self):
        """Wait for all that was started in the context, in any stream."""
        with self:
            self.context.synchronize()

    # -- Memory ------------------------------------------------------------------------------------

    def allocate(self, size):
        """`size` bytes of device memory; MemoryError, saying how much is free, if there is not."""
        import pycuda.driver as driver

        try:
            return self._pool.allocate(size)
        except driver.MemoryError as error:
            free, total = driver.mem_get_info()
            rounded = self._pool.alloc_size(self._pool.bin_number(size))
            raise MemoryError(
                "rbf_op: an array of %.3g GB, which takes %.3g GB, does not fit on the CUDA "
                "device: %.3g of its %.3g GB are free. rbf_dot needs no kernel matrix; or pass "
                "fewer rows at a time." % (size / 1e9, rounded / 1e9, free / 1e9, total / 1e9)
            ) from error
        finally:
            if not self._pool.held_blocks:  # short of memory it has given back all that it held
                self._hold_a_byte()

    def why_not_ours(self, address):
        """None if kernels can use the memory at an address, else a text that says whose it is.

        Of what the driver does not know, or what belongs to no context (managed memory, that of
        allocators with streams), it is left to the kernels to find out.
        """
        with self:
            context, number = memory_owner(address)
        if number is None or (number == self.number and context in (None, self.context.handle)):
            return None
        return (
            "its memory belongs to context %#x of CUDA device %d, but the kernels run in context "
            "%#x, the primary one, of device %d. Choose the GPU with CUDA_VISIBLE_DEVICES, which "
            "all libraries heed; in PyCUDA import pycuda.autoprimaryctx in the place of autoinit."
            % (context or 0, number, self.context.handle, self.number)
        )

    def release_held_memory(self):
        """Give back to the driver what the pool keeps for later arrays, for others to have."""
        self._pool.free_held()
        self._hold_a_byte()

    def _hold_a_byte(self):
        # A pool that holds nothing looks for a context when it is given memory back, and ends the
        # process where there is none: on a thread that drops an array outside `with`. So it holds
        # a byte always, in a size that no array has (but where not a byte is left).
        import pycuda.driver as driver

        with contextlib.suppress(driver.MemoryError):
            self._pool.allocate(1).free()

    def empty(self, shape, dtype):
        """An uninitialised GPUArray in C order."""
        return _array_class()(tuple(shape), dtype, allocator=self.allocate)

    def zeros(self, shape, dtype):
        """A GPUArray of zeros in C order."""
        array = self.empty(shape, dtype)
        self.clear(array)
        return array

    def one(self, dtype):
        """The number 1 as a scalar on the device, copied there once."""
        if dtype not in self._ones:
            self._ones[dtype] = self.to_device(np.ones((), dtype))
        return self._ones[dtype]

    def clear(self, array):
        """Set a GPUArray in C order to zero."""
        import pycuda.driver as driver

        if array.size:
            driver.memset_d8(array.gpudata, 0, array.nbytes)

    def to_device(self, array):
        """A GPUArray in C order with the values of a NumPy array."""
        import pycuda.driver as driver

        array = np.asarray(array, order="C")
        result = self.empty(array.shape, array.dtype)
        if array.size:
            driver.memcpy_htod(result.gpudata, array)
        self.counts["to_device"] += 1
        self.counts["to_device_bytes"] += array.nbytes
        return result

    def to_host(self, array):
        """A NumPy array in C order with the values of a GPUArray."""
        import pycuda.driver as driver

        array = self.contiguous(array)
        result = np.empty(array.shape, array.dtype)
        if array.size:
            driver.memcpy_dtoh(result, array.gpudata)
        self.counts["to_host"] += 1
        self.counts["to_host_bytes"] += result.nbytes
        return result

    def copy(self, array):
        """A copy in C order of a GPUArray, on the device."""
        import pycuda.driver as driver

        source = self.contiguous(array)
        if source is not array:
            return source
        result = self.empty(array.shape, array.dtype)
        if array.size:
            driver.memcpy_dtod(result.gpudata, array.gpudata, array.nbytes)
        return result

    def contiguous(self, array):
        """`array` itself if it is in C order, else a copy that is, made on the device."""
        if array.size == 0 or in_c_order(array):
            return array
        if array.ndim > 2:
            raise ValueError(
                "rbf_op: a strided device array of shape %s; only vectors and matrices are copied."
                % (array.shape,)
            )
        rows, columns = ((1,) + array.shape)[-2:]
        row_step, column_step = ((0,) + array.strides)[-2:]
        result = self.empty(array.shape, array.dtype)
        self.launch(
            ("arrays.cu", "copy_strided", NAMES[array.dtype]),
            (grid_for(result.size), 1),
            [array, row_step, column_step, result, rows, columns],
        )
        return result

    # -- Kernels -----------------------------------------------------------------------------------

    def launch(self, kernel, grid, arguments):
        """Start a kernel with blocks of 16 x 16 threads, or as _BLOCKS says.

        kernel: (file, name, dtype, COLUMNS, DIMS), the last two where the file has such macros;
        arguments: GPUArrays, None for a null pointer, and integers, addresses among them, which the
        kernels take as 64-bit numbers.
        """
        function = self._functions.get(kernel)
        if function is None:
            # Prepared: PyCUDA would otherwise find out each argument's type at each launch.
            function = self._function(*kernel).prepare("q" * len(arguments))
            self._functions[kernel] = function
        block = _BLOCKS.get(kernel[0], (16, 16, 1))
        function.prepared_call(grid, block, *[_as_integer(a) for a in arguments])

    def launch_text(self, text, name, arguments):
        """Compile source that is not in cuda/ and start a kernel of it.

        arguments: as for launch, but the first is the number of elements that the kernel loops
        over, and NumPy's floating numbers are passed as they are.
        """
        key = (text, name)
        if key not in self._functions:
            unused = ["-diag-suppress=177"]  # inputs, of Theano's second(): no warning
            self._functions[key] = self._compiled(text, unused).get_function(name)
        grid = (grid_for(arguments[0]), 1)
        packed = [a if isinstance(a, np.floating) else np.int64(_as_integer(a)) for a in arguments]
        self._functions[key](*packed, block=(256, 1, 1), grid=grid)

    def _function(self, file, name, dtype, *sizes):
        key = (file, dtype, sizes)
        if key not in self._modules:
            self._modules[key] = self._compiled(source(file), macros(dtype, *sizes))
        return self._modules[key].get_function(name)

    def _compiled(self, text, options):
        import pycuda.driver as driver
        from pycuda.compiler import SourceModule

        # PyCUDA keeps the compiled code on disk, named by a hash of the source, the options (the
        # architecture is one) and nvcc's version. What a process that was killed has written there
        # is no code: then it is compiled again.
        settings = dict(nvcc=find_nvcc(), options=OPTIONS + options, no_extern_c=True)
        try:
            return SourceModule(text, **settings)
        except driver.CompileError:
            raise
        except driver.Error:
            return SourceModule(text, cache_dir=False, **settings)


@functools.lru_cache(maxsize=None)
def _array_class():
    import pycuda.gpuarray

    class DeviceArray(pycuda.gpuarray.GPUArray):
        """A GPUArray that may be pickled, copied and read by NumPy wherever the device can be used:
        on threads without a context, in a process that has not used the device yet. It tells
        other libraries which stream computes it.
        """

        def __reduce__(self):
            return _from_host, (np.asarray(self),)

        @property
        def __cuda_array_interface__(self):
            # PyCUDA names no stream, which says that nobody need wait.
            return dict(super().__cuda_array_interface__, stream=DEFAULT_STREAM)

        def __deepcopy__(self, memo):
            with device() as used:
                return used.copy(self)

        def __array__(self, dtype=None, copy=None):
            with device() as used:
                return np.asarray(used.to_host(self), dtype)

    return DeviceArray


def _from_host(array):
    with device() as used:
        return used.to_device(array)


def array_of_memory(shape, dtype, address, strides, owner):
    """A GPUArray, as Device makes them, of memory that belongs to `owner`, which is kept alive."""
    base = None if address is None else owner  # PyCUDA's arrays of no entries have no address
    return _array_class()(shape, dtype, base=base, gpudata=address, strides=strides)


def own(array):
    """A GPUArray as Device makes them: itself, if it is one, or one of the same memory."""
    if isinstance(array, _array_class()):
        return array
    return array_of_memory(array.shape, array.dtype, array.gpudata, array.strides, array)


def memory_owner(address):
    """(handle of the context, number of the device) that device memory belongs to.

    The context is None for memory that all contexts of a device share, the number also where the
    driver knows of no device memory there, or moves it to where it is used.
    """
    attributes = (_MEMORY_TYPE, _IS_MANAGED, _CONTEXT, _DEVICE_ORDINAL)
    kind, managed, number = ctypes.c_uint(0), ctypes.c_uint(0), ctypes.c_int(-1)
    context = ctypes.c_void_p()
    found = (kind, managed, context, number)
    failed = _driver_library().cuPointerGetAttributes(
        len(attributes),
        (ctypes.c_int * len(attributes))(*attributes),
        (ctypes.c_void_p * len(attributes))(*map(ctypes.addressof, found)),
        ctypes.c_uint64(address),
    )
    if failed or kind.value != _DEVICE_MEMORY or managed.value & 0xFF or number.value < 0:
        return None, None
    return context.value, number.value


@functools.lru_cache(maxsize=None)
def _driver_library():
    return ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")


def macros(dtype, columns=None, dims=None):
    """nvcc's options for the macros of a file in cuda/."""
    values = {"REAL": DTYPES[dtype], "COLUMNS": columns, "DIMS": dims}
    return ["-D%s=%s" % pair for pair in values.items() if pair[1] is not None]


def source(file):
    """The text of a file in cuda/ with the files that it includes put in place.

    Without any #include left, PyCUDA need not run the preprocessor to see whether its cache is up
    to date, which would take longer in each process than everything else together.
    """
    folder, seen = sources.source_directory("cuda"), set()

    def text(name):
        if name in seen:
            return ""
        seen.add(name)
        with open(os.path.join(folder, name)) as opened:
            return re.sub(
                r'^#include "(.*)"$', lambda m: text(m.group(1)), opened.read(), flags=re.MULTILINE
            ).replace("#pragma once", "")

    return text(file)


def grid_for(size):
    """Blocks of 256 threads for `size` elements; the kernels loop where that is not enough."""
    return min(-(-size // 256), 1 << 16)


def in_c_order(array):
    """array.flags.c_contiguous, which takes PyCUDA longer than a launch."""
    step = array.dtype.itemsize
    for size, stride in zip(reversed(array.shape), reversed(array.strides)):
        if size != 1 and stride != step:
            return False
        step *= size
    return True


def _as_integer(argument):
    """A kernel's argument, as Device.launch takes it, as a number; 0 for an array of no entries."""
    if isinstance(argument, (int, np.integer)):
        return argument
    return 0 if argument is None or argument.size == 0 else int(argument.gpudata)


# PyCUDA ends a process that exits with a context on its stack: so it is taken off at exit, and in
# a process that forks, since its child could not take it off any more.


@atexit.register
def _leave():
    return _device is not None and _device._leave_main_thread()


def _before_fork():
    global _left_to_fork
    _left_to_fork = _leave()


def _after_fork_in_parent():
    if _left_to_fork:
        _device._stay_on_main_thread()


def _after_fork_in_child():
    global _device, _lock, _forked_from_user_of_cuda
    _lock = threading.RLock()
    if _device is not None:
        _forked_from_user_of_cuda = True
        _device = None


_left_to_fork = False
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
