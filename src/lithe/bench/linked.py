"""Programs as callables of this process. The one place of this room that knows how compiled code is called."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from lithe.codegen.llvm.toolchain import Compiler, Settings
from lithe.ir.program import Program
from lithe.runtime.compilation import modules
from lithe.runtime.compiled import rounding_functions
from lithe.runtime.loader import Image
from lithe.runtime.workers import RUN, aligned, sync_block, waiting_functions
from lithe.targets.host import host

Run = Callable[[], int]


@dataclass(frozen=True)
class Linked:
    """runs  callables that return 0 or the number of a failure, by name; arena and constants are theirs."""

    runs: Mapping[str, Run]
    arena: np.ndarray
    constants: np.ndarray


def link(program: Program, entries: Mapping[str, Program]) -> Linked:
    """Compiles a program; `entries` are parts of it by name, each of which becomes a callable."""
    machine = host()
    settings = Settings(machine.triple, features=machine.feature_string)
    with Compiler(settings, workers=min(2, machine.cores)) as compiler:
        jobs = [compiler.submit(text, name) for name, text in modules(program, entries=entries)]
        objects = [job.result() for job in jobs]
    image = Image(objects, {**rounding_functions(), **waiting_functions()})
    arena, constants, sync = aligned(program.arena_bytes), aligned(program.constant_bytes), sync_block()
    constants[:] = program.constant_block()
    pointer, number = ctypes.c_void_p, ctypes.c_int
    start = image.function(RUN, number, pointer, pointer, pointer, number, pointer)

    def callable_of(symbol: str) -> Run:
        arguments = (image.address(symbol), arena.ctypes.data, constants.ctypes.data, 1, sync.ctypes.data)

        def run(_kept: tuple[np.ndarray, ...] = (arena, constants, sync)) -> int:  # live as long as the callable
            return int(start(*arguments))

        return run

    return Linked({symbol: callable_of(symbol) for symbol in entries}, arena, constants)
