"""`lithe.compare`: where a smaller model leaves the float model, and why."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from lithe.errors import InputError
from lithe.ir.graph import Module, Tensor
from lithe.optimize.calibration import SAMPLES
from lithe.optimize.comparison.causes import Cause, causes
from lithe.optimize.comparison.factors import Factors, moved
from lithe.optimize.comparison.findings import Comparison, Layer, spread
from lithe.optimize.comparison.grafting import Host, Watch, can_become, layer
from lithe.optimize.comparison.grafting import Layer as Part
from lithe.optimize.comparison.matching import Matching, Side, matched
from lithe.optimize.comparison.watching import Watched
from lithe.optimize.recipes import Plan, Scheme
from lithe.optimize.repairs.folding import folded
from lithe.runtime.function import TensorInfo
from lithe.runtime.model import Model, load
from lithe.types import INT8

LEAST = 10.0  # decibels: noise with a tenth of the signal's power
BARS = 64  # of a histogram

Given = Model | Module | str | os.PathLike[str] | bytes


def compare(
    a: Given,
    b: Given,
    samples: Iterable[Any],
    *,
    least: float = LEAST,
    progress: Callable[[int], None] = lambda count: None,
) -> Comparison:
    """Returns where a smaller model leaves the float model that it was made of, tensor by tensor, and why.

    a        the float model: a Model, a file's path, or bytes.
    b        the smaller one, whoever made it. Its tensors are matched with those of `a` by name, and by the structure
             of both graphs. Only the main graphs are compared.
    samples  what `a` is called with; a few dozen do. An iterable of arrays, of tuples of arrays, or of dicts
             {input: array}. They are run one after another and not kept. Where `b` takes integers they are quantized.
    least    decibels of signal-to-noise; a layer with less goes wrong.
    progress is told how many samples were run.

    For each tensor: 10 log10(sum x^2 / sum (x - y)^2) of the float values x and the other model's y, over the whole,
    and over each channel and each sample, for a large one hides what becomes of the others (the channels of outputs
    and of shares do not count by themselves). Both also for the layer alone, run on the float model's values, so that
    its own error stands apart from what it inherits. Causes are named for the layers that go wrong by themselves.
    Raises InputError where the models have different inputs, `a` has no real numbers, there is no sample, or one does
    not fit or gives NaN or infinity in `a`.

    >>> print(lithe.compare("digits.tflite", "digits_int8.tflite", digits[:50]))        # doctest: +SKIP
    """
    first, second = (_opened(model) for model in (a, b))
    pairs = _same_inputs(first, second)
    found = matched(first.module.main, second.module.main, pairs)
    factors = moved(found)
    watched = _watched(found, factors)
    if not any(w.a not in pairs for w in watched):
        raise InputError(
            f"{_said(first, 'the first model')} and {_said(second, 'the second')} have no computed tensor of real "
            "numbers in common",
            hint="name the float model first, then one that was made of it",
        )
    count = _run(first, second, pairs, found, watched, samples, progress)
    return _findings(first, second, found, watched, count, least)


def _opened(model: Given) -> Model:
    if isinstance(model, Model):
        return model
    return Model(model) if isinstance(model, Module) else load(model, cache=False)


def _said(model: Model, otherwise: str) -> str:
    return f"'{model.name}'" if model.name else otherwise


def _same_inputs(first: Model, second: Model) -> dict[Tensor, Tensor]:
    """{input of A: input of B}, by name where the names agree, else in order."""
    mine, theirs = first.inputs, second.inputs
    order = list(mine) if set(mine) == set(theirs) else list(theirs)
    if len(mine) != len(theirs) or any(
        not _fits(x, theirs[name]) for x, name in zip(mine.values(), order, strict=True)
    ):
        sides = (", ".join(f"{name}: {info}" for name, info in m.inputs.items()) for m in (first, second))
        raise InputError(
            "the models have different inputs: {} and {}".format(*sides), hint="compare a model with one made of it"
        )
    ours, others = ({t.index: t for t in m.module.main.inputs} for m in (first, second))
    pairs = {mine[x].index: theirs[y].index for x, y in zip(mine, order, strict=True)}
    return {t: others[pairs[index]] for index, t in ours.items()}


def _fits(mine: TensorInfo, theirs: TensorInfo) -> bool:
    rank = len(mine.shape) == len(theirs.shape)
    sizes = all(m == t or -1 in (m, t) for m, t in zip(mine.shape, theirs.shape, strict=False))
    return rank and sizes and (mine.dtype == theirs.dtype or theirs.quantization is not None)


def _watched(found: Matching, factors: Factors) -> list[Watched]:
    """The tensors of real numbers that both have, with the layers that compute them."""
    kinds = {x: found.b.stored(y).type.dtype for x, y in found.pairs.items()}
    schemes = {n: Scheme(kinds.get(n.outputs[0]), INT8) for n in found.a.graph.nodes if n.outputs}
    bounds = folded(found.a.graph, dict.fromkeys(found.pairs, (-math.inf, math.inf)), Plan(schemes))
    made = []
    for x, y in found.pairs.items():
        stored = found.b.stored(y)
        if not x.type.dtype.is_float or not (stored.type.dtype.is_float or stored.type.quantization is not None):
            continue
        maker = found.a.makers.get(x)
        parts = _parts(found, x, stored) if maker is not None else None
        scaled = maker is not None and bool(maker.op.result_scales)  # as shares are, of which small ones are nothing
        each = not scaled and x not in found.a.graph.outputs
        watched = Watched(x, stored, parts, factors, bounds=bounds.get(x), is_input=maker is None, by_channel=each)
        made.append(watched)
    return made


def _parts(found: Matching, x: Tensor, stored: Tensor) -> tuple[Part, Part] | None:
    """The layers that compute a tensor in A and in B, None where one of them cannot be run alone."""
    theirs = layer(found.b.graph, found.b.makers, stored, {t for t, of in found.ends.items() if of is not x})
    mine = layer(found.a.graph, found.a.makers, x, found.pairs)
    if mine is None or theirs is None or not theirs.leaves:
        return None
    fits = all(can_become(found.ends[t].type, t.type) for t in theirs.leaves)
    return (mine, theirs) if fits else None


def _run(
    first: Model, second: Model, pairs: Mapping[Tensor, Tensor], found: Matching, watched: Sequence[Watched],
    samples: Iterable[Any], progress: Callable[[int], None],
) -> int:  # fmt: skip
    """Shows every sample's values to those that watch; returns how many samples there were."""
    host = Host(first.module)
    other = Host(second.module)
    alone = {w: _grafted(host, w, found.ends) for w in watched if w.parts is not None}
    mine = Watch(host.module, [*(host.same[w.a] for w in watched), *(t for both in alone.values() for t in both)])
    theirs = Watch(other.module, [other.same[w.b] for w in watched])
    infos = {t.index: info for t, info in zip(second.module.main.inputs, _in_order(second), strict=True)}
    count = 0
    for sample in samples:
        arrays = _arrays(first, sample, count)
        values = mine(arrays)
        given = {pairs[t]: _as(a, infos[pairs[t].index], t) for t, a in zip(pairs, arrays, strict=True)}
        got = theirs([given[t] for t in second.module.main.inputs])
        for w in watched:
            wanted = values[host.same[w.a]]
            if not np.isfinite(wanted).all():
                raise InputError(
                    f"sample {count} gives NaN or infinity in {w.a}",
                    hint="look for NaN and infinity in the samples, or leave this one out",
                )
            if wanted.shape != got[other.same[w.b]].shape:
                raise InputError(
                    f"sample {count} gives {list(wanted.shape)} in {w.a}, and {list(got[other.same[w.b]].shape)} in "
                    f"{w.b} of the other model",
                    hint="compare a model with one made of it",
                )
            w.see(wanted, got[other.same[w.b]])
            if w in alone:
                w.see_own(wanted, *(values[t] for t in alone[w]))
        count += 1
        progress(count)
    if not count:
        raise InputError("there are no samples", hint=f"samples are {SAMPLES}")
    return count


