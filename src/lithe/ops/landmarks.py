"""MediaPipe's operators for attention on a part of a face: a square around landmarks is cut out and mapped back.

Source: MediaPipe, util/tflite/operations (version 2 of each; behaviour, not text).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from lithe.ir.arithmetic import floor, maximum, minimum, sqrt, where
from lithe.ir.build import Builder
from lithe.ir.loops import INDEX, Buffer, Const, select
from lithe.ops.op import NoAttrs, Op, Site, register
from lithe.types import FLOAT32, Shape

F = np.float32


@register
class LandmarksToTransformMatrix(Op):
    """The matrix [1, 4, 4] that takes pixels of an upright square picture to places around some landmarks [1, n, 3].

    The square is turned so that the line from the left to the right landmark has the target angle, holds the
    subset of landmarks, and is scaled by (scale_x, scale_y) around its centre.
    """

    name = "Landmarks2TransformMatrix"
    operands = (("landmarks",), ("matrix",))
    types = "float32 -> float32"

    @dataclass(frozen=True)
    class Attrs:
        subset_idxs: tuple[int, ...] = ()
        left_rotation_idx: int = 0
        right_rotation_idx: int = 0
        target_rotation_radians: float = 0.0
        output_height: int = 1
        output_width: int = 1
        scale_x: float = 1.0
        scale_y: float = 1.0

    def infer(site: Site) -> list[Shape]:
        a, x = site.attrs, site.rank(0, 3)
        site.require(x.shape[0] == 1 and x.shape[2] == 3, f"must have shape [1, landmarks, 3], is {x}", 0)
        site.require(len(a.subset_idxs) > 0, "subset_idxs must not be empty")
        for key, indices in (
            ("subset_idxs", a.subset_idxs),
            ("left_rotation_idx", (a.left_rotation_idx,)),
            ("right_rotation_idx", (a.right_rotation_idx,)),
        ):
            inside = all(0 <= i < x.shape[1] for i in indices)
            site.require(inside, f"{key} {list(indices)} must lie in [0, {x.shape[1]})")
        for key in ("output_height", "output_width", "scale_x", "scale_y"):
            site.require(getattr(a, key) > 0, f"{key} must be positive, is {getattr(a, key)}")
        return [(1, 4, 4)]

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        a, points = site.attrs, x[0]
        cosine, sine = _turn(a, points[a.left_rotation_idx], points[a.right_rotation_idx], F(0), F(1))
        some = points[list(a.subset_idxs)]
        across, along = _turned(some[:, 0], some[:, 1], cosine, sine)
        rows = _matrix(a, cosine, sine, (across.min(), across.max()), (along.min(), along.max()))
        return [np.array([*rows, [0, 0, 1, 0], [0, 0, 0, 1]], F)[None]]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        a, (x,), (y,) = site.attrs, xs, ys
        ends = [[x[0, i, k] for k in (0, 1)] for i in (a.left_rotation_idx, a.right_rotation_idx)]
        turn = _turn(a, *ends, Const(0.0, FLOAT32), Const(1.0, FLOAT32))
        cosine, sine = (b.variable(v, n)[()] for v, n in zip(turn, ("cosine", "sine"), strict=True))
        subset = b.constant(np.array(a.subset_idxs, np.int32), "subset")
        first = _turned(x[0, a.subset_idxs[0], 0], x[0, a.subset_idxs[0], 1], cosine, sine)
        extremes = [(b.variable(v, "least"), b.variable(v, "most")) for v in first]
        with b.loop(subset.size) as i:
            place = subset[i].to(INDEX)
            for value, (least, most) in zip(
                _turned(x[0, place, 0], x[0, place, 1], cosine, sine), extremes, strict=True
            ):
                b.store(least, (), minimum(value, least[()]))
                b.store(most, (), maximum(value, most[()]))
        rows = _matrix(a, cosine, sine, *((least[()], most[()]) for least, most in extremes))
        for r, row in enumerate([*rows, (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0)]):
            for c, value in enumerate(row):
                b.store(y, (0, r, c), value)


def _turn(a: LandmarksToTransformMatrix.Attrs, left: Any, right: Any, zero: Any, one: Any) -> tuple[Any, Any]:
    """Cosine and sine of (target angle - angle of the line from left to right), without a trigonometric function."""
    dx, dy = right[0] - left[0], right[1] - left[1]
    length = sqrt(dx * dx + dy * dy)
    apart = length > zero
    safe = where(apart, length, one)
    cosine, sine = where(apart, dx / safe, one), where(apart, dy / safe, zero)
    wanted = F(math.cos(a.target_rotation_radians)), F(math.sin(a.target_rotation_radians))
    return cosine * wanted[0] + sine * wanted[1], cosine * wanted[1] - sine * wanted[0]


def _turned(x: Any, y: Any, cosine: Any, sine: Any) -> tuple[Any, Any]:
    return x * cosine - y * sine, x * sine + y * cosine


def _matrix(a: LandmarksToTransformMatrix.Attrs, cosine: Any, sine: Any, across: Any, along: Any) -> list[tuple]:
    """The upper two rows: to the centre, turned back, scaled, with the middle of the output as origin."""
    wide = (across[1] - across[0]) * F(a.scale_x) / F(a.output_width)
    high = (along[1] - along[0]) * F(a.scale_y) / F(a.output_height)
    centre = (across[0] + across[1]) * F(0.5), (along[0] + along[1]) * F(0.5)
    x, y = _turned(*centre, cosine, -sine)
    m = cosine * wide, sine * high, -sine * wide, cosine * high
    right, down = F(a.output_width / 2), F(a.output_height / 2)
    zero = 0.0
    return [(m[0], m[1], zero, x - m[0] * right - m[1] * down), (m[2], m[3], zero, y - m[2] * right - m[3] * down)]


def _matrix_rule(site: Site) -> None:
    site.require(site.input(1).shape == (1, 4, 4), f"must have shape [1, 4, 4], is {site.input(1)}", 1)


@register
class TransformLandmarks(Op):
    """Landmarks [1, n, 2 or 3] with (x, y) taken through a matrix [1, 4, 4]; a third number stays as it is."""

    name = "TransformLandmarks"
    operands = (("landmarks", "matrix"), ("output",))
    types = "float32 float32 -> float32"
    Attrs = NoAttrs

    def infer(site: Site) -> list[Shape]:
        x = site.rank(0, 3)
        site.require(x.shape[0] == 1 and x.shape[2] in (2, 3), f"must have shape [1, landmarks, 2 or 3], is {x}", 0)
        _matrix_rule(site)
        return [x.shape]

    def evaluate(site: Site, x: np.ndarray, matrix: np.ndarray) -> list[np.ndarray]:
        m = matrix[0]
        moved = [x[..., 0] * m[r, 0] + x[..., 1] * m[r, 1] + m[r, 3] for r in (0, 1)]
        return [np.stack([*moved, *(x[..., k] for k in range(2, x.shape[2]))], -1)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        x, m = xs
        with b.loop(x.shape[1], "parallel") as n:
            for r in (0, 1):
                b.store(ys[0], (0, n, r), x[0, n, 0] * m[0, r, 0] + x[0, n, 1] * m[0, r, 1] + m[0, r, 3])
            if x.shape[2] == 3:
                b.store(ys[0], (0, n, 2), x[0, n, 2])


@register
class TransformTensorBilinear(Op):
    """Pixels [1, output_height, output_width, channels] taken from x [1, h, w, channels] at places that a matrix gives.

    The centre of an output pixel is multiplied by the matrix [1, 4, 4]; the four pixels of x around the result are
    blended. A place outside of x gives 0.
    """

    name = "TransformTensorBilinear"
    operands = (("input", "matrix"), ("output",))
    types = "float32 float32 -> float32"

    @dataclass(frozen=True)
    class Attrs:
        output_height: int = 1
        output_width: int = 1

    def infer(site: Site) -> list[Shape]:
        a, x = site.attrs, site.rank(0, 4)
        site.require(x.shape[0] == 1 and min(x.shape) > 0, f"must have shape [1, h, w, channels], is {x}", 0)
        _matrix_rule(site)
        size = a.output_height, a.output_width
        site.require(min(size) > 0, f"output_height and output_width must be positive, are {size}")
        return [(1, *size, x.shape[3])]

    def evaluate(site: Site, x: np.ndarray, matrix: np.ndarray) -> list[np.ndarray]:
        _, oh, ow, _ = site.outputs[0].shape
        _, h, w, _ = x.shape
        rows, columns = np.arange(oh, dtype=F)[:, None], np.arange(ow, dtype=F)
        with np.errstate(over="ignore", invalid="ignore"):
            across, along = (_place(matrix[0, r], rows, columns) for r in (0, 1))
        inside = (across >= 0) & (across <= w - 1) & (along >= 0) & (along <= h - 1)
        across, along = np.where(inside, across, F(0)), np.where(inside, along, F(0))
        left, top = np.floor(across), np.floor(along)
        j, i = left.astype(np.int64), top.astype(np.int64)
        right, below = np.minimum(j + 1, w - 1), np.minimum(i + 1, h - 1)
        corners = (x[0, i, j], x[0, i, right], x[0, below, j], x[0, below, right])
        value = _blend(corners, (across - left)[..., None], (along - top)[..., None])
        return [np.where(inside[..., None], value, F(0))[None]]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        x, m = xs
        _, oh, ow, channels = ys[0].shape
        _, h, w, _ = x.shape
        with b.nest((oh, ow), "parallel") as (oy, ox):
            row, column = oy.to(FLOAT32), ox.to(FLOAT32)
            places = [_place([m[0, r, k] for k in range(4)], row, column) for r in (0, 1)]
            across, along = (b.variable(p, n) for p, n in zip(places, ("across", "along"), strict=True))
            inside = (across[()] >= 0.0) & (across[()] <= float(w - 1)) & (along[()] >= 0.0)
            inside = inside & (along[()] <= float(h - 1))
            corner, shares = [], []
            for at, size in ((across, w), (along, h)):
                safe = b.variable(select(inside, at[()], Const(0.0, FLOAT32)), "at")
                low = floor(safe[()])
                shares.append(b.variable(safe[()] - low, "share"))
                first = b.variable(low.to(INDEX), "first")
                corner.append((first[()], b.variable(minimum(first[()] + 1, size - 1), "second")[()]))
            within = b.variable(inside, "inside")
            (j, right), (i, below) = corner
            with b.loop(channels, "parallel") as c:
                found = (x[0, i, j, c], x[0, i, right, c], x[0, below, j, c], x[0, below, right, c])
                value = _blend(found, shares[0][()], shares[1][()])
                b.store(ys[0], (0, oy, ox, c), select(within[()], value, Const(0.0, FLOAT32)))


def _place(row_of_matrix: Any, y: Any, x: Any) -> Any:
    """One coordinate in the source of the pixel (y, x); pixels are counted by their centres."""
    a, c, _, shift = row_of_matrix
    shift = shift + (a * F(0.5) + c * F(0.5) - F(0.5))
    return a * x + c * y + shift


def _blend(corners: tuple[Any, ...], right: Any, down: Any) -> Any:
    """The value between (top left, top right, bottom left, bottom right)."""
    tl, tr, bl, br = corners
    upper, lower = (1 - right) * tl + right * tr, (1 - right) * bl + right * br
    return down * lower + (1 - down) * upper
