"""The grid finds what is wrong: planted faults, and what counts as a difference."""

from __future__ import annotations

import numpy as np
import pytest

from lithe.ops import REGISTRY
from lithe.types import FLOAT32, INT8, TensorType
from tests.grid.cells import cells
from tests.grid.check import Finding, check
from tests.grid.compare import Difference, difference
from tests.grid.tally import tally
from tests.grid.work import MOST_LOSSES, Task
from tests.ops.cases import Case

CELL = next(c for c in cells({"MAXIMUM"}) if c.types == "int8")


def compared(got: list[float], expected: list[float], **how: float) -> Difference:
    t = TensorType(FLOAT32, (len(got),))
    case = Case("ABS", "test", (t,), (t,))
    pair = ([np.array(v, np.float32)] for v in (got, expected))
    return difference(case, *pair, 0, how.get("tolerance", 1e-5), bool(how.get("each")), how.get("floor", 0.0))


def test_real_numbers_differ_relative_to_the_greatest_or_to_each() -> None:
    assert compared([1e6, 1.001], [1e6, 1.0]).problem == ""
    assert "by 0.001" in compared([1e6, 1.001], [1e6, 1.0], each=1).problem
    assert compared([1e6, 1e-7], [1e6, 2e-7], each=1, floor=1.0).problem == ""


def test_what_is_not_finite_must_be_equal() -> None:
    assert compared([np.nan, np.inf], [np.nan, np.inf]).problem == ""
    assert compared([np.nan, 1], [0, 1]).problem
    assert compared([np.inf, 1], [-np.inf, 1]).problem
    assert compared([1, 1], [np.inf, 1]).problem


def test_integers_differ_in_steps() -> None:
    t = TensorType(INT8, (2,))
    case = Case("ABS", "test", (t,), (t,))
    got, expected = [np.array([127, 3], np.int8)], [np.array([-128, 3], np.int8)]
    assert difference(case, got, expected, 254, 0, False).problem
    assert difference(case, got, expected, 255, 0, False) == Difference(255)
    assert "shape [2] instead of [1]" in difference(case, got, [np.array([1], np.int8)], 0, 0, False).problem


def test_a_planted_fault_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ai_edge_litert.interpreter", reason="the official runtime is not installed")
    right = REGISTRY.by_name["MAXIMUM"].evaluate
    monkeypatch.setattr(
        REGISTRY.by_name["MAXIMUM"], "evaluate", staticmethod(lambda site, a, b: [right(site, a, b)[0] ^ np.int8(1)])
    )
    wanted = [(CELL, n) for n in range(3)]
    sums = tally(f.record() for f in check(wanted))[str(CELL)]
    assert len(sums.failed) == 3
    assert sums.closest.steps == 1
    for _, problems in sums.failed:
        assert {p.split(":")[0] for p in problems} >= {"optimized", "reference", "LLVM", "loops"}


def test_a_refusal_counts_only_when_the_official_runtime_refuses_too() -> None:
    assert Finding("ADD/int8", 1, refused={"reference": "no"}, raised="rule: no").problems == []
    assert Finding("ADD/int8", 1, raised="rule: no").problems == ["evaluate: rule: no"]
    assert Finding("ADD/int8", 1, {"reference": Difference()}, raised="rule: no").problems == ["evaluate: rule: no"]
    assert Finding("ADD/int8", 1, refused={"reference": "no"}, raised="KeyError: 3").problems == [
        "evaluate: KeyError: 3"
    ]


def test_a_kernel_set_that_ends_processes_is_left_out() -> None:
    task = Task([(CELL, n) for n in range(9)])
    for n in range(MOST_LOSSES):
        task.lose(f"{CELL}#{n}", "reference", "ends the process (-8)")
    assert {name for name, stage in task.skipped if stage == "reference"} == {f"{CELL}#{n}" for n in range(9)}
