"""The graph nodes, hand-written Theano Ops with OpenMP C code: the kernel matrix, mixtures of them,
its product with weights, its log-sum-exp, their gradients, and squared distances for second order.

Here is what Theano must know of a node (types, shapes, derivatives, cache key). The arithmetic is
below: c_code/ when there is a compiler, reference.py when there is none. The functions that users
call are above, in kernels.py. Touches Theano (what moved between its versions by way of
theano_api), reference, sources and forking.
"""

import re
import warnings

import numpy as np
import theano.tensor as T
from theano import config
from theano.tensor.type import values_eq_approx_always_true

from rbf_op import forking, reference, sources  # noqa: F401 (forking watches from the start)
from rbf_op.theano_api import (
    Apply,
    DisconnectedType,
    Op,
    OpenMPOp,
    common_float,
    grad,
    refuse_dtype,
    widened,
)

# Raised by one when the generated C text below changes in a way that sources_hash cannot see.
_C_TEXT_VERSION = 1

_PER_CENTRE = ("gamma", "amplitude", "log_amplitude")  # scalars or vectors


class _RBFOp(OpenMPOp):
    """What all Ops here share: checking inputs, and how their C is compiled.

    `input_names` are the inputs with a gradient; a gradient Op has grad_output after them.
    Subclasses name the functions that they call: of glue.h (`c_function`), of the kernels
    (`c_kernel`) and, where perform is not their own, of reference.py (`in_numpy`).
    """

    symmetric = False
    mixture = False  # gamma and amplitude have one entry a term, not a column
    known_names = ()  # inputs of a gradient Op after those of F, outputs of F that save work
    _told_of_no_compiler = False

    def __init__(self, openmp):
        # None would mean theano.config.openmp, which is off by default: all cores is the point.
        OpenMPOp.__init__(self, openmp=openmp)

    def _as_inputs(self, inputs, names):
        """Checked and cast Theano variables for make_node."""
        op_name = type(self).__name__
        if len(inputs) != len(names):
            raise TypeError(
                "%s takes the inputs %s, but got %d." % (op_name, ", ".join(names), len(inputs))
            )
        named = [(name, T.as_tensor_variable(v)) for name, v in zip(names, inputs)]
        for name, variable in named:
            allowed = self._allowed_ndim(name)
            if variable.ndim not in allowed:
                raise TypeError(
                    "%s: %s must have %s dimension(s), but has %d (%s). %s"
                    % (
                        op_name,
                        name,
                        " or ".join(map(str, allowed)),
                        variable.ndim,
                        variable.type,
                        self._way_out(name),
                    )
                )
            refuse_dtype(op_name, name, variable)
        dtype = common_float([variable.dtype for _, variable in named])
        return [widened(variable, dtype) for _, variable in named]

    def _allowed_ndim(self, name):
        if name in _PER_CENTRE:
            return (1,) if self.mixture else (0,) if self.symmetric else (0, 1)
        return (2,)

    def _way_out(self, name):
        if name not in _PER_CENTRE:
            return "For one row use %s.dimshuffle('x', 0)." % name
        if self.mixture:
            return "Give one entry per term."
        if self.symmetric:
            return "Values per centre make K asymmetric: use symmetric=False with y=x."
        return "Give a scalar or one entry per centre."

    def prepare_node(self, node, storage_map, compute_map, impl):
        OpenMPOp.prepare_node(self, node, storage_map, compute_map, impl)
        if impl == "py" and not config.cxx and not _RBFOp._told_of_no_compiler:
            _RBFOp._told_of_no_compiler = True
            warnings.warn(
                "rbf_op: Theano has no C++ compiler (its flag cxx is empty), so Gaussian kernels "
                "run in NumPy, on one thread and many times slower. Install g++, for example with "
                "`apt install g++` or `conda install gxx`.",
                RuntimeWarning,
                stacklevel=2,
            )

    # -- C code: one call into c_code/glue.h ---------------------------------------------------

    def c_headers(self, *args, **kwargs):
        return ["<math.h>", "<stdint.h>"] + OpenMPOp.c_headers(self, *args, **kwargs)

    def c_header_dirs(self, *args, **kwargs):
        return [sources.source_directory("c_code")]

    def c_compile_args(self, *args, **kwargs):
        # -g0: Theano asks for debug information, which takes a third of the time to compile. The
        # macro tells NumPy's headers, from 1.25 on, that its allocators (of 1.22) may be used.
        own = ["-g0", "-DNPY_TARGET_VERSION=NPY_1_22_API_VERSION"]
        return own + OpenMPOp.c_compile_args(self, *args, **kwargs)

    def c_no_compile_args(self, *args, **kwargs):
        # NaN, inf, signed zero and the digits of the exponential must survive these among a user's
        # gcc.cxxflags. Flags of an Op's own come before those: -fno-fast-math would be overruled.
        # Below -O2 GCC fuses no multiply-adds; without these it is Theano's own -O3 that counts.
        return [
            "-O",
            "-O0",
            "-O1",
            "-Og",
            "-ffp-contract=off",
            "-ffp-contract=on",
            "-Ofast",
            "-ffast-math",
            "-funsafe-math-optimizations",
            "-fassociative-math",
            "-freciprocal-math",
            "-ffinite-math-only",
            "-fno-signed-zeros",
        ]

    def c_code_cache_version(self):
        self.update_self_openmp()
        return (_C_TEXT_VERSION, sources.sources_hash("c_code"), "openmp=%d" % bool(self.openmp))

    def c_support_code_apply(self, node, name):
        # Only the dtype in use is compiled; the guards inside let nodes share one module.
        real = {"float32": "FLOAT", "float64": "DOUBLE"}[node.inputs[0].dtype]
        return '#define RBF_WITH_%s 1\n#include "glue.h"\n' % real

    def c_init_code(self, *args, **kwargs):
        # Fails to import only if the package went away while its compiled module stayed.
        return [
            """
            {
                PyObject *forking = PyImport_ImportModule("rbf_op.forking");
                PyObject *forked = forking ? PyObject_GetAttrString(forking, "in_forked_child")
                                           : NULL;
                rbf_threads_loaded(forked == Py_True);
                Py_XDECREF(forked);
                Py_XDECREF(forking);
                PyErr_Clear();
            }
            """
        ]

    def _c_call(self, arguments, node, sub):
        """C text that calls the function of glue.h with the kernel of the node's precision."""
        suffix = {"float32": "f32", "float64": "f64"}[node.inputs[0].dtype]
        return "{ if (%s(%s, %s_%s) != 0) { %s } }" % (
            self.c_function,
            ", ".join(arguments),
            self.c_kernel,
            suffix,
            sub["fail"],
        )


