"""Runs PyMC3, Keras and Lasagne, unchanged, and three programs on Theano, with and without fusing.

    python tests/clients/run.py [--time | --set-up] [client ...]
    python tests/clients/run.py --compile-cost

Each library has an environment of its own, set up beside the one that runs this if it is missing.
Exits with 1 if a client could not be installed or run, if its results differ, or if nothing was
fused. May import the standard library only.
"""

import argparse
import functools
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))

# Releases that work together; newer ones of the dependencies break the clients. Of NumPy the last
# release with a wheel for the interpreter that the client works with. Where a client asks for one
# without such a wheel it is installed first, by itself: what it needs comes after the semicolon.
NEW = sys.version_info >= (3, 11)
PYMC3_NEEDS = (
    "numpy==1.23.5 scipy<1.12 matplotlib==3.7.5 pandas==2.0.3"
    if NEW
    else "numpy==1.21.6 scipy==1.7.3 pandas<2.1"
)
CLIENTS = {
    "pymc3_gp": "theano==1.0.5 pymc3==3.9.3 arviz==0.10.0 xarray==2023.1.0 " + PYMC3_NEEDS,
    # The last PyMC3 of all, on Theano-PyMC.
    "pymc3_gp_theano_pymc": (
        "--no-deps pymc3==3.11.5 theano-pymc==1.1.2; arviz==0.12.1 xarray==2023.1.0 cachetools "
        "deprecat dill fastprogress filelock patsy semver typing-extensions " + PYMC3_NEEDS
    ),
    "keras_rbf": "theano==1.0.5 keras==2.3.1 " + ("numpy==1.26.4" if NEW else "numpy==1.21.6"),
    "lasagne_rbf": "theano==1.0.5 Lasagne==0.1 " + ("numpy==1.26.4" if NEW else "numpy==1.21.6"),
    "moment_matching": "",  # Theano alone
    "loops": "",
    "question": "",
}
# Programs that are not named after their client.
PROGRAMS = {"pymc3_gp_theano_pymc": "pymc3_gp"}

# Of compiling a model without a kernel, so much may be looking for one.
MOST_COMPILE_COST = 0.02


class Failed(Exception):
    """A client could not be installed or run; the message says which and why."""


def environment(client):
    """The interpreter of a client's environment, which is set up if it is missing or other."""
    if not CLIENTS[client]:
        return sys.executable
    name = os.path.basename(sys.prefix)
    name = name if name.startswith(".venv") else ".venv-%d.%d" % sys.version_info[:2]
    path = os.path.join(ROOT, "%s-%s" % (name, client))
    interpreter = os.path.join(path, "bin", "python")
    complete = os.path.join(path, "complete")
    if not os.path.exists(complete) or open(complete).read() != CLIENTS[client]:
        print("Setting up %s" % path, flush=True)
        install = "-m pip install --quiet --disable-pip-version-check --no-compile".split()
        commands = [[sys.executable, "-m", "venv", "--clear", path]]
        commands += [[interpreter] + install + step.split() for step in CLIENTS[client].split(";")]
        for command in commands:
            checked(client, "could not be installed", command, os.environ)
        with open(complete, "w") as stamp:
            stamp.write(CLIENTS[client])
    return interpreter


