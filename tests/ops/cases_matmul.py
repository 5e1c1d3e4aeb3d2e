"""Products of matrices of two computed operands."""

from __future__ import annotations

import numpy as np

from lithe.types import FLOAT16, INT8, INT16
from tests.ops.cases import Case, f32, i8, i16, i32, per_channel, tensor

RANDOM = np.random.default_rng(11)
BYTES = RANDOM.integers(-127, 128, (4, 9))
SQUARE = RANDOM.standard_normal((21, 18)).astype(np.float32)
SCALES = (0.01, 0.02, 0.005, 0.013)
ONE_SCALE = "the official kernel looks for one scale and finds 0"
ADJOINT = {"adj_y": True}

CASES = [
    Case("BATCH_MATMUL", "plain", (f32(3, 5), f32(5, 17)), (f32(3, 17),)),
    Case("BATCH_MATMUL", "batches", (f32(2, 3, 5), f32(2, 5, 4)), (f32(2, 3, 4),)),
    Case("BATCH_MATMUL", "broadcast", (f32(2, 1, 3, 5), f32(4, 5, 6)), (f32(2, 4, 3, 6),)),
    Case("BATCH_MATMUL", "adjoint x", (f32(2, 5, 3), f32(2, 5, 4)), (f32(2, 3, 4),), {"adj_x": True}),
    Case("BATCH_MATMUL", "adjoint y", (f32(2, 3, 5), f32(2, 4, 5)), (f32(2, 3, 4),), ADJOINT),
    Case("BATCH_MATMUL", "six axes", (f32(2, 1, 2, 1, 3, 5), f32(3, 1, 2, 5, 4)), (f32(2, 3, 2, 2, 3, 4),),
         official=False, reason="the official kernel takes five axes at most"),
    Case("BATCH_MATMUL", "tiles", (f32(2, 37, 19), f32(2, 19, 45)), (f32(2, 37, 45),)),
    Case("BATCH_MATMUL", "tiles adjoint y", (f32(3, 1, 9, 40), f32(2, 70, 40)), (f32(3, 2, 9, 70),), ADJOINT),
    Case("BATCH_MATMUL", "tiles adjoint x", (f32(2, 7, 30), f32(7, 3)), (f32(2, 30, 3),), {"adj_x": True}),
    Case("BATCH_MATMUL", "weights", (f32(2, 3, 21), f32(21, 18)), (f32(2, 3, 18),),
         constants={1: SQUARE}),
    Case("BATCH_MATMUL", "weights adjoint", (f32(2, 5, 21), f32(1, 18, 21)), (f32(2, 5, 18),), ADJOINT,
         constants={1: SQUARE.T}),
    Case("BATCH_MATMUL", "weights adjoint x", (f32(2, 21, 5), f32(21, 18)), (f32(2, 5, 18),), {"adj_x": True},
         constants={1: SQUARE}),
    Case("BATCH_MATMUL", "float16", (tensor(FLOAT16, 2, 3, 5), tensor(FLOAT16, 2, 5, 4)), (tensor(FLOAT16, 2, 3, 4),),
         tolerance=2e-3),
    Case("BATCH_MATMUL", "int8", (i8(2, 9, 21), i8(2, 21, 14, zero_point=-4)), (i8(2, 9, 14, scale=0.8),)),
    Case("BATCH_MATMUL", "int8 adjoint y", (i8(2, 9, 21), i8(2, 14, 21)), (i8(2, 9, 14, scale=0.8),), ADJOINT),
    Case("BATCH_MATMUL", "int8 column scales", (i8(3, 9), per_channel(INT8, 4, 9, scales=SCALES, axis=0)),
         (i8(3, 4, scale=0.1),), ADJOINT, {1: BYTES}, official=False,
         reason=ONE_SCALE),
    Case("BATCH_MATMUL", "int8 to int16", (i8(2, 9, 21), i8(2, 21, 14)), (i16(2, 9, 14, scale=0.02),), official=False,
         reason="the official kernel prepares no bounds for these types"),
    Case("BATCH_MATMUL", "int8 to int32", (i8(2, 9, 21, zero_point=0), i8(2, 21, 14, zero_point=0)), (i32(2, 9, 14),),
         steps=0),
    Case("BATCH_MATMUL", "int16", (i16(2, 9, 21), i16(2, 21, 14)), (i16(2, 9, 14, scale=0.1),)),
    Case("BATCH_MATMUL", "int16 by int8", (i16(5, 9), per_channel(INT8, 9, 4, scales=SCALES, axis=1)),
         (tensor(INT16, 5, 4, scale=0.005),), {}, {1: BYTES.T}, official=False, reason=ONE_SCALE),
    Case("BATCH_MATMUL", "int16 by int8 with one scale", (i16(5, 9), i8(9, 4, scale=0.01, zero_point=0)),
         (tensor(INT16, 5, 4, scale=0.005),), {}, {1: BYTES.T}),
    Case("BATCH_MATMUL", "hybrid", (f32(2, 3, 9), i8(2, 9, 4, scale=0.02, zero_point=0)), (f32(2, 3, 4),)),
    Case("BATCH_MATMUL", "hybrid adjoint x", (f32(9, 3), i8(9, 4, scale=0.02, zero_point=0)), (f32(3, 4),),
         {"adj_x": True}),
    Case("BATCH_MATMUL", "hybrid asymmetric", (f32(2, 3, 9), i8(4, 9, scale=0.02, zero_point=0)), (f32(2, 3, 4),),
         {"adj_y": True, "asymmetric_quantize_inputs": True}, low=-1.0, high=5.0),
    Case("BATCH_MATMUL", "hybrid column scales", (f32(3, 9), per_channel(INT8, 4, 9, scales=SCALES, axis=0)),
         (f32(3, 4),), ADJOINT, {1: BYTES}),
    Case("BATCH_MATMUL", "hybrid zeros", (f32(3, 9), i8(9, 4, zero_point=0)), (f32(3, 4),), low=0.0, high=0.0),
]  # fmt: skip