class _ForwardOp(_RBFOp):
    """An Op whose derivatives are a gradient Op and a rule in terms of itself.

    Subclasses have `input_names`, `gradient_op()` and `directional_derivative(inputs, directions)`.
    """

    __props__ = ("input_names",)  # not empty: Theano takes an Op with no props for unversioned

    def __init__(self, openmp=True):
        _RBFOp.__init__(self, openmp)

    def __str__(self):
        return type(self).__name__

    def c_code(self, node, name, inputs, outputs, sub):
        arguments = tuple(inputs) + tuple("&" + output for output in outputs)
        return self._c_call(arguments, node, sub)

    def L_op(self, inputs, outputs, output_gradients):
        return self.gradient_op()(*(list(inputs) + [output_gradients[0]]), return_list=True)

    def R_op(self, inputs, eval_points):
        change = self.directional_derivative(inputs, eval_points)
        if change is None:
            return [None]
        return [T.patternbroadcast(change, self.make_node(*inputs).outputs[0].broadcastable)]


class _GradientOp(_RBFOp):
    """Gradients of sum(grad_output * F(inputs)), where F is `forward_op()`: one output for each
    name in `wrt`, with the type of that input.

    What is known of F, `known_names`, is no variable of its own: what depends on it is counted as
    depending on the other inputs.

    Both second-order rules contract the symmetric matrix of second derivatives with one direction,
    so both are the gradient of sum(grad_output * dF), dF the directional derivative of F.
    """

    __props__ = ("wrt",)

    def __init__(self, wrt=None, openmp=True):
        _RBFOp.__init__(self, openmp)
        names = self.forward_op().input_names
        wrt = names if wrt is None else tuple(wrt)
        if not wrt or wrt != tuple(n for n in names if n in wrt):
            raise ValueError(
                "%s: wrt must name some of %s, in this order, but is %s."
                % (type(self).__name__, names, wrt)
            )
        self.wrt = wrt

    def make_node(self, *inputs):
        names = self.forward_op().input_names
        inputs = self._as_inputs(inputs, names + self.known_names + ("grad_output",))
        types = dict(zip(names, (v.type for v in inputs)))
        return Apply(self, inputs, [types[n]() for n in self.wrt])

    def infer_shape(self, *args):
        shapes = dict(zip(self.forward_op().input_names, args[-1]))
        return [shapes[n] for n in self.wrt]

    def connection_pattern(self, node):
        names = self.forward_op().input_names + self.known_names + ("grad_output",)
        return [[name not in self.known_names] * len(self.wrt) for name in names]

    def narrowed(self, wrt):
        """The Op that computes these of the gradients."""
        return type(self)(wrt=wrt, openmp=self.openmp)

    def _gradients(self, inputs):
        """{name: gradient} of all inputs of F, in NumPy."""
        return dict(zip(self.forward_op().input_names, getattr(reference, self.in_numpy)(*inputs)))

    def perform(self, node, inputs, output_storage):
        gradients = self._gradients(inputs)
        for n, storage, output in zip(self.wrt, output_storage, node.outputs):
            storage[0] = np.asarray(gradients[n], dtype=output.dtype)

    def c_code(self, node, name, inputs, outputs, sub):
        arguments = tuple(inputs) + self._c_outputs(self.forward_op().input_names, outputs)
        return self._c_call(arguments, node, sub)

    def _c_outputs(self, names, outputs):
        """C text for each name: where its gradient goes, or that it is not wanted."""
        wanted = dict(zip(self.wrt, ("&" + output for output in outputs)))
        return tuple(wanted.get(n, "NULL") for n in names)

    def L_op(self, inputs, outputs, output_gradients):
        forward = self.forward_op()
        names = forward.input_names
        given = dict(zip(self.wrt, output_gradients))
        directions = [given.get(n) for n in names]
        directions = [
            None if d is None or isinstance(d.type, DisconnectedType) else d for d in directions
        ]
        if all(d is None for d in directions):
            return [DisconnectedType()() for _ in inputs]
        # Copies, so that the gradient stops at this node's inputs even where one of them is
        # computed from another.
        copies = [T.tensor_copy(v) for v in inputs[: len(names)]]
        derivative = forward.directional_derivative(copies, directions)
        derivative = T.patternbroadcast(derivative, inputs[-1].broadcastable)
        gradients = grad((inputs[-1] * derivative).sum(), copies, disconnected_inputs="ignore")
        return list(gradients) + [DisconnectedType()() for _ in self.known_names] + [derivative]

    def R_op(self, inputs, eval_points):
        forward = self.forward_op()
        count = len(forward.input_names)
        copies = [T.tensor_copy(v) for v in inputs[:count]]
        change = T.zeros((), dtype=inputs[-1].dtype)
        if any(d is not None for d in eval_points[:count]):
            derivative = forward.directional_derivative(copies, eval_points[:count])
            change += (inputs[-1] * derivative).sum()
        if eval_points[-1] is not None:
            change += (eval_points[-1] * forward(*copies)).sum()
        wanted = [copies[forward.input_names.index(n)] for n in self.wrt]
        return grad(change, wanted, disconnected_inputs="ignore")


