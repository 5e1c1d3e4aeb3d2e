"""What a tensor of TensorFlow is while its graph is written: a tensor, sizes, a list of tensors, a resource."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lithe.conversion.builder import Builder
from lithe.conversion.sizes import LARGEST
from lithe.ir.graph import Tensor
from lithe.passes.writer import Inexpressible
from lithe.types import DType, Shape


@dataclass(frozen=True, eq=False)
class Counted:
    """Integers that come from open sizes, as Python's, so that products of stand-ins stay exact.

    dtype   what they are in the source; tensor  the same at run time, where something has computed it already.
    """

    numbers: np.ndarray
    dtype: DType
    tensor: Tensor | None = None


@dataclass(frozen=True, eq=False)
class TensorList:
    """A list of tensors as one: [items, *item]. None before an item says what the items are.

    count  of the items, shape  of each as far as the source says it (-1: open, None: not at all).
    """

    tensor: Tensor | None
    count: int
    dtype: DType
    shape: tuple[int, ...] | None


@dataclass(frozen=True, eq=False)
class Resource:
    """A variable or table of the source; `held` is TensorFlow's handle of it."""

    held: Any


Value = Tensor | Counted | TensorList | Resource


def numbers(value: Value) -> np.ndarray | None:
    """The integers of a value as Python's, where they are known."""
    if isinstance(value, Counted):
        return value.numbers
    if isinstance(value, Tensor) and value.data is not None and value.type.dtype.kind in ("int", "uint"):
        return value.data.astype(object)
    return None


def counted(b: Builder, made: Any, dtype: DType) -> Value:
    """Integers as a value: a constant where none is open."""
    array = np.asarray(made, object)
    if all(abs(n) <= LARGEST for n in array.reshape(-1).tolist()):
        return b.constant(array.astype(np.int64), dtype)
    return Counted(array, dtype)


def computed(b: Builder, value: Counted, dtype: DType) -> Tensor:
    """The integers as a tensor, computed from the inputs when the model runs."""
    if value.tensor is not None:
        return b.cast(value.tensor, dtype)
    vector = b.vector([int(n) for n in value.numbers.reshape(-1)])
    return b.cast(b.reshape(vector, value.numbers.shape), dtype)


def written(b: Builder, value: Value) -> Tensor:
    """The value as a tensor. Raises Inexpressible where it is none."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, Counted):
        return computed(b, value, value.dtype)
    raise Inexpressible("a list of tensors or a resource where a tensor is needed")


def sizes_of(value: Value, why: str = "a shape that is computed from data") -> Shape:
    """The integers, which must be known."""
    found = numbers(value)
    if found is None:
        raise Inexpressible(why)
    return tuple(int(n) for n in found.reshape(-1))
