"""Ranges: which real numbers the integers of a tensor have to reach.

An observer is shown the tensor's values for one sample after another, and says in the end from where to where the
integers should go. All but `MinMax` may leave out values that are so rare that finer steps for the others are worth it.

    observer = Percentile(99.9)
    for array in arrays: observer.see(array)
    low, high = observer.range()

Observers of parts of the samples become one of all: `first.merge(next)`, in the order of the samples, leaves `first` as
if it had seen them one after another.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from math import floor, frexp, ldexp
from typing import Protocol, Self

import numpy as np

from lithe.errors import InputError

BINS = 2048
MOST_BITS = 12  # with bins as narrow as 2**-12 of the span, there are too many or just enough
FINEST = 44  # bins are not narrower than 2**-44 of the largest value
LEAST_EXPONENT = -144
CLIPS = 96  # clipping points that are tried
LEVELS = 256
GUARD = 4.0  # how many times the error of what is cut off counts


FAR = 1e8  # greater numbers stand for infinity: they mask what a softmax or a maximum is not to see
LEAST_REACH = 32.0  # exp(-32) adds nothing to a sum


def within_reach(array: np.ndarray) -> np.ndarray:
    """The array, with numbers that stand for infinity moved nearer: still far from all others, which keep their steps.

    >>> within_reach(np.array([0, 1, -1e9]))
    array([  0.,   1., -32.])
    """
    far = np.abs(array) >= FAR
    if not far.any():
        return array
    rest = array[~far]
    low, high = (float(rest.min()), float(rest.max())) if rest.size else (0.0, 0.0)
    reach = max(high - low, LEAST_REACH)
    return np.clip(array, low - reach, high + reach)


Ends = tuple[float, float]


def extremes(array: np.ndarray) -> Ends:
    """The least and the greatest element; NaN where there is one."""
    return float(array.min()), float(array.max())


class Observer(Protocol):
    """What watches one tensor."""

    def see(self, array: np.ndarray, count: int = 1, ends: Ends | None = None) -> None:
        """Takes in the values of `count` samples, one after another along the first axis.

        They are finite, and there is at least one. ends: the least and the greatest, where they are known.
        """

    def range(self) -> tuple[float, float]:
        """The least and the greatest number to be reached."""

    def merge(self, later: Self) -> None:
        """Takes in what another of its kind saw of the samples that follow."""


class MinMax:
    """From the least value seen to the greatest."""

    def __init__(self) -> None:
        self.low, self.high = np.inf, -np.inf

    def see(self, array: np.ndarray, count: int = 1, ends: Ends | None = None) -> None:
        low, high = ends or extremes(array)
        self.low, self.high = min(self.low, low), max(self.high, high)

    def range(self) -> tuple[float, float]:
        return self.low, self.high

    def merge(self, later: MinMax) -> None:
        self.low, self.high = min(self.low, later.low), max(self.high, later.high)


class MovingAverage:
    """The least and greatest values of each sample, averaged: each new sample counts `rate`, those before less."""

    def __init__(self, rate: float = 0.05) -> None:
        self.rate = rate
        self.count = 0
        self.first: np.ndarray | None = None
        self.ends: np.ndarray | None = None

    def see(self, array: np.ndarray, count: int = 1, ends: Ends | None = None) -> None:
        rows = array.reshape(count, -1)
        for one in np.stack([rows.min(1), rows.max(1)], 1).astype(np.float64):
            self.first = one if self.first is None else self.first
            self.ends = one if self.ends is None else self.ends + self.rate * (one - self.ends)
        self.count += count

    def merge(self, later: MovingAverage) -> None:
        """The first sample of the later ones counted whole there; here it counts as what stood before them."""
        if self.ends is None:
            self.first, self.ends = later.first, later.ends
        elif later.ends is not None:
            self.ends = later.ends + (1 - self.rate) ** later.count * (self.ends - later.first)
        self.count += later.count

    def range(self) -> tuple[float, float]:
        low, high = self.ends if self.ends is not None else (0.0, 0.0)
        return float(low), float(high)


class Histogram:
    """Counts of values in bins. Bin n holds the values from n * width to (n + 1) * width.

    The width is the least power of two with which BINS of them reach all values, so it follows from what was seen and
    not from the order, and the sum of two histograms is the histogram of the sum.
    """

    def __init__(self) -> None:
        self.least, self.greatest = np.inf, -np.inf
        self.exponent = LEAST_EXPONENT
        self.first = 0  # the bin that is counted at place 0
        self.counts = np.zeros(BINS, np.int64)

    def see(self, array: np.ndarray, count: int = 1, ends: Ends | None = None) -> None:
        self._reach(*(ends or extremes(array)))
        places = self._bins(array.ravel()) - self.first
        self.counts += np.bincount(places, minlength=BINS)

    def merge(self, later: Histogram) -> None:
        if later.counts.any():
            self._reach(later.least, later.greatest)
            bins, counts = later._coarser(self.exponent)
            np.add.at(self.counts, bins - self.first, counts)

    def _reach(self, low: float, high: float) -> None:
        """Makes the bins reach from low to high, beside what they hold."""
        if self.least <= low and high <= self.greatest:
            return
        self.least, self.greatest = min(self.least, low), max(self.greatest, high)
        largest, span = max(abs(self.least), abs(self.greatest)), self.greatest - self.least
        exponent = max(self.exponent, frexp(largest)[1] - FINEST if largest else LEAST_EXPONENT)
        if span:
            exponent = max(exponent, frexp(span)[1] - MOST_BITS)
        while _bin(self.greatest, exponent) - _bin(self.least, exponent) >= BINS:
            exponent += 1
        bins, counts = self._coarser(exponent)
        self.exponent, self.first = exponent, _bin(self.least, exponent)
        self.counts = np.zeros(BINS, np.int64)
        np.add.at(self.counts, bins - self.first, counts)

    def _coarser(self, exponent: int) -> tuple[np.ndarray, np.ndarray]:
        """The bins of this width, or a greater one, that hold something, and how much; a bin may come several times."""
        (used,) = np.nonzero(self.counts)
        return (used + self.first) >> (exponent - self.exponent), self.counts[used]

    def _bins(self, values: np.ndarray) -> np.ndarray:
        return np.floor(values.astype(np.float64) * np.ldexp(1.0, -self.exponent)).astype(np.int64)

    @property
    def width(self) -> float:
        return float(np.ldexp(1.0, self.exponent))

    @property
    def low(self) -> float:
        return self.first * self.width

    @property
    def centres(self) -> np.ndarray:
        return self.low + (np.arange(BINS) + 0.5) * self.width

    def ends(self) -> tuple[float, float]:
        """The outer edges of the bins that have counts."""
        (used,) = np.nonzero(self.counts)
        return self.low + float(used[0]) * self.width, self.low + float(used[-1] + 1) * self.width


def _bin(value: float, exponent: int) -> int:
    return floor(ldexp(value, -exponent))


class Percentile(Histogram):
    """The range that leaves out (100 - share) percent of all values, half of them at each end."""

    def __init__(self, share: float = 99.99) -> None:
        super().__init__()
        self.share = share

    def range(self) -> tuple[float, float]:
        total = self.counts.cumsum()
        out = total[-1] * (100 - self.share) / 200
        first = int(np.searchsorted(total, out, side="right"))
        last = int(np.searchsorted(total, total[-1] - out, side="left"))
        return self.low + first * self.width, self.low + (last + 1) * self.width


class _Clipped(Histogram, ABC):
    """The range with the least loss of all that cut off what is larger than a bound."""

    def range(self) -> tuple[float, float]:
        low, high = self.ends()
        bounds = max(-low, high, 0.0) * np.linspace(1, 1 / CLIPS, CLIPS)
        return min(((max(low, -b), min(high, b)) for b in bounds), key=lambda ends: self.loss(*ends))

    @abstractmethod
    def loss(self, low: float, high: float) -> float:
        """What storing the values with this range costs."""

    def stored(self, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
        """For each bin, which level it is stored as, and the number that this stands for."""
        step = max(high - low, 1e-30) / (LEVELS - 1)
        levels = np.clip(np.round((self.centres - low) / step), 0, LEVELS - 1).astype(np.int64)
        return levels, low + levels * step


class MeanSquaredError(_Clipped):
    """The range with the least mean squared difference between values and what they are stored as."""

    def loss(self, low: float, high: float) -> float:
        return float((self.counts * (self.centres - self.stored(low, high)[1]) ** 2).sum())


class GuardedError(_Clipped):
    """The range with the least mean squared difference, where that of what is cut off counts four times.

    What is cut off is wrong by more than chance in every place where it is summed up, and values that were not seen may
    reach further still.
    """

    def loss(self, low: float, high: float) -> float:
        error = (self.centres - self.stored(low, high)[1]) ** 2
        guard = np.where((self.centres < low) | (self.centres > high), GUARD, 1.0)
        return float((self.counts * error * guard).sum())


class Entropy(_Clipped):
    """The range with the least Kullback-Leibler divergence of what is stored from the values.

    Zeros do not count: every range stores them exactly, and after a ReLU they would outweigh all else.
    Source: Migacz, 8-bit inference with TensorRT, 2017.
    """

    def loss(self, low: float, high: float) -> float:
        levels, _ = self.stored(low, high)
        inside = (self.centres >= low) & (self.centres <= high)
        seen = np.where(np.arange(BINS) == -self.first, 0, self.counts)  # but for the bin that begins at zero
        counts = np.where(inside, seen, 0).astype(np.float64)
        used = counts > 0
        if not used.any():
            return np.inf
        per_level = np.bincount(levels, counts, LEVELS)
        bins_of_level = np.bincount(levels[used], minlength=LEVELS)
        stored = np.where(used, per_level[levels] / np.maximum(bins_of_level[levels], 1), 0)
        (kept,) = np.nonzero(inside)
        counts[kept[0]] += seen[: kept[0]].sum()  # what is cut off is stored at the ends
        counts[kept[-1]] += seen[kept[-1] + 1 :].sum()
        p, q = counts / counts.sum(), stored / stored.sum()
        there = p > 0
        return float((p[there] * np.log(p[there] / np.maximum(q[there], 1e-9))).sum())


OBSERVERS: dict[str, Callable[[], Observer]] = {
    "min_max": MinMax,
    "moving_average": MovingAverage,
    "percentile": Percentile,
    "mean_squared_error": MeanSquaredError,
    "guarded_error": GuardedError,
    "entropy": Entropy,
}


def observer(name: str) -> Callable[[], Observer]:
    """What makes observers of this name. Raises InputError when there are none."""
    if name not in OBSERVERS:
        raise InputError(f"there are no ranges called {name!r}", hint=f"ranges are {', '.join(OBSERVERS)}")
    return OBSERVERS[name]
