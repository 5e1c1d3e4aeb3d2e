"""Softmax of int16 in integers alone, by two curves. Source: TensorFlow Lite, SoftmaxInt16."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from lithe.ir.arithmetic import F, cast, clamp, where
from lithe.ops.fixed_point import multiplier_of, scaled
from lithe.ops.op import Site
from lithe.ops.tables import between, points
from lithe.types import INT16, INT32, INT64

REACH = 10.0  # beyond this distance to the greatest, an exponential counts as e**-10
MOST_EXPONENT = 15  # of a factor, with which the product of a distance stays within 62 bits


@functools.cache
def exponentials() -> np.ndarray:
    """The curve of e**x for x in -10..0, with 15 fraction bits."""
    return points(np.exp, REACH / 65535, 32767, 2.0 / 65535, 0, np.float64)


@functools.cache
def reciprocals() -> np.ndarray:
    """The curve of 1 / (1 + x) for x in 0..1, with 15 fraction bits."""
    return points(lambda x: 1 / (1 + x), 1.0 / 65535, -32768, 2.0 / 65535, 0, np.float64)


def factor(site: Site) -> tuple[int, int] | None:
    """What brings a distance of stored values to steps of the curve; None where this arithmetic does not apply."""
    x, y = site.input(0), site.outputs[0]
    if x.dtype != INT16 or y.dtype != INT16:
        return None
    (scale, _), (out_scale, out_zero) = site.quantization(x), site.quantization(y)
    if abs(out_scale * 32768 - 1) > 1e-3 or out_zero:
        return None
    with np.errstate(all="ignore"):
        found = multiplier_of(float(F(scale) * F(site.attrs.beta)) / (REACH / 65535))
    return found if found[1] <= MOST_EXPONENT else None


def exponential(entries: Any, distance: Any, by: tuple[int, int]) -> Any:
    """e**-(beta * distance) with 15 fraction bits; `distance` counts stored values, in int32."""
    steps = scaled(-cast(distance, INT64), by) + 32767
    return cast(between(entries, cast(clamp(steps, -32768, 32767), INT16)), INT32)


def bits_of(total: Any) -> Any:
    """The greatest k with 2**k <= total, for positive int32."""
    rest, found = total, total & 0
    for k in (16, 8, 4, 2, 1):
        large = rest >= 1 << k
        rest, found = where(large, rest >> k, rest), where(large, found + k, found)
    return found


def reciprocal(entries: Any, total: Any, bits: Any) -> Any:
    """2**bits / total with 15 fraction bits."""
    shifted = ((cast(total, INT64) << cast(-bits + 30, INT64)) + (1 << 13)) >> 14
    place = clamp(shifted - ((1 << 15) + (1 << 16)), -32768, 32767)
    return cast(between(entries, cast(place, INT16)), INT32)


def share(exponential: Any, reciprocal: Any, bits: Any) -> Any:
    """The product of both, with 15 fraction bits."""
    half = cast((exponential & 0) + 1, INT64) << cast(bits - 1, INT64)
    product = cast(exponential, INT64) * cast(reciprocal, INT64)
    return cast(clamp((product + half) >> cast(bits, INT64), 0, 32767), INT16)
