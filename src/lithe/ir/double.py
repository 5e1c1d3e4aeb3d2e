"""Number work in float64, for the few operators whose official kernels compute in double."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lithe.ir import loops
from lithe.ir.arithmetic import clamp, is_expr, round_half_even
from lithe.ir.loops import BITS_FLOAT, Const, Expr, Intrinsic
from lithe.types import FLOAT64, INT32

# exp(r) = sum of r**k / k!; for |r| <= ln(2) / 2 the first term left out is below 5e-18.
_TAYLOR = tuple(1.0 / math.factorial(k) for k in range(13, -1, -1))


def exp(x: Any) -> Any:
    """e**x in float64. As an expression: 2 ulp between -174 and 176, constant outside (float32 has no such numbers)."""
    if not is_expr(x):
        with np.errstate(over="ignore"):
            return np.exp(x)
    limited = clamp(x, Const(-174.0, FLOAT64), Const(176.0, FLOAT64))
    n = round_half_even(limited * 1.4426950408889634)
    r = limited - n * 0.693147180369123816490  # ln 2 in two parts, the first with 21 zero bits at its end
    r = r - n * 1.90821492927058770002e-10
    y: Expr = Const(_TAYLOR[0], FLOAT64)
    for c in _TAYLOR[1:]:
        y = y * r + c
    i = n.to(INT32)
    half = i >> 1
    y = y * _power_of_two(half) * _power_of_two(i - half)
    return loops.select(x.equals(x), y, x)


def _power_of_two(n: Expr) -> Expr:
    return Intrinsic(BITS_FLOAT, ((n + 127) << 23,)).to(FLOAT64)
