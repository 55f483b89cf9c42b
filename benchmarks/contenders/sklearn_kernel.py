"""scikit-learn's pairwise.rbf_kernel. It has no gradients. Imports scikit-learn."""

import sklearn
from sklearn.metrics.pairwise import rbf_kernel


def version():
    return "scikit-learn %s" % sklearn.__version__


def prepare(variant, cell, data, threads):
    x, y, gamma = data["x"], data["y"], float(data["gamma"])
    return lambda: (rbf_kernel(x, y, gamma=gamma),)
