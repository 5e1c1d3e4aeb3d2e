"""What ONNX's operators are in builtins: places of tensors that indices name, read and written."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lithe.conversion.builder import Builder
from lithe.conversion.onnx.call import Call, cast, rule, widened
from lithe.conversion.parts import line, non_negative, sliced
from lithe.conversion.sizes import is_fixed, is_open
from lithe.ir.graph import Tensor
from lithe.types import BOOL, FLOAT32, INT32, INT64


@rule("Gather")
def gather(b: Builder, c: Call) -> Tensor:
    x = c[0]
    axis = c.attr("axis", 0) % x.type.rank
    return b("GATHER", x, non_negative(b, c[1], x.type.shape[axis]), axis=axis, batch_dims=0)


@rule("GatherElements")
def gather_elements(b: Builder, c: Call) -> Tensor:
    """y[i.., p, j..] = x[i.., index[i.., p, j..], j..]: along the last axis with all others as batches."""
    x, index = c[0], c[1]
    rank = x.type.rank
    axis = c.attr("axis", 0) % rank
    for i in range(rank):
        if i != axis and x.type.shape[i] != index.type.shape[i]:
            x = sliced(b, x, i, 0, index.type.shape[i])
    order = [*(i for i in range(rank) if i != axis), axis]
    back = [order.index(i) for i in range(rank)]
    places = b.transpose(non_negative(b, index, x.type.shape[axis]), order)
    made = b("GATHER", b.transpose(x, order), places, axis=rank - 1, batch_dims=rank - 1)
    return b.transpose(made, back)


@rule("GatherND")
def gather_nd(b: Builder, c: Call) -> Tensor:
    """Batches are one more index, in front."""
    x, index = c[0], c[1]
    batches = c.attr("batch_dims", 0)
    count = index.type.shape[-1]
    index = _places(b, index, x.type.shape[batches : batches + count])
    if batches:
        shape = index.type.shape
        b.require(is_fixed(shape[:-1]), "a look-up with batches of an open dimension")
        grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape[:batches]), indexing="ij"), -1)
        wide = grid.reshape(*shape[:batches], *[1] * (len(shape) - 1 - batches), batches)
        full = np.broadcast_to(wide, (*shape[:-1], batches))
        index = b("CONCATENATION", b.constant(np.ascontiguousarray(full)), index, axis=len(shape) - 1)
    return b("GATHER_ND", x, index)


def _places(b: Builder, index: Tensor, sizes: Sequence[int]) -> Tensor:
    """Tuples of places as int32; negative ones count from the end."""
    if index.data is not None and is_fixed(sizes):
        return b.constant(np.where(index.data < 0, index.data + np.asarray(sizes), index.data))
    index = b.int32(index)
    negative = b("LESS", index, b.constant(0), dtype=BOOL)
    return b("SELECT_V2", negative, b("ADD", index, b.vector(sizes)), index, dtype=INT32)


REDUCTIONS = {"add": "ADD", "mul": "MUL", "max": "MAXIMUM", "min": "MINIMUM"}


def scattered(b: Builder, x: Tensor, places: Tensor, updates: Tensor, reduction: str) -> Tensor:
    """x with updates at places [..., axes] of its first axes.

    SCATTER_ND adds up what meets in one place. Where the last one counts, places must not meet; other reductions write
    one update after the other.
    """
    work = widened(b, x) if x.type.dtype != BOOL else b.cast(x, INT32)
    values = b.cast(updates, work.type.dtype)
    shape = b.vector(x.type.shape)

    def spread(places: Tensor, values: Tensor) -> Tensor:
        made = b.sized("SCATTER_ND", [places, values, shape], x.type.shape)
        made.type = type(made.type)(values.type.dtype, made.type.shape)
        return made

    def hit(places: Tensor, values: Tensor) -> Tensor:
        ones = b.filled(1, INT32, values.type.shape)
        return b("GREATER", spread(places, ones), b.constant(0), dtype=BOOL)

    if reduction == "add":
        return b.cast(b("ADD", work, spread(places, values)), x.type.dtype)
    if reduction == "none" and _apart(places):
        made = b("SELECT_V2", hit(places, values), spread(places, values), work, dtype=work.type.dtype)
        return cast(b, made, x.type.dtype)
    depth = places.type.shape[-1]
    count = int(np.prod(places.type.shape[:-1]))
    b.require(not is_open(count) and count <= MOST_WRITTEN, "a scatter of many places that may be the same")
    rest = x.type.shape[depth:]
    flat, parts = b.reshape(places, (count, depth)), b.reshape(values, (count, *rest))
    for i in range(count):
        at, value = sliced(b, flat, 0, i, i + 1), sliced(b, parts, 0, i, i + 1)
        new = spread(at, value)
        if reduction != "none":
            new = b(REDUCTIONS[reduction], work, new)
        work = b("SELECT_V2", hit(at, value), new, work, dtype=work.type.dtype)
    return cast(b, work, x.type.dtype)


MOST_WRITTEN = 256


def _apart(places: Tensor) -> bool:
    """Whether no place is named twice; what is computed is taken not to, as ONNX asks for."""
    if places.data is None:
        return True
    rows = places.data.reshape(-1, places.type.shape[-1])
    return len(np.unique(rows, axis=0)) == len(rows)


@rule("ScatterND")
def scatter_nd(b: Builder, c: Call) -> Tensor:
    x, places = c[0], c[1]
    places = _places(b, places, x.type.shape[: places.type.shape[-1]])
    return scattered(b, x, places, c[2], c.attr("reduction", "none"))


@rule("ScatterElements", "Scatter")
def scatter_elements(b: Builder, c: Call) -> Tensor:
    """Each element's full place: its own, but along one axis the index."""
    x, index, updates = c[0], c[1], c[2]
    axis = c.attr("axis", 0) % x.type.rank
    shape = index.type.shape
    b.require(is_fixed(shape), "a scatter of an open dimension")
    own = [np.broadcast_to(np.arange(n).reshape([n if j == i else 1 for j in range(len(shape))]), shape)
           for i, n in enumerate(shape)]  # fmt: skip
    along = non_negative(b, index, x.type.shape[axis])
    if along.data is not None:
        own[axis] = along.data
        places = b.constant(np.stack(own, -1))
    else:
        columns = [along if i == axis else b.constant(np.ascontiguousarray(o)) for i, o in enumerate(own)]
        places = b("PACK", *columns, values_count=len(columns), axis=len(shape))
    reduction = c.attr("reduction", "none")
    return scattered(b, x, places, updates, reduction)


