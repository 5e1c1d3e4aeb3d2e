"""The search: every recipe for all layers alike, then each layer alone, then mixtures in the order that this gives."""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from lithe.errors import InputError
from lithe.ir.graph import Module
from lithe.optimize.recipes import Given
from lithe.optimize.repairs.mending import chosen as mended
from lithe.optimize.search.choices import EXACT, SCHEMES, Choice, computes_reals, layers, stores_alone
from lithe.optimize.search.evaluation import Evaluation, Labelled, Measured
from lithe.optimize.search.order import Move, Point, moves
from lithe.optimize.search.outcome import Outcome, cost_of, keeps_accuracy
from lithe.optimize.search.state import State
from lithe.optimize.search.trials import OutOfTime, Subject, Trial, Trials
from lithe.optimize.workers import Workers, opened
from lithe.passes.fold_constants import fold_constants
from lithe.runtime.model import Model, load

HELD = 200  # samples, of those that can be run through once
PROBES = 32  # samples on which noise is measured
MOST_AFTER = 40  # mixtures that are tried after the order was followed as far as it goes
BASES = ("int8", "int16x8")  # of all that has no weights, beside real numbers
COSTS = ("size", "latency", "both")


def search(
    model: Model | Module | str | os.PathLike[str] | bytes,
    samples: Iterable[Any] | None = None,
    *,
    keep: Mapping[str, float],
    evaluate: Callable[[Model], float] | None = None,
    labelled: tuple[Iterable[Any], Sequence[Any]] | None = None,
    cost: str = "size",
    schemes: Sequence[str] = tuple(SCHEMES),
    ranges: str = "min_max",
    repairs: Collection[str] | None = None,
    inputs: str = "float32",
    outputs: str = "float32",
    seconds: float | None = None,
    resume: str | os.PathLike[str] | None = None,
    workers: str | Workers | None = None,
    progress: Callable[[int, int], None] = lambda done, expected: None,
) -> Outcome:
    """Returns the cheapest recipe that keeps a float model's accuracy, the model that it makes, and all that was tried.

    model, samples, ranges, repairs, inputs, outputs   as for `lithe.quantize`. Without samples only weights become
              smaller.
    keep      {"accuracy": 0.99}: at least this share of what the float model has.
    evaluate  takes a Model and gives a number, greater being better; or
    labelled  (samples, labels): the accuracy is the share of samples for which the output is greatest at the label.
              Samples are an array with them along its first axis, or an iterable that can be run through again.
    cost      what is to be small: the "size" of the file; the "latency", the time of an inference measured on this
              machine over the float model's; "both": the mean of their shares of the float model's.
    schemes   names of those that layers may have, of `choices.SCHEMES`: what runs where the model is to run.
    seconds   ends the search after this time, with the best that was found.
    resume    a file that is written after each trial, and from which the same search goes on when it was interrupted.
    workers   "dask", "dask://host:port", "ray" or "ray://host:port": who shares calibration, evaluation and the trials
              of single layers. "dask" and "ray" use this machine.
    progress  is told how many trials were made, and how many are expected.

    Each scheme is tried on all layers, and each on each layer alone, for the noise that it brings to the outputs on a
    few samples. Layers then go on to smaller schemes in the order of noise for what is saved (see `order`), and the
    last mixture in that order that keeps the accuracy is found by bisection; from there on every layer whose turn would
    come is tried by itself. With cost="size" layers compute on real numbers, with the others on integers too.
    Raises InputError where arguments do not fit, and where nothing cheaper than the float model keeps the accuracy.
    """
    share, evaluation = _share(keep), _evaluation(evaluate, labelled)
    if cost not in COSTS:
        raise InputError(f"there is no cost {cost!r}", hint=f"costs are {', '.join(COSTS)}")
    unknown = [s for s in schemes if s not in SCHEMES]
    if unknown:
        raise InputError(f"there is no scheme {unknown[0]!r}", hint=f"schemes are {', '.join(SCHEMES)}")
    if seconds is not None and not seconds > 0:
        raise InputError(f"seconds is {seconds!r}, and has to be more than 0")
    until = math.inf if seconds is None else time.monotonic() + seconds
    given = model if isinstance(model, Model | Module) else load(model, cache=False)
    name = given.name if isinstance(given, Model) else ""
    with opened(workers) as team:
        subject = _subject(given, samples, evaluation, ranges, repairs, inputs, outputs, team)
        settings = {**_digests(subject, evaluation), "keep": share, "cost": cost, "ranges": ranges,
                    "repairs": sorted(mended(repairs)), "inputs": inputs,
                    "outputs": outputs, "schemes": sorted(schemes)}  # fmt: skip
        trials = Trials(subject, evaluation, team, State(resume, settings), until=until, progress=progress)
        accuracy = trials.exact.accuracy
        if accuracy is None or accuracy <= 0:
            raise InputError(f"the float model's accuracy is {accuracy}: no share of it can be kept")
        complete = True
        try:
            _try_all(trials, subject, schemes, cost, lambda t: keeps_accuracy(t, trials.exact, share))
        except OutOfTime:
            complete = False
    kept = [t for t in trials if keeps_accuracy(t, trials.exact, share)]
    best = min(kept, key=lambda t: (cost_of(t, trials.exact, cost), -(t.accuracy or 0.0)))
    if best.choice.key == trials.exact.choice.key:
        raise InputError(_nothing(trials, share, cost, complete), hint="keep a smaller share of it")
    found = Model(subject.made(best.choice).module, name=name)
    recipe = best.choice.recipe(ranges)
    return Outcome(found, recipe, best, trials.exact, tuple(trials), share, cost, trials.answers, complete)


