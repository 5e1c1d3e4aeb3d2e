"""Protocol buffers and TensorFlow's NodeDef: what is written is read, and damage is a ModelError."""

from __future__ import annotations

import contextlib
import random
import struct

import ml_dtypes
import numpy as np
import pytest

from lithe.errors import LimitError, ModelError
from lithe.formats import node_def, protobuf
from lithe.formats.protobuf import Field, Reader
from lithe.ops.flex.operators import Callee
from lithe.types import FLOAT32, INT64
from tests.formats.node_defs import NUMBERS, attribute, field, flex_options, node_def_bytes, shape_message, varint

READER = Reader({
    "All": {
        1: Field("whole", "int"), 2: Field("flag", "bool"), 3: Field("single", "float"), 4: Field("double", "double"),
        5: Field("bytes", "bytes"), 6: Field("text", "text"), 7: Field("inner", "message", message="All"),
        8: Field("wholes", "int", True), 9: Field("singles", "float", True), 10: Field("flags", "bool", True),
        11: Field("doubles", "double", True), 12: Field("names", "text", True),
        13: Field("maybe", "int", optional=True),
        14: Field("table", "map", message="Entry"),
    },
    "Entry": {1: Field("key", "text"), 2: Field("value", "int")},
})  # fmt: skip


def test_every_kind_of_field_is_read():
    data = (
        field(1, -5) + field(2, True) + field(3, 0.5) + varint(4 << 3 | 1) + struct.pack("<d", 0.1) + field(5, b"\xff")
        + field(6, "text") + field(7, field(1, 7)) + field(12, "a") + field(12, "b")
        + field(14, field(1, "k") + field(2, 3))
        + field(99, b"skipped") + varint(98 << 3 | 5) + b"1234"
    )  # fmt: skip
    found = READER.read(data, "All")
    assert (found["whole"], found["flag"], found["single"], found["double"]) == (-5, True, 0.5, 0.1)
    assert (found["bytes"], found["text"], found["names"]) == (b"\xff", "text", ["a", "b"])
    assert found["inner"]["whole"] == 7
    assert found["table"] == {"k": 3}
    assert found["maybe"] is None
    assert READER.read(field(13, 0), "All")["maybe"] == 0


def test_repeated_numbers_are_read_one_by_one_and_side_by_side():
    one_by_one = field(8, 1) + field(8, 300) + field(9, 0.5)
    assert READER.read(one_by_one, "All")["wholes"] == [1, 300]
    packed = field(8, varint(1) + varint(300) + varint(-1)) + field(9, struct.pack("<2f", 1, 2))
    packed += field(10, b"\1\0") + field(11, struct.pack("<d", 3))
    found = READER.read(packed, "All")
    assert (found["wholes"], found["singles"]) == ([1, 300, -1], [1, 2])
    assert (found["flags"], found["doubles"]) == ([True, False], [3])


DAMAGED = [
    (b"\x08", "cut off at byte 1"),
    (b"\x08" + b"\xff" * 10, "more than 10 bytes"),
    (b"\x00\x01", "field number 0"),
    (b"\x0b", "wire type 3"),
    (b"\x2a\x05ab", "5 bytes at 2 reach beyond the end"),
    (b"\x1d\0", "4 bytes at 1 reach beyond the end"),
    (field(1, b"text"), "field whole has the wire type 2"),
    (field(5, 3), "field bytes has the wire type 0"),
    (field(9, b"12345"), "not a whole number of floats"),
]


@pytest.mark.parametrize(("data", "problem"), DAMAGED)
def test_damage_is_named(data, problem):
    with pytest.raises(ModelError, match=f"damaged protocol buffer: .*{problem}"):
        READER.read(data, "All")


def test_messages_may_not_be_nested_without_end():
    data = b""
    for _ in range(protobuf.DEPTH + 2):
        data = field(7, data)
    with pytest.raises(ModelError, match="nested deeper than 32"):
        READER.read(data, "All")


def test_a_description_is_read():
    values = {
        "text": b"SAME", "whole": -3, "single": 0.5, "no": False, "type": FLOAT32, "types": (FLOAT32, INT64),
        "strides": (1, 2, 2, 1), "names": (b"a", b"b"), "none": (),
    }  # fmt: skip
    found = node_def.read_options(flex_options("Conv2D", node_def_bytes("Conv2D", 2, values, name="layer\u00e9")))
    assert (found.op, found.name, len(found.inputs)) == ("Conv2D", "layer\u00e9", 2)
    assert found.attributes == values


