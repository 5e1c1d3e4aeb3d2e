"""lithe run: pictures, arrays, tables, text and standard input, on small models and on real ones."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest

from lithe import load
from tests.cli.conftest import Command

PICTURES = {"parrot.jpg": "macaw", "cat.bmp": "Egyptian cat", "grace_hopper.bmp": "military uniform"}


@pytest.mark.parametrize("model", ["mobilenet_v2_1.0_224_quant", "tf2_mobilenet_v2_1.0_224_ptq"])
def test_classifiers_name_pictures_with_nothing_else_given(lithe: Command, corpus: Path, model: str) -> None:
    pytest.importorskip("PIL")
    path = corpus / "models" / "classification" / f"{model}.tflite"
    for picture, name in PICTURES.items():
        ended = lithe("run", path, "--input", corpus / "data" / "images" / picture)
        assert ended.code == 0, ended.err
        assert ended.out.splitlines()[0].split(maxsplit=1)[1] == name
        assert len(ended.out.splitlines()) == 5


def test_class_names_from_a_file(lithe: Command, digits: Path) -> None:
    (digits / "names.txt").write_text("zero\none\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\n")
    model, digit = digits / "digits_int8.tflite", digits / "seven.npy"
    ended = lithe("run", model, "--input", f"image={digit}", "--labels", digits / "names.txt", "--top", 1)
    assert ended.code == 0, ended.err
    assert ended.out.split() == [ended.out.split()[0], "seven"]
    assert lithe("run", model, "--input", digit, "--top", 1).out.endswith("class 7\n")


def test_json_output_file_and_signature(lithe: Command, digits: Path) -> None:
    model, digit = digits / "digits_float32.tflite", digits / "seven.npy"
    ended = lithe(
        "run", model, "--input", digit, "--signature", "serving_default", "--json", "--output", digits / "y.npz"
    )
    assert ended.json["schema"] == "lithe.run/1"
    assert ended.json["outputs"][0]["name"] == "probability"
    assert ended.json["outputs"][0]["classes"][0]["index"] == 7
    with np.load(digits / "y.npz") as saved:
        assert saved["probability"].shape == (1, 10)
        assert saved["probability"].argmax() == 7
    assert "wrote" in lithe("run", model, "--input", digit, "--output", digits / "y.npz").err
    assert lithe("run", model, "--input", digit, "--signature", "other").code == 2


def test_many_rows_at_once(lithe: Command, digits: Path) -> None:
    one = np.load(digits / "seven.npy")
    np.save(digits / "three.npy", np.concatenate([one] * 3))
    facts = lithe("run", digits / "digits_float32.tflite", "--input", digits / "three.npy", "--json").json
    assert np.array(facts["outputs"][0]["values"]).argmax(-1).tolist() == [7, 7, 7]


def test_pictures_say_how_they_were_normalized(lithe: Command, digits: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    pixels = (np.load(digits / "seven.npy")[0, :, :, 0] * 255).astype(np.uint8)
    image.fromarray(pixels).save(digits / "seven.png")
    model = digits / "digits_float32.tflite"
    assert "--mean" in lithe("run", model, "--input", digits / "seven.png").err
    ended = lithe("run", model, "--input", digits / "seven.png", "--mean", 0, "--std", 255, "--top", 1)
    assert ended.err == ""
    assert ended.out.endswith("class 7\n")
    assert lithe("run", model, "--input", digits / "seven.png", "--mean", "much").code == 2
    ended = lithe("run", digits / "digits_int8.tflite", "--input", digits / "seven.png", "--top", 1)
    assert ended.out.endswith("class 7\n")


def test_standard_input(lithe: Command, digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stream:
        buffer = io.BytesIO((digits / "seven.npy").read_bytes())

    monkeypatch.setattr(sys, "stdin", Stream)
    assert lithe("run", digits / "digits_float32.tflite", "--input", "-", "--top", 1).out.endswith("class 7\n")


def test_csv(lithe: Command, digits: Path) -> None:
    np.savetxt(digits / "seven.csv", np.load(digits / "seven.npy").reshape(8, 8), delimiter=",")
    ended = lithe("run", digits / "digits_float32.tflite", "--input", digits / "seven.csv", "--top", 1)
    assert ended.out.endswith("class 7\n"), ended.err


def test_inputs_that_cannot_be_placed(lithe: Command, digits: Path) -> None:
    model, digit = digits / "digits_float32.tflite", digits / "seven.npy"
    ended = lithe("run", model)
    assert ended.code == 2
    assert "no --input for 'image'" in ended.err
    assert "float32[1, 8, 8, 1]" in ended.err
    assert lithe("run", model, "--input", digit, "--input", digit).code == 2
    assert lithe("run", model, "--input", digits / "none.npy").code == 4
    (digits / "words.txt").write_text("hello")
    ended = lithe("run", model, "--input", digits / "words.txt")
    assert ended.code == 4
    assert "text does not fit" in ended.err
    np.save(digits / "wrong.npy", np.zeros((2, 3), np.float32))
    ended = lithe("run", model, "--input", digits / "wrong.npy")
    assert ended.code == 4
    assert "float32[?, 8, 8, 1]" in ended.err
    assert "[2, 3]" in ended.err
    assert "Traceback" not in ended.err


def test_several_inputs_by_name_by_order_and_from_one_archive(lithe: Command, corpus: Path, tmp_path: Path) -> None:
    model = corpus / "models" / "control_state_signature" / "3in3out_model_swaps_input_2_and_0.tflite"
    inputs = load(model).inputs
    names = list(inputs)
    arrays = {name: np.full(inputs[name].shape, k + 1, np.float32) for k, name in enumerate(names)}
    for name, array in arrays.items():
        np.save(tmp_path / f"{names.index(name)}.npy", array)
    np.savez(tmp_path / "all.npz", **arrays)
    ordered = [f"--input={tmp_path / f'{k}.npy'}" for k in range(len(names))]
    named = [f"--input={name}={tmp_path / f'{k}.npy'}" for k, name in reversed(list(enumerate(names)))]
    results = [lithe("run", model, *given, "--json") for given in (ordered, named, [f"--input={tmp_path / 'all.npz'}"])]
    assert [r.code for r in results] == [0, 0, 0], results
    assert results[0].json == results[1].json == results[2].json
    assert lithe("run", model, *ordered).out.count("float32") == 3
    assert lithe("run", model, ordered[0]).code == 2


def test_a_tuned_run_says_the_same(lithe: Command, digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITHE_CACHE_DIR", str(digits / "cache"))
    given = digits / "digits_int8.tflite", "--input", digits / "seven.npy"
    usual, tuned = lithe("run", *given), lithe("run", *given, "--tune")
    assert tuned.code == 0, tuned.err
    assert tuned.out == usual.out
    timed = lithe("benchmark", digits / "digits_int8.tflite", "--num-runs", 3, "--tune", "--json").json
    assert timed["runs"] == 3
    refused = lithe("benchmark", digits / "digits_int8.tflite", "--tune", "--layers")
    assert refused.code == 2
    assert "--tune goes with neither --against nor --layers" in refused.err
