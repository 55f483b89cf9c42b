"""A program run as Python runs it, unchanged, with autofuse on: `rbf-op run`.

Standard library and autofuse.py, whose import makes Theano work here, too.
"""

import builtins
import importlib.machinery
import importlib.util
import os
import pkgutil
import sys
import types

from rbf_op import autofuse


class NotThere(Exception):
    """There is no such program; the message says so."""


def run(program, arguments, module=False, report=False):
    """Run what `python program` runs, or with `module` `python -m program`, and fuse what it
    differentiates.

    It sees sys.argv, sys.path and __main__ as under `python`, and what it raises is raised here.
    With `report`, what is found is written to the standard error as each gradient is taken. Raises
    NotThere.
    """
    if module:
        find, folder = _module, os.getcwd()
    elif pkgutil.get_importer(program) is not None:  # a folder or an archive
        find, folder = _main_of, program
    elif os.path.isfile(program):
        find, folder = _file, os.path.dirname(os.path.abspath(program))
    else:
        raise NotThere("there is no file %s" % program)
    sys.excepthook = _show
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = folder
    spec, code = find(program)
    sys.argv = [spec.origin if module else program, *arguments]
    # Not by runpy, which takes __main__ away when its code ends: before threads, and atexit.
    main = types.ModuleType("__main__")
    main.__file__, main.__cached__, main.__loader__ = spec.origin, spec.cached, spec.loader
    main.__builtins__ = builtins
    if find is not _file:
        main.__spec__, main.__package__ = spec, spec.parent
    sys.modules["__main__"] = main
    autofuse.enable(report=_write if report else None)
    exec(code, vars(main))


def _module(name):
    """The spec and the code of what `python -m` runs."""
    try:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(name + ".__main__")
    except ModuleNotFoundError:
        spec = None
    if spec is None or spec.loader is None:
        raise NotThere("there is no module %s that can be run" % name)
    return spec, spec.loader.get_code(spec.name)


def _file(path):
    """The spec and the code of a file."""
    path = os.path.abspath(path)
    loader = importlib.machinery.SourceFileLoader("__main__", path)
    spec = importlib.machinery.ModuleSpec("__main__", loader, origin=path)
    return spec, loader.source_to_code(loader.get_data(path), path)  # and none is kept


def _main_of(folder):
    """The spec and the code of __main__ in a folder or an archive."""
    spec = importlib.machinery.PathFinder.find_spec("__main__", [folder])
    if spec is None:
        raise NotThere("there is no __main__.py in %s" % folder)
    return spec, spec.loader.get_code("__main__")


def _show(kind, error, trace):
    """sys.excepthook: without the lines of this file, of what called it, and of importlib there."""
    frames, after = [], trace
    while after is not None:
        frames.append(after)
        after = after.tb_next
    files = [frame.tb_frame.f_code.co_filename for frame in frames]
    if __file__ in files:
        first = files.index(__file__)
        while first < len(files) and files[first].startswith((__file__, "<frozen importlib")):
            first += 1
        trace = frames[first] if first < len(files) else None
    sys.__excepthook__(kind, error.with_traceback(trace), trace)


def _write(found):
    print(found, file=sys.stderr, flush=True)
