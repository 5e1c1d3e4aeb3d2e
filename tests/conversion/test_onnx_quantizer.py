"""Models that ONNX's runtime quantizes: they become integer builtins, and give what it gives."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
quantization = pytest.importorskip("onnxruntime.quantization", reason="onnxruntime's quantizer is not installed")

import lithe  # noqa: E402
from tests.conversion.official import run_official  # noqa: E402
from tests.conversion.onnx_models import model  # noqa: E402


class Network:
    """Collects the nodes of a network with random weights."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}
        self.random = np.random.default_rng(0)

    def __call__(self, op: str, *inputs: str | np.ndarray, **attributes: Any) -> str:
        names = [x if isinstance(x, str) else self.constant(x) for x in inputs]
        out = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(op, names, [out], name=out, **attributes))
        return out

    def constant(self, value: np.ndarray) -> str:
        name = f"constant{len(self.constants)}"
        self.constants[name] = value
        return name

    def weights(self, *shape: int, fan: int) -> np.ndarray:
        return (self.random.standard_normal(shape) / np.sqrt(fan)).astype(np.float32)

    def bias(self, size: int) -> np.ndarray:
        return self.weights(size, fan=100)


def convolutions(net: Network, x: str) -> str:
    x = net("Conv", x, net.weights(8, 3, 3, 3, fan=27), net.bias(8), pads=[1] * 4, strides=[2, 2])
    x = net("Relu", x)
    y = net("Conv", x, net.weights(8, 1, 3, 3, fan=9), net.bias(8), pads=[1] * 4, group=8)
    y = net("Clip", y, np.float32(0), np.float32(6))
    y = net("Conv", y, net.weights(8, 8, 1, 1, fan=8), net.bias(8))
    x = net("MaxPool", net("Add", x, y), kernel_shape=[2, 2], strides=[2, 2])
    y = net("Sigmoid", net("Conv", x, net.weights(16, 8, 3, 3, fan=72), pads=[1] * 4))
    y = net("Flatten", net("GlobalAveragePool", net("Concat", y, x, axis=1)))
    return net("Softmax", net("Gemm", y, net.weights(10, 24, fan=24), net.bias(10), transB=1))


def dense(net: Network, x: str) -> str:
    x = net("Relu", net("Gemm", x, net.weights(16, 32, fan=16), net.bias(32)))
    x = net("LeakyRelu", net("Add", net("MatMul", x, net.weights(32, 32, fan=32)), net.bias(32)), alpha=0.1)
    return net("Gemm", x, net.weights(5, 32, fan=32), net.bias(5), transB=1)


def transformer(net: Network, x: str) -> str:
    def project(x: str, n: int, m: int) -> str:
        return net("Add", net("MatMul", x, net.weights(n, m, fan=n)), net.bias(m))

    def heads(x: str, order: list[int]) -> str:
        return net("Transpose", net("Reshape", project(x, 16, 16), np.array([1, 6, 2, 8])), perm=order)

    ones = np.ones(16, np.float32)
    n = net("LayerNormalization", x, ones, net.bias(16))
    q, k, v = heads(n, [0, 2, 1, 3]), heads(n, [0, 2, 3, 1]), heads(n, [0, 2, 1, 3])
    scores = net("Softmax", net("Mul", net("MatMul", q, k), np.float32(8**-0.5)))
    joined = net("Reshape", net("Transpose", net("MatMul", scores, v), perm=[0, 2, 1, 3]), np.array([1, 6, 16]))
    x = net("Add", x, project(joined, 16, 16))
    y = net("Relu", project(net("LayerNormalization", x, ones, net.bias(16)), 16, 32))
    return net("Add", x, project(y, 32, 16))


def generator(net: Network, x: str) -> str:
    """Parts that are moved only, and two ways to a larger picture."""
    x = net("Pad", x, np.array([0, 0, 1, 0, 0, 0, 1, 2]))
    x = net("Relu", net("Conv", x, net.weights(8, 3, 3, 3, fan=27), net.bias(8)))
    y = net("Conv", net("Slice", x, np.array([0]), np.array([4]), np.array([1])), net.weights(4, 4, 1, 1, fan=4))
    y = net("ConvTranspose", y, net.weights(4, 6, 3, 3, fan=12), net.bias(6), strides=[2, 2], pads=[1, 1, 1, 1],
            output_padding=[1, 1])  # fmt: skip
    wide = net("Resize", x, "", np.array([1, 1, 2, 2], np.float32), mode="nearest",
               coordinate_transformation_mode="asymmetric", nearest_mode="floor")  # fmt: skip
    y = net("Add", y, net("Conv", wide, net.weights(6, 8, 1, 1, fan=8), net.bias(6)))
    y = net("DepthToSpace", net("Conv", y, net.weights(4, 6, 1, 1, fan=6), net.bias(4)), blocksize=2)
    return net("Sigmoid", y)


