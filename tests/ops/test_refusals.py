"""What arithmetic operators refuse: in the rules, in evaluate, and in loops with the same words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lithe.errors import ExecutionError
from lithe.ir import interpret
from lithe.ops import RuleViolation
from lithe.types import BOOL, INT8, INT32, INT64, Quantization, TensorType
from tests.ops.backends import given, program_of
from tests.ops.cases import Case, f32, i8, i32, tensor, u8

DIVISION = "division by zero"


@pytest.mark.parametrize("op", ["DIV", "FLOOR_DIV", "FLOOR_MOD"])
@pytest.mark.parametrize("constant", [False, True])
def test_integer_division_by_zero(op: str, constant: bool) -> None:
    zero = {1: np.array([1, 0, 2])}
    case = Case(op, "zero", (i32(3), i32(3)), (i32(3),), **{"constants" if constant else "values": zero})
    refused(case, f"{op}: {DIVISION}")


def test_quantized_division_by_zero_is_one_by_the_zero_point() -> None:
    x = u8(3, zero_point=5)
    refused(Case("DIV", "zero", (x, x), (x,), values={1: np.array([4, 5, 6])}), f"DIV: {DIVISION}")


def test_negative_power_of_integers() -> None:
    case = Case("POW", "negative", (i32(2), i32(2)), (i32(2),), values={1: np.array([1, -1])})
    refused(case, "POW: a negative exponent")


def refused(case: Case, words: str) -> None:
    with pytest.raises(ExecutionError, match=words):
        case.operator.evaluate(case.site(), *case.arrays())
    with pytest.raises(ExecutionError, match=words):
        interpret.run(program_of([case]), given(case))


AXIS = {"constants": {1: np.array([5])}}
VIOLATIONS: list[tuple[str, str, tuple[TensorType, ...], tuple[TensorType, ...], dict[str, Any]]] = [
    ("do not broadcast", "ADD", (f32(2, 3), f32(4)), (f32(2, 3),), {}),
    ("do not broadcast", "SELECT_V2", (tensor(BOOL, 2), f32(3), f32(3)), (f32(3),), {}),
    ("must broadcast to the input's shape", "PRELU", (f32(3), f32(2, 3)), (f32(2, 3),), {}),
    ("must have the shape of x", "SELECT", (tensor(BOOL, 2), f32(2), f32(1)), (f32(2),), {}),
    ("or of its first axis", "SELECT", (tensor(BOOL, 3), f32(2, 3), f32(2, 3)), (f32(2, 3),), {}),
    (r"axis must be in \[-2, 2\)", "SUM", (f32(2, 3), i32(1)), (f32(2),), AXIS),
    (r"axis must be in \[-2, 2\)", "ARG_MAX", (f32(2, 3), i32(1)), (tensor(INT64, 2),), AXIS),
    ("4 axes are more than", "MEAN", (f32(2, 3), i32(4)), (f32(2),), {}),
    ("must have an axis", "ARG_MAX", (f32(), i32()), (tensor(INT64),), {}),
    ("must be one axis", "ARG_MIN", (f32(2, 3), i32(2)), (tensor(INT64, 2),), {"constants": {1: np.array([0, 1])}}),
    ("size 0 has no result", "REDUCE_MAX", (f32(2, 0), i32(1)), (f32(2),), {"constants": {1: np.array([1])}}),
    ("size 0 has no result", "MEAN", (f32(2, 0), i32(1)), (f32(2),), {"constants": {1: np.array([1])}}),
    ("size 0 has no result", "ARG_MAX", (f32(2, 0), i32()), (tensor(INT64, 2),), {"constants": {1: np.array(1)}}),
    ("must have a channel", "SOFTMAX", (f32(3, 0),), (f32(3, 0),), {}),
    ("beta must be", "SOFTMAX", (i8(3),), (i8(3),), {"attrs": {"beta": -1.0}}),
    ("rank must be at least 1", "SOFTMAX", (f32(),), (f32(),), {}),
    ("allows no fused activation", "L2_NORMALIZATION", (f32(2),), (f32(2),),
     {"attrs": {"fused_activation_function": "RELU"}}),
    ("must have a scale", "QUANTIZE", (f32(3),), (tensor(INT8, 3),), {}),
    ("2 scales for axis 0", "DEQUANTIZE",
     (TensorType(INT8, (3,), Quantization((0.1, 0.2), (0, 0))),), (f32(3),), {}),
    ("must have one scale", "QUANTIZE", (tensor(INT8, 3),), (i8(3),), {}),
    ("num_bits", "FAKE_QUANT", (f32(3),), (f32(3),), {"attrs": {"min": 0.0, "max": 1.0, "num_bits": 17}}),
    ("must be below max", "FAKE_QUANT", (f32(3),), (f32(3),), {"attrs": {"min": 1.0, "max": 1.0}}),
]  # fmt: skip


@pytest.mark.parametrize(("words", "op", "inputs", "outputs", "more"), VIOLATIONS)
def test_rules(words: str, op: str, inputs: tuple, outputs: tuple, more: dict[str, Any]) -> None:
    case = Case(op, "refused", inputs, outputs, **more)
    with pytest.raises(RuleViolation, match=words):
        case.operator.infer(case.site())


def test_empty_tensors() -> None:
    for case in (
        Case("ADD", "empty", (f32(0, 3), f32(3)), (f32(0, 3),)),
        Case("SOFTMAX", "empty", (f32(0, 3),), (f32(0, 3),)),
        Case("SUM", "empty", (f32(0, 3), i32(1)), (f32(3),), constants={1: np.array([0])}),
        Case("LOGISTIC", "empty", (i8(0, 3),), (i8(0, 3),)),
        Case("CAST", "empty", (f32(0),), (tensor(INT32, 0),)),
    ):
        assert case.operator.infer(case.site()) == [case.outputs[0].shape]
        expected = case.operator.evaluate(case.site(), *case.arrays())[0]
        np.testing.assert_array_equal(
            interpret.run(program_of([case]), given(case))[0].reshape(expected.shape), expected
        )


TINY, HUGE = 1e-45, 3e38


@pytest.mark.parametrize("scales", [(TINY, HUGE, 1.0), (HUGE, HUGE, TINY), (TINY, TINY, HUGE), (1.0, HUGE, TINY)])
@pytest.mark.parametrize("op", ["ADD", "SUB", "MUL", "SQUARED_DIFFERENCE", "PRELU", "MAXIMUM", "LESS"])
def test_any_scales_have_the_same_result_in_loops(op: str, scales: tuple[float, float, float]) -> None:
    a, b, y = (i8(9, scale=s) for s in scales)
    same(Case(op, str(scales), (a, b), (tensor(BOOL, 9) if op == "LESS" else y,)))


@pytest.mark.parametrize("scales", [(TINY, HUGE), (HUGE, TINY), (HUGE, HUGE), (TINY, TINY)])
@pytest.mark.parametrize("op", ["LOGISTIC", "EXP", "RELU", "QUANTIZE", "SOFTMAX", "LOG_SOFTMAX", "L2_NORMALIZATION"])
def test_any_scales_of_unary_operators(op: str, scales: tuple[float, float]) -> None:
    same(Case(op, str(scales), (i8(9, scale=scales[0]),), (i8(9, scale=scales[1]),)))
    if op == "QUANTIZE":
        same(Case(op, f"to int32 {scales}", (i8(9, scale=scales[0]),), (tensor(INT32, 9, scale=scales[1]),)))
        same(Case(op, f"from float {scales}", (f32(9),), (i8(9, scale=scales[1]),)))


@pytest.mark.parametrize("scales", [(TINY, HUGE), (HUGE, TINY), (HUGE, HUGE)])
@pytest.mark.parametrize("op", ["SUM", "MEAN"])
def test_any_scales_of_reductions(op: str, scales: tuple[float, float]) -> None:
    x, y = i8(3, 9, scale=scales[0]), i8(3, scale=scales[1])
    same(Case(op, str(scales), (x, i32(1)), (y,), constants={1: np.array([1])}))


def same(case: Case) -> None:
    expected = case.operator.evaluate(case.site(), *case.arrays())[0]
    np.testing.assert_array_equal(interpret.run(program_of([case]), given(case))[0], expected)
