"""daal4py's kernel_function_rbf (scikit-learn-intelex). It has no gradients. Imports daal4py."""

from importlib import metadata

import daal4py


def version():
    return "scikit-learn-intelex %s" % metadata.version("scikit-learn-intelex")


def prepare(variant, cell, data, threads):
    daal4py.daalinit(threads)
    x = data["x"]
    y = x if cell.symmetric else data["y"]
    # It takes a sigma: K = exp(-D / (2 sigma^2)).
    sigma = float((0.5 / data["gamma"]) ** 0.5)
    precision = "float" if cell.dtype == "float32" else "double"
    algorithm = daal4py.kernel_function_rbf(fptype=precision, sigma=sigma)
    return lambda: (algorithm.compute(x, y).values,)
