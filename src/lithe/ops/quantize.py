"""Between real numbers and quantized integers, and between quantized integers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lithe.ir.arithmetic import F, cast, clamp, floor, requantize, round_to_int
from lithe.ir.build import Builder
from lithe.ir.loops import Buffer
from lithe.ops.fixed_point import multiplier_of, scaled
from lithe.ops.op import Op, Site, register
from lithe.types import FLOAT32, INT32, INT64, Quantization, Shape, TensorType

Rule = Callable[[Any, Any, Any], Any]


def channels(site: Site, t: TensorType, operand: str) -> Quantization:
    """The scales and zero points of a tensor: one pair, or one for each slice of its axis."""
    q = t.quantization
    site.require(q is not None, f"{t} must have a scale and a zero point", operand)
    assert q is not None
    fits = len(q.scale) == 1 or (0 <= q.axis < t.rank and t.shape[q.axis] == len(q.scale))
    site.require(fits, f"{t} has {len(q.scale)} scales for axis {q.axis}", operand)
    return q


def _for_slices(t: TensorType, scales: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scales (or their reciprocals) and zero points, shaped to broadcast against the tensor."""
    q = t.quantization
    assert q is not None
    shape = [-1 if a == q.axis else 1 for a in range(t.rank)] if q.per_channel else []
    return scales.astype(F).reshape(shape), np.array(q.zero_point, np.int32).reshape(shape)


def _in_loops(b: Builder, t: TensorType, scales: np.ndarray, rule: Rule, x: Buffer, y: Buffer) -> None:
    """y = rule(x, scale, zero point), with the pair of each slice of t."""
    factor, zero = _for_slices(t, scales)
    if factor.size == 1:
        b.elementwise(y, lambda v: rule(v, F(factor.item()), int(zero.item())), x)
    else:
        b.elementwise(y, rule, x, b.constant(factor, "scale"), b.constant(zero, "zero_point"))


@register
class Quantize(Op):
    """y = clamp(round(x / scale) + zero_point), halves to even.

    x: floats (y may be per channel), or quantized integers, which get another scale, zero point or type.
    Source: XNNPACK, f32-qs8-vcvt (a product with the reciprocal of the scale) and qs8-vcvt (8 bits to 8 bits:
    a multiplier of 8 fraction bits, at most a quarter of a step from the exact product).
    """

    name, code = "QUANTIZE", 114
    elementwise = True
    types = """
        X -> Y: X= float32 float16 bfloat16; Y= int8q uint8q int16q int4q uint4q int2q
        X -> Y: X= int8q uint8q int16q; Y= int8q uint8q int16q int32q
        int32q -> Y: Y= int8q int16q
    """

    def infer(site: Site) -> list[Shape]:
        channels(site, site.outputs[0], "output")
        if site.input(0).dtype.is_integer:
            site.quantization(site.input(0), "input")
            site.quantization(site.outputs[0], "output")
        return [site.input(0).shape]

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        if site.input(0).dtype.is_integer:
            return [_requantized(site)(x)]
        with np.errstate(all="ignore"):
            return [_stored(site.outputs[0])(x.astype(F), *_for_slices(site.outputs[0], _reciprocals(site)))]

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        if site.input(0).dtype.is_integer:
            b.elementwise(ys[0], _requantized(site), xs[0])
        else:
            _in_loops(b, site.outputs[0], _reciprocals(site), _stored(site.outputs[0]), xs[0], ys[0])


@np.errstate(all="ignore")  # scales may be as far apart as float32 reaches
def _reciprocals(site: Site) -> np.ndarray:
    return F(1.0) / np.array(channels(site, site.outputs[0], "output").scale, F)


def _stored(y: TensorType) -> Rule:
    def rule(x: Any, factor: Any, zero: Any) -> Any:
        offset = F(zero) if isinstance(zero, int) else cast(zero, FLOAT32)
        inside = clamp(cast(x, FLOAT32) * factor, -offset + F(y.dtype.minimum), -offset + F(y.dtype.maximum))
        return cast(round_to_int(inside) + zero, y.dtype)

    return rule


