"""Intervals hold every value, and are exact where the verifier relies on it."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

from lithe.ir.intervals import Scope, truncated, type_range
from lithe.ir.loops import (
    INDEX,
    Binary,
    Buffer,
    Const,
    Expr,
    Load,
    Select,
    Unary,
    Var,
    binary,
    constant,
    maximum,
    minimum,
    nodes,
)
from lithe.ir.meaning import BINARY_MEANING, UNARY_MEANING
from lithe.types import BOOL, INT8, INT32, UINT8

I, J = Var("i"), Var("j")
EXTENTS = {I: 7, J: 4}


def value(x: Expr, at: dict[Var, int]) -> int:
    """The value of an index expression, by the meaning of its nodes."""
    known: dict[Expr, np.generic] = {}
    for n in nodes((x,)):
        match n:
            case Const(v, dtype):
                known[n] = dtype.numpy.type(v)
            case Var():
                known[n] = np.int64(at[n])
            case Unary(op, a):
                known[n] = UNARY_MEANING[op](known[a])
            case Binary(op, a, b):
                known[n] = BINARY_MEANING[op](known[a], known[b])
            case Select(c, a, b):
                known[n] = known[a] if known[c] else known[b]
    return int(known[x])


def random_expression(r: random.Random, depth: int) -> Expr:
    if depth == 0:
        return r.choice([I, J, constant(r.randint(-9, 9))])
    a = random_expression(r, depth - 1)
    match r.choice(["add", "sub", "mul", "div", "mod", "min", "max", "and", "shr", "shl", "select", "neg"]):
        case "div" | "mod" as op:
            return Binary(op, a, constant(r.randint(1, 6)))
        case "and":
            return Binary("and", a, constant(r.randint(0, 31)))
        case "shr" | "shl" as op:
            return Binary(op, a, constant(r.randint(0, 3)))
        case "select":
            return Select(I < J, a, random_expression(r, depth - 1))
        case "neg":
            return Unary("neg", a)
        case op:
            return binary(op, a, random_expression(r, depth - 1))


def everywhere() -> list[dict[Var, int]]:
    return [dict(zip(EXTENTS, at, strict=True)) for at in itertools.product(*map(range, EXTENTS.values()))]


def scope() -> Scope:
    return Scope().loop(I, 7).loop(J, 4)


@pytest.mark.parametrize("seed", range(300))
def test_an_interval_holds_every_value(seed: int) -> None:
    r = random.Random(seed)
    x, condition = random_expression(r, 3), random_expression(r, 2) < random_expression(r, 2)
    low, high = scope().interval(x)
    inside = scope().assume(condition)
    outside = scope().assume(condition, False)
    for at in everywhere():
        v = value(x, at)
        assert low <= v <= high
        narrow = (inside if value(condition, at) else outside).interval(x)
        assert narrow[0] <= v <= narrow[1]


def test_sums_of_variables_are_exact() -> None:
    for x in (I * 4 + J, I - I * 3 + J, (I + 1) * 2 - J, J - I):
        values = [value(x, at) for at in everywhere()]
        assert scope().interval(x) == (min(values), max(values))


def test_conditions_narrow_the_same_sum() -> None:
    at = I + J - 2
    inside = scope().assume((at >= 0) & (at < 5))
    assert inside.interval(at) == (0, 4)
    assert inside.interval(I + J + 10) == (12, 16)
    assert scope().assume(at < 0, False).interval(at) == (0, 7)
    assert scope().assume((at < 0) | (at > 4), False).interval(at) == (0, 4)
    assert scope().assume(~(I < 5)).interval(I) == (5, 6)
    assert scope().assume(I.equals(3)).interval(I) == (3, 3)
    assert scope().assume(I.equals(3), False).interval(I) == (0, 6)


def test_a_fact_about_memory_is_forgotten() -> None:
    x = Buffer("x", INT32, ())
    here = scope().assume(x[()] < 5)
    assert here.interval(x[()]) == type_range(INT32)
    load = x[()]
    assert scope().assume(load < 5).interval(load) == type_range(INT32)


def test_types_and_constants_bound_what_is_loaded() -> None:
    table = Buffer("table", INT32, (3,), np.array([4, -2, 9], np.int32))
    large = Buffer("large", UINT8, (70000,), np.zeros(70000, np.uint8))
    empty = Buffer("empty", INT8, (0,), np.zeros(0, np.int8))
    assert scope().interval(table[I].to(INDEX) + 1) == (-1, 10)
    assert scope().interval(large[I].to(INDEX)) == (0, 255)
    assert scope().interval(empty[I]) == (0, 0)
    assert scope().interval(Load(Buffer("flags", BOOL, (1,)), (I,))) == (0, 1)
    assert scope().interval(minimum(maximum(Buffer("x", INT32, (1,))[0].to(INDEX), 0), 9)) == (0, 9)


def test_what_may_wrap_is_unknown() -> None:
    small = Buffer("small", INT8, (3,))
    assert scope().interval(small[I] + small[I]) == (-128, 127)
    assert scope().interval(small[I].to(INT32) * small[I].to(INT32)) == (-16256, 16384)
    assert [truncated(a, b) for a in (-7, 7) for b in (2, -2)] == [-3, 3, 3, -3]
