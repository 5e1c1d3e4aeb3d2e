"""Elementwise operators: those that have a builtin, and those that a few builtins compute.

A formula keeps the relative precision of float32 over its whole range; where the textbook's cancels or overflows,
the comment says by what it is replaced.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from lithe.ir.elementary import polynomial
from lithe.ir.graph import Tensor
from lithe.passes.deflex.draft import RULES, Draft, rule
from lithe.passes.writer import Value, where
from lithe.types import BOOL, FLOAT32, INT32

PLAIN = {"fused_activation_function": "NONE"}

# TensorFlow's name: the builtin's, with the same operands and no attributes that matter.
SAME = {
    "Abs": "ABS", "Add": "ADD", "AddV2": "ADD", "Atan2": "ATAN2", "BitwiseXor": "BITWISE_XOR", "Ceil": "CEIL",
    "ComplexAbs": "COMPLEX_ABS", "Cos": "COS", "Elu": "ELU", "Exp": "EXP", "Floor": "FLOOR", "FloorDiv": "FLOOR_DIV",
    "FloorMod": "FLOOR_MOD", "Imag": "IMAG", "Log": "LOG", "LogSoftmax": "LOG_SOFTMAX", "LogicalAnd": "LOGICAL_AND",
    "LogicalNot": "LOGICAL_NOT", "LogicalOr": "LOGICAL_OR", "Maximum": "MAXIMUM", "Minimum": "MINIMUM", "Mul": "MUL",
    "Neg": "NEG", "Pow": "POW", "Real": "REAL", "RealDiv": "DIV", "Relu": "RELU", "Relu6": "RELU6",
    "RightShift": "RIGHT_SHIFT", "Rint": "ROUND", "Round": "ROUND", "Rsqrt": "RSQRT", "Select": "SELECT",
    "SelectV2": "SELECT_V2", "Sigmoid": "LOGISTIC", "Sign": "SIGN", "Sin": "SIN", "Sqrt": "SQRT", "Square": "SQUARE",
    "SquaredDifference": "SQUARED_DIFFERENCE", "Sub": "SUB", "Tanh": "TANH", "ZerosLike": "ZEROS_LIKE",
    "AddN": "ADD_N", "BroadcastTo": "BROADCAST_TO", "BroadcastArgs": "BROADCAST_ARGS",
    "Fill": "FILL", "GatherNd": "GATHER_ND", "Pad": "PAD", "PadV2": "PADV2", "Range": "RANGE", "Slice": "SLICE",
    "Tile": "TILE", "Transpose": "TRANSPOSE", "BatchToSpaceND": "BATCH_TO_SPACE_ND",
    "SpaceToBatchND": "SPACE_TO_BATCH_ND", "MatrixDiag": "MATRIX_DIAG", "MatrixSetDiag": "MATRIX_SET_DIAG",
    "Where": "WHERE",
}  # fmt: skip
COMPARISONS = {
    "Equal": "EQUAL", "NotEqual": "NOT_EQUAL", "Less": "LESS", "LessEqual": "LESS_EQUAL", "Greater": "GREATER",
    "GreaterEqual": "GREATER_EQUAL",
}  # fmt: skip


def same(builtin: str) -> Callable[[Draft], Tensor]:
    def write(d: Draft) -> Tensor:
        return d(builtin, *d.inputs, dtype=d.type_of_output().dtype)

    return write


RULES.update({name: same(builtin) for name, builtin in {**SAME, **COMPARISONS}.items()})


FORMULAS: dict[str, Callable[..., Value]] = {}


def formula(*names: str) -> Callable[[Callable[..., Value]], Callable[..., Value]]:
    """Decorator: the operators with these names are this function of their operands."""

    def add(function: Callable[..., Value]) -> Callable[..., Value]:
        def write(d: Draft) -> Tensor:
            return function(*(Value(d, t) for t in d.inputs)).tensor

        RULES.update(dict.fromkeys(names, write))
        FORMULAS.update(dict.fromkeys(names, function))
        return function

    return add


def floating(x: Value) -> Value:
    """The value, which must have 32-bit floats: a formula's constants are chosen for them."""
    x.writer.require(x.tensor.type.dtype == FLOAT32)
    return x


def exp(x: Value) -> Value:
    return x.apply("EXP")


def log(x: Value) -> Value:
    return x.apply("LOG")


def sqrt(x: Value) -> Value:
    return x.apply("SQRT")


def atan2(y: Value, x: Value) -> Value:
    return y.apply("ATAN2", x)


def sign(x: Value) -> Value:
    return x.apply("SIGN")


def maximum(x: Value, y: Any) -> Value:
    return x.apply("MAXIMUM", y)


def minimum(x: Value, y: Any) -> Value:
    return x.apply("MINIMUM", y)


