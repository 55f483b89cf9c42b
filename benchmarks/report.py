"""Records of a run as tables for the terminal, as CSV and JSON.

A comparison is made of the least time of each contender: ratios of minima in one run are what noise
disturbs least. May import cells, ceilings, floors; rich.
"""

import csv
import json
import math
import statistics

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks import ceilings, floors
from benchmarks.cells import Cell

# From this n on, cells count towards the geometric means.
LARGE = 2000


class Results:
    """The records of a run, and what follows from them.

    run: {"machine": {...}, "threads": number, "ceilings": {...} or None, "groups": {name:
    [record, ...]}}; the ceilings are those of that number of threads.
    """

    def __init__(self, run):
        self.run = run
        rates = run["ceilings"]
        self.groups = {}
        for group, records in run["groups"].items():
            limits = _limits(records)
            self.groups[group] = [
                Entry(r, rates if r["threads"] == run["threads"] else None, limits) for r in records
            ]

    def sections(self, group):
        """(task, dtype, cells, entries) of every task and dtype of a group, in order."""
        entries = self.groups.get(group, [])
        found = []
        for entry in entries:
            if (entry.cell.task, entry.cell.dtype) not in found:
                found.append((entry.cell.task, entry.cell.dtype))
        for task, dtype in found:
            chosen = [e for e in entries if (e.cell.task, e.cell.dtype) == (task, dtype)]
            yield task, dtype, list(dict.fromkeys(e.cell for e in chosen)), chosen

    def find(self, group, cell, key="rbf_op", threads=None):
        """The measured entry of a contender in a cell, or None."""
        for entry in self.groups.get(group, []):
            if (entry.cell, entry.key) == (cell, key) and threads in (None, entry.threads):
                return entry if entry.ok else None
        return None


def _limits(records):
    """(cell, threads) -> {variant: least seconds} of the contenders with that role."""
    found = {}
    for record in records:
        if record["role"] == "limit" and record["status"] == "ok" and record["seconds"]:
            place = found.setdefault((Cell(**record["cell"]), record["threads"]), {})
            place[record["key"].partition("-")[2]] = min(record["seconds"])
    return found


class Entry:
    """One contender in one cell. limits: as _limits gives them."""

    def __init__(self, record, rates, limits):
        self.record = record
        self.cell = Cell(**record["cell"])
        self.key, self.label, self.role = record["key"], record["label"], record["role"]
        self.threads = record["threads"]
        self.status = record["status"]
        self.ok = self.status == "ok" and bool(record["seconds"])
        self.least = min(record["seconds"]) if self.ok else None
        self.median = statistics.median(record["seconds"]) if self.ok else None
        self.mean = statistics.mean(record["seconds"]) if self.ok else None
        self.floor = floors.floor(self.cell, rates, limits.get((self.cell, self.threads)))


def best_peer(entries, cell):
    """The fastest correct peer in a cell, or None."""
    peers = [e for e in entries if e.cell == cell and e.role == "peer" and e.ok]
    return min(peers, key=lambda entry: entry.least, default=None)


def ours(entries, cell):
    """The package's own entry in a cell, or None."""
    return next((e for e in entries if e.cell == cell and e.role == "ours" and e.ok), None)


def geometric_mean(values):
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None


def milliseconds(seconds):
    """Three digits, in milliseconds: "0.00523", "28.5", "1320"."""
    value = seconds * 1e3
    digits = max(0, min(5, 2 - math.floor(math.log10(value)))) if value > 0 else 0
    return "%.*f" % (digits, value)


def comparison(cells, entries):
    """A row for each cell: the texts of COMPARISON, "-" for what is not known."""
    rows = []
    for cell in cells:
        own, peer = ours(entries, cell), best_peer(entries, cell)
        floor = own.floor if own else None
        rows.append(
            (
                cell.size,
                milliseconds(own.least) if own else "-",
                milliseconds(peer.least) if peer else "-",
                peer.label if peer else "-",
                "%.1f" % (peer.least / own.least) if own and peer else "-",
                milliseconds(floor.seconds) if floor else "-",
                floor.bound if floor else "-",
                "%.0f%%" % (100 * floor.seconds / own.least) if floor else "-",
            )
        )
    return rows


