"""Says whether the fused node works on this machine, as fast as it can, and if not what to do.

One function a topic, each yielding findings; run() prints them in 80 columns and tells healthy from
not. Needs Theano and NumPy alone. Touches the public API, compat, device/, reference, sources,
theano_api and usage; PyCUDA and threadpoolctl if they are there.
"""

import collections
import importlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import textwrap

import numpy as np
import theano
import theano.tensor as T
from theano import config

import rbf_op
from rbf_op import compat, reference, sources, theano_api, usage
from rbf_op.device.placement import resolve_device
from rbf_op.device.runtime import CUDAUnavailable

#: Levels: "ok" (fact), "note" (works, but could be better) and "problem" (not healthy).
Finding = collections.namedtuple("Finding", "level text advice")


def fact(text):
    return Finding("ok", text, "")


def note(text, advice):
    return Finding("note", text, advice)


def problem(text, advice):
    return Finding("problem", text, advice)


def versions():
    """Interpreter, packages, and what compat had to mend."""
    yield fact(
        "rbf_op %s, Theano %s, NumPy %s" % (rbf_op.__version__, theano.__version__, np.__version__)
    )
    yield fact("Python %s on %s" % (platform.python_version(), platform.platform()))
    for mended in compat.applied:
        yield fact("mended for Theano: %s" % mended)


def compiler():
    """The C++ compiler and the flags that Theano gives it for our Ops."""
    if not config.cxx:
        yield problem(
            "none found: the node runs in NumPy, on one core and many times slower",
            "Install g++ (Debian, Ubuntu: apt install g++; conda: conda install gxx), or name your "
            "compiler with THEANO_FLAGS=cxx=/path/to/g++",
        )
        return
    run = _run_compiler(["--version"])
    if run.returncode != 0:
        yield problem(
            "%s does not run: %s" % (config.cxx, _last_line(run.stderr)),
            "Correct or remove `cxx` in THEANO_FLAGS and .theanorc",
        )
        return
    yield fact("%s: %s" % (config.cxx, run.stdout.splitlines()[0]))
    flags = _compile_flags()
    shown = [flag for flag in flags if re.match(r"-(O|f|march|mavx2$|mavx512f$|std|pthread)", flag)]
    yield fact("flags: %s (and %d more)" % (" ".join(shown), len(flags) - len(shown)))
    if _calls_numpy():
        yield note(
            "mode=%s, linker=%s: functions run in NumPy, not in C (in DebugMode in both)"
            % (config.mode, config.linker),
            "Leave `mode` and `linker` at their defaults, but for debugging",
        )


