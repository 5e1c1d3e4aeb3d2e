"""`lithe.quantize`: a float model becomes a smaller one."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any

from lithe.errors import InputError
from lithe.ir.graph import Module, Tensor
from lithe.ops.verify import verify
from lithe.optimize.calibration import SAMPLES, calibrated, named_arrays
from lithe.optimize.one_thread import one_thread
from lithe.optimize.ranges import Observer, observer
from lithe.optimize.recipes import WEIGHTS_OPERAND, Given, Plan, stored_types
from lithe.optimize.recipes import recipe as named
from lithe.optimize.repairs.mending import Mending, Ranges
from lithe.optimize.repairs.narrowing import Kept, Reach, is_nearer, narrowed, samples_judged, with_first
from lithe.optimize.repairs.watching import Watched
from lithe.optimize.rewriting import Ends as Sides
from lithe.optimize.rewriting import as_integer_graphs
from lithe.optimize.spelling import spell_out
from lithe.optimize.weights import halve_constants, narrow_weights
from lithe.optimize.workers import Workers
from lithe.passes.activations import as_activation, fuse_activation
from lithe.passes.fold_constants import fold_constants
from lithe.passes.rewrite import rewrite
from lithe.runtime.model import Model, load
from lithe.types import FLOAT32, INT8, INT16, UINT8, DType

ENDS = {"float32": FLOAT32, "int8": INT8, "uint8": UINT8, "int16": INT16}


def quantize(
    model: Model | Module | str | os.PathLike[str] | bytes,
    samples: Iterable[Any] | None = None,
    recipe: Given = "int8",
    *,
    ranges: str = "",
    repairs: Collection[str] | None = None,
    inputs: str = "float32",
    outputs: str = "float32",
    workers: str | Workers | None = None,
    keep: Mapping[str, float] | None = None,
    evaluate: Callable[[Model], float] | None = None,
    labelled: tuple[Iterable[Any], Sequence[Any]] | None = None,
    cost: str = "size",
    seconds: float | None = None,
    resume: str | os.PathLike[str] | None = None,
    progress: Callable[[int], None] = lambda count: None,
) -> Model:
    """Returns a smaller copy of a float model.

    model    a Model, or a file.
    samples  what the model is called with, as it will be in use; a hundred do. An iterable of arrays, of tuples of
             arrays, or of dicts {input: array}. They are run a few at a time and not kept. Recipes for weights alone
             need none.
    recipe   a name. "int8": weights and values in 8 bits, computed on integers. "int16x8": values in 16 bits.
             "dynamic": weights in 8 bits, values are quantized while the model runs. "weights": weights in 8 bits,
             values stay real numbers. "float16": weights in half the bits. What else there is:
             `lithe.optimize.recipes`. Or a file of rules, what such a file holds, or a `Recipe`; also names and files
             of ai-edge-quantizer.
    ranges   how the range of a tensor comes from what it held: "min_max", "moving_average", "percentile",
             "mean_squared_error", "guarded_error" or "entropy"; default: the recipe's.
    repairs  of what quantization breaks, by name: "narrowing", "folding", "equalization", "bias" and "rounding", see
             `lithe.optimize.repairs`; (): none. Default: all, of which narrowing is for ranges that are not named, and
             rounding for weights of 4 bits and fewer, and of 8 where it is cheap and pays; named, it is for all of 8
             bits too.
    inputs, outputs   "float32", or with "int8" the integers themselves, "int8" or "uint8"; "int16" with "int16x8".
    workers  "dask", "dask://host:port", "ray" or "ray://host:port": who shares the samples.
    keep     {"accuracy": 0.99}: in place of a recipe, the cheapest mixture is searched for that keeps this share of the
             float model's accuracy, as the function `evaluate` or the data `labelled` judge it. These and `cost`,
             `seconds` and `resume` are arguments of `lithe.optimize.search.search`, which says also what was tried.
    progress is told how many samples were run, or how many trials of a search were made.

    Weights have a scale for each output channel, values one for each tensor. What has no integer form stays float,
    between a DEQUANTIZE and a QUANTIZE.
    Raises InputError for what is none of these, where samples do not fit, are missing, or give NaN or infinity, and
    where there is nothing in the model to be quantized.

    >>> small = lithe.quantize("digits.tflite", digits[:100])                       # doctest: +SKIP
    >>> small.save("digits_int8.tflite")                                            # doctest: +SKIP
    """
    searching = {"evaluate": evaluate, "labelled": labelled, "seconds": seconds, "resume": resume}
    if keep is not None or any(v is not None for v in searching.values()):
        from lithe.optimize.search.door import in_place_of

        how: dict[str, Any] = {"repairs": repairs, "inputs": inputs, "outputs": outputs, "workers": workers}
        how["ranges"] = ranges or "min_max"
        return in_place_of(recipe, model, samples, keep, searching, cost=cost, progress=progress, **how)
    chosen = named(recipe)
    given = model if isinstance(model, Model | Module) else load(model, cache=False)
    module = (given.module if isinstance(given, Model) else given).copy()
    before = _steps(module)
    for graph in module.graphs:
        fold_constants(graph)
    rewrite(module.main, as_activation, fuse_activation)  # what an activation cuts off takes no steps
    plan = chosen.plan(module)
    sides = Sides(_end(inputs, "inputs", plan, recipe), _end(outputs, "outputs", plan, recipe))
    if plan.needs_samples and samples is None:
        raise InputError(
            f"{_said(recipe)} needs samples", hint=f"give some, or --calibrate on the command line; they are {SAMPLES}"
        )
    if plan.has_integers:
        plan = spell_out(module, plan)
    mending = Mending(module.main, plan, repairs)
    may_narrow = not ranges and chosen.ranges == "min_max" and INT8 in stored_types(plan)
    count = samples_judged(module) if may_narrow and mending.narrows and samples is not None else 0
    samples, first = with_first(samples, count)
    results = module.main.outputs
    ends: dict[Any, Reach] = {}
    kept: dict[Any, Kept] = {}

    def watching(seen: Any) -> Observer:
        made = ends[seen] = Reach()
        observed = mending.observed(seen, made)
        if seen in results:
            kept[seen] = Kept(count)
            observed = Watched(observed, [kept[seen]])
        return observed

    found: Ranges = {}
    if samples is not None and (plan.has_integers or mending.wants_samples):
        plain = observer(ranges or chosen.ranges)
        see = watching if count else lambda seen: mending.observed(seen, plain())
        found = calibrated(module, samples, see, progress, workers)
    narrow = narrowed(ends, found)
    other = _twin(module, mending, narrow) if narrow is not None and narrow != found else None
    wanted = [kept.get(t) for t in results]
    names = list(Model(module).inputs) if other is not None else []
    changed = _finish(module, mending, found, sides) + _steps(module) - before
    if other is not None and changed:
        _finish(*other, sides)
        judged = [list(named_arrays(sample, names, i).values()) for i, sample in enumerate(first)]
        module = other[0] if is_nearer(wanted, module, other[0], judged) else module
    if not changed:
        raise InputError(
            f"nothing in the model can be quantized with {_said(recipe)}", hint="its operators have no such form"
        )
    verify(module)
    return Model(module, name=given.name if isinstance(given, Model) else "")


def _twin(module: Module, mending: Mending, found: Ranges) -> tuple[Module, Mending, Ranges]:
    """A copy of a module that shares its constants, and what is known of the one as of the other."""
    for graph in module.graphs:
        graph.renumber()
    made = module.copy()
    same: dict[int, Any] = {}
    for old, new in zip(module.graphs, made.graphs, strict=True):
        for these, those in (([old], [new]), (old.tensors, new.tensors), (old.nodes, new.nodes)):
            same |= {id(one): other for one, other in zip(these, those, strict=True)}
    return made, *deepcopy((mending, found), same)


@one_thread()
def _finish(module: Module, mending: Mending, found: Ranges, sides: Sides) -> int:
    """Makes a module what its plan says; returns how much changed."""
    plan = mending.plan
    seen, rounded = mending.mend(found)
    changed = halve_constants(module, plan) + narrow_weights(module, plan, rounded)
    mending.correct(rounded)
    if plan.has_integers:
        for node, weights in rounded.items():
            if plan.of(node).values is not None:
                node.inputs[WEIGHTS_OPERAND] = weights
        became = as_integer_graphs(module, seen, plan, sides)
        _sign(module, became)
        changed += len(became)
    return changed


def _steps(module: Module) -> int:
    """How often real numbers become integers."""
    return sum(n.op.name == "QUANTIZE" for graph in module.graphs for n in graph.nodes)


def _sign(module: Module, became: dict[Tensor, Tensor]) -> None:
    """The main graph's signatures name what its inputs and outputs have become."""
    for s in module.signatures:
        if s.graph == 0:
            s.inputs = {name: became.get(t, t) for name, t in s.inputs.items()}
            s.outputs = {name: became.get(t, t) for name, t in s.outputs.items()}


def _end(name: str, what: str, plan: Plan, recipe: Given) -> DType:
    bits = {stored.bits for stored in stored_types(plan)}
    allowed = [n for n, d in ENDS.items() if d == FLOAT32 or d.bits in bits]
    if name not in allowed:
        raise InputError(f"{what} cannot be {name!r} with {_said(recipe)}", hint=f"{what} are {', '.join(allowed)}")
    return ENDS[name]


def _said(recipe: Given) -> str:
    return f"the recipe '{os.fspath(recipe)}'" if isinstance(recipe, str | os.PathLike) else "the recipe"
