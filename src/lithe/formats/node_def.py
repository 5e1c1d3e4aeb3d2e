"""TensorFlow's description of one operator, as "Flex" operators of a `.tflite` file carry it.

The options are a flexbuffer vector [operator's name, bytes of a NodeDef]. What is needed of TensorFlow's messages
stands here as tables. Source of the numbers: node_def.proto, attr_value.proto, tensor.proto, tensor_shape.proto and
types.proto of tensorflow/core/framework.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lithe.errors import LimitError, ModelError
from lithe.formats import flexbuffer
from lithe.formats.protobuf import Field, Reader
from lithe.ops.flex.operators import Callee, NodeDef
from lithe.types import DTYPES, STRING, DType, Shape

LARGEST_TENSOR = 1 << 26  # elements of a constant among the attributes

READER = Reader({
    "NodeDef": {
        1: Field("name", "text"), 2: Field("op", "text"), 3: Field("input", "text", repeated=True),
        4: Field("device", "text"), 5: Field("attr", "map", message="AttrEntry"),
    },
    "AttrEntry": {1: Field("key", "text"), 2: Field("value", "message", message="AttrValue")},
    "AttrValue": {
        1: Field("list", "message", message="ListValue"), 2: Field("s", "bytes", optional=True),
        3: Field("i", "int", optional=True), 4: Field("f", "float", optional=True),
        5: Field("b", "bool", optional=True), 6: Field("type", "int", optional=True),
        7: Field("shape", "message", message="TensorShape"), 8: Field("tensor", "message", message="Tensor"),
        9: Field("placeholder", "text", optional=True), 10: Field("func", "message", message="NameAttrList"),
    },
    "ListValue": {
        2: Field("s", "bytes", True), 3: Field("i", "int", True), 4: Field("f", "float", True),
        5: Field("b", "bool", True), 6: Field("type", "int", True),
        7: Field("shape", "message", True, "TensorShape"), 8: Field("tensor", "message", True, "Tensor"),
        9: Field("func", "message", True, "NameAttrList"),
    },
    "NameAttrList": {1: Field("name", "text"), 2: Field("attr", "map", message="AttrEntry")},
    "TensorShape": {2: Field("dim", "message", True, "Dim"), 3: Field("unknown_rank", "bool")},
    "Dim": {1: Field("size", "int")},
    "Tensor": {
        1: Field("dtype", "int"), 2: Field("shape", "message", message="TensorShape"),
        4: Field("content", "bytes"), 5: Field("float_val", "float", True), 6: Field("double_val", "double", True),
        7: Field("int_val", "int", True), 8: Field("string_val", "bytes", True),
        9: Field("scomplex_val", "float", True), 10: Field("int64_val", "int", True),
        11: Field("bool_val", "bool", True), 12: Field("dcomplex_val", "double", True),
        13: Field("half_val", "int", True),
        16: Field("uint32_val", "int", True), 17: Field("uint64_val", "int", True),
    },
})  # fmt: skip

TYPES = {
    1: "float32", 2: "float64", 3: "int32", 4: "uint8", 5: "int16", 6: "int8", 7: "string", 8: "complex64", 9: "int64",
    10: "bool", 14: "bfloat16", 17: "uint16", 18: "complex128", 19: "float16", 20: "resource", 21: "variant",
    22: "uint32", 23: "uint64", 24: "float8_e5m2", 25: "float8_e4m3fn", 29: "int4", 30: "uint4",
}  # fmt: skip
VALUES = {
    "float32": "float_val", "float64": "double_val", "int64": "int64_val", "bool": "bool_val", "string": "string_val",
    "complex64": "scomplex_val", "complex128": "dcomplex_val", "float16": "half_val", "bfloat16": "half_val",
    "uint32": "uint32_val", "uint64": "uint64_val",
}  # fmt: skip


def read_options(data: bytes) -> NodeDef:
    """The description in the options of a Flex operator. Raises ModelError when there is none."""
    parts = flexbuffer.read(data, text=False) if data else None
    if not isinstance(parts, list) or len(parts) != 2 or not all(isinstance(p, bytes) for p in parts):
        raise ModelError("the options of a Flex operator must be a flexbuffer vector [name, bytes of a NodeDef]")
    return read(parts[1])


def write_options(op: str, data: bytes) -> bytes:
    """The options of a Flex operator: both as strings, which is what TensorFlow's runtime reads."""
    return flexbuffer.write([op, data.decode("utf-8", "surrogateescape")])


