"""The programs of examples/, each run at its small size: what they print, and their figures.

In NumPy, where their graphs compile at once; the nodes' C code has tests of its own.
"""

import os
import re
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# example -> {words of a line it prints: the range of the number behind them}
EXPECTED = {
    "nadaraya_watson": {
        "learnt sigma": (0.02, 0.08),
        "leave-one-out error": (0.15, 0.2),
        "error of the curve": (0.03, 0.2),
    },
    "kernel_density": {
        "learnt sigma": (0.02, 0.1),
        "held-out log likelihood": (-2.2, -1.7),
        "integral over the grid": (0.98, 1.005),
        "log density in the corner": (-1e5, -100),
    },
    "gaussian_process_cg": {
        "residual of y": (0, 1e-6),
        "error of the mean": (0.05, 0.3),
    },
}


def test_all_examples_are_run():
    names = [name for name in os.listdir(os.path.join(ROOT, "examples")) if name.endswith(".py")]
    assert sorted(names) == sorted(name + ".py" for name in EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_example(name, tmp_path):
    figure = tmp_path / "figure.png"
    printed = subprocess.check_output(
        [sys.executable, os.path.join(ROOT, "examples", name + ".py")]
        + ["--quick", "--figure", str(figure)],
        env=dict(os.environ, PYTHONPATH=ROOT, THEANO_FLAGS="cxx=,base_compiledir=%s" % tmp_path),
        cwd=str(tmp_path),
        universal_newlines=True,
    )
    for words, (least, most) in EXPECTED[name].items():
        (value,) = re.findall(r"^%s +(\S+)" % re.escape(words), printed, re.MULTILINE)
        assert least <= float(value) <= most, words
    assert re.search(r"^figure +%s$" % re.escape(str(figure)), printed, re.MULTILINE)
    assert figure.read_bytes().startswith(b"\x89PNG") and figure.stat().st_size > 10000
