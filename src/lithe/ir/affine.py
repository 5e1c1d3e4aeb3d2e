"""Index expressions as sums of terms: what addresses and vectors are worked out from."""

from __future__ import annotations

from collections.abc import Callable, Container

from lithe.ir.loops import Binary, Buffer, Const, Expr, Load, Var, nodes

Sum = tuple[dict[Expr, int], int]


def affine(x: Expr, opaque: Callable[[Expr], bool] = lambda x: False) -> Sum | None:
    """({term: factor}, constant) when x is a sum of variables with constant factors, else None.

    opaque  says which other expressions (loaded or divided indices) may stand as terms of their own.
    """
    match x:
        case Const(value, _):
            return {}, int(value)
        case Var():
            return {x: 1}, 0
        case Binary("add" | "sub", a, b):
            left, right = affine(a, opaque), affine(b, opaque)
            if left is not None and right is not None:
                sign = 1 if x.op == "add" else -1
                terms = dict(left[0])
                for v, f in right[0].items():
                    terms[v] = terms.get(v, 0) + sign * f
                return terms, left[1] + sign * right[1]
        case Binary("mul", a, b):
            left, right = affine(a, opaque), affine(b, opaque)
            if left is not None and right is not None and not (left[0] and right[0]):
                (terms, c), k = (left, right[1]) if not right[0] else (right, left[1])
                return {v: f * k for v, f in terms.items()}, c * k
    return ({x: 1}, 0) if opaque(x) else None


def same_for_all(var: Var, private: Container[Buffer]) -> Callable[[Expr], bool]:
    """Whether an expression has one value for all iterations: it reads neither the loop's variable nor its locals."""

    def same(x: Expr) -> bool:
        return not any(y is var or (isinstance(y, Load) and y.buffer.storage in private) for y in nodes((x,)))

    return same
