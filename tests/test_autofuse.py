"""autofuse: gradients are fused while it is on, and Theano is as it was when it is off again.

Touches rbf_op, Theano and spellings.py.
"""

import contextlib
import importlib.machinery
import importlib.util
import os
import signal
import sys
import threading
import types
from collections import namedtuple

import numpy as np
import pytest

from rbf_op import autofuse  # isort: skip  (mends Theano before its import)

import spellings
import theano
import theano.tensor as T
from processes import run_python

from rbf_op.fusion.values import nodes_of
from rbf_op.ops import RBFDot, RBFDotGrad, RBFKernel, RBFKernelGrad

pytestmark = pytest.mark.usefixtures("only_our_c_code")

MODE = theano.Mode(linker="py", optimizer=None)
# In a list, since enable replaces the functions wherever a module has them under a name.
ORIGINALS = [theano.gradient.grad, theano.gradient.Rop, theano.gradient.jacobian]


@pytest.fixture(autouse=True)
def off_afterwards():
    yield
    autofuse.disable()
    assert_undone()


def assert_undone():
    assert theano.gradient.grad is ORIGINALS[0] is theano.grad is T.grad
    assert theano.gradient.Rop is ORIGINALS[1] is T.Rop
    assert theano.gradient.jacobian is ORIGINALS[2] is T.jacobian


def graph(clip=True):
    x, c, s = T.dmatrix("x"), T.dmatrix("c"), T.dscalar("s")
    distance = spellings.expanded(x, c)
    if clip:
        distance = T.clip(distance, 0, np.inf)
    kernel = T.exp(-s * distance)
    return x, c, s, distance, kernel


def count(outputs, op=RBFKernelGrad):
    outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    return sum(isinstance(node.op, op) for node in nodes_of(outputs))


def values(inputs, outputs):
    rng = np.random.RandomState(0)
    given = [rng.randn(5, 3), rng.randn(4, 3), 0.7][: len(inputs)]
    return theano.function(inputs, outputs, mode=MODE)(*given)


def test_off_by_default():
    x, c, s, _, kernel = graph()
    assert not autofuse.is_enabled()
    assert_undone()
    assert count(theano.grad(kernel.sum(), x)) == 0


def test_importing_the_package_is_enough():
    code = "import rbf_op; rbf_op.autofuse.enable(); report(rbf_op.autofuse.is_enabled())"
    assert run_python(code) is True


def test_a_module_that_gets_theanos_function_later(monkeypatch):
    x, _, _, _, kernel = graph()
    module = types.ModuleType("imports_lazily")
    module.grad = None
    monkeypatch.setitem(sys.modules, module.__name__, module)
    with autofuse.enabled():
        pass
    module.grad = ORIGINALS[0]
    autofuse.enable()
    assert count(module.grad(kernel.sum(), x)) == 1
    autofuse.disable()
    assert module.grad is ORIGINALS[0]


def test_a_lazy_module_is_not_executed(monkeypatch, tmp_path):
    path = tmp_path / "lazy_module.py"
    path.write_text("raise RuntimeError('executed')\n")
    loader = importlib.machinery.SourceFileLoader("lazy_module", str(path))
    loader = importlib.util.LazyLoader(loader)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("lazy_module", loader))
    loader.exec_module(module)
    monkeypatch.setitem(sys.modules, "lazy_module", module)
    autofuse.enable()
    autofuse.disable()
    with autofuse.enabled():
        pass
    with pytest.raises(RuntimeError, match="executed"):
        print(module.anything)


def test_a_module_whose_namespace_is_computed(monkeypatch):
    """As those of apipkg, which import all they have when asked for __dict__."""

    class Computed(types.ModuleType):
        @property
        def __dict__(self):
            raise RuntimeError("asked for")

    monkeypatch.setitem(sys.modules, "computed_module", Computed("computed_module"))
    autofuse.enable()


def test_what_is_no_module_is_left_alone(monkeypatch):
    class Stranger:
        def __getattribute__(self, name):
            raise RuntimeError(name)

    monkeypatch.setitem(sys.modules, "no_module", Stranger())
    autofuse.enable()


