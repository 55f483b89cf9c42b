"""NumPy: K @ W and its gradients in blocks of rows, so that K is never whole. Imports NumPy."""

import numpy as np

from benchmarks.contenders.numpy_expansion import (
    kernel_of,
    point_gradients,
    squared_distance,
    version,
)

__all__ = ["prepare", "version"]

BLOCK_ENTRIES = 1 << 22


def row_blocks(n, m):
    """Slices of rows, of some millions of entries of K each."""
    step = max(1, BLOCK_ENTRIES // m)
    return [slice(first, min(n, first + step)) for first in range(0, n, step)]


def prepare(variant, cell, data, threads):
    x, gamma, weights, upstream = data["x"], data["gamma"], data["W"], data["H"]
    y = x if cell.symmetric else data["y"]
    blocks = row_blocks(cell.n, cell.m)
    if cell.task == "product":

        def call():
            result = np.empty((cell.n, cell.p), dtype=x.dtype)
            for rows in blocks:
                np.matmul(kernel_of(squared_distance(x[rows], y), gamma), weights, out=result[rows])
            return (result,)

        return call

    def call():
        dx, dy = np.empty_like(x), np.zeros_like(y)
        dweights = np.zeros_like(weights)
        value = dgamma = 0.0
        for rows in blocks:
            distance = squared_distance(x[rows], y)
            kernel = kernel_of(distance, gamma)
            dweights += kernel.T @ upstream[rows]
            kernel *= upstream[rows] @ weights.T
            value += float(kernel.sum())
            dgamma -= float(np.vdot(kernel, distance))
            dx[rows], change = point_gradients(kernel, x[rows], y, gamma)
            dy += change
        if cell.symmetric:
            return value, dx + dy, dgamma, dweights
        return value, dx, dy, dgamma, dweights

    return call
