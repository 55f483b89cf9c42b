"""What is measured: a cell is one task on one problem size; the groups of cells of each run.

Standard library only, so that every contender's environment can import it.
"""

from collections import namedtuple

# Tasks, with K[i, j] = exp(-gamma |x_i - y_j|^2):
#   kernel             K (n, m)
#   gradient           sum(K * G), and its gradients with respect to x, y and gamma; G (n, m)
#   product            P = K @ W (n, p), W (m, p)
#   product gradient   sum(P * H), and its gradients with respect to x, y, gamma and W; H (n, p)
#   sum gradient       the same without the gradient of W: what stands in for `gradient` in a
#                      library that never has K (G is then H @ W.T, of rank one)
TASKS = ("kernel", "gradient", "product", "product gradient", "sum gradient")


class Cell(namedtuple("Cell", "task n m d dtype symmetric p")):
    """One task, sizes, dtype ("float32" or "float64"); symmetric: y is x; p columns of W, or 0."""

    __slots__ = ()

    @property
    def outputs(self):
        """Names of the results, in the order in which a contender returns them."""
        if self.task == "kernel":
            return ("K",)
        if self.task == "product":
            return ("P",)
        names = ("value", "dx") + (() if self.symmetric else ("dy",)) + ("dgamma",)
        return names + (("dweights",) if self.task == "product gradient" else ())

    @property
    def item_bytes(self):
        return {"float32": 4, "float64": 8}[self.dtype]

    @property
    def size(self):
        """Like "4000x4000x10", with what else tells it from others."""
        text = "%dx%dx%d" % (self.n, self.m, self.d)
        return text + (" p=%d" % self.p if self.p else "") + (" y=x" if self.symmetric else "")

    def as_sums(self):
        """The same work for a library that only knows sums over j."""
        tasks = {"kernel": "product", "gradient": "sum gradient"}
        return self._replace(task=tasks[self.task], p=1) if self.task in tasks else self

    def reduced(self):
        """The same task at a size whose every result can be checked."""
        n, m = min(self.n, 1500), min(self.m, 1300)
        return self._replace(n=n, m=n if self.symmetric else m)


def cell(task, n, m, d, dtype="float32", symmetric=False, p=0):
    return Cell(task, n, m, d, dtype, symmetric, p)


DTYPES = ("float32", "float64")
SMALLEST = (5, 3, 10)
GRID = (SMALLEST, (2000, 2000, 3), (4000, 4000, 10), (4000, 1000, 32), (4000, 4000, 128))
GRID += ((2000, 2000, 784),)
SYMMETRIC = (4000, 4000, 10)
QUICK_GRID = (SMALLEST, (2000, 2000, 3), (2000, 2000, 10), (4000, 1000, 32))
QUICK_SYMMETRIC = (2000, 2000, 10)


def grid(quick=False):
    """Every size, K alone and all gradients, both precisions."""
    sizes, symmetric = (QUICK_GRID, QUICK_SYMMETRIC) if quick else (GRID, SYMMETRIC)
    found = []
    for dtype in DTYPES[:1] if quick else DTYPES:
        for task in ("kernel", "gradient"):
            found += [cell(task, *size, dtype=dtype) for size in sizes]
            found.append(cell(task, *symmetric, dtype=dtype, symmetric=True))
    return found


def growth_n(quick=False):
    sizes = (500, 2000) if quick else (500, 1000, 2000, 4000, 8000, 16000)
    return [cell(task, n, n, 10) for task in ("kernel", "gradient") for n in sizes]


def growth_d(quick=False):
    depths = (1, 10, 100) if quick else (1, 3, 10, 30, 100, 300, 1000, 2000)
    return [cell(task, 2000, 2000, d) for task in ("kernel", "gradient") for d in depths]


def threads(quick=False):
    sizes = (1000, 2000) if quick else (500, 1000, 2000, 4000)
    return [
        cell(task, n, n, 10, dtype=dtype)
        for task in ("kernel", "gradient")
        for dtype in (DTYPES[:1] if quick else DTYPES)
        for n in sizes
    ]


def busy(quick=False):
    """What is measured with one core busy; long enough for the scheduler's turns to average out."""
    sizes = (1000, 1000, 10), (4000, 4000, 32 if quick else 100)
    return [cell(task, *size) for task in ("kernel", "gradient") for size in sizes]


def product(quick=False, sizes=(10000,)):
    """The matrix-free product: n = m, float32."""
    depths = (3, 10) if quick else (3, 10, 100)
    return [
        cell(task, n, n, d, p=p)
        for task in ("product", "product gradient")
        for n in sizes
        for d in depths
        for p in (1, 10)
    ]


def product_large(quick=False):
    """The same where most contenders need minutes."""
    return product(quick, sizes=(30000,) if quick else (30000, 100000))


GROUPS = {
    "grid": grid,
    "growth-n": growth_n,
    "growth-d": growth_d,
    "threads": threads,
    "busy": busy,
    "product": product,
    "product-large": product_large,
}

# Those that are measured if none are named.
USUAL = tuple(name for name in GROUPS if name != "product-large")
