"""What ATen's operators are in builtins: how a rule is written, and the elementwise operators.

A rule is a function of a builder, the call, and the operator's arguments by their names in ATen's schema (`self` is
`x`); it names those that it needs. Tensors are the builder's, sizes are integers, an open one its stand-in.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lithe.conversion.builder import Builder
from lithe.conversion.sizes import is_open
from lithe.ir.graph import Tensor
from lithe.passes.deflex import arithmetic as formulas
from lithe.passes.writer import Value, where
from lithe.types import BOOL, FLOAT32, INT32, INT64, DType, TensorType

Rule = Callable[..., Any]
RULES: dict[str, Rule] = {}


@dataclass(frozen=True)
class Call:
    """One operator in a graph of ATen.

    name       "add.Tensor".
    arguments  by the names of the schema, defaults filled in.
    results    the types of what it gives.
    common     the type in which its operands meet.
    used       which results something reads.
    unroll     whether recurrent layers are to be written step by step.
    """

    name: str
    arguments: dict[str, Any]
    results: list[TensorType]
    common: DType
    used: frozenset[int]
    unroll: bool = False

    @property
    def result(self) -> TensorType:
        return self.results[0]

    def apply(self, rule: Rule, b: Builder) -> Any:
        given = {"x" if k == "self" else k: v for k, v in self.arguments.items()}
        wanted = list(inspect.signature(rule).parameters)[2:]
        return rule(b, self, **{name: given.get(name) for name in wanted})


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Decorator: what the operators with these names become; "max.dim" is one overload, "max" all others."""

    def add(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return add


def rule_for(name: str) -> Rule | None:
    return RULES.get(name) or RULES.get(name.split(".")[0])


def operand(b: Builder, value: Any, dtype: DType) -> Tensor:
    """A tensor of this type, from a tensor or a number; computed where the number is the size of an open dimension."""
    if isinstance(value, Tensor):
        return cast(b, value, dtype)
    if isinstance(value, int) and is_open(abs(value)):
        b.require(value > 0, "a number computed from an open dimension")
        return cast(b, b.reshape(b.size(value), ()), dtype)
    return b.constant(value, dtype)


def cast(b: Builder, x: Tensor, dtype: DType) -> Tensor:
    """The elements in another type; what is not zero is true."""
    if dtype == BOOL and x.type.dtype != BOOL:
        return b("NOT_EQUAL", x, b.constant(0, x.type.dtype), dtype=BOOL)
    return b.cast(x, dtype)


def _unary(builtin: str) -> Rule:
    return lambda b, c, x: b(builtin, cast(b, x, c.result.dtype))


def _binary(builtin: str) -> Rule:
    return lambda b, c, x, other: b(builtin, operand(b, x, c.result.dtype), operand(b, other, c.result.dtype))


def _comparison(builtin: str) -> Rule:
    return lambda b, c, x, other: compare(b, c, builtin, x, other)


def compare(b: Builder, c: Call, builtin: str, x: Any, other: Any) -> Tensor:
    """Truth values are compared as integers where the builtin does not take them."""
    dtype = INT32 if c.common == BOOL and builtin not in ("EQUAL", "NOT_EQUAL") else c.common
    return b(builtin, operand(b, x, dtype), operand(b, other, dtype), dtype=BOOL)


def _formula(function: Callable[..., Value]) -> Rule:
    return lambda b, c, x: function(Value(b, cast(b, x, c.result.dtype))).tensor


def _formula_of_two(function: Callable[..., Value]) -> Rule:
    def write(b: Builder, c: Call, x: Any, other: Any) -> Tensor:
        return function(*(Value(b, operand(b, v, c.result.dtype)) for v in (x, other))).tensor

    return write


def silu(x: Value) -> Value:
    return x * x.apply("LOGISTIC")


def hard_sigmoid(x: Value) -> Value:
    return (x + 3.0).apply("RELU6") * (1 / 6)


def mish(x: Value) -> Value:
    return x * formulas.softplus(x).apply("TANH")


def log_sigmoid(x: Value) -> Value:
    return -formulas.softplus(-x)


def truncate(x: Value) -> Value:
    return formulas.sign(x) * abs(x).apply("FLOOR")


def fraction(x: Value) -> Value:
    return x - truncate(x)


def log_add(x: Value, y: Value) -> Value:
    """log(e**x + e**y)"""
    return formulas.maximum(x, y) + formulas.log1p(formulas.exp(-abs(x - y)))


UNARY = {
    "abs": "ABS", "ceil": "CEIL", "cos": "COS", "exp": "EXP", "floor": "FLOOR", "hardswish": "HARD_SWISH",
    "log": "LOG", "neg": "NEG", "relu": "RELU", "relu6": "RELU6", "round": "ROUND", "rsqrt": "RSQRT",
    "sigmoid": "LOGISTIC", "sign": "SIGN", "sgn": "SIGN", "sin": "SIN", "sqrt": "SQRT", "square": "SQUARE",
    "tanh": "TANH",
}  # fmt: skip
BINARY = {
    "maximum": "MAXIMUM", "minimum": "MINIMUM", "fmax": "MAXIMUM", "fmin": "MINIMUM",
    "remainder": "FLOOR_MOD", "atan2": "ATAN2",
}  # fmt: skip
COMPARISONS = {
    "eq": "EQUAL", "ne": "NOT_EQUAL", "lt": "LESS", "le": "LESS_EQUAL", "gt": "GREATER", "ge": "GREATER_EQUAL",
}  # fmt: skip
FORMULAS: dict[str, Callable[..., Value]] = {
    "acos": formulas.acos, "acosh": formulas.acosh, "asin": formulas.asin, "asinh": formulas.asinh,
    "atan": formulas.atan, "atanh": formulas.atanh, "cosh": formulas.cosh, "sinh": formulas.sinh,
    "tan": formulas.tan, "erf": formulas.erf, "expm1": formulas.expm1, "log1p": formulas.log1p,
    "isfinite": formulas.is_finite, "isinf": formulas.is_infinite, "isnan": formulas.is_nan,
    "reciprocal": formulas.reciprocal, "selu": formulas.selu,
    "silu": silu, "hardsigmoid": hard_sigmoid, "mish": mish, "log_sigmoid": log_sigmoid, "trunc": truncate,
    "frac": fraction,
    "erfc": lambda x: 1.0 - formulas.erf(x),
    "exp2": lambda x: formulas.exp(x * math.log(2)),
    "log2": lambda x: formulas.log(x) * (1 / math.log(2)),
    "log10": lambda x: formulas.log(x) * (1 / math.log(10)),
    "deg2rad": lambda x: x * (math.pi / 180),
    "rad2deg": lambda x: x * (180 / math.pi),
    "sinc": lambda x: where(x.compare("EQUAL", 0.0), 1.0, (x * math.pi).apply("SIN") / (x * math.pi)),
}  # fmt: skip
FORMULAS_OF_TWO: dict[str, Callable[..., Value]] = {
    "xlogy": formulas.xlogy, "logaddexp": log_add,
    "hypot": lambda x, y: formulas.sqrt(x * x + y * y),
    "copysign": lambda x, y: where(y < 0.0, -abs(x), abs(x)),
}  # fmt: skip

RULES.update({name: _unary(builtin) for name, builtin in UNARY.items()})
RULES.update({name: _binary(builtin) for name, builtin in BINARY.items()})
RULES.update({name: _comparison(builtin) for name, builtin in COMPARISONS.items()})
RULES.update({name: _formula(function) for name, function in FORMULAS.items()})
RULES.update({name: _formula_of_two(function) for name, function in FORMULAS_OF_TWO.items()})


@rule("isfinite", "isinf", "isnan")
def kind_of_number(b: Builder, c: Call, x: Tensor) -> Tensor:
    if not x.type.dtype.is_float:
        return b.filled(c.name.startswith("isfinite"), BOOL, x.type.shape)
    return FORMULAS[c.name.split(".")[0]](Value(b, x)).tensor


def _scaled(b: Builder, x: Any, factor: Any, dtype: DType) -> Tensor:
    x = operand(b, x, dtype)
    return x if factor in (None, 1) else b("MUL", x, b.constant(factor, dtype))


@rule("add", "sub")
def sum_or_difference(b: Builder, c: Call, x: Any, other: Any, alpha: Any) -> Tensor:
    dtype = c.result.dtype
    if dtype == BOOL:
        return b("LOGICAL_OR", x, other)
    builtin = "ADD" if c.name.startswith("add") else "SUB"
    return b(builtin, operand(b, x, dtype), _scaled(b, other, alpha, dtype))


@rule("rsub")
def reversed_difference(b: Builder, c: Call, x: Any, other: Any, alpha: Any) -> Tensor:
    return b("SUB", operand(b, other, c.result.dtype), _scaled(b, x, alpha, c.result.dtype))


@rule("mul")
def product(b: Builder, c: Call, x: Any, other: Any) -> Tensor:
    dtype = c.result.dtype
    return b("LOGICAL_AND" if dtype == BOOL else "MUL", operand(b, x, dtype), operand(b, other, dtype))


@rule("div")
def quotient(b: Builder, c: Call, x: Any, other: Any, rounding_mode: str | None) -> Tensor:
    """A division by a number is a product with its reciprocal where that is exact."""
    dtype = c.result.dtype
    if rounding_mode == "floor":
        return floor_divide(b, c, x, other)
    if not isinstance(other, Tensor) and dtype.is_float and rounding_mode is None and math.frexp(other)[0] == 0.5:
        return b("MUL", operand(b, x, dtype), b.constant(1 / other, dtype))
    divided = b("DIV", operand(b, x, dtype), operand(b, other, dtype))
    return divided if rounding_mode is None or dtype.is_integer else truncate(Value(b, divided)).tensor


@rule("floor_divide")
def floor_divide(b: Builder, c: Call, x: Any, other: Any) -> Tensor:
    """Places and sizes, which is what integers of 64 bits are here, are divided as those of 32 bits."""
    dtype = INT32 if c.result.dtype == INT64 else c.result.dtype
    return b("FLOOR_DIV", operand(b, x, dtype), operand(b, other, dtype))


@rule("fmod")
def remainder_with_the_sign_of_the_first(b: Builder, c: Call, x: Any, other: Any) -> Tensor:
    a, m = (Value(b, operand(b, v, INT32 if c.result.dtype == INT64 else c.result.dtype)) for v in (x, other))
    if c.result.dtype.is_integer:
        return (a - m * (a / m)).tensor
    return (formulas.sign(a) * abs(a).apply("FLOOR_MOD", abs(m))).tensor


@rule("pow")
def power(b: Builder, c: Call, x: Any, exponent: Any) -> Tensor:
    dtype = c.result.dtype
    if isinstance(exponent, Tensor) or not isinstance(x, Tensor):
        return b("POW", operand(b, x, dtype), operand(b, exponent, dtype))
    x = cast(b, x, dtype)
    if exponent in (2, 3):
        squared = b("SQUARE", x) if dtype == FLOAT32 else b("MUL", x, x)
        return squared if exponent == 2 else b("MUL", squared, x)
    simple = {1: None, 0.5: "SQRT", -0.5: "RSQRT"}
    if exponent in simple:
        builtin = simple[exponent]
        return b(builtin, x) if builtin else x
    return (1.0 / Value(b, x)).tensor if exponent == -1 else b("POW", x, b.constant(exponent, dtype))


@rule("logical_not", "bitwise_not")
def invert(b: Builder, c: Call, x: Tensor) -> Tensor:
    if x.type.dtype == BOOL or c.name.startswith("logical"):
        return b("LOGICAL_NOT", cast(b, x, BOOL))
    return formulas.invert(Value(b, x)).tensor


LOGIC = {"and": "LOGICAL_AND", "or": "LOGICAL_OR", "xor": "NOT_EQUAL"}


@rule("logical_and", "logical_or", "logical_xor", "bitwise_and", "bitwise_or", "bitwise_xor")
def logic(b: Builder, c: Call, x: Any, other: Any) -> Tensor:
    family, word = c.name.split(".")[0].split("_")
    if c.common == BOOL or family == "logical":
        return b(LOGIC[word], operand(b, x, BOOL), operand(b, other, BOOL), dtype=BOOL)
    b.require(word == "xor", "a bitwise operation on integers")
    return b("BITWISE_XOR", operand(b, x, c.common), operand(b, other, c.common))


@rule("clamp", "hardtanh")
def clamp(b: Builder, c: Call, x: Tensor, min: Any, max: Any, min_val: Any, max_val: Any) -> Tensor:
    low, high = (min_val, max_val) if c.name.startswith("hardtanh") else (min, max)
    x = cast(b, x, c.result.dtype)
    ranges = {(0, 6): "RELU6", (0, None): "RELU", (-1, 1): "RELU_N1_TO_1", (0, 1): "RELU_0_TO_1"}
    fixed = not isinstance(low, Tensor) and not isinstance(high, Tensor)
    if x.type.dtype == FLOAT32 and fixed and (low, high) in ranges:
        return b(ranges[low, high], x)
    if low is not None:
        x = b("MAXIMUM", x, operand(b, low, x.type.dtype))
    return x if high is None else b("MINIMUM", x, operand(b, high, x.type.dtype))


@rule("clamp_min")
def not_below(b: Builder, c: Call, x: Tensor, min: Any) -> Tensor:
    return clamp(b, c, x, min, None, None, None)


@rule("clamp_max")
def not_above(b: Builder, c: Call, x: Tensor, max: Any) -> Tensor:
    return clamp(b, c, x, None, max, None, None)


@rule("gelu")
def gelu(b: Builder, c: Call, x: Tensor, approximate: str) -> Tensor:
    return b("GELU", x, approximate=approximate == "tanh")


@rule("rrelu_with_noise_functional")
def leaky_relu_of_random_slope(b: Builder, c: Call, x: Tensor, lower: float, upper: float) -> Any:
    """After training the slope is the middle of its range."""
    made = b("LEAKY_RELU", x, alpha=(lower + upper) / 2)
    return [made] * len(c.results)


@rule("leaky_relu")
def leaky_relu(b: Builder, c: Call, x: Tensor, negative_slope: float) -> Tensor:
    return b("LEAKY_RELU", x, alpha=float(negative_slope))


@rule("elu", "celu")
def elu(b: Builder, c: Call, x: Tensor, alpha: Any, scale: Any, input_scale: Any) -> Tensor:
    """x > 0 ? scale x : scale alpha (e**(input_scale x) - 1); celu divides by alpha inside."""
    if c.name.startswith("celu"):
        scale, input_scale = 1, 1 / alpha
    if (alpha, scale, input_scale) == (1, 1, 1):
        return b("ELU", x)
    value = Value(b, x)
    below = formulas.minimum(value, 0.0) * float(input_scale)
    return (formulas.maximum(value, 0.0) * float(scale) + below.apply("ELU") * float(scale * alpha)).tensor


@rule("softplus")
def softplus(b: Builder, c: Call, x: Tensor, beta: float, threshold: float) -> Tensor:
    value = Value(b, x) * float(beta) if beta != 1 else Value(b, x)
    made = formulas.softplus(value) if beta == 1 else formulas.softplus(value) * (1 / beta)
    return made.tensor if threshold >= 20 else where(value > float(threshold), Value(b, x), made).tensor


@rule("prelu")
def prelu(b: Builder, c: Call, x: Tensor, weight: Tensor) -> Tensor:
    """The builtin's slopes have the shape of all axes but the first, which may be 1."""
    if weight.type.rank <= 1 and x.type.rank > 1:
        weight = b.reshape(weight, (weight.type.size, *[1] * (x.type.rank - 2)))
    elif weight.type.rank == x.type.rank:
        weight = b.reshape(weight, weight.type.shape[1:])
    return b("PRELU", x, weight)


@rule("threshold")
def threshold(b: Builder, c: Call, x: Tensor, threshold: float, value: float) -> Tensor:
    return where(Value(b, x) > threshold, Value(b, x), value).tensor


@rule("nan_to_num")
def without_nan(
    b: Builder, c: Call, x: Tensor, nan: float | None, posinf: float | None, neginf: float | None
) -> Tensor:
    most = 3.4028234663852886e38
    value = where(formulas.is_nan(Value(b, x)), nan or 0.0, Value(b, x))
    value = where(value > most, most if posinf is None else posinf, value)
    return where(value < -most, -most if neginf is None else neginf, value).tensor


@rule("where", "where.self")
def choose(b: Builder, c: Call, condition: Tensor, x: Any, other: Any) -> Tensor:
    dtype = c.result.dtype
    x, other = operand(b, x, dtype), operand(b, other, dtype)
    return b("SELECT_V2", cast(b, condition, BOOL), x, other, dtype=dtype)


@rule("masked_fill")
def masked_fill(b: Builder, c: Call, x: Tensor, mask: Tensor, value: Any) -> Tensor:
    dtype = c.result.dtype
    return b("SELECT_V2", mask, operand(b, value, dtype), cast(b, x, dtype), dtype=dtype)


@rule("addcmul", "addcdiv")
def sum_with_product(b: Builder, c: Call, x: Tensor, tensor1: Tensor, tensor2: Tensor, value: Any) -> Tensor:
    term = b("MUL" if c.name.startswith("addcmul") else "DIV", tensor1, tensor2)
    return b("ADD", x, _scaled(b, term, value, c.result.dtype))


@rule("lerp")
def interpolate(b: Builder, c: Call, x: Tensor, end: Tensor, weight: Any) -> Tensor:
    return (Value(b, x) + Value(b, operand(b, weight, x.type.dtype)) * (Value(b, end) - Value(b, x))).tensor


@rule("bitwise_right_shift", "__rshift__")
def shift_right(b: Builder, c: Call, x: Any, other: Any) -> Tensor:
    return b("RIGHT_SHIFT", operand(b, x, c.result.dtype), operand(b, other, c.result.dtype))


@rule("bitwise_left_shift", "__lshift__")
def shift_left(b: Builder, c: Call, x: Any, other: Any) -> Tensor:
    places = b.array(other) if isinstance(other, Tensor) else other
    return b("MUL", operand(b, x, c.result.dtype), b.constant(1 << places, c.result.dtype))


@rule("_to_copy", "type_as", "clone", "alias", "detach", "dropout", "native_dropout", "copy")
def unchanged(b: Builder, c: Call, x: Any, input: Any, src: Any) -> Tensor:
    """Copies, and what is only used in training."""
    value: Tensor = input if x is None else src if src is not None else x
    value = cast(b, value, c.result.dtype)
    return b.broadcast(value, c.result.shape) if value.type.shape != c.result.shape else value


def sequence(value: Any, length: int) -> list[int]:
    """A list of this length; one number counts for all."""
    values = [value] if isinstance(value, int) else list(value or ())
    return list(map(int, values * length if len(values) == 1 else values))


def axes_of(value: Any, rank: int) -> list[int]:
    """Axes, counted from the front; none given are all."""
    if value is None or (isinstance(value, Sequence) and not value):
        return list(range(rank))
    return [int(a) % max(rank, 1) for a in ([value] if isinstance(value, int) else value)]
