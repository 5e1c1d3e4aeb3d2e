"""Normalizations along the last axis."""

from __future__ import annotations

import numpy as np

from lithe.types import BFLOAT16, FLOAT16, DType
from tests.ops.cases import Case, f32, i8, i16, tensor, u8

NO_KERNEL = "the installed official runtime has no kernel for this type"


def halves(op: str, official: tuple[DType, ...]) -> list[Case]:
    return [
        Case(op, str(d), (tensor(d, 3, 37),), (tensor(d, 3, 37),), tolerance=tolerance, official=d in official,
             reason=NO_KERNEL)
        for d, tolerance in ((FLOAT16, 2e-3), (BFLOAT16, 1.6e-2))
    ]  # fmt: skip


CASES = [
    Case("SOFTMAX", "float", (f32(3, 37),), (f32(3, 37),), low=-10, high=10),
    Case("SOFTMAX", "many rows", (f32(19, 37),), (f32(19, 37),), low=-10, high=10),  # whole blocks of rows, and a part
    Case("SOFTMAX", "int8 many rows", (i8(19, 33, scale=0.1),), (i8(19, 33, scale=1 / 256, zero_point=-128),)),
    Case("SOFTMAX", "rank 1", (f32(5),), (f32(5),)),
    Case("SOFTMAX", "rank 4, beta", (f32(1, 2, 3, 5),), (f32(1, 2, 3, 5),), {"beta": 0.5}),
    Case("SOFTMAX", "large", (f32(2, 4),), (f32(2, 4),), values={0: np.array([1000, 999, -1000, 0, -3e38, 0, 1, 88])}),
    Case("SOFTMAX", "one class", (f32(4, 1),), (f32(4, 1),)),
    Case("SOFTMAX", "int8", (i8(5, 33, scale=0.1),), (i8(5, 33, scale=1 / 256, zero_point=-128),)),
    Case("SOFTMAX", "int8 many", (i8(2, 1001, scale=0.05),), (i8(2, 1001, scale=1 / 256, zero_point=-128),)),
    Case("SOFTMAX", "int8 sharp", (i8(4, 9, scale=2.0),), (i8(4, 9, scale=1 / 256, zero_point=-128),), {"beta": 0.7}),
    Case("SOFTMAX", "uint8", (u8(5, 33, scale=0.1),), (u8(5, 33, scale=1 / 256, zero_point=0),)),
    Case("SOFTMAX", "int8 to int16", (i8(5, 33, scale=0.1),), (i16(5, 33, scale=1 / 32768),)),
    Case("SOFTMAX", "uint8 to int16", (u8(5, 33, scale=0.1),), (i16(5, 33, scale=1 / 32768),)),
    *(
        Case(
            "SOFTMAX",
            f"int16 {scale:g} {beta:g}",
            (i16(5, 33, scale=scale),),
            (i16(5, 33, scale=1 / 32768),),
            {"beta": beta},
            steps=0,
        )
        for scale, beta in ((0.0005, 1.0), (1e-5, 1.0), (0.0001, 2.5), (0.01, 1.0))
    ),
    Case("SOFTMAX", "int16 many", (i16(2, 1001, scale=0.0002),), (i16(2, 1001, scale=1 / 32768),), steps=0),
    Case("SOFTMAX", "int16 one class", (i16(4, 1, scale=0.0002),), (i16(4, 1, scale=1 / 32768),), steps=0),
    Case(
        "SOFTMAX",
        "int16 coarse",
        (i16(5, 33, scale=20.0),),
        (i16(5, 33, scale=1 / 32768),),
        official=False,
        reason="undefined there: the factor overflows",
    ),
    Case(
        "SOFTMAX",
        "int16 other output",
        (i16(5, 33, scale=0.0005),),
        (i16(5, 33, scale=1 / 4096),),
        official=False,
        reason="it wants 15 fraction bits",
    ),
    Case("SOFTMAX", "negative beta", (f32(3, 7),), (f32(3, 7),), {"beta": -0.7}),
    *halves("SOFTMAX", (FLOAT16,)),
    *halves("LOG_SOFTMAX", ()),
    *halves("L2_NORMALIZATION", ()),
    Case(
        "LOG_SOFTMAX",
        "int16",
        (i16(5, 33, scale=0.0005),),
        (i16(5, 33, scale=1 / 1024),),
        official=False,
        reason=NO_KERNEL,
    ),
    Case("LOG_SOFTMAX", "float", (f32(3, 37),), (f32(3, 37),), low=-10, high=10),
    Case("LOG_SOFTMAX", "rank 1", (f32(5),), (f32(5),)),
    Case("LOG_SOFTMAX", "int8", (i8(5, 33, scale=0.1),), (i8(5, 33, scale=16 / 256, zero_point=127),)),
    Case("LOG_SOFTMAX", "uint8", (u8(5, 33, scale=0.1),), (u8(5, 33, scale=16 / 256, zero_point=255),)),
    Case("L2_NORMALIZATION", "float", (f32(3, 37),), (f32(3, 37),)),
    Case("L2_NORMALIZATION", "zero", (f32(2, 5),), (f32(2, 5),), values={0: np.zeros(10)}),
    Case("L2_NORMALIZATION", "int8", (i8(3, 33, zero_point=0),), (i8(3, 33, scale=1 / 128, zero_point=0),)),
    Case("L2_NORMALIZATION", "uint8", (u8(3, 33),), (u8(3, 33, scale=1 / 128, zero_point=128),)),
]
