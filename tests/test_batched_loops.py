"""Loops that make something of a kernel's rows: what comes out is the same without the loop.

Spellings of such loops, logarithms and mixtures in them, and those that must stay. Touches rbf_op,
Theano, spellings.py and what test_fuse.py compares graphs by.
"""

import numpy as np
import pytest

from rbf_op import autofuse, fuse  # isort: skip  (mends Theano before its import)

import spellings
import theano
import theano.tensor as T
from test_fuse import N, assert_equal, fused_nodes, values, variables

from rbf_op.fusion.values import nodes_of
from rbf_op.ops import RBFDot, RBFKernel, RBFLogSumExp, RBFMixture
from rbf_op.theano_api import Scan

pytestmark = pytest.mark.usefixtures("only_our_c_code")


def of_rows(body):
    """body(kernel's row of x[i], x[i], w, r) for each row of x."""

    def build(x, c, s, v, w, r):
        def step(p):
            return body(T.exp(-s * T.sum(T.sqr(p - c), axis=1)), p, w)

        return theano.map(step, x)[0]

    return build


def expanded_row(p, c):
    return T.dot(p, p) + T.sum(c**2, axis=1) - 2 * T.dot(c, p)


def steps_with_several_results(x, c, s, v, w, r):
    def step(p, all_, weights):
        k = T.exp(-T.sum((all_ - p) ** 2, axis=1) * s)
        return T.dot(k, weights), k.sum()

    products, sums = theano.map(step, x, [c, w])[0]
    return products / sums


def steps_of_a_loop_that_is_averaged(x, c, s, v, w, r):
    """A step has a loop over the columns in it."""

    def step(i, x, c):
        row, _ = theano.map(lambda q, p: T.exp(-s * T.sum((p - q) ** 2)), c, [x[i]])
        return T.mean(row * w)

    return theano.map(step, T.arange(x.shape[0]), [x, c])[0]


# Loops that make something of a kernel's rows, which are no matrix then.
REDUCING_LOOPS = {
    "a product with a vector": of_rows(lambda k, p, w: T.dot(k, w)),
    "a vector's product": of_rows(lambda k, p, w: T.dot(w, k)),
    "a product with a matrix": lambda x, c, s, v, w, r: theano.map(
        lambda p, c: T.dot(T.exp(-s * T.sum((p - c) ** 2, axis=1)), c), x, [c]
    )[0],
    "a product with a matrix, turned": lambda x, c, s, v, w, r: theano.map(
        lambda p, c: T.dot(c.T, T.exp(-s * T.sum((p - c) ** 2, axis=1))), x, [c]
    )[0],
    "a row's product with a matrix": lambda x, c, s, v, w, r: theano.map(
        lambda p: T.dot(T.exp(-s * T.sum((p - c) ** 2, axis=1, keepdims=True)).T, c), x
    )[0],
    "a product with a column": lambda x, c, s, v, w, r: theano.map(
        lambda p: T.dot(c.T, T.exp(-s * T.sum((p - c) ** 2, axis=1, keepdims=True))), x
    )[0],
    "a sum": of_rows(lambda k, p, w: k.sum()),
    "a mean": of_rows(lambda k, p, w: T.mean(k)),
    "a sum of weighted": of_rows(lambda k, p, w: T.sum(w * k)),
    "a product of all": of_rows(lambda k, p, w: T.prod(k + 1)),
    "a product and what else the row has": of_rows(
        lambda k, p, w: T.tanh(T.dot(k, w) + p.sum()) * p[0]
    ),
    "a normalised product": of_rows(lambda k, p, w: T.dot(k, w) / k.sum()),
    "normalised rows in a product": of_rows(lambda k, p, w: T.dot(k / k.sum(), w)),
    "a row with a bias": of_rows(
        lambda k, p, w: T.dot(T.concatenate([[1.0], k]), T.concatenate([[0.5], w]))
    ),
    "a row and its point": of_rows(lambda k, p, w: T.concatenate([p, k]).sum()),
    "a reshaped row": of_rows(lambda k, p, w: (k.reshape((k.shape[0], 1)) * w[:, None]).sum()),
    "a row's first entries": of_rows(lambda k, p, w: T.sum(k[:2])),
    "the same in each step, and more": of_rows(lambda k, p, w: T.dot(k, T.exp(-w)) + T.sum(w)),
    "expanded": lambda x, c, s, v, w, r: theano.map(
        lambda p: T.dot(T.exp(-s * expanded_row(p, c)), w), x
    )[0],
    "over columns": lambda x, c, s, v, w, r: theano.map(
        lambda q: T.dot(r, T.exp(-s * T.sum((x - q) ** 2, axis=1))), c
    )[0],
    "a width a step": lambda x, c, s, v, w, r: theano.map(
        lambda p, g: T.dot(T.exp(-g * T.sum((p - c) ** 2, axis=1)), w), [x, r]
    )[0],
    "by indices": lambda x, c, s, v, w, r: theano.map(
        lambda i: T.dot(T.exp(-s * T.sum((x[i] - c) ** 2, axis=1)), w), T.arange(x.shape[0])
    )[0],
    "by some of the indices": lambda x, c, s, v, w, r: theano.map(
        lambda i: T.dot(T.exp(-s * T.sum((x[i] - c) ** 2, axis=1)), w), T.arange(x.shape[0])[:-1]
    )[0],
    "by as many indices as another has": lambda x, c, s, v, w, r: theano.map(
        lambda i, g: g * T.dot(T.exp(-s * T.sum((x[i] - c) ** 2, axis=1)), w),
        [T.arange(x.shape[0]), r[:3]],
    )[0],
    "by the indices of a longer one": lambda x, c, s, v, w, r: theano.map(
        lambda p, i, g: g[i] * T.dot(T.exp(-s * T.sum((p - c) ** 2, axis=1)), w),
        [x[:3], T.arange(r.shape[0])],
        [r],
    )[0],
    "scan with n_steps": lambda x, c, s, v, w, r: theano.scan(
        lambda p: T.dot(T.exp(-s * T.sum((p - c) ** 2, axis=1)), w), sequences=x, n_steps=x.shape[0]
    )[0],
    "backwards": lambda x, c, s, v, w, r: theano.map(
        lambda p: T.exp(-s * T.sum((p - c) ** 2, axis=1)).sum(), x, go_backwards=True
    )[0],
    "distances outside": lambda x, c, s, v, w, r: theano.map(
        lambda d: T.dot(T.exp(-s * d), w), spellings.squared(x, c)
    )[0],
    "a loop in a step": steps_of_a_loop_that_is_averaged,
    "several results": steps_with_several_results,
}


