"""The command `rbf-op`: one line where rbf_op cannot be imported here, else rbf_op.cli.

Beside the package and not in it, since whatever is in it imports Theano first. Touches cli.
"""

import sys


def main():
    """Runs the command line and exits; with 2 and what to do where rbf_op says that it cannot."""
    try:
        from rbf_op.cli import main as run
    except ImportError as error:
        if error.name is not None:  # Python's own: a module that is not there
            raise
        sys.exit(_refuse(error))
    run()


def _refuse(error):
    print("rbf-op: %s" % error, file=sys.stderr)
    return 2
