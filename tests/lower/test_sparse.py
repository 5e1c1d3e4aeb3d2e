"""Layers most of whose weights are zero: when they are taken as lists, and that the result is the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lithe.ir.loops import Store, statements
from lithe.ir.verify import verify_program
from lithe.lower import lower
from lithe.lower.sparse import MOST_GROUPS, groups, lists
from tests.llvm_backend import graph_of, host_target, run_case, smaller_targets
from tests.lower.test_schedules import check
from tests.ops.cases import Case
from tests.ops.cases_convolution import convolution


def layer(rows: int, depth: int, outputs: int, density: float, **attrs: object) -> Case:
    case = convolution(
        f"{rows} x {depth} x {outputs}, {density}", "float", (1, rows, 1, depth), (outputs, 1, 1, depth),
        (1, rows, 1, outputs), **attrs,
    )  # fmt: skip
    draw = np.random.default_rng(depth)
    weights = np.where(draw.random((outputs, 1, 1, depth)) < density, case.constants[1], 0)
    weights[0] = 0  # an output without weights
    return replace(case, constants={**case.constants, 1: weights})


CASES = [
    layer(64, 128, 160, 0.1),
    layer(85, 96, 100, 0.2, fused_activation_function="RELU6"),
    layer(196, 120, 97, 0.05, with_bias=False),
    layer(196, 120, 64, 0.05),
    layer(17, 600, 90, 0.1),
    layer(30, 64, 64, 0.0),
]


def is_sparse(case: Case) -> bool:
    (step,) = lower(graph_of(case), host_target()).steps
    return "columns" in {s.buffer.name for s in statements(step.kernel.body) if isinstance(s, Store)}


@pytest.mark.parametrize("name", smaller_targets())
@pytest.mark.parametrize("case", CASES, ids=str)
def test_machine_code_agrees_with_meaning(case: Case, name: str) -> None:
    check(case, run_case(case, smaller_targets()[name]))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_programs_keep_the_rules_of_the_language(case: Case) -> None:
    verify_program(lower(graph_of(case), host_target()))


@pytest.mark.skipif(not host_target().fma, reason="without fused additions no layer is taken so")
def test_a_layer_is_sparse_when_that_pays() -> None:
    assert all(is_sparse(case) for case in CASES)
    assert not is_sparse(layer(64, 128, 160, 0.8))
    assert not is_sparse(layer(8, 128, 160, 0.1))
    assert not is_sparse(layer(64, 8, 160, 0.1))


@pytest.mark.parametrize("shares", [1, 2])
@pytest.mark.parametrize("deep", [50, 16, 25])
def test_lists_hold_every_weight_once(deep: int, shares: int) -> None:
    draw = np.random.default_rng(0)
    weights = np.where(draw.random((38, 50)) < 0.3, draw.normal(size=(38, 50)), 0).astype(np.float32)
    found = lists(weights, 4, deep, shares)
    assert len(found) <= MOST_GROUPS
    sums = np.zeros((shares, 38 // shares + 1, 50), np.float32)
    for group in found:
        for share, part, bunch, o in np.ndindex(group.channels.shape):
            at = group.at[share, part, bunch, :, o]
            row = sums[share, group.channels[share, part, bunch, o]]
            np.add.at(row, at, group.value[share, part, bunch, :, o])
            assert at.max(initial=0) < min(50, (part + 1) * deep)
    assert np.array_equal(sums[:, :-1].reshape(38, 50), weights)
    assert not sums[:, -1].any()


def test_groups_fill_up_as_little_as_can_be() -> None:
    assert groups(np.array([7]), np.array([3])) == [7]
    assert groups(np.array([1, 10, 11, 12, 20, 30]), np.array([5, 5, 5, 5, 3, 5])) == [1, 12, 20, 30]
