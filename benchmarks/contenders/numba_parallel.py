"""numba: the plain loops, parallel over rows, fastmath for vector code. Imports numba."""

import math

import numba
import numpy as np
from numba import njit, prange


def version():
    return "numba %s" % numba.__version__


@njit(parallel=True, fastmath=True, cache=True)
def kernel(x, y, gamma):
    n, d = x.shape
    m = y.shape[0]
    result = np.empty((n, m), x.dtype)
    columns = np.ascontiguousarray(y.T)
    for i in prange(n):
        row = result[i]
        row[:] = 0
        for k in range(d):
            value = x[i, k]
            for j in range(m):
                difference = value - columns[k, j]
                row[j] += difference * difference
        for j in range(m):
            row[j] = math.exp(-gamma * row[j])
    return result


@njit(parallel=True, fastmath=True, cache=True)
def gradient(x, y, gamma, upstream, threads):
    n, d = x.shape
    m = y.shape[0]
    columns = np.ascontiguousarray(y.T)
    dx = np.empty_like(x)
    dy = np.zeros((threads, d, m), x.dtype)
    value = np.zeros(threads)
    dgamma = np.zeros(threads)
    two_gamma = gamma + gamma
    for t in prange(threads):
        distance = np.empty(m, x.dtype)
        weight = np.empty(m, x.dtype)
        for i in range(t * n // threads, (t + 1) * n // threads):
            distance[:] = 0
            for k in range(d):
                for j in range(m):
                    difference = x[i, k] - columns[k, j]
                    distance[j] += difference * difference
            total = x.dtype.type(0)
            change = x.dtype.type(0)
            for j in range(m):
                weight[j] = upstream[i, j] * math.exp(-gamma * distance[j])
                total += weight[j]
                change += weight[j] * distance[j]
            value[t] += total
            dgamma[t] -= change
            for k in range(d):
                inner = x.dtype.type(0)
                for j in range(m):
                    share = two_gamma * weight[j] * (columns[k, j] - x[i, k])
                    inner += share
                    dy[t, k, j] -= share
                dx[i, k] = inner
    return value.sum(), dx, np.ascontiguousarray(dy.sum(axis=0).T), dgamma.sum()


def prepare(variant, cell, data, threads):
    numba.set_num_threads(threads)
    x, gamma = data["x"], data["gamma"]
    y = x if cell.symmetric else data["y"]
    # Data types come as 0-d arrays; numba wants scalars.
    gamma = gamma[()]
    if cell.task == "kernel":
        kernel(x[:1], y[:1], gamma)  # compiles
        return lambda: (kernel(x, y, gamma),)
    upstream = data["G"]
    gradient(x[:1], y[:1], gamma, upstream[:1, :1].copy(), threads)

    def call():
        value, dx, dy, dgamma = gradient(x, y, gamma, upstream, threads)
        return (value, dx + dy, dgamma) if cell.symmetric else (value, dx, dy, dgamma)

    return call
