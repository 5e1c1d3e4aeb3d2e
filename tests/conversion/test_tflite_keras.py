"""Recurrent layers in files that TensorFlow's converter writes for Keras 3 are found again."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest

import lithe
from tests.conversion.official import run_official
from tests.conversion.test_tflite import operators

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed"),
    pytest.mark.skipif(importlib.util.find_spec("keras") is None, reason="Keras is not installed"),
]
MAKE = """
import sys
import keras, numpy as np, tensorflow as tf
from keras import layers as L
NETS = {
    "lstm": [L.LSTM(4)],
    "lstm_sequences": [L.LSTM(4, return_sequences=True)],
    "lstm_backwards": [L.LSTM(4, return_sequences=True, go_backwards=True)],
    "lstm_two_ways": [L.Bidirectional(L.LSTM(4, return_sequences=True))],
    "lstm_unrolled": [L.LSTM(4, return_sequences=True, unroll=True)],
    "lstm_stacked": [L.LSTM(4, return_sequences=True), L.LSTM(3), L.Dense(2)],
    "lstm_masked": [L.Masking(), L.LSTM(4, return_sequences=True)],
    "gru": [L.GRU(4, return_sequences=True)],
    "gru_before": [L.GRU(4, return_sequences=True, reset_after=False)],
    "gru_unrolled": [L.GRU(4, unroll=True)],
    "gru_masked": [L.Masking(), L.GRU(4)],
    "rnn": [L.SimpleRNN(4, return_sequences=True)],
}
random = np.random.default_rng(0)
for name, layers in NETS.items():
    net = keras.Sequential([keras.Input(batch_shape=(2, 6, 5)), *layers])
    net.set_weights([random.normal(size=w.shape) / 2 for w in net.get_weights()])
    with open(f"{sys.argv[1]}/{name}.tflite", "wb") as f:
        f.write(tf.lite.TFLiteConverter.from_keras_model(net).convert())
"""
NAMES = ["lstm", "lstm_sequences", "lstm_backwards", "lstm_two_ways", "lstm_unrolled", "lstm_stacked", "lstm_masked",
         "gru", "gru_before", "gru_unrolled", "gru_masked", "rnn"]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("made")
    environment = os.environ | {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([sys.executable, "-c", MAKE, str(made)], env=environment, check=True, capture_output=True)
    return made


@pytest.mark.parametrize("name", NAMES)
def test_no_loop_is_left(folder, name):
    path = folder / f"{name}.tflite"
    before, after = lithe.load(path, cache=False), lithe.convert(path)
    x = np.random.default_rng(1).normal(size=(2, 6, 5)).astype(np.float32)
    x[0, 2:4] = x[1, 5] = 0  # masked, where there is a mask
    (wanted,) = run_official(before, {before.module.main.inputs[0].name: x})
    for _ in range(2):
        np.testing.assert_allclose(after(x), wanted, rtol=0, atol=1e-6)
    np.testing.assert_allclose(run_official(after, {after.module.main.inputs[0].name: x})[0], wanted, rtol=0, atol=1e-6)
    names = operators(after)
    assert "WHILE" not in names
    assert len(after.module.graphs) == 1
    if name != "lstm_masked" and not name.startswith("gru"):
        assert "TANH" not in names
        assert len(names) <= 12
    assert operators(lithe.convert(after)) == names
