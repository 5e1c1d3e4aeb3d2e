"""RESIZE_BILINEAR and RESIZE_NEAREST_NEIGHBOR: pictures [batch, height, width, channels] in another size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lithe.errors import ExecutionError
from lithe.ir.build import Builder
from lithe.ir.loops import INDEX, Buffer, Const, Expr, select
from lithe.ops.layout import PLAIN, Movement, integers, known_integers
from lithe.ops.op import Op, Site, register
from lithe.types import INT32, INT64, Shape

F = np.float32


@dataclass(frozen=True)
class ResizeAttrs:
    """align_corners: the corner pixels' centres stay; half_pixel_centers: pixels are squares, not points."""

    align_corners: bool = False
    half_pixel_centers: bool = False


def resized_shape(site: Site) -> list[Shape]:
    n, _, _, c = site.rank(0, 4).shape
    site.require(site.input(1).shape == (2,), f"must have shape [2], is {site.input(1)}", 1)
    site.require(min(site.input(0).shape) > 0, f"{site.input(0)} has no pixels", 0)
    size = known_integers(site, 1)
    site.require(size is None or min(size) > 0, f"must be positive, is {size}", 1)
    return [(n, *(size or (None, None)), c)]


def running_size(size: np.ndarray) -> list[int]:
    wanted = integers(size)
    if min(wanted) <= 0:
        raise ExecutionError(f"size must be positive, is {wanted}")
    return wanted


def factor(source: int, target: int, attrs: ResizeAttrs) -> np.float32:
    """Source pixels for one pixel of the target."""
    if attrs.align_corners and target > 1:
        return F(source - 1) / F(target - 1)
    return F(source) / F(target)


@dataclass(frozen=True)
class Taps:
    """For each pixel along one axis of the result: two source pixels and the weight of the second."""

    low: np.ndarray
    high: np.ndarray
    weight: np.ndarray


def taps(source: int, target: int, attrs: ResizeAttrs) -> Taps:
    """Source: XNNPACK, indirection initialisation of resize-bilinear, in float32."""
    scale, at = factor(source, target, attrs), np.arange(target, dtype=F)
    if attrs.half_pixel_centers and not attrs.align_corners:
        at = np.clip(at * scale + (F(0.5) * scale - F(0.5)), F(0), F(source - 1))
    else:
        at = at * scale
    low = np.minimum(at.astype(np.int32), source - 1)
    return Taps(low, np.minimum(low + 1, source - 1), (at - low.astype(F)).astype(F))


