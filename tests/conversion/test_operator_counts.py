"""Small Keras networks never take more operators than TensorFlow's converter needs, and give what Keras gives.

The numbers are those of TensorFlow 2.21; `benchmarks/conversion.py` measures them.
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
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.skipif(keras.backend.backend() != "jax", reason="other backends spell these formulas otherwise"),
]
L = keras.layers
NETWORKS = {  # shape, dtype, layers, operators of TensorFlow's converter
    "conv1d": ((24, 8), "float32", lambda: [L.Conv1D(8, 3, padding="same", activation="relu"), L.MaxPooling1D(),
                                            L.Conv1D(8, 3), L.BatchNormalization(), L.ReLU()], 5),
    "separable conv1d": ((24, 8), "float32", lambda: [L.SeparableConv1D(8, 3)], 4),
    "normalization before a product": ((8,), "float32", lambda: [L.Dense(8, "relu"), L.BatchNormalization(),
                                                                 L.Dense(4)], 2),
    "layer normalization": ((6, 8), "float32", lambda: [L.LayerNormalization()], 11),
    "embedding": ((6,), "int32", lambda: [L.Embedding(20, 8)], 4),
    "prelu": ((4, 4, 3), "float32", lambda: [L.PReLU(shared_axes=[1, 2], alpha_initializer="random_normal")], 1),
    "selu": ((8,), "float32", lambda: [L.Activation("selu")], 6),
    "mish": ((8,), "float32", lambda: [L.Activation("mish")], 5),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_operators_are_no_more_than_the_other_converters(name):
    shape, dtype, layers, most = NETWORKS[name]
    net = keras.Sequential([keras.Input(shape, batch_size=1, dtype=dtype), *layers()])
    random = np.random.default_rng(7)
    x = random.integers(0, 20, (1, *shape)).astype(dtype) if dtype == "int32" else random.normal(0, 4, (1, *shape))
    x = x.astype(dtype)
    model = convert(net)
    assert len(model.module.main.nodes) <= most, [n.op.name for n in model.module.main.nodes]
    expected = np.asarray(net(x))
    (made,) = run_official(model, {model.module.main.inputs[0].name: x})
    assert relative_difference(expected, made) < 1e-5
