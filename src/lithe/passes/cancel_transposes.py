"""Transpositions that stand around element-wise work and reductions only: the work is done in the order before them.

    x -> TRANSPOSE -> MEAN, SUB, MUL ... -> TRANSPOSE back -> y        ->        x -> MEAN, SUB, MUL ... -> y

Converters write normalizations of the last axis that way, as if they were those of a batch. Sums of floats take their
terms in another order than before; all else is the same. Nothing is changed where a transposition would stay.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lithe.ir.graph import Graph, Node, Tensor
from lithe.ops import REGISTRY
from lithe.ops.layout import integers
from lithe.ops.op import RuleViolation, Site
from lithe.ops.reduction import ReducerAttrs
from lithe.passes.infer_shapes import is_dynamic
from lithe.passes.remove_dead import remove_dead
from lithe.types import INT32, Shape, TensorType

Order = tuple[int, ...]  # axis a of the transposed tensor is axis order[a] of the other one


@dataclass
class _Region:
    """Nodes that work on transposed tensors, from the transpositions that make these to those that undo it."""

    order: Order
    sources: dict[Tensor, Tensor] = field(default_factory=dict)  # transposed -> what it is made of
    inside: dict[Node, None] = field(default_factory=dict)
    undone: dict[Node, None] = field(default_factory=dict)


def cancel_transposes(graph: Graph) -> None:
    """Rewrites every such region of the graph, in place."""
    consumers, producers, kept = graph.consumers(), graph.producers(), set(graph.outputs)
    places = {node: n for n, node in enumerate(graph.nodes)}
    known, gone = set(graph.tensors), set[Node]()
    instead: dict[Node, list[Node]] = {}
    for node in graph.nodes:
        order = _order(node)
        if order is None or node in gone:
            continue
        region = _region(node, order, consumers, producers, kept)
        if region is None or gone.intersection(region.inside):
            continue
        try:
            found = _in_order(region, sorted(region.inside, key=places.__getitem__))
        except RuleViolation:  # an operator that wants its operands as they were
            continue
        gone.update(region.inside, region.undone)
        instead.update(found)
        made = [t for nodes in found.values() for n in nodes for t in (*n.inputs, *n.outputs) if t is not None]
        graph.tensors += [t for t in dict.fromkeys(made) if t not in known]
        known.update(made)
    if gone:
        graph.nodes = [new for node in graph.nodes for new in instead.get(node, [node])]
        remove_dead(graph)


def _order(node: Node) -> Order | None:
    """The axes of a transposition of fixed shape; None of any other node."""
    if node.op.name != "TRANSPOSE" or not _is_plain(node):
        return None
    x, axes = node.inputs[0], node.inputs[1]
    if x is None or axes is None or axes.data is None:
        return None
    return tuple(a % x.type.rank for a in integers(axes.data))


def _is_plain(node: Node) -> bool:
    tensors = [t for t in (*node.inputs, *node.outputs) if t is not None]
    whole = len(node.outputs) == 1 and node.has_rules and not node.op.stateful
    return whole and not any(t.is_variable or is_dynamic(t.type) or _has_channels(t) for t in tensors)


def _has_channels(t: Tensor) -> bool:
    return t.type.quantization is not None and t.type.quantization.per_channel


def _region(
    first: Node, order: Order, consumers: dict[Tensor, list[Node]], producers: dict[Tensor, Node], kept: set[Tensor]
) -> _Region | None:
    """The region that begins with a transposition; None where something in it needs the new order."""
    region, shape = _Region(order), first.outputs[0].type.shape
    waiting = [first.outputs[0]]
    region.sources[waiting[0]] = _operand(first)
    for t in waiting:
        if t in kept:
            return None
        for node in consumers.get(t, ()):
            if node in region.inside or node in region.undone:
                continue
            if _undoes(node, order, shape):
                region.undone[node] = None
                continue
            if not _is_plain(node):
                return None
            region.inside[node] = None
            if node.op.elementwise and node.outputs[0].type.shape == shape:
                waiting.append(node.outputs[0])
            elif not (node.op.Attrs is ReducerAttrs and t is node.inputs[0] and _reduces(node, order, shape)):
                return None
    transposed = set(waiting)
    for node in region.inside:
        for operand in node.inputs if node.op.elementwise else ():
            if operand is None or operand in transposed or _reaches(operand, order, shape):
                continue
            maker = producers.get(operand)
            if maker is None or _order(maker) != order:
                return None
            region.sources[operand] = _operand(maker)
    return region if region.undone else None


def _operand(node: Node) -> Tensor:
    x = node.inputs[0]
    assert x is not None  # the verifier has seen to that
    return x


def _undoes(node: Node, order: Order, shape: Shape) -> bool:
    """Whether a transposition brings the elements back to where they lay."""
    again = _order(node)
    return again is not None and _is_sorted([order[a] for a in again if shape[a] != 1])


def _is_sorted(axes: list[int]) -> bool:
    return axes == sorted(axes)


def _reduces(node: Node, order: Order, shape: Shape) -> bool:
    """Whether a reduction leaves elements in one order, whichever way it reads them."""
    axes = node.inputs[1]
    if axes is None or axes.data is None:
        return False
    gone = {a % len(shape) for a in integers(axes.data)}
    return _is_sorted([order[a] for a in range(len(shape)) if a not in gone and shape[a] != 1])


def _reaches(t: Tensor, order: Order, shape: Shape) -> bool:
    """Whether an operand that is broadcast to the transposed shape only needs another shape."""
    lacking = len(shape) - t.type.rank
    return _is_sorted([order[a + lacking] for a, size in enumerate(t.type.shape) if size != 1])


def _back(shape: Shape, order: Order) -> Shape:
    """The shape that becomes this one when it is transposed."""
    full = (1,) * (len(order) - len(shape)) + tuple(shape)
    return tuple(full[order.index(a)] for a in range(len(order)))


def _in_order(region: _Region, nodes: list[Node]) -> dict[Node, list[Node]]:
    """What takes the place of each node of a region. Raises RuleViolation where an operator refuses it."""
    order, shaped = region.order, dict(region.sources)
    found: dict[Node, list[Node]] = {}

    def operand(t: Tensor | None, before: list[Node]) -> Tensor | None:
        if t is None or t.type.size == 1:
            return t
        if t not in shaped:
            shape = _back(t.type.shape, order)
            shaped[t] = _shaped(t, shape, None if t.data is None else t.data.reshape(shape))
            before += [] if t.is_constant else [_reshape(t, shaped[t])]
        return shaped[t]

    for node in nodes:
        before: list[Node] = []
        y = node.outputs[0]
        if node.op.elementwise:
            operands = [operand(t, before) for t in node.inputs]
            shaped[y] = _shaped(y, _back(y.type.shape, order))
            found[node] = [*before, _like(node, node.attrs, operands, shaped[y])]
            continue
        x, axes = shaped[_operand(node)], node.inputs[1]
        assert axes is not None  # `_reduces` has seen to that
        assert axes.data is not None
        gone = sorted({order[a % len(order)] for a in integers(axes.data)})
        fresh = Tensor("axes", TensorType(INT32, (len(gone),)), np.array(gone, np.int32))
        kept = _shaped(y, tuple(size for a, size in enumerate(x.type.shape) if a not in gone))
        found[node] = [_like(node, ReducerAttrs(), [x, fresh], kept), _reshape(kept, y)]
    for node in region.undone:
        found[node] = [_reshape(shaped[_operand(node)], node.outputs[0])]
    return found


def _shaped(like: Tensor, shape: Shape, data: np.ndarray | None = None) -> Tensor:
    return Tensor(like.name, replace(like.type, shape=shape), data)


def _reshape(x: Tensor, y: Tensor) -> Node:
    op = REGISTRY.by_name["RESHAPE"]
    return Node(op, op.Attrs(new_shape=y.type.shape), [x], [y])


def _like(node: Node, attrs: Any, inputs: list[Tensor | None], output: Tensor) -> Node:
    """The node with other operands, if its operator takes them."""
    made = Node(node.op, attrs, inputs, [output], node.index, node.extras)
    if node.op.infer(Site.of(made)) != [output.type.shape]:
        raise RuleViolation("another shape")
    return made
