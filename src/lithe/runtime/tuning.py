"""Which way to write each contraction is the quickest here: found out by running them, and kept.

A program is lowered with all ways that are worth a try (`lithe.lower.schedule.choices`), and its kernels run in their
order, over and over. Each round takes, for each kernel, the next of its ways, so that all of them find the caches as
the kernel before has left them, and a slow moment of the machine meets them alike. The least time of each counts. The
best way of each kernel runs once more against the usual one; it is taken if it is at least a few per cent quicker.

The answers lie in the code cache, one for each form of a kernel: what it does, on this processor, by these sources, for
so many threads. A kernel whose answer is known is not run again, in whichever model it is.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING

from lithe.codegen.llvm.installed import llvm_stamp
from lithe.errors import CompileError, warn
from lithe.ir.form import form
from lithe.ir.graph import Graph, Node
from lithe.ir.program import Program, Step
from lithe.lower.lower import lower
from lithe.lower.schedule import USUAL, Choice, choices
from lithe.lower.share_out import work_of
from lithe.runtime.cache import Cache, key
from lithe.runtime.compiled import compiler_stamp
from lithe.runtime.linked import Run, fill, link
from lithe.targets.cpu import Target
from lithe.targets.host import host

if TYPE_CHECKING:
    from lithe.ops.op import Environment
    from lithe.runtime.workers import Workers

FIRST, AT_ONCE = 4, 16  # kernels whose ways are compiled and run together: at first, and at most
ROUNDS = 20  # that each way is run, if there is time
LEAST_ROUNDS = 5  # with fewer nothing is known
GAIN = 0.03  # what a way must save to be taken
WIDTH = 30  # letters of the progress bar

Choices = dict[Node, Sequence[Choice]]


class Tuning:
    """Finds the ways for the graphs of one model.

    workers  the threads that run it, None where it is one.
    seconds  to spend at most, on all graphs together; what has not had its turn stays as usual, and is looked at the
             next time.
    keep     whether answers may be kept on disk, and taken from there.

    measured  how many kernels were run.
    complete  whether nothing is left to be looked at, of the graphs that were asked for last.
    """

    def __init__(self, workers: Workers | None = None, seconds: float = 60.0, *, keep: bool = True) -> None:
        self.workers, self.keep = workers, keep
        self.left, self.finish = seconds, 0.0
        self.measured, self.complete = 0, True
        self._known: dict[bytes, str] = {}
        self._cache = Cache()

    @property
    def threads(self) -> int:
        return 1 if self.workers is None else self.workers.threads

    def choose(self, graphs: Sequence[Graph], target: Target, environment: Environment | None) -> list[Choices]:
        """For each graph the ways to write its kernels, for `lower`: those that are not the usual one."""
        begun, self.complete = time.perf_counter(), True
        self.finish = begun + self.left
        try:
            return [self._chosen(graph, target, environment) for graph in graphs]
        finally:
            self.left -= time.perf_counter() - begun

    def _chosen(self, graph: Graph, target: Target, environment: Environment | None) -> Choices:
        ways = {c.name: c for c in choices(target, self.threads)}
        usual = lower(graph, target, environment)
        heads = contractions(graph, usual)
        names = {step: self._name(step, target) for step in heads}
        first = dict(zip(reversed(names.values()), reversed(names), strict=True))  # of the kernels of one form
        unknown = [step for name, step in first.items() if self._answer(name, ways) is None]
        unknown.sort(key=lambda step: -work_of(step.kernel.body))  # where most can be gained comes first
        with progress(graph.name or "model", len(unknown)) as show:
            each = 0.0  # seconds that a kernel took
            while unknown:
                begun = time.perf_counter()
                room = self.finish - begun
                if room <= each:
                    self.complete = False
                    break
                size = min(AT_ONCE, int(room / each)) if each else FIRST
                batch = {heads[step]: names[step] for step in unknown[:size]}
                self._measure(graph, target, environment, batch, list(ways.values()), show)
                unknown = unknown[size:]
                each = (time.perf_counter() - begun) / len(batch)
        found = {heads[step]: self._known.get(name, USUAL.name) for step, name in names.items()}
        return {node: (ways[name],) for node, name in found.items() if name != USUAL.name}

    def _name(self, step: Step, target: Target) -> bytes:
        """The key of a kernel's answer."""
        what = sha256(repr(form(step.kernel)).encode()).digest()
        machine = host().fingerprint(), str(target.float_dot is not None), str(self.threads)
        return key("tuned", what, compiler_stamp(), llvm_stamp(), *machine)

    def _answer(self, name: bytes, ways: Collection[str]) -> str | None:
        if name not in self._known and self.keep and (entry := self._cache.get(name)) is not None:
            self._known[name] = bytes(entry.part("choice")).decode()
        found = self._known.get(name)
        return found if found is not None and found in ways else None

    def _measure(
        self,
        graph: Graph,
        target: Target,
        environment: Environment | None,
        batch: dict[Node, bytes],
        ways: Sequence[Choice],
        show: Callable[[], None],
    ) -> None:
        program = without_twins(lower(graph, target, environment, choices=dict.fromkeys(batch, ways)))
        names = {step: batch[node] for step, node in contractions(graph, program).items() if node in batch}
        try:
            race = Race(program, self.workers)
        except CompileError as cause:  # of a way that nobody else takes: the usual ones compile
            warn("some kernels are not tuned: %s", cause.problem)
            for name in names.values():
                self._keep(name, USUAL.name)
            return
        try:
            race.run(self.finish)
        finally:  # an interrupted race has results, too
            if race.rounds_of_each >= LEAST_ROUNDS:
                for step, name in names.items():
                    self._keep(name, race.winner(step))
                    show()
        self.complete = self.complete and race.rounds_of_each >= LEAST_ROUNDS

    def _keep(self, name: bytes, choice: str) -> None:
        self.measured += 1
        self._known[name] = choice
        if self.keep and not self._cache.put(name, {"choice": choice.encode()}):
            self.keep = False
            warn("what tuning finds is not kept: %s", self._cache.reason)


