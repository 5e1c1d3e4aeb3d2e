"""`tile` loops as instructions of Intel's AMX, whose registers hold tiles of up to 16 rows of 64 bytes.

What such a loop does is told from its form: rows are loaded or stored, or tiles are multiplied. The locals that
products name are registers, chosen by number here. Where eight registers, each of one shape, do for all of a function,
the unit is configured once, where the function begins; else (contractions of several depths that follow each other)
wherever the first tile of a group gets its register. It is released wherever the function returns. Each thread that
runs it has a unit.

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
    If,
    Intrinsic,
    Kernel,
    Load,
    Stmt,
    Store,
    Var,
    nodes,
    statements,
)

REGISTERS, ROWS, ROW_BYTES = 8, 16, 64
PALETTE = 1  # that of eight registers of this size (Intel SDM vol. 1, 18.2)


Shapes = list[tuple[int, int]]  # rows and bytes of a row, by register


@dataclass
class Registers:
    """Which tile is in which register of a function.

    several  whether it takes more than one configuration: then each begins where no tile is held.
    """

    tiles: frozenset[Buffer]
    several: bool = False
    configurations: list[Shapes] = field(default_factory=list)
    held: dict[Buffer, int] = field(default_factory=dict)

    def take(self, tile: Buffer) -> bool:
        """Gives a tile a register: one that is free and has its shape, or one that has no shape yet. False: none is."""
        if not self.configurations or (self.several and not self.held):
            self.configurations.append([])
        shapes, shape = self.configurations[-1], (tile.shape[0], tile.nbytes // tile.shape[0])
        taken = {n for t, n in self.held.items() if t is not tile}
        number = next((n for n, s in enumerate(shapes) if s == shape and n not in taken), len(shapes))
        if number == REGISTERS or shape[0] > ROWS or shape[1] > ROW_BYTES or shape[1] % 4:
            return False
        if number == len(shapes):
            shapes.append(shape)
        self.held[tile] = number
        return True

    def give_back(self, body: tuple[Stmt, ...]) -> None:
        """Frees the registers of the tiles that a body allocates, where it ends."""
        for s in body if self.held else ():
            if isinstance(s, Alloc):
                self.held.pop(s.buffer, None)

    def suffice(self, body: tuple[Stmt, ...]) -> bool:
        """Whether every tile of a body gets one."""
        for s in body:
            match s:
                case Alloc(buffer) if buffer in self.tiles and not self.take(buffer):
                    return False
                case For(_, _, inner) if not self.suffice(inner):
                    return False
                case If(_, then, otherwise) if not (self.suffice(then) and self.suffice(otherwise)):
                    return False
        self.give_back(body)
        return True


def registers(kernel: Kernel) -> Registers:
    """Those of a kernel, none of them taken: its tiles are what its products name."""
    products = (_product(s) for s in statements(kernel.body) if isinstance(s, For) and s.kind == "tile")
    tiles = frozenset(b.storage for p in products if p is not None for b in p[1:])
    return Registers(tiles, several=not Registers(tiles).suffice(kernel.body))


def configuration(shapes: Shapes) -> bytes:
    """What tells the unit of them: the palette, a row to begin with (0), for each the bytes of a row, the rows."""
    widths = b"".join(width.to_bytes(2, "little") for _, width in shapes)
    heights = bytes(rows for rows, _ in shapes)
    return bytes([PALETTE]).ljust(16, b"\0") + widths.ljust(32, b"\0") + heights.ljust(16, b"\0")


class TileWriter(ExpressionWriter):
    """Writes `tile` loops. The statement writer supplies two functions beside what expressions need."""

    registers: Registers
    symbol: str
    lane: Var | None
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
        before, self.lane = self.lane, element  # what does not count elements may be any number
        _, sums = self.flattened(b, index)
        terms = {} if sums is None else sums[0]
        if terms.get(element) != 1 or any(x is not row and row in nodes((x,)) for x in terms):
            raise TypeError(f"the rows of a tile do not lie at one distance in {b!r}")
        self.numbers |= {row: 0, element: 0}
        pointer = self.place(b, index).pointer
        del self.numbers[row], self.numbers[element]
        self.lane = before
        return f"ptr {pointer}", f"i64 {terms.get(row, 0) * b.dtype.bytes}"

    def allocate_tile(self, tile: Buffer) -> None:
        """Gives a tile a register, and configures the unit where the function does that more than once."""
        begun = len(self.registers.configurations)
        if not self.registers.take(tile):
            raise TypeError(f"no register is left for {tile!r}, or none is that large")
        if self.registers.several and len(self.registers.configurations) > begun:
            self.do(f"call void @llvm.x86.ldtilecfg(ptr {self.described(begun)})")

    def described(self, number: int) -> str:
        """The name of a configuration."""
        return f"@{self.symbol}_tiles{number or ''}"

    def begin_tiles(self) -> list[str]:
        """The lines that configure the unit once, when the function's text is known."""
        if not self.registers.configurations:
            return []
        self.declarations |= {"declare void @llvm.x86.ldtilecfg(ptr)", "declare void @llvm.x86.tilerelease()"}
        for number, shapes in enumerate(self.registers.configurations):
            text = "".join(f"\\{byte:02X}" for byte in configuration(shapes))
            self.declarations.add(f'{self.described(number)} = internal constant [64 x i8] c"{text}", align 64')
        return [] if self.registers.several else [f"  call void @llvm.x86.ldtilecfg(ptr {self.described(0)})"]

    def end_tiles(self) -> list[str]:
        """The lines before the function returns."""
        return ["  call void @llvm.x86.tilerelease()"] if self.registers.configurations else []


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
