"""Calibration: a float model runs on samples, and observers watch its tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from lithe.errors import InputError
from lithe.ir.graph import Module, Tensor
from lithe.optimize.ranges import Observer
from lithe.runtime.model import Model

Range = tuple[float, float]
SAMPLES = "an iterable of what the model is called with: arrays, tuples of arrays, or dicts {input: array}"


def calibrated(
    module: Module,
    samples: Iterable[Any],
    make: Callable[[Tensor], Observer],
    progress: Callable[[int], None] = lambda count: None,
) -> dict[Tensor, Range]:
    """Returns the range of each float tensor of the main graph that an operator computes, and of each float input.

    samples   what the model is called with, one after another; they are never held together.
    make      gives the observer of a tensor.
    progress  is told how many samples were run.

    Raises InputError where there is no sample, one does not fit the model, or one makes the model compute something
    that is not finite.
    """
    names = list(Model(module).inputs)
    watched = [t for n in module.main.nodes for t in n.outputs if t.type.dtype.is_float]
    watching = module.copy()
    same = dict(zip(module.main.tensors, watching.main.tensors, strict=True))
    outputs = dict.fromkeys([*watching.main.outputs, *(same[t] for t in watched)])
    watching.main.outputs = list(outputs)
    watching.signatures = [s for s in watching.signatures if s.graph != 0]
    model = Model(watching)
    inputs = dict(zip(model.inputs, module.main.inputs, strict=True))
    observers: dict[Tensor, Observer] = {}
    count = 0
    for sample in samples:
        given = _named(sample, names, count)
        results = model(*given.values())
        found = {t: np.asarray(array) for t, array in zip(inputs.values(), given.values(), strict=True)}
        arrays = results.values() if isinstance(results, dict) else [results]
        made = dict(zip(watching.main.outputs, arrays, strict=True))
        found |= {t: made[same[t]] for t in watched}
        for tensor, array in found.items():
            if tensor.type.dtype.is_float and array.size:
                if not np.isfinite(array).all():
                    raise InputError(
                        f"sample {count} gives {_odd(array)} in {tensor}",
                        hint="look for NaN and infinity in the samples, or leave this one out",
                    )
                if tensor not in observers:
                    observers[tensor] = make(tensor)
                observers[tensor].see(array)
        count += 1
        progress(count)
    if not count:
        raise InputError("there are no samples, and ranges come from samples", hint=f"samples are {SAMPLES}")
    return {tensor: o.range() for tensor, o in observers.items()}


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
