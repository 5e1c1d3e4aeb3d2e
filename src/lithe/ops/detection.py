"""TFLite_Detection_PostProcess: box encodings and class scores of an SSD detector become a list of detections.

Source: TensorFlow Lite, kernels/detection_postprocess.cc (behaviour, not text).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lithe.errors import ExecutionError
from lithe.ir import double
from lithe.ir.build import Builder
from lithe.ir.loops import INDEX, Buffer, Const, Expr, constant, select
from lithe.ops.layout import fill
from lithe.ops.op import Op, Site, register
from lithe.ops.suppression import GONE, best, columns, overlap
from lithe.types import FLOAT32, FLOAT64, Shape, TensorType

F = np.float32


def _real(site: Site, i: int, stored: Any) -> Any:
    """Real float32 values of stored ones."""
    t = site.input(i)
    if t.dtype.is_float:
        return stored
    scale, zero_point = site.quantization(t, site.operand(i))
    if isinstance(stored, Expr):
        return (stored.to(FLOAT32) - float(zero_point)) * F(scale)
    return (stored.astype(F) - F(zero_point)) * F(scale)


def _decoded(encoding: list[Any], anchor: list[Any], scales: tuple[float, ...], growth: list[Any]) -> list[Any]:
    """(y_min, x_min, y_max, x_max) in float32 from (y, x, height, width) in float64.

    growth  exp(height / h_scale), exp(width / w_scale).
    """
    narrow = (lambda v: v.to(FLOAT32)) if isinstance(anchor[0], Expr) else (lambda v: v.astype(F))
    centre = [narrow(encoding[k] / scales[k] * anchor[k + 2] + anchor[k]) for k in (0, 1)]
    half = [narrow(growth[k] * 0.5 * anchor[k + 2]) for k in (0, 1)]
    return [centre[0] - half[0], centre[1] - half[1], centre[0] + half[0], centre[1] + half[1]]


@register
class DetectionPostProcess(Op):
    """Boxes [1, D, 4], classes [1, D], scores [1, D], number [1]; D = max_detections * max_classes_per_detection.

    box_encodings      [1, boxes, 4 or more]: y, x, height, width relative to the anchor.
    class_predictions  [1, boxes, classes]: one class more than num_classes when the first is the background.
    anchors            [boxes, 4]: y, x, height, width.

    Fast suppression takes each box once, with its best classes; regular suppression goes class by class.
    Rows beyond the number of detections are 0. Among equal scores the first box wins.
    """

    name = "TFLite_Detection_PostProcess"
    operands = (
        ("box_encodings", "class_predictions", "anchors"),
        ("detection_boxes", "detection_classes", "detection_scores", "num_detections"),
    )
    types = """float32 S float32 -> float32 float32 float32 float32: S= float32 uint8q int8q
    B S A -> float32 float32 float32 float32: B= uint8q int8q; S= float32 uint8q int8q; A= uint8q int8q float32"""

    @dataclass(frozen=True)
    class Attrs:
        max_detections: int = 10
        max_classes_per_detection: int = 1
        detections_per_class: int = 100
        use_regular_nms: bool = False
        nms_score_threshold: float = 0.0
        nms_iou_threshold: float = 0.5
        num_classes: int = 1
        y_scale: float = 10.0
        x_scale: float = 10.0
        h_scale: float = 5.0
        w_scale: float = 5.0

    def infer(site: Site) -> list[Shape]:
        a = site.attrs
        boxes, scores, anchors = site.rank(0, 3), site.rank(1, 3), site.rank(2, 2)
        n = boxes.shape[1]
        site.require(boxes.shape[0] == 1 and boxes.shape[2] >= 4, f"must have shape [1, boxes, 4], is {boxes}", 0)
        background = scores.shape[2] - a.num_classes
        fits = scores.shape[:2] == (1, n) and a.num_classes > 0 and background in (0, 1)
        site.require(fits, f"must have shape [1, {n}, {a.num_classes} or one more], is {scores}", 1)
        site.require(anchors.shape == (n, 4), f"must have shape [{n}, 4], is {anchors}", 2)
        site.require(a.max_detections >= 0, f"max_detections must not be negative, is {a.max_detections}")
        for key in ("max_classes_per_detection", "detections_per_class"):
            site.require(getattr(a, key) > 0, f"{key} must be positive, is {getattr(a, key)}")
        site.require(0 < a.nms_iou_threshold <= 1, f"nms_iou_threshold must lie in (0, 1], is {a.nms_iou_threshold}")
        for key in ("y_scale", "x_scale", "h_scale", "w_scale"):
            site.require(getattr(a, key) != 0, f"{key} must not be 0")
        rows = a.max_detections * a.max_classes_per_detection
        return [(1, rows, 4), (1, rows), (1, rows), (1,)]

    def evaluate(site: Site, boxes: np.ndarray, scores: np.ndarray, anchors: np.ndarray) -> list[np.ndarray]:
        a = site.attrs
        encoding = _real(site, 0, boxes[0]).astype(np.float64)
        anchor = list(columns(_real(site, 2, anchors).astype(np.float64)))
        with np.errstate(over="ignore", invalid="ignore"):
            growth = [np.exp(encoding[:, k + 2] / s) for k, s in enumerate(_scales(a)[2:])]
            corners = np.stack(_decoded(list(columns(encoding)), anchor, _scales(a), growth), 1)
        if np.any((corners[:, 0] > corners[:, 2]) | (corners[:, 1] > corners[:, 3])):
            raise ExecutionError(BAD_BOX)
        real = _real(site, 1, scores[0])[:, scores.shape[2] - a.num_classes :]
        found = _regular(a, corners, real) if a.use_regular_nms else _fast(a, corners, real)
        rows = a.max_detections * a.max_classes_per_detection
        result = [np.zeros((1, rows, 4), F), np.zeros((1, rows), F), np.zeros((1, rows), F), np.zeros(1, F)]
        for number, (box, classes) in enumerate(found):
            for k, c in enumerate(classes):
                row = number * (1 if a.use_regular_nms else a.max_classes_per_detection) + k
                result[0][0, row], result[1][0, row], result[2][0, row] = corners[box], c, real[box, c]
        result[3][0] = len(found)
        return result

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        for y in ys:
            fill(b, y, 0.0)
        corners = _decode(b, site, xs[0], xs[2])
        if site.attrs.use_regular_nms:
            _lower_regular(b, site, xs[1], corners, ys)
        else:
            _lower_fast(b, site, xs[1], corners, ys)


BAD_BOX = "a decoded box has its lower corner above its upper one"


def _scales(a: DetectionPostProcess.Attrs) -> tuple[float, ...]:
    return tuple(float(F(v)) for v in (a.y_scale, a.x_scale, a.h_scale, a.w_scale))


def _survivors(corners: np.ndarray, scores: np.ndarray, most: int, a: DetectionPostProcess.Attrs) -> list[int]:
    """Boxes that stay when each competes with one score."""
    left = np.where(scores >= F(a.nms_score_threshold), scores, F(GONE))
    boxes = columns(corners)
    chosen: list[int] = []
    while len(chosen) < most and left.size:
        n = int(np.argmax(left))
        if left[n] == GONE:
            break
        chosen.append(n)
        left[overlap(boxes, [c[n] for c in boxes]) > F(a.nms_iou_threshold)] = GONE
        left[n] = GONE
    return chosen


def _fast(a: DetectionPostProcess.Attrs, corners: np.ndarray, scores: np.ndarray) -> list[tuple[int, list[int]]]:
    kinds = min(a.max_classes_per_detection, a.num_classes)
    chosen = _survivors(corners, scores.max(1), a.max_detections, a)
    return [(n, list(np.argsort(-scores[n], kind="stable")[:kinds])) for n in chosen]


def _regular(a: DetectionPostProcess.Attrs, corners: np.ndarray, scores: np.ndarray) -> list[tuple[int, list[int]]]:
    kept: list[tuple[int, list[int]]] = []
    for c in range(a.num_classes):
        kept += [(n, [c]) for n in _survivors(corners, scores[:, c], a.detections_per_class, a)]
        kept = sorted(kept, key=lambda e: -scores[e[0], e[1][0]])[: a.max_detections]
    return kept


def _decode(b: Builder, site: Site, boxes: Buffer, anchors: Buffer) -> Buffer:
    """The boxes' corners [boxes, 4], in local memory; ends the inference when one is inside out."""
    n, scales = boxes.shape[1], _scales(site.attrs)
    corners = b.local(FLOAT32, (n, 4), "corners")
    t: TensorType = site.input(0)
    tables: list[Buffer] = []
    if not t.dtype.is_float:
        stored = np.arange(t.dtype.minimum, t.dtype.maximum + 1)
        real = _real(site, 0, stored).astype(np.float64)
        tables = [b.constant(np.exp(real / s), "growth") for s in scales[2:]]
    with b.loop(n, "parallel") as i:
        anchor = [_real(site, 2, anchors[i, k]).to(FLOAT64) for k in range(4)]
        encoding = [_real(site, 0, boxes[0, i, k]).to(FLOAT64) for k in range(4)]
        if tables:
            growth = [table[boxes[0, i, k + 2].to(INDEX) - t.dtype.minimum] for k, table in enumerate(tables)]
        else:
            growth = [double.exp(encoding[k + 2] / scales[k + 2]) for k in (0, 1)]
        for k, value in enumerate(_decoded(encoding, anchor, scales, growth)):
            b.store(corners, (i, k), value)
    wrong = b.variable(0, "wrong")
    with b.loop(n) as i:
        for k in (0, 1):
            with b.when(corners[i, k] > corners[i, k + 2]):
                b.store(wrong, (), 1)
    b.fail_unless(wrong[()].equals(0), BAD_BOX)
    return corners


