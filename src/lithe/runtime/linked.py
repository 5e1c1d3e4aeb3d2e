"""Programs, and parts of them, as callables of this process: for measuring."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from lithe.codegen.llvm.toolchain import Compiler, Settings
from lithe.ir.program import Program
from lithe.runtime.compilation import modules
from lithe.runtime.loader import Image
from lithe.runtime.workers import RUN, Workers, aligned, sync_block
from lithe.targets.host import host

Run = Callable[[], int]


@dataclass(frozen=True)
class Linked:
    """runs  callables that return 0 or the number of a failure, by name; arena and constants are theirs."""

    runs: Mapping[str, Run]
    arena: np.ndarray
    constants: np.ndarray


def link(program: Program, entries: Mapping[str, Program], workers: Workers | None = None) -> Linked:
    """Compiles a program; `entries` are parts of it by name, each of which becomes a callable.

    workers  the threads that run them; None: the caller's alone.
    """
    machine = host()
    settings = Settings(machine.triple, features=machine.feature_string)
    with Compiler(settings, workers=min(2, machine.cores)) as compiler:
        jobs = [compiler.submit(text, name) for name, text in modules(program, entries=entries)]
        objects = [job.result() for job in jobs]
    image = Image(objects)
    threads = 1 if workers is None else workers.threads
    room = program.arena_bytes + (threads - 1) * program.private_bytes
    arena, constants, sync = aligned(room), aligned(program.constant_bytes), sync_block()
    constants[:] = program.constant_block()
    pointer, number = ctypes.c_void_p, ctypes.c_int
    start = image.function(RUN, number, pointer, pointer, pointer, number, pointer)

    def callable_of(symbol: str) -> Run:
        job = (image.address(symbol), arena.ctypes.data, constants.ctypes.data)

        def run(_kept: tuple[np.ndarray, ...] = (arena, constants, sync)) -> int:  # live as long as the callable
            if workers is not None:
                return workers.run(image, start, *job)
            return int(start(*job, 1, sync.ctypes.data))

        return run

    return Linked({symbol: callable_of(symbol) for symbol in entries}, arena, constants)


def fill(program: Program, arena: np.ndarray) -> None:
    """Random inputs in their places."""
    rng = np.random.default_rng(0)
    for buffer in program.inputs:
        offset = program.arena.get(buffer.storage)
        if offset is None:
            continue
        dtype = buffer.dtype.numpy
        if buffer.dtype.is_float:
            values = rng.uniform(-1, 1, buffer.size).astype(dtype)
        else:
            values = rng.integers(0, 10, buffer.size).astype(dtype)
        arena[offset : offset + buffer.nbytes] = values.view(np.uint8)
