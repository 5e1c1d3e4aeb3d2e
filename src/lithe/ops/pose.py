"""PosenetDecoderOp: heat maps and offsets of a PoseNet become the key points of people.

Source: google-coral/libcoral, posenet_decoder (behaviour, not text); the method is that of PersonLab,
https://arxiv.org/abs/1803.08225.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from lithe.ir.arithmetic import clamp, floor, minimum
from lithe.ir.build import Builder
from lithe.ir.elementary import logistic, portable
from lithe.ir.loops import INDEX, Buffer, Const, Expr, constant, select
from lithe.ops.layout import fill
from lithe.ops.op import Op, Site, register
from lithe.ops.suppression import GONE, best
from lithe.types import FLOAT32, INT32, Shape

F = np.float32
KEYPOINTS, EDGES, REFINEMENTS = 17, 16, 5

# The tree of the body: (parent, child), counted nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles, the
# left one of each pair first.
BODY = (
    (0, 1), (1, 3), (0, 2), (2, 4), (0, 5), (5, 7), (7, 9), (5, 11), (11, 13), (13, 15),
    (0, 6), (6, 8), (8, 10), (6, 12), (12, 14), (14, 16),
)  # fmt: skip


def walks() -> np.ndarray:
    """[root, step, (from, to, channel)]: the way from each key point over all others.

    `channel` holds the y part of the offset, the x part lies EDGES further. Channels come as forward y, forward x,
    backward y, backward x; the official decoder reads the backward edge 0 at channel EDGES, and so do we.
    """
    ways: dict[int, list[tuple[int, int]]] = {k: [] for k in range(KEYPOINTS)}
    for number, (parent, child) in enumerate(BODY):
        ways[parent].append((child, number))
        ways[child].append((parent, 2 * EDGES + number if number else EDGES))
    table = []
    for root in range(KEYPOINTS):
        order, steps = [root], []
        for at in order:
            for to, channel in ways[at]:
                if to not in order:
                    order.append(to)
                    steps.append((at, to, channel))
        table.append(steps)
    return np.array(table, np.int32)


@register
class PosenetDecoder(Op):
    """Poses [1, D, 17, 2] (y, x in pixels of the picture), key point scores [1, D, 17], scores [1, D], number [1].

    heatmaps       [1, h, w, 17]: logits.
    short_offsets  [1, h, w, 34]: from a cell to the key point near it, y then x, in pixels.
    mid_offsets    [1, h, w, 64]: from one key point to its neighbours in the body.

    D = max_detections; rows beyond the number of poses are 0. Among equal scores the first place in the map wins.
    """

    name = "PosenetDecoderOp"
    operands = (
        ("heatmaps", "short_offsets", "mid_offsets"),
        ("pose_keypoints", "pose_keypoint_scores", "pose_scores", "pose_count"),
    )
    types = """H S M -> float32 float32 float32 float32: H= float32 uint8q; S= float32 uint8q; M= float32 uint8q"""

    @dataclass(frozen=True)
    class Attrs:
        max_detections: int = 10
        score_threshold: float = 0.5
        stride: int = 16
        nms_radius: float = 20.0

    def infer(site: Site) -> list[Shape]:
        a, heat = site.attrs, site.rank(0, 4)
        for i, channels in enumerate((KEYPOINTS, 2 * KEYPOINTS, 4 * EDGES)):
            wanted = (1, *heat.shape[1:3], channels)
            site.require(site.input(i).shape == wanted, f"must have shape {list(wanted)}, is {site.input(i)}", i)
        site.require(min(heat.shape) > 0, f"{heat} has no cells", 0)
        site.require(a.stride > 0, f"stride must be positive, is {a.stride}")
        site.require(a.max_detections > 0, f"max_detections must be positive, is {a.max_detections}")
        site.require(0 < a.score_threshold < 1, f"score_threshold must lie in (0, 1), is {a.score_threshold}")
        d = a.max_detections
        return [(1, d, KEYPOINTS, 2), (1, d, KEYPOINTS), (1, d), (1,)]

    def evaluate(site: Site, heat: np.ndarray, short: np.ndarray, mid: np.ndarray) -> list[np.ndarray]:
        a = site.attrs
        poses, scores, quality = _people(site, *(_real(site, i, v[0]) for i, v in enumerate((heat, short, mid))))
        final = _without_doubles(poses, scores, quality, _radius(a))
        result = [np.zeros(t.shape, F) for t in site.outputs]
        order = [n for n in np.argsort(-final, kind="stable") if final[n] >= F(a.score_threshold)]
        for row, n in enumerate(order):
            result[0][0, row], result[1][0, row], result[2][0, row] = poses[n] * F(a.stride), scores[n], final[n]
        result[3][0] = len(order)
        return result

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        d = site.attrs.max_detections
        for y in ys:
            fill(b, y, 0.0)
        poses = b.local(FLOAT32, (d, KEYPOINTS, 2), "poses")
        scores = b.local(FLOAT32, (d, KEYPOINTS), "scores")
        quality = b.local(FLOAT32, (d,), "quality")
        count = _lower_people(b, site, xs, poses, scores, quality)
        _lower_ranking(b, site, poses, scores, quality, count, ys)


def _real(site: Site, i: int, stored: Any) -> Any:
    """Real values of stored ones; offsets in cells of the map."""
    t, share = site.input(i), F(1.0 if i == 0 else 1.0 / site.attrs.stride)
    if t.dtype.is_float:
        return stored * share
    scale, zero_point = site.quantization(t, site.operand(i))
    if isinstance(stored, Expr):
        return (stored.to(FLOAT32) - float(zero_point)) * (F(scale) * share)
    return (stored.astype(F) - F(zero_point)) * (F(scale) * share)


def _least_logit(a: PosenetDecoder.Attrs) -> np.float32:
    """The threshold as a logit."""
    odds = 1.0 / (float(F(a.score_threshold)) + 1e-6) - 1.0
    return F(-math.log(odds)) if odds > 0 else F(math.inf)


def _radius(a: PosenetDecoder.Attrs) -> np.float32:
    """The squared radius, in cells, within which key points of one kind are the same."""
    radius = F(a.nms_radius) / F(a.stride)
    return radius * radius


def _sample(values: np.ndarray, y: np.float32, x: np.float32, channel: int) -> np.float32:
    """The map between four cells."""
    h, w, _ = values.shape
    top, left = int(y), int(x)
    down, right = y - F(top), x - F(left)
    below, beside = min(top + 1, h - 1), min(left + 1, w - 1)
    upper = (F(1) - right) * values[top, left, channel] + right * values[top, beside, channel]
    lower = (F(1) - right) * values[below, left, channel] + right * values[below, beside, channel]
    return (F(1) - down) * upper + down * lower


def _people(site: Site, heat: np.ndarray, short: np.ndarray, mid: np.ndarray) -> tuple[np.ndarray, ...]:
    """Key points (in cells), their scores, and the score of each person, in the order they are found."""
    a, table = site.attrs, walks()
    h, w, _ = heat.shape
    limits = F(h - 1), F(w - 1)
    framed = np.pad(heat, ((1, 1), (1, 1), (0, 0)), constant_values=F(GONE))
    around = np.max([framed[i : i + h, j : j + w] for i in range(3) for j in range(3)], 0)
    left = np.where((heat >= around) & (heat >= _least_logit(a)), heat, F(GONE)).reshape(-1)

    def moved(point: list[np.float32], offsets: np.ndarray, channel: int, apart: int) -> list[np.float32]:
        steps = (_sample(offsets, *point, channel), _sample(offsets, *point, channel + apart))
        return [clamp(p + s, F(0), m)[()] for p, s, m in zip(point, steps, limits, strict=True)]

    poses: list[np.ndarray] = []
    scores: list[np.ndarray] = []
    quality: list[float] = []
    while len(poses) < a.max_detections:
        place = int(np.argmax(left))
        if left[place] == GONE:
            break
        left[place] = GONE
        cell, root = divmod(place, KEYPOINTS)
        pose, found = np.zeros((KEYPOINTS, 2), F), np.zeros(KEYPOINTS, F)
        start = [F(v) for v in divmod(cell, w)]
        steps = short[int(start[0]), int(start[1]), [root, root + KEYPOINTS]]
        pose[root] = [clamp(p + s, F(0), m)[()] for p, s, m in zip(start, steps, limits, strict=True)]
        if any(_same_place(pose[root], other[root], _radius(a)) for other in poses):
            continue
        found[root] = _sample(heat, *pose[root], root)
        for at, to, channel in table[root].tolist():
            point = moved(list(pose[at]), mid, channel, EDGES)
            for _ in range(REFINEMENTS):
                point = moved(point, short, to, KEYPOINTS)
            pose[to], found[to] = point, _sample(heat, *point, to)
        found = portable(logistic)(found)
        total = F(0)
        for value in found:
            total = total + value
        if total / F(KEYPOINTS) >= F(a.score_threshold):
            poses.append(pose)
            scores.append(found)
            quality.append(total / F(KEYPOINTS))
    return np.array(poses, F).reshape(-1, KEYPOINTS, 2), np.array(scores, F), np.array(quality, F)


def _same_place(one: Any, other: Any, radius: Any) -> Any:
    dy, dx = other[0] - one[0], other[1] - one[1]
    return dy * dy + dx * dx <= radius


def _without_doubles(poses: np.ndarray, scores: np.ndarray, quality: np.ndarray, radius: np.float32) -> np.ndarray:
    """The people's scores again, where a key point that a better person has at the same place does not count."""
    final = np.zeros(len(poses), F)
    for n in range(len(poses)):
        better = [j for j in range(len(poses)) if quality[j] > quality[n] or (quality[j] == quality[n] and j < n)]
        total = F(0)
        for k in range(KEYPOINTS):
            if not any(_same_place(poses[n, k], poses[j, k], radius) for j in better):
                total = total + scores[n, k]
        final[n] = total / F(KEYPOINTS)
    return final


