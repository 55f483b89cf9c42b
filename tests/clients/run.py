"""Runs PyMC3, Keras and Lasagne, unchanged, with and without fusing, each in its own environment.

    python tests/clients/run.py [--time] [--python python3.9] [client ...]

Sets the environments up under .venv-clients when they are missing. Fails if a client's results
differ or if nothing was fused. May import the standard library only.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))

# The releases that work together; newer ones of the dependencies break the clients.
CLIENTS = {
    "pymc3_gp": (
        "theano==1.0.5 pymc3==3.9.3 numpy==1.21.6 scipy==1.7.3 arviz==0.10.0 xarray==2023.1.0 "
        "pandas<2.1"
    ),
    "keras_rbf": "theano==1.0.5 keras==2.3.1 numpy==1.21.6 scipy==1.10.1",
    "lasagne_rbf": "theano==1.0.5 Lasagne==0.1 numpy==1.21.6 scipy==1.10.1",
}


def environment(client, python):
    """The interpreter of a client's environment, which is set up if it is missing."""
    path = os.path.join(ROOT, ".venv-clients", client)
    interpreter = os.path.join(path, "bin", "python")
    complete = os.path.join(path, "complete")
    if not os.path.exists(complete):
        print("setting up %s" % path, flush=True)
        subprocess.run([python, "-m", "venv", "--clear", path], check=True)
        subprocess.run(
            [interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            + CLIENTS[client].split(),
            check=True,
        )
        open(complete, "w").close()
    return interpreter


def results_of(client, interpreter, options):
    compiledir = os.path.join(ROOT, ".theano", "client-" + client)
    flags = [flag for flag in [os.environ.get("THEANO_FLAGS")] if flag]
    variables = dict(
        os.environ,
        PYTHONPATH=ROOT,
        THEANO_FLAGS=",".join(flags + ["base_compiledir=" + compiledir]),
    )
    command = [interpreter, os.path.join(HERE, client + ".py")] + options
    output = subprocess.run(command, env=variables, stdout=subprocess.PIPE, check=True).stdout
    return json.loads(output.decode().strip().splitlines()[-1])


def show(results):
    print(results["client"])
    print("  " + results["graph"])
    print("  fused nodes      %d forward, %d gradient" % tuple(results["nodes"]))
    print("  largest relative difference  %.1e" % results["difference"])
    for what, (plain, fused) in results.get("seconds", {}).items():
        print("  " + what)
        print(
            "    %.2f ms before, %.2f ms fused: %.1f times"
            % (1e3 * plain, 1e3 * fused, plain / fused)
        )


def failure(results):
    """Why a client's results are not what they should be, or None."""
    if any(results["nodes before"]):
        return "the graph to compare with was fused too"
    if not all(results["nodes"]):
        return "the kernel or its gradient was not fused"
    if not results["difference"] <= results["tolerance"]:
        return "results differ by %.1e, more than %.1e" % (
            results["difference"],
            results["tolerance"],
        )
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clients", nargs="*", help="of: %s" % ", ".join(CLIENTS))
    parser.add_argument("--time", action="store_true", help="time them too, on a quiet machine")
    parser.add_argument("--python", default="python3.9", help="interpreter, 3.8 to 3.10")
    options = parser.parse_args()
    for client in options.clients:
        if client not in CLIENTS:
            parser.error("no client %s; there are %s" % (client, ", ".join(CLIENTS)))
    if shutil.which(options.python) is None:
        parser.error("no interpreter %s; name one by --python" % options.python)
    failures = 0
    for client in options.clients or CLIENTS:
        try:
            interpreter = environment(client, options.python)
            results = results_of(client, interpreter, ["--time"] if options.time else [])
        except (subprocess.CalledProcessError, ValueError, IndexError) as error:
            reason = "did not run: %s" % error
        else:
            show(results)
            reason = failure(results)
        if reason:
            failures += 1
            print("  FAILED %s: %s" % (client, reason))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
