"""The figure of `rbf-op demo --plot FILE`: times and memory of the layer as bars.

Touches matplotlib and the names in layer_timing.
"""

from matplotlib.figure import Figure

from rbf_op.demo import layer_timing

COLOURS = {"forward": "#4c78a8", layer_timing.GRADIENT: "#f58518", "memory": "#72797f"}


def draw(rows, path, title):
    """Draws the rows of layer_timing.measure into a file whose suffix names the format."""
    rows = {way: row for way, row in rows.items() if "failed" not in row}
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    times, memory = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
    height = 0.38
    for number, task in enumerate(layer_timing.TASKS):
        bars = times.barh(
            [position + (number - 0.5) * height for position in range(len(rows))],
            [1e3 * row[task]["seconds"] for row in rows.values()],
            height,
            color=COLOURS[task],
            label=task,
        )
        times.bar_label(bars, fmt=_three_digits, padding=3, fontsize=8)
    bars = memory.barh(
        range(len(rows)),
        [row["peak_bytes"] / 1e6 for row in rows.values()],
        2 * height,
        color=COLOURS["memory"],
    )
    memory.bar_label(bars, fmt=_three_digits, padding=3, fontsize=8)

    times.set_yticks(range(len(rows)), list(rows))
    times.invert_yaxis()
    times.set_xlabel("fastest call, milliseconds (log)")
    memory.set_xlabel("peak memory with gradient, MB (log)")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    for axes in (times, memory):
        axes.set_xscale("log")
        axes.margins(x=0.15)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle("The Gaussian layer in Theano: %s, float32" % title, fontsize=11)
    figure.savefig(path, dpi=150)


def _three_digits(value):
    return "%.0f" % value if value >= 100 else "%.3g" % value