def _remove(b: Builder, left: Buffer, corners: Buffer, place: Expr, threshold: float) -> None:
    """Takes box `place` and those that overlap it out of the race."""
    with b.loop(left.size, "parallel") as i:
        shared = overlap([corners[i, k] for k in range(4)], [corners[place, k] for k in range(4)])
        gone = Const(GONE, FLOAT32)
        b.store(left, i, select(shared > Const(float(F(threshold)), FLOAT32), gone, left[i]))
    b.store(left, place, GONE)


def _lower_fast(b: Builder, site: Site, scores: Buffer, corners: Buffer, ys: tuple[Buffer, ...]) -> None:
    a, n = site.attrs, corners.shape[0]
    first, kinds = scores.shape[2] - a.num_classes, min(a.max_classes_per_detection, a.num_classes)
    left = b.local(FLOAT32, (n,), "left")
    with b.loop(n, "parallel") as i:
        most = b.variable(scores[0, i, first], "most")
        with b.loop(a.num_classes - 1) as c, b.when(scores[0, i, c + (first + 1)] > most[()]):
            b.store(most, (), scores[0, i, c + (first + 1)])
        real = _real(site, 1, most[()])
        b.store(left, i, select(real >= float(F(a.nms_score_threshold)), real, Const(GONE, FLOAT32)))
    count, running = b.variable(0, "count"), b.variable(1, "running")
    taken = b.local(INDEX, (kinds,), "taken")
    with b.loop(a.max_detections) as step, b.when(running[()].equals(1)):
        place, _ = best(b, left)
        with b.when(place[()] < 0):
            b.store(running, (), 0)
        with b.when(place[()] >= 0):
            for k in range(kinds):
                chosen = _best_class(b, scores, place[()], first, a.num_classes, taken, k)
                row = step * a.max_classes_per_detection + k
                _write(
                    b, ys, row, corners, place[()], chosen[()], _real(site, 1, scores[0, place[()], chosen[()] + first])
                )
                b.store(taken, k, chosen[()])
            b.store(count, (), count[()] + 1)
            _remove(b, left, corners, place[()], a.nms_iou_threshold)
    b.store(ys[3], 0, count[()].to(FLOAT32))


