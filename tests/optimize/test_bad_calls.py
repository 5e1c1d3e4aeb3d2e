"""Mistakes that people make, at every door to smaller models: one clear error each, and nothing half-written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import lithe
from lithe.errors import LitheError
from lithe.optimize import cluster, compact, prune

DATA = Path(lithe.__file__).parent / "data"
FLOAT, INTEGERS = DATA / "digits_float32.tflite", DATA / "digits_int8.tflite"
X = np.random.default_rng(0).uniform(0, 1, (1, 8, 8, 1)).astype(np.float32)
BYTES = np.zeros((1, 8, 8, 1), np.int8)
NAN = np.full_like(X, np.nan)
LABELLED = ([X], [1])

CALLS = {
    "no samples": (lambda: lithe.quantize(FLOAT), "the recipe 'int8' needs samples"),
    "empty samples": (lambda: lithe.quantize(FLOAT, []), "there are no samples"),
    "samples that are a number": (lambda: lithe.quantize(FLOAT, 5), "samples are int, which cannot be gone through"),
    "a wrong shape": (lambda: lithe.quantize(FLOAT, [X[:, :7]]), r"expects float32\[\?, 8, 8, 1\], got .*7, 8, 1"),
    "a wrong type": (lambda: lithe.quantize(FLOAT, [X.astype(np.float64)]), "got float64"),
    "NaN in the second sample": (lambda: lithe.quantize(FLOAT, [X, NAN]), "sample 1 gives NaN in"),
    "no such file": (lambda: lithe.quantize("nothing.tflite", [X]), "Could not open 'nothing.tflite'"),
    "a damaged file": (lambda: lithe.quantize(b"abc", [X]), "3 bytes, too few"),
    "no model": (lambda: lithe.quantize(5, [X]), "a model is a path or bytes"),
    "integers already": (lambda: lithe.quantize(INTEGERS, [BYTES]), "nothing in the model can be quantized"),
    "the same twice": (lambda: lithe.quantize(lithe.quantize(FLOAT, [X]), [X]), "nothing in the model can be quantiz"),
    "integers compared": (lambda: lithe.compare(INTEGERS, INTEGERS, [BYTES]), "no computed tensor of real numbers"),
    "an unknown recipe": (lambda: lithe.quantize(FLOAT, [X], "int7"), "there is no recipe 'int7'"),
    "a recipe that is a number": (lambda: lithe.quantize(FLOAT, [X], 7), "the recipe is no recipe"),
    "no such recipe file": (lambda: lithe.quantize(FLOAT, [X], "mine.json"), "cannot open the recipe 'mine.json'"),
    "unknown ranges": (lambda: lithe.quantize(FLOAT, [X], ranges="median"), "no ranges called 'median'"),
    "an unknown repair": (lambda: lithe.quantize(FLOAT, [X], repairs=["glue"]), "there is no repair 'glue'"),
    "ends of another width": (lambda: lithe.quantize(FLOAT, [X], inputs="int16"), "inputs cannot be 'int16'"),
    "unknown workers": (lambda: lithe.quantize(FLOAT, [X], workers="spark://x"), "there are no workers 'spark://x'"),
    "what to keep": (lambda: lithe.quantize(FLOAT, [X], keep={"speed": 1.0}, labelled=LABELLED), "keep is"),
    "more than all": (lambda: lithe.quantize(FLOAT, [X], keep={"accuracy": 2}, labelled=LABELLED), "keep is"),
    "nobody to judge": (lambda: lithe.quantize(FLOAT, [X], keep={"accuracy": 0.9}), "accuracy is judged by"),
    "nothing compared": (lambda: lithe.compare(FLOAT, INTEGERS, []), "there are no samples"),
    "NaN compared": (lambda: lithe.compare(FLOAT, INTEGERS, [NAN]), "sample 0 gives NaN or infinity"),
    "too many zeros": (lambda: prune(FLOAT, 1.5), "a sparsity of 1.5"),
    "an unknown structure": (lambda: prune(FLOAT, 0.5, structure="diagonal"), "diagonal"),
    "pruning nothing": (lambda: prune(None, 0.5), "a model is a lithe.Model, a file or bytes"),
    "one cluster": (lambda: cluster(FLOAT, 1), "there cannot be 1 clusters"),
    "clusters by name": (lambda: cluster(FLOAT, "many"), "there cannot be 'many' clusters"),
    "an unknown form": (lambda: compact(FLOAT, ("zip",)), "zip"),
    "an unknown reader": (lambda: compact(FLOAT, reader="anybody"), "anybody"),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_a_bad_call_is_one_clear_error(name: str) -> None:
    call, message = CALLS[name]
    with pytest.raises(LitheError, match=message) as caught:
        call()
    assert "Traceback" not in str(caught.value)
    assert str(caught.value).splitlines()[0]


@pytest.mark.parametrize(
    "arguments",
    [
        ["quantize", "{model}", "-o", "{out}"],
        ["quantize", "{model}", "--calibrate", "{nan}", "-o", "{out}"],
        ["quantize", "{model}", "--calibrate", "{model}", "-o", "{out}"],
        ["quantize", "{model}", "--recipe", "int7", "-o", "{out}"],
        ["prune", "{model}", "--sparsity", "1.5", "-o", "{out}"],
        ["cluster", "{model}", "--clusters", "1", "-o", "{out}"],
        ["compare", "{model}", "{model}", "--samples", "{nan}", "--html", "{out}"],
    ],
    ids=lambda a: " ".join(a).replace("{", "").replace("}", ""),
)
def test_nothing_is_written_by_a_command_that_fails(arguments: list[str], tmp_path: Path, capfd) -> None:
    from lithe.cli.main import main

    np.save(tmp_path / "nan.npy", NAN)
    places = {"model": FLOAT, "out": tmp_path / "out", "nan": tmp_path / "nan.npy"}
    assert main([a.format(**places) for a in arguments]) != 0
    printed = capfd.readouterr()
    assert "Traceback" not in printed.err
    assert printed.err.strip()
    assert [p.name for p in tmp_path.iterdir()] == ["nan.npy"]
