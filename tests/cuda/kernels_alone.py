"""Runs the tests of the kernels without Theano, so on any Python that has PyCUDA:

    python tests/cuda/kernels_alone.py -x -k product           # options as pytest takes them

Of the package only rbf_op/device/ is loaded, as far as the kernels' launches need it; nothing of it
is installed, and no other test's conftest.py is read. Needs PyCUDA, nvcc, NumPy, pytest and a GPU,
or tests/cuda_emulator/run.py before it. Exit status 2 where there is no device. Other files that do
without Theano may be named: tests/cuda/test_cuda_benchmark.py -k 'not auto'.
"""

import os
import sys
import types

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))


def main(arguments):
    package = types.ModuleType("rbf_op")  # whose own __init__.py would import Theano
    package.__path__ = [os.path.join(ROOT, "rbf_op")]
    sys.modules["rbf_op"] = package
    sys.path.insert(0, os.path.join(ROOT, "tests"))  # oracle
    from rbf_op.device import runtime

    reason = runtime.why_unavailable()
    if reason:
        print(reason, file=sys.stderr)
        return 2
    if not any(os.path.exists(a.split("::")[0]) for a in arguments):
        arguments = [os.path.join(HERE, "test_cuda_kernels.py")] + arguments
    own = ["--rootdir", ROOT, "--confcutdir", HERE, "-p", "no:cacheprovider", "-m", "gpu"]
    return pytest.main(own + arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
