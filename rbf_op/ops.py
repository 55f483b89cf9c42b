"""The graph nodes: RBFKernel and RBFKernelGrad, hand-written Theano Ops with OpenMP C code.

Here is what Theano must know of a node (types, shapes, derivatives, cache key). The arithmetic is
below: c_code/ when there is a compiler, reference.py when there is none. The functions that users
call are above, in kernels.py. Touches Theano (by way of theano_api), reference and sources.
"""

import numpy as np
import theano.tensor as T

from rbf_op import forking, reference, sources  # noqa: F401 (forking must watch from the start)
from rbf_op.theano_api import (
    Apply,
    DisconnectedType,
    OpenMPOp,
    disconnected_grad,
    local_optimizer,
    register_canonicalize,
)
from rbf_op.theano_api import grad as theano_grad
from rbf_op.theano_api import upcast

# Raised by one when the generated C text below changes in a way that sources_hash cannot see.
_C_TEXT_VERSION = 1

INPUT_NAMES = ("x", "y", "gamma", "amplitude")


def _common_float(name, variables):
    """The variables cast to their common float dtype; TypeError naming a dtype it cannot be."""
    for argument, variable in variables:
        if variable.dtype == "float16" or variable.dtype.startswith("complex"):
            raise TypeError(
                "%s: %s has dtype %s; only float32 and float64 (and integers, which are upcast) "
                "are supported. Cast it first, e.g. theano.tensor.cast(%s, 'float32')."
                % (name, argument, variable.dtype, argument)
            )
    dtype = upcast(*[variable.dtype for _, variable in variables])
    if dtype not in ("float32", "float64"):
        dtype = "float64"
    return [v if v.dtype == dtype else T.cast(v, dtype) for _, v in variables]


def _check_ndim(name, argument, variable, allowed, way_out):
    if variable.ndim not in allowed:
        raise TypeError(
            "%s: %s must have %s dimension(s), but has %d (%s). %s"
            % (
                name,
                argument,
                " or ".join(map(str, allowed)),
                variable.ndim,
                variable.type,
                way_out,
            )
        )


class _RBFOp(OpenMPOp):
    """What both Ops share: inputs (x[, y], gamma, amplitude, ...) and how their C is compiled.

    With `symmetric` there is no input y: the rows of x are the centres as well.
    """

    def __init__(self, openmp):
        # None would mean theano.config.openmp, which is off by default: all cores is the point.
        OpenMPOp.__init__(self, openmp=openmp)

    def _as_inputs(self, inputs, extra=()):
        """Checked and cast Theano variables for make_node, in the order of the node's inputs."""
        name = type(self).__name__
        names = [n for n in INPUT_NAMES if not (self.symmetric and n == "y")] + list(extra)
        if len(inputs) != len(names):
            raise TypeError(
                "%s takes the inputs %s, but got %d." % (name, ", ".join(names), len(inputs))
            )
        named = [(n, T.as_tensor_variable(v)) for n, v in zip(names, inputs)]
        for n, variable in named:
            if n in ("gamma", "amplitude"):
                _check_ndim(name, n, variable, (0, 1), "Give a scalar or one entry per centre.")
            else:
                _check_ndim(
                    name, n, variable, (2,), "For one row use %s.dimshuffle('x', 0)." % n
                )
        return _common_float(name, named)

    def _split(self, values):
        """(x, y, gamma, amplitude, rest...) from the node's inputs, y being x when symmetric."""
        return (values[0],) + tuple(values) if self.symmetric else tuple(values)

    # -- C code: one call into c_code/glue.h ---------------------------------------------------

    def c_headers(self, *args, **kwargs):
        return ["<math.h>", "<stdint.h>"] + OpenMPOp.c_headers(self, *args, **kwargs)

    def c_header_dirs(self, *args, **kwargs):
        return [sources.source_directory("c_code")]

    def c_compile_args(self, *args, **kwargs):
        # NaN, inf and signed zero must survive a user's gcc.cxxflags=-ffast-math.
        return OpenMPOp.c_compile_args(self, *args, **kwargs) + ["-fno-fast-math"]

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

    @staticmethod
    def _c_suffix(node):
        return {"float32": "f32", "float64": "f64"}[node.inputs[0].dtype]


