"""Loops and branches in the terms that all frameworks share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lithe.convert.builder import Builder
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
