"""Products of computed matrices: every tail, type and way to lie in memory, against `evaluate`."""

from __future__ import annotations

import numpy as np
import pytest

from lithe.ir.loops import Store, statements
from lithe.ir.verify import verify_program
from lithe.lower import lower
from lithe.types import FLOAT16, INT8, Shape, TensorType
from tests.llvm_backend import graph_of, host_target, run_case, smaller_targets
from tests.lower.test_schedules import check
from tests.ops.cases import Case, f32, i8, tensor
from tests.ops.cases_fully_connected import connected

KINDS = {
    "float": lambda shape: f32(*shape),
    "float16": lambda shape: TensorType(FLOAT16, shape),
    "int8": lambda shape: i8(*shape, zero_point=-5),
    "hybrid": lambda shape: tensor(INT8, *shape, scale=0.02),
}


def multiplied(kind: str, x: Shape, y: Shape, out: Shape, constant: bool = False, **attrs: object) -> Case:
    dtype = {"float16": FLOAT16, "int8": INT8}.get(kind)
    left = f32(*x) if kind == "hybrid" else KINDS[kind](x)
    right, z = KINDS[kind](y), f32(*out) if dtype is None else TensorType(dtype, out)
    z = i8(*out, scale=0.4, zero_point=7) if kind == "int8" else z
    constants = {1: np.random.default_rng(1).integers(-128, 128, y)} if constant else {}
    return Case("BATCH_MATMUL", f"{kind} {x} {y} {constant} {attrs}", (left, right), (z,), dict(attrs), constants,
                tolerance=1e-3 if kind == "float16" else 1e-5)  # fmt: skip


def rows(kind: str) -> list[Case]:
    return [
        multiplied(kind, (5, 7), (7, 45), (5, 45)),
        multiplied(kind, (2, 3, 19, 33), (2, 3, 20, 33), (2, 3, 19, 20), adj_y=True),
        multiplied(kind, (3, 64, 17), (64, 31), (3, 17, 31), adj_x=True),
        multiplied(kind, (1, 4, 5, 6), (7, 1, 6, 16), (7, 4, 5, 16)),
        multiplied(kind, (2, 1, 96), (2, 96, 50), (2, 1, 50)),
        multiplied(kind, (1, 1), (1, 3), (1, 3)),
    ]


CASES = [
    *(case for kind in KINDS for case in rows(kind)),
    multiplied("int8", (2, 9, 13), (13, 37), (2, 9, 37), constant=True),
    multiplied("hybrid", (2, 9, 14), (37, 14), (2, 9, 37), constant=True, adj_y=True),
    *(connected("computed", kind, (3, 18), (35, 18), (3, 35), constant=False) for kind in ("float", "int8", "dynamic")),
]


@pytest.mark.parametrize("name", smaller_targets())
@pytest.mark.parametrize("case", CASES, ids=str)
def test_machine_code_agrees_with_meaning(case: Case, name: str) -> None:
    check(case, run_case(case, smaller_targets()[name]))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_programs_keep_the_rules_of_the_language(case: Case) -> None:
    verify_program(lower(graph_of(case), host_target()))


def scratch(case: Case) -> set[str]:
    """The names of the memory that the row's program writes."""
    (step,) = lower(graph_of(case), host_target()).steps
    return {s.buffer.name for s in statements(step.kernel.body) if isinstance(s, Store)}


def test_floats_that_lie_well_are_not_copied() -> None:
    assert not scratch(multiplied("float", (5, 7), (7, 45), (5, 45))) & {"left", "right"}
    assert "right" in scratch(multiplied("float", (5, 7), (45, 7), (5, 45), adj_y=True))


def test_constant_weights_are_packed_when_the_program_is_made() -> None:
    assert "right" not in scratch(multiplied("int8", (9, 13), (13, 37), (9, 37), constant=True))
