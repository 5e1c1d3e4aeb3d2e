"""Keras models on the backend that KERAS_BACKEND names: what they give, as graphs here, and in the official runtime."""

from __future__ import annotations

import importlib.util
import os

import numpy as np
import pytest

from lithe.conversion.check import relative_difference
from lithe.conversion.door import agreement, convert, converted
from lithe.conversion.keras.tracing import tracer
from lithe.errors import FileMissing, InputError, LitheError, ModelError, UnsupportedOp
from tests.conversion.official import official_runs, run_official

if importlib.util.find_spec(os.environ.setdefault("KERAS_BACKEND", "jax")) is None:
    pytest.skip("Keras's backend is not installed", allow_module_level=True)
keras = pytest.importorskip("keras", reason="Keras is not installed")
# Keras writes files with arrays that NumPy finds old-fashioned
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
L = keras.layers
TOLERANCE = 1e-5
ACTIVATIONS = ("relu", "relu6", "silu", "gelu", "selu", "softplus", "softsign", "tanh", "exponential", "hard_sigmoid",
               "hard_silu", "mish", "log_softmax", "elu", "celu", "hard_shrink", "hard_tanh", "log_sigmoid",
               "soft_shrink", "squareplus", "tanh_shrink")  # fmt: skip

LAYERS = {
    "Conv1D": ((20, 8), lambda: [L.Conv1D(4, 3, padding="causal", activation="gelu")]),
    "Conv2D": ((9, 8, 4), lambda: [L.Conv2D(4, 3, strides=2, padding="same"),
                                   L.Conv2D(6, 3, groups=2, activation="relu")]),
    "Conv3D": ((8, 8, 8, 3), lambda: [L.Conv3D(4, 3, padding="same", strides=2)]),
    "Conv1DTranspose": ((8, 3), lambda: [L.Conv1DTranspose(4, 3, strides=2)]),
    "Conv2DTranspose": ((8, 9, 3), lambda: [L.Conv2DTranspose(4, 3, strides=2, padding="same"),
                                            L.Conv2DTranspose(4, 2, strides=2, padding="valid")]),
    "SeparableConv2D": ((9, 9, 3), lambda: [L.SeparableConv2D(4, 3, dilation_rate=2)]),
    "DepthwiseConv2D": ((9, 9, 3), lambda: [L.DepthwiseConv2D(3, depth_multiplier=2)]),
    "pooling": ((9, 9, 3), lambda: [L.MaxPooling2D(3, 2, "same"), L.AveragePooling2D(3, 2, "same")]),
    "global pooling": ((9, 9, 3), lambda: [L.GlobalMaxPooling2D(keepdims=True)]),
    "pooling in one dimension": ((9, 3), lambda: [L.AveragePooling1D(2), L.GlobalAveragePooling1D()]),
    "volumes": ((4, 4, 4, 2), lambda: [L.ZeroPadding3D(1), L.UpSampling3D(2), L.MaxPooling3D(2), L.Cropping3D(1),
                                      L.AveragePooling3D(3, 2, "same")]),
    "normalization": ((9, 9, 6), lambda: [L.LayerNormalization(), L.GroupNormalization(3), L.BatchNormalization(),
                                          L.UnitNormalization(), L.RMSNormalization()]),
    "activation layers": ((10,), lambda: [L.LeakyReLU(), L.ELU(), L.PReLU(), L.ReLU(max_value=3, threshold=0.1),
                                          L.Softmax()]),
    **{name: ((10,), lambda name=name: [L.Dense(6, activation=name)]) for name in ACTIVATIONS},
    "sizes of pictures": ((5, 6, 3), lambda: [L.UpSampling2D(2), L.UpSampling2D(2, interpolation="bilinear"),
                                              L.ZeroPadding2D(1), L.Cropping2D(1)]),
    "preprocessing": ((5, 6, 3), lambda: [L.Resizing(10, 11), L.Rescaling(1 / 127.5, -1), L.CenterCrop(6, 6)]),
    "shapes": ((6, 8), lambda: [L.Permute((2, 1)), L.Flatten(), L.RepeatVector(3), L.Reshape((-1, 4))]),
    "LSTM": ((6, 8), lambda: [L.LSTM(5, return_sequences=True), L.LSTM(4)]),
    "GRU": ((6, 8), lambda: [L.GRU(5, return_sequences=True), L.GRU(4, reset_after=False)]),
    "SimpleRNN": ((6, 8), lambda: [L.Bidirectional(L.SimpleRNN(5, return_sequences=True)),
                                     L.SimpleRNN(4, go_backwards=True)]),
    "ConvLSTM2D": ((3, 8, 8, 2), lambda: [L.ConvLSTM2D(4, 3)]),
    "TimeDistributed": ((3, 8, 8, 2), lambda: [L.TimeDistributed(L.Conv2D(4, 3))]),
    "regularization": ((6,), lambda: [L.Dropout(0.5), L.GaussianNoise(0.1), L.Dense(4), L.AlphaDropout(0.2)]),
    "EinsumDense": ((6, 8), lambda: [L.EinsumDense("abc,cd->abd", output_shape=(None, 5))]),
}  # fmt: skip


