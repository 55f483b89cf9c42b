"""Do the tests see faults? Plants them in copies of the kernels, one by one, and runs the tests.

    python tests/cuda_emulator/run.py python tests/cuda_emulator/mutations.py [part of a name]...

Prints a line for each; exit status 1 if the tests of the kernels pass with a fault in them, or if a
fault no longer fits the source. Takes ten to twenty minutes. Standard library only.
"""

import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
TESTS = os.path.join(ROOT, "tests", "cuda", "test_cuda_kernels.py")

# (what is wrong, file, text, its replacement, which of its occurrences: the first is 0)
FAULTS = [
    ("no barrier before a slice is used", "tile.cuh", "__syncthreads();", "", 0),
    ("no barrier after a slice was used", "tile.cuh", "__syncthreads();", "", 1),
    ("a slice reads a row too many", "tile.cuh", "i < here", "i <= here", 0),
    ("a slice reads a column too many", "tile.cuh", "k < deep ?", "k <= deep ?", 0),
    ("the last column is left out", "tile.cuh", "k < deep; ++k", "k < deep - 1; ++k", 0),
    ("threads' groups overlap", "tile.cuh", "q / 4 * (4 * SIDE)", "q / 4 * (2 * SIDE)", 0),
    ("log2(e) to five digits", "tile.cuh", "1.4426950408889634", "1.44269", 0),
    ("the factor overflows", "tile.cuh", "isinf(factor) && !isinf(gamma)", "false", 0),
    ("vector stores where rows are not aligned", "forward.cu", "m % 4 == 0", "m % 2 == 0", 0),
    ("rows below the last are stored", "forward.cu", "if (i >= n)", "if (false)", 0),
    ("a column too many is stored", "forward.cu", "if (q < columns_here)",
     "if (q <= columns_here)", 0),
    ("a tile too many in each row", "forward.cu", "(m + TILE - 1) / TILE", "m / TILE + 1", 0),
    ("a scalar gamma read as a vector", "forward.cu", "(j + q) * gamma_step", "(j + q)", 0),
    ("no barrier before the payload is used", "sweep.cuh", "__syncthreads();", "", 0),
    ("no barrier after the payload was used", "sweep.cuh", "__syncthreads();", "", 1),
    ("weights of padding count", "sweep.cuh", "there ? weight : real(0)", "weight", 0),
    ("only 8 of 16 threads are added", "sweep.cuh", "step = SIDE / 2", "step = SIDE / 4", 0),
    ("shuffle down where all need the sum", "sweep.cuh", "__shfl_xor_sync", "__shfl_down_sync", 0),
    ("a slab runs beyond the last point", "sweep.cuh",
     "begin + s.slab < s.others ? begin + s.slab : s.others", "begin + s.slab", 0),
    ("slabs write over each other", "sweep.cuh", "blockIdx.y * s.owners * s.columns", "0", 0),
    ("adds to what was never written", "sweep.cuh", "column_first == begin ?", "false ?", 0),
    ("lost digits are not added up", "sweep.cuh", "lost[r][h] +=", "lost[r][h] *=", 0),
    ("infinity turns into NaN", "sweep.cuh", "isfinite(lost[r][h])", "true", 0),
    ("weights of a row in another's place", "sweep.cuh", "weights[ty * 4 + r][tx * 4]",
     "weights[ty * 4][tx * 4]", 0),
    ("slabs of dgamma write over each other", "sweep.cuh", "blockIdx.y * s.owners + row + r",
     "row + r", 0),
    ("half the gradient", "sweep.cuh", ": 2 * s.gamma", ": s.gamma", 0),
    ("stored G read beyond its columns", "sweep.cuh", "r < rows_here && c < columns_here",
     "r < rows_here", 0),
    ("no barrier in the tree of sums", "arrays.cu", "__syncthreads();", "", 1),
    ("half of the sums is left out", "arrays.cu", "half = THREADS / 2", "half = THREADS / 4", 0),
    ("the last slab is left out", "arrays.cu", "s < count;", "s < count - 1;", 0),
    ("strides exchanged", "arrays.cu", "e / columns * row_step + e % columns * column_step",
     "e / columns * column_step + e % columns * row_step", 0),
]  # fmt: skip


def plant(folder, file, text, replacement, which):
    """Make the change in the copy; False if the text does not occur so often."""
    path = os.path.join(folder, file)
    with open(path) as source:
        parts = source.read().split(text)
    if len(parts) < which + 2:
        return False
    changed = text.join(parts[: which + 1]) + replacement + text.join(parts[which + 1 :])
    with open(path, "w") as source:
        source.write(changed)
    return True


def tests_fail(folder):
    """Whether the tests of the kernels, run on the sources in `folder`, find something wrong."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", TESTS],
        env=dict(os.environ, CUDA_SOURCES=folder), cwd=ROOT,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True,
    )  # fmt: skip
    if done.returncode in (2, 3, 4, 5) or "CompileError" in done.stdout:
        raise SystemExit("This is not what a test found:\n" + done.stdout)
    return done.returncode != 0


def main(wanted):
    missed = 0
    for name, *change in FAULTS:
        if wanted and not any(part in name for part in wanted):
            continue
        with tempfile.TemporaryDirectory() as scratch:
            folder = os.path.join(scratch, "cuda")
            shutil.copytree(os.path.join(ROOT, "cuda"), folder)
            if not plant(folder, *change):
                verdict = "DOES NOT FIT THE SOURCE"
            else:
                verdict = "found" if tests_fail(folder) else "MISSED"
        missed += verdict != "found"
        print("%-44s %s" % (name, verdict), flush=True)
    print("%d not found" % missed if missed else "all found")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
