"""What ONNX's operators are in builtins: element by element."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np

from lithe.conversion.builder import Builder
from lithe.conversion.onnx.call import RULES, Call, Rule, cast, computed, converted, dtype_of_number, rule, widened
from lithe.ir.graph import Tensor
from lithe.passes.deflex import arithmetic as formulas
from lithe.passes.writer import Value, where
from lithe.types import BOOL, FLOAT8_E4M3FN, FLOAT8_E5M2, FLOAT32, INT32, INT64, STRING, UINT8, UINT64, DType

# ONNX's name: the builtin's, with the same operands and no attributes that matter.
SAME = {
    "Abs": "ABS", "Ceil": "CEIL", "Cos": "COS", "Exp": "EXP", "Floor": "FLOOR", "HardSwish": "HARD_SWISH",
    "Log": "LOG", "Relu": "RELU", "Round": "ROUND", "Sigmoid": "LOGISTIC", "Sign": "SIGN",
    "Sin": "SIN", "Sqrt": "SQRT", "Tanh": "TANH", "Add": "ADD", "Sub": "SUB", "Mul": "MUL",
}  # fmt: skip
MANY = {"Max": "MAXIMUM", "Min": "MINIMUM", "Sum": "ADD"}
COMPARISONS = {
    "Equal": "EQUAL", "Greater": "GREATER", "GreaterOrEqual": "GREATER_EQUAL", "Less": "LESS",
    "LessOrEqual": "LESS_EQUAL",
}  # fmt: skip
LOGIC = {"And": "LOGICAL_AND", "Or": "LOGICAL_OR", "Xor": "NOT_EQUAL"}


def hard_sigmoid(x: Value, alpha: float, beta: float) -> Value:
    if math.isclose(alpha, 1 / 6, rel_tol=1e-6) and beta == 0.5:
        return (x + 3.0).apply("RELU6") * (1 / 6)
    return formulas.maximum(formulas.minimum(x * alpha + beta, 1.0), 0.0)


def swish(x: Value, alpha: float) -> Value:
    return x * (x * alpha if alpha != 1 else x).apply("LOGISTIC")


def mish(x: Value) -> Value:
    """x tanh(log(1 + e**x)) = x w / (w + 2) with w = e**x (e**x + 2); both are x from 20 on."""
    n = formulas.minimum(x, 20.0).apply("EXP")
    w = n * (n + 2.0)
    return x * (w / (w + 2.0))


def thresholded(x: Value, alpha: float) -> Value:
    return where(x > alpha, x, 0.0)


def shrunk(x: Value, lambd: float, bias: float) -> Value:
    return where(x > lambd, x - bias, where(x < -lambd, x + bias, 0.0))


def elu(x: Value, alpha: float) -> Value:
    """max(x, 0) + alpha (e**min(x, 0) - 1)"""
    if alpha == 1:
        return x.apply("ELU")
    return formulas.maximum(x, 0.0) + formulas.minimum(x, 0.0).apply("ELU") * alpha


def celu(x: Value, alpha: float) -> Value:
    return formulas.maximum(x, 0.0) + (formulas.minimum(x, 0.0) * (1 / alpha)).apply("ELU") * alpha


def selu(x: Value, alpha: float, gamma: float) -> Value:
    return formulas.maximum(x, 0.0) * gamma + formulas.minimum(x, 0.0).apply("ELU") * (alpha * gamma)


def infinite(x: Value, detect_negative: int, detect_positive: int) -> Value:
    either = abs(x) if detect_negative and detect_positive else -x if detect_negative else x
    if not detect_negative and not detect_positive:
        return either.compare("EQUAL", math.inf).apply("LOGICAL_AND", False)
    return either.compare("EQUAL", math.inf)


# ONNX's name: the function, and the attributes that it takes, with their defaults.
FORMULAS: dict[str, tuple[Callable[..., Value], dict[str, float]]] = {
    "Acos": (formulas.acos, {}), "Acosh": (formulas.acosh, {}), "Asin": (formulas.asin, {}),
    "Asinh": (formulas.asinh, {}), "Atan": (formulas.atan, {}), "Atanh": (formulas.atanh, {}),
    "Cosh": (formulas.cosh, {}), "Sinh": (formulas.sinh, {}), "Tan": (formulas.tan, {}),
    "Reciprocal": (formulas.reciprocal, {}), "Softplus": (formulas.softplus, {}),
    "Softsign": (formulas.softsign, {}), "IsNaN": (formulas.is_nan, {}),
    "Mish": (mish, {}),
    "HardSigmoid": (hard_sigmoid, {"alpha": 0.2, "beta": 0.5}), "Swish": (swish, {"alpha": 1.0}),
    "ThresholdedRelu": (thresholded, {"alpha": 1.0}), "Shrink": (shrunk, {"lambd": 0.5, "bias": 0.0}),
    "Elu": (elu, {"alpha": 1.0}), "Celu": (celu, {"alpha": 1.0}),
    "Selu": (selu, {"alpha": 1.67326319217681884765625, "gamma": 1.05070102214813232421875}),
    "IsInf": (infinite, {"detect_negative": 1, "detect_positive": 1}),
}  # fmt: skip


def _same(builtin: str) -> Rule:
    return lambda b, c: computed(b, builtin, *c.tensors())


def _many(builtin: str) -> Rule:
    return lambda b, c: reduce(lambda x, y: computed(b, builtin, x, y), c.tensors())


def _formula(function: Callable[..., Value], attributes: dict[str, float]) -> Rule:
    def write(b: Builder, c: Call) -> Tensor:
        x = Value(b, b.cast(c[0], FLOAT32))
        made = function(x, **{name: c.attr(name, default) for name, default in attributes.items()}).tensor
        return made if made.type.dtype == BOOL else b.cast(made, c[0].type.dtype)

    return write


def compare(b: Builder, builtin: str, x: Tensor, y: Tensor) -> Tensor:
    """Truth values are compared as integers; unsigned ones of 64 bits from the middle of their range."""
    if x.type.dtype == STRING or (x.type.dtype == BOOL and builtin == "EQUAL"):
        return b(builtin, x, y, dtype=BOOL)
    if x.type.dtype == BOOL:
        x, y = b.cast(x, INT32), b.cast(y, INT32)
    if x.type.dtype == UINT64 and builtin != "EQUAL":
        x, y = _shifted(b, x), _shifted(b, y)
    return b(builtin, widened(b, x), widened(b, y), dtype=BOOL)


def _shifted(b: Builder, x: Tensor) -> Tensor:
    return b("ADD", converted(b, x, INT64), b.constant(-(1 << 63), INT64))


def _comparison(builtin: str) -> Rule:
    return lambda b, c: compare(b, builtin, c[0], c[1])


def _logic(builtin: str) -> Rule:
    return lambda b, c: b(builtin, c[0], c[1], dtype=BOOL)


RULES.update({name: _same(builtin) for name, builtin in SAME.items()})
RULES.update({name: _many(builtin) for name, builtin in MANY.items()})
RULES.update({name: _formula(*entry) for name, entry in FORMULAS.items()})
RULES.update({name: _comparison(builtin) for name, builtin in COMPARISONS.items()})
RULES.update({name: _logic(builtin) for name, builtin in LOGIC.items()})


@rule("Erf")
def erf(b: Builder, c: Call) -> Tensor:
    return b.cast(b.formula("Erf", b.cast(c[0], FLOAT32)), c[0].type.dtype)


@rule("Not")
def invert(b: Builder, c: Call) -> Tensor:
    return b("LOGICAL_NOT", c[0])


@rule("Neg")
def negative(b: Builder, c: Call) -> Tensor:
    return computed(b, "NEG", c[0])


@rule("Abs")
def absolute(b: Builder, c: Call) -> Tensor:
    x = c[0]
    if x.type.dtype.kind == "uint":
        return x
    if x.type.dtype == INT64:
        return b("MAXIMUM", x, b("NEG", x))
    return computed(b, "ABS", x)


@rule("Sign")
def sign(b: Builder, c: Call) -> Tensor:
    x = c[0]
    if not x.type.dtype.is_integer:
        return computed(b, "SIGN", x)
    zero = b.constant(0, x.type.dtype)
    above, below = (b.cast(compare(b, op, x, zero), INT32) for op in ("GREATER", "LESS"))
    return b.cast(above if x.type.dtype.kind == "uint" else b("SUB", above, below), x.type.dtype)


@rule("Relu")
def relu(b: Builder, c: Call) -> Tensor:
    x = c[0]
    return computed(b, "MAXIMUM", x, b.constant(0, x.type.dtype)) if x.type.dtype.is_integer else computed(b, "RELU", x)


@rule("Mean")
def mean(b: Builder, c: Call) -> Tensor:
    total = _many("ADD")(b, c)
    return computed(b, "MUL", total, b.constant(1 / len(c.operands), total.type.dtype))


@rule("Div")
def quotient(b: Builder, c: Call) -> Tensor:
    """Integers are divided towards zero."""
    x, y = c[0], c[1]
    if x.type.dtype.is_float and y.data is not None and y.type.size == 1:
        value = float(y.data.reshape(-1)[0])
        if value and math.isfinite(value) and math.frexp(value)[0] == 0.5:
            return computed(b, "MUL", x, b.constant(np.asarray(1 / y.data), y.type.dtype))
    return divided(b, x, y)


def divided(b: Builder, x: Tensor, y: Tensor) -> Tensor:
    """Places and sizes, which is what integers of 64 bits are here, are divided as those of 32 bits."""
    return computed(b, "DIV", x, y)


@rule("Mod")
def remainder(b: Builder, c: Call) -> Tensor:
    """The sign is the divisor's, or with `fmod` the dividend's."""
    x, y = c[0], c[1]
    if not c.attr("fmod", 0) or x.type.dtype.kind == "uint":
        return computed(b, "FLOOR_MOD", x, y)
    if x.type.dtype.is_integer:
        whole = computed(b, "MUL", divided(b, x, y), y)
        return computed(b, "SUB", x, whole)
    left, right = (Value(b, widened(b, t)) for t in (x, y))
    return b.cast((formulas.sign(left) * abs(left).apply("FLOOR_MOD", abs(right))).tensor, x.type.dtype)


@rule("Pow")
def power(b: Builder, c: Call) -> Tensor:
    x, exponent = c[0], c[1]
    dtype = x.type.dtype
    known = exponent.data.item() if exponent.data is not None and exponent.type.size == 1 else None
    small = exponent.type.rank <= x.type.rank
    if known is not None and dtype == FLOAT32 and small:
        simple = {1: "", 2: "SQUARE", 0.5: "SQRT", -0.5: "RSQRT"}
        if known in simple:
            return b(simple[known], x) if simple[known] else x
        if known == 3:
            return b("MUL", b("SQUARE", x), x)
        if known == -1:
            return formulas.reciprocal(Value(b, x)).tensor
    wide = FLOAT32 if dtype.is_float or exponent.type.dtype.is_float else INT32
    return converted(b, b("POW", converted(b, x, wide), converted(b, exponent, wide)), dtype)


@rule("Clip")
def clip(b: Builder, c: Call) -> Tensor:
    x = c[0]
    low, high = ((c.attr(n), None) if n in c.attributes else (None, c.get(i)) for i, n in ((1, "min"), (2, "max")))
    bounds = [b.constant(v, x.type.dtype) if v is not None else t for v, t in (low, high)]
    known = tuple(None if t is None or t.data is None else float(t.data) for t in bounds)
    ranges: dict[Any, str] = {(0, 6): "RELU6", (-1, 1): "RELU_N1_TO_1", (0, 1): "RELU_0_TO_1"}
    if x.type.dtype == FLOAT32 and known in ranges:
        return b(ranges[known], x)
    if x.type.dtype == FLOAT32 and known[0] == 0 and bounds[1] is None:
        return b("RELU", x)
    for bound, builtin in zip(bounds, ("MAXIMUM", "MINIMUM"), strict=True):
        if bound is not None:
            x = computed(b, builtin, x, b.reshape(bound, ()))
    return x


@rule("LeakyRelu")
def leaky_relu(b: Builder, c: Call) -> Tensor:
    return computed(b, "LEAKY_RELU", c[0], alpha=float(c.attr("alpha", 0.01)))


@rule("PRelu")
def prelu(b: Builder, c: Call) -> Tensor:
    """max(x, 0) + slope min(x, 0); the builtin's slopes have the shape of all axes but the first."""
    x, slope = c[0], c[1]
    if x.type.dtype == FLOAT32 and slope.data is not None and slope.type.rank < x.type.rank:
        wide = b.reshape(slope, (*[1] * (x.type.rank - 1 - slope.type.rank), *slope.type.shape))
        return b("PRELU", x, wide)
    zero = b.constant(0, x.type.dtype)
    return computed(b, "ADD", computed(b, "MAXIMUM", x, zero),
                    computed(b, "MUL", computed(b, "MINIMUM", x, zero), slope))  # fmt: skip


