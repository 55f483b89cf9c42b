"""The nodes on the device: values, derivatives, what is copied, what stays, which device is taken.

What the kernels compute is tested in test_cuda_kernels.py; here each node runs in small graphs.
May import rbf_op, Theano, PyCUDA and oracle.
"""

import copy
import os
import pickle
import threading

import numpy as np
import oracle
import pytest

from rbf_op.device import launch, nodes, placement, runtime, types
from rbf_op.fusion import fuse
from rbf_op.kernels import rbf_dot, rbf_kernel
from rbf_op.ops import RBFDot, RBFDotGrad, RBFKernel, RBFKernelGrad, RBFOuterGrad

import theano  # isort: skip  (rbf_op mends it before its import)
import theano.tensor as T  # isort: skip
from theano.compile.nanguardmode import NanGuardMode  # isort: skip
from theano.gof.vm import VM_Linker  # isort: skip

pytestmark = pytest.mark.gpu

DTYPES = ["float32", "float64"]
TOLERANCE = {"float32": 5e-6, "float64": 1e-13}
N, M, D, P = 70, 33, 5, 2


def mode(linker="py"):
    """Theano's own nodes are not what is tested: without C they need no compilation."""
    return theano.Mode(linker=linker, optimizer="fast_run")


def function(inputs, outputs, linker="py", **kwargs):
    return theano.function(inputs, outputs, mode=mode(linker), **kwargs)


def close(result, expected, dtype):
    assert result.dtype == dtype and result.shape == expected.shape
    scale = np.max(np.abs(expected), initial=0)
    assert (np.abs(result - expected) <= TOLERANCE[dtype] * scale).all()


@pytest.fixture(params=DTYPES)
def problem(request):
    """Symbolic x, y, gamma, amplitude, weights; their values; the dtype."""
    dtype = request.param
    values = oracle.problem(N, M, D, dtype)[:4]
    values.append(np.random.RandomState(3).uniform(-1, 1, (M, P)).astype(dtype))
    matrix, vector = T.TensorType(dtype, (False, False)), T.TensorType(dtype, (False,))
    kinds = (matrix, matrix, vector, vector, matrix)
    names = ("x", "y", "gamma", "amplitude", "weights")
    return [kind(name) for kind, name in zip(kinds, names)], values, dtype


def kernel_on_device(x, y, gamma, amplitude):
    return rbf_kernel(x, y, gamma=gamma, amplitude=amplitude, device="cuda")


def dot_on_device(x, y, gamma, weights):
    return rbf_dot(x, y, weights, gamma=gamma, device="cuda")


def ops_of(compiled):
    return [node.op for node in compiled.maker.fgraph.toposort()]


def count_copies(compiled):
    ops = ops_of(compiled)
    return tuple(
        sum(isinstance(op, kind) for op in ops)
        for kind in (types.DeviceFromHost, types.HostFromDevice)
    )


class Transfers:
    """What a call copies: (copies to the device, bytes, copies to the host, bytes)."""

    def __init__(self, emulator_counters=None):
        self.emulator = emulator_counters

    def of(self, call):
        counts = runtime.device().counts
        before = dict(counts)
        if self.emulator:
            self.emulator.read()
        call()
        names = ("to_device", "to_device_bytes", "to_host", "to_host_bytes")
        found = tuple(counts[n] - before[n] for n in names)
        if self.emulator:  # the driver has seen the same, and nothing else
            seen = self.emulator.read()
            assert found == tuple(seen[n] for n in names)
        return found


@pytest.fixture
def transfers(request):
    emulated = os.environ.get("CUDA_EMULATOR") == "1"
    return Transfers(request.getfixturevalue("emulator") if emulated else None)


def test_kernel_and_its_gradients(device, problem):
    variables, values, dtype = problem
    x, y, gamma, amplitude = variables[:4]
    G = T.TensorType(dtype, (False, False))("G")
    grad_output = oracle.problem(N, M, D, dtype)[4]
    K = kernel_on_device(x, y, gamma, amplitude)
    f = function(variables[:4] + [G], [K] + T.grad((K * G).sum(), variables[:4]))
    results = f(*values[:4], grad_output)
    oracle.assert_accurate(results[0], *values[:4])
    exact = oracle.gradients(*values[:4], grad_output)
    for result, expected in zip(results[1:], exact):
        close(result, expected, dtype)


def test_symmetric_kernel_and_its_gradients(device, problem):
    _, values, dtype = problem
    x, s, a = T.TensorType(dtype, (False, False))("x"), T.scalar(dtype=dtype), T.scalar(dtype=dtype)
    K = rbf_kernel(x, gamma=s, amplitude=a, device="cuda")
    reference = RBFKernel(symmetric=True)(x, s, a)
    f = function([x, s, a], [K] + T.grad(T.sqr(K).sum(), [x, s, a]))
    g = function([x, s, a], [reference] + T.grad(T.sqr(reference).sum(), [x, s, a]))
    arguments = values[0], values[2][0], values[3][0]
    for result, expected in zip(f(*arguments), g(*arguments)):
        close(result, expected, dtype)


def test_product_and_its_gradients(device, problem):
    variables, values, dtype = problem
    x, y, gamma, _, weights = variables
    inputs, arguments = [x, y, gamma, weights], [values[i] for i in (0, 1, 2, 4)]
    outputs = []
    for product in (dot_on_device(*inputs), RBFDot()(*inputs)):
        outputs += [product] + T.grad(T.sqr(product).sum(), inputs)
    results = function(inputs, outputs)(*arguments)
    for result, expected in zip(results[:5], results[5:]):
        close(result, expected, dtype)


def test_second_derivatives_and_the_forward_rule(device, problem):
    variables, values, dtype = problem
    x, y, gamma, amplitude, weights = variables
    kernel = [x, y, gamma, amplitude], kernel_on_device, RBFKernel()
    product = [x, y, gamma, weights], dot_on_device, RBFDot()
    for inputs, on_device, host_op in (kernel, product):
        arguments = [values[variables.index(v)] for v in inputs]
        outputs = []
        for build in (on_device, host_op):
            first = T.grad(T.sqr(build(*inputs)).sum(), [x, gamma])
            outputs += T.grad(T.sqr(first[0]).sum() + T.sqr(first[1]).sum(), inputs)
            outputs.append(T.Rop(build(*inputs), [x], [T.ones_like(x)]))
        results = function(inputs, outputs)(*arguments)
        half = len(results) // 2
        for result, expected in zip(results[:half], results[half:]):
            close(result, expected, dtype)


