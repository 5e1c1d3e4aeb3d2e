"""Lists of tensors, in which loops read and write one item a step, as one tensor: [items, *item]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lithe.conversion.builder import Builder
from lithe.conversion.sizes import is_open
from lithe.conversion.tensorflow.told import Told, own
from lithe.conversion.tensorflow.values import TensorList, Value, counted, numbers, sizes_of, written
from lithe.ir.graph import Tensor
from lithe.passes.writer import Inexpressible
from lithe.types import FLOAT32, INT32, Shape

OPEN = "the number of items is computed from data"


def filled(b: Builder, content: TensorList, item: Shape) -> TensorList:
    """The list with zeros of this shape for items."""
    shape = (content.count, *item)
    zeros = b.filled(np.zeros((), content.dtype.numpy), content.dtype, shape)
    return replace(content, tensor=zeros)


def _list(t: Told) -> TensorList:
    value = t.values[0]
    t.require(isinstance(value, TensorList), "a list of tensors that is no list of this graph")
    return value  # type: ignore[return-value]


def _item_shape(t: Told, content: TensorList, value: Value | None = None) -> Shape:
    """The shape of an item, which must be known by now."""
    if content.tensor is not None:
        return content.tensor.type.shape[1:]
    given = None if value is None else numbers(value)
    shapes = [content.shape, None if given is None or given.ndim == 0 else tuple(int(n) for n in given)]
    for shape in shapes:
        if shape is not None and min(shape, default=0) >= 0:
            return shape
    raise Inexpressible("the shape of the items of a list is not known before the model runs")


def _known_shape(t: Told, value: Value) -> tuple[int, ...] | None:
    """A shape operand: -1 is open, and a scalar -1 any shape at all."""
    found = numbers(value)
    t.require(found is not None, "the shape of the items of a list is computed from data")
    return None if found is None or found.ndim == 0 else tuple(int(n) for n in found)


@own("TensorListReserve")
def reserve(t: Told) -> TensorList:
    (count,) = sizes_of(t.values[1], OPEN)
    return TensorList(None, count, t.attribute("element_dtype", FLOAT32), _known_shape(t, t.values[0]))


@own("EmptyTensorList")
def empty(t: Told) -> TensorList:
    return TensorList(None, 0, t.attribute("element_dtype", FLOAT32), _known_shape(t, t.values[0]))


@own("TensorListFromTensor")
def from_tensor(t: Told) -> TensorList:
    x = written(t.b, t.values[0])
    return TensorList(x, x.type.shape[0], x.type.dtype, x.type.shape[1:])


def _place(t: Told, index: Value) -> Tensor:
    return t.b.reshape(t.b.int32(written(t.b, index)), ())


@own("TensorListSetItem")
def set_item(t: Told) -> TensorList:
    content, item = _list(t), written(t.b, t.values[2])
    t.require(not t.attribute("resize_if_index_out_of_bounds", False) or content.count > 0, "a list that grows")
    if content.tensor is None:
        content = filled(t.b, content, item.type.shape)
    held = content.tensor
    assert held is not None
    t.require(held.type.shape[1:] == item.type.shape, f"items of {held.type} that are {item.type}")
    begin = t.b.reshape(_place(t, t.values[1]), (1,))
    if item.type.rank:
        begin = t.b("CONCATENATION", begin, t.b.constant([0] * item.type.rank), axis=0)
    row = t.b.reshape(item, (1, *item.type.shape))
    return replace(content, tensor=t.b("DYNAMIC_UPDATE_SLICE", held, row, begin))


@own("TensorListGetItem")
def get_item(t: Told) -> Tensor:
    content = _list(t)
    if content.tensor is None:
        content = filled(t.b, content, _item_shape(t, content, t.values[2]))
    return t.b("GATHER", content.tensor, _place(t, t.values[1]), axis=0, batch_dims=0)


@own("TensorListStack")
def stack(t: Told) -> Value:
    return _whole(t)


def _whole(t: Told) -> Tensor:
    content = _list(t)
    if content.tensor is None:
        content = filled(t.b, content, _item_shape(t, content, t.values[-1]))
    assert content.tensor is not None
    return content.tensor


@own("TensorListLength")
def length(t: Told) -> Value:
    return counted(t.b, _list(t).count, INT32)


@own("TensorListGather")
def gather(t: Told) -> Tensor:
    return t.b("GATHER", _whole(t), t.b.int32(written(t.b, t.values[1])), axis=0, batch_dims=0)


@own("TensorListPushBack")
def push(t: Told) -> TensorList:
    content, item = _list(t), written(t.b, t.values[1])
    t.require(not is_open(content.count), "an open list that grows")
    row = t.b.reshape(item, (1, *item.type.shape))
    if content.tensor is None:
        return replace(content, tensor=row, count=1)
    made = t.b("CONCATENATION", content.tensor, row, axis=0)
    return replace(content, tensor=made, count=content.count + 1)


@own("TensorListPopBack")
def pop(t: Told) -> Sequence[Value]:
    content = _list(t)
    t.require(content.tensor is not None and content.count > 0 and not is_open(content.count), "an item of no list")
    held = content.tensor
    assert held is not None
    item, rest = held.type.shape[1:], content.count - 1
    begin, zeros = [rest] + [0] * len(item), [0] * (1 + len(item))
    last = t.b.reshape(t.b.slice(held, begin, (1, *item)), item)
    left = t.b.slice(held, zeros, (rest, *item)) if rest else None
    return [replace(content, tensor=left, count=rest), last]
