"""Why a layer goes wrong: what its ranges, weights and bias show, each with what to try.

The error of a layer comes from storing its result in too few or wrong steps, or from its weights and bias. Which of
them is measured: `Watched.storing` is what A's own values lose when they are stored with B's scale, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from lithe.ir.graph import Node, Tensor
from lithe.optimize.comparison.agreement import Agreement, real
from lithe.optimize.comparison.matching import BORDER
from lithe.optimize.comparison.watching import Watched

FAR = 8.0  # times: three of eight bits are lost on channels whose values are so much smaller
UNLIKE = 0.5  # cosine: rounding to a few bits leaves more
LESS = 6.0  # decibels: by which some are clearly worse than others
WORDS = "Rule(Scheme(INT16, INT8), scope=layer)"
FLOAT = "Rule(Scheme(), scope=layer)"


@dataclass(frozen=True)
class Cause:
    """name: in a few words. evidence: the figures that say so. tries: what may repair it, the cheapest first; `layer`
    in them is `Layer.scope`.
    """

    name: str
    evidence: str
    tries: tuple[str, ...]


Others = Mapping[Tensor, Watched]  # by tensor of A


def causes(w: Watched, others: Others) -> tuple[Cause, ...]:
    """Why a layer that goes wrong does, the likeliest first; never empty. `others`: those that it may read, too."""
    found = [c for rule in RULES for c in [rule(w)] if c is not None]
    found = [c for c in (_weights(w, others),) if c is not None] + found
    if found:
        return tuple(found)
    return (Cause("not known", "neither its range nor its weights and bias explain the error", (_keep(w),)),)


def _overflow(w: Watched) -> Cause | None:
    if not w.odd:
        return None
    return Cause("overflow", f"{w.odd} values are infinite or NaN in {w.b.type.dtype}, and finite in the float model",
                 (_keep(w), "scale the model's inputs down"))  # fmt: skip


def _constant(w: Watched) -> Cause | None:
    if w.got.least != w.got.greatest or w.values.least == w.values.greatest:
        return None
    evidence = f"every value is {_n(w.got.least)}, and {_span(w.values.least, w.values.greatest)} in the float model"
    return Cause("constant tensor", evidence, ("calibrate with samples like these", _keep(w)))


def _clipped(w: Watched) -> Cause | None:
    if not _by_storing(w) or w.clipped < w.storing.noise / 2:
        return None
    evidence = (
        f"{_share(w.beyond, w.storing.count)} of the values lie beyond {_span(*w.reach)}, which its integers reach; "
        f"they go {_span(w.values.least, w.values.greatest)}"
    )
    return Cause("clipped range", evidence, ("calibrate with samples like these", 'ranges="min_max"', _wider(w)))


def _outlier(w: Watched) -> Cause | None:
    largest = w.values.largest
    if not _by_storing(w) or len(largest) < 2:
        return None
    middle, low, top = float(np.median(largest)), float(np.quantile(largest, 0.25)), float(largest.max())
    if low <= 0 or top < FAR * low:
        return None
    far = largest > FAR * middle
    few = 0 < far.sum() <= max(1, len(largest) // 8) and largest[~far].max() < FAR * low
    evidence = f"channel {int(largest.argmax())} reaches {_n(top)}, the middle one of {len(largest)} {_n(middle)}, and "
    evidence += f"a quarter of them {_n(low)} or less: {_n(low / w.scale)} steps"
    name = "outlier channel" if few else "channels of very different ranges"
    return Cause(name, evidence, ('repairs="equalization"', _wider(w), _keep(w)))


def _unlucky(w: Watched) -> Cause | None:
    if not _by_storing(w):
        return None
    reach, used = w.reach[1] - w.reach[0], w.used[1] - w.used[0]
    seen = w.values.greatest - w.values.least
    if reach < 4 * used:
        return None
    evidence = f"its integers reach {_span(*w.reach)}, and 99.9 % of the values lie within {_span(*w.used)}: "
    evidence += f"a step is {_n(w.scale)}"
    if seen < reach / 4:
        tries: tuple[str, ...] = ("calibrate with samples like these", _wider(w))
    else:
        tries = ('ranges="percentile"', 'ranges="mean_squared_error"', _wider(w))
    return Cause("unlucky scale", evidence, tries)


def _coarse(w: Watched) -> Cause | None:
    if not _by_storing(w) or any(rule(w) for rule in (_clipped, _outlier, _unlucky, _constant)):
        return None
    evidence = f"values {_span(w.values.least, w.values.greatest)} in steps of {_n(w.scale)}: storing them alone gives "
    evidence += f"{w.storing.level:.0f} dB"
    return Cause("coarse steps", evidence, (_wider(w), _keep(w)))


def _weights(w: Watched, others: Others) -> Cause | None:
    for mine, wanted, theirs, node in _constants(w):
        if mine.type.rank < 2:
            continue
        got, axis = real(_data(theirs), theirs.type), node.op.weights_axis
        alike = _kept(wanted, got, -1).cosine
        if alike < UNLIKE:
            evidence = f"weights '{mine.name}' are others: the cosine of the angle between both is {alike:.2f}"
            return Cause("other weights", evidence, ("compare a model with one made of it",))
        noise = (got - wanted) ** 2 * _power(node, wanted.shape[-1], others)  # of the sums, if errors are independent
        if _blame(w, _sums(noise, axis) * w.judged.count) < 1 / 3:
            continue
        of_outputs, of_inputs = (_kept(wanted, got, a) for a in (-1 if axis is None else axis, -1))
        said = f"weights '{mine.name}' in {theirs.type.dtype}"
        largest, q = _largest(wanted, axis), theirs.type.quantization
        low, top = float(np.quantile(largest, 0.25)), float(largest.max())
        if q is not None and not q.per_channel and low > 0 and FAR * low <= top:
            evidence = f"{said}, with one scale: channel {int(largest.argmax())} reaches {_n(top)}, a quarter of "
            evidence += f"{len(largest)} channels {_n(low)} or less, which is {_n(low / q.scale[0])} steps"
            return Cause("weights with one scale for very different channels", evidence,
                         ("a scale for each channel: lithe.quantize", 'repairs="equalization"'))  # fmt: skip
        if of_inputs.quarter < of_outputs.quarter - LESS:
            evidence = f"{said}: those for a quarter of the input's channels are so small beside others that "
            evidence += f"{of_inputs.quarter:.0f} dB or less are left of them"
            return Cause("weights of very different sizes", evidence, ('repairs="equalization"', _keep(w)))
        evidence = (
            f"{said} have {of_outputs.snr:.0f} dB, the worst quarter of their channels {of_outputs.quarter:.0f} dB"
        )
        return Cause("coarse weights", evidence, ("weights of 8 bits, or in blocks", _keep(w)))
    return None


def _power(node: Node, channels: int, others: Others) -> np.ndarray | float:
    """The mean square of what weights are multiplied with, of each channel of the input where it has so many."""
    read = next((others[t] for t in node.inputs if t is not None and t in others), None)
    if read is None:
        return 0.0
    sums, count = read.total.channels, max(read.total.count, 1)
    return sums[0] / (count / channels) if sums is not None and len(sums[0]) == channels else read.total.signal / count


def _kept(wanted: np.ndarray, got: np.ndarray, axis: int) -> Agreement:
    """What is left of weights, by channels along an axis."""
    found = Agreement()
    found.see(np.moveaxis(wanted, axis, -1), np.moveaxis(got, axis, -1))
    return found


def _largest(weights: np.ndarray, axis: int | None) -> np.ndarray:
    """The largest magnitude of each output's weights."""
    rows = np.abs(weights).reshape(1, -1) if axis is None else np.moveaxis(np.abs(weights), axis, 0)
    return np.asarray(rows.reshape(len(rows), -1).max(1, initial=0.0))