PARTS = {
    "rows": lambda K: K[: N // 2],
    "columns backward": lambda K: K[:, ::-2],
    "block": lambda K: K[1:5, 2:9],
    "row": lambda K: K[3],
    "rows by number": lambda K: K[[3, 1, 1]],
    "transposed": lambda K: K.T[2:4],
    "diagonal": T.diag,
    "two of them": lambda K: K[:10].sum() + T.sqr(K[10:]).sum(),
    "product": lambda K: T.dot(K[:7], K[:9].T),
}


@pytest.mark.parametrize("part", sorted(PARTS))
@pytest.mark.parametrize("symmetric", [False, True])
def test_parts_of_a_kernel_and_their_gradients(device, problem, part, symmetric):
    (x, y, gamma, amplitude, _), values, dtype = problem
    inputs, arguments, outputs = [x, y, gamma, amplitude], values[:4], []
    if symmetric:
        inputs = [x, T.scalar(dtype=dtype), T.scalar(dtype=dtype)]
        arguments = [values[0], values[2][0], values[3][0]]
    for where in ("cuda", "cpu"):
        centres = None if symmetric else y
        K = rbf_kernel(x, centres, gamma=inputs[-2], amplitude=inputs[-1], device=where)
        of_part = PARTS[part](K)
        outputs += [of_part] + T.grad(T.sqr(of_part).sum(), inputs)
    results = function(inputs, outputs)(*arguments)
    half = len(results) // 2
    for result, expected in zip(results[:half], results[half:]):
        close(result, expected, dtype)


def test_only_wanted_gradients_are_computed(device, problem):
    (x, y, gamma, amplitude, weights), values, dtype = problem
    K = kernel_on_device(x, y, gamma, amplitude)
    P_ = dot_on_device(x, y, gamma, weights)
    f = function([x, y, gamma, amplitude, weights], T.grad(K.sum() + P_.sum(), [weights, gamma]))
    wrt = [op.host_op.wrt for op in ops_of(f) if hasattr(getattr(op, "host_op", None), "wrt")]
    assert sorted(wrt) == [("gamma",), ("gamma", "weights")]


def test_shapes_are_inferred_without_computing(device, problem):
    (x, y, gamma, amplitude, weights), values, _ = problem
    K = kernel_on_device(x, y, gamma, amplitude)
    product = dot_on_device(x, y, gamma, weights)
    f = function([x, y, gamma, amplitude, weights], [K.shape, product.shape])
    assert not any(isinstance(op, nodes.CudaOp) for op in ops_of(f))
    assert [list(s) for s in f(*values)] == [[N, M], [N, P]]


def test_shapes_that_do_not_fit_and_types(device, problem):
    (x, y, gamma, amplitude, weights), values, dtype = problem
    f = function([x, y, gamma, amplitude], kernel_on_device(x, y, gamma, amplitude))
    with pytest.raises(ValueError, match=r"\(70, 5\).*\(33, 4\)"):
        f(values[0], values[1][:, 1:], values[2], values[3])
    with pytest.raises(TypeError, match="x must"):
        kernel_on_device(gamma, y, gamma, amplitude)
    with pytest.raises(TypeError, match="float16"):
        kernel_on_device(T.TensorType("float16", (False, False))(), y, gamma, amplitude)


def test_integer_and_mixed_inputs_are_cast_as_on_the_host(device):
    x, y = T.imatrix(), T.fmatrix()
    outputs = [kernel_on_device(x, y, 0.5, 1), RBFKernel()(x, y, 0.5, 1)]
    assert outputs[0].type == outputs[1].type
    a = np.arange(6, dtype=np.int32).reshape(3, 2)
    results = function([x, y], outputs)(a, np.ones((4, 2), np.float32))
    close(results[0], results[1], str(results[1].dtype))


# -- Copies ----------------------------------------------------------------------------------------


def test_copies_from_host_inputs(problem, transfers):
    variables, values, dtype = problem
    x, y, gamma, amplitude = variables[:4]
    K = kernel_on_device(x, y, gamma, amplitude)
    size = np.dtype(dtype).itemsize
    points, parameters, pairs = (N + M) * D, 2 * M, N * M
    dot = T.dot(K, values[4])
    # dK is 2 K, computed on the device; 2 K W W^T, taken as two factors; or from a solver.
    for cost, copies, numbers in (
        (T.sqr(K).sum(), 0, 0),
        (T.sqr(dot).sum(), 2, (N + M) * P),
        (T.nlinalg.trace(T.nlinalg.matrix_inverse(T.dot(K.T, K) + T.eye(M))), 1, pairs),
    ):
        cost = cost.astype(dtype)
        f = function([x, y, gamma, amplitude], T.grad(cost, [x, y]) + [K])
        f(*values[:4])
        if not copies:
            assert count_copies(f) == (4, 3)
        assert transfers.of(lambda f=f: f(*values[:4])) == (
            4 + copies, (points + parameters + numbers) * size, 3, (points + pairs) * size,
        )  # fmt: skip


def test_constants_are_copied_once(problem, transfers):
    (x, *_), values, dtype = problem
    K = kernel_on_device(x, values[1], values[2], values[3])
    f = function([x], K)
    first = f(values[0])
    size = np.dtype(dtype).itemsize
    assert transfers.of(lambda: f(values[0])) == (1, N * D * size, 1, N * M * size)
    oracle.assert_accurate(first, *values[:4])
    again = pickle.loads(pickle.dumps(f))
    assert np.array_equal(again(values[0]), first)


def test_a_constant_that_the_caller_gets_is_the_callers(device):
    f = function([], types.as_device(T.constant(np.ones((2, 3)))))
    f().set(np.full((2, 3), 7.0))
    assert (device.to_host(f()) == 1).all()


def on_a_thread(work):
    """What the function returns, called on a thread that has no context."""
    results = []

    def keep():
        try:
            results.append(work())
        except Exception as error:
            results.append(error)

    thread = threading.Thread(target=keep)
    thread.start()
    thread.join()
    (result,) = results
    if isinstance(result, Exception):
        raise result
    return result


def test_theanos_own_copies_are_made_on_any_thread():
    # Outputs and updates that are inputs as well: Theano puts its deep copy behind them.
    X, B = (types.device_shared(np.full((3, 2), v)) for v in (1.0, 2.0))
    f = function([], [X, X], updates=[(B, X)])
    on_a_thread(f)
    assert (B.get_value() == 1).all()
    B.get_value(return_internal_type=True).set(np.full((3, 2), 5.0))
    assert (X.get_value() == 1).all()


def test_arrays_are_pickled_copied_and_read_on_any_thread(problem):
    _, values, dtype = problem
    x = types.device_shared(values[0])
    K = kernel_on_device(x, *values[1:4])
    f = function([], [types.as_device(v) for v in (K, T.grad(K.sum(), x))])
    expected = [np.asarray(v) for v in f()]
    oracle.assert_accurate(expected[0], *values[:4])
    for again in (
        on_a_thread(lambda: pickle.loads(pickle.dumps(f()))),
        on_a_thread(lambda: copy.deepcopy(f())),
        on_a_thread(lambda: pickle.loads(pickle.dumps(f))()),
        on_a_thread(lambda: copy.deepcopy(f)()),
    ):
        for array, value in zip(again, expected):
            assert np.array_equal(on_a_thread(lambda array=array: np.asarray(array)), value)
    other = on_a_thread(lambda: copy.deepcopy(x))
    kept = x.get_value(return_internal_type=True)
    on_a_thread(x.zero)
    assert (x.get_value() == 0).all() and np.array_equal(np.asarray(kept), values[0])
    assert np.array_equal(other.get_value(), values[0])
    kept = other.get_value(return_internal_type=True)
    on_a_thread(lambda: other.zero(borrow=True))
    assert (np.asarray(kept) == 0).all()


def test_modes_that_check(device, problem):
    variables, values, dtype = problem
    kinds = [types.DeviceType(dtype, v.broadcastable) for v in variables[:4]]
    x, y, gamma, amplitude = inputs = [kind() for kind in kinds]
    K = rbf_kernel(x, y, gamma=gamma, amplitude=amplitude)
    outputs = [types.as_device(v) for v in [K] + T.grad(K.sum(), [x, y])]
    host = [2 * v for v in variables[:4]]
    debug = theano.compile.DebugMode(check_c_code=False, stability_patience=1)
    f = theano.function(variables[:4], kernel_on_device(*host), mode=debug)
    oracle.assert_accurate(f(*values[:4]), *[2 * v for v in values[:4]])
    guard = NanGuardMode(nan_is_error=True, inf_is_error=True, big_is_error=False)
    f = theano.function(inputs, outputs, mode=guard)
    oracle.assert_accurate(np.asarray(f(*values[:4])[0]), *values[:4])
    values[1][0, 0] = np.nan
    with pytest.raises(AssertionError, match="NaN detected"):
        f(*values[:4])


def test_test_values():
    with theano.configparser.change_flags(compute_test_value="raise"):
        x = T.fmatrix()
        x.tag.test_value = np.ones((3, 2), "float32")
        K = rbf_kernel(x, np.zeros((4, 2), "float32"), gamma=0.1, device="cuda")
        np.testing.assert_allclose(K.tag.test_value, np.exp(-0.2) * np.ones((3, 4)), rtol=1e-6)


@pytest.mark.parametrize("integer", ["int8", "int16", "int32", "int64", "uint8", "uint32"])
def test_updates_by_way_of_integers(integer):
    W = types.device_shared(np.array([1.75, 2.25, 3.5]))
    f = function([], [], updates=[(W, types.as_device(T.cast(T.cast(W, integer), "float64")))])
    f()
    assert W.get_value().tolist() == [1, 2, 3]


def test_nothing_is_copied_between_nodes_on_the_device(problem, transfers):
    # W is trained against a target: K never leaves the device, nor do x and y.
    (x, y, gamma, _, weights), values, dtype = problem
    shared = [types.device_shared(v) for v in (values[0], values[1], values[2])]
    product = dot_on_device(*shared, weights)
    f = function([weights], T.grad(T.sqr(product).sum(), weights))
    size = np.dtype(dtype).itemsize
    f(values[4])
    # W up, dW down; P and dP = 2 P stay.
    assert transfers.of(lambda: f(values[4])) == (1, M * P * size, 1, M * P * size)
    on_host = RBFDot()(*values[:3], weights)
    g = function([weights], T.grad(T.sqr(on_host).sum(), weights))
    close(f(values[4]), g(values[4]), dtype)


def test_device_inputs_and_outputs_copy_nothing(problem, transfers):
    _, values, dtype = problem
    kinds = [types.DeviceType(dtype, (False,) * v.ndim) for v in values]
    x, y, gamma, amplitude, weights = inputs = [kind() for kind in kinds]
    K = types.as_device(kernel_on_device(x, y, gamma, amplitude))
    f = function([x, y, gamma, amplitude], K)
    arrays = [kind.filter(v) for kind, v in zip(kinds, values)]
    assert len(inputs) == 5 and count_copies(f) == (0, 0)
    assert transfers.of(lambda: f(*arrays[:4])) == (0, 0, 0, 0)
    with runtime.device() as device:
        oracle.assert_accurate(device.to_host(f(*arrays[:4])), *values[:4])


def test_host_nodes_move_to_where_their_arrays_are(problem):
    _, values, dtype = problem
    x = types.device_shared(values[0])
    f = function([], RBFKernel()(x, *values[1:4]))
    kernels = [op for op in ops_of(f) if isinstance(op, (RBFKernel, nodes.CudaOp))]
    assert kernels == [nodes.CudaOp(RBFKernel())]
    oracle.assert_accurate(f(), *values[:4])


@pytest.mark.parametrize("linker", ["cvm", "vm", "c|py"])
def test_linkers(linker):
    if not theano.config.cxx:
        pytest.skip("Theano found no C++ compiler")
    values = oracle.problem(N, M, D, "float32")[:4]
    x = T.fmatrix()
    f = function([x], kernel_on_device(x, *values[1:]), linker)
    for _ in range(2):
        oracle.assert_accurate(f(values[0]), *values)


# -- Shared variables ------------------------------------------------------------------------------


def test_shared_variables(problem):
    _, values, dtype = problem
    shared = types.device_shared(values[0], name="points")
    assert shared.name == "points" and np.array_equal(shared.get_value(), values[0])
    shared.set_value(values[0] + 1)
    assert np.array_equal(shared.get_value(), values[0] + 1)
    doubled = function([], 2 * shared)()
    assert np.array_equal(doubled, 2 * (values[0] + 1))
    with pytest.raises(TypeError):
        shared.set_value(values[2])
    with pytest.raises(TypeError, match="float32 or float64"):
        types.device_shared(np.arange(3))


def test_training_on_the_device(problem):
    _, values, dtype = problem
    rate = np.asarray(0.01, dtype)
    results = []
    for make in (types.device_shared, theano.shared):
        y, weights = make(values[1]), make(values[4])
        build = dot_on_device if make is types.device_shared else RBFDot()
        cost = T.sqr(build(values[0], y, values[2], weights) - 1).sum()
        steps = [(v, v - rate * T.grad(cost, v)) for v in (y, weights)]
        train = function([], cost, updates=steps)
        costs = [float(train()) for _ in range(5)]
        assert costs[-1] < costs[0]
        results.append((costs, y.get_value(), weights.get_value()))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=100 * TOLERANCE[dtype])
    for a, b in zip(results[0][1:], results[1][1:]):
        np.testing.assert_allclose(a, b, rtol=0, atol=100 * TOLERANCE[dtype] * np.abs(b).max())


