"""Models of Keras on TensorFlow, exported as SavedModels: in Lithe and in the official runtime."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from lithe.conversion.check import relative_difference
from lithe.conversion.door import convert
from tests.conversion.keras_exports import exported
from tests.conversion.official import run_official

for package in ("tensorflow", "keras"):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed", allow_module_level=True)

TOLERANCE = 1e-4
QUICK = {"MobileNetV2": 62, "keyword": None, "masked": None, "attention": None}
OPERATORS = {  # how many there are at most, as many as the same models on JAX become
    "ConvNeXtTiny": 371, "DenseNet121": 246, "EfficientNetB0": 236, "EfficientNetV2B0": 266, "InceptionV3": 122,
    "MobileNet": 27, "MobileNetV3Large": 118, "MobileNetV3Small": 105, "ResNet50": 72, "ResNet50V2": 95, "VGG16": 18,
    "Xception": 101,
}  # fmt: skip


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    return exported(tmp_path_factory.mktemp("keras"), *QUICK)


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    return exported(tmp_path_factory.mktemp("keras"), *OPERATORS)


def agrees(folder, name, most):
    model = convert(folder / name)
    stored = np.load(folder / f"{name}.npz")
    (entry,) = model.inputs
    made = model(stored["x"])
    assert relative_difference(stored["y"], np.asarray(made)) <= TOLERANCE
    assert relative_difference(stored["y"], run_official(model, {entry: stored["x"]})[0]) <= TOLERANCE
    assert most is None or len(model.module.main.nodes) <= most
    assert list(model.signatures) == ["serving_default"]  # Keras exports the same function under two names


@pytest.mark.parametrize("name", QUICK)
def test_a_model_gives_the_same(quick, name):
    agrees(quick, name, QUICK[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATORS)
def test_an_architecture_gives_the_same(slow, name):
    agrees(slow, name, OPERATORS[name])