def _sums(noise: np.ndarray, axis: int | None) -> np.ndarray:
    """The sum for each output."""
    rows = noise.reshape(1, -1) if axis is None else np.moveaxis(noise, axis, 0)
    return np.asarray(rows.reshape(len(rows), -1).sum(1))


def _bias(w: Watched) -> Cause | None:
    for mine, wanted, theirs, _ in _constants(w):
        dtype, q = theirs.type.dtype, theirs.type.quantization
        if mine.type.rank != 1 or not dtype.is_integer or dtype.bits < 32 or q is None:
            continue
        data = _data(theirs)
        got = real(data, theirs.type)
        noise = float(((wanted - got) ** 2).mean()) * w.judged.count  # each element of the result has one of them
        if not noise or noise < w.judged.noise / 2:
            continue
        worst = int(np.abs(wanted - got).argmax())
        if data[worst] not in (dtype.minimum, dtype.maximum):
            continue  # biases that are others on purpose make up for what is lost elsewhere
        step = q.scale[worst if q.per_channel else 0]
        evidence = f"'{mine.name}' [{worst}] is {_n(float(wanted[worst]))}, and {_n(float(got[worst]))} as {dtype}, "
        evidence += f"the most that it holds at a step of {_n(step)}"
        return Cause("bias overflow", evidence, ("wider scales of the weights: lithe.quantize", _keep(w)))
    return None


