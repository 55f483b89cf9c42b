"""How much memory and how many cores a piece of work takes in this process, and other programs.

Exact on Linux, from /proc; coarser elsewhere. Standard library only.
"""

import os
import sys
import time


class PeakMemory:
    """Context that measures into `bytes` how far resident memory rises above where it started."""

    def __enter__(self):
        try:  # Linux forgets the earlier peak when asked
            with open("/proc/self/clear_refs", "w") as control:
                control.write("5")
            self._start = _status_bytes("VmRSS")
        except OSError:
            self._start = _maximum_resident_bytes()
        return self

    def __exit__(self, *exception):
        try:
            peak = _status_bytes("VmHWM")
        except OSError:
            peak = _maximum_resident_bytes()
        self.bytes = max(0, peak - self._start)


def _status_bytes(field):
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith(field + ":"):
                return 1024 * int(line.split()[1])
    raise OSError("no %s in /proc/self/status" % field)


def _maximum_resident_bytes():
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


class BusyCores:
    """Context that measures into `cores` how many cores were at work, on average.

    CPU time of all threads over that of the busiest one: unlike CPU over wall-clock time, it does
    not change when other programs take their part of a core. A thread that spins while it waits
    counts as busy.
    """

    def __enter__(self):
        self._wall, self._before = time.perf_counter(), _thread_seconds()
        return self

    def __exit__(self, *exception):
        after = _thread_seconds()
        used = [seconds - self._before.get(thread, 0.0) for thread, seconds in after.items()]
        whole = max(used) if len(used) > 1 else time.perf_counter() - self._wall
        self.cores = sum(used) / whole if whole > 0 else 1.0


def _thread_seconds():
    """CPU seconds of every thread of this process; without /proc, of the process as a whole."""
    try:
        seconds = {}
        for thread in os.listdir("/proc/self/task"):
            with open("/proc/self/task/%s/schedstat" % thread) as statistics:
                seconds[thread] = int(statistics.read().split()[0]) / 1e9
        return seconds
    except OSError:
        return {None: time.process_time()}


class OtherPrograms:
    """Context that measures into `cores` how many cores other programs kept busy, on average.

    Of this process's children those count as its own that have ended by then. 0 without /proc.
    """

    def __enter__(self):
        self._wall, self._before = time.perf_counter(), _seconds_of_others()
        return self

    def __exit__(self, *exception):
        passed = time.perf_counter() - self._wall
        self.cores = max(0.0, _seconds_of_others() - self._before) / passed


def _seconds_of_others():
    try:
        with open("/proc/stat") as statistics:
            user, nice, system = map(int, statistics.readline().split()[1:4])
    except (OSError, ValueError):
        return 0.0
    return (user + nice + system) / os.sysconf("SC_CLK_TCK") - sum(os.times()[:4])
