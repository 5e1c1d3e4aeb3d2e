"""Loops and branches in the terms that all frameworks share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lithe.conversion.builder import Builder
from lithe.ir.graph import Node, Tensor
from lithe.ops.op import REGISTRY

Body = Callable[[Builder, list[Tensor]], Sequence[Tensor]]


def _graph(b: Builder, title: str, values: Sequence[Tensor], write: Body) -> Builder:
    """A graph of its own that takes values of these types."""
    inner = b.conversion.graph(title)
    inner.where, inner.scope = b.where, b.scope
    inputs = [inner.input(f"{title}/in{i}", v.type.shape, v.type.dtype) for i, v in enumerate(values)]
    for i, made in enumerate(write(inner, inputs)):
        inner.output(made, f"{title}/out{i}")
    return inner


def _call(b: Builder, op: str, inputs: Sequence[Tensor], like: Sequence[Tensor], **attrs: int) -> list[Tensor]:
    cls = REGISTRY.by_name[op]
    outputs = [Tensor(f"{b.name()}/{op.lower()}{len(b.tensors) + i}", t.type) for i, t in enumerate(like)]
    b.add(Node(cls, cls.Attrs(**attrs), list(inputs), outputs))
    return outputs


def while_loop(b: Builder, condition: Body, body: Body, values: Sequence[Tensor]) -> list[Tensor]:
    """values = body(values) as long as condition(values), a truth value. Both see nothing but the values."""
    title = f"{b.title}/loop{len(b.conversion.graphs)}"
    test = _graph(b, f"{title}/condition", values, condition)
    step = _graph(b, f"{title}/body", values, body)
    return _call(b, "WHILE", values, values, cond_subgraph_index=test.number, body_subgraph_index=step.number)


def branch(b: Builder, condition: Tensor, yes: Body, no: Body, values: Sequence[Tensor]) -> list[Tensor]:
    """yes(values) where the condition, a truth value, holds, else no(values)."""
    title = f"{b.title}/branch{len(b.conversion.graphs)}"
    then = _graph(b, f"{title}/then", values, yes)
    otherwise = _graph(b, f"{title}/else", values, no)
    return _call(b, "IF", [condition, *values], then.outputs, then_subgraph_index=then.number,
                 else_subgraph_index=otherwise.number)  # fmt: skip


Part = Callable[[Builder, list[Tensor], list[Tensor]], Sequence[Tensor]]


def known_inside(write: Part, count: int, captured: Sequence[Tensor], moving: Sequence[Tensor]) -> Body:
    """A body for (carried, captured): what is constant it knows, what is not comes after the carried values."""

    def body(inner: Builder, values: list[Tensor]) -> Sequence[Tensor]:
        along = dict(zip(moving, values[count:], strict=True))
        seen = [along[t] if t in along else inner.constant(t.data, t.type.dtype) for t in captured]
        return write(inner, values[:count], seen)

    return body


def moving(captured: Sequence[Tensor]) -> list[Tensor]:
    """What a graph of its own must be given."""
    return list(dict.fromkeys(t for t in captured if t.data is None))


def loop(
    b: Builder, carried: Sequence[Tensor], captured: Sequence[Tensor], condition: Part, body: Part, name: str = "loop"
) -> list[Tensor]:
    """carried = body(carried, captured) as long as condition(carried, captured)."""
    along, count = moving(captured), len(carried)
    step = known_inside(body, count, captured, along)

    def whole(inner: Builder, values: list[Tensor]) -> Sequence[Tensor]:
        return [*step(inner, values), *values[count:]]

    test = known_inside(condition, count, captured, along)
    return while_loop(b, test, whole, [*carried, *along])[:count]
