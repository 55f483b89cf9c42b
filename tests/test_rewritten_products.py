"""The rewrite of products with a kernel matrix: the same numbers with it and without, and no K.

Graphs run in NumPy here, where they compile at once; test_dot.py has the nodes' C code.
"""

import graphs
import numpy as np
import oracle
import pytest
import theano
import theano.tensor as T
from graphs import DTYPES

from rbf_op import rbf_dot, rbf_kernel
from rbf_op.ops import RBFDot, RBFDotGrad, RBFKernel, RBFKernelGrad, RBFOuterGrad
from rbf_op.rewrites import products
from rbf_op.theano_api import ancestors

# What a scan computes in a step is compiled with the default mode.
pytestmark = pytest.mark.usefixtures("only_our_c_code")

N, M, D, P = 6, 5, 3, 2
SHAPES = {
    "x": (N, D), "y": (M, D), "w": (M, P), "h": (N, P), "v": (M,), "u": (N,), "q": (P, N),
    "gamma": (), "widths": (M,), "scale": (), "scales": (M,),
}  # fmt: skip


class Graph:
    """Symbolic variables of SHAPES by name, and compiled functions of them."""

    def __init__(self, dtype):
        self.dtype = dtype
        self.inputs, self.values = [], []
        random = np.random.RandomState(3)
        for name, shape in SHAPES.items():
            variable = T.TensorType(dtype, (False,) * len(shape))(name)
            setattr(self, name, variable)
            self.inputs.append(variable)
            self.values.append(random.uniform(0.3, 1.5, shape).astype(dtype))

    def compile(self, outputs, mode):
        return theano.function(self.inputs, outputs, mode=mode, on_unused_input="ignore")

    def check(self, outputs):
        """The nodes' Ops with the rewrite; values, dtypes and types equal those without it."""
        mode = graphs.theano_mode("py")
        with_it, without = (self.compile(outputs, m) for m in (mode, mode.excluding("rbf_dot")))
        assert not any(
            isinstance(n.op, (RBFDot, RBFDotGrad)) for n in without.maker.fgraph.toposort()
        )
        tolerance = 100 * np.finfo(self.dtype).eps
        for new, old in zip(with_it.maker.outputs, without.maker.outputs):
            assert new.variable.type == old.variable.type
        for new, old in zip(with_it(*self.values), without(*self.values)):
            assert new.dtype == old.dtype and new.shape == old.shape
            assert np.max(np.abs(old)) > 1e-3
            assert np.max(np.abs(new - old)) <= tolerance * np.max(np.abs(old))
        return [
            n.op
            for n in with_it.maker.fgraph.toposort()
            if isinstance(n.op, (RBFKernel, RBFKernelGrad, RBFDot, RBFDotGrad, RBFOuterGrad))
        ]


@pytest.fixture(params=DTYPES)
def g(request):
    return Graph(request.param)


def kernels(g):
    """name -> (K, the variables it is made of): every kind of parameters, and y = x."""
    return {
        "gamma": (rbf_kernel(g.x, g.y, g.gamma), [g.x, g.y, g.gamma]),
        "widths": (rbf_kernel(g.x, g.y, g.widths), [g.x, g.y, g.widths]),
        "scale": (
            rbf_kernel(g.x, g.y, g.gamma, amplitude=g.scale), [g.x, g.y, g.gamma, g.scale],
        ),
        "scales": (
            rbf_kernel(g.x, g.y, g.gamma, amplitude=g.scales), [g.x, g.y, g.gamma, g.scales],
        ),
        "all": (
            rbf_kernel(g.x, g.y, g.widths, amplitude=g.scales), [g.x, g.y, g.widths, g.scales],
        ),
        "symmetric": (rbf_kernel(g.x, gamma=g.gamma), [g.x, g.gamma]),
        "symmetric scale": (
            rbf_kernel(g.x, gamma=g.gamma, amplitude=g.scale), [g.x, g.gamma, g.scale],
        ),
        "lengthscale": (rbf_kernel(g.x, g.y, lengthscale=g.gamma), [g.x, g.y, g.gamma]),
    }  # fmt: skip


KERNELS = list(kernels(Graph("float64")))


