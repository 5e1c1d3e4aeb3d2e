"""Number work written once, for numpy arrays and for loop expressions alike.

Each function takes either numpy arrays or loop expressions. The first is the meaning that
operators' `evaluate` uses; the second is traced into code for every target. For integers both give
the same bits; for floats the expression stays within the stated bound of the exact value.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lithe.ir import loops
from lithe.ir.loops import BITS_FLOAT, FLOAT_BITS, ROUND_INT, Const, Expr, Intrinsic, Unary
from lithe.types import FLOAT32, INT32, DType

F = np.float32


def is_expr(*values: Any) -> bool:
    return any(isinstance(v, Expr) for v in values)


def where(condition: Any, a: Any, b: Any) -> Any:
    return loops.select(condition, a, b) if is_expr(condition) else np.where(condition, a, b)


def minimum(a: Any, b: Any) -> Any:
    """a < b ? a : b (b when a is NaN)."""
    return loops.minimum(a, b) if is_expr(a, b) else np.where(np.less(a, b), a, b)


def maximum(a: Any, b: Any) -> Any:
    """a > b ? a : b (b when a is NaN)."""
    return loops.maximum(a, b) if is_expr(a, b) else np.where(np.greater(a, b), a, b)


def clamp(x: Any, low: Any, high: Any) -> Any:
    return minimum(maximum(x, low), high)


def _unary(name: str, x: Any, function: Any) -> Any:
    return Unary(name, x) if is_expr(x) else function(x)


def absolute(x: Any) -> Any:
    return _unary("abs", x, np.abs)


def sqrt(x: Any) -> Any:
    return _unary("sqrt", x, np.sqrt)


def floor(x: Any) -> Any:
    return _unary("floor", x, np.floor)


def ceil(x: Any) -> Any:
    return _unary("ceil", x, np.ceil)


def round_half_even(x: Any) -> Any:
    return _unary("round", x, np.rint)


def trunc(x: Any) -> Any:
    return _unary("trunc", x, np.trunc)


def cast(x: Any, dtype: DType) -> Any:
    if is_expr(x):
        return x.to(dtype)
    x = np.asarray(x)
    if dtype.is_integer and x.dtype.kind == "f":
        low, high = float(dtype.minimum), float(dtype.maximum)
        wide = np.nan_to_num(np.trunc(x.astype(np.float64)), nan=0.0, posinf=high, neginf=low)
        with np.errstate(invalid="ignore"):
            inside = np.clip(wide, low, high).astype(dtype.numpy)
        return np.where(wide >= high, dtype.numpy.type(dtype.maximum), inside)
    with np.errstate(over="ignore", invalid="ignore"):
        return x.astype(dtype.numpy)


def round_to_int(x: Any) -> Any:
    """float32 in the range of int32 -> int32, halves to even."""
    return Intrinsic(ROUND_INT, (x,)) if is_expr(x) else np.rint(x).astype(np.int32)


def polynomial(x: Any, coefficients: tuple[float, ...]) -> Any:
    """Horner's rule, highest power first."""
    y: Any = Const(coefficients[0], FLOAT32)
    for c in coefficients[1:]:
        y = y * x + c
    return y


def exp(x: Any) -> Any:
    """e**x. As an expression: float32, 2 ulp; saturates to 0 and infinity.

    x = n ln 2 + r with |r| <= ln 2 / 2; e**r by a polynomial of degree 6 (Taylor with the last terms
    adjusted), 2**n in two factors so that results below the normal range and above 2**127 come out right.
    """
    if not is_expr(x):
        with np.errstate(over="ignore"):
            return np.exp(x)
    limited = clamp(x, Const(-104.0, FLOAT32), Const(89.0, FLOAT32))
    n = round_half_even(limited * F(1.4426950408889634))
    r = limited - n * F(0.693359375)  # Cody and Waite: the upper bits of ln 2 ...
    r = r - n * F(-2.12194440e-4)  # ... and the rest
    p = polynomial(r, (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 0.5))
    p = p * (r * r) + r + 1.0
    i = round_to_int(n)
    half = i >> 1
    y = p * _power_of_two(half) * _power_of_two(i - half)
    return loops.select(x.equals(x), y, x)


def _power_of_two(n: Expr) -> Expr:
    return Intrinsic(BITS_FLOAT, ((n + 127) << 23,))


