"""Faults planted in the kernels are found by their tests: some of them; `make mutations-cuda`: all.

May import tests/cuda_emulator/mutations.py and pytest.
"""

import importlib.util
import os

import pytest

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif("CUDA_EMULATOR" not in os.environ, reason="needs the emulator"),
]

HERE = os.path.dirname(os.path.abspath(__file__))
_SPEC = importlib.util.spec_from_file_location(
    "mutations", os.path.join(HERE, "..", "cuda_emulator", "mutations.py")
)
mutations = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(mutations)


def test_every_fault_fits_the_sources(tmp_path):
    for number, (name, *change) in enumerate(mutations.FAULTS):
        assert mutations.planted(str(tmp_path / str(number)), *change), name
    assert len({fault[0] for fault in mutations.FAULTS}) == len(mutations.FAULTS) >= 15


@pytest.mark.parametrize(
    "name",
    [
        "a slice reads a row too many",
        "no barrier after the payload was used",
        "half the gradient",
        "no barrier before the points are used",
    ],
)
def test_a_fault_is_found(name):
    (fault,) = [f for f in mutations.FAULTS if f[0] == name]
    assert mutations.verdict(fault) == "found"


def test_what_is_no_fault_is_not_found():
    harmless = ("a comment", "arrays.cu", "a single one.", "a single one", 0)
    assert mutations.verdict(harmless, everything=False) == "MISSED"
