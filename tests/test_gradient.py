"""Derivatives: the gradient's values, and every graph that is built from them.

The numbers come from long double formulas and finite differences (oracle.py). Inputs are scaled so
that no gradient is small beside the tolerance, and both signs occur: a wrong sign or factor fails,
which test_a_wrong_gradient_is_seen shows.
"""

import graphs
import layouts
import numpy as np
import oracle
import pytest
import theano
import theano.tensor as T
from graphs import DTYPES, MODES, needs_compiler
from theano.gradient import verify_grad

from rbf_op import ops, rbf_dot, rbf_kernel, rbf_logsumexp, reference

pytestmark = pytest.mark.usefixtures("only_our_c_code")

# Of a gradient's entry, relative to the absolute values of its terms: rounding of K, and of sums of
# up to some hundred of them.
TOLERANCE = {dtype: 20 * np.finfo(dtype).eps for dtype in DTYPES}


def check_gradients(results, values, factor=1):
    oracle.assert_gradients(results, values, factor * TOLERANCE[str(values[0].dtype)])


# -- values ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", [1, 2, 5, 16, 33])
def test_sizes_round_the_tile(dtype, mode, columns):
    f = graphs.gradient(dtype, mode)
    for rows in [1, 2, 4, 5, 7, 8, 9, 16, 17, 33]:
        for centres in [1, 3, 4, 7, 8, 9, 16, 17, 32, 33, 65, 130]:
            values = oracle.problem(rows, centres, columns, dtype)
            check_gradients(f(*values), values)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("vector", [(False, False), (False, True), (True, False)])
def test_scalar_parameters(dtype, mode, vector):
    f = graphs.gradient(dtype, mode, vector)
    for sizes in [(5, 3, 2), (1, 1, 1), (40, 37, 21), (9, 130, 3), (7, 6, 0), (0, 3, 2)]:
        values = oracle.problem(*sizes, dtype=dtype, vector=vector)
        check_gradients(f(*values), values, factor=4)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n, m, d", [(0, 5, 3), (4, 0, 3), (0, 0, 2), (4, 5, 0), (0, 0, 0)])
def test_empty(dtype, mode, n, m, d):
    """Sums over nothing are zero, not what was in the memory before."""
    values = oracle.problem(n, m, d, dtype)
    check_gradients(graphs.gradient(dtype, mode)(*values), values)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("argument", range(5), ids=oracle.INPUT_NAMES + ("grad_output",))
