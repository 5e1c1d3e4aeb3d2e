"""A graph of which not all can be compiled: the parts that can become single operators of machine code.

    x -> CONV -> RELU -> WHERE -> SHAPE -> ADD     ->     x -> [part] -> WHERE -> SHAPE -> ADD

What stays runs through its `evaluate`: control flow, strings, and shapes that only a run can tell.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from lithe.ir.graph import Graph, Node, Tensor
from lithe.ops.op import Op, Site
from lithe.passes.remove_dead import has_effect
from lithe.runtime.compiled import CompiledExecutor
from lithe.types import Shape

FEW_OPERATORS = 2
FEW_BYTES = 1 << 13


class Part(Op):
    """Several operators as one call of machine code; its attributes are the executor of that code."""

    name = "PART"
    operands = (("inputs*",), ("outputs*",))
    stateful = True

    def infer(site: Site) -> list[Shape]:
        return [t.shape for t in site.outputs]

    def evaluate(site: Site, *arrays: np.ndarray) -> list[np.ndarray]:
        executor: CompiledExecutor = site.attrs
        for i, array in enumerate(arrays):
            storage = executor.array(i)
            if storage is not None:
                storage[...] = array
        executor.invoke()
        for i, array in enumerate(arrays):
            changed = executor.variable(i)
            if changed is not None:
                array[...] = changed
        results = (executor.array(len(arrays) + i) for i in range(len(site.outputs)))
        return [r for r in results if r is not None]


def is_light(nodes: Sequence[Node]) -> bool:
    """Whether evaluating the nodes costs no more than entering compiled code: a few of them, on little data."""
    working = [n for n in nodes if not n.op.alias]
    bytes_ = sum(
        t.type.nbytes for n in working for t in (*n.inputs, *n.outputs) if t is not None and -1 not in t.type.shape
    )
    return len(working) <= FEW_OPERATORS and bytes_ <= FEW_BYTES


def grouped(graph: Graph, compiles: Callable[[Node], bool]) -> list[list[Node]]:
    """The nodes in an order that keeps what depends on what, in as few runs of one kind as that allows.

    Nodes with effects keep their order among each other.
    """
    producers = graph.producers()
    waits: dict[Node, int] = {}
    followers: dict[Node, list[Node]] = {n: [] for n in graph.nodes}
    last_effect: Node | None = None
    for n in graph.nodes:
        before = {producers[t] for t in n.inputs if t in producers}
        if has_effect(n):
            before |= {last_effect} if last_effect is not None else set()
            last_effect = n
        waits[n] = len(before)
        for b in before:
            followers[b].append(n)
    place = {n: i for i, n in enumerate(graph.nodes)}
    ready: dict[bool, list[tuple[int, Node]]] = {True: [], False: []}

    def add(nodes: Iterable[Node]) -> None:
        for n in nodes:
            heapq.heappush(ready[compiles(n)], (place[n], n))

    add(n for n in graph.nodes if not waits[n])
    runs: list[list[Node]] = []
    kind = True
    while ready[True] or ready[False]:
        run: list[Node] = []
        while ready[kind]:
            _, n = heapq.heappop(ready[kind])
            run.append(n)
            for f in followers[n]:
                waits[f] -= 1
                if not waits[f]:
                    add([f])
        if run:
            runs.append(run)
        kind = not kind
    return runs


def part_of(graph: Graph, nodes: list[Node]) -> tuple[Graph, Node]:
    """(the nodes as a graph of their own, the node that takes their place; its attributes are still to be given).

    The part's tensors are numbered: inputs from 0, outputs after them.
    """
    inside, made = set(nodes), {t for n in nodes for t in n.outputs}
    elsewhere = {t for n in graph.nodes if n not in inside for t in n.inputs} | set(graph.outputs)
    read = dict.fromkeys(t for n in nodes for t in n.inputs if t is not None and t not in made and not t.is_constant)
    inputs, outputs = list(read), [t for t in dict.fromkeys(t for n in nodes for t in n.outputs) if t in elsewhere]
    tensors: list[Tensor] = list(dict.fromkeys(t for n in nodes for t in (*n.inputs, *n.outputs) if t is not None))
    part = Graph(graph.name, inputs, outputs, tensors, nodes).copy()
    for t in part.tensors:
        t.index = -1
    for i, t in enumerate((*part.inputs, *part.outputs)):
        t.index = i
    part.inputs = [t for t in part.inputs if not t.is_variable]
    where = f"{nodes[0]!r} to {nodes[-1]!r}" if len(nodes) > 1 else repr(nodes[0])
    return part, Node(Part, where, list(inputs), outputs, nodes[0].index)


def with_parts(graph: Graph, runs: list[list[Node]], parts: dict[int, Node]) -> Graph:
    """The graph with some runs of nodes, by their place, each replaced by one node."""
    nodes = [n for i, run in enumerate(runs) for n in ([parts[i]] if i in parts else run)]
    return replace(graph, nodes=nodes)
