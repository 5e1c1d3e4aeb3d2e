"""Constants as indices into a table, as TensorFlow Lite Micro has them: read, written, and damaged."""

from __future__ import annotations

import re

import numpy as np
import pytest

from lithe.errors import LitheError, ModelError
from lithe.formats import tflite
from lithe.formats.flatbuffer import read as read_flatbuffer
from lithe.formats.schema import TFLITE
from lithe.formats.tflite import tables
from lithe.formats.tflite.tables import Table
from lithe.ir.graph import Graph, Module, Tensor
from lithe.types import BOOL, FLOAT32, INT4, INT8, INT16, INT32, Quantization, TensorType

RANDOM = np.random.default_rng(0)


def bits(text):
    return np.packbits(np.array([int(c) for c in text.replace(" ", "")], np.uint8))


def stored(values, dtype):
    return np.array(values, dtype).view(np.uint8)


def test_the_published_example_is_read():
    """Source: tflite-micro, docs/compression.md: its tensor, bit string and value table."""
    indices = bits("001 011 011 010 100 101 000 010 001 011 00")
    values = stored([99, 2, 10, 4, 1, 7], np.int16)
    found = tables.expand(Table(3), TensorType(INT16, (10,)), indices, values)
    assert found.tolist() == [2, 4, 4, 10, 1, 7, 99, 10, 2, 4]


def test_the_published_example_of_channels_is_read():
    """Source: as above; each channel has a table of its own."""
    indices = bits("010 011 011 001 000 011 000 001 010 100 00")
    values = stored([1, 10, 2, 4, 0, 99, 10, 2, 7, 4], np.int16)
    kind = TensorType(INT16, (2, 5), Quantization((0.5, 0.25), (0, 0), 0))
    found = tables.expand(Table(3), kind, indices, values)
    assert found.tolist() == [[2, 4, 4, 10, 1], [7, 99, 10, 2, 4]]


CASES = [
    TensorType(FLOAT32, (6, 3, 3, 8)),
    TensorType(INT8, (6, 3, 3, 8), Quantization((0.1,) * 6, (0,) * 6, 0)),
    TensorType(INT8, (1, 3, 3, 8), Quantization((0.1,) * 8, (0,) * 8, 3)),
    TensorType(INT32, (100,)),
    TensorType(BOOL, (5, 7)),
]


def model(kind, data, table):
    t = Tensor("w", kind, data, index=0, extras={"table": table} if table else {})
    plain = Tensor("x", TensorType(FLOAT32, (1,)), index=1)
    return Module([Graph("main", [plain], [plain], [t, plain], [])], metadata={"mine": b"kept"})


@pytest.mark.parametrize("kind", CASES, ids=str)
@pytest.mark.parametrize("count", [1, 2, 5, 16])
def test_files_keep_tables(kind, count):
    values = RANDOM.integers(-100, 100, count) if kind.dtype != BOOL else np.array([0, 1])
    data = RANDOM.choice(values, kind.shape).astype(kind.dtype.numpy)
    table = tables.narrowest(kind, data)
    assert table.bits == max((len(np.unique(data)) - 1).bit_length(), 1) or kind.quantization
    written = tflite.write(model(kind, data, table))
    again = tflite.read(written)
    np.testing.assert_array_equal(again.main.tensors[0].data, data)
    assert again.main.tensors[0].data.dtype == data.dtype
    assert again.main.tensors[0].extras["table"].bits == table.bits
    assert set(again.metadata) == {"mine", "min_runtime_version"}
    assert tflite.write(again) == written
    names = [m["name"] for m in read_flatbuffer(memoryview(written), TFLITE)["metadata"]]
    assert tables.ENTRY in names


def test_weights_with_other_values_are_written_whole():
    kind = TensorType(FLOAT32, (4, 8))
    data = np.arange(32, dtype=np.float32).reshape(4, 8)
    again = tflite.read(tflite.write(model(kind, data, Table(3))))
    np.testing.assert_array_equal(again.main.tensors[0].data, data)
    assert "table" not in again.main.tensors[0].extras


def test_what_has_no_table():
    assert tables.narrowest(TensorType(FLOAT32, (1000,)), np.arange(1000, dtype=np.float32)) is None
    assert tables.narrowest(TensorType(INT4, (10,)), np.zeros(10, np.int8)) is None
    assert tables.narrowest(TensorType(FLOAT32, ()), np.float32(1)) is None
    middle = TensorType(INT8, (2, 3, 2), Quantization((1.0,) * 3, (0,) * 3, 1))
    assert tables.narrowest(middle, np.zeros((2, 3, 2), np.int8)) is None


FOUR = TensorType(FLOAT32, (4,))
HALF = stored([0.5], np.float32)


@pytest.mark.parametrize(
    ("table", "kind", "indices", "values", "said"),
    [
        (Table(0), FOUR, bits("0000"), HALF, "indices of a table have 1 to 7 bits, not 0"),
        (Table(8), FOUR, bits("0" * 32), HALF, "1 to 7 bits, not 8"),
        (Table(4), FOUR, bits("0000"), HALF, "float32[4] needs 2 bytes of indices, its buffer has 1"),
        (Table(1), FOUR, bits("0100"), HALF, "an index into a table is 1, the table has 1 values"),
        (Table(1), FOUR, bits("0000"), HALF[:3], "an index into a table is 0, the table has 0 values"),
        (Table(1), TensorType(FLOAT32, ()), bits("0"), HALF, "float32[] cannot have a table"),
        (Table(1), TensorType(INT4, (4,)), bits("0000"), HALF, "int4[4] cannot have a table"),
        (
            Table(1), TensorType(INT8, (1, 2, 1), Quantization((1.0, 1.0), (0, 0), 1)), bits("00"), HALF,
            "tables along axis 1 of int8[1, 2, 1] are not defined",
        ),
        (
            Table(1), TensorType(INT8, (3, 2), Quantization((1.0, 1.0), (0, 0), 0)), bits("000000"), HALF,
            "int8[3, 2] has 2 scales along axis 0 of size 3",
        ),
    ],
)  # fmt: skip
def test_damaged_tables_are_refused(table, kind, indices, values, said):
    with pytest.raises(ModelError, match=re.escape(said)):
        tables.expand(table, kind, indices, values)


def test_later_versions_are_refused():
    from lithe.formats import flatbuffer_write

    entry = flatbuffer_write.write({"schema_version": 2, "subgraphs": []}, tables.SCHEMA)
    with pytest.raises(ModelError, match="tables of version 2 are unknown, expected 1"):
        tables.read(np.frombuffer(entry, np.uint8))
    module = model(FOUR, np.zeros(4, np.float32), None)
    module.metadata[tables.ENTRY] = entry
    with pytest.raises(ModelError, match=tables.ENTRY):
        tflite.read(tflite.write(module))


def test_no_damage_is_a_crash():
    kind = CASES[1]
    data = RANDOM.choice(np.arange(-3, 4), kind.shape).astype(np.int8)
    written = bytearray(tflite.write(model(kind, data, Table(3))))
    outcomes = set()
    for _ in range(1500):
        damaged = bytearray(written)
        for _ in range(int(RANDOM.integers(1, 4))):
            damaged[int(RANDOM.integers(len(damaged)))] = int(RANDOM.integers(256))
        try:
            tflite.write(tflite.read(bytes(damaged)))
            outcomes.add("read")
        except LitheError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}