@pytest.mark.parametrize("layout", layouts.LAYOUTS)
def test_layouts(layout, argument, dtype, mode):
    f = graphs.gradient(dtype, mode)
    values = oracle.problem(11, 37, 6, dtype)
    values[argument] = layouts.LAYOUTS[layout](values[argument])
    before = [a.copy() for a in values]
    results = f(*values)
    check_gradients(results, values)
    for result, same in zip(results, f(*[np.array(a, order="C") for a in values])):
        assert result.flags.c_contiguous
        np.testing.assert_array_equal(result, same)
    for a, b in zip(values, before):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("n, m, d", [(75, 133, 3), (75, 133, 70), (1000, 70, 2), (9, 1100, 2)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_grad_output_in_whole_columns(dtype, n, m, d):
    """As LAPACK leaves it, of more tiles than one: read by transposed squares, the same bits."""
    values = oracle.problem(n, m, d, dtype)
    f = graphs.gradient(dtype, "cvm")
    columns = layouts.LAYOUTS["Fortran"](values[4])
    results = f(*(values[:4] + [columns]))
    check_gradients(results, values)
    for result, same in zip(results, f(*values)):
        np.testing.assert_array_equal(result, same)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_accuracy(dtype, mode):
    """1e-13 of the largest entry in float64 at n = m = 200, d = 50, the same share in float32."""
    values = oracle.problem(200, 201, 50, dtype)
    results = graphs.gradient(dtype, mode)(*values)
    tolerance = 1e-13 * np.finfo(dtype).eps / np.finfo("float64").eps
    oracle.assert_gradients_to_the_largest(results, values, tolerance)


@pytest.mark.parametrize("y_is_x", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_many_columns(dtype, y_is_x):
    """As many as are expanded into matrix products where those pay; some pairs close, one equal."""
    x, y, gamma, amplitude, grad_output = oracle.problem(600, 600, 70, dtype, (False, False))
    y[:9] = x[:9] + y[:9] / np.arange(1, 10, dtype=dtype)[:, None] ** 4
    y[9], y[10] = x[9], y[0]
    if y_is_x:
        results = graphs.symmetric_gradient(dtype, "cvm")(y, gamma, amplitude, grad_output)
        names = ("x", "gamma", "amplitude")
        oracle.assert_gradients(
            results, [y, y, gamma, amplitude, grad_output], TOLERANCE[dtype], names
        )
    else:
        values = [x, y, gamma, amplitude, grad_output]
        check_gradients(graphs.gradient(dtype, "cvm", (False, False))(*values), values)


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
def test_column_sums_out_of_range(dtype):
    """Weights of one sign a column, which only matrix products add up before the differences."""
    x, y, gamma, amplitude, _ = oracle.problem(600, 600, 70, dtype, (False, False))
    x, y, gamma = x / 1000, y / 1000, np.asarray(1e6 / 64, dtype)
    size = np.finfo(dtype).max / 1e6
    grad_output = np.empty((600, 600), dtype)
    grad_output[:] = np.where(np.arange(600) // 32 % 2, size, -size)
    values = [x, y, gamma, amplitude, grad_output]
    dx, dy = graphs.gradient(dtype, "cvm", (False, False))(*values)[:2]
    assert np.isfinite(dx).all() and np.isfinite(dy).all()
    scaled = [v.astype("float64") for v in values[:4]] + [np.sign(grad_output).astype("float64")]
    for got, exact in zip((dx, dy), reference.rbf_kernel_grad(*scaled)):
        error = np.max(np.abs(got / float(size) - exact)) / np.max(np.abs(exact))
        assert error <= 1e3 * np.finfo(dtype).eps


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_gamma_of_which_twice_is_infinite(dtype, mode):
    x, y, gamma, amplitude, grad_output = oracle.problem(9, 17, 3, dtype, (False, False))
    gamma = np.asarray(0.9 * np.finfo(dtype).max, dtype)
    y[:] = x[:1] + 1
    for gradient in graphs.gradient(dtype, mode, (False, False))(
        x[:1], y, gamma, amplitude, grad_output[:1]
    ):
        assert (gradient == 0).all()


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("m, d", [(40, 5), (150, 70)])
def test_many_rows(m, d, dtype):
    """Of tasks so long that their sums over rows are added up in chunks."""
    values = oracle.problem(20000, m, d, dtype, vector=(False, False))
    values[2] = np.asarray(1 / d, dtype)
    results = graphs.gradient(dtype, "cvm", (False, False))(*values)
    expected = reference.rbf_kernel_grad(*[v.astype("float64") for v in values])
    for got, exact in zip(results[:2], expected):
        error = np.max(np.abs(got - exact)) / np.max(np.abs(exact))
        assert error <= 8 * np.finfo(dtype).eps * (1 if dtype == "float32" else 16)
    for got, exact in zip(results[2:], expected[2:]):
        # of some 1e5 terms of either sign
        assert np.abs(got - exact) <= 1e3 * np.finfo(dtype).eps * m


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_far_from_the_origin(dtype, mode):
    x, y, gamma, amplitude, grad_output = oracle.problem(43, 71, 12, dtype, spread=2)
    offset = np.asarray(1e6, dtype)
    values = [x + offset, y + offset, gamma / np.asarray(50, dtype), amplitude, grad_output]
    check_gradients(graphs.gradient(dtype, mode)(*values), values, factor=3)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_coincident_rows(dtype, mode):
    """A row of x on a centre contributes exactly nothing to dx, dy, dgamma, and 1 to damplitude."""
    f = graphs.gradient(dtype, mode)
    for n, m in [(1, 1), (9, 33), (40, 5)]:
        x, y, gamma, amplitude, grad_output = oracle.problem(n, m, 7, dtype)
        x[:], y[:] = x[0], x[0]
        dx, dy, dgamma, damplitude = f(x, y, gamma, amplitude, grad_output)
        for gradient in (dx, dy, dgamma):
            np.testing.assert_array_equal(gradient, np.zeros_like(gradient))
        np.testing.assert_allclose(
            damplitude, grad_output.astype("float64").sum(axis=0), rtol=TOLERANCE[dtype], atol=1e-5
        )
        # One coincidence among other points.
        values = oracle.problem(n, m, 7, dtype, seed=1)
        values[0][n // 2] = values[1][m // 2]
        check_gradients(f(*values), values)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "argument, index",
    [(0, (3, 1)), (1, (21, 1)), (2, 21), (3, 21), (4, (3, 21))],
    ids=oracle.INPUT_NAMES + ("grad_output",),
)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_special_numbers(value, argument, index, dtype, mode):
    """NaN and infinity reach the same entries of the gradients as in NumPy, and no others."""
    values = oracle.problem(17, 39, 5, dtype)
    values[argument][index] = value
    results = graphs.gradient(dtype, mode)(*values)
    for result, expected in zip(results, reference.rbf_kernel_grad(*values)):
        np.testing.assert_array_equal(np.isnan(result), np.isnan(expected))
        infinite = np.isinf(expected) | np.isinf(result)
        np.testing.assert_array_equal(result[infinite], expected[infinite])
        finite = np.isfinite(expected)
        scale = np.max(np.abs(expected[finite]), initial=0)
        assert np.max(np.abs(result - expected)[finite], initial=0) <= 4 * TOLERANCE[dtype] * scale


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gamma", [0.0, -0.5])
def test_gamma_zero_and_negative(gamma, dtype, mode):
    values = oracle.problem(17, 39, 5, dtype)
    values[2][::2] = gamma
    check_gradients(graphs.gradient(dtype, mode)(*values), values)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", [0, 1, 6, 50])
def test_symmetric(dtype, mode, columns):
    """y = x: dx is the sum of both roles. grad_output is not symmetric, nor need it be."""
    f = graphs.symmetric_gradient(dtype, mode)
    for n in [0, 1, 2, 7, 8, 9, 16, 17, 33, 65, 130]:
        x, _, gamma, amplitude, grad_output = oracle.problem(n, n, columns, dtype, (False, False))
        oracle.assert_gradients(
            f(x, gamma, amplitude, grad_output),
            [x, x, gamma, amplitude, grad_output],
            TOLERANCE[dtype],
            names=("x", "gamma", "amplitude"),
        )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", ["nan above", "nan on", "inf on", "nan in x", "overflow"])
def test_symmetric_special_numbers(case, dtype, mode):
    """What is not finite reaches the same entries as in NumPy, from the diagonal too."""
    for n in (1, 3, 17, 40):
        x, _, gamma, amplitude, grad_output = oracle.problem(n, n, 5, dtype, (False, False))
        if case == "overflow":
            x *= 100
            gamma = -np.abs(gamma)
            grad_output = np.abs(grad_output)
        elif case == "nan in x":
            x[n // 2, 3] = np.nan
        else:
            row = 0 if case == "nan above" else n // 2
            grad_output[row, n // 2] = np.inf if case == "inf on" else np.nan
        results = graphs.symmetric_gradient(dtype, mode)(x, gamma, amplitude, grad_output)
        dx, dy, *expected = reference.rbf_kernel_grad(x, x, gamma, amplitude, grad_output)
        for result, same in zip(results, [dx + dy] + expected):
            np.testing.assert_array_equal(np.isnan(result), np.isnan(same))
            infinite = np.isinf(same) | np.isinf(result)
            np.testing.assert_array_equal(result[infinite], same[infinite])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("argument", ["x", "grad_output"])
@pytest.mark.parametrize("layout", layouts.LAYOUTS)
def test_symmetric_layouts(layout, argument, dtype, mode):
    f = graphs.symmetric_gradient(dtype, mode)
    x, _, gamma, amplitude, grad_output = oracle.problem(21, 21, 6, dtype, (False, False))
    if argument == "x":
        x = layouts.LAYOUTS[layout](x)
    else:
        grad_output = layouts.LAYOUTS[layout](grad_output)
    expected = f(np.array(x, order="C"), gamma, amplitude, np.array(grad_output, order="C"))
    for result, same in zip(f(x, gamma, amplitude, grad_output), expected):
        np.testing.assert_array_equal(result, same)


# -- through T.grad ----------------------------------------------------------------------------

SIZES = {"n": 4, "m": 3, "d": 2}


def _arrays(dtype):
    """Inputs of order 1 (gamma D near 1) so that all gradients are."""
    x, y, gamma, amplitude, _ = oracle.problem(
        SIZES["n"], SIZES["m"], SIZES["d"], dtype, spread=0.6
    )
    return x, y, gamma, amplitude


# name: (function of Theano variables, names of the arrays it takes)
PARAMETRISATIONS = {
    "gamma": (lambda x, y, w, a: rbf_kernel(x, y, w, amplitude=a), "scalar", "scalar"),
    "gamma vector": (lambda x, y, w, a: rbf_kernel(x, y, w, amplitude=a), "m", "m"),
    "sigma": (lambda x, y, w, a: rbf_kernel(x, y, sigma=w, amplitude=a), "scalar", "m"),
    "sigma vector": (lambda x, y, w, a: rbf_kernel(x, y, sigma=w, amplitude=a), "m", "scalar"),
    "lengthscale": (lambda x, y, w, a: rbf_kernel(x, y, lengthscale=w, amplitude=a), "scalar", "m"),
    "lengthscale vector": (
        lambda x, y, w, a: rbf_kernel(x, y, lengthscale=w, amplitude=a), "d", "m",
    ),
    "symmetric": (lambda x, w, a: rbf_kernel(x, gamma=w, amplitude=a), "scalar", "scalar"),
    "symmetric sigma": (lambda x, w, a: rbf_kernel(x, sigma=w, amplitude=a), "scalar", "scalar"),
    "symmetric lengthscale vector": (
        lambda x, w, a: rbf_kernel(x, lengthscale=w, amplitude=a), "d", "scalar",
    ),
    "symmetric gamma vector": (lambda x, w, a: rbf_kernel(x, gamma=w, amplitude=a), "n", "n"),
}  # fmt: skip


def verify(name, dtype, mode):
    """Theano's verify_grad for all inputs of a parametrisation at once.

    It accepts an entry whose absolute or whose relative error is small, so the absolute tolerance
    is a share of the gradients' scale, which is 1.
    """
    function, width, height = PARAMETRISATIONS[name]
    random = np.random.RandomState(3)
    shapes = {"scalar": (), "m": SIZES["m"], "d": SIZES["d"], "n": SIZES["n"]}
    arrays = _arrays(dtype)[: 1 if name.startswith("symmetric") else 2]
    points = list(arrays) + [
        np.asarray(random.uniform(1.2, 2, shapes[kind]), dtype) for kind in (width, height)
    ]
    tolerance = {"float32": 1e-2, "float64": 1e-6}[dtype]
    verify_grad(
        function,
        points,
        n_tests=1,
        rng=np.random.RandomState(4),
        abs_tol=tolerance,
        rel_tol=tolerance,
        mode=graphs.theano_mode(mode),
        cast_to_output_type=True,
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", PARAMETRISATIONS)
def test_verify_grad(name, dtype, mode):
    verify(name, dtype, mode)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("factor", [-1, 2, 1.05, 0])
@pytest.mark.parametrize("wrong", oracle.INPUT_NAMES)
def test_a_wrong_gradient_is_seen(monkeypatch, wrong, factor, dtype):
    """The check above can fail: a wrong sign or factor of any one gradient does it."""
    right = reference.rbf_kernel_grad

    def mutant(*inputs):
        gradients = list(right(*inputs))
        index = oracle.INPUT_NAMES.index(wrong)
        gradients[index] = np.asarray(gradients[index] * factor, gradients[index].dtype)
        return gradients

    monkeypatch.setattr(reference, "rbf_kernel_grad", mutant)
    for name in ("gamma vector", "symmetric"):
        if not (name == "symmetric" and wrong == "y"):
            with pytest.raises(verify_grad.E_grad):
                verify(name, dtype, "py")


# Which of x, y, gamma, amplitude T.grad is asked for.
SUBSETS = [
    tuple(name for bit, name in enumerate(oracle.INPUT_NAMES) if number >> bit & 1)
    for number in range(1, 16)
]


@pytest.mark.parametrize("optimizer", ["fast_run", "fast_compile"])
def test_only_wanted_gradients_are_computed(optimizer):
    """T.grad asks an Op for all its gradients; the compiled graph keeps those that are used."""
    *inputs, grad_output = graphs.variables("float64")
    *values, grad_value = oracle.problem(5, 4, 3)
    expected = dict(zip(oracle.INPUT_NAMES, reference.rbf_kernel_grad(*(values + [grad_value]))))
    cost = (rbf_kernel(*inputs[:3], amplitude=inputs[3]) * grad_output).sum()
    for subset in SUBSETS:
        wanted = [inputs[oracle.INPUT_NAMES.index(name)] for name in subset]
        f = theano.function(
            inputs + [grad_output],
            T.grad(cost, wanted),
            mode=theano.Mode(linker="py", optimizer=optimizer),
        )
        # fast_compile leaves the forward node in, as the shape that a sum's gradient is filled to.
        (op,) = {n.op for n in graphs.kernel_nodes(f) if isinstance(n.op, ops.RBFKernelGrad)}
        assert op.wrt == subset
        for name, result in zip(subset, f(*(values + [grad_value]))):
            np.testing.assert_allclose(result, expected[name], rtol=1e-14)


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("symmetric", [False, True])
def test_every_subset_of_gradients_in_c(dtype, symmetric):
    """The same bits whichever gradients are asked for: leaving one out changes no other."""
    x, y, gamma, amplitude, grad_output = graphs.variables(dtype, (not symmetric,) * 2)
    inputs = [x, gamma, amplitude, grad_output] if symmetric else graphs.variables(dtype)
    subsets = [s for s in SUBSETS if not (symmetric and "y" in s)]
    outputs = [
        gradient
        for subset in subsets
        for gradient in ops.RBFKernelGrad(symmetric, subset)(*inputs, return_list=True)
    ]
    # One C module for all of them.
    f = theano.function(inputs, outputs, mode=theano.Mode(linker="c", optimizer=None))
    names = ("x", "gamma", "amplitude") if symmetric else oracle.INPUT_NAMES
    for n, m, d in [(9, 37, 6), (70, 33, 3), (1, 1, 1)]:
        values = oracle.problem(n, n if symmetric else m, d, dtype, (not symmetric,) * 2)
        if symmetric:
            values[1] = values[0]
        results = iter(f(*(values[:1] + values[2:] if symmetric else values)))
        by_subset = {subset: [next(results) for _ in subset] for subset in subsets}
        oracle.assert_gradients(by_subset[names], values, 4 * TOLERANCE[dtype], names)
        for subset, gradients in by_subset.items():
            for name, gradient in zip(subset, gradients):
                np.testing.assert_array_equal(gradient, by_subset[names][names.index(name)])


@pytest.mark.parametrize("mode", MODES)
def test_disconnected_and_constant_inputs(mode):
    """gamma a constant, y used nowhere else, x twice: T.grad gives what the formulas say."""
    x, y = T.dmatrices("x", "y")
    x_value, y_value = oracle.problem(5, 4, 3)[:2]
    cost = rbf_kernel(x, y, gamma=0.7).sum() + rbf_kernel(x, gamma=0.2).sum()
    f = theano.function([x, y], T.grad(cost, [x, y]), mode=graphs.theano_mode(mode))
    first = oracle.gradients(x_value, y_value, 0.7, 1, np.ones((5, 4)))
    second = oracle.gradients(x_value, x_value, 0.2, 1, np.ones((5, 5)))
    dx, dy = f(x_value, y_value)
    np.testing.assert_allclose(dx, (first[0] + second[0] + second[1]).astype(float), rtol=1e-12)
    np.testing.assert_allclose(dy, first[1].astype(float), rtol=1e-12)
    with pytest.raises(theano.gradient.DisconnectedInputError):
        T.grad(cost, T.dscalar("elsewhere"))


# -- forward rule and second order -------------------------------------------------------------


def _variables_and_directions(dtype="float64"):
    variables = graphs.variables(dtype)[:4]
    directions = [v.type("d" + v.name) for v in variables]
    return variables, directions


def _values_and_directions(offset=0):
    x, y, gamma, amplitude, grad_output = oracle.problem(5, 4, 3)
    values = [x + offset, y + offset, gamma, amplitude]
    random = np.random.RandomState(8)
    return values, [random.uniform(-1, 1, a.shape) for a in values], grad_output


DIRECTION_SETS = [(0,), (1,), (2,), (3,), (0, 1), (0, 1, 2, 3)]


def _names(indices):
    return "+".join(oracle.INPUT_NAMES[i] for i in indices)


@pytest.fixture(scope="module")
def forward_rules():
    """{(mode, which): f(*values, *directions) -> change of K}, all compiled in one graph a mode."""
    variables, directions = _variables_and_directions()
    k = rbf_kernel(*variables[:3], amplitude=variables[3])
    outputs = [
        T.Rop(k, [variables[i] for i in which], [directions[i] for i in which])
        for which in DIRECTION_SETS
    ]
    compiled = {}

    def compute(mode, arguments):
        if mode not in compiled:
            compiled[mode] = theano.function(
                variables + directions, outputs, mode=graphs.theano_mode(mode)
            )
        return dict(zip(DIRECTION_SETS, compiled[mode](*arguments)))

    return compute


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("offset", [0, 1e5])
@pytest.mark.parametrize("which", DIRECTION_SETS, ids=_names)
def test_forward_rule(forward_rules, which, offset, mode):
    """T.Rop against finite differences, and <G, Rop(v)> = <Lop(G), v>."""
    values, directions, grad_output = _values_and_directions(offset)
    result = forward_rules(mode, values + directions)[which]
    used = [v if i in which else np.zeros_like(v) for i, v in enumerate(directions)]
    centred = [values[0] - offset, values[1] - offset] + values[2:]
    expected = oracle.directional(oracle.kernel, centred, used)
    scale = np.max(np.abs(expected))
    assert scale > 0.1
    assert np.max(np.abs(result - expected)) <= 1e-9 * scale
    gradients = oracle.gradients(*(values + [grad_output]))
    reverse = sum((g * v).sum() for g, v in zip(gradients, used))
    assert abs((result * grad_output).sum() - reverse) <= 1e-10 * abs(reverse)


@pytest.mark.parametrize("mode", MODES)
def test_forward_rule_symmetric(mode):
    x, _, gamma, amplitude, _ = graphs.variables("float64", (False, False))
    variables = [x, gamma, amplitude]
    directions = [v.type() for v in variables]
    k = rbf_kernel(x, gamma=gamma, amplitude=amplitude)
    f = theano.function(
        variables + directions, T.Rop(k, variables, directions), mode=graphs.theano_mode(mode)
    )
    x_value, _, g, a, _ = oracle.problem(6, 1, 3, vector=(False, False))
    dx = np.random.RandomState(0).randn(*x_value.shape)
    expected = oracle.directional(
        oracle.kernel, [x_value, x_value, g, a], [dx, dx, np.array(0.3), np.array(-0.4)]
    )
    result = f(x_value, g, a, dx, 0.3, -0.4)
    np.testing.assert_allclose(result, expected.astype(float), rtol=0, atol=1e-9)


# Neighbours of x[0] and x[1] among rows that are far away, or not finite.
SPREAD_OUT = {
    "one far away": [0, 1, 1e9],
    "clusters": [-1e6, -1e6 + 0.5, 1e6, 1e6 + 0.5],
    "NaN": [0, 1, np.nan],
    "inf": [0, 1, np.inf],
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", sorted(SPREAD_OUT))
def test_second_order_of_rows_that_are_spread_out(name, mode):
    """Distances of neighbours keep their digits: against the same rules of Theano's own nodes."""
    x, y, gamma = T.dmatrix("x"), T.dmatrix("y"), T.dscalar("gamma")
    pairs = x.dimshuffle(0, "x", 1) - y.dimshuffle("x", 0, 1)
    kernels = rbf_kernel(x, y, gamma), T.exp(-gamma * T.sqr(pairs).sum(axis=2))
    direction = T.ones_like(gamma)
    outputs = [
        [
            T.Rop(K, x, T.ones_like(x)),
            T.Rop(K, gamma, direction),
            T.Rop(log_sums, gamma, direction),
            T.grad(T.grad(K.sum(), gamma), gamma),
            T.grad(T.grad(K[:, :2].sum(), x).sum(), gamma),
        ]
        for K, log_sums in (
            (kernels[0], rbf_logsumexp(x, y, gamma)),
            (kernels[1], T.log(kernels[1].sum(axis=1))),
        )
    ]
    compiling = graphs.theano_mode(mode).excluding("rbf_fusion")
    f = theano.function([x, y, gamma], outputs[0] + outputs[1], mode=compiling)
    rows = np.array(SPREAD_OUT[name], "float64")[:, None]
    results = f(rows[:2] + 0.3, rows, 1.0)
    for got, expected in zip(results[: len(results) // 2], results[len(results) // 2 :]):
        np.testing.assert_allclose(got, expected, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("by", [0, 2], ids=["x", "gamma"])
def test_the_forward_rule_of_the_forward_rule(by):
    inputs = x, y, gamma = T.dmatrix("x"), T.dmatrix("y"), T.dscalar("gamma")
    pairs = x.dimshuffle(0, "x", 1) - y.dimshuffle("x", 0, 1)
    plain = T.exp(-gamma * T.sqr(pairs).sum(axis=2))
    outputs = [
        [rbf_kernel(x, y, gamma), plain],
        [rbf_dot(x, y, y, gamma), T.dot(plain, y)],
        [rbf_logsumexp(x, y, gamma), T.log(plain.sum(axis=1))],
    ]
    wrt = inputs[by]
    for _ in range(2):
        outputs = [[T.Rop(o, wrt, T.ones_like(wrt)) for o in pair] for pair in outputs]
    mode = graphs.theano_mode("py").excluding("rbf_fusion")
    f = theano.function(inputs, sum(outputs, []), mode=mode)
    random = np.random.RandomState(0)
    results = f(random.randn(4, 3), random.randn(5, 3), 0.3)
    for got, expected in zip(results[::2], results[1::2]):
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_origin_of_expanded_products(dtype):
    """In the middle of all rows that are finite, in C as in NumPy."""
    matrix = T.TensorType(dtype, (False, False))("y")
    by_c, by_numpy = (
        theano.function([matrix], ops.small.Median()(matrix), mode=theano.Mode(linker, None))
        for linker in ("c", "py")
    )
    rows = np.random.RandomState(0).randn(7, 4).astype(dtype)
    spoiled = rows.copy()
    spoiled[0], spoiled[1], spoiled[2] = np.nan, np.inf, 1e30
    nothing = np.full((3, 4), np.nan, dtype)
    for values in (rows, spoiled, nothing, rows[:0], rows[:, :0], rows[:, ::-2], rows.T):
        middle = by_c(values)
        assert middle.dtype == dtype and middle.shape == values.shape[1:]
        np.testing.assert_array_equal(middle, by_numpy(values))
        assert (np.abs(middle) < 3).all()


@pytest.fixture(scope="module")
def second_order():
    """compute(mode, values) -> {(i, j): gradient by j of <gradient by i, direction i>}."""
    variables, directions = _variables_and_directions()
    grad_output = graphs.variables("float64")[4]
    cost = (rbf_kernel(*variables[:3], amplitude=variables[3]) * grad_output).sum()
    gradients = T.grad(cost, variables)
    outputs = {}
    for i in range(4):
        contraction = (gradients[i] * directions[i]).sum()
        second = T.grad(contraction, variables + [grad_output])
        outputs.update({(i, j): s for j, s in enumerate(second)})
    compiled = {}

    def compute(mode, arguments):
        if mode not in compiled:
            f = theano.function(
                variables + directions + [grad_output],
                list(outputs.values()),
                mode=graphs.theano_mode(mode),
            )
            compiled[mode] = f
        return dict(zip(outputs, compiled[mode](*arguments)))

    return compute


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("offset", [0, 1e5])
def test_second_order(second_order, offset, mode):
    """Every block of the matrix of second derivatives times a direction; that of grad_output."""
    values, directions, grad_output = _values_and_directions(offset)
    results = second_order(mode, values + directions + [grad_output])
    # The same distances, but finite differences that lose no digits to the offset.
    values = [values[0] - offset, values[1] - offset] + values[2:]
    for i in range(4):
        used = [v if k == i else np.zeros_like(v) for k, v in enumerate(directions)]
        exact = oracle.directional(
            lambda *inputs: oracle.gradients(*(inputs + (grad_output,))), values, used
        )
        exact.append(oracle.directional(oracle.kernel, values, used))
        for j, expected in enumerate(exact):
            result = results[i, j]
            assert result.shape == expected.shape
            scale = np.max(np.abs(expected))
            if (i, j) == (3, 3):
                # K is linear in amplitude.
                assert scale < 1e-9 and np.all(result == 0)
            else:
                assert scale > 0.1
                assert np.max(np.abs(result - expected)) <= 1e-9 * scale, (i, j)


PATTERNS = {
    "kernel, one centre": (ops.RBFKernel, [(3, 2), (1, 2), (1,), (1,)], 1),
    "kernel, one point": (ops.RBFKernel, [(1, 2), (4, 2), (4,), ()], 0),
    "product, one column": (ops.RBFDot, [(3, 2), (4, 2), (4,), (4, 1)], 1),
    "product, one point": (ops.RBFDot, [(1, 2), (4, 2), (), (4, 3)], 0),
}


@pytest.mark.parametrize("name", sorted(PATTERNS))
def test_second_order_of_an_output_whose_axis_of_length_one_is_dropped(name):
    """The same with types that tell Theano of axes of length one, and without."""
    op, shapes, axis = PATTERNS[name]
    values = [np.random.RandomState(4).uniform(0.3, 1, shape) for shape in shapes]
    results = []
    for known in (False, True):
        inputs = [
            T.TensorType("float64", [known and n == 1 and len(v.shape) == 2 for n in v.shape])()
            for v in values
        ]
        output = op()(*inputs)
        output = output.dimshuffle(1 - axis) if known else output.sum(axis=axis)
        gradients = theano.grad(T.sqr(output).sum(), inputs)
        change = sum((g * (v + 1)).sum() for g, v in zip(gradients, inputs))
        second = theano.grad(change, inputs)
        directions = [v + 1 for v in inputs]
        forward = [T.Rop(output, inputs, directions)] + T.Rop(gradients, inputs, directions)
        assert [g.broadcastable for g in second] == [v.broadcastable for v in inputs]
        function = theano.function(inputs, second + forward, mode=graphs.theano_mode("py"))
        results.append(function(*values))
    for plain, with_types in zip(*results):
        np.testing.assert_allclose(with_types, plain, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_second_order_symmetric(mode):
    x, _, gamma, amplitude, grad_output = graphs.variables("float64", (False, False))
    variables = [x, gamma, amplitude]
    direction = T.dmatrix("direction")
    cost = (rbf_kernel(x, gamma=gamma, amplitude=amplitude) * grad_output).sum()
    contraction = (T.grad(cost, x) * direction).sum()
    f = theano.function(
        variables + [grad_output, direction],
        T.grad(contraction, variables),
        mode=graphs.theano_mode(mode),
    )
    x_value, _, g, a, weights = oracle.problem(6, 6, 3, vector=(False, False))
    v = np.random.RandomState(0).randn(*x_value.shape)

    def gradients(x_value, g, a):
        dx, dy, dgamma, damplitude = oracle.gradients(x_value, x_value, g, a, weights)
        return [dx + dy, dgamma, damplitude]

    zero = np.array(0.0)
    expected = oracle.directional(gradients, [x_value, g, a], [v, zero, zero])
    for result, exact in zip(f(x_value, g, a, weights, v), expected):
        assert np.max(np.abs(exact)) > 0.1
        np.testing.assert_allclose(result, exact.astype(float), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("mode", MODES)
def test_hessian(mode):
    """theano.gradient.hessian: a scan over the entries of the gradient."""
    gamma = T.dvector("gamma")
    x_value, y_value, gamma_value, _, weights = oracle.problem(5, 3, 2)
    cost = (rbf_kernel(x_value, y_value, gamma) * weights).sum()
    f = theano.function(
        [gamma], theano.gradient.hessian(cost, gamma), mode=graphs.theano_mode(mode)
    )
    distance = oracle.squared_distance(x_value, y_value)
    exact = (weights * distance**2 * np.exp(-gamma_value * distance)).sum(axis=0)
    np.testing.assert_allclose(f(gamma_value), np.diag(exact.astype(float)), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("mode", MODES)
def test_third_order(mode):
    gamma = T.dscalar("gamma")
    x_value, y_value = oracle.problem(5, 3, 2)[:2]
    derivative = rbf_kernel(x_value, y_value, gamma).sum()
    for _ in range(3):
        derivative = T.grad(derivative, gamma)
    distance = oracle.squared_distance(x_value, y_value)
    exact = -(distance**3 * np.exp(-oracle.LONG(0.8) * distance)).sum()
    f = theano.function([gamma], derivative, mode=graphs.theano_mode(mode))
    np.testing.assert_allclose(f(0.8), float(exact), rtol=1e-11)


@pytest.mark.parametrize("mode", MODES)
def test_gradient_of_a_cost_that_uses_the_gradient(mode):
    """A gradient penalty: cost = |K|^2 + |d|K|^2/dx|^2, as its own finite differences."""
    x, y = T.dmatrices("x", "y")
    energy = T.sqr(rbf_kernel(x, y, gamma=0.6)).sum()
    cost = energy + T.sqr(T.grad(energy, x)).sum()
    mode = graphs.theano_mode(mode)
    f = theano.function([x, y], [cost] + T.grad(cost, [x, y]), mode=mode)
    x_value, y_value = oracle.problem(4, 3, 2)[:2]
    _, dx, dy = f(x_value, y_value)
    step = 1e-5
    for index, gradient in enumerate((dx, dy)):
        for position in np.ndindex(*gradient.shape):
            arguments = [[x_value.copy(), y_value.copy()] for _ in range(2)]
            arguments[0][index][position] += step
            arguments[1][index][position] -= step
            numeric = (f(*arguments[0])[0] - f(*arguments[1])[0]) / (2 * step)
            assert abs(gradient[position] - numeric) <= 1e-7 * np.max(np.abs(gradient))


@pytest.mark.parametrize("mode", MODES)
def test_gradient_through_scan(mode):
    """x[t + 1] = tanh(K(x[t], y) . w): scan's gradient equals that of the unrolled loop."""
    x, y, w = T.dmatrices("x", "y", "w")
    gamma = T.dscalar("gamma")

    def step(state, y, w, gamma):
        return T.tanh(T.dot(rbf_kernel(state, y, gamma), w))

    states, _ = theano.scan(step, outputs_info=[x], non_sequences=[y, w, gamma], n_steps=3)
    unrolled = x
    for _ in range(3):
        unrolled = step(unrolled, y, w, gamma)
    variables = [x, y, w, gamma]
    f = theano.function(
        variables,
        [T.grad(T.sqr(final).sum(), v) for final in (states[-1], unrolled) for v in variables],
        mode=graphs.theano_mode(mode),
    )
    random = np.random.RandomState(2)
    results = f(random.randn(5, 2), random.randn(4, 2), random.randn(4, 2), 0.4)
    for scanned, plain in zip(results[:4], results[4:]):
        assert np.max(np.abs(plain)) > 1e-3
        np.testing.assert_allclose(scanned, plain, rtol=1e-10, atol=1e-14)
