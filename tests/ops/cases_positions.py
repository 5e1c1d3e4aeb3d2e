"""Sums, signs, bits, diagonals, and places given by data."""

from __future__ import annotations

import numpy as np

from lithe.ops.bits import CASTABLE
from lithe.types import DTYPES, INT32, INT64
from tests.ops.cases import Case, f32, i8, i32, tensor
from tests.ops.cases_shape import ANY, each_type, ints, kind

INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32")
MATRICES = ("float32", "int8", "uint8", "int16", "int32", "int64")
REVERSED = ("float32", "uint8", "int16", "int32", "int64")
DENSE = ("float32", "int8", "uint8", "int32", "int64")
NAN, INF = float("nan"), float("inf")
FLOATS_OF_8_BITS = ("float8_e4m3fn", "float8_e5m2")
SHIFTS = ints(0, 1, 3, 7, 40, 15, dtype=INT64)


UNTAKEN = "the official kernel does not take this type"


def cast_to(name: str) -> str:
    """A type of another kind and the same size."""
    size = DTYPES[name].bits
    return f"uint{size}" if name != f"uint{size}" else f"int{size}"


CASES = [
    Case("ADD_N", "float32", (f32(3, 5),) * 3, (f32(3, 5),)),
    Case("ADD_N", "int32", (i32(3, 5),) * 2, (i32(3, 5),)),
    *(Case("ADD_N", n, (kind(n, 37),) * m, (kind(n, 37),), official=False, reason=UNTAKEN, tolerance=t)
      for n, m, t in (("float16", 11, 2e-3), ("bfloat16", 3, 1.6e-2))),
    Case("ADD_N", "int8", (i8(65), i8(65, scale=0.02), i8(65, zero_point=-9)), (i8(65, scale=0.1),), official=False,
         reason="the micro runtime alone has it"),
    *(Case("CUMSUM", f"{n} {e}", (kind(n, 2, 5, 3), i32()), (kind(n, 2, 5, 3),), {"exclusive": e}, constants={1: 1},
           official=False, reason=UNTAKEN, tolerance=t) for n, t in (("float16", 2e-3), ("bfloat16", 1.6e-2))
      for e in (False, True)),
    *(Case("CUMSUM", f"int8 {e} {r}", (i8(2, 5, 3), i32()), (i8(2, 5, 3, scale=0.11),), {"exclusive": e, "reverse": r},
           constants={1: 1}, official=False, reason="the micro runtime alone has it")
      for e in (False, True) for r in (False, True)),
    Case("ADD_N", "many", (f32(37),) * 21, (f32(37),)),
    Case("SIGN", "float32", (f32(7),), (f32(7),), values={0: np.array([0.0, -0.0, 2, -3, INF, -INF, 1e-40])}),
    Case("SIGN", "float64", (kind("float64", 2, 5),), (kind("float64", 2, 5),)),
    *(Case("SIGN", n, (kind(n, 7),), (kind(n, 7),), official=False, reason="the official kernel has no such type")
      for n in ("float16", "bfloat16")),
    *(Case("ATAN2", n, (kind(n, 99),) * 2, (kind(n, 99),), tolerance=t)
      for n, t in (("float16", 1e-3), ("bfloat16", 8e-3))),
    Case("ATAN2", "float64", (kind("float64", 300),) * 2, (kind("float64", 300),), tolerance=1e-15),
    Case("SIGN", "int32", (i32(3, 5),), (i32(3, 5),), low=-2, high=2),
    Case("ATAN2", "float32", (f32(500), f32(500)), (f32(500),), tolerance=1e-6),
    Case("ATAN2", "special values", (f32(64), f32(64)), (f32(64),),
         values=dict(enumerate(np.meshgrid(*[[0.0, -0.0, 1, -1, INF, -INF, 1e-20, NAN]] * 2)))),
    *(Case("BITWISE_XOR", n, (kind(n, 3, 4),) * 2, (kind(n, 3, 4),), steps=0) for n in INTEGERS),
    Case("BITWISE_XOR", "broadcast", (i32(3, 4), i32(4)), (i32(3, 4),), steps=0),
    *(Case("RIGHT_SHIFT", n, (kind(n, 2, 6), kind(n, 2, 6)), (kind(n, 2, 6),), steps=0,
           values={1: np.array([[0, 1, 3, 7, 40, 15], [2, 8, 31, 4, 5, 100]])}) for n in INTEGERS),
    Case("RIGHT_SHIFT", "negative", (i32(4), i32(4)), (i32(4),), values={1: ints(-1, -9, 2, 3)}, steps=0),
    *(Case("BITCAST", n, (kind(n, 3, 5),), (kind(cast_to(n), 3, 5),), low=1, high=100, steps=0)
      for n in CASTABLE.split() if n != "complex128"),
    *(Case("BITCAST", f"uint8 to {n}", (kind("uint8", 3, 5, DTYPES[n].bytes),), (kind(n, 3, 5),), steps=0,
           values={0: np.arange(15 * DTYPES[n].bytes) % 100 + 20}) for n in ("bfloat16", "complex64", "complex128")),
    *(case for n in FLOATS_OF_8_BITS for case in (
        Case("BITCAST", f"uint8 to {n}", (kind("uint8", 3, 5),), (kind(n, 3, 5),), values={0: np.arange(15) * 17}),
        Case("BITCAST", f"{n} to words", (kind(n, 3, 4),), (kind("int32", 3),), steps=0))),
    Case("BITCAST", "uint8 to bool", (kind("uint8", 3, 5),), (kind("bool", 3, 5),), low=0, high=1, steps=0),
    Case("BITCAST", "complex128", (kind("complex128", 3, 5),), (kind("float64", 3, 5, 2),)),
    Case("BITCAST", "to bytes", (f32(3, 5),), (kind("uint8", 3, 5, 4),), steps=0),
    Case("BITCAST", "to words", (kind("int16", 3, 4),), (kind("int64", 3),), steps=0),
    *(Case("CUMSUM", f"{n} {e} {r}", (kind(n, 2, 5, 3), i32()), (kind(n, 2, 5, 3),), {"exclusive": e, "reverse": r},
           constants={1: 1}) for n in ("float32", "int32", "int64") for e in (False, True) for r in (False, True)),
    Case("CUMSUM", "axis at run time", (f32(3, 6), i32()), (f32(3, 6),), values={1: -1}),
    Case("CUMSUM", "last axis", (f32(3, 6), i32(1)), (f32(3, 6),), constants={1: ints(-1)}),
    *(case for i in (INT32, INT64) for case in
      each_type("REVERSE_SEQUENCE", ((3, 2, 5), tensor(i, 3)), ((3, 2, 5),), REVERSED, suffix=f" {i}",
                attrs={"seq_dim": 2, "batch_dim": 0}, values={1: ints(2, 5, 1)})),
    Case("REVERSE_SEQUENCE", "first axis", (f32(4, 3, 2), i32(3)), (f32(4, 3, 2),), {"seq_dim": 0, "batch_dim": 1},
         constants={1: ints(4, 1, 3)}),
    *each_type("DYNAMIC_UPDATE_SLICE", ((4, 6), (2, 3), i32(2)), ((4, 6),), ANY[:-1], values={2: ints(1, 2)}),
    Case("DYNAMIC_UPDATE_SLICE", "clamped", (f32(4, 6), f32(2, 3), i32(2)), (f32(4, 6),), values={2: ints(9, -4)}),
    Case("DYNAMIC_UPDATE_SLICE", "int64 start", (f32(5), f32(2), kind("int64", 1)), (f32(5),), values={2: ints(3)}),
    *each_type("MATRIX_DIAG", ((2, 3),), ((2, 3, 3),), MATRICES),
    *each_type("MATRIX_SET_DIAG", ((2, 3, 4), (2, 3)), ((2, 3, 4),), MATRICES),
    Case("MATRIX_SET_DIAG", "tall", (f32(5, 3), f32(3)), (f32(5, 3),)),
    *(case for i in (INT32, INT64) for case in
      each_type("SPARSE_TO_DENSE", (tensor(i, 3, 2), tensor(i, 2), (3,), ()), ((3, 4),), DENSE, suffix=f" {i}",
                constants={1: ints(3, 4)}, values={0: ints(0, 1, 1, 3, 2, 0)})),
    Case("SPARSE_TO_DENSE", "one value", (i32(3), i32(1), f32(), f32()), (f32(7),), constants={1: ints(7)},
         values={0: ints(1, 4, 6)}),
    Case("SPARSE_TO_DENSE", "one place", (i32(), i32(1), f32(), f32()), (f32(5),), constants={0: 3, 1: ints(5)}),
    *(Case("BUCKETIZE", n, (kind(n, 4, 6),), (i32(4, 6),), {"boundaries": (-2.0, 0.0, 1.5, 10.0)}, steps=0)
      for n in ("float32", "float64", "int32", "int64")),
    Case("BUCKETIZE", "at boundaries", (f32(5),), (tensor(INT32, 5),), {"boundaries": (-1.0, 0.0, 0.0, 2.0)},
         values={0: np.array([-1, 0, 2, INF, NAN])}, steps=0),
]  # fmt: skip