def test_a_training_step_copies_only_what_the_host_computes(problem, transfers):
    _, values, dtype = problem
    points, y, gamma, weights = (
        types.device_shared(values[i]) for i in (0, 1, 2, 4)
    )  # fmt: skip
    rate = theano.shared(np.asarray(0.01, dtype))
    product = dot_on_device(points, y, gamma, weights)
    cost = T.sqr(product - 1).sum()
    momentum = types.device_shared(0 * values[4])
    step = T.cast(0.5, dtype) * momentum - rate * T.grad(cost, weights)
    updates = [
        (y, y - rate * T.grad(cost, y)), (momentum, step), (weights, weights + step),
    ]  # fmt: skip
    train = function([], cost, updates=updates)
    before = [v.get_value() for v in (y, weights)]
    train()
    bytes_of_p = N * P * np.dtype(dtype).itemsize
    # P to the host, where the cost is summed; dP = 2 (P - 1) is computed on the device.
    assert transfers.of(train) == (0, 0, 1, bytes_of_p)
    assert all((v.get_value() != b).any() for v, b in zip((y, weights), before))

    host = [theano.shared(b) for b in before]
    product = RBFDot()(values[0], host[0], values[2], host[1])
    cost = T.sqr(product - 1).sum()
    gradients = function([], T.grad(cost, host))
    host_momentum = np.zeros_like(values[4])
    for _ in range(2):
        dy, dweights = gradients()
        host_momentum = dtype_of(0.5, dtype) * host_momentum - dtype_of(0.01, dtype) * dweights
        host[0].set_value(host[0].get_value() - dtype_of(0.01, dtype) * dy)
        host[1].set_value(host[1].get_value() + host_momentum)
    for device_value, host_value in zip((y, weights), host):
        expected = host_value.get_value()
        error = np.abs(device_value.get_value() - expected).max()
        assert error <= 100 * TOLERANCE[dtype] * np.abs(expected).max()


