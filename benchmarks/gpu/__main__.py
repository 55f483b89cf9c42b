"""Times the CUDA kernels on a GPU against the GPU's limits, PyTorch, CuPy and KeOps.

    python -m benchmarks.gpu                          # the full table
    python -m benchmarks.gpu --points 4096 --dims 3   # one corner of it

Each result, of the other libraries too, is checked against float64 before it is timed; times are
medians of CUDA events, of work that was queued while the device was busy: the host's part is given
by itself. A library that is not installed is left out; why one failed is said below the table.
Needs PyCUDA, nvcc, click and rich, but not Theano. May import everything here but the other
commands. Exit status 2 where there is no device, 1 where our result was wrong.
"""

import itertools
import json
import os
import sys

import click
import numpy as np

from benchmarks.gpu.contenders import KEOPS, OURS, cupy_calls, keops_calls, our_calls, torch_calls
from benchmarks.gpu.launches import load_launches
from benchmarks.gpu.limits import Clock, limits_or_word
from benchmarks.gpu.problem import TOLERANCE, Problem
from benchmarks.gpu.stopwatch import Stopwatch
from benchmarks.gpu.table import measure, show

PULL = 0.35  # of the device's memory that one array may take


def device_or_exit(runtime):
    """The device; exit status 2 with a line that says why there is none."""
    try:
        return runtime.device()
    except runtime.CUDAUnavailable as trouble:
        click.echo(str(trouble), err=True)
        sys.exit(2)


@click.command()
@click.option("--points", multiple=True, type=int, help="n = m; 4096, 16384, 65536, 1048576.")
@click.option("--dims", multiple=True, type=int, help="d; 3, 32 and 256 by default.")
@click.option("--columns", multiple=True, type=int, help="p of the product; 1 and 16 by default.")
@click.option("--dtypes", multiple=True, type=click.Choice(sorted(TOLERANCE)))
@click.option("--repeats", default=7, show_default=True)
@click.option("--limit", default=3.0, show_default=True, help="Seconds that a call may take.")
@click.option("--budget", default=540.0, show_default=True, help="Seconds for everything.")
@click.option("--quick", is_flag=True, help="Small measurements of the limits: to try the script.")
@click.option("--json", "json_file", type=click.Path(), help="Write all numbers here as well.")
def main(points, dims, columns, dtypes, repeats, limit, budget, quick, json_file):
    """Times the kernels on this machine's GPU; checks every result first.

    What would not end within the budget is left out: few points come first, KeOps, which compiles
    each formula, last.
    """
    number = os.environ.get("CUDA_DEVICE", "0")
    if number != "0":
        raise click.ClickException(
            "CUDA_DEVICE is %r, but the other libraries would be timed on device 0. Unset it, and "
            "choose the GPU with CUDA_VISIBLE_DEVICES, which all libraries heed." % number
        )
    runtime, launch = load_launches()
    dtypes, columns = dtypes or sorted(TOLERANCE), columns or (1, 16)
    sizes = list(
        itertools.product(
            points or (4096, 16384, 65536, 1048576), dtypes, dims or (3, 32, 256), columns
        )
    )
    results = []
    with device_or_exit(runtime) as device:
        import pycuda.driver as driver

        clock = Clock(device, repeats)
        stopwatch = Stopwatch(clock, limit, budget)
        memory = driver.mem_get_info()[1]

        def measure_all(sizes, calls):
            for n, dtype, d, p in sizes:
                fits = n * n * np.dtype(dtype).itemsize < PULL * memory
                problem = Problem(device, dtype, n, d, p)
                made = calls(problem, fits and p == columns[0])
                measure(stopwatch, problem, made, rates[dtype], results)
                if json_file:  # what there is, should the rest not come
                    with open(json_file, "w") as file:
                        json.dump(results, file, indent=1)

        try:
            rates = {}
            for dtype in dtypes:
                rates[dtype] = limits_or_word(clock, dtype, quick)
                results.append(dict(device=device.name, dtype=dtype, limits=rates[dtype]))
            measure_all(
                sizes,
                lambda problem, with_k: {
                    OURS: our_calls(launch, problem, with_k),
                    "torch": torch_calls(problem, with_k),
                    "cupy": cupy_calls(problem, with_k),
                },
            )
            # One formula after the other.
            formulas = sorted(sizes, key=lambda size: (dtypes.index(size[1]), size[2:], size[0]))
            measure_all(formulas, lambda problem, with_k: {KEOPS: keops_calls(problem)})
        finally:  # what was measured, should it have been interrupted
            show(device.name, results, stopwatch.notes)
    if stopwatch.wrong:
        raise SystemExit("\n".join(stopwatch.wrong))


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.gpu")
