"""Inlining: an operator that stands for a graph of the model is replaced by that graph's operators."""

from __future__ import annotations

from dataclasses import replace

from lithe.errors import ModelError
from lithe.ir.graph import Graph, Node, Tensor
from lithe.ops.op import Environment
from lithe.passes.composites import as_operators


def inline_graphs(graph: Graph, environment: Environment | None = None) -> None:
    """y = composite(x), which stands for graph f  ->  y = the operators of f on x

    Inner tensors get no index: they are none of this graph's. A graph that gives out an input or a constant as it
    is, keeps a variable, or takes other types than it is given, is called, not inlined.
    """
    if environment is None or not any(n.op.inlined for n in graph.nodes):
        return
    nodes: list[Node] = []
    for node in graph.nodes:
        named = as_operators(graph, node) if node.op.inlined else None
        if named is not None:
            nodes += named
            continue
        inner = environment.graph(getattr(node.attrs, node.op.inlined)).copy() if node.op.inlined else None
        if inner is None or not _fits(node, inner):
            nodes.append(node)
            continue
        inline_graphs(inner, environment)
        for made, result in zip(inner.outputs, node.outputs, strict=True):
            result.type = replace(made.type, shape=result.type.shape)
        same: dict[Tensor, Tensor] = dict(zip(inner.inputs, _given(node), strict=True))
        same.update(zip(inner.outputs, node.outputs, strict=True))
        for n in inner.nodes:
            for t in (*n.inputs, *n.outputs):
                if t is not None and t not in same:
                    t.index = -1
                    graph.tensors.append(t)
                    same[t] = t
            n.inputs = [None if t is None else same[t] for t in n.inputs]
            n.outputs = [same[t] for t in n.outputs]
            nodes.append(n)
    graph.nodes = nodes


def _given(node: Node) -> list[Tensor]:
    if any(t is None for t in node.inputs):
        raise ModelError("must be present", where=repr(node))
    return [t for t in node.inputs if t is not None]


def _fits(node: Node, inner: Graph) -> bool:
    made = {t for n in inner.nodes for t in n.outputs}
    pairs = [*zip(inner.inputs, node.inputs, strict=False), *zip(inner.outputs, node.outputs, strict=False)]
    return (
        len(inner.inputs) == len(node.inputs)
        and len(set(inner.inputs)) == len(inner.inputs)
        and len(set(inner.outputs)) == len(inner.outputs) == len(node.outputs)
        and made.issuperset(inner.outputs)
        and not any(t.is_variable for t in inner.tensors)
        and all(a is not None and b is not None and a.type.dtype == b.type.dtype for a, b in pairs)
    )
