"""The greatest elements, reductions by segment, and what is found in data."""

from __future__ import annotations

import numpy as np

from lithe.types import DTYPES
from tests.ops.cases import Case, f32, i32
from tests.ops.cases_shape import ints, kind

ORDERED = ("float32", "int8", "uint8", "int16", "int32", "int64")
IDS = ints(1, 0, 3, 1, -1, 3)
LOCAL = {"radius": 2, "bias": 1.5, "alpha": 0.3, "beta": 0.75}

CASES = [
    *(Case("TOPK_V2", n, (kind(n, 3, 11), i32()), (kind(n, 3, 4), i32(3, 4)), constants={1: 4}, low=0, high=9, steps=0)
      for n in ORDERED),
    *(Case("TOPK_V2", f"few of many {n}", (kind(n, 2, 90), i32()), (kind(n, 2, 4), i32(2, 4)), constants={1: 4}, low=0,
           high=9, steps=0) for n in ("float32", "int8")),
    Case("TOPK_V2", "all of one row", (f32(9), i32(1)), (f32(9), i32(9)), constants={1: ints(9)}),
    Case("TOPK_V2", "int16 k", (f32(2, 9), kind("int16")), (f32(2, 3), kind("int16", 2, 3)), constants={1: 3}),
    Case("TOPK_V2", "not a number", (f32(5), i32()), (f32(5), i32(5)), constants={1: 5}, official=False,
         reason="the order of NaN is undefined there", values={0: np.array([1, np.nan, -np.inf, np.nan, 2])}),
    *(Case("SEGMENT_SUM", n, (kind(n, 5, 3), i32(5)), (kind(n, 3, 3),), constants={1: ints(0, 0, 1, 2, 2)})
      for n in ("float32", "int32")),
    *(Case(f"UNSORTED_SEGMENT_{o}", n, (kind(n, 6, 3), i32(6), i32()), (kind(n, 5, 3),), constants={2: 5},
           values={1: IDS}, low=-9, high=9) for o in ("SUM", "PROD", "MAX", "MIN") for n in ("float32", "int32")),
    Case("UNSORTED_SEGMENT_SUM", "two axes", (f32(2, 3, 4), i32(2, 3), i32()), (f32(4, 4),), constants={1: IDS, 2: 4}),
    Case("LOCAL_RESPONSE_NORMALIZATION", "float32", (f32(1, 3, 2, 9),), (f32(1, 3, 2, 9),), LOCAL, tolerance=1e-4),
    Case("LOCAL_RESPONSE_NORMALIZATION", "wide", (f32(1, 2, 2, 3),), (f32(1, 2, 2, 3),), {"radius": 50},
         tolerance=1e-4),
    *(Case("WHERE", n, (kind(n, 2, 3),), (kind("int64", 4, 2),), values={0: ints(1, 0, 1, 1, 0, 1)}, steps=0)
      for n in ("float32", "int8", "uint8", "int32", "uint32", "int64", "bool")),
    *(Case("WHERE", n, (kind(n, 2, 3),), (kind("int64", 4, 2),), values={0: ints(1, 0, 1, 1, 0, 1)}, official=False,
           reason="the official kernel does not take this type")
      for n in ("float16", "bfloat16", "float64", "int16", "uint16", "uint64")),
    *(Case("UNIQUE", f"{n} {i}", (kind(n, 6),), (kind(n, 4), kind(i, 6)), {"idx_out_type": DTYPES[i]}, steps=0,
           values={0: ints(7, 3, 7, 9, 3, 1)}) for n in ORDERED for i in ("int32", "int64")),
]  # fmt: skip
