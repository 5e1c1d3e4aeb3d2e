"""Runs programs as machine code: printed as LLVM IR, compiled in one pair of workers for the whole session."""

from __future__ import annotations

import atexit
import ctypes
import functools

import numpy as np

from lithe.codegen.llvm.toolchain import Compiler, Settings
from lithe.errors import ExecutionError
from lithe.ir.graph import Graph, Node, Tensor
from lithe.ir.program import Program
from lithe.lower import lower
from lithe.runtime.compilation import modules
from lithe.runtime.compiled import ENTRY
from lithe.runtime.loader import Image
from lithe.runtime.workers import ALIGNMENT, RUN, Workers, sync_block
from lithe.targets.cpu import GENERIC, Target, x86
from lithe.targets.host import host
from tests.ops.cases import Case

PATTERN = 0xA5


def host_target() -> Target:
    return x86(host().features, host().triple) if host().architecture == "x86_64" else GENERIC


def smaller_targets() -> dict[str, Target]:
    """Targets whose instructions this host has, the widest first."""
    if host().architecture != "x86_64":
        return {"generic": GENERIC}
    have = host().features
    levels = {
        "avx512": have - {"avx512vnni"},
        "avx2": {f for f in have if "avx512" not in f and "amx" not in f},
        "sse2": {"sse", "sse2", "cmov", "cx8", "fxsr", "64bit"} & (have | {"64bit"}),
    }
    found = {"host": host_target()} | {name: x86(frozenset(f), host().triple) for name, f in levels.items()}
    return {name: t for name, t in found.items() if name == "host" or t.name in ("avx512", "avx2", "x86_64")}


@functools.cache
def compiler(features: str) -> Compiler:
    made = Compiler(Settings(host().triple, features=features), workers=1)
    atexit.register(made.close)
    return made


def graph_of(case: Case) -> Graph:
    """The operator of a test row as a graph of its own."""
    arrays = case.arrays()
    tensors: list[Tensor | None] = []
    for i, t in enumerate(case.inputs):
        data = np.ascontiguousarray(arrays[i]).reshape(t.shape) if t is not None and i in case.constants else None
        tensors.append(None if t is None else Tensor(f"x{i}", t, data, index=i))
    outputs = [Tensor(f"y{i}", t, index=100 + i) for i, t in enumerate(case.outputs)]
    node = Node(case.operator, case.operator.Attrs(**case.attrs), tensors, outputs, 0, intermediates=case.intermediates)
    given = [t for t in tensors if t is not None]
    return Graph("case", [t for t in given if t.data is None], outputs, [*given, *outputs], [node])


def run(
    program: Program, inputs: list[np.ndarray], features: str | None = None, threads: tuple[int, ...] = (1,)
) -> list[np.ndarray]:
    """Outputs of one run; raises ExecutionError with the program's message when a check fails.

    threads  the numbers of threads to run with, one after the other: a difference between them is an error, too.
    """
    made = compiler(host().feature_string if features is None else features)
    jobs = [made.submit(text, name) for name, text in modules(program)]
    image = Image([job.result() for job in jobs])
    constants = block(program.constant_bytes)
    constants[:] = program.constant_block()
    pointer, number = ctypes.c_void_p, ctypes.c_int
    call = image.function(RUN, number, pointer, pointer, pointer, number, pointer)
    results: list[list[np.ndarray] | str] = []
    for count in threads:
        arena = block(program.arena_bytes + (count - 1) * program.private_bytes)

        def view(b, arena=arena):
            at = program.constants[b.storage] if b.storage.data is not None else program.arena[b.storage]
            room = constants if b.storage.data is not None else arena
            return room[at : at + b.nbytes].view(b.dtype.numpy).reshape(b.shape)

        for b, x in zip(program.inputs, inputs, strict=True):
            view(b)[...] = np.asarray(x).reshape(b.shape)
        job = image.address(ENTRY), arena.ctypes.data, constants.ctypes.data
        failure = call(*job, 1, sync_block().ctypes.data) if count == 1 else Workers(count).run(image, call, *job)
        results.append(program.messages()[failure - 1] if failure else [view(b).copy() for b in program.outputs])
    first = results[0]
    for count, other in zip(threads[1:], results[1:], strict=True):
        if isinstance(first, str) or isinstance(other, str):
            assert first == other, f"{threads[0]} and {count} threads differ"
        else:
            same = all(a.tobytes() == b.tobytes() for a, b in zip(first, other, strict=True))
            assert same, f"{threads[0]} and {count} threads differ"
    if isinstance(first, str):
        raise ExecutionError(first)
    return first


def block(size: int) -> np.ndarray:
    raw = np.full(size + ALIGNMENT, PATTERN, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size]


def run_case(case: Case, target: Target, threads: tuple[int, ...] = (1,)) -> list[np.ndarray]:
    program = lower(graph_of(case), target, case.model())
    inputs = [a for i, a in enumerate(case.arrays()) if a is not None and i not in case.constants]
    return run(program, inputs, target.features, threads)
