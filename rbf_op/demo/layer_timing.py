"""Times one layer in several spellings: each in a process of its own, rounds interleaved.

Run as a module it is one contender: it builds, checks against float64, then obeys lines on standard
input and answers each with a line of JSON. Imported, it is the side that starts and asks them.
Touches question, reference, usage, Theano and NumPy; prints nothing for people.
"""

import json
import os
import subprocess
import sys
import tempfile
import time

import numpy as np
import theano
import theano.tensor as T

from rbf_op import reference
from rbf_op.demo.question import WAYS, as_written
from rbf_op.usage import BusyCores, PeakMemory

GRADIENT = "forward + gradient"
TASKS = ("forward", GRADIENT)

#: Largest error allowed before a contender is timed: values relative to each exact value,
#: gradients relative to their largest entry. The norm expansion loses digits in float32.
TOLERANCE = {"float32": 1e-4, "float64": 1e-11}

#: A timed task is repeated in each round until so many seconds have passed.
ROUND_SECONDS = 0.3


# -- the contender -------------------------------------------------------------------------------


def draw(batch, dims, hidden, dtype):
    """x (batch, dims), W (dims, hidden), S (hidden,) and G (batch, hidden), scaled to distances
    near 1: drawn as the question draws them, a hundred dimensions give 0 everywhere in float32."""
    random = np.random.RandomState(1234)
    x = random.normal(scale=(2 * dims) ** -0.5, size=(batch, dims))
    W = random.normal(scale=(2 * dims) ** -0.5, size=(dims, hidden))
    S = random.uniform(low=0.5, high=2.0, size=(hidden,))
    G = random.normal(size=(batch, hidden))
    return [value.astype(dtype) for value in (x, W, S, G)]


def expected(x, W, S, G):
    """The output and its gradients dx, dW, dS of sum(G * output), in float64 by NumPy."""
    x, W, S, G = [value.astype("float64") for value in (x, W, S, G)]
    arguments = (x, W.T, np.asarray(1.0), S**2 / 2)
    dx, dcentres, _, damplitude = reference.rbf_kernel_grad(*(arguments + (G,)))
    return [reference.rbf_kernel(*arguments), dx, dcentres.T, damplitude * S]


class Contender:
    """One way to write the layer, compiled for both tasks."""

    def __init__(self, way, batch, dims, hidden, dtype, with_gradient=True):
        x, W, G = [T.matrix(name, dtype=dtype) for name in "xWG"]
        S = T.vector("S", dtype=dtype)
        start = time.perf_counter()
        output = WAYS[way](x, W, S, batch, hidden)
        self.functions = {"forward": theano.function([x, W, S], [output], mode=as_written())}
        if with_gradient:
            gradients = theano.grad((output * G).sum(), [x, W, S])
            self.functions[GRADIENT] = theano.function(
                [x, W, S, G], [output] + gradients, mode=as_written()
            )
        self.compile_seconds = time.perf_counter() - start
        self.data = draw(batch, dims, hidden, dtype)

    def call(self, task):
        return self.functions[task](*self.data[: 3 if task == "forward" else 4])

    def peak_bytes(self):
        """How far one call of the largest task raises this process's peak of resident memory."""
        with PeakMemory() as peak:
            self.call(max(self.functions, key=TASKS.index))
        return peak.bytes

    def error(self):
        """The largest error of any result, see TOLERANCE."""
        right = expected(*self.data)
        outputs = [self.call(task)[0] for task in self.functions]
        errors = [np.max(np.abs(output / right[0] - 1)) for output in outputs]
        if GRADIENT in self.functions:
            gradients = zip(self.call(GRADIENT)[1:], right[1:])
            errors += [np.max(np.abs(g - r)) / np.abs(r).max() for g, r in gradients]
        return float(np.max(errors))

    def round(self, task):
        """Fastest call of one round and how many cores were at work on average."""
        best, passed = float("inf"), 0.0
        with BusyCores() as busy:
            while passed < ROUND_SECONDS:
                start = time.perf_counter()
                self.call(task)
                seconds = time.perf_counter() - start
                best, passed = min(best, seconds), passed + seconds
        return {"seconds": best, "cores": busy.cores}


