"""Reshapes that add nothing. Operators marked `alias` (RESHAPE, SQUEEZE, EXPAND_DIMS) move no data."""

from __future__ import annotations

from lithe.ir.graph import Graph, Node, Tensor
from lithe.passes.infer_shapes import is_dynamic
from lithe.passes.rewrite import Neighbours


def merge_reshapes(around: Neighbours, node: Node) -> Node | None:
    """RESHAPE(RESHAPE(x, a), b)  ->  RESHAPE(x, b)

    The inner shape never survives, whatever it was, and the inner one may be any operator that moves no
    data. It stays when something else reads it; dead nodes are dropped by the driver.
    """
    if node.op.name != "RESHAPE" or not _moves_no_data(node):
        return None
    inner = around.producer(node.inputs[0])
    if inner is None or not _moves_no_data(inner):
        return None
    return Node(node.op, node.attrs, [inner.inputs[0], *node.inputs[1:]], node.outputs, node.index, node.extras)


def drop_identity_reshape(around: Neighbours, node: Node) -> Tensor | None:
    """RESHAPE(x, shape of x)  ->  x"""
    if not _moves_no_data(node):
        return None
    x, y = node.inputs[0], node.outputs[0]
    return x if x is not None and x.type == y.type else None


def drop_copies_to_outputs(graph: Graph) -> None:
    """y = RESHAPE(x, shape of x), an output: what makes x makes y. Copies of inputs, constants and outputs stay."""
    producers = graph.producers()
    for node in [n for n in graph.nodes if n.outputs and n.outputs[0] in graph.outputs and _moves_no_data(n)]:
        x, y = node.inputs[0], node.outputs[0]
        if x is None or x.type != y.type or x not in producers or x in graph.outputs or producers[x].op.stateful:
            continue
        graph.nodes.remove(node)
        for other in graph.nodes:
            other.inputs = [y if t is x else t for t in other.inputs]
            other.outputs = [y if t is x else t for t in other.outputs]
        producers = graph.producers()


def _moves_no_data(node: Node) -> bool:
    """A reshape of fixed shape, not of a variable: its value changes while the copy must not."""
    if not node.op.alias or len(node.outputs) != 1 or not node.inputs:
        return False
    x = node.inputs[0]
    if x is None or x.is_variable or node.outputs[0].is_variable:
        return False
    return not is_dynamic(x.type) and not is_dynamic(node.outputs[0].type)
