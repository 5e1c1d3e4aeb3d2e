"""Branches, loops, variables and parts: against the official runtime, compiled and evaluated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import lithe
from lithe.errors import ExecutionError, LimitError, ModelError
from lithe.formats import flexbuffer
from lithe.formats.tflite import write
from lithe.ir.graph import Graph, Module, Signature, Tensor
from lithe.lite import OpResolverType
from lithe.passes import bind_variables, prepare
from lithe.runtime.compiled import CompiledExecutor
from lithe.runtime.instance import Instance, Options
from lithe.runtime.reference import ReferenceExecutor
from lithe.runtime.source import Source
from lithe.types import BOOL, FLOAT32, INT32, RESOURCE
from tests.passes.graphs import Draft

F = np.float32


def official(content: bytes, runs: list[list[np.ndarray]]) -> list[list[np.ndarray]]:
    from ai_edge_litert.interpreter import Interpreter

    return outputs_of(Interpreter(model_content=content, num_threads=1), runs)


def outputs_of(interpreter: Any, runs: list[list[np.ndarray]]) -> list[list[np.ndarray]]:
    results = []
    for arrays in runs:
        for detail, array in zip(interpreter.get_input_details(), arrays, strict=True):
            if tuple(detail["shape"]) != array.shape:
                interpreter.resize_tensor_input(detail["index"], array.shape)
        interpreter.allocate_tensors()
        for detail, array in zip(interpreter.get_input_details(), arrays, strict=True):
            interpreter.set_tensor(detail["index"], array)
        interpreter.invoke()
        results.append([interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()])
    return results


def agree(module: Module, *runs: list[np.ndarray]) -> None:
    """The official runtime, compiled parts and the reference executor give the same, run after run."""
    content = write(module)
    expected = official(content, list(runs))
    for resolver in (OpResolverType.AUTO, OpResolverType.BUILTIN_REF):
        got = outputs_of(
            lithe.Interpreter(model_content=content, experimental_op_resolver_type=resolver), [list(r) for r in runs]
        )
        for ours, theirs in zip(got, expected, strict=True):
            for a, b in zip(ours, theirs, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
                assert a.dtype == b.dtype


def graph(build: Callable[[Draft], Tensor | tuple[Tensor, ...]], name: str = "main") -> Graph:
    d = Draft()
    outputs = build(d)
    made = d.graph(*(outputs if isinstance(outputs, tuple) else (outputs,)))
    made.name = name
    return made


def many(d: Draft, op: str, *inputs: Tensor, outputs: list[tuple[tuple[int, ...], Any]], **attrs: Any) -> list[Tensor]:
    """A node with any number of outputs."""
    first = d(op, *inputs, **attrs)
    node = d.nodes[-1]
    d.tensors.remove(first)
    node.outputs = [d.tensor(shape, dtype) for shape, dtype in outputs]
    for i, t in enumerate(d.tensors):
        t.index = i
    return node.outputs


def branching(then_shape: tuple[int, ...] = (2, 3)) -> Module:
    def main(d: Draft) -> Tensor:
        condition, x = d.input((), BOOL), d.input((2, 3))
        y = d("TANH", x, shape=(2, 3))
        (z,) = many(d, "IF", condition, y, outputs=[((2, 3), FLOAT32)], then_subgraph_index=1, else_subgraph_index=2)
        return d("ADD", z, d("LOGISTIC", z, shape=(2, 3)), shape=(2, 3))

    def then(d: Draft) -> Tensor:
        x = d.input((2, 3))
        return d("MUL", d("ADD", x, x, shape=(2, 3)), d("EXP", x, shape=(2, 3)), shape=then_shape)

    def otherwise(d: Draft) -> Tensor:
        return d("NEG", d.input((2, 3)), shape=(2, 3))

    return Module([graph(main), graph(then, "then"), graph(otherwise, "otherwise")])


def test_a_branch_is_taken_by_its_condition():
    x = np.linspace(-2, 2, 6, dtype=F).reshape(2, 3)
    agree(branching(), *([np.array(c), x * k] for k, c in enumerate([True, False, True], 1)))


def test_one_of_several_branches_is_taken_by_its_number():
    """Oracle: the StableHLO specification; the official runtime has no kernel."""

    def main(d: Draft) -> Tensor:
        index, x = d.input((), INT32), d.input((2, 3))
        (y,) = many(d, "STABLEHLO_CASE", index, x, outputs=[((2, 3), FLOAT32)], branch_subgraph_indices=(1, 2, 3))
        return y

    def branch(op: str) -> Graph:
        return graph(lambda d: d(op, d.input((2, 3)), shape=(2, 3)), op)

    model = lithe.load(write(Module([graph(main), branch("NEG"), branch("EXP"), branch("ABS")])))
    x = np.linspace(-2, 2, 6, dtype=F).reshape(2, 3)
    for index, expected in ((0, -x), (1, np.exp(x)), (2, abs(x)), (3, abs(x)), (-1, abs(x))):
        np.testing.assert_allclose(model(np.array(index, np.int32), x), expected, rtol=1e-6)


def test_a_case_has_branches():
    d = Draft()
    index = d.input((), INT32)
    y = d("STABLEHLO_CASE", index, shape=(1,))
    with pytest.raises(ModelError, match="there must be a branch"):
        prepare(d.graph(y))


@pytest.mark.parametrize(
    ("op", "dtype", "shape", "text"),
    [
        ("IF", INT32, (), "must be bool"),
        ("IF", BOOL, (2,), "one element"),
        ("STABLEHLO_CASE", BOOL, (), "must be int32"),
    ],
)
def test_what_chooses_a_branch_is_one_value_of_its_type(op, dtype, shape, text):
    d = Draft()
    attrs = {"branch_subgraph_indices": (1,)} if op != "IF" else {}
    y = d(op, d.input(shape, dtype), shape=(1,), **attrs)
    with pytest.raises(ModelError, match=text):
        prepare(d.graph(y))


@pytest.mark.parametrize("op", ["WHILE", "STABLEHLO_WHILE"])
def test_both_loops_are_one(op):
    module = looping()
    node = module.main.nodes[0]
    other = lithe.ops.REGISTRY.by_name[op]
    node.op, node.attrs = other, other.Attrs(1, 2)
    i, x = lithe.load(write(module))(np.array(0, np.int32), np.eye(4, dtype=F)).values()
    assert i == 12
    assert np.abs(x).max() > 0.5


def test_a_loop_gives_as_many_values_as_it_takes():
    d = Draft()
    (y,) = many(d, "WHILE", d.input((), INT32), d.input((2,)), outputs=[((), INT32)])
    with pytest.raises(ModelError, match="has 2 inputs and 1 outputs"):
        prepare(d.graph(y))


def test_a_graph_alone_calls_no_other():
    d = Draft()
    (y,) = many(d, "IF", d.input((), BOOL), d.input((2,)), outputs=[((2,), FLOAT32)])
    executor = ReferenceExecutor(prepare(d.graph(y)))
    with pytest.raises(ExecutionError, match="needs the whole model"):
        executor.invoke()


def looping(limit: int = 10, step: int = 3) -> Module:
    """while i < limit: i += step; x = tanh(x @ w) * 1.5"""

    def main(d: Draft) -> tuple[Tensor, ...]:
        i, x = d.input((), INT32), d.input((4, 4))
        return tuple(
            many(
                d, "WHILE", i, x, outputs=[((), INT32), ((4, 4), FLOAT32)], cond_subgraph_index=1, body_subgraph_index=2
            )
        )

    def condition(d: Draft) -> Tensor:
        i, _ = d.input((), INT32), d.input((4, 4))
        return d("LESS", i, d.constant(limit, np.int32), shape=(), dtype=BOOL)

    def body(d: Draft) -> tuple[Tensor, ...]:
        i, x = d.input((), INT32), d.input((4, 4))
        w = d.constant(np.eye(4) * 0.7 + 0.1)
        turned = d("TANH", d("BATCH_MATMUL", x, w, shape=(4, 4)), shape=(4, 4))
        after = d("MUL", turned, d.constant(1.5), shape=(4, 4))
        return d("ADD", i, d.constant(step, np.int32), shape=(), dtype=INT32), after

    return Module([graph(main), graph(condition, "condition"), graph(body, "body")])


def test_a_loop_runs_until_its_condition_is_false():
    x = np.random.default_rng(0).standard_normal((4, 4)).astype(F)
    agree(looping(), *([np.array(start, np.int32), x] for start in (0, 9, 10, 100)))


def test_a_loop_that_does_not_end_is_stopped(monkeypatch):
    monkeypatch.setenv("LITHE_LOOP_WORK", "100000")
    model = lithe.load(write(looping(step=0)))
    with pytest.raises(LimitError, match=r"loops did \d+ units of work in one run, the limit is 100000") as caught:
        model(np.array(0, np.int32), np.zeros((4, 4), F))
    assert "LITHE_LOOP_WORK" in caught.value.hint
    assert "WHILE" in caught.value.where


@pytest.mark.parametrize("text", ["0", "many", "-3"])
def test_the_limit_of_loops_is_a_number(monkeypatch, text):
    monkeypatch.setenv("LITHE_LOOP_WORK", text)
    with pytest.raises(lithe.errors.InputError, match="LITHE_LOOP_WORK"):
        lithe.load(write(looping()))


def test_a_condition_is_one_truth_value():
    module = looping()
    module.graphs[1].nodes[0].inputs[0] = module.graphs[1].inputs[1]
    module.graphs[1].nodes[0].inputs[1] = module.graphs[1].inputs[1]
    model = lithe.load(write(module))
    with pytest.raises(ExecutionError, match=r"must be a single bool, is bool\[4, 4\]"):
        model(np.array(0, np.int32), np.zeros((4, 4), F))


def growing() -> Module:
    """while i < 4: i += 1; x = concatenate(x, x)"""

    def main(d: Draft) -> tuple[Tensor, ...]:
        i, x = d.input((), INT32), d.input((1, 2))
        loop = many(
            d, "WHILE", i, x, outputs=[((), INT32), ((1, 2), FLOAT32)], cond_subgraph_index=1, body_subgraph_index=2
        )
        return (d("NEG", loop[1], shape=(1, 2)),)

    def condition(d: Draft) -> Tensor:
        i, _ = d.input((), INT32), d.input((1, 2), shape_signature=(-1, 2))
        return d("LESS", i, d.constant(4, np.int32), shape=(), dtype=BOOL)

    def body(d: Draft) -> tuple[Tensor, ...]:
        i, x = d.input((), INT32), d.input((1, 2), shape_signature=(-1, 2))
        both = d("CONCATENATION", x, d("NEG", x, shape=(1, 2)), shape=(2, 2), axis=0)
        return d("ADD", i, d.constant(1, np.int32), shape=(), dtype=INT32), both

    return Module([graph(main), graph(condition, "condition"), graph(body, "body")])


def test_values_may_grow_in_a_loop():
    agree(growing(), *([np.array(i, np.int32), np.array([[1, 2]], F)] for i in (0, 3, 4)))


def counting() -> Module:
    """v starts with [1, 2] by a graph that runs once; every run: v += x; y = v * 2"""

    def main(d: Draft) -> Tensor:
        x = d.input((2,))
        d("CALL_ONCE", init_subgraph_index=1)
        d.tensors.remove(d.nodes[-1].outputs.pop())
        handle = d("VAR_HANDLE", shape=(), dtype=RESOURCE, shared_name="v")
        new = d("ADD", d("READ_VARIABLE", handle, shape=(2,), dtype=FLOAT32), x, shape=(2,))
        assign(d, handle, new)
        again = d("READ_VARIABLE", handle, shape=(2,), dtype=FLOAT32)
        return d("MUL", again, d.constant(2), shape=(2,))

    def start(d: Draft) -> tuple[Tensor, ...]:
        assign(d, d("VAR_HANDLE", shape=(), dtype=RESOURCE, shared_name="v"), d.constant([1, 2]))
        return ()

    for_all = [graph(main), graph(start, "start")]
    for made in for_all:
        for i, t in enumerate(made.tensors):
            t.index = i
    return Module(for_all)


def assign(d: Draft, handle: Tensor, value: Tensor) -> None:
    d("ASSIGN_VARIABLE", handle, value)
    d.tensors.remove(d.nodes[-1].outputs.pop())
    for i, t in enumerate(d.tensors):
        t.index = i


def test_variables_last_from_run_to_run():
    agree(counting(), *([np.array(x, F)] for x in ([0, 0], [1, 1], [5, -5])))


def test_a_graph_with_variables_is_one_piece_of_code():
    instance = Instance(Source(counting()))
    executor = instance.executor(0, {})
    assert isinstance(executor, CompiledExecutor)
    executor.array(0)[...] = 1
    for expected in ([4, 6], [6, 8]):
        executor.invoke()
        assert executor.array(instance.graph(0).outputs[0].index).tolist() == expected
    executor.reset_variables()  # shared variables are the model's, not the graph's
    executor.invoke()
    assert executor.array(instance.graph(0).outputs[0].index).tolist() == [8, 10]
    instance.reset()
    executor.invoke()
    assert executor.array(instance.graph(0).outputs[0].index).tolist() == [4, 6]


def two_functions() -> Module:
    """add(x): v += x; get(): v. No graph runs first: whoever reads first finds nothing."""

    def add(d: Draft) -> Tensor:
        x = d.input((2,))
        handle = d("VAR_HANDLE", shape=(), dtype=RESOURCE, shared_name="v")
        assign(d, handle, d("TANH", x, shape=(2,)))
        return d("NEG", x, shape=(2,))

    def get(d: Draft) -> Tensor:
        y = d.input((2,))
        handle = d("VAR_HANDLE", shape=(), dtype=RESOURCE, shared_name="v")
        return d("ADD", d("READ_VARIABLE", handle, shape=(2,), dtype=FLOAT32), y, shape=(2,))

    graphs = [graph(add, "add"), graph(get, "get")]
    signatures = [Signature(g.name, {"x": g.inputs[0]}, {"y": g.outputs[0]}, number) for number, g in enumerate(graphs)]
    return Module(graphs, signatures)


@pytest.mark.parametrize("options", [Options(keep=False), Options(reference=True)], ids=["compiled", "reference"])
def test_functions_of_a_model_share_its_variables(options):
    model = lithe.Model(Source(write(two_functions()), keep=False), options)
    zero = np.zeros(2, F)
    with pytest.raises(ExecutionError, match="read before anything was assigned"):
        model.signatures["get"](zero)
    for value in (0.5, -2.0):
        model.signatures["add"](np.full(2, value, F))
        got = model.signatures["get"](zero)["y"]
        np.testing.assert_allclose(got, np.tanh(np.full(2, value, F)), rtol=1e-6)
    model.reset()
    with pytest.raises(ExecutionError, match="read before anything was assigned"):
        model.signatures["get"](zero)


def test_a_variable_of_another_shape_is_refused_by_code_made_for_one():
    instance = Instance(Source(two_functions()))
    executor = instance.executor(1, {})
    assert isinstance(executor, CompiledExecutor)
    instance.resources["variable:/v"] = np.zeros(3, F)
    with pytest.raises(ExecutionError, match=r"holds float32\[3\], this graph was made for float32\[2\]"):
        executor.invoke()


def test_a_handle_that_goes_elsewhere_stays_a_handle():
    module = two_functions()
    main = module.main
    main.outputs.append(main.nodes[0].outputs[0])
    assert bind_variables(main, Instance(Source(module))) is None
    assert bind_variables(branching().main, Instance(Source(branching()))).variables == {}


@pytest.mark.parametrize("op", ["READ_VARIABLE", "ASSIGN_VARIABLE"])
def test_only_handles_name_variables(op):
    d = Draft()
    x = d.constant([1, 2])
    y = d(op, x, *([d.input((2,))] if op == "ASSIGN_VARIABLE" else []), shape=(2,))
    if op == "ASSIGN_VARIABLE":
        d.tensors.remove(d.nodes[-1].outputs.pop())
    with pytest.raises(ModelError, match=r"must be a handle, is float32\[2\]"):
        prepare(d.graph(*([] if op == "ASSIGN_VARIABLE" else [y])))


def test_a_handle_names_one_variable():
    instance = Instance(Source(two_functions()))
    executor = ReferenceExecutor(prepare(instance.graph(1), instance), instance)
    step = executor.steps[1]
    with pytest.raises(ExecutionError, match="names no variable"):
        step.node.op.evaluate(step.site([np.array("variable:/v", object)]), np.array(None, object))


def test_what_once_ran_and_failed_runs_again():
    module = counting()
    module.graphs[1].nodes[1].inputs[1] = module.graphs[1].nodes[0].outputs[0]  # assigns the handle itself
    module.graphs[1].nodes.reverse()
    instance = Instance(Source(module))
    for _ in range(2):
        with pytest.raises(lithe.LitheError):
            instance.call_once(1)


def test_a_composite_is_what_it_stands_for():
    def main(d: Draft) -> Tensor:
        x = d.input((3, 5))
        (y,) = many(
            d, "STABLEHLO_COMPOSITE", x, outputs=[((3, 5), FLOAT32)], name="test.twice", decomposition_subgraph_index=1
        )
        return d("NEG", y, shape=(3, 5))

    def inner(d: Draft) -> Tensor:
        x = d.input((3, 5))
        return d("ADD", x, d("EXP", x, shape=(3, 5)), shape=(3, 5))

    module = Module([graph(main), graph(inner, "inner")])
    instance = Instance(Source(module))
    assert [n.op.name for n in instance.prepared(0, {}).nodes] == ["EXP", "ADD", "NEG"]
    agree(module, [np.random.default_rng(2).standard_normal((3, 5)).astype(F)])


@pytest.mark.parametrize("cap", [None, 2.0])
def test_attention_is_known_by_its_name(cap):
    """Oracle: the formula in float64; the official runtime's answer is held by the models that have the composite."""

    def main(d: Draft) -> Tensor:
        q, k, v, mask = d.input((2, 5, 3, 8)), d.input((2, 7, 3, 8)), d.input((2, 7, 3, 8)), d.input((2, 1, 5, 7))
        options = {"scale": 0.5} | ({"logit_cap": cap} if cap else {})
        (y,) = many(
            d, "STABLEHLO_COMPOSITE", q, k, v, mask, outputs=[((2, 5, 3, 8), FLOAT32)],
            name="odml.scaled_dot_product_attention", decomposition_subgraph_index=1,
            composite_attributes=tuple(flexbuffer.write(options)),
        )  # fmt: skip
        return y

    def unused(d: Draft) -> Tensor:
        q, *_ = (d.input((2, 5, 3, 8)), d.input((2, 7, 3, 8)), d.input((2, 7, 3, 8)), d.input((2, 1, 5, 7)))
        return d("NEG", q, shape=(2, 5, 3, 8))

    model = lithe.load(write(Module([graph(main), graph(unused, "unused")])))
    draw = np.random.default_rng(0)
    q, k, v, mask = (draw.standard_normal(t.shape).astype(F) for t in model.inputs.values())
    sums = 0.5 * np.einsum("btnh,bsnh->bnts", q, k, dtype=np.float64)
    sums = (cap * np.tanh(sums / cap) if cap else sums) + mask
    weights = np.exp(sums - sums.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    np.testing.assert_allclose(model(q, k, v, mask), np.einsum("bnts,bsnh->btnh", weights, v), rtol=2e-5, atol=1e-5)


def test_a_damaged_graph_is_said_when_it_is_called():
    module = branching()
    module.graphs[2].nodes[0].inputs.clear()
    source = Source(write(module))
    with pytest.raises(ModelError, match="must have 1 input"):
        Instance(source).executor(0, {})


def test_a_tensor_written_twice_holds_what_was_written_last_before():
    def main(d: Draft) -> Tensor:
        x = d.input((3,))
        y = d("NEG", x, shape=(3,))
        first = d("EXP", y, shape=(3,))
        d("TANH", x, shape=(3,))
        d.tensors.remove(d.nodes[-1].outputs[0])
        d.nodes[-1].outputs = [y]
        for i, t in enumerate(d.tensors):
            t.index = i
        return d("ADD", first, y, shape=(3,))

    made = graph(main)
    agree(Module([made]), [np.array([0.5, -1, 2], F)])
    assert len(prepare(made).nodes) == 4
