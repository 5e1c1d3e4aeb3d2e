"""What ONNX's operators are in builtins: pictures of another size, and pictures looked at from other places.

RESIZE_BILINEAR and RESIZE_NEAREST_NEIGHBOR are used where they say the same. What they cannot say, interpolation by
cubes, cropping, other coordinates, is a product with a matrix along each axis, whose rows say what a place of the
result takes of the places of the picture.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lithe.conversion import matrices
from lithe.conversion.builder import Builder
from lithe.conversion.onnx import resize_computed
from lithe.conversion.onnx.call import Call, rule
from lithe.conversion.parts import channels_first, channels_last
from lithe.conversion.sizes import is_fixed, is_open
from lithe.ir.graph import Tensor
from lithe.passes.writer import Value
from lithe.types import BOOL, FLOAT32


@dataclass(frozen=True)
class Axis:
    """How one axis is resized: n places become m, `scale` times as many (as the model says it)."""

    n: int
    m: int
    scale: float
    start: float = 0.0
    end: float = 1.0


@rule("Upsample")
def upsample(b: Builder, c: Call) -> Tensor:
    """The oldest form of Resize."""
    mode = {"nearest": "nearest", "linear": "linear", "bilinear": "linear"}[c.attr("mode", "nearest")]
    if c.attr("scales") is None and c.known(1) is None:
        return _computed(b, c, c[0], list(range(c[0].type.rank)), c[1], None)
    scales = [float(s) for s in (c.attr("scales") or c.array(1))]
    axes = [Axis(n, int(n * s), s) for n, s in zip(c[0].type.shape, scales, strict=True)]
    return resized(b, c, c[0], axes, mode, "asymmetric", "floor")


@rule("Resize")
def resize(b: Builder, c: Call) -> Tensor:
    x, mode = c[0], c.attr("mode", "nearest")
    coordinates = c.attr("coordinate_transformation_mode", "half_pixel")
    along = [a % x.type.rank for a in c.attr("axes", list(range(x.type.rank)))]
    if c.version < 11:
        if c.known(1) is None:
            return _computed(b, c, x, along, c[1], None)
        axes = [Axis(n, math.floor(n * s), s) for n, s in zip(x.type.shape, map(float, c.array(1)), strict=True)]
        return resized(b, c, x, axes, mode, "asymmetric", "floor")
    crops = coordinates == "tf_crop_and_resize" and c.has(1) and c.shape(1)[0] > 0
    by_size = c.has(3) and c.shape(3)[0] > 0
    policy = c.attr("keep_aspect_ratio_policy", "stretch")
    wanted = _sizes_wanted(c, x, along, policy) if by_size else None
    if (crops and c.known(1) is None) or (wanted is None and c.known(3 if by_size else 2) is None):
        scales = c[2] if not by_size else _ratios(b, c, x, along, policy)
        return _computed(b, c, x, along, scales, c[1] if crops else None)
    region = c.array(1) if crops else None
    ends = [(0.0, 1.0) if region is None else (float(region[i]), float(region[i + len(along)]))
            for i in range(len(along))]  # fmt: skip
    axes = [Axis(n, n, 1.0) for n in x.type.shape]
    for i, a in enumerate(along):
        n, (start, end) = x.type.shape[a], ends[i]
        if wanted is not None:
            axes[a] = Axis(n, wanted[i][0], wanted[i][1], start, end)
        else:
            scale = float(c.array(2)[i])
            span = n * (end - start)
            whole = is_open(n) and scale == int(scale)
            axes[a] = Axis(n, n * int(scale) if whole else math.floor(span * scale + 1e-9), scale, start, end)
    return resized(b, c, x, axes, mode, coordinates, c.attr("nearest_mode", "round_prefer_floor"))


def _sizes_wanted(c: Call, x: Tensor, along: Sequence[int], policy: str) -> list[tuple[int, float]] | None:
    """For each axis the size and the scale; None where they are computed when the model runs."""
    known = c.known(3)
    sizes = [int(n) for n in known] if known is not None else [c.declared(0, x.type.rank)[a] for a in along]
    if policy == "stretch":
        if known is None and not is_fixed(sizes):
            return None
        return [(m, m / x.type.shape[a]) for a, m in zip(along, sizes, strict=True)]
    if known is None:
        return None
    ratios = [m / x.type.shape[a] for a, m in zip(along, sizes, strict=True)]
    ratio = min(ratios) if policy == "not_larger" else max(ratios)
    return [(math.floor(ratio * x.type.shape[a] + 0.5), ratio) for a in along]


def _ratios(b: Builder, c: Call, x: Tensor, along: Sequence[int], policy: str) -> Tensor:
    """Scales from sizes that are computed."""
    have = b.constant([x.type.shape[a] for a in along], FLOAT32)
    ratios = b("DIV", b.cast(c[3], FLOAT32), have)
    if policy == "stretch":
        return ratios
    builtin = "REDUCE_MIN" if policy == "not_larger" else "REDUCE_MAX"
    return b.broadcast(b(builtin, ratios, b.constant([0]), keep_dims=True), (len(along),))


def _computed(b: Builder, c: Call, x: Tensor, along: Sequence[int], scales: Tensor, region: Tensor | None) -> Tensor:
    """Scales that a run tells; the size of the result must be declared."""
    shape = c.declared(0, x.type.rank)
    b.require(is_fixed(shape) and is_fixed(x.type.shape), "a resizing by computed scales of an open dimension")
    work = b.cast(x, FLOAT32)

    def number(t: Tensor, i: int) -> Value:
        return Value(b, b.reshape(b.cast(b.slice(t, [i], [1]), FLOAT32), ()))

    for i, axis in enumerate(along):
        if region is None and shape[axis] == x.type.shape[axis] and axis < 2:
            continue  # batch and channels
        ends = None if region is None else (number(region, i), number(region, i + len(along)))
        work = resize_computed.along(b, c, work, axis, shape[axis], number(scales, i), ends)
    return b.cast(work, x.type.dtype)


def resized(b: Builder, c: Call, x: Tensor, axes: Sequence[Axis], mode: str, coordinates: str, rounding: str) -> Tensor:
    dtype = x.type.dtype
    if all(a.n == a.m and (a.start, a.end) == (0.0, 1.0) for a in axes):
        return x
    antialias = bool(c.attr("antialias", 0)) and any(a.m < a.n for a in axes)
    builtin = None if antialias or c.attr("exclude_outside", 0) else _builtin(axes, mode, coordinates, rounding)
    if builtin is not None and x.type.rank == 4:
        name, attrs = builtin
        work = b.cast(x, FLOAT32) if name == "RESIZE_BILINEAR" else x
        last = channels_last(b, work)
        places = [a.m for a in axes[2:]]
        shape = (x.type.shape[0], *places, x.type.shape[1])
        made = b.sized(name, [last, b.vector(places)], shape, **attrs)
        return b.cast(channels_first(b, made), dtype)
    work = b.cast(x, FLOAT32)
    for axis, a in enumerate(axes):
        if a.n == a.m and (a.start, a.end) == (0.0, 1.0):
            continue
        b.require(is_fixed((a.n, a.m)), "such a resizing of an open dimension")
        work = _along(b, c, work, axis, a, mode, coordinates, rounding, antialias)
    return b.cast(work, dtype)


def _builtin(axes: Sequence[Axis], mode: str, coordinates: str, rounding: str) -> tuple[str, dict[str, bool]] | None:
    """The builtin that says the same, and its attributes."""
    if len(axes) != 4 or any(a.n != a.m for a in axes[:2]) or any((a.start, a.end) != (0.0, 1.0) for a in axes):
        return None
    exact = all(is_open(a.n) or abs(a.m - a.n * a.scale) < 1e-5 * a.m for a in axes)
    whole = all(not is_open(a.n) or a.m % a.n == 0 for a in axes)
    if not exact or not whole:
        return None
    corners, half = coordinates == "align_corners", coordinates in ("half_pixel", "pytorch_half_pixel")
    if coordinates == "pytorch_half_pixel" and any(a.m == 1 for a in axes[2:]):
        return None
    if mode in ("linear", "bilinear") and (corners or half or coordinates == "asymmetric"):
        if corners and any(a.m == 1 for a in axes[2:]):
            return None
        return "RESIZE_BILINEAR", {"align_corners": corners, "half_pixel_centers": half}
    if mode == "nearest" and coordinates == "asymmetric" and rounding == "floor":
        return "RESIZE_NEAREST_NEIGHBOR", {"align_corners": False, "half_pixel_centers": False}
    upwards = all(a.m % a.n == 0 for a in axes[2:])  # then no place lies in the middle between two
    if mode == "nearest" and half and upwards and rounding.startswith("round"):
        return "RESIZE_NEAREST_NEIGHBOR", {"align_corners": False, "half_pixel_centers": True}
    return None


def _along(b: Builder, c: Call, x: Tensor, axis: int, a: Axis, mode: str, coordinates: str, rounding: str,
           antialias: bool) -> Tensor:  # fmt: skip
    places, outside = _coordinates(a, coordinates)
    if mode == "nearest":
        rows = np.clip(ROUNDINGS[rounding](places), 0, a.n - 1).astype(np.int32)
        made = b("GATHER", x, b.constant(rows), axis=axis, batch_dims=0)
    else:
        weights = _weights(a, places, mode, c.attr("cubic_coeff_a", -0.75), bool(c.attr("exclude_outside", 0)),
                           antialias)  # fmt: skip
        made = weighted(b, x, axis, weights)
    if coordinates == "tf_crop_and_resize" and outside.any():
        shape = [a.m if i == axis else 1 for i in range(x.type.rank)]
        fill = b.constant(c.attr("extrapolation_value", 0.0), FLOAT32)
        made = b("SELECT_V2", b.constant(outside.reshape(shape), BOOL), fill, made, dtype=FLOAT32)
    return made


ROUNDINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "round_prefer_floor": lambda v: np.ceil(v - 0.5), "round_prefer_ceil": lambda v: np.floor(v + 0.5),
    "floor": np.floor, "ceil": np.ceil,
}  # fmt: skip


def _coordinates(a: Axis, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """For each place of the result the place in the picture; and whether it lies outside."""
    i = np.arange(a.m, dtype=np.float64)
    length = a.n * a.scale
    if kind == "align_corners":
        places = i * (a.n - 1) / (length - 1) if length > 1 else i * 0
    elif kind == "asymmetric":
        places = i / a.scale
    elif kind == "pytorch_half_pixel":
        places = (i + 0.5) / a.scale - 0.5 if a.m > 1 else i * 0 - 0.5 * 0
    elif kind == "half_pixel_symmetric":
        centre = a.n / 2
        offset = centre * (1 - a.m / length)
        places = offset + (i + 0.5) / a.scale - 0.5
    elif kind == "tf_crop_and_resize":
        span = (a.n - 1) * (a.end - a.start)
        places = a.start * (a.n - 1) + (i * span / (a.m - 1) if a.m > 1 else 0 * i + span / 2)
        if a.m == 1:
            places = 0.5 * (a.start + a.end) * (a.n - 1) + 0 * i
    else:
        places = (i + 0.5) / a.scale - 0.5
    return places, (places < 0) | (places > a.n - 1)


def _weights(a: Axis, places: np.ndarray, mode: str, cube: float, inside_only: bool, antialias: bool) -> np.ndarray:
    """[m, n]: what each place of the result takes of the places of the picture."""
    shrink = min(a.scale, 1.0) if antialias else 1.0
    reach = (1.0 if mode in ("linear", "bilinear") else 2.0) / shrink
    weights = np.zeros((a.m, a.n))
    for row, at in enumerate(places):
        taps = np.arange(math.floor(at - reach) + 1, math.ceil(at + reach) + 1)
        own = np.array([_kernel(abs(at - t) * shrink, mode, cube) for t in taps])
        if inside_only:
            own = np.where((taps >= 0) & (taps < a.n), own, 0)
        total = own.sum()
        if total and (inside_only or antialias):
            own = own / total
        np.add.at(weights[row], np.clip(taps, 0, a.n - 1), own)
    return weights.astype(np.float32)


def _kernel(d: float, mode: str, cube: float) -> float:
    """The weight of a place at this distance. Source of cubes: Keys, Cubic convolution (1981)."""
    if mode in ("linear", "bilinear"):
        return max(1 - d, 0.0)
    if d <= 1:
        return (cube + 2) * d**3 - (cube + 3) * d**2 + 1
    return cube * d**3 - 5 * cube * d**2 + 8 * cube * d - 4 * cube if d < 2 else 0.0


def weighted(b: Builder, x: Tensor, axis: int, weights: np.ndarray) -> Tensor:
    """Sums along one axis: y[.., m, ..] = sum over n of weights[m, n] x[.., n, ..]"""
    order = [i for i in range(x.type.rank) if i != axis] + [axis]
    turned = matrices.dense(b, b.transpose(x, order), b.constant(weights, FLOAT32))
    return b.transpose(turned, [order.index(i) for i in range(x.type.rank)])
