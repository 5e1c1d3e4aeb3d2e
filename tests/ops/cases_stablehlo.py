"""StableHLO elementwise operators; complex numbers and the Fourier transform."""

from __future__ import annotations

import numpy as np

from lithe.ops.cast import NUMBERS
from lithe.ops.stablehlo.elementwise import DIRECTION, DIRECTIONS, FLOATS, SIGNED, TOTAL, UNSIGNED
from lithe.types import BOOL
from tests.ops.cases import Case, f32, i32, tensor
from tests.ops.cases_shape import ints, kind

NO_KERNEL = {"official": False, "reason": "the official runtime has no kernel of it; test_stablehlo.py has examples"}
COMPLEX = np.array([3 - 4j, 0, -1.5 + 2j, 1e-3j, -7, 2 + 0.25j])
INTEGERS = f"{SIGNED} {UNSIGNED}".split()
PAIRS = f"{FLOATS} {SIGNED} {UNSIGNED}".split()
REFUSED = ("bfloat16",)  # by the official kernels
SPECIAL = np.array([0.0, -0.0, 1.5, -1.5, np.inf, -np.inf, np.nan, -np.nan, 3e4, 1e-5])


def near(name: str) -> float:
    """Half floats keep three digits, and computing with float32 or float64 may round them another way."""
    return {"float16": 1.5e-3, "bfloat16": 1e-2}.get(name, 1e-4)


def pair(op: str, name: str, **more: object) -> Case:
    return Case(f"STABLEHLO_{op}", name, (kind(name, 3, 7),) * 2, (kind(name, 3, 7),), tolerance=near(name), **more)


def known(op: str, name: str, types: tuple[str, ...] = ()) -> dict:
    if name in REFUSED or (types and name not in types):
        return {"official": False, "reason": "the official kernel does not take this type"}
    return {"steps": 0}


def of_two(op: str, name: str) -> dict:
    """Divisors that are not 0 and exponents that are small and not negative."""
    low, high = {"DIVIDE": (1, 9), "REMAINDER": (1, 9), "POWER": (0, 4)}[op]
    return {"low": max(low, 0.5) if name in FLOATS.split() else low, "high": high}


