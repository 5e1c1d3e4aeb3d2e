"""Full-size models to measure with, made on this machine: known architectures with seeded random weights.

    python benchmarks/make_models.py [FOLDER] [--only NAME ...] [--list]

Needs TensorFlow and its Keras 2 (pip install tensorflow tf_keras), best in an environment of their own. Each
architecture is built by Keras, given random weights, and converted by TensorFlow's own converter, so the files
look like those that people have; only the answers mean nothing. Files that are there already are kept.

Random weights must neither kill activations nor let them explode. The convolutional networks get that from their
batch normalizations: scales and offsets are drawn at random, and the statistics are those of a batch of pictures.
Pictures are noise with the spectrum of photographs (amplitude falls with frequency). The encoders normalize as they go.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")  # Keras 3 writes its recurrent layers as loops

SEED = 20
CALIBRATION = 24  # samples that the ranges of integer models are taken from
BATCH = 8  # pictures that the statistics are taken from
ZEROS = 0.85  # of the weights of a pruned model
SPREAD = 3.0  # standard deviation of logarithms of probabilities
STEPS, FEATURES, UNITS = 32, 64, 128
TOKENS, WORDS = 128, 30522
FOLDER = Path(__file__).resolve().parent / "models"


@dataclass(frozen=True)
class Recipe:
    """One architecture. `build` makes the network, `samples` draws its inputs, `schemes` are the files made of it."""

    build: Callable[[], Any]
    samples: Callable[[], Iterator[np.ndarray]]
    schemes: tuple[str, ...]


def pictures(size: int, low: float, high: float) -> Iterator[np.ndarray]:
    """Pictures float32[1, size, size, 3] with values in low..high; the amplitude falls as 1 / frequency."""
    rng = np.random.default_rng(SEED)
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)[None, :])
    fall = 1 / np.maximum(frequency, 1 / size)
    while True:
        spectrum = np.fft.fft2(rng.standard_normal((3, size, size))) * fall
        grey, colours = np.fft.ifft2(spectrum).real.mean(0), np.fft.ifft2(spectrum).real
        mixed = 0.8 * grey * 3**0.5 + 0.2 * colours  # channels of a photograph are nearly the same
        mixed = (mixed - mixed.mean()) / mixed.std() * rng.uniform(0.3, 0.7) + rng.uniform(-0.3, 0.3)
        unit = np.clip((mixed + 1) / 2, 0, 1).transpose(1, 2, 0)
        yield (low + (high - low) * unit)[None].astype(np.float32)


def series() -> Iterator[np.ndarray]:
    """float32[1, STEPS, FEATURES]: walks, as features of sound or sensors are."""
    rng = np.random.default_rng(SEED)
    while True:
        walk = np.cumsum(rng.standard_normal((1, STEPS, FEATURES)), axis=1) * 0.3
        yield np.clip(walk, -3, 3).astype(np.float32)


def sentences() -> Iterator[np.ndarray]:
    """int32[1, TOKENS]: word numbers, frequent ones more often."""
    rng = np.random.default_rng(SEED)
    while True:
        yield np.minimum(rng.zipf(1.3, (1, TOKENS)), WORDS - 1).astype(np.int32)


def application(name: str, size: int, low: float, high: float, zeros: float = 0.0, **options: Any) -> Any:
    """A network of keras.applications with random weights and the statistics of pictures."""
    import tf_keras

    model = getattr(tf_keras.applications, name)(input_shape=(size, size, 3), weights=None, **options)
    rng = np.random.default_rng(SEED)
    normalizations = [m for m in model.layers if isinstance(m, tf_keras.layers.BatchNormalization)]
    for layer in normalizations:
        weights = layer.get_weights()
        first = [rng.uniform(0.6, 1.4, weights[0].shape)] if layer.scale else []
        layer.set_weights([*first, rng.normal(0, 0.2, weights[-1].shape), *weights[-2:]])
        layer.momentum = 0.0  # the statistics become those of the one batch below
    if zeros:
        prune(model, zeros)
    for layer in model.layers:
        if isinstance(layer, tf_keras.layers.Dropout):
            layer.rate = 0.0
    source = pictures(size, low, high)
    model(np.concatenate([next(source) for _ in range(BATCH)]), training=True)
    return model


def prune(model: Any, zeros: float) -> None:
    """Sets the smallest weights to zero, of the last layer and of convolutions, less the first and the depthwise."""
    import tf_keras

    kinds = (tf_keras.layers.Conv2D, tf_keras.layers.Dense)
    layers = [m for m in model.layers if isinstance(m, kinds) and not isinstance(m, tf_keras.layers.DepthwiseConv2D)]
    for layer in layers[1:]:
        kernel, *rest = layer.get_weights()
        kernel[np.abs(kernel) < np.quantile(np.abs(kernel), zeros)] = 0
        layer.set_weights([kernel, *rest])


def sharpen(model: Any, source: Iterator[np.ndarray]) -> None:
    """Scales the last layer of a classifier, so that probabilities differ enough to be told apart in 8 bits."""
    answers = np.concatenate([model(next(source)) for _ in range(BATCH)])
    if not np.allclose(answers.sum(axis=-1), 1, atol=1e-3):
        return
    last = next(layer for layer in reversed(model.layers) if layer.get_weights())
    spread = np.log(np.maximum(answers, 1e-30)).std(axis=-1).mean()
    last.set_weights([w * SPREAD / spread for w in last.get_weights()])


def recurrent(kind: str) -> Any:
    """Two layers of UNITS over a series, and ten classes."""
    import tf_keras

    layer = getattr(tf_keras.layers, kind)
    return tf_keras.Sequential(
        [
            tf_keras.Input((STEPS, FEATURES), batch_size=1),
            layer(UNITS, return_sequences=True),
            layer(UNITS),
            tf_keras.layers.Dense(10, activation="softmax"),
        ]
    )


def attention(x: Any, heads: int, size: int) -> Any:
    """Self-attention over [1, tokens, width] with `heads` heads of `size` numbers."""
    import tensorflow as tf
    import tf_keras

    tokens, width = x.shape[1], x.shape[2]

    def split(name: str) -> Any:
        y = tf_keras.layers.Dense(heads * size, name=f"{name}_{tf_keras.backend.get_uid(name)}")(x)
        return tf.transpose(tf.reshape(y, (-1, tokens, heads, size)), (0, 2, 1, 3))

    query, key, value = split("query"), split("key"), split("value")
    weights = tf.nn.softmax(tf.matmul(query, key, transpose_b=True) * size**-0.5)
    mixed = tf.reshape(tf.transpose(tf.matmul(weights, value), (0, 2, 1, 3)), (-1, tokens, heads * size))
    return tf_keras.layers.Dense(width)(mixed)


def vision_transformer() -> Any:
    """ViT-Ti/16 at 224: 12 layers of 192, 3 heads, GELU. Source: arXiv 2012.12877, table 1 (DeiT-Ti)."""
    import tensorflow as tf
    import tf_keras

    layers = tf_keras.layers
    picture = tf_keras.Input((224, 224, 3), batch_size=1)
    patches = layers.Conv2D(192, 16, 16)(picture)
    x = layers.Reshape((196, 192))(patches)
    x = tf.pad(x, ((0, 0), (1, 0), (0, 0)))  # the class token; its place below makes it differ from zero
    place = layers.Embedding(197, 192, embeddings_initializer="glorot_uniform")(tf.range(197)[None])
    x = x + place
    for _ in range(12):
        x = x + attention(layers.LayerNormalization(epsilon=1e-6)(x), 3, 64)
        y = layers.Dense(768)(layers.LayerNormalization(epsilon=1e-6)(x))
        x = x + layers.Dense(192)(tf.nn.gelu(y, approximate=True))
    x = layers.LayerNormalization(epsilon=1e-6)(x)[:, 0]
    return tf_keras.Model(picture, layers.Dense(1000, activation="softmax")(x))


def mobile_bert() -> Any:
    """MobileBERT cut to 4 layers: width 512, bottleneck 128, 4 heads, 4 stacked feed-forward networks.

    Source: arXiv 2004.02984, table 1, with its layer normalization (the variant before NoNorm) and GELU.
    """
    import tensorflow as tf
    import tf_keras

    layers = tf_keras.layers
    words = tf_keras.Input((TOKENS,), batch_size=1, dtype="int32")
    x = layers.Embedding(WORDS, 128)(words)
    x = layers.Dense(512)(x) + layers.Embedding(TOKENS, 512)(tf.range(TOKENS)[None])
    x = layers.LayerNormalization()(x)
    for _ in range(4):
        narrow = layers.LayerNormalization()(layers.Dense(128)(x))
        narrow = layers.LayerNormalization()(narrow + attention(narrow, 4, 32))
        for _ in range(4):
            inner = tf.nn.gelu(layers.Dense(512)(narrow), approximate=True)
            narrow = layers.LayerNormalization()(narrow + layers.Dense(128)(inner))
        x = layers.LayerNormalization()(x + layers.Dense(512)(narrow))
    return tf_keras.Model(words, layers.Dense(2)(x))


SCHEMES = ("float32", "int8", "dynamic")
ENCODER = ("float32", "dynamic", "int4")
UNIT, BYTE = (-1.0, 1.0), (0.0, 255.0)


def network(name: str, size: int, span: tuple[float, float], *more: str, zeros: float = 0.0, **options: Any) -> Recipe:
    build = partial(application, name, size, *span, zeros, **options)
    return Recipe(build, partial(pictures, size, *span), ("float32", "sparse") if zeros else (*SCHEMES, *more))


_V3 = {"include_preprocessing": False}
RECIPES = {
    "mobilenet_v2": network("MobileNetV2", 224, UNIT, "int16x8"),
    "resnet50": network("ResNet50", 224, (-120.0, 130.0)),
    "mobilenet_v3_small": network("MobileNetV3Small", 224, UNIT, **_V3),
    "efficientnet_b0": network("EfficientNetB0", 224, BYTE),
    "lstm": Recipe(partial(recurrent, "LSTM"), series, SCHEMES),
    "gru": Recipe(partial(recurrent, "GRU"), series, SCHEMES),
    "mobilenet_v1": network("MobileNet", 224, UNIT),
    "mobilenet_v3_large": network("MobileNetV3Large", 224, UNIT, **_V3),
    "mobilenet_v1_pruned": network("MobileNet", 224, UNIT, zeros=ZEROS),
    "mobilenet_v2_pruned": network("MobileNetV2", 224, UNIT, zeros=ZEROS),
    "inception_v3": network("InceptionV3", 299, UNIT),
    "vit_tiny": Recipe(vision_transformer, partial(pictures, 224, *UNIT), ENCODER),
    "mobile_bert": Recipe(mobile_bert, sentences, ENCODER),
}


def convert(model: Any, recipe: Recipe, scheme: str) -> bytes:
    """The model as a .tflite with batch 1, by TensorFlow's converter."""
    import tensorflow as tf

    sample = next(recipe.samples())
    run = tf.function(lambda x: model(x, training=False), input_signature=[tf.TensorSpec(sample.shape, sample.dtype)])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([run.get_concrete_function()], model)
    if scheme in ("int8", "int16x8", "dynamic", "int4"):
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if scheme == "sparse":
        converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
    if scheme in ("int8", "int16x8"):
        source = recipe.samples()
        converter.representative_dataset = lambda: ([next(source)] for _ in range(CALIBRATION))
        sets, number = tf.lite.OpsSet, tf.int8 if scheme == "int8" else tf.int16
        wide = sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        converter.target_spec.supported_ops = [sets.TFLITE_BUILTINS_INT8 if scheme == "int8" else wide]
        converter.inference_input_type = converter.inference_output_type = number
    content = bytes(converter.convert())
    return in_four_bits(content) if scheme == "int4" else content


