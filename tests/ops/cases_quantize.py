"""Quantization, conversion between types, DENSIFY."""

from __future__ import annotations

import numpy as np

from lithe.ops.cast import NUMBERS
from lithe.types import (
    BFLOAT16,
    BOOL,
    COMPLEX64,
    DTYPES,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    INT2,
    INT4,
    INT8,
    INT16,
    INT32,
    INT64,
    UINT4,
    UINT8,
    UINT16,
    UINT32,
    UINT64,
    DType,
)
from lithe.types import Quantization as Q
from lithe.types import TensorType as T
from tests.ops.cases import Case, f32, i8, i16, per_channel, tensor, u8

EDGES = np.array([np.inf, -np.inf, 1e30, -1e30, 0, -0.0, 0.025, 0.075, -0.025, 6.2, -6.7, 0.49])
EVERY_INT8, EVERY_UINT8 = np.arange(-128, 128), np.arange(256)
SCALES = (0.03, 0.05, 0.07)
NO_KERNEL = "the installed official runtime has no kernel for these types"


def asymmetric(*shape: int, axis: int) -> T:
    return T(INT8, shape, Q(SCALES, (-3, 0, 7), axis))


def converted() -> list[Case]:
    """Every pair of types, over values that both hold."""
    types = [DTYPES[name] for name in (*NUMBERS.split(), "complex64")]
    return [
        cast(f"{x} to {y}", x, y, None, low=0.0 if "u" in (x.kind[0], y.kind[0]) else -99.0, high=99.0,
             official=UINT64 not in (x, y), reason=NO_KERNEL, tolerance=2e-3)
        for x in types for y in types
    ]  # fmt: skip


def cast(name: str, x: DType, y: DType, values: list[float] | None, **more: object) -> Case:
    shape = (3, 7) if values is None else (len(values),)
    return Case("CAST", name, (tensor(x, *shape),), (tensor(y, *shape),), {"in_data_type": x, "out_data_type": y},
                values={} if values is None else {0: np.array(values)}, **more)  # fmt: skip


