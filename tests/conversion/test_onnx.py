"""ONNX models: recurrent layers, open dimensions, the official runtime, and bad files."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx is not installed")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

import lithe  # noqa: E402
from lithe.errors import FileMissing, LitheError, ModelError, UnsupportedOp  # noqa: E402
from tests.conversion.official import run_official  # noqa: E402

RANDOM = np.random.default_rng(3)


def model_of(nodes, inputs, outputs, constants=(), opset=17):
    """A model; inputs and outputs by name with their shapes, of float32."""
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()],
        [numpy_helper.from_array(v, n) for n, v in dict(constants).items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def weights(*shape):
    return (RANDOM.standard_normal(shape) * 0.4).astype(np.float32)


KINDS = {"LSTM": 4, "GRU": 3, "RNN": 1}
DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}


@pytest.mark.parametrize(("kind", "direction", "state"), list(itertools.product(KINDS, DIRECTIONS, (False, True))))
def test_recurrent_layers_agree_with_the_runtime(kind, direction, state):
    runtime = pytest.importorskip("onnxruntime")
    n, gates, units = DIRECTIONS[direction], KINDS[kind], 5
    constants = {
        "w": weights(n, gates * units, 3),
        "r": weights(n, gates * units, units),
        "b": weights(n, 2 * gates * units),
    }
    inputs, given = {"x": (4, 2, 3)}, {"x": weights(4, 2, 3)}
    names = ["x", "w", "r", "b"]
    if state:
        names += ["", "h"] + ["c"] * (kind == "LSTM")
        for name in names[5:]:
            inputs[name], given[name] = (n, 2, units), weights(n, 2, units)
    outputs = {"y": (4, n, 2, units), "y_h": (n, 2, units)}
    node = helper.make_node(kind, names, list(outputs), hidden_size=units, direction=direction)
    source = model_of([node], inputs, outputs, constants)
    model = lithe.convert(source)
    assert not any(node.op.name == "WHILE" for g in model.module.graphs for node in g.nodes)
    session = runtime.InferenceSession(source.SerializeToString(), providers=["CPUExecutionProvider"])
    made = model(**given)
    for name, want in zip(outputs, session.run(None, given), strict=True):
        np.testing.assert_allclose(made[name], want, rtol=1e-5, atol=1e-5)


def test_a_convolution_with_an_open_batch_runs_in_the_official_runtime():
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Shape", ["p"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"]),
        helper.make_node("Concat", ["n", "rest"], ["to"], axis=0),
        helper.make_node("Reshape", ["p", "to"], ["y"]),
    ]
    constants = {"w": weights(4, 3, 3, 3), "b": weights(4), "zero": np.array([0]), "rest": np.array([-1])}
    source = model_of(nodes, {"x": ("n", 3, 8, 8)}, {"y": ("n", 4)}, constants)
    model = lithe.convert(source, verify=True)
    assert [n.op.name for n in model.module.graphs[0].nodes].count("TRANSPOSE") <= 1
    x = weights(2, 3, 8, 8)
    (official,) = run_official(model, {"x": x})
    np.testing.assert_allclose(official, model(x=x), rtol=1e-5, atol=1e-5)


def test_bad_files_have_one_clear_error(tmp_path):
    good = model_of([helper.make_node("Relu", ["x"], ["y"])], {"x": (2,)}, {"y": (2,)})
    with pytest.raises(FileMissing):
        lithe.convert(str(tmp_path / "none.onnx"))
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(good.SerializeToString()[:-9])
    with pytest.raises(ModelError):
        lithe.convert(str(broken))
    shapes = model_of([helper.make_node("Add", ["x", "z"], ["y"])], {"x": (2,), "z": (3,)}, {"y": (2,)})
    with pytest.raises(ModelError, match="contradicts itself"):
        lithe.convert(shapes)
    unread = model_of([helper.make_node("Relu", ["nothing"], ["y"])], {"x": (2,)}, {"y": (2,)})
    with pytest.raises(LitheError, match="nothing"):
        lithe.convert(unread)
    unknown = model_of([helper.make_node("StringNormalizerX", ["x"], ["y"])], {"x": (2, 2)}, {"y": ()})
    with pytest.raises(UnsupportedOp, match="StringNormalizerX"):
        lithe.convert(unknown)


def test_missing_external_data_is_said(tmp_path):
    source = model_of([helper.make_node("Add", ["x", "w"], ["y"])], {"x": (400,)}, {"y": (400,)}, {"w": weights(400)})
    path = tmp_path / "m.onnx"
    onnx.save(source, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    (tmp_path / "w.bin").unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        lithe.convert(str(path))