_MATRIX_INPUTS = ("x", "y", "gamma", "amplitude")


class _MatrixOp(_ForwardOp):
    """An Op whose output is a matrix K (n, m) of x (n, d), y (m, d), gamma and amplitude.

    With symmetric=True the inputs are x, gamma, amplitude and y is x.
    """

    __props__ = ("symmetric",)

    def __init__(self, symmetric=False, openmp=True):
        _ForwardOp.__init__(self, openmp)
        self.symmetric = bool(symmetric)

    @property
    def input_names(self):
        return ("x", "gamma", "amplitude") if self.symmetric else _MATRIX_INPUTS

    def with_y(self, values):
        """(x, y, gamma, amplitude, ...) from the node's inputs: y is x when symmetric."""
        return (values[0],) + tuple(values) if self.symmetric else tuple(values)

    def make_node(self, *inputs):
        inputs = self._as_inputs(inputs, self.input_names)
        x, y = self.with_y(inputs)[:2]
        output = T.TensorType(x.dtype, (x.broadcastable[0], y.broadcastable[0]))()
        return Apply(self, inputs, [output])

    def infer_shape(self, *args):
        # Theano passes (node, shapes), Theano-PyMC (fgraph, node, shapes).
        x_shape, y_shape = self.with_y(args[-1])[:2]
        return [(x_shape[0], y_shape[0])]

    def perform(self, node, inputs, output_storage):
        kernel = getattr(reference, self.in_numpy)(*self.with_y(inputs))
        output_storage[0][0] = np.ascontiguousarray(kernel, dtype=node.outputs[0].dtype)

    def c_code(self, node, name, inputs, outputs, sub):
        arguments = self.with_y(inputs) + ("&" + outputs[0], "%d" % self.symmetric)
        return self._c_call(arguments, node, sub)


