"""Is a graph ever slower for the rewrite of dot(K, W)? Times of functions with it and without.

Those of sums of K, too, which the same rewrite makes products of, of means, whose gradients
another does not fill, of slices, of which a third computes no more than they show, and of the
product with K of y = x, for whose gradient a fourth takes half of K; they have no weights, or some.
And of a softmax of distances, spelled out, times weights, and products of kernels of one distance,
which the rewrite of kernels and autofuse fuse.

python -m benchmarks.rewriting (an hour; --quick some minutes). Each pair of functions is called in
turn, one call of each after the other, and what is compared is the least time of either: a ratio
below 1 says that the rewrite gains. Graphs in which nothing is rewritten are marked so. Those above
LARGEST are measured again, for longer, and the second measurement counts: single ones are noise.
Imports rbf_op and Theano; click, rich.
"""

import rbf_op  # first: it lets Theano run on this Python and NumPy

# isort: split
import contextlib
import functools
import gc
import itertools
import time

import click
import numpy as np
import theano
import theano.tensor as T
from rich.console import Console

DTYPES = ("float32", "float64")
SIZES = ((5, 3), (100, 90), (1000, 900), (3000, 2800))
DEPTHS = (1, 10, 100, 784)
COLUMNS = (1, 10, 32, 100, 500)
LARGEST = 1.05
AGAIN = 5  # times as long

_PRODUCTS, _MEANS, _HALF = ("rbf_dot",), ("rbf_repeated",), ("rbf_symmetric",)
_SPELLED_OUT = ("rbf_fusion",)
_SLICES = ("local_rbf_subtensor_lift", "local_rbf_gradient_of_slices")
# Graphs, and the rewrites that are compared with the lack of them.
GRAPHS = {
    "product": _PRODUCTS,
    "symmetric product": _PRODUCTS,
    "symmetric product, training": _PRODUCTS,
    "symmetric rbf_dot, training": _HALF,
    "symmetric rbf_dot, training of x": _HALF,
    "training": _PRODUCTS,
    "training the weights": _PRODUCTS,
    "transposed": _PRODUCTS,
    "row means": _PRODUCTS,
    "row means, training": _PRODUCTS,
    "normalised": _PRODUCTS,
    "normalised, training": _PRODUCTS,
    "softmax": _SPELLED_OUT,
    "two widths": _SPELLED_OUT,
    "two widths, training": _SPELLED_OUT,
    "four widths": _SPELLED_OUT,
    "four widths, training": _SPELLED_OUT,
    "mean, y = x, training": _MEANS,
    "mean of five widths, training": _MEANS,
    "half of the rows": _SLICES,
    "half of the rows, training": _SLICES,
    "two samples, training": _SLICES,
}
WIDTHS = 0.25, 0.5, 1, 2, 4


def squared_distances(x, y):
    """Spelled out, expanded."""
    norms = [T.sqr(points).sum(axis=1) for points in (x, y)]
    return norms[0].dimshuffle(0, "x") + norms[1] - 2 * T.dot(x, y.T)


