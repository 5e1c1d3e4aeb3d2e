"""Memory between pages that nobody may touch; programs run in it.

Every storage of a program lies alone, its last byte before such a page or its first byte behind one, and what a
program must not write can only be read. A load or store outside of a storage, or a store to an input or constant,
ends the process. Contract: no byte outside of the storages is touched, neither read nor written.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lithe.codegen.llvm.emit import print_entry, print_kernel, print_module
from lithe.codegen.llvm.threads import DECLARATIONS, print_threads
from lithe.codegen.llvm.toolchain import Compiler, Job, Settings
from lithe.errors import LimitError
from lithe.ir.loops import Buffer, Kernel
from lithe.ir.program import Program
from lithe.lower import lower
from lithe.lower.memory_plan import SLACK
from lithe.runtime.loader import Image
from lithe.runtime.workers import RUN, sync_block
from lithe.targets.cpu import Target
from lithe.targets.host import host
from tests.llvm_backend import graph_of, smaller_targets
from tests.ops.cases import Case

PAGE = mmap.PAGESIZE
NOTHING, READ, READ_WRITE = 0, mmap.PROT_READ, mmap.PROT_READ | mmap.PROT_WRITE
FILLS = (0x00, 0xA5, 0xFF)  # zeros, something, and what is no number in every type of floats
PLACES = ("upper", "lower")  # beside which forbidden page a storage lies
LINES = 2500  # of a module

Areas = list[tuple[int, int]]  # (offset, size)


def library() -> Any:
    """The C library with the types of the functions used here."""
    found = ctypes.CDLL(None, use_errno=True)
    found.mmap.restype = ctypes.c_void_p
    found.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    found.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    found.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    return found


C = library()


def pages(size: int) -> int:
    """The size in whole pages, in bytes."""
    return -(-size // PAGE) * PAGE


def apart(sizes: Iterable[int], place: str = "upper") -> tuple[list[int], int]:
    """(an offset for each size, bytes needed): each in pages of its own, with a free page around each.

    >>> apart([10, PAGE]) == ([2 * PAGE - 10, 3 * PAGE], 5 * PAGE)
    True
    """
    offsets, at = [], PAGE
    for size in sizes:
        offsets.append(at + (pages(size) - size if place == "upper" else 0))
        at += pages(size) + PAGE
    return offsets, at


class Memory:
    """Bytes in which only the areas given may be touched: (offset, size) each, in pages of their own."""

    def __init__(self, total: int, areas: Areas) -> None:
        base = C.mmap(None, total, NOTHING, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
        if base in (None, ctypes.c_void_p(-1).value):
            raise OSError(ctypes.get_errno(), f"no memory for {total} bytes")
        self.base, self.total = base, total
        self.areas = [area for area in areas if area[1]]
        for offset, size in self.areas:
            self.protect(offset, size, READ_WRITE)

    def protect(self, offset: int, size: int, protection: int) -> None:
        """Sets what may be done with the pages of an area."""
        start = offset // PAGE * PAGE
        if size and C.mprotect(self.base + start, pages(offset + size) - start, protection):
            raise OSError(ctypes.get_errno(), "mprotect")

    def bytes(self, offset: int, size: int) -> np.ndarray:
        """A part of the memory, which must outlive it."""
        room = (ctypes.c_uint8 * size).from_address(self.base + offset)
        return np.frombuffer(room, np.uint8) if size else np.empty(0, np.uint8)

    def around(self, offset: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """What lies in the pages of an area before it and behind it."""
        start, end = offset // PAGE * PAGE, pages(offset + size)
        return self.bytes(start, offset - start), self.bytes(offset + size, end - offset - size)

    def close(self) -> None:
        C.munmap(self.base, self.total)


@dataclass(frozen=True)
class Outcome:
    """failure  0, or the number of the check that failed; arrays  the outputs, then the variables."""

    failure: int
    arrays: tuple[np.ndarray, ...]

    def equals(self, other: Outcome) -> bool:
        """Whether all bits are the same."""
        return self.failure == other.failure and (
            bool(self.failure)
            or all(a.tobytes() == b.tobytes() for a, b in zip(self.arrays, other.arrays, strict=True))
        )


def placed(program: Program, place: str) -> tuple[Program, Areas, Areas]:
    """(the program with every storage alone, the storages in its arena, those among its constants)."""
    arena, arena_bytes = apart((b.nbytes for b in program.arena), place)
    constants, constant_bytes = apart((b.nbytes for b in program.constants), place)
    moved = replace(
        program,
        arena=dict(zip(program.arena, arena, strict=True)), arena_bytes=arena_bytes,
        constants=dict(zip(program.constants, constants, strict=True)), constant_bytes=constant_bytes,
    )  # fmt: skip
    return moved, areas(moved.arena), areas(moved.constants)


def areas(offsets: dict[Buffer, int]) -> Areas:
    return [(at, b.nbytes) for b, at in offsets.items() if b.nbytes]


def shifted(program: Program, place: str) -> tuple[Program, Areas, Areas]:
    """(the program with its storages as they lay, the arena as one area, the constants as one), without the slack."""
    sizes = program.arena_bytes - SLACK, program.constant_bytes - SLACK
    (arena,), arena_bytes = apart(sizes[:1], place)
    (constants,), constant_bytes = apart(sizes[1:], place)
    moved = replace(
        program,
        arena={b: at + arena for b, at in program.arena.items()}, arena_bytes=arena_bytes,
        constants={b: at + constants for b, at in program.constants.items()}, constant_bytes=constant_bytes,
    )  # fmt: skip
    return moved, [(arena, sizes[0])], [(constants, sizes[1])]


class Room:
    """A placed program in memory: set inputs, run, read outputs."""

    def __init__(self, program: Program, entry: Callable[[int, int], int], variables: Sequence[int]) -> None:
        self.program, self.entry = program, entry
        self.arena = Memory(program.arena_bytes, areas(program.arena))
        self.constants = Memory(program.constant_bytes, areas(program.constants))
        content = program.constant_block()
        for offset, size in self.constants.areas:
            self.constants.bytes(offset, size)[:] = content[offset : offset + size]
            self.constants.protect(offset, size, READ)
        self.variables = [program.inputs[i] for i in variables]
        kept = {b.storage for b in self.variables}
        self.sources = {b.storage: program.arena[b.storage] for b in program.inputs if b.storage not in kept}

    def view(self, b: Buffer) -> np.ndarray:
        constant = b.storage.data is not None
        memory = self.constants if constant else self.arena
        at = (self.program.constants if constant else self.program.arena)[b.storage]
        return memory.bytes(at, b.nbytes).view(b.dtype.numpy).reshape(b.shape)

    def run(self, inputs: Sequence[np.ndarray], fill: int) -> Outcome:
        """One run in memory that holds `fill` everywhere else. Raises ValueError when bytes around a storage change."""
        for b, at in self.sources.items():
            self.arena.protect(at, b.nbytes, READ_WRITE)
        for offset, size in self.arena.areas:
            start = offset // PAGE * PAGE
            self.arena.bytes(start, pages(offset + size) - start)[:] = fill
        for b, x in zip(self.program.inputs, inputs, strict=True):
            self.view(b)[...] = np.asarray(x).reshape(b.shape)
        for b, at in self.sources.items():
            self.arena.protect(at, b.nbytes, READ)
        failure = self.entry(self.arena.base, self.constants.base)
        for offset, size in self.arena.areas:
            if any((part != fill).any() for part in self.arena.around(offset, size)):
                raise ValueError(f"bytes around a storage of {size} bytes were written")
        return Outcome(failure, tuple(self.view(b).copy() for b in (*self.program.outputs, *self.variables)))

    def close(self) -> None:
        self.arena.close()
        self.constants.close()


@dataclass(frozen=True)
class Prepared:
    """A row as a program, and the names of its functions: one entry for each of PLACES."""

    case: Case
    programs: dict[str, Program]
    messages: list[str]
    entries: dict[str, str]
    text: list[str]

    def inputs(self, arrays: Sequence[np.ndarray | None]) -> list[np.ndarray]:
        """The values of those inputs that are no constants."""
        return [a for i, a in enumerate(arrays) if a is not None and i not in self.case.constants]

    def variables(self) -> list[int]:
        """Positions of variables among the program's inputs."""
        given = [i for i, t in enumerate(self.case.inputs) if t is not None and i not in self.case.constants]
        return [given.index(i) for i in self.case.variables]


