"""Layers of one graph, copied behind another: they compute on its values, converted to the types that they read.

So the error that a layer makes itself is seen apart from what it inherits. Of B's layer, and of the nodes of A that
give the same tensor, both on the values of A as B stores them:

    x (A) --QUANTIZE--> layer of B ------> got
              |
              +--DEQUANTIZE--> layer of A --> wanted
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from lithe.ir.graph import Graph, Module, Node, Tensor
from lithe.ops.op import REGISTRY, NoAttrs
from lithe.runtime.model import Model
from lithe.types import FLOAT32, TensorType


class Layer:
    """The nodes between a tensor and others: nodes in order, and the leaves that they read."""

    def __init__(self, nodes: Sequence[Node], leaves: Collection[Tensor]) -> None:
        self.nodes, self.leaves = nodes, leaves


def layer(graph: Graph, makers: Mapping[Tensor, Node], target: Tensor, ends: Collection[Tensor]) -> Layer | None:
    """What computes `target` from those of `ends` that it is computed of.

    None where it also depends on something else, calls other graphs, or two runs of it may differ.
    """
    found: dict[Node, None] = {}
    leaves: dict[Tensor, None] = {}
    waiting = [target]
    while waiting:
        t = waiting.pop()
        if t in ends and t is not target:
            leaves[t] = None
        elif t in makers:
            node = makers[t]
            if node.op.calls or node.op.stateful or not node.has_rules:
                return None
            if node not in found:
                found[node] = None
                waiting += [i for i in node.inputs if i is not None]
        elif not t.is_constant and not t.is_variable:
            return None
    places = {n: i for i, n in enumerate(graph.nodes)}
    return Layer(sorted(found, key=places.__getitem__), leaves) if found else None


def can_become(given: TensorType, wanted: TensorType) -> bool:
    """Whether values of one type can be read as another."""
    return (given.dtype, given.quantization) == (wanted.dtype, wanted.quantization) or (_real(given) and _real(wanted))


def _real(t: TensorType) -> bool:
    q = t.quantization
    return t.dtype == FLOAT32 or (t.dtype.is_integer and q is not None and len(q.scale) == 1)


class Host:
    """A copy of a model whose main graph is watched, and to which layers are added."""

    def __init__(self, module: Module) -> None:
        self.module = module.copy()
        self.same = dict(zip(module.main.tensors, self.module.main.tensors, strict=True))
        self._cast: dict[tuple[Tensor, TensorType], Tensor] = {}

    def add(self, part: Layer, leaves: Mapping[Tensor, Tensor], target: Tensor, prefix: str) -> Tensor:
        """Copies a layer; `leaves` are what it reads, in this graph. Returns what stands for its target here."""
        made = {t: self.cast(there, t.type) for t, there in leaves.items()}

        def of(t: Tensor | None) -> Tensor | None:
            if t is not None and t not in made:
                name = t.name if t.is_constant else prefix + t.name
                made[t] = Tensor(name, t.type, t.data, t.is_variable, t.shape_signature, extras=dict(t.extras))
            return t if t is None else made[t]

        for node in part.nodes:
            outputs = [made.setdefault(t, replace(t, name=prefix + t.name, index=-1)) for t in node.outputs]
            self.module.main.nodes.append(replace(node, inputs=[of(t) for t in node.inputs], outputs=outputs, index=-1))
        return made[target]

    def cast(self, t: Tensor, kind: TensorType) -> Tensor:
        """The tensor in the element type and quantization of another."""
        if (t.type.dtype, t.type.quantization) == (kind.dtype, kind.quantization):
            return t
        wanted = replace(t.type, dtype=kind.dtype, quantization=kind.quantization)
        if (t, wanted) not in self._cast:
            if t.type.dtype != FLOAT32 and wanted.dtype != FLOAT32:
                t = self.cast(t, TensorType(FLOAT32, t.type.shape))
            op = "DEQUANTIZE" if wanted.dtype == FLOAT32 else "QUANTIZE"
            made = Tensor(f"{t.name}_{wanted.dtype}", wanted, shape_signature=t.shape_signature)
            self.module.main.nodes.append(Node(REGISTRY.by_name[op], NoAttrs(), [t], [made]))
            self._cast[t, wanted] = made
        return self._cast[t, wanted]

    def scaled(self, t: Tensor, factors: np.ndarray | None) -> Tensor:
        """The tensor of real numbers, multiplied."""
        if factors is None:
            return t
        shape = tuple(factors.shape)
        by = Tensor(f"{t.name}_factors", TensorType(FLOAT32, shape), factors.astype(np.float32))
        made = Tensor(f"{t.name}_scaled", t.type, shape_signature=t.shape_signature)
        op = REGISTRY.by_name["MUL"]
        self.module.main.nodes.append(Node(op, op.Attrs(), [t, by], [made]))
        return made

    def unscaled(self, t: Tensor, factors: np.ndarray | None) -> Tensor:
        """The same undone, of integers too."""
        if factors is None:
            return t
        return self.scaled(self.cast(t, TensorType(FLOAT32, t.type.shape)), 1 / factors)

    def watched(self, tensors: Sequence[Tensor]) -> Watch:
        return Watch(self.module, tensors)


class Watch:
    """A model that gives the values of tensors of its main graph. It takes the module as its own."""

    def __init__(self, module: Module, tensors: Sequence[Tensor]) -> None:
        self.inputs = module.main.inputs
        module.main.outputs = [t for t in dict.fromkeys(tensors) if t not in self.inputs]
        module.signatures = [s for s in module.signatures if s.graph != 0]
        module.main.renumber()
        self.tensors = module.main.outputs
        self.model = Model(module)

    def __call__(self, arrays: Sequence[np.ndarray]) -> dict[Tensor, np.ndarray]:
        """Runs the model on its inputs in order."""
        made = self.model.main(*arrays).values()
        return dict(zip((*self.inputs, *self.tensors), (*arrays, *made), strict=True))
