"""Whole ONNX models as exporters write them, and files that are none."""

from __future__ import annotations

import sys
from collections import Counter

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

from onnx import helper  # noqa: E402

import lithe  # noqa: E402
from lithe.errors import FileMissing, InputError, LitheError, MissingDependency, ModelError, UnsupportedOp  # noqa: E402
from tests.conversion.official import run_official  # noqa: E402
from tests.conversion.onnx_models import model  # noqa: E402

R = np.random.default_rng(0)


def floats(*shape):
    return (R.standard_normal(shape) * 0.3).astype(np.float32)


def node(op, inputs, output, **attributes):
    return helper.make_node(op, inputs.split(), [output], **attributes)


def check(proto, given, tolerance=1e-4, **options):
    """Converts and compares with ONNX's runtime, in both runtimes; how many operators of each kind there are."""
    want = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, given)
    made = lithe.convert(proto, **options)
    got = made(**given)
    results = list(got.values()) if isinstance(got, dict) else [got]
    for run in (results, run_official(made, given)):
        for a, e in zip(run, want, strict=True):
            assert a.shape == e.shape
            np.testing.assert_allclose(a, e, rtol=0, atol=tolerance * max(1.0, np.abs(e).max(initial=0)))
    return made, Counter(n.op.name for g in made.module.graphs for n in g.nodes)


def network(batch):
    """A picture through convolutions and a view whose shape is computed, as PyTorch's older exporter writes it."""
    nodes = [
        node("Conv", "x w1", "c1", pads=[1, 1, 1, 1], strides=[2, 2]),
        node("BatchNormalization", "c1 s m o v", "n1"),
        node("Relu", "n1", "r1"),
        node("Conv", "r1 w2 b2", "c2", pads=[1, 1, 1, 1], group=8),
        node("Clip", "c2 zero six", "r2"),
        node("Add", "r1 r2", "a"),
        node("MaxPool", "a", "p", kernel_shape=[2, 2], strides=[2, 2]),
        node("Shape", "p", "shape"),
        node("Gather", "shape i0", "n", axis=0),
        node("Unsqueeze", "n i0v", "nv"),
        node("Concat", "nv rest", "wanted", axis=0),
        node("Reshape", "p wanted", "flat"),
        node("Gemm", "flat w3 b3", "y", transB=1),
    ]
    constants = {
        "w1": floats(8, 3, 3, 3), "s": floats(8), "m": floats(8), "o": floats(8), "v": np.abs(floats(8)) + 0.5,
        "w2": floats(8, 1, 3, 3), "b2": floats(8), "zero": np.float32(0), "six": np.float32(6),
        "i0": np.int64(0), "i0v": np.array([0]), "rest": np.array([-1]), "w3": floats(5, 128), "b3": floats(5),
    }  # fmt: skip
    return model(nodes, {"x": (batch, 3, 16, 16)}, ["y"], constants)


@pytest.mark.parametrize("batch", [1, "batch"])
def test_a_network_keeps_its_batch_open_and_turns_the_picture_once(batch):
    size = 1 if batch == 1 else 3
    made, operators = check(network(batch), {"x": floats(size, 3, 16, 16)})
    assert operators == {"TRANSPOSE": 1, "PAD": 1, "CONV_2D": 1, "DEPTHWISE_CONV_2D": 1, "ADD": 1, "MAX_POOL_2D": 1,
                         "RESHAPE": 1, "FULLY_CONNECTED": 1}  # fmt: skip
    assert made.inputs["x"].shape == (-1 if batch == "batch" else 1, 3, 16, 16)


