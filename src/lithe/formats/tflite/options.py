"""Operator classes and attributes: the schema's operator codes and options tables, and back."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from lithe.errors import ModelError, warn
from lithe.formats import flexbuffer, node_def
from lithe.formats.schema import OPTIONS, TFLITE, Field
from lithe.formats.tflite.tensors import dtype_of_member
from lithe.ops.flex.operators import NodeDef
from lithe.ops.op import REGISTRY, NoAttrs, Op, unknown
from lithe.types import DType

CUSTOM = TFLITE.enums["BuiltinOperator"].values["CUSTOM"]
ACTIVATION = "ActivationFunctionType"  # the format's own runtime takes what it does not know for none
PLACEHOLDER = 127  # in the old 8-bit field: the code is in the new field


def operator_class(code: dict[str, Any]) -> type[Op]:
    """The class for an OperatorCode; one that Lithe does not know gets a stand-in.

    A builtin code is stored twice, the old field holds what fits in 7 bits; the greater one counts.
    """
    names = TFLITE.enums["BuiltinOperator"]
    stored = code["builtin_code"]
    number = max(code["deprecated_builtin_code"], names.values[stored] if isinstance(stored, str) else stored)
    if number < 0:
        raise ModelError(f"operator code {number} is negative")
    if number == CUSTOM:
        if not code["custom_code"]:
            raise ModelError("a custom operator has no name (custom_code)")
        return REGISTRY.custom(code["custom_code"]) or unknown(code["custom_code"], None)
    name = names.names.get(number, f"BUILTIN_{number}")
    return REGISTRY.builtin(name) or unknown(name, number)


def _attribute(f: Field, value: Any, default: Any) -> Any:
    """A field of an options table as Attrs hold it: tuples, str, DType."""
    if f.kind == "enum" and not f.vector:
        if f.type == "TensorType":
            return dtype_of_member(value)
        if isinstance(value, int) and f.type == ACTIVATION:
            warn("option %s: %s has no member %d, taken as NONE", f.name, f.type, value)
            return "NONE"
        if isinstance(value, int):
            raise ModelError(f"option {f.name}: {f.type} has no member {value}")
        return value
    if f.vector:
        if value is None:
            return None if default is None else ()
        return tuple(value.tolist() if isinstance(value, np.ndarray) else value)
    return "" if value is None and f.kind == "string" else value


def _plain(record: dict[str, Any] | None, table: str) -> dict[str, Any]:
    """The options of an operator without a class: arrays as tuples, element types as DType where known."""
    result: dict[str, Any] = {}
    for f in TFLITE.tables[table]:
        value = record[f.name] if record is not None else f.default
        if isinstance(value, np.ndarray):
            value = value.tobytes() if f.wire == "u8" else tuple(value.tolist())
        result[f.name] = dtype_of_member(value) if f.type == "TensorType" and isinstance(value, str) else value
    return result


def options_of(op: type[Op], o: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """The options of an operator's record: of the two places for them the one that is its own, if that is filled."""
    unions = o["builtin_options"], o["builtin_options_2"]
    own = OPTIONS.get(op.name) in TFLITE.unions["BuiltinOptions2"]
    return unions[own] or unions[not own]


def read_attributes(op: type[Op], union: tuple[str, dict[str, Any]] | None) -> tuple[Any, dict[str, Any]]:
    """(attrs, extras) of a builtin operator.

    Options of a kind that the operator does not have are treated as absent, as the official runtime does, and kept.
    """
    table = OPTIONS.get(op.name)
    extras: dict[str, Any] = {}
    record = union[1] if union is not None and union[0] == table else None
    if union is not None and record is None:
        extras["foreign_options"] = (union[0], _plain(union[1], union[0]))
    if not op.known:
        return (_plain(record, table) if table else {}), extras
    if table is None:
        return op.Attrs(), extras
    values = record if record is not None else TFLITE.default(table)
    wanted = {f.name: f for f in dataclasses.fields(op.Attrs)}
    arguments, rest = {}, {}
    for f in TFLITE.tables[table]:
        if f.name in wanted:
            arguments[f.name] = _attribute(f, values[f.name], wanted[f.name].default)
        elif record is not None and not _same(values[f.name], f.default):
            rest[f.name] = values[f.name].tolist() if isinstance(values[f.name], np.ndarray) else values[f.name]
    if rest:
        extras["options"] = rest
    return op.Attrs(**arguments), extras


