"""Unary operators."""

from __future__ import annotations

import numpy as np

from lithe.types import INT16, INT32, INT64
from tests.ops.cases import Case, f32, i8, i16, i32, tensor, u8

EVERY_INT8, EVERY_UINT8 = np.arange(-128, 128), np.arange(256)
SPECIAL = np.array([np.inf, -np.inf, 0, -0.0, 1e-30, 88.8, -104.0, -88.0])


def floats(op: str, low: float = -8, high: float = 8, **more: object) -> list[Case]:
    """Sizes that are no multiple of a vector, and one element."""
    return [
        Case(op, "float", (f32(2, 3, 37),), (f32(2, 3, 37),), low=low, high=high, **more),
        Case(op, "float one", (f32(1),), (f32(1),), low=low, high=high, **more),
    ]


def every_int8(
    op: str, scale: float = 0.05, out: float = 0.05, zero: int = -10, out_zero: int = 5, **more: object
) -> Case:
    """All stored values of int8."""
    x, y = i8(256, scale=scale, zero_point=zero), i8(256, scale=out, zero_point=out_zero)
    return Case(op, f"int8 {scale:g} to {out:g}", (x,), (y,), values={0: EVERY_INT8}, **more)


def every_uint8(
    op: str, scale: float = 0.05, out: float = 0.05, zero: int = 120, out_zero: int = 5, **more: object
) -> Case:
    x, y = u8(256, scale=scale, zero_point=zero), u8(256, scale=out, zero_point=out_zero)
    return Case(op, f"uint8 {scale:g} to {out:g}", (x,), (y,), values={0: EVERY_UINT8}, **more)


def int16(op: str, scale: float, out: float, low: int = -32768, **more: object) -> Case:
    values = np.linspace(low, 32767, 301).astype(np.int16)
    return Case(op, "int16", (i16(301, scale=scale),), (i16(301, scale=out),), values={0: values}, **more)


def clamped(op: str, low: float) -> list[Case]:
    return [*floats(op), every_int8(op), every_int8(op, 0.1, 0.03), every_uint8(op, out=0.07),
            Case(op, "special", (f32(4),), (f32(4),), values={0: np.array([np.inf, -np.inf, -0.0, low])})]  # fmt: skip