def _times(factor: float) -> Callable[[Any], Any]:
    """The product with a real number of 31 bits, below 2**34, for 64-bit integers of at most 17 bits."""
    multiplier, exponent = multiplier_of(factor)
    if exponent <= 0:
        return lambda v: scaled(v, (multiplier, exponent))
    if exponent <= 30:
        return lambda v: (v * multiplier + (1 << (30 - exponent))) >> (31 - exponent)
    return lambda v: v * (multiplier << (exponent - 31))


@np.errstate(all="ignore")  # scales may be as far apart as float32 reaches
def _requantized(site: Site) -> Callable[[Any], Any]:
    x, y = site.input(0), site.outputs[0]
    (scale, zero), (out_scale, out_zero) = site.quantization(x), site.quantization(y)
    ratio = F(scale) / F(out_scale)
    if y.dtype.bits == 32:  # float32 cannot hold the results
        ends = y.dtype.minimum, y.dtype.maximum
        times = _times(min(float(F(scale)) / max(float(F(out_scale)), 1e-45), 2.0**33))
        return lambda v: cast(clamp(times(cast(v, INT64) - zero) + out_zero, *ends), INT32)
    if max(x.dtype.bits, y.dtype.bits) == 8 and 1 / 256 <= ratio <= 128:
        steps, bias = round(256 * float(ratio)), (out_zero << 8) + 128

        def fixed(v: Any) -> Any:
            total = ((cast(v, INT32) - zero) * steps + bias) >> 8
            return cast(clamp(total, y.dtype.minimum, y.dtype.maximum), y.dtype)

        return fixed
    return lambda v: requantize(cast(v, INT32) - zero, ratio, out_zero, y.dtype.minimum, y.dtype.maximum, y.dtype)


@register
class Dequantize(Op):
    """y = scale * (x - zero_point), one pair or one for each slice; float16 and bfloat16 are widened."""

    name, code = "DEQUANTIZE", 6
    elementwise = True
    types = """
        X -> float32: X= int8q uint8q int16q int4q uint4q int2q
        X -> float32: X= float16 bfloat16
    """

    def infer(site: Site) -> list[Shape]:
        if site.input(0).dtype.is_integer:
            channels(site, site.input(0), "input")
        return [site.input(0).shape]

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        if site.input(0).dtype.is_float:
            return [x.astype(F)]
        return [np.asarray(_real(x, *_for_slices(site.input(0), _scales(site))), F)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        if site.input(0).dtype.is_float:
            b.elementwise(ys[0], lambda v: v.to(FLOAT32), xs[0])
        else:
            _in_loops(b, site.input(0), _scales(site), _real, xs[0], ys[0])


def _scales(site: Site) -> np.ndarray:
    return np.array(channels(site, site.input(0), "input").scale, F)


def _real(x: Any, scale: Any, zero: Any) -> Any:
    return cast(cast(x, INT32) - zero, FLOAT32) * scale


@register
class FakeQuant(Op):
    """y = the real number that x would be after quantization to num_bits with the range min..max.

    The range is nudged so that zero is one of the steps. Source: TensorFlow Lite, fake_quant.
    """

    name, code = "FAKE_QUANT", 80
    types = "float32 -> float32"

    @dataclass(frozen=True)
    class Attrs:
        min: float = 0.0
        max: float = 0.0
        num_bits: int = 8
        narrow_range: bool = False

    def infer(site: Site) -> list[Shape]:
        site.require(2 <= site.attrs.num_bits <= 16, f"num_bits must be in 2..16, is {site.attrs.num_bits}")
        site.require(site.attrs.min < site.attrs.max, f"min {site.attrs.min} must be below max {site.attrs.max}")
        return [site.input(0).shape]

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        return [np.asarray(_fake_quantized(site)(x), F)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        b.elementwise(ys[0], _fake_quantized(site), xs[0])


@np.errstate(all="ignore")
def _fake_quantized(site: Site) -> Callable[[Any], Any]:
    a = site.attrs
    low, high = F(a.narrow_range), F((1 << a.num_bits) - 1)
    scale = (F(a.max) - F(a.min)) / (high - low)
    zero = F(np.clip(np.floor(low - F(a.min) / scale + F(0.5)), low, high))
    least, most = (low - zero) * scale, (high - zero) * scale
    steps = F(1.0) / scale
    return lambda x: floor((clamp(x, least, most) - least) * steps + F(0.5)) * scale + least
