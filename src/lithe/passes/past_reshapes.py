"""Reshapes moved behind what does not care for the shape, where they meet others, and leave their neighbours together.

A layer that works on pictures computes along sequences, too: its input is reshaped to a picture, its result back. What
follows, a bias, a normalization, an activation, can only become part of the layer when the reshape is behind it.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from lithe.ir.graph import Node, Tensor
from lithe.ops.op import REGISTRY
from lithe.passes.rewrite import Neighbours
from lithe.types import INT32, Shape, TensorType

MOST_RANK = 4  # up to which every elementwise kernel works
ALONG_LAST = {"SOFTMAX", "LOG_SOFTMAX"}


def _constant(name: str, values: np.ndarray) -> Tensor:
    return Tensor(name, TensorType(INT32, values.shape), values)


def _between(node: Node, shape: Shape) -> Tensor:
    """The node's result in another shape."""
    output = node.outputs[0]
    return Tensor(f"{output.name}/reshaped", replace(output.type, shape=shape))


def _reshape(around: Neighbours, tensor: Tensor | None) -> Node | None:
    """The RESHAPE that makes a tensor which nobody else reads."""
    maker = around.producer(tensor)
    if maker is None or maker.op.name != "RESHAPE" or maker.inputs[0] is None or maker.inputs[0].is_variable:
        return None
    return maker if around.read_once(tensor) else None


def pass_reshape(around: Neighbours, node: Node) -> tuple[Node, Node] | None:
    """ADD(RESHAPE(x), c)  ->  RESHAPE(ADD(x, c))

    For elementwise operators whose operands are constants, or come from reshapes of tensors of one shape; and for
    softmax, where the last axis stays. Not for those that give another element type: a reshape is as good before.
    """
    if not _has_no_shape(node) or any(t.type.dtype != node.outputs[0].type.dtype for t in node.inputs if t is not None):
        return None
    makers = {i: _reshape(around, t) for i, t in enumerate(node.inputs) if t is not None and t.data is None}
    if not makers or any(m is None for m in makers.values()):
        return None
    sources = {i: m.inputs[0] for i, m in makers.items() if m is not None}
    shapes = {t.type.shape for t in sources.values() if t is not None}
    wanted = node.outputs[0].type.shape
    fits = all(m.outputs[0].type.shape == wanted for m in makers.values() if m is not None)
    if len(shapes) != 1 or not fits:
        return None
    (shape,) = shapes
    if len(shape) > max(MOST_RANK, len(wanted)) or (node.op.name in ALONG_LAST and shape[-1:] != wanted[-1:]):
        return None
    inputs: list[Tensor | None] = []
    for i, t in enumerate(node.inputs):
        moved = sources[i] if i in sources else _reshaped_constant(t, wanted, shape)
        if moved is None:
            return None
        inputs.append(moved)
    middle = _between(node, shape)
    reshape = next(m for m in makers.values() if m is not None)
    return (
        Node(node.op, node.attrs, inputs, [middle], node.index, node.extras),
        Node(reshape.op, reshape.attrs, [middle, *reshape.inputs[1:]], node.outputs, node.index),
    )


def _has_no_shape(node: Node) -> bool:
    """Whether each element of the result depends on those in its place alone, or in its row."""
    if len(node.outputs) != 1 or node.outputs[0].type.quantization or not node.inputs:
        return False
    elementwise = node.op.elementwise and not node.op.row_aligned and (node.op.broadcasts or len(node.inputs) == 1)
    return elementwise or node.op.name in ALONG_LAST


def _reshaped_constant(constant: Tensor | None, have: Shape, wanted: Shape) -> Tensor | None:
    """A constant that is repeated along leading axes of one shape, for another shape of the same elements."""
    if constant is None or constant.data is None or constant.data.ndim > len(have):
        return None
    data = constant.data
    if data.size == 1:
        return replace(constant, type=replace(constant.type, shape=()), data=data.reshape(()))
    own = (1,) * (len(have) - data.ndim) + data.shape
    leading = next(i for i, n in enumerate(own) if n != 1)
    if own[leading:] != have[leading:]:
        return None
    for begin in reversed(range(len(wanted))):
        if math.prod(wanted[begin:]) == data.size:
            shape = wanted[begin:]
            return replace(constant, type=replace(constant.type, shape=shape), data=data.reshape(shape))
    return None


