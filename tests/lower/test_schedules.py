"""Every operator with this machine's schedules, vectors and instructions, as machine code, against its meaning."""

from __future__ import annotations

import numpy as np
import pytest

from tests.llvm_backend import host_target, run_case, smaller_targets
from tests.ops.cases import Case, every_case
from tests.ops.test_matrix import agree, evaluated

CASES = every_case(lambda case: case.operator.lower is not None and case.operator.lowers(case.site()))
CONTRACTIONS = [c for c in CASES if "CONV" in c.op.upper() or c.op in ("FULLY_CONNECTED", "BATCH_MATMUL")]


def check(case: Case, got: list[np.ndarray]) -> None:
    shaped = [np.asarray(g).reshape(t.shape) for g, t in zip(got, case.outputs, strict=True)]
    problem = agree(case, shaped, evaluated(case), 0, max(case.tolerance, 2e-6))
    assert not problem, problem


@pytest.mark.parametrize("case", CASES, ids=str)
def test_machine_code_agrees_with_meaning(case: Case) -> None:
    check(case, run_case(case, host_target()))


@pytest.mark.parametrize("name", [n for n in smaller_targets() if n != "host"])
@pytest.mark.parametrize("case", CONTRACTIONS, ids=str)
def test_contractions_agree_on_smaller_targets(case: Case, name: str) -> None:
    check(case, run_case(case, smaller_targets()[name]))
