"""scikit-learn's pairwise.rbf_kernel. It has no gradients. Imports scikit-learn."""

import sklearn
from sklearn.metrics.pairwise import rbf_kernel

from benchmarks.contenders.numpy_expansion import blas


def version():
    return "scikit-learn %s, %s" % (sklearn.__version__, blas())


def prepare(variant, cell, data, threads):
    x, y, gamma = data["x"], data["y"], float(data["gamma"])
    return lambda: (rbf_kernel(x, y, gamma=gamma),)
