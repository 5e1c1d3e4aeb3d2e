"""Link object files into an image that has no address yet, which `lithe.runtime.loader` then puts into memory.

    image = link([object_0, object_1])

The linker takes a few milliseconds, once for a model: the image is what the code cache keeps. It knows what LLVM writes
for x86-64 with the small code model and position-independent code. Distances within the image are filled in here; what
remains are the few words that hold addresses.

Source of the relocations: System V ABI, AMD64 supplement 1.0, table 4.9.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from lithe.errors import CompileError
from lithe.runtime import elf
from lithe.runtime.elf import ObjectFile, Relocation, Section, Symbol
from lithe.runtime.loader import CODE, DATA, LARGEST, PAGE, STATE, Linked, Word, damaged

_R_64, _R_PC32, _R_PLT32, _R_GOTPCREL, _R_32, _R_32S, _R_PC64, _R_GOTPCRELX, _R_REX_GOTPCRELX = (
    (1, 2, 4, 9, 10, 11, 24, 41, 42)
)  # fmt: skip
_THROUGH_TABLE = (_R_GOTPCREL, _R_GOTPCRELX, _R_REX_GOTPCRELX)
_STUB = 16  # bytes of a jump through the table
_IMAGE, _FIXED = "", None  # what a value counts from: the image's start, nothing, or a name outside
Value = tuple[str | None, int]


def link(objects: Sequence[bytes | memoryview]) -> Linked:
    """The objects as one image. Raises CompileError for a damaged object, or a name that two of them define."""
    return _Linker(read_objects(objects)).image()


def read_objects(objects: Sequence[bytes | memoryview]) -> list[ObjectFile]:
    """The objects' contents; no name is defined by two of them."""
    files = [elf.read_object(data, f"object {n}") for n, data in enumerate(objects)]
    strong: dict[str, str] = {}
    for file in files:
        for symbol in file.symbols:
            if symbol.section != elf.UNDEFINED and symbol.binding == elf.GLOBAL:
                if symbol.name in strong:
                    raise CompileError(f"{symbol.name!r} is defined by {strong[symbol.name]} too", where=file.name)
                strong[symbol.name] = file.name
    return files


def outside_names(files: list[ObjectFile]) -> list[str]:
    """The names that are used and that no object defines."""
    defined = {s.name for file in files for s in file.symbols if s.section != elf.UNDEFINED and s.binding != elf.LOCAL}
    used = (s.name for file in files for s in file.symbols[1:] if s.section == elf.UNDEFINED)
    return [name for name in dict.fromkeys(used) if name not in defined]


