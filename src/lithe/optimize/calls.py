"""Calls: operators that run other graphs of a model, and which of their values are stored as integers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from lithe.ir.graph import Graph, Module, Node, Tensor
from lithe.ops.op import Call
from lithe.types import FLOAT32, DType

Place = Tensor | tuple[Node, int]  # a value; or what a calling node is given in a place


def called(module: Module, node: Node) -> Iterator[tuple[Call, Graph]]:
    """The graphs that an operator runs, and how. What stands for a graph (a composite) is known by its name, too, so
    its graph is left alone."""
    for option, call in node.op.calls.items() if node.has_rules and not node.op.inlined else ():
        numbers = getattr(node.attrs, option)
        for number in numbers if isinstance(numbers, tuple) else (numbers,):
            yield call, module.graphs[number]


def reached(module: Module) -> list[Graph]:
    """The main graph, and those that it runs; but for graphs with a signature, which are doors of their own."""
    doors = {id(module.graphs[s.graph]) for s in module.signatures if s.graph}
    found = [module.main]
    for graph in found:
        for node in graph.nodes:
            found += [g for _, g in called(module, node) if g not in found and id(g) not in doors]
    return found


def carried(module: Module, graphs: Iterable[Graph]) -> list[frozenset[Place]]:
    """The values that calls hand on: each with all of its places in calling nodes and in the graphs that they run."""
    groups: dict[Place, set[Place]] = {}

    def join(a: Place, b: Place) -> None:
        joined = groups.setdefault(a, {a}) | groups.setdefault(b, {b})
        groups.update(dict.fromkeys(joined, joined))

    inside = list(graphs)
    for node in (n for graph in inside for n in graph.nodes):
        calls = list(called(module, node))
        if any(callee not in inside for _, callee in calls):
            continue
        for call, callee in calls:
            for i, t in enumerate(callee.inputs):
                join((node, call.first + i), t)
            for i, t in enumerate(callee.outputs):
                if call.results:
                    join(node.outputs[i], t)
                if call.repeats:
                    join((node, call.first + i), t)
    return [frozenset(g) for g in {id(g): g for g in groups.values()}.values()]


def as_one_type(
    groups: Iterable[frozenset[Place]], stored: Mapping[Tensor, DType], values: Mapping[Node, DType | None]
) -> dict[frozenset[Place], DType]:
    """The values that are handed on as integers, and as what.

    Those are which some operator on integers reads or writes in a graph that is run.

    stored  the tensors at the ends of such graphs that operators on integers read and write, and as what.
    values  the types on which calling nodes are to compute.
    """
    chosen: dict[frozenset[Place], DType] = {}
    for group in groups:
        tensors = [p for p in group if isinstance(p, Tensor)]
        wanted = {stored[t] for t in tensors if t in stored}
        types = wanted | {values.get(p[0]) for p in group if isinstance(p, tuple)}
        if wanted and len(types) == 1 and all(t.type.dtype == FLOAT32 for t in tensors):
            chosen[group] = wanted.pop()
    return chosen
