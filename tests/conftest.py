"""What all tests share: a compile directory of their own, if the user has not chosen one, and the
compiled nodes of all processes; the order in which several processes take the files.

Imported by pytest before any test, so before theano. May import the standard library,
NumPy and rbf_op.
"""

import os
import shutil
import sys
import tempfile

import numpy as np
import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

worker = os.environ.get("PYTEST_XDIST_WORKER", "")
if worker:
    # Others need the cores: threads that have nothing to do must not spin on them.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# Theano's own name of the directory tells interpreters apart; not releases of NumPy, whose headers
# are compiled in, and not the Theanos, which would throw away each other's modules.
# g++ gets it unquoted, so not below a path that has a blank.
parent = tempfile.gettempdir() if " " in ROOT else ROOT
environment = "%s-numpy-%s" % (os.path.basename(sys.prefix), np.__version__)
ours = "base_compiledir=" + os.path.join(parent, ".theano", environment)
# Workers of pytest-xdist have what the process that started them has set here.
flags = [f for f in os.environ.get("THEANO_FLAGS", "").split(",") if f and f != ours]
if not any("compiledir" in flag for flag in flags):
    # Each worker has its own: in one directory, Theano compiles one module at a time, and who waits
    # for its turn sleeps for seconds.
    own = ours if not worker else os.path.join(ours, worker)
    os.environ["THEANO_FLAGS"] = ",".join(flags + [own])
if "cxxflags" not in os.environ.get("THEANO_FLAGS", ""):
    # Theano's own modules are hundreds and small: not optimising them saves minutes. The nodes do
    # not take this flag.
    os.environ["THEANO_FLAGS"] += ",gcc.cxxflags=-O0"

compiler = os.path.join(ROOT, "tests", "compiler", "g++")
if "cxx=" not in os.environ["THEANO_FLAGS"] and shutil.which(compiler) and shutil.which("g++"):
    # Half of the nodes' modules are needed by several workers, which inherit this.
    modules = os.path.join(parent, ".theano", environment, "modules")
    shutil.rmtree(modules, ignore_errors=True)
    os.makedirs(modules, exist_ok=True)  # two runs may begin at once
    os.environ["RBF_OP_TEST_MODULES"] = modules
    os.environ["THEANO_FLAGS"] += ",cxx=" + compiler

import rbf_op  # noqa: E402, F401 (mends theano where it must, before a test imports it)

import theano  # noqa: E402  # isort: skip

# Where BLAS is, which each of some hundreds of processes would compile four programs to find out.
# (Theano-PyMC, which has few such tests, calls this otherwise.)
if theano.__version__ == "1.0.5" and "blas.ldflags" not in os.environ["THEANO_FLAGS"]:
    blas = theano.config.blas.ldflags
    if "," not in blas:
        os.environ["THEANO_FLAGS"] += ",blas.ldflags=" + blas


@pytest.fixture
def only_our_c_code(monkeypatch):
    """Theano's own operations run in NumPy: compiling each of them would take a second.

    test_contract.py has graphs that are compiled whole.
    """
    from rbf_op.theano_api import Op

    make_c_thunk = Op.make_c_thunk

    def ours_only(self, *args, **kwargs):
        if not type(self).__module__.startswith("rbf_op."):
            raise NotImplementedError
        return make_c_thunk(self, *args, **kwargs)

    monkeypatch.setattr(Op, "make_c_thunk", ours_only)


# Of few tests, but minutes each: begun last, they would keep one process busy when others are done.
LONGEST = ("test_c_kernels", "test_demo", "test_cuda_compile", "test_c_machines")


def pytest_configure(config):
    if hasattr(config.option, "loadscopereorder"):  # pytest-xdist would begin with the most tests
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.module.__name__.split(".")[-1] not in LONGEST)
