"""Unary operators."""

from __future__ import annotations

import numpy as np

from lithe.types import BFLOAT16, FLOAT16, INT8, INT16, INT32, INT64
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
    name = f"int16 {scale:g} to {out:g}"
    return Case(op, name, (i16(301, scale=scale),), (i16(301, scale=out),), values={0: values}, **more)


def sixteen(op: str, *scales: float) -> list[Case]:
    """With 15 fraction bits, and with other ones, which the official kernels refuse."""
    exact = int16(op, 2e-4, 1e-4, official=False, reason="the official kernel wants 15 fraction bits")
    return [exact, *(int16(op, scale, 1 / 32768) for scale in scales)]


REAL = ("LOGISTIC", "TANH", "RELU", "RELU_N1_TO_1", "RELU6", "RELU_0_TO_1", "LEAKY_RELU", "ELU", "HARD_SWISH", "GELU",
        "EXP", "LOG", "SQRT", "RSQRT", "SQUARE", "NEG", "ABS", "FLOOR", "CEIL", "ROUND", "SIN", "COS")  # fmt: skip
OFFICIAL_BFLOAT16 = ("LOGISTIC", "TANH", "NEG", "FLOOR", "ROUND")
STORED = ("RELU_N1_TO_1", "RELU_0_TO_1", "ELU", "HARD_SWISH")  # of which the official runtime has no int16
NO_KERNEL = "the installed official runtime has no kernel for this type"


def halves(op: str) -> list[Case]:
    """Floats of 16 bits, infinities among them."""
    low = 0.1 if op in ("LOG", "SQRT", "RSQRT") else -5
    return [
        Case(op, str(d), (tensor(d, 3, 37),), (tensor(d, 3, 37),), low=low, high=5, tolerance=tolerance,
             official=op in known, reason=NO_KERNEL)
        for d, tolerance, known in (
            (FLOAT16, 2e-3, set(REAL) - {"RELU_0_TO_1"}), (BFLOAT16, 1.6e-2, OFFICIAL_BFLOAT16)
        )
    ]  # fmt: skip


def clamped(op: str, low: float) -> list[Case]:
    return [*floats(op), every_int8(op), every_int8(op, 0.1, 0.03), every_uint8(op, out=0.07),
            Case(op, "special", (f32(4),), (f32(4),), values={0: np.array([np.inf, np.nan, -0.0, low])})]  # fmt: skip


CASES = [
    *[case for op in REAL for case in halves(op)],
    *[int16(op, 0.0002, 0.0001, official=False, reason=NO_KERNEL) for op in STORED],
    *[every_uint8(op, 0.02, 0.05, zero=20, official=False, reason=NO_KERNEL)
      for op in ("EXP", "LOG", "SQRT", "RSQRT", "ABS", "ELU")],
    *floats("LOGISTIC", -20, 20),
    Case("LOGISTIC", "special", (f32(8),), (f32(8),), values={0: SPECIAL}),
    every_int8("LOGISTIC", 0.1, 1 / 256, out_zero=-128),
    every_uint8("LOGISTIC", 0.1, 1 / 256, out_zero=0),
    *sixteen("LOGISTIC", 8 / 32768, 1e-4, 0.01),
    *floats("TANH"),
    Case("TANH", "special", (f32(8),), (f32(8),), values={0: SPECIAL}),
    every_int8("TANH", 0.05, 1 / 128, out_zero=0),
    every_uint8("TANH", 0.05, 1 / 128, out_zero=128),
    *sixteen("TANH", 8 / 32768, 4 / 32768, 1e-4, 0.01),
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
    int16("GELU", 0.0002, 0.0003),
    int16("GELU", 0.0002, 0.0002, attrs={"approximate": True}),
    *floats("EXP", -20, 20),
    Case("EXP", "special", (f32(8),), (f32(8),), values={0: SPECIAL}),
    every_int8("EXP", 0.02, 0.05, zero=20, out_zero=-128),
    int16("EXP", 0.0001, 0.001, steps=0),
    int16("EXP", 0.01, 0.001, official=False, reason="undefined there: the exponential of 327 is infinite"),
    *floats("LOG", 1e-3, 50),
    Case("LOG", "special", (f32(5),), (f32(5),), values={0: np.array([np.inf, 0, 1e-40, 1, 3e38])}),
    every_int8("LOG", 0.05, 0.03, zero=-128, out_zero=10),
    int16("LOG", 0.001, 0.001, steps=0),
    *floats("SQRT", 0, 50),
    every_int8("SQRT", 0.05, 0.03, zero=-128, out_zero=-128),
    int16("SQRT", 0.001, 0.001, 0),
    *floats("RSQRT", 1e-3, 50),
    Case("RSQRT", "int8", (i8(255, scale=0.05, zero_point=-128),), (i8(255, scale=0.03, zero_point=-128),),
         values={0: np.arange(-127, 128)}),
    int16("RSQRT", 0.001, 0.001, 0, steps=0),
    Case("RSQRT", "int8 not positive", (i8(4, scale=0.05),), (i8(4, scale=0.03),), values={0: [-9, 2, 3, 4]},
         official=False, reason="an error there"),
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
    Case("NEG", "int16", (tensor(INT16, 3, 5),), (tensor(INT16, 3, 5),)),
    Case("NEG", "int8", (tensor(INT8, 256),), (tensor(INT8, 256),), values={0: EVERY_INT8}),
    Case("NEG", "quantized int8", (i8(256),), (i8(256),), values={0: EVERY_INT8}),
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
    Case("PRELU", "int16", (i16(2, 5, 33), i8(1, 1, 33, scale=0.02)), (i16(2, 5, 33, scale=0.002),)),
    Case("PRELU", "int16 slopes", (i16(2, 5, 33), i16(1, 1, 33, scale=0.0001)), (i16(2, 5, 33, scale=0.002),),
         official=False, reason="the official kernel takes int16 slopes for int8"),
    *[Case("PRELU", str(d), (tensor(d, 2, 37), tensor(d, 37)), (tensor(d, 2, 37),), tolerance=t, official=d == FLOAT16,
           reason=NO_KERNEL, constants={1: np.linspace(-1, 2, 37)}) for d, t in ((FLOAT16, 2e-3), (BFLOAT16, 1.6e-2))],
    Case("PRELU", "uint8", (u8(2, 5, 33, scale=0.05), u8(1, 1, 33, scale=0.01, zero_point=14)),
         (u8(2, 5, 33, scale=0.04, zero_point=100),)),
]  # fmt: skip
