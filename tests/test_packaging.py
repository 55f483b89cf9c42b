"""What is shipped is complete: the sdist, the wheel built from it, and the package installed from
that wheel, used from elsewhere.

Builds with the setuptools at hand, without a network. May import the standard library and pytest.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import textwrap
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.slow


def run(*command, **options):
    done = subprocess.run(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
        **options,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def sources():
    """Every file of c_code/ and cuda/, relative to the checkout."""
    found = [
        path.relative_to(ROOT)
        for folder in ("c_code", "cuda")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    assert any(path.suffix == ".h" for path in found)
    assert any(path.parts[0] == "cuda" for path in found)
    return found


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    # From a copy: setuptools would leave build/ and an egg-info, and take over what lies there.
    copy = tmp_path_factory.mktemp("copy") / "source"
    ignored = shutil.ignore_patterns(
        ".venv*", ".git", ".theano", "*.egg-info", "build", "dist", ".*_cache"
    )
    shutil.copytree(ROOT, copy, ignore=ignored)
    run(sys.executable, "setup.py", "-q", "sdist", "-d", copy.parent, cwd=copy)
    (archive,) = copy.parent.glob("*.tar.gz")
    return archive


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index",
        "-w", folder, sdist)  # fmt: skip
    (archive,) = folder.glob("*.whl")
    return archive


def test_sdist_has_everything_to_build_and_test(sdist):
    with tarfile.open(sdist) as archive:
        top = archive.getnames()[0].split("/")[0]
        inside = {name[len(top) + 1 :] for name in archive.getnames()}
    tests = [path.relative_to(ROOT) for path in (ROOT / "tests").rglob("*.py")]
    others = ["setup.py", "pyproject.toml", "Makefile", "LICENSE", "CHANGELOG.md", ".ci/run"]
    for path in [*sources(), *tests, *others]:
        assert str(path) in inside


def test_wheel_has_every_source_file(wheel):
    with zipfile.ZipFile(wheel) as archive:
        inside = {name: archive.read(name) for name in archive.namelist()}
    for path in sources():
        assert inside["rbf_op/" + path.as_posix()] == (ROOT / path).read_bytes()
    for path in (ROOT / "rbf_op").rglob("*.py"):
        assert inside[path.relative_to(ROOT).as_posix()] == path.read_bytes()
    assert not [name for name in inside if name.split("/")[0] in ("tests", "c_code", "cuda")]


def test_installed_wheel_compiles_its_c_code(wheel, tmp_path):
    venv = tmp_path / "venv"
    run(sys.executable, "-m", "venv", venv)
    python = venv / "bin" / "python"
    run(python, "-m", "pip", "install", "--no-deps", "--no-index", wheel)
    # The dependencies come from here: a plain line of a .pth brings a folder, but not the folder's
    # own .pth files, among them the one by which this checkout may be installed.
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    Path(site, "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")

    script = """
        import os, sys
        import rbf_op, rbf_op.ops
        from rbf_op import sources
        import numpy as np, theano, theano.tensor as T
        for path in (rbf_op.__file__, *map(sources.source_directory, ("c_code", "cuda"))):
            assert os.path.realpath(path).startswith(os.path.realpath(sys.prefix)), path

        def refuse(*args, **kwargs):
            raise AssertionError("the NumPy path was taken")
        rbf_op.ops.RBFKernel.perform = refuse

        x, y = T.dmatrices("x", "y")
        kernel = theano.function([x, y], rbf_op.rbf_kernel(x, y, gamma=0.3))
        a, b = np.arange(12.0).reshape(4, 3) / 7, np.arange(6.0).reshape(2, 3) / 5
        expected = np.exp(-0.3 * ((a[:, None] - b) ** 2).sum(axis=2))
        np.testing.assert_allclose(kernel(a, b), expected, rtol=1e-14)
        print(rbf_op.__version__)
    """
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    printed = run(python, "-c", textwrap.dedent(script), cwd=elsewhere, env=environment)
    about = {}
    exec((ROOT / "rbf_op" / "_version.py").read_text(), about)
    assert printed.split()[-1] == about["__version__"]
    assert about["__version__"] in run(venv / "bin" / "rbf-op", "--version", env=environment)
