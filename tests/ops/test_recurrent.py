"""Recurrent operators: states over several runs, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lithe.formats import tflite
from lithe.ir import interpret
from lithe.lite import Interpreter
from lithe.ops import RuleViolation
from lithe.ops.fixed_point import logistic_table, multiplier_of, scaled, shifted, tanh_table
from lithe.types import Quantization, TensorType
from tests.ops.backends import given, program_of
from tests.ops.cases import Case, every_case, f32, i8
from tests.ops.official import model_bytes

STATEFUL = every_case(lambda case: bool(case.variables))
BY_NAME = {str(case): case for case in STATEFUL}
FLOAT = BY_NAME["UNIDIRECTIONAL_SEQUENCE_LSTM-float_everything"]
PLAIN = BY_NAME["UNIDIRECTIONAL_SEQUENCE_LSTM-float_plain"]
INT8 = BY_NAME["UNIDIRECTIONAL_SEQUENCE_LSTM-int8_plain"]
PROJECTED = BY_NAME["UNIDIRECTIONAL_SEQUENCE_LSTM-int8_projection"]
NORMALIZED = BY_NAME["UNIDIRECTIONAL_SEQUENCE_LSTM-int8_normalized"]
HYBRID = BY_NAME["UNIDIRECTIONAL_SEQUENCE_LSTM-hybrid_int8_plain"]
THIN = BY_NAME["SVDF-float_plain"]
THIN16 = BY_NAME["SVDF-int16_plain"]


def fed(case: Case, interpreter: object, steps: int = 3) -> list[np.ndarray]:
    """The outputs of runs one after the other, each with an input of its own."""
    found = []
    kept = (*case.constants, *case.variables)
    arrays = [a for i, a in enumerate(case.arrays()) if a is not None and i not in kept]
    for step in range(steps):
        for array, detail in zip(arrays, interpreter.get_input_details(), strict=True):
            interpreter.set_tensor(detail["index"], np.roll(array, step))
        interpreter.invoke()
        found.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).copy())
    return found


@pytest.mark.parametrize("case", STATEFUL, ids=str)
def test_states_last_from_run_to_run_as_in_the_official_runtime(case: Case) -> None:
    if not case.official:
        pytest.skip(case.reason)
    official = pytest.importorskip("ai_edge_litert.interpreter", reason="the official runtime is not installed")
    theirs, ours = official.Interpreter(model_content=model_bytes(case)), Interpreter(model_content=model_bytes(case))
    theirs.allocate_tensors()
    ours.allocate_tensors()
    for expected, got in zip(fed(case, theirs), fed(case, ours), strict=True):
        if case.outputs[0].dtype.is_float:
            np.testing.assert_allclose(got, expected, atol=2e-5, rtol=1e-4)
        else:
            np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("case", [c for c in STATEFUL if "of_one" not in str(c)], ids=str)
def test_loops_leave_the_states_that_the_meaning_leaves(case: Case) -> None:
    arrays = case.arrays()
    case.operator.evaluate(case.site(), *arrays)
    program = program_of([case])
    program.outputs += [
        program.inputs[[i for i, t in enumerate(case.inputs) if t is not None and i not in case.constants].index(v)]
        for v in case.variables
    ]
    states = interpret.run(program, given(case))[len(case.outputs) :]
    for variable, state in zip(case.variables, states, strict=True):
        if arrays[variable].dtype.kind == "f":
            np.testing.assert_allclose(state, arrays[variable], atol=1e-5)
        else:
            np.testing.assert_array_equal(state, arrays[variable])


def test_reset_returns_to_the_beginning() -> None:
    interpreter = Interpreter(model_content=model_bytes(INT8))
    interpreter.allocate_tensors()
    first = fed(INT8, interpreter)
    assert not np.array_equal(first[-1], fed(INT8, interpreter)[-1])
    interpreter.reset_all_variables()
    np.testing.assert_array_equal(first, fed(INT8, interpreter))


def test_a_recurrent_model_survives_reading_and_writing() -> None:
    case = INT8
    again = tflite.write(tflite.read(model_bytes(case)))
    results = []
    for content in (model_bytes(case), again):
        interpreter = Interpreter(model_content=content)
        interpreter.allocate_tensors()
        results.append(fed(case, interpreter))
    np.testing.assert_array_equal(*results)


def inside(case: Case, hidden: TensorType) -> Case:
    return replace(case, intermediates=(*case.intermediates[:4], hidden))


def changed(
    case: Case, inputs: dict[int, TensorType | None] | None = None, constants: bool = False, **attrs: object
) -> Case:
    """The case with other types; constants that they fit no longer are inputs, or zeros where `constants` says so."""
    types = tuple((inputs or {}).get(i, t) for i, t in enumerate(case.inputs))
    fitting = {i: v for i, v in case.constants.items() if types[i] is not None and v.shape == types[i].shape}
    if constants:
        fitting |= {i: np.zeros(types[i].shape, types[i].dtype.numpy) for i in case.constants if i not in fitting}
    return replace(case, inputs=types, attrs={**case.attrs, **attrs}, constants=fitting)


REFUSED = {
    "activation must be": changed(PLAIN, fused_activation_function="SIGMOID"),
    "clips must not be negative": changed(PLAIN, cell_clip=-1.0),
    "rank must be 3": changed(PLAIN, {0: f32(2, 7)}),
    "must not be empty": changed(PLAIN, {0: f32(2, 5, 0)}),
    "shape must be [9, 7], is [9, 8]": changed(PLAIN, {2: f32(9, 8)}),
    "shape must be [9], is [8]": changed(PLAIN, {13: f32(8)}),
    "need a projection": changed(FLOAT, {16: None, 17: None}),
    "belongs to projection weights": changed(PLAIN, {17: f32(9)}),
    "must be present or absent": changed(FLOAT, {9: None}),
    "shape must be [2, 9], is [3, 9]": changed(PLAIN, {19: f32(3, 9)}),
    "must not be a diagonal": changed(INT8, {i: i8(9, zero_point=0) for i in range(5, 9)}, constants=True),
    "integers have 5 intermediates, not 2": replace(INT8, intermediates=INT8.intermediates[:2]),
    "needs the quantization of intermediate 0": replace(NORMALIZED, intermediates=()),
    "scale of intermediate 4 must be positive": inside(PROJECTED, i8(0, scale=0.0)),
    "zero point 128 is outside of int8": inside(PROJECTED, i8(0, zero_point=128)),
    "scale must be positive": changed(INT8, {0: i8(2, 5, 7, scale=0.0)}),
    "zero point must be 0": changed(INT8, {2: i8(9, 7)}),
    "zero point 200 is outside": changed(INT8, {0: i8(2, 5, 7, zero_point=200)}),
    "must be quantized like the output": changed(INT8, {18: i8(2, 9)}),
    "power of two": changed(
        INT8, {19: TensorType(INT8.inputs[19].dtype, (2, 9), Quantization((0.003,), (0,)))}
    ),
    "must not be empty, is float32[5, 0]": changed(THIN, {2: f32(5, 0)}),
    "shape must be [5, 7], is float32[5, 8]": changed(THIN, {1: f32(5, 8)}),
    "do not divide into units of 2": changed(THIN, rank=2),
    "shape must be [5], is float32[6]": changed(THIN, {3: f32(6)}),
    "shape must be [2, 30], is float32[2, 31]": changed(THIN, {4: f32(2, 31)}),
    "activation must be NONE": changed(THIN, fused_activation_function="SIGMOID"),
    "of integers must be RELU": changed(THIN16, fused_activation_function="NONE"),
    "scale must be positive and finite": changed(THIN16, {1: i8(5, 7, scale=-1.0, zero_point=0)}),
    "zero point must be 0, is 3": changed(THIN16, {1: i8(5, 7)}),
    "zero point 300 is outside of int8": changed(THIN16, {0: i8(2, 7, zero_point=300)}),
    "must be a constant": replace(INT8, constants={k: v for k, v in INT8.constants.items() if k != 3}),
}  # fmt: skip


@pytest.mark.parametrize("rule", REFUSED)
def test_refusals(rule: str) -> None:
    site = REFUSED[rule].site()
    with pytest.raises(RuleViolation) as caught:
        REFUSED[rule].operator.infer(site)
    assert rule in caught.value.rule


def test_tables_are_close_to_the_functions() -> None:
    stored = np.arange(-32768, 32768)
    np.testing.assert_allclose(logistic_table() / 32768, 1 / (1 + np.exp(-stored / 4096)), atol=2e-4)
    for bits in range(7):
        np.testing.assert_allclose(tanh_table(bits) / 32768, np.tanh(stored / 2.0 ** (15 - bits)), atol=4e-4)


def test_fixed_point_rounds_halves_away_from_zero() -> None:
    np.testing.assert_array_equal(shifted(np.array([3, 2, -3, -2, 5, -5]), 2), [1, 1, -1, -1, 1, -1])
    np.testing.assert_array_equal(scaled(np.array([10, -10, 3]), multiplier_of(0.25)), [3, -3, 1])
    assert multiplier_of(1.0 - 2.0**-40) == (1 << 30, 1)
    assert multiplier_of(2.0**-40) == (0, 0)
