"""Activations: recognised in comparisons with constants, and taken into the operator before."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lithe.ir.graph import Node, Tensor
from lithe.ops.op import REGISTRY
from lithe.passes.rewrite import Neighbours
from lithe.types import FLOAT32

FUSED = {"RELU": "RELU", "RELU6": "RELU6", "RELU_N1_TO_1": "RELU_N1_TO_1"}
NOT_OFFICIALLY = {"CONCATENATION", "L2_NORMALIZATION"}  # they have the option, and official kernels refuse it
BOUNDS = {(0.0, np.inf): "RELU", (0.0, 6.0): "RELU6", (0.0, 1.0): "RELU_0_TO_1", (-1.0, 1.0): "RELU_N1_TO_1"}


def _bound(node: Node | None) -> tuple[Tensor, float, float] | None:
    """The tensor that a node keeps between two numbers, and these; an infinite one is no bound."""
    if node is None:
        return None
    for (low, high), name in BOUNDS.items():
        if node.op.name == name:
            x = node.inputs[0]
            return None if x is None else (x, low, high)
    if node.op.name not in ("MAXIMUM", "MINIMUM") or node.outputs[0].type.dtype != FLOAT32:
        return None
    for x, c in (node.inputs, node.inputs[::-1]):
        if x is not None and c is not None and x.data is None and c.data is not None and c.data.size == 1:
            if x.type.shape != node.outputs[0].type.shape:
                return None
            value = float(c.data.reshape(()))
            return (x, value, np.inf) if node.op.name == "MAXIMUM" else (x, -np.inf, value)
    return None


def as_activation(around: Neighbours, node: Node) -> Node | Tensor | None:
    """MAXIMUM(x, 0)  ->  RELU(x)        MINIMUM(RELU(x), 6)  ->  RELU6(x)        MAXIMUM(x, -inf)  ->  x"""
    outer = _bound(node)
    if outer is None:
        return None
    x, low, high = outer
    if low == -np.inf and high == np.inf:
        return x
    inner = _bound(around.producer(x))
    if inner is not None:
        x, low, high = inner[0], max(low, inner[1]), min(high, inner[2])
        if low > high or (low, high) not in BOUNDS:
            return None
    name = BOUNDS.get((low, high))
    if name is None or name == node.op.name:
        return None
    cls = REGISTRY.by_name[name]
    return Node(cls, cls.Attrs(), [x], node.outputs, node.index, node.extras)


def fuse_activation(around: Neighbours, node: Node) -> Node | None:
    """RELU(CONV_2D(x, w, b))  ->  CONV_2D(x, w, b) with RELU

    For every operator with a fused activation, where nobody else reads its result.
    """
    if node.op.name not in FUSED:
        return None
    maker = around.producer(node.inputs[0])
    if maker is None or not around.read_once(node.inputs[0]) or len(maker.outputs) != 1:
        return None
    if maker.op.name in NOT_OFFICIALLY:
        return None
    activation = FUSED[node.op.name]
    if getattr(maker.attrs, "fused_activation_function", None) != "NONE" or activation not in maker.op.activations:
        return None
    if maker.outputs[0].type != node.outputs[0].type or maker.outputs[0].type.dtype != FLOAT32:
        return None
    attrs = replace(maker.attrs, fused_activation_function=activation)
    return Node(maker.op, attrs, maker.inputs, node.outputs, maker.index, maker.extras)
