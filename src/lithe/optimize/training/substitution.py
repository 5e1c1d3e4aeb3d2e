"""A Keras model around another, which computes with something else in the place of some weights.

The model within stays what it is, of whatever layers and however written: nothing is cloned and no layer is replaced.
The model around it holds what is needed beside the weights (masks, centroids) as variables of its own, so that
checkpoints and files have them, and goes on choosing them while `fit` or `train_on_batch` runs, without a callback that
could be forgotten.
"""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from lithe.errors import InputError, StateError
from lithe.optimize.training.weights import array_of, places, standing


def checked(model: Any, doing: str) -> Any:
    """The model, when it is a Keras model that can be trained here. Raises InputError."""
    if not isinstance(model, keras.Model):
        raise InputError(f"only a Keras model can be {doing}, this is {type(model).__name__}")
    if not model.built:
        raise InputError(
            f"{model.name!r} has no weights yet", hint="give it an Input, call build, or call it on a batch"
        )
    if type(model).train_step is not keras.Model.train_step and not isinstance(model, Substituted):
        raise InputError(
            f"{type(model).__name__} has a train_step of its own, which the model around it would not call",
            hint=f"let the networks within it be {doing}, and train with them",
        )
    return model


class Substituted(keras.Model):
    """Computes what the model within it computes with other weights.

    model    the model within.
    indices  which of its weights have a stand-in: places in `weights.places(model)`.
    """

    def __init__(self, model: Any, indices: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**{"name": model.name, **kwargs})
        self.model = model
        self.indices = list(indices)
        found = places(model)
        self.places = tuple(found[i] for i in self.indices)
        self.steps = self._count("steps", 0)  # of training, so far
        self.updated = self._count("updated", -1)  # the step at which stand-ins were last chosen

    # what a kind of substitution says; it makes its variables when it is made, and is built then

    @abstractmethod
    def stand_in(self, index: int, weight: Any) -> Any:
        """What stands for a weight, as a tensor from which gradients flow."""

    @abstractmethod
    def moment(self, step: int) -> int:
        """The last step, at most this one, at which stand-ins are chosen anew; -1 when there was none."""

    @abstractmethod
    def choose(self, step: int) -> None:
        """Chooses stand-ins anew, from what the weights are at a step."""

    @abstractmethod
    def final(self, index: int, weight: np.ndarray) -> np.ndarray:
        """What the weight becomes in the end. Raises StateError where training is not far enough for that."""

    # what all have

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if training:
            self.steps.assign_add(1)
        values = [self.stand_in(i, place.held) for i, place in enumerate(self.places)]
        with standing(self.places, values):
            return self.model(inputs)

    def advance(self) -> None:
        """Chooses stand-ins anew where it is time for that: before each step of a training loop of one's own."""
        for model in _chain(self):
            due = model.moment(_whole(model.steps))
            if due > _whole(model.updated):
                model.choose_at(due)

    def fit(self, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.fit`; stand-ins are chosen anew where it is time for that."""
        given = inspect.signature(super().fit).bind(*args, **kwargs)
        callbacks = given.arguments.get("callbacks") or []
        if isinstance(callbacks, keras.callbacks.Callback):
            callbacks = [callbacks]
        given.arguments["callbacks"] = [Advance(), *callbacks]  # first, so that others save what it chose
        return super().fit(*given.args, **given.kwargs)

    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.train_on_batch`; stand-ins are chosen anew where it is time for that."""
        self.advance()
        return super().train_on_batch(*args, **kwargs)

    def stripped(self) -> Any:
        """The model within, with what stood for its weights as its weights."""
        values = [self.final(i, array_of(place.variable)) for i, place in enumerate(self.places)]
        for place, value in zip(self.places, values, strict=True):
            place.variable.assign(value)
        return self.model

    def get_config(self) -> dict[str, Any]:
        within = keras.saving.serialize_keras_object(self.model)
        return {"name": self.name, "model": within, "indices": self.indices}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        within = keras.saving.deserialize_keras_object(config.pop("model"), custom_objects=custom_objects)
        return cls(within, **config)

    def choose_at(self, step: int) -> None:
        """Chooses stand-ins anew, and keeps in mind when that was."""
        self.choose(step)
        self.updated.assign(step)

    def _count(self, name: str, value: int) -> Any:
        start = keras.initializers.Constant(value)
        return self.add_weight(name=name, shape=(), dtype="int32", initializer=start, trainable=False)


class Advance(keras.callbacks.Callback):
    """Lets a model choose its stand-ins while it is trained. `fit` of such a model adds it by itself."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.models = list(_chain(self.model))
        self.first = [_whole(m.steps) for m in self.models]
        self.updated = [_whole(m.updated) for m in self.models]

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._advance([first + batch for first in self.first])

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._advance([_whole(m.steps) for m in self.models])

    def _advance(self, steps: Sequence[int]) -> None:
        for i, (model, step) in enumerate(zip(self.models, steps, strict=True)):
            due = model.moment(step)
            if due > self.updated[i]:
                if hasattr(self.model, "jax_state_sync"):  # JAX trains on copies, which are written back for this
                    self.model.jax_state_sync()
                model.choose_at(due)
                self.updated[i] = due


def _chain(model: Any) -> Iterator[Substituted]:
    """A model, and those within it that have stand-ins too, from the outside to the inside."""
    while isinstance(model, Substituted):
        yield model
        model = model.model


def strip(model: Any) -> Any:
    """The plain Keras model within a model that was pruned or clustered, with the weights that it computed with.

    What was wrapped several times is unwrapped whole. The model is the one that was given to `prune` or `cluster`, not
    a copy. Raises StateError where training did not go on to where the weights are what was asked for, InputError for
    what has nothing to strip.
    """
    if not hasattr(model, "stripped"):
        raise InputError(
            f"there is nothing to strip from {type(model).__name__}", hint="give what prune or cluster gave back"
        )
    while hasattr(model, "stripped"):
        model = model.stripped()
    return model


def unfinished(model: Substituted, problem: str) -> StateError:
    """The error for a model whose training ended too early."""
    return StateError(
        f"{problem}; it was trained for {_whole(model.steps)} steps",
        where=model.name,
        hint="train on with fit or train_on_batch; in a loop of your own, call advance() before each step",
    )


def _whole(variable: Any) -> int:
    return int(array_of(variable))
