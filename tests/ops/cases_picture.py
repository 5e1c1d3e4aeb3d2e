"""Pictures: blocks of pixels moved, and sizes changed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lithe.types import TensorType
from tests.ops.cases import Case, f32, i8, i16, i32, u8
from tests.ops.cases_shape import HALVES, SIZED, each_type, ints


def bilinear(
    name: str, height: int, width: int, to: tuple[int, int], make: Callable[..., TensorType] = f32, **attrs: bool
) -> Case:
    return Case("RESIZE_BILINEAR", name, (make(2, height, width, 3), i32(2)), (make(2, *to, 3),), attrs, {1: ints(*to)})


def nearest(name: str, height: int, width: int, to: tuple[int, int], **attrs: bool) -> Case:
    return Case("RESIZE_NEAREST_NEIGHBOR", name, (f32(2, height, width, 3), i32(2)), (f32(2, *to, 3),), attrs,
                {1: ints(*to)})  # fmt: skip


NEAREST = ("float32", "int8", "uint8", "int16", "int32", "uint16", "uint32", "bool", *HALVES)
ZERO = np.zeros((2, 2))
CASES = [
    *each_type("SPACE_TO_BATCH_ND", ((2, 4, 6, 3), i32(2), i32(2, 2)), ((12, 3, 3, 3),),
               SIZED,
               constants={1: ints(2, 3), 2: np.array([[1, 1], [0, 3]])}),
    Case("SPACE_TO_BATCH_ND", "no border", (f32(1, 4, 6, 3), i32(2), i32(2, 2)), (f32(4, 2, 3, 3),),
         constants={1: ints(2, 2), 2: ZERO}),
    Case("SPACE_TO_BATCH_ND", "quantized", (i8(1, 3, 4, 3), i32(2), i32(2, 2)), (i8(4, 2, 2, 3),),
         constants={1: ints(2, 2), 2: np.array([[1, 0], [0, 0]])}, steps=0),
    Case("SPACE_TO_BATCH_ND", "three axes", (f32(2, 5, 3), i32(1), i32(1, 2)), (f32(4, 3, 3),),
         constants={1: ints(2), 2: np.array([[1, 0]])}),
    *each_type("BATCH_TO_SPACE_ND", ((12, 3, 3, 2), i32(2), i32(2, 2)), ((2, 4, 6, 2),),
               SIZED,
               constants={1: ints(2, 3), 2: np.array([[1, 1], [0, 3]])}),
    Case("BATCH_TO_SPACE_ND", "three axes", (f32(4, 3, 3), i32(1), i32(1, 2)), (f32(2, 5, 3),),
         constants={1: ints(2), 2: np.array([[0, 1]])}),
    *each_type("DEPTH_TO_SPACE", ((2, 3, 4, 12),), ((2, 6, 8, 3),), ("float32", "int8", "uint8", "int32", "int64")),
    *each_type("SPACE_TO_DEPTH", ((2, 6, 8, 3),), ((2, 3, 4, 12),), ("float32", "int8", "uint8", "int32", "int64")),
    Case("SPACE_TO_DEPTH", "three", (f32(1, 6, 9, 2),), (f32(1, 2, 3, 18),), {"block_size": 3}),
    bilinear("larger", 4, 5, (9, 11)),
    bilinear("smaller", 9, 11, (4, 5)),
    bilinear("half pixel", 4, 5, (8, 10), half_pixel_centers=True),
    bilinear("half pixel smaller", 9, 11, (4, 3), half_pixel_centers=True),
    bilinear("corners", 4, 5, (9, 11), align_corners=True),
    bilinear("one pixel", 1, 1, (3, 2)),
    bilinear("to one pixel", 4, 5, (1, 1), align_corners=True),
    *(bilinear(f"{n} {k}", 7, 5, (12, 13), make, **attrs)
      for n, make in (("int8", i8), ("uint8", u8), ("int16", i16))
      for k, attrs in (("plain", {}), ("half", {"half_pixel_centers": True}), ("corners", {"align_corners": True}))),
    bilinear("int8 smaller", 17, 15, (6, 7), i8, half_pixel_centers=True),
    bilinear("uint8 smaller", 17, 15, (6, 7), u8),
    nearest("larger", 4, 5, (9, 11)),
    nearest("smaller", 9, 11, (4, 5)),
    nearest("half pixel", 4, 5, (9, 11), half_pixel_centers=True),
    nearest("corners", 4, 5, (9, 11), align_corners=True),
    nearest("corners and half pixel", 4, 5, (9, 11), align_corners=True, half_pixel_centers=True),
    nearest("twice", 6, 5, (12, 10)),
    nearest("three times", 6, 5, (18, 15), half_pixel_centers=True),
    nearest("twice with corners", 6, 5, (12, 10), align_corners=True),
    *each_type("RESIZE_NEAREST_NEIGHBOR", ((1, 3, 4, 2), i32(2)), ((1, 5, 7, 2),), NEAREST, constants={1: ints(5, 7)}),
]  # fmt: skip
