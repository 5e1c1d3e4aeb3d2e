"""Comparisons, logic, and choosing by a condition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lithe.ir.arithmetic import F, cast, is_expr
from lithe.ir.build import Builder
from lithe.ir.loops import Buffer, select
from lithe.ops.broadcast import broadcast_of_all, broadcast_shape
from lithe.ops.op import Op, Site, register
from lithe.types import FLOAT32, INT32, Shape

Rule = Callable[[Any, Any], Any]
COMPARED = "T T -> bool: float32 int16 int32 int64 int8 uint8 int8q uint8q"
EVERY_TYPE = "float32 float16 bfloat16 float64 int8 uint8 int16 uint16 int32 uint32 int64 uint64 bool"


def equal(a: Any, b: Any) -> Any:
    return a.equals(b) if is_expr(a) else a == b


def not_equal(a: Any, b: Any) -> Any:
    return a.differs(b) if is_expr(a) else a != b


def elementwise(name: str, code: int, doc: str, types: str, rule: Callable[[Site], Rule]) -> type[Op]:
    """Defines and registers y = rule(site)(a, b) with broadcasting, y of type bool."""

    def evaluate(site: Site, a: np.ndarray, b: np.ndarray) -> list[np.ndarray]:
        with np.errstate(all="ignore"):
            return [np.asarray(rule(site)(a, b), np.bool_)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        b.elementwise(ys[0], rule(site), xs[0], xs[1])

    return register(
        type(name.title().replace("_", ""), (Op,), {
            "__doc__": doc, "__module__": __name__, "name": name, "code": code, "types": types,
            "operands": (("input1", "input2"), ("output",)),
            "infer": broadcast_of_all, "evaluate": evaluate, "lower": lower, "elementwise": True,
        })
    )  # fmt: skip


def comparison(name: str, code: int, compare: Rule, doc: str, types: str = COMPARED) -> type[Op]:
    """Defines and registers y = compare(a, b); quantized operands are compared as real numbers."""

    def rule(site: Site) -> Rule:
        qa, qb = site.input(0).quantization, site.input(1).quantization
        if qa is None or qb is None or (qa.scale, qa.zero_point) == (qb.scale, qb.zero_point):
            return compare
        (a_scale, a_zero), (b_scale, b_zero) = site.quantization(site.input(0)), site.quantization(site.input(1))

        def real(x: Any, scale: float, zero: int) -> Any:
            return cast(cast(x, INT32) - zero, FLOAT32) * F(scale)

        return lambda a, b: compare(real(a, a_scale, a_zero), real(b, b_scale, b_zero))

    return elementwise(name, code, doc, types, rule)


Equal = comparison("EQUAL", 71, equal, "y = a == b", COMPARED + " bool")
NotEqual = comparison("NOT_EQUAL", 72, not_equal, "y = a != b", COMPARED + " bool")
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
    return [np.ascontiguousarray(np.where(condition, x, y))]


@register
class Select(Op):
    """z = x where the condition holds, y elsewhere; the condition has their shape, or one entry for each row."""

    name, code = "SELECT", 64
    elementwise = True
    operands = (("condition", "x", "y"), ("output",))
    types = f"bool T T -> T: {EVERY_TYPE}"

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
class SelectV2(Op):
    """z = x where the condition holds, y elsewhere; all three broadcast."""

    name, code = "SELECT_V2", 123
    elementwise = True
    operands = (("condition", "x", "y"), ("output",))
    types = f"bool T T -> T: {EVERY_TYPE}"

    def infer(site: Site) -> list[Shape]:
        return [broadcast_shape(site, 0, 1, 2)]

    evaluate = _choice

    def lower(b: Builder, site: Site, xs: tuple[Buffer, ...], ys: tuple[Buffer, ...]) -> None:
        b.elementwise(ys[0], select, xs[0], xs[1], xs[2])
