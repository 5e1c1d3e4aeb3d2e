"""Spectrograms and cepstral coefficients."""

from __future__ import annotations

from typing import Any

import numpy as np
from flatbuffers import flexbuffers

from lithe.types import INT32
from tests.ops.cases import Case, f32, tensor


def case(op: str, name: str, inputs: tuple, outputs: tuple, attrs: dict[str, Any], **more: Any) -> Case:
    return Case(op, name, inputs, outputs, attrs, custom_options=bytes(flexbuffers.Dumps(attrs)), **more)


def spectrogram(name: str, samples: int, channels: int, window: int, stride: int, squared: bool = False) -> Case:
    frames = max(0, 1 + (samples - window) // stride)
    attrs = {"window_size": window, "stride": stride, "magnitude_squared": squared}
    bins = (1 << (window - 1).bit_length()) // 2 + 1
    return case("AudioSpectrogram", name, (f32(samples, channels),), (f32(channels, frames, bins),), attrs)


def mfcc(name: str, bins: int, rate: int, limits: tuple[float, float], counts: tuple[int, int], **more: Any) -> Case:
    attrs = {"lower_frequency_limit": limits[0], "upper_frequency_limit": limits[1],
             "filterbank_channel_count": counts[0], "dct_coefficient_count": counts[1]}  # fmt: skip
    more = {"constants": {1: np.array(rate)}, "low": 0.0, "high": 20.0, "tolerance": 2e-5, **more}
    inputs = (f32(2, 3, bins), tensor(INT32))
    return case("Mfcc", name, inputs, (f32(2, 3, counts[1]),), attrs, **more)


CASES = [
    spectrogram("power of two", 40, 2, 16, 5),
    spectrogram("squared", 70, 1, 24, 24, squared=True),
    spectrogram("shortest window", 5, 3, 2, 1),
    spectrogram("no frame", 7, 2, 8, 1),
    spectrogram("as speech has it", 1000, 1, 480, 160),
    mfcc("defaults", 257, 16000, (20.0, 4000.0), (40, 13)),
    mfcc("all coefficients", 65, 8000, (0.0, 3000.0), (7, 7)),
    mfcc("more channels than frequencies", 17, 16000, (20.0, 4000.0), (40, 13)),
    mfcc("rate not known", 65, 8000, (0.0, 3000.0), (7, 7), constants={}, values={1: np.array(8000)}),
    mfcc("broken limits", 129, 16000, (20.9, 7600.7), (20, 5)),
    mfcc("silence", 65, 16000, (20.0, 4000.0), (12, 5), low=0.0, high=0.0),
    mfcc("spectrum too short", 33, 4000, (20.0, 4000.0), (12, 5)),
    mfcc("a square that is none", 33, 16000, (20.0, 4000.0), (12, 5), low=-1.0, high=-0.5),
]
