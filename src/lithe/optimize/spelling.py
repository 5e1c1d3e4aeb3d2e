"""Operators without an integer form, as such that have one: what their classes say of that (`Op.spelled`)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lithe.errors import ModelError
from lithe.ir.graph import Graph, Module, Node, Tensor
from lithe.ops.op import REGISTRY, RuleViolation, Site
from lithe.optimize.integers import integer_form, is_finite
from lithe.optimize.recipes import Plan, Scheme
from lithe.passes.infer_shapes import infer_node
from lithe.passes.writer import Inexpressible, Writer
from lithe.types import BOOL, FLOAT32, TensorType

Body = Callable[["Speller", Tensor, list[Tensor], Tensor], Sequence[Tensor]]


class Speller(Writer):
    """Writes operators of real numbers into a graph; its loops become graphs of the module."""

    def __init__(self, module: Module, title: str) -> None:
        super().__init__()
        self.module, self.title = module, title

    def name(self) -> str:
        return self.title

    def infer(self, node: Node, rank: int) -> None:
        infer_node(node)

    def number(self, value: float) -> Tensor:
        return self.constant(value, FLOAT32)

    def reals(self, array: np.ndarray) -> Tensor:
        return self.constant(array, FLOAT32)

    def split(self, x: Tensor, count: int) -> list[Tensor]:
        """Equal parts of the columns."""
        return self.several("SPLIT", self.constant(1), x, dtypes=[FLOAT32] * count, num_splits=count)

    def keep(self, variable: Tensor, value: Tensor) -> None:
        """variable = value. An operator that moves elements may write a variable."""
        cls, rank = REGISTRY.by_name["SLICE"], value.type.rank
        inputs: list[Tensor | None] = [value, self.constant([0] * rank), self.constant(value.type.shape)]
        self.add(Node(cls, cls.Attrs(), inputs, [variable]))

    def loop(self, count: int, body: Body, carried: Sequence[Tensor], given: Tensor) -> list[Tensor]:
        """values = body(number, values, given) for each number below count, from the carried values on."""
        open_sizes = any(-1 in (t.shape_signature or ()) for t in self.module.main.inputs)
        self.require(not open_sizes, "the number of steps may change")
        start = [self.constant(0), *carried, given]
        condition, w, values = self._graph("condition", start)
        self._finish(condition, w, [w("LESS", values[0], w.constant(count), dtype=BOOL)])
        graph, w, values = self._graph("body", start)
        number, *states, same = values
        made = body(w, number, states, same)
        self._finish(graph, w, [w("ADD", number, w.constant(1)), *made, same])
        cls = REGISTRY.by_name["WHILE"]
        outputs = [Tensor(f"{self.title}/last{i}", t.type) for i, t in enumerate(start)]
        numbers = {
            "cond_subgraph_index": len(self.module.graphs) - 2,
            "body_subgraph_index": len(self.module.graphs) - 1,
        }
        self.add(Node(cls, cls.Attrs(**numbers), list(start), outputs))
        return outputs[1:-1]

    def _graph(self, title: str, start: Sequence[Tensor]) -> tuple[Graph, Speller, list[Tensor]]:
        inputs = [
            Tensor(f"{self.title}/{title}{i}", TensorType(t.type.dtype, t.type.shape)) for i, t in enumerate(start)
        ]
        graph = Graph(f"{self.title}/{title}", list(inputs), [], [], [])
        self.module.graphs.append(graph)
        return graph, Speller(self.module, graph.name), inputs

    def _finish(self, graph: Graph, writer: Speller, outputs: list[Tensor]) -> None:
        graph.nodes, graph.outputs = writer.nodes, outputs
        graph.renumber()


def spell_out(module: Module, plan: Plan) -> Plan:
    """Rewrites, in the module itself, what is to be computed on integers and cannot be; returns the plan for that.

    y = SQUARE(x)  ->  y = MUL(x, x);   a layer that walks along a sequence  ->  a loop of products
    """
    schemes = dict(plan.schemes)
    for graph in module.graphs:  # the graphs of loops that are written come after the others
        read = {t for n in graph.nodes for t in n.inputs if t is not None}.union(graph.outputs)
        nodes: list[Node] = []
        left = deque(graph.nodes)
        while left:
            node = left.popleft()
            scheme, before = schemes.get(node), len(module.graphs)
            instead = None if scheme is None else _spelled(module, node, scheme, read)
            if instead is None or scheme is None:
                nodes.append(node)
                continue
            made = [*instead, *(n for g in module.graphs[before:] for n in g.nodes)]
            schemes.update(dict.fromkeys(made, scheme))
            left.extendleft(reversed(instead))
        graph.nodes = nodes
        graph.renumber()
    return Plan(schemes)


def _spelled(module: Module, node: Node, scheme: Scheme, read: set[Tensor]) -> list[Node] | None:
    """What takes the node's place; None where nothing can, or needs to."""
    if scheme.values is None or not node.has_rules or integer_form(node, scheme) is not None:
        return None
    first = node.inputs[0] if node.inputs else None
    if node.op.spelled is None or first is None or first.type.dtype != FLOAT32:
        return None
    if not all(is_finite(t.data) for t in node.inputs if t is not None):
        return None
    writer, graphs = Speller(module, node.outputs[0].name), len(module.graphs)
    try:
        made: Any = node.op.spelled(writer, Site.of(node), *node.inputs)
    except (Inexpressible, ModelError, RuleViolation):
        made = None
    results = made if isinstance(made, list) else [made]
    given = {n: y for n, y in zip(results, node.outputs, strict=False) if n is not None}
    lost = [y for y in node.outputs if y not in given.values() and y in read]
    if made is None or lost:
        del module.graphs[graphs:]
        return None
    for n in writer.nodes:
        n.inputs = [None if t is None else given.get(t, t) for t in n.inputs]
        n.outputs = [given.get(t, t) for t in n.outputs]
    return writer.nodes
