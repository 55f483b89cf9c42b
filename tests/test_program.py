"""`rbf-op run`: programs run unchanged, as under python, and their gradients fused.

Touches the command line, in processes of its own.
"""

import os
import py_compile
import subprocess
import sys
import threading
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


def rbf_op(folder, *arguments, before="", flags=()):
    """`rbf-op` in a folder."""
    code = before + "import sys; from rbf_op.cli import main; main(sys.argv[1:])"
    return python(folder, *flags, "-c", code, *arguments)


def python(folder, *arguments):
    return subprocess.run(
        [sys.executable, *arguments],
        input="typed",
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
    for name, kind in (("no.py", "file"), ("--repot", "option or file")):
        result = rbf_op(folder, "run", name, "train.py", before=before)
        assert result.returncode == 2
        assert result.stderr.splitlines() == ["rbf-op run: there is no %s %s" % (kind, name)]


def test_what_is_no_source_file(folder):
    """A compiled file and a pipe, as `<(...)` of a shell is."""
    source = folder / "said.py"
    source.write_text("print('said', __name__)")
    compiled = py_compile.compile(str(source), cfile=str(folder / "said.pyc"))
    pipe = str(folder / "pipe")
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: open(pipe, "w").write("print('said', __name__)"))
    writer.start()
    for program in (compiled, pipe):
        result = rbf_op(folder, "run", program)
        assert (result.stdout, result.returncode) == ("said __main__\n", 0), result.stderr
    writer.join()


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


FIRST = """
import importlib.util, os, sys
os.environ["THEANO_FLAGS"] = os.environ.get("THEANO_FLAGS", "") + ",floatX=float32"
found = importlib.util.find_spec("theano")
print(os.path.basename(os.path.dirname(found.origin)), "theano" in sys.modules)
%s
import rbf_op, theano, theano.tensor as T
from theano import grad
own = [m.__spec__.loader is m.__loader__ and m.__spec__.has_location for m in (theano, rbf_op)]
print(theano.config.floatX, own, importlib.util.find_spec("theano") is theano.__spec__)
x, c = T.matrices("xc")
cost = T.exp(-((x[:, None, :] - c[None, :, :]) ** 2).sum(axis=2)).sum()
nodes = [theano.gof.graph.ops([x, c], [g(cost, x)]) for g in (grad, T.grad)]
print([any(type(n.op).__name__ == "RBFKernelGrad" for n in graph) for graph in nodes])
"""

# As where only the folder of `rbf-op` has it.
NOT_FOUND = """
class Without:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        return None if name == "rbf_op" else self.finder.find_spec(name, path, target)
sys.meta_path[1:] = map(Without, sys.meta_path[1:])
"""


@pytest.mark.parametrize(
    "first", ["import theano", "import rbf_op", "from theano import grad", NOT_FOUND]
)
def test_what_a_program_sets_before_it_imports_theano(folder, first):
    (folder / "train.py").write_text(FIRST % first)
    result = rbf_op(folder, "run", "train.py")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [
        "theano False",
        "float32 [True, True] True",
        "[True, True]",
    ]


def test_theano_may_come_with_the_package_of_a_module(folder):
    package = folder / "package"
    package.mkdir()
    (package / "__init__.py").write_text("from theano import grad")
    (package / "steps.py").write_text("from package import grad; print(grad.__wrapped__.__name__)")
    result = rbf_op(folder, "run", "-m", "package.steps")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == ["grad"]


PLAIN = """
import sys
main = sys.modules["__main__"]
names = ["theano", "numpy", "rbf_op"]
print([name in sys.modules for name in names], sys.argv, sys.path[0], sys.flags, sys.warnoptions)
print(main.__name__, main.__file__, main.__package__, main.__spec__ and main.__spec__.name)
print(sys.stdin.read(), __debug__, sys.stdout.write_through)
sys.exit("left")
"""


@pytest.mark.parametrize(
    "flags, way", [(["-O", "-B", "-u", "-W", "error::ImportWarning"], "file"), ([], "module")]
)
def test_a_program_without_theano_is_run_as_by_python(folder, flags, way):
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "plain.py").write_text(PLAIN)
    (folder / "linked.py").symlink_to(folder / "elsewhere" / "plain.py")
    program = {"file": ["linked.py"], "module": ["-m", "linked"]}[way]
    program += ["--", "--report"]  # which are not for `rbf-op run`
    expected = python(folder, *flags, *program)
    result = rbf_op(folder, "run", *program, flags=flags)
    assert result.stdout.startswith("[False, False, False] ")
    if sys.version_info >= (3, 9):  # before, __file__ is as it was given
        assert result.stdout == expected.stdout
    assert (result.returncode, result.stderr) == (expected.returncode, expected.stderr)
    assert (result.returncode, result.stderr) == (1, "left\n")


def test_an_interrupt_ends_a_program_as_by_python(folder):
    (folder / "train.py").write_text("raise KeyboardInterrupt")
    assert rbf_op(folder, "run", "train.py").returncode == python(folder, "train.py").returncode


CHILD = """
import multiprocessing, sys
print(__name__, flush=True)

def names(_):
    return [sys.modules["__main__"].__spec__, "theano" in sys.modules]

if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(names, [0]))
"""


def test_children_do_not_run_the_program(folder):
    (folder / "train.py").write_text(CHILD)
    result = rbf_op(folder, "run", "train.py")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == ["__main__", "__mp_main__", "[[None, False]]"]
