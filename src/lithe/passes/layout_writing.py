"""The nodes of a graph whose axes were put into other orders, and the transposes that are left between them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lithe.ir.graph import Graph, Node, Tensor
from lithe.ops.op import REGISTRY, NoAttrs
from lithe.passes.axes import Layout, Turning, after, identity, inverse, turned_type
from lithe.passes.layout_plan import Plan
from lithe.passes.transposes import Open, is_transpose, sizes_of_reshape
from lithe.types import INT32, Shape, TensorType

Turned = dict[Tensor, tuple[Tensor, Layout] | None]


def root(turned: Turned, t: Tensor) -> tuple[Tensor | None, Layout]:
    """The tensor of which this is one with its axes in an order, and that order; None: its elements were mixed."""
    order = identity(t.type.rank)
    while t in turned:
        found = turned[t]
        if found is None:
            return None, order
        t, layout = found
        order = tuple(layout[a] for a in order)
    return t, order


class Writing:
    """The nodes of a graph with the labels of a plan."""

    def __init__(self, graph: Graph, plan: Plan, is_open: Open, turned: Turned) -> None:
        self.graph, self.plan, self.is_open, self.turned = graph, plan, is_open, turned
        for t, (source, layout) in plan.views.items():
            if root(turned, source)[0] is not root(turned, t)[0]:
                turned.setdefault(t, (source, layout))
        self.made: list[Node] = []
        self.have: dict[Tensor, dict[Layout, Tensor]] = {}
        self.shuffles: dict[Tensor, tuple[int, ...]] = {}
        self.constants: dict[tuple[int, bytes], Tensor] = {}
        self.old = {plan.view(n.outputs[0]): n.outputs[0] for n in reversed(graph.nodes) if is_transpose(n)}
        for t in graph.outputs:
            if t in plan.views:
                self.old[plan.view(t)] = t

    def nodes(self) -> Iterator[Node]:
        given = set(self.graph.outputs)
        for i, node in enumerate(self.graph.nodes):
            if node.outputs and node.outputs[0] in self.plan.views:
                if node.outputs[0] in given:
                    self._give(node.outputs[0])
                continue
            label = self.plan.labels[i]
            turning = self.plan.turnings[i]
            if turning is None or label is None or label == identity(turning.rank):
                self.made.append(self._as_it_was(node))
            else:
                self._turned(node, turning, label)
                for t in node.outputs:
                    if t in given:
                        self._give(t)
        return iter(self.made)

    def _give(self, output: Tensor) -> None:
        """Makes an output of the graph in the order that its readers know."""
        source, layout = self.plan.view(output)
        if self.get(source, layout) is not output:
            self._emit(self.get(source, layout), identity(len(layout)), output)

    def _as_it_was(self, node: Node) -> Node:
        inputs = [None if t is None else self.operand(t, identity(t.type.rank)) for t in node.inputs]
        shuffled = self._shuffled(node, inputs)
        return Node(node.op, node.attrs, shuffled, node.outputs, node.index, node.extras, node.refusal,
                    node.intermediates)  # fmt: skip

    def _turned(self, node: Node, turning: Turning, label: Layout) -> None:
        found = turning.layouts(label)
        assert found is not None
        inputs = []
        for t, layout in zip(node.inputs, found.inputs, strict=True):
            inputs.append(t if t is None else self.operand(t, layout or identity(t.type.rank)))
        operands = self._shuffled(node, turning.inputs(label, inputs, self.constant))
        outputs = []
        for t, layout in zip(node.outputs, found.outputs, strict=True):
            made = t if layout == identity(t.type.rank) else self._like(t, layout)
            self.have[t] = {layout: made}
            if found.shuffle:
                self.turned[made] = None
                self.shuffles[t] = found.shuffle
            outputs.append(made)
        self.made.append(Node(turning.op(), turning.attrs(label), operands, outputs, node.index, node.extras,
                              None, node.intermediates))  # fmt: skip

    def _shuffled(self, node: Node, inputs: list[Tensor | None]) -> list[Tensor | None]:
        """The operands of a product whose input is mixed along its last axis: its weights are mixed alike."""
        axes = node.op.named_axes
        if axes is None or axes.weights is None:
            return inputs
        t = node.inputs[axes.data]
        order = self.shuffles.get(t) if t is not None else None
        weights = inputs[axes.weights]
        if order is None or weights is None or weights.data is None:
            return inputs
        made = list(inputs)
        made[axes.weights] = self.constant(weights, np.ascontiguousarray(weights.data[..., list(order)]))
        return made

    def operand(self, t: Tensor, layout: Layout) -> Tensor:
        if t.data is not None:
            return t
        source, own = self.plan.view(t)
        return self.get(source, after(own, layout))

    def get(self, source: Tensor, layout: Layout) -> Tensor:
        """A source with its axes in this order."""
        have = self.have.setdefault(source, {identity(source.type.rank): source})
        if layout not in have:
            first, tensor = next(iter(have.items()))
            target = self.old.get((source, layout))
            if layout == identity(source.type.rank):
                target = source
            if target is None or any(target is t for n in self.made for t in n.outputs):
                target = self._like(source, layout)
            self._emit(tensor, after(inverse(first), layout), target)
            have[layout] = target
        return have[layout]

    def _emit(self, x: Tensor, permutation: Layout, y: Tensor) -> None:
        """A transpose, or a reshape where only axes of one element move."""
        sizes = sizes_of_reshape(x, permutation, self.is_open)
        if sizes is not None:
            shape = self._numbers(f"{y.name}/shape", np.array(sizes, np.int32))
            self.made.append(Node(REGISTRY.by_name["RESHAPE"], REGISTRY.by_name["RESHAPE"].Attrs(), [x, shape], [y]))
            return
        order = self._numbers(f"{y.name}/perm", np.array(permutation, np.int32))
        self.made.append(Node(REGISTRY.by_name["TRANSPOSE"], NoAttrs(), [x, order], [y]))

    def _like(self, t: Tensor, layout: Layout) -> Tensor:
        signature: Shape | None = None
        if t.shape_signature is not None:
            signature = tuple(t.shape_signature[a] for a in layout)
        made = Tensor(t.name, turned_type(t.type, layout), None, False, signature)
        self.turned[made] = t, layout
        return made

    def _numbers(self, name: str, values: np.ndarray) -> Tensor:
        key = (0, values.tobytes())
        if key not in self.constants:
            self.constants[key] = Tensor(name, TensorType(INT32, values.shape), values)
        return self.constants[key]

    def constant(self, like: Tensor, data: np.ndarray) -> Tensor:
        """A constant that is another one, turned; the same one for the same use."""
        if like.data is not None and like.data.shape == data.shape and like.data.tobytes() == data.tobytes():
            return like
        key = (id(like), data.tobytes() + str(data.shape).encode())
        if key not in self.constants:
            dtype, quantization = like.type.dtype, like.type.quantization
            self.constants[key] = Tensor(like.name, TensorType(dtype, data.shape, quantization), data)
        return self.constants[key]
