"""Elementwise operators of the StableHLO dialect: the rules of their older namesakes, without a fused activation."""

from __future__ import annotations

from typing import Any

import numpy as np

from lithe.ir.arithmetic import absolute, floor, maximum, minimum
from lithe.ir.build import Builder
from lithe.ir.elementary import cos, exp, log, logistic, power, reciprocal_sqrt, tanh
from lithe.ir.loops import Buffer, select
from lithe.ops.activation import unary
from lithe.ops.binary import binary, nonzero, not_negative, truncated_quotient, whole_power
from lithe.ops.op import Op, Site, register
from lithe.types import Shape

FLOAT = "T -> T: float32"
PAIRS = "T T -> T: float32 int16 int32 int64"

Logistic = unary("STABLEHLO_LOGISTIC", 162, logistic, "y = 1 / (1 + exp(-x))", FLOAT)
Absolute = unary("STABLEHLO_ABS", 175, absolute, "y = |x|", "T -> T: float32 int32")
Cosine = unary("STABLEHLO_COSINE", 177, cos, "y = cos(x)", FLOAT)
Exponential = unary("STABLEHLO_EXPONENTIAL", 178, exp, "y = e**x", FLOAT)
Floor = unary("STABLEHLO_FLOOR", 179, floor, "the greatest whole number that is not above x", FLOAT)
Log = unary("STABLEHLO_LOG", 180, log, "y = ln x", FLOAT)
Negate = unary("STABLEHLO_NEGATE", 182, lambda x: -x, "y = -x", "T -> T: float32 int32")
Rsqrt = unary("STABLEHLO_RSQRT", 186, reciprocal_sqrt, "y = 1 / sqrt(x)", FLOAT)
Tanh = unary("STABLEHLO_TANH", 189, tanh, "y = tanh(x)", FLOAT)

Add = binary("STABLEHLO_ADD", 163, lambda a, b: a + b, "y = a + b", PAIRS)
Subtract = binary("STABLEHLO_SUBTRACT", 188, lambda a, b: a - b, "y = a - b", PAIRS)
Multiply = binary("STABLEHLO_MULTIPLY", 165, lambda a, b: a * b, "y = a * b", PAIRS)
Maximum = binary("STABLEHLO_MAXIMUM", 166, maximum, "the greater one", PAIRS)
Minimum = binary("STABLEHLO_MINIMUM", 181, minimum, "the lesser one", PAIRS)


def _quotient(a: Any, b: Any) -> Any:
    return a / b


Divide = binary("STABLEHLO_DIVIDE", 164, _quotient, "y = a / b, towards zero in integers", "T T -> T: float32 int32",
                whole=truncated_quotient, check=nonzero, failure="division by zero")  # fmt: skip
Power = binary("STABLEHLO_POWER", 184, power, "y = a**b", "T T -> T: float32 int32", whole=whole_power,
               check=not_negative, failure="a negative exponent of an integer")  # fmt: skip


@register
class Select(Op):
    """z = x where the condition holds, y elsewhere; the condition is a scalar or has their shape."""

    name, code = "STABLEHLO_SELECT", 187
    operands = (("condition", "x", "y"), ("output",))
    types = "bool T T -> T: float32 int8 uint8 int16 int32 int64 bool"

    def infer(site: Site) -> list[Shape]:
        condition, x, y = (site.input(i).shape for i in range(3))
        site.require(x == y, f"must have the shape of x {list(x)}, is {list(y)}", 2)
        site.require(condition in (x, ()), f"must be a scalar or have the shape {list(x)}, is {list(condition)}", 0)
        return [x]

    def evaluate(site: Site, condition: np.ndarray, x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
        return [np.ascontiguousarray(np.where(condition, x, y)).reshape(x.shape)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        b.elementwise(ys[0], select, xs[0], xs[1], xs[2])
