"""Link object files into memory of this process and call them.

    image = Image([object_0, object_1])
    run = image.function("run", ctypes.c_int, ctypes.c_void_p)     # keeps the image alive

The linker here takes about a millisecond and needs neither llvmlite (a tenth of a second to import) nor numpy.
It knows what LLVM writes for x86-64 with the small code model and position-independent code; on other processors and
systems LLVM's own loader (MCJIT) does the work. One mapping holds an image, in three parts, none of which can be
written and executed at the same time:

    code  read, execute       functions, and jumps to functions outside of the image
    data  read                constants, and the table of addresses (GOT)
    state read, write         variables

Source of the relocations: System V ABI, AMD64 supplement 1.0, table 4.9.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

from lithe.errors import CompileError, StateError
from lithe.runtime import elf
from lithe.runtime.elf import ObjectFile, Relocation, Section, Symbol, damaged

PAGE = mmap.PAGESIZE
LARGEST = 1 << 30  # bytes of an image; also keeps every distance within the 32 bits of a relative address
CODE, DATA, STATE = 0, 1, 2
_PROTECTION = (mmap.PROT_READ | mmap.PROT_EXEC, mmap.PROT_READ, mmap.PROT_READ | mmap.PROT_WRITE)

_R_64, _R_PC32, _R_PLT32, _R_GOTPCREL, _R_32, _R_32S, _R_PC64, _R_GOTPCRELX, _R_REX_GOTPCRELX = (
    (1, 2, 4, 9, 10, 11, 24, 41, 42)
)  # fmt: skip
_THROUGH_TABLE = (_R_GOTPCREL, _R_GOTPCRELX, _R_REX_GOTPCRELX)
_STUB = 16  # bytes of a jump through the table


@lru_cache(None)
def memory_functions() -> dict[str, int]:
    """Addresses of the C functions that LLVM calls of its own accord."""
    library = ctypes.CDLL(None) if os.name != "nt" else ctypes.cdll.msvcrt
    return {name: _address_of(library[name]) for name in ("memcpy", "memmove", "memset")}


def _address_of(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def links_here() -> bool:
    """Whether this module's own linker serves this machine."""
    return sys.platform == "linux" and os.uname().machine == "x86_64" and struct.calcsize("P") == 8


class Image:
    """Object files in executable memory, linked with each other.

    objects    relocatable objects for this machine; at most one defines a name (weak definitions give way).
    externals  addresses of functions outside, by name; memcpy, memmove and memset are there anyway.
    link       "own" or "llvm"; by default the first where it can.

    Raises CompileError for a damaged object, a name that nobody defines or two do, or where the system does
    not let memory become executable.
    """

    def __init__(
        self,
        objects: Sequence[bytes | memoryview],
        externals: Mapping[str, int] | None = None,
        *,
        link: Literal["own", "llvm"] | None = None,
    ) -> None:
        outside = {**memory_functions(), **(externals or {})}
        files = [elf.read_object(data, f"object {n}") for n, data in enumerate(objects)]
        _check_names(files, outside)
        self._image: _Mapped | _Jitted | None
        if link == "own" or (link is None and links_here()):
            self._image = _Linker(files, outside).image()
        else:
            self._image = _Jitted(objects, files, outside)

    def address(self, symbol: str) -> int:
        """Where a function or constant lies. The address is valid as long as the image, or a function of it, lives."""
        return self._alive().address(symbol)

    def function(self, symbol: str, restype: Any, *argtypes: Any) -> Callable[..., Any]:
        """A callable through ctypes, which keeps the code in memory, even after `close`."""
        image = self._alive()
        made = ctypes.CFUNCTYPE(restype, *argtypes)(image.address(symbol, code=True))
        made.image = image  # type: ignore[attr-defined]
        return made

    def close(self) -> None:
        """Gives the memory back, once no function made from the image is left."""
        self._image = None

    def _alive(self) -> _Mapped | _Jitted:
        if self._image is None:
            raise StateError("this code image is closed")
        return self._image


