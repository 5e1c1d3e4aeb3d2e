"""lithe quantize --keep."""

from __future__ import annotations

import json
import xml.dom.minidom
from pathlib import Path

import numpy as np
import pytest

import lithe
from lithe.cli.main import main

FLOAT = str(Path(lithe.__file__).parent / "data" / "digits_float32.tflite")


@pytest.fixture
def data(tmp_path, monkeypatch):
    held_out = np.load(Path(FLOAT).parent / "digits_held_out.npz")
    np.save(tmp_path / "x.npy", (held_out["image"][:40, ..., None] / 16).astype(np.float32))
    np.save(tmp_path / "y.npy", held_out["label"][:40])
    (tmp_path / "y.txt").write_text("\n".join(map(str, held_out["label"][:40])))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LITHE_JIT", "0")  # small models run sooner than they are compiled
    return tmp_path


def run(capsys, *arguments):
    code = main(["quantize", FLOAT, "-o", "out.tflite", *arguments])
    return code, capsys.readouterr()


def test_a_search_writes_model_state_and_picture(data, capsys):
    keep = ["--keep", "accuracy=0.95", "--calibrate", "x.npy", "--most", "10", "--state", "state.json"]
    code, printed = run(capsys, *keep, "--labels", "y.npy", "--picture", "front.svg")
    assert code == 0
    assert "out.tflite: " in printed.out
    assert "on 40 answers, of which" in printed.out
    drawn = xml.dom.minidom.parse("front.svg").documentElement
    circles = drawn.getElementsByTagName("circle")
    tried = [t for t in json.loads((data / "state.json").read_text())["trials"] if t["accuracy"] is not None]
    assert len(circles) == 2 * len(tried)
    assert sum("orange" in c.getAttribute("class") for c in circles) == 2
    assert "http" not in (data / "front.svg").read_text().replace("http://www.w3.org/2000/svg", "")
    size = (data / "out.tflite").stat().st_size
    (data / "out.tflite").unlink()
    code, printed = run(capsys, *keep, "--labels", "y.txt", "--picture", "front.html", "--json")
    facts = json.loads(printed.out)
    assert (code, facts["bytes"], facts["search"]["answers"]) == (0, size, 40)
    assert facts["bytes"] <= facts["search"]["uniform_bytes"]
    assert facts["search"]["accuracy"] >= 0.95 * facts["search"]["accuracy_float"]
    page = (data / "front.html").read_text()
    assert page.count("<svg class=") == 2
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--keep", "accuracy=0.9"], 2, "--keep needs --labels"),
        (["--keep", "accuracy=0.9", "--recipe", "int8"], 2, "--keep searches for a recipe"),
        (["--keep", "accuracy=0.9", "--labels", "y.npy", "--calibrate", "x.npy", "--repairs", "glue"], 4, "no repair"),
        (["--keep", "accuracy", "--labels", "y.npy"], 2, "'accuracy' is not like accuracy=0.99"),
        (["--keep", "speed=0.9", "--labels", "y.npy", "--calibrate", "x.npy"], 4, "keep is {'speed': 0.9}"),
        (["--keep", "accuracy=0.9", "--labels", "x.npy", "--calibrate", "x.npy"], 4, "a sample has 64 labels"),
        (["--keep", "accuracy=0.9", "--labels", "words.txt", "--calibrate", "x.npy"], 4, "holds no labels"),
        (["--keep", "accuracy=0.9", "--labels", "none.txt", "--calibrate", "x.npy"], 4, "none.txt"),
        (
            ["--keep", "accuracy=0.9", "--labels", "few.txt", "--calibrate", "x.npy"],
            4,
            "more samples than the 2 labels",
        ),
        (
            ["--keep", "accuracy=0.9", "--labels", "y.npy", "--calibrate", "x.npy", "--picture", "p.gif"],
            4,
            "no picture",
        ),
        (["--keep", "accuracy=0.9", "--labels", "y.npy", "--calibrate", "x.npy", "--state", "words.txt"], 4, "damaged"),
        (["--labels", "y.npy", "--calibrate", "x.npy"], 2, "--labels belongs to a search"),
        (["--calibrate", "x.npy", "--workers", "slurm"], 4, "there are no workers 'slurm'"),
    ],
)
def test_a_mistake_is_one_error_and_no_file(arguments, code, message, data, capsys):
    (data / "words.txt").write_text("cat dog")
    (data / "few.txt").write_text("1 2")
    got, printed = run(capsys, *arguments)
    assert (got, message in printed.err) == (code, True), printed.err
    assert not (data / "out.tflite").exists()