@rule("TensorScatter")
def tensor_scatter(b: Builder, c: Call) -> Tensor:
    """The rows of a cache from each batch's own place on, round about where that is asked for."""
    x, updates = c[0], c[1]
    axis = c.attr("axis", -2) % x.type.rank
    batch, n, count = x.type.shape[0], x.type.shape[axis], updates.type.shape[axis]
    b.require(is_fixed((batch, n, count)), "a cache of an open dimension")
    starts = b.reshape(b.int32(c[2]), (batch, 1)) if c.has(2) else b.constant(np.zeros((batch, 1)))
    rows = b("ADD", starts, b.constant(np.arange(count)[None, :]))
    if c.attr("mode", "linear") == "circular":
        rows = b("FLOOR_MOD", rows, b.constant(n))
    order = [0, axis, *(i for i in range(1, x.type.rank) if i != axis)]
    back = [order.index(i) for i in range(x.type.rank)]
    first = b.constant(np.broadcast_to(np.arange(batch)[:, None], (batch, count)).copy())
    places = b("PACK", first, rows, values_count=2, axis=2)
    made = scattered(b, b.transpose(x, order), places, b.transpose(updates, order), "none")
    return b.transpose(made, back)


@rule("NonMaxSuppression")
def suppression(b: Builder, c: Call) -> Tensor:
    """For each batch and class the chosen boxes, by NON_MAX_SUPPRESSION_V4."""
    boxes, scores = c[0], c[1]
    batches, spots = boxes.type.shape[:2]
    classes = scores.type.shape[1]
    b.require(is_fixed((batches, classes)), "suppression with an open number of batches or classes")
    most = b.reshape(b.cast(c[2], INT32), ()) if c.has(2) else b.constant(0)
    if not is_open(spots):
        most = b("MINIMUM", most, b.constant(spots))
    limit = b.reshape(c[3], ()) if c.has(3) else b.constant(0.0, FLOAT32)
    # the builtin suppresses at the limit, ONNX above it
    limit = b("MAXIMUM", b("MUL", limit, b.constant(1 + 2**-23, FLOAT32)), b.constant(2**-100, FLOAT32))
    least = b.reshape(c[4], ()) if c.has(4) else b.constant(-np.inf, FLOAT32)
    if c.attr("center_point_box", 0):
        boxes = _corners(b, boxes)
    rows = []
    for i in range(batches):
        own = b.reshape(sliced(b, boxes, 0, i, i + 1), (spots, 4))
        for j in range(classes):
            score = b.reshape(sliced(b, sliced(b, scores, 0, i, i + 1), 1, j, j + 1), (spots,))
            rows.append(_chosen(b, c, own, score, (i, j), (most, limit, least)))
    whole = rows[0] if len(rows) == 1 else _joined(b, c, rows)
    return whole


