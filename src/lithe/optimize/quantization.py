"""`lithe.quantize`: a float model becomes one of integers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from lithe.errors import InputError
from lithe.ir.graph import Module
from lithe.ops.verify import verify
from lithe.optimize.calibration import SAMPLES, calibrated
from lithe.optimize.integers import BYTES, WORDS, Ends, Kinds, as_integer_graph
from lithe.optimize.ranges import observer
from lithe.passes.fold_constants import fold_constants
from lithe.runtime.model import Model, load
from lithe.types import DTYPES, FLOAT32


@dataclass(frozen=True)
class Recipe:
    """What becomes of a model: the types of its integers, and how ranges are found."""

    kinds: Kinds
    ranges: str = "min_max"


RECIPES = {"int8": Recipe(BYTES), "int16x8": Recipe(WORDS)}


def quantize(
    model: Model | Module | str | os.PathLike[str] | bytes,
    samples: Iterable[Any] | None = None,
    recipe: str = "int8",
    *,
    ranges: str = "",
    inputs: str = "float32",
    outputs: str = "float32",
    progress: Callable[[int], None] = lambda count: None,
) -> Model:
    """Returns a copy of a float model that computes on integers: a quarter of the size, and quicker.

    model    a Model, or a file.
    samples  what the model is called with, as it will be in use; a hundred do. An iterable of arrays, of tuples of
             arrays, or of dicts {input: array}. They are run one after another and not kept.
    recipe   "int8": values and weights of 8 bits; "int16x8": values of 16 bits, weights of 8.
    ranges   how the range of a tensor comes from what it held: "min_max", "moving_average", "percentile",
             "mean_squared_error" or "entropy"; default: the recipe's.
    inputs, outputs   "float32", or the integers themselves: "int8" or "uint8" ("int16" with "int16x8").
    progress is told how many samples were run.

    Weights have a scale for each output channel, values one for each tensor. What has no integer form stays float,
    between a DEQUANTIZE and a QUANTIZE.
    Raises InputError for what is none of these, where samples do not fit, are missing, or give NaN or infinity, and
    where there is nothing in the model to be quantized.

    >>> small = lithe.quantize("digits.tflite", digits[:100])                       # doctest: +SKIP
    >>> small.save("digits_int8.tflite")                                            # doctest: +SKIP
    """
    chosen = _recipe(recipe)
    ends = Ends(_end(inputs, "inputs", chosen.kinds), _end(outputs, "outputs", chosen.kinds))
    make = observer(ranges or chosen.ranges)
    if samples is None:
        raise InputError(f"the recipe {recipe!r} needs samples", hint=f"samples are {SAMPLES}")
    given = model if isinstance(model, Model | Module) else load(model, cache=False)
    module = (given.module if isinstance(given, Model) else given).copy()
    fold_constants(module.main)
    seen = calibrated(module, samples, make, progress)
    became = as_integer_graph(module.main, seen, chosen.kinds, ends)
    if not any(n.op.name == "QUANTIZE" for n in module.main.nodes) and not became:
        raise InputError("nothing in the model can be quantized", hint="its operators have no integer form")
    for s in module.signatures:
        if s.graph == 0:
            s.inputs = {name: became.get(t, t) for name, t in s.inputs.items()}
            s.outputs = {name: became.get(t, t) for name, t in s.outputs.items()}
    verify(module)
    return Model(module, name=given.name if isinstance(given, Model) else "")


def _recipe(name: str) -> Recipe:
    if name not in RECIPES:
        raise InputError(f"there is no recipe {name!r}", hint=f"recipes are {', '.join(RECIPES)}")
    return RECIPES[name]


def _end(name: str, what: str, kinds: Kinds) -> Any:
    allowed = [FLOAT32, *(d for d in map(DTYPES.get, ("int8", "uint8", "int16")) if d and d.bits == kinds.stored.bits)]
    if kinds.stored.bits == 16:
        allowed = [FLOAT32, kinds.stored]
    if name not in [d.name for d in allowed]:
        raise InputError(f"{what} cannot be {name!r}", hint=f"{what} are {', '.join(d.name for d in allowed)}")
    return DTYPES[name]
