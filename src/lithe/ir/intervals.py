"""What values an integer expression can take: bounds from loop extents, element types and conditions.

A Scope knows the range of each loop variable and the conditions that hold at one place of a kernel.
It answers with an interval that holds every possible value; for sums of independent loop variables the
interval is exact.

>>> from lithe.ir.loops import Var
>>> i, j = Var("i"), Var("j")
>>> scope = Scope().loop(i, 10).loop(j, 3)
>>> scope.interval(i * 2 + j - 1)
(-1, 19)
>>> scope.assume(i * 2 + j >= 1).interval(i * 2 + j - 1)
(0, 19)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from lithe.ir.affine import sum_of
from lithe.ir.loops import INDEX, Binary, Cast, Const, Expr, Load, Select, Unary, Var, nodes
from lithe.types import BOOL, DType, dtype_of

Interval = tuple[int, int]


class Linear(NamedTuple):
    """constant + the sum of factor * atom; an atom is a variable or an expression that is no such sum."""

    terms: dict[Expr, int]
    constant: int

    def plus(self, other: Linear, sign: int = 1) -> Linear:
        if not other.terms:
            return Linear(self.terms, self.constant + sign * other.constant)
        terms = dict(self.terms)
        for atom, factor in other.terms.items():
            terms[atom] = terms.get(atom, 0) + sign * factor
        return Linear({a: f for a, f in terms.items() if f}, self.constant + sign * other.constant)

    def times(self, factor: int) -> Linear:
        return Linear({a: f * factor for a, f in self.terms.items() if factor}, self.constant * factor)


@dataclass
class Scope:
    """Variable ranges and facts at one place; `loop` and `assume` return the scope inside.

    facts  {terms: least value of their sum}
    """

    ranges: dict[Var, Interval] = field(default_factory=dict)
    facts: dict[frozenset[tuple[Expr, int]], int] = field(default_factory=dict)
    _linear: dict[Expr, Linear] = field(default_factory=dict)
    _known: dict[Expr, Interval] = field(default_factory=dict)

    def loop(self, var: Var, extent: int) -> Scope:
        return Scope({**self.ranges, var: (0, max(extent - 1, 0))}, self.facts, self._linear)

    def assume(self, condition: Expr, holds: bool = True) -> Scope:
        """The scope where the condition holds (or does not)."""
        facts = dict(self.facts)
        for terms, least in self._facts(condition, holds):
            if _lasting(terms):
                facts[terms] = max(least, facts.get(terms, least))
        return Scope(self.ranges, facts, self._linear)

    def _facts(self, condition: Expr, holds: bool) -> list[tuple[frozenset[tuple[Expr, int]], int]]:
        match condition:
            case Binary("and", a, b) if holds:
                return self._facts(a, True) + self._facts(b, True)
            case Binary("or", a, b) if not holds:
                return self._facts(a, False) + self._facts(b, False)
            case Unary("not", a):
                return self._facts(a, not holds)
            case Binary("lt" | "le" | "eq" as op, a, b) if _bounded(a.dtype):
                difference = self.linear(b).plus(self.linear(a), -1)  # b - a
                if not holds:
                    if op == "eq":
                        return []
                    difference, op = difference.times(-1), "le" if op == "lt" else "lt"
                result = [(frozenset(difference.terms.items()), (op == "lt") - difference.constant)]
                if op == "eq":
                    result.append((frozenset(difference.times(-1).terms.items()), difference.constant))
                return result
        return []

    def linear(self, x: Expr) -> Linear:
        """x as a sum. Wrapping is not considered: see `interval`."""
        known = self._linear
        if x in known:
            return known[x]
        found = sum_of(x) if _bounded(x.dtype) else None
        if found is not None:
            known[x] = Linear({a: f for a, f in found[0].items() if f}, found[1])
            return known[x]
        for n in nodes((x,), known):
            known[n] = _linear_of(n, known)
        return known[x]

    def interval(self, x: Expr) -> Interval:
        """Bounds of an integer (or boolean) expression."""
        if type(x) is Var and x in self.ranges and not self.facts:
            return self.ranges[x]
        if x not in self._known:
            for n in nodes((x,), self._known):
                if _bounded(n.dtype):
                    low, high = self._bounds(n)
                    least, greatest = type_range(n.dtype)
                    if low < least or high > greatest:
                        low, high = least, greatest
                    self._known[n] = self._narrowed(n, low, high) if self.facts else (low, high)
        return self._known[x]

    def _narrowed(self, x: Expr, low: int, high: int) -> Interval:
        """The interval of a single atom, by the facts about it alone."""
        low = max(low, self.facts.get(frozenset({(x, 1)}), low))
        return low, max(low, min(high, -self.facts.get(frozenset({(x, -1)}), -high)))

    def span(self, form: Linear) -> Interval:
        """Bounds of a sum whose atoms have known bounds; low > high where the facts contradict each other."""
        low = high = form.constant
        for atom, factor in form.terms.items():
            ends = [factor * end for end in self.interval(atom)]
            low, high = low + min(ends), high + max(ends)
        if form.terms and self.facts:
            least = self.facts.get(frozenset(form.terms.items()))
            if least is not None:
                low = max(low, least + form.constant)
            least = self.facts.get(frozenset((a, -f) for a, f in form.terms.items()))
            if least is not None:
                high = min(high, form.constant - least)
        return low, high

    def _bounds(self, x: Expr) -> Interval:
        known = self._known
        match x:
            case Const(value, _):
                return int(value), int(value)
            case Var():
                return self.ranges.get(x, type_range(x.dtype))
            case Load(buffer, _):
                return _elements(buffer.data) if buffer.data is not None else type_range(x.dtype)
            case Binary("add" | "sub" | "mul", a, b):
                naive = _combine(x.op, known[a], known[b])
                least, greatest = type_range(x.dtype)
                form = self.linear(x)
                if naive[0] < least or naive[1] > greatest or x in form.terms:
                    return naive
                low, high = self.span(form)
                return max(low, naive[0]), max(low, naive[0], min(high, naive[1]))
            case Binary("lt" | "le" | "eq" | "ne", _, _):
                return 0, 1
            case Binary("min", a, b):
                return min(known[a][0], known[b][0]), min(known[a][1], known[b][1])
            case Binary("max", a, b):
                return max(known[a][0], known[b][0]), max(known[a][1], known[b][1])
            case Binary("div", a, Const(d, _)) if d > 0:
                return truncated(known[a][0], int(d)), truncated(known[a][1], int(d))
            case Binary("mod", a, Const(d, _)) if d > 0:
                low, high = known[a]
                if low >= 0 and high < d:
                    return low, high
                return (0 if low >= 0 else 1 - int(d)), (0 if high <= 0 else int(d) - 1)
            case Binary("and", a, Const(c, _)) if c >= 0 and x.dtype.is_integer:
                return 0, int(c)
            case Binary("shr", a, Const(c, _)) if 0 <= c < x.dtype.bits:
                return known[a][0] >> int(c), known[a][1] >> int(c)
            case Binary("shl", a, Const(c, _)) if 0 <= c < x.dtype.bits:
                return known[a][0] << int(c), known[a][1] << int(c)
            case Unary("neg", a):
                return -known[a][1], -known[a][0]
            case Select(_, a, b):
                return min(known[a][0], known[b][0]), max(known[a][1], known[b][1])
            case Cast(a, dtype) if _bounded(a.dtype) and dtype != BOOL:
                return known[a]
        return type_range(x.dtype)


def type_range(dtype: DType) -> Interval:
    """What fits in a byte-wise integer type, or a bool."""
    if dtype == BOOL:
        return 0, 1
    if dtype.kind == "int":
        return -(1 << (dtype.bits - 1)), (1 << (dtype.bits - 1)) - 1
    return 0, (1 << dtype.bits) - 1


def truncated(a: int, b: int) -> int:
    """a / b towards zero.

    >>> truncated(-7, 2), truncated(7, 2)
    (-3, 3)
    """
    return a // b if (a < 0) == (b < 0) else -(-a // b)


def _bounded(dtype: DType) -> bool:
    return dtype.is_integer or dtype == BOOL


def _lasting(terms: frozenset[tuple[Expr, int]]) -> bool:
    """Whether a fact stays true: nothing in it is read from memory that may change."""
    read = (x for x in nodes(tuple(atom for atom, _ in terms)) if isinstance(x, Load))
    return all(x.buffer.storage.data is not None for x in read)


def _elements(data: np.ndarray) -> Interval:
    if data.size > 65536:  # not worth the time
        return type_range(dtype_of(data))
    return (int(data.min()), int(data.max())) if data.size else (0, 0)


def _combine(op: str, a: Interval, b: Interval) -> Interval:
    if op == "add":
        return a[0] + b[0], a[1] + b[1]
    if op == "sub":
        return a[0] - b[1], a[1] - b[0]
    ends = [x * y for x in a for y in b]
    return min(ends), max(ends)


def _linear_of(x: Expr, known: dict[Expr, Linear]) -> Linear:
    match x:
        case Const(value, dtype) if _bounded(dtype):
            return Linear({}, int(value))
        case Binary("add" | "sub", a, b) if x.dtype is INDEX or x.dtype.is_integer:
            return known[a].plus(known[b], 1 if x.op == "add" else -1)
        case Binary("mul", a, b) if x.dtype is INDEX or x.dtype.is_integer:
            if not known[a].terms:
                return known[b].times(known[a].constant)
            if not known[b].terms:
                return known[a].times(known[b].constant)
    return Linear({x: 1}, 0)