COMPARISON = ("n, m, d", "rbf_op", "peer", "best peer", "ratio", "floor", "bound", "share")


def mean_in_words(cells, entries):
    """A sentence on best peer / ours in the large, not symmetric cells of a table; or None."""
    ratios = []
    for cell in cells:
        own, peer = ours(entries, cell), best_peer(entries, cell)
        if cell.n >= LARGE and not cell.symmetric and own and peer:
            ratios.append(peer.least / own.least)
    mean = geometric_mean(ratios)
    left_out = ", y=x left out" * any(cell.symmetric for cell in cells)
    return mean and "Geometric mean of the ratios from n = %d up%s: %.1f." % (LARGE, left_out, mean)


def detail(cells, entries):
    """Rows of all contenders: label, then least milliseconds of each cell (or why not)."""
    rows = []
    for key in dict.fromkeys(e.key for e in entries):
        of_key = {e.cell: e for e in entries if e.key == key}
        texts = []
        for cell in cells:
            entry = of_key.get(cell)
            short = {"too slow": "slow", "too large": "large"}
            if entry is None:
                texts.append("")
            elif entry.ok:
                texts.append(milliseconds(entry.least))
            else:
                texts.append(short.get(entry.status, entry.status))
        rows.append([next(iter(of_key.values())).label] + texts)
    return rows


def versions(entries):
    """Who was measured: one text for each library, without those that another text begins or ends
    with.
    """
    texts = dict.fromkeys(e.record["version"] for e in entries if e.record.get("version"))
    return [t for t in texts if not any(t != u and t in u for u in texts)]


def reasons(entries):
    """Lines that say who is missing, wrong, failed or too slow, and why; each once."""
    found = {}
    for entry in entries:
        if entry.status == "missing":
            found.setdefault("%s: missing. %s" % (entry.label, entry.record["reason"]), [])
        elif entry.status in ("too slow", "too large"):
            found.setdefault("%s: %s" % (entry.label, entry.status), []).append(entry.cell)
        elif entry.status != "ok":
            line = "%s: %s, %s" % (entry.label, entry.status, entry.record["reason"])
            found.setdefault(line, []).append(entry.cell)
    return [line + (" (%s)" % _sizes(cells) if cells else "") for line, cells in found.items()]


def _sizes(cells):
    return "; ".join("%s %s %s" % (c.task, c.size, c.dtype) for c in cells)


# What the package is meant to reach, as `targets` compares it with what was measured.
FORWARD_RATIO, FORWARD_MEAN = 2, 4
GRADIENT_RATIO, GRADIENT_MEAN = 3, 6
SHARE_OF_FLOOR = 0.75
GRADIENT_OVER_FORWARD = 3
SYMMETRIC_OVER_FULL = 0.6
TWO_THREADS, THREADS_FROM = 1.85, 1000
OVERHEAD_MICROSECONDS = 3
OVER_KEOPS, OVER_OTHERS, PRODUCT_GRADIENT = 4, 2, 4

PRODUCTS, KEOPS = ("product", "product-large"), "dot-keops"

# Over both precisions and y=x too, which mean_in_words has by themselves or not at all.
MEAN_OF_ALL = "geometric mean, all"

# "at the floor": what would be measured if rbf_op took no longer than the floor.
TARGETS = ("", "n, m, d", "measured", "target", "at the floor", "")

_KIND = {
    "kernel": "K",
    "gradient": "gradient",
    "product": "K @ W",
    "product gradient": "gradient of K @ W",
}


def targets(results):
    """Rows of TARGETS; last "met", "not met", or "limit" if it would not be met at the floor."""
    return (
        _against_peers(results, "kernel", FORWARD_RATIO, FORWARD_MEAN)
        + _against_floor(results)
        + _against_peers(results, "gradient", GRADIENT_RATIO, GRADIENT_MEAN)
        + _against_itself(results)
        + _with_threads(results)
        + _with_a_core_busy(results)
        + _of_products(results)
    )


