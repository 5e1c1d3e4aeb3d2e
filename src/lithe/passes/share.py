"""The same operator on the same operands is computed once, the same constant stored once."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

from lithe.ir.graph import Graph, Node, Tensor
from lithe.passes.remove_dead import has_effect

SMALL = 1024  # bytes


def share_equal_nodes(graph: Graph) -> None:
    """y = f(x); z = f(x)  ->  y = f(x), which the readers of z read

    Nodes with state, and those whose results are outputs of the graph, stay.
    """
    known: dict[Any, Node] = {}
    instead: dict[Tensor, Tensor] = {}
    outputs = set(graph.outputs)
    nodes = []
    for node in graph.nodes:
        node.inputs = [t if t is None else instead.get(t, t) for t in node.inputs]
        key = (node.op, node.attrs, tuple(map(_identity, node.inputs)), tuple(t.type for t in node.outputs))
        if has_effect(node) or node.op.calls or not outputs.isdisjoint(node.outputs) or node.extras:
            nodes.append(node)
            continue
        same = known.setdefault(key, node)
        if same is node:
            nodes.append(node)
        else:
            instead.update(zip(node.outputs, same.outputs, strict=True))
    graph.nodes = nodes


def share_constants(graphs: Sequence[Graph]) -> None:
    """Large constants of equal value, in whichever graphs, become one array, which a file holds once."""
    known: dict[Any, Tensor] = {}
    for tensor in dict.fromkeys(t for graph in graphs for t in graph.tensors):
        if tensor.data is not None and tensor.data.nbytes > SMALL and tensor.data.dtype != object:
            content = blake2b(tensor.data.data, digest_size=32).digest() if tensor.data.flags.c_contiguous else tensor
            tensor.data = known.setdefault((tensor.data.dtype, tensor.data.shape, content), tensor).data


def _identity(tensor: Tensor | None) -> Any:
    """Small constants of equal value are the same operand."""
    if tensor is None or tensor.data is None or tensor.data.nbytes > SMALL or tensor.data.dtype == object:
        return tensor
    return tensor.type, tensor.data.tobytes()
