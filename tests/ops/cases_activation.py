"""Unary operators."""

from __future__ import annotations

import numpy as np

from tests.ops.cases import Case, f32, i8, u8

CASES = [
    Case("LOGISTIC", "wide", (f32(2, 3, 5),), (f32(2, 3, 5),), low=-20, high=20),
    Case("LOGISTIC", "special", (f32(6),), (f32(6),), values={0: np.array([np.inf, -np.inf, 0, -0.0, 1e-30, 88.8])}),
    Case("LOGISTIC", "int8", (i8(256, scale=0.1),), (i8(256, scale=1 / 256, zero_point=-128),),
         values={0: np.arange(-128, 128)}),
    Case("LOGISTIC", "uint8", (u8(256, scale=0.1),), (u8(256, scale=1 / 256, zero_point=0),),
         values={0: np.arange(256)}),
]  # fmt: skip
