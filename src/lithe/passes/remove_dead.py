"""Dead code: nodes whose results nobody reads, and tensors that nothing mentions."""

from __future__ import annotations

from lithe.ir.graph import Graph, Node


def remove_dead(graph: Graph) -> None:
    """y = f(x); z = g(x); output y  ->  y = f(x); output y

    A node stays while an output of it is read, and always when running it may do something else than
    make its outputs: it has none, it keeps state, or Lithe does not know it.
    """
    read = set(graph.outputs)
    nodes: list[Node] = []
    for node in reversed(graph.nodes):
        if has_effect(node) or not read.isdisjoint(node.outputs):
            nodes.append(node)
            read.update(t for t in node.inputs if t is not None)
    graph.nodes = nodes[::-1]
    used = read.union(graph.inputs, *(node.outputs for node in graph.nodes))
    graph.tensors = [t for t in graph.tensors if t in used or t.is_variable]


def has_effect(node: Node) -> bool:
    """Whether running the node may do more than make its outputs."""
    touches_state = node.op.stateful or any(t is not None and t.is_variable for t in (*node.inputs, *node.outputs))
    return not node.op.known or touches_state or not node.outputs
