"""Narrowing: ranges that leave out the rarest values, where that brings a model's results nearer.

    share s of the range with the least error of stored values:    sum over x of (x - stored(x, s))**2

Finer steps for all other values are worth more than the rarest, if errors add up by chance, as those of noise do. Where
the greatest values are what the model is about, as in most networks on pictures, they are not. No tensor says which:
both models are made, are run on some of the samples, and the one whose results are nearer to the float model's stays.
Models that take longer than a moment to run, or have too few results to tell by, keep all values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

import numpy as np

from lithe.ir.graph import Module, Tensor
from lithe.optimize.batches import Batches, each_seconds
from lithe.optimize.integers import as_stored
from lithe.optimize.ranges import LEVELS, Ends, Histogram, MinMax, extremes
from lithe.runtime.instance import Options
from lithe.runtime.model import Model

SHARES = np.linspace(1, 0.4, 25)
WATCHED = 1 << 16  # values of an array
SECONDS = 0.15  # that running both models and the float one may take
LEAST, MOST = 2, 32  # samples
ENOUGH = 1024  # numbers of each result: with fewer, it is chance that says which is nearer
OF_ERROR = 0.98  # of a tensor must stay at most, or its range stays
LEAST_GAIN = 0.4  # dB, of the results


class Reach(MinMax):
    """From the least value seen to the greatest; it also knows a narrower range."""

    def __init__(self) -> None:
        super().__init__()
        self.some = Histogram()

    def see(self, array: np.ndarray, count: int = 1, ends: Ends | None = None) -> None:
        ends = ends or extremes(array)
        super().see(array, count, ends)
        flat = array.ravel()
        self.some.see(flat[:: flat.size // WATCHED | 1], count, ends)

    def merge(self, later: MinMax) -> None:
        super().merge(later)
        if isinstance(later, Reach):
            self.some.merge(later.some)

    def narrow(self) -> Ends:
        """The range with the least squared error, if that is much less."""
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
            return self.range()
        return float(max(self.low, lows[best, 0])), float(min(self.high, highs[best, 0]))


def samples_judged(module: Module) -> int:
    """On how many samples models are judged; 0 where that takes too long, or says too little."""
    count = min(int(SECONDS / max(3 * each_seconds(module, 1), 1e-9)), MOST)
    fewest = min((t.type.size for t in module.main.outputs if t.type.dtype.is_float), default=0)
    return count if count >= LEAST and count * fewest >= ENOUGH else 0


def with_first(samples: Any, count: int) -> tuple[Any, list[Any]]:
    """The same samples, and the first of them."""
    if not isinstance(samples, Iterator):
        return samples, list(islice(samples, count)) if isinstance(samples, Iterable) else []
    first = list(islice(samples, count))
    return chain(first, samples), first


def is_nearer(module: Module, whole: Module, narrow: Module, samples: Sequence[Sequence[Any]]) -> bool:
    """Whether a model's results are clearly nearer than another's to a float model's.

    samples  arrays in the order of the inputs.
    """
    wanted = _results(module, samples)
    before, after = (_decibels(wanted, _results(made, samples)) for made in (whole, narrow))
    return after >= before + LEAST_GAIN


def _results(module: Module, samples: Sequence[Sequence[Any]]) -> list[list[np.ndarray]]:
    """For each sample, or several at once, the real numbers among the results."""
    given = [[_as(t, np.asarray(a)) for t, a in zip(module.main.inputs, one, strict=True)] for one in samples]
    made = {t for n in module.main.nodes for t in n.outputs}
    batches = Batches(module, module.main.outputs, len(given))
    if not made.issuperset(module.main.outputs) or not all(map(batches.fits, given)):
        model = Model(module, Options(reference=True))
        return [_real_ones(module, list(model.main(*arrays).values())) for arrays in given]
    found = []
    for first in range(0, len(given), batches.most):
        results: dict[Any, np.ndarray] = {}
        batches.run(given[first : first + batches.most], lambda t, array, *_, to=results: to.update({t: array}))
        found.append(_real_ones(module, [results[t] for t in module.main.outputs]))
    return found


def _real_ones(module: Module, results: Sequence[Any]) -> list[np.ndarray]:
    real = [_real(t, np.asarray(array)) for t, array in zip(module.main.outputs, results, strict=True)]
    return [array for array in real if array is not None]


def _as(t: Tensor, array: np.ndarray) -> np.ndarray:
    q = t.type.quantization
    return as_stored(array, q, t.type.dtype) if q is not None and array.dtype.kind == "f" else array


def _real(t: Tensor, array: np.ndarray) -> np.ndarray | None:
    q = t.type.quantization
    if q is not None and t.type.dtype.is_integer:
        return (array.astype(np.float64) - q.zero_point[0]) * q.scale[0]
    return array.astype(np.float64) if array.dtype.kind == "f" else None


def _decibels(wanted: list[list[np.ndarray]], got: list[list[np.ndarray]]) -> float:
    """The mean over the results; -inf where they cannot be compared."""
    found = []
    for results in zip(zip(*wanted, strict=True), zip(*got, strict=True), strict=True):
        want, have = (np.concatenate([np.ravel(a) for a in side]) for side in results)
        if want.shape == have.shape and want.any() and np.isfinite(want).all():
            found.append(10 * np.log10((want**2).sum() / max(((want - have) ** 2).sum(), 1e-30)))
    return float(np.mean(found)) if found else -np.inf
