"""The models that the package carries are what their provenance says, and their script still makes such models."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import lithe
from lithe.cli.demo import DATA, MODELS, held_out
from lithe.formats import tflite

CHECKOUT = Path(__file__).resolve().parents[1]
SCRIPT = CHECKOUT / "examples" / "train_digits.py"


def facts(folder: Path) -> dict:
    return json.loads((folder / "digits.json").read_text(encoding="utf-8"))


def test_provenance_is_complete() -> None:
    told = facts(DATA)
    assert (CHECKOUT / told["script"]) == SCRIPT
    assert {"seed", "epochs", "dataset", "dataset_licence", "models_licence"} <= set(told)
    images, labels = held_out()
    assert images.shape == (told["held_out_digits"], 8, 8)
    assert images.max() <= 16
    assert len(labels) == len(images)
    for name in MODELS:
        assert (DATA / f"{name}.tflite").stat().st_size == told["models"][f"{name}.tflite"]["bytes"]


@pytest.mark.parametrize("name", MODELS)
def test_accuracy_is_the_stated_one(name: str) -> None:
    model = lithe.load(DATA / f"{name}.tflite")
    images, labels = held_out()
    real = (images[:, None, :, :, None] / 16).astype(np.float32)
    info = model.inputs["image"]
    values = info.quantize(real) if info.quantization else real
    right = sum(int(np.asarray(model(v)).argmax()) == label for v, label in zip(values, labels, strict=True))
    assert right == facts(DATA)["models"][f"{name}.tflite"]["right_of_held_out"]


@pytest.mark.parametrize("name", MODELS)
def test_written_by_our_writer(name: str) -> None:
    content = (DATA / f"{name}.tflite").read_bytes()
    assert tflite.write(tflite.read(content)) == content


@pytest.mark.slow
def test_the_script_trains_such_models(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="the training script needs scikit-learn")
    command = [sys.executable, str(SCRIPT), "--folder", str(tmp_path), "--epochs", "15"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    made = facts(tmp_path)
    assert all(model["right_of_held_out"] > 0.95 * made["held_out_digits"] for model in made["models"].values())
    assert (tmp_path / "digits_held_out.npz").read_bytes() == (DATA / "digits_held_out.npz").read_bytes()