class _MatrixGradientOp(_GradientOp):
    """Gradients of sum(grad_output * K) with respect to the inputs of a _MatrixOp."""

    __props__ = ("symmetric", "wrt")

    def __init__(self, symmetric=False, wrt=None, openmp=True):
        self.symmetric = bool(symmetric)
        _GradientOp.__init__(self, wrt, openmp)

    def narrowed(self, wrt):
        return type(self)(self.symmetric, wrt=wrt, openmp=self.openmp)

    def _gradients(self, inputs):
        values = self.forward_op().with_y(inputs)
        gradients = dict(zip(_MATRIX_INPUTS, getattr(reference, self.in_numpy)(*values)))
        if self.symmetric:
            gradients["x"] = gradients["x"] + gradients["y"]
        return gradients

    def c_code(self, node, name, inputs, outputs, sub):
        arguments = self.forward_op().with_y(inputs) + self._c_outputs(_MATRIX_INPUTS, outputs)
        return self._c_call(arguments + ("%d" % self.symmetric,), node, sub)


class RBFKernel(_MatrixOp):
    """K[i, j] = amplitude[j] * exp(-gamma[j] * sum_k (x[i, k] - y[j, k])**2).

    Inputs x (n, d), y (m, d), gamma and amplitude () or (m,); output K (n, m). With
    symmetric=True the inputs are x, gamma, amplitude (both scalars) and y is x: half the
    exponentials, K exactly symmetric, its diagonal exactly `amplitude`.

    float32 or float64, any strides. `openmp=False` keeps it on one thread. At run time raises
    ValueError, naming both shapes, when the inputs do not fit together.
    """

    in_numpy = "rbf_kernel"
    c_function, c_kernel = "rbf_forward_apply", "rbf_forward"

    def gradient_op(self):
        return RBFKernelGrad(self.symmetric, openmp=self.openmp)

    def directional_derivative(self, inputs, directions):
        """The change of K when its inputs move in the given directions: the forward rule.

        With dx (n, d), dy (m, d), dgamma, damplitude (each may be None, meaning zero) and
        E = exp(-gamma D):

            dK[i, j] = -K[i, j] * d(gamma[j] D[i, j]) + damplitude[j] * E[i, j]

        None when all directions are.
        """
        if all(d is None for d in directions):
            return None
        unit = self(*(list(inputs[:-1]) + [T.ones((), dtype=inputs[0].dtype)]))
        x, y, gamma, amplitude = self.with_y(inputs)
        dx, dy, dgamma, damplitude = self.with_y(directions)
        change = _change_of_exponent(x, y, gamma, dx, dy, dgamma, self.openmp)
        if change is None:
            return damplitude * unit
        change = -amplitude * change
        return (change if damplitude is None else change + damplitude) * unit


class RBFKernelGrad(_MatrixGradientOp):
    """Gradients of sum(grad_output * K) with respect to the inputs of RBFKernel.

    With G = grad_output, E[i, j] = exp(-gamma[j] D[i, j]) and M = 2 gamma[j] G[i, j] K[i, j]:

        dx[i] = sum_j M[i, j] (y[j] - x[i])       dgamma[j] = -sum_i G[i, j] K[i, j] D[i, j]
        dy[j] = sum_i M[i, j] (x[i] - y[j])       damplitude[j] = sum_i G[i, j] E[i, j]

    Inputs: those of RBFKernel, then grad_output (n, m). Outputs: one for each name in `wrt`, in the
    order x, y, gamma, amplitude (no y when symmetric: dx is then the sum of both), of the shape and
    dtype of that input; of a scalar gamma or amplitude the sum over j. K is recomputed tile by
    tile: nothing of size n * m is stored. Where a row of x equals a centre its contribution is
    exactly zero. Errors as RBFKernel's. docs/gradients.md has the derivation.
    """

    in_numpy = "rbf_kernel_grad"
    c_function, c_kernel = "rbf_gradient_apply", "rbf_gradient"

    def forward_op(self):
        return RBFKernel(self.symmetric, openmp=self.openmp)


