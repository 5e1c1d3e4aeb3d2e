"""Quantized ONNX models: what becomes integers, and how near it is to ONNX's runtime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

import lithe  # noqa: E402
from lithe.formats import tflite  # noqa: E402
from tests.conversion.official import run_official  # noqa: E402
from tests.conversion.onnx_models import Quantizer, model  # noqa: E402

Build = Callable[[Quantizer, str], str]


def classifier(q: Quantizer, x: str) -> str:
    x = q.through(q.add("Relu", q.add("Conv", x, q.weights((8, 3, 3, 3), 8), q.bias(8), pads=[1, 1, 1, 1])), 0.05, -128)
    x = q.through(q.add("Clip", q.add("Conv", x, q.weights((8, 1, 3, 3), 8), q.bias(8), group=8, strides=[2, 2],
                                      pads=[0, 0, 1, 1]), q.constant(np.float32(0)), q.constant(np.float32(6))),
                  6 / 255, -128)  # fmt: skip
    x = q.through(q.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]), 6 / 255, -128)
    x = q.through(q.add("GlobalAveragePool", x), 0.02, -128)
    x = q.through(q.add("Flatten", x), 0.02, -128)
    x = q.through(q.add("Gemm", x, q.weights((5, 8)), q.bias(5), transB=1), 0.08)
    return q.through(q.add("Softmax", x), 1 / 256, -128)


def residual(q: Quantizer, x: str) -> str:
    y = q.through(q.add("Conv", x, q.weights((3, 3, 1, 1), 3), q.bias(3)), 0.06, 5)
    y = q.through(q.add("Add", x, y), 0.1, 3)
    y = q.through(q.add("Concat", x, y, axis=1), 0.1, 3)
    return q.through(q.add("AveragePool", y, kernel_shape=[2, 2], strides=[2, 2]), 0.1, 3)


def products(q: Quantizer, x: str) -> str:
    x = q.through(q.add("Transpose", x, perm=[0, 2, 3, 1]), 0.03, 1)
    y = q.through(q.add("MatMul", x, q.weights((3, 6), 6, axis=1)), 0.08)
    y = q.through(q.add("Sigmoid", y), 1 / 256, -128)
    return q.through(q.add("Mul", y, y), 1 / 256, -128)


CASES: dict[str, tuple[Build, list[str]]] = {
    "classifier": (classifier, ["CONV_2D", "DEPTHWISE_CONV_2D", "MAX_POOL_2D", "MEAN", "FULLY_CONNECTED", "SOFTMAX"]),
    "residual": (residual, ["CONV_2D", "ADD", "CONCATENATION", "AVERAGE_POOL_2D"]),
    "products": (products, ["FULLY_CONNECTED", "LOGISTIC", "MUL"]),
}


def built(build: Build, unsigned: bool) -> Any:
    q = Quantizer(unsigned)
    y = build(q, q.through("x", 0.03, 1))
    return model(q.nodes, {"x": (2, 3, 8, 8)}, [y], q.constants)


def steps(got: np.ndarray, want: np.ndarray) -> float:
    """The largest difference over the smallest one between different values that occur, the scale."""
    values = np.unique(want)
    return float(np.abs(got - want).max() / np.diff(values).min())


@pytest.mark.parametrize("unsigned", [True, False], ids=["uint8", "int8"])
@pytest.mark.parametrize("name", CASES)
def test_what_lies_between_pairs_is_computed_on_integers(name, unsigned):
    build, wanted = CASES[name]
    proto = built(build, unsigned)
    made = lithe.convert(proto)
    x = np.random.default_rng(1).standard_normal((2, 3, 8, 8)).astype(np.float32)
    (want,) = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"x": x})
    nodes = made.module.main.nodes
    floats = [n.op.name for n in nodes if n.outputs[0].type.dtype.is_float]
    assert [name for name in floats if name != "TRANSPOSE"] == ["DEQUANTIZE"]
    assert [n.op.name for n in nodes if n.op.name in wanted] == wanted
    for got in (made(x), *run_official(made, {"x": x})):
        assert steps(got, want) <= 2.01  # integers of each layer may be one off, where halves are rounded


def test_weights_with_a_zero_point_stay_floats():
    q = Quantizer()
    x = q.through("x", 0.03)
    names = [q.constant(v) for v in (np.arange(9, dtype=np.uint8).reshape(1, 1, 3, 3), np.float32(0.1), np.uint8(3))]
    y = q.through(q.add("Conv", x, q.add("DequantizeLinear", *names)), 0.1)
    proto = model(q.nodes, {"x": (1, 1, 5, 5)}, [y], q.constants)
    made = lithe.convert(proto)
    data = np.random.default_rng(0).standard_normal((1, 1, 5, 5)).astype(np.float32)
    (want,) = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"x": data})
    conv = next(n for n in made.module.main.nodes if n.op.name == "CONV_2D")
    assert conv.inputs[1].type.dtype.name == "float32"
    for got in (made(data), *run_official(made, {"x": data})):
        assert steps(got, want) <= 1.01


def test_integers_that_are_given_out_keep_their_type():
    q = Quantizer()
    pair = q.constant(np.float32(0.05)), q.constant(np.uint8(120))
    x = q.through("x", 0.03)
    y = q.add("QuantizeLinear", q.add("Conv", x, q.weights((2, 1, 3, 3)), q.bias(2)), *pair)
    proto = model(q.nodes, {"x": (1, 1, 5, 5)}, [y], q.constants)
    made = lithe.convert(proto)
    data = np.random.default_rng(0).standard_normal((1, 1, 5, 5)).astype(np.float32)
    (want,) = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"x": data})
    for got in (made(data), *run_official(made, {"x": data})):
        assert got.dtype == np.uint8
        assert np.abs(got.astype(int) - want.astype(int)).max() <= 1


def test_quantized_operators_of_their_own():
    random = np.random.default_rng(0)
    constants = {
        "xs": np.float32(0.02), "xz": np.uint8(120), "w": random.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8),
        "ws": random.uniform(0.005, 0.02, 4).astype(np.float32), "wz": np.zeros(4, np.int8), "ys": np.float32(0.05),
        "yz": np.uint8(130), "b": random.integers(-500, 500, 4).astype(np.int32),
    }  # fmt: skip
    node = onnx.helper.make_node("QLinearConv", ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"], ["y"],
                                 pads=[1, 1, 1, 1])  # fmt: skip
    proto = model([node], {"x": (1, 3, 6, 6)}, ["y"], constants, kind=onnx.TensorProto.UINT8)
    made = lithe.convert(proto)
    x = random.integers(0, 256, (1, 3, 6, 6)).astype(np.uint8)
    (want,) = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"x": x})
    assert "DEQUANTIZE" not in [n.op.name for n in made.module.main.nodes]
    for got in (made(x), *run_official(made, {"x": x})):
        assert np.abs(got.astype(int) - want.astype(int)).max() <= 1


def test_products_of_integers_are_exact_for_long_rows():
    random = np.random.default_rng(0)
    node = onnx.helper.make_node("MatMulInteger", ["x", "w", "xz", "wz"], ["y"])
    w = random.integers(0, 256, (700, 3)).astype(np.uint8)
    proto = model([node], {"x": (2, 700)}, ["y"], {"w": w, "xz": np.uint8(3), "wz": np.uint8(250)},
                  kind=onnx.TensorProto.UINT8)  # fmt: skip
    made = lithe.convert(proto)
    x = random.integers(0, 256, (2, 700)).astype(np.uint8)
    want = (x.astype(np.int32) - 3) @ (w.astype(np.int32) - 250)
    for got in (made(x), *run_official(made, {"x": x})):
        np.testing.assert_array_equal(got, want)


def test_a_file_of_a_quantized_model_is_read_again():
    made = lithe.convert(built(classifier, False))
    again = tflite.read(tflite.write(made.module))
    assert [n.op.name for n in again.main.nodes] == [n.op.name for n in made.module.main.nodes]


def test_what_integers_cannot_say_stays_floats():
    """Padding with a number, and sizes between places; nothing is left of the attempt, also where the batch is open."""
    q = Quantizer()
    pads, one = q.constant(np.array([0, 0, 1, 1, 0, 0, 1, 1])), q.constant(np.float32(1))
    x = q.through(q.add("Pad", q.through("x", 0.03), pads, one), 0.03)
    scales = q.constant(np.array([1, 1, 1.5, 2], np.float32))
    x = q.through(q.add("Resize", x, "", scales, mode="linear"), 0.03)
    y = q.through(q.add("Reshape", x, q.constant(np.array([0, -1]))), 0.03)
    proto = model(q.nodes, {"x": ("n", "m", 4, 4)}, [y], q.constants)
    made = lithe.convert(proto)
    data = np.random.default_rng(0).standard_normal((2, 3, 4, 4)).astype(np.float32)
    (want,) = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"x": data})
    kinds = {n.op.name: n.outputs[0].type.dtype.name for n in made.module.main.nodes}
    assert kinds["PADV2"] == "float32"
    assert kinds["RESHAPE"] == "int8"
    for got in (made(data), *run_official(made, {"x": data})):
        assert steps(got, want) <= 1.01
