"""The greatest value of every window together with its place, and the way back.

There are two kinds, told apart by the type of the places: MediaPipe's float32 ones count inside the window, row by
row, plus 0.1; int32 ones count inside the picture [H, W, C]. Options are the bytes of a TfLitePoolParams, or a
FlexBuffers map.

Source: MediaPipe, util/tflite/operations/max_pool_argmax.cc and max_unpooling.cc; TensorFlow Lite, kernels/perception
(behaviour, not text).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lithe.errors import ExecutionError
from lithe.ir.arithmetic import activate, cast
from lithe.ir.build import Builder
from lithe.ir.loops import INDEX, Buffer, Const, Expr, all_of, select
from lithe.ops.op import Op, RuleViolation, Site, register
from lithe.ops.padding import PADDINGS, actual, taps
from lithe.ops.pooling import PoolAttrs, pool_window
from lithe.ops.pooling import infer as infer_pool
from lithe.types import FLOAT32, INT32, Shape

LOWEST = float(np.finfo(np.float32).min)
STRUCT_PADDINGS = ("UNKNOWN", "SAME", "VALID")  # TfLitePadding, lite/core/c/builtin_op_data.h
STRUCT_ACTIVATIONS = ("NONE", "RELU", "RELU_N1_TO_1", "RELU6")  # TfLiteFusedActivation
MAP = 9  # FlexBuffers' type of a map; the last byte of a file is the width of its root, the one before is its type


@dataclass(frozen=True)
class WindowAttrs:
    """ksize and strides as TensorFlow has them: (1, rows, columns, 1)."""

    padding: str = "VALID"
    ksize: tuple[int, ...] = (1, 1, 1, 1)
    strides: tuple[int, ...] = (1, 1, 1, 1)
    include_batch_in_index: bool = False
    fused_activation_function: str = "NONE"


def parse_options(data: bytes) -> Any:
    """padding, stride_width, stride_height, filter_width, filter_height, activation: int32 each; None for a map."""
    if not data or (len(data) >= 3 and data[-1] in (1, 2, 4, 8) and data[-2] >> 2 == MAP):
        return None
    if len(data) < 24:
        raise RuleViolation(f"options must have at least 24 bytes, have {len(data)}")
    padding, stride_w, stride_h, width, height, activation = struct.unpack_from("<6i", data)
    if not 0 <= padding < len(STRUCT_PADDINGS):
        raise RuleViolation(f"padding must be 1 (SAME) or 2 (VALID), is {padding}")
    if not 0 <= activation < len(STRUCT_ACTIVATIONS):
        raise RuleViolation(f"activation must be in 0..{len(STRUCT_ACTIVATIONS) - 1}, is {activation}")
    return WindowAttrs(
        STRUCT_PADDINGS[padding], (1, height, width, 1), (1, stride_h, stride_w, 1), False,
        STRUCT_ACTIVATIONS[activation],
    )  # fmt: skip


def _plain(site: Site) -> Site:
    """The same place with the attributes of ordinary pooling."""
    a = site.attrs
    for key in ("ksize", "strides"):
        value = getattr(a, key)
        whole = len(value) == 4 and all(isinstance(v, int) for v in value) and value[0] == value[3] == 1
        site.require(whole, f"{key} must be (1, rows, columns, 1), is {value}")
    site.require(not a.include_batch_in_index, "include_batch_in_index is not possible")
    (_, fh, fw, _), (_, sh, sw, _) = a.ksize, a.strides
    site.require(fh * fw < 1 << 31, f"the window {fh} x {fw} is too large")
    return replace(site, attrs=PoolAttrs(a.padding, sw, sh, fw, fh, a.fused_activation_function))


@register
class MaxPoolingWithArgmax2D(Op):
    """y = activation(the greatest value of each window), and its place; the first one among equals.

    Where nothing is above the least float32, y is that number, and the place is 0 (int32: the channel).
    """

    name = "MaxPoolingWithArgmax2D"
    operands = (("input",), ("output", "places"))
    types = "float32 -> float32 I: I= float32 int32"
    Attrs = WindowAttrs
    parse_options = parse_options

    def infer(site: Site) -> list[Shape]:
        shape = infer_pool(_plain(site))[0]
        return [shape, shape]

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        site = _plain(actual(site, x))
        a, window, in_window = site.attrs, pool_window(site), site.outputs[1].dtype == FLOAT32
        y = np.full((x.shape[0], *window.size, x.shape[3]), LOWEST, np.float32)
        numbers = np.arange(math.prod(x.shape[1:]), dtype=np.int32).reshape(x.shape[1:])
        places = np.zeros_like(y, np.int32) + (0 if in_window else numbers[0, 0])
        for (fy, rows), (fx, columns) in _taps(site, x.shape):
            out, source = (slice(None), rows[0], columns[0]), (slice(None), rows[1], columns[1])
            better = x[source] > y[out]
            number = np.int32(fy * a.filter_width + fx) if in_window else numbers[source[1:]]
            y[out], places[out] = np.where(better, x[source], y[out]), np.where(better, number, places[out])
        places = places + np.float32(0.1) if in_window else places
        return [np.asarray(activate(y, a.fused_activation_function)), places.astype(site.outputs[1].dtype.numpy)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        x, (y, places), site = xs[0], ys, _plain(site)
        a, window, in_window = site.attrs, pool_window(site), ys[1].dtype == FLOAT32
        (_, h, w, channels), (sh, sw), (top, left) = x.shape, window.strides, window.before
        (from_y, high), (from_x, wide) = (_span(site, x.shape, axis) for axis in (0, 1))
        with b.nest(y.shape, "parallel") as (n, r, c, k):
            most = b.variable(Const(LOWEST, FLOAT32), "most")
            place = b.variable(Const(0, INT32) if in_window else k.to(INT32), "place")
            with b.nest((high, wide), name="tap") as (ty, tx):
                fy, fx = ty + from_y, tx + from_x
                i, j = r * sh + fy - top, c * sw + fx - left
                with b.when(i >= 0, i < h, j >= 0, j < w):
                    element = b.variable(x[n, i, j, k], "element")[()]
                    number = fy * a.filter_width + fx if in_window else (i * w + j) * channels + k
                    b.store(place, (), select(element > most[()], number.to(INT32), place[()]))
                    b.store(most, (), select(element > most[()], element, most[()]))
            b.store(y, (n, r, c, k), activate(most[()], a.fused_activation_function))
            b.store(places, (n, r, c, k), place[()].to(FLOAT32) + np.float32(0.1) if in_window else place[()])


def _span(site: Site, shape: Shape, axis: int) -> tuple[int, int]:
    """(the first tap of the window that can meet the input, the number of those that can)."""
    a, window = site.attrs, pool_window(site)
    before, size = window.before[axis], (a.filter_height, a.filter_width)[axis]
    first = max(0, before - (window.size[axis] - 1) * window.strides[axis])
    return first, min(size, before + shape[axis + 1]) - first


def _taps(site: Site, shape: Shape) -> Iterator[tuple[tuple[int, Any], tuple[int, Any]]]:
    """Every tap that meets the input, row by row: (its number, (outputs, inputs)) of rows and columns."""
    window, axes = pool_window(site), []
    for axis in (0, 1):
        first, count = _span(site, shape, axis)
        pairs = (
            (k, taps(window.size[axis], shape[axis + 1], k - window.before[axis], window.strides[axis]))
            for k in range(first, first + count)
        )
        axes.append([(k, pair) for k, pair in pairs if pair is not None])
    return ((rows, columns) for rows in axes[0] for columns in axes[1])


@register
class MaxPoolWithArgmax(MaxPoolingWithArgmax2D):
    """MaxPoolingWithArgmax2D by its name among TensorFlow Lite's kernels for perception."""

    name = "MaxPoolWithArgmax"


