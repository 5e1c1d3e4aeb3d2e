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
    if program.variables:
        library.test_reset(address)
    status = library.test_run(address)
    if status:
        library.test_message.restype = ctypes.c_char_p
        raise ExecutionError(library.test_message(status).decode())
    beyond = room[start + program.arena_bytes :]
    assert (beyond == PATTERN).all(), "the program wrote behind its arena"
    return [view("output", i, b.dtype.numpy, b.shape).copy() for i, b in enumerate(program.outputs)]


MAIN = """
#include <stdio.h>
#include <stdlib.h>

int main(void)
{{
    uint8_t *arena = aligned_alloc(64, {arena});
    int status;
    if (arena == NULL) {{ return 100; }}
    memset(arena, {pattern}, {arena});
{reads}
    {reset}
    status = test_run(arena);
    if (status != 0) {{ return status; }}
{writes}
    free(arena);
    return 0;
}}
"""
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g")


@functools.cache
def has_sanitizers() -> bool:
    """Whether the compiler can build and run a sanitized program here."""
    found = compiler()
    if found is None:
        return False
    path = Path(_folder().name) / "probe"
    path.with_suffix(".c").write_text("int main(void) { return 0; }\n")
    command = [found, *SANITIZERS, str(path.with_suffix(".c")), "-o", str(path)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0 and _runs(path)


def _runs(path: Path) -> bool:
    return subprocess.run([path], capture_output=True, check=False, env=_sanitized_environment()).returncode == 0


def _sanitized_environment() -> dict[str, str]:
    return {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}


def run_sanitized(program: Program, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """Outputs of one run in a process of its own, under the address and undefined-behaviour sanitizers."""
    found = compiler()
    assert found is not None, "no C compiler"
    check = "{{ if ({}({}, 1, {}, {}) != {}) {{ return 101; }} }}"
    reads = [
        check.format("fread", f"test_input{i}(arena)", b.nbytes, "stdin", b.nbytes)
        for i, b in enumerate(program.inputs)
    ]
    writes = [
        check.format("fwrite", f"test_output{i}(arena)", b.nbytes, "stdout", b.nbytes)
        for i, b in enumerate(program.outputs)
    ]
    source = "#define _ISOC11_SOURCE\n" + print_program(program, name="test")
    source += MAIN.format(
        arena=max(program.arena_bytes, 64),
        pattern=PATTERN,
        reset="test_reset(arena);" if program.variables else "",
        reads="\n".join(reads),
        writes="\n".join(writes),
    )
    path = Path(_folder().name) / hashlib.sha256(source.encode()).hexdigest()[:24]
    path.with_suffix(".c").write_text(source)
    command = [found, "-std=c99", "-O1", *SANITIZERS, str(path.with_suffix(".c")), "-o", str(path), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[:4000]
    raw = b"".join(np.ascontiguousarray(x).tobytes() for x in inputs)
    ran = subprocess.run([path], input=raw, capture_output=True, timeout=120, check=False, env=_sanitized_environment())
    assert ran.returncode == 0, ran.stderr.decode(errors="replace")[:4000]
    outputs, at = [], 0
    for b in program.outputs:
        outputs.append(np.frombuffer(ran.stdout, b.dtype.numpy, b.size, at).reshape(b.shape))
        at += b.nbytes
    return outputs