def keep_rows(around: Neighbours, node: Node) -> Node | tuple[Node, Node] | None:
    """RESHAPE(FULLY_CONNECTED(RESHAPE(x)))  ->  FULLY_CONNECTED(RESHAPE(x)), which keeps the outer dimensions"""
    if node.op.name != "RESHAPE" or len(node.inputs) < 2 or node.outputs[0].type.rank < 2:
        return None
    product, sizes = around.producer(node.inputs[0]), node.inputs[1]
    if product is None or product.op.name != "FULLY_CONNECTED" or not around.read_once(node.inputs[0]):
        return None
    flat = _reshape(around, product.inputs[0])
    if flat is None or sizes is None or sizes.data is None or sizes.data.size != node.outputs[0].type.rank:
        return None
    have, result = flat.outputs[0].type.shape, node.outputs[0].type.shape
    if product.outputs[0].type.shape[-1] != result[-1]:
        return None
    attrs = replace(product.attrs, keep_num_dims=len(result) > 2)
    shape, x = (*result[:-1], have[-1]), flat.inputs[0]
    assert x is not None
    if x.type.shape == shape:
        return Node(product.op, attrs, [x, *product.inputs[1:]], node.outputs, product.index, product.extras)
    rows = Tensor(f"{node.outputs[0].name}/rows", replace(x.type, shape=shape))
    wanted = np.array([*sizes.data.reshape(-1)[:-1], have[-1]], np.int32)
    return (
        Node(flat.op, REGISTRY.by_name["RESHAPE"].Attrs(), [x, _constant(f"{rows.name}/shape", wanted)], [rows]),
        Node(product.op, attrs, [rows, *product.inputs[1:]], node.outputs, product.index, product.extras),
    )


def pass_inserted_axes(around: Neighbours, node: Node) -> tuple[Node, Node] | None:
    """TRANSPOSE(RESHAPE(x), p)  ->  RESHAPE(TRANSPOSE(x, p'))        where the reshape only adds axes of one element"""
    if node.op.name != "TRANSPOSE" or node.inputs[1] is None or node.inputs[1].data is None:
        return None
    reshape = _reshape(around, node.inputs[0])
    if reshape is None or len(reshape.inputs) < 2 or reshape.inputs[1] is None or reshape.inputs[1].data is None:
        return None
    x, sizes = reshape.inputs[0], reshape.inputs[1].data.reshape(-1)
    assert x is not None
    places = _places(x.type.shape, reshape.outputs[0].type.shape)
    if places is None or sizes.size != len(places):
        return None
    order = [int(a) % len(places) for a in node.inputs[1].data]
    kept = [place for a in order if (place := places[a]) is not None]
    permutation = [a for a in kept if x.type.shape[a] != 1]
    for axis in sorted(set(kept).difference(permutation)):  # where they are, they are least in the way
        permutation.insert(axis, axis)
    shape = tuple(x.type.shape[a] for a in permutation)
    middle = _between(node, shape)
    cls = REGISTRY.by_name["RESHAPE"]
    turned = _constant(f"{middle.name}/order", np.array(permutation, np.int32))
    wanted = _constant(f"{middle.name}/shape", np.array([sizes[a] for a in order], np.int32))
    return (
        Node(node.op, node.attrs, [x, turned], [middle], node.index, node.extras),
        Node(cls, cls.Attrs(), [middle, wanted], node.outputs, node.index),
    )


