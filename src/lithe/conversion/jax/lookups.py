"""What JAX's primitives are in builtins: parts that are read from computed places, and written to them.

A gather and a scatter say for each axis of the operand x where a window begins and how long it is. Here an axis is

    whole     the window is all of it;
    moving    the window is a part. Moving axes are taken as one axis of rows, with one number for the row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lithe.conversion.builder import Builder
from lithe.conversion.jax.rules import Equation, rule
from lithe.conversion.sizes import is_open
from lithe.ir.graph import Tensor
from lithe.types import BOOL, INT32


@dataclass(frozen=True)
class Windows:
    """Where the windows are.

    starts  for each moving axis: where the windows begin, [*places of the indices, 1 for each window axis].
    shape   [*places of the indices, *sizes of windows along moving axes that stay].
    """

    moving: list[int]
    sizes: list[int]
    starts: dict[int, Tensor]
    shape: list[int]
    staying: list[int]

    def rows(self, b: Builder, x: Tensor) -> Tensor:
        """The number of the row for each element of the windows."""
        total, step = None, 1
        for axis in reversed(self.moving):
            at = self.starts[axis]
            if axis in self.staying and self.sizes[axis] > 1:
                places = [1] * len(self.shape)
                i = len(self.shape) - len(self.staying) + self.staying.index(axis)
                places[i] = self.sizes[axis]
                at = b("ADD", at, b.constant(np.arange(self.sizes[axis]).reshape(places)))
            at = at if step == 1 else b("MUL", at, b.constant(step))
            total = at if total is None else b("ADD", total, at)
            b.require(not is_open(x.type.shape[axis]) or axis == self.moving[0], "places along several open dimensions")
            step *= x.type.shape[axis]
        assert total is not None
        return b.broadcast(total, self.shape)

    def inside(self, b: Builder, x: Tensor) -> Tensor:
        """Whether a window lies within x, for each of them."""
        answer = None
        for axis in self.moving:
            at, most = self.starts[axis], b.constant(x.type.shape[axis] - self.sizes[axis])
            fits = b("EQUAL", at, b("MINIMUM", b("MAXIMUM", at, b.constant(0)), most), dtype=BOOL)
            answer = fits if answer is None else b("LOGICAL_AND", answer, fits, dtype=BOOL)
        assert answer is not None
        return answer


def _windows(b: Builder, x: Tensor, indices: Tensor, sizes: Sequence[int], along: Sequence[int], gone: Sequence[int],
             clamped: bool, batches: dict[int, int] | None = None) -> Windows:  # fmt: skip
    """The windows of these sizes that begin where the indices say.

    along    the axes of x for which the last axis of the indices has numbers; other windows begin at 0.
    gone     axes of x that the windows do not keep.
    batches  axes of x by the axis of the indices with which they run.
    """
    batches = batches or {}
    indices = b.cast(indices, INT32)
    moving = [a for a in range(x.type.rank) if a in batches or sizes[a] != x.type.shape[a]]
    moving = moving or list(along[:1])
    b.require(bool(moving), "windows that do not move")
    staying = [a for a in moving if a not in gone and a not in batches]
    places = list(indices.type.shape[:-1])
    starts = {}
    for axis in moving:
        if axis in along:
            part = [0] * len(places) + [list(along).index(axis)]
            start = b.reshape(b.slice(indices, part, [*places, 1]), places)
            if clamped and not is_open(x.type.shape[axis]):
                most = b.constant(x.type.shape[axis] - sizes[axis])
                start = b("MAXIMUM", b("MINIMUM", start, most), b.constant(0))
        elif axis in batches:
            line = [1] * len(places)
            line[batches[axis]] = x.type.shape[axis]
            b.require(not is_open(x.type.shape[axis]), "windows that run with an open dimension")
            start = b.constant(np.arange(x.type.shape[axis]).reshape(line))
        else:
            start = b.constant(np.zeros([1] * len(places)))
        starts[axis] = b.reshape(start, (*start.type.shape, *[1] * len(staying)))
    return Windows(moving, list(sizes), starts, [*places, *(sizes[a] for a in staying)], staying)


@rule("gather")
def gather(b: Builder, e: Equation, x: Tensor, indices: Tensor) -> Tensor:
    """GATHER of rows, which ends the run at a place outside where JAX gives NaN for it."""
    numbers, sizes = e["dimension_numbers"], [int(n) for n in e["slice_sizes"]]
    batching, index_batches = list(numbers.operand_batching_dims), list(numbers.start_indices_batching_dims)
    along, gone = list(numbers.start_index_map), list(numbers.collapsed_slice_dims)
    mode = "FILL_OR_DROP" if e["mode"] is None else e["mode"].name
    b.require(not _is_chosen(e.params.get("fill_value"), x), "a look-up with a value for places outside")
    sizes = [x.type.shape[a] if a in batching else n for a, n in enumerate(sizes)]
    windows = _windows(b, x, indices, sizes, along, gone, mode == "CLIP")
    moving, staying = windows.moving, windows.staying
    before = [a for a in range(moving[0]) if a not in batching]
    together = moving == list(range(moving[0], moving[0] + len(moving))) and batching == list(range(len(batching)))
    if not together:
        before = []
    after = [a for a in range(x.type.rank) if a not in (*batching, *before, *moving)]
    turned = b.transpose(x, [*batching, *before, *moving, *after])
    shape, n = turned.type.shape, len(batching)
    first = n + len(before)
    order = [*index_batches, *(i for i in range(len(windows.shape)) if i not in index_batches)]
    if len(moving) > 1 and first == 0 and moving == along and not staying and indices.type.shape[-1] == len(along):
        places = b("PACK", *(windows.starts[a] for a in moving), values_count=len(moving), axis=indices.type.rank - 1)
        made = b("GATHER_ND", turned, places if mode == "CLIP" else indices)
    else:
        last = first + len(moving)
        table = b.reshape(turned, [*shape[:first], math.prod(shape[first:last]), *shape[last:]])
        made = b("GATHER", table, b.transpose(windows.rows(b, x), order), axis=first, batch_dims=n)
    # axes of what was made: ("index", i) or ("window", axis of x)
    count = indices.type.rank - 1
    of_rows = [("index", i) if i < count else ("window", staying[i - count]) for i in order]
    have = [*of_rows[:n], *(("window", a) for a in before), *of_rows[n:], *(("window", a) for a in after)]
    kept = [a for a in range(x.type.rank) if a not in (*gone, *batching)]
    offsets, rest = list(numbers.offset_dims), iter(range(count))
    wanted = [("window", kept[offsets.index(i)]) if i in offsets else ("index", next(rest))
              for i in range(len(e.result.shape))]  # fmt: skip
    left = [h for h in have if h not in wanted]
    return b.reshape(b.transpose(made, [have.index(w) for w in (*wanted, *left)]), e.result.shape)


def _is_chosen(value: Any, x: Tensor) -> bool:
    """Whether the caller asks for a value outside; JAX's own are no number, true, the smallest or largest integer."""
    if value is None or not np.isfinite(value):
        return False
    if x.type.dtype == BOOL:
        return not value
    return x.type.dtype.is_float or value not in (x.type.dtype.minimum, x.type.dtype.maximum)


