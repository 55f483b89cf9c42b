"""The emulator finds planted bugs, leaves right kernels alone, and behaves as the driver would.

A check that cannot fail proves nothing: each of the emulator's checks is seen failing here.
"""

import os

import numpy as np
import pytest

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif("CUDA_EMULATOR" not in os.environ, reason="tests the emulator itself"),
]

SOURCE = os.path.join(
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "cuda_emulator", "planted_bugs.cu"
)
X = np.arange(1, 257, dtype=np.float32)


@pytest.fixture
def run(device, emulator):
    """run(kernel) -> y (256,), of a kernel in planted_bugs.cu called with X."""
    from pycuda.compiler import SourceModule

    with open(SOURCE) as text:
        module = SourceModule(text.read(), no_extern_c=True, options=["-std=c++17"])

    def call(name, **launch):
        x, y = device.to_device(X), device.empty((256,), "float32")
        launch = dict(dict(block=(256, 1, 1), grid=(1, 1)), **launch)
        module.get_function(name)(x, y, **launch)
        return device.to_host(y)

    yield call
    emulator.forgive()


def test_right_kernels_pass(run, order):
    assert np.array_equal(run("right_reverse"), X[::-1])
    assert run("right_sum", shared=32)[0] == X.sum()
    assert np.array_equal(run("right_xor"), X.reshape(16, 16).sum(axis=1).repeat(16))


def test_a_missing_barrier_shows_as_nan(run, order):
    assert np.isnan(run("bug_no_barrier")).any()


def test_threads_of_a_warp_do_not_run_in_step(run, order):
    assert np.isnan(run("bug_warp_synchronous")).any()


def test_warps_do_not_wait_for_each_other_at_shuffles(run, order):
    assert np.isnan(run("bug_warps_run_ahead")).any()


def test_uninitialised_memory_shows_as_nan(run):
    assert np.isnan(run("bug_uninitialised")[200:]).all()
    assert np.isnan(run("bug_unwritten")).tolist() == [i == 17 for i in range(256)]


def test_lanes_outside_the_mask_show_as_nan(run):
    values = run("bug_lane_not_in_mask").reshape(8, 32)
    assert np.isnan(values[:, :16]).all() and not np.isnan(values[:, 16:]).any()


@pytest.mark.parametrize(
    "kernel, message",
    [
        ("bug_barrier_not_for_all", "deadlock.*100 of 256 threads wait at __syncthreads, 156 have"),
        ("bug_two_barriers", r"wait at different __syncthreads \(lines \d+ and \d+\)"),
        ("bug_half_a_warp", "deadlock.*warp operation"),
        ("bug_write_after", "bug_write_after: .*1024 bytes from the start of a 1024-byte alloc"),
        ("bug_write_before", r"write outside a 1024-byte allocation \(\d bytes before its start"),
        ("bug_read_after", "touched memory that is not there .1024 bytes from the start of a 1024"),
        ("bug_read_null", "near no allocation"),
    ],
)
def test_bugs_that_end_the_launch(run, order, kernel, message):
    import pycuda.driver

    with pytest.raises(pycuda.driver.Error, match=message):
        run(kernel)


def test_reading_before_an_array_gives_a_signalling_pattern(run):
    # Not an error: the red zone must lie on accessible memory to see writes. It is never a number.
    assert np.isnan(run("bug_read_before")[0])


def test_launches_that_a_driver_refuses(run):
    import pycuda.driver

    for launch in (dict(block=(2048, 1, 1)), dict(grid=(1, 65536)), dict(shared=1 << 20)):
        with pytest.raises(pycuda.driver.Error):
            run("right_reverse", **launch)


def test_wrong_arguments_are_refused(run, device):
    import pycuda.driver
    from pycuda.compiler import SourceModule

    with open(SOURCE) as text:
        module = SourceModule(text.read(), no_extern_c=True, options=["-std=c++17"])
    with pytest.raises(pycuda.driver.Error, match="takes 16 bytes of arguments.*passed 8"):
        module.get_function("right_xor")(device.to_device(X), block=(256, 1, 1), grid=(1, 1))


def test_after_a_failed_launch_nothing_works(run, emulator, device):
    import pycuda.driver

    for _ in range(2):
        with pytest.raises(pycuda.driver.Error):
            run("bug_read_null")
    emulator.forgive()
    assert np.array_equal(run("right_reverse"), X[::-1])


def test_counters(run, emulator):
    emulator.read()
    run("right_reverse")
    counts = emulator.read()
    assert (counts["launches"], counts["to_device"], counts["to_host"]) == (1, 1, 1)
    assert counts["to_device_bytes"] == counts["to_host_bytes"] == X.nbytes


def test_another_thread_has_no_context(device):
    import threading

    import pycuda.driver

    seen = []

    def work():
        try:
            pycuda.driver.mem_get_info()
        except pycuda.driver.Error as error:
            seen.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(seen) == 1 and "invalid device context" in seen[0]
