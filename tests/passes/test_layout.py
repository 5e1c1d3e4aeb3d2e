"""Transposes that are moved and taken away."""

from __future__ import annotations

import numpy as np
import pytest

from lithe.ir.graph import Module
from lithe.ops.verify import verify
from lithe.passes import prepare
from lithe.passes.axes import regrouped
from lithe.passes.layout import arrange_layouts
from lithe.types import FLOAT32, Quantization, TensorType
from tests.passes.check import check, outputs
from tests.passes.graphs import Draft

LAST, FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
SHAPE = (1, 3, 4, 5)  # channels first


def turn(d, x, order):
    return d("TRANSPOSE", x, d.constant(order, np.int32), shape=(1,) * len(order))


def turned(d, x):
    return turn(d, x, LAST)


def back(d, x):
    return turn(d, x, FIRST)


def pooled(d, x):
    """Something that wants channels last."""
    return d("MAX_POOL_2D", x, filter_height=1, filter_width=1, padding="VALID", shape=(1,) * 4)


def between(write, count=1, shape=SHAPE):
    """TRANSPOSE and pooling, `write` with channels first, TRANSPOSE and pooling."""
    d = Draft()
    x = d.input(shape)
    made = write(d, *(back(d, pooled(d, turned(d, x))) for _ in range(count)))
    return d.graph(*(back(d, pooled(d, turned(d, y))) for y in (made if isinstance(made, list) else [made])))


def names(graph):
    return [n.op.name for n in graph.nodes]


def transposes(graph):
    return names(graph).count("TRANSPOSE")


def int32(d, value):
    return d.constant(value, np.int32)


def concatenated(d, x, y):
    return d("CONCATENATION", x, y, d.constant(np.ones((1, 2, 4, 5))), axis=1, shape=(1,) * 4)


def several(op, *inputs, count, d, **attrs):
    first = d(op, *inputs, shape=(1,) * 4, **attrs)
    node = d.nodes[-1]
    node.outputs = [first, *(d.tensor((1,) * 4, FLOAT32) for _ in range(count - 1))]
    return list(node.outputs)


ALIKE = {
    "unary": lambda d, x: d("RELU", x),
    "a number": lambda d, x: d("ADD", x, d.constant(2.0)),
    "a constant for each channel": lambda d, x: d("MUL", x, d.constant([[[1.0]], [[2.0]], [[3.0]]])),
    "a constant of full rank": lambda d, x: d("MUL", x, d.constant(np.arange(12.0).reshape(1, 3, 4, 1))),
    "a constant row": lambda d, x: d("ADD", x, d.constant(np.arange(5.0))),
    "slopes": lambda d, x: d("PRELU", x, d.constant([[[0.5]], [[2.0]], [[3.0]]])),
    "padding": lambda d, x: d("PAD", x, int32(d, [[0, 0], [1, 0], [2, 0], [0, 3]])),
    "mirrored": lambda d, x: d("MIRROR_PAD", x, int32(d, [[0, 0], [0, 0], [2, 0], [0, 3]]), mode="REFLECT"),
    "slice": lambda d, x: d("SLICE", x, int32(d, [0, 1, 0, 2]), int32(d, [-1, 2, 3, -1])),
    "strided": lambda d, x: d("STRIDED_SLICE", x, int32(d, [0, 1, 0, 0]), int32(d, [1, 3, 0, 5]),
                              int32(d, [1, 1, 2, 1]), end_mask=4),
    "tile": lambda d, x: d("TILE", x, int32(d, [1, 1, 2, 3])),
    "reversed": lambda d, x: d("REVERSE_V2", x, int32(d, [3])),
    "running sum": lambda d, x: d("CUMSUM", x, int32(d, 2)),
    "gathered": lambda d, x: d("GATHER", x, int32(d, [2, 0]), axis=1, batch_dims=0),
    "mean that stays": lambda d, x: d("MEAN", x, int32(d, [2, 3]), keep_dims=True),
    "squeeze and excite": lambda d, x: d("MUL", x, d("ABS", d("REDUCE_MAX", x, int32(d, [-1, 2]), keep_dims=True))),
    "split": lambda d, x: several("SPLIT", int32(d, 2), x, count=2, d=d, dtype=FLOAT32, num_splits=2),
    "split in parts": lambda d, x: several("SPLIT_V", x, int32(d, [1, 2]), int32(d, 1), count=2, d=d, num_splits=2),
    "two reshapes": lambda d, x: d("RESHAPE", d("ABS", d("RESHAPE", x, int32(d, [1, 3, 20]), shape=(1,) * 3)),
                                   int32(d, SHAPE)),
}  # fmt: skip
ALIKE_OF_TWO = {
    "sum": lambda d, x, y: d("ADD", x, d("RELU", y)),
    "concatenation": concatenated,
}


@pytest.mark.parametrize("name", ALIKE)
def test_what_treats_axes_alike_needs_no_transpose(name):
    graph = between(ALIKE[name])
    after = check(graph, arrange_layouts)
    assert transposes(after) <= 1 + len(graph.outputs), names(after)


@pytest.mark.parametrize("name", ALIKE_OF_TWO)
def test_what_comes_together_needs_no_transpose(name):
    after = check(between(ALIKE_OF_TWO[name], 2), arrange_layouts)
    assert transposes(after) == 2, names(after)


def test_inverse_transposes_cancel_and_others_merge():
    d = Draft()
    x = d.input((2, 3, 4))
    y = turn(d, turn(d, x, (1, 2, 0)), (2, 0, 1))
    z = turn(d, turn(d, x, (1, 0, 2)), (0, 2, 1))
    after = check(d.graph(d("RELU", y), d("ABS", z)), arrange_layouts)
    assert sorted(names(after)) == ["ABS", "RELU", "TRANSPOSE"]


