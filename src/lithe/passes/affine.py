"""Products with constants and sums with constants, such as a batch normalization leaves behind.

Floats only. Constants are computed in float64 and rounded once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from lithe.ir.graph import Node, Tensor
from lithe.ops.op import REGISTRY
from lithe.passes.rewrite import Neighbours
from lithe.types import FLOAT32, TensorType

Numbers = np.ndarray


def _constant(like: str, values: Numbers) -> Tensor:
    array = np.asarray(values, np.float32, order="C")  # `ascontiguousarray` would give a scalar an axis
    return Tensor(like, TensorType(FLOAT32, array.shape), array)


def _is_plain(node: Node | None) -> bool:
    return node is not None and getattr(node.attrs, "fused_activation_function", "NONE") == "NONE"


def _split(node: Node) -> tuple[Tensor, Numbers] | None:
    """The variable operand of a node with two, and the constant one."""
    if len(node.inputs) != 2 or not node.outputs:
        return None
    if node.outputs[0].type.dtype != FLOAT32 or node.outputs[0].type.quantization:
        return None
    x, y = node.inputs
    if x is None or y is None or (x.data is None) == (y.data is None):
        return None
    variable, constant = (x, y) if x.data is None else (y, x)
    assert constant.data is not None
    return variable, constant.data


def as_product(around: Neighbours, node: Node) -> Node | None:
    """DIV(x, c)  ->  MUL(x, 1 / c)        SUB(x, c)  ->  ADD(x, -c)"""
    found = _split(node)
    if found is None or node.inputs[1] is None or node.inputs[1].data is None or not _is_plain(node):
        return None
    x, c = found
    if node.op.name == "DIV" and np.all(np.isfinite(c)) and np.all(c != 0):
        return _binary("MUL", x, 1.0 / c.astype(np.float64), node)
    if node.op.name == "SUB":
        return _binary("ADD", x, -c, node)
    return None


def _binary(op: str, x: Tensor, values: Numbers, node: Node) -> Node:
    cls = REGISTRY.by_name[op]
    constant = _constant(f"{node.outputs[0].name}/factor", np.asarray(values))
    return Node(cls, cls.Attrs(), [x, constant], node.outputs, node.index, node.extras)


COMBINED: dict[str, Callable[[Numbers, Numbers], Numbers]] = {"MUL": np.multiply, "ADD": np.add}


def merge_constants(around: Neighbours, node: Node) -> Node | None:
    """MUL(MUL(x, a), b)  ->  MUL(x, a * b)        ADD(ADD(x, a), b)  ->  ADD(x, a + b)"""
    found = _split(node)
    if node.op.name not in COMBINED or found is None:
        return None
    inner = around.producer(found[0])
    if inner is None or inner.op.name != node.op.name or not _is_plain(inner) or not around.read_once(found[0]):
        return None
    deeper = _split(inner)
    if deeper is None:
        return None
    (x, a), b = deeper, found[1]
    combined = COMBINED[node.op.name](a.astype(np.float64), b)
    if combined.nbytes > 4 * max(a.nbytes, b.nbytes):
        return None
    return replace_binary(node, x, combined)


def replace_binary(node: Node, x: Tensor, values: Numbers) -> Node:
    constant = _constant(f"{node.outputs[0].name}/constant", values)
    return Node(node.op, node.attrs, [x, constant], node.outputs, node.index, node.extras)


def drop_nothing(around: Neighbours, node: Node) -> Tensor | None:
    """MUL(x, 1)  ->  x        ADD(x, 0)  ->  x"""
    found = _split(node)
    if found is None or node.op.name not in COMBINED or not _is_plain(node):
        return None
    x, c = found
    neutral = 1 if node.op.name == "MUL" else 0
    return x if np.all(c == neutral) and x.type.shape == node.outputs[0].type.shape else None


def fold_into_weights(around: Neighbours, node: Node) -> Node | None:
    """MUL(CONV_2D(x, w, b), c)  ->  CONV_2D(x, w * c, b * c)        ADD(CONV_2D(x, w, b), c)  ->  CONV_2D(x, w, b + c)

    For every operator with `weights_axis`, where c is one number or one for each output channel, and nobody else
    reads the contraction.
    """
    found = _split(node)
    if found is None or node.op.name not in COMBINED:
        return None
    maker = around.producer(found[0])
    if maker is None or maker.op.weights_axis is None or not _is_plain(maker) or not around.read_once(found[0]):
        return None
    names = maker.op.operands[0]
    at_weights = next(i for i, name in enumerate(names) if name in ("filter", "weights"))
    at_bias = names.index("bias?")
    weights = maker.inputs[at_weights]
    bias = maker.inputs[at_bias] if at_bias < len(maker.inputs) else None
    if weights is None or weights.data is None or weights.type.dtype != FLOAT32 or (bias and bias.data is None):
        return None
    axis = maker.op.weights_axis
    channels = weights.type.shape[axis]
    c = _per_channel(found[1], channels)
    if c is None or node.outputs[0].type.shape != maker.outputs[0].type.shape:
        return None
    old = np.zeros(channels) if bias is None or bias.data is None else bias.data.astype(np.float64)
    inputs = [*maker.inputs, *([None] * (at_bias + 1 - len(maker.inputs)))]
    name = node.outputs[0].name
    if node.op.name == "MUL":
        shape = [channels if i == axis else 1 for i in range(weights.type.rank)]
        inputs[at_weights] = _constant(weights.name, weights.data * c.reshape(shape))
        inputs[at_bias] = _constant(f"{name}/bias", old * c)
    else:
        inputs[at_bias] = _constant(f"{name}/bias", old + c)
    attrs = _with_activation(maker, getattr(node.attrs, "fused_activation_function", "NONE"))
    return Node(maker.op, attrs, inputs, node.outputs, maker.index, maker.extras)


def _with_activation(node: Node, activation: str) -> object:
    return node.attrs if activation == "NONE" else replace(node.attrs, fused_activation_function=activation)


def _per_channel(values: Numbers, channels: int) -> Numbers | None:
    """One number for each output channel, which lies last; None where the values differ along another axis."""
    if values.size == 1:
        return np.full(channels, values.reshape(()), np.float64)
    if values.size != channels or values.shape[-1] != channels:
        return None
    return values.reshape(channels).astype(np.float64)


def fold_into_next_weights(around: Neighbours, node: Node) -> Node | None:
    """CONV_2D(MUL(x, c), w, b)  ->  CONV_2D(x, w * c, b)        CONV_2D(ADD(x, c), w, b)  ->  CONV_2D(x, w, b + w c)

    With a number for each input channel. Padding stays zero, so sums need an operator without.
    """
    if node.op.name not in ("CONV_2D", "FULLY_CONNECTED") or node.inputs[1] is None:
        return None
    changed, weights = node.inputs[0], node.inputs[1]
    maker = around.producer(changed)
    if maker is None or maker.op.name not in COMBINED or not _is_plain(maker) or weights.data is None:
        return None
    found = _split(maker)
    if found is None or weights.type.dtype != FLOAT32 or not around.read_once(changed):
        return None
    x, values = found
    channels = weights.type.shape[-1]
    if x.type.shape != maker.outputs[0].type.shape or x.type.shape[-1] != channels:
        return None
    c = _per_channel(values, channels)
    if c is None:
        return None
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if maker.op.name == "MUL":
        inputs = [x, _constant(weights.name, weights.data * c), *node.inputs[2:]]
    elif _pads(node) or (bias is not None and bias.data is None):
        return None
    else:
        added = (weights.data @ c).reshape(weights.type.shape[0], -1).sum(axis=1)
        offset = added if bias is None or bias.data is None else added + bias.data
        inputs = [x, weights, _constant(f"{node.outputs[0].name}/bias", offset)]
    return Node(node.op, node.attrs, inputs, node.outputs, node.index, node.extras)


def _pads(node: Node) -> bool:
    """Whether zeros around the picture take part; a window of one element reaches none."""
    weights = node.inputs[1]
    assert weights is not None
    return getattr(node.attrs, "padding", "VALID") != "VALID" and weights.type.shape[1:3] != (1, 1)
