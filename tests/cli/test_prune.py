"""lithe prune, lithe cluster, and what lithe inspect says of zeros."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import lithe
from lithe.cli.main import main
from tests.optimize.test_quantization import floats, model

DATA = Path(lithe.__file__).parent / "data"
FLOAT = str(DATA / "digits_float32.tflite")


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    path = tmp_path_factory.mktemp("samples") / "samples.npy"
    np.save(path, (np.load(DATA / "digits_held_out.npz")["image"][:40, ..., None] / 16).astype(np.float32))
    return path


def run(capsys, *arguments):
    code = main([*map(str, arguments)])
    return code, capsys.readouterr()


def test_pruning_says_what_became_of_layers(samples, tmp_path, capsys):
    out = tmp_path / "out.tflite"
    code, printed = run(capsys, "prune", FLOAT, "--sparsity", 0.7, "--samples", samples, "--most", 30, "-o", out)
    assert code == 0
    assert "; 30 samples" in printed.out
    assert "70%" in printed.out
    assert "sparse" in printed.out
    assert out.stat().st_size < 0.5 * Path(FLOAT).stat().st_size
    assert lithe.load(out)(np.load(samples)[:1]).shape == (1, 10)


def test_pruning_tells_a_program_too(tmp_path, capsys):
    out = tmp_path / "out.tflite"
    code, printed = run(
        capsys, "prune", FLOAT, "--sparsity", 0.5, "--structure", "2:4", "--together", "-o", out, "--json"
    )
    assert code == 0
    facts = json.loads(printed.out)
    assert facts["schema"] == "lithe.prune/1"
    assert facts["samples"] == 0
    assert facts["bytes"] == out.stat().st_size < facts["bytes_before"]
    assert [(r["zeros"], r["stored"]) for r in facts["layers"]] == [(0.5, "sparse"), (0.5, "sparse")]


@pytest.mark.parametrize("form", ["table", "rows", "micro"])
def test_clustering_says_how_many_numbers_are_left(form, samples, tmp_path, capsys):
    out = tmp_path / "out.tflite"
    code, printed = run(
        capsys, "cluster", FLOAT, "--clusters", 8, "--form", form, "--samples", samples, "-o", out, "--json"
    )
    assert code == 0
    facts = json.loads(printed.out)
    assert facts["schema"] == "lithe.cluster/1"
    assert facts["samples"] == 40
    assert {r["values"] for r in facts["layers"]} <= {7, 8}
    assert {r["stored"] for r in facts["layers"]} == {"micro" if form == "micro" else "table"}
    assert facts["bytes"] < 0.6 * facts["bytes_before"]


def test_what_cannot_be_done_is_one_line_and_leaves_no_file(samples, tmp_path, capsys):
    out = tmp_path / "out.tflite"
    for arguments, said in (
        (("prune", FLOAT, "--sparsity", 2), "a sparsity of 2.0"),
        (("prune", FLOAT, "--structure", "5x"), "there is no structure '5x'"),
        (("prune", FLOAT, "--scope", "nowhere"), "the model has no layer with 'nowhere'"),
        (("prune", tmp_path / "none.tflite"), "none.tflite"),
        (("prune", FLOAT, "--samples", tmp_path / "none.npy"), "none.npy"),
        (("cluster", DATA / "digits_int8.tflite"), "the model has no layer"),
    ):
        code, printed = run(capsys, *arguments, "-o", out)
        assert code == 4
        assert printed.err.startswith("error: ")
        assert said in printed.err
        assert not out.exists()
    assert run(capsys, "cluster", FLOAT, "--clusters", 1, "-o", out)[0] == 2


def test_inspection_says_what_zeros_would_gain(tmp_path, capsys):
    def network(b, x):
        y = b("CONV_2D", x, b.constant(floats(128, 1, 1, 64), lithe.types.FLOAT32))
        return {"y": b("CONV_2D", y, b.constant(floats(8, 3, 3, 128), lithe.types.FLOAT32))}

    path = tmp_path / "m.tflite"
    lithe.Model(model(network, (1, 8, 8, 64))).save(path)
    code, printed = run(capsys, "inspect", path, "--sparsity")
    assert code == 0
    head, first, second = printed.out.splitlines()
    assert "quicker from" in head
    assert "unstructured" in first
    assert "never" in second
    facts = json.loads(run(capsys, "inspect", path, "--sparsity", "--json")[1].out)["sparsity"]
    assert [r["operator"] for r in facts] == ["CONV_2D", "CONV_2D"]
    assert facts[0]["bytes"] == 128 * 64 * 4
    assert facts[0]["bytes_at_90"] < 0.2 * facts[0]["bytes"]
    assert facts[1]["quicker_from"] is None
    assert "sparsity" not in json.loads(run(capsys, "inspect", path, "--json")[1].out)
