"""rbf_op.compat: Theano works on this interpreter, nothing works less than before, errors advise.

What has to happen before theano is imported happens in an interpreter of its own. May import
rbf_op and, inside the scripts, theano.
"""

import logging
import os
import subprocess
import sys
import textwrap

import pytest

from rbf_op import compat

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

THEANO_AT_WORK = """
    import numpy as np, theano, theano.tensor as T
    assert theano.config.cxx, "these tests are about compiled code; install g++"

    x = T.matrix(dtype="float64")
    value = np.arange(6.0).reshape(3, 2)
    product = theano.function([x], T.exp(-x).dot(x.T))
    np.testing.assert_allclose(product(value), np.exp(-value).dot(value.T))

    # The state goes round a loop that no rewrite can flatten: r <- tanh(r + row).
    states, _ = theano.scan(lambda row, r: T.tanh(r + row), sequences=x, outputs_info=T.zeros(2))
    loop = theano.function([x], [states[-1], T.grad(states[-1].sum(), x)])
    assert any(type(node.op).__name__ == "Scan" for node in loop.maker.fgraph.apply_nodes)
    expected = [np.zeros(2)]
    for row in value:
        expected.append(np.tanh(expected[-1] + row))
    gradient, back = np.empty_like(value), np.ones(2)
    for i in (2, 1, 0):
        back = gradient[i] = back * (1 - expected[i + 1] ** 2)
    np.testing.assert_allclose(loop(value)[0], expected[-1])
    np.testing.assert_allclose(loop(value)[1], gradient)

    checked = theano.function([x], T.exp(-x).sum(axis=0), mode="DebugMode")
    np.testing.assert_allclose(checked(value), np.exp(-value).sum(axis=0))
"""


