"""Non-maximum suppression: of boxes that overlap, the one with the best score stays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lithe.errors import ExecutionError
from lithe.ir.arithmetic import is_expr, maximum, minimum, where
from lithe.ir.build import Builder
from lithe.ir.elementary import exp, portable
from lithe.ir.loops import Buffer, Const, Expr
from lithe.ops.layout import fill, known_integers
from lithe.ops.op import Op, Site, register
from lithe.types import FLOAT32, INT32, Shape

GONE = -math.inf  # the score of a box that is out of the race


def overlap(a: Sequence[Any], c: Sequence[Any]) -> Any:
    """Intersection over union of boxes (y_min, x_min, y_max, x_max) in float32; 0 when either has no area."""
    zero = Const(0.0, FLOAT32) if is_expr(*a, *c) else np.float32(0)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        area_a, area_c = (a[2] - a[0]) * (a[3] - a[1]), (c[2] - c[0]) * (c[3] - c[1])
        height = maximum(minimum(a[2], c[2]) - maximum(a[0], c[0]), zero)
        width = maximum(minimum(a[3], c[3]) - maximum(a[1], c[1]), zero)
        shared = height * width
        ratio = shared / (area_a + area_c - shared)
        return where(area_a <= zero, zero, where(area_c <= zero, zero, ratio))


def sorted_corners(box: Sequence[Any]) -> tuple[Any, ...]:
    """(y_min, x_min, y_max, x_max) of a box given by any two opposite corners (y, x, y, x)."""
    low = [minimum(box[k], box[k + 2]) for k in (0, 1)]
    high = [maximum(box[k], box[k + 2]) for k in (0, 1)]
    return (*low, *high)


def best(b: Builder, scores: Buffer) -> tuple[Buffer, Buffer]:
    """(place, score) of the first of the best scores, as local scalars; place is -1 when all are gone."""
    place, score = b.variable(-1, "best"), b.variable(Const(GONE, FLOAT32), "best_score")
    with b.loop(scores.size) as n, b.when(scores[n] > score[()]):
        b.store(score, (), scores[n])
        b.store(place, (), n)
    return place, score


def columns(boxes: Any) -> tuple[Any, ...]:
    return tuple(boxes[..., k] for k in range(4))


def select_boxes(
    boxes: np.ndarray, scores: np.ndarray, most: int, iou: np.float32, least: np.float32, sigma: np.float32
) -> tuple[list[int], list[np.float32]]:
    """(indices, scores) of at most `most` boxes, best first.

    A box goes when it overlaps a chosen one by `iou` or more; with sigma > 0 others lose score by
    exp(-overlap**2 / (2 sigma)), and go at `least` or below.
    """
    corners = sorted_corners(columns(boxes))
    left = np.where(scores > least, scores, np.float32(GONE))
    chosen: list[int] = []
    found: list[np.float32] = []
    for _ in range(min(most, int((left > GONE).sum()))):
        n = int(np.argmax(left))
        if left[n] == GONE:
            break
        chosen.append(n)
        found.append(left[n])
        shared = overlap(corners, [c[n] for c in corners])
        if sigma > 0:
            scale = np.float32(-0.5) / sigma
            left = np.where(left > GONE, left * portable(exp)(scale * shared * shared), left)
            left = np.where(left > least, left, np.float32(GONE))
        left[shared >= iou] = GONE
    return chosen, found


def _infer(site: Site, with_scores: bool) -> list[Shape]:
    boxes = site.rank(0, 2)
    site.require(boxes.shape[1] == 4, f"must have shape [boxes, 4], is {boxes}", 0)
    site.require(site.input(1).shape == boxes.shape[:1], f"must have shape [{boxes.shape[0]}], is {site.input(1)}", 1)
    for i in range(2, 6 if with_scores else 5):
        site.require(site.input(i).size == 1, f"must be a scalar, is {site.input(i)}", i)
    most = known_integers(site, 2)
    site.require(most is None or most[0] >= 0, f"must not be negative, is {most}", 2)
    length = (None,) if most is None else (most[0],)
    return [length, length, ()] if with_scores else [length, ()]


def _evaluate(boxes: np.ndarray, scores: np.ndarray, most: np.ndarray, *limits: np.ndarray) -> tuple:
    count = int(most.reshape(()))
    if count < 0:
        raise ExecutionError(f"max_output_size must not be negative, is {count}")
    if count > MOST_BOXES:
        raise ExecutionError(f"max_output_size {count} is more than the {MOST_BOXES} allowed")
    chosen, found = select_boxes(boxes, scores, count, *(v.reshape(())[()] for v in limits))
    indices, values = np.zeros(count, np.int32), np.zeros(count, np.float32)
    indices[: len(chosen)], values[: len(chosen)] = chosen, found
    return indices, values, np.array(len(chosen), np.int32)


MOST_BOXES = 1 << 24


def _lower(b: Builder, xs: tuple[Buffer, ...], indices: Buffer, values: Buffer | None, count: Buffer) -> None:
    boxes, scores = xs[0], xs[1]
    n = scores.size
    iou, least = (b.variable(x.viewed((1,))[0], name) for x, name in zip(xs[3:5], ("iou", "least"), strict=True))
    scale = None
    if len(xs) > 5:
        sigma = b.variable(xs[5].viewed((1,))[0], "sigma")
        scale = b.variable(Const(0.0, FLOAT32), "scale")
        with b.when(sigma[()] > 0.0):
            b.store(scale, (), Const(-0.5, FLOAT32) / sigma[()])
    left, corners = b.local(FLOAT32, (n,), "left"), b.local(FLOAT32, (n, 4), "corners")
    candidates, chosen = b.variable(0, "candidates"), b.variable(0, "chosen")
    with b.loop(n, "parallel") as i:
        for k, value in enumerate(sorted_corners([boxes[i, k] for k in range(4)])):
            b.store(corners, (i, k), value)
        b.store(left, i, where(scores[i] > least[()], scores[i], Const(GONE, FLOAT32)))
    with b.loop(n) as i, b.when(left[i] > GONE):
        b.store(candidates, (), candidates[()] + 1)
    fill(b, indices, 0)
    if values is not None:
        fill(b, values, 0.0)
    with b.loop(indices.size) as step, b.when(candidates[()] > step):
        place, score = best(b, left)
        with b.when(place[()] >= 0):
            b.store(indices, step, place[()].to(INT32))
            if values is not None:
                b.store(values, step, score[()])
            b.store(chosen, (), chosen[()] + 1)
            with b.loop(n, "parallel") as i:
                shared = overlap([corners[i, k] for k in range(4)], [corners[place[()], k] for k in range(4)])
                rest: Expr = left[i]
                if scale is not None:
                    decayed = rest * exp(scale[()] * shared * shared)
                    decayed = where(scale[()] < 0.0, decayed, rest)
                    rest = where(decayed > least[()], decayed, Const(GONE, FLOAT32))
                b.store(left, i, where(shared >= iou[()], Const(GONE, FLOAT32), rest))
    b.store(count.viewed((1,)), 0, chosen[()].to(INT32))


@register
class NonMaxSuppression(Op):
    """Indices of the boxes that stay, best first, filled up with 0 to max_output_size, and how many they are.

    Among equal scores the first box wins.
    """

    name, code = "NON_MAX_SUPPRESSION_V4", 120
    operands = (
        ("boxes", "scores", "max_output_size", "iou_threshold", "score_threshold"),
        ("selected_indices", "selected_count"),
    )
    types = "float32 float32 int32 float32 float32 -> int32 int32"

    def infer(site: Site) -> list[Shape]:
        return _infer(site, False)

    def evaluate(site: Site, *inputs: np.ndarray) -> list[np.ndarray]:
        indices, _, count = _evaluate(*inputs, np.float32(0))
        return [indices, count]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        _lower(b, xs, ys[0], None, ys[1])


@register
class SoftNonMaxSuppression(Op):
    """As NON_MAX_SUPPRESSION_V4, and overlapping boxes lose score as sigma says; the scores are an output too."""

    name, code = "NON_MAX_SUPPRESSION_V5", 121
    operands = (
        ("boxes", "scores", "max_output_size", "iou_threshold", "score_threshold", "soft_nms_sigma"),
        ("selected_indices", "selected_scores", "selected_count"),
    )
    types = "float32 float32 int32 float32 float32 float32 -> int32 float32 int32"

    def infer(site: Site) -> list[Shape]:
        return _infer(site, True)

    def evaluate(site: Site, *inputs: np.ndarray) -> list[np.ndarray]:
        return list(_evaluate(*inputs))

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        _lower(b, xs, *ys)
