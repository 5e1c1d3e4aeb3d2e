"""Products of rows with weights, as layers that walk along a sequence need them: by floats and by integers.

    out[n, o] = bias[o] + sum over i of x[n, i] w[o, i];  w of rank 1 is a diagonal: out[n, o] = bias[o] + x[n, o] w[o]

Integer weights of a float layer ("hybrid") meet rows that are quantized while the model runs. A row has one scale from
its own extremes, m = greatest |x|, and the integer sum is scaled back:

    symmetric    stored = round(x * 127 / m), in -127..127
    asymmetric   as in `lithe.ops.dynamic`, with a zero point whose share leaves the sum

Halves round away from zero. Weights of uint8 hold the bits of int8, as old writers stored them.
Sources: TensorFlow Lite, SymmetricQuantizeFloats, AsymmetricQuantizeFloats, MatrixBatchVectorMultiplyAccumulate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lithe.ir.arithmetic import activate, cast, clamp, float_bits, maximum, where
from lithe.ir.build import Builder, Convolution
from lithe.ir.elementary import tanh
from lithe.ir.loops import Buffer, Const, Expr
from lithe.ops import dynamic
from lithe.types import FLOAT32, INT8, INT32, TensorType

F = np.float32
ACTIVATIONS = ("NONE", "RELU", "RELU_N1_TO_1", "RELU6", "TANH", "SIGN_BIT")
MOST = F(127.0)  # the greatest stored value of a symmetric row

Epilogue = Callable[[Any, Any, Any], Any]  # (sum, column, row) -> what is stored


def activated(x: Any, name: str) -> Any:
    """A fused activation of the layers that have TANH and SIGN_BIT too; float32."""
    if name == "TANH":
        return tanh(x)
    if name == "SIGN_BIT":
        one, zero = (Const(v, FLOAT32) if isinstance(x, Expr) else F(v) for v in (1.0, 0.0))
        return where(float_bits(x) < 0, one, zero)
    return activate(x, name)


@dataclass(frozen=True)
class Factor:
    """Weights: their elements (array or buffer), and the scale of integers, None of floats."""

    values: Any
    scale: np.float32 | None = None

    @staticmethod
    def of(values: Any, t: TensorType | None) -> Factor | None:
        """The weights of an operand; None where it is absent."""
        if values is None or t is None:
            return None
        if t.dtype.is_float or t.quantization is None:  # a bias of integers may have none: its scale says nothing new
            return Factor(values)
        whole = values.viewed(t.shape, INT8) if isinstance(values, Buffer) else values.view(np.int8)
        return Factor(values if t.dtype.name != "uint8" else whole, F(t.quantization.scale[0]))

    def __getitem__(self, at: Any) -> Any:
        """One element of it as a real number, or all of them."""
        value = self.values[at]
        if self.scale is None:
            return value
        return cast(value, FLOAT32) * self.scale


def row_parameters(low: Any, high: Any, asymmetric: bool) -> tuple[Any, Any, Any]:
    """(factor, scale, zero point) of rows whose values, and 0, lie in low..high."""
    if asymmetric:
        factor, scale, point = dynamic.parameters(low, high, own=True)
        return factor, scale, dynamic.nearest(point, own=True)
    most = Const(127.0, FLOAT32) if isinstance(low, Expr) else MOST
    span = maximum(-low, high)
    span = where(span <= most - most, most, span)
    return most / span, span / most, cast(low - low, INT32)


def less_zero(x: Any, factor: Any, zero: Any, asymmetric: bool) -> Any:
    """The quantized elements less their zero point, as int32."""
    least, most = (-128 - zero, 127 - zero) if asymmetric else (zero - 127, zero + 127)
    return dynamic.nearest(clamp(x * factor, cast(least, FLOAT32), cast(most, FLOAT32)), own=True)


def multiplied(x: np.ndarray, w: Factor, asymmetric: bool) -> np.ndarray:
    """float32 [rows, outputs] of x [rows, depth], without a bias."""
    if w.scale is None:
        return x * w.values if w.values.ndim == 1 else x @ w.values.T
    with np.errstate(over="ignore", invalid="ignore"):
        extremes = (np.minimum(x.min(axis=1, initial=0), F(0)), np.maximum(x.max(axis=1, initial=0), F(0)))
        factor, scale, zero = (np.asarray(v)[:, None] for v in row_parameters(*extremes, asymmetric))
        stored = less_zero(x, factor, zero, asymmetric)
        total = stored.astype(np.float64) @ w.values.T.astype(np.float64)
        return total.astype(F) * (scale.astype(F) * w.scale)


class Rows:
    """Rows that several weights are multiplied with; quantized once, when weights are integers."""

    def __init__(self, b: Builder, x: Buffer, hybrid: bool, asymmetric: bool) -> None:
        self.b, self.x, self.asymmetric = b, x, asymmetric
        self.hybrid = hybrid
        if hybrid:
            self.stored = b.scratch(INT8, x.shape, "quantized")
            self.scale, self.zero = b.scratch(FLOAT32, x.shape[:1], "row_scale"), b.scratch(INT32, x.shape[:1], "zero")

    def quantize(self) -> None:
        """To be called where the rows have got their values, before `times`."""
        if not self.hybrid:
            return
        b, (count, depth) = self.b, self.x.shape
        with b.loop(count, "parallel", "row") as n:
            factor, scale, zero = row_parameters(*dynamic.extremes(b, self.x, n), self.asymmetric)
            factor, point = b.variable(factor, "factor"), b.variable(zero, "point")
            b.store(self.scale, n, scale)
            b.store(self.zero, n, point[()])
            with b.loop(depth, "parallel") as i:
                less = less_zero(self.x[n, i], factor[()], point[()], self.asymmetric)
                b.store(self.stored, (n, i), (less + point[()]).to(INT8))

    def times(
        self, w: Factor, bias: Buffer | None, out: Buffer, epilogue: Epilogue = lambda total, o, n: total
    ) -> None:
        """out[n, o] = epilogue(bias[o] + the product, o, n)"""
        b, (count, depth), shape = self.b, self.x.shape, w.values.shape
        if len(shape) == 1:
            b.compute(out, lambda n, o: epilogue(_sum(bias, o, self.x[n, o] * w.values[o]), o, n))
            return
        wide, stored, finish = FLOAT32, self.x, epilogue
        if w.scale is not None:
            wide, stored = INT32, self.stored
            sums = b.constant(w.values.values.astype(np.int32).sum(axis=1, dtype=np.int32), "weight_sum")

            def finish(total: Expr, o: Expr, n: Expr) -> Expr:
                whole = total - self.zero[n] * sums[o] if self.asymmetric else total
                return epilogue(_sum(bias, o, whole.to(FLOAT32) * (self.scale[n] * w.scale)), o, n)

        b.convolution(
            Convolution(
                stored.viewed((count, 1, 1, depth)), w.values.viewed((shape[0], 1, 1, depth)),
                bias if w.scale is None else None, out.viewed((count, 1, 1, shape[0])),
                (1, 1), (1, 1), (0, 0), 1, wide, lambda total, o, pixel: finish(total, o, pixel[0]),
            )
        )  # fmt: skip


def _sum(bias: Buffer | None, o: Expr, value: Expr) -> Expr:
    return value if bias is None else value + bias[o]
