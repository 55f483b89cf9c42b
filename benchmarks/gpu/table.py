"""The results: a row for each thing that is computed, with others' times beside ours; the table.

May import contenders and limits; rich. The stopwatch, which has the times, is given.
"""

from rich.console import Console
from rich.table import Table

from benchmarks.gpu.contenders import OURS
from benchmarks.gpu.limits import Time, floors


def seconds(value):
    if isinstance(value, str):
        return value
    for unit, factor in (("s", 1), ("ms", 1e3), ("us", 1e6)):
        if value * factor >= 1 or unit == "us":
            return "%.3g %s" % (value * factor, unit)


def measure(stopwatch, problem, calls, rates, results):
    """Append what is timed of a problem to `results`, as the times come; others beside ours.

    rates: of limits_or_word.
    """
    floor = {} if isinstance(rates, str) else floors(rates, problem)
    sizes = dict(dtype=problem.dtype, n=problem.n, d=problem.d, p=problem.p)
    found = {r["what"]: r for r in results if sizes.items() <= r.items()}
    for what, name, timed in stopwatch.rows(problem, floor, calls):
        taken, host = timed if isinstance(timed, Time) else (timed, None)
        if name == OURS:
            found[what] = dict(
                sizes, what=what, seconds=taken, host=host, floor=floor.get(what, rates),
                others={}, others_host={},
            )  # fmt: skip
            results.append(found[what])
        else:
            found[what]["others"][name] = taken
            found[what]["others_host"][name] = host


def show(title, results, notes):
    """Print the table, and below it why other libraries failed."""
    table = Table(title=title)
    for heading in ("problem", "what", "ours", "host", "% of floor", "others"):
        table.add_column(heading)
    for row in results:
        if "what" not in row:
            continue
        ours, floor = row["seconds"], row["floor"]
        share = floor if isinstance(floor, str) else ""
        if not (share or isinstance(ours, str)):
            share = "%.0f" % (100 * floor / ours)
        table.add_row(
            "{dtype} n={n} d={d} p={p}".format(**row), row["what"], seconds(ours),
            "" if row["host"] is None else seconds(row["host"]), share,
            ", ".join("%s %s" % (k, seconds(t)) for k, t in row["others"].items()),
        )  # fmt: skip
    console = Console()
    if table.row_count:
        console.print(table)
    for failed, why in notes.items():
        console.print("%s: %s" % (failed, why), markup=False, highlight=False)
