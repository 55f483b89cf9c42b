"""benchmarks/gpu runs on whatever device there is, and refuses to time a wrong result.

What it does without memory or when interrupted is seen in scripts that change it before they run
it; so is the choice that benchmarks/gpu/auto.py reports. No times are looked at.
May import the standard library, pytest and device/runtime.py, of which no device is asked here.
"""

import json
import os
import subprocess
import sys
import textwrap

import pytest

from rbf_op.device import runtime

pytestmark = pytest.mark.gpu

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SCRIPT = ("-m", "benchmarks.gpu")

CHANGED = """
from benchmarks.gpu import __main__ as gpu, limits, problem, stopwatch
runtime, launch = gpu.load_launches()
"""


def started(*command, **environment):
    folders = ROOT, environment.pop("PYTHONPATH", ""), os.environ.get("PYTHONPATH", "")
    return subprocess.run(
        [sys.executable] + list(command),
        env=dict(os.environ, COLUMNS="80", PYTHONPATH=os.pathsep.join(folders), **environment),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True,
    )  # fmt: skip


def run(*arguments, script=SCRIPT, **environment):
    tiny = ("--quick", "--points", "70", "--dims", "3", "--columns", "2", "--repeats", "1")
    return started(*script, *tiny, *arguments, **environment)


def run_changed(change, *arguments, **environment):
    """With some Python before it runs, of the names in CHANGED."""
    script = CHANGED + textwrap.dedent(change) + "\ngpu.main()"
    return run("--dtypes", "float32", *arguments, script=("-c", script), **environment)


def timed(numbers):
    """{what was timed: its numbers}"""
    return {r["what"]: r for r in json.loads(numbers.read_text()) if "what" in r}


def test_the_table_and_the_numbers(tmp_path):
    numbers = tmp_path / "numbers.json"
    done = run("--json", str(numbers))
    assert done.returncode == 0, done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    results = [r for r in json.loads(numbers.read_text()) if "what" in r]
    assert sorted({r["what"] for r in results}) == [
        "K brought back", "K kept", "gradient of K", "gradient of product", "product",
    ]  # fmt: skip
    assert all(r["seconds"] > 0 and r["host"] > 0 and r["floor"] > 0 for r in results)
    assert {r["dtype"] for r in results} == {"float32", "float64"}


# NumPy under another name.
CUPY = """
import types
from numpy import *
asnumpy = asarray
pool = types.SimpleNamespace(free_all_blocks=lambda: print("cupy's cache is emptied"))
get_default_memory_pool = lambda: pool
"""


def test_other_libraries_are_checked_and_timed(tmp_path):
    # Once with an exponential that is wrong.
    for wrong, time in ((False, float), (True, str)):
        (tmp_path / "cupy.py").write_text(CUPY + "exp = expm1\n" * wrong)
        numbers = tmp_path / "numbers.json"
        done = run("--dtypes", "float64", "--json", str(numbers), PYTHONPATH=str(tmp_path))
        assert done.returncode == 0, done.stdout
        others = {
            what: r["others"]["cupy expansion"]
            for what, r in timed(numbers).items()
            if "cupy expansion" in r["others"]
        }
        assert sorted(others) == ["K kept", "product"]
        assert all(type(seconds) is time for seconds in others.values())
        assert ("wrong" in done.stdout) == wrong
        assert "cupy's cache is emptied" in done.stdout


