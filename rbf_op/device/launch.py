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
_NARROW_SHORT_TILE = 32  # where blocks are few: as many points as one warp reads
_NARROW_PRODUCT_ROWS = {"float32": (8, 4), "float64": (4, 2)}  # COLUMNS 1 and 4
_NARROW_GRADIENT_ROWS = {"float32": 4, "float64": 2}
_BLOCKS_WANTED = 1024  # enough for every multiprocessor of a large device, several times over
_TILES_A_SLAB = 4  # at least so many, or a slab is not worth its sum
_BLOCKS_LEAST = 528  # four for each multiprocessor of one with 132: with fewer, slabs are shorter
_BLOCKS_SUMMED = 64  # of a sum of all entries: theirs are summed by one block
_SLAB_ENTRIES = 1 << 24  # of all slabs of a result, unless one of them has more


def forward(device, x, y, gamma, amplitude, out=None):
    """K[i, j] = amplitude[j] exp(-gamma[j] |x_i - y_j|^2); x (n, d), y (m, d), K (n, m).

    `out` is written to if its shape fits.
    """
    reference.check_shapes(x, y, gamma, amplitude)
    (n, d), m, dtype = x.shape, y.shape[0], runtime.NAMES[x.dtype]
    if out is None or out.shape != (n, m) or not runtime.in_c_order(out):
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

    "x+y", in the place of both, gives their sum: the gradient with respect to x where y is x.
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
        device, "rbf_product_gradient", x, y, gamma, device.one(runtime.NAMES[x.dtype]), wanted,
        [None, grad_output, weights, p],
        [None, weights, grad_output, p],
    )  # fmt: skip
    if "weights" in wanted:
        gradients["weights"] = _product(device, "rbf_product_transposed", y, x, gamma, grad_output)
    return gradients


def outer_gradient(device, x, gamma, amplitude, left, right, wanted):
    """Gradients of sum((left right^T) * K), K of y = x, by name, for those of x, gamma, amplitude
    in `wanted`.

    left and right (n, p), gamma and amplitude numbers. left right^T is computed as in
    product_gradient. The amplitude multiplies the last sums, which must be in range without it.
    """
    reference.check_shapes(x, x, gamma, amplitude, weights=right, grad_output=left)
    x, left, right = map(device.contiguous, (x, left, right))
    p = right.shape[1]
    gradients = _gradients(
        device, "rbf_product_gradient", x, x, gamma, device.one(runtime.NAMES[x.dtype]),
        ["x+y" if name == "x" else name for name in wanted],
        [None, left, right, p],
        [None, right, left, p],
        amplitude,
    )  # fmt: skip
    return {"x" if key == "x+y" else key: gradient for key, gradient in gradients.items()}


# -- Sweeps: cuda/sweep.cuh ------------------------------------------------------------------------


def _parameters(gamma, amplitude):
    return [gamma, 1 if gamma.ndim else 0, amplitude, 1 if amplitude.ndim else 0]


def _columns(width, one=False):
    """COLUMNS to compile a sweep with that has `width` results a row."""
    return 1 if one and width == 1 else 4 if width <= 4 else 16 if width <= 16 else 32


