"""Do the tests see faults? Plants them in copies of the kernels, one by one, and runs the tests.

    make mutations-cuda                       # all; FAULTS="barrier slab" for those so named

Prints a line for each; exit status 1 if the tests of the kernels pass with a fault in them, or if a
fault no longer fits the source. Takes some minutes. Standard library only.
"""

import concurrent.futures
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
    ("no barrier before the first slice is used", "tile.cuh", "__syncthreads();", "", 0),
    ("no barrier between slices", "tile.cuh", "__syncthreads();", "", 1),
    ("the next slice overwrites the one in use", "tile.cuh", "now ^= 1;", "", 0),
    ("a slice reads a row too many", "tile.cuh", "e * LOADED < here", "e * LOADED <= here", 0),
    ("a slice reads a column too many", "tile.cuh", "DEPTH < deep", "DEPTH <= deep", 0),
    ("the last column is left out", "tile.cuh", "k < DEPTH + next_deep;",
     "k < DEPTH + next_deep - 1;", 0),
    ("threads' groups overlap", "tile.cuh", "q / 4 * (4 * SIDE)", "q / 4 * (2 * SIDE)", 0),
    ("log2(e) to five digits", "tile.cuh", "1.4426950408889634", "1.44269", 0),
    ("the factor overflows", "tile.cuh", "isinf(factor) && !isinf(gamma)", "false", 0),
    ("denormal powers become zero", "tile.cuh", "!SINGLE || least >= least_normal", "true", 0),
    ("only the first power is looked at", "tile.cuh", "fmin(least, values[i])", "least", 0),
    ("vector stores where rows are not aligned", "forward.cu", "m % 4 == 0", "m % 2 == 0", 0),
    ("rows below the last are stored", "forward.cu", "if (i < n && ", "if (", 0),
    ("rows below the last are stored by others", "forward.cu", "row < rows_here && ", "", 0),
    ("a column too many is stored", "forward.cu", "entry < entries_here", "entry <= entries_here",
     0),
    ("no barrier before entries are turned", "forward.cu", "__syncwarp();", "", 0),
    ("no barrier after entries were turned", "forward.cu", "__syncwarp();", "", 1),
    ("a tile too many in each row", "forward.cu", "(m + COLUMNS - 1) / COLUMNS",
     "m / COLUMNS + 1", 0),
    ("a scalar gamma read as a vector", "forward.cu", "j * gamma_step", "j", 0),
    ("no barrier before the payload is used", "sweep.cuh", "__syncthreads();", "", 0),
    ("no barrier after the payload was used", "sweep.cuh", "__syncthreads();", "", 1),
    ("no barrier before few columns are used", "sweep.cuh", "__syncthreads();", "", 2),
    ("padding counts", "sweep.cuh", "if (points_here < OTHERS)", "if (false)", 0),
    ("only 8 of 16 threads are added", "sweep.cuh", "STEP = SIDE / 2", "STEP = SIDE / 4", 0),
    ("shuffle down where all need the sum", "sweep.cuh", "__shfl_xor_sync", "__shfl_down_sync", 0),
    ("the other half is sent", "sweep.cuh", "sent = upper ?", "sent = !upper ?", 0),
    ("a slab runs beyond the last point", "sweep.cuh",
     "begin + s.slab < s.others ? begin + s.slab : s.others", "begin + s.slab", 0),
    ("slabs write over each other", "sweep.cuh", "(slab * s.owners + row", "(row", 0),
    ("adds to what was never written", "sweep.cuh", "first = column_first == begin",
     "first = false", 0),
    ("lost digits are not added up", "sweep.cuh", "total(TOTALS + e) +=",
     "total(TOTALS + e) *=", 0),
    ("lost digits in memory are not added up", "sweep.cuh", "isfinite(digits)", "false", 0),
    ("infinity turns into NaN", "sweep.cuh", "isfinite(rest)", "true", 0),
    ("the own points of another chunk", "sweep.cuh", "s.owner + corner",
     "s.owner + corner - chunk", 0),
    ("scale of a row in another's place", "sweep.cuh", "rates[ty * R + r]", "rates[ty * R]", 0),
    ("the last chunk of columns is left out", "sweep.cuh", "chunk < s.columns;",
     "chunk < s.columns - 1;", 0),
    ("the next piece overwrites the one in use", "sweep.cuh", "now ^= 1;", "", 0),
    ("a piece reads a point too many", "sweep.cuh", "STEP < left", "STEP <= left", 0),
    ("a piece reads a column too many", "sweep.cuh", "chunk + k < columns",
     "chunk + k <= columns", 0),
    ("slabs of dgamma write over each other", "sweep.cuh", "blockIdx.y * s.owners + row + r",
     "row + r", 0),
    ("half the gradient", "sweep.cuh", "sum : 2 * (", "sum : (", 0),
    ("stored G read beyond its rows", "sweep.cuh", "first + a < points_here", "true", 0),
    ("stored G read as if aligned", "sweep.cuh", "m % 4 == 0", "true", 0),
    ("no barrier before the points are used", "narrow.cu", "__syncthreads();", "", 0),
    ("no barrier after the points were used", "narrow.cu", "__syncthreads();", "", 1),
    ("a point too many in each run", "narrow.cu", "j < run_end", "j <= run_end", 0),
    ("a narrow slab runs beyond the last point", "narrow.cu",
     "begin + s.slab < s.others ? begin + s.slab : s.others", "begin + s.slab", 0),
    ("rows of threads overlap", "narrow.cu", "row + r * THREADS", "row + r", 0),
    ("digits lost by narrow sums are not added up", "narrow.cu", "lost[r][h] += part",
     "lost[r][h] *= part", 0),
    ("narrow infinity turns into NaN", "narrow.cu", "isfinite(lost[r][h])", "true", 0),
    ("a row beyond the last is stored", "narrow.cu", "i < s.owners && h", "h", 0),
    ("a column beyond the last is stored", "narrow.cu", "i < s.owners && h < s.columns",
     "i < s.owners", 0),
    ("half of a warp's rows are left out", "narrow.cu", "rows_here <= HERE / 2",
     "rows_here <= HERE", 0),
    ("half the narrow gradient", "narrow.cu", "2 * (scale * sums", "(scale * sums", 0),
    ("no barrier in the tree of sums", "arrays.cu", "__syncthreads();", "", 1),
    ("half of the sums is left out", "arrays.cu", "half = THREADS / 2", "half = THREADS / 4", 0),
    ("blocks' sums in one place", "arrays.cu", "result[blockIdx.x]", "result[0]", 0),
    ("the last slab is left out", "arrays.cu", "s < count;", "s < count - 1;", 0),
    ("strides exchanged", "arrays.cu", "e / columns * row_step + e % columns * column_step",
     "e / columns * column_step + e % columns * row_step", 0),
]  # fmt: skip

