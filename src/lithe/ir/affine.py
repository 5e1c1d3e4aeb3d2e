"""Index expressions as sums of variables: what addresses, vectors and bounds are worked out from."""

from __future__ import annotations

from lithe.ir.loops import Binary, Const, Expr, Var


def affine(x: Expr) -> tuple[dict[Var, int], int] | None:
    """({variable: factor}, constant) when x is a sum of such terms, else None."""
    match x:
        case Const(value, _):
            return {}, int(value)
        case Var():
            return {x: 1}, 0
        case Binary("add" | "sub", a, b):
            left, right = affine(a), affine(b)
            if left is None or right is None:
                return None
            sign = 1 if x.op == "add" else -1
            terms = dict(left[0])
            for v, f in right[0].items():
                terms[v] = terms.get(v, 0) + sign * f
            return terms, left[1] + sign * right[1]
        case Binary("mul", a, b):
            left, right = affine(a), affine(b)
            if left is None or right is None:
                return None
            if right[0] and left[0]:
                return None
            (terms, c), k = (left, right[1]) if not right[0] else (right, left[1])
            return {v: f * k for v, f in terms.items()}, c * k
    return None
