"""What a search tries, and what came out."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lithe.errors import InputError
from lithe.ir.graph import Module
from lithe.optimize.quantization import quantize
from lithe.optimize.search.choices import EXACT, Choice
from lithe.optimize.search.evaluation import Evaluation, Score, latency, noise, outputs, score
from lithe.optimize.search.state import State
from lithe.optimize.workers import Here, Workers
from lithe.runtime.model import Model


@dataclass(frozen=True)
class Trial:
    """A choice, and what it gives.

    bytes     of the file; 0 where the choice cannot be made.
    noise     the power of the outputs' differences from the float model's over that of the outputs.
    accuracy  on the labelled data, or what the function said; None where only the noise was measured.
    lost, won answers that were right and are wrong now, and the other way; None without labelled data.
    latency   the time of an inference over the float model's, on this machine; None where it was not measured.
    problem   why the choice cannot be made.
    """

    choice: Choice
    bytes: int = 0
    noise: float = 0.0
    accuracy: float | None = None
    lost: int | None = None
    won: int | None = None
    latency: float | None = None
    problem: str = ""

    @property
    def is_uniform(self) -> bool:
        return not self.choice.key[1]

    def as_json(self) -> dict[str, Any]:
        return {**self.__dict__, "choice": {"rest": self.choice.rest, "layers": dict(self.choice.layers)}}

    @staticmethod
    def of_json(fields: dict[str, Any]) -> Trial:
        return Trial(**{**fields, "choice": Choice(**fields["choice"])})


class OutOfTime(Exception):
    """The time that the search was given has gone."""


@dataclass(frozen=True)
class Subject:
    """What trials are made of: the float model, samples for ranges and for the noise, and how results are to be."""

    module: Module
    samples: Iterable[Any] | None
    probes: Sequence[Any]
    ranges: str
    inputs: str = "float32"
    outputs: str = "float32"
    repairs: Collection[str] | None = None

    def made(self, choice: Choice, workers: Workers | None = None) -> Model:
        """The model with this choice. Alone, layers are measured between real numbers."""
        if choice.key == Choice(EXACT).key:
            return Model(self.module)
        ends = ("float32", "float32") if choice.rest == EXACT else (self.inputs, self.outputs)
        return quantize(
            self.module,
            self.samples,
            choice.recipe(self.ranges),
            repairs=self.repairs,
            inputs=ends[0],
            outputs=ends[1],
            workers=workers,
        )


class Trials:
    """All trials of a search: made when they are asked for, unless the state has them.

    exact  that of the float model, which is made at once.
    """

    def __init__(
        self,
        subject: Subject,
        evaluation: Evaluation,
        workers: Workers,
        state: State,
        *,
        until: float = float("inf"),
        progress: Callable[[int, int], None] = lambda done, expected: None,
    ) -> None:
        self._subject, self._workers, self._state = subject, workers, state
        self._until, self._progress = until, progress
        self._spread = None if isinstance(workers, Here) else workers
        self._evaluation, self._shared = evaluation, workers.share(evaluation)
        self._found: dict[Any, Trial] = {}
        self._of_model: dict[bytes, Trial] = {}  # choices that come to the same are not measured again
        self.expected = 1
        for fields in state.trials:
            try:
                trial = Trial.of_json(fields)
            except (TypeError, KeyError) as cause:
                raise state.damaged() from cause
            self._found[trial.choice.key] = trial
        self._model = bytes(subject.made(Choice(EXACT)))
        self._probing = workers.share((subject.probes, outputs(self._model, subject.probes)))
        self._score = self._scored(self._model)
        self.exact = self._exact()

    def __iter__(self) -> Iterator[Trial]:
        return iter(self._found.values())

    @property
    def answers(self) -> int | None:
        """How many answers the accuracy is a share of, where there are labels."""
        return None if self._score.right is None else self._score.right.size

    def alone(self, choices: Iterable[Choice], *, timed: bool) -> list[Trial]:
        """The noise of each choice, and its latency where that is asked for; workers share them."""
        choices = list(choices)
        wanted = [c for c in choices if c.key not in self._found]
        made: deque[tuple[Choice, bytes]] = deque()

        def models() -> Iterator[bytes]:
            for choice in wanted:
                model = self._made(choice)
                same = None if model is None else self._of_model.get(_digest(model))
                if same:
                    self._add(replace(same, choice=choice))
                elif model is not None:
                    made.append((choice, model))
                    yield model

        for value in self._workers.map(noise, models(), self._probing):
            choice, model = made.popleft()
            trial = Trial(choice, len(model), value, latency=latency(model, self._model) if timed else None)
            self._of_model[_digest(model)] = self._add(trial)
        return [self._found[c.key] for c in choices]

    def whole(self, choice: Choice) -> Trial:
        """The accuracy, noise and latency of a choice."""
        known = self._found.get(choice.key)
        if known is not None and (known.problem or known.accuracy is not None):
            return known
        model = self._made(choice)
        if model is None:
            return self._found[choice.key]
        same = self._of_model.get(_digest(model))
        if same is not None and same.accuracy is not None:
            return self._add(replace(same, choice=choice))
        (value,) = self._workers.map(noise, [model], self._probing)
        got, before = self._scored(model), self._score
        lost = won = None
        if got.right is not None and before.right is not None:
            lost, won = int((before.right & ~got.right).sum()), int((got.right & ~before.right).sum())
        trial = self._add(Trial(choice, len(model), value, got.value, lost, won, latency(model, self._model)))
        self._of_model[_digest(model)] = trial
        return trial

    def _exact(self) -> Trial:
        exact = Trial(Choice(EXACT), len(self._model), 0.0, self._score.value, latency=1.0)
        known = self._found.get(exact.choice.key)
        if known is None:
            return self._add(exact)
        if known.accuracy is None or not np.isclose(known.accuracy, self._score.value, rtol=1e-6):
            raise InputError(
                f"the float model's accuracy is {self._score.value:.6g}, and was {known.accuracy} in the search before",
                hint="evaluate as before, or begin anew with another state file",
            )
        return known

    def _scored(self, model: bytes) -> Score:
        parts = ((model, part) for part in self._evaluation.parts())
        return self._evaluation.total(list(self._workers.map(score, parts, self._shared)))

    def _made(self, choice: Choice) -> bytes | None:
        if time.monotonic() > self._until:
            raise OutOfTime
        try:
            return bytes(self._subject.made(choice, self._spread))
        except InputError as error:  # nothing in the model, or not all, has this form
            self._add(Trial(choice, problem=error.problem))
            return None

    def _add(self, trial: Trial) -> Trial:
        self._found[trial.choice.key] = trial
        self._state.add(trial.as_json())
        self._progress(len(self._found), max(self.expected, len(self._found)))
        return trial


def _digest(model: bytes) -> bytes:
    return hashlib.sha256(model).digest()
