"""Makes Theano 1.0.5 (and Theano-PyMC) import and work on today's Python 3.8-3.11 and NumPy 1.x.

Called by rbf_op before it imports theano. Writes nothing to disk: only the running process is
mended, only where something is missing, and by the smallest means that serves; where Theano works
as it is, nothing happens. May import the standard library and NumPy; never theano.
"""

import importlib
import importlib.machinery
import importlib.util
import logging
import os
import sys
import types
import warnings

#: What install() had to do in this process, in words (empty where Theano works as it is).
applied = []

_theano_came_next = False  # whether install() was done before Theano was imported


def install():
    """Mend what stops Theano here; calling it again does nothing more.

    Raises ImportError, saying what to do, when Theano is not installed or was half imported
    earlier, and when Python or NumPy is one that Theano cannot work with.
    """
    global _theano_came_next
    import numpy as np

    imported = _theano_is_imported()
    if not imported and not (3, 8) <= tuple(sys.version_info[:2]) <= (3, 11):
        raise ImportError(
            "rbf_op needs Python 3.8, 3.9, 3.10 or 3.11: Theano 1.0.5 does not build or run on "
            "Python %d.%d. Make an environment with one of those, for example with "
            "`python3.11 -m venv env`." % tuple(sys.version_info[:2])
        )
    if int(np.__version__.split(".")[0]) >= 2:
        raise ImportError(
            "rbf_op needs NumPy 1.x: the C code of Theano 1.0.5 does not compile with the NumPy %s "
            "installed here. Run: pip install 'numpy<2'" % np.__version__
        )
    directory = _theano_directory(imported)
    _restore_numpy_names(np)
    if not imported:
        _tell_theano_about_blas()
    _let_scan_run_without_its_extension(directory)
    _let_theano_do_without_pkg_resources()
    _theano_came_next = not imported


def name_the_remedy(error):
    """Raise ImportError if this is how Theano's import ends where it cannot keep what it compiles.

    Of any other error nothing is said. Theano's own traceback, thirty lines of its modules, is left
    out.
    """
    if "compiledir" in str(error):
        raise ImportError(
            "Theano cannot keep what it compiles: %s Or name another folder with "
            "THEANO_FLAGS=base_compiledir=/path/to/folder" % error
        ) from error.with_traceback(None)


def _theano_is_imported():
    """True if theano is imported and whole, False if it is not imported at all."""
    loaded = [
        name
        for name, module in sys.modules.items()
        if module is not None and (name == "theano" or name.startswith("theano."))
    ]
    if not loaded:
        return False
    theano = sys.modules.get("theano")
    # The last names that theano/__init__.py defines, in Theano and in Theano-PyMC.
    if hasattr(theano, "sparse_grad") and hasattr(theano, "scan"):
        return True
    # Some of its modules stay behind after a failed import, and a second import trips over them.
    if _theano_came_next:
        raise ImportError(
            "rbf_op was imported before in this process, and the import of Theano that belongs to "
            "it did not finish. Do what its error said, then restart Python (or the notebook's "
            "kernel)."
        )
    raise ImportError(
        "theano was imported before rbf_op, and that import did not finish: Theano 1.0.5 needs "
        "what rbf_op.compat supplies on this Python and NumPy, but it must come first. Put "
        "`import rbf_op` above the first `import theano`, then restart Python (or the notebook's "
        "kernel)."
    )


def _theano_directory(imported):
    if imported:
        return os.path.dirname(sys.modules["theano"].__file__)
    spec = importlib.util.find_spec("theano")
    if spec is None or spec.origin is None:  # no origin: a mere folder called theano
        raise ImportError(
            "rbf_op needs Theano, which is not installed. Run: pip install theano==1.0.5 'numpy<2'"
        )
    return os.path.dirname(spec.origin)


