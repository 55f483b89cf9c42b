"""Finding Gaussian kernels in graphs that people already have, and putting the fused node there.

fuse.py is the front; reading.py turns a graph into algebra.py's normal form, matching.py finds the
kernel in it, writing.py builds the node. loops.py unrolls scans and set_subtensor loops into the
same form, optimizer.py registers the forward rewrite. Above kernels.py, which it calls.
"""

from rbf_op.fusion.fuse import fuse, fuse_report
from rbf_op.fusion.optimizer import register

register()

__all__ = ["fuse", "fuse_report"]
