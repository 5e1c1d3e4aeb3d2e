"""Values in and out of a model: checking, copying, and views that know when they are still held."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np

from lithe.errors import InputError
from lithe.runtime.details import type_name
from lithe.types import DTYPES, STRING, DType

# Element types whose values come in an array of another type (the bits are the same, or there is no such array).
_STAND_INS = {
    "int4": ("int8",),
    "int2": ("int8",),
    "uint4": ("uint8",),
    "float8_e4m3fn": ("int8", "uint8"),
    "float8_e5m2": ("int8", "uint8"),
}


def given_type(array: np.ndarray) -> DType | None:
    """The element type of a caller's array; None for one that no model has (dates, long doubles)."""
    return STRING if array.dtype.kind in "OSU" else DTYPES.get(array.dtype.name)


def is_plain(dtype: DType) -> bool:
    """Whether an array of this type's numpy dtype can hold no value that a tensor of the type may not have."""
    return dtype.stored_bits == dtype.bits and dtype.kind not in ("string", "resource")


def as_given(value: Any) -> np.ndarray:
    """The caller's value as an array, whatever it is. Raises InputError when rows differ in length."""
    try:
        return np.asarray(value)
    except ValueError as cause:
        raise InputError(f"the value is not an array: {cause}") from cause


def set_value(storage: np.ndarray, dtype: DType, value: Any, index: int, name: str) -> None:
    """Copies a value into a tensor's storage. The texts are those that users of the official runtime search for."""
    array = as_given(value)
    given = given_type(array)
    if given is not dtype and (given is None or given.name not in _STAND_INS.get(dtype.name, ())):
        raise InputError(
            f"Cannot set tensor: Got value of type {type_name(given) if given else 'NOTYPE'} "
            f"but expected type {type_name(dtype)} for input {index}, name: {name} ",
            where=f"tensor #{index}",
            hint=f"np.asarray(value, np.{dtype.numpy.name})" if dtype is not STRING else "",
        )
    if array.ndim != storage.ndim:
        raise InputError(
            f"Cannot set tensor: Dimension mismatch. Got {array.ndim} but expected {storage.ndim} for input {index}.",
            where=f"tensor #{index}, which holds {dtype}{list(storage.shape)}, given {array.dtype}{list(array.shape)}",
        )
    for axis, (got, expected) in enumerate(zip(array.shape, storage.shape, strict=True)):
        if got != expected:
            raise InputError(
                f"Cannot set tensor: Dimension mismatch. Got {got} but expected {expected} "
                f"for dimension {axis} of input {index}.",
                where=f"tensor #{index}, which holds {dtype}{list(storage.shape)}, "
                f"given {array.dtype}{list(array.shape)}",
                hint="resize_tensor_input() and allocate_tensors(), if the model allows it",
            )
    if dtype is STRING:
        storage[...] = _as_bytes(array, index)
    elif given is not None and given is not dtype and dtype.is_float:
        storage[...] = array.view(storage.dtype)
    else:
        _check_packed_range(array, dtype, index)
        storage[...] = array


def _check_packed_range(array: np.ndarray, dtype: DType, index: int) -> None:
    if dtype.stored_bits < dtype.bits and array.size:
        low, high = int(array.min()), int(array.max())
        if low < dtype.minimum or high > dtype.maximum:
            raise InputError(
                f"Cannot set tensor: {dtype} holds {dtype.minimum} to {dtype.maximum}, got {low} to {high}",
                where=f"tensor #{index}",
            )


def _as_bytes(array: np.ndarray, index: int) -> np.ndarray:
    out = np.empty(array.shape, object)
    for place, item in np.ndenumerate(array):
        if isinstance(item, str):
            out[place] = item.encode()
        elif isinstance(item, bytes):
            out[place] = bytes(item)
        else:
            raise InputError(
                f"Cannot set tensor: a string tensor takes str or bytes, got {type(item).__name__}",
                where=f"tensor #{index}, element {list(place)}",
            )
    return out


class Views:
    """Hands out arrays that share a tensor's storage; `alive` is empty when none of them and no slice is held."""

    def __init__(self) -> None:
        self.alive: set[weakref.ref[_Owner]] = set()  # a WeakSet takes longer to ask

    def of(self, storage: np.ndarray) -> np.ndarray:
        """A view of the storage (a copy for strings, which have no bytes to share)."""
        if storage.dtype.hasobject:
            return storage.copy()
        owner = _Owner(storage)
        self.alive.add(weakref.ref(owner, self.alive.discard))
        return np.asarray(owner).view(storage.dtype)


class _Owner:
    """The base object of a view: numpy keeps it alive as long as any array of this memory is."""

    def __init__(self, storage: np.ndarray) -> None:
        self.storage = storage
        raw = storage if storage.dtype.isbuiltin == 1 else storage.view(f"u{storage.dtype.itemsize}")
        self.__array_interface__ = raw.__array_interface__
