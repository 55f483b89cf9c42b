"""One contender in a process of its own: obeys commands, a line of JSON each, on its input.

python -m benchmarks.worker MODULE VARIANT THREADS, where MODULE has prepare(variant, cell, data,
threads) -> call, and call() -> tuple of results; call.to_numpy, if there is one, turns them into
NumPy arrays (not timed); call.during, if there is one, makes the context in which calls are timed.
Imports contenders, problem and cells; the standard library and NumPy.
"""

import contextlib
import gc
import json
import os
import sys
import time


class Worker:
    """The state between commands: the cell at hand and the contender's call for it."""

    def __init__(self, module, variant, threads):
        self.module, self.variant, self.threads = module, variant, threads
        self.cell = self.call = None

    def release(self):
        """Forget the cell, so that its memory is free for others."""
        self.cell = self.call = None
        gc.collect()
        return {}

    def prepare(self, cell):
        """Make the cell's data, compile what there is to compile."""
        from benchmarks import problem
        from benchmarks.cells import Cell

        self.release()
        self.cell = Cell(*cell)
        start = time.perf_counter()
        given = problem.data(self.cell)
        self.call = self.module.prepare(self.variant, self.cell, given, self.threads)
        return {"seconds": time.perf_counter() - start}

    def check(self, expected):
        """The first call: its errors against the file of expected results, its time and memory."""
        import numpy as np

        from benchmarks import problem

        before = _resident_bytes("VmRSS", reset=True)
        start = time.perf_counter()
        results = self.call()
        seconds = time.perf_counter() - start
        after = _resident_bytes("VmHWM")
        results = getattr(self.call, "to_numpy", tuple)(results)
        with np.load(expected) as file:
            errors = problem.compare(self.cell, results, dict(file))
        peak = after - before if before and after else None
        return {"errors": errors, "seconds": seconds, "peak_bytes": peak}

    def measure(self, times, repeat, warm):
        """Seconds per call, `times` of them, each the mean of `repeat`; warm: one goes before."""
        call, clock, loop, seconds = self.call, time.perf_counter, range(repeat), []
        with getattr(call, "during", contextlib.nullcontext)():
            if warm:
                call()
            gc.disable()
            for _ in range(times):
                start = clock()
                for _ in loop:
                    call()
                seconds.append((clock() - start) / repeat)
            gc.enable()
        return {"seconds": seconds}

    def describe(self):
        return {"version": self.module.version()}


def _resident_bytes(field, reset=False):
    """A line of Linux's /proc/self/status in bytes (reset: the peak starts anew), or None."""
    try:
        if reset:
            with open("/proc/self/clear_refs", "w") as refs:
                refs.write("5")
        with open("/proc/self/status") as status:
            lines = [line.split() for line in status]
        return next(int(line[1]) * 1024 for line in lines if line[0] == field + ":")
    except (OSError, StopIteration):
        return None


def main(module_name, variant, threads):
    # Answers have a channel of their own: libraries print what they like.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    threads = int(threads)
    if hasattr(os, "sched_setaffinity"):
        # Before the libraries count the processors.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    import importlib

    try:
        worker = Worker(importlib.import_module(module_name), variant, threads)
        answer = worker.describe()
    except Exception as error:
        worker = None
        answer = _failure(error)
    while True:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
        line = sys.stdin.readline()
        if not line or worker is None:
            return
        command = json.loads(line)
        try:
            answer = getattr(worker, command.pop("do"))(**command)
        except Exception as error:
            answer = _failure(error)


def _failure(error):
    import traceback

    traceback.print_exc()
    text = str(error).strip().splitlines()
    return {"failure": ("%s: %s" % (type(error).__name__, text[0] if text else ""))[:200]}


if __name__ == "__main__":
    main(*sys.argv[1:])
