"""Nadaraya-Watson regression: the mean of the neighbours' values, weighted by a Gaussian kernel.

The width is learnt from the gradient of the leave-one-out error. The kernel matrix of 20 000 points
would take 3.2 GB; it is never formed. Source of the method: E. A. Nadaraya, On estimating
regression, Theory of Probability and its Applications 9 (1964). Uses rbf_op, click, matplotlib,
SciPy.
"""

import click
import numpy as np

from rbf_op import rbf_dot  # isort: skip  (mends Theano before its import)

import theano
import theano.tensor as T
from matplotlib.figure import Figure
from scipy.optimize import minimize


def truth(x):
    return np.sin(3 * x) + 0.4 * np.sin(17 * x) * (x > 0)


def estimator():
    """f(positions, x, values, sigma): weighted means of values (n,) given at x (n,).

    Numerator and denominator are two columns of one product.
    """
    positions, x, values = T.dvectors("positions", "x", "values")
    sigma = T.dscalar("sigma")
    columns = T.stack([values, T.ones_like(values)], axis=1)
    sums = rbf_dot(positions.dimshuffle(0, "x"), x.dimshuffle(0, "x"), columns, sigma=sigma)
    return theano.function([positions, x, values, sigma], sums[:, 0] / sums[:, 1])


def leave_one_out():
    """f(x, values, log_sigma) -> (mean squared error, its derivative by log_sigma).

    Each value is predicted from all others: its own term, exactly 1 times itself, is taken off.
    """
    x, values = T.dvectors("x", "values")
    log_sigma = T.dscalar("log_sigma")
    columns = T.stack([values, T.ones_like(values)], axis=1)
    sums = rbf_dot(x.dimshuffle(0, "x"), None, columns, sigma=T.exp(log_sigma)) - columns
    error = T.sqr(sums[:, 0] / (sums[:, 1] + 1e-300) - values).mean()
    return theano.function([x, values, log_sigma], [error, T.grad(error, log_sigma)])


def learn_width(error, x, values, log_sigma):
    """[(sigma, error)] of every call on the way to the least error, by SciPy's L-BFGS-B."""
    path = []

    def value_and_slope(theta):
        value, slope = error(x, values, theta[0])
        path.append((np.exp(theta[0]), float(value)))
        return value, np.array([slope])

    bounds = [(np.log(1e-3), np.log(2))]
    minimize(value_and_slope, [log_sigma], jac=True, method="L-BFGS-B", bounds=bounds)
    return path


@click.command()
@click.option("--quick", is_flag=True, help="400 points instead of 20 000.")
@click.option(
    "--figure", default="nadaraya_watson.png", show_default=True, help="Where to save the figure."
)
def main(quick, figure):
    """Nadaraya-Watson regression with a learnt width."""
    n = 400 if quick else 20000
    random = np.random.RandomState(0)
    x = random.uniform(-2, 2, n)
    values = truth(x) + 0.4 * random.randn(n)
    error, predict = leave_one_out(), estimator()
    path = learn_width(error, x, values, np.log(0.5))
    sigma, best = min(path, key=lambda entry: entry[1])
    grid = np.linspace(-2, 2, 600)
    print("points               %d" % n)
    print("kernel matrix        %.1f MB, never formed" % (n * n * 8 / 1e6))
    print("learnt sigma         %.4f after %d gradients" % (sigma, len(path)))
    print("leave-one-out error  %.4f (variance of the noise: 0.16)" % best)
    fits = {width: predict(grid, x, values, width) for width in (sigma / 8, sigma, sigma * 12)}
    print("error of the curve   %.4f" % np.sqrt(np.mean((fits[sigma] - truth(grid)) ** 2)))
    draw(figure, x, values, grid, fits, sigma, path, error)
    print("figure               %s" % figure)


def draw(path_of_figure, x, values, grid, fits, sigma, path, error):
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.6, 1])
    shown = slice(0, 2500)
    left.plot(x[shown], values[shown], ".", color="0.8", markersize=2, zorder=0)
    left.plot(grid, truth(grid), "k--", linewidth=1, label="truth")
    for (width, fit), colour in zip(fits.items(), ("tab:orange", "tab:blue", "tab:red")):
        name = "sigma %.3g%s" % (width, ", learnt" if width == sigma else "")
        left.plot(grid, fit, color=colour, linewidth=1.8 if width == sigma else 0.9, label=name)
    left.set(xlabel="x", ylabel="value", title="Nadaraya-Watson regression, %d points" % len(x))
    left.legend(loc="lower right", fontsize=8)
    widths = np.geomspace(sigma / 8, 0.8, 15)
    errors = [error(x, values, np.log(width))[0] for width in widths]
    right.plot(widths, errors, color="0.6")
    right.plot(*zip(*path), "o-", color="tab:blue", markersize=4, linewidth=0.8, label="on the way")
    right.set(xscale="log", xlabel="sigma", title="Leave-one-out error")
    right.legend(fontsize=8)
    figure.savefig(path_of_figure, dpi=90)


if __name__ == "__main__":
    main()
