"""StableHLO elementwise operators; complex numbers and the Fourier transform."""

from __future__ import annotations

import numpy as np

from lithe.types import BOOL
from tests.ops.cases import Case, f32, i32, tensor
from tests.ops.cases_shape import ints, kind

NO_KERNEL = {"official": False, "reason": "the official runtime has no kernel of it"}
COMPLEX = np.array([3 - 4j, 0, -1.5 + 2j, 1e-3j, -7, 2 + 0.25j])
PAIRS = ("float32", "int16", "int32", "int64")


def pair(op: str, name: str, **more: object) -> Case:
    return Case(f"STABLEHLO_{op}", name, (kind(name, 3, 7),) * 2, (kind(name, 3, 7),), **more)


CASES = [
    *(pair(op, n) for op in ("ADD", "MULTIPLY", "MAXIMUM", "MINIMUM") for n in PAIRS),
    *(pair("SUBTRACT", n, **NO_KERNEL) for n in PAIRS),
    *(pair(op, n, low=1, high=4, tolerance=1e-4, **NO_KERNEL)
      for op in ("DIVIDE", "POWER") for n in ("float32", "int32")),
    *(Case(f"STABLEHLO_{op}", "float32", (f32(3, 7),), (f32(3, 7),), low=0.1, tolerance=1e-4, **NO_KERNEL)
      for op in ("LOGISTIC", "COSINE", "EXPONENTIAL", "FLOOR", "LOG", "RSQRT", "TANH")),
    *(Case(f"STABLEHLO_{op}", n, (kind(n, 3, 7),), (kind(n, 3, 7),), **NO_KERNEL)
      for op in ("ABS", "NEGATE") for n in ("float32", "int32")),
    *(Case("STABLEHLO_SELECT", n, (tensor(BOOL, 3, 7), kind(n, 3, 7), kind(n, 3, 7)), (kind(n, 3, 7),), **NO_KERNEL)
      for n in ("float32", "int8", "uint8", "int16", "int32", "int64", "bool")),
    Case("STABLEHLO_SELECT", "scalar", (tensor(BOOL), f32(5), f32(5)), (f32(5),), **NO_KERNEL),
    *(Case(op, f"complex{2 * n}", (kind(f"complex{2 * n}", 2, 3),), (kind(f"float{n}", 2, 3),), values={0: COMPLEX})
      for op in ("REAL", "IMAG", "COMPLEX_ABS") for n in (32, 64)),
    Case("RFFT2D", "whole", (f32(2, 4, 8), i32(2)), (kind("complex64", 2, 4, 5),), constants={1: ints(4, 8)}),
    Case("RFFT2D", "filled and cut", (f32(3, 12), i32(2)), (kind("complex64", 4, 5),), constants={1: ints(4, 8)}),
]  # fmt: skip