def _grafted(host: Host, w: Watched, ends: Mapping[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Where, behind A's graph, A's layer and B's give the tensor: both on A's values, as B stores them."""
    assert w.parts is not None
    mine, theirs = w.parts
    of = w.factors.of
    leaves_b = {t: host.cast(host.scaled(host.same[ends[t]], of.get(ends[t])), t.type) for t in theirs.leaves}
    rounded = {ends[t]: host.unscaled(there, of.get(ends[t])) for t, there in leaves_b.items()}
    leaves_a = {t: rounded.get(t, host.same[t]) for t in mine.leaves}
    return host.add(mine, leaves_a, w.a, "alone/a/"), host.add(theirs, leaves_b, w.b, "alone/b/")


def _in_order(model: Model) -> list[TensorInfo]:
    """The inputs in the order of the main graph."""
    by_index = {info.index: info for info in model.inputs.values()}
    return [by_index[t.index] for t in model.module.main.inputs]


def _arrays(model: Model, sample: Any, count: int) -> list[np.ndarray]:
    """A sample as arrays in the order of the graph's inputs."""
    given = tuple(sample) if isinstance(sample, tuple | list) else (sample,)
    try:
        bound = model.main.bound(given, {})
    except InputError as error:
        raise InputError(f"sample {count}: {error.problem}", where=error.where, hint=error.hint) from error
    by_index = {model.inputs[name].index: array for name, array in bound.items()}
    return [by_index[t.index] for t in model.module.main.inputs]


def _as(array: np.ndarray, info: TensorInfo, given: Tensor) -> np.ndarray:
    """A's input as B takes it."""
    return info.quantize(array) if info.dtype != given.type.dtype.name else array


def _findings(
    first: Model, second: Model, found: Matching, watched: Sequence[Watched], count: int, least: float
) -> Comparison:
    outputs = {found.a.root(t) for t in found.a.graph.outputs}
    seen = [w for w in watched if w.total.count]
    poor = [w for w in seen if w.judged.level < least]
    wrong = [w for w in poor if w.own is not None or w.is_input] or poor  # by themselves, if known
    adds_up = not wrong and any(w.total.snr < least for w in seen)
    explained = sorted(seen, key=lambda w: w.judged.level)[:1] if adds_up else wrong
    others = {w.a: w for w in seen}
    why = {w: causes(w, others) for w in explained}
    layers = tuple(_layer(w, found.a, w in wrong, why.get(w, ()), w.a in outputs) for w in seen)
    return Comparison(
        first.name or "a", second.name or "b", count, least, layers, tuple(t.name for t in found.alone)
    )  # fmt: skip


def _layer(w: Watched, side: Side, wrong: bool, why: tuple[Cause, ...], is_output: bool) -> Layer:
    maker = side.makers.get(w.a)
    total, own = w.total, w.own
    return Layer(
        name=w.a.name,
        operator=maker.op.name if maker is not None else "input",
        partner=w.b.name,
        type=w.b.type.dtype.name,
        snr=total.snr,
        quarter=total.quarter,
        own=own.snr if own else None,
        own_quarter=own.quarter if own else None,
        rmse=total.rmse,
        rmse_steps=total.rmse / w.scale if w.scale else None,
        largest=total.largest,
        cosine=total.cosine,
        saturated=w.beyond / total.count if w.is_stored else None,
        bits=w.bits,
        low=w.values.least,
        high=w.values.greatest,
        reach=w.reach if w.is_stored else None,
        wrong=wrong,
        is_output=is_output,
        causes=why,
        spreads=tuple(spread(h.counts, h.low, h.width, BARS) for h in w.histograms),
    )
