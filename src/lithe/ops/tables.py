"""Functions of quantized numbers: by a table of all values (8 bits), by a curve of 513 points (16 bits), or directly.

A `Stored` gives the stored result for a stored value, from numpy arrays and from loop expressions alike.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lithe.ir.arithmetic import F, absolute, cast, minimum, quantize_real, where
from lithe.ir.build import Builder
from lithe.ir.loops import INDEX, Buffer
from lithe.ops.op import Site
from lithe.types import FLOAT32, INT16, INT32, INT64

Function = Callable[[Any], Any]


@dataclass(frozen=True)
class Stored:
    """rule(entries, x), where `entries` is a constant table (None without)."""

    rule: Callable[[Any, Any], Any]
    entries: np.ndarray | None = None

    def __call__(self, x: Any) -> Any:
        return self.rule(self.entries, x)

    def in_loops(self, b: Builder) -> Function:
        """The rule for expressions; the table travels with the program."""
        table = None if self.entries is None else b.constant(self.entries, "table")
        return lambda x: self.rule(table, x)


Method = Callable[[Site, Function], Stored]


def entry(entries: Any, place: Any) -> Any:
    """One element, as int32."""
    return cast(entries[place.to(INDEX)] if isinstance(entries, Buffer) else entries[place], INT32)


def _pair(site: Site) -> tuple[float, int, float, int]:
    (scale, zero), (out_scale, out_zero) = site.quantization(site.input(0)), site.quantization(site.outputs[0])
    return float(F(scale)), zero, float(F(out_scale)), out_zero


def all_values(site: Site, function: Function) -> Stored:
    """The stored result for every stored value of the input, least value first.

    Computed in float64 and rounded once, so that it does not depend on the machine that makes it.
    """
    x, y = site.input(0), site.outputs[0]
    scale, zero, out_scale, out_zero = _pair(site)
    stored = np.arange(x.dtype.minimum, x.dtype.maximum + 1)
    with np.errstate(all="ignore"):
        real = function((stored - zero) * np.float64(F(scale)))
        scaled = (real / np.float64(F(out_scale))).astype(F)
    entries = quantize_real(scaled, out_zero, y.dtype.minimum, y.dtype.maximum, y.dtype)

    def rule(entries: Any, v: Any) -> Any:
        return entries[cast(v, INDEX) - x.dtype.minimum]

    return Stored(rule, entries)


@np.errstate(all="ignore")  # scales may be as far apart as float32 reaches
def directly(site: Site, function: Function) -> Stored:
    """The function itself, in float32: for functions whose operations are exact on every machine."""
    scale, zero, out_scale, out_zero = _pair(site)
    y, steps = site.outputs[0].dtype, F(1.0) / F(out_scale)

    def rule(_: Any, v: Any) -> Any:
        with np.errstate(all="ignore"):
            real = function(cast(cast(v, INT32) - zero, FLOAT32) * F(scale))
            return quantize_real(real * steps, out_zero, y.minimum, y.maximum, y)

    return Stored(rule)


def curve(site: Site, function: Function) -> Stored:
    """A function of int16 by `points` and straight lines between them. Source: TensorFlow Lite, LUTPopulate."""
    return Stored(between, points(function, *_pair(site)))


STEPS = 512  # pieces of the curve; each has 128 stored values


def _rounded(x: np.ndarray) -> np.ndarray:
    """Halves away from zero."""
    return np.where(x < 0, np.ceil(x - 0.5), np.floor(x + 0.5)).astype(x.dtype)


@np.errstate(all="ignore")  # scales may be as far apart as float32 reaches
def points(
    function: Function, scale: float, zero: int, out_scale: float, out_zero: int, real: type = np.float32
) -> np.ndarray:
    """int16 [513]: results at the ends of the pieces, moved by half of the error in the middle of the piece."""
    least, most = real(scale) * real(-32768 - zero), real(scale) * real(32767 - zero)
    out_least, out_most = real(out_scale) * real(-32768 - out_zero), real(out_scale) * real(32767 - out_zero)
    step = (most - least) / real(STEPS)
    per_unit = real(65536) / (out_most - out_least)

    def steps_at(x: np.ndarray) -> np.ndarray:
        y = np.nan_to_num(function(x.astype(np.float64)).astype(real), nan=out_least, posinf=out_most, neginf=out_least)
        return y * per_unit

    start = least + np.arange(STEPS + 1).astype(real) * step
    ends = steps_at(start)
    middle = _rounded(steps_at(start[:-1] + step / real(2)))
    error = _rounded((ends[1:] + _rounded(ends[:-1])) / real(2)) - middle
    values = np.append(_rounded(ends[:-1]) - _rounded(error / real(2)), _rounded(steps_at(np.array([most]))))
    return np.nan_to_num(np.clip(values, -32768, 32767)).astype(np.int16)


def between(entries: Any, v: Any) -> Any:
    """The stored result for a stored value on the curve; the slope of a piece has 16 bits."""
    x = cast(v, INT32)
    place = (x >> 7) + 256
    base = entry(entries, place)
    slope = cast(cast(entry(entries, place + 1) - base, INT16), INT32)
    return cast(base + ((slope * (x & 127) + 64) >> 7), INT16)


def sigmoid(integer_shifts: tuple[int, ...], bits: int) -> Method:
    """1 / (1 + e**-x) and tanh of int16, from one table of 256 points.

    integer_shifts  exponents of the input's scale times 2**12 for which the scale is taken as a power of two.
    bits            fraction bits between two points: 9, or 8 for tanh, which is 2 / (1 + e**(-2 x)) - 1.
    Source: TensorFlow Lite, reference_integer_ops::Logistic and Tanh. Their outputs have 15 fraction bits;
    where a model has other ones, it gets the curve.
    """

    def method(site: Site, function: Function) -> Stored:
        scale, zero, out_scale, out_zero = _pair(site)
        if (zero, out_scale, out_zero) != (0, 2.0**-15, 0):
            return curve(site, function)
        multiplier, shift = _input_multiplier(scale, integer_shifts)

        def rule(entries: Any, v: Any) -> Any:
            x = (cast(v, INT64) * multiplier + ((1 << shift) >> 1)) >> shift
            size = cast(minimum(absolute(x), 1 << 20), INT32)
            place = minimum(size >> bits, 254)
            low, high = entry(entries, place), entry(entries, place + 1)
            above = (low << bits) + (size & ((1 << bits) - 1)) * (high - low)
            above = where(size >= 255 << bits, (0x7FFF << 10) if bits == 9 else (0xFFFF << 8), above)
            if bits == 9:
                return cast(where(x >= 0, above + (1 << 9), (1 << 25) - above + (1 << 9) - 1) >> 10, INT16)
            return cast(where(x >= 0, above - (1 << 23) + (1 << 7), (1 << 23) - above + (1 << 7) - 1) >> 8, INT16)

        return Stored(rule, _sigmoid_points())

    return method


@functools.cache
def _sigmoid_points() -> np.ndarray:
    """1 / (1 + e**(-i / 24)) with 16 fraction bits."""
    return np.minimum(np.floor(65536 / (1 + np.exp(-np.arange(256) / 24)) + 0.5), 65535).astype(np.int32)


def _input_multiplier(scale: float, integer_shifts: tuple[int, ...]) -> tuple[int, int]:
    """(multiplier, shift) that bring a stored value to 3 * 2**12 steps for each unit."""
    exponent = math.log2(scale) if scale > 0 else 0.0
    if abs(exponent - round(exponent)) < 1e-3 and 12 + round(exponent) in integer_shifts:
        return 3 << (12 + round(exponent)), 0
    multiplier, shift = min(scale * 4096.0 * 3.0, 2.0**31), 0
    while multiplier <= 32767.0 / 2.0 and shift <= 30:
        multiplier, shift = multiplier * 2.0, shift + 1
    return int(multiplier), shift
