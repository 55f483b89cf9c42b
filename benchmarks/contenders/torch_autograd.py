"""PyTorch on the CPU, eager, autograd: torch.cdist, or the norm expansion. Imports torch."""

import torch


def version():
    return "PyTorch %s" % torch.__version__


def tensors(data, threads):
    """The arrays as tensors, y being x when symmetric."""
    torch.set_num_threads(threads)
    found = {k: torch.from_numpy(v) for k, v in data.items() if v is not None and v.ndim}
    found["gamma"] = torch.tensor(data["gamma"])
    return found


def by_cdist(x, y, gamma):
    return torch.exp(-gamma * torch.cdist(x, y).square())


def by_expansion(x, y, gamma):
    norms = x.square().sum(1)[:, None] + y.square().sum(1)
    return torch.exp(-gamma * torch.addmm(norms, x, y.T, alpha=-2).clamp_min(0))


def in_place(x, y, gamma):
    """The expansion without autograd, which can do without new arrays."""
    norms = x.square().sum(1)[:, None] + y.square().sum(1)
    return norms.addmm_(x, y.T, alpha=-2).clamp_min_(0).mul_(-gamma).exp_()


def to_numpy(results):
    return tuple(result.detach().numpy() for result in results)


def prepare(variant, cell, data, threads):
    given = tensors(data, threads)
    x, gamma = given["x"], given["gamma"]
    y = x if cell.symmetric else given["y"]
    if cell.task == "kernel":

        def call():
            with torch.inference_mode():
                if variant == "cdist":
                    return (torch.cdist(x, y).square_().mul_(-gamma).exp_(),)
                return (in_place(x, y, gamma),)

    else:
        kernel = by_cdist if variant == "cdist" else by_expansion
        upstream = given["G"]
        wrt = [x, gamma] if cell.symmetric else [x, y, gamma]
        for tensor in wrt:
            tensor.requires_grad_(True)

        def call():
            value = (kernel(x, y, gamma) * upstream).sum()
            return (value,) + torch.autograd.grad(value, wrt)

    call.to_numpy = to_numpy
    return call
