"""The order in which layers give up precision: what saves most for the noise that it brings comes first.

Each layer is measured alone in each scheme: what that saves, and how much noise it brings. On the lower convex hull of
these points a layer gets ever smaller at an ever higher price; the moves of all layers along their hulls, sorted by
price, are what the Lagrangian relaxation of the knapsack gives. Where along this order the accuracy is lost, is found
by trying (see `door`).

Source: Shoham and Gersho, Efficient bit allocation for an arbitrary set of quantizers, 1988.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Point:
    """A layer alone in a scheme: how much of the model's cost that saves, and the noise at the outputs."""

    scheme: str
    saving: float
    noise: float


@dataclass(frozen=True)
class Move:
    """A layer goes on to a scheme; price: noise for each unit of the saving."""

    layer: str
    scheme: str
    price: float


def moves(points: Mapping[str, Iterable[Point]]) -> list[Move]:
    """The moves of all layers, from float32 on: those of one layer in the order in which they build on one another."""
    found = [move for layer, ones in points.items() for move in _hull(layer, ones)]
    return sorted(found, key=lambda move: move.price)


def _hull(layer: str, points: Iterable[Point]) -> Iterable[Move]:
    at = Point("", 0.0, 0.0)
    left = [p for p in points if p.saving > 0 and math.isfinite(p.noise)]
    while left := [p for p in left if p.saving > at.saving]:
        price, _, _, best = min(
            ((p.noise - at.noise) / (p.saving - at.saving), -p.saving, n, p) for n, p in enumerate(left)
        )
        yield Move(layer, best.scheme, price)
        at = best