def _lower_sample(b: Builder, site: Site, i: int, values: Buffer, y: Expr, x: Expr, channels: list[Expr]) -> list[Expr]:
    """Input i between four cells, for each channel."""
    _, h, w, _ = values.shape
    row, column = b.variable(floor(y), "row"), b.variable(floor(x), "column")
    down, right = b.variable(y - row[()], "down"), b.variable(x - column[()], "right")
    top, left = b.variable(row[()].to(INDEX), "top"), b.variable(column[()].to(INDEX), "left")
    below = b.variable(minimum(top[()] + 1, constant(h - 1)), "below")
    beside = b.variable(minimum(left[()] + 1, constant(w - 1)), "beside")

    def real(r: Buffer, c: Buffer, channel: Expr) -> Expr:
        return _real(site, i, values[0, r[()], c[()], channel])

    found: list[Expr] = []
    for channel in channels:
        upper = (1.0 - right[()]) * real(top, left, channel) + right[()] * real(top, beside, channel)
        lower = (1.0 - right[()]) * real(below, left, channel) + right[()] * real(below, beside, channel)
        found.append(b.variable((1.0 - down[()]) * upper + down[()] * lower, "sample")[()])
    return found


def _candidates(b: Builder, site: Site, heat: Buffer) -> Buffer:
    """The map with all but its local maxima above the threshold taken out, as a vector in local memory."""
    _, h, w, _ = heat.shape
    left = b.local(FLOAT32, (h, w, KEYPOINTS), "left")
    with b.nest((h, w), "parallel") as (y, x), b.loop(KEYPOINTS, "parallel") as k:
        score = b.variable(_real(site, 0, heat[0, y, x, k]), "score")
        around = b.variable(score[()], "around")
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                near = ([y >= 1] if dy < 0 else [y < h - 1] if dy > 0 else []) + (
                    [x >= 1] if dx < 0 else [x < w - 1] if dx > 0 else []
                )
                if near:
                    with b.when(*near):
                        value = _real(site, 0, heat[0, y + dy, x + dx, k])
                        b.store(around, (), select(value > around[()], value, around[()]))
        stays = (score[()] >= around[()]) & (score[()] >= float(_least_logit(site.attrs)))
        b.store(left, (y, x, k), select(stays, score[()], Const(GONE, FLOAT32)))
    return left.viewed((left.size,))


