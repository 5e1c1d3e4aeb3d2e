"""Keras models of a few weights, one for each way in which layers hold them, and what they are trained on for a moment.

They learn nothing; the networks that do are in `networks.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="Keras is not installed")
L = keras.layers

COUNT, BATCH = 24, 8


def sequential(shape: tuple[int, ...], *layers: Any) -> Any:
    return keras.Sequential([keras.Input(shape), *layers])


def attention() -> Any:
    x = keras.Input((5, 8))
    return keras.Model(x, L.Flatten()(L.MultiHeadAttention(2, 4)(x, x)))


def several() -> Any:
    """Two inputs by name, and one layer that is used twice."""
    a, b = keras.Input((6,), name="a"), keras.Input((6,), name="b")
    shared = L.Dense(8, activation="relu", name="shared")
    return keras.Model({"a": a, "b": b}, L.Dense(4)(L.Concatenate()([shared(a), shared(b)])))


@keras.saving.register_keras_serializable(package="lithe_tests")
class Subclassed(keras.Model):
    """A model that is no graph of layers, with weights in a list and one that two layers share."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.blocks = [L.Dense(8, activation="relu"), L.Dense(6)]
        self.dropout = L.Dropout(0.1)

    def build(self, shape: tuple[int, ...]) -> None:
        for block in self.blocks:
            block.build(shape)
            shape = block.compute_output_shape(shape)
        self.tables = [self.add_weight(shape=(6, 5), name=f"table_{i}") for i in range(2)]
        self.built = True

    def call(self, x: Any, training: bool = False) -> Any:
        for block in self.blocks:
            x = self.dropout(block(x), training=training)
        return keras.ops.matmul(x, self.tables[0]) + keras.ops.matmul(x, self.tables[1])


def subclassed() -> Any:
    model = Subclassed(name="subclassed")
    model.build((None, 6))
    return model


NETS = {
    "dense": lambda: sequential((12,), L.Dense(16, activation="relu"), L.BatchNormalization(), L.Dense(5)),
    "conv": lambda: sequential((8, 8, 2), L.Conv2D(8, 3), L.Conv2DTranspose(4, 3, strides=2), L.Flatten()),
    "conv1d": lambda: sequential((9, 3), L.Conv1D(8, 3), L.GlobalAveragePooling1D()),
    "depthwise": lambda: sequential((8, 8, 4), L.DepthwiseConv2D(3), L.SeparableConv2D(8, 3), L.Flatten()),
    "embedding": lambda: keras.Sequential([keras.Input((6,), dtype="int32"), L.Embedding(20, 8), L.Flatten()]),
    "einsum": lambda: sequential((5, 8), L.EinsumDense("abc,cde->abde", (None, 2, 4), bias_axes="de"), L.Flatten()),
    "attention": attention,
    "lstm": lambda: sequential((6, 4), L.LSTM(8)),
    "gru": lambda: sequential((6, 4), L.GRU(8, return_sequences=True), L.SimpleRNN(4)),
    "bidirectional": lambda: sequential((6, 4), L.Bidirectional(L.LSTM(4))),
    "several": several,
    "subclassed": subclassed,
}
# what is chosen of each when nothing is said, by rank and number of elements
CHOSEN = {
    "dense": [12 * 16, 16 * 5],
    "conv": [9 * 2 * 8, 9 * 8 * 4],
    "conv1d": [3 * 3 * 8],
    "depthwise": [4 * 8],
    "embedding": [20 * 8],
    "einsum": [8 * 8],
    "attention": [8 * 8] * 4,
    "lstm": [4 * 32, 8 * 32],
    "gru": [4 * 24, 8 * 24, 8 * 4, 4 * 4],
    "bidirectional": [4 * 16, 4 * 16] * 2,
    "several": [6 * 8, 16 * 4],
    "subclassed": [30, 30, 6 * 8, 8 * 6],
}


def net(name: str) -> Any:
    keras.utils.set_random_seed(3)
    return NETS[name]()


def data(model: Any) -> tuple[Any, np.ndarray]:
    """Anything that the model takes, and anything that it gives."""
    random = np.random.default_rng(0)

    def array(t: Any) -> np.ndarray:
        shape = (COUNT, *t.shape[1:])
        return random.integers(0, 20, shape) if "int" in t.dtype else random.normal(size=shape).astype(np.float32)

    if not getattr(model, "inputs", None):
        x: Any = random.normal(size=(COUNT, 6)).astype(np.float32)
    elif len(model.inputs) > 1:
        x = {t.name: array(t) for t in model.inputs}
    else:
        x = array(model.inputs[0])
    made = model.predict(x, verbose=0)
    return x, random.normal(size=made.shape).astype(np.float32)


def compiled(model: Any, rate: float = 1e-2) -> Any:
    model.compile(keras.optimizers.Adam(rate), "mse")
    return model


def fitted(model: Any, given: tuple[Any, np.ndarray], epochs: int = 1, **options: Any) -> Any:
    """The model after `epochs * COUNT / BATCH` steps."""
    compiled(model).fit(*given, batch_size=BATCH, epochs=epochs, verbose=0, **options)
    return model


def predicted(model: Any, x: Any) -> np.ndarray:
    return np.asarray(model.predict(x, verbose=0))