# The tests most likely to find a fault of a file are run first; then all.
LIKELY = {
    "tile.cuh": "test_forward or special or denormal",
    "forward.cu": "test_forward or special",
    "sweep.cuh": "far_away or infinite or long_sums or (test_gradient or test_product) and "
    "(130-65-4 or 65-129-17 or 70-515-18)",
    "narrow.cu": "far_away or infinite or long_sums or test_product and "
    "(5-7-3 or 130-65-4 or 1030-270-3)",
    "arrays.cu": "strided or symmetric_gradient or test_gradient and 70-515-18",
}


def planted(folder, file, text, replacement, which):
    """Make a copy of the kernels with the change; False if the text does not occur so often."""
    shutil.copytree(os.path.join(ROOT, "cuda"), folder)
    path = os.path.join(folder, file)
    with open(path) as source:
        parts = source.read().split(text)
    if len(parts) < which + 2:
        return False
    changed = text.join(parts[: which + 1]) + replacement + text.join(parts[which + 1 :])
    with open(path, "w") as source:
        source.write(changed)
    return True


def tests_fail(folder, file, everything=True):
    """Whether the tests of the kernels, run on the sources in `folder`, find something wrong."""
    for selection in [["-k", LIKELY[file]]] + [[]] * everything:
        pytest = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", TESTS]
        done = subprocess.run(
            pytest + selection,
            env=dict(os.environ, CUDA_SOURCES=folder), cwd=ROOT,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True,
        )  # fmt: skip
        if done.returncode in (2, 3, 4, 5) or "CompileError" in done.stdout:
            raise SystemExit("This is not what a test found:\n" + done.stdout)
        if done.returncode != 0:
            return True
    return False


def verdict(fault, everything=True):
    """ "found", or what is the matter; by the likely tests only, or by all of them."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = os.path.join(scratch, "cuda")
        if not planted(folder, *fault[1:]):
            return "DOES NOT FIT THE SOURCE"
        return "found" if tests_fail(folder, fault[1], everything) else "MISSED"


def main(wanted):
    if {"-h", "--help"} & set(wanted):
        print(__doc__.strip())
        return 0
    chosen = [f for f in FAULTS if not wanted or any(part in f[0] for part in wanted)]
    missed = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for fault, found in zip(chosen, pool.map(verdict, chosen)):
            missed += found != "found"
            print("%-44s %s" % (fault[0], found), flush=True)
    print("%d of %d not found" % (missed, len(chosen)) if missed else "all %d found" % len(chosen))
    return 1 if missed or not chosen else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
