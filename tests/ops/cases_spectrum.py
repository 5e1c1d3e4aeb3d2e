"""Fourier transforms of pictures, and parts of complex numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from lithe.types import COMPLEX64
from tests.ops.cases import Case, f32, i32, tensor


def transform(name: str, x: tuple[int, ...], rows: int, columns: int, **more: Any) -> Case:
    shape = (*x[:-2], rows, columns // 2 + 1)
    return Case("RFFT2D", name, (f32(*x), i32(2)), (tensor(COMPLEX64, *shape),),
                constants={1: np.array([rows, columns])}, **more)  # fmt: skip


SINGLE = {"official": False, "reason": "the official kernel gives a row of one number an imaginary part"}
LARGE = np.array([3e38 + 3e38j, 1e-30 - 1e-30j, np.inf + 1j, -np.inf - np.inf * 1j, 0, 3 + 4j, -5, 1e30j, 1e-40])
BROKEN = np.array([complex(np.nan, 1), complex(1, np.nan), complex(np.nan, np.nan), complex(np.inf, np.nan),
                   complex(np.nan, -np.inf)])  # fmt: skip

CASES = [
    transform("one row", (3, 1, 512), 1, 512),
    transform("square", (2, 16, 16), 16, 16),
    transform("more rows than there are", (2, 3, 30), 8, 32),
    transform("fewer", (5, 9), 2, 4),
    transform("shortest rows", (4, 3), 4, 2),
    transform("columns alone", (2, 8, 3), 8, 1, **SINGLE),
    transform("one element", (2, 2), 1, 1, **SINGLE),
    Case("COMPLEX_ABS", "far apart", (tensor(COMPLEX64, 9),), (f32(9),), values={0: LARGE}),
    Case("COMPLEX_ABS", "not a number", (tensor(COMPLEX64, 5),), (f32(5),), values={0: BROKEN}),
    Case("REAL", "not a number", (tensor(COMPLEX64, 5),), (f32(5),), values={0: BROKEN}),
    Case("IMAG", "pictures", (tensor(COMPLEX64, 2, 3),), (f32(2, 3),), low=-5, high=5),
]
