"""What fusing found: for each candidate, what was matched or why it was left alone.

Candidate and Report, the result of fuse_report. Imports Theano's printer when a report is printed.
"""

import textwrap
from collections import namedtuple


class Candidate(
    namedtuple("Candidate", "variable fused reason x y gamma amplitude transposed symmetric")
):
    """One expression that looks like a kernel.

    variable: the original Theano variable. fused: whether it was replaced. If so x, y, gamma and
    amplitude are the node's arguments (y is None when it is x again, `symmetric`; transposed if
    the node computes the transpose, as for a width per row). If not, `reason` says why.
    """

    __slots__ = ()

    def __str__(self):
        head = "%s, %s" % (self.variable.name or self.variable, self.variable.type)
        if not self.fused:
            return _paragraph("left alone: %s: %s." % (head, self.reason.rstrip(".")))
        parts = ["x = %s" % short(self.x)]
        if not self.symmetric:
            parts.append("y = %s" % short(self.y))
        parts.append("gamma = %s" % short(self.gamma))
        if self.amplitude is not None:
            parts.append("amplitude = %s" % short(self.amplitude))
        if self.transposed:
            parts.append("transposed")
        return _paragraph("fused: %s: %s" % (head, "; ".join(parts)))


class Report(list):
    """The candidates of a graph; prints as one paragraph for each."""

    @property
    def fused(self):
        """The candidates that were replaced by a fused node."""
        return [candidate for candidate in self if candidate.fused]

    @property
    def left_alone(self):
        """The candidates that were not, each with its `reason`."""
        return [candidate for candidate in self if not candidate.fused]

    def __str__(self):
        head = "%d of %d candidates for a Gaussian kernel fused" % (len(self.fused), len(self))
        return "\n".join([head] + [str(candidate) for candidate in self])


def short(variable, longest=60):
    """An expression in one line, cut if it is long."""
    from theano.printing import pprint

    text = " ".join(str(pprint(variable)).split())
    return text if len(text) <= longest else text[: longest - 3] + "..."


def _paragraph(text):
    return textwrap.fill(text, 78, subsequent_indent="    ", break_long_words=False)
