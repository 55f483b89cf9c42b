"""NumPy: |x|^2 + |y|^2 - 2 x.y with in-place steps; gradients by their formulas.

Imports NumPy; threadpoolctl, which comes with scikit-learn.
"""

import numpy as np
from threadpoolctl import threadpool_info


def version():
    return "NumPy %s, %s" % (np.__version__, blas())


def blas():
    """The BLAS that NumPy uses, and the kernels that it has chosen for this processor."""
    found = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    text = ["%s %s" % (p["internal_api"], p.get("architecture") or p["version"]) for p in found]
    return ", ".join(dict.fromkeys(text)) or "its own BLAS"


def squared_distance(x, y):
    distance = x @ y.T
    distance *= -2
    distance += np.einsum("ij,ij->i", x, x)[:, None]
    distance += np.einsum("ij,ij->i", y, y)
    return np.maximum(distance, 0, out=distance)


def kernel_of(distance, gamma):
    kernel = distance * -gamma
    return np.exp(kernel, out=kernel)


def point_gradients(weighted, x, y, gamma):
    """Gradients of sum(G * K) with respect to x and y, from weighted = G * K."""
    dx = weighted @ y
    dx -= weighted.sum(axis=1)[:, None] * x
    dx *= 2 * gamma
    dy = weighted.T @ x
    dy -= weighted.sum(axis=0)[:, None] * y
    dy *= 2 * gamma
    return dx, dy


def prepare(variant, cell, data, threads):
    x, gamma = data["x"], data["gamma"]
    y = x if cell.symmetric else data["y"]
    if cell.task == "kernel":

        def call():
            distance = squared_distance(x, y)
            distance *= -gamma
            return (np.exp(distance, out=distance),)

        return call
    upstream = data["G"]

    def call():
        distance = squared_distance(x, y)
        weighted = kernel_of(distance, gamma)
        weighted *= upstream
        value = weighted.sum()
        dgamma = -np.vdot(weighted, distance)
        dx, dy = point_gradients(weighted, x, y, gamma)
        return (value, dx + dy, dgamma) if cell.symmetric else (value, dx, dy, dgamma)

    return call
