"""Fixtures of the CUDA tests: a device, real or emulated, whose allocations show stray accesses.

The same tests run on both: without a GPU `make test-cuda`, with one `pytest -m gpu`. Where there is
neither they are left out, and the summary says so.
May import rbf_op, pytest and PyCUDA.
"""

import ctypes
import os

import pytest

from rbf_op import sources
from rbf_op.device import runtime

EMULATED = os.environ.get("CUDA_EMULATOR") == "1"
REASON = runtime.why_unavailable()


if "CUDA_SOURCES" in os.environ:  # cuda_emulator/mutations.py: a copy of cuda/ with a fault in it
    sources.source_directory = lambda name: os.environ["CUDA_SOURCES"]


def pytest_collection_modifyitems(config, items):
    """Without a device its tests are left out, so that none of them looks as if it had been run."""
    if not REASON:
        return
    left_out = [item for item in items if item.get_closest_marker("gpu")]
    items[:] = [item for item in items if not item.get_closest_marker("gpu")]
    config.hook.pytest_deselected(items=left_out)
    config.cuda_tests_left_out = len(left_out)


def pytest_terminal_summary(terminalreporter, config):
    count = getattr(config, "cuda_tests_left_out", 0)
    if count:
        terminalreporter.section("CUDA: NOT TESTED HERE")
        terminalreporter.write_line(
            "%d tests of the CUDA path were not run by this command. %s" % (count, REASON)
        )
        terminalreporter.write_line("In emulation: make test-cuda (make test does that as well).")


@pytest.fixture
def device(monkeypatch):
    """The device, its context current, each array an allocation of its own.

    The pool would round sizes up and hand out memory that still holds old values: a kernel that
    reads too far, or what it has not written, would go unnoticed.
    """
    import pycuda.driver

    found = runtime.device()
    monkeypatch.setattr(found, "allocate", pycuda.driver.mem_alloc)
    with found:
        yield found


@pytest.fixture(params=["forward", "reverse", "random"])
def order(request, monkeypatch):
    """In the emulator: the order in which threads and blocks take turns. Else once, as it comes."""
    if not EMULATED and request.param != "forward":
        pytest.skip("the order of threads is the GPU's own")
    monkeypatch.setenv("CUDA_EMULATOR_ORDER", request.param)
    return request.param


class Counters:
    """The emulated driver's own counts of launches and copies since the last reset."""

    _names = (
        "launches", "to_device", "to_device_bytes", "to_host", "to_host_bytes", "on_device",
        "retained",
    )  # fmt: skip

    def __init__(self):
        self._library = ctypes.CDLL("libcuda.so.1")
        self.read()

    def read(self):
        values = (ctypes.c_long * len(self._names))()
        self._library.cuda_emulator_counters(values, 1)
        return dict(zip(self._names, values))

    def forgive(self):
        """Make the context usable again after a planted bug."""
        self._library.cuda_emulator_forgive()


@pytest.fixture
def emulator():
    if not EMULATED:
        pytest.skip("tests the emulator")
    return Counters()
