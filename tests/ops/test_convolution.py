"""Contractions and pooling: their rules, hostile attributes, and faults that the matrix must notice."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lithe.errors import ExecutionError
from lithe.ir import interpret
from lithe.ops import RuleViolation, dynamic
from lithe.ops.contraction import convolve
from lithe.ops.padding import Window, placed, taps
from lithe.ops.transposed import Convolution2DTransposeBias
from lithe.runtime.interpreter import Interpreter
from lithe.types import INT4, INT8, Quantization, TensorType
from tests.ops import cases_convolution, cases_matmul, cases_pooling, cases_transposed
from tests.ops.backends import given, program_of
from tests.ops.cases import Case, every_case, f32, i8, i32, u8
from tests.ops.cases_convolution import convolution
from tests.ops.cases_fully_connected import connected, in_blocks, in_tiles
from tests.ops.test_matrix import loops_differ

HUGE = 2**31 - 1
FLOAT = convolution("rule", "float", (1, 8, 7, 6), (4, 3, 2, 6), (1, 8, 7, 4))
QUANTIZED = convolution("rule", "int8", (1, 8, 7, 6), (4, 3, 2, 6), (1, 8, 7, 4))
DYNAMIC = convolution("rule", "dynamic", (1, 8, 7, 6), (4, 3, 2, 6), (1, 8, 7, 4))
DEPTHWISE = convolution("rule", "float", (1, 8, 7, 6), (1, 3, 2, 12), (1, 8, 7, 12), "DEPTHWISE_CONV_2D")
CONNECTED = connected("rule", "float", (3, 8), (5, 8), (3, 5))
TRANSPOSED = cases_transposed.transposed("rule", "float", (1, 4, 5, 3), (6, 3, 3, 3), (1, 8, 10, 6), 2)
WITH_BIAS = next(c for c in cases_transposed.CASES if c.op == "Convolution2DTransposeBias")
POOL = cases_pooling.pool("MAX_POOL_2D", "float", "rule", (1, 6, 7, 3), (1, 6, 7, 3))
POOL_INT8 = cases_pooling.pool("AVERAGE_POOL_2D", "int8", "rule", (1, 6, 7, 3), (1, 6, 7, 3))
SHUFFLED = in_tiles(4)
QUANTIZED_LAYER = connected("rule", "int8", (5, 64), (3, 64), (5, 3))
PRODUCT = cases_matmul.CASES[1]
PRODUCT_INT8 = next(c for c in cases_matmul.CASES if c.name == "int8")


def broken(case: Case, inputs: dict[int, TensorType] | None = None, **attrs: Any) -> Case:
    """The case with other input types or attributes."""
    types = [(inputs or {}).get(i, t) for i, t in enumerate(case.inputs)]
    kept = {i: v for i, v in case.constants.items() if i not in (inputs or {})}
    return replace(case, inputs=tuple(types), attrs={**case.attrs, **attrs}, constants=kept)


def scaled(*shape: int, scales: tuple[float, ...], zeros: tuple[int, ...] = (), axis: int = 0) -> TensorType:
    return TensorType(INT8, shape, Quantization(scales, zeros or (0,) * len(scales), axis))


RULES = [
    (broken(FLOAT, {0: f32(1, 8, 7)}), "rank must be 4"),
    (broken(FLOAT, {1: f32(4, 3, 6)}), "rank must be 4"),
    (broken(FLOAT, {1: f32(4, 0, 2, 6)}), "must not be empty"),
    (broken(FLOAT, {1: f32(0, 3, 2, 6)}), "must not be empty"),
    (broken(FLOAT, {0: f32(0, 8, 7, 6)}), "must not be empty"),
    (broken(FLOAT, {1: f32(4, 3, 2, 5)}), "depth 5 must divide the input's 6 channels"),
    (broken(FLOAT, {1: f32(4, 3, 2, 2)}), "4 output channels must be a multiple of 3 groups"),
    (broken(FLOAT, {2: f32(5)}), "must have 4 elements"),
    (broken(FLOAT, {2: f32(4, 1)}), "rank must be 1"),
    (broken(FLOAT, stride_w=0), "strides must be at least 1"),
    (broken(FLOAT, stride_h=-HUGE), "strides must be at least 1"),
    (broken(FLOAT, dilation_h_factor=0), "dilation factors must be at least 1"),
    (broken(FLOAT, dilation_w_factor=HUGE, dilation_h_factor=HUGE), "is too much"),
    (broken(FLOAT, padding="VALID", dilation_h_factor=4), "does not fit"),
    (broken(FLOAT, padding="FULL"), "padding must be SAME or VALID"),
    (broken(FLOAT, fused_activation_function="SWISH"), "fused activation must be"),
    (broken(QUANTIZED, {1: TensorType(INT8, (4, 3, 2, 6))}), "must have a scale"),
    (broken(QUANTIZED, {1: scaled(4, 3, 2, 6, scales=(0.1,) * 4, axis=3)}), "must belong to axis 0"),
    (broken(QUANTIZED, {1: scaled(4, 3, 2, 6, scales=(0.1,) * 3)}), "3 scales for 4 output channels"),
    (broken(QUANTIZED, {1: scaled(4, 3, 2, 6, scales=(0.1,) * 4, zeros=(0, 0, 1, 0))}), "must be 0"),
    (broken(QUANTIZED, {1: scaled(4, 3, 2, 6, scales=(0.1,), zeros=(HUGE,))}), "is outside of int8"),
    (broken(QUANTIZED, {0: i8(1, 8, 7, 6, scale=0.0)}), "must be positive and finite"),
    (broken(QUANTIZED, {0: i8(1, 8, 7, 6, zero_point=128)}), "is outside of int8"),
    (broken(QUANTIZED, {0: scaled(1, 8, 7, 6, scales=(0.1, 0.2))}), "must have one scale"),
    (broken(DYNAMIC, dilation_h_factor=1 << 29), "the input with its padding has"),
    (broken(DEPTHWISE, {1: f32(2, 3, 2, 12)}), "the first size must be 1"),
    (broken(DEPTHWISE, {1: f32(1, 3, 2, 8)}), "must be a multiple of the input's 6"),
    (broken(CONNECTED, {1: f32(5, 8, 1)}), "rank must be 2"),
    (broken(CONNECTED, {1: f32(5, 7)}), "does not divide into rows of 7"),
    (broken(CONNECTED, {1: f32(0, 8)}), "must not be empty"),
    (broken(CONNECTED, {0: f32(3, 16)}, keep_num_dims=True), "the last size"),
    (broken(CONNECTED, weights_format="SHUFFLED"), "weights_format must be DEFAULT"),
    (broken(TRANSPOSED, {0: i32(3)}), "must hold 4 sizes"),
    (broken(TRANSPOSED, {1: f32(6, 3, 3, 2)}), "must have the depth of the input"),
    (broken(TRANSPOSED, {1: f32(6, 3, 0, 3)}), "must not be empty"),
    (broken(TRANSPOSED, {2: f32(1, 0, 5, 3)}), "must not be empty"),
    (broken(TRANSPOSED, stride_h=1 << 15), "strides must be below 32768"),
    (replace(TRANSPOSED, constants={**TRANSPOSED.constants, 0: np.array([2, 8, 10, 6])}), "must be [1, height"),
    (replace(TRANSPOSED, constants={**TRANSPOSED.constants, 0: np.array([1, -8, 10, 6])}), "must be [1, height"),
    (broken(WITH_BIAS, padding="UNKNOWN"), "padding must be SAME or VALID"),
    (replace(WITH_BIAS, inputs=(*WITH_BIAS.inputs[:2], None), constants={}), "must be present"),
    (broken(POOL, filter_width=0), "filter sizes must be at least 1"),
    (broken(POOL, filter_height=-1), "filter sizes must be at least 1"),
    (broken(POOL, stride_w=-1), "strides must be at least 1"),
    (broken(POOL, filter_height=HUGE), "does not fit"),
    (broken(POOL, padding="?"), "padding must be SAME or VALID"),
    (broken(POOL, fused_activation_function="SWISH"), "fused activation must be"),
    (broken(POOL, {0: f32(1, 0, 7, 3)}), "must not be empty"),
    (broken(POOL_INT8, {0: scaled(1, 6, 7, 3, scales=(0.1, 0.1, 0.1))}), "must have one scale"),
    (broken(PRODUCT, {0: f32(5)}), "rank must be at least 2"),
    (broken(PRODUCT, adj_x=True), "they must be equal"),
    (broken(PRODUCT, {0: f32(3, 3, 5)}), "do not broadcast"),
    (broken(PRODUCT, {0: f32(2, 3, 0), 1: f32(2, 0, 4)}), "must not be empty"),
    (broken(PRODUCT_INT8, {1: scaled(2, 21, 14, scales=(0.1,) * 21, axis=1)}), "one scale, or 14 for its columns"),
    (broken(PRODUCT_INT8, {1: scaled(2, 21, 14, scales=(0.1,) * 14, zeros=(1,) * 14, axis=2)}), "must have one scale"),
    (broken(DYNAMIC, {1: u8(4, 3, 2, 6, zero_point=128)}), "hold int8: no zero point"),
    (broken(QUANTIZED_LAYER, weights_format="SHUFFLED4x16INT8"), "lead from uint8 to int16"),
    (broken(SHUFFLED, {1: u8(6, 32)}), "tiles of 4 x 16"),
    (broken(SHUFFLED, {0: u8(4, 32, zero_point=127)}), "zero points must be 128"),
    (broken(QUANTIZED_LAYER, {1: in_blocks(INT4, 32).inputs[1]}), "need float activations"),
    (broken(PRODUCT_INT8, {0: i8(2, 9, 21, scale=-1.0)}), "must be positive and finite"),
]  # fmt: skip


@pytest.mark.parametrize(("case", "rule"), RULES, ids=[f"{c.op}-{rule}" for c, rule in RULES])
def test_infer_names_the_rule_that_a_model_breaks(case: Case, rule: str) -> None:
    with pytest.raises(RuleViolation) as found:
        case.operator.infer(case.site())
    assert rule in found.value.rule


HOSTILE = [
    broken(FLOAT, stride_w=HUGE, stride_h=HUGE),
    broken(FLOAT, dilation_h_factor=1 << 29, dilation_w_factor=(1 << 30) - 1),
    broken(DEPTHWISE, dilation_h_factor=1 << 29),
    broken(DYNAMIC, stride_w=HUGE, stride_h=HUGE),
    broken(POOL, filter_height=HUGE, filter_width=HUGE, padding="SAME"),
    broken(POOL, filter_height=HUGE, stride_h=HUGE, stride_w=HUGE, padding="SAME"),
    broken(POOL_INT8, filter_height=HUGE, filter_width=HUGE, padding="SAME"),
]


@pytest.mark.parametrize("case", HOSTILE, ids=[str(i) for i in range(len(HOSTILE))])
def test_the_largest_attributes_that_fit_are_computed(case: Case) -> None:
    shape = case.operator.infer(case.site())[0]
    result = case.operator.evaluate(case.site(), *case.arrays())[0]
    assert result.shape == shape


def test_an_output_shape_that_does_not_fit_is_refused_while_running() -> None:
    site, (_, *arrays) = TRANSPOSED.site(), TRANSPOSED.arrays()
    with pytest.raises(ExecutionError, match="must be"):
        TRANSPOSED.operator.evaluate(site, np.array([1, -8, 10, 6], np.int32), *arrays)


def test_an_unknown_output_shape_leaves_height_and_width_open() -> None:
    case = replace(TRANSPOSED, constants={k: v for k, v in TRANSPOSED.constants.items() if k})
    assert case.operator.infer(case.site()) == [(1, None, None, 6)]


def test_raw_options_are_read_with_their_length_and_values_checked() -> None:
    read = Convolution2DTransposeBias.parse_options
    attrs = read(struct.pack("<4i", 2, 3, 4, 0))
    assert (attrs.padding, attrs.stride_w, attrs.stride_h) == ("VALID", 3, 4)
    with pytest.raises(RuleViolation, match="at least 12 bytes"):
        read(b"\1\0\0\0")
    with pytest.raises(RuleViolation, match="padding must be"):
        read(struct.pack("<3i", 9, 1, 1))


def test_no_rows_give_no_rows() -> None:
    for case in (CONNECTED, connected("rule", "dynamic", (3, 8), (5, 8), (3, 5))):
        empty = replace(case, inputs=(f32(0, 8), *case.inputs[1:]), outputs=(f32(0, 5),))
        assert empty.operator.evaluate(empty.site(), *empty.arrays())[0].shape == (0, 5)


def test_a_sum_of_sixteen_bit_products_is_exact() -> None:
    x = np.full((1, 1, 1, 4096), 32767, np.int32)
    w = np.full((1, 1, 1, 4096), 127, np.int32)
    assert convolve(x, w, Window(), 1).item() == 4096 * 32767 * 127


def test_products_beyond_53_bits_are_exact() -> None:
    x = np.full((1, 1, 1, 1), 2**31 - 1, np.int64)
    assert convolve(x, x, Window(), 1).item() == (2**31 - 1) ** 2


@pytest.mark.parametrize("dtype", [np.int16, np.int32])
def test_products_of_the_least_integers_are_exact(dtype: type) -> None:
    x = np.full((1, 1, 1, 2), np.iinfo(dtype).min, dtype)
    x[..., 1] = w = np.iinfo(dtype).max
    least = int(np.iinfo(dtype).min)
    assert convolve(x, np.full((1, 1, 1, 2), w, dtype), Window(), 1).item() == least * int(w) + int(w) ** 2


@pytest.mark.parametrize("size", range(1, 9))
def test_windows_lie_where_counting_says(size: int) -> None:
    for window, stride, dilation in ((1, 1, 1), (2, 2, 1), (3, 2, 2), (3, 3, 1), (5, 1, 1)):
        count, before = placed(size, window, stride, dilation, "SAME")
        assert count == len(range(0, size, stride))
        for tap in range(window):
            start = tap * dilation - before
            expected = [(i, start + i * stride) for i in range(count) if 0 <= start + i * stride < size]
            pair = taps(count, size, start, stride)
            got = [] if pair is None else list(zip(range(count)[pair[0]], range(size)[pair[1]], strict=True))
            assert got == expected


def dropped(case: Case, position: int) -> Case:
    """The same data with the zero point of one operand forgotten."""
    t = case.inputs[position]
    forgotten = TensorType(t.dtype, t.shape, Quantization(t.quantization.scale, (0,), t.quantization.axis))
    return replace(case, inputs=tuple(forgotten if i == position else x for i, x in enumerate(case.inputs)))


@pytest.mark.parametrize("position", [0, 1])
def test_forgetting_a_zero_point_would_be_noticed(position: int) -> None:
    case = next(c for c in cases_convolution.CASES if c.op == "CONV_2D" and c.name == "uint8 valid")
    arrays, fault = case.arrays(), dropped(case, position)
    right, wrong = (c.operator.evaluate(c.site(), *arrays)[0].astype(int) for c in (case, fault))
    assert np.abs(right - wrong).max() > 1


@pytest.mark.parametrize("own", [False, True])
def test_the_range_of_a_row_holds_zero(own: bool) -> None:
    low, high = np.float32([-3, 0, 2, -5, 0]), np.float32([5, 4, 7, -1, 0])
    factor, scale, point = dynamic.parameters(low, high, own)
    assert np.allclose(factor * scale, 1)
    zero = np.rint(point)
    assert ((zero >= -128) & (zero <= 127)).all()
    assert factor[4] == 1
    assert (np.rint(low[3] * factor[3]) + zero[3], np.rint(high[2] * factor[2]) + zero[2]) == (-128, 127)


@pytest.mark.parametrize("number", [0, 2, 4])
def test_transposed_convolutions_of_a_speech_network(corpus: Path, number: int) -> None:
    folder = corpus / "data/seanet_golden"
    shape, x, golden = (
        np.loadtxt(folder / f"transpose_conv{number}_{name}.csv", delimiter=",", dtype=np.int64)
        for name in ("input0_int32", "input1_int16", "golden_int16")
    )
    model = Interpreter(str(corpus / f"models/seanet_int16/transpose_conv{number}.tflite"))
    model.allocate_tensors()
    for detail, value in zip(model.get_input_details(), (shape.astype(np.int32), x.astype(np.int16)), strict=True):
        model.set_tensor(detail["index"], value.reshape(detail["shape"]))
    model.invoke()
    result = model.get_tensor(model.get_output_details()[0]["index"])
    assert result.shape == tuple(shape)
    assert np.abs(result.reshape(-1).astype(np.int64) - golden.reshape(-1)).max() <= 1


@pytest.mark.parametrize("op", ["FULLY_CONNECTED", "CONV_2D", "TRANSPOSE_CONV", "BATCH_MATMUL"])
@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
def test_special_values_among_quantized_activations_give_the_same_in_loops(op: str, special: float) -> None:
    case = next(c for c in every_case(lambda c: c.op == op) if c.name.startswith(("dynamic", "hybrid")))
    place = 2 if op == "TRANSPOSE_CONV" else 0
    x = np.array(case.arrays()[place])
    x.reshape(-1)[1] = special
    hostile = replace(case, values={**case.values, place: x})
    with np.errstate(all="ignore"):
        (got,) = interpret.run(program_of([hostile]), given(hostile))
        problem = loops_differ(hostile, [got.reshape(case.outputs[0].shape)])
    assert not problem, problem
