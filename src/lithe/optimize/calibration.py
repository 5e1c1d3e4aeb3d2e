"""Calibration: a float model runs on samples, and observers watch its tensors.

Samples are streamed: they are run one after another, or, by workers, a few hundred at a time, and none is kept.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

import numpy as np

from lithe.errors import InputError
from lithe.ir.graph import Module, Tensor
from lithe.optimize.ranges import Observer, observer
from lithe.optimize.workers import Workers, opened
from lithe.passes.fold_constants import fold_constants
from lithe.runtime.model import Model, load

Range = tuple[float, float]
SPREAD = 64  # samples that a worker is given at once
SAMPLES = "an iterable of what the model is called with: arrays, tuples of arrays, or dicts {input: array}"


@dataclass(frozen=True)
class Calibration:
    """What the tensors of a float model were seen to hold. `lithe.quantize` takes it in place of samples.

    module  the model whose tensors these are, its constants folded.
    ranges  of its tensors.
    """

    module: Module
    ranges: Mapping[Tensor, Range]

    def of(self, copy: Module) -> dict[Tensor, Range]:
        """The ranges of the tensors of a copy of the module."""
        same = dict(zip(places(self.module), places(copy), strict=True))
        return {same[seen]: ends for seen, ends in self.ranges.items()}


def places(module: Module) -> list[Tensor]:
    """The tensors that may have a range, in an order that copies and files of the module keep."""
    return [t for g in module.graphs for t in (*g.inputs, *(t for n in g.nodes for t in n.outputs))]


def calibrate(
    model: Model | Module,
    samples: Iterable[Any],
    ranges: str = "min_max",
    *,
    progress: Callable[[int], None] = lambda count: None,
    workers: str | Workers | None = None,
) -> Calibration:
    """Returns what a float model's tensors hold on samples, for `lithe.quantize` with one recipe after another.

    Arguments and errors are those of `calibrated`; `ranges` is a name as in `lithe.quantize`.
    """
    module = (model.module if isinstance(model, Model) else model).copy()
    fold_constants(module.main)
    return Calibration(module, calibrated(module, samples, observer(ranges), progress, workers))


def calibrated(
    module: Module,
    samples: Iterable[Any],
    make: Callable[[], Observer],
    progress: Callable[[int], None] = lambda count: None,
    workers: str | Workers | None = None,
) -> dict[Tensor, Range]:
    """Returns the range of each float tensor of the main graph that an operator computes, and of each float input.

    samples   what the model is called with, one after another; they are never held together.
    make      makes the observer of a tensor.
    progress  is told how many samples were run.
    workers   run a part of the samples each; None: they are run here.

    Raises InputError where there is no sample, one does not fit the model, or one makes the model compute something
    that is not finite.
    """
    observers: dict[Tensor, Observer] = {}
    count = 0
    if workers is None:
        for count in Watched(module).see(samples, observers, make):
            progress(count)
    else:
        for count, later in _spread(module, samples, make, workers):
            for seen, o in later.items():
                if seen in observers:
                    observers[seen].merge(o)
                else:
                    observers[seen] = o
            progress(count)
    if not count:
        raise InputError("there are no samples, and ranges come from samples", hint=f"samples are {SAMPLES}")
    return {seen: o.range() for seen, o in observers.items()}


class Watched:
    """A float model that gives what all of its tensors hold."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self._names = list(Model(module).inputs)
        self._watched = [t for n in module.main.nodes for t in n.outputs if t.type.dtype.is_float]
        watching = module.copy()
        self._same = dict(zip(module.main.tensors, watching.main.tensors, strict=True))
        watching.main.outputs = list(dict.fromkeys([*watching.main.outputs, *(self._same[t] for t in self._watched)]))
        watching.signatures = [s for s in watching.signatures if s.graph != 0]
        self._outputs = watching.main.outputs
        self._model = Model(watching)

    def see(
        self, samples: Iterable[Any], observers: dict[Tensor, Observer], make: Callable[[], Observer], first: int = 0
    ) -> Iterator[int]:
        """Shows to observers what the tensors hold, for one sample after another; yields how many it has run so far.

        first  the number of the first sample.
        """
        for count, sample in enumerate(samples, first):
            given = _named(sample, self._names, count)
            results = self._model(*given.values())
            found = {t: np.asarray(array) for t, array in zip(self.module.main.inputs, given.values(), strict=True)}
            arrays = results.values() if isinstance(results, dict) else [results]
            made = dict(zip(self._outputs, arrays, strict=True))
            found |= {t: made[self._same[t]] for t in self._watched}
            for tensor, array in found.items():
                if tensor.type.dtype.is_float and array.size:
                    if not np.isfinite(array).all():
                        raise InputError(
                            f"sample {count} gives {_odd(array)} in {tensor}",
                            hint="look for NaN and infinity in the samples, or leave this one out",
                        )
                    observers.setdefault(tensor, make()).see(array)
            yield count + 1


def _spread(
    module: Module, samples: Iterable[Any], make: Callable[[], Observer], workers: str | Workers
) -> Iterator[tuple[int, dict[Tensor, Observer]]]:
    """What each part of the samples shows, in their order, and how many samples have been run with it."""
    taken = iter(samples)
    firsts = iter(range(0, sys.maxsize, SPREAD))
    parts = ((next(firsts), part) for part in iter(lambda: list(islice(taken, SPREAD)), []))
    at = places(module)
    with opened(workers) as team:
        for count, observers in team.map(_seen, parts, team.share((bytes(Model(module)), make))):
            yield count, {at[place]: o for place, o in observers.items()}


def _seen(part: tuple[int, list[Any]], common: tuple[bytes, Callable[[], Observer]]) -> tuple[int, dict[int, Observer]]:
    """The observers of a part by places, as workers have tensors of their own."""
    first, samples = part
    model, make = common
    watched = _watched(model)
    observers: dict[Tensor, Observer] = {}
    *_, count = watched.see(samples, observers, make, first)
    place = {t: n for n, t in enumerate(places(watched.module))}
    return count, {place[seen]: o for seen, o in observers.items()}


@lru_cache(maxsize=1)
def _watched(model: bytes) -> Watched:
    return Watched(load(model, cache=False).module)


def _named(sample: Any, names: list[str], count: int) -> dict[str, Any]:
    """The arrays of a sample in the order of the model's inputs."""
    if isinstance(sample, Mapping):
        if set(sample) != set(names):
            raise InputError(f"sample {count} has {', '.join(map(str, sample))}; the model takes {', '.join(names)}")
        return {name: sample[name] for name in names}
    several = sample if isinstance(sample, tuple | list) else [sample]
    if len(several) != len(names):
        raise InputError(
            f"sample {count} has {len(several)} arrays; the model takes {len(names)}: {', '.join(names)}",
            hint=f"samples are {SAMPLES}",
        )
    return dict(zip(names, several, strict=True))


def _odd(array: np.ndarray) -> str:
    return "NaN" if np.isnan(array).any() else "infinity"