def _row(what, size, value, bound, relation, at_floor):
    def is_met(reached):
        return reached >= bound if relation == ">=" else reached <= bound

    verdict = "met" if is_met(value) else "not met"
    if at_floor is not None and not is_met(value) and not is_met(at_floor):
        verdict = "limit"
    text = "" if at_floor is None else "%.2f" % at_floor
    return (what, size, "%.2f" % value, "%s %.2f" % (relation, bound), text, verdict)


def _at_least(what, size, value, bound, at_floor=None):
    return _row(what, size, value, bound, ">=", at_floor)


def _at_most(what, size, value, bound, at_floor=None):
    return _row(what, size, value, bound, "<=", at_floor)


def _over(seconds, entry):
    """So many seconds over the floor of an entry, or None."""
    return seconds / entry.floor.seconds if entry.floor else None


def _time_over(what, own, other, bound):
    """The row of our time in a cell over that in another, which should be no more than bound."""
    at_floor = own.floor.seconds / other.least if own.floor else None
    return _at_most(what, own.cell.size, own.least / other.least, bound, at_floor)


def _against_peers(results, task, bound, mean_bound):
    rows, ratios, best = [], [], []
    for found, dtype, cells, entries in results.sections("grid"):
        for cell in cells:
            own, peer = ours(entries, cell), best_peer(entries, cell)
            if found == task and cell.n >= LARGE and own and peer:
                ratios.append(peer.least / own.least)
                best.append(_over(peer.least, own))
                what = "best peer, %s, %s" % (_KIND[task], dtype)
                rows.append(_at_least(what, cell.size, ratios[-1], bound, best[-1]))
    if rows:
        what = "best peer, %s" % _KIND[task]
        at_floor = None if None in best else geometric_mean(best)
        rows.append(_at_least(what, MEAN_OF_ALL, geometric_mean(ratios), mean_bound, at_floor))
    return rows


def _against_floor(results):
    """Against the largest of what arithmetic, exponentials and memory take by themselves."""
    rows = []
    for task, dtype, cells, entries in results.sections("grid"):
        for cell in cells if task == "kernel" else ():
            own = ours(entries, cell)
            if cell.n >= LARGE and own and own.floor and own.floor.single[1] != "memory":
                seconds, name = own.floor.single
                rows.append(
                    _at_least(
                        "floor (%s), K, %s" % (name, dtype),
                        cell.size,
                        seconds / own.least,
                        SHARE_OF_FLOOR,
                        _over(seconds, own),
                    )
                )
    return rows


def _against_itself(results):
    gradients, halves, overheads = [], [], []
    for task, dtype, cells, _entries in results.sections("grid"):
        for cell in cells:
            own = results.find("grid", cell)
            if own is None:
                continue
            forward = results.find("grid", cell._replace(task="kernel"))
            if task == "gradient" and forward and cell.n >= LARGE:
                what = "gradient / K, %s" % dtype
                gradients.append(_time_over(what, own, forward, GRADIENT_OVER_FORWARD))
            full = results.find("grid", cell._replace(symmetric=False))
            if cell.symmetric and full:
                what = "y=x / y given, %s, %s" % (_KIND[task], dtype)
                halves.append(_time_over(what, own, full, SYMMETRIC_OVER_FULL))
            empty = results.find("grid", cell, "theano-empty")
            if empty:
                microseconds = 1e6 * (own.least - empty.least)
                what = "us over an empty call, %s" % dtype
                overheads.append(_at_most(what, cell.size, microseconds, OVERHEAD_MICROSECONDS))
    return gradients + halves + overheads


def _with_threads(results):
    rows = []
    for task, dtype, cells, _entries in results.sections("threads"):
        for cell in cells:
            one, two = (results.find("threads", cell, threads=threads) for threads in (1, 2))
            if one and two and cell.n >= THREADS_FROM:
                what = "1 / 2 threads, %s, %s" % (_KIND[task], dtype)
                rows.append(_at_least(what, cell.size, one.least / two.least, TWO_THREADS))
    return rows