class RBFMixture(_MatrixOp):
    """K[i, j] = sum_t amplitude[t] * exp(-gamma[t] * sum_k (x[i, k] - y[j, k])**2).

    Inputs x (n, d), y (m, d), gamma and amplitude (q,); output K (n, m). Distances are computed
    once for all widths. Otherwise as RBFKernel.
    """

    mixture = True
    in_numpy = "rbf_mixture"
    c_function, c_kernel = "rbf_mixture_apply", "rbf_mixture"

    def gradient_op(self):
        return RBFMixtureGrad(self.symmetric, openmp=self.openmp)

    def directional_derivative(self, inputs, directions):
        """The change of K in the given directions (None: zero), by mixtures of other amplitudes.

        dK[i, j] = sum_t exp(-gamma[t] D[i, j]) (damplitude[t]
                   - amplitude[t] (dgamma[t] D[i, j] + gamma[t] dD[i, j]))
        """
        x, y, gamma, amplitude = self.with_y(inputs)
        dx, dy, dgamma, damplitude = self.with_y(directions)
        distance, changes = RBFDistance(openmp=self.openmp), []

        def mixture(amplitudes):
            return self(*(list(inputs[:-1]) + [amplitudes]))

        if dx is not None or dy is not None:
            change = distance.directional_derivative((x, y), (dx, dy))
            changes.append(mixture(-amplitude * gamma) * change)
        if dgamma is not None:
            changes.append(mixture(-amplitude * dgamma) * distance(x, y))
        if damplitude is not None:
            changes.append(mixture(damplitude))
        return sum(changes[1:], changes[0]) if changes else None


class RBFMixtureGrad(_MatrixGradientOp):
    """Gradients of sum(grad_output * K) with respect to the inputs of RBFMixture.

    With E[t, i, j] = exp(-gamma[t] D[i, j]), dx and dy are sums over t of those of RBFKernelGrad,

        dgamma[t] = -amplitude[t] sum_ij G[i, j] D[i, j] E[t, i, j]
        damplitude[t] = sum_ij G[i, j] E[t, i, j]

    Inputs, outputs and errors as RBFKernelGrad's, but that gamma and amplitude have an entry a
    term.
    """

    mixture = True
    in_numpy = "rbf_mixture_grad"
    c_function, c_kernel = "rbf_mixture_gradient_apply", "rbf_mixture_gradient"

    def forward_op(self):
        return RBFMixture(self.symmetric, openmp=self.openmp)


class RBFDot(_ForwardOp):
    """P[i] = sum_j exp(-gamma[j] * sum_k (x[i, k] - y[j, k])**2) * weights[j], K never stored.

    Inputs x (n, d), y (m, d), gamma () or (m,), weights (m, p); output P (n, p). Memory
    O((n + m)(d + p)). An amplitude is a factor of the rows of weights. Sums over j go in blocks,
    which are added in double. Otherwise as RBFKernel.
    """

    input_names = ("x", "y", "gamma", "weights")
    c_function, c_kernel = "rbf_product_apply", "rbf_product"

    def gradient_op(self):
        return RBFDotGrad(openmp=self.openmp)

    def make_node(self, *inputs):
        inputs = self._as_inputs(inputs, self.input_names)
        x, _, _, weights = inputs
        output = T.TensorType(x.dtype, (x.broadcastable[0], weights.broadcastable[1]))()
        return Apply(self, inputs, [output])

    def infer_shape(self, *args):
        x_shape, _, _, weights_shape = args[-1]
        return [(x_shape[0], weights_shape[1])]

    def perform(self, node, inputs, output_storage):
        output_storage[0][0] = reference.rbf_dot(*inputs)

    def directional_derivative(self, inputs, directions):
        """The change of P in the given directions (None: zero), again without K.

        dK as in RBFKernel.directional_derivative; every inner product of a row of x with a row of
        y is taken apart, so that dK W is a sum of products of K with more columns:

            sum_j K[i, j] (a[i] . b[j]) W[j] = sum_k a[i, k] (K (b[:, k] * W))[i]

        All of them are columns of one product.
        """
        if all(d is None for d in directions):
            return None
        x, y, gamma, weights = inputs
        dx, dy, dgamma, dweights = directions
        columns = weights.shape[1]
        centred_x, centred_y = _centred(x, y)
        scaled = _as_column(gamma) * weights
        factors = []  # (a, weights), meaning a[i] * (K weights)[i]; a None meaning 1

        def add_inner_products(a, b, w):
            blocks = b.dimshuffle(0, 1, "x") * w.dimshuffle(0, "x", 1)
            factors.append((a, blocks.reshape((b.shape[0], b.shape[1] * columns))))

        if dweights is not None:
            factors.append((None, dweights))
        if dgamma is not None:
            w = -_as_column(dgamma) * weights
            factors.append((_row_products(centred_x, centred_x), w))
            factors.append((None, _row_products(centred_y, centred_y) * w))
            add_inner_products(-2 * centred_x, centred_y, w)
        if dx is not None:
            factors.append((-2 * _row_products(centred_x, dx), scaled))
            add_inner_products(2 * dx, centred_y, scaled)
        if dy is not None:
            factors.append((None, -2 * _row_products(centred_y, dy) * scaled))
            add_inner_products(2 * centred_x, dy, scaled)
        product = self(x, y, gamma, T.concatenate([w for _, w in factors], axis=1))
        total = T.zeros_like(product[:, :columns])
        start = 0
        for a, w in factors:
            part = product[:, start : start + w.shape[1]]
            start = start + w.shape[1]
            if a is not None:
                part = part.reshape((x.shape[0], a.shape[1], columns))
                part = (a.dimshuffle(0, 1, "x") * part).sum(axis=1)
            total = total + part
        return total


