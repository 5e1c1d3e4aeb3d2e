"""Constants of few values: indices into a table, in TensorFlow Lite Micro's form, expanded when read.

A metadata entry, itself a flatbuffer, names the tensors that are stored so. A tensor's buffer holds an index of 1 to 7
bits for each element, in the order of the elements, the highest bit first and without gaps; another buffer holds the
values, as elements of the tensor's type. Where a tensor has a scale for each channel, each channel has a table of its
own, all of one length, one after the other.

Source: tflite-micro, compression/metadata.fbs and docs/compression.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lithe.errors import ModelError
from lithe.formats import flatbuffer, flatbuffer_write
from lithe.formats.schema import parse
from lithe.types import TensorType

ENTRY = "COMPRESSION_METADATA"
VERSION = 1
MOST_BITS = 7
TYPES = ("float32", "int8", "int16", "int32", "int64", "bool")
SCHEMA = parse(
    "Metadata", b"", "", "",
    """
Metadata: schema_version:u32=1 subgraphs:[Subgraph]
Subgraph: lut_tensors:[LutTensor]
LutTensor: tensor:i32 value_buffer:u32 index_bitwidth:u8
""",
)  # fmt: skip


@dataclass(frozen=True)
class Table:
    """How a constant is stored: as indices of so many bits.

    values  the number of the buffer of values, in the file that it was read from.
    """

    bits: int
    values: int = 0


def read(entry: np.ndarray) -> list[dict[int, Table]]:
    """Which tensors are stored so, for each graph, from the bytes of the metadata entry."""
    record = flatbuffer.read(memoryview(entry.tobytes()), SCHEMA)
    if record["schema_version"] > VERSION:
        raise ModelError(f"tables of version {record['schema_version']} are unknown, expected {VERSION}")
    found = []
    for graph in record["subgraphs"] or ():
        tensors = graph["lut_tensors"] or ()
        found.append({t["tensor"]: Table(t["index_bitwidth"], t["value_buffer"]) for t in tensors})
    return found


def write(graphs: Sequence[Mapping[int, Table]]) -> bytes:
    """The bytes of the metadata entry."""
    records = [
        {"lut_tensors": [{"tensor": i, "value_buffer": t.values, "index_bitwidth": t.bits} for i, t in tensors.items()]}
        for tensors in graphs
    ]
    return flatbuffer_write.write({"schema_version": VERSION, "subgraphs": records}, SCHEMA)


def _channels(kind: TensorType) -> tuple[int, int]:
    """How many tables there are, and along which axis each next one counts."""
    q = kind.quantization
    if q is None or not q.per_channel:
        return 1, 0
    if q.axis not in (0, kind.rank - 1):
        raise ModelError(f"tables along axis {q.axis} of {kind} are not defined, along the first and the last are")
    return len(q.scale), q.axis


def expand(table: Table, kind: TensorType, indices: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The elements, read-only, from the bytes of both buffers."""
    if kind.dtype.name not in TYPES or not kind.rank:
        raise ModelError(f"{kind} cannot have a table, {', '.join(TYPES)} with axes can")
    if not 1 <= table.bits <= MOST_BITS:
        raise ModelError(f"indices of a table have 1 to {MOST_BITS} bits, not {table.bits}")
    count = math.prod(kind.shape)
    wanted = -(-count * table.bits // 8)
    if indices.size < wanted:
        raise ModelError(f"{kind} needs {wanted} bytes of indices, its buffer has {indices.size}")
    channels, axis = _channels(kind)
    if channels > 1 and channels != kind.shape[axis]:
        raise ModelError(f"{kind} has {channels} scales along axis {axis} of size {kind.shape[axis]}")
    length = values.size // kind.dtype.bytes // channels
    tables = values[: length * channels * kind.dtype.bytes].copy()
    tables = tables != 0 if kind.dtype.kind == "bool" else tables.view(kind.dtype.numpy)
    bits = np.unpackbits(indices[:wanted])[: count * table.bits].reshape(count, table.bits)
    places = np.zeros(count, np.intp)
    for column in bits.T:
        places = places * 2 + column
    if count and places.max() >= length:
        raise ModelError(f"an index into a table is {places.max()}, the table has {length} values")
    offsets = np.arange(channels).reshape([-1 if a == axis else 1 for a in range(kind.rank)]) * length
    array = tables[places.reshape(kind.shape) + offsets] if count else np.zeros(kind.shape, kind.dtype.numpy)
    array.flags.writeable = False
    return array


def compress(table: Table, kind: TensorType, dense: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The bytes of (indices, values), or None where there are more values than indices."""
    channels, axis = _channels(kind)
    slices = np.moveaxis(dense, axis, 0) if channels > 1 else dense[None]
    found = [np.unique(one, return_inverse=True) for one in slices]
    length = max(len(values) for values, _ in found)
    if length > 1 << table.bits:
        return None
    values = np.zeros((channels, length), kind.dtype.numpy)
    for i, (own, _) in enumerate(found):
        values[i, : len(own)] = own
    places = np.stack([inverse.reshape(slices.shape[1:]) for _, inverse in found])
    places = np.moveaxis(places, 0, axis) if channels > 1 else places[0]
    bits = places.reshape(-1, 1) >> np.arange(table.bits - 1, -1, -1) & 1
    return np.packbits(bits.astype(np.uint8)), values.reshape(-1).view(np.uint8)


def narrowest(kind: TensorType, dense: np.ndarray) -> Table | None:
    """A table with indices of the fewest bits; None where the form has none for this constant."""
    if kind.dtype.name not in TYPES or not kind.rank or not dense.size:
        return None
    try:
        channels, axis = _channels(kind)
    except ModelError:
        return None
    slices = np.moveaxis(dense, axis, 0) if channels > 1 else dense[None]
    most = max(len(np.unique(one)) for one in slices)
    bits = max((most - 1).bit_length(), 1)
    return Table(bits) if bits <= MOST_BITS else None
