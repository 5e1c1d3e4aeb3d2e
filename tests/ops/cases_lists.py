"""Lists of tensors, which TensorFlow's loops fill: their values are compared in test_flex_lists.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from lithe.ops.flex.lists import TensorList
from lithe.types import FLOAT32, INT32, VARIANT, TensorType
from tests.ops.cases import Case

HANDLE, NUMBER = TensorType(VARIANT, ()), TensorType(INT32, ())
SIZES, ITEM, ITEMS = TensorType(INT32, (1,)), TensorType(FLOAT32, (2,)), TensorType(FLOAT32, (3, 2))
LIST = TensorList((np.float32([1, 2]), None, np.float32([5, 6])), (2,))


def case(op: str, inputs: tuple[TensorType, ...], outputs: tuple[TensorType, ...], *values: Any) -> Case:
    attrs = {"name": "", "op": op.removeprefix("Flex")}
    return Case(op, "list", inputs, outputs, attrs, values=dict(enumerate(values)), official=False,
                reason="an operator of TensorFlow, which the official runtime runs with TensorFlow alone")  # fmt: skip


CASES = [
    case("FlexTensorListReserve", (SIZES, NUMBER), (HANDLE,), np.int32([2]), np.int32(3)),
    case("FlexEmptyTensorList", (SIZES, NUMBER), (HANDLE,), np.int32([2]), np.int32(-1)),
    case("FlexTensorListFromTensor", (ITEMS, SIZES), (HANDLE,), np.ones((3, 2)), np.int32([2])),
    case("FlexTensorListSetItem", (HANDLE, NUMBER, ITEM), (HANDLE,), LIST, np.int32(1), np.ones(2)),
    case("FlexTensorListGetItem", (HANDLE, NUMBER, SIZES), (ITEM,), LIST, np.int32(1), np.int32([2])),
    case("FlexTensorListStack", (HANDLE, SIZES), (ITEMS,), LIST, np.int32([-1])),
    case("FlexTensorListLength", (HANDLE,), (NUMBER,), LIST),
    case("FlexTensorListPushBack", (HANDLE, ITEM), (HANDLE,), LIST, np.ones(2)),
    case("FlexTensorListPopBack", (HANDLE, SIZES), (HANDLE, ITEM), LIST, np.int32([2])),
]