@pytest.fixture(autouse=True)
def weights_of_this_test_alone():
    """Layers begin with the same weights in each run: by chance all results can be differences of near numbers."""
    keras.utils.set_random_seed(0)


def randomized(model):
    """The model with weights that are not zero or one, so that none can be forgotten."""
    random = np.random.default_rng(0)
    for v in model.weights:
        if "float" in str(v.dtype):
            v.assign(v + 0.1 * np.abs(random.standard_normal(v.shape)))
    return model


def holds(model):
    """Converts; the numbers must be those of Keras, here and in the official runtime."""
    made, conversion = converted(model)
    assert agreement(made, conversion).worst <= TOLERANCE
    random = np.random.default_rng(1)
    given = {}
    for name, t in conversion.entries[0].input_types.items():
        shape = tuple(2 if n > 10**6 else n for n in t.shape)
        integers = random.integers(0, 2, shape)
        given[name] = (random.standard_normal(shape) if t.dtype.is_float else integers).astype(t.dtype.numpy)
    expected = conversion.entries[0].reference(given)
    for got, wanted in zip(run_official(made, given), expected, strict=True):
        assert relative_difference(np.asarray(wanted), got) <= TOLERANCE
    assert not any(n.op.name.startswith("Flex") for g in made.module.graphs for n in g.nodes)
    return made


def operators(model):
    return [n.op.name for n in model.module.main.nodes]


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_gives_the_same(name):
    shape, layers = LAYERS[name]
    model = holds(randomized(keras.Sequential([L.Input(shape), *layers()])))
    assert "WHILE" not in operators(model)


def test_an_embedding_with_a_mask():
    holds(randomized(keras.Sequential([L.Input((6,)), L.Embedding(10, 5, mask_zero=True), L.LSTM(4)])))


def test_attention():
    x = L.Input((6, 8))
    y = L.MultiHeadAttention(2, 4)(x, x)
    y = L.Attention()([y, x])
    holds(randomized(keras.Model(x, L.GroupQueryAttention(4, 4, 2)(y, x))))


def test_several_inputs_and_outputs_keep_their_names():
    a, b = L.Input((4,), name="left"), L.Input((4,), name="right")
    total = L.Add(name="total")([a, b])
    model = holds(keras.Model({"left": a, "right": b}, [total, L.Concatenate(name="both")([a, b])]))
    assert list(model.inputs) == ["left", "right"]
    assert list(model.outputs) == ["total", "both"]
    assert model.inputs["left"].shape == (-1, 4)


