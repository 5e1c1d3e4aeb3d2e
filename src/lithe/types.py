"""Types of tensors: element type, shape, quantization. The vocabulary of every room."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

Shape = tuple[int, ...]


class DType(NamedTuple):  # not a dataclass: a model's compilation compares and hashes tens of thousands of them
    """One element type. `bits` is its size in memory (packed types are unpacked to a byte in memory).

    kind  "float" | "int" | "uint" | "bool" | "complex" | "string" | "resource"
    """

    name: str
    kind: str
    bits: int
    stored_bits: int  # size in a model file: 4 for int4, where two share a byte

    def __repr__(self) -> str:
        return self.name

    def __str__(self) -> str:
        return self.name

    @property
    def numpy(self) -> np.dtype:
        """The numpy dtype that holds one element."""
        return _numpy(self.name)

    @property
    def bytes(self) -> int:
        return self.bits // 8

    @property
    def is_float(self) -> bool:
        return self.kind == "float"

    @property
    def is_integer(self) -> bool:
        return self.kind in ("int", "uint")

    @property
    def minimum(self) -> int:
        """The least integer that fits (for packed types: in its stored bits)."""
        return -(1 << (self.stored_bits - 1)) if self.kind == "int" else 0

    @property
    def maximum(self) -> int:
        return (1 << (self.stored_bits - (self.kind == "int"))) - 1


@lru_cache(None)
def _numpy(name: str) -> np.dtype:
    if name == "bfloat16" or name.startswith("float8"):
        import ml_dtypes  # here, because most models have no such type and starting is to be quick

        return np.dtype(getattr(ml_dtypes, name))
    special = {
        "int4": np.int8,
        "int2": np.int8,
        "uint4": np.uint8,
        "string": np.object_,
        "resource": np.object_,
        "variant": np.object_,
    }
    return np.dtype(special.get(name, name))


def _scalar(name: str, kind: str, bits: int, stored: int = 0) -> DType:
    return DType(name, kind, bits, stored or bits)


FLOAT64 = _scalar("float64", "float", 64)
FLOAT32 = _scalar("float32", "float", 32)
FLOAT16 = _scalar("float16", "float", 16)
BFLOAT16 = _scalar("bfloat16", "float", 16)
FLOAT8_E4M3FN = _scalar("float8_e4m3fn", "float", 8)
FLOAT8_E5M2 = _scalar("float8_e5m2", "float", 8)
INT64 = _scalar("int64", "int", 64)
INT32 = _scalar("int32", "int", 32)
INT16 = _scalar("int16", "int", 16)
INT8 = _scalar("int8", "int", 8)
INT4 = _scalar("int4", "int", 8, 4)
INT2 = _scalar("int2", "int", 8, 2)
UINT64 = _scalar("uint64", "uint", 64)
UINT32 = _scalar("uint32", "uint", 32)
UINT16 = _scalar("uint16", "uint", 16)
UINT8 = _scalar("uint8", "uint", 8)
UINT4 = _scalar("uint4", "uint", 8, 4)
BOOL = _scalar("bool", "bool", 8)
COMPLEX64 = _scalar("complex64", "complex", 64)
COMPLEX128 = _scalar("complex128", "complex", 128)
STRING = _scalar("string", "string", 64)
RESOURCE = _scalar("resource", "resource", 64)
VARIANT = _scalar("variant", "resource", 64)

DTYPES: dict[str, DType] = {
    d.name: d
    for d in (
        FLOAT64, FLOAT32, FLOAT16, BFLOAT16, FLOAT8_E4M3FN, FLOAT8_E5M2, INT64, INT32, INT16, INT8,
        INT4, INT2, UINT64, UINT32, UINT16, UINT8, UINT4, BOOL, COMPLEX64, COMPLEX128, STRING,
        RESOURCE, VARIANT,
    )
}  # fmt: skip


def dtype_of(array: np.ndarray) -> DType:
    """The DType of a numpy array (object, bytes and str arrays are strings)."""
    if array.dtype.kind in "OSU":
        return STRING
    return DTYPES[array.dtype.name]


@dataclass(frozen=True)
class Quantization:
    """real = scale * (stored - zero_point), one pair for the tensor or one for each slice of `axis`.

    scale, zero_point  tuples of equal length: 1 (whole tensor) or shape[axis] (per channel).
    block  when not 0: each `block` neighbours along the last axis have a pair of their own, in row-major order.
    """

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int = 0
    block: int = 0

    @property
    def per_channel(self) -> bool:
        return len(self.scale) > 1


@dataclass(frozen=True)
class TensorType:
    """Element type, shape and quantization of a tensor.

    >>> print(TensorType(INT8, (1, 96, 96, 3)))
    int8[1, 96, 96, 3]
    """

    dtype: DType
    shape: Shape
    quantization: Quantization | None = None

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.size * self.dtype.bytes

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"
