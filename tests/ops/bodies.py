"""Graphs that test rows call: how they are written down, and a small stand-in for the model around them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lithe.ir.graph import Graph, Node, Tensor
from lithe.ops import REGISTRY, Site
from lithe.types import DType, Shape, TensorType, dtype_of


@dataclass
class Model:
    """The environment of a test row: its graphs are numbers 1, 2, ..., the row itself is graph 0."""

    graphs: tuple[Graph, ...]
    resources: dict[Hashable, Any] = field(default_factory=dict)

    def graph(self, number: int) -> Graph:
        return self.graphs[number - 1]

    def call(self, number: int, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        graph = self.graph(number)
        values = {t: t.data for t in graph.tensors if t.data is not None}
        values.update(zip(graph.inputs, arrays, strict=True))
        for node in graph.nodes:
            results = node.op.evaluate(Site.of(node, self), *(values[t] for t in node.inputs if t is not None))
            values.update(zip(node.outputs, results, strict=True))
        return [values[t].copy() for t in graph.outputs]

    def call_once(self, number: int, leaves: Any = None) -> None:
        self.call(number, [])

    def shapes(self, number: int, inputs: Sequence[TensorType]) -> list[Shape]:
        return [t.type.shape for t in self.graph(number).outputs]

    def spend(self, iterations: int, number: int) -> None:
        pass

    def affords(self, work: int) -> bool:
        return True


Step = tuple[Any, ...]  # operator, {attributes}, operands (numbers of values, or scalars), result type


def body(inputs: Sequence[DType], steps: Sequence[Step], outputs: Sequence[int]) -> Graph:
    """A graph on scalars. Its values are numbered: the inputs first, then the result of each step.

    A step is (operator, attributes, operands, dtype); an operand is the number of a value, or an array (a constant).
    """
    values = [Tensor(f"argument{i}", TensorType(dtype, ()), index=i) for i, dtype in enumerate(inputs)]
    tensors, nodes = list(values), []
    for op, attrs, operands, dtype in steps:
        places = []
        for operand in operands:
            if isinstance(operand, np.generic | np.ndarray):
                data = np.asarray(operand)
                places.append(Tensor("constant", TensorType(dtype_of(data), data.shape), data))
                tensors.append(places[-1])
            else:
                places.append(values[operand])
        values.append(Tensor("value", TensorType(dtype, ())))
        tensors.append(values[-1])
        kind = REGISTRY.by_name[op]
        nodes.append(Node(kind, kind.Attrs(**attrs), places, [values[-1]], len(nodes)))
    return Graph("body", list(values[: len(inputs)]), [values[i] for i in outputs], tensors, nodes)


def pairwise(op: str, dtype: DType) -> Graph:
    """(a, b) -> op(a, b)"""
    return body((dtype, dtype), [(op, {}, (0, 1), dtype)], (2,))
