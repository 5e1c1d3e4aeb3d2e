"""The reference executor, and the choice between it and compiled code."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from lithe.errors import CompileError, ExecutionError, MissingDependency, UnsupportedOp
from lithe.ops import unknown
from lithe.ops.op import Op, RuleViolation
from lithe.passes import prepare
from lithe.runtime import executors
from lithe.runtime.compiled import cached
from lithe.runtime.executors import cache_key, kept_executor, make_executor, may_compile
from lithe.runtime.reference import ReferenceExecutor
from lithe.types import INT8, INT32, STRING, Quantization, TensorType
from tests.passes.graphs import Draft

F = np.float32


def operator(function, shape=(2,), **facts):
    """An operator class that evaluates by `function` and says that its result has `shape`."""

    def infer(site):
        return [shape]

    def evaluate(site, *arrays):
        return [function(*arrays)]

    return type("Made", (Op,), {"name": "MADE", "infer": infer, "evaluate": evaluate, **facts})


def run(graph, *values):
    executor = ReferenceExecutor(prepare(graph))
    for tensor, value in zip(graph.inputs, values, strict=True):
        executor.array(tensor.index)[...] = value
    executor.invoke()
    return [executor.array(t.index) for t in graph.outputs]


def test_nodes_run_in_order_and_intermediates_are_let_go():
    d = Draft()
    x = d.input((2,))
    middle = d("LOGISTIC", x, shape=(2,))
    y = d("LOGISTIC", middle, shape=(2,))
    graph = d.graph(y)
    for keep_all in (False, True):
        executor = ReferenceExecutor(prepare(graph, keep_all=keep_all), keep_all=keep_all)
        executor.array(x.index)[...] = 1
        executor.invoke()
        once = 1 / (1 + np.exp(-F(1)))
        np.testing.assert_allclose(executor.array(y.index), 1 / (1 + np.exp(-once)), rtol=1e-6)
        kept = executor.array(middle.index)
        assert (kept is not None) == keep_all
        assert executor.array(99) is None


def test_an_output_keeps_its_storage_and_is_no_view_of_an_input():
    d = Draft()
    x = d.input((2,))
    y = d("RESHAPE", x, d.constant([2], np.int32), shape=(2,))
    executor = ReferenceExecutor(prepare(d.graph(y)))
    storage = executor.array(y.index)
    executor.array(x.index)[...] = 5
    executor.invoke()
    executor.array(x.index)[...] = 6
    assert executor.array(y.index) is storage
    assert storage.tolist() == [5, 5]


def test_a_tensor_that_goes_in_and_out_is_one_tensor():
    d = Draft()
    x = d.input((2,))
    (got,) = run(d.graph(x), 3)
    assert got.tolist() == [3, 3]


def test_shapes_that_depend_on_data_are_found_in_the_run():
    d = Draft()
    x, target = d.input((2, 6)), d.input((2,), INT32)
    y = d("LOGISTIC", d("RESHAPE", x, target, shape=(1, 1)), shape=(1, 1))
    (got,) = run(d.graph(y), 0, [4, 3])
    assert got.shape == (4, 3)


def test_variables_start_at_zero_and_are_written_in_place():
    def step(x, state):
        state += x
        return state.copy()

    d = Draft()
    x = d.input((2,))
    state = d.tensor((2,), is_variable=True)
    y = d(operator(step, stateful=True), x, state)
    executor = ReferenceExecutor(prepare(d.graph(y)))
    for total in (1, 2):
        executor.array(x.index)[...] = 1
        executor.invoke()
        assert executor.array(y.index).tolist() == [total, total]
    executor.reset_variables()
    assert executor.array(state.index).tolist() == [0, 0]


def test_int8_variables_start_at_their_zero_point():
    d = Draft()
    state = d.tensor((2,), is_variable=True)
    state.type = TensorType(INT8, (2,), Quantization((0.5,), (7,)))
    x = d.input((2,))
    executor = ReferenceExecutor(d.graph(x))
    assert executor.array(state.index).tolist() == [7, 7]


@pytest.mark.parametrize(
    "failure",
    [ValueError("bad"), IndexError("bad"), OverflowError("bad"), MemoryError("bad"), FloatingPointError("bad"),
     ZeroDivisionError("bad"), RuleViolation("bad"), ExecutionError("bad"), np.linalg.LinAlgError("bad")],
    ids=lambda e: type(e).__name__,
)  # fmt: skip
def test_whatever_numbers_raise_names_the_operator(failure):
    def fail(x):
        raise failure

    d = Draft()
    y = d(operator(fail), d.input((2,)))
    with pytest.raises(ExecutionError, match="bad") as caught:
        run(d.graph(y), 0)
    assert caught.value.where == "op #0 MADE"


def test_an_error_that_knows_its_place_keeps_it():
    def fail(x):
        raise ExecutionError("bad", where="element 3")

    d = Draft()
    with pytest.raises(ExecutionError) as caught:
        run(d.graph(d(operator(fail), d.input((2,)))), 0)
    assert caught.value.where == "element 3"


@pytest.mark.parametrize("made", [np.zeros(3, F), np.zeros(2), np.zeros((2, 1), F)])
def test_a_result_that_is_not_what_the_shape_rule_says_is_an_error(made):
    d = Draft()
    with pytest.raises(ExecutionError, match=r"where float32\[2\] was expected"):
        run(d.graph(d(operator(lambda x: made), d.input((2,)))), 0)


def test_a_wrong_shape_in_the_run_is_an_execution_error():
    d = Draft()
    x, target = d.input((2, 6)), d.input((2,), INT32)
    y = d("RESHAPE", x, target, shape=(1, 1))
    with pytest.raises(ExecutionError, match="cannot be given the shape") as caught:
        run(d.graph(y), 0, [5, 5])
    assert caught.value.where.startswith("op #0 RESHAPE")


def test_numpy_says_nothing():
    d = Draft()
    (got,) = run(d.graph(d(operator(lambda x: x / x), d.input((2,)))), 0)
    assert np.isnan(got).all()


def test_a_tensor_without_a_value_is_not_read():
    d = Draft()
    d.input((2,))
    y = d("LOGISTIC", d.tensor((2,)), shape=(2,))
    with pytest.raises(ExecutionError, match="reads a tensor that has no value yet"):
        run(d.graph(y), 0)


def test_no_memory_is_an_execution_error(monkeypatch):
    d = Draft()
    x = d.input((2,))
    monkeypatch.setattr(np, "full", lambda *a: (_ for _ in ()).throw(MemoryError("full")))
    with pytest.raises(ExecutionError, match=r"no memory for float32\[2\]"):
        ReferenceExecutor(d.graph(x))


@pytest.mark.parametrize(
    ("op", "text"), [(unknown("Mystery", None), "unresolved custom op: Mystery"), (unknown("NEW", 999), "operator NEW")]
)
def test_an_unknown_operator_is_refused(op, text):
    d = Draft()
    with pytest.raises(UnsupportedOp, match=text):
        ReferenceExecutor(d.graph(d(op, d.input((2,)))))


@pytest.fixture
def simple():
    d = Draft()
    return prepare(d.graph(d("LOGISTIC", d.input((3,)), shape=(3,))))


def kind(executor) -> str:
    return type(executor).__name__


def test_code_is_compiled_unless_it_is_not_wanted(simple, monkeypatch):
    assert kind(make_executor(simple)) == "CompiledExecutor"
    assert kind(make_executor(simple, reference=True)) == "ReferenceExecutor"
    assert kind(make_executor(simple, preserve_all=True)) == "ReferenceExecutor"
    monkeypatch.setenv("LITHE_JIT", "0")
    assert kind(make_executor(simple)) == "ReferenceExecutor"
    assert not may_compile()


@pytest.mark.parametrize("cause", [UnsupportedOp("no rule"), MissingDependency("no llvmlite"), CompileError("it hung")])
def test_what_cannot_be_compiled_runs_all_the_same_and_is_said_once(simple, monkeypatch, caplog, cause):
    def fail(graphs, environment, **options):
        raise cause

    monkeypatch.setattr("lithe.runtime.compilation.build", fail)
    executors._say_once.cache_clear()
    with caplog.at_level(logging.WARNING, "lithe"):
        for _ in range(2):
            assert kind(make_executor(simple)) == "ReferenceExecutor"
    (record,) = caplog.records
    assert cause.problem in record.message


def test_graphs_without_fixed_places_are_not_compiled():
    d = Draft()
    x, target = d.input((2, 6)), d.input((2,), INT32)
    for outputs in (d("RESHAPE", x, target, shape=(1, 1)), d.input((2,), STRING)):
        assert kind(make_executor(prepare(d.graph(outputs)))) == "ReferenceExecutor"


def test_code_is_kept_under_a_name_and_found_again(simple, tmp_path, monkeypatch):
    monkeypatch.setenv("LITHE_CACHE_DIR", str(tmp_path / "cache"))
    name = cache_key(b"model", 0, {})
    assert name != cache_key(b"model", 1, {})
    assert name != cache_key(b"model", 0, {0: (1, 3)})
    assert cached(name) is None
    make_executor(simple, name=name, outline=b"{}")
    artifact = cached(name)
    assert artifact.outline == b"{}"
    again = kept_executor(artifact)
    again.array(0)[...] = 0
    again.invoke()
    assert again.array(1).tolist() == [0.5, 0.5, 0.5]


def test_kept_code_that_does_not_load_is_compiled_again(simple, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("LITHE_CACHE_DIR", str(tmp_path / "cache"))
    name = cache_key(b"model", 0, {})
    make_executor(simple, name=name)

    def fail(artifact, environment, workers):
        raise CompileError("a symbol is missing")

    artifact = cached(name)
    monkeypatch.setattr(executors, "CompiledExecutor", fail)
    assert kept_executor(artifact) is None
    assert "compiling again: a symbol is missing" in caplog.text


def test_without_llvm_nothing_is_kept(monkeypatch):
    def fail(*arguments):
        raise MissingDependency("no llvmlite")

    monkeypatch.setattr("lithe.runtime.compiled.cache_key", fail)
    assert cache_key(b"model", 0, {}) is None