def contractions(graph: Graph, program: Program) -> dict[Step, Node]:
    """The steps that begin with a node whose results are a contraction's, and that node."""
    named = {f"op #{n.index} {n.op.name}": n for n in graph.nodes if n.op.contracts}
    found = {step: named.get(step.source.split(" + ")[0]) for step in program.steps}
    return {step: node for step, node in found.items() if node is not None}


def without_twins(program: Program) -> Program:
    """The program without ways that come out as one that is there."""
    kept: dict[Step, dict[str, Step]] = {}
    for step, ways in program.alternatives.items():
        different = {form(way.kernel): name for name, way in reversed(ways.items())}
        different.pop(form(step.kernel), None)
        names = set(different.values())
        kept.update({step: {name: way for name, way in ways.items() if name in names}} if names else {})
    return replace(program, alternatives=kept)


@dataclass
class Lane:
    """One way of one step. best: the least time of a run, in seconds."""

    name: str
    run: Run
    best: float = float("inf")


def fastest(lanes: Sequence[Lane]) -> Lane:
    """The lane with the least time; the usual one, the first, if no other gains by it."""
    best = min(lanes, key=lambda lane: lane.best)
    return best if best.best < lanes[0].best * (1 - GAIN) else lanes[0]


class Race:
    """Runs the steps of a program in all their ways.

    rounds_of_each  how often each way was run against all others.
    """

    def __init__(self, program: Program, workers: Workers | None) -> None:
        whole = replace(program, steps=program.every_step(), alternatives={})
        parts = {f"lithe_part{n}": replace(whole, steps=[step]) for n, step in enumerate(whole.steps)}
        linked = link(whole, parts, workers)
        fill(program, linked.arena)
        runs = dict(zip(whole.steps, linked.runs.values(), strict=True))
        self.lanes = {
            step: [
                Lane(USUAL.name, runs[step]),
                *(Lane(n, runs[w]) for n, w in program.alternatives.get(step, {}).items()),
            ]
            for step in program.steps
        }
        self.rounds_of_each = 0

    def run(self, finish: float) -> None:
        """All ways, and then the best one of each step against the usual one: a lucky moment does not decide."""
        self.rounds_of_each = self.turns(self.lanes, finish)
        pairs = {
            step: [lanes[0], best] for step, lanes in self.lanes.items() if (best := fastest(lanes)) is not lanes[0]
        }
        alone = {step: lanes[:1] for step, lanes in self.lanes.items()}
        self.turns({**alone, **pairs}, finish)

    def turns(self, lanes: dict[Step, list[Lane]], finish: float) -> int:
        """Runs the steps in their order, each time another way of each: ROUNDS times every way, fewer when the time is
        over. How often each was run."""
        clock, most, done = time.perf_counter, max(map(len, lanes.values()), default=1), 0
        while done < ROUNDS * most and clock() < finish:
            for number, ways in enumerate(lanes.values()):
                lane = ways[(done + number) % len(ways)]
                started = clock()
                lane.run()
                lane.best = min(lane.best, clock() - started)
            done += 1
        return done // most

    def winner(self, step: Step) -> str:
        return fastest(self.lanes[step]).name


@contextmanager
def progress(name: str, total: int) -> Iterator[Callable[[], None]]:
    """Shows a bar on a terminal; what it gives is called for each kernel that is done."""
    silent = not total or not sys.stderr.isatty() or bool(os.environ.get("LITHE_NO_PROGRESS"))
    done = 0

    def draw() -> None:
        full = WIDTH * done // max(total, 1)
        sys.stderr.write(f"\rtuning {name}: [{'#' * full}{'.' * (WIDTH - full)}] {done} of {total} kernels")
        sys.stderr.flush()

    def show() -> None:
        nonlocal done
        done += 1
        if not silent:
            draw()

    if not silent:
        draw()
    try:
        yield show
    finally:
        if not silent:
            sys.stderr.write("\n")
