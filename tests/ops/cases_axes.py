"""Tensors of six axes and more."""

from __future__ import annotations

import numpy as np

from tests.ops.cases import Case, f32, i32
from tests.ops.cases_shape import ints

SIX = f32(2, 1, 2, 3, 2, 2)
CONTIGUOUS = "the official kernel reverses neighbouring axes only"

CASES = [
    Case("BROADCAST_TO", "eight axes", (f32(2, 1, 2, 1, 1, 2, 1, 3), i32(8)), (f32(2, 2, 2, 2, 1, 2, 2, 3),),
         constants={1: ints(2, 2, 2, 2, 1, 2, 2, 3)}),
    Case("TRANSPOSE", "seven axes", (f32(2, 1, 2, 3, 1, 2, 2), i32(7)), (f32(2, 2, 1, 3, 2, 1, 2),),
         constants={1: ints(6, 5, 4, 3, 2, 1, 0)}),
    Case("SLICE", "six axes", (SIX, i32(6), i32(6)), (f32(1, 1, 1, 2, 1, 1),),
         constants={1: ints(1, 0, 1, 1, 1, 1), 2: ints(1, 1, 1, 2, 1, 1)}),
    Case("STRIDED_SLICE", "six axes", (SIX, i32(6), i32(6), i32(6)), (f32(1, 1, 1, 2, 2, 1),),
         constants={1: ints(1, 0, 1, 1, 1, 1), 2: ints(2, 1, 2, 3, -3, 2), 3: ints(1, 1, 1, 1, -1, 1)}),
    Case("PAD", "six axes", (SIX, i32(6, 2)), (f32(2, 2, 2, 4, 2, 3),),
         constants={1: np.array([[0, 0], [0, 1], [0, 0], [1, 0], [0, 0], [0, 1]])}),
    Case("MIRROR_PAD", "six axes", (SIX, i32(6, 2)), (f32(2, 1, 3, 3, 3, 3),),
         constants={1: np.array([[0, 0], [0, 0], [1, 0], [0, 0], [1, 0], [0, 1]])}),
    Case("TILE", "six axes", (SIX, i32(6)), (f32(2, 2, 2, 3, 4, 2),), constants={1: ints(1, 2, 1, 1, 2, 1)}),
    Case("CONCATENATION", "six axes", (SIX, SIX), (f32(2, 1, 2, 3, 4, 2),), {"axis": 4}),
    Case("PACK", "six axes", (SIX, SIX), (f32(2, 1, 2, 2, 3, 2, 2),), {"axis": 3, "values_count": 2}),
    Case("UNPACK", "six axes", (SIX,), (f32(2, 1, 2, 2, 2),) * 3, {"axis": 3, "num": 3}),
    Case("GATHER", "six axes", (SIX, i32(2)), (f32(2, 1, 2, 2, 2, 2),), {"axis": 3}, values={1: ints(2, 0)}),
    Case("REVERSE_V2", "eight axes", (f32(2, 1, 2, 3, 2, 2, 1, 2), i32(2)), (f32(2, 1, 2, 3, 2, 2, 1, 2),),
         constants={1: ints(3, 4)}),
    Case("REVERSE_V2", "axes apart", (f32(2, 3, 2), i32(2)), (f32(2, 3, 2),), constants={1: ints(0, 2)},
         official=False, reason=CONTIGUOUS),
]  # fmt: skip
