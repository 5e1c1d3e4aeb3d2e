"""Recurrent layers for which the official runtime is no oracle, and what the others refuse."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lithe.formats import tflite
from lithe.ir import interpret
from lithe.ops import RuleViolation
from lithe.ops.fixed_point import inverse_root, multiplier_of, quotient, scaled_by, scaled_wide
from lithe.ops.verify import verify
from lithe.types import FLOAT32, Quantization, TensorType
from tests.ops.backends import given, program_of, shared_out
from tests.ops.cases import Case, every_case, f32, i8
from tests.ops.official import model_bytes
from tests.ops.test_recurrent import changed

ALL = {str(case): case for case in every_case(lambda case: "SEQUENCE" in case.op or case.op in ("LSTM", "RNN", "SVDF"))}


@pytest.mark.parametrize("case", ALL.values(), ids=str)
def test_rows_are_models_that_the_verifier_takes(case: Case) -> None:
    module = tflite.read(model_bytes(case))
    verify(module)
    assert module.main.nodes[0].refusal is None


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("case", [c for c in ALL.values() if c.op.endswith("GRU")], ids=str)
def test_a_gated_layer_is_its_definition(case: Case) -> None:
    x, h, w, bias, v, last = (a.astype(np.float64) for a in case.arrays())
    units, depth = h.shape[1], x.shape[2]
    wr, wu, ur, uu = w[:units, :depth], w[units:, :depth], w[:units, depth:], w[units:, depth:]
    found = []
    for step in x:
        reset = sigmoid(np.einsum("oi,ni->no", wr, step) + np.einsum("oi,ni->no", ur, h) + bias[:units])
        update = sigmoid(np.einsum("oi,ni->no", wu, step) + np.einsum("oi,ni->no", uu, h) + bias[units:])
        new = np.einsum("oi,ni->no", v[:, :depth], step) + np.einsum("oi,ni->no", v[:, depth:], reset * h) + last
        h = update * h + (1 - update) * np.tanh(new)
        found.append(h)
    y, state = case.operator.evaluate(case.site(), *case.arrays())
    np.testing.assert_allclose(y, np.stack(found), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(state, h, rtol=1e-4, atol=1e-6)


def real(t: TensorType | None, values: np.ndarray | None) -> np.ndarray | None:
    if t is None or values is None:
        return None
    q = t.quantization
    return (values.astype(np.float64) - q.zero_point[0]).astype(np.float32) * np.float32(q.scale[0])


@pytest.mark.parametrize("name", ["plain", "coupled,_peephole"])
def test_a_layer_of_int16_is_close_to_the_layer_on_real_numbers(name: str) -> None:
    case = ALL[f"UNIDIRECTIONAL_SEQUENCE_LSTM-int16_{name}"]
    arrays = case.arrays()
    reals = [real(t, a) for t, a in zip(case.inputs, arrays, strict=True)]
    types = tuple(None if t is None else TensorType(FLOAT32, t.shape) for t in case.inputs)
    (y,) = case.operator.evaluate(case.site(), *arrays)
    floats = replace(case, inputs=types, outputs=(f32(*case.outputs[0].shape),), constants={}, intermediates=())
    (wanted,) = case.operator.evaluate(floats.site(), *reals)
    np.testing.assert_allclose(real(case.outputs[0], y), wanted, atol=1.5e-3)


def test_directions_of_their_own_sizes_are_two_layers() -> None:
    """What the official runtime refuses, from two operators that it has."""
    case = ALL["BIDIRECTIONAL_SEQUENCE_LSTM-float_sizes_of_their_own"]
    (y,) = case.operator.evaluate(case.site(), *case.arrays())
    arrays = case.arrays()
    layer = ALL["UNIDIRECTIONAL_SEQUENCE_LSTM-float_plain"].operator
    halves = []
    for first, states, turn in ((1, 35, 1), (18, 37, -1)):
        places = [0, *range(first, first + 17), states, states + 1]
        given = [arrays[i] for i in places]
        given[0] = given[0][::turn]
        types = tuple(case.inputs[i] for i in places)
        one = Case(layer.name, "half", types, (f32(*types[0].shape[:2], types[18].shape[1]),), {"time_major": True})
        halves.append(layer.evaluate(one.site(), *given)[0][::turn])
    np.testing.assert_array_equal(y, np.concatenate(halves, axis=2))


def test_weights_of_uint8_are_the_bits_of_int8() -> None:
    signed = ALL["RNN-hybrid_int8_symmetric"]
    types = {i: TensorType(ALL["RNN-hybrid_uint8_symmetric"].inputs[i].dtype, signed.inputs[i].shape,
                           signed.inputs[i].quantization) for i in (1, 2)}  # fmt: skip
    bits = {i: v.view(np.uint8) if i in types else v for i, v in signed.constants.items()}
    values = dict(enumerate(signed.arrays()))
    unsigned = replace(changed(signed, types), constants=bits, values={i: values[i] for i in (0, 4)})
    np.testing.assert_array_equal(
        *(c.operator.evaluate(c.site(), *c.arrays())[0] for c in (replace(signed, values=unsigned.values), unsigned))
    )


def test_a_gated_layer_without_steps_keeps_its_state() -> None:
    case = changed(GRU, {0: f32(0, 2, 5)})
    case = replace(case, outputs=(f32(0, 2, 6), case.outputs[1]))
    ((_, (y, h)),) = shared_out([case], interpret.run(program_of([case]), given(case)))
    assert y.shape == (0, 2, 6)
    np.testing.assert_array_equal(h, case.arrays()[1])


@pytest.mark.parametrize("scale", [1e-38, 3e-12, 1e38])
@pytest.mark.parametrize(
    "name", ["UNIDIRECTIONAL_SEQUENCE_LSTM-int8_everything", "UNIDIRECTIONAL_SEQUENCE_LSTM-int16_everything",
             "LSTM-narrow_plain", "SVDF-int16_plain"],
)  # fmt: skip
def test_senseless_scales_give_numbers_and_the_same_ones_everywhere(name: str, scale: float) -> None:
    case = quantized(ALL[name], 0, (scale,))
    inner = tuple(t and replace(t, quantization=Quantization((scale,), (0,))) for t in case.intermediates)
    case = replace(case, intermediates=inner)
    wanted = case.operator.evaluate(case.site(), *case.arrays())
    ((_, got),) = shared_out([case], interpret.run(program_of([case]), given(case)))
    np.testing.assert_array_equal(got, wanted)


def test_fixed_point_of_normalization() -> None:
    x = np.array([1, 2, 3, 7, 100, 12345, 1 << 20, (1 << 29) - 1, 1 << 29, (1 << 31) - 1], np.int64)
    multiplier, shift = inverse_root(x)
    np.testing.assert_allclose(multiplier / 2.0**31 / 2.0**shift * np.sqrt(x), 1, rtol=2e-6)
    assert (shift >= 0).all()
    np.testing.assert_array_equal(quotient(np.array([-7, 7, -8]), 2), [-3, 3, -4])
    halves, shifts = np.array([3, -3, 5, 6], np.int64), np.array([1, 1, 1, 0], np.int64)
    np.testing.assert_array_equal(scaled_by(halves * 2, np.int64(1 << 30), shifts), [2, -2, 3, 6])
    np.testing.assert_array_equal(scaled_wide(np.array([1 << 40, -3, 3]), (1 << 30, 0)), [1 << 39, -1, 2])
    assert scaled_wide(np.array([4]), (0x7FFFFFFF, 0))[0] == 4
    assert scaled_wide(np.array([3]), (1 << 30, 20))[0] == 3 << 19
    assert multiplier_of(float("inf")) == multiplier_of(2.0**40) == multiplier_of(2.0**30)


RNN, BOTH = ALL["RNN-float_plain"], ALL["BIDIRECTIONAL_SEQUENCE_RNN-float_crossed"]
CROSSED = ALL["BIDIRECTIONAL_SEQUENCE_LSTM-float_crossed"]
STACKED, GRU = ALL["BIDIRECTIONAL_SEQUENCE_LSTM-float_stacked"], ALL["UNIDIRECTIONAL_SEQUENCE_GRU-plain"]
BASIC, STORED, FULL = ALL["LSTM-basic_float_plain"], ALL["LSTM-basic_uint8_plain"], ALL["LSTM-float_plain"]
HYBRID, NARROW = ALL["RNN-hybrid_int8_symmetric"], ALL["LSTM-narrow_plain"]


def quantized(case: Case, i: int, scale: tuple[float, ...], zero: tuple[int, ...] = (0,)) -> Case:
    t = case.inputs[i]
    return changed(case, {i: TensorType(t.dtype, t.shape, Quantization(scale, zero))})


def inside(i: int, t: TensorType | None) -> Case:
    return replace(NARROW, intermediates=(*NARROW.intermediates[:i], t, *NARROW.intermediates[i + 1 :]))


REFUSED = [
    (changed(NARROW, {17: None}), "must be present where products have 8 bits"),
    (changed(NARROW, {i: NARROW.inputs[21] for i in (10, 11)}), "have no peephole"),
    (quantized(NARROW, 19, (2.0**-11,)), "scale must be 2**-15"),
    (inside(4, None), "needs the quantization of intermediate 4"),
    (inside(4, i8(0, scale=0.0)), "scale of intermediate 4 must be positive"),
    (inside(5, i8(0, zero_point=200)), "zero point 200 of intermediate 5 is outside of int8"),
    (changed(RNN, fused_activation_function="SIGMOID"), "activation must be"),
    (changed(RNN, {0: f32(2, 5, 7)}), "rank must be 2"),
    (changed(RNN, {0: f32(2, 0)}), "must not be empty"),
    (changed(RNN, {2: f32(9, 8)}), "shape must be [9, 9]"),
    (changed(RNN, {4: f32(3, 9)}), "shape must be [2, 9]"),
    (replace(HYBRID, constants={3: HYBRID.constants[3]}), "must be a constant"),
    (quantized(HYBRID, 1, (0.1,) * 9, (0,) * 9), "one scale"),
    (changed(BOTH, {9: f32(4, 3, 7)}), "must have the sequences"),
    (changed(BOTH, {9: f32(4, 2, 0)}), "and not be empty"),
    (changed(CROSSED, {39: f32(4, 2, 0)}), "and not be empty"),
    (changed(BOTH, {9: None}), "needs the auxiliary input and its weights"),
    (changed(BOTH, {10: None}), "needs the auxiliary input and its weights"),
    (changed(BOTH, {11: None}), "must be present"),
    (changed(BOTH, {11: f32(6, 8)}), "shape must be"),
    (changed(BOTH, merge_outputs=False), "must have 2 outputs, has 1"),
    (changed(STACKED, {39: f32(4, 3, 7)}), "must have the sequences"),
    (changed(STACKED, {39: f32(4, 7)}), "rank must be 3"),
    (changed(STACKED, {25: f32(5, 4)}), "shape must be"),
    (changed(FULL, kernel_type="SMALL"), "kernel_type must be FULL or BASIC"),
    (changed(FULL, {0: f32(2, 1, 7)}), "rank must be 2"),
    (replace(BASIC, outputs=BASIC.outputs[:1]), "has 4 outputs, not 1"),
    (replace(BASIC, inputs=(*BASIC.inputs, f32(1))), "has 5 inputs, not 6"),
    (changed(BASIC, {0: f32(2, 0)}), "must not be empty"),
    (changed(BASIC, {2: f32(20, 13)}), "shape must be [20, 12]"),
    (quantized(STORED, 0, (0.01,), (128,)), "scale must be 1/128"),
    (quantized(STORED, 4, (0.001,)), "scale must be 1/2048"),
    (changed(GRU, {1: f32(2, 0)}), "must not be empty"),
    (changed(GRU, {4: f32(6, 12)}), "shape must be [6, 11]"),
    (changed(ALL["SVDF-hybrid_int8_symmetric"], {1: i8(10, 8)}), "shape must be"),
]  # fmt: skip


@pytest.mark.parametrize(("case", "rule"), REFUSED, ids=[rule for _, rule in REFUSED])
def test_refusals(case: Case, rule: str) -> None:
    with pytest.raises(RuleViolation) as caught:
        case.operator.infer(case.site())
    assert rule in caught.value.rule
