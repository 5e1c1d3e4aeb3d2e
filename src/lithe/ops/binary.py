"""Binary arithmetic with broadcasting, in real numbers, integers and quantized integers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lithe.errors import ExecutionError
from lithe.ir.arithmetic import (
    ACTIVATION_BOUNDS,
    F,
    activate,
    activation_range,
    cast,
    clamp,
    floor,
    is_expr,
    maximum,
    minimum,
    quantize_real,
    requantize,
    where,
)
from lithe.ir.build import Builder
from lithe.ir.elementary import floor_mod, power
from lithe.ir.loops import Buffer, Expr
from lithe.ops.broadcast import broadcast_of_all
from lithe.ops.op import NoAttrs, Op, Site, register
from lithe.ops.precision import FLOATS, in_float32, is_rescaled
from lithe.types import DTYPES, FLOAT32, FLOAT64, INT32, Shape

Rule = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class FusedAttrs:
    fused_activation_function: str = "NONE"


@dataclass(frozen=True)
class AddAttrs(FusedAttrs):
    pot_scale_int16: bool = True


def binary(
    name: str,
    code: int,
    rule: Rule,
    doc: str,
    types: str,
    *,
    attrs: type = NoAttrs,
    whole: Rule | None = None,
    quantized: Callable[[Site], Rule] | None = None,
    check: Callable[[Any], Any] | None = None,
    failure: str = "",
) -> type[Op]:
    """Defines and registers y = rule(a, b) with broadcasting.

    whole      the rule for integers that are not quantized (default: as for real numbers).
    quantized  gives the rule for integers that stand for real numbers (default: that of the stored integers).
    check      a condition on b, without which the inference ends with `failure`; for integers only.
    """

    def chosen(site: Site) -> Rule:
        if quantized and is_rescaled(site, types):
            return quantized(site)
        dtype = site.input(0).dtype
        plain = whole if whole and dtype.is_integer else rule
        fused = _fused(site) if dtype.kind != "complex" else "NONE"
        return in_float32(lambda a, b: activate(plain(a, b), fused), dtype)

    def infer(site: Site) -> list[Shape]:
        activation = getattr(site.attrs, "fused_activation_function", "NONE")
        site.require(activation in ACTIVATIONS, f"fused activation must be one of {', '.join(ACTIVATIONS)}")
        return broadcast_of_all(site)

    def lowers(site: Site) -> bool:
        return site.input(0).dtype.kind != "complex"

    def allowed(site: Site, b: Any) -> Any:
        """The condition on b, of a quantized b without its zero point."""
        assert check is not None
        real = cast(b, INT32) - site.quantization(site.input(1))[1] if quantized and is_rescaled(site, types) else b
        return check(real)

    def checked(site: Site) -> bool:
        return check is not None and site.input(1).dtype.is_integer

    def evaluate(site: Site, a: np.ndarray, b: np.ndarray) -> list[np.ndarray]:
        if checked(site) and not np.all(allowed(site, b)):
            raise ExecutionError(f"{name}: {failure}")
        with np.errstate(all="ignore"):
            return [np.asarray(chosen(site)(np.asarray(a), np.asarray(b)), site.outputs[0].dtype.numpy)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        if checked(site):
            _check(b, site, xs[1])
        b.elementwise(ys[0], chosen(site), xs[0], xs[1])

    def _check(b: Builder, site: Site, divisor: Buffer) -> None:
        known = site.known(1)
        if known is not None and np.all(allowed(site, known)):
            return
        flat = divisor.viewed((divisor.size,))
        with b.loop(divisor.size) as i:
            b.fail_unless(allowed(site, flat[i]), f"{name}: {failure}")

    return register(
        type(name.title().replace("_", ""), (Op,), {
            "__doc__": doc, "__module__": __name__, "name": name, "code": code, "types": types, "Attrs": attrs,
            "operands": (("input1", "input2"), ("output",)),
            "infer": infer, "evaluate": evaluate, "lower": lower, "lowers": lowers, "elementwise": True,
            "broadcasts": True,
            "activations": ACTIVATIONS,
        })
    )  # fmt: skip


# The official kernels take these too, and do nothing. Source: TensorFlow Lite, CalculateActivationRange.
ACTIVATIONS = (*ACTIVATION_BOUNDS, "TANH", "SIGN_BIT")


def _fused(site: Site) -> str:
    """The fused activation that has an effect on numbers."""
    activation = getattr(site.attrs, "fused_activation_function", "NONE")
    return activation if activation in ACTIVATION_BOUNDS else "NONE"


def nonzero(b: Any) -> Any:
    return b.differs(0) if is_expr(b) else b != 0


def not_negative(b: Any) -> Any:
    return b >= 0


def _is(a: Any, value: int) -> Any:
    return a.equals(value) if is_expr(a) else a == value


def truncated_quotient(a: Any, b: Any) -> Any:
    """a / b towards zero, in integers that wrap; b is not 0."""
    minus = _is(b, -1)  # the least integer / -1 overflows: machines trap, and C leaves it undefined
    safe = where(minus | _is(b, 0), _one(b), b)
    return where(minus, -a, _truncated(a, safe))


def _one(b: Any) -> Any:
    return b & 0 | 1 if isinstance(b, Expr) else b.dtype.type(1)


def _truncated(a: Any, b: Any) -> Any:
    if is_expr(a):
        return a / b
    q = a // b
    return q + ((a - q * b != 0) & ((a < 0) != (b < 0)))


def floored_quotient(a: Any, b: Any) -> Any:
    """The greatest integer that is not above a / b."""
    q = truncated_quotient(a, b)
    r = a - q * b
    return q - where(nonzero(r) & ((r ^ b) < 0), _one(b), _one(b) & 0)


def floored_remainder(a: Any, b: Any) -> Any:
    """a - floor(a / b) * b: zero, or with the sign of b."""
    r = a - truncated_quotient(a, b) * b
    return r + where(nonzero(r) & ((r ^ b) < 0), b, b & 0)


def whole_power(a: Any, b: Any) -> Any:
    """a**b in integers that wrap, b >= 0: by squaring, one step for each bit of b."""
    result, base = _one(a), a
    kind = a.dtype if is_expr(a) else DTYPES[a.dtype.name]
    for bit in range(kind.bits - (kind.kind == "int")):
        factor = where(nonzero(b & (1 << bit)), base, _one(a))
        result, base = result * factor, base * base
    return result


def _pairs(site: Site) -> tuple[tuple[np.float32, int], ...]:
    """(scale, zero point) of both inputs and the output."""
    found = [site.quantization(t) for t in (site.input(0), site.input(1), site.outputs[0])]
    return tuple((F(scale), zero) for scale, zero in found)


def _limits(site: Site) -> tuple[int, int]:
    y = site.outputs[0]
    return activation_range(_fused(site), *site.quantization(y), y.dtype)


def quantized_sum(sign: int) -> Callable[[Site], Rule]:
    """a + sign * b, both rescaled by multipliers of 20 bits in int32.

    Source: XNNPACK, qs8-vadd and xnn_init_qs8_add_minmax_params; where its ratios of scales do not reach,
    and for 16 bits, the sum of the two float32 products.
    """

    @np.errstate(all="ignore")  # scales may be as far apart as float32 reaches
    def rule(site: Site) -> Rule:
        (a_scale, a_zero), (b_scale, b_zero), (scale, zero) = _pairs(site)
        low, high = _limits(site)
        a_ratio, b_ratio = a_scale / scale, b_scale / scale
        dtype = site.outputs[0].dtype
        exponent = math.frexp(max(a_ratio, b_ratio))[1] - 1
        if dtype.bits > 8 or not -10 <= exponent < 8 or not np.isfinite([a_ratio, b_ratio]).all():

            def wide(a: Any, b: Any) -> Any:
                left = cast(cast(a, INT32) - a_zero, FLOAT32) * a_ratio
                right = cast(cast(b, INT32) - b_zero, FLOAT32) * (F(sign) * b_ratio)
                return quantize_real(left + right, zero, low, high, dtype)

            return wide
        shift = 20 - exponent
        a_factor, b_factor = (round(float(r) * 2**shift) for r in (a_ratio, b_ratio))
        b_factor *= sign
        bias = (1 << (shift - 1)) - a_factor * a_zero - b_factor * b_zero

        def fixed(a: Any, b: Any) -> Any:
            total = (cast(a, INT32) * a_factor + cast(b, INT32) * b_factor + bias) >> shift
            return cast(clamp(total + zero, low, high), dtype)

        return fixed

    return rule


@np.errstate(all="ignore")  # scales may be as far apart as float32 reaches
def quantized_product(site: Site) -> Rule:
    """Source: XNNPACK, qs8-vmul with fp32 requantization."""
    (a_scale, a_zero), (b_scale, b_zero), (scale, zero) = _pairs(site)
    low, high = _limits(site)
    ratio = a_scale * b_scale / scale

    def rule(a: Any, b: Any) -> Any:
        product = (cast(a, INT32) - a_zero) * (cast(b, INT32) - b_zero)
        return requantize(product, ratio, zero, low, high, site.outputs[0].dtype)

    return rule


@np.errstate(all="ignore")  # scales may be as far apart as float32 reaches
def quantized_quotient(site: Site) -> Rule:
    (a_scale, a_zero), (b_scale, b_zero), (scale, zero) = _pairs(site)
    low, high = _limits(site)
    ratio = a_scale / (b_scale * scale)

    def rule(a: Any, b: Any) -> Any:
        quotient = cast(cast(a, INT32) - a_zero, FLOAT32) / cast(cast(b, INT32) - b_zero, FLOAT32)
        return quantize_real(quotient * ratio, zero, low, high, site.outputs[0].dtype)

    return rule


@np.errstate(all="ignore")  # scales may be as far apart as float32 reaches
def quantized_squared_difference(site: Site) -> Rule:
    (a_scale, a_zero), (b_scale, b_zero), (scale, zero) = _pairs(site)
    low, high = _limits(site)
    steps = F(1.0) / scale

    def rule(a: Any, b: Any) -> Any:
        left = cast(cast(a, INT32) - a_zero, FLOAT32) * a_scale
        difference = left - cast(cast(b, INT32) - b_zero, FLOAT32) * b_scale
        return quantize_real(difference * difference * steps, zero, low, high, site.outputs[0].dtype)

    return rule


def _squared_difference(a: Any, b: Any) -> Any:
    difference = a - b
    return difference * difference


def _floored(a: Any, b: Any) -> Any:
    """The floor of the exact quotient: in float32 one just below a whole number, or just below 0, is rounded to it."""
    return cast(floor(cast(a, FLOAT64) / cast(b, FLOAT64)), DTYPES[str(a.dtype)])


def _times_reciprocal(w: Any, site: Site, a: Any, b: Any) -> Any:
    """a / c = a * (1 / c)"""
    if b.data is None or not b.data.all() or not np.isfinite(1 / b.data).all():
        return None
    return w(
        "MUL", a, w.constant(1 / b.data, b.type.dtype), fused_activation_function=site.attrs.fused_activation_function
    )


NUMBERS = f"T T -> T: {FLOATS}"
STORED = "int8q uint8q int16q"
WHOLE = "int8 uint8 int16 int32 int64"

Add = binary("ADD", 0, lambda a, b: a + b, "y = a + b", f"{NUMBERS} int16 int32 int64 {STORED}",
             attrs=AddAttrs, quantized=quantized_sum(1))  # fmt: skip
Sub = binary("SUB", 41, lambda a, b: a - b, "y = a - b", f"{NUMBERS} int32 int64 {STORED}",
             attrs=AddAttrs, quantized=quantized_sum(-1))  # fmt: skip
Mul = binary("MUL", 18, lambda a, b: a * b, "y = a * b",
             f"{NUMBERS} int16 int32 uint32 int64 complex64 {STORED}\nint16q int16q -> Y: Y= int8q uint8q",
             attrs=FusedAttrs, quantized=quantized_product)  # fmt: skip
Div = binary("DIV", 42, lambda a, b: a / b, "y = a / b, towards zero in integers", f"{NUMBERS} int32 {STORED}",
             attrs=FusedAttrs, whole=truncated_quotient, quantized=quantized_quotient,
             check=nonzero, failure="division by zero")  # fmt: skip
Div.never_zero = 1
Div.spelled = staticmethod(_times_reciprocal)
Maximum = binary("MAXIMUM", 55, maximum, "the greater one, of integers as they are stored", f"{NUMBERS} {WHOLE}")
Minimum = binary("MINIMUM", 57, minimum, "the lesser one, of integers as they are stored", f"{NUMBERS} {WHOLE}")
Maximum.keeps_scale = Minimum.keeps_scale = True
SquaredDifference = binary("SQUARED_DIFFERENCE", 99, _squared_difference, "y = (a - b)**2",
                           f"{NUMBERS} int32 {STORED}", quantized=quantized_squared_difference)  # fmt: skip
SquaredDifference.spelled = staticmethod(lambda w, site, a, b: (lambda less: w("MUL", less, less))(w("SUB", a, b)))
FloorDiv = binary("FLOOR_DIV", 90, _floored, "y = floor(a / b)", f"{NUMBERS} int8 int16 int32 int64",
                  whole=floored_quotient, check=nonzero, failure="division by zero")  # fmt: skip
FloorMod = binary("FLOOR_MOD", 95, floor_mod, "y = a - floor(a / b) * b", f"{NUMBERS} int8 int16 int32 int64",
                  whole=floored_remainder, check=nonzero, failure="division by zero")  # fmt: skip
Pow = binary("POW", 78, power, "y = a**b", f"{NUMBERS} int32", whole=whole_power,
             check=not_negative, failure="a negative exponent of an integer")  # fmt: skip
