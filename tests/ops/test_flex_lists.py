"""Lists of tensors: each operator's values, its refusals, and a loop that fills one."""

from __future__ import annotations

import numpy as np
import pytest

import lithe
from lithe.errors import ExecutionError
from lithe.formats import tflite
from lithe.ir.graph import Graph, Module, Node, Tensor
from lithe.ops import REGISTRY
from lithe.ops.fill import MOST_ELEMENTS
from lithe.ops.flex.lists import MOST_ITEMS, TensorList
from lithe.ops.flex.operators import FlexOp, NodeDef
from lithe.types import BOOL, FLOAT32, INT32, VARIANT, DType, TensorType
from tests.formats.node_defs import flex_node
from tests.ops.cases_lists import CASES, LIST

BY_OP = {case.op: case for case in CASES}
ZERO = np.zeros(2, np.float32)


def run(op: str, *values, attributes: dict | None = None):
    case = BY_OP[f"Flex{op}"]
    site = case.site()
    site = type(site)(NodeDef("", op, attributes=attributes or {}), site.inputs, site.outputs)
    arrays = [np.array(v, t.dtype.numpy) for v, t in zip(values, case.inputs, strict=True)]
    return REGISTRY.by_name[case.op].evaluate(site, *arrays)


def items(handle: np.ndarray) -> list:
    return [None if i is None else i.tolist() for i in handle.item().items]


def test_lists_are_made():
    (handle,) = run("TensorListReserve", [2], 3)
    assert handle.item() == TensorList((None, None, None), (2,))
    assert run("TensorListReserve", -1, 1)[0].item().shape is None
    assert items(run("EmptyTensorList", [2], -1)[0]) == []
    assert items(run("TensorListFromTensor", [[1, 2], [3, 4], [5, 6]], [2])[0]) == [[1, 2], [3, 4], [5, 6]]


def test_items_are_set_and_read_and_the_list_given_stays():
    assert items(run("TensorListSetItem", LIST, 1, [3, 4])[0]) == [[1, 2], [3, 4], [5, 6]]
    assert LIST.items[1] is None
    grown = run("TensorListSetItem", LIST, 4, [3, 4], attributes={"resize_if_index_out_of_bounds": True})[0]
    assert items(grown) == [[1, 2], None, [5, 6], None, [3, 4]]
    assert run("TensorListGetItem", LIST, 0, [2])[0].tolist() == [1, 2]
    assert run("TensorListGetItem", LIST, 1, [-1])[0].tolist() == [0, 0]
    free = TensorList((np.ones(2, np.float32), None), None)
    assert run("TensorListGetItem", free, 1, -1)[0].tolist() == [0, 0]


def test_lists_are_stacked_counted_and_changed_at_the_end():
    assert run("TensorListStack", LIST, [-1])[0].tolist() == [[1, 2], [0, 0], [5, 6]]
    assert run("TensorListStack", TensorList((), (2,)), [-1])[0].shape == (0, 2)
    assert run("TensorListLength", LIST)[0].tolist() == 3
    assert items(run("TensorListPushBack", LIST, [7, 8])[0]) == [[1, 2], None, [5, 6], [7, 8]]
    rest, last = run("TensorListPopBack", LIST, [2])
    assert (items(rest), last.tolist()) == ([[1, 2], None], [5, 6])


