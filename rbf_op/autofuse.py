"""Fusing without a change to the code that takes the gradient: for PyMC3, Keras, Lasagne.

    import rbf_op
    rbf_op.autofuse.enable()

From then on theano.grad and its relatives fuse what they differentiate first, so that both the
kernel and its gradient are one node. Off unless asked for. May import Theano and fusion/.
"""

import contextlib
import functools
import inspect
import os
import sys
import threading
import types
from collections import OrderedDict
from collections.abc import Iterable

import theano
import theano.gradient

from rbf_op.fusion.fuse import fuse_graph
from rbf_op.theano_api import Variable

# What is wrapped, and its argument with the expressions to fuse.
_FUNCTIONS = {
    "grad": "cost",
    "Rop": "f",
    "Lop": "f",
    "jacobian": "expression",
    "hessian": "cost",
    "subgraph_grad": "cost",
}

# Of a module, whatever its class made of __dict__: asking a lazy module would execute it.
_namespace_of = types.ModuleType.__dict__["__dict__"].__get__

_lock = threading.RLock()
_originals = {}  # function name -> original
_wrappers = {}  # function name -> wrapper
_without = {}  # name of a module that has none of them -> (its id, its number of names)
_enabled = False
_report = None  # what is called with each Report
_contexts = 0  # contexts open in any thread
_local = threading.local()


def enable(report=None):
    """Let theano.grad, Rop, Lop, jacobian, hessian and subgraph_grad fuse first, in all threads.

    Calling it again changes nothing but `report`: a function, such as print, that is called with
    the Report (see fuse_report) of each gradient in which a candidate was found. The gradient is
    taken of a copy of what is computed from a kernel: replacing such a variable later, by givens or
    theano.clone, changes the value but not the gradient. TypeError if report cannot be called.
    """
    global _enabled, _report
    if report is not None and not callable(report):
        raise TypeError(
            "autofuse.enable: report must be a function of one argument, a Report, such as print, "
            "but got %r of type %s." % (report, type(report).__name__)
        )
    with _lock:
        _without.clear()
        _install()
        _enabled, _report = True, report


def disable():
    """Undo enable: Theano's own functions are back in place. Open contexts stay in force."""
    global _enabled, _report
    with _lock:
        _enabled, _report = False, None
        _without.clear()
        _uninstall_if_unused()


def is_enabled():
    """Whether a gradient taken now, in this thread, would be fused first."""
    return _enabled or getattr(_local, "depth", 0) > 0


@contextlib.contextmanager
def enabled():
    """As enable, for the duration of a with statement and in this thread only. Contexts nest."""
    global _contexts
    with _lock:
        _install()
        _contexts += 1
    _local.depth = getattr(_local, "depth", 0) + 1
    try:
        yield
    finally:
        _local.depth -= 1
        with _lock:
            _contexts -= 1
            _uninstall_if_unused()


def _install():
    if not _wrappers:
        _originals.update({name: getattr(theano.gradient, name) for name in _FUNCTIONS})
        # All at once: another thread may fork in between.
        _wrappers.update({n: _fusing_first(_originals[n], a) for n, a in _FUNCTIONS.items()})
    try:
        _replace({id(_originals[name]): wrapper for name, wrapper in _wrappers.items()})
    except BaseException:
        _uninstall_if_unused()
        raise


def _uninstall_if_unused():
    if _wrappers and not _enabled and not _contexts:
        _replace({id(_wrappers[name]): original for name, original in _originals.items()})


def _replace(new_of):
    """Put the new function wherever a module has the old, as after `from theano import grad`.

    new_of: {id of the old: the new}. Contexts are opened often, and a client has thousands of
    modules: those that had neither are looked at again if the number of their names has changed,
    or after enable or disable.
    """
    known = {id(f) for functions in (_originals, _wrappers) for f in functions.values()}
    for module_name, module in list(sys.modules.items()):
        if not issubclass(type(module), types.ModuleType):
            continue
        namespace = _namespace_of(module)
        if namespace is None or module_name.split(".")[0] == "rbf_op":
            continue
        looked_at = id(module), len(namespace)
        if _without.get(module_name) == looked_at:
            continue
        held = [name for name, value in list(namespace.items()) if id(value) in known]
        for name in held:
            namespace[name] = new_of.get(id(namespace[name]), namespace[name])
        if not held:
            _without[module_name] = looked_at


def _after_fork_in_child():
    """Other threads are not in the child: neither those in a context, nor one with the lock."""
    global _lock, _contexts
    _lock = threading.RLock()
    _contexts = getattr(_local, "depth", 0)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def _fusing_first(original, argument):
    signature = inspect.signature(original)

    @functools.wraps(original)
    def wrapper(*args, **kwargs):
        if not is_enabled() or getattr(_local, "inside", False):
            return original(*args, **kwargs)
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:  # for Theano to report
            return original(*args, **kwargs)
        _local.inside = True
        try:
            _fuse_arguments(bound.arguments, argument)
        finally:
            _local.inside = False
        return original(*bound.args, **bound.kwargs)

    return wrapper


def _variables(value):
    if isinstance(value, Variable):
        return [value]
    if isinstance(value, (list, tuple)):
        return [v for v in value if isinstance(v, Variable)]
    return []


def _fuse_arguments(arguments, argument):
    """Replace expressions by fused ones, and what they are differentiated by accordingly."""
    constant = arguments.get("consider_constant")
    if isinstance(constant, Iterable) and not isinstance(constant, Variable):
        arguments["consider_constant"] = list(constant)
    known = arguments.get("known_grads") or {}
    outputs = _variables(arguments.get(argument)) + _variables(list(known))
    if not outputs:
        return
    related = ("wrt", "consider_constant", "end")
    kept = [v for name in related for v in _variables(arguments.get(name))]
    kept += list(known) + list(arguments.get("start") or {})
    _, found, new = fuse_graph(outputs, kept)
    report = _report
    if report is not None and found:
        report(found)
    if not new:
        return
    for name in (argument,) + related:
        if name in arguments:
            arguments[name] = _mapped(arguments[name], new)
    for name in ("known_grads", "start"):
        if isinstance(arguments.get(name), dict):
            given = arguments[name]
            arguments[name] = OrderedDict((new.get(v, v), g) for v, g in given.items())


def _mapped(value, new):
    if isinstance(value, Variable):
        return new.get(value, value)
    if isinstance(value, (list, tuple)):
        return (list if isinstance(value, list) else tuple)(_mapped(v, new) for v in value)
    return value