class RBFKernel(_RBFOp):
    """K[i, j] = amplitude[j] * exp(-gamma[j] * sum_k (x[i, k] - y[j, k])**2).

    Inputs x (n, d), y (m, d), gamma and amplitude () or (m,); output K (n, m). With
    symmetric=True the inputs are x, gamma, amplitude (both scalars) and y is x: half the
    exponentials, K exactly symmetric, its diagonal exactly `amplitude`.

    float32 or float64, any strides. `openmp=False` keeps it on one thread. At run time raises
    ValueError, naming both shapes, when the inputs do not fit together.
    """

    __props__ = ("symmetric",)

    def __init__(self, symmetric=False, openmp=True):
        _RBFOp.__init__(self, openmp)
        self.symmetric = bool(symmetric)

    def make_node(self, *inputs):
        inputs = self._as_inputs(inputs)
        x, y, gamma, amplitude = self._split(inputs)
        if self.symmetric and (gamma.ndim or amplitude.ndim):
            raise TypeError(
                "RBFKernel(symmetric=True): gamma and amplitude must be scalars, since per-centre "
                "values make K asymmetric; use RBFKernel() with y=x."
            )
        output = T.TensorType(x.dtype, (x.broadcastable[0], y.broadcastable[0]))()
        return Apply(self, inputs, [output])

    def infer_shape(self, *args):
        # Theano passes (node, shapes), Theano-PyMC (fgraph, node, shapes).
        x_shape, y_shape = self._split(args[-1])[:2]
        return [(x_shape[0], y_shape[0])]

    def perform(self, node, inputs, output_storage):
        output_storage[0][0] = np.ascontiguousarray(
            reference.rbf_kernel(*self._split(inputs)), dtype=node.outputs[0].dtype
        )

    def c_code(self, node, name, inputs, outputs, sub):
        x, y, gamma, amplitude = self._split(inputs)
        return """
        {
            if (rbf_forward_apply(%(x)s, %(y)s, %(gamma)s, %(amplitude)s, &%(output)s,
                                  %(symmetric)d, rbf_forward_%(suffix)s) != 0) {
                %(fail)s
            }
        }
        """ % dict(
            suffix=self._c_suffix(node),
            x=x,
            y=y,
            gamma=gamma,
            amplitude=amplitude,
            output=outputs[0],
            symmetric=self.symmetric,
            fail=sub["fail"],
        )

    def L_op(self, inputs, outputs, output_gradients):
        grad_op = RBFKernelGrad(symmetric=self.symmetric, openmp=self.openmp)
        gradients = grad_op(*(list(inputs) + [output_gradients[0]]))
        return gradients if isinstance(gradients, list) else [gradients]

    def grad(self, inputs, output_gradients):
        return self.L_op(inputs, None, output_gradients)

    def R_op(self, inputs, eval_points):
        derivative = _directional_derivative(
            self._split(inputs), self._split(eval_points), self.openmp
        )
        return [derivative]


class RBFKernelGrad(_RBFOp):
    """Gradients of sum(grad_output * K) with respect to the inputs of RBFKernel.

    Inputs: those of RBFKernel, then grad_output (n, m). Outputs: one for each name in `wrt`, in
    the order x, y, gamma, amplitude, with the type of that input (no y when symmetric). K is
    recomputed tile by tile: nothing of size n * m is stored. Where a row of x equals a centre its
    contribution is exactly zero. docs/gradients.md has the derivation.
    """

    __props__ = ("symmetric", "wrt")

    def __init__(self, symmetric=False, wrt=None, openmp=True):
        _RBFOp.__init__(self, openmp)
        self.symmetric = bool(symmetric)
        possible = tuple(n for n in INPUT_NAMES if not (self.symmetric and n == "y"))
        wrt = possible if wrt is None else tuple(wrt)
        if not wrt or wrt != tuple(n for n in possible if n in wrt):
            raise ValueError(
                "RBFKernelGrad: wrt must name some of %s, in this order, but is %s."
                % (possible, wrt)
            )
        self.wrt = wrt

    def make_node(self, *inputs):
        inputs = self._as_inputs(inputs, extra=("grad_output",))
        by_name = dict(zip(INPUT_NAMES, self._split(inputs)))
        return Apply(self, inputs, [by_name[n].type() for n in self.wrt])

    def infer_shape(self, *args):
        by_name = dict(zip(INPUT_NAMES, self._split(args[-1])))
        return [by_name[n] for n in self.wrt]

    def perform(self, node, inputs, output_storage):
        gradients = dict(
            zip(INPUT_NAMES, reference.rbf_kernel_grad(*self._split(inputs)))
        )
        if self.symmetric:
            gradients["x"] = gradients["x"] + gradients["y"]
        for n, storage, output in zip(self.wrt, output_storage, node.outputs):
            storage[0] = np.asarray(gradients[n], dtype=output.dtype)

    def c_code(self, node, name, inputs, outputs, sub):
        x, y, gamma, amplitude, grad_output = self._split(inputs)
        wanted = dict(zip(self.wrt, outputs))
        return """
        {
            if (rbf_gradient_apply(%(inputs)s, %(outputs)s, %(symmetric)d,
                                   rbf_gradient_%(suffix)s) != 0) {
                %(fail)s
            }
        }
        """ % dict(
            suffix=self._c_suffix(node),
            inputs=", ".join((x, y, gamma, amplitude, grad_output)),
            outputs=", ".join("&" + wanted[n] if n in wanted else "NULL" for n in INPUT_NAMES),
            symmetric=self.symmetric,
            fail=sub["fail"],
        )

    def _contraction(self, inputs, directions):
        """sum(grad_output * dK) with dK the change of K in the given directions, and dK itself.

        Its derivatives are all that second order needs: both the reverse and the forward rule
        contract the (symmetric) matrix of second derivatives with one direction.
        """
        derivative = _directional_derivative(inputs[:4], directions, self.openmp)
        return (inputs[4] * derivative).sum(), derivative

    def L_op(self, inputs, outputs, output_gradients):
        # Copies, so that the gradient below stops at this node's inputs even where one of them
        # is computed from another.
        copies = [T.tensor_copy(v) for v in inputs]
        given = dict(zip(self.wrt, output_gradients))
        directions = [
            None if isinstance(getattr(g, "type", DisconnectedType()), DisconnectedType) else g
            for g in (given.get("x" if self.symmetric and n == "y" else n) for n in INPUT_NAMES)
        ]
        if all(direction is None for direction in directions):
            return [DisconnectedType()() for _ in inputs]
        total, derivative = self._contraction(self._split(copies), directions)
        gradients = theano_grad(
            total,
            copies[:-1],
            consider_constant=[d for d in directions if d is not None] + [copies[-1]],
            disconnected_inputs="ignore",
        )
        return list(gradients) + [derivative]

    def grad(self, inputs, output_gradients):
        return self.L_op(inputs, None, output_gradients)

    def R_op(self, inputs, eval_points):
        copies = [T.tensor_copy(v) for v in inputs]
        x, y, gamma, amplitude, grad_output = self._split(copies)
        directions = self._split(eval_points)
        change = T.zeros_like(grad_output).sum()
        if any(d is not None for d in directions[:4]):
            change += self._contraction(
                (x, y, gamma, amplitude, grad_output), directions[:4]
            )[0]
        if directions[4] is not None:
            kernel = RBFKernel(self.symmetric, openmp=self.openmp)(*copies[:-1])
            change += (directions[4] * kernel).sum()
        names = [n for n in INPUT_NAMES if not (self.symmetric and n == "y")]
        return theano_grad(
            change,
            [copies[names.index(n)] for n in self.wrt],
            consider_constant=[d for d in directions if d is not None] + [copies[-1]],
            disconnected_inputs="ignore",
        )


