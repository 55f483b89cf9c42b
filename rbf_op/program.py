"""A program run as Python runs it, unchanged, with autofuse on: `rbf-op run`.

Started as a file, in a process of its own, and not imported from rbf_op: that would import Theano
and NumPy, which read the environment then, before the program has set any of it. So they come when
the program asks for them, and until then there is the standard library alone.
"""

import builtins
import contextlib
import importlib
import importlib.machinery
import importlib.util
import os
import pkgutil
import sys
import types

# By the end of the process __file__ is gone.
_FILE = os.path.abspath(__file__)
_FOLDER = os.path.dirname(_FILE)


class NotThere(Exception):
    """There is no such program; the message says so."""


def main(arguments):
    """Run what is named in [--report] [-m] -- PROGRAM [ARGUMENTS], as cli has it."""
    end = arguments.index("--")
    options, (program, *arguments) = arguments[:end], arguments[end + 1 :]
    try:
        run(program, arguments, "-m" in options, "--report" in options)
    except NotThere as error:
        print("rbf-op run: %s" % error, file=sys.stderr)
        sys.exit(2)


def run(program, arguments, module, report):
    """Run what `python program` runs, or with `module` `python -m program`, and fuse what it
    differentiates.

    It sees sys.argv, sys.path and __main__ as under `python`, and what it raises is raised here.
    With `report`, what is found is written to the standard error as each gradient is taken. Raises
    NotThere.
    """
    safe = getattr(sys.flags, "safe_path", sys.flags.isolated)
    if not safe:
        del sys.path[0]  # the folder of this file
    if module:
        find, folder = _module, None if safe else os.getcwd()
    elif pkgutil.get_importer(program) is not None:  # a folder or an archive
        find, folder = _main_of, os.path.abspath(program)
    elif os.path.exists(program):  # or a pipe
        find, folder = _file, None if safe else os.path.dirname(os.path.realpath(program))
    else:
        kind = "option or file" if program.startswith("-") else "file"
        raise NotThere("there is no %s %s" % (kind, program))
    sys.excepthook = _show
    if folder is not None:
        sys.path.insert(0, folder)
    sys.argv = ["-m" if module else program, *arguments]
    _Theano(_write if report else None).wait()  # finding a module imports the packages it is in
    spec, code = find(program)
    if module:
        sys.argv[0] = spec.origin
    # Not by runpy, which takes __main__ away when its code ends: before threads, and atexit.
    main = types.ModuleType("__main__")
    main.__file__, main.__cached__, main.__loader__ = spec.origin, spec.cached, spec.loader
    main.__builtins__ = builtins
    if find is not _file:
        main.__spec__, main.__package__ = spec, spec.parent
    sys.modules["__main__"] = main
    exec(code, vars(main))


class _Theano:
    """Finds and loads theano or rbf_op, whichever is imported first, as rbf_op and then autofuse.

    rbf_op mends Theano, and so must come before it. Once they are imported, this is gone.
    """

    def __init__(self, report):
        self._report = report
        self._importing = False

    def wait(self):
        sys.meta_path.insert(0, self)
        if "theano" in sys.modules or "rbf_op" in sys.modules:  # as by a sitecustomize
            self._import()

    def find_spec(self, name, path=None, target=None):
        if name not in ("theano", "rbf_op"):
            return None
        found = self._found(name, path, target)
        if self._importing or found is None or found.origin is None:  # a mere folder has no origin
            return found
        # Nothing is imported yet: the program may only ask whether there is a theano.
        spec = importlib.machinery.ModuleSpec(name, self, origin=found.origin)
        spec.submodule_search_locations = found.submodule_search_locations
        return spec

    def _found(self, name, path, target):
        others = [finder for finder in sys.meta_path if finder is not self]
        specs = (f.find_spec(name, path, target) for f in others if hasattr(f, "find_spec"))
        found = next((spec for spec in specs if spec is not None), None)
        if name == "rbf_op" and (found is None or found.origin is None):
            # `rbf-op` found it where the program does not look.
            found = importlib.util.spec_from_file_location(
                name,
                os.path.join(_FOLDER, "__init__.py"),
                submodule_search_locations=[_FOLDER],
            )
        return found

    def create_module(self, spec):
        self._import()
        module = importlib.import_module(spec.name)
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module):
        # That was done above; but importlib has set __spec__ to the one that led here.
        module.__spec__ = module.__spec__.loader_state

    def _import(self):
        self._importing = True
        try:
            from rbf_op import autofuse

            autofuse.enable(report=self._report)
        finally:
            self._importing = False
        with contextlib.suppress(ValueError):  # the program may have taken it off
            sys.meta_path.remove(self)


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
    if path.endswith(".pyc"):
        loader = importlib.machinery.SourcelessFileLoader("__main__", path)
        code = loader.get_code("__main__")
    else:
        loader = importlib.machinery.SourceFileLoader("__main__", path)
        code = loader.source_to_code(loader.get_data(path), path)  # and none is kept
    return importlib.machinery.ModuleSpec("__main__", loader, origin=path), code


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
    if _FILE in files:
        first = files.index(_FILE)
        while first < len(files) and files[first].startswith((_FILE, "<frozen importlib")):
            first += 1
        trace = frames[first] if first < len(files) else None
    sys.__excepthook__(kind, error.with_traceback(trace), trace)


def _write(found):
    print(found, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