def in_place_of(
    recipe: Given,
    model: Model | Module | str | os.PathLike[str] | bytes,
    samples: Any,
    keep: Mapping[str, float] | None,
    searching: Mapping[str, Any],
    *,
    progress: Callable[[int], None],
    **how: Any,
) -> Model:
    """The model of a search, for `lithe.quantize`; searching: arguments that have no meaning without one."""
    if keep is None:
        wanted = ", ".join(name for name, value in searching.items() if value is not None)
        raise InputError(f"{wanted} belong to a search for a recipe", hint='say what to keep: keep={"accuracy": 0.99}')
    if recipe != "int8":  # the default
        raise InputError("keep searches for a recipe, and one is given", hint="leave out recipe or keep")
    return search(model, samples, keep=keep, progress=lambda done, _: progress(done), **searching, **how).model


def _try_all(
    trials: Trials, subject: Subject, allowed: Sequence[str], cost: str, keeps: Callable[[Trial], bool]
) -> None:
    schemes = [s for s in SCHEMES if s in allowed and s != EXACT and (subject.samples is not None or computes_reals(s))]
    integers = [s for s in schemes if not computes_reals(s)]
    beside = ["float16"] if (subject.inputs, subject.outputs) == ("float32", "float32") else []
    if cost == "size" and beside:  # weights alone are as small, and keep more
        bases = {"float16": [s for s in schemes if stores_alone(s)]}
    else:
        bases = {base: schemes if base == "float16" else integers for base in (*beside, *BASES) if base in schemes}
    names = layers(subject.module)
    trials.expected = 1 + len(schemes) + sum(len(names) * len(kinds) + 8 for kinds in bases.values())
    for scheme in schemes:
        trials.whole(Choice(scheme))
    for base, kinds in bases.items():
        points = _points(trials, EXACT if base == "float16" else base, names, kinds, cost)
        _follow(trials, Choice(base, dict.fromkeys(points, EXACT)), moves(points), keeps)


def _points(
    trials: Trials, around: str, names: Sequence[str], kinds: Sequence[str], cost: str
) -> dict[str, list[Point]]:
    """What each layer saves in each scheme, and the noise that it brings, while the others are as `around` says."""
    found: dict[str, list[Point]] = {}
    for layer in names:
        exact, *others = trials.alone(
            [Choice(around, {layer: scheme}) for scheme in (EXACT, *kinds)], timed=cost != "size"
        )
        if exact.problem:
            continue
        most = cost_of(exact, trials.exact, cost)
        found[layer] = [
            Point(scheme, most - cost_of(t, trials.exact, cost), t.noise - exact.noise)
            for scheme, t in zip(kinds, others, strict=True)
            if not t.problem
        ]
    return found


