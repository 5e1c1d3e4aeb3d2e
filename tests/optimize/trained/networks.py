"""Small networks that are trained here, so that what is lost when they are made smaller is counted in right answers.

    trained = network("digits")
    trained.model                                       # a Keras 3 model, to be trained further or wrapped
    trained.converted(batch=50)                         # a lithe.Model of float32
    accuracy(lithe.quantize(trained.converted(50), trained.samples(50)), *trained.test)

Training is seeded and takes seconds. Weights are kept in the folder of pytest's cache, under what this file and Keras
are, so that other processes and later runs find them.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lithe
from lithe.formats import tflite

keras = pytest.importorskip("keras", reason="Keras is not installed")
L = keras.layers

CACHE = Path(__file__).resolve().parents[3] / ".pytest_cache" / "trained"
Data = tuple[np.ndarray, np.ndarray]  # what a model is given, and the numbers of the right answers
BATCH = 100  # of evaluation; every test set is a multiple of it


@dataclass(frozen=True)
class Trained:
    """A network, what it was trained on, what it has not seen, and how much of the latter it gets right (0 to 1)."""

    name: str
    model: Any
    train: Data
    test: Data
    accuracy: float

    def converted(self, batch: int = 1) -> lithe.Model:
        """The network as a float model for that many examples at a time."""
        return lithe.convert(self.model, inputs={"x": (batch, *self.train[0].shape[1:])})

    def samples(self, batch: int = 1, count: int = 200) -> Iterator[np.ndarray]:
        """The first `count` training examples, as the converted model takes them."""
        for i in range(0, count, batch):
            yield self.train[0][i : i + batch]


# data


@functools.cache
def pictures() -> tuple[Data, Data]:
    """Handwritten digits of scikit-learn as 16 x 16 pixels, moved by up to one, brighter or darker, with noise."""
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    images, labels = datasets.load_digits(return_X_y=True)
    random = np.random.default_rng(0)
    order = random.permutation(len(labels))
    images, labels = images.reshape(-1, 8, 8)[order] / 16, labels[order]
    return _moved(images[:-700], labels[:-700], 4, random), _moved(images[-700:], labels[-700:], 4, random)


def _moved(images: np.ndarray, labels: np.ndarray, times: int, random: np.random.Generator) -> Data:
    images, labels = np.tile(images, (times, 1, 1)).repeat(2, 1).repeat(2, 2), np.tile(labels, times)
    moves = random.integers(-1, 2, (len(images), 2))
    moved = np.stack([np.roll(i, m, (0, 1)) for i, m in zip(images, moves, strict=True)])
    moved = moved * random.uniform(0.8, 1.2, (len(moved), 1, 1)) + random.normal(0, 0.04, moved.shape)
    return moved[..., None].astype(np.float32), labels.astype(np.int32)


WORDS, FRAMES, BANDS = 10, 24, 16


@functools.cache
def words() -> tuple[Data, Data]:
    """Ten words as energies in bands over time: each is two formants that glide in two parts, said at any time, at any
    speed, in noise."""
    random = np.random.default_rng(1)
    glides = random.uniform(1, BANDS - 2, (WORDS, 2, 3))  # word, formant, beginning, middle and end
    return _said(glides, 4000, random), _said(glides, 4000, random)


def _said(glides: np.ndarray, count: int, random: np.random.Generator) -> Data:
    labels = random.integers(0, len(glides), count)
    length = random.uniform(12, 20, (count, 1))
    start = random.uniform(0, 1, (count, 1)) * (FRAMES - length)
    time = (np.arange(FRAMES) - start) / length  # example, frame: 0 to 1 while the word is said
    energy = np.zeros((count, FRAMES, BANDS))
    for formant in range(glides.shape[1]):
        first, middle, last = (glides[labels, formant, part][:, None] for part in range(3))
        part = 2 * time
        centre = np.where(part < 1, first + (middle - first) * part, middle + (last - middle) * (part - 1))
        centre = centre + random.normal(0, 0.5, (count, 1))
        energy += np.exp(-0.5 * ((np.arange(BANDS) - centre[..., None]) / 1.2) ** 2) * (1 - 0.3 * formant)
    energy *= ((time >= 0) & (time <= 1))[..., None] * random.uniform(0.5, 1.5, (count, 1, 1))
    return (energy + random.normal(0, 0.3, energy.shape)).astype(np.float32), labels.astype(np.int32)


VOCABULARY, LENGTH, TOPICS = 400, 24, 8


@functools.cache
def texts() -> tuple[Data, Data]:
    """Rows of numbers of words: some are of the text's topic, each of which has its own words, the others are any."""
    random = np.random.default_rng(2)
    own = random.permutation(VOCABULARY)[: TOPICS * 15].reshape(TOPICS, 15)
    return _written(own, 6000, random), _written(own, 4000, random)


