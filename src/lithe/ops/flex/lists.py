"""TensorFlow's lists of tensors ("Flex"), in which its loops keep one result a step: a list is a value, never changed.

Source: the documentation of TensorFlow's operators of these names.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lithe.errors import ExecutionError
from lithe.ops.fill import MOST_ELEMENTS
from lithe.ops.flex.operators import NodeDef
from lithe.ops.layout import integers
from lithe.ops.op import Op, Site, register
from lithe.types import Shape

MOST_ITEMS = 1 << 14  # each step of a loop copies the list


@dataclass(frozen=True)
class TensorList:
    """What a handle holds: the items, None where none was set, and the shape of each as far as it is known."""

    items: tuple[np.ndarray | None, ...]
    shape: tuple[int, ...] | None


class _List(Op):
    """Base: attributes are TensorFlow's description of the node."""

    Attrs = NodeDef


def held(handle: np.ndarray) -> TensorList:
    found = handle.reshape(-1)[0] if handle.size == 1 else None
    if not isinstance(found, TensorList):
        raise ExecutionError("the handle holds no list of tensors")
    return found


def handle(site: Site, content: TensorList, output: int = 0) -> np.ndarray:
    if len(content.items) > MOST_ITEMS:
        raise ExecutionError(f"a list of {len(content.items)} tensors, the limit is {MOST_ITEMS}")
    if sum(i.size for i in content.items if i is not None) > MOST_ELEMENTS:
        raise ExecutionError(f"the tensors of a list have more than {MOST_ELEMENTS} elements")
    result = np.empty((1,) * site.outputs[output].rank, object)
    result.reshape(-1)[0] = content
    return result


def wanted(shape: np.ndarray) -> tuple[int, ...] | None:
    """A shape operand: -1 is open, and a scalar -1 any shape at all."""
    return tuple(integers(shape)) if shape.ndim else None


