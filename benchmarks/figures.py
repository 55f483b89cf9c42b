"""The figures of a run: time against n and against d, speed-up bars, thread scaling.

May import report; matplotlib.
"""

import os

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib import patheffects  # noqa: E402

from benchmarks import report  # noqa: E402

OWN_COLOUR = "#c0392b"
PEER_COLOURS = ("#4c72b0", "#dd8452", "#55a868", "#8172b3", "#937860", "#64b5cd", "#8c8c8c")
PEER_MARKS = "sDv^<>p"

STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e5e5e5",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "savefig.dpi": 150,
}

TITLES = {"kernel": "K", "gradient": "sum(K G) and its gradients"}


def draw(results, folder, page="performance"):
    """Write {page}-*.png for whatever the run has measured; returns their paths."""
    drawn = []
    with plt.rc_context(STYLE):
        for name, draw_one in (
            ("n", lambda: _growth(results, "growth-n", "n")),
            ("d", lambda: _growth(results, "growth-d", "d")),
            ("speedup", lambda: _speedups(results)),
            ("threads", lambda: _threads(results)),
        ):
            figure = draw_one()
            if figure is not None:
                path = os.path.join(folder, "%s-%s.png" % (page, name))
                figure.savefig(path, bbox_inches="tight")
                plt.close(figure)
                drawn.append(path)
    return drawn


def _growth(results, group, size):
    """Time against n or d, K on the left and gradients on the right."""
    sections = list(results.sections(group))
    if not sections:
        return None
    figure, panels = plt.subplots(1, len(sections), figsize=(4.6 * len(sections), 3.8), sharey=True)
    keys = list(dict.fromkeys(e.key for e in results.groups[group] if e.role != "ours too"))
    peers = [key for key in keys if key != "rbf_op"]
    for panel, (task, dtype, cells, entries) in zip(_flat(panels), sections):
        for key in peers + ["rbf_op"]:
            line = [e for e in entries if e.key == key and e.ok]
            if not line:
                continue
            own = key == "rbf_op"
            number = len(peers) if own else peers.index(key)
            panel.plot(
                [getattr(e.cell, size) for e in line],
                [1e3 * e.least for e in line],
                color=OWN_COLOUR if own else PEER_COLOURS[number % len(PEER_COLOURS)],
                marker="o" if own else PEER_MARKS[number % len(PEER_MARKS)],
                markersize=4,
                linewidth=2.5 if own else 1.2,
                label=line[0].label,
            )
        fixed = "d = %d" % cells[0].d if size == "n" else "n = m = %d" % cells[0].n
        panel.set(xscale="log", yscale="log", xlabel="%s%s" % (size, " = m" * (size == "n")))
        panel.set_title("%s, %s, %s" % (TITLES[task], dtype, fixed), fontsize=9)
        panel.tick_params(labelleft=True)
        ticks = [getattr(cell, size) for cell in cells]
        # A tick too near to the last one has no number.
        crowded = [t for t in ticks[:-1] if (ticks[-1] / t) ** 10 < ticks[-1] / ticks[0]]
        panel.set_xticks(ticks, ["" if tick in crowded else str(tick) for tick in ticks])
        panel.minorticks_off()
    _flat(panels)[0].set_ylabel("milliseconds")
    handles, labels = _flat(panels)[0].get_legend_handles_labels()
    figure.legend(
        handles[::-1], labels[::-1], loc="upper center", bbox_to_anchor=(0.5, 0.0), ncol=4
    )
    figure.tight_layout()
    return figure


def _speedups(results):
    """Best peer / rbf_op for each cell of the grid, a panel for each task."""
    sections = list(results.sections("grid"))
    tasks = list(dict.fromkeys(task for task, _, _, _ in sections))
    if not tasks:
        return None
    figure, panels = plt.subplots(1, len(tasks), figsize=(5.5 * len(tasks), 4.6))
    for panel, task in zip(_flat(panels), tasks):
        rows = []
        for cell, entries in _in_turn(sections, task):
            own, peer = report.ours(entries, cell), report.best_peer(entries, cell)
            if own and peer:
                rows.append((cell, peer.least / own.least, peer.label))
        for place, (cell, ratio, label) in enumerate(rows):
            colour = OWN_COLOUR if cell.dtype == "float32" else PEER_COLOURS[0]
            panel.barh(place, ratio, color=colour, height=0.7)
            text = panel.text(ratio, place, " %.1f  %s" % (ratio, label), va="center", fontsize=7)
            # Readable where it crosses the line at 1.
            text.set_path_effects([patheffects.withStroke(linewidth=2, foreground="white")])
        sizes = [
            "%s, %s" % (cell.size.replace("x", "\u00d7").replace("y=\u00d7", "y=x"), cell.dtype)
            for cell, _, _ in rows
        ]
        panel.set_yticks(range(len(rows)), sizes)
        panel.tick_params(labelsize=7)
        panel.invert_yaxis()
        panel.axvline(1, color="black", linewidth=0.8, zorder=0)
        panel.set_title("%s: best peer / rbf_op" % TITLES[task], fontsize=9)
        panel.set_xlim(0, 1.6 * max([ratio for _, ratio, _ in rows] or [1]))
        panel.grid(axis="y", visible=False)
    figure.tight_layout()
    return figure


def _in_turn(sections, task):
    """(cell, entries) in the order of the tables, the precisions of a size one below the other."""
    bars = [(cell, entries) for t, _, cells, entries in sections if t == task for cell in cells]
    sizes = list(dict.fromkeys(cell.size for cell, _ in bars))
    return sorted(bars, key=lambda bar: sizes.index(bar[0].size))


def _threads(results):
    """Speed-up over one thread, a line for each task and precision, against n."""
    sections = list(results.sections("threads"))
    counts = sorted({e.threads for e in results.groups.get("threads", [])})
    if not sections or len(counts) < 2:
        return None
    figure, panel = plt.subplots(figsize=(5.2, 3.6))
    highest = counts[-1]
    for task, dtype, cells, _entries in sections:
        points = []
        for cell in cells:
            one = results.find("threads", cell, threads=1)
            most = results.find("threads", cell, threads=counts[-1])
            if one and most:
                points.append((cell.n, one.least / most.least))
                highest = max(highest, points[-1][1])
        panel.plot(
            [n for n, _ in points],
            [ratio for _, ratio in points],
            marker="os"[dtype == "float64"],
            color=OWN_COLOUR if task == "kernel" else PEER_COLOURS[0],
            linestyle="-" if dtype == "float32" else "--",
            label="%s, %s" % (TITLES[task], dtype),
        )
    ticks = sorted({cell.n for _, _, cells, _ in sections for cell in cells})
    panel.axhline(counts[-1], color="black", linewidth=0.8, linestyle=":")
    panel.set(xscale="log", xlabel="n = m, d = 10", ylim=(0, 1.1 * highest))
    panel.set_ylabel("time of 1 thread / time of %d threads" % counts[-1])
    panel.set_xticks(ticks, [str(tick) for tick in ticks])
    panel.minorticks_off()
    panel.legend(loc="lower right")
    figure.tight_layout()
    return figure


def _flat(panels):
    return list(panels) if hasattr(panels, "__len__") else [panels]
