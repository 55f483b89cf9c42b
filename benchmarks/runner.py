"""Runs contenders against each other: a live process each, one of them at work at a time.

Every contender of a cell is prepared and checked first; then rounds go over all of them in turn,
so that whatever disturbs the machine disturbs all alike. A process that is not at work is stopped
(SIGSTOP): idle threads of a library, which may spin for a while, cannot disturb the next. May
import environments, cells, floors, problem and contenders; NumPy.
"""

import json
import os
import select
import signal
import subprocess
import tempfile
from collections import namedtuple

import numpy as np

from benchmarks import environments, floors, problem
from benchmarks.cells import SMALLEST, Cell

# Seconds a contender may take to start, and to make and compile what a cell needs.
START_SECONDS = 120
PREPARE_SECONDS = 300

# Over the limit, on a first call: its time is taken if it ends within these.
_GRACE_SECONDS = 5

_RELEASE_SECONDS = 60

# Of a first call that takes longer, the time is as good as that of a second.
ONE_CALL_SECONDS = 20

# From so many entries of K on, time is taken to grow with them.
LARGE_ENTRIES = 1e6

Settings = namedtuple("Settings", "rounds seconds limit")
Settings.__doc__ = """How long to measure.

rounds over the contenders of a cell; seconds for each contender and cell, over all rounds; limit
in seconds on one call: a contender expected above it, from a smaller cell, is given up.
"""


class Failed(Exception):
    """A contender could not do what it was asked to; the text says why, in one line."""


class Overdue(Failed):
    """It did not answer in time."""