def _lower_people(
    b: Builder, site: Site, xs: tuple[Buffer | None, ...], poses: Buffer, scores: Buffer, quality: Buffer
) -> Buffer:
    """Finds people into the three buffers; returns the local scalar that counts them."""
    a = site.attrs
    heat, short, mid = xs
    _, h, w, _ = heat.shape
    left = _candidates(b, site, heat)
    table = b.constant(walks(), "walks")
    count, running = b.variable(0, "count"), b.variable(1, "running")

    def inside(value: Expr, size: int) -> Expr:
        return clamp(value, Const(0.0, FLOAT32), Const(float(size - 1), FLOAT32))

    with b.loop(left.size), b.when(running[()].equals(1)):
        place, _ = best(b, left)
        with b.when(place[()] < 0):
            b.store(running, (), 0)
        with b.when(place[()] >= 0):
            b.store(left, place[()], GONE)
            root, cell = place[()] % KEYPOINTS, place[()] // KEYPOINTS
            row, column = cell // w, cell % w
            dy, dx = (_real(site, 1, short[0, row, column, c]) for c in (root, root + KEYPOINTS))
            y = b.variable(inside(row.to(FLOAT32) + dy, h), "y")
            x = b.variable(inside(column.to(FLOAT32) + dx, w), "x")
            fresh = b.variable(1, "fresh")
            with b.loop(a.max_detections) as j, b.when(count[()] > j):
                known = [poses[j, root, k] for k in (0, 1)]
                with b.when(_same_place((y[()], x[()]), known, float(_radius(a)))):
                    b.store(fresh, (), 0)
            with b.when(fresh[()].equals(1)):
                n = count[()]
                b.store(poses, (n, root, 0), y[()])
                b.store(poses, (n, root, 1), x[()])
                (score,) = _lower_sample(b, site, 0, heat, y[()], x[()], [root])
                b.store(scores, (n, root), score)
                with b.loop(EDGES) as step:
                    at, to, channel = (b.variable(table[root, step, k].to(INDEX), "walk")[()] for k in range(3))
                    b.store(y, (), poses[n, at, 0])
                    b.store(x, (), poses[n, at, 1])
                    dy, dx = _lower_sample(b, site, 2, mid, y[()], x[()], [channel, channel + EDGES])
                    b.store(y, (), inside(y[()] + dy, h))
                    b.store(x, (), inside(x[()] + dx, w))
                    with b.loop(REFINEMENTS):
                        dy, dx = _lower_sample(b, site, 1, short, y[()], x[()], [to, to + KEYPOINTS])
                        b.store(y, (), inside(y[()] + dy, h))
                        b.store(x, (), inside(x[()] + dx, w))
                    b.store(poses, (n, to, 0), y[()])
                    b.store(poses, (n, to, 1), x[()])
                    (score,) = _lower_sample(b, site, 0, heat, y[()], x[()], [to])
                    b.store(scores, (n, to), score)
                total = b.variable(Const(0.0, FLOAT32), "total")
                with b.loop(KEYPOINTS) as k:
                    b.store(scores, (n, k), logistic(scores[n, k]))
                    b.store(total, (), total[()] + scores[n, k])
                mean = b.variable(total[()] / float(KEYPOINTS), "mean")
                with b.when(mean[()] >= float(F(a.score_threshold))):
                    b.store(quality, n, mean[()])
                    b.store(count, (), count[()] + 1)
                    with b.when(count[()] >= a.max_detections):
                        b.store(running, (), 0)
    return count


