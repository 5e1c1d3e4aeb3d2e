"""A whole model in guarded memory, through the executors that users get, in a process that may die.

    python -m tests.guarded_models MODEL WAY      prints the digest of its outputs on made-up inputs

Ways: "plain" is ordinary memory. "together" has the arena as the memory plan made it, without the slack behind it, and
the constants, between forbidden pages; "apart" has a page of its own for each storage. Both come with a side of
PLACES and a filling of the arena: "together-upper-165".
"""

from __future__ import annotations

import sys
from collections import deque
from hashlib import sha256
from typing import Any

import numpy as np

import lithe
from lithe.ir.program import Program
from lithe.runtime import compilation, compiled
from lithe.runtime.compiled import Artifact, Layout
from tests.guarded import READ, Areas, Memory, placed, shifted

RUNS = 3
WAYS = {"apart": placed, "together": shifted}


class Guards:
    """Takes the place of the memory of executors: of each in the order in which their programs are made."""

    def __init__(self, way: str, place: str, fill: int) -> None:
        self.move, self.place, self.fill = WAYS[way], place, fill
        self.arenas: deque[tuple[int, Areas]] = deque()
        self.constants: deque[Areas] = deque()
        self.kept: list[Memory] = []
        self.lower = compilation.lower
        self.programs = 0

    def install(self) -> None:
        compilation.lower = self.lowered  # type: ignore[assignment]
        compilation.Artifact = self.artifact  # type: ignore[assignment, misc]
        compiled.aligned = self.aligned

    def lowered(self, *arguments: Any, **named: Any) -> Program:
        program, arena, constants = self.move(self.lower(*arguments, **named), self.place)
        self.arenas.append((program.arena_bytes, arena))
        self.constants.append(constants)
        self.programs += 1
        return program

    def artifact(self, objects: Any, content: np.ndarray, layout: Layout) -> Artifact:
        memory = Memory(content.size, self.constants.popleft())
        self.kept.append(memory)
        for offset, size in memory.areas:
            memory.bytes(offset, size)[:] = content[offset : offset + size]
            memory.protect(offset, size, READ)
        return Artifact(objects, memory.bytes(0, content.size), layout)

    def aligned(self, size: int) -> np.ndarray:
        expected, areas = self.arenas.popleft()
        if size != expected:
            raise ValueError(f"an arena of {size} bytes, expected {expected}")
        memory = Memory(size, areas)
        self.kept.append(memory)
        for offset, length in memory.areas:
            memory.bytes(offset, length)[:] = self.fill
        return memory.bytes(0, size)


def made_up(model: lithe.Model, random: np.random.Generator) -> dict[str, np.ndarray]:
    """Random inputs."""
    found = {}
    for name, info in model.inputs.items():
        dtype = np.dtype(info.dtype)
        if dtype.kind == "f":
            found[name] = random.uniform(-1, 1, info.shape).astype(dtype)
        else:
            limits = np.iinfo(dtype)
            found[name] = random.integers(limits.min, limits.max, info.shape, dtype, endpoint=True)
    return found


def digest(path: str) -> str:
    model = lithe.load(path, cache=False)
    random, mark = np.random.default_rng(1), sha256()
    for _ in range(RUNS):
        results = model(**made_up(model, random))
        for array in results.values() if isinstance(results, dict) else [results]:
            mark.update(np.ascontiguousarray(array).tobytes())
    return mark.hexdigest()


def main(path: str, way: str) -> None:
    if way == "plain":
        print(digest(path))
        return
    kind, place, fill = way.split("-")
    guards = Guards(kind, place, int(fill))
    guards.install()
    found = digest(path)
    if not guards.programs:
        raise ValueError(f"nothing of {path} was compiled")
    print(found)


if __name__ == "__main__":
    main(*sys.argv[1:])