@rule("Gelu")
def gelu(b: Builder, c: Call) -> Tensor:
    return computed(b, "GELU", c[0], approximate=c.attr("approximate", "none") == "tanh")


@rule("Where")
def choose(b: Builder, c: Call) -> Tensor:
    return b("SELECT_V2", c[0], c[1], c[2], dtype=c[1].type.dtype)


@rule("Cast", "CastLike")
def convert(b: Builder, c: Call) -> Tensor:
    x = c[0]
    wanted = dtype_of_number(c.attr("to")) if c.op == "Cast" else c.dtype(1)
    if STRING in (x.type.dtype, wanted) and wanted != x.type.dtype:
        b.require(False, "a conversion from or to strings")
    if wanted in FLOATS_OF_8_BITS and x.type.dtype != wanted:
        whole = from_byte(b, x) if x.type.dtype in FLOATS_OF_8_BITS else _converted(b, x, FLOAT32)
        return to_byte(b, whole, wanted, bool(c.attr("saturate", 1)))
    return _converted(b, from_byte(b, x) if x.type.dtype in FLOATS_OF_8_BITS else x, wanted)


FLOATS_OF_8_BITS = (FLOAT8_E4M3FN, FLOAT8_E5M2)


def from_byte(b: Builder, x: Tensor) -> Tensor:
    """Floats of 8 bits as float32: looked up by their bits."""
    table = np.arange(256, dtype=np.uint8).view(x.type.dtype.numpy).astype(np.float32)
    return b("GATHER", b.constant(table, FLOAT32), b.cast(b("BITCAST", x, dtype=UINT8), INT32), axis=0)


