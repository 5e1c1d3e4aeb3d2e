"""The sign of a number, and the direction of a vector in the plane."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lithe.ir.arithmetic import F, absolute, float_bits, is_expr, maximum, minimum, where
from lithe.ir.elementary import polynomial
from lithe.ops.activation import unary
from lithe.ops.binary import binary


def sign(x: Any) -> Any:
    return where(x > 0, 1, where(x < 0, -1, x))


def angle(y: Any, x: Any) -> Any:
    """atan2(y, x). 3 ulp; signed zeros and infinities as in C.

    The arc tangent of t = (the lesser of |x|, |y|) / (the greater) in [0, 1], moved below tan(pi / 8) by
    atan t = pi / 4 + atan((t - 1) / (t + 1)); coefficients: Cephes, atanf.
    """
    if not is_expr(x, y):
        return np.arctan2(y, x)
    across, up = absolute(x), absolute(y)
    least, most = minimum(across, up), maximum(across, up)
    t = least / where(most.equals(F(0.0)), F(1.0), most)
    t = where(least.equals(F(math.inf)), F(1.0), t)
    far = F(math.tan(math.pi / 8)) < t
    r = where(far, (t - F(1.0)) / (t + F(1.0)), t)
    z = r * r
    arc = polynomial(z, (8.05374449538e-2, -1.38776856032e-1, 1.99777106478e-1, -3.33329491539e-1)) * z * r + r
    arc = where(far, arc + F(math.pi / 4), arc)
    arc = where(across < up, F(math.pi / 2) - arc, arc)
    arc = where(float_bits(x) < 0, F(math.pi) - arc, arc)
    arc = where(float_bits(y) < 0, -arc, arc)
    return where(x.equals(x) & y.equals(y), arc, x + y)


Sign = unary("SIGN", 158, sign, "1 for positive numbers, -1 for negative ones, else x", "T -> T: float32 float64 int32")
Atan2 = binary(
    "ATAN2", 156, angle, "the angle of the vector (b, a) to the first axis, in (-pi, pi]", "T T -> T: float32"
)
