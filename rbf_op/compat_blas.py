"""Lets Theano's C code of matrix products take empty matrices as NumPy now makes them.

NumPy 1.26, for one, gives empty arrays strides of 0. To Theano's Gemm, Dot22 and Dot22Scalar a
matrix without a stride of one item is not one for BLAS, and they raise "some matrix has no unit
stride". The second derivatives of this package's nodes meet them. Beside compat.py, which must not
import Theano; this may import Theano and NumPy.
"""

import numpy as np
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


def install():
    """Mend the class that the three share; calling it again does nothing more."""
    gemm = blas.GemmRelated
    if np.empty((0, 2)).strides[1] or _STRIDES_OF_EMPTY in gemm.encode_strides_in_unit:
        return
    gemm.encode_strides_in_unit = _STRIDES_OF_EMPTY + gemm.encode_strides_in_unit
    version = gemm.build_gemm_version
    gemm.build_gemm_version = lambda self: version(self) + ("empty matrices",)