def added_up(x, c, s, v, w, r):
    """From column to column, as the question's loops do it."""

    def step(q, weight, total):
        return total + weight * T.exp(-s * T.sum((x - q) ** 2, axis=1))

    return theano.scan(step, [c, w], T.zeros_like(r))[0][-1]


def added_up_and_kept(x, c, s, v, w, r):
    """What is subtracted in each step, and a result of each."""

    def step(p, total):
        k = T.exp(-s * T.sum((p - c) ** 2, axis=1))
        return total - k * w, T.dot(k, w)

    totals, products = theano.scan(step, x, [1 + w, None])[0]
    return T.sum(totals[-1]) * products


REDUCING_LOOPS.update(
    {
        "added up": added_up,
        "added up, and results kept": added_up_and_kept,
        "folded": lambda x, c, s, v, w, r: theano.foldl(
            lambda q, total: total + T.exp(-s * T.sum((x - q) ** 2, axis=1)), c, r
        )[0],
        "added up beside the same in each step": lambda x, c, s, v, w, r: theano.reduce(
            lambda q, total: total + T.exp(-s * T.sum((x - q) ** 2, axis=1)) - T.sqr(r), c, r
        )[0],
        "added up by some of the indices": lambda x, c, s, v, w, r: theano.reduce(
            lambda i, total: total + T.exp(-s * T.sum((x[i] - c) ** 2, axis=1)),
            T.arange(x.shape[0])[:3],
            T.zeros_like(w),
        )[0],
        "numbers added up": lambda x, c, s, v, w, r: (
            theano.reduce(
                lambda p, total: total + T.dot(T.exp(-s * T.sum((p - c) ** 2, axis=1)), w),
                x,
                T.zeros_like(s),
            )[0]
            * s
        ),
    }
)


def loops_in(*outputs):
    return [node for node in nodes_of(outputs) if isinstance(node.op, Scan)]