def _answer(message):
    print(json.dumps(message), flush=True)


def main(arguments):
    """The contender's side of the conversation."""
    way, batch, dims, hidden, dtype, with_gradient = json.loads(arguments[0])
    contender = Contender(way, batch, dims, hidden, dtype, with_gradient)
    _answer(
        {
            "compile_seconds": contender.compile_seconds,
            "peak_bytes": contender.peak_bytes(),
            "error": contender.error(),
        }
    )
    for line in sys.stdin:
        _answer(contender.round(line.strip()))


# -- the side that asks --------------------------------------------------------------------------


class ContenderFailed(RuntimeError):
    """A contender's process ended before its answer, or its results were wrong."""


class ContenderProcess:
    """A contender in its own process."""

    def __init__(self, way, batch, dims, hidden, dtype, with_gradient=True):
        self.way = way
        self._errors = tempfile.TemporaryFile(mode="w+")
        package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
        job = json.dumps([way, batch, dims, hidden, dtype, with_gradient])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "rbf_op.demo.layer_timing", job],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            universal_newlines=True,
            env=dict(os.environ, PYTHONPATH=path),
        )

    def close(self):
        """Ends the process."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def read(self):
        """The process's next answer; ContenderFailed if it ended instead."""
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        code = self._process.wait()
        self._errors.seek(0)
        last = (self._errors.read().strip().splitlines() or ["no message"])[-1]
        raise ContenderFailed("%s: ended with code %d (%s)" % (self.way, code, last))

    def read_checked(self, dtype):
        """The first answer; ContenderFailed if its results are wrong."""
        row = self.read()
        if not row["error"] <= TOLERANCE[dtype]:
            raise ContenderFailed("%s: wrong by %.1e against float64" % (self.way, row["error"]))
        return row

    def ask(self, task):
        """Has one round of a task timed."""
        try:
            self._process.stdin.write(task + "\n")
            self._process.stdin.flush()
        except OSError:
            pass  # it has ended: read() says how
        return self.read()


def measure(ways, batch, dims, hidden, dtype="float32", rounds=5, step=lambda text: None):
    """Measures every way at one size.

    Returns {way: row}; a row has compile_seconds, peak_bytes, error, and for each of TASKS the
    fastest call in seconds and the median number of cores, or only `failed`, a message.
    `step` is called with a word on what comes next: steps(ways, rounds) times.
    """
    rows, running = {}, {}

    def attempt(way, conversation):
        try:
            conversation(running[way])
        except ContenderFailed as failure:
            rows[way] = {"failed": str(failure)}
            running.pop(way).close()

    def prepare(process):
        rows[process.way] = dict(process.read_checked(dtype), **{task: [] for task in TASKS})

    def one_round(process):
        for task in TASKS:
            rows[process.way][task].append(process.ask(task))

    try:
        for way in ways:
            step("compiling %s" % way)
            running[way] = ContenderProcess(way, batch, dims, hidden, dtype)
            attempt(way, prepare)
        for number in range(rounds):
            for way in list(running):
                step("timing %s, round %d of %d" % (way, number + 1, rounds))
                attempt(way, one_round)
    finally:
        for process in running.values():
            process.close()
    for way in running:
        for task in TASKS:
            rows[way][task] = {
                "seconds": min(answer["seconds"] for answer in rows[way][task]),
                "cores": float(np.median([answer["cores"] for answer in rows[way][task]])),
            }
    return rows


def steps(ways, rounds):
    """How often measure() calls `step`, for a progress bar."""
    return len(ways) * (1 + rounds)


def measure_nested_loops(batch, dims, hidden, dtype="float32"):
    """Compile and call seconds of the nested loops, forward only, at a size they can do.

    Their graph has nodes for every entry of the output, so that no larger one compiles in
    reasonable time.
    """
    process = ContenderProcess("nested loops", batch, dims, hidden, dtype, False)
    try:
        return dict(process.read_checked(dtype), forward=process.ask("forward"))
    finally:
        process.close()


if __name__ == "__main__":
    main(sys.argv[1:])
