"""Mends two things in Theano's C code of matrix products.

NumPy 1.26, for one, gives empty arrays strides of 0. To Theano's Gemm, Dot22 and Dot22Scalar a
matrix without a stride of one item is not one for BLAS, and they raise "some matrix has no unit
stride". The second derivatives of this package's nodes meet them.

Without a BLAS to link, Theano defines gemm by NumPy's dot, but for matrices that are not const:
to C++ not the function that its header declares. BatchedDot calls that one, and its module could
not be loaded ("undefined symbol: dgemm_").

Beside compat.py, which must not import Theano; this may import Theano and NumPy.
"""

import numpy as np
from theano import config
from theano.tensor import blas

# Strides as a matrix of as many columns, one row at least, would have them.
_STRIDES_OF_EMPTY = "".join(
    """
        npy_intp empty_S%(m)s[2];
        empty_S%(m)s[0] = (N%(m)s[1] + 1) * type_size;
        empty_S%(m)s[1] = type_size;
        if (N%(m)s[0] == 0 || N%(m)s[1] == 0)
            S%(m)s = empty_S%(m)s;
    """
    % {"m": matrix}
    for matrix in "xyz"
)

# The function that is declared, by the one that is defined.
_DECLARED_GEMM = "".join(
    """
    extern "C" void %(precision)sgemm_(
            char *transa, char *transb, const int *m, const int *n, const int *k,
            const %(real)s *alpha, const %(real)s *a, const int *lda, const %(real)s *b,
            const int *ldb, const %(real)s *beta, %(real)s *c, const int *ldc) {
        %(precision)sgemm_(transa, transb, m, n, k, alpha, const_cast<%(real)s *>(a), lda,
                           const_cast<%(real)s *>(b), ldb, beta, c, ldc);
    }
    """
    % {"precision": precision, "real": real}
    for precision, real in (("s", "float"), ("d", "double"))
)


def install():
    """Mend Theano's classes; calling it again does nothing more."""
    _take_empty_matrices(blas.GemmRelated)
    _define_gemm(blas.BatchedDot)


def _define_gemm(batched_dot):
    support_code = batched_dot.c_support_code
    if getattr(support_code, "defines_gemm", False):
        return

    def c_support_code(self, **more):  # Theano-PyMC has some
        return support_code(self, **more) + ("" if config.blas.ldflags else _DECLARED_GEMM)

    c_support_code.defines_gemm = True
    batched_dot.c_support_code = c_support_code


def _take_empty_matrices(gemm):
    if np.empty((0, 2)).strides[1] or _STRIDES_OF_EMPTY in gemm.encode_strides_in_unit:
        return
    gemm.encode_strides_in_unit = _STRIDES_OF_EMPTY + gemm.encode_strides_in_unit
    version = gemm.build_gemm_version
    gemm.build_gemm_version = lambda self: version(self) + ("empty matrices",)