def without_ones(around: Neighbours, node: Node) -> tuple[Node, Node] | None:
    """RESHAPE(TRANSPOSE(RESHAPE(x, a), p), b)  ->  TRANSPOSE(RESHAPE(x, a'), p')        with the ones of b"""
    transpose = around.producer(node.inputs[0]) if node.op.name == "RESHAPE" else None
    if transpose is None or transpose.op.name != "TRANSPOSE" or not around.read_once(node.inputs[0]):
        return None
    reshape, order = _reshape(around, transpose.inputs[0]), transpose.inputs[1]
    if reshape is None or order is None or order.data is None or len(reshape.inputs) < 2 or reshape.inputs[1] is None:
        return None
    sizes, have, wanted = reshape.inputs[1].data, reshape.outputs[0].type.shape, node.outputs[0].type.shape
    turned = [int(a) % len(have) for a in order.data if have[int(a) % len(have)] != 1]
    if sizes is None or sizes.size != len(have) or [have[a] for a in turned] != [n for n in wanted if n != 1]:
        return None
    places: list[int | None] = [*sorted(turned)]  # of the new shape before it is turned: which axis it was
    permutation, rest = [], iter(turned)
    for axis, n in enumerate(wanted):
        if n == 1:
            places.insert(axis, None)
    for axis, n in enumerate(wanted):
        permutation.append(axis if n == 1 else places.index(next(rest)))
    shape = tuple(1 if a is None else have[a] for a in places)
    middle = _between(node, shape)
    flat = np.array([1 if a is None else sizes.reshape(-1)[a] for a in places], np.int32)
    return (
        Node(reshape.op, REGISTRY.by_name["RESHAPE"].Attrs(),
             [reshape.inputs[0], _constant(f"{middle.name}/shape", flat)], [middle], reshape.index),
        Node(transpose.op, transpose.attrs,
             [middle, _constant(f"{middle.name}/order", np.array(permutation, np.int32))], node.outputs, node.index),
    )  # fmt: skip


def _places(before: Shape, after: Shape) -> list[int | None] | None:
    """For each axis after a reshape, which it was; None for those of one element that it adds. None if it does more."""
    places: list[int | None] = []
    axis = 0
    for n in after:
        if axis < len(before) and before[axis] == n:
            places.append(axis)
            axis += 1
        elif n == 1:
            places.append(None)
        else:
            return None
    return places if axis == len(before) < len(after) else None


def as_strided_slice(around: Neighbours, node: Node) -> Node | None:
    """RESHAPE(SLICE(x, begin, size))  ->  STRIDED_SLICE(x) that drops axes        of one element"""
    if node.op.name != "RESHAPE":
        return None
    part = around.producer(node.inputs[0])
    if part is None or part.op.name != "SLICE" or not around.read_once(node.inputs[0]):
        return None
    x, begin, size = part.inputs
    if x is None or begin is None or size is None or begin.data is None or size.data is None:
        return None
    places = _places(node.outputs[0].type.shape, part.outputs[0].type.shape)
    if places is None:
        return None
    starts, ends = [int(b) for b in begin.data], []
    masks = {"begin_mask": 0, "end_mask": 0, "shrink_axis_mask": 0}
    for axis, (n, whole) in enumerate(zip(size.data, x.type.shape, strict=True)):
        if places[axis] is None:
            masks["shrink_axis_mask"] |= 1 << axis
        elif starts[axis] == 0:
            masks["begin_mask"] |= 1 << axis
        to_the_end = n == -1 or (places[axis] is not None and starts[axis] + n == whole)
        masks["end_mask"] |= to_the_end << axis
        ends.append(0 if to_the_end else starts[axis] + int(n))
    cls = REGISTRY.by_name["STRIDED_SLICE"]
    name = node.outputs[0].name
    operands = [
        _constant(f"{name}/{title}", np.array(values, np.int32))
        for title, values in (("begin", starts), ("end", ends), ("strides", [1] * len(ends)))
    ]
    return Node(cls, cls.Attrs(**masks), [x, *operands], node.outputs, node.index)
