"""Comparisons, logic, and choosing by a condition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lithe.ir.arithmetic import F, cast, is_expr
from lithe.ir.build import Builder
from lithe.ir.loops import Buffer, select
from lithe.ops.broadcast import broadcast_of_all, broadcast_shape
from lithe.ops.fixed_point import multiplier_of, scaled
from lithe.ops.layout import PLAIN, Movement
from lithe.ops.op import Op, Site, register
from lithe.ops.precision import FLOATS, in_float32
from lithe.types import BOOL, FLOAT32, INT32, INT64, STRING, Shape

Rule = Callable[[Any, Any], Any]
INTEGERS = "int8 uint8 int16 int32 int64"
COMPARED = f"T T -> bool: {FLOATS} {INTEGERS}"


def equal(a: Any, b: Any) -> Any:
    return a.equals(b) if is_expr(a) else a == b


def not_equal(a: Any, b: Any) -> Any:
    return a.differs(b) if is_expr(a) else a != b


def elementwise(name: str, code: int, doc: str, types: str, rule: Callable[[Site], Rule]) -> type[Op]:
    """Defines and registers y = rule(site)(a, b) with broadcasting, y of type bool."""

    def chosen(site: Site) -> Rule:
        return in_float32(rule(site), site.input(0).dtype, BOOL)

    def evaluate(site: Site, a: np.ndarray, b: np.ndarray) -> list[np.ndarray]:
        with np.errstate(all="ignore"):
            return [np.asarray(chosen(site)(a, b), np.bool_)]

    def lowers(site: Site) -> bool:
        return site.input(0).dtype != STRING

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        b.elementwise(ys[0], chosen(site), xs[0], xs[1])

    return register(
        type(name.title().replace("_", ""), (Op,), {
            "__doc__": doc, "__module__": __name__, "name": name, "code": code, "types": types,
            "operands": (("input1", "input2"), ("output",)),
            "infer": broadcast_of_all, "evaluate": evaluate, "lower": lower, "lowers": lowers, "elementwise": True,
            "broadcasts": True,
        })
    )  # fmt: skip


def comparison_rule(compare: Rule, rescaled: tuple[int, ...] = (8,)) -> Callable[[Site], Rule]:
    """The rule of a comparison.

    rescaled  integers of so many bits are compared as real numbers when they have scales, the others as stored.

    The official kernels compare fixed-point numbers with 8 fraction bits of the real ones, even where the scales are
    equal; so two numbers are the same for them when they are less than about 1 / 256 apart.
    Source: TensorFlow Lite, ComparisonWithScaling.
    """

    def rule(site: Site) -> Rule:
        a_type, b_type = site.input(0), site.input(1)
        if a_type.dtype.bits not in rescaled or a_type.quantization is None or b_type.quantization is None:
            return compare
        (a_scale, a_zero), (b_scale, b_zero) = site.quantization(a_type), site.quantization(b_type)
        real = _fixed if max(a_scale, b_scale) < 1 else _real
        return lambda a, b: compare(real(a, a_scale, a_zero), real(b, b_scale, b_zero))

    return rule


def comparison(
    name: str, code: int, compare: Rule, doc: str, types: str = COMPARED, rescaled: tuple[int, ...] = (8,)
) -> type[Op]:
    """Defines and registers y = compare(a, b)."""
    return elementwise(name, code, doc, types, comparison_rule(compare, rescaled))


def _fixed(x: Any, scale: float, zero: int) -> Any:
    """256 times the real number, rounded."""
    return scaled((cast(x, INT64) - zero) * 256, multiplier_of(float(F(scale))))


def _real(x: Any, scale: float, zero: int) -> Any:
    return cast(cast(x, INT32) - zero, FLOAT32) * F(scale)


ALIKE = f"{COMPARED} bool string"
Equal = comparison("EQUAL", 71, equal, "y = a == b", ALIKE, (8, 16))
NotEqual = comparison("NOT_EQUAL", 72, not_equal, "y = a != b", ALIKE, (8, 16))
Less = comparison("LESS", 58, lambda a, b: a < b, "y = a < b")
LessEqual = comparison("LESS_EQUAL", 63, lambda a, b: a <= b, "y = a <= b")
Greater = comparison("GREATER", 61, lambda a, b: a > b, "y = a > b")
GreaterEqual = comparison("GREATER_EQUAL", 62, lambda a, b: a >= b, "y = a >= b")
LogicalOr = elementwise("LOGICAL_OR", 84, "y = a or b", "bool bool -> bool", lambda site: lambda a, b: a | b)
LogicalAnd = elementwise("LOGICAL_AND", 86, "y = a and b", "bool bool -> bool", lambda site: lambda a, b: a & b)


@register
class LogicalNot(Op):
    """y = not x"""

    name, code = "LOGICAL_NOT", 87
    elementwise = True
    types = "bool -> bool"

    def infer(site: Site) -> list[Shape]:
        return [site.input(0).shape]

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        return [np.logical_not(x)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        b.elementwise(ys[0], lambda x: ~x, xs[0])


def _choice(site: Site, condition: np.ndarray, x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    return [np.asarray(np.where(condition, x, y))]


@register
class Select(Movement):
    """z = x where the condition holds, y elsewhere; the condition has their shape, or one entry for each row."""

    name, code = "SELECT", 64
    keeps_scale = True
    elementwise = row_aligned = True
    operands = (("condition", "x", "y"), ("output",))
    types = f"bool T T -> T: {PLAIN}"

    def infer(site: Site) -> list[Shape]:
        condition, x, y = (site.input(i).shape for i in range(3))
        site.require(x == y, f"must have the shape of x {list(x)}, is {list(y)}", 2)
        fits = condition in (x, (), (1,)) or (len(condition) == 1 and len(x) > 0 and condition[0] == x[0])
        site.require(fits, f"must have the shape of x {list(x)} or of its first axis, is {list(condition)}", 0)
        return [x]

    def evaluate(site: Site, condition: np.ndarray, x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
        return _choice(site, condition.reshape(_row_aligned(site)), x, y)

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        b.elementwise(ys[0], select, xs[0].viewed(_row_aligned(site)), xs[1], xs[2])


def _row_aligned(site: Site) -> Shape:
    """The shape of SELECT's condition; one entry for each row gets axes of size 1 behind."""
    shape, rank = site.input(0).shape, site.input(1).rank
    return (*shape, *(1,) * (rank - 1)) if len(shape) == 1 and rank > 1 else shape


@register
class SelectV2(Movement):
    """z = x where the condition holds, y elsewhere; all three broadcast."""

    name, code = "SELECT_V2", 123
    keeps_scale = True
    elementwise = broadcasts = True
    operands = (("condition", "x", "y"), ("output",))
    types = f"bool T T -> T: {PLAIN}"

    def infer(site: Site) -> list[Shape]:
        return [broadcast_shape(site, 0, 1, 2)]

    evaluate = _choice

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        b.elementwise(ys[0], select, xs[0], xs[1], xs[2])
