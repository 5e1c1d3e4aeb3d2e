"""Index expressions as sums of terms: what addresses and vectors are worked out from."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Sequence
from typing import Any

from lithe.ir.loops import INDEX, Binary, Buffer, Const, Expr, Load, Stmt, Var, expressions, nodes, operands
from lithe.types import Shape

Sum = tuple[dict[Expr, int], int]
_UNKNOWN: Sum = {}, 0


def never(x: Expr) -> bool:
    """No other expression may stand as a term."""
    return False


def sum_of(x: Expr) -> Sum | None:
    """({variable: factor}, constant) when x is a sum of variables with constant factors, else None.

    Found once, and kept with it: expressions never change, nor may what is returned.
    """
    if type(x) is Binary:  # patterns take twice as long, and a model has tens of thousands of indices
        found: Sum | None = getattr(x, "_sum", _UNKNOWN)
        if found is _UNKNOWN:
            terms: dict[Expr, int] = {}
            constant = _added(x, 1, terms)
            found = x._sum = None if constant is None else (terms, constant)
        return found
    if type(x) is Var:
        return {x: 1}, 0
    return ({}, int(x.value)) if type(x) is Const else None


def _added(x: Expr, factor: int, terms: dict[Expr, int]) -> int | None:
    """Adds so many times x to the terms; returns what it adds to the constant, None where x is no sum."""
    if type(x) is Var:
        terms[x] = terms.get(x, 0) + factor
        return 0
    if type(x) is Const:
        return factor * int(x.value)
    if type(x) is not Binary:
        return None
    op, a, b = x.op, x.a, x.b
    if op == "add" or op == "sub":
        left = _added(a, factor, terms)
        right = _added(b, factor if op == "add" else -factor, terms)
        return None if left is None or right is None else left + right
    if op == "mul":
        for one, other in ((b, a), (a, b)):
            by = sum_of(one)
            if by is not None and not by[0]:
                return _added(other, factor * by[1], terms)
    return None


def affine(x: Expr, opaque: Callable[[Expr], bool] = never) -> Sum | None:
    """The same, where `opaque` says which other expressions (loaded or divided indices) may stand as terms."""
    found = sum_of(x)
    if found is not None:
        return found
    if isinstance(x, Binary) and x.op in ("add", "sub", "mul"):
        left, right = affine(x.a, opaque), affine(x.b, opaque)
        if left is not None and right is not None:
            if x.op != "mul":
                sign = 1 if x.op == "add" else -1
                terms = dict(left[0])
                for v, f in right[0].items():
                    terms[v] = terms.get(v, 0) + sign * f
                return terms, left[1] + sign * right[1]
            if not (left[0] and right[0]):
                (terms, c), k = (left, right[1]) if not right[0] else (right, left[1])
                return {v: f * k for v, f in terms.items()}, c * k
    return ({x: 1}, 0) if opaque(x) else None


def affine_place(
    shape: Shape, index: tuple[Expr, ...], opaque: Callable[[Expr], bool], known: dict[int, Sum | None]
) -> Sum | None:
    """The row-major place of an element, counted in elements, as such a sum.

    known  by the identity of indices with other terms, what was found: they must stay alive as long as it does.
    """
    terms: dict[Expr, int] = {}
    constant, stride = 0, math.prod(shape)
    for i, size in zip(index, shape, strict=True):
        stride //= size or 1
        found = sum_of(i)
        if found is None:
            key = id(i)
            if key not in known:
                known[key] = affine(i, opaque)
            found = known[key]
            if found is None:
                return None
        for v, factor in found[0].items():
            terms[v] = terms.get(v, 0) + factor * stride
        constant += found[1] * stride
    return terms, constant


def same_for_all(var: Var, private: Container[Buffer]) -> Callable[[Expr], bool]:
    """Whether an expression has one value for all iterations: it reads neither the loop's variable nor its locals."""

    def same(x: Expr) -> bool:
        return not any(y is var or (isinstance(y, Load) and y.buffer.storage in private) for y in nodes((x,)))

    return same


def computed(s: Stmt) -> tuple[Expr, ...]:
    """What one statement computes and loads, operands before users: all of its expressions but sums that index.

    Found once, and kept with it: statements and expressions never change.
    """
    found: tuple[Expr, ...] | None = getattr(s, "_computed", None)
    if found is None:
        found = s._computed = tuple(_computed(expressions(s)))
    return found


def _computed(roots: tuple[Expr, ...]) -> list[Expr]:
    found: list[Expr] = []
    seen: set[Expr] = set()
    stack: list[Any] = [*reversed(roots)]
    while stack:
        x = stack.pop()
        if x is None:  # what lies below has had its operands
            found.append(stack.pop())
        elif x not in seen:
            if type(x) is Load:
                below: Sequence[Expr] = [i for i in x.index if sum_of(i) is None or i.dtype is not INDEX]
            elif x.dtype is INDEX and sum_of(x) is not None:
                continue
            else:
                below = operands(x)
            seen.add(x)
            if below:
                stack += (x, None, *reversed(below))
            else:
                found.append(x)
    return found
