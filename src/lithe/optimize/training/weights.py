"""The weights of a Keras model that can be made smaller, whatever layers it is made of.

They are found by what they are, not by a list of classes: trainable variables of real numbers, of rank 2 or more, that
layers hold in their attributes. A place knows every attribute through which layers read the variable, so that
something else can stand there while the model computes; this needs nothing of a layer but that it reads its attribute.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from lithe.errors import InputError

Scope = str | Callable[[Any, Any], bool] | None
NO_FACTORS = re.compile(r"bias|gamma|beta|alpha|scale|depthwise")  # names of what is added, or has few elements
KEPT_BY_KERAS = {
    "_trainable_variables",
    "_non_trainable_variables",
}  # lists of all variables, which nobody computes with


@dataclass(frozen=True)
class Place:
    """A weight, and where layers read it.

    variable  the weight itself.
    layer     the first layer that holds it.
    holders   (attributes or list, name or index): each place that it is read from.
    """

    variable: Any
    layer: Any
    holders: tuple[tuple[Any, Any], ...]

    @property
    def held(self) -> Any:
        """What layers read at this moment, as a tensor: the variable, or what stands for it."""
        container, key = self.holders[0]
        return keras.ops.convert_to_tensor(container[key])

    @property
    def outputs(self) -> tuple[int, ...]:
        """The axes that count what the layer computes with the weight; the others are summed over."""
        rank = len(self.variable.shape)
        if hasattr(self.layer, "equation"):  # an einsum: axes of the weight that the input does not have
            given, weight = re.split(r"->|,", self.layer.equation.replace(" ", "").replace("...", ""))[:2]
            if len(weight) == rank:
                return tuple(i for i, letter in enumerate(weight) if letter not in given)
        if "embedding" in self.variable.name:  # a table: each row is looked up
            return (0,)
        if _is_transposed(self.layer):
            return (rank - 2,)
        if _is_depthwise(self.layer, self.variable):
            return (rank - 2, rank - 1)
        return (rank - 1,)

    def rows(self, array: np.ndarray) -> np.ndarray:
        """An array of the weight's shape as it is deployed: [outputs, inputs]."""
        order, shape = self._deployed()
        return array.transpose(order).reshape(int(np.prod(shape[: len(self.outputs)])), -1)

    def whole(self, rows: np.ndarray) -> np.ndarray:
        """[outputs, inputs] in the weight's shape."""
        order, shape = self._deployed()
        return rows.reshape(shape).transpose(np.argsort(order))

    def _deployed(self) -> tuple[list[int], list[int]]:
        outputs = self.outputs
        order = [*outputs, *(i for i in range(len(self.variable.shape)) if i not in outputs)]
        return order, [self.variable.shape[i] for i in order]


def array_of(variable: Any) -> np.ndarray:
    """What a variable holds."""
    return np.asarray(keras.ops.convert_to_numpy(variable.value))


def places(model: Any) -> list[Place]:
    """Every weight of rank 2 or more, in the order of `model.weights`."""
    holders: dict[int, list[tuple[Any, Any]]] = {}
    owners: dict[int, Any] = {}
    for layer in model._flatten_layers():
        for container, key, variable in _held(layer):
            holders.setdefault(id(variable), []).append((container, key))
            owners.setdefault(id(variable), layer)
    return [
        Place(v, owners[id(v)], tuple(holders[id(v)]))
        for v in model.weights
        if id(v) in holders and len(v.shape) >= 2 and keras.backend.is_float_dtype(v.dtype) and 0 not in v.shape
    ]


def chosen(model: Any, scope: Scope) -> list[int]:
    """Which of `places` a scope chooses. Raises InputError where it chooses none.

    scope  None: all weights that are trained but factors of the values' channels (depthwise kernels, norms) and what
           is added (biases). A regular expression: those of them in whose path it is found. A function of a layer and
           a variable: those for which it holds, of all that are trained.
    """
    found = [
        i
        for i, place in enumerate(places(model))
        if place.variable.trainable and not _is_stand_in(place.layer) and _in_scope(place, scope)
    ]
    if not found:
        weights = ", ".join(p.variable.path for p in places(model)) or "none of rank 2 or more"
        raise InputError(
            f"there are no weights to choose in {model.name!r}" + (f" with scope {scope!r}" if scope else ""),
            hint=f"choose of its weights: {weights}",
        )
    return found


@contextmanager
def standing(places: Sequence[Place], values: Sequence[Any]) -> Iterator[None]:
    """While it lasts, layers read the values, in the type that they compute in, in the place of their weights."""
    before = [(container, key, container[key]) for place in places for container, key in place.holders]
    try:
        for place, value in zip(places, values, strict=True):
            cast = keras.ops.cast(value, place.layer.compute_dtype)
            for container, key in place.holders:
                container[key] = cast
        yield
    finally:
        for container, key, held in before:
            container[key] = held


def _held(layer: Any) -> Iterator[tuple[Any, Any, Any]]:
    """(attributes or list, name or index, variable) for each variable that a layer can reach by itself."""
    own = vars(layer)
    for name, value in own.items():
        if isinstance(value, keras.Variable):
            yield own, name, value
        elif isinstance(value, list | dict) and name not in KEPT_BY_KERAS:
            for key, variable in value.items() if isinstance(value, dict) else enumerate(value):
                if isinstance(variable, keras.Variable):
                    yield value, key, variable


def _in_scope(place: Place, scope: Scope) -> bool:
    if callable(scope):
        return bool(scope(place.layer, place.variable))
    usual = not NO_FACTORS.search(place.variable.name) and not _is_depthwise(place.layer, place.variable)
    return usual and (scope is None or re.search(scope, place.variable.path) is not None)


def _is_depthwise(layer: Any, variable: Any) -> bool:
    return hasattr(layer, "depth_multiplier") and "pointwise" not in variable.name


def _is_transposed(layer: Any) -> bool:
    classes = (keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose)
    return isinstance(layer, classes)


def _is_stand_in(layer: Any) -> bool:
    """Whether a layer's weights stand for those of a model within it."""
    return hasattr(layer, "stand_in")
