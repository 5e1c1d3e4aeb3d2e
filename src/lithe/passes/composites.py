"""Composites whose name says what they do: they are written as operators, and their decomposition is not looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lithe.ir.graph import Graph, Node, Tensor
from lithe.ops import REGISTRY
from lithe.types import FLOAT32, TensorType, dtype_of


def as_operators(graph: Graph, node: Node) -> list[Node] | None:
    """The operators that a composite with this name and these attributes stands for; None when no rule covers it."""
    rule = RULES.get(node.attrs.name)
    return None if rule is None else rule(_Writer(graph, node), node, node.extras.get("named_attributes", {}))


class _Writer:
    """Collects the operators in a composite's place; their shapes are inferred later."""

    def __init__(self, graph: Graph, node: Node) -> None:
        self.graph, self.node = graph, node
        self.nodes: list[Node] = []

    def tensor(self, rank: int, data: np.ndarray | None = None) -> Tensor:
        dtype, shape = (FLOAT32, (1,) * rank) if data is None else (dtype_of(data), data.shape)
        made = Tensor(self.node.outputs[0].name, TensorType(dtype, shape), data)
        self.graph.tensors.append(made)
        return made

    def __call__(self, op: str, *inputs: Tensor, into: Tensor | None = None, **attrs: Any) -> Tensor:
        cls = REGISTRY.by_name[op]
        output = into or self.tensor(4)
        self.nodes.append(Node(cls, cls.Attrs(**attrs), list(inputs), [output], self.node.index))
        return output


def _attention(w: _Writer, node: Node, attributes: dict[str, Any]) -> list[Node] | None:
    """softmax(scale * q k^T + mask) v for each head, sums bounded by cap * tanh(sums / cap) if there is a cap.

    q, k, v: [batch, time, heads, depth]; mask: broadcast to [batch, heads, time of q, time of k].
    Source: LiteRT Torch, odml.scaled_dot_product_attention.
    """
    q, k, v = node.inputs[:3] if len(node.inputs) in (3, 4) else (None, None, None)
    scale, cap = attributes.get("scale"), attributes.get("logit_cap")
    if q is None or k is None or v is None or not isinstance(scale, float) or not isinstance(cap, float | None):
        return None
    given = [t.type for t in node.inputs if t is not None]
    if len(given) != len(node.inputs) or any(t.dtype != FLOAT32 or t.rank != 4 for t in given):
        return None
    if not q.type.shape[2] == k.type.shape[2] == v.type.shape[2]:
        return None
    heads_first = w.tensor(1, np.array([0, 2, 1, 3], np.int32))

    def scalar(value: float) -> Tensor:
        return w.tensor(0, np.array(value, np.float32))

    sums = w("BATCH_MATMUL", w("TRANSPOSE", q, heads_first), w("TRANSPOSE", k, heads_first), adj_y=True)
    sums = w("MUL", sums, scalar(scale))
    if cap:
        sums = w("MUL", w("TANH", w("MUL", sums, scalar(1 / cap))), scalar(cap))
    if len(node.inputs) == 4 and node.inputs[3] is not None:
        sums = w("ADD", sums, node.inputs[3])
    values = w("BATCH_MATMUL", w("SOFTMAX", sums), w("TRANSPOSE", v, heads_first))
    w("TRANSPOSE", values, heads_first, into=node.outputs[0])
    return w.nodes


RULES: dict[str, Callable[[_Writer, Node, dict[str, Any]], list[Node] | None]] = {
    "odml.scaled_dot_product_attention": _attention,
}
