"""Puts the numbers and figures of a run into docs/: tables between markers, PNG files.

May import report, figures, environments, cells; the standard library.
"""

import os
import re

from benchmarks import environments, figures, report
from benchmarks.cells import DTYPES

DOCS = os.path.join(environments.ROOT, "docs")
FIGURES = os.path.join(DOCS, "figures")
# A machine each.
PAGES = ("performance", "performance-zen5", "performance-xeon", "performance-avx2")
_NOT_MEASURED = "Not measured in this run.\n"


def publish(results, page):
    """Rewrite what stands between `<!-- measured: NAME -->` and `<!-- end -->` in one of PAGES.

    The figures of growth come from runs of their own: without growth in this one they stay, and
    with nothing else all else does. Returns the path of the page.
    """
    os.makedirs(FIGURES, exist_ok=True)
    drawn = figures.draw(results, FIGURES, page)
    path = os.path.join(DOCS, page + ".md")
    with open(path, encoding="utf-8") as file:
        text = file.read()
    blocks = {
        "machine": _machine(results),
        "ceilings": _ceilings(results),
        "comparison": _comparisons(results, "grid"),
        "contenders": _details(results, "grid"),
        "targets": _markdown(report.TARGETS, report.targets(results)),
        "product": "".join(
            _comparisons(results, group) + _details(results, group)
            for group in ("product", "product-large")
            if group in results.groups
        )
        or _NOT_MEASURED,
        "figures": _images(drawn, ("speedup", "threads")),
        "growth": _images(drawn, ("n", "d")),
    }
    growing = [group for group in results.groups if group.startswith("growth")]
    if len(growing) == len(results.groups):
        blocks = {"growth": blocks["growth"]}
    elif not growing:
        del blocks["growth"]
    for name, block in blocks.items():
        pattern = r"(<!-- measured: %s -->\n).*?(<!-- end -->)" % name
        text, found = re.subn(
            pattern, lambda m, b=block: m.group(1) + b + m.group(2), text, flags=re.S
        )
        if not found:
            raise ValueError("%s has no place for %r." % (path, name))
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def _images(drawn, kinds):
    names = [os.path.basename(path)[:-4] for path in drawn]
    return "".join(
        "![%s](figures/%s.png)\n" % (name, name) for name in names if name.split("-")[-1] in kinds
    )


def _markdown(names, rows):
    if not rows:
        return _NOT_MEASURED
    lines = ["| %s |" % " | ".join(names), "|%s" % ("---|" * len(names))]
    return "\n".join(lines + ["| %s |" % " | ".join(row) for row in rows]) + "\n"


def _machine(results):
    return _markdown(("", ""), list(results.run["machine"].items()))


def _ceilings(results):
    ceilings = results.run["ceilings"]
    if ceilings is None:
        return _NOT_MEASURED
    rates = dict(ceilings["arithmetic"], exponentials=ceilings["exponential"])
    rows = [[d] + ["%.1f" % (1e-9 * rate[d]) for rate in rates.values()] for d in DTYPES]
    heads = ["1e9 / s"] + [name.replace("_", "-") for name in rates]
    text = _markdown(heads, rows) + "\n"
    names = ("stores", "streams", "loads", "pages", "huge_pages")
    rows = []
    for size, rates in ceilings["memory"].items():
        row = ["%.1f MB" % (int(size) / 1e6)]
        rows.append(row + ["%.1f" % (1e-9 * rates[name]) for name in names])
    return text + _markdown(
        ("array, GB / s", "stores", "streaming stores", "loads", "new pages", "new huge pages"),
        rows,
    )


def _comparisons(results, group):
    text = ""
    for task, dtype, cells, entries in results.sections(group):
        text += "\n**%s, %s** (milliseconds)\n\n" % (report.TITLES[task], dtype)
        text += _markdown(report.COMPARISON, report.comparison(cells, entries))
        mean = report.mean_in_words(cells, entries)
        if mean:
            text += "\n%s\n" % mean
    return text or _NOT_MEASURED


def _details(results, group):
    text = ""
    for task, dtype, cells, entries in results.sections(group):
        text += "\n**%s, %s** (milliseconds)\n\n" % (report.TITLES[task], dtype)
        names = [""] + [cell.size for cell in cells]
        text += _markdown(names, report.detail(cells, entries))
    entries = results.groups.get(group, [])
    if report.versions(entries):
        text += "\n%s.\n" % "; ".join(report.versions(entries))
    notes = report.reasons(entries)
    return text + "".join(
        "\n- " * (i == 0) + "- " * (i > 0) + n + "\n" for i, n in enumerate(notes)
    )