def _with_a_core_busy(results):
    """Means: the least time is one in which the scheduler has been kind, and so are most of short
    calls."""
    rows = []
    for task, dtype, cells, _entries in results.sections("busy"):
        for cell in cells:
            free, busy = (results.find("busy", cell, key) for key in ("rbf_op", "rbf_op-busy"))
            if free and busy:
                what = "busy / free, %s, %s" % (_KIND[task], dtype)
                # Half a core fewer, if all wait alike.
                shared = "(%.2f)" % (free.threads / (free.threads - 0.5))
                rows.append((what, cell.size, "%.2f" % (busy.mean / free.mean), shared, "", ""))
    return rows


def _of_products(results):
    """Against KeOps, against the best of the others, gradients against the product alone."""
    against_keops, against_others, gradients = [], [], []
    for group in PRODUCTS:
        for task, _dtype, cells, entries in results.sections(group):
            kind = _KIND[task]
            for cell in cells:
                own = ours(entries, cell)
                if own is None:
                    continue
                peers = [e for e in entries if e.cell == cell and e.role == "peer"]
                keops = [e for e in peers if e.key == KEOPS]
                others = [e for e in peers if e.key != KEOPS]
                against_keops += _against(keops, own, "KeOps, %s" % kind, OVER_KEOPS)
                what = "best peer but KeOps, %s" % kind
                against_others += _against(others, own, what, OVER_OTHERS)
                forward = results.find(group, cell._replace(task="product"), own.key)
                if task == "product gradient" and forward:
                    what = "%s / K @ W" % kind
                    gradients.append(_time_over(what, own, forward, PRODUCT_GRADIENT))
    return against_keops + against_others + gradients


def _against(peers, own, what, target):
    """The row of the fastest of some entries; none if nothing is known of any.

    Of a call that was given up, or not made, it is known what it takes at least.
    """

    def takes(entry):
        return entry.least if entry.ok else entry.record["first"]

    known = [e for e in peers if e.ok or (e.status == "too slow" and "first" in e.record)]
    if not known:
        return []
    peer = min(known, key=takes)
    seconds = takes(peer)
    row = _at_least(what, own.cell.size, seconds / own.least, target, _over(seconds, own))
    if peer.ok:
        return [row]
    # More than that, which may not say enough.
    verdict = "met" if row[-1] == "met" else "not known"
    return [row[:2] + ("> " + row[2], row[3], "", verdict)]


GROUPS_WITH_PEERS = ("grid", "product", "product-large")

TITLES = {
    "kernel": "K",
    "gradient": "sum(K * G) and its gradients for x, y, gamma",
    "product": "K @ W",
    "product gradient": "sum((K @ W) * H) and its gradients for x, y, gamma, W",
}


def show(results, console=None):
    """All tables on the terminal, at most 80 columns wide."""
    console = console or Console(highlight=False)
    width = min(80, console.width)
    for group in GROUPS_WITH_PEERS:
        for task, dtype, cells, entries in results.sections(group):
            title = "%s, %s, milliseconds" % (TITLES[task], dtype)
            for part in _parts(cells, 7):
                _show_detail(console, width, title, part, entries)
            _show_comparison(console, width, cells, entries)
    for group in ("growth-n", "growth-d"):
        for task, dtype, cells, entries in results.sections(group):
            title = "%s, %s, milliseconds" % (TITLES[task], dtype)
            for part in _parts(cells, 8):
                _show_detail(console, width, title, part, entries)
    rows = targets(results)
    if rows:
        table = _table("What rbf_op is meant to reach", width)
        for i, name in enumerate(TARGETS):
            width_needed = max(len(row[i]) for row in rows) if i else None
            right = name in ("measured", "at the floor")
            table.add_column(
                name, justify="right" if right else "left", no_wrap=i > 0, min_width=width_needed
            )
        for row in rows:
            table.add_row(*row, style="yellow" if row[-1] == "not met" else None)
        console.print(table)
    for group in results.groups:
        for line in reasons(results.groups[group]):
            console.print(line, style="yellow", markup=False, width=width)


def _parts(cells, size):
    return [cells[first : first + size] for first in range(0, len(cells), size)]


def _table(title, width):
    return Table(
        title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left", width=width
    )