CASES = [
    *(pair(op, n, **known(op, n)) for op in ("ADD", "MULTIPLY", "MAXIMUM", "MINIMUM") for n in (*PAIRS, "bool")),
    *(Case(f"STABLEHLO_{op}", "not a number", (f32(3), f32(3)), (f32(3),), values={0: np.array([np.nan, 1, np.nan]),
           1: np.array([1, np.nan, np.nan])}, official=False, reason="the official kernel loses NaN on the right")
      for op in ("MAXIMUM", "MINIMUM")),
    *(pair("AND", n, **known("AND", n)) for n in (*INTEGERS, "bool")),
    *(pair("OR", n, **NO_KERNEL) for n in (*INTEGERS, "bool")),
    *(pair("SUBTRACT", n, **NO_KERNEL) for n in PAIRS),
    *(pair(op, n, **of_two(op, n), **NO_KERNEL) for op in ("DIVIDE", "REMAINDER", "POWER") for n in PAIRS),
    Case("STABLEHLO_DIVIDE", "signs", (i32(4), i32(4)), (i32(4),), values={0: ints(17, -17, 17, -17),
         1: ints(3, 3, -3, -3)}, **NO_KERNEL),
    Case("STABLEHLO_REMAINDER", "signs", (i32(4), i32(4)), (i32(4),), values={0: ints(17, -17, 17, -17),
         1: ints(3, 3, -3, -3)}, **NO_KERNEL),
    Case("STABLEHLO_REMAINDER", "signs of floats", (f32(4), f32(4)), (f32(4),),
         values={0: np.array([17.1, -17.1, 17.1, -17.1]), 1: np.array([3, 3, -3, -3])}, **NO_KERNEL),
    *(pair("SHIFT_LEFT", n, low=0, high=7, **known("SHIFT_LEFT", n, ("int8", "int16", "int32"))) for n in INTEGERS),
    Case("STABLEHLO_SHIFT_LEFT", "too far", (i32(5), i32(5)), (i32(5),), values={1: ints(31, 32, -1, 100, -100)},
         **NO_KERNEL),
    *(Case(f"STABLEHLO_{op}", n, (kind(n, 3, 7),), (kind(n, 3, 7),), low=0.1, tolerance=near(n), **NO_KERNEL)
      for op in ("LOGISTIC", "COSINE", "EXPONENTIAL", "FLOOR", "LOG", "RSQRT", "TANH", "CBRT") for n in FLOATS.split()),
    Case("STABLEHLO_CBRT", "negative", (f32(5),), (f32(5),), values={0: np.array([-27, -0.001, 0, 1e-44, -np.inf])},
         **NO_KERNEL),
    *(Case("STABLEHLO_ABS", n, (kind(n, 3, 7),), (kind(n, 3, 7),), **NO_KERNEL)
      for n in f"{FLOATS} {SIGNED}".split()),
    *(Case("STABLEHLO_NEGATE", n, (kind(n, 3, 7),), (kind(n, 3, 7),), **NO_KERNEL) for n in PAIRS),
    *(Case("STABLEHLO_SELECT", n, (tensor(BOOL, 3, 7), kind(n, 3, 7), kind(n, 3, 7)), (kind(n, 3, 7),), **NO_KERNEL)
      for n in NUMBERS.split()),
    *(Case("STABLEHLO_SELECT", f"bool {n}", (tensor(BOOL), kind(n, 5), kind(n, 5)), (kind(n, 5),), **NO_KERNEL)
      for n in ("float32", "int8")),
    *(Case("STABLEHLO_CLAMP", n, (kind(n), kind(n, 3, 7), kind(n, 3, 7)), (kind(n, 3, 7),), values={0: 2}, **NO_KERNEL)
      for n in PAIRS),
    *(Case("STABLEHLO_COMPARE", n, (kind(n, 3, 7),) * 2, (tensor(BOOL, 3, 7),), high=2, low=-2,
           attrs={"comparison_direction": f"{DIRECTION}GE"}, **NO_KERNEL) for n in (*PAIRS, "bool")),
    *(Case("STABLEHLO_COMPARE", f"{direction} {order}", (f32(10, 1), f32(10, 1)), (tensor(BOOL, 10, 1),),
           {"comparison_direction": DIRECTION + direction} | ({"compare_type": TOTAL} if order == "total" else {}),
           values={0: SPECIAL, 1: SPECIAL[[1, 0, 2, 3, 5, 4, 7, 6, 9, 8]]}, **NO_KERNEL)
      for direction in DIRECTIONS for order in ("plain", "total")),
    *(Case("STABLEHLO_COMPARE", f"total order of {n}", (kind(n, 10), kind(n, 10)), (tensor(BOOL, 10),),
           {"comparison_direction": f"{DIRECTION}LT", "compare_type": TOTAL},
           values={0: SPECIAL, 1: SPECIAL[[1, 0, 2, 3, 5, 4, 7, 6, 9, 8]]}, **NO_KERNEL)
      for n in ("float16", "bfloat16", "float64")),
    Case("STABLEHLO_COMPARE", "scalars", (f32(), f32()), (tensor(BOOL),), **NO_KERNEL),
    *(Case("STABLEHLO_CONVERT", f"{a} to {b}", (kind(a, 7),), (kind(b, 7),), low=0, high=90, tolerance=near("bfloat16"),
           **NO_KERNEL) for a, b in ((n, "float32" if n == "int8" else "int8") for n in NUMBERS.split())),
    Case("STABLEHLO_CONVERT", "to complex", (f32(3),), (kind("complex64", 3),), **NO_KERNEL),
    *(Case("STABLEHLO_CONVERT", f"from complex{n}", (kind(f"complex{n}", 6),), (f32(6),), values={0: COMPLEX},
           **NO_KERNEL) for n in (64, 128)),
    *(Case(op, f"complex{2 * n}", (kind(f"complex{2 * n}", 2, 3),), (kind(f"float{n}", 2, 3),), values={0: COMPLEX})
      for op in ("REAL", "IMAG", "COMPLEX_ABS") for n in (32, 64)),
    Case("RFFT2D", "whole", (f32(2, 4, 8), i32(2)), (kind("complex64", 2, 4, 5),), constants={1: ints(4, 8)}),
    Case("RFFT2D", "filled and cut", (f32(3, 12), i32(2)), (kind("complex64", 4, 5),), constants={1: ints(4, 8)}),
]  # fmt: skip
