"""Words put together from the bytes of four vectors: one shuffle instead of widening, shifting and joining each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lithe.codegen.llvm.values import literal, vector
from lithe.ir.loops import Binary, Cast, Const, Expr
from lithe.types import INT32, UINT8

if TYPE_CHECKING:
    from lithe.codegen.llvm.expressions import ExpressionWriter

BYTES = 4
FEWEST = 3  # bytes of a word for which it pays


def bytes_of(x: Expr) -> tuple[list[Expr | None], int] | None:
    """(bytes, the lowest first, and a constant) whose exclusive or a word is; None where it is something else."""
    found: list[Expr | None] = [None] * BYTES
    rest, waiting = 0, [x]
    while waiting:
        term, place = waiting.pop(), 0
        match term:
            case Const(value, _):
                rest ^= int(value)
                continue
            case Binary("xor", a, b):
                waiting += [a, b]
                continue
            case Binary("shl", a, Const(bits, _)) if bits in (8, 16, 24):
                term, place = a, int(bits) // 8
        match term:
            case Cast(byte, _) if byte.dtype == UINT8 and found[place] is None:
                found[place] = byte
            case _:
                return None
    return (found, rest) if BYTES - found.count(None) >= FEWEST else None


def shuffled(writer: ExpressionWriter, parts: list[Expr | None], rest: int) -> str | None:
    """The words of as many lanes as the loop has; None where a shuffle does not make them."""
    lanes = writer.lanes
    if lanes < BYTES or lanes & (lanes - 1):
        return None
    values = [None if p is None else writer.value(p) for p in parts]
    if any(v is not None and v.lanes != lanes for v in values):
        return None
    texts = [literal(0, UINT8, lanes) if v is None else v.text for v in values]
    halves = [_beside(writer, lanes, a, b) for a, b in (texts[:2], texts[2:])]
    all_of_them = _beside(writer, 2 * lanes, *halves)
    whole, words = vector("i8", BYTES * lanes), vector("i32", lanes)
    order = ", ".join(f"i32 {row * lanes + n}" for n in range(lanes) for row in range(BYTES))
    mixed = writer.let(f"shufflevector {whole} {all_of_them}, {whole} poison, <{BYTES * lanes} x i32> <{order}>")
    text = writer.let(f"bitcast {whole} {mixed} to {words}")
    return writer.let(f"xor {words} {text}, {literal(rest, INT32, lanes)}") if rest else text


def _beside(writer: ExpressionWriter, lanes: int, a: str, b: str) -> str:
    """One vector of bytes behind the other."""
    kind, order = vector("i8", lanes), ", ".join(f"i32 {n}" for n in range(2 * lanes))
    return writer.let(f"shufflevector {kind} {a}, {kind} {b}, <{2 * lanes} x i32> <{order}>")
