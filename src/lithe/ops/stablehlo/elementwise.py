"""Elementwise operators of the StableHLO dialect: the rules of their older namesakes, without a fused activation.

Floats of 16 bits are computed with as float32 and rounded. Functions of float64 that no target has run in numpy alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lithe.ir.arithmetic import absolute, cast, clamp, float_bits, floor, is_expr, maximum, minimum, where
from lithe.ir.build import Builder
from lithe.ir.elementary import cbrt, cos, exp, log, logistic, power, reciprocal_sqrt, tanh
from lithe.ir.loops import Buffer, Const, select
from lithe.ops.activation import unary
from lithe.ops.binary import binary, nonzero, not_negative, truncated_quotient, whole_power
from lithe.ops.cast import NUMBERS, Cast
from lithe.ops.comparison import equal, not_equal
from lithe.ops.op import Op, Site, register
from lithe.ops.precision import in_float32
from lithe.types import BOOL, DTYPES, FLOAT32, FLOAT64, INT32, DType, Shape

FLOATS = "float32 float16 bfloat16 float64"
SIGNED, UNSIGNED = "int8 int16 int32 int64", "uint8 uint16 uint32 uint64"


def dtype_of(x: Any) -> DType:
    return x.dtype if is_expr(x) else DTYPES[x.dtype.name]


def single(op: type[Op]) -> type[Op]:
    """An operator whose loops are for other types than float64."""
    op.lowers = staticmethod(lambda site: site.input(0).dtype != FLOAT64)
    return op


def function(name: str, code: int, rule: Callable[[Any], Any], doc: str) -> type[Op]:
    """Defines and registers y = rule(x), a rule that loops have for float32 only."""
    return single(unary(name, code, rule, doc, f"T -> T: {FLOATS}"))


Logistic = function("STABLEHLO_LOGISTIC", 162, logistic, "y = 1 / (1 + exp(-x))")
Cosine = function("STABLEHLO_COSINE", 177, cos, "y = cos(x)")
Exponential = function("STABLEHLO_EXPONENTIAL", 178, exp, "y = e**x")
Log = function("STABLEHLO_LOG", 180, log, "y = ln x")
Rsqrt = function("STABLEHLO_RSQRT", 186, reciprocal_sqrt, "y = 1 / sqrt(x)")
Tanh = function("STABLEHLO_TANH", 189, tanh, "y = tanh(x)")
CubeRoot = function("STABLEHLO_CBRT", 208, cbrt, "y = the number whose cube is x")
Absolute = unary("STABLEHLO_ABS", 175, absolute, "y = |x|", f"T -> T: {FLOATS} {SIGNED}")
Floor = unary("STABLEHLO_FLOOR", 179, floor, "the greatest whole number that is not above x", f"T -> T: {FLOATS}")
Negate = unary("STABLEHLO_NEGATE", 182, lambda x: -x, "y = -x", f"T -> T: {FLOATS} {SIGNED} {UNSIGNED}")

PAIRS = f"T T -> T: {FLOATS} {SIGNED} {UNSIGNED}"


def _logical(of_bools: Callable[..., Any], of_numbers: Callable[..., Any]) -> Callable[..., Any]:
    return lambda a, b: (of_bools if dtype_of(a) == BOOL else of_numbers)(a, b)


def both(a: Any, b: Any) -> Any:
    return a & b


def either(a: Any, b: Any) -> Any:
    return a | b


def kept_nan(rule: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """The rule, but NaN wherever a is one; what the rule gives for b alone is NaN already."""
    return lambda a, b: where(equal(a, a), rule(a, b), a) if dtype_of(a).is_float else rule(a, b)


Add = binary("STABLEHLO_ADD", 163, _logical(either, lambda a, b: a + b), "y = a + b; of bools, a or b", f"{PAIRS} bool")
Subtract = binary("STABLEHLO_SUBTRACT", 188, lambda a, b: a - b, "y = a - b", PAIRS)
Multiply = binary("STABLEHLO_MULTIPLY", 165, _logical(both, lambda a, b: a * b), "y = a * b; of bools, a and b",
                  f"{PAIRS} bool")  # fmt: skip
Maximum = binary("STABLEHLO_MAXIMUM", 166, _logical(either, kept_nan(maximum)), "the greater one", f"{PAIRS} bool")
Minimum = binary("STABLEHLO_MINIMUM", 181, _logical(both, kept_nan(minimum)), "the lesser one", f"{PAIRS} bool")
And = binary("STABLEHLO_AND", 176, both, "the bits that both have", f"T T -> T: {SIGNED} {UNSIGNED} bool")
Or = binary("STABLEHLO_OR", 183, either, "the bits that one of both has", f"T T -> T: {SIGNED} {UNSIGNED} bool")


def quotient(a: Any, b: Any) -> Any:
    """a / b towards zero; b is not 0."""
    if dtype_of(a).kind == "int":
        return truncated_quotient(a, b)
    safe = maximum(b, Const(1, b.dtype) if is_expr(b) else b.dtype.type(1))
    return a / safe if is_expr(a) else a // safe


def remainder(a: Any, b: Any) -> Any:
    """a - quotient(a, b) * b in real numbers, where the quotient is exact before it loses its fraction."""
    return a % b if is_expr(a) else np.fmod(a, b)


def _shifted(a: Any, b: Any) -> Any:
    """a << b; nothing is left of a number that is shifted by its width or more (a negative count is a great one)."""
    bits = dtype_of(a).bits
    return where(equal(b & ~(bits - 1) if dtype_of(b).kind == "int" else b // bits, 0), a << (b & (bits - 1)), a & 0)


def _exponent(b: Any) -> Any:
    return not_negative(b) if dtype_of(b).kind == "int" else Const(True, BOOL) if is_expr(b) else True


Divide = binary("STABLEHLO_DIVIDE", 164, lambda a, b: a / b, "y = a / b, towards zero in integers", PAIRS,
                whole=quotient, check=nonzero, failure="division by zero")  # fmt: skip
Remainder = single(
    binary("STABLEHLO_REMAINDER", 185, remainder, "y = a - d * b, d = a / b towards zero", PAIRS,
           whole=lambda a, b: a - quotient(a, b) * b, check=nonzero, failure="division by zero")
)  # fmt: skip
Power = single(
    binary("STABLEHLO_POWER", 184, power, "y = a**b", PAIRS, whole=whole_power,
           check=_exponent, failure="a negative exponent of an integer")
)  # fmt: skip
ShiftLeft = binary("STABLEHLO_SHIFT_LEFT", 207, _shifted, "y = a * 2**b, in integers that wrap",
                   f"T T -> T: {SIGNED} {UNSIGNED}")  # fmt: skip


@register
class Select(Op):
    """z = x where the condition holds, y elsewhere; the condition is a scalar or has their shape."""

    name, code = "STABLEHLO_SELECT", 187
    operands = (("condition", "x", "y"), ("output",))
    types = f"bool T T -> T: {NUMBERS}"
    elementwise = True

    def infer(site: Site) -> list[Shape]:
        condition, x, y = (site.input(i).shape for i in range(3))
        site.require(x == y, f"must have the shape of x {list(x)}, is {list(y)}", 2)
        site.require(condition in (x, ()), f"must be a scalar or have the shape {list(x)}, is {list(condition)}", 0)
        return [x]

    def evaluate(site: Site, condition: np.ndarray, x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
        return [np.ascontiguousarray(np.where(condition, x, y)).reshape(x.shape)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        b.elementwise(ys[0], select, xs[0], xs[1], xs[2])


@register
class Clamp(Op):
    """y = min(max(x, low), high); the limits are scalars or have the shape of x."""

    name, code = "STABLEHLO_CLAMP", 168
    operands = (("min", "operand", "max"), ("output",))
    types = f"T T T -> T: {FLOATS} {SIGNED} {UNSIGNED}"
    elementwise = True

    def infer(site: Site) -> list[Shape]:
        x = site.input(1)
        for i in (0, 2):
            limit = site.input(i)
            site.require(limit.shape in (x.shape, ()), f"must be a scalar or have the shape {list(x.shape)}", i)
        return [x.shape]

    def evaluate(site: Site, low: np.ndarray, x: np.ndarray, high: np.ndarray) -> list[np.ndarray]:
        return [np.asarray(in_float32(clamp, site.input(1).dtype)(x, low, high), x.dtype)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        b.elementwise(ys[0], in_float32(clamp, ys[0].dtype), xs[1], xs[0], xs[2])


DIRECTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "EQ": equal,
    "NE": not_equal,
    "GE": lambda a, b: a >= b,
    "GT": lambda a, b: a > b,
    "LE": lambda a, b: a <= b,
    "LT": lambda a, b: a < b,
}
DIRECTION, KIND = "STABLEHLO_COMPARISON_DIRECTION_", "STABLEHLO_COMPARISON_TYPE_"
TOTAL = f"{KIND}FLOAT_TOTAL_ORDER"


def order_key(x: Any) -> Any:
    """A signed integer for each float, in the order -NaN < -infinity < ... < -0 < 0 < ... < infinity < NaN."""
    bits = x.view(np.int64) if dtype_of(x) == FLOAT64 else float_bits(cast(x, FLOAT32))
    most = Const(INT32.maximum, INT32) if is_expr(bits) else bits.dtype.type(np.iinfo(bits.dtype).max)
    return where(bits < 0, bits ^ most, bits)


def _compared(site: Site) -> Callable[[Any, Any], Any]:
    rule = DIRECTIONS[site.attrs.comparison_direction.removeprefix(DIRECTION)]
    if site.attrs.compare_type == TOTAL:
        return lambda a, b: rule(order_key(a), order_key(b))
    return in_float32(lambda a, b: rule(_real(site, 0, a), _real(site, 1, b)), site.input(0).dtype, BOOL)


def _real(site: Site, i: int, x: Any) -> Any:
    """The numbers that quantized operands of different scales stand for; others as they are."""
    kinds = [site.input(k).quantization for k in (0, 1)]
    if None in kinds or not site.input(i).dtype.is_integer or kinds[0] == kinds[1]:
        return x
    scale, zero = site.quantization(site.input(i))
    return cast(cast(x, INT32) - zero, FLOAT32) * np.float32(scale)


@register
class Compare(Op):
    """y = a == b, !=, >=, >, <= or <; in total order also -0 < 0 and NaN behind the infinities."""

    name, code = "STABLEHLO_COMPARE", 191
    operands = (("lhs", "rhs"), ("output",))
    types = f"T T -> bool: {FLOATS} {SIGNED} {UNSIGNED} bool"
    elementwise = True

    @dataclass(frozen=True)
    class Attrs:
        comparison_direction: str = f"{DIRECTION}EQ"
        compare_type: str = f"{KIND}NOTYPE"

    def infer(site: Site) -> list[Shape]:
        a, b = site.input(0), site.input(1)
        site.require(a.shape == b.shape, f"must have the shape of {a}, is {b}", 1)
        known = site.attrs.comparison_direction.removeprefix(DIRECTION) in DIRECTIONS
        site.require(known, f"comparison_direction {site.attrs.comparison_direction} is unknown")
        ordered = site.attrs.compare_type != TOTAL or a.dtype.is_float
        site.require(ordered, f"compare_type {site.attrs.compare_type} is for floats, not for {a}")
        return [a.shape]

    def evaluate(site: Site, a: np.ndarray, b: np.ndarray) -> list[np.ndarray]:
        return [np.asarray(_compared(site)(a, b), np.bool_)]

    def lowers(site: Site) -> bool:
        return site.attrs.compare_type != TOTAL or site.input(0).dtype != FLOAT64

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        b.elementwise(ys[0], _compared(site), xs[0], xs[1])


@register
class Convert(Op):
    """y = x in another element type; of complex numbers to others the real part."""

    name, code = "STABLEHLO_CONVERT", 192
    types = f"X -> Y: X= {NUMBERS} complex64 complex128; Y= {NUMBERS} complex64 complex128"
    elementwise = True
    infer, lower = Cast.infer, Cast.lower

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        to = site.outputs[0].dtype
        if to.kind == "complex":
            return [x.astype(to.numpy)]
        return Cast.evaluate(site, x.real.copy() if x.dtype.kind == "c" else x)

    def lowers(site: Site) -> bool:
        return "complex" not in (site.input(0).dtype.kind, site.outputs[0].dtype.kind)