WIDE = np.broadcast_to(np.float32(0), (MOST_ELEMENTS // 8,))
LONG = TensorList((None,) * MOST_ITEMS, (2,))
REFUSED = [
    ("TensorListLength", (object(),), {}, "holds no list"),
    ("TensorListReserve", ([2], -1), {}, "a list of -1 tensors"),
    ("TensorListReserve", ([2], MOST_ITEMS + 1), {}, "the limit is"),
    ("TensorListFromTensor", (np.zeros((MOST_ITEMS + 1, 2)), [2]), {}, "the limit is"),
    ("TensorListPushBack", (LONG, ZERO), {}, "the limit is"),
    ("TensorListPushBack", (TensorList((WIDE,) * 9, None), ZERO), {}, "have more than"),
    ("TensorListSetItem", (LIST, 3, ZERO), {}, "item 3 of a list of 3"),
    ("TensorListSetItem", (LIST, -1, ZERO), {"resize_if_index_out_of_bounds": True}, "item -1 of a list of 3"),
    ("TensorListSetItem", (LIST, 1 << 20, ZERO), {"resize_if_index_out_of_bounds": True}, "the limit is"),
    ("TensorListSetItem", (LIST, 0, np.zeros(3)), {}, r"shapes \[2\] and \[3\]"),
    ("TensorListGetItem", (TensorList((None,), None), 0, -1), {}, "no known shape"),
    ("TensorListGetItem", (TensorList((None,), None), 0, [1 << 30]), {}, "too large"),
    ("TensorListStack", (LIST, [2]), {"num_elements": 2}, "has 3 items, 2 are expected"),
    ("TensorListStack", (TensorList((), None), -1), {}, "an empty list have no known shape"),
    ("TensorListPopBack", (TensorList((), None), -1), {}, "has no last item"),
]


@pytest.mark.parametrize(("op", "values", "attributes", "problem"), REFUSED)
def test_what_cannot_be_done_is_said(op, values, attributes, problem):
    with pytest.raises(ExecutionError, match=problem):
        run(op, *values, attributes=attributes)


def test_a_loop_fills_a_list():
    """i, l = 0, reserve(n); while i < n: l[i] = 2 x[i]; i += 1; stack(l)"""

    def tensors(*types: tuple[str, DType, tuple[int, ...], object]) -> list[Tensor]:
        return [
            Tensor(name, TensorType(dtype, shape), None if data is None else np.array(data, dtype.numpy), index=i)
            for i, (name, dtype, shape, data) in enumerate(types)
        ]

    def builtin(op: str, inputs: list[Tensor], outputs: list[Tensor], **attrs: object) -> Node:
        cls = REGISTRY.by_name[op]
        return Node(cls, cls.Attrs(**attrs), inputs, outputs, 0, {"version": 1})

    state = (("i", INT32, (), None), ("l", VARIANT, (), None), ("x", FLOAT32, (3, 2), None))
    i, l, x, n, more = ts = tensors(*state, ("n", INT32, (), 3), ("more", BOOL, (), None))
    condition = Graph("condition", [i, l, x], [more], ts, [builtin("LESS", [i, n], [more])])
    i, l, x, one, row, twice, filled, following = ts = tensors(
        *state, ("one", INT32, (), 1), ("row", FLOAT32, (2,), None), ("twice", FLOAT32, (2,), None),
        ("filled", VARIANT, (), None), ("following", INT32, (), None),
    )  # fmt: skip
    body = Graph("body", [i, l, x], [following, filled, x], ts, [
        builtin("GATHER", [x, i], [row]), builtin("ADD", [row, row], [twice]),
        flex_node("TensorListSetItem", [l, i, twice], [filled], {}), builtin("ADD", [i, one], [following]),
    ])  # fmt: skip
    x, zero, n, shape, l, a, b, c, y = ts = tensors(
        ("x", FLOAT32, (3, 2), None), ("zero", INT32, (), 0), ("n", INT32, (), 3), ("shape", INT32, (1,), [2]),
        ("l", VARIANT, (), None), ("a", INT32, (), None), ("b", VARIANT, (), None), ("c", FLOAT32, (3, 2), None),
        ("y", FLOAT32, (3, 2), None),
    )  # fmt: skip
    main = Graph("main", [x], [y], ts, [
        flex_node("TensorListReserve", [shape, n], [l], {"element_dtype": FLOAT32}),
        builtin("WHILE", [zero, l, x], [a, b, c], cond_subgraph_index=1, body_subgraph_index=2),
        flex_node("TensorListStack", [b, shape], [y], {"element_dtype": FLOAT32, "num_elements": 3}),
    ])  # fmt: skip
    for graph in (main, condition, body):
        for number, node in enumerate(graph.nodes):
            node.index = number
    given = np.float32([[1, 2], [3, 4], [5, 6]])
    np.testing.assert_array_equal(lithe.load(tflite.write(Module([main, condition, body])))(given), 2 * given)


def test_they_need_no_tensorflow():
    assert not any(issubclass(REGISTRY.by_name[op], FlexOp) for op in BY_OP)