def _restore_numpy_names(np):
    # Theano asks for np.bool and np.complex, Theano-PyMC for np.int too, gone since NumPy 1.24.
    # Each was an alias of the builtin; no others are put back.
    for alias in (bool, complex, int):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy 1.20-1.23 has them, and warns
            missing = not hasattr(np, alias.__name__)
        if missing:
            setattr(np, alias.__name__, alias)
            applied.append("numpy.%s put back" % alias.__name__)


def _tell_theano_about_blas():
    # For the default of its flag blas.ldflags Theano asks numpy.distutils.__config__.blas_opt_info,
    # which wheels of NumPy lack since 1.22. Empty means "not known": Theano goes on to try -lblas
    # and else calls NumPy's own BLAS. An attribute is enough, numpy.distutils itself stays real;
    # setting the flag instead would override the user's .theanorc.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it announces its end
            distutils = importlib.import_module("numpy.distutils")
    except ImportError as error:
        raise ImportError(
            "Theano needs distutils, of which this Python lacks a part (%s). Run: pip install "
            "setuptools (or, on Debian and Ubuntu, apt install python3-distutils)" % error
        ) from error
    if not hasattr(distutils, "__config__"):  # NumPy 1.26
        distutils.__config__ = types.ModuleType("numpy.distutils.__config__")
    if not hasattr(distutils.__config__, "blas_opt_info"):
        distutils.__config__.blas_opt_info = {}
        applied.append("numpy.distutils.__config__.blas_opt_info defined as empty")
        # Without a libblas Theano now warns, at every import, that it calls NumPy's BLAS. That is
        # as fast as NumPy and the same in result: no news. The logger's other messages pass.
        logging.getLogger("theano.tensor.blas").addFilter(
            lambda record: "NumPy C-API based implementation for BLAS" not in record.getMessage()
        )


def _let_scan_run_without_its_extension(theano_directory):
    # Theano ships scan_perform.c as an old Cython wrote it, which does not compile on 3.11. That is
    # an error to Theano, whereas a failed *import* (None in sys.modules) makes Scan use its own
    # loop in Python, equally right.
    if sys.version_info[:2] < (3, 11):
        return
    for package in ("scan_module", "scan"):  # Theano, Theano-PyMC
        name = "theano.%s.scan_perform_ext" % package
        if os.path.isdir(os.path.join(theano_directory, package)) and name not in sys.modules:
            sys.modules[name] = None
            applied.append("%s left out, Scan loops in Python" % name)


class _PkgResourcesForLinalg:
    """Import hook that shows theano.gpuarray.linalg a pkg_resources while it is being loaded."""

    module = "theano.gpuarray.linalg"

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        if fullname != cls.module:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is not None:
            load = spec.loader.exec_module

            def exec_module(module):
                substitute = types.ModuleType("pkg_resources")
                substitute.DistributionNotFound = type("DistributionNotFound", (Exception,), {})
                before = {k: sys.modules[k] for k in ("pkg_resources",) if k in sys.modules}
                sys.modules["pkg_resources"] = substitute
                try:
                    load(module)
                finally:
                    del sys.modules["pkg_resources"]
                    sys.modules.update(before)

            spec.loader.exec_module = exec_module
        return spec


def _let_theano_do_without_pkg_resources():
    # Scan and DebugMode import theano.gpuarray even on a CPU, and its linalg imports pkg_resources,
    # for the name of one exception. setuptools 82 dropped it. A substitute left in sys.modules
    # would fool whoever else asks for pkg_resources, so it is there for that one import only.
    if (
        sys.modules.get("pkg_resources") is None
        and importlib.util.find_spec("pkg_resources") is None
        and _PkgResourcesForLinalg.module not in sys.modules
        and _PkgResourcesForLinalg not in sys.meta_path
    ):
        sys.meta_path.insert(0, _PkgResourcesForLinalg)
        applied.append("pkg_resources supplied to %s" % _PkgResourcesForLinalg.module)