def test_a_layer_is_as_few_builtins_as_it_can_be():
    block = [L.Conv2D(8, 3, padding="same", use_bias=False), L.BatchNormalization(), L.ReLU(6.0), L.DepthwiseConv2D(3),
             L.BatchNormalization(), L.Activation("hard_silu"), L.GlobalAveragePooling2D(),
             L.Dense(5, activation="softmax")]  # fmt: skip
    model = holds(randomized(keras.Sequential([L.Input((9, 9, 3)), *block])))
    assert operators(model) == ["CONV_2D", "DEPTHWISE_CONV_2D", "HARD_SWISH", "MEAN", "FULLY_CONNECTED", "SOFTMAX"]


class Gate(keras.layers.Layer):
    """A custom layer: it is traced like any other."""

    def __init__(self, units, **options):
        super().__init__(**options)
        self.dense = L.Dense(units)

    def call(self, x):
        y = self.dense(x)
        return keras.ops.where(keras.ops.sum(y, axis=-1, keepdims=True) > 0, y * keras.ops.tanh(y), -y)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.first, self.second = L.Dense(6, activation="relu"), Gate(5)

    def call(self, x, training=False):
        return {"gated": self.second(self.first(x)), "first": self.first(x)}


def test_a_subclassed_model_with_custom_layers():
    model = Subclassed()
    model(np.zeros((1, 7), np.float32))
    made, conversion = converted(randomized(model), inputs={"x": ("batch", 7)})
    assert agreement(made, conversion).worst <= TOLERANCE
    assert sorted(made.outputs) == ["first", "gated"]


def test_a_subclassed_model_must_say_its_inputs():
    with pytest.raises(InputError, match="does not say what its inputs are"):
        convert(Subclassed())


def test_inputs_that_a_model_does_not_take_are_told():
    model = Subclassed()
    model(np.zeros((1, 7), np.float32))
    with pytest.raises((InputError, UnsupportedOp), match="model"):
        convert(model, inputs={"x": ("batch", 9)})


def test_a_backend_that_cannot_trace_is_told():
    with pytest.raises(UnsupportedOp, match="Keras runs on numpy here"):
        tracer("numpy")


def test_a_file(tmp_path):
    path = tmp_path / "model.keras"
    model = keras.Sequential([L.Input((4,)), L.Dense(3, name="scores")])
    model.save(path)
    made = convert(path, verify=True)
    assert list(made.outputs) == ["scores"]
    assert made.name == "model"
    made.save(tmp_path / "model.tflite")
    assert (tmp_path / "model.tflite").stat().st_size > 0


def test_bad_sources_end_with_one_error(tmp_path):
    with pytest.raises(FileMissing):
        convert(tmp_path / "nothing.keras")
    with pytest.raises(FileMissing):
        convert(str(tmp_path / "nothing.keras"), kind="keras")
    cut = tmp_path / "cut.keras"
    keras.Sequential([L.Input((4,)), L.Dense(3)]).save(tmp_path / "whole.keras")
    cut.write_bytes((tmp_path / "whole.keras").read_bytes()[:900])
    with pytest.raises(ModelError, match="cannot read the file"):
        convert(cut)
    strange = tmp_path / "model.strange"
    strange.write_bytes(b"x")
    with pytest.raises(InputError, match="no kind that is known"):
        convert(strange)
    model = keras.Sequential([L.Input((4,), name="x"), L.Dense(3)])
    with pytest.raises(InputError, match=r"asked for is \[1, 5\]"):
        convert(model, inputs={"x": (1, 5)})
    with pytest.raises(InputError, match="no input 'y'"):
        convert(model, inputs={"y": (1, 4)})


def test_what_builtins_cannot_say_is_named_by_layer():
    class Strange(keras.layers.Layer):
        def call(self, x):
            return keras.ops.real(keras.ops.ifft2((x, x))[0])

    model = keras.Sequential([L.Input((4, 4)), Strange(name="strange")])
    with pytest.raises(LitheError, match="strange") as caught:
        convert(model)
    assert isinstance(caught.value, UnsupportedOp | InputError)


