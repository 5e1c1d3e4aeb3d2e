"""What operators do to real numbers, in operations of Keras: what the gradients of quantization-aware training follow.

A rule takes the node and its operands: tensors of Keras, numpy arrays where they are constants of other types than
real numbers, None where absent. It gives the results. The first axis is the batch, whose size the graph does not know.
Rules in MOVES only choose among elements, so they say as much of the steps of quantized values as of real numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from lithe.ir.graph import Node
from lithe.ops.op import Site
from lithe.ops.padding import placed
from lithe.ops.slice import strides

Rule = Callable[..., Any]
LEAST = 1e-12  # what is divided by, or whose root or logarithm is taken, is no less
LOW = -1e30

ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "NONE": lambda x: x,
    "RELU": ops.relu,
    "RELU6": lambda x: ops.clip(x, 0.0, 6.0),
    "RELU_N1_TO_1": lambda x: ops.clip(x, -1.0, 1.0),
    "RELU_0_TO_1": lambda x: ops.clip(x, 0.0, 1.0),
    "TANH": ops.tanh,
    "SIGMOID": ops.sigmoid,
}


def activated(node: Node, y: Any) -> Any:
    """The result with the activation that is fused into the node."""
    return ACTIVATIONS[getattr(node.attrs, "fused_activation_function", "NONE")](y)


# elementwise


def _unary(function: Callable[[Any], Any]) -> Rule:
    return lambda node, x: function(x)


def _binary(function: Callable[[Any, Any], Any]) -> Rule:
    return lambda node, a, b: activated(node, function(a, b))


def _positive(x: Any) -> Any:
    return ops.maximum(x, LEAST)


def _quotient(a: Any, b: Any) -> Any:
    return a / ops.where(ops.abs(b) < LEAST, LEAST, b)


# sums of products, without a bias; also of integers


def window(node: Node, x: Any, size: tuple[int, int]) -> tuple[list[tuple[int, int]], tuple[int, int], tuple[int, int]]:
    """((before, after) of rows and columns, strides, dilation) of a window over a picture."""
    a = node.attrs
    steps = (a.stride_h, a.stride_w)
    dilation = (getattr(a, "dilation_h_factor", 1), getattr(a, "dilation_w_factor", 1))
    sides = []
    for extent, reach, stride, by in zip(x.shape[1:3], size, steps, dilation, strict=True):
        count, before = placed(int(extent), reach, stride, by, a.padding)
        after = (count - 1) * stride + (reach - 1) * by + 1 - int(extent) - before
        sides.append((before, max(after, 0)))
    return sides, steps, dilation


def surrounded(x: Any, sides: list[tuple[int, int]], value: float = 0.0) -> Any:
    """A picture with rows and columns around it."""
    if not any(map(any, sides)):
        return x
    return ops.pad(x, [(0, 0), *sides, (0, 0)], constant_values=value)


def convolution(node: Node, x: Any, w: Any) -> Any:
    sides, steps, dilation = window(node, x, tuple(w.shape[1:3]))
    kernel = ops.transpose(w, (1, 2, 3, 0))
    return ops.conv(surrounded(x, sides), kernel, steps, "valid", "channels_last", dilation)


def depthwise(node: Node, x: Any, w: Any) -> Any:
    _, rows, columns, outputs = w.shape
    sides, steps, dilation = window(node, x, (rows, columns))
    kernel = ops.reshape(w, (rows, columns, x.shape[-1], outputs // x.shape[-1]))
    if steps[0] != steps[1]:  # not every backend has such strides
        whole = ops.depthwise_conv(surrounded(x, sides), kernel, 1, "valid", "channels_last", dilation)
        return whole[:, :: steps[0], :: steps[1]]
    return ops.depthwise_conv(surrounded(x, sides), kernel, steps, "valid", "channels_last", dilation)


def product(node: Node, x: Any, w: Any) -> Any:
    rows = ops.matmul(ops.reshape(x, (-1, w.shape[1])), ops.transpose(w))
    if not node.attrs.keep_num_dims:
        return rows
    return ops.reshape(rows, (-1, *x.shape[1:-1], w.shape[0]))


PRODUCTS: dict[str, Rule] = {
    "CONV_2D": convolution,
    "DEPTHWISE_CONV_2D": depthwise,
    "FULLY_CONNECTED": product,
}


def _affine(name: str) -> Rule:
    def rule(node: Node, x: Any, w: Any, bias: Any = None) -> Any:
        y = PRODUCTS[name](node, x, w)
        return activated(node, y if bias is None else y + bias)

    return rule


def _transposed_convolution(node: Node, shape: Any, w: Any, x: Any, bias: Any = None) -> Any:
    a = node.attrs
    kernel = ops.transpose(w, (1, 2, 0, 3))
    y = ops.conv_transpose(x, kernel, (a.stride_h, a.stride_w), a.padding.lower(), data_format="channels_last")
    return activated(node, y if bias is None else y + bias)


def _batch_product(node: Node, a: Any, b: Any) -> Any:
    a = ops.swapaxes(a, -1, -2) if node.attrs.adj_x else a
    return ops.matmul(a, ops.swapaxes(b, -1, -2) if node.attrs.adj_y else b)


# pooling and reductions


def _greatest(node: Node, x: Any) -> Any:
    size = (node.attrs.filter_height, node.attrs.filter_width)
    sides, steps, _ = window(node, x, size)
    return activated(node, ops.max_pool(surrounded(x, sides, LOW), size, steps, "valid", "channels_last"))


def _average(node: Node, x: Any) -> Any:
    size = (node.attrs.filter_height, node.attrs.filter_width)
    sides, steps, _ = window(node, x, size)
    total = ops.average_pool(surrounded(x, sides), size, steps, "valid", "channels_last")
    if not any(map(any, sides)):
        return activated(node, total)
    inside = surrounded(ops.ones_like(x[:1]), sides)
    return activated(node, total / ops.average_pool(inside, size, steps, "valid", "channels_last"))


def _reduction(function: Callable[..., Any]) -> Rule:
    def rule(node: Node, x: Any, axes: np.ndarray) -> Any:
        return function(x, axis=tuple(map(int, np.ravel(axes))), keepdims=node.attrs.keep_dims)

    return rule


def _softmax(node: Node, x: Any) -> Any:
    return ops.softmax(x * node.attrs.beta, axis=-1)


# moves


def _reshaped(node: Node, x: Any, *rest: Any) -> Any:
    """To the shape of the result, where the first axis takes in what a larger batch has more."""
    shape = node.outputs[0].type.shape
    return ops.reshape(x, (-1, *shape[1:]) if shape else ())


def _sliced(node: Node, x: Any, begin: np.ndarray, size: np.ndarray) -> Any:
    ends = [None if n == -1 or _whole_batch(i, b, n) else int(b + n)
            for i, (b, n) in enumerate(zip(begin, size, strict=True))]  # fmt: skip
    return x[tuple(slice(int(b), e) for b, e in zip(begin, ends, strict=True))]


def _whole_batch(axis: int, begin: int, size: int) -> bool:
    return axis == 0 and begin == 0 and size == 1


def _strided(node: Node, x: Any, begin: np.ndarray, end: np.ndarray, step: np.ndarray) -> Any:
    before = node.inputs[0]
    assert before is not None
    first, last, each = (list(map(int, v)) for v in (begin, end, step))
    taken, _ = strides(before.type.shape, first, last, each, node.attrs)
    for axis, one in enumerate(taken):
        size = before.type.shape[axis]
        if (one.start, one.step, one.count) == (0, 1, size):
            continue
        if one.step == 1:
            x = x[(slice(None),) * axis + (slice(one.start, one.start + one.count),)]
        else:
            x = ops.take(x, [one.start + i * one.step for i in range(one.count)], axis=axis)
    return _reshaped(node, x)


def _split(node: Node, axis: np.ndarray, x: Any) -> list[Any]:
    return list(ops.split(x, node.attrs.num_splits, axis=int(np.ravel(axis)[0])))


def _split_by(node: Node, x: Any, sizes: np.ndarray, axis: np.ndarray) -> list[Any]:
    place = int(np.ravel(axis)[0])
    ends = np.cumsum([t.type.shape[place] for t in node.outputs])[:-1]
    return list(ops.split(x, list(map(int, ends)), axis=place))


def _unpacked(node: Node, x: Any) -> list[Any]:
    return [ops.take(x, i, axis=node.attrs.axis) for i in range(node.attrs.num)]


def _gathered(node: Node, x: Any, places: Any) -> Any:
    return ops.take(x, places, axis=node.attrs.axis)


def _repeated(node: Node, x: Any, *rest: Any) -> Any:
    """To the shape of the result; the batch is repeated where it is a constant's."""
    before, after = node.inputs[0], node.outputs[0]
    assert before is not None
    lead = after.type.rank - before.type.rank
    x = ops.reshape(x, (*[1] * lead, *x.shape)) if lead else x
    sizes = [1] * lead + list(before.type.shape)
    return ops.tile(x, [b // a for a, b in zip(sizes, after.type.shape, strict=True)])


def _padded(node: Node, x: Any, sides: np.ndarray, *rest: Any) -> Any:
    return ops.pad(x, [tuple(map(int, side)) for side in sides])


def _mirrored(node: Node, x: Any, sides: np.ndarray) -> Any:
    return ops.pad(x, [tuple(map(int, side)) for side in sides], mode=node.attrs.mode.lower())


def _spread(node: Node, x: Any) -> Any:
    """DEPTH_TO_SPACE."""
    b, (_, h, w, c) = node.attrs.block_size, x.shape
    y = ops.transpose(ops.reshape(x, (-1, h, w, b, b, c // (b * b))), (0, 1, 3, 2, 4, 5))
    return ops.reshape(y, (-1, h * b, w * b, c // (b * b)))


def _gathered_blocks(node: Node, x: Any) -> Any:
    """SPACE_TO_DEPTH."""
    b, (_, h, w, c) = node.attrs.block_size, x.shape
    y = ops.transpose(ops.reshape(x, (-1, h // b, b, w // b, b, c)), (0, 1, 3, 2, 4, 5))
    return ops.reshape(y, (-1, h // b, w // b, b * b * c))


def _nearest(node: Node, x: Any, size: np.ndarray) -> Any:
    _, height, width, _ = x.shape
    rows, columns = (
        [min(int((i + (0.5 if node.attrs.half_pixel_centers else 0)) * (extent / n)), extent - 1) for i in range(n)]
        for n, extent in zip(map(int, size), (height, width), strict=True)
    )
    return ops.take(ops.take(x, rows, axis=1), columns, axis=2)


def _bilinear(node: Node, x: Any, size: np.ndarray) -> Any:
    return ops.image.resize(x, tuple(map(int, size)), interpolation="bilinear", data_format="channels_last")


# recurrent layers


def _lstm(node: Node, x: Any, *operands: Any) -> Any:
    """Of the plain layer, from a state of zeros: no peepholes, normalization or projection."""
    weights, recurrent, bias = operands[0:4], operands[4:8], operands[11:15]
    act = ACTIVATIONS[node.attrs.fused_activation_function]
    kernel = ops.concatenate(weights, axis=0)
    inner = ops.concatenate(recurrent, axis=0)
    ahead = ops.matmul(x, ops.transpose(kernel)) + ops.concatenate(bias, axis=0)
    clip = node.attrs.cell_clip

    def step(state: Any, row: Any) -> Any:
        h, c = state
        i, f, g, o = ops.split(row + ops.matmul(h, ops.transpose(inner)), 4, axis=-1)
        c = ops.sigmoid(f) * c + ops.sigmoid(i) * act(g)
        c = ops.clip(c, -clip, clip) if clip > 0 else c
        h = ops.sigmoid(o) * act(c)
        return h, c

    return _walked(node, step, lambda first: (first, first), ahead, bias[1].shape[0])


def _rnn(node: Node, x: Any, w: Any, recurrent: Any, bias: Any, *rest: Any) -> Any:
    act = ACTIVATIONS[node.attrs.fused_activation_function]

    def step(h: Any, row: Any) -> Any:
        return act(row + ops.matmul(h, ops.transpose(recurrent)))

    return _walked(node, step, lambda first: first, ops.matmul(x, ops.transpose(w)) + bias, w.shape[0])


def _walked(node: Node, step: Callable[..., Any], state: Callable[[Any], Any], ahead: Any, units: int) -> Any:
    """The outputs of all steps of a layer, from a state of zeros on; they are the state, or the first part of it."""

    def kept(before: Any, row: Any) -> Any:
        after = step(before, row)
        return after, after  # on TensorFlow, what a scan gives must be like what it hands on

    rows = ahead if node.attrs.time_major else ops.swapaxes(ahead, 0, 1)
    _, states = ops.scan(kept, state(ops.zeros_like(rows[0][:, :units])), rows)
    outputs = states[0] if isinstance(states, tuple | list) else states
    return outputs if node.attrs.time_major else ops.swapaxes(outputs, 0, 1)


RULES: dict[str, Rule] = {
    "QUANTIZE": lambda node, x: x,
    "DEQUANTIZE": lambda node, x: x,
    "RELU": _unary(ops.relu),
    "RELU6": _unary(ACTIVATIONS["RELU6"]),
    "RELU_N1_TO_1": _unary(ACTIVATIONS["RELU_N1_TO_1"]),
    "RELU_0_TO_1": _unary(ACTIVATIONS["RELU_0_TO_1"]),
    "LOGISTIC": _unary(ops.sigmoid),
    "TANH": _unary(ops.tanh),
    "ELU": _unary(ops.elu),
    "LEAKY_RELU": lambda node, x: ops.where(x < 0, x * node.attrs.alpha, x),
    "PRELU": lambda node, x, alpha: ops.where(x < 0, x * alpha, x),
    "HARD_SWISH": _unary(lambda x: x * ops.clip(x + 3.0, 0.0, 6.0) / 6.0),
    "GELU": lambda node, x: ops.gelu(x, approximate=node.attrs.approximate),
    "EXP": _unary(lambda x: ops.exp(ops.minimum(x, 80.0))),
    "LOG": _unary(lambda x: ops.log(_positive(x))),
    "SQRT": _unary(lambda x: ops.sqrt(_positive(x))),
    "RSQRT": _unary(lambda x: ops.rsqrt(_positive(x))),
    "SQUARE": _unary(ops.square),
    "NEG": _unary(ops.negative),
    "ABS": _unary(ops.abs),
    "SIN": _unary(ops.sin),
    "COS": _unary(ops.cos),
    "ADD": _binary(ops.add),
    "SUB": _binary(ops.subtract),
    "MUL": _binary(ops.multiply),
    "DIV": _binary(_quotient),
    "SQUARED_DIFFERENCE": _binary(lambda a, b: ops.square(a - b)),
    **{name: _affine(name) for name in PRODUCTS},
    "TRANSPOSE_CONV": _transposed_convolution,
    "BATCH_MATMUL": _batch_product,
    "AVERAGE_POOL_2D": _average,
    "MEAN": _reduction(ops.mean),
    "SUM": _reduction(ops.sum),
    "SOFTMAX": _softmax,
    "LOG_SOFTMAX": lambda node, x: ops.log_softmax(x, axis=-1),
    "RESIZE_BILINEAR": _bilinear,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _lstm,
    "UNIDIRECTIONAL_SEQUENCE_RNN": _rnn,
}
MOVES: dict[str, Rule] = {
    "MAXIMUM": lambda node, a, b: ops.maximum(a, b),
    "MINIMUM": lambda node, a, b: ops.minimum(a, b),
    "MAX_POOL_2D": _greatest,
    "REDUCE_MAX": _reduction(ops.max),
    "REDUCE_MIN": _reduction(ops.min),
    "RESHAPE": _reshaped,
    "SQUEEZE": _reshaped,
    "EXPAND_DIMS": _reshaped,
    "TRANSPOSE": lambda node, x, order: ops.transpose(x, tuple(map(int, order))),
    "REVERSE_V2": lambda node, x, axes: ops.flip(x, axis=tuple(map(int, np.ravel(axes)))),
    "CONCATENATION": lambda node, *xs: activated(node, ops.concatenate(xs, axis=node.attrs.axis)),
    "PACK": lambda node, *xs: ops.stack(xs, axis=node.attrs.axis),
    "UNPACK": _unpacked,
    "SPLIT": _split,
    "SPLIT_V": _split_by,
    "PAD": _padded,
    "MIRROR_PAD": _mirrored,
    "SLICE": _sliced,
    "STRIDED_SLICE": _strided,
    "GATHER": _gathered,
    "BROADCAST_TO": _repeated,
    "TILE": _repeated,
    "DEPTH_TO_SPACE": _spread,
    "SPACE_TO_DEPTH": _gathered_blocks,
    "RESIZE_NEAREST_NEIGHBOR": _nearest,
}


def rule_of(node: Node) -> Rule | None:
    """What a node does to real numbers, None where nobody has said it."""
    if getattr(node.attrs, "batch_dims", 0):  # each example looks up places of its own
        return None
    return RULES.get(node.op.name) or MOVES.get(node.op.name)


def moves(node: Node, site: Site) -> bool:
    """Whether the node only chooses among elements that all have the scale of the result."""
    if (
        rule_of(node) is None
        or node.op.name not in MOVES
        or getattr(node.attrs, "fused_activation_function", "NONE") != "NONE"
    ):
        return False
    stored = [t for t in (*site.inputs, *site.outputs) if t is not None and t.quantization is not None]
    return all((t.dtype, t.quantization) == (stored[0].dtype, stored[0].quantization) for t in stored)
