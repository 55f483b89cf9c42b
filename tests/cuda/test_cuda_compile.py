"""nvcc compiles every kernel for every architecture, without spilling registers or using a stack.

Needs the real nvcc, no GPU: what ptxas says of registers and shared memory is not in the emulator.
"""

import importlib.util
import os
import re
import subprocess

import pytest

from rbf_op.device import launch, runtime

ARCHITECTURES = ["75", "80", "90", "100", "120"]
SHARED_LIMIT = 48 << 10
REGISTERS = 65536  # of a multiprocessor, on every architecture above
THREADS = 256

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def _imported(*path):
    spec = importlib.util.spec_from_file_location(path[-1][:-3], os.path.join(ROOT, *path))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


NVCC = _imported("tests", "cuda_emulator", "run.py").real_nvcc()
needs_nvcc = pytest.mark.skipif(NVCC is None, reason="NOT TESTED: there is no nvcc on PATH")


def modules():
    """(file, dtype, COLUMNS, DIMS) of every module that launch can ask for."""
    found = []
    for dtype in runtime.DTYPES:
        found += [("forward.cu", dtype), ("arrays.cu", dtype)]
        gradient = {launch._columns(width) for width in range(1, 100)}
        product = {launch._columns(width, one=True) for width in range(1, 100)}
        found += [("gradient.cu", dtype, c) for c in sorted(gradient)]
        found += [("product.cu", dtype, c) for c in sorted(product)]
        few = range(1, launch._NARROW + 1)
        narrow = {(launch._columns(p, one=True), d) for p in few for d in few}
        found += [("narrow.cu", dtype) + sizes for sizes in sorted(narrow)]
    return found


def compiled(folder, text, macros, architectures):
    """What nvcc and ptxas say; no error, no warning."""
    source = folder / "kernel.cu"
    source.write_text(text)
    command = [NVCC] + runtime.OPTIONS + macros
    for a in architectures:
        command += ["-gencode", "arch=compute_%s,code=sm_%s" % (a, a)]
    command += ["--threads", "2", "--keep", "--keep-dir", str(folder)]  # the PTX is kept
    command += ["-Xptxas", "-v", "-fatbin", "-o", str(folder / "kernel.fatbin"), str(source)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True
    )
    assert done.returncode == 0, done.stdout
    assert "warning" not in done.stdout, done.stdout
    return done.stdout


@needs_nvcc
@pytest.mark.parametrize("module", modules(), ids=lambda m: "-".join(map(str, m)))
def test_compiles_without_spills(tmp_path, module):
    text = runtime.source(module[0])
    assert "#include" not in text
    said = compiled(tmp_path, text, runtime.macros(*module[1:]), ARCHITECTURES)
    kernels = len(re.findall(r'extern "C" __global__', text))
    usage = re.findall(
        r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill", said
    )
    assert len(usage) == kernels * len(ARCHITECTURES), said
    assert all(line == ("0", "0", "0") for line in usage), said
    registers = [int(r) for r in re.findall(r"Used (\d+) registers", said)]
    assert len(registers) == len(usage) and max(registers) * THREADS <= REGISTERS, said
    # Vector loads from shared memory trap where an array is not aligned, which PTX must ask for.
    written = [path.read_text() for path in tmp_path.iterdir() if path.name.endswith(".ptx")]
    aligned = [re.findall(r"\.shared \.align (\d+)", ptx) for ptx in written]
    assert written and all(map(len, aligned)) == ("__shared__" in text)
    assert all(int(a) % 16 == 0 for found in aligned for a in found), aligned
    assert all(int(b) <= SHARED_LIMIT for b in re.findall(r"(\d+) bytes smem", said)), said
    # Sixteen bytes at a time where rows are aligned: a thread's part of K, and of G in both sweeps.
    if module[0] in ("forward.cu", "gradient.cu"):
        moved = "st" if module[0] == "forward.cu" else "ld"
        entries = 32 if module[:2] != ("forward.cu", "float64") else 16
        for ptx in written:
            vectors = re.findall(moved + r"\.global(?:\.nc)?\.v(\d)\.[bfu]\d+", ptx)
            assert sum(map(int, vectors)) == entries, vectors


@needs_nvcc
@pytest.mark.parametrize("dtype", sorted(runtime.DTYPES))
def test_compiles_elementwise_expressions(tmp_path, dtype):
    from theano import scalar

    from rbf_op.device import elementwise, types

    kind = types.DeviceType(dtype, (False, False))
    x, y = (scalar.get_scalar_type(dtype)() for _ in range(2))
    result = scalar.sqrt(scalar.sqr(x)) * scalar.exp(-y) / scalar.maximum(x, y) - scalar.log(y)
    op = elementwise.DeviceElementwise(scalar.Composite([x, y], [result]))
    text = op.source(op(kind(), kind()).owner)
    assert "exp" in text and "sqrt" in text
    compiled(tmp_path, text, [], ["75", "120"])


@needs_nvcc
@pytest.mark.parametrize("real", ["float", "double"])
def test_compiles_the_benchmarks_limits(tmp_path, real):
    limits = _imported("benchmarks", "gpu", "limits.py")
    source = limits.LIMITS_SOURCE.replace("REAL", real) + limits.SPIN_SOURCE
    compiled(tmp_path, source, [], ["75", "120"])
