"""Runs a graph as machine code: one native call for a whole inference.

A graph becomes an `Artifact` (objects, packed constants, layout of the arena), by lowering and compiling it
or from the code cache; the executor maps it into memory. Neither way loads LLVM into this process, and a
cached model is not even lowered.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lithe.errors import ExecutionError
from lithe.ir.graph import Graph, Tensor
from lithe.ir.loops import Kernel
from lithe.ir.program import Program
from lithe.runtime.cache import Cache, key, numbered
from lithe.runtime.loader import Image
from lithe.targets.host import host
from lithe.types import DTYPES

ENTRY = "lithe_run"
ALIGNMENT = 64
LAYOUT = 1  # of artifacts; part of every key
ROUNDING_FUNCTIONS = ("floorf", "ceilf", "rintf", "truncf", "floor", "ceil", "rint", "trunc", "fmaf", "fmodf")


@dataclass(frozen=True)
class Place:
    """Where a tensor lies: `offset` bytes into the arena or the constants."""

    index: int
    offset: int
    dtype: str
    shape: tuple[int, ...]
    constant: bool = False
    variable: bool = False
    zero: int = 0  # what a variable starts with


@dataclass(frozen=True)
class Layout:
    """What an executor must know beside the code."""

    arena_bytes: int
    places: tuple[Place, ...]
    messages: tuple[str, ...]
    name: str = ""

    def text(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @staticmethod
    def parse(text: bytes) -> Layout:
        raw = json.loads(text)
        places = tuple(Place(**{**p, "shape": tuple(p["shape"])}) for p in raw["places"])
        return Layout(raw["arena_bytes"], places, tuple(raw["messages"]), raw["name"])


@dataclass(frozen=True)
class Artifact:
    """A compiled graph: relocatable objects, the constants' bytes, the layout."""

    objects: tuple[bytes | memoryview, ...]
    constants: np.ndarray
    layout: Layout


def cache_key(source: bytes, graph: int, shapes: dict[int, tuple[int, ...]]) -> bytes:
    """Names an artifact: what it was made from, by which Lithe and LLVM, for which CPU.

    source  digest of the model's bytes.
    """
    from lithe import __version__
    from lithe.codegen.llvm.toolchain import llvm_stamp

    sizes = json.dumps(sorted((k, list(v)) for k, v in shapes.items()))
    return key(source, str(graph), sizes, __version__, str(LAYOUT), llvm_stamp(), host().fingerprint())


def cached(name: bytes, cache: Cache | None = None) -> Artifact | None:
    """The artifact stored under a key, or None."""
    entry = (cache or Cache()).get(name)
    if entry is None:
        return None
    constants = np.frombuffer(entry.part("constants"), np.uint8)
    return Artifact(tuple(entry.sequence("object")), constants, Layout.parse(bytes(entry.part("layout"))))


def store(name: bytes, artifact: Artifact, cache: Cache | None = None) -> bool:
    """Keeps an artifact for the next start; whether it is on disk."""
    parts: dict[str, Any] = {"layout": artifact.layout.text(), "constants": artifact.constants.data}
    return (cache or Cache()).put(name, {**parts, **numbered("object", [bytes(o) for o in artifact.objects])})


def build(graph: Graph) -> Artifact:
    """Lowers and compiles a prepared graph for this machine.

    Raises UnsupportedOp where an operator has no lowering, CompileError where the compiler fails or hangs,
    LimitError where too much memory would be needed.
    """
    from lithe.codegen.llvm.toolchain import Compiler, Settings
    from lithe.lower.lower import lower, refuse_unsupported
    from lithe.targets.cpu import GENERIC, x86

    refuse_unsupported(graph)
    machine = host()
    target = x86(machine.features, machine.triple) if machine.architecture == "x86_64" else GENERIC
    settings = Settings(machine.triple, features=machine.feature_string)
    with Compiler(settings, workers=min(2, machine.cores)) as compiler:  # starts while the loops are written
        program = lower(graph, target)
        jobs = [compiler.submit(text, name) for name, text in modules(program)]
        objects = tuple(job.result() for job in jobs)
    return Artifact(objects, program.constant_block(), layout(graph, program))


