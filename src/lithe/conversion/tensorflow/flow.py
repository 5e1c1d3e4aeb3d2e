"""Called functions, branches and loops of TensorFlow's second kind, whose parts are functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from lithe.conversion.builder import Builder, Conversion
from lithe.conversion.control import branch, while_loop
from lithe.conversion.tensorflow.lists import filled
from lithe.conversion.tensorflow.told import Told, own
from lithe.conversion.tensorflow.values import Counted, Resource, TensorList, Value, computed, written
from lithe.ir.graph import Tensor
from lithe.passes.writer import Inexpressible
from lithe.types import BOOL, INT32


def _function(t: Told, attribute: str) -> Any:
    return t.program.function(t.operation.get_attr(attribute).name)


@own("PartitionedCall", "StatefulPartitionedCall")
def call(t: Told) -> Sequence[Value]:
    return t.program.write(t.b, _function(t, "f"), t.values)


# what a graph of its own is given, and gives


def _moving(b: Builder, value: Value) -> list[Tensor]:
    """The tensors that a graph of its own needs for a value; what is constant it knows."""
    if isinstance(value, Tensor):
        return [] if value.data is not None else [value]
    if isinstance(value, Counted):
        return [computed(b, value, value.dtype)]
    return [_held(value)] if isinstance(value, TensorList) else []


def _held(value: TensorList) -> Tensor:
    if value.tensor is None:
        raise Inexpressible("a list of tensors of which no item is known")
    return value.tensor


def _inside(inner: Builder, value: Value, given: Iterator[Tensor]) -> Value:
    """The value as the graph of its own sees it."""
    if isinstance(value, Tensor):
        return next(given) if value.data is None else inner.constant(value.data, value.type.dtype)
    if isinstance(value, Counted):
        return replace(value, tensor=next(given))
    return replace(value, tensor=next(given)) if isinstance(value, TensorList) else value


def _given_out(b: Builder, value: Value) -> Tensor:
    return _held(value) if isinstance(value, TensorList) else written(b, value)


def _taken_back(like: Value, tensor: Tensor) -> Value:
    """A result of the graph of its own: a list where the graph gave one."""
    return replace(like, tensor=tensor) if isinstance(like, TensorList) else tensor


# branches


@own("If", "StatelessIf")
def condition(t: Told) -> Sequence[Value]:
    chosen = written(t.b, t.values[0])
    t.require(chosen.type.size == 1, f"a condition {chosen.type}, which is no truth value")
    return _choose(t, [_function(t, "then_branch"), _function(t, "else_branch")], chosen, t.values[1:])


def _choose(t: Told, graphs: Sequence[Any], chosen: Tensor, values: Sequence[Value]) -> Sequence[Value]:
    """graphs[0](values) where the number is true, else graphs[1](values)."""
    if chosen.data is not None:
        return t.program.write(t.b, graphs[0 if chosen.data.reshape(-1)[0] else 1], values)
    if chosen.type.dtype != BOOL:
        chosen = t.b("NOT_EQUAL", chosen, t.b.constant(0, chosen.type.dtype), dtype=BOOL)
    moving = [tensor for value in values for tensor in _moving(t.b, value)]
    results: list[list[Value]] = []

    def part(graph: Any) -> Any:
        def write(inner: Builder, tensors: list[Tensor]) -> list[Tensor]:
            given = iter(tensors)
            made = t.program.write(inner, graph, [_inside(inner, v, given) for v in values])
            results.append([v if isinstance(v, TensorList) else written(inner, v) for v in made])
            return [_given_out(inner, v) for v in results[-1]]

        return write

    made = branch(t.b, t.b.reshape(chosen, ()), part(graphs[0]), part(graphs[1]), moving)
    for then, otherwise in zip(*results, strict=True):
        a, z = (_given_out(t.b, v).type for v in (then, otherwise))
        t.require(a == z, f"branches that give {a} and {z}")
    return [_taken_back(like, tensor) for like, tensor in zip(results[0], made, strict=True)]


@own("Case", "StatelessCase")
def choice(t: Told) -> Sequence[Value]:
    """Two branches; more are a choice in the other branch of a choice. An index out of range is the last one."""
    index = written(t.b, t.values[0])
    names = [f.name for f in t.operation.get_attr("branches")]
    graphs = [t.program.function(name) for name in names]
    return _case(t, t.b, graphs, index, t.values[1:], 0)


def _case(t: Told, b: Builder, graphs: list[Any], index: Tensor, values: Sequence[Value], first: int) -> list[Value]:
    if len(graphs) == 1:
        return t.program.write(b, graphs[0], values)
    if index.data is not None:
        i = int(index.data.reshape(-1)[0])
        return t.program.write(b, graphs[i if 0 <= i < len(graphs) else -1], values)
    moving = [index, *(tensor for value in values for tensor in _moving(b, value))]
    results: list[list[Value]] = []

    def part(last: bool) -> Any:
        def write(inner: Builder, tensors: list[Tensor]) -> list[Tensor]:
            given = iter(tensors[1:])
            own_values = [_inside(inner, v, given) for v in values]
            made = (
                t.program.write(inner, graphs[0], own_values)
                if not last
                else _case(t, inner, graphs[1:], tensors[0], own_values, first + 1)
            )
            results.append(list(made))
            return [_given_out(inner, v) for v in made]

        return write

    chosen = b("EQUAL", index, b.constant(first, index.type.dtype), dtype=BOOL)
    made = branch(b, b.reshape(chosen, ()), part(False), part(True), moving)
    return [_taken_back(like, tensor) for like, tensor in zip(results[-1], made, strict=True)]


# loops


@own("While", "StatelessWhile")
def loop(t: Told) -> Sequence[Value]:
    """values = body(values) as long as condition(values); what the body gives back as it came is known to both."""
    test, body = _function(t, "cond"), _function(t, "body")
    still = [_is_unchanged(body, i) or isinstance(v, Resource) for i, v in enumerate(t.values)]
    carried = _with_known_items(t, body, [v for v, kept in zip(t.values, still, strict=True) if not kept], still)
    around = [v for v, kept in zip(t.values, still, strict=True) if kept]
    moving = [tensor for v in around for tensor in _moving(t.b, v)]
    count = len(carried)

    def all_values(inner: Builder, tensors: list[Tensor]) -> list[Value]:
        given = iter(tensors[count:])
        known = iter([_inside(inner, v, given) for v in around])
        changing = iter(_taken_back(v, tensor) for v, tensor in zip(carried, tensors, strict=False))
        return [next(known) if kept else next(changing) for kept in still]

    def write_test(inner: Builder, tensors: list[Tensor]) -> list[Tensor]:
        (made,) = t.program.write(inner, test, all_values(inner, tensors))
        return [inner.reshape(written(inner, made), ())]

    def write_body(inner: Builder, tensors: list[Tensor]) -> list[Tensor]:
        made = t.program.write(inner, body, all_values(inner, tensors))
        changed = [_given_out(inner, v) for v, kept in zip(made, still, strict=True) if not kept]
        for before, after in zip(tensors, changed, strict=False):
            if before.type != after.type and t.program.missing.isdisjoint({after}):
                raise Inexpressible(f"a loop in which {before.type} becomes {after.type}")
        return [*changed, *tensors[count:]]

    tensors = [*(_given_out(t.b, v) for v in carried), *moving]
    made = iter(while_loop(t.b, write_test, write_body, tensors))
    changed = iter([_taken_back(v, next(made)) for v in carried])
    return [v if kept else next(changed) for v, kept in zip(t.values, still, strict=True)]


def _is_unchanged(body: Any, i: int) -> bool:
    tensor = body.outputs[i]
    while tensor.op.type in ("Identity", "StopGradient"):
        tensor = tensor.op.inputs[0]
    return tensor is body.inputs[i]


def _with_known_items(t: Told, body: Any, carried: list[Value], still: Sequence[bool]) -> list[Value]:
    """Lists of which no item is known yet are given zeros: a rehearsal of the body says of which shape."""
    if not any(isinstance(v, TensorList) and v.tensor is None for v in carried):
        return carried
    stage = Conversion(t.b.conversion.source, sizes=t.b.sizes).graph("rehearsal")
    stage.where = t.b.where
    changing = iter(_rehearsed(stage, v) for v in carried)
    values = [next(changing) if not kept else _rehearsed(stage, v) for v, kept in zip(t.values, still, strict=True)]
    made = t.program.rehearsal().write(stage, body, values)
    after = [v for v, kept in zip(made, still, strict=True) if not kept]
    return [
        filled(t.b, before, later.tensor.type.shape[1:])
        if isinstance(before, TensorList) and isinstance(later, TensorList) and later.tensor is not None
        else before
        for before, later in zip(carried, after, strict=True)
    ]


def _rehearsed(stage: Builder, value: Value) -> Value:
    """Something of the same type, for a body that is written to see what comes out."""
    if isinstance(value, Tensor):
        return stage.input(value.name, value.type.shape, value.type.dtype)
    if isinstance(value, Counted):
        shape = value.numbers.shape
        return replace(value, tensor=stage.input("size", shape, INT32))
    if isinstance(value, TensorList) and value.tensor is not None:
        return replace(value, tensor=stage.input("list", value.tensor.type.shape, value.dtype))
    return value
