"""Does K @ W without K run at the speed of a matrix product? Against NumPy's, which is given K.

python -m benchmarks.matrix_product (a minute). For each number of columns of W: the least time of
rbf_dot, which makes K as well; of NumPy's product of a ready K; and multiply-adds with W a second,
of NumPy and of what rbf_dot takes beyond one column. Imports ceilings, machine, rewriting; rbf_op
and Theano; click, rich.
"""

import rbf_op  # first: it lets Theano run on this Python and NumPy

# isort: split
import functools

import click
import numpy as np
import theano
import theano.tensor as T
from rich.console import Console

from benchmarks import ceilings, machine
from benchmarks.rewriting import least_times

N, M, D = 3000, 2800, 10
COLUMNS = (32, 64, 100, 200, 500)


@click.command()
@click.option("--seconds", default=2.0, help="For each number of columns.")
def main(seconds):
    console = Console(highlight=False, soft_wrap=True)
    peak = ceilings.measure(machine.cores(), [])["arithmetic"]["multiply_adds"]
    random = np.random.default_rng(0)
    for dtype in ("float32", "float64"):
        x, y, weights = (T.TensorType(dtype, (False, False))(v) for v in ("x", "y", "weights"))
        function = theano.function([x, y, weights], rbf_op.rbf_dot(x, y, weights))
        points = [random.standard_normal((rows, D)).astype(dtype) for rows in (N, M)]
        kernel = random.uniform(size=(N, M)).astype(dtype)
        console.print(
            "%s, %d x %d, d = %d; ceiling of multiply-adds %.1f G/s"
            % (dtype, N, M, D, 1e-9 * peak[dtype])
        )
        for p in COLUMNS:
            w = random.standard_normal((M, p)).astype(dtype)
            one = np.ascontiguousarray(w[:, :1])
            calls = [
                functools.partial(function, *points, w),
                functools.partial(function, *points, one),
                functools.partial(np.matmul, kernel, w),
            ]
            with_k, single, product = least_times(calls, seconds)
            rates = [1e-9 * N * M * (p - 1) / (with_k - single), 1e-9 * N * M * p / product]
            console.print(
                "p=%-4d rbf_dot %7.2f ms, NumPy with K given %7.2f ms; G/s: %5.1f and %5.1f"
                % ((p, 1e3 * with_k, 1e3 * product) + tuple(rates))
            )


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.matrix_product")
