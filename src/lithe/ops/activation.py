"""Unary operators: one text is traced to loops, evaluated by numpy, and folded to a table for quantized types."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lithe.ir.arithmetic import cast, clamp, maximum, minimum, quantize_real, where
from lithe.ir.build import Builder
from lithe.ir.elementary import erf, expm1, logistic, tanh
from lithe.ir.loops import INDEX, Buffer
from lithe.ops.broadcast import broadcast_shape
from lithe.ops.op import NoAttrs, Op, Site, register
from lithe.types import FLOAT32, INT32, Shape

FLOAT_OR_8_BIT = "T -> T: float32 int8q uint8q"


def same_shape(site: Site) -> list[Shape]:
    """Every output has the shape of input 0."""
    return [site.input(0).shape] * len(site.outputs)


def table(site: Site, function: Callable[[Any], Any]) -> np.ndarray:
    """The stored result for every stored value of a quantized input, least value first (256 or 65536 entries).

    Computed in float64 and rounded once, so that it does not depend on the machine that makes it.
    """
    x, y = site.inputs[0], site.outputs[0]
    assert x is not None
    (scale, zero_point), (out_scale, out_zero_point) = site.quantization(x), site.quantization(y)
    stored = np.arange(x.dtype.minimum, x.dtype.maximum + 1)
    with np.errstate(all="ignore"):
        real = function((stored - zero_point) * np.float64(np.float32(scale)))
        scaled = (real / np.float64(np.float32(out_scale))).astype(np.float32)
    return quantize_real(scaled, out_zero_point, y.dtype.minimum, y.dtype.maximum, y.dtype)


def unary(name: str, code: int, function: Callable[..., Any], doc: str, types: str, attrs: type = NoAttrs) -> type[Op]:
    """Defines and registers y = function(x), elementwise; `function(x, attributes)` where there are any."""

    def bound(site: Site) -> Callable[[Any], Any]:
        return function if attrs is NoAttrs else lambda x: function(x, site.attrs)

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        t = site.input(0)
        if site.quantized:
            return [table(site, bound(site))[x.astype(np.int64) - t.dtype.minimum]]
        with np.errstate(all="ignore"):
            return [np.asarray(bound(site)(x), x.dtype)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        if site.quantized:
            entries = b.constant(table(site, bound(site)), "table")
            lowest = site.input(0).dtype.minimum
            b.elementwise(ys[0], lambda v: entries[v.to(INDEX) - lowest], xs[0])
        else:
            b.elementwise(ys[0], bound(site), xs[0])

    return register(
        type(name.title().replace("_", ""), (Op,), {
            "__doc__": doc, "__module__": __name__, "name": name, "code": code, "types": types, "Attrs": attrs,
            "infer": same_shape, "evaluate": evaluate, "lower": lower, "elementwise": True,
        })
    )  # fmt: skip


@dataclass(frozen=True)
class LeakyReluAttrs:
    alpha: float = 0.2


@dataclass(frozen=True)
class GeluAttrs:
    approximate: bool = False


def hard_swish(x: Any) -> Any:
    return x * clamp(x + 3.0, 0.0, 6.0) * (1 / 6)


def gelu(x: Any, attrs: GeluAttrs) -> Any:
    if attrs.approximate:
        return x * 0.5 * (tanh((x * x * x * 0.044715 + x) * math.sqrt(2 / math.pi)) + 1.0)
    return x * 0.5 * (erf(x * math.sqrt(0.5)) + 1.0)


Logistic = unary("LOGISTIC", 14, logistic, "y = 1 / (1 + exp(-x))", "T -> T: float32 int8q uint8q int16q")
Tanh = unary("TANH", 28, tanh, "y = tanh(x)", "T -> T: float32 int8q uint8q int16q")
Relu = unary("RELU", 19, lambda x: maximum(x, 0.0), "y = max(x, 0)", "T -> T: float32 int8q uint8q int16q")
ReluN1To1 = unary("RELU_N1_TO_1", 20, lambda x: clamp(x, -1.0, 1.0), "y = min(max(x, -1), 1)", FLOAT_OR_8_BIT)
Relu6 = unary("RELU6", 21, lambda x: clamp(x, 0.0, 6.0), "y = min(max(x, 0), 6)", "T -> T: float32 int8q uint8q int16q")
Relu0To1 = unary("RELU_0_TO_1", 152, lambda x: clamp(x, 0.0, 1.0), "y = min(max(x, 0), 1)", FLOAT_OR_8_BIT)
LeakyRelu = unary(
    "LEAKY_RELU", 98, lambda x, attrs: where(x < 0.0, x * attrs.alpha, x), "y = x if x >= 0 else alpha * x",
    "T -> T: float32 int8q uint8q int16q", LeakyReluAttrs,
)  # fmt: skip
Elu = unary(
    "ELU", 111, lambda x: where(x < 0.0, expm1(minimum(x, 0.0)), x), "y = x if x >= 0 else exp(x) - 1",
    "T -> T: float32 int8q",
)  # fmt: skip
HardSwish = unary("HARD_SWISH", 117, hard_swish, "y = x * min(max(x + 3, 0), 6) / 6", FLOAT_OR_8_BIT)
Gelu = unary("GELU", 150, gelu, "y = x * P(X <= x), X standard normal; or the tanh form", FLOAT_OR_8_BIT, GeluAttrs)


@register
class Prelu(Op):
    """y = x if x >= 0 else alpha * x, with alpha broadcast to the shape of x."""

    name, code = "PRELU", 54
    operands = (("input", "alpha"), ("output",))
    types = "T T -> T: float32 int8q uint8q"

    def infer(site: Site) -> list[Shape]:
        shape = broadcast_shape(site, 0, 1)
        site.require(shape == site.input(0).shape, f"must broadcast to the input's shape {site.input(0).shape}", 1)
        return [shape]

    def evaluate(site: Site, x: np.ndarray, alpha: np.ndarray) -> list[np.ndarray]:
        return [np.asarray(_prelu_rule(site)(x, alpha), site.outputs[0].dtype.numpy)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        b.elementwise(ys[0], _prelu_rule(site), xs[0], xs[1])


@np.errstate(all="ignore")  # scales may be as far apart as float32 reaches
def _prelu_rule(site: Site) -> Callable[[Any, Any], Any]:
    if not site.quantized:
        return lambda x, alpha: where(x < 0.0, x * alpha, x)
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
