"""Transposes: what they cost, and what does the same for less."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lithe.ir.graph import Node, Tensor
from lithe.ops.op import REGISTRY
from lithe.passes.axes import Layout
from lithe.passes.infer_shapes import is_dynamic
from lithe.passes.rewrite import Neighbours
from lithe.types import INT32, TensorType

Open = Callable[[int], bool]
RESHAPED = 1e-3  # what it costs to move axes of one element, which takes an operator but moves nothing


def as_reshape(around: Neighbours, node: Node, is_open: Open) -> Node | None:
    """TRANSPOSE(x) that moves axes of one element alone  ->  RESHAPE(x)"""
    if not is_transpose(node) or node.inputs[0] is None:
        return None
    sizes = sizes_of_reshape(node.inputs[0], permutation_of(node), is_open)
    if sizes is None:
        return None
    shape = Tensor(f"{node.outputs[0].name}/shape", TensorType(INT32, (len(sizes),)), np.array(sizes, np.int32))
    return Node(REGISTRY.by_name["RESHAPE"], REGISTRY.by_name["RESHAPE"].Attrs(), [node.inputs[0], shape], node.outputs)


def sizes_of_reshape(x: Tensor, permutation: Layout, is_open: Open) -> list[int] | None:
    """What RESHAPE takes to do the same as a transpose; None where only a transpose does it."""

    def opened(axis: int) -> bool:
        declared = x.shape_signature is not None and x.shape_signature[axis] == -1
        return declared or is_open(x.type.shape[axis])

    real = [a for a in permutation if x.type.shape[a] != 1 or opened(a)]
    sizes = [-1 if opened(a) else x.type.shape[a] for a in permutation]
    return sizes if real == sorted(real) and sizes.count(-1) <= 1 else None


def turn_into_product(around: Neighbours, node: Node) -> Node | None:
    """BATCH_MATMUL(x, TRANSPOSE(y, last two))  ->  BATCH_MATMUL(x, y, adj_y = not adj_y)"""
    if node.op.name != "BATCH_MATMUL":
        return None
    inputs, attrs = list(node.inputs), node.attrs
    for i, name in enumerate(("adj_x", "adj_y")):
        inner = around.producer(inputs[i])
        if inner is None or not is_transpose(inner):
            continue
        rank = inner.outputs[0].type.rank
        if permutation_of(inner) == (*range(rank - 2), rank - 1, rank - 2):
            inputs[i] = inner.inputs[0]
            attrs = type(attrs)(**{**vars(attrs), name: not getattr(attrs, name)})
    return None if attrs is node.attrs else Node(node.op, attrs, inputs, node.outputs, node.index, node.extras)


def is_transpose(node: Node) -> bool:
    """A transpose of known shape by a constant."""
    if node.op.name != "TRANSPOSE" or not node.has_rules:
        return False
    x, perm = node.inputs
    return x is not None and perm is not None and perm.data is not None and not is_dynamic(x.type) and not x.is_variable


def permutation_of(node: Node) -> Layout:
    perm = node.inputs[1]
    assert perm is not None
    assert perm.data is not None
    return tuple(int(a) % perm.data.size for a in perm.data)


def price(source: Tensor | None, have: Layout, wanted: Layout) -> float:
    """What it costs to bring a tensor from one layout to another."""
    assert source is not None
    if have == wanted or source.data is not None:
        return 0
    shape = source.type.shape
    moved = [a for a in have if shape[a] != 1] != [a for a in wanted if shape[a] != 1]
    return source.type.size if moved else RESHAPED
