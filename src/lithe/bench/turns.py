"""Runtimes in turns: all of them live in one process and take turns of some milliseconds (A B C, A B C, ...).

A change of the clock or a noisy neighbour hits all runtimes of a turn. So what counts is the ratio within a turn:
Lithe's time by the peer's, below 1 where Lithe is faster; its median over the turns, and where 80 % of them lie.
Outputs are compared before anything is timed.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lithe.bench.peers import LITHE, Loaded, Peer
from lithe.errors import InputError

TURN_S = 0.01
LEAST_TURNS = 5
FLOAT_TOLERANCE = 1e-4  # of the greatest value of an output


@dataclass(frozen=True)
class Comparison:
    """Lithe against one peer. Ratios are Lithe's time by the peer's, all None where the peer did not run the model.

    agrees      every integer within one step, every float within 1e-4 of the output's greatest value.
    difference  the greatest one, in the outputs' own units.
    note        why the peer did not run it; empty where it did.
    """

    peer: str
    ms: float | None = None
    ratio: float | None = None
    ratio_10: float | None = None
    ratio_90: float | None = None
    agrees: bool | None = None
    difference: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Turns:
    """One model on so many threads; times are medians over the turns, in milliseconds."""

    threads: int
    turns: int
    lithe_ms: float
    lithe_10_ms: float
    lithe_90_ms: float
    comparisons: tuple[Comparison, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def random_inputs(path: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """(an array for each input by name, the outputs' names): floats in -1..1, 8- and 16-bit integers over their
    range, larger ones in 0..9, which suits word numbers and sizes alike. Raises InputError for text."""
    import lithe

    model = lithe.load(path)
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}
    for name, info in model.inputs.items():
        shape = tuple(1 if d == -1 else d for d in info.shape)
        if info.dtype in ("string", "resource") or info.dtype.startswith("complex"):
            raise InputError(f"no random {info.dtype} for a measurement", where=f"input '{name}'")
        dtype = np.dtype(info.dtype)
        if dtype.kind == "f":
            arrays[name] = rng.uniform(-1, 1, shape).astype(dtype)
        elif dtype.itemsize <= 2 and dtype.kind in "iu":
            limits = np.iinfo(dtype)
            arrays[name] = rng.integers(limits.min, limits.max + 1, shape).astype(dtype)
        else:
            arrays[name] = rng.integers(0, 2 if dtype.kind == "b" else 10, shape).astype(dtype)
    return arrays, list(model.outputs)


def difference(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> tuple[float, bool]:
    """(the greatest difference of some outputs, whether all are near enough; see `Comparison.agrees`)."""
    if [a.shape for a in ours] != [b.shape for b in theirs]:
        return float("inf"), False
    greatest, agrees = 0.0, True
    for a, b in zip(ours, theirs, strict=True):
        if not a.size:
            continue
        apart = float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max())
        allowed = 1.0 if a.dtype.kind in "iu" else FLOAT_TOLERANCE * float(np.abs(b).max())
        greatest, agrees = max(greatest, apart), agrees and apart <= allowed  # a NaN agrees with nothing
    return greatest, agrees


def measure_turns(path: Path, peers: Sequence[Peer], threads: int = 1, seconds: float = 4.0) -> Turns:
    """Times Lithe and the peers that can run the model, in turns, for about so many seconds."""
    arrays, names = random_inputs(path)
    ours = _ready(LITHE, path, threads, arrays)
    expected = ours.results(names)
    runs: dict[str, Callable[[], object]] = {LITHE.name: ours.run}
    found: dict[str, Comparison] = {}
    kept = []  # for as long as their `run` is called
    for peer in peers:
        try:
            one = _ready(peer, path, threads, arrays)
            apart, agrees = difference(expected, one.results(names))
        except NotApplicable as error:
            found[peer.name] = Comparison(peer.name, note=str(error))
            continue
        except Exception as error:  # whatever another runtime raises for a model that it does not take
            found[peer.name] = Comparison(peer.name, note=f"cannot run it: {_first_line(error)}")
            continue
        kept.append(one)
        runs[peer.name], found[peer.name] = one.run, Comparison(peer.name, agrees=agrees, difference=apart)
    samples = _in_turns(runs, seconds)
    mine = sorted(samples[LITHE.name])
    comparisons = tuple(_compared(c, samples) for c in found.values())
    median, low, high = _spread(mine)
    return Turns(threads, len(mine), median * 1e3, low * 1e3, high * 1e3, comparisons)


class NotApplicable(Exception):
    """A peer does not read this kind of file."""


def _ready(peer: Peer, path: Path, threads: int, arrays: Mapping[str, np.ndarray]) -> Loaded:
    file = peer.file(path)
    if file is None:
        raise NotApplicable(f"not applicable: there is no {path.stem}{peer.suffix} beside the model")
    loaded = peer.load(file, threads)
    loaded.feed(arrays)
    loaded.run()
    return loaded


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__


def _in_turns(runs: Mapping[str, Callable[[], object]], seconds: float) -> dict[str, list[float]]:
    """Seconds of one call, for each runtime and turn."""
    calls = {name: max(1, round(TURN_S / max(_per_call(run, 3), 1e-7))) for name, run in runs.items()}
    samples: dict[str, list[float]] = {name: [] for name in runs}
    finish = time.perf_counter() + seconds
    while time.perf_counter() < finish or len(samples[LITHE.name]) < LEAST_TURNS:
        for name, run in runs.items():
            samples[name].append(_per_call(run, calls[name]))
    return samples


def _per_call(run: Callable[[], object], calls: int) -> float:
    started = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - started) / calls


def _spread(values: Sequence[float]) -> tuple[float, float, float]:
    """(median, 10 %, 90 %)"""
    ordered = sorted(values)
    return statistics.median(ordered), ordered[len(ordered) // 10], ordered[-1 - len(ordered) // 10]


def _compared(comparison: Comparison, samples: Mapping[str, list[float]]) -> Comparison:
    theirs = samples.get(comparison.peer)
    if theirs is None:
        return comparison
    ratio, low, high = _spread([a / b for a, b in zip(samples[LITHE.name], theirs, strict=True)])
    return replace(comparison, ms=statistics.median(theirs) * 1e3, ratio=ratio, ratio_10=low, ratio_90=high)
