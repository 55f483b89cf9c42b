"""The data of a cell, its results in float64, and the comparison with what a contender computed.

NumPy only, except for reference(), which needs SciPy and runs in the package's own environment.
"""

import numpy as np

# Above so many entries of K, the sums over all of it are only checked at Cell.reduced().
EXACT_ENTRIES = 2e7
_SAMPLE = 64

# Of an (n, m, d) array, which some spellings make: larger ones would push out everything else.
BROADCAST_BYTES = 1.5e9
_BLOCK_ENTRIES = 1 << 22

# Largest error allowed, relative to the largest entry of the result: wide enough for the norm
# expansion's cancellation, far below what a wrong formula gives.
TOLERANCE = {
    ("float32", "K"): 1e-4,
    ("float32", "P"): 1e-4,
    ("float32", "gradient"): 1e-3,
    ("float64", "K"): 1e-10,
    ("float64", "P"): 1e-10,
    ("float64", "gradient"): 1e-9,
}


def tolerance(cell):
    kind = cell.outputs[0] if len(cell.outputs) == 1 else "gradient"
    return TOLERANCE[cell.dtype, kind]


def data(cell):
    """x (n, d), y (m, d) (None if symmetric), gamma (); G (n, m), W (m, p), H (n, p) as needed.

    Values are exact in float32, so both precisions solve the same problem. Typical exponents are
    -gamma D = -2: no underflow, whose slow path would blur the comparison.
    """
    random = np.random.default_rng(20)
    found = {"x": random.standard_normal((cell.n, cell.d), dtype=np.float32), "y": None}
    if not cell.symmetric:
        found["y"] = random.standard_normal((cell.m, cell.d), dtype=np.float32)
    found["gamma"] = np.float32(1.0 / cell.d)
    if cell.task == "gradient":
        found["G"] = random.random((cell.n, cell.m), dtype=np.float32)
    if cell.p:
        found["W"] = random.random((cell.m, cell.p), dtype=np.float32)
        found["H"] = random.random((cell.n, cell.p), dtype=np.float32)
    return {k: v if v is None else np.asarray(v, dtype=cell.dtype) for k, v in found.items()}


def refuse_broadcast(cell):
    """Raise MemoryError if an (n, m, d) array, of which a contender makes several, is too large."""
    needed = cell.n * cell.m * cell.d * cell.item_bytes
    if needed > BROADCAST_BYTES:
        raise MemoryError("its (n, m, d) arrays have %.1f GB each" % (needed / 1e9))


def _sample(size):
    return np.unique(np.linspace(0, size - 1, min(size, _SAMPLE)).astype(int))


def reference(cell):
    """The results in float64 by direct differences: name -> array, and name_index -> its rows.

    Sampled rows where n * m is large; of a K, sampled rows and all row and column sums.
    """
    from scipy.spatial.distance import cdist

    given = data(cell._replace(dtype="float64"))
    x, gamma = given["x"], given["gamma"]
    y = x if cell.symmetric else given["y"]
    exact = cell.n * cell.m <= EXACT_ENTRIES
    found = {}

    def weights(rows, columns):
        """G, or what stands for it, of some rows and columns."""
        if cell.task == "gradient":
            return given["G"][rows][:, columns]
        return given["H"][rows].dot(given["W"][columns].T)

    def side(rows, columns):
        """Gradient with respect to the points `rows` of x, over the points `columns` of y."""
        distance = cdist(x[rows], y[columns], "sqeuclidean")
        kernel = np.exp(-gamma * distance)
        weighted = kernel * weights(rows, columns)
        gradient = 2 * gamma * (weighted.dot(y[columns]) - weighted.sum(1)[:, None] * x[rows])
        return distance, kernel, weighted, gradient

    everything = slice(None)
    if cell.task in ("kernel", "product"):
        rows = _sample(cell.n)
        sampled = np.exp(-gamma * cdist(x[rows], y, "sqeuclidean"))
        if cell.task == "kernel":
            found["K"], found["K_index"] = sampled, rows
            if exact:
                found["row_sums"], found["column_sums"] = np.zeros(cell.n), np.zeros(cell.m)
                for block in _blocks(cell):
                    kernel = np.exp(-gamma * cdist(x[block], y, "sqeuclidean"))
                    found["row_sums"][block] = kernel.sum(1)
                    found["column_sums"] += kernel.sum(0)
        else:
            found["P"], found["P_index"] = sampled.dot(given["W"]), rows
        return found

    blocks = list(_blocks(cell)) if exact else [_sample(cell.n)]
    dx, value, dgamma = [], 0.0, 0.0
    dy = np.zeros(y.shape)
    dweights = np.zeros((cell.m, cell.p))
    for block in blocks:
        distance, kernel, weighted, gradient = side(block, everything)
        dx.append(gradient)
        value += weighted.sum()
        dgamma -= (weighted * distance).sum()
        dy += 2 * gamma * (weighted.T.dot(x[block]) - weighted.sum(0)[:, None] * y)
        if cell.p:
            dweights += kernel.T.dot(given["H"][block])
    found["dx"] = np.concatenate(dx)
    if exact:
        found.update(value=value, dy=dy, dgamma=dgamma, dweights=dweights)
    else:
        found["dx_index"] = blocks[0]
        columns = _sample(cell.m)
        distance = cdist(x, y[columns], "sqeuclidean")
        kernel = np.exp(-gamma * distance)
        weighted = kernel * weights(everything, columns)
        found["dy"] = 2 * gamma * (weighted.T.dot(x) - weighted.sum(0)[:, None] * y[columns])
        found["dy_index"] = found["dweights_index"] = columns
        if cell.p:
            found["dweights"] = kernel.T.dot(given["H"])
    if cell.symmetric:
        # x is both sides; the sampled rows and columns are the same ones.
        found["dx"] = found["dx"] + found.pop("dy")
    return {k: v for k, v in found.items() if k.split("_")[0] in cell.outputs}


def _blocks(cell):
    step = max(1, _BLOCK_ENTRIES // cell.m)
    return [slice(first, min(cell.n, first + step)) for first in range(0, cell.n, step)]


def compare(cell, results, expected):
    """name -> largest error of that result relative to its largest entry.

    Raises ValueError when the number of results, a shape or a dtype is not the cell's.
    """
    if len(results) != len(cell.outputs):
        raise ValueError("%d results instead of %s" % (len(results), ", ".join(cell.outputs)))
    shapes = {
        "K": (cell.n, cell.m),
        "P": (cell.n, cell.p),
        "dx": (cell.n, cell.d),
        "dy": (cell.m, cell.d),
        "dweights": (cell.m, cell.p),
    }
    errors = {}
    for name, result in zip(cell.outputs, results):
        result = np.asarray(result)
        if result.shape != shapes.get(name, ()):
            raise ValueError("%s has shape %s" % (name, result.shape))
        if name in shapes and result.dtype != cell.dtype:
            raise ValueError("%s has dtype %s instead of %s" % (name, result.dtype, cell.dtype))
        if name in expected:
            errors[name] = _error(result, expected[name], expected.get(name + "_index"))
        for axis, sums in ((1, "row_sums"), (0, "column_sums")):
            if name == "K" and sums in expected:
                total = result.sum(axis=axis, dtype=np.float64)
                errors["K"] = max(errors["K"], _error(total, expected[sums], None))
    return errors


def _error(result, expected, index):
    result = result if index is None else result[index]
    largest = np.abs(expected).max()
    error = np.abs(result - expected).max() / (largest if largest > 0 else 1.0)
    return float(error) if np.isfinite(error) else float("inf")
