"""A program run as Python runs it, unchanged, with autofuse on: `rbf-op run`.

Standard library and autofuse.py, whose import makes Theano work here, too.
"""

import os
import runpy
import sys
import types

from rbf_op import autofuse


def run(program, arguments, module=False, report=False):
    """Run a file, or with `module` what `python -m program` runs, and fuse what it differentiates.

    It sees sys.argv, sys.path and __main__ as under `python`, and what it raises is raised here.
    With `report`, what is found is written to the standard error as each gradient is taken. Raises
    OSError if the file cannot be read.
    """
    autofuse.enable(report=_write if report else None)
    sys.argv = [program, *arguments]
    if module:
        _begin_path_with(os.getcwd())
        runpy.run_module(program, run_name="__main__", alter_sys=True)
        return
    with open(program, "rb") as file:
        code = compile(file.read(), program, "exec", dont_inherit=True)
    _begin_path_with(os.path.dirname(os.path.abspath(program)))
    # Not by runpy, which clears the names when the program ends, before what it left to atexit.
    main = types.ModuleType("__main__")
    main.__file__ = program
    sys.modules["__main__"] = main
    exec(code, vars(main))


def _begin_path_with(folder):
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = folder


def _write(found):
    print(found, file=sys.stderr, flush=True)
