"""PyTorch on the CPU: K @ W and its gradients in blocks of rows. Imports torch."""

import torch

from benchmarks.contenders.torch_autograd import (
    by_expansion,
    in_place,
    tensors,
    to_numpy,
    version,
)

__all__ = ["prepare", "version"]

BLOCK_ENTRIES = 1 << 22


def prepare(variant, cell, data, threads):
    given = tensors(data, threads)
    x, gamma, weights, upstream = (given[k] for k in ("x", "gamma", "W", "H"))
    y = x if cell.symmetric else given["y"]
    step = max(1, BLOCK_ENTRIES // cell.m)
    starts = range(0, cell.n, step)
    if cell.task == "product":

        def call():
            with torch.inference_mode():
                result = torch.empty((cell.n, cell.p), dtype=x.dtype)
                for i in starts:
                    kernel = in_place(x[i : i + step], y, gamma)
                    torch.mm(kernel, weights, out=result[i : i + step])
                return (result,)

    else:
        wrt = [x, gamma, weights] if cell.symmetric else [x, y, gamma, weights]
        for tensor in wrt:
            tensor.requires_grad_(True)

        def call():
            total = torch.zeros((), dtype=x.dtype)
            for tensor in wrt:
                tensor.grad = None
            for i in starts:
                block = by_expansion(x[i : i + step], y, gamma) @ weights
                value = (block * upstream[i : i + step]).sum()
                value.backward()
                total += value.detach()
            return (total,) + tuple(tensor.grad for tensor in wrt)

    call.to_numpy = to_numpy
    return call