def _corners(b: Builder, boxes: Tensor) -> Tensor:
    """[x centre, y centre, width, height] as [y1, x1, y2, x2]"""
    x, y, w, h = (sliced(b, boxes, 2, i, i + 1) for i in range(4))
    half = b.constant(0.5, FLOAT32)
    dx, dy = b("MUL", w, half), b("MUL", h, half)
    return b("CONCATENATION", b("SUB", y, dy), b("SUB", x, dx), b("ADD", y, dy), b("ADD", x, dx), axis=2)


def _chosen(b: Builder, c: Call, boxes: Tensor, score: Tensor, which: tuple[int, int],
            limits: tuple[Tensor, Tensor, Tensor]) -> Tensor:  # fmt: skip
    """[chosen, 3]: batch, class and box."""
    most, limit, least = limits
    n = int(most.data) if most.data is not None else b.sizes.stand_in(f"{b.scope}_most")
    found = [Tensor(f"{b.name()}/{len(b.tensors) + i}", type(score.type)(INT32, s)) for i, s in enumerate([(n,), ()])]
    b.add(b._node("NON_MAX_SUPPRESSION_V4", [boxes, score, most, limit, least], found))
    places, count = found
    b.originate(places)
    some = b.sizes.stand_in(f"{b.scope}_chosen_{which[0]}_{which[1]}")
    kept = c.found("SLICE", [places, b.constant([0]), b.reshape(count, (1,))], (some,), INT32)
    columns = [b.broadcast(b.constant([v]), (some,)) for v in which]
    return b.cast(b("PACK", *columns, kept, values_count=3, axis=1), INT64)


def _joined(b: Builder, c: Call, rows: Sequence[Tensor]) -> Tensor:
    total = b.sizes.stand_in(f"{b.scope}_chosen")
    return c.found("CONCATENATION", list(rows), (total, 3), INT64, axis=0)


@rule("Unique")
def unique(b: Builder, c: Call) -> Sequence[Tensor]:
    """The sorted different elements, where each was first, which each is, and how many there are of each."""
    if c.attr("axis") is not None and len(c.shape(0)) > 1:
        return _different_rows(b, c)
    x = widened(b, c[0])
    size = x.type.size
    b.require(is_fixed(x.type.shape), "the different elements of an open dimension")
    flat = b.reshape(x, (size,))
    n = next((d[0] for d in (c.declared(i, 1) for i, r in enumerate(c.results) if r)), 0)
    made = [Tensor(f"{b.name()}/{len(b.tensors) + i}", type(x.type)(d, s))
            for i, (d, s) in enumerate([(x.type.dtype, (n,)), (INT32, (size,))])]  # fmt: skip
    b.add(b._node("UNIQUE", [flat], made, idx_out_type=INT32))
    values, which = made
    b.originate(values)
    if c.attr("sorted", 1):
        values, which = _sorted(b, values, which, n)
    same = b("EQUAL", b.reshape(which, (1, size)), b.reshape(line(b, n), (n, 1)), dtype=BOOL)
    first = b("ARG_MAX", b.cast(same, INT32), b.constant(1), dtype=INT64, output_type=INT64)
    counts = b("SUM", b.cast(same, INT64), b.constant([1]), keep_dims=False)
    results = [b.cast(values, c[0].type.dtype), first, b.cast(which, INT64), counts]
    return results[: len(c.results)]


