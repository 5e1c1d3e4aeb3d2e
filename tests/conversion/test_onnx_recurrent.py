"""ONNX's recurrent layers in all their forms, against ONNX's runtime."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

import lithe  # noqa: E402
from tests.conversion.official import run_official  # noqa: E402
from tests.conversion.onnx_models import model  # noqa: E402

TIME, BATCH, DEPTH, UNITS = 5, 2, 3, 4
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
DIRECTIONS = ("forward", "reverse", "bidirectional")


def layer(kind, direction="forward", *, lengths=False, states=False, bias=True, time=TIME, outputs=("y", "h"),
          weights=True, peephole=False, **attributes):  # fmt: skip
    """A model of one layer, and its weights as arrays."""
    random = np.random.default_rng(0)
    n, gates = 2 if direction == "bidirectional" else 1, GATES[kind]
    arrays = {
        "w": random.standard_normal((n, gates * UNITS, DEPTH)), "r": random.standard_normal((n, gates * UNITS, UNITS)),
        "b": random.standard_normal((n, 2 * gates * UNITS)), "h0": random.standard_normal((n, BATCH, UNITS)),
        "c0": random.standard_normal((n, BATCH, UNITS)), "p": random.standard_normal((n, 3 * UNITS)),
    }  # fmt: skip
    arrays = {name: a.astype(np.float32) * 0.5 for name, a in arrays.items()}
    arrays["l"] = np.array([TIME, 3], np.int32)
    if attributes.get("layout"):
        arrays |= {name: arrays[name].transpose(1, 0, 2) for name in ("h0", "c0")}
    names = ["x", "w", "r", "b" if bias else "", "l" if lengths else "", "h0" if states else "",
             "c0" if states and kind == "LSTM" else "", "p" if peephole else ""]  # fmt: skip
    if kind != "LSTM":
        names = names[:6]
    given = list(outputs) + (["c"] if kind == "LSTM" and "h" in outputs else [])
    node = onnx.helper.make_node(kind, names, given, hidden_size=UNITS, direction=direction, **attributes)
    shape = (BATCH, time, DEPTH) if attributes.get("layout") else (time, BATCH, DEPTH)
    constants = {name: arrays[name] for name in names if name in arrays}
    return model([node], {"x": shape}, [g for g in given if g], constants, opset=14)


def check(proto, shape, tolerance=1e-5):
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    want = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"x": x})
    made = lithe.convert(proto)
    got = made(x)
    results = list(got.values()) if isinstance(got, dict) else [got]
    for run in (results, run_official(made, {"x": x})):
        for a, e in zip(run, want, strict=True):
            assert a.shape == e.shape
            np.testing.assert_allclose(a, e, rtol=0, atol=tolerance)
    return [n.op.name for g in made.module.graphs for n in g.nodes]


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(("lengths", "states"), list(itertools.product([False, True], repeat=2)))
def test_layers_of_fixed_length_agree_without_a_loop(kind, direction, lengths, states):
    operators = check(layer(kind, direction, lengths=lengths, states=states), (TIME, BATCH, DEPTH))
    assert "WHILE" not in operators


@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_outputs_alone_come_from_one_builtin(kind, direction):
    operators = check(layer(kind, direction, outputs=("y",)), (TIME, BATCH, DEPTH))
    name = "BIDIRECTIONAL" if direction == "bidirectional" else "UNIDIRECTIONAL"
    assert f"{name}_SEQUENCE_{kind}" in operators


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("lengths", [False, True])
def test_an_open_length_is_a_loop(kind, direction, lengths):
    operators = check(layer(kind, direction, lengths=lengths, states=True, time="time"), (TIME, BATCH, DEPTH))
    assert "WHILE" in operators


@pytest.mark.parametrize("kind", GATES)
def test_batches_may_be_open(kind):
    proto = layer(kind)
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "batch"
    for info in proto.graph.output:
        info.type.tensor_type.ClearField("shape")
    proto = onnx.shape_inference.infer_shapes(proto)
    assert "WHILE" not in check(proto, (TIME, 3, DEPTH))


SPECIAL = {
    "gru, reset after": ("GRU", {"linear_before_reset": 1}),
    "gru, reset after, states": ("GRU", {"linear_before_reset": 1, "states": True}),
    "gru, other functions": ("GRU", {"activations": ["HardSigmoid", "Softsign"]}),
    "lstm, peepholes": ("LSTM", {"peephole": True}),
    "lstm, peepholes, outputs": ("LSTM", {"peephole": True, "outputs": ("y",)}),
    "lstm, coupled gates": ("LSTM", {"input_forget": 1}),
    "lstm, clipped": ("LSTM", {"clip": 0.4}),
    "lstm, other functions": ("LSTM", {"activations": ["Sigmoid", "Relu", "Tanh"]}),
    "lstm, without bias": ("LSTM", {"bias": False}),
    "rnn, relu": ("RNN", {"activations": ["Relu"], "outputs": ("y",)}),
    "rnn, scaled tanh": (
        "RNN", {"activations": ["ScaledTanh"], "activation_alpha": [1.2], "activation_beta": [0.7]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SPECIAL)
def test_special_forms_agree(name):
    kind, options = SPECIAL[name]
    assert "WHILE" not in check(layer(kind, **options), (TIME, BATCH, DEPTH))


def test_batches_first():
    """ONNX's runtime does not take this layout, so that the same layer with the usual one is the judge."""
    usual, other = (lithe.convert(layer("GRU", "bidirectional", states=True, layout=n)) for n in (0, 1))
    x = np.random.default_rng(1).standard_normal((TIME, BATCH, DEPTH)).astype(np.float32)
    want, got = usual(x), other(np.ascontiguousarray(x.transpose(1, 0, 2)))
    np.testing.assert_allclose(got["y"], want["y"].transpose(2, 0, 1, 3), atol=1e-6)
    np.testing.assert_allclose(got["h"], want["h"].transpose(1, 0, 2), atol=1e-6)