def outputs(name, x, y, gamma, weights):
    """The results of one of GRAPHS."""
    if name == "two samples, training":
        kernel = rbf_op.rbf_kernel(T.concatenate([x, y]), gamma=gamma)
        n = x.shape[0]
        discrepancy = kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()
        return [discrepancy, T.grad(discrepancy, x)]
    if name.startswith("mean"):
        if "widths" in name:
            kernel = rbf_op.rbf_mixture(x, y, [gamma * width for width in WIDTHS])
        else:
            kernel = rbf_op.rbf_kernel(x, gamma=gamma)
        return [kernel.mean(), T.grad(kernel.mean(), x)]
    if name.startswith("symmetric"):
        if "rbf_dot" in name:
            product = rbf_op.rbf_dot(x, None, weights, gamma)
        else:
            product = T.dot(rbf_op.rbf_kernel(x, gamma=gamma), weights)
        if "training" not in name:
            return [product]
        cost = T.sqr(product - 1).mean()
        return [cost] + T.grad(cost, [x, gamma] if name.endswith("x") else [x, gamma, weights])
    if name == "softmax":
        return [T.dot(T.nnet.softmax(-gamma * squared_distances(x, y)), weights)]
    if name.startswith(("two widths", "four widths")):
        distances = squared_distances(x, y)
        widths = WIDTHS[:2] if name.startswith("two") else WIDTHS[:4]
        products = [T.dot(T.exp(-gamma * width * distances), weights) for width in widths]
        if "training" not in name:
            return products
        cost = sum(T.sqr(product - 1).mean() for product in products)
        return [cost] + T.grad(cost, [x, y, gamma, weights])
    kernel = rbf_op.rbf_kernel(x, y, gamma)
    if name.startswith("half of the rows"):
        half = kernel[: x.shape[0] // 2]
        return [half] if "training" not in name else T.grad(T.sqr(half).mean(), [x, y, gamma])
    if name == "transposed":
        return [T.dot(kernel.T, weights)]
    wrt = [x, y, gamma, weights]
    if name.startswith("row means"):
        product, wrt = kernel.mean(axis=1), wrt[:3]
    else:
        product = T.dot(kernel, weights)
    if name.startswith("normalised"):
        product = product / kernel.sum(axis=1, keepdims=True)
    if "training" not in name:
        return [product]
    if name == "training the weights":
        wrt = [weights]
    cost = T.sqr(product - 1).mean()
    return [cost] + T.grad(cost, wrt)


def functions(name, dtype):
    """The same function with the rewrite (and autofuse) and without."""
    x, y, weights = (T.TensorType(dtype, (False, False))(v) for v in ("x", "y", "weights"))
    inputs = [x, y, T.TensorType(dtype, ())("gamma"), weights]
    mode = theano.compile.get_default_mode()
    pair = []
    for fusing, its_mode in (
        (rbf_op.autofuse.enabled(), mode),
        (contextlib.nullcontext(), mode.excluding(*GRAPHS[name])),
    ):
        with fusing:
            results = outputs(name, *inputs)
        pair.append(theano.function(inputs, results, mode=its_mode, on_unused_input="ignore"))
    return pair


def least_times(calls, seconds):
    """The least time of each of some functions, their calls taking turns for so many seconds."""
    least = [np.inf] * len(calls)
    clock = time.perf_counter
    for call in calls:
        call()
    once = clock()
    calls[-1]()
    repeat = max(1, int(1e-4 / (clock() - once)))
    end = clock() + seconds
    gc.disable()
    turns = 0
    while clock() < end or turns < 3:
        for i in range(len(calls))[:: 1 if turns % 2 else -1]:
            start = clock()
            for _ in range(repeat):
                calls[i]()
            least[i] = min(least[i], (clock() - start) / repeat)
        turns += 1
    gc.enable()
    return least


def is_rewritten(pair):
    first, second = ([n.op for n in f.maker.fgraph.toposort()] for f in pair)
    return first != second


def arguments_of(name, dtype, n, m, d, p):
    random = np.random.default_rng(0)
    rows = n if name.startswith("symmetric") or name == "transposed" else m
    return [
        random.standard_normal((n, d)).astype(dtype),
        random.standard_normal((m, d)).astype(dtype),
        np.asarray(0.5 / d, dtype),
        random.standard_normal((rows, p)).astype(dtype),
    ]


def _numbers(context, parameter, value):
    """A click callback: a comma-separated list of numbers, or of pairs like 1000x900."""
    if value is None:
        return None
    found = [tuple(int(v) for v in part.split("x")) for part in value.split(",")]
    return tuple(v if len(v) > 1 else v[0] for v in found)


@click.command()
@click.option("--seconds", default=0.3, help="For each pair of functions.")
@click.option("--graph", type=click.Choice(list(GRAPHS)), multiple=True, help="Default: all.")
@click.option("--dtype", type=click.Choice(DTYPES), multiple=True, help="Default: both.")
@click.option("--quick", is_flag=True, help="Sizes up to 1000, fewer depths and columns.")
@click.option("--sizes", callback=_numbers, help="n and m, like 100x90,1000x900.")
@click.option("--depths", callback=_numbers, help="d, like 10,100.")
@click.option("--columns", callback=_numbers, help="p, like 1,32.")
def main(seconds, graph, dtype, quick, sizes, depths, columns):
    console = Console(highlight=False, soft_wrap=True)
    grid = (SIZES[:3], DEPTHS[1:], COLUMNS[::2]) if quick else (SIZES, DEPTHS, COLUMNS)
    grid = [given or usual for given, usual in zip((sizes, depths, columns), grid)]
    line = "%-20s %-8s %-12s d=%-4d p=%-4d %9.4f ms with, %9.4f without, ratio %.2f"
    ratios = []
    for name, precision in itertools.product(graph or GRAPHS, dtype or DTYPES):
        pair = functions(name, precision)
        if not is_rewritten(pair):
            console.print("%-20s %-8s not rewritten" % (name, precision))
            continue
        for (n, m), d, p in itertools.product(*grid):
            arguments = arguments_of(name, precision, n, m, d, p)
            calls = [functools.partial(f, *arguments) for f in pair]
            new, old = least_times(calls, seconds)
            text = line % (
                name,
                precision,
                "%d x %d" % (n, m),
                d,
                p,
                1e3 * new,
                1e3 * old,
                new / old,
            )
            if new / old > LARGEST:
                new, old = least_times(calls, AGAIN * seconds)
                text += ", again %.2f" % (new / old)
            ratios.append(new / old)
            console.print(text)
    if ratios:
        console.print(
            "%d pairs: ratio %.2f to %.2f, median %.2f; above %.2f in %d"
            % (
                len(ratios),
                min(ratios),
                max(ratios),
                np.median(ratios),
                LARGEST,
                np.sum(np.array(ratios) > LARGEST),
            )
        )


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.rewriting")
