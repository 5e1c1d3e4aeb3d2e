"""What frameworks spell out becomes what the format means: same numbers, same interface, and a second time nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lithe.passes.tidy import tidy
from lithe.types import BOOL
from tests.passes.check import check as check_exactly
from tests.passes.graphs import Draft

ROUNDING = 3e-6  # weights are multiplied before they are summed up
RANDOM = np.random.default_rng(5)


def check(graph, change):
    return check_exactly(graph, change, ROUNDING)


def floats(*shape):
    return RANDOM.standard_normal(shape).astype(np.float32)


def convolution(d, x, channels=4, size=3, **attrs):
    n, h, w, c = x.type.shape
    attrs = {"padding": "SAME", **attrs}
    given = attrs["padding"] == "SAME"
    shape = (n, h, w, channels) if given else (n, h - size + 1, w - size + 1, channels)
    return d(
        "CONV_2D", x, d.constant(floats(channels, size, size, c)), d.constant(floats(channels)), shape=shape, **attrs
    )


def names(graph):
    return [n.op.name for n in graph.nodes]


def test_a_batch_normalization_goes_into_the_weights_before_it():
    d = Draft()
    y = convolution(d, d.input((1, 5, 6, 3)))
    y = d("MUL", y, d.constant(floats(1, 1, 1, 4)), shape=(1, 5, 6, 4))
    y = d("ADD", y, d.constant(floats(4)), shape=(1, 5, 6, 4))
    assert names(check(d.graph(d("RELU", y, shape=(1, 5, 6, 4))), tidy)) == ["CONV_2D"]


def test_weights_that_somebody_else_reads_stay():
    d = Draft()
    x = convolution(d, d.input((1, 5, 6, 3)))
    y = d("MUL", x, d.constant(floats(4)), shape=(1, 5, 6, 4))
    assert names(check(d.graph(y, d("TANH", x, shape=(1, 5, 6, 4))), tidy)) == ["CONV_2D", "MUL", "TANH"]


def test_readers_of_what_falls_away_count_as_readers_of_what_stays():
    d = Draft()
    x = convolution(d, d.input((1, 5, 6, 3)))
    same = d("ADD", x, d.constant(0.0), shape=(1, 5, 6, 4))
    y = d("MUL", same, d("TANH", d("MUL", same, d.constant(2.0), shape=(1, 5, 6, 4)), shape=(1, 5, 6, 4)),
          shape=(1, 5, 6, 4))  # fmt: skip
    assert names(check(d.graph(y), tidy)).count("CONV_2D") == 1


def test_a_number_for_each_place_does_not_go_into_weights():
    d = Draft()
    y = d("MUL", convolution(d, d.input((1, 5, 6, 3))), d.constant(floats(1, 5, 6, 1)), shape=(1, 5, 6, 4))
    assert names(check(d.graph(y), tidy)) == ["CONV_2D", "MUL"]


def test_a_scale_before_weights_goes_into_them():
    d = Draft()
    y = convolution(d, d("MUL", d.input((1, 5, 6, 3)), d.constant(floats(3)), shape=(1, 5, 6, 3)))
    assert names(check(d.graph(y), tidy)) == ["CONV_2D"]


@pytest.mark.parametrize(
    ("low", "high", "name"), [(0, None, "RELU"), (0, 6, "RELU6"), (0, 1, "RELU_0_TO_1"), (-1, 1, "RELU_N1_TO_1")]
)
def test_bounds_become_activations(low, high, name):
    d = Draft()
    y = d("MAXIMUM", d.input((2, 3)), d.constant(float(low)), shape=(2, 3))
    if high is not None:
        y = d("MINIMUM", d.constant(float(high)), y, shape=(2, 3))
    assert names(check(d.graph(y), tidy)) == [name]


def test_other_bounds_stay():
    d = Draft()
    y = d("MINIMUM", d("MAXIMUM", d.input((2, 3)), d.constant(0.5), shape=(2, 3)), d.constant(6.0), shape=(2, 3))
    assert names(check(d.graph(y), tidy)) == ["MAXIMUM", "MINIMUM"]


def test_an_activation_is_not_fused_into_a_concatenation_which_the_official_kernel_refuses():
    d = Draft()
    x = d.input((2, 3))
    y = d("RELU", d("CONCATENATION", x, x, axis=0, shape=(4, 3)), shape=(4, 3))
    assert names(check(d.graph(y), tidy)) == ["CONCATENATION", "RELU"]


def sigmoid(d, x, shape):
    power = d("EXP", d("NEG", x, shape=shape), shape=shape)
    return d("DIV", d.constant(1.0), d("ADD", power, d.constant(1.0), shape=shape), shape=shape)


def hard_swish(d, x, shape):
    shifted = d("RELU6", d("ADD", x, d.constant(3.0), shape=shape), shape=shape)
    return d("MUL", x, d("DIV", shifted, d.constant(6.0), shape=shape), shape=shape)


def gelu(d, x, shape):
    cube = d("MUL", d("MUL", x, x, shape=shape), x, shape=shape)
    inner = d("ADD", x, d("MUL", cube, d.constant(0.044715), shape=shape), shape=shape)
    bent = d("TANH", d("MUL", inner, d.constant(math.sqrt(2 / math.pi)), shape=shape), shape=shape)
    half = d("MUL", d("ADD", bent, d.constant(1.0), shape=shape), d.constant(0.5), shape=shape)
    return d("MUL", x, half, shape=shape)


def softmax(d, x, shape):
    kept = (*shape[:-1], 1)
    axis = d.constant([len(shape) - 1], np.int32)
    top = d("REDUCE_MAX", x, axis, keep_dims=False, shape=shape[:-1])
    top = d("RESHAPE", top, d.constant(kept, np.int32), shape=kept)
    power = d("EXP", d("SUB", x, top, shape=shape), shape=shape)
    return d("DIV", power, d("SUM", power, axis, keep_dims=True, shape=kept), shape=shape)


def mean(d, x, shape):
    total = d("SUM", x, d.constant([1], np.int32), keep_dims=False, shape=shape[:1])
    return d("DIV", total, d.constant(float(shape[1])), shape=shape[:1])


@pytest.mark.parametrize(
    ("spelled", "name"),
    [(sigmoid, "LOGISTIC"), (hard_swish, "HARD_SWISH"), (gelu, "GELU"), (softmax, "SOFTMAX"), (mean, "MEAN")],
)
def test_formulas_become_the_builtins_that_stand_for_them(spelled, name):
    d = Draft()
    y = spelled(d, d.input((3, 5)), (3, 5))
    assert names(check(d.graph(y), tidy)) == [name]


def test_a_formula_with_another_number_stays():
    d = Draft()
    x = d.input((3, 5))
    shifted = d("RELU6", d("ADD", x, d.constant(2.9), shape=(3, 5)), shape=(3, 5))
    y = d("MUL", x, d("MUL", shifted, d.constant(1 / 6), shape=(3, 5)), shape=(3, 5))
    assert "HARD_SWISH" not in names(check(d.graph(y), tidy))


def test_a_repetition_that_the_reader_makes_itself_falls_away():
    d = Draft()
    x, row = d.input((4, 5)), d.input((1, 5))
    y = d("ADD", x, d("BROADCAST_TO", row, d.constant([4, 5], np.int32), shape=(4, 5)), shape=(4, 5))
    assert names(check(d.graph(y), tidy)) == ["ADD"]


def test_a_repetition_that_decides_the_shape_stays():
    d = Draft()
    x, row = d.input((1, 5)), d.input((1, 5))
    y = d("ADD", x, d("BROADCAST_TO", row, d.constant([4, 5], np.int32), shape=(4, 5)), shape=(4, 5))
    assert names(check(d.graph(y), tidy)) == ["BROADCAST_TO", "ADD"]


@pytest.mark.parametrize(("pairs", "kept"), [([[0, 1], [0, 1]], []), ([[1, 1], [1, 1]], ["PAD"])])
def test_padding_that_is_the_windows_own_falls_away(pairs, kept):
    d = Draft()
    padded = d("PAD", d.input((1, 8, 8, 3)), d.constant([[0, 0], *pairs, [0, 0]], np.int32),
               shape=(1, 8 + sum(pairs[0]), 8 + sum(pairs[1]), 3))  # fmt: skip
    weights = d.constant(floats(4, 3, 3, 3))
    y = d(
        "CONV_2D", padded, weights, d.constant(floats(4)), padding="VALID", stride_h=2, stride_w=2, shape=(1, 4, 4, 4)
    )
    assert names(check(d.graph(y), tidy)) == [*kept, "CONV_2D"]


def test_a_mean_that_leaves_padding_out_is_a_pooling_with_the_same_padding():
    d = Draft()
    padded = d("PAD", d.input((1, 4, 4, 2)), d.constant([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32), shape=(1, 6, 6, 2))
    pooled = d("AVERAGE_POOL_2D", padded, filter_height=3, filter_width=3, shape=(1, 4, 4, 2))
    along = np.float32([2, 3, 3, 2])
    share = 9 / np.multiply.outer(along, along)[None, :, :, None]
    y = d("MUL", pooled, d.constant(share), shape=(1, 4, 4, 2))
    assert names(check(d.graph(y), tidy)) == ["AVERAGE_POOL_2D"]


def test_equal_nodes_are_one():
    d = Draft()
    x = d.input((2, 3))
    y = d("ADD", d("TANH", x, shape=(2, 3)), d("TANH", x, shape=(2, 3)), shape=(2, 3))
    assert names(check(d.graph(y), tidy)) == ["TANH", "ADD"]


def test_a_choice_is_left_as_it_is():
    d = Draft()
    x = d.input((2, 3))
    above = d("GREATER", x, d.constant(0.0), shape=(2, 3), dtype=BOOL)
    y = d("SELECT_V2", above, x, d.constant(0.0), shape=(2, 3), dtype=x.type.dtype)
    assert names(check(d.graph(y), tidy)) == ["GREATER", "SELECT_V2"]


def test_constants_that_are_combined_keep_their_shape():
    d = Draft()
    y = d("ADD", d("ADD", d.input(()), d.constant(1.5), shape=()), d.constant(2.0), shape=())
    after = check(d.graph(y), tidy)
    (node,) = after.nodes
    assert [t.type.shape for t in node.inputs] == [(), ()]
    assert node.outputs[0].type.shape == ()