def to_byte(b: Builder, x: Tensor, dtype: DType, saturate: bool) -> Tensor:
    """The nearest float of 8 bits, of two the even one: its bits are the number of boundaries up to |x|."""
    values = np.arange(128, dtype=np.uint8).view(dtype.numpy).astype(np.float64)
    count = int(np.isfinite(values).sum())
    ends = [*values[:count], 2 * values[count - 1] - values[count - 2]]
    middles = np.asarray([(lo + hi) / 2 for lo, hi in pairwise(ends)], np.float32)
    # BUCKETIZE counts what is not above x; in the middle an odd number of bits goes up, an even one stays
    stays = np.arange(count) % 2 == 0
    middles = np.where(stays, np.nextafter(middles, np.float32(np.inf)), middles)
    if saturate:
        middles = middles[:-1]
    code = b("BUCKETIZE", b("ABS", x), dtype=INT32, boundaries=tuple(float(m) for m in middles))
    nan = b("NOT_EQUAL", x, x, dtype=BOOL)
    code = b("SELECT_V2", nan, b.constant(127), code, dtype=INT32)
    negative = b("LESS", b("BITCAST", x, dtype=INT32), b.constant(0), dtype=BOOL)
    signed = b("SELECT_V2", negative, b("ADD", code, b.constant(128)), code, dtype=INT32)
    return b("BITCAST", b.cast(signed, UINT8), dtype=dtype)


