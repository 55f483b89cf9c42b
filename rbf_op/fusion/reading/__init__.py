"""From a Theano graph to algebra.py's polynomials: the expression at one position of its indices.

Reading goes from the result to the inputs with an index for each axis, so that whatever only moves
entries about merely changes the index. reader.py is the Reader; of what it meets on its way,
elementwise.py reads sums, products (powers.py) and limits (limits.py), sums.py sums over an axis
and matrix products, moving.py what moves entries, loops.py scans, assembled.py what is set part by
part, exponentials.py whole kernels. May import Theano.
"""

from rbf_op.fusion.reading import assembled, elementwise, loops, moving, sums
from rbf_op.fusion.reading.exponentials import LOGARITHM
from rbf_op.fusion.reading.reader import COMPUTING, MOVING, Reader, TooLong, Unreadable

COMPUTING += elementwise.READERS + sums.READERS
# The last state of a scan is a subtensor like others: loops are asked first.
MOVING += loops.READERS + assembled.READERS + moving.READERS

__all__ = ["LOGARITHM", "Reader", "TooLong", "Unreadable"]