def modules(program: Program, size: int = 2500) -> list[tuple[str, str]]:
    """(name, LLVM text) of modules with about `size` lines each, the entry last. Equal kernels are one function."""
    from lithe.codegen.llvm.emit import print_entry, print_kernel, print_module

    failures = {text: n + 1 for n, text in enumerate(program.messages())}
    symbols: dict[Kernel, str] = {}
    known: dict[str, str] = {}
    result: list[tuple[str, str]] = []
    waiting: list[str] = []
    lines = 0
    for kernel in program.kernels():
        text = print_kernel(kernel, "lithe_kernel", failures)
        symbol = known.get(text)
        if symbol is None:
            symbol = known[text] = f"lithe_kernel{len(known)}"
            waiting.append(text.replace("@lithe_kernel(", f"@{symbol}(", 1))
            lines += text.count("\n")
        symbols[kernel] = symbol
        if lines > size:
            result.append((kernel.source, print_module(waiting)))
            waiting, lines = [], 0
    if waiting:
        result.append(("the last kernels", print_module(waiting)))
    return [*result, ("the entry", print_entry(program, symbols, ENTRY))]


def layout(graph: Graph, program: Program) -> Layout:
    """Where inputs, outputs and variables of the graph lie."""
    places: dict[int, Place] = {}
    tensors = [*zip(graph.inputs, program.inputs, strict=True), *zip(graph.outputs, program.outputs, strict=True)]
    tensors += list(program.variables.items())
    for t, b in tensors:
        if t.index in places or t.index < 0:
            continue
        storage = b.storage
        constant = storage.data is not None
        offset = program.constants[storage] if constant else program.arena[storage]
        places[t.index] = Place(
            t.index, offset, t.type.dtype.name, t.type.shape, constant, t in program.variables, start_value(t)
        )
    return Layout(program.arena_bytes, tuple(places.values()), tuple(program.messages()), program.name)


def start_value(t: Tensor) -> int:
    """What a variable holds after a reset: zeros, int8 ones their zero point."""
    q = t.type.quantization
    return q.zero_point[0] if q is not None and t.type.dtype.name == "int8" else 0


class CompiledExecutor:
    """Executes an artifact. Arrays of tensors are views of the arena (see `lithe.runtime.executors.Executor`)."""

    def __init__(self, artifact: Artifact) -> None:
        self._layout = artifact.layout
        self._arena = aligned(artifact.layout.arena_bytes)
        self._constants = artifact.constants
        if self._constants.size and self._constants.ctypes.data % ALIGNMENT:
            self._constants = aligned(artifact.constants.size)
            self._constants[:] = artifact.constants
        self._image = Image(artifact.objects, rounding_functions())
        run: Callable[[int, int], int] = self._image.function(ENTRY, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
        self._run, self._arguments = run, (self._arena.ctypes.data, self._constants.ctypes.data)
        self._arrays = {p.index: self._view(p) for p in artifact.layout.places}
        self.reset_variables()

    def _view(self, p: Place) -> np.ndarray:
        dtype = DTYPES[p.dtype].numpy
        block = self._constants if p.constant else self._arena
        size = int(np.prod(p.shape, dtype=np.int64)) * dtype.itemsize
        return block[p.offset : p.offset + size].view(dtype).reshape(p.shape)

    def array(self, index: int) -> np.ndarray | None:
        """The live storage of an input, output or variable; None for any other tensor."""
        return self._arrays.get(index)

    def invoke(self) -> None:
        """Runs the graph once. Raises ExecutionError when the data cannot be used."""
        failure = self._run(*self._arguments)
        if failure:
            where, _, problem = self._layout.messages[failure - 1].partition(": ")
            raise ExecutionError(problem, where=where)

    def reset_variables(self) -> None:
        for p in self._layout.places:
            if p.variable:
                self._arrays[p.index][...] = p.zero


def aligned(size: int) -> np.ndarray:
    """Zeroed bytes that start on a cache line."""
    raw = np.zeros(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size]


def rounding_functions() -> dict[str, int]:
    """Functions of the C library that a CPU without rounding instructions needs, by name."""
    library = ctypes.CDLL(None)
    found = {}
    for name in ROUNDING_FUNCTIONS:
        address = ctypes.cast(getattr(library, name, None), ctypes.c_void_p).value if hasattr(library, name) else None
        if address:
            found[name] = address
    return found

