"""`tile` loops as instructions of Intel's AMX, whose registers hold tiles of up to 16 rows of 64 bytes.

What such a loop does is told from its form: rows are loaded or stored, or tiles are multiplied. The locals that
products name are registers, chosen by number here. A register has one shape in all of a function, so the unit is
configured once, where the function begins, and released wherever it returns. Each thread that runs it has a unit.

Only intrinsics that name registers by number are used. With those that leave the choice to LLVM, it would configure
the unit itself, and again wherever it likes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from lithe.codegen.llvm.expressions import ExpressionWriter
from lithe.ir.loops import (
    Alloc,
    Buffer,
    Expr,
    For,
    Intrinsic,
    Kernel,
    Load,
    Stmt,
    Store,
    Var,
    statements,
)

REGISTERS, ROWS, ROW_BYTES = 8, 16, 64
PALETTE = 1  # that of eight registers of this size (Intel SDM vol. 1, 18.2)


@dataclass
class Registers:
    """Which tile is in which register of a function."""

    tiles: frozenset[Buffer]
    shapes: list[tuple[int, int]] = field(default_factory=list)  # rows and bytes of a row, by register
    held: dict[Buffer, int] = field(default_factory=dict)

    def take(self, tile: Buffer) -> None:
        """Gives a tile a register: one that is free and has its shape, or one that has no shape yet."""
        shape = tile.shape[0], tile.nbytes // tile.shape[0]
        taken = {n for t, n in self.held.items() if t is not tile}
        number = next((n for n, s in enumerate(self.shapes) if s == shape and n not in taken), len(self.shapes))
        if number == REGISTERS or shape[0] > ROWS or shape[1] > ROW_BYTES or shape[1] % 4:
            raise TypeError(f"no register is left for {tile!r}, or none is that large")
        if number == len(self.shapes):
            self.shapes.append(shape)
        self.held[tile] = number

    def give_back(self, body: tuple[Stmt, ...]) -> None:
        """Frees the registers of the tiles that a body allocates, where it ends."""
        for s in body:
            if isinstance(s, Alloc):
                self.held.pop(s.buffer, None)

    def configuration(self) -> bytes:
        """What tells the unit of them: the palette, a row to begin with (0), for each the bytes of a row, the rows."""
        widths = b"".join(width.to_bytes(2, "little") for _, width in self.shapes)
        heights = bytes(rows for rows, _ in self.shapes)
        return bytes([PALETTE]).ljust(16, b"\0") + widths.ljust(32, b"\0") + heights.ljust(16, b"\0")


def registers(kernel: Kernel) -> Registers:
    """Those of a kernel, none of them taken: its tiles are what its products name."""
    products = (_product(s) for s in statements(kernel.body) if isinstance(s, For) and s.kind == "tile")
    return Registers(frozenset(b.storage for p in products if p is not None for b in p[1:]))


class TileWriter(ExpressionWriter):
    """Writes `tile` loops. The statement writer supplies two functions beside what expressions need."""

    registers: Registers
    symbol: str
    do: Callable[[str], None]  # writes an instruction without a result
    forget: Callable[[set[Buffer]], None]  # what was known of memory

    def tile(self, s: For) -> None:
        held, multiplied = self.registers.held, _product(s)
        if multiplied is not None:
            name, *tiles = multiplied
            self.tile_instruction(name, *(f"i8 {held[b.storage]}" for b in tiles))
            return
        match s:
            case For(r, _, (For(l, _, (Store(to, at, Load(of, place)),), "vector"),)):
                if to in held and at == (r, l):
                    self.tile_instruction("llvm.x86.tileloadd64", f"i8 {held[to]}", *self.rows(of, place, r, l))
                    return
                if of in held and place == (r, l):
                    self.tile_instruction("llvm.x86.tilestored64", f"i8 {held[of]}", *self.rows(to, at, r, l))
                    self.forget({to.storage})
                    return
        raise TypeError("the LLVM writer has no rule for this tile loop")

    def tile_instruction(self, name: str, *operands: str) -> None:
        self.declarations.add(f"declare void @{name}({', '.join(o.split()[0] for o in operands)})")
        self.do(f"call void @{name}({', '.join(operands)})")

    def rows(self, b: Buffer, index: tuple[Expr, ...], row: Var, element: Var) -> tuple[str, str]:
        """Where the rows of a tile lie: the first one, and the bytes from one to the next."""
        _, sums = self.flattened(b, index)
        if sums is None or sums[0].get(element) != 1:
            raise TypeError(f"the rows of a tile do not lie at one distance in {b!r}")
        self.numbers |= {row: 0, element: 0}
        pointer = self.place(b, index).pointer
        del self.numbers[row], self.numbers[element]
        return f"ptr {pointer}", f"i64 {sums[0].get(row, 0) * b.dtype.bytes}"

    def begin_tiles(self) -> list[str]:
        """The lines that configure the unit, when the function's text is known."""
        if not self.registers.shapes:
            return []
        text = "".join(f"\\{byte:02X}" for byte in self.registers.configuration())
        self.declarations |= {
            f'@{self.symbol}_tiles = internal constant [64 x i8] c"{text}", align 64',
            "declare void @llvm.x86.ldtilecfg(ptr)", "declare void @llvm.x86.tilerelease()",
        }  # fmt: skip
        return [f"  call void @llvm.x86.ldtilecfg(ptr @{self.symbol}_tiles)"]

    def end_tiles(self) -> list[str]:
        """The lines before the function returns."""
        return ["  call void @llvm.x86.tilerelease()"] if self.registers.shapes else []


def _product(s: For) -> tuple[str, Buffer, Buffer, Buffer] | None:
    """(intrinsic, sums, left, right) of a loop that multiplies tiles."""
    match s:
        case For(
            r, _, (For(l, _, (For(d, _, (Store(total, at, Intrinsic(instruction, args)),), "serial"),), "vector"),)
        ):
            loads = [a for a in args if isinstance(a, Load)]
            if [at, *(a.index for a in loads)] == [(r, l), (r, l), (r, d), (d, l)] and loads[0].buffer is total:
                return instruction.spelling["llvm"], total, loads[1].buffer, loads[2].buffer
    return None
