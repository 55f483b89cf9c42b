"""Which device a node is for: the argument `device`, the setting RBF_OP_DEVICE, the rule of "auto".

Uses no Theano and makes no context; imports runtime.py, PyCUDA inside functions only.
"""

import importlib.util
import os

from rbf_op.device import runtime

DEVICES = ("cpu", "cuda", "auto")

# The rule of "auto" for a product. Not measured: no GPU was to be had. Derived from a launch with
# its copies through Python (100 microseconds), copies from and to ordinary memory over PCIe (6e9
# bytes a second), and what the C kernels do on the CPU (1e11 differences, squared and added, a core
# and second in float32; an exponential counts as ten of them).
CALL_SECONDS = 1e-4
COPIED_BYTES_A_SECOND = 6e9
CPU_TERMS_A_SECOND = {"float32": 1e11, "float64": 5e10}  # of one core
EXPONENTIAL_TERMS = 10
# A device whose float64 is this many times slower than float32 (consumer cards: 32 or 64) is not
# taken for float64 by "auto".
DOUBLE_PRECISION_RATIO = 4


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
    if importlib.util.find_spec("theano.gof") is None:
        reason = "rbf_op: on the CUDA device Theano 1.0.5 is needed; Theano-PyMC 1.1 will not do."
    else:
        reason = runtime.why_unavailable()
    if reason is None:
        return name
    if name == "auto":
        return "cpu"
    raise runtime.CUDAUnavailable("%s (%s is 'cuda'.)" % (reason, source))


def product_pays(n, m, d, p, dtype):
    """Whether a product of host arrays is done sooner on the device, copies included.

    x (n, d), y (m, d), weights (m, p). Numbers, or symbolic integers: then the result is symbolic.
    """
    size = 4 if dtype == "float32" else 8
    # The first factor makes everything float64: n * m overflows 32 bits.
    terms = 1.0 * n * m * (d + p + EXPONENTIAL_TERMS)
    on_cpu = terms / (CPU_TERMS_A_SECOND[dtype] * (os.cpu_count() or 1))
    copied = 1.0 * size * ((n + m) * (d + p))
    return on_cpu > CALL_SECONDS + copied / COPIED_BYTES_A_SECOND


def made_for(dtype):
    """Whether the device is made for this dtype: False for float64 on consumer cards."""
    import pycuda.driver as driver

    if dtype == "float32":
        return True
    ratio = driver.Device(runtime.device_number()).get_attribute(
        driver.device_attribute.SINGLE_TO_DOUBLE_PRECISION_PERF_RATIO
    )
    return ratio <= DOUBLE_PRECISION_RATIO
