"""The layer of the question, as it was asked (nested loops) and answered (map), made fast by fuse.

The loops are timed at a size that compiles at all: they make nodes for every entry. Touches
rbf_op and Theano only, so that it needs no environment of its own.
"""

import functools
import time

import common  # isort: skip  (before Theano)

import theano
import theano.tensor as T

from rbf_op import fuse
from rbf_op.demo import layer_timing, question


def compiled(way, batch, dims, hidden, fused):
    """(layer, layer and gradients as functions of x, W, S, G; seconds to build and compile)."""
    start = time.perf_counter()
    x, W, G = (T.matrix(name, "float32") for name in "xWG")
    S = T.vector("S", "float32")
    output = question.WAYS[way](x, W, S, batch, hidden)
    output = fuse(output) if fused else output
    gradients = theano.grad((output * G).sum(), [x, W, S])
    mode = common.plain_mode()  # of what fuse did only
    both = [
        theano.function([x, W, S, G], outputs, mode=mode, on_unused_input="ignore")
        for outputs in ([output], [output] + gradients)
    ]
    return both, time.perf_counter() - start


def main():
    options = common.arguments()
    nodes, before, worst, seconds = [0, 0], [0, 0], 0.0, {}
    small = ("nested loops", 5, 10, 3), ("theano.map", 20, 10, 7)
    large = ("nested loops", 20, 100, 10), ("theano.map", 2000, 100, 500)
    for way, batch, dims, hidden in large if options.time else small:
        data = layer_timing.draw(batch, dims, hidden, "float32")
        (plain, compiling), (fused, fused_compiling) = (
            compiled(way, batch, dims, hidden, fused) for fused in (False, True)
        )
        worst = max(worst, common.largest_difference(plain[1](*data), fused[1](*data)))
        nodes = [a + b for a, b in zip(nodes, common.node_counts(fused[1]))]
        before = [a + b for a, b in zip(before, common.node_counts(plain[1]))]
        if options.time:
            size = "%s, batch %d, dims %d, hidden %d: " % (way, batch, dims, hidden)
            for task, *functions in zip(("forward", "forward and gradient"), plain, fused):
                seconds[size + task] = common.interleaved_seconds(
                    *[functools.partial(f, *data) for f in functions], options.repeats
                )
            seconds[size + "building and compiling"] = compiling, fused_compiling
    results = {
        "client": "The question",
        "graph": "its layer by nested loops and by theano.map: values and gradients",
        "nodes before": before,
        "nodes": nodes,
        "difference": worst,
        "tolerance": 1e-4,
    }
    if seconds:
        results["seconds"] = seconds
    common.show(results)


if __name__ == "__main__":
    main()
