"""Small models of Keras in the shapes that people train."""

from __future__ import annotations

import keras
import numpy as np

L, ops = keras.layers, keras.ops
SIZE, HEADS, WORDS, PLACES = 16, 2, 23, 12


def encoder(x, mask=None):
    attend = L.MultiHeadAttention(HEADS, SIZE // HEADS)
    x = L.LayerNormalization()(x + attend(x, x, attention_mask=mask))
    return L.LayerNormalization()(x + L.Dense(SIZE)(L.Dense(2 * SIZE, activation="gelu")(x)))


class Places(L.Layer):
    """A vector for each place, added."""

    def build(self, shape):
        self.table = self.add_weight(shape=(PLACES, SIZE), name="table")

    def call(self, x):
        return x + ops.take(self.table, ops.arange(ops.shape(x)[1]), axis=0)

    def compute_output_shape(self, shape):
        return shape


def bert():
    ids, mask, segments = (L.Input((None,), dtype="int32", name=name) for name in ("ids", "mask", "segments"))
    x = Places()(L.Embedding(WORDS, SIZE)(ids)) + L.Embedding(2, SIZE)(segments)
    x = L.LayerNormalization()(x)
    allowed = ops.expand_dims(mask, 1)
    for _ in range(2):
        x = encoder(x, allowed)
    return keras.Model([ids, mask, segments], [x, L.Dense(SIZE, activation="tanh")(x[:, 0])])


def conformer():
    x = start = L.Input((9, SIZE))

    def feed(x):
        y = L.Dense(2 * SIZE, activation="silu")(L.LayerNormalization()(x))
        return x + 0.5 * L.Dense(SIZE)(y)

    x = feed(x)
    y = L.LayerNormalization()(x)
    x = x + L.MultiHeadAttention(HEADS, SIZE // HEADS)(y, y)
    y, gate = ops.split(L.Conv1D(2 * SIZE, 1)(L.LayerNormalization()(x)), 2, -1)
    y = L.DepthwiseConv1D(7, padding="same")(y * ops.sigmoid(gate))
    y = L.Activation("silu")(L.BatchNormalization()(y))
    x = feed(x + L.Conv1D(SIZE, 1)(y))
    return keras.Model(start, L.LayerNormalization()(x))


class Mel(L.Layer):
    """The logarithm of mel bands of a sound: [batch, frames, bands, 1]"""

    def __init__(self, frame=64, bands=10, **options):
        super().__init__(**options)
        self.frame = frame
        self.bands = np.random.default_rng(0).uniform(size=(frame // 2 + 1, bands)).astype(np.float32)

    def call(self, sound):
        real, imaginary = ops.stft(sound, self.frame, self.frame // 2, self.frame)
        return ops.expand_dims(ops.log(ops.matmul(real**2 + imaginary**2, self.bands) + 1e-3), -1)


def conv(x, filters, size=3, strides=1):
    x = L.Conv2D(filters, size, strides, padding="same", use_bias=False)(x)
    return L.ReLU()(L.BatchNormalization()(x))


def audio_net():
    sound = L.Input((512,))
    x = conv(Mel()(sound), 8, strides=2)
    for filters, strides in ((12, 1), (16, 2)):
        x = L.ReLU()(L.BatchNormalization()(L.DepthwiseConv2D(3, strides, padding="same", use_bias=False)(x)))
        x = conv(x, filters, 1)
    return keras.Model(sound, L.Dense(4, activation="softmax")(L.GlobalAveragePooling2D()(x)))


def u_net():
    x = start = L.Input((16, 16, 3))
    kept = []
    for filters in (8, 12):
        x = conv(x, filters)
        kept.append(x)
        x = L.MaxPooling2D()(x)
    x = conv(x, 16)
    for filters in (12, 8):
        x = L.Conv2DTranspose(filters, 2, 2)(x)
        x = conv(L.Concatenate()([x, kept.pop()]), filters)
    return keras.Model(start, L.Conv2D(2, 1)(x))


WORD = ("batch", "time")
# name: the model, and what it does not say about its inputs
MODELS = {
    "bert": (bert, {"ids": WORD, "mask": WORD, "segments": WORD}),
    "conformer": (conformer, None),
    "audio net": (audio_net, None),
    "u-net": (u_net, None),
}