@formula("Log1p")
def log1p(x: Value) -> Value:
    """log(u) x / (u - 1) with u = 1 + x: the quotient makes good what the sum lost. x itself where u is 1."""
    u = floating(x) + 1.0
    corrected = where(u.compare("EQUAL", 1.0), x, log(u) * (x / (u - 1.0)))
    return where(x < 1.0, corrected, log(u))


@formula("Expm1")
def expm1(x: Value) -> Value:
    """2 t / (1 - t) with t = tanh(x / 2) near 0, where the difference cancels."""
    t = (floating(x) * 0.5).apply("TANH")
    return where(abs(x) < 1.0, (t + t) / (1.0 - t), exp(x) - 1.0)


@formula("Cosh")
def cosh(x: Value) -> Value:
    """(h**2 + h**-2) / 2 with h = e**(x / 2): e**x would be infinite before cosh is."""
    h = exp(floating(x) * 0.5)
    return h * (h * 0.5) + (1.0 / h) * (0.5 / h)


@formula("Sinh")
def sinh(x: Value) -> Value:
    """tanh(x) cosh(x): the difference of exponentials cancels near 0."""
    return x.apply("TANH") * cosh(x)


@formula("Tan")
def tan(x: Value) -> Value:
    return floating(x).apply("SIN") / x.apply("COS")


def _leg(x: Value) -> Value:
    """sqrt(1 - x**2), without the cancellation near 1."""
    return sqrt((1.0 - x) * (1.0 + x))


@formula("Asin")
def asin(x: Value) -> Value:
    return atan2(floating(x), _leg(x))


@formula("Acos")
def acos(x: Value) -> Value:
    return atan2(_leg(floating(x)), x)


LARGE = 1e9  # beyond it x**2 + 1 is x**2, and soon infinite


@formula("Asinh")
def asinh(x: Value) -> Value:
    """sign(x) log1p(a + a**2 / (1 + sqrt(1 + a**2))) with a = |x|."""
    a = minimum(abs(floating(x)), LARGE)
    squared = a * a
    near = log1p(a + squared / (1.0 + sqrt(1.0 + squared)))
    return sign(x) * where(abs(x) < LARGE, near, log(abs(x)) + math.log(2))


@formula("Acosh")
def acosh(x: Value) -> Value:
    """log1p(t + sqrt(2 t + t**2)) with t = x - 1."""
    t = minimum(floating(x) - 1.0, LARGE)
    return where(x > LARGE, log(x) + math.log(2), log1p(t + sqrt(t * (t + 2.0))))


@formula("Atanh")
def atanh(x: Value) -> Value:
    """sign(x) log1p(2 a / (1 - a)) / 2 with a = |x|."""
    a = abs(floating(x))
    return sign(x) * log1p((a + a) / (1.0 - a)) * 0.5


@formula("Softplus")
def softplus(x: Value) -> Value:
    """log(1 + e**x) = max(x, 0) + log1p(e**-|x|)."""
    return maximum(floating(x), 0.0) + log1p(exp(-abs(x)))


@formula("Softsign")
def softsign(x: Value) -> Value:
    return floating(x) / (abs(x) + 1.0)


@formula("Selu")
def selu(x: Value) -> Value:
    """scale (x > 0 ? x : alpha (e**x - 1)). Numbers: Klambauer et al., Self-Normalizing Neural Networks."""
    scale, alpha = 1.0507009873554805, 1.6732632423543772
    return where(floating(x) < 0.0, x.apply("ELU") * (scale * alpha), x * scale)


# erf(x) / x - 1 in x**2 up to 1, -log(1 - erf(x)) in x from 0.95 to 4: fitted, as in lithe.ir.elementary
ERF_NEAR = (7.889118375e-05, -8.020840933e-04, 5.1895353e-03, -2.685444457e-02,
            1.128360018e-01, -3.761262714e-01, 1.283791659e-01)  # fmt: skip
ERF_FAR = (-1.382978521e-06, 4.152625291e-05, -5.6264332e-04, 4.61752598e-03, -2.606472162e-02,
           1.09527421e-01, 6.323439632e-01, 1.12996481, -2.60987536e-04)  # fmt: skip


@formula("Erf")
def erf(x: Value) -> Value:
    near = x * polynomial(floating(x) * x, ERF_NEAR) + x
    far = sign(x) * (1.0 - exp(-polynomial(minimum(abs(x), 4.0), ERF_FAR)))
    return where(abs(x) < 1.0, near, far)


def complement_of_erf(x: Value) -> Value:
    """1 - erf(x) to an absolute precision. No rule for TensorFlow's Erfc, whose small values are precise too."""
    return 1.0 - erf(x)


FORMULAS["Erfc"] = complement_of_erf