RULES: tuple[Callable[[Watched], Cause | None], ...] = (
    _overflow, _constant, _bias, _clipped, _outlier, _unlucky, _coarse,
)  # fmt: skip


def _by_storing(w: Watched) -> bool:
    """Whether storing the values explains the noise."""
    if not w.is_stored or not w.storing.count:
        return False
    of_channels = w.storing.channels
    return (
        _blame(w, np.array([w.storing.noise]) if of_channels is None else of_channels[1] * len(of_channels[1])) >= 0.5
    )


def _blame(w: Watched, noise: np.ndarray) -> float:
    """Which share of the layer's noise this is, where it is at its worst: in the whole, or in its worst channels.

    noise  of each channel, as if every value were of that channel; or of all.
    """
    judged = w.judged
    if judged.channels is None or judged.snr <= judged.quarter or len(noise) != len(judged.channels[1]):
        return float(noise.mean()) / max(judged.noise, 1e-300)
    signal, whole = judged.channels
    with np.errstate(divide="ignore"):
        levels = np.where(signal > 0, signal / np.maximum(whole, 1e-300), np.inf)
    worst = np.argsort(levels)[: max(1, int((signal > 0).sum()) // 4)]
    return float(np.median(noise[worst] / len(noise) / np.maximum(whole[worst], 1e-300)))


def _constants(w: Watched) -> Iterator[tuple[Tensor, np.ndarray, Tensor, Node]]:
    """Constants of the layer's nodes in A, their numbers as B has them, those in B that are the same, the node of A."""
    if w.parts is None:
        return
    a, b = w.parts
    narrow = {n.outputs[0]: n.inputs[0] for n in b.nodes if n.op.name in BORDER}
    others = [(n, i, narrow.get(t) or t) for n in b.nodes for i, t in enumerate(n.inputs) if t is not None]
    for node in a.nodes:
        for place, mine in enumerate(node.inputs):
            if mine is None or not mine.is_constant or not mine.type.dtype.is_float:
                continue
            same = [t for n, i, t in others if n.op.name == node.op.name and i == place]
            same = [t for t in same if t.is_constant and t.type.shape == mine.type.shape]
            yield from ((mine, w.factors.constant(node, place), t, node) for t in same[:1])


def _data(t: Tensor) -> np.ndarray:
    assert t.data is not None
    return t.data


def _wider(w: Watched) -> str:
    return 'recipe="int16x8"' if w.is_input else WORDS


def _keep(w: Watched) -> str:
    return "keep its readers float" if w.is_input else FLOAT


def _n(value: float) -> str:
    return f"{value:.3g}"


def _span(low: float, high: float) -> str:
    return f"{_n(low)} .. {_n(high)}"


def _share(part: int, whole: int) -> str:
    return f"{100 * part / max(whole, 1):.3g} %"
