"""The debugger beside TensorFlow's: the same figures of the same debug model, whichever of both made it."""

from __future__ import annotations

import csv
import io
import warnings

import numpy as np
import pytest

pytest.importorskip("tf_keras", reason="TensorFlow's converter is the judge, with its own Keras")
tf = pytest.importorskip("tensorflow")

import lithe  # noqa: E402
from lithe.lite import Optimize, TFLiteConverter, experimental  # noqa: E402

RANDOM = np.random.default_rng(5)
SAMPLES = [[RANDOM.standard_normal((1, 8, 8, 3)).astype(np.float32)] for _ in range(8)]


def data():
    yield from SAMPLES


@pytest.fixture(scope="module")
def keras_model():
    import tf_keras

    tf_keras.utils.set_random_seed(1)
    layers = tf_keras.layers
    return tf_keras.Sequential(
        [
            layers.Input((8, 8, 3), batch_size=1),
            layers.Conv2D(8, 3, padding="same"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.DepthwiseConv2D(3, padding="same", activation="relu6"),
            layers.Conv2D(8, 1),
            layers.GlobalAveragePooling2D(),
            layers.Dense(4, activation="softmax"),
        ]
    )


def theirs(**how):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = tf.lite.experimental.QuantizationDebugger(debug_dataset=data, **how)
        made.run()
    return made


def ours(**how):
    made = experimental.QuantizationDebugger(debug_dataset=data, **how)
    made.run()
    return made


def rows(made):
    file = io.StringIO()
    made.layer_statistics_dump(file)
    file.seek(0)
    return list(csv.DictReader(file))


FIGURES = ("num_elements", "stddev", "max_abs_error", "mean_squared_error", "scale", "zero_point")


def alike(mine, other):
    assert list(mine[0]) == list(other[0])
    assert len(mine) == len(other)
    for one, two in zip(mine, other, strict=True):
        assert (one["op_name"], one["tensor_idx"]) == (two["op_name"], two["tensor_idx"])
        for name in FIGURES:
            assert float(one[name]) == pytest.approx(float(two[name]), rel=1e-3, abs=1e-7), name
        assert float(one["mean_error"]) == pytest.approx(float(two["mean_error"]), abs=1e-6)


def official(keras_model, **attributes):
    made = tf.lite.TFLiteConverter.from_keras_model(keras_model)
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def test_the_same_figures_of_tensorflows_debug_model(keras_model):
    given = official(keras_model, optimizations=[tf.lite.Optimize.DEFAULT], representative_dataset=data)
    reference = theirs(converter=given)
    found = ours(quant_debug_model_content=reference.get_debug_quantized_model())
    alike(rows(found), rows(reference))
    assert [row["tensor_name"] for row in rows(found)] == [row["tensor_name"] for row in rows(reference)]
    assert list(found.layer_statistics) == list(reference.layer_statistics)


def test_tensorflow_reads_our_debug_model(keras_model):
    given = TFLiteConverter.from_keras_model(keras_model)
    given.optimizations, given.representative_dataset = [Optimize.DEFAULT], data
    found = ours(converter=given)
    alike(rows(found), rows(theirs(quant_debug_model_content=found.get_debug_quantized_model())))


def test_a_model_of_the_official_converter_is_compared_with_its_float_model(keras_model):
    whole = official(keras_model).convert()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        small = official(keras_model, optimizations=[tf.lite.Optimize.DEFAULT], representative_dataset=data).convert()
    found = lithe.compare(whole, small, [s[0] for s in SAMPLES])
    assert found.unmatched == ()
    assert found.first is None
    assert {layer.type for layer in found.layers} == {"int8"}
    assert all(layer.own is not None and layer.own > 15 for layer in found.layers[1:])