def _best_class(b: Builder, scores: Buffer, box: Expr, first: int, classes: int, taken: Buffer, k: int) -> Buffer:
    """The class with the best score among those that are not in the first k places of `taken`."""
    chosen = b.variable(-1, "chosen")
    with b.loop(classes) as c:
        free = b.variable(1, "free")
        for earlier in range(k):
            with b.when(taken[earlier].equals(c)):
                b.store(free, (), 0)
        with b.when(free[()].equals(1)):
            with b.when(chosen[()] < 0):
                b.store(chosen, (), c)
            with b.when(scores[0, box, c + first] > scores[0, box, chosen[()] + first]):
                b.store(chosen, (), c)
    return chosen


def _write(b: Builder, ys: tuple[Buffer, ...], row: Expr, corners: Buffer, box: Expr, kind: Expr, score: Expr) -> None:
    for k in range(4):
        b.store(ys[0], (0, row, k), corners[box, k])
    b.store(ys[1], (0, row), kind.to(FLOAT32))
    b.store(ys[2], (0, row), score)


def _lower_regular(b: Builder, site: Site, scores: Buffer, corners: Buffer, ys: tuple[Buffer, ...]) -> None:
    a, n = site.attrs, corners.shape[0]
    most, first = a.max_detections, scores.shape[2] - a.num_classes
    left = b.local(FLOAT32, (n,), "left")
    if not most:
        return
    kept, box, kind = (b.local(t, (most,), m) for t, m in ((FLOAT32, "kept"), (INDEX, "box"), (INDEX, "kind")))
    fill(b, kept, GONE)
    fill(b, box, 0)
    fill(b, kind, 0)
    count = b.variable(0, "count")
    with b.loop(a.num_classes) as c:
        with b.loop(n, "parallel") as i:
            real = _real(site, 1, scores[0, i, c + first])
            b.store(left, i, select(real >= float(F(a.nms_score_threshold)), real, Const(GONE, FLOAT32)))
        running = b.variable(1, "running")
        with b.loop(min(a.detections_per_class, n)), b.when(running[()].equals(1)):
            place, score = best(b, left)
            with b.when(place[()] < 0):
                b.store(running, (), 0)
            with b.when(place[()] >= 0):
                _insert(b, kept, box, kind, (score[()], place[()], c), count)
                _remove(b, left, corners, place[()], a.nms_iou_threshold)
    with b.loop(most) as row, b.when(count[()] > row):
        _write(b, ys, row, corners, box[row], kind[row], kept[row])
    b.store(ys[3], 0, count[()].to(FLOAT32))


def _insert(b: Builder, kept: Buffer, box: Buffer, kind: Buffer, entry: tuple[Expr, ...], count: Buffer) -> None:
    """Puts (score, box, class) into the list sorted by score, after its equals; what falls off the end is lost."""
    most = kept.size
    at = b.variable(0, "at")
    with b.loop(most) as k, b.when(count[()] > k, kept[k] >= entry[0]):
        b.store(at, (), constant(k) + 1)
    with b.when(at[()] < most):
        with b.loop(most - 1) as k:
            to = (most - 1) - k
            with b.when(at[()] < to):
                for column in (kept, box, kind):
                    b.store(column, to, column[to - 1])
        for column, value in zip((kept, box, kind), entry, strict=True):
            b.store(column, at[()], value)
        with b.when(count[()] < most):
            b.store(count, (), count[()] + 1)
