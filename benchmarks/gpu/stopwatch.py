"""Times the calls whose results are right, as far as limits and the budget let it.

Nothing is begun that is expected not to end in time, by what fewer points took; no memory of one
library is held while the next is timed. May import contenders, limits and problem.
"""

import gc
import sys
import time

from benchmarks.gpu.contenders import EMPTY_CACHE, KEOPS, OURS
from benchmarks.gpu.limits import out_of_memory
from benchmarks.gpu.problem import TOLERANCE

FIRST_COMPILATION = 40  # seconds that KeOps is taken to need for a formula, until it has made one


class Stopwatch:
    """Times calls whose results are right, and that are not expected to take too long.

    limit: seconds that a call may take; budget: seconds for everything, from now on.
    notes: {contender and what it was to compute: why it failed}; wrong: sentences about our own
    """

    def __init__(self, clock, limit, budget):
        self.clock, self.limit, self.seen, self.notes = clock, limit, {}, {}
        self.end, self.wrong = time.monotonic() + budget, []
        self.formulas, self.compilation = set(), 0  # of KeOps; seconds that one took

    def left(self):
        """Seconds left of the budget."""
        return self.end - time.monotonic()

    def rows(self, problem, floor, calls):
        """(what, contender, Time or a word that says why there is none).

        floor: seconds by what is computed; calls: {library: its calls}
        """
        for library, made in calls.items():
            # In a function of its own, whose end drops the calls and with them their results.
            yield from self._rows_of(library, made, problem, floor)
            self._release_memory(problem.device)

    def _rows_of(self, library, calls, problem, floor):
        try:
            for what, name, call, on_host in calls:
                yield what, name, self._time(problem, floor, what, name, call, on_host)
        except Exception as trouble:  # in its import; it would have had a product
            yield "product", library, self._word("product", library, trouble)

    def _expected(self, key, problem, least):
        """Seconds: by the time for fewer points, which grows as their square; or `least`."""
        points, before = self.seen.get(key, (problem.n, least))
        return before * (problem.n / points) ** 2

    def _time(self, problem, floor, what, name, call, on_host):
        formula = (problem.dtype, problem.d, problem.p, what)
        key = formula + (name,)
        # Tensor cores and expanded squares may be four times as fast as our floor.
        least = floor.get(what, 0) / (1 if name == OURS else 4)
        expected = self._expected(key, problem, least)
        if expected > self.limit:
            return "over the limit"
        compiles = name == KEOPS and formula not in self.formulas
        needed = 3 * expected + problem.seconds_to_make
        if compiles:
            needed += self.compilation or FIRST_COMPILATION
        if self.left() < needed:
            return "no time"
        began = time.monotonic()
        try:
            error = problem.error(on_host(call()), what)
            if compiles:
                self.formulas.add(formula)
                self.compilation = max(self.compilation, time.monotonic() - began)
            if error <= TOLERANCE[problem.dtype]:
                # Libraries use the default stream, in which the clock's events wait for them.
                found = self.clock(call)
                self.seen[key] = problem.n, found.seconds
                return found
        except Exception as trouble:
            return self._word(what, name, trouble)
        if name == OURS:
            self.wrong.append(
                "%s is wrong (n=%d, d=%d, p=%d, %s): %.1e of its largest entry. It was not timed."
                % (what, problem.n, problem.d, problem.p, problem.dtype, error)
            )
        return "wrong"

    def _word(self, what, name, trouble):
        """What stands in the table for a time; raises what went wrong with our own."""
        if out_of_memory(trouble):
            return "no memory"
        if name == OURS:
            raise trouble
        line = (str(trouble).strip().splitlines() or [""])[0]
        note = "%s: %s" % (type(trouble).__name__, line)
        self.notes.setdefault("%s, %s" % (name, what), note)
        return "failed"

    def _release_memory(self, device):
        """Have the next library find all memory free that the problem's arrays leave."""
        gc.collect()  # what a failed call's traceback and others' cycles still hold
        device.release_held_memory()
        for name, empty in EMPTY_CACHE.items():
            try:
                if name in sys.modules:
                    empty(sys.modules[name])
            except Exception as trouble:
                self._word("release of memory", name, trouble)
