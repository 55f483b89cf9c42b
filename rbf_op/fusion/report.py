"""What fusing found: for each candidate, what was matched or why it was left alone.

Candidate and Report, the result of fuse_report. Imports Theano's printer when a report is printed.
"""

import textwrap
from collections import namedtuple

from rbf_op.fusion.values import nodes_of

# Terms of an expression that is printed whole; how deep a longer one is printed at most. A printer
# writes what is used twice twice, and that doubles from layer to layer.
_MOST_TERMS = 1000
_DEEPEST = 6


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

    if _terms(variable) > _MOST_TERMS:
        known = {}
        depths = (d for d in range(_DEEPEST, 0, -1) if _terms_to(variable, d, known) <= _MOST_TERMS)
        variable = _cut(variable, next(depths, 1))
    text = " ".join(str(pprint(variable)).split())
    return text if len(text) <= longest else text[: longest - 3] + "..."


def _terms(variable):
    """How many variables an expression has, written out."""
    terms = {}
    for node in nodes_of([variable]):
        count = 1 + sum(terms.get(v, 1) for v in node.inputs)
        terms.update(dict.fromkeys(node.outputs, count))
    return terms.get(variable, 1)


def _terms_to(variable, depth, known):
    """The same of the expression cut at a depth."""
    node = variable.owner
    if node is None or depth == 0:
        return 1
    if (variable, depth) not in known:
        known[variable, depth] = 1 + sum(_terms_to(v, depth - 1, known) for v in node.inputs)
    return known[variable, depth]


def _cut(variable, depth):
    """The expression, what is deeper replaced by variables whose name is three dots."""
    node = variable.owner
    if node is None:
        return variable
    if depth == 0:
        return variable.type("...")
    inputs = [_cut(v, depth - 1) for v in node.inputs]
    return node.clone_with_new_inputs(inputs).outputs[node.outputs.index(variable)]


def _paragraph(text):
    return textwrap.fill(text, 78, subsequent_indent="    ", break_long_words=False)
