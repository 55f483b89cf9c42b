"""rbf_op's node while one of its cores is busy with something else: a process that spins there.

The spinning process is pinned to the first core that this process may use, at the same priority.
Imports rbf_op and Theano.
"""

import contextlib
import subprocess
import sys

from benchmarks.contenders import rbf_op_node
from benchmarks.contenders.rbf_op_node import version

__all__ = ["prepare", "version"]

_SPIN = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
print(flush=True)
while True:
    pass
"""


@contextlib.contextmanager
def busy_core():
    """A context in which a core is busy; gives the process that keeps it so."""
    spinning = subprocess.Popen([sys.executable, "-c", _SPIN], stdout=subprocess.PIPE)
    try:
        spinning.stdout.readline()
        yield spinning
    finally:
        spinning.kill()
        spinning.wait()
        spinning.stdout.close()


def prepare(variant, cell, data, threads):
    call = rbf_op_node.prepare("", cell, data, threads)

    def busy_call():
        return call()

    busy_call.during = busy_core
    return busy_call
