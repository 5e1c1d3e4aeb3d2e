"""What torch's higher-order operators are: branches and loops, whose bodies are graphs of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lithe.conversion import control
from lithe.conversion.builder import Builder
from lithe.conversion.torch.rules import cast
from lithe.ir.graph import Tensor
from lithe.types import BOOL, TensorType

Write = Callable[[Builder, Any, Sequence[Any]], list[Tensor]]


def filled(operands: Sequence[Any], tensors: Sequence[Tensor]) -> list[Any]:
    """The operands, of which the tensors are those given."""
    given = iter(tensors)
    return [next(given) if isinstance(o, Tensor) else o for o in operands]


def tensors_of(operands: Sequence[Any]) -> list[Tensor]:
    return [o for o in operands if isinstance(o, Tensor)]


def results_of(b: Builder, made: Sequence[Any], types: Sequence[TensorType]) -> list[Tensor]:
    """What a body gives, numbers as tensors too."""
    return [cast(b, t, r.dtype) if isinstance(t, Tensor) else b.constant(t, r.dtype)
            for t, r in zip(made, types, strict=True)]  # fmt: skip


def branch(b: Builder, arguments: Sequence[Any], results: Sequence[TensorType], write: Write) -> list[Tensor]:
    """torch.cond: IF, or the one branch where the condition is known."""
    condition, yes, no, operands = arguments
    if not isinstance(condition, Tensor) or condition.data is not None:
        chosen = bool(condition.data if isinstance(condition, Tensor) else condition)
        return results_of(b, write(b, yes if chosen else no, operands), results)

    captured = tensors_of(operands)
    along = control.moving(captured)

    def part(graph: Any) -> control.Body:
        def body(inner: Builder, _: list[Tensor], captured: list[Tensor]) -> list[Tensor]:
            return results_of(inner, write(inner, graph, filled(operands, captured)), results)

        return control.known_inside(body, 0, captured, along)

    flag = b.reshape(cast(b, condition, BOOL), ())
    return control.branch(b, flag, part(yes), part(no), along)


def loop(b: Builder, arguments: Sequence[Any], results: Sequence[TensorType], write: Write) -> list[Tensor]:
    """torch.while_loop: WHILE over what the loop carries; what its body only reads is captured."""
    condition, step, state, extra = arguments
    carried = [t if isinstance(t, Tensor) else b.constant(t, r.dtype) for t, r in zip(state, results, strict=True)]

    def goes_on(inner: Builder, carried: list[Tensor], captured: list[Tensor]) -> list[Tensor]:
        (answer,) = write(inner, condition, [*carried, *filled(extra, captured)])
        return [inner.reshape(answer, ())]

    def body(inner: Builder, carried: list[Tensor], captured: list[Tensor]) -> list[Tensor]:
        return results_of(inner, write(inner, step, [*carried, *filled(extra, captured)]), results)

    return control.loop(b, carried, tensors_of(extra), goes_on, body)
