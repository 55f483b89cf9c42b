"""Kernels in the steps of a loop: fused there, or in front of it where no step changes them.

Values and gradients against the loop as it is; where the nodes are. Touches rbf_op and Theano.
"""

import numpy as np
import pytest

from rbf_op import fuse, fuse_report  # isort: skip  (mends Theano before its import)

import theano
import theano.tensor as T

from rbf_op.fusion.values import nodes_of
from rbf_op.ops import RBFDot, RBFKernel, RBFKernelGrad, RBFSoftmaxDot
from rbf_op.theano_api import Scan

pytestmark = pytest.mark.usefixtures("only_our_c_code")

MODE = theano.Mode(linker="py", optimizer="fast_run")
PLAIN = MODE.excluding("rbf_fusion", "rbf_dot")
N, D = 6, 3


def squared(a, b):
    return T.sqr(a.dimshuffle(0, "x", 1) - b.dimshuffle("x", 0, 1)).sum(axis=2)


def expanded(a, b):
    return T.sqr(a).sum(axis=1)[:, None] + T.sqr(b).sum(axis=1) - 2 * T.dot(a, b.T)


def mean_shift(z, x, g):
    kernel = T.exp(-g * expanded(z, x))
    return T.dot(kernel, x) / kernel.sum(axis=1, keepdims=True)


def last(step, initial, **options):
    states, _ = theano.scan(step, outputs_info=initial, n_steps=3, **options)
    return states[-1]


def nested(x, g, z, v):
    kernel = T.exp(-g * squared(x, x))
    return last(lambda s: last(lambda u: T.dot(kernel, u), s[:, 0])[:, None] * s, z)


def counted(x, g, z, v):
    """With an update of a shared variable."""
    calls, kernel = theano.shared(np.ones(3), "calls"), T.exp(-g * squared(x, z))
    states, updates = theano.scan(
        lambda u: (T.dot(kernel, u), {calls: 2 * calls}), outputs_info=v, n_steps=3
    )
    return states[-1] + updates[calls].sum()


# name -> a loop over x (N, D), g (), z (N, D), v (N,), which no step changes its kernel of
CONSTANT = {
    "power iteration": lambda x, g, z, v: last(lambda u: T.dot(T.exp(-g * expanded(x, x)), u), v),
    "label propagation": lambda x, g, z, v: (
        lambda kernel: last(lambda s: T.dot(kernel / kernel.sum(axis=1, keepdims=True), s) + z, z)
    )(T.exp(-g * squared(x, x))),
    "in a loop in a loop": nested,
    "a shared variable changes, too": counted,
    "of a part": lambda x, g, z, v: last(
        lambda u: T.dot(T.exp(-g * squared(x[1:], x[:-1])), u[1:])[0] + u, v
    ),
}

# ... of which each step has its own
CHANGED = {
    "mean shift": (RBFDot, lambda x, g, z, v: last(lambda s: mean_shift(s, x, g), z)),
    "mean shift by a softmax": (
        RBFSoftmaxDot,
        lambda x, g, z, v: last(lambda s: T.dot(T.nnet.softmax(-g * squared(s, x)), x), z),
    ),
    "a width for each step": (
        RBFKernel,
        lambda x, g, z, v: theano.scan(lambda w: T.exp(-T.sqr(w) * squared(x, z)), v)[0],
    ),
    "two states back": (
        RBFDot,
        lambda x, g, z, v: last(
            lambda a, b: T.dot(T.exp(-g * squared(a, x)), b),
            [dict(initial=T.stack([x, z]), taps=[-2, -1])],
        ),
    ),
    "parts of the rows": (
        RBFDot,
        lambda x, g, z, v: theano.reduce(
            lambda k, total: total + T.sum(T.dot(T.exp(-g * squared(x[2 * k : 2 * k + 2], z)), v)),
            T.arange(3),
            T.constant(np.float64(0)),
        )[0],
    ),
    "backwards, and only the last steps differentiated": (
        RBFDot,
        lambda x, g, z, v: last(
            lambda s: T.dot(T.exp(-g * squared(s, x)), x), z, go_backwards=True, truncate_gradient=2
        ),
    ),
    "until": (
        RBFDot,
        lambda x, g, z, v: last(
            lambda s: (
                T.dot(T.exp(-g * squared(s, x)), x),
                theano.scan_module.until(T.gt(s.sum(), 1e9)),
            ),
            z,
        ),
    ),
}


