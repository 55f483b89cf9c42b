"""Counts the machine instructions of the CUDA kernels' loops: what no GPU is needed for.

    pip install nvidia-cuda-nvdisasm
    python -m benchmarks.gpu.instructions --arch 90

Compiles the files of cuda/ as the package does and disassembles them. A loop's row leaves out the
loops inside it. Needs nvcc and nvdisasm, no GPU and no Theano. Imports launches, device/runtime.py.
"""

import collections
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile

import click

from benchmarks.gpu.launches import load_launches

runtime, _ = load_launches()

# (file, COLUMNS, DIMS, kernel): d=3, p=1; and many dimensions and columns.
KERNELS = [
    ("narrow.cu", 1, 3, "rbf_product"),
    ("narrow.cu", 1, 3, "rbf_product_gradient_x"),
    ("forward.cu", None, None, "rbf_forward"),
    ("product.cu", 32, None, "rbf_product"),
    ("gradient.cu", 32, None, "rbf_product_gradient_x"),
]
CLASSES = {
    "arithmetic": ("FADD", "FFMA", "FMUL", "DADD", "DFMA", "DMUL"),
    "MUFU": ("MUFU",),
    "shared": ("LDS", "STS"),
    "global": ("LDG", "STG"),
    "shuffle": ("SHFL",),
}


def nvdisasm():
    """nvdisasm on PATH, or where pip puts it."""
    packages = os.path.join(
        sys.prefix, "lib", "python*", "site-packages", "nvidia", "**", "nvdisasm"
    )
    found = shutil.which("nvdisasm") or glob.glob(packages, recursive=True)
    if not found:
        raise SystemExit("nvdisasm is missing: pip install nvidia-cuda-nvdisasm")
    return found if isinstance(found, str) else found[0]


def instructions(cubin, kernel):
    """(opcodes of a kernel in order, loops as (first, last) index)."""
    said = subprocess.check_output([nvdisasm(), "-c", cubin], universal_newlines=True)
    text = re.split(r"^\.text\.%s:" % kernel, said, flags=re.MULTILINE)[1]
    text = re.split(r"^\.text\.\w+:", text, flags=re.MULTILINE)[0]
    opcodes, labels, jumps = [], {}, []
    for line in text.splitlines():
        label = re.match(r"^(\.L_x_\d+):", line)
        if label:
            labels[label.group(1)] = len(opcodes)
        found = re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\d+\s+)?(\S+)([^;]*);", line)
        if found:
            target = re.search(r"`\((\.L_x_\d+)\)", found.group(2))
            if found.group(1).startswith("BRA") and target:
                jumps.append((target.group(1), len(opcodes)))
            opcodes.append(found.group(1).split(".")[0])
    return opcodes, sorted((labels[t], i) for t, i in jumps if labels.get(t, i + 1) <= i)


def loop_rows(opcodes, loops):
    """For each loop the number of its instructions, and of each class, without loops inside it."""
    for first, last in loops:
        inside = [(a, b) for a, b in loops if first <= a and b <= last and (a, b) != (first, last)]
        own = [
            opcode
            for i, opcode in enumerate(opcodes[first : last + 1], first)
            if not any(a <= i <= b for a, b in inside)
        ]
        counts = collections.Counter(own)
        yield len(own), {k: sum(counts[o] for o in group) for k, group in CLASSES.items()}


@click.command()
@click.option("--arch", default="90", show_default=True, help="Of sm_90, for example.")
@click.option("--dtype", default="float32", type=click.Choice(sorted(runtime.DTYPES)))
def main(arch, dtype):
    """Counts the machine instructions of the CUDA kernels' loops."""
    nvdisasm()
    if runtime.find_nvcc() is None:
        raise SystemExit("nvcc is missing: put the CUDA toolkit's bin folder on PATH")
    print("%-38s %7s %s" % ("loop", "all", " ".join("%10s" % k for k in CLASSES)))
    for file, columns, dims, kernel in KERNELS:
        with tempfile.TemporaryDirectory() as scratch:
            source, cubin = (os.path.join(scratch, name) for name in ("kernel.cu", "kernel.cubin"))
            with open(source, "w") as text:
                text.write(runtime.source(file))
            options = runtime.OPTIONS + runtime.macros(dtype, columns, dims)
            subprocess.check_call(
                [runtime.find_nvcc(), "-arch=sm_" + arch, "-cubin", "-o", cubin, source] + options
            )
            for total, counts in loop_rows(*instructions(cubin, kernel)):
                if total > 20:
                    numbers = " ".join("%10d" % counts[k] for k in CLASSES)
                    print("%-38s %7d %s" % (file + " " + kernel, total, numbers))


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.gpu.instructions")