def _written(own: np.ndarray, count: int, random: np.random.Generator) -> Data:
    labels = random.integers(0, len(own), count)
    anything = random.integers(0, VOCABULARY, (count, LENGTH))
    topical = own[labels[:, None], random.integers(0, own.shape[1], (count, LENGTH))]
    return np.where(random.random((count, LENGTH)) < 0.3, topical, anything).astype(np.int32), labels.astype(np.int32)


# networks: each ends in a probability for each answer


def _sequence(shape: tuple[int, ...], *layers: Any, dtype: str = "float32") -> Any:
    x = keras.Input(shape, name="x", dtype=dtype)
    y = x
    for layer in layers:
        y = layer(y)
    return keras.Model(x, y)


def _digits() -> Any:
    """Two convolutions with maxima between, and a dense layer."""
    return _sequence(
        (16, 16, 1),
        L.Conv2D(12, 3, padding="same", activation="relu"),
        L.MaxPooling2D(2),
        L.Conv2D(24, 3, padding="same", activation="relu"),
        L.MaxPooling2D(2),
        L.Flatten(),
        L.Dropout(0.3),
        L.Dense(32, activation="relu"),
        L.Dense(10, activation="softmax"),
    )


def _wide() -> Any:
    """Two convolutions, and a dense layer that has most of the weights."""
    return _sequence(
        (16, 16, 1),
        L.Conv2D(12, 3, padding="same", activation="relu"),
        L.MaxPooling2D(2),
        L.Conv2D(24, 3, padding="same", activation="relu"),
        L.MaxPooling2D(2),
        L.Flatten(),
        L.Dropout(0.3),
        L.Dense(256, activation="relu"),
        L.Dropout(0.3),
        L.Dense(10, activation="softmax"),
    )


def _depthwise() -> Any:
    """Depthwise and pointwise convolutions by turns, each with a batch normalization and a ReLU6."""

    def normalized(layer: Any) -> tuple[Any, ...]:
        return layer, L.BatchNormalization(momentum=0.9), L.ReLU(6)

    return _sequence(
        (16, 16, 1),
        *normalized(L.Conv2D(16, 3, 2, padding="same", use_bias=False)),
        *normalized(L.DepthwiseConv2D(3, padding="same", use_bias=False)),
        *normalized(L.Conv2D(32, 1, use_bias=False)),
        *normalized(L.DepthwiseConv2D(3, 2, padding="same", use_bias=False)),
        *normalized(L.Conv2D(64, 1, use_bias=False)),
        L.AveragePooling2D(2),
        L.Flatten(),
        L.Dropout(0.3),
        L.Dense(10, activation="softmax"),
    )


def _recurrent(layer: Callable[[], Any]) -> Callable[[], Any]:
    return lambda: _sequence((FRAMES, BANDS), layer(), L.Dense(WORDS, activation="softmax"))


def _text() -> Any:
    """The mean of what the words mean, and two dense layers."""
    return _sequence(
        (LENGTH,),
        L.Embedding(VOCABULARY, 24),
        L.GlobalAveragePooling1D(),
        L.Dense(32, activation="relu"),
        L.Dense(TOPICS, activation="softmax"),
        dtype="int32",
    )


