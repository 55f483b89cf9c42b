"""Is a graph ever slower for the rewrite of dot(K, W)? Times of functions with it and without.

python -m benchmarks.rewriting. Each pair of functions is called in turn, one call of each after the
other, and what is compared is the least time of either: a ratio below 1 says the rewrite gains.
Imports rbf_op and Theano; click, rich.
"""

import rbf_op  # first: it lets Theano run on this Python and NumPy

# isort: split
import gc
import itertools
import time

import click
import numpy as np
import theano
import theano.tensor as T
from rich.console import Console
from rich.table import Table

SIZES = ((5, 3), (100, 90), (1000, 900), (3000, 2800))
DEPTHS = (1, 10, 100, 784)
COLUMNS = (1, 10, 32, 100, 500)

# name -> (K and the weights' rows, what is wanted)
GRAPHS = ("product", "symmetric product", "training", "training the weights", "transposed")


def outputs(name, x, y, gamma, weights):
    """The results of one of GRAPHS."""
    if name == "symmetric product":
        return [T.dot(rbf_op.rbf_kernel(x, gamma=gamma), weights)]
    kernel = rbf_op.rbf_kernel(x, y, gamma)
    if name == "transposed":
        return [T.dot(kernel.T, weights)]
    product = T.dot(kernel, weights)
    if name == "product":
        return [product]
    wrt = [weights] if name == "training the weights" else [x, y, gamma, weights]
    cost = T.sqr(product - 1).mean()
    return [cost] + T.grad(cost, wrt)


def functions(name, dtype):
    """The same function with the rewrite and without."""
    x, y, weights = (T.TensorType(dtype, (False, False))(v) for v in ("x", "y", "weights"))
    inputs = [x, y, T.TensorType(dtype, ())("gamma"), weights]
    mode = theano.compile.get_default_mode()
    return [
        theano.function(inputs, outputs(name, *inputs), mode=m, on_unused_input="ignore")
        for m in (mode, mode.excluding("rbf_dot"))
    ]


def least_times(pair, arguments, seconds):
    """The least time of each, their calls taking turns for so many seconds."""
    least = [np.inf, np.inf]
    clock = time.perf_counter
    for f in pair:
        f(*arguments)
    once = clock()
    pair[1](*arguments)
    repeat = max(1, int(1e-4 / (clock() - once)))
    end = clock() + seconds
    gc.disable()
    calls = 0
    while clock() < end or calls < 3:
        for i in (0, 1) if calls % 2 else (1, 0):
            start = clock()
            for _ in range(repeat):
                pair[i](*arguments)
            least[i] = min(least[i], (clock() - start) / repeat)
        calls += 1
    gc.enable()
    return least


@click.command()
@click.option("--seconds", default=0.3, help="For each pair of functions.")
@click.option("--graph", type=click.Choice(GRAPHS), multiple=True, help="Default: all.")
def main(seconds, graph):
    console = Console(highlight=False)
    table = Table(*("graph", "dtype", "n x m", "d", "p", "with, ms", "without, ms", "ratio"))
    random = np.random.default_rng(0)
    ratios = []
    for name, dtype in itertools.product(graph or GRAPHS, ("float32", "float64")):
        pair = functions(name, dtype)
        for (n, m), d, p in itertools.product(SIZES, DEPTHS, COLUMNS):
            rows = m if "product" == name or "training" in name else n
            arguments = [
                random.standard_normal((n, d)).astype(dtype),
                random.standard_normal((m, d)).astype(dtype),
                np.asarray(0.5 / d, dtype),
                random.standard_normal((rows, p)).astype(dtype),
            ]
            new, old = least_times(pair, arguments, seconds)
            ratios.append((new / old, (name, dtype, "%d x %d" % (n, m), str(d), str(p), new, old)))
    ratios.sort(key=lambda entry: entry[0])
    for ratio, row in ratios:
        times = ["%.4f" % (1e3 * value) for value in row[5:]]
        table.add_row(*(list(row[:5]) + times + ["%.2f" % ratio]))
    console.print(table)
    console.print(
        "%d pairs: ratio %.2f to %.2f, median %.2f; above 1.05 in %d"
        % (
            len(ratios),
            ratios[0][0],
            ratios[-1][0],
            np.median([r for r, _ in ratios]),
            sum(r > 1.05 for r, _ in ratios),
        )
    )


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.rewriting")
