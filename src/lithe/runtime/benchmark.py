"""How long one inference takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lithe.errors import InputError


@dataclass(frozen=True)
class Timing:
    """Wall-clock milliseconds of one call, over `runs` calls after `warmup` ones that do not count."""

    runs: int
    warmup: int
    median_ms: float
    p10_ms: float
    p90_ms: float
    min_ms: float
    mean_ms: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"{self.median_ms:.3f} ms median, {self.p10_ms:.3f} to {self.p90_ms:.3f} ms (10 % to 90 %), "
            f"{self.min_ms:.3f} ms least, {self.runs} runs"
        )


def measure(call: Callable[[], object], *, runs: int = 50, warmup: int = 3, seconds: float | None = None) -> Timing:
    """Times `call`.

    runs     calls that count, at least 1.
    warmup   calls before, which do not count.
    seconds  stop when this much time has gone, though fewer than `runs` calls were made (never before one).
    """
    if runs < 1 or warmup < 0 or (seconds is not None and not seconds > 0):
        raise InputError(f"runs={runs}, warmup={warmup}, seconds={seconds}: at least 1, 0 and more than 0 are needed")
    for _ in range(warmup):
        call()
    times: list[int] = []
    end = None if seconds is None else time.perf_counter() + seconds
    while len(times) < runs and (not times or end is None or time.perf_counter() < end):
        start = time.perf_counter_ns()
        call()
        times.append(time.perf_counter_ns() - start)
    ms = np.array(times) / 1e6
    p10, median, p90 = np.percentile(ms, (10, 50, 90))
    return Timing(len(times), warmup, float(median), float(p10), float(p90), float(ms.min()), float(ms.mean()))
