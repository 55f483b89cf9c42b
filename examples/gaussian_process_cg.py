"""A Gaussian process on 20 000 points by conjugate gradients: K (3.2 GB in float64) never formed.

Hyperparameters are fitted by gradients of the negative log likelihood. The gradient is an estimate:
solves take at most so many conjugate gradient steps, preconditioned by some of the points, and the
trace is taken from random probes. Sources of the method: M. F. Hutchinson, A stochastic estimator
of the trace of the influence matrix, Communications in Statistics 18 (1989); M. N. Gibbs and D. J.
C. MacKay, Efficient implementation of Gaussian processes (1997); K. Cutajar et al., Preconditioning
kernel matrices (2016). Uses rbf_op, click, matplotlib, SciPy.
"""

import click
import numpy as np

from rbf_op import rbf_dot, rbf_kernel  # isort: skip  (mends Theano before its import)

import theano
import theano.tensor as T
from matplotlib.figure import Figure
from scipy.linalg import cho_factor, cho_solve

NAMES = ("lengthscale", "amplitude", "noise")


def truth(x):
    return np.sin(9 * x[:, 0]) * np.cos(7 * x[:, 1]) + 0.5 * np.sin(20 * x[:, 0] * x[:, 1])


def graphs():
    """product(x, columns, theta) = A columns; slopes(x, left, right, theta) = d/dtheta of

    sum(left * (A right)), with A = amplitude * exp(-|x_i - x_j|^2 / (2 lengthscale^2)) + noise * I
    and theta the logarithms of the three; cross(z, x, alpha, theta) = the mean at positions z;
    some(z, x, theta) = the kernel matrix of z and x.
    """
    x, z, left, right = T.dmatrices("x", "z", "left", "right")
    theta = T.dvector("theta")
    lengthscale, amplitude, noise = (T.exp(theta[i]) for i in range(3))
    kernel = dict(sigma=lengthscale, amplitude=amplitude)
    product = rbf_dot(x, None, right, **kernel) + noise * right
    slopes = T.grad((left * product).sum(), theta, consider_constant=[left, right])
    return (
        theano.function([x, right, theta], product),
        theano.function([x, left, right, theta], slopes),
        theano.function([z, x, right, theta], rbf_dot(z, x, right, **kernel)),
        theano.function([z, x, theta], rbf_kernel(z, x, **kernel)),
    )


def preconditioner(some, x, theta, count):
    """f(columns) = M^-1 columns, M = C B^-1 C' + noise * I, which is near A.

    C is the kernel matrix of all points and `count` of them, B of those: Nystrom's approximation,
    inverted by Woodbury's formula.
    """
    noise = np.exp(theta[2])
    c = some(x, x[:count], theta)
    inner = cho_factor(noise * (some(x[:count], x[:count], theta) + 1e-8 * np.eye(count)) + c.T @ c)
    return lambda columns: (columns - c @ cho_solve(inner, c.T @ columns)) / noise


def conjugate_gradients(multiply, precondition, b, steps, enough=1e-10):
    """A^-1 b for each column of b, and the largest residual relative to b.

    After so many steps, or earlier if that is enough.
    """
    solution, residual = np.zeros_like(b), b.copy()
    image = precondition(residual)
    direction, square = image, (residual * image).sum(axis=0)
    for _ in range(steps):
        image = multiply(direction)
        step = square / (direction * image).sum(axis=0)
        solution += step * direction
        residual -= step * image
        remainder = np.sqrt(np.max((residual**2).sum(axis=0) / (b**2).sum(axis=0)))
        if remainder < enough:
            break
        image = precondition(residual)
        previous, square = square, (residual * image).sum(axis=0)
        direction = image + square / previous * direction
    return solution, remainder


def gradient_of_likelihood(product, slopes, precondition, x, y, theta, probes, steps):
    """Estimated gradient by theta of the negative log likelihood

        1/2 y' A^-1 y + 1/2 log det A + n/2 log(2 pi).

    Its derivative is -1/2 alpha' dA alpha + 1/2 trace(A^-1 dA) with alpha = A^-1 y. The trace is
    the expectation of (A^-1 z)' dA z over probes z of random signs: their mean is unbiased if the
    solves are exact, and biased by what conjugate gradients leave over. All solves share their
    products with A, and one gradient node gives all terms. Also returns alpha and the residual.
    """
    columns = np.concatenate([y[:, None], probes], axis=1)
    solved, residual = conjugate_gradients(
        lambda c: product(x, c, theta), precondition, columns, steps
    )
    alpha, count = solved[:, :1], probes.shape[1]
    left = np.concatenate([-0.5 * alpha, solved[:, 1:] * (0.5 / count)], axis=1)
    right = np.concatenate([alpha, probes], axis=1)
    return slopes(x, left, right, theta), alpha, residual


