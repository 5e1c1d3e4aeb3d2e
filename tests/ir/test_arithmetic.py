"""Number work: numpy and loops give the same bits, and the values that the definitions say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lithe.ir import interpret
from lithe.ir.arithmetic import (
    activate,
    activation_range,
    bits_float,
    cast,
    clamp,
    float_bits,
    fused_multiply_add,
    quantize_real,
    requantize,
    round_half_even,
    where,
)
from lithe.ir.build import Builder
from lithe.ir.loops import Buffer
from lithe.types import FLOAT32, INT8, INT16, INT32, INT64, UINT8, DType, dtype_of

REALS = np.float32([0, -0.0, 0.5, 1.5, 2.5, -0.5, -2.5, 126.5, 127.4, 1e9, -1e9, 3e38, -3e38, np.inf, -np.inf, np.nan])
WHOLES = np.array([0, 1, -1, 5, 100, -100, 2**24 + 1, -(2**24) - 1, 2**31 - 1, -(2**31)], np.int32)


def in_loops(function: Callable[[Any], Any], x: np.ndarray, dtype: DType) -> np.ndarray:
    source, target = Buffer("x", dtype_of(x), x.shape), Buffer("y", dtype, x.shape)
    b = Builder()
    b.elementwise(target, function, source)
    y = np.zeros(x.shape, dtype.numpy)
    interpret.run_kernel(b.kernel(), {source: x, target: y})
    return y


RULES: list[tuple[str, Callable[[Any], Any], np.ndarray, DType]] = [
    ("quantize", lambda x: quantize_real(x, 3, -128, 127, INT8), REALS, INT8),
    ("quantize to uint8", lambda x: quantize_real(x, 128, 10, 200, UINT8), REALS, UINT8),
    ("requantize", lambda x: requantize(x, np.float32(0.00371), -5, -128, 127, INT8), WHOLES, INT8),
    ("requantize to int16", lambda x: requantize(x, np.float32(0.5), 0, -32768, 32767, INT16), WHOLES, INT16),
    ("requantize int64", lambda x: requantize(x, np.float32(1e-3), 0, -32768, 32767, INT16),
     WHOLES.astype(np.int64) * 1000, INT16),
    ("truncate and saturate", lambda x: cast(x, INT32), REALS, INT32),
    ("saturate to int8", lambda x: cast(x, INT8), REALS, INT8),
    ("saturate to int64", lambda x: cast(x, INT64), REALS, INT64),
    ("wrap", lambda x: cast(x, INT8), WHOLES, INT8),
    ("round", round_half_even, REALS, FLOAT32),
    ("clamp", lambda x: clamp(x, -1.0, 6.0), REALS, FLOAT32),
    ("choose", lambda x: where(x < 0.0, x * 0.25, x), REALS, FLOAT32),
    ("bits", lambda x: bits_float(float_bits(x)), REALS, FLOAT32),
    ("fused", lambda x: fused_multiply_add(x, np.float32(1 / 3), np.float32(-1.0)), REALS[:9], FLOAT32),
    ("activate", lambda x: activate(x, "RELU6"), REALS, FLOAT32),
    ("activate integers", lambda x: activate(x, "RELU_N1_TO_1"), WHOLES, INT32),
]  # fmt: skip


@pytest.mark.parametrize(("function", "x", "dtype"), [r[1:] for r in RULES], ids=[r[0] for r in RULES])
def test_numpy_and_loops_agree_in_every_bit(function: Callable[[Any], Any], x: np.ndarray, dtype: DType) -> None:
    with np.errstate(all="ignore"):
        expected = np.asarray(function(x))
    assert expected.dtype == dtype.numpy
    np.testing.assert_array_equal(in_loops(function, x, dtype), expected)


def test_halves_go_to_the_even_neighbour_and_ends_saturate() -> None:
    got = quantize_real(REALS, 0, -128, 127, INT8)
    assert got.tolist() == [0, 0, 0, 2, 2, 0, -2, 126, 127, 127, -128, 127, -128, 127, -128, -128]


def test_float_to_integer_truncates_saturates_and_takes_nan_as_zero() -> None:
    assert cast(np.float32([1.9, -1.9, 300, -300, np.nan, np.inf]), INT8).tolist() == [1, -1, 127, -128, 0, 127]
    assert cast(np.float32([3e38, -3e38]), INT64).tolist() == [2**63 - 1, -(2**63)]


@pytest.mark.parametrize(
    ("activation", "scale", "zero_point", "expected"),
    [
        ("NONE", 0.1, 3, (-128, 127)),
        ("RELU", 0.1, 3, (3, 127)),
        ("RELU6", 0.1, 3, (3, 63)),
        ("RELU6", 0.01, -100, (-100, 127)),
        ("RELU_N1_TO_1", 0.4, 0, (-3, 3)),  # 2.5 rounds away from zero
        ("RELU6", 1.0, -128, (-128, -122)),
    ],
)
def test_activation_range(activation: str, scale: float, zero_point: int, expected: tuple[int, int]) -> None:
    assert activation_range(activation, scale, zero_point, INT8) == expected
