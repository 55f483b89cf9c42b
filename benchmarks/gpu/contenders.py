"""Who is timed: our kernels, torch, cupy and keops, each with the calls that a problem has for it.

Others write what their library's user would write, at its best. May import NumPy and, when asked
for their calls, torch, cupy and pykeops; launches and problem are given.
"""

import functools
import importlib.util

import numpy as np

OURS, KEOPS = "rbf_op", "keops"

# Each yields (what, contender, call, what takes the checked rows of its results to the host). Calls
# return their results by name. Nothing is yielded where the library is missing, nothing on the
# device is made before a call.


def our_calls(launch, problem, with_k):
    device = problem.device
    wanted, all_of_k = ("x", "y", "gamma", "weights"), ("x", "y", "gamma", "amplitude")

    def product():
        a = problem.on_device
        return {"P": launch.product(device, a["x"], a["y"], a["gamma"], a["w"])}

    def product_gradient(gamma=None, wanted=wanted):
        product()  # others' gradients work out the value as well
        a = problem.on_device
        gamma = a["gamma"] if gamma is None else gamma
        return launch.product_gradient(device, a["x"], a["y"], gamma, a["w"], a["q"], wanted)

    def on_host(results):
        return {
            k: device.to_host(v[: problem.checked] if v.ndim else v) for k, v in results.items()
        }

    def with_gammas(gradient):
        """on_host, of the gradient by a gamma for each centre as well: what one for all adds up."""

        def on_host_with_gammas(results):
            gammas = device.to_device(np.full(problem.n, problem.host["gamma"]))
            found = on_host(gradient(gammas, ("gamma",)))
            return dict(on_host(results), gammas=found["gamma"])

        return on_host_with_gammas

    yield "product", OURS, product, on_host
    yield "gradient of product", OURS, product_gradient, with_gammas(product_gradient)
    if not with_k:
        return

    @functools.lru_cache(maxsize=None)
    def out():
        return device.empty((problem.n, problem.n), problem.dtype)

    def arguments():
        a = problem.on_device
        return device, a["x"], a["y"], a["gamma"], device.one(problem.dtype)

    def forward():
        return {"K": launch.forward(*arguments(), out=out())}

    def gradient(gamma=None, wanted=all_of_k):  # K stands for its own gradient
        K = forward()["K"]
        device, x, y, one_gamma, amplitude = arguments()
        gamma = one_gamma if gamma is None else gamma
        return launch.gradient(device, x, y, gamma, amplitude, K, wanted)

    def brought_back():
        return {"K": device.to_host(forward()["K"])}

    yield "K kept", OURS, forward, on_host
    yield "gradient of K", OURS, gradient, with_gammas(gradient)
    yield "K brought back", OURS, brought_back, lambda r: {"K": r["K"][: problem.checked]}


def is_installed(library):
    """Whether it is there: then what its import lacks is a failure to be told."""
    return importlib.util.find_spec(library) is not None


def torch_arrays(problem):
    """A function of x, y, w and q as torch has them on the device, and one of their rows there."""
    import torch

    @functools.lru_cache(maxsize=None)
    def arrays():
        return [torch.as_tensor(problem.host[k]).cuda() for k in "xywq"]

    def on_host(results):
        return {k: v[: problem.checked].detach().cpu().numpy() for k, v in results.items()}

    return arrays, on_host


def torch_calls(problem, with_k):
    if not is_installed("torch"):
        return
    import torch

    if not torch.cuda.is_available():
        return
    arrays, on_host = torch_arrays(problem)
    gamma = problem.gamma
    # Precision as ours: TF32 has three digits. (Torch 2.9 warns of the older name.)
    matmul = torch.backends.cuda.matmul
    if hasattr(matmul, "fp32_precision"):
        matmul.fp32_precision = "ieee"
    else:
        matmul.allow_tf32 = False

    def expansion(a, b):
        distance = (a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * a @ b.T
        return torch.exp(-gamma * distance.clamp(min=0))

    def addmm(a, b):  # the same with one matrix of the size of K
        exponent = torch.addmm(-gamma * (b * b).sum(1), a, b.T, alpha=2 * gamma)
        return exponent.sub_(gamma * (a * a).sum(1)[:, None]).clamp_(max=0).exp_()

    def cdist(a, b):
        return torch.exp(-gamma * torch.cdist(a, b).square())

    rows = max(1, min(problem.n, (1 << 28) // problem.n))  # blocks where memory would end
    blocks = range(0, problem.n, rows)

    def product(kernel):
        x, y, w, _ = arrays()
        return {"P": torch.cat([kernel(x[i : i + rows], y) @ w for i in blocks])}

    def forward(kernel):
        return {"K": kernel(*arrays()[:2])}

    def gradient(kernel):
        a, b = (v.clone().requires_grad_() for v in arrays()[:2])
        K = kernel(a, b)
        return dict(zip("xy", torch.autograd.grad(K, [a, b], K.detach())))

    def product_gradient(kernel):
        a, b, c = (v.clone().requires_grad_() for v in arrays()[:3])
        q = arrays()[3]
        for i in blocks:
            (kernel(a[i : i + rows], b) @ c).backward(q[i : i + rows])
        return {"x": a.grad, "y": b.grad, "weights": c.grad}

    for name, kernel in (("expansion", expansion), ("addmm", addmm), ("cdist", cdist)):
        calls = [("product", product), ("gradient of product", product_gradient)]
        if with_k:
            calls += [("K kept", forward), ("gradient of K", gradient)]
        for what, function in calls:
            yield what, "torch " + name, functools.partial(function, kernel), on_host


def cupy_calls(problem, with_k):
    if not with_k or not is_installed("cupy"):
        return
    import cupy

    gamma = problem.gamma

    @functools.lru_cache(maxsize=None)
    def arrays():
        return [cupy.asarray(problem.host[k]) for k in "xyw"]

    def expansion():
        x, y, _ = arrays()
        distance = (x * x).sum(1)[:, None] + (y * y).sum(1) - 2 * x @ y.T
        return {"K": cupy.exp(-gamma * cupy.maximum(distance, 0))}

    def product():
        return {"P": expansion()["K"] @ arrays()[2]}

    def on_host(results):
        return {k: cupy.asnumpy(v[: problem.checked]) for k, v in results.items()}

    yield "K kept", "cupy expansion", expansion, on_host
    yield "product", "cupy expansion", product, on_host


def keops_calls(problem):
    if not is_installed("pykeops"):
        return
    import torch
    from pykeops.torch import LazyTensor

    if not torch.cuda.is_available():
        return
    arrays, on_host = torch_arrays(problem)
    gamma = problem.gamma

    def of(a, b, c):
        distance = ((LazyTensor(a[:, None, :]) - LazyTensor(b[None, :, :])) ** 2).sum(-1)
        return (-gamma * distance).exp() @ c

    def product():
        return {"P": of(*arrays()[:3])}

    def gradient():
        arguments = [v.clone().requires_grad_() for v in arrays()[:3]]
        gradients = torch.autograd.grad(of(*arguments), arguments, arrays()[3])
        return dict(zip(("x", "y", "weights"), gradients))

    yield "product", KEOPS, product, on_host
    yield "gradient of product", KEOPS, gradient, on_host


# What gives the driver back the memory that a library keeps for later arrays.
EMPTY_CACHE = {
    "torch": lambda torch: torch.cuda.empty_cache(),
    "cupy": lambda cupy: cupy.get_default_memory_pool().free_all_blocks(),
}
