"""What the Ops here share: checks of inputs, how their C is compiled, and the derivatives of a
kernel Op, which are a gradient Op and a rule for the change in a direction.

Above dtypes. Touches Theano (what moved between its versions by way of theano_api), sources,
forking, and reference for `perform`.
"""

import warnings

import numpy as np
import theano.tensor as T
from theano import config

from rbf_op import forking, reference, sources  # noqa: F401 (forking watches from the start)
from rbf_op.ops.dtypes import common_float, refuse_dtype, widened
from rbf_op.theano_api import Apply, DisconnectedType, OpenMPOp, grad

# Raised by one when the generated C text of an Op changes in a way that sources_hash cannot see.
C_TEXT_VERSION = 1

_PER_CENTRE = ("gamma", "amplitude", "log_amplitude")  # scalars or vectors


def _users_flags():
    """The compiler flags of gcc.cxxflags, which Theano-PyMC 1.1 renamed."""
    try:
        flags = config.gcc__cxxflags
    except AttributeError:
        flags = config.gcc.cxxflags
    return flags.split()


class RBFOp(OpenMPOp):
    """What all Ops here share: checking inputs, and how their C is compiled.

    `input_names` are the inputs with a gradient; a gradient Op has others after them.
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
            if 2 not in self._allowed_ndim(name):
                return "Give one entry per row of x."
            if name in ("x", "y"):
                return "For one row use %s.dimshuffle('x', 0)." % name
            return "For one column use %s.dimshuffle(0, 'x')." % name
        if self.mixture:
            return "Give one entry per term."
        if self.symmetric:
            return "Values per centre make K asymmetric: use symmetric=False with y=x."
        return "Give a scalar or one entry per centre."

    def prepare_node(self, node, storage_map, compute_map, impl):
        OpenMPOp.prepare_node(self, node, storage_map, compute_map, impl)
        if impl == "py" and not config.cxx and not RBFOp._told_of_no_compiler:
            RBFOp._told_of_no_compiler = True
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
        unwanted = [
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
        # Theano removes one for each mention.
        given = _users_flags()
        return [flag for flag in unwanted for _ in range(max(1, given.count(flag)))]

    def c_code_cache_version(self):
        self.update_self_openmp()
        return (C_TEXT_VERSION, sources.sources_hash("c_code"), "openmp=%d" % bool(self.openmp))

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


class ForwardOp(RBFOp):
    """An Op whose derivatives are a gradient Op and a rule in terms of itself.

    Subclasses have `input_names`, `gradient_op()` and `directional_derivative(inputs, directions)`.
    Those are of the first output; where there are more, the gradient Op takes all of them.
    """

    __props__ = ("input_names",)  # not empty: Theano takes an Op with no props for unversioned

    def __init__(self, openmp=True):
        RBFOp.__init__(self, openmp)

    def __str__(self):
        return type(self).__name__

    def c_code(self, node, name, inputs, outputs, sub):
        arguments = tuple(inputs) + tuple("&" + output for output in outputs)
        return self._c_call(arguments, node, sub)

    def connection_pattern(self, node):
        return [[True] + [False] * (len(node.outputs) - 1) for _ in node.inputs]

    def L_op(self, inputs, outputs, output_gradients):
        known = outputs if len(outputs) > 1 else []
        return self.gradient_op()(*inputs, *known, output_gradients[0], return_list=True)

    def R_op(self, inputs, eval_points):
        change = self.directional_derivative(inputs, eval_points)
        outputs = self.make_node(*inputs).outputs
        if change is not None:
            change = T.patternbroadcast(change, outputs[0].broadcastable)
        return [change] + [None] * (len(outputs) - 1)


class FirstGradientOp(RBFOp):
    """Gradients with respect to inputs of F, which is `forward_op()`: one output for each name in
    `wrt`, with the type of that input. Its inputs are those of F, and then what else is given,
    `given_names`. It has no derivative.
    """

    __props__ = ("wrt",)

    def __init__(self, wrt=None, openmp=True):
        RBFOp.__init__(self, openmp)
        names = self.forward_op().input_names
        wrt = names if wrt is None else (wrt,) if isinstance(wrt, str) else tuple(wrt)
        if not wrt or wrt != tuple(n for n in names if n in wrt):
            raise ValueError(
                "%s: wrt must name some of %s, in this order, but is %s."
                % (type(self).__name__, names, wrt)
            )
        self.wrt = wrt

    def make_node(self, *inputs):
        names = self.forward_op().input_names
        inputs = self._as_inputs(inputs, names + self.given_names)
        types = dict(zip(names, (v.type for v in inputs)))
        return Apply(self, inputs, [types[n]() for n in self.wrt])

    def infer_shape(self, *args):
        shapes = dict(zip(self.forward_op().input_names, args[-1]))
        return [shapes[n] for n in self.wrt]

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


class GradientOp(FirstGradientOp):
    """Gradients of sum(grad_output * F(inputs)), and their derivatives.

    What is known of F, `known_names`, is no variable of its own: what depends on it is counted as
    depending on the other inputs.

    Both second-order rules contract the symmetric matrix of second derivatives with one direction,
    so both are the gradient of sum(grad_output * dF), dF the directional derivative of F.
    """

    @property
    def given_names(self):
        return self.known_names + ("grad_output",)

    def connection_pattern(self, node):
        names = self.forward_op().input_names + self.given_names
        return [[name not in self.known_names] * len(self.wrt) for name in names]

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
