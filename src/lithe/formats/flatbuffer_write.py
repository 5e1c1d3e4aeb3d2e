"""Writing FlatBuffers: the nested dicts of `lithe.formats.flatbuffer` back to bytes."""

from __future__ import annotations

from typing import Any

import numpy as np

from lithe.formats.schema import SCALARS, Field, Schema

_PREPEND = {
    "bool": "Bool", "i8": "Int8", "u8": "Uint8", "i16": "Int16", "u16": "Uint16", "i32": "Int32", "u32": "Uint32",
    "i64": "Int64", "u64": "Uint64", "f32": "Float32", "f64": "Float64",
}  # fmt: skip


class Writer:
    """Packs records; equal strings are stored once."""

    def __init__(self, schema: Schema, capacity: int = 1024) -> None:
        import flatbuffers  # here, because models are read much more often than written

        self.schema = schema
        self.builder = flatbuffers.Builder(capacity)

    def finish(self, record: dict[str, Any]) -> memoryview:
        root = self._table(self.schema.root, record)
        self.builder.Finish(root, file_identifier=self.schema.identifier or None)
        return memoryview(self.builder.Bytes)[self.builder.Head() :]  # a copy would take as much again

    def _table(self, name: str, record: dict[str, Any]) -> int:
        fields = self.schema.tables[name]
        children = {f.name: self._child(f, record.get(f.name)) for f in fields if f.vector or not f.wire}
        b = self.builder
        b.StartObject(max((f.slot + (2 if f.kind == "union" else 1) for f in fields), default=0))
        for f in fields:
            if f.name in children:
                self._reference(f, children[f.name])
            elif f.name in record:
                value, default = self._number(f, record[f.name]), self._number(f, f.default)
                getattr(b, f"Prepend{_PREPEND[f.wire]}Slot")(f.slot, value, default)
        return int(b.EndObject())

    def _reference(self, f: Field, child: Any) -> None:
        if child is None:
            return
        b = self.builder
        if f.kind == "union":
            member, offset = child
            b.PrependUint8Slot(f.slot, member, 0)
            b.PrependUOffsetTRelativeSlot(f.slot + 1, offset, 0)
        else:
            b.PrependUOffsetTRelativeSlot(f.slot, child, 0)

    def _number(self, f: Field, value: Any) -> Any:
        return self.schema.enums[f.type].values[value] if f.kind == "enum" and isinstance(value, str) else value

    def _child(self, f: Field, value: Any) -> Any:
        if value is None:
            return None
        if f.vector:
            return self._vector(f, value)
        if f.kind == "union":
            name, record = value
            return self.schema.unions[f.type].index(name) + 1, self._table(name, record)
        return self.builder.CreateSharedString(value) if f.kind == "string" else self._table(f.type, value)

    def _vector(self, f: Field, value: Any) -> int:
        b = self.builder
        if f.wire:
            dtype = np.dtype(SCALARS[f.wire])
            numbers = [self._number(f, v) for v in value] if f.kind == "enum" else value
            array = np.ascontiguousarray(np.asarray(numbers, dtype)).reshape(-1)
            if f.align:
                b.Prep(f.align, array.nbytes)  # a vector is aligned to its elements only
            return self._numbers(array)
        offsets = [b.CreateSharedString(v) if f.kind == "string" else self._table(f.type, v) for v in value]
        b.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            b.PrependUOffsetTRelative(offset)
        return int(b.EndVector())

    def _numbers(self, array: np.ndarray) -> int:
        """A vector of numbers, written where it stays: `CreateNumpyVector` makes two copies on the way."""
        b = self.builder
        b.StartVector(array.itemsize, array.size, array.itemsize)
        b.head -= array.nbytes
        np.frombuffer(b.Bytes, np.uint8)[b.head : b.head + array.nbytes] = array.view(np.uint8)
        return int(b.EndVector())


def packed(record: dict[str, Any], schema: Schema, capacity: int = 1024) -> memoryview:
    """The bytes of a root table, where they were made."""
    return Writer(schema, capacity).finish(record)


def write(record: dict[str, Any], schema: Schema, capacity: int = 1024) -> bytes:
    """The bytes of a root table."""
    return bytes(packed(record, schema, capacity))
