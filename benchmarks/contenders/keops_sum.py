"""KeOps on the CPU, through its PyTorch LazyTensors: K @ W by sums over j, with autograd.

It never has K itself: for the tasks that need K it stands in with the product by one vector, which
reads and writes no n * m array. Imports torch and pykeops.
"""

import os

# Compiled formulas stay with the environment. Set before the import that reads it.
os.environ.setdefault(
    "KEOPS_CACHE_FOLDER", os.path.join(os.environ.get("VIRTUAL_ENV", "."), "keops")
)

import pykeops  # noqa: E402
import torch  # noqa: E402
from pykeops.torch import LazyTensor  # noqa: E402

from benchmarks.contenders.torch_autograd import tensors, to_numpy  # noqa: E402


def version():
    return "KeOps %s" % pykeops.__version__


def product(x, y, gamma, weights):
    rows, columns = LazyTensor(x[:, None, :]), LazyTensor(y[None, :, :])
    kernel = (-((rows - columns) ** 2).sum(-1) * LazyTensor(gamma.view(1, 1, 1))).exp()
    return kernel @ weights


def prepare(variant, cell, data, threads):
    given = tensors(data, threads)
    x, gamma, weights, upstream = (given[k] for k in ("x", "gamma", "W", "H"))
    y = x if cell.symmetric else given["y"]
    if cell.task == "product":

        def call():
            with torch.no_grad():
                return (product(x, y, gamma, weights),)

        with torch.no_grad():
            product(x[:2], y[:2], gamma, weights[:2])  # compiles
    else:
        wrt = [x, gamma] if cell.symmetric else [x, y, gamma]
        if cell.task == "product gradient":
            wrt.append(weights)
        for tensor in wrt:
            tensor.requires_grad_(True)

        def gradients(x, y, weights, upstream):
            value = (product(x, y, gamma, weights) * upstream).sum()
            return (value,) + torch.autograd.grad(value, wrt)

        def call():
            return gradients(x, y, weights, upstream)

        gradients(x[:2], x[:2] if cell.symmetric else y[:2], weights[:2], upstream[:2])
    call.to_numpy = to_numpy
    return call