def _check_names(files: list[ObjectFile], outside: Mapping[str, int]) -> None:
    """Each name that is used is defined, by one object."""
    strong: dict[str, str] = {}
    defined: set[str] = set()
    for file in files:
        for symbol in file.symbols:
            if symbol.section == elf.UNDEFINED or symbol.binding == elf.LOCAL:
                continue
            defined.add(symbol.name)
            if symbol.binding == elf.GLOBAL:
                if symbol.name in strong:
                    raise CompileError(f"{symbol.name!r} is defined by {strong[symbol.name]} too", where=file.name)
                strong[symbol.name] = file.name
    for file in files:
        for symbol in file.symbols[1:]:
            if symbol.section == elf.UNDEFINED and symbol.name not in defined and symbol.name not in outside:
                raise CompileError(f"the code calls {symbol.name!r}, which is not defined", where=file.name)


class _Mapped:
    """The memory of an image, until nobody needs it."""

    def __init__(self, base: int, size: int, code: int, names: dict[str, int]) -> None:
        self.base, self.code_end, self.names = base, base + code, names
        weakref.finalize(self, _unmap, base, size).atexit = False  # threads may still run in it at exit

    def address(self, symbol: str, code: bool = False) -> int:
        found = self.names.get(symbol)
        if found is None or (code and not self.base <= found < self.code_end):
            raise CompileError(f"the compiled code has no {'function' if code else 'symbol'} {symbol!r}")
        return found


class _Linker:
    """Lays out the sections of several objects, then fills in the addresses."""

    def __init__(self, files: list[ObjectFile], outside: Mapping[str, int]) -> None:
        self.files, self.outside = files, outside
        self.places: dict[tuple[int, int], int] = {}  # (file, section) -> offset in the image
        self.table: dict[object, int] = {}  # symbol -> offset of its address in the table
        self.stubs: dict[str, int] = {}  # function outside -> offset of the jump to it
        self.winners = self._winners()
        self.starts, self.size = self._layout()
        self.base = 0
        self.bytes = bytearray(self.size)

    def image(self) -> _Mapped:
        """The finished image, mapped with its final protection."""
        self.base = _map(self.size)
        try:
            self._write()
            ctypes.memmove(self.base, (ctypes.c_char * self.size).from_buffer(self.bytes), self.size)
            ends = [*self.starts[1:], self.size]
            for start, end, protection in zip(self.starts, ends, _PROTECTION, strict=True):
                _protect(self.base + start, end - start, protection)
        except CompileError:
            _unmap(self.base, self.size)
            raise
        names = {
            name: address
            for name, (n, symbol) in self.winners.items()
            if (address := self._defined(n, symbol)) is not None
        }
        return _Mapped(self.base, self.size, self.starts[1], names)

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
            struct.pack_into("<Q", self.bytes, at, self._named(str(key)) if symbol is None else self._value(n, symbol))
        for name, at in self.stubs.items():
            # jmp *[rip + distance], then a trap
            struct.pack_into("<BBi", self.bytes, at, 0xFF, 0x25, self.table[name] - (at + 6))
            self.bytes[at + 6 : at + _STUB] = b"\xcc" * (_STUB - 6)
        for n, file in enumerate(self.files):
            for index, relocations in file.relocations.items():
                if (place := self.places.get((n, index))) is not None:
                    for r in relocations:
                        self._relocate(n, file, file.sections[index], place, r)

    def _defined(self, n: int, symbol: Symbol) -> int | None:
        if symbol.section == elf.ABSOLUTE:
            return symbol.value
        place = self.places.get((n, symbol.section))
        return None if place is None else self.base + place + symbol.value

    def _named(self, name: str) -> int:
        """The address behind a name that all objects share."""
        return self._value(*self.winners[name]) if name in self.winners else self.outside[name]

    def _value(self, n: int, symbol: Symbol) -> int:
        if symbol.section == elf.UNDEFINED:
            return self._named(symbol.name)
        if symbol.binding != elf.LOCAL and self.winners[symbol.name] != (n, symbol):
            n, symbol = self.winners[symbol.name]
        address = self._defined(n, symbol)
        if address is None:
            raise damaged(f"{symbol.name!r} lies in a section that is not loaded", self.files[n].name)
        return address

    def _relocate(self, n: int, file: ObjectFile, section: Section, place: int, r: Relocation) -> None:
        symbol = file.symbols[r.symbol]
        at = self.base + place + r.offset
        width = 8 if r.form in (_R_64, _R_PC64) else 4
        if section.kind != elf.PROGBITS or r.offset + width > section.size:
            raise damaged(f"a relocation at byte {r.offset} of a section of {section.size}", file.name)
        if r.form == _R_64:
            value, form = (self._value(n, symbol) + r.addend) % (1 << 64), "<Q"
        elif r.form == _R_PC64:
            value, form = self._value(n, symbol) + r.addend - at, "<q"
        elif r.form == _R_PC32 or (r.form == _R_PLT32 and not self._is_outside(symbol)):
            value, form = self._value(n, symbol) + r.addend - at, "<i"
        elif r.form == _R_PLT32:
            value, form = self.base + self.stubs[symbol.name] + r.addend - at, "<i"
        elif r.form in _THROUGH_TABLE:
            value, form = self.base + self.table[self._key(n, symbol)] + r.addend - at, "<i"
        elif r.form in (_R_32, _R_32S):
            value, form = self._value(n, symbol) + r.addend, "<I" if r.form == _R_32 else "<i"
        else:
            raise damaged(f"relocation type {r.form} is not known", file.name)
        try:
            struct.pack_into(form, self.bytes, place + r.offset, value)
        except struct.error as error:
            raise damaged(f"{symbol.name!r} is out of reach for relocation type {r.form}", file.name) from error


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


