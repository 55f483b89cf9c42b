"""Runs a command where PyCUDA works without a GPU: python tests/cuda_emulator/run.py COMMAND...

Builds what is missing first, into the folder cuda_emulator of the environment that runs this (or
build/cuda_emulator): the stand-in driver (seconds) and PyCUDA against it (about a minute and a
half, once). Needs g++ and the CUDA headers: of a toolkit whose nvcc is on PATH, or in the folder
that CUDA_ROOT names. Exit status 77 where they are not found; then nothing was run. Standard
library only.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
# `make clean` leaves environments alone.
IN_ENVIRONMENT = sys.prefix != sys.base_prefix
ROOT = os.path.dirname(os.path.dirname(HERE))
BUILD = os.path.join(sys.prefix if IN_ENVIRONMENT else os.path.join(ROOT, "build"), "cuda_emulator")
PYCUDA = "pycuda==2026.1"
PYCUDA_OLDER = "pycuda==2025.1.2"  # the last one for Python 3.8 and 3.9
NOTHING_RUN = 77


def cuda_root():
    """The CUDA toolkit's folder, or None: CUDA_ROOT, that of nvcc on PATH, /usr/local/cuda."""
    candidates = [os.environ.get("CUDA_ROOT")]
    nvcc = real_nvcc()
    if nvcc:
        # PyPI and distributions put a script on PATH: nvcc itself knows where it lives.
        said = subprocess.run(
            [nvcc, "--dryrun", "-x", "cu", os.devnull],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, universal_newlines=True,
        ).stderr  # fmt: skip
        top = re.search(r"^#\$ TOP=(.*)$", said, re.MULTILINE)
        candidates += [top and os.path.normpath(top.group(1).strip()), os.path.join(nvcc, "../..")]
    candidates += ["/usr/local/cuda"]
    for folder in candidates:
        if folder and os.path.isfile(os.path.join(folder, "include", "cuda.h")):
            return os.path.realpath(folder)
    return None


def real_nvcc():
    """nvcc on PATH that is not the stand-in beside this file, or None."""
    folders = os.environ.get("PATH", "").split(os.pathsep)
    return shutil.which("nvcc", path=os.pathsep.join(f for f in folders if f != HERE))


def build_driver(include):
    """The folder of the stand-in libcuda.so.1, built if any of its sources changed."""
    digest = hashlib.sha256(include.encode())
    for name in ("driver.cpp", "launch.h", "run.py"):
        with open(os.path.join(HERE, name), "rb") as source:
            digest.update(source.read())
    folder = os.path.join(BUILD, "driver-" + digest.hexdigest()[:12])
    if os.path.exists(os.path.join(folder, "libcuda.so")):
        return folder
    os.makedirs(BUILD, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD) as scratch:
        compiled = os.path.join(scratch, "driver.o")
        cxx = [os.environ.get("CXX", "g++"), "-std=c++17", "-O1", "-g", "-fPIC", "-w"]
        subprocess.check_call(
            cxx + ["-I", include, "-c", os.path.join(HERE, "driver.cpp"), "-o", compiled]
        )
        headers = "#include <cuda.h>\n#include <cudaProfiler.h>\n"
        declared = subprocess.run(cxx + ["-E", "-P", "-x", "c++", "-I", include, "-"],
                                  input=headers, stdout=subprocess.PIPE, check=True,
                                  universal_newlines=True).stdout  # fmt: skip
        entry_points = set(re.findall(r"\bCUresult\s+(cu\w+)\s*\(", declared))
        symbols = subprocess.check_output(["nm", "--defined-only", compiled],
                                          universal_newlines=True)  # fmt: skip
        missing = sorted(entry_points - set(re.findall(r" T (\w+)$", symbols, re.MULTILINE)))
        rest = os.path.join(scratch, "rest.cpp")
        with open(rest, "w") as source:
            for name in missing:
                source.write('extern "C" int %s() { return 801; }\n' % name)
        library = os.path.join(scratch, "libcuda.so.1")
        soname = "-Wl,-soname,libcuda.so.1"
        subprocess.check_call(cxx + ["-shared", soname, "-o", library, compiled, rest, "-ldl"])
        os.makedirs(folder, exist_ok=True)
        shutil.move(library, os.path.join(folder, "libcuda.so.1"))
    os.symlink("libcuda.so.1", os.path.join(folder, "libcuda.so"))
    return folder


def build_pycuda(root, driver):
    """The folder that PyCUDA for this Python was installed into, outside any environment."""
    import numpy

    requirement = PYCUDA if sys.version_info >= (3, 10) else PYCUDA_OLDER
    folder = os.path.join(
        BUILD, "%s-py%d.%d" % ((requirement.replace("==", "-"),) + sys.version_info[:2])
    )
    if os.path.isdir(os.path.join(folder, "pycuda")):
        return folder
    with tempfile.TemporaryDirectory(dir=BUILD) as home:
        # PyCUDA reads its build settings from the home folder. curand's header is missing in
        # smaller toolkits, and nothing here needs it.
        with open(os.path.join(home, ".aksetup-defaults.py"), "w") as settings:
            settings.write(
                "CUDA_ROOT = %r\nCUDA_ENABLE_CURAND = False\nCUDADRV_LIB_DIR = [%r]\n"
                "CXXFLAGS = ['-g0', '-w', '-O1']\n" % (root, driver)
            )
        # pip would otherwise bring a NumPy of its own beside the environment's.
        constraint = os.path.join(home, "constraint.txt")
        with open(constraint, "w") as file:
            file.write("numpy==%s\n" % numpy.__version__)
        target = os.path.join(home, "target")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", target]
        print("Building PyCUDA for the emulator: a minute or two, this once.", flush=True)
        subprocess.check_call(
            pip + ["--no-deps", requirement],
            env=dict(
                os.environ, HOME=home, CUDA_ROOT=root, CPATH=os.path.join(root, "include"),
                LIBRARY_PATH=driver,
            ),
        )  # fmt: skip
        subprocess.check_call(
            pip + ["--upgrade", "-c", constraint, "mako", "pytools", "platformdirs"]
        )
        for name in os.listdir(target):
            if name.startswith("numpy"):
                shutil.rmtree(os.path.join(target, name))
        os.rename(target, folder)
    return folder


def environment():
    """os.environ with PyCUDA and the stand-ins in front; None where they cannot be built here."""
    root = cuda_root()
    if root is None or shutil.which(os.environ.get("CXX", "g++")) is None:
        return None
    driver = build_driver(os.path.join(root, "include"))
    pycuda = build_pycuda(root, driver)
    cache = os.path.join(BUILD, "cache")
    os.makedirs(cache, exist_ok=True)

    def before(variable, folder):
        return os.pathsep.join(f for f in (folder, os.environ.get(variable)) if f)

    return dict(
        os.environ,
        PATH=before("PATH", HERE),
        LD_LIBRARY_PATH=before("LD_LIBRARY_PATH", driver),
        PYTHONPATH=before("PYTHONPATH", pycuda),
        PYCUDA_CACHE_DIR=cache,
        CUDA_EMULATOR="1",
    )


def main(command):
    if not command or command[0] in ("-h", "--help"):
        print(__doc__.strip())
        return 0
    env = environment()
    if env is None:
        print(
            "The CUDA path was NOT tested: that needs g++ and the CUDA headers (nvcc on PATH, or "
            "the toolkit's folder in CUDA_ROOT).", file=sys.stderr,
        )  # fmt: skip
        return NOTHING_RUN
    return subprocess.call(command, env=env)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
