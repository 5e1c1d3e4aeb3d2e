"""lithe quantize."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import lithe
from lithe.cli.main import main

DATA = Path(lithe.__file__).parent / "data"
FLOAT = str(DATA / "digits_float32.tflite")


@pytest.fixture
def images():
    return (np.load(DATA / "digits_held_out.npz")["image"][:20, ..., None] / 16).astype(np.float32)


def run(capsys, *arguments):
    code = main(["quantize", *map(str, arguments)])
    return code, capsys.readouterr()


def test_samples_are_an_array_a_file_of_arrays_or_a_folder(images, tmp_path, capsys):
    np.save(tmp_path / "samples.npy", images)
    np.savez(tmp_path / "samples.npz", image=images)
    folder = tmp_path / "samples"
    (folder / "more").mkdir(parents=True)
    for i, image in enumerate(images):
        np.save(folder / ("more" if i % 2 else ".") / f"{i:02}.npy", image[None])
    written = []
    for data in ("samples.npy", "samples.npz", "samples"):
        code, printed = run(capsys, FLOAT, "--calibrate", tmp_path / data, "-o", tmp_path / "out.tflite")
        assert code == 0
        assert "ranges from 20 samples" in printed.out
        written.append((tmp_path / "out.tflite").read_bytes())
    assert len(set(written)) == 1
    code, printed = run(
        capsys, FLOAT, "--calibrate", tmp_path / "samples.npy", "-o", tmp_path / "out.tflite", "--most", 5, "--json"
    )
    facts = json.loads(printed.out)
    assert (facts["samples"], facts["operators_of_reals"]) == (5, [])
    assert facts["bytes"] < facts["bytes_before"] / 2


@pytest.mark.parametrize("recipe", ["float16", "dynamic", "weights", "weights_int4_block32", "dynamic_wi8_afp32"])
def test_weights_alone_need_no_samples(recipe, tmp_path, capsys):
    out = tmp_path / "out.tflite"
    code, printed = run(capsys, FLOAT, "--recipe", recipe, "-o", out)
    assert code == 0
    assert "ranges" not in printed.out
    assert out.stat().st_size < 0.7 * Path(FLOAT).stat().st_size


def test_repairs_are_chosen(images, tmp_path, capsys):
    np.save(tmp_path / "samples.npy", images)
    written = {}
    for names in ("none", "bias", "folding,equalization,bias", ""):
        more = ["--repairs", names] if names else []
        code, _ = run(capsys, FLOAT, "--calibrate", tmp_path / "samples.npy", "-o", tmp_path / "out.tflite", *more)
        assert code == 0
        written[names] = (tmp_path / "out.tflite").read_bytes()
    assert written["none"] != written["bias"]
    assert written["folding,equalization,bias"] == written[""]


def test_recipes_are_listed(capsys):
    code, printed = run(capsys, "--list-recipes")
    assert code == 0
    assert "int8                     int8 values, int8 weights\n" in printed.out
    assert "weights_int4_block32     real values, int4 weights in blocks of 32\n" in printed.out


def test_a_recipe_is_a_file(images, tmp_path, capsys):
    np.save(tmp_path / "samples.npy", images)
    rules = [{"values": "int8", "weights": "int8"}, {"operators": ["SOFTMAX"]}]
    (tmp_path / "mine.json").write_text(json.dumps({"rules": rules}))
    arguments = ["--calibrate", tmp_path / "samples.npy", "--recipe", tmp_path / "mine.json", "--json"]
    code, printed = run(capsys, FLOAT, *arguments, "-o", tmp_path / "out.tflite")
    assert code == 0
    assert json.loads(printed.out)["operators_of_reals"] == ["SOFTMAX"]


def test_operators_that_stay_are_named(tmp_path, capsys):
    from tests.optimize.test_quantization import convolution, floats, model

    lithe.Model(model(lambda b, x: {"y": b("SIN", convolution(b, x))})).save(tmp_path / "in.tflite")
    np.save(tmp_path / "x.npy", floats(3, 8, 8, 4))
    code, printed = run(capsys, tmp_path / "in.tflite", "--calibrate", tmp_path / "x.npy", "-o", tmp_path / "o.tflite")
    assert code == 0
    assert "still computed with real numbers: SIN" in printed.out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([FLOAT], 4, "the recipe 'int8' needs samples"),
        ([FLOAT, "--calibrate", "none.npy"], 4, "none.npy"),
        ([FLOAT, "--calibrate", "empty"], 4, "there are no samples"),
        ([FLOAT, "--calibrate", "one.txt"], 4, "holds one sample"),
        ([FLOAT, "--calibrate", "other.npz"], 4, "has no array"),
        (["none.tflite", "--recipe", "float16"], 4, "none.tflite"),
        ([FLOAT, "--recipe", "int7"], 4, "there is no recipe 'int7'"),
        ([FLOAT, "--recipe", "float16", "--repairs", "bias,median"], 4, "there is no repair 'median'"),
        ([FLOAT, "--recipe", "none.json"], 4, "cannot open the recipe"),
    ],
)
def test_a_mistake_is_one_error_and_no_file(arguments, code, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "one.txt").write_text("a sentence")
    np.savez(tmp_path / "other.npz", a=np.zeros(3), b=np.zeros(3))
    got, printed = run(capsys, *arguments, "-o", "out.tflite")
    assert got == code
    assert message in printed.err
    assert not (tmp_path / "out.tflite").exists()