class _Jitted:
    """The same through LLVM's loader, on machines that the linker here does not know."""

    def __init__(
        self, objects: Sequence[bytes | memoryview], files: list[ObjectFile], outside: Mapping[str, int]
    ) -> None:
        import platform  # slow to import, and needed on this way only

        try:
            import llvmlite.binding as llvm
        except ImportError as error:
            raise CompileError("loading code on this machine needs llvmlite", hint="pip install llvmlite") from error
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        machine = llvm.Target.from_default_triple().create_target_machine()
        expected = elf.MACHINES.get(platform.machine().lower())
        for file in files:
            if file.machine != expected:
                raise damaged(f"for machine {file.machine}, expected {expected} ({platform.machine()})", file.name)
        for name, address in outside.items():
            llvm.add_symbol(name, address)
        self.engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
        try:
            for data in objects:
                self.engine.add_object_file(llvm.ObjectFileRef.from_data(bytes(data)))
            self.engine.finalize_object()
        except RuntimeError as error:
            raise CompileError(f"LLVM cannot load the object: {error}") from error

    def address(self, symbol: str, code: bool = False) -> int:
        find = self.engine.get_function_address if code else self.engine.get_global_value_address
        if not (found := find(symbol)):
            raise CompileError(f"the compiled code has no {'function' if code else 'symbol'} {symbol!r}")
        return found


@lru_cache(None)
def _system() -> tuple[Any, Any, Any]:
    library = ctypes.CDLL(None, use_errno=True)
    map_, unmap, protect = library.mmap, library.munmap, library.mprotect
    map_.restype = ctypes.c_void_p
    map_.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    unmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return map_, unmap, protect


def _map(size: int) -> int:
    map_, _, _ = _system()
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    base = map_(None, size, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0)
    if base is None or base == ctypes.c_void_p(-1).value:
        raise CompileError(f"no memory for {size} bytes of code: {os.strerror(ctypes.get_errno())}")
    return base


def _unmap(base: int, size: int) -> None:
    _, unmap, _ = _system()
    unmap(base, size)


def _protect(start: int, size: int, protection: int) -> None:
    _, _, protect = _system()
    if size and protect(start, size, protection):
        raise CompileError(
            f"the system does not let memory become executable: {os.strerror(ctypes.get_errno())}",
            hint="allow it (SELinux execmem, systemd MemoryDenyWriteExecute), or use the reference executor",
        )