def log(x: Any) -> Any:
    """Natural logarithm. As an expression: float32, 3 ulp; log(0) = -inf, NaN below 0 (Cephes' logf form)."""
    if not is_expr(x):
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log(x)
    tiny = x < Const(1.1754944e-38, FLOAT32)
    scaled = loops.select(tiny, x * F(33554432.0), x)  # 2**25: subnormals become normal
    bits = Intrinsic(FLOAT_BITS, (scaled,))
    exponent = ((bits >> 23) & 255) - 126
    mantissa = Intrinsic(BITS_FLOAT, ((bits & 0x007FFFFF) | 0x3F000000,))  # [0.5, 1)
    small = mantissa < Const(0.70710678, FLOAT32)
    e = (exponent - loops.select(small, Const(1, INT32), Const(0, INT32))).to(FLOAT32)
    e = e - loops.select(tiny, Const(25.0, FLOAT32), Const(0.0, FLOAT32))
    m = loops.select(small, mantissa + mantissa, mantissa) - 1.0
    z = m * m
    p = polynomial(m, (7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
                       -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1))  # fmt: skip
    y = m * z * p + e * F(-2.12194440e-4) - z * 0.5
    y = m + y + e * F(0.693359375)
    infinity = Const(math.inf, FLOAT32)
    y = loops.select(x < infinity, y, x)  # infinity and NaN
    y = loops.select(x.equals(0.0), -infinity, y)
    return loops.select(x < Const(0.0, FLOAT32), Const(math.nan, FLOAT32), y)


def logistic(x: Any) -> Any:
    """1 / (1 + e**-x). As an expression: float32, 4 ulp."""
    if not is_expr(x):
        with np.errstate(over="ignore"):
            return 1 / (1 + np.exp(-x))
    return Const(1.0, FLOAT32) / (exp(-x) + 1.0)


def tanh(x: Any) -> Any:
    """Hyperbolic tangent. As an expression: float32, 4 ulp."""
    if not is_expr(x):
        return np.tanh(x)
    a = absolute(x)
    z = x * x  # near 0 the quotient below would cancel
    p = polynomial(z, (-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1))
    near = p * z * x + x
    far = Const(1.0, FLOAT32) - Const(2.0, FLOAT32) / (exp(a + a) + 1.0)
    far = loops.select(x < Const(0.0, FLOAT32), -far, far)
    return loops.select(a < Const(0.625, FLOAT32), near, far)


def requantize(acc: Any, multiplier: Any, zero_point: int, low: int, high: int, dtype: DType) -> Any:
    """clamp(round_half_even(float32(acc) * multiplier) + zero_point, low, high) as `dtype`.

    acc         int32 sum (exact).
    multiplier  float32: input scale * weight scale / output scale.

    The arithmetic of XNNPACK's "fp32" requantization: clamped before rounding, so no conversion overflows.
    """
    if is_expr(acc):
        real = acc.to(FLOAT32) * multiplier
    else:
        real = np.asarray(acc).astype(F) * np.asarray(multiplier, F)
    return quantize_real(real, zero_point, low, high, dtype)


def quantize_real(real: Any, zero_point: int, low: int, high: int, dtype: DType) -> Any:
    """clamp(round_half_even(real) + zero_point, low, high): `real` is already divided by the scale."""
    if is_expr(real):
        inside = clamp(real, Const(float(low - zero_point), FLOAT32), Const(float(high - zero_point), FLOAT32))
        return (round_to_int(inside) + zero_point).to(dtype)
    inside = clamp(np.asarray(real, F), F(low - zero_point), F(high - zero_point))
    return (np.rint(inside).astype(np.int32) + np.int32(zero_point)).astype(dtype.numpy)


def activation_range(activation: str, scale: float, zero_point: int, dtype: DType) -> tuple[int, int]:
    """(low, high) stored values that a fused activation allows.

    Source: TensorFlow Lite, CalculateActivationRangeQuantized: bound = zero_point + round(real / scale).
    """
    low, high = dtype.minimum, dtype.maximum
    bounds = ACTIVATION_BOUNDS[activation]

    def stored(real: float) -> int:
        ratio = F(real) / F(scale)
        return zero_point + int(math.floor(abs(float(ratio)) + 0.5)) * (1 if real >= 0 else -1)

    if bounds[0] is not None:
        low = max(low, stored(bounds[0]))
    if bounds[1] is not None:
        high = min(high, stored(bounds[1]))
    return low, max(low, high)


# fused activation -> (least, greatest) real value. Source: schema.fbs, ActivationFunctionType.
ACTIVATION_BOUNDS: dict[str, tuple[float | None, float | None]] = {
    "NONE": (None, None),
    "RELU": (0.0, None),
    "RELU_N1_TO_1": (-1.0, 1.0),
    "RELU6": (0.0, 6.0),
}


def activate(x: Any, activation: str) -> Any:
    """A fused activation on real (float) values."""
    low, high = ACTIVATION_BOUNDS[activation]
    if low is not None:
        x = maximum(x, Const(low, FLOAT32) if is_expr(x) else x.dtype.type(low))
    if high is not None:
        x = minimum(x, Const(high, FLOAT32) if is_expr(x) else x.dtype.type(high))
    return x
