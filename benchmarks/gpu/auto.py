"""Does device "auto" choose right? Products of host arrays on the CPU and on the GPU, with copies.

    python -m benchmarks.gpu.auto --json auto.json

For each size the least time of a Theano function of rbf_dot on either device, of the value alone
and with its gradients by x, y and the weights, and what the rule of device/placement.py expects of
the value, and of the gradients. Needs Theano, PyCUDA, nvcc and a GPU. Imports rewriting; rbf_op and
Theano; click, rich. Exit status 2 where there is no device.
"""

import rbf_op  # first: it lets Theano run on this Python and NumPy

# isort: split
import functools
import itertools
import json
import sys

import click
import numpy as np
import theano
import theano.tensor as T
from rich.console import Console
from rich.table import Table

from benchmarks.rewriting import least_times
from rbf_op.device import placement, runtime


def functions(dtype):
    """{what: {device: function of x, y and weights}}"""
    x, y, weights = (T.TensorType(dtype, (False, False))(v) for v in ("x", "y", "weights"))
    found = {"product": {}, "gradient of product": {}}
    for device in ("cpu", "cuda"):
        P = rbf_op.rbf_dot(x, y, weights, gamma=1.5 / x.shape[1].astype(dtype), device=device)
        found["product"][device] = theano.function([x, y, weights], [P])
        gradients = T.grad(P.sum(), [x, y, weights])
        found["gradient of product"][device] = theano.function([x, y, weights], [P] + gradients)
    return found


@click.command()
@click.option("--points", multiple=True, type=int, help="n = m; 128 to 8192 by default.")
@click.option("--dims", multiple=True, type=int, help="d; 3, 32 and 256 by default.")
@click.option("--columns", multiple=True, type=int, help="p; 1 and 16 by default.")
@click.option("--dtypes", multiple=True, type=click.Choice(sorted(runtime.DTYPES)))
@click.option("--seconds", default=0.1, show_default=True, help="For each size, at least.")
@click.option("--json", "json_file", type=click.Path(), help="Write all numbers here as well.")
def main(points, dims, columns, dtypes, seconds, json_file):
    """Times rbf_dot of host arrays on the CPU and on the GPU, and looks at the rule of "auto"."""
    try:
        table = Table(title=runtime.device().name)
    except runtime.CUDAUnavailable as trouble:
        click.echo(str(trouble), err=True)
        sys.exit(2)
    random = np.random.default_rng(0)
    for heading in ("problem", "what", "CPU us", "GPU us", "auto", "loses"):
        table.add_column(heading)
    results = []
    for dtype in dtypes or sorted(runtime.DTYPES):
        made = functions(dtype)
        sizes = itertools.product(
            points or [2**k for k in range(7, 14)], dims or (3, 32, 256), columns or (1, 16)
        )
        for n, d, p in sizes:
            arrays = [
                random.uniform(-1, 1, shape).astype(dtype) for shape in ((n, d),) * 2 + ((n, p),)
            ]
            for what, both in made.items():
                for cpu, gpu in zip(*[f(*arrays) for f in both.values()]):
                    np.testing.assert_allclose(gpu, cpu, rtol=1e-4, atol=1e-4 * np.abs(cpu).max())
                calls = [functools.partial(f, *arrays) for f in both.values()]
                cpu, gpu = least_times(calls, seconds)
                wrt = ("x", "y", "weights") if what.startswith("gradient") else None
                pays = placement.product_pays(n, n, d, p, dtype, wrt)
                chosen = "cuda" if pays and placement.made_for(dtype) else "cpu"
                loses = (gpu if chosen == "cuda" else cpu) / min(cpu, gpu) - 1
                results.append(
                    dict(dtype=dtype, n=n, d=d, p=p, what=what, cpu=cpu, cuda=gpu, auto=chosen)
                )
                table.add_row(
                    "%s n=%d d=%d p=%d" % (dtype, n, d, p), what, "%.0f" % (1e6 * cpu),
                    "%.0f" % (1e6 * gpu), chosen, "%.0f %%" % (100 * loses),
                )  # fmt: skip
            if json_file:
                with open(json_file, "w") as file:
                    json.dump(results, file, indent=1)
    Console().print(table)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.gpu.auto")
