"""Keras models on TensorFlow, exported as SavedModels by a process of their own: a process has one backend.

python -m tests.conversion.keras_exports FOLDER NAME...  writes FOLDER/NAME, and FOLDER/NAME.npz with x and y.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SIZES = {"InceptionV3": 75, "Xception": 71}


def exported(folder: Path, *names: str) -> Path:
    """The folder, in which the models are."""
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-m", "tests.conversion.keras_exports", str(folder), *names]
    made = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return folder


def built(name: str):
    import keras

    layers = keras.layers
    if name == "keyword":
        return keras.Sequential(
            [layers.Input((20, 8)), layers.LSTM(16, return_sequences=True), layers.GRU(8), layers.Dense(4)]
        )
    if name == "masked":
        return keras.Sequential(
            [layers.Input((7,), dtype="int32"), layers.Embedding(10, 4, mask_zero=True), layers.LSTM(3)]
        )
    if name == "attention":
        x = layers.Input((6, 8))
        y = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 4)(x, x))
        return keras.Model(x, layers.Dense(3, activation="gelu")(y))
    size = SIZES.get(name, 32)
    return getattr(keras.applications, name)(weights=None, include_top=False, input_shape=(size, size, 3))


def main(folder: str, *names: str) -> None:
    import numpy as np

    for name in names:
        model = built(name)
        model.export(os.path.join(folder, name), verbose=False)
        shape = (2, *model.input_shape[1:])
        x = np.random.default_rng(0).random(shape).astype(np.float32)
        if name == "masked":
            x = np.minimum(x * 4, 3).astype(np.int32)
        np.savez(os.path.join(folder, f"{name}.npz"), x=x, y=np.asarray(model(x, training=False)))


if __name__ == "__main__":
    main(*sys.argv[1:])
