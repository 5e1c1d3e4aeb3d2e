"""The one way to test a pass: the door stays, the numbers stay, a second run finds nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lithe.ir.graph import Graph, Module
from lithe.ops.verify import verify
from lithe.passes import is_dynamic, prepare
from lithe.runtime.reference import ReferenceExecutor


def picture(graph: Graph) -> list[str]:
    """The nodes as text: `y = RESHAPE(x, shape)`."""
    lines = []
    for node in graph.nodes:
        inputs = ", ".join("-" if t is None else t.name for t in node.inputs)
        lines.append(f"{', '.join(t.name for t in node.outputs)} = {node.op.name}({inputs})")
    return lines


def interface(graph: Graph) -> list[tuple[str, int, str]]:
    return [(t.name, t.index, str(t.type)) for t in (*graph.inputs, *graph.outputs)]


def outputs(graph: Graph, seed: int = 0) -> list[np.ndarray]:
    """What a graph with inferred shapes gives on random input."""
    executor = ReferenceExecutor(graph)
    random = np.random.default_rng(seed)
    for tensor in graph.inputs:
        storage = executor.array(tensor.index)
        storage[...] = random.integers(0, 3, storage.shape).astype(storage.dtype)
    executor.invoke()
    return [executor.array(t.index).copy() for t in graph.outputs]


def check(graph: Graph, change: Callable[[Graph], object], rtol: float = 0.0) -> Graph:
    """Applies `change` (which works in place) to the inferred graph and returns the result, checked.

    rtol  by how much numbers may differ that are rounded elsewhere than before.
    """
    before = prepare(graph, keep_all=True)
    after = before.copy()
    change(after)
    assert interface(after) == interface(before)
    assert {t for n in after.nodes for t in (*n.inputs, *n.outputs) if t is not None} <= set(after.tensors)
    if not any(is_dynamic(t.type) for t in after.tensors):
        verify(Module([after]))
    for want, got in zip(outputs(before), outputs(after), strict=True):
        np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol)
    again = after.copy()
    change(again)
    assert picture(again) == picture(after)
    return after
