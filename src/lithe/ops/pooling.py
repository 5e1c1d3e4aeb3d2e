"""Pooling: the mean, the greatest value or the root of the mean square of every window."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from lithe.ir.arithmetic import (
    ACTIVATION_BOUNDS,
    activate,
    activation_range,
    cast,
    clamp,
    maximum,
    minimum,
    quantize_real,
    sqrt,
)
from lithe.ir.build import Builder
from lithe.ir.loops import Buffer, Const, Expr, all_of, constant, select
from lithe.ops.op import Op, Site, register
from lithe.ops.padding import Window, actual, placed, require_window, taps
from lithe.types import FLOAT32, INT16, INT32, INT64, UINT16, UINT32, Shape

MOST_RANGES = 5  # of outputs along an axis, each with loops of its own
LARGEST_UNROLLED = 9  # taps of a window that are written out


@dataclass(frozen=True)
class PoolAttrs:
    """Fields of Pool2DOptions."""

    padding: str = "VALID"
    stride_w: int = 1
    stride_h: int = 1
    filter_width: int = 1
    filter_height: int = 1
    fused_activation_function: str = "NONE"


def pool_window(site: Site) -> Window:
    a, (h, w) = site.attrs, site.inputs[0].shape[1:3]
    rows = placed(h, a.filter_height, a.stride_h, 1, a.padding)
    columns = placed(w, a.filter_width, a.stride_w, 1, a.padding)
    return Window((rows[0], columns[0]), (rows[1], columns[1]), (a.stride_h, a.stride_w))


def infer(site: Site) -> list[Shape]:
    """[N, H, W, C] -> [N, OH, OW, C]"""
    a, x = site.attrs, site.rank(0, 4)
    require_window(site, (a.stride_h, a.stride_w), (1, 1), a.padding)
    site.require(min(a.filter_height, a.filter_width) >= 1, "filter sizes must be at least 1")
    allowed, activation = ", ".join(ACTIVATION_BOUNDS), a.fused_activation_function
    site.require(activation in ACTIVATION_BOUNDS, f"fused activation must be one of {allowed}, is {activation}")
    site.require(min(x.shape) >= 1, f"must not be empty, is {x}", 0)
    size = pool_window(site).size
    site.require(min(size) >= 1, f"the window ({a.filter_height}, {a.filter_width}) does not fit in {x}", 0)
    if site.quantized:
        site.quantization(x, "input")
        site.quantization(site.outputs[0], "output")
    return [(x.shape[0], *size, x.shape[3])]


def _places(site: Site, x: np.ndarray) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """(places of outputs, places of the input) for every tap of the window that meets the input."""
    a, p = site.attrs, pool_window(site)
    axes = []
    for axis, filter_size in enumerate((a.filter_height, a.filter_width)):
        first = max(0, p.before[axis] - (p.size[axis] - 1) * p.strides[axis])  # taps that only meet padding
        last = min(filter_size, p.before[axis] + x.shape[axis + 1])
        found = (taps(p.size[axis], x.shape[axis + 1], k - p.before[axis], p.strides[axis]) for k in range(first, last))
        axes.append([pair for pair in found if pair is not None])
    for rows in axes[0]:
        for columns in axes[1]:
            yield (slice(None), rows[0], columns[0]), (slice(None), rows[1], columns[1])


def _mean(site: Site, x: np.ndarray, value: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(sums, numbers of elements) of the windows."""
    shape = (x.shape[0], *pool_window(site).size, x.shape[3])
    total = np.zeros(shape, np.int64 if x.dtype.kind in "iu" else np.float64)
    count = np.zeros((1, *shape[1:3], 1), np.int64)
    for out, place in _places(site, x):
        total[out] += value(x[place])
        count[(slice(None), *out[1:])] += 1
    return total, count


def _bounded(site: Site, y: np.ndarray) -> np.ndarray:
    """The fused activation, and the output's type."""
    t, activation = site.outputs[0], site.attrs.fused_activation_function
    if site.quantized:
        return np.clip(y, *activation_range(activation, *site.quantization(t), t.dtype)).astype(t.dtype.numpy)
    return np.asarray(activate(y.astype(np.float32), activation)).astype(t.dtype.numpy)


