"""`rbf-op run`: programs run unchanged, as under python, and their gradients fused.

Touches the command line, in processes of its own.
"""

import os
import subprocess
import sys
import zipfile

import pytest
from processes import HERE, PACKAGE_ROOT

PROGRAM = """
from __future__ import annotations
import atexit, pickle, sys
import theano, theano.tensor as T
import neighbour

class Model:
    pass

x, c = T.dmatrices("xc")
kernel = T.exp(-((x[:, None, :] - c[None, :, :]) ** 2).sum(axis=2))
gradient = T.grad(kernel.sum(), x)
nodes = theano.gof.graph.ops([x, c], [gradient])
print(__name__, __file__, sys.argv, neighbour.name)
print(any(type(node.op).__name__ == "RBFKernelGrad" for node in nodes))
print(type(pickle.loads(pickle.dumps(Model()))) is Model)
atexit.register(lambda: print("left", x.name))
sys.exit(int(sys.argv[1]))
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "train.py").write_text(PROGRAM)
    (tmp_path / "neighbour.py").write_text("name = __name__")
    return tmp_path


def rbf_op(folder, *arguments, before=""):
    """`rbf-op` in a folder."""
    code = before + "import sys; from rbf_op.cli import main; main(sys.argv[1:])"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
        env=dict(os.environ, PYTHONPATH=os.pathsep.join([PACKAGE_ROOT, HERE])),
        cwd=str(folder),
    )


@pytest.mark.parametrize("before", ["", "import sys; sys.modules['click'] = None; "])
@pytest.mark.parametrize("options", [[], ["--report"]])
@pytest.mark.parametrize("module", [False, True])
def test_a_program_is_run_and_fused(folder, module, options, before):
    program = ["-m", "train"] if module else ["train.py"]
    result = rbf_op(folder, "run", *options, *program, "3", "--report", before=before)
    assert result.returncode == 3, result.stderr
    file = str(folder / "train.py")
    given = [file if module else "train.py", "3", "--report"]
    first, fused, pickled, left = result.stdout.splitlines()
    assert first == "__main__ %s %r neighbour" % (file, given)
    assert (fused, pickled, left) == ("True", "True", "left x")
    assert ("1 of 1 candidates" in result.stderr) == bool(options)


@pytest.mark.parametrize("before", ["", "import sys; sys.modules['click'] = None; "])
def test_a_file_that_is_not_there(folder, before):
    result = rbf_op(folder, "run", "no.py", before=before)
    assert result.returncode == 2
    assert result.stderr.splitlines() == ["rbf-op run: there is no file no.py"]


def test_errors_of_a_program_are_its_own(folder):
    (folder / "train.py").write_text("def step():\n    return [][0]\n\nstep()\n")
    result = rbf_op(folder, "run", "train.py")
    assert result.returncode == 1
    lines = [line.strip() for line in result.stderr.splitlines() if line.strip(" ^~")]
    file = folder / "train.py"
    assert lines == [
        "Traceback (most recent call last):",
        'File "%s", line 4, in <module>' % file,
        "step()",
        'File "%s", line 2, in step' % file,
        "return [][0]",
        "IndexError: list index out of range",
    ]


def test_a_program_that_cannot_be_compiled(folder):
    (folder / "train.py").write_text("def step(:\n")
    result = rbf_op(folder, "run", "train.py")
    assert result.returncode == 1
    lines = result.stderr.splitlines()
    assert "line 1" in lines[0] and lines[-1].startswith("SyntaxError: ")


LATE = """
import atexit, pickle, sys, threading

class Model:
    pass

def late():
    print(type(pickle.loads(pickle.dumps(Model()))) is Model, sys.argv[1:], __builtins__.len(""))

threading.Timer(0.2, late).start()
atexit.register(late)
"""


@pytest.mark.parametrize("way", ["file", "module", "package", "folder", "archive"])
def test_what_a_program_leaves_to_threads_and_to_its_end(folder, way):
    package = folder / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(LATE)
    (folder / "late.py").write_text(LATE)
    with zipfile.ZipFile(str(folder / "late.zip"), "w") as archive:
        archive.writestr("__main__.py", LATE)
    program = {
        "file": ["late.py"],
        "module": ["-m", "late"],
        "package": ["-m", "package"],
        "folder": ["package"],
        "archive": ["late.zip"],
    }[way]
    result = rbf_op(folder, "run", *program, "x")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == ["True ['x'] 0"] * 2


@pytest.mark.parametrize(
    "program, said",
    [(["-m", "no"], "no module no that"), (["."], "no __main__.py in ."), (["no"], "no file no")],
)
def test_a_program_that_is_not_there(folder, program, said):
    result = rbf_op(folder, "run", *program)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("rbf-op run: there is ") and said in line


def test_a_program_must_be_named(folder):
    result = rbf_op(folder, "run")
    assert result.returncode == 2 and "PROGRAM" in result.stderr
