"""Slices of a kernel matrix, or of a product with one: no more of it is computed than they show.

Canonicalisations, as Theano has them for what kernels are spelled out with (local_subtensor_lift,
local_subtensor_of_dot); left out by FAST_COMPILE. Above ops/; may import Theano.
"""

import itertools
from collections import namedtuple

import theano.tensor as T
from theano.tensor.subtensor import IncSubtensor, Subtensor, get_idx_list

from rbf_op.ops import (
    CheckedEntries,
    RBFDot,
    RBFDotGrad,
    RBFKernel,
    RBFKernelGrad,
    RBFMixture,
    RBFMixtureGrad,
)
from rbf_op.rewrites.outer_products import number_filling
from rbf_op.theano_api import clients, local_optimizer, register_canonicalize, trace_to

# Slices of one matrix that are computed apart: each reads x and y once more.
MOST_SLICES = 4


@register_canonicalize
@local_optimizer([Subtensor])
def local_rbf_subtensor_lift(node, fgraph):
    """K[a:b, c:d] -> K of x[a:b] and y[c:d], where K is needed for nothing but such slices.

    Likewise of a mixture; rows and columns of RBFDot are rows of x and columns of the weights. An
    index takes a row or column of its own. Not where that could compute an entry, or of y = x its
    mirror image, twice.
    """
    whole = node.inputs[0]
    if whole.owner is None or type(whole.owner.op) not in (RBFKernel, RBFMixture, RBFDot):
        return False
    users = list(dict.fromkeys(user for user, _ in clients(fgraph, whole)))
    if len(users) > MOST_SLICES:
        return False
    if not all(isinstance(getattr(user, "op", None), Subtensor) for user in users):
        return False
    slices = [_entries(user, user.inputs) for user in users]
    if not _no_more_work(whole.owner.op, whole.owner.inputs, slices):
        return False
    replacements = {}
    for user, entries in zip(users, slices):
        part = _part(whole.owner.op, whole.owner.inputs, entries)
        kept = [axis for axis, entry in enumerate(entries) if isinstance(entry, slice)]
        new = part.op(*part.inputs).dimshuffle(kept)
        if new.type != user.outputs[0].type:
            return False
        trace_to(user.outputs[0], new, fgraph.apply_nodes)
        replacements[user.outputs[0]] = new
    return replacements


@register_canonicalize
@local_optimizer([RBFKernelGrad, RBFMixtureGrad, RBFDotGrad])
def local_rbf_gradient_of_slices(node, fgraph):
    """Gradients of sum(G * F) where G is zero but for slices: those of the slices of F, put where
    the slices of x, y, gamma, amplitude and weights are. Conditions as above."""
    *inputs, grad_output = node.inputs
    op = node.op.forward_op()
    pieces = _pieces(grad_output, op.make_node(*inputs).outputs[0].broadcastable)
    if not pieces or not _no_more_work(op, inputs, [entries for entries, _ in pieces]):
        return False
    totals = [None] * len(node.outputs)
    for entries, values in pieces:
        part = _part(op, inputs, entries)
        wrt = [n for n in part.op.input_names if part.places[n].whole in node.op.wrt]
        gradient_op = part.op.gradient_op().narrowed(tuple(wrt))
        values = _as_matrix(values, entries, part.op(*part.inputs))
        outputs = gradient_op(*part.inputs, values, return_list=True)
        for name, output in zip(wrt, outputs):
            place = part.places[name]
            at = node.op.wrt.index(place.whole)
            whole = inputs[op.input_names.index(place.whole)]
            totals[at] = _added(totals[at], output, whole, place)
    for old, new in zip(node.outputs, totals):
        if old.type != new.type:
            return False
        trace_to(old, new, fgraph.apply_nodes)
    return totals


def _entries(node, inputs):
    """The index or slice of each axis, of a Subtensor or IncSubtensor of a matrix."""
    entries = list(get_idx_list(inputs, node.op.idx_list))
    return entries + [slice(None)] * (2 - len(entries))


def _is_whole(entry):
    return isinstance(entry, slice) and entry == slice(None)


def _no_more_work(op, inputs, slices):
    """Whether to compute slices of F one by one is never more than to compute F."""
    if len(slices) > MOST_SLICES or all(map(_is_whole, slices[0])):
        return False
    of_one = [not all(isinstance(entry, slice) for entry in entries) for entries in slices]
    if len(slices) > 1 and any(of_one):
        return False  # to read y takes as long as a row of K
    if isinstance(op, RBFDot):
        # Columns have their distances in common, and of y = x half of those may be computed.
        some_rows = isinstance(slices[0][0], slice) and not _is_whole(slices[0][0])
        return len(slices) == 1 and not (inputs[0] is inputs[1] and some_rows)
    if op.symmetric and not of_one[0]:
        # Half of a square is computed, and a rectangle beside the diagonal is no more than that.
        if not all(_same(*entries) or _apart(*entries) for entries in slices):
            return False
    for first, second in itertools.combinations(slices, 2):
        mirrored = [first[::-1]] if op.symmetric else []
        if not all(any(map(_apart, one, second)) for one in [first] + mirrored):
            return False
    return True


