"""The sign of a number, and the direction of a vector in the plane."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lithe.ir.arithmetic import absolute, cast, float_bits, is_expr, maximum, minimum, where
from lithe.ops.activation import unary
from lithe.ops.binary import binary
from lithe.ops.precision import FLOATS
from lithe.types import FLOAT32, FLOAT64


def sign(x: Any) -> Any:
    return where(x > 0, 1, where(x < 0, -1, x))


# The arc tangent of t in [0, tan(pi / 8)] is t + t z P(z) / Q(z), z = t * t. Coefficients: Cephes, atanf and atan.
SINGLE = ((8.05374449538e-2, -1.38776856032e-1, 1.99777106478e-1, -3.33329491539e-1), (0.0, 1.0))
DOUBLE = (
    (-8.750608600031904122785e-1, -1.615753718733365076637e1, -7.500855792314704667340e1, -1.228866684490136173410e2,
     -6.485021904942025371773e1),
    (1.0, 2.485846490142306297962e1, 1.650270098316988542046e2, 4.328810604912902668951e2, 4.853903996359136964868e2,
     1.945506571482613964425e2),
)  # fmt: skip


def angle(y: Any, x: Any) -> Any:
    """atan2(y, x). 3 ulp; signed zeros and infinities as in C.

    t = (the lesser of |x|, |y|) / (the greater) in [0, 1]; beyond tan(pi / 8),
    atan t = pi / 4 + atan((t - 1) / (t + 1)).
    """
    if not is_expr(x, y):
        return np.arctan2(y, x)
    above, below = DOUBLE if x.dtype == FLOAT64 else SINGLE
    across, up = absolute(x), absolute(y)
    least, most = minimum(across, up), maximum(across, up)
    t = least / where(most.equals(0.0), 1.0, most)
    t = where(least.equals(math.inf), 1.0, t)
    far = t > math.tan(math.pi / 8)
    r = where(far, (t - 1.0) / (t + 1.0), t)
    z = r * r
    arc = horner(z, above) / horner(z, below) * z * r + r if len(below) > 2 else horner(z, above) * z * r + r
    arc = where(far, arc + math.pi / 4, arc)
    arc = where(across < up, -arc + math.pi / 2, arc)
    arc = where(float_bits(cast(x, FLOAT32)) < 0, -arc + math.pi, arc)
    arc = where(float_bits(cast(y, FLOAT32)) < 0, -arc, arc)
    return where(x.equals(x) & y.equals(y), arc, x + y)


def horner(z: Any, coefficients: tuple[float, ...]) -> Any:
    """A polynomial in the precision of z, highest power first."""
    total = z * coefficients[0] + coefficients[1]
    for c in coefficients[2:]:
        total = total * z + c
    return total


Sign = unary(
    "SIGN", 158, sign, "1 for positive numbers, -1 for negative ones, else x", f"T -> T: {FLOATS} float64 int32"
)
Atan2 = binary(
    "ATAN2", 156, angle, "the angle of the vector (b, a) to the first axis, in (-pi, pi]", f"T T -> T: {FLOATS} float64"
)
