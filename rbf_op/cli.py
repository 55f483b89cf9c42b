"""The command line: `rbf-op run`, `rbf-op demo`, `rbf-op doctor`.

Reads arguments and sets exit codes (0 well, 1 something was found wrong, 2 cannot run as asked);
the work is done elsewhere. Imports click and whatever a command needs only when it is called, so
that `rbf-op run` and `rbf-op doctor` work where nothing but Theano and NumPy is installed.
"""

import importlib.util
import itertools
import os
import subprocess
import sys


def main(arguments=None):
    """Runs the command named in arguments (sys.argv by default) and exits."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if _missing("click"):
        sys.exit(_without_click(arguments))
    commands()(args=arguments, prog_name="rbf-op")


def commands():
    """The click group with all commands."""
    import click

    from rbf_op import __version__

    def figure_path(context, option, path):
        # Found out now, not after minutes of measuring.
        if path is None:
            return None
        if not path.lower().endswith((".png", ".pdf", ".svg")):
            raise click.BadParameter("%s must end in .png, .pdf or .svg" % path)
        folder = os.path.dirname(os.path.abspath(path))
        if not os.access(folder, os.W_OK):
            raise click.BadParameter("%s is not a folder that can be written to" % folder)
        return path

    @click.group(context_settings={"help_option_names": ["-h", "--help"]})
    @click.version_option(__version__)
    def group():
        """Fused, multi-threaded Gaussian-kernel nodes for Theano graphs."""

    @group.command(
        context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
    )
    @click.option("--report", is_flag=True, help="Write what is found, and why not, to stderr.")
    @click.option("-m", "module", is_flag=True, help="PROGRAM is a module, as of python -m.")
    @click.argument("program")
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def run(report, module, program, arguments):
        """Run a Python program, unchanged, with gradients and graphs fused."""
        _run(program, arguments, module, report)

    @group.command()
    @click.option(
        "--plot",
        metavar="FILE",
        type=click.Path(dir_okay=False),
        callback=figure_path,
        help="Also draw the layer's times and memory, as PNG, PDF or SVG.",
    )
    @click.option("--quick", is_flag=True, help="A smaller layer and fewer rounds.")
    def demo(plot, quick):
        """A Stack Overflow question's layer, the same larger, and a network that learns."""
        missing = _missing_for_demo(plot)
        if missing:
            sys.exit(_say_missing(missing))
        if not _has_compiler():
            sys.exit(2)
        from rbf_op.demo import show

        sys.exit(show.run(quick=quick, plot=plot))

    @group.command()
    def doctor():
        """Does the node work here, and with all cores? If not: what to do."""
        sys.exit(_doctor())

    return group


def _without_click(arguments):
    """What can be done where click is not installed; returns the exit code."""
    if arguments == ["doctor"]:
        return _doctor()
    if arguments[:1] == ["run"]:
        rest = arguments[1:]
        options = list(itertools.takewhile(("--report", "-m").__contains__, rest))
        if len(rest) > len(options):
            program, *arguments = rest[len(options) :]
            _run(program, arguments, "-m" in options, "--report" in options)
    if arguments in ([], ["-h"], ["--help"]):
        missing = _missing_for_demo()
        print("rbf-op run      Run a Python program, unchanged, with gradients and graphs fused.")
        print("rbf-op doctor   Does the node work here, and with all cores? If not: what to do.")
        print("rbf-op demo     needs more packages: pip install %s" % " ".join(_packages(missing)))
        return 0
    if arguments[:1] == ["demo"]:
        return _say_missing(_missing_for_demo(any(a.startswith("--plot") for a in arguments)))
    return _say_missing(["click"])


def _missing_for_demo(plot=False):
    return _missing("click", "rich", "sklearn", *(["matplotlib"] if plot else []))


def _has_compiler():
    """Whether Theano has found a C++ compiler; says so if not."""
    from theano import config

    if not config.cxx:
        print(
            "rbf-op demo needs a C++ compiler. On Debian and Ubuntu: sudo apt install g++. "
            "`rbf-op doctor` says more.",
            file=sys.stderr,
        )
    return bool(config.cxx)


def _run(name, arguments, module, report):
    """Replaces this process: Theano is imported here, and has read the environment."""
    flags = subprocess._args_from_interpreter_flags()
    # Two that are not among them.
    flags += ["-i"] if sys.flags.inspect else []
    flags += ["-u"] if getattr(sys.stdout, "write_through", False) else []
    options = ["--report"] * report + ["-m"] * module
    file = os.path.join(os.path.dirname(os.path.abspath(__file__)), "program.py")
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.flush()
    # Set where Theano's flags name a device: it would refuse to use that again.
    os.environ.pop("THEANO_GPU_IS_ALREADY_ACTIVE", None)
    os.execv(sys.executable, [sys.executable, *flags, file, *options, "--", name, *arguments])


def _doctor():
    from rbf_op import doctor

    return 0 if doctor.run() else 1


def _missing(*modules):
    return [module for module in modules if importlib.util.find_spec(module) is None]


def _packages(modules):
    return ["scikit-learn" if module == "sklearn" else module for module in modules]


def _say_missing(modules):
    names = _packages(modules)
    listed = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    print(
        "rbf-op needs %s, which %s not installed. Run: pip install %s"
        % (listed, "is" if len(names) == 1 else "are", " ".join(names)),
        file=sys.stderr,
    )
    return 2
