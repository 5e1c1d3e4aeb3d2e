"""Constants in fewer bits: which, how they are stored, and that the model still gives nearly the same."""

from __future__ import annotations

import numpy as np
import pytest

from lithe.formats import tflite
from lithe.ir.graph import Graph, Module, Node, Tensor
from lithe.ops.op import REGISTRY
from lithe.ops.verify import verify
from lithe.optimize.weights import FEWEST, FEWEST_HALVES, float16_weights, int8_weights
from lithe.runtime.model import Model
from lithe.types import FLOAT32, INT32, TensorType
from tests.conversion.official import run_official

RANDOM = np.random.default_rng(3)


def constant(name: str, *shape: int) -> Tensor:
    return Tensor(name, TensorType(FLOAT32, shape), RANDOM.standard_normal(shape).astype(np.float32))


def value(name: str, *shape: int, dtype=FLOAT32) -> Tensor:
    return Tensor(name, TensorType(dtype, shape))


def node(op: str, inputs: list, outputs: list, **attrs) -> Node:
    cls = REGISTRY.by_name[op]
    return Node(cls, cls.Attrs(**attrs), inputs, outputs)


def module(inputs: list, outputs: list, nodes: list) -> Module:
    mentioned = dict.fromkeys(t for n in nodes for t in (*n.inputs, *n.outputs) if t is not None)
    graph = Graph("main", inputs, outputs, list(dict.fromkeys([*inputs, *mentioned])), nodes)
    for i, t in enumerate(graph.tensors):
        t.index = i
    return Module([graph])


def convolutions() -> Module:
    """A convolution, a depthwise one, a product with weights and one with few weights, an added constant."""
    x, a, b, c, d, e = (value(n, *s) for n, s in zip("xabcde", [(1, 8, 8, 16)] * 3 + [(1, 1024), (1, 8), (1, 8)],
                                                     strict=True))  # fmt: skip
    nodes = [
        node("CONV_2D", [x, constant("w", 16, 3, 3, 16), constant("bias", 16)], [a], padding="SAME"),
        node("DEPTHWISE_CONV_2D", [a, constant("v", 1, 9, 9, 16), constant("bias2", 16)], [b], padding="SAME"),
        node("RESHAPE", [b, Tensor("shape", TensorType(INT32, (2,)), np.array([1, 1024], np.int32))], [c]),
        node("FULLY_CONNECTED", [c, constant("u", 8, 1024), None], [d]),
        node("FULLY_CONNECTED", [d, constant("few", 8, 8), None], [e]),
    ]
    return module([x], [e], nodes)


def ratio(expected: np.ndarray, got: np.ndarray) -> float:
    """Signal to noise in decibels."""
    return float(10 * np.log10((expected.astype(np.float64) ** 2).sum() / ((expected - got) ** 2).sum()))


def agree(m: Module, x: np.ndarray, expected: np.ndarray, decibels: float) -> None:
    verify(m)
    again = tflite.read(tflite.write(m))
    verify(again)
    assert ratio(expected, Model(again)(x)) > decibels
    (official,) = run_official(Model(again), {again.main.inputs[0].name: x})
    assert ratio(expected, official) > decibels


def test_weights_of_8_bits_have_a_scale_for_each_output_channel():
    m = convolutions()
    x = RANDOM.standard_normal((1, 8, 8, 16)).astype(np.float32)
    originals = {t.name: t.data for t in m.constants()}
    expected, before = Model(convolutions_like(m))(x), len(tflite.write(m))
    assert int8_weights(m) == 3
    held = {t.name: t for t in m.constants()}
    assert [t for t in held if held[t].type.dtype.name == "int8"] == ["w", "v", "u"]
    for name, axis, count in (("w", 0, 16), ("v", 3, 16), ("u", 0, 8)):
        q = held[name].type.quantization
        assert (q.axis, len(q.scale), set(q.zero_point)) == (axis, count, {0})
        shape = [-1 if i == axis else 1 for i in range(held[name].type.rank)]
        scale = np.array(q.scale, np.float32).reshape(shape)
        assert np.abs(held[name].data).max() == 127
        assert np.all(np.abs(held[name].data * scale - originals[name]) <= scale / 2 * 1.0001)
    assert m.main.nodes[3].attrs.asymmetric_quantize_inputs
    assert not m.main.nodes[4].attrs.asymmetric_quantize_inputs  # its weights are few
    assert len(tflite.write(m)) < 0.3 * before
    agree(m, x, expected, 30)


def convolutions_like(m: Module) -> Module:
    return tflite.read(tflite.write(m))


def test_float16_behind_a_dequantize():
    m = convolutions()
    x = RANDOM.standard_normal((1, 8, 8, 16)).astype(np.float32)
    expected, before = Model(convolutions_like(m))(x), len(tflite.write(m))
    assert float16_weights(m) == 3  # 64 elements or fewer are not worth an operator
    assert [n.op.name for n in m.main.nodes[:4]] == ["DEQUANTIZE"] * 3 + ["CONV_2D"]
    assert {t.type.size > FEWEST_HALVES for t in m.constants() if t.type.dtype.name == "float16"} == {True}
    assert len(tflite.write(m)) < 0.53 * before
    agree(m, x, expected, 55)


def test_numbers_that_float16_does_not_have_stay():
    m = convolutions()
    m.main.nodes[0].inputs[1].data[0, 0, 0, 0] = 1e5
    m.main.nodes[1].inputs[1].data[0, 0, 0, 0] = np.inf
    assert float16_weights(m) == 1
    assert int8_weights(convolutions()) == 3


def test_rows_of_a_table_are_widened_when_they_are_read():
    i, rows = value("i", 2, dtype=INT32), value("rows", 2, 64)
    m = module([i], [rows], [node("GATHER", [constant("table", 50, 64), i], [rows])])
    expected = m.main.nodes[0].inputs[0].data[[7, 3]]
    assert int8_weights(m) == 1
    assert [n.op.name for n in m.main.nodes] == ["GATHER", "DEQUANTIZE"]
    assert len(m.main.nodes[0].inputs[0].type.quantization.scale) == 1
    agree(m, np.array([7, 3], np.int32), expected, 35)


def test_what_someone_reads_as_floats_stays():
    w, x, y, z = constant("w", 32, 64), value("x", 1, 64), value("y", 1, 32), value("z", 32, 64)
    m = module([x], [y, z], [node("FULLY_CONNECTED", [x, w, None], [y]), node("EXP", [w], [z])])
    assert int8_weights(m) == 0
    several = module([x], [y], [node("FULLY_CONNECTED", [x, constant("small", 16, FEWEST // 16 - 1), None], [y])])
    assert int8_weights(several) == 0


def test_weights_that_graphs_share_stay_one_array():
    x, y, w = value("x", 1, 64), value("y", 1, 32), constant("w", 32, 64)
    m = module([x], [y], [node("FULLY_CONNECTED", [x, w, None], [y])])
    other = Tensor("again", w.type, w.data)
    second = module([value("p", 1, 64)], [value("q", 1, 32)], [])
    second.main.nodes = [node("FULLY_CONNECTED", [second.main.inputs[0], other, None], [second.main.outputs[0]])]
    m.graphs.append(second.main)
    assert int8_weights(m) == 2
    assert m.graphs[0].nodes[0].inputs[1].data is m.graphs[1].nodes[0].inputs[1].data


@pytest.mark.parametrize("narrow", [float16_weights, int8_weights])
def test_a_second_time_changes_nothing(narrow):
    m = convolutions()
    narrow(m)
    before = tflite.write(m)
    assert narrow(m) == 0
    assert tflite.write(m) == before
