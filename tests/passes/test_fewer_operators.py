"""Rules that say the same in fewer operators: reshapes moved behind, and formulas of several nodes."""

from __future__ import annotations

import numpy as np
import pytest

from lithe.passes.tidy import tidy
from lithe.types import BOOL
from tests.passes.check import check as check_exactly
from tests.passes.graphs import Draft

ROUNDING = 3e-6
RANDOM = np.random.default_rng(6)


def check(graph):
    return [n.op.name for n in check_exactly(graph, tidy, ROUNDING).nodes]


def floats(*shape):
    return RANDOM.standard_normal(shape).astype(np.float32)


def reshape(d, x, *shape):
    return d("RESHAPE", x, d.constant(shape, np.int32), shape=shape, new_shape=())


def transpose(d, x, *order):
    shape = tuple(x.type.shape[a] for a in order)
    return d("TRANSPOSE", x, d.constant(order, np.int32), shape=shape)


def dense(d, x, units, **attrs):
    weights, bias = d.constant(floats(units, x.type.shape[-1])), d.constant(floats(units))
    return d("FULLY_CONNECTED", x, weights, bias, shape=(*x.type.shape[:-1], units), **attrs)


def sequence_layer(d, x):
    """A convolution along a sequence, as frameworks write it: its result is [1, 7, 4]."""
    weights, bias = d.constant(floats(4, 1, 3, x.type.shape[-1])), d.constant(floats(4))
    y = d("CONV_2D", reshape(d, x, 1, 1, 9, x.type.shape[-1]), weights, bias, shape=(1, 1, 7, 4), padding="VALID")
    return reshape(d, y, 1, 7, 4)


def test_what_follows_a_convolution_along_a_sequence_becomes_part_of_it():
    d = Draft()
    y = d("MUL", sequence_layer(d, d.input((1, 9, 3))), d.constant(floats(1, 1, 4)), shape=(1, 7, 4))
    y = d("RELU", d("ADD", y, d.constant(floats(4)), shape=(1, 7, 4)), shape=(1, 7, 4))
    assert check(d.graph(y)) == ["RESHAPE", "CONV_2D", "RESHAPE"]


def test_a_bias_for_heads_becomes_the_one_of_the_product():
    d = Draft()
    y = reshape(d, dense(d, d.input((5, 6)), 8), 5, 2, 4)
    assert check(d.graph(d("ADD", y, d.constant(floats(2, 4)), shape=(5, 2, 4)))) == ["FULLY_CONNECTED", "RESHAPE"]


def test_a_reshape_that_somebody_else_reads_stays_before():
    d = Draft()
    y = reshape(d, d.input((2, 6)), 3, 4)
    graph = d.graph(d("TANH", y, shape=(3, 4)), d("LOGISTIC", y, shape=(3, 4)))
    assert check(graph) == ["RESHAPE", "TANH", "LOGISTIC"]


def test_a_constant_that_differs_along_a_leading_axis_keeps_the_reshape_before_it():
    d = Draft()
    y = reshape(d, d.input((2, 6)), 3, 4)
    assert check(d.graph(d("ADD", y, d.constant(floats(3, 1)), shape=(3, 4)))) == ["RESHAPE", "ADD"]


def test_softmax_stays_on_its_axis():
    d = Draft()
    along = d("SOFTMAX", reshape(d, d.input((2, 3, 4)), 6, 4), shape=(6, 4), beta=1.0)
    across = d("SOFTMAX", reshape(d, d.input((2, 6)), 3, 4), shape=(3, 4), beta=1.0)
    assert check(d.graph(along, across)) == ["SOFTMAX", "RESHAPE", "RESHAPE", "SOFTMAX"]


@pytest.mark.parametrize(
    ("shape", "kept"), [((2, 3, 5), ["FULLY_CONNECTED"]), ((3, 2, 5), ["RESHAPE", "FULLY_CONNECTED"])]
)
def test_a_product_keeps_its_rows(shape, kept):
    d = Draft()
    y = dense(d, reshape(d, d.input((2, 3, 4)), 6, 4), 5)
    assert check(d.graph(reshape(d, y, *shape))) == kept


def test_axes_of_one_element_do_not_hinder_a_transpose():
    d = Draft()
    y = transpose(d, reshape(d, d.input((2, 12)), 2, 3, 1, 4), 1, 0, 2, 3)
    assert check(d.graph(reshape(d, y, 1, 3, 2, 4))) == ["RESHAPE", "TRANSPOSE"]
    d = Draft()
    y = transpose(d, reshape(d, d.input((1, 3, 4)), 1, 3, 1, 4), 0, 3, 2, 1)
    assert check(d.graph(reshape(d, y, 2, 6))) == ["TRANSPOSE", "RESHAPE"]


def test_a_part_without_an_axis_is_one_operator():
    d = Draft()
    x = d.input((2, 5, 6))
    part = d("SLICE", x, d.constant([0, 3, 1], np.int32), d.constant([-1, 1, 4], np.int32), shape=(2, 1, 4))
    assert check(d.graph(reshape(d, part, 2, 4))) == ["STRIDED_SLICE"]


def test_what_is_added_before_a_product_goes_into_its_bias():
    d = Draft()
    y = d("ADD", d("RELU", d.input((3, 4)), shape=(3, 4)), d.constant(floats(4)), shape=(3, 4))
    assert check(d.graph(dense(d, y, 2))) == ["RELU", "FULLY_CONNECTED"]


@pytest.mark.parametrize(("padding", "kept"), [("VALID", ["CONV_2D"]), ("SAME", ["ADD", "CONV_2D"])])
def test_what_is_added_before_a_window_stays_where_zeros_are_padded(padding, kept):
    d = Draft()
    y = d("ADD", d.input((1, 5, 5, 3)), d.constant(floats(3)), shape=(1, 5, 5, 3))
    shape = (1, 3, 3, 4) if padding == "VALID" else (1, 5, 5, 4)
    weights, bias = d.constant(floats(4, 3, 3, 3)), d.constant(floats(4))
    assert check(d.graph(d("CONV_2D", y, weights, bias, shape=shape, padding=padding))) == kept


def test_a_choice_that_is_known_falls_away():
    d = Draft()
    always = d.tensor((), BOOL, np.array(True))
    y = d("SELECT_V2", always, d.input((2, 3)), d.constant(np.nan), shape=(2, 3), dtype=d.inputs[0].type.dtype)
    assert check(d.graph(d("TANH", y, shape=(2, 3)))) == ["TANH"]


def test_differences_and_negative_products():
    d = Draft()
    x, mean = d.input((2, 3)), d.input((2, 1))
    square = d("SQUARE", d("SUB", x, mean, shape=(2, 3)), shape=(2, 3))
    product = d("MUL", d("NEG", mean, shape=(2, 1)), x, shape=(2, 3))
    shifted = d("ADD", product, d.constant(floats(3)), shape=(2, 3))
    assert check(d.graph(square, shifted)) == ["SQUARED_DIFFERENCE", "MUL", "SUB"]


def test_a_slope_for_what_is_negative_is_prelu():
    d = Draft()
    x = d.input((1, 2, 2, 3))
    negative = d("RELU", d("NEG", x, shape=(1, 2, 2, 3)), shape=(1, 2, 2, 3))
    scaled = d("MUL", d.constant(floats(1, 1, 1, 3)), negative, shape=(1, 2, 2, 3))
    y = d("ADD", d("RELU", x, shape=(1, 2, 2, 3)), scaled, shape=(1, 2, 2, 3))
    assert check(d.graph(y)) == ["PRELU"]
