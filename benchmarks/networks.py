"""Keras networks whose conversion is measured: architectures at full size, and small ones for each kind of layer.

Weights are drawn with a seed, in the order in which they are made, so that the same network on another backend has
the same ones. Batch normalizations have scales, offsets and statistics like trained ones; fresh ones add zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest import mock

import numpy as np

SEED, STEPS, WIDTH, WORDS = 20, 24, 64, 2000


@dataclass(frozen=True)
class Network:
    """build: makes it. steps: of its recurrent layers, which a loop in a file goes through. timed: at full size."""

    build: Callable[[], Any]
    steps: int = 1
    timed: bool = False


def drawn(rng: np.random.Generator, shape: tuple[int, ...], name: str) -> np.ndarray:
    """Weights of a variable of this name."""
    if "variance" in name or "gamma" in name or "scale" in name:
        return rng.uniform(0.6, 1.4, shape).astype(np.float32)
    if len(shape) < 2:
        return rng.normal(0, 0.1, shape).astype(np.float32)
    inputs = shape[-2] if len(shape) == 2 else int(np.prod(shape[:-1]))
    if "depthwise" in name:
        inputs = int(np.prod(shape[:-2]))
    return (rng.standard_normal(shape, np.float32) * np.float32(1.4 * inputs**-0.5)).astype(np.float32)


@contextmanager
def drawn_weights() -> Iterator[None]:
    """Layers that are built inside have weights from `drawn`; the framework's own random numbers take much longer."""
    import keras

    original, rng = keras.layers.Layer.add_weight, np.random.default_rng(SEED)

    def add_weight(self: Any, shape: Any = None, initializer: Any = None, dtype: Any = None, **options: Any) -> Any:
        wanted = str(dtype or self.variable_dtype)

        def draw(shape: Any, dtype: Any = None) -> Any:
            return keras.ops.convert_to_tensor(drawn(rng, tuple(shape), options.get("name") or ""), dtype=wanted)

        chosen = draw if wanted == "float32" else initializer
        return original(self, shape=shape, initializer=chosen, dtype=dtype, **options)

    with mock.patch.object(keras.layers.Layer, "add_weight", add_weight):
        yield


def application(name: str, **options: Any) -> Any:
    import keras

    return getattr(keras.applications, name)(weights=None, **options)


def chain(shape: tuple[int | None, ...], layers: Callable[[Any], list[Any]], batch: int | None = None,
          dtype: str = "float32") -> Any:  # fmt: skip
    """Layers one after the other; `layers` is given keras.layers."""
    import keras

    return keras.Sequential([keras.Input(shape, batch_size=batch, dtype=dtype), *layers(keras.layers)])


def series(layers: Callable[[Any], list[Any]]) -> Network:
    """Layers over one sequence, and classes."""
    return Network(partial(chain, (STEPS, WIDTH), lambda k: [*layers(k), k.Dense(10, "softmax")], 1), STEPS)


def picture(layers: Callable[[Any], list[Any]], size: int = 64) -> Network:
    return Network(partial(chain, (size, size, 16), layers))


def words(layers: Callable[[Any], list[Any]]) -> Network:
    """Layers over one sentence: word numbers."""
    start = partial(chain, (STEPS,), lambda k: [k.Embedding(WORDS, WIDTH), *layers(k)], 1, "int32")
    return Network(start, STEPS)


def u_net() -> Any:
    """Two levels down and up again, each with two convolutions. Source: arXiv 1505.04597, smaller."""
    import keras

    k = keras.layers

    def twice(x: Any, channels: int) -> Any:
        for _ in range(2):
            x = k.Conv2D(channels, 3, padding="same", use_bias=False)(x)
            x = k.ReLU()(k.BatchNormalization()(x))
        return x

    start = keras.Input((96, 96, 3))
    first = twice(start, 16)
    second = twice(k.MaxPooling2D()(first), 32)
    low = twice(k.MaxPooling2D()(second), 64)
    up = twice(k.Concatenate()([k.Conv2DTranspose(32, 2, 2)(low), second]), 32)
    up = twice(k.Concatenate()([k.UpSampling2D(interpolation="bilinear")(up), first]), 16)
    return keras.Model(start, k.Conv2D(1, 1, activation="sigmoid")(up))