def checked(client, what, command, variables):
    """The output of a command; Failed with the last lines of its errors if it fails."""
    done = subprocess.run(
        command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    if done.returncode:
        last = "\n".join(done.stderr.strip().splitlines()[-8:])
        raise Failed("%s %s: %s\n%s" % (client, what, " ".join(command), last))
    return done.stdout


def results_of(client, options=(), program=None):
    """What a client's program found, a dictionary. Raises Failed."""
    interpreter = environment(client)
    flags = [flag for flag in os.environ.get("THEANO_FLAGS", "").split(",") if flag]
    flags = [flag for flag in flags if not flag.startswith("base_compiledir=")]
    flags.append("base_compiledir=" + os.path.join(ROOT, ".theano", "client-" + client))
    variables = dict(os.environ, PYTHONPATH=ROOT, THEANO_FLAGS=",".join(flags))
    program = program or PROGRAMS.get(client, client)
    command = [interpreter, "-W", "ignore", os.path.join(HERE, program + ".py")] + list(options)
    output = checked(client, "did not run", command, variables)
    try:
        return json.loads(output.strip().splitlines()[-1])
    except (ValueError, IndexError):
        raise Failed("%s printed no results but: %s" % (client, output)) from None


def failure(results):
    """Why a client's results are not what they should be, or None."""
    if any(results["nodes before"]):
        return "the graph to compare with was fused too"
    if not all(results["nodes"]):
        return "the kernel or its gradient was not fused"
    if not results["difference"] <= results["tolerance"]:
        return "results differ by %(difference).1e, more than %(tolerance).1e" % results
    return None


def show(results):
    print(results["client"])
    print("  " + results["graph"])
    print("  fused nodes      %d forward, %d gradient" % tuple(results["nodes"]))
    print("  largest relative difference  %.1e" % results["difference"])
    for what, (plain, fused) in results.get("seconds", {}).items():
        print("  " + what)
        times = 1e3 * plain, 1e3 * fused, plain / fused
        print("    %.2f ms before, %.2f ms fused: %.1f times" % times)
    for line in results.get("lines", ()):
        print("  " + line)


def show_compile_cost():
    """Compile times of a model without a kernel, with and without fusing, in turn.

    Returns whether fusing takes no more than MOST_COMPILE_COST of it. That is judged by the time
    spent in the fusing code, which other work on the machine hardly changes.
    """
    good = True
    for client, name in (("pymc3_gp", "pymc3"), ("keras_rbf", "keras")):
        found = results_of(client, [name], "compile_cost")
        print("%s, a model without a kernel: compiling takes" % name)
        ratio, spread = 100 * (found["fusing"] / found["plain"] - 1), 100 * found["spread"]
        print(
            "  %.3f s without rbf_fusion and autofuse, %.3f s with them (medians): %+.1f %%,"
            % (found["plain"], found["fusing"], ratio)
        )
        print("  where times without them spread over %.1f %%" % spread)
        share = found["spent"] / found["plain"]
        print("  %.4f s of it in the fusing code: %.2f %%" % (found["spent"], 100 * share))
        good = good and share <= MOST_COMPILE_COST
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clients", nargs="*", help="of: %s" % ", ".join(CLIENTS))
    parser.add_argument("--time", action="store_true", help="time them too, on a quiet machine")
    parser.add_argument("--set-up", action="store_true", help="set up environments, run nothing")
    parser.add_argument(
        "--compile-cost", action="store_true", help="what fusing costs where there is no kernel"
    )
    options = parser.parse_args()
    for client in options.clients:
        if client not in CLIENTS:
            parser.error("no client %s; there are %s" % (client, ", ".join(CLIENTS)))
    if options.compile_cost:
        try:
            good = show_compile_cost()
        except Failed as error:
            print("FAILED %s" % error)
            return 1
        if not good:
            print("FAILED: more than %g %% of compiling" % (100 * MOST_COMPILE_COST))
        return 0 if good else 1
    failures = []
    # At once, except where they are timed: setting up is mostly waiting.
    with ThreadPoolExecutor(1 if options.time else len(CLIENTS)) as pool:
        arguments = ["--time"] if options.time else []
        task = environment if options.set_up else functools.partial(results_of, options=arguments)
        jobs = [pool.submit(task, client) for client in options.clients or CLIENTS]
        for job in jobs:
            try:
                results = job.result()
            except Failed as error:
                failures.append(str(error))
                continue
            if options.set_up:
                continue
            show(results)
            reason = failure(results)
            if reason:
                failures.append("%s: %s" % (results["client"], reason))
    for reason in failures:
        print("FAILED %s" % reason)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
