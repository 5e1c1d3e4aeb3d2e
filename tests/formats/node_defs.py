"""A small writer of TensorFlow's NodeDef, and models with one such operator in them."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lithe.formats import flexbuffer, node_def
from lithe.ir.graph import Graph, Module, Node, Tensor
from lithe.ops.flex.operators import flex_class
from lithe.types import DTYPES, DType, TensorType, dtype_of

NUMBERS = {name: number for number, name in node_def.TYPES.items()}


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number: int, value: Any) -> bytes:
    """A field of a message: an int as a varint, a float in 4 bytes, bytes and text with their length."""
    if isinstance(value, bool | int):
        return varint(number << 3) + varint(int(value))
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    data = value.encode() if isinstance(value, str) else bytes(value)
    return varint(number << 3 | 2) + varint(len(data)) + data


def shape_message(shape: Sequence[int] | None) -> bytes:
    if shape is None:
        return field(3, True)
    return b"".join(field(2, field(1, d)) for d in shape)


def tensor_message(array: np.ndarray) -> bytes:
    return field(1, NUMBERS[dtype_of(array).name]) + field(2, shape_message(array.shape)) + field(4, array.tobytes())


class Sizes(tuple[int, ...]):
    """A shape among the attributes; -1 is open."""


def attribute(value: Any) -> bytes:
    """An AttrValue: text and bytes, bool, int, float, DType, array, a list of one of them."""
    kinds: dict[type, tuple[int, Any]] = {
        bytes: (2, bytes), str: (2, str), bool: (5, bool), int: (3, int), float: (4, float),
        DType: (6, lambda v: NUMBERS[v.name]), np.ndarray: (8, tensor_message),
        Sizes: (7, shape_message),
    }  # fmt: skip
    if type(value) is tuple:
        return field(1, b"".join(field(kinds[type(v)][0], kinds[type(v)][1](v)) for v in value))
    number, convert = kinds[type(value)]
    return field(number, convert(value))


def node_def_bytes(op: str, inputs: int, attributes: Mapping[str, Any], name: str = "") -> bytes:
    entries = (field(5, field(1, key) + field(2, attribute(v))) for key, v in attributes.items())
    return (field(1, name) if name else b"") + field(2, op) + field(3, b"") * inputs + b"".join(entries)


def flex_options(op: str, data: bytes) -> bytes:
    """The vector [name, bytes] as the converter writes it: its strings hold bytes."""
    placeholder = "\0" * len(data)
    written = flexbuffer.write([op, placeholder])
    at = written.index(placeholder.encode() + b"\0", len(op) + 2)
    return written[:at] + data + written[at + len(data) :]


def flex_node(op: str, inputs: Sequence[Tensor | None], outputs: list[Tensor], attributes: Mapping[str, Any]) -> Node:
    data = node_def_bytes(op, len(inputs), attributes)
    extras = {"version": 1, "custom_options": flex_options(op, data)}
    return Node(flex_class(f"Flex{op}"), node_def.read(data), list(inputs), outputs, 0, extras)


def flex_module(
    op: str,
    inputs: Sequence[np.ndarray],
    outputs: Sequence[tuple[Any, tuple[int, ...]]],
    attributes: Mapping[str, Any],
    constants: Sequence[int] = (),
    signatures: Mapping[int, tuple[int, ...]] | None = None,
) -> Module:
    """A model of one operator. `constants`: the inputs that are. `signatures`: shapes with -1 by input."""
    given = [
        Tensor(f"x{i}", TensorType(dtype_of(a), a.shape), a if i in constants else None,
               shape_signature=(signatures or {}).get(i), index=i)
        for i, a in enumerate(inputs)
    ]  # fmt: skip
    made = [
        Tensor(f"y{i}", TensorType(DTYPES[np.dtype(dtype).name] if dtype is not bytes else DTYPES["string"], shape),
               index=len(given) + i)
        for i, (dtype, shape) in enumerate(outputs)
    ]  # fmt: skip
    node = flex_node(op, given, made, attributes)
    free = [t for i, t in enumerate(given) if i not in constants]
    return Module([Graph("main", free, made, [*given, *made], [node])])
