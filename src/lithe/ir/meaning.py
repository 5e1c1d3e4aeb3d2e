"""The meaning of each operation of the loop language on numpy values (scalars and arrays alike).

Integer `div`, `mod`, `shl` and `shr` also take the mask of the lanes that are awake: a division by zero, a
quotient that doesn't fit and a shift by a negative or too large count are mistakes of the program there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lithe.errors import ExecutionError
from lithe.types import BOOL, DType

Value = Any


def convert(x: Value, dtype: DType) -> Value:
    """x as another type: floats become integers by truncation and saturation (NaN: 0), integers wrap."""
    if dtype == BOOL:
        return x != 0
    if not (dtype.is_integer and x.dtype.kind not in "biu"):
        return x.astype(dtype.numpy)
    wide = x.astype(np.float64)
    above, below = wide >= float(dtype.maximum), wide <= float(dtype.minimum)
    inside = np.where(above | below | np.isnan(wide), 0.0, wide).astype(dtype.numpy)
    ends = np.where(below, dtype.numpy.type(dtype.minimum), inside)
    return np.where(above, dtype.numpy.type(dtype.maximum), ends)[()]


def minimum(a: Value, b: Value) -> Value:
    less = a < b
    return np.where(less, a, b) if less.ndim else (a if less else b)


def maximum(a: Value, b: Value) -> Value:
    greater = a > b
    return np.where(greater, a, b) if greater.ndim else (a if greater else b)


def _refuse(bad: Value, mask: Value, text: str) -> None:
    if (bad if mask is None else bad & mask).any():
        raise ExecutionError(text)


def _divisor(a: Value, b: Value, mask: Value) -> Value:
    """b, made harmless in sleeping lanes."""
    zero = b == 0
    if not zero.any() and (b.dtype.kind == "u" or not (b == -1).any()):
        return b
    _refuse(zero, mask, "an integer is divided by zero")
    bad = zero
    if b.dtype.kind == "i":
        overflow = (b == -1) & (a == np.iinfo(b.dtype).min)
        _refuse(overflow, mask, "the quotient of the least integer and -1 does not fit")
        bad = zero | overflow
    return np.where(bad, b.dtype.type(1), b)[()]


def divide(a: Value, b: Value, mask: Value = None) -> Value:
    if a.dtype.kind not in "iu":
        return a / b
    b = _divisor(a, b, mask)
    return (a - np.fmod(a, b)) // b


def remainder(a: Value, b: Value, mask: Value = None) -> Value:
    if a.dtype.kind not in "iu":
        return np.fmod(a, b)
    return np.fmod(a, _divisor(a, b, mask))


def _count(a: Value, b: Value, mask: Value) -> Value:
    bits = a.dtype.itemsize * 8
    bad = (b < 0) | (b >= bits)
    _refuse(bad, mask, f"a shift count is outside of 0..{bits - 1}")
    return np.where(bad, b.dtype.type(0), b)[()]


def shift_left(a: Value, b: Value, mask: Value = None) -> Value:
    return np.left_shift(a, _count(a, b, mask))


def shift_right(a: Value, b: Value, mask: Value = None) -> Value:
    return np.right_shift(a, _count(a, b, mask))


BINARY_MEANING: dict[str, Callable[..., Value]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": divide,
    "mod": remainder,
    "min": minimum,
    "max": maximum,
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b,
    "shl": shift_left,
    "shr": shift_right,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
}

UNARY_MEANING: dict[str, Callable[[Value], Value]] = {
    "neg": lambda x: -x,
    "abs": abs,
    "sqrt": np.sqrt,
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.rint,
    "trunc": np.trunc,
    "not": lambda x: ~x,
}