def lower_windows(
    b: Builder,
    site: Site,
    x: Buffer,
    y: Buffer,
    initial: Expr,
    step: Callable[[Expr, Expr, Expr | None], Expr],
    last: Callable[[Expr, Expr], Expr],
) -> None:
    """Loops over every window; channels are innermost, and a window's elements are inside of them.

    step(total, element, inside)  the new total; `inside` is None where every element is in the input, else
                                  the element is another one of the window whenever it is false.
    last(total, count)            the stored value.
    """
    a, p = site.attrs, pool_window(site)
    n, h, w, channels = x.shape
    rows, columns = (
        _ranges(size, filter_size, stride, before, count)
        for size, filter_size, stride, before, count in zip(
            (h, w), (a.filter_height, a.filter_width), p.strides, p.before, p.size, strict=True
        )
    )
    with b.loop(n, "parallel", "batch") as batch:
        for down in rows:
            with b.loop(down.count, "parallel", "row") as row:
                for across in columns:
                    with b.loop(across.count, "parallel", "column") as column, b.loop(channels, "parallel", "c") as i:
                        (top, tall), (left, wide) = down.span(row), across.span(column)
                        total = b.variable(initial, "total")
                        taps = "unrolled" if down.taps * across.taps <= LARGEST_UNROLLED else "serial"
                        with b.nest((down.taps, across.taps), taps, "k") as (ky, kx):
                            inside: list[Expr] = []
                            if not down.is_whole:
                                inside.append(ky < tall)
                                ky = minimum(ky, tall - 1)
                            if not across.is_whole:
                                inside.append(kx < wide)
                                kx = minimum(kx, wide - 1)
                            element = x[batch, top + ky, left + kx, i]
                            b.store(total, (), step(total[()], element, all_of(*inside) if inside else None))
                        b.store(y, (batch, row + down.first, column + across.first, i), last(total[()], tall * wide))


@dataclass(frozen=True)
class _Range:
    """Neighbouring outputs of an axis.

    taps      elements of a window, at most.
    span      (number of an output in the range) -> (first element of its window inside of the input, how many).
    is_whole  whether all have so many elements inside.
    """

    first: int
    count: int
    taps: int
    span: Callable[[Expr], tuple[Expr, Expr]]
    is_whole: bool


def _ranges(size: int, filter_size: int, stride: int, before: int, count: int) -> list[_Range]:
    """The outputs of an axis, those together that have the same taps inside; all together when they differ too much."""
    inside = [(max(0, before - o * stride), min(filter_size, size + before - o * stride)) for o in range(count)]
    groups = [(taps, [o for o, _ in group]) for taps, group in groupby(enumerate(inside), lambda pair: pair[1])]
    if len(groups) > MOST_RANGES:
        return [_Range(0, count, min(filter_size, size), _clipped(size, filter_size, stride, before), False)]
    return [
        _Range(o[0], len(o), end - start, _placed(o[0] * stride - before + start, stride, end - start), True)
        for (start, end), o in groups
    ]


def _placed(first: int, stride: int, taps: int) -> Callable[[Expr], tuple[Expr, Expr]]:
    return lambda i: (i * stride + first, constant(taps))


def _clipped(size: int, filter_size: int, stride: int, before: int) -> Callable[[Expr], tuple[Expr, Expr]]:
    def span(i: Expr) -> tuple[Expr, Expr]:
        start = i * stride - before
        first = maximum(start, constant(0))
        return first, minimum(start + filter_size, constant(size)) - first

    return span


