"""Builds and installs the package; the folders c_code/ and cuda/ beside it become part of it.

Everything about the package is said here and not in pyproject.toml, so that any pip and setuptools
that run on Python 3.8 to 3.11, old or new, can read it. May import setuptools only.
"""

import os

from setuptools import find_packages, setup

here = os.path.dirname(os.path.abspath(__file__))


def read(*path):
    with open(os.path.join(here, *path), encoding="utf-8") as text:
        return text.read()


about = {}
exec(read("rbf_op", "_version.py"), about)  # importing the package would need Theano

examples = ["click", "matplotlib", "rich", "scikit-learn", "scipy"]
test = [
    *examples,
    "hypothesis",
    "nose",  # Theano's DebugMode needs these two to put its errors into words
    "parameterized",
    "pytest",
    "pytest-xdist",
    "setuptools",  # the tests build a wheel
    "wheel",
]
# Exact versions, since each release of a formatter has its own idea of the same file.
dev = ["clang-format==23.1.5", "pre-commit", "ruff==0.17.6"]

setup(
    name="rbf_op",
    version=about["__version__"],
    description="A fused, multi-threaded Gaussian (RBF) kernel node for Theano, with its gradient",
    long_description=read("README.md") if os.path.exists(os.path.join(here, "README.md")) else "",
    long_description_content_type="text/markdown",
    author="the rbf_op developers",
    license="MIT",
    keywords="theano gaussian rbf kernel squared-exponential gaussian-process openmp simd cuda",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "License :: OSI Approved :: MIT License",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: C",
        "Programming Language :: Python :: 3",
        *("Programming Language :: Python :: 3.%d" % minor for minor in range(8, 12)),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Mathematics",
    ],
    python_requires=">=3.8,<3.12",
    install_requires=["theano==1.0.5", "numpy<2"],
    extras_require={
        "cuda": ["pycuda>=2025.1.2"],
        "examples": examples,
        "bench": examples,
        "test": test,
        "dev": dev,
    },
    packages=[
        *find_packages(include=["rbf_op", "rbf_op.*"]),
        "rbf_op.c_code",
        "rbf_op.cuda",
    ],
    package_dir={"rbf_op": "rbf_op", "rbf_op.c_code": "c_code", "rbf_op.cuda": "cuda"},
    package_data={
        package: ["*.h", "*.c", "*.cu", "*.cuh", "*.md"]
        for package in ("rbf_op.c_code", "rbf_op.cuda")
    },
    entry_points={"console_scripts": ["rbf-op = rbf_op.cli:main"]},
    zip_safe=False,
)
