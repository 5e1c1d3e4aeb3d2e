"""Loops and branches: WHILE and IF with the graphs that they run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lithe.convert.builder import Builder
from lithe.ir.graph import Tensor
from lithe.types import BOOL, TensorType

Part = Callable[[Builder, list[Tensor], list[Tensor]], Sequence[Tensor]]


def loop(
    b: Builder,
    carried: Sequence[Tensor],
    captured: Sequence[Tensor],
    condition: Part,
    body: Part,
    name: str = "loop",
    types: Sequence[TensorType] | None = None,
) -> list[Tensor]:
    """The carried values after the loop: carried = body(carried) while condition(carried).

    captured         what the parts read besides. WHILE has no free variables, so what is not constant is carried along.
    condition, body  write one graph each, for (builder, carried, captured); a bool, and as many values as carried.
    types            of the carried values inside the loop, where they are not those before it (sizes that change).
    """
    moving = list(dict.fromkeys(t for t in captured if t.data is None))
    types = list(types or (t.type for t in carried))

    def part(kind: str, write: Part, *, results: bool) -> int:
        inner = _inner(b, f"{name}/{kind}")
        given = [inner.input(f"{name}/value{i}", t.shape, t.dtype) for i, t in enumerate(types)]
        along = {t: inner.input(f"{name}/captured{i}", t.type.shape, t.type.dtype) for i, t in enumerate(moving)}
        found = write(
            inner, given, [along[t] if t in along else inner.constant(t.data, t.type.dtype) for t in captured]
        )
        for i, t in enumerate([*found, *along.values()] if results else found):
            inner.output(t, f"{name}/{kind}{i}")
        return inner.number

    attrs = {
        "cond_subgraph_index": part("condition", condition, results=False),
        "body_subgraph_index": part("body", body, results=True),
    }
    return call(b, "WHILE", [*carried, *moving], [*types, *(t.type for t in moving)], **attrs)[: len(carried)]


def branch(
    b: Builder, condition: Tensor, captured: Sequence[Tensor], parts: Sequence[Part], types: Sequence[TensorType],
    name: str = "branch",
) -> list[Tensor]:  # fmt: skip
    """What the first part gives where the condition holds, else what the second one gives: results of these types.

    parts  write one graph each, for (builder, [], captured).
    """
    moving = list(dict.fromkeys(t for t in captured if t.data is None))
    numbers = []
    for kind, write in zip(("then", "else"), parts, strict=True):
        inner = _inner(b, f"{name}/{kind}")
        along = {t: inner.input(f"{name}/captured{i}", t.type.shape, t.type.dtype) for i, t in enumerate(moving)}
        found = write(inner, [], _seen(inner, captured, along))
        for i, t in enumerate(found):
            inner.output(t, f"{name}/{kind}{i}")
        numbers.append(inner.number)
    flag = condition if condition.type.dtype == BOOL else b.cast(condition, BOOL)
    return call(b, "IF", [b.reshape(flag, ()), *moving], types,
                then_subgraph_index=numbers[0], else_subgraph_index=numbers[1])  # fmt: skip


def call(b: Builder, op: str, inputs: list[Tensor], types: Sequence[TensorType], **attrs: Any) -> list[Tensor]:
    """The results of an operator that runs other graphs: what they give is known from their own texts."""
    results = [Tensor(f"{b.name()}/{len(b.tensors) + i}", t) for i, t in enumerate(types)]
    b.add(b._node(op, list(inputs), results, **attrs))
    for t in results:
        b.originate(t)
    return results


def _seen(inner: Builder, captured: Sequence[Tensor], along: dict[Tensor, Tensor]) -> list[Tensor]:
    """What is read from outside, as the inner graph has it: an input, or the constant."""
    return [along[t] if t in along else inner.constant(t.data, t.type.dtype) for t in captured]


def _inner(b: Builder, title: str) -> Builder:
    inner = b.conversion.graph(title)
    inner.where, inner.scope = b.where, b.scope
    return inner
