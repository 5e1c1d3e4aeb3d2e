"""Calibration: a float model runs on samples, and observers watch its tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from lithe.errors import InputError
from lithe.ir.graph import Module, Tensor
from lithe.optimize.inside import Inside, Seen
from lithe.optimize.ranges import Observer, Watcher, within_reach
from lithe.runtime.model import Model

Range = tuple[float, float]
SAMPLES = "an iterable of what the model is called with: arrays, tuples of arrays, or dicts {input: array}"


def calibrated(
    module: Module,
    samples: Iterable[Any],
    make: Callable[[], Observer],
    progress: Callable[[int], None] = lambda count: None,
    watched_by: Mapping[Seen, Sequence[Watcher]] = MappingProxyType({}),
) -> dict[Seen, Range]:
    """Returns the range of each float input and of each float tensor that an operator computes, in the main graph and
    in those that it runs, and of the values inside of fused operators.

    samples   what the model is called with, one after another; they are never held together.
    make      makes the observer of a tensor.
    progress  is told how many samples were run.
    watched_by  what else is to see values, by tensor.

    Raises InputError where there is no sample, one does not fit the model, or one makes the model compute something
    that is not finite.
    """
    names = list(Model(module).inputs)
    inside = Inside(module)
    computed = [t for n in module.main.nodes for t in n.outputs if not t.is_variable]
    watched = [t for t in computed if t.type.dtype.is_float or t in inside.given]
    watching = module.copy()
    same = dict(zip(module.main.tensors, watching.main.tensors, strict=True))
    outputs = dict.fromkeys([*watching.main.outputs, *(same[t] for t in watched)])
    watching.main.outputs = list(outputs)
    watching.signatures = [s for s in watching.signatures if s.graph != 0]
    model = Model(watching)
    inputs = dict(zip(model.inputs, module.main.inputs, strict=True))
    observers: dict[Seen, Observer] = {}
    count = 0

    def show(seen: Seen, array: np.ndarray) -> None:
        if array.dtype.kind != "f" or not array.size:
            return
        if not np.isfinite(array).all():
            name = seen if isinstance(seen, Tensor) else f"'{seen[1]}' of {seen[0]}"
            raise InputError(
                f"sample {count} gives {_odd(array)} in {name}",
                hint="look for NaN and infinity in the samples, or leave this one out",
            )
        near = within_reach(array)
        for one in (observers.setdefault(seen, make()), *watched_by.get(seen, ())):
            one.see(near)

    for sample in samples:
        given = named_arrays(sample, names, count)
        results = model(*given.values())
        found = {t: np.asarray(array) for t, array in zip(inputs.values(), given.values(), strict=True)}
        arrays = results.values() if isinstance(results, dict) else [results]
        made = dict(zip(watching.main.outputs, arrays, strict=True))
        found |= {t: made[same[t]] for t in watched}
        for tensor, array in found.items():
            show(tensor, array)
        inside.see(found, show)
        count += 1
        progress(count)
    if not count:
        raise InputError("there are no samples, and ranges come from samples", hint=f"samples are {SAMPLES}")
    return {seen: o.range() for seen, o in observers.items()}


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