def _sorted(b: Builder, values: Tensor, which: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Each value's rank is the number of smaller ones."""
    below = b("LESS", b.reshape(values, (1, n)), b.reshape(values, (n, 1)), dtype=BOOL)
    rank = b("SUM", b.cast(below, INT32), b.constant([1]), keep_dims=False)
    places = b.reshape(rank, (n, 1))
    made = b.sized("SCATTER_ND", [places, values, b.vector((n,))], (n,))
    made.type = type(made.type)(values.type.dtype, (n,))
    return made, b("GATHER", rank, which, axis=0)


def _different_rows(b: Builder, c: Call) -> Sequence[Tensor]:
    """Slices along an axis, compared each with each: which come first, and how many smaller ones there are."""
    x = widened(b, c[0])
    axis = c.attr("axis") % x.type.rank
    n = x.type.shape[axis]
    b.require(is_fixed(x.type.shape), "the different rows of an open dimension")
    order = [axis, *(i for i in range(x.type.rank) if i != axis)]
    turned = b.transpose(x, order)
    size = x.type.size // n
    rows = b.reshape(turned, (n, size))
    left, right = b.reshape(rows, (n, 1, size)), b.reshape(rows, (1, n, size))
    same = b("EQUAL", left, right, dtype=BOOL)
    equal = b("REDUCE_ALL", same, b.constant([2]), keep_dims=False)
    before = b("CUMSUM", b.cast(b("LOGICAL_NOT", same), INT32), b.constant(2), exclusive=True)
    decides = b("LOGICAL_AND", b("EQUAL", before, b.constant(0), dtype=BOOL), b("LESS", right, left, dtype=BOOL))
    smaller = b("REDUCE_ANY", decides, b.constant([2]), keep_dims=False)  # [row, other]: the other one is smaller
    first = b("ARG_MAX", b.cast(equal, INT32), b.constant(1), dtype=INT32, output_type=INT32)
    heads = b("EQUAL", first, b.constant(np.arange(n)), dtype=BOOL)
    known = b("LOGICAL_AND", smaller, b.reshape(heads, (1, n)))
    rank = b("SUM", b.cast(known, INT32), b.constant([1]), keep_dims=False)
    count = c.declared(0, x.type.rank)[axis]
    places = b.cast(b.reshape(c.found("WHERE", [heads], (count, 1), INT64), (count,)), INT32)
    if c.attr("sorted", 1):
        at = b.reshape(b("GATHER", rank, places, axis=0), (count, 1))
        made = b.sized("SCATTER_ND", [at, places, b.vector((count,))], (count,))
        made.type = type(made.type)(INT32, (count,))
        places = made
    values = b.transpose(b("GATHER", turned, places, axis=0), [order.index(i) for i in range(x.type.rank)])
    if not c.attr("sorted", 1):
        rank = b("ARG_MAX", b.cast(b("EQUAL", b.reshape(first, (n, 1)), b.reshape(places, (1, count)), dtype=BOOL),
                                   INT32), b.constant(1), dtype=INT32, output_type=INT32)  # fmt: skip
    each = b("EQUAL", b.reshape(line(b, count), (count, 1)), b.reshape(rank, (1, n)), dtype=BOOL)
    counts = b("SUM", b.cast(each, INT64), b.constant([1]), keep_dims=False)
    return [b.cast(values, c[0].type.dtype), b.cast(places, INT64), b.cast(rank, INT64), counts][: len(c.results)]
