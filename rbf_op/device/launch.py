"""The kernels of cuda/ called on device arrays: the kernel matrix, the product, their gradients.

Every function takes and gives GPUArrays of one dtype (float32 or float64) and must be called inside
`with device:`. Grids depend on the shapes alone, so that the same input gives the same bits, on
every run and device of one kind. Imports runtime.py and reference.py, no Theano.
"""

from rbf_op import reference
from rbf_op.device import runtime

# Rows of a block and columns of a tile: ROWS and OTHERS of cuda/sweep.cuh, as product.cu and
# gradient.cu have it; ROWS and COLUMNS of forward.cu.
_ROWS = 64
_TILE = {"float32": 128, "float64": 64}
_GRADIENT_TILE = 64
# cuda/narrow.cu: points of so few dimensions, and so few columns; its THREADS, and rows a thread
_NARROW = 4
_NARROW_TILE = 128
_NARROW_PRODUCT_ROWS = {"float32": (8, 4), "float64": (4, 2)}  # COLUMNS 1 and 4
_NARROW_GRADIENT_ROWS = {"float32": 4, "float64": 2}
_BLOCKS_WANTED = 1024  # enough for every multiprocessor of a large device, several times over
_TILES_A_SLAB = 4  # at least so many, or a slab is not worth its sum
_BLOCKS_SUMMED = 64  # of a sum of all entries: theirs are summed by one block
_SLAB_ENTRIES = 1 << 24  # of all slabs of a result, unless one of them has more


