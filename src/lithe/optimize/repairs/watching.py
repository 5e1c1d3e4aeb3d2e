"""What repairs have to know of the values that a float model computes on samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, Self

import numpy as np

from lithe.optimize.ranges import Ends, Observer


class Watcher(Protocol):
    """What sees values beside the observer of their range, and is merged as that is."""

    def see(self, array: np.ndarray, count: int = 1) -> None:
        """Takes in the values of `count` samples, one after another along the first axis."""

    def merge(self, later: Self) -> None:
        """Takes in what another of its kind saw of the samples that follow."""


WIDTH = 512  # elements that are reduced side by side


def _wide(array: np.ndarray) -> np.ndarray:
    """The array as rows of several times its last axis, which are reduced more quickly."""
    channels, times = array.shape[-1], 1
    count = array.size // channels
    while count % (2 * times) == 0 and 2 * times * channels <= WIDTH:
        times *= 2
    return array.reshape(count // times, times * channels)


class Means:
    """The mean of each place along the last axis."""

    def __init__(self) -> None:
        self.count = 0
        self.total = np.zeros(0)

    def see(self, array: np.ndarray, count: int = 1) -> None:
        channels = array.shape[-1]
        self.add(array.size // channels, _wide(array).sum(0).reshape(-1, channels).sum(0, dtype=np.float64))

    def add(self, count: int, total: np.ndarray) -> None:
        self.total = self.total + total if self.count else total
        self.count += count

    def merge(self, later: Means) -> None:
        if later.count:
            self.add(later.count, later.total)

    @property
    def mean(self) -> np.ndarray:
        return self.total / max(self.count, 1)

    def scale(self, factors: np.ndarray) -> None:
        """From now on it is as if every value had been multiplied with the positive factor of its place."""
        self.total = self.total * factors


class Channels(Means):
    """Beside it the least and the greatest value, and the mean square."""

    def __init__(self) -> None:
        super().__init__()
        self.low = self.high = self.squares = np.zeros(0)

    def see(self, array: np.ndarray, count: int = 1) -> None:
        rows, channels = _wide(array), array.shape[-1]
        low, high = rows.min(0).reshape(-1, channels).min(0), rows.max(0).reshape(-1, channels).max(0)
        squares = np.einsum("ij,ij->j", rows, rows).reshape(-1, channels).sum(0, dtype=np.float64)
        self._reach(low, high, squares)
        super().see(array)

    def _reach(self, low: np.ndarray, high: np.ndarray, squares: np.ndarray) -> None:
        if self.count:
            low, high = np.minimum(self.low, low), np.maximum(self.high, high)
            squares = self.squares + squares
        self.low, self.high, self.squares = low, high, squares

    def merge(self, later: Means) -> None:
        if isinstance(later, Channels) and later.count:
            self._reach(later.low, later.high, later.squares)
        super().merge(later)

    @property
    def mean_square(self) -> np.ndarray:
        return self.squares / max(self.count, 1)

    @property
    def largest(self) -> np.ndarray:
        return np.maximum(-self.low, self.high).astype(np.float64)

    def scale(self, factors: np.ndarray) -> None:
        super().scale(factors)
        self.low, self.high, self.squares = self.low * factors, self.high * factors, self.squares * factors**2


class Watched:
    """An observer of a tensor, and watchers that see the same."""

    def __init__(self, observer: Observer, watchers: Sequence[Watcher]) -> None:
        self.observer, self.watchers = observer, watchers

    def see(self, array: np.ndarray, count: int = 1, ends: Ends | None = None) -> None:
        self.observer.see(array, count, ends)
        for one in self.watchers:
            one.see(array, count)

    def range(self) -> tuple[float, float]:
        return self.observer.range()

    def merge(self, later: Any) -> None:
        for one, other in zip((self.observer, *self.watchers), (later.observer, *later.watchers), strict=True):
            one.merge(other)
