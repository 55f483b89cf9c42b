"""The device in processes and threads: nothing on import, forks, exits, and what may be missing.

Each case is a script in a process of its own, since it is about starts and ends of processes.
May import the standard library, pytest and device/runtime.py, of which no device is asked here.
"""

import os
import subprocess
import sys
import textwrap

import pytest

from rbf_op.device import runtime

pytestmark = pytest.mark.gpu
emulated = pytest.mark.skipif("CUDA_EMULATOR" not in os.environ, reason="needs the emulated driver")

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

USE = """
import numpy as np
from rbf_op.device import launch, runtime

def use(rows=5):
    with runtime.device() as device:
        x, one = device.to_device(np.ones((rows, 2), "float32")), device.one("float32")
        return x, device.to_host(launch.forward(device, x, x, one, one))
"""


def run(script, **environment):
    """What the script printed; it must end well and leave nothing on stderr."""
    env = {**os.environ, **environment}
    env["PYTHONPATH"] = os.pathsep.join([ROOT, env.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def test_importing_touches_nothing():
    assert run(
        """
        import sys
        import rbf_op
        print("pycuda" in sys.modules, "rbf_op.device.nodes" in sys.modules)
        from rbf_op.device import launch, nodes, runtime, types
        print("pycuda" in sys.modules)
        """
    ) == "False False\nFalse\n"  # fmt: skip


def test_arrays_may_outlive_everything():
    assert run(USE + "keep, K = use()\nprint((K == 1).all())") == "True\n"


def test_threads_use_the_device_and_drop_arrays():
    script = """
    import threading
    kept = []
    def work():
        kept.append(use(32))  # 256 bytes, as much as any other size
    for n in range(3):
        thread = threading.Thread(target=work); thread.start(); thread.join()
    print(len(kept))
    thread = threading.Thread(target=kept.clear); thread.start(); thread.join()
    kept.append(use(32))      # on the main thread
    thread = threading.Thread(target=kept.clear); thread.start(); thread.join()
    print((use()[1] == 1).all())
    """
    assert run(USE + textwrap.dedent(script)) == "3\nTrue\n"


def test_arrays_are_dropped_anywhere_when_memory_was_short():
    script = """
    import threading
    kept = []
    def work():
        kept.append(use()[0])
        with runtime.device() as device:
            try:
                device.empty((1 << 23, 1 << 22), "float64")
            except MemoryError:
                print("too large")
    thread = threading.Thread(target=work); thread.start(); thread.join()
    kept.clear()  # the main thread has no context
    """
    assert run(USE + textwrap.dedent(script)) == "too large\n"


def test_a_pickled_function_is_loaded_where_the_device_was_not_used_before(tmp_path):
    path = str(tmp_path / "function.pickle")
    make = """
        import pickle
        import numpy as np
        from rbf_op import rbf_dot
        from rbf_op.device import types
        import theano
        W = types.device_shared(np.full((3, 2), 2.0), name="W")
        points = np.zeros((3, 4))
        P = rbf_dot(points, points, W, gamma=1.0, device="cuda")
        f = theano.function([], P, updates=[(W, 2 * W)], mode=theano.Mode("py", "fast_run"))
        print((f() == 6).all())
        with open(%r, "wb") as file:
            pickle.dump((W, f), file)
        """
    load = """
        import pickle
        import rbf_op
        with open(%r, "rb") as file:
            W, f = pickle.load(file)
        print((W.get_value() == 4).all(), (f() == 12).all(), (W.get_value() == 8).all())
        """
    assert run(make % path) == "True\n"
    assert run(load % path) == "True True True\n"


def test_code_on_disk_that_is_none_is_compiled_again(tmp_path):
    script = USE + "print((use()[1] == 1).all())"
    assert run(script, PYCUDA_CACHE_DIR=str(tmp_path)) == "True\n"
    kept = list(tmp_path.iterdir())
    assert kept
    for file in kept:
        file.write_bytes(b"not a program")
    assert run(script, PYCUDA_CACHE_DIR=str(tmp_path)) == "True\n"


def test_several_threads_at_once():
    script = """
    import threading
    results = []
    def work():
        for _ in range(20):
            results.append((use(100)[1] == 1).all())
    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads: t.start()
    for t in threads: t.join()
    print(len(results), all(results))
    """
    assert run(USE + textwrap.dedent(script)) == "80 True\n"


def test_child_of_a_process_that_used_cuda():
    script = """
    import os, sys
    keep = use()
    child = os.fork()
    if child == 0:
        try:
            use()
        except runtime.CUDAUnavailable as error:
            print(error, flush=True)
        keep = None
        sys.exit(7)
    print(os.WEXITSTATUS(os.waitpid(child, 0)[1]), (use()[1] == 1).all())
    """
    error, parent = run(USE + textwrap.dedent(script)).splitlines()
    assert "forked" in error and "spawn" in error
    assert parent == "7 True"


def test_child_of_a_process_that_did_not():
    script = """
    import os, sys
    child = os.fork()
    if child == 0:
        print((use()[1] == 1).all(), flush=True)
        sys.exit(7)
    print(os.WEXITSTATUS(os.waitpid(child, 0)[1]), (use()[1] == 1).all())
    """
    assert run(USE + textwrap.dedent(script)) == "True\n7 True\n"


def test_child_of_a_process_that_only_looked_for_a_device():
    script = """
    import os, sys
    assert runtime.why_unavailable() is None  # this has initialised the driver
    child = os.fork()
    if child == 0:
        try:
            use()
        except runtime.CUDAUnavailable as error:
            print(error, flush=True)
        sys.exit(7)
    print(os.WEXITSTATUS(os.waitpid(child, 0)[1]), (use()[1] == 1).all())
    """
    error, parent = run(USE + textwrap.dedent(script)).splitlines()
    assert "the parent must not have used CUDA" in error
    assert parent == "7 True"


def test_a_second_process_compiles_nothing(tmp_path):
    # nvcc is asked for its version, which it must give, and for the architectures that it knows,
    # which it need not; a wrapper refuses everything but the first.
    nvcc = tmp_path / "nvcc"
    nvcc.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && exec %s --version\n'
        'echo "compiled again: $@" >&2; exit 1\n' % runtime.find_nvcc()
    )
    nvcc.chmod(0o755)
    cache = tmp_path / "cache"
    cache.mkdir()
    script = USE + "print((use()[1] == 1).all())"
    assert run(script, PYCUDA_CACHE_DIR=str(cache)) == "True\n"
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    assert run(script, PYCUDA_CACHE_DIR=str(cache), PATH=path) == "True\n"
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(AssertionError, match="compiled again"):
        run(script, PYCUDA_CACHE_DIR=str(empty), PATH=path)
    # Another option, architecture or version of nvcc.
    for change in (
        "runtime.OPTIONS.append('-DANOTHER')",
        "import pycuda.driver as d; d.Device.compute_capability = lambda self: (9, 9)",
    ):
        with pytest.raises(AssertionError, match="compiled again"):
            run(USE + change + "\nuse()", PYCUDA_CACHE_DIR=str(cache), PATH=path)
    nvcc.write_text(nvcc.read_text().replace("exec", "echo another;"))
    with pytest.raises(AssertionError, match="compiled again"):
        run(script, PYCUDA_CACHE_DIR=str(cache), PATH=path)


@emulated
def test_the_primary_context_is_retained_once():
    script = """
    import ctypes
    use(); use()
    values = (ctypes.c_long * 7)()
    ctypes.CDLL("libcuda.so.1").cuda_emulator_counters(values, 0)
    print(values[6])
    """
    assert run(USE + textwrap.dedent(script)) == "1\n"


@pytest.mark.parametrize(
    "order", ["use(); import pycuda.autoinit", "import pycuda.autoinit; use()"]
)
def test_another_context_of_pycuda_stays_the_current_one(order):
    """pycuda.autoinit makes one: what its users compile and launch must find it."""
    script = """
    import threading
    import pycuda.autoinit
    from pycuda.driver import Context
    theirs = pycuda.autoinit.context
    assert Context.get_current() == theirs != runtime.device().context
    use()
    assert Context.get_current() == theirs
    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    with runtime.device() as device:
        with device:
            assert Context.get_current() == device.context
        assert Context.get_current() == device.context
    print((use()[1] == 1).all(), Context.get_current() == theirs)
    """
    assert run(USE + order + textwrap.dedent(script)) == "True True\n"


def test_arrays_of_another_context_are_refused():
    script = """
    import pycuda.autoinit
    import pycuda.gpuarray
    from rbf_op.device import types
    theirs = pycuda.gpuarray.to_gpu(np.ones((2, 2), "float32"))
    try:
        types.DeviceType("float32", (False, False)).filter(theirs)
    except TypeError as error:
        print(error)
    """
    said = run(USE + textwrap.dedent(script))
    assert "memory belongs to context" in said and "autoprimaryctx" in said


ALONE = """
import sys
sys.modules["theano"] = None
sys.path.insert(0, %r)
import kernels_alone
print("exit status", int(kernels_alone.main(sys.argv[1:])))
""" % os.path.dirname(os.path.abspath(__file__))


def alone(*arguments, **environment):
    done = subprocess.run(
        [sys.executable, "-c", ALONE] + list(arguments), env={**os.environ, **environment},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True,
    )  # fmt: skip
    return done.stdout


def test_the_kernels_tests_run_without_theano():
    output = alone("-q", "-p", "no:xdist", "-k", "test_forward and 5-7-3")
    assert "2 passed" in output and output.endswith("exit status 0\n"), output
    output = alone("-q", "-p", "no:xdist", os.path.join(ROOT, "tests", "cuda", "nothing_here.py"))
    assert output.endswith("exit status 4\n"), output


@emulated
def test_the_kernels_tests_alone_say_that_there_is_no_device():
    lines = alone(CUDA_EMULATOR_NO_DEVICE="1").splitlines()
    assert "no CUDA-capable device" in lines[0] and lines[1:] == ["exit status 2"]


# -- What may be missing ---------------------------------------------------------------------------

WHY = """
import warnings
import numpy as np
warnings.simplefilter("ignore")  # Theano and the nodes tell of the missing C++ compiler
from rbf_op import rbf_kernel, rbf_dot
from rbf_op.device.runtime import CUDAUnavailable
import theano
x = np.ones((3, 2))
mode = theano.Mode(linker="py", optimizer=None)
print([theano.function([], f(device="auto"), mode=mode)().tolist()
       for f in (lambda **k: rbf_kernel(x, **k), lambda **k: rbf_dot(x, x, x, **k))])
for f in (lambda **k: rbf_kernel(x, **k), lambda **k: rbf_dot(x, x, x, **k)):
    try:
        f(device="cuda")
    except CUDAUnavailable as error:
        print(error)
"""


def missing(before="", **environment):
    """The message of device="cuda"; "auto" goes on with the CPU."""
    flags = os.environ.get("THEANO_FLAGS", "") + ",cxx="
    output = run(textwrap.dedent(before) + WHY, THEANO_FLAGS=flags, **environment)
    auto, message, again = output.splitlines()
    assert auto == str([[[1.0] * 3] * 3, [[3.0] * 2] * 3])
    assert message == again and message.endswith("(device is 'cuda'.)")
    return message


def test_no_pycuda():
    message = missing("import sys; sys.modules['pycuda'] = None\n")
    assert "PyCUDA cannot be imported" in message and "pip install" in message


@emulated
def test_no_driver():
    assert "NVIDIA driver is missing" in missing(LD_LIBRARY_PATH="")


@emulated
def test_no_device():
    assert "no CUDA-capable device" in missing(CUDA_EMULATOR_NO_DEVICE="1")


@pytest.mark.parametrize("number", ["99", "-1", "first"])
def test_no_such_device(number):
    assert "CUDA_DEVICE is %r; the driver has devices 0 to" % number in missing(CUDA_DEVICE=number)


def test_no_nvcc():
    message = missing("import shutil; shutil.which = lambda *a, **k: None\n")
    assert "nvcc is missing" in message and "CUDA_ROOT" in message


def test_an_nvcc_that_does_not_know_the_device():
    before = "import pycuda.driver as d; d.Device.compute_capability = lambda self: (9, 9)\n"
    message = missing(before)
    assert "%s cannot compile" % runtime.find_nvcc() in message and "PATH" in message
    assert "of architecture sm_99; it knows sm_" in message


def test_nvcc_is_asked_once_what_it_knows():
    script = """
    import subprocess
    from rbf_op.device import runtime
    asked, run = [], subprocess.run
    subprocess.run = lambda command, **k: asked.append(command[1:]) or run(command, **k)
    print(runtime.why_unavailable(), runtime.why_unavailable(), asked)
    """
    assert run(script) == "None None [['--list-gpu-code']]\n"


def test_another_theano():
    before = """
    import importlib.util
    find = importlib.util.find_spec
    importlib.util.find_spec = lambda name, *a: None if name == "theano.gof" else find(name, *a)
    """
    assert "Theano 1.0.5 is needed" in missing(before)


def test_the_setting_is_named():
    script = """
    import sys; sys.modules['pycuda'] = None
    from rbf_op import rbf_kernel
    from rbf_op.device import runtime
    try:
        rbf_kernel([[1.0]])
    except runtime.CUDAUnavailable as error:
        print(error)
    """
    assert "(RBF_OP_DEVICE is 'cuda'.)" in run(script, RBF_OP_DEVICE="cuda")
