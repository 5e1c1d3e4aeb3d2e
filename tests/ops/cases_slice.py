"""Boxes out of tensors, borders around them, and elements by index."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lithe.types import FLOAT16, FLOAT32, INT2, INT4, INT8, UINT8, Quantization, TensorType
from tests.ops.cases import Case, f32, i8, i16, i32, per_channel, tensor, u8
from tests.ops.cases_shape import ANY, HALVES, SIZED, USUAL, each_type, ints, kind


def strided(name: str, shape: tuple, result: tuple, begin: tuple, end: tuple, step: tuple, **attrs: object) -> Case:
    n = len(begin)
    return Case("STRIDED_SLICE", name, (f32(*shape), i32(n), i32(n), i32(n)), (f32(*result),), attrs,
                {1: ints(*begin), 2: ints(*end), 3: ints(*step)})  # fmt: skip


NO_HALVES = "the official kernel does not take these types"
BLOCKS = Quantization(tuple(2.0**-n for n in range(8)), (0,) * 8, 0, 32)
SMALL = np.array([[1, 0], [2, 0]])
BORDER = np.array([[0, 0], [1, 2], [3, 0]])
SCATTERED = ("float32", "int8", "uint8", "int32", "int64", "bool")
CASES = [
    *each_type("SLICE", ((3, 4, 5), i32(3), i32(3)), ((2, 4, 3),), (*SIZED, "string"),
               constants={1: ints(1, 0, 2), 2: ints(2, -1, 3)}),
    Case("SLICE", "int64 bounds", (f32(3, 4), kind("int64", 2), kind("int64", 2)), (f32(1, 3),),
         constants={1: ints(2, 1), 2: ints(1, 3)}),
    Case("SLICE", "begin at run time", (f32(3, 4), i32(2), i32(2)), (f32(2, 3),),
         values={1: ints(1, 1)}, constants={2: ints(2, 3)}),
    *each_type("STRIDED_SLICE", ((4, 5), i32(2), i32(2), i32(2)), ((2, 2),), (*SIZED, "string"),
               constants={1: ints(0, 1), 2: ints(4, 4), 3: ints(2, 2)}),
    strided("backwards", (4, 5), (2, 5), (3, -1), (0, -6), (-2, -1)),
    strided("backwards over masks", (4, 5), (4, 3), (0, 0), (0, 0), (-1, -2), begin_mask=3, end_mask=3),
    strided("shrink", (4, 5, 6), (5,), (1, 0, -2), (2, 5, 0), (1, 1, 1), shrink_axis_mask=5),
    strided("new axis", (4, 5), (4, 1, 2), (0, 0, 1), (4, 0, 3), (1, 1, 1), new_axis_mask=2),
    strided("ellipsis", (2, 3, 4, 5), (2, 3, 4, 2), (0, 0, 3), (2, 0, 5), (1, 1, 1), ellipsis_mask=2),
    replace(strided("ellipsis for nothing", (4, 5), (4, 3), (0, 0, 1), (4, 0, 4), (1, 1, 1), ellipsis_mask=2),
            official=False, reason="the official kernel lets an ellipsis stand for one axis at least"),
    strided("fewer entries than axes", (4, 5, 6), (2, 5, 6), (1,), (3,), (1,)),
    strided("bounds outside", (4, 5), (4, 5), (-9, 0), (9, 9), (1, 1)),
    strided("offset", (8, 5), (3, 2), (2, 1), (3, 2), (1, 1), offset=True),
    *each_type("PAD", ((2, 3, 4), i32(3, 2)), ((2, 6, 7),), (*USUAL, *HALVES), constants={1: BORDER}),
    Case("PAD", "picture", (f32(1, 4, 5, 3), i32(4, 2)), (f32(1, 6, 7, 3),),
         constants={1: np.array([[0, 0], [1, 1], [0, 2], [0, 0]])}),
    Case("PAD", "quantized", (i8(1, 4, 5, 3), i32(4, 2)), (i8(1, 6, 7, 3),), steps=0,
         constants={1: np.array([[0, 0], [1, 1], [2, 0], [0, 0]])}),
    Case("PAD", "quantized uint8", (u8(2, 3), i32(2, 2)), (u8(4, 6),), steps=0,
         constants={1: np.array([[1, 1], [0, 3]])}),
    Case("PAD", "quantized int16", (i16(2, 3), i32(2, 2)), (i16(4, 6),), steps=0,
         constants={1: np.array([[1, 1], [0, 3]])}),
    Case("PAD", "int64 borders", (f32(2, 3), kind("int64", 2, 2)), (f32(3, 5),), constants={1: SMALL}),
    Case("PAD", "int16 borders", (f32(2, 3), kind("int16", 2, 2)), (f32(3, 5),), constants={1: SMALL}),
    Case("PAD", "int8 borders", (f32(2, 3), kind("int8", 2, 2)), (f32(3, 5),), constants={1: SMALL}),
    *each_type("PADV2", ((2, 3, 4), i32(3, 2), ()), ((2, 6, 7),), (*USUAL, *HALVES),
               constants={1: BORDER}),
    Case("PADV2", "minus infinity", (f32(2, 3), i32(2, 2), f32()), (f32(4, 6),),
         constants={1: np.array([[1, 1], [0, 3]]), 2: -np.inf}),
    Case("PADV2", "quantized", (i8(2, 3), i32(2, 2), i8()), (i8(4, 6),), steps=0,
         constants={1: np.array([[1, 1], [0, 3]]), 2: -77}),
    *each_type("MIRROR_PAD", ((2, 3, 4), i32(3, 2)), ((2, 6, 7),), SIZED, constants={1: BORDER}),
    Case("MIRROR_PAD", "symmetric", (f32(2, 3, 4), i32(3, 2)), (f32(6, 6, 8),), {"mode": "SYMMETRIC"},
         constants={1: np.array([[2, 2], [3, 0], [0, 4]])}),
    *each_type("GATHER", ((4, 5), i32(3)), ((3, 5),), (*USUAL, *HALVES), values={1: ints(3, 0, 2)}),
    Case("GATHER", "strings", (kind("string", 4), i32(3)), (kind("string", 3),), values={1: ints(3, 0, 3)}),
    Case("GATHER", "inner axis", (f32(2, 5, 3), i32(2, 2)), (f32(2, 2, 2, 3),), {"axis": 1},
         values={1: ints(4, 0, 1, 1)}),
    Case("GATHER", "batch", (f32(2, 3, 5), i32(2, 4)), (f32(2, 3, 4),), {"axis": 2, "batch_dims": 1},
         values={1: ints(4, 0, 1, 1, 2, 2, 3, 0)}),
    Case("GATHER", "constant indices", (i8(4, 5), i32(2)), (i8(2, 5),), constants={1: ints(3, 1)}),
    Case("GATHER", "scalar", (f32(4, 5), i32()), (f32(5,),), values={1: ints(2)}),
    Case("GATHER", "int64 indices", (f32(4, 5), kind("int64", 2)), (f32(2, 5),), values={1: ints(3, 1)}),
    Case("GATHER", "int16 indices", (f32(4, 5), kind("int16", 2)), (f32(2, 5),), values={1: ints(3, 1)}),
    *each_type("GATHER_ND", ((4, 5, 2), i32(3, 2)), ((3, 2),), (*USUAL, *HALVES, "string"),
               values={1: ints(3, 0, 2, 4, 0, 0)}),
    Case("GATHER_ND", "elements", (f32(4, 5), i32(2, 2, 2)), (f32(2, 2),), constants={1: ints(3, 0, 2, 4, 0, 0, 1, 1)}),
    Case("GATHER_ND", "int64 indices", (f32(4, 5), kind("int64", 2, 1)), (f32(2, 5),), values={1: ints(3, 1)}),
    *(Case("SCATTER_ND", n, (i32(4, 1), kind(n, 4, 2), i32(2)), (kind(n, 5, 2),), values={0: ints(3, 0, 3, 1)},
           constants={2: ints(5, 2)}, official=n in SCATTERED,
           reason="" if n in SCATTERED else "the official kernel does not take this type")
      for n in (*SCATTERED, "float64", "int16", "uint16", "uint32", "uint64")),
    Case("SCATTER_ND", "elements", (i32(3, 2), f32(3), i32(2)), (f32(3, 4),), values={0: ints(2, 0, 0, 3, 2, 0)},
         constants={2: ints(3, 4)}),
    *each_type("EMBEDDING_LOOKUP", (i32(3), (5, 4)), ((3, 4),), ANY[:-1], values={0: ints(3, 0, 3)}),
    *(Case("EMBEDDING_LOOKUP", f"{t} in blocks", (i32(3), TensorType(t, (4, 64), BLOCKS)), (f32(3, 64),),
           constants={1: np.arange(256) % (t.maximum + 1)}, values={0: ints(3, 0, 3)}) for t in (INT4, INT2)),
    Case("EMBEDDING_LOOKUP", "int8 rows", (i32(3), per_channel(INT8, 4, 2, scales=(0.1, 0.2, 0.3, 0.4), axis=0)),
         (f32(3, 2),), values={0: ints(3, 0, 3)}),
    *(Case("EMBEDDING_LOOKUP", f"{t} rows to {y}",
           (i32(3), per_channel(t, 4, 8, scales=(0.1, 0.2, 0.3, 0.4), axis=0)), (tensor(y, 3, 8),),
           constants={1: np.arange(32) % (t.maximum + 1)}, values={0: ints(3, 0, 3)},
           official=(t, y) != (INT2, FLOAT16), reason=NO_HALVES if (t, y) == (INT2, FLOAT16) else "")
      for t in (INT8, INT4, INT2) for y in (FLOAT32, FLOAT16)),
    Case("EMBEDDING_LOOKUP", "uint8 with one scale", (i32(3), tensor(UINT8, 4, 2, scale=0.5)), (f32(3, 2),),
         values={0: ints(3, 0, 3)}),
    Case("EMBEDDING_LOOKUP", "uint8 with a zero point", (i32(3), tensor(UINT8, 4, 2, scale=0.5, zero_point=128)),
         (f32(3, 2),), values={0: ints(3, 0, 3)}, official=False, reason="the official kernel reads the rows as int8"),
]  # fmt: skip