def _same(value: Any, default: Any) -> bool:
    return value is None if default is None else not isinstance(value, np.ndarray) and bool(value == default)


def read_custom(op: type[Op], data: bytes) -> Any:
    """The attributes of a custom operator: its own parser's; without one, or where that says None, those of a map."""
    if not op.known:
        return decoded(data)
    if op.Attrs is NodeDef:
        return node_def.read_options(data)
    attrs = op.parse_options(data) if hasattr(op, "parse_options") else None
    if attrs is not None:
        return attrs
    fields = dataclasses.fields(op.Attrs)
    if not fields:
        return op.Attrs()
    values = flexbuffer.read(data) if data else {}
    if not isinstance(values, dict):
        raise ModelError(f"the options of {op.name} must be a flexbuffer map, are {type(values).__name__}")
    arguments = {}
    for f in fields:
        if f.name in values:
            arguments[f.name] = _like(values[f.name], f.default, f"{op.name}.{f.name}")
        elif f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            raise ModelError(f"the options of {op.name} lack {f.name!r}")
    return op.Attrs(**arguments)


def _like(value: Any, default: Any, name: str) -> Any:
    """A value of the kind that the attribute's default has (flexbuffers store 1.0 as they like)."""
    kind, value = type(default), tuple(value) if isinstance(value, list) else value
    if kind in (bool, int, float) and not isinstance(value, bool | int | float):
        raise ModelError(f"option {name} must be a number, is {type(value).__name__}")
    if kind in (int, bool) and isinstance(value, float) and not value.is_integer():
        raise ModelError(f"option {name} must be an integer, is {value}")
    if kind in (str, tuple) and not isinstance(value, kind):
        raise ModelError(f"option {name} must be a {'text' if kind is str else 'list'}, is {type(value).__name__}")
    return kind(value) if kind in (bool, int, float) else value


def decoded(data: bytes) -> dict[str, Any]:
    """An unknown operator's options: the flexbuffer map if they are one, else nothing (the bytes are kept)."""
    try:
        value = flexbuffer.read(data) if data else {}
    except ModelError:
        return {}
    return value if isinstance(value, dict) else {}


def _stored(f: Field, value: Any) -> Any:
    if isinstance(value, DType):
        return value.name.upper()
    return value


def write_attributes(op: type[Op], attrs: Any, extras: dict[str, Any]) -> tuple[str, str, dict[str, Any]] | None:
    """(union field of Operator, table name, record) of a builtin operator's options, None when it has none."""
    table = OPTIONS.get(op.name)
    if "foreign_options" in extras and (table is None or not op.known):
        table, values = extras["foreign_options"]
    elif table is None:
        return None
    else:
        values = dict(attrs) if isinstance(attrs, dict) else dict(extras.get("options", {}))
        if not isinstance(attrs, dict):
            values.update({f.name: getattr(attrs, f.name) for f in dataclasses.fields(attrs)})
    record = {}
    for f in TFLITE.tables[table]:
        value = values.get(f.name, f.default)
        record[f.name] = np.frombuffer(value, np.uint8) if isinstance(value, bytes) else _stored(f, value)
    union = "builtin_options" if table in TFLITE.unions["BuiltinOptions"] else "builtin_options_2"
    return union, table, record


def write_custom(op: type[Op], attrs: Any, extras: dict[str, Any]) -> bytes:
    """The bytes of a custom operator's options: those that were read, or a flexbuffer map of its attributes."""
    kept = extras.get("custom_options")
    if kept is not None:
        return bytes(kept)
    if isinstance(attrs, NoAttrs):
        return b""
    values = attrs if isinstance(attrs, dict) else {f.name: getattr(attrs, f.name) for f in dataclasses.fields(attrs)}
    return flexbuffer.write(values) if values else b""
