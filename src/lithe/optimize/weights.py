"""Weights in fewer bits: float16 behind a DEQUANTIZE, or integers of 8 bits that float operators take as they are.

Which operators take integer weights is asked of their classes (`Op.types`), and along which axis they have a scale for
each output channel, too (`Op.weights_axis`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lithe.ir.graph import Graph, Module, Node, Tensor
from lithe.ops.layout import Movement
from lithe.ops.op import REGISTRY
from lithe.types import FLOAT16, FLOAT32, INT8, Quantization, TensorType

FEWEST = 1024  # elements of a constant that is worth a scale
FEWEST_HALVES = 64  # elements; the operator that widens fewer takes as many bytes as are saved
LARGEST = 127  # of the integers, on both sides of zero


def float16_weights(module: Module) -> int:
    """Stores float32 constants as float16, with a DEQUANTIZE before their readers; returns how many.

    w  ->  DEQUANTIZE(float16(w)), a relative error of 2**-11 at most. Constants with numbers that float16 does not
    have stay, and so do those of up to 64 elements.
    """
    kept: dict[int, np.ndarray] = {}
    changed = 0
    for graph in module.graphs:
        wide: dict[Tensor, Node] = {}
        for node in graph.nodes:
            for i, t in enumerate(node.inputs):
                if t is None or not _is_float_constant(t, FEWEST_HALVES + 1) or _half(t, kept) is None:
                    continue
                if t not in wide:
                    wide[t] = _widened(t, _half(t, kept), FLOAT16)
                node.inputs[i] = wide[t].outputs[0]
        graph.nodes[:0] = wide.values()
        _collect(graph)
        changed += len(wide)
    return changed


def int8_weights(module: Module) -> int:
    """Stores large constants as symmetric int8 where operators on floats take them so; returns how many.

    stored = round(w / scale), scale = max |w| / 127, for each output channel where the operator has such, else for
    the tensor. The operators quantize the rows that they meet while they run. A table of which rows are read
    (GATHER) is stored so, too, and the rows are widened. What another operator reads as floats stays.
    """
    kept: dict[tuple[int, int | None], tuple[np.ndarray, Quantization]] = {}
    changed = 0
    for graph in module.graphs:
        plans = [plan for node in graph.nodes for plan in _plans(node)]
        plans = [p for p in plans if _agreed(p, plans, graph)]
        made: dict[tuple[Tensor, int | None], Tensor] = {}
        for plan in plans:
            for i in plan.positions:
                t = plan.node.inputs[i]
                assert t is not None
                if (t, plan.axis) not in made:
                    made[t, plan.axis] = _integer(t, plan.axis, kept)
                plan.node.inputs[i] = made[t, plan.axis]
            plan.finish(graph, plan.node)
        _collect(graph)
        changed += len(made)
    return changed


@dataclass(frozen=True)
class _Plan:
    """The constants of a node that become integers; the axis that has a scale for each place, None for one scale."""

    node: Node
    positions: tuple[int, ...]
    axis: int | None
    finish: Callable[[Graph, Node], None]


def _plans(node: Node) -> Iterator[_Plan]:
    """How a node can take integers: as its class says, or by moving them."""
    found = [i for i, t in enumerate(node.inputs) if t is not None and _is_float_constant(t, 1)]
    if not node.has_rules or not any(_size(node, i) >= FEWEST for i in found):
        return
    combinations = (c for s in node.op.signatures for c in s.expanded())
    chosen = max((_integers(node, found, c) for c in combinations), key=len, default=())
    if any(_size(node, i) >= FEWEST for i in chosen):
        yield _Plan(node, chosen, node.op.weights_axis, _quantize_rows)
    elif issubclass(node.op, Movement) and found == [0] and len(node.outputs) == 1:
        yield _Plan(node, (0,), None, _widen_result)


def _size(node: Node, i: int) -> int:
    t = node.inputs[i]
    return 0 if t is None else t.type.size


def _integers(node: Node, constants: list[int], words: tuple[tuple[str, ...], tuple[str, ...]]) -> tuple[int, ...]:
    """The constants that this combination of types has as int8, if the rest of it is the node's; else none."""
    inputs, outputs = words
    chosen = []
    if len(node.inputs) > len(inputs) or [t.type.dtype.name for t in node.outputs] != list(outputs):
        return ()
    for i, (t, word) in enumerate(zip(node.inputs, inputs, strict=False)):
        wanted = word.rstrip("?*")
        if t is None or t.type.dtype.name == wanted:
            continue
        if i not in constants or wanted != "int8q":
            return ()
        chosen.append(i)
    return tuple(chosen)


