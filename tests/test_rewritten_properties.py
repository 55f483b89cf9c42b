"""Random graphs of products with K, sums and slices of it: the rewrites change no value or type.

Graphs run in NumPy here, where they compile at once. Touches rbf_op, Theano and hypothesis.
"""

import graphs
import numpy as np
import theano
import theano.tensor as T
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_rewritten_products import Graph, kernels

from rbf_op.theano_api import ancestors

# What becomes of a matrix with as many rows and columns as vectors have entries: (matrix, vectors).
MATRICES = {
    "itself": lambda g, k, of_rows, of_columns: k,
    "transposed": lambda g, k, of_rows, of_columns: k.T,
    "rows times": lambda g, k, of_rows, of_columns: k * of_rows[0][:, None],
    "rows divided": lambda g, k, of_rows, of_columns: k / of_rows[0][:, None],
    "columns times": lambda g, k, of_rows, of_columns: of_columns[0] * k,
    "columns divided": lambda g, k, of_rows, of_columns: k / of_columns[0],
    "number": lambda g, k, of_rows, of_columns: -3 * k / g.gamma,
    "outer": lambda g, k, of_rows, of_columns: k * T.dot(of_rows[1], of_columns[1].T),
    "sum of outers": lambda g, k, of_rows, of_columns: k * (
        of_rows[0][:, None] - T.dot(of_rows[1], of_columns[1].T)
    ),
    "normalised rows": lambda g, k, of_rows, of_columns: k / k.sum(axis=1, keepdims=True),
    "normalised columns": lambda g, k, of_rows, of_columns: k / k.sum(axis=0),
}  # fmt: skip

# Which rows and columns of it are left: (rows, columns), of half of its rows and of its columns.
PARTS = {
    "first rows": lambda rows, columns: (slice(None, rows), slice(None)),
    "last columns": lambda rows, columns: (slice(None), slice(columns, None)),
    "first of both": lambda rows, columns: (slice(None, rows), slice(None, rows)),
    "last of both": lambda rows, columns: (slice(rows, None), slice(rows, None)),
    "off the diagonal": lambda rows, columns: (slice(None, rows), slice(rows, None)),
    "every other": lambda rows, columns: (slice(None, None, 2), slice(None, None, -2)),
}

# What is made of a matrix.
RESULTS = {
    "row sums": lambda k, of_rows, of_columns: k.sum(axis=1),
    "column means": lambda k, of_rows, of_columns: k.mean(axis=0),
    "all": lambda k, of_rows, of_columns: k.sum(),
    "product": lambda k, of_rows, of_columns: T.dot(k, of_columns[1]),
    "product with a vector": lambda k, of_rows, of_columns: T.dot(k, of_columns[0]),
    "product from the left": lambda k, of_rows, of_columns: T.dot(of_rows[0], k),
    "product with its transpose": lambda k, of_rows, of_columns: T.dot(of_rows[1].T, k),
    "its own product": lambda k, of_rows, of_columns: T.dot(k, T.tanh(k.sum(axis=0))),
    "squares": lambda k, of_rows, of_columns: T.sqr(k).sum(),
}

KINDS = ["gamma", "widths", "scale", "scales", "all", "symmetric", "symmetric scale"]


@st.composite
def graphs_of(draw, dtype):
    """(Graph, some results and some gradients of them)."""
    g = Graph(dtype)
    kernel, _ = kernels(g)[draw(st.sampled_from(KINDS))]
    results = []
    for _ in range(draw(st.integers(1, 3))):
        matrix = kernel
        of_rows, of_columns = (g.u, g.h), (g.v, g.w)
        if kernel.owner.op.symmetric:
            of_columns = of_rows
        for name in draw(st.lists(st.sampled_from(sorted(MATRICES) + sorted(PARTS)), max_size=3)):
            if name in PARTS:
                rows, columns = PARTS[name](matrix.shape[0] // 2, matrix.shape[1] // 2)
                matrix = matrix[rows, columns]
                of_rows = [v[rows] for v in of_rows]
                of_columns = [v[columns] for v in of_columns]
                continue
            matrix = MATRICES[name](g, matrix, of_rows, of_columns)
            if name == "transposed":
                of_rows, of_columns = of_columns, of_rows
        name = draw(st.sampled_from(sorted(RESULTS)))
        results.append(RESULTS[name](matrix, of_rows, of_columns))
    cost = sum(T.tanh(result).sum() for result in results)
    variables = [v for v in g.inputs if v in ancestors([cost])]
    wrt = draw(st.lists(st.sampled_from(variables), unique=True, max_size=len(variables)))
    return g, results + (T.grad(cost, wrt) if wrt else [])


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.sampled_from(["float32", "float64"]).flatmap(graphs_of))
def test_values_and_types(graph):
    g, outputs = graph
    # NumPy has no function of more than 32 arguments, which Theano may make of lengths of slices.
    mode = graphs.theano_mode("py").excluding("fusion")
    names = ["rbf_dot", "rbf_sum", "rbf_dot_sum", "rbf_repeated"]
    names += ["local_rbf_subtensor_lift", "local_rbf_gradient_of_slices"]
    with theano.configparser.change_flags(on_opt_error="raise"):
        new, old = (g.compile(outputs, m) for m in (mode, mode.excluding(*names)))
    for a, b in zip(new.maker.outputs, old.maker.outputs):
        assert a.variable.type == b.variable.type
    for a, b in zip(new(*g.values), old(*g.values)):
        assert a.dtype == b.dtype and a.shape == b.shape
        largest = np.nanmax(np.abs(b), initial=1e-2)  # NaN is the mean of no rows
        bound = 3000 * np.finfo(b.dtype).eps * largest
        np.testing.assert_allclose(a, b, rtol=0, atol=bound)
