"""Slices of K, of a mixture and of products: the same numbers and gradients, and only the entries
that they show are computed.

Graphs run in NumPy here, where they compile at once.
"""

import contextlib
from unittest import mock

import graphs
import numpy as np
import pytest

from rbf_op import fuse, rbf_dot, rbf_kernel, rbf_mixture  # isort: skip  (before Theano's import)

import theano
import theano.tensor as T

from rbf_op import reference
from rbf_op.ops import RBFDot

N, M, D, P = 9, 8, 3, 4
NUMPY = ["rbf_kernel", "rbf_mixture", "rbf_dot"]

x, y, weights = T.dmatrices("x", "y", "weights")
gamma, amplitude = T.dvectors("gamma", "amplitude")
width, i, j = T.dscalar("width"), T.lscalar("i"), T.lscalar("j")
INPUTS = [x, y, gamma, amplitude, width, weights, i, j]
REWRITES = ("local_rbf_subtensor_lift", "local_rbf_gradient_of_slices")


def given(**other):
    random = np.random.RandomState(2)
    shapes = {"x": (N, D), "y": (M, D), "gamma": (M,), "amplitude": (M,), "weights": (M, P)}
    values = {name: random.uniform(0.3, 1.5, shape) for name, shape in shapes.items()}
    values.update({"width": 0.7, "i": 3, "j": 5})
    values.update(other)
    return [values[v.name] for v in INPUTS]


def results(outputs, *excluded, **other):
    """The outputs, and how many entries of kernel matrices were computed for them."""
    mode = graphs.theano_mode("py").excluding(*excluded)
    function = theano.function(INPUTS, outputs, mode=mode, on_unused_input="ignore")
    with counted() as entries:
        return function(*given(**other)), sum(entries)


@contextlib.contextmanager
def counted():
    """The lengths of x times y of each call of a node, in a list."""
    entries, calls = [], []

    def counting(function):
        def call(first, second, *rest):
            if not calls:  # one may use another
                entries.append(len(first) * len(second))
            calls.append(function)
            try:
                return function(first, second, *rest)
            finally:
                calls.pop()

        return call

    with contextlib.ExitStack() as stack:
        for name in NUMPY + [name + "_grad" for name in NUMPY]:
            function = counting(getattr(reference, name))
            stack.enter_context(mock.patch.object(reference, name, function))
        yield entries


def check(outputs, expected, *excluded, **other):
    """Equal to what comes out without the rewrites, and of so many entries."""
    whole, all_entries = results(outputs, *REWRITES, *excluded, **other)
    parts, entries = results(outputs, *excluded, **other)
    for a, b in zip(parts, whole):
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)
    assert entries == expected
    assert expected < all_entries or expected == 0


# Slices of a matrix (N, M), or what is computed of some, and the number of entries that they show.
SLICES = {
    "rows": (lambda k: k[2:5], 3 * M),
    "columns": (lambda k: k[:, 2:5], 3 * N),
    "both": (lambda k: k[1:4, :i], 9),
    "backwards": (lambda k: k[::-2, j:1:-1], 5 * 4),
    "a row": (lambda k: k[i], M),
    "a row from behind": (lambda k: k[-2], M),
    "a column": (lambda k: k[:, j], N),
    "a row's end": (lambda k: k[0, 3:], M - 3),
    "a column's beginning": (lambda k: k[:i, -1], 3),
    "an entry": (lambda k: k[i, j], 1),
    "none": (lambda k: k[3:3], 0),
    "one twice": (lambda k: T.tanh(k[1:3]).sum() * k[1:3].mean(), 2 * M),
    "two": (lambda k: k[1:3].sum(axis=0) * k[4:-1].sum(axis=0), 6 * M),
    "quarters": (lambda k: k[:i, :j].sum() * k[i:, j:].sum() - k[:i, j:].mean(), 15 + 18 + 9),
}


@pytest.mark.parametrize("take, entries", SLICES.values(), ids=list(SLICES))
def test_kernel(take, entries):
    part = take(rbf_kernel(x, y, gamma, amplitude=amplitude))
    check([part], entries, "rbf_dot")
    loss = (T.sin(part) if part.ndim else part**2).sum()
    gradients = T.grad(loss, [x, y, gamma, amplitude])
    check(gradients, 2 * entries, "rbf_dot", "rbf_sum")


@pytest.mark.parametrize("take, entries", SLICES.values(), ids=list(SLICES))
def test_mixture(take, entries):
    part = take(rbf_mixture(x, y, gamma[:3], amplitude=amplitude[:3]))
    check([part], entries)
    loss = (T.sin(part) if part.ndim else part**2).sum()
    check(T.grad(loss, [x, y, gamma, amplitude]), 2 * entries, "rbf_sum")


@pytest.mark.parametrize(
    "take, entries",
    [
        (lambda k: k[2:5], 3 * M),
        (lambda k: k[i], M),
        (lambda k: k[i, 1], M),
        (lambda k: k[:i, -1], 3 * M),
    ],
)
def test_product(take, entries):
    part = take(rbf_dot(x, y, weights, gamma))
    check([part], entries)
    check(T.grad(T.sin(part).sum(), [x, y, gamma, weights]), 2 * entries)
    part = take(T.dot(rbf_kernel(x, y, gamma), weights))
    check([part], entries)