def _same(first, second):
    """Whether two indices or slices are known to be the same."""
    if isinstance(first, slice) and isinstance(second, slice):
        ends = [(s.start, s.stop, s.step) for s in (first, second)]
        return all(map(_is_same_number, *ends))
    if isinstance(first, slice) or isinstance(second, slice):
        return False
    return _is_same_number(first, second)


def _apart(first, second):
    """Whether two slices are known to have nothing in common."""
    if not all(s.step is None or _constant(s.step) == 1 for s in (first, second)):
        return False
    return _ends_before(first, second) or _ends_before(second, first)


def _ends_before(first, second):
    if first.stop is None or second.start is None:
        return False
    known = [_constant(v) for v in (first.stop, second.start)]
    if None not in known and 0 <= known[0] <= known[1]:
        return True
    return _is_same_number(first.stop, second.start)


def _is_same_number(first, second):
    known = [_constant(v) for v in (first, second)]
    return first is second or known[0] is not None and known[0] == known[1]


def _constant(value):
    """The number that a part of an index is, None if it is not known or not there."""
    return None if value is None else number_filling(value)


class Place(namedtuple("Place", "whole axis entry")):
    """Where an input of a part is from: of which input of the whole, and which entry of which
    axis."""

    __slots__ = ()

    def is_whole(self):
        return _is_whole(self.entry)

    def of(self, variable):
        return variable[(slice(None),) * self.axis + (self.entry,)]


# The Op, inputs and Place of each input, by name, of a slice of F.
Part = namedtuple("Part", "op inputs places")


def _part(op, inputs, entries):
    """The Part that is F[entries]."""
    rows, columns = entries
    whole = dict(zip(op.input_names, inputs))
    places = {name: Place(name, 0, slice(None)) for name in op.input_names}
    places["x"] = Place("x", 0, rows)
    if isinstance(op, RBFDot):
        places["weights"] = Place("weights", 1, columns)
    elif not (op.symmetric and _same(rows, columns)):
        op, y = type(op)(openmp=op.openmp), "x" if op.symmetric else "y"
        places["y"] = Place(y, 0, columns)
        for name in ("gamma", "amplitude"):
            if whole[name].ndim and not op.mixture and not _is_whole(columns):
                # What is cut off would hide a wrong length.
                whole[name] = CheckedEntries("rbf_kernel", name, y, 0)(whole[name], whole[y])
                places[name] = Place(name, 0, columns)
    taken = [_taken(whole[places[name].whole], places[name]) for name in op.input_names]
    return Part(op, taken, places)


def _taken(variable, place):
    """What is in a place, a matrix of a matrix; a parameter may become a number."""
    if place.is_whole():
        return variable
    part = place.of(variable)
    if isinstance(place.entry, slice) or variable.ndim == 1:
        return part
    return part.dimshuffle(("x", 0) if place.axis == 0 else (0, "x"))


def _added(total, part, whole, place):
    """A total (None: zeros) with the shape of `whole`, and in a place a part added to it."""
    if place.is_whole():
        return part if total is None else total + part
    if not isinstance(place.entry, slice) and part.ndim == 2:
        part = part.dimshuffle(1 - place.axis)
    total = T.zeros_like(whole) if total is None else total
    return T.inc_subtensor(place.of(total), part)


def _pieces(variable, broadcastable):
    """[(entries, values)] of a matrix, of that pattern, that is zero but for slices increased by
    values; None if it is not that, or would take long to read."""
    pieces, stack = [], [variable]
    for _ in range(4 * MOST_SLICES):
        if not stack:
            return pieces
        current = stack.pop()
        node = current.owner
        if number_filling(current) == 0:
            continue
        if node is None or current.broadcastable != broadcastable:
            return None
        if isinstance(node.op, IncSubtensor):
            base, values = node.inputs[:2]
            if node.op.set_instead_of_inc and number_filling(base) != 0:
                return None
            entries = _entries(node, node.inputs[1:])
            for at, (others, more) in enumerate(pieces):
                if all(map(_same, entries, others)):
                    pieces[at] = entries, values + more
                    break
            else:
                pieces.append((entries, values))
            stack.append(base)
        elif getattr(node.op, "scalar_op", None) == T.add.scalar_op:
            stack.extend(node.inputs)
        else:
            return None
    return None


def _as_matrix(values, entries, part):
    """Values that a slice of G is set to, with the shape of a part of F."""
    kept = [axis for axis, entry in enumerate(entries) if isinstance(entry, slice)]
    order = ["x"] * (len(kept) - values.ndim) + list(range(values.ndim))
    order = [order[kept.index(axis)] if axis in kept else "x" for axis in (0, 1)]
    values = values.dimshuffle(order)
    if values.broadcastable == part.broadcastable:
        return values
    return T.alloc(values, part.shape[0], part.shape[1])