def device_ops(compiled):
    """The package's nodes in a function: sorted names, with "cuda " before those on the device."""
    names = []
    for op in ops_of(compiled):
        if isinstance(op, nodes.CudaOp):
            names.append("cuda " + type(op.host_op).__name__)
        elif isinstance(op, (RBFKernel, RBFKernelGrad, RBFDot, RBFDotGrad, RBFOuterGrad)):
            names.append(type(op).__name__)
    return sorted(names)


def test_a_product_with_a_kernel_matrix_of_the_device_is_done_there_without_it(problem, transfers):
    """As T.dot(K, W) is on the host, with its gradients; K is not copied, nor stored."""
    symbols, values, dtype = problem
    x, y, gamma, amplitude, weights = symbols
    results = []
    for device in ("cuda", "cpu"):
        kernel = rbf_kernel(x, y, gamma=gamma, amplitude=amplitude, device=device)
        cost = T.sqr(T.dot(kernel, weights)).sum()
        compiled = function(symbols, [cost] + T.grad(cost, symbols))
        results.append(compiled(*values))
        if device == "cuda":
            assert device_ops(compiled) == ["cuda RBFDot", "cuda RBFDotGrad"]
            # x, y, gamma and amplitude * weights there; P and the gradients of those four back.
            inputs = sum(values[i].nbytes for i in (0, 1, 2, 4))
            expected = (4, inputs, 5, inputs + N * P * np.dtype(dtype).itemsize)
            assert transfers.of(lambda f=compiled: f(*values)) == expected
    for result, expected in zip(*results):
        close(np.asarray(result), np.asarray(expected), dtype)


def test_products_of_arrays_on_the_device_copy_nothing_but_the_result(problem, transfers):
    _, values, dtype = problem
    x, y, gamma, weights = (types.device_shared(values[i]) for i in (0, 1, 2, 4))
    product = T.dot(rbf_kernel(x, y, gamma=gamma, device="cuda"), weights)
    compiled = function([], product)
    assert device_ops(compiled) == ["cuda RBFDot"]
    assert transfers.of(compiled) == (0, 0, 1, N * P * np.dtype(dtype).itemsize)
    expected = RBFDot()(values[0], values[1], values[2], values[4])
    close(compiled(), function([], expected)(), dtype)