@pytest.mark.parametrize("put_on", [autofuse.enable, lambda: autofuse.enabled().__enter__()])
def test_an_error_leaves_nothing_behind(monkeypatch, put_on):
    replace = autofuse._replace

    def fails_once(new_of):
        replace(new_of)
        monkeypatch.setattr(autofuse, "_replace", replace)
        raise RuntimeError("interrupted")

    monkeypatch.setattr(autofuse, "_replace", fails_once)
    with pytest.raises(RuntimeError, match="interrupted"):
        put_on()
    assert not autofuse.is_enabled()
    assert_undone()
    with autofuse.enabled():
        assert autofuse.is_enabled()
    assert_undone()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_child_forked_while_another_thread_holds_the_lock():
    held, forked = threading.Event(), threading.Event()

    def hold():
        with autofuse.enabled(), autofuse._lock:
            held.set()
            forked.wait(60)

    with contextlib.ExitStack() as own:
        own.enter_context(autofuse.enabled())
        thread = threading.Thread(target=hold)
        thread.start()
        assert held.wait(60)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(20)  # ends a child that hangs
                autofuse.enable()
                autofuse.disable()
                assert autofuse.is_enabled() and theano.grad is not ORIGINALS[0]
                own.close()  # the one context that is left
                assert_undone()
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        forked.set()
        thread.join()
    assert status == 0


def test_enable_and_disable():
    x, c, s, _, kernel = graph()
    cost = T.sqr(kernel).sum()
    plain = theano.grad(cost, [x, c, s])
    autofuse.enable()
    autofuse.enable()
    for take in (theano.grad, T.grad, theano.gradient.grad):
        fused = take(cost, [x, c, s])
        assert isinstance(fused, list) and count(fused) == 1
    for a, b in zip(values([x, c, s], plain), values([x, c, s], fused)):
        np.testing.assert_allclose(b, a, atol=1e-12)
    autofuse.disable()
    autofuse.disable()
    assert_undone()
    assert count(theano.grad(cost, x)) == 0


def test_a_report_that_cannot_be_called():
    with pytest.raises(TypeError, match="report must be a function .* got 3 of type int"):
        autofuse.enable(report=3)
    assert not autofuse.is_enabled()
    assert_undone()


def test_contexts_nest_and_leave_enable_in_force():
    x, _, _, _, kernel = graph()
    with autofuse.enabled():
        with autofuse.enabled():
            pass
        assert autofuse.is_enabled()
        assert count(T.grad(kernel.sum(), x)) == 1
    assert_undone()
    autofuse.enable()
    with autofuse.enabled():
        pass
    assert count(T.grad(kernel.sum(), x)) == 1


def test_a_context_ends_with_an_error():
    with pytest.raises(KeyError):
        with autofuse.enabled():
            raise KeyError()
    assert_undone()


def test_a_context_is_for_its_thread():
    x, _, _, _, kernel = graph()
    inside, looked = threading.Event(), threading.Event()
    counts = {}

    def other():
        inside.wait(30)
        counts["other"] = count(theano.grad(kernel.sum(), x))
        looked.set()

    thread = threading.Thread(target=other)
    thread.start()
    with autofuse.enabled():
        inside.set()
        assert looked.wait(60)
        counts["own"] = count(theano.grad(kernel.sum(), x))
    thread.join()
    assert counts == {"own": 1, "other": 0}


def test_many_threads_at_once():
    errors = []

    def work():
        try:
            for _ in range(5):
                x, _, _, _, kernel = graph()
                with autofuse.enabled():
                    assert count(theano.grad(kernel.sum(), x)) == 1
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert_undone()


def test_enable_and_disable_from_many_threads():
    errors, stop = [], threading.Event()

    def toggle():
        while not stop.is_set():
            autofuse.enable()
            autofuse.disable()

    def work():
        try:
            x, c, s, _, kernel = graph()
            for _ in range(10):
                # Fused or not, as it happens to be; right either way, and never half of it.
                gradient = theano.grad(kernel.sum(), x)
                assert count(gradient) in (0, 1)
                with autofuse.enabled():
                    assert count(theano.grad(kernel.sum(), x)) == 1
        except Exception as error:
            errors.append(error)

    togglers = [threading.Thread(target=toggle) for _ in range(2)]
    workers = [threading.Thread(target=work) for _ in range(4)]
    for thread in togglers + workers:
        thread.start()
    for thread in workers:
        thread.join()
    stop.set()
    for thread in togglers:
        thread.join()
    assert not errors, errors
    autofuse.disable()
    assert_undone()