def _follow(trials: Trials, start: Choice, order: Sequence[Move], keeps: Callable[[Trial], bool]) -> None:
    """Makes the moves in their order for as long as the accuracy is kept, and then those that can be made without."""

    def after(count: int) -> Choice:
        choice = start
        for move in order[:count]:
            choice = choice.but(move.layer, move.scheme)
        return choice

    if not order:
        return
    beginning = trials.whole(start)  # which has a problem where nothing but the layers is made smaller
    if not (beginning.problem or keeps(beginning)) or keeps(trials.whole(after(len(order)))):
        return
    low, high = 0, len(order)  # kept, lost
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if keeps(trials.whole(after(middle))) else (low, middle)
    choice, stuck = after(low), {order[low].layer}
    left = MOST_AFTER
    for move in order[high:]:
        if move.layer in stuck or not left:
            continue
        left -= 1
        further = choice.but(move.layer, move.scheme)
        if keeps(trials.whole(further)):
            choice = further
        else:
            stuck.add(move.layer)


def _nothing(trials: Trials, share: float, cost: str, complete: bool) -> str:
    others = [t for t in trials if t.accuracy is not None and t is not trials.exact]
    said = "nothing cheaper than the float model" + ("" if complete else " that was tried in the time given")
    wanted = f"keeps {share:.4g} of its accuracy, {trials.exact.accuracy:.4g}"
    if not others:
        return f"{said} {wanted}"
    nearest = max(others, key=lambda t: (t.accuracy or 0.0, -cost_of(t, trials.exact, cost)))
    return f"{said} {wanted}; nearest is {nearest.choice} with {nearest.accuracy:.4g}"


# arguments


def _share(keep: Mapping[str, float]) -> float:
    share = keep.get("accuracy") if isinstance(keep, Mapping) and len(keep) == 1 else None
    if not isinstance(share, int | float) or not 0 < share <= 1:
        raise InputError(f"keep is {keep!r}", hint='say {"accuracy": 0.99}, a share of the float model\'s accuracy')
    return float(share)


def _evaluation(
    evaluate: Callable[[Model], float] | None, labelled: tuple[Iterable[Any], Sequence[Any]] | None
) -> Evaluation:
    if (evaluate is None) == (labelled is None):
        raise InputError("accuracy is judged by a function or on labelled data",
                         hint="give either evaluate=function or labelled=(samples, labels)")  # fmt: skip
    if evaluate is not None:
        return Measured(evaluate)
    if not isinstance(labelled, tuple | list) or len(labelled) != 2:
        raise InputError("labelled data are a pair", hint="give labelled=(samples, labels)")
    return Labelled(*labelled)


def _subject(
    given: Model | Module,
    samples: Iterable[Any] | None,
    evaluation: Evaluation,
    ranges: str,
    repairs: Collection[str] | None,
    inputs: str,
    outputs: str,
    workers: Workers,
) -> Subject:
    """The float model and what it is run on; of samples that can be run through once, some are held."""
    module = (given.module if isinstance(given, Model) else given).copy()
    fold_constants(module.main)
    if samples is not None:
        samples = list(islice(samples, HELD)) if iter(samples) is samples else samples
        probes = list(islice(iter(samples), PROBES))
    elif isinstance(evaluation, Labelled):
        probes = list(islice(iter(evaluation.samples), PROBES))
    else:
        raise InputError("there are no samples on which to see what a layer does to the outputs",
                         hint="give samples beside the function, or labelled data")  # fmt: skip
    return Subject(module, samples, probes, ranges, inputs, outputs, repairs)


def _digests(subject: Subject, evaluation: Evaluation) -> dict[str, str]:
    """What tells one search from another, beside its settings. A function is told by its value of the float model."""
    arrays = [np.ascontiguousarray(a) for p in subject.probes for a in _arrays(p)]
    labels = b"a function"
    if isinstance(evaluation, Labelled):
        labels = np.asarray(evaluation.labels, np.float64).tobytes()  # whatever type of integers they are
    return {
        "model": hashlib.sha256(bytes(Model(subject.module))).hexdigest(),
        "samples": hashlib.sha256(b"".join(a.tobytes() for a in arrays)).hexdigest(),
        "labels": hashlib.sha256(labels).hexdigest(),
    }


def _arrays(sample: Any) -> Sequence[Any]:
    if isinstance(sample, Mapping):
        return list(sample.values())
    return sample if isinstance(sample, tuple | list) else [sample]
