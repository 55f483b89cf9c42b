"""What the machine is, in words: name -> text. Standard library and NumPy."""

import glob
import os
import platform
import subprocess

import numpy as np


def describe(threads):
    """Processor, caches, memory, system, compiler, versions, load: an ordered dict of texts."""
    processor = _field("/proc/cpuinfo", "model name") or platform.processor() or platform.machine()
    memory = _field("/proc/meminfo", "MemTotal")
    found = {
        "processor": processor,
        "cores": "%d usable, %d threads used" % (cores(), threads),
        "vectors": _vectors(),
        "caches": _caches(),
        "memory": "%.0f GiB" % (int(memory.split()[0]) / 2**20) if memory else "",
        "huge pages": _chosen("/sys/kernel/mm/transparent_hugepage/enabled"),
        "system": "%s %s" % (platform.system(), platform.release()),
        "compiler": _compiler(),
        "Python": "%s, NumPy %s" % (platform.python_version(), np.__version__),
    }
    if hasattr(os, "getloadavg"):
        found["load before"] = "%.1f (others' processes; 0 is quiet)" % os.getloadavg()[0]
    return {name: text for name, text in found.items() if text}


def cores():
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _field(path, name):
    try:
        with open(path) as file:
            for line in file:
                key, _, value = line.partition(":")
                if key.strip() == name:
                    return value.strip()
    except OSError:
        pass
    return None


def _vectors():
    flags = (_field("/proc/cpuinfo", "flags") or "").split()
    for flag, name in (("avx512f", "AVX-512"), ("avx2", "AVX2"), ("sse4_2", "SSE4.2")):
        if flag in flags:
            return name
    return "NEON" if platform.machine() == "aarch64" else ""


def _caches():
    found = []
    for folder in sorted(glob.glob("/sys/devices/system/cpu/cpu0/cache/index*")):
        level, kind, size = (_line(os.path.join(folder, n)) for n in ("level", "type", "size"))
        if kind in ("Data", "Unified"):
            found.append("L%s %s" % (level, size))
    return ", ".join(found)


def _chosen(path):
    """The word in brackets, of those in a file like "always [madvise] never"."""
    text = _line(path)
    return text[text.index("[") + 1 : text.index("]")] if "[" in text else text


def _line(path):
    try:
        with open(path) as file:
            return file.readline().strip()
    except OSError:
        return ""


def _compiler():
    try:
        done = subprocess.run(["g++", "--version"], stdout=subprocess.PIPE, universal_newlines=True)
        return done.stdout.splitlines()[0]
    except (OSError, IndexError):
        return ""