def test_fusing_is_idempotent_when_gradients_are_taken_of_gradients():
    x, c, s, _, kernel = graph(clip=False)
    with autofuse.enabled():
        (first,) = theano.grad(T.sqr(kernel).sum(), [x])
        fused = theano.grad(T.sqr(first).sum(), s)
    plain = theano.grad(T.sqr(theano.grad(T.sqr(kernel).sum(), x)).sum(), s)
    assert count(fused) >= 1
    np.testing.assert_allclose(*[values([x, c, s], g) for g in (plain, fused)], rtol=1e-9)


def test_with_respect_to_parts_of_the_kernel():
    x, c, s, distance, kernel = graph()
    cost = T.sqr(kernel).sum()
    plain = theano.grad(cost, distance), theano.grad(cost, kernel)
    with autofuse.enabled():
        within = theano.grad(cost, distance)
        above = theano.grad(cost, kernel)
        both = theano.grad(cost, [x, distance])
    assert count(within, RBFKernel) == 0 and count(both, RBFKernel) == 0
    assert count(above, RBFKernel) == 1
    for a, b in zip(plain, (within, above)):
        np.testing.assert_allclose(*[values([x, c, s], g) for g in (a, b)], atol=1e-12)


def test_with_respect_to_what_is_computed_from_a_kernel():
    x, c, s, _, kernel = graph()
    hidden = T.dot(kernel, c)
    cost = T.sqr(hidden).sum()
    plain = theano.grad(cost, hidden)
    with autofuse.enabled():
        fused = theano.grad(cost, hidden)
    assert count(fused, RBFKernel) == 1
    np.testing.assert_allclose(*[values([x, c, s], g) for g in (plain, fused)], atol=1e-12)


def test_known_gradients_and_constants():
    x, c, s, _, kernel = graph()
    weights, mean = T.ones_like(kernel) * 3, kernel.mean()
    for arguments in (
        dict(cost=None, known_grads={kernel: weights}),
        dict(cost=kernel.sum(), consider_constant=[c]),
        dict(cost=mean * T.sqr(kernel).sum(), consider_constant={mean}),
    ):
        plain = theano.grad(wrt=[x, c], disconnected_inputs="ignore", **arguments)
        with autofuse.enabled():
            fused = theano.grad(wrt=[x, c], disconnected_inputs="ignore", **arguments)
        assert count(fused) == 1
        for a, b in zip(*[values([x, c, s], g) for g in (plain, fused)]):
            np.testing.assert_allclose(b, a, atol=1e-12)


@pytest.mark.parametrize("prior", [lambda s: 0.1 * s**2, lambda s: 1 / (2 * s**2)])
def test_value_and_gradient_share_a_node(prior):
    """Whatever else depends on what the width is computed from."""
    x, c, s, w = T.dmatrix("x"), T.dmatrix("c"), T.dscalar("s"), T.dvector("w")
    product = T.dot(T.exp(-spellings.squared(x, c) / (2 * s**2)), w)
    cost = T.sqr(product).sum() + prior(s)
    with autofuse.enabled():
        gradient = theano.grad(cost, c)
    mode = theano.Mode(linker="py", optimizer="fast_run")
    function = theano.function([x, c, s, w], [cost, gradient], mode=mode)
    assert [
        sum(isinstance(n.op, o) for n in function.maker.fgraph.toposort())
        for o in (RBFDot, RBFDotGrad)
    ] == [1, 1]


def test_the_relatives_of_grad():
    x, c, s, _, kernel = graph()
    takes = [
        lambda: theano.gradient.Lop(kernel, x, T.ones_like(kernel)),
        lambda: theano.gradient.jacobian(kernel.sum(axis=0), x),
        lambda: theano.gradient.subgraph_grad([s], [c], cost=kernel.sum())[0][0],
    ]
    for take in takes:
        plain = take()
        with autofuse.enabled():
            fused = take()
        assert count(plain, RBFKernel) == 0
        assert count(fused, (RBFKernel, RBFKernelGrad)) >= 1
        np.testing.assert_allclose(*[values([x, c, s], g) for g in (plain, fused)], atol=1e-10)


