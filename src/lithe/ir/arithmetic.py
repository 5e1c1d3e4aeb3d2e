"""Number work written once, for numpy arrays and for loop expressions alike.

Each function takes either numpy arrays or loop expressions. The first is the meaning that
operators' `evaluate` uses; the second is traced into code for every target. Both give the same bits
(float32 operations round to nearest everywhere, and no generator may contract a product and a sum).
Functions such as exp are in `lithe.ir.elementary`.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from lithe.ir import loops
from lithe.ir.loops import BITS_FLOAT, FLOAT_BITS, FMA, MULTIPLY_ADD, ROUND_INT, Const, Expr, Intrinsic, Unary
from lithe.types import FLOAT32, DType

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


def float_bits(x: Any) -> Any:
    """The 32 bits of a float32, as int32."""
    return Intrinsic(FLOAT_BITS, (x,)) if is_expr(x) else FLOAT_BITS.meaning(x)


def bits_float(x: Any) -> Any:
    """The float32 that has these 32 bits."""
    return Intrinsic(BITS_FLOAT, (x,)) if is_expr(x) else BITS_FLOAT.meaning(x)


def fused_multiply_add(a: Any, b: Any, c: Any) -> Any:
    """a * b + c of float32, rounded once."""
    if is_expr(a, b, c):
        return Intrinsic(FMA, tuple(loops.constant(v, FLOAT32) for v in (a, b, c)))
    return FMA.meaning(a, b, c)


def multiply_add(a: Any, b: Any, c: Any) -> Any:
    """a * b + c of float32, rounded once or twice, whichever is quicker on a target: for results that are floats."""
    if is_expr(a, b, c):
        return Intrinsic(MULTIPLY_ADD, tuple(loops.constant(v, FLOAT32) for v in (a, b, c)))
    return a * b + c


def requantize(acc: Any, multiplier: Any, zero_point: int, low: int, high: int, dtype: DType) -> Any:
    """clamp(round_half_even(float32(acc) * multiplier) + zero_point, low, high) as `dtype`.

    acc         sum (exact) of int32, or int64.
    multiplier  float32: input scale * weight scale / output scale.

    The arithmetic of XNNPACK's "fp32" requantization: clamped before rounding, so no conversion overflows. Where the
    multiplier is too small for one, loops clamp the integers of sums of 32 bits: it is the same, and machines that
    narrow vectors of integers with saturation do it by the way.
    """
    if is_expr(acc) and acc.dtype.bits <= 32 and _largest(multiplier) < 0.25:
        return clamp(round_to_int(cast(acc, FLOAT32) * multiplier) + zero_point, low, high).to(dtype)
    factor = multiplier if is_expr(acc) else np.asarray(multiplier, F)
    return quantize_real(cast(acc, FLOAT32) * factor, zero_point, low, high, dtype)


def _largest(multiplier: Any) -> float:
    """The greatest magnitude of a number, or of the constant that an element is loaded from; infinite if unknown."""
    if not is_expr(multiplier):
        return abs(float(multiplier))
    return _largest_of(multiplier.buffer) if isinstance(multiplier, loops.Load) else math.inf


@functools.lru_cache(8)
def _largest_of(buffer: loops.Buffer) -> float:
    return math.inf if buffer.values is None else float(np.abs(buffer.values).max(initial=0.0))


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
        return zero_point + math.floor(abs(float(ratio)) + 0.5) * (1 if real >= 0 else -1)

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
    "TANH": (None, None),  # these two are left out by the format's own runtime, outside of recurrent operators
    "SIGN_BIT": (None, None),
}


def activate(x: Any, activation: str) -> Any:
    """A fused activation on values that are not quantized; NaN stays NaN."""
    for bound, limit in zip(ACTIVATION_BOUNDS[activation], (maximum, minimum), strict=True):
        if bound is not None:
            whole = x.dtype.is_integer if is_expr(x) else x.dtype.kind in "iu"
            value = int(bound) if whole else bound
            x = limit(Const(value, x.dtype) if is_expr(x) else np.asarray(value).astype(x.dtype), x)
    return x
