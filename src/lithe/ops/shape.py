"""Operators that change or report a tensor's shape and leave its elements alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lithe.errors import ExecutionError
from lithe.ir.build import Builder
from lithe.ir.loops import Buffer
from lithe.ops.layout import PLAIN, Movement, copy, integers, known_integers, vector_length
from lithe.ops.op import Axes, NoAttrs, Op, Site, register
from lithe.types import INT32, DType, Shape


def reshaped(size: int, wanted: list[int]) -> Shape | None:
    """The shape with its one -1 replaced, None when it cannot hold `size` elements."""
    if wanted.count(-1) > 1 or any(d < -1 for d in wanted):
        return None
    if -1 in wanted:
        rest = math.prod(d for d in wanted if d != -1)
        if rest == 0 or size % rest:
            return None
        wanted = [size // rest if d == -1 else d for d in wanted]
    return tuple(wanted) if math.prod(wanted) == size else None


@register
class Reshape(Movement):
    """The elements of x in memory order, with another shape; one size may be -1, "what is left".

    The shape comes from the second input; without one, from the attribute, where [0] stands for a scalar.
    """

    name, code = "RESHAPE", 22
    keeps_scale = True
    operands = (("input", "shape?"), ("output",))
    types = f"T int32? -> T: {PLAIN}"
    alias = True

    @dataclass(frozen=True)
    class Attrs:
        new_shape: tuple[int, ...] = ()

    def infer(site: Site) -> list[Shape]:
        x = site.input(0)
        if site.has(1) and site.input(1).rank == 1:
            wanted = known_integers(site, 1)
            if wanted is None:
                return [(None,) * site.input(1).size]
        else:
            wanted = [int(d) for d in site.attrs.new_shape]
            wanted = [] if wanted == [0] else wanted
        shape = reshaped(x.size, wanted)
        site.require(shape is not None, f"{x} cannot be given the shape {wanted}", "shape")
        return [shape]

    def evaluate(site: Site, x: np.ndarray, shape: np.ndarray | None = None) -> list[np.ndarray]:
        if shape is None or shape.ndim != 1:
            return [x.reshape(site.outputs[0].shape)]
        result = reshaped(x.size, integers(shape))
        if result is None:
            raise ExecutionError(
                f"{x.size} elements of shape {list(x.shape)} cannot be given the shape {integers(shape)}"
            )
        return [x.reshape(result)]

    def lowers(site: Site) -> bool:
        """Loops do not ask whether a shape that comes with the run fits."""
        known = not site.has(1) or site.input(1).rank != 1 or site.known(1) is not None
        return known and Movement.lowers(site)

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        copy(b, xs[0], ys[0])


@register
class Squeeze(Movement):
    """x without the given axes of size 1; without any given, without all of them."""

    name, code = "SQUEEZE", 43
    keeps_scale = True
    types = f"T -> T: {PLAIN}"
    alias = True

    @dataclass(frozen=True)
    class Attrs:
        squeeze_dims: tuple[int, ...] = ()

    def infer(site: Site) -> list[Shape]:
        x = site.input(0)
        axes = {site.axis(a, x.rank, "squeeze_dims") for a in site.attrs.squeeze_dims}
        for a in axes:
            site.require(x.shape[a] == 1, f"axis {a} of {x} must have size 1 to be squeezed", 0)
        gone = axes or {a for a in range(x.rank) if x.shape[a] == 1}
        return [tuple(d for a, d in enumerate(x.shape) if a not in gone)]

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        axes = tuple(a % x.ndim for a in site.attrs.squeeze_dims)
        return [np.squeeze(x, axes or None)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        copy(b, xs[0], ys[0])


@register
class ExpandDims(Movement):
    """x with an axis of size 1 put in before axis `axis` (negative: counted from the end of the result)."""

    name, code = "EXPAND_DIMS", 70
    keeps_scale = True
    operands = (("input", "axis"), ("output",))
    types = f"T I -> T: T= {PLAIN}; I= int32 int64"
    alias = True

    def infer(site: Site) -> list[Shape]:
        x = site.input(0)
        site.require(site.input(1).size == 1, f"must have one element, is {site.input(1)}", 1)
        wanted = known_integers(site, 1)
        if wanted is None:
            return [(None,) * (x.rank + 1)]
        axis = site.axis(wanted[0], x.rank + 1)
        return [(*x.shape[:axis], 1, *x.shape[axis:])]

    def evaluate(site: Site, x: np.ndarray, axis: np.ndarray) -> list[np.ndarray]:
        (where,) = integers(axis)
        if not -x.ndim - 1 <= where <= x.ndim:
            raise ExecutionError(f"axis must be in [{-x.ndim - 1}, {x.ndim}], is {where}")
        return [np.expand_dims(x, where)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        copy(b, xs[0], ys[0])


@register
class ShapeOf(Movement):
    """The sizes of x, as a vector."""

    name, code = "SHAPE", 77
    of_shapes = True
    types = f"T -> I: T= {PLAIN}; I= int32 int64"

    @dataclass(frozen=True)
    class Attrs:
        out_type: DType = INT32

    def infer(site: Site) -> list[Shape]:
        return [(site.input(0).rank,)]

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        return [np.array(x.shape, site.outputs[0].dtype.numpy)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        for i, size in enumerate(site.input(0).shape):
            b.store(ys[0], i, size)


@register
class Rank(Movement):
    """The number of axes of x, a scalar."""

    name, code = "RANK", 110
    of_shapes = True
    types = f"T -> int32: {PLAIN}"

    def infer(site: Site) -> list[Shape]:
        site.input(0)
        return [()]

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        return [np.array(x.ndim, np.int32)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        b.store(ys[0], (), site.input(0).rank)


@register
class BroadcastArgs(Op):
    """The shape (as a vector) to which two shapes broadcast."""

    name, code = "BROADCAST_ARGS", 145
    operands = (("shape1", "shape2"), ("output",))
    types = "T T -> T: int32 int64"
    Attrs = NoAttrs

    def infer(site: Site) -> list[Shape]:
        return [(max(site.rank(0, 1).size, site.rank(1, 1).size),)]

    def evaluate(site: Site, first: np.ndarray, second: np.ndarray) -> list[np.ndarray]:
        rank = max(first.size, second.size)
        a, c = (np.concatenate([np.ones(rank - s.size, s.dtype), s]) for s in (first, second))
        if np.any((a != c) & (a != 1) & (c != 1)):
            raise ExecutionError(f"the shapes {integers(first)} and {integers(second)} do not broadcast")
        return [np.where(a == 1, c, a)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        longer, shorter = (xs[0], xs[1]) if xs[0].size >= xs[1].size else (xs[1], xs[0])
        ahead = longer.size - shorter.size
        with b.loop(ahead) as i:
            b.store(ys[0], i, longer[i])
        with b.loop(shorter.size) as i:
            value = b.variable(longer[i + ahead], "size")
            other = shorter[i]
            with b.when(value[()].differs(other)):
                one = value[()].equals(1)
                b.fail_unless(one | other.equals(1), "the shapes do not broadcast")
                with b.when(one):
                    b.store(value, (), other)
            b.store(ys[0], i + ahead, value[()])


@register
class BroadcastTo(Movement):
    """x repeated along its axes of size 1 (and new leading axes) to the given shape."""

    name, code = "BROADCAST_TO", 130
    keeps_scale = True
    named_axes = Axes(rows=(1,))
    operands = (("input", "shape"), ("output",))
    types = f"T I -> T: T= {PLAIN}; I= int32 int64"

    def infer(site: Site) -> list[Shape]:
        x, rank = site.input(0), vector_length(site, 1)
        wanted = known_integers(site, 1)
        if wanted is None:
            return [(None,) * rank]
        site.require(_broadcasts(x.shape, wanted), f"{x} cannot be broadcast to {wanted}", 1)
        return [tuple(wanted)]

    def evaluate(site: Site, x: np.ndarray, shape: np.ndarray) -> list[np.ndarray]:
        wanted = integers(shape)
        if not _broadcasts(x.shape, wanted):
            raise ExecutionError(f"shape {list(x.shape)} cannot be broadcast to {wanted}")
        return [np.array(np.broadcast_to(x, wanted), order="C")]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        b.elementwise(ys[0], lambda v: v, xs[0])


def _broadcasts(shape: Shape, wanted: list[int]) -> bool:
    if len(wanted) < len(shape) or any(d < 0 for d in wanted):
        return False
    return all(s in (1, w) for s, w in zip(reversed(shape), reversed(wanted), strict=False))


@register
class Tile(Movement):
    """x repeated `multiples[a]` times along each axis a."""

    name, code = "TILE", 69
    keeps_scale = True
    named_axes = Axes(rows=(1,))
    operands = (("input", "multiples"), ("output",))
    types = f"T I -> T: T= {PLAIN}; I= int32 int64"

    def infer(site: Site) -> list[Shape]:
        x = site.input(0)
        site.require(vector_length(site, 1) == x.rank, f"must have one element for each axis of {x}", 1)
        times = known_integers(site, 1)
        if times is None:
            return [(None,) * x.rank]
        site.require(min(times, default=0) >= 0, f"must not be negative, are {times}", 1)
        return [tuple(d * t for d, t in zip(x.shape, times, strict=True))]

    def evaluate(site: Site, x: np.ndarray, multiples: np.ndarray) -> list[np.ndarray]:
        times = integers(multiples)
        if min(times, default=0) < 0:
            raise ExecutionError(f"multiples must not be negative, are {times}")
        return [np.tile(x, times)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        x, y = xs[0], ys[0]
        if x.size == 0 or y.size == 0:
            return
        # y as [times, size, times, size, ...] and x as [1, size, 1, size, ...]: a broadcast
        pairs = [(n // d, d) for n, d in zip(y.shape, x.shape, strict=True)]
        wide = y.viewed(tuple(v for pair in pairs for v in pair))
        b.elementwise(wide, lambda v: v, x.viewed(tuple(v for d in x.shape for v in (1, d))))
