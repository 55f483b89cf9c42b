"""The pool of large memory: pages are new once, results keep theirs, and it can be turned off."""

import os
import sys

import pytest
from graphs import needs_compiler
from processes import run_python

pytestmark = [
    needs_compiler,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts Linux's page faults"),
]

# Output in a loop that drops it: page faults of the last of several calls, and the bytes that the
# system may take back.
FAULTS = """
import resource
from rbf_op import rbf_kernel  # before theano
import numpy as np
import theano, theano.tensor as T

n = int(sys.argv[1])
x, y = T.dmatrices("xy")
f = theano.function([x, y], rbf_kernel(x, y, gamma=0.1))
values = np.random.RandomState(0).rand(n, 3), np.random.RandomState(1).rand(n, 3)
counts = []
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    f(*values)
    counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
with open("/proc/self/smaps_rollup") as rollup:
    (free,) = [int(line.split()[1]) for line in rollup if line.startswith("LazyFree:")]
report([min(counts[1:]), free * 1024])
"""


def test_pages_are_new_only_once():
    faults, free = run_python(FAULTS, 1000)
    assert faults < 50 and free == 0  # 2000 pages, or 4 huge ones each of which asks anew


def test_what_is_more_than_256_mb_is_the_systems_when_it_needs_it():
    faults, free = run_python(FAULTS, 6000, environment={"RBF_OP_POOL_BYTES": "300000000"})
    assert faults < 50 and free > 0.99 * 6000 * 6000 * 8  # the last page is not a whole one


def test_as_much_is_kept_as_the_machine_affords():
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    faults, _ = run_python(FAULTS, 6000)
    assert (faults < 50) == (memory / 16 > 6000 * 6000 * 8 + (1 << 16))


@pytest.mark.parametrize("no_number", ["256M", "none", "-1"])
def test_what_is_no_number_of_bytes_counts_as_not_set(no_number):
    faults, _ = run_python(FAULTS, 5000, environment={"RBF_OP_POOL_BYTES": no_number})
    assert faults < 50  # 95 huge pages


# What is kept of other sizes makes room where the system has no more.
NO_MORE = """
import resource
from rbf_op import rbf_kernel  # before theano
import numpy as np
import theano, theano.tensor as T

x, y = T.dmatrices("xy")
f = theano.function([x, y], rbf_kernel(x, y, gamma=0.1))
def call(n):
    return f(np.ones((n, 3)), np.ones((n, 3)))[-1, -1]
for n in (3000, 2950, 2900):  # 70 MB each
    call(n)
with open("/proc/self/statm") as sizes:
    used = int(sizes.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (60 << 20),) * 2)
report([call(3400), call(3400)])
"""


def test_what_is_kept_gives_way_where_there_is_no_more():
    environment = {"RBF_OP_POOL_BYTES": str(1 << 28), "OMP_NUM_THREADS": "1"}
    assert run_python(NO_MORE, environment=environment) == [1, 1]


def test_turned_off():
    faults, free = run_python(FAULTS, 1000, environment={"RBF_OP_POOL_BYTES": "0"})
    assert faults >= 4 and free == 0


RESULTS = """
from rbf_op import rbf_kernel  # before theano
import numpy as np
import theano, theano.tensor as T

x, y = T.matrices("xy")
f = theano.function([x, y], rbf_kernel(x, y, gamma=0.1))
random = np.random.RandomState(0)
y_value = random.rand(900, 3)
kept, copies = [], []
for n in (1000, 1000, 1100, 1000, 40):  # 7 MB each, and one that is too small for the pool
    x_value = random.rand(n, 3)
    kept.append(f(x_value, y_value))
    copies.append(kept[-1].copy())
    f(x_value + 1, y_value)  # dropped: its memory is used again, that of the others is not
same = all(np.array_equal(a, b) for a, b in zip(kept, copies))
large = kept[0]
large.resize((2000, 900), refcheck=False)  # NumPy has the owner of the memory move it
same = same and np.array_equal(large[:1000], copies[0]) and not large[1000:].any()
large.resize((2, 3), refcheck=False)
same = same and np.array_equal(large.ravel(), copies[0].ravel()[:6])
report([bool(same), bool(kept[1].flags.owndata)])
"""


def test_results_keep_their_memory():
    same, owned = run_python(RESULTS, flags={"floatX": "float64"})
    assert same and owned


FORK = """
import os
from rbf_op import rbf_kernel  # before theano
import numpy as np
import theano, theano.tensor as T

x, y = T.matrices("xy")
f = theano.function([x, y], rbf_kernel(x, y, gamma=0.1))
values = np.random.RandomState(0).rand(1000, 3), np.random.RandomState(1).rand(1000, 3)
values = [v.astype(theano.config.floatX) for v in values]
expected = f(*values).copy()
child = os.fork()
if child == 0:
    good = all(np.array_equal(f(*values), expected) for _ in range(3))
    os._exit(0 if good else 1)
for _ in range(3):
    assert np.array_equal(f(*values), expected)
report(os.waitpid(child, 0)[1])
"""


def test_a_forked_child_has_a_pool_of_its_own():
    assert run_python(FORK) == 0
