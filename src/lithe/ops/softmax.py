"""Normalizations along the last axis: SOFTMAX, LOG_SOFTMAX, L2_NORMALIZATION."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lithe.ir.arithmetic import F, cast, maximum, minimum, quantize_real, sqrt
from lithe.ir.build import Builder
from lithe.ir.elementary import decay, exp, log, portable
from lithe.ir.loops import INDEX, Buffer, Expr, constant
from lithe.ops import softmax_integer as sixteen
from lithe.ops.op import Axes, Op, Site, register
from lithe.ops.precision import FLOATS
from lithe.types import FLOAT32, INT32, DType, Shape

ROWS = 8  # that are worked on together


def _rows(t: Any) -> tuple[int, int]:
    """(rows, channels): all axes but the last one are rows."""
    return math.prod(t.shape[:-1]), t.shape[-1]


def _with_channels(site: Site) -> list[Shape]:
    t = site.input(0)
    site.require(t.rank >= 1, f"rank must be at least 1, is {t.rank}", 0)
    site.require(t.shape[-1] > 0, "must have a channel", 0)
    return [t.shape]


def _greatest(b: Builder, x: Buffer, row: Expr, channels: int, dtype: DType) -> Expr:
    """The greatest of x[row, :], cast to `dtype`."""

    least = -math.inf if dtype.is_float else dtype.minimum
    best = b.combined(least, (channels,), lambda c: x[row, c].to(dtype), lambda best, v: maximum(v, best), dtype)
    return b.variable(best, "top")[()]


def _sum(b: Builder, channels: int, value: Callable[[Expr], Expr], dtype: DType = FLOAT32) -> Expr:
    return b.combined(0, (channels,), value, lambda total, v: total + v, dtype)


def exponentials(scale: float, beta: float, channels: int, span: int) -> np.ndarray:
    """round(2**k exp(-beta * scale * i)) for i = 0 .. span, with k so that `channels` of them fit an int32.

    Shortened after the last entry that is not 0.
    """
    bits = min(23, 30 - math.ceil(math.log2(max(channels, 1))))
    entries = np.rint(2.0**bits * np.exp(-float(F(beta)) * float(F(scale)) * np.arange(span + 1))).astype(np.int32)
    used = int(np.count_nonzero(entries))
    return np.append(entries[:used], np.int32(0)) if used <= span else entries


# (scale, zero point) of quantized results
SHARES = {"int8": (1 / 256, -128), "uint8": (1 / 256, 0), "int16": (1 / 32768, 0)}
LOGARITHMS = {"int8": (16 / 256, 127), "uint8": (16 / 256, 255)}
PARTS = {"int8": (1 / 128, 0), "uint8": (1 / 128, 128)}


@register
class Softmax(Op):
    """y[..., c] = exp(beta * x[..., c]) / sum over k of exp(beta * x[..., k])

    Quantized: exponentials of the distance to the greatest value from a table of integers, their exact sum,
    and one float32 division a row; int16 in integers alone. Source of beta: schema.fbs, SoftmaxOptions.

    float32: the error is at most 5 ulp and 1 more for each unit that beta * x lies below the greatest (the difference
    is rounded); what is below 2**-126 of the greatest may be 0. The largest excess in 680,000 values of rows of 37 to
    1001 was 4.2 ulp (tests/ops/test_error_bounds.py).
    """

    name, code = "SOFTMAX", 25
    result_scales = SHARES
    named_axes = Axes(last=True)
    types = """
        T -> T: float32 float16 bfloat16 int8q uint8q int16q
        X -> int16q: X= int8q uint8q
    """

    @dataclass(frozen=True)
    class Attrs:
        beta: float = 1.0

    def infer(site: Site) -> list[Shape]:
        usable = not site.quantized or 0 <= site.attrs.beta < math.inf
        site.require(usable, f"beta must be a finite number from 0, is {site.attrs.beta}")
        return _with_channels(site)

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        t, y = site.input(0), site.outputs[0]
        if not site.quantized:
            wide = x.astype(F)
            with np.errstate(all="ignore"):
                e = np.exp((wide - wide.max(axis=-1, keepdims=True)) * F(site.attrs.beta))
                return [np.asarray(e / e.sum(axis=-1, keepdims=True)).astype(x.dtype)]
        distance = x.max(axis=-1, keepdims=True).astype(np.int32) - x
        by = sixteen.factor(site)
        if by is not None:
            e = sixteen.exponential(sixteen.exponentials(), distance, by)
            total = e.sum(axis=-1, keepdims=True, dtype=np.int32)
            bits = sixteen.bits_of(total)
            return [sixteen.share(e, sixteen.reciprocal(sixteen.reciprocals(), total, bits), bits)]
        entries = _entries(site)
        e = entries[np.minimum(distance, len(entries) - 1)]
        total = e.sum(axis=-1, keepdims=True, dtype=np.int32).reshape(*t.shape[:-1], 1)
        with np.errstate(all="ignore"):
            return [_stored_share(site, e, _per_unit(site, total)).astype(y.dtype.numpy)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        rows, channels = _rows(site.input(0))
        x, y = xs[0].viewed((rows, channels)), ys[0].viewed((rows, channels))
        by = sixteen.factor(site) if site.quantized else None
        quantized, power = site.quantized, decay if site.attrs.beta >= 0 else exp
        table = (sixteen.exponentials() if by else _entries(site)) if quantized else None
        entries = None if table is None else b.constant(table, "exponentials")
        inverse = b.constant(sixteen.reciprocals(), "reciprocals") if by else None
        wide = INT32 if quantized else FLOAT32

        def weight(row: Expr, c: Expr, top: Expr) -> Expr:
            if by is not None:
                return sixteen.exponential(entries, top - x[row, c].to(INT32), by)
            if entries is not None:
                return entries[minimum(top - x[row, c].to(INT32), entries.size - 1).to(INDEX)]
            return power((x[row, c].to(FLOAT32) - top) * F(site.attrs.beta))

        def finished(total: Expr) -> Callable[[Expr], Expr]:
            """What makes results of weights, for a row."""
            if by is not None:
                bits = b.variable(sixteen.bits_of(total), "bits")[()]
                share = b.variable(sixteen.reciprocal(inverse, total, bits), "share")[()]
                return lambda e: sixteen.share(e, share, bits)
            if quantized:
                share = b.variable(_per_unit(site, total), "share")[()]
                return lambda e: _stored_share(site, e, share)
            share = b.variable(1.0 / total, "share")[()]
            return lambda e: (e * share).to(y.dtype)

        def several(first: Expr, together: int) -> None:
            """One step for all of them, then the next: where one row's reduction ends, the next one's begins."""
            tops, totals = b.local(wide, (together,), "top"), b.local(wide, (together,), "total")
            e, start = (y, first) if y.dtype == wide else (b.local(wide, (together, channels), "exponential"), 0)
            with b.loop(together, "serial", "row") as r:
                b.store(tops, r, _greatest(b, x, first + r, channels, wide))
            with b.loop(together, "serial", "row") as r:
                top = b.variable(tops[r], "top")[()]

                def kept(c: Expr) -> Expr:
                    found = b.variable(weight(first + r, c, top), "weight")[()]
                    b.store(e, (start + r, c), found)
                    return found

                b.store(totals, r, _sum(b, channels, kept, wide))
            with b.loop(together, "serial", "row") as r:
                finish = finished(totals[r])
                with b.loop(channels, "parallel", "channel") as c:
                    b.store(y, (first + r, c), finish(e[start + r, c]))

        whole, rest = divmod(rows, ROWS)
        with b.loop(whole, "parallel", "block") as block:
            several(block * ROWS, ROWS)
        if rest:
            several(constant(whole * ROWS), rest)


def _entries(site: Site) -> np.ndarray:
    t = site.input(0)
    scale, _ = site.quantization(t)
    return exponentials(scale, site.attrs.beta, t.shape[-1], t.dtype.maximum - t.dtype.minimum)


@np.errstate(all="ignore")  # scales may be as far apart as float32 reaches
def _per_unit(site: Site, total: Any) -> Any:
    """Steps of the output for one unit of the table: (1 / scale) / total."""
    steps = F(1.0) / F(site.quantization(site.outputs[0])[0])
    return float(steps) / cast(total, FLOAT32)


def _stored_share(site: Site, e: Any, share: Any) -> Any:
    y = site.outputs[0]
    zero = site.quantization(y)[1]
    return quantize_real(cast(e, FLOAT32) * share, zero, y.dtype.minimum, y.dtype.maximum, y.dtype)


@register
class LogSoftmax(Op):
    """y[..., c] = x[..., c] - log(sum over k of exp(x[..., k]))"""

    name, code = "LOG_SOFTMAX", 50
    result_scales = LOGARITHMS
    named_axes = Axes(last=True)
    types = f"T -> T: {FLOATS} int8q uint8q int16q"

    infer = _with_channels

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        if not site.quantized:
            wide = x.astype(F)
            with np.errstate(all="ignore"):
                distance = wide - wide.max(axis=-1, keepdims=True)
                total = np.exp(distance).sum(axis=-1, keepdims=True)
                return [np.asarray(distance - np.log(total)).astype(x.dtype)]
        entries, unit = _log_entries(site)
        distance = x.max(axis=-1, keepdims=True).astype(np.int32) - x
        total = entries[np.minimum(distance, len(entries) - 1)].sum(axis=-1, keepdims=True, dtype=np.int32)
        return [_log_stored(site, distance, portable(log)(total.astype(F) * unit))]

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        rows, channels = _rows(site.input(0))
        x, y = xs[0].viewed((rows, channels)), ys[0].viewed((rows, channels))
        if not site.quantized:
            with b.loop(rows, "parallel", "row") as row:
                top = _greatest(b, x, row, channels, FLOAT32)
                e = b.local(FLOAT32, (channels,), "exponential")
                with b.loop(channels, "parallel", "channel") as c:
                    b.store(e, c, decay(x[row, c].to(FLOAT32) - top))
                logarithm = b.variable(log(_sum(b, channels, lambda c: e[c])), "logarithm")[()]
                with b.loop(channels, "parallel", "channel") as c:
                    b.store(y, (row, c), (x[row, c].to(FLOAT32) - top - logarithm).to(y.dtype))
            return
        values, unit = _log_entries(site)
        entries = b.constant(values, "exponentials")
        with b.loop(rows, "parallel", "row") as row:
            top = _greatest(b, x, row, channels, INT32)

            def entry(c: Any, top: Expr = top, row: Expr = row) -> Expr:
                return entries[minimum(top - x[row, c].to(INT32), len(values) - 1).to(INDEX)]

            total = _sum(b, channels, entry, INT32)
            logarithm = b.variable(log(total.to(FLOAT32) * unit), "logarithm")[()]
            with b.loop(channels, "parallel", "channel") as c:
                b.store(y, (row, c), _log_stored(site, top - x[row, c].to(INT32), logarithm))


def _log_entries(site: Site) -> tuple[np.ndarray, np.float32]:
    """The table of exponentials, and what its unit stands for."""
    t = site.input(0)
    entries = exponentials(site.quantization(t)[0], 1.0, t.shape[-1], t.dtype.maximum - t.dtype.minimum)
    return entries, F(1.0) / F(entries[0])


@np.errstate(all="ignore")  # scales may be as far apart as float32 reaches
def _log_stored(site: Site, distance: Any, logarithm: Any) -> Any:
    y = site.outputs[0]
    (scale, _), (out_scale, zero) = site.quantization(site.input(0)), site.quantization(y)
    real = -(cast(distance, FLOAT32) * F(scale)) - logarithm
    return quantize_real(real * (F(1.0) / F(out_scale)), zero, y.dtype.minimum, y.dtype.maximum, y.dtype)


@register
class L2Normalization(Op):
    """y[..., c] = x[..., c] / sqrt(max(sum over k of x[..., k]**2, 1e-6))

    Quantized: the sum of squares is an exact int32. Source of 1e-6: TensorFlow Lite, l2normalization.h.
    """

    name, code = "L2_NORMALIZATION", 11
    result_scales = PARTS
    named_axes = Axes(last=True)
    types = f"T -> T: {FLOATS} int8q uint8q"

    @dataclass(frozen=True)
    class Attrs:
        fused_activation_function: str = "NONE"

    def infer(site: Site) -> list[Shape]:
        site.require(site.attrs.fused_activation_function == "NONE", "allows no fused activation")
        return _with_channels(site)

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        if not site.quantized:
            squares = (x.astype(np.float64) ** 2).sum(axis=-1, keepdims=True)
            return [np.asarray(x.astype(F) / np.sqrt(np.maximum(squares, 1e-6))).astype(x.dtype)]
        value = x.astype(np.int32) - site.quantization(site.input(0))[1]
        total = (value * value).sum(axis=-1, keepdims=True, dtype=np.int32)
        return [_unit_stored(site, value, sqrt(maximum(cast(total, FLOAT32), F(1.0))))]

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        rows, channels = _rows(site.input(0))
        x, y = xs[0].viewed((rows, channels)), ys[0].viewed((rows, channels))
        zero = site.quantization(site.input(0))[1] if site.quantized else 0

        def value(row: Expr, c: Any) -> Expr:
            return x[row, c].to(INT32) - zero if site.quantized else x[row, c].to(FLOAT32)

        with b.loop(rows, "parallel", "row") as row:
            wide = INT32 if site.quantized else FLOAT32
            total = _sum(b, channels, lambda c, row=row: value(row, c) * value(row, c), wide)
            least = F(1.0 if site.quantized else 1e-6)
            length = b.variable(sqrt(maximum(total.to(FLOAT32), least)), "length")[()]
            with b.loop(channels, "parallel", "channel") as c:
                v = value(row, c)
                b.store(y, (row, c), _unit_stored(site, v, length) if site.quantized else (v / length).to(y.dtype))


@np.errstate(all="ignore")  # scales may be as far apart as float32 reaches
def _unit_stored(site: Site, value: Any, length: Any) -> Any:
    y = site.outputs[0]
    scale, zero = site.quantization(y)
    real = cast(value, FLOAT32) * (F(1.0) / F(scale)) / length
    return quantize_real(real, zero, y.dtype.minimum, y.dtype.maximum, y.dtype)