def test_axes_of_one_element_are_moved_by_a_reshape():
    d = Draft()
    after = check(d.graph(pooled(d, turned(d, d.input((2, 5, 1, 1))))), arrange_layouts)
    assert names(after) == ["RESHAPE", "MAX_POOL_2D"]


def test_an_open_axis_of_one_element_is_not_moved_by_a_reshape():
    d = Draft()
    x = d.input((1, 1, 4), shape_signature=(-1, -1, 4))
    after = check(d.graph(d("MATRIX_DIAG", turn(d, x, (1, 0, 2)), shape=(1,) * 4)), arrange_layouts)
    assert transposes(after) == 1


def test_a_flattened_picture_mixes_the_weights_of_the_product_behind_it():
    d = Draft()
    y = back(d, pooled(d, turned(d, d.input(SHAPE))))
    flat = d("RESHAPE", y, int32(d, [-1, 60]), shape=(1, 60))
    weights = d.constant(np.arange(120.0).reshape(2, 60) % 7)
    after = check(d.graph(d("FULLY_CONNECTED", flat, weights, None, shape=(1, 2))), arrange_layouts)
    assert names(after) == ["TRANSPOSE", "MAX_POOL_2D", "RESHAPE", "FULLY_CONNECTED"]


def test_a_flattened_picture_that_others_read_is_turned():
    d = Draft()
    y = back(d, pooled(d, turned(d, d.input(SHAPE))))
    flat = d("RESHAPE", y, int32(d, [1, 60]), shape=(1, 60))
    made = d("FULLY_CONNECTED", flat, d.constant(np.ones((2, 60))), None, shape=(1, 2))
    assert transposes(check(d.graph(made, d("CUMSUM", flat, int32(d, 1), shape=(1, 60))), arrange_layouts)) == 2


def test_a_softmax_stays_along_the_last_axis():
    after = check(between(lambda d, x: d("SOFTMAX", x)), arrange_layouts)
    assert transposes(after) == 4


def test_a_dropped_axis_leaves_the_others_in_order():
    d = Draft()
    y = back(d, pooled(d, turned(d, d.input(SHAPE))))
    after = check(d.graph(d("MEAN", y, int32(d, [2, 3]), shape=(1, 3))), arrange_layouts)
    assert names(after) == ["TRANSPOSE", "MAX_POOL_2D", "MEAN"]


def test_a_transpose_of_the_last_two_axes_becomes_an_attribute_of_a_product():
    d = Draft()
    x, y = d.input((2, 3, 4)), d.input((2, 5, 4))
    made = d("BATCH_MATMUL", x, turn(d, y, (0, 2, 1)), shape=(1,) * 3)
    after = check(d.graph(made), arrange_layouts)
    assert names(after) == ["BATCH_MATMUL"]
    assert after.nodes[0].attrs.adj_y


def test_outputs_keep_their_order_and_their_tensors():
    d = Draft()
    x = d.input(SHAPE)
    y = d("RELU", back(d, pooled(d, turned(d, x))))
    z = back(d, pooled(d, turned(d, y)))
    after = check(d.graph(y, z), arrange_layouts)
    assert transposes(after) == 3


def test_never_more_elements_are_moved():
    """The small picture may be turned, the large one that joins it not."""
    d = Draft()
    small, large = d.input((1, 1, 4, 5)), d.input((1, 300, 4, 5))
    y = d("ADD", back(d, turned(d, small)), large)
    assert transposes(check(d.graph(turned(d, d("RELU", y))), arrange_layouts)) == 1


def test_a_quantized_axis_moves_with_its_tensor():
    d = Draft()
    scales = Quantization((0.5, 1.0, 2.0), (0, 0, 0), axis=1)
    x = d.input(SHAPE)
    y = back(d, pooled(d, turned(d, x)))
    made = d("RELU", y)
    made.type = TensorType(FLOAT32, SHAPE, scales)
    ready = prepare(d.graph(back(d, pooled(d, turned(d, made)))), keep_all=True)
    arrange_layouts(ready)
    verify(Module([ready]))
    relu = next(n for n in ready.nodes if n.op.name == "RELU")
    assert relu.outputs[0].type.quantization.axis == 3


def test_it_says_how_many_elements_fewer_are_moved():
    ready = prepare(between(ALIKE["unary"]), keep_all=True)
    assert arrange_layouts(ready) == 2 * 60
    assert arrange_layouts(ready) == 0
    assert outputs(ready)[0].shape == SHAPE


@pytest.mark.parametrize(("given", "wanted", "layout", "expected"), [
    ((2, 3, 4, 5), (2, 3, 20), (0, 2, 3, 1), (0, 2, 1)),
    ((2, 3, 20), (2, 3, 4, 5), (0, 2, 1), (0, 2, 3, 1)),
    ((2, 3, 1, 1), (2, 3), (0, 2, 3, 1), (0, 1)),
    ((2, 3), (2, 3, 1, 1), (1, 0), (1, 2, 3, 0)),
    ((2, 3, 4), (2, 12), (0, 2, 1), None),
    ((6, 4), (2, 3, 4), (1, 0), (2, 0, 1)),
    ((0, 4), (4, 0), (1, 0), None),
    ((2, 3), (5, 1), (0, 1), None),
])  # fmt: skip
def test_a_reshape_carries_layouts_where_axes_stay_neighbours(given, wanted, layout, expected):
    found = regrouped(given, wanted, layout, False)
    assert (found and found[0]) == expected
