"""Unary mathematics and rounding."""

from __future__ import annotations

from typing import Any

from lithe.ir.arithmetic import absolute, ceil, floor, round_half_even, sqrt
from lithe.ir.elementary import cos, exp, log, reciprocal_sqrt, sin
from lithe.ops.activation import unary


def square(x: Any) -> Any:
    return x * x


def negate(x: Any) -> Any:
    return -x


Exp = unary("EXP", 47, exp, "y = e**x", "T -> T: float32 int8q int16q")
Log = unary("LOG", 73, log, "y = ln x; -infinity at 0, NaN below", "T -> T: float32 int8q int16q")
Sqrt = unary("SQRT", 75, sqrt, "y = sqrt(x)", "T -> T: float32 int8q int16q")
Rsqrt = unary("RSQRT", 76, reciprocal_sqrt, "y = 1 / sqrt(x)", "T -> T: float32 int8q int16q")
Square = unary("SQUARE", 92, square, "y = x * x", "T -> T: float32")
Neg = unary("NEG", 59, negate, "y = -x", "T -> T: float32 int16 int32 int64")
Abs = unary("ABS", 101, absolute, "y = |x|", "T -> T: float32 int8q int16q int16 int32")
Floor = unary("FLOOR", 8, floor, "the greatest whole number that is not above x", "T -> T: float32")
Ceil = unary("CEIL", 104, ceil, "the least whole number that is not below x", "T -> T: float32")
Round = unary("ROUND", 116, round_half_even, "the nearest whole number, halves to even", "T -> T: float32")
Sin = unary("SIN", 66, sin, "y = sin(x)", "T -> T: float32")
Cos = unary("COS", 108, cos, "y = cos(x)", "T -> T: float32")
