"""Spectrograms of sound, and the cepstral coefficients that are made of them.

Source: TensorFlow Lite, kernels audio_spectrogram, mfcc and internal/{spectrogram,mfcc_mel_filterbank,mfcc_dct}
(behaviour, not text). The meaning is in float64, loops compute in float32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lithe.errors import ExecutionError
from lithe.ir.arithmetic import sqrt
from lithe.ir.build import Builder
from lithe.ir.elementary import log
from lithe.ir.loops import INDEX, Buffer, Const, Expr, minimum, select
from lithe.ops.op import Op, Site, register
from lithe.ops.signal.fourier import FLOATS, LONGEST, lower_real
from lithe.types import FLOAT32, Shape


@register
class AudioSpectrogram(Op):
    """y[c, t, k] = |transform of x[t stride : t stride + window_size, c] * window at k|, squared where it is asked for.

    x: [samples, channels]. The window is 0.5 - 0.5 cos(2 pi i / window_size); zeros are put behind it up to a power of
    two, of which k has one half and one.
    """

    name = "AudioSpectrogram"
    types = "float32 -> float32"

    @dataclass(frozen=True)
    class Attrs:
        window_size: int = 0
        stride: int = 1
        magnitude_squared: bool = False

    def infer(site: Site) -> list[Shape]:
        a, (samples, channels) = site.attrs, site.rank(0, 2).shape
        site.require(2 <= a.window_size <= LONGEST, f"window_size must be in [2, {LONGEST}], is {a.window_size}")
        site.require(a.stride >= 1, f"stride must be positive, is {a.stride}")
        frames = 0 if samples < a.window_size else 1 + (samples - a.window_size) // a.stride
        return [(channels, frames, _length(a) // 2 + 1)]

    def evaluate(site: Site, x: np.ndarray) -> list[np.ndarray]:
        a = site.attrs
        if len(x) < a.window_size:
            return [np.zeros((x.shape[1], 0, _length(a) // 2 + 1), np.float32)]
        frames = np.lib.stride_tricks.sliding_window_view(x.T.astype(np.float64), a.window_size, 1)[:, :: a.stride]
        power = np.abs(np.fft.rfft(frames * _window(a), _length(a))) ** 2
        y = power.astype(np.float32)
        return [y if a.magnitude_squared else np.sqrt(y)]

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        a, x, y, length = site.attrs, xs[0], ys[0], _length(site.attrs)
        window = b.constant(_window(a).astype(np.float32), "window")
        work, spectrum = b.scratch(FLOAT32, (length // 2, 2), "work"), b.scratch(FLOAT32, (y.shape[2], 2), "spectrum")
        with b.nest(y.shape[:2]) as (channel, frame):

            def element(i: Expr) -> Expr:
                at = minimum(i, a.window_size - 1)
                value = x[frame * a.stride + at, channel] * window[at]
                return value if length == a.window_size else select(i < a.window_size, value, Const(0.0, FLOAT32))

            lower_real(b, FLOATS, length, element, spectrum, (), work)
            with b.loop(y.shape[2], "parallel") as k:
                power = spectrum[k, 0] * spectrum[k, 0] + spectrum[k, 1] * spectrum[k, 1]
                b.store(y, (channel, frame, k), power if a.magnitude_squared else sqrt(power))


def _length(a: AudioSpectrogram.Attrs) -> int:
    return 1 << (a.window_size - 1).bit_length()


def _window(a: AudioSpectrogram.Attrs) -> np.ndarray:
    return 0.5 - 0.5 * np.cos(2 * math.pi * np.arange(a.window_size) / a.window_size)


@register
class Mfcc(Op):
    """y[c, t, k] = sum over mel channels m of sqrt(2 / M) cos(pi k (m + 0.5) / M) log(max(mel[m], 1e-12))

    where mel[m] = sum over i of weight[m, i] sqrt(x[c, t, i]): triangles of equal width in mel = 1127 log(1 + f / 700).
    x: squared spectrogram [channels, frames, bins]; a spectrum that ends below upper_frequency_limit gives 0.
    Limits are cut to whole numbers.
    """

    name = "Mfcc"
    operands = (("spectrogram", "sample_rate"), ("output",))
    types = "float32 int32 -> float32"

    @dataclass(frozen=True)
    class Attrs:
        upper_frequency_limit: float = 4000.0
        lower_frequency_limit: float = 20.0
        filterbank_channel_count: int = 40
        dct_coefficient_count: int = 13

    def infer(site: Site) -> list[Shape]:
        a, x = site.attrs, site.rank(0, 3)
        site.require(site.input(1).size == 1, f"must be one number, is {site.input(1)}", 1)
        site.require(x.shape[2] >= 2, f"must have at least two frequencies, is {x}", 0)
        limits = a.lower_frequency_limit, a.upper_frequency_limit
        finite = all(map(math.isfinite, limits)) and 0 <= int(limits[0]) < int(limits[1])
        site.require(finite, f"limits must be 0 <= lower < upper, are {limits[0]} and {limits[1]}")
        count = a.filterbank_channel_count
        site.require(count <= MOST_CHANNELS, f"filterbank_channel_count must be up to {MOST_CHANNELS}, is {count}")
        site.require(
            1 <= a.dct_coefficient_count <= count,
            f"dct_coefficient_count must be in [1, filterbank_channel_count {count}], is {a.dct_coefficient_count}",
        )
        rate = site.known(1)
        site.require(rate is None or int(rate.reshape(())) > 0, "must be positive", 1)
        return [(*x.shape[:2], a.dct_coefficient_count)]

    def evaluate(site: Site, x: np.ndarray, sample_rate: np.ndarray) -> list[np.ndarray]:
        a, rate = site.attrs, int(sample_rate.reshape(()))
        if rate <= 0:
            raise ExecutionError(f"Mfcc: sample_rate must be positive, is {rate}")
        weights = mel_weights(a, x.shape[2], rate)
        if weights is None:
            return [np.zeros((*x.shape[:2], a.dct_coefficient_count), np.float32)]
        with np.errstate(invalid="ignore"):
            mel = np.sqrt(x.astype(np.float64)) @ weights.T
        return [(np.log(np.where(mel < FLOOR, FLOOR, mel)) @ _cosines(a).T).astype(np.float32)]

    def lowers(site: Site) -> bool:
        return site.known(1) is not None

    def lower(b: Builder, site: Site, xs: tuple[Buffer | None, ...], ys: tuple[Buffer, ...]) -> None:
        a, x, y = site.attrs, xs[0], ys[0]
        weights = mel_weights(a, x.shape[2], int(site.constant(1).reshape(())))
        if weights is None:
            b.compute(y, lambda *_: Const(0.0, FLOAT32))
            return
        first, width, packed = _bands(weights)
        bands, sizes = b.constant(first, "first"), b.constant(width, "width")
        shares = b.constant(packed, "shares")
        cosines = b.constant(_cosines(a).astype(np.float32), "cosines")
        with b.nest(y.shape[:2], "parallel") as (channel, frame):
            logs = b.local(FLOAT32, (a.filterbank_channel_count,), "logs")
            with b.loop(a.filterbank_channel_count) as m:
                mel = b.variable(Const(0.0, FLOAT32), "mel")
                with b.loop(packed.shape[1]) as j, b.when(j < sizes[m].to(INDEX)):
                    magnitude = sqrt(x[channel, frame, bands[m].to(INDEX) + j])
                    b.store(mel, (), mel[()] + magnitude * shares[m, j])
                b.store(logs, m, log(select(mel[()] < FLOOR, Const(FLOOR, FLOAT32), mel[()])))
            with b.loop(a.dct_coefficient_count) as k:
                total = b.reduce(Const(0.0, FLOAT32), logs.shape, lambda t, m, k=k: t + cosines[k, m] * logs[m])
                b.store(y, (channel, frame, k), total)


FLOOR = 1e-12
MOST_CHANNELS = 1 << 12


def _mel(frequency: float) -> float:
    return 1127.0 * math.log1p(frequency / 700.0)


def mel_weights(a: Mfcc.Attrs, bins: int, rate: int) -> np.ndarray | None:
    """[channels, bins]: how much of each frequency a channel takes; None where the spectrum ends too early.

    A frequency's weight falls from 1 at the centre of one channel to 0 at the next one's, which takes the rest.
    """
    low, high = int(a.lower_frequency_limit), int(a.upper_frequency_limit)
    count, step = a.filterbank_channel_count, 0.5 * rate / (bins - 1)
    spacing = (_mel(high) - _mel(low)) / (count + 1)
    edges = [_mel(low), *(_mel(low) + spacing * (i + 1) for i in range(count + 1))]
    start, end = int(1.5 + low / step), int(high / step)
    if bins <= end:
        return None
    weights, channel = np.zeros((count + 1, bins)), 0  # row 0: below the first channel
    for i in range(start, end + 1):
        mel = _mel(i * step)
        while channel < count and edges[channel + 1] < mel:
            channel += 1
        share = (edges[channel + 1] - mel) / (edges[channel + 1] - edges[channel])
        weights[channel, i] += share
        if channel < count:
            weights[channel + 1, i] += 1 - share
    return weights[1:]


def _bands(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(first frequency, number of frequencies, their weights) of each channel."""
    ranges = [np.flatnonzero(row) for row in weights]
    first = np.array([r[0] if r.size else 0 for r in ranges], np.int32)
    width = np.array([r[-1] + 1 - r[0] if r.size else 0 for r in ranges], np.int32)
    packed = np.zeros((len(weights), max(1, int(width.max()))), np.float32)
    for row, f, w, to in zip(weights, first, width, packed, strict=True):
        to[:w] = row[f : f + w]
    return first, width, packed


def _cosines(a: Mfcc.Attrs) -> np.ndarray:
    """[coefficients, channels]"""
    count = a.filterbank_channel_count
    k, m = np.arange(a.dct_coefficient_count)[:, None], np.arange(count)
    return math.sqrt(2.0 / count) * np.cos(k * (math.pi / count) * (m + 0.5))
