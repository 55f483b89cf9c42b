"""float32 nodes of many columns, which processors with a matrix unit (AMX) compute on that.

The C kernels by themselves are checked in tests/c; here that they do so through Theano, and that
the setting which forbids it does.
"""

import ctypes
import os
import subprocess

from processes import run_python
from theano import config

MANY_COLUMNS = """
from rbf_op import rbf_kernel  # before theano
import hashlib
import numpy as np
import theano, theano.tensor as T

random = np.random.RandomState(0)
x_values, y_values = random.randn(700, 96), random.randn(600, 96)
g_values, gamma = random.randn(700, 600), 1 / 96
def nodes(dtype):
    x, y, g = (T.matrix(name, dtype=dtype) for name in "xyg")
    k = rbf_kernel(x, y, gamma=gamma)
    f = theano.function([x, y, g], [k] + T.grad((k * g).sum(), [x, y]))
    return f(*[value.astype("float32").astype(dtype) for value in (x_values, y_values, g_values)])
found, exact = nodes("float32"), nodes("float64")
errors = [
    float(np.max(np.linalg.norm(one - other, axis=1) / np.linalg.norm(other, axis=1)))
    for one, other in zip(found, exact)
]
report([errors, hashlib.md5(b"".join(array.tobytes() for array in found)).hexdigest()])
"""


def has_unit():
    """Whether the compiler knows the unit on this machine and the system gives leave to use it."""
    macros = [config.cxx, "-march=native", "-dM", "-E", "-x", "c++", os.devnull]
    if "__AMX_BF16__" not in subprocess.check_output(macros, universal_newlines=True):
        return False
    arch_prctl, req_xcomp_perm, tile_data = 158, 0x1023, 18
    return ctypes.CDLL(None).syscall(arch_prctl, req_xcomp_perm, tile_data) == 0


def test_the_matrix_unit_is_used_unless_forbidden_and_as_accurate():
    errors, bits = run_python(MANY_COLUMNS)
    errors_without, bits_without = run_python(MANY_COLUMNS, environment={"RBF_OP_MATRIX_UNIT": "0"})
    for error, without in zip(errors, errors_without):
        assert error < 1e-6 and error < 1.5 * without
    assert (bits != bits_without) == has_unit()
