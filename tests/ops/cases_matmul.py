"""Products of matrices of two computed operands."""

from __future__ import annotations

from tests.ops.cases import Case, f32, i8

CASES = [
    Case("BATCH_MATMUL", "plain", (f32(3, 5), f32(5, 17)), (f32(3, 17),)),
    Case("BATCH_MATMUL", "batches", (f32(2, 3, 5), f32(2, 5, 4)), (f32(2, 3, 4),)),
    Case("BATCH_MATMUL", "broadcast", (f32(2, 1, 3, 5), f32(4, 5, 6)), (f32(2, 4, 3, 6),)),
    Case("BATCH_MATMUL", "adjoint x", (f32(2, 5, 3), f32(2, 5, 4)), (f32(2, 3, 4),), {"adj_x": True}),
    Case("BATCH_MATMUL", "adjoint y", (f32(2, 3, 5), f32(2, 4, 5)), (f32(2, 3, 4),), {"adj_y": True}),
    Case("BATCH_MATMUL", "int8", (i8(2, 9, 21), i8(2, 21, 14, zero_point=-4)), (i8(2, 9, 14, scale=0.8),)),
    Case("BATCH_MATMUL", "int8 adjoint y", (i8(2, 9, 21), i8(2, 14, 21)), (i8(2, 9, 14, scale=0.8),), {"adj_y": True}),
]