@rule("scatter", "scatter-add", "scatter_add", "scatter-sub", "scatter_sub", "scatter-mul", "scatter_mul",
      "scatter-min", "scatter_min", "scatter-max", "scatter_max")  # fmt: skip
def scatter(b: Builder, e: Equation, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    """Rows are reduced by the place they go to, and the result is combined with x; what lies outside goes nowhere."""
    numbers, kind = e["dimension_numbers"], e.primitive.replace("_", "-").removeprefix("scatter").strip("-")
    gone, batching = list(numbers.inserted_window_dims), list(numbers.operand_batching_dims)
    kept = [a for a in range(x.type.rank) if a not in (*gone, *batching)]
    window_axes = list(numbers.update_window_dims)
    sizes = [1] * x.type.rank
    for axis, place in zip(kept, window_axes, strict=True):
        sizes[axis] = updates.type.shape[place]
    batches = dict(zip(batching, numbers.scatter_indices_batching_dims, strict=True))
    mode = e["mode"].name if e["mode"] is not None else "FILL_OR_DROP"
    along = list(numbers.scatter_dims_to_operand_dims)
    windows = _windows(b, x, indices, sizes, along, gone, mode == "CLIP", batches)
    inside = windows.inside(b, x) if mode == "FILL_OR_DROP" else b.constant(True, BOOL)
    everywhere = inside.data is not None and bool(np.all(inside.data))
    if not kind and math.prod(indices.type.shape[:-1]) == 1 and not batches:
        return _one_window(b, x, updates, windows, None if everywhere else inside)
    rows = windows.rows(b, x)
    if not everywhere:
        rows = b("SELECT_V2", b.broadcast(inside, windows.shape), rows, b.constant(-1), dtype=INT32)
    whole = [a for a in range(x.type.rank) if a not in windows.moving]
    index_axes = [i for i in range(updates.type.rank) if i not in window_axes]
    order = [*index_axes, *(window_axes[kept.index(a)] for a in (*windows.staying, *whole))]
    count, tail = math.prod(windows.shape), [x.type.shape[a] for a in whole]
    given = b.reshape(b.transpose(updates, order), (count, *tail))
    target = b.transpose(x, [*windows.moving, *whole])
    held = target.type.shape
    most = math.prod(held[: len(windows.moving)])
    made = _combined(b, kind, b.reshape(target, (most, *tail)), given, b.reshape(rows, (count,)))
    back = [*windows.moving, *whole]
    return b.transpose(b.reshape(made, held), [back.index(a) for a in range(x.type.rank)])


REDUCTIONS = {"add": ("SUM", "ADD"), "sub": ("SUM", "SUB"), "mul": ("PROD", "MUL"), "min": ("MIN", "MINIMUM"),
              "max": ("MAX", "MAXIMUM")}  # fmt: skip


def _combined(b: Builder, kind: str, x: Tensor, given: Tensor, rows: Tensor) -> Tensor:
    """x with the given rows at their places; of several that are put at one place, the last one stays."""
    most = x.type.shape[0]
    size = b.reshape(b.size(most), ()) if is_open(most) else b.constant(most)
    if kind:
        reduction, builtin = REDUCTIONS[kind]
        total = b.sized(f"UNSORTED_SEGMENT_{reduction}", [given, rows, size], x.type.shape)
        made = b(builtin, x, total)
        if kind not in ("min", "max"):
            return made
        info = np.finfo(np.float32) if x.type.dtype.is_float else np.iinfo(np.int32)
        untouched = b.constant(info.min if kind == "max" else info.max, x.type.dtype)
        return b("SELECT_V2", b("EQUAL", total, untouched, dtype=BOOL), x, made, dtype=x.type.dtype)
    line = b.constant(np.arange(given.type.shape[0]))
    last = b.sized("UNSORTED_SEGMENT_MAX", [line, rows, size], (most,))
    hit = b.reshape(b("GREATER_EQUAL", last, b.constant(0), dtype=BOOL), (most, *[1] * (x.type.rank - 1)))
    found = b("GATHER", given, b("MAXIMUM", last, b.constant(0)), axis=0, batch_dims=0)
    return b("SELECT_V2", hit, found, x, dtype=x.type.dtype)


def _one_window(b: Builder, x: Tensor, updates: Tensor, windows: Windows, inside: Tensor | None) -> Tensor:
    """x with one window of it replaced, where that lies inside."""
    axes = range(x.type.rank)
    starts = [b.reshape(windows.starts[a], (1,)) if a in windows.moving else b.constant([0]) for a in axes]
    begin = starts[0] if len(starts) == 1 else b("CONCATENATION", *starts, axis=0)
    made = b("DYNAMIC_UPDATE_SLICE", x, b.reshape(updates, windows.sizes), begin)
    if inside is None:
        return made
    return b("SELECT_V2", b.reshape(inside, [1] * x.type.rank), made, x, dtype=x.type.dtype)


# in order


def _turned(b: Builder, x: Tensor, axis: int) -> Tensor:
    """The tensor with this axis and the last one exchanged."""
    order = list(range(x.type.rank))
    order[axis], order[-1] = order[-1], order[axis]
    return b.transpose(x, order)


def _reversed(b: Builder, x: Tensor) -> Tensor:
    """Numbers in the opposite order; those of integers have no overflow."""
    if x.type.dtype == BOOL:
        x = b.cast(x, INT32)
    b.require(x.type.dtype.kind != "uint", f"a sort of {x.type.dtype}")
    return b("SUB", b.constant(-1, x.type.dtype), x) if x.type.dtype.is_integer else b("NEG", x)


@rule("sort")
def sort(b: Builder, e: Equation, *xs: Tensor) -> Sequence[Tensor]:
    """The largest first of the reversed ones. Sorted by the last key first: equal elements keep their order."""
    axis, keys = e["dimension"], e["num_keys"]
    turned = [_turned(b, x, axis) for x in xs]
    last, n = xs[0].type.rank - 1, xs[0].type.shape[axis]
    b.require(not is_open(n), "a sort along an open dimension")
    places: Tensor | None = None
    for key in reversed(turned[:keys]):
        ordered = key if places is None else b("GATHER", key, places, axis=last, batch_dims=last)
        _, found = b.several("TOPK_V2", _reversed(b, ordered), b.constant(n), dtypes=[None, INT32])
        places = found if places is None else b("GATHER", places, found, axis=last, batch_dims=last)
    return [_turned(b, b("GATHER", x, places, axis=last, batch_dims=last), axis) for x in turned]


@rule("top_k", "approx_top_k")
def top(b: Builder, e: Equation, x: Tensor) -> Sequence[Tensor]:
    axis = int(e.params.get("reduction_dimension", e.params.get("axis", x.type.rank - 1))) % x.type.rank
    least = e.params.get("is_max_k") is False
    given = _turned(b, _reversed(b, x) if least else x, axis)
    values, places = b.several("TOPK_V2", given, b.constant(int(e["k"])), dtypes=[None, INT32])
    return [_turned(b, _reversed(b, values) if least else values, axis), _turned(b, places, axis)]
