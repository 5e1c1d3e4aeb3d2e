"""Graphs on scalars that an operator applies to elements: what reductions, scatters and sorts are told to do.

In loops a body is written out where it is used, operator by operator, on local scalars. In numpy it runs on whole
arrays at a time when each of its operators works element by element, else once for every element.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lithe.errors import LitheError
from lithe.ir.build import Builder
from lithe.ir.graph import Graph, Node, Tensor
from lithe.ir.loops import Buffer, Call, Expr, constant, statements
from lithe.ops.op import Environment, RuleViolation, Site
from lithe.types import DType, Shape, TensorType

LONGEST = 100  # operators that are written out: more would be too much code for what is done to one element


@dataclass(frozen=True)
class Body:
    """A graph of the model that takes and gives scalars."""

    graph: Graph
    number: int
    model: Environment

    @staticmethod
    def of(site: Site, number: int, arguments: Sequence[DType], results: Sequence[DType]) -> Body:
        """Graph `number` around a site. Raises RuleViolation when it does not take and give scalars of these types."""
        model = site.surroundings()
        graph = model.graph(number)
        for verb, tensors, wanted in (("take", graph.inputs, arguments), ("give", graph.outputs, results)):
            names, got = ", ".join(map(str, wanted)), ", ".join(str(t.type) for t in tensors)
            fits = [t.type.dtype for t in tensors] == list(wanted) and all(t.type.shape == () for t in tensors)
            site.require(fits, f"graph #{number} must {verb} scalars of types ({names}), has ({got})")
        for node in graph.nodes:
            if node.refusal is not None:
                raise node.refusal
            known = node.op.known and node.op.infer(Site.of(node, model)) == [t.type.shape for t in node.outputs]
            site.require(known, f"graph #{number}: no rule for {node!r} as it stands")
        return Body(graph, number, model)

    # in numpy

    def evaluate(self, *arrays: np.ndarray) -> list[np.ndarray]:
        """The results for arguments of one shape, each in an array of its own."""
        shape = arrays[0].shape
        if all(node.op.elementwise for node in self.graph.nodes):
            return self._at_once(shape, arrays)
        self.model.spend(arrays[0].size, self.number)
        results = [np.empty(shape, t.type.dtype.numpy) for t in self.graph.outputs]
        for place in np.ndindex(*shape):
            for result, value in zip(results, self.model.call(self.number, [a[place] for a in arrays]), strict=True):
                result[place] = value
        return results

    def _at_once(self, shape: Shape, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        values: dict[Tensor, np.ndarray] = dict(zip(self.graph.inputs, arrays, strict=True))
        spread = {t: np.broadcast_to(t.data, shape) for t in self.graph.tensors if t.data is not None}
        values.update(spread)
        for node in self.graph.nodes:
            site = self._spread(node, shape)
            found = [None if t is None else values[t] for t in node.inputs]
            values.update(zip(node.outputs, node.op.evaluate(site, *found), strict=True))
        return [np.array(values[t]) for t in self.graph.outputs]

    def _spread(self, node: Node, shape: Shape) -> Site:
        """The site of a node with every operand of a shape."""

        def of(t: Tensor | None) -> TensorType | None:
            return None if t is None else replace(t.type, shape=shape)

        site = Site.of(node, self.model)
        outputs = tuple(replace(t.type, shape=shape) for t in node.outputs)
        return replace(site, inputs=tuple(map(of, node.inputs)), outputs=outputs)

    # in loops

    def lowers(self) -> bool:
        """Whether the whole body has loops, without a check that could end the inference amid parallel iterations."""
        made = [t for node in self.graph.nodes for t in node.outputs]
        if len(made) > LONGEST or any(t.type.size > 1 for t in made):
            return False
        for node in self.graph.nodes:
            if node.op.lower is None or not node.op.lowers(Site.of(node, self.model)):
                return False
        probe = Builder("probe")
        self.lower(probe, [constant(0, t.type.dtype) for t in self.graph.inputs])
        return not any(isinstance(s, Call) for s in statements(probe.kernel().body))

    def lower(self, b: Builder, values: Sequence[Expr]) -> list[Expr]:
        """Writes the body for these arguments where the builder stands; its results."""
        held: dict[Tensor, Buffer] = {}

        def buffer(t: Tensor | None) -> Buffer | None:
            if t is None or t in held:
                return None if t is None else held[t]
            if t.data is None:
                held[t] = b.local(t.type.dtype, t.type.shape, "value")
            else:
                held[t] = b.constant(t.data, "constant").viewed(t.type.shape)
            return held[t]

        for t, value in zip(self.graph.inputs, values, strict=True):
            held[t] = b.variable(value, "argument")
        for node in self.graph.nodes:
            xs, ys = tuple(map(buffer, node.inputs)), tuple(map(buffer, node.outputs))
            node.op.lower(b, Site.of(node, self.model), xs, ys)
        return [held[t][()] for t in self.graph.outputs]


def lowering(site: Site, number: int, arguments: Sequence[DType], results: Sequence[DType]) -> bool:
    """Whether loops can be written for a site that applies graph `number`."""
    try:
        return Body.of(site, number, arguments, results).lowers()
    except (RuleViolation, LitheError):  # evaluation says what is wrong
        return False