Build = Callable[[Network, str], str]
# what is built, for which input, and which builtins on integers come of it: how many
NETWORKS: dict[str, tuple[Build, tuple[int, ...], dict[str, int]]] = {
    "convolutions": (
        convolutions,
        (2, 3, 16, 16),
        {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 1, "ADD": 1, "MAX_POOL_2D": 1, "LOGISTIC": 1, "CONCATENATION": 1, "MEAN": 1,
         "FULLY_CONNECTED": 1, "SOFTMAX": 1},
    ),
    "generator": (
        generator,
        (1, 3, 6, 6),
        {"CONV_2D": 4, "TRANSPOSE_CONV": 1, "PAD": 1, "SLICE": 2, "RESIZE_NEAREST_NEIGHBOR": 1, "DEPTH_TO_SPACE": 1},
    ),
    "dense": (dense, (4, 16), {"FULLY_CONNECTED": 3, "ADD": 1, "LEAKY_RELU": 1}),
    "transformer": (transformer, (1, 6, 16), {"FULLY_CONNECTED": 6, "BATCH_MATMUL": 2, "SOFTMAX": 1, "ADD": 8}),
}  # fmt: skip
INTEGER_PRODUCTS = {"CONV_2D", "TRANSPOSE_CONV", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL"}


class Examples(quantization.CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, shape: tuple[int, ...]) -> None:
        self.left: Iterator[np.ndarray] = (example(shape, seed) for seed in range(8))

    def get_next(self) -> dict[str, np.ndarray] | None:
        x = next(self.left, None)
        return None if x is None else {"x": x}


def example(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def written(name: str, folder: Any) -> str:
    build, shape, _ = NETWORKS[name]
    net = Network()
    y = build(net, "x")
    path = str(folder / "float.onnx")
    onnx.save(model(net.nodes, {"x": shape}, [y], net.constants, opset=17), path)
    return path


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.root, "handlers", [logging.NullHandler()])


def runtime(proto: Any, x: np.ndarray, optimised: bool) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimised else levels.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(proto.SerializeToString(), options).run(None, {"x": x})[0]


def quantized(name: str, folder: Any, activations: str, weights: str, per_channel: bool) -> Any:
    kinds = quantization.QuantType
    out = str(folder / "quantized.onnx")
    quantization.quantize_static(
        written(name, folder), out, Examples(NETWORKS[name][1]), quant_format=quantization.QuantFormat.QDQ,
        per_channel=per_channel, activation_type=kinds[activations], weight_type=kinds[weights],
    )  # fmt: skip
    return onnx.load(out)


def near(made: lithe.Model, proto: Any, name: str) -> None:
    """Within one quantum of the result, or what ONNX's runtime differs by from itself. A value that halves are rounded
    to differently passes on through layers: a transformer, which has twenty in a row, has three quanta at worst."""
    x = example(NETWORKS[name][1], 99)
    want, other = runtime(proto, x, False), runtime(proto, x, True)
    quantum = float(np.diff(np.unique(want)).min())
    most = 3 * quantum if name == "transformer" else max(quantum, float(np.abs(want - other).max()))
    for got in (made(x), *run_official(made, {"x": x})):
        assert np.abs(got - want).max() <= most * 1.001
        assert np.abs(got - want).mean() <= 0.6 * quantum


@pytest.mark.parametrize("per_channel", [False, True], ids=["tensor", "channel"])
@pytest.mark.parametrize("activations", ["QInt8", "QUInt8"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_becomes_integer_builtins(name, activations, per_channel, tmp_path):
    proto = quantized(name, tmp_path, activations, "QInt8", per_channel)
    made = lithe.convert(proto)
    nodes = made.module.main.nodes
    integers = [n.op.name for n in nodes if n.outputs[0].type.dtype.name == "int8"]
    assert {op: integers.count(op) for op in NETWORKS[name][2]} == NETWORKS[name][2]
    assert not INTEGER_PRODUCTS & {n.op.name for n in nodes if n.outputs[0].type.dtype.is_float}
    weights = [
        n.inputs[1].type.quantization for n in nodes if n.op.name in INTEGER_PRODUCTS and n.inputs[1].is_constant
    ]
    assert any(q.per_channel for q in weights) == per_channel
    near(made, proto, name)


def test_weights_with_zero_points_are_products_of_floats(tmp_path):
    proto = quantized("convolutions", tmp_path, "QUInt8", "QUInt8", False)
    made = lithe.convert(proto)
    integers = {n.op.name for n in made.module.main.nodes if n.outputs[0].type.dtype.name == "int8"}
    assert {"ADD", "MAX_POOL_2D", "CONCATENATION", "MEAN", "SOFTMAX"} <= integers
    near(made, proto, "convolutions")


@pytest.mark.parametrize("weights", ["QInt8", "QUInt8"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_quantized_while_it_runs(name, weights, tmp_path):
    out = str(tmp_path / "quantized.onnx")
    quantization.quantize_dynamic(
        written(name, tmp_path), out, weight_type=quantization.QuantType[weights], per_channel=True
    )
    proto = onnx.load(out)
    assert {"DynamicQuantizeLinear"} <= {n.op_type for n in proto.graph.node}
    x = example(NETWORKS[name][1], 99)
    want = runtime(proto, x, False)
    made = lithe.convert(proto)
    for got in (made(x), *run_official(made, {"x": x})):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
