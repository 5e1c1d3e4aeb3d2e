"""Fixed-point arithmetic of the recurrent operators, in numpy and in loops alike (64-bit integers throughout).

The official kernels are exact integer programs, so these give their results bit for bit.
Sources: TensorFlow Lite, QuantizeMultiplier and MultiplyByQuantizedMultiplier; gemmlowp, fixedpoint.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from lithe.ir.arithmetic import clamp, is_expr, minimum, where


def multiplier_of(scale: float) -> tuple[int, int]:
    """(multiplier, exponent) with scale = multiplier / 2**31 * 2**exponent, multiplier in 2**30..2**31.

    A scale below 2**-32 counts as 0, one above 2**30 as 2**30.

    >>> multiplier_of(0.75)
    (1610612736, 0)
    """
    fraction, exponent = math.frexp(min(scale, 2.0**30))
    multiplier = math.floor(fraction * 2**31 + 0.5)
    if multiplier == 2**31:
        multiplier, exponent = multiplier // 2, exponent + 1
    return (0, 0) if exponent < -31 else (multiplier, exponent)


def shifted(x: Any, bits: int) -> Any:
    """x / 2**bits to the nearest integer, halves away from zero; x holds 64-bit integers."""
    return x if bits == 0 else (x + (1 << (bits - 1)) + (x >> 63)) >> bits


def scaled(x: Any, factor: tuple[int, int]) -> Any:
    """x * a factor of `multiplier_of`, rounded twice as the official kernels do; x holds 64-bit integers."""
    multiplier, exponent = factor
    high = (x * (1 << max(exponent, 0)) * multiplier + (1 << 30)) >> 31
    return shifted(high, max(-exponent, 0))


def scaled_wide(x: Any, factor: tuple[int, int]) -> Any:
    """x of up to 48 bits * a factor of `multiplier_of`, of which 16 bits count; rounded once, halves up."""
    multiplier, exponent = factor
    reduced = 0x7FFF if multiplier >= 0x7FFF0000 else (multiplier + (1 << 15)) >> 16
    if exponent > 14:
        return x * (reduced << (exponent - 15))
    return (x * reduced + (1 << (14 - exponent))) >> (15 - exponent)


def scaled_by(x: Any, multiplier: Any, shift: Any) -> Any:
    """As `scaled`, where the multiplier and the number of bits to shift right by, 0 or more, are known in the run."""
    high = (x * multiplier + (1 << 30)) >> 31
    one = where(shift < 1, shift * 0, shift * 0 + 1)
    half = ((shift * 0 + 1) << shift) >> 1
    return (high + half + (high >> 63) * one) >> shift


def quotient(x: Any, divisor: int) -> Any:
    """x / divisor, truncated; the divisor is positive."""
    return x // divisor if is_expr(x) else np.sign(x) * (np.abs(x) // divisor)


def inverse_root(x: Any) -> tuple[Any, Any]:
    """(multiplier, shift) with 1 / sqrt(x) = multiplier / 2**31 / 2**shift for x in 1..2**31 - 1, as 64-bit integers.

    Five steps of Newton's method with three integer bits. Source: TensorFlow Lite, GetInvSqrtQuantizedMultiplierExp.
    """
    large = x >= 1 << 29
    small, shift = where(large, x >> 2, x), where(large, x * 0 + 12, x * 0 + 11)
    normal = small
    for bits in range(27, 0, -2):
        short = small < 1 << bits
        normal, shift = where(short, normal * 4, normal), where(short, shift - 1, shift)

    def times(a: Any, b: Any) -> Any:
        return (a * b + (1 << 30)) >> 31

    half = shifted(normal >> 1, 1)
    y = x * 0 + (1 << 28)
    for _ in range(5):
        cube = saturated(times(times(y, y), y) << 6, 32)
        y = saturated((times(y, (1 << 28) + (1 << 27)) - times(half, cube)) << 3, 32)
    y = times(y, 1518500250)
    left = where(shift < 0, -shift, shift * 0)
    one = x < 2
    return (
        where(one, x * 0 + (1 << 31) - 1, minimum(y << left, x * 0 + (1 << 31) - 1)),
        where(one, x * 0, where(shift < 0, shift * 0, shift)),
    )


def saturated(x: Any, bits: int) -> Any:
    """x in the range of signed integers of so many bits."""
    return clamp(x, -(1 << (bits - 1)), (1 << (bits - 1)) - 1)


# 16-bit fixed point of gemmlowp, on arrays of int64. A number with k integer bits is stored times 2**(15 - k).


def _constant(raw: int) -> int:
    """A 32-bit constant in 16 bits."""
    return int(shifted(np.int64(raw), 16))


def _wrapped(x: Any) -> np.ndarray:
    return np.asarray(x, np.int64).astype(np.int16).astype(np.int64)


def _times(a: Any, b: Any) -> np.ndarray:
    """The product of two numbers: its integer bits are the sum of theirs."""
    return np.minimum((np.asarray(a, np.int64) * b + (1 << 14)) >> 15, 32767)


def _scaled_by_power(x: np.ndarray, exponent: int) -> np.ndarray:
    return saturated(x << exponent, 16) if exponent >= 0 else shifted(x, -exponent)


ONE = 32767  # 1 without integer bits, the greatest number below it
# e**-(2**k) for k = -2..4, as 32-bit constants without integer bits
POWERS = ((-2, 1672461947), (-1, 1302514674), (0, 790015084), (1, 290630308), (2, 39332535), (3, 720401), (4, 242))


def _exp_of_last_quarter(a: np.ndarray) -> np.ndarray:
    """e**a for a in -1/4..0 without integer bits: a Taylor series around -1/8."""
    first, third = _constant(1895147668), _constant(715827883)
    x = a + (1 << 12)
    square = _times(x, x)
    cube, fourth = _times(square, x), _times(square, square)
    rest = shifted(_times(shifted(fourth, 2) + cube, third) + square, 1)
    return saturated(first + _times(first, x + rest), 16)


def _exp_of_negative(a: np.ndarray, integer_bits: int) -> np.ndarray:
    """e**a for a <= 0; no integer bits in the result."""
    fraction = 15 - integer_bits
    quarter = 1 << (fraction - 2)
    in_quarter = (a & (quarter - 1)) - quarter
    result = _exp_of_last_quarter(_scaled_by_power(in_quarter, integer_bits))
    rest = _wrapped(in_quarter - a)
    for exponent, raw in POWERS:
        if integer_bits > exponent:
            bit = rest & (1 << (fraction + exponent))
            result = np.where(bit != 0, _times(result, _constant(raw)), result)
    if integer_bits > 5:
        result = np.where(a < -(1 << (fraction + 5)), 0, result)
    return np.where(a == 0, ONE, result)


def _reciprocal(a: np.ndarray) -> np.ndarray:
    """2 / (1 + a) for a in 0..1, with two integer bits: three steps of Newton's division."""
    half = (a + ONE + 1) >> 1
    x = _wrapped(_constant(1515870810) + _times(half, _constant(-1010580540)))
    for _ in range(3):
        x = _wrapped(x + _scaled_by_power(_times(x, (1 << 13) - _times(half, x)), 2))
    return x


@functools.cache
def logistic_table() -> np.ndarray:
    """int16 [65536]: 1 / (1 + e**-x) times 2**15 for x with three integer bits, least first."""
    a = np.arange(-32768, 32768, dtype=np.int64)
    positive = _scaled_by_power(_reciprocal(_exp_of_negative(_wrapped(-np.abs(a)), 3)), 1)
    return np.where(a == 0, 1 << 14, np.where(a > 0, positive, ONE - positive)).astype(np.int16)


@functools.cache
def tanh_table(integer_bits: int) -> np.ndarray:
    """int16 [65536]: tanh(x) times 2**15 for x with so many integer bits, least first."""
    a = np.arange(-32768, 32768, dtype=np.int64)
    quotient = _reciprocal(_exp_of_negative(-np.abs(a), integer_bits + 1)) - (1 << 13)
    size = _scaled_by_power(_wrapped(quotient), 2)
    return np.where(a == 0, 0, np.where(a > 0, size, _wrapped(-size))).astype(np.int16)