def read(data: bytes) -> NodeDef:
    """The description in the bytes of a NodeDef."""
    record = READER.read(data, "NodeDef")
    if not record["op"]:
        raise ModelError("a NodeDef does not name its operator")
    return NodeDef(
        record["name"], record["op"], tuple(record["input"]), record["device"], _attributes(record["attr"]), data
    )


def _attributes(entries: dict[str, Any]) -> dict[str, Any]:
    return {name: None if value is None else _attribute(value) for name, value in entries.items()}


def _attribute(record: dict[str, Any]) -> Any:
    """The one value that an AttrValue holds, None when it is empty."""
    if record["list"] is not None:
        return _list(record["list"])
    return next((convert(record[key]) for key, convert in CONVERT.items() if record[key] is not None), None)


def _list(record: dict[str, Any]) -> tuple[Any, ...]:
    return next((tuple(map(CONVERT[key], values)) for key, values in record.items() if values), ())


def _type(number: int) -> DType | None:
    """None for a type that Lithe has no name for; a reference (number + 100) is of its own type."""
    return DTYPES.get(TYPES.get(number % 100, ""))


def _shape(record: dict[str, Any]) -> Shape | None:
    """Sizes with -1 where one is open; None when not even their number is known."""
    return None if record["unknown_rank"] else tuple(0 if d is None else d["size"] for d in record["dim"])


def _callee(record: dict[str, Any]) -> Callee:
    return Callee(record["name"], _attributes(record["attr"]))


def _tensor(record: dict[str, Any]) -> np.ndarray | None:
    """A constant; None when Lithe has no such element type. The last value given stands for all that are not."""
    dtype = _type(record["dtype"])
    if dtype is None or dtype.kind == "resource":
        return None
    shape = () if record["shape"] is None else _shape(record["shape"])
    if shape is None or any(d < 0 for d in shape):
        raise ModelError(f"a constant among the attributes has the open shape {shape}")
    count = math.prod(shape)
    if count > LARGEST_TENSOR:
        raise LimitError(f"a constant among the attributes has {count} elements, the limit is {LARGEST_TENSOR}")
    content = record["content"]
    if content and dtype != STRING:
        if len(content) != count * dtype.bytes:
            raise ModelError(f"a constant {dtype}{list(shape)} has {len(content)} bytes")
        return np.frombuffer(content, dtype.numpy).reshape(shape)
    given = _given(record[VALUES.get(dtype.name, "int_val")], dtype)
    if len(given) > count:
        raise ModelError(f"a constant {dtype}{list(shape)} has {len(given)} values")
    if len(given) <= 1:
        value = given[0] if len(given) else b"" if dtype == STRING else dtype.numpy.type(0)
        return np.broadcast_to(np.asarray(value, dtype.numpy), shape)
    return np.pad(given, (0, count - len(given)), "edge").reshape(shape)


def _given(values: list[Any], dtype: DType) -> np.ndarray:
    if dtype.kind == "complex":
        if len(values) % 2:
            raise ModelError(f"{len(values)} numbers are not a whole number of {dtype}s")
        return np.array(values, np.float64).view(np.complex128).astype(dtype.numpy)
    if dtype.name in ("float16", "bfloat16"):
        return np.array([v & 0xFFFF for v in values], np.uint16).view(dtype.numpy)
    if dtype == STRING:
        return np.array([*values, None], object)[:-1]
    if dtype.is_integer:
        mask = (1 << dtype.bits) - 1
        return np.array([v & mask for v in values], f"uint{dtype.bits}").view(dtype.numpy)
    return np.array(values, dtype.numpy)


CONVERT: dict[str, Any] = {
    "s": bytes, "i": int, "f": float, "b": bool, "type": _type, "shape": _shape, "tensor": _tensor,
    "placeholder": str, "func": _callee,
}  # fmt: skip
