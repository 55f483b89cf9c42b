"""The kernels of cuda/ against long double: values, shapes, layouts, special values, repeatability.

Run on the device as PyCUDA sees it, emulated or real. May import rbf_op.device, reference, NumPy.
"""

import numpy as np
import oracle
import pytest

from rbf_op import reference
from rbf_op.device import launch

pytestmark = pytest.mark.gpu

NAMES = oracle.INPUT_NAMES
DOT_NAMES = ("x", "y", "gamma", "weights")
DTYPES = ["float32", "float64"]
# Below, at and above the tiles (64 and 128), the slices (8), the sweep's chunks (4, 16 and 32) and
# what counts as few dimensions (4), with 1, 2, 4 and 8 rows a thread; n, m and d all different. The
# last two have several slabs of several tiles, one in the sweep over y, one in that over x.
SHAPES = [
    (1, 1, 1), (5, 7, 3), (64, 128, 8), (130, 65, 4), (65, 129, 17), (63, 3, 33), (2, 132, 70),
    (200, 256, 2), (500, 20, 1), (1030, 270, 3), (70, 515, 18),
]  # fmt: skip
shapes = pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "%d-%d-%d" % s)


@pytest.fixture(params=["short", "long"])
def slabs(request, monkeypatch):
    """Slabs as few blocks have them, of one tile; and as many blocks do, of several."""
    if request.param == "long":
        monkeypatch.setattr(launch, "_BLOCKS_LEAST", 1)
    return request.param


def roundings(dtype, count):
    return count * np.finfo(dtype).eps


def on_device(device, values):
    return [device.to_device(v) for v in values]


def weights_for(n, m, p, dtype):
    random = np.random.RandomState(7 * p + m)
    return [random.uniform(-1, 1, s).astype(dtype) for s in ((m, p), (n, p))]


def assert_product(result, kernel, weights):
    """Each entry is right to 20 roundings of the sum of the absolute values of its terms."""
    exact, scale = kernel.dot(weights), np.abs(kernel).dot(np.abs(weights))
    assert result.shape == exact.shape and result.dtype == weights.dtype
    assert (np.abs(result - exact) <= roundings(weights.dtype, 20) * scale).all()


@shapes
@pytest.mark.parametrize("dtype", DTYPES)
def test_forward(device, dtype, shape):
    for vector in ((True, True), (False, False), (True, False)):
        values = oracle.problem(*shape, dtype=dtype, vector=vector)[:4]
        result = device.to_host(launch.forward(device, *on_device(device, values)))
        assert result.dtype == dtype
        oracle.assert_accurate(result, *values)


@shapes
@pytest.mark.parametrize("dtype", DTYPES)
def test_gradient(device, slabs, dtype, shape):
    for vector in ((True, True), (False, True)):
        values = oracle.problem(*shape, dtype=dtype, vector=vector)
        found = launch.gradient(device, *on_device(device, values), wanted=NAMES)
        assert set(found) == set(NAMES)
        oracle.assert_gradients(
            [device.to_host(found[name]) for name in NAMES], values, roundings(dtype, 20)
        )


@pytest.mark.parametrize("p", [1, 3, 16, 33])
@shapes
@pytest.mark.parametrize("dtype", DTYPES)
def test_product_and_its_gradient(device, slabs, dtype, shape, p):
    x, y, gamma = values = oracle.problem(*shape, dtype=dtype)[:3]
    one = np.ones((), dtype)
    weights, grad_output = weights_for(shape[0], shape[1], p, dtype)
    kernel = oracle.kernel(*values, one)
    X, Y, C, W, Q = on_device(device, values + [weights, grad_output])
    assert_product(device.to_host(launch.product(device, X, Y, C, W)), kernel, weights)
    found = launch.product_gradient(device, X, Y, C, W, Q, DOT_NAMES)
    assert set(found) == set(DOT_NAMES)
    assert_product(device.to_host(found["weights"]), kernel.T, grad_output)
    # dK is itself a sum of p terms: its rounding is allowed for by the sum of their sizes.
    dK = np.asarray(grad_output, oracle.LONG).dot(np.asarray(weights, oracle.LONG).T)
    terms = np.abs(grad_output).astype(oracle.LONG).dot(np.abs(weights).T)
    exact = oracle.gradients(*values, one, dK)
    scales = oracle.gradient_terms(*values, one, terms)
    for name, expected, scale in zip(DOT_NAMES[:3], exact, scales):
        result = device.to_host(found[name])
        assert result.shape == expected.shape and result.dtype == dtype
        assert (np.abs(result - expected) <= roundings(dtype, 20) * scale).all(), name


