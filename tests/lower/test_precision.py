"""Products of floats with factors of less precision, asked for by name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lithe.ir import interpret
from lithe.ir.loops import Intrinsic, expressions, nodes, statements
from lithe.ir.program import Program
from lithe.lower import lower
from lithe.targets.cpu import VDPBF16PS, Target, x86
from lithe.targets.host import host
from tests.llvm_backend import graph_of, run
from tests.ops.cases import Case, every_case

FACTOR = 2.0**-8  # of a factor rounded to bfloat16, relative
WIDE = frozenset({"avx512f", "avx512bw", "avx512vl", "avx512dq"})
FAST = x86(WIDE | {"avx512bf16"}, precision="fast")
CASES = every_case(
    lambda case: (
        case.op in ("CONV_2D", "FULLY_CONNECTED")
        and [t.dtype.name for t in case.inputs[:2] if t is not None] == ["float32", "float32"]
        and 1 in case.constants
        and all(np.isfinite(a).all() and np.abs(a).max(initial=0) < 1e6 for a in case.arrays() if a is not None)
    )
)


def instructions(program: Program) -> set[str]:
    found = (x for step in program.steps for s in statements(step.kernel.body) for x in nodes(expressions(s)))
    return {x.instruction.name for x in found if isinstance(x, Intrinsic)}


def outputs(case: Case, target: Target, machine: bool) -> list[np.ndarray]:
    program = lower(graph_of(case), target)
    given = [np.asarray(a).reshape(t.shape) for i, (a, t) in enumerate(zip(case.arrays(), case.inputs, strict=True))
             if a is not None and t is not None and i not in case.constants]  # fmt: skip
    return run(program, given, target.features) if machine else interpret.run(program, given)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_products_of_rounded_factors_are_as_close_as_their_factors(case: Case) -> None:
    (want,) = case.operator.evaluate(case.site(), *case.arrays())
    sizes = [None if a is None else np.abs(a) for a in case.arrays()]
    bare = replace(case, attrs={**case.attrs, "fused_activation_function": "NONE"})
    (most,) = bare.operator.evaluate(bare.site(), *sizes)
    (got,) = outputs(case, FAST, machine=False)
    assert (np.abs(got.reshape(want.shape) - want) <= 2.1 * FACTOR * most + 1e-6).all()
    if "avx512bf16" in host().features:
        (real,) = outputs(case, x86(host().features, host().triple, precision="fast"), machine=True)
        np.testing.assert_allclose(real.reshape(want.shape), got.reshape(want.shape), 1e-5, 1e-5)


def test_there_are_cases_of_every_form() -> None:
    assert {case.op for case in CASES} == {"CONV_2D", "FULLY_CONNECTED"}
    used = [case.op for case in CASES if VDPBF16PS.instruction.name in instructions(lower(graph_of(case), FAST))]
    assert set(used) == {"CONV_2D", "FULLY_CONNECTED"}
    assert len(used) > len(CASES) / 2


def test_floats_stay_floats_where_nobody_asked_or_no_instruction_is() -> None:
    slow = x86(WIDE | {"avx512bf16"}, precision="fast", vendor="GenuineIntel")
    for target in (x86(WIDE | {"avx512bf16"}), x86(WIDE, precision="fast"), slow):
        assert instructions(lower(graph_of(CASES[0]), target)) <= {"fma"}
