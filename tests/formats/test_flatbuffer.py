"""The FlatBuffers codec: what it reads, and how fast it refuses what it must not."""

from __future__ import annotations

import struct
import time
from dataclasses import replace

import numpy as np
import pytest

from lithe.errors import LitheError, ModelError
from lithe.formats import flatbuffer, flatbuffer_write
from lithe.formats.schema import METADATA, TFLITE
from lithe.formats.tflite import read
from tests.formats.models import add_model


def root(data: bytes):
    return flatbuffer.read(memoryview(data), TFLITE)


def refused(data: bytes, text: str) -> None:
    start = time.perf_counter()
    with pytest.raises(ModelError, match=text):
        root(data)
    assert time.perf_counter() - start < 0.5


def test_a_model_of_the_official_writer_is_read():
    model = root(add_model())
    assert model["version"] == 3
    assert model["description"] == "adds"
    graph = model["subgraphs"][0]
    assert [t["name"] for t in graph["tensors"]] == ["x", "c", "y"]
    name, options = graph["operators"][0]["builtin_options"]
    assert (name, options["fused_activation_function"], options["pot_scale_int16"]) == ("AddOptions", "RELU", True)
    assert model["buffers"][1]["data"].view("<f4").tolist() == [1, 2, 3, 4]


def test_vectors_are_views_on_the_data():
    data = np.frombuffer(add_model(), np.uint8)
    model = flatbuffer.read(memoryview(data), TFLITE)
    view = model["buffers"][1]["data"]
    assert np.shares_memory(view, data)
    assert not view.flags.writeable


def test_records_survive_writing_and_reading():
    record = {
        "name": "model", "subgraph_metadata": [{
            "input_tensor_metadata": [{
                "name": "image", "dimension_names": ["n", "h"],
                "content": {"content_properties": ("ImageProperties", {"color_space": "RGB"})},
                "process_units": [{"options": ("NormalizationOptions", {"mean": [127.5], "std": [1.0, 2.0]})}],
            }],
            "custom_metadata": [{"name": "raw", "data": b"\1\2\3"}],
        }],
    }  # fmt: skip
    record["subgraph_metadata"][0]["custom_metadata"][0]["data"] = np.array([1, 2, 3], np.uint8)
    found = flatbuffer.read(memoryview(flatbuffer_write.write(record, METADATA)), METADATA)
    tensor = found["subgraph_metadata"][0]["input_tensor_metadata"][0]
    assert tensor["content"]["content_properties"] == ("ImageProperties", {"color_space": "RGB", "default_size": None})
    assert tensor["process_units"][0]["options"][1]["std"].tolist() == [1.0, 2.0]
    assert tensor["dimension_names"] == ["n", "h"]
    assert found["subgraph_metadata"][0]["custom_metadata"][0]["data"].tolist() == [1, 2, 3]


def test_aligned_vectors_lie_at_multiples_of_their_alignment():
    record = {"buffers": [{"data": np.arange(n, dtype=np.uint8)} for n in (1, 5, 16, 33)]}
    data = np.frombuffer(flatbuffer_write.write(record, TFLITE), np.uint8)
    base = data.__array_interface__["data"][0]
    for b in flatbuffer.read(memoryview(data), TFLITE)["buffers"]:
        assert (b["data"].__array_interface__["data"][0] - base) % 16 == 0


def test_every_truncation_is_refused_quickly():
    data = add_model()
    slowest = 0.0
    for n in range(len(data)):
        start = time.perf_counter()
        with pytest.raises(LitheError):
            read(data[:n])
        slowest = max(slowest, time.perf_counter() - start)
    assert slowest < 0.1


def test_another_kind_of_file_is_refused():
    refused(b"\x89PNG\r\n\x1a\n" + bytes(100), "file identifier")
    refused(b"", "too few")
    refused(b"\x18\0\0\0TFL3", "outside")


def file(body: bytes, root_at: int) -> bytes:
    return struct.pack("<I", root_at) + b"TFL3" + body


def test_one_table_named_a_hundred_thousand_times_is_refused():
    # Model.buffers, the fifth field, is a vector of references that all lead to one table with a long vtable.
    count = 100_000
    leaf = struct.pack("<1002H", 2004, 4, *(0,) * 1000) + struct.pack("<i", 2004)
    vtable = struct.pack("<8H", 14, 8, 0, 0, 0, 0, 4, 0)
    model = struct.pack("<iI", 16, 4)
    references = struct.pack(f"<{count}I", *(4 * (count - i) + 2004 for i in range(count)))
    refused(file(vtable + model + struct.pack("<I", count) + references + leaf, 24), "again and again")


def test_a_vtable_inside_of_itself_is_refused():
    # The table's vtable is the table itself: sizes come from its own offset.
    refused(file(struct.pack("<i", 0) + bytes(60), 8), "vtable has sizes")
    refused(file(struct.pack("<i", -(2**31)) + bytes(60), 8), "outside")
    refused(file(struct.pack("<i", 2**31 - 1) + bytes(60), 8), "outside")


def test_vectors_and_strings_beyond_the_file_are_refused():
    data = bytearray(add_model())
    for position in range(8, len(data) - 3, 4):
        changed = bytearray(data)
        struct.pack_into("<I", changed, position, 2**31)
        try:
            read(bytes(changed))
        except LitheError:
            continue


def test_fields_outside_of_their_table_are_refused():
    vtable = struct.pack("<4H", 8, 8, 6, 0)
    refused(file(vtable + struct.pack("<iI", 8, 3), 16), "outside of its table")
    vtable = struct.pack("<4H", 8, 8, 4, 6)
    refused(file(vtable + struct.pack("<iI", 8, 3), 16), "outside of its table")


def test_a_union_outside_of_its_table_is_refused():
    # An Operator alone: its fourth field, the kind of the options, would lie 40 bytes into a table of 4.
    vtable = struct.pack("<7H", 14, 4, 0, 0, 0, 40, 0)
    data = file(bytes(2) + vtable + struct.pack("<i", 14) + bytes(40), 24)
    with pytest.raises(ModelError, match="field builtin_options lies outside of its table") as caught:
        flatbuffer.read(memoryview(data), replace(TFLITE, root="Operator"))
    assert "byte 24" in caught.value.where


def test_tables_are_counted_and_their_nesting_is_limited(monkeypatch: pytest.MonkeyPatch):
    data = add_model()
    monkeypatch.setattr(flatbuffer, "TABLES", 3)
    refused(data, "more than 3 tables")
    monkeypatch.setattr(flatbuffer, "TABLES", 1000)
    monkeypatch.setattr(flatbuffer, "DEPTH", 2)
    refused(data, "nested deeper than 2")


def test_unknown_members_are_kept_as_numbers():
    def change(m):
        m.subgraphs[0].tensors[0].type = 99

    assert root(add_model(change))["subgraphs"][0]["tensors"][0]["type"] == 99