@pytest.mark.parametrize("p", [1, 33])
@pytest.mark.parametrize("n, d", [(1, 1), (70, 3), (65, 17), (515, 70)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_outer_gradient(device, slabs, dtype, n, d, p):
    x, _, gamma, amplitude, _ = oracle.problem(n, n, d, dtype=dtype, vector=(False, False))
    amplitude = np.asarray(-1.7 * amplitude, dtype)
    right, left = weights_for(n, n, p, dtype)
    arrays = on_device(device, [x, gamma, amplitude, left, right])
    dK = np.asarray(left, oracle.LONG).dot(np.asarray(right, oracle.LONG).T)
    terms = np.abs(left).astype(oracle.LONG).dot(np.abs(right).T)
    exact = oracle.gradients(x, x, gamma, amplitude, dK)
    scales = oracle.gradient_terms(x, x, gamma, amplitude, terms)
    for wrt in (("x",), ("x", "gamma"), ("gamma", "amplitude"), ("x", "gamma", "amplitude")):
        found = launch.outer_gradient(device, *arrays, wanted=wrt)
        assert set(found) == set(wrt)
        for name in wrt:
            result = device.to_host(found[name])
            of_both = {"x": (0, 1), "gamma": (2,), "amplitude": (3,)}[name]
            expected, scale = (sum(v[k] for k in of_both) for v in (exact, scales))
            assert result.shape == expected.shape and result.dtype == dtype
            assert (np.abs(result - expected) <= roundings(dtype, 20) * scale).all(), name


@pytest.mark.parametrize("dtype", DTYPES)
def test_same_bits_in_every_order_of_threads(device, slabs, dtype, order):
    # A race that poisoning does not show: the result would depend on who comes first.
    values = oracle.problem(130, 300, 35, dtype=dtype)
    weights, grad_output = weights_for(130, 300, 36, dtype)
    X, Y, C, A, G, W, Q = on_device(device, values + [weights, grad_output])

    def run():
        results = [
            launch.forward(device, X, Y, C, A),
            launch.product(device, X, Y, C, W),
        ]
        found = launch.gradient(device, X, Y, C, A, G, NAMES)
        results += [found[name] for name in NAMES]
        found = launch.product_gradient(device, X, Y, C, W, Q, DOT_NAMES)
        results += [found[name] for name in sorted(found)]
        return [device.to_host(r).tobytes() for r in results]

    first = _first_bits.setdefault((dtype, slabs), run())
    assert run() == first


_first_bits = {}


@pytest.mark.parametrize("dtype", DTYPES)
def test_symmetric_gradient_and_partial_ones(device, dtype):
    x, _, gamma, amplitude, _ = oracle.problem(70, 70, 5, dtype=dtype, vector=(False, False))
    grad_output = oracle.problem(70, 70, 5, dtype=dtype)[4]
    X, C, A, G = on_device(device, [x, gamma, amplitude, grad_output])
    wanted = ("x+y", "gamma", "amplitude")
    found = launch.gradient(device, X, X, C, A, G, wanted)
    oracle.assert_gradients(
        [device.to_host(found[name]) for name in wanted],
        [x, x, gamma, amplitude, grad_output],
        roundings(dtype, 20),
        names=("x", "gamma", "amplitude"),
    )
    every = launch.gradient(device, X, X, C, A, G, NAMES)
    for name in NAMES:
        alone = launch.gradient(device, X, X, C, A, G, (name,))
        assert list(alone) == [name]
        assert np.array_equal(device.to_host(alone[name]), device.to_host(every[name])), name


@pytest.mark.parametrize("d", [3, 6])
def test_partial_product_gradients(device, monkeypatch, d):
    values = oracle.problem(1030, 270, d, "float32")[:3]
    weights = weights_for(1030, 270, 2, "float32")
    arrays = on_device(device, values + weights)
    every = launch.product_gradient(device, *arrays, wanted=DOT_NAMES)
    both = launch.product_gradient(device, *arrays, wanted=("gamma", "x"))
    assert list(both) == ["gamma", "x"]
    sizes = []
    allocate = device.allocate
    monkeypatch.setattr(device, "allocate", lambda size: sizes.append(size) or allocate(size))
    for name in DOT_NAMES:
        alone = launch.product_gradient(device, *arrays, wanted=(name,))
        assert list(alone) == [name]
        for found in [alone] + [both] * (name in both):
            assert np.array_equal(device.to_host(found[name]), device.to_host(every[name])), name
        # Slabs and their sum; of y those of the kernel's sums for gamma as well, and no others.
        assert len(sizes) <= (3 if name == "y" or (name == "gamma" and d > 4) else 2)
        sizes.clear()


def test_symmetric_kernel_is_exactly_symmetric(device):
    x, _, gamma, amplitude, _ = oracle.problem(150, 150, 6, "float32", vector=(False, False))
    X, C, A = on_device(device, [x, gamma, amplitude])
    K = device.to_host(launch.forward(device, X, X, C, A))
    assert np.array_equal(K, K.T) and (np.diag(K) == amplitude).all()


@pytest.mark.parametrize("shape", [(0, 5, 3), (5, 0, 3), (5, 70, 0), (0, 0, 0)])
@pytest.mark.parametrize("p", [0, 2])
def test_empty_arrays(device, shape, p):
    n, m, d = shape
    values = oracle.problem(n, m, d, "float32")
    weights, grad_output = weights_for(n, m, p, "float32")
    X, Y, C, A, G, W, Q = on_device(device, values + [weights, grad_output])
    kernel = device.to_host(launch.forward(device, X, Y, C, A))
    assert np.array_equal(kernel, np.broadcast_to(values[3], (n, m)))
    found = launch.gradient(device, X, Y, C, A, G, NAMES)
    oracle.assert_gradients([device.to_host(found[k]) for k in NAMES], values, 1e-6)

    one = np.ones((), np.float32)
    kernel = oracle.kernel(*values[:3], one)
    assert_product(device.to_host(launch.product(device, X, Y, C, W)), kernel, weights)
    found = launch.product_gradient(device, X, Y, C, W, Q, DOT_NAMES)
    values[3:] = [one, grad_output.dot(weights.T)]
    for name, gradient in zip(DOT_NAMES[:3], oracle.gradients(*values)):
        np.testing.assert_allclose(device.to_host(found[name]), gradient, rtol=1e-6)
    assert_product(device.to_host(found["weights"]), kernel.T, grad_output)


@pytest.mark.parametrize("shape", [(0, 3), (5, 0)])
def test_empty_symmetric_gradient(device, shape):
    n, d = shape
    x, _, gamma, amplitude, grad_output = oracle.problem(n, n, d, "float32", vector=(False, False))
    X, C, A, G = on_device(device, [x, gamma, amplitude, grad_output])
    wanted = ("x+y", "gamma", "amplitude")
    found = launch.gradient(device, X, X, C, A, G, wanted)
    oracle.assert_gradients(
        [device.to_host(found[name]) for name in wanted],
        [x, x, gamma, amplitude, grad_output],
        1e-6,
        names=("x", "gamma", "amplitude"),
    )


def test_special_values(device):
    far, tiny = np.float32(3e38), np.float32(1e-45)
    x = np.array([[0], [1], [np.inf], [np.nan], [1e6], [-far]], np.float32)
    y = np.array([[0], [np.inf], [1e6 + 1], [far]], np.float32)
    for gamma in (0, 1, tiny, far, -1, np.inf):
        gamma = np.array(gamma, np.float32)
        amplitude = np.array([1, 2, -3, 0.5], np.float32)
        with np.errstate(all="ignore"):
            distance = ((x - y.T) ** 2).astype(np.float32)
            expected = amplitude * np.exp(-gamma * distance)
        arrays = on_device(device, [x, y, gamma, amplitude])
        result = device.to_host(launch.forward(device, *arrays))
        np.testing.assert_allclose(result, expected, rtol=3e-6, atol=1e-44, err_msg=str(gamma))


@pytest.mark.parametrize("d", [3, 7])
@pytest.mark.parametrize("dtype", DTYPES)
def test_denormal_results(device, dtype, d):
    # From the least normal number down to zero, beside numbers of ordinary size.
    info = np.finfo(dtype)
    x = np.zeros((1, d), dtype)
    y = np.zeros((40, d), dtype)
    exponents = -np.log(np.asarray(info.tiny, oracle.LONG)) + np.linspace(-1, info.nmant + 2, 40)
    y[:, d - 1] = np.sqrt(exponents)
    y[::5] = 0.1
    one, weights = np.ones((), dtype), np.diag(np.ones(40, dtype))[:, 2:4].copy()
    arrays = on_device(device, [x, y, one, one, weights])
    K = device.to_host(launch.forward(device, *arrays[:4]))
    oracle.assert_accurate(K, x, y, one, one)
    assert (K > 0).sum() > 20 and ((0 < K) & (K < info.tiny)).any()
    product = device.to_host(launch.product(device, *(arrays[:3] + arrays[4:])))
    error = np.abs(product - K[:, 2:4].astype(oracle.LONG))
    assert (error <= roundings(dtype, 1000) * K[:, 2:4] + 2 * info.tiny * info.eps).all()


@pytest.mark.parametrize("d", [2, 6])
def test_rows_far_away_do_not_spoil_others(device, d):
    # Beyond the last point there is padding; an infinite row must not turn it into NaN.
    x, y = np.zeros((2, d), np.float32), np.zeros((3, d), np.float32)
    x[0, 0] = np.inf
    one, weights = np.float32(1), np.ones((3, 1), np.float32)
    X, Y, C, W = on_device(device, [x, y, np.asarray(one), weights])
    product = device.to_host(launch.product(device, X, Y, C, W))
    assert product.tolist() == [[0], [3]]


@pytest.mark.parametrize("d", [2, 6])
def test_an_infinite_gamma_does_not_meet_the_padding(device, d):
    x, y = (oracle.problem(70, 3, d, "float32")[k] for k in (0, 1))
    gamma = np.array([np.inf, 1, 0.5], np.float32)
    weights, grad_output = np.ones((3, 2), np.float32), np.ones((70, 2), np.float32)
    X, Y, C, W, Q, A, G = on_device(
        device,
        [x, y, gamma, weights, grad_output, np.ones(3, np.float32), np.ones((70, 3), np.float32)],
    )
    found = launch.product_gradient(device, X, Y, C, W, Q, ("weights", "gamma"))
    assert device.to_host(found["weights"])[0].tolist() == [0, 0]
    assert device.to_host(found["gamma"])[0] == 0
    found = launch.gradient(device, X, Y, C, A, G, ("gamma", "amplitude"))
    assert device.to_host(found["gamma"])[0] == device.to_host(found["amplitude"])[0] == 0


@pytest.mark.parametrize("d", [2, 6])
@pytest.mark.parametrize("per_centre", [False, True])
@pytest.mark.parametrize("dtype, gamma", [("float32", 2e38), ("float64", 1.2e308)])
def test_a_gamma_of_which_twice_is_infinite(device, dtype, gamma, per_centre, d):
    # Where K is 0, or the difference is, infinity would make NaN of it. One pair is as close as
    # gamma D = 1/4; weights[2] times gamma is infinite as well.
    x, y = (oracle.problem(70, 3, d, dtype)[k] for k in (0, 1))
    y[0] = 0
    x[3], x[40:42], x[5] = y[0], y[2], 0
    x[5, 0] = 0.5 * gamma**-0.5
    gamma = np.array([gamma, 1, gamma] if per_centre else gamma, dtype)
    weights, grad_output = (0.1 * w.astype(dtype) for w in weights_for(70, 3, 2, dtype))
    weights[2], grad_output[40:42] = 10, 1e-3
    values = [x, y, gamma, np.ones((), dtype), grad_output.dot(weights.T)]
    with np.errstate(all="ignore"):
        expected = reference.rbf_kernel_grad(*values)
    X, Y, C, A, G, W, Q = on_device(device, values + [weights, grad_output])
    found = launch.gradient(device, X, Y, C, A, G, NAMES)
    of_product = launch.product_gradient(device, X, Y, C, W, Q, DOT_NAMES)
    for results in (found, of_product):
        for name, exact in zip(NAMES[:3], expected):
            assert np.isfinite(exact).all() and (name == "gamma" or (exact != 0).any())
            np.testing.assert_allclose(
                device.to_host(results[name]), exact, rtol=roundings(dtype, 100), err_msg=name
            )


@pytest.mark.parametrize("n", [70, 128])
def test_an_infinite_amplitude_does_not_meet_the_padding(device, n):
    values = oracle.problem(n, 5, 6, "float32")
    values[3][1], values[4] = np.inf, np.abs(values[4])
    expected = reference.rbf_kernel_grad(*values)
    found = launch.gradient(device, *on_device(device, values), wanted=NAMES)
    assert np.isinf(expected[0]).all() and expected[2][1] == -np.inf
    for name, exact in zip(NAMES, expected):
        np.testing.assert_allclose(
            device.to_host(found[name]), exact, rtol=1e-4, atol=1e-6, err_msg=name
        )


@pytest.mark.parametrize(
    "dtype, both, grad",
    [("float32", 1e21, 1e-25), ("float32", 1e-30, 1e22), ("float64", 1e170, 1e-200),
     ("float64", 1e-170, 1e200)],
)  # fmt: skip
def test_gamma_and_amplitude_whose_product_is_out_of_range(device, dtype, both, grad):
    x, y, gamma, amplitude, grad_output = oracle.problem(70, 66, 6, dtype)
    values = [x * both**-0.5, y * both**-0.5, gamma * both, amplitude * both, grad_output * grad]
    values = [v.astype(dtype) for v in values]
    found = launch.gradient(device, *on_device(device, values), wanted=NAMES)
    results = [device.to_host(found[name]) for name in NAMES]
    oracle.assert_gradients(results, values, roundings(dtype, 20))


@pytest.mark.parametrize("owners", [1, 30, 512, 1000, 2048, 9000, 10**6])
@pytest.mark.parametrize("others", [1, 100, 512, 1000, 2048, 9000, 10**6])
@pytest.mark.parametrize("cut", [(64, 128), (64, 64), (1024, 128, 1, 32), (256, 128, 1, 32)])
def test_there_are_enough_blocks_where_there_are_enough_points(owners, others, cut):
    grid = launch._Grid(owners, others, 3, *cut)
    blocks, slabs = grid.shape
    tile = cut[-1] if len(cut) > 2 else cut[1]
    assert grid.slab % tile == 0 and slabs == grid.slabs
    assert blocks * cut[0] >= owners and slabs * grid.slab >= others > (slabs - 1) * grid.slab
    # Too few only of the shortest slabs there are; and of those but one less than would do.
    assert blocks * slabs >= 528 / 2 or grid.slab == tile
    assert slabs <= 1024 and (slabs == 1 or slabs * owners * 3 <= launch._SLAB_ENTRIES)


def test_memory_of_many_columns_is_bounded(device, monkeypatch):
    values = oracle.problem(70, 2000, 18, "float32")
    expected = launch.gradient(device, *on_device(device, values), wanted=NAMES)
    sizes = []
    allocate = device.allocate
    monkeypatch.setattr(device, "allocate", lambda size: sizes.append(size) or allocate(size))
    monkeypatch.setattr(launch, "_SLAB_ENTRIES", 3 * 70 * 18)
    found = launch.gradient(device, *on_device(device, values), wanted=NAMES)
    assert max(sizes) == max(v.nbytes for v in values)  # that of G
    for name in NAMES:
        np.testing.assert_allclose(
            device.to_host(found[name]), device.to_host(expected[name]), rtol=1e-3, atol=1e-4
        )


@pytest.mark.parametrize("d, p", [(3, 1), (5, 1), (5, 20), (5, 40)])
def test_long_sums_of_one_sign_keep_their_digits(device, monkeypatch, d, p):
    # One block adds all: 300 sums, which in plain float lose digits, in one of 60 rows at least.
    monkeypatch.setattr(launch, "_BLOCKS_WANTED", 1)
    monkeypatch.setattr(launch, "_BLOCKS_LEAST", 1)
    x, y, gamma = oracle.problem(60, 300 * 64, d, "float32")[:3]
    weights = np.random.RandomState(0).uniform(0.5, 1, (300 * 64, p)).astype(np.float32)
    X, Y, C, W = on_device(device, [x, y, gamma, weights])
    result = device.to_host(launch.product(device, X, Y, C, W))
    exact = oracle.kernel(x, y, gamma, np.ones((), np.float32)).dot(weights)
    assert (np.abs(result - exact) <= roundings("float32", 4) * exact).all()


@pytest.mark.parametrize("d, p", [(1, 2), (5, 2), (5, 20), (5, 40)])
def test_infinite_sums_stay_infinite(device, d, p):
    y = np.zeros((200, d), np.float32)
    weights = np.full((200, p), 3e38, np.float32)
    weights[:, 0] = np.inf
    X, Y, C, W = on_device(device, [y[:1], y, np.ones((), np.float32), weights])
    assert (device.to_host(launch.product(device, X, Y, C, W)) == np.inf).all()


def test_where_a_row_meets_a_centre_the_gradient_is_exactly_zero(device):
    x = np.full((3, 20), 1e4, np.float32)
    one, ones = np.asarray(np.float32(1)), np.ones((3, 3), np.float32)
    X, C, G = on_device(device, [x, one, ones])
    found = launch.gradient(device, X, X, C, C, G, ("x", "y", "gamma"))
    assert all((device.to_host(v) == 0).all() for v in found.values())


def test_strided_arrays_are_copied_on_the_device(device):
    values = oracle.problem(40, 30, 6, "float32")
    dense = launch.forward(device, *on_device(device, values[:4]))
    before = dict(device.counts)
    K = device.to_host(dense)
    columns, reverse = (
        device.to_device(np.ascontiguousarray(values[0].T)),
        on_device(device, values),
    )
    reverse[0] = columns.T
    wide = device.to_device(np.repeat(values[2], 2))
    reverse[2] = wide[::2]
    again = device.to_host(launch.forward(device, *reverse[:4]))
    assert np.array_equal(K, again)
    assert device.counts["to_host"] == before["to_host"] + 2


def test_shapes_that_do_not_fit(device):
    X, Y, C, A, G = on_device(device, oracle.problem(4, 3, 2, "float32"))
    with pytest.raises(ValueError, match=r"\(4, 2\).*\(4, 3\)"):
        launch.forward(device, X, G, C, A)
    with pytest.raises(ValueError, match="weights must have one row"):
        launch.product(device, X, Y, C, X)
    with pytest.raises(ValueError, match=r"\(4, 2\)"):
        launch.product_gradient(device, X, Y, C, Y, Y, ("x",))


def test_too_large_for_the_device():
    from rbf_op.device import runtime

    with runtime.device() as device:
        with pytest.raises(MemoryError, match="does not fit on the CUDA device"):
            device.empty((1 << 23, 1 << 22), "float64")