def test_attention_with_computed_shapes():
    """Batch and length are open, and every view is computed from shapes."""
    nodes = [
        node("MatMul", "x wq", "q0"), node("MatMul", "x wk", "k0"), node("MatMul", "x wv", "v0"),
        node("Shape", "x", "shape"), node("Slice", "shape i0 i2", "outer"),
        node("Concat", "outer heads", "parted", axis=0),
        *(node("Reshape", f"{t}0 parted", f"{t}1") for t in "qkv"),
        *(node("Transpose", f"{t}1", f"{t}2", perm=[0, 2, 1, 3]) for t in "qv"),
        node("Transpose", "k1", "k2", perm=[0, 2, 3, 1]),
        node("MatMul", "q2 k2", "s0"), node("Div", "s0 root", "s1"), node("Softmax", "s1", "s2", axis=-1),
        node("MatMul", "s2 v2", "o0"), node("Transpose", "o0", "o1", perm=[0, 2, 1, 3]),
        node("Concat", "outer whole", "joined", axis=0), node("Reshape", "o1 joined", "o2"),
        node("Add", "o2 x", "o3"), node("LayerNormalization", "o3 g b", "y"),
    ]  # fmt: skip
    constants = {"wq": floats(8, 8), "wk": floats(8, 8), "wv": floats(8, 8), "i0": np.array([0]), "i2": np.array([2]),
                 "heads": np.array([2, 4]), "root": np.float32(2), "whole": np.array([8]), "g": floats(8),
                 "b": floats(8)}  # fmt: skip
    proto = model(nodes, {"x": ("batch", "time", 8)}, ["y"], constants)
    made, _ = check(proto, {"x": floats(2, 5, 8)})
    assert made.inputs["x"].shape == (-1, -1, 8)
    fixed = lithe.convert(proto, inputs={"x": (2, 5, 8)})
    assert fixed.inputs["x"].shape == (2, 5, 8)
    assert "SHAPE" not in {n.op.name for n in fixed.module.main.nodes}


def test_branches_and_loops_stay():
    """A branch that a value decides, and a loop that runs as often as a value says."""

    def graph(name, nodes, outputs, inputs=()):
        info = [helper.make_tensor_value_info(n, k, s) for n, k, s in outputs]
        return helper.make_graph(nodes, name, [helper.make_tensor_value_info(*i) for i in inputs], info)

    number, flag, real = onnx.TensorProto.INT64, onnx.TensorProto.BOOL, onnx.TensorProto.FLOAT
    then = graph("then", [node("Add", "x x", "t")], [("t", real, (3,))])
    other = graph("other", [node("Mul", "x x", "e")], [("e", real, (3,))])
    body = graph(
        "body",
        [node("Identity", "going", "on"), node("Add", "a x", "next"), node("Identity", "next", "seen")],
        [("on", flag, ()), ("next", real, (3,)), ("seen", real, (3,))],
        [("i", number, ()), ("going", flag, ()), ("a", real, (3,))],
    )
    nodes = [
        node("ReduceSum", "x", "sum", keepdims=0), node("Greater", "sum zero", "positive"),
        helper.make_node("If", ["positive"], ["chosen"], then_branch=then, else_branch=other),
        helper.make_node("Loop", ["times", "", "chosen"], ["last", "all"], body=body),
    ]  # fmt: skip
    proto = model(nodes, {"x": (3,), "times": ()}, ["last", "all"], {"zero": np.float32(0)}, kinds={"times": number})
    for x in (np.array([1, 2, 3], np.float32), np.array([-1, -2, 1], np.float32)):
        _, operators = check(proto, {"x": x, "times": np.asarray(4, np.int64)})
        assert operators["IF"] == operators["WHILE"] == 1


def test_a_model_is_verified_and_told_by_the_ending_of_its_file(tmp_path):
    path = tmp_path / "net.onnx"
    onnx.save(network("batch"), str(path))
    made = lithe.convert(str(path), verify=True)
    assert list(made.inputs) == ["x"]
    assert list(made.outputs) == ["y"]


# files and models that cannot be converted


def files(tmp_path):
    whole = network(1).SerializeToString()
    return {
        "truncated": whole[: len(whole) // 2], "noise": bytes(range(256)) * 4, "nothing": b"",
        "text": b"this is no model",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["truncated", "noise", "nothing", "text"])
def test_damaged_files_are_one_clear_error(name, tmp_path):
    path = tmp_path / "bad.onnx"
    path.write_bytes(files(tmp_path)[name])
    with pytest.raises(ModelError):
        lithe.convert(str(path))


def test_weights_beside_the_file_must_be_there(tmp_path):
    path = tmp_path / "net.onnx"
    onnx.save(network(1), str(path), save_as_external_data=True, location="weights.bin", size_threshold=0)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ModelError, match="weights beside the file"):
        lithe.convert(str(path))


