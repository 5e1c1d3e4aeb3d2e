"""Unary operators: one text is traced to loops, evaluated by numpy, and made a table for quantized types."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lithe.ir.arithmetic import cast, clamp, maximum, minimum, quantize_real, where
from lithe.ir.build import Builder
from lithe.ir.elementary import erf, exp_within, expm1, logistic, tanh
from lithe.ir.loops import Buffer
from lithe.ops.broadcast import broadcast_shape
from lithe.ops.op import NoAttrs, Op, Site, register
from lithe.ops.precision import FLOATS, in_float32, is_rescaled
from lithe.ops.tables import Method, Stored, all_values, curve, directly, sigmoid
from lithe.types import FLOAT32, INT32, Shape

REAL_OR_STORED = f"T -> T: {FLOATS} int8q uint8q int16q"


def same_shape(site: Site) -> list[Shape]:
    """Every output has the shape of input 0."""
    return [site.input(0).shape] * len(site.outputs)


def unary(
    name: str,
    code: int,
    function: Callable[..., Any],
    doc: str,
    types: str,
    attrs: type = NoAttrs,
    *,
    sixteen: Method = directly,
    stored: Callable[..., Any] | None = None,
) -> type[Op]:
    """Defines and registers y = function(x), elementwise; `function(x, attributes)` where there are any.

    sixteen  how quantized int16 is computed; 8 bits have a table of all values.
    stored   the function for quantized integers, where it is another one.
    """

    def bound(site: Site, function: Callable[..., Any]) -> Callable[[Any], Any]:
        return function if attrs is NoAttrs else lambda x: function(x, site.attrs)

    def plain(site: Site) -> Callable[[Any], Any]:
        return in_float32(bound(site, function), site.outputs[0].dtype)

    def of_stored(site: Site) -> Stored:
        method = all_values if site.input(0).dtype.bits == 8 else sixteen
        return method(site, bound(site, stored or function))

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        if is_rescaled(site, types):
            return [np.asarray(of_stored(site)(x), site.outputs[0].dtype.numpy)]
        if site.quick and made.keeps is not None and x.dtype == np.float32:
            return [x.clip(*made.keeps)]
        with np.errstate(all="ignore"):
            return [np.asarray(plain(site)(x), x.dtype)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        b.elementwise(ys[0], of_stored(site).in_loops(b) if is_rescaled(site, types) else plain(site), xs[0])

    made = register(
        type(name.title().replace("_", ""), (Op,), {
            "__doc__": doc, "__module__": __name__, "name": name, "code": code, "types": types, "Attrs": attrs,
            "infer": same_shape, "evaluate": evaluate, "lower": lower, "elementwise": True,
        })
    )  # fmt: skip
    return made


@dataclass(frozen=True)
class LeakyReluAttrs:
    alpha: float = 0.2


@dataclass(frozen=True)
class GeluAttrs:
    approximate: bool = False


def within(x: Any, low: float, high: float) -> Any:
    """x between two bounds; NaN stays NaN."""
    return minimum(high, maximum(low, x))


def between(w: Any, x: Any, low: float, high: float) -> Any:
    """The same in operators that a writer writes."""
    return w("MINIMUM", w("MAXIMUM", x, w.number(low)), w.number(high))


def hard_swish(x: Any) -> Any:
    return x * clamp(x + 3.0, 0.0, 6.0) * (1 / 6)


def gelu(x: Any, attrs: GeluAttrs) -> Any:
    """Either form. The error is at most 2**-22 * max(1, |x|), as tests/ops/test_error_bounds.py holds on [-8, 8].

    approximate  0.5 (1 + tanh t) is 1 / (1 + exp(-2 t)): half the operations, and small results stay precise.
    """
    if attrs.approximate:
        twice = math.sqrt(8 / math.pi)
        return x / (exp_within((x * x * (-0.044715 * twice) - twice) * x) + 1.0)
    return x * 0.5 * (erf(x * math.sqrt(0.5)) + 1.0)


Logistic = unary("LOGISTIC", 14, logistic, "y = 1 / (1 + exp(-x))", REAL_OR_STORED, sixteen=sigmoid((0,), 9))
Tanh = unary("TANH", 28, tanh, "y = tanh(x)", REAL_OR_STORED, sixteen=sigmoid((0, 1), 8))
Logistic.result_scales = {"int8": (1 / 256, -128), "uint8": (1 / 256, 0), "int16": (1 / 32768, 0)}
Tanh.result_scales = {"int8": (1 / 128, 0), "uint8": (1 / 128, 128), "int16": (1 / 32768, 0)}
Relu = unary("RELU", 19, lambda x: maximum(0.0, x), "y = max(x, 0)", REAL_OR_STORED)
ReluN1To1 = unary("RELU_N1_TO_1", 20, lambda x: within(x, -1.0, 1.0), "y = min(max(x, -1), 1)", REAL_OR_STORED)
Relu6 = unary("RELU6", 21, lambda x: within(x, 0.0, 6.0), "y = min(max(x, 0), 6)", REAL_OR_STORED)
Relu0To1 = unary("RELU_0_TO_1", 152, lambda x: within(x, 0.0, 1.0), "y = min(max(x, 0), 1)", REAL_OR_STORED)
LeakyRelu = unary(
    "LEAKY_RELU", 98, lambda x, attrs: where(x < 0.0, x * attrs.alpha, x), "y = x if x >= 0 else alpha * x",
    REAL_OR_STORED, LeakyReluAttrs,
)  # fmt: skip
Relu.keeps, ReluN1To1.keeps, Relu6.keeps, Relu0To1.keeps = (0.0, None), (-1.0, 1.0), (0.0, 6.0), (0.0, 1.0)
Relu.homogeneous = LeakyRelu.homogeneous = True
Elu = unary(
    "ELU", 111, lambda x: where(x < 0.0, expm1(minimum(x, 0.0)), x), "y = x if x >= 0 else exp(x) - 1",
    REAL_OR_STORED, sixteen=curve,
)  # fmt: skip
HardSwish = unary("HARD_SWISH", 117, hard_swish, "y = x * min(max(x + 3, 0), 6) / 6", REAL_OR_STORED)
ReluN1To1.spelled = staticmethod(lambda w, site, x: between(w, x, -1, 1))
Relu0To1.spelled = staticmethod(lambda w, site, x: between(w, x, 0, 1))
HardSwish.spelled = staticmethod(
    lambda w, site, x: w("MUL", w("MUL", x, w.number(1 / 6)), w("RELU6", w("ADD", x, w.number(3))))
)
Gelu = unary(
    "GELU", 150, gelu, "y = x * P(X <= x), X standard normal; or the tanh form", REAL_OR_STORED, GeluAttrs,
    sixteen=curve,
)  # fmt: skip


@register
class Prelu(Op):
    """y = x if x >= 0 else alpha * x, with alpha broadcast to the shape of x."""

    name, code = "PRELU", 54
    elementwise = True
    operands = (("input", "alpha"), ("output",))
    types = f"T T -> T: {FLOATS} int8q uint8q int16q\nint16q int8q -> int16q"

    def infer(site: Site) -> list[Shape]:
        shape = broadcast_shape(site, 0, 1)
        site.require(shape == site.input(0).shape, f"must broadcast to the input's shape {site.input(0).shape}", 1)
        return [shape]

    def evaluate(site: Site, x: np.ndarray, alpha: np.ndarray) -> list[np.ndarray]:
        if site.quick and x.dtype == np.float32:
            below = np.minimum(x, 0)
            below *= alpha
            below += np.maximum(x, 0)
            return [below]
        return [np.asarray(_prelu_rule(site)(x, alpha), site.outputs[0].dtype.numpy)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        b.elementwise(ys[0], _prelu_rule(site), xs[0], xs[1])


@np.errstate(all="ignore")  # scales may be as far apart as float32 reaches
def _prelu_rule(site: Site) -> Callable[[Any, Any], Any]:
    if not site.quantized:
        return in_float32(lambda x, alpha: where(x < 0.0, x * alpha, x), site.outputs[0].dtype)
    y = site.outputs[0]
    (scale, zero), (alpha_scale, alpha_zero) = site.quantization(site.input(0)), site.quantization(site.input(1))
    out_scale, out_zero = site.quantization(y)
    positive = np.float32(scale) / np.float32(out_scale)
    negative = np.float32(scale) * np.float32(alpha_scale) / np.float32(out_scale)

    def rule(x: Any, alpha: Any) -> Any:
        x, alpha = cast(x, INT32) - zero, cast(alpha, INT32) - alpha_zero
        real = where(x < 0, cast(x * alpha, FLOAT32) * negative, cast(x, FLOAT32) * positive)
        return quantize_real(real, out_zero, y.dtype.minimum, y.dtype.maximum, y.dtype)

    return rule
