"""Pictures whose pixels are taken from places that a second tensor tells, pixel by pixel.

Source: MediaPipe, util/tflite/operations/resampler.cc; TensorFlow Lite, kernels/perception/dense_image_warp.cc
(behaviour, not text).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lithe.ir.arithmetic import F, cast, clamp, floor, where
from lithe.ir.build import Builder
from lithe.ir.loops import INDEX, Buffer, Expr
from lithe.ops.op import Op, Site, register
from lithe.types import FLOAT32, INT32, Shape

Pixel = Callable[[Any, Any], Any]  # (row, column), inside of the picture -> the element there
Pair = tuple[Any, Any]


def infer(site: Site) -> list[Shape]:
    x, places = site.rank(0, 4), site.rank(1, 4)
    wanted = (*x.shape[:3], 2)
    site.require(places.shape == wanted, f"must have shape {list(wanted)}, is {places}", 1)
    return [x.shape]


def evaluated(x: np.ndarray, places: np.ndarray, sample: Callable[..., Any]) -> list[np.ndarray]:
    n, rows, columns, k = (np.asarray(i, np.int32) for i in np.ogrid[tuple(map(slice, x.shape))])
    with np.errstate(all="ignore"):
        pair = places[..., :1], places[..., 1:]
        return [sample(pair, (rows, columns), x.shape[1:3], lambda i, j: x[n, i, j, k]).astype(np.float32)]


def lowered(b: Builder, xs: tuple[Buffer | None, ...], y: Buffer, sample: Callable[..., Any]) -> None:
    x, places = xs
    with b.nest(y.shape, "parallel") as (n, r, c, k):
        pair, here = (places[n, r, c, 0], places[n, r, c, 1]), (r.to(INT32), c.to(INT32))

        def pixel(i: Expr, j: Expr) -> Expr:
            return x[n, i.to(INDEX), j.to(INDEX), k]

        b.store(y, (n, r, c, k), sample(pair, here, y.shape[1:3], pixel))


def _from_map(place: Pair, here: Pair, size: tuple[int, int], pixel: Pixel) -> Any:
    """The picture at (column, row) = place, its four neighbours blended; it is 0 all around."""
    column, row = place
    inside = (column > F(-1.0)) & (row > F(-1.0)) & (column < F(size[1])) & (row < F(size[0]))
    column, row = where(inside, column, F(0.0)), where(inside, row, F(0.0))
    left, top = floor(column), floor(row)
    j, i = cast(left, INT32), cast(top, INT32)
    across, along = left + F(1.0) - column, top + F(1.0) - row  # shares of the left and of the upper neighbours

    def corner(down: int, right: int) -> Any:
        r, c = i + down, j + right
        there = (r >= 0) & (c >= 0) & (r < size[0]) & (c < size[1])
        value = pixel(clamp(r, 0, size[0] - 1), clamp(c, 0, size[1] - 1))
        return where(there, value, F(0.0))

    right, below = -across + F(1.0), -along + F(1.0)
    value = across * along * corner(0, 0) + right * below * corner(1, 1)
    value = value + across * below * corner(1, 0) + right * along * corner(0, 1)
    return where(inside, value, F(0.0))


@register
class Resampler(Op):
    """y[n, r, c] = x[n] at (column, row) = places[n, r, c], between pixels the blend of four; 0 around the picture."""

    name = "Resampler"
    operands = (("input", "places"), ("output",))
    types = "float32 float32 -> float32"
    infer = infer

    def evaluate(site: Site, x: np.ndarray, places: np.ndarray) -> list[np.ndarray]:
        return evaluated(x, places, _from_map)

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        lowered(b, xs, ys[0], _from_map)


def _along_flow(flow: Pair, here: Pair, size: tuple[int, int], pixel: Pixel) -> Any:
    """The picture at here - flow, its four neighbours blended; beyond an edge it goes on as it is there."""
    first, share = [], []
    for at, by, count in zip(here, flow, size, strict=True):
        place = cast(at, FLOAT32) - by
        low = clamp(cast(floor(place), INT32), 0, count - 2)
        first.append(low)
        share.append(clamp(place - cast(low, FLOAT32), F(0.0), F(1.0)))
    (i, j), (down, right) = first, share
    upper, lower = (right * (pixel(r, j + 1) - pixel(r, j)) + pixel(r, j) for r in (i, i + 1))
    return down * (lower - upper) + upper


@register
class DenseImageWarp(Op):
    """y[n, r, c] = x[n] at (r, c) - flow[n, r, c], between pixels the blend of four; edges go on as they are."""

    name = "DenseImageWarp"
    operands = (("input", "flow"), ("output",))
    types = "float32 float32 -> float32"

    def infer(site: Site) -> list[Shape]:
        x = site.rank(0, 4)
        site.require(min(x.shape[1:3]) >= 2, f"must have two rows and two columns or more, is {x}", 0)
        return infer(site)

    def evaluate(site: Site, x: np.ndarray, flow: np.ndarray) -> list[np.ndarray]:
        return evaluated(x, flow, _along_flow)

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        lowered(b, xs, ys[0], _along_flow)