def targets() -> dict[str, Target | None]:
    """How rows may be lowered: for this machine, for less of it, or ("plain") as loops without a schedule."""
    return {**smaller_targets(), "plain": None}


def prepare(case: Case, number: int, target: Target | None) -> Prepared:
    """Lowers and prints a row; its functions are named by `number`."""
    program = lower(graph_of(case), target, case.model())
    messages = program.messages()
    failures = {text: n + 1 for n, text in enumerate(messages)}
    symbols: dict[Kernel, str] = {}
    text: list[str] = []
    for kernel in program.kernels():
        symbols[kernel] = f"kernel{number}_{len(symbols)}"
        text.append(print_kernel(kernel, symbols[kernel], failures))
    programs = {place: placed(program, place)[0] for place in PLACES}
    entries = {place: f"run{number}_{place}" for place in PLACES}
    for place, name in entries.items():
        body, _, _ = print_entry(programs[place], symbols, name).partition("\n}")
        text.append("\n".join([body, "}", *DECLARATIONS]))
    return Prepared(case, programs, messages, entries, text)


def entry_of(image: Image, name: str) -> Callable[[int, int], int]:
    """An entry as a function of the arena and the constants, for one thread."""
    sync, pointer, number = sync_block(), ctypes.c_void_p, ctypes.c_int
    call = image.function(RUN, number, pointer, pointer, pointer, number, pointer)
    return lambda arena, constants: call(image.address(name), arena, constants, 1, sync.ctypes.data)


def compiled(cases: Iterable[Case], target: Target | None) -> Iterator[tuple[list[Prepared], Image]]:
    """The rows in batches, each with its machine code."""
    features = host().feature_string if target is None else target.features
    waiting: list[tuple[list[Prepared], Job]] = []
    batch: list[Prepared] = []
    with Compiler(Settings(host().triple, features=features), workers=1) as compiler:
        threads = compiler.submit(print_threads(host().system, host().architecture))

        def submit() -> None:
            text = print_module([t for p in batch for t in p.text])
            waiting.append((list(batch), compiler.submit(text, f"{batch[0].case} and others")))
            batch.clear()

        for number, case in enumerate(cases):
            try:
                batch.append(prepare(case, number, target))
            except LimitError:  # a refusal, too
                continue
            except Exception as error:
                error.add_note(f"while lowering {case}")
                raise
            if sum(t.count("\n") for p in batch for t in p.text) > LINES:
                submit()
        if batch:
            submit()
        for group, job in waiting:
            yield group, Image([job.result(), threads.result()])