class RBFDotGrad(_GradientOp):
    """Gradients of sum(grad_output * P) with respect to the inputs of RBFDot, again without K.

    Those of RBFKernelGrad for G = grad_output weights.T, which is computed tile by tile, and
    dweights[j] = sum_i exp(-gamma[j] D[i, j]) grad_output[i]. Inputs: those of RBFDot, then
    grad_output (n, p). Outputs: one for each name in `wrt`, in the order x, y, gamma, weights, of
    the shape and dtype of that input. Errors as RBFDot's.
    """

    in_numpy = "rbf_dot_grad"
    c_function, c_kernel = "rbf_product_gradient_apply", "rbf_product_gradient"

    def forward_op(self):
        return RBFDot(openmp=self.openmp)


class RBFLogSumExp(_ForwardOp):
    """L[i] = log sum_j exp(log_amplitude[j] - gamma[j] * sum_k (x[i, k] - y[j, k])**2), stable.

    Inputs x (n, d), y (m, d), gamma and log_amplitude () or (m,); output L (n,), -inf where there
    are no terms (m = 0) or all are zero. Memory O((n + m) d). Otherwise as RBFKernel.

    A second output, which calling the Op does not return, is for its gradient alone: the rest, what
    rounding L left out, 0 where L is not finite. Exponents can be large, and their differences from
    L then need more digits than L has. It counts as a constant.
    """

    input_names = ("x", "y", "gamma", "log_amplitude")
    default_output = 0
    c_function, c_kernel = "rbf_log_sum_apply", "rbf_log_sum"

    def make_node(self, *inputs):
        inputs = self._as_inputs(inputs, self.input_names)
        output = T.TensorType(inputs[0].dtype, inputs[0].broadcastable[:1])
        log_sums, rests = output(), output()
        rests.tag.values_eq_approx = values_eq_approx_always_true  # each has its own
        return Apply(self, inputs, [log_sums, rests])

    def infer_shape(self, *args):
        return [(args[-1][0][0],)] * 2

    def perform(self, node, inputs, output_storage):
        for storage, values in zip(output_storage, reference.rbf_logsumexp(*inputs)):
            storage[0] = values

    def connection_pattern(self, node):
        return [[True, False] for _ in self.input_names]

    def L_op(self, inputs, outputs, output_gradients):
        grad_op = RBFLogSumExpGrad(openmp=self.openmp)
        # Of the inputs' dtype, since exponents of another would not be those that L is of.
        grad_output = T.cast(output_gradients[0], inputs[0].dtype)
        return grad_op(*(list(inputs) + list(outputs) + [grad_output]), return_list=True)

    def R_op(self, inputs, eval_points):
        return _ForwardOp.R_op(self, inputs, eval_points) + [None]

    def directional_derivative(self, inputs, directions):
        """The change of L when its inputs move in the given directions (None: zero).

        With the responsibilities R[i, j] = exp(log_amplitude[j] - gamma[j] D[i, j] - L[i]):

            dL[i] = sum_j R[i, j] (dlog_amplitude[j] - d(gamma[j] D[i, j]))

        Unlike the value and the gradient, this rule forms (n, m) matrices.
        """
        if all(d is None for d in directions):
            return None
        x, y, gamma, log_amplitude = inputs
        change = _change_of_exponent(x, y, gamma, *directions[:3], self.openmp)
        if directions[3] is not None:
            change = directions[3] if change is None else directions[3] - change
        else:
            change = -change
        distance = RBFDistance(openmp=self.openmp)(x, y)
        log_sums, rests = (v.dimshuffle(0, "x") for v in self(*inputs).owner.outputs)
        responsibilities = T.exp((log_amplitude - gamma * distance - log_sums) - rests)
        return (responsibilities * change).sum(axis=1)


