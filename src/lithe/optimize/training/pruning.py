"""`lithe.optimize.prune`: weights of a Keras model become zero while it learns."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import keras
import numpy as np

from lithe.errors import InputError
from lithe.optimize.sparsity import Structure, masks
from lithe.optimize.sparsity import structure as structured
from lithe.optimize.training.schedules import Schedule
from lithe.optimize.training.substitution import Substituted, checked, unfinished
from lithe.optimize.training.weights import Scope, array_of, chosen

THRESHOLDS = ("layer", "model")
NEAR = 1e-3  # a third is not written exactly


def prune(
    model: Any,
    schedule: Schedule | float | None = None,
    structure: str | Structure = "unstructured",
    *,
    scope: Scope = None,
    threshold: str = "layer",
) -> Any:
    """Returns a Keras model around the given one, whose smallest weights become zero while it is trained.

    model      a built Keras model of any kind and backend. It is not copied: training changes its weights.
    schedule   a `Schedule`, or a share of weights: that many are zero from the start. With N:M none is needed.
    structure  "unstructured"; "1x4", "4x1", "1x16": blocks of outputs x inputs, as the weights are deployed; "2:4": at
               most two of each four along the inputs are left, so that a schedule ends at the share of the others.
    scope      which weights: a regular expression that is searched for in their paths, or a function of a layer and
               a variable. Default: all of rank 2 and more that are trained, but depthwise kernels, norms and biases.
    threshold  "layer": each weight reaches the sparsity. "model": all together do, some more and some less.

    Compile, fit, evaluate, save and load it as any model; `strip` gives the plain model back. A weight that is zeroed
    keeps its value beside its mask and gets no gradient; where the mask is chosen anew it may come back.
    Raises InputError for what is none of these, and for a model without such weights.

    >>> sparse = prune(model, Schedule.polynomial(0.8, end=1000))                   # doctest: +SKIP
    """
    made = structured(structure)
    if threshold not in THRESHOLDS:
        raise InputError(f"there is no threshold for {threshold!r}", hint=f"thresholds are {', '.join(THRESHOLDS)}")
    times = _schedule(schedule, made)
    within = checked(model, "pruned")
    pruned = Pruned(within, chosen(within, scope), asdict(times), str(made), threshold)
    pruned.advance()  # to zeros from the start
    return pruned


def _schedule(given: Schedule | float | None, of: Structure) -> Schedule:
    if given is None and not of.group:
        raise InputError("nothing says how many weights are to become zero", hint="give a Schedule, or a share")
    share = of.most if given is None else given
    times = share if isinstance(share, Schedule) else Schedule.once(share)
    if of.group and abs(times.final - of.most) > NEAR:
        raise InputError(
            f"{of} leaves {1 - of.most:.3g} of the weights, and the schedule ends where {1 - times.final:.3g} are left",
            hint=f"let the schedule end at {of.most:.3g}",
        )
    return times


@keras.saving.register_keras_serializable(package="lithe")
class Pruned(Substituted):
    """Computes with zeros in the place of some weights; see `prune`."""

    def __init__(
        self, model: Any, indices: list[int], schedule: dict[str, Any], structure: str, threshold: str, **kwargs: Any
    ) -> None:
        super().__init__(model, indices, **kwargs)
        self.schedule = Schedule(**schedule)
        self.structure, self.threshold = structure, threshold
        self.masks = [
            self.add_weight(name=f"mask_{i}", shape=p.variable.shape, dtype="bool", initializer="ones", trainable=False)
            for i, p in enumerate(self.places)
        ]
        self.built = True

    def stand_in(self, index: int, weight: Any) -> Any:
        return keras.ops.where(
            keras.ops.convert_to_tensor(self.masks[index]), weight, keras.ops.zeros((), weight.dtype)
        )

    def moment(self, step: int) -> int:
        return self.schedule.moment(step)

    def choose(self, step: int) -> None:
        rows = [p.rows(array_of(p.variable)) for p in self.places]
        groups = [rows] if self.threshold == "model" else [[one] for one in rows]
        share, of = self.schedule.sparsity(step), structured(self.structure)
        found = [kept for group in groups for kept in masks(group, share, of)]
        for place, variable, kept in zip(self.places, self.masks, found, strict=True):
            variable.assign(place.whole(kept))

    def final(self, index: int, weight: np.ndarray) -> np.ndarray:
        if int(array_of(self.updated)) < self.schedule.reached:
            wanted = f"the sparsity {self.schedule.final} is reached at step {self.schedule.reached}"
            raise unfinished(self, wanted)
        return np.where(array_of(self.masks[index]), weight, np.zeros((), weight.dtype))

    def get_config(self) -> dict[str, Any]:
        own = {"schedule": asdict(self.schedule), "structure": self.structure, "threshold": self.threshold}
        return {**super().get_config(), **own}