def _converted(b: Builder, x: Tensor, dtype: DType) -> Tensor:
    """Integers of less than 8 bits only meet float32."""
    if dtype == x.type.dtype:
        return x
    narrow = [d for d in (x.type.dtype, dtype) if d.stored_bits < 8]
    if narrow and dtype in narrow and dtype.stored_bits < 8:  # the lowest bits, as two's complement has them
        whole = b.cast(b.cast(x, FLOAT32) if x.type.dtype.stored_bits < 8 else x, INT32)
        span = 1 << dtype.stored_bits
        kept = Value(b, whole) - dtype.minimum
        wrapped = kept.apply("FLOOR_MOD", span) + dtype.minimum
        return b.cast(b.cast(wrapped.tensor, FLOAT32), dtype)
    return cast(b, b.cast(x, FLOAT32) if narrow else x, dtype)


# bits


def _words(b: Builder, x: Tensor) -> Tensor:
    """Elements as integers of 32 bits; those of 64 bits as two, along a new last axis."""
    return b("BITCAST", x, dtype=INT32) if x.type.dtype.bits == 64 else b.cast(x, INT32)


def _from_words(b: Builder, words: Tensor, dtype: DType) -> Tensor:
    return b("BITCAST", words, dtype=dtype) if dtype.bits == 64 else b.cast(words, dtype)


