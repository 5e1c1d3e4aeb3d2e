"""Runs programs as C: printed, compiled with the system's compiler to a shared object, and called in place."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from lithe.codegen.c import print_program
from lithe.errors import ExecutionError
from lithe.ir.interpret import PATTERN
from lithe.ir.program import Program

WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-pedantic")
ALIGNMENT = 64


def compiler() -> str | None:
    """The system's C compiler, or None."""
    return os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="lithe-c-")


@functools.lru_cache(maxsize=256)
def compiled(source: str, flags: tuple[str, ...] = ("-O1",)) -> Path:
    """A shared object made from C text; compiled once for each text."""
    found = compiler()
    assert found is not None, "no C compiler"
    stem = Path(_folder().name) / hashlib.sha256(repr((source, flags)).encode()).hexdigest()[:24]
    path, library = stem.with_suffix(".c"), stem.with_suffix(".so")
    path.write_text(source)
    command = [found, *WARNINGS, *flags, "-shared", "-fPIC", str(path), "-o", str(library), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{done.stderr[:4000]}\n{path}"
    return library


def run(program: Program, inputs: list[np.ndarray], flags: tuple[str, ...] = ("-O1",)) -> list[np.ndarray]:
    """Outputs of one run; raises ExecutionError with the program's message when a check fails."""
    library = ctypes.CDLL(str(compiled(print_program(program, name="test"), flags)))
    room = np.full(program.arena_bytes + 2 * ALIGNMENT, PATTERN, np.uint8)
    start = -room.ctypes.data % ALIGNMENT
    arena = room[start : start + program.arena_bytes]
    address = ctypes.c_void_p(room.ctypes.data + start)

    def view(side: str, i: int, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
        function = getattr(library, f"test_{side}{i}")
        function.restype = ctypes.c_void_p
        size = int(np.prod(shape)) * dtype.itemsize
        raw = np.frombuffer((ctypes.c_uint8 * size).from_address(function(address)), np.uint8) if size else arena[:0]
        return raw.view(dtype).reshape(shape)

    for i, (b, x) in enumerate(zip(program.inputs, inputs, strict=True)):
        view("input", i, b.dtype.numpy, b.shape)[...] = x
    status = library.test_run(address)
    if status:
        library.test_message.restype = ctypes.c_char_p
        raise ExecutionError(library.test_message(status).decode())
    beyond = room[start + program.arena_bytes :]
    assert (beyond == PATTERN).all(), "the program wrote behind its arena"
    return [view("output", i, b.dtype.numpy, b.shape).copy() for i, b in enumerate(program.outputs)]
