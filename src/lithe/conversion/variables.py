"""Values that a model keeps from one run to the next, in variables of the file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lithe.conversion.builder import Builder, type_of
from lithe.ir.graph import Node, Tensor
from lithe.ops.op import REGISTRY
from lithe.types import RESOURCE, TensorType


def kept(b: Builder, name: str, first: np.ndarray, before: Tensor, after: Tensor) -> None:
    """A variable: what it holds is `before` as the graph begins, and `after` as it ends.

    name    of the variable; graphs that use the same name share it.
    first   what it holds before the first run.
    before  a tensor that nothing has made. The nodes that make it are put before all others.
    """
    handle = _handle(name)
    once = _node("CALL_ONCE", [], [], init_subgraph_index=_first_value(b, name, first).number)
    b.nodes[:0] = [
        once,
        _node("VAR_HANDLE", [], [handle], shared_name=name),
        _node("READ_VARIABLE", [handle], [before]),
    ]
    b.add(_node("ASSIGN_VARIABLE", [handle, after], []))


def _first_value(b: Builder, name: str, first: np.ndarray) -> Builder:
    """The graph that gives a variable its first value; one for all graphs that use it."""
    title = f"first value of {name}"
    for graph in b.conversion.graphs:
        if graph.title == title:
            return graph
    graph = b.conversion.graph(title)
    handle = _handle(name)
    graph.add(_node("VAR_HANDLE", [], [handle], shared_name=name))
    graph.add(_node("ASSIGN_VARIABLE", [handle, graph.constant(first, type_of(first).dtype)], []))
    return graph


def _handle(name: str) -> Tensor:
    return Tensor(f"{name}/handle", TensorType(RESOURCE, ()))


def _node(op: str, inputs: Sequence[Tensor], outputs: list[Tensor], **attrs: Any) -> Node:
    cls = REGISTRY.by_name[op]
    return Node(cls, cls.Attrs(**attrs), list(inputs), outputs)
