"""Graphs to artifacts: lower, print as LLVM IR, compile in worker processes."""

from __future__ import annotations

from lithe.codegen.llvm.emit import print_entry, print_kernel, print_module
from lithe.codegen.llvm.toolchain import Compiler, Settings
from lithe.ir.graph import Graph
from lithe.ir.loops import Kernel
from lithe.ir.program import Program, start_value
from lithe.lower.lower import lower, refuse_unsupported
from lithe.runtime.compiled import ENTRY, Artifact, Layout, Place
from lithe.targets.cpu import GENERIC, x86
from lithe.targets.host import host


def build(graph: Graph) -> Artifact:
    """Lowers and compiles a prepared graph for this machine.

    Raises UnsupportedOp where an operator has no lowering, CompileError where the compiler fails or hangs,
    LimitError where too much memory would be needed.
    """
    refuse_unsupported(graph)
    machine = host()
    target = x86(machine.features, machine.triple) if machine.architecture == "x86_64" else GENERIC
    settings = Settings(machine.triple, features=machine.feature_string)
    with Compiler(settings, workers=min(2, machine.cores)) as compiler:  # starts while the loops are written
        program = lower(graph, target)
        jobs = [compiler.submit(text, name) for name, text in modules(program)]
        objects = tuple(job.result() for job in jobs)
    return Artifact(objects, program.constant_block(), layout(graph, program))


def modules(program: Program, size: int = 2500) -> list[tuple[str, str]]:
    """(name, LLVM text) of modules with about `size` lines each, the entry last. Equal kernels are one function."""
    failures = {text: n + 1 for n, text in enumerate(program.messages())}
    symbols: dict[Kernel, str] = {}
    known: dict[str, str] = {}
    result: list[tuple[str, str]] = []
    waiting: list[str] = []
    lines = 0
    for kernel in program.kernels():
        text = print_kernel(kernel, "lithe_kernel", failures)
        symbol = known.get(text)
        if symbol is None:
            symbol = known[text] = f"lithe_kernel{len(known)}"
            waiting.append(text.replace("@lithe_kernel(", f"@{symbol}(", 1))
            lines += text.count("\n")
        symbols[kernel] = symbol
        if lines > size:
            result.append((kernel.source, print_module(waiting)))
            waiting, lines = [], 0
    if waiting:
        result.append(("the last kernels", print_module(waiting)))
    return [*result, ("the entry", print_entry(program, symbols, ENTRY))]


def layout(graph: Graph, program: Program) -> Layout:
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
        places[t.index] = Place(
            t.index, offset, t.type.dtype.name, t.type.shape, constant, t in program.variables, start_value(t)
        )
    return Layout(program.arena_bytes, tuple(places.values()), tuple(program.messages()), program.name)