def check(output, inputs, dtype, op=RBFKernel):
    fused, report = fuse(output, report=True)
    assert len(report.fused) == len(fused_nodes(fused, op)) == 1, str(report)
    assert not loops_in(fused) and fuse(fused) is fused
    assert_equal(inputs, output, fused, values(dtype), dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", sorted(REDUCING_LOOPS))
def test_every_loop(name, dtype):
    inputs = variables(dtype)
    check(REDUCING_LOOPS[name](*inputs), inputs, dtype)


def exponents(p, c, s):
    return -s * T.sum((p - c) ** 2, axis=1)


def shifted(exponent):
    largest = T.max(exponent)
    return largest + T.log(T.sum(T.exp(exponent - largest)))


# name -> what a step makes of the exponents of its kernel's row
LOGARITHMS = {
    "of a sum": lambda e, w: T.log(T.sum(T.exp(e))),
    "of a mean": lambda e, w: T.log(T.mean(T.exp(e))),
    "of a sum with weights": lambda e, w: T.log(T.sum(T.exp(w) * T.exp(e))),
    "shifted": lambda e, w: shifted(e),
    "shifted, log weights": lambda e, w: shifted(e + w),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", sorted(LOGARITHMS))
def test_logarithms_of_sums(name, dtype):
    inputs = variables(dtype)
    x, c, s, v, w, r = inputs
    output = theano.map(lambda p: LOGARITHMS[name](exponents(p, c, s), w), x)[0]
    check(output, inputs, dtype, RBFLogSumExp)


def test_kernels_of_one_distance():
    inputs = variables("float64")
    x, c, s, v, w, r = inputs

    def step(p):
        distances = T.sum((p - c) ** 2, axis=1)
        return T.dot(T.exp(-s * distances) + T.exp(-2 * s * distances), w)

    check(theano.map(step, x)[0], inputs, "float64", RBFMixture)


def test_largest_and_where_it_is():
    inputs = variables("float32")
    x, c, s, v, w, r = inputs
    outputs = theano.map(lambda p: T.max_and_argmax(w * T.exp(exponents(p, c, s))), x)[0]
    fused = fuse(outputs)
    assert not loops_in(*fused) and [v.type for v in fused] == [v.type for v in outputs]
    functions = [theano.function(inputs, o, on_unused_input="ignore") for o in (outputs, fused)]
    for expected, got in zip(*(f(*values("float32")) for f in functions)):
        np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_a_loop_of_what_another_makes():
    inputs = variables("float64")
    x, c, s, v, w, r = inputs
    moved = theano.map(lambda p: T.dot(T.exp(exponents(p, c, s)), c), x)[0]
    output = theano.map(lambda p: T.dot(T.exp(exponents(p, c, s)), w), moved)[0]
    fused, report = fuse(output, report=True)
    assert len(report) == len(fused_nodes(fused)) == 2 and not loops_in(fused)
    assert_equal(inputs, output, fused, values("float64"), "float64")
    # As the registered rewrite replaces one after the other.
    function = theano.function(inputs, output, on_unused_input="ignore")
    nodes = function.maker.fgraph.toposort()
    assert sum(isinstance(node.op, RBFDot) for node in nodes) == 2
    assert not any(isinstance(node.op, Scan) for node in nodes)


def _accumulated(p, total, c, s):
    k = T.exp(exponents(p, c, s))
    return total + k.sum(), k.max()


# name -> outputs of which each has a loop that stays, and why
STAYING = {
    "no kernel": (
        lambda x, c, s, v, w, r: [theano.map(lambda p: T.exp(T.dot(c, p)).sum(), x)[0]],
        "no squares of the rows and columns complete its product of the two",
    ),
    "a state, too": (
        lambda x, c, s, v, w, r: theano.scan(
            _accumulated, x, [T.zeros_like(s), None], [c, s]
        )[0],
        "the loop that computes it is also needed for something else",
    ),
    "distances, too": (
        lambda x, c, s, v, w, r: theano.map(
            lambda p: [T.exp(exponents(p, c, s)).sum(), exponents(p, c, s)], x
        )[0],
        "a part of it, such as its squared distance, is also used elsewhere",
    ),
    "three dimensions": (
        lambda x, c, s, v, w, r: [
            theano.map(
                lambda p: T.sum(T.exp(exponents(p, c, s))[:, None] * c, axis=0), x
            )[0]
        ],
        "without the loop there would be an array of three dimensions",
    ),
    "some steps": (
        lambda x, c, s, v, w, r: [
            theano.scan(
                lambda p: T.dot(T.exp(exponents(p, c, s)), w),
                sequences=x,
                n_steps=T.cast(s, "int64"),
            )[0]
        ],
        "the loop may not run over the whole of its sequences",
    ),
    "what is sorted": (
        lambda x, c, s, v, w, r: [
            theano.map(lambda p: T.dot(T.sort(T.exp(exponents(p, c, s))), w), x)[0]
        ],
        "what the loop makes of each row cannot be written for all at once",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(STAYING))
def test_loops_that_stay(name):
    build, reason = STAYING[name]
    outputs = build(*variables("float64"))
    fused, report = fuse(outputs, report=True)
    assert [candidate.reason for candidate in report] == [reason]
    assert all(a is b for a, b in zip(fused, outputs))


@pytest.mark.parametrize("until", [True, False])
def test_loops_without_candidates(until):
    """A while loop; exponentials that do not depend on the step, which are one by themselves."""
    x, c, s, v, w, r = variables("float64")

    def step(p):
        if until:
            k = T.exp(exponents(p, c, s))
            return k.sum(), theano.scan_module.until(T.eq(k[0], 0))
        return T.dot(T.exp(c), p).sum()

    output = theano.scan(step, x)[0]
    fused, report = fuse(output, report=True)
    assert len(report) == (not until) and not report.fused and fused is output


def test_gradient_with_respect_to_what_a_loop_makes():
    """Is possible, though the loop cannot be replaced then."""
    inputs = variables("float64")
    x, c, s, v, w, r = inputs
    products = theano.map(lambda p: T.dot(T.exp(exponents(p, c, s)), w), x)[0]
    cost = T.sqr(products).sum()
    with autofuse.enabled():
        of_products, of_x = theano.grad(cost, [products, x])
        (alone,) = theano.grad(cost, [x])
    assert loops_in(of_products, of_x) and not loops_in(alone)
    f = theano.function(inputs, [products, of_products, of_x, alone], on_unused_input="ignore")
    products, of_products, of_x, alone = f(*values("float64"))
    np.testing.assert_allclose(of_products, 2 * products)
    np.testing.assert_allclose(of_x, alone, rtol=1e-12)


@pytest.mark.parametrize(
    "make", [lambda p, v: T.tanh(p * v), lambda p, v: T.sort(p), lambda p, v: T.nnet.softplus(p)]
)
def test_points_that_a_loop_makes(make):
    """Are points like others, for a kernel and for a loop over its rows."""
    x, c, s, v, w, r = inputs = variables("float64")
    points = theano.map(lambda p: make(p, v), x)[0]
    kernel = T.exp(-s * spellings.squared(points, c))
    products = theano.map(lambda p: T.dot(T.exp(exponents(p, c, s)), w), points)[0]
    for output in (kernel, products):
        fused, report = fuse(output, report=True)
        assert len(report.fused) == len(fused_nodes(fused, RBFKernel)) == 1, str(report)
        assert len(loops_in(fused)) == 1
        assert_equal(inputs, output, fused, values("float64"), "float64")


def test_a_matrix_that_is_the_same_in_each_step():
    """Is not repeated for all steps."""
    x, c, s, v, w, r = inputs = variables("float64")
    output = theano.reduce(
        lambda p, total: total + T.dot(c, c.T) + T.exp(exponents(p, c, s)), x, T.dot(c, c.T)
    )[0]
    fused = fuse(output)
    assert not loops_in(fused)
    assert not any(isinstance(node.op, T.Alloc) for node in nodes_of([fused]))
    assert_equal(inputs, output, fused, values("float64"), "float64")


# Of which the registered rewrite leaves the loop, and those of which it does not.
WITH_A_MATRIX = {
    "a row with a bias": REDUCING_LOOPS["a row with a bias"],
    "a product's largest": of_rows(lambda k, p, w: T.max(T.dot(k, T.outer(w, T.exp(w))))),
    "a product's function added up": lambda x, c, s, v, w, r: theano.reduce(
        lambda p, total: total + T.tanh(T.dot(T.exp(exponents(p, c, s)), w) * w),
        x,
        T.zeros_like(w),
    )[0],
}
WITHOUT_A_MATRIX = {
    name: REDUCING_LOOPS[name]
    for name in ("a product with a vector", "a product with a matrix", "a mean")
}


@pytest.mark.parametrize("name", [*WITH_A_MATRIX, *WITHOUT_A_MATRIX])
def test_registered_rewrite(name):
    """Takes no matrix where a row at a time would do."""
    inputs = variables("float64")
    output = {**WITH_A_MATRIX, **WITHOUT_A_MATRIX}[name](*inputs)
    functions = [
        theano.function(inputs, output, mode=mode, on_unused_input="ignore")
        for mode in (
            theano.compile.get_default_mode(),
            theano.compile.get_default_mode().excluding("rbf_fusion"),
        )
    ]
    nodes, plain = (f.maker.fgraph.toposort() for f in functions)
    assert any(isinstance(node.op, Scan) for node in plain)
    assert any(isinstance(node.op, Scan) for node in nodes) == (name in WITH_A_MATRIX)
    assert not any(isinstance(node.op, RBFKernel) for node in nodes)
    got, expected = (f(*values("float64")) for f in functions)
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_other_sizes():
    """A step each: none, one, many."""
    inputs = variables("float64")
    output = REDUCING_LOOPS["a normalised product"](*inputs)
    functions = [
        theano.function(inputs, o, on_unused_input="ignore") for o in (output, fuse(output))
    ]
    for rows in (1, N + 3):
        expected, got = (f(*values("float64", rows=rows)) for f in functions)
        np.testing.assert_allclose(got, expected, rtol=1e-12)
    assert functions[1](*values("float64", rows=0)).shape == (0,)
