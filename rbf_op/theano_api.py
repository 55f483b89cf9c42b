"""The Theano names the package uses, under whichever layout the installed Theano has.

Theano 1.0.5 and Theano-PyMC 1.0.x keep graphs and Ops in theano.gof; Theano-PyMC 1.1 moved them to
theano.graph. Where the two differ in more than place, the function here takes either.
May import Theano and the standard library only.
"""

import functools

from theano import clone, scalar
from theano.compile import optdb
from theano.gradient import DisconnectedType, disconnected_grad, grad
from theano.scalar import upcast
from theano.tensor.opt import Assert as _Assert
from theano.tensor.opt import register_canonicalize

try:
    from theano.gof import (
        Apply,
        Constant,
        FunctionGraph,
        OpenMPOp,
        TopoOptimizer,
        Variable,
    )
    from theano.gof import opt as _opt
    from theano.gof.graph import ancestors
    from theano.gof.graph import clone as clone_graph
except ImportError:  # Theano-PyMC 1.1
    from theano.graph import opt as _opt
    from theano.graph.basic import Apply, Constant, Variable, ancestors
    from theano.graph.basic import clone as clone_graph
    from theano.graph.fg import FunctionGraph
    from theano.graph.op import OpenMPOp
    from theano.graph.opt import TopoOptimizer

try:
    from theano.gof import CLinker
except ImportError:  # Theano-PyMC
    from theano.link.c.basic import CLinker

try:
    from theano.scan_module.scan_op import Scan
except ImportError:  # Theano-PyMC
    from theano.scan.op import Scan

# The class of Ops that may have C code: Theano's Op, of which Theano-PyMC made one below it.
Op = next(c for c in OpenMPOp.__mro__ if "make_c_thunk" in vars(c))

# Theano-PyMC gave these longer names.
Maximum = getattr(scalar, "Maximum", None) or scalar.ScalarMaximum
Minimum = getattr(scalar, "Minimum", None) or scalar.ScalarMinimum

# Theano-PyMC gave its base class of whole-graph rewrites a longer name.
GlobalOptimizer = getattr(_opt, "GlobalOptimizer", None) or _opt.Optimizer


class Assert(_Assert):
    """Theano's, with the derivative in a direction that it lacks."""

    def R_op(self, inputs, eval_points):
        return [eval_points[0]]


def local_optimizer(tracks):
    """Theano's decorator of the same name, for a function of one node: rewrite(node, fgraph).

    Theano calls a rewrite with (node), Theano-PyMC with (fgraph, node). Here fgraph, the graph that
    the node lies in, is passed by both, second.
    """

    def decorate(rewrite):
        @functools.wraps(rewrite)
        def call(*args):
            node = args[-1]
            return rewrite(node, args[0] if len(args) == 2 else node.fgraph)

        return _opt.local_optimizer(tracks)(call)

    return decorate


def clients(fgraph, variable):
    """The (node, index) pairs that use a variable; for a result of the graph, ("output", index)."""
    if isinstance(fgraph.clients, dict):  # Theano-PyMC; a method in Theano
        return fgraph.clients[variable]
    return fgraph.clients(variable)


def replace(fgraph, pairs, reason):
    """Replace all of the (old, new) pairs, or none if a type would change."""
    if all(old.type == new.type for old, new in pairs):
        for old, new in pairs:
            trace_to(old, new, fgraph.apply_nodes)
        fgraph.replace_all_validate(pairs, reason=reason)


def trace_to(old, new, known):
    """Errors of what a new variable is computed by, but for the known nodes, name the line of a
    user's that the old one is from."""
    trace, stack, seen = getattr(old.tag, "trace", []), [new], set()
    while stack:
        node = stack.pop().owner
        if node is not None and node not in known and node not in seen:
            seen.add(node)
            for output in node.outputs:
                output.tag.trace = trace
            stack.extend(node.inputs)


def register_rewrite(name, rewrite, position, *tags):
    """Register a rewrite of whole graphs in optdb, once.

    A mode that excluded the name earlier left an empty entry of it, which Theano takes for a clash.
    """
    if name not in optdb.__position__:
        if not optdb.__db__.get(name):
            optdb.__db__.pop(name, None)
        optdb.register(name, rewrite, position, *tags)
