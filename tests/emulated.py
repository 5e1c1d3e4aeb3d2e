"""Runs code for AMX in a process of its own: natively, or with the tiles of `tile_unit.c` where the processor has none.

    python -m tests.emulated cases          contractions against their meaning, and against code without tiles
    python -m tests.emulated chains         contractions that follow each other in one kernel, against the same
    python -m tests.emulated model PATH     a model's outputs against those of code without tiles

Prints JSON: [problems by name ("" where there is none), products that the emulation did, configurations, threads that
had a unit].
"""

from __future__ import annotations

import ctypes
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import product
from pathlib import Path

import numpy as np

from lithe.formats import tflite
from lithe.ir import interpret
from lithe.ir.program import Program
from lithe.lower import lower, rows, share_out
from lithe.passes import prepare
from lithe.targets.host import host
from lithe.types import INT8, UINT8
from tests.llvm_backend import graph_of, run
from tests.lower.test_rows import Block, values
from tests.ops.test_matrix import agree, evaluated
from tests.tiled import WIDE, all_cases, is_tiled, target, without_tiles

SOURCE = Path(__file__).with_name("tile_unit.c")
THREADS = (1, 2)
CHANNELS, CACHE = 32, 1 << 14  # of a chain, with twice as many channels between, and where those do not fit


def missing() -> str:
    """Why this machine cannot run code for AMX; an empty text where it can."""
    if host().architecture != "x86_64" or sys.platform != "linux":
        return "AMX belongs to x86-64, and its emulation to Linux"
    if not host().has(*WIDE):
        return "the code has vectors of AVX-512 with VNNI, which this processor has not"
    if not host().has("amx-tile") and shutil.which("cc") is None:
        return "there is no C compiler for the emulation"
    return ""


def in_child(*arguments: str) -> tuple[dict[str, str], int, int, int]:
    """What this module prints, run with these arguments."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.emulated", *arguments], capture_output=True, text=True, timeout=1200,
        cwd=Path(__file__).resolve().parents[1], check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"the process ended with {done.returncode}: {done.stderr[-4000:]}"
    problems, products, configurations, threads = json.loads(done.stdout.splitlines()[-1])
    return problems, products, configurations, threads


@lru_cache(None)
def unit() -> ctypes.CDLL | None:
    """The emulation, which this process has from now on; None where the processor has tiles itself."""
    if host().has("amx-tile"):
        return None
    with tempfile.TemporaryDirectory() as folder:
        library = f"{folder}/tile_unit.so"
        subprocess.run(["cc", "-O2", "-mfma", "-shared", "-fPIC", "-o", library, str(SOURCE)], check=True)
        found = ctypes.CDLL(library)
    found.install()
    return found


def executed(program: Program, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """Outputs, the same with one thread and with two. Every thread's unit must be free afterwards."""
    found = unit()
    got = run(program, inputs, target().features, THREADS)
    assert found is None or not found.counted_configured(), "a unit is not released"
    return got


def same(got: list[np.ndarray], want: list[np.ndarray]) -> bool:
    return all(g.tobytes() == w.tobytes() for g, w in zip(got, want, strict=True))


def share_everything() -> None:
    """Threads share the smallest work."""
    share_out.LEAST = share_out.LEAST_RUN = 0.0


def cases() -> Iterator[tuple[str, str]]:
    share_everything()
    for case in all_cases():
        for precision in ("strict", "bf16x3", "fast"):
            t = target(precision)
            program = lower(graph_of(case), t, case.model())
            if not is_tiled(program) or (
                precision != "strict" and is_tiled(lower(graph_of(case), target(), case.model()))
            ):
                continue
            given = [np.asarray(a) for i, a in enumerate(case.arrays()) if a is not None and i not in case.constants]
            got = executed(program, given)
            if precision != "strict":  # the unit adds in an order of its own
                want = interpret.run(program, [g.reshape(b.shape) for g, b in zip(given, program.inputs, strict=True)])
                near = all(np.allclose(g, w, 1e-5, 2e-5) for g, w in zip(got, want, strict=True))
                yield f"{case} {precision}", "" if near else "differs from the loops' meaning"
                continue
            shaped = [np.asarray(g).reshape(o.shape) for g, o in zip(got, case.outputs, strict=True)]
            problem = agree(case, shaped, evaluated(case), 0, max(case.tolerance, 2e-6))
            vectors = run(lower(graph_of(case), without_tiles(t), case.model()), given, t.features)
            yield f"{case} {precision}", problem or ("" if same(got, vectors) else "other bits than without tiles")


def chains() -> Iterator[tuple[str, str]]:
    share_everything()
    rows.MOST_TWICE = 9.0
    for dtype, stride in product((INT8, UINT8), (1, 2)):
        graph = Block(dtype, channels=CHANNELS).graph(stride, expanded=2 * CHANNELS, out=CHANNELS)
        t = replace(target(), cache_bytes=CACHE)
        program = lower(graph, t)
        assert is_tiled(program)
        assert len(program.steps) == 1
        given = values(graph)
        vectors = run(lower(graph, without_tiles(t)), given, t.features)
        yield f"{dtype}, stride {stride}", "" if same(executed(program, given), vectors) else "other bits"


def model(path: str) -> Iterator[tuple[str, str]]:
    graph = prepare(tflite.read(Path(path).read_bytes()).main)
    random = np.random.default_rng(1)
    given = []
    for t in graph.inputs:
        kind, shape = t.type.dtype, t.type.shape
        given.append(
            random.uniform(-1, 1, shape).astype(kind.numpy) if kind.is_float
            else random.integers(kind.minimum, kind.maximum + 1, shape).astype(kind.numpy)
        )  # fmt: skip
    program = lower(graph, target())
    assert is_tiled(program)
    vectors = run(lower(graph, without_tiles(target())), given, target().features)
    yield path, "" if same(executed(program, given), vectors) else "other bits than without tiles"


if __name__ == "__main__":
    command, *rest = sys.argv[1:]
    problems = dict({"cases": cases, "chains": chains, "model": model}[command](*rest))
    found = unit()
    names = ("products", "configurations", "threads")
    print(json.dumps([problems, *(0 if found is None else getattr(found, f"counted_{name}")() for name in names)]))
