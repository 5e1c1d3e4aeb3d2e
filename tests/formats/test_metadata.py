"""What models say about themselves, and the files that travel with them."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from lithe.errors import LimitError, ModelError
from lithe.formats import archive, flatbuffer_write, metadata
from lithe.formats.schema import METADATA
from lithe.formats.tflite import open_model, read, write
from tests.formats.models import add_model


def described() -> bytes:
    tensor = {
        "name": "probability", "description": "of each class",
        "content": {"content_properties": ("FeatureProperties", {}), "range": {"min": 2, "max": 3}},
        "process_units": [
            {"options": ("NormalizationOptions", {"mean": [127.5], "std": [128.0]})},
            {"options": ("ScoreThresholdingOptions", {"global_score_threshold": 0.5})},
            {"options": ("ScoreCalibrationOptions", {"default_score": 0.25, "score_transformation": "LOG"})},
        ],
        "stats": {"min": [0.0], "max": [1.0]},
        "associated_files": [
            {"name": "labels.txt", "type": "TENSOR_AXIS_LABELS", "locale": "en"},
            {"name": "labels_de.txt", "type": "TENSOR_VALUE_LABELS", "locale": "de"},
        ],
    }  # fmt: skip
    image = {
        "content": {
            "content_properties": ("ImageProperties", {"color_space": "RGB", "default_size": {"width": 7, "height": 5}})
        }
    }
    sound = {"content": {"content_properties": ("AudioProperties", {"sample_rate": 16000, "channels": 1})}}
    boxes = {
        "content": {
            "content_properties": (
                "BoundingBoxProperties",
                {"type": "CENTER", "coordinate_type": "PIXEL", "index": [1, 0]},
            )
        }
    }
    record = {
        "name": "n", "description": "d", "version": "v", "author": "a", "license": "l", "min_parser_version": "1.3.0",
        "subgraph_metadata": [{
            "input_tensor_metadata": [image, sound], "output_tensor_metadata": [tensor, boxes],
            "output_tensor_groups": [{"name": "result", "tensor_names": ["probability"]}],
        }],
    }  # fmt: skip
    return flatbuffer_write.write(record, METADATA)


def model(files: dict[str, bytes]) -> bytes:
    m = read(add_model())
    m.metadata[metadata.ENTRY] = described()
    m.extras["associated_files"] = files
    return write(m)


def test_everything_that_is_said_is_read():
    found = metadata.parse(described())
    assert (found.name, found.description, found.version, found.author, found.license) == tuple("ndval")
    assert found.minimum_parser == "1.3.0"
    assert found.output_groups == (("result", ("probability",)),)
    image, sound = found.inputs
    scores, boxes = found.outputs
    assert image.content == metadata.Image("RGB", (7, 5))
    assert sound.content == metadata.Audio(16000, 1)
    assert boxes.content == metadata.Boxes("CENTER", "PIXEL", (1, 0))
    assert scores.normalization == metadata.Normalization((127.5,), (128.0,))
    assert (scores.threshold, scores.content_range, scores.minimum, scores.maximum) == (0.5, (2, 3), (0,), (1,))
    assert scores.process == (("ScoreCalibrationOptions", {"score_transformation": "LOG", "default_score": 0.25}),)
    assert scores.files[0] == metadata.File("labels.txt", type="TENSOR_AXIS_LABELS", locale="en")


def test_labels_come_from_the_archive_in_the_language_asked_for():
    m = read(model({"labels.txt": b"cat\r\ndog\n\n", "labels_de.txt": "Hündin\n".encode()}))
    assert metadata.labels(m) == ["cat", "dog"]
    assert metadata.labels(m, 0, "de") == ["Hündin"]
    assert metadata.labels(m, 1) is None
    assert metadata.labels(m, 5) is None
    assert metadata.labels(read(model({}))) is None
    assert metadata.labels(read(add_model())) is None


def test_damaged_metadata_are_a_model_error():
    with pytest.raises(ModelError, match="damaged flatbuffer") as caught:
        metadata.parse(described()[:60])
    assert metadata.ENTRY in caught.value.where


def zipped(
    entries: list[tuple[zipfile.ZipInfo | str, bytes]], method: int = zipfile.ZIP_STORED
) -> archive.AssociatedFiles:
    out = io.BytesIO(b"front".ljust(40, b"."))
    out.seek(0, io.SEEK_END)
    with zipfile.ZipFile(out, "w", method) as z:
        for name, data in entries:
            z.writestr(name, data, method)
    found = archive.find(memoryview(out.getvalue()), 40)
    assert found is not None
    return found


def link() -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo("link")
    entry.external_attr = 0o120777 << 16
    return entry


@pytest.mark.parametrize(
    ("entries", "text"),
    [
        ([("../up", b"x")], "not a plain file name"),
        ([("a/b", b"x")], "not a plain file name"),
        ([("a\\b", b"x")], "not a plain file name"),
        ([("c:x", b"x")], "not a plain file name"),
        ([("..", b"x")], "not a plain file name"),
        ([("n" * 256, b"x")], "not a plain file name"),
        ([(link(), b"/etc/passwd")], "symbolic link"),
    ],
)
def test_names_that_lead_elsewhere_are_refused(entries, text: str):
    with pytest.raises(ModelError, match=text):
        dict(zipped(entries))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_files_of_one_name_are_refused():
    with pytest.raises(ModelError, match="two files are named"):
        len(zipped([("a", b"1"), ("a", b"2")]))


def test_bombs_are_refused(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(LimitError, match="more than 100 times"):
        dict(zipped([("zeros", bytes(1 << 20))], zipfile.ZIP_DEFLATED))
    monkeypatch.setattr(archive, "TOTAL_BYTES", 100)
    with pytest.raises(LimitError, match="more than 100 bytes"):
        dict(zipped([("a", bytes(60)), ("b", bytes(60))]))
    monkeypatch.setattr(archive, "ENTRIES", 1)
    with pytest.raises(LimitError, match="2 files, the limit is 1"):
        dict(zipped([("a", b""), ("b", b"")]))


def test_encrypted_files_are_refused():
    entry = zipfile.ZipInfo("secret")
    entry.flag_bits = 1
    with pytest.raises(ModelError, match="encrypted"):
        archive.checked([entry])


def test_damage_is_a_model_error_wherever_it_is():
    whole = bytearray(zipped([("a.txt", b"some text that is long enough"), ("b", b"2")])._data)
    draw = np.random.default_rng(0)
    seen = 0
    for _ in range(2000):
        data = bytearray(whole)
        for at in draw.integers(40, len(data), 2):
            data[at] ^= 1 << int(draw.integers(8))
        found = archive.find(memoryview(bytes(data)), 40)
        try:
            dict(found or {})
        except ModelError:
            seen += 1
        except KeyError as e:  # a file that is gone under its old name is no damage to the others
            raise AssertionError(data) from e
    assert seen > 500


def test_real_labels(corpus):
    m = open_model(corpus / "models/classification/mobilenet_v2_1.0_224_quant.tflite")
    names = metadata.labels(m)
    assert names is not None
    assert (len(names), names[:2]) == (1001, ["background", "tench, Tinca tinca"])
