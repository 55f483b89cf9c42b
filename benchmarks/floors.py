"""The least time a cell can take on this machine, from the measured ceilings.

Largest of what the arithmetic, the exponentials and the memory traffic take by themselves: a bound
below, since arithmetic and exponentials share the same units. Arithmetic is direct differences: for
each i, j, k a pair (difference, multiply-add) for the distance, and a triple (difference, two
multiply-adds: one for the sum over j, one for that over i) for the gradients. Imports cells only.
"""

from collections import namedtuple

Floor = namedtuple("Floor", "seconds bound parts")
Floor.__doc__ = """seconds: the largest of parts (name -> seconds); bound: its name."""

SMALL_ENTRIES = 1e5


def floor(cell, ceilings):
    """The Floor of a cell; None without ceilings, or where calling costs more than computing.

    "arithmetic", "exp" and "memory" (K written to pages already mapped, or G read) make the floor;
    parts also has "pages", the first touch of the pages of a new K.
    """
    if ceilings is None or not applies(cell):
        return None
    entries = cell.n * (cell.m + 1) / 2 if cell.symmetric else cell.n * cell.m
    terms = entries * cell.d
    rates = {name: rate[cell.dtype] for name, rate in ceilings["arithmetic"].items()}
    arithmetic = terms / rates["pairs"] + entries * cell.p / rates["multiply_adds"]
    if "gradient" in cell.task:
        arithmetic += terms / rates["triples"]
    if cell.task == "product gradient":
        arithmetic += entries * cell.p / rates["multiply_adds"]
    parts = {
        "arithmetic": arithmetic,
        "exp": entries / ceilings["exponential"][cell.dtype],
    }
    size = matrix_bytes(cell)
    if size:
        rates = memory_rates(size, ceilings)
        fastest = max(rates["stores"], rates["streams"])
        parts["memory"] = size / (fastest if cell.task == "kernel" else rates["loads"])
    bound = max(parts, key=parts.get)
    seconds = parts[bound]
    if cell.task == "kernel":
        parts["pages"] = size / max(rates["pages"], rates["huge_pages"])
    return Floor(seconds, bound, parts)


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