def test_shapes_functions_and_what_has_no_name_here_are_read():
    data = field(2, "Op")
    for key, value in {
        "shape": field(7, shape_message([2, -1])), "any": field(7, shape_message(None)), "empty": b"",
        "function": field(10, field(1, "f") + field(2, field(1, "n") + field(2, attribute(3)))),
        "quantized": field(6, 12), "reference": field(6, 101), "placeholder": field(9, "p"),
    }.items():  # fmt: skip
        data += field(5, field(1, key) + field(2, value))
    data += field(5, field(1, "nothing"))
    assert node_def.read(data).attributes == {
        "shape": (2, -1), "any": None, "empty": None, "function": Callee("f", {"n": 3}), "quantized": None,
        "reference": FLOAT32, "placeholder": "p", "nothing": None,
    }  # fmt: skip


def constant(dtype: str, shape: list[int], *fields: bytes) -> np.ndarray:
    message = field(1, NUMBERS[dtype]) + field(2, shape_message(shape)) + b"".join(fields)
    data = field(2, "Const") + field(5, field(1, "value") + field(2, field(8, message)))
    return node_def.read(data).attributes["value"]


HALF = int(np.float16(1.5).view(np.uint16))
CONSTANTS = [
    (("float32", [2], field(4, np.float32([1, 2]).tobytes())), np.float32([1, 2])),
    (("float32", [3], field(5, struct.pack("<2f", 1, 2))), np.float32([1, 2, 2])),
    (("float64", [2], varint(6 << 3 | 1) + struct.pack("<d", 0.1)), np.float64([0.1, 0.1])),
    (("int32", [2], field(7, varint(-1) + varint(5))), np.int32([-1, 5])),
    (("int8", [], field(7, -3)), np.int8(-3)),
    (("uint8", [1], field(7, 200)), np.uint8([200])),
    (("int64", [2], field(10, varint(-(1 << 40)) + varint(7))), np.int64([-(1 << 40), 7])),
    (("uint64", [1], field(17, -1)), np.uint64([(1 << 64) - 1])),
    (("bool", [2], field(11, b"\1\0")), np.array([True, False])),
    (("float16", [2], field(13, HALF)), np.float16([1.5, 1.5])),
    (("bfloat16", [1], field(13, 0x3FC0)), np.array([1.5], ml_dtypes.bfloat16)),
    (("complex64", [1], field(9, struct.pack("<2f", 1, 2))), np.array([1 + 2j], np.complex64)),
    (("string", [2], field(8, b"a") + field(8, b"\xff")), np.array([b"a", b"\xff"], object)),
    (("string", [2]), np.array([b"", b""], object)),
    (("int32", [2, 2]), np.zeros((2, 2), np.int32)),
    (("float32", [0]), np.zeros(0, np.float32)),
]


@pytest.mark.parametrize(("given", "expected"), CONSTANTS)
def test_constants_are_read(given, expected):
    found = constant(*given)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def test_a_constant_of_another_type_is_nothing():
    assert node_def.read(
        field(2, "Const") + field(5, field(1, "v") + field(2, field(8, field(1, 20))))
    ).attributes == {"v": None}  # fmt: skip


BAD_CONSTANTS = [
    (("float32", [2], field(4, b"123")), ModelError, "has 3 bytes"),
    (("float32", [1], field(5, struct.pack("<2f", 1, 2))), ModelError, "has 2 values"),
    (("float32", [-1]), ModelError, "has the open shape"),
    (("float32", [1 << 20, 1 << 20]), LimitError, "the limit is"),
    (("complex64", [1], field(9, 0.5)), ModelError, "1 numbers are not a whole number"),
]


@pytest.mark.parametrize(("given", "error", "problem"), BAD_CONSTANTS)
def test_constants_that_cannot_be(given, error, problem):
    with pytest.raises(error, match=problem):
        constant(*given)


@pytest.mark.parametrize("options", [b"", b"\x01\x04\x01", flex_options("Op", b"")], ids=["none", "number", "no name"])
def test_options_without_a_description(options):
    with pytest.raises(ModelError):
        node_def.read_options(options)


def test_no_damage_does_anything_but_a_model_error():
    values = {"a": (1, 2), "t": np.float32([1, 2, 3]), "s": b"VALID", "k": FLOAT32}
    good = flex_options("Conv2D", node_def_bytes("Conv2D", 3, values))
    chance = random.Random(3)
    for _ in range(3000):
        bad = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            bad[chance.randrange(len(bad))] = chance.randrange(256)
        with contextlib.suppress(ModelError):
            node_def.read_options(bytes(bad[: chance.randint(len(bad) - 3, len(bad))]))
