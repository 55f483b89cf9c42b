"""Which device a node is for: the argument `device`, the setting RBF_OP_DEVICE, the rule of "auto".

Uses no Theano and makes no context; imports runtime.py, PyCUDA inside functions only.
"""

import importlib.util
import os

from rbf_op.device import runtime

DEVICES = ("cpu", "cuda", "auto")

# The rule of "auto" for a product and its gradient. Not measured on a GPU: none was to be had.
# What a call takes however small it is: its copies and launches, which calls() counts and the
# emulator confirms, times what one takes. Of the 20 microseconds of a copy 11 are Python's (a node
# of its own in the graph), of the 13 of a launch 9 (with the array that it writes): measured in
# emulation, where functions of 5 copies and 2 launches, 6 and 2, and 9 and 8 took 78, 94 and 180
# microseconds. The rest is the driver's, PCIe's and the device's. Then copies from and to ordinary
# memory over PCIe (6e9 bytes a second), and what the C kernels do on the CPU (1e11 differences,
# squared and added, a core and second in float32; an exponential counts as ten of them).
COPY_SECONDS = 2e-5
LAUNCH_SECONDS = 1.3e-5
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
    source, name = _named_device(requested)
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


def check_setting():
    """Raise ValueError if RBF_OP_DEVICE is no name of a device."""
    _named_device(None)


def _named_device(requested):
    source = "device" if requested is not None else "RBF_OP_DEVICE"
    name = requested if requested is not None else os.environ.get("RBF_OP_DEVICE") or "cpu"
    if name not in DEVICES:
        raise ValueError(
            "rbf_op: %s must be one of %s, but is %r."
            % (source, ", ".join(map(repr, DEVICES)), name)
        )
    return source, name


def calls(wrt=None, symmetric=False):
    """(copies, launches) of a product of host arrays, or of its gradient with respect to `wrt`.

    symmetric: of RBFOuterGrad, whose `wrt` are of x, gamma, amplitude. At most: a gamma that is a
    constant is copied once only, and large sums need no second launch.
    """
    if wrt is None:
        return 5, 2  # x, y, gamma, weights and P; the sweep, and the sum of its slabs
    # The sweep over y's rows gives two of them. A number's gradient is summed by two launches.
    if symmetric:
        sweeps = ("x" in wrt) + 1
    else:
        sweeps = ("x" in wrt) + ("y" in wrt or "gamma" in wrt) + ("weights" in wrt)
    return 5 + len(wrt), sweeps + len(wrt) + ("gamma" in wrt) + ("amplitude" in wrt)


def product_pays(n, m, d, p, dtype, wrt=None, symmetric=False):
    """Whether a product of host arrays is done sooner on the device, copies included; or, with
    `wrt`, its gradient with respect to those of x, y, gamma, weights.

    x (n, d), y (m, d), weights (m, p). Numbers, or symbolic integers: then the result is symbolic.
    symmetric: RBFOuterGrad, y is x and `wrt` those of x, gamma, amplitude.
    """
    size = 4 if dtype == "float32" else 8
    terms, copied = d + EXPONENTIAL_TERMS, (n + m) * (d + p)
    if symmetric:  # the CPU computes half of K; x is copied once
        terms, copied = 0.5 * terms, copied - m * d
    terms += p
    # Of a gradient dP is copied in the place of P. Each result is one more sum over all pairs.
    for name in wrt or ():
        terms += {"x": d, "y": d, "gamma": 1, "amplitude": 1, "weights": p}[name]
        copied += {"x": n * d, "y": m * d, "gamma": 0, "amplitude": 0, "weights": m * p}[name]
    # The first factor makes everything float64: n * m overflows 32 bits.
    on_cpu = 1.0 * n * m * terms / (CPU_TERMS_A_SECOND[dtype] * (os.cpu_count() or 1))
    copies, launches = calls(wrt, symmetric)
    at_least = copies * COPY_SECONDS + launches * LAUNCH_SECONDS
    return on_cpu > at_least + 1.0 * size * copied / COPIED_BYTES_A_SECOND


def made_for(dtype):
    """Whether the device is made for this dtype: False for float64 on consumer cards."""
    import pycuda.driver as driver

    if dtype == "float32":
        return True
    ratio = driver.Device(runtime.device_number()).get_attribute(
        driver.device_attribute.SINGLE_TO_DOUBLE_PRECISION_PERF_RATIO
    )
    return ratio <= DOUBLE_PRECISION_RATIO
