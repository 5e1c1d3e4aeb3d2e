"""Graphs to artifacts: lower, print as LLVM IR, compile in worker processes."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lithe.codegen.llvm.emit import print_entry, print_kernel, print_module
from lithe.codegen.llvm.threads import print_alone, print_threads
from lithe.codegen.llvm.toolchain import Compiler, Job, Settings
from lithe.ir.graph import Graph, Node
from lithe.ir.loops import Instruction, Kernel
from lithe.ir.program import Packs, Program, failures, joined, start_value
from lithe.lower.lower import lower, refuse_unsupported
from lithe.lower.schedule import Choice
from lithe.ops.op import Environment
from lithe.passes.bind_variables import Variable
from lithe.runtime.compiled import ENTRY, Artifact, Layout, Place
from lithe.runtime.loader import kept_form
from lithe.targets.cpu import GENERIC, Target, x86
from lithe.targets.host import host

if TYPE_CHECKING:
    from lithe.runtime.tuning import Tuning


def build(
    graphs: Sequence[Graph],
    environment: Environment | None = None,
    variables: Mapping[int, Variable] | None = None,
    once: tuple[int, ...] = (),
    *,
    precision: str = "strict",
    tuning: Tuning | None = None,
) -> list[Artifact]:
    """Lowers and compiles prepared graphs for this machine.

    variables, once  see `lithe.passes.bind_variables`.
    precision        of products of floats, see `lithe.load`.
    tuning           finds the quickest ways to write contractions before.

    Raises UnsupportedOp where an operator has no lowering, CompileError where the compiler fails or hangs,
    LimitError where too much memory would be needed.
    """
    for graph in graphs:
        refuse_unsupported(graph, environment)
    machine = host()
    target = this_target(precision)
    settings = Settings(machine.triple, features=machine.feature_string)
    found = tuning.choose(graphs, target, environment) if tuning else [None for _ in graphs]
    with Compiler(settings, workers=min(2, machine.cores)) as compiler, uncollected():  # starts while loops are written
        programs, jobs = [], []
        for graph, ways in zip(graphs, found, strict=True):
            group: list[Job] = []
            jobs.append(group)
            programs.append(lowered(graph, target, environment, compiler, group, ways))
        places = [layout(g, p, variables or {}, once) for g, p in zip(graphs, programs, strict=True)]
        pieces = [(program.constant_pieces(), program.constant_bytes) for program in programs]
        programs.clear()  # frees the kernels, and each packed constant when it is copied
        constants = [joined(*p) for p in pieces]  # while the last modules are compiled
        objects = [tuple(job.result() for job in group) for group in jobs]
    return [Artifact(kept_form(o), c, p) for o, c, p in zip(objects, constants, places, strict=True)]


@contextmanager
def uncollected() -> Iterator[None]:
    """Python does not look for unreachable cycles: it would go through all nodes of a program, again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def this_target(precision: str = "strict") -> Target:
    """The schedules' view of this machine."""
    machine = host()
    if machine.architecture != "x86_64":
        return GENERIC
    return x86(machine.features, machine.triple, precision=precision, vendor=machine.vendor)


def lowered(
    graph: Graph,
    target: Target,
    environment: Environment | None,
    compiler: Compiler,
    jobs: list[Job],
    choices: Mapping[Node, Sequence[Choice]] | None = None,
) -> Program:
    """The program of a graph. Its modules are on their way through the compiler while the next kernels are lowered."""
    writer = ModuleWriter(target.look_up, target.packs)
    early = compiler.submit(threads(ENTRY), "the threads")  # which need not wait for anything

    def each(kernel: Kernel) -> None:
        jobs.extend(compiler.submit(text, name) for name, text in writer.add(kernel))

    program = lower(graph, target, environment, each=each, choices=choices)
    jobs.extend(compiler.submit(text, name) for name, text in writer.rest({ENTRY: program}))
    jobs.append(early)
    return program


def modules(program: Program, entries: Mapping[str, Program] | None = None) -> Iterator[tuple[str, str]]:
    """(name, LLVM text) of each module of a program.

    entries  what can be called, by symbol: programs of steps of this one; by default all of it, as `ENTRY`.
    """
    writer = ModuleWriter(program.look_up, program.packs)
    for kernel in program.kernels():
        yield from writer.add(kernel)
    yield from writer.rest(entries or {ENTRY: program})
    yield "the threads", threads()


def threads(alone: str = "") -> str:
    """LLVM text of what starts entries; `alone` is the entry that needs no arguments, if any does."""
    text = print_threads(host().system, host().architecture)
    return text + print_alone(alone) if alone else text


class ModuleWriter:
    """LLVM text of a program's kernels, as (name, text) of modules with about `size` lines each.

    A module is given as soon as it is written, so that it can be compiled while the
    next one is. Failures have the numbers that `Program.messages` gives them.
    """

    def __init__(self, look_up: Instruction | None, packs: Packs | None, size: int = 2500) -> None:
        self.look_up, self.packs, self.size = look_up, packs, size
        self.failures: dict[str, int] = {}
        self.symbols: dict[Kernel, str] = {}
        self.waiting: list[str] = []
        self.lines = 0

    def add(self, kernel: Kernel) -> Iterator[tuple[str, str]]:
        """Takes the next kernel of the program."""
        for text in failures(kernel):
            self.failures.setdefault(text, len(self.failures) + 1)
        symbol = self.symbols[kernel] = f"lithe_kernel{len(self.symbols)}"
        self.waiting.append(print_kernel(kernel, symbol, self.failures, self.look_up, self.packs))
        self.lines += self.waiting[-1].count("\n")
        if self.lines > self.size:
            yield kernel.source, print_module(self.waiting)
            self.waiting, self.lines = [], 0

    def rest(self, entries: Mapping[str, Program]) -> Iterator[tuple[str, str]]:
        """What is left, then the entries."""
        if self.waiting:
            yield "the last kernels", print_module(self.waiting)
        for symbol, part in entries.items():
            used = {kernel: self.symbols[kernel] for kernel in part.kernels()}
            yield f"the entry {symbol}", print_entry(part, used, symbol)


def layout(graph: Graph, program: Program, variables: Mapping[int, Variable], once: tuple[int, ...] = ()) -> Layout:
    """Where inputs, outputs and variables of the graph lie."""
    places: dict[int, Place] = {}
    tensors = [*zip(graph.inputs, program.inputs, strict=True), *zip(graph.outputs, program.outputs, strict=True)]
    tensors += list(program.variables.items())
    for t, b in tensors:
        if t.index in places or t.index < 0:
            continue
        storage = b.storage
        constant = storage.data is not None
        offset = program.constants[storage] if constant else program.arena[storage]
        bound = variables.get(t.index)
        places[t.index] = Place(
            t.index, offset, t.type.dtype.name, t.type.shape, constant, t in program.variables, start_value(t),
            bound.key if bound else "", bound is not None and bound.read_first,
        )  # fmt: skip
    return Layout(
        program.arena_bytes, tuple(places.values()), tuple(program.messages()), program.name, once,
        program.private_bytes, program.is_shared,
    )  # fmt: skip
