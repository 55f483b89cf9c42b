"""benchmarks/gpu.py runs on whatever device there is, and refuses to time a wrong result.

No times are looked at. May import the standard library and pytest.
"""

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.gpu

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SCRIPT = os.path.join(ROOT, "benchmarks", "gpu.py")


def run(script, *arguments, **environment):
    tiny = ["--quick", "--points", "70", "--dims", "3", "--columns", "2", "--repeats", "1"]
    return subprocess.run(
        [sys.executable, str(script)] + tiny + list(arguments),
        env=dict(os.environ, COLUMNS="80", **environment),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True,
    )  # fmt: skip


def test_the_table_and_the_numbers(tmp_path):
    numbers = tmp_path / "numbers.json"
    done = run(SCRIPT, "--json", str(numbers))
    assert done.returncode == 0, done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    results = json.loads(numbers.read_text())
    timed = [r for r in results if "what" in r]
    assert sorted({r["what"] for r in timed}) == [
        "K brought back", "K kept", "gradient of K", "gradient of product", "product",
    ]  # fmt: skip
    assert all(r["seconds"] > 0 and r["floor"] > 0 for r in timed)
    assert {r["dtype"] for r in timed} == {"float32", "float64"}


def test_other_libraries_are_checked_and_timed(tmp_path):
    # NumPy under another name; once with an exponential that is wrong.
    for wrong, time in ((False, float), (True, str)):
        (tmp_path / "cupy.py").write_text(
            "from numpy import *\nasnumpy = asarray\n" + "exp = expm1\n" * wrong
        )
        numbers = tmp_path / "numbers.json"
        path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
        done = run(SCRIPT, "--dtypes", "float64", "--json", str(numbers), PYTHONPATH=path)
        assert done.returncode == 0, done.stdout
        timed = [r for r in json.loads(numbers.read_text()) if "what" in r]
        others = {r["what"]: r["others"]["cupy expansion"] for r in timed if r["others"]}
        assert sorted(others) == ["K kept", "product"]
        assert all(type(seconds) is time for seconds in others.values())
        assert ("wrong" in done.stdout) == wrong


def test_a_wrong_result_is_not_timed(tmp_path):
    # The same script with a tolerance that nothing meets.
    with open(SCRIPT) as script:
        text = script.read()
    changed = text.replace('"float32": 3e-5', '"float32": -1').replace(
        "ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))", "ROOT = %r" % ROOT
    )
    assert text.count('"float32": 3e-5') == 1 and "ROOT = %r" % ROOT in changed
    path = tmp_path / "gpu.py"
    path.write_text(changed)
    done = run(path)
    assert done.returncode != 0
    assert "product is wrong (n=70, d=3, p=2, float32)" in done.stdout
    assert "Nothing was timed" in done.stdout
