"""Filters over volumes."""

from __future__ import annotations

from tests.ops.cases import Case, f32, i32
from tests.ops.cases_shape import ints

STRIDES = {"stride_d": 2, "stride_h": 1, "stride_w": 2}

CASES = [
    Case("CONV_3D", "same", (f32(2, 4, 5, 6, 3), f32(3, 2, 3, 3, 4), f32(4)), (f32(2, 2, 5, 3, 4),), STRIDES),
    Case("CONV_3D", "valid", (f32(1, 4, 5, 6, 3), f32(2, 2, 3, 3, 5)), (f32(1, 3, 4, 4, 5),),
         {"padding": "VALID", "fused_activation_function": "RELU"}),
    Case("CONV_3D", "dilated", (f32(1, 5, 6, 7, 2), f32(2, 2, 2, 2, 3), f32(3)), (f32(1, 3, 3, 5, 3),),
         {"padding": "VALID", "dilation_d_factor": 2, "dilation_h_factor": 3, "dilation_w_factor": 2}),
    Case("CONV_3D_TRANSPOSE", "same", (i32(5), f32(3, 2, 3, 4, 3), f32(2, 2, 5, 3, 3), f32(4)), (f32(2, 4, 5, 6, 4),),
         STRIDES, constants={0: ints(2, 4, 5, 6, 4)}),
    Case("CONV_3D_TRANSPOSE", "valid", (i32(5), f32(2, 2, 3, 5, 3), f32(1, 3, 4, 4, 3)), (f32(1, 4, 5, 6, 5),),
         {"padding": "VALID"}, constants={0: ints(1, 4, 5, 6, 5)}),
]  # fmt: skip
