"""What the machine can do at best, measured by the small C programs in this folder.

Compiled as Theano compiles the kernels (this machine's own instructions), run in processes of their
own. Standard library and rbf_op.sources only.
"""

import ctypes
import os
import shutil
import subprocess
import tempfile

from rbf_op.sources import source_directory

_FOLDER = os.path.dirname(os.path.abspath(__file__))
_PRECISION = {"float32": "0", "float64": "1"}


class Unavailable(Exception):
    """There is no compiler, or it does not compile the programs; the text says which."""


def measure(threads, sizes, earlier=None):
    """Rates of this machine with that many threads.

    {"arithmetic": {"multiply_adds", "pairs", "triples": {dtype: lanes per second}}, "exponential":
    {dtype: values per second}, "memory": {size: {"stores", "streams", "loads", "pages",
    "huge_pages": bytes per second}}} for every size, in bytes, of an array; each the larger of now
    and `earlier`, which measure() gave for the same arguments. Raises Unavailable.
    """
    rates = {"arithmetic": {}, "exponential": {}, "memory": {}}
    with tempfile.TemporaryDirectory(prefix="rbf_op-ceilings-") as folder:
        for dtype, double in _PRECISION.items():
            definition = "-DRBF_DOUBLE=" + double
            found = _run([_compile("arithmetic", folder, [definition])], threads)
            for name, rate in found.items():
                rates["arithmetic"].setdefault(name, {})[dtype] = rate
            found = _run([_compile("exponential", folder, [definition])], threads)
            rates["exponential"][dtype] = found["exponential"]
        program = _compile("memory", folder)
        for size in sorted(set(sizes)):
            rates["memory"][size] = _run([program, str(size)], threads)
    return larger(rates, earlier) if earlier else rates


def library(name, folder, dtype=None):
    """ctypes.CDLL of a program of this folder, compiled into another one. Raises Unavailable."""
    definitions = ["-DRBF_DOUBLE=" + _PRECISION[dtype]] if dtype else []
    return ctypes.CDLL(_compile(name, folder, definitions + ["-shared", "-fPIC"]))


def larger(rates, other):
    """The larger of two rates; of two dicts of rates, for every name that is in either."""
    if isinstance(rates, dict):
        found = {**other, **rates}
        return {
            n: larger(r, other[n]) if n in rates and n in other else r for n, r in found.items()
        }
    return max(rates, other)


def _compile(name, folder, options=()):
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise Unavailable("no C compiler (gcc) on this machine")
    program = os.path.join(folder, name)
    command = [compiler, "-std=gnu11", "-O3", "-march=native", "-fopenmp", *options]
    command += ["-I", source_directory("c_code"), os.path.join(_FOLDER, name + ".c")]
    done = subprocess.run(
        command + ["-o", program, "-lm"], stderr=subprocess.PIPE, universal_newlines=True
    )
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "error" in line]
        raise Unavailable("ceilings/%s.c: %s" % (name, (errors or [done.stderr.strip()])[0]))
    return program


def _run(command, threads):
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads))
    done = subprocess.run(
        command, stdout=subprocess.PIPE, env=environment, universal_newlines=True, timeout=120
    )
    if done.returncode:
        raise Unavailable("%s ended with %d" % (os.path.basename(command[0]), done.returncode))
    return {name: float(rate) for name, rate in map(str.split, done.stdout.splitlines())}
