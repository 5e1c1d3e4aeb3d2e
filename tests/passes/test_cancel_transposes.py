"""Transpositions around normalizations."""

from __future__ import annotations

import numpy as np
import pytest

from lithe.ir.graph import Tensor
from lithe.passes.cancel_transposes import cancel_transposes
from lithe.types import BOOL
from tests.passes.check import check
from tests.passes.graphs import Draft


def turned(d: Draft, x: Tensor, *order: int) -> Tensor:
    shape = tuple(x.type.shape[a] for a in order)
    return d("TRANSPOSE", x, d.constant(order, np.int32), shape=shape)


def names(graph) -> list[str]:
    return [n.op.name for n in graph.nodes if n.op.name != "RESHAPE"]


@pytest.mark.parametrize("keep_dims", [False, True])
def test_a_normalization_is_done_where_its_input_lies(keep_dims):
    d = Draft()
    x = turned(d, d.input((1, 4, 8, 1)), 0, 2, 3, 1)
    shape = (1, 1, 1, 4) if keep_dims else (4,)
    mean = d("MEAN", x, d.constant([0, 1, 2], np.int32), shape=shape, keep_dims=keep_dims)
    centred = d("SUB", x, mean, shape=(1, 8, 1, 4))
    scaled = d("MUL", centred, d.constant([1, 2, 3, 4]), shape=(1, 8, 1, 4))
    y = turned(d, d("ADD", scaled, d.constant(0.5), shape=(1, 8, 1, 4)), 0, 3, 1, 2)
    changed = check(d.graph(y), cancel_transposes)
    assert names(changed) == ["MEAN", "SUB", "MUL", "ADD"]


def test_two_transposed_inputs_meet():
    d = Draft()
    first, second = (turned(d, d.input((2, 3)), 1, 0) for _ in range(2))
    y = turned(d, d("MUL", first, d("NEG", second, shape=(3, 2)), shape=(3, 2)), 1, 0)
    assert names(check(d.graph(y), cancel_transposes)) == ["NEG", "MUL"]


def kept(d: Draft, x: Tensor) -> Tensor:
    """A graph output in the new order."""
    return d("NEG", turned(d, x, 1, 0), shape=(3, 2))


def read_whole(d: Draft, x: Tensor) -> Tensor:
    """An operator that needs the new order."""
    return turned(d, d("SOFTMAX", turned(d, x, 1, 0), shape=(3, 2), beta=1.0), 1, 0)


def not_undone(d: Draft, x: Tensor) -> Tensor:
    return d("SUM", d("NEG", turned(d, x, 1, 0), shape=(3, 2)), d.constant([0], np.int32), shape=(2,))


def two_orders_left(d: Draft, x: Tensor) -> Tensor:
    """A reduction that leaves two axes, which come in another order."""
    y = turned(d, d("EXPAND_DIMS", x, d.constant(0, np.int32), shape=(1, 2, 3)), 0, 2, 1)
    total = d("SUM", y, d.constant([0], np.int32), shape=(3, 2))
    return d(
        "ADD", total, d("RESHAPE", turned(d, y, 0, 2, 1), d.constant([3, 2], np.int32), shape=(3, 2)), shape=(3, 2)
    )


def another_operand(d: Draft, x: Tensor) -> Tensor:
    """An operand that is not transposed."""
    return turned(d, d("ADD", turned(d, x, 1, 0), d.input((3, 2)), shape=(3, 2)), 1, 0)


def a_row_of_conditions(d: Draft, x: Tensor) -> Tensor:
    """SELECT takes one condition for each row, which is no broadcast."""
    y, condition = turned(d, x, 1, 0), d.input((3,), BOOL)
    return turned(d, d("SELECT", condition, y, d("NEG", y, shape=(3, 2)), shape=(3, 2), dtype=x.type.dtype), 1, 0)


@pytest.mark.parametrize("build", [kept, read_whole, not_undone, two_orders_left, another_operand, a_row_of_conditions])
def test_what_needs_the_new_order_keeps_its_transposition(build):
    d = Draft()
    graph = d.graph(build(d, d.input((2, 3))))
    before = names(graph)
    assert names(check(graph, cancel_transposes)) == before
