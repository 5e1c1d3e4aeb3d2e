"""Writing FlatBuffers: the nested dicts of `lithe.formats.flatbuffer` back to bytes.

A file is made from its end: what a table refers to is there before it, and positions are counted from the end. Bytes
are those that the official builder makes of the same calls.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from lithe.formats.schema import PACKED, SCALARS, Field, Schema

_U8, _U32, _I32 = PACKED["u8"], PACKED["u32"], PACKED["i32"]


class Writer:
    """Packs records; equal strings are stored once, and so are tables of slots."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self._parts: list[bytes | memoryview] = []  # the last one of the file comes first
        self._size = 0
        self._aligned = 1  # the widest alignment that something has
        self._strings: dict[str, int] = {}
        self._slots: dict[tuple[int, ...], int] = {}

    def finish(self, record: dict[str, Any]) -> bytes:
        root = self._table(self.schema.root, record)
        self._align(self._aligned, 4 + len(self.schema.identifier))
        if self.schema.identifier:
            self._put(self.schema.identifier)
        self._put(_U32.pack(self._size + 4 - root))
        return b"".join(reversed(self._parts))

    def _put(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)

    def _align(self, width: int, after: int = 0) -> None:
        """Zeros, so that what follows upon `after` more bytes lies at a multiple of the width, from the end."""
        self._aligned = max(self._aligned, width)
        padding = -(self._size + after) % width
        if padding:
            self._put(bytes(padding))

    def _table(self, name: str, record: dict[str, Any]) -> int:
        fields = self.schema.tables[name]
        children = {f.name: self._child(f, record.get(f.name)) for f in fields if f.vector or not f.wire}
        end = self._size
        slots: dict[int, int] = {}
        for f in fields:
            if f.name not in children:
                if f.name in record:
                    self._scalar(slots, f, self._number(f, record[f.name]))
            elif (child := children[f.name]) is not None:
                if f.kind == "union":
                    self._place(slots, f.slot, _U8, child[0])
                    child = child[1]
                self._align(4)
                self._put(_U32.pack(self._size + 4 - child))
                slots[f.slot + (f.kind == "union")] = self._size
        self._align(4)
        place = self._size + 4
        sizes = (place - end, *(place - slots[n] if n in slots else 0 for n in range(max(slots, default=-1) + 1)))
        known = self._slots.get(sizes)
        where = place + 2 * len(sizes) + 2 if known is None else known
        self._put(_I32.pack(where - place))
        if known is None:
            self._put(struct.pack(f"<{len(sizes) + 1}H", 2 * len(sizes) + 2, *sizes))
            self._slots[sizes] = self._size
        return place

    def _scalar(self, slots: dict[int, int], f: Field, value: Any) -> None:
        if value != self._number(f, f.default):
            self._place(slots, f.slot, PACKED[f.wire], value)

    def _place(self, slots: dict[int, int], slot: int, code: struct.Struct, value: Any) -> None:
        self._align(code.size)
        self._put(code.pack(value))
        slots[slot] = self._size

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
        return self._string(value) if f.kind == "string" else self._table(f.type, value)

    def _string(self, value: str) -> int:
        if value not in self._strings:
            data = value.encode()
            self._align(4, len(data) + 1)
            self._put(data + b"\0")
            self._put(_U32.pack(len(data)))
            self._strings[value] = self._size
        return self._strings[value]

    def _vector(self, f: Field, value: Any) -> int:
        if f.wire:
            numbers = [self._number(f, v) for v in value] if f.kind == "enum" else value
            array = np.ascontiguousarray(np.asarray(numbers, SCALARS[f.wire])).reshape(-1)
            if f.align:
                self._align(f.align, array.nbytes)  # a vector is aligned to its elements only
            self._align(4, array.nbytes)
            self._align(array.itemsize, array.nbytes)
            self._parts.append(array.data)
            self._size += array.nbytes
            count = array.size
        else:
            offsets = [self._string(v) if f.kind == "string" else self._table(f.type, v) for v in value]
            count = len(offsets)
            self._align(4)
            first = self._size + 4 * count
            self._put(struct.pack(f"<{count}I", *(first - 4 * n - offset for n, offset in enumerate(offsets))))
        self._put(_U32.pack(count))
        return self._size


def write(record: dict[str, Any], schema: Schema) -> bytes:
    """The bytes of a root table."""
    return Writer(schema).finish(record)
