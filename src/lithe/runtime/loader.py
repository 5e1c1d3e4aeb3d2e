"""Put machine code into memory of this process and call it.

    image = Image([object_0, object_1])                            # or [a linked image]
    run = image.function("run", ctypes.c_int, ctypes.c_void_p)     # keeps the image alive

Objects are linked first (see `lithe.runtime.linker`), which the cache has done already for the code that it keeps.
Loading a linked image takes a tenth of a millisecond and needs neither llvmlite (a tenth of a second to import) nor
numpy; on other processors and systems LLVM's own loader (MCJIT) does the work. One mapping holds an image, in three
parts, none of which can be written and executed at the same time:

    code  read, execute       functions, and jumps to functions outside of the image
    data  read                constants, and the table of addresses (GOT)
    state read, write         variables
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from lithe.errors import CompileError, StateError
from lithe.targets.host import c_library

PAGE = mmap.PAGESIZE
LARGEST = 1 << 30  # bytes of an image; also keeps every distance within the 32 bits of a relative address
CODE, DATA, STATE = 0, 1, 2
_PROTECTION = (mmap.PROT_READ | mmap.PROT_EXEC, mmap.PROT_READ, mmap.PROT_READ | mmap.PROT_WRITE)
_MAGIC = b"LITHEIMG"
_HEADER = struct.Struct("<8sQ")
# What generated code calls, and its name in the C library: what LLVM adds, what not all processors can, how to wait.
_C_FUNCTIONS = {
    name: name
    for name in (
        "memcpy", "memmove", "memset", "floorf", "ceilf", "rintf", "truncf", "floor", "ceil", "rint", "trunc", "fmaf",
        "fmodf", "fmod", "syscall",
    )
} | {"lithe_sleep": "usleep"}  # fmt: skip

Word = tuple[int, int, int, bool]


class Linked(NamedTuple):
    """Code that has no address yet.

    parts    offsets at which code, data and state begin, and the end: multiples of a page.
    names    offsets of functions and constants.
    outside  names of what lies outside.
    words    (offset, n, addend, relative) of eight bytes that hold the address of outside[n] (-1: of the image) plus
             the addend; where they are relative, less the address of these bytes.
    content  a byte string of the image's size.
    """

    parts: tuple[int, ...]
    names: dict[str, int]
    outside: list[str]
    words: list[Word]
    content: bytes | bytearray | memoryview

    def packed(self) -> bytes:
        """The image as one byte string, which `Image` takes."""
        head = json.dumps([self.parts, self.names, self.outside, self.words]).encode()
        return b"".join([_HEADER.pack(_MAGIC, len(head)), head, self.content])

    @staticmethod
    def parse(data: bytes | memoryview) -> Linked:
        """What `packed` made; it is trusted, as the cache has checked it."""
        view = memoryview(data)
        _, length = _HEADER.unpack_from(view)
        parts, names, outside, words = json.loads(bytes(view[_HEADER.size : _HEADER.size + length]))
        content = view[_HEADER.size + length :]
        if len(content) != parts[-1]:
            raise damaged(f"an image of {parts[-1]} bytes has {len(content)}", "image")
        return Linked(parts, names, outside, words, content)


def damaged(problem: str, name: str) -> CompileError:
    return CompileError(f"damaged object file: {problem}", where=name, hint="clear the code cache: lithe cache clear")


@lru_cache(None)
def c_function(name: str) -> int | None:
    """The address of a function that generated code may call, by the name it has there; None for any other.

    Each is looked up when it is asked for: most code calls one or two.
    """
    found = _C_FUNCTIONS.get(name, "")
    library: Any
    if sys.platform == "win32":
        library, found = (ctypes.windll.kernel32, "Sleep") if found == "usleep" else (ctypes.cdll.msvcrt, found)
    else:
        library = c_library()
    function = getattr(library, found, None) if found else None
    return None if function is None else ctypes.cast(function, ctypes.c_void_p).value


def links_here() -> bool:
    """Whether our own linker serves this machine."""
    return sys.platform == "linux" and os.uname().machine == "x86_64" and struct.calcsize("P") == 8


def kept_form(objects: Sequence[bytes]) -> tuple[bytes, ...]:
    """Objects in the form in which they load the quickest on this machine. Raises CompileError as `Image` does."""
    if not links_here():
        return tuple(objects)
    from lithe.runtime.linker import link

    return (link(objects).packed(),)


class Image:
    """Code in executable memory.

    objects    relocatable objects for this machine, which are linked with each other; at most one defines a name
               (weak definitions give way). Or one image that is linked already (see `kept_form`).
    externals  addresses of what lies outside, by name, beside those of `c_function`.
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
        given = externals or {}

        def outside(name: str) -> int:
            address = given[name] if name in given else c_function(name)
            if address is None:
                raise CompileError(f"the code calls {name!r}, which is not defined")
            return address

        self._image: _Mapped | _Jitted | None
        if len(objects) == 1 and objects[0][: len(_MAGIC)] == _MAGIC:
            self._image = _place(Linked.parse(objects[0]), outside)
        elif link == "own" or (link is None and links_here()):
            from lithe.runtime import linker

            self._image = _place(linker.link(objects), outside)
        else:
            self._image = _Jitted(objects, outside)

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


class _Mapped:
    """The memory of an image, until nobody needs it."""

    def __init__(self, base: int, linked: Linked) -> None:
        self.base, self.size, self.code_end, self.names = base, linked.parts[-1], linked.parts[DATA], linked.names

    def __del__(self, at_exit: Callable[[], bool] = sys.is_finalizing) -> None:
        if not at_exit():  # when threads may still run in it
            _unmap(self.base, self.size)

    def address(self, symbol: str, code: bool = False) -> int:
        found = self.names.get(symbol)
        if found is None or (code and found >= self.code_end):
            raise CompileError(f"the compiled code has no {'function' if code else 'symbol'} {symbol!r}")
        return self.base + found


def _place(linked: Linked, outside: Callable[[str], int]) -> _Mapped:
    """The image in memory, with its addresses filled in and its final protection."""
    addresses = [outside(name) for name in linked.outside]
    size = linked.parts[-1]
    base = _map(size)
    try:
        memory = memoryview((ctypes.c_char * size).from_address(base)).cast("B")
        memory[:] = linked.content
        addresses.append(base)
        for at, number, addend, relative in linked.words:
            value = addresses[number] + addend - (base + at if relative else 0)
            struct.pack_into("<Q", memory, at, value % (1 << 64))
        for start, end, protection in zip(linked.parts, linked.parts[1:], _PROTECTION, strict=False):
            _protect(base + start, end - start, protection)
    except CompileError:
        _unmap(base, size)
        raise
    return _Mapped(base, linked)


class _Jitted:
    """The same through LLVM's loader, on machines that the linker here does not know."""

    def __init__(self, objects: Sequence[bytes | memoryview], outside: Callable[[str], int]) -> None:
        import platform  # slow to import, and needed on this way only

        from lithe.runtime import elf, linker

        files = linker.read_objects(objects)
        addresses = {name: outside(name) for name in linker.outside_names(files)}

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
        for name, address in addresses.items():
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
    library = c_library()
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