class _Linker:
    """Lays out the sections of several objects, then fills in the distances."""

    def __init__(self, files: list[ObjectFile]) -> None:
        self.files = files
        self.places: dict[tuple[int, int], int] = {}  # (file, section) -> offset in the image
        self.table: dict[object, int] = {}  # symbol -> offset of its address in the table
        self.stubs: dict[str, int] = {}  # function outside -> offset of the jump to it
        self.outside: dict[str, int] = {}  # name -> its number
        self.words: list[Word] = []
        self.winners = self._winners()
        self.starts, self.size = self._layout()
        self.bytes = bytearray(self.size)

    def image(self) -> Linked:
        self._write()
        names = {
            name: value[1]
            for name, (n, symbol) in self.winners.items()
            if (value := self._defined(n, symbol)) is not None and value[0] == _IMAGE
        }
        return Linked((*self.starts, self.size), names, list(self.outside), self.words, self.bytes)

    def _winners(self) -> dict[str, tuple[int, Symbol]]:
        """The definition that counts for each name: the strong one, else the first."""
        found: dict[str, tuple[int, Symbol]] = {}
        for n, file in enumerate(self.files):
            if file.machine != elf.X86_64:
                raise damaged(f"for machine {file.machine}, expected {elf.X86_64} (x86-64)", file.name)
            for symbol in file.symbols:
                if symbol.section == elf.COMMON:
                    raise damaged(f"{symbol.name!r} is a common symbol", file.name)
                if symbol.section == elf.UNDEFINED or symbol.binding == elf.LOCAL:
                    continue
                if symbol.binding == elf.GLOBAL or symbol.name not in found:
                    found[symbol.name] = (n, symbol)
        return found

    def _layout(self) -> tuple[list[int], int]:
        """Places for everything: sections by protection, then jumps and table."""
        parts: list[list[tuple[int, int, Section]]] = [[], [], []]
        for n, file in enumerate(self.files):
            for index, section in enumerate(file.sections):
                if (part := _part(section, file.name)) is not None:
                    parts[part].append((n, index, section))
        keys, calls = self._outside_needs()
        starts, at = [], 0
        for part, members in enumerate(parts):
            at = _up(at, PAGE)
            starts.append(at)
            for n, index, section in members:
                at = _up(at, max(section.align, 16))
                self.places[n, index] = at
                at += section.size
                if at > LARGEST:
                    raise damaged(f"its sections exceed {LARGEST} bytes", self.files[n].name)
            if part == CODE:
                at = _up(at, _STUB)
                for name in calls:
                    self.stubs[name] = at
                    at += _STUB
            if part == DATA:
                at = _up(at, 8)
                for key in keys:
                    self.table[key] = at
                    at += 8
        return starts, max(_up(at, PAGE), PAGE)

    def _outside_needs(self) -> tuple[list[object], list[str]]:
        """Symbols whose address goes into the table, and functions outside that are called."""
        keys: dict[object, None] = {}
        calls: dict[str, None] = {}
        for n, file in enumerate(self.files):
            for relocations in file.relocations.values():
                for r in relocations:
                    symbol = file.symbols[r.symbol]
                    if r.symbol == 0:
                        raise damaged("a relocation without a symbol", file.name)
                    if r.form in _THROUGH_TABLE:
                        keys[self._key(n, symbol)] = None
                    elif r.form == _R_PLT32 and self._is_outside(symbol):
                        keys[symbol.name] = calls[symbol.name] = None
        return list(keys), list(calls)

    def _key(self, n: int, symbol: Symbol) -> object:
        return (n, symbol) if symbol.binding == elf.LOCAL else symbol.name

    def _is_outside(self, symbol: Symbol) -> bool:
        return symbol.section == elf.UNDEFINED and symbol.name not in self.winners

    def _write(self) -> None:
        for n, file in enumerate(self.files):
            for index, section in enumerate(file.sections):
                if (at := self.places.get((n, index))) is not None and section.kind == elf.PROGBITS:
                    self.bytes[at : at + section.size] = section.data
        for key, at in self.table.items():
            n, symbol = key if isinstance(key, tuple) else (0, None)
            self._word(at, self._named(str(key)) if symbol is None else self._value(n, symbol))
        for name, at in self.stubs.items():
            # jmp *[rip + distance], then a trap
            struct.pack_into("<BBi", self.bytes, at, 0xFF, 0x25, self.table[name] - (at + 6))
            self.bytes[at + 6 : at + _STUB] = b"\xcc" * (_STUB - 6)
        for n, file in enumerate(self.files):
            for index, relocations in file.relocations.items():
                if (place := self.places.get((n, index))) is not None:
                    for r in relocations:
                        self._relocate(n, file, file.sections[index], place, r)

    def _defined(self, n: int, symbol: Symbol) -> Value | None:
        if symbol.section == elf.ABSOLUTE:
            return _FIXED, symbol.value
        place = self.places.get((n, symbol.section))
        return None if place is None else (_IMAGE, place + symbol.value)

    def _named(self, name: str) -> Value:
        """What stands behind a name that all objects share."""
        return self._value(*self.winners[name]) if name in self.winners else (name, 0)

    def _value(self, n: int, symbol: Symbol) -> Value:
        if symbol.section == elf.UNDEFINED:
            return self._named(symbol.name)
        if symbol.binding != elf.LOCAL and self.winners[symbol.name] != (n, symbol):
            n, symbol = self.winners[symbol.name]
        value = self._defined(n, symbol)
        if value is None:
            raise damaged(f"{symbol.name!r} lies in a section that is not loaded", self.files[n].name)
        return value

    def _word(self, at: int, value: Value, relative: bool = False) -> None:
        """Eight bytes for a value, or for its distance from them."""
        origin, addend = value
        if origin is _FIXED and not relative:
            struct.pack_into("<Q", self.bytes, at, addend % (1 << 64))
        elif origin == _IMAGE and relative:
            struct.pack_into("<q", self.bytes, at, addend - at)
        elif origin is _FIXED:
            raise struct.error
        else:
            number = -1 if not origin else self.outside.setdefault(origin, len(self.outside))
            self.words.append((at, number, addend, relative))

    def _relocate(self, n: int, file: ObjectFile, section: Section, place: int, r: Relocation) -> None:
        symbol, at = file.symbols[r.symbol], place + r.offset
        origin: str | None = _IMAGE
        width = 8 if r.form in (_R_64, _R_PC64) else 4
        if section.kind != elf.PROGBITS or r.offset + width > section.size:
            raise damaged(f"a relocation at byte {r.offset} of a section of {section.size}", file.name)
        if r.form == _R_PLT32 and self._is_outside(symbol):
            value = self.stubs[symbol.name]
        elif r.form in _THROUGH_TABLE:
            value = self.table[self._key(n, symbol)]
        elif r.form in (_R_64, _R_PC64, _R_PC32, _R_PLT32, _R_32, _R_32S):
            origin, value = self._value(n, symbol)
        else:
            raise damaged(f"relocation type {r.form} is not known", file.name)
        value += r.addend
        try:
            if width == 8:
                self._word(at, (origin, value), r.form == _R_PC64)
            elif r.form in (_R_32, _R_32S):
                struct.pack_into("<I" if r.form == _R_32 else "<i", self.bytes, at, _near(origin, _FIXED, value))
            else:
                struct.pack_into("<i", self.bytes, at, _near(origin, _IMAGE, value) - at)
        except struct.error as error:
            raise damaged(f"{symbol.name!r} is out of reach for relocation type {r.form}", file.name) from error


def _near(origin: str | None, expected: str | None, value: int) -> int:
    """The value, if it counts from what is expected; no other one is sure to fit into 32 bits."""
    if origin != expected:
        raise struct.error
    return value


def _part(section: Section, name: str) -> int | None:
    """Which part of the image a section belongs to; None when it is not for memory."""
    if not section.flags & elf.ALLOC or section.name == ".eh_frame" or section.kind in (elf.X86_64_UNWIND, elf.NOTE):
        return None  # nothing unwinds the stack through generated code
    if section.kind not in (elf.PROGBITS, elf.NOBITS):
        raise damaged(f"section {section.name!r} has kind {section.kind}", name)
    if section.flags & elf.THREAD_LOCAL:
        raise damaged(f"section {section.name!r} is thread-local", name)
    if section.flags & elf.EXECUTE:
        if section.flags & elf.WRITE:
            raise damaged(f"section {section.name!r} is code that can be written", name)
        return CODE
    return STATE if section.flags & elf.WRITE else DATA


def _up(offset: int, align: int) -> int:
    return (offset + align - 1) & -align
