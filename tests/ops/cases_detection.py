"""Boxes that overlap, and the tail of object detectors."""

from __future__ import annotations

import numpy as np
from flatbuffers import flexbuffers

from lithe.types import TensorType
from tests.ops.cases import Case, f32, i8, i32, u8

RANDOM = np.random.default_rng(7)


def boxes(n: int) -> np.ndarray:
    """Corners of boxes that overlap here and there; some are given by the other diagonal."""
    centre, size = RANDOM.uniform(0, 10, (n, 2)), RANDOM.uniform(1, 4, (n, 2))
    low, high = centre - size / 2, centre + size / 2
    found = np.concatenate([low, high], 1)
    found[::5] = np.concatenate([high, low], 1)[::5]
    return found


def suppression(name: str, n: int, most: int, iou: float, least: float, given: np.ndarray | None = None) -> Case:
    values = {0: boxes(n) if given is None else given, 1: RANDOM.permutation(n) / n, 3: iou, 4: least}
    return Case("NON_MAX_SUPPRESSION_V4", name, (f32(n, 4), f32(n), i32(), f32(), f32()), (i32(most), i32()),
                constants={2: most}, values=values, steps=0)  # fmt: skip


def soft(name: str, n: int, most: int, iou: float, least: float, sigma: float) -> Case:
    values = {0: boxes(n), 1: RANDOM.permutation(n) / n, 3: iou, 4: least, 5: sigma}
    return Case("NON_MAX_SUPPRESSION_V5", name, (f32(n, 4), f32(n), i32(), f32(), f32(), f32()),
                (i32(most), f32(most), i32()), constants={2: most}, values=values, steps=0)  # fmt: skip


OPTIONS = {
    "max_detections": 8, "max_classes_per_detection": 1, "detections_per_class": 5, "use_regular_nms": False,
    "nms_score_threshold": 0.3, "nms_iou_threshold": 0.4, "num_classes": 4,
    "y_scale": 10.0, "x_scale": 10.0, "h_scale": 5.0, "w_scale": 5.0,
}  # fmt: skip


def detection(
    name: str, n: int, kinds: tuple[TensorType, TensorType, TensorType], refused: str = "", **options: object
) -> Case:
    """kinds: types without shape of encodings, scores and anchors."""
    chosen = {**OPTIONS, **options}
    rows = int(chosen["max_detections"]) * int(chosen["max_classes_per_detection"])
    shapes = ((1, n, 4), (1, n, int(chosen["num_classes"]) + 1), (n, 4))
    inputs = tuple(TensorType(t.dtype, s, t.quantization) for t, s in zip(kinds, shapes, strict=True))
    anchors = np.concatenate([RANDOM.uniform(0, 1, (n, 2)), RANDOM.uniform(0.2, 0.5, (n, 2))], 1)
    values = {
        0: RANDOM.normal(0, 1, (n, 4)),
        1: RANDOM.permutation(shapes[1][1] * shapes[1][2]) / shapes[1][1],
        2: anchors,
    }
    for i, t in enumerate(inputs):
        if t.quantization is not None:
            (scale,), (zero_point,) = t.quantization.scale, t.quantization.zero_point
            real = values[i] / (shapes[1][2] if i == 1 else 1)
            stored = np.rint(real / scale) + zero_point
            values[i] = np.clip(stored, t.dtype.minimum, t.dtype.maximum)
    return Case("TFLite_Detection_PostProcess", name, inputs, (f32(1, rows, 4), f32(1, rows), f32(1, rows), f32(1)),
                chosen, constants={2: values.pop(2)}, values=values, tolerance=1e-6, official=not refused,
                reason=refused,
                custom_options=bytes(flexbuffers.Dumps(chosen)))  # fmt: skip


UNWRITTEN = "the official kernel leaves unused rows unwritten; test_detection.py compares the others"
FLOAT = (f32(), f32(), f32())
BYTES = (u8(scale=0.08, zero_point=128), u8(scale=1 / 256, zero_point=0), u8(scale=1 / 200, zero_point=3))
SIGNED = (i8(scale=0.08, zero_point=0), i8(scale=1 / 256, zero_point=-128), i8(scale=1 / 200, zero_point=-125))
POINTS = boxes(12)
POINTS[::3, 2:] = POINTS[::3, :2]
CASES = [
    suppression("few stay", 40, 10, 0.2, 0.1),
    suppression("fewer than asked", 12, 20, 0.1, 0.5),
    suppression("none", 5, 3, 0.5, 2.0),
    suppression("no output", 5, 0, 0.5, 0.0),
    suppression("boxes without area", 12, 9, 0.5, 0.1, POINTS),
    soft("hard", 40, 10, 0.3, 0.1, 0.0),
    soft("soft", 40, 20, 0.6, 0.05, 0.4),
    soft("soft alone", 30, 30, 1.0, 0.2, 0.5),
    detection("fast", 60, FLOAT),
    detection("fast with classes", 60, FLOAT, max_classes_per_detection=3),
    detection("fast more classes than there are", 20, FLOAT, UNWRITTEN, max_classes_per_detection=6, max_detections=3),
    detection("regular", 60, FLOAT, use_regular_nms=True),
    detection("regular with room left", 20, FLOAT, use_regular_nms=True, max_detections=40, nms_score_threshold=3.0),
    detection("few", 10, FLOAT, UNWRITTEN, max_detections=40, nms_score_threshold=3.5),
    detection("uint8", 40, BYTES, max_detections=12),
    detection("uint8 with float scores", 40, (BYTES[0], FLOAT[1], BYTES[2])),
    detection("int8", 40, SIGNED, "the official kernel takes float32 and uint8"),
]