def signs(random, n, count):
    return random.choice([-1.0, 1.0], size=(n, count))


@click.command()
@click.option("--quick", is_flag=True, help="400 points instead of 20 000.")
@click.option(
    "--figure",
    default="gaussian_process_cg.png",
    show_default=True,
    help="Where to save the figure.",
)
def main(quick, figure):
    """Gaussian process regression by conjugate gradients."""
    n, probes, steps, updates, chosen = (400, 8, 10, 4, 40) if quick else (20000, 8, 15, 12, 200)
    random = np.random.RandomState(0)
    x = random.uniform(0, 1, (n, 2))
    y = truth(x) + 0.5 * random.randn(n)
    product, slopes, cross, some = graphs()
    theta = np.log([0.3, 0.5, 0.5])
    print("points              %d" % n)
    print("kernel matrix       %.1f MB, never formed" % (n * n * 8 / 1e6))
    print("one gradient        %d steps, %d probes" % (steps, probes))
    path, mean_square = [np.exp(theta)], np.zeros(3)
    for update in range(1, updates + 1):
        precondition = preconditioner(some, x, theta, chosen)
        gradient, _, residual = gradient_of_likelihood(
            product, slopes, precondition, x, y, theta, signs(random, n, probes), steps
        )
        # RMSprop: the three slopes differ by orders of magnitude.
        mean_square = 0.8 * mean_square + 0.2 * gradient**2
        scale = np.sqrt(mean_square / (1 - 0.8**update))
        theta = theta - 0.2 / np.sqrt(update) * gradient / scale
        path.append(np.exp(theta))
        parameters = "  ".join("%s %.3f" % pair for pair in zip(NAMES, path[-1]))
        print("update %2d  %s  residual %.0e" % (update, parameters, residual))
    precondition = preconditioner(some, x, theta, chosen)
    alpha, residual = conjugate_gradients(
        lambda c: product(x, c, theta), precondition, y[:, None], 2 * steps
    )
    positions = random.uniform(0, 1, (500 if quick else 2000, 2))
    error = cross(positions, x, alpha, theta)[:, 0] - truth(positions)
    print("residual of y       %.1e" % residual)
    print(
        "error of the mean   %.4f (standard deviation of the noise: 0.5)"
        % np.sqrt((error**2).mean())
    )
    draw(figure, x, y, lambda z: cross(z, x, alpha, theta)[:, 0], np.array(path))
    print("figure              %s" % figure)


def draw(path_of_figure, x, y, mean, path):
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    panels = figure.subplots(1, 4, width_ratios=[1, 1, 1, 1.1])
    axis = np.linspace(0, 1, 80)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    style = dict(vmin=-1.6, vmax=1.6, cmap="RdBu_r")
    shown = slice(0, 5000)
    panels[0].scatter(*x[shown].T, c=y[shown], s=1, **style)
    panels[0].set(title="%d of %d points" % (len(x[shown]), len(x)))
    for panel, values, title in zip(
        panels[1:3], (mean(grid), truth(grid)), ("mean of the process", "truth")
    ):
        panel.imshow(values.reshape(80, 80), extent=[0, 1, 0, 1], origin="lower", **style)
        panel.set(title=title)
    for panel in panels[:3]:
        panel.set(aspect="equal", xticks=[0, 1], yticks=[0, 1])
    for name, values in zip(NAMES, path.T):
        panels[3].plot(values, "o-", markersize=3, label=name)
    panels[3].axhline(0.25, color="0.6", linewidth=0.8, linestyle="--", label="true noise")
    panels[3].set(xlabel="updates", yscale="log", title="hyperparameters")
    panels[3].legend(fontsize=7)
    figure.savefig(path_of_figure, dpi=90)


if __name__ == "__main__":
    main()
