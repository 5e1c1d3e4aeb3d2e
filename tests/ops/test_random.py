"""Random numbers from run to run: in step with the official runtime, and begun again when asked to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lithe.errors import ExecutionError
from lithe.lite import Interpreter
from lithe.ops import RuleViolation
from lithe.ops.philox import Stream, normal, uniform
from tests.ops.cases import Case, f32, i32
from tests.ops.cases_random import SEEDS, choices, row
from tests.ops.official import model_bytes

STREAMS = [row("RANDOM_UNIFORM", "x", 5, 7), row("RANDOM_STANDARD_NORMAL", "x", 5, 7), choices("x", "int64", 3, 5, 7)]


def runs(interpreter: Any, case: Case, count: int) -> list[np.ndarray]:
    interpreter.allocate_tensors()
    results = []
    for _ in range(count):
        for detail, array in zip(interpreter.get_input_details(), _inputs(case), strict=True):
            interpreter.set_tensor(detail["index"], array)
        interpreter.invoke()
        results.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).copy())
    return results


def _inputs(case: Case) -> list[np.ndarray]:
    return [a for i, a in enumerate(case.arrays()) if a is not None and i not in case.constants]


@pytest.mark.parametrize("case", STREAMS, ids=str)
def test_runs_go_on_as_those_of_the_official_runtime(case: Case) -> None:
    official = pytest.importorskip("ai_edge_litert.interpreter", reason="the official runtime is not installed")
    content = model_bytes(case)
    expected = runs(official.Interpreter(model_content=content), case, 4)
    got = runs(Interpreter(model_content=content), case, 4)
    assert not np.array_equal(got[0], got[1])
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=5e-7 if case.op == "RANDOM_STANDARD_NORMAL" else 0)


def test_without_seeds_every_stream_is_another() -> None:
    case = row("RANDOM_UNIFORM", "x", 8, seed=1 << 32, seed2=0)
    first, second = (runs(Interpreter(model_content=model_bytes(case)), case, 1)[0] for _ in range(2))
    assert not np.array_equal(first, second)


def test_reset_begins_again() -> None:
    case = STREAMS[0]
    interpreter = Interpreter(model_content=model_bytes(case))
    first = runs(interpreter, case, 2)[0]
    interpreter.reset_all_variables()
    np.testing.assert_array_equal(runs(interpreter, case, 1)[0], first)


def test_blocks_carry_into_the_upper_half_of_the_counter() -> None:
    whole = Stream(3, 5, (1 << 64) - 2)
    parts = [Stream(3, 5, (1 << 64) - 2 + i).blocks(1)[0] for i in range(4)]
    np.testing.assert_array_equal(whole.blocks(4), parts)
    np.testing.assert_array_equal(parts[2], Stream(3, 6).blocks(1)[0])


def test_large_tensors_are_made_in_parts() -> None:
    case = row("RANDOM_UNIFORM", "x", 70_001)
    (got,) = case.operator.evaluate(case.site(), *case.arrays())
    np.testing.assert_array_equal(got, uniform(Stream(7, -3).blocks(17_501)).reshape(-1)[:70_001])


def test_known_answers() -> None:
    """Of the authors' Random123 library: Philox 4x32-10 for counter and key 0, and for all bits set."""
    first = Stream(0, 0).blocks(1)[0]
    assert [f"{w:08x}" for w in first] == ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]
    last = Stream(-1, -1, (1 << 64) - 1).blocks(1)[0]
    assert [f"{w:08x}" for w in last] == ["408f276d", "41c83b0e", "a20bc7c6", "6d5451fd"]


def test_distributions() -> None:
    words = Stream(1, 2).blocks(50_000)
    for values, mean, deviation in ((uniform(words), 0.5, 12**-0.5), (normal(words), 0.0, 1.0)):
        assert values.mean(dtype=np.float64) == pytest.approx(mean, abs=0.01)
        assert values.std(dtype=np.float64) == pytest.approx(deviation, abs=0.01)


def evaluate(case: Case, **changes: Any) -> None:
    case.operator.evaluate(replace(case.site(), **changes), *case.arrays())


def test_refusals_of_data() -> None:
    def given(shape: list[int]) -> Case:
        return Case("RANDOM_UNIFORM", "bad", (i32(len(shape)),), (f32(),), SEEDS, values={0: np.array(shape)})

    with pytest.raises(ExecutionError, match="shape must not be negative"):
        evaluate(given([2, -1]))
    with pytest.raises(ExecutionError, match="more than the"):
        evaluate(given([1 << 20, 1 << 20]))
    samples = Case("MULTINOMIAL", "bad", (f32(1, 2), i32()), (i32(1, 0),), SEEDS, values={1: np.array(-1)})
    with pytest.raises(ExecutionError, match="num_samples must not be negative"):
        evaluate(samples)
    many = Case("MULTINOMIAL", "bad", (f32(2, 2), i32()), (i32(2, 0),), SEEDS, values={1: np.array(1 << 24)})
    with pytest.raises(ExecutionError, match="more than the"):
        evaluate(many)
    with pytest.raises(RuleViolation, match="nothing keeps here"):
        evaluate(STREAMS[0], memory=None)


@pytest.mark.parametrize(
    ("words", "case"),
    [
        ("must not be negative", Case("RANDOM_UNIFORM", "", (i32(1),), (f32(),), constants={0: np.array([-2])})),
        ("rank must be", Case("RANDOM_UNIFORM", "", (i32(1, 1),), (f32(),))),
        ("must have a class", Case("MULTINOMIAL", "", (f32(2, 0), i32()), (i32(2, 1),))),
        ("rank must be", Case("MULTINOMIAL", "", (f32(2), i32()), (i32(2, 1),))),
        ("must not be negative", Case("MULTINOMIAL", "", (f32(2, 3), i32()), (i32(2, 1),), constants={1: -1})),
    ],
)
def test_rules(words: str, case: Case) -> None:
    with pytest.raises(RuleViolation, match=words):
        case.operator.infer(case.site())