def _equal_to_thousandths(a, b):
    """What DebugMode, which gives the NumPy code the log-sum-exp of the C code, may take for equal:
    shares exp(e - L) are off by what e is rounded in either, and e can be thousands."""
    largest = np.max(np.abs(a), where=np.isfinite(a), initial=0)
    return T.TensorType.values_eq_approx(a, b, rtol=1e-3, atol=1e-3 * largest)


class RBFLogSumExpGrad(_GradientOp):
    """Gradients of sum(grad_output * L) with respect to the inputs of RBFLogSumExp.

    Those of RBFKernelGrad with the responsibilities exp(log_amplitude[j] - gamma[j] D[i, j] - L[i])
    in the place of K and grad_output[i] in that of G; dlog_amplitude[j] is the sum over i of the
    responsibilities times grad_output. Inputs: those of RBFLogSumExp, its outputs log_sums and
    rests (n,), then grad_output (n,). Outputs: one for each name in `wrt`, in the order x, y,
    gamma, log_amplitude, of the shape and dtype of that input. Errors as RBFLogSumExp's.
    """

    known_names = ("log_sums", "rests")
    in_numpy = "rbf_logsumexp_grad"
    c_function, c_kernel = "rbf_log_sum_gradient_apply", "rbf_log_sum_gradient"

    def make_node(self, *inputs):
        node = _GradientOp.make_node(self, *inputs)
        for output in node.outputs:
            output.tag.values_eq_approx = _equal_to_thousandths
        return node

    def forward_op(self):
        return RBFLogSumExp(openmp=self.openmp)

    def _allowed_ndim(self, name):
        if name in self.known_names + ("grad_output",):
            return (1,)
        return _GradientOp._allowed_ndim(self, name)


class _SmallOp(Op):
    """An Op without a kernel, whose C code is a function of small_nodes.h.

    That is for graphs that are one C module: a module of its own would take a second to compile,
    which two or three NumPy calls are not worth.
    """

    def make_c_thunk(self, *args, **kwargs):
        raise NotImplementedError("in NumPy")

    def c_header_dirs(self, *args, **kwargs):
        return [sources.source_directory("c_code")]

    def c_support_code(self, *args, **kwargs):
        return '#include "small_nodes.h"\n'

    def c_code_cache_version(self):
        return (_C_TEXT_VERSION, sources.sources_hash("c_code"))


class CheckedEntries(_SmallOp):
    """A vector (or a matrix) as it is, once it is seen to have an entry (or a row) for each row or
    column of another matrix.

    Inputs: the two. For what is not an argument of a node here but divides or multiplies one, so
    that Theano would refuse a wrong length in words that name neither. Raises ValueError, in the
    words of reference.check_entries.
    """

    __props__ = ("function", "argument", "matrix_name", "axis")
    view_map = {0: [0]}

    def __init__(self, function, argument, matrix_name, axis):
        self.function, self.argument = function, argument
        self.matrix_name, self.axis = matrix_name, axis

    def make_node(self, values, matrix):
        return Apply(self, [values, matrix], [values.type()])

    def infer_shape(self, *args):
        return [args[-1][0]]

    def perform(self, node, inputs, output_storage):
        values, matrix = inputs
        reference.check_entries(
            self.function, self.argument, values, self.matrix_name, matrix, self.axis
        )
        output_storage[0][0] = values

    def c_code(self, node, name, inputs, outputs, sub):
        function, argument, matrix_name = map(
            _c_string, (self.function, self.argument, self.matrix_name)
        )
        arguments = function, argument, inputs[0], matrix_name, inputs[1], "%d" % self.axis
        return "{ if (rbf_checked_entries(%s, &%s) != 0) { %s } }" % (
            ", ".join(arguments),
            outputs[0],
            sub["fail"],
        )

    def connection_pattern(self, node):
        return [[True], [False]]

    def L_op(self, inputs, outputs, output_gradients):
        return [output_gradients[0], DisconnectedType()()]

    def R_op(self, inputs, eval_points):
        return [eval_points[0]]


