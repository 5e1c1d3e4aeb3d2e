"""How the constants of a converted model follow from the weights of the Keras model, found by converting it anew.

Conversion folds, transposes, splits and shares weights. What became of them is not written down; it is seen by giving
the weights other values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from lithe.errors import ModelError
from lithe.ir.graph import Tensor
from lithe.optimize.training.weights import array_of
from lithe.passes.fold_constants import fold_constants
from lithe.runtime.model import Model
from lithe.types import FLOAT32

TINY = 1e-12  # stands for zero while a model is converted, so that no weight is left out
CLOSE = 1e-4  # of a constant's largest number: what rounding leaves
DIGIT = 7  # bits of a digit of an element's number
NEAR = 2.0**-22  # by what weights are moved, so that none is shared or left out because of its value

Constants = dict[tuple[int, int], np.ndarray]  # by place: the number of a node, and of its operand


def converted(model: Any, inputs: Any) -> Model:
    """The model as a float graph in which no constant is left out or shared because of the values of weights."""
    random = np.random.default_rng(0)

    def moved(i: int, array: np.ndarray) -> np.ndarray:
        steps = random.integers(1, 8, array.shape if array.ndim < 2 else ())
        tiny = TINY * (1 + i + random.random(array.shape if array.ndim < 2 else ()))
        return np.where(array == 0, tiny, array * (1 + steps * NEAR))

    result = _with_values(model, inputs, [moved(i, array_of(v)) for i, v in enumerate(model.trainable_variables)])
    for t in result.module.main.tensors:
        if t.data is not None and t.type.dtype == FLOAT32 and t.data.size > 1:
            t.data = np.where(np.abs(t.data) < 1e3 * TINY, np.float32(0), t.data)
    return result


def depends(model: Any, inputs: Any, whole: Model) -> set[Tensor]:
    """The constants of the converted model that depend on trainable weights."""
    random = np.random.default_rng(1)
    other = [array_of(v) * random.uniform(0.8, 1.2, v.shape) + random.uniform(0.01, 0.1, v.shape)
             for v in model.trainable_variables]  # fmt: skip
    moved = constants_of(_with_values(model, inputs, other), whole)
    here = tensors_of(whole)
    return {t for place, t in here.items() if not np.allclose(t.data, moved[place], 1e-4, 1e-9)}  # type: ignore[arg-type]


def tensors_of(model: Model) -> dict[tuple[int, int], Tensor]:
    """Constants of real numbers, by place."""
    return {
        (n, i): t
        for n, node in enumerate(model.module.main.nodes)
        for i, t in enumerate(node.inputs)
        if t is not None and t.data is not None and t.type.dtype == FLOAT32
    }


def constants_of(model: Model, like: Model) -> Constants:
    """The constants of a conversion that has the operators of another one. Raises ModelError where it has not."""
    here, there = ([(n.op.name, n.attrs) for n in m.module.main.nodes] for m in (model, like))
    found = tensors_of(model)
    if here != there or set(found) != set(tensors_of(like)):
        raise ModelError(
            "the operators of the model depend on the values of its weights",
            hint="layers that do something else for some weights cannot be trained as integers",
        )
    return {place: np.asarray(t.data, np.float64) for place, t in found.items()}


def _with_values(model: Any, inputs: Any, values: Sequence[np.ndarray]) -> Model:
    import lithe

    with holding(model, values):
        result = lithe.convert(model, inputs=inputs)
    fold_constants(result.module.main)
    return result


def take_weights(model: Any, other: Any) -> None:
    """Gives a model the weights of another one that is built alike."""
    for v, same in zip(model.weights, other.weights, strict=True):
        v.assign(array_of(same))


@contextmanager
def holding(model: Any, values: Sequence[np.ndarray]) -> Iterator[None]:
    """While it lasts, the trainable weights of a model have other values."""
    variables = list(model.trainable_variables)
    before = [array_of(v).copy() for v in variables]
    try:
        for v, array in zip(variables, values, strict=True):
            v.assign(np.asarray(array, np.float32))
        yield
    finally:
        for v, array in zip(variables, before, strict=True):
            v.assign(array)


# back to weights


def solved(model: Any, inputs: Any, wanted: dict[tuple[int, int], np.ndarray]) -> None:
    """Gives the model trainable weights of which conversion makes these constants, by place. Raises ModelError.

    Each element of a constant follows from one element of a weight: constant = factor * weight + rest, where factor
    and rest may depend on other weights. Which one it is, is read off the digits of its number, which are added to
    the weights one after another. Kernels come first, then what is added, then factors, until nothing is missing.
    """
    like = converted(model, inputs)
    variables = list(model.trainable_variables)
    values = [array_of(v).astype(np.float64) for v in variables]
    late = [any(word in v.name for word in ("gamma", "scale", "alpha")) for v in variables]
    kernels = [i for i, v in enumerate(variables) if len(v.shape) > 1 and not late[i]]
    rest = sorted((i for i in range(len(variables)) if i not in kernels), key=lambda i: late[i])

    def made(values: Sequence[np.ndarray]) -> Constants:
        with_zeros = [np.where(v == 0, TINY, v) for v in values]
        return constants_of(_with_values(model, inputs, with_zeros), like)

    for group in [kernels, *([i] for i in rest)]:
        now = made(values)
        if not group or _missing(wanted, now) < CLOSE:
            continue
        start, places = 0, {}
        for i in group:
            places[i] = np.arange(start, start + values[i].size).reshape(values[i].shape)
            start += values[i].size
        factor = _differences(made(_added(values, places, lambda place: np.ones(place.shape))), now)
        number = {p: np.zeros(f.shape, np.int64) for p, f in factor.items()}
        for digit in range(max(1, -(-start.bit_length() // DIGIT))):
            shift = DIGIT * digit
            moved = _differences(
                made(_added(values, places, lambda place, s=shift: 1 + ((place >> s) % (1 << DIGIT)) / (1 << DIGIT))),
                now,
            )
            for p, f in factor.items():
                share = np.divide(moved[p], f, out=np.ones_like(f), where=f != 0) - 1
                number[p] += np.rint(share * (1 << DIGIT)).astype(np.int64) << shift
        total, count = np.zeros(start), np.zeros(start)
        for p, target in wanted.items():
            inside = (np.abs(factor[p]) > 1e-6) & (number[p] >= 0) & (number[p] < start)
            change = (target - now[p])[inside] / factor[p][inside]
            np.add.at(total, number[p][inside], change)
            np.add.at(count, number[p][inside], 1)
        change = total / np.maximum(count, 1)
        for i, place in places.items():
            values[i] = values[i] + change[place]
    if _missing(wanted, made(values)) >= CLOSE:
        raise ModelError(
            "the weights that belong to the trained constants cannot be found",
            hint="lithe.convert gives the trained model of integers all the same",
        )
    for v, array in zip(variables, values, strict=True):
        v.assign(np.where(np.abs(array) < 1e3 * TINY, 0, array).astype(np.float32))


def _added(values: Sequence[np.ndarray], places: dict[int, np.ndarray], what: Any) -> list[np.ndarray]:
    return [v + what(places[i]) if i in places else v for i, v in enumerate(values)]


def _differences(a: Constants, b: Constants) -> Constants:
    return {p: a[p] - b[p] for p in b}


def _missing(wanted: Constants, now: Constants) -> float:
    """The largest difference, as a share of the largest number of a constant."""
    return max((float(np.abs(w - now[p]).max() / (np.abs(w).max() + 1e-6)) for p, w in wanted.items()), default=0.0)
