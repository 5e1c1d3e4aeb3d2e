"""What is inside of operators: values of fused ones, and tensors of the graphs that operators run, in every round.

The main graph runs as compiled code, which shows its tensors and nothing else. So operators with something inside are
evaluated once more, on what they were given: by their classes (`Op.inside`), and their graphs node by node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lithe.ir.graph import Graph, Module, Node, Tensor
from lithe.ops.op import Environment, Site
from lithe.optimize.calls import called, reached
from lithe.runtime.instance import Instance
from lithe.runtime.reference import ReferenceExecutor
from lithe.runtime.source import Source

Seen = Tensor | tuple[Node, str]  # a tensor, or a value inside of an operator, by name
Show = Callable[[Seen, np.ndarray], None]


def hides(module: Module, node: Node) -> bool:
    """Whether a node of real numbers has something inside that its inputs and outputs do not show, and that can be
    seen: graphs that keep strings or resources are not run twice."""
    if not node.has_rules:
        return False
    if any(called(module, node)):
        return all(_plain(module, graph) for _, graph in called(module, node))
    return node.op.fused is not None and node.op.fused(Site.of(node)) is not None


def _plain(module: Module, graph: Graph) -> bool:
    lasting = any(t.type.dtype.kind in ("string", "resource") for t in graph.tensors)
    return not lasting and all(_plain(module, g) for n in graph.nodes for _, g in called(module, n))


class Inside:
    """The insides of the main graph's operators.

    given  the tensors of the main graph that have to be known for that.
    """

    def __init__(self, module: Module) -> None:
        self._nodes = [n for n in module.main.nodes if hides(module, n) or any(t.is_variable for t in n.outputs)]
        read = dict.fromkeys(t for n in self._nodes for t in n.inputs if t is not None and not t.is_constant)
        self.given = [t for t in read if not t.is_variable]
        self._variables = {t: np.zeros(t.type.shape, t.type.dtype.numpy) for t in read if t.is_variable}
        self._model = Surroundings(module)

    def see(self, found: dict[Tensor, np.ndarray], show: Show) -> None:
        """Evaluates the operators on what the tensors of `given` hold in one run.

        Variables hold what the operators left in them, as in the run; they begin with zeros.
        """
        self._model.show = show
        self._model.begin()
        for node in self._nodes:
            known = found | self._variables
            arrays = [None if t is None else t.data if t.data is not None else known[t] for t in node.inputs]
            results = evaluated_inside(node, self._model, arrays, show)
            written = {t: np.array(r) for t, r in zip(node.outputs, results, strict=True) if t.is_variable}
            self._variables.update(written)


def evaluated_inside(
    node: Node, environment: Environment, arrays: Sequence[np.ndarray | None], show: Show
) -> list[np.ndarray]:
    """The results of an operator, whose values inside are shown."""
    site = Site.of(node, environment)
    pairs = zip(site.inputs, arrays, strict=True)
    site = replace(site, inputs=tuple(None if t is None or a is None else replace(t, shape=a.shape) for t, a in pairs))
    with np.errstate(all="ignore"):
        if node.op.inside is None:
            return list(node.op.evaluate(site, *arrays))
        return list(node.op.inside(site, lambda name, value: show((node, name), value), *arrays))


class Surroundings(Instance):
    """A model whose called graphs show their tensors: the environment of operators that are evaluated to be seen."""

    def __init__(self, module: Module) -> None:
        super().__init__(Source(module))
        self._graphs = reached(module)
        self._executors: dict[tuple[int, tuple[Any, ...]], tuple[Graph, ReferenceExecutor]] = {}
        self.show: Show = lambda seen, value: None

    def call(self, number: int, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        graph = self.graph(number)
        if graph not in self._graphs:
            return super().call(number, arrays)
        key = (number, tuple(a.shape for a in arrays))
        if key not in self._executors:
            shapes = {t.index: a.shape for t, a in zip(graph.inputs, arrays, strict=True)}
            prepared = self._shaped(number, shapes)
            self._executors[key] = prepared, ReferenceExecutor(prepared, self, keep_all=True)
        prepared, executor = self._executors[key]
        for tensor, array in zip(graph.inputs, arrays, strict=True):
            _storage(executor, tensor)[...] = array
        executor.invoke()
        for tensor in self._watched(graph):
            self.show(tensor, _storage(executor, tensor))
        for node in graph.nodes:
            if node.op.inside is not None and hides(self.source.module, node):
                given = [None if t is None else np.array(_storage(executor, t)) for t in node.inputs]
                evaluated_inside(node, self, given, self.show)
        return [np.array(_storage(executor, t)) for t in graph.outputs]

    def _shaped(self, number: int, shapes: dict[int, Any]) -> Graph:
        from lithe.passes import prepare, resize_inputs

        return prepare(resize_inputs(self.graph(number), shapes), self, keep_all=True)

    def _watched(self, graph: Graph) -> Iterator[Tensor]:
        made = (t for n in graph.nodes for t in n.outputs)
        return (t for t in (*graph.inputs, *made) if t.type.dtype.is_float and not t.is_variable)


def _storage(executor: ReferenceExecutor, tensor: Tensor) -> np.ndarray:
    array = executor.array(tensor.index)
    assert array is not None, tensor
    return array
