"""Finding Gaussian kernels in graphs that people already have, and putting the fused node there.

fuse.py is the front; search.py chooses among what candidates.py finds. roots.py reads one: reading/
turns its graph into algebra.py's normal form. building.py makes the node: finding.py (by
matching.py, which finds distances) tells which kernel it is, writing.py writes the arguments.
mixtures.py adds up kernels of one distance; values.py, lengths.py and signs.py know what is equal,
how long and of what sign; report.py says what was done. Before all that, reduced_loops.py takes out
loops in which a kernel's rows do not stay as they are (by batching.py); after it, steps.py does the
same in the steps of those that are left. optimizer.py registers the forward rewrite.
Above kernels.py, which it calls.
"""

from rbf_op.fusion import optimizer  # noqa: F401 (registers its rewrite)
from rbf_op.fusion.fuse import fuse, fuse_report

__all__ = ["fuse", "fuse_report"]
