"""Every tensor is written by one operator, before it is read. Files may say otherwise."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from lithe.ir.graph import Graph, Node, Tensor
from lithe.ops.resources import AssignStorage


def assign_once(graph: Graph) -> None:
    """t = f(x); u = g(t); t = h(y); v = g(t)  ->  t' = f(x); u = g(t'); t = h(y); v = g(t)
    variable = f(x)                            ->  t' = f(x); ASSIGN_VARIABLE(variable, t')

    The last value keeps the tensor; that of an input stays its own. What is read before anything was written is a
    tensor of its own (the reader has a refusal, and goes when nobody needs it).
    """
    writes = Counter(t for n in graph.nodes for t in n.outputs)
    inputs = set(graph.inputs)
    special = {t for t in writes if writes[t] > 1 or t.is_variable or t in inputs}
    late = _read_early(graph, writes, inputs)
    if not special and not late:
        return
    now: dict[Tensor, Tensor] = {t: _another(graph, t) for t in late}
    nodes: list[Node] = []
    for n in graph.nodes:
        for t in _changed(n):
            now.pop(t, None)  # it holds what was assigned, and another value from here on
        n.inputs = [None if t is None else now.get(t, t) for t in n.inputs]
        nodes.append(n)
        for i, t in enumerate(n.outputs):
            writes[t] -= 1
            if t in late or (t in special and (writes[t] or t.is_variable or t in inputs)):
                keeps = not writes[t] and not t.is_variable and t not in inputs
                now[t] = n.outputs[i] = t if keeps else _another(graph, t)
                if t.is_variable:
                    nodes.append(Node(AssignStorage, AssignStorage.Attrs(), [t, now[t]], [], n.index))
            elif t in special:
                now[t] = t
    graph.nodes = nodes
    graph.outputs = [t if t.is_variable else now.get(t, t) for t in graph.outputs]


def _changed(node: Node) -> list[Tensor]:
    """The variables whose value the operator replaces."""
    places = node.op.changes(node.attrs) if node.has_rules else ()
    return [t for i in places if i < len(node.inputs) and (t := node.inputs[i]) is not None and t.is_variable]


def _read_early(graph: Graph, writes: Counter[Tensor], inputs: set[Tensor]) -> set[Tensor]:
    """Tensors that an operator reads before the first that writes them."""
    early: set[Tensor] = set()
    written: set[Tensor] = set()
    for n in graph.nodes:
        read = (t for t in n.inputs if t is not None and not t.is_variable)
        early.update(t for t in read if t in writes and t not in written and t not in inputs)
        written.update(n.outputs)
    return early


def _another(graph: Graph, t: Tensor) -> Tensor:
    other = replace(t, is_variable=False, index=-1, extras={})
    graph.tensors.append(other)
    return other
