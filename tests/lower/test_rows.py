"""Contractions that follow each other as one kernel by rows: when they do, and that every bit stays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lithe.ir.graph import Graph, Tensor
from lithe.ir.program import Program
from lithe.ir.verify import verify_program
from lithe.lower import lower, rows, share_out
from lithe.passes import prepare
from lithe.types import FLOAT32, INT8, UINT8, DType, Quantization, TensorType
from tests.llvm_backend import host_target, run, smaller_targets
from tests.passes.graphs import Draft

RANDOM = np.random.default_rng(11)
SMALL = 1 << 12  # elements of a cache that small layers do not fit
ZEROS = {INT8: 0, UINT8: 121}  # of weights; the second one needs sums of activations


def typed(t: Tensor, dtype: DType, scale: float, zero: int) -> Tensor:
    if dtype is not FLOAT32:
        t.type = TensorType(dtype, t.type.shape, Quantization((scale,), (zero,)))
    return t


class Block:
    """expand, depthwise, project and perhaps the residual, of one element type."""

    def __init__(self, dtype: DType = FLOAT32, batch: int = 1, size: int = 24, channels: int = 4) -> None:
        self.d, self.dtype = Draft(), dtype
        self.x = typed(self.d.input((batch, size, size + 1, channels), dtype), dtype, 0.02, 5)

    def weights(self, *shape: int) -> Tensor:
        if self.dtype is FLOAT32:
            return self.d.constant(RANDOM.normal(size=shape) / 3)
        values = RANDOM.integers(*((-127, 128) if self.dtype is INT8 else (0, 256)), shape)
        return typed(self.d.constant(values, self.dtype.numpy), self.dtype, 0.02, ZEROS[self.dtype])

    def made(self, op: str, x: Tensor, w: Tensor, channels: int, **attrs: object) -> Tensor:
        y = self.d(op, x, w, None, shape=(*x.type.shape[:3], channels), dtype=self.dtype, **attrs)
        return typed(y, self.dtype, 0.05, 7)

    def graph(self, stride: int, kernel: int = 3, padding: str = "SAME", expanded: int = 20, out: int = 4) -> Graph:
        x, attrs = self.x, {"fused_activation_function": "RELU6"}
        y = self.made("CONV_2D", x, self.weights(expanded, 1, 1, x.type.shape[3]), expanded, **attrs)
        y = self.made("DEPTHWISE_CONV_2D", y, self.weights(1, kernel, kernel, expanded), expanded, padding=padding,
                      stride_h=stride, stride_w=stride, **attrs)  # fmt: skip
        y = self.made("CONV_2D", y, self.weights(out, 1, 1, expanded), out)
        if stride == 1 and padding == "SAME":
            y = typed(self.d("ADD", y, x, dtype=self.dtype), self.dtype, 0.06, 0)
        return prepare(self.d.graph(y))


def values(graph: Graph) -> list[np.ndarray]:
    (t,) = graph.inputs
    drawn = RANDOM.normal(size=t.type.shape) if t.type.dtype is FLOAT32 else RANDOM.integers(0, 100, t.type.shape)
    return [drawn.astype(t.type.dtype.numpy)]


@pytest.fixture
def generous(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chains are taken whatever they compute twice, and threads share the smallest work."""
    monkeypatch.setattr(rows, "MOST_TWICE", 9.0)
    monkeypatch.setattr(share_out, "LEAST_RUN", 0.0)
    monkeypatch.setattr(share_out, "LEAST", 0.0)


def checked(graph: Graph, monkeypatch: pytest.MonkeyPatch, name: str = "host") -> Program:
    """The program of a graph by rows, after comparing its results with those of one kernel a contraction."""
    target = replace(smaller_targets()[name], cache_bytes=SMALL * graph.inputs[0].type.dtype.bytes)
    by_rows = lower(graph, target)
    verify_program(by_rows)
    with monkeypatch.context() as m:
        m.setattr(rows, "MOST", 0)
        apart = lower(graph, target)
    assert len(by_rows.steps) < len(apart.steps)
    inputs = values(graph)
    for got, want in zip(
        run(by_rows, inputs, target.features, (1, 2, 3)), run(apart, inputs, target.features), strict=True
    ):
        np.testing.assert_array_equal(got, want)
    return by_rows


@pytest.mark.parametrize("dtype", [FLOAT32, INT8, UINT8], ids=str)
@pytest.mark.parametrize(
    ("stride", "kernel", "padding"), [(1, 3, "SAME"), (2, 3, "SAME"), (1, 5, "SAME"), (2, 5, "SAME"), (1, 3, "VALID")]
)
def test_every_bit_stays(dtype, stride, kernel, padding, generous, monkeypatch):
    size = 26 if padding == "VALID" else 24
    program = checked(Block(dtype, size=size).graph(stride, kernel, padding), monkeypatch)
    (step,) = program.steps
    assert step.source.count("CONV_2D") == 3


@pytest.mark.parametrize("name", [n for n in smaller_targets() if n != "host"])
@pytest.mark.parametrize("dtype", [FLOAT32, INT8], ids=str)
def test_every_bit_stays_on_smaller_targets(dtype, name, generous, monkeypatch):
    checked(Block(dtype).graph(2), monkeypatch, name)


def test_pictures_of_a_batch_are_apart(generous, monkeypatch):
    checked(Block(batch=3).graph(1), monkeypatch)


def test_less_memory_is_needed(generous, monkeypatch):
    graph = Block(size=48).graph(2)
    by_rows = checked(graph, monkeypatch)
    monkeypatch.setattr(rows, "MOST", 0)
    assert by_rows.arena_bytes < 0.6 * lower(graph, replace(host_target(), cache_bytes=4 * SMALL)).arena_bytes


def taken(graph: Graph, cache_bytes: int = 4 * SMALL) -> list[int]:
    """How many contractions each kernel has."""
    steps = lower(graph, replace(host_target(), cache_bytes=cache_bytes)).steps
    return [step.source.count("CONV_2D") for step in steps]


def test_a_chain_is_taken_when_it_pays():
    assert taken(Block(size=64).graph(2), 1 << 16) == [3]
    assert taken(Block(size=64).graph(2), 1 << 19) == [1, 1, 1]  # what lies between fits the cache
    assert taken(Block(size=64).graph(2), 1 << 11) == [1, 1, 1]  # not even one row does
    assert taken(Block(size=64).graph(1, 5), 1 << 16) == [1, 1, 1]  # too much would be computed twice
    assert taken(Block(size=62).graph(2), 1 << 16) == [1, 1, 1]  # bands would not be equal
    assert taken(Block(size=64, channels=32).graph(2), 1 << 16)[0] == 1  # the first one makes less than it reads


def test_what_somebody_else_reads_is_not_kept_in_bands(generous):
    block = Block(size=64)
    graph = block.graph(2)
    middle = graph.nodes[0].outputs[0]
    assert taken(replace(graph, outputs=[*graph.outputs, middle]))[0] == 1
