"""Operators that TensorFlow runs: with TensorFlow where it is installed, and with a stand-in where it is not."""

from __future__ import annotations

import importlib
import sys
import types

import numpy as np
import pytest

import lithe
from lithe.errors import ExecutionError, MissingDependency, ModelError
from lithe.formats import tflite
from lithe.ir.graph import Graph, Module, Node, Tensor
from lithe.ops import unknown
from lithe.ops.flex import operators as flex
from lithe.ops.op import Site
from lithe.passes.deflex import expand
from lithe.types import FLOAT32, INT64, RESOURCE, STRING, DType, TensorType
from tests.formats.node_defs import flex_module, flex_node, flex_options

X = np.float32([1, 2, 3])


def model_bytes(op: str = "Lgamma") -> bytes:
    return tflite.write(flex_module(op, [X], [(np.float32, (3,))], {"T": FLOAT32}))


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked of TensorFlow for one operator, answered by `x + 1`."""

    def run(definition: bytes, given: tuple) -> object:
        assert b"Lgamma" in definition
        assert given == (("float32", (3,)),)
        return lambda *arrays: [types.SimpleNamespace(dtype=np.dtype("float32"), numpy=lambda: arrays[0] + 1)]

    monkeypatch.setattr(flex, "function", run)
    monkeypatch.setattr(expand, "tensorflow_is_installed", lambda: True)


def test_an_operator_runs_through_tensorflow(stand_in):
    np.testing.assert_array_equal(lithe.load(model_bytes())(X), X + 1)


def test_what_fails_there_names_the_operator(stand_in, monkeypatch):
    def failing(*arrays):
        raise TypeError("no such thing")

    monkeypatch.setattr(flex, "function", lambda *_: failing)
    with pytest.raises(ExecutionError, match=r"TensorFlow's Lgamma failed: no such thing\n.*op #0 FlexLgamma"):
        lithe.load(model_bytes())(X)


def test_where_it_cannot_be_imported_the_command_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    node = flex_module("Lgamma", [X], [(np.float32, (3,))], {}).main.nodes[0]
    with pytest.raises(MissingDependency, match="pip install tensorflow"):
        flex.FlexOp.evaluate(Site.of(node), X + 0.5)


def test_options_that_are_no_description_are_a_model_error():
    x, y = (Tensor(name, TensorType(FLOAT32, (3,)), index=i) for i, name in enumerate("xy"))
    for options in (b"", flex_options("Lgamma", b"\xff")):
        node = Node(unknown("FlexLgamma", None), {}, [x], [y], 0, {"version": 1, "custom_options": options})
        with pytest.raises(ModelError, match="op #0 FlexLgamma"):
            lithe.load(tflite.write(Module([Graph("main", [x], [y], [x, y], [node])])))


def test_a_model_is_read_and_written_as_it_was():
    data = model_bytes()
    module = tflite.read(data)
    assert module.main.nodes[0].attrs.op == "Lgamma"
    assert tflite.write(module) == data


def test_handles_and_strings_are_values_too():
    handle = types.SimpleNamespace(dtype=types.SimpleNamespace(name="resource"))
    held = flex._array(handle)
    assert held.shape == ()
    assert flex._type_name(held) == "resource"
    text = types.SimpleNamespace(dtype=types.SimpleNamespace(name="string"), numpy=lambda: np.array(b"abc"))
    assert flex._array(text).dtype == object
    assert flex._type_name(np.array([b"a", b"b"], object)) == "string"
    assert flex._type_name(np.array(b"a", object)) == "string"
    assert flex._type_name(X) == "float32"


installed = pytest.mark.skipif(not flex.tensorflow_is_installed(), reason="TensorFlow is not installed")


@installed
def test_tensorflow_runs_what_no_builtin_can():
    assert importlib.import_module("tensorflow").__version__
    np.testing.assert_allclose(lithe.load(model_bytes())(X + 1.5), [0.284683, 1.200974, 2.453737], rtol=1e-5)


@installed
def test_tensorflow_says_what_it_does_not_take():
    with pytest.raises(ExecutionError, match="TensorFlow does not take NoSuchOperator"):
        lithe.load(model_bytes("NoSuchOperator"))(X)


@installed
def test_strings_go_through_tensorflow():
    words = np.array([b"a b", b"c"], object)
    data = tflite.write(flex_module("StringUpper", [words], [(bytes, (2,))], {}))
    assert lithe.load(data)(words).tolist() == [b"A B", b"C"]


@installed
def test_tables_go_through_tensorflow():
    keys, values = np.array([b"a", b"b"], object), np.array([10, 20], np.int64)

    def tensor(name: str, index: int, dtype: DType, shape: tuple[int, ...], data: np.ndarray | None = None) -> Tensor:
        return Tensor(name, TensorType(dtype, shape), data, index=index)

    tensors = [
        tensor("query", 0, STRING, (3,)), tensor("handle", 1, RESOURCE, ()), tensor("keys", 2, STRING, (2,), keys),
        tensor("values", 3, INT64, (2,), values), tensor("default", 4, INT64, (), np.array(-1, np.int64)),
        tensor("found", 5, INT64, (3,)),
    ]  # fmt: skip
    query, handle, given, numbers, default, found = tensors
    kinds = {"Tin": STRING, "Tout": INT64}
    nodes = [
        flex_node("HashTableV2", [], [handle], {"key_dtype": STRING, "value_dtype": INT64}),
        flex_node("LookupTableImportV2", [handle, given, numbers], [], kinds),
        flex_node("LookupTableFindV2", [handle, query, default], [found], kinds),
    ]
    model = lithe.load(tflite.write(Module([Graph("main", [query], [found], tensors, nodes)])))
    assert model(np.array([b"b", b"x", b"a"], object)).tolist() == [20, -1, 10]
