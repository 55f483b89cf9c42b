"""The C kernels by themselves, for other processors (emulated where need be) and by Clang.

A file of its own, so that it runs beside test_c_kernels.py. Theano is not involved.
"""

import pytest
import test_c_kernels

pytestmark = test_c_kernels.needs_compiler


@pytest.mark.parametrize(
    "machine", ["x86_64_v2", "x86_64_v3", "x86_64_v4", "like_aarch64", "aarch64", "clang"]
)
def test_kernels_of_other_machines(machine, tmp_path):
    missing = test_c_kernels.make("missing-" + machine).stdout.strip()
    if missing:
        pytest.skip("there is no " + missing)
    test_c_kernels.test_kernels_agree_with_long_double(machine, tmp_path)
