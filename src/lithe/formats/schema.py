"""Schemas as data: the notation of `schema_table` parsed into tables, unions and enums that codecs walk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from struct import Struct
from typing import Any

from lithe.formats import schema_table

# numpy and struct spelling of each scalar; bool is read as a byte so that 2 is True and not undefined.
SCALARS = {
    "bool": "u1", "i8": "i1", "u8": "u1", "i16": "<i2", "u16": "<u2", "i32": "<i4", "u32": "<u4",
    "i64": "<i8", "u64": "<u8", "f32": "<f4", "f64": "<f8",
}  # fmt: skip
_LETTERS = dict(bool="?", i8="b", u8="B", i16="h", u16="H", i32="i", u32="I", i64="q", u64="Q", f32="f", f64="d")
PACKED = {name: Struct("<" + letter) for name, letter in _LETTERS.items()}


@dataclass(frozen=True)
class Field:
    """One slot of a table.

    kind     "scalar" | "enum" | "string" | "table" | "union"; `vector` says whether it is a list of them.
    type     the scalar's spelling, or the name of the enum, table or union.
    wire     the scalar that is stored (for enums their base type), "" for references.
    default  what an absent slot means; None for references and vectors.
    """

    name: str
    slot: int
    kind: str
    type: str
    vector: bool = False
    wire: str = ""
    default: Any = None
    align: int = 0


@dataclass(frozen=True)
class Enum:
    name: str
    wire: str
    names: dict[int, str] = field(hash=False)
    values: dict[str, int] = field(hash=False)


@dataclass(frozen=True)
class Schema:
    """Tables (name -> fields), unions (name -> member tables) and enums of one FlatBuffers schema."""

    root: str
    identifier: bytes
    tables: dict[str, tuple[Field, ...]]
    unions: dict[str, tuple[str, ...]]
    enums: dict[str, Enum]

    def default(self, table: str) -> dict[str, Any]:
        """The record of a table without any field."""
        return {f.name: f.default for f in self.tables[table]}


def _entries(text: str) -> Iterator[tuple[str, list[str]]]:
    """(head, words) of each entry; indented lines continue the entry before."""
    joined: list[str] = []
    for line in text.strip().splitlines():
        if line.startswith(" "):
            joined[-1] += line
        else:
            joined.append(line)
    for line in joined:
        head, _, rest = line.partition(":")
        yield head, rest.split()


def _enum(head: str, words: list[str]) -> Enum:
    name, wire = head.split()
    values: dict[str, int] = {}
    following = 0
    for word in words:
        member, _, number = word.partition("=")
        values[member] = following = int(number) if number else following
        following += 1
    return Enum(name, wire, {v: k for k, v in values.items()}, values)


def _default(text: str, type_name: str, enum: Enum | None) -> Any:
    if enum is not None:
        number = int(text or 0)
        return enum.names.get(number, number)
    if type_name == "bool":
        return text == "true"
    if type_name.startswith("f"):
        return float(text or 0)
    return int(text or 0)


def _fields(words: list[str], unions: dict[str, tuple[str, ...]], enums: dict[str, Enum]) -> tuple[Field, ...]:
    fields: list[Field] = []
    slot = 0
    for word in words:
        if word == "-":
            slot += 1
            continue
        name, _, rest = word.partition(":")
        rest, _, default = rest.partition("=")
        rest, _, align = rest.partition("^")
        vector, union = rest.startswith("["), rest.startswith("<")
        bare = rest.strip("[]<>")
        enum = enums.get(bare)
        wire = enum.wire if enum else bare if bare in SCALARS else ""
        kind = "union" if union else "enum" if enum else "scalar" if wire else "string" if bare == "string" else "table"
        value = _default(default, bare, enum) if wire and not vector else None
        fields.append(Field(name, slot, kind, bare, vector, wire, value, int(align or 0)))
        slot += 2 if union else 1
    return tuple(fields)


def parse(root: str, identifier: bytes, enums: str, unions: str, tables: str) -> Schema:
    """A schema from the three texts of `schema_table`."""
    by_enum = {e.name: e for e in (_enum(*entry) for entry in _entries(enums))}
    by_union = {name: tuple(words) for name, words in _entries(unions)}
    by_table = {name: _fields(words, by_union, by_enum) for name, words in _entries(tables)}
    return Schema(root, identifier, by_table, by_union, by_enum)


TFLITE = parse("Model", b"TFL3", schema_table.TFLITE_ENUMS, schema_table.TFLITE_UNIONS, schema_table.TFLITE_TABLES)
METADATA = parse(
    "ModelMetadata", b"M001", schema_table.METADATA_ENUMS, schema_table.METADATA_UNIONS, schema_table.METADATA_TABLES
)

# The options tables whose names do not follow from the operator's name (source: the official option parser).
_IRREGULAR = {
    "AVERAGE_POOL_2D": "Pool2DOptions", "MAX_POOL_2D": "Pool2DOptions", "L2_POOL_2D": "Pool2DOptions",
    "L2_NORMALIZATION": "L2NormOptions", "UNIDIRECTIONAL_SEQUENCE_RNN": "SequenceRNNOptions",
    "MEAN": "ReducerOptions", "SUM": "ReducerOptions", "REDUCE_PROD": "ReducerOptions", "REDUCE_MAX": "ReducerOptions",
    "REDUCE_MIN": "ReducerOptions", "REDUCE_ANY": "ReducerOptions", "REDUCE_ALL": "ReducerOptions",
    "MAXIMUM": "MaximumMinimumOptions", "MINIMUM": "MaximumMinimumOptions", "CONV_3D_TRANSPOSE": "Conv3DOptions",
    "RANDOM_UNIFORM": "RandomOptions", "RANDOM_STANDARD_NORMAL": "RandomOptions", "MULTINOMIAL": "RandomOptions",
}  # fmt: skip


def _options() -> dict[str, str]:
    members = [m for union in ("BuiltinOptions", "BuiltinOptions2") for m in TFLITE.unions[union]]
    regular = {m.lower().removesuffix("options"): m for m in members}
    found = {}
    for name in TFLITE.enums["BuiltinOperator"].values:
        table = _IRREGULAR.get(name) or regular.get(name.replace("_", "").lower())
        if table:
            found[name] = table
    return found


OPTIONS = _options()
"""The options table of each builtin operator that has one."""