def transformer() -> Any:
    """Two blocks of attention and dense layers over words."""
    import keras

    k = keras.layers
    start = keras.Input((STEPS,), batch_size=1, dtype="int32")
    x = k.Embedding(WORDS, WIDTH)(start)
    for _ in range(2):
        y = k.LayerNormalization()(x)
        x = k.Add()([x, k.MultiHeadAttention(4, WIDTH // 4)(y, y)])
        y = k.Dense(4 * WIDTH, "gelu")(k.LayerNormalization()(x))
        x = k.Add()([x, k.Dense(WIDTH)(y)])
    return keras.Model(start, k.Dense(10, "softmax")(k.GlobalAveragePooling1D()(x)))


def attention() -> Any:
    """Dot-product attention of a sequence to another one."""
    import keras

    query, value = keras.Input((STEPS, WIDTH)), keras.Input((2 * STEPS, WIDTH))
    return keras.Model([query, value], keras.layers.Attention()([query, value]))


def squeeze() -> Any:
    """A block with squeeze and excitation."""
    import keras

    k = keras.layers
    start = keras.Input((32, 32, 32))
    x = k.DepthwiseConv2D(3, 2, padding="same")(start)
    gate = k.GlobalAveragePooling2D(keepdims=True)(x)
    gate = k.Conv2D(32, 1, activation="sigmoid")(k.Conv2D(8, 1, activation="swish")(gate))
    return keras.Model(start, k.Conv2D(16, 1)(k.Multiply()([x, gate])))


FULL_SIZE = {
    "mobilenet_v2": Network(partial(application, "MobileNetV2"), timed=True),
    "efficientnet_b0": Network(partial(application, "EfficientNetB0"), timed=True),
    "resnet50": Network(partial(application, "ResNet50"), timed=True),
    "mobilenet_v3_small": Network(partial(application, "MobileNetV3Small", input_shape=(224, 224, 3)), timed=True),
    "inception_v3": Network(partial(application, "InceptionV3"), timed=True),
    "convnext_tiny": Network(partial(application, "ConvNeXtTiny"), timed=True),
}
MORE = {  # with --all
    "densenet121": Network(partial(application, "DenseNet121"), timed=True),
    "xception": Network(partial(application, "Xception"), timed=True),
    "efficientnet_v2_b0": Network(partial(application, "EfficientNetV2B0"), timed=True),
    "nasnet_mobile": Network(partial(application, "NASNetMobile"), timed=True),
    "mobilenet_v1": Network(partial(application, "MobileNet"), timed=True),
    "resnet50_v2": Network(partial(application, "ResNet50V2"), timed=True),
    "vgg16": Network(partial(application, "VGG16"), timed=True),
}
SMALL = {
    "dense": Network(partial(chain, (256,), lambda k: [k.Dense(256, "relu"), k.BatchNormalization(), k.Dense(10)])),
    "dense_series": series(lambda k: [k.Dense(64, "tanh"), k.Dropout(0.5), k.Dense(32, "gelu")]),
    "conv1d": series(lambda k: [k.Conv1D(64, 3, padding="same", activation="relu"), k.MaxPooling1D(),
                                k.Conv1D(64, 3, dilation_rate=2), k.BatchNormalization(), k.ReLU(),
                                k.GlobalAveragePooling1D()]),
    "conv1d_causal": series(lambda k: [k.Conv1D(64, 3, padding="causal", activation="relu"),
                                       k.SeparableConv1D(64, 3), k.GlobalMaxPooling1D()]),
    "depthwise1d": series(lambda k: [k.DepthwiseConv1D(3, padding="same"), k.Conv1D(32, 1), k.Flatten()]),
    "conv1d_transposed": series(lambda k: [k.Conv1DTranspose(32, 4, 2, padding="same", activation="relu")]),
    "separable": picture(lambda k: [k.SeparableConv2D(32, 3, padding="same", activation="relu"),
                                    k.BatchNormalization(), k.SeparableConv2D(64, 3, 2), k.ReLU(6.0),
                                    k.GlobalAveragePooling2D(), k.Dense(10, "softmax")]),
    "transposed": picture(lambda k: [k.Conv2DTranspose(32, 3, 2, padding="same", activation="relu"),
                                     k.Conv2DTranspose(16, 2, 2), k.BatchNormalization(), k.LeakyReLU()]),
    "dilated": picture(lambda k: [k.Conv2D(32, 3, padding="same", dilation_rate=2, activation="relu"),
                                  k.DepthwiseConv2D(3, padding="same", dilation_rate=2), k.AveragePooling2D(2),
                                  k.Flatten(), k.Dense(10)]),
    "padded": picture(lambda k: [k.ZeroPadding2D(1), k.Conv2D(32, 3, 2), k.PReLU(shared_axes=[1, 2]),
                                 k.ZeroPadding2D(((0, 1), (0, 1))), k.DepthwiseConv2D(3, 2), k.ELU(),
                                 k.Cropping2D(2), k.AveragePooling2D(3, 2, "same"), k.Reshape((-1, 32))]),
    "conv3d": Network(partial(chain, (8, 16, 16, 4), lambda k: [k.Conv3D(8, 3, activation="relu"),
                                                               k.GlobalAveragePooling3D(), k.Dense(4)])),
    "squeeze_and_excitation": Network(squeeze),
    "layer_normalization": series(lambda k: [k.LayerNormalization(), k.Dense(64), k.LayerNormalization(epsilon=1e-6)]),
    "rms_normalization": series(lambda k: [k.RMSNormalization(), k.Dense(64)]),
    "group_normalization": picture(lambda k: [k.GroupNormalization(4), k.Conv2D(32, 1), k.ReLU()]),
    "unit_normalization": series(lambda k: [k.UnitNormalization(), k.Dense(64)]),
    "activations": series(lambda k: [k.Dense(64, a) for a in ("relu6", "swish", "hard_sigmoid", "hard_swish", "elu",
                                                             "softplus", "selu", "mish", "leaky_relu")]),
    "u_net": Network(u_net),
    "embedding": words(lambda k: [k.GlobalAveragePooling1D(), k.Dense(10, "softmax")]),
    "attention": Network(attention),
    "transformer": Network(transformer, STEPS),
    "lstm": series(lambda k: [k.LSTM(WIDTH)]),
    "lstm_stacked": words(lambda k: [k.LSTM(WIDTH, return_sequences=True), k.LSTM(WIDTH)]),
    "lstm_bidirectional": series(lambda k: [k.Bidirectional(k.LSTM(32))]),
    "gru": series(lambda k: [k.GRU(WIDTH)]),
    "gru_bidirectional": series(lambda k: [k.Bidirectional(k.GRU(32, return_sequences=True))]),
    "simple_rnn": series(lambda k: [k.SimpleRNN(WIDTH)]),
    "time_distributed": Network(partial(chain, (4, 32, 32, 3), lambda k: [
        k.TimeDistributed(k.Conv2D(8, 3, 2, activation="relu")), k.TimeDistributed(k.GlobalAveragePooling2D()),
        k.LSTM(16), k.Dense(4)], 1), 4),
}  # fmt: skip
NETWORKS = {**FULL_SIZE, **MORE, **SMALL}


def build(name: str) -> Any:
    """The network of this name, with its weights, on the backend that Keras has."""
    with drawn_weights():
        return NETWORKS[name].build()


def weight_bytes(model: Any) -> int:
    return sum(4 * int(np.prod(w.shape)) for w in model.weights)