def test_kernel_matrices_that_are_wanted_stay_on_the_device(problem):
    """Those that are results, or go elsewhere too; and where the rewrite is switched off."""
    symbols, values, dtype = problem
    x, y, gamma, amplitude, weights = symbols
    kernel = kernel_on_device(x, y, gamma, amplitude)
    both = function(symbols, [kernel, T.dot(kernel, weights)], on_unused_input="ignore")
    assert device_ops(both) == ["cuda RBFKernel"]
    own = RBFKernel()(x, y, gamma, amplitude)
    mixed = function(symbols, [T.dot(kernel, weights), own])
    assert device_ops(mixed) == ["RBFKernel", "cuda RBFDot"]
    for result, expected in zip(mixed(*values), reversed(both(*values))):
        close(result, expected, dtype)
    for excluded in ("rbf_dot_cuda", "rbf_dot"):
        without = mode().excluding(excluded)
        plain = theano.function(symbols, T.dot(kernel, weights), mode=without)
        assert device_ops(plain) == ["cuda RBFKernel"]


SUBSETS = [
    [name for bit, name in enumerate(("x", "gamma", "amplitude")) if number >> bit & 1]
    for number in range(1, 8)
]


def gradients_where_y_is_x(dtype, columns, vectors, wrt, device):
    """A function of x, gamma, amplitude and weights; vectors: whether gamma and amplitude are."""
    ndims = (2,) + vectors + (1 if columns == 1 else 2,)  # one column is known to be
    symbols = [T.TensorType(dtype, (False,) * ndim)() for ndim in ndims]
    x, gamma, amplitude, weights = symbols
    kernel = rbf_kernel(x, gamma=gamma, amplitude=amplitude, device=device)
    cost = T.sqr(T.dot(kernel, weights)).sum()
    names = {"x": x, "gamma": gamma, "amplitude": amplitude}
    outputs = T.grad(cost, [names[name] for name in wrt])
    return function(symbols, outputs, on_unused_input="ignore")


def arguments_where_y_is_x(x, columns, vectors):
    random, n, dtype = np.random.RandomState(columns), len(x), x.dtype
    gamma, amplitude = (random.uniform(0.5, 1.5, (n,) * vector) for vector in vectors)
    weights = random.uniform(-1, 1, n if columns == 1 else (n, columns))
    return [x] + [np.asarray(v, dtype) for v in (0.1 * gamma, amplitude, weights)]


@pytest.mark.parametrize("columns", [1, 20])
@pytest.mark.parametrize(
    "vectors, wrt",
    [((0, 0), wrt) for wrt in SUBSETS]
    + [(vectors, wrt) for vectors in [(1, 0), (0, 1), (1, 1)] for wrt in SUBSETS[::3]],
)
def test_gradients_of_products_where_y_is_x_are_computed_there(problem, columns, vectors, wrt):
    _, values, dtype = problem
    there, here = (
        gradients_where_y_is_x(dtype, columns, vectors, wrt, device) for device in ("cuda", "cpu")
    )
    found = device_ops(there)
    assert found and all(name.startswith("cuda ") for name in found)
    if not any(vectors):  # with more columns K stays, as on the host
        kernel = "RBFDot" if columns == 1 else "RBFKernel"
        assert found == ["cuda " + kernel, "cuda RBFOuterGrad"]
        assert device_ops(here) == [kernel, "RBFOuterGrad"]
    for n in (0, 1, N):
        arguments = arguments_where_y_is_x(values[0][:n], columns, vectors)
        for result, expected in zip(there(*arguments), here(*arguments)):
            close(np.asarray(result), np.asarray(expected), dtype)


def test_gradients_of_products_where_y_is_x_copy_the_arguments_and_the_gradient(problem, transfers):
    _, values, dtype = problem
    x, w = T.TensorType(dtype, (False, False))(), T.TensorType(dtype, (False,))()
    cost = T.sqr(T.dot(rbf_kernel(x, gamma=0.1, device="cuda"), w)).sum()
    compiled = function([x, w], T.grad(cost, x))
    given = values[0], np.ones(N, dtype)
    compiled(*given)  # copies the constants
    size = np.dtype(dtype).itemsize
    expected = (2, (N * D + N) * size, 1, N * D * size)
    assert transfers.of(lambda: compiled(*given)) == expected


def dtype_of(value, dtype):
    return np.dtype(dtype).type(value)


def test_expressions_that_stay_on_the_host(device):
    # Arrays of two shapes, a reduction, an operation without plain C: right, by way of the host.
    a = types.device_shared(np.arange(6, dtype=np.float32).reshape(2, 3))
    row = types.device_shared(np.ones((1, 3), np.float32))
    kind = types.DeviceType("float32", (False, False))
    for expression, expected in (
        (a + T.addbroadcast(T.as_tensor_variable(row), 0), a.get_value() + 1),
        (a + a.sum(), a.get_value() + 15),
        (T.gammaln(a + 1), [[0, 0, np.log(2)], np.log([6, 24, 120])]),
    ):
        f = function([], kind.filter_variable(expression))
        result = device.to_host(f())
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


def test_elementwise_shapes_must_be_equal(device):
    kind = types.DeviceType("float32", (False, False))
    a, b = kind(), kind()
    f = function([a, b], types.as_device(2 * a - b))
    assert [type(op).__name__ for op in ops_of(f)] == ["DeviceElementwise"]
    ones = np.ones((2, 3), np.float32)
    assert device.to_host(f(ones, 3 * ones)).tolist() == (-ones).tolist()
    assert f(ones[:0], ones[:0]).shape == (0, 3)
    with pytest.raises(ValueError, match=r"one shape, but got \(2, 3\) and \(1, 3\)"):
        f(ones, ones[:1])


class Foreign:
    """An array of another library: all that is known of it is __cuda_array_interface__."""

    def __init__(self, array, shape=None, strides=None, **more):
        self.array = array
        self.__cuda_array_interface__ = dict(
            shape=shape or array.shape,
            typestr=np.dtype(array.dtype).str,
            data=(int(array.gpudata), False),
            strides=strides,
            version=3,
            **more,
        )