def given():
    random = np.random.RandomState(0)
    return [random.randn(N, D), np.array(0.3), random.randn(N, D), random.randn(N)]


def check(build):
    """The functions of value and gradients of what is fused, after comparing them."""
    inputs = [T.dmatrix("x"), T.dscalar("g"), T.dmatrix("z"), T.dvector("v")]
    output = build(*inputs)
    fused, report = fuse(output, report=True)
    assert report.fused and not report.left_alone, str(report)
    assert str(fuse_report(output)) == str(report)
    functions = [
        theano.function(
            inputs,
            [o] + T.grad(T.sqr(o).sum(), inputs, disconnected_inputs="ignore"),
            mode=mode,
            on_unused_input="ignore",
        )
        for o, mode in ((output, PLAIN), (fused, MODE))
    ]
    for known, got in zip(*(f(*given()) for f in functions)):
        np.testing.assert_allclose(got, known, rtol=1e-10, atol=1e-12 * max(1, np.abs(known).max()))
    by_import = theano.function(inputs, output, mode=MODE, on_unused_input="ignore")
    np.testing.assert_allclose(by_import(*given()), functions[0](*given())[0], rtol=1e-10)
    assert fuse(fused) is fused
    return functions[1], by_import


def operations(function):
    return [node.op for node in function.maker.fgraph.toposort()]


def in_steps(function):
    return [
        inner for op in operations(function) if isinstance(op, Scan) for inner in operations(op.fn)
    ]


@pytest.mark.parametrize("name", sorted(CONSTANT))
def test_what_no_step_changes_is_computed_in_front_of_the_loop(name):
    training, by_import = check(CONSTANT[name])
    for op_type, function in ((RBFKernel, by_import), (RBFKernelGrad, training)):
        assert sum(isinstance(op, op_type) for op in operations(function)) == 1
        assert not any(isinstance(op, op_type) for op in in_steps(function))


@pytest.mark.parametrize("name", sorted(CHANGED))
def test_what_steps_change_is_computed_in_them(name):
    op_type, build = CHANGED[name]
    for function in check(build):
        assert any(isinstance(op, op_type) for op in in_steps(function))


def test_loops_without_kernels_stay_as_they_are():
    v = T.dvector("v")
    output = last(T.tanh, v)
    assert fuse(output) is output and not fuse_report(output)


def test_a_loop_that_was_fused_is_no_second_one():
    """Where an update needs the loop as it was."""
    x, v = T.dmatrix("x"), T.dvector("v")
    kernel, total = T.exp(-squared(x, x)), theano.shared(0.0)
    states, _ = theano.scan(lambda u: T.dot(kernel, u), outputs_info=v, n_steps=3)
    function = theano.function([x, v], fuse(states[-1]), updates={total: states.sum()}, mode=MODE)
    assert sum(isinstance(op, Scan) for op in operations(function)) == 1


def test_a_truncated_gradient_has_the_same_derivative():
    x, g, z = T.dmatrix("x"), T.dscalar("g"), T.dmatrix("z")
    kernel = T.exp(-g * squared(x, x))
    states, _ = theano.scan(
        lambda s: T.dot(kernel, s), outputs_info=z, n_steps=4, truncate_gradient=2
    )
    seconds = []
    for output, mode in ((states, PLAIN), (fuse(states), MODE)):
        first = T.grad(T.sqr(output).sum(), g)
        seconds.append(theano.function([x, g, z], T.grad(first, x), mode=mode)(*given()[:3]))
    np.testing.assert_allclose(seconds[1], seconds[0], rtol=1e-9)


def test_test_values(monkeypatch):
    monkeypatch.setattr(theano.config, "compute_test_value", "raise")
    x, v = T.dmatrix("x"), T.dvector("v")
    x.tag.test_value, v.tag.test_value = given()[0], given()[3]
    output = fuse(last(lambda u: T.dot(T.exp(-squared(x, x)), u), v))
    gradient = T.grad(output.sum(), x)
    assert gradient.tag.test_value.shape == (N, D)


def test_reasons_are_given_for_kernels_in_steps():
    x, z = T.dmatrices("x", "z")
    output = last(lambda s: T.exp(-squared(s, x)) * squared(s, x)[:, :1] + s[:, :1], z)
    fused, report = fuse(output, report=True)
    assert fused is output
    (candidate,) = report.left_alone
    assert "used elsewhere" in candidate.reason
    assert any(isinstance(node.op, Scan) for node in nodes_of([output]))
