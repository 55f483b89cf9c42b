"""The nodes under whichever Theano is installed: Theano 1.0.5, Theano-PyMC 1.0.15 or 1.1.2.

`make test` runs this with the first, `make pymc-test` with the others. May import rbf_op, then
Theano's public names; nothing of theano.gof or theano.graph.
"""

import numpy as np
import pytest
import theano
import theano.tensor as T

import rbf_op
import rbf_op.autofuse

GAMMA = 0.3


@pytest.fixture
def points():
    random = np.random.RandomState(0)
    return random.randn(5, 3), random.randn(4, 3)


@pytest.fixture
def numpy_path_forbidden(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the NumPy path was taken")

    for op in (rbf_op.RBFKernel, rbf_op.RBFKernelGrad):
        monkeypatch.setattr(op, "perform", refuse)


def kernel(a, b):
    return np.exp(-GAMMA * ((a[:, None, :] - b[None, :, :]) ** 2).sum(axis=2))


def gradient(a, b):
    """Of the sum of kernel(a, b), by a and by b."""
    pull = -2 * GAMMA * kernel(a, b)[:, :, None] * (a[:, None, :] - b[None, :, :])
    return pull.sum(axis=1), -pull.sum(axis=0)


@pytest.mark.parametrize("linker", ["c", "cvm", "vm", "py"])
def test_value_and_gradient(points, linker):
    x, y = T.dmatrices("x", "y")
    K = rbf_op.rbf_kernel(x, y, gamma=GAMMA)
    function = theano.function(
        [x, y], [K] + T.grad(K.sum(), [x, y]), mode=theano.Mode(linker=linker)
    )
    for got, expected in zip(function(*points), (kernel(*points),) + gradient(*points)):
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-14)


def test_all_must_be_c(points):
    """linker="c": also what checks a vector of widths; a node of two outputs."""
    x, y = T.dmatrices("x", "y")
    lengthscale = T.dvector("lengthscale")
    L = rbf_op.rbf_logsumexp(x, y, lengthscale=lengthscale)
    function = theano.function(
        [x, y, lengthscale], [L, T.grad(L.sum(), x)], mode=theano.Mode(linker="c")
    )
    a, b = points
    scales = np.array([0.5, 1, 2])
    unit = np.sqrt(2 * GAMMA)  # exp(-GAMMA D) of points divided by it is exp(-D / 2)
    k = kernel(a / scales / unit, b / scales / unit)
    by_x = gradient(a / scales / unit, b / scales / unit)[0] / scales / unit
    value, slope = function(a, b, scales)
    np.testing.assert_allclose(value, np.log(k.sum(axis=1)), rtol=1e-12)
    np.testing.assert_allclose(slope, by_x / k.sum(axis=1, keepdims=True), rtol=1e-12)
    with pytest.raises(ValueError, match="lengthscale must have one entry per column of [xy]"):
        function(a, b, scales[:2])


def test_the_c_code_runs(points, numpy_path_forbidden):
    x, y = T.dmatrices("x", "y")
    K = rbf_op.rbf_kernel(x, y, gamma=GAMMA)
    function = theano.function([x, y], [K] + T.grad(K.sum(), [x, y]))
    np.testing.assert_allclose(function(*points)[0], kernel(*points), rtol=1e-13)