class RBFDistance(_ForwardOp):
    """D[i, j] = sum_k (x[i, k] - y[j, k])**2, by differences: for the rules of second order.

    Inputs x (n, d), y (m, d); output D (n, m). Expanded norms would leave nothing of the distances
    between neighbours where others are far away.
    """

    input_names = ("x", "y")
    c_function, c_kernel = "rbf_distances_apply", "rbf_forward"

    def make_node(self, *inputs):
        x, y = self._as_inputs(inputs, self.input_names)
        output = T.TensorType(x.dtype, (x.broadcastable[0], y.broadcastable[0]))()
        return Apply(self, [x, y], [output])

    def infer_shape(self, *args):
        x_shape, y_shape = args[-1]
        return [(x_shape[0], y_shape[0])]

    def perform(self, node, inputs, output_storage):
        reference.check_columns("rbf_op", *inputs)
        distances = reference.squared_distance(*inputs)
        output_storage[0][0] = np.ascontiguousarray(distances, dtype=node.outputs[0].dtype)

    def L_op(self, inputs, outputs, output_gradients):
        x, y = _centred(*inputs)
        g = output_gradients[0]
        dx = 2 * (x * g.sum(axis=1, keepdims=True) - T.dot(g, y))
        dy = 2 * (y * g.sum(axis=0, keepdims=True).T - T.dot(g.T, x))
        return [T.patternbroadcast(d, v.broadcastable) for d, v in zip((dx, dy), inputs)]

    def directional_derivative(self, inputs, directions):
        """The change of D in the given directions (None: zero): 2 (x - y) . (dx - dy)."""
        one = T.ones((), dtype=inputs[0].dtype)
        return _change_of_exponent(*inputs, one, *directions, None, self.openmp)


class _Median(_SmallOp):
    """The upper median of each column of a matrix, 0 where it is not finite or there are no rows:
    the origin for its rows.

    Rows that are not finite, or lie far from all others, leave it where the others are. No
    derivative: only differences matter.
    """

    __props__ = ()

    def make_node(self, matrix):
        return Apply(self, [matrix], [T.TensorType(matrix.dtype, (matrix.broadcastable[1],))()])

    def infer_shape(self, *args):
        return [(args[-1][0][1],)]

    def perform(self, node, inputs, output_storage):
        (matrix,) = inputs
        median = np.zeros(matrix.shape[1], dtype=matrix.dtype)
        if len(matrix):
            half = len(matrix) // 2
            median = np.partition(matrix, half, axis=0)[half]
        output_storage[0][0] = np.where(np.isfinite(median), median, 0).astype(matrix.dtype)

    def c_code(self, node, name, inputs, outputs, sub):
        return "{ if (rbf_column_medians(%s, &%s) != 0) { %s } }" % (
            inputs[0],
            outputs[0],
            sub["fail"],
        )

    def connection_pattern(self, node):
        return [[False]]

    def L_op(self, inputs, outputs, output_gradients):
        return [DisconnectedType()()]

    def R_op(self, inputs, eval_points):
        return [None]


def _c_string(text):
    """A C string literal of any text: whatever could mean something else is given by its number."""
    numbered = re.sub(rb"\W", lambda found: b"\\%03o" % ord(found.group()), text.encode("utf-8"))
    return '"%s"' % numbered.decode("ascii")


def _change_of_exponent(x, y, gamma, dx, dy, dgamma, openmp):
    """d(gamma[j] D[i, j]) in the given directions; None when all are.

    dgamma[j] * D[i, j] + 2 gamma[j] * (x[i] - y[j]) . (dx[i] - dy[j]), the inner products expanded
    into matrix products about the median of y, so that data far from the origin lose no digits.
    """
    terms = []
    if dgamma is not None:
        terms.append(dgamma * RBFDistance(openmp=openmp)(x, y))
    x, y = _centred(x, y)
    if dx is not None:
        terms.append(2 * gamma * (_row_products(x, dx) - T.dot(dx, y.T)))
    if dy is not None:
        terms.append(2 * gamma * (_row_products(y, dy).T - T.dot(x, dy.T)))
    return sum(terms[1:], terms[0]) if terms else None


def _centred(x, y):
    """x and y about the median of y: their differences stay, their products lose fewer digits."""
    centre = _Median()(y)
    return x - centre, y - centre


def _row_products(a, b):
    """Inner products of the rows of two matrices, as a column."""
    return (a * b).sum(axis=1, keepdims=True)


def _as_column(value):
    """A per-centre vector as a column, a scalar as it is."""
    return value.dimshuffle(0, "x") if value.ndim else value
