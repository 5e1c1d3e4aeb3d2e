"""Comparisons, logic, choices."""

from __future__ import annotations

import numpy as np

from lithe.ops.layout import PLAIN
from lithe.types import BFLOAT16, BOOL, DTYPES, FLOAT16, INT8, INT16, INT32, INT64, STRING, UINT8
from tests.ops.cases import Case, f32, i8, i16, i32, tensor, u8

COMPARISONS = ("EQUAL", "NOT_EQUAL", "LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL")
LOGIC = ("LOGICAL_AND", "LOGICAL_OR")
NARROW = np.random.default_rng(1).integers(-2, 3, (2, 21))


def boolean(*shape: int) -> object:
    return tensor(BOOL, *shape)


def compared(op: str) -> list[Case]:
    few = {0: NARROW[0], 1: NARROW[1]}
    special = {0: np.array([np.inf, np.nan, 0, -0.0, 1]), 1: np.array([np.inf, np.nan, -0.0, 0, np.nan])}
    return [
        Case(op, "float", (f32(21), f32(21)), (boolean(21),), values=few),
        Case(op, "float special", (f32(5), f32(5)), (boolean(5),), values=special),
        Case(op, "broadcast", (i32(4, 1, 3), i32(5, 1)), (boolean(4, 5, 3),), low=-3, high=3),
        Case(op, "int64", (tensor(INT64, 21), tensor(INT64, 21)), (boolean(21),), values=few),
        Case(op, "int16", (tensor(INT16, 21), tensor(INT16, 21)), (boolean(21),), values=few),
        Case(op, "plain int8", (tensor(INT8, 21), tensor(INT8, 21)), (boolean(21),), values=few, official=False,
             reason="the official kernel reads a scale that is not there"),
        Case(op, "plain uint8", (tensor(UINT8, 21), tensor(UINT8, 21)), (boolean(21),), low=0, high=3, official=False,
             reason="the official kernel reads a scale that is not there"),
        Case(op, "int8", (i8(21), i8(21)), (boolean(21),), values=few),
        Case(op, "int8 other scales", (i8(30, 65, scale=0.031), i8(65, scale=0.052)), (boolean(30, 65),), steps=0),
        Case(op, "int8 small scales", (i8(30, 65, scale=0.0011), i8(65, scale=0.0012)), (boolean(30, 65),), steps=0),
        Case(op, "int8 large scales", (i8(65, scale=1.5), i8(65, scale=3.0)), (boolean(65),), official=False,
             reason="undefined there: a shift by a negative count"),
        Case(op, "uint8", (u8(30, 65), u8(65)), (boolean(30, 65),), steps=0),
        Case(op, "quantized int16", (i16(21, scale=0.0005), i16(21, scale=0.0008)), (boolean(21),), values=few,
             steps=0),
        Case(op, "int32", (tensor(INT32, 21, scale=0.1), tensor(INT32, 21, scale=0.5)), (boolean(21),), values=few,
             steps=0),
        *[Case(op, str(d), (tensor(d, 21), tensor(d, 21)), (boolean(21),), values=few, steps=0,
               official=d == FLOAT16 or op in ("LESS", "GREATER"), reason="the official kernel does not take this type")
          for d in (FLOAT16, BFLOAT16)],
    ]  # fmt: skip


TYPED = [DTYPES[name] for name in PLAIN.split()]
REFUSED = {"float8_e4m3fn", "float8_e5m2", "int2", "int4", "uint4", "complex128", "string"}


def chosen(op: str) -> list[Case]:
    reason = "the official kernel does not take this type"
    return [
        Case(op, str(d), (boolean(3, 7), tensor(d, 3, 7), tensor(d, 3, 7)), (tensor(d, 3, 7),),
             official=d.name not in REFUSED, reason=reason)
        for d in TYPED
    ]  # fmt: skip


CASES = [
    *[case for op in COMPARISONS for case in compared(op)],
    *[Case(op, "bool", (boolean(33), boolean(33)), (boolean(33),)) for op in COMPARISONS[:2]],
    *[Case(op, "string", (tensor(STRING, 3, 9), tensor(STRING, 9)), (boolean(3, 9),), steps=0)
      for op in COMPARISONS[:2]],
    *[Case(op, "same shape", (boolean(33), boolean(33)), (boolean(33),)) for op in LOGIC],
    *[Case(op, "broadcast", (boolean(2, 1, 5), boolean(3, 1)), (boolean(2, 3, 5),)) for op in LOGIC],
    Case("LOGICAL_NOT", "plain", (boolean(3, 11),), (boolean(3, 11),)),
    *chosen("SELECT"),
    *chosen("SELECT_V2"),
    Case("SELECT", "rows", (boolean(4), f32(4, 3, 5), f32(4, 3, 5)), (f32(4, 3, 5),)),
    Case("SELECT", "scalar", (boolean(), f32(4, 3), f32(4, 3)), (f32(4, 3),)),
    Case("SELECT_V2", "broadcast", (boolean(4, 1), f32(1, 5), f32(3, 1, 1)), (f32(3, 4, 5),)),
    Case("SELECT_V2", "scalar", (boolean(), f32(5), f32()), (f32(5),)),
    *[Case(op, "scalars", (boolean(), f32(), f32()), (f32(),)) for op in ("SELECT", "SELECT_V2")],
]  # fmt: skip