@pytest.mark.parametrize("stream, waits", [(None, 0), (1, 0), (2, 1), (0x7F00, 1)])
def test_the_stream_that_computes_an_array_is_waited_for(device, monkeypatch, stream, waits):
    times = []
    monkeypatch.setattr(device, "synchronize", lambda: times.append(1))
    kind = types.DeviceType("float32", (False,))
    kind.filter(Foreign(device.to_device(np.ones(3, "float32")), stream=stream))
    assert len(times) == waits


def test_arrays_tell_which_stream_computes_them(device):
    K = device.to_device(np.ones((2, 3), "float32"))
    for array in (K, device.empty((0, 3), "float32")):
        interface = array.__cuda_array_interface__
        assert interface["version"] == 3 and interface["stream"] == 1  # the legacy default one
    assert K.__cuda_array_interface__["data"] == (int(K.gpudata), False)


@pytest.mark.parametrize(
    "owner, refused",
    [
        ((None, None), False),  # not the driver's, or managed
        ((None, 0), False),  # of the device, of no context in particular
        ((None, 1), True),
        ((0xABC, 0), True),
        ((0xABC, 1), True),
    ],
)
def test_memory_of_another_device_or_context_is_refused(device, monkeypatch, owner, refused):
    kind, array = types.DeviceType("float32", (False,)), device.to_device(np.ones(3, "float32"))
    assert runtime.memory_owner(int(array.gpudata)) == (device.context.handle, device.number)
    assert runtime.memory_owner(np.ones(3).ctypes.data) == (None, None)
    kind.filter(Foreign(array))
    monkeypatch.setattr(runtime, "memory_owner", lambda address: owner)
    kind.filter(array)  # our own are not asked for
    if not refused:
        kind.filter(Foreign(array))
        return
    words = "context %#x of CUDA device %d, but .* context %#x, the primary one, of device 0"
    with pytest.raises(TypeError, match=words % (owner[0] or 0, owner[1], device.context.handle)):
        kind.filter(Foreign(array))


def test_arrays_that_share_memory(device):
    whole = device.to_device(np.arange(12, dtype="float32").reshape(4, 3))
    share = types.DeviceType.may_share_memory
    assert share(whole, whole) and share(whole, whole[1:]) and share(whole[1:3], whole[2:])
    assert not share(whole[:2], whole[2:]) and not share(whole, whole.copy())
    backwards = types.DeviceType("float32", (False,)).filter(
        Foreign(whole[3, 2:], shape=(6,), strides=(-4,))
    )
    assert share(backwards, whole[2:]) and not share(backwards, whole[:2])
    empty = device.empty((0, 3), "float32")
    assert share(empty, empty) and not share(empty, whole)


def test_arrays_of_other_libraries_are_taken_without_a_copy(device, problem, transfers):
    _, values, dtype = problem
    kind = types.DeviceType(dtype, (False, False))
    x = kind("x")
    f = function([x], kernel_on_device(x, *values[1:4]))
    f(values[0])
    size = np.dtype(dtype).itemsize
    array = device.to_device(values[0])
    results = []
    copied = transfers.of(lambda: results.append(f(Foreign(array))))
    assert copied == (0, 0, 1, N * M * size)
    oracle.assert_accurate(results[0], *values[:4])
    # Transposed: copied on the device, into C order.
    turned = device.to_device(np.ascontiguousarray(values[0].T))
    strided = Foreign(turned, shape=(N, D), strides=(size, N * size))
    assert transfers.of(lambda: results.append(f(strided))) == (0, 0, 1, N * M * size)
    assert np.array_equal(results[0], results[1])
    with pytest.raises(TypeError, match="DeviceType"):
        f(Foreign(array, shape=(N * D,)))


# -- Which device ----------------------------------------------------------------------------------


def test_resolve_device(monkeypatch):
    monkeypatch.delenv("RBF_OP_DEVICE", raising=False)
    assert placement.resolve_device() == "cpu"
    for name in ("cpu", "cuda", "auto"):
        assert placement.resolve_device(name) == name
        monkeypatch.setenv("RBF_OP_DEVICE", name)
        assert placement.resolve_device() == name
        assert placement.resolve_device("cpu") == "cpu"
    with pytest.raises(ValueError, match="device must be one of 'cpu', 'cuda', 'auto'.*'gpu'"):
        placement.resolve_device("gpu")
    monkeypatch.setenv("RBF_OP_DEVICE", "CUDA")
    with pytest.raises(ValueError, match="RBF_OP_DEVICE must be one of"):
        placement.resolve_device()


def test_the_functions_follow_the_argument_and_the_setting(problem, monkeypatch):
    (x, y, gamma, amplitude, weights), values, dtype = problem

    def built(device):
        """Whether K, symmetric K and the product are computed on the device."""
        outputs = [
            rbf_kernel(x, y, gamma, amplitude=amplitude, device=device),
            rbf_kernel(x, gamma=0.1, device=device),
            rbf_dot(x, y, weights[:, 0], gamma=gamma, amplitude=amplitude, device=device),
        ]
        f = function([x, y, gamma, amplitude, weights], outputs)
        for result, output in zip(f(*values), on_host(*values)):
            close(result, output, dtype)
        return sum(isinstance(op, nodes.CudaOp) for op in ops_of(f))

    outputs = [
        rbf_kernel(x, y, gamma, amplitude=amplitude, device="cpu"),
        rbf_kernel(x, gamma=0.1, device="cpu"),
        rbf_dot(x, y, weights[:, 0], gamma=gamma, amplitude=amplitude, device="cpu"),
    ]
    on_host = function([x, y, gamma, amplitude, weights], outputs)
    monkeypatch.delenv("RBF_OP_DEVICE", raising=False)
    assert built(None) == 0 and built("cuda") == 3
    monkeypatch.setenv("RBF_OP_DEVICE", "cuda")
    assert built(None) == 3 and built("cpu") == 0
    with pytest.raises(ValueError, match="device must be one of"):
        rbf_kernel(x, y, device="gpu")