def test_columns_of_a_product():
    function = theano.function(INPUTS, rbf_dot(x, y, weights)[:, i], on_unused_input="ignore")
    (node,) = [n for n in function.maker.fgraph.toposort() if isinstance(n.op, RBFDot)]
    assert node.outputs[0].broadcastable == (False, True)


@pytest.mark.parametrize(
    "build, entries",
    [
        (lambda k: [k[:i, :i]], 9),
        (lambda k: [k[:i, i:]], 3 * 6),
        (lambda k: [k[i]], N),
        (lambda k: [k[i, :j]], 5),
        (lambda k: [k[:i, :i], k[i:, i:], k[:i, i:]], 9 + 36 + 18),
    ],
)
def test_points_with_themselves(build, entries):
    parts = build(rbf_kernel(x, gamma=width, amplitude=1.5))
    check(parts, entries, "rbf_dot")
    loss = sum(T.sin(part).sum() for part in parts)
    check(T.grad(loss, [x, width]), 2 * entries, "rbf_dot", "rbf_sum")


def test_two_samples_spelled_out():
    points = T.concatenate([x, y])
    squares = T.sqr(points).sum(axis=1)
    distances = squares[:, None] + squares - 2 * T.dot(points, points.T)
    kernel, n = T.exp(-width * distances), x.shape[0]
    cost = kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()
    cost = fuse(cost)
    check([cost] + T.grad(cost, [x, y]), N * N + M * M + N * M, "rbf_dot")


def untouched():
    kernel, square = rbf_kernel(x, y, gamma), rbf_kernel(x, gamma=width)
    product = rbf_dot(x, y, weights)
    return {
        "all of it too": [kernel[:i], kernel.sum()],
        "overlapping": [kernel[:i], kernel[:j]],
        "perhaps overlapping": [kernel[:i], kernel[j:]],
        "perhaps the same row": [kernel[i], kernel[j]],
        "single rows": [kernel[1], kernel[2]],
        "many slices": [kernel[row : row + 1] for row in range(5)],
        "columns of a product": [product[:, :i], product[:, i:]],
        "rows of a square": [square[:i]],
        "perhaps across the diagonal": [square[:i, j:]],
        "both sides of the diagonal": [square[:i, i:], square[i:, :i]],
        "of unknown steps": [kernel[:i], kernel[i :: j - 4]],
        "by a vector": [kernel[T.cast(gamma, "int64")]],
    }


@pytest.mark.parametrize("outputs", untouched().values(), ids=list(untouched()))
def test_left_alone(outputs):
    for whole in (outputs, T.grad(sum(T.sin(o).sum() for o in outputs), [x])):
        counts = [results(whole, *more, "rbf_dot", "rbf_sum")[1] for more in ((), REWRITES)]
        assert counts[0] == counts[1] > 0


def test_gradients_of_what_is_stretched():
    """An entry of a row or a column that is added to a matrix counts more than once."""
    kernel = rbf_kernel(x, y, width)
    row, column = T.zeros((1, M)), T.zeros((N, 1))
    row, column = T.addbroadcast(row, 0), T.addbroadcast(column, 1)
    given_gradients = [
        T.set_subtensor(row[0, 2:4], gamma[:2]),
        T.set_subtensor(row[:1, 2:4], gamma[:2]),
        T.set_subtensor(column[1:4, 0], gamma[:3]),
        T.inc_subtensor(T.inc_subtensor(T.zeros_like(kernel)[:3], gamma)[:3], gamma),
    ]
    for given_gradient in given_gradients:
        known = {kernel: given_gradient + T.zeros_like(kernel)}
        gradient = T.grad(None, [x, y, width], known_grads=known)
        for a, b in zip(results(gradient)[0], results(gradient, *REWRITES)[0]):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def test_slices_of_sums_of_themselves():
    """Are not taken apart, which would take as long as there are ways through the graph."""
    kernel = rbf_kernel(x, y, width)
    total = T.zeros_like(kernel)
    for _ in range(40):
        total = total + T.inc_subtensor(total[:i], gamma)
    gradient = T.grad(None, x, known_grads={kernel: total})
    assert results([gradient])[1] == N * M


def test_wrong_lengths_are_told():
    part = rbf_kernel(x, y, gamma, amplitude=amplitude)[:, :2]
    for name in ("gamma", "amplitude"):
        message = "rbf_kernel: %s must .*%d.*%d" % (name, M - 2, M)
        with pytest.raises(ValueError, match=message):
            results([part], **{name: np.ones(M - 2)})
    with pytest.raises(ValueError, match="number of columns"):
        results([part], y=np.ones((M, D + 1)))


def test_an_index_out_of_bounds():
    with pytest.raises(IndexError):
        results([rbf_kernel(x, y)[i]], i=N)


def test_a_single_point():
    point = T.drow("point")
    kernel = rbf_kernel(y, point)
    parts = [kernel[0], kernel[:, 0], kernel[i:], kernel[:1, i:], kernel[i, 0]]
    for part in parts:
        mode = graphs.theano_mode("py")
        function = theano.function([y, point, i], part, mode=mode, on_unused_input="ignore")
        values = np.ones((M, D)), np.full((1, D), 1.5), 3
        assert (function(*values) == np.exp(-0.25)).all()