@formula("Reciprocal", "Inv")
def reciprocal(x: Value) -> Value:
    return 1.0 / x


@formula("IsNan")
def is_nan(x: Value) -> Value:
    return x.compare("NOT_EQUAL", x)


@formula("IsInf")
def is_infinite(x: Value) -> Value:
    return abs(x).compare("EQUAL", math.inf)


@formula("IsFinite")
def is_finite(x: Value) -> Value:
    return abs(x) < math.inf


@formula("DivNoNan")
def divide_no_nan(x: Value, y: Value) -> Value:
    return where(y.compare("EQUAL", 0), 0, x / y)


@formula("MulNoNan")
def multiply_no_nan(x: Value, y: Value) -> Value:
    return where(y.compare("EQUAL", 0), 0, x * y)


@formula("Xdivy")
def xdivy(x: Value, y: Value) -> Value:
    return where(x.compare("EQUAL", 0), 0, x / y)


@formula("Xlogy")
def xlogy(x: Value, y: Value) -> Value:
    return where(x.compare("EQUAL", 0), 0, x * log(y))


@formula("Xlog1py")
def xlog1py(x: Value, y: Value) -> Value:
    return where(x.compare("EQUAL", 0), 0, x * log1p(y))


@formula("ClipByValue")
def clip(x: Value, low: Value, high: Value) -> Value:
    return maximum(minimum(x, high), low)


@formula("Invert")
def invert(x: Value) -> Value:
    dtype = x.tensor.type.dtype
    return x.apply("BITWISE_XOR", dtype.maximum if dtype.kind == "uint" else -1)


@formula("OnesLike")
def ones_like(x: Value) -> Value:
    shape = x.writer("SHAPE", x.tensor, dtype=INT32, out_type=INT32)
    return Value(
        x.writer, x.writer("FILL", shape, x.like(1).tensor, dtype=x.tensor.type.dtype, rank=x.tensor.type.rank)
    )


@formula("Atan")
def atan(x: Value) -> Value:
    """The builtin's operands have one shape."""
    return atan2(floating(x), ones_like(x))


@formula("L2Loss")
def half_of_squares(x: Value) -> Value:
    return Value(x.writer, x.writer("SUM", (x * x).tensor, _all_axes(x), keep_dims=False)) * 0.5


def _all_axes(x: Value) -> Tensor:
    return x.writer.constant(list(range(x.tensor.type.rank)))


@rule("Div", "TruncateDiv")
def truncating_division(d: Draft) -> Tensor:
    """Towards zero for integers; of 32-bit ones, the only ones that the builtin divides."""
    return d("DIV", *d.inputs)


@rule("TruncateMod", "Mod")
def truncating_remainder(d: Draft) -> Tensor:
    """x - y trunc(x / y): of 32-bit integers."""
    d.require(d.inputs[0].type.dtype == INT32)
    x, y = (Value(d, t) for t in d.inputs)
    return (x - y * (x / y)).tensor


@rule("LeakyRelu")
def leaky_relu(d: Draft) -> Tensor:
    return d("LEAKY_RELU", d.inputs[0], alpha=d.attribute("alpha", 0.2))


@rule("ApproximateEqual")
def approximately_equal(d: Draft) -> Tensor:
    x, y = (Value(d, t) for t in d.inputs)
    return (abs(x - y) < d.attribute("tolerance", 1e-5)).tensor


@rule("Cast")
def cast(d: Draft) -> Tensor:
    """`Truncate` asks for fewer bits, not for another rounding; integers are cut off at zero either way."""
    d.require(not d.attribute("Truncate", False))
    x, y = d.inputs[0], d.type_of_output()
    d.require(x.type.dtype != BOOL or y.dtype != BOOL)
    return d("CAST", x, dtype=y.dtype, in_data_type=x.type.dtype, out_data_type=y.dtype)


@rule("FakeQuantWithMinMaxArgs")
def fake_quantize(d: Draft) -> Tensor:
    return d(
        "FAKE_QUANT", d.inputs[0], min=d.attribute("min", -6.0), max=d.attribute("max", 6.0),
        num_bits=d.attribute("num_bits", 8), narrow_range=d.attribute("narrow_range", False),
    )  # fmt: skip


@rule("FakeQuantWithMinMaxVars")
def fake_quantize_constants(d: Draft) -> Tensor:
    x, low, high = d.inputs
    return d(
        "FAKE_QUANT", x, min=float(d.array(low)), max=float(d.array(high)), num_bits=d.attribute("num_bits", 8),
        narrow_range=d.attribute("narrow_range", False),
    )  # fmt: skip


@rule("Bucketize")
def bucketize(d: Draft) -> Tensor:
    return d("BUCKETIZE", d.inputs[0], dtype=INT32, boundaries=d.attribute("boundaries", ()))
