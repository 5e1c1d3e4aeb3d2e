"""What repairs have to know of the values that a float model computes on samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, Self

import numpy as np

from lithe.optimize.ranges import Observer


class Watcher(Protocol):
    """What sees values beside the observer of their range, and is merged as that is."""

    def see(self, array: np.ndarray) -> None:
        """Takes in the values of a sample."""

    def merge(self, later: Self) -> None:
        """Takes in what another of its kind saw of the samples that follow."""


class Channels:
    """Of each place along the last axis: the least and the greatest value, the mean, and the mean square."""

    def __init__(self) -> None:
        self.count = 0
        self.low = self.high = self.total = self.squares = np.zeros(0)

    def see(self, array: np.ndarray) -> None:
        rows, seen = array.reshape(-1, array.shape[-1]), Channels()
        seen.count, seen.low, seen.high = len(rows), rows.min(0), rows.max(0)
        seen.total = rows.sum(0, dtype=np.float64)
        seen.squares = np.einsum("ij,ij->j", rows, rows, dtype=np.float64)
        self.merge(seen)

    def merge(self, later: Channels) -> None:
        if not later.count:
            return
        if not self.count:
            self.low, self.high, self.total, self.squares = later.low, later.high, later.total, later.squares
        else:
            self.low, self.high = np.minimum(self.low, later.low), np.maximum(self.high, later.high)
            self.total, self.squares = self.total + later.total, self.squares + later.squares
        self.count += later.count

    @property
    def mean(self) -> np.ndarray:
        return self.total / max(self.count, 1)

    @property
    def mean_square(self) -> np.ndarray:
        return self.squares / max(self.count, 1)

    @property
    def largest(self) -> np.ndarray:
        return np.maximum(-self.low, self.high).astype(np.float64)

    def scale(self, factors: np.ndarray) -> None:
        """From now on it is as if every value had been multiplied with the positive factor of its place."""
        self.low, self.high, self.total = self.low * factors, self.high * factors, self.total * factors
        self.squares = self.squares * factors**2


class Watched:
    """An observer of a tensor, and watchers that see the same."""

    def __init__(self, observer: Observer, watchers: Sequence[Watcher]) -> None:
        self.observer, self.watchers = observer, watchers

    def see(self, array: np.ndarray) -> None:
        for one in (self.observer, *self.watchers):
            one.see(array)

    def range(self) -> tuple[float, float]:
        return self.observer.range()

    def merge(self, later: Any) -> None:
        for one, other in zip((self.observer, *self.watchers), (later.observer, *later.watchers), strict=True):
            one.merge(other)
