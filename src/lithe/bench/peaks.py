"""What one core of this machine can do at most: measured, with loops written in the loop language.

Arithmetic: chains of multiply-accumulates that stay in registers, as many as hide the latency of one. Memory: a buffer
is read again and again that the cache before is too small for.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from lithe.ir.build import Builder
from lithe.ir.loops import FMA, Buffer, Expr, Intrinsic, Kernel
from lithe.ir.program import Program, Step
from lithe.runtime.compilation import this_target
from lithe.runtime.linked import Run, link
from lithe.targets.cpu import PMADDWD, Dot, Target, Tiles
from lithe.targets.host import host
from lithe.types import FLOAT32, INT8, INT32

CHAINS = 12  # latency 4 or 5, two a cycle; with their two operands they fit into 16 registers
TILES = 4  # sums: as many hide the latency of a product (52 cycles, one in 16: Intel, optimization reference manual)
PASSES = 50_000
READERS = 8  # chains of additions in the loops that read
LEAST_READ = 1 << 22  # bytes a call, so that its overhead does not count
LARGEST = 1 << 28  # bytes of a buffer
TURNS = 60  # spread over most of a second: the clock is not always at its highest


@dataclass(frozen=True)
class Bandwidth:
    """capacity  bytes that this level holds, None for the memory behind all caches."""

    name: str
    capacity: int | None
    bytes_a_second: float


@dataclass(frozen=True)
class Peaks:
    """One core. macs: multiply-accumulates a second by the type of the operands; levels: nearest first."""

    macs: dict[str, float]
    levels: tuple[Bandwidth, ...]

    def holding(self, size: int) -> Bandwidth | None:
        """The nearest level that holds so many bytes; None when nothing is known about memory."""
        for level in self.levels:
            if level.capacity is None or size <= level.capacity:
                return level
        return self.levels[-1] if self.levels else None

    def to_dict(self) -> dict[str, Any]:
        return {"macs": self.macs, "levels": [asdict(level) for level in self.levels]}


@lru_cache(None)
def measured_peaks() -> Peaks:
    """The peaks of this machine; measuring them takes about a second, once a process."""
    target = this_target()
    kernels, work = _arithmetic(target)
    levels = _levels()
    for name, size in levels.items():
        kernels[name], work[name] = _reader(target, size)
    best = {name: work[name] / seconds for name, seconds in _best(_linked(kernels)).items()}
    capacities = {f"L{level}": size for level, size in host().caches.items()}
    bandwidths = [Bandwidth(name, capacities.get(name), best[name]) for name in levels]
    return Peaks({name: value for name, value in best.items() if name not in levels}, tuple(bandwidths))


def _arithmetic(target: Target) -> tuple[dict[str, Kernel], dict[str, int]]:
    """(kernels, multiply-accumulates of a call) by the type of the operands."""
    lanes, dot = target.lanes, target.dot

    # Every step depends on the one before in all that it does; what does not would be moved out of the loop.
    def plain(total: Expr, a: Expr, b: Expr) -> Expr:
        return total * a + b

    def fused(total: Expr, a: Expr, b: Expr) -> Expr:
        return Intrinsic(FMA, (total, a, b))

    def words(total: Expr, a: Expr, b: Expr) -> Expr:
        return Intrinsic(PMADDWD, (total, a)) + b

    kinds = {"float32": (FLOAT32, fused if target.fma else plain, 1)}
    if dot is None:
        kinds |= dict.fromkeys(("int8", "int16"), (INT32, plain, 1))
    elif dot.instruction is PMADDWD:
        kinds |= dict.fromkeys(("int8", "int16"), (INT32, words, 2))
    else:
        instruction = dot.instruction
        kinds |= {
            "int8": (INT32, lambda total, a, b: Intrinsic(instruction, (total, a, b)), dot.group),
            "int16": (INT32, words, 2),
        }
    kernels: dict[str, Kernel] = {}
    for name, (dtype, step, _) in kinds.items():
        b = Builder(f"peak_{name}")
        x, y = Buffer(f"{name}_x", dtype, (2 * lanes,)), Buffer(f"{name}_y", dtype, (CHAINS * lanes,))
        with b.loop(lanes, "vector", "lane") as lane:
            totals = [b.local(dtype, (), "total") for _ in range(CHAINS)]
            for total in totals:
                b.store(total, (), x[lane])
            with b.loop(PASSES, name="pass"):
                for total in totals:
                    b.store(total, (), step(total[()], x[lane], x[lanes + lane]))
            for n, total in enumerate(totals):
                b.store(y, (n * lanes + lane,), total[()])
        kernels[name] = b.kernel(name)
    work = {name: CHAINS * PASSES * lanes * group for name, (_, _, group) in kinds.items()}
    bytes_ = None if target.tiles is None else target.tiles.dot(INT8, INT8)
    if target.tiles is not None and bytes_ is not None:
        kernels["int8"], work["int8"] = _products(target.tiles, bytes_)
    return kernels, work


def _products(tiles: Tiles, dot: Dot) -> tuple[Kernel, int]:
    """(a kernel that multiplies tiles, the multiply-accumulates of a call)."""
    b, rows, words = Builder("peak_int8"), tiles.rows, tiles.words
    x, y = Buffer("int8_x", INT32, (rows + words, words)), Buffer("int8_y", INT32, (TILES, rows, words))
    left, right = b.local(INT32, (rows, words), "left"), b.local(INT32, (words, words), "right")
    totals = [b.local(INT32, (rows, words), "total") for _ in range(TILES)]
    for tile, first in ((left, 0), (right, rows), *((total, 0) for total in totals)):
        with b.loop(tile.shape[0], "tile", "row") as r, b.loop(words, "vector", "lane") as l:
            b.store(tile, (r, l), x[r + first, l])
    with b.loop(PASSES, name="pass"):
        for total in totals:
            with b.loop(rows, "tile", "row") as r, b.loop(words, "vector", "lane") as l, b.loop(words, name="k") as k:
                b.store(total, (r, l), Intrinsic(dot.instruction, (total[r, l], left[r, k], right[k, l])))
    for n, total in enumerate(totals):
        with b.loop(rows, "tile", "row") as r, b.loop(words, "vector", "lane") as l:
            b.store(y, (n, r, l), total[r, l])
    return b.kernel("int8"), TILES * PASSES * rows * words * words * dot.group


def _levels() -> dict[str, int]:
    """Bytes to read for each level of memory: most of the first cache, then twice what the level before holds."""
    caches = dict(sorted(host().caches.items()))
    names = [*(f"L{level}" for level in caches), "memory"]
    sizes = [size * 2 for size in caches.values()]
    found = zip(names, [next(iter(caches.values())) * 3 // 4, *sizes], strict=True) if caches else ()
    return {name: size for name, size in found if size <= LARGEST}


def _reader(target: Target, size: int) -> tuple[Kernel, int]:
    """(a kernel that reads `size` bytes several times, the bytes that a call reads)."""
    lanes = target.lanes
    rows = max(1, size // (4 * lanes * READERS))
    read = rows * READERS * lanes * 4
    repeats = max(1, LEAST_READ // read)
    b = Builder(f"read_{size}")
    x, y = Buffer(f"x_{size}", INT32, (rows * READERS * lanes,)), Buffer(f"y_{size}", INT32, (READERS * lanes,))
    with b.loop(lanes, "vector", "lane") as lane:
        totals = [b.local(INT32, (), "total") for _ in range(READERS)]
        for total in totals:
            b.store(total, (), y[lane])
        with b.loop(repeats, name="repeat"), b.loop(rows, name="row") as row:
            for n, total in enumerate(totals):
                b.store(total, (), total[()] + x[(row * READERS + n) * lanes + lane])
        for n, total in enumerate(totals):
            b.store(y, (n * lanes + lane,), total[()])
    return b.kernel(f"read {size} bytes"), read * repeats


def _linked(kernels: dict[str, Kernel]) -> dict[str, Run]:
    """Each kernel as a callable, its buffers one behind the other."""
    program = Program("peaks", [Step(kernel, kernel.params) for kernel in kernels.values()], [], [])
    for buffer in (b for kernel in kernels.values() for b in kernel.params):
        program.arena[buffer] = program.arena_bytes
        program.arena_bytes += -(-buffer.nbytes // 4096) * 4096
    entries = {
        f"peak{n}": Program(program.name, [step], [], [], arena=program.arena) for n, step in enumerate(program.steps)
    }
    linked = link(program, entries)
    for buffer, offset in program.arena.items():
        values = linked.arena[offset : offset + buffer.nbytes].view(buffer.dtype.numpy)
        values[:] = 0.5 if buffer.dtype.is_float else 1
    return dict(zip(kernels, linked.runs.values(), strict=True))


def _best(runs: dict[str, Run]) -> dict[str, float]:
    """The least seconds of a call, in turns."""
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(TURNS):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - started)
    return best
