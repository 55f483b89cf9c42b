"""What `rbf-op demo` shows: runs the three parts and prints them as tables in 80 columns.

The computing is done in question, layer_timing and digits. Touches those, figure, usage and rich.
"""

import os
import time

import numpy as np
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from rbf_op import usage
from rbf_op.demo import digits, layer_timing, question

OURS = "rbf_kernel"

#: Relative difference allowed to what the question printed, which was rounded to float32 at
#: every step, and to the exact values from float64.
FLOAT32_TOLERANCE, FLOAT64_TOLERANCE = 3e-5, 1e-13

#: batch, dims, hidden of the realistic layer; rounds; batch and hidden for the nested loops.
SIZES = {
    False: dict(size=(2000, 100, 500), rounds=3, nested=(10, 5)),
    True: dict(size=(500, 50, 100), rounds=2, nested=(10, 5)),
}

EPOCHS, ACCURACY = 30, 0.97

#: Steps over which both networks must have the same loss, and how much rounding may differ.
SAME_STEPS, SAME_LOSS = 20, 1e-5


def run(quick=False, plot=None):
    """Runs and prints all parts; returns the exit code, 1 if any check failed."""
    console = Console(highlight=False)
    failures = []
    if not quick:
        console.print("A minute or so; three to four the first time, when all is compiled.\n")
    show_question(console, failures)
    rows = show_layer(console, failures, **SIZES[bool(quick)])
    if plot:
        from rbf_op.demo import figure

        figure.draw(rows, plot, "batch %d, dims %d, hidden %d" % SIZES[bool(quick)]["size"])
        console.print("drawn: %s\n" % plot, soft_wrap=True)
    show_digits(console, failures)
    for failure in failures:
        console.print("[red]FAILED[/red] %s" % escape(failure))
    return 1 if failures else 0


def show_question(console, failures):
    """Part 1: the question's numbers, in five ways, in both precisions."""
    console.print("[bold]1. The question's layer[/bold]  (batch 5, dims 10, hidden 3)")
    console.print("   out\\[i,j] = exp(-||W.T\\[j] - x\\[i]||^2) / 2 * S\\[j]^2")
    exact = question.exact(*question.draw())
    results = {"float32": {}, "float64": {}}
    with _progress(console) as progress:
        task = progress.add_task("", total=2 * len(question.WAYS))
        for dtype in results:
            for way in question.WAYS:
                progress.update(task, description="%s, %s" % (way, dtype))
                results[dtype][way] = question.evaluate(way, dtype).astype("float64")
                progress.advance(task)

    console.print("   printed: by the question's own code. exact: rational arithmetic, 50 digits.")
    table = _table("", "", "j = 0", "j = 1", "j = 2", labels=2)
    for i in range(question.BATCH):
        for label, values in (
            ("float32", results["float32"][OURS]),
            ("printed", question.PRINTED),
            ("float64", results["float64"][OURS]),
            ("exact", exact),
        ):
            first = "i = %d" % i if label == "float32" else ""
            table.add_row(first, label, *["%.8e" % value for value in values[i]])
        table.add_section()
    console.print(table)

    table = _table("largest relative difference", "float32 to printed", "float64 to exact", "")
    for way in question.WAYS:
        to_printed = question.relative_error(results["float32"][way], question.PRINTED)
        to_exact = question.relative_error(results["float64"][way], exact)
        good = to_printed <= FLOAT32_TOLERANCE and to_exact <= FLOAT64_TOLERANCE
        if not good:
            failures.append("%s: %.1e from printed, %.1e from exact" % (way, to_printed, to_exact))
        table.add_row(way, "%.1e" % to_printed, "%.1e" % to_exact, _mark(good))
    table.add_row("[dim]allowed", "%.0e" % FLOAT32_TOLERANCE, "%.0e" % FLOAT64_TOLERANCE, "")
    console.print(table)


def show_layer(console, failures, size, rounds, nested):
    """Part 2: times, memory and cores of every way; returns the rows of layer_timing.measure."""
    batch, dims, hidden = size
    ways = [way for way in question.WAYS if way != "nested loops"]
    console.print(
        "[bold]2. The same layer at batch %d, dims %d, hidden %d[/bold]  (float32)" % size
    )
    console.print("   Each way in its own process, checked against float64, rounds interleaved.")
    _say_if_busy(console, "use", _others_now())
    with usage.OtherPrograms() as others, _progress(console) as progress:
        task = progress.add_task("", total=1 + layer_timing.steps(ways, rounds))

        def step(description):
            progress.update(task, description=description)
            progress.advance(task)

        step("compiling nested loops, batch %d, hidden %d" % nested)
        try:
            loops = layer_timing.measure_nested_loops(nested[0], dims, nested[1])
        except layer_timing.ContenderFailed as failure:
            loops = {"failed": str(failure)}
        rows = layer_timing.measure(ways, batch, dims, hidden, rounds=rounds, step=step)

    failures += [row["failed"] for row in [loops, *rows.values()] if "failed" in row]
    table = _table(
        "",
        "compile\ns",
        "forward\nms",
        "with\ngradient\nms",
        "speed-up\nforward",
        "speed-up\nwith\ngradient",
        "peak\nmemory\nMB",
        "cores\nbusy",
    )
    table.add_row("nested loops *", *["-"] * 7)
    for way, row in rows.items():
        if "failed" in row:
            table.add_row(way, "failed")
            continue
        table.add_row(
            way,
            "%.1f" % row["compile_seconds"],
            *["%.2f" % (1e3 * row[task]["seconds"]) for task in layer_timing.TASKS],
            *[_speed_up(row, rows[OURS], task) for task in layer_timing.TASKS],
            "%.1f" % (row["peak_bytes"] / 1e6),
            "%.1f" % row[layer_timing.GRADIENT]["cores"],
        )
    console.print(table)
    if "failed" not in loops:
        console.print(_extrapolated(loops, nested, (batch, hidden)))
    console.print(
        "Compile: both functions, with what Theano's cache held already. Times: fastest call. "
        "Speed-up: of rbf_kernel over this way. Peak memory, cores: of forward with gradient; "
        "memory above what the process held before; a core that spins while it waits is busy.\n"
    )
    _say_if_busy(console, "used", others.cores)
    return rows