class _Grid:
    """How a sweep over `others` is cut: blocks of `rows` owners, slabs of whole tiles of others.

    Each slab has results of its own, `width` an owner. A slab has tiles_a_slab tiles at least, as
    long as that gives _BLOCKS_LEAST blocks; else down to one, of short_tile.
    """

    def __init__(
        self, owners, others, width, rows, tile, tiles_a_slab=_TILES_A_SLAB, short_tile=None
    ):
        blocks = -(-owners // rows)
        most = _SLAB_ENTRIES // max(owners * width, 1)

        def cut(blocks_wanted, tile, tiles_a_slab):
            tiles = -(-others // tile)
            slabs = min(-(-blocks_wanted // max(blocks, 1)), tiles // tiles_a_slab, most)
            self.slab = max(1, -(-tiles // max(1, slabs))) * tile
            self.slabs = max(1, -(-others // self.slab))

        cut(_BLOCKS_WANTED, tile, tiles_a_slab)
        if blocks * self.slabs < _BLOCKS_LEAST:
            cut(_BLOCKS_LEAST, short_tile or tile, 1)
        self.shape = (blocks, self.slabs)


def _is_narrow(d, p):
    return 1 <= d <= _NARROW and 1 <= p <= _NARROW


def _product(device, name, owner, other, gamma, payload):
    (owners, d), others, dtype = owner.shape, other.shape[0], runtime.NAMES[owner.dtype]
    width = payload.shape[1]
    if not (owners and others and width):
        return device.zeros((owners, width), dtype)
    columns = _columns(width, one=True)
    if _is_narrow(d, width):
        rows = _NARROW_TILE * _NARROW_PRODUCT_ROWS[dtype][columns > 1]
        grid = _Grid(owners, others, width, rows, _NARROW_TILE, 1, _NARROW_SHORT_TILE)
        kernel = ("narrow.cu", name, dtype, columns, d)
    else:
        grid = _Grid(owners, others, width, _ROWS, _TILE[dtype])
        kernel = ("product.cu", name, dtype, columns)
    # With several rounds of columns, what the sums round off is kept in slabs of its own.
    slabs = grid.slabs if width <= columns else 2 * grid.slabs
    result = _Slabs(device, slabs, (owners, width), dtype)
    device.launch(
        kernel,
        grid.shape,
        [owner, other, owners, others, d]
        + _parameters(gamma, device.one(dtype))
        + [payload, width, grid.slab, result.array],
    )
    return result.sum()


def _gradients(device, name, x, y, gamma, amplitude, wanted, source_x, source_y, factor=None):
    """Both sweeps, as far as wanted. source_x, source_y: the arguments that tell each its G.

    `factor`, a number on the device, multiplies all but the gradient of the amplitude.
    """
    (n, d), m, dtype = x.shape, y.shape[0], runtime.NAMES[x.dtype]
    scalars = [k for k, v in (("gamma", gamma), ("amplitude", amplitude)) if not v.ndim]
    if not (n and m):  # no tile at all: nothing would be written
        shapes = {"x": (n, d), "x+y": (n, d), "y": (m, d), "gamma": (m,), "amplitude": (m,)}
        shapes.update((key, ()) for key in scalars)
        return {key: device.zeros(shapes[key], dtype) for key in wanted if key in shapes}
    inner = source_x[3]
    # The kernels for few dimensions have no gradient of an amplitude.
    narrow = _is_narrow(d, inner) and "amplitude" not in wanted
    if narrow:
        rows = _NARROW_TILE * _NARROW_GRADIENT_ROWS[dtype]
        cut = (rows, _NARROW_TILE, 1, _NARROW_SHORT_TILE)
    else:
        cut = (_ROWS, _GRADIENT_TILE)
    slabs = {}

    def sums(key, count, shape):
        slabs[key] = _Slabs(device, count, shape, dtype)
        return slabs[key].address()

    def sweep(kernel, owner, other, width, grid, source, outputs):
        if narrow:
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

    both = "x+y" in wanted
    y_swept = [key for key in ("y", "gamma", "amplitude") if both or key in wanted]
    grid_x = _Grid(n, m, d, *cut) if both or "x" in wanted else None
    grid_y = _Grid(m, n, d, *cut) if y_swept else None
    if both:  # one array, so that one sum adds both sweeps
        dx = sums("x+y", grid_x.slabs + grid_y.slabs, (n, d))
        dy = slabs["x+y"].address(grid_x.slabs)
    else:
        dx = sums("x", grid_x.slabs, (n, d)) if "x" in wanted else None
        dy = sums("y", grid_y.slabs, (m, d)) if "y" in wanted else None
    if grid_x:
        sweep(name + "_x", x, y, d, grid_x, source_x, [dx, None, None])
    if grid_y:
        # The kernels write these unasked, those of few dimensions the first alone. What is not
        # wanted goes where it does no harm.
        parameters = dict.fromkeys(("gamma", "amplitude"))
        written = ("gamma",) if narrow else ("gamma", "amplitude")
        unwanted = None
        for key in written:
            if key in wanted:
                parameters[key] = sums(key, grid_y.slabs, (m,))
            else:
                unwanted = unwanted or sums("unwanted", grid_y.slabs, (m,))
                parameters[key] = unwanted
        width = d if dy is not None else 0
        outputs = [dy, parameters["gamma"], parameters["amplitude"]]
        sweep(name + "_y", y, x, width, grid_y, source_y, outputs)
    gradients = {}
    for key in wanted:
        if key in slabs:
            add = slabs[key].sum_all if key in scalars else slabs[key].sum
            gradients[key] = add(None if key == "amplitude" else factor)
    return gradients


class _Slabs:
    """Memory for what a sweep adds up: `count` arrays of one shape, whose sum is wanted."""

    def __init__(self, device, count, shape, dtype):
        self.device, self.count, self.shape, self.dtype = device, count, shape, dtype
        # The result itself, if it is one.
        self.array = device.empty(shape if count == 1 else (count,) + shape, dtype)

    def address(self, slab=0):
        """Where an array begins."""
        if not self.array.size:
            return 0
        return int(self.array.gpudata) + slab * (self.array.nbytes // self.count)

    def sum(self, factor=None):
        """The sum of the arrays, in their order, times a number on the device."""
        if self.count == 1 and factor is None:
            return self.array
        result = self.device.empty(self.shape, self.dtype)
        if result.size:
            self.device.launch(
                ("arrays.cu", "sum_slabs", self.dtype),
                (runtime.grid_for(result.size), 1),
                [self.array, self.count, result.size, factor, result],
            )
        return result

    def sum_all(self, factor=None):
        """The sum of all entries of all arrays, times a number on the device."""
        device, size = self.device, self.array.size
        blocks = max(1, min(_BLOCKS_SUMMED, runtime.grid_for(size)))
        sums, result = device.empty((blocks,), "float64"), device.empty((), self.dtype)
        device.launch(
            ("arrays.cu", "sum_blocks", self.dtype), (blocks, 1), [self.array, size, sums]
        )
        device.launch(("arrays.cu", "sum_all", self.dtype), (1, 1), [sums, blocks, factor, result])
        return result
