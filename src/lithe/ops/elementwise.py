"""Unary mathematics and rounding."""

from __future__ import annotations

from typing import Any

from lithe.ir.arithmetic import absolute, ceil, floor, maximum, round_half_even, sqrt
from lithe.ir.elementary import cos, exp, log, reciprocal_sqrt, sin
from lithe.ops.activation import REAL_OR_STORED, unary
from lithe.ops.precision import FLOATS
from lithe.ops.tables import curve


def square(x: Any) -> Any:
    return x * x


def negate(x: Any) -> Any:
    return -x


def _of_positive(x: Any) -> Any:
    """1 / sqrt(x) as quantized kernels have it: the greatest number there is for x <= 0."""
    return reciprocal_sqrt(maximum(x, 0.0))


REAL = f"T -> T: {FLOATS}"

Exp = unary("EXP", 47, exp, "y = e**x", REAL_OR_STORED, sixteen=curve)
Log = unary("LOG", 73, log, "y = ln x; -infinity at 0, NaN below", REAL_OR_STORED, sixteen=curve)
Sqrt = unary("SQRT", 75, sqrt, "y = sqrt(x)", REAL_OR_STORED)
Rsqrt = unary("RSQRT", 76, reciprocal_sqrt, "y = 1 / sqrt(x)", REAL_OR_STORED, sixteen=curve, stored=_of_positive)
Square = unary("SQUARE", 92, square, "y = x * x", REAL)
Neg = unary(
    "NEG", 59, negate, "y = -x; of quantized integers too, as they are stored", f"{REAL} int8 int16 int32 int64"
)
Square.spelled = staticmethod(lambda w, site, x: w("MUL", x, x))
Neg.spelled = staticmethod(lambda w, site, x: w("SUB", w.number(0), x))
Abs = unary("ABS", 101, absolute, "y = |x|", f"{REAL_OR_STORED} int16 int32")
Floor = unary("FLOOR", 8, floor, "the greatest whole number that is not above x", REAL)
Ceil = unary("CEIL", 104, ceil, "the least whole number that is not below x", REAL)
Round = unary("ROUND", 116, round_half_even, "the nearest whole number, halves to even", REAL)
Sin = unary("SIN", 66, sin, "y = sin(x)", REAL)
Cos = unary("COS", 108, cos, "y = cos(x)", REAL)