@register
class MaxUnpooling2D(Op):
    """y = zeros, but x's elements at the places where pooling found them; the last one wins.

    y's size: with places inside of windows, the input's times that of the window. Else with SAME the input's times
    the strides, with VALID what a window of this size slides over.
    """

    name = "MaxUnpooling2D"
    operands = (("input", "places"), ("output",))
    types = "float32 I -> float32: I= float32 int32"
    Attrs = WindowAttrs
    parse_options = parse_options

    def infer(site: Site) -> list[Shape]:
        a, x, places = _plain(site).attrs, site.rank(0, 4), site.rank(1, 4)
        site.require(places.shape == x.shape, f"must have the shape of {x}, is {places}", 1)
        sizes = (a.filter_height, a.filter_width, a.stride_h, a.stride_w)
        site.require(min(sizes) >= 1 and max(sizes) < 1 << 31, "sizes and strides must be at least 1")
        site.require(a.padding in PADDINGS, f"padding must be SAME or VALID, is {a.padding}")
        site.require(min(x.shape) >= 1, f"must not be empty, is {x}", 0)
        filters, strides = (a.filter_height, a.filter_width), (a.stride_h, a.stride_w)

        def size(n: int, filter_size: int, stride: int) -> int:
            if places.dtype == FLOAT32:
                return n * filter_size
            return n * stride if a.padding == "SAME" else (n - 1) * stride + filter_size

        return [(x.shape[0], *map(size, x.shape[1:3], filters, strides), x.shape[3])]

    def evaluate(site: Site, x: np.ndarray, places: np.ndarray) -> list[np.ndarray]:
        site = actual(site, x, places)
        shape = MaxUnpooling2D.infer(site)[0]
        y = np.zeros(shape, np.float32)
        n, r, c, k = np.indices(x.shape, sparse=True)
        if places.dtype == np.float32:
            number = cast(places, INT32).astype(np.int64)
            i, j = _inside(site, shape, r, c, number)
            good = (number >= 0) & (i >= 0) & (i < shape[1]) & (j >= 0) & (j < shape[2])
        else:
            good = (places >= 0) & (places < math.prod(shape[1:]))
        if not good.all():
            raise ExecutionError(f"MaxUnpooling2D: {OUTSIDE}")
        if places.dtype == np.float32:
            y[n, i, j, k] = x
        else:
            y.reshape(len(y), -1)[n, places] = x
        return [y]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        (x, places), y = xs, ys[0]
        b.compute(y, lambda *_: Const(0.0, FLOAT32))
        flat = y.viewed((y.shape[0], math.prod(y.shape[1:])))
        with b.nest(x.shape) as (n, r, c, k):
            if places.dtype == FLOAT32:
                number = b.variable(places[n, r, c, k].to(INT32).to(INDEX), "number")[()]
                i, j = (b.variable(v, "place")[()] for v in _inside(site, y.shape, r, c, number))
                good = all_of(number >= 0, i >= 0, i < y.shape[1], j >= 0, j < y.shape[2])
                at: Expr = (i * y.shape[2] + j) * y.shape[3] + k
            else:
                at = b.variable(places[n, r, c, k].to(INDEX), "number")[()]
                good = all_of(at >= 0, at < flat.shape[1])
            b.fail_unless(good, OUTSIDE)
            b.store(flat, (n, at), x[n, r, c, k])


OUTSIDE = "a place lies outside of the output"


def _inside(site: Site, shape: Shape, r: Any, c: Any, number: Any) -> tuple[Any, Any]:
    """Row and column in the output of place `number` of the window (r, c)."""
    (_, fh, fw, _), (_, sh, sw, _) = site.attrs.ksize, site.attrs.strides
    _, h, w, _ = site.input(0).shape
    top, left = max(0, (h - 1) * sh + fh - shape[1]) // 2, max(0, (w - 1) * sw + fw - shape[2]) // 2
    return r * sh - top + number // fw, c * sw - left + number % fw


@register
class LiteRtMaxUnpooling2D(MaxUnpooling2D):
    """MaxUnpooling2D by the name that LiteRT's own models give it."""

    name = "LiteRtMaxUnpooling2D"
