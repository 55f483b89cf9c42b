"""Benchmarks of rbf_op against other libraries and against the machine: python -m benchmarks.

Layers, arrows down only: __main__ (command line) -> runner, report, figures, publish ->
environments, machine, ceilings, floors -> cells, problem. contenders/ are run by worker.py, each in
a process and, where its NumPy differs, an environment of its own; they may import problem and cells
(limits.py: ceilings and floors). gpu/ is another program: python -m benchmarks.gpu. The other files
are commands of their own.
"""
