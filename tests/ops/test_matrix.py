"""Every operator in every type: its meaning against the official runtime, its loops against its meaning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lithe.ir import interpret
from lithe.ir.verify import verify_program
from lithe.ops import REGISTRY
from lithe.types import TensorType
from tests import c_backend
from tests.ops.backends import given, program_of, shared_out
from tests.ops.cases import Case, every_case
from tests.ops.official import official_outputs, official_tolerance

CASES = every_case()


# Operators that are nothing without the model around them are tested in whole models, by this file.
IN_MODELS = {
    "IF", "WHILE", "CALL_ONCE", "STABLEHLO_CASE", "STABLEHLO_WHILE", "STABLEHLO_COMPOSITE",
    "VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE",
}  # fmt: skip
MODELS = Path(__file__).parents[1] / "runtime" / "test_control.py"


def test_every_operator_has_a_case() -> None:
    tested = {case.op for case in CASES}
    assert set(REGISTRY.by_name) - tested == IN_MODELS
    text = MODELS.read_text()
    assert {name for name in IN_MODELS if f'"{name}"' not in text} == set()


def test_every_declared_first_input_type_has_a_case() -> None:
    tested = {(c.op, next(t.dtype.name for t in c.inputs if t is not None)) for c in CASES if any(c.inputs)}
    declared = {
        (op.name, word[0].rstrip("?*q"))
        for op in REGISTRY.by_name.values()
        for signature in op.signatures
        for word, _ in signature.expanded()
        if word
    }
    assert sorted(declared - tested) == []


def test_operators_say_what_they_change() -> None:
    wrong = [str(c) for c in CASES if set(c.variables) != set(c.operator.changes(c.operator.Attrs(**c.attrs)))]
    assert wrong == []


def test_names_are_unique() -> None:
    names = [str(c) for c in CASES]
    assert sorted({n for n in names if names.count(n) > 1}) == []


def evaluated(case: Case) -> list[np.ndarray]:
    site = case.site()
    shapes = case.operator.infer(site)
    assert len(shapes) == len(case.outputs)
    for shape, declared in zip(shapes, case.outputs, strict=True):
        assert shape is None or len(shape) == declared.rank
        for size, expected in zip(shape or (), declared.shape, strict=False):
            assert size is None or size == expected
    results = case.operator.evaluate(site, *case.arrays())
    assert len(results) == len(case.outputs)
    for result, t in zip(results, case.outputs, strict=True):
        assert isinstance(result, np.ndarray)
        assert result.dtype == t.dtype.numpy
        assert result.shape == t.shape
    return results


def distance(t: TensorType, got: np.ndarray, expected: np.ndarray, tolerance: float) -> tuple[float, bool]:
    """(largest difference: stored steps, or a fraction of the largest magnitude; whether infinities and NaN agree)."""
    if got.shape != expected.shape:
        return float("inf"), False
    if got.dtype == np.object_:
        return 0.0, bool((got == expected).all())
    if t.dtype.kind == "complex":
        pairs = (got.view(got.real.dtype), expected.view(expected.real.dtype))
    else:
        pairs = (got, expected)
    a, b = (np.asarray(p, np.float64 if t.dtype.kind in ("float", "complex") else object) for p in pairs)
    if a.size == 0:
        return 0.0, True
    if t.dtype.kind not in ("float", "complex"):
        return float(max(abs(int(x) - int(y)) for x, y in zip(a.reshape(-1), b.reshape(-1), strict=True))), True
    finite = np.isfinite(b)
    special = bool(np.array_equal(a[~finite], b[~finite], equal_nan=True))
    if not finite.any():
        return 0.0, special
    with np.errstate(invalid="ignore"):
        difference = np.abs(a[finite] - b[finite])
    largest = max(float(np.abs(b[finite]).max()), 1e-30)
    worst = float(difference.max() / largest)
    return (float("inf") if np.isnan(worst) else worst), special


def _sample(got: np.ndarray, expected: np.ndarray) -> str:
    """The first places that differ."""
    if got.shape != expected.shape:
        return f"; shapes {got.shape} and {expected.shape}"
    places = np.argwhere(got != expected)[:6]
    return "".join(f"\n  {p.tolist()}: {got[tuple(p)]} instead of {expected[tuple(p)]}" for p in places)


def agree(case: Case, got: list[np.ndarray], expected: list[np.ndarray], steps: int, tolerance: float) -> str:
    """What differs, in words; empty when nothing does."""
    for i, (t, g, e) in enumerate(zip(case.outputs, got, expected, strict=True)):
        worst, special = distance(t, g, e, tolerance)
        allowed = tolerance if t.dtype.kind in ("float", "complex") else steps
        if worst > allowed or not special:
            return f"output {i}: difference {worst:.3g} > {allowed}; special values agree: {special}{_sample(g, e)}"
    return ""


@pytest.mark.parametrize("case", CASES, ids=str)
def test_meaning_against_official_runtime(case: Case) -> None:
    got = evaluated(case)
    if not case.official:
        assert case.reason, "a case that is not compared says why"
        return
    results = official_outputs(case)
    answers = {k: r for k, r in results.items() if not isinstance(r, str)}
    assert answers, f"the official runtime refuses: {results}"
    found = {k: agree(case, got, r, case.steps, official_tolerance(case)) for k, r in answers.items()}
    assert "" in found.values(), "\n".join(f"{k}: {v}" for k, v in found.items())


LOWERED = [case for case in CASES if case.operator.lower is not None and case.operator.lowers(case.site())]


def loops_differ(case: Case, got: list[np.ndarray]) -> str:
    """What differs between loops and meaning; integers must be equal."""
    return agree(case, got, evaluated(case), 0, max(case.tolerance, 2e-6))


@pytest.mark.parametrize("case", LOWERED, ids=str)
def test_loops_against_meaning(case: Case) -> None:
    program = program_of([case])
    verify_program(program)
    ((_, got),) = shared_out([case], interpret.run(program, given(case)))
    problem = loops_differ(case, got)
    assert not problem, problem


@pytest.mark.skipif(c_backend.compiler() is None, reason="no C compiler (cc, gcc or clang) is installed")
@pytest.mark.parametrize("op", sorted({case.op for case in LOWERED}))
def test_c_against_meaning(op: str) -> None:
    cases = [case for case in LOWERED if case.op == op]
    outputs = c_backend.run(program_of(cases), [x for case in cases for x in given(case)], ("-O0",))
    problems = {str(case): loops_differ(case, got) for case, got in shared_out(cases, outputs)}
    assert not any(problems.values()), "\n".join(f"{k}: {v}" for k, v in problems.items() if v)