def _transformer() -> Any:
    """One block: attention of two heads and two dense layers, each added to what it was given and normalized."""
    x = keras.Input((LENGTH,), name="x", dtype="int32")
    y = L.Embedding(VOCABULARY, 32)(x)
    y = L.LayerNormalization()(y + L.MultiHeadAttention(2, 16)(y, y))
    y = L.LayerNormalization()(y + L.Dense(32)(L.Dense(64, activation="relu")(y)))
    return keras.Model(x, L.Dense(TOPICS, activation="softmax")(L.GlobalAveragePooling1D()(y)))


@dataclass(frozen=True)
class Network:
    build: Callable[[], Any]
    data: Callable[[], tuple[Data, Data]]
    epochs: int


NETWORKS = {
    "digits": Network(_digits, pictures, 10),
    "wide": Network(_wide, pictures, 8),
    "depthwise": Network(_depthwise, pictures, 10),
    "lstm": Network(_recurrent(lambda: L.LSTM(32)), words, 12),
    "gru": Network(_recurrent(lambda: L.GRU(32)), words, 12),
    "bidirectional": Network(_recurrent(lambda: L.Bidirectional(L.LSTM(20))), words, 10),
    "text": Network(_text, texts, 15),
    "transformer": Network(_transformer, texts, 6),
}
FEED_FORWARD = ("digits", "depthwise", "text", "transformer")
RECURRENT = ("lstm", "gru", "bidirectional")


@functools.cache
def network(name: str) -> Trained:
    """The trained network of this name, one of `NETWORKS`. The model is the caller's to read; clone it to change it."""
    described = NETWORKS[name]
    train, test = described.data()
    keras.utils.set_random_seed(7)
    model = described.build()
    file = CACHE / _version() / f"{name}.npz"
    if file.exists():
        with np.load(file) as kept:
            model.set_weights([kept[key] for key in kept.files])
    else:
        steps = described.epochs * (len(train[0]) // 64 + 1)
        rate = keras.optimizers.schedules.CosineDecay(4e-3, steps, alpha=0.02)
        model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
        model.fit(*train, batch_size=64, epochs=described.epochs, verbose=0)
        _keep(file, [np.asarray(variable.value) for variable in model.weights])
    right = np.argmax(model.predict(test[0], batch_size=500, verbose=0), -1) == test[1]
    return Trained(name, model, train, test, float(right.mean()))


def _version() -> str:
    text = f"{keras.__version__} {keras.backend.backend()} {Path(__file__).read_text()}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _keep(file: Path, weights: list[np.ndarray]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(f".{os.getpid()}.npz")
    np.savez(partial, *weights)
    os.replace(partial, file)


# evaluation


def accuracy(model: lithe.Model | bytes, x: np.ndarray, y: np.ndarray, runtime: str = "lithe") -> float:
    """The share of right answers, 0 to 1, of a model of one input and one output, here or in the "official" runtime.

    The model is run on as many examples at a time as its input holds. What it keeps between runs is reset before each.
    Integer inputs are given the integers that stand for x.
    """
    loaded = lithe.load(model, cache=False) if isinstance(model, bytes) else model
    ((_, info),) = loaded.inputs.items()
    batch = info.shape[0]
    run = _official(tflite.write(loaded.module)) if runtime == "official" else None
    right = 0
    for i in range(0, len(x), batch):
        given = x[i : i + batch]
        missing = batch - len(given)
        if missing:
            given = np.concatenate([given, given[:1].repeat(missing, 0)])
        if given.dtype != info.dtype:
            given = info.quantize(given)
        if run is None:
            loaded.reset()
        made = loaded(given) if run is None else run(given)
        right += int((np.argmax(made, -1)[: batch - missing] == y[i : i + batch]).sum())
    return right / len(x)


def _official(content: bytes) -> Callable[[np.ndarray], np.ndarray]:
    official = pytest.importorskip("ai_edge_litert.interpreter", reason="the official runtime is not installed")
    interpreter = official.Interpreter(model_content=content)
    interpreter.allocate_tensors()
    (given,), (made,) = interpreter.get_input_details(), interpreter.get_output_details()

    def run(x: np.ndarray) -> np.ndarray:
        interpreter.reset_all_variables()
        interpreter.set_tensor(given["index"], x)
        interpreter.invoke()
        return interpreter.get_tensor(made["index"])

    return run
