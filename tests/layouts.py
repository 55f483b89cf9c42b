"""The layout matrix: the same values in every memory layout an array can come in.

Each case asserts its own strides and flags, so that a case cannot turn into another one unseen.
Touches NumPy only.
"""

import numpy as np


def _c(a):
    result = np.array(a, order="C")
    assert result.flags.c_contiguous
    return result


def _fortran(a):
    result = np.array(a, order="F")
    assert result.flags.f_contiguous
    assert a.ndim == 1 or not result.flags.c_contiguous
    return result


def _transposed(a):
    result = np.array(a.T, order="C").T
    assert result.base is not None and result.flags.f_contiguous
    return result


def _sliced_rows(a):
    buffer = np.full((a.shape[0] * 3 + 2,) + a.shape[1:], np.nan, a.dtype)
    result = buffer[2::3]
    result[...] = a
    assert result.strides[0] == 3 * buffer.strides[0] and np.isnan(buffer[0]).all()
    return result


def _sliced_columns(a):
    buffer = np.full(a.shape[:-1] + (a.shape[-1] * 2 + 1,), np.nan, a.dtype)
    result = buffer[..., 1::2]
    result[...] = a
    assert result.strides[-1] == 2 * a.itemsize
    return result


def _window(a):
    """A block out of the middle of a larger array: contiguous rows, padding between them."""
    buffer = np.full(tuple(s + 5 for s in a.shape), np.nan, a.dtype)
    result = buffer[tuple(slice(2, s + 2) for s in a.shape)]
    result[...] = a
    assert result.strides == buffer.strides and result.strides[-1] == a.itemsize
    return result


def _reversed_rows(a):
    result = np.array(a[::-1], order="C")[::-1]
    assert result.strides[0] < 0
    return result


def _reversed_both(a):
    reverse = (slice(None, None, -1),) * a.ndim
    result = np.array(a[reverse], order="C")[reverse]
    assert all(stride < 0 for stride in result.strides)
    return result


def _reversed_fortran(a):
    result = np.array(a[::-1], order="F")[::-1]
    assert result.strides[0] == -a.itemsize
    return result


def _interleaved(a):
    """The real parts of a complex array: no dimension has a stride of one item."""
    result = np.full(a.shape, 1j * np.nan, np.result_type(a.dtype, np.complex64)).real
    result[...] = a
    assert result.strides[-1] == 2 * a.itemsize
    return result


def _read_only(a):
    result = np.array(a)
    result.flags.writeable = False
    return result


def _stride_zero_rows(a):
    result = np.broadcast_to(np.array(a[:1]), a.shape)
    assert result.strides[0] == 0
    return result


def _stride_zero_columns(a):
    result = np.broadcast_to(np.array(a[..., :1]), a.shape)
    assert result.strides[-1] == 0
    return result


# Those that keep the values, and those that repeat one row or one column of them. All take an
# array with at least two entries in each dimension.
KEEPING = {
    "C": _c,
    "Fortran": _fortran,
    "transposed": _transposed,
    "sliced rows": _sliced_rows,
    "sliced columns": _sliced_columns,
    "window": _window,
    "reversed rows": _reversed_rows,
    "reversed both": _reversed_both,
    "reversed Fortran": _reversed_fortran,
    "interleaved": _interleaved,
    "read only": _read_only,
}
REPEATING = {
    "stride 0 rows": _stride_zero_rows,
    "stride 0 columns": _stride_zero_columns,
}
LAYOUTS = dict(KEEPING, **REPEATING)