def merged(a: tuple[int, ...] | None, b: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """What two shapes say together."""
    if a is None or b is None:
        return b if a is None else a
    if len(a) != len(b) or any(m != n and min(m, n) >= 0 for m, n in zip(a, b, strict=True)):
        raise ExecutionError(f"shapes {list(a)} and {list(b)} of a list's items do not go together")
    return tuple(max(m, n) for m, n in zip(a, b, strict=True))


def filled(content: TensorList, shape: tuple[int, ...] | None, site: Site, output: int = 0) -> list[np.ndarray]:
    """The items, zeros in place of those that were not set."""
    for item in (content.shape, *(i.shape for i in content.items if i is not None)):
        shape = merged(shape, item)
    if any(i is None for i in content.items) and (shape is None or min(shape, default=0) < 0):
        raise ExecutionError("an item that was never set has no known shape")
    dtype = site.outputs[output].dtype.numpy
    if shape is not None and int(np.prod(np.maximum(shape, 0), dtype=object)) * len(content.items) > MOST_ELEMENTS:
        raise ExecutionError(f"{len(content.items)} items of the shape {list(shape)} are too large")
    return [np.zeros(shape or (), dtype) if item is None else item for item in content.items]


def place(content: TensorList, index: np.ndarray) -> int:
    (i,) = integers(index)
    if not 0 <= i < len(content.items):
        raise ExecutionError(f"item {i} of a list of {len(content.items)}")
    return i


def count(number: np.ndarray) -> int:
    (n,) = integers(number)
    if not 0 <= n <= MOST_ITEMS:
        raise ExecutionError(f"a list of {n} tensors, the limit is {MOST_ITEMS}")
    return n


def same_handle(site: Site) -> list[Shape]:
    return [site.outputs[0].shape]


def item_shape(site: Site, operand: int, output: int) -> Shape:
    """The shape of an item, where a constant says it."""
    known = site.known(operand)
    shape = None if known is None else wanted(known)
    open_shape: Shape = (None,) * site.outputs[output].rank  # type: ignore[assignment]
    return open_shape if shape is None or min(shape, default=0) < 0 else shape


@register
class TensorListReserve(_List):
    """A list of so many items, none of which is set."""

    name = "FlexTensorListReserve"
    operands = (("element_shape", "num_elements"), ("handle",))
    infer = same_handle

    def evaluate(site: Site, shape: np.ndarray, number: np.ndarray) -> list[np.ndarray]:
        return [handle(site, TensorList((None,) * count(number), wanted(shape)))]


@register
class EmptyTensorList(_List):
    """A list without items."""

    name = "FlexEmptyTensorList"
    operands = (("element_shape", "max_num_elements"), ("handle",))
    infer = same_handle

    def evaluate(site: Site, shape: np.ndarray, _: np.ndarray) -> list[np.ndarray]:
        return [handle(site, TensorList((), wanted(shape)))]


@register
class TensorListFromTensor(_List):
    """The slices of a tensor along its first axis."""

    name = "FlexTensorListFromTensor"
    operands = (("tensor", "element_shape"), ("handle",))

    def infer(site: Site) -> list[Shape]:
        site.require(site.input(0).rank > 0, "must have an axis", 0)
        return same_handle(site)

    def evaluate(site: Site, x: np.ndarray, shape: np.ndarray) -> list[np.ndarray]:
        if len(x) > MOST_ITEMS:
            raise ExecutionError(f"a list of {len(x)} tensors, the limit is {MOST_ITEMS}")
        return [handle(site, TensorList(tuple(row.copy() for row in x), merged(wanted(shape), x.shape[1:])))]


@register
class TensorListSetItem(_List):
    """The list with another item in one place."""

    name = "FlexTensorListSetItem"
    operands = (("input_handle", "index", "item"), ("handle",))
    infer = same_handle

    def evaluate(site: Site, given: np.ndarray, index: np.ndarray, item: np.ndarray) -> list[np.ndarray]:
        content = held(given)
        (i,) = integers(index)
        grows = bool(site.attrs.attributes.get("resize_if_index_out_of_bounds")) and i >= len(content.items)
        missing = count(np.array(i + 1)) - len(content.items) if grows else 0
        content = TensorList(content.items + (None,) * missing, content.shape)
        i = place(content, index)
        merged(content.shape, item.shape)
        return [handle(site, TensorList((*content.items[:i], item.copy(), *content.items[i + 1 :]), content.shape))]


@register
class TensorListGetItem(_List):
    """One item; zeros where none was set."""

    name = "FlexTensorListGetItem"
    operands = (("input_handle", "index", "element_shape"), ("item",))

    def infer(site: Site) -> list[Shape]:
        return [item_shape(site, 2, 0)]

    def evaluate(site: Site, given: np.ndarray, index: np.ndarray, shape: np.ndarray) -> list[np.ndarray]:
        content = held(given)
        item = content.items[place(content, index)]
        known = merged(content.shape, wanted(shape))
        others = next((i.shape for i in content.items if i is not None), None) if item is None else None
        return filled(TensorList((item,), known if others is None else merged(known, others)), None, site)


@register
class TensorListStack(_List):
    """All items, along a new first axis."""

    name = "FlexTensorListStack"
    operands = (("input_handle", "element_shape"), ("tensor",))

    def infer(site: Site) -> list[Shape]:
        open_shape: Shape = (None,) * site.outputs[0].rank  # type: ignore[assignment]
        return [open_shape]

    def evaluate(site: Site, given: np.ndarray, shape: np.ndarray) -> list[np.ndarray]:
        content = held(given)
        number = site.attrs.attributes.get("num_elements")
        if number is not None and number not in (-1, len(content.items)):
            raise ExecutionError(f"the list has {len(content.items)} items, {number} are expected")
        items = filled(content, wanted(shape), site)
        if items:
            return [np.stack(items)]
        known = merged(content.shape, wanted(shape))
        if known is None or min(known, default=0) < 0:
            raise ExecutionError("the items of an empty list have no known shape")
        return [np.zeros((0, *known), site.outputs[0].dtype.numpy)]


@register
class TensorListLength(_List):
    """The number of items."""

    name = "FlexTensorListLength"
    operands = (("input_handle",), ("length",))

    def infer(site: Site) -> list[Shape]:
        return [()]

    def evaluate(site: Site, given: np.ndarray) -> list[np.ndarray]:
        return [np.array(len(held(given).items), np.int32)]


@register
class TensorListPushBack(_List):
    """The list with one more item at its end."""

    name = "FlexTensorListPushBack"
    operands = (("input_handle", "tensor"), ("handle",))
    infer = same_handle

    def evaluate(site: Site, given: np.ndarray, item: np.ndarray) -> list[np.ndarray]:
        content = held(given)
        merged(content.shape, item.shape)
        return [handle(site, TensorList((*content.items, item.copy()), content.shape))]


@register
class TensorListPopBack(_List):
    """The list without its last item, and that item."""

    name = "FlexTensorListPopBack"
    operands = (("input_handle", "element_shape"), ("handle", "tensor"))

    def infer(site: Site) -> list[Shape]:
        return [*same_handle(site), item_shape(site, 1, 1)]

    def evaluate(site: Site, given: np.ndarray, shape: np.ndarray) -> list[np.ndarray]:
        content = held(given)
        if not content.items:
            raise ExecutionError("an empty list has no last item")
        rest = TensorList(content.items[:-1], content.shape)
        last = filled(TensorList(content.items[-1:], merged(content.shape, wanted(shape))), None, site, 1)
        return [handle(site, rest), *last]
