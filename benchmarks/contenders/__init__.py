"""Who is measured. Each module here has prepare(variant, cell, data, threads) and version().

Contenders write what their library's user would write for the task, at its best: compiled where
it compiles, in place where it can be. This file: standard library only.
"""

from collections import namedtuple

KERNEL = ("kernel", "gradient")
PRODUCT = ("product", "product gradient")

# module below this package (or any importable one, if dotted); environment as in environments.py,
# None for the package's own; role: "ours", "ours too" (another way to use the package), "peer",
# "overhead" (an empty call, of the smallest cell only), or "limit" (what the machine takes for a
# part of the work); sums: never forms K, see Cell.as_sums.
Contender = namedtuple("Contender", "key label module variant environment role tasks groups sums")


def _contender(
    key, label, module, environment=None, role="peer", tasks=KERNEL, groups=("grid",), sums=False
):
    variant = key.partition("-")[2]
    return Contender(key, label, module, variant, environment, role, tasks, groups, sums)


_PRODUCT = ("product", "product-large")
_GROWTH = ("grid", "growth-n", "growth-d")

ALL = (
    _contender(
        "rbf_op", "rbf_op", "rbf_op_node", role="ours", groups=_GROWTH + ("threads", "busy")
    ),
    _contender(
        "rbf_op-reused", "rbf_op, output reused", "rbf_op_node", role="ours too", groups=_GROWTH
    ),
    _contender(
        "rbf_op-busy", "rbf_op, a core busy", "rbf_op_busy", role="ours too", groups=("busy",)
    ),
    _contender("theano-empty", "Theano, empty function", "theano_graphs", role="overhead"),
    _contender("theano-expansion", "Theano, expansion", "theano_graphs"),
    _contender("theano-broadcast", "Theano, broadcast", "theano_graphs"),
    _contender("theano-map", "Theano, map", "theano_graphs"),
    _contender("numpy", "NumPy, expansion", "numpy_expansion", groups=_GROWTH),
    _contender("sklearn", "scikit-learn", "sklearn_kernel", tasks=("kernel",), groups=_GROWTH),
    _contender(
        "daal4py", "daal4py", "daal4py_kernel", "intelex", tasks=("kernel",), groups=_GROWTH
    ),
    _contender("torch-cdist", "PyTorch, cdist", "torch_autograd", "torch"),
    _contender("torch-expansion", "PyTorch, expansion", "torch_autograd", "torch", groups=_GROWTH),
    _contender("jax-broadcast", "JAX, broadcast", "jax_jit", "jax", groups=_GROWTH),
    _contender("jax-expansion", "JAX, expansion", "jax_jit", "jax", groups=_GROWTH),
    _contender("numba", "numba, parallel", "numba_parallel", "numba", groups=_GROWTH),
    _contender("keops", "KeOps, sums only", "keops_sum", "keops", sums=True),
    _contender(
        "dot-rbf_op",
        "rbf_op, rbf_dot",
        "rbf_op_dot",
        role="ours",
        tasks=PRODUCT,
        groups=_PRODUCT,
    ),
    _contender(
        "formed-rbf_op",
        "rbf_op, K formed",
        "rbf_op_formed",
        role="ours too",
        tasks=PRODUCT,
        groups=_PRODUCT,
    ),
    _contender("blocks-numpy", "NumPy, row blocks", "numpy_blocks", tasks=PRODUCT, groups=_PRODUCT),
    _contender(
        "blocks-torch",
        "PyTorch, row blocks",
        "torch_blocks",
        "torch",
        tasks=PRODUCT,
        groups=_PRODUCT,
    ),
    _contender(
        "blocks-jax", "JAX, row blocks", "jax_blocks", "jax", tasks=PRODUCT, groups=_PRODUCT
    ),
    _contender("dot-keops", "KeOps", "keops_sum", "keops", tasks=PRODUCT, groups=_PRODUCT),
    _contender(
        "limit-arithmetic",
        "arithmetic on registers",
        "limits",
        role="limit",
        tasks=KERNEL + PRODUCT,
        groups=("grid",) + _PRODUCT,
    ),
    _contender("limit-stores", "K stored", "limits", role="limit", tasks=("kernel",)),
    _contender("limit-streams", "K streamed", "limits", role="limit", tasks=("kernel",)),
    _contender("limit-loads", "G read", "limits", role="limit", tasks=("gradient",)),
)

BY_KEY = {contender.key: contender for contender in ALL}
