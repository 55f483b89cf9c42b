"""The least time a cell can take on this machine, from what has been measured of it.

Largest of what the arithmetic, the exponentials and the memory traffic take by themselves, and,
where it has been measured beside the contenders, of what arithmetic and exponentials take together:
they share execution units. Arithmetic is direct differences: for each i, j, k a pair (difference,
multiply-add) for the distance, and a triple (difference, two multiply-adds: one for the sum over j,
one for that over i) for the gradients; of many columns k, matrix products, which no method does
without: one multiply-add and two. Standard library only.
"""

from collections import namedtuple

SMALL_ENTRIES = 1e5

TOGETHER = "both"

PRODUCTS = 32  # columns k from which on only what every method needs counts: matrix products


class Floor(namedtuple("Floor", "seconds bound parts")):
    """seconds: the largest of parts (name -> seconds) but "pages"; bound: its name."""

    __slots__ = ()

    @property
    def single(self):
        """(seconds, name) of the largest of arithmetic, exponentials and memory by themselves."""
        names = [name for name in self.parts if name not in (TOGETHER, "pages")]
        name = max(names, key=self.parts.get)
        return self.parts[name], name


def floor(cell, ceilings, limits=None):
    """The Floor of a cell; None without ceilings, or where calling costs more than computing.

    limits: seconds of the contenders with that role in the cell, by variant. "memory" is K written
    to pages already mapped, or G read; parts also has "pages", the first touch of those of a new K.
    """
    if ceilings is None or not applies(cell):
        return None
    limits = limits or {}
    entries, pairs, triples, multiply_adds = terms(cell)
    rates = {name: rate[cell.dtype] for name, rate in ceilings["arithmetic"].items()}
    parts = {
        "arithmetic": entries
        * (
            pairs / rates["pairs"]
            + triples / rates["triples"]
            + multiply_adds / rates["multiply_adds"]
        ),
        "exp": entries / ceilings["exponential"][cell.dtype],
    }
    if "arithmetic" in limits:
        # Or one after the other, should the compiler have made less of the program with both.
        parts[TOGETHER] = min(limits["arithmetic"], parts["arithmetic"] + parts["exp"])
    size = matrix_bytes(cell)
    memory = memory_rates(size, ceilings) if size else {}
    if size:
        passes = [limits[name] for name in ("stores", "streams", "loads") if name in limits]
        names = ("stores", "streams") if cell.task == "kernel" else ("loads",)
        parts["memory"] = min(passes or [size / memory[name] for name in names])
    bound = max(parts, key=parts.get)
    seconds = parts[bound]
    if cell.task == "kernel":
        parts["pages"] = size / max(memory["pages"], memory["huge_pages"])
    return Floor(seconds, bound, parts)


def terms(cell):
    """Entries of K to compute; then pairs, triples and other multiply-adds of each entry."""
    entries = cell.n * (cell.m + 1) / 2 if cell.symmetric else cell.n * cell.m
    gradient = "gradient" in cell.task
    pairs, triples = cell.d, cell.d if gradient else 0
    multiply_adds = cell.p * (2 if cell.task == "product gradient" else 1)
    if cell.d >= PRODUCTS:
        multiply_adds += pairs + 2 * triples
        pairs = triples = 0
    return entries, pairs, triples, multiply_adds


def applies(cell):
    """Whether computing, and not calling, is what the cell's time consists of."""
    return cell.n * cell.m >= SMALL_ENTRIES


def matrix_bytes(cell):
    """Bytes of the n * m array that a task writes (K) or reads (G); 0 if it has none."""
    return cell.n * cell.m * cell.item_bytes if cell.task in ("kernel", "gradient") else 0


def memory_rates(size, ceilings):
    """The rates measured for the array nearest in size."""
    measured = ceilings["memory"]
    return measured[min(measured, key=lambda other: abs(int(other) - size))]
