"""Operators with all of their independent loops shared out, however small: as many threads, the same bits."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module

import pytest

from lithe.ir.interpret import run as interpreted
from lithe.ir.loops import Barrier, statements
from lithe.ir.program import Program
from lithe.ir.verify import verify_program
from lithe.lower import lower, share_out
from lithe.targets.cpu import Target
from tests.llvm_backend import graph_of, host_target, run
from tests.lower.test_schedules import CASES, CONTRACTIONS, check
from tests.ops.cases import Case

EACH = 3  # rows of an operator; all of them take some minutes, and passed
SOME = [c for n, c in enumerate(CASES) if sum(c.op == other.op for other in CASES[:n]) < EACH]


@pytest.fixture(autouse=True)
def _everything_is_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LEAST_RUN", "LEAST", "MEETING", "AWAY"):
        monkeypatch.setattr(share_out, name, 0.0)
    monkeypatch.setattr(share_out, "LEAST_INSIDE", dict.fromkeys(share_out.LEAST_INSIDE, 0.0))


def lowered(case: Case, target: Target | None = None) -> Program:
    program = lower(graph_of(case), target or host_target(), case.model())
    verify_program(program)
    return program


@pytest.mark.parametrize("case", SOME, ids=str)
def test_results_do_not_depend_on_threads(case: Case) -> None:
    inputs = [a for i, a in enumerate(case.arrays()) if a is not None and i not in case.constants]
    check(case, run(lowered(case), inputs, host_target().features, threads=(1, 2, 3)))


@pytest.mark.parametrize("case", CONTRACTIONS[::4], ids=str)
def test_each_thread_has_its_own_scratch_memory(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("lithe.lower.lower"), "LARGEST_LOCAL", 256)
    program = lowered(case, replace(host_target(), tiles=None))  # a tile is a larger local, and no memory at all
    inputs = [a for i, a in enumerate(case.arrays()) if a is not None and i not in case.constants]
    check(case, run(program, inputs, host_target().features, threads=(1, 2, 5)))


def test_operators_are_shared_out_and_meet() -> None:
    kernels = [k for case in SOME for k in lowered(case).kernels()]
    assert sum(k.is_shared for k in kernels) > len(kernels) / 2
    assert sum(any(isinstance(s, Barrier) for s in statements(k.body)) for k in kernels) > 50


@pytest.mark.parametrize("case", [c for c in SOME if max(t.size for t in c.outputs) < 500][::5], ids=str)
def test_the_interpreter_agrees(case: Case) -> None:
    program = lowered(case)
    inputs = [a for i, a in enumerate(case.arrays()) if a is not None and i not in case.constants]
    shaped = [a.reshape(b.shape) for a, b in zip(inputs, program.inputs, strict=True)]
    check(case, interpreted(program, shaped))
