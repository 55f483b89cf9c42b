"""Fused, multi-threaded Gaussian-kernel nodes for Theano graphs.

    from rbf_op import fuse, rbf_dot, rbf_kernel
    K = rbf_kernel(x, y, gamma=0.1)      # symbolic in, symbolic out, differentiable
    P = rbf_dot(x, y, W, gamma=0.1)      # K times W, K never stored
    cost = fuse(cost)                    # the same, put into a graph that spells the kernel out

Import this before theano where the interpreter or NumPy is newer than Theano: compat mends that.
"""

from rbf_op import compat as _compat

_compat.install()

try:
    from rbf_op import compat_blas as _compat_blas  # noqa: E402
except ValueError as error:  # here theano is imported first
    _compat.name_the_remedy(error)
    raise

_compat_blas.install()

from rbf_op import autofuse  # noqa: E402  (does nothing until it is asked to)
from rbf_op import rewrites as _rewrites  # noqa: E402, F401  (registers them)
from rbf_op._version import __version__  # noqa: E402
from rbf_op.fusion import fuse, fuse_report  # noqa: E402
from rbf_op.kernels import (  # noqa: E402
    rbf_dot,
    rbf_kernel,
    rbf_logsumexp,
    rbf_mixture,
    rbf_softmax_dot,
)
from rbf_op.ops import (  # noqa: E402
    RBFDot,
    RBFDotGrad,
    RBFKernel,
    RBFKernelGrad,
    RBFLogSumExp,
    RBFLogSumExpGrad,
    RBFMixture,
    RBFMixtureGrad,
    RBFSoftmaxDot,
    RBFSoftmaxDotGrad,
)

__all__ = [
    "RBFDot",
    "RBFDotGrad",
    "RBFKernel",
    "RBFKernelGrad",
    "RBFLogSumExp",
    "RBFLogSumExpGrad",
    "RBFMixture",
    "RBFMixtureGrad",
    "RBFSoftmaxDot",
    "RBFSoftmaxDotGrad",
    "__version__",
    "autofuse",
    "fuse",
    "fuse_report",
    "rbf_dot",
    "rbf_kernel",
    "rbf_logsumexp",
    "rbf_mixture",
    "rbf_softmax_dot",
]
