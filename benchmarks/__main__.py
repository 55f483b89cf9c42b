"""Command line: python -m benchmarks measures, shows tables, writes CSV, JSON and figures.

Builds the environments of contenders that need one of their own first. May import everything here;
click, rich.
"""

import os
import time

import click
from rich.console import Console

from benchmarks import (
    ceilings,
    cells,
    environments,
    figures,
    floors,
    machine,
    publish,
    report,
    runner,
)
from benchmarks.contenders import ALL, BY_KEY

FULL = runner.Settings(rounds=6, seconds=0.3, limit=4.0)
QUICK = runner.Settings(rounds=4, seconds=0.1, limit=2.0)


def _choice(known, usual=None):
    """A click callback that splits a comma-separated list and refuses unknown names."""

    def check(context, parameter, value):
        names = [name.strip() for name in value.split(",")] if value else list(usual or known)
        unknown = [name for name in names if name not in known]
        if unknown:
            raise click.BadParameter(
                "no %s; there are %s." % (", ".join(unknown), ", ".join(known))
            )
        return names

    return check


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--cells",
    "groups",
    callback=_choice(list(cells.GROUPS), cells.USUAL),
    help="Groups of cells, comma-separated: %s (default: all but product-large, which takes an "
    "hour)." % ", ".join(cells.GROUPS),
)
@click.option(
    "--contenders",
    "keys",
    callback=_choice(list(BY_KEY)),
    help="Contenders, comma-separated, as in the CSV (default: all).",
)
@click.option(
    "--only",
    multiple=True,
    help='Cells with such words, like "product 30000x30000x10", of the groups; the rest another '
    "time (see --from).",
)
@click.option("--quick", is_flag=True, help="Fewer and smaller cells, float32, fewer calls.")
@click.option("--rounds", type=click.IntRange(1), help="Rounds over the contenders of a cell.")
@click.option("--seconds", type=float, help="For each contender and cell, over all rounds.")
@click.option("--limit", type=float, help="Seconds a call, above which a contender is given up.")
@click.option(
    "--threads", type=click.IntRange(1), default=machine.cores, help="Default: all processors."
)
@click.option(
    "--output",
    type=click.Path(file_okay=False),
    default=os.path.join(environments.ROOT, "build", "benchmarks"),
    help="Folder of results.json, results.csv and figures (default: build/benchmarks).",
)
@click.option(
    "--from",
    "sources",
    type=click.Path(exists=True, dir_okay=False),
    multiple=True,
    help="Show the results.json of an earlier run instead of measuring. More than one: their "
    "cells together.",
)
@click.option(
    "--publish",
    "page",
    type=click.Choice(publish.PAGES),
    help="Put the results into this page of docs/; there is one for each machine.",
)
def main(groups, keys, only, quick, rounds, seconds, limit, threads, output, sources, page):
    """Measure rbf_op against other libraries and against the machine's ceilings."""
    console = Console(highlight=False)
    if sources:
        try:
            results = report.Results(report.read_json(sources))
        except ValueError as error:
            raise click.BadParameter(str(error)) from None
    else:
        settings = QUICK if quick else FULL
        given = {"rounds": rounds, "seconds": seconds, "limit": limit}
        settings = settings._replace(**{k: v for k, v in given.items() if v is not None})
        wanted = _wanted(groups, only, quick)
        run = _measure(console, wanted, keys, threads, settings)
        results = report.Results(run)
        os.makedirs(output, exist_ok=True)
        report.write_json(run, os.path.join(output, "results.json"))
        report.write_csv(results, os.path.join(output, "results.csv"))
        figures.draw(results, output)
    for name, text in results.run["machine"].items():
        console.print("%-12s %s" % (name, text), markup=False)
    console.print()
    report.show(results, console)
    if not sources:
        console.print("\nAll numbers and figures: %s" % os.path.relpath(output), markup=False)
    if page:
        path = publish.publish(results, page)
        console.print("Written to %s" % os.path.relpath(path), markup=False)


def _measure(console, wanted, keys, threads, settings):
    """The run, as report.Results takes it; wanted: group -> its cells."""
    chosen = [c for c in ALL if c.key in keys and set(c.groups) & set(wanted)]
    missing = _build_environments(console, chosen)
    run = {"machine": machine.describe(threads), "threads": threads, "groups": {}}
    cells_with_floor = [c for found in wanted.values() for c in found if floors.applies(c)]
    sizes = {floors.matrix_bytes(c) for c in cells_with_floor} - {0}
    start = time.time()
    with runner.Stage() as stage, console.status("") as status:
        status.update("ceilings of the machine")
        run["ceilings"] = _ceilings(console, threads, sizes)
        for group, found in wanted.items():
            entered = [c for c in chosen if group in c.groups]
            counts = _thread_counts(threads) if group == "threads" else [threads]
            run["groups"][group] = runner.measure(
                stage,
                found,
                [(c, count) for c in entered for count in counts],
                settings,
                missing,
                tell=lambda text, group=group: status.update("%s %s" % (group, text)),
            )
            console.print("%-13s done after %4.0f s" % (group, time.time() - start))
        # Once more: the better of the two is the less disturbed.
        run["ceilings"] = _ceilings(console, threads, sizes, run["ceilings"])
    console.print()
    return run


def _wanted(groups, only, quick):
    """group -> its cells that have one of the given words; refuses words that no cell has."""
    found = {group: cells.GROUPS[group](quick) for group in groups}
    texts = list(dict.fromkeys(_words(cell) for group in groups for cell in found[group]))
    unknown = [words for words in only if not any(words in text for text in texts)]
    if unknown:
        raise click.BadParameter(
            'no cell has "%s"; of %s there are: %s.'
            % ('", "'.join(unknown), ", ".join(groups), "; ".join(texts)),
            param_hint="--only",
        )
    return {group: _selected(found[group], only) for group in groups}


def _selected(found, only):
    """The cells whose task and size have one of the given words; all if none are given."""
    return [c for c in found if not only or any(words in _words(c) for words in only)]


def _words(cell):
    return "%s %s %s" % (cell.task, cell.size, cell.dtype)


def _ceilings(console, threads, sizes, earlier=None):
    """The ceilings, each the better of now and earlier; None if they cannot be had."""
    try:
        return ceilings.measure(threads, sizes, earlier)
    except ceilings.Unavailable as error:
        console.print("No ceilings: %s" % error, markup=False)
        return None


def _thread_counts(threads):
    """1, 2, 4, ... and all of them."""
    counts = {threads}
    count = 1
    while count < threads:
        counts.add(count)
        count *= 2
    return sorted(counts)


def _build_environments(console, chosen):
    """key -> why its environment cannot be had, for those that have none."""
    missing = {}
    for name in dict.fromkeys(c.environment for c in chosen if c.environment):
        if environments.is_ready(name):
            continue
        with console.status("setting up %s, this once" % environments.folder(name)):
            reason = environments.build(name)
        if reason:
            console.print("%s cannot be set up: %s" % (name, reason), markup=False)
            missing.update({c.key: reason for c in chosen if c.environment == name})
    return missing


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
