"""Read relocatable ELF object files, 64 bits little endian; every offset is checked before it is followed.

Object files come from the compile worker, so damage means a bug. It is
answered with CompileError all the same, never with a crash.
Source: System V ABI, chapters 4 and 5 (object files); names of constants as there.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from lithe.runtime.loader import damaged

X86_64 = 62
MACHINES = {"x86_64": X86_64, "amd64": X86_64, "aarch64": 183, "arm64": 183, "riscv64": 243}  # by name of the processor

PROGBITS, SYMTAB, RELA, NOTE, NOBITS, X86_64_UNWIND = 1, 2, 4, 7, 8, 0x70000001
WRITE, ALLOC, EXECUTE, THREAD_LOCAL = 1, 2, 4, 0x400
UNDEFINED, ABSOLUTE, COMMON = 0, 0xFFF1, 0xFFF2
LOCAL, GLOBAL, WEAK = 0, 1, 2

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = struct.Struct("<QQq")


@dataclass(frozen=True)
class Section:
    """`data` is empty for a section of zeros (NOBITS), `size` is its size in memory."""

    name: str
    kind: int
    flags: int
    align: int
    size: int
    data: memoryview


@dataclass(frozen=True)
class Symbol:
    name: str
    binding: int
    section: int
    value: int


@dataclass(frozen=True)
class Relocation:
    offset: int
    symbol: int
    form: int
    addend: int


@dataclass(frozen=True)
class ObjectFile:
    """relocations  by number of the section that they change."""

    name: str
    machine: int
    sections: list[Section]
    symbols: list[Symbol]
    relocations: dict[int, list[Relocation]]


def read_object(data: bytes | memoryview, name: str = "object") -> ObjectFile:
    """The sections, symbols and relocations of one object file. Raises CompileError."""
    view = memoryview(data).cast("B")
    if len(view) < _HEADER.size:
        raise damaged("shorter than its header", name)
    ident, kind, machine, _, _, _, table, _, _, _, _, entry, count, names = _HEADER.unpack_from(view)
    if ident[:6] != b"\x7fELF\x02\x01":
        raise damaged("not an ELF file of 64 bits, little endian", name)
    if kind != 1:
        raise damaged(f"ELF type {kind}, expected 1 (relocatable)", name)
    if entry != _SECTION.size:
        raise damaged(f"section headers of {entry} bytes, expected {_SECTION.size}", name)
    headers = list(_SECTION.iter_unpack(_cut(view, table, count * entry, "section headers", name)))
    texts = _bytes_of(view, headers, names, "section names", name)
    sections = [_section(view, header, texts, name) for header in headers]
    symbols: list[Symbol] = []
    relocations: dict[int, list[Relocation]] = {}
    for _, kind, _, _, offset, size, link, _, _, _ in headers:
        if kind == SYMTAB:
            if symbols:
                raise damaged("two symbol tables", name)
            texts_of_symbols = _bytes_of(view, headers, link, "symbol names", name)
            rows = _rows(view, offset, size, _SYMBOL, "symbols", name)
            symbols = [_symbol(row, texts_of_symbols, sections, name) for row in rows]
    for _, kind, _, _, offset, size, _, target, _, _ in headers:
        if kind == RELA:
            if target >= len(sections):
                raise damaged(f"relocations of section {target} of {len(sections)}", name)
            rows = _rows(view, offset, size, _RELOCATION, "relocations", name)
            found = [Relocation(where, info >> 32, info & 0xFFFFFFFF, addend) for where, info, addend in rows]
            if any(r.symbol >= len(symbols) for r in found):
                raise damaged("a relocation names a symbol that is not there", name)
            relocations.setdefault(target, []).extend(found)
    return ObjectFile(name, machine, sections, symbols, relocations)


def _cut(view: memoryview, offset: int, size: int, what: str, name: str) -> memoryview:
    if offset + size > len(view):
        raise damaged(f"{what} lie at bytes {offset} to {offset + size} of {len(view)}", name)
    return view[offset : offset + size]


def _rows(view: memoryview, offset: int, size: int, form: struct.Struct, what: str, name: str) -> list[tuple]:
    if size % form.size:
        raise damaged(f"{what} fill {size} bytes, not a multiple of {form.size}", name)
    return list(form.iter_unpack(_cut(view, offset, size, what, name)))


def _bytes_of(view: memoryview, headers: list[tuple], index: int, what: str, name: str) -> bytes:
    if index >= len(headers):
        raise damaged(f"{what} in section {index} of {len(headers)}", name)
    return bytes(_cut(view, headers[index][4], headers[index][5], what, name))


def _text(texts: bytes, start: int, name: str) -> str:
    end = texts.find(b"\0", start)
    if start > len(texts) or end < 0:
        raise damaged(f"a name at byte {start} of {len(texts)} has no end", name)
    return texts[start:end].decode(errors="replace")


def _section(view: memoryview, header: tuple, texts: bytes, name: str) -> Section:
    text, kind, flags, _, offset, size, _, _, align, _ = header
    align = align or 1
    if align & (align - 1) or align > 4096:
        raise damaged(f"a section is aligned to {align} bytes", name)
    data = view[:0] if kind in (0, NOBITS) else _cut(view, offset, size, "the bytes of a section", name)
    return Section(_text(texts, text, name), kind, flags, align, size, data)


def _symbol(row: tuple, texts: bytes, sections: list[Section], name: str) -> Symbol:
    text, info, _, section, value, _ = row
    if section not in (UNDEFINED, ABSOLUTE, COMMON):
        if section >= len(sections):
            raise damaged(f"a symbol in section {section} of {len(sections)}", name)
        if value > sections[section].size:
            raise damaged(f"a symbol at byte {value} of a section of {sections[section].size}", name)
    return Symbol(_text(texts, text, name), info >> 4, section, value)