@register
class AveragePool2D(Op):
    """y[n, r, c, k] = activation(mean of x[n, r*sh + i - top, c*sw + j - left, k]), over the elements inside of x

    Integers: the mean of the stored values, halves away from zero; the scales of x and y are taken as equal.
    Source: schema.fbs, Pool2DOptions.
    """

    name, code = "AVERAGE_POOL_2D", 1
    keeps_scale = True
    types = "T -> T: float32 float16 int8q uint8q int16q"
    Attrs = PoolAttrs
    infer = infer

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        site = actual(site, x)
        total, count = _mean(site, x, lambda v: v)
        if not site.quantized:
            return [_bounded(site, total / count)]
        away = (np.abs(total) + count // 2) // count * np.sign(total)
        return [_bounded(site, away)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        t, activation = site.outputs[0], site.attrs.fused_activation_function
        elements = site.attrs.filter_height * site.attrs.filter_width
        narrow = t.dtype.bits == 8 and 256 * elements <= UINT16.maximum
        wide, unsigned = (INT16, UINT16) if narrow else (INT32, UINT32)
        wide = wide if site.quantized else FLOAT32
        zero = constant(0, wide)

        def step(total: Expr, element: Expr, inside: Expr | None) -> Expr:
            element = element.to(wide)
            return total + (element if inside is None else select(inside, element, zero))

        def last(total: Expr, number: Expr) -> Expr:
            kind = unsigned if site.quantized else FLOAT32
            number = constant(number.value, kind) if isinstance(number, Const) else number.to(kind)
            if not site.quantized:
                return activate(total / number, activation).to(t.dtype)
            # as distances from the least value, which are positive: a half below zero goes down, above it up
            least = number * -t.dtype.minimum
            distance = total.to(unsigned) + least
            down = select(distance < least, (number & 1) ^ 1, constant(0, unsigned))
            mean = ((distance + number / 2 - down) / number).to(INT32) + t.dtype.minimum
            low, high = activation_range(activation, *site.quantization(t), t.dtype)
            return clamp(mean, constant(low, INT32), constant(high, INT32)).to(t.dtype)

        lower_windows(b, site, xs[0], ys[0], zero, step, last)


@register
class MaxPool2D(Op):
    """y[n, r, c, k] = activation(max of x[n, r*sh + i - top, c*sw + j - left, k]), over the elements inside of x

    Source: schema.fbs, Pool2DOptions.
    """

    name, code = "MAX_POOL_2D", 17
    keeps_scale = True
    types = "T -> T: float32 float16 int8q uint8q int16q"
    Attrs = PoolAttrs
    infer = infer

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        site = actual(site, x)
        lowest = -np.inf if site.outputs[0].dtype.is_float else np.iinfo(x.dtype).min
        y = np.full((x.shape[0], *pool_window(site).size, x.shape[3]), lowest, x.dtype)
        for out, place in _places(site, x):
            y[out] = maximum(y[out], x[place])
        return [_bounded(site, y)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        t, activation = site.outputs[0], site.attrs.fused_activation_function
        wide = FLOAT32 if t.dtype.is_float else t.dtype  # targets compare halves as float32
        lowest = Const(-math.inf, FLOAT32) if t.dtype.is_float else Const(t.dtype.minimum, t.dtype)

        def last(total: Expr, _: Expr) -> Expr:
            if not site.quantized:
                return activate(total, activation).to(t.dtype)
            low, high = activation_range(activation, *site.quantization(t), t.dtype)
            return clamp(total, constant(low, t.dtype), constant(high, t.dtype))

        lower_windows(b, site, xs[0], ys[0], lowest, lambda total, element, _: maximum(total, element.to(wide)), last)


@register
class L2Pool2D(Op):
    """y[n, r, c, k] = activation(sqrt(mean of squares of x[n, r*sh + i - top, c*sw + j - left, k]))

    Integers: the squares of stored values less their zero point are summed; the root is scaled to the output.
    Source: schema.fbs, Pool2DOptions.
    """

    name, code = "L2_POOL_2D", 12
    types = "T -> T: float32 float16 int8q uint8q int16q"
    Attrs = PoolAttrs
    infer = infer

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        site = actual(site, x)
        if not site.quantized:
            total, count = _mean(site, x, lambda v: v.astype(np.float64) ** 2)
            return [_bounded(site, np.sqrt(total / count))]
        zero, finish = site.quantization(site.inputs[0])[1], _root(site)
        total, count = _mean(site, x, lambda v: (v.astype(np.int64) - zero) ** 2)
        return [finish(total, count)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        wide = INT64 if site.quantized else FLOAT32
        zero = site.quantization(site.inputs[0])[1] if site.quantized else 0

        def step(total: Expr, element: Expr, inside: Expr | None) -> Expr:
            less = element.to(wide) - zero if zero else element.to(wide)
            square = less * less
            return total + (square if inside is None else select(inside, square, constant(0, wide)))

        def last(total: Expr, number: Expr) -> Expr:
            if site.quantized:
                return _root(site)(total, number)
            real = sqrt(total / number.to(FLOAT32))
            return activate(real, site.attrs.fused_activation_function).to(ys[0].dtype)

        lower_windows(b, site, xs[0], ys[0], constant(0, wide), step, last)


def _root(site: Site) -> Callable[[Any, Any], Any]:
    """(sum of squares of stored values, how many they are) -> the stored root of their mean."""
    y = site.outputs[0]
    (x_scale, _), (scale, zero) = site.quantization(site.inputs[0]), site.quantization(y)
    low, high = activation_range(site.attrs.fused_activation_function, scale, zero, y.dtype)
    factor = np.float32(x_scale) / np.float32(scale)

    def finish(total: Any, count: Any) -> Any:
        mean = cast(total, FLOAT32) / cast(count, FLOAT32)
        return quantize_real(sqrt(mean) * factor, zero, low, high, y.dtype)

    return finish
