"""How near values are to those that they should be: sums over all samples, of the whole tensor and of each channel.

signal-to-noise = 10 log10(sum wanted^2 / sum (got - wanted)^2)      in decibels: 10 dB more is a tenth of the noise
"""

from __future__ import annotations

import math

import numpy as np

from lithe.optimize.ranges import Percentile
from lithe.types import TensorType

MOST = 300.0  # decibels: what is exact, or nothing but noise


def real(array: np.ndarray, kind: TensorType) -> np.ndarray:
    """The real numbers that an array of this type stands for, as float64."""
    numbers, q = np.asarray(array).astype(np.float64), kind.quantization
    if q is None or not kind.dtype.is_integer:
        return numbers
    scale, zero = np.asarray(q.scale, np.float64), np.asarray(q.zero_point, np.float64)
    if q.block:
        rows = numbers.reshape(-1, q.block)
        return ((rows - zero.reshape(-1, 1)) * scale.reshape(-1, 1)).reshape(numbers.shape)
    if q.per_channel:
        shape = [1] * numbers.ndim
        shape[q.axis] = -1
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    return (numbers - zero) * scale


def decibels(signal: float, noise: float) -> float:
    """Their ratio in decibels, within -MOST..MOST."""
    if noise <= 0:
        return MOST
    return max(-MOST, min(MOST, 10 * math.log10(max(signal, 1e-300) / noise)))


def by_channel(array: np.ndarray) -> np.ndarray | None:
    """Rows of channels, the last axis; None where there is none."""
    return array.reshape(-1, array.shape[-1]) if array.ndim and array.shape[-1] > 1 else None


class Agreement:
    """Sums of what was wanted and of what was got. `by_channel`: whether each channel counts by itself."""

    def __init__(self, by_channel: bool = True) -> None:
        self.by_channel = by_channel
        self.count = 0
        self.signal = self.noise = self.power = self.product = self.largest = 0.0
        self.channels: np.ndarray | None = None  # two rows: signal, noise
        self.samples = Percentile(50)  # of the samples' own decibels: from a quarter of them to three

    def see(self, wanted: np.ndarray, got: np.ndarray) -> None:
        """Takes in the values of a sample: finite real numbers of one shape."""
        difference = got - wanted
        first = self.count == 0
        signal, noise = float((wanted**2).sum()), float((difference**2).sum())
        if signal:
            self.samples.see(np.array([decibels(signal, noise)]))
        self.count += wanted.size
        self.signal += signal
        self.noise += noise
        self.power += float((got**2).sum())
        self.product += float((wanted * got).sum())
        self.largest = max(self.largest, float(np.abs(difference).max(initial=0.0)))
        rows, apart = by_channel(wanted), by_channel(difference)
        if not self.by_channel or rows is None or apart is None or not (first or self.channels is not None):
            self.channels = None
            return
        sums = np.stack([(rows**2).sum(0), (apart**2).sum(0)])
        known = self.channels if self.channels is not None else np.zeros_like(sums)
        self.channels = known + sums if known.shape == sums.shape else None  # their number changes: they are none

    @property
    def snr(self) -> float:
        return decibels(self.signal, self.noise)

    @property
    def of_channels(self) -> np.ndarray:
        """The signal-to-noise of each channel that has a signal; of the whole where there are no channels."""
        if self.channels is None:
            return np.array([self.snr])
        signal, noise = self.channels
        there = signal > 0
        found = [decibels(s, n) for s, n in zip(signal[there], noise[there], strict=True)]
        return np.array(found or [self.snr])

    @property
    def quarter(self) -> float:
        """What three quarters of the channels and of the samples are better than.

        One large channel, or one large sample, hides in the whole what becomes of the others.
        """
        of_samples = self.samples.range()[0] if self.samples.counts.any() else self.snr
        return min(float(np.quantile(self.of_channels, 0.25)), max(of_samples, -MOST))

    @property
    def level(self) -> float:
        """The worse one of the whole and a quarter."""
        return min(self.snr, self.quarter)

    @property
    def rmse(self) -> float:
        return math.sqrt(self.noise / self.count) if self.count else 0.0

    @property
    def cosine(self) -> float:
        """Of the angle between both; 1 where both are nothing but zeros."""
        if self.signal == self.power == 0:
            return 1.0
        return self.product / math.sqrt(max(self.signal * self.power, 1e-300))
