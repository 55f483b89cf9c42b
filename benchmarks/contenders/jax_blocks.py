"""JAX on the CPU: K @ W and its gradients, lax.map over blocks of rows. Imports jax."""

import jax
import jax.numpy as jnp

from benchmarks.contenders.jax_jit import by_expansion, compiled, version

__all__ = ["prepare", "version"]

BLOCK_ENTRIES = 1 << 22


def prepare(variant, cell, data, threads):
    points = [data["x"]] if cell.symmetric else [data["x"], data["y"]]
    arguments = points + [data["gamma"], data["W"]]
    # Equal blocks, for lax.map: the largest divisor of n that keeps to the size.
    limit = max(1, min(cell.n, BLOCK_ENTRIES // cell.m))
    step = max(size for size in range(1, limit + 1) if cell.n % size == 0)

    def product(*given):
        x, y, gamma, weights = given[0], given[-3], given[-2], given[-1]

        # Without checkpoint the gradient would keep every block of K.
        @jax.checkpoint
        def block(rows):
            return by_expansion(rows, y, gamma) @ weights

        blocks = x.reshape(cell.n // step, step, cell.d)
        return jax.lax.map(block, blocks).reshape(cell.n, cell.p)

    if cell.task == "product":
        return compiled(product, arguments, lambda result: (result,))

    def value(*given):
        return jnp.vdot(product(*given[:-1]), given[-1])

    function = jax.value_and_grad(value, argnums=tuple(range(len(arguments))))
    return compiled(
        function, arguments + [data["H"]], lambda result: (result[0],) + tuple(result[1])
    )
