"""`rbf-op doctor`: healthy here, and each thing that can be wrong is found and has its advice."""

import io
import os
import subprocess
import sys
import types

import pytest
from graphs import needs_compiler

from rbf_op import doctor, reference
from rbf_op.device import runtime


def run_process(*, flags="", code="from rbf_op.cli import main; main(['doctor'])", **variables):
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path), **variables)
    environment["THEANO_FLAGS"] = ",".join(
        filter(None, [os.environ.get("THEANO_FLAGS", ""), flags])
    )
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
        env=environment,
    )


def run_here(topic):
    """Healthy or not, and the text, of one topic in this process."""
    out = io.StringIO()
    topics = [entry for entry in doctor.TOPICS if entry[0] == topic]
    assert topics
    healthy = doctor.run(out, topics)
    return healthy, out.getvalue()


@needs_compiler
@pytest.mark.parametrize("without_extras", [False, True])
def test_healthy_here(without_extras):
    code = "from rbf_op.cli import main; main(['doctor'])"
    if without_extras:
        hide = "import sys\nfor m in ('click', 'rich', 'threadpoolctl'): sys.modules[m] = None\n"
        code = hide + code
    result = run_process(code=code)
    assert result.returncode == 0, result.stdout + result.stderr
    lines = result.stdout.splitlines()
    assert lines[-1] == "healthy"
    assert max(len(line) for line in lines if " " in line[12:]) <= 80  # but for a path
    shown = {line.split()[0] for line in lines if line and line[0] != " "}
    assert {topic for topic, _ in doctor.TOPICS} <= shown
    assert "float32: value and gradients right" in result.stdout
    assert "float64: value and gradients right" in result.stdout


@pytest.mark.parametrize(
    "given, healthy", [("0", True), ("256M", False), ("-1", False), ("\u00b2", False)]
)
def test_bytes_of_the_pool(monkeypatch, given, healthy):
    monkeypatch.setenv("RBF_OP_POOL_BYTES", given)
    assert run_here("memory")[0] == healthy


def test_no_compiler():
    result = run_process(flags="cxx=")
    assert result.returncode == 1
    assert "PROBLEM: none found" in result.stdout
    assert "apt install g++" in result.stdout
    assert "float64: value and gradients right" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("NOT healthy")


def test_a_compiler_that_does_not_run(monkeypatch):
    monkeypatch.setattr(doctor, "config", types.SimpleNamespace(cxx="/no/such/g++"))
    healthy, text = run_here("compiler")
    assert not healthy
    assert "/no/such/g++ does not run" in text and "-> Correct or remove" in text
    for topic in ("vectors", "OpenMP", "self-check"):
        assert run_here(topic)[0], topic  # that is said once


@needs_compiler
@pytest.mark.parametrize("flags", ["floatX=float16", "floatX=float32,warn_float64=raise"])
def test_healthy_with_other_flags(flags):
    result = run_process(flags=flags)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("device, said", [("foo", "one of 'cpu'"), ("cuda", "RBF_OP_DEVICE is")])
def test_a_device_that_cannot_be_used(monkeypatch, device, said):
    monkeypatch.setenv("RBF_OP_DEVICE", device)
    monkeypatch.setattr(runtime, "why_unavailable", lambda: "rbf_op: none here.")
    healthy, text = run_here("GPU")
    assert not healthy and said in " ".join(text.split())
    assert run_here("self-check")[0]


@needs_compiler
def test_fast_math():
    """The Ops keep the flag from their own code."""
    result = run_process(flags="gcc.cxxflags=-ffast-math")
    assert result.returncode == 0 and "PROBLEM" not in result.stdout, result.stdout


@needs_compiler
@pytest.mark.parametrize("wrong", ["rbf_kernel", "rbf_kernel_grad"])
def test_wrong_results(monkeypatch, wrong):
    assert run_here("self-check")[0]
    right = getattr(reference, wrong)

    def nearly(*arguments):
        result = right(*arguments)
        values = [result] if wrong == "rbf_kernel" else list(result)
        values[-1] = values[-1] * (1 + 1e-4)
        return values[0] if wrong == "rbf_kernel" else values

    monkeypatch.setattr(doctor.reference, wrong, nearly)
    healthy, text = run_here("self-check")
    assert not healthy
    assert "PROBLEM: float32: wrong by 1" in text and "PROBLEM: float64: wrong by 1" in text
    assert "Delete Theano's compile cache" in " ".join(text.split())