def _agreed(plan: _Plan, plans: list[_Plan], graph: Graph) -> bool:
    """Whether all who read a plan's constants take integers; else the file would hold both."""
    taken = {(id(p.node), i) for p in plans for i in p.positions}
    weights = {plan.node.inputs[i] for i in plan.positions}
    readers = ((id(n), i) for n in graph.nodes for i, t in enumerate(n.inputs) if t is not None and t in weights)
    return all(r in taken for r in readers) and weights.isdisjoint(graph.outputs)


def _quantize_rows(graph: Graph, node: Node) -> None:
    """Rows get a zero point of their own where the operator has one for them."""
    if hasattr(node.attrs, "asymmetric_quantize_inputs"):
        node.attrs = replace(node.attrs, asymmetric_quantize_inputs=True)


def _widen_result(graph: Graph, node: Node) -> None:
    """y = GATHER(w, i)  ->  y = DEQUANTIZE(GATHER(int8(w), i))"""
    y, table = node.outputs[0], node.inputs[0]
    assert table is not None
    rows = Tensor(f"{y.name}/int8", TensorType(INT8, y.type.shape, table.type.quantization),
                  shape_signature=y.shape_signature)  # fmt: skip
    node.outputs = [rows]
    graph.nodes.insert(graph.nodes.index(node) + 1, _dequantize(rows, y))


def _is_float_constant(t: Tensor, fewest: int) -> bool:
    plain = t.type.dtype == FLOAT32 and not t.is_variable and "sparsity" not in t.extras
    return t.data is not None and plain and t.type.size >= fewest and bool(np.isfinite(t.data).all())


def _half(t: Tensor, kept: dict[int, np.ndarray]) -> np.ndarray | None:
    """The elements as float16, once for tensors that share them; None where one is too large."""
    assert t.data is not None
    if np.abs(t.data).max(initial=0) > np.finfo(np.float16).max:
        return None
    return kept.setdefault(id(t.data), t.data.astype(np.float16))


def _widened(t: Tensor, stored: Any, dtype: Any) -> Node:
    narrow = Tensor(t.name, TensorType(dtype, t.type.shape), stored)
    return _dequantize(narrow, Tensor(f"{t.name}/float32", t.type))


def _dequantize(x: Tensor, y: Tensor) -> Node:
    cls = REGISTRY.by_name["DEQUANTIZE"]
    return Node(cls, cls.Attrs(), [x], [y])


def _integer(t: Tensor, axis: int | None, kept: dict[Any, tuple[np.ndarray, Quantization]]) -> Tensor:
    assert t.data is not None
    key = (id(t.data), axis)
    if key not in kept:
        others = None if axis is None else tuple(i for i in range(t.type.rank) if i != axis)
        largest = np.abs(t.data).max(axis=others, keepdims=True).astype(np.float32)
        scale = np.where(largest > 0, largest / np.float32(LARGEST), np.float32(1))
        stored = np.clip(np.rint(t.data / scale), -LARGEST, LARGEST).astype(np.int8)
        scales = tuple(map(float, scale.reshape(-1)))
        kept[key] = stored, Quantization(scales, (0,) * len(scales), axis or 0)
    stored, quantization = kept[key]
    return Tensor(t.name, TensorType(INT8, t.type.shape, quantization), stored)


def _collect(graph: Graph) -> None:
    """The tensors and nodes of a graph, counted once more."""
    mentioned = (t for n in graph.nodes for t in (*n.inputs, *n.outputs) if t is not None)
    graph.tensors = list(dict.fromkeys((*graph.inputs, *mentioned, *graph.outputs)))
    for i, t in enumerate(graph.tensors):
        t.index = i
    for i, n in enumerate(graph.nodes):
        n.index = i
