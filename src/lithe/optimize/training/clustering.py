"""`lithe.optimize.cluster`: a Keras model learns with few numbers in the place of its weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from lithe.errors import InputError
from lithe.optimize.clusters import check, clustered, members
from lithe.optimize.training.substitution import Substituted, checked, strip
from lithe.optimize.training.weights import Scope, array_of, chosen, places

ROUNDS = 10  # of k-means, from where the centroids start


def cluster(
    model: Any,
    clusters: int,
    start: str = "kmeans++",
    *,
    per_channel: bool = False,
    preserve_zeros: bool = True,
    scope: Scope = None,
    frequency: int = 10,
    seed: int = 0,
) -> Any:
    """Returns a Keras model around the given one, in which a few numbers stand for all elements of a weight.

    model           a built Keras model of any kind and backend, not copied. What `prune` gave is stripped first.
    clusters        how many numbers a weight has at most, 2 to 256.
    start           "linear", "density", "random" or "kmeans++": where they are before training.
    per_channel     each output has numbers of its own.
    preserve_zeros  elements that are zero stay so; if there are any, zero is one of the numbers.
    scope           which weights; see `prune`.
    frequency       after so many steps of training each element is given to the number next to it again.

    The numbers learn: their gradient is the sum of those of the elements that they stand for. The elements learn too,
    with the gradient of what stands for them (straight through), which is how they come to change their number.
    Compile, fit, evaluate, save and load it as any model; `strip` gives the plain model back.
    Raises InputError for what is none of these, and for a model without such weights.

    Source: Han, Mao and Dally, Deep compression, 2015.

    >>> few = cluster(model, 16)                                                    # doctest: +SKIP
    """
    check(clusters, start)
    if isinstance(frequency, bool) or not isinstance(frequency, int) or frequency < 1:
        raise InputError(f"a frequency of {frequency!r} steps is none", hint="give a whole number, 1 or more")
    within = checked(model, "clustered")
    if isinstance(within, Substituted):
        within = strip(within)
    indices = chosen(within, scope)
    found = [
        clustered(
            place.rows(array_of(place.variable)),
            clusters,
            start,
            per_channel=per_channel,
            preserve_zeros=preserve_zeros,
            rounds=ROUNDS,
            seed=seed,
        )
        for place in (places(within)[i] for i in indices)
    ]
    made = Clustered(within, indices, [c.centroids.shape for c in found], frequency)
    for i, one in enumerate(found):
        made.centroids[i].assign(one.centroids)
        made.kept[i].assign(made.places[i].whole(one.stays))
    made.choose_at(0)
    return made


@keras.saving.register_keras_serializable(package="lithe")
class Clustered(Substituted):
    """Computes with few numbers in the place of some weights; see `cluster`.

    groups  for each weight, how many groups of numbers it has, and how many numbers are in one.
    """

    def __init__(
        self, model: Any, indices: list[int], groups: Sequence[Sequence[int]], frequency: int, **kwargs: Any
    ) -> None:
        super().__init__(model, indices, **kwargs)
        self.groups, self.frequency = [list(shape) for shape in groups], frequency
        self.centroids = [
            self.add_weight(name=f"centroids_{i}", shape=shape, initializer="zeros")
            for i, shape in enumerate(self.groups)
        ]
        shapes = [p.variable.shape for p in self.places]
        self.members = [  # places in all groups of centroids, one after another
            self.add_weight(name=f"members_{i}", shape=shape, dtype="int32", initializer="zeros", trainable=False)
            for i, shape in enumerate(shapes)
        ]
        self.kept = [  # not the zeros that are preserved
            self.add_weight(name=f"kept_{i}", shape=shape, dtype="bool", initializer="ones", trainable=False)
            for i, shape in enumerate(shapes)
        ]
        self.built = True

    def stand_in(self, index: int, weight: Any) -> Any:
        ops = keras.ops
        number = ops.take(ops.reshape(self.centroids[index], (-1,)), self.members[index])
        straight = weight - ops.stop_gradient(weight)  # is zero, and its gradient one
        value = ops.cast(number, straight.dtype) + straight
        return ops.where(ops.convert_to_tensor(self.kept[index]), value, ops.zeros((), value.dtype))

    def moment(self, step: int) -> int:
        return step - step % self.frequency

    def choose(self, step: int) -> None:
        for i, place in enumerate(self.places):
            rows = place.rows(array_of(place.variable))
            centroids = array_of(self.centroids[i])
            first = np.arange(len(centroids))[:, None] * centroids.shape[1]
            self.members[i].assign(place.whole(members(rows, centroids) + first))

    def final(self, index: int, weight: np.ndarray) -> np.ndarray:
        numbers = array_of(self.centroids[index]).reshape(-1)
        members, kept = (array_of(v[index]) for v in (self.members, self.kept))
        return np.where(kept, numbers[members], 0).astype(weight.dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "groups": self.groups, "frequency": self.frequency}
