"""Products and sums with constants that go into the weights behind reshapes, transposes and products."""

from __future__ import annotations

import numpy as np
import pytest

from tests.passes.graphs import Draft
from tests.passes.test_fewer_operators import check, dense, floats, reshape, transpose


def heads(values, op):
    """Of a layer whose channels are taken apart: [1, 5, 2, 4]"""
    d = Draft()
    x = d.input((1, 5, 6))
    y = reshape(d, dense(d, x, 8, keep_num_dims=True), 1, 5, 2, 4)
    return d.graph(d(op, y, d.constant(values), shape=(1, 5, 2, 4)))


@pytest.mark.parametrize("op", ["MUL", "ADD"])
def test_a_number_for_each_channel_passes_a_reshape(op):
    assert check(heads(floats(1, 1, 2, 4), op)) == ["FULLY_CONNECTED", "RESHAPE"]


def test_a_number_for_each_place_stays():
    assert "MUL" in check(heads(floats(1, 5, 1, 1), "MUL"))


def test_the_scale_of_scores_goes_into_the_queries():
    d = Draft()
    x, keys = d.input((1, 5, 6)), d.input((1, 2, 4, 5))
    y = transpose(d, reshape(d, dense(d, x, 8, keep_num_dims=True), 1, 5, 2, 4), 0, 2, 1, 3)
    scores = d("BATCH_MATMUL", y, keys, shape=(1, 2, 5, 5), adj_x=False, adj_y=False)
    graph = d.graph(d("MUL", scores, d.constant(np.float32(0.5)), shape=(1, 2, 5, 5)))
    assert "MUL" not in check(graph)
