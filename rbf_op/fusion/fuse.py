"""fuse: Gaussian kernels in an existing graph replaced by the fused node.

The front of this package: finds the kernels by way of search.py and rebuilds the graph around them.
May import Theano by way of theano_api.
"""

from rbf_op.fusion.reduced_loops import batch_loops
from rbf_op.fusion.report import Report
from rbf_op.fusion.search import find_kernels
from rbf_op.fusion.steps import fuse_steps
from rbf_op.fusion.values import rebuild, with_replaced
from rbf_op.theano_api import Variable


def fuse(outputs, report=False, *, keep=()):
    """The same expressions, with every Gaussian kernel in them computed by one fused node.

    Finds exp(-gamma * ||x_i - y_j||^2), with its parameters and any factor, however it is spelled:
    expanded norms, broadcast differences, loops by theano.map and theano.scan. Call it before
    theano.grad, so that the gradient is fused too:

        cost, = fuse([cost])
        gradients = theano.grad(cost, parameters)

    Parameters
    ----------
    outputs : Theano variable, or list or tuple of them
        What is to be computed. Give all that is computed together: a squared distance which
        another of the outputs needs is then not computed twice.
    report : bool
        Return (outputs, report) instead; see fuse_report.
    keep : Theano variable, or list or tuple of them
        What the result must go on being computed from: an intermediate result such as a bandwidth
        that theano.grad is to take as constant (consider_constant), or to differentiate by, or that
        givens or theano.clone replace. A kernel of which that is a part, such as its distance, is
        left alone.

    Returns
    -------
    The outputs in the form given (a variable, a list or a tuple), of the same types. What contains
    no kernel is returned as it is. Values and gradients equal the original's to rounding, and are
    better where the original cancels or is NaN (coincident points under a square root). A kernel
    is replaced only if algebra proves it equal; docs/fuse.md, "What changes", says where rounding,
    overflow or NaN may differ all the same.

    Raises
    ------
    TypeError
        If outputs or keep is neither a Theano variable nor a list or tuple of them.
    ValueError
        If there is a candidate and RBF_OP_DEVICE is no name of a device.
    rbf_op.device.runtime.CUDAUnavailable
        If there is a kernel, RBF_OP_DEVICE is "cuda" and no GPU can be used.
    """
    given, kept = _as_list("fuse: outputs", outputs), _as_list("fuse: keep", keep)
    replaced, found, _ = fuse_graph(given, kept)
    in_steps, more = fuse_steps(replaced, found.left_alone)
    replaced = with_replaced(replaced, in_steps)
    found = Report(found + more)
    if isinstance(outputs, (list, tuple)):
        result = type(outputs)(replaced) if type(outputs) in (list, tuple) else list(replaced)
    else:
        (result,) = replaced
    return (result, found) if report else result


def fuse_report(outputs):
    """What fuse(outputs) would do: a Report, a list of Candidate that prints a paragraph each.

    Each has `fused`, and either the parameters that were matched or the reason why the expression
    was left alone (docs/fuse.md explains them). Takes what fuse takes, and raises what it raises;
    changes nothing.
    """
    return fuse(_as_list("fuse_report: outputs", outputs), report=True)[1]


def _as_list(name, value):
    given = list(value) if isinstance(value, (list, tuple)) else [value]
    for variable in given:
        if not isinstance(variable, Variable):
            raise TypeError(
                "%s must be a Theano variable or a list of Theano variables, but got "
                "%s of type %s." % (name, variable, type(variable).__name__)
            )
    return given


def fuse_graph(outputs, kept=()):
    """(outputs, Report, {original: rebuilt}) with the kernels in a list of outputs fused.

    `kept` variables stay what the outputs are computed from; if their own inputs contain a kernel,
    the mapping has what they became.
    """
    without_loops, left_alone = batch_loops(outputs, kept)
    batched = rebuild(outputs, without_loops) if without_loops else {}
    given, kept = ([batched.get(v, v) for v in variables] for variables in (outputs, kept))
    replacements, report = find_kernels(given, kept)
    rebuilt = rebuild(given, dict(replacements)) if replacements else {}
    new = {old: rebuilt.get(v, v) for old, v in batched.items()}
    new.update(rebuilt)
    return [rebuilt.get(v, v) for v in given], Report(report + left_alone), new


__all__ = ["Report", "fuse", "fuse_graph", "fuse_report"]
