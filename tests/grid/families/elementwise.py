"""Operators that compute each element from those at its place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lithe.types import BOOL, TensorType
from tests.grid.draw import Draw, Operand, Trial
from tests.grid.families.registry import generates

ACTIVATIONS = ("NONE", "NONE", "NONE", "RELU", "RELU6", "RELU_N1_TO_1")


@dataclass(frozen=True)
class Unary:
    """low, high    range of the data.
    special         whether what is huge, tiny and not finite is compared too.
    floor           the size of terms that cancel: differences are relative to no less.
    output          (scale, zero point) by bits that the format fixes for quantized outputs, signed and unsigned.
    least           the smallest real number of a quantized input (for logarithms and roots).
    """

    low: float = -8
    high: float = 8
    special: bool = True
    floor: float = 0.0
    tolerance: float = 1e-5
    output: dict[str, tuple[float, int]] | None = None
    least: float | None = None


LOGISTIC = {"int8q": (1 / 256, -128), "uint8q": (1 / 256, 0), "int16q": (1 / 32768, 0)}
TANH = {"int8q": (1 / 128, 0), "uint8q": (1 / 128, 128), "int16q": (1 / 32768, 0)}
TRANSCENDENTAL = 1e-4
CIRCLES = {"SIN", "COS", "STABLEHLO_COSINE"}
REACH = 1e4  # beyond, the angle is reduced with less and less accuracy (see lithe.ir.elementary)
UNARY = {
    "LOGISTIC": Unary(-20, 20, tolerance=TRANSCENDENTAL, output=LOGISTIC),
    "TANH": Unary(-6, 6, tolerance=TRANSCENDENTAL, output=TANH),
    **dict.fromkeys(("RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "NEG", "ABS", "FLOOR", "CEIL", "ROUND", "SQUARE",
                     "SIGN", "ZEROS_LIKE"), Unary(-9, 9)),
    "ELU": Unary(tolerance=TRANSCENDENTAL),
    "HARD_SWISH": Unary(-5, 5),
    "GELU": Unary(-6, 6, tolerance=TRANSCENDENTAL, floor=1.0),
    "LEAKY_RELU": Unary(),
    "EXP": Unary(-20, 20, tolerance=TRANSCENDENTAL),
    "LOG": Unary(1e-3, 50, tolerance=TRANSCENDENTAL, least=0.01, floor=1.0),
    "SQRT": Unary(0, 50, least=0),
    "RSQRT": Unary(1e-3, 50, least=0.01),
    "SIN": Unary(-30, 30, tolerance=TRANSCENDENTAL, floor=1.0),
    "COS": Unary(-30, 30, tolerance=TRANSCENDENTAL, floor=1.0),
    "STABLEHLO_LOGISTIC": Unary(-20, 20, tolerance=TRANSCENDENTAL),
    "STABLEHLO_TANH": Unary(-6, 6, tolerance=TRANSCENDENTAL),
    "STABLEHLO_EXPONENTIAL": Unary(-20, 20, tolerance=TRANSCENDENTAL),
    "STABLEHLO_LOG": Unary(1e-3, 50, tolerance=TRANSCENDENTAL, floor=1.0),
    "STABLEHLO_RSQRT": Unary(1e-3, 50),
    "STABLEHLO_COSINE": Unary(-30, 30, tolerance=TRANSCENDENTAL, floor=1.0),
    "STABLEHLO_ABS": Unary(),
    "STABLEHLO_FLOOR": Unary(),
    "STABLEHLO_NEGATE": Unary(),
}  # fmt: skip


@generates(*UNARY)
def unary(d: Draw) -> Trial:
    rule = UNARY[d.op]
    (word,), (out,) = d.inputs, d.outputs
    shape = d.shape()
    x = d.type(word, shape)
    if x.quantization is not None and rule.least is not None:
        low = x.dtype.minimum if x.dtype.bits < 16 else 0
        x = d.type(word, shape, zero=low)
    values = d.values(x, rule.low if x.dtype.is_float else -100, rule.high if x.dtype.is_float else 100, rule.special)
    if d.op in CIRCLES and x.dtype.is_float:
        values = np.where(np.isfinite(values), np.clip(values, -REACH, REACH), values)
    if x.quantization is not None and rule.least:
        values = np.maximum(values, x.quantization.zero_point[0] + 1 + int(rule.least / x.quantization.scale[0]))
    fixed = (rule.output or {}).get(out)
    if fixed is not None:
        y = d.type(out, shape, scale=fixed[0], zero=fixed[1])
    else:
        scale = x.quantization.scale[0] * d.log_uniform(0.4, 2.5) if x.quantization else None
        y = d.type(out, shape, scale=scale)
    attrs: dict[str, Any] = {}
    if d.op == "LEAKY_RELU":
        attrs = {"alpha": d.choice((0.0, 0.1, 0.25, d.uniform(0, 1), d.uniform(-1, 2)))}
    if d.op == "GELU":
        attrs = {"approximate": d.chance(0.5)}
    return d.trial([d.operand(x, values)], [y], attrs, each=True, floor=rule.floor, tolerance=rule.tolerance)


# What keeps the second operand from what the machine traps on or the specification leaves open.
DIVISIONS = {"DIV", "FLOOR_DIV", "FLOOR_MOD", "STABLEHLO_DIVIDE", "STABLEHLO_REMAINDER"}
POWERS = {"POW", "STABLEHLO_POWER"}
SHIFTS = {"RIGHT_SHIFT", "STABLEHLO_SHIFT_LEFT"}
FUSED = {"ADD", "SUB", "MUL", "DIV"}
SAME_SCALES = {"MAXIMUM", "MINIMUM"}
SAME_SHAPES = {"ATAN2",
               "STABLEHLO_ADD", "STABLEHLO_SUBTRACT", "STABLEHLO_MULTIPLY", "STABLEHLO_DIVIDE", "STABLEHLO_MAXIMUM",
               "STABLEHLO_MINIMUM", "STABLEHLO_POWER", "STABLEHLO_SHIFT_LEFT"}  # fmt: skip
BINARY = ("ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE", "BITWISE_XOR", *DIVISIONS, *POWERS,
          *SHIFTS, *SAME_SHAPES - DIVISIONS - POWERS - SHIFTS)  # fmt: skip


@generates(*dict.fromkeys(BINARY))
def binary(d: Draw) -> Trial:
    shape = d.shape()
    shapes = [shape, d.broadcast(shape)] if d.op not in SAME_SHAPES else [shape, shape]
    if d.chance(0.3):
        shapes.reverse()
    if d.op not in SAME_SHAPES and d.chance(0.15):
        shapes = [tuple(1 if d.chance(0.3) else s for s in t) for t in shapes]
    out = np.broadcast_shapes(*shapes)
    a = d.type(d.inputs[0], shapes[0])
    b = d.type(d.inputs[1], shapes[1], like=a if d.op in SAME_SCALES else None)
    y = d.type(d.outputs[0], out, like=a if d.op in SAME_SCALES else None, scale=_output_scale(d, a, b))
    left, right = (
        d.values(t, -100 if t.dtype.is_integer else -9, 100 if t.dtype.is_integer else 9, True) for t in (a, b)
    )
    if d.op in DIVISIONS and not b.dtype.is_float:
        zero = b.quantization.zero_point[0] if b.quantization else 0
        right = np.where(right == zero, zero + 1 if zero < b.dtype.maximum else zero - 1, right)
        right = (
            np.where((right == -1) & (left.min(initial=0) == a.dtype.minimum), 1, right)
            if not b.quantization
            else right
        )
    if d.op in POWERS:
        left, right = (left % 12 - 5, right % 9) if a.dtype.is_integer else (left, right)
    if d.op in SHIFTS:
        right = right % a.dtype.bits
    attrs = {"fused_activation_function": d.choice(ACTIVATIONS)} if d.op in FUSED else {}
    if d.has_attribute("pot_scale_int16"):
        attrs["pot_scale_int16"] = False
    constant = d.choice((None, None, None, 0, 1))
    operands = [d.operand(t, v, i == constant) for i, (t, v) in enumerate(((a, left), (b, right)))]
    tolerance = TRANSCENDENTAL if d.op in POWERS or d.op == "ATAN2" else 1e-5
    each = a.dtype.kind != "complex"  # products of complex numbers have terms that cancel
    return d.trial(operands, [y], attrs, each=each, tolerance=tolerance)


def _output_scale(d: Draw, a: TensorType, b: TensorType) -> float | None:
    """A scale with which some results fill the range and some saturate."""
    if a.quantization is None or b.quantization is None:
        return None
    p, q = a.quantization.scale[0], b.quantization.scale[0]
    half = 2.0 ** (a.dtype.bits - 1)
    natural = {"MUL": p * q * half / 2, "SQUARED_DIFFERENCE": max(p, q) ** 2 * half / 2, "DIV": p / q}
    return natural.get(d.op, max(p, q)) * d.log_uniform(0.3, 3)


COMPARISONS = ("EQUAL", "NOT_EQUAL", "LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL")


@generates(*COMPARISONS, "LOGICAL_AND", "LOGICAL_OR")
def comparison(d: Draw) -> Trial:
    shape = d.shape()
    shapes = [shape, d.broadcast(shape)]
    if d.chance(0.5):
        shapes.reverse()
    a = d.type(d.inputs[0], shapes[0])
    b = d.type(d.inputs[1], shapes[1], like=a if d.chance(0.3) else None)
    left, right = (d.values(t, -2, 3, True) for t in (a, b))
    if a.dtype.is_float and d.chance(0.5):
        with np.errstate(invalid="ignore"):
            left, right = (np.asarray(np.round(v)) for v in (left, right))
    out = TensorType(BOOL, np.broadcast_shapes(*shapes))
    return d.trial([d.operand(a, left), d.operand(b, right, 0.2)], [out])


@generates("LOGICAL_NOT")
def negation(d: Draw) -> Trial:
    x = d.data("bool", d.shape())
    return d.trial([x], [x.type])


@generates("SELECT", "SELECT_V2", "STABLEHLO_SELECT")
def choice(d: Draw) -> Trial:
    """SELECT: a condition of one element, of the rows, or of the same shape; SELECT_V2 broadcasts all three."""
    shape = d.shape()
    shapes = [shape, shape, shape]
    if d.op == "SELECT_V2":
        shapes = [d.broadcast(shape) for _ in range(3)]
    elif d.op == "SELECT":
        shapes[0] = d.choice((shape, shape, (), shape[:1] if len(shape) > 1 else shape))
    condition = d.operand(TensorType(BOOL, shapes[0]), d.values(TensorType(BOOL, shapes[0])))
    x = d.moved(d.inputs[1], shapes[1])
    y = d.operand(
        d.type(d.inputs[2], shapes[2], like=x.type), d.any_values(d.type(d.inputs[2], shapes[2], like=x.type)), 0.2
    )
    out = d.type(d.outputs[0], shapes[1] if d.op == "SELECT" else np.broadcast_shapes(*shapes), like=x.type)
    return d.trial([condition, x, y], [out], tolerance=0)


@generates("ADD_N")
def sum_of_all(d: Draw) -> Trial:
    shape = d.shape()
    xs: list[Operand | None] = [d.data(d.inputs[0], shape) for _ in range(d.integer(1, 6))]
    return d.trial(xs, [d.type(d.outputs[0], shape)], floor=1.0)


@generates("PRELU")
def slopes(d: Draw) -> Trial:
    shape = d.shape(least=1)
    kind = d.choice(("channel", "channel", "broadcast"))
    slope = (shape[-1],) if kind == "channel" else d.broadcast(shape)
    x = d.data(d.inputs[0], shape, special=True)
    alpha = d.data(d.inputs[1], slope, 0.7, low=-1, high=2)
    scale = x.type.quantization.scale[0] * d.log_uniform(0.5, 2) if x.type.quantization else None
    return d.trial([x, alpha], [d.type(d.outputs[0], shape, scale=scale)], each=True)
