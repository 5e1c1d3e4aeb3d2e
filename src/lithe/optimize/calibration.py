"""Calibration: a float model runs on samples, and observers watch its tensors.

Samples are streamed: they are run one after another, a few at once where that is the same (`optimize.batches`), or, by
workers, some parts at a time, and none is kept.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from copy import deepcopy
from functools import lru_cache
from itertools import islice
from threading import get_ident
from typing import Any

import numpy as np

from lithe.errors import InputError
from lithe.ir.graph import Module, Node, Tensor
from lithe.optimize.batches import Batches, Show, each_seconds
from lithe.optimize.inside import Inside, Seen
from lithe.optimize.one_thread import one_thread
from lithe.optimize.ranges import FAR, Observer, extremes, within_reach
from lithe.optimize.workers import Workers, opened
from lithe.runtime.instance import Options
from lithe.runtime.model import Model, load

Range = tuple[float, float]
SPREAD = 64  # samples that a worker is given at once
SAMPLES = "an iterable of what the model is called with: arrays, tuples of arrays, or dicts {input: array}"


@one_thread()
def calibrated(
    module: Module,
    samples: Iterable[Any],
    make: Callable[[Seen], Observer],
    progress: Callable[[int], None] = lambda count: None,
    workers: str | Workers | None = None,
) -> dict[Seen, Range]:
    """Returns the range of each float input and of each float tensor that an operator computes, in the main graph and
    in those that it runs, and of the values inside of fused operators.

    samples   what the model is called with, one after another; they are never held together.
    make      gives the observer of a tensor, or of a value inside of an operator.
    progress  is told how many samples were run.
    workers   run a part of the samples each; None: they are run here. What a model keeps between calls begins anew with
              each part.

    Raises InputError where there is no sample, one does not fit the model, or one makes the model compute something
    that is not finite.
    """
    observers: dict[Seen, Observer] = {}

    def observer(seen: Seen) -> Observer:
        if seen not in observers:
            observers[seen] = make(seen)
        return observers[seen]

    count = 0
    if not isinstance(samples, Iterable):
        raise InputError(
            f"samples are {type(samples).__name__}, which cannot be gone through", hint=f"samples are {SAMPLES}"
        )
    known = len(samples) if isinstance(samples, Sized) else None
    if workers is None:
        for count in Watched(module, known).run(samples, observer):
            progress(count)
    else:
        for count, later in _spread(module, samples, make, workers, known):
            for seen, o in later.items():
                observer(seen).merge(o)
            progress(count)
    if not count:
        raise InputError("there are no samples, and ranges come from samples", hint=f"samples are {SAMPLES}")
    return {seen: o.range() for seen, o in observers.items()}


class Watched:
    """A float model that shows what its tensors hold."""

    def __init__(self, module: Module, known: int | None = None) -> None:
        """known: how many samples there are, if that can be told."""
        self.module = module
        self._names = list(Model(module).inputs)
        computed = [t for n in module.main.nodes for t in n.outputs if not t.is_variable]
        self._batches = Batches(module, [t for t in computed if t.type.dtype.is_float], known)
        self._without_code = _runs_without_code(module, self._batches.most, known)
        self._whole: dict[bool, _Whole] = {}

    def run(self, samples: Iterable[Any], observer: Callable[[Seen], Observer], first: int = 0) -> Iterator[int]:
        """Runs the samples; yields how many it has run so far.

        observer  gives what is shown the values of a tensor, or those inside of an operator.
        first     the number of the first sample.
        """
        count, taken = first, iter(samples)
        while True:
            most = self._batches.most if count < self._without_code else 1
            some = [named_arrays(s, self._names, count + n) for n, s in enumerate(islice(taken, most))]
            if not some:
                return
            arrays = [list(given.values()) for given in some]
            if count < self._without_code and all(map(self._batches.fits, arrays)):
                self._batches.run(arrays, _shown_to(observer, count))
            else:
                for n, given in enumerate(arrays):
                    self._one(count + n < self._without_code).run(given, _shown_to(observer, count + n))
            yield from range(count + 1, count + len(some) + 1)
            count += len(some)

    def _one(self, reference: bool) -> _Whole:
        if reference not in self._whole:
            self._whole[reference] = _Whole(self.module, Options(reference=reference))
        return self._whole[reference]


class _Whole:
    """The model run as any other, giving all of its tensors; what is inside of operators is seen beside it."""

    def __init__(self, module: Module, options: Options) -> None:
        self._module, self._inside = module, Inside(module)
        computed = [t for n in module.main.nodes for t in n.outputs if not t.is_variable]
        watched = [t for t in computed if t.type.dtype.is_float or t in self._inside.given]
        watching = module.copy()
        same = dict(zip(module.main.tensors, watching.main.tensors, strict=True))
        self._watched = {t: same[t] for t in watched}
        self._outputs = watching.main.outputs = list(dict.fromkeys([*watching.main.outputs, *self._watched.values()]))
        watching.signatures = [s for s in watching.signatures if s.graph != 0]
        self._model = Model(watching, options)

    def run(self, arrays: list[Any], show: Show) -> None:
        """Runs one sample."""
        made = dict(zip(self._outputs, self._model.main.shown(*arrays), strict=True))
        found = {t: np.asarray(array) for t, array in zip(self._module.main.inputs, arrays, strict=True)}
        found |= {t: made[watching] for t, watching in self._watched.items()}
        for tensor, array in found.items():
            show(tensor, array, 1, 0)
        self._inside.see(found, lambda seen, array: show(seen, array, 1, 0))


def _shown_to(observer: Callable[[Seen], Observer], first: int) -> Show:
    """Shows to observers what is a real number, and finite.

    first  the number of the first sample.
    """

    def show(seen: Seen, array: np.ndarray, count: int, place: int) -> None:
        if array.dtype.kind != "f" or not array.size:
            return
        times = count if isinstance(seen, Tensor) else len(array)
        low, high = extremes(array)
        if not (np.isfinite(low) and np.isfinite(high)):  # NaN is what is met first and last
            odd = next(n for n, a in enumerate(np.split(array, count)) if not np.isfinite(a).all())
            name = seen if isinstance(seen, Tensor) else f"'{seen[1]}' of {seen[0]}"
            raise InputError(
                f"sample {first + place + odd} gives {_odd(np.split(array, count)[odd])} in {name}",
                hint="look for NaN and infinity in the samples, or leave this one out",
            )
        if max(-low, high) >= FAR:
            array = within_reach(array)
            low, high = extremes(array)
        observer(seen).see(array, times, (low, high))

    return show


# by workers: tensors are known by their places, as each has a model of its own

Place = tuple[int, str]  # of a tensor, or of an operator and what is inside of it
Common = tuple[bytes, int | None, list[Observer]]  # the model, how many samples there are, observers at their beginning


def _places(module: Module) -> list[Tensor | Node]:
    """What may be seen, in an order that a file of the model keeps."""
    found: list[Tensor | Node] = []
    for graph in module.graphs:
        found += graph.inputs
        for node in graph.nodes:
            found += [node, *node.outputs]
    return found


def _spread(
    module: Module, samples: Iterable[Any], make: Callable[[Seen], Observer], workers: str | Workers, known: int | None
) -> Iterator[tuple[int, dict[Seen, Observer]]]:
    """What each part of the samples shows, in their order, and how many samples have been run with it."""
    taken = iter(samples)
    firsts = iter(range(0, sys.maxsize, SPREAD))
    parts = ((next(firsts), part) for part in iter(lambda: list(islice(taken, SPREAD)), []))
    at = _places(module)
    begun = [make(x if isinstance(x, Tensor) else (x, "")) for x in at]
    with opened(workers) as team:
        for count, later in team.map(_seen, parts, team.share((bytes(Model(module)), known, begun))):
            yield count, {_seen_at(at[place], name): o for (place, name), o in later.items()}


def _seen_at(x: Tensor | Node, name: str) -> Seen:
    return x if isinstance(x, Tensor) else (x, name)


@one_thread()
def _seen(part: tuple[int, list[Any]], common: Common) -> tuple[int, dict[Place, Observer]]:
    first, samples = part
    model, known, begun = common
    watched = _watched(model, known, get_ident())
    places = {x: n for n, x in enumerate(_places(watched.module))}
    observers: dict[Place, Observer] = {}

    def observer(seen: Seen) -> Observer:
        place = (places[seen], "") if isinstance(seen, Tensor) else (places[seen[0]], seen[1])
        if place not in observers:
            observers[place] = deepcopy(begun[place[0]])
        return observers[place]

    *_, count = watched.run(samples, observer, first)
    return count, observers


@lru_cache(maxsize=16)
def _watched(model: bytes, known: int | None, thread: int) -> Watched:
    """A thread has one of its own, as what is inside of operators is seen by one at a time."""
    return Watched(load(model, cache=False).module, known)


CODE_SECONDS = 5e-2  # that the code of an operator takes to make


def _runs_without_code(module: Module, at_once: int, known: int | None) -> int:
    """How many samples are run by the operators' definitions: as many as take the time that making code takes.

    at_once  how many are run together.
    known    how many there are. If all would take longer than making code, code is made at once.
    A model that keeps something between runs begins with its code, if that is where it is going to end.
    """
    nodes = module.main.nodes
    count = int(CODE_SECONDS * len(nodes) / each_seconds(module, at_once, quick=True)) if nodes else 0
    if known is not None:
        return sys.maxsize if known <= count else 0
    keeps = any(n.op.stateful or any(t is not None and t.is_variable for t in n.inputs) for n in nodes)
    return 0 if keeps else count


def named_arrays(sample: Any, names: list[str], count: int) -> dict[str, Any]:
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