def test_a_model_that_differs_is_told(monkeypatch):
    from lithe.conversion.check import Agreement

    with pytest.raises(ModelError, match=r"output 'y' differs from the source by 0\.01"):
        Agreement({"y": 0.01}, 1).require()
    assert relative_difference(np.float32([1, np.nan]), np.float32([1, np.nan])) == 0
    assert relative_difference(np.float32([1, 2]), np.float32([1, np.nan])) == np.inf
    assert relative_difference(np.float32([]), np.float32([])) == 0
    assert relative_difference(np.float32([1, np.inf]), np.float32([1.5, np.inf])) == 0.5


@pytest.mark.parametrize("state", [False, True], ids=["output", "states"])
@pytest.mark.parametrize("sequences", [False, True], ids=["last", "all"])
@pytest.mark.parametrize("layer", ["LSTM", "GRU", "SimpleRNN"])
def test_the_grid_of_recurrent_layers(layer, sequences, state):
    """Directions, masks, stacks, dropout and batches inside, so that the grid stays small enough."""
    make = getattr(L, layer)
    each = ({}, {"go_backwards": True}, {"unroll": True}, {"dropout": 0.3, "recurrent_dropout": 0.2})
    for batch, options in zip((None, 2, 2, None), each, strict=True):
        x = L.Input(batch_shape=(batch, 5, 4))
        y = make(3, return_sequences=sequences, return_state=state, **options)(x)
        model = holds(randomized(keras.Model(x, y)))
        assert "WHILE" not in operators(model)


@pytest.mark.parametrize("layer", ["LSTM", "GRU", "SimpleRNN"])
def test_both_directions_stacked_and_masked(layer):
    make = getattr(L, layer)
    for batch in (None, 1):
        x = L.Input(batch_shape=(batch, 6), dtype="int32")
        y = L.Embedding(2, 4, mask_zero=True)(x)
        y = L.Bidirectional(make(3, return_sequences=True))(y)
        y = L.Bidirectional(make(3, zero_output_for_mask=True), merge_mode="sum")(y)
        assert "WHILE" not in operators(holds(randomized(keras.Model(x, y))))


@pytest.mark.parametrize(("batch", "fused"), [(1, True), (None, False)])
def test_an_lstm_is_one_builtin_where_the_batch_is_fixed(batch, fused):
    x = L.Input(batch_shape=(batch, 5, 4))
    model = holds(randomized(keras.Model(x, L.LSTM(3, return_sequences=True)(x))))
    assert (operators(model) == ["UNIDIRECTIONAL_SEQUENCE_LSTM"]) == fused


def test_two_directions_reverse_once():
    x = L.Input(batch_shape=(1, 5, 4))
    model = holds(randomized(keras.Model(x, L.Bidirectional(L.LSTM(3, return_sequences=True))(x))))
    assert operators(model).count("REVERSE_V2") == 2


def test_an_open_length_is_a_loop():
    x = L.Input((None, 4))
    model = holds(randomized(keras.Model(x, L.GRU(3)(x))))
    assert "WHILE" in operators(model)


def once(model, x):
    """What Keras gives, and what it remembers then."""
    return [np.asarray(keras.ops.convert_to_numpy(y)) for y in keras.tree.flatten(model(x))]


STATEFUL = {
    "LSTM": lambda: [L.LSTM(3, stateful=True)],
    "GRU": lambda: [L.GRU(3, stateful=True, return_sequences=True)],
    "SimpleRNN": lambda: [L.SimpleRNN(3, stateful=True)],
    "states": lambda: [L.LSTM(3, stateful=True, return_state=True)],
    "backwards": lambda: [L.LSTM(3, stateful=True, activation="relu", go_backwards=True)],
    "unrolled": lambda: [L.LSTM(3, stateful=True, unroll=True)],
    "both directions": lambda: [L.Bidirectional(L.GRU(3, stateful=True))],
    "stacked": lambda: [L.LSTM(3, stateful=True, return_sequences=True), L.GRU(2, stateful=True)],
    "cells": lambda: [L.RNN([L.GRUCell(3), L.LSTMCell(2)], stateful=True)],
}