def test_a_cache_that_cannot_be_written(monkeypatch):
    assert run_here("cache")[0]
    monkeypatch.setattr(doctor, "config", types.SimpleNamespace(compiledir="/proc/no/such"))
    healthy, text = run_here("cache")
    assert not healthy
    assert "cannot be written to" in text and "base_compiledir" in text


def test_a_cache_that_cannot_be_made(monkeypatch):
    class Config:
        @property
        def compiledir(self):
            raise ValueError("Unable to create the compiledir directory '/proc/no'.")

    monkeypatch.setattr(doctor, "config", Config())
    healthy, text = run_here("cache")
    assert not healthy
    assert "cannot be written to: Unable" in text and "base_compiledir" in text


def test_a_path_stays_whole(monkeypatch):
    path = "/a" * 50
    monkeypatch.setattr(
        doctor, "TOPICS", (("path", lambda: [doctor.fact("it is %s, that" % path)]),)
    )
    assert "%s,\n" % path in run_here("path")[1]


@needs_compiler
def test_the_flags_of_wide_vectors_are_shown(monkeypatch):
    flags = ["-O3", "-mavx", "-mavx2", "-mavx512f", "-mavx512vl"]
    monkeypatch.setattr(doctor, "_compile_flags", lambda: flags)
    assert "flags: -O3 -mavx2 -mavx512f (and 2 more)" in run_here("compiler")[1]


def test_a_check_that_breaks_is_a_problem(monkeypatch):
    def broken():
        yield doctor.fact("begins well")
        raise RuntimeError("first line\nlast line")

    monkeypatch.setattr(doctor, "TOPICS", (("broken", broken),))
    healthy, text = run_here("broken")
    assert not healthy
    assert "begins well" in text and "RuntimeError: last line" in text


def test_two_openmp_runtimes_are_pointed_out(monkeypatch):
    libraries = ["/a/libgomp.so.1", "/b/libiomp5.so"]
    monkeypatch.setattr(doctor, "_loaded_openmp", lambda: libraries)
    healthy, text = run_here("runtimes")
    assert healthy  # it works, as the self-check shows
    assert "note: several OpenMP runtimes" in text and "libiomp5.so" in text


@needs_compiler
def test_idle_cores_are_pointed_out(monkeypatch):
    monkeypatch.setattr(doctor, "_cores", lambda: 4)
    monkeypatch.setattr(doctor, "_busy_cores", lambda: 1.0)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert "the others did nothing" in run_here("OpenMP")[1]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert "Unset it to use all of them" in run_here("OpenMP")[1]
    monkeypatch.setenv("OMP_NUM_THREADS", "0")
    assert "counts as not set" in run_here("OpenMP")[1]
    monkeypatch.setenv("OMP_THREAD_LIMIT", "1")
    assert "Unset OMP_THREAD_LIMIT, which is 1" in run_here("OpenMP")[1]


@needs_compiler
def test_narrow_vectors_are_pointed_out(monkeypatch):
    monkeypatch.setattr(doctor, "_cpu_has", lambda flag: True)
    macros = {"RBF_VECTOR_BYTES": "16", "__x86_64__": "1"}
    monkeypatch.setattr(doctor, "_target_macros", lambda: macros)
    text = run_here("vectors")[1]
    assert "128 bits: 4 floats or 2 doubles" in text and "Remove -march" in text


@needs_compiler
def test_vector_width_is_that_of_the_flags():
    macros = doctor._target_macros()
    assert int(macros["RBF_VECTOR_BYTES"]) in (16, 32, 64)
    assert ("__AVX512F__" in macros) == (macros["RBF_VECTOR_BYTES"] == "64")
