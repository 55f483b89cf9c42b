"""No contender: what the machine takes for a part of a cell's work, measured beside the others.

Variants: "arithmetic", the pairs, exponentials, triples and multiply-adds of all entries of K on
registers; "stores" and "streams", K written, the latter past the caches; "loads", G read. By the C
programs of benchmarks/ceilings. Imports ceilings, floors; NumPy, ctypes.
"""

import ctypes
import tempfile

import numpy as np

from benchmarks import ceilings, floors


def version():
    return ""


def prepare(variant, cell, data, threads):
    program, dtype = ("entries", cell.dtype) if variant == "arithmetic" else ("memory", None)
    # A library that has been loaded no longer needs its file.
    with tempfile.TemporaryDirectory(prefix="rbf_op-limits-") as folder:
        library = ceilings.library(program, folder, dtype)
    if variant == "arithmetic":
        terms = [ctypes.c_int64(round(term)) for term in floors.terms(cell)]
        return lambda: library.entries(*terms)
    memory = np.ones(floors.matrix_bytes(cell) // 4096 * 4096 + 4096, np.int8)
    aligned = ctypes.c_void_p(memory.ctypes.data + -memory.ctypes.data % 4096)
    size = ctypes.c_size_t(memory.size - 4096)
    how = ctypes.c_char({"stores": b"s", "streams": b"p", "loads": b"l"}[variant])

    def call():
        library.pass_over(aligned, size, how)
        return memory  # which must live as long as the call can be made

    return call