def _precedes(values: Buffer, j: Expr, n: Expr) -> Expr:
    """Whether j comes before n in decreasing order of values, the first of equals first."""
    return (values[j] > values[n]) | (values[j].equals(values[n]) & (j < n))


def _lower_ranking(
    b: Builder, site: Site, poses: Buffer, scores: Buffer, quality: Buffer, count: Buffer, ys: tuple[Buffer, ...]
) -> None:
    """Scores the people again without the key points that a better one has, and writes them in that order."""
    a = site.attrs
    d = a.max_detections
    final = b.local(FLOAT32, (d,), "final")
    with b.loop(d) as n, b.when(count[()] > n):
        total = b.variable(Const(0.0, FLOAT32), "total")
        with b.loop(KEYPOINTS) as k:
            alone = b.variable(Const(1, INT32), "alone")
            with b.loop(d) as j, b.when(count[()] > j):
                here, there = ([poses[m, k, c] for c in (0, 1)] for m in (n, j))
                with b.when(_precedes(quality, j, n), _same_place(here, there, float(_radius(a)))):
                    b.store(alone, (), 0)
            with b.when(alone[()].equals(1)):
                b.store(total, (), total[()] + scores[n, k])
        b.store(final, n, total[()] / float(KEYPOINTS))
    written = b.variable(0, "written")
    with b.loop(d) as n, b.when(count[()] > n):
        with b.when(final[n] >= float(F(a.score_threshold))):
            row = b.variable(0, "row")
            with b.loop(d) as j, b.when(count[()] > j):
                with b.when(_precedes(final, j, n)):
                    b.store(row, (), row[()] + 1)
            with b.loop(KEYPOINTS) as k:
                for c in (0, 1):
                    b.store(ys[0], (0, row[()], k, c), poses[n, k, c] * float(a.stride))
                b.store(ys[1], (0, row[()], k), scores[n, k])
            b.store(ys[2], (0, row[()]), final[n])
            b.store(written, (), written[()] + 1)
    b.store(ys[3], 0, written[()].to(FLOAT32))