def show_digits(console, failures):
    """Part 3: one network on the node and one on plain Theano, from the same start."""
    console.print("[bold]3. An RBF network learns to read[/bold]  (scikit-learn's digits, float32)")
    console.print("   %d centres, their widths and output weights: all learned." % digits.CENTRES)
    data = digits.load()
    networks = {}
    with _progress(console) as progress:
        task = progress.add_task("", total=2)
        for name, hidden in (("rbf_kernel", digits.fused_hidden), ("plain", digits.plain_hidden)):
            progress.update(task, description="compiling the network, %s" % name)
            networks[name] = digits.Network(hidden, data, digits.CENTRES)
            progress.advance(task)

    console.print("\n epoch       loss   test accuracy   loss of the same in plain Theano")
    curves = {name: [] for name in networks}
    with usage.OtherPrograms() as others, _progress(console) as progress:
        task = progress.add_task("training", total=EPOCHS)
        for both in zip(*[digits.train(network, EPOCHS) for network in networks.values()]):
            for name, epoch in zip(networks, both):
                curves[name].append(epoch)
            ours, plain = both
            progress.update(
                task,
                advance=1,
                description="loss %.4f, accuracy %.1f %%" % (ours.loss, 100 * ours.accuracy),
            )
            if ours.number == 1 or ours.number % 5 == 0 or ours.number == EPOCHS:
                console.print(
                    "%6d   %8.4f   %11.1f %%   %16.4f"
                    % (ours.number, ours.loss, 100 * ours.accuracy, plain.loss)
                )

    accuracy = curves["rbf_kernel"][-1].accuracy
    first = [np.concatenate([e.losses for e in curve])[:SAME_STEPS] for curve in curves.values()]
    apart = question.relative_error(first[0], first[1])
    milliseconds = {
        name: 1e3 * min(epoch.seconds for epoch in curve) for name, curve in curves.items()
    }
    if not accuracy >= ACCURACY:
        failures.append(
            "digits: accuracy %.1f %% is below %.0f %%" % (100 * accuracy, 100 * ACCURACY)
        )
    if not apart <= SAME_LOSS:
        failures.append("digits: the losses of both networks differ by %.1e" % apart)
    console.print()
    console.print(
        "test accuracy %.1f %% (at least %.0f %% required) %s"
        % (100 * accuracy, 100 * ACCURACY, _mark(accuracy >= ACCURACY))
    )
    console.print(
        "loss of the first %d steps: same as in plain Theano to %.0e %s"
        % (len(first[0]), apart, _mark(apart <= SAME_LOSS))
    )
    console.print(
        "fastest epoch: %.1f ms with rbf_kernel, %.1f ms in plain Theano (norm expansion)"
        % (milliseconds["rbf_kernel"], milliseconds["plain"])
    )
    _say_if_busy(console, "used", others.cores)


def _extrapolated(loops, measured, wanted):
    entries, all_entries = [size[0] * size[1] for size in (measured, wanted)]
    compiling, calling = loops["compile_seconds"], loops["forward"]["seconds"]
    times = all_entries / entries
    return (
        "* At batch %d, hidden %d (%d entries) the nested loops compile in %.1f s and take %.2f ms "
        "forward. In proportion (extrapolated, not measured) the %s entries here would need "
        "%s hours to compile and %s s a call."
        % (
            measured
            + (entries, compiling, 1e3 * calling, "{:,}".format(all_entries).replace(",", " "))
            + (_two_digits(times * compiling / 3600), _two_digits(times * calling))
        )
    )


def _two_digits(value):
    return "%.0f" % value if value >= 10 else "%.2g" % value


def _speed_up(row, ours, task):
    if row is ours or "failed" in ours:
        return ""
    ratio = row[task]["seconds"] / ours[task]["seconds"]
    return ("%.1f x" if ratio >= 0.1 else "%.2g x") % ratio


def _others_now():
    with usage.OtherPrograms() as others:
        time.sleep(0.5)
    return others.cores


def _say_if_busy(console, verb, others):
    """Warns that the times are not those of a quiet machine, if others take a quarter of it."""
    cores = os.cpu_count() or 1
    if others < cores / 4:
        return
    advice = " OMP_WAIT_POLICY=passive before the command lessens that."
    console.print(
        "[yellow]Other programs %s %.1f of the %d core(s)[/yellow]: times and speed-ups are not "
        "those of a quiet machine, and threads that wait for each other suffer most.%s\n"
        % (verb, others, cores, "" if "OMP_WAIT_POLICY" in os.environ else advice)
    )


def _mark(good):
    return "[green]ok[/green]" if good else "[red]FAILED[/red]"


def _table(*headings, labels=1):
    """A table whose first `labels` columns hold words and the others numbers."""
    table = Table(box=box.SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number < labels else "right", no_wrap=True)
    return table


def _progress(console):
    return Progress(
        BarColumn(20),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