BEYOND = [np.nan, np.inf, -np.inf, 1e10, -1e10, 3e19, 300.7, -200.0, -5.5, 15.9, 7.5, -8.5, 0.5]
HALF_BEYOND = [v for v in BEYOND if not 65504 < abs(v) < np.inf]
CASES = [
    Case("QUANTIZE", "int8", (f32(3, 37),), (i8(3, 37),), low=-8, high=8),
    Case("QUANTIZE", "int8 edges", (f32(12),), (i8(12),), values={0: EDGES}),
    Case("QUANTIZE", "uint8", (f32(3, 37),), (u8(3, 37),), low=-8, high=8),
    Case("QUANTIZE", "int16", (f32(3, 37),), (i16(3, 37),), low=-40, high=40),
    *(Case("QUANTIZE", str(t), (f32(3, 38),), (tensor(t, 3, 38, scale=0.5, zero_point=z),), low=-8, high=8,
           official=t != INT2, reason=NO_KERNEL) for t, z in ((INT4, -1), (UINT4, 7), (INT2, 0))),
    *(Case("QUANTIZE", f"{x} to {y}", (tensor(x, 3, 37),), (tensor(y, 3, 37, scale=0.05, zero_point=z),), low=-7,
           high=7, official=x == FLOAT16 and y != INT16, reason=NO_KERNEL)
      for x in (FLOAT16, BFLOAT16) for y, z in ((INT8, 3), (UINT8, 128), (INT16, 0))),
    Case("QUANTIZE", "per channel last", (f32(5, 3),), (per_channel(INT8, 5, 3, scales=SCALES, axis=1),), low=-5),
    Case("QUANTIZE", "per channel first", (f32(3, 5),), (per_channel(INT8, 3, 5, scales=SCALES, axis=0),), low=-5),
    Case("QUANTIZE", "per channel with zero points", (f32(2, 3, 5),), (asymmetric(2, 3, 5, axis=1),), low=-5, high=5),
    Case("QUANTIZE", "int8 finer", (i8(256),), (i8(256, scale=0.031, zero_point=-9),), values={0: EVERY_INT8}),
    Case("QUANTIZE", "int8 coarser", (i8(256),), (i8(256, scale=0.5),), values={0: EVERY_INT8}),
    Case("QUANTIZE", "int8 to uint8", (i8(256),), (u8(256, zero_point=131),), values={0: EVERY_INT8}),
    Case("QUANTIZE", "uint8 to int8", (u8(256),), (i8(256, zero_point=0),), values={0: EVERY_UINT8}),
    Case("QUANTIZE", "uint8 to uint8", (u8(256),), (u8(256, scale=0.07),), values={0: EVERY_UINT8}),
    Case("QUANTIZE", "int8 to int16", (i8(256),), (i16(256),), values={0: EVERY_INT8}),
    Case("QUANTIZE", "int16 to int8", (i16(65),), (i8(65, scale=0.2),)),
    Case("QUANTIZE", "int16 to int16", (i16(65),), (i16(65, scale=0.0021),)),
    Case("QUANTIZE", "int16 to int32", (i16(65),), (tensor(INT32, 65, scale=1e-5),)),
    Case("QUANTIZE", "int16 to int32 finer", (i16(65, scale=0.1),), (tensor(INT32, 65, scale=1e-5, zero_point=5),)),
    Case("QUANTIZE", "int16 to int32 ends", (i16(65, scale=0.1),), (tensor(INT32, 65, scale=1e-6),), official=False,
         reason="undefined there: the integers overflow"),
    Case("QUANTIZE", "int32 to int8", (tensor(INT32, 65, scale=1e-4),), (i8(65),), low=-70000, high=70000),
    Case("QUANTIZE", "int32 to int16", (tensor(INT32, 65, scale=1e-4),), (i16(65),), low=-70000, high=70000),
    Case("DEQUANTIZE", "int8", (i8(256),), (f32(256),), values={0: EVERY_INT8}),
    Case("DEQUANTIZE", "uint8", (u8(256),), (f32(256),), values={0: EVERY_UINT8}),
    Case("DEQUANTIZE", "int16", (i16(65),), (f32(65),)),
    *(Case("DEQUANTIZE", str(t), (tensor(t, 3, 5, scale=0.5, zero_point=z),), (f32(3, 5),),
           constants={0: np.arange(t.minimum, t.minimum + 15) % (t.maximum + 1 - t.minimum) + t.minimum})
      for t, z in ((INT4, -1), (UINT4, 7), (INT2, 0))),
    Case("DEQUANTIZE", "float16", (tensor(FLOAT16, 3, 37),), (f32(3, 37),)),
    Case("DEQUANTIZE", "float16 ends", (tensor(FLOAT16, 6),), (f32(6),),
         values={0: np.array([np.inf, -np.inf, 65504, 6e-8, -0.0, 6.1e-5])}),
    Case("DEQUANTIZE", "bfloat16", (tensor(BFLOAT16, 3, 37),), (f32(3, 37),), official=False, reason=NO_KERNEL),
    Case("DEQUANTIZE", "per channel last", (per_channel(INT8, 5, 3, scales=SCALES, axis=1),), (f32(5, 3),),
         constants={0: np.arange(15)}),
    Case("DEQUANTIZE", "per channel with zero points", (asymmetric(2, 3, 5, axis=1),), (f32(2, 3, 5),)),
    Case("FAKE_QUANT", "8 bits", (f32(3, 37),), (f32(3, 37),), {"min": -2.1, "max": 3.0, "num_bits": 8}, low=-4),
    Case("FAKE_QUANT", "narrow", (f32(37),), (f32(37),), {"min": 0.0, "max": 6.0, "num_bits": 4, "narrow_range": True},
         official=False, reason="it refuses narrow_range"),
    Case("DENSIFY", "float", (f32(3, 5),), (f32(3, 5),), official=False, reason="it takes sparse constants only"),
    Case("DENSIFY", "half", (tensor(FLOAT16, 3, 5),), (tensor(FLOAT16, 3, 5),), official=False, reason="as above"),
    Case("DENSIFY", "int8", (tensor(INT8, 3, 5),), (tensor(INT8, 3, 5),), official=False, reason="as above"),
    *converted(),
    cast("float32 to int32 truncates", FLOAT32, INT32, [1.9, -1.9, 0.5, -0.5, 2147483520, -2147483648]),
    *(cast(f"{x} to {y} beyond", x, y, BEYOND if x != FLOAT16 else HALF_BEYOND)
      for x in (FLOAT32, FLOAT16, BFLOAT16, FLOAT64)
      for y in (INT8, UINT8, INT16, UINT16, INT32, UINT32, INT64, BOOL)),
    *(cast(f"float32 to {y}", FLOAT32, y, BEYOND) for y in (INT4, INT2, UINT4)),
    *(Case("CAST", f"{x} to float32", (tensor(x, 7),), (f32(7),), {"in_data_type": x, "out_data_type": FLOAT32},
           constants={0: np.arange(x.minimum, x.minimum + 7) % (x.maximum + 1 - x.minimum) + x.minimum})
      for x in (INT4, INT2, UINT4)),
    *(cast(f"complex64 to {y} parts", COMPLEX64, y, [1.9 + 3j, 300, -5, 1j])
      for y in (INT16, BOOL, FLOAT16, COMPLEX64)),
    cast("int32 to int16 wraps", INT32, INT16, [70000, -70000, 32768, -1]),
    cast("float32 to bool special", FLOAT32, BOOL, [0.5, 0, -0.0, np.nan]),
]  # fmt: skip
