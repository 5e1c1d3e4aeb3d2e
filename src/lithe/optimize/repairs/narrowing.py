"""Narrowing: ranges that leave out the rarest values, where that brings a model's results nearer.

    share s of the range with the least error of stored values:    sum over x of (x - stored(x, s))**2

Finer steps for all other values are worth more than the rarest, if errors add up by chance, as those of noise do. Where
the greatest values are what the model is about, as in most networks on pictures, they are not. No tensor says which:
where tensors gain enough by it, both models are made, are run on some of the samples, and the one whose results are
nearer to the float model's stays.
Models that take longer than a moment to run, or have too few results to tell by, keep all values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

import numpy as np

from lithe.ir.graph import Module, Tensor
from lithe.optimize.batches import Batches, each_seconds
from lithe.optimize.integers import as_stored
from lithe.optimize.one_thread import one_thread
from lithe.optimize.ranges import LEVELS, Ends, Histogram, MinMax, extremes
from lithe.runtime.instance import Options
from lithe.runtime.model import Model

SHARES = np.linspace(1, 0.4, 25)
WATCHED = 1 << 11  # values of a sample
SECONDS = 0.15  # that running both models and the float one may take
LEAST, FEW, MOST = 2, 8, 32  # samples
PLENTY = 1 << 15  # numbers of each result: with as many, a few samples do
ENOUGH = 1024  # numbers of each result: with fewer, it is chance that says which is nearer
OF_ERROR = 0.98  # of a tensor must stay at most, or its range stays
LEAST_HOPE, LEAST_GAIN = 0.1, 0.4  # dB, of tensors on the mean, and of the results


class Reach(MinMax):
    """From the least value seen to the greatest; it also knows a narrower range."""

    def __init__(self) -> None:
        super().__init__()
        self.some = Histogram()

    def see(self, array: np.ndarray, count: int = 1, ends: Ends | None = None) -> None:
        ends = ends or extremes(array)
        super().see(array, count, ends)
        flat = array.ravel()
        self.some.see(flat[:: flat.size // (WATCHED * count) | 1], count, ends)

    def merge(self, later: MinMax) -> None:
        super().merge(later)
        if isinstance(later, Reach):
            self.some.merge(later.some)

    def narrow(self) -> Ends:
        """The range with the least squared error, if that is much less."""
        return self.narrowed()[0]

    def narrowed(self) -> tuple[Ends, float]:
        """That range, and how much less its error is, in dB."""
        (used,) = np.nonzero(self.some.counts)
        counts, x = self.some.counts[used], self.some.low + (used + 0.5) * self.some.width
        low, high = min(self.low, 0.0), max(self.high, 0.0)
        bounds = max(-low, high) * SHARES[:, None]
        lows, highs = np.maximum(low, -bounds), np.minimum(high, bounds)
        step = np.maximum(highs - lows, 1e-30) / (LEVELS - 1)
        stored = np.rint(np.clip(x, lows, highs) / step) * step
        errors = ((x - stored) ** 2 * counts).sum(1)
        best = int(np.argmin(errors))
        if not errors[best] < OF_ERROR * errors[0]:
            return self.range(), 0.0
        ends = float(max(self.low, lows[best, 0])), float(min(self.high, highs[best, 0]))
        return ends, float(10 * np.log10(errors[0] / max(errors[best], 1e-30)))


def narrowed(seen: Mapping[Any, Reach], ranges: Mapping[Any, Ends]) -> dict[Any, Ends] | None:
    """The ranges with those that are better narrow, None where that is too little to be worth a try."""
    found = {one: seen[one].narrowed() for one in ranges if one in seen}
    if sum(gain for _, gain in found.values()) < LEAST_HOPE * len(ranges):
        return None
    return {**ranges, **{one: ends for one, (ends, _) in found.items()}}


class Kept:
    """What a result was on the first samples, one after another."""

    def __init__(self, most: int) -> None:
        self.most, self.count = most, 0
        self.parts: list[np.ndarray] = []

    def see(self, array: np.ndarray, count: int = 1) -> None:
        if self.count < self.most:
            some = array.reshape(count, -1)[: self.most - self.count]
            self.parts.append(some.astype(np.float64).ravel())
            self.count += len(some)

    def merge(self, later: Kept) -> None:
        if self.count < self.most and later.count:
            self.see(later.values, later.count)

    @property
    def values(self) -> np.ndarray:
        return np.concatenate(self.parts or [np.zeros(0)])


def samples_judged(module: Module) -> int:
    """On how many samples models are judged; 0 where that takes too long, or says too little."""
    if any(call.repeats for n in module.main.nodes for call in n.op.calls.values()):
        return 0  # nobody knows how long loops take
    fewest = min((t.type.size for t in module.main.outputs if t.type.dtype.is_float), default=0)
    most = min(MOST, max(FEW, PLENTY // max(fewest, 1)))
    count = min(int(SECONDS / max(3 * each_seconds(module, 1), 1e-9)), most)
    return count if count >= LEAST and count * fewest >= ENOUGH else 0


def with_first(samples: Any, count: int) -> tuple[Any, list[Any]]:
    """The same samples, and the first of them."""
    if not isinstance(samples, Iterator):
        return samples, list(islice(samples, count)) if isinstance(samples, Iterable) else []
    first = list(islice(samples, count))
    return chain(first, samples), first


@one_thread()
def is_nearer(wanted: Sequence[Kept | None], whole: Module, narrow: Module, samples: Sequence[Sequence[Any]]) -> bool:
    """Whether a model's results are clearly nearer than another's to a float model's.

    wanted   the float model's results, where they are known.
    samples  arrays in the order of the inputs.
    """
    ways: list[str] = []
    before, after = (_decibels(wanted, _results(made, samples, ways)) for made in (whole, narrow))
    return after >= before + LEAST_GAIN


def _results(module: Module, samples: Sequence[Sequence[Any]], ways: list[str]) -> list[np.ndarray | None]:
    """The results on samples, one after another; None for what is no real number.

    ways  of running operators, as they were found for a model of the same operators; they are added.
    """
    given = [[_as(t, np.asarray(a)) for t, a in zip(module.main.inputs, one, strict=True)] for one in samples]
    made, outputs = {t for n in module.main.nodes for t in n.outputs}, module.main.outputs
    batches = Batches(module, outputs, len(given), ways)
    found: list[list[Any]]
    if made.issuperset(outputs) and all(map(batches.fits, given)):
        found = []
        for first in range(0, len(given), batches.most):
            results: dict[Any, np.ndarray] = {}
            batches.run(given[first : first + batches.most], lambda t, array, *_, to=results: to.update({t: array}))
            found.append([results[t] for t in outputs])
        ways[:] = batches.ways
    else:
        model = Model(module, Options(reference=True))
        found = [list(model.main(*arrays).values()) for arrays in given]
    return [
        _real(t, [np.ravel(array) for array in parts])
        for t, parts in zip(outputs, zip(*found, strict=True), strict=True)
    ]


def _as(t: Tensor, array: np.ndarray) -> np.ndarray:
    q = t.type.quantization
    return as_stored(array, q, t.type.dtype) if q is not None and array.dtype.kind == "f" else array


def _real(t: Tensor, parts: list[np.ndarray]) -> np.ndarray | None:
    q, array = t.type.quantization, np.concatenate(parts)
    if q is not None and t.type.dtype.is_integer:
        return (array.astype(np.float64) - q.zero_point[0]) * q.scale[0]
    return array if array.dtype.kind == "f" else None


def _decibels(wanted: Sequence[Kept | None], got: Sequence[np.ndarray | None]) -> float:
    """The mean over the results; -inf where they cannot be compared."""
    found = []
    for kept, have in zip(wanted, got, strict=True):
        want = kept.values if kept is not None else np.zeros(0)
        if have is not None and want.shape == have.shape and want.any():
            found.append(10 * np.log10((want @ want) / max(((want - have) ** 2).sum(), 1e-30)))
    return float(np.mean(found)) if found else -np.inf
