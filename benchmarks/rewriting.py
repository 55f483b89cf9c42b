"""Is a graph ever slower for the rewrite of dot(K, W)? Times of functions with it and without.

python -m benchmarks.rewriting (an hour; --quick some minutes). Each pair of functions is called in
turn, one call of each after the other, and what is compared is the least time of either: a ratio
below 1 says that the rewrite gains. Graphs in which nothing is rewritten are marked so.
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


def is_rewritten(pair):
    first, second = ([n.op for n in f.maker.fgraph.toposort()] for f in pair)
    return first != second


@click.command()
@click.option("--seconds", default=0.3, help="For each pair of functions.")
@click.option("--graph", type=click.Choice(GRAPHS), multiple=True, help="Default: all.")
@click.option("--quick", is_flag=True, help="Sizes up to 1000, fewer depths and columns.")
def main(seconds, graph, quick):
    console = Console(highlight=False)
    random = np.random.default_rng(0)
    grid = (SIZES[:3], DEPTHS[1:], COLUMNS[::2]) if quick else (SIZES, DEPTHS, COLUMNS)
    line = "%-20s %-8s %-12s d=%-4d p=%-4d %9.4f ms with, %9.4f without, ratio %.2f"
    ratios = []
    for name, dtype in itertools.product(graph or GRAPHS, ("float32", "float64")):
        pair = functions(name, dtype)
        if not is_rewritten(pair):
            console.print("%-20s %-8s not rewritten" % (name, dtype))
            continue
        for (n, m), d, p in itertools.product(*grid):
            rows = m if name == "product" or "training" in name else n
            arguments = [
                random.standard_normal((n, d)).astype(dtype),
                random.standard_normal((m, d)).astype(dtype),
                np.asarray(0.5 / d, dtype),
                random.standard_normal((rows, p)).astype(dtype),
            ]
            new, old = least_times(pair, arguments, seconds)
            ratios.append(new / old)
            size = "%d x %d" % (n, m)
            console.print(line % (name, dtype, size, d, p, 1e3 * new, 1e3 * old, new / old))
    if ratios:
        console.print(
            "%d pairs: ratio %.2f to %.2f, median %.2f; above 1.05 in %d"
            % (
                len(ratios),
                min(ratios),
                max(ratios),
                np.median(ratios),
                np.sum(np.array(ratios) > 1.05),
            )
        )


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.rewriting")
