"""Architectures of keras.applications, with random weights and small pictures: in Lithe and in the official runtime.

Keras runs on the backend that KERAS_BACKEND names.
"""

from __future__ import annotations

import importlib.util
import os

import numpy as np
import pytest

from lithe.conversion.check import relative_difference
from lithe.conversion.door import convert
from tests.conversion.official import run_official

if importlib.util.find_spec(os.environ.setdefault("KERAS_BACKEND", "jax")) is None:
    pytest.skip("Keras's backend is not installed", allow_module_level=True)
keras = pytest.importorskip("keras", reason="Keras is not installed")

pytestmark = pytest.mark.slow
TOLERANCE = 1e-4
SIZES = {"InceptionV3": 75, "Xception": 71}
OPERATORS = {  # how many there are at most: less is better, more is a pattern that is no longer recognised
    "ConvNeXtTiny": 371, "DenseNet121": 246, "EfficientNetB0": 236, "EfficientNetV2B0": 266, "InceptionV3": 122,
    "MobileNet": 27, "MobileNetV2": 62, "MobileNetV3Large": 118, "MobileNetV3Small": 105, "ResNet50": 72,
    "ResNet50V2": 95, "VGG16": 18, "Xception": 101,
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATORS)
def test_an_architecture_gives_the_same(name):
    size = SIZES.get(name, 32)
    source = getattr(keras.applications, name)(weights=None, include_top=False, input_shape=(size, size, 3))
    model = convert(source)
    x = np.random.default_rng(0).random((1, size, size, 3)).astype(np.float32)
    expected = np.asarray(keras.ops.convert_to_numpy(source(x, training=False)))
    (entry,) = model.inputs
    made = model(x)
    assert relative_difference(expected, np.asarray(next(iter(made.values())) if isinstance(made, dict) else made)) <= (
        TOLERANCE
    )
    assert relative_difference(expected, run_official(model, {entry: x})[0]) <= TOLERANCE
    assert len(model.module.main.nodes) <= OPERATORS[name]