def in_four_bits(content: bytes) -> bytes:
    """A dynamic-range model whose layers' weights, int8 with a scale for each output, are int4 instead.

    Needs Lithe, since TensorFlow's converter does not write such models. Pictures' convolutions stay as they are.
    """
    from lithe.formats import tflite
    from lithe.types import INT4, INT8, Quantization

    module = tflite.read(content)
    for node in module.main.nodes:
        w = node.inputs[1] if node.op.name == "FULLY_CONNECTED" else None
        if w is None or w.data is None or w.type.dtype != INT8 or w.type.quantization is None:
            continue
        real = w.data.astype(np.float32) * np.reshape(np.asarray(w.type.quantization.scale, np.float32), (-1, 1))
        scale = np.maximum(np.abs(real).max(axis=1), 1e-12) / 7
        w.data = np.clip(np.rint(real / scale[:, None]), -7, 7).astype(INT4.numpy)
        quantization = Quantization(tuple(map(float, scale)), (0,) * len(scale), 0)
        w.type = replace(w.type, dtype=INT4, quantization=quantization)
    return tflite.write(module)


def files(name: str) -> dict[str, str]:
    """scheme -> file name"""
    return {scheme: f"{name}_{scheme}.tflite" for scheme in RECIPES[name].schemes}


def make(name: str, scheme: str, path: Path) -> None:
    """Writes one file."""
    import tf_keras

    recipe = RECIPES[name]
    tf_keras.utils.set_random_seed(SEED)
    model = recipe.build()
    sharpen(model, recipe.samples())
    content = convert(model, recipe, scheme)
    path.with_suffix(".part").write_bytes(content)
    path.with_suffix(".part").rename(path)
    print(f"{path.name}  {len(content) / 1e6:.1f} MB", flush=True)


