"""nvcc compiles every kernel for every architecture, without spilling registers or using a stack.

Needs the real nvcc, no GPU: what ptxas says of registers and shared memory is not in the emulator.
"""

import importlib.util
import os
import re
import subprocess

import pytest

from rbf_op import cuda_launch, cuda_runtime

ARCHITECTURES = ["75", "80", "90", "100", "120"]
SHARED_LIMIT = 48 << 10
REGISTERS = 65536  # of a multiprocessor, on every architecture above
THREADS = 256

_HERE = os.path.dirname(os.path.abspath(__file__))


def _real_nvcc():
    path = os.path.join(os.path.dirname(_HERE), "cuda_emulator", "run.py")
    spec = importlib.util.spec_from_file_location("cuda_emulator_run", path)
    run = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(run)
    return run.real_nvcc()


NVCC = _real_nvcc()
needs_nvcc = pytest.mark.skipif(NVCC is None, reason="NOT TESTED: there is no nvcc on PATH")


def modules():
    """(file, dtype, COLUMNS) of every module that cuda_launch can ask for."""
    found = []
    for dtype in cuda_runtime.DTYPES:
        found += [("forward.cu", dtype, None), ("arrays.cu", dtype, None)]
        columns = {cuda_launch._columns(width, dtype) for width in range(1, 100)}
        found += [("gradient.cu", dtype, c) for c in sorted(columns)]
        found += [("product.cu", dtype, c) for c in sorted(columns | {1})]
    return found


@needs_nvcc
@pytest.mark.parametrize("file, dtype, columns", modules())
def test_compiles_without_spills(tmp_path, file, dtype, columns):
    source = tmp_path / file
    source.write_text(cuda_runtime.source(file))
    assert "#include" not in cuda_runtime.source(file)
    command = [NVCC] + cuda_runtime.OPTIONS + ["-DREAL=" + cuda_runtime.DTYPES[dtype]]
    command += [] if columns is None else ["-DCOLUMNS=%d" % columns]
    for a in ARCHITECTURES:
        command += ["-gencode", "arch=compute_%s,code=sm_%s" % (a, a)]
    command += ["-Xptxas", "-v", "-fatbin", "-o", os.devnull, str(source)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True
    )
    said = done.stdout
    assert done.returncode == 0, said
    assert "warning" not in said, said
    kernels = len(re.findall(r'extern "C" __global__', source.read_text()))
    usage = re.findall(
        r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill", said
    )
    assert len(usage) == kernels * len(ARCHITECTURES), said
    assert all(line == ("0", "0", "0") for line in usage), said
    registers = [int(r) for r in re.findall(r"Used (\d+) registers", said)]
    assert len(registers) == len(usage) and max(registers) * THREADS <= REGISTERS, said
    assert all(int(b) <= SHARED_LIMIT for b in re.findall(r"(\d+) bytes smem", said)), said
