"""What the operators of sound refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lithe.errors import ExecutionError
from lithe.ops import RuleViolation
from lithe.types import INT32
from tests.ops.cases import Case, f32, tensor

RATE = (f32(1, 2, 9), tensor(INT32))
REFUSED: list[tuple[str, str, tuple, dict[str, Any]]] = [
    ("window_size must be in", "AudioSpectrogram", (f32(9, 1),), {"attrs": {"window_size": 1}}),
    ("stride must be positive", "AudioSpectrogram", (f32(9, 1),), {"attrs": {"window_size": 4, "stride": 0}}),
    ("must be one number", "Mfcc", (f32(1, 2, 9), tensor(INT32, 2)), {}),
    ("at least two frequencies", "Mfcc", (f32(1, 2, 1), tensor(INT32)), {}),
    ("limits must be", "Mfcc", RATE, {"attrs": {"lower_frequency_limit": 20.0, "upper_frequency_limit": 20.5}}),
    ("limits must be", "Mfcc", RATE, {"attrs": {"upper_frequency_limit": float("inf")}}),
    ("filterbank_channel_count must be up to", "Mfcc", RATE, {"attrs": {"filterbank_channel_count": 1 << 30}}),
    ("dct_coefficient_count must be in", "Mfcc", RATE, {"attrs": {"dct_coefficient_count": 41}}),
    ("must be positive", "Mfcc", RATE, {"constants": {1: np.array(0)}}),
]


@pytest.mark.parametrize(("words", "op", "inputs", "more"), REFUSED)
def test_refusals(words: str, op: str, inputs: tuple, more: dict[str, Any]) -> None:
    case = Case(op, "refused", inputs, (f32(1, 1, 1),), **more)
    with pytest.raises(RuleViolation, match=words):
        case.operator.infer(case.site())


def test_a_rate_that_comes_late_is_checked() -> None:
    case = Case("Mfcc", "late", RATE, (f32(1, 2, 13),), values={1: np.array(-1)})
    assert not case.operator.lowers(case.site())
    with pytest.raises(ExecutionError, match="sample_rate must be positive"):
        case.operator.evaluate(case.site(), *case.arrays())
