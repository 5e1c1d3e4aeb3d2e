"""Reading FlatBuffers from files that nobody vouches for.

Every offset, vtable, vector and string is checked against the length of the data before it is used. Nesting,
the number of tables and the number of bytes visited are limited, so that a small file whose offsets all
point at one another cannot cost more than a large honest one. Vectors of numbers come back as read-only
numpy views on the data, made after the check; nothing large is copied.

A table is a dict from every field name of the schema to its value:
    scalar  int, float or bool       enum    the member's name (the number when the schema has no such member)
    string  str                      table   dict, or None when absent
    union   (table name, dict), None vector  list of the above or a numpy view, None when absent
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from lithe.errors import ModelError
from lithe.formats.schema import PACKED, SCALARS, Field, Schema

DEPTH = 64
TABLES = 1_000_000
REVISITS = 4  # bytes visited, as a multiple of the file's length
SLACK = 1 << 12  # and this many more, so that tiny files with shared vtables pass

_U16, _U32, _I32 = PACKED["u16"], PACKED["u32"], PACKED["i32"]


class Reader:
    """One pass over one flatbuffer.

    data    the bytes from the start of the flatbuffer; more may follow it.
    end     after reading: the position behind the last byte that belongs to the flatbuffer.
    """

    def __init__(self, data: memoryview, schema: Schema) -> None:
        self.data, self.schema, self.size = data, schema, len(data)
        self.budget = REVISITS * self.size + SLACK
        self.tables = 0
        self.end = 8
        self.path: list[str] = []

    def root(self) -> dict[str, Any]:
        """The root table; raises ModelError when the data break a rule of the format."""
        if self.size < 8:
            raise ModelError(f"the file has {self.size} bytes, too few for a flatbuffer", where="byte 0")
        found = bytes(self.data[4:8])
        if self.schema.identifier and found != self.schema.identifier:
            raise ModelError(
                f"expected the file identifier {self.schema.identifier.decode()!r}, got {found!r}",
                where="byte 4",
                hint="check that this is the right kind of file, and that it was downloaded whole",
            )
        self.path = [self.schema.root]
        return self._table(_U32.unpack_from(self.data, 0)[0], self.schema.root, 1)

    def _bad(self, problem: str, position: int) -> ModelError:
        return ModelError(
            f"damaged flatbuffer: {problem}",
            where=f"{''.join(self.path)}, byte {position}",
            hint="the file is truncated or was altered; get it again",
        )

    def _visit(self, position: int, count: int, what: str) -> None:
        """Checks that `count` bytes at `position` exist and may still be visited."""
        if position < 0 or count < 0 or position + count > self.size:
            raise self._bad(f"{what} of {count} bytes lies outside of the file's {self.size}", position)
        self.budget -= count
        if self.budget < 0:
            raise self._bad("the same bytes are used again and again", position)
        if position + count > self.end:
            self.end = position + count

    def _table(self, position: int, name: str, depth: int) -> dict[str, Any]:
        if depth > DEPTH:
            raise self._bad(f"tables are nested deeper than {DEPTH}", position)
        self.tables += 1
        if self.tables > TABLES:
            raise self._bad(f"more than {TABLES} tables", position)
        self._visit(position, 4, "a table")
        vtable = position - _I32.unpack_from(self.data, position)[0]
        self._visit(vtable, 4, "a vtable")
        vtable_size = _U16.unpack_from(self.data, vtable)[0]
        table_size = _U16.unpack_from(self.data, vtable + 2)[0]
        if vtable_size < 4 or vtable_size % 2 or table_size < 4:
            raise self._bad(f"a vtable has sizes {vtable_size} and {table_size}", vtable)
        self._visit(vtable + 4, vtable_size - 4, "a vtable")
        self._visit(position + 4, table_size - 4, "a table")
        offsets = struct.unpack_from(f"<{vtable_size // 2 - 2}H", self.data, vtable + 4)
        record: dict[str, Any] = {}
        for f in self.schema.tables[name]:
            offset = offsets[f.slot] if f.slot < len(offsets) else 0
            if f.kind == "union" and not f.vector:
                second = offsets[f.slot + 1] if f.slot + 1 < len(offsets) else 0
                record[f.name] = self._union(f, position, offset, second, table_size, depth)
            elif not offset:
                record[f.name] = f.default
            elif f.vector or not f.wire:
                target = self._reference(position, offset, table_size)
                self.path.append(f".{f.name}")
                record[f.name] = self._vector(f, target, depth) if f.vector else self._referred(f, target, depth)
                self.path.pop()
            else:
                record[f.name] = self._scalar(f, position, offset, table_size)
        return record

    def _scalar(self, f: Field, position: int, offset: int, table_size: int) -> Any:
        code = PACKED[f.wire]
        if offset < 4 or offset + code.size > table_size:
            raise self._bad(f"field {f.name} lies outside of its table", position)
        value = code.unpack_from(self.data, position + offset)[0]
        return self.schema.enums[f.type].names.get(value, value) if f.kind == "enum" else value

    def _reference(self, position: int, offset: int, table_size: int) -> int:
        if offset < 4 or offset + 4 > table_size:
            raise self._bad("a reference lies outside of its table", position)
        at = position + offset
        return at + _U32.unpack_from(self.data, at)[0]

    def _referred(self, f: Field, target: int, depth: int) -> Any:
        return self._string(target) if f.kind == "string" else self._table(target, f.type, depth + 1)

    def _union(self, f: Field, position: int, offset: int, second: int, table_size: int, depth: int) -> Any:
        if not offset:
            return None
        if offset < 4 or offset + 1 > table_size:
            raise self._bad(f"field {f.name} lies outside of its table", position)
        member = self.data[position + offset]
        members = self.schema.unions[f.type]
        if not second or not 1 <= member <= len(members):
            return None
        target = self._reference(position, second, table_size)
        self.path.append(f".{f.name}")
        value = self._table(target, members[member - 1], depth + 1)
        self.path.pop()
        return members[member - 1], value

    def _length(self, position: int, item: int, what: str) -> int:
        self._visit(position, 4, what)
        count = _U32.unpack_from(self.data, position)[0]
        self._visit(position + 4, count * item, f"{what} of {count} items,")
        return count

    def _string(self, position: int) -> str:
        count = self._length(position, 1, "a string")
        return str(self.data[position + 4 : position + 4 + count], "utf-8", "replace")

    def _vector(self, f: Field, position: int, depth: int) -> Any:
        if f.wire:
            dtype = np.dtype(SCALARS[f.wire])
            count = self._length(position, dtype.itemsize, "a vector")
            view = np.frombuffer(self.data, dtype, count, position + 4)
            if f.kind == "enum":
                names = self.schema.enums[f.type].names
                return [names.get(v, v) for v in view.tolist()]
            return view != 0 if f.wire == "bool" else view
        count = self._length(position, 4, "a vector")
        items = []
        for i, offset in enumerate(struct.unpack_from(f"<{count}I", self.data, position + 4)):
            self.path.append(f"[{i}]")
            items.append(self._referred(f, position + 4 + 4 * i + offset, depth))
            self.path.pop()
        return items


def read(data: memoryview, schema: Schema) -> dict[str, Any]:
    """The root table of a flatbuffer as nested dicts."""
    return Reader(data, schema).root()