def test_a_file_must_be_there(tmp_path):
    with pytest.raises(FileMissing):
        lithe.convert(str(tmp_path / "none.onnx"))


BAD = {
    "shapes that do not fit": ([node("MatMul", "x w", "y")], {"w": floats(5, 2)}, ModelError, "Incompatible"),
    "a name that nothing makes": ([node("Add", "x missing", "y")], {}, ModelError, "missing"),
    "an operator without a builtin": (
        [node("MatMul", "x w", "y0"), helper.make_node("Optional", [], ["o"], name="odd"),
         helper.make_node("OptionalGetElement", ["o"], ["y"], name="bad")],
        {"w": floats(4, 2)}, LitheError, "bad|odd|y",
    ),
    "an operator that nobody knows": (
        [helper.make_node("Strange", ["x"], ["y"], name="odd", domain="nowhere")], {}, LitheError, "nowhere",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_models_that_cannot_be_are_one_clear_error(name):
    nodes, constants, kind, text = BAD[name]
    ends = [helper.make_tensor_value_info(n, 1, s) for n, s in (("x", (3, 4)), ("y", ("rows", "columns")))]
    graph = helper.make_graph(
        nodes, "main", ends[:1], ends[1:],
        [onnx.numpy_helper.from_array(v, k) for k, v in constants.items()],
    )  # fmt: skip
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    with pytest.raises(kind, match=text):
        lithe.convert(proto)


def test_all_problems_are_listed_with_their_places():
    nodes = [helper.make_node("StringNormalizer", ["x"], ["a"], name="first"),
             helper.make_node("StringNormalizer", ["a"], ["b"], name="second"),
             helper.make_node("StringNormalizer", ["x"], ["y"], name="third")]  # fmt: skip
    proto = model(nodes, {"x": (3,)}, ["y"], kind=onnx.TensorProto.STRING)
    with pytest.raises(UnsupportedOp, match="2 parts") as error:
        lithe.convert(proto)
    assert "StringNormalizer at node 'first'" in str(error.value)
    assert "StringNormalizer at node 'third'" in str(error.value)


def test_inputs_must_fit_the_model():
    with pytest.raises(InputError, match="no input 'z'"):
        lithe.convert(network(1), inputs={"z": (1, 3, 16, 16)})
    with pytest.raises(InputError, match="4 dimensions"):
        lithe.convert(network(1), inputs={"x": (3, 16, 16)})
    with pytest.raises(InputError, match="2 inputs were given"):
        lithe.convert(network(1), inputs=[np.zeros((1, 3, 16, 16), np.float32)] * 2)


def test_what_is_no_tensor_is_refused():
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(1, (3,)))
    graph = helper.make_graph([node("SequenceLength", "s", "y")], "main", [helper.make_value_info("s", kind)],
                              [helper.make_tensor_value_info("y", 7, ())])  # fmt: skip
    with pytest.raises(UnsupportedOp, match="no tensor"):
        lithe.convert(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))
    odd = helper.make_graph([node("Cast", "x", "y", to=1)], "main", [helper.make_tensor_value_info("x", 18, (3,))],
                            [helper.make_tensor_value_info("y", 1, (3,))])  # fmt: skip
    with pytest.raises(UnsupportedOp, match="float8_e4m3fnuz"):
        lithe.convert(helper.make_model(odd, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))


def test_a_model_says_what_its_operators_and_inputs_are():
    proto = network(1)
    del proto.opset_import[:]
    with pytest.raises(ModelError, match=r"imports no operator set|opset"):
        lithe.convert(proto)
    proto = network(1)
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(InputError, match="how many dimensions"):
        lithe.convert(proto)
    assert lithe.convert(proto, inputs={"x": (1, 3, 16, 16)}).inputs["x"].shape == (1, 3, 16, 16)
    with pytest.raises(ModelError, match="no ONNX model"):
        lithe.convert(onnx.ModelProto())


def test_other_things_are_no_onnx_model():
    with pytest.raises(InputError, match="ModelProto is needed"):
        lithe.convert(3, kind="onnx")


def test_without_onnx_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingDependency, match="package onnx"):
        lithe.convert("net.onnx", kind="onnx")
