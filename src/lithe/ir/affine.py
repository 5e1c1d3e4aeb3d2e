"""Index expressions as sums of terms: what addresses and vectors are worked out from."""

from __future__ import annotations

import math
from collections.abc import Callable, Container

from lithe.ir.loops import Binary, Buffer, Const, Expr, Load, Var, nodes
from lithe.types import Shape

Sum = tuple[dict[Expr, int], int]


def never(x: Expr) -> bool:
    """No other expression may stand as a term."""
    return False


def affine(x: Expr, opaque: Callable[[Expr], bool] = never) -> Sum | None:
    """({term: factor}, constant) when x is a sum of variables with constant factors, else None.

    opaque  says which other expressions (loaded or divided indices) may stand as terms of their own.
    """
    kind = type(x)  # patterns take twice as long, and a model has tens of thousands of indices
    if kind is Var:
        return {x: 1}, 0
    if kind is Const:
        return {}, int(x.value)  # type: ignore[attr-defined]
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

    known  by the identity of indices, what was found for them: they must stay alive as long as it does.
    """
    terms: dict[Expr, int] = {}
    constant, stride = 0, math.prod(shape)
    for i, size in zip(index, shape, strict=True):
        stride //= size or 1
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
