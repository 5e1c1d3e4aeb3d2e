"""Look-ups in constant tables of 256 bytes, a vector of them at a time, where the machine has an instruction for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lithe.codegen.llvm.values import literal, vector
from lithe.ir.loops import Binary, Buffer, Cast, Const, Expr, Instruction
from lithe.types import INT8, UINT8

if TYPE_CHECKING:
    from lithe.codegen.llvm.expressions import ExpressionWriter

ENTRIES = 256
LANES = 64  # bytes of one operand of the instruction


def is_table(buffer: Buffer, index: tuple[Expr, ...]) -> bool:
    return len(index) == 1 and buffer.storage.data is not None and buffer.nbytes == ENTRIES and buffer.dtype.bytes == 1


def look_up(writer: ExpressionWriter, instruction: Instruction, buffer: Buffer, index: Expr, lanes: int) -> str:
    """The elements at `lanes` places: two look-ups in half a table each, of which the highest bit chooses."""
    places = low_byte(writer, index, lanes)
    if lanes > LANES:
        raise TypeError(f"{instruction.name} has no form with {lanes} lanes")
    if lanes < LANES:
        places = writer.let(f"shufflevector {_bytes(lanes)} {places}, {_bytes(lanes)} poison, {_first(LANES, lanes)}")
    pointer = writer.pointers[buffer.storage]
    quarters = []
    for number in range(4):
        key = ("table", buffer.storage, number)
        text = writer.known(key)
        if text is None:
            at = writer.beside(pointer, number * LANES)
            text = writer.let(f"load {_bytes(LANES)}, ptr {at}, align 1")
            writer.scopes.keep(key, text)
        quarters.append(text)
    kind = _bytes(LANES)
    halves = [
        writer.call(kind, instruction.spelling["llvm"], [(kind, a), (kind, places), (kind, b)])
        for a, b in (quarters[:2], quarters[2:])
    ]
    flags = vector("i1", LANES)
    upper = writer.let(f"icmp slt {kind} {places}, zeroinitializer")
    found = writer.let(f"select {flags} {upper}, {kind} {halves[1]}, {kind} {halves[0]}")
    if lanes == LANES:
        return found
    return writer.let(f"shufflevector {kind} {found}, {kind} poison, {_first(lanes, lanes)}")


def low_byte(writer: ExpressionWriter, x: Expr, lanes: int) -> str:
    """The lowest 8 bits of an index: sums need no more of their operands than that."""
    known = writer.memo.get(x)
    if known is not None and known.dtype.bits == 8 and known.lanes == lanes:
        return known.text
    match x:
        case Const(value, _):
            return literal(int(value), INT8, lanes)
        case Cast(a, dtype) if a.dtype.is_integer and dtype.is_integer and dtype.bits >= 8:
            return low_byte(writer, a, lanes)
        case Binary("add" | "sub" | "and" | "or" | "xor", a, b) if x.dtype.bits >= 8:
            left, right = low_byte(writer, a, lanes), low_byte(writer, b, lanes)
            return writer.let(f"{x.op} {_bytes(lanes)} {left}, {right}")
    found = writer.spread(writer.value(x), lanes)
    return found.text if x.dtype.bits == 8 else writer.cast(found, UINT8).text


def _bytes(lanes: int) -> str:
    return vector("i8", lanes)


def _first(length: int, used: int) -> str:
    """A shuffle's choice of the first `used` elements, with more places behind them."""
    chosen = ", ".join(f"i32 {n}" if n < used else "i32 poison" for n in range(length))
    return f"<{length} x i32> <{chosen}>"
