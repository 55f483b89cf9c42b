"""Theano's cache of compiled modules: found again by the next process, never when out of date.

Each test counts the calls of the compiler in processes of its own, with a compile directory that
starts empty.
"""

import os
import shutil

import pytest
from graphs import needs_compiler
from processes import PACKAGE_ROOT, run_python

from rbf_op import sources

pytestmark = needs_compiler

COUNT = """
import rbf_op
import theano, theano.tensor as T
from theano.gof.cmodule import GCC_compiler

compiled = []
compile_str = GCC_compiler.compile_str
def counting(module_name, *args, **kwargs):
    compiled.append(module_name)
    return compile_str(module_name, *args, **kwargs)
GCC_compiler.compile_str = staticmethod(counting)

openmp = sys.argv[1] == "openmp"
x, y = T.fmatrices("x", "y")
gamma = T.fscalar("gamma")
K = rbf_op.RBFKernel(openmp=openmp)(x, y, gamma, gamma)
of_x = rbf_op.RBFKernel(symmetric=True, openmp=openmp)(x, gamma, gamma)
# One module for each node, as with Theano's default linker, but without compiling that.
f = theano.function([x, y, gamma], [K, of_x], mode=theano.Mode(linker="c|py", optimizer=None))
value = f([[1, 2]], [[1, 2], [3, 4]], 0)[0].tolist()
# Modules of nodes are named m<hash>; the others are Theano's own.
report([len([name for name in compiled if name.startswith("m")]), value, rbf_op.__file__])
"""


NODES = 2


@pytest.fixture
def count(tmp_path):
    """count(...) -> number of modules the process compiled."""

    def run(openmp="openmp", seed=0, package_root=PACKAGE_ROOT):
        compiled, value, path = run_python(
            COUNT,
            openmp,
            # Not optimised, for the sake of time.
            flags={"base_compiledir": tmp_path / "compiledir", "gcc.cxxflags": "-O0"},
            environment={"PYTHONHASHSEED": str(seed)},
            package_root=str(package_root),
        )
        assert value == [[0.0, 0.0]]
        assert os.path.dirname(os.path.dirname(path)) == str(package_root)
        return compiled

    return run


def test_second_process_compiles_nothing(count):
    """Whatever its hash seed: nothing salted goes into the key."""
    assert count(seed=1) == NODES
    assert count(seed=2) == 0
    assert count(seed=1) == 0


def test_openmp_and_without_are_distinct(count):
    assert count("openmp") == NODES
    assert count("single") == NODES
    assert count("openmp") == count("single") == 0


def test_edited_header_is_compiled_once(count, tmp_path):
    """Theano looks modules up before it reads any header: the key must hold their contents."""
    root = tmp_path / "copy"
    shutil.copytree(os.path.join(PACKAGE_ROOT, "rbf_op"), str(root / "rbf_op"))
    c_code = root / "rbf_op" / "c_code"
    if not c_code.exists():
        shutil.copytree(sources.source_directory("c_code"), str(c_code))
    assert count(package_root=root) == NODES
    assert count(package_root=root) == 0
    # A header that another header includes, and a change that changes no line of the others.
    header = c_code / "exponential.h"
    text = header.read_text()
    header.write_text(text + "/* changed */\n")
    assert count(package_root=root) == NODES
    assert count(package_root=root) == 0
    header.write_text(text)
    assert count(package_root=root) == 0
