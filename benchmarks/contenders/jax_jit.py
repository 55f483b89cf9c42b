"""JAX on the CPU: jit and grad of the broadcast form or of the norm expansion. Imports jax."""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import problem

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_enable_x64", True)


def version():
    return "JAX %s" % jax.__version__


def by_broadcast(x, y, gamma):
    return jnp.exp(-gamma * ((x[:, None, :] - y[None, :, :]) ** 2).sum(-1))


def by_expansion(x, y, gamma):
    distance = (x * x).sum(1)[:, None] + (y * y).sum(1)[None, :] - 2 * x @ y.T
    return jnp.exp(-gamma * jnp.maximum(distance, 0))


def compiled(function, arguments, results_of):
    """A call of the function, compiled for these arguments, that waits for its results."""
    arguments = [jnp.asarray(argument) for argument in arguments]
    run = jax.jit(function).lower(*arguments).compile()

    def call():
        return jax.block_until_ready(run(*arguments))

    call.to_numpy = lambda results: tuple(np.asarray(r) for r in results_of(results))
    return call


def prepare(variant, cell, data, threads):
    if variant == "broadcast":
        problem.refuse_broadcast(cell)
    kernel = by_broadcast if variant == "broadcast" else by_expansion
    points = [data["x"]] if cell.symmetric else [data["x"], data["y"]]
    arguments = points + [data["gamma"]]

    def k(*given):
        return kernel(given[0], given[-2], given[-1])

    if cell.task == "kernel":
        return compiled(k, arguments, lambda result: (result,))

    def value(*given):
        return (k(*given[:-1]) * given[-1]).sum()

    function = jax.value_and_grad(value, argnums=tuple(range(len(arguments))))
    return compiled(
        function, arguments + [data["G"]], lambda result: (result[0],) + tuple(result[1])
    )