@pytest.mark.parametrize("name", STATEFUL)
def test_a_stateful_layer_keeps_its_state(name):
    """From run to run, as Keras does; the fused builtins have variables of their own."""
    given = x = L.Input(batch_shape=(2, 5, 4), name="x")
    for layer in STATEFUL[name]():
        x = layer(x)
    model = randomized(keras.Model(given, x))
    made, _ = converted(model)
    official = official_runs(made)
    random = np.random.default_rng(2)
    for _ in range(3):
        values = random.standard_normal((2, 5, 4)).astype(np.float32)
        expected = once(model, values)
        got = made(values)
        for y, lithes, officials in zip(
            expected, got.values() if isinstance(got, dict) else [got], official({"x": values}), strict=True
        ):
            assert relative_difference(y, np.asarray(lithes)) <= TOLERANCE
            assert relative_difference(y, officials) <= TOLERANCE
    assert "WHILE" not in operators(made)
    assert ("ASSIGN_VARIABLE" in operators(made)) == (name not in ("LSTM", "SimpleRNN", "backwards"))


def test_a_stateful_layer_begins_where_it_is():
    model = randomized(keras.Sequential([L.Input(batch_shape=(1, 5, 4), name="x"), L.LSTM(3, stateful=True)]))
    x = np.random.default_rng(2).standard_normal((1, 5, 4)).astype(np.float32)
    model(x)
    made, conversion = converted(model)
    assert agreement(made, conversion).worst <= TOLERANCE
    once(model, x)


def test_steps_are_written_on_request():
    model = keras.Sequential([L.Input(batch_shape=(1, 5, 4)), L.LSTM(3)])
    assert "UNIDIRECTIONAL_SEQUENCE_LSTM" in operators(convert(model))
    assert "UNIDIRECTIONAL_SEQUENCE_LSTM" not in operators(convert(model, unroll=True))


class Counter(keras.layers.Layer):
    """Counts its runs."""

    def build(self, shape):
        self.runs = self.add_weight(shape=(), initializer="zeros", trainable=False, name="runs")

    def call(self, x):
        self.runs.assign(self.runs + 1.0)
        return x * self.runs


def test_what_a_custom_layer_remembers_is_a_variable():
    model = keras.Sequential([L.Input((3,), name="x"), Counter()])
    made, conversion = converted(model)
    assert float(keras.ops.convert_to_numpy(model.layers[-1].runs)) == 0
    assert agreement(made, conversion).worst == 0
    official = official_runs(made)
    x = np.ones((1, 3), np.float32)
    assert [float(official({"x": x})[0][0, 0]) for _ in range(3)] == [1, 2, 3]
    assert float(made(x)[0, 0]) == 3  # after the two runs of `agreement`


class Scaled(keras.layers.Layer):
    """A cell that Keras does not know."""

    def __init__(self, units, **options):
        super().__init__(**options)
        self.units = self.state_size = self.output_size = units

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], self.units), name="kernel")

    def call(self, x, states):
        new = keras.ops.tanh(keras.ops.matmul(x, self.kernel) + 0.5 * states[0])
        return 2.0 * new, [new]


@pytest.mark.parametrize("options", [{}, {"go_backwards": True, "return_sequences": True}, {"return_state": True},
                                     {"zero_output_for_mask": True, "return_sequences": True}])  # fmt: skip
def test_cells_of_other_kinds_are_steps(options):
    x = L.Input((5, 4))
    for cell in (Scaled(3), [L.LSTMCell(4), L.GRUCell(3)]):
        model = holds(randomized(keras.Model(x, L.RNN(cell, **options)(L.Masking()(x)))))
        assert "WHILE" not in operators(model)
