"""The layer of the question, as it was asked (nested loops) and answered (map), made fast by fuse.

The map is timed at full size. The loops make nodes for every entry, so that their graph at full
size can be neither held nor compiled: they are timed at sizes that can, and what an entry costs
there gives a lower bound for full size. Touches rbf_op and Theano only, so that it needs no
environment of its own.
"""

import functools
import time

import common  # isort: skip  (before Theano)

import theano
import theano.tensor as T

from rbf_op import fuse
from rbf_op.demo import layer_timing, question

BATCH, DIMS, HIDDEN = 2000, 100, 500
# (batch, hidden) of the nested loops; compiling takes longer than in proportion.
FORWARD_SIZES = (10, 5), (20, 5), (20, 10)
GRADIENT_SIZES = (5, 5), (10, 5)
# Sizes at which the loops' graph is only built and given to fuse.
BUILT_SIZES = (40, 25), (80, 40)


def layer(way, batch, hidden, fused):
    """(inputs, output) of the layer written in one way."""
    x, W, S = T.matrix("x", "float32"), T.matrix("W", "float32"), T.vector("S", "float32")
    output = question.WAYS[way](x, W, S, batch, hidden)
    return [x, W, S], fuse(output) if fused else output


def compiled(way, batch, hidden, fused, gradient):
    """The layer, with or without gradients, as a function of x, W, S, G."""
    inputs, output = layer(way, batch, hidden, fused)
    G = T.matrix("G", "float32")
    outputs = [output]
    if gradient:
        outputs += theano.grad((output * G).sum(), inputs)
    mode = common.plain_mode()  # of what fuse did only
    return theano.function(inputs + [G], outputs, mode=mode, on_unused_input="ignore")


def checked():
    """Node counts and differences, at a small size."""
    nodes, before, worst = [0, 0], [0, 0], 0.0
    for way, batch, dims, hidden in ("nested loops", 5, 10, 3), ("theano.map", 20, 10, 7):
        data = layer_timing.draw(batch, dims, hidden, "float32")
        plain, fused = (compiled(way, batch, hidden, fused, True) for fused in (False, True))
        worst = max(worst, common.largest_difference(plain(*data), fused(*data)))
        nodes = [a + b for a, b in zip(nodes, common.node_counts(fused))]
        before = [a + b for a, b in zip(before, common.node_counts(plain))]
    return {"nodes before": before, "nodes": nodes, "difference": worst, "tolerance": 1e-4}


def timed_map(repeats):
    """{what: (plain, fused seconds)} of the map at full size, and the largest difference."""
    data = layer_timing.draw(BATCH, DIMS, HIDDEN, "float32")
    seconds, worst = {}, 0.0
    for gradient in (False, True):
        plain, fused = (compiled("theano.map", BATCH, HIDDEN, f, gradient) for f in (False, True))
        worst = max(worst, common.largest_difference(plain(*data), fused(*data)))
        what = "theano.map, batch %d, dims %d, hidden %d: forward%s"
        seconds[what % (BATCH, DIMS, HIDDEN, " and gradient" * gradient)] = (
            common.interleaved_seconds(
                functools.partial(plain, *data), functools.partial(fused, *data), repeats
            )
        )
    return seconds, worst


def timed_loops(repeats, fused_seconds):
    """(seconds as timed_map's, lines of text) of the nested loops, and what they say of full size.

    fused_seconds: of the fused layer at full size, forward and with gradient.
    """
    seconds, lines, worst = {}, [], 0.0
    entries = BATCH * HIDDEN
    for gradient, sizes, full in zip((False, True), (FORWARD_SIZES, GRADIENT_SIZES), fused_seconds):
        task = "forward" + " and gradient" * gradient
        compiling, each = [], []
        for batch, hidden in sizes:
            data = layer_timing.draw(batch, DIMS, hidden, "float32")
            compiled("nested loops", batch, hidden, False, gradient)  # loads or compiles C code
            start = time.perf_counter()
            plain = compiled("nested loops", batch, hidden, False, gradient)
            compiling.append(time.perf_counter() - start)
            fused = compiled("nested loops", batch, hidden, True, gradient)
            worst = max(worst, common.largest_difference(plain(*data), fused(*data)))
            pair = common.interleaved_seconds(
                functools.partial(plain, *data), functools.partial(fused, *data), 200 * repeats
            )
            each.append(pair[0] / (batch * hidden))
        what = "nested loops, batch %d, dims %d, hidden %d: %s"
        seconds[what % (batch, DIMS, hidden, task)] = pair
        counts = ", ".join("%d" % (b * h) for b, h in sizes)
        lines.append("nested loops of %s entries, %s:" % (counts, task))
        lines.append("  compiled in %s s" % ", ".join("%.1f" % s for s in compiling))
        lines.append("  one call %s us an entry" % ", ".join("%.2f" % (1e6 * s) for s in each))
        bound = min(each) * entries
        lines.append(
            "  so batch %d, hidden %d would take at least %.2f s (an estimate: see below);"
            % (BATCH, HIDDEN, bound)
        )
        lines.append("  the fused node takes %.4f s there: %.0f times" % (full, bound / full))
    return seconds, lines, worst


def building():
    """Lines of text: what the loops' graph costs before it is compiled."""
    lines = []
    for batch, hidden in BUILT_SIZES:
        before, start = common.resident_bytes(), time.perf_counter()
        _, output = layer("nested loops", batch, hidden, False)
        built = time.perf_counter()
        held = common.resident_bytes() - before
        assert fuse(output) is not output
        fused = time.perf_counter()
        count = batch * hidden
        each = [(built - start) / count, (fused - built) / count, held / count]
        lines.append(
            "nested loops of %d entries: built in %.2f ms, %.0f KiB, fused in %.2f ms an entry"
            % (count, 1e3 * each[0], each[2] / 1024, 1e3 * each[1])
        )
    entries = BATCH * HIDDEN
    lines.append(
        "  so batch %d, hidden %d: built in %.0f minutes, %.0f GiB, fused in %.0f (an estimate)"
        % (
            BATCH,
            HIDDEN,
            each[0] * entries / 60,
            each[2] * entries / 2**30,
            each[1] * entries / 60,
        )
    )
    return lines


def main():
    options = common.arguments()
    results = {
        "client": "The question",
        "graph": "its layer by nested loops and by theano.map: values and gradients",
    }
    lines = building() if options.time else []  # first: what is freed later would be used again
    results.update(checked())
    if options.time:
        seconds, worst = timed_map(min(options.repeats, 5))
        full = [fused for _, fused in seconds.values()]
        loops, of_loops, worst_of_loops = timed_loops(options.repeats, full)
        results["difference"] = max(results["difference"], worst, worst_of_loops)
        results["seconds"] = dict(seconds, **loops)
        results["lines"] = of_loops + lines
    common.show(results)


if __name__ == "__main__":
    main()