def run(*parts, **environment):
    """Runs a script in a fresh interpreter that can import rbf_op; returns what it printed."""
    script = "\n".join(textwrap.dedent(part) for part in parts)
    # Theano is to find out where BLAS is, as it does in a user's process.
    flags = [f for f in os.environ["THEANO_FLAGS"].split(",") if not f.startswith("blas.")]
    environment = dict({"THEANO_FLAGS": ",".join(flags), "PYTHONPATH": ROOT}, **environment)
    done = subprocess.run(
        # setuptools 80 and 81 announce the end of pkg_resources wherever it is imported.
        [sys.executable, "-W", "ignore:pkg_resources", "-c", script],
        env=dict(os.environ, **environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def refusal(script):
    """The message of the ImportError that `import rbf_op` raises after the script."""
    attempt = """
        try:
            import rbf_op
        except ImportError as error:
            print(error)
        else:
            raise SystemExit("import rbf_op was let through")
    """
    return run(script, attempt)


def test_theano_works_and_nothing_is_printed():
    printed = run("import rbf_op", THEANO_AT_WORK)
    if any("blas_opt_info" in text for text in compat.applied):
        assert printed == ""
    else:  # NumPy before 1.22: Theano as it is, with its word on BLAS
        assert len(printed.splitlines()) <= 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_batched_products_without_a_blas_to_link(dtype):
    script = """
        import rbf_op
        import numpy as np
        import theano
        import theano.tensor as T
        assert theano.config.blas.ldflags == ""
        x, y = T.tensor3(dtype="%(dtype)s"), T.tensor3(dtype="%(dtype)s")
        product = T.batched_dot(x, y)
        work = theano.function([x, y], [product] + theano.grad((product**2).sum(), [x, y]))
        a = np.arange(24).reshape(2, 3, 4).astype("%(dtype)s")
        b = np.sin(np.arange(40)).reshape(2, 4, 5).astype("%(dtype)s")
        expected = a @ b
        found = work(a, b)
        for one, other in zip(found, [
            expected, 2 * expected @ b.swapaxes(1, 2), 2 * a.swapaxes(1, 2) @ expected
        ]):
            np.testing.assert_allclose(one, other, rtol=1e-5)
    """
    flags = os.environ["THEANO_FLAGS"] + ",blas.ldflags="
    run(script % {"dtype": dtype}, THEANO_FLAGS=flags)


def test_theano_works_without_pkg_resources():
    uninstalled = 'import sys; sys.modules["pkg_resources"] = None'
    # ... and nobody else is shown a pkg_resources that is none.
    still = 'assert sys.modules["pkg_resources"] is None'
    run(uninstalled, "import rbf_op", THEANO_AT_WORK, still)


def test_theano_imported_before_and_whole():
    # As on an interpreter where Theano imports by itself: something else has helped it here.
    helped = """
        import importlib.util
        spec = importlib.util.spec_from_file_location("somebody_elses_shim", %r)
        shim = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(shim)
        shim.install()
        import theano
        import rbf_op.compat
        hooked = [text for text in rbf_op.compat.applied if "pkg_resources" not in text]
        assert hooked == [], hooked
    """
    run(helped % os.path.join(ROOT, "rbf_op", "compat.py"), THEANO_AT_WORK)


def test_nothing_is_done_where_nothing_is_missing():
    # Give the process all that an old NumPy and setuptools have, then see compat leave it alone.
    script = """
        import sys, types, warnings
        import numpy as np
        warnings.simplefilter("ignore")
        import numpy.distutils
        given = {alias.__name__: alias for alias in (bool, complex, int)}
        for name, alias in given.items():
            setattr(np, name, alias)
        config = types.ModuleType("numpy.distutils.__config__")
        config.blas_opt_info = blas = {}
        np.distutils.__config__ = config
        sys.modules["pkg_resources"] = packages = types.ModuleType("pkg_resources")
        packages.DistributionNotFound = Exception
        hooks = list(sys.meta_path)
        import rbf_op.compat
        scan = [text for text in rbf_op.compat.applied if "scan" in text]
        assert len(scan) == (sys.version_info >= (3, 11))
        assert rbf_op.compat.applied == scan
        assert np.distutils.__config__.blas_opt_info is blas
        assert sys.modules["pkg_resources"] is packages
        assert rbf_op.compat._PkgResourcesForLinalg not in sys.meta_path
    """
    run(script)


def test_the_users_settings_stay():
    script = """
        import os
        before = dict(os.environ)
        import rbf_op, theano, numpy.distutils.misc_util
        assert theano.config.blas.ldflags == "-lm"
        assert dict(os.environ) == before
        # The real package, not a stand-in.
        import numpy as np
        assert numpy.distutils.misc_util.get_numpy_include_dirs() == [np.get_include()]
    """
    flags = ",".join(filter(None, [os.environ.get("THEANO_FLAGS"), "blas.ldflags=-lm"]))
    run(script, THEANO_FLAGS=flags)


def test_installing_twice_does_nothing_more():
    applied, hooks = list(compat.applied), list(sys.meta_path)
    compat.install()
    assert compat.applied == applied
    assert sys.meta_path == hooks


def test_only_the_one_blas_message_is_silenced(caplog):
    logger = logging.getLogger("theano.tensor.blas")
    with caplog.at_level(logging.WARNING, logger="theano.tensor.blas"):
        logger.warning("Failed to import scipy.linalg.blas")
        logger.warning("Using NumPy C-API based implementation for BLAS functions.")
    seen = [record.getMessage() for record in caplog.records]
    assert seen[0] == "Failed to import scipy.linalg.blas"
    silenced = any("blas_opt_info" in text for text in compat.applied)
    assert len(seen) == (1 if silenced else 2)


def test_half_imported_theano():
    message = refusal(
        """
        import sys
        sys.modules["theano.scalar"] = None
        try:
            import theano
        except ImportError:
            del sys.modules["theano.scalar"]
        assert any(name.startswith("theano.") for name in sys.modules)
        """
    )
    assert "`import rbf_op` above the first `import theano`" in message
    assert "restart Python" in message


@pytest.mark.parametrize("version", ["2.0.2", "2.4.0rc1"])
def test_numpy_2(version):
    message = refusal("import numpy; numpy.__version__ = %r" % version)
    assert version in message and "pip install 'numpy<2'" in message


@pytest.mark.parametrize("version", [(3, 7, 16), (3, 12, 1)])
def test_python_that_theano_does_not_run_on(version):
    message = refusal("import sys, numpy; sys.version_info = %r" % (version,))
    assert "3.8, 3.9, 3.10 or 3.11" in message and "%d.%d" % version[:2] in message


def test_theano_not_installed():
    message = refusal(
        """
        import importlib.util
        find_spec = importlib.util.find_spec
        importlib.util.find_spec = lambda name: None if name == "theano" else find_spec(name)
        """
    )
    assert "pip install theano==1.0.5 'numpy<2'" in message


def test_nowhere_to_keep_what_is_compiled():
    hide = """
        import os
        os.environ["THEANO_FLAGS"] = "%s"
    """
    assert "THEANO_FLAGS=base_compiledir=" in refusal(hide % "base_compiledir=/dev/null/cache")
    assert "/dev/null/cache" in refusal(hide % "base_compiledir=/dev/null/cache")
    other = """
        try:
            import rbf_op
        except ValueError as error:
            print(error)
    """
    assert "floatX" in run(hide % "floatX=nothing", other)


def test_distutils_not_installed():
    message = refusal('import sys, numpy; sys.modules["distutils"] = None')
    assert "pip install setuptools" in message