def _show_detail(console, width, title, cells, entries):
    table = _table(title, width)
    lines = 4 if any(cell.p or cell.symmetric for cell in cells) else 3
    table.add_column("\n".join(["n", "m", "d", ""][:lines]), no_wrap=True)
    for cell in cells:
        last = "p=%d" % cell.p if cell.p else "y=x" if cell.symmetric else ""
        heads = [str(cell.n), str(cell.m), str(cell.d), last][:lines]
        table.add_column("\n".join(heads), justify="right", no_wrap=True)
    for row in detail(cells, [e for e in entries if e.cell in cells]):
        table.add_row(*row, style="bold" if row[0] == "rbf_op" else None)
    console.print(table)


def _show_comparison(console, width, cells, entries):
    table = _table(None, width)
    longest = max(len(cell.size.split()[0]) for cell in cells)
    for name in COMPARISON:
        left = name in ("n, m, d", "best peer", "bound")
        table.add_column(
            name,
            justify="left" if left else "right",
            no_wrap=not left,
            min_width=longest if name == "n, m, d" else None,
        )
    for row in comparison(cells, entries):
        table.add_row(*row)
    console.print(table)
    mean = mean_in_words(cells, entries)
    if mean:
        console.print(mean + "\n")


def write_json(run, path):
    with open(path, "w") as file:
        json.dump(run, file)


def read_json(paths):
    """The run in a file, with the groups of the other files added, and the best of their ceilings.

    Where two files have a contender in the same cell, the later file counts, in the place of the
    earlier. Raises ValueError where runs had other numbers of threads, or other processors: neither
    their ceilings nor their times can be compared.
    """
    runs = []
    for path in paths:
        with open(path) as file:
            runs.append(json.load(file))
    for path, run in zip(paths[1:], runs[1:]):
        if run["threads"] != runs[0]["threads"]:
            counts = run["threads"], runs[0]["threads"]
            raise ValueError("%s has been measured with %d threads, not %d." % ((path,) + counts))
        names = [each["machine"].get("processor", "unknown") for each in (run, runs[0])]
        if names[0] != names[1]:
            raise ValueError(
                "%s has been measured on another processor: %s, not %s." % (path, *names)
            )
        for group, records in run["groups"].items():
            both = runs[0]["groups"].get(group, []) + records
            runs[0]["groups"][group] = list({_place(record): record for record in both}.values())
        if runs[0]["ceilings"] and run["ceilings"]:
            runs[0]["ceilings"] = ceilings.larger(runs[0]["ceilings"], run["ceilings"])
    return runs[0]


def _place(record):
    return record["key"], record["threads"], json.dumps(record["cell"])


COLUMNS = ("group", "key", "label", "threads", "task", "n", "m", "d", "p", "symmetric", "dtype")
COLUMNS += ("status", "reason", "least_s", "median_s", "measurements", "error", "tolerance")
COLUMNS += ("peak_bytes", "ratio_to_rbf_op", "floor_s", "bound_by", "share_of_floor")
COLUMNS += ("arithmetic_s", "exp_s", "both_s", "memory_s", "pages_s", "version")


def write_csv(results, path):
    """One line for each contender and cell; empty where there is nothing to say."""
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        for group, entries in results.groups.items():
            for entry in entries:
                writer.writerow(_csv_row(group, entry, ours(entries, entry.cell)))


def _csv_row(group, entry, own):
    record = entry.record
    row = dict(entry.cell._asdict(), group=group)
    for name in ("key", "label", "threads", "status", "reason", "error", "tolerance"):
        row[name] = record.get(name, "")
    row.update(peak_bytes=record.get("peak_bytes", ""), version=record.get("version", ""))
    if entry.ok:
        row.update(
            least_s="%.4g" % entry.least,
            median_s="%.4g" % entry.median,
            measurements=len(record["seconds"]),
        )
        if own:
            row["ratio_to_rbf_op"] = "%.4g" % (entry.least / own.least)
        if entry.floor:
            row["share_of_floor"] = "%.3g" % (entry.floor.seconds / entry.least)
    if entry.floor:
        row.update(floor_s="%.4g" % entry.floor.seconds, bound_by=entry.floor.bound)
        row.update({name + "_s": "%.4g" % part for name, part in entry.floor.parts.items()})
    return row