def forward(device, x, y, gamma, amplitude, out=None):
    """K[i, j] = amplitude[j] exp(-gamma[j] |x_i - y_j|^2); x (n, d), y (m, d), K (n, m).

    `out` is written to if its shape fits.
    """
    reference.check_shapes(x, y, gamma, amplitude)
    (n, d), m, dtype = x.shape, y.shape[0], str(x.dtype)
    if out is None or out.shape != (n, m) or not out.flags.c_contiguous:
        out = device.empty((n, m), dtype)
    if out.size:
        x, y, gamma, amplitude = map(device.contiguous, (x, y, gamma, amplitude))
        device.launch(
            ("forward.cu", "rbf_forward", dtype),
            (-(-n // _ROWS) * -(-m // _TILE[dtype]), 1),
            [x, y] + _parameters(gamma, amplitude) + [out, n, m, d],
        )
    return out


def gradient(device, x, y, gamma, amplitude, grad_output, wanted):
    """Gradients of sum(grad_output * K), by name, for those of x, y, gamma, amplitude in `wanted`.

    "x+y" in `wanted` gives the sum of both, which is the gradient with respect to x where y is x.
    """
    reference.check_shapes(x, y, gamma, amplitude, grad_output=grad_output)
    x, y, gamma, amplitude, grad_output = map(
        device.contiguous, (x, y, gamma, amplitude, grad_output)
    )
    stored = [grad_output, None, None, 0]
    return _gradients(device, "rbf_gradient", x, y, gamma, amplitude, wanted, stored, stored)


def product(device, x, y, gamma, weights):
    """P[i] = sum_j exp(-gamma[j] |x_i - y_j|^2) weights[j]; weights (m, p), P (n, p).

    No matrix of size n * m is stored.
    """
    reference.check_shapes(x, y, gamma, weights=weights)
    x, y, gamma, weights = map(device.contiguous, (x, y, gamma, weights))
    return _product(device, "rbf_product", x, y, gamma, weights)


def product_gradient(device, x, y, gamma, weights, grad_output, wanted):
    """Gradients of sum(grad_output * P), by name, for those of x, y, gamma, weights in `wanted`.

    grad_output (n, p). dK = grad_output weights^T is computed tile by tile along with K.
    """
    reference.check_shapes(x, y, gamma, weights=weights, grad_output=grad_output)
    x, y, gamma, weights, grad_output = map(device.contiguous, (x, y, gamma, weights, grad_output))
    p = weights.shape[1]
    gradients = _gradients(
        device, "rbf_product_gradient", x, y, gamma, device.one(str(x.dtype)), wanted,
        [None, grad_output, weights, p],
        [None, weights, grad_output, p],
    )  # fmt: skip
    if "weights" in wanted:
        gradients["weights"] = _product(device, "rbf_product_transposed", y, x, gamma, grad_output)
    return gradients


# -- Sweeps: cuda/sweep.cuh ------------------------------------------------------------------------


def _parameters(gamma, amplitude):
    return [gamma, 1 if gamma.ndim else 0, amplitude, 1 if amplitude.ndim else 0]


def _columns(width, one=False):
    """COLUMNS to compile a sweep with that has `width` results a row."""
    return 1 if one and width == 1 else 4 if width <= 4 else 16 if width <= 16 else 32


class _Grid:
    """How a sweep over `others` is cut: blocks of `rows` owners, slabs of whole tiles of others.

    Each slab has results of its own, `width` an owner.
    """

    def __init__(self, owners, others, width, rows, tile, tiles_a_slab=_TILES_A_SLAB):
        tiles = -(-others // tile)
        blocks = -(-owners // rows)
        wanted = -(-_BLOCKS_WANTED // max(blocks, 1))  # enough blocks to keep a device busy
        most = _SLAB_ENTRIES // max(owners * width, 1)
        slabs = max(1, min(wanted, tiles // tiles_a_slab, most))
        self.slab = max(1, -(-tiles // slabs)) * tile
        self.slabs = max(1, -(-others // self.slab))
        self.shape = (blocks, self.slabs)


def _is_narrow(d, p):
    return 1 <= d <= _NARROW and 1 <= p <= _NARROW


def _product(device, name, owner, other, gamma, payload):
    (owners, d), others, dtype = owner.shape, other.shape[0], str(owner.dtype)
    width = payload.shape[1]
    if not (owners and others and width):
        return device.zeros((owners, width), dtype)
    columns = _columns(width, one=True)
    if _is_narrow(d, width):
        rows = _NARROW_TILE * _NARROW_PRODUCT_ROWS[dtype][columns > 1]
        grid = _Grid(owners, others, width, rows, _NARROW_TILE, tiles_a_slab=1)
        kernel = ("narrow.cu", name, dtype, columns, d)
    else:
        grid = _Grid(owners, others, width, _ROWS, _TILE[dtype])
        kernel = ("product.cu", name, dtype, columns)
    # With several rounds of columns, what the sums round off is kept in slabs of its own.
    slabs = grid.slabs if width <= columns else 2 * grid.slabs
    result = device.empty((slabs, owners, width), dtype)
    device.launch(
        kernel,
        grid.shape,
        [owner, other, owners, others, d]
        + _parameters(gamma, device.one(dtype))
        + [payload, width, grid.slab, result],
    )
    return _sum_slabs(device, result)


def _gradients(device, name, x, y, gamma, amplitude, wanted, source_x, source_y):
    """Both sweeps, as far as wanted. source_x, source_y: the arguments that tell each its G."""
    (n, d), m, dtype = x.shape, y.shape[0], str(x.dtype)
    both = "x+y" in wanted
    inner = source_x[3]
    if _is_narrow(d, inner):
        cut = (_NARROW_TILE * _NARROW_GRADIENT_ROWS[dtype], _NARROW_TILE, 1)
    else:
        cut = (_ROWS, _GRADIENT_TILE)
    grid_x, grid_y = _Grid(n, m, d, *cut), _Grid(m, n, d, *cut)

    def sweep(kernel, owner, other, width, grid, source, outputs):
        if not other.shape[0]:  # no tile at all: nothing would be written
            for output in outputs:
                if output is not None:
                    device.clear(output)
        elif owner.shape[0]:
            if _is_narrow(d, inner):
                compiled = ("narrow.cu", kernel, dtype, _columns(inner, one=True), d)
            else:
                compiled = ("gradient.cu", kernel, dtype, _columns(width))
            device.launch(
                compiled,
                grid.shape,
                [owner, other, owner.shape[0], other.shape[0], d]
                + _parameters(gamma, amplitude)
                + source
                + [width, grid.slab]
                + outputs,
            )

    dx_needed = both or "x" in wanted
    dy_needed = both or "y" in wanted
    y_sweep_needed = dy_needed or "gamma" in wanted or "amplitude" in wanted
    width = d if dy_needed else 0
    if both:  # one array, so that one sum adds both sweeps
        points = device.empty((grid_x.slabs + grid_y.slabs, n, d), dtype)
        dx, dy = (
            (points[: grid_x.slabs], points[grid_x.slabs :]) if points.size else (points, points)
        )
    else:
        dx = device.empty((grid_x.slabs, n, d), dtype) if dx_needed else None
        dy = device.empty((grid_y.slabs, m, width), dtype) if y_sweep_needed else None
    dgamma, damplitude = (device.empty((grid_y.slabs, m), dtype) for _ in range(2))
    if dx_needed:
        sweep(name + "_x", x, y, d, grid_x, source_x, [dx, None, None])
    if y_sweep_needed:
        sweep(name + "_y", y, x, width, grid_y, source_y, [dy, dgamma, damplitude])

    slabs = {"x": dx, "y": dy, "gamma": dgamma, "amplitude": damplitude}
    if both:
        slabs["x+y"] = points
    gradients = {key: _sum_slabs(device, slabs[key]) for key in wanted if key in slabs}
    for key, parameter in (("gamma", gamma), ("amplitude", amplitude)):
        if key in wanted and parameter.ndim == 0:
            gradients[key] = _sum_all(device, gradients[key])
    return gradients


def _sum_slabs(device, slabs):
    """The sum over the first axis, in its order."""
    count, shape = slabs.shape[0], slabs.shape[1:]
    if slabs.size == 0:  # PyCUDA cannot reshape an array without memory
        return device.empty(shape, slabs.dtype)
    if count == 1:
        return runtime.own(slabs.reshape(shape))
    result = device.empty(shape, slabs.dtype)
    device.launch(
        ("arrays.cu", "sum_slabs", str(slabs.dtype)),
        (runtime.grid_for(result.size), 1),
        [slabs, count, result.size, result],
    )
    return result


def _sum_all(device, values):
    dtype = str(values.dtype)
    blocks = max(1, min(_BLOCKS_SUMMED, runtime.grid_for(values.size)))
    sums, result = device.empty((blocks,), "float64"), device.empty((), dtype)
    device.launch(("arrays.cu", "sum_blocks", dtype), (blocks, 1), [values, values.size, sums])
    device.launch(("arrays.cu", "sum_all", dtype), (1, 1), [sums, blocks, result])
    return result
