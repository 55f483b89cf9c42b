"""The virtual environments of contenders whose NumPy or size keeps them out of the package's own.

Made on first use beside the checkout's .venv, one a contender, so that one that cannot be
installed takes no other with it. RBF_OP_BENCH_ENVIRONMENTS names another folder for them, so that
checkouts can share them. Standard library only.
"""

import os
import subprocess
import sys
import venv

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# CPU builds only: where PyPI's own wheel is one for GPUs, the local version tag excludes it.
_TORCH = "torch==2.13.0+cpu" if sys.platform.startswith("linux") else "torch==2.13.0"
_TORCH_INDEX = ["--extra-index-url", "https://download.pytorch.org/whl/cpu"]

REQUIREMENTS = {
    "torch": [_TORCH, "numpy"],
    "jax": ["jax"],
    "numba": ["numba"],
    "intelex": ["scikit-learn-intelex"],
    "keops": [_TORCH, "numpy", "pykeops"],
}

# The first of these that installs is taken.
_EXTRA_ARGUMENTS = {"torch": ([], _TORCH_INDEX), "keops": ([], _TORCH_INDEX)}

BUILD_SECONDS = 900


def folder(name):
    """Where the environment `name` lives: in $RBF_OP_BENCH_ENVIRONMENTS, or the checkout."""
    parent = os.environ.get("RBF_OP_BENCH_ENVIRONMENTS") or ROOT
    return os.path.join(os.path.abspath(parent), ".venv-bench-%s" % name)


def python(name):
    """Its interpreter; the running one for name None."""
    if name is None:
        return sys.executable
    return os.path.join(folder(name), "bin", "python")


def _stamp(name):
    return os.path.join(folder(name), "complete")


def _wanted(name):
    return "%d.%d %s\n" % (sys.version_info[:2] + (" ".join(REQUIREMENTS[name]),))


def is_ready(name):
    """Whether it exists and holds what REQUIREMENTS asks for, for this version of Python."""
    if name is None:
        return True
    try:
        with open(_stamp(name)) as stamp:
            return stamp.read() == _wanted(name)
    except OSError:
        return False


def build(name):
    """Make the environment; returns None, or in one line why it cannot be had.

    pip's output is kept in the environment's pip.log.
    """
    venv.EnvBuilder(with_pip=True, clear=True).create(folder(name))
    log_name = os.path.join(folder(name), "pip.log")
    command = [python(name), "-m", "pip", "install", "--disable-pip-version-check"]
    for extra in _EXTRA_ARGUMENTS.get(name, ([],)):
        with open(log_name, "a") as log:
            try:
                code = subprocess.call(
                    command + extra + REQUIREMENTS[name],
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    timeout=BUILD_SECONDS,
                )
            except subprocess.TimeoutExpired:
                code = None
        if code == 0:
            with open(_stamp(name), "w") as stamp:
                stamp.write(_wanted(name))
            return None
    with open(log_name) as log:
        errors = [line.strip() for line in log if line.startswith("ERROR")]
    reason = errors[-1] if errors else "pip gave up after %d s" % BUILD_SECONDS
    return "%s (see %s)" % (reason, os.path.relpath(log_name, ROOT))