def problem_of(name: str, scheme: str, path: Path) -> str:
    """Writes one file in a process of its own, since the converter can end it; "" or why there is no file."""
    command = [sys.executable, __file__, str(path.parent), "--make", name, scheme]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode == 0:
        return ""
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    how = "crashed" if done.returncode < 0 else lines[-1][:300] if lines else "failed"
    return f"{path.name}: TensorFlow's converter: {how}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER)
    parser.add_argument("--only", nargs="+", choices=tuple(RECIPES), default=tuple(RECIPES), metavar="NAME")
    parser.add_argument("--list", action="store_true", help="print the names of the files and stop")
    parser.add_argument("--make", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    wanted = {(name, scheme): options.folder / file for name in options.only for scheme, file in files(name).items()}
    if options.list:
        print(*(path.name for path in wanted.values()), sep="\n")
        return 0
    if any(importlib.util.find_spec(module) is None for module in ("tensorflow", "tf_keras")):
        print("TensorFlow is needed to make models: pip install tensorflow tf_keras", file=sys.stderr)
        return 3
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.make:
        make(*options.make, wanted[tuple(options.make)])
        return 0
    failed = [problem_of(name, scheme, path) for (name, scheme), path in wanted.items() if not path.exists()]
    failed = [problem for problem in failed if problem]
    print(*failed, sep="\n", end="\n" if failed else "", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