@pytest.mark.parametrize(
    "broken, words, why",
    [
        ("raise OSError('no such library\\nat all')", {"product": "failed"}, "OSError: no such"),
        (
            "def asarray(a): raise MemoryError",
            {"product": "no memory", "K kept": "no memory"},
            "",
        ),
        (
            "def exp(a): raise RuntimeError('[GPU] no kernel image')",
            {"product": "failed", "K kept": "failed"},
            "RuntimeError: [GPU] no kernel image",
        ),
    ],
    ids=["import", "arrays", "call"],
)
def test_a_broken_library_does_not_end_the_run(tmp_path, broken, words, why):
    (tmp_path / "cupy.py").write_text(CUPY + broken)
    numbers = tmp_path / "numbers.json"
    done = run("--dtypes", "float32", "--json", str(numbers), PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stdout
    results = timed(numbers)
    found = {
        what: word
        for what, r in results.items()
        for name, word in r["others"].items()
        if "cupy" in name
    }
    assert found == words and len(results) == 5
    assert all(r["seconds"] > 0 for r in results.values())
    below = done.stdout[done.stdout.rindex("┘") :]
    assert why in below and "at all" not in below and ("cupy" in below) == bool(why)


# NumPy under another name; autograd is missing.
TORCH = """
import types
import numpy as np

class Tensor(np.ndarray):
    cuda = cpu = detach = clone = lambda self: self
    numpy = lambda self: np.asarray(self)
    square = lambda self: self * self
    clamp = lambda self, min: np.maximum(self, min)
    sub_ = lambda self, other: np.subtract(self, other, out=self)
    clamp_ = lambda self, max: np.minimum(self, max, out=self)
    exp_ = lambda self: np.exp(self, out=self)

exp = np.exp
as_tensor = lambda a: np.array(a).view(Tensor)
cat = lambda parts: np.concatenate(parts).view(Tensor)
addmm = lambda bias, a, b, alpha: bias + alpha * (a @ b)
cdist = lambda a, b: np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1))
cuda = types.SimpleNamespace(is_available=lambda: True, empty_cache=lambda: None)
backends = types.SimpleNamespace(cuda=types.SimpleNamespace(matmul=types.SimpleNamespace()))
"""


def test_torchs_forms_are_right(tmp_path):
    (tmp_path / "torch.py").write_text(TORCH)
    numbers = tmp_path / "numbers.json"
    done = run("--json", str(numbers), PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stdout
    forms = ["torch addmm", "torch cdist", "torch expansion"]
    for what in ("product", "K kept"):
        row = timed(numbers)[what]
        assert sorted(row["others"]) == sorted(row["others_host"]) == forms
        assert all(t > 0 for kind in ("others", "others_host") for t in row[kind].values())
    assert set(timed(numbers)["gradient of K"]["others"].values()) == {"failed"}


def test_what_a_library_lacks_is_told(tmp_path):
    (tmp_path / "torch.py").write_text(TORCH)
    (tmp_path / "pykeops").mkdir()
    (tmp_path / "pykeops" / "__init__.py").write_text("")
    (tmp_path / "pykeops" / "torch.py").write_text("import what_keops_needs")
    done = run("--dtypes", "float32", PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stdout
    below = done.stdout[done.stdout.rindex("┘") :]
    assert "keops, product: ModuleNotFoundError: No module named 'what_keops_needs'" in below


KEOPS = """
def keops_calls(problem):
    for what, name in (("product", "P"), ("gradient of product", "x")):
        def call(what=what, name=name):
            print("keops", problem.n, problem.d, what)
            return {name: problem.expected[what][name][0]}
        yield what, "keops", call, lambda results: results
gpu.keops_calls = keops_calls
stopwatch.FIRST_COMPILATION = %s
"""


def test_keops_comes_last_and_only_if_there_is_time(tmp_path):
    numbers = tmp_path / "numbers.json"
    more = ("--points", "20", "--dims", "2", "--json", str(numbers))
    done = run_changed(KEOPS % 0, *more)
    assert done.returncode == 0, done.stdout
    calls = [line.split()[1:3] for line in done.stdout.splitlines() if line.startswith("keops")]
    # Each of one formula before the next.
    assert [c for i, c in enumerate(calls) if c not in calls[:i]] == [
        ["20", "2"], ["70", "2"], ["20", "3"], ["70", "3"],
    ]  # fmt: skip
    rows = [r for r in json.loads(numbers.read_text()) if "product" in r.get("what", "")]
    assert len(rows) == 8 and all(r["others"]["keops"] > 0 for r in rows)
    done = run_changed(KEOPS % 1e9, *more)
    assert done.returncode == 0 and "keops 20" not in done.stdout
    rows = [r for r in json.loads(numbers.read_text()) if "product" in r.get("what", "")]
    assert len(rows) == 8 and all(r["others"]["keops"] == "no time" for r in rows)


@pytest.mark.parametrize("option, word", [("--budget", "no time"), ("--limit", "over the limit")])
def test_what_takes_too_long_is_not_even_set_up(tmp_path, option, word):
    (tmp_path / "cupy.py").write_text(CUPY)
    change = "problem.Problem.host = problem.Problem.expected = None"
    numbers = tmp_path / "numbers.json"
    done = run_changed(
        change, option, "0", "--json", str(numbers), PYTHONPATH=str(tmp_path)
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    for row in timed(numbers).values():
        assert row["seconds"] == word and set(row["others"].values()) <= {word}


@pytest.mark.parametrize(
    "function, result",
    [("gradient", name) for name in ("x", "y", "gamma", "amplitude")]
    + [("product_gradient", name) for name in ("x", "y", "gamma", "weights")],
)
def test_every_gradient_is_checked(function, result):
    change = """
    def changed(device, *inputs, compute=launch.{0}, **more):
        found = compute(device, *inputs, **more)
        if "{1}" in found:
            host = device.to_host(found["{1}"]) * 1.01
            found["{1}"] = device.to_device(host.astype("float32"))
        return found
    launch.{0} = changed
    """
    done = run_changed(change.format(function, result))
    assert done.returncode != 0
    assert "gradient of %s is wrong" % ("K" if function == "gradient" else "product") in done.stdout


def test_a_wrong_result_is_not_timed(tmp_path):
    numbers = tmp_path / "numbers.json"
    change = "problem.TOLERANCE['float32'] = -1  # that nothing meets"
    done = run_changed(change, "--json", str(numbers))
    assert done.returncode != 0
    assert "product is wrong (n=70, d=3, p=2, float32)" in done.stdout
    assert "It was not timed" in done.stdout
    assert {r["seconds"] for r in timed(numbers).values()} == {"wrong"}


LITTLE_MEMORY = """
def allocate(self, size, allocate=runtime.Device.allocate):
    if size == %d:
        raise %s
    return allocate(self, size)
runtime.Device.allocate = allocate
"""
OF_K = ["K brought back", "K kept", "gradient of K"]
OF_PRODUCT = ["gradient of product", "product"]


@pytest.mark.parametrize("trouble", ["MemoryError", "RuntimeError('cuMemAlloc: out of memory')"])
@pytest.mark.parametrize(
    "size, seconds, floor",
    [
        (4 * 70 * 70, OF_K, []),
        (4 * 70 * 3, OF_K + OF_PRODUCT, []),  # x
        (4 << 10, [], OF_K + OF_PRODUCT),  # of the limits
    ],
    ids=["K", "x", "limits"],
)
def test_what_has_no_memory_says_so(tmp_path, trouble, size, seconds, floor):
    numbers = tmp_path / "numbers.json"
    done = run_changed(LITTLE_MEMORY % (size, trouble), "--json", str(numbers))
    assert done.returncode == 0 and "┘" in done.stdout, done.stdout
    results = timed(numbers)
    assert sorted(results) == OF_K + OF_PRODUCT
    for name, without in (("seconds", seconds), ("floor", floor)):
        assert sorted(w for w, r in results.items() if r[name] == "no memory") == without


def test_memory_is_free_for_the_next_library():
    change = """
    def release(self, release=runtime.Device.release_held_memory):
        release(self)
        assert self._pool.active_bytes < 4 * 70 * 70, "K is still held"
    runtime.Device.release_held_memory = release
    """
    done = run_changed(change)
    assert done.returncode == 0, done.stdout


def test_an_interrupted_run_shows_what_it_has():
    change = """
    def clock(self, call, clock=limits.Clock.__call__):
        if call.__name__ == "forward":
            raise KeyboardInterrupt
        return clock(self, call)
    limits.Clock.__call__ = clock
    """
    done = run_changed(change)
    assert done.returncode != 0
    assert "product" in done.stdout and "┘" in done.stdout and "brought back" not in done.stdout


def test_another_device_is_chosen_otherwise():
    done = run(CUDA_DEVICE="1")
    assert done.returncode != 0
    assert "CUDA_DEVICE is '1'" in done.stdout and "CUDA_VISIBLE_DEVICES" in done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.skipif("CUDA_EMULATOR" not in os.environ, reason="needs the emulated driver")
@pytest.mark.parametrize("script", [SCRIPT, ("-m", "benchmarks.gpu.auto")], ids=["gpu", "auto"])
def test_without_a_device_a_line_says_so(script):
    done = started(*script, CUDA_EMULATOR_NO_DEVICE="1")
    assert done.returncode == 2
    assert "no CUDA-capable device" in done.stdout and len(done.stdout.splitlines()) == 1


def test_without_a_disassembler_a_line_says_so():
    script = """
    import glob, shutil
    from benchmarks.gpu import instructions
    shutil.which, glob.glob = lambda *a, **k: None, lambda *a, **k: []
    instructions.main([])
    """
    done = started("-c", textwrap.dedent(script))
    assert done.returncode == 1
    assert done.stdout == "nvdisasm is missing: pip install nvidia-cuda-nvdisasm\n"


def test_nvcc_need_not_be_on_path(tmp_path):
    # One that does not work comes first on PATH: whoever does not look elsewhere takes it.
    (tmp_path / "nvcc").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "nvcc").chmod(0o755)
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    change = "runtime.find_nvcc = lambda: %r" % runtime.find_nvcc()
    done = run_changed(change, PATH=path)
    assert done.returncode == 0, done.stdout


AUTO = """
import sys
import rbf_op
import theano
theano.config.mode = "FAST_COMPILE"  # without C, which is not what is looked at
from benchmarks.gpu import auto
auto.placement.COPY_SECONDS = auto.placement.LAUNCH_SECONDS = 0
auto.placement.COPIED_BYTES_A_SECOND = 1e30
auto.placement.DOUBLE_PRECISION_RATIO = float(sys.argv.pop(1))
auto.main()
"""


@pytest.mark.parametrize("ratio, chosen", [("1e3", "cuda"), ("0", "cpu")])
def test_auto_is_reported_as_it_chooses(tmp_path, ratio, chosen):
    numbers = tmp_path / "numbers.json"
    done = started(
        "-c", AUTO, ratio, "--points", "8", "--dims", "2", "--columns", "1",
        "--dtypes", "float64", "--seconds", "0.001", "--json", str(numbers),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert {r["auto"] for r in timed(numbers).values()} == {chosen}