CASES = [
    *floats("LOGISTIC", -20, 20),
    Case("LOGISTIC", "special", (f32(8),), (f32(8),), values={0: SPECIAL}),
    every_int8("LOGISTIC", 0.1, 1 / 256, out_zero=-128),
    every_uint8("LOGISTIC", 0.1, 1 / 256, out_zero=0),
    int16("LOGISTIC", 8 / 32768, 1 / 32768, steps=8),
    *floats("TANH"),
    Case("TANH", "special", (f32(8),), (f32(8),), values={0: SPECIAL}),
    every_int8("TANH", 0.05, 1 / 128, out_zero=0),
    every_uint8("TANH", 0.05, 1 / 128, out_zero=128),
    int16("TANH", 4 / 32768, 1 / 32768, steps=8),
    *clamped("RELU", 0),
    int16("RELU", 0.001, 0.002),
    *clamped("RELU6", 6),
    int16("RELU6", 0.001, 0.002),
    *clamped("RELU_N1_TO_1", -1),
    *clamped("RELU_0_TO_1", 1),
    *floats("LEAKY_RELU", attrs={"alpha": 0.3}),
    every_int8("LEAKY_RELU", 0.05, 0.04, attrs={"alpha": 0.3}),
    every_uint8("LEAKY_RELU", 0.05, 0.04, attrs={"alpha": 0.1}),
    int16("LEAKY_RELU", 0.001, 0.002, attrs={"alpha": 0.2}),
    *floats("ELU"),
    Case("ELU", "tiny", (f32(4),), (f32(4),), values={0: np.array([-1e-8, -1e-3, 0, 1e-8])}),
    every_int8("ELU", 0.05, 0.05, zero=0, out_zero=-100),
    *floats("HARD_SWISH"),
    every_int8("HARD_SWISH", 0.05, 0.04, out_zero=-110),
    every_uint8("HARD_SWISH", 0.05, 0.04, out_zero=10),
    *floats("GELU"),
    Case("GELU", "tanh form", (f32(3, 35),), (f32(3, 35),), attrs={"approximate": True}, low=-6, high=6),
    every_int8("GELU", 0.05, 0.04, out_zero=-110),
    every_uint8("GELU", 0.05, 0.04, out_zero=10, attrs={"approximate": True}),
    *floats("EXP", -20, 20),
    Case("EXP", "special", (f32(8),), (f32(8),), values={0: SPECIAL}),
    every_int8("EXP", 0.02, 0.05, zero=20, out_zero=-128),
    int16("EXP", 0.0001, 0.001, steps=4),  # the official table of 513 entries is interpolated
    *floats("LOG", 1e-3, 50),
    Case("LOG", "special", (f32(5),), (f32(5),), values={0: np.array([np.inf, 0, 1e-40, 1, 3e38])}),
    every_int8("LOG", 0.05, 0.03, zero=-128, out_zero=10),
    int16("LOG", 0.001, 0.001, 8000),  # steep below: the official interpolation is far off
    *floats("SQRT", 0, 50),
    every_int8("SQRT", 0.05, 0.03, zero=-128, out_zero=-128),
    int16("SQRT", 0.001, 0.001, 0),
    *floats("RSQRT", 1e-3, 50),
    Case("RSQRT", "int8", (i8(255, scale=0.05, zero_point=-128),), (i8(255, scale=0.03, zero_point=-128),),
         values={0: np.arange(-127, 128)}),
    int16("RSQRT", 0.001, 0.001, 8000),
    *floats("SQUARE", -100, 100),
    *floats("NEG"),
    *floats("ABS"),
    *floats("FLOOR"),
    *floats("CEIL"),
    *floats("ROUND"),
    Case("ROUND", "halves", (f32(8),), (f32(8),),
         values={0: np.array([0.5, 1.5, 2.5, -0.5, -1.5, 1e9, 8388609, 0.49999997])}),
    Case("NEG", "int32", (i32(7),), (i32(7),), values={0: np.array([0, 1, -1, 2**31 - 1, -(2**31), 5, 6])}),
    Case("NEG", "int64", (tensor(INT64, 3, 5),), (tensor(INT64, 3, 5),)),
    Case("NEG", "int16", (tensor(INT16, 3, 5),), (tensor(INT16, 3, 5),), official=False,
         reason="the installed official runtime negates no int16"),
    Case("ABS", "int32", (tensor(INT32, 5),), (tensor(INT32, 5),),
         values={0: np.array([0, 1, -1, 2**31 - 1, 1 - 2**31])}),
    Case("ABS", "plain int16", (tensor(INT16, 33),), (tensor(INT16, 33),)),
    every_int8("ABS", 0.05, 0.03, out_zero=-128),
    int16("ABS", 0.001, 0.0005),
    *floats("SIN", -30, 30),
    Case("SIN", "far", (f32(65),), (f32(65),), low=-1e5, high=1e5),
    *floats("COS", -30, 30),
    Case("PRELU", "float", (f32(2, 3, 5, 7), f32(7)), (f32(2, 3, 5, 7),), constants={1: np.linspace(-1, 2, 7)}),
    Case("PRELU", "slopes for each place", (f32(1, 3, 5, 2), f32(3, 5, 2)), (f32(1, 3, 5, 2),)),
    Case("PRELU", "one slope", (f32(1, 17), f32(1, 1)), (f32(1, 17),), constants={1: np.array([0.25])}),
    Case("PRELU", "int8", (i8(2, 5, 33, scale=0.05), i8(1, 1, 33, scale=0.01, zero_point=-4)),
         (i8(2, 5, 33, scale=0.04, zero_point=-20),)),
    Case("PRELU", "uint8", (u8(2, 5, 33, scale=0.05), u8(1, 1, 33, scale=0.01, zero_point=14)),
         (u8(2, 5, 33, scale=0.04, zero_point=100),)),
]  # fmt: skip
