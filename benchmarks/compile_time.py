"""Cold compile time: python -m benchmarks.compile_time.

K and its gradients for x, y and gamma, in one precision and one Theano function, in a process of
its own whose compile directory is new. Counts the compiler's runs for the package's modules and
for Theano's own apart. The compiler runs on one core, so that its processor time is what it takes
on an idle machine. Imports rbf_op and Theano in the measuring process only; click.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time

import click

LIMIT_SECONDS = 8  # what the package's own modules should take at most


def measure(dtype):
    """{"rbf_op": [[module, seconds, processor seconds], ...], "Theano": [...], "seconds": all}."""
    import rbf_op

    # isort: split
    import theano
    import theano.tensor as T
    from theano.gof.cmodule import GCC_compiler

    found = {"rbf_op": [], "Theano": []}
    compile_str = GCC_compiler.compile_str

    def timed(module_name, src_code, *args, **kwargs):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        module = compile_str(module_name, src_code, *args, **kwargs)
        seconds = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        whose = "rbf_op" if '#include "glue.h"' in src_code else "Theano"
        found[whose].append([module_name, seconds, processor])
        return module

    GCC_compiler.compile_str = staticmethod(timed)
    x, y, upstream = (T.matrix(name, dtype=dtype) for name in ("x", "y", "G"))
    gamma = T.scalar("gamma", dtype=dtype)
    kernel = rbf_op.rbf_kernel(x, y, gamma=gamma)
    gradients = T.grad(None, [x, y, gamma], known_grads={kernel: upstream})
    start = time.perf_counter()
    theano.function([x, y, gamma, upstream], [kernel] + gradients)
    found["seconds"] = time.perf_counter() - start
    return found


def measure_cold(dtype):
    """measure() in a new process with a new compile directory."""
    with tempfile.TemporaryDirectory(prefix="rbf_op-compile-time-") as folder:
        flags = [flag for flag in [os.environ.get("THEANO_FLAGS")] if flag]
        variables = dict(os.environ, THEANO_FLAGS=",".join(flags + ["base_compiledir=" + folder]))
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.compile_time", "--here", "--dtype", dtype],
            stdout=subprocess.PIPE,
            env=variables,
            check=True,
        )
    return json.loads(done.stdout.splitlines()[-1].decode())


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--dtype", type=click.Choice(["float32", "float64"]), multiple=True)
@click.option("--rounds", type=click.IntRange(1), default=3, help="The fastest is shown.")
@click.option("--here", is_flag=True, hidden=True)
def main(dtype, rounds, here):
    """Time a cold compile of K and its gradients."""
    if here:
        print("\n" + json.dumps(measure(*dtype)))
        return
    for name in dtype or ("float32", "float64"):
        runs = [measure_cold(name) for _ in range(rounds)]
        best = min(runs, key=lambda run: sum(processor for _, _, processor in run["rbf_op"]))
        print("%s, fastest of %d" % (name, rounds))
        for whose in ("rbf_op", "Theano"):
            seconds, processor = (sum(m[i] for m in best[whose]) for i in (1, 2))
            text = "  %-6s %2d modules  %5.1f s of processor time (%.1f s by the clock)"
            print(text % (whose, len(best[whose]), processor, seconds))
        own = sum(processor for _, _, processor in best["rbf_op"])
        verdict = "met" if own <= LIMIT_SECONDS else "not met"
        print("  rbf_op's modules in at most %d s: %s" % (LIMIT_SECONDS, verdict))
        print("  theano.function in all: %.1f s by the clock" % best["seconds"])


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.compile_time")
