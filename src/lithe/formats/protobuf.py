"""Protocol buffers: messages read by a table of their fields, with every length checked.

    Message = {field number: Field(name, kind, repeated, message)}

A message becomes a dict in which every field of the table has a value: 0, "" or b"" where the bytes hold none (None
for messages and optional fields), a list where the field repeats, {key: value} for a map. Other fields are skipped.

Source of the layout: "Encoding" of the Protocol Buffers documentation.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lithe.errors import ModelError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
DEPTH = 32  # messages within messages
DEFAULTS = {"int": 0, "bool": False, "float": 0.0, "double": 0.0, "bytes": b"", "text": "", "message": None}
WIRE = {"int": VARINT, "bool": VARINT, "float": FIXED32, "double": FIXED64}


@dataclass(frozen=True)
class Field:
    """One field: kind "int" (any varint, signed in 64 bits), "bool", "float", "double", "bytes", "text", "message"
    or "map" (from text to the message's "value").

    message   the name of the table of a "message" or of a map's entry.
    optional  whether absence is told from the default: one of several of which a message holds one.
    """

    name: str
    kind: str
    repeated: bool = False
    message: str = ""
    optional: bool = False

    @property
    def default(self) -> Any:
        if self.repeated:
            return []
        return {} if self.kind == "map" else None if self.optional else DEFAULTS[self.kind]


Message = dict[int, Field]


class Reader:
    """Reads messages described by tables that refer to one another by name."""

    def __init__(self, tables: dict[str, Message]) -> None:
        self.tables = tables

    def read(self, data: bytes, table: str, depth: int = 0) -> dict[str, Any]:
        """The message in the bytes. Raises ModelError when they break the format."""
        if depth > DEPTH:
            raise ModelError(f"damaged protocol buffer: messages are nested deeper than {DEPTH}")
        fields = self.tables[table]
        result: dict[str, Any] = {f.name: f.default for f in fields.values()}
        for number, wire, value in records(data):
            f = fields.get(number)
            if f is None:
                continue
            if f.repeated and wire == BYTES and f.kind in WIRE:
                result[f.name] += packed(value, f.kind)
                continue
            if wire != WIRE.get(f.kind, BYTES):
                raise _damaged(f"field {f.name} has the wire type {wire}")
            decoded = self._value(f, value, depth)
            if f.repeated:
                result[f.name].append(decoded)
            elif f.kind == "map":
                result[f.name][decoded["key"]] = decoded["value"]
            else:
                result[f.name] = decoded
        return result

    def _value(self, f: Field, value: Any, depth: int) -> Any:
        match f.kind:
            case "message" | "map":
                return self.read(value, f.message, depth + 1)
            case "text":
                return value.decode("utf-8", "replace")
            case "bytes":
                return value
            case _:
                return number_of(value, f.kind)


def _damaged(problem: str) -> ModelError:
    return ModelError(f"damaged protocol buffer: {problem}")


def varint(data: bytes, position: int) -> tuple[int, int]:
    """(unsigned number, position after it)."""
    result = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            raise _damaged(f"a number is cut off at byte {position}")
        byte = data[position]
        position += 1
        result |= (byte & 127) << shift
        if byte < 128:
            return result & (1 << 64) - 1, position
    raise _damaged(f"a number of more than 10 bytes ends at byte {position}")


def records(data: bytes) -> Iterator[tuple[int, int, Any]]:
    """(field number, wire type, value) of a message: a number for a varint, else the bytes."""
    position = 0
    while position < len(data):
        tag, position = varint(data, position)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise _damaged(f"field number 0 before byte {position}")
        if wire == VARINT:
            value, position = varint(data, position)
            yield number, wire, value
            continue
        if wire == BYTES:
            size, position = varint(data, position)
        elif wire in (FIXED32, FIXED64):
            size = 4 if wire == FIXED32 else 8
        else:
            raise _damaged(f"wire type {wire} before byte {position}")
        if size > len(data) - position:
            raise _damaged(f"{size} bytes at {position} reach beyond the end, {len(data)}")
        yield number, wire, data[position : position + size]
        position += size


def packed(data: bytes, kind: str) -> list[Any]:
    """The numbers of a repeated field that lie side by side."""
    if kind in ("float", "double"):
        size = 4 if kind == "float" else 8
        if len(data) % size:
            raise _damaged(f"{len(data)} bytes are not a whole number of {kind}s")
        return [number_of(data[i : i + size], kind) for i in range(0, len(data), size)]
    numbers, position = [], 0
    while position < len(data):
        value, position = varint(data, position)
        numbers.append(number_of(value, kind))
    return numbers


def number_of(value: Any, kind: str) -> Any:
    if kind == "float":
        return struct.unpack("<f", value)[0]
    if kind == "double":
        return struct.unpack("<d", value)[0]
    return bool(value) if kind == "bool" else value - (1 << 64) if value >= 1 << 63 else value