def _bits(b: Builder, x: Tensor, count: int) -> Tensor:
    """Each integer's bits, the lowest first, along a new last axis."""
    wide = b.broadcast(b.reshape(x, (*x.type.shape, 1)), (*x.type.shape, count))
    places = b.broadcast(b.constant(np.arange(count).reshape([1] * x.type.rank + [count])), wide.type.shape)
    return b("FLOOR_MOD", b("RIGHT_SHIFT", wide, places), b.constant(2))


def _from_bits(b: Builder, bits: Tensor) -> Tensor:
    """Integers of 32 bits; sums wrap round."""
    weights = b.constant(np.left_shift(1, np.arange(bits.type.shape[-1], dtype=np.int32), dtype=np.int32))
    return b("SUM", b("MUL", bits, weights), b.constant([bits.type.rank - 1]), keep_dims=False)


@rule("BitwiseAnd", "BitwiseOr", "BitwiseXor")
def bitwise(b: Builder, c: Call) -> Tensor:
    """XOR has a builtin; the others are taken bit by bit."""
    dtype = c[0].type.dtype
    left, right = _words(b, c[0]), _words(b, c[1])
    if c.op == "BitwiseXor":
        return _from_words(b, b("BITWISE_XOR", left, right), dtype)
    count = min(dtype.bits, 32)
    builtin = "MUL" if c.op == "BitwiseAnd" else "MAXIMUM"
    return _from_words(b, _from_bits(b, b(builtin, _bits(b, left, count), _bits(b, right, count))), dtype)


@rule("BitwiseNot")
def bitwise_not(b: Builder, c: Call) -> Tensor:
    """-1 - x in each word."""
    words = _words(b, c[0])
    return _from_words(b, b("SUB", b.constant(-1), words), c[0].type.dtype)


@rule("BitShift")
def bit_shift(b: Builder, c: Call) -> Tensor:
    """Bits are looked up in their new places; those from outside are 0 (or the sign)."""
    x, count, dtype = c[0], c[1], c[0].type.dtype
    shape = np.broadcast_shapes(x.type.shape, count.type.shape)
    x, count = (
        b.broadcast(b.reshape(t, (*[1] * (len(shape) - t.type.rank), *t.type.shape)), shape) for t in (x, count)
    )
    bits = _bits(b, _words(b, x), min(dtype.bits, 32))
    whole = b.reshape(bits, (*shape, dtype.bits))
    steps = b.reshape(converted(b, count, INT32), (*shape, 1))  # a negative number is a very large unsigned one
    steps = b("SELECT_V2", b("LESS", steps, b.constant(0), dtype=BOOL), b.constant(dtype.bits), steps, dtype=INT32)
    line = b.constant(np.arange(dtype.bits).reshape([1] * len(shape) + [dtype.bits]))
    from_ = b("SUB" if c.attr("direction") == "LEFT" else "ADD", b.broadcast(line, whole.type.shape), steps)
    kept = b("MAXIMUM", b("MINIMUM", from_, b.constant(dtype.bits - 1)), b.constant(0))
    found = b("GATHER", whole, kept, axis=len(shape), batch_dims=len(shape))
    inside = b("EQUAL", from_, kept, dtype=BOOL)
    if dtype.kind == "int":
        inside = b("LOGICAL_OR", inside, b("GREATER", from_, kept, dtype=BOOL), dtype=BOOL)
    made = b("SELECT_V2", inside, found, b.constant(0), dtype=INT32)
    return _from_words(b, _from_bits(b, b.reshape(made, bits.type.shape)), dtype)


@rule("BitCast")
def bit_cast(b: Builder, c: Call) -> Tensor:
    wanted = dtype_of_number(c.attr("to"))
    return c[0] if wanted == c[0].type.dtype else b("BITCAST", c[0], dtype=wanted)


@rule("Identity")
def unchanged(b: Builder, c: Call) -> Tensor | np.ndarray | None:
    return c.operands[0]
