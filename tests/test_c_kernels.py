"""The C kernels by themselves: tests/c/harness.c here, for each set of flags of its Makefile.

Needs make and a compiler only; Theano is not involved.
"""

import os
import re
import shutil
import subprocess

import pytest

DIRECTORY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "c")


def make(*arguments):
    return subprocess.run(
        ["make", "--no-print-directory", "-C", DIRECTORY, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
        errors="replace",
        env=dict(os.environ, LC_ALL="C"),
    )


needs_compiler = pytest.mark.skipif(not shutil.which("g++"), reason="no g++")


@needs_compiler
@pytest.mark.parametrize("variant", ["native", "c", "sanitized"])
def test_kernels_agree_with_long_double(variant, tmp_path):
    result = make(variant, "BUILD=%s" % tmp_path)
    assert result.returncode == 0, result.stdout
    assert result.stdout.rstrip().endswith("all checks passed")


@needs_compiler
def test_the_harness_sees_a_wrong_sign(tmp_path):
    kernels = tmp_path / "c_code"
    shutil.copytree(os.path.join(DIRECTORY, "..", "..", "c_code"), str(kernels))
    header = kernels / "gradient_sums.h"
    right = "column_sum -= share"
    text = header.read_text()
    assert text.count(right) == 1
    header.write_text(text.replace(right, right.replace("-=", "+=")))
    result = make("c", "BUILD=%s" % (tmp_path / "build"), "KERNELS=%s" % kernels)
    assert result.returncode != 0
    # It compiles, and what it finds is wrong about dy.
    assert "error:" not in result.stdout, result.stdout[:2000]
    assert re.search(r"^checks/\w+\.h:\d+: not so: .*\bdy\b", result.stdout, re.MULTILINE)
