"""The graph nodes, hand-written Theano Ops with OpenMP C code: the kernel matrix, mixtures of them,
its product with weights, its log-sum-exp, the product of its softmax, their gradients, and squared
distances for second order.

Here is what Theano must know of a node (types, shapes, derivatives, cache key). The arithmetic is
below: c_code/ when there is a compiler, reference.py when there is none. The functions that users
call are above, in kernels.py.
"""

from rbf_op.ops.distances import RBFDistance
from rbf_op.ops.log_sum import RBFLogSumExp, RBFLogSumExpGrad
from rbf_op.ops.matrix import (
    RBFKernel,
    RBFKernelGrad,
    RBFMixture,
    RBFMixtureGrad,
    RBFOuterGrad,
)
from rbf_op.ops.product import RBFDot, RBFDotGrad
from rbf_op.ops.small import CheckedEntries, Repeated
from rbf_op.ops.softmax import RBFSoftmaxDot, RBFSoftmaxDotGrad

__all__ = [
    "CheckedEntries",
    "RBFDistance",
    "RBFDot",
    "RBFDotGrad",
    "RBFKernel",
    "RBFKernelGrad",
    "RBFLogSumExp",
    "RBFLogSumExpGrad",
    "RBFMixture",
    "RBFMixtureGrad",
    "RBFOuterGrad",
    "RBFSoftmaxDot",
    "RBFSoftmaxDotGrad",
    "Repeated",
]
