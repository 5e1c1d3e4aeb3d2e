"""Graphs to artifacts: lower, print as LLVM IR, compile in worker processes."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from lithe.codegen.llvm.emit import print_entry, print_kernel, print_module
from lithe.codegen.llvm.threads import print_threads
from lithe.codegen.llvm.toolchain import Compiler, Settings
from lithe.ir.form import form
from lithe.ir.graph import Graph
from lithe.ir.loops import Kernel
from lithe.ir.program import Program, start_value
from lithe.lower.lower import lower, refuse_unsupported
from lithe.ops.op import Environment
from lithe.passes.bind_variables import Variable
from lithe.runtime.compiled import ENTRY, Artifact, Layout, Place
from lithe.runtime.loader import kept_form
from lithe.targets.cpu import GENERIC, Target, x86
from lithe.targets.host import host

if TYPE_CHECKING:
    from lithe.runtime.tuning import Tuning

WORTH_A_WORKER = 8  # operators whose compilation takes about as long as starting a compile process


def build(
    graphs: Sequence[Graph],
    environment: Environment | None = None,
    variables: Mapping[int, Variable] | None = None,
    once: tuple[int, ...] = (),
    *,
    fast: bool = False,
    tuning: Tuning | None = None,
) -> list[Artifact]:
    """Lowers and compiles prepared graphs for this machine.

    variables, once  see `lithe.passes.bind_variables`.
    fast             whether products of floats may round their factors to bfloat16, where the processor gains by it.
    tuning           finds the quickest ways to write contractions before.

    Raises UnsupportedOp where an operator has no lowering, CompileError where the compiler fails or hangs,
    LimitError where too much memory would be needed.
    """
    for graph in graphs:
        refuse_unsupported(graph, environment)
    machine = host()
    target = this_target(fast=fast)
    settings = Settings(machine.triple, features=machine.feature_string)
    found = tuning.choose(graphs, target, environment) if tuning else [None for _ in graphs]
    workers = min(2, machine.cores, 1 + sum(len(graph.nodes) for graph in graphs) // WORTH_A_WORKER)
    with Compiler(settings, workers=workers) as compiler:  # starts while the loops are written
        programs = [lower(g, target, environment, choices=ways) for g, ways in zip(graphs, found, strict=True)]
        jobs = [[compiler.submit(text, name) for name, text in modules(program)] for program in programs]
        constants = [program.constant_block() for program in programs]  # while the last modules are compiled
        objects = [tuple(job.result() for job in group) for group in jobs]
    return [
        Artifact(kept_form(made), block, layout(graph, program, variables or {}, once))
        for graph, program, block, made in zip(graphs, programs, constants, objects, strict=True)
    ]


def this_target(*, fast: bool = False) -> Target:
    """The schedules' view of this machine."""
    machine = host()
    return x86(machine.features, machine.triple, fast=fast) if machine.architecture == "x86_64" else GENERIC


def modules(
    program: Program, size: int = 2500, entries: Mapping[str, Program] | None = None
) -> Iterator[tuple[str, str]]:
    """(name, LLVM text) of modules with about `size` lines each; the entries and the threads come last.

    Equal kernels are one function. Each module is given as soon as it is written, so that it can be compiled while the
    next one is.

    entries  what can be called, by symbol: programs of steps of this one; by default all of it, as `ENTRY`.
    """
    failures = {text: n + 1 for n, text in enumerate(program.messages())}
    symbols: dict[Kernel, str] = {}
    known: dict[Hashable, str] = {}
    waiting: list[str] = []
    lines = 0
    for kernel in program.kernels():
        key = form(kernel)
        if key in known:
            symbols[kernel] = known[key]
            continue
        symbols[kernel] = known[key] = f"lithe_kernel{len(known)}"
        waiting.append(print_kernel(kernel, known[key], failures, program.look_up))
        lines += waiting[-1].count("\n")
        if lines > size:
            yield kernel.source, print_module(waiting)
            waiting, lines = [], 0
    if waiting:
        yield "the last kernels", print_module(waiting)
    for symbol, part in (entries or {ENTRY: program}).items():
        used = {kernel: symbols[kernel] for kernel in part.kernels()}
        yield f"the entry {symbol}", print_entry(part, used, symbol)
    yield "the threads", print_threads(host().system, host().architecture)


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