def _directional_derivative(inputs, directions, openmp):
    """The change of K when its inputs move in the given directions: the forward rule.

    With dx (n, d), dy (m, d), dgamma, damplitude (each may be None, meaning zero) and
    E = exp(-gamma D):

        dK[i, j] = -K[i, j] * (dgamma[j] * D[i, j]
                               + 2 gamma[j] * (x[i] - y[j]) . (dx[i] - dy[j]))
                   + damplitude[j] * E[i, j]

    The inner products are expanded into matrix products about the mean of y, so that data far
    from the origin lose no digits. Returns None when all directions are.
    """
    x, y, gamma, amplitude = inputs
    dx, dy, dgamma, damplitude = directions
    if all(direction is None for direction in directions):
        return None
    symmetric = y is x
    kernel_inputs = (x, gamma) if symmetric and not gamma.ndim else (x, y, gamma)
    unit = RBFKernel(symmetric=len(kernel_inputs) == 2, openmp=openmp)(
        *(kernel_inputs + (T.ones((), dtype=x.dtype),))
    )
    centre = disconnected_grad(y.sum(axis=0) / T.cast(T.maximum(y.shape[0], 1), y.dtype))
    x = x - centre
    y = y - centre
    exponent = None

    def add(term):
        return term if exponent is None else exponent + term

    if dgamma is not None:
        distance = (
            T.sqr(x).sum(axis=1, keepdims=True)
            + T.sqr(y).sum(axis=1, keepdims=True).T
            - 2 * T.dot(x, y.T)
        )
        exponent = add(dgamma * distance)
    if dx is not None:
        exponent = add(2 * gamma * ((x * dx).sum(axis=1, keepdims=True) - T.dot(dx, y.T)))
    if dy is not None:
        exponent = add(2 * gamma * ((y * dy).sum(axis=1, keepdims=True).T - T.dot(x, dy.T)))
    if exponent is None:
        return damplitude * unit
    change = -amplitude * exponent
    if damplitude is not None:
        change = change + damplitude
    return change * unit


@register_canonicalize("fast_compile")
@local_optimizer([RBFKernelGrad])
def local_rbf_gradient_only_what_is_used(node, *args):
    """Replace an RBFKernelGrad some of whose outputs have no clients by one without them.

    Theano removes whole nodes that nobody needs, not single outputs; T.grad always asks an Op for
    the gradients of all its inputs.
    """
    if not isinstance(node.op, RBFKernelGrad):
        return False
    used = [n for n, output in zip(node.op.wrt, node.outputs) if getattr(output, "clients", True)]
    if not used or len(used) == len(node.outputs):
        return False
    smaller = RBFKernelGrad(node.op.symmetric, wrt=used, openmp=node.op.openmp)
    replacements = smaller(*node.inputs, return_list=True)
    old = [output for n, output in zip(node.op.wrt, node.outputs) if n in used]
    return dict(zip(old, replacements))
