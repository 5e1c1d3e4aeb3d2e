"""Keras models learn with the integers that will be deployed: to the bit, in Lithe and in the official runtime."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import lithe
from lithe.errors import InputError, UnsupportedOp
from lithe.formats import tflite

keras = pytest.importorskip("keras", reason="Keras is not installed")
L = keras.layers

COUNT = 48


def convolutions() -> Any:
    """Normalizations to be folded, and windows, moves and curves of several kinds."""
    x = keras.Input((9, 9, 3), name="x")
    a = L.ReLU(6.0)(L.BatchNormalization()(L.Conv2D(6, 3, strides=2, padding="same", use_bias=False)(x)))
    b = L.DepthwiseConv2D(3, strides=2, padding="same", depth_multiplier=2)(x)
    y = L.SeparableConv2D(8, 3, padding="same", activation="hard_swish")(L.Concatenate()([a, b]))
    y = L.Conv2DTranspose(5, 3, strides=2, padding="same", activation="leaky_relu")(L.MaxPooling2D()(y))
    y = L.UpSampling2D()(L.ZeroPadding2D()(L.AveragePooling2D(2, padding="same")(y)))
    y = L.GlobalAveragePooling2D()(L.PReLU(shared_axes=[1, 2])(y))
    return keras.Model(x, [L.Dense(3, activation="softmax", name="a")(y), L.Dense(2, activation="tanh", name="b")(y)])


def attention() -> Any:
    x = keras.Input((4, 8), name="x")
    y = L.LayerNormalization()(x)
    y = L.Dense(8, activation="gelu")(L.Add()([x, L.MultiHeadAttention(2, 4)(y, y)]))
    return keras.Model(x, L.Dense(3, activation="softmax")(L.GlobalAveragePooling1D()(y)))


def text() -> Any:
    x = keras.Input((7,), dtype="int32", name="x")
    y = L.GlobalMaxPooling1D()(L.Conv1D(8, 3, activation="elu")(L.Embedding(20, 8)(x)))
    return keras.Model(x, L.Dense(3, activation="sigmoid")(y))


def recurrent(*layers: Any) -> Any:
    return keras.Sequential([keras.Input((3, 4), name="x"), *layers, L.Dense(3, activation="softmax")])


def wide() -> Any:
    """A sum of more products than one sum of float32 holds."""
    return keras.Sequential([keras.Input((900,), name="x"), L.Dense(4, activation="relu"), L.Dense(3)])


FUSED = {"x": (1, 3, 4)}  # with a batch of one an LSTM is one operator
NETS = {
    "convolutions": (convolutions, None),
    "attention": (attention, None),
    "text": (text, None),
    "wide": (wide, None),
    "lstm": (lambda: recurrent(L.LSTM(5, return_sequences=True), L.LSTM(6)), FUSED),
    "lstm in steps": (lambda: recurrent(L.LSTM(5)), None),
    "gru": (lambda: recurrent(L.GRU(5)), None),
    "rnn": (lambda: recurrent(L.SimpleRNN(5)), None),
}


def data(model: Any, count: int = COUNT) -> tuple[np.ndarray, list[np.ndarray]]:
    random = np.random.default_rng(0)
    shape = (count, *model.inputs[0].shape[1:])
    whole = "int" in str(model.inputs[0].dtype)
    x = random.integers(0, 20, shape).astype(np.int32) if whole else random.normal(size=shape).astype(np.float32)
    return x, [random.random((count, *y.shape[1:])).astype(np.float32) for y in model.outputs]


def awake(name: str) -> tuple[Any, np.ndarray, list[np.ndarray]]:
    keras.utils.set_random_seed(0)
    build, inputs = NETS[name]
    model = build()
    x, y = data(model)
    aware = lithe.optimize.quantize_aware(model, x[:16, None], inputs=inputs)
    aware.compile(keras.optimizers.Adam(0.01), ["mse"] * len(y))
    return aware, x, y


def predicted(model: Any, x: np.ndarray) -> list[np.ndarray]:
    return [np.asarray(y) for y in keras.tree.flatten(model.predict(x, batch_size=16, verbose=0))]


def deployed(model: lithe.Model, x: np.ndarray) -> list[np.ndarray]:
    """What a model of one example at a time gives for many."""
    found = []
    for one in x:
        model.reset()
        made = model(one[None])
        found.append(list(made.values()) if isinstance(made, dict) else [made])
    return [np.concatenate(parts) for parts in zip(*found, strict=True)]


def official(model: lithe.Model, x: np.ndarray) -> list[np.ndarray]:
    runtime = pytest.importorskip("ai_edge_litert.interpreter", reason="the official runtime is not installed")
    interpreter = runtime.Interpreter(model_content=tflite.write(model.module))
    interpreter.allocate_tensors()
    found = []
    for one in x:
        interpreter.reset_all_variables()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], one[None])
        interpreter.invoke()
        found.append([interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()])
    return [np.concatenate(parts) for parts in zip(*found, strict=True)]


@pytest.mark.parametrize("name", NETS)
def test_the_model_in_training_and_the_file_give_the_same_bits(name: str) -> None:
    aware, x, y = awake(name)
    before = [np.array(v) for v in aware.trainable_variables]
    losses = aware.fit(x, y, epochs=3, batch_size=16, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    moved = [np.abs(np.asarray(v) - b).max() for v, b in zip(aware.trainable_variables, before, strict=True)]
    assert min(moved) > 0
    found, small = predicted(aware, x), lithe.convert(aware)
    assert all(np.array_equal(a, b) for a, b in zip(found, deployed(small, x), strict=True))


def test_files_and_checkpoints(tmp_path: Any) -> None:
    aware, x, y = awake("wide")
    file = str(tmp_path / "best.keras")
    aware.fit(x, y, epochs=2, verbose=0, validation_data=(x, y), callbacks=[
        keras.callbacks.ModelCheckpoint(file, save_best_only=True),
        keras.callbacks.ModelCheckpoint(str(tmp_path / "last.weights.h5"), save_weights_only=True),
    ])  # fmt: skip
    found = predicted(aware, x)[0]
    again = keras.models.load_model(file)
    assert np.array_equal(found, predicted(again, x)[0])
    again.fit(x, y, epochs=1, verbose=0)
    assert not np.array_equal(found, predicted(again, x)[0])
    assert np.array_equal(predicted(again, x)[0], deployed(lithe.convert(again), x)[0])
    again.load_weights(str(tmp_path / "last.weights.h5"))
    assert np.array_equal(found, predicted(again, x)[0])


def test_a_file_is_read_where_nothing_was_imported_before(tmp_path: Any) -> None:
    aware, x, _ = awake("wide")
    aware.save(tmp_path / "aware.keras")
    np.save(tmp_path / "x.npy", x)
    code = (
        "import keras, numpy as np\nfrom lithe.optimize import quantize_aware\n"
        "model = keras.models.load_model('aware.keras')\n"
        "np.save('y.npy', model.predict(np.load('x.npy'), verbose=0))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert np.array_equal(np.load(tmp_path / "y.npy"), predicted(aware, x)[0])


@pytest.mark.parametrize("name", ["convolutions", "lstm"])
def test_stripped_models_have_the_trained_weights(name: str) -> None:
    aware, x, y = awake(name)
    aware.fit(x, y, epochs=2, batch_size=16, verbose=0)
    plain = lithe.optimize.strip(aware)
    original = aware.integer_graph.original
    assert [type(layer) for layer in plain.layers] == [type(layer) for layer in original.layers]
    whole, before = (lithe.convert(m, inputs=NETS[name][1]) for m in (plain, original))
    pairs = list(zip(constants(whole), constants(lithe.convert(aware)), strict=True))
    for real, stored in pairs:
        q = stored.type.quantization
        scale = np.reshape(q.scale, [-1 if a == q.axis and q.per_channel else 1 for a in range(stored.type.rank)])
        inside = np.abs(stored.data) < 127 if stored.type.dtype.bits == 8 else np.ones(stored.data.shape, bool)
        steps = real.data / scale - stored.data
        assert np.abs(steps[inside]).max(initial=0) < 0.51 + 1e-6 * np.abs(stored.data).max()
    assert any(not np.allclose(a.data, b.data) for a, b in zip(constants(whole), constants(before), strict=True))


def constants(model: lithe.Model) -> list[Any]:
    """Those that stand for real numbers, in the order of operators."""
    nodes = (n for n in model.module.main.nodes if n.op.name not in ("QUANTIZE", "DEQUANTIZE"))
    found = (t for n in nodes for t in n.inputs if t is not None and t.data is not None)
    return [t for t in found if t.type.dtype.is_float or t.type.quantization is not None]


def test_zeros_and_clusters_stay() -> None:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((16,), name="x"), L.Dense(32, activation="relu"), L.Dense(8), L.Dense(3)])
    sparse, clustered = model.layers[0].kernel, model.layers[1].kernel
    sparse.assign(np.where(np.random.default_rng(0).random(sparse.shape) < 0.7, 0, np.asarray(sparse)))
    clustered.assign(np.random.default_rng(1).choice([-0.5, -0.1, 0, 0.2, 0.4], clustered.shape))
    x, y = data(model)
    aware = lithe.optimize.quantize_aware(model, x[:16, None])
    aware.compile(keras.optimizers.Adam(0.01), "mse")
    aware.fit(x, y[0], epochs=2, verbose=0)
    plain = lithe.optimize.strip(aware)
    zeros = np.asarray(sparse) == 0
    kernels = [np.asarray(layer.kernel) for layer in plain.layers[:2]]
    assert np.array_equal(kernels[0] == 0, zeros)
    assert len(np.unique(kernels[1].round(5))) == 5
    assert not np.allclose(np.unique(kernels[1].round(5)), [-0.5, -0.1, 0, 0.2, 0.4], atol=1e-4)
    weights = [n.inputs[1].data for n in lithe.convert(aware).module.main.nodes if n.op.name == "FULLY_CONNECTED"]
    assert (weights[0] == 0).mean() >= zeros.mean()
    assert max(len(np.unique(row)) for row in weights[1]) <= 5


def test_frozen_layers_stay() -> None:
    keras.utils.set_random_seed(0)
    model = wide()
    model.layers[0].trainable = False
    x, y = data(model)
    aware = lithe.optimize.quantize_aware(model, x[:16, None])
    assert [tuple(v.shape) for v in aware.trainable_variables] == [(3, 4), (3,)]
    aware.compile("adam", "mse")
    aware.fit(x, y[0], epochs=1, verbose=0)
    assert np.array_equal(predicted(aware, x)[0], deployed(lithe.convert(aware), x)[0])


def test_what_cannot_be_trained_is_said() -> None:
    x = np.zeros((4, 1, 3, 4), np.float32)
    with pytest.raises(InputError, match="functional or sequential model of Keras 3"):
        lithe.optimize.quantize_aware(lithe, x)
    with pytest.raises(InputError, match="computes with real numbers"):
        lithe.optimize.quantize_aware(recurrent(L.Flatten()), x, "float16")
    with pytest.raises(InputError, match="no samples"):
        lithe.optimize.quantize_aware(recurrent(L.Flatten()), [])
    with pytest.raises(UnsupportedOp, match="no gradient for WHILE"):
        lithe.optimize.quantize_aware(recurrent(L.SimpleRNN(5)), x, inputs=FUSED)


def test_look_ups_with_places_for_each_example_have_no_rule() -> None:
    from lithe.ir.graph import Node, Tensor
    from lithe.ops.gather import Gather
    from lithe.ops.op import Site
    from lithe.optimize.training.aware_rules import moves, rule_of
    from lithe.types import INT8, INT32, Quantization, TensorType

    stored = TensorType(INT8, (2, 3), Quantization((0.5,), (0,)))
    tensors = Tensor("x", stored), Tensor("places", TensorType(INT32, (2, 3)))
    for batch_dims, known in ((0, True), (1, False)):
        node = Node(Gather, Gather.Attrs(axis=1, batch_dims=batch_dims), list(tensors), [Tensor("y", stored)])
        assert (rule_of(node) is not None) == known
        assert moves(node, Site.of(node)) == known


@pytest.mark.parametrize("backend", ["torch", "tensorflow"])
def test_other_backends(backend: str) -> None:
    pytest.importorskip(backend, reason=f"{backend} is not installed")
    names = ["convolutions", "attention", "lstm", "gru"]
    code = f"""
from tests.optimize.trained import test_aware as t, test_aware_networks as networks
for name in {names}:
    t.test_the_model_in_training_and_the_file_give_the_same_bits(name)
networks.test_ranges_follow_training_where_they_are_renewed()
"""
    subprocess.run([sys.executable, "-c", code], check=True, env=_environment(backend), timeout=900)


def _environment(backend: str) -> dict[str, str]:
    import os

    return {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
