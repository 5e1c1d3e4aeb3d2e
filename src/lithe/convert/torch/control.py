"""What torch's higher-order operators are: branches and loops, whose bodies are graphs of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lithe.convert.builder import Builder
from lithe.convert.sizes import is_fixed
from lithe.convert.torch.rules import cast
from lithe.ir.graph import Node, Tensor
from lithe.ops.op import REGISTRY
from lithe.types import BOOL, TensorType

Write = Callable[[Builder, Any, Sequence[Any]], list[Tensor]]


def body(b: Builder, title: str, operands: Sequence[Any], write: Callable[[Builder, list[Any]], list[Tensor]],
         own: Sequence[Tensor]) -> Builder:  # fmt: skip
    """A graph that calculates with these operands; those in `own` are its inputs, others it knows."""
    inner = b.conversion.graph(title)
    inner.where, inner.scope = b.where, title
    given: list[Any] = []
    for operand in operands:
        if not isinstance(operand, Tensor):
            given.append(operand)
        elif operand in own:
            name = f"{title}/input{len(inner.inputs)}"
            given.append(inner.input(name, operand.type.shape, operand.type.dtype))
        else:
            given.append(Tensor(operand.name, operand.type, operand.data))
    for i, tensor in enumerate(write(inner, given)):
        inner.output(tensor, f"{title}/output{i}")
    return inner


def computed(operands: Sequence[Any]) -> list[Tensor]:
    return [t for t in operands if isinstance(t, Tensor) and t.data is None]


def branch(b: Builder, arguments: Sequence[Any], results: Sequence[TensorType], write: Write) -> list[Tensor]:
    """torch.cond: IF, or the one branch where the condition is known."""
    condition, yes, no, operands = arguments
    if not isinstance(condition, Tensor) or condition.data is not None:
        chosen = bool(condition.data if isinstance(condition, Tensor) else condition)
        return write(b, yes if chosen else no, operands)
    own = computed(operands)
    numbers = {}
    for key, word, graph in (("then_subgraph_index", "then", yes), ("else_subgraph_index", "else", no)):
        inner = body(b, f"{b.scope}/{word}", operands, lambda i, given, graph=graph: write(i, graph, given), own)  # type: ignore[misc]
        numbers[key] = inner.number
    taken = b.reshape(cast(b, condition, BOOL), ())
    return called(b, "IF", [taken, *dict.fromkeys(own)], results, **numbers)


def loop(b: Builder, arguments: Sequence[Any], results: Sequence[TensorType], write: Write) -> list[Tensor]:
    """torch.while_loop: WHILE over what the loop carries and over what its body only reads."""
    condition, step, carried, extra = arguments
    carried = [t if isinstance(t, Tensor) else b.constant(t) for t in carried]
    carried = [Tensor(t.name, t.type, t.data) if t.data is not None else t for t in carried]  # each its own
    read = computed(extra)
    state = [*carried, *read]

    def check(inner: Builder, given: list[Any]) -> list[Tensor]:
        (answer,) = write(inner, condition, given)
        return [inner.reshape(answer, ())]

    def turn(inner: Builder, given: list[Any]) -> list[Tensor]:
        kept = [t for t, outside in zip(given[len(carried) :], extra, strict=True) if outside in read]
        return [*write(inner, step, given), *kept]

    cond = body(b, f"{b.scope}/while", [*carried, *extra], check, state)
    do = body(b, f"{b.scope}/do", [*carried, *extra], turn, state)
    numbers = {"cond_subgraph_index": cond.number, "body_subgraph_index": do.number}
    return called(b, "WHILE", state, [t.type for t in state], **numbers)[: len(carried)]


def called(b: Builder, op: str, inputs: Sequence[Tensor], results: Sequence[TensorType], **numbers: int) -> list[Tensor]:
    b.require(all(is_fixed(r.shape) for r in results), "a branch or loop over an open dimension")
    cls = REGISTRY.by_name[op]
    outputs = [Tensor(f"{b.scope}/{op.lower()}{i}", r) for i, r in enumerate(results)]
    b.add(Node(cls, cls.Attrs(**numbers), list(inputs), outputs))
    return outputs
