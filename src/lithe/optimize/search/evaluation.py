"""How good a model is.

Two measures. The accuracy is what counts: the share of right answers on labelled data, or what a function says. The
noise is what orders layers: the power of the differences from the float model's outputs over that of the outputs, on a
few samples; it shows small losses that no answer shows yet.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from threading import get_ident
from typing import Any, Protocol

import numpy as np

from lithe.errors import InputError
from lithe.runtime.function import TensorInfo
from lithe.runtime.model import Model, load

PART = 256  # labelled samples that a worker is given at once


@dataclass(frozen=True)
class Score:
    """What an evaluation gives: a number, greater being better, and of labelled data which answers are right."""

    value: float
    right: np.ndarray | None = None


class Evaluation(Protocol):
    """What gives a model's accuracy, in parts that workers may share."""

    def parts(self) -> Iterator[Any]:
        """What `score` is called with; one after another, not held together."""

    def score(self, model: Model, part: Any) -> Any:
        """What a part gives."""

    def total(self, scores: Sequence[Any]) -> Score:
        """What all parts give."""


@dataclass(frozen=True)
class Measured:
    """A function of the caller that takes a model and gives a number."""

    function: Callable[[Model], float]

    def parts(self) -> Iterator[None]:
        yield None

    def score(self, model: Model, part: None) -> float:
        given = self.function(model)
        try:
            value = float(given)
        except (TypeError, ValueError) as cause:
            raise InputError(f"the evaluation gave {given!r}, and a number is needed") from cause
        if not math.isfinite(value):
            raise InputError(f"the evaluation gave {value}", hint="it has to be finite, and greater for better models")
        return value

    def total(self, scores: Sequence[float]) -> Score:
        return Score(scores[0])


@dataclass(frozen=True)
class Labelled:
    """Samples and the classes that they are of: right is where the greatest output stands at the label.

    samples  an array with samples along its first axis, or an iterable that can be run through again and again; what
             the model is called with, with or without the batch of one in front.
    labels   a number for each, or as many as the output has rows.
    """

    samples: Iterable[Any]
    labels: Sequence[Any]

    def __post_init__(self) -> None:
        if iter(self.samples) is self.samples:
            raise InputError(
                "the labelled samples can be run through once, and each trial needs them",
                hint="give an array, a list, or an object whose __iter__ starts anew",
            )
        count = len(self.samples) if isinstance(self.samples, Sized) else None
        if not len(self.labels) or count not in (None, len(self.labels)):
            raise InputError(
                f"there are {count or 'no'} samples and {len(self.labels)} labels", hint="one label a sample"
            )

    def parts(self) -> Iterator[tuple[list[Any], list[Any]]]:
        samples, labels = iter(self.samples), iter(self.labels)
        while part := list(islice(samples, PART)):
            answers = list(islice(labels, len(part)))
            if len(answers) < len(part):
                raise InputError(
                    f"there are more samples than the {len(self.labels)} labels", hint="one label a sample"
                )
            yield part, answers
        if next(labels, None) is not None:
            raise InputError(f"there are fewer samples than the {len(self.labels)} labels", hint="one label a sample")

    def score(self, model: Model, part: tuple[list[Any], list[Any]]) -> np.ndarray:
        return np.concatenate([_right(model, sample, label) for sample, label in zip(*part, strict=True)])

    def total(self, scores: Sequence[np.ndarray]) -> Score:
        right = np.concatenate(scores)
        return Score(float(right.mean()), right)


def _right(model: Model, sample: Any, label: Any) -> np.ndarray:
    results = called(model, sample)
    if len(results) > 1 or results[0].ndim == 0 or results[0].shape[-1] < 2:
        shapes = ", ".join(f"{name}: {info}" for name, info in model.outputs.items())
        raise InputError(f"labels are for one output with a number for each class; the model gives {shapes}",
                         hint="give a function as `evaluate`")  # fmt: skip
    answers, wanted = results[0].argmax(-1).ravel(), np.ravel(label)
    if answers.shape != wanted.shape:
        raise InputError(f"a sample has {wanted.size} labels, and the model gives {answers.size} answers for it")
    if wanted.dtype.kind not in "iu" or wanted.min() < 0 or wanted.max() >= results[0].shape[-1]:
        raise InputError(f"{label!r} is no label", hint=f"labels are integers from 0 to {results[0].shape[-1] - 1}")
    return answers == wanted


def called(model: Model, sample: Any) -> list[np.ndarray]:
    """All outputs for a sample, which may lack a batch of one. What the model keeps between calls is forgotten."""
    model.reset()
    infos = list(model.inputs.values())
    if isinstance(sample, Mapping):
        return [
            *model.main(
                **{n: _fitted(a, model.inputs[n]) if n in model.inputs else a for n, a in sample.items()}
            ).values()
        ]
    several = sample if isinstance(sample, tuple | list) else [sample]
    fitted = [_fitted(a, info) for a, info in zip(several, infos, strict=False)]
    return [*model.main(*fitted, *several[len(infos) :]).values()]


def _fitted(array: Any, info: TensorInfo) -> np.ndarray:
    """With a batch of one where that is missing; real numbers as the integers that stand for them."""
    array = np.asarray(array)
    if array.ndim == len(info.shape) - 1 and info.shape[0] in (1, -1):
        array = array[None]
    return info.quantize(array) if array.dtype.kind == "f" and info.quantization is not None else array


def _reals(array: np.ndarray, info: TensorInfo) -> np.ndarray:
    return np.asarray(array if info.quantization is None else info.dequantize(array), np.float64)


# what workers do; models travel as bytes


def loaded(model: bytes) -> Model:
    """The model in this thread: others do not forget what it keeps between calls."""
    return _loaded(model, get_ident())


@lru_cache(maxsize=16)
def _loaded(model: bytes, thread: int) -> Model:
    return load(model, cache=False)


def score(item: tuple[bytes, Any], evaluation: Evaluation) -> Any:
    model, part = item
    return evaluation.score(loaded(model), part)


def outputs(model: bytes, probes: Sequence[Any]) -> list[list[np.ndarray]]:
    infos = loaded(model).outputs.values()
    return [[_reals(y, i) for y, i in zip(called(loaded(model), probe), infos, strict=True)] for probe in probes]


def noise(model: bytes, common: tuple[Sequence[Any], list[list[np.ndarray]]]) -> float:
    """The power of the differences over that of the float model's outputs; the sum of all outputs'."""
    probes, exact = common
    total = 0.0
    for got, wanted in zip(zip(*outputs(model, probes), strict=True), zip(*exact, strict=True), strict=True):
        lost = sum(float(((g - w) ** 2).sum()) for g, w in zip(got, wanted, strict=True))
        power = sum(float((w**2).sum()) for w in wanted)
        total += lost / max(power, 1e-30)
    return total if math.isfinite(total) else math.inf


def latency(model: bytes, reference: bytes, rounds: int = 5) -> float:
    """The time of an inference over that of another model: the middle of some rounds in turn, on this machine."""
    shares = []
    for _ in range(rounds):
        ours, theirs = (loaded(m).benchmark(200, warmup=1, seconds=0.01).median_ms for m in (model, reference))
        shares.append(ours / theirs)
    return float(np.median(shares))