def test_mixture_of_widths(points, only_our_c_code):
    x, y = T.dmatrices("x", "y")
    spelled_out = sum(T.exp(-g * ((x[:, None, :] - y) ** 2).sum(axis=2)) for g in (GAMMA, 0.7))
    outputs = []
    for k in (rbf_op.rbf_mixture(x, y, [GAMMA, 0.7]), rbf_op.fuse(spelled_out), spelled_out):
        outputs += [k] + T.grad(k.mean(), [x, y])
    function = theano.function([x, y], outputs)
    assert any(isinstance(n.op, rbf_op.RBFMixture) for n in function.maker.fgraph.toposort())
    results = function(*points)
    for node, fused, plain in zip(results, results[3:], results[6:]):
        np.testing.assert_allclose(node, plain, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(fused, plain, rtol=1e-12, atol=1e-14)


def test_product_with_a_softmax(points, only_our_c_code):
    x, y = T.dmatrices("x", "y")
    spelled_out = T.dot(T.nnet.softmax(-GAMMA * ((x[:, None, :] - y) ** 2).sum(axis=2)), y)
    outputs = []
    for p in (rbf_op.rbf_softmax_dot(x, y, y, GAMMA), rbf_op.fuse(spelled_out), spelled_out):
        outputs += [p] + T.grad(T.sqr(p).sum(), [x, y])
    function = theano.function([x, y], outputs)
    assert any(isinstance(n.op, rbf_op.RBFSoftmaxDot) for n in function.maker.fgraph.toposort())
    results = function(*points)
    for node, fused, plain in zip(results, results[3:], results[6:]):
        np.testing.assert_allclose(node, plain, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(fused, plain, rtol=1e-12, atol=1e-14)


def test_only_the_gradient_asked_for_is_computed(points):
    x, y = T.dmatrices("x", "y")
    dx = T.grad(rbf_op.rbf_kernel(x, y, gamma=GAMMA).sum(), x)
    function = theano.function([x, y], dx)
    (node,) = [
        node for node in function.maker.fgraph.toposort() if isinstance(node.op, rbf_op.RBFDotGrad)
    ]
    assert len(node.outputs) == 1
    np.testing.assert_allclose(function(*points), gradient(*points)[0], rtol=1e-12, atol=1e-14)


def test_of_a_slice_only_that_is_computed(points, only_our_c_code):
    x, y = T.dmatrices("x", "y")
    part = rbf_op.rbf_kernel(x, y, gamma=GAMMA)[1:3, 2]
    function = theano.function([x, y], [part] + T.grad(part.sum(), [x, y]))
    assert kernel_nodes(function, "x") == []
    a, b = points
    expected = kernel(a, b)[1:3, 2], np.zeros_like(a), np.zeros_like(b)
    expected[1][1:3], expected[2][2:3] = gradient(a[1:3], b[2:3])
    for got, wanted in zip(function(a, b), expected):
        np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-14)


def kernel_nodes(function, name):
    """The nodes of this package that an input of a function goes into as it is."""
    return [
        node
        for node in function.maker.fgraph.toposort()
        if type(node.op).__module__.startswith("rbf_op.")
        and any(v.name == name for v in node.inputs)
    ]


def test_gradients_of_a_product_of_points_with_themselves(points, only_our_c_code):
    x, w = T.dmatrix("x"), T.dvector("w")
    product = rbf_op.rbf_dot(x, None, w, GAMMA)
    function = theano.function([x, w], [product] + T.grad(product.sum(), [x, w]))
    assert any(type(n.op).__name__ == "RBFOuterGrad" for n in kernel_nodes(function, "x"))
    a, _ = points
    weights = np.array([0.5, -1, 2, 1, 3])
    k = kernel(a, a)
    pull = -2 * GAMMA * (weights + weights[:, None]) * k
    by_x = (pull[:, :, None] * (a[:, None, :] - a)).sum(axis=1)
    for got, wanted in zip(function(a, weights), (k @ weights, by_x, k.sum(axis=0))):
        np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-14)


def test_the_shape_is_known_without_the_node(points):
    x, y = T.dmatrices("x", "y")
    function = theano.function([x, y], rbf_op.rbf_kernel(x, y, gamma=GAMMA).shape)
    ops = [node.op for node in function.maker.fgraph.toposort()]
    assert not any(isinstance(op, rbf_op.RBFKernel) for op in ops)
    assert tuple(function(*points)) == (5, 4)


def test_second_order(points, only_our_c_code):
    x, y = T.dmatrices("x", "y")
    v = T.dmatrix("v")
    dx = T.grad(rbf_op.rbf_kernel(x, y, gamma=GAMMA).sum(), x)
    both_ways = theano.function([x, y, v], [T.grad((dx * v).sum(), x), T.Rop(dx, x, v)])
    a, b = points
    direction, step = np.random.RandomState(1).randn(*a.shape), 1e-5
    ahead, behind = (gradient(a + s * direction, b)[0] for s in (step, -step))
    expected = (ahead - behind) / (2 * step)
    for product in both_ways(a, b, direction):
        np.testing.assert_allclose(product, expected, rtol=1e-6, atol=1e-8)