def test_what_fuse_finds_follows_the_setting(problem, monkeypatch):
    (x, y, _, _, _), values, dtype = problem
    difference = x.dimshuffle(0, "x", 1) - y.dimshuffle("x", 0, 1)
    K = T.exp(-T.sqr(difference).sum(axis=2))
    monkeypatch.setenv("RBF_OP_DEVICE", "cuda")
    outputs = []
    for result in (fuse(K), K):
        outputs += [result, T.grad(T.sqr(result).sum(), x)]
    f = function([x, y], outputs)
    assert [op.host_op for op in ops_of(f) if isinstance(op, nodes.CudaOp)] == [
        RBFKernel(), RBFKernelGrad(wrt=["x"]),
    ]  # fmt: skip
    results = f(*values[:2])
    for result, expected in zip(results[:2], results[2:]):
        close(result, expected, dtype)


def device_calls(monkeypatch):
    """A list that grows by a name each time a product or its gradient is computed on the device."""
    calls = []
    for name in ("product", "product_gradient", "outer_gradient"):
        compute = getattr(launch, name)
        monkeypatch.setattr(
            launch, name,
            lambda *a, name=name, compute=compute, **k: calls.append(name) or compute(*a, **k),
        )  # fmt: skip
    return calls


def force_auto(monkeypatch, large):
    """Have "auto" take every product for large, or for small, in float64 on any card."""
    monkeypatch.setattr(placement, "LAUNCH_SECONDS", 0)
    monkeypatch.setattr(placement, "COPY_SECONDS", 0 if large else 1e3)
    monkeypatch.setattr(placement, "COPIED_BYTES_A_SECOND", 1e30)
    monkeypatch.setattr(placement, "DOUBLE_PRECISION_RATIO", 1e3)


@pytest.mark.parametrize("large", [False, True])
def test_auto_decides_at_each_call(problem, monkeypatch, large):
    (x, y, gamma, _, weights), values, dtype = problem
    arguments = [values[i] for i in (0, 1, 2, 4)]
    force_auto(monkeypatch, large)
    calls = device_calls(monkeypatch)
    host_calls = []
    for op in (RBFDot, RBFDotGrad):
        perform = op.perform
        monkeypatch.setattr(
            op, "perform", lambda *a, f=perform: host_calls.append(type(a[0])) or f(*a)
        )
    outputs = []
    for device in ("auto", "cpu"):
        product = rbf_dot(x, y, weights, gamma=gamma, device=device)
        outputs.append([product] + T.grad(T.sqr(product).sum(), [x, weights]))
    linker = VM_Linker(c_thunks=False)  # lazy, and calls perform, which is counted
    f, g = (function([x, y, gamma, weights], o, linker=linker) for o in outputs)
    results = f(*arguments)
    # One branch of each choice, and of the gradients only those asked for.
    assert sorted(calls) == (["product", "product_gradient"] if large else [])
    assert len(host_calls) == (0 if large else 2)
    choices = [op for op in ops_of(f) if isinstance(op, nodes.CudaOp)]
    assert sorted(getattr(op.host_op, "wrt", ()) for op in choices) == [(), ("x", "weights")]
    for result, expected in zip(results, g(*arguments)):
        close(result, expected, dtype)


@pytest.mark.parametrize("large", [False, True])
def test_auto_decides_on_products_of_kernel_matrices(problem, monkeypatch, large):
    """T.dot(K, W) of device "auto" and its gradients; K that is a result, or of device "cpu"."""
    symbols, values, dtype = problem
    x, y, gamma, amplitude, weights = symbols
    force_auto(monkeypatch, large)
    calls = device_calls(monkeypatch)
    outputs = {}
    for device in ("auto", "cpu"):
        kernel = rbf_kernel(x, y, gamma=gamma, amplitude=amplitude, device=device)
        product = T.dot(kernel, weights)
        outputs[device] = [product] + T.grad(T.sqr(product).sum(), symbols)
    linker = VM_Linker(c_thunks=False)  # lazy
    f, g = (function(symbols, o, linker=linker) for o in (outputs["auto"], outputs["cpu"]))
    results = f(*values)
    assert sorted(calls) == (["product", "product_gradient"] if large else [])
    assert device_ops(g) == ["RBFDot", "RBFDotGrad"]
    for result, expected in zip(results, g(*values)):
        close(result, expected, dtype)
    # Other products in the graph stay where they are, and K where it is a result.
    other = T.dot(rbf_kernel(y, x, device="cpu"), outputs["auto"][0])
    both = function(symbols, [outputs["auto"][0], other])
    assert device_ops(both) == ["RBFDot", "RBFDot", "cuda RBFDot"]
    kernel = rbf_kernel(x, y, device="auto")
    wanted = function([x, y, weights], [kernel, T.dot(kernel, weights)])
    assert device_ops(wanted) == ["RBFKernel"]
    for excluded, left in (("rbf_dot_auto", ["RBFDot"]), ("rbf_dot", ["RBFKernel"])):
        without = theano.function(symbols, outputs["auto"][0], mode=mode().excluding(excluded))
        assert device_ops(without) == left


@pytest.mark.parametrize("large", [False, True])
def test_auto_decides_on_gradients_where_y_is_x(problem, monkeypatch, large):
    symbols, values, dtype = problem
    x, w = symbols[0], symbols[2]
    gamma, amplitude = (T.scalar(dtype=dtype) for _ in range(2))
    force_auto(monkeypatch, large)
    calls, compiled = device_calls(monkeypatch), []
    for device in ("auto", "cpu"):
        kernel = rbf_kernel(x, gamma=gamma, amplitude=amplitude, device=device)
        cost = T.sqr(T.dot(kernel, w)).sum()
        outputs = [cost] + T.grad(cost, [x, gamma, amplitude])
        linker = VM_Linker(c_thunks=False)  # lazy
        compiled.append(function([x, gamma, amplitude, w], outputs, linker=linker))
    given = values[0], dtype_of(0.1, dtype), dtype_of(1.5, dtype), np.ones(N, dtype)
    results, expected = (f(*given) for f in compiled)
    assert sorted(calls) == (["outer_gradient", "product"] if large else [])
    assert device_ops(compiled[1]) == ["RBFDot", "RBFOuterGrad"]
    for result, right in zip(results, expected):
        close(np.asarray(result), np.asarray(right), dtype)


