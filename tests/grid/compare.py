"""How far two results are apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lithe.types import TensorType
from tests.ops.cases import Case

NEVER = float("inf")
TINY = {"float16": 2.0**-14, "float8_e5m2": 2.0**-14, "float8_e4m3fn": 2.0**-6}  # the smallest normal numbers


@dataclass(frozen=True)
class Difference:
    """steps  of integers; relative  of real numbers; problem  what is wrong, empty when the results agree."""

    steps: int = 0
    relative: float = 0.0
    problem: str = ""


def difference(
    case: Case,
    got: Sequence[np.ndarray],
    expected: Sequence[np.ndarray],
    steps: int,
    tolerance: float,
    each: bool,
    floor: float = 0.0,
) -> Difference:
    """Compares all outputs. Integers may differ by `steps`, real numbers by `tolerance`, relative to each expected
    element or to the greatest one, and to no less than `floor`. What is not finite must be equal."""
    most, worst = 0, 0.0
    for i, (t, g, e) in enumerate(zip(case.outputs, got, expected, strict=True)):
        if g.shape != e.shape:
            return Difference(problem=f"output {i}: shape {list(g.shape)} instead of {list(e.shape)}")
        if t.dtype.kind == "complex":
            g, e = (np.stack([v.real, v.imag], -1) for v in (g, e))
        if t.dtype.kind in ("float", "complex"):
            away, allowed = _relative(t, g, e, each, floor), tolerance
            worst = max(worst, float(away.max(initial=0)))
        else:
            away, allowed = _steps(g, e), steps
            most = max(most, int(away.max(initial=0)))
        wrong = np.argwhere(away > allowed)
        if len(wrong):
            sample = "; ".join(f"{p.tolist()}: {g[tuple(p)]!s} instead of {e[tuple(p)]!s}" for p in wrong[:3])
            by = f"{float(away[tuple(wrong[0])]):.3g}" if t.dtype.kind in ("float", "complex") else f"{most}"
            return Difference(most, worst, f"output {i}: {len(wrong)} of {e.size} differ, by {by}: {sample}")
    return Difference(most, worst)


def _steps(got: np.ndarray, expected: np.ndarray) -> np.ndarray:
    if got.dtype == np.object_ or got.dtype == np.bool_:
        return (got != expected).astype(np.int64)
    if got.dtype.itemsize == 8:
        return (
            np.abs(got.astype(object) - expected.astype(object))
            if (got != expected).any()
            else np.zeros(got.shape, int)
        )
    return np.abs(got.astype(np.int64) - expected.astype(np.int64))


def _relative(t: TensorType, got: np.ndarray, expected: np.ndarray, each: bool, floor: float) -> np.ndarray:
    a, b = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    finite = np.isfinite(b)
    smallest = max(floor, TINY.get(t.dtype.name, 1e-37))
    if not each:
        smallest = max(smallest, float(np.abs(b[finite]).max(initial=0)))
    with np.errstate(all="ignore"):
        away = np.abs(a - b) / np.maximum(np.abs(b), smallest)
    away = np.where(finite & np.isfinite(a), away, NEVER)
    return np.where(same, 0.0, away)