def fixed_taps(source: int, target: int, attrs: ResizeAttrs) -> Taps:
    """The same with weights of 10 bits. Source: TensorFlow Lite, integer ResizeBilinear."""
    if attrs.align_corners and target > 1:
        scale = (1024 * (source - 1) + (target - 1) // 2) // (target - 1)
    else:
        scale = (1024 * source + target // 2) // target
    at = np.arange(target, dtype=np.int64) * scale
    if attrs.half_pixel_centers:
        at = at + scale // 2 - 512
    low = np.maximum(np.trunc(at / 1024).astype(np.int64), 0)
    high = np.minimum(np.trunc((at + 1023) / 1024).astype(np.int64), source - 1)
    low = np.minimum(low, source - 1)
    return Taps(low.astype(np.int32), np.maximum(high, 0).astype(np.int32), at - 1024 * low)


def _all_taps(site: Site, shape: Shape, size: list[int]) -> tuple[Taps, Taps]:
    """Taps along height and width, with weights in the numbers that `_blend` works in."""
    name = site.outputs[0].dtype.name
    if name == "int16":
        return fixed_taps(shape[1], size[0], site.attrs), fixed_taps(shape[2], size[1], site.attrs)
    pair = [taps(s, t, site.attrs) for s, t in zip(shape[1:3], size, strict=True)]
    if name != "float32":  # 11 bits, as XNNPACK's 8-bit kernels
        pair = [Taps(p.low, p.high, np.rint(p.weight * F(2048)).astype(np.int32)) for p in pair]
    return pair[0], pair[1]


def _blend(name: str, corners: tuple[Any, ...], right: Any, down: Any) -> Any:
    """The value between four corners (top left, top right, bottom left, bottom right), before the cast to the type."""
    tl, tr, bl, br = corners
    if name == "float32":
        top, bottom = tl + (tr - tl) * right, bl + (br - bl) * right
        return top + (bottom - top) * down
    if name == "int16":
        total = (tl * (1024 - down) + bl * down) * (1024 - right) + (tr * (1024 - down) + br * down) * right
        if isinstance(total, Expr):
            half = select(total > 0, Const(1 << 19, INT64), Const(-(1 << 19), INT64))
            return (total + half) // (1 << 20)
        return np.sign(total) * ((np.abs(total) + (1 << 19)) >> 20)
    top, bottom = tl * 2048 + (tr - tl) * right, bl * 2048 + (br - bl) * right
    return (top * 2048 + (bottom - top) * down + (1 << 21)) >> 22


@register
class ResizeBilinear(Op):
    """Each pixel is blended from the four nearest. int8, uint8: weights of 11 bits, as XNNPACK; int16: of 10 bits."""

    name, code = "RESIZE_BILINEAR", 23
    keeps_scale = True
    operands = (("images", "size"), ("output",))
    types = "T int32 -> T: float32 int8 uint8 int16"
    Attrs = ResizeAttrs
    infer = resized_shape

    def evaluate(site: Site, x: np.ndarray, size: np.ndarray) -> list[np.ndarray]:
        rows, columns = _all_taps(site, x.shape, running_size(size))
        name = site.outputs[0].dtype.name
        wide = {"float32": np.float32, "int16": np.int64}.get(name, np.int32)

        def corner(row: np.ndarray, column: np.ndarray) -> np.ndarray:
            return x[:, row][:, :, column].astype(wide)

        corners = tuple(corner(r, c) for r in (rows.low, rows.high) for c in (columns.low, columns.high))
        right, down = columns.weight[:, None].astype(wide), rows.weight[:, None, None].astype(wide)
        return [np.asarray(_blend(name, corners, right, down)).astype(x.dtype)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        x, (y,) = xs[0], ys
        rows, columns = _all_taps(site, x.shape, integers(site.constant(1)))
        dtype = y.dtype
        wide = dtype if dtype.is_float else INT64 if dtype.name == "int16" else INT32
        tables = [b.constant(t, n) for axis, t3 in (("row", rows), ("column", columns))
                  for t, n in ((t3.low, axis), (t3.high, f"{axis}_next"), (t3.weight, f"{axis}_weight"))]  # fmt: skip
        n, oh, ow, channels = y.shape
        with b.nest((n, oh, ow), "parallel") as (i, oy, ox):
            top, bottom = (b.variable(t[oy].to(INDEX), "row") for t in tables[:2])
            down = b.variable(tables[2][oy].to(wide), "down")
            left, right = (b.variable(t[ox].to(INDEX), "column") for t in tables[3:5])
            across = b.variable(tables[5][ox].to(wide), "across")
            with b.loop(channels, "parallel") as c:
                corners = tuple(x[i, r[()], q[()], c].to(wide) for r in (top, bottom) for q in (left, right))
                b.store(y, (i, oy, ox, c), _blend(dtype.name, corners, across[()], down[()]).to(dtype))


def nearest(source: int, target: int, attrs: ResizeAttrs) -> np.ndarray:
    """The source pixel for each pixel of the target. Source: TensorFlow Lite, GetNearestNeighbor, in float32."""
    at = np.arange(target, dtype=F) + F(0.5 if attrs.half_pixel_centers else 0.0)
    at = at * factor(source, target, attrs)
    at = np.floor(at + F(0.5)) if attrs.align_corners else np.floor(at)
    return np.clip(at, 0, source - 1).astype(np.int32)


def repeats(places: np.ndarray, source: int) -> bool:
    """Whether every source pixel comes equally often, one after another."""
    times, rest = divmod(len(places), source)
    return rest == 0 and np.array_equal(places, np.arange(len(places)) // times)


@register
class ResizeNearest(Movement):
    """Each pixel is the nearest one."""

    name, code = "RESIZE_NEAREST_NEIGHBOR", 97
    keeps_scale = True
    operands = (("images", "size"), ("output",))
    types = f"T int32 -> T: {PLAIN}"
    Attrs = ResizeAttrs
    infer = resized_shape

    def evaluate(site: Site, x: np.ndarray, size: np.ndarray) -> list[np.ndarray]:
        height, width = running_size(size)
        rows, columns = nearest(x.shape[1], height, site.attrs), nearest(x.shape[2], width, site.attrs)
        return [np.ascontiguousarray(x[:, rows][:, :, columns])]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        x, (y,) = xs[0], ys
        n, oh, ow, channels = y.shape
        _, h, w, _ = x.shape
        places = nearest(h, oh, site.attrs), nearest(w, ow, site.attrs)
        if repeats(places[0], h) and repeats(places[1], w):  # whole pixels become blocks: a broadcast
            blocks = y.viewed((n, h, oh // h, w, ow // w, channels))
            b.elementwise(blocks, lambda v: v, x.viewed((n, h, 1, w, 1, channels)))
            return
        rows, columns = b.constant(places[0], "row"), b.constant(places[1], "column")
        with b.nest((n, oh, ow), "parallel") as (i, oy, ox):
            row, column = b.variable(rows[oy].to(INDEX), "row"), b.variable(columns[ox].to(INDEX), "column")
            with b.loop(channels, "parallel") as c:
                b.store(y, (i, oy, ox, c), x[i, row[()], column[()], c])
