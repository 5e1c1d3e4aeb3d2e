"""Constant tensors: the bytes of a model file as arrays, and back."""

from __future__ import annotations

import math

import numpy as np

from lithe.errors import ModelError
from lithe.types import DTYPES, STRING, DType, Shape

RESOURCES = ("resource", "variant")


def dtype_of_member(member: str | int) -> DType:
    """The element type for a member of the schema's TensorType."""
    if isinstance(member, int):
        raise ModelError(f"there is no tensor type {member}", hint="the model needs a newer Lithe, or is damaged")
    return DTYPES[member.lower()]


def stored_bytes(dtype: DType, shape: Shape) -> int:
    """The size of a dense constant in a file."""
    return -(-math.prod(shape) * dtype.stored_bits // 8)


def unpack(raw: np.ndarray, dtype: DType, count: int) -> np.ndarray:
    """Packed 4-bit or 2-bit elements, the first in the lowest bits, one to a byte."""
    bits = dtype.stored_bits
    per_byte = 8 // bits
    spread = np.empty((raw.size, per_byte), np.uint8)
    for i in range(per_byte):
        spread[:, i] = (raw << (8 - bits * (i + 1))).astype(np.uint8)
    shifted = spread.view(np.int8) >> (8 - bits) if dtype.kind == "int" else spread >> (8 - bits)
    return shifted.reshape(-1)[:count]


def pack(array: np.ndarray, dtype: DType) -> np.ndarray:
    """The inverse of `unpack`; the last byte is filled up with zeros."""
    bits = dtype.stored_bits
    per_byte = 8 // bits
    flat = np.zeros(-(-array.size // per_byte) * per_byte, np.uint8)
    flat[: array.size] = array.reshape(-1).view(np.uint8) & ((1 << bits) - 1)
    packed = np.zeros(flat.size // per_byte, np.uint8)
    for i in range(per_byte):
        packed |= flat[i::per_byte] << (bits * i)
    return packed


def decode_strings(raw: np.ndarray, shape: Shape) -> np.ndarray:
    """An object array of bytes from a string tensor: count, count + 1 offsets, then the characters."""
    count = math.prod(shape)
    if raw.size < 4 * (count + 2):
        raise ModelError(f"a string tensor of {count} elements needs at least {4 * (count + 2)} bytes, has {raw.size}")
    header = raw[: 4 * (count + 2)].copy().view("<i4").astype(np.int64)
    offsets = header[1:]
    if header[0] != count:
        raise ModelError(f"a string tensor says it holds {header[0]} strings, its shape says {count}")
    if offsets[0] != 4 * (count + 2) or offsets[-1] > raw.size or (np.diff(offsets) < 0).any():
        raise ModelError(
            f"string offsets must rise from {4 * (count + 2)} to at most {raw.size}, are {offsets[:8].tolist()}"
        )
    data = raw.tobytes()
    strings = np.empty(count, np.object_)
    for i in range(count):
        strings[i] = data[offsets[i] : offsets[i + 1]]
    return strings.reshape(shape)


def encode_strings(array: np.ndarray) -> np.ndarray:
    """The inverse of `decode_strings`; str elements are stored as UTF-8."""
    strings = [s.encode() if isinstance(s, str) else bytes(s) for s in array.reshape(-1).tolist()]
    lengths = np.array([0, *map(len, strings)], np.int64).cumsum()
    header = np.concatenate([[len(strings)], lengths + 4 * (len(strings) + 2)]).astype("<i4")
    return np.frombuffer(header.tobytes() + b"".join(strings), np.uint8)


def decode(raw: np.ndarray, dtype: DType, shape: Shape) -> np.ndarray:
    """The elements of a dense constant: a read-only view of `raw` unless they are packed, strings or misaligned."""
    if dtype == STRING:
        return decode_strings(raw, shape)
    if dtype.name in RESOURCES:
        raise ModelError(f"a tensor of type {dtype} cannot be a constant")
    wanted = stored_bytes(dtype, shape)
    if raw.size < wanted:
        raise ModelError(f"{dtype}{list(shape)} needs {wanted} bytes, its buffer has {raw.size}")
    raw = raw[:wanted]
    if dtype.stored_bits < 8:
        array = unpack(raw, dtype, math.prod(shape))
    elif dtype.kind == "bool":
        array = raw.view(np.bool_) if raw.size == 0 or raw.max() <= 1 else raw != 0
    else:
        array = raw.view(dtype.numpy)
        if not array.flags.aligned:
            array = array.copy()
    array = array.reshape(shape)
    array.flags.writeable = False
    return array


def encode(array: np.ndarray, dtype: DType) -> np.ndarray:
    """The bytes of a constant as a file stores them."""
    if dtype == STRING:
        return encode_strings(array)
    if dtype.stored_bits < 8:
        return pack(np.ascontiguousarray(array), dtype)
    return np.ascontiguousarray(array, dtype.numpy).reshape(-1).view(np.uint8)
