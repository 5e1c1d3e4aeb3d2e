"""Operators that take a box out of a tensor: SLICE and STRIDED_SLICE."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lithe.errors import ExecutionError
from lithe.ir.build import Builder
from lithe.ir.loops import INDEX, Buffer, Expr, all_of
from lithe.ops.layout import PLAIN, Movement, integers, known_integers, vector_length
from lithe.ops.op import Axes, RuleViolation, Site, register
from lithe.types import Shape


def _box(shape: Shape, begin: list[int], size: list[int]) -> list[int]:
    """The sizes of a slice with -1 replaced by what is left. Raises RuleViolation when it leaves the tensor."""
    done = []
    for axis, (d, first, count) in enumerate(zip(shape, begin, size, strict=True)):
        count = d - first if count == -1 else count
        if first < 0 or count < 0 or first + count > d:
            raise RuleViolation(f"[{first}, {first} + {count}) leaves axis {axis} of size {d}", "begin")
        done.append(count)
    return done


@register
class Slice(Movement):
    """size[a] elements of x along each axis a, from begin[a] on; a size of -1 means all that is left."""

    name, code = "SLICE", 65
    keeps_scale = True
    named_axes = Axes(rows=(1, 2))
    operands = (("input", "begin", "size"), ("output",))
    types = f"T I I -> T: T= {PLAIN}; I= int32 int64"

    def infer(site: Site) -> list[Shape]:
        x = site.input(0)
        for i in (1, 2):
            site.require(vector_length(site, i) == x.rank, f"must have one element for each axis of {x}", i)
        begin, size = known_integers(site, 1), known_integers(site, 2)
        if size is None:
            return [(None,) * x.rank]
        if begin is None:
            for d, s in zip(x.shape, size, strict=True):
                site.require(-1 <= s <= d, f"{size} leaves {x}", 2)
            return [tuple(None if s == -1 else s for s in size)]
        return [tuple(_box(x.shape, begin, size))]

    def evaluate(site: Site, x: np.ndarray, begin: np.ndarray, size: np.ndarray) -> list[np.ndarray]:
        first = integers(begin)
        try:
            sizes = _box(x.shape, first, integers(size))
        except RuleViolation as problem:
            raise ExecutionError(f"the slice {problem.rule}") from problem
        return [np.array(x[tuple(slice(f, f + s) for f, s in zip(first, sizes, strict=True))])]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        x, y = xs[0], ys[0]
        known = known_integers(site, 1)
        if known is not None:
            b.compute(y, lambda *i: x[tuple(v + f for v, f in zip(i, known, strict=True))])
            return
        begin = xs[1].viewed((xs[1].size,))
        first: list[Expr] = []
        for axis, (d, count) in enumerate(zip(x.shape, y.shape, strict=True)):
            at = b.variable(begin[axis].to(INDEX), "begin")
            b.fail_unless(all_of(at[()] >= 0, at[()] <= d - count), f"begin leaves axis {axis} of size {d}")
            first.append(at[()])
        b.compute(y, lambda *i: x[tuple(v + f for v, f in zip(i, first, strict=True))])


@dataclass(frozen=True)
class Stride:
    """One axis of the input: elements start, start + step, ... (count of them)."""

    start: int
    step: int
    count: int


def strides(shape: Shape, begin: list[int], end: list[int], step: list[int], masks: StridedSlice.Attrs) -> tuple:
    """([Stride for each axis of the input], shape of the result). Raises RuleViolation.

    Bit i of a mask speaks of entry i: begin_mask and end_mask ignore the bound, the one bit of ellipsis_mask stands for
    as many whole axes as are missing, new_axis_mask puts an axis of size 1 in, shrink_axis_mask takes one element.
    """

    def bit(mask: int, i: int) -> bool:
        return bool(mask >> i & 1)

    entries = len(begin)
    used = sum(not bit(masks.new_axis_mask, i) and not bit(masks.ellipsis_mask, i) for i in range(entries))
    if used > len(shape):
        raise RuleViolation(f"has {used} entries for {len(shape)} axes", "begin")
    if bin(masks.ellipsis_mask & ((1 << entries) - 1)).count("1") > 1:
        raise RuleViolation("ellipsis_mask may have one bit set at most")
    taken: list[Stride] = []
    result: list[int] = []

    def whole(axes: int) -> None:
        for _ in range(axes):
            size = shape[len(taken)]
            taken.append(Stride(0, 1, size))
            result.append(size)

    for i in range(entries):
        if bit(masks.ellipsis_mask, i):
            whole(len(shape) - used)
        elif bit(masks.new_axis_mask, i):
            result.append(1)
        else:
            size, by = shape[len(taken)], step[i]
            if by == 0:
                raise RuleViolation("must not be zero", "strides")
            if bit(masks.shrink_axis_mask, i):
                first = begin[i] + size if begin[i] < 0 else begin[i]
                if bit(masks.begin_mask, i):
                    first = 0 if by > 0 else size - 1
                if not 0 <= first < size:
                    raise RuleViolation(f"{begin[i]} is no element of an axis of size {size}", "begin")
                taken.append(Stride(first, 1, 1))
                continue
            last = begin[i] + end[i] if masks.offset else end[i]
            bounds = slice(None if bit(masks.begin_mask, i) else begin[i], None if bit(masks.end_mask, i) else last, by)
            start, stop, by = bounds.indices(size)
            taken.append(Stride(start, by, len(range(start, stop, by))))
            result.append(taken[-1].count)
    whole(len(shape) - len(taken))
    return taken, tuple(result)


@register
class StridedSlice(Movement):
    """Every strides[a]-th element of x from begin[a] to (not including) end[a], as in Python's x[b:e:s]."""

    name, code = "STRIDED_SLICE", 45
    keeps_scale = True
    named_axes = Axes(rows=(1, 2, 3), masks=("begin_mask", "end_mask"))
    operands = (("input", "begin", "end", "strides"), ("output",))
    types = f"T I I I -> T: T= {PLAIN}; I= int32 int64"

    @dataclass(frozen=True)
    class Attrs:
        begin_mask: int = 0
        end_mask: int = 0
        ellipsis_mask: int = 0
        new_axis_mask: int = 0
        shrink_axis_mask: int = 0
        offset: bool = False

    def infer(site: Site) -> list[Shape]:
        x = site.input(0)
        entries = vector_length(site, 1)
        for i in (2, 3):
            site.require(vector_length(site, i) == entries, f"must have {entries} elements, as begin has", i)
        bounds = [known_integers(site, i) for i in (1, 2, 3)]
        if any(v is None for v in bounds):
            ones = StridedSlice.Attrs(-1, -1, *[getattr(site.attrs, k) for k in _KINDS])
            shape = strides(x.shape, [0] * entries, [0] * entries, [1] * entries, ones)[1]
            return [(None,) * len(shape)]
        return [strides(x.shape, *bounds, site.attrs)[1]]

    def evaluate(site: Site, x: np.ndarray, begin: np.ndarray, end: np.ndarray, step: np.ndarray) -> list[np.ndarray]:
        try:
            taken, shape = strides(x.shape, integers(begin), integers(end), integers(step), site.attrs)
        except RuleViolation as problem:
            raise ExecutionError(f"{problem.operand}: {problem.rule}") from problem
        for axis, s in enumerate(taken):
            x = np.take(x, s.start + s.step * np.arange(s.count), axis)
        return [x.reshape(shape)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        x = xs[0]
        taken, _ = strides(x.shape, *(integers(site.constant(i)) for i in (1, 2, 3)), site.attrs)
        y = ys[0].viewed(tuple(s.count for s in taken))
        b.compute(y, lambda *i: x[tuple(v * s.step + s.start for v, s in zip(i, taken, strict=True))])


_KINDS = ("ellipsis_mask", "new_axis_mask", "shrink_axis_mask")
