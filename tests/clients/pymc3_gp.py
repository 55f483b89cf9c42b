"""PyMC3: log-likelihood of a Gaussian process with an ExpQuad kernel, and its gradient.

Nothing of the model knows of rbf_op; autofuse is on for the second of two compilations.
"""

import common  # isort: skip  (before Theano)

import numpy as np
import pymc3
import theano
import theano.tensor as T

import rbf_op.autofuse


def functions(points, targets, mode):
    """(logp and dlogp, kernel matrix and its gradient) as PyMC3 compiles them."""
    with pymc3.Model() as model:
        lengthscale = pymc3.Gamma("lengthscale", alpha=2, beta=1, shape=points.shape[1])
        eta = pymc3.HalfCauchy("eta", beta=5)
        noise = pymc3.HalfCauchy("noise", beta=5)
        covariance = eta**2 * pymc3.gp.cov.ExpQuad(points.shape[1], ls=lengthscale)
        process = pymc3.gp.Marginal(cov_func=covariance)
        process.marginal_likelihood("y", X=points, y=targets, noise=noise)
        both = model.logp_dlogp_function(mode=mode)
        both.set_extra_values({})
    # The kernel's part of it: the rest is a Cholesky factorisation.
    inputs = [T.dvector("l"), T.dscalar("e")]
    inputs[0].tag.test_value, inputs[1].tag.test_value = np.ones(points.shape[1]), 1.0
    kernel = inputs[1] ** 2 * pymc3.gp.cov.ExpQuad(points.shape[1], ls=inputs[0])(points)
    weights = theano.shared(np.random.RandomState(2).randn(len(points), len(points)))
    gradient = T.grad((weights * kernel).sum(), inputs)
    part = theano.function(inputs, [kernel.sum()] + gradient, mode=mode)
    return both, part


def run(n, d):
    rng = np.random.RandomState(0)
    points, targets = rng.randn(n, d), rng.randn(n)
    plain = functions(points, targets, common.plain_mode())
    with rbf_op.autofuse.enabled():
        fused = functions(points, targets, common.fused_mode())
    return plain, fused


def main():
    options = common.arguments()
    d = 3
    (plain, plain_part), (fused, fused_part) = run(40, d)
    position = np.linspace(-0.5, 0.5, d + 2)
    part_arguments = np.linspace(0.5, 1.5, d), 1.3
    results = {
        "client": "PyMC3 " + pymc3.__version__,
        "graph": "gp.Marginal, ExpQuad: logp, dlogp",
        "nodes before": common.node_counts(plain._theano_function),
        "nodes": common.node_counts(fused._theano_function),
        "difference": max(
            common.largest_difference(plain(position), fused(position)),
            common.largest_difference(plain_part(*part_arguments), fused_part(*part_arguments)),
        ),
        "tolerance": 1e-9,
    }
    if options.time:
        n = 2000
        (plain, plain_part), (fused, fused_part) = run(n, d)
        results["seconds"] = {
            "kernel and its gradient, n=%d" % n: common.interleaved_seconds(
                lambda: plain_part(*part_arguments),
                lambda: fused_part(*part_arguments),
                options.repeats,
            ),
            "logp and dlogp, n=%d" % n: common.interleaved_seconds(
                lambda: plain(position), lambda: fused(position), min(options.repeats, 3)
            ),
        }
    common.show(results)


if __name__ == "__main__":
    main()
