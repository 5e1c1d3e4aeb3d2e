"""Resizing by scales or regions that are computed when the model runs; the size of the result is known."""

from __future__ import annotations

import math

import numpy as np

from lithe.conversion.builder import Builder
from lithe.conversion.onnx.call import Call
from lithe.ir.graph import Tensor
from lithe.passes.deflex import arithmetic as formulas
from lithe.passes.writer import Value, where
from lithe.types import FLOAT32, INT32


def along(
    b: Builder, c: Call, x: Tensor, axis: int, m: int, scale: Value, region: tuple[Value, Value] | None
) -> Tensor:
    """m places along an axis, `scale` times as many as there are."""
    n = x.type.shape[axis]
    mode, rounding = c.attr("mode", "nearest"), c.attr("nearest_mode", "round_prefer_floor")
    kind = c.attr("coordinate_transformation_mode", "half_pixel" if c.version >= 11 else "asymmetric")
    places = _coordinates(b, kind, n, m, scale, region)
    if mode == "nearest":
        if c.version < 11:
            rounding = "floor"
        rows = formulas.maximum(formulas.minimum(_rounded(places, rounding), float(n - 1)), 0.0)
        made = b("GATHER", x, b.cast(rows.tensor, INT32), axis=axis, batch_dims=0)
    else:
        order = [i for i in range(x.type.rank) if i != axis] + [axis]
        weights = _weights(b, c, places, n, m, scale)
        turned = b("BATCH_MATMUL", b.transpose(x, order), weights.tensor, adj_x=False, adj_y=True)
        made = b.transpose(turned, [order.index(i) for i in range(x.type.rank)])
    if kind == "tf_crop_and_resize":
        inside = formulas.maximum(formulas.minimum(places, float(n - 1)), 0.0).compare("EQUAL", places)
        shape = [m if i == axis else 1 for i in range(x.type.rank)]
        fill = b.constant(c.attr("extrapolation_value", 0.0), FLOAT32)
        made = b("SELECT_V2", b.reshape(inside.tensor, shape), made, fill, dtype=FLOAT32)
    return made


def _coordinates(b: Builder, kind: str, n: int, m: int, scale: Value, region: tuple[Value, Value] | None) -> Value:
    """For each place of the result the place in the picture, [m]."""
    i = Value(b, b.constant(np.arange(m), FLOAT32))
    if kind == "align_corners":
        length = formulas.maximum(scale * float(n) - 1.0, 1e-30)
        return i * float(n - 1) / length
    if kind == "asymmetric":
        return i / scale
    if kind == "pytorch_half_pixel" and m == 1:
        return i * 0.0
    if kind == "half_pixel_symmetric":
        return (i + 0.5) / scale - 0.5 + (1.0 - float(m) / (scale * float(n))) * (n / 2)
    if kind == "tf_crop_and_resize" and region is not None:
        start, end = region
        if m == 1:
            return i * 0.0 + (start + end) * (0.5 * (n - 1))
        return i * ((end - start) * ((n - 1) / (m - 1))) + start * float(n - 1)
    return (i + 0.5) / scale - 0.5


def _rounded(v: Value, rounding: str) -> Value:
    if rounding == "round_prefer_floor":
        return (v - 0.5).apply("CEIL")
    if rounding == "round_prefer_ceil":
        return (v + 0.5).apply("FLOOR")
    return v.apply("FLOOR" if rounding == "floor" else "CEIL")


def _weights(b: Builder, c: Call, places: Value, n: int, m: int, scale: Value) -> Value:
    """[m, n]: what each place of the result takes of the places of the picture. Those outside count for the ends."""
    linear, cube = c.attr("mode") == "linear", c.attr("cubic_coeff_a", -0.75)
    only_inside, antialias = bool(c.attr("exclude_outside", 0)), bool(c.attr("antialias", 0))
    reach = 1 if linear else 2
    beyond = reach * (math.ceil(n / m) + 1 if antialias else 1) + 1
    taps = np.arange(n) if only_inside else np.arange(-beyond, n + beyond)
    distance = abs(Value(b, b.reshape(places.tensor, (m, 1))) - Value(b, b.constant(taps[None, :], FLOAT32)))
    if antialias:
        distance = distance * formulas.minimum(scale, 1.0)
    if linear:
        kernel = formulas.maximum(1.0 - distance, 0.0)
    else:
        d = formulas.minimum(distance, 2.0)
        near = ((d * (cube + 2) - (cube + 3)) * d) * d + 1.0
        far = ((d * cube - 5 * cube) * d + 8 * cube) * d - 4 * cube
        kernel = where(distance > 1.0, far, near)
    if only_inside or antialias:
        kernel = kernel / Value(b, b("SUM", kernel.tensor, b.constant([1]), keep_dims=True))
    if only_inside:
        return kernel
    fold = np.zeros((len(taps), n), np.float32)
    fold[np.arange(len(taps)), np.clip(taps, 0, n - 1)] = 1
    return Value(b, b("BATCH_MATMUL", kernel.tensor, b.constant(fold, FLOAT32), adj_x=False, adj_y=False))
