"""Repetition of elements that the readers do by themselves."""

from __future__ import annotations

from lithe.ir.graph import Node, Tensor
from lithe.passes.rewrite import Neighbours
from lithe.types import Shape

MOST_RANK = 4  # of operands that are repeated on the way, in the official kernels


def drop_broadcast(around: Neighbours, node: Node) -> Node | None:
    """ADD(x, BROADCAST_TO(y, shape of x))  ->  ADD(x, y)

    For operators that repeat their operands by themselves, where the result's shape is still the same.
    """
    if not node.op.broadcasts:
        return None
    for i in range(len(node.inputs)):
        inputs = _one_less(around, node, i)
        if inputs is not None:
            return Node(node.op, node.attrs, inputs, node.outputs, node.index, node.extras)
    return None


def _one_less(around: Neighbours, node: Node, i: int) -> list[Tensor | None] | None:
    """The operands with the i-th as it was before its repetition, if the result has the same shape."""
    inputs = list(node.inputs)
    inputs[i] = _source(around, inputs[i])
    fits = inputs[i] is not node.inputs[i] and _shape_of_all(inputs) == node.outputs[0].type.shape
    return inputs if fits else None


def _source(around: Neighbours, tensor: Tensor | None) -> Tensor | None:
    maker = around.producer(tensor)
    if tensor is None or maker is None or maker.op.name != "BROADCAST_TO" or tensor.type.rank > MOST_RANK:
        return tensor
    return maker.inputs[0]


def _shape_of_all(tensors: list[Tensor | None]) -> Shape | None:
    """The shape to which all are repeated. NumPy's own function refuses the sizes that stand for open ones."""
    shapes = [t.type.shape for t in tensors if t is not None]
    rank = max(map(len, shapes))
    sizes = [{n for n in dims if n != 1} for dims in zip(*((1,) * (rank - len(s)) + s for s in shapes), strict=True)]
    return tuple(next(iter(n), 1) for n in sizes) if all(len(n) <= 1 for n in sizes) else None


def drop_identity_broadcast(around: Neighbours, node: Node) -> Tensor | None:
    """BROADCAST_TO(x, shape of x)  ->  x"""
    x = node.inputs[0] if node.inputs else None
    return x if node.op.name == "BROADCAST_TO" and x is not None and x.type == node.outputs[0].type else None
