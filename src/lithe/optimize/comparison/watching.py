"""What is seen of one layer while both models run on the samples: sums, ranges and counts, not the values."""

from __future__ import annotations

import numpy as np

from lithe.ir.graph import Tensor
from lithe.optimize.comparison.agreement import Agreement, by_channel, real
from lithe.optimize.comparison.factors import Factors
from lithe.optimize.comparison.grafting import Layer
from lithe.optimize.integers import as_stored
from lithe.optimize.ranges import Percentile
from lithe.types import TensorType

MOST_USED = 99.9  # percent of the values: how far most of them go


class Extremes:
    """The least and the greatest value of each channel."""

    def __init__(self) -> None:
        self.low: np.ndarray = np.array(np.inf)
        self.high: np.ndarray = np.array(-np.inf)

    def see(self, array: np.ndarray) -> None:
        rows = by_channel(array)
        low, high = (array.min(), array.max()) if rows is None else (rows.min(0), rows.max(0))
        if self.low.ndim and np.shape(low) != self.low.shape:  # the number of channels changes: they are none
            low, high, self.low, self.high = array.min(), array.max(), self.low.min(), self.high.max()
        self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)

    @property
    def least(self) -> float:
        return float(self.low.min())

    @property
    def greatest(self) -> float:
        return float(self.high.max())

    @property
    def largest(self) -> np.ndarray:
        """The largest magnitude of each channel."""
        return np.atleast_1d(np.maximum(np.abs(self.low), np.abs(self.high)))


class Watched:
    """One tensor of A, the form of it in B, and what is seen of both.

    parts     the nodes of A and of B that compute it from other tensors that both have; None where that is not known.
    total     B beside A: what the layer makes wrong, and what it inherits.
    own       the layer of B, on A's values as B stores them, beside that of A on the same, or on the exact ones: what
              it makes wrong itself. The nearer of both counts, as a corrected bias makes up for the storing of inputs.
    storing   A's values as the integers of B, beside themselves: what the scale alone makes wrong.
    beyond    how many values of A the integers of B do not reach; clipped: the noise that comes of it.
    odd       how many values are infinite or NaN in B and not in A.

    factors     what A's values are multiplied with in B: all that is seen is as it is there.
    bounds      between which all that read it keep it: what lies outside says nothing. None where some do not.
    by_channel  whether each channel counts by itself, as weights after it may make much of a small one.
    """

    def __init__(
        self,
        a: Tensor,
        b: Tensor,
        parts: tuple[Layer, Layer] | None,
        factors: Factors,
        *,
        bounds: tuple[float, float] | None,
        is_input: bool,
        by_channel: bool,
    ) -> None:
        self.a, self.b, self.parts, self.factors, self.is_input = a, b, parts, factors, is_input
        self._scale = factors.of.get(a, 1.0)
        self._bounds = None if bounds is None else (bounds[0] * self._scale, bounds[1] * self._scale)
        self.total, self.storing = Agreement(by_channel), Agreement(by_channel)
        self._alone = (Agreement(by_channel), Agreement(by_channel))
        self.values, self.got, self.integers = Extremes(), Extremes(), Extremes()
        self.histograms = Percentile(MOST_USED), Percentile(MOST_USED)
        self.beyond = self.odd = 0
        self.clipped = 0.0

    @property
    def is_stored(self) -> bool:
        """Whether B keeps it as integers with one scale."""
        q = self.b.type.quantization
        return self.b.type.dtype.is_integer and q is not None and len(q.scale) == 1

    def see(self, wanted: np.ndarray, stored: np.ndarray) -> None:
        """Takes in a sample's values in A, and in B as it stores them."""
        wanted, got = self._as_there(wanted), self._kept(real(stored, self.b.type))
        if not wanted.size:
            return
        self.odd += int((~np.isfinite(got)).sum())
        got = _finite(got)
        self.total.see(wanted, got)
        self.values.see(wanted)
        self.got.see(got)
        for histogram, array in zip(self.histograms, (wanted, got), strict=True):
            histogram.see(array)
        if self.is_stored:
            self.integers.see(np.asarray(stored).astype(np.float64))
            self._store(wanted)

    def see_own(self, exact: np.ndarray, wanted: np.ndarray, stored: np.ndarray) -> None:
        """The same of the layer alone: of A on exact values and on stored ones, and of B."""
        got = _finite(self._kept(real(stored, self.b.type)))
        for agreement, array in zip(self._alone, (exact, wanted), strict=True):
            if array.size:
                agreement.see(_finite(self._as_there(array)), got)

    @property
    def own(self) -> Agreement | None:
        best = max(self._alone, key=lambda agreement: agreement.level)
        return best if best.count else None

    def _as_there(self, wanted: np.ndarray) -> np.ndarray:
        return self._kept(real(wanted, self.a.type) * self._scale)

    def _kept(self, array: np.ndarray) -> np.ndarray:
        return array if self._bounds is None else np.clip(array, self._bounds[0], self._bounds[1])

    def _store(self, wanted: np.ndarray) -> None:
        q, dtype = self.b.type.quantization, self.b.type.dtype
        assert q is not None
        low, high = self.reach
        near = real(as_stored(wanted, q, dtype), TensorType(dtype, wanted.shape, q))
        self.storing.see(wanted, near)
        out = (wanted < low - q.scale[0]) | (wanted > high + q.scale[0])  # a softmax's 1 is a step beyond, always
        self.beyond += int(out.sum())
        self.clipped += float(((near - wanted)[out] ** 2).sum())

    @property
    def reach(self) -> tuple[float, float]:
        """The least and greatest real number that B can store."""
        q, dtype = self.b.type.quantization, self.b.type.dtype
        assert q is not None
        return (dtype.minimum - q.zero_point[0]) * q.scale[0], (dtype.maximum - q.zero_point[0]) * q.scale[0]

    @property
    def scale(self) -> float:
        """The step between B's integers."""
        q = self.b.type.quantization
        return q.scale[0] if self.is_stored and q is not None else 0.0

    @property
    def bits(self) -> float | None:
        """How many bits the integers that B was seen to hold would need."""
        if not self.is_stored or not self.total.count:
            return None
        return float(np.log2(self.integers.greatest - self.integers.least + 1))

    @property
    def used(self) -> tuple[float, float]:
        """From where to where most of A's values lie."""
        return self.histograms[0].range()

    @property
    def judged(self) -> Agreement:
        """By which the layer is judged: its own error where that is known."""
        own = self.own
        return self.total if own is None else own


def _finite(array: np.ndarray) -> np.ndarray:
    """With 0 in place of infinity and NaN."""
    return np.where(np.isfinite(array), array, 0.0)