def test_auto_without_rewrites_and_its_derivatives(problem, monkeypatch):
    (x, y, gamma, _, weights), values, dtype = problem
    arguments = [values[i] for i in (0, 1, 2, 4)]
    outputs = []
    for device in ("auto", "cpu"):
        product = rbf_dot(x, y, weights, gamma=gamma, device=device)
        first = T.grad(T.sqr(product).sum(), x)
        outputs += [first, T.grad(T.sqr(first).sum(), weights), T.Rop(product, y, y), product.shape]
    inputs = [x, y, gamma, weights]
    unchanged = theano.Mode(linker="py", optimizer=None)
    results = theano.function(inputs, outputs, mode=unchanged)(*arguments)
    for result, expected in zip(results[:3], results[4:7]):
        close(result, expected, dtype)
    assert list(results[3]) == [N, P]


def test_the_rule_of_auto(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    pays = placement.product_pays
    assert not pays(100, 100, 3, 1, "float32")  # microseconds on the CPU
    assert pays(10**5, 10**5, 3, 1, "float32")  # a second
    assert pays(1 << 20, 1 << 20, 256, 16, "float64")
    # A few rows against many: copying the many takes longer than the pairs.
    assert not pays(1, 10**7, 3, 1, "float32")
    # float64 is slower on the CPU; more cores are faster.
    at_the_bound = (1200, 1200, 3, 1)
    assert pays(*(at_the_bound + ("float64",))) and not pays(*(at_the_bound + ("float32",)))
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert not pays(*(at_the_bound + ("float64",)))
    n = T.iscalar()
    large = function([n], pays(n, n, 3, 1, "float32"))
    assert [bool(large(v)) for v in (100, 10**6)] == [False, True]  # no overflow of 32 bits


def test_the_rule_of_auto_for_gradients(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    pays, size = placement.product_pays, (1600, 1600, 3, 1, "float32")
    assert pays(*size) and pays(*size, wrt=("x",))
    # More to copy and to launch, hardly more to compute.
    assert not pays(*size, wrt=("x", "y", "gamma", "weights"))
    # Many more terms than of the product.
    wide = 500, 500, 100, 1, "float32"
    assert not pays(*wide) and pays(*wide, wrt=("x", "y"))


def test_the_rule_of_auto_where_y_is_x(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    pays = placement.product_pays
    at_the_bound = (1600, 1600, 3, 1, "float32")
    # The CPU computes half of the exponentials.
    assert pays(*at_the_bound, wrt=("x", "gamma"))
    assert not pays(*at_the_bound, wrt=("x", "gamma"), symmetric=True)
    assert pays(10**5, 10**5, 3, 1, "float32", wrt=("x", "gamma", "amplitude"), symmetric=True)


@pytest.mark.parametrize("wrt", SUBSETS, ids="-".join)
def test_the_rule_of_auto_counts_for_products_where_y_is_x(emulator, wrt):
    x, left, right = T.fmatrices(3)
    gamma, amplitude = T.fscalars(2)
    inputs = [x, gamma, amplitude, left, right]
    random = np.random.RandomState(0)
    arguments = [random.uniform(-1, 1, (300, 3)).astype("float32"), np.float32(0.5), np.float32(2)]
    arguments += [np.ones((300, 2), "float32")] * 2
    on_device = nodes.CudaOp(RBFOuterGrad(wrt))(*inputs, return_list=True)
    f = function(inputs, [types.host_from_device(o) for o in on_device])
    f(*arguments)
    emulator.read()
    f(*arguments)
    seen = emulator.read()
    found = seen["to_device"] + seen["to_host"], seen["launches"]
    assert placement.calls(tuple(wrt), symmetric=True) == found


@pytest.mark.parametrize(
    "wrt", [None, ("x",), ("y",), ("gamma",), ("weights",), ("x", "y", "gamma", "weights")]
)
def test_the_rule_of_auto_counts_copies_and_launches(emulator, wrt):
    x, y, weights, grad_output = T.fmatrices(4)
    gamma = T.fscalar()
    inputs = [x, y, gamma, weights]
    random = np.random.RandomState(0)
    arguments = [random.uniform(-1, 1, s).astype("float32") for s in ((300, 3), (200, 3))]
    arguments += [np.float32(0.5), np.ones((200, 1), "float32")]
    output = dot_on_device(*inputs)
    if wrt:
        names = dict(zip(("x", "y", "gamma", "weights"), inputs))
        output = T.grad((output * grad_output).sum(), [names[name] for name in wrt])
        inputs, arguments = inputs + [grad_output], arguments + [np.ones((300, 1), "float32")]
    f = function(inputs, output, on_unused_input="ignore")
    f(*arguments)
    emulator.read()
    f(*arguments)
    seen = emulator.read()
    assert placement.calls(wrt) == (seen["to_device"] + seen["to_host"], seen["launches"])


def test_auto_leaves_double_precision_to_the_cpu_on_consumer_cards(problem, monkeypatch):
    (x, y, gamma, _, weights), _, dtype = problem
    monkeypatch.setattr(placement, "DOUBLE_PRECISION_RATIO", 0.5)
    op = rbf_dot(x, y, weights, gamma=gamma, device="auto").owner.op
    assert op == (RBFDot() if dtype == "float64" else nodes.AutoOp(RBFDot()))


def test_auto_goes_where_the_arrays_are(problem, transfers):
    (x, y, gamma, amplitude, weights), values, dtype = problem
    assert rbf_kernel(x, y, device="auto").owner.op == RBFKernel()  # K would have to come back
    there = types.device_shared(values[1])
    outputs = rbf_kernel(x, there, device="auto"), rbf_dot(x, there, weights, device="auto")
    for output in outputs:
        assert isinstance(output.owner.op, types.HostFromDevice)
    f = function([x, weights], outputs)
    on_host = [rbf_kernel(x, values[1]), rbf_dot(x, values[1], weights)]
    expected = function([x, weights], on_host)(values[0], values[4])
    for result, right in zip(f(values[0], values[4]), expected):
        close(result, right, dtype)
