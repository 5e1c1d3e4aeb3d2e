"""The schema as data, held against the code that the official tools generate from the official schema."""

from __future__ import annotations

import inspect
import re

import pytest

from lithe.formats.schema import METADATA, OPTIONS, TFLITE, Schema
from lithe.ops import REGISTRY

KINDS = {
    "bool": "Bool", "i8": "Int8", "u8": "Uint8", "i16": "Int16", "i32": "Int32", "u32": "Uint32", "i64": "Int64",
    "u64": "Uint64", "f32": "Float32", "f64": "Float64",
}  # fmt: skip


@pytest.mark.parametrize("schema", [TFLITE, METADATA], ids=["tflite", "metadata"])
def test_every_reference_leads_somewhere(schema: Schema):
    for members in schema.unions.values():
        assert all(m in schema.tables for m in members)
    for fields in schema.tables.values():
        assert all(f.type in schema.tables for f in fields if f.kind == "table")
        assert all(f.type in schema.unions for f in fields if f.kind == "union")


def test_slots_types_and_defaults_are_the_official_ones():
    official = pytest.importorskip("ai_edge_litert.schema_py_generated")
    source = inspect.getsource(official)
    adders = re.compile(
        r"^def (\w+?)Add(\w+)\(builder, \w+\):\n    builder\.Prepend(\w+)Slot\((\d+), [^\n]*, ([^,\n]*)\)$", re.M
    )
    compared = 0
    for table, name, kind, slot, default in adders.findall(source):
        if table not in TFLITE.tables:
            continue
        by_slot = {f.slot + (f.kind == "union"): f for f in TFLITE.tables[table]}
        field = by_slot.get(int(slot))
        if field is None:  # the type of a union
            assert by_slot[int(slot) + 1].kind == "union", (table, name, slot)
            continue
        assert field.name.replace("_", "").lower() == name.lower()
        compared += 1
        if field.wire and not field.vector:
            value = TFLITE.enums[field.type].values[field.default] if field.kind == "enum" else field.default
            assert (KINDS[field.wire], float(value)) == (kind, float({"True": 1, "False": 0}.get(default, default)))
    assert compared > 300


def test_members_of_enums_and_unions_are_the_official_ones():
    official = pytest.importorskip("ai_edge_litert.schema_py_generated")
    for enum in TFLITE.enums.values():
        for member, value in enum.values.items():
            assert getattr(getattr(official, enum.name), member) == value
    for name, members in TFLITE.unions.items():
        for i, member in enumerate(members):
            assert getattr(getattr(official, name), member) == i + 1


def builtins():
    found = [REGISTRY.builtin(name) for name in TFLITE.enums["BuiltinOperator"].values]
    assert sum(op is not None for op in found) > 150
    return [op for op in found if op is not None]


def test_attributes_of_every_builtin_operator_are_fields_of_its_options():
    for op in builtins():
        fields = {f.name for f in TFLITE.tables[OPTIONS[op.name]]} if op.name in OPTIONS else set()
        assert set(op.Attrs.__dataclass_fields__) <= fields, op.name


def test_operator_codes_are_those_of_the_schema():
    codes = TFLITE.enums["BuiltinOperator"].values
    assert all(codes[op.name] == op.code for op in builtins())
