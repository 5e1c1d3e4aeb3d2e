"""Loops whose end is known before the run: they become code, and give what the official runtime gives."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import lithe
from lithe.formats.tflite import write
from lithe.ir.graph import Graph, Module, Node, Tensor
from lithe.lower import lower
from lithe.runtime.compiled import CompiledExecutor
from lithe.runtime.instance import Instance, Options
from lithe.runtime.reference import ReferenceExecutor
from lithe.runtime.source import Source
from lithe.types import BOOL, FLOAT32, INT32, DType, Shape, TensorType
from tests import c_backend, llvm_backend
from tests.passes.graphs import Draft
from tests.runtime.test_control import agree, graph, many

F = np.float32
STEPS, BATCH, DEPTH, UNITS = 5, 2, 3, 4
LIST, ROWS, STATE = (STEPS, BATCH, UNITS), (STEPS, BATCH, DEPTH), (BATCH, UNITS)

Values = list[tuple[Shape, DType]]
Body = Callable[..., tuple[Tensor, ...]]


def weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(F)


def loop(carried: Values, body: Body, start: Callable[[Draft], list[Tensor | None]], limit: int = STEPS) -> Module:
    """values = body(values) while the first one, an int32, is less than `limit`.

    start  the first values; None: an input of the model.
    """

    def main(d: Draft) -> tuple[Tensor, ...]:
        first = [d.input(shape, dtype) if t is None else t for t, (shape, dtype) in zip(start(d), carried, strict=True)]
        return tuple(many(d, "WHILE", *first, outputs=carried, cond_subgraph_index=1, body_subgraph_index=2))

    def condition(d: Draft) -> Tensor:
        counter, *_ = [d.input(*v) for v in carried]
        return d("LESS", counter, d.constant(limit, np.int32), shape=(), dtype=BOOL)

    def inside(d: Draft) -> tuple[Tensor, ...]:
        return body(d, *[d.input(*v) for v in carried])

    return Module([graph(main), graph(condition, "condition"), graph(inside, "body")])


def next_of(d: Draft, counter: Tensor) -> Tensor:
    return d("ADD", counter, d.constant(1, np.int32), shape=(), dtype=INT32)


def written(d: Draft, rows: Tensor, at: Tensor, row: Tensor) -> Tensor:
    """rows with one row replaced, as converters write it: the rows before, the row, the rows after."""
    one = d.constant([1], np.int32)
    before = d("CONCATENATION", d("RESHAPE", at, one, dtype=INT32), d.constant([-1, -1], np.int32), dtype=INT32)
    after = d("CONCATENATION", d("RESHAPE", next_of(d, at), one), d.constant([0, 0], np.int32), dtype=INT32)
    parts = (
        d("SLICE", rows, d.constant([0, 0, 0], np.int32), before, shape=(1, 1, 1)),
        d("RESHAPE", row, d.constant([1, *STATE], np.int32), shape=(1, *STATE)),
        d("SLICE", rows, after, d.constant([-1, -1, -1], np.int32), shape=(1, 1, 1)),
    )
    for t in (parts[0], parts[2]):
        t.shape_signature = (-1, -1, -1)
    return d("CONCATENATION", *parts, shape=rows.type.shape, axis=0)


def layer(place: Callable[[Draft, Tensor], Tensor] = lambda d, i: i) -> Module:
    """h = tanh(x[place(i)] @ w + h @ r); list[i] = h, for i from 0 on"""

    def body(d: Draft, i: Tensor, made: Tensor, h: Tensor, x: Tensor) -> tuple[Tensor, ...]:
        row = d("GATHER", x, place(d, i), shape=(BATCH, DEPTH))
        given = d("FULLY_CONNECTED", row, d.constant(weights(UNITS, DEPTH)), None, shape=STATE)
        back = d("FULLY_CONNECTED", h, d.constant(weights(UNITS, UNITS)), None, shape=STATE)
        after = d("TANH", d("ADD", given, back, shape=STATE), shape=STATE)
        return next_of(d, i), written(d, made, i, after), after, x

    def start(d: Draft) -> list[Tensor | None]:
        return [d.constant(0, np.int32), d.constant(np.zeros(LIST)), d.constant(np.zeros(STATE)), None]

    return loop([((), INT32), (LIST, FLOAT32), (STATE, FLOAT32), (ROWS, FLOAT32)], body, start)


def prepared(module: Module) -> Graph:
    return Instance(Source(module)).prepared(0, {})


def names(graph: Graph) -> list[str]:
    return [n.op.name for n in graph.nodes]


def repeat_of(module: Module) -> Node:
    return next(n for n in prepared(module).nodes if n.op.name == "REPEAT")


def without_result(module: Module, *unread: int) -> Module:
    """The main graph no longer gives out some values of its loop."""
    main = module.main
    main.outputs = [t for k, t in enumerate(main.outputs) if k not in unread]
    return module


def test_a_layer_over_a_sequence_is_a_repeat_whose_input_products_are_one():
    module = without_result(layer(), 0, 3)
    assert names(prepared(module)) == ["FULLY_CONNECTED", "RESHAPE", "REPEAT"]
    inner = names(repeat_of(module).attrs.body)
    assert inner.count("FULLY_CONNECTED") == 1
    assert "DYNAMIC_UPDATE_SLICE" in inner
    assert not {"SLICE", "CONCATENATION"} & set(inner)
    agree(module, [weights(*ROWS)], [weights(*ROWS) * 3])


def test_a_loop_is_part_of_one_piece_of_code():
    executor = Instance(Source(layer())).executor(0, {})
    assert isinstance(executor, CompiledExecutor)


@pytest.mark.skipif(c_backend.compiler() is None, reason="no C compiler (cc, gcc or clang) is installed")
def test_every_target_gives_the_same():
    """Plain loops in C and with this machine's instructions, against the operators' meaning."""
    graph = prepared(layer())
    x = weights(*ROWS)
    executor = ReferenceExecutor(graph)
    executor.array(graph.inputs[0].index)[...] = x
    executor.invoke()
    expected = [executor.array(t.index) for t in graph.outputs]
    in_c = c_backend.run(lower(graph), [x])
    native = llvm_backend.run(lower(graph, llvm_backend.host_target()), [x])
    for got in (in_c, native):
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_allclose(a.reshape(b.shape), b, rtol=1e-5, atol=1e-6)


def test_counters_and_what_stays_the_same_can_be_read_after_the_loop():
    agree(layer(), [weights(*ROWS)])


@pytest.mark.parametrize("last", [STEPS - 1, 2])
def test_rows_may_be_read_in_any_order_that_is_known(last):
    def place(d: Draft, i: Tensor) -> Tensor:
        back = d("SUB", d.constant(last, np.int32), i, shape=(), dtype=INT32)
        return d("MAXIMUM", back, d.constant(0, np.int32), shape=(), dtype=INT32)

    module = without_result(layer(place), 0, 3)
    assert names(prepared(module)) == ["GATHER", "FULLY_CONNECTED", "RESHAPE", "REPEAT"]
    agree(module, [weights(*ROWS)])


def test_a_row_that_is_not_there_is_an_error_of_the_run():
    module = layer(lambda d, i: d("ADD", i, d.constant(1, np.int32), shape=(), dtype=INT32))
    assert repeat_of(module) is not None
    for options in ({}, {"experimental_op_resolver_type": lithe.lite.OpResolverType.BUILTIN_REF}):
        interpreter = lithe.Interpreter(model_content=write(module), **options)
        interpreter.allocate_tensors()
        with pytest.raises(lithe.errors.ExecutionError, match=r"must lie in \[0, 5\)"):
            interpreter.invoke()


def test_products_that_are_too_large_together_stay_in_the_loop(monkeypatch):
    row, product = BATCH * DEPTH * 4 * STEPS, BATCH * UNITS * 4 * STEPS
    for largest in (row - 1, product - 1):
        monkeypatch.setattr("lithe.passes.ahead_of_loops.LARGEST", largest)
        assert names(prepared(without_result(layer(), 0, 3))) == ["REPEAT"]


def exchange() -> Module:
    """a, b = b, a + b; the carried values change places"""

    def body(d: Draft, i: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        return next_of(d, i), b, d("ADD", a, b, shape=(3,))

    def start(d: Draft) -> list[Tensor | None]:
        return [d.constant(0, np.int32), None, None]

    return loop([((), INT32), ((3,), FLOAT32), ((3,), FLOAT32)], body, start)


def test_values_may_change_places():
    assert repeat_of(exchange()).attrs.count == STEPS
    agree(exchange(), [F([1, 0, 2]), F([1, 1, -1])])


def test_a_list_that_is_also_read_is_not_written_in_place():
    """The whole list is read beside the update of one row."""

    def body(d: Draft, i: Tensor, made: Tensor, h: Tensor) -> tuple[Tensor, ...]:
        after = written(d, made, i, h)
        total = d("SUM", made, d.constant([0], np.int32), shape=STATE)
        return next_of(d, i), after, d("ADD", h, total, shape=STATE)

    def start(d: Draft) -> list[Tensor | None]:
        return [d.constant(0, np.int32), None, None]

    module = loop([((), INT32), (LIST, FLOAT32), (STATE, FLOAT32)], body, start)
    assert repeat_of(module).attrs.count == STEPS
    agree(module, [weights(*LIST), weights(*STATE)])


def test_a_loop_in_a_loop_is_a_repeat_in_a_repeat():
    inner = exchange()

    def body(d: Draft, i: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        zero = d.constant(0, np.int32)
        given = [((), INT32), ((3,), FLOAT32), ((3,), FLOAT32)]
        _, c, e = many(d, "WHILE", zero, a, b, outputs=given, cond_subgraph_index=3, body_subgraph_index=4)
        return next_of(d, i), d("MUL", c, d.constant(0.1), shape=(3,)), e

    def start(d: Draft) -> list[Tensor | None]:
        return [d.constant(0, np.int32), None, None]

    outer = loop([((), INT32), ((3,), FLOAT32), ((3,), FLOAT32)], body, start, limit=3)
    module = Module([*outer.graphs, *inner.graphs[1:]])
    assert "REPEAT" in names(repeat_of(module).attrs.body)
    agree(module, [F([1, 0, 2]), F([1, 1, -1])])


def test_a_loop_whose_end_depends_on_data_stays_a_loop():
    module = exchange()
    main = module.main
    first = main.nodes[0].inputs[0]
    assert first is not None
    first.data = None
    main.inputs.insert(0, first)
    assert names(prepared(module)) == ["WHILE"]
    agree(module, *([np.array(n, np.int32), F([1, 0, 2]), F([1, 1, -1])] for n in (0, 4, 9)))


@pytest.mark.parametrize("limit", [0, 5000])
def test_loops_of_no_round_and_of_too_many_stay_loops(limit):
    module = exchange()
    module.graphs[1].nodes[0].inputs[1].data = np.array(limit, np.int32)
    assert names(prepared(module)) == ["WHILE"]


def test_a_loop_that_costs_too_much_stays_a_loop(monkeypatch):
    monkeypatch.setenv("LITHE_LOOP_WORK", "10000")
    module = exchange()
    assert names(prepared(module)) == ["WHILE"]
    with pytest.raises(lithe.errors.LimitError, match="the limit is 10000"):
        lithe.Model(Source(write(module), keep=False), Options(keep=False))(np.zeros(3, F), np.zeros(3, F))


def test_a_list_that_is_not_rebuilt_whole_stays_a_loop():
    """The row after the written one is lost, another one comes twice: no update of one row."""

    def body(d: Draft, i: Tensor, made: Tensor, h: Tensor) -> tuple[Tensor, ...]:
        after = written(d, made, i, h)
        cut = d.nodes[-1].inputs[2]
        start = next(n for n in d.nodes if n.outputs[0] is cut)
        start.inputs[1] = d.constant([1, 0, 0], np.int32)
        return next_of(d, i), after, h

    def start(d: Draft) -> list[Tensor | None]:
        return [d.constant(0, np.int32), None, None]

    module = loop([((), INT32), (LIST, FLOAT32), (STATE, FLOAT32)], body, start)
    assert names(prepared(module)) == ["WHILE"]


def test_a_counter_that_is_written_again_from_data_is_no_counter():
    def body(d: Draft, i: Tensor, j: Tensor) -> tuple[Tensor, ...]:
        after = next_of(d, i)
        again = d("ADD", i, j, shape=(), dtype=INT32)
        d.nodes[-1].outputs = [after]
        d.tensors.remove(again)
        return after, j

    module = loop([((), INT32), ((), INT32)], body, lambda d: [d.constant(0, np.int32), None])
    assert names(prepared(module)) == ["WHILE"]
    assert lithe.load(write(module))(np.array(2, np.int32)) is not None


def test_a_slice_that_breaks_a_rule_is_said_by_the_slice():
    module = layer()
    node = next(n for n in module.graphs[2].nodes if n.op.name == "SLICE")
    assert node.inputs[1] is not None
    node.inputs[1].data = np.array(0, np.int32)
    node.inputs[1].type = TensorType(INT32, ())
    with pytest.raises(lithe.errors.ModelError, match="one element for each axis"):
        prepared(module)


def test_a_loop_that_stands_still_stays_a_loop():
    module = exchange()
    step = module.graphs[2].nodes[0].inputs[1]
    assert step is not None
    step.data = np.array(0, np.int32)
    assert names(prepared(module)) == ["WHILE"]


def test_a_condition_that_is_no_truth_value_is_said_by_the_loop():
    module = exchange()
    (condition,) = module.graphs[1].nodes
    condition.inputs[0] = Tensor("two", condition.inputs[0].type, np.array([1, 2], np.int32))
    module.graphs[1].tensors.append(condition.inputs[0])
    assert names(prepared(module)) == ["WHILE"]


def test_kept_code_of_a_loop_is_not_used_under_a_lower_limit(monkeypatch, tmp_path):
    monkeypatch.setenv("LITHE_CACHE_DIR", str(tmp_path / "cache"))
    content, x = write(exchange()), np.zeros(3, F)
    lithe.load(content)(x, x)
    assert Source(content).kept is not None
    monkeypatch.setenv("LITHE_LOOP_WORK", "10000")
    with pytest.raises(lithe.errors.LimitError, match="the limit is 10000"):
        lithe.load(content)(x, x)
    monkeypatch.setenv("LITHE_LOOP_WORK", "much")
    with pytest.raises(lithe.errors.InputError, match="LITHE_LOOP_WORK"):
        lithe.load(content)(x, x)