def test_inside_scan(points, only_our_c_code):
    x, y = T.dmatrices("x", "y")
    start = T.dmatrix("start")

    def step(state, x, y):
        return state + rbf_op.rbf_kernel(state, y, gamma=GAMMA).dot(y) - 0.1 * x

    states, _ = theano.scan(step, outputs_info=start, non_sequences=[x, y], n_steps=3)
    function = theano.function([start, x, y], [states[-1], T.grad(states[-1].sum(), start)])
    a, b = points

    def run(state):
        for _ in range(3):
            state = state + kernel(state, b).dot(b) - 0.1 * a
        return state

    value, slope = function(a, a, b)
    np.testing.assert_allclose(value, run(a), rtol=1e-11)
    direction, h = np.random.RandomState(2).randn(*a.shape), 1e-6
    numeric = (run(a + h * direction) - run(a - h * direction)).sum() / (2 * h)
    np.testing.assert_allclose((slope * direction).sum(), numeric, rtol=1e-6)


@pytest.mark.parametrize("shared", [False, True])
def test_kernels_in_steps_are_fused(points, shared, only_our_c_code):
    """A matrix for each step; one for all."""
    x, y = T.dmatrices("x", "y")

    def step(z):
        k = T.exp(-GAMMA * ((x[:, None, :] - (y if shared else z)) ** 2).sum(axis=2))
        return T.dot(k.T, x) / (1 + k.sum(axis=0)[:, None]) + z

    states, _ = theano.scan(step, outputs_info=y, n_steps=3)
    outputs = []
    for state in (rbf_op.fuse(states[-1]), states[-1]):
        outputs += [state] + T.grad(T.sqr(state).sum(), [x, y])
    assert len(rbf_op.fuse_report(states[-1]).fused) == 1
    results = theano.function([x, y], outputs)(*points)
    for fused, plain in zip(results, results[3:]):
        np.testing.assert_allclose(fused, plain, rtol=1e-11, atol=1e-13)


def test_debug_mode(points, only_our_c_code):
    x, y = T.dmatrices("x", "y")
    K = rbf_op.rbf_kernel(x, y, gamma=GAMMA)
    function = theano.function([x, y], [K] + T.grad(K.sum(), [x, y]), mode="DebugMode")
    np.testing.assert_allclose(function(*points)[0], kernel(*points), rtol=1e-13)


def spelled_out(x, y):
    norms = T.sum(x**2, axis=1).dimshuffle(0, "x") + T.sum(y**2, axis=1)
    return T.exp(-GAMMA * T.clip(norms - 2 * T.dot(x, y.T), 0, np.inf))


def mapped(x, y):
    return theano.map(lambda row, all_: T.exp(-GAMMA * T.sum((all_ - row) ** 2, axis=1)), x, [y])[0]


@pytest.mark.parametrize("way", [spelled_out, mapped])
def test_kernels_in_existing_graphs_are_fused(points, way):
    x, y = T.dmatrices("x", "y")
    plain = way(x, y)
    with rbf_op.autofuse.enabled():
        by_autofuse = T.grad(plain.sum(), [x, y])
    fused = rbf_op.fuse(plain)
    by_fuse = T.grad(fused.sum(), [x, y])
    assert type(fused.owner.op) is rbf_op.RBFKernel
    mode = theano.Mode(linker="py", optimizer="fast_run")
    function = theano.function([x, y], [plain, fused] + by_autofuse + by_fuse, mode=mode)
    ops = [type(node.op) for node in function.maker.fgraph.apply_nodes]
    assert rbf_op.RBFKernel in ops and rbf_op.RBFDotGrad in ops
    assert T.elemwise.Elemwise not in ops
    for got, expected in zip(function(*points), 2 * (kernel(*points),) + 2 * gradient(*points)):
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-14)
