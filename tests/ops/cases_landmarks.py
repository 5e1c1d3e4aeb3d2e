"""Custom operators of face and pose models. The official runtime has no kernel for them: see test_landmarks.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from lithe.types import TensorType
from tests.ops.cases import Case, f32, u8

RANDOM = np.random.default_rng(3)
REASON = "a custom operator that the official runtime does not have"


def matrix(angle: float, scale: float, x: float, y: float) -> np.ndarray:
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[[c, -s, 0, x], [s, c, 0, y], [0, 0, 1, 0], [0, 0, 0, 1]]])


def to_matrix(name: str, points: np.ndarray, **attrs: Any) -> Case:
    options = {"subset_idxs": (1, 3, 4, 7, 8), "left_rotation_idx": 1, "right_rotation_idx": 8, "output_height": 16,
               "output_width": 12, "scale_x": 1.5, "scale_y": 1.25, **attrs}  # fmt: skip
    return Case("Landmarks2TransformMatrix", name, (f32(*points.shape),), (f32(1, 4, 4),), options,
                values={0: points}, official=False, reason=REASON)  # fmt: skip


def bilinear(name: str, shape: tuple[int, int, int], size: tuple[int, int], turn: np.ndarray) -> Case:
    return Case("TransformTensorBilinear", name, (f32(1, *shape), f32(1, 4, 4)), (f32(1, *size, shape[2]),),
                {"output_height": size[0], "output_width": size[1]}, values={1: turn}, official=False,
                reason=REASON)  # fmt: skip


def heat(people: list[tuple[int, int]], h: int, w: int) -> np.ndarray:
    """Logits with one peak for each key point of each person, spread over a few cells around a centre."""
    found = RANDOM.uniform(-9, -4, (1, h, w, 17))
    for y, x in people:
        for k in range(17):
            found[0, min(h - 1, y + k // 5), min(w - 1, x + k % 4), k] = 1 + RANDOM.uniform(0, 3)
    return found


def poses(
    name: str, people: list[tuple[int, int]], kinds: tuple[TensorType, ...], most: int, h: int = 9, w: int = 11
) -> Case:
    reals = (heat(people, h, w), RANDOM.normal(0, 6, (1, h, w, 34)), RANDOM.normal(0, 10, (1, h, w, 64)))
    inputs, values = [], {}
    for i, (kind, real) in enumerate(zip(kinds, reals, strict=True)):
        inputs.append(TensorType(kind.dtype, real.shape, kind.quantization))
        values[i] = real
        if kind.quantization is not None:
            stored = np.rint(real / kind.quantization.scale[0]) + kind.quantization.zero_point[0]
            values[i] = np.clip(stored, 0, 255)
    attrs = {"max_detections": most, "score_threshold": 0.2, "stride": 16, "nms_radius": 10.0}
    return Case("PosenetDecoderOp", name, tuple(inputs), (f32(1, most, 17, 2), f32(1, most, 17), f32(1, most), f32(1)),
                attrs, values=values, official=False, reason=REASON)  # fmt: skip


FACE = RANDOM.uniform(0, 48, (1, 10, 3))
FLOAT = (f32(), f32(), f32())
BYTES = (u8(scale=0.09, zero_point=180), u8(scale=0.7, zero_point=134), u8(scale=1.5, zero_point=118))
CASES = [
    to_matrix("face", FACE),
    to_matrix("with a target angle", FACE, target_rotation_radians=0.7),
    to_matrix("upside down", FACE[:, ::-1]),
    to_matrix("all in one place", np.full((1, 9, 3), 5.0)),
    Case("TransformLandmarks", "two numbers", (f32(1, 9, 2), f32(1, 4, 4)), (f32(1, 9, 2),),
         values={1: matrix(0.3, 2, 5, -7)}, official=False, reason=REASON),
    Case("TransformLandmarks", "three numbers", (f32(1, 9, 3), f32(1, 4, 4)), (f32(1, 9, 3),),
         values={1: matrix(-2, 0.5, 1, 3)}, official=False, reason=REASON),
    bilinear("turned", (12, 10, 5), (6, 8), matrix(0.4, 1.3, 1, 0.5)),
    bilinear("partly outside", (7, 9, 3), (8, 8), matrix(-0.2, 1.5, -3, -2)),
    bilinear("not a number", (3, 3, 2), (2, 2), np.full((1, 4, 4), np.nan)),
    poses("two people", [(1, 1), (4, 6)], FLOAT, 4),
    poses("more people than asked", [(1, 1), (4, 6), (6, 2)], FLOAT, 2),
    poses("nobody", [], FLOAT, 3),
    poses("uint8", [(1, 1), (4, 6)], BYTES, 5),
]  # fmt: skip