class Process:
    """A contender's worker process; stopped whenever it has nothing to do."""

    def __init__(self, contender, threads, log_folder, path=()):
        self.contender, self.threads = contender, threads
        self.version = None
        self._path = list(path)
        self._log = os.path.join(log_folder, "%s-%d.log" % (contender.key, threads))
        self._process = None

    def start(self):
        """Raises Failed when it cannot import its library."""
        module = self.contender.module
        if "." not in module:
            module = "benchmarks.contenders." + module
        interpreter = environments.python(self.contender.environment)
        with open(self._log, "a") as log:
            self._process = subprocess.Popen(
                [interpreter, "-m", "benchmarks.worker", module]
                + [self.contender.variant, str(self.threads)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=environments.ROOT,
                env=_environment(self.contender, self.threads, self._path),
            )
        self.version = self._answer(START_SECONDS)["version"]
        self._signal("SIGSTOP")

    def ask(self, seconds, **command):
        """Send a command, wait for its answer (starting the process if there is none)."""
        if self._process is None:
            self.start()
        self._signal("SIGCONT")
        try:
            self._process.stdin.write(json.dumps(command).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise Failed(self._end()) from None
        answer = self._answer(seconds)
        self._signal("SIGSTOP")
        return answer

    def _answer(self, seconds):
        ready, _, _ = select.select([self._process.stdout], [], [], seconds)
        if not ready:
            self.end()
            raise Overdue("no answer within %.3g s" % seconds)
        line = self._process.stdout.readline()
        if not line:
            raise Failed(self._end())
        answer = json.loads(line)
        if "failure" in answer:
            raise Failed(answer["failure"])
        return answer

    def _signal(self, name):
        if hasattr(signal, name):
            self._process.send_signal(getattr(signal, name))

    def _end(self):
        code = self._process.wait()
        self.end()
        return "its process died (%s)" % ("signal %d" % -code if code < 0 else "exit %d" % code)

    def release(self):
        """Have it free the memory of its cell."""
        if self._process is not None:
            try:
                self.ask(_RELEASE_SECONDS, do="release")
            except Failed:
                self.end()

    def end(self):
        """Kill the process, if there is one; the next command starts another."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process.stdin.close()
            self._process.stdout.close()
            self._process = None


def _environment(contender, threads, path):
    # OPENBLAS_CORETYPE would keep NumPy from the kernels made for this processor.
    variables = {n: value for n, value in os.environ.items() if n != "OPENBLAS_CORETYPE"}
    for name in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
        variables[name + "_NUM_THREADS"] = str(threads)
    variables["PYTHONPATH"] = os.pathsep.join([environments.ROOT] + path)
    variables["VIRTUAL_ENV"] = (
        environments.folder(contender.environment) if contender.environment else ""
    )
    flags = [flag for flag in [variables.get("THEANO_FLAGS")] if flag]
    if contender.module == "theano_graphs":
        flags.append("openmp=%s" % (threads > 1))
    if not any("compiledir" in flag for flag in flags):
        flags.append("base_compiledir=" + os.path.join(environments.ROOT, ".theano", "benchmarks"))
    variables["THEANO_FLAGS"] = ",".join(flags)
    return variables


class Stage:
    """The processes of all contenders that have been asked for, and the files they share.

    A context manager, at whose end they all end. path: more folders to import contenders from.
    """

    def __init__(self, path=()):
        self._path = path
        self._processes = {}
        self._expected = {}

    def __enter__(self):
        self._folder = tempfile.TemporaryDirectory(prefix="rbf_op-benchmarks-")
        return self

    def __exit__(self, *exception):
        for process in self._processes.values():
            process.end()
        self._folder.cleanup()

    def process(self, contender, threads):
        """The Process of a contender with so many threads."""
        if (contender.key, threads) not in self._processes:
            process = Process(contender, threads, self._folder.name, self._path)
            self._processes[contender.key, threads] = process
        return self._processes[contender.key, threads]

    def expected(self, cell):
        """Path of the file with the cell's results in float64."""
        cell = cell._replace(dtype="float64")  # both precisions expect the same
        if cell not in self._expected:
            path = os.path.join(self._folder.name, "expected-%d.npz" % len(self._expected))
            np.savez(path, **problem.reference(cell))
            self._expected[cell] = path
        return self._expected[cell]


def measure(stage, cells, contenders, settings, missing=None, tell=lambda text: None):
    """Measure the cells; returns one record (a dict) for every contender and cell.

    contenders: pairs of a Contender and a number of threads; missing: key -> why its environment
    is not there, to which those that do not start are added; tell: is told what is going on.

    A record has key, label, role, threads, cell, status, and with status "ok" seconds (all
    measurements), error, tolerance and peak_bytes. Other statuses: "missing", "failed", "wrong",
    "too slow", "too large", with a reason.
    """
    missing = {} if missing is None else missing
    records = []
    for number, cell in enumerate(cells):
        tell("%d/%d  %s %s %s" % (number + 1, len(cells), cell.task, cell.size, cell.dtype))
        entered = [stage.process(*entry) for entry in contenders if _takes_part(entry[0], cell)]
        prepared = [
            _prepare(stage, process, cell, settings, missing, records) for process in entered
        ]
        _time([(r, p) for r, p in zip(prepared, entered) if r["status"] == "ok"], settings)
        for process in entered:
            process.release()
        records += prepared
    return records


def _takes_part(contender, cell):
    if contender.role == "overhead":
        return cell.task == "kernel" and (cell.n, cell.m, cell.d) == SMALLEST
    if contender.role == "limit" and not floors.applies(cell):
        return False
    return cell.task in contender.tasks


def _prepare(stage, process, cell, settings, missing, earlier):
    """The record of a contender in a cell: compiled, checked, its first call timed."""
    contender = process.contender
    record = {
        "key": contender.key,
        "label": contender.label,
        "role": contender.role,
        "threads": process.threads,
        "cell": cell._asdict(),
        "status": "ok",
    }

    def refuse(status, reason):
        record.update(status=status, reason=reason)
        return record

    if contender.key in missing:
        return refuse("missing", missing[contender.key])
    seconds = _expected_seconds(process, cell, earlier)
    if seconds > settings.limit:
        record["first"] = seconds
        return refuse("too slow", "about %.2g s a call to expect" % seconds)
    own = cell.as_sums() if contender.sums else cell
    try:
        unchecked = contender.role in ("overhead", "limit")  # compute no results
        whole = unchecked or own.n * own.m <= problem.EXACT_ENTRIES
        for checked in [own] if whole else [own.reduced(), own]:
            try:
                process.ask(PREPARE_SECONDS, do="prepare", cell=list(checked))
            except Overdue:
                return refuse("failed", "not compiled within %d s" % PREPARE_SECONDS)
            if contender.role == "overhead":
                record.update(first=1e-6, error=0.0, peak_bytes=0)
                continue
            if contender.role == "limit":
                answer = process.ask(
                    settings.limit + _GRACE_SECONDS, do="measure", times=1, repeat=1, warm=False
                )
                record.update(first=answer["seconds"][0], error=0.0, peak_bytes=0)
                continue
            expected = stage.expected(checked)
            answer = process.ask(settings.limit + _GRACE_SECONDS, do="check", expected=expected)
            error = max(answer["errors"].values())
            record.update(first=answer["seconds"], error=max(error, record.get("error", 0.0)))
            record["peak_bytes"] = answer["peak_bytes"]
            record["tolerance"] = problem.tolerance(checked)
            if not error <= record["tolerance"]:
                worst = max(answer["errors"], key=answer["errors"].get)
                return refuse("wrong", "%s is off by %.2g" % (worst, error))
    except Overdue:
        record["first"] = settings.limit + _GRACE_SECONDS
        return refuse("too slow", "gave no result within %g s" % record["first"])
    except Failed as failure:
        if process.version is None:
            missing[contender.key] = str(failure)
            return refuse("missing", str(failure))
        text = str(failure)
        return refuse("too large" if text.startswith("MemoryError") else "failed", text)
    record["version"] = process.version
    return record


def _expected_seconds(process, cell, earlier):
    """At least how long a call will take, by the contender's time in a smaller cell; or 0."""
    expected = 0.0
    for record in earlier:
        if (record["key"], record["threads"]) != (process.contender.key, process.threads):
            continue
        other = Cell(**record["cell"])
        smaller = cell.task == other.task and all(
            getattr(cell, size) >= getattr(other, size)
            for size in ("n", "m", "d", "p", "item_bytes")
        )
        if smaller and "first" in record and other.n * other.m >= LARGE_ENTRIES:
            seconds = min(record.get("seconds") or [record["first"]])
            ratio = cell.n * cell.m / (other.n * other.m) / (1 + cell.symmetric)
            expected = max(expected, seconds * ratio)
    return expected


def _time(entries, settings):
    for record, _ in entries:
        # So slow that its one call must do: what is new in a first one is little of it.
        long = record["first"] > min(settings.limit, ONE_CALL_SECONDS)
        record["seconds"] = [record["first"]] if long else []
    entries = [(record, process) for record, process in entries if not record["seconds"]]
    for round_number in range(settings.rounds):
        # Another one begins each round.
        first = round_number % max(1, len(entries))
        for record, process in entries[first:] + entries[:first]:
            _time_once(record, process, settings, round_number)


def _time_once(record, process, settings, round_number):
    if record["status"] != "ok":
        return
    # The first call had fresh caches and pages against it; later ones tell better.
    single = min(record["seconds"] or [record["first"]])
    budget = settings.seconds * (1 if round_number >= 3 else 3)
    if round_number and single * (round_number + 1) > budget:
        return  # slow: fewer rounds
    repeat = max(1, min(100, int(2e-4 / single)))
    times = max(1, min(100, int(settings.seconds / settings.rounds / (single * repeat))))
    patience = 3 * (times * repeat + 1) * record["first"] + 30
    try:
        answer = process.ask(
            patience, do="measure", times=times, repeat=repeat, warm=single < settings.seconds / 5
        )
    except Failed as failure:
        record.update(status="failed", reason=str(failure))
        return
    record["seconds"] += answer["seconds"]