def test_the_forward_rule():
    # Of x**2 with negative x Theano's own Rop is NaN: differences tell what is right.
    x, c, s, _, kernel = graph(clip=False)
    with autofuse.enabled():
        fused = theano.gradient.Rop(kernel, x, T.ones_like(x))
    assert count(fused, RBFKernel) >= 1
    step = 1e-5
    ahead, behind = (theano.clone(kernel, replace={x: x + h}) for h in (step, -step))
    differences = (ahead - behind) / (2 * step)
    np.testing.assert_allclose(*[values([x, c, s], g) for g in (differences, fused)], atol=1e-8)


def test_equal_intermediates_stay_apart():
    """Gradients with respect to two variables that are computed alike, each in a kernel."""
    x, c, s, _, _ = graph()
    first, second = T.tanh(x), T.tanh(x)
    both = T.exp(-s * spellings.squared(first, second)).sum()
    for a, b in ((first, second), (second, first)):
        cost = T.exp(-s * spellings.squared(a, c)).sum() + 2 * a.sum()
        cost += 3 * T.exp(-s * spellings.squared(b, 2 * c)).sum() + b.sum() + both
        plain = theano.grad(cost, [a, b])
        with autofuse.enabled():
            fused = theano.grad(cost, [a, b])
        assert count(fused) == 3
        for expected, got in zip(values([x, c, s], plain), values([x, c, s], fused)):
            np.testing.assert_allclose(got, expected, atol=1e-12)


def test_gradients_by_a_namedtuple_are_a_list_as_before():
    Parameters = namedtuple("Parameters", "x s")
    x, s = T.dmatrix("x"), T.dscalar("s")
    cost = T.exp(-s * spellings.squared(x, x)).sum()
    with autofuse.enabled():
        gradients = theano.grad(cost, Parameters(x, s))
    assert [g.ndim for g in gradients] == [2, 0]


def test_hessians():
    v, s = T.dvector("v"), T.dscalar("s")
    kernel = T.exp(-s * spellings.expanded(v.dimshuffle(0, "x"), T.sqr(v).dimshuffle(0, "x")))
    plain = theano.gradient.hessian(T.sqr(kernel).sum(), v)
    with autofuse.enabled():
        fused = theano.gradient.hessian(T.sqr(kernel).sum(), v)
    given = np.array([0.3, -0.5, 1.0]), 0.7
    results = [theano.function([v, s], h, mode=MODE)(*given) for h in (plain, fused)]
    np.testing.assert_allclose(*results, atol=1e-10)


def test_theanos_own_errors_and_graphs_without_kernels():
    x = T.dmatrix("x")
    autofuse.enable()
    with pytest.raises(TypeError, match="cost must be a scalar"):
        theano.grad(x, x)
    with pytest.raises(TypeError):
        theano.grad()
    assert count(theano.grad(T.sqr(x).sum(), x), RBFKernel) == 0


def test_functions_that_were_imported_by_name():
    from theano.gradient import grad

    namespace = {"grad": grad}
    module = type(theano)("module_of_a_user")
    module.__dict__.update(namespace)
    import sys

    sys.modules["module_of_a_user"] = module
    try:
        x, _, _, _, kernel = graph()
        autofuse.enable()
        assert count(module.grad(kernel.sum(), x)) == 1
        autofuse.disable()
        assert module.grad is ORIGINALS[0]
    finally:
        del sys.modules["module_of_a_user"]


def _log_of_sums(x, c):
    sums = T.exp(-spellings.squared(x, c)).sum(axis=1)
    return T.log(sums).sum(), sums


def _log_of_all(x, c):
    total = T.exp(-spellings.squared(x, c)).sum()
    return T.log(total), total


def _states(x, c):
    states, _ = theano.scan(
        lambda point, sums: sums + T.exp(-T.sqr(point - c).sum(axis=1)), x, T.zeros_like(c[:, 0])
    )
    return T.sqr(states[-1]).sum(), states


@pytest.mark.parametrize("build", [_log_of_sums, _log_of_all, _states])
def test_what_is_constant_on_the_way_stays(build):
    x, c = T.matrix("x", "float64"), T.matrix("c", "float64")
    cost, part = build(x, c)
    with autofuse.enabled():
        gradient = theano.grad(cost + T.sqr(x).sum(), x, consider_constant=[part])
        theano.grad(cost, part)
    given = np.random.RandomState(3).randn(5, 3)
    function = theano.function([x, c], gradient, mode=MODE, on_unused_input="ignore")
    np.testing.assert_allclose(function(given, given[:4]), 2 * given)
