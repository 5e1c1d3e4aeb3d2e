"""Every step of a compiled model: how long it takes, how much work it is, and how near that is to the limit.

The steps are run in their order, over and over, each through an entry of its own into the same code that the whole
model runs; so caches hold what they hold in a real run. A step's time is the best of its rounds, less that of calling
a program without steps.

The floor of a step is the least time that this machine could need: its multiply-accumulates at the measured peak of
their type, or its bytes at the measured bandwidth of the cache that can hold them, whichever takes longer. Weights come
from the cache that holds the whole model, since the whole model runs between two uses; activations from the cache
that holds those of the step, since the step before has just written them.
"""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lithe.bench.peaks import Peaks, measured_peaks
from lithe.bench.work import OPERATOR, Work, operator_macs, work_of
from lithe.errors import InputError
from lithe.ir.graph import Graph
from lithe.ir.program import Program
from lithe.lower.lower import lower
from lithe.runtime.compilation import this_target
from lithe.runtime.instance import Instance
from lithe.runtime.linked import Run, fill, link
from lithe.runtime.source import Source

SHORT = 5e-6  # seconds; a call that takes less is repeated, since the clock is too coarse for it
MOST_CALLS = 20


@dataclass(frozen=True)
class Layer:
    """One step. floor_us is 0 where nothing is known that limits it; fraction = floor_us / us."""

    number: int
    source: str
    output: str
    us: float
    macs: int
    bytes: int
    floor_us: float
    limit: str  # what the floor comes from: "float32", "int8", ... multiply-accumulates, or the cache of the bytes

    @property
    def fraction(self) -> float:
        return self.floor_us / self.us if self.us > 0 else 0.0

    @property
    def gmacs(self) -> float:
        """Thousand million multiply-accumulates a second."""
        return self.macs / self.us / 1e3 if self.us > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "gmacs": self.gmacs, "fraction": self.fraction}


@dataclass(frozen=True)
class Layers:
    """whole_us  best time of one call of all steps; it can differ from their sum, which has the gaps between them.
    arena_bytes, least_bytes  working memory, and what no plan of it could do without.
    """

    model: str
    layers: tuple[Layer, ...]
    whole_us: float
    peaks: Peaks
    arena_bytes: int = 0
    least_bytes: int = 0

    def to_dict(self) -> dict[str, Any]:
        steps = [layer.to_dict() for layer in self.layers]
        memory = {"arena_bytes": self.arena_bytes, "least_bytes": self.least_bytes}
        return {
            "model": self.model, "whole_us": self.whole_us, **memory, "peaks": self.peaks.to_dict(), "layers": steps,
        }  # fmt: skip


def measure_layers(path: str | os.PathLike[str], *, rounds: int = 30, seconds: float = 10.0) -> Layers:
    """Times every step of a model's main graph on random input, on one thread.

    rounds   how often the steps are run, fewer when `seconds` have passed, but at least 3 times.

    Raises UnsupportedOp when the model is not compiled as a whole, InputError for fewer rounds than one.
    """
    if rounds < 1:
        raise InputError(f"rounds={rounds}, expected at least 1")
    instance = Instance(Source(path, keep=False))
    graph = instance.prepared(0, {})
    program = lower(graph, this_target(), instance)
    macs = operator_macs(lower(graph, None, instance))
    runs = _runs(program)
    best = _best(runs, rounds, seconds)
    empty, whole = best[0], best[-1]
    peaks = measured_peaks()
    everything = program.arena_bytes + program.constant_bytes
    outputs = _outputs(graph)
    layers = []
    for number, (step, us) in enumerate(zip(program.steps, best[1:-1], strict=True)):
        work = work_of(step, macs)
        last = (OPERATOR.findall(step.source) or [""])[-1]
        floor, limit = floor_us(work, everything, peaks)
        size = work.constant_bytes + work.activation_bytes
        layers.append(
            Layer(
                number,
                step.source,
                outputs.get(last, ""),
                max(us - empty, 0.0),
                work.total_macs,
                size,
                floor,
                limit,
            )
        )
    return Layers(Path(path).name, tuple(layers), whole, peaks, program.arena_bytes, program.least_bytes)


def floor_us(work: Work, everything: int, peaks: Peaks) -> tuple[float, str]:
    """(microseconds, what they come from): the least time of some work; (0, "") where nothing limits it."""
    arithmetic = sum(count / peaks.macs[kind] * 1e6 for kind, count in work.macs.items() if kind in peaks.macs)
    kind = max(work.macs, key=work.macs.__getitem__, default="")
    far, near = peaks.holding(everything), peaks.holding(work.activation_bytes)
    memory = sum(
        size / bandwidth.bytes_a_second * 1e6
        for size, bandwidth in ((work.constant_bytes, far), (work.activation_bytes, near))
        if bandwidth is not None
    )
    if memory > arithmetic:
        larger = far if work.constant_bytes > work.activation_bytes else near
        return memory, larger.name if larger is not None else ""
    return arithmetic, kind if arithmetic else ""


def _outputs(graph: Graph) -> dict[str, str]:
    """The type of the first output of each operator ("op #3")."""
    return {f"op #{node.index}": str(node.outputs[0].type) for node in graph.nodes if node.outputs}


def _runs(program: Program) -> list[Run]:
    """Callables: nothing, each step, all steps."""
    parts = [[], *([step] for step in program.steps), program.steps]
    entries = {f"lithe_part{n}": replace(program, steps=list(steps)) for n, steps in enumerate(parts)}
    linked = link(program, entries)
    fill(program, linked.arena)
    return list(linked.runs.values())


def _best(runs: list[Run], rounds: int, seconds: float) -> list[float]:
    """The best time of each callable in microseconds, over rounds through all of them."""
    best, calls = [float("inf")] * len(runs), [1] * len(runs)
    clock, finish = time.perf_counter, time.perf_counter() + seconds
    for turn in range(max(rounds, 3)):
        for n, run in enumerate(runs):
            started = clock()
            for _ in range(calls[n]):
                run()
            taken = (clock() - started) / calls[n]
            best[n] = min(best[n], taken)
            calls[n] = min(MOST_CALLS, max(1, round(SHORT / max(taken, 1e-8))))
        if clock() > finish and turn >= 2:
            break
    return [b * 1e6 for b in best]
