"""Metadata that a conversion writes: what is in them, and that `lithe run` uses them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from lithe.cli.main import main
from lithe.conversion.door import convert
from lithe.errors import InputError
from lithe.formats import flatbuffer, metadata, tflite
from lithe.formats.metadata import Audio, Boxes, File, Image, ModelInfo, Normalization, TensorInfo
from lithe.formats.schema import METADATA

NETS = """
import jax, numpy
def classify(image):
    return jax.nn.softmax(image.mean((1, 2)) @ numpy.eye(3, 3, dtype="float32") * 20)
"""


def test_all_that_is_read_is_written():
    whole = TensorInfo(
        "image", "a picture", ("batch", "rows"), Image("RGB", (7, 5)), (1, 2), Normalization((1.0, 2.0, 3.0), (4.0,)),
        0.5, (("ScoreCalibrationOptions", {"default_score": 0.25, "score_transformation": "LOG"}),), (-1.0,), (1.0,),
        (File("labels.txt", "names", "TENSOR_AXIS_LABELS", "en", "v2"),),
    )  # fmt: skip
    boxes = TensorInfo("boxes", content=Boxes("CENTER", "PIXEL", (1, 0, 3, 2)))
    info = ModelInfo("n", "d", "v", "a", "l", (whole, TensorInfo("sound", content=Audio(16000, 1))), (boxes,),
                     (("group", ("boxes",)),), (File("readme.txt"),), "1.3.0")  # fmt: skip
    data = metadata.write(info)
    assert data[4:8] == METADATA.identifier
    assert metadata.parse(data) == info
    assert metadata.parse(metadata.write(ModelInfo())) == ModelInfo()


def test_what_is_said_is_in_the_file(tmp_path):
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    (tmp_path / "names.txt").write_text("cat\ndog\nparrot\n")
    model = convert(
        lambda image: jax.nn.softmax(image.mean((1, 2))),
        inputs={"image": ("batch", 4, 5, 3)},
        metadata={"labels": tmp_path / "names.txt", "mean": (1, 2, 3), "std": 127.5, "name": "pets", "author": "Ada",
                  "license": "MIT", "description": "tells pets", "version": "v3"},
    )  # fmt: skip
    module = tflite.read(tflite.write(model.module))
    assert metadata.labels(module) == ["cat", "dog", "parrot"]
    info = metadata.info(module)
    assert (info.name, info.author, info.license, info.description, info.version) == (
        "pets", "Ada", "MIT", "tells pets", "v3",
    )  # fmt: skip
    (image,), (output,) = info.inputs, info.outputs
    assert image.content == Image("RGB")
    assert image.normalization == Normalization((1.0, 2.0, 3.0), (127.5,))
    assert image.maximum == pytest.approx([254 / 127.5, 253 / 127.5, 252 / 127.5])
    assert image.minimum == pytest.approx([-1 / 127.5, -2 / 127.5, -3 / 127.5])
    assert (output.name, [f.type for f in output.files]) == ("output", ["TENSOR_AXIS_LABELS"])
    record = flatbuffer.read(memoryview(module.metadata[metadata.ENTRY]), METADATA)
    unit = record["subgraph_metadata"][0]["input_tensor_metadata"][0]["process_units"][0]
    assert unit["options"][0] == "NormalizationOptions"
    assert record["min_parser_version"] == "1.0.0"


def test_several_inputs_and_outputs_are_told_by_name():
    pytest.importorskip("jax", reason="JAX is not installed")
    inputs = {"sound": (1, 800), "image": (1, 8, 8, 1), "table": (1, 4)}
    about = {"input_kind": {"sound": "audio", "image": "image"}, "sample_rate": {"sound": 16000},
             "labels": {"b": ["x", "y", "z", "t"]}, "mean": {"image": 5}}  # fmt: skip
    model = convert(lambda sound, image, table: {"a": sound + 1, "b": table * 2 + image[0, 0, 0, 0]}, inputs=inputs,
                    metadata=about)  # fmt: skip
    info = metadata.info(model.module)
    assert [t.content for t in info.inputs] == [Audio(16000, 1), Image("GRAYSCALE"), None]
    assert info.minimum_parser == "1.3.0"
    assert metadata.labels(model.module, 0) is None
    assert metadata.labels(model.module, 1) == ["x", "y", "z", "t"]
    assert model.labels(1) == ["x", "y", "z", "t"]
    with pytest.raises(InputError, match="for which input is the metadata's 'mean'"):
        convert(lambda x, y: x + y, inputs={"x": (2,), "y": (2,)}, metadata={"mean": 3})


def test_run_works_at_once(tmp_path, capsys, monkeypatch):
    pytest.importorskip("jax", reason="JAX is not installed")
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    (tmp_path / "described_nets.py").write_text(NETS)
    (tmp_path / "names.txt").write_text("red\ngreen\nblue\n")
    pixels = np.zeros((6, 6, 3), np.uint8)
    pixels[..., 1] = 200
    image.fromarray(pixels).save(tmp_path / "leaf.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    arguments = ["described_nets.py:classify", "--shape", "image=1,6,6,3", "--mean", "100,100,100", "--std", "image=50",
                 "--labels", "output=names.txt", "--author", "Ada", "-o", "c.tflite"]  # fmt: skip
    assert main(["convert", *arguments]) == 0
    capsys.readouterr()
    assert main(["run", "c.tflite", "--input", "leaf.png", "--json"]) == 0
    printed = capsys.readouterr()
    best = json.loads(printed.out)["outputs"][0]["classes"][0]
    assert best["label"] == "green"
    assert printed.err == ""  # nothing had to be assumed
    given = (pixels.astype(np.float32)[None] - 100) / 50
    scores = np.exp(given.mean((1, 2)) * 20 - (given.mean((1, 2)) * 20).max())
    assert best["score"] == pytest.approx(float((scores / scores.sum())[0, 1]), rel=1e-5)
