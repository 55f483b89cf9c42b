"""Kernel density estimate of 100 000 points on a fine grid, its width learnt on held-out points.

The log density is the log of a sum of kernels, stable far from all points. The kernel matrix of
grid and points would take 16 GB; it is never formed. Source of the method: E. Parzen, On estimation
of a probability density function and mode, Annals of Mathematical Statistics 33 (1962). Uses
rbf_op, click, matplotlib.
"""

import click
import numpy as np

from rbf_op import rbf_logsumexp  # isort: skip  (mends Theano before its import)

import theano
import theano.tensor as T
from matplotlib.figure import Figure


def spirals(random, n):
    """Points (n, 2) on three noisy arms, denser towards the centre."""
    arm = random.randint(3, size=n)
    angle = 1.6 * np.pi * np.sqrt(random.uniform(0.02, 1, n))
    radius = 0.25 + 0.45 * angle
    angle = angle + 2 * np.pi / 3 * arm
    points = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return (points + 0.08 * random.randn(n, 2)).astype("float32")


def log_density():
    """f(positions (k, 2), points (n, 2), log_sigma) -> log density (k,), and

    g(...) -> (its mean, the derivative of the mean by log_sigma).
    """
    positions, points = T.fmatrices("positions", "points")
    log_sigma = T.fscalar("log_sigma")
    columns = T.cast(points.shape[1], "float32")
    count = T.cast(points.shape[0], "float32")
    normalisation = T.log(count) + columns * (log_sigma + np.float32(0.5 * np.log(2 * np.pi)))
    density = rbf_logsumexp(positions, points, sigma=T.exp(log_sigma)) - normalisation
    inputs, mean = [positions, points, log_sigma], density.mean()
    return theano.function(inputs, density), theano.function(
        inputs, [mean, T.grad(mean, log_sigma)]
    )


def learn_width(mean_and_slope, held_out, points, log_sigma, steps=14):
    """The width of largest held-out likelihood: the slope's zero, by halving an interval."""
    low, high = log_sigma - 4, log_sigma + 4
    path = []
    for _ in range(steps):
        middle = (low + high) / 2
        mean, slope = mean_and_slope(held_out, points, np.float32(middle))
        path.append((np.exp(middle), float(mean)))
        low, high = (middle, high) if slope > 0 else (low, middle)
    return path


@click.command()
@click.option("--quick", is_flag=True, help="2000 points instead of 100 000.")
@click.option(
    "--figure", default="kernel_density.png", show_default=True, help="Where to save the figure."
)
def main(quick, figure):
    """Kernel density estimate with a learnt width."""
    n, held_out, side = (2000, 200, 40) if quick else (100000, 2000, 200)
    random = np.random.RandomState(0)
    points, others = spirals(random, n), spirals(random, held_out)
    density, mean_and_slope = log_density()
    path = learn_width(mean_and_slope, others, points, np.log(0.1))
    sigma, likelihood = path[-1]
    axis = np.linspace(-3.2, 3.2, side).astype("float32")
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    result = density(grid, points, np.float32(np.log(sigma))).reshape(side, side)
    total = np.exp(result.astype("float64")).sum() * (axis[1] - axis[0]) ** 2
    print("points                    %d" % n)
    print("kernel matrix of the grid %.1f MB, never formed" % (side * side * n * 4 / 1e6))
    print("learnt sigma              %.4f" % sigma)
    print("held-out log likelihood   %.4f per point" % likelihood)
    print("integral over the grid    %.4f" % total)
    print("log density in the corner %.4g (finite)" % result[0, 0])
    assert np.isfinite(result).all()
    draw(figure, axis, result, points, sigma, path)
    print("figure                    %s" % figure)


def draw(path_of_figure, axis, log_density, points, sigma, path):
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=[1, 1.15, 0.9])
    left.plot(*points[:4000].T, ".", color="tab:blue", markersize=1)
    left.set(title="%d of %d points" % (min(4000, len(points)), len(points)))
    extent = [axis[0], axis[-1], axis[0], axis[-1]]
    image = middle.imshow(
        log_density, extent=extent, origin="lower", vmin=-8, vmax=log_density.max()
    )
    figure.colorbar(image, ax=middle, shrink=0.7, extend="min")
    middle.set(title="log density, sigma %.3f" % sigma)
    for panel in (left, middle):
        panel.set(xlim=extent[:2], ylim=extent[:2], aspect="equal")
    right.plot(*zip(*sorted(path)), "o-", markersize=4)
    lowest = min(value for width, value in path if value > path[-1][1] - 3)
    right.set(xscale="log", xlabel="sigma", ylim=(lowest - 0.2, path[-1][1] + 0.2))
    right.set_xticks([0.02, 0.05, 0.1], ["0.02", "0.05", "0.1"])
    right.minorticks_off()
    right.set(title="Held-out log likelihood")
    figure.savefig(path_of_figure, dpi=80)


if __name__ == "__main__":
    main()
