"""FlexBuffers against the official reader and writer, and against damage."""

from __future__ import annotations

import random
import struct

import pytest
from flatbuffers import flexbuffers as official

from lithe.errors import InputError, ModelError
from lithe.formats import flexbuffer

VALUES = [
    None, True, 0, -1, 200, -70000, 1 << 40, (1 << 64) - 1, 0.5, 0.1, 1e300, "text", "",
    [], [1, 2.5, "x", None], {}, {"a": 1}, {"b": [1, 2, 3], "a": {"deep": True, "text": "é"}},
    {"max_detections": 10, "nms_score_threshold": 0.30000001192092896, "use_regular_nms": False},
    {f"key{i}": i for i in range(300)},
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_what_is_written_reads_back(value):
    assert flexbuffer.read(flexbuffer.write(value)) == value


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_the_official_reader_understands_what_is_written(value):
    assert official.Loads(flexbuffer.write(value)) == value


@pytest.mark.parametrize("value", [v for v in VALUES if v not in ((1 << 64) - 1, 1e300)], ids=repr)  # it fails on these
def test_what_the_official_writer_wrote_is_read(value):
    assert flexbuffer.read(bytes(official.Dumps(value))) == value


def test_typed_vectors_blobs_and_indirect_numbers_are_read():
    b = official.Builder()
    with b.Map():
        b.Key("typed")
        b.TypedVectorFromElements([1, 2, 3, 4, 5])
        b.Key("fixed")
        b.FixedTypedVectorFromElements([1.5, 2.5])
        b.Key("blob")
        b.Blob(b"\0\1\2")
        b.Key("indirect")
        b.IndirectFloat(1.25)
    found = flexbuffer.read(bytes(b.Finish()))
    assert found == {"typed": [1, 2, 3, 4, 5], "fixed": [1.5, 2.5], "blob": b"\0\1\2", "indirect": 1.25}


def test_a_wide_writer_keeps_its_size_when_a_number_changes():
    sizes = {len(flexbuffer.write({"offset": n}, least_width=8)) for n in (0, 255, 1 << 31, 1 << 62)}
    assert len(sizes) == 1


def test_damaged_buffers_end_in_a_model_error():
    whole = flexbuffer.write({"b": [1, 2.5, "x"], "a": {"deep": True}})
    draw = random.Random(0)
    refused = 0
    for _ in range(2000):
        data = bytearray(whole)
        for _ in range(draw.choice([1, 2, 4])):
            data[draw.randrange(len(data))] = draw.randrange(256)
        try:
            flexbuffer.read(bytes(data[: draw.randrange(len(data) + 1)] if draw.random() < 0.3 else data))
        except ModelError:
            refused += 1
    assert refused > 500


def test_a_vector_of_itself_is_refused():
    # one element of type vector, one byte wide, whose offset leads back to the vector
    with pytest.raises(ModelError, match=r"nested deeper|again and again|outside"):
        flexbuffer.read(bytes([1, 0, 10 << 2, 2, 10 << 2, 1]))


def test_one_text_named_two_hundred_times_is_refused():
    text = struct.pack("<H1000s", 1000, b"x" * 1000)
    count, start = 200, len(text) + 2
    offsets = b"".join(struct.pack("<H", start + 2 * i - 2) for i in range(count))
    types = bytes([flexbuffer.STRING << 2 | 1] * count)
    root = struct.pack("<HBB", 3 * count, flexbuffer.VECTOR << 2 | 1, 2)
    with pytest.raises(ModelError, match="damaged flexbuffer: the same bytes are used again and again"):
        flexbuffer.read(text + struct.pack("<H", count) + offsets + types + root)


def test_bad_types_and_roots_are_refused():
    for data in (b"", b"\0\0", bytes([0, 63 << 2, 1]), bytes([0, 4, 3]), bytes([0, 9 << 2, 1])):
        with pytest.raises(ModelError):
            flexbuffer.read(data)


def test_what_has_no_flexbuffer_form_is_refused():
    with pytest.raises(InputError, match="cannot hold set"):
        flexbuffer.write({1, 2})
    with pytest.raises(InputError, match="64 bits"):
        flexbuffer.write(1 << 64)
