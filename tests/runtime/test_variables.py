"""Variables whose shapes, or the shapes beside them, are known only when the model runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import lithe
from lithe.formats.tflite import write
from lithe.ir.graph import Module, Tensor
from lithe.passes.bind_variables import first_values
from lithe.runtime.instance import Options
from lithe.runtime.source import Source
from lithe.types import BFLOAT16, FLOAT32, INT4, RESOURCE, STRING, DType
from tests.passes.graphs import Draft
from tests.runtime.test_control import F, assign, counting, graph, two_functions


def test_a_handle_asks_nothing_of_its_inputs():
    def main(d: Draft) -> Tensor:
        x = d.input((2,))
        handle = d("VAR_HANDLE", shape=(), dtype=RESOURCE, shared_name="v")
        assign(d, handle, x)
        other = d("VAR_HANDLE", d("READ_VARIABLE", handle, shape=(2,), dtype=FLOAT32), shape=(), dtype=RESOURCE,
                  shared_name="w")  # fmt: skip
        assign(d, other, d("NEG", x, shape=(2,)))
        return d("READ_VARIABLE", other, shape=(2,), dtype=FLOAT32)

    for options in (Options(keep=False), Options(reference=True)):
        model = lithe.Model(Source(write(Module([graph(main)])), keep=False), options)
        np.testing.assert_array_equal(model(np.array([1, -2], F)), np.array([-1, 2], F))


@pytest.mark.parametrize("name", ["READ_VARIABLE", "ADD"])
@pytest.mark.parametrize("options", [Options(keep=False), Options(reference=True)], ids=["compiled", "reference"])
def test_what_is_known_when_the_model_runs_needs_no_declared_shape(options, name):
    module = two_functions()
    (node,) = (n for n in module.graphs[1].nodes if n.op.name == name)
    node.outputs[0].type = replace(node.outputs[0].type, shape=())
    model = lithe.Model(Source(write(module), keep=False), options)
    model.signatures["add"](np.array([0.5, -2], F))
    got = model.signatures["get"](np.ones(2, F))["y"]
    np.testing.assert_allclose(got, np.tanh(np.array([0.5, -2], F)) + 1, rtol=1e-6)


def started(content: bytes) -> tuple[list[list[float]], bool]:
    """Results of three runs, and whether the model was read for them."""
    source = Source(content)
    model = lithe.Model(source)
    return [model(np.array(x, F)).tolist() for x in ([0, 0], [1, 1], [5, -5])], source.is_whole


def test_kept_code_knows_the_first_values_of_variables(tmp_path, monkeypatch):
    monkeypatch.setenv("LITHE_CACHE_DIR", str(tmp_path / "cache"))
    content = write(counting())
    expected = [[2, 4], [4, 6], [14, -4]]
    assert started(content) == (expected, True)
    assert started(content) == (expected, False)


def test_a_graph_run_once_that_does_more_is_run(tmp_path, monkeypatch):
    monkeypatch.setenv("LITHE_CACHE_DIR", str(tmp_path / "cache"))
    module = counting()
    start = module.graphs[1]
    value = start.nodes[1].inputs[1]
    halves = Tensor("halves", value.type, np.array([-1, -2], F), index=len(start.tensors))
    start.tensors.append(halves)
    negated = Tensor("negated", value.type, index=len(start.tensors))
    start.tensors.append(negated)
    d = Draft()
    d("NEG", halves, shape=(2,))
    node = d.nodes[-1]
    node.outputs = [negated]
    start.nodes.insert(1, node)
    start.nodes[2].inputs[1] = negated
    assert first_values(start) is None
    expected = [[2, 4], [4, 6], [14, -4]]
    assert started(write(module)) == (expected, True)
    assert started(write(module)) == (expected, True)


def first(*values: np.ndarray, dtype: DType = FLOAT32) -> dict[str, np.ndarray] | None:
    d = Draft()
    for n, value in enumerate(values):
        assign(d, d("VAR_HANDLE", shape=(), dtype=RESOURCE, shared_name=f"v{n}"), d.constant(value, dtype.numpy))
        d.nodes[-1].inputs[1].type = replace(d.nodes[-1].inputs[1].type, dtype=dtype)
    return first_values(d.graph())


def test_first_values_are_constants_that_have_bytes():
    found = first(np.array([1, 2]), np.array(3))
    assert found is not None
    assert {key: value.tolist() for key, value in found.items()} == {"variable:/v0": [1, 2], "variable:/v1": 3}
    assert first() == {}
    assert first(np.array(["a"], object), dtype=STRING) is None


@pytest.mark.parametrize("dtype", [FLOAT32, BFLOAT16, INT4], ids=str)
def test_first_values_keep_their_type(dtype, tmp_path):
    from lithe.runtime.cache import Cache
    from lithe.runtime.compiled import Artifact, Layout, cached, store

    value = np.array([[1, -2, 3]]).astype(dtype.numpy)
    cache = Cache(tmp_path / "cache")
    artifact = Artifact((), np.zeros(0, np.uint8), Layout(0, (), ()), first={3: {"variable:/v": value}, 7: {}})
    assert store(bytes(32), artifact, cache)
    found = cached(bytes(32), cache)
    assert found is not None
    assert found.first.keys() == {3, 7}
    assert found.first[3]["variable:/v"].dtype == value.dtype
    np.testing.assert_array_equal(found.first[3]["variable:/v"], value)
