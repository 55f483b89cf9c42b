"""Runs pieces of code in fresh Python processes, for what a process can do or have only once.

Such as its Theano flags, its number of threads, its peak memory. Touches the standard library.
"""

import json
import os
import subprocess
import sys

import rbf_op

HERE = os.path.dirname(os.path.abspath(__file__))
# Where the package under test is, be it a checkout or site-packages.
PACKAGE_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(rbf_op.__file__)))


def run_python(code, *arguments, flags=None, environment=None, package_root=PACKAGE_ROOT):
    """The value that the code gave to the function report(), by way of JSON.

    `arguments` are its sys.argv[1:]; `flags` are Theano flags, added to those of this process.
    Fails, with all the process wrote, if it exits with an error or runs for five minutes.
    """
    all_flags = os.environ.get("THEANO_FLAGS", "").split(",")
    all_flags += ["%s=%s" % flag for flag in (flags or {}).items()]
    variables = dict(os.environ, **(environment or {}))
    variables["THEANO_FLAGS"] = ",".join(flag for flag in all_flags if flag)
    variables["PYTHONPATH"] = os.pathsep.join([package_root, HERE])
    program = "import json, sys\ndef report(value):\n    print('REPORT' + json.dumps(value))\n"
    result = subprocess.run(
        [sys.executable, "-c", program + code] + [str(a) for a in arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
        env=variables,
        cwd=HERE,
        timeout=300,
    )
    output = result.stdout + result.stderr
    assert result.returncode == 0, output
    reports = [line[6:] for line in result.stdout.splitlines() if line.startswith("REPORT")]
    assert len(reports) == 1, output
    return json.loads(reports[0])