# name -> (product of K and the weights, the weights, for K (N, M) and for the symmetric K (N, N))
PRODUCTS = {
    "dot(K, W)": lambda g, k, square: (T.dot(k, g.h if square else g.w), g.h if square else g.w),
    "dot(K, w)": lambda g, k, square: (T.dot(k, g.u if square else g.v), g.u if square else g.v),
    "dot(W.T, K.T)": lambda g, k, square: (
        T.dot((g.h if square else g.w).T, k.T), g.h if square else g.w,
    ),
    "dot(K.T, H)": lambda g, k, square: (T.dot(k.T, g.h), g.h),
    "dot(K.T, u)": lambda g, k, square: (T.dot(k.T, g.u), g.u),
    "dot(u, K)": lambda g, k, square: (T.dot(g.u, k), g.u),
    "dot(Q, K)": lambda g, k, square: (T.dot(g.q, k), g.q),
    "tensordot": lambda g, k, square: (
        T.tensordot(k, g.h if square else g.w, axes=1), g.h if square else g.w,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("product", PRODUCTS)
def test_product(g, product, kernel):
    """Every spelling of a product with K or its transpose becomes one node."""
    k, _ = kernels(g)[kernel]
    result, _ = PRODUCTS[product](g, k, kernel.startswith("symmetric"))
    (op,) = g.check([result])
    if kernel.startswith("symmetric") and result.ndim == 2:
        assert isinstance(op, RBFKernel)  # of many columns K is not computed by half without it
        return
    per_centre = kernel in ("widths", "all")
    transposed = product in ("dot(K.T, H)", "dot(K.T, u)", "dot(u, K)", "dot(Q, K)")
    assert type(op) is (RBFDotGrad if transposed and per_centre else RBFDot)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("product", [p for p in PRODUCTS if p != "tensordot"])
def test_gradients(g, product, kernel):
    """Cost and all gradients; the exponentials of a layer once forward and once backward."""
    k, parameters = kernels(g)[kernel]
    result, weights = PRODUCTS[product](g, k, kernel.startswith("symmetric"))
    cost = T.sqr(result - 0.4).mean()
    found = [type(op) for op in g.check([cost] + T.grad(cost, parameters + [weights]))]
    if kernel.startswith("symmetric"):  # computed once, as half of it, for products and dW
        assert found == [RBFKernel, RBFOuterGrad]
        return
    if kernel in ("widths", "all") and not product.startswith(("dot(K, ", "dot(W")):
        assert found == [RBFKernel, RBFDotGrad]  # y has the widths: it cannot change places with x
        return
    assert not {RBFKernel, RBFKernelGrad} & set(found)
    if product in ("dot(K, W)", "dot(K, w)", "dot(W.T, K.T)"):
        assert found == [RBFDot, RBFDotGrad]


@pytest.mark.parametrize("wrt", ["x", "y", "widths"])
def test_single_gradients(g, wrt):
    k = rbf_kernel(g.x, g.y, g.widths, amplitude=g.scales)
    cost = T.sqr(T.dot(k, g.w)).sum()
    found = g.check([T.grad(cost, getattr(g, wrt))])
    assert [type(op) for op in found] == [RBFDot, RBFDotGrad]
    assert found[1].wrt == ({"widths": "gamma"}.get(wrt, wrt),)


def test_amplitude_of_a_kernel_with_products_from_both_sides(g):
    """K stays, and its gradients take no other node than theirs."""
    k = rbf_kernel(g.x, g.y, g.gamma, amplitude=g.scale)
    cost = T.sqr(k.sum(axis=0)).sum() + T.sqr(k.sum(axis=1)).sum()
    found = g.check(T.grad(cost, [g.x, g.scale]))
    assert [type(op) for op in found] == [RBFKernel, RBFDotGrad]


def test_gradient_whose_product_is_known(g):
    """grad_output a product, K nowhere: no forward node is needed."""
    k = rbf_kernel(g.x, g.y, g.gamma)
    found = g.check(T.grad(None, [g.x, g.gamma], known_grads={k: T.dot(g.h, g.w.T)}))
    assert found == [RBFDotGrad(("x", "gamma"))]


def test_quadratic_form(g):
    """u' K v: one product, whose gradient also gives those of u and v."""
    k = rbf_kernel(g.x, g.y, gamma=g.gamma, amplitude=g.scale)
    cost = T.dot(g.u, T.dot(k, g.v))
    assert g.check([cost]) == [RBFDot()]
    found = g.check([cost] + T.grad(cost, [g.x, g.gamma, g.scale, g.v]))
    assert {type(op) for op in found} == {RBFDot, RBFDotGrad} and len(found) == 2


# name -> results that are made of sums of K, or of products in which it is scaled
SUMS = {
    "row sums": lambda g, k: [k.sum(axis=1)],
    "column means": lambda g, k: [k.mean(axis=0)],
    "all entries": lambda g, k: [T.log(k.sum())],
    "a sum with weights": lambda g, k: [(g.v * k).sum(axis=1)],
    "a sum with weights of both": lambda g, k: [(g.v * k * -g.u[:, None]).sum(axis=0)],
    "all entries with weights, u / v": lambda g, k: [T.sum(k * g.u[:, None] / g.v)],
    "the mean of entries with weights": lambda g, k: [T.mean(g.v * k)],
    "a normalised product": lambda g, k: [T.dot(k, g.w) / k.sum(axis=1, keepdims=True)],
    "normalised rows in a product": lambda g, k: [T.dot(k / k.sum(axis=1, keepdims=True), g.w)],
    "normalised columns in a product": lambda g, k: [T.dot((k / k.sum(axis=0)).T, g.h)],
    "K.T scaled": lambda g, k: [T.dot(g.w.T, (k * g.u[:, None]).T)],
    "a sum with a product": lambda g, k: [(k * T.dot(g.h, g.w.T)).sum(axis=1)],
    "several products": lambda g, k: [T.dot(k, g.w), T.dot(k, g.v), k.sum(axis=1)],
}


@pytest.mark.parametrize("kernel", ["gamma", "widths", "scale", "all"])
@pytest.mark.parametrize("name", SUMS)
def test_sums(g, name, kernel):
    """One node without K, whatever the sums are."""
    k, _ = kernels(g)[kernel]
    (op,) = g.check(SUMS[name](g, k))
    assert isinstance(op, (RBFDot, RBFDotGrad))


@pytest.mark.parametrize("kernel", ["gamma", "widths", "scale", "all"])
@pytest.mark.parametrize("name", SUMS)
def test_gradients_of_sums(g, name, kernel):
    """One node more, for all gradients."""
    k, parameters = kernels(g)[kernel]
    results = SUMS[name](g, k)
    cost = sum(T.sqr(result - 0.4).mean() for result in results)
    of_points = [v for v in parameters if not v.name.startswith("scale")]
    of_weights = [v for v in (g.w, g.v, g.u, g.h) if v in ancestors(results)]
    for wrt in (of_points, of_points + of_weights):
        forward, gradient = g.check(results + T.grad(cost, wrt))
        assert isinstance(gradient, RBFDotGrad)
        # A product with K.T and one with K, for the gradient of its weights.
        both = wrt is not of_points and ("both" in name or "columns in" in name or "/" in name)
        assert both or isinstance(forward, (RBFDot, RBFDotGrad))


def test_a_gradient_that_is_computed_from_the_sum_it_could_give(g):
    """That of the sum and of the product together: its grad_output has ones in it, and the sum."""
    k = rbf_kernel(g.x, g.y, g.gamma)
    results = [k.sum(), T.dot(g.u, k)]
    cost = sum(T.tanh(result).sum() for result in results)
    found = [type(op) for op in g.check(results + T.grad(cost, [g.x, g.y]))]
    assert found == [RBFKernel, RBFDotGrad]


def test_a_gradient_that_takes_the_matrix(g):
    """A node of several results uses K."""
    k = rbf_kernel(g.x, g.y, g.widths)
    found = [type(op) for op in g.check(T.grad(-3 * T.sqr(k).sum(), [g.widths, g.y]))]
    assert found == [RBFKernel, RBFKernelGrad]


@pytest.mark.parametrize("narrower", ["int8", "float32"])
def test_weights_of_a_narrower_dtype(g, narrower):
    """As a number of float32 makes K float64 where floatX is."""
    k = rbf_kernel(g.x, g.y, g.gamma)
    weights = T.cast(10 * g.w, narrower)
    results = [T.dot(k, weights), (k * T.cast(10 * g.v, narrower)).sum(axis=1)]
    assert g.check(results) == [RBFDot()]
    cost = sum(T.sqr(result).mean() for result in results)
    wrt = [g.x, g.y] + ([g.w, g.v] if narrower == "float32" else [])
    assert [type(op) for op in g.check(results + T.grad(cost, wrt))] == [RBFDot, RBFDotGrad]


def test_sums_of_a_symmetric_kernel(g):
    """As many products as compute half of K without K."""
    k = rbf_kernel(g.x, gamma=g.gamma, amplitude=g.scale)
    results = [T.dot(k, g.u) / k.sum(axis=1), (k * g.u).sum(axis=0)]
    results.append(T.dot(k, T.tanh(k.sum(axis=0))))
    assert g.check(results[:2]) == [RBFDot()]
    assert g.check(results) == [RBFKernel(symmetric=True)]  # weights computed from a product
    found = [type(op) for op in g.check([results[1]] + T.grad(results[1].sum(), [g.x]))]
    assert sorted(found, key=lambda op: op.__name__) == [RBFDot, RBFOuterGrad]
    many = [(k * g.u**power).sum(axis=1) for power in range(products.FEW_COLUMNS + 1)]
    assert g.check(many[1:]) == [RBFDot()]
    assert g.check(many) == [RBFKernel(symmetric=True)]


def test_columns_of_which_one_type_tells(g):
    """A dot of what is known to have one column and what is not."""
    row = T.patternbroadcast(g.v.dimshuffle("x", 0), (False, False))
    matrix = T.dot(g.u.dimshuffle(0, "x"), row)
    k = rbf_kernel(g.x, g.y, g.gamma)
    for results in ([(k * matrix).sum(axis=1)], [(k * matrix).sum(axis=0)], [(k * matrix).sum()]):
        assert g.check(results) == [RBFDot()]
    assert g.check([T.dot(k * matrix, g.w)]) == [RBFKernel()]
    assert [type(op) for op in g.check(T.grad((k * matrix).sum(), [g.x]))] == [RBFDotGrad]


def test_a_divisor_whose_inverse_overflows():
    """Rows that are far from all columns: normalised they are weights as others."""
    x, y, w = T.fmatrices("xyw")
    k = rbf_kernel(x, y, gamma=1)
    product = T.dot(k / k.sum(axis=1, keepdims=True), w)
    function = theano.function([x, y, w], product, mode=graphs.theano_mode("py"))
    assert any(isinstance(n.op, RBFDot) for n in function.maker.fgraph.toposort())
    far = np.float32([[np.sqrt(90.0)]])  # exp(-90) = 8e-40
    found = function(far, np.zeros((2, 1), np.float32), np.float32([[1], [3]]))
    np.testing.assert_allclose(found, [[2]], rtol=1e-4)


@pytest.mark.parametrize(
    "scaled", [lambda g, k: g.u * k, lambda g, k: k * g.v[:, None], lambda g, k: k / g.u]
)
def test_factors_of_another_length(g, scaled):
    """Fail as they did."""
    k = rbf_kernel(g.x, g.y, g.gamma)
    for output in (scaled(g, k).sum(axis=0), scaled(g, k).sum(axis=1)):
        function = g.compile(output, graphs.theano_mode("py"))
        with pytest.raises(ValueError):
            function(*g.values)


def test_distances_are_not_computed_twice(g):
    """Only the weights are trained: K serves both products, two nodes would both compute it."""
    k = rbf_kernel(g.x, g.y, g.gamma)
    cost = T.sqr(T.dot(k, g.w) - g.h).mean()
    assert g.check([cost, T.grad(cost, g.w)]) == [RBFKernel()]
    assert [type(op) for op in g.check(T.grad(cost, [g.w, g.x]))] == [RBFDot, RBFDotGrad]


@pytest.mark.parametrize("columns", [products.MANY_COLUMNS - 1, products.MANY_COLUMNS])
def test_many_columns_known_stay(g, columns):
    """Of W, in training and for the product and K.T alone."""
    weights = theano.shared(np.ones((M, columns), g.dtype))
    cost = T.sqr(T.dot(rbf_kernel(g.x, g.y, g.gamma), weights)).mean()
    found = [type(op) for op in g.check([cost] + T.grad(cost, [g.x, weights]))]
    many = columns == products.MANY_COLUMNS
    assert found == ([RBFKernel, RBFKernelGrad] if many else [RBFDot, RBFDotGrad])
    k = rbf_kernel(g.x, g.y, g.gamma)
    assert g.check(T.dot(k, weights)) == [RBFKernel() if many else RBFDot()]
    assert g.check(T.dot(weights.T, k.T)) == [RBFKernel() if many else RBFDot()]


def test_no_product_more_for_the_amplitude(g):
    """Its gradient is a product of K.T where the weights need that too, else a sum of K's own."""
    k = rbf_kernel(g.x, g.y, g.gamma, amplitude=g.scale)
    cost = T.sqr(T.dot(k, g.w) - g.h).mean()
    found = g.check(T.grad(cost, [g.x, g.scale]))
    assert [type(op) for op in found] == [RBFDot, RBFKernelGrad]
    found = g.check(T.grad(cost, [g.x, g.scale, g.w]))
    assert [type(op) for op in found] == [RBFDot, RBFDotGrad]


def test_weights_made_of_the_product(g):
    """K.T h where the gradient node with grad_output h has weights computed from K.T h itself."""
    for gamma, expected in ((g.gamma, [RBFDot, RBFDotGrad]), (g.widths, [RBFKernel, RBFDotGrad])):
        product = T.dot(rbf_kernel(g.x, g.y, gamma).T, g.h)
        cost = T.sqr(T.tanh(product)).sum()
        found = g.check([product] + T.grad(cost, [g.x, g.h]))
        assert [type(op) for op in found] == expected


def test_gradients_taken_one_by_one(g):
    """Gradient nodes of the same inputs become one, whatever each of them was wanted for."""
    inputs = [g.x, g.y, g.widths, g.w]
    outputs = [RBFDotGrad((name,))(*(inputs + [g.h])) for name in ("weights", "x", "gamma")]
    mode = graphs.theano_mode("py")
    f = g.compile(outputs, mode)
    (node,) = [n for n in f.maker.fgraph.toposort() if isinstance(n.op, RBFDotGrad)]
    assert node.op.wrt == ("x", "gamma", "weights")
    without = g.compile(outputs, mode.excluding("rbf_dot"))
    for new, old in zip(f(*g.values), without(*g.values)):
        np.testing.assert_array_equal(new, old)


OTHER = {"float32": "float64", "float64": "float32"}

# name -> results of which K must stay
KEPT = {
    "K is a result": lambda g, k: [T.dot(k, g.w), k],
    "K.T is a result": lambda g, k: [T.dot(k, g.w), k.T],
    "K has another use": lambda g, k: [T.dot(k, g.w) / T.sqr(k).sum(axis=1, keepdims=True)],
    "K is summed in another dtype": lambda g, k: [k.sum(axis=0, dtype=OTHER[g.dtype])],
    "products from both sides": lambda g, k: [T.dot(k, g.w), T.dot(k.T, g.h)],
    "weights computed from another product": lambda g, k: [
        T.dot(k, g.w), T.dot(g.u / k.sum(axis=1), k),
    ],
    "K times K": lambda g, k: [T.dot(k, k.T)],
    "several products": lambda g, k: [T.dot(k, g.w), T.dot(k, T.tanh(T.dot(k, g.w)[:M]))],
    "product of a wider dtype": lambda g, k: [
        T.dot(k, T.cast(g.w, "int64" if g.dtype == "float32" else "complex128"))
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", KEPT)
def test_k_stays(g, name):
    assert g.check(KEPT[name](g, rbf_kernel(g.x, g.y, g.gamma))) == [RBFKernel()]


def test_gradient_stays_where_its_product_is_used(g):
    """dot(H, W.T) is formed anyway: that it is a product saves nothing."""
    k, outer = rbf_kernel(g.x, g.y, g.gamma), T.dot(g.h, g.w.T)
    found = g.check([outer] + T.grad(None, [g.x], known_grads={k: outer}))
    assert found == [RBFKernelGrad(wrt=("x",))]


def test_a_product_that_depends_on_the_first(g):
    """K.T (K w): two nodes would compute K twice."""
    k = rbf_kernel(g.x, g.y, g.gamma, amplitude=g.scales)
    assert g.check([T.dot(k.T, T.tanh(T.dot(k, g.v)))]) == [RBFKernel()]


def test_threads_setting_is_kept():
    g = Graph("float64")
    k = RBFKernel(openmp=False)(g.x, g.y, g.gamma, 1.0)
    cost = T.sqr(T.dot(k, g.w)).sum()
    found = g.check([cost, T.grad(cost, g.x)])
    assert [op.openmp for op in found] == [False, False]


@pytest.mark.parametrize("shape", [(1, M, D, P), (N, 1, D, P), (N, M, 1, P), (N, M, D, 1)])
def test_broadcastable_dimensions(shape):
    """Types stay as they were, or the product does."""
    n, m, d, p = shape
    x, y, w, h = (
        T.TensorType("float64", [size == 1 for size in sizes])()
        for sizes in [(n, d), (m, d), (m, p), (n, p)]
    )
    gamma = T.TensorType("float64", (m == 1,))()
    values = [oracle.problem(n, m, d)[i] for i in (0, 1, 2)]
    values += [np.ones((m, p)) * 0.7, np.ones((n, p)) * 0.3]
    cost = T.sqr(T.dot(RBFKernel()(x, y, gamma, 2.0), w) - h).sum()
    inputs = [x, y, gamma, w, h]
    outputs = [cost] + T.grad(cost, inputs)
    mode = graphs.theano_mode("py")
    results = [theano.function(inputs, outputs, mode=m) for m in (mode, mode.excluding("rbf_dot"))]
    for new, old in zip(*(f(*values) for f in results)):
        np.testing.assert_allclose(new, old, rtol=1e-12, atol=1e-14)


def test_a_product_of_one_column_beside_a_gradient_of_unknown_ones(g, monkeypatch):
    """Whose node could give it too, were its type another."""
    monkeypatch.setattr(theano.config, "on_opt_error", "raise")
    kernel = rbf_kernel(g.x, g.y, g.gamma)
    row = T.patternbroadcast(g.v.dimshuffle("x", 0), (False, False))
    grad_output = T.dot(g.u.dimshuffle(0, "x"), row)
    cost = (kernel * grad_output).sum()
    g.check([theano.grad(cost, g.x, consider_constant=[grad_output]), T.dot(kernel.T, g.u)])


def test_weights_of_one_row_are_not_stretched(g):
    """By an amplitude of each centre: dot(K, W) of them fails."""
    row = T.patternbroadcast(g.v.dimshuffle("x", 0), (True, False))
    product = T.dot(rbf_kernel(g.x, g.y, g.gamma, amplitude=g.widths), row)
    for output in (product, T.grad(product.sum(), g.x)):
        function = g.compile(output, graphs.theano_mode("py"))
        with pytest.raises(ValueError, match="not aligned|must have shape"):
            function(*g.values)


def test_weights_that_had_three_dimensions(g, monkeypatch):
    monkeypatch.setattr(theano.config, "on_opt_error", "raise")
    weights = T.patternbroadcast(g.w.dimshuffle(0, 1, "x"), (False, False, True))
    weights = T.patternbroadcast(weights * 2, (False, False, True))
    kernel = rbf_kernel(g.x, g.y, g.gamma)
    assert [type(op) for op in g.check([T.dot(weights.dimshuffle(1, 0), kernel.T)])] == [RBFDot]


def test_errors_name_the_users_line():
    def line_of_a_user(kernel, w):
        return T.dot(kernel, w)

    x, y, w = T.dmatrices("xyw")
    product = line_of_a_user(rbf_kernel(x, y, 1.0), w)
    function = theano.function([x, y, w], product, mode=graphs.theano_mode("py"))
    with pytest.raises(ValueError, match="(?s)rbf_dot: x and y.*in line_of_a_user"):
        function(np.ones((2, 3)), np.ones((2, 4)), np.ones((2, 1)))


def test_turned_off(g):
    """By the flag's tag, and under FAST_COMPILE."""
    product = T.dot(rbf_kernel(g.x, g.y, g.gamma), g.w)
    modes = [graphs.theano_mode("FAST_COMPILE"), graphs.theano_mode("py").excluding("rbf_dot")]
    for mode in modes:
        found = [type(n.op) for n in g.compile([product], mode).maker.fgraph.toposort()]
        assert RBFKernel in found and RBFDot not in found
    g.check([product])


def test_inside_scan(g):
    """The graph of a scan's step is rewritten as well."""

    def final(product):
        states, _ = theano.scan(lambda state: T.tanh(product(state)), outputs_info=[g.x], n_steps=2)
        return states[-1]

    by_rewrite = final(lambda state: T.dot(rbf_kernel(state, g.y, g.gamma), g.y))
    f = g.compile([by_rewrite], graphs.theano_mode("py"))
    (scan,) = [n.op for n in f.maker.fgraph.toposort() if hasattr(n.op, "fn")]
    inside = [type(n.op) for n in scan.fn.maker.fgraph.toposort()]
    assert RBFDot in inside and RBFKernel not in inside
    by_hand = final(lambda state: rbf_dot(state, g.y, g.y, g.gamma))
    (expected,) = g.compile([by_hand], graphs.theano_mode("py"))(*g.values)
    np.testing.assert_array_equal(f(*g.values)[0], expected)