def vector_width():
    """What c_code/target.h makes of the flags above."""
    if not _compiler_runs():
        return
    macros = _target_macros()
    if "RBF_VECTOR_BYTES" not in macros:
        yield problem(
            "the compiler cannot read c_code/target.h",
            "Install rbf_op again; its C sources are in %s" % sources.source_directory("c_code"),
        )
        return
    size = int(macros["RBF_VECTOR_BYTES"])
    yield fact("%d bits: %d floats or %d doubles at once" % (8 * size, size // 4, size // 8))
    if size < 32 and "__x86_64__" in macros and _cpu_has("avx"):
        yield note(
            "this processor has wider vectors than the flags let the compiler use",
            "Remove -march and -mno-avx from gcc.cxxflags: Theano adds -march=native by itself",
        )


def openmp():
    """Whether the C code is compiled for several threads, and how many cores a call uses."""
    if not _compiler_runs():
        return
    if "_OPENMP" not in _target_macros():
        yield note(
            "not supported by the compiler: one thread, same results",
            "Use g++, or clang with libomp",
        )
        return
    available, limit = _cores(), os.environ.get("OMP_NUM_THREADS")
    yield fact(
        "%d core(s) may be used; OMP_NUM_THREADS is %s" % (available, limit or "not set: all")
    )
    if limit and re.fullmatch("0+", limit):
        yield note("OMP_NUM_THREADS=%s is invalid and counts as not set" % limit, "Unset it")
    elif limit and re.fullmatch("[0-9]+", limit) and int(limit) < available:
        yield note("OMP_NUM_THREADS leaves cores idle", "Unset it to use all of them")
    if _calls_numpy():
        return
    busy = _busy_cores()
    yield fact("a large call kept %.1f of them busy" % busy)
    if busy < 1.2 and available > 1 and limit != "1":
        most = os.environ.get("OMP_THREAD_LIMIT")
        yield note(
            "the others did nothing",
            "Unset OMP_THREAD_LIMIT, which is %s" % most
            if most
            else "See whether this process may use them (taskset, container limits) and whether "
            "another library set the number of OpenMP threads to 1",
        )


def memory():
    """How much the nodes keep for their next call."""
    given = os.environ.get("RBF_OP_POOL_BYTES", "")
    if re.fullmatch("[0-9]+", given):
        yield fact("RBF_OP_POOL_BYTES is %s" % given)
    elif not given:
        yield fact(
            "RBF_OP_POOL_BYTES is not set: each kind of node keeps up to a sixteenth of the "
            "machine's memory, or 256 MB if that is more"
        )
    else:
        yield problem(
            "RBF_OP_POOL_BYTES is %r, which is no number of bytes: it counts as not set" % given,
            "Give digits alone, such as 268435456, or unset it",
        )


def self_check():
    """Value and gradients of the node against NumPy in float64."""
    if config.cxx and not _compiler_runs():
        return
    for dtype, tolerance in (("float32", 1e-5), ("float64", 1e-13)):
        error = _self_check_error(dtype)
        if error <= tolerance:
            yield fact("%s: value and gradients right (largest error %.1e)" % (dtype, error))
        else:
            yield problem(
                "%s: wrong by %.1e (allowed %.0e)" % (dtype, error, tolerance),
                "Delete Theano's compile cache, the folder named below, and try again; remove "
                "unusual entries of gcc.cxxflags; if it stays, report it with this output",
            )


def openmp_runtimes():
    """Which OpenMP libraries this process holds now: two of them can disturb each other."""
    loaded = _loaded_openmp()
    if loaded is None:
        return
    yield fact(", ".join(map(os.path.basename, loaded)) or "none loaded")
    if len(loaded) > 1:
        yield note(
            "several OpenMP runtimes in one process: %s" % ", ".join(loaded),
            "They compete for cores, and a mix with Intel's is known to hang or to go wrong: "
            "install NumPy, SciPy and others from one source, or set MKL_THREADING_LAYER=GNU",
        )


def compile_cache():
    """Where Theano keeps compiled modules, and whether it can."""
    try:
        directory = config.compiledir  # Theano makes it now, if it has not yet
        with tempfile.TemporaryFile(dir=directory):
            pass
    except (OSError, ValueError) as error:
        yield problem(
            "cannot be written to: %s" % error,
            "Choose another with THEANO_FLAGS=base_compiledir=/path",
        )
        return
    modules = sum(os.path.isdir(os.path.join(directory, name)) for name in os.listdir(directory))
    free = shutil.disk_usage(directory).free
    yield fact("%s (%d modules, %.1f GB free)" % (directory, modules, free / 1e9))
    if free < 100e6:
        yield note("the disk is nearly full", "The folder can be deleted: it fills as needed")


def blas():
    """What runs the matrix products of Theano's other Ops (the node does not use BLAS)."""
    flags = config.blas.ldflags
    yield fact(flags or "through NumPy (blas.ldflags is empty, which is as fast)")
    for pool in _threadpools():
        if pool["user_api"] == "blas":
            yield fact("loaded: %(internal_api)s %(version)s, %(num_threads)d thread(s)" % pool)


def gpu():
    """PyCUDA and the devices that it sees, and whether the device asked for can be used."""
    try:
        resolve_device()
    except (ValueError, CUDAUnavailable) as error:
        yield problem(str(error), "Or unset RBF_OP_DEVICE: the CPU is used then")
    try:
        import pycuda
    except ImportError:
        yield fact("PyCUDA is not installed: CPU only")
        return
    version = getattr(pycuda, "VERSION_TEXT", "(version unknown)")
    try:
        driver = importlib.import_module("pycuda.driver")
        driver.init()
        names = [driver.Device(number).name() for number in range(driver.Device.count())]
    except Exception as error:
        yield note(
            "PyCUDA %s is installed, but finds no GPU: %s" % (version, error),
            "Nothing is needed for the CPU; for the GPU install NVIDIA's driver",
        )
        return
    yield fact("PyCUDA %s: %s" % (version, ", ".join(names) or "no device"))


#: What run() goes through, in order. The runtimes come after the check that loads them.
TOPICS = (
    ("versions", versions),
    ("compiler", compiler),
    ("vectors", vector_width),
    ("OpenMP", openmp),
    ("memory", memory),
    ("self-check", self_check),
    ("runtimes", openmp_runtimes),
    ("cache", compile_cache),
    ("BLAS", blas),
    ("GPU", gpu),
)


def examine(topics):
    """Yields (topic, finding) of each; a check that breaks is itself a problem."""
    for topic, check in topics:
        before = theano.config.compute_test_value, theano.config.warn_float64
        # The variables of the checks have no test values, and are of both precisions.
        theano.config.compute_test_value, theano.config.warn_float64 = "off", "ignore"
        try:
            for finding in check():
                yield topic, finding
        except Exception as error:
            yield (
                topic,
                problem(
                    "failed with %s: %s" % (type(error).__name__, _last_line(str(error))),
                    "The lines above may name the cause; otherwise report it with this output",
                ),
            )
        finally:
            theano.config.compute_test_value, theano.config.warn_float64 = before


def run(out=None, topics=TOPICS):
    """Prints what was found; returns True if healthy (no problem)."""
    out = out or sys.stdout
    healthy = True
    shown = None
    for topic, finding in examine(topics):
        healthy &= finding.level != "problem"
        mark = {"ok": "", "note": "note: ", "problem": "PROBLEM: "}[finding.level]
        _print_wrapped(topic if topic != shown else "", mark + finding.text, out)
        if finding.advice:
            _print_wrapped("", "-> " + finding.advice, out)
        shown = topic
    print("", file=out)
    print("healthy" if healthy else "NOT healthy: see each PROBLEM above", file=out)
    return healthy


def _print_wrapped(label, text, out):
    # A path too long for the line stays whole, to be copied.
    lines = textwrap.wrap(text, 67, break_on_hyphens=False, break_long_words=False) or [""]
    for number, line in enumerate(lines):
        print("%-12s%s" % (label if number == 0 else "", line), file=out, flush=True)


def _last_line(text):
    lines = text.strip().splitlines()
    return lines[-1] if lines else "no message"


def _run_compiler(arguments):
    try:
        return subprocess.run(
            shlex.split(config.cxx) + arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            universal_newlines=True,
        )
    except OSError as error:
        return subprocess.CompletedProcess(arguments, 1, "", str(error))


def _compiler_runs():
    """Whether there is a compiler that does anything: compiler() says what is wrong otherwise."""
    return bool(config.cxx) and _run_compiler(["--version"]).returncode == 0


def _calls_numpy():
    """Whether functions run the node in NumPy (too), by the user's mode or linker."""
    numpys = "FAST_COMPILE", "DebugMode", "DEBUG_MODE"
    return config.linker == "py" or config.mode in numpys


def _compile_flags():
    """The flags with which Theano compiles a function that holds the node."""
    x = T.matrix(dtype="float32")
    graph = theano_api.FunctionGraph([x], [rbf_op.rbf_kernel(x, device="cpu")])
    return theano_api.CLinker().accept(graph).compile_args()


def _target_macros():
    """The macros defined after c_code/target.h, as Theano's flags make them."""
    header = os.path.join(sources.source_directory("c_code"), "target.h")
    run = _run_compiler(
        _compile_flags() + ["-x", "c++", "-dM", "-E", "-include", header, os.devnull]
    )
    return dict(re.findall(r"^#define (\w+)(?: (.*))?$", run.stdout, re.MULTILINE))


def _cpu_has(flag):
    try:
        with open("/proc/cpuinfo") as information:
            return re.search(r"^flags\s*:.*\b%s\b" % flag, information.read(), re.M) is not None
    except OSError:
        return False


def _self_check_error(dtype):
    """Largest error of K and its gradients, each relative to its largest entry."""
    random = np.random.RandomState(0)
    values = [
        random.normal(size=(67, 11)),
        random.normal(size=(45, 11)),
        random.uniform(0.05, 0.15, size=45),
        random.normal(size=45),
        random.normal(size=(67, 45)),
    ]
    values = [value.astype(dtype) for value in values]
    x, y, gamma, amplitude, G = [T.TensorType(dtype, (False,) * v.ndim)() for v in values]
    K = rbf_op.rbf_kernel(x, y, gamma, amplitude=amplitude, device="cpu")
    gradients = theano.grad((K * G).sum(), [x, y, gamma, amplitude])
    results = theano.function([x, y, gamma, amplitude, G], [K] + gradients)(*values)
    exact = [value.astype("float64") for value in values]
    expected = (reference.rbf_kernel(*exact[:4]),) + tuple(reference.rbf_kernel_grad(*exact))
    errors = [np.abs(r - e).max() / np.abs(e).max() for r, e in zip(results, expected)]
    return float(np.max(errors))


def _cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _busy_cores():
    x, y = [T.matrix(dtype="float32") for _ in range(2)]
    layer = theano.function([x, y], rbf_op.rbf_kernel(x, y, 0.01, device="cpu"))
    points = np.random.RandomState(0).normal(size=(2000, 100)).astype("float32")
    layer(points, points)
    with usage.BusyCores() as busy:
        for _ in range(20):
            layer(points, points)
    return busy.cores


def _threadpools():
    try:
        import threadpoolctl
    except ImportError:
        return []
    return threadpoolctl.threadpool_info()


def _loaded_openmp():
    """Paths of the OpenMP libraries in this process; None where that cannot be told."""
    try:
        with open("/proc/self/maps") as maps:
            paths = {line.split(None, 5)[5].strip() for line in maps if line.count("/")}
    except OSError:
        pools = _threadpools()
        return sorted(p["filepath"] for p in pools if p["user_api"] == "openmp") or None
    return sorted(
        path for path in paths if re.match(r"lib(gomp|iomp5|omp)\b", os.path.basename(path))
    )
